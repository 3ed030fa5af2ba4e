// Generic Interrupt Controller, version 2, as a GIC-400 without the virtualization and security extensions.
#pragma once
#include <memory>

#include "devices/bus/mmio.h"
#include "devices/intc/gic_bank.h"

namespace kiln::devices {

/// Arm IHI 0048B: distributor (4.3) and CPU interfaces (4.4), which are two ranges of registers; each processor sees its own
/// interface and its own interrupts 0..31. Groups 0 and 1 exist (group 0 as FIQ with GICC_CTLR.FIQEn), nothing is secure.
class Gicv2 final : public Device {
 public:
  struct CpuOutputs {
    IrqLine& irq;
    IrqLine& fiq;
  };
  /// One to eight processors; `spis` a multiple of 32, at most 960.
  Gicv2(const MemoryBus& bus, std::vector<CpuOutputs> cpus, unsigned spis);
  ~Gicv2() override;

  /// 4 KiB and 8 KiB of registers.
  MmioDevice& distributor();
  MmioDevice& cpu_interface();
  /// Shared interrupt `index` (ID 32 + index); private one (ID 16 + index) of a processor.
  IrqLine& spi(unsigned index);
  IrqLine& ppi(unsigned cpu, unsigned index);
  unsigned spis() const { return static_cast<unsigned>(32 * shared_.size()); }

  void reset() override;
  void state(StateVisitor& visitor) override;

 private:
  struct Cpu;
  class Distributor;
  class CpuInterface;
  class Line;

  GicBank& bank(unsigned cpu, unsigned number);
  u32 distributor_read(u64 offset, unsigned cpu);
  u8 distributor_read_byte(u64 offset, unsigned cpu);
  void distributor_write(u64 offset, u32 value, unsigned cpu);
  void distributor_write_byte(u64 offset, u8 value, unsigned cpu);
  void send_sgi(u32 value, unsigned cpu);
  void set_sgi(unsigned cpu, unsigned id, u8 sources);
  void set_targets(unsigned spi, u8 targets);

  u32 interface_read(u64 offset, unsigned cpu);
  void interface_write(u64 offset, u32 value, unsigned cpu);
  GicCandidate best(unsigned cpu) const;
  u8 running(const Cpu& cpu) const;
  u8 group_priority(const Cpu& cpu, const GicCandidate& candidate) const;
  u32 highest_pending(unsigned cpu, bool alias) const;
  u32 acknowledge(unsigned cpu, bool alias);
  void end_of_interrupt(unsigned cpu, u32 value, bool alias);
  void deactivate(unsigned cpu, u32 id);
  void set_line(unsigned cpu, unsigned id, bool level);
  void update();

  const MemoryBus& bus_;
  std::vector<std::unique_ptr<Cpu>> cpus_;
  std::vector<GicBank> shared_;
  std::vector<u8> targets_;                     // a byte a shared interrupt
  std::vector<std::vector<u32>> target_masks_;  // the same by processor and bank
  u32 control_ = 0;
  std::unique_ptr<Distributor> distributor_;
  std::unique_ptr<CpuInterface> interface_;
  std::vector<std::unique_ptr<Line>> lines_;
};

}  // namespace kiln::devices
