// The mode word of a full system, the identity of its address spaces, reset, and the guest description.
#include <emmintrin.h>

#include <algorithm>
#include <array>

#include "frontends/arm/fpcr.h"
#include "frontends/arm/lifter.h"
#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

namespace {

bool fp_traps(const A64SystemState& s) {
  if (s.el <= 1 && !(s.el == 0 && (hcr_of(s) & kHcrTge))) {
    const u64 fpen = bits(s.cpacr_el1, 20, 2);
    if (!(fpen & 1) || (fpen == 1 && s.el == 0)) return true;
  }
  if (s.has_el2 && s.el <= 2 && bit(s.cptr_el2, 10)) return true;
  return s.has_el3 && bit(s.cptr_el3, 10);
}

u64 mix(u64 h, u64 value) {
  h = (h ^ value) * 0x9e3779b97f4a7c15;
  return h ^ h >> 29;
}

void reset(ir::CpuState* state, GuestAddr entry) {
  A64SystemState& s = system_state(state);
  if (!s.configured) configure(state, {});
  constexpr std::size_t kFirst = offsetof(A64State, x), kIdentity = offsetof(A64SystemState, midr_el1);
  std::memset(reinterpret_cast<char*>(state) + kFirst, 0, kIdentity - kFirst);
  s.full_system = 1;
  s.exclusive_address = ~u64{0};
  s.flags_kind = static_cast<u32>(ir::FlagsKind::Image);
  s.flags_a = s.flags_b = 0;
  s.mxcsr = kMxcsrMasks;
  s.pc = entry;
  s.exit_kind = s.exit_aux = 0;
  s.el = s.has_el3 ? 3 : s.has_el2 ? 2 : 1;
  s.sp_sel = 1;
  s.daif = kDaifD | kDaifA | kDaifI | kDaifF;
  s.pending = s.tlb_asid_user = s.tlb_asid_kernel = s.low_fetch = s.tlb_tagged = s.tlb_high_el = s.stepped = s.watched_address =
      s.cache_maintenance = s.timer_outputs = 0;
  reset_registers(s);
  s.mode = system_mode(s, s.mxcsr);
  if (s.user_data == nullptr) return;
  ir::port(state).flush_tlb({}, false);
  ir::port(state).space_changed();
  renew_timers(s);
}

void reset_at_zero(ir::CpuState* state) { reset(state, 0); }

void set_arguments(ir::CpuState* state, std::span<const u64> values) {
  std::copy_n(values.begin(), std::min<std::size_t>(values.size(), 8), system_state(state).x);
}

u32 mode_of(const ir::CpuState* state) { return system_mode(system_state(state), state->mxcsr); }

unsigned fetch_index(const ir::CpuState* state) {
  const u64 el = system_state(state).el;
  return el >= 2 ? 3 : static_cast<unsigned>(el);
}

/// Of what (tables) is there; ASIDs say only whose it is. `low`: TTBR0 counts.
u64 space(const A64SystemState& s, bool low) {
  if (s.el >= 2) return mix(mix(mix(s.el, s.sctlr_el[s.el] & (kSctlrM | kSctlrWxn)), s.ttbr0_el[s.el]), s.tcr_el[s.el]);
  const u64 stage2 = hcr_of(s) & (kHcrVm | kHcrDc) ? mix(mix(hcr_of(s), s.vttbr_el2), s.vtcr_el2) : 0;
  const u64 control = s.sctlr_el[1] & (kSctlrM | kSctlrWxn);
  if (!(control & kSctlrM)) return mix(mix(0, control), stage2);
  const u64 base0 = low ? s.ttbr0_el[1] & mask_low(48) : 0, base1 = s.ttbr1_el1 & mask_low(48);
  return mix(mix(mix(mix(mix(1, control), base0), base1), s.tcr_el[1]), stage2);
}
/// The kernel's code lies in the upper half: see ttbr0_written().
u64 space_of(const ir::CpuState* state) { return space(system_state(state), system_state(state).el != 1); }
u64 data_space_of(const ir::CpuState* state) { return space(system_state(state), true); }

void alarm(ir::CpuState* state) { renew_timers(system_state(state)); }

std::string dump(const ir::CpuState* state) {
  const A64SystemState& s = system_state(state);
  std::string out = kA64.dump(state);
  char text[96];
  std::snprintf(text, sizeof text, "EL%llu%c DAIF=%c%c%c%c PAN=%llu UAO=%llu SS=%llu IL=%llu mode=%08x\n",
                static_cast<unsigned long long>(s.el), s.sp_sel ? 'h' : 't', s.daif & kDaifD ? 'D' : '-',
                s.daif & kDaifA ? 'A' : '-', s.daif & kDaifI ? 'I' : '-', s.daif & kDaifF ? 'F' : '-',
                static_cast<unsigned long long>(s.pan), static_cast<unsigned long long>(s.uao),
                static_cast<unsigned long long>(s.ss), static_cast<unsigned long long>(s.il), s.mode);
  out += text;
  unsigned column = 0;
  for (const ir::Slot& slot : kA64System.slots.subspan(kA64.slots.size())) {
    u64 value;
    std::memcpy(&value, reinterpret_cast<const char*>(state) + slot.offset, sizeof value);
    if (value == 0) continue;
    std::snprintf(text, sizeof text, "%17s=%016llx%c", slot.name, static_cast<unsigned long long>(value),
                  ++column % 3 ? ' ' : '\n');
    out += text;
  }
  if (column % 3) out += '\n';
  return out;
}

/// All that a snapshot holds: the user slots, what no register names, the table's registers.
std::span<const ir::Slot> all_slots() {
  static const std::vector<ir::Slot> slots = [] {
    std::vector<ir::Slot> all(kA64.slots.begin(), kA64.slots.end());
    const auto add = [&](const char* name, std::size_t offset) {
      if (std::none_of(all.begin(), all.end(), [&](const ir::Slot& slot) { return slot.offset == offset; }))
        all.push_back({name, static_cast<u32>(offset), ir::Type::I64});
    };
    add("PSTATE.EL", offsetof(A64SystemState, el));
    add("PSTATE.SP", offsetof(A64SystemState, sp_sel));
    add("PSTATE.DAIF", offsetof(A64SystemState, daif));
    add("PSTATE.PAN", offsetof(A64SystemState, pan));
    add("PSTATE.UAO", offsetof(A64SystemState, uao));
    add("PSTATE.SS", offsetof(A64SystemState, ss));
    add("PSTATE.IL", offsetof(A64SystemState, il));
    add("fpsr_watched", offsetof(A64State, fpsr_watched));
    add("SP_EL3", offsetof(A64SystemState, sp_el) + 24);
    add("stepped", offsetof(A64SystemState, stepped));
    add("has_el2", offsetof(A64SystemState, has_el2));
    add("has_el3", offsetof(A64SystemState, has_el3));
    add("has_pan", offsetof(A64SystemState, has_pan));
    add("has_uao", offsetof(A64SystemState, has_uao));
    add("psci_conduit", offsetof(A64SystemState, psci_conduit));
    add("PMCNTEN", offsetof(A64SystemState, pmcnten));
    add("PMOVS", offsetof(A64SystemState, pmovs));
    add("PMINTEN", offsetof(A64SystemState, pmint));
    add("PMCCNTR_base", offsetof(A64SystemState, pmccntr_base));
    add("OSLK", offsetof(A64SystemState, os_lock));
    add("DBGCLAIM", offsetof(A64SystemState, dbgclaim));
    constexpr const char* kCtl[kTimers] = {"CNTP_CTL", "CNTV_CTL", "CNTHP_CTL", "CNTPS_CTL"};
    constexpr const char* kCcsidr[3] = {"CCSIDR_L1D", "CCSIDR_L1I", "CCSIDR_L2"};
    for (unsigned i = 0; i < kTimers; ++i) add(kCtl[i], offsetof(A64SystemState, timer_ctl) + 8 * i);
    for (unsigned i = 0; i < 3; ++i) add(kCcsidr[i], offsetof(A64SystemState, ccsidr) + 8 * i);
    for (const SystemRegister& r : system_registers())
      if (r.offset != 0) add(r.name, r.offset);
    return all;
  }();
  return slots;
}

constexpr ir::SystemDesc kSystem = {
    .reset = reset,
    .set_arguments = set_arguments,
    .translate = translate,
    .bus_error = bus_error,
    .fetch_index = fetch_index,
    .space_of = space_of,
    .data_space_of = data_space_of,
    .exception = enter_exception,
    .interrupt = take_interrupt,
    .wakes = wakes,
    .alarm = alarm,
};

}  // namespace

