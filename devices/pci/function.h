// One function of a PCI device: configuration space, base address registers, capabilities, interrupts.
#pragma once
#include <array>
#include <memory>
#include <string>

#include "devices/bus/irq.h"
#include "devices/bus/mmio.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// Where a message-signalled interrupt goes: a store that a device makes to an address of the interrupt controller.
class MsiTarget {
 public:
  virtual ~MsiTarget() = default;
  virtual void message(u64 address, u32 data) = 0;
};

/// What a function needs of the bus it sits on.
struct PciSlot {
  MemoryBus& bus;
  MsiTarget& msi;
  IrqLine& intx;                  // its INTA#
  u64 window_base, window_bytes;  // memory that the bus routes; BARs elsewhere answer nothing
};

/// PCI Local Bus Specification 3.0, chapter 6, type 0 header; MSI-X as in 6.8.2.
class PciFunction : public Device {
 public:
  static constexpr unsigned kConfigBytes = 256;
  PciFunction(u16 vendor, u16 device, u32 class_code, u8 revision);
  ~PciFunction() override;

  /// Given once, before anything else happens.
  void insert(const PciSlot& slot, std::string name);
  u32 read_config(unsigned offset, unsigned bytes);
  void write_config(unsigned offset, u32 value, unsigned bytes);
  void reset() final;
  void state(StateVisitor& visitor) final;

 protected:
  // For the derived class's constructor.
  void set_subsystem(u16 vendor, u16 device);
  void use_interrupt_pin();
  /// A memory BAR; `bits64` takes two registers. Its registers are `device`'s.
  void add_bar(unsigned index, u64 bytes, bool bits64, MmioDevice& device);
  /// A capability of `bytes` with its two-byte header; its offset. Bytes are written with set(), and may be made writable.
  unsigned add_capability(u8 id, unsigned bytes);
  void set(unsigned offset, u64 value, unsigned bytes);
  u64 get(unsigned offset, unsigned bytes) const;
  void make_writable(unsigned offset, u64 mask, unsigned bytes);
  /// MSI-X with `vectors` entries, its table in the BAR `index` of its own.
  void add_msix(unsigned index, unsigned vectors);

  // While running.
  bool msix_enabled() const { return msix_ != 0 && (config_[msix_ + 3] & 0x80) != 0; }
  /// Sends vector `index` if MSI-X is enabled, or remembers it while it is masked.
  void send_vector(unsigned index);
  void set_intx(bool level);
  /// Configuration accesses that are the derived class's own (a capability with a window). True: answered.
  virtual bool own_config_read(unsigned offset, unsigned bytes, u32& value) { return false; }
  virtual void own_config_written(unsigned offset, unsigned bytes) {}
  virtual void was_reset() {}
  virtual void own_state(StateVisitor& visitor) {}

 private:
  struct Bar {
    u64 bytes = 0;
    bool bits64 = false;
    MmioDevice* device = nullptr;
    Mapping mapping = Mapping::None;
    bool shown = false;
    u64 address = 0;
  };
  struct Vector {
    u64 address = 0;
    u32 data = 0;
    bool masked = true, pending = false;
  };
  class MsixTable;

  void update_bars();
  void update_intx();
  void flush_vectors();

  std::array<u8, kConfigBytes> config_{}, initial_{}, writable_{};
  std::array<Bar, 6> bars_{};
  unsigned last_capability_ = 0, capability_end_ = 0x40;
  unsigned msix_ = 0;
  std::vector<Vector> vectors_;
  std::unique_ptr<MsixTable> msix_table_;
  bool intx_ = false;
  std::unique_ptr<PciSlot> slot_;
};

}  // namespace kiln::devices
