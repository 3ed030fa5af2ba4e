// Corners that tools stumble over: robust mutexes of a process that ends, memory that is not inherited, restricted opens, the list of
// threads, spawning, membarrier, scheduling.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/openat2.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

extern char** environ;

// Somebody else's thread holds it when the process ends, by exit or by a signal.
static struct {
  pthread_mutex_t mutex;
  int taken;
}* shared;
static void* take(void* p) {
  pthread_mutex_lock(&shared->mutex);
  shared->taken = 1;
  for (;;) pause();
}
static void robust(int by_signal) {
  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&shared->mutex, &attributes);
  shared->taken = 0;
  const int pid = fork();
  if (pid == 0) {
    pthread_t thread;
    pthread_create(&thread, 0, take, 0);
    while (!*(volatile int*)&shared->taken) sched_yield();
    if (by_signal) *(volatile int*)16 = 1;
    _exit(0);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid);
  struct timespec soon;
  clock_gettime(CLOCK_REALTIME, &soon);
  soon.tv_sec += 20;
  CHECK(pthread_mutex_timedlock(&shared->mutex, &soon) == EOWNERDEAD);
  pthread_mutex_consistent(&shared->mutex);
  pthread_mutex_unlock(&shared->mutex);
}

static void not_inherited(void) {
  char* p = mmap(0, 4 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(p, 1, 4 * 4096);
  CHECK(madvise(p + 4096, 2 * 4096, MADV_DONTFORK) == 0 && madvise(p + 2 * 4096, 4096, MADV_DOFORK) == 0);
  const int pid = fork();
  if (pid == 0) {
    if (p[0] != 1 || p[2 * 4096] != 1 || p[3 * 4096] != 1) _exit(1);
    if (msync(p + 4096, 4096, MS_ASYNC) != -1 || errno != ENOMEM) _exit(2);
    for (int n = 0; n < 100; ++n) free(malloc(200000));
    char* q = mmap(p + 4096, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (q != p + 4096 || q[5] != 0) _exit(3);
    munmap(q, 4096);
    signal(SIGSEGV, SIG_DFL);
    p[4096] = 1;
    _exit(4);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  CHECK(p[4096] == 1);
}

static int open2(const char* path, unsigned long long resolve) {
  struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = resolve};
  return (int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof how);
}
static void restricted(void) {
  CHECK(open2("/proc/self/exe", RESOLVE_NO_SYMLINKS) == -1 && errno == ELOOP);
  CHECK(open2("/proc/self/exe", RESOLVE_NO_MAGICLINKS) == -1 && errno == ELOOP);
  CHECK(open2("/proc/version", RESOLVE_BENEATH) == -1 && errno == EXDEV);
  const int fd = open2("/proc/version", RESOLVE_NO_SYMLINKS);
  CHECK(fd >= 0);
  close(fd);
}

static volatile long sum;
static int tasks(void) {
  DIR* d = opendir("/proc/self/task");
  int count = 0;
  for (struct dirent* e; (e = readdir(d));) count += e->d_name[0] != '.';
  closedir(d);
  return count;
}
static void* wait_here(void* barrier) {
  pthread_barrier_wait(barrier);
  pthread_barrier_wait(barrier);
  return 0;
}
static void threads(void) {
  for (long n = 0; n < 3000000; ++n) sum += n;  // hot
  CHECK(tasks() == 1);
  pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, 0, 3);
  pthread_t a, b;
  pthread_create(&a, 0, wait_here, &barrier);
  pthread_create(&b, 0, wait_here, &barrier);
  pthread_barrier_wait(&barrier);
  CHECK(tasks() == 3);
  pthread_barrier_wait(&barrier);
  pthread_join(a, 0);
  pthread_join(b, 0);
}

static void spawning(void) {
  char* arguments[] = {"corners", "exit", 0};
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 7, "/dev/null", O_WRONLY, 0);
  int pid, status;
  for (int n = 0; n < 20; ++n) {
    CHECK(posix_spawn(&pid, "/proc/self/exe", &actions, 0, arguments, environ) == 0);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 40);
  }
  CHECK(posix_spawn(&pid, "/nonexistent/program", 0, 0, arguments, environ) == ENOENT);
  posix_spawn_file_actions_addclose(&actions, 123);
  posix_spawn_file_actions_adddup2(&actions, 124, 5);
  CHECK(posix_spawn(&pid, "/proc/self/exe", &actions, 0, arguments, environ) == EBADF);
}

static void scheduling(void) {
  const int offered = (int)syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0);
  if (offered > 0 && (offered & MEMBARRIER_CMD_PRIVATE_EXPEDITED)) {
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0);
    CHECK(syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0);
  }
  CHECK(syscall(SYS_membarrier, 1 << 30, 0, 0) == -1 && errno == EINVAL);
  cpu_set_t all, one;
  CHECK(sched_getaffinity(0, sizeof all, &all) == 0 && CPU_COUNT(&all) > 0);
  CPU_ZERO(&one);
  for (int n = 0; n < CPU_SETSIZE; ++n)
    if (CPU_ISSET(n, &all)) {
      CPU_SET(n, &one);
      CHECK(sched_setaffinity(0, sizeof one, &one) == 0 && sched_getcpu() == n);
      break;
    }
  CHECK(sched_setaffinity(0, sizeof all, &all) == 0);
  struct sched_param parameter = {.sched_priority = 0};
  CHECK(sched_getscheduler(0) == SCHED_OTHER && sched_getparam(0, &parameter) == 0 && parameter.sched_priority == 0);
  CHECK(sched_setscheduler(0, SCHED_BATCH, &parameter) == 0 && sched_getscheduler(0) == SCHED_BATCH);
  CHECK(sched_get_priority_max(SCHED_FIFO) == 99 && sched_get_priority_min(SCHED_RR) == 1);
  struct timespec slice;
  CHECK(sched_rr_get_interval(0, &slice) == 0);
  CHECK(sched_setparam(1 << 22, &parameter) == -1 && errno == ESRCH);
}

int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "exit")) return fcntl(7, F_GETFD) == 0 ? 40 : 41;
  if (argc > 2 && !strcmp(argv[1], "create")) return open(argv[2], O_CREAT | O_EXCL | O_WRONLY, 0644) < 0;  // for ../messages
  shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  robust(0);
  robust(1);
  not_inherited();
  restricted();
  threads();
  spawning();
  scheduling();
  return done();
}
