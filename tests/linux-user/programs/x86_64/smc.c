// Self-modifying code without any notice, as x86 allows it: rewritten functions, the instruction stream itself, code and data on one
// page, remapping, two mappings, modification by read().
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../check.h"

typedef int (*Function)(void);
static void make(uint8_t* code, int value) {  // mov $value, %eax; ret
  code[0] = 0xb8;
  memcpy(code + 1, &value, 4);
  code[5] = 0xc3;
}
static volatile int stop;
static uint8_t* shared;
static void* caller(void* unused) {
  int last = 0;
  while (!stop) {
    const int now = ((Function)shared)();
    if (now < last) return (void*)1;
    last = now;
  }
  return 0;
}

int main(void) {
  uint8_t* page = mmap(0, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 300; ++i) {
    make(page, i);
    CHECK(((Function)page)() == i);
  }
  // An instruction that changes the one right behind it, in the same straight line of code.
  static const uint8_t stream[] = {
      0xb8, 0, 0, 0, 0,                          // mov $0, %eax
      0x89, 0x3d, 1, 0, 0, 0,                    // mov %edi, 1(%rip): the immediate of
      0xb8, 0x11, 0x22, 0x33, 0x44,              // mov $0x44332211, %eax
      0xc3,                                      // ret
  };
  memcpy(page + 256, stream, sizeof stream);
  for (int i = 0; i < 300; ++i) CHECK(((int (*)(int))(page + 256))(i * 77) == i * 77);

  // A loop that rewrites its own body: add $1 becomes add $2, once it is hot.
  static const uint8_t loop[] = {
      0x31, 0xc0,                    // xor %eax, %eax
      0x89, 0xf9,                    // mov %edi, %ecx
      0x83, 0xc0, 0x01,              // 4: add $1, %eax
      0x39, 0xf1,                    // cmp %esi, %ecx
      0x75, 0x07,                    // jne +7
      0xc6, 0x05, 0xf4, 0xff, 0xff, 0xff, 0x02,  // movb $2, -12(%rip): the add's immediate
      0xff, 0xc9,                    // dec %ecx
      0x75, 0xee,                    // jnz 4
      0xc3,                          // ret
  };
  memcpy(page + 512, loop, sizeof loop);
  CHECK(((int (*)(int, int))(page + 512))(2000000, 500000) == 1500001 + 2 * 499999);

  // Data beside the code on the same page, written while the code is hot.
  volatile uint32_t* data = (uint32_t*)(page + 2048);
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
  CHECK(pipe(ends) == 0);
  uint8_t fresh[6];
  make(fresh, 55);
  CHECK(((Function)page)() == 3);
  CHECK(write(ends[1], fresh, 6) == 6);
  CHECK(read(ends[0], page, 6) == 6);
  CHECK(((Function)page)() == 55);

  // Written through one mapping, run through another.
  const int fd = memfd_create("code", 0);
  CHECK(ftruncate(fd, 4096) == 0);
  uint8_t* writable = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  uint8_t* executable = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
  for (int i = 0; i < 20; ++i) {
    make(writable, i);
    CHECK(((Function)executable)() == i);
  }

  // One thread runs what another one rewrites: the four bytes are aligned, so old or new is seen.
  shared = page + 1024 + 3;
  make(shared, 0);
  pthread_t thread;
  pthread_create(&thread, 0, caller, 0);
  for (int i = 1; i < 500; ++i) *(volatile int*)(shared + 1) = i;
  stop = 1;
  void* result;
  pthread_join(thread, &result);
  CHECK(result == 0);
  return done();
}
