// Advanced SIMD floating point: arithmetic, comparison, pairwise, across lanes, complex, halves' widening multiply-add.
#include "frontends/arm/fp_lift.h"
#include "frontends/arm/simd_fp.decode.h"

namespace kiln::arm {
namespace {

template <class F>
Lift three(Lifter& l, const F& f, Fp2 op) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp2(l, op, lane_of(f), bytes_of(f), l.v(f.rn), l.v(f.rm)));
  return Lift::Next;
}
template <class F>
Lift multiply_add(Lifter& l, const F& f, bool negate) {
  if (reserved_1d(f)) return Lift::Undefined;
  const Width w = lane_of(f);
  const Value n = negate ? fp_neg(l, w, l.v(f.rn)) : l.v(f.rn);
  l.set_v(f.rd, fp_muladd(l, w, bytes_of(f), n, l.v(f.rm), l.v(f.rd)));
  return Lift::Next;
}
template <class F>
Lift pairwise(Lifter& l, const F& f, Fp2 op) {
  if (reserved_1d(f)) return Lift::Undefined;
  const Width w = lane_of(f);
  const Pairs p = pairs(l, bytes_of(f), w, l.v(f.rn), l.v(f.rm));
  l.set_v(f.rd, fp2(l, op, w, bytes_of(f), p.even, p.odd));
  return Lift::Next;
}
/// The scalar forms: lanes 0 and 1 of one register.
template <class F>
Lift pairwise_scalar(Lifter& l, const F& f, Fp2 op) {
  const Width w = lane_of(f);
  const Value n = l.v(f.rn);
  l.set_v(f.rd, fp2(l, op, w, width_bytes(w), n, op1(l, Op::v_dup_lane_, w, n, 1)));
  return Lift::Next;
}
/// By halves of neighbours, as the manual's Reduce(): the order shows in which NaN survives.
template <class F>
Lift across(Lifter& l, const F& f, Fp2 op, Width w) {
  unsigned bytes = 16;
  if constexpr (requires { f.q; }) bytes = f.q ? 16 : 8;
  Value v = l.v(f.rn);
  for (; bytes > width_bytes(w); bytes /= 2) {
    const Pairs p = pairs(l, bytes, w, v, v);
    v = fp2(l, op, w, bytes / 2, p.even, p.odd);
  }
  l.set_v(f.rd, v);
  return Lift::Next;
}
template <class F>
Lift compare_zero(Lifter& l, const F& f, Fp2 op, bool swapped) {
  if (reserved_1d(f)) return Lift::Undefined;
  const Value n = l.v(f.rn), z = zero(l);
  l.set_v(f.rd, fp2(l, op, lane_of(f), bytes_of(f), swapped ? z : n, swapped ? n : z));
  return Lift::Next;
}
template <class F>
Lift sign_op(Lifter& l, const F& f, bool negate) {
  if (reserved_1d(f)) return Lift::Undefined;
  set_low(l, f.rd, bytes_of(f), negate ? fp_neg(l, lane_of(f), l.v(f.rn)) : fp_abs(l, lane_of(f), l.v(f.rn)));
  return Lift::Next;
}
template <class F>
Lift square_root(Lifter& l, const F& f) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_sqrt(l, lane_of(f), bytes_of(f), l.v(f.rn)));
  return Lift::Next;
}
template <class F>
Lift helped(Lifter& l, const F& f, FpHelp op) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_unary_help(l, op, lane_of(f), bytes_of(f), l.v(f.rn)));
  return Lift::Next;
}

}  // namespace

