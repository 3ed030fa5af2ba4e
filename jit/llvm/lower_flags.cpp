// The lazily kept flags record: three virtual slots {kind, a, b}. Where the kind is known (compare and branch in different
// blocks of one region) a predicate becomes the compare itself; elsewhere the image is asked for at run time.
#include "ir/flags.h"
#include "jit/llvm/lowering.h"
#include "jit/llvm/runtime.h"

namespace kiln::jit {

using namespace ir;

void RegionLowering::lower_set_flags(const Inst& maker) {
  FlagsKind kind = FlagsKind::Image;
  LValue b = b_.getInt64(0);
  LValue a = nullptr;
  if (maker.op == Op::get_flags_) return;  // the record it already holds
  const bool is64 = arg_type(maker, 0) == Type::I64;
  a = zext64(maker.args[0]);
  switch (maker.op) {
    case Op::flags_add_:
      kind = add_kind(is64);
      b = zext64(maker.args[1]);
      break;
    case Op::flags_sub_:
      kind = sub_kind(is64);
      b = zext64(maker.args[1]);
      break;
    case Op::flags_logic_: kind = logic_kind(is64); break;
    case Op::flags_image_: break;
    default:
      if (failure_.empty()) failure_ = std::string("tier 2: flags made by ") + op_info(maker.op).name + " are not lowered";
      return;
  }
  write_slot(flags_slots_, b_.getInt32(static_cast<u32>(kind)));
  write_slot(flags_slots_ + 1, a);
  write_slot(flags_slots_ + 2, b);
  flags_kind_ = kind;
}

llvm::Value* RegionLowering::lower_cond(Cond cond) {
  if (cond == Cond::Al) return b_.getTrue();
  const u32 number = static_cast<u32>(cond);
  if (flags_kind_) {
    LValue a = read_slot(flags_slots_ + 1);
    LValue b = read_slot(flags_slots_ + 2);
    auto narrow = [&](LValue v) { return b_.CreateTrunc(v, b_.getInt32Ty()); };
    switch (*flags_kind_) {
      case FlagsKind::Sub32: a = narrow(a), b = narrow(b); [[fallthrough]];
      case FlagsKind::Sub64:
        switch (cond) {
          case Cond::Eq: return b_.CreateICmpEQ(a, b);
          case Cond::Ne: return b_.CreateICmpNE(a, b);
          case Cond::Cs: return b_.CreateICmpUGE(a, b);
          case Cond::Cc: return b_.CreateICmpULT(a, b);
          case Cond::Mi: return b_.CreateIsNeg(b_.CreateSub(a, b));
          case Cond::Pl: return b_.CreateIsNotNeg(b_.CreateSub(a, b));
          case Cond::Hi: return b_.CreateICmpUGT(a, b);
          case Cond::Ls: return b_.CreateICmpULE(a, b);
          case Cond::Ge: return b_.CreateICmpSGE(a, b);
          case Cond::Lt: return b_.CreateICmpSLT(a, b);
          case Cond::Gt: return b_.CreateICmpSGT(a, b);
          case Cond::Le: return b_.CreateICmpSLE(a, b);
          default: break;
        }
        break;
      case FlagsKind::Logic32: a = narrow(a); [[fallthrough]];
      case FlagsKind::Logic64:
        switch (cond) {
          case Cond::Eq: return b_.CreateIsNull(a);
          case Cond::Ne: return b_.CreateIsNotNull(a);
          case Cond::Mi:
          case Cond::Lt: return b_.CreateIsNeg(a);
          case Cond::Pl:
          case Cond::Ge: return b_.CreateIsNotNeg(a);
          case Cond::Gt: return b_.CreateICmpSGT(a, constant(*flags_kind_ == FlagsKind::Logic64 ? Type::I64 : Type::I32, 0));
          case Cond::Le: return b_.CreateICmpSLE(a, constant(*flags_kind_ == FlagsKind::Logic64 ? Type::I64 : Type::I32, 0));
          case Cond::Cs:
          case Cond::Vs:
          case Cond::Hi: return b_.getFalse();
          case Cond::Cc:
          case Cond::Ls:  // !C || Z
          case Cond::Vc: return b_.getTrue();
          default: break;
        }
        break;
      case FlagsKind::Add32: a = narrow(a), b = narrow(b); [[fallthrough]];
      case FlagsKind::Add64: {
        LValue sum = b_.CreateAdd(a, b);
        switch (cond) {
          case Cond::Eq: return b_.CreateIsNull(sum);
          case Cond::Ne: return b_.CreateIsNotNull(sum);
          case Cond::Mi: return b_.CreateIsNeg(sum);
          case Cond::Pl: return b_.CreateIsNotNeg(sum);
          case Cond::Cs: return b_.CreateICmpULT(sum, a);
          case Cond::Cc: return b_.CreateICmpUGE(sum, a);
          default: break;
        }
        break;
      }
      default: break;
    }
  }
  // From the image: each predicate is a few bit tests; the last bit of the number inverts it.
  LValue nzcv = lower_flags_value();
  auto flag = [&](unsigned bit) { return b_.CreateTrunc(b_.CreateLShr(nzcv, bit), b_.getInt1Ty()); };
  LValue n = flag(31), z = flag(30), c = flag(29), v = flag(28);
  LValue holds = nullptr;
  switch (static_cast<Cond>(number & ~1u)) {
    case Cond::Eq: holds = z; break;
    case Cond::Cs: holds = c; break;
    case Cond::Mi: holds = n; break;
    case Cond::Vs: holds = v; break;
    case Cond::Hi: holds = b_.CreateAnd(c, b_.CreateNot(z)); break;
    case Cond::Ge: holds = b_.CreateICmpEQ(n, v); break;
    case Cond::Gt: holds = b_.CreateAnd(b_.CreateNot(z), b_.CreateICmpEQ(n, v)); break;
    case Cond::Be: holds = b_.CreateOr(c, z); break;
    default:
      if (failure_.empty()) failure_ = "tier 2: condition " + std::to_string(number) + " is not supported";
      return b_.getFalse();
  }
  return number & 1 ? b_.CreateNot(holds) : holds;
}

llvm::Value* RegionLowering::lower_flags_value() {
  LValue a = read_slot(flags_slots_ + 1);
  LValue b = read_slot(flags_slots_ + 2);
  if (flags_kind_) {
    const FlagsKind kind = *flags_kind_;
    if (kind == FlagsKind::Image) return b_.CreateAnd(b_.CreateTrunc(a, b_.getInt32Ty()), b_.getInt32(0xf0000000));
    const bool is64 = kind == FlagsKind::Add64 || kind == FlagsKind::Sub64 || kind == FlagsKind::Logic64;
    const bool is32 = kind == FlagsKind::Add32 || kind == FlagsKind::Sub32 || kind == FlagsKind::Logic32;
    if (is64 || is32) {
      if (is32) a = b_.CreateTrunc(a, b_.getInt32Ty()), b = b_.CreateTrunc(b, b_.getInt32Ty());
      LValue result = a, carry = b_.getFalse(), overflow = b_.getFalse();
      if (kind == FlagsKind::Add32 || kind == FlagsKind::Add64) {
        result = b_.CreateAdd(a, b);
        carry = b_.CreateICmpULT(result, a);
        overflow = b_.CreateIsNeg(b_.CreateAnd(b_.CreateXor(a, result), b_.CreateXor(b, result)));
      } else if (kind == FlagsKind::Sub32 || kind == FlagsKind::Sub64) {
        result = b_.CreateSub(a, b);
        carry = b_.CreateICmpUGE(a, b);
        overflow = b_.CreateIsNeg(b_.CreateAnd(b_.CreateXor(a, b), b_.CreateXor(a, result)));
      }
      auto at = [&](LValue flag, unsigned bit) { return b_.CreateShl(b_.CreateZExt(flag, b_.getInt32Ty()), bit); };
      LValue nz = b_.CreateOr(at(b_.CreateIsNeg(result), 31), at(b_.CreateIsNull(result), 30));
      return b_.CreateOr(nz, b_.CreateOr(at(carry, 29), at(overflow, 28)));
    }
  }
  // Set before the region was entered (or by a helper): only the record knows its kind.
  auto* type = llvm::FunctionType::get(b_.getInt32Ty(), {b_.getInt32Ty(), b_.getInt64Ty(), b_.getInt64Ty()}, false);
  llvm::FunctionCallee function = runtime_function("flags_value", &runtime::flags_value, type);
  auto* callee = llvm::cast<llvm::Function>(function.getCallee());
  callee->setDoesNotAccessMemory();
  callee->setWillReturn();
  return b_.CreateCall(function, {read_slot(flags_slots_), a, b});
}

}  // namespace kiln::jit
