// Limits, locks and advice on memory; other processes' memory; keys; prctl; futex_waitv; what is refused.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/keyctl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

enum { PAGE = 4096 };
static char* map(size_t size) { return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); }

static void limits(void) {
  struct rlimit old, limit;
  CHECK(getrlimit(RLIMIT_AS, &old) == 0);
  limit = old;
  limit.rlim_cur = 1u << 30;
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0 && getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == 1u << 30);
  CHECK(map(1u << 30) == MAP_FAILED && errno == ENOMEM);
  char* some = map(1 << 20);
  CHECK(some != MAP_FAILED && munmap(some, 1 << 20) == 0);
  CHECK(setrlimit(RLIMIT_AS, &old) == 0);
  CHECK(getrlimit(RLIMIT_DATA, &old) == 0);
  limit = old;
  limit.rlim_cur = 256 << 20;
  CHECK(setrlimit(RLIMIT_DATA, &limit) == 0);
  CHECK(map(256 << 20) == MAP_FAILED && errno == ENOMEM);
  char* plain = mmap(NULL, 256 << 20, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  CHECK(plain != MAP_FAILED);  // only what may be written counts
  munmap(plain, 256 << 20);
  CHECK(setrlimit(RLIMIT_DATA, &old) == 0);
  struct rlimit wrong = {2, 1};
  CHECK(setrlimit(RLIMIT_AS, &wrong) == -1 && errno == EINVAL);
}

/// VmLck of /proc/self/status in KiB.
static long locked(void) {
  char line[256];
  long value = -1;
  FILE* file = fopen("/proc/self/status", "r");
  while (fgets(line, sizeof line, file)) sscanf(line, "VmLck: %ld", &value);
  fclose(file);
  return value;
}
static void locks(void) {
  if (locked() != 0) return;
  char* page = map(4 * PAGE);
  CHECK(mlock(page, PAGE + 1) == 0 && locked() == 8 && munlock(page, 2 * PAGE) == 0 && locked() == 0);
  CHECK(syscall(SYS_mlock2, page, 2 * PAGE, 1) == 0 && locked() == 8 && munlock(page, 2 * PAGE) == 0);
  CHECK(syscall(SYS_mlock2, page, PAGE, 6) == -1 && errno == EINVAL);
  CHECK(mlockall(0) == -1 && errno == EINVAL && mlockall(MCL_ONFAULT) == -1 && errno == EINVAL && mlockall(64) == -1 && errno == EINVAL);
  CHECK(mlockall(MCL_FUTURE | MCL_ONFAULT) == 0);
  char* more = map(4 * PAGE);
  CHECK(more != MAP_FAILED && locked() == 16);
  CHECK(munlockall() == 0 && locked() == 0);
  if (geteuid() == 0) {
    CHECK(mlockall(MCL_CURRENT | MCL_ONFAULT) == 0 && locked() > 100);
    CHECK(munlockall() == 0 && locked() == 0);
  }
  munmap(page, 4 * PAGE);
  CHECK(mlock(page, PAGE) == -1 && errno == ENOMEM);
}

static void advice(void) {
  char* p = map(4 * PAGE);
  memset(p, 7, 4 * PAGE);
  munmap(p + PAGE, PAGE);
  CHECK(madvise(p, 4 * PAGE, MADV_DONTNEED) == -1 && errno == ENOMEM);  // but done for what is there
  CHECK(p[0] == 0 && p[2 * PAGE] == 0);
  CHECK(madvise(p, PAGE, 12345) == -1 && errno == EINVAL);
  CHECK(madvise(p + 1, PAGE, MADV_DONTNEED) == -1 && errno == EINVAL);
  CHECK(madvise(p, 0, MADV_DONTNEED) == 0);
  p[0] = 5;
  CHECK(madvise(p, PAGE, MADV_WIPEONFORK) == 0);
  p[2 * PAGE] = 6;
  pid_t pid = fork();
  if (pid == 0) _exit(p[0] == 0 && p[2 * PAGE] == 6 ? 0 : 1);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0 && p[0] == 5);
  CHECK(madvise(p + 2 * PAGE, 2 * PAGE, 23 /* MADV_POPULATE_WRITE */) == 0 || errno == EINVAL);
  unsigned char present[2] = {0};
  CHECK(mincore(p + 2 * PAGE, 2 * PAGE, present) == 0 && (present[0] & 1));
  CHECK(mincore(p + PAGE, PAGE, present) == -1 && errno == ENOMEM);
  // Pages of a shared file in another order.
  int fd = (int)syscall(SYS_memfd_create, "pages", 0);
  CHECK(ftruncate(fd, 4 * PAGE) == 0);
  char* f = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  for (int n = 0; n < 4; ++n) f[n * PAGE] = (char)('a' + n);
  CHECK(remap_file_pages(f, PAGE, 0, 3, 0) == 0 && f[0] == 'd' && f[PAGE] == 'b');
  f[0] = 'x';
  CHECK(f[3 * PAGE] == 'x' && msync(f, 4 * PAGE, MS_SYNC) == 0);
  CHECK(msync(f, PAGE, MS_SYNC | MS_ASYNC) == -1 && errno == EINVAL);
  munmap(f, 4 * PAGE);
  void* nodes_page = p;
  int where = 99;
  CHECK(syscall(SYS_move_pages, 0, 1UL, &nodes_page, NULL, &where, 0) == 0 && where >= 0);
}

