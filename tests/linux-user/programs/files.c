// Files: struct stat, open flags, directories, vectored I/O, epoll, sockets with descriptors, fcntl.
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "check.h"

int main(void) {
  char directory[] = "/tmp/kiln-files-XXXXXX";
  CHECK(mkdtemp(directory) && chdir(directory) == 0);
  int fd = open("a", O_RDWR | O_CREAT | O_EXCL, 0640);
  CHECK(fd >= 0);
  struct iovec parts[] = {{"hello ", 6}, {"world", 5}};
  CHECK(writev(fd, parts, 2) == 11);
  struct stat st;
  CHECK(fstat(fd, &st) == 0 && st.st_size == 11 && S_ISREG(st.st_mode) && (st.st_mode & 0777) == 0640 && st.st_nlink == 1);
  CHECK(st.st_blksize >= 512 && st.st_uid == getuid() && st.st_mtim.tv_sec > 1000000000);
  char text[16] = "";
  struct iovec in[] = {{text, 3}, {text + 3, 8}};
  CHECK(preadv(fd, in, 2, 0) == 11 && !memcmp(text, "hello world", 11));

  CHECK(symlink("a", "link") == 0);
  CHECK(open("link", O_RDONLY | O_NOFOLLOW) == -1 && errno == ELOOP);
  CHECK(open("a", O_RDONLY | O_DIRECTORY) == -1 && errno == ENOTDIR);
  CHECK(lstat("link", &st) == 0 && S_ISLNK(st.st_mode));
  struct statx sx;
  CHECK(statx(AT_FDCWD, "a", 0, STATX_SIZE, &sx) == 0 && sx.stx_size == 11);
  int dir = open(".", O_RDONLY | O_DIRECTORY);
  CHECK(dir >= 0 && (fcntl(dir, F_GETFL) & O_DIRECTORY));
  CHECK(fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK) == 0 && (fcntl(fd, F_GETFL) & (O_APPEND | O_NONBLOCK)) == (O_APPEND | O_NONBLOCK));
  struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  CHECK(fcntl(fd, F_SETLK, &lock) == 0 && fcntl(fd, F_GETLK, &lock) == 0 && lock.l_type == F_UNLCK);

  uint64_t how[5] = {O_RDONLY, 0, 0, 0, 0};
  int found = (int)syscall(437, AT_FDCWD, "a", how, (size_t)24);
  CHECK(found >= 0 && close(found) == 0);
  found = (int)syscall(437, AT_FDCWD, "a", how, sizeof how);
  CHECK(found >= 0 && close(found) == 0);
  how[4] = 1;
  CHECK(syscall(437, AT_FDCWD, "a", how, sizeof how) == -1 && errno == E2BIG);
  how[0] |= 1ull << 40;
  CHECK(syscall(437, AT_FDCWD, "a", how, (size_t)24) == -1 && errno == EINVAL);
  CHECK(syscall(437, AT_FDCWD, "a", how, (size_t)16) == -1 && errno == EINVAL);
  DIR* d = opendir(".");
  int entries = 0;
  while (readdir(d)) ++entries;
  closedir(d);
  CHECK(entries == 4);
  CHECK(renameat(AT_FDCWD, "a", dir, "b") == 0 && access("b", F_OK) == 0 && access("a", F_OK) == -1);
  CHECK(unlink("b") == 0 && unlink("link") == 0 && rmdir(directory) == 0);

  // epoll_event has another layout than on the host.
  int epoll = epoll_create1(0);
  int events[3];
  for (int i = 0; i < 3; ++i) {
    events[i] = eventfd(0, 0);
    struct epoll_event e = {.events = EPOLLIN, .data.u64 = 0x1234567800000000ull + i};
    CHECK(epoll_ctl(epoll, EPOLL_CTL_ADD, events[i], &e) == 0);
  }
  eventfd_write(events[0], 1);
  eventfd_write(events[2], 1);
  struct epoll_event ready[4];
  CHECK(epoll_wait(epoll, ready, 4, 1000) == 2);
  CHECK(ready[0].events == EPOLLIN && (ready[0].data.u64 ^ ready[1].data.u64) == 2 && ready[0].data.u64 >> 32 == 0x12345678);

  // Pointers that only some commands take. A kernel without checkpointing knows neither.
  unsigned owners[2] = {7, 7};
  CHECK(fcntl(events[0], 17 /* F_GETOWNER_UIDS */, owners) == 0 ? owners[0] == 0 && owners[1] == 0 : errno == EINVAL);
  struct {
    unsigned epoll, target, offset;
  } slot = {epoll, events[1], 0};
  const long same = syscall(SYS_kcmp, getpid(), getpid(), 7 /* KCMP_EPOLL_TFD */, events[1], &slot);
  CHECK(same == 0 || (same == -1 && (errno == ENOSYS || errno == EOPNOTSUPP)));

  // A descriptor through a socket.
  int pair[2];
  CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
  char control[CMSG_SPACE(sizeof(int))] = {0};
  struct iovec one = {"!", 1};
  struct msghdr message = {.msg_iov = &one, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control};
  struct cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(int));
  memcpy(CMSG_DATA(head), &fd, sizeof fd);
  CHECK(sendmsg(pair[0], &message, 0) == 1);
  char got = 0;
  one.iov_base = &got;
  CHECK(recvmsg(pair[1], &message, 0) == 1 && got == '!');
  int passed;
  memcpy(&passed, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof passed);
  CHECK(fstat(passed, &st) == 0 && st.st_size == 11);
  int available = 0;
  write(pair[0], "1234", 4);
  CHECK(ioctl(pair[1], FIONREAD, &available) == 0 && available == 4);
  // Locks on a terminal's settings: none.
  const int terminal = posix_openpt(O_RDWR | O_NOCTTY);
  if (terminal >= 0) {
    unsigned char locks[64];
    memset(locks, 0xff, sizeof locks);
    CHECK(ioctl(terminal, TIOCGLCKTRMIOS, locks) == 0 && locks[0] == 0 && locks[35] == 0 && locks[36] == 0xff);
    close(terminal);
  }
  fd_set set;
  FD_ZERO(&set);
  FD_SET(pair[1], &set);
  struct timeval timeout = {1, 0};
  CHECK(select(pair[1] + 1, &set, 0, 0, &timeout) == 1 && FD_ISSET(pair[1], &set));
  return done();
}
