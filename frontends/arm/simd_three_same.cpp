// Advanced SIMD three same, three same extra, three different: integer.
#include "frontends/arm/simd_common.h"
#include "frontends/arm/simd_helpers.h"
#include "frontends/arm/simd_three_same.decode.h"

namespace kiln::arm {
namespace {

using Binary = Value (*)(Lifter&, Width, Value n, Value m);
using Ternary = Value (*)(Lifter&, Width, Value d, Value n, Value m);

/// Vd = f(Vn, Vm), lane by lane; surplus lanes hold zeros on the way in, so helpers see nothing to saturate there.
template <class F>
Lift three(Lifter& l, const F& f, Binary op) {
  if (reserved_1d(f)) return Lift::Undefined;
  const unsigned bytes = bytes_of(f);
  set_low(l, f.rd, bytes, op(l, lane_of(f), l.v(f.rn), l.v(f.rm)));
  return Lift::Next;
}
/// The same with the surplus lanes cleared first, for what sets FPSR.QC.
template <class F>
Lift three_kept(Lifter& l, const F& f, Binary op) {
  if (reserved_1d(f)) return Lift::Undefined;
  const unsigned bytes = bytes_of(f);
  set_low(l, f.rd, bytes, op(l, lane_of(f), keep(l, bytes, l.v(f.rn)), keep(l, bytes, l.v(f.rm))));
  return Lift::Next;
}
template <class F>
Lift three_acc(Lifter& l, const F& f, Ternary op) {
  if (reserved_1d(f)) return Lift::Undefined;
  set_low(l, f.rd, bytes_of(f), op(l, lane_of(f), l.v(f.rd), l.v(f.rn), l.v(f.rm)));
  return Lift::Next;
}
template <class F>
Lift three_acc_kept(Lifter& l, const F& f, Ternary op) {
  const unsigned bytes = bytes_of(f);
  set_low(l, f.rd, bytes, op(l, lane_of(f), keep(l, bytes, l.v(f.rd)), keep(l, bytes, l.v(f.rn)), keep(l, bytes, l.v(f.rm))));
  return Lift::Next;
}

template <Op op>
Value plain(Lifter& l, Width w, Value n, Value m) {
  return op2(l, op, w, n, m);
}

// Halving forms without the extra bit: a + b = 2 (a & b) + (a ^ b) = 2 (a | b) - (a ^ b); a - b = (a ^ b) - 2 (~a & b).
Value half_of_xor(Lifter& l, Width w, bool is_signed, Value n, Value m) {
  return op1(l, is_signed ? Op::v_ashr_ : Op::v_lshr_, w, v_xor(l, n, m), 1);
}
template <bool is_signed>
Value hadd(Lifter& l, Width w, Value n, Value m) {
  return op2(l, Op::v_add_, w, v_and(l, n, m), half_of_xor(l, w, is_signed, n, m));
}
template <bool is_signed>
Value rhadd(Lifter& l, Width w, Value n, Value m) {
  return op2(l, Op::v_sub_, w, v_or(l, n, m), half_of_xor(l, w, is_signed, n, m));
}
template <bool is_signed>
Value hsub(Lifter& l, Width w, Value n, Value m) {
  return op2(l, Op::v_sub_, w, half_of_xor(l, w, is_signed, n, m), op2(l, Op::v_andn_, w, m, n));
}
template <bool is_signed>
Value abd(Lifter& l, Width w, Value n, Value m) {
  return op2(l, Op::v_sub_, w, op2(l, is_signed ? Op::v_max_s_ : Op::v_max_u_, w, n, m),
             op2(l, is_signed ? Op::v_min_s_ : Op::v_min_u_, w, n, m));
}
template <bool is_signed>
Value aba(Lifter& l, Width w, Value d, Value n, Value m) {
  return op2(l, Op::v_add_, w, d, abd<is_signed>(l, w, n, m));
}
Value cmtst(Lifter& l, Width w, Value n, Value m) { return v_not(l, op2(l, Op::v_cmpeq_, w, v_and(l, n, m), zero(l))); }
Value mla(Lifter& l, Width w, Value d, Value n, Value m) { return op2(l, Op::v_add_, w, d, op2(l, Op::v_mul_, w, n, m)); }
Value mls(Lifter& l, Width w, Value d, Value n, Value m) { return op2(l, Op::v_sub_, w, d, op2(l, Op::v_mul_, w, n, m)); }
Value orn(Lifter& l, Width, Value n, Value m) { return v_or(l, n, v_not(l, m)); }

template <SimdOp op>
Value helper(Lifter& l, Width w, Value n, Value m) {
  return simd_call(l, op, w, {n, m});
}
template <SimdOp op>
Value helper_acc(Lifter& l, Width w, Value d, Value n, Value m) {
  return simd_call(l, op, w, {d, n, m});
}

template <class F>
Lift pairwise(Lifter& l, const F& f, Op op) {
  if (reserved_1d(f)) return Lift::Undefined;
  const unsigned bytes = bytes_of(f);
  const Pairs p = pairs(l, bytes, lane_of(f), l.v(f.rn), l.v(f.rm));
  set_low(l, f.rd, bytes, op2(l, op, lane_of(f), p.even, p.odd));
  return Lift::Next;
}

enum class Selecting { Bsl, Bit, Bif };
template <class F>
Lift bit_select(Lifter& l, const F& f, Selecting kind) {
  const Value d = l.v(f.rd), n = l.v(f.rn), m = l.v(f.rm);
  const Value result = kind == Selecting::Bsl   ? op3(l, Op::v_bsl_, Width::B8, d, n, m)
                       : kind == Selecting::Bit ? op3(l, Op::v_bsl_, Width::B8, m, n, d)
                                                : op3(l, Op::v_bsl_, Width::B8, m, d, n);
  set_low(l, f.rd, f.q ? 16 : 8, result);
  return Lift::Next;
}
template <class F>
Lift logic(Lifter& l, const F& f, Binary op) {
  set_low(l, f.rd, f.q ? 16 : 8, op(l, Width::B8, l.v(f.rn), l.v(f.rm)));
  return Lift::Next;
}

// --- three different --------------------------------------------------------------------------------------------------
// Lanes of `size` widened to twice that; the wide operand's lanes are w.
template <class F>
Lift long_op(Lifter& l, const F& f, bool is_signed, Op op) {
  const Width w = lane(f.size);
  l.set_v(f.rd, op2(l, op, wider(w), widen(l, is_signed, f.q, w, l.v(f.rn)), widen(l, is_signed, f.q, w, l.v(f.rm))));
  return Lift::Next;
}
template <class F>
Lift wide_op(Lifter& l, const F& f, bool is_signed, Op op) {
  const Width w = lane(f.size);
  l.set_v(f.rd, op2(l, op, wider(w), l.v(f.rn), widen(l, is_signed, f.q, w, l.v(f.rm))));
  return Lift::Next;
}
template <class F>
Lift long_mul_acc(Lifter& l, const F& f, bool is_signed, Op op) {
  const Width w = lane(f.size);
  const Value product =
      op2(l, Op::v_mul_, wider(w), widen(l, is_signed, f.q, w, l.v(f.rn)), widen(l, is_signed, f.q, w, l.v(f.rm)));
  l.set_v(f.rd, op2(l, op, wider(w), l.v(f.rd), product));
  return Lift::Next;
}
template <class F>
Lift long_abd(Lifter& l, const F& f, bool is_signed, bool accumulate) {
  const Width w = lane(f.size);
  const Value n = l.v(f.rn), m = l.v(f.rm);
  // The difference of n-bit numbers fits n bits as an unsigned number.
  Value v = widen(l, false, f.q, w, is_signed ? abd<true>(l, w, n, m) : abd<false>(l, w, n, m));
  if (accumulate) v = op2(l, Op::v_add_, wider(w), l.v(f.rd), v);
  l.set_v(f.rd, v);
  return Lift::Next;
}
template <class F>
Lift high_narrow(Lifter& l, const F& f, Op op, bool rounding) {
  const Width w = lane(f.size), wide = wider(w);
  Value v = op2(l, op, wide, l.v(f.rn), l.v(f.rm));
  if (rounding) v = op2(l, Op::v_add_, wide, v, splat(l, wide, u64{1} << (width_bits(w) - 1)));
  set_half(l, f.q, f.rd, op1(l, Op::v_narrow_, w, op1(l, Op::v_lshr_, wide, v, width_bits(w))));
  return Lift::Next;
}

template <class F>
Lift dot(Lifter& l, const F& f, SimdOp op) {
  set_low(l, f.rd, f.q ? 16 : 8, simd_call(l, op, Width::B4, {l.v(f.rd), l.v(f.rn), l.v(f.rm)}));
  return Lift::Next;
}
template <class F>
Lift matrix(Lifter& l, const F& f, SimdOp op) {
  l.set_v(f.rd, simd_call(l, op, Width::B4, {l.v(f.rd), l.v(f.rn), l.v(f.rm)}));
  return Lift::Next;
}

}  // namespace

// clang-format off
#define KILN_ROWS(X)                                                                                                         \
  X(shadd_v, three, hadd<true>) X(uhadd_v, three, hadd<false>) X(srhadd_v, three, rhadd<true>)                               \
  X(urhadd_v, three, rhadd<false>) X(shsub_v, three, hsub<true>) X( uhsub_v, three, hsub<false>)                             \
  X(sqadd_v, three_kept, helper<SimdOp::SQAdd>) X(uqadd_v, three_kept, helper<SimdOp::UQAdd>)                                \
  X(sqadd_s, three_kept, helper<SimdOp::SQAdd>) X(uqadd_s, three_kept, helper<SimdOp::UQAdd>)                                \
  X( sqsub_v, three_kept, helper<SimdOp::SQSub>) X(uqsub_v, three_kept, helper<SimdOp::UQSub>)                               \
  X(sqsub_s, three_kept, helper<SimdOp::SQSub>) X(uqsub_s, three_kept, helper<SimdOp::UQSub>)                                \
  X( cmgt_v, three, plain<Op::v_cmpgt_s_>) X(cmgt_s, three, plain<Op::v_cmpgt_s_>) X(cmhi_v, three, plain<Op::v_cmpgt_u_>)   \
  X(cmhi_s, three, plain<Op::v_cmpgt_u_>) X(cmge_v, three, plain<Op::v_cmpge_s_>) X(cmge_s, three, plain<Op::v_cmpge_s_>)    \
  X( cmhs_v, three, plain<Op::v_cmpge_u_>) X(cmhs_s, three, plain<Op::v_cmpge_u_>) X(cmeq_v, three, plain<Op::v_cmpeq_>)     \
  X(cmeq_s, three, plain<Op::v_cmpeq_>) X(cmtst_v, three, cmtst) X( cmtst_s, three, cmtst)                                   \
  X(sshl_v, three, helper<SimdOp::SShl>) X(ushl_v, three, helper<SimdOp::UShl>) X(sshl_s, three, helper<SimdOp::SShl>)       \
  X(ushl_s, three, helper<SimdOp::UShl>) X( srshl_v, three, helper<SimdOp:: SRShl>) X(urshl_v, three, helper<SimdOp::URShl>) \
  X(srshl_s, three, helper<SimdOp::SRShl>) X(urshl_s, three, helper<SimdOp::URShl>)                                          \
  X(sqshl_v, three_kept, helper<SimdOp::SQShl>) X( uqshl_v, three_kept, helper<SimdOp::UQShl>)                               \
  X(sqshl_s, three_kept, helper<SimdOp::SQShl>) X(uqshl_s, three_kept, helper<SimdOp::UQShl>)                                \
  X(sqrshl_v, three_kept, helper<SimdOp::SQRShl>) X( uqrshl_v, three_kept, helper< SimdOp:: UQRShl>)                         \
  X(sqrshl_s, three_kept, helper<SimdOp::SQRShl>) X(uqrshl_s, three_kept, helper<SimdOp::UQRShl>)                            \
  X(smax_v, three, plain<Op::v_max_s_>) X(umax_v, three, plain<Op::v_max_u_>) X( smin_v, three, plain<Op::v_min_s_>)         \
  X(umin_v, three, plain<Op::v_min_u_>) X(sabd_v, three, abd<true>) X( uabd_v, three, abd< false>)                           \
  X(saba_v, three_acc, aba<true>) X(uaba_v, three_acc, aba<false>) X(add_v, three, plain<Op::v_add_>)                        \
  X(sub_v, three, plain<Op::v_sub_>) X( add_s, three, plain<Op::v_add_>) X(sub_s, three, plain<Op::v_sub_>)                  \
  X(mla_v, three_acc, mla) X(mls_v, three_acc, mls) X(mul_v, three, plain<Op::v_mul_>)                                       \
  X( sqdmulh_v, three_kept, helper<SimdOp::SQDMulH>) X(sqrdmulh_v, three_kept, helper<SimdOp::SQRDMulH>)                     \
  X(sqdmulh_s, three_kept, helper<SimdOp::SQDMulH>) X( sqrdmulh_s, three_kept, helper< SimdOp:: SQRDMulH>)                   \
  X(sqrdmlah_v, three_acc_kept, helper_acc<SimdOp::SQRDMlaH>) X(sqrdmlsh_v, three_acc_kept, helper_acc<SimdOp::SQRDMlsH>)    \
  X( sqrdmlah_s, three_acc_kept, helper_acc< SimdOp:: SQRDMlaH>) X(sqrdmlsh_s, three_acc_kept, helper_acc<SimdOp::SQRDMlsH>) \
  X(smaxp_v, pairwise, Op::v_max_s_) X(umaxp_v, pairwise, Op::v_max_u_) X(sminp_v, pairwise, Op::v_min_s_)                   \
  X( uminp_v, pairwise, Op::v_min_u_) X(addp_v, pairwise, Op::v_add_) X(and_v, logic, plain<Op::v_and_>)                     \
  X(bic_v, logic, plain<Op::v_andn_>) X( orr_v, logic, plain< Op::v_or_>) X(orn_v, logic, orn)                               \
  X(eor_v, logic, plain<Op::v_xor_>) X(bsl_v, bit_select, Selecting::Bsl) X( bit_v, bit_select, Selecting::Bit)              \
  X(bif_v, bit_select, Selecting::Bif) X(sdot_v, dot, SimdOp::SDot) X(udot_v, dot, SimdOp::UDot)                             \
  X( usdot_v, dot, SimdOp:: USDot) X(smmla_v, matrix, SimdOp::SMmla) X(ummla_v, matrix, SimdOp::UMmla)                       \
  X( usmmla_v, matrix, SimdOp:: USMmla) X(addhn_v, high_narrow, Op::v_add_, false)                                           \
  X(raddhn_v, high_narrow, Op::v_add_, true) X( subhn_v, high_narrow, Op::v_sub_, false)                                     \
  X(rsubhn_v, high_narrow, Op::v_sub_, true) X(saddl_v, long_op, true, Op::v_add_) X(uaddl_v, long_op, false, Op::v_add_)    \
  X( ssubl_v, long_op, true, Op::v_sub_) X(usubl_v, long_op, false, Op::v_sub_) X(smull_v, long_op, true, Op::v_mul_)        \
  X( umull_v, long_op, false, Op::v_mul_) X(saddw_v, wide_op, true, Op::v_add_) X(uaddw_v, wide_op, false, Op::v_add_)       \
  X( ssubw_v, wide_op, true, Op::v_sub_) X(usubw_v, wide_op, false, Op::v_sub_) X(smlal_v, long_mul_acc, true, Op::v_add_)   \
  X(umlal_v, long_mul_acc, false, Op::v_add_) X(smlsl_v, long_mul_acc, true, Op::v_sub_)                                     \
  X(umlsl_v, long_mul_acc, false, Op::v_sub_) X(sabal_v, long_abd, true, true) X(uabal_v, long_abd, false, true)             \
  X(sabdl_v, long_abd, true, false) X(uabdl_v, long_abd, false, false)
// clang-format on
#define X(row, shape, ...) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, __VA_ARGS__); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS

Lift lift_pmul_v(Lifter& l, const fields::pmul_v& f) {
  set_low(l, f.rd, f.q ? 16 : 8, simd_call(l, SimdOp::PMul, Width::B1, {l.v(f.rn), l.v(f.rm)}));
  return Lift::Next;
}
Lift lift_pmull_v(Lifter& l, const fields::pmull_v& f) {
  l.set_v(f.rd, simd_call(l, SimdOp::PMull, Width::B2,
                          {widen(l, false, f.q, Width::B1, l.v(f.rn)), widen(l, false, f.q, Width::B1, l.v(f.rm))}));
  return Lift::Next;
}
Lift lift_pmull64_v(Lifter& l, const fields::pmull64_v& f) {
  Value n = l.v(f.rn), m = l.v(f.rm);
  if (f.q) {
    n = l.ir.vec(Op::v_dup_lane_, Width::B8, {n}, 1);
    m = l.ir.vec(Op::v_dup_lane_, Width::B8, {m}, 1);
  }
  l.set_v(f.rd, simd_call(l, SimdOp::PMull64, Width::B8, {n, m}));
  return Lift::Next;
}

namespace {
/// SQDMULL and its accumulating forms on lanes widened first; a scalar is lane 0 of the lower half.
template <class F>
Lift sqdml(Lifter& l, const F& f, SimdOp op, bool accumulate) {
  const Width w = lane(f.size);
  unsigned q = 0, bytes = 16;
  Value n = l.v(f.rn), m = l.v(f.rm), d = l.v(f.rd);
  if constexpr (requires { f.q; }) {
    q = f.q;
  } else {
    bytes = width_bytes(wider(w));
    n = keep(l, width_bytes(w), n), m = keep(l, width_bytes(w), m), d = keep(l, bytes, d);
  }
  n = widen(l, true, q, w, n), m = widen(l, true, q, w, m);
  set_low(l, f.rd, bytes, accumulate ? simd_call(l, op, wider(w), {d, n, m}) : simd_call(l, op, wider(w), {n, m}));
  return Lift::Next;
}
}  // namespace

Lift lift_sqdmull_v(Lifter& l, const fields::sqdmull_v& f) { return sqdml(l, f, SimdOp::SQDMull, false); }
Lift lift_sqdmull_s(Lifter& l, const fields::sqdmull_s& f) { return sqdml(l, f, SimdOp::SQDMull, false); }
Lift lift_sqdmlal_v(Lifter& l, const fields::sqdmlal_v& f) { return sqdml(l, f, SimdOp::SQDMlal, true); }
Lift lift_sqdmlal_s(Lifter& l, const fields::sqdmlal_s& f) { return sqdml(l, f, SimdOp::SQDMlal, true); }
Lift lift_sqdmlsl_v(Lifter& l, const fields::sqdmlsl_v& f) { return sqdml(l, f, SimdOp::SQDMlsl, true); }
Lift lift_sqdmlsl_s(Lifter& l, const fields::sqdmlsl_s& f) { return sqdml(l, f, SimdOp::SQDMlsl, true); }

}  // namespace kiln::arm
