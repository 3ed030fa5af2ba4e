// What the tier-2 tests share: a guest without instructions, code memory with two mappings, a way in and out of generated code,
// a SIGSEGV handler that resumes at fault labels, and the interpreter's run of the same region.
#pragma once
#include <gtest/gtest.h>

#include <map>

#include "ir/builder.h"
#include "ir/interpreter.h"
#include "jit/llvm/tier2.h"

namespace kiln::test {

struct TestState : ir::CpuState {
  u64 x[16];
  V128 v[8];
};
inline std::size_t x_offset(unsigned r) { return offsetof(TestState, x) + 8 * r; }
inline std::size_t v_offset(unsigned r) { return offsetof(TestState, v) + 16 * r; }
const ir::GuestDesc& test_guest();

/// A fresh state with its jump cache below it and 64 KiB of guest memory; the page after it faults.
class Machine {
 public:
  Machine();
  ~Machine();
  TestState& state() { return *state_; }
  u8* memory() { return memory_; }
  static constexpr u64 kGuestMemory = 0x10000;  // guest address of memory()
  static constexpr u64 kMemoryBytes = 0x10000;

  Result<jit::RegionCode> compile(const std::vector<jit::RegionBlock>& blocks);
  /// Runs compiled code until it leaves.
  void enter(const jit::RegionCode& code);
  /// Follows the region's edges with ir::interpret; at most `limit` blocks.
  void interpret(const std::vector<jit::RegionBlock>& blocks, unsigned limit = 100000);
  bool faulted() const { return faulted_; }
  HostAddr direct_exit(GuestAddr pc);
  jit::CodeMemory allocate(std::size_t size);
  Log log;

 private:
  u8* writable_ = nullptr;
  u8* executable_ = nullptr;
  std::size_t used_ = 0;
  u8* state_block_ = nullptr;
  u8* memory_ = nullptr;
  TestState* state_ = nullptr;
  bool faulted_ = false;
  std::map<GuestAddr, HostAddr> exits_;
  std::unique_ptr<jit::Tier2Compiler> compiler_;
};

/// Compares everything the guest can see; flags by value.
void expect_same(Machine& got, Machine& want, const std::string& what);

}  // namespace kiln::test
