#include "frontends/arm/simd_helpers.h"

#include <immintrin.h>

#include <limits>
#include <type_traits>

#include "frontends/arm/fp_helpers_estimate.h"

namespace kiln::arm {
namespace {

using ir::CpuState;

template <class T>
struct Lanes {
  static constexpr unsigned kCount = 16 / sizeof(T);
  T e[kCount];
};
template <class T>
Lanes<T> lanes(__m128i v) {
  return std::bit_cast<Lanes<T>>(v);
}
template <class T>
__m128i vector(const Lanes<T>& l) {
  return std::bit_cast<__m128i>(l);
}

template <class T>
using Unsigned = std::make_unsigned_t<T>;
template <class T>
using Signed = std::make_signed_t<T>;
/// Wide enough for the sum, doubled product or left shift of T; as narrow as that allows, for the compiler to use vectors.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 8, s128, std::conditional_t<sizeof(T) == 4, s64, s32>>;
template <class T>
inline constexpr unsigned kBits = 8 * sizeof(T);

template <class T, class W>
T clamp(W v, bool& q) {
  constexpr W kMin = static_cast<W>(std::numeric_limits<T>::min()), kMax = static_cast<W>(std::numeric_limits<T>::max());
  const W clamped = v < kMin ? kMin : v > kMax ? kMax : v;
  q |= clamped != v;
  return static_cast<T>(clamped);
}

void set_qc(CpuState* state, bool q) {
  if (q) static_cast<A64State*>(state)->fpsr |= u64{1} << 27;
}

// --- functors: T is the lane, signed or unsigned as the instruction says ------------------------------------------------
struct QAdd {
  template <class T>
  static T apply(T a, T b, bool& q) {
    return clamp<T>(static_cast<Wide<T>>(a) + b, q);
  }
};
struct QSub {
  template <class T>
  static T apply(T a, T b, bool& q) {
    return clamp<T>(static_cast<Wide<T>>(a) - b, q);
  }
};
/// Vd + Vn with the other's signedness: SUQADD has T signed, USQADD unsigned.
struct MixedQAdd {
  template <class T>
  static T apply(T d, T n, bool& q) {
    using Other = std::conditional_t<std::is_signed_v<T>, Unsigned<T>, Signed<T>>;
    return clamp<T>(static_cast<Wide<T>>(d) + static_cast<Other>(n), q);
  }
};
/// Shift left by the signed low byte of b; negative shifts right.
template <bool kRound, bool kSaturate>
struct Shl {
  template <class T>
  static T apply(T a, T b, bool& q) {
    const int shift = static_cast<s8>(b);
    if (shift < 0) {
      // Counts beyond bits + 1 give what bits + 1 gives.
      const unsigned n = std::min<unsigned>(static_cast<unsigned>(-shift), kBits<T> + 1);
      return static_cast<T>((static_cast<Wide<T>>(a) + (kRound ? Wide<T>{1} << (n - 1) : 0)) >> n);
    }
    if (shift >= static_cast<int>(kBits<T>)) {
      if (!kSaturate || a == 0) return 0;
      q = true;
      return a < 0 ? std::numeric_limits<T>::min() : std::numeric_limits<T>::max();
    }
    const Wide<T> wide = static_cast<Wide<T>>(a) << shift;
    return kSaturate ? clamp<T>(wide, q) : static_cast<T>(wide);
  }
};
struct QShlU {  // signed lanes to unsigned
  template <class T>
  static T apply(T a, T b, bool& q) {
    return static_cast<T>(
        clamp<Unsigned<T>>(static_cast<s128>(static_cast<u128>(static_cast<s128>(a)) << (b & (kBits<T> - 1))), q));
  }
};
template <bool kRound>
struct QDMulH {
  template <class T>
  static T apply(T a, T b, bool& q) {
    const s64 product = static_cast<s64>(a) * b;
    return clamp<T>((product + (kRound ? s64{1} << (kBits<T> - 2) : 0)) >> (kBits<T> - 1), q);
  }
};
template <int kSign>
struct QRDMlaH {
  template <class T>
  static T apply(T d, T a, T b, bool& q) {
    const s128 product = static_cast<s128>(a) * b * 2 * kSign;
    return clamp<T>(((static_cast<s128>(d) << kBits<T>)+product + (s128{1} << (kBits<T> - 1))) >> kBits<T>, q);
  }
};
struct QDMull {
  template <class T>
  static T apply(T a, T b, bool& q) {
    return clamp<T>(static_cast<Wide<T>>(a) * b * 2, q);
  }
};
template <int kSign>
struct QDMlal {  // saturates twice: the doubled product, then the sum
  template <class T>
  static T apply(T d, T a, T b, bool& q) {
    return clamp<T>(static_cast<Wide<T>>(d) + static_cast<Wide<T>>(QDMull::apply(a, b, q)) * kSign, q);
  }
};
struct QAbs {
  template <class T>
  static T apply(T a, bool& q) {
    return clamp<T>(a < 0 ? -static_cast<Wide<T>>(a) : static_cast<Wide<T>>(a), q);
  }
};
struct QNeg {
  template <class T>
  static T apply(T a, bool& q) {
    return clamp<T>(-static_cast<Wide<T>>(a), q);
  }
};
struct CountZeros {
  template <class T>
  static T apply(T a, bool&) {
    return static_cast<T>(std::countl_zero(static_cast<Unsigned<T>>(a)));
  }
};
struct CountSigns {
  template <class T>
  static T apply(T a, bool&) {
    const auto u = static_cast<Unsigned<T>>(a ^ static_cast<T>(a >> (kBits<T> - 1)));
    return static_cast<T>(std::countl_zero(u) - 1);
  }
};
struct PolyMul {  // low half of the carry-less product
  template <class T>
  static T apply(T a, T b, bool&) {
    T r = 0;
    for (unsigned i = 0; i < 8; ++i) r = static_cast<T>(r ^ ((b >> i) & 1 ? static_cast<T>(a << i) : T{0}));
    return r;
  }
};
struct ReverseBits {
  template <class T>
  static T apply(T a, bool&) {
    u32 v = a;
    v = (v & 0x55) << 1 | (v >> 1 & 0x55);
    v = (v & 0x33) << 2 | (v >> 2 & 0x33);
    return static_cast<T>((v & 0x0f) << 4 | v >> 4);
  }
};
struct RecipEstimate {
  template <class T>
  static T apply(T a, bool&) {
    if (!(a >> 31)) return ~T{0};
    return recip_estimate(a >> 23) << 23;
  }
};
struct RecipSqrtEstimate {
  template <class T>
  static T apply(T a, bool&) {
    if (!(a >> 30)) return ~T{0};
    return recip_sqrt_estimate(a >> 23) << 23;
  }
};

// --- the functions that generated code calls ------------------------------------------------------------------------------
template <class Fn, class T>
__m128i unary(CpuState* state, __m128i n) {
  const auto a = lanes<T>(n);
  Lanes<T> r;
  bool q = false;
  for (unsigned i = 0; i < r.kCount; ++i) r.e[i] = Fn::template apply<T>(a.e[i], q);
  set_qc(state, q);
  return vector(r);
}
template <class Fn, class T>
__m128i binary(CpuState* state, __m128i n, __m128i m) {
  const auto a = lanes<T>(n), b = lanes<T>(m);
  Lanes<T> r;
  bool q = false;
  for (unsigned i = 0; i < r.kCount; ++i) r.e[i] = Fn::template apply<T>(a.e[i], b.e[i], q);
  set_qc(state, q);
  return vector(r);
}
template <class Fn, class T>
__m128i ternary(CpuState* state, __m128i d, __m128i n, __m128i m) {
  const auto c = lanes<T>(d), a = lanes<T>(n), b = lanes<T>(m);
  Lanes<T> r;
  bool q = false;
  for (unsigned i = 0; i < r.kCount; ++i) r.e[i] = Fn::template apply<T>(c.e[i], a.e[i], b.e[i], q);
  set_qc(state, q);
  return vector(r);
}
/// Lanes of From shifted right by 0..32 and saturated to To, in the lower half; the upper is zero.
template <class From, class To, bool kRound>
__m128i narrow(CpuState* state, u64 shift, __m128i n) {
  const auto a = lanes<From>(n);
  Lanes<To> r{};
  bool q = false;
  const Wide<From> rounding = kRound && shift ? Wide<From>{1} << (shift - 1) : 0;
  for (unsigned i = 0; i < a.kCount; ++i) r.e[i] = clamp<To>((static_cast<Wide<From>>(a.e[i]) + rounding) >> shift, q);
  set_qc(state, q);
  return vector(r);
}
/// Dot products of four bytes each, added to 32-bit lanes.
template <class A, class B>
__m128i dot(CpuState*, __m128i d, __m128i n, __m128i m) {
  auto r = lanes<u32>(d);
  const auto a = lanes<A>(n);
  const auto b = lanes<B>(m);
  for (unsigned i = 0; i < 16; ++i) r.e[i / 4] += static_cast<u32>(static_cast<s32>(a.e[i]) * b.e[i]);
  return vector(r);
}
/// 2x8 times 8x2 matrix of bytes, added to a 2x2 matrix of words.
template <class A, class B>
__m128i matrix(CpuState*, __m128i d, __m128i n, __m128i m) {
  auto r = lanes<u32>(d);
  const auto a = lanes<A>(n);
  const auto b = lanes<B>(m);
  for (unsigned i = 0; i < 2; ++i)
    for (unsigned j = 0; j < 2; ++j)
      for (unsigned k = 0; k < 8; ++k) r.e[2 * i + j] += static_cast<u32>(static_cast<s32>(a.e[8 * i + k]) * b.e[8 * j + k]);
  return vector(r);
}
u64 carryless(u64 a, u64 b, u64& high) {
  u128 r = 0;
  for (unsigned i = 0; i < 64; ++i)
    if (bit(b, i)) r ^= static_cast<u128>(a) << i;
  high = static_cast<u64>(r >> 64);
  return static_cast<u64>(r);
}
__m128i pmull64(CpuState*, __m128i n, __m128i m) {
  u64 high;
  const u64 low = carryless(lanes<u64>(n).e[0], lanes<u64>(m).e[0], high);
  return vector(Lanes<u64>{{low, high}});
}
__attribute__((target("pclmul"))) __m128i pmull64_host(CpuState*, __m128i n, __m128i m) {
  return _mm_clmulepi64_si128(n, m, 0);
}

// --- the table --------------------------------------------------------------------------------------------------------
using Table = std::array<std::array<ir::Helper, 4>, static_cast<std::size_t>(SimdOp::kCount)>;
enum class Shape { Unary, Binary, Ternary, Narrow };

struct Maker {
  Table table{};

