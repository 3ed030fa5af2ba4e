// Exceptions inside loops that have run millions of times: the handler sees the exact registers, flags, vector register, pc, trap
// number, error code and address of the instruction, whatever tier the loop is in by then.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "../check.h"

static sigjmp_buf back;
static int number, code;
static void* address;
static greg_t r[23];
static double xmm3;

static void handler(int signal, siginfo_t* info, void* context) {
  const ucontext_t* u = context;
  number = signal;
  code = info->si_code;
  address = info->si_addr;
  memcpy(r, u->uc_mcontext.gregs, sizeof r);
  memcpy(&xmm3, &u->uc_mcontext.fpregs->_xmm[3], 8);
  siglongjmp(back, 1);
}

static void check_state(unsigned long iterations, unsigned long pc, int trap, int error) {
  CHECK(r[REG_RIP] == (greg_t)pc);
  CHECK(r[REG_TRAPNO] == trap && r[REG_ERR] == error);
  CHECK(r[REG_R8] == (greg_t)iterations);
  CHECK(r[REG_R9] == (greg_t)(iterations * 3 + 7));
  CHECK(r[REG_R10] == (greg_t)(iterations ^ 0x5555));
  CHECK(r[REG_R11] == 0x123456789abcdef);
  unsigned long flags;  // of the comparison before the instruction
  __asm__("cmp $100, %1\n pushf\n pop %0" : "=r"(flags) : "r"(iterations) : "cc");
  CHECK((r[REG_EFL] & 0x8d5) == (greg_t)(flags & 0x8d5));
  CHECK(xmm3 == (double)iterations * 0.5);
}

// The loop counts in r8 and raises the exception when rsi reaches rdi.
#define LOOP(name, faulting)                                                                                                   \
  extern char name##_insn[];                                                                                                   \
  __attribute__((noinline)) static void name(char* p, char* end) {                                                             \
    __asm__ volatile(                                                                                                          \
        "xor %%r8d, %%r8d\n mov $7, %%r9d\n pxor %%xmm3, %%xmm3\n movabs $0x3fe0000000000000, %%rax\n movq %%rax, %%xmm4\n"    \
        "movabs $0x123456789abcdef, %%r11\n mov $0x5555, %%r10d\n"                                                             \
        "1: cmp $100, %%r8\n " faulting "\n"                                                                                   \
        "add $8, %%rsi\n inc %%r8\n add $3, %%r9\n addsd %%xmm4, %%xmm3\n mov %%r8, %%r10\n xor $0x5555, %%r10\n jmp 1b\n"     \
        : "+S"(p)                                                                                                              \
        : "D"(end)                                                                                                             \
        : "rax", "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "xmm3", "xmm4", "xmm5", "cc", "memory");                       \
  }
LOOP(load, ".globl load_insn\n load_insn: mov (%%rsi), %%r12")
LOOP(store, ".globl store_insn\n store_insn: mov %%r8, (%%rsi)")
LOOP(add_to_memory, ".globl add_to_memory_insn\n add_to_memory_insn: addq $1, (%%rsi)")
// These raise when the distance to the end is 0.
LOOP(divide, "mov %%rdi, %%rcx\n sub %%rsi, %%rcx\n mov $1000, %%eax\n xor %%edx, %%edx\n cmp $100, %%r8\n"
             ".globl divide_insn\n divide_insn: div %%rcx")
LOOP(breakpoint, "cmp %%rsi, %%rdi\n jne 2f\n cmp $100, %%r8\n int3\n .globl breakpoint_insn\n breakpoint_insn: 2:")
LOOP(undefined, "cmp %%rsi, %%rdi\n jne 2f\n cmp $100, %%r8\n .globl undefined_insn\n undefined_insn: ud2\n 2:")
LOOP(misaligned, "xor %%ecx, %%ecx\n cmp %%rsi, %%rdi\n sete %%cl\n cmp $100, %%r8\n"
                 ".globl misaligned_insn\n misaligned_insn: movaps -64(%%rdi,%%rcx,8), %%xmm5")

static void run(void (*loop)(char*, char*), char* p, char* end) {
  number = 0;
  if (sigsetjmp(back, 1) == 0) loop(p, end);
}

int main(void) {
  const size_t bytes = 12 << 20;
  const unsigned long iterations = bytes / 8;
  char* p = mmap(0, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* end = p + bytes;
  end[0] = 1;
  CHECK(p != MAP_FAILED && mprotect(end, 4096, PROT_READ) == 0);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  for (const int* s = (const int[]){SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE, 0}; *s; ++s) sigaction(*s, &action, 0);

  run(store, p, end);
  CHECK(number == SIGSEGV && code == SEGV_ACCERR && address == end && r[REG_CR2] == (greg_t)end && r[REG_RSI] == (greg_t)end);
  check_state(iterations, (unsigned long)store_insn, 14, 7);
  run(add_to_memory, p, end);
  CHECK(number == SIGSEGV && code == SEGV_ACCERR && address == end);
  check_state(iterations, (unsigned long)add_to_memory_insn, 14, 7);
  CHECK(*(unsigned long*)(p + 800) == 101);
  munmap(end, 4096);
  run(load, p, end);
  CHECK(number == SIGSEGV && code == SEGV_MAPERR && address == end);
  check_state(iterations, (unsigned long)load_insn, 14, 4);
  run(divide, p, end);
  CHECK(number == SIGFPE && code == FPE_INTDIV && address == divide_insn && r[REG_RAX] == 1000 && r[REG_RCX] == 0);
  check_state(iterations, (unsigned long)divide_insn, 0, 0);
  run(breakpoint, p, end);
  CHECK(number == SIGTRAP && code == SI_KERNEL);
  check_state(iterations, (unsigned long)breakpoint_insn, 3, 0);
  run(undefined, p, end);
  CHECK(number == SIGILL && code == ILL_ILLOPN && address == undefined_insn);
  check_state(iterations, (unsigned long)undefined_insn, 6, 0);
  run(misaligned, p, end);
  CHECK(number == SIGSEGV && code == SI_KERNEL && address == 0);
  check_state(iterations, (unsigned long)misaligned_insn, 13, 0);
  return done();
}
