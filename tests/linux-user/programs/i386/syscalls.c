// The i386 table by raw int $0x80: calls in all their ages, structs of 32-bit layout, 64-bit values in two registers.
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <dirent.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <linux/stat.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../check.h"

static long sys(long nr, long a, long b, long c, long d, long e, long f) {
  long result;
  asm volatile(
      "push %%ebp\n push %%ebx\n mov 4(%1),%%ebx\n mov 8(%1),%%ecx\n mov 12(%1),%%edx\n mov 16(%1),%%esi\n"
      "mov 20(%1),%%edi\n mov 24(%1),%%ebp\n mov (%1),%%eax\n int $0x80\n pop %%ebx\n pop %%ebp"
      : "=a"(result)
      : "a"((long[]){nr, a, b, c, d, e, f})
      : "ecx", "edx", "esi", "edi", "memory");
  return result;
}
#define SYS(nr, ...) SYS_(nr, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define SYS_(nr, a, b, c, d, e, f, ...) sys(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

struct old_stat {
  uint32_t dev, ino;
  uint16_t mode, nlink, uid, gid;
  uint32_t rdev, size, blksize, blocks, atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec, unused[2];
};
struct __attribute__((packed)) stat_64 {
  uint64_t dev;
  uint32_t pad0, short_ino, mode, nlink, uid, gid;
  uint64_t rdev;
  uint32_t pad3;
  int64_t size;
  uint32_t blksize;
  uint64_t blocks;
  uint32_t atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec;
  uint64_t ino;
};
struct time32 {
  int32_t sec, nsec;
};
struct time64 {
  int64_t sec, nsec;
};

static char directory[] = "/tmp/kiln-i386-XXXXXX";

