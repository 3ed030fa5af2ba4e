// Floating point: SSE to SSE4.1 and AVX arithmetic, compares, conversions; FMA and F16C.
// param of most rows: bit 0 double, bit 1 scalar.
#include <array>
#include <optional>

#include "frontends/x86/lift_sse.h"

namespace kiln::x86 {
namespace {

using ir::FpOp;
using ir::Round;

bool is_scalar(const Insn& i) { return (i.param & 2) != 0; }
Type element(const Insn& i) { return i.param & 1 ? Type::F64 : Type::F32; }
Width width_of_type(Type t) { return t == Type::F64 ? Width::B8 : Width::B4; }

Value packed(Lifter& l, const Insn& i, Op op, std::initializer_list<Value> args, FpOp f) {
  return l.ir.vec(op, width_of_type(element(i)), args, 0, 0, f.pack());
}
/// Operand n as a scalar float.
Value read_f(Lifter& l, const Insn& i, unsigned n, Type type) {
  if (i.op[n].kind != OperandKind::Mem) return l.ir.v_to_f(type, l.xmm(i.op[n].reg));
  const Place p = l.address(i);
  return l.ir.load(type, p.address, p.disp, Lifter::mem_op(type == Type::F64 ? 8 : 4));
}
/// A scalar result in the low lane; the lanes above are the first source's.
Lift write_scalar(Lifter& l, const Insn& i, Value f) {
  const Width lane = width_of_type(l.ir.type_of(f));
  return write_result(l, i, {l.ir.vec(Op::v_insert_lane_, lane, {l.xmm(i.op[first_source(i)].reg), l.ir.f_to_v(f)}, 0, 0)});
}

/// step: null if the op cannot leave the range of its format.
Lift arithmetic(Lifter& l, const Insn& i, Op scalar, Op vector, std::optional<FpStep> step) {
  const unsigned first = first_source(i);
  const FpShape shape{step.value_or(FpStep::Add), element(i) == Type::F64};
  if (is_scalar(i)) {
    const Value b = read_f(l, i, first + 1, element(i)), a = read_f(l, i, first, element(i));
    FpGuard guard(l);
    const Value f = l.ir.fp(scalar, element(i), {a, b}, l.fp());
    if (step) guard.check_scalar(shape, a, b);
    else guard.check();
    return write_scalar(l, i, f);
  }
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  FpGuard guard(l);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = packed(l, i, vector, {a[h], b[h]}, l.fp());
  if (step) guard.check(shape, a, b);
  else guard.check();
  return write_result(l, i, r);
}
Lift unary(Lifter& l, const Insn& i, Op scalar, Op vector, FpOp f) {
  if (is_scalar(i)) {
    const Value b = read_f(l, i, first_source(i) + 1, element(i));
    FpGuard guard(l);
    const Value r = l.ir.fp(scalar, element(i), {b}, f);
    guard.check();
    return write_scalar(l, i, r);
  }
  const Halves a = read_v(l, i, 1);
  FpGuard guard(l);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = packed(l, i, vector, {a[h]}, f);
  guard.check();
  return write_result(l, i, r);
}

}  // namespace

Lift lift_fp_add(Lifter& l, const Insn& i) { return arithmetic(l, i, Op::fadd_, Op::v_fadd_, FpStep::Add); }
Lift lift_fp_sub(Lifter& l, const Insn& i) { return arithmetic(l, i, Op::fsub_, Op::v_fsub_, FpStep::Sub); }
Lift lift_fp_mul(Lifter& l, const Insn& i) { return arithmetic(l, i, Op::fmul_, Op::v_fmul_, FpStep::Mul); }
Lift lift_fp_div(Lifter& l, const Insn& i) { return arithmetic(l, i, Op::fdiv_, Op::v_fdiv_, FpStep::Div); }
// They give an operand, denormal or not.
Lift lift_fp_min(Lifter& l, const Insn& i) { return arithmetic(l, i, Op::fmin_, Op::v_fmin_, {}); }
Lift lift_fp_max(Lifter& l, const Insn& i) { return arithmetic(l, i, Op::fmax_, Op::v_fmax_, {}); }
Lift lift_fp_sqrt(Lifter& l, const Insn& i) { return unary(l, i, Op::fsqrt_, Op::v_fsqrt_, l.fp()); }

Lift lift_fp_round(Lifter& l, const Insn& i) {
  constexpr Round kRounds[] = {Round::Nearest, Round::Down, Round::Up, Round::Zero};
  FpOp f = l.fp();
  f.round = i.imm & 4 ? Round::Dynamic : kRounds[i.imm & 3];
  f.exact = (i.imm & 8) == 0;
  return unary(l, i, Op::fround_, Op::v_fround_, f);
}

// RCPPS, RSQRTPS: tables of the silicon, no exceptions.
namespace {
Lift estimate(Lifter& l, const Insn& i, const ir::Helper& helper) {
  if (!is_scalar(i)) return one_source(l, i, [&](Value a) { return l.ir.call(helper, {a}); });
  const unsigned first = first_source(i);
  const Value b = read_v(l, i, first + 1).low;
  return write_result(l, i, {l.ir.vec(Op::v_insert_lane_, Width::B4, {l.xmm(i.op[first].reg), l.ir.call(helper, {b})}, 0, 0)});
}
}  // namespace
Lift lift_fp_rcp(Lifter& l, const Insn& i) { return estimate(l, i, kRcp); }
Lift lift_fp_rsqrt(Lifter& l, const Insn& i) { return estimate(l, i, kRsqrt); }

// --- compares --------------------------------------------------------------------------------------------------------
Lift lift_fp_cmp(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const u64 predicate = i.imm & (i.vex ? 31 : 7);
  const Width lane = width_of_type(element(i));
  const auto compare = [&](Value a, Value b) { return l.ir.vec(Op::v_fcmp_, lane, {a, b}, predicate, 0, l.fp().pack()); };
  if (is_scalar(i)) {
    // Zeros in the other lanes raise nothing, whatever the predicate.
    const Value b = l.ir.f_to_v(read_f(l, i, first + 1, element(i))), a = l.ir.f_to_v(read_f(l, i, first, element(i)));
    FpGuard guard(l);
    const Value r = compare(a, b);
    guard.check();
    return write_result(l, i, {l.ir.vec(Op::v_insert_lane_, lane, {l.xmm(i.op[first].reg), r}, 0, 0)});
  }
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  FpGuard guard(l);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = compare(a[h], b[h]);
  guard.check();
  return write_result(l, i, r);
}
// param: bit 0 double, bit 1 signalling (COMISS).
Lift lift_fp_compare(Lifter& l, const Insn& i) {
  const Value b = read_f(l, i, 1, element(i)), a = read_f(l, i, 0, element(i));
  FpGuard guard(l);
  const Value flags = l.ir.eflags_fcmp(a, b, (i.param & 2) != 0);
  if (l.mode & kModeSseTraps) {
    // The compare must have been done before the check looks at its exceptions.
    const Value image = l.ir.flags_value(flags);
    guard.check();
    l.ir.set_flags(l.ir.flags_image(image));
  } else {
    l.ir.set_flags(flags);
  }
  return Lift::Next;
}

// --- permutations of floats ------------------------------------------------------------------------------------------
// SHUFPD's immediate has two bits a half; SHUFPS uses the same eight for both.
Lift lift_fp_shuffle(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h)
    r[h] = l.ir.vec(Op::v_permute2_, lane_of(i), {a[h], b[h]}, i.param == 3 ? (i.imm >> (2 * h)) & 3 : i.imm);
  return write_result(l, i, r);
}

