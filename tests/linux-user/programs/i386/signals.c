// Both signal frames of i386: registers, flags, segments, trap number, error code, CR2, FSAVE and FXSAVE images, code to return by,
// arguments in registers; what the handler changes takes effect. Handlers are installed by raw calls, with and without restorer.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../check.h"

enum { kZf = 0x40, kRf = 0x10000, kOf = 0x800, kDf = 0x400 };
struct context {
  uint16_t gs, gsh, fs, fsh, es, esh, ds, dsh;
  uint32_t di, si, bp, sp, bx, dx, cx, ax, trapno, err, ip;
  uint16_t cs, csh;
  uint32_t flags, sp_at_signal;
  uint16_t ss, ssh;
  uint32_t fpstate, oldmask, cr2;
};
struct fpstate {
  uint32_t cw, sw, tag, ipoff, cssel, dataoff, datasel;
  uint8_t st[8][10];
  uint16_t status, magic;
  uint32_t env[6], mxcsr, reserved;
  uint8_t fxst[8][16], xmm[8][16], padding[176];
  uint32_t magic1, extended_size;
  uint64_t xfeatures;
  uint32_t xstate_size, more[7];
};
_Static_assert(sizeof(struct context) == 88 && sizeof(struct fpstate) == 624, "as the kernel's");
struct old_frame {
  uint32_t pretcode, sig;
  struct context sc;
  uint8_t unused[624];
  uint32_t extramask;
  uint8_t retcode[8];
};
struct rt_frame {
  uint32_t pretcode, sig, pinfo, puc;
  uint8_t info[128];
  uint32_t flags, link, stack_sp, stack_flags, stack_size;
  struct context sc;
  uint32_t mask[2];
  uint8_t retcode[8];
};

static struct {
  int calls;
  uint32_t sig, eax, edx, ecx, esp, eflags;
  uint16_t cs, ss, ds, es;
  struct context sc;
  struct fpstate fp;
  uint32_t magic2, pretcode, pinfo, puc, uc_flags, mask0, mask1;
  int32_t info[5];
  uint8_t retcode[8];
  uint32_t handler_mxcsr;
  uint16_t handler_fcw;
} seen;
static int skip, change_fp;

// Handlers begin here, with everything as the kernel left it.
void old_handler(void), rt_handler(void);
asm(".text\n"
    "old_handler: push $0\n jmp 1f\n"
    "rt_handler: push $1\n"
    "1: pushf\n push %ecx\n push %edx\n push %eax\n push %esp\n call on_frame\n add $24,%esp\n ret\n");
struct entry {
  uint32_t eax, edx, ecx, eflags, rt;
};
__attribute__((used)) static void on_frame(struct entry* e) {
  asm volatile("stmxcsr %0\n fnstcw %1" : "=m"(seen.handler_mxcsr), "=m"(seen.handler_fcw));
  asm volatile("mov %%cs,%0\n mov %%ss,%1\n mov %%ds,%2\n mov %%es,%3" : "=m"(seen.cs), "=m"(seen.ss), "=m"(seen.ds), "=m"(seen.es) : : "memory");
  ++seen.calls;
  seen.eax = e->eax;
  seen.edx = e->edx;
  seen.ecx = e->ecx;
  seen.eflags = e->eflags;
  seen.esp = (uint32_t)(e + 1);
  struct context* sc;
  if (e->rt) {
    struct rt_frame* f = (struct rt_frame*)seen.esp;
    sc = &f->sc;
    seen.sig = f->sig;
    seen.pretcode = f->pretcode;
    seen.pinfo = f->pinfo;
    seen.puc = f->puc;
    seen.uc_flags = f->flags;
    seen.mask0 = f->mask[0];
    seen.mask1 = f->mask[1];
    memcpy(seen.info, f->info, sizeof seen.info);
    memcpy(seen.retcode, f->retcode, 8);
  } else {
    struct old_frame* f = (struct old_frame*)seen.esp;
    sc = &f->sc;
    seen.sig = f->sig;
    seen.pretcode = f->pretcode;
    seen.mask0 = f->sc.oldmask;
    seen.mask1 = f->extramask;
    memcpy(seen.retcode, f->retcode, 8);
  }
  seen.sc = *sc;
  struct fpstate* fp = (struct fpstate*)sc->fpstate;
  memcpy(&seen.fp, fp, sizeof seen.fp);
  if (fp->magic1 == 0x46505853) memcpy(&seen.magic2, (char*)fp + 112 + fp->xstate_size, 4);
  sc->di = 0xabcdef;
  sc->flags = (sc->flags & ~0x8d5) | kZf | kOf;
  sc->ip += skip;
  if (change_fp) {
    memset(fp->xmm[6], 0x5a, 16);
    fp->mxcsr |= 0x6000;
    fp->st[0][7] ^= 0x40;  // 1.0 becomes 1.5 in the FSAVE image; the other copy of the registers does not count
    fp->cw = 0xffff0c7f;
  }
}

