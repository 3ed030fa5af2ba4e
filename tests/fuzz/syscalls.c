// Random system calls with random and with interesting arguments, by seed: syscalls SEED CALLS. A guest program without a library.
// What an argument is (descriptor, path, size, …) it knows from Kiln's own table of syscalls. scripts/soak and tests/fuzz/run
// start it as nobody, in namespaces of its own.
#include <asm/unistd.h>

#include "stubs.h"

typedef unsigned long word;
typedef unsigned long long u64;

// --- Kiln's table: number, name, a letter per argument ---------------------------------------------------------------------
#define PASS(name, args) static const char letters_##name[] = args;
#define CALL(name, args) static const char letters_##name[] = args;
#define NONE(name) static const char letters_##name[] = "xxxxxx";
#include "linux-user/syscalls/list.def"
#define PASS32(name, host, args) static const char letters32_##name[] = args;
#define SAME32(name, function, args) static const char letters32_##name[] = args;
#define CALL32(name, args) static const char letters32_##name[] = args;
#define NONE32(name) static const char letters32_##name[] = "xxxxxx";
#include "linux-user/syscalls/list32.def"

struct row {
  int number;
  const char* name;
  const char* letters;
};
#define NR(number, name) {number, #name, letters_##name},
#define NR32(number, name) {number, #name, letters32_##name},
static const struct row rows[] = {
#if defined(__aarch64__)
#include "linux-user/syscalls/numbers_generic64.def"
#elif defined(__x86_64__)
#include "linux-user/syscalls/numbers_x86_64.def"
#else
#include "linux-user/syscalls/numbers_i386.def"
#endif
};
enum { ROWS = sizeof rows / sizeof rows[0] };

// --- randomness ------------------------------------------------------------------------------------------------------------
static u64 state;
static word next(void) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (word)(state >> 11);
}
static word below(word n) { return next() % n; }
static int one_in(word n) { return below(n) == 0; }

// --- memory ----------------------------------------------------------------------------------------------------------------
enum { PAGE = 4096, BUFFER = 16 * PAGE, ARENA_PAGES = 64 };
static char buffer[BUFFER] __attribute__((aligned(4096)));
static char* arena;      // for calls that map and unmap
static char* code_page;  // writable, with code that has run
static char* read_only;
static char* no_access;
static word own_pid;

static int same(const char* a, const char* b) {
  while (*a && *a == *b) ++a, ++b;
  return *a == *b;
}
static int is_one_of(const char* name, const char* const* list) {
  for (; *list; ++list)
    if (same(name, *list)) return 1;
  return 0;
}

static word small_flags(void) {
  switch (below(6)) {
    case 0: return 0;
    case 1: return (word)1 << below(32);
    case 2: return ((word)1 << below(20)) | ((word)1 << below(12));
    case 3: return below(16);
    case 4: return below(256);
    default: return next();
  }
}
static word any_size(void) {
  static const word sizes[] = {0, 1, 2, 4, 8, 12, 16, 24, 32, 56, 64, 88, 112, 128, 136, 256, 512, 1000, 4095, 4096, 4097, 8192, 65536};
  if (one_in(20)) return (word)-1;
  if (one_in(20)) return (word)1 << (8 * sizeof(word) - 1);
  if (one_in(30)) return next();
  return sizes[below(sizeof sizes / sizeof sizes[0])];
}
static word descriptor(void) {
  if (one_in(15)) return (word)-1;
  if (one_in(30)) return next();
  return 3 + below(40);
}
static word pointer(void);
static void fill(char* at, word size) {  // something between a struct and noise
  for (word n = 0; n + sizeof(word) <= size; n += sizeof(word)) {
    word v;
    switch (below(8)) {
      case 0: v = (word)buffer + below(BUFFER - 256); break;
      case 1: v = any_size(); break;
      case 2: v = descriptor(); break;
      case 3: v = 0; break;
      case 4: v = (word)-1; break;
      case 5: v = small_flags(); break;
      case 6: v = below(16); break;
      default: v = next(); break;
    }
    *(volatile word*)(at + n) = v;
  }
}
static word pointer(void) {
  switch (below(24)) {
    case 0: return 0;
    case 1: return 1;
    case 2: return (word)-1;
    case 3: return (word)-4096;
    case 4: return (word)read_only + below(PAGE);
    case 5: return (word)no_access + below(PAGE);
    case 6: return (word)code_page + below(PAGE);
    case 7: return (word)&rows;  // the program's own text or constants
    case 8: return (word)buffer + BUFFER - below(64);
    case 9: return (word)buffer + PAGE - below(16);
    case 10: return next();
    case 11: return sizeof(word) == 8 ? ((word)1 << 46 << 1) - below(64) : (word)0xfffff000 - below(64);
    case 12: return sizeof(word) == 8 ? (word)0x100000000000ull + (word)(long)&rows : (word)0xffff0000;  // Kiln's view of it
    case 13: return (word)arena + below(ARENA_PAGES) * PAGE;
    default: {
      char* at = buffer + (below(BUFFER - 1024) & ~(word)7);
      fill(at, 256);
      return (word)at;
    }
  }
}
static word path(void) {
  static const char* const names[] = {"a",  "b",  "dir", "dir/c", "link",      "loop", ".", "..", "", "new", "dir/new", "/proc/self/maps", "/proc/self/exe", "/proc/self/fd/5",
                                      "/proc/self/mem", "/proc/self/stat", "/proc/self/cmdline", "/proc/self/smaps", "/proc/thread-self/status", "/proc/cpuinfo", "/dev/null", "/dev/zero",
                                      "/tmp/a", "/dev/shm", "/nowhere/x", "proc", "tmpfs", "user", "system.posix_acl_access", "user.x", "/proc/self/task", "/proc/sys/kernel/hostname", "/proc/self/auxv", "/proc/self/environ"};
  if (one_in(12)) return pointer();
  if (one_in(40)) {
    char* at = buffer + 4096;
    memset(at, 'x', 9000);
    return (word)at;
  }
  return (word)names[below(sizeof names / sizeof names[0])];
}
static word timespec(void) {
  if (one_in(6)) return pointer();
  word* at = (word*)(buffer + BUFFER / 2);
  for (int n = 0; n < 8; ++n) at[n] = 0;
  at[below(2) ? 1 : 2] = one_in(8) ? next() : below(1000000);
  return (word)at;
}

