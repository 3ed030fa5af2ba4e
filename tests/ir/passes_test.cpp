// Passes on random blocks: whatever they do, the interpreter must not see it.
#include "ir/passes/passes.h"

#include <gtest/gtest.h>

#include "ir/flags.h"
#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

/// What ir/flags.h promises to the tiers.
std::string lowered_complaint(const Block& block) {
  Value last_change = 0;  // of the record in the state
  for (Value v = 0; v < block.insts.size(); ++v) {
    const Inst& inst = block.insts[v];
    switch (inst.op) {
      case Op::flags_adc_:
      case Op::flags_select_:
      case Op::flags_fcmp_:
      case Op::eflags_fcmp_: return print(block, v) + " was left";
      case Op::cond_:
      case Op::flags_value_:
        if (block.insts[inst.args[0]].op != Op::get_flags_ || inst.args[0] < last_change)
          return print(block, v) + " is not on a fresh get_flags";
        break;
      case Op::set_flags_: {
        last_change = v;
        if (!makes_record(block.insts[inst.args[0]].op)) return print(block, v) + " stores something else";
        break;
      }
      case Op::call_:
        if (helper_of(inst).effects & WRITES_STATE) last_change = v;
        break;
      default: break;
    }
    bool uses_flags = false;
    for_each_arg(block, inst, [&](Value a) { uses_flags = uses_flags || block.insts[a].type == Type::Flags; });
    if (uses_flags && inst.op != Op::set_flags_ && inst.op != Op::cond_ && inst.op != Op::flags_value_)
      return print(block, v) + " uses flags";
  }
  return {};
}

void check(const char* name, void (*pass)(Block&), bool lowers, u64 first_seed, unsigned count, const BlockShape& shape) {
  for (u64 seed = first_seed; seed < first_seed + count; ++seed) {
    Random random(seed);
    const Block block = random_block(random, shape);
    ASSERT_EQ(verify(block), "") << "seed " << seed << "\n" << print(block);
    Block changed = block;
    pass(changed);
    ASSERT_EQ(verify(changed), "") << name << ", seed " << seed << "\n" << print(block) << print(changed);
    if (lowers) {
      ASSERT_EQ(lowered_complaint(changed), "") << name << ", seed " << seed << "\n" << print(block) << print(changed);
    }
    for (unsigned run = 0; run < 4; ++run) {
      Machine machine;
      randomise(machine, random);
      Machine other(machine);
      run_interpreter(block, machine);
      run_interpreter(changed, other);
      ASSERT_EQ(difference(machine, other), "") << name << ", seed " << seed << "\n" << print(block) << print(changed);
    }
  }
}

TEST(Passes, ForwardSlots) { check("forward_slots", forward_slots, false, 1000, 1500, {}); }
TEST(Passes, Fold) { check("fold", fold, false, 2000, 1500, {}); }
TEST(Passes, LowerFlags) { check("lower_flags", lower_flags, true, 3000, 1500, {}); }
TEST(Passes, DropDead) { check("drop_dead", drop_dead, false, 4000, 1500, {}); }
TEST(Passes, Optimise) { check("optimise", optimise, true, 5000, 6000, {}); }
TEST(Passes, OptimiseFlagsOnly) {
  check("optimise", optimise, true, 20000, 6000, {.insts = 20, .floating_point = false, .flags = true, .calls = true});
}
TEST(Passes, OptimiseLongBlocks) { check("optimise", optimise, true, 40000, 200, {.insts = 400}); }

TEST(Passes, ResultDependsOnTheBlockAlone) {
  std::vector<std::string> first;
  for (unsigned round = 0; round < 2; ++round)
    for (u64 seed = 1; seed <= 200; ++seed) {
      // The second round runs in another order, so that leftovers of other blocks differ.
      const u64 chosen = round == 0 ? seed : 201 - seed;
      Random random(chosen);
      Block block = random_block(random, {});
      optimise(block);
      if (round == 0) first.push_back(print(block));
      else EXPECT_EQ(print(block), first[chosen - 1]) << "seed " << chosen;
    }
}

TEST(Passes, FaultingLoadStaysThoughUnused) {
  Block block;
  Builder ir(block);
  ir.load(Type::I64, ir.get_reg(Type::I64, x_offset(0)), 0, {});
  ir.exit_jump(0);
  optimise(block);
  ASSERT_EQ(block.insts.size(), 3u);
  EXPECT_EQ(block.insts[1].op, Op::load_);
}

TEST(Passes, DeadSlotWritesGoOnlyWhereNothingCanLook) {
  const auto writes = [](bool access_between) {
    Block block;
    Builder ir(block);
    const Value x = ir.get_reg(Type::I64, x_offset(0));
    ir.set_reg(x_offset(1), x);
    if (access_between) ir.store(x, 0, x, {});
    ir.set_reg(x_offset(1), ir.i64(5));
    ir.exit_jump(0);
    optimise(block);
    unsigned count = 0;
    for (const Inst& inst : block.insts) count += inst.op == Op::set_reg_;
    return count;
  };
  EXPECT_EQ(writes(false), 1u);
  EXPECT_EQ(writes(true), 2u);
}

}  // namespace
}  // namespace kiln::test
