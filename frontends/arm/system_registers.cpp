// The system registers but for timers and debug: one row each. Registers that every instruction may change or that are part of
// PSTATE (NZCV, DAIF, CurrentEL, SPSel, PAN, UAO, FPCR, FPSR) are lifted by hand in lift_privileged.cpp and lift_system.cpp.
#include <algorithm>
#include <array>
#include <cstdio>
#include <mutex>
#include <set>

#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

namespace {

using S = A64SystemState;

void flush_all(S& s) { ir::port(&s).flush_tlb({}, false); }

template <unsigned kEl>
void write_sctlr(S& s, u64 value, u32) {
  value &= ~(kSctlrEe | kSctlrE0e);  // ID_AA64MMFR0.BigEnd = 0
  const u64 changed = s.sctlr_el[kEl] ^ value;
  s.sctlr_el[kEl] = value;
  if (changed & (kSctlrM | kSctlrWxn)) flush_all(s);
  context_changed(s);
}
template <unsigned kEl>
void write_tcr(S& s, u64 value, u32) {
  const bool changed = s.tcr_el[kEl] != value;
  s.tcr_el[kEl] = value;
  if (changed) flush_all(s);
  if (kEl == 1) address_space_written(s);
  else context_changed(s);
}
template <unsigned kEl>
void write_mair(S& s, u64 value, u32) {
  if (s.mair_el[kEl] != value) flush_all(s);
  s.mair_el[kEl] = value;
}
void write_ttbr0_el1(S& s, u64 value, u32) {
  s.ttbr0_el[1] = value;
  ttbr0_written(s);
}
void write_ttbr1_el1(S& s, u64 value, u32) {
  s.ttbr1_el1 = value;
  address_space_written(s);
}
template <unsigned kEl>
void write_ttbr0_high(S& s, u64 value, u32) {
  s.ttbr0_el[kEl] = value;
  context_changed(s);
}
void write_cpacr(S& s, u64 value, u32) {
  s.cpacr_el1 = value & (3 << 20);
  context_changed(s);
}
void write_hcr(S& s, u64 value, u32) {
  constexpr u64 kVhe = u64{1} << 34;
  s.hcr_el2 = (value & ~kVhe) | kHcrRw;
  flush_all(s);
  context_changed(s);
  look_for_interrupts(s);
}
void write_cptr_el2(S& s, u64 value, u32) {
  s.cptr_el2 = value;
  context_changed(s);
}
void write_cptr_el3(S& s, u64 value, u32) {
  s.cptr_el3 = value;
  context_changed(s);
}
void write_vttbr(S& s, u64 value, u32) {
  if (s.vttbr_el2 != value) flush_all(s);
  s.vttbr_el2 = value;
  context_changed(s);
}
void write_vtcr(S& s, u64 value, u32) {
  if (s.vtcr_el2 != value) flush_all(s);
  s.vtcr_el2 = value;
  context_changed(s);
}
void write_scr(S& s, u64 value, u32) {
  s.scr_el3 = value | kScrRw;
  context_changed(s);
  look_for_interrupts(s);
}

u64 zero(S&, u32) { return 0; }
void ignore(S&, u64, u32) {}
u64 read_midr(S& s, u32) { return s.el == 1 && s.has_el2 ? s.vpidr_el2 : s.midr_el1; }
u64 read_mpidr(S& s, u32) { return s.el == 1 && s.has_el2 ? s.vmpidr_el2 : s.mpidr_el1; }
u64 read_ccsidr(S& s, u32) {
  switch (s.csselr_el1 & 15) {
    case 0: return s.ccsidr[0];
    case 1: return s.ccsidr[1];
    case 2: return s.ccsidr[2];
    default: return 0;
  }
}
u64 read_isr(S& s, u32) {
  const u32 inputs = ir::port(&s).inputs();
  const u64 hcr = hcr_of(s);
  const bool guest = s.el <= 1;
  const bool irq = guest && (hcr & kHcrImo) ? bit(inputs, kInputVirtualIrq) || (hcr & kHcrVi) : bit(inputs, kInputIrq);
  const bool fiq = guest && (hcr & kHcrFmo) ? bit(inputs, kInputVirtualFiq) || (hcr & kHcrVf) : bit(inputs, kInputFiq);
  return (irq ? kDaifI : 0) | (fiq ? kDaifF : 0) | (bit(inputs, kInputSError) ? kDaifA : 0);
}

constexpr u64 kCortexMidr = 0x41;
u64 read_implementation_defined(S& s, u32 access) {
  if (s.midr_el1 >> 24 != kCortexMidr) raise_undefined(s);
  report_unknown_register(s, access & 0xffff, true);
  return 0;
}
void write_implementation_defined(S& s, u64, u32 access) {
  if (s.midr_el1 >> 24 != kCortexMidr) raise_undefined(s);
  report_unknown_register(s, access & 0xffff, false);
}

constexpr u64 kVector = ~u64{0x7ff};
constexpr u64 kSctlrReset = 0x00c50838;
constexpr u8 E0 = 0, E1 = 1, E2 = 2, E3 = 3, NO = kNever;

// clang-format off: one row, one line
#define REG register_number
#define AT(field) static_cast<u32>(offsetof(S, field))
constexpr SystemRegister kCore[] = {
    // name, encoding, read, write, slot, mask, reset, functions
    {"MIDR_EL1", REG(3, 0, 0, 0, 0), E1, NO, AT(midr_el1), {.read = read_midr}},
    {"MPIDR_EL1", REG(3, 0, 0, 0, 5), E1, NO, AT(mpidr_el1), {.read = read_mpidr}},
    {"REVIDR_EL1", REG(3, 0, 0, 0, 6), E1, NO, AT(revidr_el1)},
    {"ID_AA64PFR0_EL1", REG(3, 0, 0, 4, 0), E1, NO, AT(id_aa64pfr0)},
    {"ID_AA64PFR1_EL1", REG(3, 0, 0, 4, 1), E1, NO, AT(id_aa64pfr1)},
    {"ID_AA64DFR0_EL1", REG(3, 0, 0, 5, 0), E1, NO, AT(id_aa64dfr0)},
    {"ID_AA64DFR1_EL1", REG(3, 0, 0, 5, 1), E1, NO, AT(id_aa64dfr1)},
    {"ID_AA64ISAR0_EL1", REG(3, 0, 0, 6, 0), E1, NO, AT(id_aa64isar0)},
    {"ID_AA64ISAR1_EL1", REG(3, 0, 0, 6, 1), E1, NO, AT(id_aa64isar1)},
    {"ID_AA64MMFR0_EL1", REG(3, 0, 0, 7, 0), E1, NO, AT(id_aa64mmfr0)},
    {"ID_AA64MMFR1_EL1", REG(3, 0, 0, 7, 1), E1, NO, AT(id_aa64mmfr1)},
    {"ID_AA64MMFR2_EL1", REG(3, 0, 0, 7, 2), E1, NO, AT(id_aa64mmfr2)},
    {"CCSIDR_EL1", REG(3, 1, 0, 0, 0), E1, NO, 0, {.read = read_ccsidr}},
    {"CLIDR_EL1", REG(3, 1, 0, 0, 1), E1, NO, AT(clidr_el1)},
    {"AIDR_EL1", REG(3, 1, 0, 0, 7), E1, NO, 0, {.read = zero}},
    {"CSSELR_EL1", REG(3, 2, 0, 0, 0), E1, E1, AT(csselr_el1), {.mask = 15}},
    {"CTR_EL0", REG(3, 3, 0, 0, 1), E0, NO, AT(ctr_el0)},

    {"SCTLR_EL1", REG(3, 0, 1, 0, 0), E1, E1, AT(sctlr_el[1]), {.reset = kSctlrReset, .write = write_sctlr<1>, .after = After::Context}},
    {"ACTLR_EL1", REG(3, 0, 1, 0, 1), E1, E1, AT(actlr_el[1])},
    {"CPACR_EL1", REG(3, 0, 1, 0, 2), E1, E1, AT(cpacr_el1), {.write = write_cpacr, .after = After::Context}},
    {"TTBR0_EL1", REG(3, 0, 2, 0, 0), E1, E1, AT(ttbr0_el[1]), {.write = write_ttbr0_el1, .after = After::Context}},
    {"TTBR1_EL1", REG(3, 0, 2, 0, 1), E1, E1, AT(ttbr1_el1), {.write = write_ttbr1_el1, .after = After::Context}},
    {"TCR_EL1", REG(3, 0, 2, 0, 2), E1, E1, AT(tcr_el[1]), {.write = write_tcr<1>, .after = After::Context}},
    {"SPSR_EL1", REG(3, 0, 4, 0, 0), E1, E1, AT(spsr_el[1])},
    {"ELR_EL1", REG(3, 0, 4, 0, 1), E1, E1, AT(elr_el[1])},
    {"SP_EL0", REG(3, 0, 4, 1, 0), E1, E1, AT(sp_el[0])},  // undefined with SPSel = 0: see lift_privileged.cpp
    {"AFSR0_EL1", REG(3, 0, 5, 1, 0), E1, E1, AT(afsr0_el[1])},
    {"AFSR1_EL1", REG(3, 0, 5, 1, 1), E1, E1, AT(afsr1_el[1])},
    {"ESR_EL1", REG(3, 0, 5, 2, 0), E1, E1, AT(esr_el[1])},
    {"FAR_EL1", REG(3, 0, 6, 0, 0), E1, E1, AT(far_el[1])},
    {"PAR_EL1", REG(3, 0, 7, 4, 0), E1, E1, AT(par_el1)},
    {"MAIR_EL1", REG(3, 0, 10, 2, 0), E1, E1, AT(mair_el[1]), {.write = write_mair<1>}},
    {"AMAIR_EL1", REG(3, 0, 10, 3, 0), E1, E1, AT(amair_el[1])},
    {"VBAR_EL1", REG(3, 0, 12, 0, 0), E1, E1, AT(vbar_el[1]), {.mask = kVector}},
    {"RVBAR_EL1", REG(3, 0, 12, 0, 1), E1, NO, 0, {.read = zero}},
    {"ISR_EL1", REG(3, 0, 12, 1, 0), E1, NO, 0, {.read = read_isr}},
    {"CONTEXTIDR_EL1", REG(3, 0, 13, 0, 1), E1, E1, AT(contextidr_el1), {.mask = 0xffffffff}},
    {"TPIDR_EL1", REG(3, 0, 13, 0, 4), E1, E1, AT(tpidr_el[1])},
    {"TPIDR_EL0", REG(3, 3, 13, 0, 2), E0, E0, AT(tpidr_el0)},
    {"TPIDRRO_EL0", REG(3, 3, 13, 0, 3), E0, E1, AT(tpidrro_el0)},

    {"VPIDR_EL2", REG(3, 4, 0, 0, 0), E2, E2, AT(vpidr_el2)},
    {"VMPIDR_EL2", REG(3, 4, 0, 0, 5), E2, E2, AT(vmpidr_el2)},
    {"SCTLR_EL2", REG(3, 4, 1, 0, 0), E2, E2, AT(sctlr_el[2]), {.reset = kSctlrReset, .write = write_sctlr<2>, .after = After::Context}},
    {"ACTLR_EL2", REG(3, 4, 1, 0, 1), E2, E2, AT(actlr_el[2])},
    {"HCR_EL2", REG(3, 4, 1, 1, 0), E2, E2, AT(hcr_el2), {.reset = kHcrRw, .write = write_hcr, .after = After::Context}},
    {"CPTR_EL2", REG(3, 4, 1, 1, 2), E2, E2, AT(cptr_el2), {.write = write_cptr_el2, .after = After::Context}},
    {"HSTR_EL2", REG(3, 4, 1, 1, 3), E2, E2, AT(hstr_el2)},
    {"HACR_EL2", REG(3, 4, 1, 1, 7), E2, E2, AT(hacr_el2)},
    {"TTBR0_EL2", REG(3, 4, 2, 0, 0), E2, E2, AT(ttbr0_el[2]), {.write = write_ttbr0_high<2>, .after = After::Context}},
    {"TCR_EL2", REG(3, 4, 2, 0, 2), E2, E2, AT(tcr_el[2]), {.write = write_tcr<2>, .after = After::Context}},
    {"VTTBR_EL2", REG(3, 4, 2, 1, 0), E2, E2, AT(vttbr_el2), {.write = write_vttbr, .after = After::Context}},
    {"VTCR_EL2", REG(3, 4, 2, 1, 2), E2, E2, AT(vtcr_el2), {.write = write_vtcr, .after = After::Context}},
    {"SPSR_EL2", REG(3, 4, 4, 0, 0), E2, E2, AT(spsr_el[2])},
    {"ELR_EL2", REG(3, 4, 4, 0, 1), E2, E2, AT(elr_el[2])},
    {"SP_EL1", REG(3, 4, 4, 1, 0), E2, E2, AT(sp_el[1])},
    // Of AArch32, which is not there: RES0 at EL2.
    {"SPSR_irq", REG(3, 4, 4, 3, 0), E2, E2, 0, {.read = zero, .write = ignore}},
    {"SPSR_abt", REG(3, 4, 4, 3, 1), E2, E2, 0, {.read = zero, .write = ignore}},
    {"SPSR_und", REG(3, 4, 4, 3, 2), E2, E2, 0, {.read = zero, .write = ignore}},
    {"SPSR_fiq", REG(3, 4, 4, 3, 3), E2, E2, 0, {.read = zero, .write = ignore}},
    {"DACR32_EL2", REG(3, 4, 3, 0, 0), E2, E2, 0, {.read = zero, .write = ignore}},
    {"IFSR32_EL2", REG(3, 4, 5, 0, 1), E2, E2, 0, {.read = zero, .write = ignore}},
    {"FPEXC32_EL2", REG(3, 4, 5, 3, 0), E2, E2, 0, {.read = zero, .write = ignore}},
    {"AFSR0_EL2", REG(3, 4, 5, 1, 0), E2, E2, AT(afsr0_el[2])},
    {"AFSR1_EL2", REG(3, 4, 5, 1, 1), E2, E2, AT(afsr1_el[2])},
    {"ESR_EL2", REG(3, 4, 5, 2, 0), E2, E2, AT(esr_el[2])},
    {"FAR_EL2", REG(3, 4, 6, 0, 0), E2, E2, AT(far_el[2])},
    {"HPFAR_EL2", REG(3, 4, 6, 0, 4), E2, E2, AT(hpfar_el2)},
    {"MAIR_EL2", REG(3, 4, 10, 2, 0), E2, E2, AT(mair_el[2]), {.write = write_mair<2>}},
    {"AMAIR_EL2", REG(3, 4, 10, 3, 0), E2, E2, AT(amair_el[2])},
    {"VBAR_EL2", REG(3, 4, 12, 0, 0), E2, E2, AT(vbar_el[2]), {.mask = kVector}},
    {"RVBAR_EL2", REG(3, 4, 12, 0, 1), E2, NO, 0, {.read = zero}},
    {"TPIDR_EL2", REG(3, 4, 13, 0, 2), E2, E2, AT(tpidr_el[2])},

    {"SCTLR_EL3", REG(3, 6, 1, 0, 0), E3, E3, AT(sctlr_el[3]), {.reset = kSctlrReset, .write = write_sctlr<3>, .after = After::Context}},
    {"ACTLR_EL3", REG(3, 6, 1, 0, 1), E3, E3, AT(actlr_el[3])},
    {"SCR_EL3", REG(3, 6, 1, 1, 0), E3, E3, AT(scr_el3), {.reset = kScrRw, .write = write_scr, .after = After::Context}},
    {"SDER32_EL3", REG(3, 6, 1, 1, 1), E3, E3, AT(sder32_el3)},
    {"CPTR_EL3", REG(3, 6, 1, 1, 2), E3, E3, AT(cptr_el3), {.write = write_cptr_el3, .after = After::Context}},
    {"MDCR_EL3", REG(3, 6, 1, 3, 1), E3, E3, AT(mdcr_el3)},
    {"TTBR0_EL3", REG(3, 6, 2, 0, 0), E3, E3, AT(ttbr0_el[3]), {.write = write_ttbr0_high<3>, .after = After::Context}},
    {"TCR_EL3", REG(3, 6, 2, 0, 2), E3, E3, AT(tcr_el[3]), {.write = write_tcr<3>, .after = After::Context}},
    {"SPSR_EL3", REG(3, 6, 4, 0, 0), E3, E3, AT(spsr_el[3])},
    {"ELR_EL3", REG(3, 6, 4, 0, 1), E3, E3, AT(elr_el[3])},
    {"SP_EL2", REG(3, 6, 4, 1, 0), E3, E3, AT(sp_el[2])},
    {"AFSR0_EL3", REG(3, 6, 5, 1, 0), E3, E3, AT(afsr0_el[3])},
    {"AFSR1_EL3", REG(3, 6, 5, 1, 1), E3, E3, AT(afsr1_el[3])},
    {"ESR_EL3", REG(3, 6, 5, 2, 0), E3, E3, AT(esr_el[3])},
    {"FAR_EL3", REG(3, 6, 6, 0, 0), E3, E3, AT(far_el[3])},
    {"MAIR_EL3", REG(3, 6, 10, 2, 0), E3, E3, AT(mair_el[3]), {.write = write_mair<3>}},
    {"AMAIR_EL3", REG(3, 6, 10, 3, 0), E3, E3, AT(amair_el[3])},
    {"VBAR_EL3", REG(3, 6, 12, 0, 0), E3, E3, AT(vbar_el[3]), {.mask = kVector}},
    {"RVBAR_EL3", REG(3, 6, 12, 0, 1), E3, NO, 0, {.read = zero}},
    {"TPIDR_EL3", REG(3, 6, 13, 0, 2), E3, E3, AT(tpidr_el[3])},
};
// clang-format on
#undef AT
#undef REG

/// The rest of the ID space reads as zero; so it says that a feature is not there.
constexpr SystemRegister kReservedId = {"ID_*", 0, E1, NO, 0, {.read = zero}};
constexpr SystemRegister kImplementationDefined = {
    "S3_*_C15_*", 0, E1, E1, 0, {.read = read_implementation_defined, .write = write_implementation_defined}};

/// Row number plus one by encoding; 0: none. System registers are looked up at run time, too (helpers), so this is quick.
const std::vector<u16>& row_numbers() {
  static const std::vector<u16> numbers = [] {
    std::vector<u16> all(1 << 16);
    u16 n = 0;
    for (const SystemRegister& r : system_registers()) all[r.encoding] = ++n;
    return all;
  }();
  return numbers;
}

}  // namespace

