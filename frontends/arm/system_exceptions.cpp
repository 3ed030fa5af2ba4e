// Exception entry and return, interrupts (Arm ARM D1.10 to D1.14).
#include <cstdio>

#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

using ir::ExitKind;

namespace {

enum VectorOffset : u32 { kSync = 0, kIrq = 0x80, kFiq = 0x100, kSError = 0x180 };

void set_level(A64SystemState& s, u64 el, u64 sp_sel) {
  s.sp_el[s.sp_sel ? s.el : 0] = s.x[31];
  s.el = el;
  s.sp_sel = sp_sel;
  s.x[31] = s.sp_el[sp_sel ? el : 0];
  // One MMU index serves EL2 and EL3.
  if (el >= 2 && el != s.tlb_high_el) {
    if (s.tlb_high_el != 0) ir::port(&s).flush_tlb({}, false);
    s.tlb_high_el = el;
  }
}

/// Where a synchronous exception goes that EL0 and EL1 do not choose themselves.
unsigned sync_target(const A64SystemState& s) {
  if (s.el >= 2) return static_cast<unsigned>(s.el);
  return hcr_of(s) & kHcrTge ? 2 : 1;
}

void synchronous(A64SystemState& s, unsigned target, u32 esr, GuestAddr return_to) {
  s.esr_el[target] = esr;
  enter(s, target, kSync, return_to);
}

/// The word at pc, if it can still be read: only syndromes need it.
bool word_at(A64SystemState& s, GuestAddr pc, u32& word) {
  ir::PhysicalMemory& memory = ir::port(&s).memory();
  const Walk found = walk(s, memory, pc, ir::Access::Fetch, static_cast<unsigned>(s.el), false);
  u64 both = 0;
  if (!found.ok() || !memory.load(found.to.physical & ~u64{7}, 8, both)) return false;
  word = static_cast<u32>(found.to.physical & 4 ? both >> 32 : both);
  return true;
}

/// Does a load or store instruction write? (What an alignment fault does not say.)
bool writes_memory(u32 word) {
  const bool general = bits(word, 27, 3) == 7, vector = bit(word, 26), load = bit(word, 22);
  if (general && !vector && bit(word, 21) && bits(word, 10, 2) == 0 && !bit(word, 24))
    return false;                                                              // atomics: reads come first
  if (bits(word, 24, 6) == 8 && bit(word, 23) && bit(word, 21)) return false;  // CAS
  return !load && !(general && !vector && bit(word, 23));
}

void instruction_abort(A64SystemState& s, u32 aux) {
  const unsigned target = aux & kAuxStage2 ? 2 : sync_target(s);
  s.far_el[target] = s.exit_value;
  const Class ec = s.el < target ? Class::InstructionAbortLower : Class::InstructionAbort;
  synchronous(s, target, syndrome(ec, aux & 0x2ff), s.pc);
}

constexpr bool is_zva(u32 word) { return (word & ~u32{31}) == 0xd50b7420; }

/// Of DC instructions FAR holds the operand. The lifted ones say it themselves, but for DC ZVA, which is stores to the whole
/// line.
u64 fault_address(A64SystemState& s, u32 aux) {
  u32 word = 0;
  if ((aux & kIssWrite) && s.exit_value % 64 == 0 && word_at(s, s.pc, word) && is_zva(word) && (word & 31) != 31)
    return s.x[word & 31];
  return s.exit_value;
}

void data_abort(A64SystemState& s, u32 aux) {
  const unsigned target = aux & kAuxStage2 ? 2 : sync_target(s);
  s.far_el[target] = fault_address(s, aux);
  const Class ec = s.el < target ? Class::DataAbortLower : Class::DataAbort;
  synchronous(s, target, syndrome(ec, aux & 0x01ffffff), s.pc);
}

/// Of an instruction that traps by control registers: to which level?
unsigned trap_target(const A64SystemState& s, u32 esr) {
  const Class ec = static_cast<Class>(esr >> 26);
  if (s.el >= 2) {
    if (ec == Class::FpTrap && s.el == 2 && !bit(s.cptr_el2, 10)) return 3;
    return static_cast<unsigned>(s.el);
  }
  const u64 hcr = hcr_of(s), sctlr = s.sctlr_el[1];
  if (hcr & kHcrTge) return 2;
  if (ec == Class::FpTrap) {
    const u64 fpen = bits(s.cpacr_el1, 20, 2);
    if (!(fpen & 1) || (fpen == 1 && s.el == 0)) return 1;
    return s.has_el2 && bit(s.cptr_el2, 10) ? 2 : 3;
  }
  if (ec == Class::WfxTrap) {
    const bool wfe = esr & 1;
    if (s.el == 0 && !(sctlr & (wfe ? kSctlrNtwe : kSctlrNtwi))) return 1;
    return hcr & (wfe ? kHcrTwe : kHcrTwi) ? 2 : 3;
  }
  return 1;
}

void undefined(A64SystemState& s, u32 word) {
  const bool system_space = bits(word, 22, 10) == 0x354;
  if (system_space && s.el != 0 && bits(word, 19, 2) >= 2)
    report_unknown_register(s, bits(word, 19, 2) << 14 | (bits(word, 5, 14)), bit(word, 21));
  synchronous(s, sync_target(s), syndrome(Class::Unknown), s.pc);
}

/// HVC and SMC, told apart by their EC.
void call_firmware(A64SystemState& s, u32 esr) {
  const bool smc = static_cast<Class>(esr >> 26) == Class::Smc;
  const GuestAddr next = s.pc + 4;
  if (s.psci_conduit == static_cast<u64>(smc ? PsciConduit::Smc : PsciConduit::Hvc) && s.el != 0) {
    // Nobody else is there to be called: an unknown function is answered as firmware does.
    s.pc = next;
    if (!psci_call(s)) s.x[0] = ~u64{0};
    return;
  }
  if (smc) {
    if (s.el == 1 && (hcr_of(s) & kHcrTsc)) return synchronous(s, 2, esr, s.pc);
    if (!s.has_el3 || (s.scr_el3 & kScrSmd)) return undefined(s, 0);
    return synchronous(s, 3, esr, next);
  }
  if (!s.has_el2 || (s.has_el3 ? !(s.scr_el3 & kScrHce) : (s.hcr_el2 & kHcrHcd) != 0)) return undefined(s, 0);
  synchronous(s, s.el == 3 ? 3 : 2, esr, next);
}

unsigned debug_target(const A64SystemState& s) {
  return s.has_el2 && s.el < 2 && (bit(s.mdcr_el2, 8) || (s.hcr_el2 & kHcrTge)) ? 2 : sync_target(s);
}

void trap(A64SystemState& s, u32 esr) {
  switch (static_cast<Class>(esr >> 26)) {
    case Class::Hvc:
    case Class::Smc: return call_firmware(s, esr);
    case Class::StepLower:
    case Class::WatchpointLower:
    case Class::BreakpointLower: {
      const unsigned target = debug_target(s);
      if (static_cast<Class>(esr >> 26) == Class::StepLower && s.stepped) esr |= 1 << 24;
      if (static_cast<Class>(esr >> 26) == Class::WatchpointLower) s.far_el[target] = s.watched_address;
      if (s.el >= target) esr |= 1u << 26;  // the class of the same level
      return synchronous(s, target, esr, s.pc);
    }
    case Class::RegisterTrap: return synchronous(s, s.exit_aux == kAuxStage2 ? 2 : trap_target(s, esr), esr, s.pc);
    default: return synchronous(s, trap_target(s, esr), esr, s.pc);
  }
}

struct Source {
  unsigned target;
  u32 offset;
  u64 mask;
};

/// Physical interrupts: who takes them?
unsigned interrupt_target(const A64SystemState& s, u64 scr, u64 hcr_bit) {
  if (s.has_el3 && (s.scr_el3 & scr)) return 3;
  if (hcr_of(s) & (hcr_bit | kHcrTge)) return 2;
  return 1;
}

}  // namespace

