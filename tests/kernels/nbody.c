// Planets around a sun in double precision: multiply, add, square root, divide.
#include "kernel.h"

struct body { double x[3], v[3], mass; };

u64 kernel(u64 percent) {
  enum { count = 5 };
  struct body b[count];
  u64 seed = 3, n = scaled(4000000, percent), h = 0;
  for (int i = 0; i < count; i++) {
    for (int k = 0; k < 3; k++) {
      b[i].x[k] = (double)(i64)(next_random(&seed) >> 44) / 65536.0 + i * 4.0;
      b[i].v[k] = (double)((i64)(next_random(&seed) >> 50) - 8192) / 65536.0;
    }
    b[i].mass = i == 0 ? 39.5 : 0.01 * (i + 1);
  }
  for (u64 step = 0; step < n; step++) {
    for (int i = 0; i < count; i++)
      for (int j = i + 1; j < count; j++) {
        double d[3], square = 0.01;
        for (int k = 0; k < 3; k++) {
          d[k] = b[i].x[k] - b[j].x[k];
          square += d[k] * d[k];
        }
        double pull = 0.001 / (square * __builtin_sqrt(square));
        for (int k = 0; k < 3; k++) {
          b[i].v[k] -= d[k] * b[j].mass * pull;
          b[j].v[k] += d[k] * b[i].mass * pull;
        }
      }
    for (int i = 0; i < count; i++)
      for (int k = 0; k < 3; k++) b[i].x[k] += 0.001 * b[i].v[k];
  }
  for (int i = 0; i < count; i++)
    for (int k = 0; k < 3; k++) h = mix(h, bits(b[i].x[k]) ^ bits(b[i].v[k]));
  return h;
}
