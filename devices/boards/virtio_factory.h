// `-device virtio-…`: from the user's words to a device.
#pragma once
#include "devices/boards/board.h"
#include "devices/virtio/device.h"

namespace kiln::devices {

/// Makes virtio devices for one board: it numbers their default addresses.
class VirtioFactory {
 public:
  VirtioFactory(const BoardServices& services, const BackEnds& back_ends) : services_(services), back_ends_(back_ends) {}

  /// "virtio-blk-device" → kind "virtio-blk", transport "device"; "virtio-rng-pci" → "virtio-rng", "pci"; without a suffix the
  /// transport is "".
  struct Model {
    std::string kind, transport;
  };
  static Model split(const std::string& model);
  static bool knows(const std::string& kind);
  /// The device, or one line that says what is wrong with the option.
  Result<std::unique_ptr<VirtioDevice>> make(const DeviceOption& option);

 private:
  Result<std::unique_ptr<VirtioDevice>> make_kind(const DeviceOption& option);
  const BoardServices& services_;
  const BackEnds& back_ends_;
  unsigned next_mac_ = 0x56;
};

}  // namespace kiln::devices
