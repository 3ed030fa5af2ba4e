// The traced thread's side of ptrace (trace_box.h). Its hooks are called by the thread itself, where Thread::trace is not null.
#pragma once
#include <csignal>
#include <string>

#include "linux-user/process.h"
#include "linux-user/ptrace/trace_box.h"

namespace kiln::user {

/// PTRACE_TRACEME. A vfork() child's is made when it executes a program: before that, its tracer sleeps and could pass nothing
/// on.
s64 trace_me(Thread& thread);

/// In the handler of SIGSEGV and SIGBUS: is the signal one of trace_box.h's? Then it is noted.
bool take_trace_signal(Thread* thread, const siginfo_t* info);
/// Carries out what was asked for; at a safe point.
void serve_trace_requests(Thread& thread);

/// In place of Engine::run().
ir::ExitKind trace_run(Thread& thread);

/// Before a syscall, after the registers were looked at by nobody. False: it is not to be made, `result` says what it gives.
bool trace_syscall_entry(Thread& thread, const GuestAbi& abi, u64& number, s64& result);
/// After it; kRestartSyscall and kNoResult as handle_syscall() has them.
void trace_syscall_exit(Thread& thread, const GuestAbi& abi, u64 number, s64 result);

/// A signal is about to be delivered; the tracer may change it and its siginfo. The signal, 0: none.
int trace_signal(Thread& thread, u8* info);
/// Is the default action of a signal carried out by us, since somebody is traced?
bool trace_takes(int signal);
/// Stops the process as `signal` does by default.
void trace_group_stop(Thread& thread, int signal);
/// A handler's frame was built.
void trace_handler_entered(Thread& thread);
/// Before `signal` is sent to take effect at last.
void trace_pass(Thread& thread, int signal);

/// Around the host's clone: trace_clone_begins() before it.
void trace_clone_begins(Thread& thread);
void trace_clone_done(Thread& thread);
/// The new thread or process is traced if its parent's options say so. `event`: PTRACE_EVENT_CLONE, _FORK or _VFORK.
void trace_child(const Thread& parent, Thread& child, int event, bool shares_memory);

/// --traced for an executed program; empty: none.
std::string trace_option(const Thread& thread);
void take_over_trace(Process& process, Thread& leader, const std::string& text);

/// In the parent of a vfork(), before what the child left in `thread` is replaced by `before`.
void trace_vfork_over(Thread& thread, const Thread& before);
/// The process is about to end: what PTRACE_EVENT_EXIT shows.
void trace_ends(Thread& thread);
/// The thread ends.
void trace_gone(Thread& thread);

// registers.cpp
/// Fills the sets of a box. number: of the syscall the thread is in, -1 outside of one.
void put_trace_sets(TraceBox& box, const GuestAbi& abi, const ir::CpuState* cpu, s64 number);
/// Takes back the sets that are marked as changed; a changed syscall number goes to `number`.
void take_trace_sets(TraceBox& box, Thread& thread, s64& number);

}  // namespace kiln::user
