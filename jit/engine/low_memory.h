// Small objects in the low 2 GiB, where generated code names them in four bytes (and the same way in every run).
#pragma once
#include <cstddef>

#include "ir/support/bits.h"

namespace kiln::jit {

/// Room for one object of `size` bytes: in the low 2 GiB while there is any, else anywhere. Any thread. Never null.
void* low_allocate(std::size_t size);
/// `size` as it was asked for.
void low_free(void* object, std::size_t size);

/// A number of four bytes in low memory. Generated code counts in it, so they lie close together: a line of the cache holds sixteen blocks'.
class Counter {
 public:
  Counter();
  ~Counter();
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  u32& operator*() const { return *at_; }
  u32* address() const { return at_; }

 private:
  u32* at_;
};

}  // namespace kiln::jit
