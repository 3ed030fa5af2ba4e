#include "frontends/arm/fp_helpers.h"

#include <immintrin.h>

#include "frontends/arm/fp_helpers_estimate.h"
#include "frontends/arm/fp_helpers_soft.h"

namespace kiln::arm {
namespace {

using namespace soft;
using ir::CpuState;

u64 isqrt(u64 v, bool& exact) {
  u64 r = 0;
  for (int i = 31; i >= 0; --i) {
    const u64 t = r | u64{1} << i;
    if (t * t <= v) r = t;
  }
  exact = r * r == v;
  return r;
}
/// Sign of an exact zero sum.
bool zero_sign(const Env& env, bool a, bool b) { return a == b ? a : env.rounding() == Round::Down; }
s128 signed_mant(const Number& n) { return n.sign ? -static_cast<s128>(n.mant) : static_cast<s128>(n.mant); }

// --- halves -----------------------------------------------------------------------------------------------------------
/// ±a.mant * 2^a.exp + ±b.mant * 2^b.exp, both within a half's (or a product of halves') range.
u16 half_sum(Env& env, s128 a, int a_exp, bool a_sign, s128 b, int b_exp, bool b_sign, int scale = 0) {
  const int exp = std::min(a_exp, b_exp);
  const s128 sum = (a << (a_exp - exp)) + (b << (b_exp - exp));
  return round_pack_signed<Half>(env, sum, exp + scale, zero_sign(env, a_sign, b_sign));
}

template <bool kSubtract>
struct HalfAdd {
  template <class Fmt>
  static u16 apply(Env& env, u16 a, u16 b) {
    u16 out;
    if (process_nans<Half>(env, out, a, b)) return out;
    if (kSubtract) b ^= 0x8000;
    a = flush_input<Half>(env, a), b = flush_input<Half>(env, b);
    if (is_inf<Half>(a)) return is_inf<Half>(b) && a != b ? invalid<Half>(env) : a;
    if (is_inf<Half>(b)) return b;
    const Number x = unpack<Half>(a), y = unpack<Half>(b);
    return half_sum(env, signed_mant(x), x.exp, x.sign, signed_mant(y), y.exp, y.sign);
  }
};
struct HalfMul {
  template <class Fmt>
  static u16 apply(Env& env, u16 a, u16 b) {
    u16 out;
    if (process_nans<Half>(env, out, a, b)) return out;
    a = flush_input<Half>(env, a), b = flush_input<Half>(env, b);
    const bool sign = sign_of<Half>(a) != sign_of<Half>(b);
    if (is_inf<Half>(a) || is_inf<Half>(b))
      return is_zero<Half>(a) || is_zero<Half>(b) ? invalid<Half>(env) : infinity<Half>(sign);
    const Number x = unpack<Half>(a), y = unpack<Half>(b);
    if (x.mant == 0 || y.mant == 0) return signed_bits<Half>(sign, 0);
    return round_pack<Half>(env, sign, x.exp + y.exp, u128{x.mant} * y.mant);
  }
};
struct HalfDiv {
  template <class Fmt>
  static u16 apply(Env& env, u16 a, u16 b) {
    u16 out;
    if (process_nans<Half>(env, out, a, b)) return out;
    a = flush_input<Half>(env, a), b = flush_input<Half>(env, b);
    const bool sign = sign_of<Half>(a) != sign_of<Half>(b);
    if (is_inf<Half>(a)) return is_inf<Half>(b) ? invalid<Half>(env) : infinity<Half>(sign);
    if (is_inf<Half>(b)) return signed_bits<Half>(sign, 0);
    if (is_zero<Half>(b)) {
      if (is_zero<Half>(a)) return invalid<Half>(env);
      env.raised |= host::kDivideByZero;
      return infinity<Half>(sign);
    }
    const Number x = unpack<Half>(a), y = unpack<Half>(b);
    if (x.mant == 0) return signed_bits<Half>(sign, 0);
    const u64 q = (x.mant << 40) / y.mant, sticky = (x.mant << 40) % y.mant != 0;
    return round_pack<Half>(env, sign, x.exp - y.exp - 41, q << 1 | sticky);
  }
};
struct HalfSqrt {
  template <class Fmt>
  static u16 apply(Env& env, u16 a) {
    if (is_nan<Half>(a)) return nan_result<Half>(env, a);
    a = flush_input<Half>(env, a);
    if (is_zero<Half>(a)) return a;
    if (sign_of<Half>(a)) return invalid<Half>(env);
    if (is_inf<Half>(a)) return a;
    Number n = unpack<Half>(a);
    if (n.exp & 1) n.mant <<= 1, --n.exp;
    bool exact;
    const u64 root = isqrt(n.mant << 40, exact);
    return round_pack<Half>(env, false, n.exp / 2 - 21, root << 1 | !exact);
  }
};
struct HalfMulAdd {
  template <class Fmt>
  static u16 apply(Env& env, u16 a, u16 b, u16 c) {
    const u16 fa = flush_input<Half>(env, a), fb = flush_input<Half>(env, b), fc = flush_input<Half>(env, c);
    const bool inf_zero = (is_inf<Half>(a) && is_zero<Half>(fb)) || (is_zero<Half>(fa) && is_inf<Half>(b));
    if (inf_zero && is_nan<Half>(c) && !is_snan<Half>(c)) return invalid<Half>(env);
    u16 out;
    if (process_nans<Half>(env, out, c, a, b)) return out;
    if (inf_zero) return invalid<Half>(env);
    const bool sign = sign_of<Half>(a) != sign_of<Half>(b);
    if (is_inf<Half>(a) || is_inf<Half>(b)) {
      return is_inf<Half>(c) && sign_of<Half>(c) != sign ? invalid<Half>(env) : infinity<Half>(sign);
    }
    if (is_inf<Half>(c)) return c;
    const Number x = unpack<Half>(fa), y = unpack<Half>(fb), z = unpack<Half>(fc);
    return half_sum(env, signed_mant(x) * signed_mant(y), x.exp + y.exp, sign, signed_mant(z), z.exp, z.sign);
  }
};
template <bool kMax, bool kNumber>
struct HalfMinMax {
  template <class Fmt>
  static u16 apply(Env& env, u16 a, u16 b) {
    if (kNumber) {  // a lone quiet NaN loses
      const bool quiet_a = is_nan<Half>(a) && !is_snan<Half>(a), quiet_b = is_nan<Half>(b) && !is_snan<Half>(b);
      if (quiet_a && !quiet_b) a = infinity<Half>(kMax);
      else if (quiet_b && !quiet_a) b = infinity<Half>(kMax);
    }
    u16 out;
    if (process_nans<Half>(env, out, a, b)) return out;
    a = flush_input<Half>(env, a), b = flush_input<Half>(env, b);
    const auto key = [](u16 v) { return v & 0x8000 ? -1 - static_cast<int>(v & 0x7fff) : static_cast<int>(v); };
    return (key(a) > key(b)) == kMax ? a : b;
  }
};
enum class Relation { Equal, GreaterEqual, Greater };
template <Relation kRelation>
struct HalfCompare {
  template <class Fmt>
  static u16 apply(Env& env, u16 a, u16 b) {
    if (is_nan<Half>(a) || is_nan<Half>(b)) {
      if (kRelation != Relation::Equal || is_snan<Half>(a) || is_snan<Half>(b)) env.raised |= host::kInvalid;
      return 0;
    }
    a = flush_input<Half>(env, a), b = flush_input<Half>(env, b);
    const auto key = [](u16 v) { return v & 0x8000 ? -static_cast<int>(v & 0x7fff) : static_cast<int>(v); };
    const bool holds = kRelation == Relation::Equal     ? key(a) == key(b)
                       : kRelation == Relation::Greater ? key(a) > key(b)
                                                        : key(a) >= key(b);
    return holds ? 0xffff : 0;
  }
};

// --- any format -------------------------------------------------------------------------------------------------------
template <class Fmt>
using Float = std::conditional_t<std::is_same_v<Fmt, Single>, float, double>;

/// A host operation on numbers without denormals among them, its tiny results as A64 has them.
template <class Fmt, class Fn>
typename Fmt::Bits on_host(const Env& env, Fn&& op) {
  return std::bit_cast<typename Fmt::Bits>(
      ir::fp_underflow(env.flushes<Fmt>() ? ir::Underflow::FlushFirst : ir::Underflow::Exact, op));
}

template <class Fmt>
typename Fmt::Bits two(bool sign) {
  return signed_bits<Fmt>(sign, static_cast<typename Fmt::Bits>(u64{Traits<Fmt>::kBias + 1} << Fmt::kMant));
}
struct MulExtended {
  template <class Fmt>
  static typename Fmt::Bits apply(Env& env, typename Fmt::Bits a, typename Fmt::Bits b) {
    a = flush_input<Fmt>(env, a), b = flush_input<Fmt>(env, b);  // beside a NaN, too, it tells InputDenorm
    typename Fmt::Bits out;
    if (process_nans<Fmt>(env, out, a, b)) return out;
    if ((is_inf<Fmt>(a) && is_zero<Fmt>(b)) || (is_zero<Fmt>(a) && is_inf<Fmt>(b)))
      return two<Fmt>(sign_of<Fmt>(a) != sign_of<Fmt>(b));
    if constexpr (std::is_same_v<Fmt, Half>) return HalfMul::apply<Half>(env, a, b);
    else return on_host<Fmt>(env, [&] { return host::mul(std::bit_cast<Float<Fmt>>(a), std::bit_cast<Float<Fmt>>(b)); });
  }
};
/// FRECPS: 2 - a * b, FRSQRTS: (3 - a * b) / 2, rounded once.
template <bool kSqrt>
struct Step {
  template <class Fmt>
  static typename Fmt::Bits apply(Env& env, typename Fmt::Bits a, typename Fmt::Bits b) {
    using Bits = typename Fmt::Bits;
    using T = Traits<Fmt>;
    a = static_cast<Bits>(a ^ T::kSign);  // FPNeg comes first, NaNs too
    a = flush_input<Fmt>(env, a), b = flush_input<Fmt>(env, b);
    Bits out;
    if (process_nans<Fmt>(env, out, a, b)) return out;
    if (is_inf<Fmt>(a) || is_inf<Fmt>(b)) {
      if (is_zero<Fmt>(a) || is_zero<Fmt>(b))
        return kSqrt ? static_cast<Bits>(static_cast<Bits>(u64{T::kBias} << Fmt::kMant) | T::kQuiet) : two<Fmt>(false);
      return infinity<Fmt>(sign_of<Fmt>(a) != sign_of<Fmt>(b));
    }
    if constexpr (std::is_same_v<Fmt, Half>) {
      const Number x = unpack<Half>(a), y = unpack<Half>(b);
      // The constant is positive and the product not its negative zero, so an exact zero takes the rounding mode's sign.
      const s128 product = signed_mant(x) * signed_mant(y);
      return half_sum(env, product, x.exp + y.exp, true, kSqrt ? 3 : 2, 0, false, kSqrt ? -1 : 0);
    } else {
      using F = Float<Fmt>;
      F x = std::bit_cast<F>(a), y = std::bit_cast<F>(b);
      if (!kSqrt) return on_host<Fmt>(env, [&] { return host::fma(x, y, F{2}); });
      // Halving before the addition keeps one rounding and does not overflow early. The larger factor is halved: exact,
      // unless it is so small that the product only tells a direction of rounding.
      if (magnitude<Fmt>(a) < magnitude<Fmt>(b)) std::swap(a, b);
      constexpr Bits kHalvable = static_cast<Bits>(Bits{2} << Fmt::kMant);
      if (magnitude<Fmt>(a) >= kHalvable) a = static_cast<Bits>(a - (Bits{1} << Fmt::kMant));
      return on_host<Fmt>(env, [&] { return host::fma(std::bit_cast<F>(a), std::bit_cast<F>(b), F(1.5)); });
    }
  }
};
/// FPRecipEstimate.
struct RecipEstimate {
  template <class Fmt>
  static typename Fmt::Bits apply(Env& env, typename Fmt::Bits a) {
    using Bits = typename Fmt::Bits;
    using T = Traits<Fmt>;
    if (is_nan<Fmt>(a)) return nan_result<Fmt>(env, a);
    a = flush_input<Fmt>(env, a);
    const bool sign = sign_of<Fmt>(a);
    if (is_inf<Fmt>(a)) return signed_bits<Fmt>(sign, 0);
    if (is_zero<Fmt>(a)) {
      env.raised |= host::kDivideByZero;
      return infinity<Fmt>(sign);
    }
    const Bits mag = magnitude<Fmt>(a);
    if (mag < T::kQuiet >> 1) {  // below 2^(MinExp - 2): the reciprocal overflows
      env.raised |= host::kOverflow | host::kInexact;
      const Round r = env.rounding();
      const bool to_inf = r == Round::Nearest || (r == Round::Up && !sign) || (r == Round::Down && sign);
      return to_inf ? infinity<Fmt>(sign) : signed_bits<Fmt>(sign, static_cast<Bits>(T::kInf - 1));
    }
    const int biased = mag >> Fmt::kMant;
    if (env.flushes<Fmt>() && biased >= 2 * T::kBias - 1) {  // the reciprocal would be denormal
      env.raised |= host::kUnderflow;
      return signed_bits<Fmt>(sign, 0);
    }
    // Fraction with 52 bits below the leading one.
    u64 fraction = static_cast<u64>(mag & T::kMantMask) << (52 - Fmt::kMant);
    int exp = biased;
    if (exp == 0) {
      const bool next = (fraction >> 51) & 1;
      if (!next) exp = -1;
      fraction = (fraction << (next ? 1 : 2)) & mask_low(52);
    }
    const u32 estimate = recip_estimate(static_cast<u32>(256 | fraction >> 44));
    int result_exp = 2 * T::kBias - 1 - exp;
    u64 result = static_cast<u64>(estimate & 255) << 44;
    if (result_exp == 0) {
      result = u64{1} << 51 | result >> 1;
    } else if (result_exp == -1) {
      result = u64{1} << 50 | result >> 2;
      result_exp = 0;
    }
    return signed_bits<Fmt>(sign, static_cast<Bits>(static_cast<u64>(result_exp) << Fmt::kMant | result >> (52 - Fmt::kMant)));
  }
};
/// FPRSqrtEstimate.
struct RecipSqrtEstimate {
  template <class Fmt>
  static typename Fmt::Bits apply(Env& env, typename Fmt::Bits a) {
    using Bits = typename Fmt::Bits;
    using T = Traits<Fmt>;
    if (is_nan<Fmt>(a)) return nan_result<Fmt>(env, a);
    a = flush_input<Fmt>(env, a);
    const bool sign = sign_of<Fmt>(a);
    if (is_zero<Fmt>(a)) {
      env.raised |= host::kDivideByZero;
      return infinity<Fmt>(sign);
    }
    if (sign) return invalid<Fmt>(env);
    if (is_inf<Fmt>(a)) return 0;
    u64 fraction = static_cast<u64>(a & T::kMantMask) << (52 - Fmt::kMant);
    int exp = a >> Fmt::kMant;
    if (exp == 0) {
      while (!((fraction >> 51) & 1)) fraction <<= 1, --exp;
      fraction = (fraction << 1) & mask_low(52);
    }
    const u32 estimate = recip_sqrt_estimate(static_cast<u32>(exp & 1 ? 128 | fraction >> 45 : 256 | fraction >> 44));
    const int result_exp = (3 * T::kBias - 1 - exp) / 2;
    return static_cast<Bits>(static_cast<u64>(result_exp) << Fmt::kMant | static_cast<u64>(estimate & 255) << (Fmt::kMant - 8));
  }
};
struct RecipExponent {
  template <class Fmt>
  static typename Fmt::Bits apply(Env& env, typename Fmt::Bits a) {
    using Bits = typename Fmt::Bits;
    using T = Traits<Fmt>;
    if (is_nan<Fmt>(a)) return nan_result<Fmt>(env, a);
    a = flush_input<Fmt>(env, a);
    const Bits e = static_cast<Bits>((a >> Fmt::kMant) & T::kMaxExp);
    const Bits r = e == 0 ? static_cast<Bits>(T::kMaxExp - 1) : static_cast<Bits>(~e & T::kMaxExp);
    return signed_bits<Fmt>(sign_of<Fmt>(a), static_cast<Bits>(r << Fmt::kMant));
  }
};
struct RoundInt {
  template <class Fmt>
  static typename Fmt::Bits apply(Env& env, typename Fmt::Bits a) {
    const Params p = Params::unpack(env.params);
    return round_integral<Fmt>(env, a, env.rounding(p.round), p.exact);
  }
};
struct RoundIntN {
  template <class Fmt>
  static typename Fmt::Bits apply(Env& env, typename Fmt::Bits a) {
    const Params p = Params::unpack(env.params);
    return round_integral_n<Fmt>(env, a, env.rounding(p.round), p.bits);
  }
};

// --- the functions that generated code calls ------------------------------------------------------------------------------
template <class Bits>
struct Lanes {
  Bits e[16 / sizeof(Bits)];
};
template <class Bits>
Lanes<Bits> lanes(__m128i v) {
  return std::bit_cast<Lanes<Bits>>(v);
}

template <class Fn, class Fmt>
__m128i unary(CpuState* state, u64 params, __m128i a) {
  using Bits = typename Fmt::Bits;
  Env env(state, params);
  const auto x = lanes<Bits>(a);
  Lanes<Bits> r{};
  for (unsigned i = 0; i < (params & 255); ++i) r.e[i] = Fn::template apply<Fmt>(env, x.e[i]);
  return std::bit_cast<__m128i>(r);
}
template <class Fn, class Fmt>
__m128i binary(CpuState* state, u64 params, __m128i a, __m128i b) {
  using Bits = typename Fmt::Bits;
  Env env(state, params);
  const auto x = lanes<Bits>(a), y = lanes<Bits>(b);
  Lanes<Bits> r{};
  for (unsigned i = 0; i < (params & 255); ++i) r.e[i] = Fn::template apply<Fmt>(env, x.e[i], y.e[i]);
  return std::bit_cast<__m128i>(r);
}
template <class Fn, class Fmt>
__m128i ternary(CpuState* state, u64 params, __m128i a, __m128i b, __m128i c) {
  using Bits = typename Fmt::Bits;
  Env env(state, params);
  const auto x = lanes<Bits>(a), y = lanes<Bits>(b), z = lanes<Bits>(c);
  Lanes<Bits> r{};
  for (unsigned i = 0; i < (params & 255); ++i) r.e[i] = Fn::template apply<Fmt>(env, x.e[i], y.e[i], z.e[i]);
  return std::bit_cast<__m128i>(r);
}
/// The integer may be wider than the format (FCVTZS Xd, Hn): lane i of `Params::bits` bits, at least the format's.
template <class Fmt>
__m128i float_to_fixed(CpuState* state, u64 params, __m128i a) {
  Env env(state, params);
  const Params p = Params::unpack(params);
  const auto x = lanes<typename Fmt::Bits>(a);
  unsigned char r[16] = {};
  for (unsigned i = 0; i < p.lanes; ++i) {
    const u64 v = to_fixed<Fmt>(env, x.e[i], p.fraction, env.rounding(p.round), p.bits, p.is_unsigned);
    std::memcpy(r + i * p.bits / 8, &v, p.bits / 8);
  }
  return std::bit_cast<__m128i>(r);
}
template <class Fmt>
__m128i float_from_fixed(CpuState* state, u64 params, __m128i a) {
  Env env(state, params);
  const Params p = Params::unpack(params);
  const auto x = lanes<u8>(a);
  Lanes<typename Fmt::Bits> r{};
  for (unsigned i = 0; i < p.lanes; ++i) {
    u64 v = 0;
    std::memcpy(&v, x.e + i * p.bits / 8, p.bits / 8);
    r.e[i] = from_fixed<Fmt>(env, v, p.fraction, p.bits, p.is_unsigned);
  }
  return std::bit_cast<__m128i>(r);
}
template <class To, class From, int kRounding>
__m128i converted(CpuState* state, u64 params, __m128i a) {
  Env env(state, params);
  const auto x = lanes<typename From::Bits>(a);
  Lanes<typename To::Bits> r{};
  const Round mode = kRounding < 0 ? env.rounding() : static_cast<Round>(kRounding);
  for (unsigned i = 0; i < (params & 255); ++i) r.e[i] = convert<To, From>(env, x.e[i], mode);
  return std::bit_cast<__m128i>(r);
}
__m128i low_lanes(__m128i v, u64 lanes, unsigned lane_bytes) {
  return lanes * lane_bytes == 16 ? v
         : lanes * lane_bytes == 8
             ? _mm_move_epi64(v)
             : _mm_and_si128(v, _mm_cvtsi64_si128(static_cast<s64>(mask_low(static_cast<unsigned>(lanes * lane_bytes * 8)))));
}
/// The host's own conversions (F16C) say the same as FPConvert, but for the alternative format and FPCR.DN.
__m128i half_to_single(CpuState* state, u64 params, __m128i a) {
  const u32 fpcr = static_cast<u32>(static_cast<A64State*>(state)->fpcr);
  const __m128i in = low_lanes(a, params & 255, 2);
  __m128 out;
  if (fpcr & (kFpcrAhp | kFpcrDn)) return converted<Single, Half, -1>(state, params, a);
  asm volatile("vcvtph2ps %1, %0" : "=x"(out) : "x"(in));
  return _mm_castps_si128(out);
}
/// Likewise; results next to the denormals go the long way, for A64 tells of Underflow before rounding.
__m128i single_to_half(CpuState* state, u64 params, __m128i a) {
  const u32 fpcr = static_cast<u32>(static_cast<A64State*>(state)->fpcr);
  const __m128i in = low_lanes(a, params & 255, 4);
  if (fpcr & (kFpcrAhp | kFpcrDn | kFpcrFz)) return converted<Half, Single, -1>(state, params, a);
  const __m128i magnitude = _mm_and_si128(in, _mm_set1_epi32(0x7fffffff));
  // 2^-14 is the least normal half.
  const __m128i small =
      _mm_and_si128(_mm_cmpgt_epi32(_mm_set1_epi32(0x38800000), magnitude), _mm_cmpgt_epi32(magnitude, _mm_setzero_si128()));
  if (_mm_movemask_epi8(small)) return converted<Half, Single, -1>(state, params, a);
  __m128i out;
  asm volatile("vcvtps2ph $4, %1, %0" : "=x"(out) : "x"(in));
  return out;
}
/// Halves to singles with the value and the kind of NaN kept: the step before a fused multiply-add.
__m128i half_bits(CpuState* state, u64 params, __m128i a) {
  Env env(state, params);
  const auto x = lanes<u16>(a);
  Lanes<u32> r{};
  for (unsigned i = 0; i < (params & 255); ++i) {
    const u16 h = flush_input<Half>(env, x.e[i]);
    const u32 sign = static_cast<u32>(h & 0x8000) << 16;
    if ((h & 0x7c00) == 0x7c00) {
      r.e[i] = sign | 0x7f800000 | static_cast<u32>(h & 0x3ff) << 13;
    } else {
      const Number n = unpack<Half>(h);
      r.e[i] = n.mant == 0 ? sign : round_pack<Single>(env, n.sign, n.exp, n.mant);
    }
  }
  return std::bit_cast<__m128i>(r);
}
/// FPToFixedJS: to 32 bits modulo 2^32; Z tells that nothing was lost, and -0 counts as a loss.
__m128i javascript(CpuState* state, u64 params, __m128i a) {
  Env env(state, params);
  const u64 b = flush_input<Double>(env, lanes<u64>(a).e[0]);
  Lanes<u32> r{};
  if ((b & Traits<Double>::kInf) == Traits<Double>::kInf) {
    env.raised |= host::kInvalid;
    return std::bit_cast<__m128i>(r);
  }
  const Number n = unpack<Double>(b);
  bool inexact = false;
  u128 v = 0;
  if (n.exp >= 0) v = n.exp < 64 ? static_cast<u128>(n.mant) << n.exp : 0;
  else v = shift_round(n.mant, static_cast<unsigned>(-n.exp), n.sign, Round::Zero, inexact);
  const bool large = n.exp >= 64 || v > 0x7fffffff + u128{n.sign};
  if (large) env.raised |= host::kInvalid;
  else if (inexact) env.raised |= host::kInexact;
  r.e[0] = n.sign ? -static_cast<u32>(v) : static_cast<u32>(v);
  r.e[1] = !large && !inexact && b != Traits<Double>::kSign;
  return std::bit_cast<__m128i>(r);
}

using Table = std::array<std::array<ir::Helper, 4>, static_cast<std::size_t>(FpHelp::kCount)>;

struct Maker {
  Table table{};

