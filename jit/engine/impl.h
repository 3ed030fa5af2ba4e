// The engine's own data. See README.md for the locks.
#pragma once
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <pthread.h>
#include <thread>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "jit/engine/jitdump.h"
#include "jit/engine/block_store.h"
#include "jit/engine/block_table.h"
#include "jit/engine/code_cache.h"
#include "jit/engine/engine.h"
#include "jit/engine/guest_code.h"
#include "jit/engine/host.h"
#include "jit/engine/low_memory.h"
#include "jit/llvm/tier2.h"
#include "jit/stencil/tier1.h"

namespace kiln::jit {

struct TranslatedBlock;

inline constexpr u32 kNever = 0x7fffffff;  // of a counter

/// Blocks that begin no loop and no function count this many times longer before they ask for a region.
inline constexpr u32 kInnerFactor = 8;

/// One direct exit: of a tier-1 block or of a region. Lives as long as the code it belongs to.
struct ExitSite {
  GuestAddr target = 0;          // first: see RuntimeEntries::leave_chain
  GuestAddr place_page = 0;      // full system: of the code that it belongs to
  u32 mode = 0;
  HostAddr field = 0;            // 0: not to be chained. Executable address of the rel32 to patch
  HostAddr unchained = 0;        // where it leads while not chained
  TranslatedBlock* linked = nullptr;
  bool dead = false;             // its owner was dropped
};

inline constexpr u64 kNoKey = ~u64{0};  // no jump_key, the unknown one neither

/// A region's machine code.
struct Region {
  RegionCode code;
  TranslatedBlock* entry = nullptr;
  std::vector<ExitSite*> exits;
  std::vector<std::pair<GuestAddr, u32>> sources;  // guest code ranges {pc, bytes}
  std::vector<GuestAddr> pages;
  u64 id = 0;
  bool dead = false;
  // Full system: it holds while each of these pages (as seen by the guest) leads to that place; checked once for a jump_key.
  std::vector<std::pair<GuestAddr, GuestAddr>> page_places;
  u64 valid_key = kNoKey;
  u32 mismatches = 0;
};

/// What the persistent cache must know of a block that was made in this run.
struct BlockOrigin {
  std::vector<Tier1Relocation> relocations;
  std::vector<const FallbackRecord*> fallbacks;
  BlockEnd end = BlockEnd::Other;
  GuestAddr return_to = 0;
};

/// Where an indirect exit went lately; 0: nowhere yet.
struct RecentTargets {
  static void* operator new(std::size_t size) { return low_allocate(size); }
  static void operator delete(void* object, std::size_t size) { low_free(object, size); }
  GuestAddr pc[kTargetsKept] = {};
};

struct TranslatedBlock {
  // Generated code names blocks, their counters and exits by address.
  static void* operator new(std::size_t size) { return low_allocate(size); }
  static void operator delete(void* object, std::size_t size) { low_free(object, size); }

