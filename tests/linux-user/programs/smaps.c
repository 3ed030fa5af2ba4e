// /proc/self/smaps: the guest's addresses with the host's counters, as Redis (copy-on-write test at start) and Java read it.
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/// The value in kB of a counter of the area that holds `address`; -1: no such area, -2: no such counter. VmFlags: is it writable. `size`: of the area.
static long counter(const void* address, const char* name, unsigned long* size) {
  FILE* f = fopen("/proc/self/smaps", "r");
  CHECK(f != 0);
  char line[512];
  long result = -1;
  while (f && fgets(line, sizeof line, f)) {
    unsigned long start, end;
    if (sscanf(line, "%lx-%lx ", &start, &end) == 2 && strchr(line, '-') < strchr(line, ' ')) {
      if (result == -2) break;
      if (start <= (unsigned long)address && (unsigned long)address < end) {
        result = -2;
        *size = end - start;
      }
    } else if (result == -2 && !strncmp(line, name, strlen(name)) && line[strlen(name)] == ':') {
      result = strcmp(name, "VmFlags") ? strtol(line + strlen(name) + 1, 0, 10) : strstr(line, " wr") != 0;
      break;
    }
  }
  if (f) fclose(f);
  return result;
}

int main(void) {
  const long page = sysconf(_SC_PAGESIZE), kb = page / 1024;
  char* area = mmap(0, 6 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  char* middle = area + 2 * page;
  CHECK(area != MAP_FAILED && mprotect(middle, 2 * page, PROT_READ | PROT_WRITE) == 0);
  unsigned long size;
  CHECK(counter(middle, "Rss", &size) == 0 && size == 2ul * page);
  middle[0] = 1;
  CHECK(counter(middle, "Private_Dirty", &size) == kb);
  CHECK(counter(middle, "Anonymous", &size) == kb);
  CHECK(counter(middle, "Size", &size) == 2 * kb);
  CHECK(counter(middle, "VmFlags", &size) == 1 && counter(area, "VmFlags", &size) == 0);
  const pid_t pid = fork();
  if (pid == 0) {
    CHECK(counter(middle, "Shared_Dirty", &size) == kb && counter(middle, "Private_Dirty", &size) == 0);
    middle[0] = 2;
    CHECK(counter(middle, "Shared_Dirty", &size) == 0 && counter(middle, "Private_Dirty", &size) == kb);
    _exit(check_failures);
  }
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);

  // Rights that only the guest knows: the host may hold these two as one area.
  char* code = mmap(0, 2 * page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(code != MAP_FAILED && mprotect(code, page, PROT_READ | PROT_EXEC) == 0);
  CHECK(counter(code, "Size", &size) == kb && size == (unsigned long)page);
  CHECK(counter((void*)main, "Rss", &size) > 0 && counter(&size, "Rss", &size) > 0);
  CHECK(counter((void*)8, "Rss", &size) == -1);
  return done();
}
