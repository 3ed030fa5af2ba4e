// Arithmetic and logic: the eight ALU operations, INC/DEC, NOT/NEG, TEST, MUL/DIV, decimal adjustment, ADX.
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

enum Alu : u8 { kAdd, kOr, kAdc, kSbb, kAnd, kSub, kXor, kCmp };

ir::MemOp atomic_op(unsigned bytes, RmwKind kind) {
  ir::MemOp m = Lifter::mem_op(bytes);
  m.order = ir::Order::SeqCst;
  m.rmw = kind;
  return m;
}
/// Atomic read-modify-write of the LOCKed memory operand; gives the old value.
Value locked(Lifter& l, const Place& p, RmwKind kind, Value v) {
  const Value address = p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
  return l.ir.atomic_rmw(address, v, atomic_op(p.op.bytes, kind));
}

/// Flags of a + b + c (subtract: a - b - c) with the sum already there.
Value carry_flags(Lifter& l, unsigned bytes, Value a, Value b, Value sum, bool subtract) {
  // Carry out of every bit: for a sum (a & b) | ((a | b) & ~sum), for a difference (~a & b) | ((~a | b) & sum).
  const Value ab = l.ir.xor_(a, b);
  const Value carries = subtract ? l.ir.or_(l.ir.andn(b, a), l.ir.and_(l.ir.not_(ab), sum))
                                 : l.ir.or_(l.ir.and_(a, b), l.ir.andn(l.ir.or_(a, b), sum));
  const Value overflow = subtract ? l.ir.and_(ab, l.ir.xor_(a, sum)) : l.ir.andn(l.ir.xor_(a, sum), ab);
  const unsigned top = 8 * bytes - 1;
  const auto bit_to = [&](Value v, unsigned from, unsigned to) {
    const Value one = l.ir.ubfx(v, from, 1);
    return l.ir.shl(bytes == 8 ? l.ir.trunc(Type::I32, one) : one, l.ir.i32(to));
  };
  const Value aux = bit_to(l.ir.xor_(ab, sum), 4, 4);
  return l.ir.eflags_result(Lifter::width_of(bytes), sum,
                            l.ir.or_(l.ir.or_(bit_to(carries, top, 29), bit_to(overflow, top, 28)), aux));
}

bool same_register(const Insn& i) {
  return i.op[0].kind == OperandKind::Gpr && i.op[1].kind == OperandKind::Gpr && i.op[0].reg == i.op[1].reg &&
         i.op[0].high == i.op[1].high;
}

}  // namespace

Lift lift_alu(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const ir::Width width = Lifter::width_of(bytes);
  const Alu op = static_cast<Alu>(i.param);
  if ((op == kXor || op == kSub) && same_register(i)) {
    const Value zero = l.ir.iconst(Lifter::type_of(bytes), 0);
    l.write(i, 0, zero);
    l.ir.set_flags(op == kXor ? l.ir.eflags_logic(width, zero) : l.ir.eflags_sub(width, zero, zero));
    if (i.op[0].reg == RDX && bytes >= 4) l.rdx_is = RdxIs::Zero;
    return Lift::Next;
  }
  Place p = l.place(i, 0);
  const Value b = i.op[1].kind == OperandKind::Imm ? l.ir.iconst(Lifter::type_of(bytes), i.imm) : l.read(i, 1);
  const bool carry_in = op == kAdc || op == kSbb;
  const Value carry = carry_in ? l.to_width(l.flag(Cond::Cs), bytes) : ir::kNoValue;
  Value a;
  if (i.lock) {
    static constexpr RmwKind kKinds[8] = {RmwKind::Add, RmwKind::Or,  RmwKind::Add, RmwKind::Add,
                                          RmwKind::And, RmwKind::Add, RmwKind::Xor};
    Value operand = carry_in ? l.ir.add(b, carry) : b;
    if (op == kSub || op == kSbb) operand = l.ir.neg(operand);
    a = locked(l, p, kKinds[op], operand);
  } else {
    a = l.read(p);
  }
  Value result, flags;
  switch (op) {
    case kAdd:
      result = l.ir.add(a, b);
      flags = l.ir.eflags_add(width, a, b);
      break;
    case kAdc:
      result = l.ir.add(l.ir.add(a, b), carry);
      flags = carry_flags(l, bytes, a, b, result, false);
      break;
    case kSbb:
      result = l.ir.sub(l.ir.sub(a, b), carry);
      flags = carry_flags(l, bytes, a, b, result, true);
      break;
    case kSub:
    case kCmp:
      result = op == kSub ? l.ir.sub(a, b) : ir::kNoValue;
      flags = l.ir.eflags_sub(width, a, b);
      break;
    default:
      result = op == kOr ? l.ir.or_(a, b) : op == kAnd ? l.ir.and_(a, b) : l.ir.xor_(a, b);
      flags = l.ir.eflags_logic(width, result);
  }
  if (op != kCmp && !i.lock) l.write(p, result);
  l.ir.set_flags(flags);
  return Lift::Next;
}

