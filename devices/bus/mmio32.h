// Devices whose registers are 32-bit words.
#pragma once
#include "devices/bus/mmio.h"

namespace kiln::devices {

/// Turns every access into accesses to aligned words, as a bridge to a 32-bit peripheral bus does: a narrow load takes its
/// lanes of the word, a narrow store has zeroes in the other lanes, eight bytes are two words.
class Mmio32 : public MmioDevice {
 public:
  u64 read(u64 offset, unsigned bytes) final {
    if (bytes == 8) {
      const u64 low = read32(offset);
      return low | static_cast<u64>(read32(offset + 4)) << 32;
    }
    return (read32(offset & ~u64{3}) >> (8 * (offset & 3))) & mask_low(8 * bytes);
  }
  void write(u64 offset, u64 value, unsigned bytes) final {
    if (bytes == 8) {
      write32(offset, static_cast<u32>(value));
      write32(offset + 4, static_cast<u32>(value >> 32));
    } else {
      write32(offset & ~u64{3}, static_cast<u32>((value & mask_low(8 * bytes)) << (8 * (offset & 3))));
    }
  }

 protected:
  virtual u32 read32(u64 offset) = 0;
  virtual void write32(u64 offset, u32 value) = 0;
};

/// The eight identification words at the end of an Arm PrimeCell's 4 KiB: PeriphID0..3 and PCellID0..3, a byte each.
constexpr u32 primecell_id(u32 peripheral, u64 offset) {
  if (offset < 0xff0) return (peripheral >> (8 * ((offset - 0xfe0) / 4))) & 0xff;
  return (0xb105f00du >> (8 * ((offset - 0xff0) / 4))) & 0xff;
}

}  // namespace kiln::devices
