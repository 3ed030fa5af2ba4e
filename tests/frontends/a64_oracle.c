// The oracle of the A64 instruction tests: an AArch64 Linux program (run it under qemu-aarch64 or on real hardware) that reads
// lines
//   WORD name=value …
// runs the one instruction on the state they name (see README.md) and prints what changed, or the signal.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { DATA = 0x100000, DATA_SIZE = 0x2000, CODE = 0x200000, INSN = 0x200100 };

typedef struct {
  uint64_t x[32];  // 31: sp
  uint64_t v[32][2];
  uint64_t nzcv, fpcr, fpsr, host_sp;
} State;

State in, out;
extern void run_insn(void);
extern char after_insn[];

__asm__(
    ".text\n.globl run_insn\nrun_insn:\n"
    "  sub sp, sp, #256\n"
    "  stp x19, x20, [sp]\n  stp x21, x22, [sp, #16]\n  stp x23, x24, [sp, #32]\n"
    "  stp x25, x26, [sp, #48]\n  stp x27, x28, [sp, #64]\n  stp x29, x30, [sp, #80]\n"
    "  stp d8, d9, [sp, #96]\n  stp d10, d11, [sp, #112]\n  stp d12, d13, [sp, #128]\n  stp d14, d15, [sp, #144]\n"
    "  ldr x30, =in\n"
    "  add x29, x30, #256\n"
    "  ld1 {v0.2d-v3.2d}, [x29], #64\n  ld1 {v4.2d-v7.2d}, [x29], #64\n  ld1 {v8.2d-v11.2d}, [x29], #64\n"
    "  ld1 {v12.2d-v15.2d}, [x29], #64\n  ld1 {v16.2d-v19.2d}, [x29], #64\n  ld1 {v20.2d-v23.2d}, [x29], #64\n"
    "  ld1 {v24.2d-v27.2d}, [x29], #64\n  ld1 {v28.2d-v31.2d}, [x29], #64\n"
    "  ldp x0, x1, [x29]\n  msr nzcv, x0\n  msr fpcr, x1\n  ldr x0, [x29, #16]\n  msr fpsr, x0\n"
    "  mov x0, sp\n  str x0, [x29, #24]\n"
    "  ldr x0, [x30, #248]\n  mov sp, x0\n"
    "  ldp x0, x1, [x30]\n  ldp x2, x3, [x30, #16]\n  ldp x4, x5, [x30, #32]\n  ldp x6, x7, [x30, #48]\n"
    "  ldp x8, x9, [x30, #64]\n  ldp x10, x11, [x30, #80]\n  ldp x12, x13, [x30, #96]\n  ldp x14, x15, [x30, #112]\n"
    "  ldp x16, x17, [x30, #128]\n  ldp x18, x19, [x30, #144]\n  ldp x20, x21, [x30, #160]\n  ldp x22, x23, [x30, #176]\n"
    "  ldp x24, x25, [x30, #192]\n  ldp x26, x27, [x30, #208]\n  ldp x28, x29, [x30, #224]\n"
    "  mov x30, #0x200000\n  add x30, x30, #0x100\n  br x30\n"
    ".globl after_insn\nafter_insn:\n"
    "  ldr x30, =out\n"
    "  stp x0, x1, [x30]\n  stp x2, x3, [x30, #16]\n  stp x4, x5, [x30, #32]\n  stp x6, x7, [x30, #48]\n"
    "  stp x8, x9, [x30, #64]\n  stp x10, x11, [x30, #80]\n  stp x12, x13, [x30, #96]\n  stp x14, x15, [x30, #112]\n"
    "  stp x16, x17, [x30, #128]\n  stp x18, x19, [x30, #144]\n  stp x20, x21, [x30, #160]\n  stp x22, x23, [x30, #176]\n"
    "  stp x24, x25, [x30, #192]\n  stp x26, x27, [x30, #208]\n  stp x28, x29, [x30, #224]\n"
    "  mov x0, sp\n  str x0, [x30, #248]\n"
    "  add x29, x30, #256\n"
    "  st1 {v0.2d-v3.2d}, [x29], #64\n  st1 {v4.2d-v7.2d}, [x29], #64\n  st1 {v8.2d-v11.2d}, [x29], #64\n"
    "  st1 {v12.2d-v15.2d}, [x29], #64\n  st1 {v16.2d-v19.2d}, [x29], #64\n  st1 {v20.2d-v23.2d}, [x29], #64\n"
    "  st1 {v24.2d-v27.2d}, [x29], #64\n  st1 {v28.2d-v31.2d}, [x29], #64\n"
    "  mrs x0, nzcv\n  mrs x1, fpcr\n  stp x0, x1, [x29]\n  mrs x0, fpsr\n  str x0, [x29, #16]\n"
    "  msr fpcr, xzr\n"
    "  ldr x30, =in\n  ldr x0, [x30, #792]\n  mov sp, x0\n"
    "  ldp x19, x20, [sp]\n  ldp x21, x22, [sp, #16]\n  ldp x23, x24, [sp, #32]\n"
    "  ldp x25, x26, [sp, #48]\n  ldp x27, x28, [sp, #64]\n  ldp x29, x30, [sp, #80]\n"
    "  ldp d8, d9, [sp, #96]\n  ldp d10, d11, [sp, #112]\n  ldp d12, d13, [sp, #128]\n  ldp d14, d15, [sp, #144]\n"
    "  add sp, sp, #256\n  ret\n  .ltorg\n");

