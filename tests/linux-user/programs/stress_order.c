// Memory order and atomics between threads: litmus tests of what each guest promises (x86: all but store-to-load; A64: what DMB, LDAR and
// STLR say), read-modify-writes of every width, 16-byte compare-and-swap, load- and store-exclusive.
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "check.h"
#include "stress.h"

#if defined __aarch64__
#define STORE(at, v) asm volatile("str %w0, [%1]" ::"r"(v), "r"(at) : "memory")
#define LOAD(v, at) asm volatile("ldr %w0, [%1]" : "=r"(v) : "r"(at) : "memory")
#define STORE_RELEASE(at, v) asm volatile("stlr %w0, [%1]" ::"r"(v), "r"(at) : "memory")
#define LOAD_ACQUIRE(v, at) asm volatile("ldar %w0, [%1]" : "=r"(v) : "r"(at) : "memory")
#define FENCE() asm volatile("dmb ish" ::: "memory")
#else
#define STORE(at, v) asm volatile("movl %0, (%1)" ::"r"(v), "r"(at) : "memory")
#define LOAD(v, at) asm volatile("movl (%1), %0" : "=r"(v) : "r"(at) : "memory")
#define STORE_RELEASE(at, v) STORE(at, v)
#define LOAD_ACQUIRE(v, at) LOAD(v, at)
#define FENCE() asm volatile("mfence" ::: "memory")
#endif

// Each round has cells of its own, so that the threads need no barrier between rounds and meet at random.
enum { kRounds = 4096 };
static struct {
  int x;
  char gap1[60];
  int y;
  char gap2[60];
} cell[kRounds] __attribute__((aligned(64)));
static int results[2][kRounds];
static int ready, test, bad;

enum { kMessage, kLoadBuffer, kStoreBufferFence, kStoreBufferAcquireRelease, kStoreBufferExchange, kTests };

__attribute__((noinline)) static void left(int which) {
  for (int i = 0; i < kRounds; ++i) {
    int* x = &cell[i].x;
    int* y = &cell[i].y;
    int v = 0;
    switch (which) {
      case kMessage: STORE(x, 1); STORE_RELEASE(y, 1); break;
      case kLoadBuffer: LOAD_ACQUIRE(v, x); STORE(y, 1); break;
      case kStoreBufferFence: STORE(x, 1); FENCE(); LOAD(v, y); break;
      case kStoreBufferAcquireRelease:
#ifdef __aarch64__
        STORE_RELEASE(x, 1);
        LOAD_ACQUIRE(v, y);
#else
        __atomic_fetch_add(x, 1, __ATOMIC_SEQ_CST);
        LOAD(v, y);
#endif
        break;
      default: __atomic_exchange_n(x, 1, __ATOMIC_SEQ_CST); v = __atomic_load_n(y, __ATOMIC_SEQ_CST); break;
    }
    results[0][i] = v;
  }
}
__attribute__((noinline)) static void right(int which) {
  for (int i = 0; i < kRounds; ++i) {
    int* x = &cell[i].x;
    int* y = &cell[i].y;
    int v = 0, w = 0;
    switch (which) {
      case kMessage: LOAD_ACQUIRE(w, y); LOAD(v, x); v |= w << 1; break;
      case kLoadBuffer: LOAD_ACQUIRE(v, y); STORE(x, 1); break;
      case kStoreBufferFence: STORE(y, 1); FENCE(); LOAD(v, x); break;
      case kStoreBufferAcquireRelease:
#ifdef __aarch64__
        STORE_RELEASE(y, 1);
        LOAD_ACQUIRE(v, x);
#else
        __atomic_fetch_or(y, 1, __ATOMIC_SEQ_CST);
        LOAD(v, x);
#endif
        break;
      default: __atomic_exchange_n(y, 1, __ATOMIC_SEQ_CST); v = __atomic_load_n(x, __ATOMIC_SEQ_CST); break;
    }
    results[1][i] = v;
  }
}
static pthread_barrier_t barrier;
static void* partner(void* unused) {
  for (;;) {
    pthread_barrier_wait(&barrier);
    if (test < 0) return 0;
    ADD(ready);
    while (GET(ready) < 2) {
    }
    right(test);
    pthread_barrier_wait(&barrier);
  }
}
static void litmus_once(int which) {
  memset(cell, 0, sizeof cell);
  ready = 0;
  test = which;
  pthread_barrier_wait(&barrier);
  ADD(ready);
  while (GET(ready) < 2) {
  }
  left(which);
  pthread_barrier_wait(&barrier);
  for (int i = 0; i < kRounds; ++i) {
    const int a = results[0][i], b = results[1][i];
    switch (which) {
      case kMessage: bad += b == 2; break;              // saw y, not x
      case kLoadBuffer: bad += a == 1 && b == 1; break;  // both saw what the other stored afterwards
      default: bad += a == 0 && b == 0; break;           // both missed the other's store
    }
  }
}
static void litmus(void) {
  pthread_barrier_init(&barrier, 0, 2);
  pthread_t thread;
  pthread_create(&thread, 0, partner, 0);
  for (int which = 0; which < kTests; ++which) {
    bad = 0;
    STRESS(0.08, litmus_once(which));
    CHECK(bad == 0);
    if (bad) printf("  litmus test %d: %d wrong\n", which, bad);
  }
  test = -1;
  pthread_barrier_wait(&barrier);
  pthread_join(thread, 0);
}

