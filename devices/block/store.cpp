#include "devices/block/store.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace kiln::devices {

namespace {

int read_all(int fd, u64 offset, u8* to, u64 bytes) {
  while (bytes != 0) {
    const ssize_t got = pread(fd, to, bytes, static_cast<off_t>(offset));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return errno;
    if (got == 0) {
      // The file has become shorter behind our back.
      std::memset(to, 0, bytes);
      return 0;
    }
    to += got;
    offset += static_cast<u64>(got);
    bytes -= static_cast<u64>(got);
  }
  return 0;
}

int write_all(int fd, u64 offset, const u8* from, u64 bytes) {
  while (bytes != 0) {
    const ssize_t put = pwrite(fd, from, bytes, static_cast<off_t>(offset));
    if (put < 0 && errno == EINTR) continue;
    if (put < 0) return errno;
    if (put == 0) return EIO;
    from += put;
    offset += static_cast<u64>(put);
    bytes -= static_cast<u64>(put);
  }
  return 0;
}

int write_zeroes_by_hand(int fd, u64 offset, u64 bytes) {
  static constexpr u8 kZeroes[65536] = {};
  for (u64 done = 0; done < bytes;) {
    const u64 piece = std::min<u64>(bytes - done, sizeof kZeroes);
    if (const int error = write_all(fd, offset + done, kZeroes, piece); error != 0) return error;
    done += piece;
  }
  return 0;
}

/// fallocate; EOPNOTSUPP where the file system has no such thing.
int allocate(int fd, int mode, u64 offset, u64 bytes) {
  if (bytes == 0) return 0;
  int result = 0;
  do result = fallocate(fd, mode, static_cast<off_t>(offset), static_cast<off_t>(bytes));
  while (result != 0 && errno == EINTR);
  return result == 0 ? 0 : errno;
}

class FileStore final : public BlockStore {
 public:
  FileStore(int fd, u64 bytes, bool unmap) : fd_(fd), bytes_(bytes), unmap_(unmap) {}
  ~FileStore() override { close(fd_); }
  u64 bytes() const override { return bytes_; }
  int read(u64 offset, u8* to, u64 bytes) override { return read_all(fd_, offset, to, bytes); }
  int write(u64 offset, const u8* from, u64 bytes) override { return write_all(fd_, offset, from, bytes); }
  int flush() override { return fdatasync(fd_) == 0 ? 0 : errno; }
  int write_zeroes(u64 offset, u64 bytes, bool unmap) override {
    if (unmap && unmap_ && allocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes) == 0) return 0;
    const int error = allocate(fd_, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    return error == EOPNOTSUPP || error == ENODEV || error == EINVAL ? write_zeroes_by_hand(fd_, offset, bytes) : error;
  }
  int discard(u64 offset, u64 bytes) override {
    // A hint: where it cannot be done, nothing is lost.
    if (unmap_) allocate(fd_, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    return 0;
  }

 private:
  int fd_;
  u64 bytes_;
  bool unmap_;
};

/// Blocks that were written live in a sparse temporary file at the same offsets; a bit a block says which.
class OverlayStore final : public BlockStore {
 public:
  OverlayStore(std::unique_ptr<BlockStore> base, int fd)
      : base_(std::move(base)), fd_(fd), bytes_(base_->bytes()), written_((bytes_ + kBlock - 1) / kBlock) {}
  ~OverlayStore() override { close(fd_); }
  u64 bytes() const override { return bytes_; }

  int read(u64 offset, u8* to, u64 bytes) override {
    const std::lock_guard guard(lock_);
    return each_block(offset, bytes, [&](u64 at, u64 piece) {
      u8* target = to + (at - offset);
      return written_[at / kBlock] ? read_all(fd_, at, target, piece) : base_->read(at, target, piece);
    });
  }
  int write(u64 offset, const u8* from, u64 bytes) override {
    const std::lock_guard guard(lock_);
    return each_block(offset, bytes, [&](u64 at, u64 piece) { return put(at, from + (at - offset), piece); });
  }
  int flush() override { return 0; }  // gone with the process anyway
  int write_zeroes(u64 offset, u64 bytes, bool) override {
    static constexpr u8 kZeroes[kBlock] = {};
    const std::lock_guard guard(lock_);
    return each_block(offset, bytes, [&](u64 at, u64 piece) { return put(at, kZeroes, piece); });
  }
  int discard(u64, u64) override { return 0; }

 private:
  static constexpr u64 kBlock = 4096;

  template <class Do>
  int each_block(u64 offset, u64 bytes, Do action) {
    const u64 end = offset + bytes;
    while (offset < end) {
      const u64 piece = std::min(end, align_down(offset, kBlock) + kBlock) - offset;
      if (const int error = action(offset, piece); error != 0) return error;
      offset += piece;
    }
    return 0;
  }
  int put(u64 at, const u8* from, u64 piece) {
    if (!written_[at / kBlock]) {
      const u64 start = align_down(at, kBlock), whole = std::min(bytes_ - start, kBlock);
      if (piece != whole) {
        u8 block[kBlock];
        if (const int error = base_->read(start, block, whole); error != 0) return error;
        if (const int error = write_all(fd_, start, block, whole); error != 0) return error;
      }
    }
    const int error = write_all(fd_, at, from, piece);
    if (error == 0) written_[at / kBlock] = true;
    return error;
  }

  std::unique_ptr<BlockStore> base_;
  int fd_;
  u64 bytes_;
  std::mutex lock_;
  std::vector<bool> written_;
};

}  // namespace

std::unique_ptr<BlockStore> make_file_store(int fd, u64 bytes, bool unmap) {
  return std::make_unique<FileStore>(fd, bytes, unmap);
}

Result<std::unique_ptr<BlockStore>> make_overlay_store(std::unique_ptr<BlockStore> base) {
  const char* given = std::getenv("TMPDIR");
  const std::string directory = given != nullptr && *given != 0 ? given : "/var/tmp";
  int fd = open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd < 0) {
    // File systems without O_TMPFILE.
    std::string name = directory + "/kiln-snapshot-XXXXXX";
    fd = mkostemp(name.data(), O_CLOEXEC);
    if (fd >= 0) unlink(name.c_str());
  }
  if (fd < 0) return Error{"cannot make a temporary file in " + directory + ": " + std::strerror(errno)};
  return std::unique_ptr<BlockStore>(std::make_unique<OverlayStore>(std::move(base), fd));
}

}  // namespace kiln::devices
