// NaN results. The host computes; only a NaN result may differ from the guest's, in sign and payload. Two facts keep the price
// low: a NaN operand of +, -, *, / and their like makes the result a NaN, and one unordered compare looks at two values. So
// results stay unchecked ("pending") until something looks at the bits or at the guest's state; then those that went into no
// other pending result are compared, and one cold block computes all of them again, in order, through ir::eval_pure.
//
// FpOp.underflow and fflush go the same way: their conditions join the compare, and the cold block computes again.
//
// Invariants: (1) nobody outside sees a slot that holds a pending value: such a write waits for the check; (2) what is done
// with a pending value before the check is either redone in the cold block or sees only whether it is a NaN.
#include <algorithm>

#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

namespace {
// More operands kept alive for the cold block would cost registers.
constexpr int kMaxPending = 6;

/// Under DAZ the operand itself does as well for arithmetic; who wants its bits waits for the check.
bool flushes_operand(Op op) { return op == Op::fflush_ || op == Op::v_fflush_; }

/// A NaN lane of an operand makes the same lane of the result a NaN.
bool propagates_nan(const Inst& inst) {
  const FpOp f = FpOp::unpack(inst.aux);
  if (f.nan == NanRule::X86) return false;                                                  // nothing to check
  if (f.underflow == Underflow::FlushFirst && may_be_tiny_and_inexact(inst)) return false;  // evaluated anyway
  switch (inst.op) {
    case Op::fadd_:
    case Op::fsub_:
    case Op::fmul_:
    case Op::fdiv_:
    case Op::fsqrt_:
    case Op::fma_:
    case Op::v_fadd_:
    case Op::v_fsub_:
    case Op::v_fmul_:
    case Op::v_fdiv_:
    case Op::v_fsqrt_:
    case Op::v_fma_:
    case Op::fflush_:
    case Op::v_fflush_: return true;
    default: return false;
  }
}
/// Cheap enough to be done again.
bool moves_bits(Op op) {
  switch (op) {
    case Op::f_to_v_:
    case Op::v_to_f_:
    case Op::v_low64_:
    case Op::fneg_:
    case Op::fabs_:
    case Op::v_fneg_:
    case Op::v_fabs_: return true;
    default: return false;
  }
}
/// The same for all quiet NaNs, and the host's results are quiet.
bool ignores_payload(Op op) {
  switch (op) {
    case Op::fcmp_eq_:
    case Op::fcmp_lt_:
    case Op::fcmp_le_:
    case Op::fcmp_unord_:
    case Op::nzcv_fcmp_:
    case Op::v_fcmpeq_:
    case Op::v_fcmpgt_:
    case Op::v_fcmpge_:
    case Op::f_to_int_:
    case Op::v_f_to_int_: return true;
    default: return false;
  }
}
/// The format that an op takes its operands' bits for.
Type element_of(const Block& block, const Inst& inst) {
  if (inst.op == Op::v_to_f_) return inst.type;
  const Type type = block[inst.args[0]].type;
  if (is_float(type)) return type;
  return inst.lane == static_cast<u8>(Width::B8) ? Type::F64 : Type::F32;
}
}  // namespace

RegionLowering::PendingNan* RegionLowering::pending_nan(ir::Value v) {
  for (PendingNan& p : pending_nans_)
    if (p.value == v) return &p;
  return nullptr;
}

bool RegionLowering::defer_nan_check(const Inst& inst, ir::Value v) {
  // Bits of one format taken for another's may be a signalling NaN, or none.
  Type element = Type::Void;
  const bool understood = propagates_nan(inst) || moves_bits(inst.op) || ignores_payload(inst.op);
  if (understood && !pending_nans_.empty()) {
    element = element_of(*block_, inst);
    bool mixed = false;
    for_each_arg(*block_, inst, [&](ir::Value a) {
      if (const PendingNan* p = pending_nan(a)) {
        if (inst.op == Op::v_low64_) element = p->element;
        mixed |= p->element != element;
      }
    });
    if (mixed) settle_nan_checks();
  }
  if (propagates_nan(inst)) {
    const auto computed = std::count_if(pending_nans_.begin(), pending_nans_.end(), [&](const PendingNan& p) {
      return !p.moved && !flushes_operand((*block_)[p.value].op);
    });
    if (computed >= kMaxPending || pending_nans_.size() >= 4 * static_cast<std::size_t>(kMaxPending)) settle_nan_checks();
    element = element_of(*block_, inst);
    values_[v] = flushes_operand(inst.op) ? arg(inst, 0) : inst.type == Type::V128 ? lower_vector(inst) : lower_float(inst);
    for_each_arg(*block_, inst, [&](ir::Value a) {
      if (PendingNan* p = pending_nan(a)) p->covered = true;
    });
    pending_nans_.push_back({.value = v, .element = element});
    return true;
  }
  if (pending_nans_.empty()) return false;
  if (inst.op == Op::set_reg_) {
    const unsigned slot = slot_index(inst.imm);
    std::erase_if(late_writes_, [&](const LateWrite& w) { return w.slot == slot; });
    if (!pending_nan(inst.args[0])) return false;
    late_writes_.push_back({slot, inst.args[0]});
    return true;
  }
  bool settle = (effects_of(inst) & (READS_MEM | WRITES_MEM | MAY_FAULT | ENDS_BLOCK)) != 0 || inst.op == Op::call_;
  if (inst.op == Op::get_reg_) {
    for (const LateWrite& w : late_writes_) settle |= w.slot == slot_index(inst.imm);
  } else if (!settle && !ignores_payload(inst.op)) {
    bool uses = false;
    for_each_arg(*block_, inst, [&](ir::Value a) { uses |= pending_nan(a) != nullptr; });
    if (uses && moves_bits(inst.op)) {
      if (pending_nans_.size() >= 2 * static_cast<std::size_t>(kMaxPending)) settle_nan_checks();
      LValue r = lower_float(inst);
      values_[v] = r ? r : lower_vector(inst);
      if (!pending_nans_.empty()) pending_nans_.push_back({.value = v, .element = element, .moved = true});
      return true;
    }
    settle = uses;
  }
  if (settle) settle_nan_checks();
  return false;
}

