#include "frontends/arm/fp_lift.h"

namespace kiln::arm {
namespace {

struct Choice {
  Op scalar, vector;  // kCount: none
  FpHelp half;
};
constexpr Choice choice(Fp2 op) {
  switch (op) {
    case Fp2::Add: return {Op::fadd_, Op::v_fadd_, FpHelp::Add};
    case Fp2::Sub: return {Op::fsub_, Op::v_fsub_, FpHelp::Sub};
    case Fp2::Mul: return {Op::fmul_, Op::v_fmul_, FpHelp::Mul};
    case Fp2::Div: return {Op::fdiv_, Op::v_fdiv_, FpHelp::Div};
    case Fp2::Max: return {Op::fmax_, Op::v_fmax_, FpHelp::Max};
    case Fp2::Min: return {Op::fmin_, Op::v_fmin_, FpHelp::Min};
    case Fp2::MaxNm: return {Op::fmaxnm_, Op::v_fmaxnm_, FpHelp::MaxNm};
    case Fp2::MinNm: return {Op::fminnm_, Op::v_fminnm_, FpHelp::MinNm};
    case Fp2::MulX: return {Op::kCount, Op::kCount, FpHelp::MulX};
    case Fp2::RecpS: return {Op::kCount, Op::kCount, FpHelp::RecpS};
    case Fp2::RsqrtS: return {Op::kCount, Op::kCount, FpHelp::RsqrtS};
    case Fp2::CmpEq: return {Op::kCount, Op::v_fcmpeq_, FpHelp::CmpEq};
    case Fp2::CmpGe: return {Op::kCount, Op::v_fcmpge_, FpHelp::CmpGe};
    default: return {Op::kCount, Op::v_fcmpgt_, FpHelp::CmpGt};
  }
}

/// Sign bits of the even (first) or odd lanes of each pair.
Value pair_signs(Lifter& l, Width w, bool even, bool odd) {
  const unsigned n = width_bits(w);
  if (w == Width::B8) return l.ir.vconst(even ? u64{1} << 63 : 0, odd ? u64{1} << 63 : 0);
  return splat(l, wider(w), (even ? u64{1} << (n - 1) : 0) | (odd ? u64{1} << (2 * n - 1) : 0));
}
Value swap_pairs(Lifter& l, Width w, Value v) { return op1(l, Op::v_rev_, w, v, 2 * width_bytes(w)); }

}  // namespace

Value fp2(Lifter& l, Fp2 op, Width w, unsigned bytes, Value a, Value b) {
  if (op == Fp2::Abd) return fp_abs(l, w, fp2(l, Fp2::Sub, w, bytes, a, b));
  if (op == Fp2::AcGe || op == Fp2::AcGt)
    return fp2(l, op == Fp2::AcGe ? Fp2::CmpGe : Fp2::CmpGt, w, bytes, fp_abs(l, w, a), fp_abs(l, w, b));
  const Choice c = choice(op);
  const unsigned lanes = bytes / width_bytes(w);
  if (w == Width::B2 || (c.scalar == Op::kCount && c.vector == Op::kCount))
    return fp_call(l, c.half, w, {.lanes = lanes}, {a, b});
  if (c.scalar != Op::kCount && lanes == 1) {
    const Type t = fp_type(w);
    return l.ir.f_to_v(l.ir.fp(c.scalar, t, {l.operand(l.ir.v_to_f(t, a)), l.operand(l.ir.v_to_f(t, b))}, l.fp()));
  }
  // Zeros in the surplus lanes raise nothing, except as divisors.
  a = l.operand(w, keep(l, bytes, a)), b = l.operand(w, keep(l, bytes, b));
  if (op == Fp2::Div && bytes == 8) b = v_or(l, b, l.ir.vconst(0, repeat(Width::B4, 0x3f800000)));
  const Value r = l.ir.vec(c.vector, w, {a, b}, 0, 0, l.fp().pack());
  // What is done to the surplus zeros gives zeros, save 0 - 0 rounding down; 0 == 0 and 0 >= 0 hold.
  const bool clean = op != Fp2::Sub && op != Fp2::CmpEq && op != Fp2::CmpGe && op != Fp2::CmpGt;
  return clean ? r : keep(l, bytes, r);
}

Value fp_muladd(Lifter& l, Width w, unsigned bytes, Value a, Value b, Value c) {
  const unsigned lanes = bytes / width_bytes(w);
  if (w == Width::B2) return fp_call(l, FpHelp::MulAdd, w, {.lanes = lanes}, {a, b, c});
  if (lanes == 1) {
    const Type t = fp_type(w);
    const auto scalar = [&](Value x) { return l.operand(l.ir.v_to_f(t, x)); };
    return l.ir.f_to_v(l.ir.fp(Op::fma_, t, {scalar(a), scalar(b), scalar(c)}, l.fp()));
  }
  const auto vector = [&](Value x) { return l.operand(w, keep(l, bytes, x)); };
  return keep(l, bytes, l.ir.vec(Op::v_fma_, w, {vector(a), vector(b), vector(c)}, 0, 0, l.fp().pack()));
}

Value fp_neg(Lifter& l, Width w, Value a) {
  if (w == Width::B2) return v_xor(l, a, splat(l, w, 0x8000));
  return op1(l, Op::v_fneg_, w, a);
}
Value fp_abs(Lifter& l, Width w, Value a) {
  if (w == Width::B2) return v_and(l, a, splat(l, w, 0x7fff));
  return op1(l, Op::v_fabs_, w, a);
}
Value fp_sqrt(Lifter& l, Width w, unsigned bytes, Value a) {
  if (w == Width::B2) return fp_unary_help(l, FpHelp::Sqrt, w, bytes, a);
  if (bytes == width_bytes(w))
    return l.ir.f_to_v(l.ir.fp(Op::fsqrt_, fp_type(w), {l.operand(l.ir.v_to_f(fp_type(w), a))}, l.fp()));
  return l.ir.vec(Op::v_fsqrt_, w, {l.operand(w, keep(l, bytes, a))}, 0, 0, l.fp().pack());
}
Value fp_unary_help(Lifter& l, FpHelp op, Width w, unsigned bytes, Value a, Params params) {
  params.lanes = bytes / width_bytes(w);
  return fp_call(l, op, w, params, {a});
}

Value fp_round_int(Lifter& l, Width w, unsigned bytes, Value a, Round round, bool exact) {
  if (w == Width::B2) return fp_unary_help(l, FpHelp::RoundInt, w, bytes, a, {.round = round, .exact = exact});
  const FpOp f = fp_op(l, round, exact);
  if (bytes == width_bytes(w)) return l.ir.f_to_v(l.ir.fp(Op::fround_, fp_type(w), {l.operand(l.ir.v_to_f(fp_type(w), a))}, f));
  return l.ir.vec(Op::v_fround_, w, {l.operand(w, keep(l, bytes, a))}, 0, 0, f.pack());
}
Value fp_to_int(Lifter& l, Width w, unsigned bytes, Value a, Round round, bool is_unsigned, unsigned fraction) {
  if (w == Width::B2) {
    const Params p{.round = round, .is_unsigned = is_unsigned, .fraction = fraction, .bits = 16};
    return fp_unary_help(l, FpHelp::ToFixed, w, bytes, a, p);
  }
  const u32 f = fp_op(l, round, false, is_unsigned).pack();
  if (bytes == width_bytes(w)) {
    const Value v = l.ir.emit(Op::f_to_int_, int_type(w), {l.operand(l.ir.v_to_f(fp_type(w), a))}, fraction, 0, f);
    return l.ir.f_to_v(l.ir.bitcast(fp_type(w), v));
  }
  return l.ir.vec(Op::v_f_to_int_, w, {l.operand(w, keep(l, bytes, a))}, fraction, 0, f);
}
Value fp_from_int(Lifter& l, Width w, unsigned bytes, Value a, bool is_unsigned) {
  if (w == Width::B2) return fp_unary_help(l, FpHelp::FromFixed, w, bytes, a, {.is_unsigned = is_unsigned, .bits = 16});
  const FpOp f = fp_op(l, Round::Dynamic, false, is_unsigned);
  if (bytes == width_bytes(w))
    return l.ir.f_to_v(l.ir.fp(Op::int_to_f_, fp_type(w), {l.ir.v_extract(int_type(w), w, a, 0)}, f));
  return l.ir.vec(Op::v_int_to_f_, w, {keep(l, bytes, a)}, 0, 0, f.pack());
}

Value fp_scale(Lifter& l, Width w, unsigned bytes, Value a, u64 scale) {
  const FpOp f = l.fp_never_tiny();
  if (bytes != width_bytes(w)) return l.ir.vec(Op::v_fmul_, w, {keep(l, bytes, a), splat(l, w, scale)}, 0, 0, f.pack());
  const Type t = fp_type(w);
  return l.ir.f_to_v(l.ir.fp(Op::fmul_, t, {l.ir.v_to_f(t, a), l.ir.v_to_f(t, splat(l, w, scale))}, f));
}

Value fp_complex_muladd(Lifter& l, Width w, unsigned bytes, unsigned rot, Value n, Value m, Value d) {
  const bool odd = rot & 1;
  const Value a = op2(l, odd ? Op::v_trn_odd_ : Op::v_trn_even_, w, n, n);
  Value b = odd ? swap_pairs(l, w, m) : m;
  if (rot) b = v_xor(l, b, pair_signs(l, w, rot != 3, rot != 1));
  return fp_muladd(l, w, bytes, a, b, d);
}
Value fp_complex_add(Lifter& l, Width w, unsigned bytes, bool three_quarters, Value n, Value m) {
  const Value turned = v_xor(l, swap_pairs(l, w, m), pair_signs(l, w, !three_quarters, three_quarters));
  return fp2(l, Fp2::Add, w, bytes, n, turned);
}

}  // namespace kiln::arm
