// Vector ops.
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

namespace {
constexpr u32 vv(u32 family, u8 d, u8 a) { return family + d * kVecRegs + a; }
}  // namespace

/// x86's scalar arithmetic: a result of `a` op b inserted into the low lane of `a`. The stencil has worked in a copy of the
/// register of `a`, so that the lanes above stand where they should already.
bool Stitcher::keeps_upper_lanes(const Inst& insert) {
  const Value b = insert.args[1];
  if (insert.imm != 0 || insert.imm2 != 0) return false;
  const Value f = root(deferred(b, Op::f_to_v_) ? (*block_)[root(b)].args[0] : b);
  const ValueState& s = values_[f];
  if (s.state != State::Normal || s.home != 0 || f >= block_->insts.size() || ir::type_bits(s.type) != (8u << insert.lane))
    return false;
  const Inst& maker = (*block_)[f];
  switch (maker.op) {
    case Op::fadd_:
    case Op::fsub_:
    case Op::fmul_:
    case Op::fdiv_:
    case Op::fmin_:
    case Op::fmax_: return ir::FpOp::unpack(maker.aux).nan == ir::NanRule::X86 && root(maker.args[0]) == root(insert.args[0]);
    default: return false;
  }
}

bool Stitcher::vector(Value v, const Inst& inst) {
  const unsigned lane = inst.lane;
  const auto finish = [&](u8 d) {
    done_all(inst);
    bind(v, d, 128);
    return true;
  };
  // a op= b
  const auto two = [&](u32 family, bool commutes = false) {
    Value a = inst.args[0], b = inst.args[1];
    if (commutes && !dies(a) && dies(b)) std::swap(a, b);
    const u8 rb = use(b);
    const u8 d = take(a);
    emit(vv(family, d, rb));
    return finish(d);
  };
  const auto by_lane = [&](u32 family) { return family + lane * kVecRegs * kVecRegs; };
  // d = op a
  const auto one = [&](u32 family, u64 a = 0, u64 b = 0) {
    const u8 ra = use(inst.args[0]);
    const u8 d = dies(inst.args[0]) ? ra : fresh(Vec);
    emit(vv(family, d, ra), a, b);
    return finish(d);
  };
  // The n-th of a family's lane widths.
  const auto nth_lane = [&](u32 family, unsigned n) { return family + n * kVecRegs * kVecRegs; };
  const auto two_imm = [&](u32 family, u64 imm) {
    const u8 rb = use(inst.args[1]);
    const u8 d = take(inst.args[0]);
    emit(vv(family, d, rb), 0, imm);
    return finish(d);
  };
  // d = op of operand n, the other one being a constant
  const auto one_of = [&](u32 family, unsigned n, u64 imm) {
    const u8 ra = use(inst.args[n]);
    const u8 d = dies(inst.args[n]) ? ra : fresh(Vec);
    emit(vv(family, d, ra), 0, imm);
    return finish(d);
  };
  const auto is_zero = [&](Value a) {
    const Inst* maker = root(a) < block_->insts.size() ? &(*block_)[root(a)] : nullptr;
    return maker && maker->op == Op::vconst_ && maker->imm == 0 && maker->imm2 == 0;
  };
  const auto shift = [&](u32 family, bool arithmetic) {
    const u64 bits = 8u << lane;
    u64 count = inst.imm;
    if (count >= bits) {
      if (!arithmetic) {
        const u8 d = fresh(Vec);
        emit(id::v_zero + d);
        return finish(d);
      }
      count = bits - 1;
    }
    return one(by_lane(family), count, count);
  };
  const auto widened = [&](const Inst& product, Op low, Op high) {
    for (unsigned i = 0; i < 2; ++i) {
      const Value r = root(product.args[i]);
      if (r >= block_->insts.size()) return false;  // a constant that the stitcher made
      const Inst& maker = (*block_)[r];
      if ((maker.op != low && maker.op != high) || maker.lane != static_cast<u8>(ir::Width::B4)) return false;
    }
    return true;
  };
  switch (inst.op) {
    case Op::v_low64_: return one(id::v_low64);
    case Op::v_and_: return two(id::v_and, true);
    case Op::v_or_: return two(id::v_or, true);
    case Op::v_xor_: return two(id::v_xor, true);
    case Op::v_andn_: return two(id::v_andn);
    case Op::v_not_: return one(id::v_not);
    case Op::v_bsl_: {
      const u8 rb = use(inst.args[1]), rc = use(inst.args[2]);
      const u8 d = take(inst.args[0]);
      emit(id::v_bsl + (d * kVecRegs + rb) * kVecRegs + rc);
      return finish(d);
    }
    case Op::v_add_: return two(by_lane(id::v_add), true);
    case Op::v_sub_: return two(by_lane(id::v_sub));
    case Op::v_mul_:
      // Widened operands (UMULL and its kin): the host has a multiplication of the low halves of its 64-bit lanes.
      if (lane == 3 && widened(inst, Op::v_widen_lo_u_, Op::v_widen_hi_u_)) return two(id::v_mul_low_u, true);
      if (lane == 3 && widened(inst, Op::v_widen_lo_s_, Op::v_widen_hi_s_)) return two(id::v_mul_low_s, true);
      return two(by_lane(id::v_mul), true);
    case Op::v_neg_: return one(by_lane(id::v_neg));
    case Op::v_abs_: return one(by_lane(id::v_abs));
    case Op::v_shl_: return shift(id::v_shl, false);
    case Op::v_lshr_: return shift(id::v_lshr, false);
    case Op::v_ashr_: return shift(id::v_ashr, true);
    case Op::v_cmpeq_: return two(by_lane(id::v_cmpeq), true);
    case Op::v_cmpgt_s_: return two(by_lane(id::v_cmpgt_s));
    case Op::v_cmpge_s_: return two(by_lane(id::v_cmpge_s));
    case Op::v_cmpgt_u_: return two(by_lane(id::v_cmpgt_u));
    case Op::v_cmpge_u_: return two(by_lane(id::v_cmpge_u));
    case Op::v_min_s_: return two(by_lane(id::v_min_s), true);
    case Op::v_max_s_: return two(by_lane(id::v_max_s), true);
    case Op::v_min_u_: return two(by_lane(id::v_min_u), true);
    case Op::v_max_u_: return two(by_lane(id::v_max_u), true);
    case Op::v_zip_lo_: return two(by_lane(id::v_zip_lo));
    case Op::v_zip_hi_: return two(by_lane(id::v_zip_hi));
    case Op::v_uzp_even_: return two(by_lane(id::v_uzp_even));
    case Op::v_uzp_odd_: return two(by_lane(id::v_uzp_odd));
    case Op::v_trn_even_: return two(by_lane(id::v_trn_even));
    case Op::v_trn_odd_: return two(by_lane(id::v_trn_odd));
    case Op::v_ext_: {
      // With a zero vector: a shift of the whole register (and none of v_ext's two operands to be made).
      const unsigned n = inst.imm & 15;
      if (is_zero(inst.args[1])) return one_of(id::v_bytes_down, 0, n);
      if (n != 0 && is_zero(inst.args[0])) return one_of(id::v_bytes_up, 1, 16 - n);
      const u8 rb = use(inst.args[1]);
      const u8 d = take(inst.args[0]);
      emit(vv(id::v_ext, d, rb), 0, inst.imm & 15);
      return finish(d);
    }
    case Op::v_tbl_: return two(id::v_tbl);
    case Op::v_rev_: return one(by_lane(id::v_rev), (inst.imm - (1u << lane)) & 15);
    case Op::v_dup_: {
      const u8 ra = use(inst.args[0]);
      const u8 d = fresh(Vec);
      emit(id::v_dup + (lane * kVecRegs + d) * kIntRegs + ra);
      return finish(d);
    }
    case Op::v_dup_lane_: return one(by_lane(id::v_dup_lane), (inst.imm << lane) & 15);
    case Op::v_extract_: {
      const u8 ra = use(inst.args[0]);
      const u8 d = fresh(Int);
      if (inst.imm == 0 && lane >= 2) emit(id::v_to_int + ((lane - 2) * kIntRegs + d) * kVecRegs + ra);
      else emit(id::v_extract + (lane * kIntRegs + d) * kVecRegs + ra, 0, inst.imm & ((16u >> lane) - 1));
      done_all(inst);
      bind(v, d, 8u << lane);
      return true;
    }
    case Op::v_insert_: {
      const u8 rb = use(inst.args[1]);
      const u8 d = take(inst.args[0]);
      emit(id::v_insert + (lane * kVecRegs + d) * kIntRegs + rb, 0, inst.imm & ((16u >> lane) - 1));
      return finish(d);
    }
    case Op::v_insert_lane_: {
      if (keeps_upper_lanes(inst)) {
        const Value b = inst.args[1];
        alias(v, deferred(b, Op::f_to_v_) ? (*block_)[root(b)].args[0] : b);
        done_all(inst);
        return true;
      }
      if (lane >= 2) {
        // The low lane of a scalar result is taken from its register, whatever stands above.
        Value b = inst.args[1];
        const bool scalar =
            inst.imm2 == 0 && deferred(b, Op::f_to_v_) && ir::type_bits(type_of((*block_)[root(b)].args[0])) >= (8u << lane);
        const u8 rb = use(scalar ? (*block_)[root(b)].args[0] : b);
        const u8 d = take(inst.args[0]);
        const u64 to = inst.imm & 3, from = inst.imm2 & 3;
        if (to == from) emit(id::v_blend + ((lane - 1) * kVecRegs + d) * kVecRegs + rb, 0, u64{1} << to);
        else if (lane == 2) emit(id::v_insert_lane + d * kVecRegs + rb, 0, from << 6 | to << 4);
        else emit(id::v_insert_lane + ((to == 0 ? 1 : 2) * kVecRegs + d) * kVecRegs + rb, 0, to == 0 ? from | 2 : from << 1);
        return finish(d);
      }
      // Through an integer register: pextr, pinsr.
      const unsigned mask = (16u >> lane) - 1;
      const u8 rb = use(inst.args[1]);
      const u8 temp = fresh(Int);
      emit(id::v_extract + (lane * kIntRegs + temp) * kVecRegs + rb, 0, inst.imm2 & mask);
      const u8 d = take(inst.args[0]);
      emit(id::v_insert + (lane * kVecRegs + d) * kIntRegs + temp, 0, inst.imm & mask);
      return finish(d);
    }
    case Op::v_widen_lo_s_: return one(by_lane(id::v_widen_lo_s));
    case Op::v_widen_lo_u_: return one(by_lane(id::v_widen_lo_u));
    case Op::v_widen_hi_s_: return one(by_lane(id::v_widen_hi_s));
    case Op::v_widen_hi_u_: return one(by_lane(id::v_widen_hi_u));
    case Op::v_narrow_: return one(by_lane(id::v_narrow));
    case Op::v_popcnt8_: return one(id::v_popcnt8);
    case Op::v_movemask_: {
      const u8 ra = use(inst.args[0]);
      const u8 d = fresh(Int);
      emit(id::v_movemask + (lane * kIntRegs + d) * kVecRegs + ra);
      done_all(inst);
      bind(v, d, 16u >> lane);
      return true;
    }
    case Op::v_pack_s_: return two(nth_lane(id::v_pack_s, lane));
    case Op::v_pack_u_: return two(nth_lane(id::v_pack_u, lane));
    case Op::v_add_sat_s_: return two(nth_lane(id::v_add_sat_s, lane), true);
    case Op::v_add_sat_u_: return two(nth_lane(id::v_add_sat_u, lane), true);
    case Op::v_sub_sat_s_: return two(nth_lane(id::v_sub_sat_s, lane));
    case Op::v_sub_sat_u_: return two(nth_lane(id::v_sub_sat_u, lane));
    case Op::v_avg_u_: return two(nth_lane(id::v_avg_u, lane), true);
    case Op::v_mulhi_s_: return two(id::v_mulhi_s, true);
    case Op::v_mulhi_u_: return two(id::v_mulhi_u, true);
    case Op::v_mulhi_round_: return two(id::v_mulhi_round, true);
    case Op::v_mul_even_s_: return two(id::v_mul_low_s, true);
    case Op::v_mul_even_u_: return two(id::v_mul_low_u, true);
    case Op::v_madd_s_: return two(id::v_madd_s, true);
    case Op::v_madd_us_: return two(id::v_madd_us);
    case Op::v_sad_u_: return two(id::v_sad_u, true);
    case Op::v_sign_: return two(nth_lane(id::v_sign, lane));
    case Op::v_shl_by_: return two(nth_lane(id::v_shl_by, lane - 1));
    case Op::v_lshr_by_: return two(nth_lane(id::v_lshr_by, lane - 1));
    case Op::v_ashr_by_: return two(nth_lane(id::v_ashr_by, lane - 1));
    case Op::v_shl_each_: return two(nth_lane(id::v_shl_each, lane - 2));
    case Op::v_lshr_each_: return two(nth_lane(id::v_lshr_each, lane - 2));
    case Op::v_ashr_each_: return two(id::v_ashr_each);
    case Op::v_shuffle_: return two(id::v_shuffle);
    case Op::v_permute_: return one(id::v_permute, 0, inst.imm & 255);
    case Op::v_permute_lo_: return one(id::v_permute_lo, 0, inst.imm & 255);
    case Op::v_permute_hi_: return one(id::v_permute_hi, 0, inst.imm & 255);
    case Op::v_permute2_: return two_imm(nth_lane(id::v_permute2, lane - 2), inst.imm & (lane == 3 ? 3 : 255));
    case Op::v_blend_: return two_imm(nth_lane(id::v_blend, lane - 1), inst.imm & ((1u << (16u >> lane)) - 1));
    case Op::v_blendv_: {
      const u8 rb = use(inst.args[1]), rc = use(inst.args[2]);
      const u8 d = take(inst.args[0]);
      emit(id::v_blendv + (((lane == 0 ? 0 : lane - 1) * kVecRegs + d) * kVecRegs + rb) * kVecRegs + rc);
      return finish(d);
    }
    case Op::v_int_to_f_widen_: return one(id::v_int_to_f_widen);
    case Op::v_f_to_int_narrow_:
      return one(nth_lane(id::v_f_to_int_narrow, ir::FpOp::unpack(inst.aux).round == ir::Round::Zero ? 1 : 0));
    default: return false;
  }
}

}  // namespace kiln::jit
