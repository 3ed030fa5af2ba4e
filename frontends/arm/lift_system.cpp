// Barriers, cache maintenance, flag manipulation, system registers of EL0.
#include "frontends/arm/aarch64.h"
#include "frontends/arm/base_system.decode.h"
#include "frontends/arm/helpers.h"
#include "frontends/arm/id_registers.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

using ir::Cond;
using ir::MemOp;
using ir::Order;
using ir::Type;
using ir::Value;
using ir::Width;

namespace {

/// The sysreg field: op0<0>, op1, CRn, CRm, op2.
constexpr u32 sysreg(u32 op0, u32 op1, u32 crn, u32 crm, u32 op2) {
  return (op0 & 1) << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
}

enum SysReg : u32 {
  kCTR_EL0 = sysreg(3, 3, 0, 0, 1),
  kDCZID_EL0 = sysreg(3, 3, 0, 0, 7),
  kNZCV = sysreg(3, 3, 4, 2, 0),
  kFPCR = sysreg(3, 3, 4, 4, 0),
  kFPSR = sysreg(3, 3, 4, 4, 1),
  kTPIDR_EL0 = sysreg(3, 3, 13, 0, 2),
  kTPIDRRO_EL0 = sysreg(3, 3, 13, 0, 3),
  kCNTFRQ_EL0 = sysreg(3, 3, 14, 0, 0),
  kCNTVCT_EL0 = sysreg(3, 3, 14, 0, 2),
};

// Cache lines of 64 bytes. IDC is set: cleaning the data cache is not needed. DIC is not: a program that writes code through a
// second mapping of its pages tells us only by IC IVAU.
constexpr u64 kCtr = u64{1} << 31 | u64{1} << 28 | 4 << 24 | 4 << 20 | 4 << 16 | 3 << 14 | 4;
constexpr u64 kDczid = 4;  // DC ZVA zeroes 4 << 4 bytes
constexpr u64 kZvaBytes = 64;

Order order_of_barrier(u32 crm) {
  switch (crm & 3) {
    case 1: return Order::Acquire;  // LD: loads before it against everything after it
    case 2: return Order::Release;  // ST
    default: return Order::SeqCst;
  }
}

Lift end_block(Lifter& l) {
  l.ir.exit_jump(l.pc + 4);
  return Lift::End;
}

Value flag(Lifter& l, Value flags, Cond cond) { return l.ir.zext(Type::I32, l.ir.cond(flags, cond)); }

/// Replaces N Z C V by four i1-as-i32 values.
void set_nzcv(Lifter& l, Value n, Value z, Value c, Value v) {
  auto& ir = l.ir;
  const auto at = [&](Value bit, unsigned index) { return ir.shl(bit, ir.i32(index)); };
  ir.set_flags(ir.flags_image(ir.or_(ir.or_(at(n, 31), at(z, 30)), ir.or_(at(c, 29), at(v, 28)))));
}

/// The next block may have another mode word: chained exits do not look at it, indirect ones do.
Lift change_of_mode(Lifter& l) {
  l.ir.exit_indirect(l.ir.i64(l.pc + 4), ir::ExitHint::NewMode);
  return Lift::End;
}

Lift lift_clean(Lifter& l, u32 rt) { return l.system ? lift_system_cache(l, rt) : Lift::Next; }

/// The syndrome of a DC or IC that EL0 may not use.
u32 cache_trap(const Lifter& l) {
  return register_trap(register_access(static_cast<u32>(bits(l.word, 5, 16)), l.word & 31), false);
}

}  // namespace

Lift lift_clrex(Lifter& l, const fields::clrex&) {
  l.ir.set_reg(offsetof(A64State, exclusive_address), l.ir.i64(~u64{0}));
  return Lift::Next;
}

Lift lift_dsb(Lifter& l, const fields::dsb& f) {
  l.ir.fence(order_of_barrier(f.crm));
  return Lift::Next;
}

Lift lift_dmb(Lifter& l, const fields::dmb& f) {
  l.ir.fence(order_of_barrier(f.crm));
  return Lift::Next;
}

// Code that was changed before the ISB is looked up anew after it.
Lift lift_isb(Lifter& l, const fields::isb&) { return end_block(l); }
Lift lift_sb(Lifter&, const fields::sb&) { return Lift::Next; }

Lift lift_cfinv(Lifter& l, const fields::cfinv&) {
  auto& ir = l.ir;
  ir.set_flags(ir.flags_image(ir.xor_(ir.flags_value(ir.get_flags()), ir.i32(u32{1} << 29))));
  return Lift::Next;
}

Lift lift_xaflag(Lifter& l, const fields::xaflag&) {
  auto& ir = l.ir;
  const Value flags = ir.get_flags(), one = ir.i32(1);
  const Value z = flag(l, flags, Cond::Eq), c = flag(l, flags, Cond::Cs);
  const Value not_c = ir.xor_(c, one);
  set_nzcv(l, ir.and_(not_c, ir.xor_(z, one)), ir.and_(z, c), ir.or_(c, z), ir.and_(not_c, z));
  return Lift::Next;
}

