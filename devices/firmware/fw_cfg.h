// The configuration device that QEMU's firmware reads ("fw_cfg"), memory-mapped, with DMA.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "devices/bus/dma.h"
#include "devices/bus/mmio.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// QEMU, docs/specs/fw_cfg: data at 0, selector at 8, DMA address at 16; numbers are big-endian.
class FwCfg final : public MmioDevice, public Device {
 public:
  static constexpr u64 kBytes = 0x18;
  /// Well-known items.
  enum Key : u16 {
    kSignature = 0x00,
    kId = 0x01,
    kCpus = 0x05,
    kKernelSize = 0x08,
    kInitrdSize = 0x0b,
    kKernelData = 0x11,
    kInitrdData = 0x12,
    kCommandLineSize = 0x14,
    kCommandLineData = 0x15,
    kFileDirectory = 0x19,
    kFirstFile = 0x20,
  };
  explicit FwCfg(DmaPort& dma);
  void add(u16 key, std::vector<u8> value) { items_[key] = std::move(value); }
  void add_number(u16 key, u64 value, unsigned bytes);  // little-endian, as the items are
  /// A named file, at most 55 characters of name.
  void add_file(const std::string& name, std::vector<u8> value);

  u64 read(u64 offset, unsigned bytes) override;
  void write(u64 offset, u64 value, unsigned bytes) override;
  void reset() override;
  void state(StateVisitor& visitor) override;

 private:
  u8 next_byte();
  void select(u16 key);
  void run_dma();
  bool transfer(u32 control, u32 length, u64 address);

  DmaPort& dma_;
  std::map<u16, std::vector<u8>> items_;
  std::map<std::string, u16> files_;
  u16 selected_ = 0;
  u32 offset_ = 0;
  u64 dma_address_ = 0;
};

}  // namespace kiln::devices
