// 32-bit layer: files, directories, waiting for descriptors.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <map>
#include <memory>
#include <unordered_map>

#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

// --- directory positions -------------------------------------------------------------------------------------------------
// A file system may use 64-bit cookies as positions in a directory (ext4's hashes). The kernel gives 32-bit programs shorter
// ones, but takes us for a 64-bit program; a libc whose off_t has 32 bits then fails with EOVERFLOW. So what does not fit is
// numbered.

constexpr u64 kNumbered = 0x40000000;  // positions from here on stand for the cookie of that number

class Cookies {
 public:
  u64 shorten(u64 device, u64 inode, u64 cookie) {
    if (cookie < kNumbered) return cookie;
    std::lock_guard guard(mutex_);
    Directory& d = directories_[{device, inode}];
    const auto [it, fresh] = d.numbers.try_emplace(cookie, static_cast<u32>(d.cookies.size()));
    if (fresh) d.cookies.push_back(cookie);
    return kNumbered + it->second;
  }
  u64 lengthen(u64 device, u64 inode, u64 position) {
    if (position < kNumbered) return position;
    std::lock_guard guard(mutex_);
    const auto it = directories_.find({device, inode});
    if (it == directories_.end() || position - kNumbered >= it->second.cookies.size()) return position;
    return it->second.cookies[position - kNumbered];
  }
  bool empty() {
    std::lock_guard guard(mutex_);
    return directories_.empty();
  }

 private:
  struct Directory {
    std::vector<u64> cookies;
    std::unordered_map<u64, u32> numbers;
  };
  std::mutex mutex_;
  std::map<std::pair<u64, u64>, Directory> directories_;
};

Cookies& cookies() {
  static Cookies table;
  return table;
}

struct HostDirent {  // linux_dirent64
  u64 inode;
  s64 position;
  u16 length;
  u8 type;
  char name[1];
};
constexpr std::size_t kHostNameAt = offsetof(HostDirent, name);

/// Reads entries of a directory and has them written by `put(entry, name length, at, room)`, which gives the guest's record
/// size (0: no room, negative: errno). What does not fit is left for the next call.
template <class Put>
s64 read_directory(Call& c, u64 limit, Put&& put) {
  struct stat st;
  if (fstat(c.i(0), &st) != 0) return -errno;
  // No more than certainly fits: the host's records are at least as long as the guest's of either kind.
  const std::size_t room = std::min<u64>(limit, 1 << 18);
  alignas(8) char small[4096];
  std::unique_ptr<char[]> large;
  char* buffer = small;
  if (room > sizeof small) {
    large = std::make_unique<char[]>(room);
    buffer = large.get();
  }
  const s64 before = raw_syscall(SYS_lseek, c.a[0], 0, SEEK_CUR);
  const s64 got = c.host(SYS_getdents64, c.a[0], buffer, room);
  if (got <= 0) return got;
  const bool tasks = is_task_directory(c.i(0));
  u64 out = 0;
  s64 last = before;
  for (s64 at = 0; at < got;) {
    HostDirent e;
    std::memcpy(static_cast<void*>(&e), buffer + at, kHostNameAt);
    const char* name = buffer + at + kHostNameAt;
    if (tasks && !is_guest_task(c.process, name)) {
      last = e.position;
      at += e.length;
      continue;
    }
    const u64 position = cookies().shorten(st.st_dev, st.st_ino, static_cast<u64>(e.position));
    const s64 size = put(e, position, name, std::strlen(name), c.a[1] + out, limit - out);
    if (size <= 0) {
      raw_syscall(SYS_lseek, c.a[0], static_cast<u64>(last), SEEK_SET);
      return out ? static_cast<s64>(out) : size < 0 ? size : -EINVAL;
    }
    out += static_cast<u64>(size);
    last = e.position;
    at += e.length;
  }
  return static_cast<s64>(out);
}

}  // namespace

