// mmap and friends: placement, replacement, protection, growth; brk; shared memory.
#define _GNU_SOURCE
#include <signal.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/shm.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static sigjmp_buf jump;
static void on_fault(int signal) { siglongjmp(jump, 1); }
static int readable(volatile char* p) {
  if (sigsetjmp(jump, 1)) return 0;
  (void)*p;
  return 1;
}
static int writable(volatile char* p) {
  if (sigsetjmp(jump, 1)) return 0;
  *p = 1;
  return 1;
}
static char* map(void* at, size_t size, int prot, int flags) {
  return mmap(at, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
}

/// The heap is a mapping of its own, named.
static void heap(void) {
  void* start = sbrk(0);
  CHECK(sbrk(8192) != (void*)-1);
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[512];
  int found = 0;
  while (maps && fgets(line, sizeof line, maps)) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx", &from, &to) != 2 || (unsigned long)start < from || (unsigned long)start > to) continue;
    found |= strstr(line, "[heap]") != 0;
  }
  if (maps) fclose(maps);
  CHECK(found);
}

int main(void) {
  heap();
  signal(SIGSEGV, on_fault);
  signal(SIGBUS, on_fault);
  const int rw = PROT_READ | PROT_WRITE;
  char* a = map(0, 5 * 4096, rw, 0);
  char* b = map(0, 4096, rw, 0);
  CHECK(b + 4096 == a);  // downwards, without gaps
  memset(a, 1, 5 * 4096);
  CHECK(munmap(a + 4096, 4096) == 0);
  CHECK(!readable(a + 4096) && readable(a) && readable(a + 8192));
  CHECK(map(0, 4096, rw, 0) == a + 4096);  // the hole is filled
  CHECK(a[4096] == 0);
  CHECK(mprotect(a, 4096, PROT_READ) == 0 && readable(a) && !writable(a));
  CHECK(mprotect(a, 4096, PROT_NONE) == 0 && !readable(a));
  CHECK(mprotect(a, 4096, rw) == 0 && writable(a) && a[1] == 1);
  CHECK(mprotect((void*)0x10000000, 4096, rw) == -1 && errno == ENOMEM);
  CHECK(map(a, 4096, rw, MAP_FIXED_NOREPLACE) == MAP_FAILED && errno == EEXIST);
  CHECK(map(a, 4096, rw, MAP_FIXED) == a && a[0] == 0);
  CHECK(map((void*)0x123450000, 4096, rw, 0) == (void*)0x123450000);
  CHECK(map(0, 0, rw, 0) == MAP_FAILED && errno == EINVAL);
  CHECK(munmap((void*)0x100001, 4096) == -1 && errno == EINVAL);

  char* m = map(0, 6 * 4096, rw, 0);  // rights in stripes, then all the same
  for (int i = 0; i < 6; i += 2) CHECK(mprotect(m + i * 4096, 4096, PROT_NONE) == 0);
  CHECK(mprotect(m, 6 * 4096, PROT_NONE) == 0 && !readable(m) && !readable(m + 5 * 4096));
  CHECK(mprotect(m, 5 * 4096, rw) == 0 && writable(m + 4 * 4096) && !readable(m + 5 * 4096));
  munmap(m, 6 * 4096);

  char* c = map(0, 3 * 4096, rw, 0);
  strcpy(c + 4096, "kept");
  munmap(c + 2 * 4096, 4096);
  char* d = mremap(c, 2 * 4096, 3 * 4096, 0);
  CHECK(d == c && d[2 * 4096] == 0);
  d = mremap(c, 3 * 4096, 64 * 4096, MREMAP_MAYMOVE);
  CHECK(d != MAP_FAILED && !strcmp(d + 4096, "kept") && (d == c || !readable(c)));
  d[63 * 4096] = 1;
  CHECK(mremap(d, 64 * 4096, 4096, 0) == d && !readable(d + 4096) && readable(d));

  char* top = sbrk(0);
  CHECK(sbrk(100000) == top);
  memset(top, 5, 100000);
  CHECK(sbrk(-100000) == top + 100000);
  CHECK(sbrk(100000) == top && top[50000] == 0);

  // Shared between processes; private is not.
  int* shared = mmap(0, 4096, rw, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  int* private = mmap(0, 4096, rw, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const pid_t pid = fork();
  if (pid == 0) {
    *shared = 41;
    *private = 42;
    _exit(0);
  }
  waitpid(pid, 0, 0);
  CHECK(*shared == 41 && *private == 0);

  const int id = shmget(IPC_PRIVATE, 10000, IPC_CREAT | 0600);
  char* segment = shmat(id, 0, 0);
  CHECK(segment != (void*)-1);
  segment[9999] = 3;
  CHECK(shmdt(segment) == 0 && !readable(segment));
  CHECK(shmctl(id, IPC_RMID, 0) == 0);

  // A file, seen through two mappings, and /proc/self/maps.
  FILE* file = tmpfile();
  ftruncate(fileno(file), 8192);
  char* one = mmap(0, 8192, rw, MAP_SHARED, fileno(file), 0);
  char* two = mmap(0, 4096, PROT_READ, MAP_SHARED, fileno(file), 4096);
  strcpy(one + 4096, "through");
  CHECK(!strcmp(two, "through"));
  int found = 0, stack = 0;
  FILE* maps = fopen("/proc/self/maps", "r");
  char line[512];
  while (fgets(line, sizeof line, maps)) {
    unsigned long start, end;
    char perms[8];
    sscanf(line, "%lx-%lx %7s", &start, &end, perms);
    if (start == (unsigned long)one && end == start + 8192 && !strcmp(perms, "rw-s")) found = 1;
    if (strstr(line, "[stack]") && start < (unsigned long)&found && end > (unsigned long)&found) stack = 1;
  }
  CHECK(found && stack);

  // The kernel answers EFAULT where the guest has nothing.
  CHECK(write(1, (void*)0x5000, 10) == -1 && errno == EFAULT);
  CHECK(write(1, (void*)0xf000000000000000, 10) == -1 && errno == EFAULT);
  unsigned char vector[4];
  CHECK(mincore(c + (1 << 30), 4096, vector) == -1 && errno == ENOMEM);
  CHECK(msync(a, 4096, MS_SYNC) == 0);
  return done();
}
