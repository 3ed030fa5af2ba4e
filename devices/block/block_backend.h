// A disk image as a device sees it: asynchronous, in bytes.
#pragma once
#include <functional>
#include <mutex>
#include <string>
#include <vector>

#include "ir/support/bits.h"

namespace kiln::devices {

/// One piece of host memory of a transfer (guest memory held by DmaPort::map, or the device's own).
struct BlockPiece {
  u8* host = nullptr;
  u64 bytes = 0;
};

/// All calls with the machine lock held; `done` is called from the I/O thread with the lock held, never from inside the call.
/// The memory of the pieces must stay until then. Requests may complete in any order. Ranges outside [0, bytes()) fail with
/// EIO.
class BlockBackend {
 public:
  /// 0 or an errno. A failed write has written some or nothing; the device tells its guest.
  using Done = std::function<void(int error)>;
  virtual ~BlockBackend() = default;
  virtual u64 bytes() const = 0;
  virtual bool read_only() const = 0;
  virtual void read(u64 offset, std::vector<BlockPiece> pieces, Done done) = 0;
  /// `fua`: on stable storage before it is done.
  virtual void write(u64 offset, std::vector<BlockPiece> pieces, bool fua, Done done) = 0;
  /// Every write that was done before is on stable storage when this is done.
  virtual void flush(Done done) = 0;
  /// Afterwards the range reads as zeroes; `unmap`: it need not take room.
  virtual void write_zeroes(u64 offset, u64 bytes, bool unmap, Done done) = 0;
  /// The range's content is not needed any more; it may read as anything it held, or as zeroes.
  virtual void discard(u64 offset, u64 bytes, Done done) = 0;
  /// Waits (for reset, stop, save and exit) until every request is done and its callback has run. The caller holds the lock by
  /// `lock`.
  virtual void drain(std::unique_lock<std::mutex>& lock) = 0;
  /// For the monitor: file name, format, "read-only", "snapshot".
  virtual std::string describe() const = 0;
};

}  // namespace kiln::devices
