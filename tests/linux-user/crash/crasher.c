// Dies in the way that its first argument says, with a thread that runs and one that sleeps.
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

volatile int counter;
int data_value = 4711;
char* heap;
static pthread_barrier_t barrier;

__attribute__((noinline)) void spin_here(void) {
  for (;;) counter++;
}
__attribute__((noinline)) int sleep_here(void) {
  pause();
  return counter;
}
static void* spinner(void* argument) {
  pthread_barrier_wait(&barrier);
  spin_here();
  return argument;
}
static void* sleeper(void* argument) {
  pthread_barrier_wait(&barrier);
  sleep_here();
  return argument;
}
__attribute__((noinline)) int inner(int* p, int n) { return *p + n; }
__attribute__((noinline)) int outer(int* p) {
  int r = inner(p, 3);
  counter = r;
  return r + 1;
}
static void handler(int signal) {
  outer((int*)32);
  counter = signal;
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  pthread_t thread;
  heap = strdup("on the heap");
  pthread_barrier_init(&barrier, NULL, 3);
  pthread_create(&thread, NULL, spinner, NULL);
  pthread_create(&thread, NULL, sleeper, NULL);
  pthread_barrier_wait(&barrier);
  usleep(100000);
  if (!strcmp(what, "abort")) abort();
  if (!strcmp(what, "jump")) ((void (*)(void))0x1234560)();
  if (!strcmp(what, "handler")) {
    signal(SIGUSR1, handler);
    raise(SIGUSR1);
  }
  for (int i = 0; i < 100000; ++i) outer(&data_value);
  return outer((int*)16);
}
