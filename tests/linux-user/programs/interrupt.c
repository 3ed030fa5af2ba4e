// Asynchronous signals against blocking calls and running code: nothing is lost, nothing hangs.
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

static volatile sig_atomic_t ticks, value_seen;
static void tick(int signal) { ++ticks; }
static void with_value(int signal, siginfo_t* info, void* context) { value_seen = info->si_value.sival_int; }

static void set_timer(long us) {
  struct itimerval t = {{0, us}, {0, us}};
  setitimer(ITIMER_REAL, &t, 0);
}
static void install(int signal, int flags) {
  struct sigaction a = {.sa_handler = tick, .sa_flags = flags};
  sigaction(signal, &a, 0);
}

static void* write_later(void* fd) {
  sigset_t all;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, 0);
  for (int i = 0; i < 20; ++i) {
    usleep(5000);
    write(*(int*)fd, "x", 1);
  }
  return 0;
}

int main(void) {
  // Restarted reads see every byte although the timer fires all the time.
  int ends[2];
  pipe(ends);
  install(SIGALRM, SA_RESTART);
  set_timer(700);
  pthread_t thread;
  pthread_create(&thread, 0, write_later, &ends[1]);
  for (int i = 0; i < 20; ++i) {
    char c;
    CHECK(read(ends[0], &c, 1) == 1);
  }
  pthread_join(thread, 0);
  CHECK(ticks > 10);

  // Without SA_RESTART: EINTR.
  install(SIGALRM, 0);
  char c;
  CHECK(read(ends[0], &c, 1) == -1 && errno == EINTR);
  set_timer(0);

  // A signal that is blocked outside sigsuspend()/ppoll() arrives inside, every time.
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGALRM);
  sigprocmask(SIG_BLOCK, &set, &old);
  set_timer(300);
  for (int i = 0; i < 200; ++i) {
    const int before = ticks;
    sigsuspend(&old);
    CHECK(ticks == before + 1);
  }
  for (int i = 0; i < 100; ++i) {
    const int before = ticks;
    CHECK(ppoll(0, 0, 0, &old) == -1 && errno == EINTR);
    CHECK(ticks == before + 1);
  }
  set_timer(0);
  sigset_t now;
  sigprocmask(SIG_BLOCK, 0, &now);
  CHECK(sigismember(&now, SIGALRM) == 1);
  sigprocmask(SIG_SETMASK, &old, 0);

  // A loop without any call is left for a signal.
  ticks = 0;
  set_timer(2000);
  while (ticks < 5) {
  }
  set_timer(0);

  // Queued values, sigtimedwait, sigpending.
  struct sigaction a = {.sa_sigaction = with_value, .sa_flags = SA_SIGINFO};
  sigaction(SIGRTMIN + 3, &a, 0);
  sigqueue(getpid(), SIGRTMIN + 3, (union sigval){.sival_int = 1234});
  CHECK(value_seen == 1234);
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  sigprocmask(SIG_BLOCK, &set, 0);
  kill(getpid(), SIGUSR1);
  sigpending(&now);
  CHECK(sigismember(&now, SIGUSR1));
  siginfo_t info;
  CHECK(sigtimedwait(&set, &info, &(struct timespec){1, 0}) == SIGUSR1 && info.si_pid == getpid());
  CHECK(sigtimedwait(&set, &info, &(struct timespec){0, 1000000}) == -1 && errno == EAGAIN);

  // Default actions are the kernel's.
  const int fatal[] = {SIGTERM, SIGSEGV, SIGABRT, SIGKILL, SIGPIPE};
  for (unsigned n = 0; n < sizeof fatal / sizeof *fatal; ++n) {
    const pid_t pid = fork();
    if (pid == 0) {
      signal(fatal[n], SIG_DFL);
      kill(getpid(), fatal[n]);
      for (;;) pause();
    }
    int status;
    waitpid(pid, &status, 0);
    CHECK(WIFSIGNALED(status) && WTERMSIG(status) == fatal[n]);
  }
  const pid_t pid = fork();
  if (pid == 0) {
    *(volatile int*)8 = 1;
    _exit(0);
  }
  int status;
  waitpid(pid, &status, 0);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
  return done();
}
