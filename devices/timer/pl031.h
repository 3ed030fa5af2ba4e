// Arm PrimeCell real-time clock (PL031).
#pragma once
#include "devices/bus/clock.h"
#include "devices/bus/irq.h"
#include "devices/bus/mmio32.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// Registers: Arm DDI 0224, chapter 3. Counts seconds of the machine's clock from its date at power-on; RTCCR is always on.
class Pl031 final : public Mmio32, public Device {
 public:
  Pl031(IrqLine& line, Clock& clock);
  /// The battery keeps the date: only the interrupt and the match are reset.
  void reset() override;
  void state(StateVisitor& visitor) override;

 protected:
  u32 read32(u64 offset) override;
  void write32(u64 offset, u32 value) override;

 private:
  u32 now() const;
  void arm();
  void update();

  IrqLine& line_;
  Clock& clock_;
  std::unique_ptr<Timer> alarm_;
  u32 offset_ = 0;  // RTCDR = seconds of the machine's clock + offset
  u32 load_ = 0, match_ = 0, imsc_ = 0, ris_ = 0;
};

}  // namespace kiln::devices
