// Code that changes, loses its rights or disappears while other threads run it, and the ends of processes and threads in the midst of
// translation and compilation: every call sees old or new code whole, and nobody hangs.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "stress.h"

#if defined __aarch64__
enum { kInsns = 2 };
static void write_function(uint32_t* at, unsigned value) {
  *(volatile uint32_t*)at = 0x52800000 | value << 5;  // mov w0, #value
  at[1] = 0xd65f03c0;                                  // ret
  __builtin___clear_cache((char*)at, (char*)at + 8);
}
#else
enum { kInsns = 2 };
static void write_function(uint32_t* at, unsigned value) {
  // mov $value, %eax; ret; the value is aligned, so that it changes at once
  ((uint8_t*)at)[3] = 0xb8;
  *(volatile uint32_t*)(at + 1) = value;
  ((uint8_t*)at)[8] = 0xc3;
}
#endif
static int call(uint32_t* at) {
#if defined __aarch64__
  return ((int (*)(void))at)();
#else
  return ((int (*)(void))((uint8_t*)at + 3))();
#endif
}

static uint32_t* page;
static volatile int running;
static volatile unsigned newest;
static long wrong, faults, calls;
static __thread sigjmp_buf back;
static __thread int may_fault;
static void on_fault(int signal, siginfo_t* info, void* context) {
  const char* at = info->si_addr;
  if (!may_fault || at < (char*)page || at >= (char*)page + 8192) {
    ADD(wrong);
    _exit(9);
  }
  ADD(faults);
  siglongjmp(back, 1);
}
static void on_tick(int signal) { calls += 0; }

// Values only grow, so a caller never sees them go back.
static void* caller(void* unused) {
  unsigned last = 0;
  long n = 0;
  while (running) {
    may_fault = 1;
    if (sigsetjmp(back, 1) == 0) {
      const unsigned limit_before = newest;
      const unsigned v = (unsigned)call(page);
      (void)limit_before;
      if (v < last || v > newest) ADD(wrong);
      last = v;
    }
    may_fault = 0;
    ++n;
  }
  __atomic_fetch_add(&calls, n, __ATOMIC_SEQ_CST);
  return 0;
}
static void* hot(void* unused) {  // something for the compiler
  volatile unsigned sum = 0;
  while (running)
    for (unsigned i = 0; i < 1000; ++i) sum += i ^ (sum >> 3);
  return 0;
}
static void* knock(void* target) {
  while (running) {
    pthread_kill(*(pthread_t*)target, SIGUSR1);
    usleep(100);
  }
  return 0;
}

static void changing(int how) {
  running = 1;
  newest = 1;
  mprotect(page, 8192, PROT_READ | PROT_WRITE | PROT_EXEC);
  write_function(page, 1);
  pthread_t threads[4];
  pthread_create(&threads[0], 0, caller, 0);
  pthread_create(&threads[1], 0, caller, 0);
  pthread_create(&threads[2], 0, hot, 0);
  pthread_create(&threads[3], 0, knock, &threads[0]);
  for (unsigned v = 2; v < 60; ++v) {
    newest = v;
    switch (how) {
      case 0: write_function(page, v); break;
      case 1:
        mprotect(page, 4096, PROT_READ | PROT_WRITE);
        write_function(page, v);
        mprotect(page, 4096, PROT_READ | PROT_EXEC);
        break;
      default: {
        // Another page in its place; for a moment there is none.
        uint32_t* fresh = mmap(0, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        write_function(fresh, v);
        munmap(page, 4096);
        if (mremap(fresh, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, page) != page) ADD(wrong);
        break;
      }
    }
    sched_yield();
  }
  running = 0;
  for (int i = 0; i < 4; ++i) pthread_join(threads[i], 0);
  CHECK(wrong == 0);
}

// fork(), vfork() and posix_spawn() while others translate, compile and lock; the child uses threads, too.
static void* one_hot_round(void* unused) {
  running = 1;
  volatile unsigned sum = 0;
  for (unsigned i = 0; i < 20000; ++i) sum += i ^ (sum >> 3);
  return 0;
}
static void children(void) {
  running = 1;
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) pthread_create(&threads[i], 0, hot, 0);
  for (int i = 0; i < 3; ++i) {
    pid_t pid = fork();
    if (pid == 0) {
      pthread_t t;
      if (pthread_create(&t, 0, one_hot_round, 0) != 0) _exit(1);
      pthread_join(t, 0);
      _exit(i + 10);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == i + 10);
    pid = vfork();
    if (pid == 0) _exit(i + 20);
    CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == i + 20);
  }
  running = 0;
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], 0);
}

static void* short_life(void* unused) { return (void*)((uintptr_t)unused + 1); }
static void storm(void) {
  for (int round = 0; round < 20; ++round) {
    pthread_t threads[8];
    for (uintptr_t i = 0; i < 8; ++i) CHECK(pthread_create(&threads[i], 0, short_life, (void*)i) == 0);
    for (uintptr_t i = 0; i < 8; ++i) {
      void* result;
      pthread_join(threads[i], &result);
      CHECK((uintptr_t)result == i + 1);
    }
  }
}

// exit_group() while everything goes on; execve() from a thread that is not the leader, which takes its place.
static char* self;
static void* execute(void* unused) {
  char* arguments[] = {self, (char*)"--executed", 0};
  char text[32];
  sprintf(text, "LEADER=%d", (int)getpid());
  char* environment[] = {text, 0};
  execve(self, arguments, environment);
  _exit(1);
}
static void ends(void) {
  for (int how = 0; how < 3; ++how) {
    const pid_t pid = fork();
    if (pid == 0) {
      running = 1;
      pthread_t t;
      for (int i = 0; i < 3; ++i) pthread_create(&t, 0, hot, 0);
      usleep(2000);
      if (how == 0) _exit(7);
      if (how == 1) kill(getpid(), SIGTERM);
      else pthread_create(&t, 0, execute, 0);
      for (;;) pause();
    }
    int status;
    waitpid(pid, &status, 0);
    if (how == 0) CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    if (how == 1) CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    if (how == 2) CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 21);
  }
}

int main(int argc, char** argv) {
  if (argc > 1 && strcmp(argv[1], "--executed") == 0)
    _exit(getenv("LEADER") && atoi(getenv("LEADER")) == getpid() && syscall(SYS_gettid) == getpid() ? 21 : 22);
  setvbuf(stdout, 0, _IOLBF, 0);
  stress_options(argc, argv);
  self = argv[0];
  page = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO}, tick = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
  sigaction(SIGSEGV, &fault, 0);
  sigaction(SIGUSR1, &tick, 0);
  STRESS(0.15, changing(0));
  STRESS(0.15, changing(1));
  STRESS(0.15, changing(2));
  STRESS(0.15, children());
  STRESS(0.15, storm());
  STRESS(0.15, ends());
  return done();
}
