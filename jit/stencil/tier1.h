// Tier 1: stitches machine code for one Block from precompiled stencils.
//
// Convention inside generated code on x86-64 (clang's preserve_none argument order), the same for tier 2 and the dispatcher:
//   r12 = CpuState*, gs base = host address of guest address 0, rsp as enter_code() left it (rsp % 16 == 8 at every block
//   boundary, as at a C function's entry), every other register free. All guest state is in memory at block boundaries.
// Inside a block ten registers (r13 r14 r15 rdi rsi rdx rcx r8 r9 r11) and xmm0-7 cache values; rax is the flag/temp
// register "t"; rbx, rbp, r10, xmm8-15 are scratch inside a stencil.
// Invariant: stitch() is deterministic: the same Block and options give the same bytes, with recording on or off.
#pragma once
#include <memory>
#include <span>
#include <vector>

#include "ir/guest_desc.h"

namespace kiln::jit {

/// Host addresses that generated code jumps to.
struct RuntimeEntries {
  HostAddr leave = 0;         // restores callee-saved registers and returns from enter_code(); exit_* fields are set
  HostAddr lookup_miss = 0;   // pc of the indirect exit is in CpuState::pc; sets ExitKind::Miss and leaves
  // Leave with ExitKind Chain, Hot or Interrupt; rax is exit_value: an id that is the address of a record which begins with the guest's
  // pc. Most of a block's cold bytes are such exits. 0: there are none, ids are mere numbers, and the block's code does it all.
  HostAddr leave_chain = 0, leave_hot = 0, leave_poll = 0;
};

inline constexpr unsigned kTargetsKept = 16;

struct Tier1Options {
  HostAddr code_address = 0;       // where the bytes will run (16-byte aligned)
  RuntimeEntries runtime;
  bool entry_patch = false;        // start with a 5-byte nop, 8-byte aligned, that tier-up turns into a jump
  const u32* counter = nullptr;    // if set: decrement *counter at entry; at zero-crossing leave with ExitKind::Hot, exit_value = block_id
  u64 block_id = 0;                // Block's identity for Hot
  u64 exit_ids[2] = {0, 0};        // exit_value of ExitKind::Chain for the direct exits, in order (taken, not taken)
  /// If set (kTargetsKept numbers): where an indirect exit that is no return went lately; `counter` says which one is written. For the
  /// growth of regions.
  u64* targets = nullptr;
  bool soft_mmu = false;           // full system: guest accesses look into the state's TLBs, jump caches are keyed, direct exits to other pages look up
  bool poll = true;                // blocks that end in a backward or indirect exit look at CpuState::interrupt at entry
};

/// A direct exit: a `jmp rel32` (or jcc) whose 4-byte displacement, aligned so that it can be replaced atomically, stands at patch_offset.
struct Tier1Exit {
  u32 patch_offset = 0;            // 0: it looks its target up each time
  u32 stub_offset = 0;             // where it goes while unchained: sets pc, Chain, exit id, and leaves
  GuestAddr target = 0;
};

/// Where a guest slot's current value lives at a recovery point when memory does not hold it.
struct SlotLocation {
  enum class Kind : u8 { IntRegister, VectorRegister, Constant, Spill } kind;
  u32 slot_offset;                 // byte offset in CpuState
  ir::Type type;
  u8 reg = 0;                      // index into cached registers: 0..9 (r13 …), 0..7 (xmm)
  u64 constant = 0;                // Constant (low half), or the byte offset in CpuState for Spill
  u64 constant_high = 0;
  u8 value_bytes = 16;             // only the value's first bytes count, the rest of the slot is zero
};
/// The state at one faulting host instruction range [begin, end) (offsets in the code).
struct RecoveryPoint {
  u32 begin, end;
  GuestAddr pc;
  std::vector<SlotLocation> dirty; // includes flags_kind/a/b as slots of CpuState
  // A trap's host instruction faults on purpose: these are then exit_kind and exit_value. None: a guest access faulted.
  ir::ExitKind kind = ir::ExitKind::None;
  u64 value = 0;
  bool value_in_rax = false;
};

/// An instruction kept alive for generated code that calls ir::eval_pure on it; equal ones are shared, none is ever freed.
struct FallbackRecord {
  ir::Inst inst;
  ir::Type types[4];
};
const FallbackRecord* keep_fallback(const ir::Inst& inst, const ir::Type* types);

/// A field of the code that depends on this run of Kiln: on where the block's record and the code are. Addresses of Kiln's own functions
/// are none: they belong to the build.
struct Tier1Relocation {
  enum class Kind : u8 { Leave, LookupMiss, Counter, BlockId, Exit0, Exit1, Targets, Fallback, LeaveChain, LeaveHot, LeavePoll };
  u32 offset;                      // of the field: Leave…, LookupMiss rel32; Fallback 8 bytes; the others 4
  Kind kind;
  u8 index = 0;                    // Fallback: into Tier1Code::fallbacks
};

struct Tier1Code {
  std::vector<u8> bytes;
  std::vector<Tier1Exit> exits;
  std::vector<RecoveryPoint> recovery;  // only when recording
  u32 fallback_ops = 0;            // ops that went through the generic interpreter call
  std::vector<Tier1Relocation> relocations;
  std::vector<const FallbackRecord*> fallbacks;
  bool relocatable = true;         // false: a field has a form that holds for this run's addresses only
};

/// What the TLB's slow path finds on the stack: the cached registers as they were at the access.
struct SoftAccessFrame {
  V128 vector[8];
  u64 integer[10];
  HostAddr return_address;         // inside the code of a recovery point
};
/// `desc` of the slow path beside the packed MemOp and ir::kStoreAccess: where the value of a store is.
inline constexpr u32 kHasValue = 1u << 17, kVectorValue = 1u << 18;
inline constexpr unsigned kValueRegister = 19;
/// The engine's. Gives the host address to go on with, or does not come back.
extern "C" void* kiln_soft_access(ir::CpuState* state, u64 address, u32 desc, SoftAccessFrame* frame);

/// Ids of x86-64 registers (ucontext's order is the caller's business) for IntRegister indices.
inline constexpr const char* kCachedRegisterNames[10] = {"r13", "r14", "r15", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r11"};

/// Stitches `block`. `record` fills Tier1Code::recovery.
Tier1Code stitch(const ir::Block& block, const ir::GuestDesc& guest, const Tier1Options& options, bool record);

/// Makes code that was stitched with other options (of the same shape, relocatable) fit these. Options' addresses must be such that the
/// code would be relocatable again: ids, counter and targets in the low 2 GiB, the runtime entries within rel32. False if they are not.
bool relocate(std::span<u8> code, std::span<const Tier1Relocation> relocations, std::span<const FallbackRecord* const> fallbacks,
              const Tier1Options& options);

/// True if the host has what the stencils were compiled for (x86-64-v3); otherwise `why` says what is missing.
bool host_supported(std::string& why);

}  // namespace kiln::jit
