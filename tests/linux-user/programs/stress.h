// For stress programs: how long to run, and counters that survive threads. The first argument is the duration in seconds (0.5 by default,
// so that the tests stay quick; scripts/soak threads gives minutes).
#pragma once
#include <stdlib.h>
#include <time.h>

static double stress_seconds = 0.5;
static double now_seconds(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static void stress_options(int argc, char** argv) {
  if (argc > 1) stress_seconds = atof(argv[1]);
}
/// Runs `call` until its share of the duration is over.
#define STRESS(share, call)                                                    \
  do {                                                                         \
    const double end_ = now_seconds() + stress_seconds * (share);              \
    do {                                                                       \
      call;                                                                    \
    } while (now_seconds() < end_);                                            \
  } while (0)

#define ADD(counter) __atomic_fetch_add(&(counter), 1, __ATOMIC_SEQ_CST)
#define GET(counter) __atomic_load_n(&(counter), __ATOMIC_SEQ_CST)
#define SET(counter, value) __atomic_store_n(&(counter), (value), __ATOMIC_SEQ_CST)