static word argument(char letter) {
  if (one_in(60)) return next();
  switch (letter) {
    case 'd': return descriptor();
    case 'D': return one_in(2) ? (word)-100 : descriptor();
    case 'P':
    case 'L':
    case 's': return path();
    case 'p':
    case 'w':
    case 'b': return pointer();
    case 'z': return any_size();
    case 'l':
    case 'Q': return one_in(3) ? any_size() : below(20000);
    case 'T':
    case 'N':
    case 'E':
    case 'F':
    case 'V':
    case 'J': return timespec();
    case 'o': return below(010000);
    case 'O': return small_flags() & ~(word)0x200000;
    case 'M': return below(8);
    case 'C': return one_in(4) ? next() : below(12);
    case 'A': return one_in(3) ? 0x100 : one_in(2) ? 0x1000 : small_flags();
    case 'g': {  // none that stops, and mostly none that kills
      static const unsigned char harmless[] = {0, 17, 18, 23, 28, 65};
      word signal = one_in(40) ? next() & 127 : harmless[below(sizeof harmless)];
      return signal >= 19 && signal <= 22 ? 17 : signal;
    }
    case 'i':
    case 'u':
      switch (below(6)) {
        case 0: return own_pid;
        case 1: return (word)-1;
        case 2: return 0;
        default: return small_flags();
      }
    case 'k': return below(70000);
    case 'x': return small_flags();
    default: return pointer();
  }
}

// --- calls that need care ----------------------------------------------------------------------------------------------------
static const char* const skipped[] = {"exit", "exit_group", "rt_sigreturn", "sigreturn", "vfork", "clone", "clone3", "fork", "sync", "syncfs", "pause", "rt_sigsuspend", "sigsuspend",
                                      // the alarm that gets us out of a wait is set again before every call
                                      "brk", 0};
static const char* const on_arena[] = {"mmap", "mmap2", "munmap", "mremap", "mprotect", "pkey_mprotect", "madvise", "msync", "mlock", "mlock2", "munlock", "mincore", "mbind", "remap_file_pages", "shmat", "shmdt", 0};
static const char* const limited_size[] = {"mmap", "mmap2", "mremap", "fallocate", "shmget", "ftruncate", "ftruncate64", "truncate", "truncate64", 0};

// A mask that shuts the alarm out would have us wait for ever.
static const char* const ppoll_like[] = {"ppoll", "ppoll_time64", 0};
static const char* const epoll_like[] = {"epoll_pwait", "epoll_pwait2", 0};
static const char* const pselect_like[] = {"pselect6", "pselect6_time64", "io_pgetevents", "io_pgetevents_time64", 0};
static unsigned open_mask[2] = {1u << 20, 0};
static word packed_mask[2] = {(word)open_mask, 8};

static void write_text(const char* text) {
  word n = 0;
  while (text[n]) ++n;
  raw(__NR_write, 1, (long)text, (long)n, 0, 0, 0);
}

