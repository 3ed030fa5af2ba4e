// GICv2m: message-signalled interrupts as shared interrupts.
#pragma once
#include <functional>

#include "devices/bus/irq.h"
#include "devices/bus/mmio32.h"

namespace kiln::devices {

/// Arm Server Base System Architecture, appendix E: a store of an interrupt's number to MSI_SETSPI raises its edge. Nothing to
/// save.
class Gicv2m final : public Mmio32 {
 public:
  static constexpr u64 kSetSpi = 0x040;
  /// `line(n)`: shared interrupt n (ID 32 + n). Serves `count` of them from `first` on.
  Gicv2m(unsigned first, unsigned count, std::function<IrqLine&(unsigned)> line)
      : first_(first), count_(count), line_(std::move(line)) {}
  void raise(u32 id) {
    if (id < 32 + first_ || id >= 32 + first_ + count_) return;
    IrqLine& line = line_(id - 32);
    line.set(true);
    line.set(false);
  }

 protected:
  u32 read32(u64 offset) override {
    if (offset == 0x008) return (32 + first_) << 16 | count_;  // MSI_TYPER
    return offset == 0xfcc ? 0x0000043b : 0;                   // MSI_IIDR
  }
  void write32(u64 offset, u32 value) override {
    if (offset == kSetSpi) raise(value & 0x3ff);
  }

 private:
  unsigned first_, count_;
  std::function<IrqLine&(unsigned)> line_;
};

}  // namespace kiln::devices