struct raw_action {
  void (*handler)(void);
  uint32_t flags;
  void* restorer;
  uint32_t mask[2];
};
void restore(void), restore_rt(void);
asm("restore: pop %eax\n mov $119,%eax\n int $0x80\n restore_rt: mov $173,%eax\n int $0x80\n");
static void install(int signal, int rt, int restorer) {
  struct raw_action a = {rt ? rt_handler : old_handler, (rt ? SA_SIGINFO : 0) | (restorer ? 0x04000000 : 0),
                         restorer ? (rt ? (void*)restore_rt : (void*)restore) : 0, {1u << (SIGUSR2 - 1), 0}};
  CHECK(syscall(SYS_rt_sigaction, signal, &a, 0, 8) == 0);
}

extern char fault_insn[];
struct out {
  uint32_t di, dx, flags, pad;
  uint8_t xmm6[16];
  uint32_t mxcsr;
  uint16_t cw;
  long double st0;
};

__attribute__((noinline)) static void fault_at(void* address, struct out* out) {
  asm volatile(
      "push %%ebp\n fninit\n fld1\n"
      "mov $2, %%ecx\n mov $3, %%edx\n mov $0x1111, %%edi\n mov $0x5555, %%ebp\n"
      "pcmpeqd %%xmm6, %%xmm6\n movd %%ecx, %%xmm5\n"
      "cmp %%edx, %%ecx\n"  // 2 - 3: C S A P
      ".globl fault_insn\nfault_insn: mov %%ecx, (%%eax)\n"
      "lea 100(%%edx), %%edx\n"
      "mov %%edi, 0(%%esi)\n mov %%edx, 4(%%esi)\n pushf\n pop %%edi\n mov %%edi, 8(%%esi)\n"
      "movdqu %%xmm6, 16(%%esi)\n stmxcsr 32(%%esi)\n fnstcw 36(%%esi)\n fstpt %c2(%%esi)\n fninit\n pop %%ebp\n"
      : "+a"(address)
      : "S"(out), "i"(__builtin_offsetof(struct out, st0))
      : "ecx", "edx", "edi", "cc", "memory");
}

