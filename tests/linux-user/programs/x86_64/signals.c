// Synchronous signals: exact registers, trap number, error code and FPU state in the ucontext, and changes to it take effect.
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include "../check.h"

enum { kCf = 1, kPf = 4, kZf = 0x40, kSf = 0x80, kTf = 0x100, kRf = 0x10000, kOf = 0x800 };
struct fx {  // FXSAVE, and what the kernel puts into its free bytes
  uint16_t fcw, fsw;
  uint8_t ftw, pad;
  uint16_t fop;
  uint64_t fip, fdp;
  uint32_t mxcsr, mxcsr_mask;
  uint8_t st[8][16], xmm[16][16];
  uint8_t free[48];
  uint32_t magic1, extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size, more[7];
};

static struct {
  int signal, code;
  void* address;
  greg_t r[23];
  unsigned long uc_flags;
  struct fx fp;
  uint32_t magic2;
  unsigned long frame, fp_at;
  uint32_t handler_mxcsr;
  uint16_t handler_fcw;
} seen;
static int skip;  // bytes of the instruction to go on behind
static uint8_t new_xmm9[16];

static void handler(int signal, siginfo_t* info, void* context) {
  asm volatile("stmxcsr %0\n fnstcw %1" : "=m"(seen.handler_mxcsr), "=m"(seen.handler_fcw));
  ucontext_t* uc = context;
  seen.signal = signal;
  seen.code = info->si_code;
  seen.address = info->si_addr;
  memcpy(seen.r, uc->uc_mcontext.gregs, sizeof seen.r);
  seen.uc_flags = uc->uc_flags;
  seen.frame = (unsigned long)uc - 8;
  seen.fp_at = (unsigned long)uc->uc_mcontext.fpregs;
  memcpy(&seen.fp, uc->uc_mcontext.fpregs, sizeof seen.fp);
  if (seen.fp.magic1 == 0x46505853) memcpy(&seen.magic2, (char*)uc->uc_mcontext.fpregs + seen.fp.xstate_size, 4);
  memcpy(((struct fx*)uc->uc_mcontext.fpregs)->xmm[9], new_xmm9, 16);
  ((struct fx*)uc->uc_mcontext.fpregs)->mxcsr |= 0x6000;  // round to zero
  uc->uc_mcontext.gregs[REG_R12] = 0xabcdef;
  uc->uc_mcontext.gregs[REG_EFL] = (uc->uc_mcontext.gregs[REG_EFL] & ~0x8d5l) | kZf | kOf;
  uc->uc_mcontext.gregs[REG_RIP] += skip;
}

extern char fault_insn[];
struct out {
  uint64_t r12, r14, flags, red_zone;
  uint8_t xmm9[16];
  uint32_t mxcsr;
};

// Fills registers, stores to `address`; gives back what the handler changed.
__attribute__((noinline)) static void fault_at(void* address, struct out* out) {
  register void* rax asm("rax") = address;
  asm volatile(
      "mov $2, %%ecx\n mov $3, %%edx\n mov $8, %%r8d\n mov $9, %%r9d\n mov $10, %%r10d\n mov $11, %%r11d\n"
      "mov $12, %%r12d\n mov $13, %%r13d\n mov $14, %%r14d\n"
      "movq $0x7777, -16(%%rsp)\n"  // the red zone is ours
      "pcmpeqd %%xmm9, %%xmm9\n movd %%ecx, %%xmm8\n"
      "add $100, %%r13\n"
      "cmp %%rdx, %%rcx\n"  // 2 - 3: C S A P
      ".globl fault_insn\nfault_insn: mov %%rcx, (%%rax)\n"
      "lea 100(%%r14), %%r14\n"
      "mov %%r12, 0(%%rbx)\n mov %%r14, 8(%%rbx)\n pushf\n pop %%r12\n mov %%r12, 16(%%rbx)\n"
      "movdqu %%xmm9, 32(%%rbx)\n stmxcsr 48(%%rbx)\n"
      : "+r"(rax)
      : "b"(out)
      : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "xmm8", "xmm9", "cc", "memory");
}

