// Advanced SIMD: rounding, conversions to and from integers and fixed point, between formats.
#include "frontends/arm/fp_lift.h"
#include "frontends/arm/simd_fp.decode.h"
#include "frontends/arm/simd_shift_imm.decode.h"

namespace kiln::arm {
namespace {

template <class F>
Lift round_int(Lifter& l, const F& f, Round round, bool exact) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_round_int(l, lane_of(f), bytes_of(f), l.v(f.rn), round, exact));
  return Lift::Next;
}
template <class F>
Lift round_int_n(Lifter& l, const F& f, Round round, unsigned bits) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_unary_help(l, FpHelp::RoundIntN, lane_of(f), bytes_of(f), l.v(f.rn), {.round = round, .bits = bits}));
  return Lift::Next;
}
template <class F>
Lift to_int(Lifter& l, const F& f, Round round, bool is_unsigned) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_to_int(l, lane_of(f), bytes_of(f), l.v(f.rn), round, is_unsigned));
  return Lift::Next;
}
template <class F>
Lift from_int(Lifter& l, const F& f, bool is_unsigned) {
  if (reserved_1d(f)) return Lift::Undefined;
  l.set_v(f.rd, fp_from_int(l, lane_of(f), bytes_of(f), l.v(f.rn), is_unsigned));
  return Lift::Next;
}
/// The shift-by-immediate group's conversions: immh gives the format, 2 * its bits - immh:immb the fraction bits.
template <class F>
Lift fixed(Lifter& l, const F& f, FpHelp op, bool is_unsigned) {
  const unsigned size = 31 - static_cast<unsigned>(std::countl_zero(f.immh));
  const Width w = lane(size);
  unsigned bytes = width_bytes(w);
  if constexpr (requires { f.q; }) {
    if (size == 3 && !f.q) return Lift::Undefined;
    bytes = f.q ? 16 : 8;
  }
  if (size == 0) return Lift::Undefined;
  const unsigned bits = width_bits(w);
  const unsigned fraction = 2 * bits - (f.immh << 3 | f.immb);
  if (op == FpHelp::FromFixed && w != Width::B2) {  // scaling by 2^-fraction is exact: no integer is that small
    const u64 scale = w == Width::B8 ? u64{1023 - fraction} << 52 : u64{127 - fraction} << 23;
    l.set_v(f.rd, fp_scale(l, w, bytes, fp_from_int(l, w, bytes, l.v(f.rn), is_unsigned), scale));
    return Lift::Next;
  }
  if (op == FpHelp::FromFixed)
    l.set_v(f.rd, fp_unary_help(l, op, w, bytes, l.v(f.rn), {.is_unsigned = is_unsigned, .fraction = fraction, .bits = bits}));
  else l.set_v(f.rd, fp_to_int(l, w, bytes, l.v(f.rn), Round::Zero, is_unsigned, fraction));
  return Lift::Next;
}

}  // namespace

