// Floating point, scalar and vector. MXCSR is the guest's own environment while generated code runs, so every op that rounds or
// raises flags is a constrained intrinsic (round.dynamic, fpexcept.strict). The host's NaN payloads differ from the guest's
// only when a result is NaN: a NaN result branches to a cold block that evaluates the op again through ir::eval_pure.
#include <llvm/Support/raw_ostream.h>

#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

namespace {
llvm::Value* metadata_string(llvm::LLVMContext& context, const char* text) {
  return llvm::MetadataAsValue::get(context, llvm::MDString::get(context, text));
}
}  // namespace

// While LLVM's IR passes run, an op is a call of a function that they know nothing of; expand_strict() puts the constrained
// intrinsic in its place. They would fold the intrinsic when its operands are constant and the result exact, and that is wrong
// for the sign of a zero sum (rounding) and for denormals (flush modes).
llvm::CallInst* RegionLowering::strict_call(StrictOp op, llvm::Type* result, llvm::ArrayRef<LValue> args) {
  std::string name = "kiln.fp." + std::to_string(op.id) + (op.predicate ? op.predicate : "");
  std::vector<llvm::Type*> types;
  llvm::raw_string_ostream stream(name);
  stream << '.' << *result;
  for (LValue v : args) {
    types.push_back(v->getType());
    stream << '.' << *v->getType();
  }
  llvm::Function* function = module_.getFunction(name);
  if (!function) {
    auto* type = llvm::FunctionType::get(result, types, false);
    function = llvm::Function::Create(type, llvm::Function::ExternalLinkage, name, module_);
    function->setDoesNotThrow();
    function->setWillReturn();
    function->setNoSync();
    function->setMemoryEffects(llvm::MemoryEffects::inaccessibleMemOnly());
    op.placeholder = function;
    strict_ops_.push_back(op);
  }
  return b_.CreateCall(function, args);
}

void RegionLowering::expand_strict() {
  for (const StrictOp& op : strict_ops_) {
    std::vector<llvm::Type*> overloads;
    auto* type = op.placeholder->getFunctionType();
    if (!op.predicate) overloads.push_back(type->getReturnType());
    // Conversions are overloaded on both types, compares on the operands'.
    if (op.predicate || type->getParamType(0) != type->getReturnType()) overloads.push_back(type->getParamType(0));
    llvm::Function* intrinsic = llvm::Intrinsic::getDeclaration(&module_, op.id, overloads);
    while (!op.placeholder->use_empty()) {
      auto* call = llvm::cast<llvm::CallInst>(*op.placeholder->user_begin());
      std::vector<LValue> args(call->arg_begin(), call->arg_end());
      if (op.predicate) args.push_back(metadata_string(context_, op.predicate));
      if (op.rounds) args.push_back(metadata_string(context_, "round.dynamic"));
      args.push_back(metadata_string(context_, "fpexcept.strict"));
      llvm::CallInst* real = llvm::CallInst::Create(intrinsic, args, "", call->getIterator());
      real->addFnAttr(llvm::Attribute::StrictFP);
      call->replaceAllUsesWith(real);
      call->eraseFromParent();
    }
    op.placeholder->eraseFromParent();
  }
  strict_ops_.clear();
}

llvm::Value* RegionLowering::strict(llvm::Intrinsic::ID id, llvm::Type* type, std::initializer_list<LValue> args, bool rounds) {
  return strict_call({.id = id, .rounds = rounds}, type, {args.begin(), args.size()});
}

llvm::Value* RegionLowering::strict_compare(LValue a, LValue b, const char* predicate, bool signalling) {
  const auto id = signalling ? llvm::Intrinsic::experimental_constrained_fcmps : llvm::Intrinsic::experimental_constrained_fcmp;
  return strict_call({.id = id, .predicate = predicate}, llvm::CmpInst::makeCmpResultType(a->getType()), {a, b});
}

