// seccomp: each action, filters on arguments and architecture, precedence, inheritance over fork, threads and exec, strict mode.
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#if defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#elif defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#else
#define ARCH AUDIT_ARCH_I386
#endif
#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(value) BPF_STMT(BPF_RET | BPF_K, value)
#define IF(value, then, otherwise) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, then, otherwise)

static long install(struct sock_filter* program, unsigned length, unsigned flags) {
  struct sock_fprog p = {(unsigned short)length, program};
  return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &p);
}
/// `action` for getpriority(), for its first argument 77 ERRNO 33.
static long on_getpriority(unsigned action, unsigned flags) {
  struct sock_filter program[] = {LOAD(arch),     IF(ARCH, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS), LOAD(nr), IF(SYS_getpriority, 1, 0), RETURN(SECCOMP_RET_ALLOW),
                                  LOAD(args[0]),  IF(77, 0, 1),   RETURN(SECCOMP_RET_ERRNO | 33),    RETURN(action)};
  return install(program, sizeof program / sizeof program[0], flags);
}

static siginfo_t seen;
static int handled;
static void on_sigsys(int signal, siginfo_t* info, void* context) {
  (void)signal, (void)context;
  seen = *info;
  ++handled;
}

static int in_child(int (*body)(void)) {
  fflush(stdout);
  pid_t pid = fork();
  if (pid == 0) _exit(body());
  int status = -1;
  waitpid(pid, &status, 0);
  return status;
}

static int errno_action(void) {
  CHECK(on_getpriority(SECCOMP_RET_ERRNO | 7, 0) == 0);
  CHECK(prctl(PR_GET_SECCOMP) == 2);
  CHECK(syscall(SYS_getpriority, 0, 0) == -1 && errno == 7);
  CHECK(syscall(SYS_getpriority, 77, 0) == -1 && errno == 33);
  pid_t pid = fork();
  if (pid == 0) _exit(syscall(SYS_getpriority, 0, 0) == -1 && errno == 7 ? 0 : 1);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  // The lowest action wins, whichever is newer.
  CHECK(on_getpriority(SECCOMP_RET_LOG, 0) == 0 && syscall(SYS_getpriority, 0, 0) == -1 && errno == 7);
  return check_failures;
}
static int trap_action(void) {
  struct sigaction action = {.sa_sigaction = on_sigsys, .sa_flags = SA_SIGINFO};
  sigaction(SIGSYS, &action, NULL);
  CHECK(on_getpriority(SECCOMP_RET_TRAP | 5, 0) == 0);
  syscall(SYS_getpriority, 0, 0);
  CHECK(handled == 1 && seen.si_signo == SIGSYS && seen.si_code == 1 && seen.si_errno == 5);
  CHECK(seen.si_syscall == SYS_getpriority && seen.si_arch == ARCH && seen.si_call_addr != NULL);
  return check_failures;
}
static int kill_action(void) {
  on_getpriority(SECCOMP_RET_KILL_PROCESS, 0);
  syscall(SYS_getpriority, 0, 0);
  return 0;
}
static void* kill_thread(void* unused) {
  on_getpriority(SECCOMP_RET_KILL_THREAD, 0);
  syscall(SYS_getpriority, 0, 0);
  return unused;
}
static int thread_action(void) {
  pthread_t thread;
  pthread_create(&thread, NULL, kill_thread, NULL);
  pthread_join(thread, NULL);  // the kernel clears the thread's id all the same
  CHECK(syscall(SYS_getpriority, 0, 0) > 0);  // this thread has no filter
  return check_failures;
}
static int trace_action(void) {
  CHECK(on_getpriority(SECCOMP_RET_TRACE, 0) == 0 && syscall(SYS_getpriority, 0, 0) == -1 && errno == ENOSYS);
  return check_failures;
}
static int strict_mode(void) {
  prctl(PR_SET_SECCOMP, 1);
  syscall(SYS_write, 1, "", 0);
  syscall(SYS_getpid);
  return 0;
}
static int strict_exit(void) {
  prctl(PR_SET_SECCOMP, 1);
  syscall(SYS_exit, 9);
  return 0;
}