static void files(void) {
  char path[64];
  snprintf(path, sizeof path, "%s/file", directory);
  const int fd = SYS(5 /* open */, path, O_CREAT | O_RDWR | 0100000 /* O_LARGEFILE */, 0640);
  CHECK(fd >= 0);
  CHECK(SYS(4, fd, "hello, world", 12) == 12);
  CHECK(SYS(19 /* lseek */, fd, -5, SEEK_END) == 7);
  int64_t at = -1;
  CHECK(SYS(140 /* _llseek */, fd, 1, 2, &at, SEEK_SET) == 0 && at == 0x100000002);
  CHECK(SYS(19, fd, 0, SEEK_CUR) == -EOVERFLOW || SYS(19, fd, 0, SEEK_CUR) == 2);
  char buffer[16] = "";
  CHECK(SYS(180 /* pread64 */, fd, buffer, 5, 7, 0) == 5 && !memcmp(buffer, "world", 5));
  CHECK(SYS(181 /* pwrite64 */, fd, "X", 1, 0, 2) == 1);  // at 8 GiB
  struct stat_64 st;
  struct old_stat old;
  CHECK(SYS(197 /* fstat64 */, fd, &st) == 0 && st.size == 0x200000001 && (st.mode & 07777) == 0640 && st.nlink == 1);
  CHECK(st.short_ino == (uint32_t)st.ino && st.blksize >= 512 && st.uid == getuid());
  CHECK(SYS(108 /* fstat */, fd, &old) == -EOVERFLOW);
  CHECK(SYS(194 /* ftruncate64 */, fd, 5, 1) == 0 && SYS(195 /* stat64 */, path, &st) == 0 && st.size == 0x100000005);
  CHECK(SYS(93 /* ftruncate */, fd, 100) == 0);
  if (st.ino >> 32 == 0) {
    CHECK(SYS(106 /* stat */, path, &old) == 0 && old.size == 100 && old.ino == st.short_ino && (old.mode & 07777) == 0640);
    CHECK(SYS(107 /* lstat */, path, &old) == 0 && old.mtime == st.mtime);
  }
  CHECK(SYS(300 /* fstatat64 */, AT_FDCWD, path, &st, 0) == 0 && st.size == 100);
  struct statx sx;
  CHECK(SYS(383, AT_FDCWD, path, 0, STATX_ALL, &sx) == 0 && sx.stx_size == 100 && sx.stx_ino == st.ino);
  CHECK(SYS(324 /* fallocate */, fd, 0, 0, 0, 8192, 0) == 0 || errno);
  CHECK(SYS(193 /* truncate64 */, path, 4096, 0) == 0);
  CHECK(SYS(272 /* fadvise64_64 */, fd, 0, 0, 4096, 0, 0) == 0 && SYS(250, fd, 0, 0, 4096, 0) == 0);
  CHECK(SYS(225 /* readahead */, fd, 0, 0, 4096) == 0);

  struct iovec iov[2] = {{"ab", 2}, {"cde", 3}};
  CHECK(SYS(334 /* pwritev */, fd, iov, 2, 1000, 0) == 5 && SYS(180, fd, buffer, 5, 1000, 0) == 5 && !memcmp(buffer, "abcde", 5));
  char x[2], y[3];
  struct iovec in[2] = {{x, 2}, {y, 3}};
  CHECK(SYS(333 /* preadv */, fd, in, 2, 1000, 0) == 5 && !memcmp(y, "cde", 3));
  CHECK(SYS(378 /* preadv2 */, fd, in, 2, 1001, 0, 0) == 5 && !memcmp(x, "bc", 2));

  uint32_t fs[16];
  uint32_t fs64[21];
  memset(fs64, 0xee, sizeof fs64);
  CHECK(SYS(99 /* statfs */, "/proc", fs) == 0 && fs[0] == 0x9fa0 && fs[9] >= 255);
  CHECK(SYS(268 /* statfs64 */, "/tmp", 84, fs64) == 0 && fs64[14] >= 128 && fs64[15] >= 512 && fs64[20] == 0);
  CHECK(SYS(268, "/tmp", 88, fs64) == -EINVAL);

  // Times: 32-bit and 64-bit, and what stands in the padding of the latter does not count.
  struct time32 t32[2] = {{1000, 5}, {2000, 6}};
  CHECK(SYS(320 /* utimensat */, AT_FDCWD, path, t32, 0) == 0 && SYS(195, path, &st) == 0 && st.atime == 1000 && st.mtime_nsec == 6);
  struct time64 t64[2] = {{3000, 7 | (int64_t)0x77 << 32}, {4000, 8}};
  CHECK(SYS(412, AT_FDCWD, path, t64, 0) == 0 && SYS(195, path, &st) == 0 && st.atime == 3000 && st.atime_nsec == 7);
  int32_t ut[2] = {5000, 6000};
  CHECK(SYS(30 /* utime */, path, ut) == 0 && SYS(195, path, &st) == 0 && st.atime == 5000 && st.mtime == 6000);

  struct {
    int16_t type, whence;
    int32_t start, len, pid;
  } lock = {F_WRLCK, SEEK_SET, 10, 20, 0};
  struct __attribute__((packed)) {
    int16_t type, whence;
    int64_t start, len;
    int32_t pid;
  } lock64 = {F_WRLCK, SEEK_SET, 0x100000000, 5, 0};
  CHECK(SYS(55 /* fcntl */, fd, 6 /* F_SETLK */, &lock) == 0);
  CHECK(SYS(221 /* fcntl64 */, fd, 13 /* F_SETLK64 */, &lock64) == 0);
  const pid_t child = fork();
  if (child == 0) {
    lock.len = 1;
    lock64.start++;
    lock64.len = 1;
    const int bad = SYS(221, fd, 5 /* F_GETLK */, &lock) != 0 || lock.pid != getppid() || lock.start != 10 || lock.len != 20 ||
                    SYS(221, fd, 12 /* F_GETLK64 */, &lock64) != 0 || lock64.pid != getppid() || lock64.start != 0x100000000;
    _exit(bad);
  }
  int status;
  CHECK(SYS(7 /* waitpid */, child, &status, 0) == child && status == 0);
  CHECK(fcntl(fd, F_GETFD) == 0 && (SYS(55, fd, F_GETFL) & O_ACCMODE) == O_RDWR);

  // Directories: by libc, whose off_t has 32 bits here, and by the calls of three ages.
  for (int i = 0; i < 50; ++i) {
    char name[64];
    snprintf(name, sizeof name, "%s/entry-%d", directory, i);
    close(open(name, O_CREAT | O_WRONLY, 0600));
  }
  DIR* dir = opendir(directory);
  int count = 0;
  long middle = 0;
  char after[256] = "";
  for (struct dirent* e; (errno = 0, e = readdir(dir)); ++count) {
    if (count == 25) strcpy(after, e->d_name);
    if (count == 24) middle = telldir(dir);
  }
  CHECK(errno == 0 && count == 53);
  seekdir(dir, middle);
  struct dirent* e = readdir(dir);
  CHECK(e && !strcmp(e->d_name, after));
  closedir(dir);
  const int d = open(directory, O_RDONLY | O_DIRECTORY);
  char entries[600];
  count = 0;
  for (long n; (n = SYS(141 /* getdents */, d, entries, sizeof entries)) > 0;)
    for (long p = 0; p < n; p += *(uint16_t*)(entries + p + 8), ++count) {
      const int length = *(uint16_t*)(entries + p + 8);
      const int type = entries[p + length - 1];
      CHECK(length % 4 == 0 && strlen(entries + p + 10) < 256);
      CHECK(type == (entries[p + 10] == '.' ? DT_DIR : DT_REG));
    }
  CHECK(count == 53);
  CHECK(lseek(d, 0, SEEK_SET) == 0);
  count = 0;
  for (long n; (n = SYS(220 /* getdents64 */, d, entries, sizeof entries)) > 0;)
    for (long p = 0; p < n; p += *(uint16_t*)(entries + p + 16)) ++count;
  CHECK(count == 53);
  CHECK(lseek(d, 0, SEEK_SET) == 0);
  count = 0;
  while (SYS(89 /* readdir */, d, entries, 1) == 1) ++count;
  CHECK(count == 53);
  close(d);

  const int out = open("/dev/null", O_WRONLY);
  int32_t offset = 4000;
  CHECK(SYS(187 /* sendfile */, out, fd, &offset, 50) == 50 && offset == 4050);
  int64_t offset64 = 4050;
  CHECK(SYS(239 /* sendfile64 */, out, fd, &offset64, 10) == 10 && offset64 == 4060);
  close(out);
  uint32_t flags = 0;
  const int r = ioctl(fd, _IOR('f', 1, long), &flags);  // FS_IOC_GETFLAGS: not every file system has it
  CHECK(r == 0 || errno == ENOTTY || errno == EOPNOTSUPP || errno == EINVAL);
  close(fd);
}

