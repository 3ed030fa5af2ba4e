#include "linux-user/invocation.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "linux-user/host_x86_64.h"
#include "linux-user/options.h"

namespace kiln::user {
namespace {

constexpr u64 kPreservedArgv0 = 1;  // AT_FLAGS_PRESERVE_ARGV0, include/uapi/linux/binfmts.h

// Descriptors that guests count on are low; a high one costs every fork() a table of that size.
constexpr int kHighDescriptor = 4096;

}  // namespace

Invocation read_invocation() {
  Invocation i;
  i.argv0_kept = (getauxval(AT_FLAGS) & kPreservedArgv0) != 0;
  errno = 0;
  const u64 fd = getauxval(AT_EXECFD);
  if (fd != 0 || errno != ENOENT) i.program_fd = static_cast<int>(fd);
  i.binfmt = i.argv0_kept || i.program_fd >= 0;
  i.secure = getauxval(AT_SECURE) != 0;
  if (const u64 name = getauxval(AT_EXECFN)) i.execfn = reinterpret_cast<const char*>(name);
  return i;
}

void binfmt_arguments(const Invocation& invocation, int argc, char** argv, Options& options) {
  // kiln PROGRAM [the guest's argv[0], flag P] arguments…
  int at = 1;
  options.program = argv[at++];
  if (invocation.argv0_kept) {
    // execve() of no arguments at all: Linux makes that an empty argv[0].
    options.argv0 = at < argc ? argv[at++] : "";
  }
  options.args.assign(argv + std::min(at, argc), argv + argc);
  options.execfn = invocation.execfn;
}

void show_program(const ShownProgram& program) {
  const int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  char text[2048];
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  if (n <= 0) return;
  text[n] = 0;
  // The kernel takes all of the addresses or none: the others stay as they are (proc(5), numbers of the fields).
  u64 field[53] = {};
  int at = 3;
  char* next = std::strrchr(text, ')');
  if (!next) return;
  for (next += 4; at < 52;) field[++at] = std::strtoull(next, &next, 10);
  prctl_mm_map map{};
  map.start_code = program.code_start;
  map.end_code = program.code_end;
  map.start_stack = field[28];
  map.start_data = field[45];
  map.end_data = field[46];
  map.start_brk = field[47];
  map.brk = reinterpret_cast<u64>(sbrk(0));
  map.arg_start = program.arg_start;
  map.arg_end = program.arg_end;
  map.env_start = program.env_start;
  map.env_end = program.env_end;
  map.exe_fd = static_cast<u32>(-1);
  // The kernel shows it up to a word pair whose first 8 bytes are zero, as the end of a 32-bit guest's is, too.
  std::vector<u8> auxv = program.auxv;
  auxv.resize(align_up(auxv.size(), 16) + 16);
  map.auxv = reinterpret_cast<decltype(map.auxv)>(auxv.data());
  map.auxv_size = static_cast<u32>(auxv.size());
  if (prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0) == 0) return;
  map.auxv = nullptr;
  map.auxv_size = 0;
  prctl(PR_SET_MM, PR_SET_MM_MAP, &map, sizeof map, 0);
}

s64 OwnDescriptors::close_range(unsigned first, unsigned last, unsigned flags) const {
  unsigned ours[] = {static_cast<unsigned>(executable), static_cast<unsigned>(log)};
  if (ours[0] > ours[1]) std::swap(ours[0], ours[1]);
  const auto close = [flags](u64 from, u64 to) { return raw_syscall(SYS_close_range, from, to, flags); };
  for (const unsigned fd : ours) {
    if (fd < first || fd > last || static_cast<int>(fd) < 0) continue;
    if (fd > first)
      if (const s64 r = close(first, fd - 1); r < 0) return r;
    if (fd == last) return 0;
    first = fd + 1;
  }
  return close(first, last);
}

int move_high(int fd) {
  rlimit limit{};
  int from = kHighDescriptor;
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0) from = static_cast<int>(std::min<rlim_t>(limit.rlim_cur, kHighDescriptor));
  for (int below = 8; below <= 64; below *= 2) {
    const int high = fcntl(fd, F_DUPFD_CLOEXEC, std::max(from - below, 3));
    if (high < 0) continue;
    close(fd);
    return high;
  }
  fcntl(fd, F_SETFD, FD_CLOEXEC);
  return fd;
}

int open_own_executable(const Invocation& invocation, int inherited) {
  if (inherited >= 0 && fcntl(inherited, F_SETFD, FD_CLOEXEC) == 0) return inherited;
  int fd = open("/proc/self/exe", O_PATH | O_CLOEXEC);
  // Started by binfmt_misc the name is the guest program's.
  if (fd < 0 && !invocation.binfmt && !invocation.execfn.empty()) fd = open(invocation.execfn.c_str(), O_PATH | O_CLOEXEC);
  return fd < 0 ? -1 : move_high(fd);
}

}  // namespace kiln::user
