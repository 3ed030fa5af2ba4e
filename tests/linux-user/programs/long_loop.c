// A loop larger than a region of tier 2 goes round through several regions: a signal must get in between.
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

static void on_alarm(int signal) {
  write(1, "ok\n", 3);
  _exit(0);
}

volatile unsigned sink;

#define STEP(i)              \
  a ^= a << 13;              \
  a ^= a >> 17;              \
  a ^= a << 5;               \
  a += b * 7;                \
  a ^= c >> 3;               \
  a ^= a << ((i) % 7 + 1);   \
  b ^= a >> ((i) % 5 + 2);   \
  c += b ^ ((i) * 77);       \
  if (!(b | a | c)) sink = i;
#define FOUR(i) STEP(i) STEP((i) + 1) STEP((i) + 2) STEP((i) + 3)

int main(void) {
  signal(SIGALRM, on_alarm);
  struct itimerval soon = {{0, 0}, {1, 500000}};  // by then --tier=2 has compiled all of it
  setitimer(ITIMER_REAL, &soon, 0);
  for (unsigned a = 1, b = 2, c = 3;;) {
    FOUR(0) FOUR(4) FOUR(8) FOUR(12) FOUR(16) FOUR(20)
  }
}