static void check_fault(void* address, int signal, int code, int trap, int error) {
  struct out out = {0};
  unsigned mxcsr = 0x1f80;
  asm volatile("ldmxcsr %0" ::"m"(mxcsr));
  memset(&seen, 0, sizeof seen);
  memset(new_xmm9, 0x5a, sizeof new_xmm9);
  skip = 3;
  const greg_t cr2_before = seen.r[REG_CR2];
  (void)cr2_before;
  fault_at(address, &out);
  CHECK(seen.signal == signal);
  CHECK(seen.code == code);
  CHECK(seen.address == (trap == 14 ? address : 0));
  CHECK(seen.r[REG_TRAPNO] == trap);
  if (error >= 0) CHECK(seen.r[REG_ERR] == error);
  if (trap == 14) CHECK(seen.r[REG_CR2] == (greg_t)address);
  CHECK(seen.r[REG_RIP] == (greg_t)fault_insn);
  CHECK(seen.r[REG_RAX] == (greg_t)address && seen.r[REG_RCX] == 2 && seen.r[REG_RDX] == 3);
  for (int r = 8; r <= 12; ++r) CHECK(seen.r[REG_R8 + r - 8] == r);
  CHECK(seen.r[REG_R13] == 113 && seen.r[REG_R14] == 14);
  CHECK((seen.r[REG_EFL] & 0x8d5) == 0x95);
  CHECK((seen.r[REG_EFL] & (kRf | 0x202)) == (kRf | 0x202));
  CHECK((seen.r[REG_CSGSFS] & 0xffff) == 0x33 && ((seen.r[REG_CSGSFS] >> 48) & 0xffff) == 0x2b);
  CHECK(seen.r[REG_RSP] - (greg_t)seen.fp_at >= 128 + 512);
  CHECK(seen.frame % 16 == 8 && seen.fp_at % 64 == 0);
  CHECK((seen.uc_flags & 6) == 6);
  for (int i = 0; i < 16; ++i) CHECK(seen.fp.xmm[9][i] == 0xff);
  CHECK(seen.fp.xmm[8][0] == 2 && seen.fp.mxcsr == 0x1f80);
  if (seen.uc_flags & 1) {
    CHECK(seen.fp.magic1 == 0x46505853 && seen.magic2 == 0x46505845);
    CHECK((seen.fp.xfeatures & 3) == 3 && seen.fp.extended_size == seen.fp.xstate_size + 4);
  }
  CHECK(seen.handler_mxcsr == 0x1f80 && seen.handler_fcw == 0x37f);
  CHECK(out.r12 == 0xabcdef && out.r14 == 114);
  CHECK((out.flags & 0x8d5) == (kZf | kOf));
  CHECK(!memcmp(out.xmm9, new_xmm9, 16));
  CHECK(out.mxcsr == 0x7f80);
  mxcsr = 0x1f80;
  asm volatile("ldmxcsr %0" ::"m"(mxcsr));
}

// One instruction between two labels that raises something; the handler goes on behind it.
#define RAISE(size, trap_is_fault, text, ...)                                                                                     \
  do {                                                                                                                            \
    memset(&seen, 0, sizeof seen);                                                                                                \
    unsigned long at;                                                                                                             \
    skip = (trap_is_fault) ? (size) : 0;                                                                                          \
    asm volatile("lea 1f(%%rip), %0\n1: " text : "=&r"(at) : __VA_ARGS__ : "r12", "cc", "memory", "xmm9", "xmm1", "xmm2"); \
    CHECK(seen.r[REG_RIP] == (greg_t)at + ((trap_is_fault) ? 0 : (size)));                                                        \
    CHECK(!(seen.r[REG_EFL] & kRf) == !(trap_is_fault));                                                                          \
    asm volatile("ldmxcsr %0" ::"m"(default_mxcsr));                                                                              \
  } while (0)

