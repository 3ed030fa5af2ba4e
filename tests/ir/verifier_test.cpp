#include <gtest/gtest.h>

#include "ir/text.h"
#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

std::string complaint(const std::string& lines) {
  Result<Block> block = parse("block pc=0x0\n" + lines);
  return block ? verify(*block) : "parse: " + block.error();
}
void expect_complaint(const std::string& lines, const std::string& about) {
  const std::string text = complaint(lines);
  EXPECT_NE(text.find(about), std::string::npos) << lines << "gave: " << (text.empty() ? "nothing" : text);
}

TEST(Verifier, TakesWhatIsWellFormed) {
  EXPECT_EQ(complaint("%0: i64 = iconst imm=0x5\n%1: i64 = add %0, %0\n%2 = exit_indirect %1\n"), "");
}

TEST(Verifier, ComplainsAboutStructure) {
  EXPECT_EQ(verify(Block{}), "empty block");
  expect_complaint("%0: i64 = iconst\n", "does not end in an exit");
  expect_complaint("%0 = exit_jump\n%1 = exit_jump\n", "exit before the end");
  expect_complaint("%0: i64 = neg %0\n%1 = exit_jump\n", "not defined before");
  expect_complaint("%0: i64 = neg %7\n%1 = exit_jump\n", "not defined before");
  expect_complaint("%0 = insn_start\n%1: i64 = neg %0\n%2 = exit_jump\n", "has no value");
}

TEST(Verifier, ComplainsAboutTypes) {
  const std::string two = "%0: i64 = iconst\n%1: i32 = iconst\n";
  expect_complaint(two + "%2: i64 = add %0, %1\n%3 = exit_jump\n", "argument 1 has type i32");
  expect_complaint(two + "%2: i64 = icmp_eq %0, %0\n%3 = exit_jump\n", "result type i64");
  expect_complaint(two + "%2: i1 = icmp_eq %0, %1\n%3 = exit_jump\n", "different types");
  expect_complaint(two + "%2: i64 = add %0\n%3 = exit_jump\n", "too few");
  expect_complaint(two + "%2: i64 = neg %0, %0\n%3 = exit_jump\n", "too many");
  expect_complaint(two + "%2: i32 = zext %0\n%3 = exit_jump\n", "wrong way");
  expect_complaint(two + "%2: i64 = select %0, %0, %0\n%3 = exit_jump\n", "argument 0 has type i64");
  expect_complaint(two + "%2: flags = flags_sub %0, %1\n%3 = exit_jump\n", "different types");
  expect_complaint(two + "%2: i1 = cond %0\n%3 = exit_jump\n", "argument 0 has type i64");
  expect_complaint(two + "%2 = exit_branch %0\n", "argument 0 has type i64");
  expect_complaint("%0: i16 = get_reg imm=0x0\n%1 = exit_jump\n", "not for type i16");
  expect_complaint("%0: i8 = iconst\n%1: i8 = add %0, %0\n%2 = exit_jump\n", "not for type i8");
}

TEST(Verifier, ComplainsAboutNumbers) {
  const std::string one = "%0: i64 = iconst\n";
  expect_complaint(one + "%1: i64 = ubfx %0 imm=60 imm2=5\n%2 = exit_jump\n", "field out of range");
  expect_complaint(one + "%1: i64 = ubfx %0 imm=60\n%2 = exit_jump\n", "field out of range");
  expect_complaint(one + "%1: i64 = extr %0, %0 imm=64\n%2 = exit_jump\n", "out of range");
  expect_complaint(one + "%1: i32 = load %0 aux=3\n%2 = exit_jump\n", "does not fit");
  expect_complaint(one + "%1: v128 = v_dup.4 %0\n%2 = exit_jump\n", "no such lane");
  expect_complaint("%0: v128 = vconst\n%1: i32 = v_extract.3 %0\n%2 = exit_jump\n", "gives an i64");
  expect_complaint("%0: v128 = vconst\n%1: v128 = v_dup_lane.2 %0 imm=4\n%2 = exit_jump\n", "lane out of range");
  expect_complaint("%0: v128 = vconst\n%1: v128 = v_fadd.1 %0, %0\n%2 = exit_jump\n", "not for lanes of this width");
  expect_complaint("%0: flags = get_flags\n%1: i1 = cond %0 aux=40\n%2 = exit_jump\n", "no such condition");
}

TEST(Verifier, RandomCasesAreValid) {
  Random random(7);
  for (Op op : value_ops())
    for (unsigned i = 0; i < 50; ++i) {
      OpCase c = random_case(random, op);
      Block block;
      Builder ir(block);
      for (std::size_t a = 0; a < c.args.size(); ++a) {
        const Value word = ir.i64(1), vector = ir.vconst(1, 2);
        const Type t = c.args[a];
        c.inst.args[a] = t == Type::V128 ? vector : is_float(t) ? ir.v_to_f(t, vector) : ir.trunc(t, word);
      }
      block.insts.push_back(c.inst);
      ir.exit_jump(0);
      ASSERT_EQ(verify(block), "") << print(block);
    }
}

}  // namespace
}  // namespace kiln::test
