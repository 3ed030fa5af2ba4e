// Registers as gdb numbers them, and the target description (XML) made of the same list.
#pragma once
#include <span>
#include <string>
#include <vector>

#include "ir/guest_desc.h"

namespace kiln::debugger {

struct Register {
  std::string name;
  unsigned bits;
  std::string type;   // gdb's; empty: int
  std::string group;  // empty: gdb decides
  void (*read)(const ir::CpuState*, unsigned index, u8* out);
  bool (*write)(ir::CpuState*, unsigned index, const u8* in);  // false: cannot be changed to that
  unsigned index = 0;   // passed to read and write
  bool is_syscall = false;  // gdb's orig_rax: the owner knows
};

struct Feature {
  std::string name;
  std::string types;  // XML of the types it defines
  std::vector<Register> registers;
};

struct RegisterSet {
  const char* architecture;  // gdb's
  std::vector<Feature> features;
  std::vector<const Register*> all() const;
  std::size_t bytes() const;
  std::string xml() const;
};

/// Of a guest, by GuestDesc; null: not described yet.
const RegisterSet* registers_of(const ir::GuestDesc& guest);

RegisterSet a64_registers();
RegisterSet x86_registers(bool wide);

}  // namespace kiln::debugger