static void memory(void) {
  long args[6] = {0, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0};
  char* p = (char*)SYS(90 /* mmap */, args);
  CHECK((unsigned long)p < 0xfffff000);
  p[8191] = 1;
  const int fd = open("/proc/self/exe", O_RDONLY);
  unsigned char* q = (unsigned char*)SYS(192 /* mmap2 */, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 1);
  unsigned char byte;
  CHECK(pread(fd, &byte, 1, 4096 + 17) == 1 && q[17] == byte);
  CHECK(SYS(91, q, 4096) == 0);
  // No mapping at or above 4 GiB, none in the last pages.
  CHECK(SYS(192, 0xffffe000, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) < 0);
  CHECK((unsigned long)&args < 0xffffe000 && (unsigned long)&args > 0xf0000000);
  char* moved = (char*)SYS(163 /* mremap */, p, 8192, 65536, MREMAP_MAYMOVE);
  CHECK(moved[8191] == 1);
  munmap(moved, 65536);
  const unsigned long brk0 = SYS(45, 0);
  CHECK(SYS(45, brk0 + 10000) == (long)(brk0 + 10000));
  close(fd);
}

static void identity(void) {
  CHECK((uint16_t)SYS(24 /* getuid16 */) == (uint16_t)getuid() && SYS(199 /* getuid32 */) == (long)getuid());
  uint16_t ids[3];
  uint32_t wide[3];
  CHECK(SYS(165, &ids[0], &ids[1], &ids[2]) == 0 && SYS(209, &wide[0], &wide[1], &wide[2]) == 0 && ids[1] == (uint16_t)wide[1]);
  CHECK(SYS(80 /* getgroups */, 0, 0) == getgroups(0, 0));
  CHECK(SYS(70 /* setreuid16 */, 0xffff, 0xffff) == 0 && SYS(138 /* setfsuid */, 0xffff) == (long)getuid());
  char names[5][9];
  CHECK(SYS(59 /* oldolduname */, names) == 0 && !strcmp(names[0], "Linux"));

  uint32_t limit[2];
  struct {
    uint64_t now, most;
  } limit64;
  CHECK(SYS(340 /* prlimit64 */, 0, 7 /* NOFILE */, 0, &limit64) == 0 && SYS(191 /* ugetrlimit */, 7, limit) == 0);
  CHECK(limit[0] == (limit64.now > 0xffffffff ? 0xffffffff : (uint32_t)limit64.now));
  CHECK(SYS(75 /* setrlimit */, 7, limit) == 0);
  struct {
    int32_t uptime;
    uint32_t loads[3], memory[6];
    uint16_t procs, pad;
    uint32_t high[2], unit;
    char rest[8];
    uint32_t guard;
  } info = {.guard = 0x1234567};
  CHECK(SYS(116 /* sysinfo */, &info) == 0 && info.guard == 0x1234567 && info.unit != 0 && info.memory[0] != 0 && info.uptime > 0);
  uint32_t usage[19] = {[18] = 77};
  CHECK(SYS(77 /* getrusage */, 0, usage) == 0 && usage[18] == 77 && usage[4] > 0);
  uint32_t ticks[5] = {[4] = 77};
  CHECK(SYS(43 /* times */, ticks) != 0 && ticks[4] == 77);
  uint32_t cpus[32];
  const long n = SYS(242 /* sched_getaffinity */, 0, sizeof cpus, cpus);
  CHECK(n >= 4 && n % 4 == 0 && cpus[0] != 0 && SYS(241, 0, 4, cpus) == 0);
  const long before = SYS(96 /* getpriority */, 0, 0);  // 20 - nice
  CHECK(SYS(34 /* nice */, 1) == 0 && SYS(96, 0, 0) == (before > 1 ? before - 1 : 1));
}

