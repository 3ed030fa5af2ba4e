// The process as a gdb session sees it (-g). Its hooks are called by guest threads, where Process::debugger is not null.
// Invariants: (1) gdb looks at state only while every thread is parked in wait_to_run() or inside a host syscall, whose end parks it
// before registers change; (2) a vfork() child, which shares our memory but is no thread of ours, passes the hooks without a lock;
// (3) an interrupted syscall whose thread gdb has used (an inferior call) is made once: begun again, or its result kept until the
// thread is back at it.
#pragma once
#include <condition_variable>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "jit/debugger/server.h"
#include "linux-user/process.h"

namespace kiln::user {

struct DebugTask;

class DebugTarget final : public debugger::Target {
 public:
  /// Listens on `where` and waits there for gdb before the first instruction. An error if it cannot.
  static Result<void> start(Process& process, Thread& leader, const std::string& where);
  /// The session that another program of this process had (hidden option --gdb-session).
  static Result<void> take_over(Process& process, Thread& leader, const std::string& session);

  // Hooks, each called by the thread itself.
  void thread_started(Thread& thread);
  void thread_gone(Thread& thread);
  /// In place of Engine::run().
  ir::ExitKind run(Thread& thread);
  enum class Syscall { Make, Again, Finished };  // Again: gdb changed the registers; Finished: made already, `result` is set
  Syscall enter_syscall(Thread& thread, const char* name, u64 number, s64& result);
  /// False: the registers are gdb's now, no result for them.
  bool leave_syscall(Thread& thread, s64 result);
  /// After the result was set.
  void syscall_done(Thread& thread);
  /// A signal is about to be delivered: what gdb makes of it (0: nothing).
  int signal(Thread& thread, int signal, const u8* info);
  void process_exits(int status);
  void process_dies(int signal);
  /// In the child of a fork(): closes the descriptors. The object is of no use any more.
  void forget_after_fork();
  /// For execve: the option that hands the session on, empty if there is none; on failure keep() takes it back.
  /// Signals that would kill come to signal() first.
  bool wants_signals() const { return session_; }
  std::string hand_over();
  void keep();

  // debugger::Target
  int process_id() override;
  std::vector<debugger::ThreadId> threads() override;
  std::string thread_name(debugger::ThreadId thread) override;
  ir::CpuState* cpu(debugger::ThreadId thread, bool to_change) override;
  s64 syscall_number(debugger::ThreadId thread) override;
  std::size_t read_memory(u64 address, u8* out, std::size_t size) override;
  bool write_memory(u64 address, const u8* data, std::size_t size) override;
  bool insert(debugger::BreakKind kind, u64 address, u64 size) override;
  bool remove(debugger::BreakKind kind, u64 address, u64 size) override;
  void resume(const std::vector<debugger::ThreadResume>& actions, const debugger::ResumeAction& others) override;
  void interrupt(int signal) override;
  int event_fd() override { return event_fd_; }
  std::optional<debugger::StopEvent> take_event() override;
  void event_told() override;
  void set_pass_signals(u64 signals) override { pass_signals_ = signals; }
  void catch_syscalls(bool on, const std::vector<u64>& numbers) override;
  void detach() override;
  void kill() override;
  std::string auxv() override;
  std::string exec_file() override;
  std::optional<std::string> siginfo(debugger::ThreadId thread) override;
  int open_file(const std::string& path) override;
  std::string read_link(const std::string& path) override;
  std::string monitor(const std::string& command) override;

 private:
  struct Watch {
    debugger::BreakKind kind;
    u64 address, size;
    std::vector<u8> value;
  };
  class Observer;
  using Lock = std::unique_lock<std::mutex>;

  DebugTarget(Process& process, const debugger::RegisterSet& registers);
  static Result<DebugTarget*> make(Process& process, Thread& leader);
  void start_server(int listener, const debugger::Session& session);
  void wait_to_run(Lock& lock, DebugTask& task);
  bool may_run(const DebugTask& task) const;
  /// Stops everything with `event` of this thread and waits to be resumed. If another stop came first, waits it out; then `keep` says
  /// whether to report afterwards.
  void report(DebugTask& task, debugger::StopEvent event, bool keep);
  void stop(Lock& lock, const debugger::StopEvent& event);
  void wait_quiet(Lock& lock);
  bool quiet() const;
  void notify();
  void end_of_process(const debugger::StopEvent& event);
  bool catches(u64 number) const;
  void refresh_watches();
  bool debug_steps(DebugTask& task, ir::ExitKind& kind);
  DebugTask* find(debugger::ThreadId thread) const;
  int memory_file();

  Process& process_;
  debugger::Server server_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::unique_ptr<DebugTask>> tasks_;
  bool running_ = false, session_ = false, told_ = false, first_session_ = true;
  std::optional<debugger::StopEvent> event_;
  debugger::ResumeAction others_;
  int event_fd_ = -1, memory_fd_ = -1, listener_ = -1;
  // Changed while everything is stopped only.
  std::set<u64> breakpoints_;
  std::vector<Watch> watches_;
  u64 pass_signals_ = 0;
  bool catching_ = false;
  std::vector<u64> caught_;
};

}  // namespace kiln::user
