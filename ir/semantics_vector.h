// What the v_* ops mean (not the floating-point ones): see semantics.h. A Vec is what a host vector register holds; L is the
// unsigned lane type (u8, u16, u32, u64). Written with the compiler's vector types so that a stencil of one becomes one or a
// few SSE/AVX instructions; ops with an immediate work for an immediate known only at run time, without a stack frame.
#pragma once
#include <limits>
#include <type_traits>
#include <utility>

#include "ir/types.h"

namespace kiln::ir {

using Vec = long long __attribute__((vector_size(16)));  // the same type as __m128i
template <class L>
using Lanes = L __attribute__((vector_size(16)));
template <class L>
using HalfLanes = L __attribute__((vector_size(8)));
template <class L>
inline constexpr unsigned kLanes = 16 / sizeof(L);
using Bytes = Lanes<u8>;
inline constexpr Bytes kIota = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

inline Vec to_vec(V128 v) { return __builtin_bit_cast(Vec, v); }
inline V128 to_v128(Vec v) { return __builtin_bit_cast(V128, v); }

template <class L>
using WiderLane = std::conditional_t<sizeof(L) == 1, u16, std::conditional_t<sizeof(L) == 2, u32, u64>>;

inline Bytes splat_byte(u64 value) {
  const u8 b = static_cast<u8>(value);
  return Bytes{b, b, b, b, b, b, b, b, b, b, b, b, b, b, b, b};
}
/// a[index & 15], 0 where index has bit 7 set.
inline Bytes shuffle_bytes(Bytes a, Bytes index) {
#if defined(__SSSE3__)
  using Chars = char __attribute__((vector_size(16)));
  return (Bytes)__builtin_ia32_pshufb128((Chars)a, (Chars)index);
#else
  Bytes r{};
  for (unsigned i = 0; i < 16; ++i) r[i] = (index[i] & 128) ? 0 : a[index[i] & 15];
  return r;
#endif
}

// --- bitwise ---------------------------------------------------------------------------------------------------------
inline Vec op_v_low64(Vec a) { return Vec{a[0], 0}; }
inline Vec op_v_and(Vec a, Vec b) { return a & b; }
inline Vec op_v_or(Vec a, Vec b) { return a | b; }
inline Vec op_v_xor(Vec a, Vec b) { return a ^ b; }
inline Vec op_v_andn(Vec a, Vec b) { return a & ~b; }
inline Vec op_v_not(Vec a) { return ~a; }
inline Vec op_v_bsl(Vec a, Vec b, Vec c) { return (a & b) | (~a & c); }

// --- lane-wise arithmetic --------------------------------------------------------------------------------------------
template <class L>
Vec op_v_add(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a + (Lanes<L>)b);
}
template <class L>
Vec op_v_sub(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a - (Lanes<L>)b);
}
template <class L>
Vec op_v_mul(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a * (Lanes<L>)b);
}
template <class L>
Vec op_v_neg(Vec a) {
  return (Vec)(Lanes<L>{} - (Lanes<L>)a);
}
template <class L>
Vec op_v_abs(Vec a) {
  const auto sign = (Lanes<L>)((Lanes<std::make_signed_t<L>>)a >> static_cast<std::make_signed_t<L>>(sizeof(L) * 8 - 1));
  return (Vec)(((Lanes<L>)a ^ sign) - sign);
}
template <class L>
Vec op_v_shl(Vec a, u64 imm) {
  return imm >= sizeof(L) * 8 ? Vec{} : (Vec)((Lanes<L>)a << static_cast<L>(imm));
}
template <class L>
Vec op_v_lshr(Vec a, u64 imm) {
  return imm >= sizeof(L) * 8 ? Vec{} : (Vec)((Lanes<L>)a >> static_cast<L>(imm));
}
template <class L>
Vec op_v_ashr(Vec a, u64 imm) {
  using S = std::make_signed_t<L>;
  const u64 count = imm >= sizeof(L) * 8 ? sizeof(L) * 8 - 1 : imm;
  return (Vec)((Lanes<S>)a >> static_cast<S>(count));
}
template <class L>
Vec op_v_cmpeq(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a == (Lanes<L>)b);
}
template <class L>
Vec op_v_cmpgt_s(Vec a, Vec b) {
  using S = std::make_signed_t<L>;
  return (Vec)((Lanes<S>)a > (Lanes<S>)b);
}
template <class L>
Vec op_v_cmpge_s(Vec a, Vec b) {
  using S = std::make_signed_t<L>;
  return (Vec)((Lanes<S>)a >= (Lanes<S>)b);
}
template <class L>
Vec op_v_cmpgt_u(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a > (Lanes<L>)b);
}
template <class L>
Vec op_v_cmpge_u(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a >= (Lanes<L>)b);
}
template <class L>
Vec op_v_min_s(Vec a, Vec b) {
  using S = std::make_signed_t<L>;
  return (Vec)((Lanes<S>)a < (Lanes<S>)b ? (Lanes<S>)a : (Lanes<S>)b);
}
template <class L>
Vec op_v_max_s(Vec a, Vec b) {
  using S = std::make_signed_t<L>;
  return (Vec)((Lanes<S>)a > (Lanes<S>)b ? (Lanes<S>)a : (Lanes<S>)b);
}
template <class L>
Vec op_v_min_u(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a < (Lanes<L>)b ? (Lanes<L>)a : (Lanes<L>)b);
}
template <class L>
Vec op_v_max_u(Vec a, Vec b) {
  return (Vec)((Lanes<L>)a > (Lanes<L>)b ? (Lanes<L>)a : (Lanes<L>)b);
}

