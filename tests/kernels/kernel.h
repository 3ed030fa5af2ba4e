// CPU-bound kernels for the benchmark and the program tests: own code, no input, one size argument in percent (100: some
// tenths of a second on a 2020s PC), one line of output that is the same on every correct machine. Floating point is kept bit-exact:
// no contraction (-ffp-contract=off), no libm beyond sqrt, results printed as bits.
// Add one: a NAME.c here with `u64 kernel(u64 percent)`; CMake and scripts/bench find it by its name; *_v.c are built with -O3.
#pragma once
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t i32;
typedef int64_t i64;

u64 kernel(u64 percent);

static inline u64 mix(u64 h, u64 v) {
  h = (h ^ v) * 0x9e3779b97f4a7c15u;
  return h ^ (h >> 29);
}

static inline u64 bits(double d) {
  u64 u;
  memcpy(&u, &d, 8);
  return u;
}

// xorshift64*: the kernels' only source of data.
static inline u64 next_random(u64* state) {
  u64 x = *state;
  x ^= x >> 12;
  x ^= x << 25;
  x ^= x >> 27;
  *state = x;
  return x * 0x2545f4914f6cdd1du;
}

/// `whole` scaled by percent, at least 1.
static inline u64 scaled(u64 whole, u64 percent) {
  u64 n = whole * percent / 100;
  return n ? n : 1;
}

int main(int argc, char** argv) {
  u64 percent = argc > 1 ? strtoull(argv[1], 0, 10) : 100;
  printf("%016llx\n", (unsigned long long)kernel(percent));
  return 0;
}
