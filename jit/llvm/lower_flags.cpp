// The lazily kept flags record: three virtual slots {kind, a, b}. Where the kind is known (compare and branch in different
// blocks of one region) a predicate becomes the compare itself; elsewhere the image is asked for at run time.
#include <llvm/IR/InlineAsm.h>

#include "ir/flags.h"
#include "ir/flags_host.h"
#include "ir/semantics.h"
#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

void RegionLowering::lower_get_flags(ir::Value v) {
  flags_read_[v] = {flags_kinds_, read_slot(flags_slots_), read_slot(flags_slots_ + 1), read_slot(flags_slots_ + 2)};
}

RegionLowering::FlagsRecord RegionLowering::flags_record(ir::Value v) {
  if (auto it = flags_read_.find(v); it != flags_read_.end()) return it->second;
  if (failure_.empty()) failure_ = std::string("tier 2: flags of ") + op_info((*block_)[v].op).name + " are not lowered";
  return {only_kind(FlagsKind::Image), b_.getInt32(0), b_.getInt64(0), b_.getInt64(0)};
}

/// A conditional compare: the image is either that of a difference or a constant. Choosing between two records costs two moves,
/// the image of the difference a dozen instructions; but a record of two kinds is bad if a block asks for it, so only if none
/// does.
bool RegionLowering::set_conditional_flags(const Inst& image) {
  if (image.op != Op::select_ || flags_cross_blocks_) return false;
  for (unsigned i : {1u, 2u}) {
    const Inst& compare = (*block_)[image.args[i]];
    const Inst& other = (*block_)[image.args[3 - i]];
    if ((compare.op != Op::nzcv_sub_ && compare.op != Op::nzcv_add_) || other.op != Op::iconst_) continue;
    const bool is64 = arg_type(compare, 0) == Type::I64;
    const FlagsKind kind = compare.op == Op::nzcv_sub_ ? sub_kind(is64) : add_kind(is64);
    auto choose = [&](LValue compared, u64 constant) {
      LValue otherwise = llvm::ConstantInt::get(compared->getType(), constant);
      return i == 1 ? b_.CreateSelect(arg(image, 0), compared, otherwise) : b_.CreateSelect(arg(image, 0), otherwise, compared);
    };
    write_slot(flags_slots_, choose(b_.getInt32(static_cast<u32>(kind)), static_cast<u32>(FlagsKind::Image)));
    write_slot(flags_slots_ + 1, choose(zext64(compare.args[0]), other.imm & 0xffffffff));
    write_slot(flags_slots_ + 2, zext64(compare.args[1]));
    flags_kinds_ = kUnknownKind;
    return true;
  }
  return false;
}

void RegionLowering::lower_set_flags(ir::Value flags) {
  const Inst& maker = (*block_)[flags];
  if (maker.op == Op::get_flags_) {
    const FlagsRecord& record = flags_record(flags);
    write_slot(flags_slots_, record.kind);
    write_slot(flags_slots_ + 1, record.a);
    write_slot(flags_slots_ + 2, record.b);
    flags_kinds_ = kUnknownKind;  // find_entry_facts() does not follow copies either
    return;
  }
  if (maker.op == Op::flags_image_ && set_conditional_flags((*block_)[maker.args[0]])) return;
  if (!makes_record(maker.op)) {
    if (failure_.empty()) failure_ = std::string("tier 2: flags made by ") + op_info(maker.op).name + " are not lowered";
    return;
  }
  const FlagsKind kind = kind_made_by(maker, arg_type(maker, 0));
  LValue a = zext64(maker.args[0]), b = maker.args[1] == kNoValue ? nullptr : zext64(maker.args[1]);
  write_slot(flags_slots_, b_.getInt32(static_cast<u32>(kind)));
  write_slot(flags_slots_ + 1, a);
  if (b) write_slot(flags_slots_ + 2, b);  // one-operand kinds leave it as it is
  flags_kinds_ = only_kind(kind);
}

