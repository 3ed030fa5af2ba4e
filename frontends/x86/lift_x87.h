// What x87's lifter and MMX's share.
#pragma once
#include "frontends/x86/lifter.h"

namespace kiln::x86 {

/// #MF, before the instruction, if an unmasked x87 exception is pending.
void x87_pending_check(Lifter& l);

}  // namespace kiln::x86
