// Tier-up: a block whose counter ran out becomes the entry of a region, grown along the edges that tier 1 counted, compiled on a
// background thread and entered by a patched jump.
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>

#include <algorithm>
#include <chrono>

#include "ir/passes/passes.h"
#include "jit/engine/impl.h"

namespace kiln::jit {

using ir::Op;

namespace {

constexpr int kMaxCallDepth = 4;
constexpr int kMaxRecursion = 3;  // of one function in the calls around a call
// Of a block in regions. CPython's loop over opcodes stood in 138 of them; more than a few gain nothing that their compile time does not cost.
constexpr u32 kMostCopies = 3;
constexpr double kCompileShare = 0.33;
constexpr double kCompileGrace = 0.08;  // seconds from the start in which nothing is compiled in the background

// A call that is inlined into the region: where it returns to, and from which context it came.
struct Context {
  int parent = -1;
  GuestAddr callee = 0;
  GuestAddr return_to = 0;
  int depth = 0;
};

struct Pending {
  GuestAddr pc;
  int context;
  int from;           // index of the block whose edge wants it, -1 for the entry
  enum { Taken, NotTaken, Guess } edge;
  u64 heat;
};

}  // namespace

void Engine::Impl::request_tier2(TranslatedBlock* block, std::unique_lock<std::mutex>& lock) {
  if (block->dead || block->queued) return;
  if (block->checked) return watch_again(*block);
  block->queued = true;
  arm(*block, kNever);
  if (config.synchronous_tier2) {
    if (!covered(block)) compile_region(block, lock);
    return;
  }
  compile_queue.push_back(block);
  queue_peak = std::max<u64>(queue_peak, compile_queue.size());
  if (!compile_thread_running) start_compile_thread();
  compile_wanted.notify_one();
}

// All blocks of a hot loop run out of their counters together. Once one's region is there the others are inside it and need none of
// their own, unless they go on being entered from tier 1: then they run out a second time.
bool Engine::Impl::covered(TranslatedBlock* block) {
  if (block->inside == nullptr || block->rearmed) return false;
  block->rearmed = true;
  block->queued = false;
  arm(*block, config.hot_threshold);
  return true;
}

void Engine::Impl::start_compile_thread() {
  // The compile thread takes none of the guest's signals.
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGSEGV);  // its own are told as an internal error
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  const auto main = [](void* impl) -> void* {
    static_cast<Impl*>(impl)->compile_loop();
    return nullptr;
  };
  // There may be none to be had: a limit, or a guest whose children are to live in another PID namespace. Tier 1 does without.
  compile_thread_running = pthread_create(&compile_thread, nullptr, main, this) == 0;
  if (!compile_thread_running) compile_queue.clear();
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

namespace {
double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }
}  // namespace

void Engine::Impl::compile_loop() {
  std::unique_lock lock(mutex);
  for (;;) {
    compile_wanted.wait(lock, [&] { return stopping || !compile_queue.empty(); });
    if (stopping) return;
    // A compiler that runs all the time takes a core from the guest (and from everybody else): a third of the time at most, and none of
    // a short run's.
    const double ahead = stats.tier2_seconds - kCompileShare * (seconds_now() - started - kCompileGrace);
    if (ahead > 0) {
      compile_wanted.wait_for(lock, std::chrono::duration<double>(ahead / kCompileShare), [&] { return stopping; });
      continue;
    }
    // The hottest first: counters go on counting while their blocks wait.
    const auto hottest = std::min_element(compile_queue.begin(), compile_queue.end(),
                                          [](const TranslatedBlock* a, const TranslatedBlock* b) { return *a->counter < *b->counter; });
    TranslatedBlock* block = *hottest;
    compile_queue.erase(hottest);
    if (!block->dead && !covered(block)) compile_region(block, lock);
  }
}

namespace {
struct TargetCount {
  GuestAddr pc;
  unsigned count;
};
/// Each once, the most frequent first.
std::vector<TargetCount> recent_targets(const RecentTargets& recent) {
  std::vector<TargetCount> targets;
  for (const GuestAddr& noted : recent.pc) {
    const GuestAddr pc = __atomic_load_n(&noted, __ATOMIC_RELAXED);  // generated code may be writing
    if (pc == 0) continue;
    const auto known = std::find_if(targets.begin(), targets.end(), [&](const TargetCount& t) { return t.pc == pc; });
    if (known != targets.end()) ++known->count;
    else targets.push_back({pc, 1});
  }
  std::sort(targets.begin(), targets.end(),
            [](const TargetCount& a, const TargetCount& b) { return a.count != b.count ? a.count > b.count : a.pc < b.pc; });
  return targets;
}
constexpr std::size_t kMostCallees = 2;  // that one indirect call brings into the region
constexpr unsigned kOftenCalled = 4;     // of the last kTargetsKept
}  // namespace

