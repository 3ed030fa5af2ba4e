// Floating point against values from the Arm ARM's pseudocode (NaN rules, saturation, flags).
#include <gtest/gtest.h>

#include "ir/semantics_fp.h"

namespace kiln::test {
namespace {
using namespace ir;

constexpr NanRule kArm = NanRule::ArmPropagate;
constexpr u64 kDefault = 0x7ff8000000000000, kSnanA = 0x7ff0000000000001, kSnanB = 0xfff0000000000002,
              kQnanA = 0x7ff8000000000003, kQnanB = 0xfff8000000000004, kInf = 0x7ff0000000000000,
              kMinusZero = 0x8000000000000000;
constexpr u64 quieted(u64 nan) { return nan | 0x0008000000000000; }
double d(u64 bits) { return fp_from<double>(bits); }

/// Runs fn with a fresh MXCSR; gives the sticky bits without DE.
template <class Fn>
u32 flags_of(Fn&& fn, u32 control = 0x1f80) {
  const u32 saved = host::mxcsr();
  host::set_mxcsr(control);
  fn();
  const u32 flags = host::mxcsr() & 0x3d;
  host::set_mxcsr(saved);
  return flags;
}

TEST(Fp, NanOperandOrder) {
  const auto add = [](u64 a, u64 b) { return fp_bits(op_fadd(kArm, d(a), d(b))); };
  EXPECT_EQ(add(kQnanA, kQnanB), kQnanA);
  EXPECT_EQ(add(kQnanA, kSnanB), quieted(kSnanB));
  EXPECT_EQ(add(kSnanA, kSnanB), quieted(kSnanA));
  EXPECT_EQ(add(fp_bits(1.0), kSnanB), quieted(kSnanB));
  EXPECT_EQ(add(kInf, kInf | kMinusZero), kDefault);
  EXPECT_EQ(fp_bits(op_fmul(kArm, d(kInf), 0.0)), kDefault);
  EXPECT_EQ(fp_bits(op_fsqrt(kArm, -1.0)), kDefault);
  EXPECT_EQ(fp_bits(op_fdiv(NanRule::ArmDefault, d(kQnanB), 1.0)), kDefault);
  EXPECT_EQ(flags_of([&] { add(kQnanA, kQnanB); }), 0u);
  EXPECT_EQ(flags_of([&] { add(kQnanA, kSnanB); }), host::kInvalid);
}

TEST(Fp, FusedMultiplyAddNanOrder) {
  const auto fma = [](u64 a, u64 b, u64 c) { return fp_bits(op_fma(FpOp{.nan = kArm}, d(a), d(b), d(c))); };
  EXPECT_EQ(fma(kQnanA, kQnanB, 0x7ff8000000000009), 0x7ff8000000000009u);
  EXPECT_EQ(fma(kQnanA, kSnanB, 0x7ff8000000000009), quieted(kSnanB));
  EXPECT_EQ(fma(kSnanA, kSnanB, 0x7ff0000000000009), quieted(0x7ff0000000000009));
  EXPECT_EQ(fma(kInf, 0, kQnanA), kDefault);
  EXPECT_EQ(flags_of([&] { fma(kInf, 0, kQnanA); }), host::kInvalid);
  EXPECT_EQ(fma(kInf, 0, kSnanA), quieted(kSnanA));
  EXPECT_EQ(fma(kInf, fp_bits(1.0), kInf | kMinusZero), kDefault);
  // A denormal counts as zero when operands are flushed.
  u64 flushed = 0;
  flags_of([&] { flushed = fma(kInf, 1, kQnanA); }, 0x1f80 | host::kDaz);
  EXPECT_EQ(flushed, kDefault);
  EXPECT_EQ(fma(kInf, 1, kQnanA), kQnanA);
}

TEST(Fp, MinimumAndMaximum) {
  EXPECT_EQ(fp_bits(op_fmin(kArm, 0.0, -0.0)), kMinusZero);
  EXPECT_EQ(fp_bits(op_fmin(kArm, -0.0, 0.0)), kMinusZero);
  EXPECT_EQ(fp_bits(op_fmax(kArm, -0.0, 0.0)), 0u);
  EXPECT_EQ(op_fmin(kArm, -2.0, -1.0), -2.0);
  EXPECT_EQ(op_fmax(kArm, -2.0, -1.0), -1.0);
  EXPECT_EQ(fp_bits(op_fmin(kArm, 1.0, d(kQnanA))), kQnanA);
  EXPECT_EQ(op_fminnm(kArm, 1.0, d(kQnanA)), 1.0);
  EXPECT_EQ(op_fmaxnm(kArm, d(kQnanA), -1.0), -1.0);
  EXPECT_EQ(fp_bits(op_fminnm(kArm, 1.0, d(kSnanA))), quieted(kSnanA));
  EXPECT_EQ(fp_bits(op_fminnm(kArm, d(kQnanA), d(kQnanB))), kQnanA);
  EXPECT_EQ(flags_of([&] { op_fminnm(kArm, 1.0, d(kSnanA)); }), host::kInvalid);
  EXPECT_EQ(flags_of([&] { op_fmin(kArm, 1.0, d(kQnanA)); }), 0u);
}

TEST(Fp, RoundToIntegral) {
  const auto round = [](Round mode, double a, bool exact = false) { return op_fround(FpOp{kArm, mode, exact, false}, a); };
  EXPECT_EQ(round(Round::Nearest, 2.5), 2.0);
  EXPECT_EQ(round(Round::Away, 2.5), 3.0);
  EXPECT_EQ(round(Round::Away, -0.5), -1.0);
  EXPECT_EQ(round(Round::Away, 0.49999999999999994), 0.0);
  EXPECT_EQ(round(Round::Up, 0.1), 1.0);
  EXPECT_EQ(round(Round::Down, -0.1), -1.0);
  EXPECT_EQ(fp_bits(round(Round::Zero, -0.9)), kMinusZero);
  EXPECT_EQ(fp_bits(round(Round::Away, -0.25)), kMinusZero);
  EXPECT_EQ(round(Round::Away, 4503599627370497.5), 4503599627370498.0);
  EXPECT_EQ(flags_of([&] { round(Round::Away, 2.5); }), 0u);
  EXPECT_EQ(flags_of([&] { round(Round::Away, 2.5, true); }), host::kInexact);
  EXPECT_EQ(flags_of([&] { round(Round::Up, 2.0, true); }), 0u);
  double dynamic = 0;
  flags_of([&] { dynamic = round(Round::Dynamic, 2.1); }, 0x1f80 | 2u << 13);  // up
  EXPECT_EQ(dynamic, 3.0);
}

TEST(Fp, ToInteger) {
  const FpOp zero{kArm, Round::Zero, false, false}, unsigned_zero{kArm, Round::Zero, false, true};
  EXPECT_EQ(op_f_to_int<u32>(zero, 3.9), 3u);
  EXPECT_EQ(op_f_to_int<u32>(zero, 3e9), 0x7fffffffu);
  EXPECT_EQ(op_f_to_int<u32>(unsigned_zero, 3e9), 3000000000u);
  EXPECT_EQ(op_f_to_int<u32>(zero, -2147483648.9), 0x80000000u);
  EXPECT_EQ(op_f_to_int<u64>(zero, -9223372036854775808.0), u64{1} << 63);
  EXPECT_EQ(op_f_to_int<u64>(unsigned_zero, 18446744073709549568.0), 0xfffffffffffff800u);
  EXPECT_EQ(op_f_to_int<u64>(unsigned_zero, 18446744073709551616.0), ~u64{0});
  EXPECT_EQ(op_f_to_int<u64>(unsigned_zero, -1.0), 0u);
  EXPECT_EQ(op_f_to_int<u64>(unsigned_zero, -0.5), 0u);
  EXPECT_EQ(op_f_to_int<u64>(zero, d(kQnanA)), 0u);
  EXPECT_EQ(op_f_to_int<u32>(FpOp{kArm, Round::Away, false, false}, 2.5f), 3u);
  EXPECT_EQ(flags_of([&] { op_f_to_int<u32>(zero, 3e9); }), host::kInvalid);
  EXPECT_EQ(flags_of([&] { op_f_to_int<u32>(zero, 3.5); }), host::kInexact);
  EXPECT_EQ(flags_of([&] { op_f_to_int<u32>(zero, -2147483648.9); }), host::kInexact);
  EXPECT_EQ(flags_of([&] { op_f_to_int<u64>(unsigned_zero, -0.5); }), host::kInexact);
  EXPECT_EQ(flags_of([&] { op_f_to_int<u64>(unsigned_zero, -1.0); }), host::kInvalid);
  EXPECT_EQ(flags_of([&] { op_f_to_int<u64>(zero, d(kQnanA)); }), host::kInvalid);
}

TEST(Fp, FromInteger) {
  EXPECT_EQ((op_int_to_f<double, u64>(true, ~u64{0})), 18446744073709551616.0);
  EXPECT_EQ((op_int_to_f<float, u64>(true, 0x8000008000000001)), 9223373136366403584.0f);  // just above a tie
  EXPECT_EQ((op_int_to_f<float, u64>(true, 0x8000008000000000)), 9223372036854775808.0f);  // the tie, to even
  EXPECT_EQ((op_int_to_f<double, u32>(true, ~u32{0})), 4294967295.0);
  EXPECT_EQ((op_int_to_f<double, u32>(false, ~u32{0})), -1.0);
  double up = 0;
  flags_of([&] { up = op_int_to_f<double, u64>(true, ~u64{0} - 5000); }, 0x1f80 | 1u << 13);  // down
  EXPECT_EQ(up, 18446744073709545472.0);
}

TEST(Fp, Compare) {
  EXPECT_EQ(op_nzcv_fcmp(1.0, 2.0, false), kN);
  EXPECT_EQ(op_nzcv_fcmp(2.0, 1.0, false), kC);
  EXPECT_EQ(op_nzcv_fcmp(0.0, -0.0, false), kZ | kC);
  EXPECT_EQ(op_nzcv_fcmp(d(kQnanA), 1.0, false), kC | kV);
  EXPECT_FALSE(op_fcmp_le(d(kQnanA), 1.0, false));
  EXPECT_EQ(flags_of([&] { op_fcmp_lt(d(kQnanA), 1.0, false); }), 0u);
  EXPECT_EQ(flags_of([&] { op_fcmp_lt(d(kQnanA), 1.0, true); }), host::kInvalid);
  EXPECT_EQ(flags_of([&] { op_fcmp_eq(1.0, d(kSnanA), false); }), host::kInvalid);
}

TEST(Fp, Conversion) {
  EXPECT_EQ(fp_bits(op_fcvt(kArm, d(kSnanA | u64{0x123} << 40))), 0x7fc00000u | (0x123u << 11));
  EXPECT_EQ(fp_bits(op_fcvt(kArm, fp_from<float>(0xff800001u))), 0xfff8000020000000u);
  EXPECT_EQ(fp_bits(op_fcvt(NanRule::ArmDefault, fp_from<float>(0xff800001u))), kDefault);
}

}  // namespace
}  // namespace kiln::test
