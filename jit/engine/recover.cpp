// From a host fault to exact guest state.
#include <fmt/format.h>

#include "ir/passes/passes.h"
#include "jit/engine/impl.h"
#include "jit/engine/recover.h"

#include <cstring>

namespace kiln::jit {

using ir::CpuState;

bool apply_recovery(const Tier1Code& code, u32 offset, const host::FaultRegisters& registers, ir::CpuState* cpu) {
  char* base = reinterpret_cast<char*>(cpu);
  for (const RecoveryPoint& point : code.recovery) {
    if (offset < point.begin || offset >= point.end) continue;
    // All values first: one slot's value may lie in the memory of another slot that is dirty itself.
    std::vector<V128> values;
    for (const SlotLocation& slot : point.dirty) {
      V128& value = values.emplace_back();
      switch (slot.kind) {
        case SlotLocation::Kind::IntRegister: value.d[0] = registers.integer[slot.reg]; break;
        case SlotLocation::Kind::VectorRegister: value = registers.vector[slot.reg]; break;
        case SlotLocation::Kind::Constant:
          value.d[0] = slot.constant;
          value.d[1] = slot.constant_high;
          break;
        case SlotLocation::Kind::Spill: std::memcpy(&value, base + slot.constant, 16); break;
      }
      std::memset(value.b + slot.value_bytes, 0, sizeof value.b - slot.value_bytes);  // lazily widened values
    }
    for (std::size_t i = 0; i < values.size(); ++i)
      std::memcpy(base + point.dirty[i].slot_offset, &values[i], ir::type_bits(point.dirty[i].type) / 8);
    cpu->pc = point.pc;
    if (point.kind != ir::ExitKind::None) {
      cpu->exit_kind = static_cast<u32>(point.kind);
      cpu->exit_value = point.value_in_rax ? registers.temporary : point.value;
    }
    return true;
  }
  return false;
}

const Region* Engine::Impl::region_at(HostAddr code) {
  const auto it = code_regions.upper_bound(code);
  if (it == code_regions.begin()) return nullptr;
  const Region* region = std::prev(it)->second;
  return code - region->code.memory.executable < region->code.memory.size ? region : nullptr;
}

// Runs in the host's signal handler on the faulting thread, which was inside generated code or a helper and so holds no lock.
bool Engine::Impl::handle_fault(ir::CpuState* cpu, const siginfo_t* info, void* ucontext, u32 flags) {
  if (cpu == nullptr || cpu->in_code == 0) return false;
  // A general-protection fault (non-canonical address) comes without an address.
  const bool has_address = info->si_code != SI_KERNEL;
  cpu->exit_value = has_address ? reinterpret_cast<HostAddr>(info->si_addr) - memory.base() : 0;
  cpu->exit_aux = flags | (has_address ? 0 : ir::kFaultNonCanonical);
  cpu->exit_kind = static_cast<u32>(ir::ExitKind::Fault);
  return leave_at_fault(cpu, ucontext);
}

#if __has_feature(address_sanitizer)
extern "C" void __asan_handle_no_return();
#endif

bool Engine::Impl::leave_at_fault(CpuState* cpu, void* ucontext) {
#if __has_feature(address_sanitizer)
  __asan_handle_no_return();  // the frames of a helper (or the interpreter) are left without being unwound
#endif
  ThreadRecord& thread = *thread_of(cpu);
  const HostAddr pc = host::fault_pc(ucontext);
  thread.recover = false;
  thread.left_at = pc;
  if (!cache.contains(pc)) {
    host::resume_at(ucontext, host::fault_leave_address(), cpu);  // in a helper: its caller wrote the state back
    return true;
  }
  std::lock_guard ranges(range_mutex);
  if (const Region* region = region_at(pc)) {
    const auto& faults = region->code.faults;
    const auto entry = std::lower_bound(faults.begin(), faults.end(), pc, [](const FaultEntry& e, HostAddr a) { return e.pc < a; });
    if (entry == faults.end() || entry->pc != pc) return false;
    if (entry->label == 0) restore_state(region->code, *entry, cpu, ucontext);
    host::resume_at(ucontext, entry->label != 0 ? entry->label : host::fault_leave_address(), cpu);
    return true;
  }
  host::save_registers(ucontext, thread.fault);
  thread.recover = true;
  host::resume_at(ucontext, host::fault_leave_address(), cpu);
  return true;
}

// The slow path of an access in tier-1 code. The thread holds no lock, as in any helper.
extern "C" void* kiln_soft_access(CpuState* cpu, u64 address, u32 desc, SoftAccessFrame* frame) {
  const unsigned reg = desc >> kValueRegister & 15;
  const void* value = nullptr;
  if (desc & kHasValue) value = (desc & kVectorValue) != 0 ? static_cast<const void*>(&frame->vector[reg]) : &frame->integer[reg];
  if (void* host = cpu->guest_pointer(cpu, address, desc & (kHasValue - 1), value)) return host;
  ThreadRecord& thread = *thread_of(cpu);
  thread.fault.pc = thread.left_at = frame->return_address;
  std::memcpy(thread.fault.integer, frame->integer, sizeof frame->integer);
  std::memcpy(thread.fault.vector, frame->vector, sizeof frame->vector);
  thread.fault.temporary = address;
  thread.recover = true;
  cpu->leave_helper(cpu);
}

bool Engine::Impl::leave_changed_code(CpuState* cpu, void* ucontext) {
  if (!guest.coherent_icache || cpu == nullptr || cpu->in_code == 0) return false;
  const HostAddr pc = host::fault_pc(ucontext);
  // A helper does not know who called it. It begins again, as after any fault.
  if (cache.contains(pc)) {
    std::lock_guard ranges(range_mutex);
    const Region* region = region_at(pc);
    const TranslatedBlock* block = region != nullptr ? nullptr : block_at(pc);
    if (region != nullptr ? !region->dead : block == nullptr || !block->dead) return false;
  }
  cpu->exit_kind = static_cast<u32>(ir::ExitKind::CodeChanged);
  cpu->exit_value = 0;
  return leave_at_fault(cpu, ucontext);
}

// Tier 1 keeps no table: the block is stitched once more with recording on, which is deterministic. Wants `mutex` held; an eviction
// calls it for every thread that has a fault pending, before the code goes away.
void Engine::Impl::recover(ThreadRecord& thread) {
  if (!thread.recover) return;
  thread.recover = false;
  ir::CpuState* cpu = thread.cpu;
  TranslatedBlock* block = nullptr;
  {
    std::lock_guard ranges(range_mutex);
    block = block_at(thread.fault.pc);
  }
  if (block == nullptr) {
    std::fprintf(stderr, "kiln: internal error: fault at host %#lx in no translated block\n", thread.fault.pc);
    exit_with_internal_error();
  }
  ir::Block ir;
  lift_again(*block, ir);
  ir::optimise(ir);
  const Tier1Code code = stitch(ir, guest, tier1_options(*block), true);
  const u32 offset = static_cast<u32>(thread.fault.pc - block->code);
  if (apply_recovery(code, offset, thread.fault, cpu)) return;
  std::fprintf(stderr, "kiln: internal error: fault in tier-1 code of block %#lx at offset %u has no recovery point\n", block->pc,
               offset);
  exit_with_internal_error();
}

}  // namespace kiln::jit
