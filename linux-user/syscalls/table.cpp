// The table, the dispatch, and PASS rows.
#include <fcntl.h>
#include <sys/syscall.h>

#include <array>
#include <cstring>
#include <set>

#include "linux-user/debug_target.h"
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

void say_once(Process& process, const std::string& what) {
  static std::mutex mutex;
  static std::set<std::string> said;
  std::lock_guard guard(mutex);
  if (said.insert(what).second) process.log.write("kiln: " + what + "\n");
}

s64 sys_pass(Call& call) {
  u64 values[6] = {};
  std::string paths[2];
  unsigned path_count = 0;
  const char* letters = call.row.args;
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
  return safe_syscall(call.row.host_number, const_cast<const u32*>(&call.thread.signal_pending), values);
}

void handle_syscall(Thread& thread) {
  Process& process = *thread.process;
  const GuestAbi* way = process.abi->syscall_abi ? process.abi->syscall_abi(thread.cpu) : process.abi;
  if (!way) {
    say_once(process, "unimplemented way into the kernel (SYSENTER): there is no vDSO to return to");
    return raise_fault(thread, SIGSEGV, SI_KERNEL, 0);
  }
  const GuestAbi& abi = *way;
  const u64 number = abi.syscall_number(thread.cpu);
  const SyscallRow* row = abi.syscall(number);
  s64 result;
  if (process.debugger) [[unlikely]] {
    switch (process.debugger->enter_syscall(thread, row ? row->name : nullptr, number, result)) {
      case DebugTarget::Syscall::Make: break;
      case DebugTarget::Syscall::Again: return;
      case DebugTarget::Syscall::Finished:
        thread.cpu->pc += abi.syscall_insn_bytes;
        return abi.set_syscall_result(thread.cpu, result);
    }
  }
  if (!row || !row->function) {
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
    if (process.options.strace) [[unlikely]] {
      std::string line;
      strace_enter(call, line);
      result = row->function(call);
      strace_leave(call, line, result);
    } else {
      result = row->function(call);
    }
  }
  if (process.debugger && !process.debugger->leave_syscall(thread, result)) return;
  if (result == kNoResult || result == kRestartSyscall) return;
  thread.cpu->pc += abi.syscall_insn_bytes;
  abi.set_syscall_result(thread.cpu, result);
  if (process.debugger) process.debugger->syscall_done(thread);
}

}  // namespace kiln::user
