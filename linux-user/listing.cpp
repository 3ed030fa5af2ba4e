#include "linux-user/listing.h"

#include <cstdio>

#include "frontends/arm/a64_decode.h"

namespace kiln::user {

bool list_instructions(const std::string& guest) {
  if (guest != "aarch64") return false;
  for (const arm::InsnRow& row : arm::insn_rows())
    std::printf("%-24s mask %08x value %08x  %s\n", row.name, row.mask, row.value, row.table);
  return true;
}

}  // namespace kiln::user
