// A PCI Express host bridge with one root bus, reached through ECAM.
#pragma once
#include "devices/pci/function.h"

namespace kiln::devices {

/// PCI Express Base Specification 4.0, 7.2.2 (ECAM): bus, device, function and register are address bits 27:20, 19:15, 14:12,
/// 11:0. Bus 0 holds the bridge at device 0 and functions at 1..31; everything else reads as ones.
class PcieHost final : public MmioDevice, public Device {
 public:
  static constexpr unsigned kSlots = 32;
  /// `intx`: the four lines that INTA#..INTD# of device 0 lead to; those of device n are turned by n.
  PcieHost(MemoryBus& bus, MsiTarget& msi, std::array<IrqLine*, 4> intx, u64 window_base, u64 window_bytes);
  ~PcieHost() override;

  /// Puts a function (owned by the caller) into slot `number`, or the first free one if it is 0. Its slot; 0: taken, or none is
  /// free.
  unsigned insert(PciFunction& function, std::string name, unsigned number = 0);
  u64 read(u64 offset, unsigned bytes) override;
  void write(u64 offset, u64 value, unsigned bytes) override;
  void reset() override;
  void state(StateVisitor& visitor) override;

 private:
  class Bridge;
  class SharedLine;
  PciFunction* find(u64 offset) const;

  MemoryBus& bus_;
  MsiTarget& msi_;
  u64 window_base_, window_bytes_;
  std::array<u32, 4> asserted_{};  // for each line, which slots hold it
  std::array<IrqLine*, 4> intx_;
  std::array<PciFunction*, kSlots> slots_{};
  std::array<std::unique_ptr<SharedLine>, kSlots> lines_;
  std::unique_ptr<PciFunction> bridge_;
};

}  // namespace kiln::devices
