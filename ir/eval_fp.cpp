// Floating point of eval_pure(). Exact for NaN operands too, so the tiers' cold paths come here.
#include "ir/eval_internal.h"
#include "ir/semantics_fp.h"

namespace kiln::ir {
namespace {

template <class F>
F get(const Datum& d) {
  if constexpr (sizeof(F) == 4) return d.f32;
  else return d.f64;
}
template <class F>
Datum make(F value) {
  Datum d;
  d.v = V128{};
  if constexpr (sizeof(F) == 4) d.f32 = value;
  else d.f64 = value;
  return d;
}
Datum make_int(u64 value) {
  Datum d;
  d.v = V128{};
  d.i = value;
  return d;
}

/// Ops whose arguments and result are all F.
template <class F>
Datum eval_same(const Inst& inst, const Datum* args) {
  const FpOp f = FpOp::unpack(inst.aux);
  const F a = get<F>(args[0]);
  const auto exact = [&](auto&& op) { return make(fp_underflow(f.underflow, op)); };
  switch (inst.op) {
    case Op::fadd_: return exact([&] { return op_fadd(f.nan, a, get<F>(args[1])); });
    case Op::fsub_: return exact([&] { return op_fsub(f.nan, a, get<F>(args[1])); });
    case Op::fmul_: return exact([&] { return op_fmul(f.nan, a, get<F>(args[1])); });
    case Op::fdiv_: return exact([&] { return op_fdiv(f.nan, a, get<F>(args[1])); });
    case Op::fsqrt_: return make(op_fsqrt(f.nan, a));
    case Op::fma_: return exact([&] { return op_fma(f, a, get<F>(args[1]), get<F>(args[2])); });
    case Op::fneg_: return make(op_fneg(a));
    case Op::fabs_: return make(op_fabs(a));
    case Op::fflush_: return make(op_fflush(a));
    case Op::fmin_: return make(op_fmin(f.nan, a, get<F>(args[1])));
    case Op::fmax_: return make(op_fmax(f.nan, a, get<F>(args[1])));
    case Op::fminnm_: return make(op_fminnm(f.nan, a, get<F>(args[1])));
    case Op::fmaxnm_: return make(op_fmaxnm(f.nan, a, get<F>(args[1])));
    default: return make(op_fround(f, a));
  }
}

/// Ops that take F and give something else.
template <class F>
Datum eval_from(const Inst& inst, const Datum* args) {
  const FpOp f = FpOp::unpack(inst.aux);
  const bool signalling = (inst.aux & 1) != 0;
  const F a = get<F>(args[0]);
  switch (inst.op) {
    case Op::f_to_int_:
      return make_int(inst.type == Type::I32 ? op_f_to_int<u32>(f, a, inst.imm) : op_f_to_int<u64>(f, a, inst.imm));
    case Op::fcmp_eq_: return make_int(op_fcmp_eq(a, get<F>(args[1]), signalling));
    case Op::fcmp_lt_: return make_int(op_fcmp_lt(a, get<F>(args[1]), signalling));
    case Op::fcmp_le_: return make_int(op_fcmp_le(a, get<F>(args[1]), signalling));
    case Op::fcmp_unord_: return make_int(op_fcmp_unord(a, get<F>(args[1]), signalling));
    case Op::eimage_fcmp_: return make_int(op_eimage_fcmp(a, get<F>(args[1]), signalling));
    default: return make_int(op_nzcv_fcmp(a, get<F>(args[1]), signalling));
  }
}

template <class F>
Datum eval_int_to_f(const Inst& inst, Type from, const Datum* args) {
  const bool is_unsigned = FpOp::unpack(inst.aux).is_unsigned;
  return from == Type::I32 ? make(op_int_to_f<F>(is_unsigned, static_cast<u32>(args[0].i)))
                           : make(op_int_to_f<F>(is_unsigned, args[0].i));
}

template <class F>
Vec eval_lanes(const Inst& inst, Vec a, Vec b, Vec c) {
  const FpOp f = FpOp::unpack(inst.aux);
  const NanRule rule = f.nan;
  const auto two = [&](auto&& op) {
    return fp_map<F>([&](F x, F y) { return fp_underflow(f.underflow, [&] { return op(x, y); }); }, a, b);
  };
  switch (inst.op) {
    case Op::v_fadd_: return two([&](F x, F y) { return op_fadd(rule, x, y); });
    case Op::v_fsub_: return two([&](F x, F y) { return op_fsub(rule, x, y); });
    case Op::v_fmul_: return two([&](F x, F y) { return op_fmul(rule, x, y); });
    case Op::v_fdiv_: return two([&](F x, F y) { return op_fdiv(rule, x, y); });
    case Op::v_fsqrt_: return fp_map<F>([&](F x) { return op_fsqrt(rule, x); }, a);
    case Op::v_fma_:
      return fp_map<F>([&](F x, F y, F z) { return fp_underflow(f.underflow, [&] { return op_fma(f, x, y, z); }); }, a, b, c);
    case Op::v_fneg_: return fp_map<F>([&](F x) { return op_fneg(x); }, a);
    case Op::v_fabs_: return fp_map<F>([&](F x) { return op_fabs(x); }, a);
    case Op::v_fflush_: return fp_map<F>([&](F x) { return op_fflush(x); }, a);
    case Op::v_fmin_: return fp_map<F>([&](F x, F y) { return op_fmin(rule, x, y); }, a, b);
    case Op::v_fmax_: return fp_map<F>([&](F x, F y) { return op_fmax(rule, x, y); }, a, b);
    case Op::v_fminnm_: return fp_map<F>([&](F x, F y) { return op_fminnm(rule, x, y); }, a, b);
    case Op::v_fmaxnm_: return fp_map<F>([&](F x, F y) { return op_fmaxnm(rule, x, y); }, a, b);
    case Op::v_fround_: return fp_map<F>([&](F x) { return op_fround(f, x); }, a);
    case Op::v_f_to_int_: return op_v_f_to_int<F>(f, a, inst.imm);
    case Op::v_int_to_f_: return op_v_int_to_f<F>(f.is_unsigned, a);
    case Op::v_fwiden_: return op_v_fwiden(rule, a);
    case Op::v_fnarrow_: return op_v_fnarrow(f, a);
    case Op::v_f_to_int_narrow_: return op_v_f_to_int_narrow(f, a);
    case Op::v_fcmp_: return op_v_fcmp<F>(inst.imm & 31, a, b);
    case Op::v_fcmpeq_: return fp_map<F>([&](F x, F y) { return fp_mask<F>(op_fcmp_eq(x, y, false)); }, a, b);
    case Op::v_fcmpgt_: return fp_map<F>([&](F x, F y) { return fp_mask<F>(op_fcmp_lt(y, x, true)); }, a, b);
    default: return fp_map<F>([&](F x, F y) { return fp_mask<F>(op_fcmp_le(y, x, true)); }, a, b);
  }
}

}  // namespace

Datum eval_fp(const Inst& inst, const Type* types, const Datum* args) {
  if (inst.op >= Op::v_fadd_ && inst.op <= Op::v_fcmpge_) {
    const Vec a = to_vec(args[0].v);
    const Vec b = inst.args[1] == kNoValue ? Vec{} : to_vec(args[1].v);
    const Vec c = inst.args[2] == kNoValue ? Vec{} : to_vec(args[2].v);
    Datum d;
    d.v =
        to_v128(inst.lane == static_cast<u8>(Width::B4) ? eval_lanes<float>(inst, a, b, c) : eval_lanes<double>(inst, a, b, c));
    return d;
  }
  if (inst.op == Op::int_to_f_) {
    return inst.type == Type::F32 ? eval_int_to_f<float>(inst, types[0], args) : eval_int_to_f<double>(inst, types[0], args);
  }
  const bool single = types[0] == Type::F32;
  if (inst.op == Op::fcvt_) {
    const FpOp f = FpOp::unpack(inst.aux);
    if (single) return make(op_fcvt(f.nan, args[0].f32));
    return make(fp_underflow(f.underflow, [&] { return op_fcvt(f.nan, args[0].f64); }));
  }
  if (inst.op == Op::f_to_int_ || inst.type == Type::I1 || inst.op == Op::nzcv_fcmp_ || inst.op == Op::eimage_fcmp_)
    return single ? eval_from<float>(inst, args) : eval_from<double>(inst, args);
  return single ? eval_same<float>(inst, args) : eval_same<double>(inst, args);
}

}  // namespace kiln::ir
