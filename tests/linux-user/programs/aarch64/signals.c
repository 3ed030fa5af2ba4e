// Synchronous signals: exact registers in the ucontext, and changes to it take effect.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "../check.h"

static struct {
  int signal, code;
  void* address;
  uint64_t regs[31], sp, pc, pstate, fault_address;
  uint32_t fpsr, fpcr;
  __uint128_t v[32];
  int has_fpsimd, has_esr;
  uint64_t esr;
} seen;

static void handler(int signal, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  seen.signal = signal;
  seen.code = info->si_code;
  seen.address = info->si_addr;
  memcpy(seen.regs, uc->uc_mcontext.regs, sizeof seen.regs);
  seen.sp = uc->uc_mcontext.sp;
  seen.pc = uc->uc_mcontext.pc;
  seen.pstate = uc->uc_mcontext.pstate;
  seen.fault_address = uc->uc_mcontext.fault_address;
  seen.has_fpsimd = seen.has_esr = 0;
  for (uint8_t* p = (uint8_t*)uc->uc_mcontext.__reserved;;) {
    struct _aarch64_ctx* head = (struct _aarch64_ctx*)p;
    if (head->magic == 0) break;
    if (head->magic == FPSIMD_MAGIC) {
      struct fpsimd_context* fp = (struct fpsimd_context*)head;
      seen.has_fpsimd = 1;
      seen.fpsr = fp->fpsr;
      seen.fpcr = fp->fpcr;
      memcpy(seen.v, fp->vregs, sizeof seen.v);
      fp->vregs[9] = ((__uint128_t)0x1111222233334444 << 64) | 0x5555666677778888;
    }
    if (head->magic == ESR_MAGIC) {
      seen.has_esr = 1;
      seen.esr = ((struct esr_context*)head)->esr;
    }
    p += head->size;
  }
  uc->uc_mcontext.regs[20] = 0xabcdef;
  uc->uc_mcontext.pstate = (uc->uc_mcontext.pstate & ~0xf0000000ull) | 0x50000000;  // Z and V
  uc->uc_mcontext.pc += 4;
}

// Fills registers, then stores to `address`; gives back what x20, v9 and the flags are after the handler.
__attribute__((noinline)) static void fault_at(void* address, uint64_t out[5]) {
  register uint64_t x0 asm("x0") = (uint64_t)address;
  register uint64_t* x1 asm("x1") = out;
  asm volatile(
      "mov x2, #2\n mov x3, #3\n mov x4, #4\n mov x5, #5\n mov x6, #6\n mov x7, #7\n mov x8, #8\n mov x9, #9\n"
      "mov x10, #10\n mov x11, #11\n mov x12, #12\n mov x13, #13\n mov x14, #14\n mov x15, #15\n mov x20, #20\n mov x21, #21\n"
      "movi v8.16b, #8\n movi v9.16b, #9\n movi v31.16b, #31\n"
      "cmp x2, x3\n"        // N set, C clear
      "add x12, x12, #100\n"
      ".globl fault_insn\nfault_insn: str x2, [x0]\n"
      "add x13, x13, #100\n"
      "mrs x3, nzcv\n"
      "stp x20, x3, [x1]\n"
      "str q9, [x1, #16]\n str x13, [x1, #32]\n"
      : "+r"(x0), "+r"(x1)
      :
      : "x2", "x3", "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x20", "x21", "v8", "v9",
        "v31", "cc", "memory");
}
extern char fault_insn[];

static void check_fault(void* address, int signal, int code) {
  uint64_t out[5] = {0};
  memset(&seen, 0, sizeof seen);
  fault_at(address, out);
  CHECK(seen.signal == signal);
  CHECK(seen.code == code);
  CHECK(seen.address == address);
  CHECK(seen.fault_address == (uint64_t)address);
  CHECK(seen.pc == (uint64_t)fault_insn);
  for (int r = 2; r <= 11; ++r) CHECK(seen.regs[r] == (uint64_t)r);
  CHECK(seen.regs[12] == 112 && seen.regs[13] == 13 && seen.regs[20] == 20 && seen.regs[21] == 21);
  CHECK(seen.regs[0] == (uint64_t)address);
  CHECK((seen.pstate & 0xf0000000) == 0x80000000);
  CHECK(seen.has_fpsimd);
  CHECK((uint64_t)seen.v[8] == 0x0808080808080808 && (uint64_t)(seen.v[31] >> 64) == 0x1f1f1f1f1f1f1f1f);
  CHECK(out[0] == 0xabcdef);
  CHECK(out[1] == 0x50000000);
  CHECK(out[2] == 0x5555666677778888 && out[3] == 0x1111222233334444);
  CHECK(out[4] == 113);
}