static pthread_barrier_t barrier;
static void* waits(void* result) {
  pthread_barrier_wait(&barrier);
  pthread_barrier_wait(&barrier);
  *(int*)result = syscall(SYS_getpriority, 0, 0) == -1 && errno == 12;
  return NULL;
}
static int synchronised(void) {
  int ok = 0;
  pthread_t thread;
  pthread_barrier_init(&barrier, NULL, 2);
  pthread_create(&thread, NULL, waits, &ok);
  pthread_barrier_wait(&barrier);
  CHECK(on_getpriority(SECCOMP_RET_ERRNO | 12, SECCOMP_FILTER_FLAG_TSYNC) == 0);
  pthread_barrier_wait(&barrier);
  pthread_join(thread, NULL);
  CHECK(ok);
  return check_failures;
}
static const char* self;
static int executes(void) {
  on_getpriority(SECCOMP_RET_ERRNO | 21, 0);
  on_getpriority(SECCOMP_RET_ALLOW, 0);
  execl(self, self, "filtered", NULL);
  return 1;
}

int main(int argc, char** argv) {
  if (argc > 1) return syscall(SYS_getpriority, 0, 0) == -1 && errno == 21 && prctl(PR_GET_SECCOMP) == 2 ? 0 : 1;
  self = argv[0];
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  CHECK(prctl(PR_GET_SECCOMP) == 0);
  CHECK(in_child(errno_action) == 0);
  CHECK(in_child(trap_action) == 0);
  int status = in_child(kill_action);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS);
  CHECK(in_child(thread_action) == 0);
  CHECK(in_child(trace_action) == 0);
  status = in_child(strict_mode);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  status = in_child(strict_exit);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 9);
  CHECK(in_child(synchronised) == 0);
  CHECK(in_child(executes) == 0);

  // Programs that the kernel does not take.
  struct sock_filter no_end[] = {LOAD(nr)};
  struct sock_filter too_far[] = {IF(0, 5, 0), RETURN(SECCOMP_RET_ALLOW)};
  struct sock_filter odd[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 2), RETURN(SECCOMP_RET_ALLOW)};
  struct sock_filter beyond[] = {BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 64), RETURN(SECCOMP_RET_ALLOW)};
  struct sock_filter unset[] = {BPF_STMT(BPF_LD | BPF_MEM, 3), RETURN(SECCOMP_RET_ALLOW)};
  struct sock_filter by_zero[] = {BPF_STMT(BPF_ALU | BPF_DIV | BPF_K, 0), RETURN(SECCOMP_RET_ALLOW)};
  CHECK(install(no_end, 1, 0) == -1 && errno == EINVAL);
  CHECK(install(too_far, 2, 0) == -1 && errno == EINVAL);
  CHECK(install(odd, 2, 0) == -1 && errno == EINVAL);
  CHECK(install(beyond, 2, 0) == -1 && errno == EINVAL);
  CHECK(install(unset, 2, 0) == -1 && errno == EINVAL);
  CHECK(install(by_zero, 2, 0) == -1 && errno == EINVAL);
  CHECK(install(no_end, 0, 0) == -1 && errno == EINVAL);
  unsigned action = SECCOMP_RET_TRAP;
  CHECK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0);
  action = 0x12340000;
  CHECK(syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == -1 && errno == EOPNOTSUPP);
  // Arithmetic: scratch memory, index, shifts, all that a filter may compute.
  struct sock_filter sums[] = {
      BPF_STMT(BPF_LDX | BPF_IMM, 5),       BPF_STMT(BPF_LD | BPF_IMM, 37),          BPF_STMT(BPF_ALU | BPF_ADD | BPF_X, 0),  BPF_STMT(BPF_ST, 2),
      BPF_STMT(BPF_ALU | BPF_MUL | BPF_K, 3), BPF_STMT(BPF_ALU | BPF_RSH | BPF_K, 1), BPF_STMT(BPF_ALU | BPF_XOR | BPF_K, 1),  BPF_STMT(BPF_MISC | BPF_TAX, 0),
      BPF_STMT(BPF_LD | BPF_MEM, 2),        BPF_STMT(BPF_ALU | BPF_SUB | BPF_X, 0), BPF_STMT(BPF_ALU | BPF_NEG, 0),           BPF_STMT(BPF_STX, 0),
      LOAD(nr),                             IF(SYS_getpriority, 0, 4),             BPF_STMT(BPF_LD | BPF_MEM, 0),            IF(62, 0, 1),
      RETURN(SECCOMP_RET_ERRNO | 40),       RETURN(SECCOMP_RET_ERRNO | 41),        RETURN(SECCOMP_RET_ALLOW)};
  CHECK(install(sums, sizeof sums / sizeof sums[0], 0) == 0);
  CHECK(syscall(SYS_getpriority, 0, 0) == -1 && errno == 40);
  return done();
}
