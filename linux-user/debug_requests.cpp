// What gdb asks of the process. Called by the server's thread.
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "linux-user/debug_target.h"
#include "linux-user/debug_task.h"
#include "linux-user/host_x86_64.h"
#include "linux-user/path.h"
#include "linux-user/signals.h"
#include "linux-user/syscalls/compat32.h"

namespace kiln::user {

using debugger::BreakKind;
using debugger::ResumeAction;
using debugger::StopEvent;
using debugger::ThreadId;

int high_descriptor(int fd) {
  constexpr int kFirst = 1001;  // behind the log's
  if (fd < 0) return fd;
  const int high = fcntl(fd, F_DUPFD_CLOEXEC, kFirst);
  if (high < 0) return fd;
  close(fd);
  return high;
}

int DebugTarget::process_id() { return getpid(); }

DebugTask* DebugTarget::find(ThreadId thread) const {
  for (const auto& task : tasks_)
    if (task->tid == thread) return task.get();
  return nullptr;
}

std::vector<ThreadId> DebugTarget::threads() {
  Lock lock(mutex_);
  std::vector<ThreadId> list;
  for (const auto& task : tasks_) list.push_back(task->tid);
  return list;
}

std::string DebugTarget::thread_name(ThreadId thread) {
  char path[64], name[32] = {};
  std::snprintf(path, sizeof path, "/proc/self/task/%d/comm", thread);
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  const ssize_t n = read(fd, name, sizeof name - 1);
  close(fd);
  return std::string(name, n > 0 ? static_cast<std::size_t>(n - (name[n - 1] == '\n')) : 0);
}

ir::CpuState* DebugTarget::cpu(ThreadId thread, bool to_change) {
  Lock lock(mutex_);
  DebugTask* task = find(thread);
  if (task == nullptr) return nullptr;
  if (to_change) task->changed = true;
  return task->thread->cpu;
}

s64 DebugTarget::syscall_number(ThreadId thread) {
  Lock lock(mutex_);
  const DebugTask* task = find(thread);
  return task != nullptr ? task->syscall : -1;
}

// --- memory: through the kernel, which does not mind the guest's protections --------------------------------------------

int DebugTarget::memory_file() {
  if (memory_fd_ < 0) memory_fd_ = high_descriptor(open("/proc/self/mem", O_RDWR | O_CLOEXEC));
  return memory_fd_;
}

std::size_t DebugTarget::read_memory(u64 address, u8* out, std::size_t size) {
  MemoryMap& memory = process_.memory;
  std::size_t done = 0;
  while (done < size) {
    const u64 at = address + done;
    const std::size_t part = std::min<u64>(size - done, page_down(at) + kPageSize - at);
    if (memory.prot_at(at) < 0) break;
    if (!memory.read(at, out + done, part)) {
      const ssize_t n = pread(memory_file(), out + done, part, static_cast<off_t>(memory.base() + at));
      if (n != static_cast<ssize_t>(part)) break;
    }
    done += part;
  }
  return done;
}

bool DebugTarget::write_memory(u64 address, const u8* data, std::size_t size) {
  MemoryMap& memory = process_.memory;
  bool ok = true;
  for (std::size_t done = 0; ok && done < size;) {
    const u64 at = address + done;
    const std::size_t part = std::min<u64>(size - done, page_down(at) + kPageSize - at);
    if (memory.prot_at(at) < 0) return false;
    if (!memory.write(at, data + done, part))
      ok = pwrite(memory_file(), data + done, part, static_cast<off_t>(memory.base() + at)) == static_cast<ssize_t>(part);
    done += part;
  }
  process_.engine->invalidate(address, size);
  Lock lock(mutex_);
  refresh_watches();
  return ok;
}

// --- breakpoints ----------------------------------------------------------------------------------------------------------

bool DebugTarget::insert(BreakKind kind, u64 address, u64 size) {
  if (kind == BreakKind::Software || kind == BreakKind::Hardware) {
    if (breakpoints_.insert(address).second) process_.engine->insert_breakpoint(address);
    return true;
  }
  constexpr std::size_t kMostWatches = 64, kMostBytes = 4096;
  if (watches_.size() >= kMostWatches || size == 0 || size > kMostBytes) return false;
  Lock lock(mutex_);
  Watch watch{kind, address, size, std::vector<u8>(size)};
  process_.memory.read(address, watch.value.data(), size);
  watches_.push_back(std::move(watch));
  return true;
}

bool DebugTarget::remove(BreakKind kind, u64 address, u64 size) {
  if (kind == BreakKind::Software || kind == BreakKind::Hardware) {
    if (breakpoints_.erase(address) != 0) process_.engine->remove_breakpoint(address);
    return true;
  }
  Lock lock(mutex_);
  std::erase_if(watches_, [&](const Watch& w) { return w.kind == kind && w.address == address && w.size == size; });
  return true;
}

// --- resuming and stopping ----------------------------------------------------------------------------------------------

void DebugTarget::resume(const std::vector<debugger::ThreadResume>& actions, const ResumeAction& others) {
  Lock lock(mutex_);
  others_ = others;
  u64 drained;
  [[maybe_unused]] const ssize_t n = read(event_fd_, &drained, sizeof drained);
  event_.reset();
  for (const auto& task : tasks_) {
    task->action = others;
    task->step_due = false;
    for (const auto& r : actions)
      if (r.thread == task->tid) task->action = r.action;
  }
  running_ = true;
  changed_.notify_all();
  for (const auto& task : tasks_) {
    if (task->state != DebugTask::State::InSyscall || task->action.signal == 0) continue;
    task->forced_signal = std::exchange(task->action.signal, 0);
    raw_syscall(SYS_tgkill, static_cast<u64>(getpid()), static_cast<u64>(task->tid), static_cast<u64>(task->forced_signal));
  }
  // A thread that sleeps in a syscall while gdb gave it other registers: out of there. The kick may come just before the syscall is
  // entered, hence again and again; one that cannot be interrupted (vfork) keeps its registers until it is through.
  for (int attempt = 0; attempt < 1000; ++attempt) {
    bool any = false;
    for (const auto& task : tasks_) {
      if (task->state != DebugTask::State::InSyscall || !task->changed || !may_run(*task)) continue;
      any = true;
      kick_thread(*task->thread);
    }
    if (!any) return;
    changed_.wait_for(lock, std::chrono::milliseconds(1));
  }
}

void DebugTarget::interrupt(int signal) {
  Lock lock(mutex_);
  StopEvent event;
  event.signal = signal;
  if (!tasks_.empty()) event.thread = tasks_[0]->tid;
  if (signal == 0) {
    session_ = true;
    if (std::exchange(first_session_, false)) event.signal = SIGTRAP;
    lock.unlock();
    follow_actions(process_);
    lock.lock();
  } else if (!running_) {
    return;
  }
  stop(lock, event);
}

std::optional<StopEvent> DebugTarget::take_event() {
  Lock lock(mutex_);
  u64 drained;
  [[maybe_unused]] const ssize_t n = read(event_fd_, &drained, sizeof drained);
  if (!event_) return std::nullopt;
  if (event_->kind != StopEvent::Kind::Exited && event_->kind != StopEvent::Kind::Killed) wait_quiet(lock);
  return std::exchange(event_, std::nullopt);
}

void DebugTarget::event_told() {
  Lock lock(mutex_);
  told_ = true;
  changed_.notify_all();
}

void DebugTarget::catch_syscalls(bool on, const std::vector<u64>& numbers) {
  catching_ = on;
  caught_ = numbers;
}

void DebugTarget::detach() {
  {
    Lock lock(mutex_);
    if (!session_ && running_) return;
    if (running_) {
      stop(lock, {});
      wait_quiet(lock);
    }
    session_ = false;
    u64 drained;
    [[maybe_unused]] const ssize_t n = read(event_fd_, &drained, sizeof drained);
    event_.reset();
    watches_.clear();
    breakpoints_.clear();
    catching_ = false;
    pass_signals_ = 0;
  }
  process_.engine->remove_all_breakpoints();
  follow_actions(process_);
  resume({}, {});
}

void DebugTarget::kill() {
  ::kill(getpid(), SIGKILL);
  for (;;) pause();
}

// --- qXfer objects and files ---------------------------------------------------------------------------------------------

std::string DebugTarget::auxv() { return {process_.image.auxv.begin(), process_.image.auxv.end()}; }
std::string DebugTarget::exec_file() { return guest_view(process_, process_.exe_path); }

std::optional<std::string> DebugTarget::siginfo(ThreadId thread) {
  Lock lock(mutex_);
  const DebugTask* task = find(thread);
  if (task == nullptr || !task->info_valid) return std::nullopt;
  u8 info[128];
  std::memcpy(info, task->info, sizeof info);
  if (process_.abi->guest->pointer_bits == 32) siginfo_to_guest32(*process_.abi, task->info, info);
  return std::string(reinterpret_cast<const char*>(info), sizeof info);
}

int DebugTarget::open_file(const std::string& path) {
  for (const char* own : {"maps", "auxv", "cmdline", "environ", "stat"})
    if (own_proc_entry(path) == own) {
      int fd = -1;
      if (open_proc_file(process_, path, O_RDONLY | O_CLOEXEC, fd)) return fd < 0 ? fd : high_descriptor(fd);
    }
  const int fd = open(resolve_path(process_, path, Follow::Yes).c_str(), O_RDONLY | O_CLOEXEC);
  return fd < 0 ? -errno : high_descriptor(fd);
}

std::string DebugTarget::read_link(const std::string& path) {
  if (own_proc_entry(path) == "exe") return exec_file();
  char target[4096];
  const ssize_t n = readlink(resolve_path(process_, path, Follow::No).c_str(), target, sizeof target);
  return n > 0 ? guest_view(process_, std::string(target, static_cast<std::size_t>(n))) : std::string();
}

std::string DebugTarget::monitor(const std::string& command) {
  if (command == "stats") return process_.engine->stats_text();
  return "monitor stats: what the translator has done so far\n";
}

}  // namespace kiln::user
