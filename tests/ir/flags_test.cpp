// Laws of flags and conditions, against arithmetic done wider.
#include <gtest/gtest.h>

#include "ir/semantics.h"
#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

template <class T>
void check_laws(Random& random) {
  using S = Signed<T>;
  const T a = static_cast<T>(boundary_integer(random, sizeof(T) * 8)),
          b = static_cast<T>(boundary_integer(random, sizeof(T) * 8));
  const FlagsKind sub = sizeof(T) == 8 ? FlagsKind::Sub64 : FlagsKind::Sub32,
                  add = sizeof(T) == 8 ? FlagsKind::Add64 : FlagsKind::Add32;
  const u32 difference = flags_value(sub, a, b), sum = flags_value(add, a, b);
  const S sa = static_cast<S>(a), sb = static_cast<S>(b);
  EXPECT_EQ(cond_holds(Cond::Eq, difference), a == b);
  EXPECT_EQ(cond_holds(Cond::Cs, difference), a >= b);
  EXPECT_EQ(cond_holds(Cond::Hi, difference), a > b);
  EXPECT_EQ(cond_holds(Cond::Ge, difference), sa >= sb);
  EXPECT_EQ(cond_holds(Cond::Lt, difference), sa < sb);
  EXPECT_EQ(cond_holds(Cond::Gt, difference), sa > sb);
  EXPECT_EQ(cond_holds(Cond::Le, difference), sa <= sb);
  const s128 wide_difference = s128{sa} - sb, wide_sum = s128{sa} + sb;
  const auto overflows = [](s128 wide) { return wide != s128{static_cast<S>(wide)}; };
  EXPECT_EQ(cond_holds(Cond::Vs, difference), overflows(wide_difference));
  EXPECT_EQ(cond_holds(Cond::Vs, sum), overflows(wide_sum));
  EXPECT_EQ(cond_holds(Cond::Cs, sum), ((u128{a} + b) >> (sizeof(T) * 8)) != 0);
  EXPECT_EQ(cond_holds(Cond::Mi, sum), static_cast<S>(a + b) < 0);
  for (bool carry : {false, true}) {
    const u32 adc = op_nzcv_adc(a, b, carry);
    const s128 wide = s128{sa} + sb + carry;
    EXPECT_EQ((adc & kV) != 0, overflows(wide));
    EXPECT_EQ((adc & kC) != 0, ((u128{a} + b + carry) >> (sizeof(T) * 8)) != 0);
    EXPECT_EQ((adc & kZ) != 0, static_cast<T>(a + b + carry) == 0);
  }
  EXPECT_EQ(op_nzcv_adc(a, b, false), sum);
  EXPECT_EQ(op_nzcv_adc(a, static_cast<T>(~b), true), difference);
}

TEST(Flags, LawsOfSumsAndDifferences) {
  Random random(3);
  for (unsigned i = 0; i < 20000; ++i) {
    check_laws<u32>(random);
    check_laws<u64>(random);
  }
}

TEST(Flags, BorrowKindsHaveX86Carry) {
  EXPECT_TRUE(flags_value(FlagsKind::SubBorrow8, 0x101, 0x02) & kC);  // 1 - 2
  EXPECT_FALSE(flags_value(FlagsKind::SubBorrow8, 0x102, 0x02) & kC);
  EXPECT_TRUE(flags_value(FlagsKind::SubBorrow8, 0x102, 0x02) & kZ);
  EXPECT_TRUE(flags_value(FlagsKind::SubBorrow16, 0x8000, 1) & kV);
}

TEST(Flags, OddConditionsAreTheInverseOfEvenOnes) {
  for (u32 nzcv = 0; nzcv < 16; ++nzcv)
    for (unsigned c = 0; c < 14; c += 2)
      EXPECT_NE(cond_holds(static_cast<Cond>(c), nzcv << 28), cond_holds(static_cast<Cond>(c + 1), nzcv << 28));
}

}  // namespace
}  // namespace kiln::test
