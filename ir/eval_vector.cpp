// Vectors of eval_pure().
#include "ir/eval_internal.h"
#include "ir/semantics_vector.h"

namespace kiln::ir {
namespace {

/// Ops with lanes of some widths only (lane_widths()); a template instantiated for the others is never reached.
template <class L>
Vec some_lanes(const Inst& inst, Vec a, Vec b, Vec c) {
  if constexpr (sizeof(L) <= 2) {
    switch (inst.op) {
      case Op::v_pack_s_: return op_v_pack_s<L>(a, b);
      case Op::v_pack_u_: return op_v_pack_u<L>(a, b);
      case Op::v_add_sat_s_: return op_v_add_sat_s<L>(a, b);
      case Op::v_add_sat_u_: return op_v_add_sat_u<L>(a, b);
      case Op::v_sub_sat_s_: return op_v_sub_sat_s<L>(a, b);
      case Op::v_sub_sat_u_: return op_v_sub_sat_u<L>(a, b);
      case Op::v_avg_u_: return op_v_avg_u<L>(a, b);
      default: break;
    }
  }
  switch (inst.op) {
    case Op::v_sign_: return op_v_sign<L>(a, b);
    case Op::v_shl_by_: return op_v_shl_by<L>(a, b);
    case Op::v_lshr_by_: return op_v_lshr_by<L>(a, b);
    case Op::v_ashr_by_: return op_v_ashr_by<L>(a, b);
    case Op::v_shl_each_: return op_v_shl_each<L>(a, b);
    case Op::v_lshr_each_: return op_v_lshr_each<L>(a, b);
    case Op::v_permute2_: return op_v_permute2<L>(a, b, inst.imm);
    case Op::v_blend_: return op_v_blend<L>(a, b, inst.imm);
    case Op::v_blendv_: return op_v_blendv<L>(a, b, c);
    default: return Vec{};
  }
}

template <class L>
Vec lanes(const Inst& inst, Vec a, Vec b, Vec c) {
  switch (inst.op) {
#define KILN_BINARY(name) \
  case Op::name##_: return op_##name<L>(a, b);
    KILN_BINARY(v_add)
    KILN_BINARY(v_sub)
  KILN_BINARY(v_mul)
  KILN_BINARY(v_cmpeq) KILN_BINARY(v_cmpgt_s) KILN_BINARY(v_cmpge_s) KILN_BINARY(v_cmpgt_u) KILN_BINARY(v_cmpge_u)
      KILN_BINARY(v_min_s) KILN_BINARY(v_max_s) KILN_BINARY(v_min_u) KILN_BINARY(v_max_u) KILN_BINARY(v_zip_lo)
          KILN_BINARY(v_zip_hi) KILN_BINARY(v_uzp_even) KILN_BINARY(v_uzp_odd) KILN_BINARY(v_trn_even) KILN_BINARY(v_trn_odd)
#undef KILN_BINARY
              case Op::v_neg_:
    return op_v_neg<L>(a);
  case Op::v_abs_: return op_v_abs<L>(a);
  case Op::v_shl_: return op_v_shl<L>(a, inst.imm);
  case Op::v_lshr_: return op_v_lshr<L>(a, inst.imm);
  case Op::v_ashr_: return op_v_ashr<L>(a, inst.imm);
  case Op::v_rev_: return op_v_rev<L>(a, inst.imm);
  case Op::v_dup_lane_: return op_v_dup_lane<L>(a, inst.imm);
  case Op::v_insert_lane_: return op_v_insert_lane<L>(a, b, inst.imm, inst.imm2);
    default : break;
  }
  if constexpr (sizeof(L) < 8) {
    switch (inst.op) {
      case Op::v_widen_lo_s_: return op_v_widen_lo_s<L>(a);
      case Op::v_widen_lo_u_: return op_v_widen_lo_u<L>(a);
      case Op::v_widen_hi_s_: return op_v_widen_hi_s<L>(a);
      case Op::v_widen_hi_u_: return op_v_widen_hi_u<L>(a);
      case Op::v_narrow_: return op_v_narrow<L>(a);
      default: break;
    }
  }
  return some_lanes<L>(inst, a, b, c);
}

template <class L>
Datum with_integer(const Inst& inst, const Datum* args) {
  Datum d;
  d.v = V128{};
  if (inst.op == Op::v_dup_) d.v = to_v128(op_v_dup<L>(args[0].i));
  else if (inst.op == Op::v_insert_) d.v = to_v128(op_v_insert<L>(to_vec(args[0].v), args[1].i, inst.imm));
  else if (inst.op == Op::v_movemask_) d.i = op_v_movemask<L>(to_vec(args[0].v));
  else d.i = op_v_extract<L>(to_vec(args[0].v), inst.imm) & mask_low(type_bits(inst.type));
  return d;
}

}  // namespace

Datum eval_vector(const Inst& inst, const Type* types, const Datum* args) {
  Datum d;
  d.v = V128{};
  const auto width = static_cast<Width>(inst.lane);
  switch (inst.op) {
    case Op::vconst_:
      d.v.d[0] = inst.imm;
      d.v.d[1] = inst.imm2;
      return d;
    case Op::f_to_v_:
      if (types[0] == Type::F32) d.v.f32[0] = args[0].f32;
      else d.v.f64[0] = args[0].f64;
      return d;
    case Op::v_dup_:
    case Op::v_insert_:
    case Op::v_extract_:
    case Op::v_movemask_:
      switch (width) {
        case Width::B1: return with_integer<u8>(inst, args);
        case Width::B2: return with_integer<u16>(inst, args);
        case Width::B4: return with_integer<u32>(inst, args);
        default: return with_integer<u64>(inst, args);
      }
    default: break;
  }
  const Vec a = to_vec(args[0].v);
  const Vec b = inst.args[1] == kNoValue ? Vec{} : to_vec(args[1].v);
  const Vec c = inst.args[2] == kNoValue ? Vec{} : to_vec(args[2].v);
  Vec r{};
  switch (inst.op) {
    case Op::v_low64_: r = op_v_low64(a); break;
    case Op::v_and_: r = op_v_and(a, b); break;
    case Op::v_or_: r = op_v_or(a, b); break;
    case Op::v_xor_: r = op_v_xor(a, b); break;
    case Op::v_andn_: r = op_v_andn(a, b); break;
    case Op::v_not_: r = op_v_not(a); break;
    case Op::v_bsl_: r = op_v_bsl(a, b, c); break;
    case Op::v_ext_: r = op_v_ext(a, b, inst.imm); break;
    case Op::v_tbl_: r = op_v_tbl(a, b); break;
    case Op::v_popcnt8_: r = op_v_popcnt8(a); break;
    case Op::v_mulhi_s_: r = op_v_mulhi_s(a, b); break;
    case Op::v_mulhi_u_: r = op_v_mulhi_u(a, b); break;
    case Op::v_mulhi_round_: r = op_v_mulhi_round(a, b); break;
    case Op::v_mul_even_s_: r = op_v_mul_even_s(a, b); break;
    case Op::v_mul_even_u_: r = op_v_mul_even_u(a, b); break;
    case Op::v_madd_s_: r = op_v_madd_s(a, b); break;
    case Op::v_madd_us_: r = op_v_madd_us(a, b); break;
    case Op::v_sad_u_: r = op_v_sad_u(a, b); break;
    case Op::v_ashr_each_: r = op_v_ashr_each(a, b); break;
    case Op::v_permute_: r = op_v_permute(a, inst.imm); break;
    case Op::v_permute_lo_: r = op_v_permute_lo(a, inst.imm); break;
    case Op::v_permute_hi_: r = op_v_permute_hi(a, inst.imm); break;
    case Op::v_shuffle_: r = op_v_shuffle(a, b); break;
    case Op::v_int_to_f_widen_: r = op_v_int_to_f_widen(a); break;
    default:
      switch (width) {
        case Width::B1: r = lanes<u8>(inst, a, b, c); break;
        case Width::B2: r = lanes<u16>(inst, a, b, c); break;
        case Width::B4: r = lanes<u32>(inst, a, b, c); break;
        default: r = lanes<u64>(inst, a, b, c); break;
      }
  }
  d.v = to_v128(r);
  return d;
}

}  // namespace kiln::ir
