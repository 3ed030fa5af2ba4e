/* Runs under qemu-aarch64 (or on hardware): simd_oracle CASES RESULTS. Each case's word on its state; results as SimdState. */
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "simd_case.h"

struct SimdState in, out;
uint64_t fpcr, code_address, saved[32];
void run_word(void);

__asm__(
    ".text\n.globl run_word\nrun_word:\n"
    "  ldr x9, =saved\n"
    "  stp x19, x20, [x9]\n  stp x21, x22, [x9, #16]\n  stp x23, x24, [x9, #32]\n  stp x25, x26, [x9, #48]\n"
    "  stp x27, x28, [x9, #64]\n  stp x29, x30, [x9, #80]\n"
    "  stp d8, d9, [x9, #96]\n  stp d10, d11, [x9, #112]\n  stp d12, d13, [x9, #128]\n  stp d14, d15, [x9, #144]\n"
    "  ldr x28, =in\n  mov x29, x28\n"
    "  ld1 {v0.2d-v3.2d}, [x29], #64\n  ld1 {v4.2d-v7.2d}, [x29], #64\n  ld1 {v8.2d-v11.2d}, [x29], #64\n"
    "  ld1 {v12.2d-v15.2d}, [x29], #64\n  ld1 {v16.2d-v19.2d}, [x29], #64\n  ld1 {v20.2d-v23.2d}, [x29], #64\n"
    "  ld1 {v24.2d-v27.2d}, [x29], #64\n  ld1 {v28.2d-v31.2d}, [x29], #64\n"
    "  ldp x0, x1, [x29, #224]\n  msr nzcv, x0\n  msr fpsr, xzr\n"
    "  ldr x0, =fpcr\n  ldr x0, [x0]\n  msr fpcr, x0\n"
    "  ldr x30, =code_address\n  ldr x30, [x30]\n"
    "  ldp x0, x1, [x29]\n  ldp x2, x3, [x29, #16]\n  ldp x4, x5, [x29, #32]\n  ldp x6, x7, [x29, #48]\n"
    "  ldp x8, x9, [x29, #64]\n  ldp x10, x11, [x29, #80]\n  ldp x12, x13, [x29, #96]\n  ldp x14, x15, [x29, #112]\n"
    "  ldp x16, x17, [x29, #128]\n  ldp x18, x19, [x29, #144]\n  ldp x20, x21, [x29, #160]\n  ldp x22, x23, [x29, #176]\n"
    "  ldp x24, x25, [x29, #192]\n  ldp x26, x27, [x29, #208]\n"
    "  blr x30\n"
    "  ldr x28, =out\n  mov x29, x28\n"
    "  st1 {v0.2d-v3.2d}, [x29], #64\n  st1 {v4.2d-v7.2d}, [x29], #64\n  st1 {v8.2d-v11.2d}, [x29], #64\n"
    "  st1 {v12.2d-v15.2d}, [x29], #64\n  st1 {v16.2d-v19.2d}, [x29], #64\n  st1 {v20.2d-v23.2d}, [x29], #64\n"
    "  st1 {v24.2d-v27.2d}, [x29], #64\n  st1 {v28.2d-v31.2d}, [x29], #64\n"
    "  stp x0, x1, [x29]\n  stp x2, x3, [x29, #16]\n  stp x4, x5, [x29, #32]\n  stp x6, x7, [x29, #48]\n"
    "  stp x8, x9, [x29, #64]\n  stp x10, x11, [x29, #80]\n  stp x12, x13, [x29, #96]\n  stp x14, x15, [x29, #112]\n"
    "  stp x16, x17, [x29, #128]\n  stp x18, x19, [x29, #144]\n  stp x20, x21, [x29, #160]\n  stp x22, x23, [x29, #176]\n"
    "  stp x24, x25, [x29, #192]\n  stp x26, x27, [x29, #208]\n"
    "  mrs x0, nzcv\n  mrs x1, fpsr\n  stp x0, x1, [x29, #224]\n  msr fpcr, xzr\n"
    ".globl restore\nrestore:\n"
    "  ldr x9, =saved\n"
    "  ldp x19, x20, [x9]\n  ldp x21, x22, [x9, #16]\n  ldp x23, x24, [x9, #32]\n  ldp x25, x26, [x9, #48]\n"
    "  ldp x27, x28, [x9, #64]\n  ldp x29, x30, [x9, #80]\n"
    "  ldp d8, d9, [x9, #96]\n  ldp d10, d11, [x9, #112]\n  ldp d12, d13, [x9, #128]\n  ldp d14, d15, [x9, #144]\n"
    "  ret\n");

static sigjmp_buf escape;
static void on_illegal(int signal) {
  (void)signal;
  siglongjmp(escape, 1);
}

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  FILE *cases = fopen(argv[1], "rb"), *results = fopen(argv[2], "wb");
  if (!cases || !results) return 2;
  fseek(cases, 0, SEEK_END);
  const size_t count = (size_t)ftell(cases) / sizeof(struct SimdCase);
  rewind(cases);
  struct SimdCase* c = malloc(count * sizeof *c);
  if (fread(c, sizeof *c, count, cases) != count) return 2;
  uint32_t* code = mmap(0, count * 8 + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (size_t i = 0; i < count; ++i) {
    code[2 * i] = c[i].word;
    code[2 * i + 1] = 0xd65f03c0; /* ret */
  }
  mprotect(code, count * 8 + 4096, PROT_READ | PROT_EXEC);
  struct sigaction action = {.sa_handler = on_illegal, .sa_flags = SA_NODEFER};
  sigaction(SIGILL, &action, 0);
  for (volatile size_t i = 0; i < count; ++i) {
    make_state(&in, c[i].seed);
    fpcr = c[i].fpcr;
    code_address = (uint64_t)(code + 2 * i);
    memset(&out, 0, sizeof out);
    if (sigsetjmp(escape, 0)) {
      __asm__ volatile("msr fpcr, xzr");
      memset(&out, 0, sizeof out);
      out.illegal = 1;
    } else {
      run_word();
    }
    fwrite(&out, sizeof out, 1, results);
  }
  return fclose(results) != 0;
}
