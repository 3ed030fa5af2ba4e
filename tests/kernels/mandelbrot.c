// The Mandelbrot set in single precision: dependent float arithmetic, compare and branch.
#include "kernel.h"

u64 kernel(u64 percent) {
  u64 h = 0;
  int width = 640, height = (int)scaled(2400, percent);
  for (int y = 0; y < height; y++)
    for (int x = 0; x < width; x++) {
      float cr = 3.0f * (float)x / (float)width - 2.1f, ci = 2.4f * (float)y / 2400.0f - 1.2f, zr = 0, zi = 0;
      int i = 0;
      for (; i < 200; i++) {
        float r2 = zr * zr, i2 = zi * zi;
        if (r2 + i2 > 4.0f) break;
        zi = 2.0f * zr * zi + ci;
        zr = r2 - i2 + cr;
      }
      h = h * 31 + (u64)i;
    }
  return mix(h, 0);
}
