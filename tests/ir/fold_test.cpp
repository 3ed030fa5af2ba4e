// The folder against the interpreter: an op on constants, on slots, and on a mix must give the same.
#include <gtest/gtest.h>

#include "ir/passes/passes.h"
#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

bool float_lanes(Op op) { return op >= Op::v_fadd_ && op <= Op::v_fcmpge_; }

/// The operand as a constant (if it can be one) or from a slot that holds it.
Value operand(Builder& ir, Machine& machine, unsigned index, Type type, const Datum& d, bool as_constant) {
  if (is_int(type)) {
    if (as_constant) return ir.iconst(type, d.i);
    machine.state->x[index] = d.i;
    return ir.trunc(type, ir.get_reg(Type::I64, x_offset(index)));
  }
  if (type == Type::V128) {
    if (as_constant) return ir.vconst(d.v.d[0], d.v.d[1]);
    machine.state->v[index] = d.v;
    return ir.get_reg(Type::V128, v_offset(index));
  }
  if (as_constant) return ir.bitcast(type, ir.iconst(type == Type::F32 ? Type::I32 : Type::I64, d.i));
  machine.state->v[index] = d.v;
  return ir.v_to_f(type, ir.get_reg(Type::V128, v_offset(index)));
}

void store_result(Builder& ir, Value result) {
  const Type type = ir.type_of(result);
  if (type == Type::V128) ir.set_reg(v_offset(5), result);
  else if (is_float(type)) ir.set_reg(v_offset(5), ir.f_to_v(result));
  else ir.set_reg(x_offset(7), ir.zext(Type::I64, result));
}

TEST(Fold, EveryOpOnConstantsAndSlots) {
  const u64 seed = 20261120;
  Random random(seed);
  for (Op op : value_ops()) {
    for (unsigned i = 0; i < 400; ++i) {
      OpCase c = random_case(random, op);
      Machine machine;
      machine.state->mxcsr = 0x1f80 | random.below(4) << 13 | (random.chance(20) ? 0x8040 : 0);
      Block block;
      Builder ir(block);
      for (unsigned a = 0; a < c.args.size(); ++a)
        c.inst.args[a] =
            operand(ir, machine, a, c.args[a], boundary_datum(random, c.args[a], float_lanes(op)), random.below(2));
      block.insts.push_back(c.inst);
      store_result(ir, static_cast<Value>(block.insts.size() - 1));
      ir.exit_jump(0x10);
      ASSERT_EQ(verify(block), "") << print(block);
      Block folded = block;
      fold(folded);
      ASSERT_EQ(verify(folded), "") << print(block) << print(folded);
      Block optimised = block;
      optimise(optimised);
      ASSERT_EQ(verify(optimised), "") << print(block) << print(optimised);
      Machine plain(machine), after(machine), best(machine);
      run_interpreter(block, plain);
      run_interpreter(folded, after);
      run_interpreter(optimised, best);
      ASSERT_EQ(difference(plain, after), "") << "seed " << seed << "\n" << print(block) << print(folded);
      ASSERT_EQ(difference(plain, best), "") << "seed " << seed << "\n" << print(block) << print(optimised);
    }
  }
}

/// What a block becomes, for rules whose shape matters.
std::string optimised(Block& block) {
  optimise(block);
  std::string text;
  for (Value v = 0; v < block.insts.size(); ++v) text += std::string(op_info(block.insts[v].op).name) + " ";
  return text;
}

TEST(Fold, DisplacementsGatherInTheAccess) {
  Block block;
  Builder ir(block);
  Value a = ir.add(ir.get_reg(Type::I64, x_offset(0)), ir.i64(16));
  a = ir.sub(a, ir.i64(24));
  ir.set_reg(x_offset(1), ir.load(Type::I64, a, 40, {}));
  ir.exit_jump(0);
  EXPECT_EQ(optimised(block), "get_reg load set_reg exit_jump ");
  EXPECT_EQ(block.insts[1].imm, 32u);
}

TEST(Fold, CompareAndBranchFuse) {
  Block block;
  Builder ir(block);
  const Value a = ir.get_reg(Type::I64, x_offset(0));
  ir.set_flags(ir.flags_sub(a, ir.i64(7)));
  ir.set_flags(ir.flags_logic(a));
  ir.exit_branch(ir.cond(ir.get_flags(), Cond::Ge), 0x10, 0x20);
  // Ge is not(a < 0): the branch turns round instead.
  EXPECT_EQ(optimised(block), "get_reg flags_logic set_flags iconst icmp_slt exit_branch ");
  EXPECT_EQ(block.insts.back().imm, 0x20u);
}

TEST(Fold, ConditionalCompareStaysADifference) {
  for (u32 nzcv : {0u, 2u, 4u, 8u}) {
    Block block;
    Builder ir(block);
    const Value a = ir.get_reg(Type::I64, x_offset(0)), b = ir.get_reg(Type::I64, x_offset(1));
    ir.set_flags(ir.flags_sub(a, ir.i64(1)));
    const Value c = ir.cond(ir.get_flags(), Cond::Ne);
    ir.set_flags(ir.flags_select(c, ir.flags_sub(b, ir.i64(5)), ir.flags_image(ir.i32(nzcv << 28))));
    ir.exit_branch(ir.cond(ir.get_flags(), Cond::Eq), 0x10, 0x20);
    const std::string text = optimised(block);
    EXPECT_EQ(text.find("nzcv"), std::string::npos) << text;
    EXPECT_EQ(text.find("image"), std::string::npos) << text;
  }
}

TEST(Fold, ZeroExtensionOfANarrowLoadVanishes) {
  Block block;
  Builder ir(block);
  MemOp byte;
  byte.width = Width::B1;
  const Value loaded = ir.load(Type::I64, ir.get_reg(Type::I64, x_offset(0)), 0, byte);
  ir.set_reg(x_offset(1), ir.and_(ir.zext(Type::I64, ir.trunc(Type::I32, loaded)), ir.i64(0xff)));
  ir.exit_jump(0);
  EXPECT_EQ(optimised(block), "get_reg load set_reg exit_jump ");
}

}  // namespace
}  // namespace kiln::test