s64 c32_getdents64(Call& c) {
  return read_directory(
      c, c.a[2], [&](const HostDirent& e, u64 position, const char* name, std::size_t length, GuestAddr at, u64 room) -> s64 {
        if (e.length > room) return 0;
        u8 head[kHostNameAt];
        const bool ok =
            put_word<u64>(c, at, e.inode) && put_word<u64>(c, at + 8, position) && put_word<u16>(c, at + 16, e.length);
        head[0] = e.type;
        return ok && c.memory.write(at + 18, head, 1) && c.memory.write(at + 19, name, length + 1) ? e.length : -EFAULT;
      });
}

s64 c32_getdents(Call& c) {
  const u64 limit = c.u(2);
  return read_directory(
      c, limit, [&](const HostDirent& e, u64 position, const char* name, std::size_t length, GuestAddr at, u64 room) -> s64 {
        const u64 size = align_up(10 + length + 2, 4);  // name, its end, the type in the last byte
        if (size > room) return 0;
        // An inode number that needs more bits is cut: nothing but its being non-zero matters to a caller this old.
        u32 inode = static_cast<u32>(e.inode);
        if (inode == 0) inode = static_cast<u32>(e.inode >> 32);
        const u8 type = e.type;
        return put_word<u32>(c, at, inode) && put_word<u32>(c, at + 4, static_cast<u32>(position)) &&
                       put_word<u16>(c, at + 8, static_cast<u16>(size)) && c.memory.write(at + 10, name, length + 1) &&
                       c.memory.write(at + size - 1, type)
                   ? static_cast<s64>(size)
                   : -EFAULT;
      });
}

/// One entry a call, the struct of Linux 1.0.
s64 c32_readdir(Call& c) {
  bool found = false;
  const s64 r = read_directory(
      c, 512, [&](const HostDirent& e, u64 position, const char* name, std::size_t length, GuestAddr at, u64) -> s64 {
        if (found) return 0;
        found = true;
        return put_word<u32>(c, at, static_cast<u32>(e.inode)) && put_word<u32>(c, at + 4, static_cast<u32>(position)) &&
                       put_word<u16>(c, at + 8, static_cast<u16>(length)) && c.memory.write(at + 10, name, length + 1)
                   ? 1
                   : -EFAULT;
      });
  return r;
}

namespace {
s64 seek(Call& c, s64 offset, int whence, s64& result) {
  struct stat st;
  const bool directory = !cookies().empty() && fstat(c.i(0), &st) == 0 && S_ISDIR(st.st_mode);
  u64 to = static_cast<u64>(offset);
  if (directory && whence == SEEK_SET) to = cookies().lengthen(st.st_dev, st.st_ino, to);
  const s64 r = c.host(SYS_lseek, c.a[0], to, whence);
  if (r < 0) return r;
  result = directory ? static_cast<s64>(cookies().shorten(st.st_dev, st.st_ino, static_cast<u64>(r))) : r;
  return 0;
}
}  // namespace

s64 c32_lseek(Call& c) {
  s64 at;
  const s64 r = seek(c, static_cast<s64>(c.a[1]), c.i(2), at);
  return r < 0 ? r : at > 0x7fffffff ? -EOVERFLOW : at;
}
s64 c32__llseek(Call& c) {
  s64 at;
  const s64 r = seek(c, static_cast<s64>(c.a[1] << 32 | c.a[2]), c.i(4), at);
  return r < 0 ? r : put_word<s64>(c, c.a[3], at) ? 0 : -EFAULT;
}

// --- stat ------------------------------------------------------------------------------------------------------------------
namespace {

enum class StatKind : u8 { Old, Large };

s64 finish_stat(Call& c, s64 result, const struct stat& st, GuestAddr at, StatKind kind) {
  if (result < 0) return result;
  u8 encoded[160];
  const std::size_t size = kind == StatKind::Large ? c.abi.encode_stat(st, encoded) : c.abi.encode_old_stat(st, encoded);
  if (size == 0) return -EOVERFLOW;
  return c.memory.write(at, encoded, size) ? 0 : -EFAULT;
}
s64 stat_path(Call& c, u64 directory, unsigned path_argument, GuestAddr at, u64 flags, StatKind kind) {
  std::string path;
  if (const int r = c.host_path(path_argument, path, (flags & AT_SYMLINK_NOFOLLOW) ? Follow::No : Follow::Yes); r < 0) return r;
  struct stat st;
  return finish_stat(c, c.host(SYS_newfstatat, directory, path.c_str(), &st, flags), st, at, kind);
}
s64 stat_descriptor(Call& c, StatKind kind) {
  struct stat st;
  return finish_stat(c, c.host(SYS_fstat, c.a[0], &st), st, c.a[1], kind);
}
constexpr u64 kHere = static_cast<u64>(AT_FDCWD);

}  // namespace

