// REP MOVS and REP STOS of every element size, both directions, operands that overlap by any distance, lengths from nothing to
// more than a page: against a loop over elements.
#include <stdint.h>

#include "../check.h"

enum { kBytes = 5 * 4096 };
static uint8_t pattern[kBytes], got[kBytes], wanted[kBytes];

#define RUN(insn, to, from, n, down, value)                                                          \
  do {                                                                                               \
    uint8_t* d = (to);                                                                               \
    uint8_t* s = (from);                                                                             \
    unsigned long c = (n);                                                                           \
    if (down) __asm__ volatile("std\n " insn "\n cld" : "+D"(d), "+S"(s), "+c"(c) : "a"(value) : "memory"); \
    else __asm__ volatile(insn : "+D"(d), "+S"(s), "+c"(c) : "a"(value) : "memory");                 \
    end_d = d;                                                                                       \
    end_s = s;                                                                                       \
    end_c = c;                                                                                       \
  } while (0)

static void check(int size, int down, int is_fill, int at, int distance, unsigned n) {
  static const unsigned long kValue = (unsigned long)0xa1b2c3d4e5f60718ull;
  // What may change, and a little more.
  const int bytes = (int)n * size + 16;
  int low = at - (down ? bytes : 16), high = at + (down ? 16 : bytes);
  if (distance < 0) low += distance;
  else high += distance;
  memcpy(got + low, pattern + low, (size_t)(high - low));
  memcpy(wanted + low, pattern + low, (size_t)(high - low));
  uint8_t *end_d = 0, *end_s = 0;
  unsigned long end_c = 1;
  uint8_t *to = got + at + distance, *from = got + at;
  const long step = down ? -size : size;
  for (unsigned i = 0; i < n; ++i) {
    uint8_t element[8];
    memcpy(element, is_fill ? (const uint8_t*)&kValue : wanted + at + (long)i * step, (size_t)size);
    memcpy(wanted + at + distance + (long)i * step, element, (size_t)size);
  }
  switch (size + 16 * is_fill) {
    case 1: RUN("rep movsb", to, from, n, down, kValue); break;
    case 2: RUN("rep movsw", to, from, n, down, kValue); break;
    case 4: RUN("rep movsl", to, from, n, down, kValue); break;
    case 17: RUN("rep stosb", to, from, n, down, kValue); break;
    case 18: RUN("rep stosw", to, from, n, down, kValue); break;
    case 20: RUN("rep stosl", to, from, n, down, kValue); break;
#ifdef __x86_64__
    case 8: RUN("rep movsq", to, from, n, down, kValue); break;
    case 24: RUN("rep stosq", to, from, n, down, kValue); break;
#endif
  }
  const int equal = memcmp(got + low, wanted + low, (size_t)(high - low)) == 0 && end_c == 0 && end_d == to + (long)n * step &&
                    end_s == (is_fill ? from : from + (long)n * step);
  if (!equal) printf("size %d down %d fill %d at %d distance %d count %u\n", size, down, is_fill, at, distance, n);
  CHECK(equal);
}

int main(void) {
  static const int kDistances[] = {0, 1, 3, 4, 8, 12, 15, 16, 17, 31, 64, 600, 4100};
  static const unsigned kCounts[] = {0, 1, 2, 5, 33, 34, 127, 530, 4099};
  for (int i = 0; i < kBytes; ++i) pattern[i] = (uint8_t)(i * 7 + (i >> 8) * 13 + 3);
  for (int size = 1; size <= (int)sizeof(long); size *= 2) {
    for (unsigned k = 0; k < sizeof kCounts / sizeof *kCounts; ++k) {
      const unsigned n = kCounts[k];
      if (n * (unsigned)size > 4200) continue;
      for (int down = 0; down < 2; ++down) {
        const int at = down ? kBytes - 4200 : 4199;
        for (unsigned i = 0; i < sizeof kDistances / sizeof *kDistances; ++i) {
          if (n > 600 && i % 6 != 0) continue;
          check(size, down, 0, at, kDistances[i], n);
          check(size, down, 0, at, -kDistances[i], n);
        }
        check(size, down, 1, at, 1, n);
        check(size, down, 1, at, 0, n);
      }
    }
  }
  return done();
}