static volatile int caught, caught_value;
static void on_signal(int signal, siginfo_t* info, void* context) {
  caught = signal;
  caught_value = info->si_value.sival_int;
}

static void clocks(void) {
  struct time32 a, b;
  struct time64 c;
  CHECK(SYS(265 /* clock_gettime */, CLOCK_REALTIME, &a) == 0 && SYS(403, CLOCK_REALTIME, &c) == 0);
  CHECK(c.sec - a.sec >= 0 && c.sec - a.sec < 3);
  CHECK(SYS(266 /* clock_getres */, CLOCK_MONOTONIC, &b) == 0 && b.sec == 0 && b.nsec > 0);
  struct {
    int32_t sec, usec;
  } tv;
  CHECK(SYS(78 /* gettimeofday */, &tv, 0) == 0 && tv.sec - a.sec < 3);
  int32_t now;
  CHECK(SYS(13 /* time */, &now) == now && now - a.sec < 3);
  const struct time32 nap = {0, 2000000};
  CHECK(SYS(162 /* nanosleep */, &nap, 0) == 0 && SYS(267, CLOCK_MONOTONIC, 0, &nap, 0) == 0);
  const struct time64 nap64 = {0, 2000000 | (int64_t)1 << 40};
  CHECK(SYS(407 /* clock_nanosleep_time64 */, CLOCK_MONOTONIC, 0, &nap64, 0) == 0);
  struct time32 bad = {0, -1};
  CHECK(SYS(162, &bad, 0) == -EINVAL);

  int pipes[2];
  CHECK(SYS(42 /* pipe */, pipes) == 0 && SYS(4, pipes[1], "x", 1) == 1);
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pipes[0], &set);
  struct {
    int32_t sec, usec;
  } wait = {5, 0};
  long packed[5] = {pipes[1] + 1, (long)&set, 0, 0, (long)&wait};
  CHECK(SYS(82 /* select */, packed) == 1 && FD_ISSET(pipes[0], &set) && wait.sec == 4);
  struct time32 timeout = {5, 0};
  CHECK(SYS(308 /* pselect6 */, pipes[1] + 1, &set, 0, 0, &timeout, 0) == 1 && timeout.sec == 4);
  struct pollfd pfd = {pipes[0], POLLIN, 0};
  CHECK(SYS(309 /* ppoll */, &pfd, 1, &timeout, 0, 8) == 1 && pfd.revents == POLLIN);
  struct time64 timeout64 = {0, 1000000};
  pfd.events = POLLPRI;
  CHECK(SYS(414 /* ppoll_time64 */, &pfd, 1, &timeout64, 0, 8) == 0 && timeout64.nsec == 0);
  CHECK(SYS(168 /* poll */, &pfd, 1, 1) == 0);

  int word = 1;
  struct time32 soon = {0, 1000000};
  CHECK(SYS(240 /* futex */, &word, FUTEX_WAIT, 1, &soon) == -ETIMEDOUT);
  struct time64 soon64 = {0, 1000000};
  CHECK(SYS(422 /* futex_time64 */, &word, FUTEX_WAIT, 1, &soon64) == -ETIMEDOUT && SYS(240, &word, FUTEX_WAIT, 2, 0) == -EAGAIN);

  // A POSIX timer with a value, and interval timers.
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, 0);
  sigaction(SIGALRM, &action, 0);
  uint32_t event[16] = {0x12345678, SIGUSR1, SIGEV_SIGNAL};
  int timer;
  CHECK(SYS(259 /* timer_create */, CLOCK_MONOTONIC, event, &timer) == 0);
  struct time32 setting[2] = {{0, 0}, {0, 1000000}}, old[2];
  CHECK(SYS(260 /* timer_settime */, timer, 0, setting, old) == 0 && old[1].nsec == 0);
  while (caught != SIGUSR1) sched_yield();
  CHECK(caught_value == 0x12345678);
  struct time64 left[2];
  CHECK(SYS(408 /* timer_gettime64 */, timer, left) == 0 && left[1].sec == 0 && SYS(263, timer) == 0);
  struct {
    int32_t interval_sec, interval_usec, sec, usec;
  } itimer = {0, 0, 0, 1000};
  CHECK(SYS(104 /* setitimer */, 0, &itimer, 0) == 0);
  while (caught != SIGALRM) sched_yield();
  const int tfd = SYS(322 /* timerfd_create */, CLOCK_MONOTONIC, 0);
  CHECK(SYS(325 /* timerfd_settime */, tfd, 0, setting, 0) == 0);
  uint64_t expirations;
  CHECK(read(tfd, &expirations, 8) == 8 && expirations == 1);
  close(tfd);
  close(pipes[0]);
  close(pipes[1]);
}