llvm::Value* RegionLowering::eval_cold(const Inst& inst, LValue condition, llvm::function_ref<LValue()> fast) {
  llvm::BasicBlock* cold = cold_branch(condition, "eval");
  LValue quick = fast();
  llvm::BasicBlock* fast_end = b_.GetInsertBlock();
  llvm::BasicBlock* join = new_block("");
  b_.CreateBr(join);
  b_.SetInsertPoint(cold);
  LValue exact = inst.type == Type::V128 ? eval_any(inst) : eval_scalar(inst);
  llvm::BasicBlock* cold_end = b_.GetInsertBlock();
  b_.CreateBr(join);
  b_.SetInsertPoint(join);
  llvm::PHINode* phi = b_.CreatePHI(exact->getType(), 2);
  phi->addIncoming(quick, fast_end);
  phi->addIncoming(exact, cold_end);
  return phi;
}

llvm::Value* RegionLowering::fix_nan(const Inst& inst, LValue result) {
  LValue nan = strict_compare(result, result, "uno", false);
  if (inst.type == Type::V128) {
    auto* lanes = llvm::cast<llvm::FixedVectorType>(nan->getType());
    nan = b_.CreateICmpNE(b_.CreateBitCast(nan, b_.getIntNTy(lanes->getNumElements())), b_.getIntN(lanes->getNumElements(), 0));
    result = b_.CreateBitCast(result, llvm_type(Type::V128));
  }
  return eval_cold(inst, nan, [&] { return result; });
}

llvm::Value* RegionLowering::lower_f_to_int(const Inst& inst) {
  const FpOp f = FpOp::unpack(inst.aux);
  LValue a = arg(inst, 0);
  if (f.round != Round::Zero) return eval_scalar(inst);
  const bool is64 = inst.type == Type::I64;
  // X86 selects cvttsd2si and its kin, which give MIN and raise Invalid for what does not fit.
  auto convert = [&](bool to64) {
    return strict(llvm::Intrinsic::experimental_constrained_fptosi, to64 ? b_.getInt64Ty() : b_.getInt32Ty(), {a}, false);
  };
  if (!f.is_unsigned) {
    LValue r = convert(is64);
    LValue suspicious = b_.CreateICmpEQ(r, constant(inst.type, is64 ? u64{1} << 63 : u64{1} << 31));
    return eval_cold(inst, suspicious, [&] { return r; });
  }
  // Unsigned: only values in (-1, limit) are converted by the host, as a signed 64-bit number, so that no flag is raised that
  // the guest would not raise. The comparisons are false for NaN.
  LValue low = strict_compare(a, llvm::ConstantFP::get(a->getType(), -1.0), "ogt", false);
  LValue high =
      strict_compare(a, llvm::ConstantFP::get(a->getType(), is64 ? 9223372036854775808.0 : 4294967296.0), "olt", false);
  return eval_cold(inst, b_.CreateNot(b_.CreateAnd(low, high)), [&] {
    LValue r = convert(true);
    return is64 ? r : b_.CreateTrunc(r, b_.getInt32Ty());
  });
}

llvm::Value* RegionLowering::lower_min_max(const Inst& inst) {
  LValue a = arg(inst, 0), b = arg(inst, 1);
  const bool is_max = inst.op == Op::fmax_ || inst.op == Op::fmaxnm_;
  // minsd & co. raise Invalid for quiet NaNs and do not order the zeros, so: NaNs go out of line, equal operands (which differ
  // in nothing but the sign of zero) are combined bitwise, the rest is a quiet compare and a choice. The multiplication flushes
  // a denormal operand if the guest wants that, and changes nothing otherwise.
  return eval_cold(inst, strict_compare(a, b, "uno", false), [&] {
    auto* bits = b_.getIntNTy(type_bits(inst.type));
    LValue x = b_.CreateBitCast(a, bits), y = b_.CreateBitCast(b, bits);
    LValue equal = b_.CreateBitCast(is_max ? b_.CreateAnd(x, y) : b_.CreateOr(x, y), a->getType());
    LValue first = strict_compare(a, b, is_max ? "ogt" : "olt", false);
    LValue chosen = b_.CreateSelect(strict_compare(a, b, "oeq", false), equal, b_.CreateSelect(first, a, b));
    LValue one = llvm::ConstantFP::get(a->getType(), 1.0);
    return strict(llvm::Intrinsic::experimental_constrained_fmul, a->getType(), {chosen, one}, true);
  });
}