// --- permutations ----------------------------------------------------------------------------------------------------
enum class Permute { ZipLow, ZipHigh, UzpEven, UzpOdd, TrnEven, TrnOdd };
constexpr int permute_index(Permute p, int n, int i) {
  switch (p) {
    case Permute::ZipLow: return i / 2 + (i % 2) * n;
    case Permute::ZipHigh: return n / 2 + i / 2 + (i % 2) * n;
    case Permute::UzpEven: return 2 * i;
    case Permute::UzpOdd: return 2 * i + 1;
    case Permute::TrnEven: return (i & ~1) + (i % 2) * n;
    case Permute::TrnOdd: return (i | 1) + (i % 2) * n;
  }
  return 0;
}
template <class L, Permute P, int... I>
Vec permute(Vec a, Vec b, std::integer_sequence<int, I...>) {
  return (Vec)__builtin_shufflevector((Lanes<L>)a, (Lanes<L>)b, permute_index(P, kLanes<L>, I)...);
}
template <class L, Permute P>
Vec permute(Vec a, Vec b) {
  return permute<L, P>(a, b, std::make_integer_sequence<int, static_cast<int>(kLanes<L>)>{});
}
template <class L>
Vec op_v_zip_lo(Vec a, Vec b) {
  return permute<L, Permute::ZipLow>(a, b);
}
template <class L>
Vec op_v_zip_hi(Vec a, Vec b) {
  return permute<L, Permute::ZipHigh>(a, b);
}
template <class L>
Vec op_v_uzp_even(Vec a, Vec b) {
  return permute<L, Permute::UzpEven>(a, b);
}
template <class L>
Vec op_v_uzp_odd(Vec a, Vec b) {
  return permute<L, Permute::UzpOdd>(a, b);
}
template <class L>
Vec op_v_trn_even(Vec a, Vec b) {
  return permute<L, Permute::TrnEven>(a, b);
}
template <class L>
Vec op_v_trn_odd(Vec a, Vec b) {
  return permute<L, Permute::TrnOdd>(a, b);
}
inline Vec op_v_tbl(Vec a, Vec b) {
  const Bytes index = (Bytes)b;
  return (Vec)(shuffle_bytes((Bytes)a, index & splat_byte(15)) & (Bytes)(index < splat_byte(16)));
}
inline Vec op_v_ext(Vec a, Vec b, u64 imm) {
  const Bytes index = kIota + splat_byte(imm);
  return op_v_tbl(a, (Vec)index) | op_v_tbl(b, (Vec)(index - splat_byte(16)));
}
/// Lane i of a group is lane (group - 1 - i): the lane number's bits flip, the byte's place in the lane stays.
template <class L>
Vec op_v_rev(Vec a, u64 imm) {
  return (Vec)shuffle_bytes((Bytes)a, kIota ^ splat_byte((imm - sizeof(L)) & 15));
}
template <class L>
Vec op_v_dup(u64 a) {
  Lanes<L> r{};
  r += static_cast<L>(a);
  return (Vec)r;
}
template <class L>
Vec op_v_dup_lane(Vec a, u64 imm) {
  return (Vec)shuffle_bytes((Bytes)a, (kIota & splat_byte(sizeof(L) - 1)) + splat_byte((imm * sizeof(L)) & 15));
}
template <class L>
u64 op_v_extract(Vec a, u64 imm) {
  return static_cast<L>(((Lanes<u64>)shuffle_bytes((Bytes)a, kIota + splat_byte((imm * sizeof(L)) & 15)))[0]);
}
/// All ones in lane imm.
template <class L>
Vec lane_mask(u64 imm) {
  return (Vec)((kIota & splat_byte(16 - sizeof(L))) == splat_byte((imm * sizeof(L)) & 15));
}
template <class L>
Vec op_v_insert(Vec a, u64 b, u64 imm) {
  return op_v_bsl(lane_mask<L>(imm), op_v_dup<L>(b), a);
}
template <class L>
Vec op_v_insert_lane(Vec a, Vec b, u64 imm, u64 imm2) {
  return op_v_bsl(lane_mask<L>(imm), op_v_dup_lane<L>(b, imm2), a);
}