  GuestAddr pc = 0;              // first: see RuntimeEntries::leave_hot
  GuestAddr place = 0;           // where its bytes are: pc, or in a full system a physical address
  u32 mode = 0;
  u32 guest_bytes = 0;
  u32 guest_insns = 0;
  Counter counter;               // generated code counts it down from `armed`; at zero the block is hot
  u32 armed = 0;
  u64 counted = 0;               // entries counted in earlier rounds
  bool head = false;             // a loop's or a function's first block: where regions like to begin
  u32 code_bytes = 0;
  std::unique_ptr<RecentTargets> targets;  // of an indirect exit that is no return
  HostAddr code = 0;             // tier 1, executable
  std::atomic<HostAddr> entry = 0;  // where look-ups go: tier 1 or the region
  ExitSite exits[2];
  std::vector<ExitSite*> incoming;
  Region* region = nullptr;      // the region that begins here
  std::atomic<bool> dead = false;
  bool masked = false;           // see Impl::masks_addresses
  bool trap = false;             // a debugger's breakpoint
  u32 max_insns = 0;             // it was lifted with this limit
  bool checked = false;          // compares its own bytes at entry: its page is left writable
  std::vector<u8> bytes;         // what the lifter saw, to lift the same once more
  bool queued = false;           // asked for, or compiled once already
  u32 copies = 0;                // how many regions took it in
  Region* inside = nullptr;      // newest region that has this block inside it; may be dead
  bool rearmed = false;          // ran hot while (or before) a region covered it, and counts again
  std::unique_ptr<ir::Block> ir; // --tier=interp (optimised) and --self-check (as lifted)
  std::unique_ptr<BlockOrigin> origin;  // null: came from the persistent cache, or is not for it
};

/// A guest page with code in it, or that had some.
struct CodePage {
  std::vector<TranslatedBlock*> blocks;  // that have a byte in it
  std::vector<Region*> regions;
  bool watched = false;          // the owner was asked to protect it
  bool checked = false;          // written too often for that: blocks check themselves
  u8 demotions = 0;              // how often it became so
  u32 writes = 0;                // since it was mapped (or came back from being checked)
};
inline constexpr u32 kManyWrites = 32;

/// One instruction for debug_step(), and the bytes it was lifted from.
struct StepBlock {
  ir::Block ir;
  std::vector<u8> code;
  bool masked = false;
  bool helper_writes = false;  // memory, unseen by observers
};

/// A larger cache of look-ups behind the jump cache, for programs with more indirect targets than that holds: one line of memory
/// instead of the block table's and the block's.
struct FarTarget {
  u64 pc;  // 0: empty
  HostAddr code;
  u32 mode;
  u32 spare;
};
inline constexpr unsigned kFarBits = 15;
inline constexpr u64 kFarAfter = 20'000;  // look-ups before a thread gets one: its pages are not for nothing
constexpr std::size_t far_index(GuestAddr pc) { return pc * 0x9e3779b97f4a7c15u >> (64 - kFarBits); }

/// The engine's record of a guest thread.
struct ThreadRecord {
  ir::CpuState* cpu = nullptr;
  void* mapping = nullptr;
  std::size_t mapping_bytes = 0;
  std::atomic<bool> active{false};  // may hold code pointers; the world is stopped when none is
  Engine::Impl* engine = nullptr;
  u64 dispatches = 0, lookups = 0;
  FarTarget* far = nullptr;         // 1 << kFarBits entries, or null
  bool recover = false;             // tier-1 fault: registers below are to be turned into guest state
  host::FaultRegisters fault;
  HostAddr left_at = 0;             // host pc of the last fault
  std::unordered_map<GuestAddr, StepBlock> steps;  // a debugger's single steps
};

/// A region being compiled; invalidate() cancels it.
struct RegionBuild {
  TranslatedBlock* entry = nullptr;
  std::vector<std::pair<GuestAddr, u32>> sources;
  bool cancelled = false;
};

struct Engine::Impl {
  Impl(const EngineConfig& config, const ir::GuestDesc& guest, AddressSpace& memory);
  ~Impl();

