// The identification registers that Linux lets user programs read, and the hwcaps that say the same.
// One truth: a feature is set here when its rows exist in the tables.
#pragma once
#include "ir/support/bits.h"

namespace kiln::arm {

/// Value of the register S3_0_C0_C<crm>_<op2>; false if Linux does not emulate it (the program gets SIGILL).
bool id_register(unsigned crm, unsigned op2, u64& value);

}  // namespace kiln::arm
