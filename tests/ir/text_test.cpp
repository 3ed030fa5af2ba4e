#include "ir/text.h"

#include <gtest/gtest.h>

#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

const Helper* const kHelpers[] = {&kObserve, &kScramble, &kMix, &kRefuse};

TEST(Text, RandomBlocksSurviveTheRoundTrip) {
  for (u64 seed = 1; seed <= 300; ++seed) {
    Random random(seed);
    const Block block = random_block(random, {});
    ASSERT_EQ(verify(block), "") << "seed " << seed << "\n" << print(block);
    const std::string text = print(block);
    Result<Block> again = parse(text, kHelpers);
    ASSERT_TRUE(again) << again.error() << "\n" << text;
    ASSERT_EQ(print(*again), text) << "seed " << seed;
    ASSERT_EQ(again->insts.size(), block.insts.size());
    for (Value v = 0; v < block.insts.size(); ++v) {
      const Inst &a = block.insts[v], &b = again->insts[v];
      ASSERT_TRUE(a.op == b.op && a.type == b.type && a.lane == b.lane && a.aux == b.aux && a.args == b.args &&
                  a.imm == b.imm && a.imm2 == b.imm2)
          << "seed " << seed << " " << print(block, v);
    }
  }
}

TEST(Text, CallsWithManyArguments) {
  static const Helper many{
      "many", nullptr, Type::Void, {Type::I64, Type::V128, Type::I64, Type::V128, Type::I64, Type::V128, Type::I64}, PURE};
  Block block;
  Builder ir(block);
  const Value i = ir.i64(1), v = ir.vconst(2, 3);
  ir.call(many, {i, v, i, v, i, v, i});
  ir.exit_jump(0x10, ExitHint::Call, 0x20);
  ASSERT_EQ(verify(block), "");
  const Helper* const helpers[] = {&many};
  Result<Block> again = parse(print(block), helpers);
  ASSERT_TRUE(again) << again.error();
  EXPECT_EQ(print(*again), print(block));
  EXPECT_EQ(verify(*again), "");
}

TEST(Text, ErrorsNameTheLine) {
  const auto error = [](const char* text) {
    Result<Block> block = parse(text, kHelpers);
    return block ? std::string("no error") : block.error();
  };
  EXPECT_EQ(error(""), "empty text: expected 'block pc=…'");
  EXPECT_EQ(error("block pc=0x0\n  %0: i64 = frobnicate\n"), "line 2: unknown op 'frobnicate'");
  EXPECT_EQ(error("block pc=0x0\n  %1: i64 = iconst imm=0x1\n"), "line 2: expected %0");
  EXPECT_EQ(error("block pc=0x0\n  %0: i65 = iconst imm=0x1\n"), "line 2: unknown type 'i65'");
  EXPECT_EQ(error("block pc=0x0\n  %0 = call @nobody\n"), "line 2: unknown helper 'nobody'");
  EXPECT_EQ(error("block pc=0x0\n  %0 = exit_jump imx=0x1\n"), "line 2: unknown field 'imx'");
}

TEST(Text, DocumentationHasEveryOp) {
  const std::string text = op_documentation();
  for (unsigned i = 0; i < static_cast<unsigned>(Op::kCount); ++i)
    EXPECT_NE(text.find(std::string("| ") + op_info(static_cast<Op>(i)).name + " |"), std::string::npos);
}

}  // namespace
}  // namespace kiln::test
