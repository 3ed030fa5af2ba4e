// modify_ldt from 64-bit code: descriptors as bases of FS and GS, errors as unsigned ints. Non-canonical addresses: #SS through
// the stack segment, #GP else.
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "../check.h"

static uint32_t* areas;  // below 4 GiB; [0] of each of the two pages says which it is

static long modify_ldt(int function, void* p, unsigned long bytes) { return syscall(SYS_modify_ldt, function, p, bytes); }
static long set_base(int entry, uint32_t* base) {
  struct user_desc d = {
      .entry_number = entry, .base_addr = (unsigned)(unsigned long)base, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1};
  return modify_ldt(0x11, &d, sizeof d);
}
static uint32_t read_gs(void) {
  uint32_t v;
  __asm__ volatile("movl %%gs:0, %0" : "=r"(v));
  return v;
}
static void load_gs(unsigned selector) { __asm__ volatile("mov %0, %%gs" : : "r"(selector)); }

static sigjmp_buf back;
static int number, code, trap;
static unsigned long error;
static void handler(int signal, siginfo_t* info, void* context) {
  const ucontext_t* u = context;
  number = signal;
  code = info->si_code;
  trap = (int)u->uc_mcontext.gregs[REG_TRAPNO];
  error = (unsigned long)u->uc_mcontext.gregs[REG_ERR];
  siglongjmp(back, 1);
}
#define RAISES(expected_signal, expected_trap, text)                                              \
  do {                                                                                            \
    number = 0;                                                                                   \
    if (sigsetjmp(back, 1) == 0)                                                                  \
      for (volatile int n = 0; n < 1; ++n)                                                        \
        __asm__ volatile("push %%rbp\n mov %0, %%rbp\n mov %0, %%rbx\n mov %%rsp, %%r12\n " text  \
                         "\n mov %%r12, %%rsp\n pop %%rbp"                                        \
                         :                                                                        \
                         : "r"(0x8000000000000000)                                                \
                         : "rax", "rbx", "r12", "xmm0", "memory");                                \
    CHECK(number == expected_signal && code == SI_KERNEL && trap == expected_trap && error == 0); \
  } while (0)

int main(void) {
  areas = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  CHECK(areas != MAP_FAILED);
  areas[0] = 1;
  areas[1024] = 2;
  CHECK(set_base(5, areas) == 0);
  load_gs(5 << 3 | 7);
  CHECK(read_gs() == 1);
  CHECK(set_base(5, areas + 1024) == 0);
  CHECK(read_gs() == 1);  // until it is loaded again
  load_gs(5 << 3 | 7);
  CHECK(read_gs() == 2);
  uint64_t table[6] = {~0ull, ~0ull};
  CHECK(modify_ldt(0, table, sizeof table) == sizeof table && table[0] == 0 && table[5] >> 56 == (unsigned long)areas >> 24);
  // Entries that have been cleared count on.
  const unsigned long used = table[0] == 0 ? 6 * 8 : 0;
  struct user_desc none = {.entry_number = 5, .read_exec_only = 1, .seg_not_present = 1};
  CHECK(modify_ldt(0x11, &none, sizeof none) == 0);
  char large[64];
  memset(large, 0x5a, sizeof large);
  CHECK(modify_ldt(0, large, sizeof large) == sizeof large && large[used - 1] == 0 && large[63] == 0);
  CHECK(modify_ldt(0, large, 8) == 8);
  CHECK(set_base(8192, areas) == 4294967274 /* (unsigned) -EINVAL */);
  load_gs(0);

  char* stack = mmap(0, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const stack_t alternate = {.ss_sp = stack, .ss_size = 65536};
  sigaltstack(&alternate, 0);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaction(SIGSEGV, &action, 0);
  sigaction(SIGBUS, &action, 0);
  RAISES(SIGBUS, 12, "mov (%%rbp), %%eax");
  RAISES(SIGBUS, 12, "movups %%xmm0, 8(%%rbp)");
  RAISES(SIGBUS, 12, "lock incl (%%rbp)");
  RAISES(SIGBUS, 12, "mov %%rbx, %%rsp\n push %%rax");
  RAISES(SIGBUS, 12, "mov %%rbx, %%rsp\n call 1f\n 1:");
  RAISES(SIGBUS, 12, "mov %%rbx, %%rsp\n mov 8(%%rsp), %%eax");
  RAISES(SIGSEGV, 13, "mov (%%rbx), %%eax");
  RAISES(SIGSEGV, 13, "push (%%rbx)");
  RAISES(SIGSEGV, 13, "mov %%fs:(%%rbp), %%eax");
  return done();
}
