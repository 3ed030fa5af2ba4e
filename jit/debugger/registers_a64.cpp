// AArch64: org.gnu.gdb.aarch64.core, .fpu and .tls (gdb manual, "AArch64 Features").
#include <cstring>

#include "jit/debugger/registers.h"
#include "frontends/arm/aarch64.h"

namespace kiln::debugger {
namespace {

using arm::A64State;
using ir::CpuState;

const A64State& state(const CpuState* cpu) { return *static_cast<const A64State*>(cpu); }
A64State& state(CpuState* cpu) { return *static_cast<A64State*>(cpu); }

template <class T>
T value(const u8* in) {
  T v;
  std::memcpy(&v, in, sizeof v);
  return v;
}
template <class T>
void put(u8* out, T v) {
  std::memcpy(out, &v, sizeof v);
}

constexpr u32 kNzcv = 0xf0000000;

constexpr char kCpsrFlags[] =
    "<flags id=\"cpsr_flags\" size=\"4\">"
    "<field name=\"SP\" start=\"0\" end=\"0\"/><field name=\"EL\" start=\"2\" end=\"3\" type=\"uint32\"/>"
    "<field name=\"nRW\" start=\"4\" end=\"4\"/><field name=\"F\" start=\"6\" end=\"6\"/><field name=\"I\" start=\"7\" end=\"7\"/>"
    "<field name=\"A\" start=\"8\" end=\"8\"/><field name=\"D\" start=\"9\" end=\"9\"/><field name=\"IL\" start=\"20\" end=\"20\"/>"
    "<field name=\"SS\" start=\"21\" end=\"21\"/><field name=\"V\" start=\"28\" end=\"28\"/><field name=\"C\" start=\"29\" end=\"29\"/>"
    "<field name=\"Z\" start=\"30\" end=\"30\"/><field name=\"N\" start=\"31\" end=\"31\"/></flags>";

/// The views of a vector register: per lane width, floating and unsigned and signed.
std::string vector_types() {
  struct View {
    const char *letter, *floating;
    unsigned bits;
  };
  constexpr View kViews[] = {{"d", "ieee_double", 64}, {"s", "ieee_single", 32}, {"h", "ieee_half", 16}, {"b", nullptr, 8}, {"q", nullptr, 128}};
  std::string vectors, unions, all = "<union id=\"aarch64v\">";
  for (const View& view : kViews) {
    const std::string n = std::to_string(128 / view.bits), bits = std::to_string(view.bits), letter = view.letter;
    std::string fields;
    const auto lane = [&](const char* kind, const std::string& type) {
      const std::string id = "v" + n + letter + kind;
      vectors += "<vector id=\"" + id + "\" type=\"" + type + "\" count=\"" + n + "\"/>";
      fields += std::string("<field name=\"") + kind + "\" type=\"" + id + "\"/>";
    };
    if (view.floating != nullptr) lane("f", view.floating);
    lane("u", "uint" + bits);
    lane("s", "int" + bits);
    unions += "<union id=\"vn" + letter + "\">" + fields + "</union>";
    all += "<field name=\"" + letter + "\" type=\"vn" + letter + "\"/>";
  }
  return vectors + unions + all + "</union>";
}

}  // namespace

RegisterSet a64_registers() {
  RegisterSet set{"aarch64", {}};
  Feature core{"org.gnu.gdb.aarch64.core", kCpsrFlags, {}};
  for (unsigned i = 0; i <= 31; ++i)
    core.registers.push_back({i == 31 ? "sp" : "x" + std::to_string(i), 64, i == 31 ? "data_ptr" : "int", "",
                              [](const CpuState* cpu, unsigned n, u8* out) { put(out, state(cpu).x[n]); },
                              [](CpuState* cpu, unsigned n, const u8* in) {
                                state(cpu).x[n] = value<u64>(in);
                                return true;
                              },
                              i});
  core.registers.push_back({"pc", 64, "code_ptr", "", [](const CpuState* cpu, unsigned, u8* out) { put(out, cpu->pc); },
                            [](CpuState* cpu, unsigned, const u8* in) {
                              cpu->pc = value<u64>(in);
                              return true;
                            }});
  core.registers.push_back({"cpsr", 32, "cpsr_flags", "",
                            [](const CpuState* cpu, unsigned, u8* out) { put(out, arm::nzcv_of(state(cpu)) & kNzcv); },
                            [](CpuState* cpu, unsigned, const u8* in) {
                              arm::set_nzcv(state(cpu), value<u32>(in) & kNzcv);
                              return true;
                            }});
  Feature fpu{"org.gnu.gdb.aarch64.fpu", vector_types(), {}};
  for (unsigned i = 0; i < 32; ++i)
    fpu.registers.push_back({"v" + std::to_string(i), 128, "aarch64v", "",
                             [](const CpuState* cpu, unsigned n, u8* out) { put(out, state(cpu).v[n]); },
                             [](CpuState* cpu, unsigned n, const u8* in) {
                               state(cpu).v[n] = value<V128>(in);
                               return true;
                             },
                             i});
  fpu.registers.push_back({"fpsr", 32, "int", "float", [](const CpuState* cpu, unsigned, u8* out) { put(out, arm::fpsr_of(state(cpu))); },
                           [](CpuState* cpu, unsigned, const u8* in) {
                             arm::set_fpsr(state(cpu), value<u32>(in));
                             return true;
                           }});
  fpu.registers.push_back({"fpcr", 32, "int", "float",
                           [](const CpuState* cpu, unsigned, u8* out) { put(out, static_cast<u32>(state(cpu).fpcr)); },
                           [](CpuState* cpu, unsigned, const u8* in) {
                             arm::set_fpcr(state(cpu), value<u32>(in));
                             return true;
                           }});
  Feature tls{"org.gnu.gdb.aarch64.tls", "", {}};
  tls.registers.push_back({"tpidr", 64, "data_ptr", "system",
                           [](const CpuState* cpu, unsigned, u8* out) { put(out, state(cpu).tpidr_el0); },
                           [](CpuState* cpu, unsigned, const u8* in) {
                             state(cpu).tpidr_el0 = value<u64>(in);
                             return true;
                           }});
  set.features = {std::move(core), std::move(fpu), std::move(tls)};
  return set;
}

}  // namespace kiln::debugger
