// Files, directories, descriptors, vectored and waiting I/O.
#include <fcntl.h>
#include <linux/openat2.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cstring>
#include <memory>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

s64 sys_openat(Call& c) {
  std::string guest;
  if (const int r = c.path(1, guest); r < 0) return r;
  const int flags = c.abi.open_flags_to_host(c.a[2]);
  int fd = -1;
  if (open_proc_file(c.process, guest, flags, fd)) return fd;
  const std::string path = resolve_path(c.process, guest, (flags & O_NOFOLLOW) ? Follow::No : Follow::Yes);
  const s64 opened = c.host(SYS_openat, c.a[0], path.c_str(), flags, c.u(3));
  return opened < 0 ? opened : show_guest(c.process, static_cast<int>(opened), flags);
}

s64 sys_openat2(Call& c) {
  std::string guest;
  if (const int r = c.path(1, guest); r < 0) return r;
  open_how how{};
  if (c.a[3] < sizeof how) return -EINVAL;
  if (c.a[3] > kPageSize) return -E2BIG;
  if (!c.memory.read(c.a[2], how)) return -EFAULT;
  // A longer struct is taken as long as what we do not know is zero (copy_struct_from_user()).
  std::vector<u8> rest(c.a[3] - sizeof how);
  if (!c.memory.read(c.a[2] + sizeof how, rest.data(), rest.size())) return -EFAULT;
  for (const u8 byte : rest)
    if (byte != 0) return -E2BIG;
  if (how.flags >> 32) return -EINVAL;
  how.flags = static_cast<u32>(c.abi.open_flags_to_host(how.flags));
  int fd = -1;
  // Where a symlink must not be followed or the path ends at the directory given, /proc's files are known by their descriptor only.
  constexpr u64 kPlain = RESOLVE_BENEATH | RESOLVE_IN_ROOT, kNoLinks = RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  if (!(how.resolve & (kPlain | kNoLinks)) && open_proc_file(c.process, guest, static_cast<int>(how.flags), fd)) return fd;
  std::string path = guest;
  if (how.resolve & RESOLVE_NO_SYMLINKS) path = resolve_path(c.process, guest, Follow::Literal);
  else if (!(how.resolve & kPlain) && (how.resolve == 0 || guest.compare(0, 6, "/proc/") != 0))
    path = resolve_path(c.process, guest, (how.flags & O_NOFOLLOW) ? Follow::No : Follow::Yes);
  const s64 opened = c.host(SYS_openat2, c.a[0], path.c_str(), &how, sizeof how);
  return opened < 0 ? opened : show_guest(c.process, static_cast<int>(opened), static_cast<int>(how.flags));
}

s64 sys_open_by_handle_at(Call& c) { return c.host(SYS_open_by_handle_at, c.a[0], c.in(1), c.abi.open_flags_to_host(c.a[2])); }
s64 sys_fanotify_init(Call& c) { return c.host(SYS_fanotify_init, c.a[0], c.abi.open_flags_to_host(c.a[1])); }
s64 sys_fsconfig(Call& c) {
  // FSCONFIG_SET_PATH and _PATH_EMPTY: the value is a path.
  const bool path = c.u(1) == 3 || c.u(1) == 4;
  return pass_by_letters(c, SYS_fsconfig, path ? "dxsPi" : "dxspi");
}

// --- descriptors: ours are none of the guest's ---------------------------------------------------------------------------
s64 sys_dup2(Call& c) { return c.process.own.has(c.i(1)) ? -EBADF : c.host(SYS_dup2, c.a[0], c.a[1]); }
s64 sys_dup3(Call& c) {
  return c.process.own.has(c.i(1)) ? -EBADF : c.host(SYS_dup3, c.a[0], c.a[1], c.abi.open_flags_to_host(c.a[2]));
}
s64 sys_close(Call& c) { return c.process.own.has(c.i(0)) ? -EBADF : c.host(SYS_close, c.a[0]); }
s64 sys_close_range(Call& c) { return c.process.own.close_range(c.u(0), c.u(1), c.u(2)); }

