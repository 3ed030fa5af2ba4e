// What Linux promises about signals, one rule after the other: flags, stacks, queues, restarts, where they came from, unwinding.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

#include "check.h"

#ifndef SS_AUTODISARM
#define SS_AUTODISARM (1u << 31)
#endif

static volatile int count, depth, deepest, signal_seen;
static siginfo_t info_seen;
static void note(int signal, siginfo_t* info, void* context) {
  ++count;
  signal_seen = signal;
  info_seen = *info;
}
static void act(int signal, void (*handler)(int, siginfo_t*, void*), int flags, int masked) {
  struct sigaction a = {.sa_sigaction = handler, .sa_flags = flags | SA_SIGINFO};
  sigemptyset(&a.sa_mask);
  if (masked) sigaddset(&a.sa_mask, masked);
  CHECK(sigaction(signal, &a, 0) == 0);
}
static void block(int how, int signal) {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  CHECK(sigprocmask(how, &set, 0) == 0);
}

// --- flags ---------------------------------------------------------------------------------------------------------------
static void again(int signal, siginfo_t* info, void* context) {
  if (++depth > deepest) deepest = depth;
  if (count++ == 0) raise(signal);
  --depth;
}
static void flags(void) {
  count = deepest = 0;
  act(SIGUSR1, again, SA_NODEFER, 0);
  raise(SIGUSR1);
  CHECK(count == 2 && deepest == 2);
  count = deepest = 0;
  act(SIGUSR1, again, 0, 0);
  raise(SIGUSR1);
  CHECK(count == 2 && deepest == 1);
  act(SIGUSR1, note, SA_RESETHAND, 0);
  raise(SIGUSR1);
  struct sigaction now;
  sigaction(SIGUSR1, 0, &now);
  CHECK(now.sa_handler == SIG_DFL);
  // A standard signal that is blocked is pending once, a real-time one as often as it was sent, in order, the lowest number first.
  act(SIGUSR1, note, 0, 0);
  count = 0;
  block(SIG_BLOCK, SIGUSR1);
  for (int i = 0; i < 5; ++i) kill(getpid(), SIGUSR1);
  block(SIG_UNBLOCK, SIGUSR1);
  CHECK(count == 1);
}
static int values[64], numbers[64], values_seen;
static void collect(int signal, siginfo_t* info, void* context) {
  values[values_seen] = info->si_value.sival_int;
  numbers[values_seen++ & 63] = signal - SIGRTMIN;
  CHECK(info->si_code == SI_QUEUE && info->si_pid == getpid() && info->si_uid == getuid());
}
static void queues(void) {
  for (int n = 0; n < 3; ++n) {
    // All masked, or the second would come at the start of the first's handler.
    struct sigaction a = {.sa_sigaction = collect, .sa_flags = SA_SIGINFO};
    sigfillset(&a.sa_mask);
    sigaction(SIGRTMIN + n, &a, 0);
    block(SIG_BLOCK, SIGRTMIN + n);
  }
  for (int i = 0; i < 10; ++i)
    for (int n = 2; n >= 0; --n) CHECK(sigqueue(getpid(), SIGRTMIN + n, (union sigval){.sival_int = 100 * n + i}) == 0);
  sigset_t set, pending;
  sigpending(&pending);
  CHECK(sigismember(&pending, SIGRTMIN + 1) == 1);
  sigemptyset(&set);
  for (int n = 0; n < 3; ++n) sigaddset(&set, SIGRTMIN + n);
  siginfo_t info;
  CHECK(sigwaitinfo(&set, &info) == SIGRTMIN && info.si_value.sival_int == 0);
  sigprocmask(SIG_UNBLOCK, &set, 0);
  CHECK(values_seen == 29);
  for (int i = 0; i < 29; ++i) CHECK(numbers[i] == (i < 9 ? 0 : i < 19 ? 1 : 2) && values[i] % 100 == (i < 9 ? i + 1 : (i + 1) % 10));
}