  void add(SimdOp op, Width w, const char* name, Shape shape, bool saturates, const void* function) {
    // Names stay unique per lane width, since a listing shows nothing else of a helper. They live as long as the table.
    auto* text = new std::string(std::string(name) + "_" + "bhsd"[static_cast<unsigned>(w)]);
    ir::Helper& h = table[static_cast<std::size_t>(op)][static_cast<unsigned>(w)];
    h.name = text->c_str();
    h.function = function;
    h.result = Type::V128;
    h.args = {};
    unsigned i = 0;
    if (shape == Shape::Narrow) h.args[i++] = Type::I64;
    const unsigned vectors = shape == Shape::Ternary ? 3 : shape == Shape::Binary ? 2 : 1;
    while (vectors + (shape == Shape::Narrow) > i) h.args[i++] = Type::V128;
    h.effects = saturates ? ir::WRITES_MEM : ir::PURE;
  }
  template <class Fn, class T>
  void one(SimdOp op, const char* name, Shape shape, bool saturates) {
    constexpr Width w = static_cast<Width>(std::countr_zero(sizeof(T)));
    const void* f = nullptr;
    if constexpr (requires(T t, bool& q) { Fn::template apply<T>(t, q); }) f = reinterpret_cast<const void*>(&unary<Fn, T>);
    else if constexpr (requires(T t, bool& q) { Fn::template apply<T>(t, t, q); })
      f = reinterpret_cast<const void*>(&binary<Fn, T>);
    else f = reinterpret_cast<const void*>(&ternary<Fn, T>);
    add(op, w, name, shape, saturates, f);
  }
  template <class Fn, class... Ts>
  void lanewise(SimdOp op, const char* name, Shape shape, bool saturates) {
    (one<Fn, Ts>(op, name, shape, saturates), ...);
  }
  template <bool kRound>
  void narrowing(SimdOp s, SimdOp u, SimdOp su, const char* sn, const char* un, const char* sun) {
    add(s, Width::B1, sn, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<s16, s8, kRound>));
    add(s, Width::B2, sn, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<s32, s16, kRound>));
    add(s, Width::B4, sn, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<s64, s32, kRound>));
    add(u, Width::B1, un, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<u16, u8, kRound>));
    add(u, Width::B2, un, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<u32, u16, kRound>));
    add(u, Width::B4, un, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<u64, u32, kRound>));
    add(su, Width::B1, sun, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<s16, u8, kRound>));
    add(su, Width::B2, sun, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<s32, u16, kRound>));
    add(su, Width::B4, sun, Shape::Narrow, true, reinterpret_cast<const void*>(&narrow<s64, u32, kRound>));
  }

  Maker() {
    using enum SimdOp;
    lanewise<QAdd, s8, s16, s32, s64>(SQAdd, "sqadd", Shape::Binary, true);
    lanewise<QAdd, u8, u16, u32, u64>(UQAdd, "uqadd", Shape::Binary, true);
    lanewise<QSub, s8, s16, s32, s64>(SQSub, "sqsub", Shape::Binary, true);
    lanewise<QSub, u8, u16, u32, u64>(UQSub, "uqsub", Shape::Binary, true);
    lanewise<Shl<false, false>, s8, s16, s32, s64>(SShl, "sshl", Shape::Binary, false);
    lanewise<Shl<false, false>, u8, u16, u32, u64>(UShl, "ushl", Shape::Binary, false);
    lanewise<Shl<true, false>, s8, s16, s32, s64>(SRShl, "srshl", Shape::Binary, false);
    lanewise<Shl<true, false>, u8, u16, u32, u64>(URShl, "urshl", Shape::Binary, false);
    lanewise<Shl<false, true>, s8, s16, s32, s64>(SQShl, "sqshl", Shape::Binary, true);
    lanewise<Shl<false, true>, u8, u16, u32, u64>(UQShl, "uqshl", Shape::Binary, true);
    lanewise<Shl<true, true>, s8, s16, s32, s64>(SQRShl, "sqrshl", Shape::Binary, true);
    lanewise<Shl<true, true>, u8, u16, u32, u64>(UQRShl, "uqrshl", Shape::Binary, true);
    lanewise<QShlU, s8, s16, s32, s64>(SQShlU, "sqshlu", Shape::Binary, true);
    lanewise<QDMulH<false>, s16, s32>(SQDMulH, "sqdmulh", Shape::Binary, true);
    lanewise<QDMulH<true>, s16, s32>(SQRDMulH, "sqrdmulh", Shape::Binary, true);
    lanewise<MixedQAdd, s8, s16, s32, s64>(SUQAdd, "suqadd", Shape::Binary, true);
    lanewise<MixedQAdd, u8, u16, u32, u64>(USQAdd, "usqadd", Shape::Binary, true);
    lanewise<QDMull, s32, s64>(SQDMull, "sqdmull", Shape::Binary, true);
    lanewise<PolyMul, u8>(PMul, "pmul", Shape::Binary, false);
    lanewise<PolyMul, u16>(PMull, "pmull", Shape::Binary, false);
    add(PMull64, Width::B8, "pmull64", Shape::Binary, false,
        __builtin_cpu_supports("pclmul") ? reinterpret_cast<const void*>(&pmull64_host)
                                         : reinterpret_cast<const void*>(&pmull64));
    lanewise<QAbs, s8, s16, s32, s64>(SQAbs, "sqabs", Shape::Unary, true);
    lanewise<QNeg, s8, s16, s32, s64>(SQNeg, "sqneg", Shape::Unary, true);
    lanewise<CountZeros, u8, u16, u32>(Clz, "clz", Shape::Unary, false);
    lanewise<CountSigns, s8, s16, s32>(Cls, "cls", Shape::Unary, false);
    lanewise<ReverseBits, u8>(Rbit, "rbit", Shape::Unary, false);
    lanewise<RecipEstimate, u32>(URecpE, "urecpe", Shape::Unary, false);
    lanewise<RecipSqrtEstimate, u32>(URsqrtE, "ursqrte", Shape::Unary, false);
    lanewise<QRDMlaH<1>, s16, s32>(SQRDMlaH, "sqrdmlah", Shape::Ternary, true);
    lanewise<QRDMlaH<-1>, s16, s32>(SQRDMlsH, "sqrdmlsh", Shape::Ternary, true);
    lanewise<QDMlal<1>, s32, s64>(SQDMlal, "sqdmlal", Shape::Ternary, true);
    lanewise<QDMlal<-1>, s32, s64>(SQDMlsl, "sqdmlsl", Shape::Ternary, true);
    add(SDot, Width::B4, "sdot", Shape::Ternary, false, reinterpret_cast<const void*>(&dot<s8, s8>));
    add(UDot, Width::B4, "udot", Shape::Ternary, false, reinterpret_cast<const void*>(&dot<u8, u8>));
    add(USDot, Width::B4, "usdot", Shape::Ternary, false, reinterpret_cast<const void*>(&dot<u8, s8>));
    add(SUDot, Width::B4, "sudot", Shape::Ternary, false, reinterpret_cast<const void*>(&dot<s8, u8>));
    add(SMmla, Width::B4, "smmla", Shape::Ternary, false, reinterpret_cast<const void*>(&matrix<s8, s8>));
    add(UMmla, Width::B4, "ummla", Shape::Ternary, false, reinterpret_cast<const void*>(&matrix<u8, u8>));
    add(USMmla, Width::B4, "usmmla", Shape::Ternary, false, reinterpret_cast<const void*>(&matrix<u8, s8>));
    narrowing<false>(SQShrn, UQShrn, SQShrun, "sqshrn", "uqshrn", "sqshrun");
    narrowing<true>(SQRShrn, UQRShrn, SQRShrun, "sqrshrn", "uqrshrn", "sqrshrun");
  }
};

}  // namespace

const ir::Helper& simd_helper(SimdOp op, Width w) {
  static const Maker maker;
  return maker.table[static_cast<std::size_t>(op)][static_cast<unsigned>(w)];
}

}  // namespace kiln::arm
