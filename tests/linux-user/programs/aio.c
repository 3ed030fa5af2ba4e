// Linux AIO: contexts, reads and writes, vectors, events with the guest's own pointers, an eventfd, errors.
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"

typedef unsigned long context_id;  // aio_context_t is the guest's long
static long setup(unsigned n, context_id* id) { return syscall(SYS_io_setup, n, id); }
static long submit(context_id id, long n, struct iocb** list) { return syscall(SYS_io_submit, id, n, list); }
static long events(context_id id, long least, long most, struct io_event* out) { return syscall(SYS_io_getevents, id, least, most, out, NULL); }

int main(void) {
  char name[] = "/tmp/kiln-aio-XXXXXX";
  int fd = mkstemp(name);
  unlink(name);
  context_id id = 0;
  CHECK(setup(8, &id) == 0 && id != 0);
  CHECK(setup(8, &id) == -1 && errno == EINVAL);

  char text[] = "asynchronous", back[16] = "", front[8] = "";
  struct iocb write_it = {.aio_fildes = (unsigned)fd, .aio_lio_opcode = IOCB_CMD_PWRITE, .aio_buf = (uintptr_t)text, .aio_nbytes = 12, .aio_data = 0x123456789abull};
  struct iocb* list[3] = {&write_it};
  struct io_event done_events[4];
  CHECK(submit(id, 1, list) == 1);
  CHECK(events(id, 1, 4, done_events) == 1);
  CHECK(done_events[0].obj == (uintptr_t)&write_it && done_events[0].data == 0x123456789abull && done_events[0].res == 12);

  int notice = eventfd(0, 0);
  struct iovec parts[2] = {{front, 5}, {back, 7}};
  struct iocb read_it = {.aio_fildes = (unsigned)fd, .aio_lio_opcode = IOCB_CMD_PREAD, .aio_buf = (uintptr_t)back, .aio_nbytes = 4, .aio_offset = 8, .aio_data = 1, .aio_flags = IOCB_FLAG_RESFD, .aio_resfd = (unsigned)notice};
  list[0] = &read_it;
  CHECK(submit(id, 1, list) == 1 && events(id, 1, 1, done_events) == 1 && done_events[0].obj == (uintptr_t)&read_it && !memcmp(back, "nous", 4));
  uint64_t count = 0;
  CHECK(read(notice, &count, 8) == 8 && count == 1);
  struct iocb vector = {.aio_fildes = (unsigned)fd, .aio_lio_opcode = IOCB_CMD_PREADV, .aio_buf = (uintptr_t)parts, .aio_nbytes = 2, .aio_data = 2};
  struct iocb bad = {.aio_fildes = 9999, .aio_lio_opcode = IOCB_CMD_PREAD};
  list[0] = &vector;
  list[1] = &bad;
  CHECK(submit(id, 2, list) == 1);
  CHECK(events(id, 1, 4, done_events) == 1 && done_events[0].data == 2 && done_events[0].res == 12 && !memcmp(front, "async", 5) && !memcmp(back, "hronous", 7));
  list[0] = &bad;
  CHECK(submit(id, 1, list) == -1 && errno == EBADF);
  list[0] = (struct iocb*)8;
  CHECK(submit(id, 1, list) == -1 && errno == EFAULT);
  CHECK(submit(id + 4096, 1, list) == -1 && errno == EINVAL);
  struct timespec soon = {0, 1000000};
  CHECK(syscall(SYS_io_getevents, id, 1L, 1L, done_events, &soon) == 0);

  pid_t child = fork();  // a context is its process's
  if (child == 0) _exit(events(id, 0, 1, done_events) == -1 && errno == EINVAL ? 0 : 1);
  int status;
  CHECK(waitpid(child, &status, 0) == child && status == 0);
  CHECK(syscall(SYS_io_destroy, id) == 0 && syscall(SYS_io_destroy, id) == -1 && errno == EINVAL);
  return done();
}
