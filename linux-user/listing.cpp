#include "linux-user/listing.h"

#include <cstdio>

#include "frontends/arm/a64_decode.h"
#include "frontends/x86/insn.h"

namespace kiln::user {

namespace {
constexpr const char* kFeatureNames[] = {
    "",  // rows without `needs=`
#define FEATURE(name, ...) #name,
#include "frontends/x86/features.def"
#undef FEATURE
};
}  // namespace

bool list_instructions(const std::string& guest) {
  if (guest == "x86" || guest == "x86_64" || guest == "i386") {
    for (const x86::Row& row : x86::instruction_rows())
      std::printf("%-16s %-52s %s\n", row.name, row.text, kFeatureNames[row.feature]);
    return true;
  }
  if (guest != "aarch64") return false;
  for (const arm::InsnRow& row : arm::insn_rows())
    std::printf("%-24s mask %08x value %08x  %s\n", row.name, row.mask, row.value, row.table);
  return true;
}

}  // namespace kiln::user