namespace {
/// getdents() and getdents64(): records in the host's layout, `name_at` the name's place in one, `length_at` its length's.
s64 directory_entries(Call& c, long number, std::size_t length_at, std::size_t name_at) {
  const bool tasks = is_task_directory(c.i(0));
  s64 got;
  do {
    got = c.host(number, c.a[0], c.out(1, c.a[2]), c.a[2]);
    if (got <= 0 || !tasks) return got;
    std::vector<char> records(static_cast<std::size_t>(got));
    if (!c.memory.read(c.a[1], records.data(), records.size())) return -EFAULT;
    std::size_t kept = 0;
    for (std::size_t at = 0; at < records.size();) {
      u16 length;
      std::memcpy(&length, &records[at + length_at], sizeof length);
      if (is_guest_task(c.process, &records[at + name_at])) {
        std::memmove(&records[kept], &records[at], length);
        kept += length;
      }
      at += length;
    }
    if (!c.memory.write(c.a[1], records.data(), kept)) return -EFAULT;
    got = static_cast<s64>(kept);
  } while (got == 0);
  return got;
}
}  // namespace

s64 sys_getdents64(Call& c) { return directory_entries(c, SYS_getdents64, 16, 19); }
s64 sys_getdents(Call& c) { return directory_entries(c, SYS_getdents, 16, 18); }

s64 sys_pipe2(Call& c) { return c.host(SYS_pipe2, c.out(0, 8), c.abi.open_flags_to_host(c.a[1])); }

s64 sys_fcntl(Call& c) {
  switch (c.i(1)) {
    case F_GETFL: {
      const s64 r = c.host(SYS_fcntl, c.a[0], F_GETFL);
      return r < 0 ? r : static_cast<s64>(c.abi.open_flags_from_host(static_cast<int>(r)));
    }
    case F_SETFL: return c.host(SYS_fcntl, c.a[0], F_SETFL, c.abi.open_flags_to_host(c.a[2]));
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW:  // struct flock is the same on all 64-bit guests
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW:
    case 17:  // F_GETOWNER_UIDS
    case F_GETOWN_EX:
    case F_SETOWN_EX:
    case 1035:
    case 1036:
    case 1037:
    case 1038:  // F_GET/SET_RW_HINT, F_GET/SET_FILE_RW_HINT
      return c.host(SYS_fcntl, c.a[0], c.a[1], c.out(2, 64));
    default: return c.host(SYS_fcntl, c.a[0], c.a[1], c.a[2]);
  }
}

s64 sys_getcwd(Call& c) {
  char buffer[4097];
  const s64 n = raw_syscall(SYS_getcwd, reinterpret_cast<u64>(buffer), sizeof buffer);
  if (n < 0) return n;
  if (static_cast<u64>(n) > c.a[1]) return -ERANGE;
  return c.memory.write(c.a[0], buffer, static_cast<std::size_t>(n)) ? n : -EFAULT;
}

s64 sys_readlinkat(Call& c) {
  std::string guest;
  if (const int r = c.path(1, guest); r < 0) return r;
  if (c.i(3) <= 0) return -EINVAL;
  if (const std::string program = program_of(c.process, guest); !program.empty()) {
    const std::string target = guest_view(c.process, program);
    const std::size_t n = std::min<std::size_t>(target.size(), c.a[3]);
    return c.memory.write(c.a[2], target.data(), n) ? static_cast<s64>(n) : -EFAULT;
  }
  const std::string path = resolve_path(c.process, guest, Follow::No);
  return c.host(SYS_readlinkat, c.a[0], path.c_str(), c.out(2, c.a[3]), c.a[3]);
}

namespace {
s64 put_stat(Call& c, s64 result, const struct stat& st, GuestAddr at) {
  if (result < 0) return result;
  u8 encoded[160];
  const std::size_t size = c.abi.encode_stat(st, encoded);
  return c.memory.write(at, encoded, size) ? 0 : -EFAULT;
}
}  // namespace