static void signals(void) {
  // Queued to ourselves and waited for: siginfo there and back.
  sigset_t set, old;
  sigemptyset(&set);
  sigaddset(&set, SIGRTMIN + 1);
  sigprocmask(SIG_BLOCK, &set, &old);
  siginfo_t info = {.si_signo = SIGRTMIN + 1, .si_code = SI_QUEUE, .si_errno = 3};
  info.si_pid = getpid();
  info.si_uid = getuid();
  info.si_value.sival_int = 0xabcdef;
  CHECK(SYS(178 /* rt_sigqueueinfo */, getpid(), SIGRTMIN + 1, &info) == 0);
  uint32_t pending[2];
  CHECK(SYS(176, pending, 8) == 0 && (pending[1] >> (SIGRTMIN + 1 - 33) & 1));
  siginfo_t got;
  struct time32 timeout = {1, 0};
  CHECK(SYS(177 /* rt_sigtimedwait */, &set, &got, &timeout, 8) == SIGRTMIN + 1);
  CHECK(got.si_code == SI_QUEUE && got.si_errno == 3 && got.si_value.sival_int == 0xabcdef && got.si_pid == getpid());
  struct time64 none = {0, 0};
  CHECK(SYS(421, &set, &got, &none, 8) == -EAGAIN);
  sigprocmask(SIG_SETMASK, &old, 0);

  // Old masks have 32 bits and leave the others alone.
  uint32_t mask = 1u << (SIGUSR2 - 1), before;
  CHECK(SYS(126 /* sigprocmask */, SIG_BLOCK, &mask, &before) == 0);
  kill(getpid(), SIGUSR2);
  CHECK(SYS(73 /* sigpending */, &mask) == 0 && mask == 1u << (SIGUSR2 - 1));
  CHECK((uint32_t)SYS(68 /* sgetmask */) == (before | 1u << (SIGUSR2 - 1)));
  SYS(48 /* signal */, SIGUSR2, SIG_IGN);
  CHECK(SYS(126, SIG_SETMASK, &before, 0) == 0);

  const pid_t child = fork();
  if (child == 0) _exit(9);
  uint32_t usage[19] = {[18] = 77};
  siginfo_t exited;
  CHECK(SYS(284 /* waitid */, P_PID, child, &exited, WEXITED | WNOWAIT, usage) == 0);
  CHECK(exited.si_pid == child && exited.si_status == 9 && exited.si_code == CLD_EXITED && usage[18] == 77);
  int status;
  CHECK(SYS(114 /* wait4 */, child, &status, 0, usage) == child && status == 9 << 8);
}

