// Helpers of lift_privileged.cpp and the block loop; bodies in system_helpers.cpp.
#pragma once
#include "frontends/arm/lifter.h"

namespace kiln::arm {

extern const ir::Helper kReadRegister;         // i64 (access)
extern const ir::Helper kWriteRegister;        // void (access, value)
extern const ir::Helper kReadDeviceRegister;   // i64 (access)
extern const ir::Helper kWriteDeviceRegister;  // void (access, value)
extern const ir::Helper kCheckRegisterTraps;   // void (access, read): HCR_EL2
extern const ir::Helper kWriteSpSel;           // void (0 or 1)
extern const ir::Helper kReadPanOrUao;         // i64 (0 PAN, 1 UAO)
extern const ir::Helper kWritePanOrUao;        // void (0 PAN, 1 UAO; 0 or 1)
extern const ir::Helper kRenewContext;         // void ()
extern const ir::Helper kSettleAsid;           // void (): kModeAsidPending
extern const ir::Helper kLookForInterrupts;    // void ()
extern const ir::Helper kMaintainCache;        // void (address, MMU index)
extern const ir::Helper kTranslateAddress;     // void (op1:CRm:op2, address): AT
extern const ir::Helper kInvalidateTlb;        // void (op1:CRm:op2, operand): TLBI
extern const ir::Helper kStepDone;             // void ()
extern const ir::Helper kCheckBreakpoints;     // void (pc)
extern const ir::Helper kCheckWatchpoints;     // void (address, packed MemOp with kStoreAccess)

/// Is it a TLBI that exists?
bool is_tlbi(u32 op1, u32 crm, u32 op2);
/// Leaves if an interrupt that has been waiting is unmasked now.
void emit_interrupt_check(Lifter& l);

}  // namespace kiln::arm
