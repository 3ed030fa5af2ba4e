// Floating point, scalar and vector. MXCSR is the guest's own environment while generated code runs, so every op that rounds or
// raises flags is a constrained intrinsic (round.dynamic, fpexcept.strict). The host's NaN payloads differ from the guest's
// only when a result is NaN: a NaN result branches to a cold block that evaluates the op again through ir::eval_pure.
#include <llvm/IR/InlineAsm.h>
#include <llvm/Support/raw_ostream.h>

#include <bit>
#include <cmath>
#include <optional>

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

/// Host instructions on vector registers that read or raise bits of MXCSR.
llvm::Value* RegionLowering::strict_asm(const char* text, const char* constraints, llvm::Type* result,
                                        std::initializer_list<LValue> args) {
  std::vector<llvm::Type*> types;
  for (LValue v : args) types.push_back(v->getType());
  auto* code = llvm::InlineAsm::get(llvm::FunctionType::get(result, types, false), text, constraints, true);
  llvm::CallInst* call = b_.CreateCall(code, llvm::ArrayRef<LValue>(args.begin(), args.size()));
  call->setDoesNotThrow();
  call->addFnAttr(llvm::Attribute::WillReturn);
  call->setMemoryEffects(llvm::MemoryEffects::inaccessibleMemOnly());
  return call;
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
  LValue nan = any_lane(strict_compare(result, result, "uno", false));
  if (inst.type == Type::V128) result = b_.CreateBitCast(result, llvm_type(Type::V128));
  return eval_cold(inst, nan, [&] { return result; });
}

/// The bits without the sign: DAZ would make denormals zero in a comparison of numbers. (By `and`: InstCombine of LLVM 19
/// crashes on lanes that are doubled and compared with zero.)
llvm::Value* RegionLowering::magnitude(LValue x) {
  const unsigned width = x->getType()->getScalarSizeInBits();
  auto* bits = x->getType()->getWithNewType(b_.getIntNTy(width));
  return b_.CreateAnd(b_.CreateBitCast(x, bits), llvm::ConstantInt::get(bits, mask_low(width - 1)));
}
/// Lane-wise: 0 < |x| <= the number with these bits.
llvm::Value* RegionLowering::tiny(LValue x, u64 limit) {
  LValue image = magnitude(x);
  auto* type = image->getType();
  return b_.CreateICmpULT(b_.CreateSub(image, llvm::ConstantInt::get(type, 1)), llvm::ConstantInt::get(type, limit));
}
/// Bits of the least normal number of the type.
static u64 least_normal(llvm::Type* type) { return u64{1} << (type->getScalarSizeInBits() == 64 ? 52 : 23); }

/// Must the result be computed again as FpOp.underflow says? An i1, or null: never. `precise`: else for any zero of a product
/// too.
llvm::Value* RegionLowering::underflow_condition(const Inst& inst, LValue result, bool precise) {
  if (inst.op == Op::fflush_ || inst.op == Op::v_fflush_) {
    if (inst.op == Op::v_fflush_) result = b_.CreateBitCast(result, float_lanes(inst));
    return any_lane(tiny(result, least_normal(result->getType())));
  }
  const Underflow underflow = FpOp::unpack(inst.aux).underflow;
  if (underflow == Underflow::Host || !may_be_tiny(inst)) return nullptr;
  const bool vector = inst.type == Type::V128, narrows = inst.op == Op::fcvt_ || inst.op == Op::v_fnarrow_;
  if (vector) result = b_.CreateBitCast(result, float_lanes(inst));
  const u64 least = least_normal(result->getType());
  if (underflow == Underflow::Exact) {
    if (!may_be_tiny_and_inexact(inst)) return nullptr;
    LValue image = magnitude(result);
    return any_lane(b_.CreateICmpEQ(image, llvm::ConstantInt::get(image->getType(), least)));
  }
  const auto operand = [&](unsigned i) { return vector ? b_.CreateBitCast(arg(inst, i), result->getType()) : arg(inst, i); };
  if (narrows) {  // by the operand: 0 < |a| <= 2^-126
    LValue a = arg(inst, 0);
    if (vector) a = b_.CreateBitCast(a, llvm::FixedVectorType::get(b_.getDoubleTy(), 2));
    return any_lane(tiny(a, u64{1023 - 126} << 52));
  }
  if (!precise && may_be_tiny_and_inexact(inst)) {
    LValue image = magnitude(result);
    return any_lane(b_.CreateICmpULT(image, llvm::ConstantInt::get(image->getType(), least + 1)));
  }
  LValue condition = tiny(result, least);
  if (may_be_tiny_and_inexact(inst)) {  // zero, but not of zeros
    const auto is_zero = [&](LValue x) {
      LValue image = magnitude(x);
      return b_.CreateICmpEQ(image, llvm::ConstantInt::get(image->getType(), 0));
    };
    LValue exact = is_zero(operand(0));
    if (inst.op != Op::fdiv_ && inst.op != Op::v_fdiv_) exact = b_.CreateOr(exact, is_zero(operand(1)));
    condition = b_.CreateOr(condition, b_.CreateAnd(is_zero(result), b_.CreateNot(exact)));
  }
  return any_lane(condition);
}

