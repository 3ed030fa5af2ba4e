// ptrace of one guest by another: system calls, registers, memory, breakpoints, single steps, signals, events, exec, attach, seize.
#define _GNU_SOURCE
#include <elf.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#ifdef __aarch64__
typedef struct user_regs_struct Regs;
#define PC(r) (r).pc
#define RESULT(r) (r).regs[0]
#define NUMBER(r) (r).regs[8]
#define ARG0(r) (r).regs[0]
static const uint32_t kBreak = 0xd4200000;  // brk #0
#define BREAK_BYTES 0
#define WORD uint32_t
#elif defined(__x86_64__)
typedef struct user_regs_struct Regs;
#define PC(r) (r).rip
#define RESULT(r) (r).rax
#define NUMBER(r) (r).orig_rax
#define ARG0(r) (r).rdi
static const uint8_t kBreak = 0xcc;
#define BREAK_BYTES 1
#define WORD uint8_t
#else
typedef struct user_regs_struct Regs;
#define PC(r) (r).eip
#define RESULT(r) (r).eax
#define NUMBER(r) (r).orig_eax
#define ARG0(r) (r).ebx
static const uint8_t kBreak = 0xcc;
#define BREAK_BYTES 1
#define WORD uint8_t
#endif
#define MINUS_ONE ((unsigned long)-1)

static Regs get_regs(int pid) {
  Regs r;
  memset(&r, 0, sizeof r);
  struct iovec v = {&r, sizeof r};
  CHECK(ptrace(PTRACE_GETREGSET, pid, (void*)NT_PRSTATUS, &v) == 0 && v.iov_len == sizeof r);
  return r;
}
static void set_regs(int pid, Regs* r) {
  struct iovec v = {r, sizeof *r};
  CHECK(ptrace(PTRACE_SETREGSET, pid, (void*)NT_PRSTATUS, &v) == 0);
}
// The next stop of `pid`, or its end.
static int wait_for(int pid) {
  int status = 0, r;
  while ((r = waitpid(pid, &status, __WALL)) < 0 && errno == EINTR) {}
  CHECK(r == pid);
  return status;
}
static int stopped_by(int status, int signal) { return WIFSTOPPED(status) && status >> 8 == signal; }
static int event(int status, int event) { return WIFSTOPPED(status) && status >> 8 == (SIGTRAP | event << 8); }
static void go(int how, int pid, long signal) { CHECK(ptrace(how, pid, 0, signal) == 0); }

__attribute__((noinline)) int triple(int x) {
  asm volatile("nop\n nop\n nop\n nop\n nop\n nop");
  asm volatile("" : "+r"(x));
  return 3 * x;
}
static volatile int words[4] = {11, 22, 33, 44};
static volatile int handled;
static void on_signal(int s) { handled = s; }

// A child that traces nothing but lets itself be traced, stopped.
static int traced(void (*body)(void)) {
  const int pid = fork();
  if (pid == 0) {
    if (ptrace(PTRACE_TRACEME, 0, 0, 0) != 0) _exit(99);
    raise(SIGSTOP);
    body();
    _exit(0);
  }
  CHECK(stopped_by(wait_for(pid), SIGSTOP));
  return pid;
}

// --- cases

