// Exceptions inside loops that have run a million times: the handler sees the exact registers, flags, x87 and vector
// register, pc, trap number, error code and address of the instruction, whatever tier the loop is in by then.
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
static unsigned r[19], cr2;
static double xmm3;
static long double st0;

static void handler(int signal, siginfo_t* info, void* context) {
  const ucontext_t* u = context;
  const char* fpstate = (const char*)u->uc_mcontext.fpregs;
  number = signal;
  code = info->si_code;
  address = info->si_addr;
  memcpy(r, u->uc_mcontext.gregs, sizeof r);
  cr2 = u->uc_mcontext.cr2;
  memcpy(&st0, fpstate + 28, 10);
  memcpy(&xmm3, fpstate + 272 + 3 * 16, 8);
  siglongjmp(back, 1);
}

static void check_state(unsigned iterations, const char* pc, unsigned trap, unsigned error) {
  CHECK(r[REG_EIP] == (unsigned)pc);
  CHECK(r[REG_TRAPNO] == trap && r[REG_ERR] == error);
  CHECK(r[REG_EBX] == iterations);
  CHECK(r[REG_EBP] == iterations * 3 + 7);
  unsigned flags;  // of the comparison before the instruction
  __asm__("cmp $100, %1\n pushf\n pop %0" : "=r"(flags) : "r"(iterations) : "cc");
  CHECK((r[REG_EFL] & 0x8d5) == (flags & 0x8d5));
  CHECK(xmm3 == (double)iterations * 0.5);
  CHECK(st0 == (long double)iterations * 0.25L);
}

// The loop counts in ebx and raises the exception when esi reaches edi.
#define LOOP(name, faulting)                                                                                            \
  extern char name##_insn[];                                                                                            \
  __attribute__((noinline)) static void name(char* p, char* end) {                                                      \
    __asm__ volatile(                                                                                                   \
        "push %%ebp\n push %%ebx\n"                                                                                     \
        "xor %%ebx, %%ebx\n mov $7, %%ebp\n pxor %%xmm3, %%xmm3\n push $0x3fe00000\n push $0\n movsd (%%esp), %%xmm4\n" \
        "pop %%eax\n movl $0x3e800000, (%%esp)\n fldz\n"                                                                \
        "1: cmp $100, %%ebx\n " faulting                                                                                \
        "\n"                                                                                                            \
        "add $4, %%esi\n inc %%ebx\n add $3, %%ebp\n addsd %%xmm4, %%xmm3\n fadds (%%esp)\n jmp 1b\n"                   \
        : "+S"(p)                                                                                                       \
        : "D"(end)                                                                                                      \
        : "eax", "ecx", "edx", "cc", "memory");                                                                         \
    __builtin_unreachable();                                                                                            \
  }
#define AT(name) ".globl " #name "_insn\n " #name "_insn: "
#define WHEN_THERE(name, instruction) "cmp %%esi, %%edi\n jne 2f\n cmp $100, %%ebx\n " AT(name) instruction "\n 2:"
LOOP(load, AT(load) "mov (%%esi), %%edx")
LOOP(store, AT(store) "mov %%ebx, (%%esi)")
LOOP(add_to_memory, AT(add_to_memory) "addl $1, (%%esi)")
LOOP(float_load, "movl $0, -4(%%esi)\n cmp $100, %%ebx\n" AT(float_load) "fldl -4(%%esi)\n fstp %%st(0)")
// Raise when the distance to the end is 0.
LOOP(divide,
     "mov %%edi, %%ecx\n sub %%esi, %%ecx\n mov $1000, %%eax\n xor %%edx, %%edx\n cmp $100, %%ebx\n" AT(divide) "div %%ecx")
LOOP(undefined, WHEN_THERE(undefined, "ud2"))
LOOP(halt, WHEN_THERE(halt, "hlt"))
LOOP(interrupt, WHEN_THERE(interrupt, "int $0x42"))
// Traps: the handler sees the pc behind them.
LOOP(breakpoint, "cmp %%esi, %%edi\n jne 2f\n cmp $100, %%ebx\n int3\n" AT(breakpoint) "2:")
LOOP(overflow, "xor %%eax, %%eax\n cmp %%esi, %%edi\n sete %%al\n add $0x7fffffff, %%eax\n into\n" AT(overflow) "nop")
LOOP(bound,
     "push %%edi\n push $0x80000000\n decl 4(%%esp)\n"
     "cmp $100, %%ebx\n" AT(bound) "bound %%esi, (%%esp)\n lea 8(%%esp), %%esp")
