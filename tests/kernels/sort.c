// Quicksort with an insertion sort for short runs, and a heap sort, over 64-bit keys: unpredictable branches, swaps.
#include "kernel.h"

static void quick(u64* a, i64 n) {
  while (n > 16) {
    u64 pivot = a[n / 2];
    i64 i = 0, j = n - 1;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) {
        u64 t = a[i]; a[i++] = a[j]; a[j--] = t;
      }
    }
    quick(a, j + 1);
    a += i;
    n -= i;
  }
  for (i64 i = 1; i < n; i++) {
    u64 v = a[i];
    i64 j = i;
    for (; j > 0 && a[j - 1] > v; j--) a[j] = a[j - 1];
    a[j] = v;
  }
}

static void sift(u64* a, i64 root, i64 n) {
  for (i64 child; (child = 2 * root + 1) < n; root = child) {
    if (child + 1 < n && a[child] < a[child + 1]) child++;
    if (a[root] >= a[child]) return;
    u64 t = a[root]; a[root] = a[child]; a[child] = t;
  }
}

static void heap(u64* a, i64 n) {
  for (i64 i = n / 2; i-- > 0;) sift(a, i, n);
  for (i64 i = n - 1; i > 0; i--) {
    u64 t = a[0]; a[0] = a[i]; a[i] = t;
    sift(a, 0, i);
  }
}

u64 kernel(u64 percent) {
  enum { n = 50000 };
  u64* a = malloc(n * sizeof *a);
  u64 seed = 123, h = 0, rounds = scaled(90, percent);
  for (u64 r = 0; r < rounds; r++) {
    for (int i = 0; i < n; i++) a[i] = next_random(&seed) >> (r & 31);
    if (r % 3 == 2) heap(a, n); else quick(a, n);
    for (int i = 0; i < n; i += 97) h = mix(h, a[i]);
  }
  return h;
}
