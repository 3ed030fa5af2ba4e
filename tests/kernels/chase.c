// Pointer chasing through a random cycle that outgrows the first-level caches.
#include "kernel.h"

struct node { struct node* next; u64 value; };

u64 kernel(u64 percent) {
  enum { count = 1 << 16 };
  struct node* nodes = malloc(count * sizeof *nodes);
  u32* order = malloc(count * sizeof *order);
  u64 seed = 42;
  for (u32 i = 0; i < count; i++) order[i] = i;
  for (u32 i = count - 1; i > 0; i--) {
    u32 j = (u32)(next_random(&seed) % i);  // Sattolo: one single cycle
    u32 t = order[i]; order[i] = order[j]; order[j] = t;
  }
  for (u32 i = 0; i < count; i++) {
    nodes[i].next = &nodes[order[i]];
    nodes[i].value = next_random(&seed);
  }
  u64 h = 0, n = scaled(40000000, percent);
  struct node* p = nodes;
  for (u64 i = 0; i < n; i++) {
    h = h * 31 + p->value;
    p = p->next;
  }
  return h;
}