static void body_calls(void) {
  syscall(SYS_getppid);
  const long r = syscall(SYS_getpgid, 0x12345);
  if (r != 4711) _exit(1);
  if (syscall(SYS_getsid, 1 << 30) != -1 || errno != ENOSYS) _exit(2);
  _exit(7);
}
static void calls(void) {
  const int pid = traced(body_calls);
  CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACESYSGOOD | PTRACE_O_EXITKILL) == 0);
  int entry = 1, status, seen_parent = 0, seen_changed = 0, seen_skipped = 0, result_due = 0;
  for (;;) {
    go(PTRACE_SYSCALL, pid, 0);
    status = wait_for(pid);
    if (!stopped_by(status, SIGTRAP | 0x80)) break;
    Regs r = get_regs(pid);
    struct {
      uint8_t op, pad[3];
      uint32_t arch;
      uint64_t ip, sp, nr_or_result, rest[8];
    } info = {0};
    const long n = ptrace(PTRACE_GET_SYSCALL_INFO, pid, (void*)sizeof info, &info);
    CHECK(n > 24 && info.op == (entry ? 1 : 2) && info.ip == (unsigned long)PC(r));
    if (entry) {
      CHECK(info.nr_or_result == (uint64_t)NUMBER(r));
      if (NUMBER(r) == SYS_getppid) result_due = 1;
      if (NUMBER(r) == SYS_getpgid) {
        CHECK(ARG0(r) == 0x12345);
        seen_changed = 1;
        result_due = 2;
        ARG0(r) = 0;
        set_regs(pid, &r);
      }
      if (NUMBER(r) == SYS_getsid) {
        seen_skipped = 1;
#ifdef __aarch64__
        int none = -1;
        struct iovec v = {&none, sizeof none};
        CHECK(ptrace(PTRACE_SETREGSET, pid, (void*)NT_ARM_SYSTEM_CALL, &v) == 0);
#else
        NUMBER(r) = -1;
        set_regs(pid, &r);
#endif
      }
    } else {
      if (result_due == 1) {
        CHECK((int)RESULT(r) == getpid() && (int)info.nr_or_result == getpid());
        seen_parent = 1;
      } else if (result_due == 2) {
        CHECK((int)RESULT(r) == getpgid(0));
        RESULT(r) = 4711;
        set_regs(pid, &r);
      }
      result_due = 0;
    }
    entry = !entry;
  }
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
  CHECK(seen_parent && seen_changed && seen_skipped);
}

static void body_memory(void) {
  int sum = 0;
  for (int n = 0; n < 1000; ++n) sum += triple(n);
  if (sum != 3 * 499500) _exit(3);
  raise(SIGUSR1);
  if (words[1] != 77) _exit(4);
  if (triple(5) != 15) _exit(5);  // meets the breakpoint
  _exit(6);
}
static void memory(void) {
  const int pid = traced(body_memory);
  go(PTRACE_CONT, pid, 0);
  CHECK(stopped_by(wait_for(pid), SIGUSR1));
  siginfo_t info;
  CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0 && info.si_signo == SIGUSR1 && info.si_pid == pid);
  errno = 0;
  CHECK((int)ptrace(PTRACE_PEEKDATA, pid, (void*)&words[1], 0) == 22 && errno == 0);
  CHECK(ptrace(PTRACE_PEEKDATA, pid, 0, 0) == -1 && errno == EIO);
  long word = ptrace(PTRACE_PEEKDATA, pid, (void*)&words[1], 0);
  int low = 77;
  memcpy(&word, &low, 4);
  CHECK(ptrace(PTRACE_POKEDATA, pid, (void*)&words[1], word) == 0);
  CHECK((int)ptrace(PTRACE_PEEKDATA, pid, (void*)&words[0], 0) == 11 && (int)ptrace(PTRACE_PEEKDATA, pid, (void*)&words[2], 0) == 33);
  // A breakpoint in code that was translated long ago.
  const uintptr_t at = (uintptr_t)&triple;
  const long old = ptrace(PTRACE_PEEKTEXT, pid, (void*)at, 0);
  long with = old;
  memcpy(&with, &kBreak, sizeof kBreak);
  CHECK(ptrace(PTRACE_POKETEXT, pid, (void*)at, with) == 0);
  go(PTRACE_CONT, pid, 0);
  int status = wait_for(pid);
  CHECK(stopped_by(status, SIGTRAP));
  Regs r = get_regs(pid);
  CHECK(PC(r) == at + BREAK_BYTES);
  CHECK(ptrace(PTRACE_POKETEXT, pid, (void*)at, old) == 0);
  PC(r) = at;
  set_regs(pid, &r);
  // Steps: the pc moves, no further than an instruction's length, until a branch.
  uintptr_t last = at;
  for (int n = 0; n < 6; ++n) {
    go(PTRACE_SINGLESTEP, pid, 0);
    status = wait_for(pid);
    if (!stopped_by(status, SIGTRAP)) break;
    r = get_regs(pid);
    if (n < 1) CHECK(PC(r) > last && PC(r) - last < 16);
    last = PC(r);
  }
  CHECK(stopped_by(status, SIGTRAP));
  go(PTRACE_CONT, pid, 0);
  status = wait_for(pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 6);
}

