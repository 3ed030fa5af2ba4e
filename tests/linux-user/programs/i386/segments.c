// modify_ldt: what one thread writes, the DS and ES of all threads have at once, FS and GS when they are loaded again.
// SYSENTER.
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <cpuid.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "../check.h"

static uint32_t areas[2] = {1, 2};
enum { kEntry = 5, kSelector = kEntry << 3 | 7 };

static long modify_ldt(int function, void* p, unsigned long bytes) { return syscall(SYS_modify_ldt, function, p, bytes); }
static long set_base(uint32_t* base) {
  struct user_desc d = {
      .entry_number = kEntry, .base_addr = (unsigned)base, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1};
  return modify_ldt(0x11, &d, sizeof d);
}

volatile int stage;
static uint32_t seen[6];
/// All in one piece: while ES is not flat, no compiled code may run.
static void* other(void* unused) {
  __asm__ volatile(
      "movw %w1, %%es\n movw %w1, %%fs\n"
      "mov %%es:0, %%eax\n mov %%eax, (%0)\n mov %%fs:0, %%eax\n mov %%eax, 4(%0)\n"
      "movl $1, stage\n"
      "1: cmpl $1, stage\n je 1b\n"  // never leaves for the kernel: the base changes under it
      "mov %%es:0, %%eax\n mov %%eax, 8(%0)\n mov %%fs:0, %%eax\n mov %%eax, 12(%0)\n"
      "movl $3, stage\n"
      "1: cmpl $3, stage\n je 1b\n"
      "mov %%es, %%eax\n mov %%eax, 16(%0)\n mov %%fs, %%eax\n mov %%eax, 20(%0)\n"
      "push %%ds\n pop %%es\n xor %%eax, %%eax\n movw %%ax, %%fs"
      :
      : "b"(seen), "c"(kSelector)
      : "eax", "memory");
  return unused;
}

static sigjmp_buf back;
static int number, trap;
static void handler(int signal, siginfo_t* info, void* context) {
  (void)info;
  const ucontext_t* u = context;
  number = signal;
  trap = u->uc_mcontext.gregs[REG_TRAPNO];
  siglongjmp(back, 1);
}

int main(void) {
  CHECK(set_base(areas) == 0);
  pthread_t thread;
  CHECK(pthread_create(&thread, 0, other, 0) == 0);
  while (stage != 1) {
  }
  CHECK(set_base(areas + 1) == 0);
  stage = 2;
  while (stage != 3) {
  }
  struct user_desc nothing = {.entry_number = kEntry, .read_exec_only = 1, .seg_not_present = 1};
  CHECK(modify_ldt(0x11, &nothing, sizeof nothing) == 0);
  stage = 4;
  pthread_join(thread, 0);
  CHECK(seen[0] == 1 && seen[1] == 1);
  CHECK(seen[2] == 2 && seen[3] == 1);
  CHECK((seen[4] & 0xffff) == 0);  // the entry is gone
  struct user_desc beyond = nothing;
  beyond.entry_number = 8192;
  CHECK(modify_ldt(0x11, &beyond, sizeof beyond) == -1 && errno == EINVAL);

  // AMD's processors have no SYSENTER under a 64-bit kernel.
  unsigned a, b, c, d;
  if (__get_cpuid(0, &a, &b, &c, &d) && c == signature_AMD_ecx) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigaction(SIGILL, &action, 0);
    sigaction(SIGSEGV, &action, 0);
    if (sigsetjmp(back, 1) == 0) __asm__ volatile("sysenter");
    CHECK(number == SIGILL && trap == 6);
  }
  return done();
}
