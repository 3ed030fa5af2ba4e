// The head that every guest's state begins with: what generated code, helpers and the engine share.
// Invariants: (1) field order is ABI for stencils and tier 2, which use offsetof; (2) outside generated
// code `pc` and all slots are up to date; (3) the jump cache lies directly below the state in memory, and in a full system the TLBs
// directly below that.
#pragma once
#include "ir/types.h"

namespace kiln::ir {

/// One entry of the per-thread indirect-branch cache. See empty_jump_cache_pc().
struct JumpCacheEntry {
  u64 pc;
  HostAddr code;
};
inline constexpr unsigned kJumpCacheBits = 14;
inline constexpr std::size_t kJumpCacheEntries = std::size_t{1} << kJumpCacheBits;
inline constexpr std::size_t kJumpCacheBytes = kJumpCacheEntries * sizeof(JumpCacheEntry);

/// A full system's translation of one 4 KiB page of guest virtual addresses for one MMU index. Generated code adds `addend` to an access
/// of n bytes at `a` if (a + n - 1 with its low 12 bits cleared) equals the tag of the page of `a`, and asks softmmu otherwise.
struct TlbEntry {
  u64 read_tag;   // the page's address as accesses name it; kNoTag: reads go the slow way (nothing there, a device, a watchpoint)
  u64 write_tag;  // likewise (and: code was made of the page, it is clean and watched)
  u64 addend;     // host address - guest virtual address
  u64 physical;   // the page's guest-physical address
};
inline constexpr u64 kNoTag = ~u64{0};
inline constexpr unsigned kTlbBits = 10;
inline constexpr std::size_t kTlbEntries = std::size_t{1} << kTlbBits;
inline constexpr unsigned kTlbIndices = 4;  // MMU indices a guest may use (MemOp::mmu_index)
inline constexpr std::size_t kTlbBytes = kTlbIndices * kTlbEntries * sizeof(TlbEntry);
/// Offset from CpuState of the TLB of MMU index 0; the next ones follow.
inline constexpr s64 kTlbOffset = -static_cast<s64>(kJumpCacheBytes + kTlbBytes);
constexpr std::size_t tlb_slot(u64 address) { return (address >> 12) & (kTlbEntries - 1); }

/// Slots for values that tier 1 spills; eight bytes or sixteen each.
inline constexpr unsigned kSpillSlots = 64;

struct alignas(64) CpuState {
  u64 pc;                      // guest pc
  u32 interrupt;               // non-zero: generated code leaves at the next poll. Written by other threads and signal handlers.
  u32 exit_kind;               // ExitKind
  u64 exit_value;
  u32 exit_aux;
  u32 mode;                    // mode word of the block key (frontend's meaning)
  // Lazily kept flags; see FlagsKind.
  u32 flags_kind;
  u32 in_code;                 // 1 while generated code (or a helper called from it) runs on this thread
  u64 flags_a;
  u64 flags_b;
  u32 mxcsr;                   // the guest's rounding, flush and sticky exception bits while generated code is not running;
                               // inside (helpers, interpret()) the host's MXCSR register itself holds them
  u32 spare;
  u64 host_sp;                 // stack pointer inside generated code; the fault path resumes with it
  u64 memory_base;             // host address of guest address 0 (same value as the gs base on x86-64)
  void* engine_data;           // engine's per-thread record
  void* user_data;             // owner of the vCPU (linux-user's Thread, softmmu's Vcpu)
  void (*leave_helper)(CpuState*) __attribute__((noreturn));  // what raise() ends in; set by whoever runs code on this state, never returns
  u64 jump_key;                // full system: combined (xor) with the pcs in the jump cache, so that it needs no emptying when the mode or
                               // the address space changes; bits 62..48 only. 0 in user mode
  /// Full system: the host address to use for [address, address + bytes of MemOp's width) under MMU index MemOp::mmu_index; `desc` is the
  /// packed MemOp, with kStoreAccess for writing. Null: fault, and exit_kind, exit_value, exit_aux are set. Where no memory can be pointed
  /// to (devices, two pages) the access is carried out here, and the pointer leads to a loaded copy, or for a store (of `value`) nowhere;
  /// without a value (null: read-modify-write) that is a fault. Helpers use ir::guest_pointer(). Null in user mode.
  void* (*guest_pointer)(CpuState*, u64 address, u32 desc, const void* value);
  u64 helper_args[8];          // integer arguments and result of a helper call
  V128 helper_vargs[4];        // vector arguments and result of a helper call
  V128 spill[kSpillSlots];