std::span<const SystemRegister> core_registers() { return kCore; }

std::span<const SystemRegister> system_registers() {
  static const std::vector<SystemRegister> all = [] {
    std::vector<SystemRegister> rows;
    for (const auto part : {core_registers(), timer_registers(), debug_registers()})
      rows.insert(rows.end(), part.begin(), part.end());
    return rows;
  }();
  return all;
}

const SystemRegister* find_register(u32 encoding) {
  if (const u16 number = row_numbers()[encoding]) return &system_registers()[number - 1u];
  const u64 op0 = encoding >> 14, op1 = bits(encoding, 11, 3), crn = bits(encoding, 7, 4), crm = bits(encoding, 3, 4);
  if (op0 == 3 && op1 == 0 && crn == 0 && crm >= 1 && crm <= 7) return &kReservedId;
  if (op0 == 3 && op1 <= 1 && (crn == 11 || crn == 15)) return &kImplementationDefined;
  return nullptr;
}

bool is_device_register(u32 encoding) {
  const u64 op0 = encoding >> 14, crn = bits(encoding, 7, 4), crm = bits(encoding, 3, 4);
  return (op0 == 3 && crn == 12 && crm >= 8) || encoding == register_number(3, 0, 4, 6, 0);
}

void reset_registers(A64SystemState& s) {
  for (const SystemRegister& r : system_registers())
    if (r.does.reset != 0 && r.offset != 0)
      std::memcpy(reinterpret_cast<char*>(static_cast<ir::CpuState*>(&s)) + r.offset, &r.does.reset, 8);
  s.vpidr_el2 = s.midr_el1;
  s.vmpidr_el2 = s.mpidr_el1;
  s.os_lock = 1;
}