#define KILN_FORMS(X, name, shape, ...) X(name##_v, shape, __VA_ARGS__) X(name##_vh, shape, __VA_ARGS__)
#define KILN_ALL_FORMS(X, name, shape, ...) \
  KILN_FORMS(X, name, shape, __VA_ARGS__) X(name##_s, shape, __VA_ARGS__) X(name##_sh, shape, __VA_ARGS__)
// clang-format off
#define KILN_ROWS(X)                                                                                          \
  KILN_FORMS(X, frintn, round_int, Round::Nearest, false) KILN_FORMS(X, frintp, round_int, Round::Up, false)  \
  KILN_FORMS(X, frintm, round_int, Round::Down, false) KILN_FORMS(X, frintz, round_int, Round::Zero, false)   \
  KILN_FORMS(X, frinta, round_int, Round::Away, false) KILN_FORMS(X, frintx, round_int, Round::Dynamic, true) \
  KILN_FORMS(X, frinti, round_int, Round::Dynamic, false) X(frint32z_v, round_int_n, Round::Zero, 32)         \
  X(frint32x_v, round_int_n, Round::Dynamic, 32) X(frint64z_v, round_int_n, Round::Zero, 64)                  \
  X(frint64x_v, round_int_n, Round::Dynamic, 64) KILN_ALL_FORMS( X, fcvtns, to_int, Round::Nearest, false)    \
  KILN_ALL_FORMS(X, fcvtnu, to_int, Round::Nearest, true) KILN_ALL_FORMS(X, fcvtps, to_int, Round::Up, false) \
  KILN_ALL_FORMS(X, fcvtpu, to_int, Round::Up, true) KILN_ALL_FORMS(X, fcvtms, to_int, Round::Down, false)    \
  KILN_ALL_FORMS( X, fcvtmu, to_int, Round::Down, true) KILN_ALL_FORMS(X, fcvtzs, to_int, Round::Zero, false) \
  KILN_ALL_FORMS(X, fcvtzu, to_int, Round::Zero, true) KILN_ALL_FORMS(X, fcvtas, to_int, Round::Away, false)  \
  KILN_ALL_FORMS(X, fcvtau, to_int, Round::Away, true) KILN_ALL_FORMS(X, scvtf, from_int, false)              \
  KILN_ALL_FORMS(X, ucvtf, from_int, true) X(scvtf_fix_v, fixed, FpHelp::FromFixed, false)                    \
  X(scvtf_fix_s, fixed, FpHelp::FromFixed, false) X(ucvtf_fix_v, fixed, FpHelp::FromFixed, true)              \
  X(ucvtf_fix_s, fixed, FpHelp::FromFixed, true) X(fcvtzs_fix_v, fixed, FpHelp::ToFixed, false)               \
  X(fcvtzs_fix_s, fixed, FpHelp::ToFixed, false) X(fcvtzu_fix_v, fixed, FpHelp::ToFixed, true)                \
  X(fcvtzu_fix_s, fixed, FpHelp::ToFixed, true)
// clang-format on
#define X(row, shape, ...) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, __VA_ARGS__); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS
#undef KILN_ALL_FORMS
#undef KILN_FORMS

Lift lift_fcvtl_v(Lifter& l, const fields::fcvtl_v& f) {
  Value n = l.v(f.rn);
  if (f.q) n = l.ir.vec(Op::v_ext_, Width::B1, {n, n}, 8);
  if (!f.sz) {
    l.set_v(f.rd, fp_call(l, FpHelp::HalfToSingle, Width::B2, {.lanes = 4}, {n}));
    return Lift::Next;
  }
  if (l.mode & kModeFlushToZero) n = l.operand(Width::B4, l.ir.v_low64(n));
  l.set_v(f.rd, l.ir.vec(Op::v_fwiden_, Width::B4, {n}, 0, 0, l.fp().pack()));
  return Lift::Next;
}
Lift lift_fcvtn_v(Lifter& l, const fields::fcvtn_v& f) {
  const Value n = l.v(f.rn);
  if (!f.sz) {
    set_half(l, f.q, f.rd, fp_call(l, FpHelp::SingleToHalf, Width::B4, {.lanes = 4}, {n}));
    return Lift::Next;
  }
  set_half(l, f.q, f.rd, l.ir.vec(Op::v_fnarrow_, Width::B4, {l.operand(Width::B8, n)}, 0, 0, l.fp().pack()));
  return Lift::Next;
}
Lift lift_fcvtxn_v(Lifter& l, const fields::fcvtxn_v& f) {
  set_half(l, f.q, f.rd, fp_call(l, FpHelp::DoubleToSingleOdd, Width::B8, {.lanes = 2}, {l.v(f.rn)}));
  return Lift::Next;
}
Lift lift_fcvtxn_s(Lifter& l, const fields::fcvtxn_s& f) {
  l.set_v(f.rd, fp_call(l, FpHelp::DoubleToSingleOdd, Width::B8, {.lanes = 1}, {l.v(f.rn)}));
  return Lift::Next;
}
Lift lift_bfcvtn_v(Lifter& l, const fields::bfcvtn_v& f) {
  set_half(l, f.q, f.rd, fp_call(l, FpHelp::SingleToBrain, Width::B4, {.lanes = 4}, {l.v(f.rn)}));
  return Lift::Next;
}

}  // namespace kiln::arm
