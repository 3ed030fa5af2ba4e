// Every x87 and MMX row against the host CPU: random and boundary operands, control words, tags, masked and unmasked
// exceptions. KILN_TEST_SEED shifts the seed, KILN_TEST_SCALE multiplies the number of runs.
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include "frontends/x86/features.h"
#include "tests/frontends/x86/native.h"

namespace kiln::x86::test {
namespace {

u64 environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

class Random {
 public:
  explicit Random(u64 seed) : engine_(seed) {}
  u64 bits() { return engine_(); }
  u64 below(u64 n) { return engine_() % n; }
  bool one_in(u64 n) { return below(n) == 0; }

  /// Ten bytes.
  void f80(u8* out) {
    static constexpr u64 kSignificands[] = {0,
                                            1,
                                            u64{1} << 63,
                                            (u64{1} << 63) | 1,
                                            u64{3} << 62,
                                            (u64{3} << 62) | 5,
                                            (u64{1} << 62),
                                            ~u64{0},
                                            ~u64{0} >> 1,
                                            0xc90fdaa22168c235,
                                            0x8000000000000800,
                                            0xfffffffffffffc00};
    static constexpr u16 kExponents[] = {0,      1,      0x3fff, 0x3ffe, 0x4000, 0x7fff, 0x7ffe, 0x401e,
                                         0x403e, 0x3fbf, 0x3c00, 0x43ff, 0x3c01, 0x43fe, 0x43fd};
    u64 significand = one_in(2) ? bits() | u64{1} << 63 : kSignificands[below(std::size(kSignificands))];
    u16 exponent = kExponents[below(std::size(kExponents))];
    if (one_in(2)) exponent = static_cast<u16>(0x3fff - 70 + below(140));
    if (one_in(4)) exponent = static_cast<u16>(bits() & 0x7fff);
    if (one_in(3)) significand &= ~u64{0} << below(64);  // few bits: exact results
    if (one_in(2) && (exponent & 0x7fff) != 0) significand |= u64{1} << 63;
    exponent |= static_cast<u16>((bits() & 1) << 15);
    std::memcpy(out, &significand, 8);
    std::memcpy(out + 8, &exponent, 2);
  }
  /// A memory operand: whatever may be meant by it.
  void operand(u8* out) {
    const u64 noise[3] = {bits(), bits(), bits()};
    std::memcpy(out, noise, 24);
    switch (below(7)) {
      case 0: return f80(out);
      case 1: return put(out, static_cast<double>(static_cast<s64>(bits()) >> below(63)));
      case 2: return put(out, static_cast<float>(static_cast<s32>(bits()) >> below(31)));
      case 3: return put(out, static_cast<s64>(bits()) >> below(63));
      case 4:
        for (unsigned i = 0; i < 10; ++i) out[i] = static_cast<u8>(below(10) | below(10) << 4);
        return;
      case 5: {
        static constexpr u64 kDoubles[] = {0,
                                           u64{1} << 63,
                                           1,
                                           0x7ff0000000000000,
                                           0x7ff8000000000001,
                                           0x7ff0000000000001,
                                           0x000fffffffffffff,
                                           0x3ff0000000000000,
                                           0x7fefffffffffffff,
                                           0xfff0000000000000,
                                           0x7f8000007f800001,
                                           0x0000000180000000};
        return put(out, kDoubles[below(std::size(kDoubles))]);
      }
      default: return;
    }
  }