static void sockets(void) {
  int pair[2], one = 1;
  long args[6] = {AF_UNIX, SOCK_DGRAM, 0, (long)pair};
  CHECK(SYS(102 /* socketcall */, 8 /* socketpair */, args) == 0);
  CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &one, sizeof one) == 0);
  CHECK(setsockopt(pair[1], SOL_SOCKET, 29 /* SO_TIMESTAMP_OLD */, &one, sizeof one) == 0);
  struct {
    int32_t sec, usec;
  } timeout = {3, 500000}, got_timeout = {0, 0};
  socklen_t length = sizeof got_timeout;
  CHECK(SYS(366 /* setsockopt */, pair[1], SOL_SOCKET, 20 /* SO_RCVTIMEO_OLD */, &timeout, 8) == 0);
  CHECK(SYS(365, pair[1], SOL_SOCKET, 20, &got_timeout, &length) == 0 && length == 8 && got_timeout.sec == 3);

  int files[2] = {open("/dev/null", O_RDONLY), open("/dev/zero", O_RDONLY)};
  union {
    char bytes[CMSG_SPACE(sizeof files)];
    struct cmsghdr align;
  } control;
  struct iovec iov = {"data", 4};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
  struct cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof files);
  memcpy(CMSG_DATA(head), files, sizeof files);
  CHECK(SYS(370 /* sendmsg */, pair[0], &message, 0) == 4);
  char data[8], room[128];
  struct iovec in = {data, sizeof data};
  struct msghdr received = {.msg_iov = &in, .msg_iovlen = 1, .msg_control = room, .msg_controllen = sizeof room};
  long recv_args[3] = {pair[1], (long)&received, 0};
  CHECK(SYS(102, 17 /* recvmsg */, recv_args) == 4 && !(received.msg_flags & MSG_CTRUNC));
  int rights = 0, credentials = 0, stamps = 0;
  for (head = CMSG_FIRSTHDR(&received); head; head = CMSG_NXTHDR(&received, head)) {
    if (head->cmsg_type == SCM_RIGHTS) {
      int fds[2];
      memcpy(fds, CMSG_DATA(head), sizeof fds);
      char byte;
      rights = head->cmsg_len == CMSG_LEN(8) && read(fds[0], &byte, 1) == 0 && read(fds[1], &byte, 1) == 1;
      close(fds[0]);
      close(fds[1]);
    }
    if (head->cmsg_type == SCM_CREDENTIALS) credentials = head->cmsg_len == CMSG_LEN(12) && *(int*)CMSG_DATA(head) == getpid();
    if (head->cmsg_type == 29) stamps = head->cmsg_len == CMSG_LEN(8) && ((int*)CMSG_DATA(head))[0] > 1600000000;
  }
  CHECK(rights && credentials && stamps);

  // Room for one descriptor of two: the other must not stay open.
  const int next = dup(0);
  close(next);
  CHECK(setsockopt(pair[1], SOL_SOCKET, SO_PASSCRED, &(int){0}, sizeof one) == 0);
  CHECK(setsockopt(pair[1], SOL_SOCKET, 29, &(int){0}, sizeof one) == 0);
  CHECK(SYS(370, pair[0], &message, 0) == 4);
  received.msg_controllen = CMSG_LEN(4);
  CHECK(SYS(372 /* recvmsg */, pair[1], &received, 0) == 4 && (received.msg_flags & MSG_CTRUNC));
  const int after = dup(0);
  CHECK(after == next + 1);
  close(after);

  struct mmsghdr many[2] = {{.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}}};
  CHECK(SYS(345 /* sendmmsg */, pair[0], many, 2, 0) == 2 && many[1].msg_len == 4);
  struct mmsghdr back[2] = {{.msg_hdr = {.msg_iov = &in, .msg_iovlen = 1}}, {.msg_hdr = {.msg_iov = &in, .msg_iovlen = 1}}};
  struct time32 second = {1, 0};
  CHECK(SYS(337 /* recvmmsg */, pair[1], back, 2, 0, &second) == 2 && back[0].msg_len == 4);
  close(pair[0]);
  close(pair[1]);
}

