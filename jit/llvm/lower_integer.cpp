// Integer ops.
#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

llvm::Value* RegionLowering::lower_integer(const Inst& inst) {
  const unsigned bits = type_bits(inst.type);
  llvm::Type* type = is_int(inst.type) ? llvm_type(inst.type) : nullptr;
  LValue a = inst.args[0] != kNoValue ? arg(inst, 0) : nullptr;
  LValue b = inst.args[1] != kNoValue ? arg(inst, 1) : nullptr;
  auto number = [&](u64 n) { return llvm::ConstantInt::get(type, n); };
  auto count = [&](LValue n) { return b_.CreateAnd(n, number(bits - 1)); };
  auto unary = [&](llvm::Intrinsic::ID id) { return b_.CreateUnaryIntrinsic(id, a); };
  auto high_half = [&](bool sign) {
    auto* wide = b_.getIntNTy(2 * bits);
    LValue x = sign ? b_.CreateSExt(a, wide) : b_.CreateZExt(a, wide);
    LValue y = sign ? b_.CreateSExt(b, wide) : b_.CreateZExt(b, wide);
    return b_.CreateTrunc(b_.CreateLShr(b_.CreateMul(x, y), bits), type);
  };

  switch (inst.op) {
    case Op::add_: return b_.CreateAdd(a, b);
    case Op::sub_: return b_.CreateSub(a, b);
    case Op::mul_: return b_.CreateMul(a, b);
    case Op::umulh_: return high_half(false);
    case Op::smulh_: return high_half(true);
    // The host's div traps on 0 and MIN / -1: a harmless divisor replaces the bad one, the result is chosen afterwards.
    case Op::udiv_: {
      LValue zero = b_.CreateICmpEQ(b, number(0));
      LValue q = b_.CreateUDiv(a, b_.CreateSelect(zero, number(1), b));
      return b_.CreateSelect(zero, number(0), q);
    }
    case Op::urem_: {
      LValue zero = b_.CreateICmpEQ(b, number(0));
      LValue r = b_.CreateURem(a, b_.CreateSelect(zero, number(1), b));
      return b_.CreateSelect(zero, a, r);
    }
    case Op::sdiv_: {
      LValue zero = b_.CreateICmpEQ(b, number(0));
      LValue minus_one = b_.CreateICmpEQ(b, number(~u64{0}));
      LValue q = b_.CreateSDiv(a, b_.CreateSelect(b_.CreateOr(zero, minus_one), number(1), b));
      return b_.CreateSelect(zero, number(0), b_.CreateSelect(minus_one, b_.CreateNeg(a), q));
    }
    case Op::srem_: {
      LValue zero = b_.CreateICmpEQ(b, number(0));
      LValue minus_one = b_.CreateICmpEQ(b, number(~u64{0}));
      LValue r = b_.CreateSRem(a, b_.CreateSelect(b_.CreateOr(zero, minus_one), number(1), b));
      return b_.CreateSelect(zero, a, b_.CreateSelect(minus_one, number(0), r));
    }
    case Op::and_: return b_.CreateAnd(a, b);
    case Op::or_: return b_.CreateOr(a, b);
    case Op::xor_: return b_.CreateXor(a, b);
    case Op::andn_: return b_.CreateAnd(a, b_.CreateNot(b));
    case Op::shl_: return b_.CreateShl(a, count(b));
    case Op::lshr_: return b_.CreateLShr(a, count(b));
    case Op::ashr_: return b_.CreateAShr(a, count(b));
    case Op::rotr_: return b_.CreateIntrinsic(llvm::Intrinsic::fshr, {type}, {a, a, b});
    case Op::extr_: return b_.CreateIntrinsic(llvm::Intrinsic::fshr, {type}, {a, b, number(inst.imm)});
    case Op::neg_: return b_.CreateNeg(a);
    case Op::not_: return b_.CreateNot(a);
    case Op::clz_: return b_.CreateIntrinsic(llvm::Intrinsic::ctlz, {type}, {a, b_.getFalse()});
    case Op::ctz_: return b_.CreateIntrinsic(llvm::Intrinsic::cttz, {type}, {a, b_.getFalse()});
    case Op::popcnt_: return unary(llvm::Intrinsic::ctpop);
    case Op::bswap_: return bits == 8 ? a : unary(llvm::Intrinsic::bswap);
    case Op::bitrev_: return unary(llvm::Intrinsic::bitreverse);
    case Op::zext_:
      if (wide_[inst.args[0]]) return b_.CreateTrunc(wide_[inst.args[0]], type);
      return b_.CreateZExt(a, type);
    case Op::sext_: return b_.CreateSExt(a, type);
    case Op::trunc_: return b_.CreateTrunc(a, type);
    case Op::ubfx_: return b_.CreateLShr(b_.CreateShl(a, bits - inst.imm - inst.imm2), bits - inst.imm2);
    case Op::sbfx_: return b_.CreateAShr(b_.CreateShl(a, bits - inst.imm - inst.imm2), bits - inst.imm2);
    case Op::bfi_: {
      const u64 field = mask_low(static_cast<unsigned>(inst.imm2)) << inst.imm;
      LValue kept = b_.CreateAnd(a, number(~field));
      return b_.CreateOr(kept, b_.CreateAnd(b_.CreateShl(b, number(inst.imm)), number(field)));
    }
    case Op::select_: return b_.CreateSelect(a, b, arg(inst, 2));
    case Op::icmp_eq_: return b_.CreateICmpEQ(a, b);
    case Op::icmp_ne_: return b_.CreateICmpNE(a, b);
    case Op::icmp_ult_: return b_.CreateICmpULT(a, b);
    case Op::icmp_ule_: return b_.CreateICmpULE(a, b);
    case Op::icmp_slt_: return b_.CreateICmpSLT(a, b);
    case Op::icmp_sle_: return b_.CreateICmpSLE(a, b);
    default: return nullptr;
  }
}

}  // namespace kiln::jit
