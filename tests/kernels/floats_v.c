// Float and double array loops that the compiler vectorises (-O3): saxpy, clamp, conversions.
#include "kernel.h"

u64 kernel(u64 percent) {
  enum { n = 4096 };
  static float x[n], y[n];
  static double d[n];
  static i32 whole[n];
  u64 seed = 5, h = 0, rounds = scaled(160000, percent);
  for (int i = 0; i < n; i++) {
    x[i] = (float)(next_random(&seed) >> 48) / 65536.0f;
    y[i] = (float)(next_random(&seed) >> 48) / 1024.0f;
  }
  for (u64 r = 0; r < rounds; r++) {
    float a = 0.5f + (float)(r & 7) * 0.0625f;
    for (int i = 0; i < n; i++) y[i] = y[i] * 0.5f + a * x[i];
    for (int i = 0; i < n; i++) y[i] = y[i] > 40.0f ? 40.0f : y[i];
    if ((r & 3) == 0) {
      for (int i = 0; i < n; i++) d[i] = d[i] * 0.25 + (double)y[i];
      for (int i = 0; i < n; i++) whole[i] += (i32)(y[i] * 16.0f);
    }
  }
  for (int i = 0; i < n; i++) h = mix(h, bits((double)y[i]) ^ bits(d[i]) ^ (u32)whole[i]);
  return h;
}
