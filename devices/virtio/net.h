// virtio-net.
#pragma once
#include <array>

#include "devices/net/net_backend.h"
#include "devices/virtio/device.h"

namespace kiln::devices {

/// Virtual I/O Device 1.2, 5.1: one receive and one transmit queue, merged receive buffers, no offloads.
class VirtioNet final : public VirtioDevice {
 public:
  /// `backend` may be null: the link is down.
  VirtioNet(DmaPort& dma, NetBackend* backend, std::array<u8, 6> mac);
  ~VirtioNet() override;

 protected:
  u64 own_features() const override;
  std::vector<u8> config() const override;
  void notified(u32 index) override;
  void started() override;

 private:
  bool ready();
  void receive(std::span<const u8> frame);
  void transmit();

  NetBackend* backend_;
  std::array<u8, 6> mac_;
};

}  // namespace kiln::devices
