// What the kernel's binfmt_misc must know to hand a guest's programs to Kiln: made from the guests' ABI tables, printed for
// scripts/binfmt, compared with what is registered by `kiln doctor`.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "linux-user/abi.h"

namespace kiln::user {

/// A file is the guest's if its first bytes, masked, are `magic`.
struct BinfmtRule {
  std::vector<u8> magic, mask;
};
BinfmtRule binfmt_rule(const GuestAbi& abi);

/// The host runs this guest's programs by itself: a rule for them would take them (and with x86-64 Kiln itself) away from it.
bool host_runs(const GuestAbi& abi);

/// --list-binfmt: a line per guest, "NAME foreign|native MAGIC MASK", bytes as \xNN.
void list_binfmt();

/// An entry of /proc/sys/fs/binfmt_misc.
struct BinfmtEntry {
  std::string name, interpreter, flags;
  bool enabled = false;
  unsigned offset = 0;
  BinfmtRule rule;
};
/// Parses what reading the entry's file gives; none if it is no entry for a magic number.
std::optional<BinfmtEntry> parse_binfmt_entry(const std::string& name, const std::string& text);
/// The entry takes the programs that `rule` describes.
bool claims(const BinfmtEntry& entry, const BinfmtRule& rule);

}  // namespace kiln::user
