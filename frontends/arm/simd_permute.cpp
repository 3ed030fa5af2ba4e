// Advanced SIMD permute, extract, table look-up, copy, modified immediate.
#include "frontends/arm/simd_common.h"
#include "frontends/arm/simd_permute.decode.h"

namespace kiln::arm {
namespace {

/// UZP and the halves-joining forms on 8-byte vectors work on the pair m:n as one 16-byte vector.
template <class F>
Lift unzip(Lifter& l, const F& f, Op op) {
  if (reserved_1d(f)) return Lift::Undefined;
  const Width w = lane(f.size);
  const Value n = l.v(f.rn), m = l.v(f.rm);
  if (f.q) {
    l.set_v(f.rd, op2(l, op, w, n, m));
  } else {
    const Value both = op2(l, Op::v_zip_lo_, Width::B8, n, m);
    l.set_v(f.rd, l.ir.v_low64(op2(l, op, w, both, both)));
  }
  return Lift::Next;
}
template <class F>
Lift transpose(Lifter& l, const F& f, Op op) {
  if (reserved_1d(f)) return Lift::Undefined;
  set_low(l, f.rd, f.q ? 16 : 8, op2(l, op, lane(f.size), l.v(f.rn), l.v(f.rm)));
  return Lift::Next;
}

/// Lane width and index of the imm5 that copies use; false if reserved.
bool decode_imm5(unsigned imm5, Width& w, unsigned& index) {
  if ((imm5 & 15) == 0) return false;
  const unsigned size = static_cast<unsigned>(std::countr_zero(imm5));
  w = lane(size);
  index = imm5 >> (size + 1);
  return true;
}

}  // namespace

Lift lift_uzp1(Lifter& l, const fields::uzp1& f) { return unzip(l, f, Op::v_uzp_even_); }
Lift lift_uzp2(Lifter& l, const fields::uzp2& f) { return unzip(l, f, Op::v_uzp_odd_); }
Lift lift_trn1(Lifter& l, const fields::trn1& f) { return transpose(l, f, Op::v_trn_even_); }
Lift lift_trn2(Lifter& l, const fields::trn2& f) { return transpose(l, f, Op::v_trn_odd_); }
Lift lift_zip1(Lifter& l, const fields::zip1& f) { return transpose(l, f, Op::v_zip_lo_); }
Lift lift_zip2(Lifter& l, const fields::zip2& f) {
  if (reserved_1d(f)) return Lift::Undefined;
  const Value n = l.v(f.rn), m = l.v(f.rm);
  if (f.q) {
    l.set_v(f.rd, op2(l, Op::v_zip_hi_, lane(f.size), n, m));
  } else {  // the upper half of the 16-byte interleaving of the low halves
    const Value all = op2(l, Op::v_zip_lo_, lane(f.size), n, m);
    l.set_v(f.rd, l.ir.vec(Op::v_ext_, Width::B1, {all, zero(l)}, 8));
  }
  return Lift::Next;
}

Lift lift_ext_v(Lifter& l, const fields::ext_v& f) {
  if (!f.q && f.imm4 >= 8) return Lift::Undefined;
  Value n = l.v(f.rn), m = l.v(f.rm);
  if (f.q) {
    l.set_v(f.rd, l.ir.vec(Op::v_ext_, Width::B1, {n, m}, f.imm4));
  } else {
    const Value both = op2(l, Op::v_zip_lo_, Width::B8, n, m);
    l.set_v(f.rd, l.ir.v_low64(l.ir.vec(Op::v_ext_, Width::B1, {both, both}, f.imm4)));
  }
  return Lift::Next;
}

Lift lift_tbl(Lifter& l, const fields::tbl& f) {
  // One v_tbl per table register: indexes out of its sixteen give zero, so the parts can be joined with or.
  const Value indexes = l.v(f.rm);
  Value result = l.ir.vec(Op::v_tbl_, Width::B1, {l.v(f.rn), indexes});
  for (unsigned i = 1; i <= f.len; ++i) {
    const Value rebased = op2(l, Op::v_sub_, Width::B1, indexes, splat(l, Width::B1, 16 * i));
    result = v_or(l, result, l.ir.vec(Op::v_tbl_, Width::B1, {l.v((f.rn + i) & 31), rebased}));
  }
  if (f.x) {  // TBX keeps what is out of range
    const Value inside = op2(l, Op::v_cmpgt_u_, Width::B1, splat(l, Width::B1, 16 * (f.len + 1)), indexes);
    result = op3(l, Op::v_bsl_, Width::B8, inside, result, l.v(f.rd));
  }
  set_low(l, f.rd, f.q ? 16 : 8, result);
  return Lift::Next;
}

Lift lift_dup_elem(Lifter& l, const fields::dup_elem& f) {
  Width w;
  unsigned index;
  if (!decode_imm5(f.imm5, w, index) || (w == Width::B8 && !f.q)) return Lift::Undefined;
  set_low(l, f.rd, f.q ? 16 : 8, op1(l, Op::v_dup_lane_, w, l.v(f.rn), index));
  return Lift::Next;
}
Lift lift_dup_gpr(Lifter& l, const fields::dup_gpr& f) {
  Width w;
  unsigned index;
  if (!decode_imm5(f.imm5, w, index) || (w == Width::B8 && !f.q)) return Lift::Undefined;
  set_low(l, f.rd, f.q ? 16 : 8, op1(l, Op::v_dup_, w, l.r(w == Width::B8, f.rn)));
  return Lift::Next;
}
Lift lift_dup_s(Lifter& l, const fields::dup_s& f) {
  Width w;
  unsigned index;
  if (!decode_imm5(f.imm5, w, index)) return Lift::Undefined;
  const Value n = l.v(f.rn);
  set_low(l, f.rd, width_bytes(w), index ? op1(l, Op::v_dup_lane_, w, n, index) : n);
  return Lift::Next;
}
Lift lift_ins_gpr(Lifter& l, const fields::ins_gpr& f) {
  Width w;
  unsigned index;
  if (!decode_imm5(f.imm5, w, index)) return Lift::Undefined;
  l.set_v(f.rd, l.ir.vec(Op::v_insert_, w, {l.v(f.rd), l.r(w == Width::B8, f.rn)}, index));
  return Lift::Next;
}
Lift lift_ins_elem(Lifter& l, const fields::ins_elem& f) {
  Width w;
  unsigned index;
  if (!decode_imm5(f.imm5, w, index)) return Lift::Undefined;
  const unsigned from = f.imm4 >> static_cast<unsigned>(w);
  l.set_v(f.rd, l.ir.vec(Op::v_insert_lane_, w, {l.v(f.rd), l.v(f.rn)}, index, from));
  return Lift::Next;
}
Lift lift_umov(Lifter& l, const fields::umov& f) {
  Width w;
  unsigned index;
  if (!decode_imm5(f.imm5, w, index) || (w == Width::B8) != (f.q == 1)) return Lift::Undefined;
  l.set_r(f.rd, l.ir.v_extract(f.q ? Type::I64 : Type::I32, w, l.v(f.rn), index));
  return Lift::Next;
}
Lift lift_smov(Lifter& l, const fields::smov& f) {
  Width w;
  unsigned index;
  if (!decode_imm5(f.imm5, w, index) || w == Width::B8 || (w == Width::B4 && !f.q)) return Lift::Undefined;
  const Value v = l.ir.v_extract(f.q ? Type::I64 : Type::I32, w, l.v(f.rn), index);
  l.set_r(f.rd, l.ir.sbfx(v, 0, width_bits(w)));
  return Lift::Next;
}

Lift lift_modimm(Lifter& l, const fields::modimm& f) {
  const u64 imm8 = f.abc << 5 | f.defgh;
  const unsigned cmode = f.cmode;
  if (f.o2 && (cmode != 15 || f.op)) return Lift::Undefined;
  enum { Move, MoveNot, Or, Clear } action = f.op ? MoveNot : Move;
  u64 value = 0;
  if (cmode < 12) {  // shifted byte in words or halves; odd cmode combines with Vd
    value = cmode < 8 ? repeat(Width::B4, imm8 << (8 * (cmode >> 1))) : repeat(Width::B2, imm8 << (8 * ((cmode >> 1) & 1)));
    if (cmode & 1) action = f.op ? Clear : Or;
  } else if (cmode < 14) {  // shifting ones
    value = repeat(Width::B4, cmode & 1 ? imm8 << 16 | 0xffff : imm8 << 8 | 0xff);
  } else if (cmode == 14) {
    if (f.op) {
      for (unsigned i = 0; i < 8; ++i)
        if (bit(imm8, i)) value |= u64{0xff} << (8 * i);
    } else {
      value = repeat(Width::B1, imm8);
    }
    action = Move;
  } else {  // VFPExpandImm
    const u64 sign = imm8 >> 7, b6 = (imm8 >> 6) & 1, low = imm8 & 63;
    if (f.op) {
      if (!f.q) return Lift::Undefined;
      value = sign << 63 | (b6 ? u64{0xff} << 54 : u64{1} << 62) | low << 48;
    } else if (f.o2) {
      value = repeat(Width::B2, sign << 15 | (b6 ? u64{3} << 12 : u64{1} << 14) | low << 6);
    } else {
      value = repeat(Width::B4, sign << 31 | (b6 ? u64{0x1f} << 25 : u64{1} << 30) | low << 19);
    }
    action = Move;
  }
  if (action == MoveNot || action == Clear) value = ~value;
  Value v = l.ir.vconst(value, f.q ? value : 0);
  if (action == Or || action == Clear) v = op2(l, action == Or ? Op::v_or_ : Op::v_and_, Width::B8, l.v(f.rd), v);
  // A constant's upper half is right already; what came from Vd is not.
  if (action == Or || action == Clear) set_low(l, f.rd, f.q ? 16 : 8, v);
  else l.set_v(f.rd, v);
  return Lift::Next;
}

}  // namespace kiln::arm