// Grows along the hottest edges first, so that the size limit cuts the cold ends.
bool Engine::Impl::grow_region(TranslatedBlock* entry, RegionRequest& request, RegionBuild& build,
                               std::map<GuestAddr, GuestAddr>& page_places) {
  // In a full system: the block where the region's pages lead, as far as they are known.
  const auto find_in_region = [&](GuestAddr pc) {
    if (!config.soft_mmu) return find(pc, entry->mode);
    const auto page = page_places.find(align_down(pc, 4096));
    return page != page_places.end() ? find(pc, entry->mode, page->second + pc % 4096) : find_from(*entry, pc);
  };
  const u64 hot_enough = std::max<u64>(1, entries(*entry) / 64);
  std::vector<Context> contexts{Context{}};
  std::map<std::pair<int, GuestAddr>, int> index;  // (context, pc) -> block in the region
  std::vector<int> context_of;
  std::vector<Pending> stack{{entry->pc, 0, -1, Pending::Taken, ~u64{0}}};
  u32 insns = 0;

  while (!stack.empty()) {
    // The hottest edge next; a call's blocks count for less the deeper it is, so that a loop is whole before its calls are.
    const auto best = std::max_element(stack.begin(), stack.end(), [](const Pending& a, const Pending& b) { return a.heat < b.heat; });
    const Pending want = *best;
    stack.erase(best);
    const auto known = index.find({want.context, want.pc});
    int target;
    if (known != index.end()) {
      target = known->second;
    } else {
      const TranslatedBlock* profile = find_in_region(want.pc);
      if (profile == nullptr || profile->dead || profile->checked || profile->trap || insns >= config.region_insns) continue;
      if (profile != entry && (entries(*profile) < hot_enough || profile->copies >= kMostCopies)) continue;
      RegionBlock block;
      if (config.soft_mmu) lift_again(*profile, block.ir);
      else lift(memory, want.pc, entry->mode, config.max_block_insns, masks_addresses, block.ir);
      if (!breakpoints.empty()) {
        if (const unsigned limit = insns_to_breakpoint(block.ir); limit != 0)
          lift(memory, want.pc, entry->mode, limit, masks_addresses, block.ir);
      }
      if (block.ir.insts.empty()) continue;
      ir::optimise(block.ir);
      insns += block.ir.guest_insns;
      page_places.try_emplace(align_down(want.pc, 4096), align_down(profile->place, 4096));
      build.sources.push_back({profile->place, block.ir.guest_bytes});
      target = static_cast<int>(request.blocks.size());
      index[{want.context, want.pc}] = target;
      context_of.push_back(want.context);

      const ir::Inst exit = block.ir.insts.back();
      request.blocks.push_back(std::move(block));
      if (config.self_check) return true;  // one block at a time, as the interpreter runs beside it
      const auto follow = [&](GuestAddr pc, int context, decltype(Pending::edge) edge) {
        const TranslatedBlock* next = find_in_region(pc);
        if (next == nullptr) return;
        const u64 heat = next == entry && context == 0 ? ~u64{0} : entries(*next) * 16 / static_cast<u64>(1 + contexts[context].depth);
        stack.push_back({pc, context, target, edge, heat});
      };
      const auto call = [&](GuestAddr callee, GuestAddr return_to, decltype(Pending::edge) edge) {
        int recursion = 0;
        for (int c = want.context; c > 0; c = contexts[c].parent) recursion += contexts[c].callee == callee;
        if (contexts[want.context].depth >= kMaxCallDepth || recursion >= kMaxRecursion) return;
        contexts.push_back({want.context, callee, return_to, contexts[want.context].depth + 1});
        follow(callee, static_cast<int>(contexts.size()) - 1, edge);
      };
      const auto hint = static_cast<ir::ExitHint>(exit.lane);
      if (exit.op == Op::exit_jump_) {
        if (hint == ir::ExitHint::Call) call(exit.imm, exit.imm2, Pending::Taken);
        else follow(exit.imm, want.context, Pending::Taken);
      } else if (exit.op == Op::exit_branch_) {
        follow(exit.imm, want.context, Pending::Taken);
        follow(exit.imm2, want.context, Pending::NotTaken);
      } else if (exit.op == Op::exit_indirect_ && hint == ir::ExitHint::Return) {
        if (want.context != 0) follow(contexts[want.context].return_to, contexts[want.context].parent, Pending::Guess);
      } else if (exit.op == Op::exit_indirect_ && hint != ir::ExitHint::NewMode && profile->targets != nullptr) {
        // PLT stubs, virtual calls, loops over one handler go where they went; an interpreter's dispatch goes to many places in turn.
        const std::vector<TargetCount> targets = recent_targets(*profile->targets);
        for (std::size_t i = 0; i < targets.size(); ++i) {
          if (hint == ir::ExitHint::Jump) follow(targets[i].pc, want.context, Pending::Guess);
          else if (i == 0 || (i < kMostCallees && targets[i].count >= kOftenCalled)) call(targets[i].pc, exit.imm2, Pending::Guess);
        }
      }
    }
    if (want.from < 0) continue;
    RegionBlock& from = request.blocks[static_cast<std::size_t>(want.from)];
    if (want.edge == Pending::Taken) from.taken = target;
    if (want.edge == Pending::NotTaken) from.not_taken = target;
    if (want.edge == Pending::Guess) from.indirect.push_back({want.pc, target});
    // Every cycle has an edge that does not go forward within one context (returns lead on from their call).
    if (want.pc <= from.ir.pc && context_of[static_cast<std::size_t>(want.from)] == want.context)
      request.blocks[static_cast<std::size_t>(target)].poll = true;
  }
  return !request.blocks.empty();
}