  // engine.cpp
  ir::ExitKind run(ir::CpuState* cpu);
  TranslatedBlock* find_now(ir::CpuState* cpu);
  HostAddr find_code(ir::CpuState* cpu);  // 0: ask the dispatcher
  ir::ExitKind run_interpreter(ir::CpuState* cpu);
  ir::ExitKind step(ir::CpuState* cpu, bool masked);
  ir::ExitKind pass_changed_code(ir::CpuState* cpu);
  ir::ExitKind cannot_fetch(ir::CpuState* cpu, GuestAddr address);
  ir::ExitKind pass_fault(ir::CpuState* cpu);
  TranslatedBlock* find(GuestAddr pc, u32 mode) const { return blocks.find(pc, mode, pc); }  // user mode
  TranslatedBlock* find(GuestAddr pc, u32 mode, GuestAddr place) const { return blocks.find(pc, mode, place); }
  /// Of a block that one at `from` leads to: a full system knows no more than the page that it is on.
  TranslatedBlock* find_from(const TranslatedBlock& from, GuestAddr pc) const;
  HostAddr entry_of(ir::CpuState* cpu, TranslatedBlock& block);
  const Region* region_at(HostAddr code);                                 // range_mutex held; null: not in a region
  TranslatedBlock* block_at(HostAddr code);                               // range_mutex held; null: not in tier-1 code
  TranslatedBlock* translate(GuestAddr pc, u32 mode, GuestAddr place);    // mutex held; null: nothing executable at pc
  TranslatedBlock* find_or_translate(ThreadRecord& thread, std::unique_lock<std::mutex>& lock);  // null: fetch_fault says why
  void lift(ir::CodeSource& code, GuestAddr pc, u32 mode, unsigned max_insns, bool masked, ir::Block& out);
  bool counts() const { return config.tier == TierChoice::Auto || config.tier == TierChoice::Two; }
  void lift_again(const TranslatedBlock& block, ir::Block& out);
  Tier1Options tier1_options(TranslatedBlock& block) const;
  bool watch_page(CodePage& page, GuestAddr at);
  void place(TranslatedBlock& block, std::size_t bytes);
  void publish(TranslatedBlock* block, BlockEnd end, u32 patience_shift = 0);
  void log_block(const TranslatedBlock& block, const ir::Block& ir, const ir::Block* lifted);
  void map_symbol(HostAddr address, std::size_t bytes, const char* kind, GuestAddr pc);

  // debug.cpp
  ir::ExitKind debug_step(ir::CpuState* cpu, ir::AccessObserver* observer);
  unsigned insns_to_breakpoint(const ir::Block& block) const;              // 0: none in it (but perhaps at its start)
  void forget_code_at(GuestAddr pc);
  void make_trap(GuestAddr pc, u32 mode, ir::Block& out) const;

  // persist.cpp; with mutex held
  void open_store();
  TranslatedBlock* load_stored(GuestAddr pc, u32 mode);
  TranslatedBlock* load_one(GuestAddr pc, u32 mode, GuestAddr& return_to);
  void keep_for_store(TranslatedBlock& block, Tier1Code& code, const ir::Block& ir);
  bool save_blocks();

  // chain.cpp; all with mutex held
  void link(ExitSite& site, TranslatedBlock& to);
  void unlink(ExitSite& site);
  void retarget_incoming(TranslatedBlock& block);
  void drop_block(TranslatedBlock* block);
  void drop_region(Region* region);
  void forget_in_jump_caches(GuestAddr pc);
  void invalidate(GuestAddr start, u64 size, bool forget_writes = false);
  void written(GuestAddr page);
  void watch_again(TranslatedBlock& block);
  void evict_next_generation(ThreadRecord* self, std::unique_lock<std::mutex>& lock);
  void stop_world(ThreadRecord* self, std::unique_lock<std::mutex>& lock);
  void resume_world();

  // tier_up.cpp
  void request_tier2(TranslatedBlock* block, std::unique_lock<std::mutex>& lock);
  bool covered(TranslatedBlock* block);
  bool grow_region(TranslatedBlock* entry, RegionRequest& request, RegionBuild& build, std::map<GuestAddr, GuestAddr>& page_places);  // mutex held
  void compile_region(TranslatedBlock* entry, std::unique_lock<std::mutex>& lock);
  void compile_loop();
  void start_compile_thread();

  // recover.cpp
  bool handle_fault(ir::CpuState* cpu, const siginfo_t* info, void* ucontext, u32 flags);
  bool leave_changed_code(ir::CpuState* cpu, void* ucontext);
  bool leave_at_fault(ir::CpuState* cpu, void* ucontext);
  void recover(ThreadRecord& thread);