s64 sys_newfstatat(Call& c) {
  std::string path;
  if (const int r = c.host_path(1, path, (c.a[3] & AT_SYMLINK_NOFOLLOW) ? Follow::No : Follow::Yes); r < 0) return r;
  struct stat st;
  return put_stat(c, c.host(SYS_newfstatat, c.a[0], path.c_str(), &st, c.a[3]), st, c.a[2]);
}

s64 sys_fstat(Call& c) {
  struct stat st;
  return put_stat(c, c.host(SYS_fstat, c.a[0], &st), st, c.a[1]);
}

s64 sys_utimensat(Call& c) {
  if (c.a[1] == 0) return c.host(SYS_utimensat, c.a[0], nullptr, c.in(2), c.a[3]);
  std::string path;
  if (const int r = c.host_path(1, path, (c.a[3] & AT_SYMLINK_NOFOLLOW) ? Follow::No : Follow::Yes); r < 0) return r;
  return c.host(SYS_utimensat, c.a[0], path.c_str(), c.in(2), c.a[3]);
}

// --- vectored I/O ----------------------------------------------------------------------------------------------------

int read_guest_iovec(Call& c, GuestAddr at, u64 count, std::vector<std::pair<GuestAddr, u64>>& out) {
  if (count > 1024) return -EINVAL;
  const std::size_t word = c.abi.guest->pointer_bits / 8;
  std::vector<u8> raw(2 * count * word);
  if (!c.memory.read(at, raw.data(), raw.size())) return -EFAULT;
  auto value = [&](std::size_t index) {
    u64 v = 0;
    std::memcpy(&v, raw.data() + index * word, word);
    return c.abi.guest->big_endian ? __builtin_bswap64(v) >> (64 - 8 * word) : v;
  };
  out.resize(count);
  for (std::size_t n = 0; n < count; ++n) {
    out[n] = {value(2 * n), value(2 * n + 1)};
    if ((out[n].second >> (8 * word - 1)) & 1) return -EINVAL;
  }
  return 0;
}

int read_iovec(Call& c, GuestAddr at, u64 count, std::vector<iovec>& out, bool kernel_writes) {
  std::vector<std::pair<GuestAddr, u64>> guest;
  if (const int r = read_guest_iovec(c, at, count, guest); r < 0) return r;
  out.resize(guest.size());
  for (std::size_t n = 0; n < guest.size(); ++n) {
    const auto [base, length] = guest[n];
    out[n] = {kernel_writes ? c.memory.out_pointer(base, length) : c.memory.pointer(base), length};
  }
  return 0;
}

namespace {
s64 vectored(Call& c, long number, bool kernel_writes) {
  std::vector<iovec> iov;
  if (const int r = read_iovec(c, c.a[1], c.u(2), iov, kernel_writes); r < 0) return r;
  return c.host(number, c.a[0], iov.data(), iov.size(), c.a[3], c.a[4], c.a[5]);
}
}  // namespace

s64 sys_readv(Call& c) { return vectored(c, SYS_readv, true); }
s64 sys_writev(Call& c) { return vectored(c, SYS_writev, false); }
s64 sys_preadv(Call& c) { return vectored(c, SYS_preadv, true); }
s64 sys_pwritev(Call& c) { return vectored(c, SYS_pwritev, false); }
s64 sys_preadv2(Call& c) { return vectored(c, SYS_preadv2, true); }
s64 sys_pwritev2(Call& c) { return vectored(c, SYS_pwritev2, false); }
s64 sys_vmsplice(Call& c) { return vectored(c, SYS_vmsplice, true); }

// --- waiting ---------------------------------------------------------------------------------------------------------

namespace {
/// {pointer, size} of a signal set as pselect6 passes it, or the two arguments of ppoll.
int read_mask(Call& c, GuestAddr at, u64 size, bool& wanted, u64& mask) {
  wanted = at != 0;
  if (!wanted) return 0;
  if (size != 8) return -EINVAL;
  return c.memory.read(at, mask) ? 0 : -EFAULT;
}
/// Masks that the host is to use must leave the fault signals open.
u64 host_mask(u64 mask) { return mask & ~(signal_bit(SIGSEGV) | signal_bit(SIGBUS)); }
}  // namespace