bool debug_exceptions_enabled(const A64SystemState& s) {
  if (s.os_lock || s.os_double_lock) return false;
  const unsigned target = s.has_el2 && (bit(s.mdcr_el2, 8) || (s.hcr_el2 & kHcrTge)) ? 2 : 1;
  if (s.el < target) return true;
  return s.el == target && bit(s.mdscr_el1, 13) && !(s.daif & kDaifD);
}

u32 system_mode(const A64SystemState& s, u32 mxcsr) {
  const unsigned regime = s.el == 0 ? 1 : static_cast<unsigned>(s.el);
  const u64 sctlr = s.sctlr_el[regime], hcr = hcr_of(s);
  u32 mode = static_cast<u32>(s.el) << kModeElShift;
  if (fp_traps(s)) mode |= kModeFpTrap;
  else mode |= mode_from(s, mxcsr);
  if (s.sp_sel) mode |= kModeSpSel;
  if (s.el == 1) {
    const u64 asid = current_asid(s);
    if (!s.has_pan) mode |= kModeNoPan;
    if (asid != s.tlb_asid_kernel || (s.has_pan && asid != s.tlb_asid_user)) mode |= kModeAsidPending;
  }
  if (s.pan) mode |= kModePan;
  if (s.uao) mode |= kModeUao;
  if (s.il) mode |= kModeIllegal;
  const bool stage1 = (sctlr & kSctlrM) || (regime == 1 && (hcr & kHcrDc));
  if ((sctlr & kSctlrA) || !stage1) mode |= kModeAlign;
  if ((s.mdscr_el1 & (1 | 1 << 15)) && bit(s.mdscr_el1, 13) && s.el != 0 && !s.os_lock) mode |= kModeDebugByMask;
  if ((s.mdscr_el1 & (1 | 1 << 15)) && debug_exceptions_enabled(s)) {
    if (s.mdscr_el1 & 1) mode |= s.ss ? kModeStep : kModeStepPending;
    if (bit(s.mdscr_el1, 15) && std::any_of(s.dbgbcr, s.dbgbcr + kBreakpoints, [](u64 bcr) { return bcr & 1; }))
      mode |= kModeBreakpoints;
    if (bit(s.mdscr_el1, 15) && std::any_of(s.dbgwcr, s.dbgwcr + kWatchpoints, [](u64 wcr) { return wcr & 1; }))
      mode |= kModeWatchpoints;
  }
  if (s.el == 0 && !(hcr & kHcrTge)) {
    if (!(sctlr & kSctlrDze)) mode |= kModeNoZva;
    if (!(sctlr & kSctlrUci)) mode |= kModeNoCacheOps;
    if (!(sctlr & kSctlrUct)) mode |= kModeNoCtr;
    if (!(sctlr & kSctlrNtwi)) mode |= kModeNoWfi;
    if (!(sctlr & kSctlrNtwe)) mode |= kModeNoWfe;
    if (sctlr & kSctlrUma) mode |= kModeMaskAccess;
  }
  if (s.el <= 1) {
    if (hcr & kHcrTwi) mode |= kModeNoWfi;
    if (hcr & kHcrTwe) mode |= kModeNoWfe;
    if (hcr & kHcrRegisterTraps) mode |= kModeRegisterTraps;
  }
  if (s.el <= 2 && s.has_el3) {
    if (bit(s.scr_el3, 12)) mode |= kModeNoWfi;
    if (bit(s.scr_el3, 13)) mode |= kModeNoWfe;
  }
  return mode;
}

