// Scalar floating point.
#include "frontends/arm/condition.h"
#include "frontends/arm/fp_lift.h"
#include "frontends/arm/fp_scalar.decode.h"

namespace kiln::arm {
namespace {

/// The `type` field: 0 single, 1 double, 3 half (2 is excluded by the rows).
constexpr Width width_of(unsigned type) { return type == 0 ? Width::B4 : type == 1 ? Width::B8 : Width::B2; }

template <class F>
Lift two(Lifter& l, const F& f, Fp2 op) {
  const Width w = width_of(f.type);
  l.set_v(f.rd, fp2(l, op, w, width_bytes(w), l.v(f.rn), l.v(f.rm)));
  return Lift::Next;
}
template <class F>
Lift multiply_add(Lifter& l, const F& f, bool negate_product, bool negate_addend) {
  const Width w = width_of(f.type);
  Value n = l.v(f.rn), a = l.v(f.ra);
  // FPNeg of the operands, NaNs included, as the manual's pseudocode has it.
  if (w == Width::B2) {
    if (negate_product) n = fp_neg(l, w, n);
    if (negate_addend) a = fp_neg(l, w, a);
    l.set_v(f.rd, fp_muladd(l, w, 2, n, l.v(f.rm), a));
    return Lift::Next;
  }
  const Type t = fp_type(w);
  Value fn = l.ir.v_to_f(t, n), fa = l.ir.v_to_f(t, a);
  if (negate_product) fn = l.ir.fp(Op::fneg_, t, {fn});
  if (negate_addend) fa = l.ir.fp(Op::fneg_, t, {fa});
  l.set_f(f.rd, l.ir.fp(Op::fma_, t, {l.operand(fn), l.operand(l.f(t, f.rm)), l.operand(fa)}, l.fp()));
  return Lift::Next;
}
/// Sign operations; singles and doubles stay scalar so that the value need not leave its register.
template <class F>
Lift sign_op(Lifter& l, const F& f, Op op) {
  const Width w = width_of(f.type);
  if (w == Width::B2) set_low(l, f.rd, 2, op == Op::fneg_ ? fp_neg(l, w, l.v(f.rn)) : fp_abs(l, w, l.v(f.rn)));
  else l.set_f(f.rd, l.ir.fp(op, fp_type(w), {l.f(fp_type(w), f.rn)}));
  return Lift::Next;
}
/// An operand of a comparison: halves are compared as singles, which says the same.
Value operand(Lifter& l, Width w, unsigned reg) {
  if (w != Width::B2) return l.operand(l.f(fp_type(w), reg));
  return l.ir.v_to_f(Type::F32, fp_call(l, FpHelp::HalfBits, w, {.lanes = 1}, {l.v(reg)}));
}
Value constant(Lifter& l, Type t, u64 bits) {
  return l.ir.bitcast(t, l.ir.iconst(t == Type::F64 ? Type::I64 : Type::I32, bits));
}
Value condition(Lifter& l, unsigned cond) { return l.ir.cond(l.ir.get_flags(), static_cast<ir::Cond>(cond)); }

u64 expand_imm8(Width w, unsigned imm8) {
  const u64 sign = imm8 >> 7, b6 = (imm8 >> 6) & 1, low = imm8 & 63;
  if (w == Width::B8) return sign << 63 | (b6 ? u64{0xff} << 54 : u64{1} << 62) | low << 48;
  if (w == Width::B4) return sign << 31 | (b6 ? u64{0x1f} << 25 : u64{1} << 30) | low << 19;
  return sign << 15 | (b6 ? u64{3} << 12 : u64{1} << 14) | low << 6;
}

/// To a general register.
template <class F>
Lift to_int(Lifter& l, const F& f, Round round, unsigned fraction) {
  const Width w = width_of(f.type);
  if (w == Width::B2) {
    const Params p{.lanes = 1, .round = round, .is_unsigned = f.u == 1, .fraction = fraction, .bits = f.sf ? 64u : 32u};
    const Value v = fp_call(l, FpHelp::ToFixed, w, p, {l.v(f.rn)});
    l.set_r(f.rd, f.sf ? l.ir.v_extract(Type::I64, Width::B8, v, 0) : l.ir.v_extract(Type::I32, Width::B4, v, 0));
  } else {
    const Type t = f.sf ? Type::I64 : Type::I32;
    l.set_r(f.rd,
            l.ir.emit(Op::f_to_int_, t, {l.operand(l.f(fp_type(w), f.rn))}, fraction, 0, fp_op(l, round, false, f.u).pack()));
  }
  return Lift::Next;
}
/// From a general register.
template <class F>
Lift from_int(Lifter& l, const F& f, unsigned fraction) {
  const Width w = width_of(f.type);
  const Value n = l.r(f.sf, f.rn);
  if (w == Width::B2) {
    const Params p{.lanes = 1, .is_unsigned = f.u == 1, .fraction = fraction, .bits = f.sf ? 64u : 32u};
    const Value v = l.ir.vec(Op::v_insert_, f.sf ? Width::B8 : Width::B4, {zero(l), n}, 0);
    l.set_v(f.rd, fp_call(l, FpHelp::FromFixed, w, p, {v}));
    return Lift::Next;
  }
  const Type t = fp_type(w);
  Value v = l.ir.fp(Op::int_to_f_, t, {n}, fp_op(l, Round::Dynamic, false, f.u));
  if (fraction) {  // scaling by 2^-fraction is exact: no integer is that small
    const u64 scale = t == Type::F64 ? static_cast<u64>(1023 - fraction) << 52 : static_cast<u64>(127 - fraction) << 23;
    v = l.ir.fp(Op::fmul_, t, {v, constant(l, t, scale)}, l.fp_never_tiny());
  }
  l.set_f(f.rd, v);
  return Lift::Next;
}

}  // namespace

// clang-format off
#define KILN_ROWS(X)                                                                                                 \
  X(fadd_f, two, Fp2::Add) X(fsub_f, two, Fp2::Sub) X(fmul_f, two, Fp2::Mul) X(fdiv_f, two, Fp2::Div)                \
  X(fmax_f, two, Fp2::Max) X(fmin_f, two, Fp2::Min) X(fmaxnm_f, two, Fp2::MaxNm) X(fminnm_f, two, Fp2::MinNm)        \
  X(fmadd_f, multiply_add, false, false) X(fmsub_f, multiply_add, true, false) X(fnmadd_f, multiply_add, true, true) \
  X(fnmsub_f, multiply_add, false, true) X(fneg_f, sign_op, Op::fneg_) X(fabs_f, sign_op, Op::fabs_)                 \
  X(fcvt_int, to_int, static_cast<Round>(f.rmode), 0) X(fcvta_int, to_int, Round::Away, 0) X(xcvtf_int, from_int, 0)
// clang-format on
#define X(row, shape, ...) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, __VA_ARGS__); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS

Lift lift_fnmul_f(Lifter& l, const fields::fnmul_f& f) {
  const Width w = width_of(f.type);
  if (w == Width::B2) {
    set_low(l, f.rd, 2, fp_neg(l, w, fp2(l, Fp2::Mul, w, 2, l.v(f.rn), l.v(f.rm))));
  } else {
    const Type t = fp_type(w);
    const Value n = l.operand(l.f(t, f.rn)), m = l.operand(l.f(t, f.rm));
    l.set_f(f.rd, l.ir.fp(Op::fneg_, t, {l.ir.fp(Op::fmul_, t, {n, m}, l.fp())}));
  }
  return Lift::Next;
}
Lift lift_fmov_f(Lifter& l, const fields::fmov_f& f) {
  set_low(l, f.rd, width_bytes(width_of(f.type)), l.v(f.rn));
  return Lift::Next;
}
Lift lift_fsqrt_f(Lifter& l, const fields::fsqrt_f& f) {
  const Width w = width_of(f.type);
  l.set_v(f.rd, fp_sqrt(l, w, width_bytes(w), l.v(f.rn)));
  return Lift::Next;
}
Lift lift_fmov_imm_f(Lifter& l, const fields::fmov_imm_f& f) {
  l.set_v(f.rd, l.ir.vconst(expand_imm8(width_of(f.type), f.imm8), 0));
  return Lift::Next;
}

Lift lift_fcvt_f(Lifter& l, const fields::fcvt_f& f) {
  if (f.opc == f.type) return Lift::Undefined;
  const Value n = l.v(f.rn);
  Value v;
  if (f.type == 3) v = fp_call(l, f.opc == 0 ? FpHelp::HalfToSingle : FpHelp::HalfToDouble, Width::B2, {.lanes = 1}, {n});
  else if (f.opc == 3)
    v = fp_call(l, f.type == 0 ? FpHelp::SingleToHalf : FpHelp::DoubleToHalf, width_of(f.type), {.lanes = 1}, {n});
  else
    v = l.ir.f_to_v(
        l.ir.fp(Op::fcvt_, f.opc ? Type::F64 : Type::F32, {l.operand(l.ir.v_to_f(f.opc ? Type::F32 : Type::F64, n))}, l.fp()));
  l.set_v(f.rd, v);
  return Lift::Next;
}
Lift lift_bfcvt_f(Lifter& l, const fields::bfcvt_f& f) {
  l.set_v(f.rd, fp_call(l, FpHelp::SingleToBrain, Width::B4, {.lanes = 1}, {l.v(f.rn)}));
  return Lift::Next;
}
Lift lift_frint_f(Lifter& l, const fields::frint_f& f) {
  constexpr Round kRounds[8] = {Round::Nearest, Round::Up,      Round::Down,    Round::Zero,
                                Round::Away,    Round::Dynamic, Round::Dynamic, Round::Dynamic};
  const Width w = width_of(f.type);
  l.set_v(f.rd, fp_round_int(l, w, width_bytes(w), l.v(f.rn), kRounds[f.rmode], f.rmode == 6));
  return Lift::Next;
}
Lift lift_frint3264_f(Lifter& l, const fields::frint3264_f& f) {
  const Width w = f.sz ? Width::B8 : Width::B4;
  const Params p{.round = f.x ? Round::Dynamic : Round::Zero, .bits = f.wide ? 64u : 32u};
  l.set_v(f.rd, fp_unary_help(l, FpHelp::RoundIntN, w, width_bytes(w), l.v(f.rn), p));
  return Lift::Next;
}

Lift lift_fcmp_f(Lifter& l, const fields::fcmp_f& f) {
  const Width w = width_of(f.type);
  const Value a = operand(l, w, f.rn);
  l.ir.set_flags(l.ir.flags_fcmp(a, f.zero ? constant(l, fp_type(w), 0) : operand(l, w, f.rm), f.e));
  return Lift::Next;
}
Lift lift_fccmp_f(Lifter& l, const fields::fccmp_f& f) {
  const Width w = width_of(f.type);
  const Type t = fp_type(w);
  if (always(f.cond)) {
    const Value a = operand(l, w, f.rn), b = operand(l, w, f.rm);
    l.ir.set_flags(l.ir.flags_fcmp(a, b, f.e));
    return Lift::Next;
  }
  // If the condition fails nothing is compared, so no NaN and no denormal may be seen.
  const Value holds = condition(l, f.cond);
  const auto compared = [&](unsigned reg) {
    const Value raw = w == Width::B2 ? operand(l, w, reg) : l.f(t, reg);
    return l.operand(l.ir.select(holds, raw, constant(l, t, 0)));
  };
  const Value a = compared(f.rn), b = compared(f.rm);
  l.ir.set_flags(l.ir.flags_select(holds, l.ir.flags_fcmp(a, b, f.e), l.ir.flags_image(l.ir.i32(f.nzcv << 28))));
  return Lift::Next;
}
Lift lift_fcsel_f(Lifter& l, const fields::fcsel_f& f) {
  const Width w = width_of(f.type);
  if (always(f.cond)) {
    set_low(l, f.rd, width_bytes(w), l.v(f.rn));
  } else if (w == Width::B2) {
    set_low(l, f.rd, 2, l.ir.select(condition(l, f.cond), l.v(f.rn), l.v(f.rm)));
  } else {
    l.set_f(f.rd, l.ir.select(condition(l, f.cond), l.f(fp_type(w), f.rn), l.f(fp_type(w), f.rm)));
  }
  return Lift::Next;
}

Lift lift_xcvtf_fixed(Lifter& l, const fields::xcvtf_fixed& f) {
  if (!f.sf && f.scale < 32) return Lift::Undefined;
  return from_int(l, f, 64 - f.scale);
}
Lift lift_fcvtz_fixed(Lifter& l, const fields::fcvtz_fixed& f) {
  if (!f.sf && f.scale < 32) return Lift::Undefined;
  return to_int(l, f, Round::Zero, 64 - f.scale);
}

Lift lift_fmov_to_gpr(Lifter& l, const fields::fmov_to_gpr& f) {
  const Width w = width_of(f.type);
  if (f.type != 3 && f.type != f.sf) return Lift::Undefined;
  l.set_r(f.rd, l.ir.v_extract(f.sf ? Type::I64 : Type::I32, w, l.v(f.rn), 0));
  return Lift::Next;
}
Lift lift_fmov_from_gpr(Lifter& l, const fields::fmov_from_gpr& f) {
  if (f.type != 3 && f.type != f.sf) return Lift::Undefined;
  if (f.type == 3) l.set_v(f.rd, l.ir.vec(Op::v_insert_, Width::B2, {zero(l), l.w(f.rn)}, 0));
  else l.set_f(f.rd, l.ir.bitcast(f.sf ? Type::F64 : Type::F32, l.r(f.sf, f.rn)));
  return Lift::Next;
}
Lift lift_fmov_to_gpr_top(Lifter& l, const fields::fmov_to_gpr_top& f) {
  l.set_r(f.rd, l.ir.v_extract(Type::I64, Width::B8, l.v(f.rn), 1));
  return Lift::Next;
}
Lift lift_fmov_from_gpr_top(Lifter& l, const fields::fmov_from_gpr_top& f) {
  l.set_v(f.rd, l.ir.vec(Op::v_insert_, Width::B8, {l.v(f.rd), l.x(f.rn)}, 1));
  return Lift::Next;
}
Lift lift_fjcvtzs(Lifter& l, const fields::fjcvtzs& f) {
  const Value v = fp_call(l, FpHelp::JavaScript, Width::B8, {.lanes = 1}, {l.v(f.rn)});
  l.set_r(f.rd, l.ir.v_extract(Type::I32, Width::B4, v, 0));
  const Value z = l.ir.v_extract(Type::I32, Width::B4, v, 1);
  l.ir.set_flags(l.ir.flags_image(l.ir.shl(z, l.ir.i32(30))));
  return Lift::Next;
}

}  // namespace kiln::arm
