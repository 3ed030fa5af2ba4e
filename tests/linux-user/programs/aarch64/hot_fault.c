// A fault inside a loop that has run millions of times: the handler sees the exact registers, flags, vector register, pc and
// address of the faulting instruction, whatever tier the loop is in by then.
#define _GNU_SOURCE
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "../check.h"

extern char fault_insn[];
static unsigned long end_address, iterations;

static void on_fault(int number, siginfo_t* info, void* context) {
  (void)number;
  const ucontext_t* u = context;
  const unsigned long long* x = (const unsigned long long*)u->uc_mcontext.regs;
  CHECK(u->uc_mcontext.pc == (unsigned long)fault_insn);
  CHECK((unsigned long)info->si_addr == end_address);
  CHECK(info->si_code == SEGV_ACCERR);
  CHECK(x[1] == end_address);
  CHECK(x[2] == iterations);
  CHECK(x[3] == iterations * 3 + 7);
  CHECK(x[5] == (iterations ^ 0x5555));
  CHECK(x[6] == 0x123456789abcdef);
  CHECK(u->uc_mcontext.pstate >> 28 == 2);  // x2 > 100: C alone
  const struct fpsimd_context* fp = (const struct fpsimd_context*)u->uc_mcontext.__reserved;
  double d3;
  memcpy(&d3, &fp->vregs[3], 8);
  CHECK(fp->head.magic == FPSIMD_MAGIC);
  CHECK(d3 == (double)iterations * 0.5);
  exit(done());
}

int main(void) {
  const size_t bytes = 64 << 20;
  char* p = mmap(0, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED && mprotect(p + bytes, 4096, PROT_NONE) == 0);
  end_address = (unsigned long)p + bytes;
  iterations = bytes / 8;
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, 0);
  __asm__ volatile(
      "mov x1, %0\n mov x2, #0\n mov x3, #7\n fmov d3, xzr\n fmov d4, #0.5\n ldr x6, =0x123456789abcdef\n mov x5, #0x5555\n"
      "1: cmp x2, #100\n .globl fault_insn\n fault_insn: ldr x4, [x1]\n add x1, x1, #8\n add x2, x2, #1\n add x3, x3, #3\n"
      "fadd d3, d3, d4\n mov x7, #0x5555\n eor x5, x2, x7\n b 1b\n" ::"r"(p)
      : "x1", "x2", "x3", "x4", "x5", "x6", "x7", "v3", "v4", "cc", "memory");
  return 1;
}
