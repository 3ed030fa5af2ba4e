// Arm PrimeCell UART (PL011), r1p1: sixteen-deep FIFOs.
#pragma once

#include "devices/bus/clock.h"
#include "devices/bus/irq.h"
#include "devices/bus/mmio32.h"
#include "devices/bus/state.h"
#include "devices/char/char_backend.h"

namespace kiln::devices {

/// Registers: Arm DDI 0183, chapter 3 "Programmer's model". What is sent leaves at once, so the transmit FIFO is always empty;
/// what arrives is taken at the rate at which the guest reads. The receive time-out takes 32 bit times of the programmed rate.
class Pl011 final : public Mmio32, public Device {
 public:
  /// `line`: UARTINTR. `backend` may be null: nothing is connected. `clock_hz`: UARTCLK.
  Pl011(IrqLine& line, Clock& clock, CharBackend* backend, u32 clock_hz = 24'000'000);
  ~Pl011() override;
  void reset() override;
  void state(StateVisitor& visitor) override;
  /// What firmware does before it starts a kernel: 8 bits, FIFOs on, enabled.
  void set_up_as_firmware();

 protected:
  u32 read32(u64 offset) override;
  void write32(u64 offset, u32 value) override;

 private:
  unsigned depth() const;
  unsigned receive_trigger() const;
  u64 room() const;
  void receive(u16 character);
  u32 take();
  u32 flags() const;
  u64 receive_timeout_ns() const;
  void update();

  IrqLine& line_;
  Clock& clock_;
  CharBackend* backend_;
  u32 clock_hz_;
  std::unique_ptr<Timer> timeout_;

  std::array<u16, 16> fifo_{};  // bits 11:8 are the error flags of DR
  u8 head_ = 0, count_ = 0;
  u32 receive_status_ = 0, ilpr_ = 0, ibrd_ = 0, fbrd_ = 0, lcr_h_ = 0, cr_ = 0, ifls_ = 0, imsc_ = 0, ris_ = 0, dmacr_ = 0;
};

}  // namespace kiln::devices
