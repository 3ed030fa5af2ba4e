// virtio-rng.
#pragma once
#include <functional>
#include <span>

#include "devices/virtio/device.h"

namespace kiln::devices {

/// Virtual I/O Device 1.2, 5.4.
class VirtioRng final : public VirtioDevice {
 public:
  using Source = std::function<void(std::span<u8>)>;
  /// `source` fills memory with random bytes, at once.
  VirtioRng(DmaPort& dma, Source source) : VirtioDevice(dma, 4, {8}), source_(std::move(source)) {}

 protected:
  u64 own_features() const override { return 0; }
  std::vector<u8> config() const override { return {}; }
  void notified(u32 index) override;

 private:
  Source source_;
};

/// Random bytes of the host.
void host_random(std::span<u8> bytes);

}  // namespace kiln::devices