/// One of a few known kinds is told by comparing; what else it may be is found out by a jump on the kind (ir/flags_host.h),
/// which costs nothing but time: it keeps the registers.
llvm::Value* RegionLowering::lower_cond(const FlagsRecord& record, Cond cond) {
  if (cond == Cond::Al) return b_.getTrue();
  constexpr int kMany = 4;
  FlagsKinds known = record.kinds & ~kUnknownKind;
  if (std::popcount(known) > kMany) known = 0;
  const auto first = [&] { return static_cast<FlagsKind>(std::countr_zero(known)); };
  if (known == 0) return cond_of_image(lower_flags_value(record), cond);
  if (record.kinds == only_kind(first())) return cond_of_kind(first(), record, cond);
  const auto is_first = [&] { return b_.CreateICmpEQ(record.kind, b_.getInt32(static_cast<u32>(first()))); };
  if ((record.kinds & kUnknownKind) == 0) {
    LValue result = cond_of_kind(first(), record, cond);
    for (known &= known - 1; known != 0; known &= known - 1)
      result = b_.CreateSelect(is_first(), cond_of_kind(first(), record, cond), result);
    return result;
  }
  // Entered from outside once, then round the loop with a kind that is known.
  llvm::BasicBlock* join = new_block("");
  std::vector<std::pair<LValue, llvm::BasicBlock*>> results;
  for (; known != 0; known &= known - 1) {
    llvm::BasicBlock* yes = new_block("");
    llvm::BasicBlock* no = new_block("");
    set_unlikely(b_.CreateCondBr(is_first(), yes, no), false);
    b_.SetInsertPoint(yes);
    results.push_back({cond_of_kind(first(), record, cond), yes});
    b_.CreateBr(join);
    b_.SetInsertPoint(no);
  }
  results.push_back(
      {cond_of_image(lower_flags_value({kUnknownKind, record.kind, record.a, record.b}), cond), b_.GetInsertBlock()});
  b_.CreateBr(join);
  b_.SetInsertPoint(join);
  llvm::PHINode* result = b_.CreatePHI(b_.getInt1Ty(), static_cast<unsigned>(results.size()));
  for (auto [value, block] : results) result->addIncoming(value, block);
  return result;
}

