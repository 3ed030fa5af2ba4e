// The image file of a flash bank.
#pragma once
#include "devices/flash/pflash.h"
#include "ir/support/result.h"

namespace kiln::devices {

struct FlashFile {
  std::vector<u8> content;
  Pflash::Save save;  // empty if nothing is written back
};
/// Reads an image of at most `bank_bytes`. Not `read_only`: changes go to the file at once, which grows as needed.
Result<FlashFile> open_flash_file(const std::string& name, bool read_only, u64 bank_bytes);

}  // namespace kiln::devices
