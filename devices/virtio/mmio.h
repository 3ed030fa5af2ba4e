// Virtio over memory-mapped registers.
#pragma once
#include "devices/bus/irq.h"
#include "devices/bus/mmio.h"
#include "devices/virtio/device.h"

namespace kiln::devices {

/// Virtual I/O Device 1.2, 4.2: register layout version 2. Without a device the slot is empty: its device type reads as 0.
class VirtioMmio final : public MmioDevice, public Device, private VirtioInterrupts {
 public:
  VirtioMmio(IrqLine& line, VirtioDevice* device);
  u64 read(u64 offset, unsigned bytes) override;
  void write(u64 offset, u64 value, unsigned bytes) override;
  /// Resets the device as well.
  void reset() override;
  void state(StateVisitor& visitor) override;

 private:
  u32 read_register(u64 offset) const;
  void write_register(u64 offset, u32 value);
  void queue_interrupt(VirtQueue& queue) override;
  void config_interrupt() override;
  void update() { line_.set(interrupt_status_ != 0); }

  IrqLine& line_;
  VirtioDevice* device_;
  u32 device_features_select_ = 0, driver_features_select_ = 0, queue_select_ = 0, interrupt_status_ = 0;
};

}  // namespace kiln::devices
