#include "linux-user/binfmt.h"

#include <elf.h>

#include <cstdio>
#include <cstdlib>
#include <sstream>

namespace kiln::user {
namespace {

constexpr std::size_t kRuleSize = 20;  // up to e_machine

std::vector<u8> bytes_of(const std::string& hex) {
  std::vector<u8> out;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2)
    out.push_back(static_cast<u8>(std::strtoul(hex.substr(at, 2).c_str(), nullptr, 16)));
  return out;
}

std::string escaped(const std::vector<u8>& bytes) {
  std::string out;
  for (const u8 byte : bytes) {
    char text[8];
    std::snprintf(text, sizeof text, "\\x%02x", byte);
    out += text;
  }
  return out;
}

}  // namespace

BinfmtRule binfmt_rule(const GuestAbi& abi) {
  BinfmtRule rule{std::vector<u8>(kRuleSize, 0), std::vector<u8>(kRuleSize, 0)};
  const auto demand = [&rule](std::size_t at, u8 value, u8 mask = 0xff) {
    rule.magic[at] = value;
    rule.mask[at] = mask;
  };
  for (std::size_t n = 0; n < SELFMAG; ++n) demand(n, static_cast<u8>(ELFMAG[n]));
  demand(EI_CLASS, abi.elf_class);
  demand(EI_DATA, abi.elf_data);
  demand(EI_VERSION, EV_CURRENT);
  // EI_OSABI and what follows are free: GNU programs with indirect functions say ELFOSABI_GNU there.
  const bool big = abi.elf_data == ELFDATA2MSB;
  const auto demand16 = [&](std::size_t at, unsigned value, unsigned mask) {
    demand(at + big, static_cast<u8>(value), static_cast<u8>(mask));
    demand(at + !big, static_cast<u8>(value >> 8), static_cast<u8>(mask >> 8));
  };
  static_assert((ET_EXEC & ~1) == (ET_DYN & ~1));
  demand16(offsetof(Elf64_Ehdr, e_type), ET_EXEC & ~1u, 0xfffe);  // ET_EXEC and ET_DYN
  demand16(offsetof(Elf64_Ehdr, e_machine), abi.elf_machine, 0xffff);
  return rule;
}

bool host_runs(const GuestAbi& abi) {
#if defined __x86_64__
  return abi.elf_machine == EM_X86_64 || abi.elf_machine == EM_386;
#elif defined __aarch64__
  return abi.elf_machine == EM_AARCH64 && abi.elf_data == ELFDATA2LSB;
#endif
}

void list_binfmt() {
  for (const GuestAbi* abi : all_abis()) {
    const BinfmtRule rule = binfmt_rule(*abi);
    std::printf("%s %s %s %s\n", abi->name, host_runs(*abi) ? "native" : "foreign", escaped(rule.magic).c_str(),
                escaped(rule.mask).c_str());
  }
}

std::optional<BinfmtEntry> parse_binfmt_entry(const std::string& name, const std::string& text) {
  BinfmtEntry entry;
  entry.name = name;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t space = std::min(line.find(' '), line.size());
    const std::string key = line.substr(0, space), value = space < line.size() ? line.substr(space + 1) : std::string();
    if (line == "enabled") entry.enabled = true;
    else if (key == "interpreter") entry.interpreter = value;
    else if (key == "flags:") entry.flags = value;
    else if (key == "offset") entry.offset = static_cast<unsigned>(std::strtoul(value.c_str(), nullptr, 10));
    else if (key == "magic") entry.rule.magic = bytes_of(value);
    else if (key == "mask") entry.rule.mask = bytes_of(value);
  }
  if (entry.rule.magic.empty()) return {};
  if (entry.rule.mask.empty()) entry.rule.mask.assign(entry.rule.magic.size(), 0xff);
  if (entry.rule.mask.size() != entry.rule.magic.size()) return {};
  return entry;
}

bool claims(const BinfmtEntry& entry, const BinfmtRule& rule) {
  if (!entry.enabled || entry.offset != 0) return false;
  // A program as the rule wants it; where the rule wants nothing, zero, which is what nearly all programs have there. ET_DYN
  // and ET_EXEC: either is enough.
  for (const u8 type_bit : {u8{0}, u8{1}}) {
    std::vector<u8> head = rule.magic;
    head.resize(std::max(head.size(), entry.rule.magic.size()));
    const std::size_t type_at = head.size() > 17 && rule.mask.size() > 17 && rule.mask[16] == 0xfe ? 16 : 17;
    head[type_at] |= type_bit;
    bool all = true;
    for (std::size_t n = 0; n < entry.rule.magic.size(); ++n)
      all &= ((head[n] ^ entry.rule.magic[n]) & entry.rule.mask[n]) == 0;
    if (all) return true;
  }
  return false;
}

}  // namespace kiln::user
