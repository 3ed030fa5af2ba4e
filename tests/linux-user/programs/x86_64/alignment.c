// EFLAGS.AC: POPF sets and clears it, a misaligned access raises #AC, which Linux makes SIGBUS with BUS_ADRALN; aligned ones go on.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <ucontext.h>

#include "../check.h"

enum { kAc = 1 << 18, kId = 1 << 21 };
#ifdef __x86_64__
#define PUSHF "pushfq\n"
#define POPF "popfq\n"
#define LOW "%w"
enum { kIp = REG_RIP };
#else
#define PUSHF "pushfl\n"
#define POPF "popfl\n"
enum { kIp = REG_EIP };
#endif

static volatile struct {
  int signal, code, trap, error;
  void* address;
  greg_t ip, flags;
} seen;

// Takes AC away: its own code need not be free of misaligned accesses.
static void handler(int signal, siginfo_t* info, void* context) {
  asm volatile(PUSHF "andl $~0x40000, (%%" 
#ifdef __x86_64__
               "rsp"
#else
               "esp"
#endif
               ")\n" POPF ::: "memory", "cc");
  ucontext_t* uc = context;
  seen.signal = signal;
  seen.code = info->si_code;
  seen.address = info->si_addr;
  seen.trap = uc->uc_mcontext.gregs[REG_TRAPNO];
  seen.error = uc->uc_mcontext.gregs[REG_ERR];
  seen.ip = uc->uc_mcontext.gregs[kIp];
  seen.flags = uc->uc_mcontext.gregs[REG_EFL];
  uc->uc_mcontext.gregs[REG_EFL] &= ~kAc;
}

static unsigned long flags(void) {
  unsigned long f;
  asm volatile(PUSHF "pop %0" : "=r"(f));
  return f;
}
static void set_flags(unsigned long f) { asm volatile("push %0\n" POPF ::"r"(f) : "cc", "memory"); }

static char memory[64] __attribute__((aligned(64)));

int main(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  CHECK(sigaction(SIGBUS, &action, 0) == 0);
  CHECK(sigaction(SIGSEGV, &action, 0) == 0);
  CHECK(!(flags() & kAc));
  set_flags(flags() | kId);
  CHECK(flags() & kId);

  // The bit, and an aligned access under it.
  unsigned long set, value;
  asm volatile(PUSHF "orl $0x40000, (%%"
#ifdef __x86_64__
               "rsp)\n popfq\n movl (%2), %k1\n pushfq\n popq %0\n pushq %0\n andl $~0x40000, (%%rsp)\n popfq"
#else
               "esp)\n popfl\n movl (%2), %k1\n pushfl\n popl %0\n pushl %0\n andl $~0x40000, (%%esp)\n popfl"
#endif
               : "=&r"(set), "=&r"(value)
               : "r"(memory + 4)
               : "memory", "cc");
  CHECK(set & kAc);
  CHECK(!(flags() & kAc));

  // In a loop, so that it is compiled: #AC at the first misaligned one, tried again without AC.
  for (int n = 0; n < 300; ++n) {
    unsigned long at = (unsigned long)memory, sum = 0, place;
    seen.signal = 0;
    asm volatile(PUSHF "orl $0x40000, (%%"
#ifdef __x86_64__
                 "rsp)\n lea 1f(%%rip), %2\n popfq\n"
#else
                 "esp)\n mov $1f, %2\n popfl\n"
#endif
                 "2: mov (%1), %k0\n add $4, %1\n mov %1, %0\n and $63, %0\n cmp $24, %0\n jne 2b\n"
                 "1: movw 3(%1), %w0\n"
                 : "+r"(sum), "+r"(at), "=&r"(place)
                 :
                 : "memory", "cc");
    CHECK(!(flags() & kAc));
    CHECK(seen.signal == SIGBUS && seen.code == BUS_ADRALN && seen.address == 0);
    CHECK(seen.trap == 17 && seen.error == 0 && (unsigned long)seen.ip == place && (seen.flags & kAc));
  }
  return done();
}
