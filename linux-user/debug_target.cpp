// The guest threads' side: running under gdb's eyes, stopping, events. What gdb asks for is in debug_requests.cpp.
#include "linux-user/debug_target.h"

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <thread>

#include "linux-user/debug_task.h"
#include "linux-user/host_x86_64.h"
#include "linux-user/path.h"
#include "linux-user/signals.h"

namespace kiln::user {

using debugger::BreakKind;
using debugger::ResumeAction;
using debugger::StopEvent;
using ir::ExitKind;

namespace {

bool interrupted(const ir::CpuState* cpu) { return __atomic_load_n(&cpu->interrupt, __ATOMIC_RELAXED) != 0; }

}  // namespace

/// Notes the watchpoints that an instruction touches.
class DebugTarget::Observer final : public ir::AccessObserver {
 public:
  Observer(const std::vector<Watch>& watches, HostAddr base) : watches_(watches), base_(base) {}
  void before_access(void* host, unsigned bytes, bool store) override {
    if (host == nullptr) {
      helper_writes_ = true;
      return;
    }
    const u64 address = reinterpret_cast<HostAddr>(host) - base_;
    for (std::size_t i = 0; i < watches_.size(); ++i) {
      const Watch& w = watches_[i];
      if (address >= w.address + w.size || address + bytes <= w.address) continue;
      if (store) written_ |= u64{1} << i;
      else read_ |= u64{1} << i;
    }
  }
  bool written(std::size_t i) const { return helper_writes_ || (written_ >> i & 1) != 0; }
  bool surely_written(std::size_t i) const { return (written_ >> i & 1) != 0; }
  bool read(std::size_t i) const { return (read_ >> i & 1) != 0; }
  bool touched() const { return (written_ | read_) != 0 || helper_writes_; }
  void clear() {
    written_ = read_ = 0;
    helper_writes_ = false;
  }

