// Calls of C++ helpers, and ops that go through ir::eval_pure.
#include <map>
#include <mutex>
#include <tuple>

#include "ir/interpreter.h"
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

// --- eval_pure from generated code -----------------------------------------------------------------------------------

const FallbackRecord* keep_fallback(const Inst& inst, const Type* types) {
  // Shared by all threads and kept for good: generated code holds their addresses, and there are few different ones.
  struct Table {
    std::mutex mutex;
    std::map<std::tuple<Op, Type, u8, u32, u64, u64, u32>, std::unique_ptr<FallbackRecord>> records;
  };
  static Table& table = *new Table;
  u32 packed = 0;
  for (unsigned i = 0; i < 4; ++i) packed |= static_cast<u32>(types[i]) << (8 * i);
  const std::lock_guard lock(table.mutex);
  auto& record = table.records[{inst.op, inst.type, inst.lane, inst.aux, inst.imm, inst.imm2, packed}];
  if (!record) {
    record = std::make_unique<FallbackRecord>();
    record->inst = inst;
    for (unsigned i = 0; i < 4; ++i) record->types[i] = types[i];
  }
  return record.get();
}

extern "C" void kiln_fallback(CpuState* state, const FallbackRecord* record) {
  auto* data = reinterpret_cast<ir::Datum*>(state->helper_vargs);
  static_assert(sizeof(ir::Datum) == sizeof(V128));
  data[0] = ir::eval_pure(record->inst, record->types, data);
}

// Keeps every cached register. rax = record; rsp % 16 == 0 at entry.
asm(R"(
  .text
  .globl kiln_fallback_thunk
  .type kiln_fallback_thunk,@function
kiln_fallback_thunk:
  pushq %rdi
  pushq %rsi
  pushq %rdx
  pushq %rcx
  pushq %r8
  pushq %r9
  pushq %r11
  subq $136, %rsp
  vmovups %xmm0, (%rsp)
  vmovups %xmm1, 16(%rsp)
  vmovups %xmm2, 32(%rsp)
  vmovups %xmm3, 48(%rsp)
  vmovups %xmm4, 64(%rsp)
  vmovups %xmm5, 80(%rsp)
  vmovups %xmm6, 96(%rsp)
  vmovups %xmm7, 112(%rsp)
  movq %r12, %rdi
  movq %rax, %rsi
  call kiln_fallback
  vmovups (%rsp), %xmm0
  vmovups 16(%rsp), %xmm1
  vmovups 32(%rsp), %xmm2
  vmovups 48(%rsp), %xmm3
  vmovups 64(%rsp), %xmm4
  vmovups 80(%rsp), %xmm5
  vmovups 96(%rsp), %xmm6
  vmovups 112(%rsp), %xmm7
  addq $136, %rsp
  popq %r11
  popq %r9
  popq %r8
  popq %rcx
  popq %rdx
  popq %rsi
  popq %rdi
  ret
  .size kiln_fallback_thunk, .-kiln_fallback_thunk
)");

// The TLB's slow path: rax = guest address, becomes a host address; r10d = desc. Keeps every cached register, and shows them to
// kiln_soft_access(). rsp % 16 == 0 at entry.
asm(R"(
  .text
  .weak kiln_soft_access
  .globl kiln_tlb_thunk
  .type kiln_tlb_thunk,@function
kiln_tlb_thunk:
  subq $208, %rsp
  vmovups %xmm0, (%rsp)
  vmovups %xmm1, 16(%rsp)
  vmovups %xmm2, 32(%rsp)
  vmovups %xmm3, 48(%rsp)
  vmovups %xmm4, 64(%rsp)
  vmovups %xmm5, 80(%rsp)
  vmovups %xmm6, 96(%rsp)
  vmovups %xmm7, 112(%rsp)
  movq %r13, 128(%rsp)
  movq %r14, 136(%rsp)
  movq %r15, 144(%rsp)
  movq %rdi, 152(%rsp)
  movq %rsi, 160(%rsp)
  movq %rdx, 168(%rsp)
  movq %rcx, 176(%rsp)
  movq %r8, 184(%rsp)
  movq %r9, 192(%rsp)
  movq %r11, 200(%rsp)
  movq %r12, %rdi
  movq %rax, %rsi
  movl %r10d, %edx
  movq %rsp, %rcx
  call kiln_soft_access
  vmovups (%rsp), %xmm0
  vmovups 16(%rsp), %xmm1
  vmovups 32(%rsp), %xmm2
  vmovups 48(%rsp), %xmm3
  vmovups 64(%rsp), %xmm4
  vmovups 80(%rsp), %xmm5
  vmovups 96(%rsp), %xmm6
  vmovups 112(%rsp), %xmm7
  movq 152(%rsp), %rdi
  movq 160(%rsp), %rsi
  movq 168(%rsp), %rdx
  movq 176(%rsp), %rcx
  movq 184(%rsp), %r8
  movq 192(%rsp), %r9
  movq 200(%rsp), %r11
  addq $208, %rsp
  ret
  .size kiln_tlb_thunk, .-kiln_tlb_thunk
)");
static_assert(offsetof(SoftAccessFrame, integer) == 128 && offsetof(SoftAccessFrame, return_address) == 208);