// --- neighbours ------------------------------------------------------------------------------------------------------
namespace {
Lift horizontal(Lifter& l, const Insn& i, Op op, FpStep step) {
  const unsigned first = first_source(i);
  const Width lane = width_of_type(element(i));
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  Halves even, odd, r;
  for (unsigned h = 0; h < count_halves(i); ++h) {
    even[h] = l.ir.vec(Op::v_uzp_even_, lane, {a[h], b[h]});
    odd[h] = l.ir.vec(Op::v_uzp_odd_, lane, {a[h], b[h]});
  }
  FpGuard guard(l);
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = packed(l, i, op, {even[h], odd[h]}, l.fp());
  guard.check({step, lane == Width::B8}, even, odd);
  return write_result(l, i, r);
}
/// DPPS, DPPD: products of the lanes that bits 7..4 choose (else +0), summed pairwise, the sum where bits 3..0 say.
Lift dot_product(Lifter& l, const Insn& i, Type type) {
  const unsigned first = first_source(i), lanes = type == Type::F64 ? 2 : 4;
  const Width lane = width_of_type(type);
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  const u64 all = mask_low(lanes), drop = ~(i.imm >> 4) & all, clear = ~i.imm & all;
  const u32 f = l.fp().pack();
  const Value zero = v_zero(l);
  const auto kept = [&](Value v, u64 gone) { return gone ? l.ir.vec(Op::v_blend_, lane, {v, zero}, gone) : v; };
  // Each step raises its exceptions before the next begins; the factors of dropped products are zeros, which raise nothing.
  Halves v, x, y;
  for (unsigned h = 0; h < count_halves(i); ++h) x[h] = kept(a[h], drop), y[h] = kept(b[h], drop);
  {
    FpGuard guard(l);
    for (unsigned h = 0; h < count_halves(i); ++h) v[h] = kept(l.ir.vec(Op::v_fmul_, lane, {x[h], y[h]}, 0, 0, f), drop);
    guard.check({FpStep::Mul, lane == Width::B8}, x, y);
  }
  for (unsigned n = lanes; n > 1; n /= 2) {
    for (unsigned h = 0; h < count_halves(i); ++h) {
      x[h] = l.ir.vec(Op::v_uzp_even_, lane, {v[h], v[h]});
      y[h] = l.ir.vec(Op::v_uzp_odd_, lane, {v[h], v[h]});
    }
    FpGuard guard(l);
    for (unsigned h = 0; h < count_halves(i); ++h) v[h] = l.ir.vec(Op::v_fadd_, lane, {x[h], y[h]}, 0, 0, f);
    guard.check({FpStep::Add, lane == Width::B8}, x, y);
  }
  for (unsigned h = 0; h < count_halves(i); ++h) v[h] = kept(v[h], clear);
  return write_result(l, i, v);
}
}  // namespace
Lift lift_fp_hadd(Lifter& l, const Insn& i) { return horizontal(l, i, Op::v_fadd_, FpStep::Add); }
Lift lift_fp_hsub(Lifter& l, const Insn& i) { return horizontal(l, i, Op::v_fsub_, FpStep::Sub); }
Lift lift_dpps(Lifter& l, const Insn& i) { return dot_product(l, i, Type::F32); }
Lift lift_dppd(Lifter& l, const Insn& i) { return dot_product(l, i, Type::F64); }
Lift lift_fp_addsub(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  FpGuard guard(l);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = l.ir.call(i.param ? kAddSub8 : kAddSub4, {a[h], b[h]});
  guard.check({FpStep::AddSub, element(i) == Type::F64}, a, b);
  return write_result(l, i, r);
}