llvm::Value* RegionLowering::lower_float(const Inst& inst) {
  using namespace llvm;
  const FpOp f = FpOp::unpack(inst.aux);
  LValue a = inst.args[0] != kNoValue ? arg(inst, 0) : nullptr;
  LValue b = inst.args[1] != kNoValue ? arg(inst, 1) : nullptr;
  auto arithmetic = [&](Intrinsic::ID id) { return fix_nan(inst, strict(id, a->getType(), {a, b}, true)); };
  const bool signalling = (inst.aux & 1) != 0;
  switch (inst.op) {
    case Op::fadd_: return arithmetic(Intrinsic::experimental_constrained_fadd);
    case Op::fsub_: return arithmetic(Intrinsic::experimental_constrained_fsub);
    case Op::fmul_: return arithmetic(Intrinsic::experimental_constrained_fmul);
    case Op::fdiv_: return arithmetic(Intrinsic::experimental_constrained_fdiv);
    case Op::fsqrt_: return fix_nan(inst, strict(Intrinsic::experimental_constrained_sqrt, a->getType(), {a}, true));
    case Op::fma_:
      return fix_nan(inst, strict(Intrinsic::experimental_constrained_fma, a->getType(), {a, b, arg(inst, 2)}, true));
    case Op::fneg_: return b_.CreateFNeg(a);
    case Op::fabs_: return b_.CreateUnaryIntrinsic(Intrinsic::fabs, a);
    case Op::fmin_:
    case Op::fmax_:
    case Op::fminnm_:
    case Op::fmaxnm_: return lower_min_max(inst);
    case Op::fround_: {
      Intrinsic::ID id = Intrinsic::experimental_constrained_rint;
      bool rounds = false;
      // Only rint raises Inexact; the other x86 forms suppress it, as A64's do unless FRINTX is asked for.
      if (f.exact && f.round != Round::Dynamic) return eval_scalar(inst);
      switch (f.round) {
        case Round::Dynamic:
          id = f.exact ? Intrinsic::experimental_constrained_rint : Intrinsic::experimental_constrained_nearbyint;
          rounds = true;
          break;
        case Round::Nearest: id = Intrinsic::experimental_constrained_roundeven; break;
        case Round::Up: id = Intrinsic::experimental_constrained_ceil; break;
        case Round::Down: id = Intrinsic::experimental_constrained_floor; break;
        case Round::Zero: id = Intrinsic::experimental_constrained_trunc; break;
        default: return eval_scalar(inst);
      }
      LValue r = strict(id, a->getType(), {a}, rounds);
      return f.nan == NanRule::ArmDefault ? fix_nan(inst, r) : r;
    }
    case Op::fcvt_: {
      if (a->getType() == llvm_type(inst.type)) return nullptr;
      const bool extend = inst.type == Type::F64;
      LValue r = strict(extend ? Intrinsic::experimental_constrained_fpext : Intrinsic::experimental_constrained_fptrunc,
                        llvm_type(inst.type), {a}, !extend);
      // The host quiets and keeps the payload as A64 does.
      return f.nan == NanRule::ArmDefault ? fix_nan(inst, r) : r;
    }
    case Op::f_to_int_: return lower_f_to_int(inst);
    case Op::int_to_f_: {
      if (f.round != Round::Dynamic) return eval_scalar(inst);
      auto* type = llvm_type(inst.type);
      const bool from64 = arg_type(inst, 0) == Type::I64;
      if (!f.is_unsigned) return strict(Intrinsic::experimental_constrained_sitofp, type, {a}, true);
      if (!from64) return strict(Intrinsic::experimental_constrained_sitofp, type, {b_.CreateZExt(a, b_.getInt64Ty())}, true);
      // The upper half of the range is halved with a sticky low bit; doubling back is exact in every rounding mode.
      LValue large = b_.CreateIsNeg(a);
      LValue halved = b_.CreateOr(b_.CreateLShr(a, 1), b_.CreateAnd(a, b_.getInt64(1)));
      LValue r = strict(Intrinsic::experimental_constrained_sitofp, type, {b_.CreateSelect(large, halved, a)}, true);
      LValue doubled = strict(Intrinsic::experimental_constrained_fadd, type, {r, r}, true);
      return b_.CreateSelect(large, doubled, r);
    }
    case Op::fcmp_eq_: return strict_compare(a, b, "oeq", signalling);
    case Op::fcmp_lt_: return strict_compare(a, b, "olt", signalling);
    case Op::fcmp_le_: return strict_compare(a, b, "ole", signalling);
    case Op::fcmp_unord_: return strict_compare(a, b, "uno", signalling);
    case Op::bitcast_: return b_.CreateBitCast(a, llvm_type(inst.type));
    case Op::v_to_f_: {
      auto* lanes = FixedVectorType::get(llvm_type(inst.type), inst.type == Type::F64 ? 2 : 4);
      return b_.CreateExtractElement(b_.CreateBitCast(a, lanes), u64{0});
    }
    case Op::f_to_v_: {
      auto* lanes = FixedVectorType::get(a->getType(), a->getType()->isDoubleTy() ? 2 : 4);
      return b_.CreateBitCast(b_.CreateInsertElement(ConstantAggregateZero::get(lanes), a, u64{0}), llvm_type(Type::V128));
    }
    default: return nullptr;
  }
}

