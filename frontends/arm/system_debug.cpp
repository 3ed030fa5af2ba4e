// Debug and performance-monitor registers. Breakpoints compare in lifted code (kModeBreakpoints); watchpoints are registers
// only, which is said once when one is enabled.
#include <array>

#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

namespace {

using S = A64SystemState;

void write_mdscr(S& s, u64 value, u32) {
  s.mdscr_el1 = value & 0xffffffff;
  context_changed(s);
}
void write_oslar(S& s, u64 value, u32) {
  s.os_lock = value & 1;
  context_changed(s);
}
u64 read_oslsr(S& s, u32) { return 1 << 3 | s.os_lock << 1; }
void write_osdlr(S& s, u64 value, u32) {
  s.os_double_lock = value & 1;
  context_changed(s);
}
void write_mdcr_el2(S& s, u64 value, u32) {
  s.mdcr_el2 = value;
  context_changed(s);
}
void write_dbgbcr(S& s, u64 value, u32 access) {
  s.dbgbcr[bits(access, 3, 4)] = value & 0xffffffff;
  context_changed(s);
}
void write_dbgwcr(S& s, u64 value, u32 access) {
  s.dbgwcr[bits(access, 3, 4)] = value & 0xffffffff;
  context_changed(s);
}
constexpr u64 kClaimTags = 0xff;
u64 read_claim_set(S&, u32) { return kClaimTags; }
void write_claim_set(S& s, u64 value, u32) { s.dbgclaim |= value & kClaimTags; }
u64 read_claim_clear(S& s, u32) { return s.dbgclaim; }
void write_claim_clear(S& s, u64 value, u32) { s.dbgclaim &= ~value; }
u64 zero(S&, u32) { return 0; }
void ignore(S&, u64, u32) {}

// PMU: PMCR.N = 0. The cycle counter counts nanoseconds of the machine's clock.
constexpr u64 kCycleCounter = u64{1} << 31, kPmcrE = 1, kPmcrC = 4;
enum UserEnable : unsigned { kEnAll = 1, kEnCycles = 4, kEnEvents = 8 };

void check_pmu(S& s, u32 access, bool read, unsigned enough = kEnAll) {
  if (s.el == 0 && !(s.pmuserenr_el0 & (kEnAll | enough))) raise_register_trap(s, access, read);
}
bool counting(const S& s) { return (s.pmcr_el0 & kPmcrE) && (s.pmcnten & kCycleCounter); }
u64 cycles(S& s) { return counting(s) ? s.pmccntr_base + ir::port(&s).clock_ns() : s.pmccntr_base; }
void set_cycles(S& s, u64 value) { s.pmccntr_base = counting(s) ? value - ir::port(&s).clock_ns() : value; }
template <class Change>
void keeping_cycles(S& s, Change&& change) {
  const u64 value = cycles(s);
  change();
  set_cycles(s, value);
}
u64 read_pmcr(S& s, u32 access) {
  check_pmu(s, access, true);
  return (s.pmcr_el0 & 0x69) | (s.midr_el1 >> 24 & 0xff) << 24;
}
void write_pmcr(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  keeping_cycles(s, [&] { s.pmcr_el0 = value & 0x69; });
  if (value & kPmcrC) set_cycles(s, 0);
}
u64 read_pmccntr(S& s, u32 access) {
  check_pmu(s, access, true, kEnCycles);
  return cycles(s);
}
void write_pmccntr(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  set_cycles(s, value);
}
u64 read_pmcnten(S& s, u32 access) {
  check_pmu(s, access, true);
  return s.pmcnten;
}
void set_pmcnten(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  keeping_cycles(s, [&] { s.pmcnten |= value & kCycleCounter; });
}
void clear_pmcnten(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  keeping_cycles(s, [&] { s.pmcnten &= ~value; });
}
u64 read_pmovs(S& s, u32 access) {
  check_pmu(s, access, true);
  return s.pmovs;
}
void set_pmovs(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  s.pmovs |= value & kCycleCounter;
}
void clear_pmovs(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  s.pmovs &= ~value;
}
u64 read_pmint(S& s, u32) { return s.pmint; }
void set_pmint(S& s, u64 value, u32) { s.pmint |= value & kCycleCounter; }
void clear_pmint(S& s, u64 value, u32) { s.pmint &= ~value; }
u64 read_pmselr(S& s, u32 access) {
  check_pmu(s, access, true, kEnEvents);
  return s.pmselr_el0;
}
void write_pmselr(S& s, u64 value, u32 access) {
  check_pmu(s, access, false, kEnEvents);
  s.pmselr_el0 = value & 31;
}
u64 read_pmceid0(S& s, u32 access) {
  check_pmu(s, access, true);
  return 1 << 0x11;  // CPU_CYCLES
}
u64 read_pmu_zero(S& s, u32 access) {
  check_pmu(s, access, true);
  return 0;
}
void ignore_pmu(S& s, u64, u32 access) { check_pmu(s, access, false); }
u64 read_pmxevtyper(S& s, u32 access) {
  check_pmu(s, access, true);
  return s.pmselr_el0 == 31 ? s.pmccfiltr_el0 : 0;
}
void write_pmxevtyper(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  if (s.pmselr_el0 == 31) s.pmccfiltr_el0 = value & 0xfc000000;
}

u64 read_pmccfiltr(S& s, u32 access) {
  check_pmu(s, access, true);
  return s.pmccfiltr_el0;
}
void write_pmccfiltr(S& s, u64 value, u32 access) {
  check_pmu(s, access, false);
  s.pmccfiltr_el0 = value & 0xfc000000;
}

constexpr u8 E0 = 0, E1 = 1, E2 = 2, NO = kNever;

// clang-format off: one row, one line
#define REG register_number
#define AT(field) static_cast<u32>(offsetof(S, field))
constexpr SystemRegister kRows[] = {
    {"OSDTRRX_EL1", REG(2, 0, 0, 0, 2), E1, E1, AT(osdtrrx_el1)},
    {"MDCCINT_EL1", REG(2, 0, 0, 2, 0), E1, E1, AT(mdccint_el1)},
    {"MDSCR_EL1", REG(2, 0, 0, 2, 2), E1, E1, AT(mdscr_el1), {.write = write_mdscr, .after = After::Context}},
    {"OSDTRTX_EL1", REG(2, 0, 0, 3, 2), E1, E1, AT(osdtrtx_el1)},
    {"OSECCR_EL1", REG(2, 0, 0, 6, 2), E1, E1, AT(oseccr_el1)},
    {"MDRAR_EL1", REG(2, 0, 1, 0, 0), E1, NO, 0, {.read = zero}},
    {"OSLAR_EL1", REG(2, 0, 1, 0, 4), NO, E1, 0, {.write = write_oslar, .after = After::Context}},
    {"OSLSR_EL1", REG(2, 0, 1, 1, 4), E1, NO, 0, {.read = read_oslsr}},
    {"OSDLR_EL1", REG(2, 0, 1, 3, 4), E1, E1, AT(os_double_lock), {.write = write_osdlr, .after = After::Context}},
    {"DBGPRCR_EL1", REG(2, 0, 1, 4, 4), E1, E1, AT(dbgprcr_el1)},
    {"DBGCLAIMSET_EL1", REG(2, 0, 7, 8, 6), E1, E1, 0, {.read = read_claim_set, .write = write_claim_set}},
    {"DBGCLAIMCLR_EL1", REG(2, 0, 7, 9, 6), E1, E1, 0, {.read = read_claim_clear, .write = write_claim_clear}},
    {"DBGAUTHSTATUS_EL1", REG(2, 0, 7, 14, 6), E1, NO, 0, {.read = zero}},
    {"MDCCSR_EL0", REG(2, 3, 0, 1, 0), E0, NO, 0, {.read = zero}},
    {"DBGDTR_EL0", REG(2, 3, 0, 4, 0), E0, E0, 0, {.read = zero, .write = ignore}},
    {"DBGDTRRX_EL0", REG(2, 3, 0, 5, 0), E0, E0, 0, {.read = zero, .write = ignore}},
    {"DBGVCR32_EL2", REG(2, 4, 0, 7, 0), E2, E2, 0, {.read = zero, .write = ignore}},

    {"PMINTENSET_EL1", REG(3, 0, 9, 14, 1), E1, E1, 0, {.read = read_pmint, .write = set_pmint}},
    {"PMINTENCLR_EL1", REG(3, 0, 9, 14, 2), E1, E1, 0, {.read = read_pmint, .write = clear_pmint}},
    {"PMCR_EL0", REG(3, 3, 9, 12, 0), E0, E0, AT(pmcr_el0), {.read = read_pmcr, .write = write_pmcr}},
    {"PMCNTENSET_EL0", REG(3, 3, 9, 12, 1), E0, E0, 0, {.read = read_pmcnten, .write = set_pmcnten}},
    {"PMCNTENCLR_EL0", REG(3, 3, 9, 12, 2), E0, E0, 0, {.read = read_pmcnten, .write = clear_pmcnten}},
    {"PMOVSCLR_EL0", REG(3, 3, 9, 12, 3), E0, E0, 0, {.read = read_pmovs, .write = clear_pmovs}},
    {"PMSWINC_EL0", REG(3, 3, 9, 12, 4), NO, E0, 0, {.write = ignore_pmu}},
    {"PMSELR_EL0", REG(3, 3, 9, 12, 5), E0, E0, AT(pmselr_el0), {.read = read_pmselr, .write = write_pmselr}},
    {"PMCEID0_EL0", REG(3, 3, 9, 12, 6), E0, NO, 0, {.read = read_pmceid0}},
    {"PMCEID1_EL0", REG(3, 3, 9, 12, 7), E0, NO, 0, {.read = read_pmu_zero}},
    {"PMCCNTR_EL0", REG(3, 3, 9, 13, 0), E0, E0, 0, {.read = read_pmccntr, .write = write_pmccntr}},
    {"PMXEVTYPER_EL0", REG(3, 3, 9, 13, 1), E0, E0, 0, {.read = read_pmxevtyper, .write = write_pmxevtyper}},
    {"PMXEVCNTR_EL0", REG(3, 3, 9, 13, 2), E0, E0, 0, {.read = read_pmu_zero, .write = ignore_pmu}},
    {"PMUSERENR_EL0", REG(3, 3, 9, 14, 0), E0, E1, AT(pmuserenr_el0), {.mask = 15}},
    {"PMOVSSET_EL0", REG(3, 3, 9, 14, 3), E0, E0, 0, {.read = read_pmovs, .write = set_pmovs}},
    {"PMCCFILTR_EL0", REG(3, 3, 14, 15, 7), E0, E0, AT(pmccfiltr_el0), {.read = read_pmccfiltr, .write = write_pmccfiltr}},
    {"MDCR_EL2", REG(3, 4, 1, 1, 1), E2, E2, AT(mdcr_el2), {.write = write_mdcr_el2, .after = After::Context}},
};
// clang-format on

constexpr const char* kBvr[] = {"DBGBVR0_EL1", "DBGBVR1_EL1", "DBGBVR2_EL1", "DBGBVR3_EL1", "DBGBVR4_EL1", "DBGBVR5_EL1"};
constexpr const char* kBcr[] = {"DBGBCR0_EL1", "DBGBCR1_EL1", "DBGBCR2_EL1", "DBGBCR3_EL1", "DBGBCR4_EL1", "DBGBCR5_EL1"};
constexpr const char* kWvr[] = {"DBGWVR0_EL1", "DBGWVR1_EL1", "DBGWVR2_EL1", "DBGWVR3_EL1"};
constexpr const char* kWcr[] = {"DBGWCR0_EL1", "DBGWCR1_EL1", "DBGWCR2_EL1", "DBGWCR3_EL1"};

constexpr auto kRegisters = [] {
  std::array<SystemRegister, std::size(kRows) + 2 * kBreakpoints + 2 * kWatchpoints> all{};
  std::size_t n = 0;
  for (const SystemRegister& row : kRows) all[n++] = row;
  for (u32 i = 0; i < kBreakpoints; ++i) {
    all[n++] = {kBvr[i], REG(2, 0, 0, i, 4), E1, E1, AT(dbgbvr) + 8 * i};
    all[n++] = {kBcr[i], REG(2, 0, 0, i, 5), E1, E1, AT(dbgbcr) + 8 * i, {.write = write_dbgbcr, .after = After::Context}};
  }
  for (u32 i = 0; i < kWatchpoints; ++i) {
    all[n++] = {kWvr[i], REG(2, 0, 0, i, 6), E1, E1, AT(dbgwvr) + 8 * i};
    all[n++] = {kWcr[i], REG(2, 0, 0, i, 7), E1, E1, AT(dbgwcr) + 8 * i, {.write = write_dbgwcr, .after = After::Context}};
  }
  return all;
}();
#undef AT
#undef REG

}  // namespace

std::span<const SystemRegister> debug_registers() { return kRegisters; }

}  // namespace kiln::arm
