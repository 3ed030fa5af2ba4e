// Every futex operation, with its timeouts; pthread objects built on them; what the kernel does when a thread dies.
#define _GNU_SOURCE
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "stress.h"

static long futex(volatile void* word, int op, unsigned value, const void* timeout_or_count, volatile void* second, unsigned third) {
  return syscall(SYS_futex, word, op, value, timeout_or_count, second, third);
}
#define COUNT(n) ((void*)(uintptr_t)(n))
static volatile uint32_t word, other;
static volatile int started, woken;
static int gettid_(void) { return (int)syscall(SYS_gettid); }

static struct timespec after(clockid_t clock, long ms) {
  struct timespec t;
  clock_gettime(clock, &t);
  t.tv_nsec += ms * 1000000;
  t.tv_sec += t.tv_nsec / 1000000000;
  t.tv_nsec %= 1000000000;
  return t;
}
static void* waiter(void* bits) {
  ADD(started);
  while (futex(&word, FUTEX_WAIT_BITSET | FUTEX_PRIVATE_FLAG, 0, 0, 0, (unsigned)(uintptr_t)bits) != 0 && errno == EINTR) {
  }
  ADD(woken);
  return 0;
}
static void start_waiters(pthread_t* threads, int n, unsigned bits) {
  started = woken = 0;
  word = 0;
  for (int i = 0; i < n; ++i) pthread_create(&threads[i], 0, waiter, COUNT(bits << i));
  // Asleep, all of them: a requeue of nobody to the same word counts who waits.
  while (GET(started) < n) sched_yield();
}
/// Calls until `n` have been reached in sum: waiters may not be asleep yet.
#define UNTIL(n, call)                          \
  do {                                          \
    long sum_ = 0, r_;                          \
    while (sum_ < (n) && (r_ = (call)) >= 0) {  \
      sum_ += r_;                               \
      if (r_ == 0) usleep(500);                 \
    }                                           \
    CHECK(sum_ == (n));                         \
  } while (0)

static void operations(void) {
  word = 5;
  const struct timespec ms = {0, 5000000};
  CHECK(futex(&word, FUTEX_WAIT, 4, 0, 0, 0) == -1 && errno == EAGAIN);
  CHECK(futex(&word, FUTEX_WAIT, 5, &ms, 0, 0) == -1 && errno == ETIMEDOUT);
  const double begin = now_seconds();
  struct timespec t = after(CLOCK_MONOTONIC, 20);
  CHECK(futex(&word, FUTEX_WAIT_BITSET, 5, &t, 0, 1) == -1 && errno == ETIMEDOUT && now_seconds() - begin > 0.019);
  t = after(CLOCK_REALTIME, 10);
  CHECK(futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 5, &t, 0, 1) == -1 && errno == ETIMEDOUT);
  CHECK(futex(&word, FUTEX_WAIT_BITSET, 5, &t, 0, 0) == -1 && errno == EINVAL);
  CHECK(futex((char*)&word + 1, FUTEX_WAIT, 5, &ms, 0, 0) == -1 && errno == EINVAL);
  CHECK(futex((void*)16, FUTEX_WAIT, 5, &ms, 0, 0) == -1 && errno == EFAULT);
  CHECK(futex(&word, FUTEX_WAKE, 1, 0, 0, 0) == 0);
  CHECK(futex(&word, 99, 0, 0, 0, 0) == -1 && errno == ENOSYS);

  pthread_t threads[4];
  start_waiters(threads, 3, 1);
  UNTIL(1, futex(&word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 10, 0, 0, 2));
  UNTIL(2, futex(&word, FUTEX_WAKE_BITSET | FUTEX_PRIVATE_FLAG, 10, 0, 0, 5));
  for (int i = 0; i < 3; ++i) pthread_join(threads[i], 0);

  start_waiters(threads, 3, 1);
  UNTIL(3, futex(&word, FUTEX_REQUEUE | FUTEX_PRIVATE_FLAG, 0, COUNT(10), &other, 0));
  CHECK(futex(&word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, 0, 0, 0) == 0);
  CHECK(futex(&other, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, COUNT(1), &word, 77) == -1 && errno == EAGAIN);
  CHECK(futex(&other, FUTEX_CMP_REQUEUE | FUTEX_PRIVATE_FLAG, 1, COUNT(1), &word, other) == 2);
  CHECK(futex(&other, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, 0, 0, 0) == 1);
  CHECK(futex(&word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 10, 0, 0, 0) == 1);
  for (int i = 0; i < 3; ++i) pthread_join(threads[i], 0);

  start_waiters(threads, 2, 1);
  other = 6;
  long sum = 0;
  while (sum < 2) {  // other += 4, wake `word`, and one of `other` because it was > 5
    sum += futex(&word, FUTEX_WAKE_OP | FUTEX_PRIVATE_FLAG, 10, COUNT(1), &other, FUTEX_OP(FUTEX_OP_ADD, 4, FUTEX_OP_CMP_GT, 5));
    CHECK(other % 4 == 2 && other > 6);
    usleep(500);
  }
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], 0);
}

