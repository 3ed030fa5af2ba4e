// Advanced SIMD shift by immediate (the fixed-point conversions of the group stand in simd_fp_convert.cpp).
#include "frontends/arm/simd_common.h"
#include "frontends/arm/simd_helpers.h"
#include "frontends/arm/simd_shift_imm.decode.h"

namespace kiln::arm {
namespace {

/// Lane width from the highest bit of immh, and the two readings of immh:immb.
struct Shift {
  Width w;
  unsigned left, right;
  unsigned bytes;
  bool reserved;
};
template <class F>
Shift decode(const F& f) {
  Shift s;
  const unsigned size = 31 - static_cast<unsigned>(std::countl_zero(f.immh));
  s.w = lane(size);
  const unsigned n = f.immh << 3 | f.immb;
  s.left = n - width_bits(s.w);
  s.right = 2 * width_bits(s.w) - n;
  if constexpr (requires { f.q; }) {
    s.bytes = f.q ? 16 : 8;
    s.reserved = size == 3 && !f.q;
  } else {
    s.bytes = width_bytes(s.w);
    s.reserved = false;
  }
  return s;
}
/// The scalar forms that exist for doublewords only.
template <class F>
bool only_double(const Shift& s) {
  if constexpr (requires(F f) { f.q; }) return s.reserved;
  else return s.w != Width::B8;
}

/// Shift right, rounding: the shifted value plus the last bit shifted out; no wider lane needed.
Value round_right(Lifter& l, Width w, bool is_signed, Value v, unsigned shift) {
  const Value shifted = op1(l, is_signed ? Op::v_ashr_ : Op::v_lshr_, w, v, shift);
  const Value last = v_and(l, op1(l, Op::v_lshr_, w, v, shift - 1), splat(l, w, 1));
  return op2(l, Op::v_add_, w, shifted, last);
}
template <class F>
Lift right(Lifter& l, const F& f, bool is_signed, bool rounding, bool accumulate) {
  const Shift s = decode(f);
  if (only_double<F>(s)) return Lift::Undefined;
  Value v = l.v(f.rn);
  v = rounding ? round_right(l, s.w, is_signed, v, s.right) : op1(l, is_signed ? Op::v_ashr_ : Op::v_lshr_, s.w, v, s.right);
  if (accumulate) v = op2(l, Op::v_add_, s.w, l.v(f.rd), v);
  set_low(l, f.rd, s.bytes, v);
  return Lift::Next;
}
template <class F>
Lift left(Lifter& l, const F& f, bool insert) {
  const Shift s = decode(f);
  if (only_double<F>(s)) return Lift::Undefined;
  Value v = op1(l, Op::v_shl_, s.w, l.v(f.rn), s.left);
  if (insert) v = op3(l, Op::v_bsl_, Width::B8, splat(l, s.w, mask_low(s.left)), l.v(f.rd), v);
  set_low(l, f.rd, s.bytes, v);
  return Lift::Next;
}
template <class F>
Lift right_insert(Lifter& l, const F& f) {
  const Shift s = decode(f);
  if (only_double<F>(s)) return Lift::Undefined;
  const Value v = op1(l, Op::v_lshr_, s.w, l.v(f.rn), s.right);
  const u64 kept = mask_low(width_bits(s.w)) & ~mask_low(width_bits(s.w) - s.right);
  set_low(l, f.rd, s.bytes, op3(l, Op::v_bsl_, Width::B8, splat(l, s.w, kept), l.v(f.rd), v));
  return Lift::Next;
}
template <class F>
Lift saturating_left(Lifter& l, const F& f, SimdOp op) {
  const Shift s = decode(f);
  if (s.reserved) return Lift::Undefined;
  set_low(l, f.rd, s.bytes, simd_call(l, op, s.w, {keep(l, s.bytes, l.v(f.rn)), splat(l, s.w, s.left)}));
  return Lift::Next;
}
/// The narrow lane is decoded; the shift is within the wide one.
template <class F>
Lift narrow(Lifter& l, const F& f, bool rounding) {
  const Shift s = decode(f);
  if (s.w == Width::B8) return Lift::Undefined;
  const Width wide = wider(s.w);
  Value v = l.v(f.rn);
  // What a carry out of the wide lane would add lies above the narrow lane.
  if (rounding) v = op2(l, Op::v_add_, wide, v, splat(l, wide, u64{1} << (s.right - 1)));
  set_half(l, f.q, f.rd, op1(l, Op::v_narrow_, s.w, op1(l, Op::v_lshr_, wide, v, s.right)));
  return Lift::Next;
}
template <class F>
Lift saturating_narrow(Lifter& l, const F& f, SimdOp op) {
  const Shift s = decode(f);
  if (s.w == Width::B8) return Lift::Undefined;
  if constexpr (requires { f.q; }) {
    set_half(l, f.q, f.rd, simd_call(l, op, s.w, {l.ir.i64(s.right), l.v(f.rn)}));
  } else {
    l.set_v(f.rd, simd_call(l, op, s.w, {l.ir.i64(s.right), keep(l, width_bytes(wider(s.w)), l.v(f.rn))}));
  }
  return Lift::Next;
}
template <class F>
Lift left_long(Lifter& l, const F& f, bool is_signed) {
  const Shift s = decode(f);
  if (s.w == Width::B8) return Lift::Undefined;
  const Value v = widen(l, is_signed, f.q, s.w, l.v(f.rn));
  l.set_v(f.rd, s.left ? op1(l, Op::v_shl_, wider(s.w), v, s.left) : v);
  return Lift::Next;
}

}  // namespace

// clang-format off
#define KILN_ROWS(X)                                                                                                         \
  X(sshr_v, right, true, false, false) X(ushr_v, right, false, false, false) X(ssra_v, right, true, false, true)             \
  X(usra_v, right, false, false, true) X(srshr_v, right, true, true, false) X(urshr_v, right, false, true, false)            \
  X(srsra_v, right, true, true, true) X(ursra_v, right, false, true, true) X(sshr_s, right, true, false, false)              \
  X(ushr_s, right, false, false, false) X(ssra_s, right, true, false, true) X(usra_s, right, false, false, true)             \
  X(srshr_s, right, true, true, false) X( urshr_s, right, false, true, false) X(srsra_s, right, true, true, true)            \
  X(ursra_s, right, false, true, true) X(shl_v, left, false) X(shl_s, left, false) X(sli_v, left, true) X(sli_s, left, true) \
  X(sqshlu_v, saturating_left, SimdOp::SQShlU) X(sqshlu_s, saturating_left, SimdOp::SQShlU)                                  \
  X( sqshl_imm_v, saturating_left, SimdOp::SQShl) X(sqshl_imm_s, saturating_left, SimdOp::SQShl)                             \
  X(uqshl_imm_v, saturating_left, SimdOp::UQShl) X(uqshl_imm_s, saturating_left, SimdOp::UQShl) X( shrn_v, narrow, false)    \
  X(rshrn_v, narrow, true) X(sqshrn_v, saturating_narrow, SimdOp::SQShrn) X(sqshrn_s, saturating_narrow, SimdOp::SQShrn)     \
  X(sqrshrn_v, saturating_narrow, SimdOp::SQRShrn) X(sqrshrn_s, saturating_narrow, SimdOp::SQRShrn)                          \
  X(sqshrun_v, saturating_narrow, SimdOp::SQShrun) X(sqshrun_s, saturating_narrow, SimdOp::SQShrun)                          \
  X(sqrshrun_v, saturating_narrow, SimdOp::SQRShrun) X(sqrshrun_s, saturating_narrow, SimdOp::SQRShrun)                      \
  X(uqshrn_v, saturating_narrow, SimdOp::UQShrn) X(uqshrn_s, saturating_narrow, SimdOp::UQShrn)                              \
  X(uqrshrn_v, saturating_narrow, SimdOp::UQRShrn) X(uqrshrn_s, saturating_narrow, SimdOp::UQRShrn)                          \
  X(sshll_v, left_long, true) X(ushll_v, left_long, false)
// clang-format on
#define X(row, shape, ...) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, __VA_ARGS__); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS

Lift lift_sri_v(Lifter& l, const fields::sri_v& f) { return right_insert(l, f); }
Lift lift_sri_s(Lifter& l, const fields::sri_s& f) { return right_insert(l, f); }

}  // namespace kiln::arm