namespace {
struct Rounding {
  llvm::Intrinsic::ID id;
  bool rounds;  // by MXCSR
};
/// Round-to-integral. Only rint raises Inexact; the other x86 forms suppress it, as A64's do unless FRINTX is asked for.
std::optional<Rounding> rounding(const FpOp& f) {
  using namespace llvm;
  if (f.exact && f.round != Round::Dynamic) return {};
  switch (f.round) {
    case Round::Dynamic:
      return Rounding{f.exact ? Intrinsic::experimental_constrained_rint : Intrinsic::experimental_constrained_nearbyint, true};
    case Round::Nearest: return Rounding{Intrinsic::experimental_constrained_roundeven, false};
    case Round::Up: return Rounding{Intrinsic::experimental_constrained_ceil, false};
    case Round::Down: return Rounding{Intrinsic::experimental_constrained_floor, false};
    case Round::Zero: return Rounding{Intrinsic::experimental_constrained_trunc, false};
    default: return {};
  }
}
}  // namespace

/// Is any lane of a vector of i1 set? A scalar i1 stays as it is.
llvm::Value* RegionLowering::any_lane(LValue mask) {
  auto* lanes = llvm::dyn_cast<llvm::FixedVectorType>(mask->getType());
  if (!lanes) return mask;
  auto* bits = b_.getIntNTy(lanes->getNumElements());
  return b_.CreateICmpNE(b_.CreateBitCast(mask, bits), llvm::ConstantInt::get(bits, 0));
}

/// X86 selects cvttsd2si and its kin, which give MIN and raise Invalid for what does not fit. There is none for lanes of 64
/// bits.
llvm::Value* RegionLowering::truncate_to_int(LValue a, llvm::Type* type) {
  const auto id = llvm::Intrinsic::experimental_constrained_fptosi;
  auto* lanes = llvm::dyn_cast<llvm::FixedVectorType>(type);
  if (!lanes || lanes->getScalarSizeInBits() == 32) return strict(id, type, {a}, false);
  LValue r = llvm::PoisonValue::get(type);
  for (u64 i = 0; i < lanes->getNumElements(); ++i)
    r = b_.CreateInsertElement(r, strict(id, lanes->getElementType(), {b_.CreateExtractElement(a, i)}, false), i);
  return r;
}