  void add(FpHelp op, Width w, const char* name, unsigned vectors, const void* function) {
    auto* text = new std::string(std::string("f_") + name + "_" + "bhsd"[static_cast<unsigned>(w)]);
    ir::Helper& h = table[static_cast<std::size_t>(op)][static_cast<unsigned>(w)];
    h.name = text->c_str();
    h.function = function;
    h.result = Type::V128;
    h.args = {Type::I64, Type::V128, vectors > 1 ? Type::V128 : Type::Void, vectors > 2 ? Type::V128 : Type::Void};
    // Exception bits are a result too: not to be dropped with a dead value.
    h.effects = ir::WRITES_MEM;
  }
  template <class Fn>
  void half2(FpHelp op, const char* name) {
    add(op, Width::B2, name, 2, reinterpret_cast<const void*>(&binary<Fn, Half>));
  }
  template <class Fn>
  void all1(FpHelp op, const char* name) {
    add(op, Width::B2, name, 1, reinterpret_cast<const void*>(&unary<Fn, Half>));
    add(op, Width::B4, name, 1, reinterpret_cast<const void*>(&unary<Fn, Single>));
    add(op, Width::B8, name, 1, reinterpret_cast<const void*>(&unary<Fn, Double>));
  }
  template <class Fn>
  void all2(FpHelp op, const char* name) {
    add(op, Width::B2, name, 2, reinterpret_cast<const void*>(&binary<Fn, Half>));
    add(op, Width::B4, name, 2, reinterpret_cast<const void*>(&binary<Fn, Single>));
    add(op, Width::B8, name, 2, reinterpret_cast<const void*>(&binary<Fn, Double>));
  }

