// Guest memory as devices reach it.
#pragma once
#include "ir/support/bits.h"

namespace kiln::devices {

/// A bus master's way to memory; softmmu implements it and takes care of dirty pages and translated code. It reaches RAM, and
/// ROM for reading: never registers, so that no device can be entered twice through its own DMA. Everything is little-endian
/// and may be called with the machine lock held only, except that memory found by map() may be used by any thread until it is
/// unmapped.
class DmaPort {
 public:
  virtual ~DmaPort() = default;

  /// Any length and alignment. False: nothing answers at some byte; then `to` is undefined, and what write() did before that
  /// byte is done.
  virtual bool read(u64 physical, void* to, u64 bytes) = 0;
  virtual bool write(u64 physical, const void* from, u64 bytes) = 0;

  /// One access of 1, 2, 4 or 8 bytes, naturally aligned (false if it is not), that no vCPU sees torn. load acquires, store
  /// releases: what a guest wrote before an index is seen after load() of the index, what was written before store() is seen
  /// after it.
  virtual bool load(u64 physical, unsigned bytes, u64& value) = 0;
  virtual bool store(u64 physical, unsigned bytes, u64 value) = 0;

  enum class Direction : u8 { FromMemory, ToMemory };
  /// Host memory of the range, of which `bytes` is set to how much is contiguous from `physical` on (at least one). nullptr: no
  /// RAM there. The memory stays where it is until unmap(), whatever the guest maps meanwhile. Several may be held.
  virtual u8* map(u64 physical, u64& bytes, Direction direction) = 0;
  /// Ends a map(); `written`: how many bytes from its start the device changed (0 for FromMemory).
  virtual void unmap(u8* host, u64 physical, u64 bytes, Direction direction, u64 written) = 0;

  // Helpers on top.
  template <class T>
  bool read_object(u64 physical, T& value) {
    return read(physical, &value, sizeof value);
  }
  template <class T>
  bool write_object(u64 physical, const T& value) {
    return write(physical, &value, sizeof value);
  }
};

}  // namespace kiln::devices