// --- priority inheritance -----------------------------------------------------------------------------------------------------
static volatile uint32_t pi, condition;
static volatile int inside_pi, mistakes;
static void* pi_user(void* unused) {
  for (int i = 0; i < 200; ++i) {
    CHECK(futex(&pi, FUTEX_LOCK_PI, 0, 0, 0, 0) == 0);
    if (inside_pi++ != 0 || (pi & FUTEX_TID_MASK) != (uint32_t)gettid_()) ++mistakes;
    --inside_pi;
    CHECK(futex(&pi, FUTEX_UNLOCK_PI, 0, 0, 0, 0) == 0);
  }
  return 0;
}
static void* requeued(void* unused) {
  ADD(started);
  CHECK(futex(&condition, FUTEX_WAIT_REQUEUE_PI, 0, 0, &pi, 0) == 0);
  CHECK((pi & FUTEX_TID_MASK) == (uint32_t)gettid_());
  CHECK(futex(&pi, FUTEX_UNLOCK_PI, 0, 0, 0, 0) == 0);
  return 0;
}
static void priority_inheritance(void) {
  pi = 0;
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) pthread_create(&threads[i], 0, pi_user, 0);
  for (int i = 0; i < 3; ++i) pthread_join(threads[i], 0);
  CHECK(mistakes == 0 && pi == 0);
  CHECK(futex(&pi, FUTEX_LOCK_PI, 0, 0, 0, 0) == 0);
  CHECK(futex(&pi, FUTEX_LOCK_PI, 0, 0, 0, 0) == -1 && errno == EDEADLK);
  CHECK(futex(&pi, FUTEX_UNLOCK_PI, 0, 0, 0, 0) == 0);
  CHECK(futex(&pi, FUTEX_TRYLOCK_PI, 0, 0, 0, 0) == 0);
  started = 0;
  pthread_create(&threads[0], 0, requeued, 0);
  long moved;
  while ((moved = futex(&condition, FUTEX_CMP_REQUEUE_PI, 1, COUNT(5), &pi, 0)) == 0) usleep(500);
  CHECK(moved == 1);
  CHECK(futex(&pi, FUTEX_UNLOCK_PI, 0, 0, 0, 0) == 0);
  pthread_join(threads[0], 0);
}

// --- death ----------------------------------------------------------------------------------------------------------------------
static pthread_mutex_t held[3];
static void* die_holding(void* unused) {
  for (int i = 0; i < 3; ++i) pthread_mutex_lock(&held[i]);
  return 0;
}
static void robust(int shared, int protocol) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&a, shared);
  pthread_mutexattr_setprotocol(&a, protocol);
  for (int i = 0; i < 3; ++i) CHECK(pthread_mutex_init(&held[i], &a) == 0);
  pthread_t thread;
  pthread_create(&thread, 0, die_holding, 0);
  for (int i = 0; i < 3; ++i) {
    int r = 0;
    while ((r = pthread_mutex_lock(&held[i])) == 0) {  // before the other did
      pthread_mutex_unlock(&held[i]);
      usleep(200);
    }
    CHECK(r == EOWNERDEAD);
    CHECK(pthread_mutex_consistent(&held[i]) == 0);
    CHECK(pthread_mutex_unlock(&held[i]) == 0);
    CHECK(pthread_mutex_lock(&held[i]) == 0);
    CHECK(pthread_mutex_unlock(&held[i]) == 0);
  }
  pthread_join(thread, 0);
}
static void process_dies(void) {  // with a mutex that both share
  pthread_mutex_t* m = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutex_init(m, &a);
  const pid_t pid = fork();
  if (pid == 0) {
    pthread_mutex_lock(m);
    _exit(0);
  }
  waitpid(pid, 0, 0);
  CHECK(pthread_mutex_lock(m) == EOWNERDEAD);
}

