// Arm ARM, RecipEstimate and RecipSqrtEstimate: what FRECPE, URECPE, FRSQRTE and URSQRTE look up.
#pragma once
#include <array>

#include "ir/support/bits.h"

namespace kiln::arm {

/// a: 256..511, the operand's leading nine bits; gives 256..511.
constexpr u32 recip_estimate(u32 a) { return ((u32{1} << 19) / (a * 2 + 1) + 1) / 2; }

namespace detail {
constexpr std::array<u16, 512> make_recip_sqrt_estimates() {
  std::array<u16, 512> table{};
  u32 b = 512;
  // The operand's scaled value falls as `i` does, so the root only grows.
  for (u32 half = 0; half < 2; ++half) {
    b = 512;
    for (u32 i = half ? 255 : 511; i >= (half ? 128u : 256u); --i) {
      const u32 x = i < 256 ? i * 2 + 1 : ((i >> 1 << 1) + 1) * 2;
      while (x * (b + 1) * (b + 1) < (u32{1} << 28)) ++b;
      table[i] = static_cast<u16>((b + 1) / 2);
    }
  }
  return table;
}
inline constexpr std::array<u16, 512> kRecipSqrtEstimates = make_recip_sqrt_estimates();
}  // namespace detail

/// a: 128..511 (below 256: an odd exponent); gives 256..511.
constexpr u32 recip_sqrt_estimate(u32 a) { return detail::kRecipSqrtEstimates[a]; }

}  // namespace kiln::arm