 private:
  const std::vector<Watch>& watches_;
  HostAddr base_;
  u64 written_ = 0, read_ = 0;
  bool helper_writes_ = false;
};

DebugTarget::DebugTarget(Process& process, const debugger::RegisterSet& registers) : process_(process), server_(*this, registers) {}

Result<DebugTarget*> DebugTarget::make(Process& process, Thread& leader) {
  const debugger::RegisterSet* registers = debugger::registers_of(*process.abi->guest);
  if (registers == nullptr) return Error{std::string("no description of ") + process.abi->name + "'s registers for gdb yet"};
  auto* target = new DebugTarget(process, *registers);  // for good: the server's thread may outlive everybody
  target->event_fd_ = high_descriptor(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  process.debugger = target;
  target->thread_started(leader);
  follow_actions(process);
  return target;
}

Result<void> DebugTarget::start(Process& process, Thread& leader, const std::string& where) {
  std::string path = where;
  if (const std::size_t at = path.find("%d"); at != std::string::npos) path.replace(at, 2, std::to_string(getpid()));
  const Result<int> listener = debugger::listen_for_gdb(path);
  if (!listener) return Error{listener.error()};
  const Result<DebugTarget*> target = make(process, leader);
  if (!target) return Error{target.error()};
  (*target)->start_server(high_descriptor(*listener), {});
  return {};
}

Result<void> DebugTarget::take_over(Process& process, Thread& leader, const std::string& text) {
  debugger::Session session;
  if (!debugger::Session::from_text(text, session) || fcntl(session.fd, F_SETFD, FD_CLOEXEC) != 0) return Error{"no session " + text};
  const Result<DebugTarget*> target = make(process, leader);
  if (!target) return Error{target.error()};
  DebugTarget& t = **target;
  t.session_ = true;
  t.first_session_ = false;
  StopEvent event;
  event.kind = StopEvent::Kind::Executed;
  event.thread = leader.tid;
  event.text = guest_view(process, process.exe_path);
  if (session.exec_events) {
    t.event_ = event;
    t.notify();
  } else {
    t.running_ = true;
  }
  t.start_server(-1, session);
  return {};
}

void DebugTarget::start_server(int listener, const debugger::Session& session) {
  listener_ = listener;
  // No signals for this thread, but for the faults of its own copies.
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGSEGV);
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  std::thread([this, listener, session] {
    server_.run(listener, session);
    detach();
  }).detach();
  pthread_sigmask(SIG_SETMASK, &old, nullptr);
}

void DebugTarget::notify() {
  const u64 one = 1;
  [[maybe_unused]] const ssize_t n = write(event_fd_, &one, sizeof one);
}

// --- stopping and going on ---------------------------------------------------------------------------------------------

bool DebugTarget::may_run(const DebugTask& task) const { return running_ && task.action.kind != ResumeAction::Kind::Stay; }

void DebugTarget::wait_to_run(Lock& lock, DebugTask& task) {
  if (may_run(task)) {
    task.state = DebugTask::State::InCode;
    return;
  }
  task.state = DebugTask::State::Parked;
  changed_.notify_all();
  changed_.wait(lock, [&] { return may_run(task); });
  task.state = DebugTask::State::InCode;
  if (task.action.signal != 0 && !task.stopped_by_signal) {
    // It comes back to signal(), which lets it pass.
    task.forced_signal = std::exchange(task.action.signal, 0);
    raw_syscall(SYS_tgkill, static_cast<u64>(getpid()), static_cast<u64>(task.tid), static_cast<u64>(task.forced_signal));
  }
}

void DebugTarget::stop(Lock&, const StopEvent& event) {
  running_ = false;
  event_ = event;
  for (const auto& task : tasks_)
    if (task->state == DebugTask::State::InCode) __atomic_store_n(&task->thread->cpu->interrupt, 1u, __ATOMIC_RELEASE);
  notify();
}

bool DebugTarget::quiet() const {
  for (const auto& task : tasks_)
    if (task->state == DebugTask::State::InCode) return false;
  return true;
}

void DebugTarget::wait_quiet(Lock& lock) {
  changed_.wait(lock, [&] { return quiet(); });
}

void DebugTarget::report(DebugTask& task, StopEvent event, bool keep) {
  Lock lock(mutex_);
  if (!may_run(task)) {
    wait_to_run(lock, task);
    if (!keep) return;
  }
  if (!session_) return;
  event.thread = task.tid;
  task.stopped_by_signal = event.kind == StopEvent::Kind::Signal && task.info_valid;
  stop(lock, event);
  wait_to_run(lock, task);
  task.stopped_by_signal = false;
}

// --- hooks --------------------------------------------------------------------------------------------------------------

void DebugTarget::thread_started(Thread& thread) {
  Lock lock(mutex_);
  auto task = std::make_unique<DebugTask>();
  task->thread = &thread;
  task->tid = thread.tid;
  task->action = others_;
  thread.debug = task.get();
  tasks_.push_back(std::move(task));
}

void DebugTarget::thread_gone(Thread& thread) {
  Lock lock(mutex_);
  if (session_) wait_to_run(lock, *thread.debug);
  std::erase_if(tasks_, [&](const auto& task) { return task.get() == thread.debug; });
  thread.debug = nullptr;
  if (session_ && running_ && !tasks_.empty() &&
      std::none_of(tasks_.begin(), tasks_.end(), [&](const auto& task) { return may_run(*task); })) {
    StopEvent event;
    event.kind = StopEvent::Kind::NoneResumed;
    event.thread = tasks_[0]->tid;
    stop(lock, event);
  }
  changed_.notify_all();
}

ExitKind DebugTarget::run(Thread& thread) {
  jit::Engine& engine = *process_.engine;
  ir::CpuState* cpu = thread.cpu;
  if (thread.vfork_child) {  // the breakpoints of the engine it shares mean nothing to it
    for (;;) {
      ExitKind kind = engine.run(cpu);
      if (kind == ExitKind::Breakpoint && cpu->exit_value == jit::Engine::kDebuggerTrap) kind = engine.debug_step(cpu, nullptr);
      if (kind != ExitKind::None) return kind;
    }
  }
  DebugTask& task = *thread.debug;
  for (;;) {
    {
      Lock lock(mutex_);
      wait_to_run(lock, task);
    }
    if (task.step_due) {
      task.step_due = false;
      const bool at_break = breakpoints_.contains(cpu->pc);
      if (at_break || !task.in_range(cpu->pc)) {
        StopEvent event;
        event.kind = at_break ? StopEvent::Kind::Breakpoint : StopEvent::Kind::Signal;
        event.signal = SIGTRAP;
        report(task, event, false);
        continue;
      }
    }
    if (interrupted(cpu)) {
      cpu->exit_kind = static_cast<u32>(ExitKind::Interrupt);
      return ExitKind::Interrupt;
    }
    ExitKind kind;
    if (task.action.kind != ResumeAction::Kind::Step && watches_.empty()) {
      kind = engine.run(cpu);
      if (kind != ExitKind::Breakpoint || cpu->exit_value != jit::Engine::kDebuggerTrap) return kind;
      StopEvent event;
      event.kind = StopEvent::Kind::Breakpoint;
      report(task, event, false);  // after another stop the trap is simply met again
      continue;
    }
    if (debug_steps(task, kind)) return kind;
  }
}

// Instruction by instruction: a step, or watchpoints exist. True: `kind` is for the main loop; false: something was reported.
bool DebugTarget::debug_steps(DebugTask& task, ExitKind& kind) {
  jit::Engine& engine = *process_.engine;
  ir::CpuState* cpu = task.thread->cpu;
  const bool stepping = task.action.kind == ResumeAction::Kind::Step, watching = !watches_.empty();
  Observer observer(watches_, process_.memory.base());
  StopEvent event;
  for (;;) {
    if (!stepping && breakpoints_.contains(cpu->pc)) {
      event.kind = StopEvent::Kind::Breakpoint;
      report(task, event, false);
      return false;
    }
    observer.clear();
    kind = engine.debug_step(cpu, watching ? &observer : nullptr);
    for (std::size_t i = 0; observer.touched() && i < watches_.size(); ++i) {
      Watch& w = watches_[i];
      bool hit = false;
      if (observer.written(i) && w.kind != BreakKind::WatchRead) {
        std::vector<u8> now(w.value.size());
        Lock lock(mutex_);
        // The same value written again is no change: gdb would go on without a word, after a round trip.
        hit = process_.memory.read(w.address, now.data(), now.size()) && now != w.value;
        if (hit) w.value = now;
        hit |= w.kind == BreakKind::WatchAccess && observer.surely_written(i);
      }
      if (w.kind != BreakKind::WatchWrite && observer.read(i)) hit = true;
      if (!hit) continue;
      event.kind = StopEvent::Kind::Watchpoint;
      event.watch = w.kind == BreakKind::WatchRead ? 'r' : w.kind == BreakKind::WatchAccess ? 'a' : 'w';
      event.address = w.address;
    }
    if (event.kind == StopEvent::Kind::Watchpoint && kind == ExitKind::None) {
      report(task, event, true);
      return false;
    }
    if (kind != ExitKind::None) {
      task.step_due = stepping;
      return true;
    }
    if (stepping) {
      task.step_due = true;
      return false;
    }
    if (interrupted(cpu)) {
      kind = ExitKind::Interrupt;
      cpu->exit_kind = static_cast<u32>(kind);
      return true;
    }
  }
}

DebugTarget::Syscall DebugTarget::enter_syscall(Thread& thread, const char* name, u64 number, s64& result) {
  if (thread.vfork_child) return Syscall::Make;
  DebugTask& task = *thread.debug;
  if (catches(number)) {
    StopEvent event;
    event.kind = StopEvent::Kind::SyscallEntry;
    event.signal = static_cast<int>(number);
    task.changed = false;
    report(task, event, true);
    if (std::exchange(task.changed, false)) return Syscall::Again;
    task.last_caught = number;
  }
  Lock lock(mutex_);
  if (!may_run(task)) {
    task.changed = false;
    wait_to_run(lock, task);
    if (std::exchange(task.changed, false)) return Syscall::Again;
  }
  auto& done = task.finished;
  if (done.valid && done.pc == thread.cpu->pc && done.sp == process_.abi->stack_pointer(thread.cpu) && done.number == number) {
    done.valid = false;
    result = done.result;
    return Syscall::Finished;
  }
  task.syscall = static_cast<s64>(number);
  // These change registers themselves and never block: a stop waits for them.
  for (const char* own : {"rt_sigreturn", "sigreturn", "arch_prctl", "set_thread_area", "modify_ldt"})
    if (name != nullptr && !std::strcmp(name, own)) return Syscall::Make;
  task.changed = false;
  done = {false, thread.cpu->pc, process_.abi->stack_pointer(thread.cpu), number, 0};
  task.state = DebugTask::State::InSyscall;
  changed_.notify_all();
  return Syscall::Make;
}

bool DebugTarget::leave_syscall(Thread& thread, s64 result) {
  if (thread.vfork_child || thread.debug == nullptr) return true;
  DebugTask& task = *thread.debug;
  Lock lock(mutex_);
  if (!watches_.empty()) refresh_watches();  // the kernel's writes do not count
  if (task.state == DebugTask::State::InCode) {  // a call that changes registers itself
    task.syscall = -1;
    return true;
  }
  auto& done = task.finished;
  if (result != -EINTR && result != kRestartSyscall) {
    done.valid = true;
    done.result = result;
  }
  wait_to_run(lock, task);
  task.syscall = -1;
  // With other registers in place it is begun again once they are back, or its result is waiting then.
  if (std::exchange(task.changed, false)) return false;
  done.valid = false;
  return true;
}

void DebugTarget::syscall_done(Thread& thread) {
  if (thread.vfork_child || thread.debug == nullptr || !catching_) return;
  DebugTask& task = *thread.debug;
  const u64 number = task.last_caught;
  if (number == ~u64{0}) return;
  task.last_caught = ~u64{0};
  StopEvent event;
  event.kind = StopEvent::Kind::SyscallReturn;
  event.signal = static_cast<int>(number);
  report(task, event, true);
}

int DebugTarget::signal(Thread& thread, int signal, const u8* info) {
  if (thread.vfork_child) return signal;
  DebugTask& task = *thread.debug;
  if (task.forced_signal == signal) {
    task.forced_signal = 0;
    return signal;
  }
  {
    Lock lock(mutex_);
    if (!session_) return signal;
    const bool stepping = task.action.kind == ResumeAction::Kind::Step;
    if ((pass_signals_ & signal_bit(signal)) != 0 && !stepping) return signal;
    std::memcpy(task.info, info, sizeof task.info);
    task.info_valid = true;
  }
  StopEvent event;
  event.signal = signal;
  report(task, event, true);
  Lock lock(mutex_);
  task.info_valid = false;
  return session_ ? std::exchange(task.action.signal, 0) : signal;
}

void DebugTarget::end_of_process(const StopEvent& event) {
  Thread* thread = current_thread();
  if (thread != nullptr && thread->vfork_child) return;
  Lock lock(mutex_);
  DebugTask* task = thread != nullptr ? thread->debug : nullptr;
  if (task != nullptr && session_) wait_to_run(lock, *task);
  if (!session_) return;
  stop(lock, event);
  if (task != nullptr) task->state = DebugTask::State::Parked;
  changed_.notify_all();
  // A gdb that does not read must not keep a dead process.
  changed_.wait_for(lock, std::chrono::seconds(5), [&] { return told_ || !session_; });
}

void DebugTarget::process_exits(int status) {
  StopEvent event;
  event.kind = StopEvent::Kind::Exited;
  event.signal = status & 0xff;
  end_of_process(event);
}

void DebugTarget::process_dies(int signal) {
  StopEvent event;
  event.kind = StopEvent::Kind::Killed;
  event.signal = signal;
  end_of_process(event);
}

void DebugTarget::forget_after_fork() {
  const debugger::Session session = server_.session();
  for (const int fd : {session.fd, listener_, event_fd_, memory_fd_})
    if (fd >= 0) close(fd);
}

std::string DebugTarget::hand_over() {
  Lock lock(mutex_);
  const debugger::Session session = server_.session();
  if (!session_ || session.fd < 0) return {};
  fcntl(session.fd, F_SETFD, 0);
  return "--gdb-session=" + session.to_text();
}

void DebugTarget::keep() {
  const debugger::Session session = server_.session();
  if (session.fd >= 0) fcntl(session.fd, F_SETFD, FD_CLOEXEC);
}

bool DebugTarget::catches(u64 number) const {
  if (!catching_) return false;
  if (caught_.empty()) return true;
  return std::find(caught_.begin(), caught_.end(), number) != caught_.end();
}

void DebugTarget::refresh_watches() {
  for (Watch& w : watches_) process_.memory.read(w.address, w.value.data(), w.value.size());
}

}  // namespace kiln::user
