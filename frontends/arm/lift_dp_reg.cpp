// Data processing, register.
#include "frontends/arm/base_dp_reg.decode.h"
#include "frontends/arm/condition.h"
#include "frontends/arm/helpers.h"
#include "frontends/arm/operand.h"

namespace kiln::arm {

using ir::Cond;
using ir::Op;
using ir::Type;
using ir::Value;

namespace {

Type type_of(unsigned sf) { return sf ? Type::I64 : Type::I32; }

/// ShiftReg: LSL, LSR, ASR, ROR by a constant.
Value shifted(Lifter& l, unsigned sf, unsigned reg, unsigned shift, unsigned amount) {
  const Value a = l.r(sf, reg);
  if (amount == 0 || reg == 31) return a;
  const Value count = l.ir.iconst(type_of(sf), amount);
  switch (shift) {
    case 0: return l.ir.shl(a, count);
    case 1: return l.ir.lshr(a, count);
    case 2: return l.ir.ashr(a, count);
    default: return l.ir.rotr(a, count);
  }
}

void conditional_compare(Lifter& l, unsigned sub, unsigned cond, unsigned nzcv, Value a, Value b) {
  auto& ir = l.ir;
  const Value compared = sub ? ir.flags_sub(a, b) : ir.flags_add(a, b);
  if (always(cond)) return ir.set_flags(compared);
  const Value holds = ir.cond(ir.get_flags(), static_cast<Cond>(cond));
  ir.set_flags(ir.flags_select(holds, compared, ir.flags_image(ir.i32(u64{nzcv} << 28))));
}

}  // namespace

Lift lift_logical_shifted(Lifter& l, const fields::logical_shifted& f) {
  if (!f.sf && f.imm6 > 31) return Lift::Undefined;
  auto& ir = l.ir;
  const Value b = shifted(l, f.sf, f.rm, f.shift, f.imm6);
  if (f.opc == 1 && f.rn == 31) {  // MOV, MVN
    l.set_r(f.rd, f.n ? ir.not_(b) : b);
    return Lift::Next;
  }
  const Value a = l.r(f.sf, f.rn);
  Value result;
  switch (f.opc) {
    case 1: result = ir.or_(a, f.n ? ir.not_(b) : b); break;
    case 2: result = ir.xor_(a, f.n ? ir.not_(b) : b); break;
    default: result = f.n ? ir.andn(a, b) : ir.and_(a, b); break;
  }
  l.set_r(f.rd, result);
  if (f.opc == 3) ir.set_flags(ir.flags_logic(result));
  return Lift::Next;
}

Lift lift_add_sub_shifted(Lifter& l, const fields::add_sub_shifted& f) {
  if (!f.sf && f.imm6 > 31) return Lift::Undefined;
  auto& ir = l.ir;
  const Value b = shifted(l, f.sf, f.rm, f.shift, f.imm6);
  const Value a = l.r(f.sf, f.rn);
  if (f.rd != 31) l.set_r(f.rd, !f.sub ? ir.add(a, b) : f.rn == 31 ? ir.neg(b) : ir.sub(a, b));
  if (f.s) ir.set_flags(f.sub ? ir.flags_sub(a, b) : ir.flags_add(a, b));
  return Lift::Next;
}

Lift lift_add_sub_extended(Lifter& l, const fields::add_sub_extended& f) {
  if (f.imm3 > 4) return Lift::Undefined;
  auto& ir = l.ir;
  const Value b = extended(l, f.sf, f.rm, f.option, f.imm3);
  const Value a = l.r_sp(f.sf, f.rn);
  if (!f.s) {
    l.set_r_sp(f.rd, f.sub ? ir.sub(a, b) : ir.add(a, b));
    return Lift::Next;
  }
  if (f.rd != 31) l.set_r(f.rd, f.sub ? ir.sub(a, b) : ir.add(a, b));
  ir.set_flags(f.sub ? ir.flags_sub(a, b) : ir.flags_add(a, b));
  return Lift::Next;
}

Lift lift_add_sub_carry(Lifter& l, const fields::add_sub_carry& f) {
  auto& ir = l.ir;
  const Value a = l.r(f.sf, f.rn);
  const Value b = f.sub ? ir.not_(l.r(f.sf, f.rm)) : l.r(f.sf, f.rm);
  const Value carry = ir.cond(ir.get_flags(), Cond::Cs);
  if (f.rd != 31) l.set_r(f.rd, ir.add(ir.add(a, b), ir.zext(type_of(f.sf), carry)));
  if (f.s) ir.set_flags(ir.flags_adc(a, b, carry));
  return Lift::Next;
}

Lift lift_rmif(Lifter& l, const fields::rmif& f) {
  auto& ir = l.ir;
  const Value rotated = f.imm6 ? ir.rotr(l.x(f.rn), ir.i64(f.imm6)) : l.x(f.rn);
  const Value image = ir.shl(ir.trunc(Type::I32, rotated), ir.i32(28));
  const u32 mask = f.mask << 28;
  const Value kept = ir.and_(ir.flags_value(ir.get_flags()), ir.i32(~mask & 0xf0000000));
  ir.set_flags(ir.flags_image(ir.or_(kept, ir.and_(image, ir.i32(mask)))));
  return Lift::Next;
}

Lift lift_setf(Lifter& l, const fields::setf& f) {
  auto& ir = l.ir;
  const unsigned size = f.sz ? 16 : 8;
  const Value a = l.w(f.rn);
  const Value n = ir.and_(ir.shl(a, ir.i32(32 - size)), ir.i32(u32{1} << 31));
  const Value is_zero = ir.icmp(Op::icmp_eq_, ir.and_(a, ir.i32(mask_low(size))), ir.i32(0));
  const Value z = ir.shl(ir.zext(Type::I32, is_zero), ir.i32(30));
  const Value c = ir.and_(ir.flags_value(ir.get_flags()), ir.i32(u32{1} << 29));
  const Value v = ir.shl(ir.ubfx(ir.xor_(a, ir.lshr(a, ir.i32(1))), size - 1, 1), ir.i32(28));
  ir.set_flags(ir.flags_image(ir.or_(ir.or_(n, z), ir.or_(c, v))));
  return Lift::Next;
}

Lift lift_ccmp_register(Lifter& l, const fields::ccmp_register& f) {
  conditional_compare(l, f.sub, f.cond, f.nzcv, l.r(f.sf, f.rn), l.r(f.sf, f.rm));
  return Lift::Next;
}

Lift lift_ccmp_immediate(Lifter& l, const fields::ccmp_immediate& f) {
  conditional_compare(l, f.sub, f.cond, f.nzcv, l.r(f.sf, f.rn), l.ir.iconst(type_of(f.sf), f.imm5));
  return Lift::Next;
}

Lift lift_csel(Lifter& l, const fields::csel& f) {
  auto& ir = l.ir;
  const Type type = type_of(f.sf);
  if (f.op2 != f.op && f.rn == 31 && f.rm == 31 && !always(f.cond)) {  // CSET, CSETM
    const Value holds = ir.cond(ir.get_flags(), inverted(f.cond));
    l.set_r(f.rd, f.op ? ir.sext(type, holds) : ir.zext(type, holds));
    return Lift::Next;
  }
  const Value a = l.r(f.sf, f.rn);
  if (always(f.cond)) {
    l.set_r(f.rd, a);
    return Lift::Next;
  }
  Value b = l.r(f.sf, f.rm);
  if (f.op) b = f.op2 ? ir.neg(b) : ir.not_(b);
  else if (f.op2) b = ir.add(b, ir.iconst(type, 1));
  l.set_r(f.rd, ir.select(ir.cond(ir.get_flags(), static_cast<Cond>(f.cond)), a, b));
  return Lift::Next;
}

Lift lift_udiv(Lifter& l, const fields::udiv& f) {
  l.set_r(f.rd, l.ir.udiv(l.r(f.sf, f.rn), l.r(f.sf, f.rm)));
  return Lift::Next;
}

Lift lift_sdiv(Lifter& l, const fields::sdiv& f) {
  l.set_r(f.rd, l.ir.sdiv(l.r(f.sf, f.rn), l.r(f.sf, f.rm)));
  return Lift::Next;
}

Lift lift_shift_variable(Lifter& l, const fields::shift_variable& f) {
  const Value a = l.r(f.sf, f.rn), count = l.r(f.sf, f.rm);
  switch (f.type) {
    case 0: l.set_r(f.rd, l.ir.shl(a, count)); break;
    case 1: l.set_r(f.rd, l.ir.lshr(a, count)); break;
    case 2: l.set_r(f.rd, l.ir.ashr(a, count)); break;
    default: l.set_r(f.rd, l.ir.rotr(a, count)); break;
  }
  return Lift::Next;
}

Lift lift_crc32(Lifter& l, const fields::crc32& f) {
  if (f.sf != (f.sz == 3)) return Lift::Undefined;
  l.set_r(f.rd, l.ir.call(kCrc32[f.c][f.sz], {l.w(f.rn), l.x(f.rm)}));
  return Lift::Next;
}

Lift lift_rbit(Lifter& l, const fields::rbit& f) {
  l.set_r(f.rd, l.ir.bitrev(l.r(f.sf, f.rn)));
  return Lift::Next;
}

Lift lift_rev16(Lifter& l, const fields::rev16& f) {
  auto& ir = l.ir;
  const Type type = type_of(f.sf);
  const Value a = l.r(f.sf, f.rn), mask = ir.iconst(type, 0x00ff00ff00ff00ff), eight = ir.iconst(type, 8);
  l.set_r(f.rd, ir.or_(ir.shl(ir.and_(a, mask), eight), ir.and_(ir.lshr(a, eight), mask)));
  return Lift::Next;
}

Lift lift_rev32(Lifter& l, const fields::rev32& f) {
  auto& ir = l.ir;
  const Value swapped = ir.bswap(l.r(f.sf, f.rn));
  l.set_r(f.rd, f.sf ? ir.rotr(swapped, ir.i64(32)) : swapped);
  return Lift::Next;
}

Lift lift_rev64(Lifter& l, const fields::rev64& f) {
  l.set_r(f.rd, l.ir.bswap(l.x(f.rn)));
  return Lift::Next;
}

Lift lift_clz(Lifter& l, const fields::clz& f) {
  l.set_r(f.rd, l.ir.clz(l.r(f.sf, f.rn)));
  return Lift::Next;
}

Lift lift_cls(Lifter& l, const fields::cls& f) {
  // The top bit of a ^ (a >> 1 arithmetic) is always zero, and CLS does not count the sign bit itself.
  auto& ir = l.ir;
  const Value a = l.r(f.sf, f.rn), one = ir.iconst(type_of(f.sf), 1);
  l.set_r(f.rd, ir.sub(ir.clz(ir.xor_(a, ir.ashr(a, one))), one));
  return Lift::Next;
}

Lift lift_madd(Lifter& l, const fields::madd& f) {
  auto& ir = l.ir;
  const Value product = ir.mul(l.r(f.sf, f.rn), l.r(f.sf, f.rm));
  if (f.ra == 31) l.set_r(f.rd, f.o0 ? ir.neg(product) : product);
  else l.set_r(f.rd, f.o0 ? ir.sub(l.r(f.sf, f.ra), product) : ir.add(l.r(f.sf, f.ra), product));
  return Lift::Next;
}

Lift lift_maddl(Lifter& l, const fields::maddl& f) {
  auto& ir = l.ir;
  const auto widen = [&](unsigned reg) { return f.u ? ir.zext(Type::I64, l.w(reg)) : ir.sext(Type::I64, l.w(reg)); };
  const Value product = ir.mul(widen(f.rn), widen(f.rm));
  if (f.ra == 31) l.set_r(f.rd, f.o0 ? ir.neg(product) : product);
  else l.set_r(f.rd, f.o0 ? ir.sub(l.x(f.ra), product) : ir.add(l.x(f.ra), product));
  return Lift::Next;
}

Lift lift_mulh(Lifter& l, const fields::mulh& f) {
  const Value a = l.x(f.rn), b = l.x(f.rm);
  l.set_r(f.rd, f.u ? l.ir.umulh(a, b) : l.ir.smulh(a, b));
  return Lift::Next;
}

Lift lift_pac_aut(Lifter&, const fields::pac_aut& f) { return f.z && f.rn != 31 ? Lift::Undefined : Lift::Next; }

Lift lift_xpac(Lifter& l, const fields::xpac& f) {
  // Strip(): bits 54..48 (a 48-bit address space, top-byte-ignore on) become copies of bit 55.
  auto& ir = l.ir;
  const Value a = l.x(f.rd);
  const Value upper = ir.icmp(Op::icmp_ne_, ir.and_(a, ir.i64(u64{1} << 55)), ir.i64(0));
  const Value mask = ir.i64(u64{0x7f} << 48);
  l.set_r(f.rd, ir.select(upper, ir.or_(a, mask), ir.andn(a, mask)));
  return Lift::Next;
}

}  // namespace kiln::arm