s64 sys_ppoll(Call& c) {
  bool wanted;
  u64 mask = 0;
  if (const int r = read_mask(c, c.a[3], c.a[4], wanted, mask); r < 0) return r;
  CallMask scope(c.thread, wanted, mask);
  const u64 hm = host_mask(mask);
  return c.host(SYS_ppoll, c.out(0, u64{c.u(1)} * 8), c.a[1], c.out(2, 16), wanted ? &hm : nullptr, u64{8});
}

s64 sys_pselect6(Call& c) {
  bool wanted = false;
  u64 mask = 0, packed[2] = {0, 0};
  if (c.a[5] && !c.memory.read(c.a[5], packed)) return -EFAULT;
  if (const int r = read_mask(c, packed[0], packed[1], wanted, mask); r < 0) return r;
  CallMask scope(c.thread, wanted, mask);
  const u64 hm = host_mask(mask);
  const u64 host_packed[2] = {wanted ? reinterpret_cast<u64>(&hm) : 0, 8};
  return c.host(SYS_pselect6, c.a[0], c.out(1, 128), c.out(2, 128), c.out(3, 128), c.out(4, 16), host_packed);
}

namespace {
struct WideEpollEvent {  // everywhere but on x86-64
  u32 events, pad;
  u64 data;
};

template <class Wait>
s64 epoll_wait_common(Call& c, u64 mask_at, u64 mask_size, Wait&& wait) {
  bool wanted;
  u64 mask = 0;
  if (const int r = read_mask(c, mask_at, mask_size, wanted, mask); r < 0) return r;
  const s64 count = c.i(2);
  if (count <= 0 || count > 1 << 20) return -EINVAL;
  CallMask scope(c.thread, wanted, mask);
  const u64 hm = host_mask(mask);
  epoll_event few[64];
  std::unique_ptr<epoll_event[]> many;
  epoll_event* events = few;
  if (count > 64) {
    many = std::make_unique<epoll_event[]>(static_cast<std::size_t>(count));
    events = many.get();
  }
  const s64 n = wait(events, count, wanted ? &hm : nullptr);
  for (s64 k = 0; k < n; ++k) {
    const auto& e = events[k];
    bool ok;
    if (c.abi.epoll_event_packed) {
      ok = c.memory.write(c.a[1] + static_cast<u64>(k) * 12, &e, 12);
    } else {
      const WideEpollEvent wide{e.events, 0, e.data.u64};
      ok = c.memory.write(c.a[1] + static_cast<u64>(k) * 16, wide);
    }
    if (!ok) return -EFAULT;
  }
  return n;
}
}  // namespace

s64 sys_epoll_ctl(Call& c) {
  epoll_event event{};
  if (c.a[3]) {
    if (c.abi.epoll_event_packed) {
      if (!c.memory.read(c.a[3], &event, 12)) return -EFAULT;
    } else {
      WideEpollEvent wide;
      if (!c.memory.read(c.a[3], wide)) return -EFAULT;
      event.events = wide.events;
      event.data.u64 = wide.data;
    }
  }
  return c.host(SYS_epoll_ctl, c.a[0], c.a[1], c.a[2], c.a[3] ? &event : nullptr);
}

s64 sys_epoll_pwait(Call& c) {
  return epoll_wait_common(c, c.a[4], c.a[5], [&](epoll_event* events, s64 count, const u64* mask) {
    return c.host(SYS_epoll_pwait, c.a[0], events, count, c.a[3], mask, u64{8});
  });
}

s64 sys_epoll_pwait2(Call& c) {
  return epoll_wait_common(c, c.a[4], c.a[5], [&](epoll_event* events, s64 count, const u64* mask) {
    return c.host(SYS_epoll_pwait2, c.a[0], events, count, c.in(3), mask, u64{8});
  });
}

}  // namespace kiln::user
