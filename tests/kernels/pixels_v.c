// Integer SIMD as compilers make it (-O3): 8-bit blends with widening, sums of absolute differences, shifts, min and max.
#include "kernel.h"

u64 kernel(u64 percent) {
  enum { n = 16384 };
  static u8 a[n], b[n], out[n];
  static u16 acc[n];
  u64 seed = 9, h = 0, rounds = scaled(40000, percent);
  for (int i = 0; i < n; i++) {
    a[i] = (u8)(next_random(&seed) >> 56);
    b[i] = (u8)(next_random(&seed) >> 56);
  }
  for (u64 r = 0; r < rounds; r++) {
    u32 alpha = (u32)(r * 37) & 255, difference = 0;
    for (int i = 0; i < n; i++) out[i] = (u8)((a[i] * alpha + b[i] * (256 - alpha)) >> 8);
    for (int i = 0; i < n; i++) difference += (u32)(a[i] > out[i] ? a[i] - out[i] : out[i] - a[i]);
    for (int i = 0; i < n; i++) acc[i] = (u16)(acc[i] + (out[i] ^ b[i]));
    a[r % n] = (u8)difference;
    h = mix(h, difference);
  }
  for (int i = 0; i < n; i++) h = mix(h, acc[i] ^ ((u64)out[i] << 32));
  return h;
}
