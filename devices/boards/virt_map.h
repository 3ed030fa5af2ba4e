// Where things are on the virt board.
#pragma once
#include "ir/support/bits.h"

namespace kiln::devices::virt_map {

struct Range {
  u64 base, size;
};
constexpr Range kFlash0{0x00000000, 0x04000000}, kFlash1{0x04000000, 0x04000000};
constexpr Range kGicDistributor{0x08000000, 0x10000}, kGicCpu{0x08010000, 0x10000}, kGicV2m{0x08020000, 0x1000};
constexpr Range kGicRedistributors{0x080a0000, 0xf60000};
constexpr Range kUart{0x09000000, 0x1000}, kRtc{0x09010000, 0x1000}, kFwCfg{0x09020000, 0x18}, kGpio{0x09030000, 0x1000};
constexpr Range kVirtio{0x0a000000, 0x200};  // the first of kVirtioSlots
constexpr Range kPcieMmio{0x10000000, 0x2eff0000}, kPciePio{0x3eff0000, 0x10000}, kPcieEcam{0x3f000000, 0x1000000};
constexpr u64 kRamBase = 0x40000000;
constexpr u64 kLargestRam = u64{255} << 30;
constexpr unsigned kVirtioSlots = 32;

// Shared interrupts (SPI numbers) and private ones (PPI numbers).
constexpr unsigned kSpis = 256;
constexpr unsigned kUartSpi = 1, kRtcSpi = 2, kPcieSpi = 3, kGpioSpi = 7, kVirtioSpi = 16, kV2mSpi = 48, kV2mSpis = 64;
constexpr unsigned kTimerSecurePpi = 13, kTimerPhysicalPpi = 14, kTimerVirtualPpi = 11, kTimerHypervisorPpi = 10, kPmuPpi = 7;

}  // namespace kiln::devices::virt_map
