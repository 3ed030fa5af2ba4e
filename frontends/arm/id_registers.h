// The identification registers that Linux lets user programs read, and the hwcaps that say the same.
// One truth: a feature is there when its rows are in the tables (kFeatures in id_registers.cpp names one row for each).
#pragma once
#include "ir/support/bits.h"

namespace kiln::arm {

/// Value of the register S3_0_C0_C<crm>_<op2>; false if Linux does not emulate it (the program gets SIGILL).
bool id_register(unsigned crm, unsigned op2, u64& value);

/// AT_HWCAP and AT_HWCAP2.
u64 hwcap();
u64 hwcap2();

}  // namespace kiln::arm
