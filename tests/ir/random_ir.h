// Random IR for tests: operands, single ops and whole blocks, all from a printed seed. Used by tests/ir and tests/ops.
#pragma once
#include <cstring>
#include <memory>
#include <vector>

#include "ir/builder.h"
#include "ir/interpreter.h"

namespace kiln::test {

class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  u64 next() {  // splitmix64
    u64 z = (state_ += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
  }
  unsigned below(unsigned n) { return static_cast<unsigned>(next() % n); }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <class T, std::size_t N>
  const T& pick(const T (&items)[N]) {
    return items[below(N)];
  }

 private:
  u64 state_;
};

/// A number that is often at a boundary: small, around a power of two, a mask, repeated bytes.
u64 boundary_integer(Random& random, unsigned bits);
/// The bits of a float that is often special: zeros, denormals, infinities, both kinds of NaN, halves, limits of integers.
u64 boundary_float(Random& random, unsigned bits);
ir::Datum boundary_datum(Random& random, ir::Type type, bool float_lanes);

/// One op with random but valid type, lane, numbers; arguments are %0 … (to be made by the caller, of these types).
struct OpCase {
  ir::Inst inst;
  std::vector<ir::Type> args;
};
/// Every PURE op that eval_pure() covers (not flags, not cond).
std::vector<ir::Op> value_ops();
OpCase random_case(Random& random, ir::Op op);

/// A guest state for tests: eight i64, four i32 and six v128 slots, and 4 KiB of memory at guest address 0.
struct TestState : ir::CpuState {
  u64 x[8];
  u32 w[4];
  V128 v[6];
};
constexpr std::size_t x_offset(unsigned i) { return offsetof(TestState, x) + 8 * i; }
constexpr std::size_t w_offset(unsigned i) { return offsetof(TestState, w) + 4 * i; }
constexpr std::size_t v_offset(unsigned i) { return offsetof(TestState, v) + 16 * i; }

inline constexpr std::size_t kTestMemory = 4096;
/// The state together with the memory, and what the helper "observe" saw.
struct Machine {
  std::unique_ptr<u8[]> storage;  // jump cache below the state
  TestState* state;
  std::vector<u8> memory;
  std::vector<u64> observed;  // hashes of state and memory, one a call
  Machine();
  Machine(const Machine& other);
  Machine& operator=(const Machine&) = delete;
};
void randomise(Machine& machine, Random& random);
/// Flushing as the block's FpOp.underflow takes it for granted.
void suit_mxcsr(const ir::Block& block, Machine& machine);
/// Slots, flags (by value), memory, pc, exit fields and observations. Empty if equal.
std::string difference(const Machine& a, const Machine& b);
/// The machine whose `observed` the helper "observe" appends to (none: nullptr). Whoever runs a block sets it.
void observe_into(Machine* machine);
/// Runs in the interpreter with the MXCSR of the state, and puts the sticky bits back into it.
void run_interpreter(const ir::Block& block, Machine& machine);

struct BlockShape {
  unsigned insts = 30;
  bool floating_point = true;
  bool flags = true;
  bool calls = true;
  bool traps = true;  // and alignment checks: what leaves in mid-block
  bool big_endian_atomics = true;  // no guest has them yet; the tiers say so and stop
};
/// A random valid block over TestState's slots, not yet optimised, ending in an exit.
ir::Block random_block(Random& random, const BlockShape& shape);

/// CALL-effect helpers that random blocks use.
extern const ir::Helper kObserve;   // (void) reads the state
extern const ir::Helper kScramble;  // (i64) writes slots and flags
extern const ir::Helper kMix;       // i64(i64, i64) pure
extern const ir::Helper kRefuse;    // (i64) raises a trap for some arguments

}  // namespace kiln::test