LOOP(misaligned,
     "xor %%ecx, %%ecx\n cmp %%esi, %%edi\n sete %%cl\n cmp $100, %%ebx\n" AT(misaligned) "movaps -64(%%edi,%%ecx,8), %%xmm5")
LOOP(misaligned_operand, "xor %%ecx, %%ecx\n cmp %%esi, %%edi\n sete %%cl\n cmp $100, %%ebx\n" AT(
                             misaligned_operand) "pand -64(%%edi,%%ecx,4), %%xmm5")

static void run(void (*loop)(char*, char*), char* p, char* end) {
  number = 0;
  if (sigsetjmp(back, 1) == 0) loop(p, end);
  __asm__ volatile("fninit");
}

int main(void) {
  const size_t bytes = 4 << 20;
  const unsigned iterations = bytes / 4;
  char* p = mmap(0, bytes + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* end = p + bytes;
  end[0] = 1;
  CHECK(p != MAP_FAILED && mprotect(end, 4096, PROT_READ) == 0);
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  for (const int* s = (const int[]){SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE, 0}; *s; ++s) sigaction(*s, &action, 0);

  run(store, p, end);
  CHECK(number == SIGSEGV && code == SEGV_ACCERR && address == end && cr2 == (unsigned)end && r[REG_ESI] == (unsigned)end);
  check_state(iterations, store_insn, 14, 7);
  run(add_to_memory, p, end);
  CHECK(number == SIGSEGV && code == SEGV_ACCERR && address == end);
  check_state(iterations, add_to_memory_insn, 14, 7);
  CHECK(*(unsigned*)(p + 400) == 101);
  munmap(end, 4096);
  run(load, p, end);
  CHECK(number == SIGSEGV && code == SEGV_MAPERR && address == end);
  check_state(iterations, load_insn, 14, 4);
  run(float_load, p + 4, end);  // eight bytes, of which four are there
  CHECK(number == SIGSEGV && code == SEGV_MAPERR && address == end && r[REG_ESI] == (unsigned)end);
  check_state(iterations - 1, float_load_insn, 14, 4);
  run(divide, p, end);
  CHECK(number == SIGFPE && code == FPE_INTDIV && address == divide_insn && r[REG_EAX] == 1000 && r[REG_ECX] == 0);
  check_state(iterations, divide_insn, 0, 0);
  run(undefined, p, end);
  CHECK(number == SIGILL && code == ILL_ILLOPN && address == undefined_insn);
  check_state(iterations, undefined_insn, 6, 0);
  run(halt, p, end);
  CHECK(number == SIGSEGV && code == SI_KERNEL && address == 0);
  check_state(iterations, halt_insn, 13, 0);
  run(interrupt, p, end);
  CHECK(number == SIGSEGV && code == SI_KERNEL && address == 0);
  check_state(iterations, interrupt_insn, 13, 0x42 * 8 + 2);
  run(breakpoint, p, end);
  CHECK(number == SIGTRAP && code == SI_KERNEL);
  check_state(iterations, breakpoint_insn, 3, 0);
  run(overflow, p, end);
  CHECK(number == SIGSEGV && code == SI_KERNEL && address == 0 && r[REG_EAX] == 0x80000000);
  CHECK((r[REG_EFL] & 0x8d5) == 0x894);  // O S A P of the addition
  r[REG_EFL] = 0;
  __asm__("cmp $100, %1\n pushf\n pop %0" : "=r"(r[REG_EFL]) : "r"(iterations) : "cc");
  check_state(iterations, overflow_insn, 4, 0);
  run(bound, p, end);
  CHECK(number == SIGSEGV && code == SI_KERNEL && address == 0 && r[REG_ESI] == (unsigned)end);
  check_state(iterations, bound_insn, 5, 0);
  run(misaligned, p, end);
  CHECK(number == SIGSEGV && code == SI_KERNEL && address == 0);
  check_state(iterations, misaligned_insn, 13, 0);
  run(misaligned_operand, p, end);
  CHECK(number == SIGSEGV && code == SI_KERNEL && address == 0);
  check_state(iterations, misaligned_operand_insn, 13, 0);
  return done();
}