static void on_signal(int signal) { (void)signal; }

struct kernel_action {
  word handler, flags, restorer;
  unsigned mask[2];
};
static void set_alarm(void) {
  struct kernel_action action;
  memset(&action, 0, sizeof action);
  action.handler = (word)&on_signal;
#if !defined(__aarch64__)
  action.flags = 0x04000000;  // SA_RESTORER; a plain frame on i386, but rt frames return alike when SA_SIGINFO is set
  action.restorer = (word)&restorer;
#endif
  action.flags |= 4;  // SA_SIGINFO
  raw(__NR_rt_sigaction, 14, (long)&action, 0, 8, 0, 0);
  unsigned mask[2] = {1u << 13, 0};
  raw(__NR_rt_sigprocmask, 1, (long)mask, 0, 8, 0, 0);
  long interval[4] = {0, 20000, 0, 20000};
  raw(__NR_setitimer, 0, (long)interval, 0, 0, 0, 0);
}

static void one_call(int depth);

static void child(void) {
  for (int n = 0; n < 10; ++n) one_call(1);
  raw(__NR_exit_group, 0, 0, 0, 0, 0, 0);
}

static void one_call(int depth) {
  set_alarm();
  if (one_in(100) && depth == 0) {
    long pid = raw(__NR_clone, 17, 0, 0, 0, 0, 0);
    if (pid == 0) child();
    if (pid > 0) raw(__NR_wait4, pid, 0, 1, 0, 0, 0);
    return;
  }
  if (one_in(100)) {  // a number without a name
    raw((long)(one_in(2) ? below(700) + 451 : next()), (long)pointer(), (long)pointer(), (long)next(), (long)next(), 0, 0);
    return;
  }
  const struct row* row = &rows[below(ROWS)];
  if (is_one_of(row->name, skipped)) return;
  word a[6];
  int n = 0;
  for (; n < 6 && row->letters[n]; ++n) a[n] = argument(row->letters[n]);
  for (; n < 6; ++n) a[n] = next();
  if (is_one_of(row->name, on_arena) && !one_in(50)) {
    a[0] = (word)arena + below(ARENA_PAGES) * PAGE + (one_in(10) ? below(PAGE) : 0);
    if (one_in(4) && row->letters[0] == 'x') a[0] = 0;
    a[1] = below(ARENA_PAGES - (a[0] ? (a[0] - (word)arena) / PAGE : 0)) * PAGE + (one_in(5) ? below(PAGE) : 0);
    if (same(row->name, "mremap")) {
      a[2] = below(16) * PAGE;
      a[4] = (word)arena + below(ARENA_PAGES - 16) * PAGE;
    }
    if (same(row->name, "mmap") || same(row->name, "mmap2")) {
      a[3] = (one_in(2) ? 2 : 1) | (one_in(3) ? 0 : 0x20) | (one_in(3) ? small_flags() & 0x7ff00 : 0) | (a[0] && one_in(2) ? 0x10 : 0);
      if (one_in(20)) a[3] = next() & ~(word)0x18040;
    }
  }
  if (is_one_of(row->name, limited_size))
    for (n = 0; n < 6; ++n)
      if ((row->letters[n] == 'z' || row->letters[n] == 'l' || row->letters[n] == 'Q') && a[n] > (word)1 << 24 && !one_in(50)) a[n] &= 0xffffff;
  int mask_at = is_one_of(row->name, ppoll_like) ? 3 : is_one_of(row->name, epoll_like) ? 4 : is_one_of(row->name, pselect_like) ? 5 : -1;
  if (mask_at >= 0) a[mask_at] = one_in(3) ? (word)-4096 : mask_at == 5 ? (word)(one_in(2) ? packed_mask : 0) : (word)(one_in(2) ? open_mask : 0);
  if (same(row->name, "close_range")) a[0] |= 16;
  if ((same(row->name, "dup2") || same(row->name, "dup3")) && (a[1] == 1 || a[1] == 2)) return;
  raw(row->number, (long)a[0], (long)a[1], (long)a[2], (long)a[3], (long)a[4], (long)a[5]);
  if (same(row->name, "mprotect") || same(row->name, "munmap") || same(row->name, "mmap") || same(row->name, "mremap")) {
    // What is needed again must be there.
    raw(__NR_mprotect, (long)buffer, BUFFER, 3, 0, 0, 0);
  }
}

