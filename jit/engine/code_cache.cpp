#include "jit/engine/code_cache.h"

#include <sys/mman.h>
#include <unistd.h>

namespace kiln::jit {

CodeCache::CodeCache(std::size_t bytes) {
  size_ = align_up(bytes, std::size_t{kGenerations} << 16);
  part_ = size_ / kGenerations;
  const int fd = memfd_create("kiln-code", MFD_CLOEXEC);
  if (fd < 0) return;
  if (ftruncate(fd, static_cast<off_t>(size_)) != 0) {
    close(fd);
    return;
  }
  void* rw = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  void* rx = mmap(nullptr, size_, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
  close(fd);
  if (rw == MAP_FAILED || rx == MAP_FAILED) return;
  writable_ = static_cast<u8*>(rw);
  executable_ = reinterpret_cast<HostAddr>(rx);
  next_ = executable_;
}

CodeCache::~CodeCache() {
  if (writable_ == nullptr) return;
  munmap(writable_, size_);
  munmap(reinterpret_cast<void*>(executable_), size_);
}

HostAddr CodeCache::reserve(std::size_t bytes, bool aligned) {
  const HostAddr start = align_up(next_, aligned ? 64 : 16);
  if (start + bytes > start_of(current_) + part_) return 0;
  return start;
}

unsigned CodeCache::advance() {
  current_ = following();
  if (full_parts_ < kGenerations - 1) ++full_parts_;
  next_ = start_of(current_);
  return current_;
}

int CodeCache::prepare_fork() const {
  const int fd = memfd_create("kiln-code", MFD_CLOEXEC);
  if (fd < 0 || ftruncate(fd, static_cast<off_t>(size_)) != 0) return fd;
  for (unsigned part = 0; part < kGenerations; ++part) {
    const bool filled = part != current_ && (full_parts_ == kGenerations - 1 || part < current_);
    const std::size_t bytes = part == current_ ? next_ - start_of(part) : filled ? part_ : 0;
    std::size_t done = 0;
    while (done < bytes) {
      const std::size_t at = part * part_ + done;
      const ssize_t n = pwrite(fd, writable_ + at, bytes - done, static_cast<off_t>(at));
      if (n <= 0) break;
      done += static_cast<std::size_t>(n);
    }
  }
  return fd;
}

void CodeCache::adopt_fork(int fd) {
  mmap(writable_, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd, 0);
  mmap(reinterpret_cast<void*>(executable_), size_, PROT_READ | PROT_EXEC, MAP_SHARED | MAP_FIXED, fd, 0);
  close(fd);
}

}  // namespace kiln::jit
