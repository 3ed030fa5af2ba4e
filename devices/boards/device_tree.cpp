#include "devices/boards/device_tree.h"

#include <libfdt.h>

namespace kiln::devices {

namespace {
constexpr std::size_t kRoom = 0x20000;

void append_be(std::vector<u8>& to, u64 value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) to.push_back(static_cast<u8>(value >> (8 * i)));
}
}  // namespace

// The room is many times what a board needs; libfdt would refuse what does not fit, and finish() an incomplete tree.
DeviceTree::DeviceTree() : blob_(kRoom) {
  fdt_create(blob_.data(), static_cast<int>(blob_.size()));
  fdt_finish_reservemap(blob_.data());
}

void DeviceTree::begin(const std::string& node) { fdt_begin_node(blob_.data(), node.c_str()); }
void DeviceTree::end() { fdt_end_node(blob_.data()); }
void DeviceTree::property(const char* name) { fdt_property(blob_.data(), name, nullptr, 0); }

void DeviceTree::bytes(const char* name, const std::vector<u8>& bytes) {
  fdt_property(blob_.data(), name, bytes.data(), static_cast<int>(bytes.size()));
}

void DeviceTree::text(const char* name, std::initializer_list<std::string_view> strings) {
  std::vector<u8> value;
  for (const std::string_view string : strings) {
    value.insert(value.end(), string.begin(), string.end());
    value.push_back(0);
  }
  bytes(name, value);
}

void DeviceTree::cells(const char* name, const std::vector<u32>& cells) {
  std::vector<u8> value;
  for (const u32 cell : cells) append_be(value, cell, 4);
  bytes(name, value);
}

void DeviceTree::reg(const char* name, std::initializer_list<std::pair<u64, u64>> ranges) {
  std::vector<u8> value;
  for (const auto& [address, size] : ranges) {
    append_be(value, address, 8);
    append_be(value, size, 8);
  }
  bytes(name, value);
}

std::vector<u8> DeviceTree::finish() {
  if (fdt_finish(blob_.data()) != 0) return {};
  blob_.resize(fdt_totalsize(blob_.data()));
  return std::move(blob_);
}

Result<std::vector<u8>> with_chosen(const std::vector<u8>& tree, const ChosenNode& chosen) {
  if (tree.size() < sizeof(fdt_header) || fdt_check_full(tree.data(), tree.size()) != 0) return Error{"it is no device tree"};
  std::vector<u8> blob(fdt_totalsize(tree.data()) + chosen.bootargs.size() + 4096);
  int failed = fdt_open_into(tree.data(), blob.data(), static_cast<int>(blob.size()));
  const auto node = [&](const char* name) {
    const int found = fdt_subnode_offset(blob.data(), 0, name);
    return found >= 0 ? found : fdt_add_subnode(blob.data(), 0, name);
  };
  const auto check = [&](int result) { failed = failed != 0 ? failed : result; };
  const int memory = fdt_subnode_offset(blob.data(), 0, "memory");  // with or without an address
  if (memory < 0 || fdt_getprop(blob.data(), memory, "reg", nullptr) == nullptr) {
    std::vector<u8> reg;
    const int address_cells = fdt_address_cells(blob.data(), 0), size_cells = fdt_size_cells(blob.data(), 0);
    append_be(reg, chosen.memory_base, address_cells == 1 ? 4 : 8);
    append_be(reg, chosen.memory_bytes, size_cells == 1 ? 4 : 8);
    const int target = memory >= 0 ? memory : node("memory");
    check(fdt_setprop_string(blob.data(), target, "device_type", "memory"));
    check(fdt_setprop(blob.data(), target, "reg", reg.data(), static_cast<int>(reg.size())));
  }
  const int target = node("chosen");
  if (target < 0) return Error{std::string("its /chosen cannot be written: ") + fdt_strerror(target)};
  if (!chosen.bootargs.empty()) check(fdt_setprop_string(blob.data(), target, "bootargs", chosen.bootargs.c_str()));
  if (chosen.initrd_end != 0) {
    check(fdt_setprop_u64(blob.data(), target, "linux,initrd-start", chosen.initrd_start));
    check(fdt_setprop_u64(blob.data(), target, "linux,initrd-end", chosen.initrd_end));
  }
  if (failed != 0) return Error{std::string("it cannot be changed: ") + fdt_strerror(failed)};
  fdt_pack(blob.data());
  blob.resize(fdt_totalsize(blob.data()));
  return blob;
}

}  // namespace kiln::devices
