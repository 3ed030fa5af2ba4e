// fork, vfork, posix_spawn, execve (programs, scripts), wait, pipes, exit codes.
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

extern char** environ;
static char self[4096];

static int run(char** argv) {
  const pid_t pid = fork();
  if (pid == 0) {
    execv(argv[0], argv);
    _exit(errno == ENOEXEC ? 98 : 99);
  }
  int status = 0;
  CHECK(waitpid(pid, &status, 0) == pid);
  return status;
}

int main(int argc, char** argv) {
  if (argc > 1 && !strcmp(argv[1], "child")) {
    if (getenv("MARK") && !strcmp(getenv("MARK"), "7")) return argc + 10;
    return argc;
  }
  if (argc > 1 && !strcmp(argv[1], "title")) {
    char byte;
    if (read(0, &byte, 1) != 1) return 1;
    memcpy(argv[1], "TITLE", 5);
    return read(0, &byte, 1) != 1;
  }
  if (argc > 1 && !strcmp(argv[1], "from-script")) return argc == 4 && !strcmp(argv[3], "extra") ? 21 : 22;
  ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
  CHECK(n > 0 && access(self, X_OK) == 0);

  CHECK(run((char*[]){self, "child", "a", "b", 0}) == 4 << 8);
  setenv("MARK", "7", 1);
  CHECK(run((char*[]){self, "child", 0}) == 12 << 8);

  char script[] = "/tmp/kiln-script-XXXXXX";
  const int fd = mkostemp(script, O_CLOEXEC);
  dprintf(fd, "#! %s from-script\nnothing\n", self);
  fchmod(fd, 0755);
  close(fd);
  CHECK(run((char*[]){script, "extra", 0}) == 21 << 8);
  unlink(script);

  pid_t pid = vfork();
  if (pid == 0) _exit(5);
  int status;
  CHECK(waitpid(pid, &status, 0) == pid && status == 5 << 8);
  pid = vfork();
  if (pid == 0) {
    execl(self, self, "child", (char*)0);
    _exit(1);
  }
  CHECK(waitpid(pid, &status, 0) == pid && status == 12 << 8);

  CHECK(posix_spawn(&pid, self, 0, 0, (char*[]){self, "child", "x", 0}, environ) == 0);
  CHECK(waitpid(pid, &status, 0) == pid && status == 13 << 8);
  CHECK(posix_spawn(&pid, "/does/not/exist", 0, 0, (char*[]){"x", 0}, environ) == ENOENT);

  FILE* pipe = popen("echo from the shell; exit 3", "r");
  char line[64] = "";
  CHECK(pipe && fgets(line, sizeof line, pipe) && !strcmp(line, "from the shell\n"));
  CHECK(pclose(pipe) == 3 << 8);
  CHECK(system("kill -9 $$") == 9);

  struct utsname name;
  uname(&name);
#if defined __aarch64__
  CHECK(!strcmp(name.machine, "aarch64"));
#elif defined __x86_64__
  CHECK(!strcmp(name.machine, "x86_64"));
#elif defined __i386__
  CHECK(!strcmp(name.machine, "i686"));
#endif

  siginfo_t info;
  pid = fork();
  if (pid == 0) {
    raise(SIGSTOP);
    _exit(77);
  }
  CHECK(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
  kill(pid, SIGCONT);
  CHECK(waitid(P_PID, (id_t)pid, &info, WEXITED) == 0 && info.si_status == 77 && info.si_code == CLD_EXITED);

  char command[256] = "";
  const int cmdline = open("/proc/self/cmdline", O_RDONLY);
  CHECK(read(cmdline, command, sizeof command) > 0 && !strcmp(command, argv[0]));
  close(cmdline);

  // What ps and pgrep see of a program, and of one that writes a title over its arguments.
  int gate[2];
  CHECK(pipe2(gate, 0) == 0);
  pid = fork();
  if (pid == 0) {
    dup2(gate[0], 0);
    close(gate[1]);
    execl(self, "a-name", "title", "argument", (char*)0);
    _exit(1);
  }
  close(gate[0]);
  const char* const wanted[] = {"a-name\0title\0argument", "a-name\0TITLE\0argument"};
  char program[64], target[4096] = "", linked[4096] = "";
  struct stat by_name, by_link;
  for (int n = 0; n < 2; ++n) {
    char name[64], shown[64] = "";
    snprintf(name, sizeof name, "/proc/%d/cmdline", pid);
    for (int turn = 0; turn < 1000 && memcmp(shown, wanted[n], sizeof "a-name\0title\0argument"); ++turn) {
      usleep(10000);
      const int other = open(name, O_RDONLY);
      CHECK(other >= 0 && read(other, shown, sizeof shown) >= 0);
      close(other);
    }
    CHECK(!memcmp(shown, wanted[n], sizeof "a-name\0title\0argument"));
    // start-stop-daemon finds the processes of a program this way.
    snprintf(program, sizeof program, "/proc/%d/exe", pid);
    CHECK(readlink(program, target, sizeof target - 1) > 0 && readlink("/proc/self/exe", linked, sizeof linked - 1) > 0);
    CHECK(!strcmp(target, linked));
    CHECK(stat(program, &by_link) == 0 && stat(self, &by_name) == 0 && by_link.st_ino == by_name.st_ino);
    CHECK(write(gate[1], "x", 1) == 1);
  }
  CHECK(waitpid(pid, &status, 0) == pid && status == 0);
  return done();
}
