// The AArch64 system state: what EL1 to EL3 add behind A64State. All fields are u64, so that each can be a slot of lifted code.
// Banked registers are arrays by exception level ([0] is unused where EL0 has none).
#pragma once
#include "frontends/arm/a64_state.h"
#include "ir/system_desc.h"

namespace kiln::arm {

inline constexpr unsigned kBreakpoints = 6, kWatchpoints = 4;

/// Generic timers, by VcpuPort::set_output line.
enum Timer : unsigned { kTimerPhysical, kTimerVirtual, kTimerHypervisor, kTimerSecure, kTimers };

struct A64SystemState : A64State {
  // Process state beside NZCV, as 0/1 but for daif (bits 9..6, as in SPSR).
  u64 el, sp_sel, daif, pan, uao, ss, il;
  u64 sp_el[4];  // the current one's value stands in x[31]
  u64 elr_el[4], spsr_el[4], esr_el[4], far_el[4], vbar_el[4];
  u64 sctlr_el[4], actlr_el[4], tcr_el[4], mair_el[4], amair_el[4], afsr0_el[4], afsr1_el[4], ttbr0_el[4], tpidr_el[4];
  u64 ttbr1_el1, cpacr_el1, contextidr_el1, par_el1, csselr_el1, cntkctl_el1;
  // EL2
  u64 hcr_el2, hstr_el2, hacr_el2, cptr_el2, mdcr_el2, vttbr_el2, vtcr_el2, hpfar_el2, vpidr_el2, vmpidr_el2, cnthctl_el2,
      cntvoff_el2;
  // EL3
  u64 scr_el3, cptr_el3, mdcr_el3, sder32_el3;
  // Timers
  u64 timer_ctl[kTimers], timer_cval[kTimers];  // CTL without ISTATUS
  // Debug
  u64 mdscr_el1, mdccint_el1, os_lock, os_double_lock, dbgclaim, dbgprcr_el1, osdtrrx_el1, osdtrtx_el1, oseccr_el1;
  u64 dbgbvr[kBreakpoints], dbgbcr[kBreakpoints], dbgwvr[kWatchpoints], dbgwcr[kWatchpoints];
  // Performance monitors: the cycle counter alone
  u64 pmcr_el0, pmcnten, pmovs, pmint, pmselr_el0, pmuserenr_el0, pmccfiltr_el0;
  u64 pmccntr_base;  // PMCCNTR less the clock while it counts, PMCCNTR itself while it stands
  // Identity: set by configure(), kept by reset().
  u64 midr_el1, revidr_el1, mpidr_el1, ctr_el0, clidr_el1, ccsidr[3];
  u64 id_aa64pfr0, id_aa64pfr1, id_aa64dfr0, id_aa64dfr1, id_aa64isar0, id_aa64isar1, id_aa64mmfr0, id_aa64mmfr1, id_aa64mmfr2;
  u64 configured, has_el2, has_el3, has_pan, has_uao, psci_conduit;
  // Interrupts that only PSTATE's masks keep from being taken, as bits of DAIF: lifted code leaves when it clears one of these.
  u64 pending;
  // What the TLBs hold: see system_walk.cpp.
  u64 tlb_asid_user, tlb_asid_kernel;  // of pages that are not global: MMU index 0; 1 and 2
  u64 tlb_tagged, tlb_high_el, low_fetch;
  u64 stepped;            // the pending step exception follows an instruction (ISS.ISV)
  u64 watched_address;    // FAR of a watchpoint on its way
  u64 cache_maintenance;  // the next walk is a cache instruction's (ISS.CM)
  u64 timer_outputs;      // levels that VcpuPort::set_output knows
};
static_assert(sizeof(A64SystemState) % 8 == 0);

/// Mode word of a full system, beside the bits of Mode.
enum SystemMode : u32 {
  kModeElShift = 8,  // two bits
  kModeSpSel = 1 << 10,
  kModePan = 1 << 11,
  kModeUao = 1 << 12,
  kModeFpTrap = 1 << 13,         // FP and SIMD instructions trap
  kModeAlign = 1 << 14,          // all accesses must be aligned (SCTLR.A, or device memory throughout)
  kModeStep = 1 << 15,           // software step: one instruction, then
  kModeStepPending = 1 << 16,    // the step exception
  kModeIllegal = 1 << 17,        // PSTATE.IL
  kModeNoZva = 1 << 18,          // EL0: SCTLR_EL1.DZE = 0
  kModeNoCacheOps = 1 << 19,     // EL0: SCTLR_EL1.UCI = 0
  kModeNoCtr = 1 << 20,          // EL0: SCTLR_EL1.UCT = 0
  kModeNoWfi = 1 << 21,          // WFI traps
  kModeNoWfe = 1 << 22,          // WFE traps
  kModeMaskAccess = 1 << 23,     // EL0: SCTLR_EL1.UMA = 1
  kModeBreakpoints = 1 << 24,    // addresses are compared before every instruction
  kModeRegisterTraps = 1 << 25,  // EL2 may want to see accesses to system registers
  kModeNoPan = 1 << 28,          // EL1 of a processor without PAN: MMU index 2 is for LDTR and STTR
  kModeAsidPending = 1 << 29,    // EL1: the TLBs hold pages of another ASID, which the first access to memory has emptied
  kModeWatchpoints = 1 << 27,    // addresses of loads and stores are compared before them
  kModeDebugByMask = 1 << 26,    // PSTATE.D switches debug exceptions at this level: a change is a change of mode
};
constexpr unsigned el_of(u32 mode) { return (mode >> kModeElShift) & 3; }

// SCTLR_ELx
inline constexpr u64 kSctlrM = 1, kSctlrA = 2, kSctlrC = 4, kSctlrUma = 1 << 9, kSctlrI = 1 << 12, kSctlrDze = 1 << 14,
                     kSctlrUct = 1 << 15, kSctlrNtwi = 1 << 16, kSctlrNtwe = 1 << 18, kSctlrWxn = 1 << 19, kSctlrSpan = 1 << 23,
                     kSctlrE0e = 1 << 24, kSctlrEe = 1 << 25, kSctlrUci = 1 << 26;
// HCR_EL2
inline constexpr u64 kHcrVm = 1, kHcrPtw = 4, kHcrFmo = 1 << 3, kHcrImo = 1 << 4, kHcrAmo = 1 << 5, kHcrVf = 1 << 6,
                     kHcrVi = 1 << 7, kHcrDc = 1 << 12, kHcrTwi = 1 << 13, kHcrTwe = 1 << 14, kHcrTsc = 1 << 19,
                     kHcrTge = 1 << 27, kHcrHcd = 1 << 29, kHcrRw = u64{1} << 31;
// SCR_EL3
inline constexpr u64 kScrNs = 1, kScrIrq = 2, kScrFiq = 4, kScrEa = 8, kScrSmd = 1 << 7, kScrHce = 1 << 8, kScrRw = 1 << 10;
// DAIF, where SPSR has them
inline constexpr u64 kDaifF = 1 << 6, kDaifI = 1 << 7, kDaifA = 1 << 8, kDaifD = 1 << 9;

/// Exception classes (ESR_ELx.EC).
enum class Class : u32 {
  Unknown = 0x00,
  WfxTrap = 0x01,
  FpTrap = 0x07,
  IllegalState = 0x0e,
  Svc = 0x15,
  Hvc = 0x16,
  Smc = 0x17,
  RegisterTrap = 0x18,
  InstructionAbortLower = 0x20,
  InstructionAbort = 0x21,
  PcAlignment = 0x22,
  DataAbortLower = 0x24,
  DataAbort = 0x25,
  SpAlignment = 0x26,
  SError = 0x2f,
  BreakpointLower = 0x30,
  Breakpoint = 0x31,
  StepLower = 0x32,
  Step = 0x33,
  WatchpointLower = 0x34,
  Watchpoint = 0x35,
  Brk = 0x3c,
};
constexpr u32 syndrome(Class ec, u32 iss = 0) { return static_cast<u32>(ec) << 26 | 1u << 25 | iss; }

inline A64SystemState& system_state(ir::CpuState* state) { return *static_cast<A64SystemState*>(state); }
inline const A64SystemState& system_state(const ir::CpuState* state) { return *static_cast<const A64SystemState*>(state); }
/// Is HCR_EL2 in force for EL0 and EL1? (EL2 exists; there is one security state.)
inline u64 hcr_of(const A64SystemState& s) { return s.has_el2 ? s.hcr_el2 : 0; }

/// Recomputes the mode word after any change of what it depends on, and tells the machine that mode or address space may be
/// others.
void context_changed(A64SystemState& s);
/// Asks the vCPU loop to call SystemDesc::interrupt at the next exit.
inline void look_for_interrupts(A64SystemState& s) { __atomic_store_n(&s.interrupt, 1u, __ATOMIC_RELEASE); }

}  // namespace kiln::arm
