// Fixed-width names and bit helpers shared by everything. No dependencies but the standard library.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace kiln {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using s8 = std::int8_t;
using s16 = std::int16_t;
using s32 = std::int32_t;
using s64 = std::int64_t;
using u128 = unsigned __int128;
using s128 = __int128;

/// A guest virtual address (bytes). 32-bit guests use the low half.
using GuestAddr = u64;
/// An address in Kiln's own process.
using HostAddr = std::uintptr_t;

/// Sixteen bytes of vector data; lane 0 is the least significant, as on a little-endian register.
union alignas(16) V128 {
  u8 b[16];
  u16 h[8];
  u32 s[4];
  u64 d[2];
  float f32[4];
  double f64[2];
};
static_assert(sizeof(V128) == 16);

/// Bits [low, low+count) of value.
constexpr u64 bits(u64 value, unsigned low, unsigned count) {
  return count >= 64 ? value >> low : (value >> low) & ((u64{1} << count) - 1);
}
constexpr bool bit(u64 value, unsigned index) { return ((value >> index) & 1) != 0; }
/// Sign-extends the low `count` bits (1..64).
constexpr s64 sign_extend(u64 value, unsigned count) {
  return static_cast<s64>(value << (64 - count)) >> (64 - count);
}
constexpr u64 mask_low(unsigned count) { return count >= 64 ? ~u64{0} : (u64{1} << count) - 1; }
constexpr u64 align_down(u64 value, u64 alignment) { return value & ~(alignment - 1); }
constexpr u64 align_up(u64 value, u64 alignment) { return (value + alignment - 1) & ~(alignment - 1); }

}  // namespace kiln