void Stitcher::emit_fallback(const Inst& inst, const u8* args, const Type* types, u8 result) {
  for (unsigned i = 0; i < 4 && args[i] != kNoReg; ++i) {
    const u32 offset = static_cast<u32>(offsetof(CpuState, helper_vargs) + 16 * i);
    if (class_of(types[i]) == Vec) emit(id::v_slot_st + args[i], offset);
    else if (types[i] == Type::I64) emit(id::slot_st + kIntRegs + args[i], offset);
    else emit(id::slot_st32z + args[i], offset);
  }
  const FallbackRecord* record = keep_fallback(inst, types);
  const bool few = code_.fallbacks.size() < 256;
  code_.relocatable &= few;
  if (few) {
    code_.relocations.push_back({here() + hole_offset(id::call_thunk, stencil::Hole::Imm64), Kind::Fallback, static_cast<u8>(code_.fallbacks.size())});
    code_.fallbacks.push_back(record);
  }
  emit(id::call_thunk, reinterpret_cast<u64>(record), reinterpret_cast<u64>(&kiln_fallback_thunk));
  const u32 from = offsetof(CpuState, helper_vargs);
  if (ir::is_float(inst.type)) emit(id::v_slot_ld_low + (inst.type == Type::F64 ? kVecRegs : 0) + result, from);
  else if (class_of(inst.type) == Vec) emit(id::v_slot_ld + result, from);
  else emit(id::slot_ld + wide(inst.type) * kIntRegs + result, from);
}

void Stitcher::fallback(Value v, const Inst& inst) {
  ++code_.fallback_ops;
  u8 args[4] = {kNoReg, kNoReg, kNoReg, kNoReg};
  Type types[4] = {};
  for (unsigned i = 0; i < 4 && inst.args[i] != kNoValue; ++i) {
    const Value a = inst.args[i];
    types[i] = type_of(a);
    const unsigned bits = ir::type_bits(types[i]);
    if (bits == 0 || bits > 128 || types[i] == Type::I128 || types[i] == Type::F80)
      stitch_failure("type not supported", ir::type_name(types[i]));
    args[i] = use(a);
    if (class_of(types[i]) == Int && bits < 32 && state(a).known > bits) {
      const u8 clean = fresh(Int);
      if (types[i] == Type::I1) stitch_failure("internal error", "unclean i1");
      emit((types[i] == Type::I16 ? id::zext16 : id::zext8) + clean * kIntRegs + args[i]);
      args[i] = clean;
    }
  }
  const u8 d = fresh(class_of(inst.type));
  emit_fallback(inst, args, types, d);
  const unsigned bits = ir::type_bits(inst.type);
  if (bits == 0 || bits > 128 || inst.type == Type::I128 || inst.type == Type::F80)
    stitch_failure("type not supported", ir::type_name(inst.type));
  done_all(inst);
  bind(v, d, bits);
}

void Stitcher::cold(const Inst& inst, std::initializer_list<u8> args, u8 result) {
  ColdPart part;
  part.fixup = last_cold_;
  part.resume = here();
  part.inst = &inst;
  part.result = result;
  unsigned i = 0;
  for (const u8 a : args) {
    part.types[i] = type_of(inst.args[i]);
    part.args[i++] = a;
  }
  cold_.push_back(part);
}

// --- helpers -----------------------------------------------------------------------------------------------------------

namespace {
constexpr u8 kArgument[6] = {4, 5, 6, 7, 8, kNoReg};  // rsi rdx rcx r8 r9
constexpr u32 kCalleeSaved = 0b111;                   // r13 r14 r15
}  // namespace

