#include "jit/debugger/registers.h"

#include <cstring>

namespace kiln::debugger {

std::vector<const Register*> RegisterSet::all() const {
  std::vector<const Register*> list;
  for (const Feature& feature : features)
    for (const Register& r : feature.registers) list.push_back(&r);
  return list;
}

std::size_t RegisterSet::bytes() const {
  std::size_t sum = 0;
  for (const Feature& feature : features)
    for (const Register& r : feature.registers) sum += r.bits / 8;
  return sum;
}

std::string RegisterSet::xml() const {
  std::string out = "<?xml version=\"1.0\"?><!DOCTYPE target SYSTEM \"gdb-target.dtd\"><target version=\"1.0\"><architecture>";
  out += architecture;
  out += "</architecture><osabi>GNU/Linux</osabi>";
  for (const Feature& feature : features) {
    out += "<feature name=\"" + feature.name + "\">" + feature.types;
    for (const Register& r : feature.registers) {
      out += "<reg name=\"" + r.name + "\" bitsize=\"" + std::to_string(r.bits) + "\"";
      if (!r.type.empty()) out += " type=\"" + r.type + "\"";
      if (!r.group.empty()) out += " group=\"" + r.group + "\"";
      out += "/>";
    }
    out += "</feature>";
  }
  return out + "</target>";
}

const RegisterSet* registers_of(const ir::GuestDesc& guest) {
  static const RegisterSet a64 = a64_registers(), i386 = x86_registers(false), x86_64 = x86_registers(true);
  if (!std::strcmp(guest.name, "aarch64")) return &a64;
  if (!std::strcmp(guest.name, "i386")) return &i386;
  if (!std::strcmp(guest.name, "x86_64") || !std::strcmp(guest.name, "x86-64")) return &x86_64;
  return nullptr;
}

}  // namespace kiln::debugger
