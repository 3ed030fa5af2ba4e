// Guest state from the registers at a fault in tier-1 code.
#pragma once
#include "jit/engine/host.h"
#include "jit/stencil/tier1.h"

namespace kiln::jit {

/// `code` was stitched with recording on; `offset` is the faulting instruction's in it. Writes slots and pc, and a trap's
/// exit_kind and exit_value. False if nothing may fault there.
bool apply_recovery(const Tier1Code& code, u32 offset, const host::FaultRegisters& registers, ir::CpuState* cpu);

}  // namespace kiln::jit
