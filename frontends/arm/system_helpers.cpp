// C++ functions that lifted privileged code calls.
#include <algorithm>

#include "frontends/arm/helpers.h"
#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"
#include "frontends/arm/system_lift.h"

namespace kiln::arm {

using ir::Helper;
using ir::Type;

namespace {

u64 read_register_slot(const A64SystemState& s, u32 offset) {
  u64 value;
  std::memcpy(&value, reinterpret_cast<const char*>(static_cast<const ir::CpuState*>(&s)) + offset, sizeof value);
  return value;
}

u64 read_system_register(ir::CpuState* state, u64 access) {
  const SystemRegister* r = find_register(access & 0xffff);
  A64SystemState& s = system_state(state);
  return r->does.read != nullptr ? r->does.read(s, static_cast<u32>(access)) : read_register_slot(s, r->offset);
}

void write_system_register(ir::CpuState* state, u64 access, u64 value) {
  find_register(access & 0xffff)->does.write(system_state(state), value, static_cast<u32>(access));
}

u64 read_device_register(ir::CpuState* state, u64 access) {
  u64 value = 0;
  if (ir::port(state).device_register(access & 0xffff, false, value)) return value;
  report_unknown_register(system_state(state), access & 0xffff, true);
  raise_undefined(system_state(state));
}

void write_device_register(ir::CpuState* state, u64 access, u64 value) {
  if (ir::port(state).device_register(access & 0xffff, true, value)) return;
  report_unknown_register(system_state(state), access & 0xffff, false);
  raise_undefined(system_state(state));
}

void check_register_traps(ir::CpuState* state, u64 access, u64 read) {
  A64SystemState& s = system_state(state);
  const u32 e = access & 0xffff;
  const u64 hcr = hcr_of(s), op0 = e >> 14, op1 = bits(e, 11, 3), crn = bits(e, 7, 4), crm = bits(e, 3, 4), op2 = e & 7;
  if (op0 != 3 || s.el > 1) return;
  const bool memory_control = op1 == 0 && ((crn == 1 && crm == 0 && op2 == 0) || crn == 2 || (crn == 5 && crm != 3) ||
                                           crn == 6 || crn == 10 || (crn == 13 && crm == 0 && op2 == 1));
  const bool id = op1 == 0 && crn == 0;
  const bool trapped =
      (memory_control && bit(hcr, read ? 30 : 26)) || (id && crm >= 1 && crm <= 7 && bit(hcr, 18)) ||
      (((id && crm == 0 && op2 == 6) || (op1 == 1 && crn == 0 && op2 == 7)) && bit(hcr, 16)) ||
      (crn == 0 && crm == 0 && ((op1 == 1 && op2 <= 1) || op1 == 2 || (op1 == 3 && op2 == 1)) && bit(hcr, 17)) ||
      (op1 == 0 && crn == 1 && crm == 0 && op2 == 1 && bit(hcr, 21)) || ((crn == 11 || crn == 15) && bit(hcr, 20));
  if (!trapped) return;
  s.exit_aux = kAuxStage2;
  ir::raise(state, ir::ExitKind::Trap, register_trap(static_cast<u32>(access), read != 0));
}

void write_sp_sel(ir::CpuState* state, u64 value) {
  A64SystemState& s = system_state(state);
  s.sp_el[s.sp_sel ? s.el : 0] = s.x[31];
  s.sp_sel = value;
  s.x[31] = s.sp_el[value ? s.el : 0];
  context_changed(s);
}

u64 read_pan_or_uao(ir::CpuState* state, u64 uao) {
  A64SystemState& s = system_state(state);
  if (!(uao ? s.has_uao : s.has_pan)) raise_undefined(s);
  return uao ? s.uao << 23 : s.pan << 22;
}

void write_pan_or_uao(ir::CpuState* state, u64 uao, u64 value) {
  A64SystemState& s = system_state(state);
  if (!(uao ? s.has_uao : s.has_pan)) raise_undefined(s);
  (uao ? s.uao : s.pan) = value;
  context_changed(s);
}

void settle_asid(ir::CpuState* state) { use_kernel_asid(system_state(state)); }

void renew_context(ir::CpuState* state) { context_changed(system_state(state)); }

void look_now(ir::CpuState* state) {
  A64SystemState& s = system_state(state);
  if (s.pending & ~s.daif) look_for_interrupts(s);
}

void wait_for_interrupt(ir::CpuState* state) {
  ir::VcpuPort& port = ir::port(state);
  if (!wakes(state, port.inputs())) port.halt();
}

void maintain_cache(ir::CpuState* state, u64 address, u64 index) {
  // Caches are coherent; what is left are the faults.
  if (state->tlb(static_cast<unsigned>(index))[ir::tlb_slot(address)].read_tag == align_down(address, 4096)) return;
  system_state(state).cache_maintenance = 1;
  ir::Translation unused;
  if (!translate(state, ir::port(state).memory(), address, ir::Access::Load, static_cast<unsigned>(index), unused))
    state->leave_helper(state);
}

void translate_address(ir::CpuState* state, u64 what, u64 address) {
  A64SystemState& s = system_state(state);
  const u64 op1 = what >> 8, op2 = what & 7;
  const ir::Access access = op2 & 1 ? ir::Access::Store : ir::Access::Load;
  const bool pan = (what & 0xf0) == 0x90 && s.pan, both = op1 == 4 && op2 >= 4;
  const unsigned el = op1 == 6 ? 3 : op1 == 4 && op2 < 4 ? 2 : (op2 & 2) ? 0 : 1;
  const Walk found = walk(s, ir::port(state).memory(), address, access, el, pan, both);
  if (found.status / 4 == kExternalAbortOnWalk / 4) {
    state->exit_kind = static_cast<u32>(ir::ExitKind::Fault);
    state->exit_value = address;
    state->exit_aux = kAuxFault | kIssCache | kIssWrite | found.status;
    state->leave_helper(state);
  }
  if (found.ok()) {
    const u64 shareability = (found.attributes & 0xf0) == 0 || found.attributes == 0x44 ? 2 : found.shareability;
    s.par_el1 =
        u64{found.attributes} << 56 | (found.to.physical & mask_low(48) & ~mask_low(12)) | 1 << 11 | 1 << 9 | shareability << 7;
  } else {
    s.par_el1 = 1 | u64{found.status} << 1 | u64{found.on_walk} << 8 | u64{found.stage2} << 9 | 1 << 11;
  }
}

/// Pages that a TLBI RV… names: base and (NUM + 1) << (5 * SCALE + 1) granules of the size in TG.
ir::TlbFlush range_of_operand(u64 operand) {
  constexpr unsigned kShift[4] = {12, 12, 14, 16};
  const unsigned shift = kShift[bits(operand, 46, 2)];
  const u64 pages = (bits(operand, 39, 5) + 1) << (5 * bits(operand, 44, 2) + 1);
  return {ir::TlbFlush::Scope::Page, static_cast<u64>(sign_extend(operand, 37)) << shift, pages << shift};
}

void invalidate_tlb(ir::CpuState* state, u64 what, u64 operand) {
  using Scope = ir::TlbFlush::Scope;
  A64SystemState& s = system_state(state);
  const u64 op1 = what >> 8, crm = bits(what, 4, 4), op2 = what & 7;
  const bool broadcast = crm != 7 && crm != 6 && crm != 4;
  ir::TlbFlush flush;
  if ((op1 == 0 || op1 == 4 || op1 == 6) && (op2 & 1) && (crm == 2 || crm == 5 || crm == 6)) {
    flush = range_of_operand(operand);
  } else if ((op2 & 1) && (crm == 1 || crm == 3 || crm == 7)) {
    // The granule of a block or table is not told: 64 KiB at most are one page.
    flush = {Scope::Page, static_cast<u64>(sign_extend(operand, 44)) << 12, 4096};
    const u64 tcr = s.tcr_el[op1 == 0 ? 1 : op1 == 4 ? 2 : 3];
    const bool upper = op1 == 0 && bit(operand, 43);
    const u64 granule = upper ? (bits(tcr, 30, 2) == 3   ? 1 << 16
                                 : bits(tcr, 30, 2) == 1 ? 1 << 14
                                                         : 4096)
                              : (bits(tcr, 14, 2) == 1   ? 1 << 16
                                 : bits(tcr, 14, 2) == 2 ? 1 << 14
                                                         : 4096);
    flush.address = align_down(flush.address, granule);
    flush.bytes = granule;
  } else if (op1 == 0 && op2 == 2) {
    // Of whatever ASID: the machine may keep translations of address spaces that are not the present one.
    flush.scope = Scope::NonGlobal;
  }
  // Pages of user memory stand in TLBs under the tags that they were used with.
  if (flush.scope == Scope::Page && s.tlb_tagged) {
    flush = {};
    s.tlb_tagged = 0;
  }
  ir::port(state).flush_tlb(flush, broadcast);
}

void step_done(ir::CpuState* state) {
  system_state(state).ss = 0;
  system_state(state).stepped = 1;
  context_changed(system_state(state));
}

void check_breakpoints(ir::CpuState* state, u64 pc) {
  A64SystemState& s = system_state(state);
  for (unsigned i = 0; i < kBreakpoints; ++i) {
    const u64 control = s.dbgbcr[i];
    const u64 type = bits(control, 20, 4), levels = bits(control, 1, 2);
    if (!(control & 1) || type > 1 || s.el > 1 || !bit(levels, s.el == 0 ? 1 : 0)) continue;  // address matches alone
    if (((s.dbgbvr[i] ^ pc) & mask_low(49) & ~u64{3}) != 0) continue;
    ir::raise(state, ir::ExitKind::Trap, syndrome(Class::BreakpointLower, kDebugEvent));
  }
}

/// `desc`: the packed MemOp, kStoreAccess beside it.
void check_watchpoints(ir::CpuState* state, u64 address, u64 desc) {
  A64SystemState& s = system_state(state);
  const ir::MemOp m = ir::MemOp::unpack(desc & 0xffff);
  const u64 first = address & mask_low(49), last = first + width_bytes(m.width) - 1;
  const bool store = (desc & ir::kStoreAccess) != 0;
  for (unsigned i = 0; i < kWatchpoints; ++i) {
    const u64 control = s.dbgwcr[i], value = s.dbgwvr[i] & mask_low(49) & ~u64{3};
    if (!(control & 1) || s.el > 1 || !bit(control, m.mmu_index == 0 ? 2 : 1) || !bit(control, store ? 4 : 3) ||
        bit(control, 20))
      continue;
    // A range of 2^MASK bytes, or those of the eight that BAS names.
    const u64 mask = bits(control, 24, 5), selected = bits(control, 5, 8);
    u64 low = value, high = value | mask_low(static_cast<unsigned>(mask));
    if (mask == 0) {
      if (selected == 0) continue;
      low = value + static_cast<unsigned>(std::countr_zero(selected));
      high = value + static_cast<unsigned>(std::bit_width(selected)) - 1;
    }
    if (last < low || first > high) continue;
    s.watched_address = std::max(first, low) | (address & ~mask_low(49));
    ir::raise(state, ir::ExitKind::Trap, syndrome(Class::WatchpointLower, kDebugEvent | (store ? u32{kIssWrite} : 0)));
  }
}

template <class F>
const void* address_of(F* function) {
  return reinterpret_cast<const void*>(function);
}
constexpr u32 kState = ir::READS_STATE | ir::WRITES_STATE, kRaises = kState | ir::MAY_FAULT;

}  // namespace

bool is_tlbi(u32 op1, u32 crm, u32 op2) {
  const bool plain = crm == 1 || crm == 3 || crm == 7, range = crm == 2 || crm == 5 || crm == 6;
  switch (op1) {
    case 0: return (plain && op2 != 4 && op2 != 6) || (range && (op2 & 1));
    case 4:
      return (plain && op2 != 2 && op2 != 3 && op2 != 7) || (range && (op2 == 1 || op2 == 5)) ||
             ((crm == 0 || crm == 4) && (op2 & 1 || op2 == 2));
    case 6: return (plain && (op2 == 0 || op2 == 1 || op2 == 5)) || (range && (op2 == 1 || op2 == 5));
    default: return false;
  }
}

const Helper kReadRegister = {"read_register", address_of(read_system_register), Type::I64, {Type::I64}, kRaises};
const Helper kWriteRegister = {
    "write_register", address_of(write_system_register), Type::Void, {Type::I64, Type::I64}, kRaises};
const Helper kReadDeviceRegister = {"read_device_register", address_of(read_device_register), Type::I64, {Type::I64}, kRaises};
const Helper kWriteDeviceRegister = {
    "write_device_register", address_of(write_device_register), Type::Void, {Type::I64, Type::I64}, kRaises};
const Helper kCheckRegisterTraps = {
    "check_register_traps", address_of(check_register_traps), Type::Void, {Type::I64, Type::I64}, kRaises};
const Helper kWriteSpSel = {"write_sp_sel", address_of(write_sp_sel), Type::Void, {Type::I64}, kState};
const Helper kReadPanOrUao = {"read_pan_or_uao", address_of(read_pan_or_uao), Type::I64, {Type::I64}, kRaises};
const Helper kWritePanOrUao = {"write_pan_or_uao", address_of(write_pan_or_uao), Type::Void, {Type::I64, Type::I64}, kRaises};
const Helper kRenewContext = {"renew_context", address_of(renew_context), Type::Void, {}, kState};
const Helper kLookForInterrupts = {"look_for_interrupts", address_of(look_now), Type::Void, {}, kState};
const Helper kMaintainCache = {
    "maintain_cache", address_of(maintain_cache), Type::Void, {Type::I64, Type::I64}, kRaises | ir::READS_MEM};
const Helper kSettleAsid = {"settle_asid", address_of(settle_asid), Type::Void, {}, kState};
const Helper kTranslateAddress = {
    "translate_address", address_of(translate_address), Type::Void, {Type::I64, Type::I64}, kRaises};
const Helper kInvalidateTlb = {"invalidate_tlb", address_of(invalidate_tlb), Type::Void, {Type::I64, Type::I64}, kState};
const Helper kStepDone = {"step_done", address_of(step_done), Type::Void, {}, kState};
const Helper kCheckBreakpoints = {"check_breakpoints", address_of(check_breakpoints), Type::Void, {Type::I64}, kRaises};
const Helper kCheckWatchpoints = {
    "check_watchpoints", address_of(check_watchpoints), Type::Void, {Type::I64, Type::I64}, kRaises};
const Helper kTakeSupervisorCall = {"take_supervisor_call", address_of(take_supervisor_call), Type::I64, {Type::I64}, kState};
const Helper kExceptionReturn = {"exception_return", address_of(exception_return), Type::I64, {}, kState};
const Helper kWaitForInterrupt = {"wait_for_interrupt", address_of(wait_for_interrupt), Type::Void, {}, kState};

}  // namespace kiln::arm
