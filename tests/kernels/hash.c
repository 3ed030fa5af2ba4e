// An open-addressing hash table: insert, look up, delete by tombstone.
#include "kernel.h"

u64 kernel(u64 percent) {
  enum { capacity = 1 << 17 };
  u64* keys = calloc(capacity, 8);
  u32* values = calloc(capacity, 4);
  u64 seed = 2024, h = 0, used = 0, n = scaled(40000000, percent);
  for (u64 i = 0; i < n; i++) {
    u64 key = (next_random(&seed) >> 47) | 2;  // 0: free, 1: deleted
    u64 slot = (key * 0x9e3779b97f4a7c15u) >> 47, hole = ~0ull;
    while (keys[slot] != 0 && keys[slot] != key) {
      if (keys[slot] == 1 && hole == ~0ull) hole = slot;
      slot = (slot + 1) & (capacity - 1);
    }
    if (keys[slot] == key) {
      h += values[slot]++;
      if ((values[slot] & 63) == 63) keys[slot] = 1;
    } else if (used < capacity * 3 / 4) {
      if (hole != ~0ull) slot = hole; else used++;
      keys[slot] = key;
      values[slot] = (u32)i;
    }
  }
  return mix(h, used);
}