/// Scalar and lane-wise; `a` is the operand as floating point. Null if there is no code for the rounding.
llvm::Value* RegionLowering::lower_f_to_int(const Inst& inst, LValue a) {
  const FpOp f = FpOp::unpack(inst.aux);
  const std::optional<Rounding> way = rounding({.round = f.round});
  if (!way) return nullptr;
  const bool vector = inst.type == Type::V128, from64 = a->getType()->getScalarSizeInBits() == 64;
  auto* bits = a->getType()->getWithNewType(b_.getIntNTy(from64 ? 64 : 32));
  auto* type = vector ? bits : llvm_type(inst.type);
  const bool to64 = type->getScalarSizeInBits() == 64;
  auto whole_register = [&](LValue v) { return vector ? b_.CreateBitCast(v, llvm_type(Type::V128)) : v; };
  if (f.round == Round::Zero && !f.is_unsigned && inst.imm == 0) {
    LValue r = truncate_to_int(a, type);
    LValue suspicious = b_.CreateICmpEQ(r, llvm::ConstantInt::get(type, to64 ? u64{1} << 63 : u64{1} << 31));
    return eval_cold(inst, any_lane(suspicious), [&] { return whole_register(r); });
  }
  // Everything else looks at the operand first, so that no step raises a flag that the guest would not raise. The greatest
  // magnitude that goes the quick way is the greatest below 2^exponent or, if the format has more bits than the integer,
  // 2^exponent - 1: no rounding leaves the range.
  auto* convert_to = f.is_unsigned && !vector ? b_.getInt64Ty() : type;
  const int fraction = static_cast<int>(inst.imm);
  const int exponent = (to64 ? 63 : f.is_unsigned && !vector ? 32 : 31);
  u64 limit;
  if (from64 && !to64) limit = std::bit_cast<u64>(static_cast<double>((u64{1} << exponent) - 1)) - (inst.imm << 52);
  else
    limit =
        (from64 ? static_cast<u64>(1023 + exponent - fraction) << 52 : static_cast<u64>(127 + exponent - fraction) << 23) - 1;
  LValue image = b_.CreateBitCast(a, bits);
  LValue beyond;
  auto* most = llvm::ConstantInt::get(bits, limit);
  if (!f.is_unsigned) {
    beyond = b_.CreateICmpSGT(b_.CreateAnd(image, llvm::ConstantInt::get(bits, mask_low(from64 ? 63 : 31))), most);
  } else if (vector) {
    beyond = b_.CreateOr(b_.CreateICmpSGT(image, most), b_.CreateIsNeg(image));
  } else {
    beyond = b_.CreateICmpUGT(image, most);
  }
  return eval_cold(inst, any_lane(beyond), [&] {
    LValue x = a;
    if (fraction)
      x = strict(llvm::Intrinsic::experimental_constrained_fmul, a->getType(),
                 {a, llvm::ConstantFP::get(a->getType(), std::ldexp(1.0, fraction))}, true);
    if (f.round == Round::Zero) return whole_register(b_.CreateTrunc(truncate_to_int(x, convert_to), type));
    LValue r = truncate_to_int(strict(way->id, a->getType(), {x}, way->rounds), convert_to);
    truncate_to_int(x, convert_to);  // raises Inexact for a fraction
    return whole_register(b_.CreateTrunc(r, type));
  });
}

/// One asm: both orders, which differ in nothing but the sign of a zero, and the two combined.
llvm::Value* RegionLowering::lower_min_max(const Inst& inst, LValue a, LValue b) {
  const bool is_max = inst.op == Op::fmax_ || inst.op == Op::fmaxnm_ || inst.op == Op::v_fmax_ || inst.op == Op::v_fmaxnm_;
  auto* type = a->getType();
  const bool is64 = type->getScalarSizeInBits() == 64;
  // minsd & co. raise Invalid for quiet NaNs, so NaNs go out of line before.
  return eval_cold(inst, any_lane(strict_compare(a, b, "uno", false)), [&] {
    const std::string suffix = std::string(type->isVectorTy() ? "p" : "s") + (is64 ? "d" : "s");
    const std::string mnemonic = (is_max ? "vmax" : "vmin") + suffix;
    const std::string text =
        mnemonic + " $3, $2, $0\n" + mnemonic + " $2, $3, $1\n" + (is_max ? "vandps" : "vorps") + " $1, $0, $0";
    LValue pair = strict_asm(text.c_str(), "=&x,=&x,x,x", llvm::StructType::get(context_, {type, type}), {a, b});
    LValue r = b_.CreateExtractValue(pair, 0);
    return inst.type == Type::V128 ? b_.CreateBitCast(r, llvm_type(Type::V128)) : r;
  });
}

/// Lane-wise, to floating-point lanes of the same width.
llvm::Value* RegionLowering::lower_v_int_to_f(const Inst& inst, llvm::FixedVectorType* type) {
  const auto sitofp = llvm::Intrinsic::experimental_constrained_sitofp;
  const bool is_unsigned = FpOp::unpack(inst.aux).is_unsigned;
  auto* v128 = llvm_type(Type::V128);
  LValue a = b_.CreateBitCast(arg(inst, 0), llvm::VectorType::getInteger(type));
  if (type->getScalarSizeInBits() == 32) {
    if (!is_unsigned) return b_.CreateBitCast(strict(sitofp, type, {a}, true), v128);
    // Halves: both conversions and the product are exact, only the sum rounds.
    LValue high = strict(sitofp, type, {b_.CreateLShr(a, 16)}, true);
    LValue low = strict(sitofp, type, {b_.CreateAnd(a, 0xffff)}, true);
    high = strict(llvm::Intrinsic::experimental_constrained_fmul, type, {high, llvm::ConstantFP::get(type, 65536.0)}, true);
    return b_.CreateBitCast(strict(llvm::Intrinsic::experimental_constrained_fadd, type, {high, low}, true), v128);
  }
  auto convert = [&]() -> LValue {
    LValue r = llvm::PoisonValue::get(type);
    for (u64 i = 0; i < 2; ++i)
      r = b_.CreateInsertElement(r, strict(sitofp, type->getElementType(), {b_.CreateExtractElement(a, i)}, true), i);
    return b_.CreateBitCast(r, v128);
  };
  return is_unsigned ? eval_cold(inst, any_lane(b_.CreateIsNeg(a)), convert) : convert();
}

