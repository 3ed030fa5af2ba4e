// Threads: join, mutexes, conditions, thread-local data, robust mutexes, signals to threads, exit from a thread.
#define _GNU_SOURCE
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static int counter, turn, atomic_counter;
static __thread int local;
static volatile int handled_by;

static void* adder(void* number) {
  local = (int)(long)number;
  for (int i = 0; i < 2000; ++i) {
    pthread_mutex_lock(&mutex);
    ++counter;
    pthread_mutex_unlock(&mutex);
    __atomic_fetch_add(&atomic_counter, 1, __ATOMIC_SEQ_CST);
  }
  return (void*)(long)(local * 2);
}

static void* player(void* me) {
  for (int i = 0; i < 300; ++i) {
    pthread_mutex_lock(&mutex);
    while (turn != (int)(long)me) pthread_cond_wait(&condition, &mutex);
    turn = !turn;
    pthread_cond_broadcast(&condition);
    pthread_mutex_unlock(&mutex);
  }
  return 0;
}

static pthread_mutex_t robust;
static void* dies_with_lock(void* unused) {
  pthread_mutex_lock(&robust);
  return 0;
}

static void note(int signal) { handled_by = (int)syscall(SYS_gettid); }
static volatile int sleeper_tid;
static void* sleeper(void* unused) {
  sleeper_tid = (int)syscall(SYS_gettid);
  while (!handled_by) usleep(1000);
  return 0;
}
static void* waits_for_cancel(void* unused) {
  for (;;) pause();
}
static void* exits_process(void* unused) { exit(33); }

int main(void) {
  pthread_t threads[6];
  for (long i = 0; i < 6; ++i) CHECK(pthread_create(&threads[i], 0, adder, (void*)i) == 0);
  for (long i = 0; i < 6; ++i) {
    void* result;
    pthread_join(threads[i], &result);
    CHECK((long)result == 2 * i);
  }
  CHECK(counter == 12000 && atomic_counter == 12000 && local == 0);

  for (long i = 0; i < 2; ++i) pthread_create(&threads[i], 0, player, (void*)i);
  for (long i = 0; i < 2; ++i) pthread_join(threads[i], 0);

  pthread_mutexattr_t attributes;
  pthread_mutexattr_init(&attributes);
  pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&robust, &attributes);
  pthread_create(&threads[0], 0, dies_with_lock, 0);
  pthread_join(threads[0], 0);
  CHECK(pthread_mutex_lock(&robust) == EOWNERDEAD);

  signal(SIGUSR1, note);
  pthread_create(&threads[0], 0, sleeper, 0);
  while (!sleeper_tid) usleep(1000);
  pthread_kill(threads[0], SIGUSR1);
  pthread_join(threads[0], 0);
  CHECK(handled_by == sleeper_tid);

  void* result;
  pthread_create(&threads[0], 0, waits_for_cancel, 0);
  usleep(2000);
  pthread_cancel(threads[0]);
  pthread_join(threads[0], &result);
  CHECK(result == PTHREAD_CANCELED);

  for (int i = 0; i < 100; ++i) {  // many short lives
    pthread_create(&threads[0], 0, adder, (void*)1l);
    if (i == 0) counter = 0;
    pthread_join(threads[0], 0);
    if (i > 3) break;
  }

  const pid_t pid = fork();
  if (pid == 0) {
    pthread_create(&threads[0], 0, exits_process, 0);
    for (;;) pause();
  }
  int status;
  waitpid(pid, &status, 0);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 33);
  return done();
}
