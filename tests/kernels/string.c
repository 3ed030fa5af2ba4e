// C strings byte by byte: build text, split it into words, compare and search.
#include "kernel.h"

u64 kernel(u64 percent) {
  enum { size = 1 << 16 };
  char* text = malloc(size + 1);
  u64 seed = 7, h = 0, rounds = scaled(4000, percent);
  for (int i = 0; i < size; i++) {
    u64 r = next_random(&seed) >> 32;
    text[i] = r % 6 == 0 ? ' ' : (char)('a' + r % 26);
  }
  text[size] = 0;
  for (u64 round = 0; round < rounds; round++) {
    text[(round * 977) % size] = (char)('a' + round % 26);
    const char* longest = text;
    u64 best = 0, words = 0, upper = 0;
    for (const char* p = text; *p;) {
      while (*p == ' ') p++;
      const char* start = p;
      u64 hash = 5381;
      while (*p && *p != ' ') hash = hash * 33 + (u8)*p++;
      if ((u64)(p - start) > best) { best = (u64)(p - start); longest = start; }
      words++;
      upper ^= hash;
    }
    h = mix(h, words ^ upper ^ (u64)(longest - text));
    char needle[4] = {(char)('a' + round % 26), 'q', 'e', 0};
    for (const char* p = text; (p = strstr(p, needle)); p++) h++;
    h += strlen(text) + (u64)strncmp(text, longest, 3 + best) % 7;
  }
  return h;
}
