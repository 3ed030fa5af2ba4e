#include "linux-user/crash/crash.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <deque>

#include "linux-user/crash/crash_abi.h"
#include "linux-user/crash/guest_files.h"
#include "linux-user/crash/unwind.h"
#include "linux-user/host_x86_64.h"
#include "linux-user/path.h"
#include "linux-user/signals.h"

namespace kiln::user {
namespace {

constexpr std::size_t kMostFrames = 64, kMostThreads = 32, kNotedSyscalls = 24;

struct NotedSyscalls {
  std::mutex mutex;
  std::deque<std::string> lines;
};
NotedSyscalls& noted() {
  static NotedSyscalls notes;
  return notes;
}

void sleep_ms(unsigned ms) {
  const timespec time{0, static_cast<long>(ms) * 1000000};
  nanosleep(&time, nullptr);
}

const char* signal_text(int signal) {
  const char* text = sigdescr_np(signal);
  return text != nullptr ? text : "unknown signal";
}

std::string number(const char* format, u64 value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

void append_backtrace(std::string& out, Process& process, GuestFiles& files, const Thread& thread) {
  const CrashAbi* abi = crash_abi(*process.abi);
  std::vector<GuestAddr> frames{thread.cpu->pc};
  if (abi != nullptr) frames = backtrace(process, files, *abi, thread.cpu, kMostFrames);
  for (std::size_t i = 0; i < frames.size(); ++i)
    out += number("  #%-2lu ", i) + files.describe(frames[i], i > 0) + "\n";
  if (frames.size() == kMostFrames) out += "  … (more)\n";
}

void append_report(std::string& out, Thread& thread, int signal, const u8* info, GuestFiles& files) {
  Process& process = *thread.process;
  out += "program: " + guest_view(process, process.exe_path) + " (" + process.abi->name + "), pid " + std::to_string(getpid()) +
         ", thread " + std::to_string(thread.tid) + " of " + std::to_string(process.threads.size()) + "\n";
  out += "signal:  " + std::to_string(signal) + " (" + signal_text(signal) + ")";
  if (info != nullptr) {
    int code;
    u64 address;
    std::memcpy(&code, info + 8, 4);
    std::memcpy(&address, info + 16, 8);
    out += ", code " + std::to_string(code);
    if (code > 0 && code != SI_KERNEL) out += number(", address %#lx", address);
  }
  out += "\nran in:  " + process.engine->place_text(thread.cpu) + "\nregisters:\n" + process.engine->guest().dump(thread.cpu);
  if (out.back() != '\n') out += '\n';
  u8 code[16];
  const std::size_t got = process.memory.read(thread.cpu->pc, code, sizeof code) ? sizeof code : 0;
  out += "code:   ";
  for (std::size_t i = 0; i < got; ++i) out += number(" %02lx", code[i]);
  out += got != 0 ? "\n" : " unreadable\n";
  out += "backtrace:\n";
  append_backtrace(out, process, files, thread);
  {
    std::lock_guard guard(noted().mutex);
    if (!noted().lines.empty()) out += "last system calls:\n";
    for (const std::string& line : noted().lines) out += "  " + line;
  }
  std::size_t shown = 0;
  for (const Thread* other : process.threads) {
    if (other == &thread) continue;
    if (++shown > kMostThreads) {
      out += "… and more threads\n";
      break;
    }
    out += "thread " + std::to_string(other->tid) +
           (other->cpu->in_code ? " (still running: registers of its last exit)\n" : other->held ? ":\n" : " (in a system call):\n");
    append_backtrace(out, process, files, *other);
  }
}

}  // namespace

/// Until the others wait or sleep in syscalls, whose registers do not change either. A second at most: the report is worth more
/// than the neighbours' last instruction.
void hold_others(Thread& dying) {
  Process& process = *dying.process;
  std::lock_guard guard(process.threads_mutex);
  for (unsigned ms = 0; ms < 1000; ms += 2) {
    bool all = true, none_in_code = true;
    for (Thread* thread : process.threads) {
      if (thread == &dying) continue;
      __atomic_store_n(&thread->cpu->interrupt, 1u, __ATOMIC_RELEASE);
      all &= __atomic_load_n(&thread->held, __ATOMIC_ACQUIRE);
      none_in_code &= __atomic_load_n(&thread->cpu->in_code, __ATOMIC_RELAXED) == 0;
    }
    if (all || (ms >= 50 && none_in_code)) return;
    sleep_ms(2);
  }
}

bool is_core_signal(int signal) {
  constexpr u64 kCore = signal_bit(SIGQUIT) | signal_bit(SIGILL) | signal_bit(SIGTRAP) | signal_bit(SIGABRT) | signal_bit(SIGBUS) |
                        signal_bit(SIGFPE) | signal_bit(SIGSEGV) | signal_bit(SIGXCPU) | signal_bit(SIGXFSZ) | signal_bit(SIGSYS);
  return (kCore & signal_bit(signal)) != 0;
}

bool wants_core_signals(const Process& process) { return process.options.crash_report || process.core_limit[0] != 0; }

void note_syscall(const std::string& line) {
  std::lock_guard guard(noted().mutex);
  noted().lines.push_back(line);
  if (noted().lines.size() > kNotedSyscalls) noted().lines.pop_front();
}

void wait_for_the_end(Thread& thread) {
  block_all_signals();
  __atomic_store_n(&thread.held, true, __ATOMIC_RELEASE);
  for (;;) pause();
}

void guest_dies(Thread& thread, int signal, const u8* info) {
  Process& process = *thread.process;
  block_all_signals();
  const bool alone = thread.vfork_child;  // its neighbours are another process's
  if (!alone && process.dying.exchange(true)) wait_for_the_end(thread);
  const bool core = !alone && is_core_signal(signal) && process.core_limit[0] != 0;
  std::string out = "kiln: " + guest_view(process, process.exe_path) + ": killed by signal " + std::to_string(signal) + " (" +
                    signal_text(signal) + number(") at pc %#lx", thread.cpu->pc);
  if (!process.options.crash_report) out += "; KILN_CRASH=1 tells more";
  out += "\n";
  if (core || process.options.crash_report) {
    if (!alone) hold_others(thread);
    if (process.options.crash_report) {
      GuestFiles files(process);
      append_report(out, thread, signal, info, files);
    }
    if (core) {
      std::string path;
      const std::string why = write_core(thread, signal, info, path);
      out += why.empty() ? "core: " + path + "\n" : "kiln: no core file: " + why + "\n";
    }
  }
  process.log.write(out);
}

}  // namespace kiln::user