// --- change of width (L: the narrow lane; u8, u16 or u32) --------------------------------------------------------------
template <class From, class To>
Vec widen(Vec a, bool high) {
  const Lanes<u64> halves = (Lanes<u64>)a;
  const u64 half = high ? halves[1] : halves[0];
  return (Vec) __builtin_convertvector(__builtin_bit_cast(HalfLanes<From>, half), Lanes<To>);
}
template <class L>
Vec op_v_widen_lo_s(Vec a) {
  return widen<std::make_signed_t<L>, std::make_signed_t<WiderLane<L>>>(a, false);
}
template <class L>
Vec op_v_widen_lo_u(Vec a) {
  return widen<L, WiderLane<L>>(a, false);
}
template <class L>
Vec op_v_widen_hi_s(Vec a) {
  return widen<std::make_signed_t<L>, std::make_signed_t<WiderLane<L>>>(a, true);
}
template <class L>
Vec op_v_widen_hi_u(Vec a) {
  return widen<L, WiderLane<L>>(a, true);
}
template <class L>
Vec op_v_narrow(Vec a) {
  const auto half = __builtin_convertvector((Lanes<WiderLane<L>>)a, HalfLanes<L>);
  return Vec{__builtin_bit_cast(long long, half), 0};
}
inline Vec op_v_popcnt8(Vec a) {
  const Bytes count = {0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4};
  const Bytes low = (Bytes)a & splat_byte(15), high = ((Bytes)a >> 4) & splat_byte(15);
  return (Vec)(shuffle_bytes(count, low) + shuffle_bytes(count, high));
}

