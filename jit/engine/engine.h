// Engine: code cache, block map, chaining, counters, tier-up, invalidation, fault -> guest state. One Engine serves all
// threads of one guest address space.
// Invariants: (1) a thread with CpuState::in_code == 1 holds no lock of the engine; (2) code memory is freed only when no thread
// can be inside it; (3) what a block was translated from is write-protected or watched until the block is dropped.
#pragma once
#include <csignal>
#include <memory>
#include <span>
#include <string>

#include "ir/guest_desc.h"
#include "ir/interpreter.h"
#include "ir/support/log.h"

namespace kiln::jit {

enum class TierChoice : u8 { Interp, One, Two, Auto };

struct EngineConfig {
  TierChoice tier = TierChoice::Auto;
  bool self_check = false;               // interpreter beside the tier, stop at the first difference
  std::string reproducer_path;           // where self-check writes its find
  bool perf_map = false;                 // /tmp/perf-PID.map
  bool jitdump = false;                  // jit-PID.dump (jitdump.h)
  bool stats = false;
  std::size_t cache_bytes = std::size_t{256} << 20;
  u32 hot_threshold = 1000000;           // entries of a loop's or function's first block before its region is compiled (auto)
  u32 region_insns = 300;                // size limit of a region, guest instructions
  bool synchronous_tier2 = false;        // compile where the counter runs out, not in the background (--tier=2, tests)
  u32 max_block_insns = 64;
  std::string cache_file;                // persistent cache of this program's blocks (see block_store.h); empty: none
  std::string cache_key;                 // what, beside Kiln's build and these options, the blocks depend on or are sorted by
  bool cache_write = false;              // save_blocks() brings the file up to date
  bool soft_mmu = false;                 // full system: accesses go through TLBs and CpuState::guest_pointer, code is known by its physical place
  const Log* log = nullptr;              // required
};

/// The guest's memory as the engine sees it (user mode: linux-user's MemoryMap). In a full system (EngineConfig::soft_mmu) code is
/// fetched, watched and dropped by place, an address that names the same bytes in every address space; see locate().
class AddressSpace : public ir::CodeSource {
 public:
  /// Host address of guest address 0.
  virtual HostAddr base() const = 0;
  /// The page (4 KiB, guest address) holds translated code from now on: host writes to it must fault until unprotect_code().
  virtual void protect_code(GuestAddr page) = 0;
  /// The engine dropped all code of the page: give it back the guest's own rights.
  virtual void unprotect_code(GuestAddr page) = 0;
  /// Full system only. Where the code at `pc` is, in the addresses that protect_code(), fetch() and invalidate() then speak of (physical
  /// ones); false: it cannot be fetched, and exit_kind, exit_value, exit_aux are set. On the cpu's own thread; takes no engine call.
  virtual bool locate(ir::CpuState* cpu, GuestAddr pc, GuestAddr& place) {
    place = pc;
    return true;
  }
  /// Is the page's code likely to be there again in the program's next run: does it come from a file?
  virtual bool from_file(GuestAddr /*page*/) { return false; }
};

struct EngineStats {
  u64 blocks = 0, guest_insns = 0, code_bytes = 0, regions = 0, region_code_bytes = 0, invalidated = 0, dispatches = 0;
  u64 stored_blocks = 0;  // of `blocks`: from the persistent cache
  double translate_seconds = 0, tier2_seconds = 0;
};

class Engine {
 public:
  Engine(const EngineConfig& config, const ir::GuestDesc& guest, AddressSpace& memory);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  /// False, with the reason, on a processor that the tiers' code does not run on. To be asked before anything else.
  static bool host_supported(std::string& why);

  const ir::GuestDesc& guest() const;
  /// A vCPU state, reset, registered with the engine. One per guest thread.
  ir::CpuState* create_cpu();
  void destroy_cpu(ir::CpuState* cpu);

  /// Runs `cpu` on the calling thread until something needs the owner: exit_kind is Interrupt, Syscall, Undefined, Breakpoint,
  /// Fault, FetchFault, Alignment or Trap. pc is the instruction's own address (Syscall too: the owner adds the length).
  /// Returns at once if cpu->interrupt is set (and clears nothing).
  ir::ExitKind run(ir::CpuState* cpu);

  /// Like run(), but exactly one guest instruction (debugger, self-check).
  ir::ExitKind step(ir::CpuState* cpu);

  // Debugger hooks (debug.cpp). Breakpoints are changed while no thread is inside run().
  /// run() leaves with ExitKind::Breakpoint and exit_value kDebuggerTrap before the instruction at `pc`; steps do not look.
  void insert_breakpoint(GuestAddr pc);
  void remove_breakpoint(GuestAddr pc);
  void remove_all_breakpoints();
  bool has_breakpoint(GuestAddr pc) const;
  static constexpr u64 kDebuggerTrap = 0xdeb09deb09deb09;
  /// One instruction, by the interpreter, exceptions put right as run() does: None if it was carried out. `observer` (may be null) is
  /// told of its memory accesses; of a helper that writes somewhere, with the address null.
  ir::ExitKind debug_step(ir::CpuState* cpu, ir::AccessObserver* observer);

  /// Guest code in [start, start + size) changed, was unmapped or lost its execute right: drop what was made of it.
  void invalidate(GuestAddr start, u64 size);
  void invalidate_all();
  /// Full system: jump keys begin anew, none means what it did. The caller's thread is outside generated code or about to leave it, and has
  /// emptied its jump cache.
  void forget_keys();
  /// For an owner that knows each store to watched pages (full system), before the store: drops what was made of these bytes. True if the
  /// pages hold no code any more and need no watching.
  bool changed(GuestAddr place, u64 bytes);
  /// The page had been protected, was written to (or is about to be) and is open for that now: drops what was made of it, and counts.
  void written(GuestAddr page);
  /// For the owner's handler of a write fault, after written() and before the access is tried again. True if the thread is to go on
  /// otherwise: it runs code of the page, and the guest demands that its stores are seen by the instructions that follow.
  bool leave_changed_code(ir::CpuState* cpu, void* ucontext);

  /// For the owner's SIGSEGV/SIGBUS handler, called on the faulting thread. If the host pc was inside generated code or a helper
  /// called by it, arranges for run() to return ExitKind::Fault with exact guest state once the handler returns, and gives true.
  /// The owner calls it after its own checks (write to a protected code page: written() and retry instead).
  bool handle_fault(ir::CpuState* cpu, const siginfo_t* info, void* ucontext, u32 fault_flags);

  /// After fork() in the child: only the calling thread exists; restarts the compile thread lazily, forgets other cpus.
  void after_fork_child(ir::CpuState* cpu);
  /// Around fork() in the parent: takes and releases the engine's locks so that the child finds them free.
  void before_fork();
  void after_fork_parent();

  /// Writes the persistent cache's file if it is wanted and enough is new. To be called before the process ends or becomes another program. True if
  /// a file was written.
  bool save_blocks();
  /// Ends the compile thread, waiting for what it compiles; it starts again when there is something to compile. For system calls that
  /// only a process of one thread may make. False: there was none.
  bool end_compile_thread();
  /// For crash reports: the code that the thread left last, in words.
  std::string place_text(const ir::CpuState* cpu);

  /// Guest instructions at `address` in words, "address: text" lines.
  std::string disassemble_guest(std::span<const u8> code, GuestAddr address) const;

  EngineStats stats() const;
  std::string stats_text() const;

  struct Impl;

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace kiln::jit
