// Shifts and rotates, bit tests and scans, BMI, byte order, CRC32.
#include "frontends/x86/helpers.h"
#include "frontends/x86/lifter.h"
#include "frontends/x86/x86_rows.h"

namespace kiln::x86 {

using ir::Cond;
using ir::Op;
using ir::RmwKind;
using ir::Type;
using ir::Value;

namespace {

enum Shift : u8 { kRol, kRor, kRcl, kRcr, kShl, kShr, kSal, kSar };

/// Bits 28 (V) and 29 (C) of an image from two values whose bit 0 counts.
Value cv_bits(Lifter& l, Value carry, Value overflow) {
  const auto narrow = [&](Value v) { return l.to_width(v, 4); };
  return l.ir.or_(l.ir.shl(l.ir.ubfx(narrow(carry), 0, 1), l.ir.i32(29)),
                  l.ir.shl(l.ir.ubfx(narrow(overflow), 0, 1), l.ir.i32(28)));
}
/// The old flags with C and V replaced (rotates).
Value flags_with_cv(Lifter& l, Value bits) {
  const Value image = l.ir.flags_value(l.ir.get_flags());
  return l.ir.flags_image(l.ir.or_(l.ir.and_(image, l.ir.i32(~u32{3u << 28})), bits));
}

struct Result {
  Value value, carry, overflow;  // carry and overflow in bit 0, of the value's type
};

/// A shift by `count` (same type as `a`), 1 <= count < 32 or 64 if it is not 0.
Result shift(Lifter& l, Shift kind, Value a, Value count, unsigned bytes) {
  const unsigned bits = 8 * bytes;
  const Type type = Lifter::type_of(bytes);
  const auto k = [&](u64 v) { return l.ir.iconst(type, v); };
  const auto bit = [&](Value v, unsigned n) { return l.ir.ubfx(v, n, 1); };
  Result r;
  switch (kind) {
    case kShl:
    case kSal:
      if (bytes <= 2) {
        const Value wide = l.ir.shl(l.zext_from(a, bytes), count);
        r.value = wide;
        r.carry = bit(wide, bits);
      } else {
        r.value = l.ir.shl(a, count);
        r.carry = l.ir.lshr(a, l.ir.neg(count));  // bits - count, modulo bits
      }
      r.overflow = l.ir.xor_(bit(r.value, bits - 1), r.carry);
      break;
    case kShr: {
      const Value clean = l.zext_from(a, bytes);
      r.value = l.ir.lshr(clean, count);
      r.carry = l.ir.lshr(clean, l.ir.sub(count, k(1)));
      r.overflow = bit(clean, bits - 1);
      break;
    }
    case kSar: {
      const Value clean = l.sext_from(a, bytes);
      r.value = l.ir.ashr(clean, count);
      r.carry = l.ir.ashr(clean, l.ir.sub(count, k(1)));
      r.overflow = k(0);
      break;
    }
    default: {  // ROL, ROR
      Value v = a;
      if (bytes == 1) v = l.ir.mul(l.zext_from(a, 1), k(0x01010101));
      if (bytes == 2) v = l.ir.mul(l.zext_from(a, 2), k(0x00010001));
      r.value = l.ir.rotr(v, kind == kRol ? l.ir.neg(count) : count);
      const Value top = bit(r.value, bits - 1);
      if (kind == kRol) {
        r.carry = bit(r.value, 0);
        r.overflow = l.ir.xor_(top, r.carry);
      } else {
        r.carry = top;
        r.overflow = l.ir.xor_(top, bit(r.value, bits - 2));
      }
    }
  }
  return r;
}

/// RCL and RCR (SDM vol. 2): the helper gives value and carry apart.
Result rotate_carry(Lifter& l, const Insn& i, Value a, Value count, unsigned bytes) {
  const Value carry = l.ir.zext(Type::I32, l.flag(Cond::Cs));
  const Value wide = l.to_width(l.zext_from(a, bytes), 8), n = l.to_width(count, 4);
  const Value kind = l.ir.i32(bytes | (i.param == kRcr ? 16u : 0u));
  Result r;
  r.value = l.to_width(l.ir.call(kRotateCarryValue, {wide, n, carry, kind}), bytes);
  r.carry = l.to_width(l.ir.call(kRotateCarryOut, {wide, n, carry, kind}), bytes);
  const Value top = l.ir.ubfx(r.value, 8 * bytes - 1, 1);
  r.overflow =
      i.param == kRcl ? l.ir.xor_(top, l.ir.ubfx(r.carry, 0, 1)) : l.ir.xor_(top, l.ir.ubfx(r.value, 8 * bytes - 2, 1));
  return r;
}

}  // namespace

Lift lift_shift(Lifter& l, const Insn& i) {
  const Shift kind = static_cast<Shift>(i.param);
  const Place p = l.place(i, 0);
  const unsigned bytes = p.op.bytes;
  const Type type = Lifter::type_of(bytes);
  const u32 mask = bytes == 8 ? 63 : 31;
  const bool rotate = kind <= kRcr, through_carry = kind == kRcl || kind == kRcr;
  const Value a = l.read(p);
  Value count;
  const bool constant = i.op[1].kind == OperandKind::Imm;
  if (constant) {
    if ((i.imm & mask) == 0) {
      l.write(p, a);  // still clears bits 63..32 of a 32-bit register
      return Lift::Next;
    }
    count = l.ir.iconst(type, i.imm & mask);
  } else {
    count = l.to_width(l.ir.and_(l.reg(RCX, 4), l.ir.i32(mask)), bytes);
  }
  const Result r = through_carry ? rotate_carry(l, i, a, count, bytes) : shift(l, kind, a, count, bytes);
  const Value bits = cv_bits(l, r.carry, r.overflow);
  const Value old = constant ? ir::kNoValue : l.ir.get_flags();
  Value flags = rotate ? flags_with_cv(l, bits) : l.ir.eflags_result(Lifter::width_of(bytes), r.value, bits);
  if (!constant) flags = l.ir.flags_select(l.ir.icmp(Op::icmp_eq_, count, l.ir.iconst(type, 0)), old, flags);
  l.write(p, r.value);
  l.ir.set_flags(flags);
  return Lift::Next;
}

namespace {

Lift double_shift(Lifter& l, const Insn& i, bool right) {
  const Place p = l.place(i, 0);
  const unsigned bytes = p.op.bytes, bits = 8 * bytes;
  const Type type = Lifter::type_of(bytes);
  const u32 mask = bytes == 8 ? 63 : 31;
  const Value a = l.read(p), b = l.read(i, 1);
  const bool constant = i.op[2].kind == OperandKind::Imm;
  if (constant && (i.imm & mask) == 0) {
    l.write(p, a);
    return Lift::Next;
  }
  const Value count = constant ? l.ir.iconst(type, i.imm & mask) : l.to_width(l.ir.and_(l.reg(RCX, 4), l.ir.i32(mask)), bytes);
  const auto k = [&](u64 v) { return l.ir.iconst(type, v); };
  Result r;
  if (bytes == 2) {
    // Counts above 16 are undefined; cores go on with the other operand's bits as of a 48-bit value a:b:a.
    const Value x = l.ir.zext(Type::I64, l.zext_from(a, 2)), y = l.ir.zext(Type::I64, l.zext_from(b, 2));
    const Value n = l.ir.zext(Type::I64, count);
    const auto at = [&](Value v, unsigned by) { return by ? l.ir.shl(v, l.ir.i64(by)) : v; };
    if (right) {
      const Value wide = l.ir.or_(l.ir.or_(x, at(y, 16)), at(x, 32));
      r.value = l.ir.trunc(Type::I32, l.ir.lshr(wide, n));
      r.carry = l.ir.trunc(Type::I32, l.ir.lshr(wide, l.ir.sub(n, l.ir.i64(1))));
    } else {
      const Value wide = l.ir.or_(l.ir.or_(at(x, 32), at(y, 16)), x);
      r.value = l.ir.trunc(Type::I32, l.ir.lshr(wide, l.ir.sub(l.ir.i64(32), n)));
      r.carry = l.ir.trunc(Type::I32, l.ir.lshr(wide, l.ir.sub(l.ir.i64(48), n)));
    }
  } else if (right) {
    // (b:a) >> count, written so that a count of 0 (variable form) gives a.
    const Value high = l.ir.shl(l.ir.shl(b, k(1)), l.ir.sub(k(bits - 1), count));
    r.value = l.ir.or_(l.ir.lshr(a, count), high);
    r.carry = l.ir.lshr(a, l.ir.sub(count, k(1)));
  } else {
    const Value low = l.ir.lshr(l.ir.lshr(b, k(1)), l.ir.sub(k(bits - 1), count));
    r.value = l.ir.or_(l.ir.shl(a, count), low);
    r.carry = l.ir.lshr(a, l.ir.neg(count));
  }
  r.overflow = l.ir.ubfx(l.ir.xor_(r.value, a), bits - 1, 1);
  Value flags = l.ir.eflags_result(Lifter::width_of(bytes), r.value, cv_bits(l, r.carry, r.overflow));
  if (!constant) flags = l.ir.flags_select(l.ir.icmp(Op::icmp_eq_, count, k(0)), l.ir.get_flags(), flags);
  l.write(p, r.value);
  l.ir.set_flags(flags);
  return Lift::Next;
}

}  // namespace

Lift lift_shld(Lifter& l, const Insn& i) { return double_shift(l, i, false); }
Lift lift_shrd(Lifter& l, const Insn& i) { return double_shift(l, i, true); }

Lift lift_shiftx(Lifter& l, const Insn& i) {
  const Value a = l.read(i, 1), n = l.read(i, 2);
  l.write(i, 0, i.param == 0 ? l.ir.shl(a, n) : i.param == 1 ? l.ir.lshr(a, n) : l.ir.ashr(a, n));
  return Lift::Next;
}
Lift lift_rorx(Lifter& l, const Insn& i) {
  const Value a = l.read(i, 1);
  l.write(i, 0, l.ir.rotr(a, l.ir.iconst(l.ir.type_of(a), i.imm)));
  return Lift::Next;
}

// --- bit tests and scans --------------------------------------------------------------------------------------------------

Lift lift_bit_test(Lifter& l, const Insn& i) {
  enum { kTest, kSet, kReset, kComplement };
  Place p = l.place(i, 0);
  const unsigned bytes = p.op.bytes, bits = 8 * bytes;
  const Type type = Lifter::type_of(bytes);
  const Value index = i.op[1].kind == OperandKind::Imm ? l.ir.iconst(type, i.imm) : l.read(i, 1);
  const Value n = l.ir.and_(index, l.ir.iconst(type, bits - 1));
  if (p.op.kind == OperandKind::Mem && i.op[1].kind == OperandKind::Gpr) {
    // A bit string: the signed index reaches other words (SDM vol. 2, BT).
    const Value words = l.ir.ashr(l.sext_from(index, bytes), l.ir.iconst(type, bytes == 8 ? 6 : bytes == 4 ? 5 : 4));
    const Value offset = l.ir.shl(words, l.ir.iconst(type, bytes == 8 ? 3 : bytes == 4 ? 2 : 1));
    if (i.mem.address_bytes == 8) {
      p.address = l.ir.add(p.address, l.ir.sext(Type::I64, offset));
    } else {
      p.address = l.linear(i.mem.seg, l.ir.add(l.effective_address(i), l.to_width(offset, 4)), i.mem.address_bytes);
    }
  }
  const Value one = l.ir.shl(l.ir.iconst(type, 1), n);
  Value a;
  if (i.lock) {
    static constexpr RmwKind kKinds[4] = {RmwKind::Or, RmwKind::Or, RmwKind::AndNot, RmwKind::Xor};
    ir::MemOp m = Lifter::mem_op(bytes);
    m.order = ir::Order::SeqCst;
    m.rmw = kKinds[i.param];
    const Value address = p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
    a = l.ir.atomic_rmw(address, one, m);
  } else {
    a = l.read(p);
    if (i.param == kSet) l.write(p, l.ir.or_(a, one));
    if (i.param == kReset) l.write(p, l.ir.andn(a, one));
    if (i.param == kComplement) l.write(p, l.ir.xor_(a, one));
  }
  const Value carry = l.ir.ubfx(l.to_width(l.ir.lshr(l.zext_from(a, bytes), n), 4), 0, 1);
  const Value image = l.ir.flags_value(l.ir.get_flags());
  l.ir.set_flags(l.ir.flags_image(l.ir.bfi(image, carry, 29, 1)));
  return Lift::Next;
}

Lift lift_bit_scan(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Type type = Lifter::type_of(bytes);
  const Value a = l.zext_from(l.read(i, 1), bytes);
  const Value zero = l.ir.icmp(Op::icmp_eq_, a, l.ir.iconst(type, 0));
  const Value found = i.param == 0 ? l.ir.ctz(a) : l.ir.sub(l.ir.iconst(type, bytes == 8 ? 63 : 31), l.ir.clz(a));
  // A source of 0 leaves the destination alone (all of it, bits 63..32 too).
  if (bytes == 4 && l.is64()) {
    l.note_write(i.op[0].reg);
    l.set_gpr(i.op[0].reg, l.ir.select(zero, l.gpr(i.op[0].reg), l.ir.zext(Type::I64, found)));
  } else {
    l.write(i, 0, l.ir.select(zero, l.read(i, 0), found));
  }
  l.set_logic_flags(bytes, a);
  return Lift::Next;
}

namespace {
Lift count_bits(Lifter& l, const Insn& i, bool leading) {
  const unsigned bytes = i.op[0].bytes, bits = 8 * bytes;
  const Type type = Lifter::type_of(bytes);
  const Value a = l.zext_from(l.read(i, 1), bytes);
  Value n;
  if (leading) n = bytes == 2 ? l.ir.sub(l.ir.clz(a), l.ir.i32(16)) : l.ir.clz(a);
  else n = l.ir.ctz(bytes == 2 ? l.ir.or_(a, l.ir.i32(1u << bits)) : a);
  l.write(i, 0, n);
  l.ir.set_flags(l.result_flags(bytes, n, l.ir.icmp(Op::icmp_eq_, a, l.ir.iconst(type, 0)), ir::kNoValue));
  return Lift::Next;
}
}  // namespace

Lift lift_tzcnt(Lifter& l, const Insn& i) { return count_bits(l, i, false); }
Lift lift_lzcnt(Lifter& l, const Insn& i) { return count_bits(l, i, true); }

Lift lift_popcnt(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Value a = l.zext_from(l.read(i, 1), bytes);
  const Value zero = l.ir.icmp(Op::icmp_eq_, a, l.ir.iconst(Lifter::type_of(bytes), 0));
  l.write(i, 0, l.ir.popcnt(a));
  l.ir.set_flags(l.ir.flags_image(l.ir.shl(l.ir.zext(Type::I32, zero), l.ir.i32(30))));
  return Lift::Next;
}

// --- BMI --------------------------------------------------------------------------------------------------------------------

Lift lift_andn(Lifter& l, const Insn& i) {
  const Value result = l.ir.andn(l.read(i, 2), l.read(i, 1));
  l.write(i, 0, result);
  l.set_logic_flags(i.op[0].bytes, result);
  return Lift::Next;
}

Lift lift_bls(Lifter& l, const Insn& i) {
  enum { kBlsr = 1, kBlsmsk = 2, kBlsi = 3 };
  const unsigned bytes = i.op[0].bytes;
  const Type type = Lifter::type_of(bytes);
  const Value a = l.read(i, 1), zero = l.ir.iconst(type, 0);
  const Value below = l.ir.sub(a, l.ir.iconst(type, 1));
  Value result, carry = l.ir.icmp(Op::icmp_eq_, a, zero);
  if (i.param == kBlsr) {
    result = l.ir.and_(a, below);
  } else if (i.param == kBlsmsk) {
    result = l.ir.xor_(a, below);
  } else {
    result = l.ir.and_(a, l.ir.neg(a));
    carry = l.ir.icmp(Op::icmp_ne_, a, zero);
  }
  l.write(i, 0, result);
  l.ir.set_flags(l.result_flags(bytes, result, carry, ir::kNoValue));
  return Lift::Next;
}

Lift lift_bextr(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Type type = Lifter::type_of(bytes);
  const auto k = [&](u64 v) { return l.ir.iconst(type, v); };
  const Value a = l.read(i, 1), control = l.read(i, 2);
  const Value start = l.ir.ubfx(control, 0, 8), length = l.ir.ubfx(control, 8, 8);
  const Value inside = l.ir.icmp(Op::icmp_ult_, start, k(8 * bytes));
  const Value shifted = l.ir.select(inside, l.ir.lshr(a, start), k(0));
  const Value mask = l.ir.sub(l.ir.shl(k(1), length), k(1));
  const Value result = l.ir.select(l.ir.icmp(Op::icmp_ult_, length, k(8 * bytes)), l.ir.and_(shifted, mask), shifted);
  l.write(i, 0, result);
  l.ir.set_flags(l.ir.eflags_logic(Lifter::width_of(bytes), result));
  return Lift::Next;
}

Lift lift_bzhi(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Type type = Lifter::type_of(bytes);
  const auto k = [&](u64 v) { return l.ir.iconst(type, v); };
  const Value a = l.read(i, 1), n = l.ir.ubfx(l.read(i, 2), 0, 8);
  const Value inside = l.ir.icmp(Op::icmp_ult_, n, k(8 * bytes));
  const Value mask = l.ir.sub(l.ir.shl(k(1), n), k(1));
  const Value result = l.ir.select(inside, l.ir.and_(a, mask), a);
  l.write(i, 0, result);
  l.ir.set_flags(l.result_flags(bytes, result, l.ir.not_(inside), ir::kNoValue));
  return Lift::Next;
}

Lift lift_pdep(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Value v = l.ir.call(kPdep, {l.to_width(l.read(i, 1), 8), l.to_width(l.read(i, 2), 8)});
  l.write(i, 0, l.to_width(v, bytes));
  return Lift::Next;
}
Lift lift_pext(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Value v = l.ir.call(kPext, {l.to_width(l.read(i, 1), 8), l.to_width(l.read(i, 2), 8)});
  l.write(i, 0, l.to_width(v, bytes));
  return Lift::Next;
}

Lift lift_crc32(Lifter& l, const Insn& i) {
  const Value data = l.to_width(l.read_zext(i, 1), 8);
  const Value crc = l.ir.call(kCrc32c, {l.reg(i.op[0].reg, 4), data, l.ir.i32(i.op[1].bytes)});
  l.set_reg(i.op[0].reg, 4, crc);  // bits 63..32 become 0
  return Lift::Next;
}

// --- byte order
// ---------------------------------------------------------------------------------------------------------------

Lift lift_bswap(Lifter& l, const Insn& i) {
  // 16-bit: undefined; cores give 0.
  const Value v = l.read(i, 0);
  l.write(i, 0, i.op[0].bytes == 2 ? l.ir.i32(0) : l.ir.bswap(v));
  return Lift::Next;
}
Lift lift_movbe(Lifter& l, const Insn& i) {
  Value v = l.ir.bswap(l.read(i, 1));
  if (i.op[0].bytes == 2) v = l.ir.lshr(v, l.ir.i32(16));
  l.write(i, 0, v);
  return Lift::Next;
}

}  // namespace kiln::x86
