// Branches, exceptions, hints.
#include "frontends/arm/base_branch.decode.h"
#include "frontends/arm/condition.h"
#include "frontends/arm/helpers.h"
#include "frontends/arm/system_state.h"

namespace kiln::arm {

using ir::Cond;
using ir::ExitHint;
using ir::ExitKind;
using ir::Op;
using ir::Value;

namespace {

constexpr u32 kHintWfe = 2, kHintWfi = 3;

GuestAddr target(const Lifter& l, u32 imm, unsigned width) { return l.pc + static_cast<u64>(sign_extend(imm, width) * 4); }

Lift call_indirect(Lifter& l, unsigned rn) {
  const Value to = l.x(rn);  // before the link register is written: BLR X30
  l.set_r(30, l.ir.i64(l.pc + 4));
  l.ir.exit_indirect(to, ExitHint::Call, l.pc + 4);
  return Lift::End;
}

}  // namespace

Lift lift_b_imm(Lifter& l, const fields::b_imm& f) {
  const GuestAddr to = target(l, f.imm26, 26);
  if (f.link) {
    l.set_r(30, l.ir.i64(l.pc + 4));
    l.ir.exit_jump(to, ExitHint::Call, l.pc + 4);
  } else {
    l.ir.exit_jump(to);
  }
  return Lift::End;
}

Lift lift_b_cond(Lifter& l, const fields::b_cond& f) {
  const GuestAddr to = target(l, f.imm19, 19);
  if (always(f.cond)) l.ir.exit_jump(to);
  else l.ir.exit_branch(l.ir.cond(l.ir.get_flags(), static_cast<Cond>(f.cond)), to, l.pc + 4);
  return Lift::End;
}

Lift lift_cbz(Lifter& l, const fields::cbz& f) {
  const Value a = l.r(f.sf, f.rt), zero = f.sf ? l.ir.i64(0) : l.ir.i32(0);
  l.ir.exit_branch(l.ir.icmp(f.nz ? Op::icmp_ne_ : Op::icmp_eq_, a, zero), target(l, f.imm19, 19), l.pc + 4);
  return Lift::End;
}

Lift lift_tbz(Lifter& l, const fields::tbz& f) {
  const u64 mask = u64{1} << f.b40;
  const Value a = l.x(f.rt);
  Value masked, zero;
  if (f.b5) {
    masked = l.ir.and_(a, l.ir.i64(mask << 32));
    zero = l.ir.i64(0);
  } else {  // a 32-bit immediate fits into the host's instruction
    masked = l.ir.and_(l.ir.trunc(ir::Type::I32, a), l.ir.i32(mask));
    zero = l.ir.i32(0);
  }
  l.ir.exit_branch(l.ir.icmp(f.nz ? Op::icmp_ne_ : Op::icmp_eq_, masked, zero), target(l, f.imm14, 14), l.pc + 4);
  return Lift::End;
}

Lift lift_br(Lifter& l, const fields::br& f) {
  l.ir.exit_indirect(l.x(f.rn), ExitHint::Jump);
  return Lift::End;
}

Lift lift_blr(Lifter& l, const fields::blr& f) { return call_indirect(l, f.rn); }

Lift lift_ret(Lifter& l, const fields::ret& f) {
  l.ir.exit_indirect(l.x(f.rn), ExitHint::Return);
  return Lift::End;
}

// BRAA, BRAB and, with z == 0, the forms with a zero modifier. Without keys authentication always succeeds.
Lift lift_braa(Lifter& l, const fields::braa& f) {
  if (!f.z && f.rm != 31) return Lift::Undefined;
  l.ir.exit_indirect(l.x(f.rn), ExitHint::Jump);
  return Lift::End;
}

Lift lift_blraa(Lifter& l, const fields::blraa& f) {
  if (!f.z && f.rm != 31) return Lift::Undefined;
  return call_indirect(l, f.rn);
}

Lift lift_retaa(Lifter& l, const fields::retaa&) {
  l.ir.exit_indirect(l.x(30), ExitHint::Return);
  return Lift::End;
}

Lift lift_svc(Lifter& l, const fields::svc& f) {
  if (l.system) {
    l.ir.exit_indirect(l.ir.call(kTakeSupervisorCall, {l.ir.i64(f.imm16)}), ExitHint::NewMode);
    return Lift::End;
  }
  l.ir.exit_exception(ExitKind::Syscall, l.pc, f.imm16);
  return Lift::End;
}

Lift lift_brk(Lifter& l, const fields::brk& f) {
  l.ir.exit_exception(ExitKind::Breakpoint, l.pc, f.imm16);
  return Lift::End;
}

// Halting debug is off for user programs: HLT is undefined, as UDF always is.
Lift lift_hlt(Lifter&, const fields::hlt&) { return Lift::Undefined; }
Lift lift_udf(Lifter&, const fields::udf&) { return Lift::Undefined; }

// The hint space is executable as a whole; without pointer-authentication keys and BTI pages nearly all of it does nothing.
// User mode's WFE and WFI wait for nothing; a full system's WFE may as well come back at once, which ends the block for whoever
// has a reason to leave.
Lift lift_hint(Lifter& l, const fields::hint& f) {
  if (!l.system || f.crm != 0 || (f.op2 != kHintWfe && f.op2 != kHintWfi)) return Lift::Next;
  const bool wfi = f.op2 == kHintWfi;
  if (l.mode & (wfi ? kModeNoWfi : kModeNoWfe))
    return trap_with(l, syndrome(Class::WfxTrap, 1 << 24 | 14 << 20 | (wfi ? 0 : 1)));
  if (wfi) l.ir.call(kWaitForInterrupt);
  l.ir.exit_indirect(l.ir.i64(l.pc + 4), ExitHint::NewMode);
  return Lift::End;
}

Lift lift_hvc(Lifter& l, const fields::hvc& f) {
  if (!l.system || l.el == 0) return Lift::Undefined;
  return trap_with(l, syndrome(Class::Hvc, f.imm16));
}

Lift lift_smc(Lifter& l, const fields::smc& f) {
  if (!l.system || l.el == 0) return Lift::Undefined;
  return trap_with(l, syndrome(Class::Smc, f.imm16));
}

Lift lift_eret(Lifter& l, const fields::eret&) {
  if (!l.system || l.el == 0) return Lift::Undefined;
  l.ir.exit_indirect(l.ir.call(kExceptionReturn), ExitHint::NewMode);
  return Lift::End;
}

}  // namespace kiln::arm