static void ipc(void) {
  uint32_t perm_and_more[40];
  const long shm = SYS(117, 23 /* SHMGET */, 0, 12345, 0600 | 01000);
  CHECK(shm >= 0 || shm == -ENOSYS);
  if (shm < 0) return;  // a kernel without SysV IPC
  unsigned long at = 0;
  CHECK(SYS(117, 21 /* SHMAT */, shm, 0, &at, 0) == 0 && at && at < 0xffffe000);
  *(int*)at = 42;
  CHECK(SYS(117, 24 /* SHMCTL */, shm, 0x102 /* IPC_STAT | IPC_64 */, 0, perm_and_more) == 0);
  CHECK(perm_and_more[9] == 12345 && perm_and_more[16] == (uint32_t)getpid() && perm_and_more[18] == 1);
  CHECK(SYS(396 /* shmctl */, shm, 2, perm_and_more) == 0 && perm_and_more[9] == 12345);
  const unsigned long second = SYS(397 /* shmat */, shm, 0, 010000);
  CHECK(*(int*)second == 42 && SYS(398, second) == 0 && SYS(117, 22 /* SHMDT */, 0, 0, 0, at) == 0);
  CHECK(SYS(117, 24, shm, 0x100 /* IPC_RMID */, 0, 0) == 0);

  const long sem = SYS(117, 2 /* SEMGET */, 0, 3, 0600 | 01000);
  uint16_t values[3] = {1, 2, 3}, back[3];
  uint32_t argument = (uint32_t)(unsigned long)values;
  CHECK(SYS(117, 3 /* SEMCTL */, sem, 0, 17 /* SETALL */, &argument) == 0);
  argument = 7;
  CHECK(SYS(117, 3, sem, 1, 16 /* SETVAL */, &argument) == 0);
  CHECK(SYS(394 /* semctl */, sem, 0, 13 /* GETALL */, back) == 0 && back[0] == 1 && back[1] == 7 && back[2] == 3);
  struct {
    uint16_t number;
    int16_t op, flags;
  } op = {2, -3, 0};
  CHECK(SYS(117, 1 /* SEMOP */, sem, 1, 0, &op) == 0);
  struct time32 soon = {0, 1000000};
  CHECK(SYS(117, 4 /* SEMTIMEDOP */, sem, 1, 0, &op, &soon) == -EAGAIN);
  CHECK(SYS(394, sem, 0, 2 /* IPC_STAT */, perm_and_more) == 0 && perm_and_more[13] == 3);
  CHECK(SYS(394, sem, 0, 0, 0) == 0);

  const long queue = SYS(399 /* msgget */, 0, 0600 | 01000);
  struct {
    int32_t type;
    char text[16];
  } message = {5, "text"}, got;
  CHECK(SYS(117, 11 /* MSGSND */, queue, 5, 0, &message) == 0 && SYS(400 /* msgsnd */, queue, &message, 5, 0) == 0);
  CHECK(SYS(402 /* msgctl */, queue, 2, perm_and_more) == 0 && perm_and_more[16] == 2);
  struct {
    void* message;
    int32_t type;
  } kludge = {&got, 5};
  CHECK(SYS(117, 12 /* MSGRCV */, queue, 16, 0, &kludge) == 5 && got.type == 5 && !strcmp(got.text, "text"));
  CHECK(SYS(401 /* msgrcv */, queue, &got, 16, -9, 0) == 5 && SYS(402, queue, 0, 0) == 0);
}

