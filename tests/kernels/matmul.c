// Plain triple loop over doubles, column access included.
#include "kernel.h"

u64 kernel(u64 percent) {
  enum { n = 200 };
  static double a[n][n], b[n][n], c[n][n];
  u64 seed = 11, h = 0, rounds = scaled(120, percent);
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) {
      a[i][j] = (double)(next_random(&seed) >> 40) / 16777216.0;
      b[i][j] = (double)(next_random(&seed) >> 40) / 16777216.0 - 0.5;
    }
  for (u64 r = 0; r < rounds; r++) {
    for (int i = 0; i < n; i++)
      for (int j = 0; j < n; j++) {
        double sum = 0;
        for (int k = 0; k < n; k++) sum += a[i][k] * b[k][j];
        c[i][j] = sum;
      }
    a[r % n][(r * 7) % n] = c[(r * 3) % n][r % n];
  }
  for (int i = 0; i < n; i++)
    for (int j = 0; j < n; j++) h = mix(h, bits(c[i][j]));
  return h;
}