void Engine::Impl::compile_region(TranslatedBlock* entry, std::unique_lock<std::mutex>& lock) {
  RegionRequest request;
  RegionBuild build;
  build.entry = entry;
  std::map<GuestAddr, GuestAddr> page_places;
  if (!grow_region(entry, request, build, page_places)) return;
  auto region = std::make_unique<Region>();
  if (config.soft_mmu) {
    region->page_places.assign(page_places.begin(), page_places.end());
    request.soft_mmu = true;
    request.valid_key = &region->valid_key;
  }
  region->entry = entry;
  region->id = next_region_id++;
  region->sources = build.sources;
  request.guest = &guest;
  request.id = region->id;
  request.leave = runtime.leave;
  request.fault_leave = host::fault_leave_address();
  request.lookup_miss = runtime.lookup_miss;

  const u32 mode = entry->mode;
  bool cache_full = false;
  std::vector<std::pair<GuestAddr, HostAddr>> stubs;
  request.direct_exit = [&](GuestAddr target) -> HostAddr {
    for (const auto& [pc, stub] : stubs)
      if (pc == target) return stub;
    std::lock_guard guard(mutex);
    HostAddr stub = cache.reserve(host::kExitStubBytes);
    if (stub == 0) {
      cache_full = true;
      return runtime.leave;
    }
    cache.commit(stub, host::kExitStubBytes);
    auto* site = new ExitSite;
    site->target = target;
    site->mode = mode;
    if (config.soft_mmu) {
      host::write_probe_stub(cache.writable(stub), stub, target, runtime.lookup_miss);
      region->exits.push_back(site);
      stubs.push_back({target, stub});
      return stub;
    }
    site->field = stub + host::kExitStubPatch;
    site->unchained = stub + host::kExitStubSlow;
    host::write_exit_stub(cache.writable(stub), stub, target, reinterpret_cast<u64>(site));
    region->exits.push_back(site);
    stubs.push_back({target, stub});
    return stub;
  };
  request.allocate = [&](std::size_t bytes) -> CodeMemory {
    std::lock_guard guard(mutex);
    const HostAddr start = cache.reserve(bytes, true);
    if (start == 0) {
      cache_full = true;
      return {};
    }
    cache.commit(start, bytes);
    return {cache.writable(start), start, bytes};
  };

  building = &build;
  lock.unlock();
  const double began = seconds_now();
  Result<RegionCode> code = Error{"cancelled"};
  {
    std::lock_guard compiling(compiler_mutex);
    if (compiler == nullptr) compiler = make_tier2_compiler(*config.log);
    code = compiler->compile(request);
  }
  const double seconds = seconds_now() - began;
  lock.lock();
  if (cache_full) evict_next_generation(nullptr, lock);  // cancels this build if it takes the entry away
  building = nullptr;
  stats.tier2_seconds += seconds;
  region_ms.push_back(seconds * 1e3);

  const auto abandon = [&] {
    for (ExitSite* site : region->exits) site->dead = true;  // their stubs die with the generation
  };
  if (!code) {
    ++tier2_failures;
    if (!cache_full && config.log->on(kLogTier2))
      config.log->write(fmt::format("tier 2: region at {:#x} not compiled: {}\n", request.blocks[0].ir.pc, code.error()));
    abandon();
    return;
  }
  if (build.cancelled || cache_full || entry->dead || !host::reachable(entry->code + 1, code->entry)) {
    if (!entry->dead) {
      entry->queued = false;
      arm(*entry, config.hot_threshold);
    }
    abandon();
    return;
  }
  Region* r = region.release();
  r->code = std::move(*code);
  tier2_cpu_ms += r->code.compile_ms;
  for (const auto& source : r->sources)
    for_each_page(source.first, source.second, [&](GuestAddr page) {
      if (std::find(r->pages.begin(), r->pages.end(), page) == r->pages.end()) r->pages.push_back(page);
    });
  for (GuestAddr page : r->pages) pages[page].regions.push_back(r);
  for (const RegionBlock& member : request.blocks)
    if (TranslatedBlock* block = find_from(*entry, member.ir.pc)) {
      if (block->inside != r) ++block->copies;
      block->inside = r;
    }
  {
    std::lock_guard ranges(range_mutex);
    code_regions[r->code.memory.executable] = r;
  }
  entry->region = r;
  entry->entry = r->code.entry;
  host::patch_entry_jump(cache.writable(entry->code), entry->code, r->code.entry);
  retarget_incoming(*entry);
  ++stats.regions;
  stats.region_code_bytes += r->code.memory.size;
  map_symbol(r->code.memory.executable, r->code.memory.size, "t2", entry->pc);
}

}  // namespace kiln::jit
