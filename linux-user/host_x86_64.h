// The few things of user mode that depend on the host processor: interruptible syscalls, copies from and to guest memory that
// survive faults, the segment base, and what a signal handler needs to know of a ucontext.
#pragma once
#include <csignal>

#include "ir/support/bits.h"

namespace kiln::user {

/// Result of safe_syscall() when a signal arrived before the kernel was entered: nothing has happened, deliver it and try
/// again.
inline constexpr s64 kRestartSyscall = -512;

/// Makes a host syscall unless *signal_pending is set. Race-free: a signal handler that interrupts the stub before the syscall
/// instruction (or finds it about to be restarted by the kernel) calls rewind_safe_syscall(), and the stub returns
/// kRestartSyscall.
s64 safe_syscall(long number, const u32* signal_pending, const u64 (&args)[6]);

/// In a handler for asynchronous signals: makes an interrupted safe_syscall() that has not entered the kernel return.
void rewind_safe_syscall(void* ucontext);

/// Copies between host memory and possibly faulting guest memory (both given as host addresses). False if a byte was
/// inaccessible.
bool copy_faulting(void* to, const void* from, std::size_t size);
/// Same for single words, atomic.
bool load_u32_faulting(const u32* from, u32& value);
bool store_u32_faulting(u32* to, u32 value);
/// In the handler of SIGSEGV/SIGBUS: if the fault was inside one of the above, makes it return false, and gives true.
bool recover_faulting_copy(void* ucontext);

bool fault_is_write(const void* ucontext);
/// The page was there, but not the rights.
bool fault_page_present(const void* ucontext);
HostAddr fault_pc(const void* ucontext);
/// Is the fault just around the stack pointer, as when the stack is used up?
bool exhausted_stack(const siginfo_t* info, const void* ucontext);

/// Makes `base` the host address of guest address 0 for generated code on this thread.
void set_guest_base(HostAddr base);

/// A raw syscall (no errno, negative errno in the result).
s64 raw_syscall(long number, u64 a = 0, u64 b = 0, u64 c = 0, u64 d = 0, u64 e = 0, u64 f = 0);

/// Calls fn(argument) in a new process made by clone(CLONE_VM | CLONE_VFORK): it shares all memory and runs on this very stack,
/// deeper, while the caller sleeps until it executes a program or exits. fn must not return. Gives the child's pid.
s64 vfork_call(void (*fn)(void*), void* argument, u64 clone_flags);

/// Restorer for SA_RESTORER (host side).
extern "C" void kiln_host_sigreturn();

}  // namespace kiln::user
