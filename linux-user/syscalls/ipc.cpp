// SysV semaphores and message queues, POSIX message queues, cross-process memory.
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <csignal>
#include <cstdio>

#include "linux-user/ptrace/tracer.h"
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

bool is_kiln_process(int pid) {
  if (pid == 0 || pid == static_cast<int>(raw_syscall(SYS_getpid))) return true;
  struct stat own, other;
  const std::string exe = "/proc/" + std::to_string(pid) + "/exe";
  return stat("/proc/self/exe", &own) == 0 && stat(exe.c_str(), &other) == 0 && own.st_dev == other.st_dev &&
         own.st_ino == other.st_ino;
}

namespace {

/// The iovecs of another process: as the guest gave them, unless that process is a guest, too.
int read_remote_iovec(Call& c, GuestAddr at, u64 count, std::vector<iovec>& out, bool guest, bool kernel_writes) {
  if (guest) return read_iovec(c, at, count, out, kernel_writes);
  std::vector<std::pair<GuestAddr, u64>> parts;
  if (const int r = read_guest_iovec(c, at, count, parts); r < 0) return r;
  for (const auto& [base, length] : parts) out.push_back({reinterpret_cast<void*>(base), length});
  return 0;
}

s64 process_vm(Call& c, long number) {
  const bool reads = number == SYS_process_vm_readv;
  std::vector<iovec> local, remote;
  if (const int r = read_iovec(c, c.a[1], c.a[2], local, reads); r < 0) return r;
  const int pid = c.i(0);
  const bool ourselves = pid == 0 || pid == static_cast<int>(raw_syscall(SYS_getpid));
  if (const int r = read_remote_iovec(c, c.a[3], c.a[4], remote, is_kiln_process(pid), !reads && ourselves); r < 0) return r;
  const s64 r = c.host(number, c.a[0], local.data(), local.size(), remote.data(), remote.size(), c.a[5]);
  if (!reads && !ourselves && r > 0)
    for (const iovec& part : remote) note_tracee_write(pid, reinterpret_cast<u64>(part.iov_base) - c.memory.base(), part.iov_len);
  return r;
}

/// The process behind a pidfd, or -1.
int process_of(int pidfd) {
  const std::string name = "/proc/self/fdinfo/" + std::to_string(pidfd);
  std::FILE* file = std::fopen(name.c_str(), "re");
  if (!file) return -1;
  int pid = -1;
  char line[256];
  while (std::fgets(line, sizeof line, file))
    if (std::sscanf(line, "Pid:\t%d", &pid) == 1) break;
  std::fclose(file);
  return pid;
}

}  // namespace

s64 sys_process_madvise(Call& c) {
  std::vector<iovec> remote;
  if (const int r = read_remote_iovec(c, c.a[1], c.a[2], remote, is_kiln_process(process_of(c.i(0))), false); r < 0) return r;
  return c.host(SYS_process_madvise, c.a[0], remote.data(), remote.size(), c.a[3], c.a[4]);
}

s64 sys_mq_notify(Call& c) {
  sigevent event{};
  if (c.a[1] == 0) return c.host(SYS_mq_notify, c.a[0], nullptr);
  if (!c.memory.read(c.a[1], event)) return -EFAULT;
  // SIGEV_THREAD: the value is a pointer to 32 bytes that come back through a socket.
  if (event.sigev_notify == SIGEV_THREAD)
    event.sigev_value.sival_ptr = c.memory.pointer(reinterpret_cast<u64>(event.sigev_value.sival_ptr));
  return c.host(SYS_mq_notify, c.a[0], &event);
}

s64 sys_process_vm_readv(Call& c) { return process_vm(c, SYS_process_vm_readv); }
s64 sys_process_vm_writev(Call& c) { return process_vm(c, SYS_process_vm_writev); }

}  // namespace kiln::user
