// System calls and program start without a C library, for the guests of the fuzzer.
#pragma once

#if defined(__aarch64__)
static long raw(long n, long a, long b, long c, long d, long e, long f) {
  register long x8 __asm__("x8") = n;
  register long x0 __asm__("x0") = a;
  register long x1 __asm__("x1") = b;
  register long x2 __asm__("x2") = c;
  register long x3 __asm__("x3") = d;
  register long x4 __asm__("x4") = e;
  register long x5 __asm__("x5") = f;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory", "cc");
  return x0;
}
__asm__(".globl _start\n_start: mov x29, xzr\n mov x0, sp\n and sp, x0, #-16\n bl start\n brk 1\n");
__asm__(".globl restorer\nrestorer: mov x8, 139\n svc 0\n");
#elif defined(__x86_64__)
static long raw(long n, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d;
  register long r8 __asm__("r8") = e;
  register long r9 __asm__("r9") = f;
  long r;
  __asm__ volatile("syscall" : "=a"(r) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
  return r;
}
__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call start\n ud2\n");
__asm__(".globl restorer\nrestorer: mov $15, %eax\n syscall\n");
#elif defined(__i386__)
long raw(long n, long a, long b, long c, long d, long e, long f);
__asm__(
    ".globl raw\nraw: push %ebp\n push %ebx\n push %esi\n push %edi\n"
    " mov 20(%esp), %eax\n mov 24(%esp), %ebx\n mov 28(%esp), %ecx\n mov 32(%esp), %edx\n mov 36(%esp), %esi\n"
    " mov 40(%esp), %edi\n mov 44(%esp), %ebp\n int $0x80\n pop %edi\n pop %esi\n pop %ebx\n pop %ebp\n ret\n");
__asm__(".globl _start\n_start: mov %esp, %eax\n and $-16, %esp\n sub $12, %esp\n push %eax\n call start\n ud2\n");
__asm__(".globl restorer\nrestorer: mov $173, %eax\n int $0x80\n");
#else
#error no stubs for this guest
#endif
void restorer(void);

// The compiler may ask for these.
void* memset(void* to, int value, unsigned long size);
void* memset(void* to, int value, unsigned long size) {
  volatile char* p = to;
  while (size--) *p++ = (char)value;
  return to;
}
void* memcpy(void* to, const void* from, unsigned long size);
void* memcpy(void* to, const void* from, unsigned long size) {
  volatile char* p = to;
  for (const char* q = from; size--;) *p++ = *q++;
  return to;
}
