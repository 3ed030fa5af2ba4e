// Code memory: shared memory mapped twice, writable here and executable there, cut into generations that are reused in turn.
#pragma once
#include <cstddef>

#include "ir/support/bits.h"

namespace kiln::jit {

class CodeCache {
 public:
  /// `bytes` in all, in kGenerations equal parts.
  explicit CodeCache(std::size_t bytes);
  ~CodeCache();
  CodeCache(const CodeCache&) = delete;
  CodeCache& operator=(const CodeCache&) = delete;

  static constexpr unsigned kGenerations = 8;

  bool valid() const { return writable_ != nullptr; }
  bool contains(HostAddr address) const { return address - executable_ < size_; }
  u8* writable(HostAddr executable) const { return writable_ + (executable - executable_); }
  unsigned generation_of(HostAddr address) const { return static_cast<unsigned>((address - executable_) / part_); }
  unsigned current() const { return current_; }

  /// Room for `bytes` at the current position (64-byte aligned if `aligned`), or 0 when the generation is full.
  HostAddr reserve(std::size_t bytes, bool aligned = false);
  /// Takes `bytes` from the last reserve().
  void commit(HostAddr start, std::size_t bytes) { next_ = start + bytes; }
  /// Moves on to the next generation, whose contents the caller has dropped (world stopped).
  unsigned advance();
  unsigned following() const { return (current_ + 1) % kGenerations; }
  std::size_t used() const { return full_parts_ * part_ + (next_ - start_of(current_)); }

  /// fork(): the two mappings are shared memory, so a child needs its own copy. prepare_fork() makes one while the caller keeps
  /// the cache still; adopt_fork() in the child puts it in place; release_fork() in the parent lets go of it.
  void* prepare_fork() const;
  bool adopt_fork(void* copy);
  void release_fork(void* copy) const;

 private:
  HostAddr start_of(unsigned generation) const { return executable_ + generation * part_; }

  static constexpr std::size_t kPopulate = 64 << 10;

  u8* writable_ = nullptr;
  HostAddr executable_ = 0;
  std::size_t size_ = 0, part_ = 0;
  unsigned current_ = 0;
  unsigned full_parts_ = 0;
  HostAddr next_ = 0;
  std::size_t populated_ = 0;  // bytes from the start
};

}  // namespace kiln::jit
