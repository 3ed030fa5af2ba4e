// Signals from other threads, as many as go: none is lost, none comes while it is blocked, queued values come in order, whatever the target
// is doing: hot code, system calls, faults, handlers, changes of its mask.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdint.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "check.h"
#include "stress.h"

enum { kQueues = 3 };  // real-time signals, one sender each
static pthread_t target;
static volatile int sending;
static volatile long sent[kQueues], received[kQueues], out_of_order, while_blocked, faults, wrong;
static volatile int critical;  // the target has everything blocked

static void on_queue(int signal, siginfo_t* info, void* context) {
  const int n = signal - SIGRTMIN;
  if (critical) ++while_blocked;
  if (info->si_value.sival_int != (int)received[n]) ++out_of_order;
  if (info->si_code != SI_QUEUE || info->si_pid != getpid()) ++wrong;
  SET(received[n], received[n] + 1);
}

// The sender keeps the queue short, so that it measures delivery and not the kernel's limit on queued signals, and leaves the target time
// for something else than handlers.
static long progress;
static void* send_queue(void* number) {
  const int n = (int)(long)number;
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, 0);
  while (sending) {
    if (sent[n] - GET(received[n]) > 64 || sent[n] > 64 * GET(progress) || pthread_sigqueue(target, SIGRTMIN + n, (union sigval){.sival_int = (int)sent[n]}) != 0) {
      sched_yield();
      continue;
    }
    ++sent[n];
  }
  return 0;
}

static volatile uint64_t sink;
static void hot_loop(void) {
  uint64_t a = 1;
  for (int i = 0; i < 20000; ++i) a = a * 6364136223846793005u + 1442695040888963407u;
  double d = 1.0;
  for (int i = 1; i < 2000; ++i) d = d / 1.0000001 + (double)(a >> 60);
  sink = a + (uint64_t)d;
}
static void calls(void) {
  for (int i = 0; i < 50; ++i)
    if (syscall(SYS_getppid) <= 0) ++wrong;
  char c = 'x';
  static int ends[2];
  if (!ends[1]) CHECK(pipe(ends) == 0);
  CHECK(write(ends[1], &c, 1) == 1);
  struct sigaction old;
  sigaction(SIGRTMIN, 0, &old);
  CHECK(old.sa_flags & SA_RESTART);
  CHECK(read(ends[0], &c, 1) == 1 && c == 'x');
}
static void critical_section(void) {
  sigset_t all, old;
  sigfillset(&all);
  for (int i = 0; i < 20; ++i) {
    pthread_sigmask(SIG_BLOCK, &all, &old);
    critical = 1;
    for (int k = 0; k < 50; ++k) sink += (uint64_t)k;
    critical = 0;
    pthread_sigmask(SIG_SETMASK, &old, 0);
  }
}

// A fault whose handler blocks the real-time signals: they wait until it has returned.
static char* page;
static void on_fault(int signal, siginfo_t* info, void* context) {
  critical = 1;
  ++faults;
  if (signal != SIGSEGV || info->si_addr != page + 8 || info->si_code != SEGV_ACCERR) ++wrong;
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
  critical = 0;
}
static void faulting(void) {
  for (int i = 0; i < 10; ++i) {
    const long before = faults;
    mprotect(page, 4096, PROT_NONE);
    *(volatile char*)(page + 8) = 1;
    if (faults != before + 1) ++wrong;
  }
}

static sigjmp_buf back;
static void on_jump(int signal, siginfo_t* info, void* context) { siglongjmp(back, 1); }
static void jumping(void) {  // out of a handler, with the mask restored
  for (int i = 0; i < 10; ++i)
    if (sigsetjmp(back, 1) == 0) {
      raise(SIGUSR2);
      ++wrong;
    }
}

static void flood(void) {
  struct sigaction a = {.sa_sigaction = on_queue, .sa_flags = SA_SIGINFO | SA_RESTART};
  for (int n = 0; n < kQueues; ++n) sigaction(SIGRTMIN + n, &a, 0);
  struct sigaction fault = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigfillset(&fault.sa_mask);
  sigaction(SIGSEGV, &fault, 0);
  struct sigaction jump = {.sa_sigaction = on_jump, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR2, &jump, 0);
  page = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  target = pthread_self();
  sending = 1;
  pthread_t senders[kQueues];
  const double start = now_seconds();
  for (long n = 0; n < kQueues; ++n) pthread_create(&senders[n], 0, send_queue, (void*)n);
  STRESS(0.12, (hot_loop(), ADD(progress)));
  STRESS(0.12, (calls(), ADD(progress)));
  STRESS(0.12, (critical_section(), ADD(progress)));
  STRESS(0.12, (faulting(), ADD(progress)));
  STRESS(0.12, (jumping(), ADD(progress)));
  sending = 0;
  for (int n = 0; n < kQueues; ++n) pthread_join(senders[n], 0);
  long total = 0;
  for (int n = 0; n < kQueues; ++n) {
    CHECK(received[n] == sent[n]);
    total += received[n];
  }
  CHECK(out_of_order == 0 && while_blocked == 0 && wrong == 0);
  if (out_of_order || while_blocked || wrong) printf("  out of order %ld, while blocked %ld, wrong %ld\n", out_of_order, while_blocked, wrong);
  printf("%.0f signals/s\n", (double)total / (now_seconds() - start));
}

