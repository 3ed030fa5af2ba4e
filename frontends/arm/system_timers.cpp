// The generic timers: physical, virtual, hypervisor and secure physical (Arm ARM D11).
#include <algorithm>

#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

namespace {

using S = A64SystemState;
constexpr u64 kTickNs = 1'000'000'000 / kSystemCounterHz;
constexpr u64 kEnable = 1, kImask = 2, kIstatus = 4;

u64 physical_count(S& s) { return ir::port(&s).clock_ns() / kTickNs; }
u64 offset_of(const S& s, unsigned timer) { return timer == kTimerVirtual ? s.cntvoff_el2 : 0; }
u64 count_of(S& s, unsigned timer) { return physical_count(s) - offset_of(s, timer); }

/// EL0 may use what CNTKCTL_EL1 allows, EL0 and EL1 what CNTHCTL_EL2 does.
void check(S& s, u32 access, bool read, unsigned el0_bit, int hyp_bit) {
  if (s.el == 0 && !bit(s.cntkctl_el1, el0_bit)) raise_register_trap(s, access, read);
  if (hyp_bit >= 0 && s.el <= 1 && s.has_el2 && !bit(s.cnthctl_el2, static_cast<unsigned>(hyp_bit))) {
    s.exit_aux = kAuxStage2;
    ir::raise(&s, ir::ExitKind::Trap, register_trap(access, read));
  }
}

u64 read_cntfrq(S& s, u32 access) {
  if (s.el == 0 && !(s.cntkctl_el1 & 3)) raise_register_trap(s, access, true);
  return kSystemCounterHz;
}
u64 read_cntpct(S& s, u32 access) {
  check(s, access, true, 0, 0);
  return physical_count(s);
}
u64 read_cntvct(S& s, u32 access) {
  check(s, access, true, 1, -1);
  return count_of(s, kTimerVirtual);
}

template <unsigned kTimer>
void check_timer(S& s, u32 access, bool read) {
  if (kTimer == kTimerPhysical) check(s, access, read, 9, 1);
  if (kTimer == kTimerVirtual) check(s, access, read, 8, -1);
  // CNTPS: EL1 only if EL3 is so kind (SCR_EL3.ST), and there is one security state here.
  if (kTimer == kTimerSecure && s.el == 1 && !(s.has_el3 && bit(s.scr_el3, 11) && !(s.scr_el3 & kScrNs))) raise_undefined(s);
}
template <unsigned kTimer>
u64 read_ctl(S& s, u32 access) {
  check_timer<kTimer>(s, access, true);
  const bool met = (s.timer_ctl[kTimer] & kEnable) && count_of(s, kTimer) >= s.timer_cval[kTimer];
  return s.timer_ctl[kTimer] | (met ? kIstatus : 0);
}
template <unsigned kTimer>
void write_ctl(S& s, u64 value, u32 access) {
  check_timer<kTimer>(s, access, false);
  s.timer_ctl[kTimer] = value & (kEnable | kImask);
  renew_timers(s);
}
template <unsigned kTimer>
u64 read_cval(S& s, u32 access) {
  check_timer<kTimer>(s, access, true);
  return s.timer_cval[kTimer];
}
template <unsigned kTimer>
void write_cval(S& s, u64 value, u32 access) {
  check_timer<kTimer>(s, access, false);
  s.timer_cval[kTimer] = value;
  renew_timers(s);
}
template <unsigned kTimer>
u64 read_tval(S& s, u32 access) {
  check_timer<kTimer>(s, access, true);
  return (s.timer_cval[kTimer] - count_of(s, kTimer)) & 0xffffffff;
}
template <unsigned kTimer>
void write_tval(S& s, u64 value, u32 access) {
  check_timer<kTimer>(s, access, false);
  s.timer_cval[kTimer] = count_of(s, kTimer) + static_cast<u64>(sign_extend(value, 32));
  renew_timers(s);
}
void write_cntvoff(S& s, u64 value, u32) {
  s.cntvoff_el2 = value;
  renew_timers(s);
}
void write_cntfrq(S&, u64, u32) {}  // firmware tells what it was told; the counter does not change by it

constexpr u8 E0 = 0, E1 = 1, E2 = 2;

// clang-format off: one row, one line
#define REG register_number
#define AT(field) static_cast<u32>(offsetof(S, field))
constexpr SystemRegister kRegisters[] = {
    {"CNTFRQ_EL0", REG(3, 3, 14, 0, 0), E0, E1, 0, {.read = read_cntfrq, .write = write_cntfrq}},
    {"CNTPCT_EL0", REG(3, 3, 14, 0, 1), E0, kNever, 0, {.read = read_cntpct}},
    {"CNTVCT_EL0", REG(3, 3, 14, 0, 2), E0, kNever, 0, {.read = read_cntvct}},
    {"CNTKCTL_EL1", REG(3, 0, 14, 1, 0), E1, E1, AT(cntkctl_el1)},
    {"CNTHCTL_EL2", REG(3, 4, 14, 1, 0), E2, E2, AT(cnthctl_el2), {.reset = 3}},
    {"CNTVOFF_EL2", REG(3, 4, 14, 0, 3), E2, E2, AT(cntvoff_el2), {.write = write_cntvoff}},
    {"CNTP_TVAL_EL0", REG(3, 3, 14, 2, 0), E0, E0, 0, {.read = read_tval<0>, .write = write_tval<0>}},
    {"CNTP_CTL_EL0", REG(3, 3, 14, 2, 1), E0, E0, 0, {.read = read_ctl<0>, .write = write_ctl<0>}},
    {"CNTP_CVAL_EL0", REG(3, 3, 14, 2, 2), E0, E0, AT(timer_cval[0]), {.read = read_cval<0>, .write = write_cval<0>}},
    {"CNTV_TVAL_EL0", REG(3, 3, 14, 3, 0), E0, E0, 0, {.read = read_tval<1>, .write = write_tval<1>}},
    {"CNTV_CTL_EL0", REG(3, 3, 14, 3, 1), E0, E0, 0, {.read = read_ctl<1>, .write = write_ctl<1>}},
    {"CNTV_CVAL_EL0", REG(3, 3, 14, 3, 2), E0, E0, AT(timer_cval[1]), {.read = read_cval<1>, .write = write_cval<1>}},
    {"CNTHP_TVAL_EL2", REG(3, 4, 14, 2, 0), E2, E2, 0, {.read = read_tval<2>, .write = write_tval<2>}},
    {"CNTHP_CTL_EL2", REG(3, 4, 14, 2, 1), E2, E2, 0, {.read = read_ctl<2>, .write = write_ctl<2>}},
    {"CNTHP_CVAL_EL2", REG(3, 4, 14, 2, 2), E2, E2, AT(timer_cval[2]), {.read = read_cval<2>, .write = write_cval<2>}},
    {"CNTPS_TVAL_EL1", REG(3, 7, 14, 2, 0), E1, E1, 0, {.read = read_tval<3>, .write = write_tval<3>}},
    {"CNTPS_CTL_EL1", REG(3, 7, 14, 2, 1), E1, E1, 0, {.read = read_ctl<3>, .write = write_ctl<3>}},
    {"CNTPS_CVAL_EL1", REG(3, 7, 14, 2, 2), E1, E1, AT(timer_cval[3]), {.read = read_cval<3>, .write = write_cval<3>}},
};
// clang-format on
#undef AT
#undef REG

}  // namespace

std::span<const SystemRegister> timer_registers() { return kRegisters; }

void renew_timers(A64SystemState& s) {
  ir::VcpuPort& port = ir::port(&s);
  const u64 now = port.clock_ns() / kTickNs;
  u64 next = ~u64{0};
  for (unsigned timer = 0; timer < kTimers; ++timer) {
    const u64 ctl = s.timer_ctl[timer], count = now - offset_of(s, timer), cval = s.timer_cval[timer];
    const bool met = (ctl & kEnable) && count >= cval, level = met && !(ctl & kImask);
    if (bit(s.timer_outputs, timer) != level) {
      s.timer_outputs ^= u64{1} << timer;
      port.set_output(timer, level);
    }
    // Met conditions stay met but for a counter that wraps, in nine thousand years.
    if ((ctl & kEnable) && !met && cval - count < ~u64{0} / kTickNs - now)
      next = std::min(next, (now + (cval - count)) * kTickNs);
  }
  port.set_alarm(next);
}

}  // namespace kiln::arm