// A jump to where no code is: pc is the target, the link register tells who jumped.
static sigjmp_buf back;
static void on_fetch(int signal, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  seen.signal = signal;
  seen.code = info->si_code;
  seen.address = info->si_addr;
  seen.pc = uc->uc_mcontext.pc;
  siglongjmp(back, 1);
}
static void check_jump(void* target, int signal, int code) {
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))target)();
  CHECK(seen.signal == signal && seen.code == code && seen.address == target && seen.pc == (uint64_t)target);
}

static volatile int order[8], orders;
static void nested(int signal) {
  order[orders++] = signal;
  if (signal == SIGUSR1) {
    raise(SIGUSR2);  // blocked by the mask until this handler returns
    order[orders++] = -signal;
  }
}

static char stack[65536];
static volatile int on_stack;
static void stack_handler(int signal) {
  char here;
  on_stack = &here >= stack && &here < stack + sizeof stack;
  stack_t now;
  sigaltstack(0, &now);
  if (!(now.ss_flags & SS_ONSTACK)) on_stack = 0;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, 0);
  sigaction(SIGILL, &action, 0);
  sigaction(SIGTRAP, &action, 0);
  sigaction(SIGBUS, &action, 0);

  char* page = mmap(0, 8192, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(page + 4096, 4096);
  for (int round = 0; round < 3; ++round) {
    check_fault((void*)0x1230, SIGSEGV, SEGV_MAPERR);
    check_fault(page + 8, SIGSEGV, SEGV_ACCERR);
    CHECK(seen.has_esr && (seen.esr >> 26) == 0x24 && (seen.esr & 0x40));
    check_fault(page + 4096, SIGSEGV, SEGV_MAPERR);
  }
  // Beyond the end of a file: SIGBUS.
  FILE* file = tmpfile();
  ftruncate(fileno(file), 100);
  char* mapped = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
  check_fault(mapped + 4096, SIGBUS, BUS_ADRERR);

  asm volatile(".word 0" ::: "x20", "cc", "v9");
  CHECK(seen.signal == SIGILL && seen.code == ILL_ILLOPC && seen.address == (void*)seen.pc);
  asm volatile("brk #1" ::: "x20", "cc", "v9");
  CHECK(seen.signal == SIGTRAP && seen.code == TRAP_BRKPT);

  // Cumulative FP exception bits travel with the frame.
  asm volatile("msr fpsr, xzr\n fmov d0, #1.0\n movi d1, #0\n fdiv d2, d0, d1\n str xzr, [%0]\n" ::"r"(0x40l) : "x20", "cc", "v0", "v1", "v2", "v9");
  CHECK(seen.signal == SIGSEGV && (seen.fpsr & 0x1f) == 2);
  uint64_t fpsr;
  asm volatile("mrs %0, fpsr" : "=r"(fpsr));
  CHECK((fpsr & 0x1f) == 2);

  struct sigaction fetch = {.sa_sigaction = on_fetch, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &fetch, 0);
  sigaction(SIGBUS, &fetch, 0);
  check_jump((void*)0x5000, SIGSEGV, SEGV_MAPERR);
  check_jump(page, SIGSEGV, SEGV_ACCERR);
  check_jump((char*)main + 2, SIGBUS, BUS_ADRALN);

  struct sigaction two = {.sa_handler = nested};
  sigaddset(&two.sa_mask, SIGUSR2);
  sigaction(SIGUSR1, &two, 0);
  sigaction(SIGUSR2, &two, 0);
  raise(SIGUSR1);
  CHECK(orders == 3 && order[0] == SIGUSR1 && order[1] == -SIGUSR1 && order[2] == SIGUSR2);

  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  CHECK(sigaltstack(&alternate, 0) == 0);
  struct sigaction third = {.sa_handler = stack_handler, .sa_flags = SA_ONSTACK | SA_RESETHAND};
  sigaction(SIGUSR1, &third, 0);
  raise(SIGUSR1);
  CHECK(on_stack == 1);
  struct sigaction after;
  sigaction(SIGUSR1, 0, &after);
  CHECK(after.sa_handler == SIG_DFL);
  return done();
}
