// Floating point with NanRule::X86: the instruction itself. As asm where LLVM's own choice would not be exact: it swaps the
// operands of additions and multiplications (the first NaN wins) and has no name for minsd, roundsd or cvtsd2si.
#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

namespace {
/// Null: the generic lowering is this instruction. {vex3}: else LLVM's assembler swaps the operands of additions and
/// multiplications too, for a shorter prefix where the second is xmm8 or higher.
const char* two_operands(Op op) {
  switch (op) {
    case Op::fadd_:
    case Op::v_fadd_: return "{vex3} vadd";
    case Op::fmul_:
    case Op::v_fmul_: return "{vex3} vmul";
    case Op::fmin_:
    case Op::v_fmin_: return "vmin";
    case Op::fmax_:
    case Op::v_fmax_: return "vmax";
    default: return nullptr;
  }
}
const char* scalar_operation(Op op) {
  switch (op) {
    case Op::fsub_: return "vsub";
    case Op::fdiv_: return "vdiv";
    case Op::fadd_:
    case Op::fmul_:
    case Op::fmin_:
    case Op::fmax_: return two_operands(op);
    default: return nullptr;
  }
}
}  // namespace

/// `a` op b where a is the low lane of a vector: the instruction works in the whole register and leaves the lanes above, which
/// is what the guest's does too. Inserting the result into that vector again (lower_vector) then costs nothing.
llvm::Value* RegionLowering::lower_scalar_in_vector(const Inst& inst, const char* mnemonic) {
  const Inst& maker = (*block_)[inst.args[0]];
  if (maker.op != Op::v_to_f_) return nullptr;
  const bool is64 = inst.type == Type::F64;
  auto* type = llvm::FixedVectorType::get(llvm_type(inst.type), is64 ? 2 : 4);
  const std::string text = std::string(mnemonic) + (is64 ? "sd" : "ss") + " $2, $1, $0";
  LValue whole = strict_asm(text.c_str(), "=x,x,x", type, {b_.CreateBitCast(arg(maker, 0), type), arg(inst, 1)});
  LValue scalar = b_.CreateExtractElement(whole, u64{0});
  scalar_in_vector_[scalar] = whole;
  return scalar;
}

llvm::Value* RegionLowering::lower_float_x86(const Inst& inst) {
  const FpOp f = FpOp::unpack(inst.aux);
  const bool vector = inst.type == Type::V128;
  auto* type = vector ? static_cast<llvm::Type*>(float_lanes(inst)) : llvm_type(inst.type);
  const auto operand = [&](unsigned i) { return vector ? b_.CreateBitCast(arg(inst, i), type) : arg(inst, i); };
  const auto result = [&](LValue r) { return vector ? b_.CreateBitCast(r, llvm_type(Type::V128)) : r; };
  const auto suffix = [&](bool is64) { return std::string(vector ? "p" : "s") + (is64 ? "d" : "s"); };
  if (const char* mnemonic = scalar_operation(inst.op))
    if (LValue scalar = lower_scalar_in_vector(inst, mnemonic)) return scalar;
  if (const char* mnemonic = two_operands(inst.op)) {
    const std::string text = mnemonic + suffix(type->getScalarSizeInBits() == 64) + " $2, $1, $0";
    return result(strict_asm(text.c_str(), "=x,x,x", type, {operand(0), operand(1)}));
  }
  switch (inst.op) {
    case Op::fma_:
    case Op::v_fma_: {
      constexpr const char* kMnemonic[4] = {"vfmadd231", "vfmsub231", "vfnmadd231", "vfnmsub231"};
      const std::string text = kMnemonic[f.negate] + suffix(type->getScalarSizeInBits() == 64) + " $3, $2, $0";
      return result(strict_asm(text.c_str(), "=x,0,x,x", type, {operand(2), operand(0), operand(1)}));
    }
    case Op::fround_:
    case Op::v_fround_: {
      if (f.round == Round::Away) return nullptr;
      constexpr unsigned kImm[8] = {0, 2, 1, 3, 4, 4, 4, 4};  // by Round
      const unsigned imm = kImm[static_cast<unsigned>(f.round)] | (f.exact ? 0 : 8);
      const std::string text = "vround" + suffix(type->getScalarSizeInBits() == 64) + " $$" + std::to_string(imm) +
                               (vector ? ", $1, $0" : ", $1, $1, $0");
      return result(strict_asm(text.c_str(), "=x,x", type, {operand(0)}));
    }
    case Op::f_to_int_: {
      const bool from64 = arg_type(inst, 0) == Type::F64;
      const std::string text = std::string(f.round == Round::Zero ? "vcvtts" : "vcvts") + (from64 ? "d" : "s") + "2si $1, $0";
      return strict_asm(text.c_str(), "=r,x", llvm_type(inst.type), {arg(inst, 0)});
    }
    case Op::v_f_to_int_: {
      const char* cvt = f.round == Round::Zero ? "vcvtt" : "vcvt";
      if (type->getScalarSizeInBits() == 32)
        return result(strict_asm((cvt + std::string("ps2dq $1, $0")).c_str(), "=x,x",
                                 llvm::VectorType::getInteger(llvm::cast<llvm::VectorType>(type)), {operand(0)}));
      LValue a = operand(0), r = llvm::PoisonValue::get(llvm::VectorType::getInteger(llvm::cast<llvm::VectorType>(type)));
      for (u64 i = 0; i < 2; ++i) {
        LValue lane =
            strict_asm((cvt + std::string("sd2si $1, $0")).c_str(), "=r,x", b_.getInt64Ty(), {b_.CreateExtractElement(a, i)});
        r = b_.CreateInsertElement(r, lane, i);
      }
      return result(r);
    }
    default: return nullptr;
  }
}

}  // namespace kiln::jit