u32 register_trap(u32 access, bool read) {
  const u32 e = access & 0xffff, rt = access >> 16;
  return syndrome(Class::RegisterTrap,
                  static_cast<u32>(bits(e, 14, 2) << 20 | bits(e, 0, 3) << 17 | bits(e, 11, 3) << 14 | bits(e, 7, 4) << 10 |
                                   u64{rt} << 5 | bits(e, 3, 4) << 1 | (read ? 1 : 0)));
}

void raise_register_trap(A64SystemState& s, u32 access, bool read) {
  s.exit_aux = 0;
  ir::raise(&s, ir::ExitKind::Trap, register_trap(access, read));
}

void raise_undefined(A64SystemState& s) {
  // The word matters to logs alone, and who raises this has spoken.
  ir::raise(&s, ir::ExitKind::Undefined, 0);
}

void report_unknown_register(A64SystemState& s, u32 encoding, bool read) {
  static std::mutex lock;
  static std::set<u32> said;
  {
    const std::lock_guard guard(lock);
    if (!said.insert(encoding << 1 | (read ? 1 : 0)).second) return;
  }
  char text[96];
  std::snprintf(text, sizeof text, "%s of system register S%u_%u_C%u_C%u_%u, which is not there (pc %#llx)",
                read ? "read" : "write", encoding >> 14, static_cast<unsigned>(bits(encoding, 11, 3)),
                static_cast<unsigned>(bits(encoding, 7, 4)), static_cast<unsigned>(bits(encoding, 3, 4)), encoding & 7,
                static_cast<unsigned long long>(s.pc));
  ir::port(&s).guest_error(text);
}

}  // namespace kiln::arm
