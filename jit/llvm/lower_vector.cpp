// Integer vector ops: lane-wise LLVM vector IR, values travel as <2 x i64>.
#include <llvm/IR/IntrinsicsX86.h>

#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

llvm::Value* RegionLowering::lower_vector(const Inst& inst) {
  using namespace llvm;
  if (inst.op < Op::v_low64_ || inst.op > Op::v_fcmpge_) return nullptr;
  if (LValue result = lower_vector_float(inst)) return result;

  auto* v128 = FixedVectorType::get(b_.getInt64Ty(), 2);
  const unsigned bits = 8u << inst.lane;
  const unsigned count = bits <= 64 ? 128 / bits : 0;
  if (count == 0) return nullptr;
  auto* lane_type = b_.getIntNTy(bits);
  auto* type = FixedVectorType::get(lane_type, count);
  auto* bytes = FixedVectorType::get(b_.getInt8Ty(), 16);
  auto raw = [&](unsigned i) { return arg(inst, i); };
  auto lanes = [&](unsigned i) { return b_.CreateBitCast(arg(inst, i), type); };
  auto done = [&](LValue v) { return b_.CreateBitCast(v, v128); };
  auto binary = [&](Intrinsic::ID id) { return done(b_.CreateBinaryIntrinsic(id, lanes(0), lanes(1))); };
  auto compare = [&](CmpInst::Predicate p) { return done(b_.CreateSExt(b_.CreateICmp(p, lanes(0), lanes(1)), type)); };
  auto shuffle = [&](auto&& index_of) {
    SmallVector<int, 16> mask;
    for (unsigned i = 0; i < count; ++i) mask.push_back(static_cast<int>(index_of(i)));
    return done(b_.CreateShuffleVector(lanes(0), inst.args[1] != kNoValue ? lanes(1) : lanes(0), mask));
  };
  auto widen = [&](bool high, bool sign) -> LValue {
    if (bits > 32) return nullptr;
    SmallVector<int, 16> mask;
    for (unsigned i = 0; i < count / 2; ++i) mask.push_back(static_cast<int>(high ? count / 2 + i : i));
    LValue half = b_.CreateShuffleVector(lanes(0), mask);
    auto* wide = FixedVectorType::get(b_.getIntNTy(2 * bits), count / 2);
    return done(sign ? b_.CreateSExt(half, wide) : b_.CreateZExt(half, wide));
  };
  // An instruction of the host on two operands with lanes of `operand_bits` (the second of a variable shift: the whole
  // register).
  auto host = [&](Intrinsic::ID id, unsigned operand_bits) {
    auto* operand = FixedVectorType::get(b_.getIntNTy(operand_bits), 128 / operand_bits);
    return done(b_.CreateIntrinsic(id, {}, {b_.CreateBitCast(raw(0), operand), b_.CreateBitCast(raw(1), operand)}));
  };
  auto shift = [&](Instruction::BinaryOps op) -> LValue {
    u64 n = inst.imm;
    if (n >= bits) {
      if (op != Instruction::AShr) return ConstantAggregateZero::get(v128);
      n = bits - 1;
    }
    return done(b_.CreateBinOp(op, lanes(0), ConstantInt::get(type, n)));
  };

  switch (inst.op) {
    case Op::v_low64_: return b_.CreateInsertElement(raw(0), b_.getInt64(0), u64{1});
    case Op::v_and_: return b_.CreateAnd(raw(0), raw(1));
    case Op::v_or_: return b_.CreateOr(raw(0), raw(1));
    case Op::v_xor_: return b_.CreateXor(raw(0), raw(1));
    case Op::v_andn_: return b_.CreateAnd(raw(0), b_.CreateNot(raw(1)));
    case Op::v_not_: return b_.CreateNot(raw(0));
    case Op::v_bsl_: return b_.CreateOr(b_.CreateAnd(raw(0), raw(1)), b_.CreateAnd(b_.CreateNot(raw(0)), raw(2)));
    case Op::v_add_: return done(b_.CreateAdd(lanes(0), lanes(1)));
    case Op::v_sub_: return done(b_.CreateSub(lanes(0), lanes(1)));
    case Op::v_mul_: {
      if (bits != 8) return done(b_.CreateMul(lanes(0), lanes(1)));
      // Even and odd bytes as words; LLVM's own way is through 256 bits.
      auto* words = FixedVectorType::get(b_.getInt16Ty(), 8);
      LValue x = b_.CreateBitCast(raw(0), words), y = b_.CreateBitCast(raw(1), words);
      LValue even = b_.CreateAnd(b_.CreateMul(x, y), ConstantInt::get(words, 0xff));
      LValue odd = b_.CreateShl(b_.CreateMul(b_.CreateLShr(x, 8), b_.CreateLShr(y, 8)), 8);
      return done(b_.CreateOr(even, odd));
    }
    case Op::v_neg_: return done(b_.CreateNeg(lanes(0)));
    case Op::v_abs_: return done(b_.CreateIntrinsic(Intrinsic::abs, {type}, {lanes(0), b_.getFalse()}));
    case Op::v_shl_: return shift(Instruction::Shl);
    case Op::v_lshr_: return shift(Instruction::LShr);
    case Op::v_ashr_: return shift(Instruction::AShr);
    case Op::v_cmpeq_: return compare(CmpInst::ICMP_EQ);
    case Op::v_cmpgt_s_: return compare(CmpInst::ICMP_SGT);
    case Op::v_cmpge_s_: return compare(CmpInst::ICMP_SGE);
    case Op::v_cmpgt_u_: return compare(CmpInst::ICMP_UGT);
    case Op::v_cmpge_u_: return compare(CmpInst::ICMP_UGE);
    case Op::v_min_s_: return binary(Intrinsic::smin);
    case Op::v_max_s_: return binary(Intrinsic::smax);
    case Op::v_min_u_: return binary(Intrinsic::umin);
    case Op::v_max_u_: return binary(Intrinsic::umax);
    case Op::v_zip_lo_: return shuffle([&](unsigned i) { return (i & 1) * count + i / 2; });
    case Op::v_zip_hi_: return shuffle([&](unsigned i) { return (i & 1) * count + count / 2 + i / 2; });
    case Op::v_uzp_even_: return shuffle([&](unsigned i) { return 2 * i; });
    case Op::v_uzp_odd_: return shuffle([&](unsigned i) { return 2 * i + 1; });
    case Op::v_trn_even_: return shuffle([&](unsigned i) { return (i & 1) * count + (i & ~1u); });
    case Op::v_trn_odd_: return shuffle([&](unsigned i) { return (i & 1) * count + (i | 1u); });
    case Op::v_ext_: {
      SmallVector<int, 16> mask;
      for (unsigned i = 0; i < 16; ++i) mask.push_back(static_cast<int>(inst.imm + i));
      return done(b_.CreateShuffleVector(b_.CreateBitCast(raw(0), bytes), b_.CreateBitCast(raw(1), bytes), mask));
    }
    case Op::v_tbl_: {
      // pshufb zeroes where bit 7 is set and else looks at the low four bits: 0x70 added with saturation sets bit 7 from 16 on.
      LValue index =
          b_.CreateBinaryIntrinsic(Intrinsic::uadd_sat, b_.CreateBitCast(raw(1), bytes), ConstantInt::get(bytes, 0x70));
      return done(b_.CreateIntrinsic(Intrinsic::x86_ssse3_pshuf_b_128, {}, {b_.CreateBitCast(raw(0), bytes), index}));
    }
    case Op::v_rev_: {
      const unsigned group = static_cast<unsigned>(inst.imm) / (bits / 8);
      if (group == 0) return nullptr;
      return shuffle([&](unsigned i) { return i / group * group + (group - 1 - i % group); });
    }
    case Op::v_dup_: return done(b_.CreateVectorSplat(count, b_.CreateTrunc(raw(0), lane_type)));
    case Op::v_dup_lane_: return shuffle([&](unsigned) { return static_cast<unsigned>(inst.imm); });
    case Op::v_extract_: return b_.CreateZExtOrTrunc(b_.CreateExtractElement(lanes(0), inst.imm), llvm_type(inst.type));
    case Op::v_insert_: return done(b_.CreateInsertElement(lanes(0), b_.CreateTrunc(raw(1), lane_type), inst.imm));
    case Op::v_insert_lane_:
      if (const Inst& low = (*block_)[inst.args[1]]; low.op == Op::f_to_v_ && inst.imm == 0 && inst.imm2 == 0) {
        const auto whole = scalar_in_vector_.find(arg(low, 0));
        if (whole != scalar_in_vector_.end()) {
          const Inst& operation = (*block_)[low.args[0]];
          if (operation.args[0] != kNoValue && (*block_)[operation.args[0]].op == Op::v_to_f_ &&
              arg((*block_)[operation.args[0]], 0) == raw(0) && type_bits(operation.type) == bits)
            return done(whole->second);
        }
      }
      return shuffle([&](unsigned i) { return i == inst.imm ? count + static_cast<unsigned>(inst.imm2) : i; });
    case Op::v_widen_lo_s_: return widen(false, true);
    case Op::v_widen_lo_u_: return widen(false, false);
    case Op::v_widen_hi_s_: return widen(true, true);
    case Op::v_widen_hi_u_: return widen(true, false);
    case Op::v_narrow_: {
      if (bits > 32) return nullptr;
      auto* wide = FixedVectorType::get(b_.getIntNTy(2 * bits), count / 2);
      LValue half = b_.CreateTrunc(b_.CreateBitCast(raw(0), wide), FixedVectorType::get(lane_type, count / 2));
      SmallVector<int, 16> mask;
      for (unsigned i = 0; i < count; ++i) mask.push_back(static_cast<int>(i < count / 2 ? i : count / 2));
      return done(b_.CreateShuffleVector(half, ConstantAggregateZero::get(half->getType()), mask));
    }
    case Op::v_movemask_:
      return b_.CreateZExt(b_.CreateBitCast(b_.CreateICmpSLT(lanes(0), ConstantAggregateZero::get(type)), b_.getIntNTy(count)),
                           b_.getInt32Ty());
    case Op::v_pack_s_: return host(bits == 8 ? Intrinsic::x86_sse2_packsswb_128 : Intrinsic::x86_sse2_packssdw_128, 2 * bits);
    case Op::v_pack_u_: return host(bits == 8 ? Intrinsic::x86_sse2_packuswb_128 : Intrinsic::x86_sse41_packusdw, 2 * bits);
    case Op::v_add_sat_s_: return binary(Intrinsic::sadd_sat);
    case Op::v_add_sat_u_: return binary(Intrinsic::uadd_sat);
    case Op::v_sub_sat_s_: return binary(Intrinsic::ssub_sat);
    case Op::v_sub_sat_u_: return binary(Intrinsic::usub_sat);
    case Op::v_avg_u_: return host(bits == 8 ? Intrinsic::x86_sse2_pavg_b : Intrinsic::x86_sse2_pavg_w, bits);
    case Op::v_mulhi_s_: return host(Intrinsic::x86_sse2_pmulh_w, 16);
    case Op::v_mulhi_u_: return host(Intrinsic::x86_sse2_pmulhu_w, 16);
    case Op::v_mulhi_round_: return host(Intrinsic::x86_ssse3_pmul_hr_sw_128, 16);
    case Op::v_mul_even_s_: {
      const auto low = [&](unsigned i) { return b_.CreateAShr(b_.CreateShl(raw(i), 32), 32); };
      return b_.CreateMul(low(0), low(1));
    }
    case Op::v_mul_even_u_: {
      const auto low = [&](unsigned i) { return b_.CreateAnd(raw(i), ConstantInt::get(v128, 0xffffffff)); };
      return b_.CreateMul(low(0), low(1));
    }
    case Op::v_madd_s_: return host(Intrinsic::x86_sse2_pmadd_wd, 16);
    case Op::v_madd_us_: return host(Intrinsic::x86_ssse3_pmadd_ub_sw_128, 8);
    case Op::v_sad_u_: return host(Intrinsic::x86_sse2_psad_bw, 8);
    case Op::v_sign_:
      return host(bits == 8    ? Intrinsic::x86_ssse3_psign_b_128
                  : bits == 16 ? Intrinsic::x86_ssse3_psign_w_128
                               : Intrinsic::x86_ssse3_psign_d_128,
                  bits);
    case Op::v_shl_by_:
      return host(bits == 16   ? Intrinsic::x86_sse2_psll_w
                  : bits == 32 ? Intrinsic::x86_sse2_psll_d
                               : Intrinsic::x86_sse2_psll_q,
                  bits);
    case Op::v_lshr_by_:
      return host(bits == 16   ? Intrinsic::x86_sse2_psrl_w
                  : bits == 32 ? Intrinsic::x86_sse2_psrl_d
                               : Intrinsic::x86_sse2_psrl_q,
                  bits);
    case Op::v_ashr_by_: return host(bits == 16 ? Intrinsic::x86_sse2_psra_w : Intrinsic::x86_sse2_psra_d, bits);
    case Op::v_shl_each_: return host(bits == 32 ? Intrinsic::x86_avx2_psllv_d : Intrinsic::x86_avx2_psllv_q, bits);
    case Op::v_lshr_each_: return host(bits == 32 ? Intrinsic::x86_avx2_psrlv_d : Intrinsic::x86_avx2_psrlv_q, bits);
    case Op::v_ashr_each_: return host(Intrinsic::x86_avx2_psrav_d, bits);
    case Op::v_permute_: return shuffle([&](unsigned i) { return (inst.imm >> (2 * i)) & 3; });
    case Op::v_permute_lo_: return shuffle([&](unsigned i) { return i < 4 ? (inst.imm >> (2 * i)) & 3 : i; });
    case Op::v_permute_hi_: return shuffle([&](unsigned i) { return i < 4 ? i : 4 + ((inst.imm >> (2 * (i - 4))) & 3); });
    case Op::v_permute2_:
      return shuffle([&](unsigned i) {
        const unsigned field = count == 4 ? (inst.imm >> (2 * i)) & 3 : (inst.imm >> i) & 1;
        return i < count / 2 ? field : count + field;
      });
    case Op::v_blend_: return shuffle([&](unsigned i) { return bit(inst.imm, i) ? count + i : i; });
    case Op::v_blendv_:
      return done(b_.CreateSelect(b_.CreateICmpSLT(lanes(2), ConstantAggregateZero::get(type)), lanes(1), lanes(0)));
    case Op::v_shuffle_: return host(Intrinsic::x86_ssse3_pshuf_b_128, 8);
    case Op::v_int_to_f_widen_: {
      LValue low = b_.CreateShuffleVector(lanes(0), {0, 1});
      return done(b_.CreateSIToFP(low, FixedVectorType::get(b_.getDoubleTy(), 2)));
    }
    case Op::v_f_to_int_narrow_: {
      const bool truncate = FpOp::unpack(inst.aux).round == Round::Zero;
      return strict_asm(truncate ? "vcvttpd2dqx $1, $0" : "vcvtpd2dqx $1, $0", "=x,x", v128, {raw(0)});
    }
    case Op::v_popcnt8_: return done(b_.CreateUnaryIntrinsic(Intrinsic::ctpop, b_.CreateBitCast(raw(0), bytes)));
    default: return nullptr;
  }
}

}  // namespace kiln::jit