static void body_signals(void) {
  signal(SIGUSR1, on_signal);
  signal(SIGUSR2, on_signal);
  raise(SIGUSR1);
  if (handled != 0) _exit(1);  // swallowed
  raise(SIGUSR1);
  if (handled != SIGUSR2) _exit(2);  // changed
  raise(SIGUSR1);
  if (handled != SIGUSR1) _exit(3);
  raise(SIGCHLD);  // ignored by default
  volatile int* nowhere = (int*)16;
  *nowhere = 1;
  _exit(4);
}
static void signals(void) {
  const int pid = traced(body_signals);
  go(PTRACE_CONT, pid, 0);
  CHECK(stopped_by(wait_for(pid), SIGUSR1));
  go(PTRACE_CONT, pid, 0);
  CHECK(stopped_by(wait_for(pid), SIGUSR1));
  go(PTRACE_CONT, pid, SIGUSR2);
  CHECK(stopped_by(wait_for(pid), SIGUSR1));
  go(PTRACE_SINGLESTEP, pid, SIGUSR1);  // stops where the handler begins
  CHECK(stopped_by(wait_for(pid), SIGTRAP));
  CHECK(PC(get_regs(pid)) == (uintptr_t)&on_signal);
  go(PTRACE_CONT, pid, 0);
  CHECK(stopped_by(wait_for(pid), SIGCHLD));
  go(PTRACE_CONT, pid, SIGCHLD);
  CHECK(stopped_by(wait_for(pid), SIGSEGV));
  siginfo_t info;
  CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0 && info.si_addr == (void*)16 && info.si_code == SEGV_MAPERR);
  go(PTRACE_CONT, pid, SIGSEGV);
  const int status = wait_for(pid);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
}

static void* thread_body(void* p) {
  *(int*)p = 5;
  return p;
}
static void body_events(void) {
  int value = 0;
  pthread_t thread;
  pthread_create(&thread, 0, thread_body, &value);
  pthread_join(thread, 0);
  if (value != 5) _exit(1);
  const int child = fork();
  if (child == 0) _exit(33);
  int status;
  if (waitpid(child, &status, 0) != child || WEXITSTATUS(status) != 33) _exit(2);
  const int quick = vfork();
  if (quick == 0) {
    execl("/proc/self/exe", "ptrace", "exit", (char*)0);
    _exit(98);
  }
  if (waitpid(quick, &status, 0) != quick || WEXITSTATUS(status) != 44) _exit(3);
  _exit(8);
}
static void events(void) {
  const int pid = traced(body_events);
  CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0,
               PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE | PTRACE_O_TRACEEXEC) == 0);
  go(PTRACE_CONT, pid, 0);
  int seen[8] = {0}, first_stops = 0, ends = 0;
  unsigned long children[8] = {0};
  for (;;) {
    int status = 0;
    const int who = waitpid(-1, &status, __WALL);
    if (who < 0) {
      CHECK(errno == EINTR);
      if (errno != EINTR) break;
      continue;
    }
    if (!WIFSTOPPED(status)) {
      ++ends;
      if (who == pid) {
        CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 8);
        break;
      }
      CHECK(WIFEXITED(status));
      continue;
    }
    const int number = status >> 16;
    if (number != 0) {
      CHECK(number < 8);
      ++seen[number & 7];
      CHECK(ptrace(PTRACE_GETEVENTMSG, who, 0, &children[number & 7]) == 0 && children[number & 7] != 0);
      if (number == PTRACE_EVENT_CLONE) CHECK(PC(get_regs(who)) != 0);
    }
    const int signal = number != 0 ? 0 : WSTOPSIG(status);
    if (signal == SIGSTOP) {
      ++first_stops;
      CHECK(PC(get_regs(who)) != 0);
    } else {
      CHECK(number != 0 || signal == SIGCHLD);
    }
    go(PTRACE_CONT, who, signal == SIGSTOP ? 0 : signal);
  }
  CHECK(seen[PTRACE_EVENT_CLONE] == 1 && seen[PTRACE_EVENT_FORK] == 1 && seen[PTRACE_EVENT_VFORK] == 1);
  CHECK(seen[PTRACE_EVENT_VFORK_DONE] == 1 && seen[PTRACE_EVENT_EXEC] == 1);
  CHECK(first_stops == 3 && ends == 4);
}

