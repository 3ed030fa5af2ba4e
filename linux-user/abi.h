// GuestAbi: what Linux looks like to one guest. The syscall functions are written once; what differs between guests (numbers,
// register use, struct layouts, flag values, signal frames) stands here as data and small functions.
// Add a guest: an abi_<guest>.cpp with one GuestAbi, a number table made from syscalls/list.def's names, a line in abi.cpp.
#pragma once
#include <sys/stat.h>

#include <span>
#include <string>

#include "ir/guest_desc.h"

namespace kiln::user {

struct Thread;
struct SyscallRow;

/// Beside ir::kFault*: the fault was an instruction fetch.
inline constexpr u32 kFaultFetch = u32{1} << 31;

/// A signal on its way to a guest handler.
struct SignalDelivery {
  int signal;
  const u8* info;  // siginfo, 128 bytes, the host's layout
  GuestAddr handler;
  u64 flags;           // SA_*
  GuestAddr restorer;  // if SA_RESTORER
  u64 saved_mask;      // goes into the frame
  u64 fault_address;   // sigcontext's, 0 if none
  u32 fault_flags;     // ir::kFault*
};

struct GuestAbi {
  const char* name;      // as users call it
  const char* machine;   // uname -m
  const char* platform;  // AT_PLATFORM
  u16 elf_machine;
  u8 elf_class, elf_data;
  const ir::GuestDesc* guest;
  unsigned address_bits;  // of the guest's user space
  u64 (*hwcap)();
  u64 (*hwcap2)();
  std::string (*cpuinfo)(unsigned processor);  // /proc/cpuinfo

  /// Row for a syscall number, or null.
  const SyscallRow* (*syscall)(u64 number);

  // Registers.
  u64 (*syscall_number)(const ir::CpuState*);
  u64 (*syscall_arg)(const ir::CpuState*, unsigned index);
  void (*set_syscall_result)(ir::CpuState*, s64 result);
  u64 (*first_arg)(const ir::CpuState*);
  unsigned syscall_insn_bytes;
  u64 (*stack_pointer)(const ir::CpuState*);
  void (*set_stack_pointer)(ir::CpuState*, u64);
  void (*set_thread_pointer)(ir::CpuState*, u64);
  void (*start)(ir::CpuState*, u64 pc, u64 sp);

  // Structs and flags.
  int (*open_flags_to_host)(u64 flags);
  u64 (*open_flags_from_host)(int flags);
  /// Writes the guest's struct stat; gives its size (at most 144).
  std::size_t (*encode_stat)(const struct stat& host, u8* out);
  bool epoll_event_packed;  // 12 bytes as on x86-64, else 16

  // Signals.
  std::span<const u8> sigreturn_code;  // placed in the guest's space, address in Process::sigreturn_address
  /// Builds the frame at `sp` (already switched to the alternate stack if wanted) and points the cpu at the handler. False:
  /// fault.
  bool (*push_signal_frame)(Thread&, const SignalDelivery&, u64 sp);
  /// Restores registers from the frame; the mask and the altstack in it go to `mask` and `stack`. False: fault.
  struct GuestStack {
    u64 sp;
    u64 flags;
    u64 size;
  };
  bool (*pop_signal_frame)(Thread&, u64& mask, GuestStack& stack);
};

/// The ABI for an ELF header's machine/class/data, or null.
const GuestAbi* find_abi(u16 elf_machine, u8 elf_class, u8 elf_data);
/// By name ("aarch64"), or null.
const GuestAbi* find_abi(const char* name);

}  // namespace kiln::user