namespace {

Lift step(Lifter& l, const Insn& i, bool down) {
  const unsigned bytes = i.op[0].bytes;
  const Type type = Lifter::type_of(bytes);
  const Value carry = l.flag(Cond::Cs);
  const Place p = l.place(i, 0);
  const Value one = l.ir.iconst(type, 1);
  const Value a = i.lock ? locked(l, p, RmwKind::Add, down ? l.ir.iconst(type, ~u64{0}) : one) : l.read(p);
  const Value result = down ? l.ir.sub(a, one) : l.ir.add(a, one);
  if (!i.lock) l.write(p, result);
  const ir::Width width = Lifter::width_of(bytes);
  l.ir.set_flags(down ? l.ir.eflags_dec(width, result, carry) : l.ir.eflags_inc(width, result, carry));
  return Lift::Next;
}

}  // namespace

Lift lift_inc(Lifter& l, const Insn& i) { return step(l, i, false); }
Lift lift_dec(Lifter& l, const Insn& i) { return step(l, i, true); }

Lift lift_not(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  if (i.lock) locked(l, p, RmwKind::Xor, l.ir.iconst(Lifter::type_of(p.op.bytes), ~u64{0}));
  else l.write(p, l.ir.not_(l.read(p)));
  return Lift::Next;
}

Lift lift_neg(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  const unsigned bytes = p.op.bytes;
  const Value zero = l.ir.iconst(Lifter::type_of(bytes), 0);
  Value a;
  if (i.lock) {
    const Value address = p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
    l.alignment_check(address, bytes);
    a = l.to_width(l.ir.call(kLockedNeg, {address, l.ir.i32(bytes)}), bytes);
  } else {
    a = l.read(p);
    l.write(p, l.ir.neg(a));
  }
  l.ir.set_flags(l.ir.eflags_sub(Lifter::width_of(bytes), zero, a));
  return Lift::Next;
}

Lift lift_test(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Value a = l.read(i, 0);
  l.set_logic_flags(bytes, same_register(i) ? a : l.ir.and_(a, l.read(i, 1)));
  return Lift::Next;
}

// --- multiplication ---------------------------------------------------------------------------------------------------

namespace {

/// Low and high half of the product of two operands of `bytes` (4 or less: I32, both clean as `sign` says).
struct Product {
  Value low, high, overflow;  // overflow: I1, the high half is not the extension of the low one
};
Product multiply(Lifter& l, Value a, Value b, unsigned bytes, bool sign) {
  Product p;
  if (bytes == 8) {
    p.low = l.ir.mul(a, b);
    p.high = sign ? l.ir.smulh(a, b) : l.ir.umulh(a, b);
    const Value expected = sign ? l.ir.ashr(p.low, l.ir.i64(63)) : l.ir.i64(0);
    p.overflow = l.ir.icmp(Op::icmp_ne_, p.high, expected);
    return p;
  }
  const auto extend = [&](Value v) {
    v = sign ? l.sext_from(v, bytes) : l.zext_from(v, bytes);
    return sign ? l.ir.sext(Type::I64, v) : l.ir.zext(Type::I64, v);
  };
  const Value wide = l.ir.mul(extend(a), extend(b));
  p.low = l.ir.trunc(Type::I32, wide);
  p.high = l.ir.trunc(Type::I32, l.ir.lshr(wide, l.ir.i64(8 * bytes)));
  const Value again = sign ? l.ir.sbfx(wide, 0, 8 * bytes) : l.ir.ubfx(wide, 0, 8 * bytes);
  p.overflow = l.ir.icmp(Op::icmp_ne_, wide, again);
  return p;
}

Lift multiply_rax(Lifter& l, const Insn& i, bool sign) {
  const unsigned bytes = i.op[0].bytes;
  const Value b = l.read(i, 0);
  const Product p = multiply(l, l.reg(RAX, bytes), b, bytes, sign);
  if (bytes == 1) {
    l.set_reg(RAX, 2, l.ir.bfi(p.low, p.high, 8, 8));
  } else {
    l.set_reg(RAX, bytes, p.low);
    l.set_reg(RDX, bytes, p.high);
  }
  l.ir.set_flags(l.result_flags(bytes, p.low, p.overflow, p.overflow));
  return Lift::Next;
}

}  // namespace