/// Must the pending values be computed again? `precise`: else zeros that are right may be among the reasons.
llvm::Value* RegionLowering::pending_condition(bool precise) {
  // Pairs of the same type go into one compare.
  struct Group {
    llvm::Type* type;
    LValue single, mask;
  };
  std::vector<Group> groups;
  auto check = [&](Group& group, LValue a, LValue b) {
    LValue nan = strict_compare(a, b, "uno", false);
    group.mask = group.mask ? b_.CreateOr(group.mask, nan) : nan;
    group.single = nullptr;
  };
  LValue any = nullptr;
  for (const PendingNan& p : pending_nans_) {
    if (p.moved) continue;
    const Inst& inst = (*block_)[p.value];
    // A result that ought to have been flushed makes those that it went into wrong; the cold block computes them all again.
    if (LValue again = underflow_condition(inst, values_[p.value], precise)) any = any ? b_.CreateOr(any, again) : again;
    if (p.covered || flushes_operand(inst.op)) continue;
    LValue x = values_[p.value];
    if (inst.type == Type::V128) x = b_.CreateBitCast(x, float_lanes(inst));
    auto group = std::find_if(groups.begin(), groups.end(), [&](const Group& g) { return g.type == x->getType(); });
    if (group == groups.end()) groups.push_back({x->getType(), x, nullptr});
    else if (group->single) check(*group, group->single, x);
    else group->single = x;
  }
  for (Group& group : groups) {
    if (group.single) check(group, group.single, group.single);
    LValue mask = any_lane(group.mask);
    any = any ? b_.CreateOr(any, mask) : mask;
  }
  return any;
}

void RegionLowering::settle_nan_checks() {
  if (pending_nans_.empty()) return;
  const bool flushes = std::any_of(pending_nans_.begin(), pending_nans_.end(), [&](const PendingNan& p) {
    const Inst& inst = (*block_)[p.value];
    return !p.moved && FpOp::unpack(inst.aux).underflow == Underflow::Flush && may_be_tiny_and_inexact(inst);
  });
  LValue any = pending_condition(false);
  llvm::BasicBlock* from = b_.GetInsertBlock();
  llvm::BasicBlock* cold = cold_branch(any, "nan");
  llvm::BasicBlock* join = b_.GetInsertBlock();
  b_.SetInsertPoint(cold);
  if (flushes) {
    llvm::BasicBlock* evaluate = new_block("flush");
    b_.CreateCondBr(pending_condition(true), evaluate, join);
    b_.SetInsertPoint(evaluate);
  }
  std::vector<LValue> quick;
  for (const PendingNan& p : pending_nans_) {
    const Inst& inst = (*block_)[p.value];
    quick.push_back(values_[p.value]);
    LValue exact;
    if (p.moved) {
      exact = lower_float(inst);
      if (!exact) exact = lower_vector(inst);
    } else {
      exact = inst.type == Type::V128 ? eval_any(inst) : eval_scalar(inst);
    }
    values_[p.value] = exact;
  }
  llvm::BasicBlock* cold_end = b_.GetInsertBlock();
  b_.CreateBr(join);
  b_.SetInsertPoint(join);
  for (std::size_t i = 0; i < pending_nans_.size(); ++i) {
    LValue& value = values_[pending_nans_[i].value];
    llvm::PHINode* phi = b_.CreatePHI(value->getType(), 3);
    phi->addIncoming(quick[i], from);
    if (flushes) phi->addIncoming(quick[i], cold);
    phi->addIncoming(value, cold_end);
    value = phi;
  }
  pending_nans_.clear();
  for (const LateWrite& w : late_writes_) write_slot(w.slot, values_[w.value]);
  late_writes_.clear();
}

}  // namespace kiln::jit
