// Far transfers between 64- and 32-bit code in one process: call and return, what of the registers stays, a loop that is compiled,
// system calls and signals of the 32-bit part.
#define _GNU_SOURCE
#include <signal.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "../check.h"

static const uint8_t kCode32[] = {
    0x31, 0xc0,                    // xor %eax,%eax
    0xb9, 0x10, 0x27, 0x00, 0x00,  // mov $10000,%ecx
    0x40,                          // 1: inc %eax (a REX prefix in 64-bit code)
    0x48,                          // dec %eax
    0x83, 0xc0, 0x03,              // add $3,%eax
    0x49,                          // dec %ecx
    0x75, 0xf8,                    // jne 1b
    0x89, 0xc2,                    // mov %eax,%edx
    0xd5, 0x0a,                    // aad: undefined in 64-bit code
    0x54, 0x5b,                    // push %esp; pop %ebx
    0xcb,                          // lret
};
static const uint8_t kSyscall32[] = {0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xcb};                    // getpid, lret
static const uint8_t kFault32[] = {0x90, 0x0f, 0x0b, 0xb8, 5, 0, 0, 0, 0xcb};                 // nop, ud2, mov $5,%eax, lret
static const uint8_t kAddress32[] = {0xb9, 0xf0, 0xff, 0xff, 0xff, 0x8d, 0x41, 0x20, 0xcb};   // lea 0x20(0xfffffff0),%eax wraps

static struct {
  uint32_t offset;
  uint16_t selector;
} __attribute__((packed)) to;
static struct {
  uint64_t rax, rdx, rbx, r12, r15, xmm9, cs;
} out;
static uint64_t low_stack;

__attribute__((noinline)) static void run(uint32_t at) {
  to.offset = at;
  to.selector = 0x23;
  __asm__ volatile(
      "mov %%rsp, %%r14\n"
      "mov $0x123456789abcdef0, %%r12\n"
      "mov $0xfedcba9876543210, %%r15\n"
      "movq %%r12, %%xmm9\n"
      "mov %[stack], %%rsp\n"
      "lcall *%[to]\n"
      "mov %%r14, %%rsp\n"
      "mov %%rax, %[rax]\n mov %%rdx, %[rdx]\n mov %%rbx, %[rbx]\n mov %%r12, %[r12]\n mov %%r15, %[r15]\n movq %%xmm9, %[x]\n"
      "mov %%cs, %%eax\n mov %%rax, %[cs]\n"
      : [rax] "=m"(out.rax), [rdx] "=m"(out.rdx), [rbx] "=m"(out.rbx), [r12] "=m"(out.r12), [r15] "=m"(out.r15),
        [x] "=m"(out.xmm9), [cs] "=m"(out.cs)
      : [to] "m"(to), [stack] "m"(low_stack)
      : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "xmm9", "memory", "cc");
}

static volatile struct {
  int signal, skip;
  uint64_t rip, cs, rsp;
  uint16_t own_cs;
} seen;
static void handler(int signal, siginfo_t* info, void* context) {
  ucontext_t* uc = context;
  seen.signal = signal;
  seen.rip = (uint64_t)uc->uc_mcontext.gregs[REG_RIP];
  seen.rsp = (uint64_t)uc->uc_mcontext.gregs[REG_RSP];
  seen.cs = (uint64_t)uc->uc_mcontext.gregs[REG_CSGSFS] & 0xffff;
  uint16_t cs;
  __asm__("mov %%cs, %0" : "=r"(cs));
  seen.own_cs = cs;
  uc->uc_mcontext.gregs[REG_RIP] += seen.skip;
  (void)info;
}

int main(void) {
  char* low = mmap(0, 16384, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  CHECK(low != MAP_FAILED);
  low_stack = (uint64_t)low + 16384 - 64;
  const uint32_t code = (uint32_t)(uint64_t)low;
  memcpy(low, kCode32, sizeof kCode32);
  memcpy(low + 256, kSyscall32, sizeof kSyscall32);
  memcpy(low + 512, kFault32, sizeof kFault32);
  memcpy(low + 768, kAddress32, sizeof kAddress32);
  // Return addresses are 32 bits wide: this program is linked below 4 GiB.
  CHECK((uint64_t)&run < 0x100000000);

  for (int n = 0; n < 100; ++n) {
    run(code);
    CHECK(out.rdx == 30000 && (uint8_t)out.rax == (uint8_t)(0x30 + 0x75 * 10) && out.rbx == low_stack - 8);
    CHECK(out.r12 == 0x123456789abcdef0 && out.r15 == 0xfedcba9876543210 && out.xmm9 == 0x123456789abcdef0 && out.cs == 0x33);
  }
  run(code + 256);
  CHECK(out.rax == (uint64_t)getpid());
  run(code + 768);
  CHECK(out.rax == 0x10);

  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  static char stack[65536];
  stack_t alternate = {stack, 0, sizeof stack};
  CHECK(sigaltstack(&alternate, 0) == 0 && sigaction(SIGILL, &action, 0) == 0 && sigaction(SIGSEGV, &action, 0) == 0);
  for (int n = 0; n < 50; ++n) {
    seen.signal = 0;
    seen.skip = 2;
    run(code + 512);
    CHECK(seen.signal == SIGILL && seen.rip == code + 513 && seen.cs == 0x23 && seen.rsp == low_stack - 8 && seen.own_cs == 0x33);
    CHECK(out.rax == 5 && out.r12 == 0x123456789abcdef0 && out.xmm9 == 0x123456789abcdef0 && out.cs == 0x33);
  }

  // A selector of data: #GP at the call.
  to.selector = 0x2b;
  seen.signal = 0;
  seen.skip = 2;
  __asm__ volatile("mov %0, %%rax\n lcall *(%%rax)\n" : : "r"(&to) : "rax", "memory");
  CHECK(seen.signal == SIGSEGV && seen.cs == 0x33);
  return done();
}
