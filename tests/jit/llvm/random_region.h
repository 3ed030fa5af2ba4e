// Random regions over every op of the table, read from its signatures, so that a new op is tested as soon as it has its line.
#pragma once
#include <random>

#include "jit/llvm/tier2.h"
#include "tests/jit/llvm/harness.h"

namespace kiln::test {

struct RandomOptions {
  unsigned blocks = 4;
  unsigned ops_per_block = 40;
  bool memory = true;
  unsigned access_one_in = 6;    // an op is preceded by an access
  unsigned fault_one_in = 40;    // an access goes far away
  ir::Op only = ir::Op::kCount;  // if set: this op and what feeds it
};

class RandomRegion {
 public:
  explicit RandomRegion(u64 seed) : rng_(seed) {}
  std::vector<jit::RegionBlock> make(const RandomOptions& options);
  void fill(TestState& state);
  u64 interesting_int();
  u64 interesting_f64();
  u32 interesting_f32();

 private:
  u64 below(u64 n) { return rng_() % n; }
  ir::Cond any_cond();
  ir::Value pick(ir::Builder& b, ir::Type type);
  bool emit(ir::Builder& b, ir::Op op);
  void emit_memory(ir::Builder& b, unsigned fault_one_in);
  void fill_block(ir::Builder& b, const RandomOptions& options);

  std::mt19937_64 rng_;
  bool x86_ = false;  // x86's NaN rule or ARM's: a guest has one of them
};

}  // namespace kiln::test