// --- with saturation, high halves, sums of neighbours --------------------------------------------------------------------
/// fn of each lane, as the wide signed type's values: results are cut to the lane.
template <class L, class Fn>
Vec map_lanes(Vec a, Vec b, Fn&& fn) {
  const auto x = (Lanes<L>)a, y = (Lanes<L>)b;
  Lanes<L> r{};
  for (unsigned i = 0; i < kLanes<L>; ++i) r[i] = static_cast<L>(fn(x[i], y[i]));
  return (Vec)r;
}
template <class To>
constexpr s64 saturate(s64 value) {
  constexpr s64 kMin = std::numeric_limits<To>::min(), kMax = std::numeric_limits<To>::max();
  return value < kMin ? kMin : value > kMax ? kMax : value;
}
template <class L>
u64 op_v_movemask(Vec a) {
  const auto x = (Lanes<L>)a;
  u64 r = 0;
  for (unsigned i = 0; i < kLanes<L>; ++i) r |= static_cast<u64>(x[i] >> (sizeof(L) * 8 - 1)) << i;
  return r;
}
/// To: the result's lane, signed or unsigned.
template <class To>
Vec pack(Vec a, Vec b) {
  using From = std::make_signed_t<WiderLane<std::make_unsigned_t<To>>>;
  const auto x = (Lanes<From>)a, y = (Lanes<From>)b;
  Lanes<To> r{};
  constexpr unsigned kHalf = kLanes<From>;
  for (unsigned i = 0; i < kHalf; ++i)
    r[i] = static_cast<To>(saturate<To>(x[i])), r[kHalf + i] = static_cast<To>(saturate<To>(y[i]));
  return (Vec)r;
}
template <class L>
Vec op_v_pack_s(Vec a, Vec b) {
  return pack<std::make_signed_t<L>>(a, b);
}
template <class L>
Vec op_v_pack_u(Vec a, Vec b) {
  return pack<L>(a, b);
}
template <class L>
Vec op_v_add_sat_s(Vec a, Vec b) {
  using S = std::make_signed_t<L>;
  return map_lanes<S>(a, b, [](s64 x, s64 y) { return saturate<S>(x + y); });
}
template <class L>
Vec op_v_add_sat_u(Vec a, Vec b) {
  return map_lanes<L>(a, b, [](s64 x, s64 y) { return saturate<L>(x + y); });
}
template <class L>
Vec op_v_sub_sat_s(Vec a, Vec b) {
  using S = std::make_signed_t<L>;
  return map_lanes<S>(a, b, [](s64 x, s64 y) { return saturate<S>(x - y); });
}
template <class L>
Vec op_v_sub_sat_u(Vec a, Vec b) {
  return map_lanes<L>(a, b, [](s64 x, s64 y) { return saturate<L>(x - y); });
}
template <class L>
Vec op_v_avg_u(Vec a, Vec b) {
  return map_lanes<L>(a, b, [](u64 x, u64 y) { return (x + y + 1) >> 1; });
}
inline Vec op_v_mulhi_s(Vec a, Vec b) {
  return map_lanes<s16>(a, b, [](s64 x, s64 y) { return (x * y) >> 16; });
}
inline Vec op_v_mulhi_u(Vec a, Vec b) {
  return map_lanes<u16>(a, b, [](u64 x, u64 y) { return (x * y) >> 16; });
}
inline Vec op_v_mulhi_round(Vec a, Vec b) {
  return map_lanes<s16>(a, b, [](s64 x, s64 y) { return (x * y + 0x4000) >> 15; });
}
inline Vec op_v_mul_even_u(Vec a, Vec b) {
  return map_lanes<u64>(a, b, [](u64 x, u64 y) { return (x & 0xffffffff) * (y & 0xffffffff); });
}
inline Vec op_v_mul_even_s(Vec a, Vec b) {
  return map_lanes<u64>(a, b, [](u64 x, u64 y) { return s64{static_cast<s32>(x)} * static_cast<s32>(y); });
}
inline Vec op_v_madd_s(Vec a, Vec b) {
  return map_lanes<u32>(a, b, [](u64 x, u64 y) {
    const auto part = [&](unsigned shift) { return s64{static_cast<s16>(x >> shift)} * static_cast<s16>(y >> shift); };
    return part(0) + part(16);
  });
}
inline Vec op_v_madd_us(Vec a, Vec b) {
  return map_lanes<u16>(a, b, [](u64 x, u64 y) {
    const auto part = [&](unsigned shift) { return s64{static_cast<u8>(x >> shift)} * static_cast<s8>(y >> shift); };
    return saturate<s16>(part(0) + part(8));
  });
}
inline Vec op_v_sad_u(Vec a, Vec b) {
  return map_lanes<u64>(a, b, [](u64 x, u64 y) {
    u64 sum = 0;
    for (unsigned shift = 0; shift < 64; shift += 8) {
      const int difference = static_cast<u8>(x >> shift) - static_cast<u8>(y >> shift);
      sum += static_cast<u64>(difference < 0 ? -difference : difference);
    }
    return sum;
  });
}
template <class L>
Vec op_v_sign(Vec a, Vec b) {
  using S = std::make_signed_t<L>;
  return map_lanes<S>(a, b, [](s64 x, s64 y) { return y < 0 ? -x : y == 0 ? 0 : x; });
}

