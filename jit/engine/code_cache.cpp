#include "jit/engine/code_cache.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>

namespace kiln::jit {

CodeCache::CodeCache(std::size_t bytes) {
  size_ = align_up(bytes, std::size_t{kGenerations} << 16);
  part_ = size_ / kGenerations;
  // Shared anonymous memory mapped a second time by mremap() of length 0. (A memfd would do, but perf reads /tmp/perf-PID.map only
  // for what /proc/PID/maps shows as anonymous or as /dev/zero.)
  void* rw = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (rw == MAP_FAILED) return;
  // Executable in the low 2 GiB, where a non-PIE Kiln's own text is: jumps to it then reach by rel32.
  void* low = mmap(nullptr, size_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_32BIT, -1, 0);
  void* rx = low != MAP_FAILED ? mremap(rw, 0, size_, MREMAP_MAYMOVE | MREMAP_FIXED, low) : mremap(rw, 0, size_, MREMAP_MAYMOVE);
  if (rx == MAP_FAILED || mprotect(rx, size_, PROT_READ | PROT_EXEC) != 0) return;
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
  // Ahead of use, many pages at once: a fault for each of them (and one more in the other mapping) was a tenth of a short program's time.
  // Where the kernel does not know this advice, they come by faults.
  const std::size_t used = start + bytes - executable_;
  if (used > populated_) {
    const std::size_t ahead = std::min(align_up(used, kPopulate), size_) - populated_;
    madvise(writable_ + populated_, ahead, MADV_POPULATE_WRITE);
    madvise(reinterpret_cast<u8*>(executable_) + populated_, ahead, MADV_POPULATE_READ);
    populated_ += ahead;
  }
  return start;
}

unsigned CodeCache::advance() {
  current_ = following();
  if (full_parts_ < kGenerations - 1) ++full_parts_;
  next_ = start_of(current_);
  return current_;
}

void* CodeCache::prepare_fork() const {
  void* copy = mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (copy == MAP_FAILED) return nullptr;
  for (unsigned part = 0; part < kGenerations; ++part) {
    const bool filled = part != current_ && (full_parts_ == kGenerations - 1 || part < current_);
    const std::size_t bytes = part == current_ ? next_ - start_of(part) : filled ? part_ : 0;
    std::memcpy(static_cast<u8*>(copy) + part * part_, writable_ + part * part_, bytes);
  }
  return copy;
}

bool CodeCache::adopt_fork(void* copy) {
  void* const rx = reinterpret_cast<void*>(executable_);
  return copy != nullptr && mremap(copy, size_, size_, MREMAP_MAYMOVE | MREMAP_FIXED, writable_) == writable_ &&
         mremap(writable_, 0, size_, MREMAP_MAYMOVE | MREMAP_FIXED, rx) == rx && mprotect(rx, size_, PROT_READ | PROT_EXEC) == 0;
}

void CodeCache::release_fork(void* copy) const {
  if (copy != nullptr) munmap(copy, size_);
}

}  // namespace kiln::jit