static void executed(void) {  // as gdb starts a program: no stop before the new one
  const int pid = vfork();
  if (pid == 0) {
    ptrace(PTRACE_TRACEME, 0, 0, 0);
    execl("/proc/self/exe", "ptrace", "exit", (char*)0);
    _exit(98);
  }
  CHECK(stopped_by(wait_for(pid), SIGTRAP));
  CHECK(PC(get_regs(pid)) != 0);
  errno = 0;
  ptrace(PTRACE_PEEKTEXT, pid, (void*)(uintptr_t)PC(get_regs(pid)), 0);
  CHECK(errno == 0);
  go(PTRACE_CONT, pid, 0);
  const int status = wait_for(pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 44);
}

static volatile int* shared;
static void attached(int seize) {
  shared[0] = 0;
  const int pid = fork();
  if (pid == 0) {
    alarm(20);
    for (;;) {
      ++shared[0];
      if (shared[1] == 1) _exit(9);
    }
  }
  while (shared[0] == 0) sched_yield();
  if (seize) {
    CHECK(ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) == 0);
    CHECK(ptrace(PTRACE_INTERRUPT, pid, 0, 0) == 0);
    CHECK(event(wait_for(pid), 128));
  } else {
    CHECK(ptrace(PTRACE_ATTACH, pid, 0, 0) == 0);
    CHECK(stopped_by(wait_for(pid), SIGSTOP));
  }
  const int before = shared[0];
  CHECK(PC(get_regs(pid)) != 0);
  CHECK(before == shared[0]);
  go(PTRACE_CONT, pid, 0);
  while (shared[0] == before) sched_yield();
  kill(pid, SIGUSR1);
  CHECK(stopped_by(wait_for(pid), SIGUSR1));
  shared[1] = 1;
  CHECK(ptrace(PTRACE_DETACH, pid, 0, 0) == 0);
  const int status = wait_for(pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
  shared[1] = 0;
}

static void body_sleep(void) {
  struct timespec t = {0, 1000000};
  while (shared[2] == 0) nanosleep(&t, 0);
  _exit(10);
}
static void jobs(void) {
  shared[2] = 0;
  const int pid = traced(body_sleep);
  go(PTRACE_CONT, pid, 0);
  kill(pid, SIGSTOP);
  CHECK(stopped_by(wait_for(pid), SIGSTOP));
  siginfo_t info;
  CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0 && info.si_signo == SIGSTOP);
  go(PTRACE_CONT, pid, SIGSTOP);  // stops with its group now
  CHECK(stopped_by(wait_for(pid), SIGSTOP));
  CHECK(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == -1 && errno == EINVAL);
  CHECK(PC(get_regs(pid)) != 0);
  go(PTRACE_CONT, pid, 0);
  shared[2] = 1;
  const int status = wait_for(pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 10);
}

static void body_end(void) { _exit(11); }
static void ends(void) {
  const int pid = traced(body_end);
  CHECK(ptrace(PTRACE_SETOPTIONS, pid, 0, PTRACE_O_TRACEEXIT) == 0);
  go(PTRACE_CONT, pid, 0);
  CHECK(event(wait_for(pid), PTRACE_EVENT_EXIT));
  unsigned long message = 0;
  CHECK(ptrace(PTRACE_GETEVENTMSG, pid, 0, &message) == 0 && message == 11 << 8);
  CHECK(PC(get_regs(pid)) != 0);
  go(PTRACE_CONT, pid, 0);
  const int status = wait_for(pid);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 11);
}

static void refusals(void) {
  CHECK(ptrace(PTRACE_CONT, getpid(), 0, 0) == -1 && errno == ESRCH);
  CHECK(ptrace(PTRACE_ATTACH, getpid(), 0, 0) == -1 && errno == EPERM);
  CHECK(ptrace(PTRACE_PEEKDATA, 1 << 22, 0, 0) == -1 && errno == ESRCH);
}

int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "exit")) return 44;
  if (argc > 1 && !strcmp(argv[1], "debug")) return triple(5) + 29;  // for ../tracers
  shared = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (argc > 1) puts(argv[1]);
  struct {
    const char* name;
    void (*run)(void);
  } cases[] = {{"calls", calls}, {"memory", memory}, {"signals", signals}, {"events", events}, {"executed", executed}, {"jobs", jobs}, {"ends", ends}, {"refusals", refusals}};
  for (unsigned n = 0; n < sizeof cases / sizeof *cases; ++n)
    if (argc < 2 || !strcmp(argv[1], cases[n].name)) cases[n].run();
  if (argc < 2 || !strcmp(argv[1], "attach")) attached(0);
  if (argc < 2 || !strcmp(argv[1], "seize")) attached(1);
  return done();
}
