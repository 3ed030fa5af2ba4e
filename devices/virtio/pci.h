// Virtio over PCI.
#pragma once
#include "devices/pci/function.h"
#include "devices/virtio/device.h"

namespace kiln::devices {

/// Virtual I/O Device 1.2, 4.1, without the legacy interface. BAR 4 holds the common configuration, ISR, device configuration
/// and notifications, a page each; BAR 1 the MSI-X table: one vector a queue and one for the configuration.
class VirtioPci final : public PciFunction, private VirtioInterrupts {
 public:
  explicit VirtioPci(VirtioDevice& device);
  ~VirtioPci() override;

 protected:
  bool own_config_read(unsigned offset, unsigned bytes, u32& value) override;
  void own_config_written(unsigned offset, unsigned bytes) override;
  void was_reset() override;
  void own_state(StateVisitor& visitor) override;

 private:
  class Registers;
  u64 read_register(u64 offset, unsigned bytes);
  void write_register(u64 offset, u64 value, unsigned bytes);
  u32 read_common(u64 offset);
  void write_common(u64 offset, u32 value, unsigned bytes);
  void queue_interrupt(VirtQueue& queue) override;
  void config_interrupt() override;
  void raise(u16 vector, u8 reason);
  /// The access that the PCI configuration capability (4.1.4.9) describes; false if it describes none.
  bool window(u64& offset, unsigned& bytes) const;

  VirtioDevice& device_;
  std::unique_ptr<Registers> registers_;
  unsigned window_ = 0;  // offset of that capability
  u32 device_features_select_ = 0, driver_features_select_ = 0;
  u16 queue_select_ = 0, config_vector_ = 0xffff;
  u8 isr_ = 0;
};

}  // namespace kiln::devices