// --- stacks --------------------------------------------------------------------------------------------------------------
static char alternate[1 << 16] __attribute__((aligned(64)));
static stack_t in_handler, in_context;
static int on_alternate;
static void on_stack(int signal, siginfo_t* info, void* context) {
  char here;
  on_alternate = &here > alternate && &here < alternate + sizeof alternate;
  sigaltstack(0, &in_handler);
  in_context = ((ucontext_t*)context)->uc_stack;
  stack_t other = {.ss_sp = alternate, .ss_size = sizeof alternate};
  if (in_handler.ss_flags & SS_ONSTACK) CHECK(sigaltstack(&other, 0) == -1 && errno == EPERM);
  ++count;
}
#pragma GCC diagnostic ignored "-Winfinite-recursion"
static void exhaust(volatile char* from) {
  volatile char here[4096];
  here[0] = from ? from[0] : 1;
  exhaust(here);
  from[0] = here[1];
}
static sigjmp_buf back;
static void overflow(int signal, siginfo_t* info, void* context) {
  char here;
  on_alternate = &here > alternate && &here < alternate + sizeof alternate;
  signal_seen = signal;
  siglongjmp(back, 1);
}
static void stacks(void) {
  stack_t s = {.ss_sp = alternate, .ss_size = sizeof alternate}, now;
  CHECK(sigaltstack(&s, 0) == 0);
  act(SIGUSR1, on_stack, SA_ONSTACK, 0);
  raise(SIGUSR1);
  CHECK(on_alternate && in_handler.ss_flags == SS_ONSTACK && in_handler.ss_sp == alternate);
  CHECK(in_context.ss_flags == 0 && in_context.ss_sp == alternate && in_context.ss_size == sizeof alternate);
  sigaltstack(0, &now);
  CHECK(now.ss_flags == 0);
  s.ss_flags = (int)SS_AUTODISARM;
  CHECK(sigaltstack(&s, 0) == 0);
  sigaltstack(0, &now);
  CHECK(now.ss_flags == (int)SS_AUTODISARM);
  raise(SIGUSR1);
  CHECK(on_alternate && in_handler.ss_flags == SS_DISABLE && in_handler.ss_size == 0);
  CHECK((unsigned)in_context.ss_flags == SS_AUTODISARM && in_context.ss_sp == alternate);
  sigaltstack(0, &now);  // sigreturn arms it again
  CHECK((unsigned)now.ss_flags == SS_AUTODISARM && now.ss_sp == alternate);
  s.ss_size = 100;
  CHECK(sigaltstack(&s, 0) == -1 && errno == ENOMEM);
  s.ss_flags = 77;
  CHECK(sigaltstack(&s, 0) == -1 && errno == EINVAL);
  s.ss_flags = SS_DISABLE;
  CHECK(sigaltstack(&s, 0) == 0);
  sigaltstack(0, &now);
  CHECK(now.ss_flags == SS_DISABLE && now.ss_size == 0);

  // The stack runs over; and a frame that does not fit becomes SIGSEGV on the alternate stack.
  s = (stack_t){.ss_sp = alternate, .ss_size = sizeof alternate};
  CHECK(sigaltstack(&s, 0) == 0);
  act(SIGSEGV, overflow, SA_ONSTACK, 0);
  on_alternate = 0;
  if (sigsetjmp(back, 1) == 0) exhaust(0);
  CHECK(on_alternate && signal_seen == SIGSEGV);
  on_alternate = signal_seen = 0;
  act(SIGUSR2, note, 0, 0);
  char* hole = mmap(0, 8192, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const int pid = getpid();
  if (sigsetjmp(back, 1) == 0) {
#if defined __aarch64__
    register long x8 asm("x8") = SYS_kill, x0 asm("x0") = pid, x1 asm("x1") = SIGUSR2;
    asm volatile("mov x9, sp\n mov sp, %3\n svc #0\n mov sp, x9" : "+r"(x0) : "r"(x8), "r"(x1), "r"(hole + 4096) : "x9", "memory");
#elif defined __x86_64__
    asm volatile("mov %%rsp, %%rbx\n mov %3, %%rsp\n syscall\n mov %%rbx, %%rsp" ::"a"((long)SYS_kill), "D"((long)pid), "S"((long)SIGUSR2), "r"(hole + 4096) : "rbx", "rcx", "r11", "memory");
#else
    asm volatile("mov %%esp, %%edi\n mov %2, %%esp\n int $0x80\n mov %%edi, %%esp" ::"a"(SYS_kill), "c"(SIGUSR2), "S"(hole + 4096), "b"(pid) : "edi", "memory");
#endif
    CHECK(0);
  }
  CHECK(on_alternate && signal_seen == SIGSEGV);
  s.ss_flags = SS_DISABLE;
  sigaltstack(&s, 0);
}

// --- restarts ------------------------------------------------------------------------------------------------------------
static void in_a_while(long us) {
  struct itimerval t = {{0, us}, {0, us}};  // again and again: the first may come before the call that it is to interrupt
  setitimer(ITIMER_REAL, &t, 0);
}
static double seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}
static void restarts(void) {
  int word = 0;
  // These are never restarted, SA_RESTART or not; and tell how much was left.
  for (int round = 0; round < 2; ++round) {
    act(SIGALRM, note, round ? SA_RESTART : 0, 0);
    count = 0;
    struct timespec left = {0, 0}, ten = {1000, 0};
    in_a_while(20000);
    CHECK(nanosleep(&ten, &left) == -1 && errno == EINTR && left.tv_sec > 500);
    in_a_while(20000);
    left = (struct timespec){0, 0};
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, 0, &ten, &left) == EINTR && left.tv_sec > 500);
    in_a_while(20000);
    CHECK(poll(0, 0, 1000000) == -1 && errno == EINTR);
    in_a_while(20000);
    CHECK(ppoll(0, 0, &ten, 0) == -1 && errno == EINTR);
    in_a_while(20000);
    CHECK(pselect(0, 0, 0, 0, &ten, 0) == -1 && errno == EINTR);
    in_a_while(20000);
    CHECK(pause() == -1 && errno == EINTR);
    in_a_while(20000);
    CHECK(syscall(SYS_futex, &word, FUTEX_WAIT, 0, &ten, 0, 0) == -1 && errno == EINTR);
    CHECK(count >= 7);
    in_a_while(0);
  }
  // These are, with SA_RESTART.
  count = 0;
  act(SIGALRM, note, SA_RESTART, 0);
  const pid_t child = fork();
  if (child == 0) {
    usleep(60000);
    _exit(5);
  }
  int status;
  in_a_while(20000);
  CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 5);
  in_a_while(0);
  // Stopping and going on does not interrupt a sleep: it lasts as long as it was to.
  const pid_t sleeper = fork();
  if (sleeper == 0) {
    const double start = seconds();
    const int r = usleep(150000);
    _exit(r == 0 && seconds() - start > 0.149 ? 0 : 1);
  }
  usleep(30000);
  kill(sleeper, SIGSTOP);
  waitpid(sleeper, &status, WUNTRACED);
  CHECK(WIFSTOPPED(status));
  kill(sleeper, SIGCONT);
  waitpid(sleeper, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

// --- sources -------------------------------------------------------------------------------------------------------------
static void sources(void) {
  act(SIGUSR1, note, 0, 0);
  kill(getpid(), SIGUSR1);
  CHECK(info_seen.si_signo == SIGUSR1 && info_seen.si_code == SI_USER && info_seen.si_pid == getpid() && info_seen.si_uid == getuid());
  syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGUSR1);
  CHECK(info_seen.si_code == SI_TKILL && info_seen.si_pid == getpid());
  sigqueue(getpid(), SIGUSR1, (union sigval){.sival_ptr = (void*)&count});
  CHECK(info_seen.si_code == SI_QUEUE && info_seen.si_value.sival_ptr == &count);

  struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value = {.sival_ptr = &event}};
  timer_t timer;
  CHECK(timer_create(CLOCK_MONOTONIC, &event, &timer) == 0);
  count = 0;
  timer_settime(timer, 0, &(struct itimerspec){{0, 0}, {0, 1000000}}, 0);
  while (count == 0) usleep(1000);
  CHECK(info_seen.si_code == SI_TIMER && info_seen.si_value.sival_ptr == &event && info_seen.si_overrun == 0);
  timer_delete(timer);

  act(SIGCHLD, note, 0, 0);
  count = 0;
  const pid_t pid = fork();
  if (pid == 0) _exit(42);
  while (count == 0) usleep(1000);
  CHECK(info_seen.si_code == CLD_EXITED && info_seen.si_pid == pid && info_seen.si_status == 42 && info_seen.si_uid == getuid());
  waitpid(pid, 0, 0);
  signal(SIGCHLD, SIG_DFL);

  act(SIGPIPE, note, 0, 0);
  int ends[2];
  CHECK(pipe(ends) == 0);
  close(ends[0]);
  signal_seen = 0;
  CHECK(write(ends[1], "x", 1) == -1 && errno == EPIPE && signal_seen == SIGPIPE && info_seen.si_code == SI_USER);
  close(ends[1]);

  act(SIGRTMIN + 5, note, 0, 0);
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  CHECK(fcntl(pair[0], F_SETOWN, getpid()) == 0 && fcntl(pair[0], F_SETSIG, SIGRTMIN + 5) == 0);
  CHECK(fcntl(pair[0], F_SETFL, O_ASYNC) == 0);
  signal_seen = 0;
  CHECK(write(pair[1], "x", 1) == 1);
  for (int i = 0; i < 1000 && signal_seen == 0; ++i) usleep(1000);
  CHECK(signal_seen == SIGRTMIN + 5 && info_seen.si_code == POLL_IN && info_seen.si_fd == pair[0] && (info_seen.si_band & POLLIN));

  // SIGSEGV and SIGBUS from kill(2) are signals like others: they wait while blocked, and come once.
  act(SIGSEGV, note, 0, 0);
  act(SIGBUS, note, 0, 0);
  block(SIG_BLOCK, SIGSEGV);
  count = 0;
  kill(getpid(), SIGSEGV);
  kill(getpid(), SIGSEGV);
  kill(getpid(), SIGBUS);
  CHECK(count == 1 && signal_seen == SIGBUS && info_seen.si_code == SI_USER);
  block(SIG_UNBLOCK, SIGSEGV);
  CHECK(count == 2 && signal_seen == SIGSEGV && info_seen.si_pid == getpid());
  // A pending signal is not the child's; a blocked one stays blocked in an executed program.
  block(SIG_BLOCK, SIGUSR1);
  kill(getpid(), SIGUSR1);
  if (fork() == 0) {
    sigset_t pending;
    sigpending(&pending);
    _exit(sigismember(&pending, SIGUSR1));
  }
  int status;
  wait(&status);
  CHECK(status == 0);
  block(SIG_UNBLOCK, SIGUSR1);
}