// --- read-modify-writes ----------------------------------------------------------------------------------------------------
static struct {
  uint8_t before;
  uint8_t b;
  uint16_t h;
  uint32_t w;
  uint64_t d;
  uint64_t maximum, minimum, bits;
} shared_ __attribute__((aligned(64)));
static void* modify(void* number) {
  const long me = (long)number;
  for (int i = 0; i < 3000; ++i) {
    __atomic_fetch_add(&shared_.b, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&shared_.h, 3, __ATOMIC_ACQ_REL);
    __atomic_fetch_sub(&shared_.w, 5, __ATOMIC_SEQ_CST);
    __atomic_fetch_add(&shared_.d, UINT64_C(0x100000001), __ATOMIC_SEQ_CST);
    __atomic_fetch_xor(&shared_.bits, UINT64_C(1) << (me * 8 + i % 8), __ATOMIC_SEQ_CST);
    uint64_t old = __atomic_load_n(&shared_.maximum, __ATOMIC_RELAXED);
    const uint64_t mine = (uint64_t)(i * 4 + me);
    while (old < mine && !__atomic_compare_exchange_n(&shared_.maximum, &old, mine, 1, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
    }
  }
  return 0;
}
static void rmw(void) {
  memset(&shared_, 0, sizeof shared_);
  pthread_t threads[4];
  for (long n = 0; n < 4; ++n) pthread_create(&threads[n], 0, modify, (void*)n);
  for (int n = 0; n < 4; ++n) pthread_join(threads[n], 0);
  CHECK(shared_.b == (uint8_t)12000 && shared_.before == 0 && shared_.h == (uint16_t)36000 && shared_.w == (uint32_t)-60000);
  CHECK(shared_.d == UINT64_C(12000) * UINT64_C(0x100000001));
  CHECK(shared_.maximum == 2999 * 4 + 3);
  CHECK(shared_.bits == 0xffffffff);  // 375 times each: odd
}

// --- 16 bytes at once --------------------------------------------------------------------------------------------------------
#if !defined __i386__
typedef struct {
  uint64_t low, high;
} Pair;
static Pair pair __attribute__((aligned(16)));
static int pair_cas(Pair* at, Pair* expected, Pair desired) {
#ifdef __aarch64__
  Pair seen;
  uint32_t failed;
  asm volatile(
      "1: ldaxp %0, %1, [%3]\n cmp %0, %4\n ccmp %1, %5, #0, eq\n b.ne 2f\n stlxp %w2, %6, %7, [%3]\n cbnz %w2, 1b\n b 3f\n2: clrex\n3:\n"
      : "=&r"(seen.low), "=&r"(seen.high), "=&r"(failed)
      : "r"(at), "r"(expected->low), "r"(expected->high), "r"(desired.low), "r"(desired.high)
      : "cc", "memory");
  const int ok = seen.low == expected->low && seen.high == expected->high;
  *expected = seen;
  return ok;
#else
  uint8_t ok;
  asm volatile("lock cmpxchg16b %1\n sete %0" : "=q"(ok), "+m"(*at), "+a"(expected->low), "+d"(expected->high) : "b"(desired.low), "c"(desired.high) : "cc");
  return ok;
#endif
}
static void* swap_pairs(void* unused) {
  for (int i = 0; i < 3000; ++i) {
    Pair old = {0, 0}, fresh;
    do {
      if (old.high != old.low * 3) ADD(bad);
      fresh.low = old.low + 1;
      fresh.high = fresh.low * 3;
    } while (!pair_cas(&pair, &old, fresh));
  }
  return 0;
}
static void pairs(void) {
  pair = (Pair){0, 0};
  bad = 0;
  pthread_t threads[4];
  for (int n = 0; n < 4; ++n) pthread_create(&threads[n], 0, swap_pairs, 0);
  for (int n = 0; n < 4; ++n) pthread_join(threads[n], 0);
  CHECK(pair.low == 12000 && pair.high == 36000 && bad == 0);
}
#else
static void pairs(void) {}
#endif

// --- a stack without locks -----------------------------------------------------------------------------------------------------
// With compare-and-swap it needs a count beside the pointer, or a node that is popped and pushed again meanwhile goes unnoticed (ABA).
// A64's exclusives notice by themselves.
typedef struct Node {
  struct Node* next;
  int in_use;
} Node;
static Node nodes[8];
static struct {
  Node* top;
  uintptr_t changes;
} head __attribute__((aligned(16)));

#ifdef __aarch64__
static void push(Node* n) {
  uint64_t top, failed;
  asm volatile("1: ldxr %0, [%2]\n str %0, [%3]\n dmb ish\n stxr %w1, %3, [%2]\n cbnz %w1, 1b" : "=&r"(top), "=&r"(failed) : "r"(&head.top), "r"(n) : "memory");
}
static Node* pop(void) {
  Node *top, *next;
  uint64_t failed;
  asm volatile(
      "1: ldaxr %0, [%3]\n cbz %0, 2f\n ldr %1, [%0]\n"
      "mov %2, #50\n3: subs %2, %2, #1\n b.ne 3b\n"  // time for the others
      "stxr %w2, %1, [%3]\n cbnz %w2, 1b\n2:\n"
      : "=&r"(top), "=&r"(next), "=&r"(failed)
      : "r"(&head.top)
      : "cc", "memory");
  return top;
}
#else
static int head_cas(Node** top, uintptr_t* changes, Node* fresh) {
#ifdef __x86_64__
  Pair old = {(uint64_t)*top, *changes}, now = {(uint64_t)fresh, *changes + 1};
  const int ok = pair_cas((Pair*)&head, &old, now);
  *top = (Node*)old.low;
  *changes = old.high;
  return ok;
#else
  uint64_t old = (uintptr_t)*top | (uint64_t)*changes << 32;
  const int ok = __atomic_compare_exchange_n((uint64_t*)&head, &old, (uintptr_t)fresh | (uint64_t)(*changes + 1) << 32, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  *top = (Node*)(uintptr_t)old;
  *changes = (uintptr_t)(old >> 32);
  return ok;
#endif
}
static void push(Node* n) {
  Node* top = 0;
  uintptr_t changes = 0;
  do n->next = top;
  while (!head_cas(&top, &changes, n));
}
static Node* pop(void) {
  Node* top = 0;
  uintptr_t changes = 0;
  head_cas(&top, &changes, 0);
  while (top && !head_cas(&top, &changes, top->next)) {
  }
  return top;
}
#endif
static void* use_nodes(void* unused) {
  for (int i = 0; i < 3000; ++i) {
    Node* a = pop();
    Node* b = i & 1 ? pop() : 0;
    if (a && __atomic_exchange_n(&a->in_use, 1, __ATOMIC_SEQ_CST)) ADD(bad);
    if (b && __atomic_exchange_n(&b->in_use, 1, __ATOMIC_SEQ_CST)) ADD(bad);
    if (a) SET(a->in_use, 0), push(a);
    if (b) SET(b->in_use, 0), push(b);
  }
  return 0;
}
static void stack(void) {
  memset(&head, 0, sizeof head);
  memset(nodes, 0, sizeof nodes);
  bad = 0;
  for (int n = 0; n < 8; ++n) push(&nodes[n]);
  pthread_t threads[4];
  for (int n = 0; n < 4; ++n) pthread_create(&threads[n], 0, use_nodes, 0);
  for (int n = 0; n < 4; ++n) pthread_join(threads[n], 0);
  int left_ = 0;
  while (pop() && left_ < 100) ++left_;
  CHECK(bad == 0 && left_ == 8);
  if (bad || left_ != 8) printf("  %d nodes handed out twice, %d of 8 left\n", bad, left_);
}

#ifdef __aarch64__
// The same without chance: between the exclusives of one thread the other changes the cell and changes it back.
static uint64_t aba = 1;
static int step;
static void* there_and_back(void* unused) {
  while (GET(step) != 1) sched_yield();
  uint64_t v, failed;
  for (uint64_t fresh = 2; fresh >= 1; --fresh)
    asm volatile("1: ldxr %0, [%2]\n stxr %w1, %3, [%2]\n cbnz %w1, 1b" : "=&r"(v), "=&r"(failed) : "r"(&aba), "r"(fresh) : "memory");
  SET(step, 2);
  return 0;
}
static void exclusives(void) {
  pthread_t thread;
  SET(step, 0);
  pthread_create(&thread, 0, there_and_back, 0);
  uint64_t v, failed;
  // No memory access of ours between the two but these; real programs have none at all.
  asm volatile(
      "ldxr %0, [%2]\n mov w9, #1\n str w9, [%3]\n1: ldr w9, [%3]\n cmp w9, #2\n b.ne 1b\n mov x9, #7\n stxr %w1, x9, [%2]\n"
      : "=&r"(v), "=&r"(failed)
      : "r"(&aba), "r"(&step)
      : "x9", "cc", "memory");
  pthread_join(thread, 0);
  CHECK(v == 1 && (uint32_t)failed == 1 && aba == 1);
}
#else
static void exclusives(void) {}
#endif

int main(int argc, char** argv) {
  setvbuf(stdout, 0, _IOLBF, 0);
  stress_options(argc, argv);
  litmus();
  STRESS(0.2, rmw());
  STRESS(0.15, pairs());
  STRESS(0.15, stack());
  STRESS(0.1, exclusives());
  return done();
}
