// Target: what a gdb session debugs. All calls come from the server's thread; those about state only while everything is stopped.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "ir/cpu_state.h"

namespace kiln::debugger {

using ThreadId = int;

struct StopEvent {
  enum class Kind {
    Signal,       // `signal` (the host's number) stopped `thread`; also a finished step (SIGTRAP) and ctrl-C (SIGINT)
    Breakpoint,   // at its pc
    Watchpoint,   // of kind `watch` at `address`
    Executed,     // the process runs another program now: `text` is its path
    Exited,       // with status `signal`
    Killed,       // by `signal`
    NoneResumed,  // the last thread that was let run is gone
    SyscallEntry, SyscallReturn,  // number `signal`
  };
  Kind kind = Kind::Signal;
  ThreadId thread = 0;
  int signal = 0;
  char watch = 'w';  // w: written, r: read, a: either
  u64 address = 0;
  std::string text;
};

enum class BreakKind { Software, Hardware, WatchWrite, WatchRead, WatchAccess };  // Z0 … Z4

struct ResumeAction {
  enum class Kind { Continue, Step, Stay };
  Kind kind = Kind::Continue;
  int signal = 0;              // host's number, to be delivered to the thread when it goes on; 0: none
  u64 range_start = 0, range_end = 0;  // Step: go on stepping while the pc is in it
};

struct ThreadResume {
  ThreadId thread;
  ResumeAction action;
};

class Target {
 public:
  virtual ~Target() = default;

  virtual int process_id() = 0;
  virtual std::vector<ThreadId> threads() = 0;
  virtual std::string thread_name(ThreadId thread) = 0;
  /// State of a stopped thread; null if there is none of that id. to_change: gdb is going to write it.
  virtual ir::CpuState* cpu(ThreadId thread, bool to_change) = 0;
  /// For gdb's orig_rax: number of the syscall that a thread is inside, or -1.
  virtual s64 syscall_number(ThreadId thread) = 0;

  /// Bytes read from the start on, before the first unreadable one.
  virtual std::size_t read_memory(u64 address, u8* out, std::size_t size) = 0;
  virtual bool write_memory(u64 address, const u8* data, std::size_t size) = 0;

  virtual bool insert(BreakKind kind, u64 address, u64 size) = 0;
  virtual bool remove(BreakKind kind, u64 address, u64 size) = 0;

  /// Lets the threads run. Those that come to be later do as `others` says.
  virtual void resume(const std::vector<ThreadResume>& actions, const ResumeAction& others) = 0;
  /// Asks for a stop (an event with `signal`, 0 for a new session); nothing if stopped already.
  virtual void interrupt(int signal) = 0;
  /// Readable once there is something to take; take_event() gives it when everything is stopped.
  virtual int event_fd() = 0;
  virtual std::optional<StopEvent> take_event() = 0;
  /// The event was told to gdb (of a process that ends: it may).
  virtual void event_told() = 0;
  /// Signals (bits, host's numbers) that need not stop.
  virtual void set_pass_signals(u64 signals) = 0;
  /// Which syscalls stop at entry and return; empty and on: all.
  virtual void catch_syscalls(bool on, const std::vector<u64>& numbers) = 0;

  /// gdb went away: no breakpoints, everything runs.
  virtual void detach() = 0;
  virtual void kill() = 0;

  // qXfer objects; nullopt: there is none.
  virtual std::string auxv() = 0;
  virtual std::string exec_file() = 0;
  virtual std::optional<std::string> siginfo(ThreadId thread) = 0;
  /// Opens one of the guest's files for reading; negative errno.
  virtual int open_file(const std::string& path) = 0;
  virtual std::string read_link(const std::string& path) = 0;  // empty: none
  /// Answer to `monitor COMMAND`.
  virtual std::string monitor(const std::string& command) = 0;
};

}  // namespace kiln::debugger