s64 c32_stat(Call& c) { return stat_path(c, kHere, 0, c.a[1], 0, StatKind::Old); }
s64 c32_lstat(Call& c) { return stat_path(c, kHere, 0, c.a[1], AT_SYMLINK_NOFOLLOW, StatKind::Old); }
s64 c32_fstat(Call& c) { return stat_descriptor(c, StatKind::Old); }
s64 c32_stat64(Call& c) { return stat_path(c, kHere, 0, c.a[1], 0, StatKind::Large); }
s64 c32_lstat64(Call& c) { return stat_path(c, kHere, 0, c.a[1], AT_SYMLINK_NOFOLLOW, StatKind::Large); }
s64 c32_fstat64(Call& c) { return stat_descriptor(c, StatKind::Large); }
s64 c32_fstatat64(Call& c) { return stat_path(c, c.a[0], 1, c.a[2], c.a[3], StatKind::Large); }

namespace {

static_assert(kStatfs32.host_size() == sizeof(struct statfs) && kStatfs64.host_size() == sizeof(struct statfs));

/// statfs with 32-bit counts. Those of files may be all ones ("unknown"); blocks that need more bits are told in larger blocks
/// rather than refused, as the numbers are for people and for checks of free space.
s64 put_statfs32(Call& c, s64 result, struct statfs fs, GuestAddr at) {
  if (result < 0) return result;
  constexpr u64 kMost = 0xffffffff;
  while (std::max({static_cast<u64>(fs.f_blocks), static_cast<u64>(fs.f_bfree), static_cast<u64>(fs.f_bavail)}) > kMost &&
         fs.f_bsize < s64{1} << 30) {
    fs.f_blocks >>= 1;
    fs.f_bfree >>= 1;
    fs.f_bavail >>= 1;
    fs.f_bsize <<= 1;
    fs.f_frsize <<= 1;
  }
  fs.f_files = std::min<u64>(fs.f_files, kMost);
  fs.f_ffree = std::min<u64>(fs.f_ffree, kMost);
  return put_struct(c, at, kStatfs32, fs);
}
s64 put_statfs64(Call& c, s64 result, const struct statfs& fs, u64 size, GuestAddr at) {
  if (size != kStatfs64.guest_size(c.abi)) return -EINVAL;
  return result < 0 ? result : put_struct(c, at, kStatfs64, fs);
}
s64 host_statfs(Call& c, struct statfs& fs) {
  std::string path;
  if (const int r = c.host_path(0, path, Follow::Yes); r < 0) return r;
  return c.host(SYS_statfs, path.c_str(), &fs);
}

}  // namespace

s64 c32_statfs(Call& c) {
  struct statfs fs;
  const s64 r = host_statfs(c, fs);
  return put_statfs32(c, r, fs, c.a[1]);
}
s64 c32_statfs64(Call& c) {
  struct statfs fs;
  const s64 r = host_statfs(c, fs);
  return put_statfs64(c, r, fs, c.a[1], c.a[2]);
}
s64 c32_fstatfs(Call& c) {
  struct statfs fs;
  const s64 r = c.host(SYS_fstatfs, c.a[0], &fs);
  return put_statfs32(c, r, fs, c.a[1]);
}
s64 c32_fstatfs64(Call& c) {
  struct statfs fs;
  const s64 r = c.host(SYS_fstatfs, c.a[0], &fs);
  return put_statfs64(c, r, fs, c.a[1], c.a[2]);
}
s64 c32_ustat(Call& c) {
  u8 host[kLayoutBytes];
  const s64 r = c.host(SYS_ustat, c.a[0], host);
  return r < 0 ? r : put_struct(c, c.a[1], kUstat32, host[0]);
}