/// Whatever lives beyond the call leaves the registers that the callee may change.
void Stitcher::save_for_call(const Inst& inst, bool writes_state) {
  const auto outlives = [&](Value r) {
    unsigned here = 0;
    ir::for_each_arg(*block_, inst, [&](Value a) { here += root(a) == r; });
    return values_[r].uses > here || values_[r].slots > 0;
  };
  if (writes_state) {
    for (SlotState& s : slots_) {
      const Value m = s.memory;
      if (m == kNoValue || values_[m].spill != kNoReg || values_[m].state == State::Constant) continue;
      if (!values_[m].uses) continue;
      if (values_[m].reg == kNoReg) {
        const u32 pins[2] = {pinned_[Int], pinned_[Vec]};
        use(m);
        pinned_[Int] = pins[Int];
        pinned_[Vec] = pins[Vec];
      }
      values_[m].home = 0;
      s.memory = kNoValue;
    }
  }
  for (unsigned cls = 0; cls < 2; ++cls) {
    for (u8 reg = 0; reg < (cls == Int ? kIntRegs : kVecRegs); ++reg) {
      const Value r = owner_[cls][reg];
      if (r == kNoValue || (cls == Int && (kCalleeSaved >> reg & 1)) || !outlives(r)) continue;
      ValueState& s = values_[r];
      if (s.state != State::Constant && !s.home && s.spill == kNoReg) spill(r);
    }
  }
}

void Stitcher::call(Value v, const Inst& inst, const ir::Helper& helper) {
  ir::for_each_arg(*block_, inst, [&](Value a) {
    if (state(a).state == State::Deferred) use(a);
  });
  pinned_[Int] = pinned_[Vec] = 0;
  const bool writes = (helper.effects & ir::WRITES_STATE) != 0;
  if (helper.effects & (ir::READS_STATE | ir::WRITES_STATE | ir::MAY_FAULT)) {
    flush();
    store_imm(offsetof(CpuState, pc), pc_, true);
  }
  save_for_call(inst, writes);

  // Arguments: registers among themselves first, then what comes from memory or is constant.
  struct Move {
    Class cls;
    u8 to, from;
    Value value;
    bool clear_high;
  };
  Move moves[7];
  unsigned count = 0, ints = 0, vecs = 0;
  const auto argument = [&](Value a) {
    const Class cls = state(a).cls;
    const u8 to = cls == Int ? kArgument[std::min(ints++, 5u)] : static_cast<u8>(vecs++);
    if (to == kNoReg) stitch_failure("helper with too many integer arguments", helper.name);
    const unsigned bits = ir::type_bits(type_of(a));
    moves[count++] = {cls, to, state(a).reg, root(a), cls == Int && bits < 64 && state(a).known > bits};
  };
  ir::for_each_arg(*block_, inst, argument);
  u32 waiting = (1u << count) - 1;
  for (unsigned i = 0; i < count; ++i)
    if (moves[i].from == kNoReg) waiting &= ~(1u << i);
  while (waiting) {
    bool progress = false;
    for (unsigned i = 0; i < count; ++i) {
      if (!(waiting >> i & 1)) continue;
      bool blocked = false;
      for (unsigned j = 0; j < count; ++j)
        blocked |= j != i && (waiting >> j & 1) && moves[j].cls == moves[i].cls && moves[j].from == moves[i].to;
      if (blocked) continue;
      if (moves[i].from == 0xfe) emit(moves[i].cls == Int ? id::mov_rt + moves[i].to : id::v_from_x + moves[i].to);
      else copy(moves[i].cls, moves[i].to, moves[i].from);
      waiting &= ~(1u << i);
      progress = true;
    }
    if (progress) continue;
    // A cycle: one source steps aside. One at a time: the next cycle begins when this one is through.
    const unsigned i = static_cast<unsigned>(std::countr_zero(waiting));
    const u8 from = moves[i].from;
    emit(moves[i].cls == Int ? id::mov_tr + from : id::v_to_x + from);
    for (unsigned j = 0; j < count; ++j)
      if ((waiting >> j & 1) && moves[j].cls == moves[i].cls && moves[j].from == from) moves[j].from = 0xfe;
  }
  for (unsigned i = 0; i < count; ++i) {
    if (moves[i].from == kNoReg) load_into(moves[i].value, moves[i].to);
    if (moves[i].clear_high) emit(id::zext32 + moves[i].to * kIntRegs + moves[i].to);
  }
  // Only now do the registers change hands: load_into() above needed the old picture's homes, not its registers.
  for (unsigned cls = 0; cls < 2; ++cls)
    for (u8 reg = 0; reg < (cls == Int ? kIntRegs : kVecRegs); ++reg)
      if (owner_[cls][reg] != kNoValue && !(cls == Int && (kCalleeSaved >> reg & 1))) release(static_cast<Class>(cls), reg);
  emit(id::call_c, reinterpret_cast<u64>(helper.function));
  if (writes) forget_slots();
  done_all(inst);
  if (helper.result == Type::Void || values_[v].uses == 0) return;
  const Class cls = class_of(helper.result);
  if (cls == Int) {
    const u8 d = fresh(Int);
    emit(id::mov_rt + d);
    bind(v, d, 64);
  } else {
    pin(Vec, 0);
    bind(v, 0, 128);
  }
}

}  // namespace kiln::jit
