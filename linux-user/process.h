// Process and Thread: the emulated process, one per Kiln process, and its threads, one host thread each.
// Invariants: (1) outside signal handlers a thread's host signal mask equals its guest mask (minus SIGSEGV, SIGBUS), except
// between the arrival of a signal and its delivery, when everything is blocked; so the kernel does queuing and choosing for us.
// Nothing opens the host's mask while a signal is pending: see restore_signal_mask();
// (2) a signal's host disposition follows the guest's (default, ignore, our handler), so default actions are the kernel's.
#pragma once
#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "jit/engine/engine.h"
#include "linux-user/abi.h"
#include "linux-user/invocation.h"
#include "linux-user/memory_map.h"
#include "linux-user/options.h"

namespace kiln::user {

struct Process;
class DebugTarget;
struct DebugTask;
struct SeccompFilter;  // syscalls/seccomp.h
struct TraceState;     // ptrace/tracee.h

inline constexpr int kSignals = 64;
constexpr u64 signal_bit(int signal) { return u64{1} << (signal - 1); }

/// A guest's sigaction in host words; handler 0 is SIG_DFL, 1 SIG_IGN.
struct SignalAction {
  GuestAddr handler = 0;
  u64 flags = 0;
  GuestAddr restorer = 0;
  u64 mask = 0;
};

inline constexpr u32 kPendingQueued = 1, kPendingSegv = 2, kPendingBus = 4;  // Thread::signal_pending

/// Shared by the threads of a process; a vfork() child has its own copy while it shares everything else with its parent.
struct SignalTable {
  std::mutex mutex;
  SignalAction actions[kSignals + 1];
};

struct Thread {
  Process* process = nullptr;
  SignalTable* signals = nullptr;
  bool vfork_child = false;  // a process of its own that shares our memory until it executes a program
  ir::CpuState* cpu = nullptr;
  int tid = 0;
  bool leader = false;

  // Signals. Written by this thread's handler, read by its main loop. signal_pending has a bit for each of the three below; with
  // kPendingQueued the host blocks everything, so that there is no second one before the first is delivered.
  volatile u32 signal_pending = 0;
  alignas(8) u8 pending_info[128] = {};
  // SIGSEGV and SIGBUS from kill(2): the host never blocks them, so they come at any time, and wait here while the guest does.
  alignas(8) u8 sent_fault[2][128] = {};
  u32 blocked_faults = 0;  // of them: kPendingSegv, kPendingBus
  u64 mask = 0;                // the guest's blocked signals
  bool has_call_mask = false;  // a syscall (sigsuspend, ppoll, …) put call_mask in force for its duration
  u64 call_mask = 0;
  GuestAbi::GuestStack altstack = {0, 2 /* SS_DISABLE */, 0};
  u64 fault_retries = 0;  // same fault again and again: not a code page after all
  HostAddr last_fault_pc = 0;
  u64 last_fault_address = 0;

  // What the last exception leaves for signal frames of x86: cr2, trapno and err; and that it was a fault, not a trap.
  u64 trap_address = 0;
  u32 trap_number = 0, trap_error = 0;
  bool trap_is_fault = false;

  DebugTask* debug = nullptr;  // under a debugger
  TraceState* trace = nullptr;  // under ptrace, of a guest; another thread reads it with threads_mutex held
  u32 trace_requests = 0, trace_payload = 0;  // written by this thread's signal handler
  bool trace_me_due = false;    // PTRACE_TRACEME of a vfork() child
  /// What another thread wants done before this one runs guest code again; set cpu->interrupt as well. This thread clears it.
  void (*before_run)(Thread&) = nullptr;  // atomic
  bool held = false;           // waits for the end of a dying process

  GuestAddr clear_child_tid = 0;
  GuestAddr robust_list = 0;
  u64 robust_list_size = 0;
  const SeccompFilter* seccomp = nullptr;  // the newest filter; another thread may set it, so read and written atomically
};

/// Where the program was put; what auxv and /proc/self need.
struct ProgramImage {
  GuestAddr entry = 0;  // of the program
  GuestAddr start = 0;  // where execution begins (the interpreter's entry, if there is one)
  GuestAddr phdr = 0;
  u64 phnum = 0, phent = 0;
  GuestAddr interpreter_base = 0;
  GuestAddr lowest = 0, end = 0;
  GuestAddr code_start = 0, code_end = 0;
  GuestAddr stack_start = 0;  // initial sp
  GuestAddr stack_low = 0, stack_high = 0;
  bool executable_stack = false;
  GuestAddr arg_start = 0, arg_end = 0, env_start = 0, env_end = 0;
  std::vector<u8> auxv;
};

struct Process {
  Process(const Options& o, const Invocation& i, Log& l) : options(o), invocation(i), log(l) {}

  const Options& options;
  const Invocation& invocation;
  Log& log;
  const GuestAbi* abi = nullptr;
  MemoryMap memory;
  std::unique_ptr<jit::Engine> engine;
  ProgramImage image;
  std::string exe_path;   // host path of the program, absolute
  OwnDescriptors own;
  GuestAddr sigreturn_address = 0;
  // The guest's limits where they are not ours: RLIMIT_CORE (ours stays 0), RLIMIT_AS, RLIMIT_DATA (Kiln's memory does not count).
  u64 core_limit[2] = {0, 0};
  u64 space_limit[2] = {~u64{0}, ~u64{0}}, data_limit[2] = {~u64{0}, ~u64{0}};

  SignalTable signals;

  DebugTarget* debugger = nullptr;  // -g
  std::atomic<int> traced = 0;         // threads under ptrace
  std::atomic<bool> patched = false;   // a tracer wrote into the program: its code is not for the cache
  std::atomic<bool> dying = false;  // of a signal: the other threads stop (crash/)

  std::mutex threads_mutex;
  std::vector<Thread*> threads;
  int leader_status = 0;  // status the leader passed to exit(2) while others lived
};

/// The calling thread's Thread; null on threads that run no guest code.
Thread* current_thread();
void set_current_thread(Thread* thread);

/// Runs the guest on this thread until it exits; does not return.
[[noreturn]] void run_thread(Thread& thread);

/// Ends the process as exit_group does: statistics, then the status.
[[noreturn]] void exit_process(Process& process, int status);
/// What Linux does with the robust mutexes of a dying process: owners become dead, waiters wake.
void release_all_robust_mutexes(Thread& thread);
/// Ends this thread (exit(2)); the process too if it is the last.
[[noreturn]] void exit_thread(Thread& thread, int status);

/// clone() and fork() in guest terms; see syscalls/thread.cpp.
struct CloneArgs {
  u64 flags = 0;        // CLONE_*, without the signal
  GuestAddr stack = 0;  // initial sp, 0: keep
  GuestAddr parent_tid = 0, child_tid = 0, tls = 0, pidfd = 0;
  int exit_signal = 0;
};
s64 do_clone(Thread& thread, const CloneArgs& args);

/// execve of a resolved request; returns only on failure (negative errno).
s64 do_execve(Thread& thread, const std::string& guest_path, std::vector<std::string> args,
              const std::vector<std::string>& env);

/// One line for the user about something not supported, said once per process and name.
void say_once(Process& process, const std::string& what);
/// All that say_once() was told, with counts (--stats).
std::string ledger_text();

}  // namespace kiln::user