// --- descriptors -----------------------------------------------------------------------------------------------------------
namespace {

static_assert(kFlock32.host_size() == sizeof(struct flock) && kFlock64.host_size() == sizeof(struct flock));

s64 lock(Call& c, u64 command, const Layout& layout) {
  struct flock fl{};
  if (const int r = get_struct(c, c.a[2], layout, fl); r < 0) return r;
  const s64 r = c.host(SYS_fcntl, c.a[0], command, &fl);
  if (r < 0 || (command != F_GETLK && command != F_OFD_GETLK)) return r;
  // Linux cuts an end that does not fit, and fails only for a start.
  if (&layout == &kFlock32) {
    if (fl.l_start > 0x7fffffff) return -EOVERFLOW;
    fl.l_len = std::min<off_t>(fl.l_len, 0x7fffffff);
  }
  return put_struct(c, c.a[2], layout, fl);
}

/// Commands of 32-bit ABIs for struct flock64 (asm-generic/fcntl.h).
enum : u32 { kGetlk64 = 12, kSetlk64 = 13, kSetlkw64 = 14 };

}  // namespace

s64 c32_fcntl64(Call& c) {
  switch (c.u(1)) {
    case F_GETLK:
    case F_SETLK:
    case F_SETLKW: return lock(c, c.u(1), kFlock32);
    case kGetlk64: return lock(c, F_GETLK, kFlock64);
    case kSetlk64: return lock(c, F_SETLK, kFlock64);
    case kSetlkw64: return lock(c, F_SETLKW, kFlock64);
    case F_OFD_GETLK:
    case F_OFD_SETLK:
    case F_OFD_SETLKW: return lock(c, c.u(1), kFlock64);
    default: return sys_fcntl(c);
  }
}
s64 c32_fcntl(Call& c) { return c32_fcntl64(c); }

s64 c32_sendfile(Call& c) {
  if (c.a[2] == 0) return c.host(SYS_sendfile, c.a[0], c.a[1], nullptr, c.a[3]);
  s32 offset;
  if (!get_word(c, c.a[2], offset)) return -EFAULT;
  s64 host_offset = offset;
  const s64 r = c.host(SYS_sendfile, c.a[0], c.a[1], &host_offset, c.a[3]);
  if (r == kRestartSyscall) return r;
  return put_word<s32>(c, c.a[2], static_cast<s32>(host_offset)) ? r : -EFAULT;
}

// --- select and poll ---------------------------------------------------------------------------------------------------------
namespace {

/// {pointer, size} or a pointer and a size: the mask for the time of the call.
struct WaitMask {
  bool given = false;
  u64 mask = 0, host = 0;
  int read(Call& c, GuestAddr at, u64 size) {
    given = at != 0;
    if (!given) return 0;
    if (size != 8) return -EINVAL;
    u32 words[2];
    if (!get_word(c, at, words[0]) || !get_word(c, at + 4, words[1])) return -EFAULT;
    mask = words[0] | u64{words[1]} << 32;
    host = mask & ~(signal_bit(SIGSEGV) | signal_bit(SIGBUS));
    return 0;
  }
  const u64* pointer() const { return given ? &host : nullptr; }
};

/// Descriptor sets: arrays of the guest's long, which with little-endian words of 32 bits is the host's but for the length.
class FdSets {
 public:
  int read(Call& c, int count, const u64 (&at)[3]) {
    if (count < 0) return -EINVAL;
    words_ = (static_cast<std::size_t>(std::min(count, 1 << 20)) + 31) / 32;
    for (unsigned k = 0; k < 3; ++k) {
      if (at[k] == 0) continue;
      sets_[k].assign((words_ + 1) / 2, 0);
      for (std::size_t w = 0; w < words_; ++w) {
        u32 value;
        if (!get_word(c, at[k] + 4 * w, value)) return -EFAULT;
        sets_[k][w / 2] |= u64{value} << (32 * (w & 1));
      }
    }
    return 0;
  }
  int write(Call& c, const u64 (&at)[3]) const {
    for (unsigned k = 0; k < 3; ++k)
      for (std::size_t w = 0; at[k] && w < words_; ++w)
        if (!put_word<u32>(c, at[k] + 4 * w, static_cast<u32>(sets_[k][w / 2] >> (32 * (w & 1))))) return -EFAULT;
    return 0;
  }
  u64* operator[](unsigned k) { return sets_[k].empty() ? nullptr : sets_[k].data(); }

