// Calls through a table of small functions in a data-dependent order: indirect calls and returns.
#include "kernel.h"

typedef u64 (*step)(u64, u64);
#define STEP(name, expression) __attribute__((noinline)) static u64 name(u64 a, u64 b) { (void)b; return expression; }
STEP(s0, a + b)
STEP(s1, a ^ (b << 3))
STEP(s2, a * 33 + b)
STEP(s3, (a >> 7) | (a << 57))
STEP(s4, a - b * 5)
STEP(s5, a > b ? a - b : b - a)
STEP(s6, a ^ 0x5555555555555555u)
STEP(s7, ~a + (b >> 5))

u64 kernel(u64 percent) {
  static const step steps[8] = {s0, s1, s2, s3, s4, s5, s6, s7};
  u64 a = 1, b = 99, n = scaled(30000000, percent);
  for (u64 i = 0; i < n; i++) {
    b = b * 6364136223846793005u + 1442695040888963407u;
    a = steps[b >> 61](a, i);
  }
  return a;
}
