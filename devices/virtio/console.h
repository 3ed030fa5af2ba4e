// virtio-console with one port.
#pragma once
#include "devices/char/char_backend.h"
#include "devices/virtio/device.h"

namespace kiln::devices {

/// Virtual I/O Device 1.2, 5.3: port 0 only, with the emergency write of its configuration.
class VirtioConsole final : public VirtioDevice {
 public:
  /// `backend` may be null.
  VirtioConsole(DmaPort& dma, CharBackend* backend);
  ~VirtioConsole() override;

 protected:
  u64 own_features() const override;
  std::vector<u8> config() const override;
  void config_written(u64 offset, u64 value, unsigned bytes) override;
  void notified(u32 index) override;
  void started() override;

 private:
  u64 room();
  void receive(std::span<const u8> bytes);
  void transmit();
  CharBackend* backend_;
};

}  // namespace kiln::devices
