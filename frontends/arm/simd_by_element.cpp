// Advanced SIMD vector x indexed element: the element is spread over a vector, then the vector form applies.
#include "frontends/arm/fp_lift.h"
#include "frontends/arm/simd_by_element.decode.h"
#include "frontends/arm/simd_helpers.h"

namespace kiln::arm {

namespace {

template <class F>
Lift multiply(Lifter& l, const F& f) {
  const Width w = lane(f.size);
  set_low(l, f.rd, bytes_of(f), op2(l, Op::v_mul_, w, l.v(f.rn), element(l, w, f)));
  return Lift::Next;
}
template <class F>
Lift multiply_acc(Lifter& l, const F& f, Op op) {
  const Width w = lane(f.size);
  const Value product = op2(l, Op::v_mul_, w, l.v(f.rn), element(l, w, f));
  set_low(l, f.rd, bytes_of(f), op2(l, op, w, l.v(f.rd), product));
  return Lift::Next;
}
/// op == kCount: no accumulation.
template <class F>
Lift multiply_long(Lifter& l, const F& f, bool is_signed, Op op) {
  const Width w = lane(f.size);
  Value v = op2(l, Op::v_mul_, wider(w), widen(l, is_signed, f.q, w, l.v(f.rn)), widen(l, is_signed, 0, w, element(l, w, f)));
  if (op != Op::kCount) v = op2(l, op, wider(w), l.v(f.rd), v);
  l.set_v(f.rd, v);
  return Lift::Next;
}
/// SQDMULH and its like: lane-wise at the given width.
template <class F>
Lift saturating(Lifter& l, const F& f, SimdOp op, bool accumulate) {
  const Width w = lane(f.size);
  const unsigned bytes = bytes_of(f);
  const Value n = keep(l, bytes, l.v(f.rn)), m = keep(l, bytes, element(l, w, f));
  set_low(l, f.rd, bytes, accumulate ? simd_call(l, op, w, {keep(l, bytes, l.v(f.rd)), n, m}) : simd_call(l, op, w, {n, m}));
  return Lift::Next;
}
template <class F>
Lift saturating_long(Lifter& l, const F& f, SimdOp op, bool accumulate) {
  const Width w = lane(f.size);
  unsigned q = 0, bytes = 16;
  Value n = l.v(f.rn), m = element(l, w, f), d = l.v(f.rd);
  if constexpr (requires { f.q; }) {
    q = f.q;
  } else {
    bytes = width_bytes(wider(w));
    n = keep(l, width_bytes(w), n), m = keep(l, width_bytes(w), m), d = keep(l, bytes, d);
  }
  n = widen(l, true, q, w, n), m = widen(l, true, 0, w, m);
  set_low(l, f.rd, bytes, accumulate ? simd_call(l, op, wider(w), {d, n, m}) : simd_call(l, op, wider(w), {n, m}));
  return Lift::Next;
}
template <class F>
Lift dot(Lifter& l, const F& f, SimdOp op) {
  set_low(l, f.rd, f.q ? 16 : 8, simd_call(l, op, Width::B4, {l.v(f.rd), l.v(f.rn), element(l, Width::B4, f)}));
  return Lift::Next;
}

/// With sz, L is part of no index and must be zero.
template <class F>
bool fp_reserved(const F& f) {
  return reserved_1d(f) || (lane_of(f) == Width::B8 && f.l);
}
template <class F>
Lift fp_multiply(Lifter& l, const F& f, Fp2 op) {
  if (fp_reserved(f)) return Lift::Undefined;
  const Width w = lane_of(f);
  l.set_v(f.rd, fp2(l, op, w, bytes_of(f), l.v(f.rn), element(l, w, f)));
  return Lift::Next;
}
template <class F>
Lift fp_multiply_add(Lifter& l, const F& f, bool negate) {
  if (fp_reserved(f)) return Lift::Undefined;
  const Width w = lane_of(f);
  const Value n = negate ? fp_neg(l, w, l.v(f.rn)) : l.v(f.rn);
  l.set_v(f.rd, fp_muladd(l, w, bytes_of(f), n, element(l, w, f), l.v(f.rd)));
  return Lift::Next;
}
template <class F>
Lift fp_multiply_add_long(Lifter& l, const F& f, unsigned part) {
  const unsigned lanes = f.q ? 4 : 2, offset = part * 2 * lanes;
  Value n = l.v(f.rn), m = element(l, Width::B2, f);
  if (offset) n = l.ir.vec(Op::v_ext_, Width::B1, {n, n}, offset);
  if (f.s) n = fp_neg(l, Width::B2, n);
  n = fp_call(l, FpHelp::HalfBits, Width::B2, {.lanes = lanes}, {n});
  m = fp_call(l, FpHelp::HalfBits, Width::B2, {.lanes = lanes}, {m});
  l.set_v(f.rd, fp_muladd(l, Width::B4, f.q ? 16 : 8, n, m, l.v(f.rd)));
  return Lift::Next;
}

}  // namespace

// clang-format off
#define KILN_ROWS(X)                                                                                                \
  X(mla_e, multiply_acc, Op::v_add_) X(mls_e, multiply_acc, Op::v_sub_) X(smull_e, multiply_long, true, Op::kCount) \
  X(umull_e, multiply_long, false, Op::kCount) X(smlal_e, multiply_long, true, Op::v_add_)                          \
  X(umlal_e, multiply_long, false, Op::v_add_) X( smlsl_e, multiply_long, true, Op::v_sub_)                         \
  X(umlsl_e, multiply_long, false, Op::v_sub_) X(sqdmulh_e, saturating, SimdOp::SQDMulH, false)                     \
  X(sqdmulh_es, saturating, SimdOp::SQDMulH, false) X( sqrdmulh_e, saturating, SimdOp::SQRDMulH, false)             \
  X(sqrdmulh_es, saturating, SimdOp::SQRDMulH, false) X(sqrdmlah_e, saturating, SimdOp::SQRDMlaH, true)             \
  X(sqrdmlah_es, saturating, SimdOp::SQRDMlaH, true) X( sqrdmlsh_e, saturating, SimdOp::SQRDMlsH, true)             \
  X(sqrdmlsh_es, saturating, SimdOp::SQRDMlsH, true) X(sqdmull_e, saturating_long, SimdOp::SQDMull, false)          \
  X(sqdmull_es, saturating_long, SimdOp::SQDMull, false) X(sqdmlal_e, saturating_long, SimdOp::SQDMlal, true)       \
  X(sqdmlal_es, saturating_long, SimdOp::SQDMlal, true) X(sqdmlsl_e, saturating_long, SimdOp::SQDMlsl, true)        \
  X(sqdmlsl_es, saturating_long, SimdOp::SQDMlsl, true) X(sdot_e, dot, SimdOp::SDot) X( udot_e, dot, SimdOp::UDot)  \
  X(sudot_e, dot, SimdOp::SUDot) X(usdot_e, dot, SimdOp::USDot) X(fmla_e, fp_multiply_add, false)                   \
  X(fmla_eh, fp_multiply_add, false) X(fmla_es, fp_multiply_add, false) X(fmla_esh, fp_multiply_add, false)         \
  X(fmls_e, fp_multiply_add, true) X(fmls_eh, fp_multiply_add, true) X(fmls_es, fp_multiply_add, true)              \
  X(fmls_esh, fp_multiply_add, true) X(fmul_e, fp_multiply, Fp2::Mul) X(fmul_eh, fp_multiply, Fp2::Mul)             \
  X(fmul_es, fp_multiply, Fp2::Mul) X(fmul_esh, fp_multiply, Fp2::Mul) X(fmulx_e, fp_multiply, Fp2::MulX)           \
  X(fmulx_eh, fp_multiply, Fp2::MulX) X(fmulx_es, fp_multiply, Fp2::MulX) X(fmulx_esh, fp_multiply, Fp2::MulX)      \
  X(fmlal_e, fp_multiply_add_long, 0) X(fmlal2_e, fp_multiply_add_long, 1)
// clang-format on
#define X(row, shape, ...) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, __VA_ARGS__); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS

Lift lift_mul_e(Lifter& l, const fields::mul_e& f) { return multiply(l, f); }

Lift lift_fcmla_e(Lifter& l, const fields::fcmla_e& f) {
  if (f.l) return Lift::Undefined;
  const Value m = op1(l, Op::v_dup_lane_, Width::B8, l.v(f.m << 4 | f.rm), f.h);
  l.set_v(f.rd, fp_complex_muladd(l, Width::B4, 16, f.rot, l.v(f.rn), m, l.v(f.rd)));
  return Lift::Next;
}
Lift lift_fcmla_eh(Lifter& l, const fields::fcmla_eh& f) {
  if (!f.q && f.h) return Lift::Undefined;
  const Value m = op1(l, Op::v_dup_lane_, Width::B4, l.v(f.m << 4 | f.rm), f.h << 1 | f.l);
  l.set_v(f.rd, fp_complex_muladd(l, Width::B2, f.q ? 16 : 8, f.rot, l.v(f.rn), m, l.v(f.rd)));
  return Lift::Next;
}

}  // namespace kiln::arm
