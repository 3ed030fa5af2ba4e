// Integer arithmetic of all kinds in one loop: multiply, divide, shifts, rotates, selects.
#include "kernel.h"

u64 kernel(u64 percent) {
  u64 a = 1, b = 0x123456789abcdefu, h = 0;
  u32 c = 7;
  u64 n = scaled(160000000, percent);
  for (u64 i = 1; i <= n; i++) {
    a = a * 6364136223846793005u + i;
    b ^= (a >> 33) | (a << 31);
    c = (c << 5) + (u32)b - (c >> 2);
    h += (a > b) ? (b & 0xffff) : c;
    if ((i & 15) == 0) h ^= a / (c | 1) + (i64)b % (i64)(i | 1);
  }
  return mix(h, a ^ b ^ c);
}
