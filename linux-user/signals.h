// Signals: from the host's kernel to guest handlers. See process.h for the two invariants that make this short.
#pragma once
#include "linux-user/process.h"

namespace kiln::user {

/// Takes over dispositions and mask that Kiln was started with; installs the fault handlers.
void init_signals(Process& process, Thread& leader);

/// Gives the calling thread a stack of its own for the handler of faults, which is there when the thread's is used up; takes it away.
void set_fault_stack();
void drop_fault_stack();

/// Sets the guest's mask of the calling thread, and the host's with it. Everything must be blocked (a signal that came in between would
/// be delivered although the new mask has it); a syscall that changes the mask uses change_signal_mask().
void set_signal_mask(Thread& thread, u64 mask);
/// The mask as a syscall of the guest changes it: 0, or kRestartSyscall if a signal came first (nothing was changed then).
s64 change_signal_mask(Thread& thread, u64 mask);
/// Host mask only: everything blocked.
void block_all_signals();
/// The same, for a syscall that cannot be interrupted half-way (fork, exit, sigreturn). False: a signal came before that; the caller
/// returns kRestartSyscall, so that it is delivered first.
bool hold_signals(const Thread& thread);
/// Host mask only: as the guest has it, unless a signal is pending: then it stays closed until that is delivered.
void restore_signal_mask(const Thread& thread);

/// Delivers the pending signal, and those that arrive when the mask is restored.
void deliver_pending(Thread& thread);

/// A synchronous signal from the instruction at pc. Kills the process if the guest has no handler for it.
void raise_fault(Thread& thread, int signal, int code, GuestAddr address, u64 fault_address = 0, u32 fault_flags = 0);

/// The same with a whole siginfo, the kernel's 64-bit layout (128 bytes).
void raise_info(Thread& thread, const u8* info);

/// rt_sigaction. Null pointers as the syscall allows.
s64 change_action(Thread& thread, int signal, const SignalAction* fresh, SignalAction* old);

/// Stops the process as `signal` (SIGSTOP, SIGTSTP, …) does by default; returns when it goes on.
void stop_by_signal(Thread& thread, int signal);

/// Brings all host dispositions in line again (a debugger came or went, core files are wanted).
void follow_actions(Process& process);
void follow_actions(SignalTable& table);
/// Makes the thread leave generated code and blocking syscalls (with EINTR), without a signal of the guest's.
void kick_thread(const Thread& thread);

/// Ends the process by `signal`, as if nobody had handled it.
[[noreturn]] void die_by_signal(Thread& thread, int signal, const u8* info = nullptr);

/// sigaltstack(2) for a thread whose stack pointer is sp: sets *fresh (may be null), gives the former in *old (may be null). 0 or -errno.
s64 change_altstack(Thread& thread, const GuestAbi::GuestStack* fresh, GuestAbi::GuestStack* old, u64 sp);

/// Temporary mask for the duration of a syscall that takes one (ppoll, sigsuspend, …).
struct CallMask {
  CallMask(Thread& t, bool wanted, u64 mask) : thread(t), set(wanted) {
    if (!set) return;
    thread.call_mask = mask;
    thread.has_call_mask = true;
  }
  ~CallMask() {
    // With a signal pending the delivery still needs it, if it interrupted the call: see handle_syscall().
    if (set && !thread.signal_pending) thread.has_call_mask = false;
  }
  Thread& thread;
  bool set;
};

}  // namespace kiln::user
