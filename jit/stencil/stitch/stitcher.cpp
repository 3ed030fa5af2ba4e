// The pass over the block, its entry and its exits.
#include "jit/stencil/stitch/stitcher.h"

#include <cpuid.h>

namespace kiln::jit {

void Stitcher::prepare(const Block& block) {
  const std::size_t count = block.insts.size();
  values_.clear();
  values_.reserve(count + 2 * block.guest_insns + 16);
  values_.resize(count);
  for (Value v = 0; v < count; ++v) {
    const Inst& inst = block.insts[v];
    ValueState& s = values_[v];
    s.root = v;
    s.type = inst.type;
    s.cls = class_of(inst.type);
    ir::for_each_arg(block, inst, [&](Value a) {
      ++values_[a].uses;
      values_[a].user = v;
    });
  }
  for (unsigned cls = 0; cls < 2; ++cls) {
    free_[cls] = (1u << (cls == Int ? kIntRegs : kVecRegs)) - 1;
    pinned_[cls] = 0;
    for (Value& owner : owner_[cls]) owner = kNoValue;
  }
  static_assert(ir::kSpillSlots == 64);
  spill_free_ = ~u64{0};
  slots_.clear();
  cold_.clear();
  pool_.clear();
  pool_uses_.clear();
  edges_.clear();
  leaves_.clear();
  traps_.clear();
  misses_.clear();
  clock_ = 0;
  out_ = begin_;
  reserve();
}

Tier1Code Stitcher::run(const Block& block, const ir::GuestDesc& guest, const Tier1Options& options, bool record) {
  block_ = &block;
  options_ = &options;
  record_ = record;
  pc_ = block.pc;
  code_ = {};
  if (slot_index_.size() < guest.state_size / 4) slot_index_.resize(guest.state_size / 4);
  prepare(block);
  entry();
  for (Value v = 0; v < block.insts.size(); ++v) {
    const Inst& inst = block.insts[v];
    ++clock_;
    pinned_[Int] = pinned_[Vec] = 0;
    reserve();
    visit(v, inst);
  }
  finish();
  for (const SlotState& s : slots_) slot_index_[s.offset / 4] = 0;
  code_.bytes.assign(begin_, out_);
  return std::move(code_);
}

void Stitcher::visit(Value v, const Inst& inst) {
  const u32 effects = ir::op_info(inst.op).effects;
  if (effects == ir::PURE && inst.op != Op::insn_start_ && values_[v].uses == 0 && !ir::sets_sticky_bits(inst.op)) {
    done_all(inst);
    return;
  }
  switch (inst.op) {
    case Op::insn_start_: pc_ = inst.imm; return;
    case Op::iconst_:
    case Op::vconst_: {
      ValueState& s = values_[v];
      s.state = State::Constant;
      s.imm = inst.op == Op::iconst_ ? inst.imm & mask_low(ir::type_bits(inst.type)) : inst.imm;
      s.imm2 = inst.imm2;
      s.known = s.cls == Vec ? 128 : static_cast<u8>(64 - std::countl_zero(s.imm));
      return;
    }
    case Op::get_reg_: get_reg(v, inst); return;
    case Op::set_reg_: set_reg(inst); return;
    case Op::set_flags_: set_flags(inst); return;
    case Op::get_flags_: get_flags(v); return;
    case Op::flags_add_:
    case Op::flags_sub_:
    case Op::flags_logic_:
    case Op::flags_image_:
    case Op::eflags_add_:
    case Op::eflags_sub_:
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_:
    case Op::eflags_result_: values_[v].state = State::Deferred; return;  // for set_flags
    case Op::load_: load(v, inst); return;
    case Op::store_: store(inst); return;
    case Op::atomic_rmw_:
    case Op::atomic_cas_:
    case Op::fence_: atomic(v, inst); return;
    case Op::trap_if_: trap_if(inst); return;
    case Op::call_: call(v, inst, ir::helper_of(inst)); return;
    case Op::exit_jump_: exit_jump(inst); return;
    case Op::exit_branch_: exit_branch(inst); return;
    case Op::exit_indirect_: exit_indirect(inst); return;
    case Op::exit_exception_: exit_exception(inst); return;
    default: break;
  }
  if (may_defer(v, inst)) {
    values_[v].state = State::Deferred;
    return;
  }
  if (integer(v, inst) || vector(v, inst) || floating(v, inst)) return;
  fallback(v, inst);
}

void Stitcher::entry() {
  if (options_->entry_patch) emit(id::entry_nop);
  const Inst& last = block_->insts.back();
  bool backward = last.op == Op::exit_indirect_;
  if (last.op == Op::exit_jump_) backward = last.imm <= block_->pc;
  if (last.op == Op::exit_branch_) backward = last.imm <= block_->pc || last.imm2 <= block_->pc;
  if (options_->poll && backward) {
    emit(id::poll);
    leaves_.push_back({last_taken_, ir::ExitKind::Interrupt, 0});
  }
  if (options_->counter) {
    const u64 address = reinterpret_cast<u64>(options_->counter);
    const bool near = address <= 0x7fffffff;
    note_field(near, here() + hole_offset(id::count_near, stencil::Hole::A32), Kind::Counter);
    emit(near ? id::count_near : id::count_far, address);
    leaves_.push_back({last_taken_, ir::ExitKind::Hot, options_->block_id});
  }
}

// --- exits ---------------------------------------------------------------------------------------------------------

void Stitcher::align_field(unsigned bytes_before) {
  nops(-static_cast<unsigned>(options_->code_address + here() + bytes_before) & 3);
}

void Stitcher::exit_edge(u32 fixup, GuestAddr target) { edges_.push_back({fixup, target}); }

void Stitcher::exit_jump(const Inst& inst) {
  flush();
  align_field(1);
  emit(id::jmp_taken);
  exit_edge(last_taken_, inst.imm);
}

void Stitcher::exit_branch(const Inst& inst) {
  const Compare compare = prepare_compare(inst.args[0]);
  flush();
  if (compare.cond == kEqualFp) {
    // Unordered or unequal: not taken. The taken edge is then an unconditional jump.
    emit_compare(compare);
    emit(id::jcc + kP);
    const u32 unordered = last_taken_;
    emit(id::jcc + kNe);
    const u32 unequal = last_taken_;
    align_field(1);
    emit(id::jmp_taken);
    exit_edge(last_taken_, inst.imm);
    bind_label(unordered);
    bind_label(unequal);
  } else {
    // Padding goes before the compare, so that it still fuses with the jump; its length is known once it is there.
    const u32 start = here();
    emit_compare(compare);
    const u32 misfit = static_cast<u32>(options_->code_address + here() + 2) & 3;
    if (misfit) {
      out_ = begin_ + start;
      nops(4 - misfit);
      emit_compare(compare);
    }
    emit(id::jcc + compare.cond);
    exit_edge(last_taken_, inst.imm);
  }
  align_field(1);
  emit(id::jmp_taken);
  exit_edge(last_taken_, inst.imm2);
  done(inst.args[0]);
}

void Stitcher::exit_indirect(const Inst& inst) {
  const u8 reg = use(inst.args[0]);
  flush();
  if (options_->targets != nullptr && options_->counter != nullptr && static_cast<ir::ExitHint>(inst.lane) != ir::ExitHint::Return) {
    const u64 place = reinterpret_cast<u64>(options_->targets), counter = reinterpret_cast<u64>(options_->counter);
    const bool near = place <= 0x7fffffff && counter <= 0x7fffffff;
    note_field(near, here() + hole_offset(id::note_near + reg, stencil::Hole::A32), Kind::Counter);
    note_field(near, here() + hole_offset(id::note_near + reg, stencil::Hole::B32), Kind::Targets);
    if (near) emit(id::note_near + reg, counter, place);
    else emit(id::note_far + reg, place);
  }
  emit((options_->soft_mmu ? id::probe_key : id::probe) + reg);
  const u32 miss = last_taken_;
  bind_label(miss);
  emit(id::slot_st + kIntRegs + reg, offsetof(CpuState, pc));
  jump_to(options_->runtime.lookup_miss, Kind::LookupMiss);
  done(inst.args[0]);
}

void Stitcher::exit_exception(const Inst& inst) {
  flush();
  leave_stub(inst.imm, static_cast<ir::ExitKind>(inst.aux), inst.imm2);
}

void Stitcher::leave_stub(u64 pc, ir::ExitKind kind, std::optional<u64> value, std::optional<Kind> field) {
  store_imm(offsetof(CpuState, pc), pc, true);
  store_imm(offsetof(CpuState, exit_kind), static_cast<u32>(kind), false);
  if (value) store_imm(offsetof(CpuState, exit_value), *value, true);
  if (field) note_field(*value <= 0x7fffffff, here() - 4, *field);  // an address in the low 2 GiB is the store's last four bytes
  jump_to(options_->runtime.leave, Kind::Leave);
}

std::pair<HostAddr, Stitcher::Kind> Stitcher::leave_way(ir::ExitKind kind) const {
  const RuntimeEntries& runtime = options_->runtime;
  if (kind == ir::ExitKind::Chain) return {runtime.leave_chain, Kind::LeaveChain};
  if (kind == ir::ExitKind::Hot) return {runtime.leave_hot, Kind::LeaveHot};
  return {runtime.leave_poll, Kind::LeavePoll};
}

bool Stitcher::leave_by_id_reaches(ir::ExitKind kind, u64 id) const {
  const HostAddr target = leave_way(kind).first;
  const s64 distance = static_cast<s64>(target - (options_->code_address + here() + 10));
  return target != 0 && id <= 0x7fffffff && distance == static_cast<s32>(distance);
}

void Stitcher::leave_by_id(u64 pc, ir::ExitKind kind, u64 id, Kind field) {
  if (!leave_by_id_reaches(kind, id)) return leave_stub(pc, kind, id, field);
  emit(id::mov_ti32, id);
  note_field(true, here() - 4, field);
  const auto [target, way] = leave_way(kind);
  jump_to(target, way);
}

/// Cold parts, then stubs of the exits, then constants.
void Stitcher::finish() {
  for (std::size_t i = 0; i < cold_.size(); ++i) {
    const ColdPart part = cold_[i];
    reserve();
    bind_label(part.fixup);
    emit_fallback(*part.inst, part.args, part.types, part.result);
    emit(id::jmp_taken);
    patch_rel32(last_taken_, part.resume);
  }
  for (const Leave& leave : leaves_) {
    reserve();
    bind_label(leave.fixup);
    if (leave.kind == ir::ExitKind::Hot) leave_by_id(block_->pc, leave.kind, leave.value, Kind::BlockId);
    else if (leave_by_id_reaches(leave.kind, options_->block_id)) leave_by_id(block_->pc, leave.kind, options_->block_id, Kind::BlockId);
    else leave_stub(block_->pc, leave.kind);
  }
  for (const Trap& t : traps_) {
    reserve();
    bind_label(t.fixup);
    if (record_) {
      code_.recovery[t.recovery].begin = here();
      code_.recovery[t.recovery].end = here() + 1;
    }
    emit(id::hlt);
  }
  for (const TlbMiss& miss : misses_) {
    reserve();
    bind_label(miss.fixup);
    const u32 begin = here();
    emit(id::call_tlb, reinterpret_cast<u64>(&kiln_tlb_thunk), miss.desc);
    emit(id::jmp_taken);  // the call's return address counts as its place
    patch_rel32(last_taken_, miss.resume);
    if (!record_) continue;
    code_.recovery[miss.recovery].begin = begin;
    code_.recovery[miss.recovery].end = here();
  }
  for (std::size_t i = 0; i < edges_.size(); ++i) {
    reserve();
    const Edge& edge = edges_[i];
    const u32 stub = here();
    bind_label(edge.fixup);
    if (options_->soft_mmu && (edge.target ^ block_->pc) >> 12 != 0) {  // what is there may change while this page stays
      code_.exits.push_back({0, stub, edge.target});
      load_imm(0, edge.target);
      emit(id::probe_key);
      bind_label(last_taken_);
      emit(id::slot_st + kIntRegs, offsetof(CpuState, pc));
      jump_to(options_->runtime.lookup_miss, Kind::LookupMiss);
      continue;
    }
    code_.exits.push_back({edge.fixup, stub, edge.target});
    leave_by_id(edge.target, ir::ExitKind::Chain, options_->exit_ids[i], i == 0 ? Kind::Exit0 : Kind::Exit1);
  }
  if (!pool_.empty()) {
    while (here() % 16) *out_++ = 0xcc;
    const u32 base = here();
    for (const V128& constant : pool_) {
      reserve();
      std::memcpy(out_, &constant, 16);
      out_ += 16;
    }
    for (const PoolUse& use : pool_uses_) patch_rel32(use.fixup, base + use.entry * 16 + static_cast<u32>(use.addend));
  }
}

Tier1Code stitch(const Block& block, const ir::GuestDesc& guest, const Tier1Options& options, bool record) {
  static thread_local Stitcher stitcher;  // its buffers are what is kept
  return stitcher.run(block, guest, options, record);
}

bool host_supported(std::string& why) {
  for (const auto& [have, name] :
       {std::pair{__builtin_cpu_supports("avx2"), "AVX2"}, std::pair{__builtin_cpu_supports("bmi"), "BMI1"},
        std::pair{__builtin_cpu_supports("bmi2"), "BMI2"}, std::pair{__builtin_cpu_supports("fma"), "FMA"},
        std::pair{__builtin_cpu_supports("lzcnt"), "LZCNT"}, std::pair{__builtin_cpu_supports("popcnt"), "POPCNT"}}) {
    if (have) continue;
    why = std::string("this processor lacks ") + name + " (Kiln needs x86-64-v3)";
    return false;
  }
  return true;
}

}  // namespace kiln::jit