Lift lift_mul(Lifter& l, const Insn& i) { return multiply_rax(l, i, false); }
Lift lift_imul_wide(Lifter& l, const Insn& i) { return multiply_rax(l, i, true); }

Lift lift_imul(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const bool three = i.op[2].kind == OperandKind::Imm;
  const Value a = three ? l.read(i, 1) : l.read(i, 0);
  const Value b = three ? l.ir.iconst(Lifter::type_of(bytes), i.imm) : l.read(i, 1);
  Product p = multiply(l, a, b, bytes, true);
  if (bytes == 4) p.low = l.ir.mul(a, b);  // the product alone is one instruction; the wide one only serves the flags
  l.write(i, 0, p.low);
  l.ir.set_flags(l.result_flags(bytes, p.low, p.overflow, p.overflow));
  return Lift::Next;
}

Lift lift_mulx(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Product p = multiply(l, l.reg(RDX, bytes), l.read(i, 2), bytes, false);
  l.write(i, 1, p.low);
  l.write(i, 0, p.high);  // the high half wins if both go to one register
  return Lift::Next;
}

// --- division -----------------------------------------------------------------------------------------------------------

namespace {

/// rDX:rAX / d for 64-bit operands.
Lift divide64(Lifter& l, Value d, bool sign) {
  const Value low = l.gpr(RAX);
  Value q, r;
  if (!sign && l.rdx_is == RdxIs::Zero) {
    l.trap_if(l.ir.icmp(Op::icmp_eq_, d, l.ir.i64(0)), kDE);
    q = l.ir.udiv(low, d);
    r = l.ir.urem(low, d);
  } else if (sign && l.rdx_is == RdxIs::SignOfRax) {
    const Value least = l.ir.icmp(Op::icmp_eq_, low, l.ir.i64(u64{1} << 63));
    const Value minus_one = l.ir.icmp(Op::icmp_eq_, d, l.ir.i64(~u64{0}));
    l.trap_if(l.ir.or_(l.ir.icmp(Op::icmp_eq_, d, l.ir.i64(0)), l.ir.and_(least, minus_one)), kDE);
    q = l.ir.sdiv(low, d);
    r = l.ir.srem(low, d);
  } else {
    const Value high = l.gpr(RDX);
    if (sign) {
      l.trap_if(l.ir.icmp(Op::icmp_ne_, l.ir.call(kIdiv128Overflows, {high, low, d}), l.ir.i32(0)), kDE);
    } else {
      l.trap_if(l.ir.icmp(Op::icmp_ule_, d, high), kDE);  // d == 0 too
    }
    q = l.ir.call(sign ? kIdiv128 : kDiv128, {high, low, d});
    r = l.ir.sub(low, l.ir.mul(q, d));
  }
  l.set_reg(RAX, 8, q);
  l.set_reg(RDX, 8, r);
  return Lift::Next;
}

Lift divide(Lifter& l, const Insn& i, bool sign) {
  const unsigned bytes = i.op[0].bytes;
  const Value raw = l.read(i, 0);
  if (bytes == 8) return divide64(l, raw, sign);
  const unsigned bits = 8 * bytes;
  const auto clean = [&](Value v) { return sign ? l.sext_from(v, bytes) : l.zext_from(v, bytes); };
  if (bytes == 4 && !sign && l.rdx_is == RdxIs::Zero) {
    l.trap_if(l.ir.icmp(Op::icmp_eq_, raw, l.ir.i32(0)), kDE);
    const Value low = l.reg(RAX, 4);
    const Value q = l.ir.udiv(low, raw), r = l.ir.urem(low, raw);
    l.set_reg(RAX, 4, q);
    l.set_reg(RDX, 4, r);
    return Lift::Next;
  }
  if (bytes == 4 && sign && l.rdx_is == RdxIs::SignOfEax) {
    const Value low = l.reg(RAX, 4);
    const Value least = l.ir.icmp(Op::icmp_eq_, low, l.ir.i32(u32{1} << 31));
    const Value minus_one = l.ir.icmp(Op::icmp_eq_, raw, l.ir.i32(~u32{0}));
    l.trap_if(l.ir.or_(l.ir.icmp(Op::icmp_eq_, raw, l.ir.i32(0)), l.ir.and_(least, minus_one)), kDE);
    const Value q = l.ir.sdiv(low, raw), r = l.ir.srem(low, raw);
    l.set_reg(RAX, 4, q);
    l.set_reg(RDX, 4, r);
    return Lift::Next;
  }
  const Value d = sign ? l.ir.sext(Type::I64, clean(raw)) : l.ir.zext(Type::I64, clean(raw));
  Value dividend;
  if (bytes == 1) {
    const Value ax = l.reg(RAX, 2);
    dividend = sign ? l.ir.sext(Type::I64, l.sext_from(ax, 2)) : l.ir.zext(Type::I64, l.zext_from(ax, 2));
  } else {
    const Value low = l.ir.zext(Type::I64, l.zext_from(l.reg(RAX, bytes), bytes));
    const Value high = l.ir.zext(Type::I64, l.zext_from(l.reg(RDX, bytes), bytes));
    dividend = l.ir.or_(low, l.ir.shl(high, l.ir.i64(bits)));
    if (sign && bytes == 2) dividend = l.ir.sbfx(dividend, 0, 32);
  }
  const Value q = sign ? l.ir.sdiv(dividend, d) : l.ir.udiv(dividend, d);
  const Value fits = sign ? l.ir.sbfx(q, 0, bits) : l.ir.ubfx(q, 0, bits);
  l.trap_if(l.ir.or_(l.ir.icmp(Op::icmp_eq_, d, l.ir.i64(0)), l.ir.icmp(Op::icmp_ne_, q, fits)), kDE);
  // MIN / -1 gives MIN in the IR, which does not fit either.
  const Value r = sign ? l.ir.srem(dividend, d) : l.ir.urem(dividend, d);
  const Value q32 = l.ir.trunc(Type::I32, q), r32 = l.ir.trunc(Type::I32, r);
  if (bytes == 1) {
    l.set_reg(RAX, 2, l.ir.bfi(q32, r32, 8, 8));
  } else {
    l.set_reg(RAX, bytes, q32);
    l.set_reg(RDX, bytes, r32);
  }
  return Lift::Next;
}

}  // namespace

