// What the floating-point ops mean: the host's SSE instruction, then the guest's NaN rule. See semantics.h.
// MXCSR is the environment: rounding, FTZ, DAZ in; sticky exception bits out. Every host operation is a volatile asm, so the
// compiler neither folds, drops nor reorders one around a read of MXCSR.
//
// MXCSR finds tininess after rounding and calls whatever it flushes inexact; what A64 says instead is in FpOp.underflow and
// fflush.
#pragma once
#include "ir/semantics.h"
#include "ir/semantics_vector.h"

#if !defined(__x86_64__)
#error "semantics_fp.h: host floating point is written for x86-64 so far"
#endif

namespace kiln::ir {

// --- the host's operations -------------------------------------------------------------------------------------------
namespace host {

inline constexpr u32 kInvalid = 1, kDenormal = 2, kDivideByZero = 4, kOverflow = 8, kUnderflow = 16, kInexact = 32;
inline constexpr u32 kDaz = 1u << 6, kFtz = 1u << 15;

inline u32 mxcsr() {
  u32 value;
  asm volatile("stmxcsr %0" : "=m"(value));
  return value;
}
inline void set_mxcsr(u32 value) { asm volatile("ldmxcsr %0" : : "m"(value)); }
inline void raise(u32 flags) { set_mxcsr(mxcsr() | flags); }
inline bool flushes_inputs() { return (mxcsr() & kDaz) != 0; }

// {vex3}: else the assembler swaps the operands of additions and multiplications for a shorter prefix, and with them the NaN
// that wins.
#define KILN_SSE(name, mnemonic)                                                    \
  inline float name(float a, float b) {                                             \
    float r;                                                                        \
    asm volatile("%{vex3%} v" mnemonic "ss %2, %1, %0" : "=x"(r) : "x"(a), "x"(b)); \
    return r;                                                                       \
  }                                                                                 \
  inline double name(double a, double b) {                                          \
    double r;                                                                       \
    asm volatile("%{vex3%} v" mnemonic "sd %2, %1, %0" : "=x"(r) : "x"(a), "x"(b)); \
    return r;                                                                       \
  }
KILN_SSE(add, "add")
KILN_SSE(sub, "sub")
KILN_SSE(mul, "mul")
KILN_SSE(div, "div")
KILN_SSE(min, "min")
KILN_SSE(max, "max")
#undef KILN_SSE

inline float sqrt(float a) {
  float r;
  asm volatile("vsqrtss %1, %1, %0" : "=x"(r) : "x"(a));
  return r;
}
inline double sqrt(double a) {
  double r;
  asm volatile("vsqrtsd %1, %1, %0" : "=x"(r) : "x"(a));
  return r;
}
/// The first NaN of a, b, c wins: the order of the digits 1, 3, 2.
inline float fma(float a, float b, float c) {
  asm volatile("vfmadd132ss %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
  return a;
}
inline double fma(double a, double b, double c) {
  asm volatile("vfmadd132sd %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
  return a;
}
/// VFMADD, VFMSUB, VFNMADD or VFNMSUB by FpOp::negate.
template <class F>
inline F fma_x86(unsigned negate, F a, F b, F c) {
  constexpr bool kSingle = sizeof(F) == 4;
  switch (negate) {
    case 1:
      if constexpr (kSingle) asm volatile("vfmsub132ss %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
      else asm volatile("vfmsub132sd %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
      return a;
    case 2:
      if constexpr (kSingle) asm volatile("vfnmadd132ss %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
      else asm volatile("vfnmadd132sd %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
      return a;
    case 3:
      if constexpr (kSingle) asm volatile("vfnmsub132ss %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
      else asm volatile("vfnmsub132sd %1, %2, %0" : "+x"(a) : "x"(b), "x"(c));
      return a;
    default: return fma(a, b, c);
  }
}
/// Imm: 0 nearest, 1 down, 2 up, 3 zero, 4 by MXCSR; + 8: Inexact is not raised.
template <int Imm>
inline float round(float a) {
  float r;
  asm volatile("vroundss %2, %1, %1, %0" : "=x"(r) : "x"(a), "i"(Imm));
  return r;
}
template <int Imm>
inline double round(double a) {
  double r;
  asm volatile("vroundsd %2, %1, %1, %0" : "=x"(r) : "x"(a), "i"(Imm));
  return r;
}
inline double widen(float a) {
  double r;
  asm volatile("vcvtss2sd %1, %1, %0" : "=x"(r) : "x"(a));
  return r;
}
inline float narrow(double a) {
  float r;
  asm volatile("vcvtsd2ss %1, %1, %0" : "=x"(r) : "x"(a));
  return r;
}
template <class F>
inline F from_s64(s64 a) {
  F r = 0;
  if constexpr (sizeof(F) == 4) asm volatile("vcvtsi2ssq %1, %0, %0" : "+x"(r) : "r"(a));
  else asm volatile("vcvtsi2sdq %1, %0, %0" : "+x"(r) : "r"(a));
  return r;
}
/// Towards zero; `a` is integral and in range.
inline s64 to_s64(float a) {
  s64 r;
  asm volatile("vcvttss2si %1, %0" : "=r"(r) : "x"(a));
  return r;
}
inline s64 to_s64(double a) {
  s64 r;
  asm volatile("vcvttsd2si %1, %0" : "=r"(r) : "x"(a));
  return r;
}
/// CVT(T)SS2SI and their kin as they are: MIN for all that does not fit. T: u32 or u64.
template <class T, bool kTruncate, class F>
inline T to_int(F a) {
  T r;
  if constexpr (sizeof(F) == 4 && kTruncate) asm volatile("vcvttss2si %1, %0" : "=r"(r) : "x"(a));
  else if constexpr (sizeof(F) == 4) asm volatile("vcvtss2si %1, %0" : "=r"(r) : "x"(a));
  else if constexpr (kTruncate) asm volatile("vcvttsd2si %1, %0" : "=r"(r) : "x"(a));
  else asm volatile("vcvtsd2si %1, %0" : "=r"(r) : "x"(a));
  return r;
}
struct Order {
  bool unordered, equal, less;
};
/// Signalling: quiet NaNs raise Invalid too.
template <class F>
inline Order compare(F a, F b, bool signalling) {
  bool parity, zero, carry;
  if constexpr (sizeof(F) == 4) {
    if (signalling) asm volatile("vcomiss %4, %3" : "=@ccp"(parity), "=@ccz"(zero), "=@ccc"(carry) : "x"(a), "x"(b));
    else asm volatile("vucomiss %4, %3" : "=@ccp"(parity), "=@ccz"(zero), "=@ccc"(carry) : "x"(a), "x"(b));
  } else {
    if (signalling) asm volatile("vcomisd %4, %3" : "=@ccp"(parity), "=@ccz"(zero), "=@ccc"(carry) : "x"(a), "x"(b));
    else asm volatile("vucomisd %4, %3" : "=@ccp"(parity), "=@ccz"(zero), "=@ccc"(carry) : "x"(a), "x"(b));
  }
  return {parity, zero && !parity, carry && !parity};
}

}  // namespace host

// --- bit patterns ----------------------------------------------------------------------------------------------------
template <class F>
using FpBits = std::conditional_t<sizeof(F) == 4, u32, u64>;
template <class F>
inline constexpr unsigned kMantissaBits = sizeof(F) == 4 ? 23 : 52;
template <class F>
inline constexpr FpBits<F> kSignBit = FpBits<F>{1} << (sizeof(F) * 8 - 1);
template <class F>
inline constexpr FpBits<F> kQuietBit = FpBits<F>{1} << (kMantissaBits<F> - 1);
template <class F>
inline constexpr FpBits<F> kExponent = (kSignBit<F> - 1) & ~((FpBits<F>{1} << kMantissaBits<F>)-1);

/// The compiler must not see through this: it would turn tests of the bits into floating-point compares, which look at DAZ.
template <class F>
constexpr FpBits<F> fp_bits(F a) {
  FpBits<F> bits = __builtin_bit_cast(FpBits<F>, a);
  if (!__builtin_is_constant_evaluated()) asm("" : "+r"(bits));
  return bits;
}
template <class F>
constexpr F fp_from(FpBits<F> b) {
  return __builtin_bit_cast(F, b);
}
template <class F>
constexpr bool fp_is_nan(F a) {
  return (fp_bits(a) & ~kSignBit<F>) > kExponent<F>;
}
template <class F>
constexpr bool fp_is_snan(F a) {
  return fp_is_nan(a) && (fp_bits(a) & kQuietBit<F>) == 0;
}
template <class F>
constexpr F fp_quiet(F a) {
  return fp_from<F>(fp_bits(a) | kQuietBit<F>);
}
template <class F>
constexpr F fp_default_nan(NanRule rule) {
  return fp_from<F>(kExponent<F> | kQuietBit<F> | (rule == NanRule::X86 ? kSignBit<F> : 0));
}
template <class F>
constexpr bool fp_is_inf(F a) {
  return (fp_bits(a) & ~kSignBit<F>) == kExponent<F>;
}
template <class F>
constexpr bool fp_is_denormal(F a) {
  return (fp_bits(a) & kExponent<F>) == 0 && (fp_bits(a) & ~kSignBit<F>) != 0;
}
/// A denormal operand as the op sees it: zero under DAZ.
template <class F>
inline F fp_flush(F a) {
  return fp_is_denormal(a) && host::flushes_inputs() ? fp_from<F>(fp_bits(a) & kSignBit<F>) : a;
}

// --- NaN rules: the result of an op whose host result is a NaN ---------------------------------------------------------
template <class F>
inline F fp_nan_result(NanRule rule, F a) {
  if (rule == NanRule::ArmDefault || !fp_is_nan(a)) return fp_default_nan<F>(rule);
  return fp_quiet(a);
}
template <class F>
inline F fp_nan_result(NanRule rule, F a, F b) {
  if (rule == NanRule::ArmDefault) return fp_default_nan<F>(rule);
  if (rule == NanRule::ArmPropagate) {
    if (fp_is_snan(a)) return fp_quiet(a);
    if (fp_is_snan(b)) return fp_quiet(b);
  }
  if (fp_is_nan(a)) return fp_quiet(a);
  if (fp_is_nan(b)) return fp_quiet(b);
  return fp_default_nan<F>(rule);
}
/// a * b + c. A64 looks at the addend first (FPProcessNaNs3), and inf * 0 + quiet NaN is invalid and gives the default NaN.
template <class F>
inline F fp_nan_result_fma(NanRule rule, F a, F b, F c) {
  if (fp_is_nan(c) && !fp_is_snan(c)) {
    const F fa = fp_flush(a), fb = fp_flush(b);
    const bool zero_a = (fp_bits(fa) & ~kSignBit<F>) == 0, zero_b = (fp_bits(fb) & ~kSignBit<F>) == 0;
    if ((fp_is_inf(a) && zero_b) || (zero_a && fp_is_inf(b))) {
      host::raise(host::kInvalid);
      return fp_default_nan<F>(rule);
    }
  }
  if (rule == NanRule::ArmDefault) return fp_default_nan<F>(rule);
  for (F x : {c, a, b})
    if (fp_is_snan(x)) return fp_quiet(x);
  for (F x : {c, a, b})
    if (fp_is_nan(x)) return x;
  return fp_default_nan<F>(rule);
}

// --- FpOp.underflow ---------------------------------------------------------------------------------------------------
/// The result of `op`, a call of one of the functions below, as FpOp.underflow has it.
template <class Fn>
inline auto fp_underflow(Underflow rule, Fn&& op) {
  if (rule == Underflow::Host) return op();
  using F = decltype(op());
  constexpr FpBits<F> kLeast = FpBits<F>{1} << kMantissaBits<F>;
  const auto magnitude = [](F a) { return fp_bits(a) & ~kSignBit<F>; };
  const u32 before = host::mxcsr();
  constexpr u32 kSticky = 0x3f, kTowardsZero = 3u << 13;
  const auto again = [&](u32 control, u32& raised) {
    host::set_mxcsr((before & ~kSticky) | control);
    const F r = op();
    raised = host::mxcsr() & kSticky;
    host::set_mxcsr(before);
    return r;
  };
  /// Rounded up to the least normal number?
  const auto rounded_up = [&](F r, u32 raised) {
    u32 ignored;
    return magnitude(r) == kLeast && (raised & host::kInexact) && magnitude(again(kTowardsZero, ignored)) < kLeast;
  };
  u32 raised;
  if (rule == Underflow::Exact) {
    F r = op();
    if (magnitude(r) != kLeast) return r;
    r = again(0, raised);
    if (rounded_up(r, raised)) raised |= host::kUnderflow;
    host::set_mxcsr(before | raised);
    return r;
  }
  F r = again(0, raised);
  const bool tiny = magnitude(r) < kLeast ? magnitude(r) != 0 || (raised & host::kInexact) : rounded_up(r, raised);
  if (tiny) {
    r = fp_from<F>(fp_bits(r) & kSignBit<F>);
    raised = (raised & ~host::kInexact) | host::kUnderflow;
  }
  host::set_mxcsr(before | raised);
  return r;
}

// --- the ops ---------------------------------------------------------------------------------------------------------
template <class F>
inline F op_fflush(F a) {
  if (!fp_is_denormal(a)) return a;
  host::raise(host::kDenormal);
  return fp_from<F>(fp_bits(a) & kSignBit<F>);
}
template <class F>
inline F op_fadd(NanRule rule, F a, F b) {
  const F r = host::add(a, b);
  return fp_is_nan(r) && rule != NanRule::X86 ? fp_nan_result(rule, a, b) : r;
}
template <class F>
inline F op_fsub(NanRule rule, F a, F b) {
  const F r = host::sub(a, b);
  return fp_is_nan(r) && rule != NanRule::X86 ? fp_nan_result(rule, a, b) : r;
}
template <class F>
inline F op_fmul(NanRule rule, F a, F b) {
  const F r = host::mul(a, b);
  return fp_is_nan(r) && rule != NanRule::X86 ? fp_nan_result(rule, a, b) : r;
}
template <class F>
inline F op_fdiv(NanRule rule, F a, F b) {
  const F r = host::div(a, b);
  return fp_is_nan(r) && rule != NanRule::X86 ? fp_nan_result(rule, a, b) : r;
}
template <class F>
inline F op_fsqrt(NanRule rule, F a) {
  const F r = host::sqrt(a);
  return fp_is_nan(r) && rule != NanRule::X86 ? fp_nan_result(rule, a) : r;
}
template <class F>
inline F op_fma(FpOp f, F a, F b, F c) {
  if (f.nan == NanRule::X86) return host::fma_x86(f.negate, a, b, c);
  const F r = host::fma(a, b, c);
  return fp_is_nan(r) ? fp_nan_result_fma(f.nan, a, b, c) : r;
}
template <class F>
constexpr F op_fneg(F a) {
  return fp_from<F>(fp_bits(a) ^ kSignBit<F>);
}
template <class F>
constexpr F op_fabs(F a) {
  return fp_from<F>(fp_bits(a) & ~kSignBit<F>);
}

/// An integer ordered as the (non-NaN) number is, -0 below +0: min and max need no rounding and raise nothing else.
template <class F>
constexpr auto fp_order_key(F a) {
  const auto s = static_cast<Signed<FpBits<F>>>(fp_bits(a));
  return s < 0 ? static_cast<Signed<FpBits<F>>>(static_cast<FpBits<F>>(s) ^ (kSignBit<F> - 1)) : s;
}
template <class F>
inline F fp_min_max(NanRule rule, F a, F b, bool want_max) {
  if (fp_is_nan(a) || fp_is_nan(b)) {
    if (fp_is_snan(a) || fp_is_snan(b)) host::raise(host::kInvalid);
    return fp_nan_result(rule, a, b);
  }
  a = fp_flush(a);
  b = fp_flush(b);
  return (fp_order_key(a) < fp_order_key(b)) == want_max ? b : a;
}
template <class F>
inline F op_fmin(NanRule rule, F a, F b) {
  return rule == NanRule::X86 ? host::min(a, b) : fp_min_max(rule, a, b, false);
}
template <class F>
inline F op_fmax(NanRule rule, F a, F b) {
  return rule == NanRule::X86 ? host::max(a, b) : fp_min_max(rule, a, b, true);
}
/// A lone quiet NaN stands for the infinity that cannot win (Arm ARM, FPMinNum).
template <class F>
inline F fp_min_max_number(NanRule rule, F a, F b, bool want_max) {
  const bool quiet_a = fp_is_nan(a) && !fp_is_snan(a), quiet_b = fp_is_nan(b) && !fp_is_snan(b);
  const F loser = fp_from<F>(kExponent<F> | (want_max ? kSignBit<F> : 0));
  if (quiet_a && !quiet_b) a = loser;
  else if (quiet_b && !quiet_a) b = loser;
  return fp_min_max(rule, a, b, want_max);
}
template <class F>
inline F op_fminnm(NanRule rule, F a, F b) {
  return fp_min_max_number(rule, a, b, false);
}
template <class F>
inline F op_fmaxnm(NanRule rule, F a, F b) {
  return fp_min_max_number(rule, a, b, true);
}

/// Rounds a number (not NaN) to integral, raising nothing.
template <class F>
inline F fp_round_integral(Round mode, F a) {
  switch (mode) {
    case Round::Nearest: return host::round<8>(a);
    case Round::Down: return host::round<9>(a);
    case Round::Up: return host::round<10>(a);
    case Round::Zero: return host::round<11>(a);
    case Round::Away: {
      if (fp_is_inf(a)) return a;  // inf - inf would be invalid
      const F whole = host::round<11>(a);
      const F rest = host::sub(a, whole);  // exact
      if (op_fabs(rest) < F(0.5)) return whole;
      return host::add(whole, fp_from<F>(fp_bits(F(1)) | (fp_bits(a) & kSignBit<F>)));
    }
    default: return host::round<12>(a);
  }
}
/// ROUNDSS.
template <class F>
inline F fp_round_x86(FpOp f, F a) {
  switch (f.round) {
    case Round::Nearest: return f.exact ? host::round<0>(a) : host::round<8>(a);
    case Round::Down: return f.exact ? host::round<1>(a) : host::round<9>(a);
    case Round::Up: return f.exact ? host::round<2>(a) : host::round<10>(a);
    case Round::Zero: return f.exact ? host::round<3>(a) : host::round<11>(a);
    default: return f.exact ? host::round<4>(a) : host::round<12>(a);
  }
}
template <class F>
inline F op_fround(FpOp f, F a) {
  if (f.nan == NanRule::X86 && f.round != Round::Away) return fp_round_x86(f, a);
  if (fp_is_nan(a)) {
    if (fp_is_snan(a)) host::raise(host::kInvalid);
    return fp_nan_result(f.nan, a);
  }
  a = fp_flush(a);
  const F r = fp_round_integral(f.round, a);
  if (f.exact && r != a) host::raise(host::kInexact);
  return r;
}
inline double op_fcvt(NanRule rule, float a) {
  const double r = host::widen(a);
  return fp_is_nan(r) && rule == NanRule::ArmDefault ? fp_default_nan<double>(rule) : r;
}
inline float op_fcvt(NanRule rule, double a) {
  const float r = host::narrow(a);
  return fp_is_nan(r) && rule == NanRule::ArmDefault ? fp_default_nan<float>(rule) : r;
}
/// T: u32 or u64.
template <class T, class F>
inline T op_f_to_int(FpOp f, F a) {
  if (f.nan == NanRule::X86) return f.round == Round::Zero ? host::to_int<T, true>(a) : host::to_int<T, false>(a);
  if (fp_is_nan(a)) {
    host::raise(host::kInvalid);
    return 0;
  }
  a = fp_flush(a);
  const F r = fp_round_integral(f.round, a);
  constexpr F kTwoToNMinus1 = static_cast<F>(u64{1} << (kBitsOf<T> - 1));
  const F too_big = f.is_unsigned ? kTwoToNMinus1 * 2 : kTwoToNMinus1;  // exact powers of two
  const F least = f.is_unsigned ? F(0) : -kTwoToNMinus1;
  if (r >= too_big || r < least) {
    host::raise(host::kInvalid);
    constexpr T kMin = T{1} << (kBitsOf<T> - 1);
    if (r < least) return f.is_unsigned ? T{0} : kMin;
    return f.is_unsigned ? ~T{0} : static_cast<T>(kMin - 1);
  }
  if (r != a) host::raise(host::kInexact);
  constexpr F kTwoTo63 = static_cast<F>(u64{1} << 63);
  if (r >= kTwoTo63) return static_cast<T>(static_cast<u64>(host::to_s64(host::sub(r, kTwoTo63))) | u64{1} << 63);
  return static_cast<T>(host::to_s64(r));
}
/// a * 2^fraction to an integer, fraction <= the integer's bits. What is out of range whatever the rounding is not multiplied:
/// the product might overflow, and say so.
template <class T, class F>
inline T op_f_to_int(FpOp f, F a, u64 fraction) {
  constexpr int kBias = static_cast<int>(kExponent<F> >> kMantissaBits<F>) / 2;
  if (fraction == 0 || fp_is_nan(a) || f.nan == NanRule::X86) return op_f_to_int<T>(f, a);
  const FpBits<F> sign = fp_bits(a) & kSignBit<F>;
  const auto power = [](int exponent) { return static_cast<FpBits<F>>(kBias + exponent) << kMantissaBits<F>; };
  const int scale = static_cast<int>(fraction);
  if ((fp_bits(a) & ~kSignBit<F>) >= power(static_cast<int>(kBitsOf<T>) - scale))
    return op_f_to_int<T>(f, fp_from<F>(kExponent<F> | sign));
  return op_f_to_int<T>(f, host::mul(fp_flush(a), fp_from<F>(power(scale))));
}
template <class F, class T>
inline F op_int_to_f(bool is_unsigned, T a) {
  if (!is_unsigned) return host::from_s64<F>(static_cast<Signed<T>>(a));
  const u64 wide = a;
  if (static_cast<s64>(wide) >= 0) return host::from_s64<F>(static_cast<s64>(wide));
  // Halved with the lost bit kept sticky, it rounds as the whole would; doubling is exact.
  const F half = host::from_s64<F>(static_cast<s64>(wide >> 1 | (wide & 1)));
  return host::add(half, half);
}
template <class F>
inline bool op_fcmp_eq(F a, F b, bool signalling) {
  return host::compare(a, b, signalling).equal;
}
template <class F>
inline bool op_fcmp_lt(F a, F b, bool signalling) {
  return host::compare(a, b, signalling).less;
}
template <class F>
inline bool op_fcmp_le(F a, F b, bool signalling) {
  const host::Order order = host::compare(a, b, signalling);
  return order.less || order.equal;
}
template <class F>
inline bool op_fcmp_unord(F a, F b, bool signalling) {
  return host::compare(a, b, signalling).unordered;
}
template <class F>
inline u32 op_nzcv_fcmp(F a, F b, bool signalling) {
  const host::Order order = host::compare(a, b, signalling);
  if (order.unordered) return kC | kV;
  if (order.equal) return kZ | kC;
  return order.less ? kN : kC;
}

/// UCOMISS/UCOMISD, COMISS/COMISD.
template <class F>
inline u32 op_eimage_fcmp(F a, F b, bool signalling) {
  const host::Order order = host::compare(a, b, signalling);
  if (order.unordered) return kZ | kC | kP;
  return order.equal ? kZ : order.less ? kC : 0;
}

// --- lane-wise -------------------------------------------------------------------------------------------------------
template <class F>
using FpLanes = F __attribute__((vector_size(16)));
template <class F, class Fn>
inline Vec fp_map(Fn&& fn, Vec a) {
  FpLanes<F> x = (FpLanes<F>)a, r{};
  for (unsigned i = 0; i < 16 / sizeof(F); ++i) r[i] = fn(x[i]);
  return (Vec)r;
}
template <class F, class Fn>
inline Vec fp_map(Fn&& fn, Vec a, Vec b) {
  FpLanes<F> x = (FpLanes<F>)a, y = (FpLanes<F>)b, r{};
  for (unsigned i = 0; i < 16 / sizeof(F); ++i) r[i] = fn(x[i], y[i]);
  return (Vec)r;
}
template <class F, class Fn>
inline Vec fp_map(Fn&& fn, Vec a, Vec b, Vec c) {
  FpLanes<F> x = (FpLanes<F>)a, y = (FpLanes<F>)b, z = (FpLanes<F>)c, r{};
  for (unsigned i = 0; i < 16 / sizeof(F); ++i) r[i] = fn(x[i], y[i], z[i]);
  return (Vec)r;
}
template <class F>
inline Vec op_v_f_to_int(FpOp f, Vec a, u64 fraction) {
  using T = FpBits<F>;
  return fp_map<F>([&](F x) { return fp_from<F>(op_f_to_int<T>(f, x, fraction)); }, a);
}
template <class F>
inline Vec op_v_int_to_f(bool is_unsigned, Vec a) {
  return fp_map<F>([&](F x) { return op_int_to_f<F>(is_unsigned, fp_bits(x)); }, a);
}
inline Vec op_v_fwiden(NanRule rule, Vec a) {
  const auto x = (FpLanes<float>)a;
  return (Vec)FpLanes<double>{op_fcvt(rule, x[0]), op_fcvt(rule, x[1])};
}
inline Vec op_v_fnarrow(FpOp f, Vec a) {
  const auto x = (FpLanes<double>)a;
  const auto narrow = [&](double lane) { return fp_underflow(f.underflow, [&] { return op_fcvt(f.nan, lane); }); };
  const float low = narrow(x[0]), high = narrow(x[1]);
  return (Vec)FpLanes<float>{low, high, 0, 0};
}
namespace host {
template <class F, unsigned kPredicate>
inline Vec compare_lanes(Vec a, Vec b) {
  Vec r;
  if constexpr (sizeof(F) == 4) asm volatile("vcmpps %3, %2, %1, %0" : "=x"(r) : "x"(a), "x"(b), "i"(kPredicate));
  else asm volatile("vcmppd %3, %2, %1, %0" : "=x"(r) : "x"(a), "x"(b), "i"(kPredicate));
  return r;
}
}  // namespace host
inline Vec op_v_f_to_int_narrow(FpOp f, Vec a) {
  Vec r;
  if (f.round == Round::Zero) asm volatile("vcvttpd2dq %1, %0" : "=x"(r) : "x"(a));
  else asm volatile("vcvtpd2dq %1, %0" : "=x"(r) : "x"(a));
  return r;
}
/// VCMPPS, VCMPPD by predicate (0..31).
template <class F>
inline Vec op_v_fcmp(u64 predicate, Vec a, Vec b) {
  const auto compare = [&]<std::size_t... N>(std::index_sequence<N...>) {
    Vec r{};
    ((predicate == N ? static_cast<void>(r = host::compare_lanes<F, N>(a, b)) : static_cast<void>(0)), ...);
    return r;
  };
  return compare(std::make_index_sequence<32>{});
}
template <class F>
inline F fp_mask(bool yes) {
  return fp_from<F>(yes ? ~FpBits<F>{0} : FpBits<F>{0});
}

}  // namespace kiln::ir
