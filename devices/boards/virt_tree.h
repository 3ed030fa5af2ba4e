// The virt board's device tree.
#pragma once
#include <string>
#include <vector>

#include "ir/support/bits.h"

namespace kiln::devices {

struct VirtTree {
  unsigned cpus = 1;
  std::string cpu_compatible;  // "arm,cortex-a72"
  std::string psci;            // "hvc", "smc", "none"
  unsigned gic_version = 2;
  u64 ram_bytes = 0;
  bool flash = false, fw_cfg = false, pcie = false;
  std::vector<u8> seed;  // 64 bytes of randomness for the guest: kaslr-seed and rng-seed; or none
};
std::vector<u8> make_virt_tree(const VirtTree& options);

}  // namespace kiln::devices
