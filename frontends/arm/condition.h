// The A64 condition field.
#pragma once
#include "frontends/arm/lifter.h"

namespace kiln::arm {

/// AL and NV both mean always.
constexpr bool always(unsigned cond) { return cond >= 14; }
constexpr ir::Cond inverted(unsigned cond) { return static_cast<ir::Cond>(cond ^ 1); }

}  // namespace kiln::arm
