// /proc shows the guest whatever way leads there: relative to a directory, through a symlink, by the working directory.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"

static int marker = 12345;

static char text[1 << 16];
static int load(int fd) {
  size_t size = 0;
  if (fd < 0) return 0;
  for (ssize_t n; size < sizeof text - 1 && (n = read(fd, text + size, sizeof text - 1 - size)) > 0;) size += (size_t)n;
  text[size] = 0;
  close(fd);
  return 1;
}
/// The maps in `text` have the page of `marker`, writable.
static int has_marker(void) {
  for (char* line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
    unsigned long start, end;
    char rights[5];
    if (sscanf(line, "%lx-%lx %4s", &start, &end, rights) == 3 && (uintptr_t)&marker >= start && (uintptr_t)&marker < end) return rights[1] == 'w';
  }
  return 0;
}
static long number(const char* name) {
  char* at = strstr(text, name);
  return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

int main(void) {
  for (volatile int n = 0; n < 2000000; ++n) {  // hot enough for a thread of the translator
  }
  int dir = open("/proc/self", O_RDONLY | O_DIRECTORY);
  int lowest = openat(dir, "maps", O_RDONLY | O_CLOEXEC);
  CHECK(lowest == dir + 1 && fcntl(lowest, F_GETFD) == FD_CLOEXEC && close(lowest) == 0);
  CHECK(dir >= 0 && load(openat(dir, "maps", O_RDONLY)) && has_marker());
  char name[64], link_name[] = "/tmp/kiln-proc-XXXXXX";
  int unused = mkstemp(link_name);
  close(unused);
  unlink(link_name);
  CHECK(symlink("/proc/self/maps", link_name) == 0 && load(open(link_name, O_RDONLY)) && has_marker());
  unlink(link_name);
  CHECK(load(open("/proc//self/./maps", O_RDONLY)) && has_marker());
  snprintf(name, sizeof name, "/proc/%d/task/%d/maps", getpid(), getpid());
  CHECK(load(open(name, O_RDONLY)) && has_marker());
  CHECK(chdir("/proc/thread-self") == 0 && load(open("maps", O_RDONLY)) && has_marker());
  CHECK(chdir("/proc/self") == 0 && load(open("smaps", O_RDONLY)) && strstr(text, "VmFlags") != NULL);
  CHECK(load(openat(dir, "status", O_RDONLY)) && number("Threads:") == 1 && number("Seccomp:") == 0 && number("VmSize:") > 0 && number("VmSize:") < 1 << 26);
  CHECK(load(open("statm", O_RDONLY)) && strtol(text, NULL, 10) < 1 << 24);
  CHECK(load(openat(dir, "stat", O_RDONLY)) && strtol(text, NULL, 10) == getpid());
  CHECK(load(openat(dir, "cmdline", O_RDONLY)) && strstr(text, "proc_views") != NULL);
  CHECK(load(open("/proc/self/comm", O_RDONLY)) && !strcmp(text, "proc_views\n"));
  // Its memory: refused, or its own.
  int fd = openat(dir, "mem", O_RDWR);
  int value = 0;
  CHECK(fd >= 0 ? pread(fd, &value, sizeof value, (off_t)(uintptr_t)&marker) == sizeof value && value == marker : errno == EACCES);
  snprintf(name, sizeof name, "/proc/self/fd/%d", dir);
  CHECK(chdir(name) == 0);
  fd = open("mem", O_RDONLY);
  CHECK(fd >= 0 || errno == EACCES);
  return done();
}
