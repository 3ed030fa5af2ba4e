#include "jit/engine/engine.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "ir/interpreter.h"
#include "ir/passes/passes.h"
#include "jit/engine/impl.h"

namespace kiln::jit {

using ir::CpuState;
using ir::ExitKind;

namespace {

// What the lifter may have looked at behind a block: the instruction that it did not take in.
constexpr std::size_t kLongestInsn = 16;

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

ExitKind exit_kind(const CpuState* cpu) { return static_cast<ExitKind>(cpu->exit_kind); }
// A fault leaves this without unwinding, so it must leave nothing behind in a sanitizer's own stack.
__attribute__((disable_sanitizer_instrumentation)) void interpret_block(CpuState* cpu, const void* block) {
  ir::interpret(*static_cast<const ir::Block*>(block), cpu);
}

bool interrupted(const CpuState* cpu) { return __atomic_load_n(&cpu->interrupt, __ATOMIC_RELAXED) != 0; }

bool unknown_key(const CpuState* cpu) { return cpu->jump_key == ir::kJumpKeyUnknown; }

/// Puts where `block` begins into the thread's jump cache; 0 if it, or the region at its entry, was dropped since it was looked up.
HostAddr remember_code(CpuState* cpu, const TranslatedBlock& block) {
  const HostAddr code = block.entry.load(std::memory_order_acquire);
  const std::size_t index = ir::jump_cache_index(block.pc);
  ir::JumpCacheEntry& entry = cpu->jump_cache()[index];
  if (unknown_key(cpu)) return code;
  entry.code = code;
  std::atomic_ref<u64>(entry.pc).store(block.pc ^ cpu->jump_key);
  if (!block.dead.load() && block.entry.load() == code) return code;  // dropped after this line, the dropper empties the entry itself
  std::atomic_ref<u64>(entry.pc).store(ir::empty_jump_cache_pc(index));
  return 0;
}

}  // namespace

Engine::Impl::Impl(const EngineConfig& c, const ir::GuestDesc& g, AddressSpace& m)
    : config(c), guest(g), memory(m), cache(c.cache_bytes) {
  if (!cache.valid()) {
    std::fprintf(stderr, "kiln: cannot map %zu bytes of code cache\n", c.cache_bytes);
    std::exit(1);
  }
  started = now();
  runtime.leave = host::leave_address();
  runtime.leave_chain = host::leave_chain_address();
  runtime.leave_hot = host::leave_hot_address();
  runtime.leave_poll = host::leave_poll_address();
  // Self-check goes block by block, and the execution log names every block that the dispatcher enters.
  const bool must_leave = config.self_check || config.log->on(kLogExec);
  runtime.lookup_miss = must_leave ? host::lookup_miss_address() : host::lookup_quick_address();
  if (config.perf_map) {
    const std::string path = fmt::format("/tmp/perf-{}.map", getpid());
    perf_file = std::fopen(path.c_str(), "w");
  }
  if (config.jitdump) jitdump = JitDump::open();
  if (!config.cache_file.empty()) open_store();
}

Engine::Impl::~Impl() {
  {
    std::unique_lock lock(mutex);
    stopping = true;
    compile_wanted.notify_all();
  }
  if (compile_thread_running) pthread_join(compile_thread, nullptr);
  if (perf_file != nullptr) std::fclose(perf_file);
  for (const auto& list : code_blocks)
    for (TranslatedBlock* block : list) delete block;
  for (const auto& [address, region] : code_regions) {
    for (ExitSite* site : region->exits) delete site;
    delete region;
  }
}

void Engine::Impl::lift(ir::CodeSource& code, GuestAddr pc, u32 mode, unsigned max_insns, bool masked, ir::Block& out) {
  ir::LiftLimits limits;
  limits.max_insns = max_insns;
  out.clear();
  guest.lift(code, pc, mode, limits, out);
  if (masked) mask_addresses(out, guest.address_mask);
}

// Exactly what translate() lifted, whatever stands in memory now.
void Engine::Impl::lift_again(const TranslatedBlock& block, ir::Block& out) {
  if (block.trap) return make_trap(block.pc, block.mode, out);
  KeptCode code(block.pc, block.bytes);
  lift(code, block.pc, block.mode, block.max_insns, block.masked, out);
  if (block.checked) insert_code_check(out, block.bytes.data());
}

Tier1Options Engine::Impl::tier1_options(TranslatedBlock& block) const {
  Tier1Options options;
  options.code_address = block.code;
  options.runtime = runtime;
  options.soft_mmu = config.soft_mmu;
  options.entry_patch = counts();
  options.counter = counts() ? block.counter.address() : nullptr;
  options.targets = block.targets != nullptr ? block.targets->pc : nullptr;
  options.block_id = reinterpret_cast<u64>(&block);
  options.exit_ids[0] = reinterpret_cast<u64>(&block.exits[0]);
  options.exit_ids[1] = reinterpret_cast<u64>(&block.exits[1]);
  return options;
}

TranslatedBlock* Engine::Impl::block_at(HostAddr code) {
  const auto& list = code_blocks[cache.generation_of(code)];
  auto it = std::upper_bound(list.begin(), list.end(), code, [](HostAddr a, const TranslatedBlock* b) { return a < b->code; });
  if (it == list.begin()) return nullptr;
  TranslatedBlock* block = *std::prev(it);
  return code - block->code < block->code_bytes ? block : nullptr;
}

// Protect first: a write by another thread after this point faults and waits for the lock we hold.
bool Engine::Impl::watch_page(CodePage& page, GuestAddr at) {
  if (page.watched || page.checked) return false;
  memory.protect_code(at);
  return page.watched = true;
}

TranslatedBlock* Engine::Impl::find_from(const TranslatedBlock& from, GuestAddr pc) const {
  if (!config.soft_mmu) return find(pc, from.mode);
  if (align_down(pc, 4096) == align_down(from.pc, 4096)) return find(pc, from.mode, from.place + (pc - from.pc));
  return blocks.find_any(pc, from.mode);
}

TranslatedBlock* Engine::Impl::translate(GuestAddr pc, u32 mode, GuestAddr at) {
  const double start = config.stats ? now() : 0;
  if (store != nullptr && breakpoints.empty()) {
    if (TranslatedBlock* block = load_stored(pc, mode)) {
      if (config.stats) stats.translate_seconds += now() - start;
      return block;
    }
  }
  const GuestAddr first_page = align_down(at, 4096);
  watch_page(pages[first_page], first_page);
  PlacedCode placed(memory, pc, at);
  CodeSnapshot code(placed, pc);
  lift(code, pc, mode, config.max_block_insns, masks_addresses, scratch);
  if (threads.size() > 1 && guest.coherent_icache && !code.same_again()) {  // being written: not half of it
    code.clear();
    lift(code, pc, mode, config.max_block_insns, masks_addresses, scratch);
  }
  bool checked = pages[first_page].checked;
  const GuestAddr last_page = align_down(at + std::max(scratch.guest_bytes, 1u) - 1, 4096);
  if (last_page != first_page) {
    if (watch_page(pages[last_page], last_page)) {  // an instruction across two pages: what was read of the second one does not count
      code.clear();
      lift(code, pc, mode, config.max_block_insns, masks_addresses, scratch);
    }
    checked |= pages[last_page].checked;
  }
  const ir::Inst& only = scratch.insts.back();
  if (only.op == ir::Op::exit_exception_ && only.aux == static_cast<u32>(ExitKind::FetchFault) && only.imm == pc) {
    fetch_fault = only.imm2 != 0 ? only.imm2 : pc;
    return nullptr;
  }
  unsigned max_insns = config.max_block_insns;
  if (!breakpoints.empty()) [[unlikely]] {
    if (const unsigned insns = insns_to_breakpoint(scratch); insns != 0)
      lift(code, pc, mode, max_insns = insns, masks_addresses, scratch);
  }
  const bool trap = breakpoints.contains(pc);
  if (trap) {
    make_trap(pc, mode, scratch);
  } else if (checked) {
    // What a store of the block's own changes, the next block's check sees.
    if (const unsigned insns = insns_to_first_store(scratch); insns < scratch.guest_insns)
      lift(code, pc, mode, max_insns = insns, masks_addresses, scratch);
    insert_code_check(scratch, code.data());
  }
  const bool keep_lifted = config.log->on(kLogIr) || config.self_check;
  if (keep_lifted) scratch_lifted = scratch;
  ir::optimise(scratch);

  auto* block = new TranslatedBlock;
  block->pc = pc;
  block->place = at;
  block->mode = mode;
  block->guest_bytes = scratch.guest_bytes;
  block->guest_insns = scratch.guest_insns;
  block->masked = masks_addresses;
  block->checked = checked && !trap;
  block->trap = trap;
  block->queued = trap;  // never the entry of a region
  block->max_insns = max_insns;
  block->bytes = code.taken(block->guest_bytes + kLongestInsn);
  if (config.tier == TierChoice::Interp) {
    block->ir = std::make_unique<ir::Block>(scratch);
    code_blocks[0].push_back(block);
  } else {
    // stitch() needs the address before the size is known: a generous bound keeps the generation's end from being crossed.
    const std::size_t bound = 4096 + scratch.insts.size() * 256;
    block->code = cache.reserve(bound);
    if (block->code == 0) {
      delete block;
      no_room = true;
      return nullptr;
    }
    if (counts() && only.op == ir::Op::exit_indirect_ && static_cast<ir::ExitHint>(only.lane) != ir::ExitHint::Return)
      block->targets = std::make_unique<RecentTargets>();
    Tier1Code code = stitch(scratch, guest, tier1_options(*block), false);
    std::memcpy(cache.writable(block->code), code.bytes.data(), code.bytes.size());
    for (std::size_t i = 0; i < code.exits.size() && i < 2; ++i) {
      ExitSite& site = block->exits[i];
      site.target = code.exits[i].target;
      site.place_page = first_page;
      site.mode = mode;
      site.field = code.exits[i].patch_offset != 0 ? block->code + code.exits[i].patch_offset : 0;
      site.unchained = block->code + code.exits[i].stub_offset;
    }
    fallback_ops += code.fallback_ops;
    place(*block, code.bytes.size());
    if (saves_blocks && breakpoints.empty()) keep_for_store(*block, code, scratch);
  }
  publish(block, end_of(scratch), checked ? std::max(pages[first_page].demotions, pages[last_page].demotions) : 0);
  if (config.stats) stats.translate_seconds += now() - start;
  log_block(*block, scratch, keep_lifted ? &scratch_lifted : nullptr);
  return block;
}

// The block's code stands at block.code.
void Engine::Impl::place(TranslatedBlock& block, std::size_t bytes) {
  cache.commit(block.code, bytes);
  block.code_bytes = static_cast<u32>(bytes);
  block.entry = block.code;
  std::lock_guard ranges(range_mutex);
  code_blocks[cache.current()].push_back(&block);
}

// Loops and functions ask for a region first; a block in their midst only when it runs much oftener and none has covered it.
void Engine::Impl::publish(TranslatedBlock* block, BlockEnd end, u32 patience_shift) {
  const auto mark_head = [&](GuestAddr target, bool call) {
    if (!call && target > block->pc) return;
    if (target == block->pc) block->head = true;
    TranslatedBlock* other = find_from(*block, target);
    if (other == nullptr) future_heads.insert(target);
    else if (!other->head) {
      other->head = true;
      if (*other->counter > config.hot_threshold && !other->queued && !other->checked) arm(*other, config.hot_threshold);
    }
  };
  if (end != BlockEnd::Other) mark_head(block->exits[0].target, end == BlockEnd::Call);
  if (end == BlockEnd::Branch) mark_head(block->exits[1].target, false);
  block->head = block->head || future_heads.erase(block->pc) != 0;
  u64 patience = block->head ? config.hot_threshold : u64{config.hot_threshold} * kInnerFactor;
  if (block->checked) patience = u64{config.hot_threshold} << patience_shift;
  if (block->trap) patience = kNever;
  arm(*block, static_cast<u32>(std::min<u64>(patience, kNever)));
  blocks.insert(block);
  for_each_page(block->place, block->guest_bytes, [&](GuestAddr page) { pages[page].blocks.push_back(block); });
  ++stats.blocks;
  stats.guest_insns += block->guest_insns;
  stats.code_bytes += block->code_bytes;
  map_symbol(block->code, block->code_bytes, "t1", block->pc);
}

TranslatedBlock* Engine::Impl::find_or_translate(ThreadRecord& thread, std::unique_lock<std::mutex>& lock) {
  CpuState* cpu = thread.cpu;
  GuestAddr place = cpu->pc;
  if (config.soft_mmu && !memory.locate(cpu, cpu->pc, place)) return nullptr;
  for (int tries = 0; tries < 100; ++tries) {  // others may fill the fresh generation before this thread has the lock again
    TranslatedBlock* block = find(cpu->pc, cpu->mode, place);
    if (block == nullptr) block = translate(cpu->pc, cpu->mode, place);
    if (block != nullptr || !std::exchange(no_room, false)) return block;
    evict_next_generation(&thread, lock);
  }
  std::fprintf(stderr, "kiln: internal error: the block at %#lx needs more code than a generation of the cache holds\n", cpu->pc);
  exit_with_internal_error();
}

void Engine::Impl::map_symbol(HostAddr address, std::size_t bytes, const char* kind, GuestAddr pc) {
  if (perf_file == nullptr && jitdump == nullptr) return;
  const std::string name = fmt::format("{}_{:x}", kind, pc);
  if (jitdump != nullptr) jitdump->add(address, {cache.writable(address), bytes}, name);
  if (perf_file == nullptr) return;
  fmt::print(perf_file, "{:x} {:x} {}\n", address, bytes, name);
  std::fflush(perf_file);
}

void Engine::Impl::log_block(const TranslatedBlock& block, const ir::Block& optimised, const ir::Block* lifted) {
  const Log& log = *config.log;
  if (log.on(kLogInAsm)) {
    std::vector<u8> code(block.guest_bytes);
    memory.fetch(block.place, code.data(), code.size());
    log.write(fmt::format("IN: block {:#x}, {} instructions, mode {:#x}\n{}\n", block.pc, block.guest_insns, block.mode,
                          disassemble(guest.llvm_triple, guest.llvm_features, code, block.pc)));
  }
  if (log.on(kLogIr) && lifted != nullptr) log.write(fmt::format("IR: {:#x}\n{}\n", block.pc, ir::print(*lifted)));
  if (log.on(kLogIrOpt)) log.write(fmt::format("IR_OPT: {:#x}\n{}\n", block.pc, ir::print(optimised)));
  if (log.on(kLogOutAsm) && block.code != 0)
    log.write(fmt::format("OUT: block {:#x}, {} bytes\n{}\n", block.pc, block.code_bytes,
                          disassemble("x86_64-linux-gnu", "", {cache.writable(block.code), block.code_bytes}, block.code)));
}

ExitKind Engine::Impl::run(CpuState* cpu) {
  if (config.tier == TierChoice::Interp) return run_interpreter(cpu);
  if (config.self_check) return run_self_check(cpu);
  ThreadRecord& thread = *thread_of(cpu);
  // What generated code hands back names blocks and exits by address: good only while nothing was evicted since.
  ExitSite* pending = nullptr;
  TranslatedBlock* hot = nullptr;
  u64 epoch = 0;
  for (;;) {
    if (interrupted(cpu)) {
      cpu->exit_kind = static_cast<u32>(ExitKind::Interrupt);
      return ExitKind::Interrupt;
    }
    cpu->exit_kind = static_cast<u32>(ExitKind::None);
    // From here the thread may hold pointers to blocks and code; whoever stops the world waits until it does not.
    thread.active.store(true);
    ++thread.dispatches;
    TranslatedBlock* block = nullptr;
    if (!world_stopping.load() && pending == nullptr && hot == nullptr) block = find_now(cpu);
    if (block == nullptr) {
      thread.active.store(false);
      std::unique_lock lock(mutex);
      world_resumed.wait(lock, [&] { return !world_stopping.load(); });
      if (epoch != evictions) pending = nullptr, hot = nullptr;
      if (hot != nullptr) request_tier2(std::exchange(hot, nullptr), lock);
      block = find_or_translate(thread, lock);
      if (block == nullptr) {
        if (cannot_fetch(cpu, fetch_fault) != ExitKind::None) return exit_kind(cpu);
        continue;
      }
      if (epoch != evictions) pending = nullptr;
      epoch = evictions;
      if (pending != nullptr && !pending->dead && pending->target == block->pc && pending->mode == block->mode &&
          (!config.soft_mmu || pending->place_page == align_down(block->place, 4096)))
        link(*pending, *block);
      pending = nullptr;
      thread.active.store(true);
    }
    const HostAddr code = config.soft_mmu ? entry_of(cpu, *block) : remember_code(cpu, *block);
    if (code == 0) {
      thread.active.store(false);
      continue;
    }
    if (config.log->on(kLogExec)) config.log->write(fmt::format("EXEC: {:#x}\n", cpu->pc));
    cpu->exit_kind = static_cast<u32>(ExitKind::None);
    host::enter_code(cpu, code);
    thread.active.store(false);
    if (config.soft_mmu && thread.recover) {
      std::unique_lock lock(mutex);
      recover(thread);
      return exit_kind(cpu);
    }
    switch (exit_kind(cpu)) {
      case ExitKind::Chain: pending = reinterpret_cast<ExitSite*>(cpu->exit_value); break;
      case ExitKind::None:
      case ExitKind::Miss: break;
      case ExitKind::Hot: hot = reinterpret_cast<TranslatedBlock*>(cpu->exit_value); break;
      case ExitKind::Fault:
      case ExitKind::CodeChanged: {
        if (config.soft_mmu) return exit_kind(cpu);
        {
          std::unique_lock lock(mutex);
          recover(thread);
        }
        const ExitKind kind = pass_fault(cpu);
        if (kind != ExitKind::None) return kind;
        break;
      }
      default: return exit_kind(cpu);
    }
    // A mode change by the block (FPCR write) shows at the next look-up only: jump caches are keyed by pc alone.
  }
}

// A full system's region is for one translation of its pages; elsewhere its entry block runs in tier 1.
HostAddr Engine::Impl::entry_of(CpuState* cpu, TranslatedBlock& block) {
  constexpr std::size_t kEntryNop = 5;
  constexpr u32 kMany = 1000;
  const HostAddr code = remember_code(cpu, block);
  if (code == 0 || code == block.code) return code;
  Region* region = block.region;
  if (region == nullptr || region->dead) return code;
  if (region->valid_key == cpu->jump_key) return code;
  if (unknown_key(cpu)) return block.code + kEntryNop;
  for (const auto& [page, place] : region->page_places) {
    GuestAddr now = 0;
    const u32 kind = cpu->exit_kind;
    if (memory.locate(cpu, page, now) && now == place) continue;
    cpu->exit_kind = kind;
    if (++region->mismatches > kMany) {
      region->mismatches = 0;
      thread_of(cpu)->active.store(false);
      std::unique_lock lock(mutex);
      if (block.region == region) drop_region(region);
      return 0;
    }
    return block.code + kEntryNop;
  }
  region->valid_key = cpu->jump_key;
  return code;
}

// Null also where the guest's tables have no translation: the dispatcher finds that out again, and takes the exception.
TranslatedBlock* Engine::Impl::find_now(CpuState* cpu) {
  GuestAddr place = cpu->pc;
  if (config.soft_mmu && !memory.locate(cpu, cpu->pc, place)) return nullptr;
  return find(cpu->pc, cpu->mode, place);
}

// An indirect exit missed the jump cache. The thread is active, as anywhere in generated code: what it finds stays.
HostAddr Engine::Impl::find_code(CpuState* cpu) {
  if (interrupted(cpu)) return 0;
  ThreadRecord& thread = *thread_of(cpu);
  ++thread.lookups;
  const GuestAddr pc = cpu->pc;
  FarTarget* const far = thread.far != nullptr ? &thread.far[far_index(pc)] : nullptr;
  if (far != nullptr && pc != 0 && far->pc == pc && far->mode == cpu->mode) {
    const HostAddr code = far->code;
    const std::size_t index = ir::jump_cache_index(pc);
    ir::JumpCacheEntry& entry = cpu->jump_cache()[index];
    entry.code = code;
    std::atomic_ref<u64>(entry.pc).store(pc);
    // forget_in_jump_caches() empties the far entry first: what it misses in the jump cache is seen here.
    if (std::atomic_ref<u64>(far->pc).load() == pc) return code;
    std::atomic_ref<u64>(entry.pc).store(ir::empty_jump_cache_pc(index));
    return 0;
  }
  const TranslatedBlock* block = find_now(cpu);
  if (block == nullptr) return 0;
  if (config.soft_mmu) return remember_code(cpu, *block);  // a region looks itself whether it holds
  if (far != nullptr) {
    const HostAddr code = block->entry.load(std::memory_order_acquire);
    far->code = code;
    far->mode = cpu->mode;
    std::atomic_ref<u64>(far->pc).store(pc);
    if (block->dead.load() || block->entry.load() != code) std::atomic_ref<u64>(far->pc).store(0);
  } else if (thread.lookups >= kFarAfter) {
    void* mapping = mmap(nullptr, sizeof(FarTarget) << kFarBits, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapping != MAP_FAILED) std::atomic_ref<FarTarget*>(thread.far).store(static_cast<FarTarget*>(mapping));
  }
  return remember_code(cpu, *block);
}

ExitKind Engine::Impl::run_interpreter(CpuState* cpu) {
  for (;;) {
    if (interrupted(cpu)) {
      cpu->exit_kind = static_cast<u32>(ExitKind::Interrupt);
      return ExitKind::Interrupt;
    }
    TranslatedBlock* block;
    GuestAddr unfetched;
    {
      std::unique_lock lock(mutex);
      GuestAddr place = cpu->pc;
      if (config.soft_mmu && !memory.locate(cpu, cpu->pc, place)) return exit_kind(cpu);
      block = find(cpu->pc, cpu->mode, place);
      if (block == nullptr) block = translate(cpu->pc, cpu->mode, place);
      unfetched = fetch_fault;
    }
    if (block == nullptr) {
      if (cannot_fetch(cpu, unfetched) != ExitKind::None) return exit_kind(cpu);
      continue;
    }
    cpu->exit_kind = static_cast<u32>(ExitKind::None);
    // interpret() keeps pc and slots exact; a fault leaves it through the same door as a helper's.
    host::call_in_code(cpu, interpret_block,
                       block->ir.get());
    if (config.soft_mmu ? exit_kind(cpu) != ExitKind::None : pass_fault(cpu) != ExitKind::None) return exit_kind(cpu);
  }
}

// Gives None if the fetch is to be tried again.
ExitKind Engine::Impl::cannot_fetch(CpuState* cpu, GuestAddr address) {
  if (config.soft_mmu && exit_kind(cpu) != ExitKind::None) return exit_kind(cpu);
  const bool tagged = guest.address_mask != 0 && (cpu->pc & ~guest.address_mask) != 0;
  if (tagged) cpu->pc &= guest.address_mask;
  cpu->exit_kind = static_cast<u32>(tagged ? ExitKind::None : ExitKind::FetchFault);
  cpu->exit_value = address;
  return exit_kind(cpu);
}

ExitKind Engine::Impl::step(CpuState* cpu, bool masked) {
  ir::Block block;
  GuestAddr place = cpu->pc;
  if (config.soft_mmu && !memory.locate(cpu, cpu->pc, place)) return exit_kind(cpu);
  PlacedCode placed(memory, cpu->pc, place);
  CodeSnapshot code(placed, cpu->pc);
  lift(code, cpu->pc, cpu->mode, 1, masked, block);
  cpu->exit_kind = static_cast<u32>(ExitKind::None);
  host::call_in_code(cpu, interpret_block, &block);
  return exit_kind(cpu);
}

// What the engine can put right about an exit itself; None if the thread may go on.
ExitKind Engine::Impl::pass_fault(CpuState* cpu) {
  if (exit_kind(cpu) == ExitKind::CodeChanged) return pass_changed_code(cpu);
  // With bits set that do not count the host sees an address that is none.
  if (exit_kind(cpu) != ExitKind::Fault || (cpu->exit_aux & ir::kFaultNonCanonical) == 0 || guest.address_mask == 0)
    return exit_kind(cpu);
  if (step(cpu, true) != ExitKind::None) return exit_kind(cpu);
  constexpr u32 kMany = 50;
  std::unique_lock lock(mutex);
  if (!masks_addresses && ++tagged_accesses > kMany) {
    masks_addresses = true;
    invalidate(0, ~u64{0});
  }
  return ExitKind::None;
}

// A block found its bytes changed, or an instruction is about to write to the page that it is on itself. The latter is carried out
// alone, so that things go on even if the page gets no rest.
ExitKind Engine::Impl::pass_changed_code(CpuState* cpu) {
  if (cpu->exit_value == kCodeDiffers) {
    std::unique_lock lock(mutex);
    TranslatedBlock* block = find(cpu->pc, cpu->mode);
    if (block != nullptr && block->checked) drop_block(block);
    cpu->exit_kind = static_cast<u32>(ExitKind::None);
    return ExitKind::None;
  }
  while (step(cpu, masks_addresses) == ExitKind::CodeChanged) {
  }
  return exit_kind(cpu);
}

extern "C" HostAddr host::kiln_find_code(CpuState* cpu) { return thread_of(cpu)->engine->find_code(cpu); }

// --- the public face --------------------------------------------------------------------------------------------------

Engine::Engine(const EngineConfig& config, const ir::GuestDesc& guest, AddressSpace& memory)
    : impl_(std::make_unique<Impl>(config, guest, memory)) {}
Engine::~Engine() = default;

bool Engine::host_supported(std::string& why) { return jit::host_supported(why); }

const ir::GuestDesc& Engine::guest() const { return impl_->guest; }

CpuState* Engine::create_cpu() {
  auto* thread = new ThreadRecord;
  const std::size_t below = ir::kJumpCacheBytes + (impl_->config.soft_mmu ? ir::kTlbBytes : 0);
  thread->mapping_bytes = align_up(below + impl_->guest.state_size, 4096);
  void* mapping = mmap(nullptr, thread->mapping_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) {
    delete thread;
    return nullptr;
  }
  thread->mapping = mapping;
  auto* cpu = reinterpret_cast<CpuState*>(static_cast<char*>(mapping) + below);
  thread->cpu = cpu;
  thread->engine = impl_.get();
  impl_->guest.reset(cpu);
  cpu->memory_base = impl_->memory.base();
  cpu->mode = impl_->guest.mode_of(cpu);
  cpu->engine_data = thread;
  cpu->jump_cache()[0].pc = ir::empty_jump_cache_pc(0);  // the others' pages are not touched before they are used
  std::unique_lock lock(impl_->mutex);
  impl_->threads.push_back(thread);
  return cpu;
}

void Engine::destroy_cpu(CpuState* cpu) {
  ThreadRecord* thread = thread_of(cpu);
  {
    std::unique_lock lock(impl_->mutex);
    std::erase(impl_->threads, thread);
  }
  if (thread->far != nullptr) munmap(thread->far, sizeof(FarTarget) << kFarBits);
  munmap(thread->mapping, thread->mapping_bytes);
  delete thread;
}

ExitKind Engine::run(CpuState* cpu) {
  thread_of(cpu)->left_at = 0;
  return impl_->run(cpu);
}

ExitKind Engine::step(CpuState* cpu) { return impl_->step(cpu, impl_->masks_addresses); }

void Engine::invalidate(GuestAddr start, u64 size) {
  std::unique_lock lock(impl_->mutex);
  impl_->invalidate(start, size, true);
}

void Engine::forget_keys() {
  std::unique_lock lock(impl_->mutex);
  for (const auto& [start, region] : impl_->code_regions) region->valid_key = kNoKey;
}

bool Engine::changed(GuestAddr place, u64 bytes) {
  std::unique_lock lock(impl_->mutex);
  bool empty = true;
  impl_->invalidate(place, bytes);
  for_each_page(place, static_cast<u32>(bytes), [&](GuestAddr at) {
    const auto it = impl_->pages.find(at);
    if (it == impl_->pages.end()) return;
    const bool none = it->second.blocks.empty() && it->second.regions.empty();
    if (none) it->second.watched = false;
    empty &= none;
  });
  return empty;
}

void Engine::written(GuestAddr page) {
  std::unique_lock lock(impl_->mutex);
  impl_->written(align_down(page, 4096));
}

bool Engine::leave_changed_code(CpuState* cpu, void* ucontext) { return impl_->leave_changed_code(cpu, ucontext); }

void Engine::invalidate_all() {
  std::unique_lock lock(impl_->mutex);
  impl_->invalidate(0, ~u64{0}, true);
}

bool Engine::handle_fault(CpuState* cpu, const siginfo_t* info, void* ucontext, u32 fault_flags) {
  return impl_->handle_fault(cpu, info, ucontext, fault_flags);
}

bool Engine::end_compile_thread() {
  Impl& e = *impl_;
  std::unique_lock lock(e.mutex);
  if (!e.compile_thread_running) return false;
  e.stopping = true;
  e.compile_wanted.notify_all();
  lock.unlock();
  pthread_join(e.compile_thread, nullptr);
  lock.lock();
  e.stopping = false;
  e.compile_thread_running = false;
  return true;
}

void Engine::before_fork() {
  impl_->compiler_mutex.lock();
  impl_->mutex.lock();
  impl_->range_mutex.lock();
  impl_->fork_copy = impl_->cache.prepare_fork();
}

void Engine::after_fork_parent() {
  impl_->cache.release_fork(std::exchange(impl_->fork_copy, nullptr));
  impl_->range_mutex.unlock();
  impl_->mutex.unlock();
  impl_->compiler_mutex.unlock();
}

void Engine::after_fork_child(CpuState* cpu) {
  ThreadRecord* self = thread_of(cpu);
  impl_->unsaved_blocks = 0;  // the parent's
  // Files of its own for what it translates from now on; perf knows the parent's code by the parent's.
  if (impl_->jitdump != nullptr) impl_->jitdump = JitDump::open();
  if (impl_->perf_file != nullptr) {
    std::fclose(impl_->perf_file);
    impl_->perf_file = std::fopen(fmt::format("/tmp/perf-{}.map", getpid()).c_str(), "w");
  }
  std::erase_if(impl_->threads, [&](ThreadRecord* t) { return t != self; });
  // What the compile thread (or another guest thread, with synchronous_tier2) was about to do nobody does now: it is to be asked for again.
  const auto ask_again = [&](TranslatedBlock* block) {
    if (block->dead) return;
    block->queued = false;
    arm(*block, impl_->config.hot_threshold);
  };
  if (impl_->building != nullptr) ask_again(impl_->building->entry);
  impl_->building = nullptr;  // on a stack that no longer exists
  for (TranslatedBlock* block : impl_->compile_queue) ask_again(block);
  impl_->compile_queue.clear();
  if (impl_->compile_thread_running) {
    // The thread does not exist in the child.
    new (&impl_->compile_wanted) std::condition_variable;
    impl_->compile_thread_running = false;
  }
  new (&impl_->world_resumed) std::condition_variable;
  impl_->world_stopping.store(false);  // a thread of the parent's may have been waiting for the others
  if (!impl_->cache.adopt_fork(std::exchange(impl_->fork_copy, nullptr))) {
    std::fprintf(stderr, "kiln: no memory for the child's code cache\n");
    _exit(1);
  }
  after_fork_parent();
}

bool Engine::save_blocks() {
  std::unique_lock lock(impl_->mutex);
  return impl_->save_blocks();
}

EngineStats Engine::stats() const { return impl_->stats; }

}  // namespace kiln::jit
