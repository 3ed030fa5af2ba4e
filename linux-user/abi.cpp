#include "linux-user/abi.h"

#include <string_view>

namespace kiln::user {

extern const GuestAbi kAbiAarch64;
extern const GuestAbi kAbiX86_64;
extern const GuestAbi kAbiI386;

namespace {
constexpr const GuestAbi* kAbis[] = {
    &kAbiAarch64,
    &kAbiX86_64,
    &kAbiI386,
};
}  // namespace

const GuestAbi* find_abi(u16 elf_machine, u8 elf_class, u8 elf_data) {
  for (const GuestAbi* abi : kAbis)
    if (abi->elf_machine == elf_machine && abi->elf_class == elf_class && abi->elf_data == elf_data) return abi;
  return nullptr;
}

const GuestAbi* find_abi(const char* name) {
  for (const GuestAbi* abi : kAbis)
    if (std::string_view(abi->name) == name) return abi;
  return nullptr;
}

std::span<const GuestAbi* const> all_abis() { return kAbis; }

}  // namespace kiln::user
