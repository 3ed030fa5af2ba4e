// Debugger hooks: breakpoints in translated code, and single steps that see memory accesses.
// A breakpoint is a block of its own that does nothing but leave with ExitKind::Breakpoint and kDebuggerTrap; blocks that would run
// over it end in front of it, and no region contains it. So all tiers and the chains between them need to know nothing.
#include <fmt/format.h>

#include <algorithm>

#include "ir/builder.h"
#include "ir/interpreter.h"
#include "jit/engine/impl.h"

namespace kiln::jit {

using ir::CpuState;
using ir::ExitKind;

unsigned Engine::Impl::insns_to_breakpoint(const ir::Block& block) const {
  unsigned insns = 0;
  for (const ir::Inst& inst : block.insts) {
    if (inst.op != ir::Op::insn_start_) continue;
    if (insns > 0 && breakpoints.contains(inst.imm)) return insns;
    ++insns;
  }
  return 0;
}

void Engine::Impl::make_trap(GuestAddr pc, u32 mode, ir::Block& out) const {
  out.clear();
  ir::Builder ir(out);
  out.pc = pc;
  out.mode = mode;
  ir.insn_start(pc, guest.insn_alignment);
  ir.exit_exception(ExitKind::Breakpoint, pc, kDebuggerTrap);
  out.guest_insns = 1;
  out.guest_bytes = guest.insn_alignment;
}

// In a full system the same address may lead to several places.
void Engine::Impl::forget_code_at(GuestAddr pc) {
  if (!config.soft_mmu) return invalidate(pc, 1);
  std::vector<GuestAddr> places;
  blocks.for_each([&](const TranslatedBlock& block) {
    if (pc - block.pc < block.guest_bytes) places.push_back(block.place + (pc - block.pc));
  });
  for (const auto& [start, region] : code_regions)
    for (std::size_t i = 0; i < region->sources.size(); ++i) places.push_back(region->sources[i].first);
  for (const GuestAddr place : places) invalidate(place, 1);
}

ExitKind Engine::Impl::debug_step(CpuState* cpu, ir::AccessObserver* observer) {
  struct Argument {
    const ir::Block* block;
    ir::AccessObserver* observer;
  };
  constexpr std::size_t kMost = 1 << 16;
  auto& steps = thread_of(cpu)->steps;
  for (;;) {
    GuestAddr place = cpu->pc;
    if (config.soft_mmu && !memory.locate(cpu, cpu->pc, place)) return static_cast<ExitKind>(cpu->exit_kind);
    PlacedCode placed(memory, cpu->pc, place);
    StepBlock& step = steps[cpu->pc];
    u8 now[32];
    const std::size_t bytes = step.code.size();
    if (bytes == 0 || step.ir.mode != cpu->mode || step.masked != masks_addresses || placed.fetch(cpu->pc, now, bytes) != bytes ||
        std::memcmp(now, step.code.data(), bytes) != 0) {
      if (steps.size() > kMost) {
        steps.clear();
        continue;
      }
      CodeSnapshot code(placed, cpu->pc);
      step.masked = masks_addresses;
      lift(code, cpu->pc, cpu->mode, 1, step.masked, step.ir);
      step.ir.mode = cpu->mode;
      step.code = code.taken(sizeof now);
      step.helper_writes = std::any_of(step.ir.insts.begin(), step.ir.insts.end(), [](const ir::Inst& inst) {
        return inst.op == ir::Op::call_ && (ir::effects_of(inst) & ir::WRITES_MEM) != 0;
      });
    }
    cpu->exit_kind = static_cast<u32>(ExitKind::None);
    if (observer != nullptr && step.helper_writes) observer->before_access(nullptr, 0, true);
    const Argument argument{&step.ir, observer};
    host::call_in_code(
        cpu,
        [](CpuState* state, const void* a) {
          const auto& in = *static_cast<const Argument*>(a);
          ir::interpret(*in.block, state, in.observer);
        },
        &argument);
    const ExitKind kind = static_cast<ExitKind>(cpu->exit_kind);
    if (kind == ExitKind::FetchFault) {
      if (cannot_fetch(cpu, cpu->exit_value) == ExitKind::None) continue;  // a tagged pc
      return ExitKind::FetchFault;
    }
    return kind == ExitKind::None || config.soft_mmu ? kind : pass_fault(cpu);
  }
}

// --- the public face --------------------------------------------------------------------------------------------------

void Engine::insert_breakpoint(GuestAddr pc) {
  std::unique_lock lock(impl_->mutex);
  if (impl_->breakpoints.insert(pc).second) impl_->forget_code_at(pc);
}

void Engine::remove_breakpoint(GuestAddr pc) {
  std::unique_lock lock(impl_->mutex);
  if (impl_->breakpoints.erase(pc) != 0) impl_->forget_code_at(pc);
}

bool Engine::has_breakpoint(GuestAddr pc) const {
  std::unique_lock lock(impl_->mutex);
  return impl_->breakpoints.contains(pc);
}

void Engine::remove_all_breakpoints() {
  std::unique_lock lock(impl_->mutex);
  for (const GuestAddr pc : impl_->breakpoints) impl_->forget_code_at(pc);
  impl_->breakpoints.clear();
}

std::string Engine::place_text(const CpuState* cpu) {
  Impl& e = *impl_;
  std::unique_lock lock(e.mutex);
  const HostAddr host = static_cast<const ThreadRecord*>(cpu->engine_data)->left_at;
  std::string text;
  if (host != 0 && e.cache.contains(host)) {
    std::lock_guard ranges(e.range_mutex);
    if (const Region* region = e.region_at(host)) {
      std::size_t insns = 0, bytes = 0;
      for (const auto& source : region->sources) ++insns, bytes += source.second;
      text = fmt::format("tier 2, region {} at {:#x} ({} blocks, {} bytes of guest code), host {:#x}; ", region->id, region->entry->pc,
                         insns, bytes, host);
    } else if (const TranslatedBlock* block = e.block_at(host)) {
      text = fmt::format("tier 1, block {:#x}, host {:#x}; ", block->pc, host);
    }
  } else if (host != 0) {
    text = fmt::format("{}, host {:#x}; ", e.config.tier == TierChoice::Interp ? "the interpreter" : "a helper", host);
  }
  GuestAddr place = cpu->pc;
  if (e.config.soft_mmu && !e.memory.locate(const_cast<CpuState*>(cpu), cpu->pc, place)) return text + "nothing can be fetched at pc";
  const auto page = e.pages.find(align_down(place, 4096));
  if (page != e.pages.end())
    for (const TranslatedBlock* block : page->second.blocks)
      if (place >= block->place && place - block->place < block->guest_bytes)
        return text + fmt::format("pc is in block {:#x} ({} instructions, entered {} times through tier 1{})", block->pc,
                                  block->guest_insns, entries(*block), block->region != nullptr ? ", begins a region" : "");
  return text + "pc is in no translated block";
}

std::string Engine::disassemble_guest(std::span<const u8> code, GuestAddr address) const {
  return disassemble(impl_->guest.llvm_triple, impl_->guest.llvm_features, code, address);
}

ExitKind Engine::debug_step(CpuState* cpu, ir::AccessObserver* observer) { return impl_->debug_step(cpu, observer); }

}  // namespace kiln::jit