void renew_system_mode(A64State& state, u32 mxcsr) {
  A64SystemState& s = system_state(&state);
  const u32 mode = system_mode(s, mxcsr);
  if (mode == s.mode) return;
  s.mode = mode;
  ir::port(&s).space_changed();
}

void context_changed(A64SystemState& s) {
  if (s.el == 0) use_user_asid(s);
  s.mode = system_mode(s, s.in_code ? _mm_getcsr() : s.mxcsr);
  ir::port(&s).space_changed();
}

void restored(ir::CpuState* state) {
  A64SystemState& s = system_state(state);
  s.full_system = 1;
  s.pending = s.tlb_asid_user = s.tlb_asid_kernel = s.low_fetch = s.tlb_tagged = s.tlb_high_el = s.cache_maintenance = 0;
  s.exit_aux = 0;
  ir::port(state).flush_tlb({}, false);
  // The other end of the lines has a state of its own, which may be older or newer: all of them are told again.
  for (unsigned timer = 0; timer < kTimers; ++timer) ir::port(state).set_output(timer, false);
  s.timer_outputs = 0;
  renew_timers(s);
  context_changed(s);
  look_for_interrupts(s);
}

bool read_register(ir::CpuState* state, std::string_view name, u64& value) {
  for (const SystemRegister& r : system_registers()) {
    if (r.name != name || r.offset == 0) continue;
    std::memcpy(&value, reinterpret_cast<const char*>(state) + r.offset, sizeof value);
    return true;
  }
  return false;
}

const ir::GuestDesc kA64System = {
    .name = "aarch64",
    .big_endian = false,
    .pointer_bits = 64,
    .insn_alignment = 4,
    .state_size = sizeof(A64SystemState),
    .slots = all_slots(),
    .nzcv_mask = 0,
    .llvm_triple = kA64.llvm_triple,
    .llvm_features = kA64.llvm_features,
    .reset = reset_at_zero,
    .mode_of = mode_of,
    .lift = [](ir::CodeSource& code, GuestAddr pc, u32 mode, const ir::LiftLimits& limits,
               ir::Block& out) { lift_block(code, pc, mode, limits, out, true); },
    .dump = dump,
    .coherent_icache = false,
    .address_mask = 0,
    .system = &kSystem,
};

}  // namespace kiln::arm