#define KILN_FORMS(X, name, shape, ...) X(name##_v, shape, __VA_ARGS__) X(name##_vh, shape, __VA_ARGS__)
#define KILN_ALL_FORMS(X, name, shape, ...) \
  KILN_FORMS(X, name, shape, __VA_ARGS__) X(name##_s, shape, __VA_ARGS__) X(name##_sh, shape, __VA_ARGS__)
// clang-format off
#define KILN_ROWS(X)                                                                                                         \
  KILN_FORMS(X, fadd, three, Fp2::Add) KILN_FORMS(X, fsub, three, Fp2::Sub) KILN_FORMS(X, fmul, three, Fp2::Mul)             \
  KILN_FORMS(X, fdiv, three, Fp2::Div) KILN_FORMS( X, fmax, three, Fp2::Max) KILN_FORMS(X, fmin, three, Fp2::Min)            \
  KILN_FORMS(X, fmaxnm, three, Fp2::MaxNm) KILN_FORMS(X, fminnm, three, Fp2::MinNm) KILN_FORMS(X, fmla, multiply_add, false) \
  KILN_FORMS( X, fmls, multiply_add, true) KILN_ALL_FORMS(X, fmulx, three, Fp2::MulX)                                        \
  KILN_ALL_FORMS(X, frecps, three, Fp2::RecpS) KILN_ALL_FORMS(X, frsqrts, three, Fp2::RsqrtS)                                \
  KILN_ALL_FORMS(X, fabd, three, Fp2::Abd) KILN_ALL_FORMS( X, fcmeq, three, Fp2::CmpEq)                                      \
  KILN_ALL_FORMS(X, fcmge, three, Fp2::CmpGe) KILN_ALL_FORMS(X, fcmgt, three, Fp2::CmpGt)                                    \
  KILN_ALL_FORMS(X, facge, three, Fp2::AcGe) KILN_ALL_FORMS( X, facgt, three, Fp2::AcGt)                                     \
  KILN_FORMS(X, faddp, pairwise, Fp2::Add) KILN_FORMS(X, fmaxp, pairwise, Fp2::Max) KILN_FORMS(X, fminp, pairwise, Fp2::Min) \
  KILN_FORMS( X, fmaxnmp, pairwise, Fp2::MaxNm) KILN_FORMS(X, fminnmp, pairwise, Fp2::MinNm)                                 \
  X(faddp_s, pairwise_scalar, Fp2::Add) X(faddp_sh, pairwise_scalar, Fp2::Add) X(fmaxp_s, pairwise_scalar, Fp2::Max)         \
  X(fmaxp_sh, pairwise_scalar, Fp2::Max) X(fminp_s, pairwise_scalar, Fp2::Min) X(fminp_sh, pairwise_scalar, Fp2::Min)        \
  X(fmaxnmp_s, pairwise_scalar, Fp2::MaxNm) X(fmaxnmp_sh, pairwise_scalar, Fp2::MaxNm)                                       \
  X(fminnmp_s, pairwise_scalar, Fp2::MinNm) X(fminnmp_sh, pairwise_scalar, Fp2::MinNm) X(fmaxv, across, Fp2::Max, Width::B4) \
  X(fmaxv_h, across, Fp2::Max, Width::B2) X( fminv, across, Fp2::Min, Width::B4) X(fminv_h, across, Fp2::Min, Width::B2)     \
  X(fmaxnmv, across, Fp2::MaxNm, Width::B4) X( fmaxnmv_h, across, Fp2::MaxNm, Width::B2)                                     \
  X(fminnmv, across, Fp2::MinNm, Width::B4) X(fminnmv_h, across, Fp2::MinNm, Width::B2)                                      \
  KILN_ALL_FORMS( X, fcmgt0, compare_zero, Fp2::CmpGt, false) KILN_ALL_FORMS(X, fcmge0, compare_zero, Fp2::CmpGe, false)     \
  KILN_ALL_FORMS(X, fcmeq0, compare_zero, Fp2::CmpEq, false) KILN_ALL_FORMS(X, fcmle0, compare_zero, Fp2::CmpGe, true)       \
  KILN_ALL_FORMS(X, fcmlt0, compare_zero, Fp2::CmpGt, true) KILN_FORMS(X, fabs, sign_op, false)                              \
  KILN_FORMS(X, fneg, sign_op, true) KILN_ALL_FORMS(X, frecpe, helped, FpHelp::RecpE)                                        \
  KILN_ALL_FORMS(X, frsqrte, helped, FpHelp::RsqrtE) X(frecpx_s, helped, FpHelp::RecpX) X(frecpx_sh, helped, FpHelp::RecpX)
// clang-format on
#define X(row, shape, ...) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, __VA_ARGS__); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS
#undef KILN_ALL_FORMS
#undef KILN_FORMS

Lift lift_fsqrt_v(Lifter& l, const fields::fsqrt_v& f) { return square_root(l, f); }
Lift lift_fsqrt_vh(Lifter& l, const fields::fsqrt_vh& f) { return square_root(l, f); }

namespace {
/// FMLAL(2), FMLSL(2): `part` selects which half of the source lanes.
template <class F>
Lift multiply_add_long(Lifter& l, const F& f, unsigned part) {
  const unsigned lanes = f.q ? 4 : 2, offset = part * 2 * lanes;
  Value n = l.v(f.rn), m = l.v(f.rm);
  if (offset) {
    n = l.ir.vec(Op::v_ext_, Width::B1, {n, n}, offset);
    m = l.ir.vec(Op::v_ext_, Width::B1, {m, m}, offset);
  }
  if (f.s) n = fp_neg(l, Width::B2, n);
  n = fp_call(l, FpHelp::HalfBits, Width::B2, {.lanes = lanes}, {n});
  m = fp_call(l, FpHelp::HalfBits, Width::B2, {.lanes = lanes}, {m});
  l.set_v(f.rd, fp_muladd(l, Width::B4, f.q ? 16 : 8, n, m, l.v(f.rd)));
  return Lift::Next;
}
}  // namespace

Lift lift_fcmla_v(Lifter& l, const fields::fcmla_v& f) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_complex_muladd(l, lane_of(f), bytes_of(f), f.rot, l.v(f.rn), l.v(f.rm), l.v(f.rd)));
  return Lift::Next;
}
Lift lift_fcadd_v(Lifter& l, const fields::fcadd_v& f) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_complex_add(l, lane_of(f), bytes_of(f), f.rot, l.v(f.rn), l.v(f.rm)));
  return Lift::Next;
}
Lift lift_fmlal_v(Lifter& l, const fields::fmlal_v& f) { return multiply_add_long(l, f, 0); }
Lift lift_fmlal2_v(Lifter& l, const fields::fmlal2_v& f) { return multiply_add_long(l, f, 1); }

}  // namespace kiln::arm
