// vFile packets (gdb manual, "Host I/O Packets"): gdb reads the guest's program, libraries and /proc files. Reading only.
#pragma once
#include <set>
#include <string>
#include <string_view>

#include "jit/debugger/target.h"

namespace kiln::debugger {

class HostFiles {
 public:
  explicit HostFiles(Target& target) : target_(target) {}
  ~HostFiles();
  HostFiles(const HostFiles&) = delete;
  HostFiles& operator=(const HostFiles&) = delete;
  /// `command` is what follows "vFile:". Empty: not known.
  std::string command(std::string_view command);

 private:
  Target& target_;
  std::set<int> open_;
};

}  // namespace kiln::debugger