llvm::Value* RegionLowering::lower_float(const Inst& inst) {
  using namespace llvm;
  const FpOp f = FpOp::unpack(inst.aux);
  if (f.nan == NanRule::X86)
    if (LValue bare = lower_float_x86(inst)) return bare;
  if (inst.type != Type::V128 && f.underflow == Underflow::FlushFirst && may_be_tiny_and_inexact(inst))
    return eval_scalar(inst);
  LValue a = inst.args[0] != kNoValue ? arg(inst, 0) : nullptr;
  LValue b = inst.args[1] != kNoValue ? arg(inst, 1) : nullptr;
  auto arithmetic = [&](Intrinsic::ID id) { return strict(id, a->getType(), {a, b}, true); };
  const bool signalling = (inst.aux & 1) != 0;
  switch (inst.op) {
    // NaN results of these, and fflush: nan_checks.cpp.
    case Op::fadd_: return arithmetic(Intrinsic::experimental_constrained_fadd);
    case Op::fsub_: return arithmetic(Intrinsic::experimental_constrained_fsub);
    case Op::fmul_: return arithmetic(Intrinsic::experimental_constrained_fmul);
    case Op::fdiv_: return arithmetic(Intrinsic::experimental_constrained_fdiv);
    case Op::fsqrt_: return strict(Intrinsic::experimental_constrained_sqrt, a->getType(), {a}, true);
    case Op::fma_: return strict(Intrinsic::experimental_constrained_fma, a->getType(), {a, b, arg(inst, 2)}, true);
    case Op::fneg_: return b_.CreateFNeg(a);
    case Op::fabs_: return b_.CreateUnaryIntrinsic(Intrinsic::fabs, a);
    case Op::fmin_:
    case Op::fmax_:
    case Op::fminnm_:
    case Op::fmaxnm_: return lower_min_max(inst, a, b);
    case Op::fround_: {
      const std::optional<Rounding> way = rounding(f);
      if (!way) return eval_scalar(inst);
      LValue r = strict(way->id, a->getType(), {a}, way->rounds);
      return f.nan == NanRule::ArmDefault ? fix_nan(inst, r) : r;
    }
    case Op::fcvt_: {
      if (a->getType() == llvm_type(inst.type)) return nullptr;
      // Narrowing as asm: LLVM 19 selects a constrained fptrunc that goes into a vector as VCVTSD2SSrr_Int, which has no chain,
      // and moves it over guest accesses.
      LValue r = inst.type == Type::F64 ? strict(Intrinsic::experimental_constrained_fpext, llvm_type(inst.type), {a}, false)
                                        : strict_asm("vcvtsd2ss $1, $1, $0", "=x,x", llvm_type(inst.type), {a});
      // The host quiets and keeps the payload as A64 does.
      if (LValue again = underflow_condition(inst, r, true)) r = eval_cold(inst, again, [&] { return r; });
      return f.nan == NanRule::ArmDefault ? fix_nan(inst, r) : r;
    }
    case Op::f_to_int_: {
      LValue r = lower_f_to_int(inst, a);
      return r ? r : eval_scalar(inst);
    }
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

llvm::FixedVectorType* RegionLowering::float_lanes(const Inst& inst) {
  const Width lane = static_cast<Width>(inst.lane);
  if (lane != Width::B4 && lane != Width::B8) return nullptr;
  return llvm::FixedVectorType::get(lane == Width::B8 ? b_.getDoubleTy() : b_.getFloatTy(), lane == Width::B8 ? 2 : 4);
}

llvm::Value* RegionLowering::lower_vector_float(const Inst& inst) {
  using namespace llvm;
  auto* type = float_lanes(inst);
  if (!type) return nullptr;
  if (FpOp::unpack(inst.aux).nan == NanRule::X86)
    if (LValue bare = lower_float_x86(inst)) return bare;
  if (FpOp::unpack(inst.aux).underflow == Underflow::FlushFirst && may_be_tiny_and_inexact(inst)) return eval_any(inst);
  auto* v128 = llvm_type(Type::V128);
  auto operand = [&](unsigned i) { return b_.CreateBitCast(arg(inst, i), type); };
  auto binary = [&](Intrinsic::ID id) { return b_.CreateBitCast(strict(id, type, {operand(0), operand(1)}, true), v128); };
  auto compare = [&](const char* predicate, bool signalling) {
    LValue mask = strict_compare(operand(0), operand(1), predicate, signalling);
    return b_.CreateBitCast(b_.CreateSExt(mask, VectorType::getInteger(type)), v128);
  };
  switch (inst.op) {
    case Op::v_fadd_: return binary(Intrinsic::experimental_constrained_fadd);
    case Op::v_fsub_: return binary(Intrinsic::experimental_constrained_fsub);
    case Op::v_fmul_: return binary(Intrinsic::experimental_constrained_fmul);
    case Op::v_fdiv_: return binary(Intrinsic::experimental_constrained_fdiv);
    case Op::v_fsqrt_:
      return b_.CreateBitCast(strict(Intrinsic::experimental_constrained_sqrt, type, {operand(0)}, true), v128);
    case Op::v_fma_: {
      LValue r = strict(Intrinsic::experimental_constrained_fma, type, {operand(0), operand(1), operand(2)}, true);
      return b_.CreateBitCast(r, v128);
    }
    case Op::v_fmin_:
    case Op::v_fmax_:
    case Op::v_fminnm_:
    case Op::v_fmaxnm_: return lower_min_max(inst, operand(0), operand(1));
    case Op::v_fround_: {
      const FpOp f = FpOp::unpack(inst.aux);
      const std::optional<Rounding> way = rounding(f);
      if (!way) return nullptr;
      LValue r = strict(way->id, type, {operand(0)}, way->rounds);
      return f.nan == NanRule::ArmDefault ? fix_nan(inst, r) : b_.CreateBitCast(r, v128);
    }
    case Op::v_f_to_int_: return lower_f_to_int(inst, operand(0));
    case Op::v_int_to_f_: return lower_v_int_to_f(inst, type);
    // As asm: the constrained intrinsics on <2 x float> do not always get through LLVM 19's instruction selection.
    case Op::v_fwiden_:
    case Op::v_fnarrow_: {
      auto* narrow = FixedVectorType::get(b_.getFloatTy(), 4);
      auto* wide = FixedVectorType::get(b_.getDoubleTy(), 2);
      const bool widens = inst.op == Op::v_fwiden_;
      LValue a = b_.CreateBitCast(arg(inst, 0), widens ? narrow : wide);
      LValue r = strict_asm(widens ? "vcvtps2pd $1, $0" : "vcvtpd2ps $1, $0", "=x,x", widens ? wide : narrow, {a});
      if (LValue again = underflow_condition(inst, r, true))
        r = b_.CreateBitCast(eval_cold(inst, again, [&] { return b_.CreateBitCast(r, v128); }), r->getType());
      return FpOp::unpack(inst.aux).nan == NanRule::ArmDefault ? fix_nan(inst, r) : b_.CreateBitCast(r, v128);
    }
    case Op::v_fneg_: return b_.CreateBitCast(b_.CreateFNeg(operand(0)), v128);
    case Op::v_fabs_: return b_.CreateBitCast(b_.CreateUnaryIntrinsic(Intrinsic::fabs, operand(0)), v128);
    case Op::v_fcmp_: {
      const std::string text =
          (type->getScalarSizeInBits() == 64 ? "vcmppd $$" : "vcmpps $$") + std::to_string(inst.imm & 31) + ", $2, $1, $0";
      return b_.CreateBitCast(strict_asm(text.c_str(), "=x,x,x", type, {operand(0), operand(1)}), v128);
    }
    case Op::v_fcmpeq_: return compare("oeq", false);
    case Op::v_fcmpgt_: return compare("ogt", true);
    case Op::v_fcmpge_: return compare("oge", true);
    default: return nullptr;
  }
}

}  // namespace kiln::jit
