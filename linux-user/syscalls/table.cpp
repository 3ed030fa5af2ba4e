// The table, the dispatch, and PASS rows.
#include <fcntl.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <map>

#include "linux-user/crash/crash.h"
#include "linux-user/debug_target.h"
#include "linux-user/ptrace/tracee.h"
#include "linux-user/syscalls/seccomp.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

#define PASS(name, args) inline constexpr SyscallRow name##_row = {#name, args, sys_pass, SYS_##name};
#define CALL(name, args) inline constexpr SyscallRow name##_row = {#name, args, sys_##name, -1};
#define NONE(name) inline constexpr SyscallRow name##_row = {#name, "xxxxxx", nullptr, -1};
namespace rows {
#include "linux-user/syscalls/list.def"
}
#undef PASS
#undef CALL
#undef NONE

/// A guest's numbers: a row for each, or null.
using Numbers = std::array<const SyscallRow*, 460>;

constexpr Numbers make_generic64() {
  Numbers table{};
#define NR(number, name) table[number] = &rows::name##_row;
#include "linux-user/syscalls/numbers_generic64.def"
#undef NR
  return table;
}
constexpr Numbers make_x86_64() {
  Numbers table{};
#define NR(number, name) table[number] = &rows::name##_row;
#include "linux-user/syscalls/numbers_x86_64.def"
#undef NR
  return table;
}
constexpr Numbers kGeneric64 = make_generic64();
constexpr Numbers kX86_64 = make_x86_64();

const SyscallRow* find(const Numbers& table, u64 number) { return number < table.size() ? table[number] : nullptr; }

}  // namespace

const SyscallRow* generic64_syscall(u64 number) { return find(kGeneric64, number); }
const SyscallRow* x86_64_syscall(u64 number) { return find(kX86_64, number); }

namespace {
/// What was asked for in vain, and how often.
struct Ledger {
  std::mutex mutex;
  std::map<std::string, u64> counts;
};
Ledger& ledger() {
  static auto& all = *new Ledger;  // outlives everything: threads may still run when the process ends
  return all;
}
}  // namespace

void say_once(Process& process, const std::string& what) {
  {
    std::lock_guard guard(ledger().mutex);
    if (ledger().counts[what]++ != 0) return;
  }
  process.log.write("kiln: " + what + "\n");
}

std::string ledger_text() {
  std::lock_guard guard(ledger().mutex);
  std::string text;
  for (const auto& [what, count] : ledger().counts) text += "kiln: " + what + ": " + std::to_string(count) + " times\n";
  return text;
}

s64 sys_pass(Call& call) { return pass_by_letters(call, call.row.host_number, call.row.args); }

s64 pass_by_letters(Call& call, long number, const char* letters) {
  u64 values[6] = {};
  std::string paths[2];
  unsigned path_count = 0;
  bool nofollow = false;
  if (const char* at_flags = std::strchr(letters, 'A')) nofollow = (call.a[at_flags - letters] & AT_SYMLINK_NOFOLLOW) != 0;
  for (unsigned n = 0; letters[n]; ++n) {
    switch (letters[n]) {
      case 'p':
      case 's':
      case 'T':
      case 'b': values[n] = Call::to_u64(call.in(n)); break;
      case 'w': values[n] = Call::to_u64(call.out(n, letters[n + 1] == 'z' ? call.a[n + 1] : kPageSize)); break;
      case 'P':
      case 'L': {
        if (call.a[n] == 0) break;  // null is a value of its own for utimensat, statx, mount …
        const int r = call.host_path(n, paths[path_count], letters[n] == 'P' && !nofollow ? Follow::Yes : Follow::No);
        if (r < 0) return r;
        values[n] = Call::to_u64(paths[path_count++].c_str());
        break;
      }
      default: values[n] = call.a[n]; break;
    }
  }
  return safe_syscall(number, const_cast<const u32*>(&call.thread.signal_pending), values);
}