// --- conversions -----------------------------------------------------------------------------------------------------
Lift lift_cvt_from_int(Lifter& l, const Insn& i) {
  const Value n = l.read(i, first_source(i) + 1);
  FpGuard guard(l);
  const Value f = l.ir.fp(Op::int_to_f_, element(i), {n}, l.fp());
  guard.check();
  return write_scalar(l, i, f);
}
// param: bit 0 double, bit 1 truncating.
Lift lift_cvt_to_int(Lifter& l, const Insn& i) {
  const Value f = read_f(l, i, 1, element(i));
  FpGuard guard(l);
  FpOp how = l.fp();
  how.round = i.param & 2 ? Round::Zero : Round::Dynamic;
  const Value n = l.ir.fp(Op::f_to_int_, Lifter::type_of(i.op[0].bytes), {f}, how);
  guard.check();
  l.set_reg(i.op[0].reg, i.op[0].bytes, n);
  return Lift::Next;
}
// CVTSS2SD, CVTSD2SS. param: the source's type.
Lift lift_cvt_scalar(Lifter& l, const Insn& i) {
  const Value f = read_f(l, i, first_source(i) + 1, element(i));
  FpGuard guard(l);
  const Value r = l.ir.fp(Op::fcvt_, i.param ? Type::F32 : Type::F64, {f}, l.fp());
  if (i.param) guard.check_scalar({FpStep::Narrow, true}, f);
  else guard.check();
  return write_scalar(l, i, r);
}
// param 0: CVTPS2PD, 1: CVTDQ2PD.
Lift lift_cvt_widen(Lifter& l, const Insn& i) {
  const Value a = read_v(l, i, 1).low;
  FpGuard guard(l);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h)
    r[h] = l.ir.vec(i.param ? Op::v_int_to_f_widen_ : Op::v_fwiden_, Width::B4,
                    {h ? l.ir.vec(Op::v_zip_hi_, Width::B8, {a, a}) : a}, 0, 0, i.param ? 0 : l.fp().pack());
  guard.check();
  return write_result(l, i, r);
}
// param 0: CVTPD2PS, 1: CVTPD2DQ, 2: CVTTPD2DQ.
Lift lift_cvt_narrow(Lifter& l, const Insn& i) {
  const Halves a = read_v(l, i, 1);
  FpGuard guard(l);
  FpOp f = l.fp();
  f.round = i.param == 2 ? Round::Zero : Round::Dynamic;
  const auto narrow = [&](Value v) {
    return l.ir.vec(i.param ? Op::v_f_to_int_narrow_ : Op::v_fnarrow_, Width::B4, {v}, 0, 0, f.pack());
  };
  Value r = narrow(a.low);
  if (i.vex256) r = l.ir.vec(Op::v_zip_lo_, Width::B8, {r, narrow(a.high)});
  if (i.param == 0) guard.check({FpStep::Narrow, true}, a);
  else guard.check();
  return write_result(l, i, {r});
}
// param 0: CVTDQ2PS, 1: CVTPS2DQ, 2: CVTTPS2DQ.
Lift lift_cvt_lanes(Lifter& l, const Insn& i) {
  const Halves a = read_v(l, i, 1);
  FpGuard guard(l);
  FpOp f = l.fp();
  f.round = i.param == 2 ? Round::Zero : Round::Dynamic;
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h)
    r[h] = l.ir.vec(i.param ? Op::v_f_to_int_ : Op::v_int_to_f_, Width::B4, {a[h]}, 0, 0, f.pack());
  guard.check();
  return write_result(l, i, r);
}
Lift lift_vcvtph2ps(Lifter& l, const Insn& i) {
  const Value a = read_v(l, i, 1).low;
  FpGuard guard(l);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = l.ir.call(kHalfToSingle, {h ? bytes_down(l, a, 8) : a});
  guard.check();
  return write_result(l, i, r);
}
Lift lift_vcvtps2ph(Lifter& l, const Insn& i) {
  const Halves a = read_v(l, i, 1);
  // The conversion sets bits of MXCSR, which the processor does not do if the store faults.
  if (i.op[0].kind == OperandKind::Mem) {
    const Place p = l.address(i);
    const Value address = p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
    l.alignment_check(address, i.op[0].bytes);
    l.ir.call(kProbeWrite, {address, l.ir.i32(i.op[0].bytes)});
  }
  FpGuard guard(l);
  const auto narrow = [&](Value v) { return l.ir.call(kSingleToHalf, {l.ir.i32(i.imm & 7), v}); };
  Value r = narrow(a.low);
  if (i.vex256) r = l.ir.vec(Op::v_zip_lo_, Width::B8, {r, narrow(a.high)});
  FpShape shape{FpStep::Narrow};
  if (!(i.imm & 4)) shape.rounding = i.imm & 3;
  guard.check(shape, a);
  if (i.op[0].kind != OperandKind::Mem) return write_result(l, i, {r});
  l.store_v(l.address(i), i.op[0].bytes, r);
  return Lift::Next;
}