static uint32_t read_fs(uint16_t selector, uint32_t offset) {
  uint32_t value;
  uint16_t old;
  asm volatile("mov %%fs,%1\n mov %2,%%fs\n mov %%fs:(%3),%0\n mov %1,%%fs" : "=&r"(value), "=&r"(old) : "r"(selector), "r"(offset) : "memory");
  return value;
}

static void segments(void) {
  static uint32_t data[4] = {11, 22, 33, 44};
  struct user_desc d = {.entry_number = -1, .base_addr = (unsigned)(unsigned long)data, .limit = 15, .seg_32bit = 1, .useable = 1};
  CHECK(SYS(243 /* set_thread_area */, &d) == 0 && d.entry_number >= 12 && d.entry_number <= 14);
  CHECK(read_fs(d.entry_number * 8 + 3, 8) == 33);
  struct user_desc back = {.entry_number = d.entry_number};
  CHECK(SYS(244, &back) == 0 && back.base_addr == d.base_addr && back.limit == 15 && back.useable && !back.read_exec_only);
  uint32_t littered[4] = {d.entry_number, (unsigned)(unsigned long)(data + 2), 7, 0xf6cf26d1};  // SBCL's: bit-fields on its stack
  CHECK(SYS(243, littered) == 0 && read_fs(d.entry_number * 8 + 3, 4) == 44);
  back.entry_number = 5;
  CHECK(SYS(244, &back) == -EINVAL);
  struct user_desc ldt = {.entry_number = 3, .base_addr = (unsigned)(unsigned long)(data + 1), .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1};
  CHECK(SYS(123 /* modify_ldt */, 0x11, &ldt, sizeof ldt) == 0);
  CHECK(read_fs(3 * 8 + 7, 4) == 33);
  uint64_t table[8];
  CHECK(SYS(123, 0, table, sizeof table) == sizeof table && table[3] != 0 && table[4] == 0);
  ldt.entry_number = 8192;
  CHECK(SYS(123, 0x11, &ldt, sizeof ldt) == -EINVAL && SYS(384 /* arch_prctl */, 0x1002, 0) == -EINVAL);
}

int main(void) {
  CHECK(mkdtemp(directory) != 0);
  files();
  memory();
  clocks();
  signals();
  sockets();
  ipc();
  segments();
  identity();
  char command[100];
  snprintf(command, sizeof command, "rm -rf %s", directory);
  CHECK(system(command) == 0);
  return done();
}
