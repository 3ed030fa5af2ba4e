#include "ir/passes/rewriter.h"

namespace kiln::ir {
namespace {

bool same(const Inst& a, const Inst& b) {
  return a.op == b.op && a.type == b.type && a.lane == b.lane && a.aux == b.aux && a.imm == b.imm && a.imm2 == b.imm2 &&
         a.args == b.args;
}

/// Copies field by field. A plain assignment would load whole vectors over fields stored a moment ago, which the host cannot
/// forward: it made up a third of the sweep's time. The empty asm keeps the compiler from joining the moves again.
template <class T>
void copy_field(T& to, const T& from) {
  T value = from;
  __asm__("" : "+r"(value));
  to = value;
}
void copy_fields(Inst& to, const Inst& from) {
  to.op = from.op;
  to.type = from.type;
  to.lane = from.lane;
  to.spare = 0;
  copy_field(to.aux, from.aux);
  for (unsigned i = 0; i < 4; ++i) copy_field(to.args[i], from.args[i]);
  copy_field(to.imm, from.imm);
  copy_field(to.imm2, from.imm2);
  copy_field(to.more, from.more);
}

}  // namespace

Value Rewriter::push(const Inst& inst) {
  copy_fields(out_[count_], inst);
  return static_cast<Value>(count_++);
}

/// An equal pure instruction seen before, or a new one.
Value Rewriter::unique(const Inst& inst) {
  u64 hash = static_cast<u64>(inst.op) | static_cast<u64>(inst.type) << 8 | static_cast<u64>(inst.args[0]) << 16;
  hash ^= (static_cast<u64>(inst.args[1]) << 32) + inst.imm * 0x9e3779b97f4a7c15ull + inst.imm2 + inst.aux;
  hash *= 0xff51afd7ed558ccdull;
  Known& entry = unique_[hash >> (64 - kUniqueBits)];
  if (entry.generation == unique_generation_ && same(out_[entry.value], inst)) return entry.value;
  entry.generation = unique_generation_;
  return entry.value = push(inst);
}

Value Rewriter::emit(Inst& inst) {
  if ((parts_ & kFold) == 0) return push(inst);
  // The bound is a guard against two rules undoing each other; three rounds are the most that real code needs.
  for (unsigned round = 0; round < 8; ++round) {
    Value result = kNoValue;
    const Step step = simplify(inst, result);
    if (step == Step::Replaced) return result;
    if (step == Step::Keep) break;
  }
  // Two equal floating-point ops may have a change of MXCSR between them.
  return sets_sticky_bits(inst.op) ? push(inst) : unique(inst);
}

Value Rewriter::make(Op op, Type type, Value a, Value b, Value c, u64 imm, u64 imm2, u32 aux) {
  Inst inst;
  inst.op = op;
  inst.type = type;
  inst.args = {a, b, c, kNoValue};
  inst.imm = imm;
  inst.imm2 = imm2;
  inst.aux = aux;
  return emit(inst);
}

void Rewriter::forget_state() {
  ++slot_generation_;
  known_flags_ = kNoValue;
  ++flags_epoch_;
}

void Rewriter::handle_state(Value index, Inst& inst) {
  if ((parts_ & kForwardSlots) == 0 || inst.imm >= kMaxSlotOffset) {
    map_[index] = push(inst);
    return;
  }
  const std::size_t slot = inst.imm / 4;
  if (slot >= slots_.size()) slots_.resize(slot + 64);
  Known& known = slots_[slot];
  const bool valid = known.generation == slot_generation_;
  if (inst.op == Op::get_reg_) {
    if (valid && type_of(known.value) == inst.type) {
      map_[index] = known.value;
      return;
    }
    map_[index] = known.value = push(inst);
  } else {
    if (valid && known.value == inst.args[0]) return;  // the slot holds it already
    push(inst);
    known.value = inst.args[0];
  }
  known.generation = slot_generation_;
}

void Rewriter::handle(const Block& block, Value index, Inst& inst) {
  switch (inst.op) {
    case Op::insn_start_: push(inst); return;
    case Op::get_reg_:
    case Op::set_reg_: handle_state(index, inst); return;
    case Op::get_flags_:
    case Op::set_flags_:
    case Op::flags_add_:
    case Op::flags_sub_:
    case Op::flags_adc_:
    case Op::flags_logic_:
    case Op::flags_image_:
    case Op::flags_select_:
    case Op::flags_fcmp_:
    case Op::eflags_add_:
    case Op::eflags_sub_:
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_:
    case Op::eflags_result_:
    case Op::eflags_fcmp_:
    case Op::flags_value_:
    case Op::cond_: handle_flags(index, inst); return;
    case Op::load_:
    case Op::store_:
    case Op::atomic_rmw_:
    case Op::atomic_cas_:
      if (parts_ & kFold) fold_address(inst);
      map_[index] = push(inst);
      return;
    case Op::fence_: push(inst); return;
    case Op::trap_if_:
      if (u64 k; (parts_ & kFold) == 0 || !is_const(inst.args[0], k) || (k & 1) != 0) push(inst);
      return;
    case Op::call_:
      map_[index] = push(inst);
      if (helper_of(inst).effects & WRITES_STATE) forget_state();
      return;
    case Op::exit_jump_:
    case Op::exit_branch_:
    case Op::exit_indirect_:
    case Op::exit_exception_:
      if (parts_ & kFold) fold_exit(inst);
      push(inst);
      return;
    default: map_[index] = emit(inst);
  }
}

std::span<const Inst> Rewriter::run(Block& block, u32 parts) {
  parts_ = parts;
  count_ = 0;
  if (map_.size() < block.insts.size()) map_.resize(block.insts.size() * 2);
  flags_.clear();
  ++slot_generation_;
  ++unique_generation_;
  known_flags_ = kNoValue;
  for (Value index = 0; index < block.insts.size(); ++index) {
    // Nothing makes more than this of one instruction: conditions of nested selects are bounded by depth, images by their
    // number.
    if (const std::size_t bound = count_ + 1024 + 4 * flags_.size(); capacity_ < bound) {
      auto larger = std::make_unique_for_overwrite<Inst[]>(bound * 2);
      std::copy(out_.get(), out_.get() + count_, larger.get());
      out_ = std::move(larger);
      capacity_ = bound * 2;
    }
    Inst inst = block.insts[index];
    for (Value& v : inst.args) {
      if (v == kNoValue) break;
      v = map_[v];
    }
    if (inst.more)
      for (Value& v : block.extra_args[inst.more - 1])
        if (v != kNoValue) v = map_[v];
    handle(block, index, inst);
  }
  return {out_.get(), count_};
}

}  // namespace kiln::ir
