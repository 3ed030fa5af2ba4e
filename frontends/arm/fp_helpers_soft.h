// A small software float: exact integer significands and one rounding, for what the host's FPU cannot do (half precision, other
// rounding rules, narrower formats). Arm ARM: FPUnpack, FPRound, FPProcessNaNs and what is built on them.
// Invariants: (1) a finite number is mant * 2^exp, exactly; (2) exception bits gather in Env::raised, in MXCSR's positions, and
// reach MXCSR once, at the end of the helper; (3) tininess is found before rounding, as A64 does.
#pragma once
#include "frontends/arm/fpcr.h"
#include "ir/semantics_fp.h"

namespace kiln::arm::soft {

using ir::Round;
namespace host = ir::host;

struct Half {
  using Bits = u16;
  static constexpr unsigned kMant = 10, kExp = 5;
};
struct Single {
  using Bits = u32;
  static constexpr unsigned kMant = 23, kExp = 8;
};
struct Double {
  using Bits = u64;
  static constexpr unsigned kMant = 52, kExp = 11;
};
struct Brain {  // BFloat16
  using Bits = u16;
  static constexpr unsigned kMant = 7, kExp = 8;
};

template <class Fmt>
struct Traits {
  using Bits = typename Fmt::Bits;
  static constexpr unsigned kBits = 8 * sizeof(Bits);
  static constexpr Bits kSign = static_cast<Bits>(Bits{1} << (kBits - 1));
  static constexpr Bits kMaxExp = static_cast<Bits>((Bits{1} << Fmt::kExp) - 1);
  static constexpr Bits kInf = static_cast<Bits>(kMaxExp << Fmt::kMant);
  static constexpr Bits kQuiet = static_cast<Bits>(Bits{1} << (Fmt::kMant - 1));
  static constexpr Bits kMantMask = static_cast<Bits>((Bits{1} << Fmt::kMant) - 1);
  static constexpr int kBias = (1 << (Fmt::kExp - 1)) - 1;
  static constexpr int kMinExp = 1 - kBias;  // of the least normal number
};

constexpr Round kToOdd = static_cast<Round>(6);  // FCVTXN

struct Env {
  u32 fpcr;
  u32 raised = 0;
  u64 params;

  Env(const ir::CpuState* state, u64 params)
      : fpcr(static_cast<u32>(static_cast<const A64State*>(state)->fpcr)), params(params) {}
  ~Env() {
    if (raised) host::raise(raised);
  }
  Env(const Env&) = delete;