static sigjmp_buf back;
static volatile int signal_seen;
static void on_signal(int number) {
  signal_seen = number;
  siglongjmp(back, 1);
}

static uint8_t pattern(unsigned i) { return (uint8_t)(i * 7 + (i >> 8) * 13 + 3); }

int main(void) {
  uint8_t* data = mmap((void*)DATA, DATA_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  uint32_t* code =
      mmap((void*)CODE, 0x1000, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  static uint8_t stack[65536];
  stack_t alternate = {.ss_sp = stack, .ss_size = sizeof stack};
  sigaltstack(&alternate, NULL);
  struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_NODEFER};
  sigaction(SIGILL, &action, NULL);
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  sigaction(SIGTRAP, &action, NULL);
  static char line[65536];
  while (fgets(line, sizeof line, stdin)) {
    char* save = NULL;
    char* token = strtok_r(line, " \n", &save);
    if (!token) continue;
    const uint32_t word = (uint32_t)strtoul(token, NULL, 16);
    memset(&in, 0, sizeof in);
    for (unsigned i = 0; i < 30; ++i) in.x[i] = 0xdead0000beef0000u | i;
    in.x[31] = DATA + 0x800;
    for (unsigned i = 0; i < 32; ++i) {
      in.v[i][0] = 0x7766554433221100u + i * 0x0101010101010101u;
      in.v[i][1] = 0xffeeddccbbaa9988u - i * 0x0101010101010101u;
    }
    while ((token = strtok_r(NULL, " \n", &save))) {
      char* equals = strchr(token, '=');
      const uint64_t value = strtoull(equals + 1, NULL, 16);
      if (!strncmp(token, "nzcv", 4)) in.nzcv = value << 28;
      else if (!strncmp(token, "fpcr", 4)) in.fpcr = value;
      else if (!strncmp(token, "fpsr", 4)) in.fpsr = value;
      else if (!strncmp(token, "sp", 2)) in.x[31] = value;
      else if (token[0] == 'x') in.x[atoi(token + 1)] = value;
      else if (token[0] == 'v') {
        const unsigned n = (unsigned)atoi(token + 1);
        in.v[n][0] = value;
        in.v[n][1] = 0;
        const char* colon = strchr(equals, ':');  // v1=high:low
        if (colon) {
          in.v[n][1] = value;
          in.v[n][0] = strtoull(colon + 1, NULL, 16);
        }
      }
    }
    for (unsigned i = 0; i < DATA_SIZE; ++i) data[i] = pattern(i);
    uint32_t* insn = (uint32_t*)INSN;
    insn[0] = word;
    insn[1] = 0x5800005e;  // ldr x30, .+8
    insn[2] = 0xd61f03c0;  // br x30
    const uint64_t after = (uint64_t)after_insn;
    memcpy(insn + 3, &after, 8);
    __builtin___clear_cache((char*)code, (char*)code + 0x1000);
    signal_seen = 0;
    if (!sigsetjmp(back, 1)) run_insn();
    if (signal_seen) {
      __asm__ volatile("msr fpcr, xzr");
      printf("signal=%s\n", signal_seen == SIGILL    ? "ill"
                            : signal_seen == SIGSEGV ? "segv"
                            : signal_seen == SIGBUS  ? "bus"
                                                     : "trap");
      continue;
    }
    const char* space = "";
#define SHOW(...) (printf("%s", space), space = " ", printf(__VA_ARGS__))
    for (unsigned i = 0; i < 30; ++i)
      if (in.x[i] != out.x[i]) SHOW("x%u=%llx", i, (unsigned long long)out.x[i]);
    if (in.x[31] != out.x[31]) SHOW("sp=%llx", (unsigned long long)out.x[31]);
    for (unsigned i = 0; i < 32; ++i)
      if (memcmp(in.v[i], out.v[i], 16))
        SHOW("v%u=%llx:%llx", i, (unsigned long long)out.v[i][1], (unsigned long long)out.v[i][0]);
    if (in.nzcv != out.nzcv) SHOW("nzcv=%llx", (unsigned long long)out.nzcv >> 28);
    if (in.fpcr != out.fpcr) SHOW("fpcr=%llx", (unsigned long long)out.fpcr);
    if (in.fpsr != out.fpsr) SHOW("fpsr=%llx", (unsigned long long)out.fpsr);
    for (unsigned i = 0; i < DATA_SIZE; ++i) {
      if (data[i] == pattern(i)) continue;
      unsigned end = i;
      while (end < DATA_SIZE && data[end] != pattern(end)) ++end;
      SHOW("m%x=", DATA + i);
      for (; i < end; ++i) printf("%02x", data[i]);
    }
    printf("\n");
  }
  return 0;
}
