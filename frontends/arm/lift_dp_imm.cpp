// Data processing, immediate.
#include "frontends/arm/base_dp_imm.decode.h"

namespace kiln::arm {

using ir::Type;
using ir::Value;

namespace {

Type type_of(unsigned sf) { return sf ? Type::I64 : Type::I32; }

/// DecodeBitMasks of the Arm ARM: the logical immediate; false if the encoding is reserved.
bool logical_mask(unsigned sf, unsigned n, unsigned imms, unsigned immr, u64& mask) {
  const unsigned selector = n << 6 | (~imms & 63);
  if (selector < 2) return false;
  const unsigned log = 31 - static_cast<unsigned>(std::countl_zero(selector));
  const unsigned size = 1u << log;
  if (size == 64 && !sf) return false;
  const unsigned ones = (imms & (size - 1)) + 1, rotate = immr & (size - 1);
  if (ones == size) return false;
  u64 element = mask_low(ones);
  if (rotate) element = (element >> rotate | element << (size - rotate)) & mask_low(size);
  for (unsigned at = size; at < 64; at *= 2) element |= element << at;
  mask = sf ? element : element & 0xffffffff;
  return true;
}

bool bad_bitfield(unsigned sf, unsigned n, unsigned immr, unsigned imms) {
  return n != sf || (!sf && (immr > 31 || imms > 31));
}

/// SBFM and UBFM: the aliases (shifts, extends) in the forms the tiers know best.
Lift bitfield_move(Lifter& l, unsigned sf, unsigned immr, unsigned imms, unsigned rn, unsigned rd, bool is_signed) {
  const unsigned size = sf ? 64 : 32;
  const Type type = type_of(sf);
  auto& ir = l.ir;
  Value a = l.r(sf, rn);
  if (imms == size - 1) {  // ASR, LSR
    if (immr) a = is_signed ? ir.ashr(a, ir.iconst(type, immr)) : ir.lshr(a, ir.iconst(type, immr));
  } else if (imms >= immr) {
    const unsigned width = imms - immr + 1;
    if (immr == 0 && (width == 8 || width == 16 || width == 32)) {  // SXTB, UXTH …
      const Type narrow = width == 8 ? Type::I8 : width == 16 ? Type::I16 : Type::I32;
      a = ir.trunc(narrow, l.x(rn));
      a = is_signed ? ir.sext(type, a) : ir.zext(type, a);
    } else {
      a = is_signed ? ir.sbfx(a, immr, width) : ir.ubfx(a, immr, width);
    }
  } else {
    const unsigned width = imms + 1, left = size - immr;
    // SBFIZ and UBFIZ take `width` bits first; LSL throws the others away anyway.
    if (left + width != size) a = is_signed ? ir.sbfx(a, 0, width) : ir.ubfx(a, 0, width);
    a = ir.shl(a, ir.iconst(type, left));
  }
  l.set_r(rd, a);
  return Lift::Next;
}

}  // namespace

Lift lift_adr(Lifter& l, const fields::adr& f) {
  const s64 offset = sign_extend(u64{f.immhi} << 2 | f.immlo, 21);
  const u64 target = f.op ? (l.pc & ~u64{0xfff}) + (static_cast<u64>(offset) << 12) : l.pc + static_cast<u64>(offset);
  l.set_r(f.rd, l.ir.i64(target));
  return Lift::Next;
}

Lift lift_add_sub_immediate(Lifter& l, const fields::add_sub_immediate& f) {
  auto& ir = l.ir;
  const Value a = l.r_sp(f.sf, f.rn);
  const Value b = ir.iconst(type_of(f.sf), u64{f.imm12} << (f.sh ? 12 : 0));
  if (!f.s) {
    if (f.imm12 == 0) l.set_r_sp(f.rd, a);  // MOV to or from SP
    else l.set_r_sp(f.rd, f.sub ? ir.sub(a, b) : ir.add(a, b));
    return Lift::Next;
  }
  if (f.rd != 31) l.set_r(f.rd, f.sub ? ir.sub(a, b) : ir.add(a, b));
  ir.set_flags(f.sub ? ir.flags_sub(a, b) : ir.flags_add(a, b));
  return Lift::Next;
}

Lift lift_logical_immediate(Lifter& l, const fields::logical_immediate& f) {
  u64 mask = 0;
  if (!logical_mask(f.sf, f.n, f.imms, f.immr, mask)) return Lift::Undefined;
  auto& ir = l.ir;
  const Value b = ir.iconst(type_of(f.sf), mask);
  if (f.opc == 1 && f.rn == 31) {  // MOV of a bitmask immediate
    l.set_r_sp(f.rd, b);
    return Lift::Next;
  }
  const Value a = l.r(f.sf, f.rn);
  const Value result = f.opc == 1 ? ir.or_(a, b) : f.opc == 2 ? ir.xor_(a, b) : ir.and_(a, b);
  if (f.opc != 3) {
    l.set_r_sp(f.rd, result);
    return Lift::Next;
  }
  l.set_r(f.rd, result);
  ir.set_flags(ir.flags_logic(result));
  return Lift::Next;
}

Lift lift_movn(Lifter& l, const fields::movn& f) {
  if (!f.sf && f.hw > 1) return Lift::Undefined;
  l.set_r(f.rd, l.ir.iconst(type_of(f.sf), ~(u64{f.imm16} << (16 * f.hw))));
  return Lift::Next;
}

Lift lift_movz(Lifter& l, const fields::movz& f) {
  if (!f.sf && f.hw > 1) return Lift::Undefined;
  l.set_r(f.rd, l.ir.iconst(type_of(f.sf), u64{f.imm16} << (16 * f.hw)));
  return Lift::Next;
}

Lift lift_movk(Lifter& l, const fields::movk& f) {
  if (!f.sf && f.hw > 1) return Lift::Undefined;
  if (f.rd != 31) l.set_r(f.rd, l.ir.bfi(l.r(f.sf, f.rd), l.ir.iconst(type_of(f.sf), f.imm16), 16 * f.hw, 16));
  return Lift::Next;
}

Lift lift_sbfm(Lifter& l, const fields::sbfm& f) {
  if (bad_bitfield(f.sf, f.n, f.immr, f.imms)) return Lift::Undefined;
  return bitfield_move(l, f.sf, f.immr, f.imms, f.rn, f.rd, true);
}

Lift lift_ubfm(Lifter& l, const fields::ubfm& f) {
  if (bad_bitfield(f.sf, f.n, f.immr, f.imms)) return Lift::Undefined;
  return bitfield_move(l, f.sf, f.immr, f.imms, f.rn, f.rd, false);
}

Lift lift_bfm(Lifter& l, const fields::bfm& f) {
  if (bad_bitfield(f.sf, f.n, f.immr, f.imms)) return Lift::Undefined;
  auto& ir = l.ir;
  const unsigned size = f.sf ? 64 : 32;
  const Value source = l.r(f.sf, f.rn), old = l.r(f.sf, f.rd);
  Value result;
  if (f.imms >= f.immr) {  // BFXIL
    const unsigned width = f.imms - f.immr + 1;
    const Value low = f.immr ? ir.lshr(source, ir.iconst(type_of(f.sf), f.immr)) : source;
    result = width == size ? low : ir.bfi(old, low, 0, width);
  } else {  // BFI, BFC
    result = ir.bfi(old, source, size - f.immr, f.imms + 1);
  }
  l.set_r(f.rd, result);
  return Lift::Next;
}

Lift lift_extr(Lifter& l, const fields::extr& f) {
  if (f.n != f.sf || (!f.sf && f.imms > 31)) return Lift::Undefined;
  auto& ir = l.ir;
  Value result;
  if (f.imms == 0) result = l.r(f.sf, f.rm);
  else if (f.rn == f.rm) result = ir.rotr(l.r(f.sf, f.rn), ir.iconst(type_of(f.sf), f.imms));  // ROR
  else result = ir.extr(l.r(f.sf, f.rn), l.r(f.sf, f.rm), f.imms);
  l.set_r(f.rd, result);
  return Lift::Next;
}

}  // namespace kiln::arm