// Standard signals, one at a time: each is seen before the next is sent.
static volatile long kills, seen;
static void on_kill(int signal) { SET(seen, seen + 1); }
static void* send_one_by_one(void* unused) {
  while (sending) {
    pthread_kill(target, SIGUSR1);
    ++kills;
    while (GET(seen) < kills) sched_yield();
  }
  return 0;
}
static void one_by_one(void) {
  struct sigaction a = {.sa_handler = on_kill, .sa_flags = SA_RESTART};
  sigaction(SIGUSR1, &a, 0);
  sending = 1;
  pthread_t sender;
  pthread_create(&sender, 0, send_one_by_one, 0);
  STRESS(0.1, (hot_loop(), calls()));
  sending = 0;
  pthread_join(sender, 0);
  CHECK(seen == kills);
}

// sigsuspend(): SIGUSR1 is open only inside. Another signal (SIGUSR2), open all the time, comes at random; it must not take the SIGUSR1
// that the next sigsuspend() waits for with it.
static volatile long wakes, asked;
static volatile int inside;
static void on_wake(int signal) {
  ++wakes;
  if (!inside) ++while_blocked;
}
static volatile long noise;
static void on_noise(int signal) { SET(noise, noise + 1); }
static void* wake(void* unused) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, 0);
  long done_ = 0, noises = 0;
  while (sending) {
    if (GET(noise) == noises) {  // no faster, or the target does nothing else
      ++noises;
      pthread_kill(target, SIGUSR2);
    }
    if (GET(asked) == done_) sched_yield();
    else {
      ++done_;
      pthread_kill(target, SIGUSR1);
    }
  }
  pthread_kill(target, SIGUSR1);
  return 0;
}
static void suspend(void) {
  const long before = wakes;
  inside = 1;
  ADD(asked);
  sigset_t open_;
  pthread_sigmask(SIG_BLOCK, 0, &open_);
  sigdelset(&open_, SIGUSR1);
  while (wakes == before) CHECK(sigsuspend(&open_) == -1 && errno == EINTR);
  inside = 0;
  CHECK(wakes == before + 1);
}
static void suspending(void) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  pthread_sigmask(SIG_BLOCK, &set, 0);
  struct sigaction a = {.sa_handler = on_wake}, noise = {.sa_handler = on_noise};
  sigaction(SIGUSR1, &a, 0);
  sigaction(SIGUSR2, &noise, 0);
  while_blocked = 0;
  sending = 1;
  pthread_t sender;
  pthread_create(&sender, 0, wake, 0);
  STRESS(0.15, suspend());
  inside = 1;
  sending = 0;
  pthread_join(sender, 0);
  pthread_sigmask(SIG_UNBLOCK, &set, 0);
  CHECK(while_blocked == 0);
  printf("%ld sigsuspends\n", asked);
}

// Handlers inside handlers: each of four signals is open in the handlers of the others, and in its own (SA_NODEFER) up to a depth.
static volatile long nested, deepest, depth;
static void on_nested(int signal, siginfo_t* info, void* context) {
  volatile char frame[64];
  frame[0] = (char)signal;
  if (++depth > deepest) deepest = depth;
  ++nested;
  if (depth < 5) raise(SIGRTMIN + 4 + (int)(nested & 3));
  --depth;
  if (frame[0] != (char)signal) ++wrong;
  if (info->si_code == SI_QUEUE) SET(seen, seen + 1);
}
static void* send_nested(void* unused) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, 0);
  for (long n = 0; sending; ++n) {
    while (sending && kills - GET(seen) > 4) sched_yield();
    if (pthread_sigqueue(target, SIGRTMIN + 4 + (int)(n & 3), (union sigval){0}) == 0) ++kills;
  }
  return 0;
}
static void nesting(void) {
  struct sigaction a = {.sa_sigaction = on_nested, .sa_flags = SA_NODEFER | SA_SIGINFO};
  for (int n = 0; n < 4; ++n) sigaction(SIGRTMIN + 4 + n, &a, 0);
  kills = seen = 0;
  sending = 1;
  pthread_t sender;
  pthread_create(&sender, 0, send_nested, 0);
  STRESS(0.15, hot_loop());
  sending = 0;
  pthread_join(sender, 0);
  CHECK(depth == 0 && deepest >= 5 && seen == kills && wrong == 0);
}

int main(int argc, char** argv) {
  setvbuf(stdout, 0, _IOLBF, 0);
  stress_options(argc, argv);
  flood();
  one_by_one();
  suspending();
  nesting();
  return done();
}
