// Store-exclusives that do not come to their end: cut short by a fault, or in the middle in another thread when the process forks.
#define _GNU_SOURCE
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../check.h"

static uint32_t store_exclusive(uint64_t* at, uint64_t value) {
  uint64_t old;
  uint32_t failed;
  asm volatile("ldxr %0, [%2]\n stxr %w1, %3, [%2]" : "=&r"(old), "=&r"(failed) : "r"(at), "r"(value) : "memory");
  return failed;
}
static void add(uint64_t* at) {
  uint64_t old;
  uint32_t failed;
  asm volatile("1: ldxr %0, [%2]\n add %0, %0, #1\n stxr %w1, %0, [%2]\n cbnz %w1, 1b" : "=&r"(old), "=&r"(failed) : "r"(at) : "memory");
}

static sigjmp_buf back;
static volatile int faults;
static void on_fault(int signal) {
  ++faults;
  siglongjmp(back, signal);
}
static uint64_t* page;
static void* in_thread(void* p) {
  add(page);
  return p;
}
static void faulting(void) {
  page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  signal(SIGSEGV, on_fault);
  for (int n = 0; n < 100; ++n) {
    mprotect(page, 4096, PROT_READ);
    if (sigsetjmp(back, 1) == 0) {
      store_exclusive(page, 5);
      CHECK(!"no fault");
    }
    mprotect(page, 4096, PROT_READ | PROT_WRITE);
    add(page);
  }
  pthread_t thread;
  pthread_create(&thread, 0, in_thread, 0);
  pthread_join(thread, 0);
  CHECK(faults == 100 && *page == 101);
}

static uint64_t cells[64];
static volatile int stop;
static void* busy(void* p) {
  while (!stop)
    for (int n = 0; n < 64; ++n) add(&cells[n]);
  return p;
}
static void forking(void) {
  pthread_t thread;
  pthread_create(&thread, 0, busy, 0);
  for (int n = 0; n < 30; ++n) {
    const int pid = fork();
    if (pid == 0) {
      alarm(10);
      for (int k = 0; k < 64; ++k) add(&cells[k]);
      _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  }
  stop = 1;
  pthread_join(thread, 0);
}

int main(void) {
  faulting();
  forking();
  return done();
}
