// x86's flags: single bits, conditions and images of operands cut to the operation's width.
#include <llvm/IR/InlineAsm.h>

#include "ir/flags.h"
#include "ir/semantics.h"
#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

namespace {
bool has_two_operands(FlagsKind kind) {
  const FlagsKind family = byte_kind(kind);
  return family == FlagsKind::EAdd8 || family == FlagsKind::ESub8;
}
}  // namespace

RegionLowering::X86Flags RegionLowering::x86_flags(FlagsKind kind, LValue a, LValue b) {
  auto* type = b_.getIntNTy(width_bits(width_of(kind)));
  X86Flags flags{.kind = kind, .a = b_.CreateTrunc(a, type)};
  if (has_two_operands(kind)) flags.b = b_.CreateTrunc(b, type);
  else if (byte_kind(kind) == FlagsKind::EResult8) flags.b = b_.CreateTrunc(b, b_.getInt32Ty());
  else if (byte_kind(kind) != FlagsKind::ELogic8) flags.b = b_.CreateTrunc(b, b_.getInt1Ty());  // INC, DEC
  return flags;
}

/// One of kN kZ kC kV kP kA as an i1.
llvm::Value* RegionLowering::x86_flag(const X86Flags& flags, u32 which) {
  const FlagsKind family = byte_kind(flags.kind);
  LValue a = flags.a, b = flags.b;
  const auto result = [&] {
    return family == FlagsKind::EAdd8 ? b_.CreateAdd(a, b) : family == FlagsKind::ESub8 ? b_.CreateSub(a, b) : a;
  };
  switch (which) {
    case kN: return b_.CreateIsNeg(result());
    case kZ: return family == FlagsKind::ESub8 ? b_.CreateICmpEQ(a, b) : b_.CreateIsNull(result());
    case kP: {
      // The code generator knows this one: test and setnp.
      LValue ones = b_.CreateUnaryIntrinsic(llvm::Intrinsic::ctpop, b_.CreateTrunc(result(), b_.getInt8Ty()));
      return b_.CreateNot(b_.CreateTrunc(ones, b_.getInt1Ty()));
    }
    default: break;
  }
  if (family == FlagsKind::ELogic8) return b_.getFalse();
  if (family == FlagsKind::EResult8) return b_.CreateIsNotNull(b_.CreateAnd(b, b_.getInt32(which)));
  if (family == FlagsKind::EInc8 || family == FlagsKind::EDec8) {
    if (which == kC) return b;
    const bool up = family == FlagsKind::EInc8;
    auto* type = llvm::cast<llvm::IntegerType>(a->getType());
    const u64 least = u64{1} << (type->getBitWidth() - 1);
    if (which == kV) return b_.CreateICmpEQ(a, llvm::ConstantInt::get(type, up ? least : least - 1));
    return b_.CreateICmpEQ(b_.CreateAnd(a, llvm::ConstantInt::get(type, 15)), llvm::ConstantInt::get(type, up ? 0 : 15));
  }
  const bool sum = family == FlagsKind::EAdd8;
  switch (which) {
    case kC: return sum ? b_.CreateICmpULT(result(), a) : b_.CreateICmpULT(a, b);
    case kV: {
      const auto id = sum ? llvm::Intrinsic::sadd_with_overflow : llvm::Intrinsic::ssub_with_overflow;
      return b_.CreateExtractValue(b_.CreateBinaryIntrinsic(id, a, b), 1);
    }
    default: {  // kA
      LValue carries = b_.CreateXor(b_.CreateXor(a, b), result());
      return b_.CreateIsNotNull(b_.CreateAnd(carries, llvm::ConstantInt::get(a->getType(), 16)));
    }
  }
}

llvm::Value* RegionLowering::x86_cond(const X86Flags& flags, Cond cond) {
  const auto flag = [&](u32 which) { return x86_flag(flags, which); };
  const u32 number = static_cast<u32>(cond);
  if (number & 1) return b_.CreateNot(x86_cond(flags, static_cast<Cond>(number ^ 1)));
  const bool difference = byte_kind(flags.kind) == FlagsKind::ESub8;
  switch (cond) {
    case Cond::Eq: return flag(kZ);
    case Cond::Cs: return flag(kC);
    case Cond::Mi: return flag(kN);
    case Cond::Vs: return flag(kV);
    case Cond::Pe: return flag(kP);
    case Cond::Hi: return difference ? flag(kC) : b_.CreateAnd(flag(kC), b_.CreateNot(flag(kZ)));
    case Cond::Be: return difference ? b_.CreateICmpULE(flags.a, flags.b) : b_.CreateOr(flag(kC), flag(kZ));
    case Cond::Ge: return difference ? b_.CreateICmpSGE(flags.a, flags.b) : b_.CreateNot(b_.CreateXor(flag(kN), flag(kV)));
    case Cond::Gt:
      if (difference) return b_.CreateICmpSGT(flags.a, flags.b);
      return b_.CreateNot(b_.CreateOr(flag(kZ), b_.CreateXor(flag(kN), flag(kV))));
    default: return b_.getTrue();  // Al
  }
}

llvm::Value* RegionLowering::x86_image(const X86Flags& flags) {
  LValue image = b_.getInt32(0);
  for (const u32 which : {kN, kZ, kC, kV, kP, kA}) {
    LValue bit = b_.CreateZExt(x86_flag(flags, which), b_.getInt32Ty());
    image = b_.CreateOr(image, b_.CreateShl(bit, static_cast<u64>(std::countr_zero(which))));
  }
  return image;
}

llvm::Value* RegionLowering::lower_eimage(const Inst& inst) {
  const Width width = static_cast<Width>(inst.lane);
  switch (inst.op) {
    case Op::eimage_add_: return x86_image(x86_flags(of_width(FlagsKind::EAdd8, width), arg(inst, 0), arg(inst, 1)));
    case Op::eimage_sub_: return x86_image(x86_flags(of_width(FlagsKind::ESub8, width), arg(inst, 0), arg(inst, 1)));
    case Op::eimage_logic_: return x86_image(x86_flags(of_width(FlagsKind::ELogic8, width), arg(inst, 0), nullptr));
    case Op::eimage_fcmp_: {
      // As nzcv_fcmp: the compare raises what there is to raise, the rest is LLVM's to move or drop. lahf is no shorter.
      LValue a = arg(inst, 0), b = arg(inst, 1);
      strict_compare(a, b, "uno", (inst.aux & 1) != 0);
      auto* i32 = b_.getInt32Ty();
      auto* type = llvm::FunctionType::get(llvm::StructType::get(context_, {i32, i32}), {a->getType(), a->getType()}, false);
      const std::string text = std::string(a->getType()->isDoubleTy() ? "vucomisd" : "vucomiss") +
                               " $3, $2\nmovl $$0, $0\nmovl $$0x20000000, $1\ncmovbl $1, $0\n"
                               "movl $$0x40000000, $1\ncmovel $1, $0\nmovl $$0x60000004, $1\ncmovpl $1, $0";
      auto* code = llvm::InlineAsm::get(type, text, "=&r,=&r,x,x,~{flags}", false);
      return b_.CreateExtractValue(b_.CreateCall(code, {a, b}), 0);
    }
    default: return nullptr;
  }
}

}  // namespace kiln::jit