static void check_seen(int signal, int code, int trap, int error, int address_is_pc) {
  CHECK(seen.signal == signal && seen.code == code);
  CHECK(seen.r[REG_TRAPNO] == trap && seen.r[REG_ERR] == error);
  CHECK(seen.address == (address_is_pc ? (void*)seen.r[REG_RIP] : 0));
  if (seen.signal != signal || seen.code != code || seen.r[REG_TRAPNO] != trap || seen.r[REG_ERR] != error)
    printf("  got signal %d code %d trap %lld error %llx; wanted %d %d %d %x\n", seen.signal, seen.code, seen.r[REG_TRAPNO],
           seen.r[REG_ERR], signal, code, trap, error);
}

static sigjmp_buf back;
static void on_fetch(int signal, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  seen.signal = signal;
  seen.code = info->si_code;
  seen.address = info->si_addr;
  memcpy(seen.r, uc->uc_mcontext.gregs, sizeof seen.r);
  siglongjmp(back, 1);
}
static void check_jump(void* target, int code, int error) {
  if (sigsetjmp(back, 1) == 0) ((void (*)(void))target)();
  CHECK(seen.signal == SIGSEGV && seen.code == code && seen.address == target && seen.r[REG_RIP] == (greg_t)target);
  CHECK(seen.r[REG_TRAPNO] == 14 && seen.r[REG_ERR] == error);
}

// The upper halves of the YMM registers survive a signal whose handler uses them, in a loop that is interrupted anywhere.
static volatile int vector_ticks;
__attribute__((target("avx"))) static void on_vector_tick(int signal) {
  asm volatile("vpcmpeqd %%xmm0, %%xmm0, %%xmm0\n vinsertf128 $1, %%xmm0, %%ymm0, %%ymm0\n vmovaps %%ymm0, %%ymm7\n" ::: "xmm0", "xmm7");
  ++vector_ticks;
}
__attribute__((target("avx"))) static void check_avx(void) {
  struct sigaction tick = {.sa_handler = on_vector_tick};
  sigaction(SIGALRM, &tick, 0);
  struct itimerval often = {{0, 500}, {0, 500}}, never = {{0, 0}, {0, 0}};
  setitimer(ITIMER_REAL, &often, 0);
  unsigned long bad = 0;
  while (vector_ticks < 200) {
    const double start[4] = {1, 2, 3, 4}, one[4] = {1, 1, 1, 1};
    double end[4];
    long rounds = 20000;
    asm volatile(
        "vmovupd %2, %%ymm7\n vmovupd %3, %%ymm0\n 1: vaddpd %%ymm0, %%ymm7, %%ymm7\n dec %1\n jnz 1b\n vmovupd %%ymm7, %0\n vzeroupper"
        : "=m"(end), "+r"(rounds)
        : "m"(start), "m"(one)
        : "xmm0", "xmm7", "cc");
    for (int i = 0; i < 4; ++i) bad += end[i] != start[i] + 20000;
  }
  setitimer(ITIMER_REAL, &never, 0);
  CHECK(bad == 0);
}