// --- shifts by vectors -----------------------------------------------------------------------------------------------------
template <class L>
Vec op_v_shl_by(Vec a, Vec b) {
  return op_v_shl<L>(a, static_cast<u64>(b[0]));
}
template <class L>
Vec op_v_lshr_by(Vec a, Vec b) {
  return op_v_lshr<L>(a, static_cast<u64>(b[0]));
}
template <class L>
Vec op_v_ashr_by(Vec a, Vec b) {
  return op_v_ashr<L>(a, static_cast<u64>(b[0]));
}
template <class L>
Vec op_v_shl_each(Vec a, Vec b) {
  return map_lanes<L>(a, b, [](L x, L y) { return y >= sizeof(L) * 8 ? L{0} : static_cast<L>(x << y); });
}
template <class L>
Vec op_v_lshr_each(Vec a, Vec b) {
  return map_lanes<L>(a, b, [](L x, L y) { return y >= sizeof(L) * 8 ? L{0} : static_cast<L>(x >> y); });
}
inline Vec op_v_ashr_each(Vec a, Vec b) {
  return map_lanes<u32>(a, b, [](u32 x, u32 y) { return static_cast<s32>(x) >> (y > 31 ? 31 : y); });
}

// --- permutations by immediates ----------------------------------------------------------------------------------------
inline Vec op_v_permute(Vec a, u64 imm) {
  const auto x = (Lanes<u32>)a;
  return (Vec)Lanes<u32>{x[imm & 3], x[(imm >> 2) & 3], x[(imm >> 4) & 3], x[(imm >> 6) & 3]};
}
/// Four 16-bit lanes.
inline u64 permute_half(u64 half, u64 imm) {
  u64 r = 0;
  for (unsigned i = 0; i < 4; ++i) r |= ((half >> (16 * ((imm >> (2 * i)) & 3))) & 0xffff) << (16 * i);
  return r;
}
inline Vec op_v_permute_lo(Vec a, u64 imm) {
  return Vec{static_cast<long long>(permute_half(static_cast<u64>(a[0]), imm)), a[1]};
}
inline Vec op_v_permute_hi(Vec a, u64 imm) {
  return Vec{a[0], static_cast<long long>(permute_half(static_cast<u64>(a[1]), imm))};
}
template <class L>
Vec op_v_permute2(Vec a, Vec b, u64 imm) {
  if constexpr (sizeof(L) == 8) return Vec{a[imm & 1], b[(imm >> 1) & 1]};
  const auto x = (Lanes<u32>)a, y = (Lanes<u32>)b;
  return (Vec)Lanes<u32>{x[imm & 3], x[(imm >> 2) & 3], y[(imm >> 4) & 3], y[(imm >> 6) & 3]};
}
template <class L>
Vec op_v_blend(Vec a, Vec b, u64 imm) {
  Lanes<L> x = (Lanes<L>)a;
  for (unsigned i = 0; i < kLanes<L>; ++i)
    if (bit(imm, i)) x[i] = ((Lanes<L>)b)[i];
  return (Vec)x;
}
template <class L>
Vec op_v_blendv(Vec a, Vec b, Vec c) {
  using S = std::make_signed_t<L>;
  return op_v_bsl((Vec)((Lanes<S>)c < Lanes<S>{}), b, a);
}
inline Vec op_v_shuffle(Vec a, Vec b) { return (Vec)shuffle_bytes((Bytes)a, (Bytes)b); }
inline Vec op_v_int_to_f_widen(Vec a) {
  using Doubles = double __attribute__((vector_size(16)));
  const auto x = (Lanes<s32>)a;
  return (Vec)Doubles{static_cast<double>(x[0]), static_cast<double>(x[1])};
}

}  // namespace kiln::ir
