// SysV semaphores and message queues, POSIX message queues, cross-process memory.
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

s64 sys_semctl(Call& c) {
  switch (c.i(2) & ~0x100) {
    case SETVAL: return c.host(SYS_semctl, c.a[0], c.a[1], c.a[2], c.a[3]);
    default: return c.host(SYS_semctl, c.a[0], c.a[1], c.a[2], c.out(3));
  }
}

s64 sys_msgrcv(Call& c) { return c.host(SYS_msgrcv, c.a[0], c.out(1, c.a[2] + 8), c.a[2], c.a[3], c.a[4]); }

s64 sys_mq_open(Call& c) { return c.host(SYS_mq_open, c.in(0), c.abi.open_flags_to_host(c.a[1]), c.a[2], c.in(3)); }

namespace {
s64 process_vm(Call& c, long number) {
  std::vector<iovec> local, remote;
  if (const int r = read_iovec(c, c.a[1], c.a[2], local, number == SYS_process_vm_readv); r < 0) return r;
  // Every Kiln process puts its guest at the same base, so a remote guest address is translated like a local one.
  if (const int r = read_iovec(c, c.a[3], c.a[4], remote, false); r < 0) return r;
  return c.host(number, c.a[0], local.data(), local.size(), remote.data(), remote.size(), c.a[5]);
}
}  // namespace

s64 sys_process_vm_readv(Call& c) { return process_vm(c, SYS_process_vm_readv); }
s64 sys_process_vm_writev(Call& c) { return process_vm(c, SYS_process_vm_writev); }

}  // namespace kiln::user
