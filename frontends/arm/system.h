// AArch64 guest, system level (EL0 to EL3): a whole processor, for softmmu.
// What lives here: system_registers.cpp, system_debug.cpp, system_timers.cpp (the table of registers: one row each), system_exceptions.cpp (entry,
// return, interrupts), system_walk.cpp (VMSAv8-64 and ASIDs), system_psci.cpp, system_models.cpp (-cpu), lift_privileged.cpp and its
// helpers (system_helpers.cpp), system_state.cpp (mode word, address spaces, save list). Invariants: (1) whatever a change of state
// means for lifted code stands in the mode word (SystemMode), and who changes it calls context_changed(); (2) x[31] is the current SP,
// sp_el[] holds the others; (3) what is not there is Undefined to the guest and said once through VcpuPort::guest_error.
// Add a register: a row in the table, and a field in A64SystemState if it is stored. Check it: tests/boots/a64 against another
// implementation. Left out: SP alignment checks (SCTLR.SA; a compare on every stack access), big-endian data and tables, AArch32, VHE, a
// secure address space of its own, context-linked breakpoints, PMU event counters (N = 0), a WFE that waits. -cpu models differ in
// their registers and system features; EL0 instructions that an older one has not got are executed all the same.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "frontends/arm/aarch64.h"
#include "ir/system_desc.h"

namespace kiln::arm {

extern const ir::GuestDesc kA64System;

/// VcpuPort::inputs(): bit numbers.
enum InterruptInput : unsigned { kInputIrq, kInputFiq, kInputVirtualIrq, kInputVirtualFiq, kInputSError };

/// By which instruction the guest calls PSCI, if the processor itself plays the firmware.
enum class PsciConduit : u8 { None, Hvc, Smc };

struct CpuConfig {
  std::string_view model = "max";  // one of cpu_models()
  bool el2 = false, el3 = false;   // reset goes to the highest one
  bool gic_registers = false;      // the machine answers ICC_* (GICv3)
  PsciConduit psci = PsciConduit::None;
  u64 affinity = 0;  // MPIDR_EL1.Aff3..Aff0, in its places
};
/// Once, before the first reset. False: there is no such model.
bool configure(ir::CpuState* state, const CpuConfig& config);
std::vector<std::string_view> cpu_models();

/// After GuestDesc::slots, pc, the flags record and mxcsr have been loaded from a snapshot: everything that follows from them.
void restored(ir::CpuState* state);

/// VcpuPort::device_register's number: op0:op1:CRn:CRm:op2 in 2, 3, 4, 4, 3 bits.
constexpr u32 register_number(u32 op0, u32 op1, u32 crn, u32 crm, u32 op2) {
  return op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
}

/// The frequency of the generic timers of a full system: a tick every 16 ns.
inline constexpr u64 kSystemCounterHz = 62'500'000;

/// Reads or writes a system register by its name in the manual ("TTBR0_EL1"), for monitors and debuggers, with no regard to
/// exception levels. False: there is none, or it is not to be had so.
bool read_register(ir::CpuState* state, std::string_view name, u64& value);

}  // namespace kiln::arm
