// Flags that an earlier block left: the record's kind is known at run time only. ir/flags_host.h turns the record into the
// host's own flags, and a condition on it is then a jcc, setcc or cmov as after any compare.
#include <cstddef>

#include "ir/flags_host.h"
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

using ir::Cond;

/// The record must be in memory from here to its conditions; lower_flags() sees to it that none of them follows a change of it.
void Stitcher::get_flags(Value v) {
  for (const u32 offset : {offsetof(CpuState, flags_kind), offsetof(CpuState, flags_a), offsetof(CpuState, flags_b)})
    if (SlotState* s = find_slot(offset); s && s->dirty) store_slot(*s);
  values_[v].state = State::Deferred;  // nothing to compute
}

/// Up to the user nobody may change the record.
bool Stitcher::may_defer_cond(Value v) const {
  for (Value i = v + 1; i < values_[v].user; ++i) {
    const Inst& inst = (*block_)[i];
    if (inst.op == Op::set_flags_) return false;
    if (inst.op == Op::set_reg_ && inst.imm >= offsetof(CpuState, flags_kind) && inst.imm <= offsetof(CpuState, flags_b))
      return false;
    if (inst.op == Op::call_ && (ir::helper_of(inst).effects & ir::WRITES_STATE) != 0) return false;
  }
  return true;
}

Compare Stitcher::compare_of_record(Cond cond) const {
  static constexpr u8 kHost[] = {kE, kNe, kB, kAe, kS, kNs, kO, kNo, kA, kBe, kGe, kL, kG, kLe, kE, kE, kP, kNp, kBe, kA};
  Compare result;
  // C and not Z is the host's "above" with the carry the other way round.
  result.stencil = cond == Cond::Hi || cond == Cond::Ls ? id::call_flags_cmc : id::call_flags;
  result.holes.a = reinterpret_cast<u64>(&ir::kiln_flags_thunk);
  result.cond = kHost[static_cast<unsigned>(cond)];
  return result;
}

void Stitcher::flags_value(Value v, const Inst& inst) {
  emit(id::call_image, reinterpret_cast<u64>(&ir::kiln_image_thunk));
  const u8 d = fresh(Int);
  emit(id::mov_rt + d);
  done_all(inst);
  bind(v, d, 32);
}

/// Images of x86 flags.
bool Stitcher::eimage(Value v, const Inst& inst) {
  switch (inst.op) {
    case Op::eimage_add_:
    case Op::eimage_sub_: {
      const u8 ra = use(inst.args[0]), rb = use(inst.args[1]);
      emit(id::mov_tr + ra);
      emit((inst.op == Op::eimage_add_ ? id::eimage_add : id::eimage_sub) + inst.lane * kIntRegs + rb);
      break;
    }
    case Op::eimage_logic_:
      emit(id::mov_tr + use(inst.args[0]));
      emit(id::eimage_logic + inst.lane);
      break;
    default: return false;
  }
  const u8 d = fresh(Int);
  emit(id::mov_rt + d);
  done_all(inst);
  bind(v, d, 32);
  return true;
}

}  // namespace kiln::jit
