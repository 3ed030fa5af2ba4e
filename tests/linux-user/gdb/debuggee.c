// What the gdb cases look at. The first argument says what it does.
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct point {
  int x, y;
};
volatile int calls, watched, unrelated[4];
struct point origin = {3, 4};
volatile double real = 1.25;
const char text[] = "read only";

__attribute__((noinline)) int leaf(int n) {
  __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED);  // by several threads
  return n * 2;
}
__attribute__((noinline)) int middle(int n) {
  int r = leaf(n + 1);
  unrelated[n & 3] = r;
  if (n % 1000 == 999) watched = n;
  return r + 1;
}
__attribute__((noinline)) int twice(int n) { return 2 * n; }

__attribute__((noinline)) void vectors(void) {
  static const unsigned char bytes[32] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11, 12, 13, 14, 15, 16,
                                          17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32};
#if defined(__aarch64__)
  __asm__ volatile("ldr q31, [%0]\n fmov d30, #1.5\n .globl vectors_loaded\nvectors_loaded: nop" ::"r"(bytes) : "v30", "v31");
#else
  __asm__ volatile("vmovdqu (%0), %%ymm5\n fldpi\n .globl vectors_loaded\nvectors_loaded: nop\n fstp %%st\n vzeroupper" ::"r"(bytes)
                   : "xmm5");
#endif
}

static pthread_barrier_t barrier;
static void* worker(void* argument) {
  pthread_barrier_wait(&barrier);  // all there
  pthread_barrier_wait(&barrier);  // go
  for (int i = 0; i < 100; ++i) middle((int)(long)argument * 1000 + i);
  return NULL;
}
__attribute__((noinline)) void all_there(void) { __atomic_fetch_add(&calls, 1, __ATOMIC_RELAXED); }

static int child(void) {
  for (int i = 0; i < 3; ++i) middle(i);
  return 5;
}

int main(int argc, char** argv) {
  const char* what = argc > 1 ? argv[1] : "";
  if (!strcmp(what, "loop")) {
    int sum = 0;
    for (int i = 0; i < 200000; ++i) sum += middle(i);
    vectors();
    printf("sum %d calls %d\n", sum, calls);
    return 7;
  }
  if (!strcmp(what, "threads")) {
    pthread_t threads[3];
    pthread_barrier_init(&barrier, NULL, 4);
    for (long i = 0; i < 3; ++i) pthread_create(&threads[i], NULL, worker, (void*)(i + 1));
    pthread_barrier_wait(&barrier);
    all_there();
    pthread_barrier_wait(&barrier);
    for (int i = 0; i < 3; ++i) pthread_join(threads[i], NULL);
    printf("calls %d\n", calls);
    return 0;
  }
  if (!strcmp(what, "block")) {
    char buffer[16] = "";
    puts("ready");
    fflush(stdout);
    ssize_t n = read(0, buffer, sizeof buffer);  // until the driver's line
    printf("read %d %.5s\n", (int)n, buffer);
    return 0;
  }
  if (!strcmp(what, "signals")) {
    signal(SIGUSR1, SIG_IGN);
    raise(SIGUSR1);
    raise(SIGTERM);
    puts("survived");
    fflush(stdout);
    *(volatile int*)16 = 1;
    return 0;
  }
  if (!strcmp(what, "processes")) {
    int status;
    pid_t pid = fork();
    if (pid == 0) _exit(child());
    waitpid(pid, &status, 0);
    pid = vfork();
    if (pid == 0) {
      leaf(1);
      _exit(6);
    }
    int second;
    waitpid(pid, &second, 0);
    printf("children %d %d\n", WEXITSTATUS(status), WEXITSTATUS(second));
    fflush(stdout);
    execl(argv[0], argv[0], "exit", NULL);
    return 1;
  }
  if (!strcmp(what, "exit")) return twice(21);
  return 1;
}
