// GuestAbi: what Linux looks like to one guest. The syscall functions are written once; what differs between guests (numbers,
// register use, struct layouts, flag values, signal frames) stands here as data and small functions.
// Add a guest: an abi_<guest>.cpp with one GuestAbi, its numbers of syscalls/list.def's names (syscalls/numbers_<table>.def), a
// line in abi.cpp.
#pragma once
#include <sys/stat.h>

#include <span>
#include <string>

#include "ir/guest_desc.h"

namespace kiln::user {

struct Thread;
struct SyscallRow;
struct Call;

/// Beside ir::kFault*: the fault was an instruction fetch; the host found the page present, but for the rights.
inline constexpr u32 kFaultFetch = u32{1} << 31;
inline constexpr u32 kFaultPresent = u32{1} << 30;
/// There was one: an abort whose address may well be 0.
inline constexpr u32 kFaultAbort = u32{1} << 29;

/// What the guest's kernel makes of an exception.
struct ExceptionSignal {
  int signal;         // 0: nothing, the instruction was carried out after all
  int code;           // si_code
  GuestAddr address;  // si_addr
  u64 fault_address;  // sigcontext's, 0 if none
  u32 fault_flags;    // ir::kFault*
};

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
  const char* name;                 // as users call it
  const char* machine;              // uname -m
  const char* platform;             // AT_PLATFORM
  const char* machine32 = nullptr;  // uname -m under PER_LINUX32, if the guest has a 32-bit twin
  u16 elf_machine;
  u8 elf_class, elf_data;
  const ir::GuestDesc* guest;
  unsigned address_bits;  // of the guest's user space
  u64 (*hwcap)(const ir::CpuState*);
  u64 (*hwcap2)(const ir::CpuState*);
  std::string (*cpuinfo)(const ir::CpuState*, unsigned processor);  // /proc/cpuinfo
  /// Names and descriptions of -cpu models; set_cpu_model() gives false if it does not know the name.
  std::string (*cpu_models)();
  bool (*set_cpu_model)(ir::CpuState*, const char* name);

  /// Row for a syscall number, or null.
  const SyscallRow* (*syscall)(u64 number);
  /// The ABI of the syscall that the cpu stands at, if the guest has several ways (x86-64: int 0x80); null: always this one. It
  /// gives null for an instruction that is no way into this kernel.
  const GuestAbi* (*syscall_abi)(const ir::CpuState*);
  /// Fills Call::a from the registers; null: syscall_arg() for each of the six.
  void (*read_arguments)(Call&) = nullptr;

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
  bool clone_tls_last;      // clone(flags, stack, parent_tid, child_tid, tls), else tls is the fourth
  u64 task_size = 0;        // end of user space where that is not 2^address_bits

  // 32-bit guests; see syscalls/compat32.h.
  u8 align64 = 8;                       // of 64-bit members in structs
  bool aligned_register_pairs = false;  // 64-bit arguments begin in an even register
  /// The struct stat of the calls without "64" (encode_stat writes struct stat64); its size, 0: a value does not fit.
  std::size_t (*encode_old_stat)(const struct stat& host, u8* out) = nullptr;
  /// False if `value` is none that set_thread_pointer() can take (i386: a descriptor in memory).
  bool (*check_thread_pointer)(Thread&, u64 value) = nullptr;
  /// sigreturn(2), for handlers without SA_SIGINFO, where it differs from rt_sigreturn.
  bool (*pop_old_signal_frame)(Thread&, u64& mask) = nullptr;

  // Signals.
  u64 minimal_stack;                          // that sigaltstack() accepts
  u64 (*minimal_frame)(const ir::CpuState*);  // AT_MINSIGSTKSZ
  std::span<const u8> sigreturn_code;  // placed in the guest's space, address in Process::sigreturn_address; may be empty
  /// The signal for an exit of the engine other than Syscall and Interrupt. May note things in the Thread for the frame.
  ExceptionSignal (*exception)(Thread&, ir::ExitKind);
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
  int bad_frame_code;  // si_code of the SIGSEGV then
  /// After every exit of the engine with an exception, whatever becomes of it; and in the child of a fork. May be null.
  void (*exception_taken)(ir::CpuState*) = nullptr;
  void (*forked)() = nullptr;
};

/// The ABI for an ELF header's machine/class/data, or null.
const GuestAbi* find_abi(u16 elf_machine, u8 elf_class, u8 elf_data);
/// By name ("aarch64"), or null.
const GuestAbi* find_abi(const char* name);
std::span<const GuestAbi* const> all_abis();

}  // namespace kiln::user
