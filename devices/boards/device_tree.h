// Device trees (Devicetree Specification 0.4), written front to back through libfdt.
#pragma once
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "ir/support/bits.h"
#include "ir/support/result.h"

namespace kiln::devices {

/// Nodes in the order in which they are begun, which is the order in which guests find devices.
class DeviceTree {
 public:
  DeviceTree();
  void begin(const std::string& node);
  void end();
  void property(const char* name);  // without a value
  void text(const char* name, std::initializer_list<std::string_view> strings);
  void cells(const char* name, const std::vector<u32>& cells);
  void bytes(const char* name, const std::vector<u8>& bytes);
  /// (address, size) pairs of two cells each.
  void reg(const char* name, std::initializer_list<std::pair<u64, u64>> ranges);
  /// The blob. Nothing may follow.
  std::vector<u8> finish();

 private:
  std::vector<u8> blob_;
};

/// What a loader puts into /chosen, and into /memory if it has no reg.
struct ChosenNode {
  std::string bootargs;  // "": as the tree has it
  u64 initrd_start = 0, initrd_end = 0;
  u64 memory_base = 0, memory_bytes = 0;
};
/// The tree with these additions. An error if it is no device tree.
Result<std::vector<u8>> with_chosen(const std::vector<u8>& tree, const ChosenNode& chosen);

}  // namespace kiln::devices
