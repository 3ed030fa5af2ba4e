// Every op of the table on boundary and random operands, and random blocks, through all executors: bits, flags and exception
// bits must be the interpreter's. Failures print seed and block; the block's text can be fed to ir::parse().
#include <gtest/gtest.h>

#include <cstdlib>
#include <set>

#include "ir/passes/passes.h"
#include "tests/ops/executor.h"

namespace kiln::test {
namespace {
using namespace ir;

constexpr unsigned kOperandArea = 2048;  // results grow from 0, operands from here, 16 bytes each

MemOp plain(Width width) {
  MemOp m;
  m.width = width;
  return m;
}
Width width_of(Type type) {
  switch (type_bits(type)) {
    case 32: return Width::B4;
    case 128: return Width::B16;
    default: return Width::B8;
  }
}
/// KILN_TEST_SEED shifts every seed, KILN_TEST_SCALE multiplies the number of runs: for a longer search by hand.
u64 environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

bool float_lanes(Op op) { return op >= Op::v_fadd_ && op <= Op::v_fcmpge_; }

/// `count` cases of one op: operands come from memory (or are constants), results go to memory.
Block block_of_cases(Random& random, Machine& machine, Op op, unsigned count) {
  Block block;
  block.pc = 0x1000;
  Builder ir(block);
  ir.insn_start(0x1000, 4);
  unsigned operand = 0;
  for (unsigned n = 0; n < count; ++n) {
    const OpCase c = random_case(random, op);
    Inst inst = c.inst;
    for (std::size_t i = 0; i < c.args.size(); ++i) {
      const Type type = c.args[i];
      const Datum d = boundary_datum(random, type, float_lanes(op));
      const bool constant = random.chance(25);
      const unsigned at = kOperandArea + 16 * operand++;
      std::memcpy(&machine.memory[at], &d, 16);
      if (is_int(type)) {
        const Type loaded = type == Type::I32 ? type : Type::I64;
        inst.args[i] =
            constant ? ir.iconst(type, d.i) : ir.trunc(type, ir.load(loaded, ir.i64(at), 0, plain(width_of(loaded))));
      } else if (type == Type::V128 && constant) {
        inst.args[i] = ir.vconst(d.v.d[0], d.v.d[1]);
      } else {
        inst.args[i] = ir.load(type, ir.i64(at), 0, plain(width_of(type)));
      }
    }
    block.insts.push_back(inst);
    Value result = static_cast<Value>(block.insts.size() - 1);
    if (is_int(inst.type) && inst.type != Type::I32) result = ir.zext(Type::I64, result);
    ir.store(ir.i64(16 * n), 0, result, plain(width_of(ir.type_of(result))));
  }
  ir.exit_jump(0x2000);
  return block;
}

/// x86 guests see DE, so there it must be right.
bool x86_only(const Block& block) {
  for (const Inst& inst : block.insts) {
    const bool compares = (inst.op >= Op::fcmp_eq_ && inst.op <= Op::fcmp_unord_) || inst.op == Op::eimage_fcmp_ ||
                          inst.op == Op::eflags_fcmp_ || inst.op == Op::v_fcmp_;
    const FpOp f = FpOp::unpack(inst.aux);
    if (sets_sticky_bits(inst.op) && !compares && f.nan != NanRule::X86) return false;
    // x86 has neither.
    if (inst.op == Op::fminnm_ || inst.op == Op::fmaxnm_ || inst.op == Op::v_fminnm_ || inst.op == Op::v_fmaxnm_) return false;
    if ((inst.op == Op::fround_ || inst.op == Op::v_fround_) && f.round == Round::Away) return false;
  }
  return true;
}

void expect_same(Executor& executor, const Block& source, const Machine& before, u64 seed) {
  Machine want(before), got(before);
  run_interpreter(source, want);
  Block block = source;
  optimise(block);
  const std::string failure = executor.run(block, got);
  ASSERT_EQ(failure, "") << executor.name() << ", seed " << seed << "\n" << print(block);
  ASSERT_EQ(difference(want, got), "") << executor.name() << ", seed " << seed << " (interpreter != " << executor.name()
                                       << ")\n"
                                       << print(block);
  if (x86_only(source))
    ASSERT_EQ(want.state->mxcsr, got.state->mxcsr) << executor.name() << ", seed " << seed << "\n" << print(block);
}

void every_op(Executor& executor, unsigned blocks, unsigned cases) {
  std::set<std::string> generic;
  for (Op op : value_ops()) {
    for (unsigned i = 0; i < blocks; ++i) {
      const u64 seed = environment("KILN_TEST_SEED", 0) + static_cast<u64>(op) * 1000 + i;
      Random random(seed);
      Machine machine;
      machine.state->mxcsr = 0x1f80 | random.below(4) << 13 | (random.chance(20) ? 0x8040 : 0);
      const Block block = block_of_cases(random, machine, op, cases);
      suit_mxcsr(block, machine);
      ASSERT_EQ(verify(block), "") << print(block);
      expect_same(executor, block, machine, seed);
      if (executor.fell_back()) generic.insert(op_info(op).name);
      if (testing::Test::HasFatalFailure()) break;  // one of each op is enough
    }
  }
  if (generic.empty()) return;
  std::string names;
  for (const std::string& name : generic) names += " " + name;
  std::printf("%s has no code of its own for:%s\n", executor.name(), names.c_str());
}

void random_blocks(Executor& executor, u64 first_seed, unsigned count, const BlockShape& shape) {
  first_seed += environment("KILN_TEST_SEED", 0);
  for (u64 seed = first_seed; seed < first_seed + count * environment("KILN_TEST_SCALE", 1); ++seed) {
    Random random(seed);
    const Block block = random_block(random, shape);
    Machine machine;
    randomise(machine, random);
    suit_mxcsr(block, machine);
    expect_same(executor, block, machine, seed);
    if (testing::Test::HasFatalFailure()) return;
  }
}

constexpr BlockShape kShape{.big_endian_atomics = false};

TEST(Ops, EveryOpInterpreted) { every_op(*make_interpreter(), 20, 4); }
TEST(Ops, EveryOpInTier1) { every_op(*make_tier1(), 60, 3); }
TEST(Ops, RandomBlocksInTier1) { random_blocks(*make_tier1(), 100000, 20000, kShape); }
TEST(Ops, RandomIntegerBlocksInTier1) {
  random_blocks(*make_tier1(), 200000, 20000,
                {.insts = 60, .floating_point = false, .flags = true, .calls = true, .big_endian_atomics = false});
}
TEST(Ops, EveryOpInTier2) {
  const auto executor = make_tier2();
  if (!executor) GTEST_SKIP() << "built without tier 2";
  every_op(*executor, 4, 12);
}
TEST(Ops, RandomBlocksInTier2) {
  const auto executor = make_tier2();
  if (!executor) GTEST_SKIP() << "built without tier 2";
  random_blocks(*executor, 300000, 200, kShape);
}

/// A select of vectors becomes a diamond of blocks, between the record of an access and the access.
TEST(Ops, SelectBesideAccessInTier2) {
  const auto executor = make_tier2();
  if (!executor) GTEST_SKIP() << "built without tier 2";
  Block block;
  block.pc = 0x1000;
  Builder ir(block);
  ir.insn_start(0x1000, 4);
  ir.call(kScramble, {ir.i64(5)});
  const Value image = ir.flags_value(ir.get_flags()), bytes = ir.get_reg(Type::V128, v_offset(5));
  const Value table = ir.vec(Op::v_tbl_, Width::B2, {bytes, bytes});
  const Value product = ir.vec(Op::v_mul_, Width::B4, {table, ir.vconst(0x2a0dd0805aac8be7, 0xcf484a22d0a4a007)});
  ir.insn_start(0x1004, 4);
  const Value w = ir.get_reg(Type::I32, w_offset(2));
  ir.set_flags(ir.flags_sub(w, ir.i32(0x351a64e5)));
  ir.load(Type::I64, ir.i64(0x8eb), 0xe5, plain(Width::B8));
  const Value moved = ir.xor_(image, ir.shl(image, ir.i32(3)));
  const Value less = ir.icmp(Op::icmp_slt_, moved, ir.i32(0));
  ir.set_reg(x_offset(5), ir.zext(Type::I64, less));
  ir.insn_start(0x1008, 4);
  ir.set_reg(x_offset(0), ir.get_reg(Type::I64, x_offset(6)));
  const Value chosen = ir.select(less, table, product);
  ir.set_reg(w_offset(2), ir.sdiv(w, w));
  ir.call(kObserve);
  const Value a = ir.v_to_f(Type::F64, ir.get_reg(Type::V128, v_offset(4))), b = ir.v_to_f(Type::F64, chosen);
  ir.emit(Op::fcmp_unord_, Type::I1, {a, b});
  ir.exit_jump(0x3000);
  Random random(1);
  Machine machine;
  randomise(machine, random);
  expect_same(*executor, block, machine, 0);
}

}  // namespace
}  // namespace kiln::test
