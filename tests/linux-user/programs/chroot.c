// A program that has closed every descriptor it does not know executes another one in a chroot without /proc and without Kiln:
// what Kiln needs for that is its own and stays out of the guest's reach.
#define _GNU_SOURCE
#include <fcntl.h>
#include <sched.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

static void copy(const char* from, const char* to) {
  char buffer[65536];
  const int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT, 0755);
  CHECK(in >= 0 && out >= 0);
  for (ssize_t n; (n = read(in, buffer, sizeof buffer)) > 0;) CHECK(write(out, buffer, (size_t)n) == n);
  close(in);
  close(out);
}

static int open_descriptors(void) {
  int count = 0;
  for (int fd = 3; fd < 20000; ++fd)
    if (close(fd) == 0) ++count;
  return count;
}

static int run(char** argv, const char* root) {
  const pid_t pid = fork();
  if (pid == 0) {
    if (root && (chroot(root) != 0 || chdir("/") != 0)) _exit(97);
    execv(argv[0], argv);
    _exit(98);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  return status;
}

int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "descriptors")) return open_descriptors();
  if (argc > 1 && !strcmp(argv[1], "again")) return run((char*[]){argv[0], "descriptors", 0}, 0) >> 8;

  char self[4096] = "";
  CHECK(readlink("/proc/self/exe", self, sizeof self - 1) > 0);

  // Nothing of ours may be closed or replaced, nothing of Kiln's is handed to a program that is executed.
  open_descriptors();
  CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
  struct rlimit limit;
  CHECK(getrlimit(RLIMIT_NOFILE, &limit) == 0);
  const int top = limit.rlim_cur < 5000 ? (int)limit.rlim_cur : 5000;
  for (int fd = 3; fd < top; ++fd)
    if (dup2(1, fd) != fd) CHECK(errno == EBADF);
  CHECK(syscall(SYS_close_range, 3, ~0u, 0) == 0);
  CHECK(syscall(SYS_close_range, 9, 3, 0) == -1 && errno == EINVAL);
  CHECK(run((char*[]){self, "descriptors", 0}, 0) == 0);

  // Descriptor 3 survives a program that asks for it.
  const int kept = open("/dev/null", O_RDONLY);
  CHECK(kept == 3 && run((char*[]){self, "descriptors", 0}, 0) == 1 << 8);
  close(kept);

  if (geteuid() != 0 && unshare(CLONE_NEWUSER) != 0) {
    puts("no chroot without root or user namespaces: skipped");
    return done();
  }
  char root[] = "/tmp/kiln-chroot-XXXXXX", inside[64];
  CHECK(mkdtemp(root) != 0);
  snprintf(inside, sizeof inside, "%s/program", root);
  copy(self, inside);
  CHECK(run((char*[]){"/program", "descriptors", 0}, root) == 0);
  CHECK(run((char*[]){"/program", "again", 0}, root) == 0);
  // A limit that leaves Kiln itself no room is the guest's alone, also for a program that the kernel hands to the next Kiln.
  limit.rlim_cur = limit.rlim_max = 1 << 30;
  CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
  CHECK(run((char*[]){"/program", "descriptors", 0}, root) == 0);
  unlink(inside);
  rmdir(root);
  return done();
}