llvm::Value* RegionLowering::cond_of_kind(FlagsKind kind, const FlagsRecord& record, Cond cond) {
  if (is_x86(kind)) return x86_cond(x86_flags(kind, record.a, record.b), cond);
  LValue a = record.a, b = record.b;
  auto narrow = [&](LValue v) { return b_.CreateTrunc(v, b_.getInt32Ty()); };
  switch (kind) {
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
        case Cond::Gt: return b_.CreateICmpSGT(a, constant(kind == FlagsKind::Logic64 ? Type::I64 : Type::I32, 0));
        case Cond::Le: return b_.CreateICmpSLE(a, constant(kind == FlagsKind::Logic64 ? Type::I64 : Type::I32, 0));
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
  return cond_of_image(image_of_kind(kind, record), cond);
}

/// Each predicate is a few bit tests; the last bit of the number inverts it.
llvm::Value* RegionLowering::cond_of_image(LValue image, Cond cond) {
  const u32 number = static_cast<u32>(cond);
  auto flag = [&](unsigned bit) { return b_.CreateTrunc(b_.CreateLShr(image, bit), b_.getInt1Ty()); };
  if (cond == Cond::Pe || cond == Cond::Po) return cond == Cond::Pe ? flag(2) : b_.CreateNot(flag(2));
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

llvm::Value* RegionLowering::nzcv(LValue result, LValue carry, LValue overflow) {
  auto at = [&](LValue flag, unsigned bit) { return b_.CreateShl(b_.CreateZExt(flag, b_.getInt32Ty()), bit); };
  LValue nz = b_.CreateOr(at(b_.CreateIsNeg(result), 31), at(b_.CreateIsNull(result), 30));
  return b_.CreateOr(nz, b_.CreateOr(at(carry, 29), at(overflow, 28)));
}

llvm::Value* RegionLowering::nzcv_of_add(LValue a, LValue b, LValue carry_in) {
  LValue sum = b_.CreateAdd(a, b);
  LValue result = sum, carry = b_.CreateICmpULT(sum, a);
  if (carry_in) {
    result = b_.CreateAdd(sum, b_.CreateZExt(carry_in, a->getType()));
    carry = b_.CreateOr(carry, b_.CreateICmpULT(result, sum));
  }
  return nzcv(result, carry, b_.CreateIsNeg(b_.CreateAnd(b_.CreateXor(a, result), b_.CreateXor(b, result))));
}

llvm::Value* RegionLowering::nzcv_of_sub(LValue a, LValue b) {
  LValue result = b_.CreateSub(a, b);
  return nzcv(result, b_.CreateICmpUGE(a, b), b_.CreateIsNeg(b_.CreateAnd(b_.CreateXor(a, b), b_.CreateXor(a, result))));
}

llvm::Value* RegionLowering::lower_nzcv(const Inst& inst) {
  switch (inst.op) {
    case Op::nzcv_add_: return nzcv_of_add(arg(inst, 0), arg(inst, 1), nullptr);
    case Op::nzcv_sub_: return nzcv_of_sub(arg(inst, 0), arg(inst, 1));
    case Op::nzcv_adc_: return nzcv_of_add(arg(inst, 0), arg(inst, 1), arg(inst, 2));
    case Op::nzcv_fcmp_: {
      // The compare raises what there is to raise; the rest is LLVM's to move or drop.
      LValue a = arg(inst, 0), b = arg(inst, 1);
      strict_compare(a, b, "uno", (inst.aux & 1) != 0);
      auto* i32 = b_.getInt32Ty();
      auto* type = llvm::FunctionType::get(llvm::StructType::get(context_, {i32, i32}), {a->getType(), a->getType()}, false);
      const std::string text = std::string(a->getType()->isDoubleTy() ? "vucomisd" : "vucomiss") +
                               " $3, $2\nmovl $$0x20000000, $0\nmovl $$0x80000000, $1\ncmovbl $1, $0\n"
                               "movl $$0x60000000, $1\ncmovel $1, $0\nmovl $$0x30000000, $1\ncmovpl $1, $0";
      auto* code = llvm::InlineAsm::get(type, text, "=&r,=&r,x,x,~{flags}", false);
      return b_.CreateExtractValue(b_.CreateCall(code, {a, b}), 0);
    }
    default: return nullptr;
  }
}

llvm::Value* RegionLowering::image_of_kind(FlagsKind kind, const FlagsRecord& record) {
  if (is_x86(kind)) return x86_image(x86_flags(kind, record.a, record.b));
  LValue a = record.a, b = record.b;
  auto narrow = [&](LValue v) { return b_.CreateTrunc(v, b_.getInt32Ty()); };
  switch (kind) {
    case FlagsKind::Add32: return nzcv_of_add(narrow(a), narrow(b), nullptr);
    case FlagsKind::Add64: return nzcv_of_add(a, b, nullptr);
    case FlagsKind::Sub32: return nzcv_of_sub(narrow(a), narrow(b));
    case FlagsKind::Sub64: return nzcv_of_sub(a, b);
    case FlagsKind::Logic32: return nzcv(narrow(a), b_.getFalse(), b_.getFalse());
    case FlagsKind::Logic64: return nzcv(a, b_.getFalse(), b_.getFalse());
    default: return b_.CreateAnd(narrow(a), b_.getInt32(kImageBits));
  }
}

llvm::Value* RegionLowering::lower_flags_value(const FlagsRecord& record) {
  if (std::has_single_bit(record.kinds) && record.kinds != kUnknownKind)
    return image_of_kind(static_cast<FlagsKind>(std::countr_zero(record.kinds)), record);
  auto* type = llvm::FunctionType::get(b_.getInt32Ty(), {b_.getInt32Ty(), b_.getInt64Ty(), b_.getInt64Ty()}, false);
  llvm::FunctionCallee function = runtime_function("image_of", &kiln_image_of, type);
  auto* callee = llvm::cast<llvm::Function>(function.getCallee());
  callee->setDoesNotAccessMemory();
  callee->setWillReturn();
  llvm::CallInst* call = b_.CreateCall(function, {record.kind, record.a, record.b});
  call->setCallingConv(llvm::CallingConv::PreserveAll);
  return call;
}

}  // namespace kiln::jit
