// virtio-blk.
#pragma once
#include <list>
#include <string>

#include "devices/block/block_backend.h"
#include "devices/virtio/device.h"

namespace kiln::devices {

/// Virtual I/O Device 1.2, 5.2. Requests run at the same time and complete in any order. Data goes through buffers of ours, a
/// piece at a time, so that memory of a guest that has reset the device is never written, and that no request, however long,
/// takes much memory.
class VirtioBlock final : public VirtioDevice {
 public:
  /// `serial`: what GET_ID answers, cut to 20 bytes.
  VirtioBlock(DmaPort& dma, BlockBackend& disk, std::string serial);

 protected:
  u64 own_features() const override;
  std::vector<u8> config() const override;
  void notified(u32 index) override;
  void was_reset() override;
  void own_state(StateVisitor& visitor) override;

 private:
  static constexpr u64 kPiece = 1 << 20;
  struct Request {
    VirtChain chain;
    bool write = false;
    u64 position = 0;  // on the disk
    u64 done = 0, bytes = 0;
    std::vector<u8> buffer;
  };
  using Handle = std::list<Request>::iterator;

  void begin(VirtChain chain);
  void next_piece(Handle request);
  void erase_ranges(Handle request, bool zeroes);
  void finish(Handle request, u8 status);
  /// Wraps a continuation so that it does nothing but count once the device has been reset.
  BlockBackend::Done when_done(std::function<void(int)> then);
  u64 sectors() const { return disk_.bytes() / 512; }

  BlockBackend& disk_;
  std::string serial_;
  std::list<Request> requests_, forgotten_;  // forgotten: of before a reset
  u64 generation_ = 0;                       // counts resets
  unsigned stale_ = 0;  // of requests of before the reset that the disk still works on; new ones wait for them
  unsigned outstanding_ = 0;
};

}  // namespace kiln::devices