// --- what the calls work on ------------------------------------------------------------------------------------------------
#ifndef __NR_mmap2
#define __NR_mmap2 __NR_mmap
#endif
static char* map(word size, long prot) { return (char*)raw(__NR_mmap2, 0, (long)size, prot, 0x22, -1, 0); }
static void open_things(void) {
  const long here = -100;
  raw(__NR_mkdirat, here, (long)"dir", 0700, 0, 0, 0);
  raw(__NR_openat, here, (long)"a", 02 | 0100, 0600, 0, 0);
  raw(__NR_openat, here, (long)"dir/c", 02 | 0100, 0600, 0, 0);
  raw(__NR_symlinkat, (long)"a", here, (long)"link", 0, 0, 0);
  raw(__NR_symlinkat, (long)"loop", here, (long)"loop", 0, 0, 0);
  raw(__NR_pwrite64, 3, (long)buffer, 9000, 0, 0, 0);
  raw(__NR_openat, here, (long)"a", 0, 0, 0, 0);
  raw(__NR_openat, here, (long)".", 0, 0, 0, 0);
  raw(__NR_openat, here, (long)"/proc/self", 0, 0, 0, 0);
  raw(__NR_openat, here, (long)"/dev/zero", 2, 0, 0, 0);
  int pair[2];
  raw(__NR_pipe2, (long)pair, 04000, 0, 0, 0, 0);
  raw(__NR_pipe2, (long)pair, 0, 0, 0, 0, 0);
  raw(__NR_socketpair, 1, 1, 0, (long)pair, 0, 0);
  raw(__NR_socketpair, 1, 2, 0, (long)pair, 0, 0);
  raw(__NR_socket, 2, 1, 0, 0, 0, 0);
  raw(__NR_socket, 2, 2, 0, 0, 0, 0);
  raw(__NR_socket, 16, 3, 0, 0, 0, 0);
  raw(__NR_socket, 10, 2, 0, 0, 0, 0);
  raw(__NR_epoll_create1, 0, 0, 0, 0, 0, 0);
  raw(__NR_eventfd2, 1, 0, 0, 0, 0, 0);
  raw(__NR_timerfd_create, 1, 0, 0, 0, 0, 0);
  unsigned mask[2] = {1u << 9, 0};
  raw(__NR_signalfd4, -1, (long)mask, 8, 0, 0, 0);
  raw(__NR_inotify_init1, 04000, 0, 0, 0, 0, 0);
  raw(__NR_memfd_create, (long)"memory", 2, 0, 0, 0, 0);
  raw(__NR_openat, here, (long)"/proc/self/maps", 0, 0, 0, 0);
  raw(__NR_openat, here, (long)"/dev/ptmx", 2, 0, 0, 0);
  raw(__NR_openat, here, (long)"/dev/null", 2, 0, 0, 0);
}

static word number(const char* text) {
  word v = 0;
  for (; *text >= '0' && *text <= '9'; ++text) v = v * 10 + (word)(*text - '0');
  return v;
}

void start(word* stack);
void start(word* stack) {
  char** argv = (char**)(stack + 1);
  const word seed = stack[0] > 1 ? number(argv[1]) : 1, calls = stack[0] > 2 ? number(argv[2]) : 300;
  state = seed * 0x9e3779b97f4a7c15ull + 0x1234567;
  if (state == 0) state = 1;
  for (int n = 0; n < 10; ++n) next();
  struct kernel_action ignore;
  memset(&ignore, 0, sizeof ignore);
  ignore.handler = 1;
  raw(__NR_rt_sigaction, 13, (long)&ignore, 0, 8, 0, 0);  // SIGPIPE, SIGXFSZ
  raw(__NR_rt_sigaction, 25, (long)&ignore, 0, 8, 0, 0);
  own_pid = (word)raw(__NR_getpid, 0, 0, 0, 0, 0, 0);
  arena = map(ARENA_PAGES * PAGE, 3);
  read_only = map(PAGE, 1);
  no_access = map(PAGE, 0);
  code_page = map(PAGE, 7);
#if defined(__aarch64__)
  *(unsigned*)code_page = 0xd65f03c0;
#else
  *code_page = (char)0xc3;
#endif
  ((void (*)(void))code_page)();
  open_things();
  for (word n = 0; n < calls; ++n) one_call(0);
  write_text("calls done\n");
  if (one_in(4)) {  // a frame of noise
    word noise[200];
    fill((char*)noise, sizeof noise);
#if defined(__NR_sigreturn) && defined(__i386__)
    if (one_in(2)) raw(__NR_sigreturn, 0, 0, 0, 0, 0, 0);
#endif
    raw(__NR_rt_sigreturn, (long)noise, 0, 0, 0, 0, 0);
  }
  raw(__NR_exit_group, 0, 0, 0, 0, 0, 0);
}
