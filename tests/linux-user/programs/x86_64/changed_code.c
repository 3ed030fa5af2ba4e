// Code that is written and run without any notice, as x86 allows: by calls, in the same instruction stream, across pages, on a page with
// busy data, through a second view, by a system call, by string instructions, from another thread.
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../check.h"

typedef int (*Function)(int);

static unsigned char* page(int pages) {
  void* p = mmap(0, 4096 * pages, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  CHECK(p != MAP_FAILED);
  return p;
}

// mov $value, %eax; ret
static void put_return(unsigned char* at, int value) {
  at[0] = 0xb8;
  memcpy(at + 1, &value, 4);
  at[5] = 0xc3;
}
static int call(unsigned char* at, int argument) { return ((Function)at)(argument); }

static void rewritten_between_calls(void) {
  unsigned char* p = page(1);
  for (int i = 0; i < 20000; ++i) {
    put_return(p + 16 * (i % 7), i);
    CHECK(call(p + 16 * (i % 7), 0) == i);
  }
}

// Puts code that stores its argument into the immediate of the instruction behind the store, which it then returns.
static unsigned char* put_stores_ahead(unsigned char* at) {
#ifdef __x86_64__
  static const unsigned char code[] = {0x89, 0x3d, 1, 0, 0, 0};  // mov %edi, 1(%rip)
  memcpy(at, code, sizeof code);
  unsigned char* next = at + sizeof code;
#else
  static const unsigned char code[] = {0x8b, 0x44, 0x24, 4, 0xa3, 0, 0, 0, 0};  // mov 4(%esp), %eax; mov %eax, next + 1
  memcpy(at, code, sizeof code);
  unsigned char* next = at + sizeof code;
  uint32_t target = (uint32_t)(uintptr_t)(next + 1);
  memcpy(at + 5, &target, 4);
#endif
  put_return(next, -1);
  return next;
}

static void same_stream(void) {
  unsigned char* p = page(1);
  put_stores_ahead(p + 100);
  for (int i = 0; i < 20000; ++i) CHECK(call(p + 100, i * 3) == i * 3);
}

static void across_pages(void) {
  unsigned char* p = page(2);
  for (int at = 4091; at <= 4096; ++at)
    for (int i = 0; i < 100; ++i) {
      put_return(p + at, i << 24 | i);
      CHECK(call(p + at, 0) == (i << 24 | i));
      p[at + 4] = 77;  // the immediate's highest byte, mostly on the second page
      CHECK(call(p + at, 0) == (77 << 24 | i));
    }
}

static void busy_data_beside(void) {
  unsigned char* p = page(1);
  volatile int* counter = (volatile int*)(p + 2048);
#ifdef __x86_64__
  // 1: incl counter(%rip); dec %edi; jnz 1b; mov counter(%rip), %eax; ret
  unsigned char code[] = {0xff, 0x05, 0, 0, 0, 0, 0xff, 0xcf, 0x75, 0xf6, 0x8b, 0x05, 0, 0, 0, 0, 0xc3};
  int32_t to = 2048 - 6;
  memcpy(code + 2, &to, 4);
  to = 2048 - 16;
  memcpy(code + 12, &to, 4);
#else
  unsigned char code[] = {0x8b, 0x4c, 0x24, 4, 0xff, 0x05, 0, 0, 0, 0, 0x49, 0x75, 0xf7, 0xa1, 0, 0, 0, 0, 0xc3};
  uint32_t to = (uint32_t)(uintptr_t)counter;
  memcpy(code + 6, &to, 4);
  memcpy(code + 14, &to, 4);
#endif
  memcpy(p, code, sizeof code);
  CHECK(call(p, 3000000) == 3000000);
  CHECK(*counter == 3000000);
}

static void second_view(void) {
  int fd = memfd_create("code", 0);
  CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
  unsigned char* w = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  unsigned char* x = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
  CHECK(w != MAP_FAILED && x != MAP_FAILED);
  for (int i = 0; i < 500; ++i) {
    put_return(w + 32, i);
    CHECK(call(x + 32, 0) == i);
  }
}

static void by_system_call(void) {
  unsigned char* p = page(1);
  int pipes[2];
  CHECK(pipe(pipes) == 0);
  for (int i = 0; i < 100; ++i) {
    unsigned char code[6];
    put_return(code, i);
    CHECK(write(pipes[1], code, 6) == 6 && read(pipes[0], p, 6) == 6);
    CHECK(call(p, 0) == i);
  }
}

static void by_string_instruction(void) {
  unsigned char* p = page(1);
  unsigned char code[6];
  for (int i = 0; i < 200; ++i) {
    put_return(code, i);
    void *to = p, *from = code;
    size_t count = 6;
    __asm__ volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count) : : "memory");
    CHECK(call(p, 0) == i);
  }
}

static void with_changing_rights(void) {
  unsigned char* p = page(1);
  for (int i = 0; i < 200; ++i) {
    CHECK(mprotect(p, 4096, PROT_READ | PROT_WRITE) == 0);
    put_return(p, i);
    CHECK(mprotect(p, 4096, PROT_READ | PROT_EXEC) == 0);
    CHECK(call(p, 0) == i);
  }
}

static unsigned char* shared;
static volatile int stop;
static void* caller(void* unused) {
  (void)unused;
  long calls = 0;
  while (!stop) {
    const int got = call(shared, 0);
    CHECK(got == 0x11111111 || got == 0x22222222);
    ++calls;
  }
  CHECK(calls > 1000);
  return 0;
}

static void from_another_thread(void) {
  shared = page(1) + 3;  // the immediate is a word of four aligned bytes
  put_return(shared, 0x11111111);
  pthread_t threads[2];
  for (int i = 0; i < 2; ++i) CHECK(pthread_create(&threads[i], 0, caller, 0) == 0);
  for (int i = 0; i < 3000; ++i) {
    *(volatile int*)(shared + 1) = i % 2 ? 0x11111111 : 0x22222222;
    if (i % 30 == 0) usleep(500);
  }
  usleep(20000);
  stop = 1;
  for (int i = 0; i < 2; ++i) pthread_join(threads[i], 0);
}

int main(void) {
  rewritten_between_calls();
  same_stream();
  across_pages();
  busy_data_beside();
  second_view();
  by_system_call();
  by_string_instruction();
  with_changing_rights();
  from_another_thread();
  return done();
}