// --- unwinding -------------------------------------------------------------------------------------------------------------
static void* frames[32];
static int frame_count;
static _Unwind_Reason_Code one_frame(struct _Unwind_Context* context, void* unused) {
  if (frame_count < 32) frames[frame_count++] = (void*)_Unwind_GetIP(context);
  return _URC_NO_REASON;
}
static void walk(int signal, siginfo_t* info, void* context) {
  frame_count = 0;
  _Unwind_Backtrace(one_frame, 0);
}
static void outer_end(void);
__attribute__((noinline)) static void inner(volatile int* at) {
  *at = 1;
  asm volatile("" ::: "memory");
}
__attribute__((noinline)) static void outer(volatile int* at) {
  inner(at);
  asm volatile("" ::: "memory");
}
__attribute__((noinline)) static void outer_end(void) { asm volatile(""); }
static void walk_on(int signal, siginfo_t* info, void* context) {
  walk(signal, info, context);
  siglongjmp(back, 1);
}
static void unwinding(void) {
  for (int rt = 0; rt < 2; ++rt) {
    struct sigaction a = {.sa_flags = rt ? SA_SIGINFO : 0};
    a.sa_sigaction = walk_on;
    sigaction(SIGSEGV, &a, 0);
    if (sigsetjmp(back, 1) == 0) outer((int*)16);
    int through = 0;
    for (int i = 0; i < frame_count; ++i) through |= (char*)frames[i] > (char*)outer && (char*)frames[i] < (char*)outer_end;
    CHECK(through);
  }
  act(SIGUSR1, walk, 0, 0);
  raise(SIGUSR1);
  int through = 0;
  for (int i = 0; i < frame_count; ++i) through |= (char*)frames[i] > (char*)unwinding && (char*)frames[i] < (char*)unwinding + 4096;
  CHECK(through);
}

int main(void) {
  setvbuf(stdout, 0, _IOLBF, 0);
  flags();
  queues();
  stacks();
  restarts();
  sources();
  unwinding();
  return done();
}
