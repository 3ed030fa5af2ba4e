// Where an image's bytes are, synchronously: workers of a pool call it.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "ir/support/bits.h"
#include "ir/support/result.h"

namespace kiln::devices {

/// Any thread, several at a time. Ranges are inside [0, bytes()). Results are 0 or an errno.
class BlockStore {
 public:
  virtual ~BlockStore() = default;
  virtual u64 bytes() const = 0;
  virtual int read(u64 offset, u8* to, u64 bytes) = 0;
  virtual int write(u64 offset, const u8* from, u64 bytes) = 0;
  /// fdatasync.
  virtual int flush() = 0;
  virtual int write_zeroes(u64 offset, u64 bytes, bool unmap) = 0;
  virtual int discard(u64 offset, u64 bytes) = 0;
};

/// A file. Owns `fd`.
std::unique_ptr<BlockStore> make_file_store(int fd, u64 bytes, bool unmap);
/// What is written goes to an unnamed temporary file in $TMPDIR (or /var/tmp), the rest is read from `base`.
Result<std::unique_ptr<BlockStore>> make_overlay_store(std::unique_ptr<BlockStore> base);

}  // namespace kiln::devices