static void check_fault(void* address, int signal, int code, int trap, int error, int rt, int restorer) {
  struct out out = {0};
  uint32_t mxcsr = 0x1f80;
  sigset_t block, before;
  sigemptyset(&block);
  sigaddset(&block, SIGRTMIN + 5);
  sigaddset(&block, SIGHUP);
  sigprocmask(SIG_SETMASK, &block, &before);
  install(signal, rt, restorer);
  asm volatile("ldmxcsr %0" ::"m"(mxcsr));
  memset(&seen, 0, sizeof seen);
  skip = 2;
  change_fp = 1;
  fault_at(address, &out);
  asm volatile("ldmxcsr %0" ::"m"(mxcsr));
  change_fp = 0;
  CHECK(seen.calls == 1 && seen.sig == (uint32_t)signal && seen.eax == (uint32_t)signal);
  CHECK(((seen.esp + 4) & 15) == 0 && ((seen.sc.fpstate + 112) & 63) == 0);
  CHECK((seen.eflags & (kDf | kRf | 0x100)) == 0 && (seen.eflags & 0x202) == 0x202);
  CHECK(seen.cs == 0x23 && seen.ss == 0x2b && seen.ds == 0x2b && seen.es == 0x2b);
  if (rt) {
    CHECK(seen.pinfo == seen.esp + 16 && seen.puc == seen.esp + 144 && seen.edx == seen.pinfo && seen.ecx == seen.puc);
    CHECK(seen.info[0] == signal && seen.info[1] == 0 && seen.info[2] == code && seen.info[3] == (trap == 14 ? (int)address : 0));
    CHECK(!memcmp(seen.retcode, "\xb8\xad\0\0\0\xcd\x80\0", 8));
  } else {
    CHECK(seen.edx == 0 && seen.ecx == 0);
    CHECK(!memcmp(seen.retcode, "\x58\xb8\x77\0\0\0\xcd\x80", 8));
  }
  if (restorer) CHECK(seen.pretcode == (uint32_t)(rt ? restore_rt : restore));
  CHECK(seen.mask0 == 1u << (SIGHUP - 1) && seen.mask1 == 1u << (SIGRTMIN + 5 - 33));
  CHECK(seen.sc.trapno == (uint32_t)trap && seen.sc.err == (uint32_t)error);
  if (trap == 14) CHECK(seen.sc.cr2 == (uint32_t)address);
  CHECK(seen.sc.ip == (uint32_t)fault_insn && seen.sc.ax == (uint32_t)address && seen.sc.cx == 2 && seen.sc.dx == 3);
  CHECK(seen.sc.di == 0x1111 && seen.sc.si == (uint32_t)&out && seen.sc.bp == 0x5555 && seen.sc.sp == seen.sc.sp_at_signal);
  CHECK(seen.sc.cs == 0x23 && seen.sc.ss == 0x2b && seen.sc.ds == 0x2b && seen.sc.es == 0x2b && seen.sc.gs >= 0x63);
  CHECK((seen.sc.flags & 0x8d5) == 0x95 && (seen.sc.flags & (kRf | 0x202)) == (kRf | 0x202));
  CHECK(seen.sc.oldmask == 1u << (SIGHUP - 1));
  static const uint8_t one[10] = {0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f};
  CHECK(seen.fp.cw == 0xffff037f && (seen.fp.sw & 0xffff3800) == 0xffff3800 && seen.fp.tag == 0xffff3fff);
  CHECK(!memcmp(seen.fp.st[0], one, 10) && !memcmp(seen.fp.fxst[0], one, 10));
  CHECK((seen.fp.status & 0x3800) == 0x3800 && seen.fp.magic == 0);
  CHECK((seen.fp.cssel & 0xffff) == 0x23 && seen.fp.datasel == 0xffff002b);
  CHECK(seen.fp.mxcsr == 0x1f80 && seen.fp.xmm[5][0] == 2 && seen.fp.xmm[6][15] == 0xff);
  if (seen.uc_flags & 1) {
    CHECK(seen.fp.magic1 == 0x46505853 && seen.magic2 == 0x46505845 && (seen.fp.xfeatures & 3) == 3);
    CHECK(seen.fp.extended_size == seen.fp.xstate_size + 116);
  }
  CHECK(seen.handler_mxcsr == 0x1f80 && seen.handler_fcw == 0x37f);
  CHECK(out.di == 0xabcdef && out.dx == 103 && (out.flags & 0x8d5) == (kZf | kOf));
  CHECK(out.xmm6[0] == 0x5a && out.xmm6[15] == 0x5a && out.mxcsr == 0x7f80);
  CHECK(out.st0 == 1.5L && out.cw == 0xc7f);
  sigset_t now;
  sigprocmask(SIG_SETMASK, &before, &now);
  CHECK(sigismember(&now, SIGHUP) == 1 && sigismember(&now, SIGRTMIN + 5) == 1 && sigismember(&now, SIGUSR2) == 0);
}

#define RAISE(size, is_fault, text)                                                                            \
  do {                                                                                                         \
    memset(&seen, 0, sizeof seen);                                                                             \
    uint32_t at, c = 0, d = 0, a = 1;                                                                          \
    skip = (is_fault) ? (size) : 0;                                                                            \
    asm volatile("mov $1f, %0\n1: " text : "=&S"(at), "+c"(c), "+d"(d), "+a"(a) : : "edi", "cc", "memory");    \
    CHECK(seen.calls == 1 && seen.sc.ip == at + ((is_fault) ? 0 : (size)));                                    \
    CHECK(!(seen.sc.flags & kRf) == !(is_fault));                                                              \
  } while (0)
