// Advanced SIMD two-register miscellaneous, across lanes, scalar pairwise: integer.
#include "frontends/arm/simd_common.h"
#include "frontends/arm/simd_helpers.h"
#include "frontends/arm/simd_two_misc.decode.h"

namespace kiln::arm {
namespace {

template <class F>
Lift unary(Lifter& l, const F& f, Op op) {
  if (reserved_1d(f)) return Lift::Undefined;
  set_low(l, f.rd, bytes_of(f), op1(l, op, lane_of(f), l.v(f.rn)));
  return Lift::Next;
}
template <class F>
Lift unary_helper(Lifter& l, const F& f, SimdOp op, Width w) {
  if (reserved_1d(f)) return Lift::Undefined;
  const unsigned bytes = bytes_of(f);
  set_low(l, f.rd, bytes, simd_call(l, op, w, {keep(l, bytes, l.v(f.rn))}));
  return Lift::Next;
}
/// Vd = Vd + Vn with mixed signs.
template <class F>
Lift mixed_add(Lifter& l, const F& f, SimdOp op) {
  if (reserved_1d(f)) return Lift::Undefined;
  const unsigned bytes = bytes_of(f);
  l.set_v(f.rd, simd_call(l, op, lane_of(f), {keep(l, bytes, l.v(f.rd)), keep(l, bytes, l.v(f.rn))}));
  return Lift::Next;
}
/// Compare with zero; swapped: 0 op Vn.
template <class F>
Lift compare_zero(Lifter& l, const F& f, Op op, bool swapped) {
  if (reserved_1d(f)) return Lift::Undefined;
  const Value n = l.v(f.rn), z = zero(l);
  set_low(l, f.rd, bytes_of(f), swapped ? op2(l, op, lane_of(f), z, n) : op2(l, op, lane_of(f), n, z));
  return Lift::Next;
}
template <class F>
Lift reverse(Lifter& l, const F& f, Width w, unsigned group) {
  if (width_bytes(w) >= group) return Lift::Undefined;
  set_low(l, f.rd, f.q ? 16 : 8, op1(l, Op::v_rev_, w, l.v(f.rn), group));
  return Lift::Next;
}
template <class F>
Lift add_long_pairs(Lifter& l, const F& f, bool is_signed, bool accumulate) {
  const Width w = lane(f.size), wide = wider(w);
  const unsigned n = width_bits(w);
  const Value v = l.v(f.rn);
  const Op right = is_signed ? Op::v_ashr_ : Op::v_lshr_;
  Value sum = op2(l, Op::v_add_, wide, op1(l, right, wide, op1(l, Op::v_shl_, wide, v, n), n), op1(l, right, wide, v, n));
  if (accumulate) sum = op2(l, Op::v_add_, wide, l.v(f.rd), sum);
  set_low(l, f.rd, f.q ? 16 : 8, sum);
  return Lift::Next;
}
/// Saturating narrow: a narrowing shift by nothing.
template <class F>
Lift saturate_narrow(Lifter& l, const F& f, SimdOp op) {
  const Width w = lane(f.size);
  if constexpr (requires { f.q; }) {
    set_half(l, f.q, f.rd, simd_call(l, op, w, {l.ir.i64(0), l.v(f.rn)}));
  } else {
    l.set_v(f.rd, simd_call(l, op, w, {l.ir.i64(0), keep(l, width_bytes(wider(w)), l.v(f.rn))}));
  }
  return Lift::Next;
}

/// Folds the lanes of the low `bytes` into lane 0 by halves; op must be commutative and associative.
Value reduce(Lifter& l, Op op, Width w, unsigned bytes, Value v) {
  for (unsigned step = bytes / 2; step >= width_bytes(w); step /= 2)
    v = op2(l, op, w, v, l.ir.vec(Op::v_ext_, Width::B1, {v, v}, step));
  return v;
}
template <class F>
Lift across(Lifter& l, const F& f, Op op) {
  const Width w = lane(f.size);
  if (w == Width::B4 && !f.q) return Lift::Undefined;
  set_low(l, f.rd, width_bytes(w), reduce(l, op, w, bytes_of(f), l.v(f.rn)));
  return Lift::Next;
}
template <class F>
Lift across_long(Lifter& l, const F& f, bool is_signed) {
  const Width w = lane(f.size), wide = wider(w);
  if (w == Width::B4 && !f.q) return Lift::Undefined;
  const Value n = l.v(f.rn);
  Value v = widen(l, is_signed, 0, w, n);
  if (f.q) v = op2(l, Op::v_add_, wide, v, widen(l, is_signed, 1, w, n));
  set_low(l, f.rd, width_bytes(wide), reduce(l, Op::v_add_, wide, 16, v));
  return Lift::Next;
}

}  // namespace

// clang-format off
#define KILN_ROWS(X)                                                                                                         \
  X(rev64_v, reverse, lane(f.size), 8) X(rev32_v, reverse, lane(f.size), 4) X(rev16_v, reverse, Width::B1, 2)                \
  X(saddlp_v, add_long_pairs, true, false) X(uaddlp_v, add_long_pairs, false, false) X(sadalp_v, add_long_pairs, true, true) \
  X(uadalp_v, add_long_pairs, false, true) X(suqadd_v, mixed_add, SimdOp::SUQAdd) X(usqadd_v, mixed_add, SimdOp::USQAdd)     \
  X(suqadd_s, mixed_add, SimdOp::SUQAdd) X(usqadd_s, mixed_add, SimdOp::USQAdd)                                              \
  X(cls_v, unary_helper, SimdOp::Cls, lane(f.size)) X(clz_v, unary_helper, SimdOp::Clz, lane(f.size))                        \
  X( sqabs_v, unary_helper, SimdOp::SQAbs, lane(f.size)) X(sqneg_v, unary_helper, SimdOp::SQNeg, lane(f.size))               \
  X(sqabs_s, unary_helper, SimdOp::SQAbs, lane(f.size)) X(sqneg_s, unary_helper, SimdOp::SQNeg, lane(f.size))                \
  X(rbit_v, unary_helper, SimdOp::Rbit, Width::B1) X(urecpe_v, unary_helper, SimdOp::URecpE, Width::B4)                      \
  X( ursqrte_v, unary_helper, SimdOp::URsqrtE, Width::B4) X(cmgt0_v, compare_zero, Op::v_cmpgt_s_, false)                    \
  X(cmgt0_s, compare_zero, Op::v_cmpgt_s_, false) X(cmge0_v, compare_zero, Op::v_cmpge_s_, false)                            \
  X( cmge0_s, compare_zero, Op::v_cmpge_s_, false) X(cmeq0_v, compare_zero, Op::v_cmpeq_, false)                             \
  X(cmeq0_s, compare_zero, Op::v_cmpeq_, false) X(cmle0_v, compare_zero, Op::v_cmpge_s_, true)                               \
  X( cmle0_s, compare_zero, Op::v_cmpge_s_, true) X(cmlt0_v, compare_zero, Op::v_cmpgt_s_, true)                             \
  X(cmlt0_s, compare_zero, Op::v_cmpgt_s_, true) X(abs_v, unary, Op::v_abs_) X(abs_s, unary, Op::v_abs_)                     \
  X(neg_v, unary, Op::v_neg_) X(neg_s, unary, Op::v_neg_) X(cnt_v, unary, Op::v_popcnt8_) X(not_v, unary, Op::v_not_)        \
  X(sqxtn_v, saturate_narrow, SimdOp::SQShrn) X(uqxtn_v, saturate_narrow, SimdOp::UQShrn)                                    \
  X(sqxtun_v, saturate_narrow, SimdOp::SQShrun) X(sqxtn_s, saturate_narrow, SimdOp::SQShrn)                                  \
  X(uqxtn_s, saturate_narrow, SimdOp::UQShrn) X(sqxtun_s, saturate_narrow, SimdOp::SQShrun) X(smaxv, across, Op::v_max_s_)   \
  X(umaxv, across, Op::v_max_u_) X(sminv, across, Op::v_min_s_) X(uminv, across, Op::v_min_u_) X(addv, across, Op::v_add_)   \
  X(saddlv, across_long, true) X(uaddlv, across_long, false)
// clang-format on
#define X(row, shape, ...) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, __VA_ARGS__); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS

Lift lift_xtn_v(Lifter& l, const fields::xtn_v& f) {
  set_half(l, f.q, f.rd, op1(l, Op::v_narrow_, lane(f.size), l.v(f.rn)));
  return Lift::Next;
}
Lift lift_shll_v(Lifter& l, const fields::shll_v& f) {
  const Width w = lane(f.size);
  l.set_v(f.rd, op1(l, Op::v_shl_, wider(w), widen(l, false, f.q, w, l.v(f.rn)), width_bits(w)));
  return Lift::Next;
}
Lift lift_addp_s(Lifter& l, const fields::addp_s& f) {
  set_low(l, f.rd, 8, reduce(l, Op::v_add_, Width::B8, 16, l.v(f.rn)));
  return Lift::Next;
}

}  // namespace kiln::arm