// --- FMA -------------------------------------------------------------------------------------------------------------
// param: bits 1..0 as elsewhere, 3..2 the order of operands (132, 213, 231), 5..4 FpOp::negate's two bits, the addend's first.
namespace {
/// Factor, factor, addend out of operands 0, 1, 2 (the instruction's first, second, third): the first NaN of these wins.
template <class T>
std::array<T, 3> in_order(const Insn& i, const T& o1, const T& o2, const T& o3) {
  switch ((i.param >> 2) & 3) {
    case 0: return {o1, o3, o2};
    case 1: return {o2, o1, o3};
    default: return {o2, o3, o1};
  }
}
}  // namespace
Lift lift_fma(Lifter& l, const Insn& i) {
  FpOp f = l.fp();
  f.negate = static_cast<u8>((i.param >> 4) & 3);
  const FpShape shape{FpStep::Fma, element(i) == Type::F64, false, f.negate};
  if (is_scalar(i)) {
    const Value o3 = read_f(l, i, 2, element(i)), o2 = read_f(l, i, 1, element(i)), o1 = read_f(l, i, 0, element(i));
    const auto [a, b, c] = in_order(i, o1, o2, o3);
    FpGuard guard(l);
    const Value v = l.ir.f_to_v(l.ir.fp(Op::fma_, element(i), {a, b, c}, f));
    const Width lane = width_of_type(element(i));
    guard.check_scalar(shape, a, b, c);
    // The lanes above stay the destination's.
    return write_result(l, i, {l.ir.vec(Op::v_insert_lane_, lane, {l.xmm(i.op[0].reg), v}, 0, 0)});
  }
  const Halves o3 = read_v(l, i, 2), o2 = read_v(l, i, 1), o1 = read_v(l, i, 0);
  const auto [a, b, c] = in_order(i, o1, o2, o3);
  FpGuard guard(l);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = packed(l, i, Op::v_fma_, {a[h], b[h], c[h]}, f);
  guard.check(shape, a, b, c);
  return write_result(l, i, r);
}
// VFMADDSUB, VFMSUBADD (bit 4).
Lift lift_fma_alternating(Lifter& l, const Insn& i) {
  const Halves o3 = read_v(l, i, 2), o2 = read_v(l, i, 1), o1 = read_v(l, i, 0);
  const auto [a, b, c] = in_order(i, o1, o2, o3);
  FpGuard guard(l);
  Halves r;
  const u32 shape = (i.param & 1u) | (i.param & 16 ? 2u : 0u);
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = l.ir.call(kFmaAddSub, {l.ir.i32(shape), a[h], b[h], c[h]});
  guard.check({FpStep::Fma, element(i) == Type::F64, false, static_cast<u8>(i.param & 16 ? 1 : 0), true}, a, b, c);
  return write_result(l, i, r);
}

}  // namespace kiln::x86
