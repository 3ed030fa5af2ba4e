// Self-modifying code: rewritten functions, code and data on one page, remapping, two mappings, modification by read().
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../check.h"

typedef int (*Function)(void);
static uint32_t mov_w0(int value) { return 0x52800000u | (uint32_t)value << 5; }
static const uint32_t kRet = 0xd65f03c0;
static void flush(void* p) { __builtin___clear_cache((char*)p, (char*)p + 64); }
static void make(uint32_t* code, int value) {
  code[0] = mov_w0(value);
  code[1] = kRet;
  flush(code);
}
static volatile int stop;
static uint32_t* shared;
static void* caller(void* unused) {
  int last = 0;
  while (!stop) {
    const int now = ((Function)(shared + 64))();
    if (now < last) return (void*)1;
    last = now;
  }
  return 0;
}

int main(void) {
  uint32_t* page = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 300; ++i) {
    make(page, i);
    CHECK(((Function)page)() == i);
  }
  // Data beside the code on the same page, written while the code is hot.
  volatile uint32_t* data = page + 512;
  make(page, 77);
  int sum = 0;
  for (int i = 0; i < 3000; ++i) {
    *data = (uint32_t)i;
    sum += ((Function)page)();
  }
  CHECK(sum == 77 * 3000 && *data == 2999);

  // Another mapping in the same place; rights taken away and given back.
  make(page, 1);
  CHECK(((Function)page)() == 1);
  mmap(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  make(page, 2);
  CHECK(((Function)page)() == 2);
  mprotect(page, 4096, PROT_READ | PROT_WRITE);
  make(page, 3);
  mprotect(page, 4096, PROT_READ | PROT_EXEC);
  CHECK(((Function)page)() == 3);
  mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);

  // The kernel writes the code.
  int ends[2];
  pipe(ends);
  const uint32_t fresh[2] = {mov_w0(55), kRet};
  CHECK(((Function)page)() == 3);
  write(ends[1], fresh, 8);
  CHECK(read(ends[0], page, 8) == 8);
  flush(page);
  CHECK(((Function)page)() == 55);

  // Written through one mapping, run through another.
  const int fd = memfd_create("code", 0);
  ftruncate(fd, 4096);
  uint32_t* writable = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint32_t* executable = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
  for (int i = 0; i < 20; ++i) {
    writable[0] = mov_w0(i);
    writable[1] = kRet;
    flush(writable);
    flush(executable);
    CHECK(((Function)executable)() == i);
  }

  // One thread runs what another one rewrites.
  shared = page;
  make(shared + 64, 0);
  pthread_t thread;
  pthread_create(&thread, 0, caller, 0);
  for (int i = 1; i < 500; ++i) {
    shared[64] = mov_w0(i);
    flush(shared + 64);
  }
  stop = 1;
  void* result;
  pthread_join(thread, &result);
  CHECK(result == 0);
  return done();
}
