// i386 and x86-64: org.gnu.gdb.i386.core, .sse, .avx, .linux and .segments (gdb manual, "i386 Features").
#include <cstring>

#include "jit/debugger/registers.h"
#include "frontends/x86/user_segments.h"
#include "frontends/x86/x86.h"

namespace kiln::debugger {
namespace {

using ir::CpuState;
using x86::X86State;

const X86State& state(const CpuState* cpu) { return *static_cast<const X86State*>(cpu); }
X86State& state(CpuState* cpu) { return *static_cast<X86State*>(cpu); }

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

constexpr char kEflagsType[] =
    "<flags id=\"i386_eflags\" size=\"4\">"
    "<field name=\"CF\" start=\"0\" end=\"0\"/><field name=\"\" start=\"1\" end=\"1\"/><field name=\"PF\" start=\"2\" end=\"2\"/>"
    "<field name=\"AF\" start=\"4\" end=\"4\"/><field name=\"ZF\" start=\"6\" end=\"6\"/><field name=\"SF\" start=\"7\" end=\"7\"/>"
    "<field name=\"TF\" start=\"8\" end=\"8\"/><field name=\"IF\" start=\"9\" end=\"9\"/><field name=\"DF\" start=\"10\" end=\"10\"/>"
    "<field name=\"OF\" start=\"11\" end=\"11\"/><field name=\"NT\" start=\"14\" end=\"14\"/><field name=\"RF\" start=\"16\" end=\"16\"/>"
    "<field name=\"VM\" start=\"17\" end=\"17\"/><field name=\"AC\" start=\"18\" end=\"18\"/><field name=\"ID\" start=\"21\" end=\"21\"/>"
    "</flags>";
constexpr char kVectorTypes[] =
    "<vector id=\"v8bf16\" type=\"bfloat16\" count=\"8\"/><vector id=\"v4f\" type=\"ieee_single\" count=\"4\"/>"
    "<vector id=\"v2d\" type=\"ieee_double\" count=\"2\"/><vector id=\"v16i8\" type=\"int8\" count=\"16\"/>"
    "<vector id=\"v8i16\" type=\"int16\" count=\"8\"/><vector id=\"v4i32\" type=\"int32\" count=\"4\"/>"
    "<vector id=\"v2i64\" type=\"int64\" count=\"2\"/>"
    "<union id=\"vec128\"><field name=\"v8_bfloat16\" type=\"v8bf16\"/><field name=\"v4_float\" type=\"v4f\"/>"
    "<field name=\"v2_double\" type=\"v2d\"/><field name=\"v16_int8\" type=\"v16i8\"/><field name=\"v8_int16\" type=\"v8i16\"/>"
    "<field name=\"v4_int32\" type=\"v4i32\"/><field name=\"v2_int64\" type=\"v2i64\"/><field name=\"uint128\" type=\"uint128\"/></union>"
    "<flags id=\"i386_mxcsr\" size=\"4\">"
    "<field name=\"IE\" start=\"0\" end=\"0\"/><field name=\"DE\" start=\"1\" end=\"1\"/><field name=\"ZE\" start=\"2\" end=\"2\"/>"
    "<field name=\"OE\" start=\"3\" end=\"3\"/><field name=\"UE\" start=\"4\" end=\"4\"/><field name=\"PE\" start=\"5\" end=\"5\"/>"
    "<field name=\"DAZ\" start=\"6\" end=\"6\"/><field name=\"IM\" start=\"7\" end=\"7\"/><field name=\"DM\" start=\"8\" end=\"8\"/>"
    "<field name=\"ZM\" start=\"9\" end=\"9\"/><field name=\"OM\" start=\"10\" end=\"10\"/><field name=\"UM\" start=\"11\" end=\"11\"/>"
    "<field name=\"PM\" start=\"12\" end=\"12\"/><field name=\"FZ\" start=\"15\" end=\"15\"/></flags>";

template <class T>
void read_gpr(const CpuState* cpu, unsigned n, u8* out) {
  put(out, static_cast<T>(state(cpu).r[n]));
}
template <class T>
bool write_gpr(CpuState* cpu, unsigned n, const u8* in) {
  state(cpu).r[n] = value<T>(in);
  return true;
}
template <class T>
void read_pc(const CpuState* cpu, unsigned, u8* out) {
  put(out, static_cast<T>(cpu->pc));
}
template <class T>
bool write_pc(CpuState* cpu, unsigned, const u8* in) {
  cpu->pc = value<T>(in);
  return true;
}

/// A selector that the thread could load itself; CS stays as it is.
bool write_segment(CpuState* cpu, unsigned n, const u8* in) {
  X86State& s = state(cpu);
  const u32 selector = value<u32>(in);
  if (s.selector[n] == selector) return true;
  return n != x86::CS && x86::load_user_segment(s, static_cast<x86::Seg>(n), selector) == 0;
}

/// FTW as FNSTENV gives it: two bits a register, by content (SDM vol. 1, 8.1.7).
u32 full_tag_word(const X86State& s) {
  u32 tags = 0;
  for (unsigned i = 0; i < 8; ++i) {
    unsigned tag = 3;
    if (bit(s.ftw, i)) {
      u64 significand;
      u16 exponent;
      std::memcpy(&significand, s.st[i].b, 8);
      std::memcpy(&exponent, s.st[i].b + 8, 2);
      exponent &= 0x7fff;
      if (exponent == 0 && significand == 0) tag = 1;
      else tag = exponent == 0x7fff || exponent == 0 || (significand >> 63) == 0 ? 2 : 0;
    }
    tags |= tag << (2 * i);
  }
  return tags;
}

enum Control : unsigned { Fctrl, Fstat, Ftag, Fiseg, Fioff, Foseg, Fooff, Fop };

void read_control(const CpuState* cpu, unsigned n, u8* out) {
  const X86State& s = state(cpu);
  const u32 values[] = {s.fcw, x86::fsw_of(s), full_tag_word(s), s.fcs, static_cast<u32>(s.fip), s.fds, static_cast<u32>(s.fdp), s.fop};
  put(out, values[n]);
}
bool write_control(CpuState* cpu, unsigned n, const u8* in) {
  X86State& s = state(cpu);
  const u32 v = value<u32>(in);
  switch (n) {
    case Fctrl: s.fcw = (v & 0x1f7f) | 0x40; break;
    case Fstat: x86::set_fsw(s, v & 0xffff); break;
    case Ftag:
      s.ftw = 0;
      for (unsigned i = 0; i < 8; ++i)
        if ((v >> (2 * i) & 3) != 3) s.ftw |= 1u << i;
      break;
    case Fiseg: s.fcs = v & 0xffff; break;
    case Fioff: s.fip = v; break;
    case Foseg: s.fds = v & 0xffff; break;
    case Fooff: s.fdp = v; break;
    default: s.fop = v & 0x7ff; break;
  }
  return true;
}

// gdb's st0 is the top of the stack.
void read_st(const CpuState* cpu, unsigned n, u8* out) {
  const X86State& s = state(cpu);
  std::memcpy(out, s.st[(s.ftop + n) & 7].b, 10);
}
bool write_st(CpuState* cpu, unsigned n, const u8* in) {
  X86State& s = state(cpu);
  std::memcpy(s.st[(s.ftop + n) & 7].b, in, 10);
  return true;
}

}  // namespace

RegisterSet x86_registers(bool wide) {
  static constexpr const char* kNames64[] = {"rax", "rbx", "rcx", "rdx", "rsi", "rdi", "rbp", "rsp",
                                             "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
  static constexpr x86::Gpr kOrder64[] = {x86::RAX, x86::RBX, x86::RCX, x86::RDX, x86::RSI, x86::RDI, x86::RBP, x86::RSP,
                                          x86::R8,  x86::R9,  x86::R10, x86::R11, x86::R12, x86::R13, x86::R14, x86::R15};
  static constexpr const char* kNames32[] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
  static constexpr struct {
    const char* name;
    x86::Seg seg;
  } kSegments[] = {{"cs", x86::CS}, {"ss", x86::SS}, {"ds", x86::DS}, {"es", x86::ES}, {"fs", x86::FS}, {"gs", x86::GS}};
  static constexpr const char* kControl[] = {"fctrl", "fstat", "ftag", "fiseg", "fioff", "foseg", "fooff", "fop"};

  RegisterSet set{wide ? "i386:x86-64" : "i386", {}};
  Feature core{"org.gnu.gdb.i386.core", kEflagsType, {}};
  for (unsigned i = 0; i < (wide ? 16 : 8); ++i) {
    const unsigned gpr = wide ? kOrder64[i] : i;
    const char* type = gpr == x86::RSP || gpr == x86::RBP ? "data_ptr" : wide ? "int64" : "int32";
    if (wide) core.registers.push_back({kNames64[i], 64, type, "general", read_gpr<u64>, write_gpr<u64>, gpr});
    else core.registers.push_back({kNames32[i], 32, type, "general", read_gpr<u32>, write_gpr<u32>, gpr});
  }
  if (wide) core.registers.push_back({"rip", 64, "code_ptr", "general", read_pc<u64>, write_pc<u64>});
  else core.registers.push_back({"eip", 32, "code_ptr", "general", read_pc<u32>, write_pc<u32>});
  core.registers.push_back({"eflags", 32, "i386_eflags", "general",
                            [](const CpuState* cpu, unsigned, u8* out) { put(out, x86::eflags_of(state(cpu))); },
                            [](CpuState* cpu, unsigned, const u8* in) {
                              x86::set_eflags(state(cpu), value<u32>(in));
                              return true;
                            }});
  for (const auto& segment : kSegments)
    core.registers.push_back({segment.name, 32, "int32", "general",
                              [](const CpuState* cpu, unsigned n, u8* out) { put(out, state(cpu).selector[n]); }, write_segment, segment.seg});
  for (unsigned i = 0; i < 8; ++i) core.registers.push_back({"st" + std::to_string(i), 80, "i387_ext", "float", read_st, write_st, i});
  for (unsigned i = 0; i < 8; ++i) core.registers.push_back({kControl[i], 32, "int", "float", read_control, write_control, i});

  const unsigned vectors = wide ? 16 : 8;
  Feature sse{"org.gnu.gdb.i386.sse", kVectorTypes, {}}, avx{"org.gnu.gdb.i386.avx", "", {}};
  for (unsigned i = 0; i < vectors; ++i) {
    sse.registers.push_back({"xmm" + std::to_string(i), 128, "vec128", "vector",
                             [](const CpuState* cpu, unsigned n, u8* out) { put(out, state(cpu).xmm[n]); },
                             [](CpuState* cpu, unsigned n, const u8* in) {
                               state(cpu).xmm[n] = value<V128>(in);
                               return true;
                             },
                             i});
    avx.registers.push_back({"ymm" + std::to_string(i) + "h", 128, "uint128", "",
                             [](const CpuState* cpu, unsigned n, u8* out) { put(out, state(cpu).ymm_high[n]); },
                             [](CpuState* cpu, unsigned n, const u8* in) {
                               state(cpu).ymm_high[n] = value<V128>(in);
                               return true;
                             },
                             i});
  }
  sse.registers.push_back({"mxcsr", 32, "i386_mxcsr", "vector",
                           [](const CpuState* cpu, unsigned, u8* out) { put(out, x86::mxcsr_of(state(cpu))); },
                           [](CpuState* cpu, unsigned, const u8* in) {
                             const u32 v = value<u32>(in);
                             if (v & ~0xffffu) return false;
                             x86::set_mxcsr(state(cpu), v);
                             return true;
                           }});
  Feature os{"org.gnu.gdb.i386.linux", "", {}};
  os.registers.push_back({wide ? "orig_rax" : "orig_eax", wide ? 64u : 32u, "int", "system", nullptr, nullptr, 0, true});
  set.features = {std::move(core), std::move(sse), std::move(os)};
  if (wide) {
    Feature segments{"org.gnu.gdb.i386.segments", "", {}};
    for (const auto& [name, seg] : {std::pair{"fs_base", x86::FS}, std::pair{"gs_base", x86::GS}})
      segments.registers.push_back({name, 64, "int", "", [](const CpuState* cpu, unsigned n, u8* out) { put(out, state(cpu).seg_base[n]); },
                                    [](CpuState* cpu, unsigned n, const u8* in) {
                                      X86State& s = state(cpu);
                                      const u64 base = value<u64>(in);
                                      if (s.seg_base[n] != base) x86::set_segment(s, static_cast<x86::Seg>(n), s.selector[n], base);
                                      return true;
                                    },
                                    static_cast<unsigned>(seg)});
    set.features.push_back(std::move(segments));
  }
  set.features.push_back(std::move(avx));
  return set;
}

}  // namespace kiln::debugger
