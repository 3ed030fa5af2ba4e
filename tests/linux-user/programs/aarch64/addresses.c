// Addresses whose top byte is a tag (ignored by loads, stores and fetches), and addresses that no program has.
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

#include "../check.h"

static sigjmp_buf back;
static void on_fault(int signal) { siglongjmp(back, signal); }

static int faults(uint64_t address, int write) {
  const int signal = sigsetjmp(back, 1);
  if (signal) return signal;
  if (write) *(volatile uint64_t*)address = 1;
  else (void)*(volatile uint64_t*)address;
  return 0;
}

static void* tagged(void* p, uint64_t tag) { return (void*)((uint64_t)p | tag << 56); }
static int add(int a, int b) { return a + b; }

int main(void) {
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
  for (int bit = 46; bit < 56; ++bit)
    for (int write = 0; write < 2; ++write) {
      CHECK(faults(UINT64_C(1) << bit, write) == SIGSEGV);
      CHECK(faults((UINT64_C(1) << bit) + 0x123456789, write) == SIGSEGV);
    }
  CHECK(faults(-UINT64_C(8), 0) == SIGSEGV);
  CHECK(faults(-UINT64_C(4096), 1) == SIGSEGV);
  CHECK(faults(UINT64_C(1) << 63, 0) == SIGSEGV);

  volatile uint32_t* data = malloc(4096);
  for (int i = 0; i < 1024; ++i) data[i] = 0;
  for (int round = 1; round <= 100; ++round)
    for (uint64_t i = 0; i < 1024; ++i) {
      volatile uint32_t* p = tagged((void*)data, i & 255);
      p[i] += 1;
      CHECK(data[i] == (uint32_t)round);
    }
  uint32_t* p = tagged((void*)data, 0x5a);
  CHECK(__atomic_fetch_add(p, 7, __ATOMIC_SEQ_CST) == 100 && data[0] == 107);
  __uint128_t* wide = tagged((void*)data, 0xff);
  __uint128_t v = *wide;
  wide[1] = v;
  CHECK(data[4] == 107);
  int (*volatile function)(int, int) = (int (*)(int, int))tagged((void*)add, 0x12);
  for (int i = 0; i < 1000; ++i) CHECK(function(i, 1) == i + 1);
  CHECK(faults(UINT64_C(0xab) << 56, 0) == SIGSEGV);
  CHECK(faults(UINT64_C(0xab) << 56 | UINT64_C(1) << 50, 1) == SIGSEGV);
  return done();
}
