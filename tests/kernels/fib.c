// Naive recursion: calls, returns, stack traffic.
#include "kernel.h"

__attribute__((noinline, noclone, optimize("no-optimize-sibling-calls"))) static u64 fib(u64 n) {
  return n < 2 ? n : fib(n - 1) + fib(n - 2);
}

u64 kernel(u64 percent) {
  u64 n = 40;  // each step down costs a factor of 1.618
  for (u64 p = percent; p < 100 && n > 5; p = p * 1618 / 1000 + 1) n--;
  return fib(n);
}
