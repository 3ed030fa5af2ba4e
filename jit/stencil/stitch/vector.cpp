// Vector ops.
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

namespace {
constexpr u32 vv(u32 family, u8 d, u8 a) { return family + d * kVecRegs + a; }
}  // namespace

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
    default: return false;
  }
}

}  // namespace kiln::jit