  Maker() {
    using enum FpHelp;
    half2<HalfAdd<false>>(Add, "add");
    half2<HalfAdd<true>>(Sub, "sub");
    half2<HalfMul>(Mul, "mul");
    half2<HalfDiv>(Div, "div");
    half2<HalfMinMax<true, false>>(Max, "max");
    half2<HalfMinMax<false, false>>(Min, "min");
    half2<HalfMinMax<true, true>>(MaxNm, "maxnm");
    half2<HalfMinMax<false, true>>(MinNm, "minnm");
    half2<HalfCompare<Relation::Equal>>(CmpEq, "cmpeq");
    half2<HalfCompare<Relation::GreaterEqual>>(CmpGe, "cmpge");
    half2<HalfCompare<Relation::Greater>>(CmpGt, "cmpgt");
    all2<MulExtended>(MulX, "mulx");
    all2<Step<false>>(RecpS, "recps");
    all2<Step<true>>(RsqrtS, "rsqrts");
    add(MulAdd, Width::B2, "muladd", 3, reinterpret_cast<const void*>(&ternary<HalfMulAdd, Half>));
    add(Sqrt, Width::B2, "sqrt", 1, reinterpret_cast<const void*>(&unary<HalfSqrt, Half>));
    all1<RecipEstimate>(RecpE, "recpe");
    all1<RecipSqrtEstimate>(RsqrtE, "rsqrte");
    all1<RecipExponent>(RecpX, "recpx");
    all1<struct RoundInt>(FpHelp::RoundInt, "rint");
    all1<struct RoundIntN>(FpHelp::RoundIntN, "rintn");
    add(ToFixed, Width::B2, "tofixed", 1, reinterpret_cast<const void*>(&float_to_fixed<Half>));
    add(ToFixed, Width::B4, "tofixed", 1, reinterpret_cast<const void*>(&float_to_fixed<Single>));
    add(ToFixed, Width::B8, "tofixed", 1, reinterpret_cast<const void*>(&float_to_fixed<Double>));
    add(FromFixed, Width::B2, "fromfixed", 1, reinterpret_cast<const void*>(&float_from_fixed<Half>));
    add(FromFixed, Width::B4, "fromfixed", 1, reinterpret_cast<const void*>(&float_from_fixed<Single>));
    add(FromFixed, Width::B8, "fromfixed", 1, reinterpret_cast<const void*>(&float_from_fixed<Double>));
    add(HalfToSingle, Width::B2, "tosingle", 1, reinterpret_cast<const void*>(&half_to_single));
    add(HalfToDouble, Width::B2, "todouble", 1, reinterpret_cast<const void*>(&converted<Double, Half, -1>));
    add(SingleToHalf, Width::B4, "tohalf", 1, reinterpret_cast<const void*>(&single_to_half));
    add(DoubleToHalf, Width::B8, "tohalf", 1, reinterpret_cast<const void*>(&converted<Half, Double, -1>));
    add(DoubleToSingleOdd, Width::B8, "tosingleodd", 1,
        reinterpret_cast<const void*>(&converted<Single, Double, static_cast<int>(kToOdd)>));
    add(SingleToBrain, Width::B4, "tobrain", 1, reinterpret_cast<const void*>(&converted<Brain, Single, -1>));
    add(HalfBits, Width::B2, "halfbits", 1, reinterpret_cast<const void*>(&half_bits));
    add(JavaScript, Width::B8, "javascript", 1, reinterpret_cast<const void*>(&javascript));
  }
};

}  // namespace

const ir::Helper& fp_helper(FpHelp op, Width w) {
  static const Maker maker;
  return maker.table[static_cast<std::size_t>(op)][static_cast<unsigned>(w)];
}

}  // namespace kiln::arm
