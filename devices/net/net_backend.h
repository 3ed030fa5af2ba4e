// The network behind a network card.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "ir/support/bits.h"

namespace kiln::devices {

/// Carries Ethernet frames without checksum (no FCS). All calls and callbacks with the machine lock held; callbacks on the I/O
/// thread.
class NetBackend {
 public:
  struct Callbacks {
    /// May a frame be delivered now? While not, frames wait in the back-end or are lost, as on a network.
    std::function<bool()> ready;
    std::function<void(std::span<const u8> frame)> receive;
  };
  virtual ~NetBackend() = default;
  virtual void attach(Callbacks callbacks) = 0;
  /// From the guest.
  virtual void send(std::span<const u8> frame) = 0;
  /// The device can receive again.
  virtual void ready_changed() = 0;
  virtual std::string describe() const = 0;
};

}  // namespace kiln::devices