Lift lift_axflag(Lifter& l, const fields::axflag&) {
  auto& ir = l.ir;
  const Value flags = ir.get_flags();
  const Value z = flag(l, flags, Cond::Eq), c = flag(l, flags, Cond::Cs), v = flag(l, flags, Cond::Vs);
  set_nzcv(l, ir.i32(0), ir.or_(z, v), ir.andn(c, v), ir.i32(0));
  return Lift::Next;
}

Lift lift_dc_zva(Lifter& l, const fields::dc_zva& f) {
  if (l.system && (l.mode & kModeNoZva)) return trap_with(l, cache_trap(l));
  MemOp m = l.plain(static_cast<unsigned>(Width::B16));
  m.align_check = false;
  const Value base = l.ir.and_(l.x(f.rt), l.ir.i64(~(kZvaBytes - 1))), zero = l.ir.vconst(0, 0);
  for (u64 at = 0; at < kZvaBytes; at += 16) l.ir.store(base, static_cast<s64>(at), zero, m);
  return Lift::Next;
}

// The engine watches pages that it translated from; all that is left to do is to leave this block.
Lift lift_ic_ivau(Lifter& l, const fields::ic_ivau& f) {
  if (l.system)
    if (const Lift done = lift_system_cache(l, f.rt); done != Lift::Next) return done;
  return end_block(l);
}

// Host caches are coherent.
Lift lift_dc_cvac(Lifter& l, const fields::dc_cvac& f) { return lift_clean(l, f.rt); }
Lift lift_dc_cvau(Lifter& l, const fields::dc_cvau& f) { return lift_clean(l, f.rt); }
Lift lift_dc_cvap(Lifter& l, const fields::dc_cvap& f) { return lift_clean(l, f.rt); }
Lift lift_dc_cvadp(Lifter& l, const fields::dc_cvadp& f) { return lift_clean(l, f.rt); }
Lift lift_dc_civac(Lifter& l, const fields::dc_civac& f) { return lift_clean(l, f.rt); }

Lift lift_mrs(Lifter& l, const fields::mrs& f) {
  if (l.system) return lift_system_register(l, f.sysreg, f.rt, true);
  auto& ir = l.ir;
  switch (f.sysreg) {
    case kNZCV: l.set_r(f.rt, ir.flags_value(ir.get_flags())); return Lift::Next;
    case kFPCR: l.set_r(f.rt, ir.get_reg(Type::I64, offsetof(A64State, fpcr))); return Lift::Next;
    case kFPSR:
      l.set_r(f.rt, ir.call(kReadFpsr));
      if (l.mode & (kModeFpsrWatched | kModeFlushToZero)) return Lift::Next;
      return change_of_mode(l);
    case kTPIDR_EL0: l.set_r(f.rt, ir.get_reg(Type::I64, offsetof(A64State, tpidr_el0))); return Lift::Next;
    case kTPIDRRO_EL0: l.set_r(f.rt, ir.get_reg(Type::I64, offsetof(A64State, tpidrro_el0))); return Lift::Next;
    case kCTR_EL0: l.set_r(f.rt, ir.i64(kCtr)); return Lift::Next;
    case kDCZID_EL0: l.set_r(f.rt, ir.i64(kDczid)); return Lift::Next;
    case kCNTFRQ_EL0: l.set_r(f.rt, ir.i64(kCounterHz)); return Lift::Next;
    case kCNTVCT_EL0: l.set_r(f.rt, ir.call(kReadCounter)); return Lift::Next;
    default: break;
  }
  u64 value = 0;
  if ((f.sysreg & ~u32{0x3f}) != sysreg(3, 0, 0, 0, 0) || !id_register((f.sysreg >> 3) & 7, f.sysreg & 7, value))
    return Lift::Undefined;
  l.set_r(f.rt, ir.i64(value));
  return Lift::Next;
}

Lift lift_msr(Lifter& l, const fields::msr& f) {
  if (l.system) return lift_system_register(l, f.sysreg, f.rt, false);
  auto& ir = l.ir;
  switch (f.sysreg) {
    case kNZCV: ir.set_flags(ir.flags_image(ir.and_(l.w(f.rt), ir.i32(0xf0000000)))); return Lift::Next;
    case kFPCR: ir.call(kWriteFpcr, {l.x(f.rt)}); return change_of_mode(l);
    case kFPSR: ir.call(kWriteFpsr, {l.x(f.rt)}); return (l.mode & kModeFpsrWatched) ? Lift::Next : change_of_mode(l);
    case kTPIDR_EL0: ir.set_reg(offsetof(A64State, tpidr_el0), l.x(f.rt)); return Lift::Next;
    default: return Lift::Undefined;
  }
}

}  // namespace kiln::arm
