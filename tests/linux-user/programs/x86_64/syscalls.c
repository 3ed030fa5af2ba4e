// What x86-64 Linux has beside the common calls: old calls, thread bases, the vsyscall page, registers around SYSCALL, the frame of a
// program's start.
#define _GNU_SOURCE
#include <asm/prctl.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <utime.h>

#include "../check.h"

static long call(long number, long a, long b, long c, uint64_t clobbered[3]) {
  long result;
  register long r8 asm("r8") = 0x8888, r9 asm("r9") = 0x9999, r10 asm("r10") = 0;
  asm volatile(
      "xor %%ecx, %%ecx\n xor %%r11d, %%r11d\n stc\n lea 1f(%%rip), %%r12\n syscall\n1: mov %%rcx, 0(%%rbx)\n mov %%r11, 8(%%rbx)\n"
      "mov %%r12, 16(%%rbx)\n"
      : "=a"(result), "+r"(r8), "+r"(r9), "+r"(r10)
      : "0"(number), "D"(a), "S"(b), "d"(c), "b"(clobbered)
      : "rcx", "r11", "r12", "memory", "cc");
  CHECK(r8 == 0x8888 && r9 == 0x9999);
  return result;
}

static int child(void* argument) { return *(int*)argument; }

int main(int argc, char** argv) {
  uint64_t regs[3];
  CHECK(call(SYS_getpid, 0, 0, 0, regs) == getpid());
  CHECK(regs[0] == regs[2]);                                // rcx: the next instruction
  CHECK((regs[1] & 0x8d5) == 0x45 && (regs[1] & 0x202) == 0x202);  // r11: flags (xor, stc)
  CHECK(call(12345, 0, 0, 0, regs) == -ENOSYS);

  char directory[] = "/tmp/kiln-syscalls-XXXXXX";
  CHECK(mkdtemp(directory) && chdir(directory) == 0);
  int fd = (int)syscall(SYS_open, "a", O_RDWR | O_CREAT | O_EXCL, 0640);
  CHECK(fd >= 0 && write(fd, "hello", 5) == 5);
  CHECK(syscall(SYS_creat, "c", 0600) >= 0);
  struct stat st;
  CHECK(syscall(SYS_stat, "a", &st) == 0 && st.st_size == 5 && (st.st_mode & 0777) == 0640 && st.st_nlink == 1);
  CHECK(syscall(SYS_symlink, "a", "l") == 0 && syscall(SYS_lstat, "l", &st) == 0 && S_ISLNK(st.st_mode));
  char text[64] = "";
  CHECK(syscall(SYS_readlink, "l", text, 64l) == 1 && text[0] == 'a');
  CHECK(syscall(SYS_access, "a", R_OK) == 0 && syscall(SYS_access, "none", F_OK) == -1 && errno == ENOENT);
  CHECK(syscall(SYS_link, "a", "b") == 0 && syscall(SYS_rename, "b", "d") == 0 && syscall(SYS_unlink, "d") == 0);
  CHECK(syscall(SYS_mkdir, "x", 0755) == 0 && syscall(SYS_chmod, "x", 0700) == 0 && syscall(SYS_rmdir, "x") == 0);
  CHECK(syscall(SYS_chown, "a", getuid(), getgid()) == 0 && syscall(SYS_lchown, "l", getuid(), getgid()) == 0);
  CHECK(syscall(SYS_mknod, "fifo", S_IFIFO | 0600, 0) == 0);
  struct utimbuf times = {1000, 2000};
  CHECK(syscall(SYS_utime, "a", &times) == 0 && stat("a", &st) == 0 && st.st_mtime == 2000);
  struct timeval tv[2] = {{3000, 5}, {4000, 7}};
  CHECK(syscall(SYS_utimes, "a", tv) == 0 && stat("a", &st) == 0 && st.st_mtim.tv_nsec == 7000);
  CHECK(syscall(SYS_futimesat, AT_FDCWD, "a", 0) == 0 && stat("a", &st) == 0 && st.st_mtime > 100000000);
  const int here = open(".", O_RDONLY | O_DIRECTORY);
  char entries[1024];
  CHECK(syscall(SYS_getdents, here, entries, sizeof entries) > 0);
  int ends[2];
  CHECK(syscall(SYS_pipe, ends) == 0 && syscall(SYS_dup2, ends[1], 77) == 77);
  struct pollfd p = {ends[0], POLLIN, 0};
  CHECK(syscall(SYS_poll, &p, 1, 0) == 0);
  CHECK(write(77, "x", 1) == 1 && syscall(SYS_poll, &p, 1, -1) == 1 && p.revents == POLLIN);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(ends[0], &set);
  struct timeval zero = {0, 0};
  CHECK(syscall(SYS_select, ends[0] + 1, &set, 0, 0, &zero) == 1);
  const int epoll = (int)syscall(SYS_epoll_create, 1);
  struct epoll_event event = {EPOLLIN, {.u64 = 0x1122334455667788}}, got[2];
  CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, ends[0], &event) == 0);
  CHECK(syscall(SYS_epoll_wait, epoll, got, 2, -1) == 1 && got[0].data.u64 == event.data.u64 && sizeof got == 24);
  CHECK(syscall(SYS_eventfd, 3) >= 0 && syscall(SYS_inotify_init) >= 0);
  CHECK(syscall(SYS_getpgrp) == getpgrp());
  time_t now = 0;
  CHECK(syscall(SYS_time, &now) == now && now > 1000000000);
  CHECK(syscall(SYS_alarm, 100) == 0 && syscall(SYS_alarm, 0) == 100);

  int status;
  pid_t pid = (pid_t)syscall(SYS_fork);
  if (pid == 0) _exit(5);
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 5);
  pid = vfork();
  if (pid == 0) _exit(6);
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 6);
  static char child_stack[65536];
  int value = 9;
  pid = clone(child, child_stack + sizeof child_stack, SIGCHLD, &value);
  CHECK(waitpid(pid, &status, 0) == pid && WEXITSTATUS(status) == 9);

  uint64_t base = 0, fs = 0;
  CHECK(syscall(SYS_arch_prctl, ARCH_GET_FS, &fs) == 0);
  asm("mov %%fs:0, %0" : "=r"(base));
  CHECK(base == fs);  // the thread control block begins with its own address
  static uint64_t words[2] = {0x1234, 0x5678};
  CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, words) == 0);
  asm("mov %%gs:8, %0" : "=r"(base));
  CHECK(base == 0x5678);
  CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0 && base == (uint64_t)words);
  CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, 0xffff800000000000) == -1 && errno == EPERM);
  CHECK(syscall(SYS_arch_prctl, 0x9999, 0) == -1 && errno == EINVAL);

  // The vsyscall page is not readable everywhere, but always callable.
  struct timeval a, b;
  gettimeofday(&a, 0);
  CHECK(((int (*)(void*, void*))0xffffffffff600000)(&b, 0) == 0 && b.tv_sec - a.tv_sec <= 1);
  CHECK(((long (*)(long*))0xffffffffff600400)(0) - a.tv_sec <= 1);
  unsigned cpu = 1000;
  CHECK(((int (*)(unsigned*, void*, void*))0xffffffffff600800)(&cpu, 0, 0) == 0 && cpu < 1000);

  char* low = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  CHECK(low != MAP_FAILED && (uint64_t)low + 8192 <= 0x80000000);
  low[0] = 1;

  CHECK(!strcmp((char*)getauxval(AT_PLATFORM), "x86_64"));
  uint32_t eax = 1, ebx, ecx = 0, edx;
  asm volatile("cpuid" : "+a"(eax), "=b"(ebx), "+c"(ecx), "=d"(edx));
  // From the kernel itself: libc's getauxval(AT_HWCAP) tells something of its own.
  uint64_t auxv[64] = {0}, hwcap = 0;
  CHECK(read(open("/proc/self/auxv", O_RDONLY), auxv, sizeof auxv - 16) > 0);
  for (int i = 0; auxv[i]; i += 2)
    if (auxv[i] == AT_HWCAP) hwcap = auxv[i + 1];
  CHECK((hwcap & edx & 1 << 26) && !(hwcap & ~(uint64_t)edx));
  CHECK(getauxval(AT_MINSIGSTKSZ) > 1024);
  system("rm -rf \"$PWD\"");
  return done();
}