  /// Full system only.
  TlbEntry* tlb(unsigned mmu_index) {
    return reinterpret_cast<TlbEntry*>(reinterpret_cast<char*>(this) + kTlbOffset) + mmu_index * kTlbEntries;
  }
  JumpCacheEntry* jump_cache() {
    return reinterpret_cast<JumpCacheEntry*>(reinterpret_cast<char*>(this) - kJumpCacheBytes);
  }
};

inline constexpr u32 kStoreAccess = 1u << 16;

/// Index into the jump cache. Guests with instructions at any byte share an entry between four neighbours, which are hardly ever
/// targets of indirect jumps at once; mixing lower bits in would cost the others an instruction at every return.
constexpr std::size_t jump_cache_index(u64 pc) { return (pc >> 2) & (kJumpCacheEntries - 1); }
/// The pc of an empty entry: one that is never looked up there. Zero but for the entry that 0 belongs to: fresh memory is an empty cache.
constexpr u64 empty_jump_cache_pc(std::size_t index) { return index == jump_cache_index(0) ? ~u64{0} : 0; }

/// Reads before it writes: pages that were never touched stay so.
inline void empty_jump_cache(CpuState* state) {
  for (std::size_t i = 0; i < kJumpCacheEntries; ++i)
    if (JumpCacheEntry& entry = state->jump_cache()[i]; entry.pc != empty_jump_cache_pc(i)) entry.pc = empty_jump_cache_pc(i);
}

/// Full system: a key that no entry of the jump cache has. Whoever changes what code runs at which address, the mode word included, sets it;
/// the next look-up finds out which key it is to be.
inline constexpr u64 kJumpKeyUnknown = u64{0x7fff} << 48;

/// Sets the mode word. The jump cache is keyed by pc alone, so a real change empties it; generated code that calls this (through a
/// helper) must end its block with an indirect exit, whose look-up then goes by the new mode.
inline void change_mode(CpuState* state, u32 mode) {
  if (state->mode == mode) return;
  state->mode = mode;
  if (state->guest_pointer != nullptr) {
    state->jump_key = kJumpKeyUnknown;
    return;
  }
  empty_jump_cache(state);
}

/// For helpers whose effects have MAY_FAULT: leaves the helper and the block that called it with exit_kind = `kind`, exit_value =
/// `value`, precise as a fault is (pc is the instruction's own, all slots as written before the call). No destructor runs.
[[noreturn]] inline void raise(CpuState* state, ExitKind kind, u64 value) {
  state->exit_kind = static_cast<u32>(kind);
  state->exit_value = value;
  state->leave_helper(state);
}

/// For helpers that access guest memory in a full system: does not come back from a fault.
inline void* guest_pointer(CpuState* state, u64 address, u32 desc, const void* value = nullptr) {
  void* host = state->guest_pointer(state, address, desc, value);
  if (host == nullptr) state->leave_helper(state);
  return host;
}

/// FaultInfo in CpuState::exit_aux for ExitKind::Fault.
inline constexpr u32 kFaultWrite = 1;     // access was a write (as far as the host tells)
inline constexpr u32 kFaultMapped = 2;    // page is mapped, rights were missing (SEGV_ACCERR)
inline constexpr u32 kFaultBus = 4;       // SIGBUS
inline constexpr u32 kFaultNonCanonical = 8;

}  // namespace kiln::ir