// --- pthread objects ----------------------------------------------------------------------------------------------------------------
static pthread_mutex_t mutex;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static pthread_barrier_t barrier;
static sem_t semaphore;
static long guarded, turn, at_barrier, pairs_[2];
static void* user(void* number) {
  for (int i = 0; i < 200; ++i) {
    pthread_mutex_lock(&mutex);
    ++guarded;
    pthread_mutex_unlock(&mutex);
    if (i % 50 == 0) {
      ADD(at_barrier);
      pthread_barrier_wait(&barrier);
      if (GET(at_barrier) % 4 != 0) ADD(mistakes);
      pthread_barrier_wait(&barrier);
    }
    if (i % 4 == (int)(long)number) {
      pthread_rwlock_wrlock(&rwlock);
      ++pairs_[0];
      ++pairs_[1];
    } else {
      pthread_rwlock_rdlock(&rwlock);
      if (pairs_[0] != pairs_[1]) ADD(mistakes);
    }
    pthread_rwlock_unlock(&rwlock);
    sem_wait(&semaphore);
    sem_post(&semaphore);
  }
  for (int i = 0; i < 20; ++i) {
    pthread_mutex_lock(&mutex);
    while (turn % 4 != (long)number) pthread_cond_wait(&cond, &mutex);
    ++turn;
    pthread_cond_broadcast(&cond);
    pthread_mutex_unlock(&mutex);
  }
  return 0;
}
static void objects(int kind, int protocol) {
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_settype(&a, kind);
  pthread_mutexattr_setprotocol(&a, protocol);
  CHECK(pthread_mutex_init(&mutex, &a) == 0);
  pthread_barrier_init(&barrier, 0, 4);
  sem_init(&semaphore, 0, 2);
  guarded = turn = at_barrier = mistakes = 0;
  pthread_t threads[4];
  for (long n = 0; n < 4; ++n) pthread_create(&threads[n], 0, user, (void*)n);
  for (int n = 0; n < 4; ++n) pthread_join(threads[n], 0);
  CHECK(guarded == 800 && turn == 80 && mistakes == 0);
  struct timespec t = after(CLOCK_REALTIME, 3);
  CHECK(pthread_mutex_lock(&mutex) == 0);
  CHECK(pthread_cond_timedwait(&cond, &mutex, &t) == ETIMEDOUT);
  if (kind == PTHREAD_MUTEX_ERRORCHECK) CHECK(pthread_mutex_lock(&mutex) == EDEADLK);
  if (kind == PTHREAD_MUTEX_RECURSIVE) CHECK(pthread_mutex_lock(&mutex) == 0 && pthread_mutex_unlock(&mutex) == 0);
  CHECK(pthread_mutex_unlock(&mutex) == 0);
}

int main(int argc, char** argv) {
  setvbuf(stdout, 0, _IOLBF, 0);
  stress_options(argc, argv);
  STRESS(0.2, operations());
  STRESS(0.1, priority_inheritance());
  STRESS(0.1, (robust(PTHREAD_PROCESS_PRIVATE, PTHREAD_PRIO_NONE), robust(PTHREAD_PROCESS_SHARED, PTHREAD_PRIO_NONE)));
  STRESS(0.1, robust(PTHREAD_PROCESS_PRIVATE, PTHREAD_PRIO_INHERIT));
  STRESS(0.1, process_dies());
  STRESS(0.1, objects(PTHREAD_MUTEX_NORMAL, PTHREAD_PRIO_NONE));
  STRESS(0.1, objects(PTHREAD_MUTEX_RECURSIVE, PTHREAD_PRIO_INHERIT));
  STRESS(0.1, objects(PTHREAD_MUTEX_ERRORCHECK, PTHREAD_PRIO_NONE));
  return done();
}