static char shared_text[16];
static void other_memory(void) {
  int ready[2], go[2];
  CHECK(pipe(ready) == 0 && pipe(go) == 0);
  pid_t pid = fork();
  if (pid == 0) {
    strcpy(shared_text, "child's");
    char byte = 0;
    if (write(ready[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1) _exit(2);
    _exit(strcmp(shared_text, "changed") != 0);
  }
  char byte, text[16] = "";
  CHECK(read(ready[0], &byte, 1) == 1);
  struct iovec here = {text, sizeof text}, there = {shared_text, sizeof text};
  CHECK(process_vm_readv(pid, &here, 1, &there, 1, 0) == sizeof text && !strcmp(text, "child's"));
  strcpy(text, "changed");
  CHECK(process_vm_writev(pid, &here, 1, &there, 1, 0) == sizeof text);
  struct iovec nowhere = {(void*)16, 4};
  CHECK(process_vm_readv(pid, &here, 1, &nowhere, 1, 0) == -1 && errno == EFAULT);
  CHECK(write(go[1], "", 1) == 1);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

static void keys(void) {
  long ring = syscall(SYS_keyctl, KEYCTL_GET_KEYRING_ID, KEY_SPEC_PROCESS_KEYRING, 1);
  if (ring == -1) return;  // a kernel or container without them
  long key = syscall(SYS_add_key, "user", "kiln-test", "secret", (size_t)6, KEY_SPEC_PROCESS_KEYRING);
  char text[64] = "";
  CHECK(key > 0 && syscall(SYS_keyctl, KEYCTL_READ, key, text, sizeof text) == 6 && !memcmp(text, "secret", 6));
  CHECK(syscall(SYS_keyctl, KEYCTL_DESCRIBE, key, text, sizeof text) > 0 && strstr(text, ";kiln-test"));
  CHECK(syscall(SYS_keyctl, KEYCTL_SEARCH, ring, "user", "kiln-test", 0) == key);
  CHECK(syscall(SYS_keyctl, KEYCTL_UPDATE, key, "other", (size_t)5) == 0 && syscall(SYS_keyctl, KEYCTL_READ, key, text, sizeof text) == 5);
  CHECK(syscall(SYS_keyctl, KEYCTL_UNLINK, key, ring) == 0);
  CHECK(syscall(SYS_keyctl, 9999, 0) == -1 && errno == EOPNOTSUPP);
}

static void settings(void) {
  char name[16] = "";
  CHECK(prctl(PR_SET_NAME, "a-name") == 0 && prctl(PR_GET_NAME, name) == 0 && !strcmp(name, "a-name"));
  int value = -1;
  CHECK(prctl(PR_SET_PDEATHSIG, SIGUSR1) == 0 && prctl(PR_GET_PDEATHSIG, &value) == 0 && value == SIGUSR1 && prctl(PR_SET_PDEATHSIG, 0) == 0);
  CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0 && prctl(PR_GET_CHILD_SUBREAPER, &value) == 0 && value == 1);
  CHECK(prctl(PR_SET_TIMERSLACK, 60000) == 0 && prctl(PR_GET_TIMERSLACK) == 60000);
  CHECK(prctl(PR_CAPBSET_READ, 0) >= 0 && prctl(PR_CAPBSET_READ, 1000) == -1 && errno == EINVAL);
  CHECK(prctl(PR_GET_DUMPABLE) >= 0);
  CHECK(prctl(PR_GET_FPEMU, &value) == -1 && errno == EINVAL);
  CHECK(syscall(SYS_seccomp, 99, 0, 0) == -1 && errno == EINVAL);
}

static void waits(void) {
  struct waiter {  // struct futex_waitv
    uint64_t value, address;
    uint32_t flags, reserved;
  };
  static uint32_t words[2] = {1, 2};
  struct waiter list[2] = {{1, (uintptr_t)&words[0], 2, 0}, {3, (uintptr_t)&words[1], 2, 0}};
  int64_t timeout[2];
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  timeout[0] = now.tv_sec;
  timeout[1] = now.tv_nsec;
  CHECK(syscall(449, list, 2, 0, timeout, CLOCK_MONOTONIC) == -1 && (errno == EAGAIN || errno == ENOSYS));
  list[1].value = 2;
  CHECK(syscall(449, list, 2, 0, timeout, CLOCK_MONOTONIC) == -1 && (errno == ETIMEDOUT || errno == ENOSYS));
  CHECK(syscall(449, list, 0, 0, timeout, CLOCK_MONOTONIC) == -1 && (errno == EINVAL || errno == ENOSYS));
}

static void namespaces(void) {
  // A process of one thread may have a user namespace, however many threads its emulator has.
  pid_t pid = fork();
  if (pid == 0) {
    for (volatile int n = 0; n < 3000000; ++n) {
    }
    if (unshare(CLONE_NEWUSER) == 0) _exit(0);
    _exit(errno == EPERM || errno == ENOSPC || errno == ENOSYS ? 0 : 1);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
}

int main(void) {
  limits();
  locks();
  advice();
  other_memory();
  keys();
  settings();
  waits();
  namespaces();
  return done();
}