Lift lift_div(Lifter& l, const Insn& i) { return divide(l, i, false); }
Lift lift_idiv(Lifter& l, const Insn& i) { return divide(l, i, true); }

// --- decimal adjustment, ADX ----------------------------------------------------------------------------------------------

namespace {

/// Helpers take AX and the flags image and give the new AX in bits 15..0, the image in bits 63..32.
Lift adjust(Lifter& l, const ir::Helper& helper, Value extra) {
  const Value image = l.ir.flags_value(l.ir.get_flags());
  const Value both = l.ir.call(helper, {l.reg(RAX, 4), image, extra});
  l.set_reg(RAX, 2, l.ir.trunc(Type::I32, both));
  l.ir.set_flags(l.ir.flags_image(l.ir.trunc(Type::I32, l.ir.lshr(both, l.ir.i64(32)))));
  return Lift::Next;
}

}  // namespace

Lift lift_decimal(Lifter& l, const Insn& i) { return adjust(l, kDecimalAdjust, l.ir.i32(i.param)); }
Lift lift_aam(Lifter& l, const Insn& i) {
  if (i.imm == 0) return l.trap(i, kDE);
  return adjust(l, kAam, l.ir.i32(i.imm));
}
Lift lift_aad(Lifter& l, const Insn& i) { return adjust(l, kAad, l.ir.i32(i.imm)); }

Lift lift_adx(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Value old = l.ir.get_flags();
  const Value image = l.ir.flags_value(old);
  const bool use_overflow = i.param == 1;
  const Value carry = l.to_width(l.ir.cond(old, use_overflow ? Cond::Vs : Cond::Cs), bytes);
  const Value a = l.read(i, 0), b = l.read(i, 1);
  const Value first = l.ir.add(a, b), sum = l.ir.add(first, carry);
  const Value out = l.ir.or_(l.ir.icmp(Op::icmp_ult_, first, a), l.ir.icmp(Op::icmp_ult_, sum, first));
  l.write(i, 0, sum);
  l.ir.set_flags(l.ir.flags_image(l.ir.bfi(image, l.ir.zext(Type::I32, out), use_overflow ? 28 : 29, 1)));
  return Lift::Next;
}

}  // namespace kiln::x86
