// Scalar double code as a language runtime runs it: conversions, compares, rounding and branches on NaN, through switch cases.
#include "kernel.h"

u64 kernel(u64 percent) {
  u64 seed = 31, h = 0, n = scaled(28000000, percent);
  double acc = 1.0, other = 0.5;
  for (u64 i = 0; i < n; i++) {
    u64 r = next_random(&seed);
    double v = (double)(i64)(r >> 20) * (1.0 / 4294967296.0);
    switch (r & 7) {
      case 0: acc = acc * 0.5 + v; break;
      case 1: acc -= other; break;
      case 2: other = v < acc ? v : acc; break;
      case 3: acc = v / (other + 1.5); break;
      case 4: h += (u64)(i64)(acc * 256.0); break;
      case 5: other = __builtin_sqrt(v + 1.0); break;
      case 6: acc = (double)(float)(acc + other); break;
      case 7:
        if (acc != acc || acc > 1e9) acc = 1.0;
        break;
    }
  }
  return mix(h, bits(acc) ^ bits(other));
}
