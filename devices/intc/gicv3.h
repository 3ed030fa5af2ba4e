// Generic Interrupt Controller, version 3: affinity routing always on, one security state, no message-signalled LPIs.
#pragma once
#include <memory>

#include "devices/bus/mmio.h"
#include "devices/intc/gic_bank.h"

namespace kiln::devices {

/// Arm IHI 0069: distributor (12.9), redistributors (12.10, 12.11; 128 KiB a processor, one after the other) and the CPU
/// interfaces' system registers (12.2), which the processors reach through cpu_register.
class Gicv3 final : public Device {
 public:
  struct CpuOutputs {
    IrqLine& irq;  // group 1
    IrqLine& fiq;  // group 0
    u64 affinity;  // MPIDR_EL1's fields Aff3..Aff0
  };
  static constexpr u64 kDistributorBytes = 0x10000, kRedistributorBytes = 0x20000;

  /// `spis`: a multiple of 32, at most 960.
  Gicv3(std::vector<CpuOutputs> cpus, unsigned spis);
  ~Gicv3() override;

  MmioDevice& distributor();
  /// All redistributors, kRedistributorBytes each.
  MmioDevice& redistributors();
  /// Shared interrupt `index` (ID 32 + index); private one (ID 16 + index) of a processor.
  IrqLine& spi(unsigned index);
  IrqLine& ppi(unsigned cpu, unsigned index);
  unsigned spis() const { return static_cast<unsigned>(32 * shared_.size()); }

  /// Reads or writes an ICC_* register of processor `cpu`. `number`: bits 14:0 are op0<0>, op1, CRn, CRm, op2 as in an MRS
  /// instruction. False: there is none of that number, or it may not be accessed this way.
  bool cpu_register(unsigned cpu, u32 number, bool write, u64& value);

  void reset() override;
  void state(StateVisitor& visitor) override;

 private:
  struct Cpu;
  class Distributor;
  class Redistributors;
  class Line;

  u32 distributor_read(u64 offset);
  void distributor_write(u64 offset, u32 value);
  u32 redistributor_read(unsigned cpu, u64 offset);
  void redistributor_write(unsigned cpu, u64 offset, u32 value);
  void set_route(unsigned spi, u64 route);
  bool read_register(Cpu& cpu, u32 number, u64& value);
  bool write_register(Cpu& cpu, u32 number, u64 value);

  GicCandidate best(const Cpu& cpu) const;
  u8 running(const Cpu& cpu) const;
  u8 group_priority(const Cpu& cpu, const GicCandidate& candidate) const;
  bool signalled(const Cpu& cpu, const GicCandidate& found) const;
  GicBank* bank_of(Cpu& cpu, u32 id);
  u32 acknowledge(Cpu& cpu, bool group1);
  void end_of_interrupt(Cpu& cpu, u32 id, bool group1);
  void deactivate(Cpu& cpu, u32 id);
  void send_sgi(const Cpu& from, u64 value, bool group1);
  void set_line(unsigned cpu, unsigned id, bool level);
  void update();

  std::vector<std::unique_ptr<Cpu>> cpus_;
  std::vector<GicBank> shared_;
  std::vector<u64> routes_;                    // IROUTER of each shared interrupt
  std::vector<std::vector<u32>> route_masks_;  // the same by processor and bank
  u32 control_ = 0;
  std::unique_ptr<Distributor> distributor_;
  std::unique_ptr<Redistributors> redistributors_;
  std::vector<std::unique_ptr<Line>> lines_;
};

}  // namespace kiln::devices