u64 pstate_of(const A64SystemState& s) {
  return nzcv_of(s) | s.uao << 23 | s.pan << 22 | s.ss << 21 | s.il << 20 | s.daif | s.el << 2 | s.sp_sel;
}

void enter(A64SystemState& s, unsigned target, u32 offset, GuestAddr return_to) {
  // EL0 has SP_EL0 and nothing to select.
  if (target > s.el) offset += 0x400;
  else if (s.sp_sel) offset += 0x200;
  s.spsr_el[target] = s.el == 0 ? pstate_of(s) & ~u64{1} : pstate_of(s);
  s.elr_el[target] = return_to;
  set_level(s, target, 1);
  s.daif = kDaifD | kDaifA | kDaifI | kDaifF;
  s.ss = s.il = s.uao = s.stepped = 0;
  if (s.has_pan && target == 1 && !(s.sctlr_el[1] & kSctlrSpan)) s.pan = 1;
  s.pc = s.vbar_el[target] + offset;
  context_changed(s);
}

GuestAddr take_supervisor_call(ir::CpuState* state, u64 immediate) {
  A64SystemState& s = system_state(state);
  synchronous(s, sync_target(s), syndrome(Class::Svc, static_cast<u32>(immediate)), s.pc + 4);
  return s.pc;
}