static void check_seen(int signal, int code, int trap, int error, int address_is_pc) {
  CHECK(seen.info[0] == signal && seen.info[2] == code && seen.sc.trapno == (uint32_t)trap && seen.sc.err == (uint32_t)error);
  CHECK(seen.info[3] == (address_is_pc ? (int)seen.sc.ip : 0));
  if (seen.info[0] != signal || seen.info[2] != code || seen.sc.trapno != (uint32_t)trap || seen.sc.err != (uint32_t)error)
    printf("  got signal %d code %d trap %u error %x; wanted %d %d %d %x\n", seen.info[0], seen.info[2], seen.sc.trapno, seen.sc.err,
           signal, code, trap, error);
}

static char stack[65536];
static volatile int on_stack;
static void stack_handler(int signal) {
  char here;
  stack_t now;
  sigaltstack(0, &now);
  on_stack = &here >= stack && &here < stack + sizeof stack && (now.ss_flags & SS_ONSTACK);
}

static volatile int hits;
static void count(int signal) { ++hits; }

int main(void) {
  volatile char* page = mmap(0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  page[8] = 1;
  mprotect((void*)page, 4096, PROT_READ);
  munmap((void*)(page + 4096), 4096);
  for (int rt = 0; rt < 2; ++rt)
    for (int restorer = 0; restorer < 2; ++restorer) {
      check_fault((void*)(page + 8), SIGSEGV, SEGV_ACCERR, 14, 7, rt, restorer);
      check_fault((void*)(page + 4096 + 16), SIGSEGV, SEGV_MAPERR, 14, 6, rt, restorer);
      check_fault((void*)0x10, SIGSEGV, SEGV_MAPERR, 14, 6, rt, restorer);
    }

  for (const int* s = (const int[]){SIGSEGV, SIGILL, SIGTRAP, SIGBUS, SIGFPE, 0}; *s; ++s) install(*s, 1, 0);
  RAISE(2, 1, "ud2");
  check_seen(SIGILL, ILL_ILLOPN, 6, 0, 1);
  RAISE(1, 0, "int3");
  check_seen(SIGTRAP, SI_KERNEL, 3, 0, 0);
  RAISE(2, 1, "divl %%ecx");
  check_seen(SIGFPE, FPE_INTDIV, 0, 0, 1);
  RAISE(1, 1, "hlt");
  check_seen(SIGSEGV, SI_KERNEL, 13, 0, 0);
  RAISE(2, 1, "int $0x81");
  check_seen(SIGSEGV, SI_KERNEL, 13, 0x81 * 8 + 2, 0);
  // A selector beyond all tables.
  memset(&seen, 0, sizeof seen);
  skip = 2;
  asm volatile("mov %0, %%fs" ::"r"(0x7ff8) : "memory");
  CHECK(seen.info[0] == SIGSEGV && seen.sc.trapno == 13 && seen.sc.err == 0x7ff8);

  // The alternate stack, and a system call that a signal interrupts or has begun again.
  sigaltstack(&(stack_t){.ss_sp = stack, .ss_size = sizeof stack}, 0);
  sigaction(SIGUSR1, &(struct sigaction){.sa_handler = stack_handler, .sa_flags = SA_ONSTACK}, 0);
  raise(SIGUSR1);
  CHECK(on_stack == 1);
  stack_t now;
  CHECK(sigaltstack(0, &now) == 0 && now.ss_flags == 0 && now.ss_sp == stack && now.ss_size == sizeof stack);
  int pipes[2];
  char byte;
  CHECK(pipe(pipes) == 0);
  for (int restart = 0; restart < 2; ++restart) {
    sigaction(SIGALRM, &(struct sigaction){.sa_handler = count, .sa_flags = restart ? SA_RESTART : 0}, 0);
    hits = 0;
    ualarm(20000, 0);
    if (restart && fork() == 0) {
      usleep(100000);
      _exit(write(pipes[1], "x", 1) != 1);
    }
    errno = 0;
    const long n = read(pipes[0], &byte, 1);
    CHECK(hits == 1);
    CHECK(restart ? n == 1 && byte == 'x' : n == -1 && errno == EINTR);
  }

  return done();
}