 private:
  std::size_t words_ = 0;
  std::vector<u64> sets_[3];
};

s64 select_common(Call& c, int count, const u64 (&sets)[3], Timeout& timeout, const WaitMask* mask) {
  FdSets fds;
  if (const int r = fds.read(c, count, sets); r < 0) return r;
  const u64 host_mask[2] = {mask ? Call::to_u64(mask->pointer()) : 0, 8};
  const s64 n = c.host(SYS_pselect6, count, fds[0], fds[1], fds[2], timeout.host(), host_mask);
  if (n < 0) return n;
  if (const int r = fds.write(c, sets); r < 0) return r;
  return n;
}

/// select with a timeval, which Linux updates.
s64 select_timeval(Call& c, int count, const u64 (&sets)[3], GuestAddr timeout_at) {
  Timeout timeout;
  timeout.given = timeout_at != 0;
  if (timeout.given) {
    timeval tv;
    if (const int r = get_struct(c, timeout_at, kTimeval32, tv); r < 0) return r;
    if (tv.tv_sec < 0 || tv.tv_usec < 0) return -EINVAL;
    timeout.value = {tv.tv_sec + tv.tv_usec / 1000000, tv.tv_usec % 1000000 * 1000};
  }
  const s64 n = select_common(c, count, sets, timeout, nullptr);
  if (timeout.given && n != kRestartSyscall) {
    const timeval left{timeout.value.tv_sec, timeout.value.tv_nsec / 1000};
    put_struct(c, timeout_at, kTimeval32, left);
  }
  return n;
}

s64 pselect(Call& c, TimeSize size) {
  u32 packed[2] = {0, 0};
  if (c.a[5] && (!get_word(c, c.a[5], packed[0]) || !get_word(c, c.a[5] + 4, packed[1]))) return -EFAULT;
  WaitMask mask;
  if (const int r = mask.read(c, packed[0], packed[1]); r < 0) return r;
  Timeout timeout;
  if (const int r = get_timeout(c, c.a[4], size, timeout); r < 0) return r;
  CallMask scope(c.thread, mask.given, mask.mask);
  const s64 n = select_common(c, c.i(0), {c.a[1], c.a[2], c.a[3]}, timeout, &mask);
  if (n != kRestartSyscall) put_timeout(c, c.a[4], size, timeout.value);
  return n;
}

s64 poll(Call& c, TimeSize size) {
  WaitMask mask;
  if (const int r = mask.read(c, c.a[3], c.a[4]); r < 0) return r;
  Timeout timeout;
  if (const int r = get_timeout(c, c.a[2], size, timeout); r < 0) return r;
  CallMask scope(c.thread, mask.given, mask.mask);
  const s64 n = c.host(SYS_ppoll, c.out(0, u64{c.u(1)} * 8), c.a[1], timeout.host(), mask.pointer(), u64{8});
  if (n != kRestartSyscall) put_timeout(c, c.a[2], size, timeout.value);
  return n;
}

}  // namespace

/// i386's first select: its five arguments in memory.
s64 c32_select(Call& c) {
  u32 a[5];
  for (unsigned k = 0; k < 5; ++k)
    if (!get_word(c, c.a[0] + 4 * k, a[k])) return -EFAULT;
  return select_timeval(c, static_cast<int>(a[0]), {a[1], a[2], a[3]}, a[4]);
}
s64 c32__newselect(Call& c) { return select_timeval(c, c.i(0), {c.a[1], c.a[2], c.a[3]}, c.a[4]); }
s64 c32_pselect6(Call& c) { return pselect(c, TimeSize::Bits32); }
s64 c32_pselect6_time64(Call& c) { return pselect(c, TimeSize::Bits64); }
s64 c32_ppoll(Call& c) { return poll(c, TimeSize::Bits32); }
s64 c32_ppoll_time64(Call& c) { return poll(c, TimeSize::Bits64); }

}  // namespace kiln::user
