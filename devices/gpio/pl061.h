// Arm PrimeCell GPIO (PL061): eight lines.
#pragma once
#include "devices/bus/irq.h"
#include "devices/bus/mmio32.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// Registers: Arm DDI 0190, chapter 3. Lines that are outputs drive nothing here; inputs are set by set_input (a power key).
class Pl061 final : public Mmio32, public Device {
 public:
  explicit Pl061(IrqLine& line) : line_(line) { reset(); }
  void reset() override;
  void state(StateVisitor& visitor) override;
  /// Drives line `index` (0..7) from outside.
  void set_input(unsigned index, bool level);

 protected:
  u32 read32(u64 offset) override;
  void write32(u64 offset, u32 value) override;

 private:
  u8 levels() const { return static_cast<u8>((data_ & direction_) | (inputs_ & ~direction_)); }
  void update();

  IrqLine& line_;
  u8 inputs_ = 0;  // from outside
  u8 data_ = 0, direction_ = 0, is_ = 0, ibe_ = 0, iev_ = 0, ie_ = 0, ris_ = 0, afsel_ = 0;
  u8 seen_ = 0;  // levels at the last look, for edges
};

}  // namespace kiln::devices