 private:
  template <class T>
  static void put(u8* out, T v) {
    std::memcpy(out, &v, sizeof v);
  }
  std::mt19937_64 engine_;
};

void fill(Random& random, Machine& m) {
  SaveImage& f = m.fpu;
  f.fcw = 0x37f;
  if (random.one_in(2)) f.fcw = 0x7f | static_cast<u32>(random.bits() & 0xf00);
  if (random.one_in(4)) f.fcw = 0x40 | static_cast<u32>(random.bits() & 0xf3f);
  f.fsw = static_cast<u32>(random.bits() & 0x7f00) | (static_cast<u32>(random.bits()) & f.fcw & 0x3f);
  if (random.one_in(2)) f.fsw |= f.fcw & 0x20;
  if (random.one_in(4)) f.fsw |= 0x40;
  f.ftw = random.one_in(3)   ? static_cast<u32>(random.bits() & 0xffff)
          : random.one_in(2) ? 0
                             : 0x5fff ^ static_cast<u32>(random.bits() & 0x3000);
  f.fip = static_cast<u32>(random.bits());
  f.fcs_fop = static_cast<u32>(random.bits()) & 0x07ffffff;
  f.fdp = static_cast<u32>(random.bits());
  f.fds = static_cast<u32>(random.bits()) & 0xffff;
  for (unsigned i = 0; i < 8; ++i) random.f80(f.st + 10 * i);
  // Values of nearly the same size meet too seldom.
  if (random.one_in(4)) std::memcpy(f.st + 8, f.st + 18, 2);
  for (unsigned i = 0; i < 128; i += 8) {
    const u64 noise = random.bits();
    std::memcpy(m.memory + i, &noise, 8);
  }
  random.operand(m.memory);
  for (u64& d : m.xmm0.d) d = random.bits();
  if (random.one_in(2))
    for (float& x : m.xmm0.f32) x = static_cast<float>(static_cast<s32>(random.bits()) >> random.below(31)) * 0.5f;
  if (random.one_in(4))
    for (double& x : m.xmm0.f64) x = static_cast<double>(static_cast<s64>(random.bits()) >> random.below(63)) * 0.25;
  m.rax = random.bits();
  m.eflags = static_cast<u32>(random.bits()) & kStatusFlags;
  m.mxcsr = 0x1f80 | static_cast<u32>(random.bits() & 0x6000);
}

std::string text_of(const Machine& m) {
  char text[1200];
  int n = std::snprintf(text, sizeof text,
                        "fcw %04x fsw %04x ftw %04x fip %08x cs/op %08x fdp %08x fds %08x eflags %04x mxcsr %04x rax %llx\n",
                        m.fpu.fcw & 0xffff, m.fpu.fsw & 0xffff, m.fpu.ftw & 0xffff, m.fpu.fip, m.fpu.fcs_fop, m.fpu.fdp,
                        m.fpu.fds, m.eflags, m.mxcsr, static_cast<unsigned long long>(m.rax));
  for (unsigned i = 0; i < 8; ++i) {
    u64 low;
    u16 high;
    std::memcpy(&low, m.fpu.st + 10 * i, 8);
    std::memcpy(&high, m.fpu.st + 10 * i + 8, 2);
    n += std::snprintf(text + n, sizeof text - static_cast<std::size_t>(n), "  st%u %04x:%016llx", i, high,
                       static_cast<unsigned long long>(low));
  }
  n += std::snprintf(text + n, sizeof text - static_cast<std::size_t>(n), "\n  xmm0 %016llx:%016llx memory",
                     static_cast<unsigned long long>(m.xmm0.d[1]), static_cast<unsigned long long>(m.xmm0.d[0]));
  for (unsigned i = 0; i < 32; ++i)
    n += std::snprintf(text + n, sizeof text - static_cast<std::size_t>(n), " %02x", m.memory[i]);
  return std::string(text) + "\n";
}

/// Bytes of the row with `rm` as the low ModRM bits (registers) or, if `memory`, (%rbx).
std::vector<u8> encode(const Row& row, Random& random, bool memory, bool narrow) {
  std::vector<u8> out;
  if (narrow) out.push_back(0x66);
  switch (static_cast<PrefixRule>(row.prefix_rule)) {
    case PrefixRule::P66: out.push_back(0x66); break;
    case PrefixRule::F3: out.push_back(0xf3); break;
    case PrefixRule::F2: out.push_back(0xf2); break;
    default: break;
  }
  if (row.map >= 1) out.push_back(0x0f);
  if (row.map == 2) out.push_back(0x38);
  if (row.map == 3) out.push_back(0x3a);
  out.push_back(row.opcode);
  if (row.has_modrm) {
    u8 modrm = static_cast<u8>(random.below(8) << 3 | random.below(8));
    if (row.modrm >= 0) modrm = static_cast<u8>(row.modrm);
    else {
      if (row.reg >= 0) modrm = static_cast<u8>((modrm & 7) | row.reg << 3);
      const std::string operands = row.text;
      // Integer and vector registers are 0; MMX ones anything.
      if (operands.find(" Ey") != std::string::npos || operands.find(",Ey") != std::string::npos ||
          operands.find("Rd") != std::string::npos || operands.find("Wq") != std::string::npos ||
          operands.find("Wdq") != std::string::npos || operands.find("Udq") != std::string::npos)
        modrm &= 0x38;
      if (operands.find(" Gd") != std::string::npos || operands.find(" Vdq") != std::string::npos) modrm &= 7;
      if (memory) modrm = static_cast<u8>((modrm & 0x38) | 3);
      else modrm |= 0xc0;
    }
    out.push_back(modrm);
  }
  if (std::string(row.text).find("Ib") != std::string::npos)
    out.push_back(static_cast<u8>(random.one_in(4) ? random.bits() : random.below(20)));
  return out;
}

bool is_x87(const Row& row) { return row.map == 0 && row.opcode >= 0xd8 && row.opcode <= 0xdf; }
bool is_mmx(const Row& row) {
  const std::string text = row.text;
  for (const char* operand : {" Pq", ",Pq", ",Qq", " Nq", ",Nq"})
    if (text.find(operand) != std::string::npos) return true;
  return std::string(row.name) == "emms";
}

void compare(const Row& row, unsigned runs, u64 seed) {
  static CodePage page;
  static Interpreted kiln;
  const std::string name = row.name;
  if (name == "maskmovq") return;  // its address is in rDI
  unsigned shown = 0;
  for (unsigned n = 0; n < runs; ++n) {
    Random random(seed + n);
    const bool can_be_memory = row.mod_rule == 1 || (row.mod_rule == 0 && row.has_modrm && row.modrm < 0);
    const bool memory = row.mod_rule == 1 || (can_be_memory && random.one_in(2));
    const std::vector<u8> code = encode(row, random, memory, is_x87(row) && random.one_in(4));
    Machine start;
    fill(random, start);
    const u8* at = page.place(code);
    // One place for both, so that addresses agree.
    Machine m = start;
    const bool completed = kiln.run(at, static_cast<unsigned>(code.size()), m);
    const Machine got = m;
    Machine want;
    bool equal = false;
    // The kernel of an AMD machine forgets the last instruction's place when it switches processes: then once more.
    for (unsigned attempt = 0; !equal && attempt < 4; ++attempt) {
      m = start;
      page.run_native(m);
      want = m;
      equal = completed && std::memcmp(&want.fpu, &got.fpu, sizeof want.fpu) == 0 && want.rax == got.rax &&
              want.eflags == got.eflags && want.mxcsr == got.mxcsr && std::memcmp(&want.xmm0, &got.xmm0, 16) == 0 &&
              std::memcmp(want.memory, got.memory, 256) == 0;
    }
    if (equal) continue;
    std::string bytes;
    for (u8 b : code) bytes += "0123456789abcdef"[b >> 4], bytes += "0123456789abcdef"[b & 15];
    ADD_FAILURE() << row.name << " (" << row.text << ") " << bytes << " seed " << seed + n
                  << (completed ? "" : " did not complete: exit kind ")
                  << (completed ? "" : std::to_string(kiln.state().exit_kind)) << "\nstart " << text_of(start) << "host  "
                  << text_of(want) << "kiln  " << text_of(got);
    if (++shown == 2) return;
  }
}

void compare_all(bool (*which)(const Row&), unsigned runs) {
  const u64 seed = environment("KILN_TEST_SEED", 1) * 1000000007;
  const unsigned scaled = static_cast<unsigned>(runs * environment("KILN_TEST_SCALE", 1));
  unsigned rows = 0;
  for (const Row& row : instruction_rows()) {
    if (!which(row)) continue;
    ++rows;
    compare(row, scaled, seed + rows * 100000);
  }
  EXPECT_GT(rows, 80u);
}

TEST(X87, EveryInstructionAsTheHostHasIt) { compare_all(is_x87, 2000); }
TEST(Mmx, EveryInstructionAsTheHostHasIt) { compare_all(is_mmx, 500); }

/// A pending exception is delivered by the next waiting instruction, before it does anything.
TEST(X87, PendingExceptionStopsWaitingInstructions) {
  static CodePage page;
  Interpreted kiln;
  for (const Row& row : instruction_rows()) {
    if (!is_x87(row) && !is_mmx(row) && std::string(row.name) != "fwait") continue;
    if (std::string(row.name) == "maskmovq") continue;
    Random random(5);
    const bool memory = row.mod_rule == 1;
    const std::vector<u8> code = encode(row, random, memory, false);
    Machine m;
    fill(random, m);
    m.fpu.fcw = 0x37e;
    m.fpu.fsw = 0x8081;
    m.fpu.ftw = 0;
    const bool completed = kiln.run(page.place(code), static_cast<unsigned>(code.size()), m);
    const std::string name = row.name;
    const bool waits = !name.starts_with("fn") || name == "fnop";
    const bool memory_cvt = name == "cvtpi2ps" || name == "cvtpi2pd";
    if (memory && memory_cvt) continue;
    EXPECT_EQ(completed, !waits) << row.name << " " << row.text;
    if (waits) {
      EXPECT_EQ(trap_vector(kiln.state().exit_value), kMF) << row.name;
      EXPECT_EQ(m.fpu.fsw & 0xffff, 0x8081u) << row.name;
    }
  }
}

}  // namespace
}  // namespace kiln::x86::test
