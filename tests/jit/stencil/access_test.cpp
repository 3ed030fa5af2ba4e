// Accesses that random blocks do not have: alignment checks, 16-byte compare-and-swap, large displacements.
#include <gtest/gtest.h>

#include "ir/passes/passes.h"
#include "tests/ops/executor.h"

namespace kiln::test {
namespace {
using namespace ir;

void check(const Block& source, const Machine& machine) {
  Block block = source;
  optimise(block);
  Machine want(machine), got(machine);
  run_interpreter(source, want);
  ASSERT_EQ(make_tier1()->run(block, got), "");
  EXPECT_EQ(difference(want, got), "") << print(block);
}

TEST(Access, Alignment) {
  for (const Op op : {Op::load_, Op::store_, Op::atomic_rmw_, Op::atomic_cas_}) {
    for (unsigned width = 0; width < 4; ++width) {
      for (u64 address = 64; address < 73; ++address) {
        Block block;
        block.pc = 0x1000;
        Builder ir(block);
        ir.insn_start(0x1000, 4);
        ir.set_reg(x_offset(2), ir.i64(77));
        ir.set_reg(x_offset(3), ir.add(ir.get_reg(Type::I64, x_offset(4)), ir.i64(5)));
        ir.insn_start(0x1004, 4);
        const MemOp m{.width = static_cast<Width>(width), .align_check = true, .order = Order::SeqCst};
        const Value at = ir.get_reg(Type::I64, x_offset(0)), v = ir.get_reg(Type::I64, x_offset(1));
        if (op == Op::load_) ir.set_reg(x_offset(5), ir.load(Type::I64, at, 8, m));
        else if (op == Op::store_) ir.store(at, -8, v, m);
        else if (op == Op::atomic_rmw_) ir.set_reg(x_offset(5), ir.atomic_rmw(at, v, m));
        else ir.set_reg(x_offset(5), ir.atomic_cas(at, v, ir.get_reg(Type::I64, x_offset(6)), m));
        ir.exit_jump(0x1008);
        Machine machine;
        Random random(address);
        randomise(machine, random);
        machine.state->x[0] = address;
        check(block, machine);
      }
    }
  }
}

TEST(Access, CompareAndSwap16) {
  for (const bool equal : {false, true}) {
    for (const bool big_endian : {false, true}) {
      Block block;
      block.pc = 0x1000;
      Builder ir(block);
      ir.insn_start(0x1000, 4);
      const MemOp m{.width = Width::B16, .big_endian = big_endian, .align_check = true, .order = Order::SeqCst};
      const Value at = ir.get_reg(Type::I64, x_offset(0));
      const Value expected = ir.load(Type::V128, at, 16, MemOp{.width = Width::B16, .big_endian = big_endian});
      ir.set_reg(v_offset(2), ir.atomic_cas(at, expected, ir.get_reg(Type::V128, v_offset(1)), m));
      ir.set_reg(v_offset(3), expected);
      ir.exit_jump(0x1008);
      Machine machine;
      Random random(7);
      randomise(machine, random);
      for (u64 address = 0; address < 16; ++address) {
        machine.state->x[0] = address;
        if (equal) std::memcpy(&machine.memory[address], &machine.memory[address + 16], 16);
        // cmpxchg16b wants a host address that is aligned too
        if ((machine.state->memory_base & 15) == 0) check(block, machine);
      }
    }
  }
}

TEST(Access, LargeDisplacement) {
  Block block;
  block.pc = 0x1000;
  Builder ir(block);
  ir.insn_start(0x1000, 4);
  const Value at = ir.get_reg(Type::I64, x_offset(0));
  const s64 far = s64{1} << 40;
  ir.set_reg(x_offset(1), ir.load(Type::I64, at, far, MemOp{}));
  ir.store(at, far + 64, ir.i64(5), MemOp{});
  ir.exit_jump(0x1008);
  Machine machine;
  Random random(3);
  randomise(machine, random);
  machine.state->x[0] = 0 - static_cast<u64>(far) + 128;
  check(block, machine);
}

}  // namespace
}  // namespace kiln::test