static volatile int steps;
static volatile greg_t first_step, last_step;
static void on_step(int signal, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  if (info->si_code != TRAP_TRACE || uc->uc_mcontext.gregs[REG_TRAPNO] != 1) steps = -1000;
  if (steps++ == 0) first_step = uc->uc_mcontext.gregs[REG_RIP];
  last_step = uc->uc_mcontext.gregs[REG_RIP];
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
  const unsigned default_mxcsr = 0x1f80;
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  for (const int* s = (const int[]){SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE, 0}; *s; ++s) sigaction(*s, &action, 0);

  volatile char* page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  page[8] = 1;
  mprotect((void*)page, 4096, PROT_READ);
  munmap((void*)(page + 4096), 4096);
  for (int round = 0; round < 3; ++round) {
    check_fault((void*)0x1230, SIGSEGV, SEGV_MAPERR, 14, 6);
    check_fault((void*)(page + 8), SIGSEGV, SEGV_ACCERR, 14, 7);
    check_fault((void*)(page + 4096), SIGSEGV, SEGV_MAPERR, 14, 6);
    check_fault((void*)0x8000000000001000, SIGSEGV, SI_KERNEL, 13, 0);  // non-canonical
    check_fault((void*)0xffffffff81000000, SIGSEGV, SEGV_MAPERR, 14, 7);
  }
  FILE* file = tmpfile();
  CHECK(ftruncate(fileno(file), 100) == 0);
  char* mapped = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fileno(file), 0);
  check_fault(mapped + 4096, SIGBUS, BUS_ADRERR, 14, 6);

  RAISE(2, 1, "ud2", "r"(0));
  check_seen(SIGILL, ILL_ILLOPN, 6, 0, 1);
  RAISE(1, 0, "int3", "r"(0));
  check_seen(SIGTRAP, SI_KERNEL, 3, 0, 0);
  RAISE(2, 0, ".byte 0xcd, 3", "r"(0));
  check_seen(SIGTRAP, SI_KERNEL, 3, 0, 0);
  RAISE(2, 1, "int $0x41", "r"(0));
  check_seen(SIGSEGV, SI_KERNEL, 13, 0x41 * 8 + 2, 0);
  RAISE(1, 1, "hlt", "r"(0));
  check_seen(SIGSEGV, SI_KERNEL, 13, 0, 0);
  RAISE(2, 1, "div %1", "b"(0), "a"(5), "d"(0));
  check_seen(SIGFPE, FPE_INTDIV, 0, 0, 1);
  RAISE(3, 1, "idivq %1", "b"(-1l), "a"(INT64_MIN), "d"(-1l));
  check_seen(SIGFPE, FPE_INTDIV, 0, 0, 1);
  RAISE(4, 1, "movaps 1(%1), %%xmm1", "a"(page));
  check_seen(SIGSEGV, SI_KERNEL, 13, 0, 0);

  // SSE exceptions, one unmasked after the other.
  const struct {
    unsigned mask;
    double a, b;
    int code;
  } sse[] = {{0x1f00, 0.0, 0.0, FPE_FLTINV}, {0x1d80, 1.0, 0.0, FPE_FLTDIV}, {0x1b80, 1e308, 1e-308, FPE_FLTOVF}, {0x0f80, 1.0, 3.0, FPE_FLTRES}};
  for (int i = 0; i < 4; ++i) {
    unsigned mxcsr = sse[i].mask;
    asm volatile("ldmxcsr %0" ::"m"(mxcsr));
    asm volatile("movsd %0, %%xmm1\n movsd %1, %%xmm2" ::"m"(sse[i].a), "m"(sse[i].b) : "xmm1", "xmm2");
    RAISE(4, 1, "divsd %%xmm2, %%xmm1", "r"(0));
    check_seen(SIGFPE, sse[i].code, 19, 0, 1);
    CHECK((seen.fp.mxcsr & 0x1f80) == mxcsr);
  }
  // x87: the exception comes with the next waiting instruction.
  const uint16_t fcw = 0x37b, fcw_default = 0x37f;
  asm volatile("fninit\n fldcw %0\n fldz\n fld1\n fdivp" ::"m"(fcw));
  RAISE(1, 1, "fwait", "r"(0));
  check_seen(SIGFPE, FPE_FLTDIV, 16, 0, 1);
  CHECK((seen.fp.fsw & 0x84) == 0x84 && seen.fp.fcw == fcw);
  asm volatile("fnclex\n fninit\n fldcw %0" ::"m"(fcw_default));

  if (__builtin_cpu_supports("avx")) check_avx();

  struct sigaction step = {.sa_sigaction = on_step, .sa_flags = SA_SIGINFO};
  sigaction(SIGTRAP, &step, 0);
  unsigned long after_popf;
  asm volatile(
      "lea 1f(%%rip), %0\n pushf\n orq $0x100, (%%rsp)\n popf\n"
      "1: nop\n xor %%ecx, %%ecx\n pushf\n andq $~0x100, (%%rsp)\n popf\n nop\n"
      : "=&r"(after_popf)::"rcx", "cc", "memory");
  CHECK(steps == 5 && first_step == (greg_t)after_popf + 1);

  struct sigaction fetch = {.sa_sigaction = on_fetch, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &fetch, 0);
  check_jump((void*)0x5000, SEGV_MAPERR, 0x14);
  check_jump((void*)page, SEGV_ACCERR, 0x15);

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
  CHECK(getauxval(51 /* AT_MINSIGSTKSZ */) >= 440 + 512);
  return done();
}
