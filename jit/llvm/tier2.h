// Tier 2: compiles a region of hot blocks through LLVM into one piece of machine code. This header shows no LLVM.
//
// A region's code follows tier 1's convention (see jit/stencil/tier1.h): entered by a jump with r12 = CpuState* and all guest
// state in memory; inside, guest registers are SSA values; every exit writes the dirty ones back and jumps on.
// Faults are precise: each guest access has an entry in the fault table, which says where the dirty slots' values are; the
// SIGSEGV handler writes them back (restore_state) and resumes at RegionRequest::fault_leave, with any stack pointer. A few
// rarer accesses (atomics) have a label instead: the handler resumes there and code does the same.
#pragma once
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/guest_desc.h"
#include "ir/support/log.h"
#include "ir/support/result.h"

namespace kiln::jit {

struct RegionBlock {
  ir::Block ir;                    // after ir/passes; ends in one exit op
  int taken = -1;                  // exit_jump / exit_branch: index of the successor inside the region, or -1
  int not_taken = -1;
  /// exit_indirect: guessed targets inside the region, tried in order before the general exit (predicted returns, hot jump-table targets).
  std::vector<std::pair<GuestAddr, int>> indirect;
  bool poll = false;               // look at CpuState::interrupt on entry of this block (loop heads)
};

/// Memory for code, inside the engine's code cache. `writable` and `executable` are two mappings of the same bytes.
struct CodeMemory {
  u8* writable = nullptr;
  HostAddr executable = 0;
  std::size_t size = 0;
};

struct RegionRequest {
  const ir::GuestDesc* guest = nullptr;
  std::vector<RegionBlock> blocks; // blocks[0] is the entry; the same pc may occur several times (inlined calls)
  u64 id = 0;
  HostAddr leave = 0;              // exit fields set: jump here to return to the dispatcher
  HostAddr fault_leave = 0;        // after a fault: slots and pc are written, exit fields were set by the signal handler
  bool soft_mmu = false;           // full system: accesses look into the state's TLBs, jump caches are keyed
  const u64* valid_key = nullptr;  // full system: if the state's jump_key differs, the region leaves at its entry with ExitKind::None
  HostAddr lookup_miss = 0;        // indirect exit missed the jump cache; CpuState::pc is set
  /// Address to jump to for a direct exit to a guest pc (an engine stub that chains itself). Called on the compile thread.
  std::function<HostAddr(GuestAddr)> direct_exit;
  /// Allocates code memory, 64-byte aligned. Called on the compile thread.
  std::function<CodeMemory(std::size_t)> allocate;
};

/// Where a dirty slot's value is at an access.
struct FaultValue {
  enum class Kind : u8 { IntRegister, VectorRegister, Constant, Memory };
  u32 slot_offset;
  ir::Type type;
  Kind kind;
  u8 reg;                          // Memory: the address is this register plus `number`
  u64 number;
};

struct FaultEntry {
  HostAddr pc = 0;                 // host address of the access
  HostAddr label = 0;              // where to resume; 0: restore_state() and fault_leave
  GuestAddr guest_pc = 0;
  u32 first_value = 0;             // in RegionCode::fault_values
  u32 values = 0;
};

struct RegionCode {
  HostAddr entry = 0;
  CodeMemory memory;
  std::vector<FaultEntry> faults;  // sorted by pc
  std::vector<FaultValue> fault_values;
  double compile_ms = 0;
  u32 guest_insns = 0;
};

/// Writes the slots and pc of a fault without label. Safe in a signal handler.
void restore_state(const RegionCode& code, const FaultEntry& fault, ir::CpuState* state, const void* ucontext);

class Tier2Compiler {
 public:
  virtual ~Tier2Compiler() = default;
  /// Thread-compatible: one compile at a time per object.
  virtual Result<RegionCode> compile(const RegionRequest& request) = 0;
};

/// Initialises LLVM (a few ms): call on the compile thread, when the first region is hot.
std::unique_ptr<Tier2Compiler> make_tier2_compiler(const Log& log);

/// Disassembles host or guest code for logs ("addr: text" lines).
std::string disassemble(const char* triple, const char* features, std::span<const u8> code, u64 address);

}  // namespace kiln::jit
