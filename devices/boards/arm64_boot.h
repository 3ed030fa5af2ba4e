// Loading of arm64 kernels: Linux, Documentation/arch/arm64/booting.rst.
#pragma once
#include <string>
#include <vector>

#include "ir/support/bits.h"
#include "ir/support/result.h"

namespace kiln::devices {

/// The whole of a file. "cannot read NAME: …" if it cannot be had, or is larger than `limit`.
Result<std::vector<u8>> read_whole_file(const std::string& name, u64 limit);

/// A kernel ready to be copied to memory.
struct Arm64Image {
  std::vector<u8> bytes;
  u64 text_offset = 0;   // from a 2 MiB boundary
  u64 memory_bytes = 0;  // with its zero-initialised data, from there
};
/// Takes an Image, one compressed with gzip, or an EFI zboot image of one (gzip). `name` is for messages.
Result<Arm64Image> parse_arm64_image(std::vector<u8> file, const std::string& name);

/// Where everything goes in memory.
struct Arm64Layout {
  u64 kernel = 0, initrd = 0, device_tree = 0;
};
/// Kernel at the start of memory, initrd behind it, the device tree last, each on a 2 MiB boundary. An error if it does not
/// fit.
Result<Arm64Layout> lay_out_arm64(const Arm64Image& image, u64 initrd_bytes, u64 tree_bytes, u64 memory_base, u64 memory_bytes);

}  // namespace kiln::devices
