// CHECK(condition): counts and names failures; main ends with `return done();`. Exit status 0 and the line "ok" mean success.
#pragma once
#include <errno.h>
#include <stdio.h>
#include <string.h>

static int check_failures;
#define CHECK(condition)                                                                            \
  do {                                                                                              \
    if (!(condition)) {                                                                             \
      printf("%s:%d: failed: %s (errno %d)\n", __FILE__, __LINE__, #condition, errno);              \
      ++check_failures;                                                                             \
    }                                                                                               \
  } while (0)

static int done(void) {
  if (check_failures == 0) puts("ok");
  fflush(stdout);
  return check_failures != 0;
}
