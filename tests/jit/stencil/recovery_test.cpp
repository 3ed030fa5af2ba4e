// Recovery points: a trap is planted at every guest access of random blocks; the state rebuilt from the point must be the
// interpreter's state in front of that access.
#include <asm/prctl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <csignal>

#include "ir/passes/passes.h"
#include "jit/engine/host.h"
#include "jit/stencil/tier1.h"
#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

struct Trap {
  jit::host::FaultRegisters registers;
  CpuState* state = nullptr;
  bool hit = false;
} trap;

void on_trap(int, siginfo_t*, void* context) {
  jit::host::save_registers(context, trap.registers);
  trap.hit = true;
  jit::host::resume_at(context, jit::host::leave_address(), trap.state);
}

void recover(const jit::RecoveryPoint& point, CpuState* state) {
  char* base = reinterpret_cast<char*>(state);
  std::vector<V128> values;
  for (const jit::SlotLocation& slot : point.dirty) {
    V128& value = values.emplace_back();
    switch (slot.kind) {
      case jit::SlotLocation::Kind::IntRegister: value.d[0] = trap.registers.integer[slot.reg]; break;
      case jit::SlotLocation::Kind::VectorRegister: value = trap.registers.vector[slot.reg]; break;
      case jit::SlotLocation::Kind::Constant: value = V128{.d = {slot.constant, slot.constant_high}}; break;
      case jit::SlotLocation::Kind::Spill: std::memcpy(&value, base + slot.constant, 16); break;
    }
    std::memset(value.b + slot.value_bytes, 0, sizeof value.b - slot.value_bytes);
  }
  for (std::size_t i = 0; i < values.size(); ++i)
    std::memcpy(base + point.dirty[i].slot_offset, &values[i], type_bits(point.dirty[i].type) / 8);
  state->pc = point.pc;
}

/// Accesses that fault in generated code itself, not in a helper.
bool has_point(const Inst& inst) {
  if (inst.op == Op::load_ || inst.op == Op::store_) return true;
  if (inst.op != Op::atomic_rmw_ && inst.op != Op::atomic_cas_) return false;
  const MemOp m = MemOp::unpack(inst.aux);
  return inst.imm == 0 && (!m.big_endian || m.width == Width::B1);
}

TEST(Recovery, EveryAccessOfRandomBlocks) {
  struct sigaction action{}, old{};
  action.sa_sigaction = on_trap;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGTRAP, &action, &old);
  auto* code_memory =
      static_cast<u8*>(mmap(nullptr, 1 << 20, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  ASSERT_NE(code_memory, MAP_FAILED);
  GuestDesc guest{};
  guest.state_size = sizeof(TestState);
  unsigned points = 0;
  for (u64 seed = 1; seed <= 600; ++seed) {
    Random random(seed);
    Block block = random_block(random, {.insts = 40, .traps = false});
    optimise(block);
    Machine machine;
    randomise(machine, random);
    jit::Tier1Options options;
    options.code_address = reinterpret_cast<HostAddr>(code_memory);
    options.runtime = {jit::host::leave_address(), jit::host::lookup_miss_address()};
    options.poll = false;
    const jit::Tier1Code code = jit::stitch(block, guest, options, true);
    std::vector<std::size_t> accesses;
    for (std::size_t i = 0; i < block.insts.size(); ++i)
      if (has_point(block.insts[i])) accesses.push_back(i);
    ASSERT_EQ(accesses.size(), code.recovery.size()) << "seed " << seed << "\n" << print(block);
    for (std::size_t k = 0; k < accesses.size(); ++k, ++points) {
      const jit::RecoveryPoint& point = code.recovery[k];
      ASSERT_LT(point.begin, point.end);
      Block prefix = block;
      prefix.insts.resize(accesses[k]);
      Builder(prefix).exit_jump(point.pc);
      Machine want(machine), got(machine);
      run_interpreter(prefix, want);

      std::memcpy(code_memory, code.bytes.data(), code.bytes.size());
      code_memory[point.begin] = 0xcc;
      trap = {};
      trap.state = got.state;
      syscall(SYS_arch_prctl, ARCH_SET_GS, got.state->memory_base);
      observe_into(&got);
      jit::host::enter_code(got.state, options.code_address);
      observe_into(nullptr);
      ASSERT_TRUE(trap.hit) << "seed " << seed << ", access " << k;
      ASSERT_EQ(trap.registers.pc, options.code_address + point.begin + 1);
      recover(point, got.state);
      got.state->exit_kind = want.state->exit_kind;
      got.state->mxcsr = want.state->mxcsr;  // ops may be computed late
      ASSERT_EQ(difference(want, got), "") << "seed " << seed << ", access " << k << " (%" << accesses[k] << ")\n"
                                           << print(block);
    }
  }
  EXPECT_GT(points, 1000u);
  munmap(code_memory, 1 << 20);
  sigaction(SIGTRAP, &old, nullptr);
}

}  // namespace
}  // namespace kiln::test