llvm::Value* RegionLowering::lower_vector_float(const Inst& inst) {
  using namespace llvm;
  const Width lane = static_cast<Width>(inst.lane);
  if (lane != Width::B4 && lane != Width::B8) return nullptr;
  auto* element = lane == Width::B8 ? b_.getDoubleTy() : b_.getFloatTy();
  auto* type = FixedVectorType::get(element, lane == Width::B8 ? 2 : 4);
  auto* v128 = llvm_type(Type::V128);
  auto operand = [&](unsigned i) { return b_.CreateBitCast(arg(inst, i), type); };
  auto binary = [&](Intrinsic::ID id) { return fix_nan(inst, strict(id, type, {operand(0), operand(1)}, true)); };
  auto compare = [&](const char* predicate, bool signalling) {
    LValue mask = strict_compare(operand(0), operand(1), predicate, signalling);
    return b_.CreateBitCast(b_.CreateSExt(mask, VectorType::getInteger(type)), v128);
  };
  switch (inst.op) {
    case Op::v_fadd_: return binary(Intrinsic::experimental_constrained_fadd);
    case Op::v_fsub_: return binary(Intrinsic::experimental_constrained_fsub);
    case Op::v_fmul_: return binary(Intrinsic::experimental_constrained_fmul);
    case Op::v_fdiv_: return binary(Intrinsic::experimental_constrained_fdiv);
    case Op::v_fsqrt_: return fix_nan(inst, strict(Intrinsic::experimental_constrained_sqrt, type, {operand(0)}, true));
    case Op::v_fma_:
      return fix_nan(inst, strict(Intrinsic::experimental_constrained_fma, type, {operand(0), operand(1), operand(2)}, true));
    case Op::v_fneg_: return b_.CreateBitCast(b_.CreateFNeg(operand(0)), v128);
    case Op::v_fabs_: return b_.CreateBitCast(b_.CreateUnaryIntrinsic(Intrinsic::fabs, operand(0)), v128);
    case Op::v_fcmpeq_: return compare("oeq", false);
    case Op::v_fcmpgt_: return compare("ogt", true);
    case Op::v_fcmpge_: return compare("oge", true);
    default: return nullptr;
  }
}

}  // namespace kiln::jit