GuestAddr exception_return(ir::CpuState* state) {
  A64SystemState& s = system_state(state);
  const u64 spsr = s.spsr_el[s.el], el = bits(spsr, 2, 2), sp_sel = spsr & 1;
  const GuestAddr to = s.elr_el[s.el];
  const bool illegal = bit(spsr, 4) || bit(spsr, 1) || el > s.el || (el == 0 && sp_sel) || (el == 2 && !s.has_el2) ||
                       (el == 1 && (hcr_of(s) & kHcrTge) && s.el >= 2);
  set_nzcv(s, static_cast<u32>(spsr));
  s.daif = spsr & (kDaifD | kDaifA | kDaifI | kDaifF);
  s.exclusive_address = ~u64{0};
  // Arm ARM, DebugExceptionReturnSS: a step begins if debug exceptions are off here and on there.
  const bool enabled_here = debug_exceptions_enabled(s);
  if (illegal) {
    s.il = 1;
  } else {
    s.il = bit(spsr, 20);
    if (s.has_pan) s.pan = bit(spsr, 22);
    if (s.has_uao) s.uao = bit(spsr, 23);
    set_level(s, el, sp_sel);
  }
  s.stepped = 0;
  s.ss = (s.mdscr_el1 & 1) && !enabled_here && debug_exceptions_enabled(s) ? bit(spsr, 21) : 0;
  s.pc = to;
  context_changed(s);
  if (ir::port(state).inputs() != 0) look_for_interrupts(s);
  return to;
}

void enter_exception(ir::CpuState* state, ExitKind kind) {
  A64SystemState& s = system_state(state);
  const u32 aux = s.exit_aux;
  switch (kind) {
    case ExitKind::Syscall: take_supervisor_call(state, s.exit_value); break;
    case ExitKind::Undefined: undefined(s, static_cast<u32>(s.exit_value)); break;
    case ExitKind::Breakpoint:
      synchronous(s, debug_target(s), syndrome(Class::Brk, static_cast<u32>(s.exit_value)), s.pc);
      break;
    case ExitKind::Trap: trap(s, static_cast<u32>(s.exit_value)); break;
    case ExitKind::FetchFault:
      if (aux & kAuxFault) {
        instruction_abort(s, aux);
      } else {
        ir::Translation unused;
        if (!translate(state, ir::port(state).memory(), s.pc, ir::Access::Fetch, s.el >= 2 ? 3 : static_cast<unsigned>(s.el),
                       unused))
          instruction_abort(s, s.exit_aux);
      }
      break;
    case ExitKind::Fault: data_abort(s, aux & kAuxFault ? aux : u32{kExternalAbort}); break;
    case ExitKind::Alignment:
      if ((s.pc & 3) != 0) {
        const unsigned target = sync_target(s);
        s.far_el[target] = s.pc;
        synchronous(s, target, syndrome(Class::PcAlignment), s.pc);
      } else {
        u32 word = 0;
        const bool write = word_at(s, s.pc, word) && writes_memory(word);
        data_abort(s, kAlignmentFault | (write ? u32{kIssWrite} : 0));
      }
      break;
    default: break;
  }
  s.exit_aux = 0;
}

bool take_interrupt(ir::CpuState* state) {
  A64SystemState& s = system_state(state);
  const u32 inputs = ir::port(state).inputs();
  const u64 hcr = hcr_of(s);
  const auto asserted = [&](InterruptInput input) { return bit(inputs, input); };
  s.pending = 0;
  Source best{};
  const auto consider = [&](bool there, unsigned target, u32 offset, u64 mask) {
    if (!there || target < s.el) return;
    // A level above takes them whatever PSTATE says; EL1 as EL0's level above does not, Linux' EL0 runs unmasked anyway.
    const bool above = target > s.el && target != 1;
    if (!above && (s.daif & mask)) {
      s.pending |= mask;
      return;
    }
    if (best.target == 0) best = {target, offset, mask};
  };
  consider(asserted(kInputSError), interrupt_target(s, kScrEa, kHcrAmo), kSError, kDaifA);
  consider(asserted(kInputFiq), interrupt_target(s, kScrFiq, kHcrFmo), kFiq, kDaifF);
  consider(asserted(kInputIrq), interrupt_target(s, kScrIrq, kHcrImo), kIrq, kDaifI);
  if (s.el <= 1 && !(hcr & kHcrTge)) {
    consider((hcr & kHcrFmo) && (asserted(kInputVirtualFiq) || (hcr & kHcrVf)), 1, kFiq, kDaifF);
    consider((hcr & kHcrImo) && (asserted(kInputVirtualIrq) || (hcr & kHcrVi)), 1, kIrq, kDaifI);
  }
  if (best.target == 0) return false;
  if (best.offset == kSError) s.esr_el[best.target] = syndrome(Class::SError);
  enter(s, best.target, best.offset, s.pc);
  return true;
}

bool wakes(const ir::CpuState* state, u32 inputs) {
  const A64SystemState& s = system_state(state);
  const u64 hcr = hcr_of(s);
  if (inputs & (1u << kInputIrq | 1u << kInputFiq | 1u << kInputSError)) return true;
  if (s.el > 1 || (hcr & kHcrTge)) return false;
  return ((hcr & kHcrImo) && (bit(inputs, kInputVirtualIrq) || (hcr & kHcrVi))) ||
         ((hcr & kHcrFmo) && (bit(inputs, kInputVirtualFiq) || (hcr & kHcrVf)));
}

}  // namespace kiln::arm
