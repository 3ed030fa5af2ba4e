// The single source of what the integer ops mean: interpreter and folder call these, tier 1's stencils are compiled from
// them. Header-only, no library calls, total (no undefined behaviour for any operand). T is u32 or u64 (bool for i1 where the
// op table allows it). Vector ops are in semantics_vector.h, floating point in semantics_fp.h.
#pragma once
#include <bit>
#include <type_traits>

#include "ir/types.h"

namespace kiln::ir {

template <class T>
inline constexpr unsigned kBitsOf = sizeof(T) * 8;
template <>
inline constexpr unsigned kBitsOf<bool> = 1;
template <class T>
using Signed = std::make_signed_t<T>;
template <class T>
using Wide = std::conditional_t<sizeof(T) == 8, u128, u64>;
template <class T>
using SignedWide = std::conditional_t<sizeof(T) == 8, s128, s64>;

// --- arithmetic ------------------------------------------------------------------------------------------------------
template <class T>
constexpr T op_add(T a, T b) {
  return a + b;
}
template <class T>
constexpr T op_sub(T a, T b) {
  return a - b;
}
template <class T>
constexpr T op_mul(T a, T b) {
  return a * b;
}
template <class T>
constexpr T op_umulh(T a, T b) {
  return static_cast<T>((static_cast<Wide<T>>(a) * b) >> kBitsOf<T>);
}
template <class T>
constexpr T op_smulh(T a, T b) {
  const auto product = static_cast<SignedWide<T>>(static_cast<Signed<T>>(a)) * static_cast<Signed<T>>(b);
  return static_cast<T>(static_cast<Wide<T>>(product) >> kBitsOf<T>);
}
template <class T>
constexpr T op_udiv(T a, T b) {
  return b == 0 ? T{0} : a / b;
}
template <class T>
constexpr T op_sdiv(T a, T b) {
  if (b == 0) return 0;
  if (b == static_cast<T>(-1)) return T{0} - a;  // MIN / -1 traps on x86
  return static_cast<T>(static_cast<Signed<T>>(a) / static_cast<Signed<T>>(b));
}
template <class T>
constexpr T op_urem(T a, T b) {
  return b == 0 ? a : a % b;
}
template <class T>
constexpr T op_srem(T a, T b) {
  if (b == 0) return a;
  if (b == static_cast<T>(-1)) return 0;
  return static_cast<T>(static_cast<Signed<T>>(a) % static_cast<Signed<T>>(b));
}
template <class T>
constexpr T op_neg(T a) {
  return T{0} - a;
}

// --- bits ------------------------------------------------------------------------------------------------------------
template <class T>
constexpr T op_and(T a, T b) {
  return static_cast<T>(a & b);
}
template <class T>
constexpr T op_or(T a, T b) {
  return static_cast<T>(a | b);
}
template <class T>
constexpr T op_xor(T a, T b) {
  return static_cast<T>(a ^ b);
}
template <class T>
constexpr T op_andn(T a, T b) {
  return a & ~b;
}
template <class T>
constexpr T op_not(T a) {
  if constexpr (std::is_same_v<T, bool>) return !a;
  else return ~a;
}
template <class T>
constexpr T op_shl(T a, T b) {
  return a << (b & (kBitsOf<T> - 1));
}
template <class T>
constexpr T op_lshr(T a, T b) {
  return a >> (b & (kBitsOf<T> - 1));
}
template <class T>
constexpr T op_ashr(T a, T b) {
  return static_cast<T>(static_cast<Signed<T>>(a) >> (b & (kBitsOf<T> - 1)));
}
template <class T>
constexpr T op_rotr(T a, T b) {
  return std::rotr(a, static_cast<int>(b & (kBitsOf<T> - 1)));
}
/// Bits [imm, imm+n) of a:b.
template <class T>
constexpr T op_extr(T a, T b, u64 imm) {
  const unsigned shift = imm & (kBitsOf<T> - 1);
  return shift == 0 ? b : static_cast<T>(b >> shift | a << (kBitsOf<T> - shift));
}
template <class T>
constexpr T op_clz(T a) {
  return static_cast<T>(std::countl_zero(a));
}
template <class T>
constexpr T op_ctz(T a) {
  return static_cast<T>(std::countr_zero(a));
}
template <class T>
constexpr T op_popcnt(T a) {
  return static_cast<T>(std::popcount(a));
}
template <class T>
constexpr T op_bswap(T a) {
  if constexpr (sizeof(T) == 8) return __builtin_bswap64(a);
  else if constexpr (sizeof(T) == 4) return __builtin_bswap32(a);
  else if constexpr (sizeof(T) == 2) return __builtin_bswap16(a);
  else return a;
}
template <class T>
constexpr T op_bitrev(T a) {
  a = op_bswap(a);
  a = static_cast<T>((a >> 4) & static_cast<T>(0x0f0f0f0f0f0f0f0full)) |
      static_cast<T>((a & static_cast<T>(0x0f0f0f0f0f0f0f0full)) << 4);
  a = static_cast<T>((a >> 2) & static_cast<T>(0x3333333333333333ull)) |
      static_cast<T>((a & static_cast<T>(0x3333333333333333ull)) << 2);
  a = static_cast<T>((a >> 1) & static_cast<T>(0x5555555555555555ull)) |
      static_cast<T>((a & static_cast<T>(0x5555555555555555ull)) << 1);
  return a;
}
/// `From` and `To` are unsigned types or bool.
template <class To, class From>
constexpr To op_zext(From a) {
  return static_cast<To>(a);
}
template <class To, class From>
constexpr To op_sext(From a) {
  if constexpr (std::is_same_v<From, bool>) return a ? static_cast<To>(~To{0}) : To{0};
  else return static_cast<To>(static_cast<Signed<To>>(static_cast<Signed<From>>(a)));
}
template <class To, class From>
constexpr To op_trunc(From a) {
  if constexpr (std::is_same_v<To, bool>) return (a & 1) != 0;
  else return static_cast<To>(a);
}
template <class T>
constexpr T op_ubfx(T a, u64 lsb, u64 count) {
  return static_cast<T>((a >> lsb) & mask_low(static_cast<unsigned>(count)));
}
template <class T>
constexpr T op_sbfx(T a, u64 lsb, u64 count) {
  return static_cast<T>(sign_extend(static_cast<u64>(a) >> lsb, static_cast<unsigned>(count)));
}
template <class T>
constexpr T op_bfi(T a, T b, u64 lsb, u64 count) {
  const T mask = static_cast<T>(mask_low(static_cast<unsigned>(count)) << lsb);
  return (a & ~mask) | (static_cast<T>(b << lsb) & mask);
}
template <class T>
constexpr T op_select(bool c, T a, T b) {
  return c ? a : b;
}

// --- comparisons -----------------------------------------------------------------------------------------------------
template <class T>
constexpr bool op_icmp_eq(T a, T b) {
  return a == b;
}
template <class T>
constexpr bool op_icmp_ne(T a, T b) {
  return a != b;
}
template <class T>
constexpr bool op_icmp_ult(T a, T b) {
  return a < b;
}
template <class T>
constexpr bool op_icmp_ule(T a, T b) {
  return a <= b;
}
template <class T>
constexpr bool op_icmp_slt(T a, T b) {
  return static_cast<Signed<T>>(a) < static_cast<Signed<T>>(b);
}
template <class T>
constexpr bool op_icmp_sle(T a, T b) {
  return static_cast<Signed<T>>(a) <= static_cast<Signed<T>>(b);
}

// --- flags as N Z C V in bits 31..28 -----------------------------------------------------------------------------------
inline constexpr u32 kN = 1u << 31, kZ = 1u << 30, kC = 1u << 29, kV = 1u << 28;
inline constexpr u32 kNzcv = kN | kZ | kC | kV;

template <class T>
constexpr u32 make_nzcv(T result, bool carry, bool overflow) {
  return (static_cast<u32>(result >> (kBitsOf<T> - 1)) << 31) | (result == 0 ? kZ : 0) | (carry ? kC : 0) | (overflow ? kV : 0);
}
template <class T>
constexpr u32 op_nzcv_add(T a, T b) {
  const T r = a + b;
  return make_nzcv(r, r < a, (((a ^ r) & (b ^ r)) >> (kBitsOf<T> - 1)) != 0);
}
template <class T>
constexpr u32 op_nzcv_sub(T a, T b) {
  const T r = a - b;
  return make_nzcv(r, a >= b, (((a ^ b) & (a ^ r)) >> (kBitsOf<T> - 1)) != 0);
}
template <class T>
constexpr u32 op_nzcv_adc(T a, T b, bool carry) {
  const T sum = a + b;
  const T r = sum + static_cast<T>(carry);
  return make_nzcv(r, sum < a || r < sum, (((a ^ r) & (b ^ r)) >> (kBitsOf<T> - 1)) != 0);
}
template <class T>
constexpr u32 nzcv_logic(T a) {
  return make_nzcv(a, false, false);
}

// --- x86 flags: the same with P in bit 2 and A in bit 4, as EFLAGS has them; T is u8, u16, u32 or u64 --------------------
inline constexpr u32 kP = 1u << 2, kA = 1u << 4;
inline constexpr u32 kImageBits = kNzcv | kP | kA;  // what of an image counts

template <class T>
constexpr u32 make_eimage(T result, bool carry, bool overflow, bool adjust) {
  const bool even = (__builtin_popcount(static_cast<u8>(result)) & 1) == 0;
  return make_nzcv(result, carry, overflow) | (even ? kP : 0) | (adjust ? kA : 0);
}
template <class T>
constexpr u32 op_eimage_add(T a, T b) {
  const T r = static_cast<T>(a + b);
  return make_eimage(r, r < a, (((a ^ r) & (b ^ r)) >> (kBitsOf<T> - 1)) != 0, ((a ^ b ^ r) & 16) != 0);
}
template <class T>
constexpr u32 op_eimage_sub(T a, T b) {
  const T r = static_cast<T>(a - b);
  return make_eimage(r, a < b, (((a ^ b) & (a ^ r)) >> (kBitsOf<T> - 1)) != 0, ((a ^ b ^ r) & 16) != 0);
}
template <class T>
constexpr u32 op_eimage_logic(T a) {
  return make_eimage(a, false, false, false);
}
template <class T>
constexpr u32 eimage_inc(T result, bool carry) {
  return (op_eimage_add(static_cast<T>(result - 1), T{1}) & ~kC) | (carry ? kC : 0);
}
template <class T>
constexpr u32 eimage_dec(T result, bool carry) {
  return (op_eimage_sub(static_cast<T>(result + 1), T{1}) & ~kC) | (carry ? kC : 0);
}
template <class T>
constexpr u32 eimage_result(T a, u32 image) {
  return make_eimage(a, false, false, false) | (image & (kC | kV | kA));
}
/// Calls fn(T{}) with the unsigned type of `width` (B1 … B8).
template <class Fn>
constexpr auto by_width(Width width, Fn&& fn) {
  switch (width) {
    case Width::B1: return fn(u8{});
    case Width::B2: return fn(u16{});
    case Width::B4: return fn(u32{});
    default: return fn(u64{});
  }
}

}  // namespace kiln::ir
