#include "jit/debugger/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "jit/debugger/packet.h"

namespace kiln::debugger {
namespace {

constexpr std::size_t kMostBytes = 0x8000;

/// errno in the protocol's numbers ("Errno Values").
std::string failed(int error) {
  static constexpr int kSame[] = {EPERM, ENOENT, EINTR, EIO, EBADF, EACCES, EFAULT, EBUSY, EEXIST, ENODEV, ENOTDIR, EISDIR,
                                  EINVAL, ENFILE, EMFILE, EFBIG, ENOSPC, ESPIPE, EROFS};
  u64 code = 9999;
  for (const int e : kSame)
    if (e == error) code = static_cast<u64>(e);
  if (error == ENAMETOOLONG) code = 91;
  return "F-1," + hex_number(code);
}

void put_be(std::string& out, u64 value, unsigned bytes) {
  while (bytes-- > 0) out += static_cast<char>(value >> (8 * bytes));
}

/// struct stat of the protocol ("struct stat"): big-endian, 64 bytes.
std::string encode_stat(const struct stat& s) {
  std::string out;
  put_be(out, s.st_dev, 4);
  put_be(out, s.st_ino, 4);
  put_be(out, s.st_mode, 4);
  put_be(out, s.st_nlink, 4);
  put_be(out, s.st_uid, 4);
  put_be(out, s.st_gid, 4);
  put_be(out, s.st_rdev, 4);
  put_be(out, static_cast<u64>(s.st_size), 8);
  put_be(out, static_cast<u64>(s.st_blksize), 8);
  put_be(out, static_cast<u64>(s.st_blocks), 8);
  put_be(out, static_cast<u64>(s.st_atime), 4);
  put_be(out, static_cast<u64>(s.st_mtime), 4);
  put_be(out, static_cast<u64>(s.st_ctime), 4);
  return out;
}

std::string attached(std::size_t count, std::string_view data) { return "F" + hex_number(count) + ";" + escape(data); }

}  // namespace

HostFiles::~HostFiles() {
  for (const int fd : open_) close(fd);
}

std::string HostFiles::command(std::string_view in) {
  u64 fd = 0, count = 0, offset = 0;
  std::string path;
  if (take(in, "setfs:")) return "F0";
  if (take(in, "open:")) {
    const std::size_t comma = in.find(',');
    if (comma == std::string_view::npos || !unhex(in.substr(0, comma), path)) return failed(EINVAL);
    in.remove_prefix(comma + 1);
    u64 flags = 0;
    if (!take_hex(in, flags)) return failed(EINVAL);
    if (flags & 3) return failed(EROFS);
    const int opened = target_.open_file(path);
    if (opened < 0) return failed(-opened);
    open_.insert(opened);
    return "F" + hex_number(static_cast<u64>(opened));
  }
  if (take(in, "readlink:")) {
    if (!unhex(in, path)) return failed(EINVAL);
    const std::string to = target_.read_link(path);
    return to.empty() ? failed(EINVAL) : attached(to.size(), to);
  }
  const bool close_it = take(in, "close:"), read_it = take(in, "pread:"), stat_it = take(in, "fstat:");
  if (!close_it && !read_it && !stat_it) return in.starts_with("pwrite:") || in.starts_with("unlink:") ? failed(EROFS) : "";
  if (!take_hex(in, fd) || !open_.contains(static_cast<int>(fd))) return failed(EBADF);
  const int n = static_cast<int>(fd);
  if (close_it) {
    open_.erase(n);
    close(n);
    return "F0";
  }
  if (stat_it) {
    struct stat st;
    if (fstat(n, &st) != 0) return failed(errno);
    const std::string data = encode_stat(st);
    return attached(data.size(), data);
  }
  if (!take(in, ",") || !take_hex(in, count) || !take(in, ",") || !take_hex(in, offset)) return failed(EINVAL);
  std::string data(std::min<std::size_t>(count, kMostBytes), '\0');
  const ssize_t got = pread(n, data.data(), data.size(), static_cast<off_t>(offset));
  if (got < 0) return failed(errno);
  data.resize(static_cast<std::size_t>(got));
  return attached(data.size(), data);
}

}  // namespace kiln::debugger
