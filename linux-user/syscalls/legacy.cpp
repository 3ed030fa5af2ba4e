// Calls that newer tables left out, made from those that replaced them.
#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

constexpr u64 kHere = static_cast<u64>(AT_FDCWD);

/// The call with other arguments.
s64 with(Call& c, s64 (*function)(Call&), std::initializer_list<u64> arguments) {
  Call call{c.thread, c.process, c.memory, c.abi, c.row, {}};
  unsigned n = 0;
  for (u64 a : arguments) call.a[n++] = a;
  return function(call);
}

}  // namespace

s64 sys_open(Call& c) { return with(c, sys_openat, {kHere, c.a[0], c.a[1], c.a[2]}); }
s64 sys_creat(Call& c) {
  return with(c, sys_openat, {kHere, c.a[0], c.abi.open_flags_from_host(O_CREAT | O_WRONLY | O_TRUNC), c.a[1]});
}
s64 sys_stat(Call& c) { return with(c, sys_newfstatat, {kHere, c.a[0], c.a[1], 0}); }
s64 sys_lstat(Call& c) { return with(c, sys_newfstatat, {kHere, c.a[0], c.a[1], AT_SYMLINK_NOFOLLOW}); }
s64 sys_readlink(Call& c) { return with(c, sys_readlinkat, {kHere, c.a[0], c.a[1], c.a[2]}); }

s64 sys_poll(Call& c) { return c.host(SYS_poll, c.out(0, u64{c.u(1)} * sizeof(pollfd)), c.a[1], c.a[2]); }
s64 sys_select(Call& c) {
  return c.host(SYS_select, c.a[0], c.out(1, 128), c.out(2, 128), c.out(3, 128), c.out(4, sizeof(timeval)));
}
s64 sys_epoll_wait(Call& c) { return with(c, sys_epoll_pwait, {c.a[0], c.a[1], c.a[2], c.a[3], 0, 0}); }

s64 sys_time(Call& c) {
  const s64 now = time(nullptr);
  return c.a[0] == 0 || c.memory.write(c.a[0], now) ? now : -EFAULT;
}

s64 sys_sysfs(Call& c) {
  switch (c.i(0)) {
    case 1: return c.host(SYS_sysfs, c.a[0], c.in(1));
    case 2: return c.host(SYS_sysfs, c.a[0], c.a[1], c.out(2));
    default: return c.host(SYS_sysfs, c.a[0]);
  }
}

// I/O ports are not a program's: as without CAP_SYS_RAWIO.
s64 sys_iopl(Call& c) { return c.u(0) > 3 ? -EINVAL : c.u(0) == 0 ? 0 : -EPERM; }
s64 sys_ioperm(Call&) { return -EPERM; }

}  // namespace kiln::user