namespace {
/// Did a signal with a handler of the guest's end the call, or only one that is a tracer's business?
bool interrupted_for_handler(const Thread& thread) {
  if (thread.signal_pending == 0) return false;
  if ((thread.signal_pending & kPendingQueued) == 0) return true;
  int signal;
  std::memcpy(&signal, thread.pending_info, sizeof signal);
  std::lock_guard guard(thread.signals->mutex);
  return thread.signals->actions[signal].handler > 1;
}
}  // namespace

void handle_syscall(Thread& thread) {
  Process& process = *thread.process;
  const GuestAbi* way = process.abi->syscall_abi ? process.abi->syscall_abi(thread.cpu) : process.abi;
  if (!way) {
    say_once(process, "unimplemented way into the kernel (SYSENTER): there is no vDSO to return to");
    return raise_fault(thread, SIGSEGV, SI_KERNEL, 0);
  }
  const GuestAbi& abi = *way;
  u64 number = abi.syscall_number(thread.cpu);
  s64 result;
  const bool skipped = thread.trace && !trace_syscall_entry(thread, abi, number, result);
  const SyscallRow* row = abi.syscall(number);
  if (process.debugger) [[unlikely]] {
    switch (process.debugger->enter_syscall(thread, row ? row->name : nullptr, number, result)) {
      case DebugTarget::Syscall::Make: break;
      case DebugTarget::Syscall::Again: return;
      case DebugTarget::Syscall::Finished:
        thread.cpu->pc += abi.syscall_insn_bytes;
        return abi.set_syscall_result(thread.cpu, result);
    }
  }
  SeccompVerdict verdict = SeccompVerdict::Go;
  if (skipped) [[unlikely]] {
    verdict = SeccompVerdict::Result;
  } else if (__atomic_load_n(&thread.seccomp, __ATOMIC_RELAXED)) [[unlikely]] {
    verdict = check_seccomp(thread, abi, number, result);
    if (verdict == SeccompVerdict::Signalled) return;
  }
  if (verdict == SeccompVerdict::Result) {
    if (process.options.strace)
      process.log.write(std::to_string(thread.tid) + " " + (row ? row->name : "syscall_" + std::to_string(number)) +
                        "() = " + std::to_string(result) + " (not made)\n");
  } else if (!row || !row->function) {
    say_once(process,
             "unimplemented syscall " + std::to_string(number) + (row ? std::string(" (") + row->name + ")" : std::string()));
    result = -ENOSYS;
    if (process.options.strace)
      process.log.write(std::to_string(thread.tid) + " " + (row ? row->name : "syscall_" + std::to_string(number)) +
                        "() = -1 ENOSYS\n");
  } else {
    Call call{thread, process, process.memory, abi, *row, {}};
    if (abi.read_arguments) abi.read_arguments(call);
    else
      for (unsigned n = 0; n < 6; ++n) call.a[n] = abi.syscall_arg(thread.cpu, n);
    if (process.options.strace || process.options.crash_report) [[unlikely]] {
      std::string line;
      strace_enter(call, line);
      result = row->function(call);
      strace_leave(call, line, result);
      if (process.options.crash_report && !thread.vfork_child) note_syscall(line + "\n");
    } else {
      result = row->function(call);
    }
  }
  if (result == -EINTR && (thread.trace_requests || thread.trace)) [[unlikely]]
    if (!interrupted_for_handler(thread)) result = kRestartSyscall;
  // A temporary mask counts for the signal that interrupted the call, not for one that came before or after.
  if (result != -EINTR) thread.has_call_mask = false;
  if (process.debugger && !process.debugger->leave_syscall(thread, result)) return;
  if (result != kNoResult && result != kRestartSyscall) {
    thread.cpu->pc += abi.syscall_insn_bytes;
    abi.set_syscall_result(thread.cpu, result);
  }
  if (thread.trace) [[unlikely]] trace_syscall_exit(thread, abi, number, result);
  if (result == kNoResult || result == kRestartSyscall) return;
  if (process.debugger) process.debugger->syscall_done(thread);
}

}  // namespace kiln::user