  bool default_nan() const { return (fpcr & kFpcrDn) != 0; }
  bool alternative_half() const { return (fpcr & kFpcrAhp) != 0; }
  template <class Fmt>
  bool flushes() const {
    return (fpcr & (std::is_same_v<Fmt, Half> ? kFpcrFz16 : kFpcrFz)) != 0;
  }
  Round rounding() const { return static_cast<Round>((fpcr >> kFpcrRmodeShift) & 3); }
  Round rounding(Round r) const { return r == Round::Dynamic ? rounding() : r; }
};
// FPCR.RMode and ir::Round agree on 0..3: nearest, up, down, zero.
static_assert(static_cast<int>(Round::Up) == 1 && static_cast<int>(Round::Down) == 2 && static_cast<int>(Round::Zero) == 3);

template <class Fmt>
constexpr typename Fmt::Bits magnitude(typename Fmt::Bits b) {
  return static_cast<typename Fmt::Bits>(b & ~Traits<Fmt>::kSign);
}
template <class Fmt>
constexpr bool sign_of(typename Fmt::Bits b) {
  return (b & Traits<Fmt>::kSign) != 0;
}
template <class Fmt>
constexpr bool is_nan(typename Fmt::Bits b) {
  return magnitude<Fmt>(b) > Traits<Fmt>::kInf;
}
template <class Fmt>
constexpr bool is_snan(typename Fmt::Bits b) {
  return is_nan<Fmt>(b) && (b & Traits<Fmt>::kQuiet) == 0;
}
template <class Fmt>
constexpr bool is_inf(typename Fmt::Bits b) {
  return magnitude<Fmt>(b) == Traits<Fmt>::kInf;
}
template <class Fmt>
constexpr bool is_zero(typename Fmt::Bits b) {
  return magnitude<Fmt>(b) == 0;
}
template <class Fmt>
constexpr typename Fmt::Bits signed_bits(bool sign, typename Fmt::Bits b) {
  return static_cast<typename Fmt::Bits>(b | (sign ? Traits<Fmt>::kSign : 0));
}
template <class Fmt>
constexpr typename Fmt::Bits infinity(bool sign) {
  return signed_bits<Fmt>(sign, Traits<Fmt>::kInf);
}
template <class Fmt>
constexpr typename Fmt::Bits default_nan() {
  return static_cast<typename Fmt::Bits>(Traits<Fmt>::kInf | Traits<Fmt>::kQuiet);
}
template <class Fmt>
typename Fmt::Bits invalid(Env& env) {
  env.raised |= host::kInvalid;
  return default_nan<Fmt>();
}

/// A denormal operand becomes zero if the format's flush bit is on. Halves do it without telling InputDenormal.
template <class Fmt>
typename Fmt::Bits flush_input(Env& env, typename Fmt::Bits b) {
  using T = Traits<Fmt>;
  if ((b & T::kInf) != 0 || is_zero<Fmt>(b) || !env.flushes<Fmt>()) return b;
  if (!std::is_same_v<Fmt, Half>) env.raised |= host::kDenormal;
  return static_cast<typename Fmt::Bits>(b & T::kSign);
}

template <class Fmt>
typename Fmt::Bits nan_result(Env& env, typename Fmt::Bits b) {
  if (is_snan<Fmt>(b)) env.raised |= host::kInvalid;
  return env.default_nan() ? default_nan<Fmt>() : static_cast<typename Fmt::Bits>(b | Traits<Fmt>::kQuiet);
}
/// FPProcessNaNs over operands in the order of their priority: signalling ones first.
template <class Fmt, class... Bs>
bool process_nans(Env& env, typename Fmt::Bits& out, Bs... operands) {
  for (typename Fmt::Bits b : {operands...})
    if (is_snan<Fmt>(b)) return out = nan_result<Fmt>(env, b), true;
  for (typename Fmt::Bits b : {operands...})
    if (is_nan<Fmt>(b)) return out = nan_result<Fmt>(env, b), true;
  return false;
}

/// A finite number; zero has mant == 0.
struct Number {
  bool sign;
  int exp;
  u64 mant;
};
template <class Fmt>
Number unpack(typename Fmt::Bits b) {
  using T = Traits<Fmt>;
  const unsigned e = (b >> Fmt::kMant) & T::kMaxExp;
  const u64 m = b & T::kMantMask;
  if (e == 0) return {sign_of<Fmt>(b), T::kMinExp - static_cast<int>(Fmt::kMant), m};
  return {sign_of<Fmt>(b), static_cast<int>(e) - T::kBias - static_cast<int>(Fmt::kMant), m | u64{1} << Fmt::kMant};
}

inline unsigned bit_length(u128 v) {
  const u64 high = static_cast<u64>(v >> 64);
  return high ? 128 - static_cast<unsigned>(std::countl_zero(high))
              : 64 - static_cast<unsigned>(std::countl_zero(static_cast<u64>(v)));
}
/// mant / 2^shift rounded to an integer; `inexact` says whether bits were lost.
inline u128 shift_round(u128 mant, unsigned shift, bool sign, Round mode, bool& inexact) {
  if (shift == 0) return inexact = false, mant;
  const u128 kept = shift >= 128 ? 0 : mant >> shift;
  const u128 rest = shift >= 128 ? mant : mant & ((u128{1} << shift) - 1);
  inexact = rest != 0;
  if (!inexact) return kept;
  // Against half of the last place: below, equal, above.
  const u128 half = shift > 128 ? 0 : u128{1} << (shift - 1);
  const int order = shift > 128 ? -1 : rest < half ? -1 : rest == half ? 0 : 1;
  bool up = false;
  switch (mode) {
    case Round::Nearest: up = order > 0 || (order == 0 && (kept & 1)); break;
    case Round::Away: up = order >= 0; break;
    case Round::Up: up = !sign; break;
    case Round::Down: up = sign; break;
    default: break;
  }
  if (mode == kToOdd) return kept | 1;
  return kept + up;
}

/// FPRound of ±mant * 2^exp, mant != 0. `flush`: results below the least normal number become zero.
template <class Fmt>
typename Fmt::Bits round_pack(Env& env, bool sign, int exp, u128 mant, Round mode, bool flush) {
  using T = Traits<Fmt>;
  using Bits = typename Fmt::Bits;
  const int top = exp + static_cast<int>(bit_length(mant)) - 1;
  const bool tiny = top < T::kMinExp;
  if (tiny && flush) {
    env.raised |= host::kUnderflow;
    return signed_bits<Fmt>(sign, 0);
  }
  int last = (tiny ? T::kMinExp : top) - static_cast<int>(Fmt::kMant);  // exponent of the last place
  bool inexact = false;
  if (last <= exp) mant <<= exp - last;
  else mant = shift_round(mant, static_cast<unsigned>(last - exp), sign, mode, inexact);
  if (mant >> (Fmt::kMant + 1)) {
    mant >>= 1;
    ++last;
  }
  if (tiny && inexact) env.raised |= host::kUnderflow;
  if (last + static_cast<int>(Fmt::kMant) > T::kBias) {
    env.raised |= host::kOverflow | host::kInexact;
    const bool to_inf =
        mode == Round::Nearest || mode == Round::Away || (mode == Round::Up && !sign) || (mode == Round::Down && sign);
    return to_inf ? infinity<Fmt>(sign) : signed_bits<Fmt>(sign, static_cast<Bits>(T::kInf - 1));
  }
  if (inexact) env.raised |= host::kInexact;
  if (!(mant >> Fmt::kMant)) return signed_bits<Fmt>(sign, static_cast<Bits>(mant));
  const u64 e = static_cast<u64>(last + static_cast<int>(Fmt::kMant) + T::kBias);
  return signed_bits<Fmt>(sign, static_cast<Bits>(e << Fmt::kMant | (static_cast<u64>(mant) & T::kMantMask)));
}
template <class Fmt>
typename Fmt::Bits round_pack(Env& env, bool sign, int exp, u128 mant) {
  return round_pack<Fmt>(env, sign, exp, mant, env.rounding(), env.flushes<Fmt>());
}
/// A signed exact value; zero takes `zero_sign`.
template <class Fmt>
typename Fmt::Bits round_pack_signed(Env& env, s128 value, int exp, bool zero_sign) {
  if (value == 0) return signed_bits<Fmt>(zero_sign, 0);
  const bool sign = value < 0;
  return round_pack<Fmt>(env, sign, exp, sign ? -static_cast<u128>(value) : static_cast<u128>(value));
}

/// Between formats: FPConvert. Neither side's flush bit for halves takes part.
template <class To, class From>
typename To::Bits convert(Env& env, typename From::Bits b, Round mode) {
  using T = Traits<To>;
  constexpr bool kFromHalf = std::is_same_v<From, Half>, kToHalf = std::is_same_v<To, Half>;
  const bool sign = sign_of<From>(b);
  const bool special = (b & Traits<From>::kInf) == Traits<From>::kInf && !(kFromHalf && env.alternative_half());
  if (special && is_nan<From>(b)) {
    if (kToHalf && env.alternative_half()) {
      env.raised |= host::kInvalid;
      return signed_bits<To>(sign, 0);
    }
    if (is_snan<From>(b)) env.raised |= host::kInvalid;
    if (env.default_nan()) return default_nan<To>();
    u64 payload = b & Traits<From>::kMantMask;
    payload = From::kMant < To::kMant ? payload << (To::kMant > From::kMant ? To::kMant - From::kMant : 0)
                                      : payload >> (From::kMant > To::kMant ? From::kMant - To::kMant : 0);
    return signed_bits<To>(sign, static_cast<typename To::Bits>(T::kInf | T::kQuiet | payload));
  }
  if (special) {
    if (kToHalf && env.alternative_half()) {
      env.raised |= host::kInvalid;
      return signed_bits<To>(sign, 0x7fff);
    }
    return infinity<To>(sign);
  }
  if (!kFromHalf) b = flush_input<From>(env, b);
  const Number n = unpack<From>(b);
  if (n.mant == 0) return signed_bits<To>(sign, 0);
  if constexpr (kToHalf) {
    if (env.alternative_half()) {
      // One more exponent instead of infinities and NaNs; overflow is invalid and saturates. A format with a larger
      // exponent field serves for the rounding.
      const int top = n.exp + static_cast<int>(bit_length(n.mant)) - 1;
      int last = std::max(top, Traits<Half>::kMinExp) - static_cast<int>(Half::kMant);
      bool inexact = false;
      u128 mant = n.mant;
      if (last <= n.exp) mant <<= n.exp - last;
      else mant = shift_round(mant, static_cast<unsigned>(last - n.exp), sign, mode, inexact);
      if (mant >> (Half::kMant + 1)) mant >>= 1, ++last;
      if (last + static_cast<int>(Half::kMant) > Traits<Half>::kBias + 1) {
        env.raised |= host::kInvalid;
        return signed_bits<Half>(sign, 0x7fff);
      }
      if (inexact) env.raised |= host::kInexact | (top < Traits<Half>::kMinExp ? host::kUnderflow : 0);
      if (!(mant >> Half::kMant)) return signed_bits<Half>(sign, static_cast<u16>(mant));
      const u64 e = static_cast<u64>(last + static_cast<int>(Half::kMant) + Traits<Half>::kBias);
      return signed_bits<Half>(sign, static_cast<u16>(e << Half::kMant | (static_cast<u64>(mant) & Traits<Half>::kMantMask)));
    }
    return round_pack<To>(env, sign, n.exp, n.mant, mode, false);
  } else {
    const bool flush = (env.fpcr & kFpcrFz) != 0;
    return round_pack<To>(env, sign, n.exp, n.mant, mode, flush);
  }
}

/// FPRoundInt. `exact` raises Inexact.
template <class Fmt>
typename Fmt::Bits round_integral(Env& env, typename Fmt::Bits b, Round mode, bool exact) {
  if (is_nan<Fmt>(b)) return nan_result<Fmt>(env, b);
  b = flush_input<Fmt>(env, b);
  if (is_inf<Fmt>(b)) return b;
  const Number n = unpack<Fmt>(b);
  if (n.mant == 0 || n.exp >= 0) return b;
  bool inexact = false;
  const u128 i = shift_round(n.mant, static_cast<unsigned>(-n.exp), n.sign, mode, inexact);
  if (inexact && exact) env.raised |= host::kInexact;
  if (i == 0) return signed_bits<Fmt>(n.sign, 0);
  return round_pack<Fmt>(env, n.sign, 0, i);
}

/// FRINT32/64: FPRoundIntN; what does not fit gives the most negative integer.
template <class Fmt>
typename Fmt::Bits round_integral_n(Env& env, typename Fmt::Bits b, Round mode, unsigned bits) {
  const auto overflow = [&] {
    env.raised |= host::kInvalid;
    const u64 e = static_cast<u64>(Traits<Fmt>::kBias) + bits - 1;
    return signed_bits<Fmt>(true, static_cast<typename Fmt::Bits>(e << Fmt::kMant));
  };
  if ((b & Traits<Fmt>::kInf) == Traits<Fmt>::kInf) return overflow();
  b = flush_input<Fmt>(env, b);
  const Number n = unpack<Fmt>(b);
  if (n.mant == 0) return b;
  if (n.exp + static_cast<int>(bit_length(n.mant)) > 100) return overflow();
  bool inexact = false;
  const u128 i = n.exp >= 0 ? u128{n.mant} << n.exp : shift_round(n.mant, static_cast<unsigned>(-n.exp), n.sign, mode, inexact);
  if (i > (u128{1} << (bits - 1)) - !n.sign) return overflow();
  if (inexact) env.raised |= host::kInexact;
  if (i == 0) return signed_bits<Fmt>(n.sign, 0);
  return round_pack<Fmt>(env, n.sign, 0, i);
}

/// FPToFixed: saturating; NaN gives 0.
template <class Fmt>
u64 to_fixed(Env& env, typename Fmt::Bits b, unsigned fraction_bits, Round mode, unsigned bits, bool is_unsigned) {
  if (is_nan<Fmt>(b)) {
    env.raised |= host::kInvalid;
    return 0;
  }
  b = flush_input<Fmt>(env, b);
  const bool sign = sign_of<Fmt>(b);
  const u128 limit = is_unsigned ? (sign ? 0 : mask_low(bits)) : mask_low(bits - 1) + u128{sign};
  u128 value = 0;
  bool inexact = false, fits = false;
  if (!is_inf<Fmt>(b)) {
    const Number n = unpack<Fmt>(b);
    if (n.mant == 0) return 0;
    const int exp = n.exp + static_cast<int>(fraction_bits);
    if (exp + static_cast<int>(bit_length(n.mant)) <= 65) {
      value = exp >= 0 ? u128{n.mant} << exp : shift_round(n.mant, static_cast<unsigned>(-exp), sign, mode, inexact);
      fits = value <= limit;
    }
  }
  if (!fits) {
    env.raised |= host::kInvalid;
    value = limit;
  } else if (inexact) {
    env.raised |= host::kInexact;
  }
  return (sign ? -static_cast<u64>(value) : static_cast<u64>(value)) & mask_low(bits);
}
/// FixedToFP.
template <class Fmt>
typename Fmt::Bits from_fixed(Env& env, u64 value, unsigned fraction_bits, unsigned bits, bool is_unsigned) {
  const bool sign = !is_unsigned && bit(value, bits - 1);
  value &= mask_low(bits);
  if (value == 0) return 0;
  const u64 mag = sign ? (-value & mask_low(bits)) : value;
  return round_pack<Fmt>(env, sign, -static_cast<int>(fraction_bits), mag);
}

}  // namespace kiln::arm::soft