  // self_check.cpp
  ir::ExitKind run_self_check(ir::CpuState* cpu);
  [[noreturn]] void report_difference(const TranslatedBlock& block, GuestAddr pc, const std::string& what, const char* before,
                                      const char* expected, const ir::CpuState* got, const std::string& accesses);

  const EngineConfig config;
  const ir::GuestDesc& guest;
  AddressSpace& memory;
  CodeCache cache;
  RuntimeEntries runtime;

  std::mutex mutex;
  BlockTable<TranslatedBlock> blocks;
  std::unordered_map<GuestAddr, CodePage> pages;  // by place
  std::unordered_set<GuestAddr> future_heads;  // loop heads and functions not translated yet
  std::vector<ThreadRecord*> threads;
  std::atomic<bool> world_stopping{false};
  std::condition_variable world_resumed;
  ir::Block scratch, scratch_lifted;
  std::atomic<bool> masks_addresses = false;  // the program uses tagged addresses: blocks mask what they access
  u32 tagged_accesses = 0;       // until then: passed one by one
  bool no_room = false;        // or: the generation is full
  GuestAddr fetch_fault = 0;   // why translate() gave none
  std::unordered_set<GuestAddr> breakpoints;  // a debugger's

  std::unique_ptr<BlockStore> store;  // blocks of earlier runs; null: none
  std::string store_key;               // empty: no persistent cache
  bool saves_blocks = false;
  u64 unsaved_blocks = 0;      // made in this process and fit for the store

  std::mutex range_mutex;
  std::vector<TranslatedBlock*> code_blocks[CodeCache::kGenerations];  // each ascending by address of tier-1 code
  std::map<HostAddr, Region*> code_regions;          // by start of region code

  pthread_t compile_thread{};
  std::condition_variable compile_wanted;
  std::deque<TranslatedBlock*> compile_queue;
  RegionBuild* building = nullptr;
  bool compile_thread_running = false;
  bool stopping = false;
  std::unique_ptr<Tier2Compiler> compiler;
  std::mutex compiler_mutex;
  u64 next_region_id = 1;

  EngineStats stats;
  double started = 0;            // steady clock, seconds: when the engine was made
  std::vector<double> region_ms;
  double tier2_cpu_ms = 0;
  u64 queue_peak = 0, fallback_ops = 0, unlinked_chains = 0, linked_chains = 0;
  u64 checked_blocks = 0, unchecked_blocks = 0;
  u64 tier2_failures = 0, evictions = 0;
  std::FILE* perf_file = nullptr;
  std::unique_ptr<JitDump> jitdump;
  void* fork_copy = nullptr;   // of the code cache, while fork() is under way
};

/// Counts on from `count` entries.
inline void arm(TranslatedBlock& block, u32 count) {
  block.counted += block.armed - *block.counter;
  block.armed = *block.counter = count;
}
/// How often the block was entered through tier 1.
inline u64 entries(const TranslatedBlock& block) { return block.counted + (block.armed - *block.counter); }

inline BlockEnd end_of(const ir::Block& block) {
  const ir::Inst& exit = block.insts.back();
  if (exit.op == ir::Op::exit_branch_) return BlockEnd::Branch;
  if (exit.op != ir::Op::exit_jump_) return BlockEnd::Other;
  return static_cast<ir::ExitHint>(exit.lane) == ir::ExitHint::Call ? BlockEnd::Call : BlockEnd::Jump;
}

/// Calls fn(page) for each page (one or two) of a piece of code at a place.
template <class Fn>
void for_each_page(GuestAddr pc, u32 bytes, Fn&& fn) {
  const GuestAddr first = align_down(pc, 4096), last = align_down(pc + std::max(bytes, 1u) - 1, 4096);
  fn(first);
  if (last != first) fn(last);
}

inline ThreadRecord* thread_of(ir::CpuState* cpu) { return static_cast<ThreadRecord*>(cpu->engine_data); }

}  // namespace kiln::jit
