// FXSAVE and XSAVE areas: FXSAVE and FXRSTOR against the host, the XSAVE family by its rules (SDM vol. 1, 13), CPUID's answers
// about both.
#include <gtest/gtest.h>

#include <random>
#include <vector>

#include "frontends/x86/features.h"
#include "tests/frontends/x86/native.h"

namespace kiln::x86::test {
namespace {

// All on (%rbx).
const std::vector<u8> kFxsave{0x0f, 0xae, 0x03}, kFxsave64{0x48, 0x0f, 0xae, 0x03}, kFxrstor{0x0f, 0xae, 0x0b},
    kFxrstor64{0x48, 0x0f, 0xae, 0x0b}, kXsave{0x0f, 0xae, 0x23}, kXrstor{0x0f, 0xae, 0x2b}, kXsaveopt{0x0f, 0xae, 0x33},
    kXsavec{0x0f, 0xc7, 0x23}, kXsave64{0x48, 0x0f, 0xae, 0x23};

void fill(std::mt19937_64& random, Machine& m) {
  m.fpu.fcw = 0x37f;
  m.fpu.fsw = static_cast<u32>(random() & 0x7f3f);
  m.fpu.ftw = static_cast<u32>(random() & 0xffff);
  m.fpu.fip = static_cast<u32>(random());
  m.fpu.fcs_fop = static_cast<u32>(random()) & 0x07ffffff;
  m.fpu.fdp = static_cast<u32>(random());
  m.fpu.fds = static_cast<u32>(random()) & 0xffff;
  for (u8& b : m.fpu.st) b = static_cast<u8>(random());
  for (u64& d : m.xmm0.d) d = random();
  for (u8& b : m.memory) b = static_cast<u8>(random());
}

TEST(FpState, FxsaveAsTheHost) {
  CodePage page;
  Interpreted kiln;
  std::mt19937_64 random(3);
  for (int n = 0; n < 200; ++n) {
    Machine start;
    fill(random, start);
    if (n % 3 == 0) start.fpu.fcw = 0x37e;
    for (const std::vector<u8>* code : {&kFxsave, &kFxsave64}) {
      Machine m = start;
      const u8* at = page.place(*code);
      page.run_native(m);
      Machine want = m;
      m = start;
      ASSERT_TRUE(kiln.run(at, static_cast<unsigned>(code->size()), m));
      std::memcpy(want.memory + 28, m.memory + 28, 4);  // MXCSR_MASK: AMD has a bit more, which Kiln's models lack
      EXPECT_EQ(std::memcmp(want.memory, m.memory, 176), 0);
      EXPECT_EQ(std::memcmp(want.memory + 416, m.memory + 416, 96), 0) << "bytes that software may use were written";
    }
  }
}

TEST(FpState, FxrstorAsTheHost) {
  CodePage page;
  Interpreted kiln;
  std::mt19937_64 random(4);
  for (int n = 0; n < 200; ++n) {
    Machine start;
    fill(random, start);
    const u32 mxcsr = 0x1f80 | static_cast<u32>(random() & 0x7fff);
    std::memcpy(start.memory + 24, &mxcsr, 4);
    start.memory[0] |= 0x3f;  // nothing pending: what the host would do with it afterwards is the next instruction's
    for (const std::vector<u8>* code : {&kFxrstor, &kFxrstor64}) {
      Machine m = start;
      const u8* at = page.place(*code);
      page.run_native(m);
      Machine want = m;
      m = start;
      ASSERT_TRUE(kiln.run(at, static_cast<unsigned>(code->size()), m));
      EXPECT_EQ(want.mxcsr, m.mxcsr);
      EXPECT_EQ(std::memcmp(&want.xmm0, &m.xmm0, 16), 0);
      EXPECT_EQ(std::memcmp(&want.fpu, &m.fpu, 12), 0);
      EXPECT_EQ(std::memcmp(want.fpu.st, m.fpu.st, 80), 0);
    }
  }
}

u64 word(const Machine& m, unsigned at) {
  u64 v;
  std::memcpy(&v, m.memory + at, 8);
  return v;
}
void set_word(Machine& m, unsigned at, u64 v) { std::memcpy(m.memory + at, &v, 8); }

TEST(FpState, XsaveRoundTrip) {
  CodePage page;
  Interpreted kiln;
  std::mt19937_64 random(5);
  for (const std::vector<u8>* save : {&kXsave, &kXsave64, &kXsaveopt, &kXsavec}) {
    Machine m;
    fill(random, m);
    std::memset(m.memory + 512, 0, 64);
    m.rax = 7;
    kiln.state().r[RDX] = 0;
    for (V128& v : kiln.state().ymm_high) v = V128{.d = {random(), random()}};
    ASSERT_TRUE(kiln.run(page.place(*save), static_cast<unsigned>(save->size()), m));
    const X86State saved = kiln.state();
    EXPECT_EQ(word(m, 512), 7u);
    EXPECT_EQ(word(m, 520), save == &kXsavec ? u64{1} << 63 | 7 : 0);
    Machine other = m;
    fill(random, other);
    std::memcpy(other.memory, m.memory, sizeof m.memory);
    other.rax = 7;
    for (V128& v : kiln.state().ymm_high) v = V128{};
    ASSERT_TRUE(kiln.run(page.place(kXrstor), 3, other));
    EXPECT_EQ(std::memcmp(saved.st, kiln.state().st, sizeof saved.st), 0);
    EXPECT_EQ(std::memcmp(saved.xmm, kiln.state().xmm, sizeof saved.xmm), 0);
    EXPECT_EQ(std::memcmp(saved.ymm_high, kiln.state().ymm_high, sizeof saved.ymm_high), 0);
    EXPECT_EQ(fsw_of(saved), fsw_of(kiln.state()));
    EXPECT_EQ(saved.ftw, kiln.state().ftw);
  }
}

TEST(FpState, XsaveLeavesOutWhatIsNotAskedFor) {
  CodePage page;
  Interpreted kiln;
  std::mt19937_64 random(6);
  Machine m;
  fill(random, m);
  const Machine start = m;
  m.rax = 4;
  kiln.state().r[RDX] = 0;
  ASSERT_TRUE(kiln.run(page.place(kXsave), 3, m));
  EXPECT_EQ(std::memcmp(m.memory, start.memory, 24), 0);
  EXPECT_EQ(word(m, 24) & 0xffffffff, 0x1f80u);  // MXCSR goes with SSE and with AVX
  EXPECT_EQ(std::memcmp(m.memory + 32, start.memory + 32, 480), 0);
  EXPECT_EQ(word(m, 512) & ~u64{4}, word(start, 512) & ~u64{4});
}

TEST(FpState, XrstorInitialisesAndRefuses) {
  CodePage page;
  Interpreted kiln;
  std::mt19937_64 random(7);
  Machine m;
  fill(random, m);
  std::memset(m.memory + 512, 0, 64);
  const u32 mxcsr = 0x1fa0;
  std::memcpy(m.memory + 24, &mxcsr, 4);
  m.rax = 7;
  kiln.state().r[RDX] = 0;
  const Machine start = m;
  ASSERT_TRUE(kiln.run(page.place(kXrstor), 3, m));
  EXPECT_EQ(m.fpu.fcw & 0xffff, 0x37fu);
  EXPECT_EQ(m.fpu.ftw & 0xffff, 0xffffu);
  EXPECT_EQ(m.xmm0.d[0], 0u);
  EXPECT_EQ(m.mxcsr, 0x1fa0u);

  const auto refused = [&](const char* why, auto&& change) {
    Machine bad = start;
    change(bad);
    EXPECT_FALSE(kiln.run(page.place(kXrstor), 3, bad)) << why;
    EXPECT_EQ(trap_vector(kiln.state().exit_value), kGP) << why;
    EXPECT_EQ(std::memcmp(&bad.xmm0, &start.xmm0, 16), 0) << why;
  };
  refused("XSTATE_BV outside XCR0", [](Machine& b) { set_word(b, 512, 8); });
  refused("XCOMP_BV without its top bit", [](Machine& b) { set_word(b, 520, 3); });
  refused("reserved header byte", [](Machine& b) { set_word(b, 528, 1); });
  refused("compact: component not in the area", [](Machine& b) { set_word(b, 512, 4), set_word(b, 520, u64{1} << 63 | 3); });
  refused("MXCSR", [](Machine& b) { b.memory[27] = 1; });
}

TEST(FpState, Misaligned) {
  CodePage page;
  Interpreted kiln;
  for (const std::vector<u8>* code : {&kFxsave, &kFxrstor, &kXsave, &kXrstor, &kXsaveopt, &kXsavec}) {
    std::vector<u8> bytes = *code;
    bytes.back() = static_cast<u8>(bytes.back() | 0x40);  // (%rbx) + disp8
    bytes.push_back(8);
    Machine m;
    m.rax = 7;
    EXPECT_FALSE(kiln.run(page.place(bytes), 4, m));
    EXPECT_EQ(trap_vector(kiln.state().exit_value), kGP);
  }
}

TEST(FpState, MxcsrMaskOfTheModel) {
  X86State s{};
  u8 image[512];
  const auto mask = [&] {
    u32 v;
    std::memcpy(&v, image + 28, 4);
    return v;
  };
  set_cpu_model(s, static_cast<unsigned>(find_cpu_model("pentium3")));
  fxsave_image(s, false, image);
  EXPECT_EQ(mask(), 0u);  // "the default": no DAZ
  EXPECT_EQ(mxcsr_mask(s), 0xffbfu);
  set_cpu_model(s, 0);
  fxsave_image(s, false, image);
  EXPECT_EQ(mask(), 0xffffu);
}

TEST(Cpuid, ModelsAreCumulativeAndSayWhatTheyDecode) {
  X86State& s = *new X86State();
  u64 before = 0;
  for (const char* name : {"pentium3", "core2", "haswell", "max"}) {
    const int index = find_cpu_model(name);
    ASSERT_GE(index, 0);
    const u64 features = features_of_model(static_cast<unsigned>(index));
    EXPECT_EQ(before & ~features, 0u) << name;
    before = features;
    s.cpu_model = static_cast<u32>(index);
    const CpuidResult one = cpuid(s, 1, 0);
    EXPECT_TRUE(bit(one.edx, 0) && bit(one.edx, 15) && bit(one.edx, 25)) << name;  // FPU, CMOV, SSE
    EXPECT_EQ(bit(one.ecx, 28), has_feature(s.cpu_model << kModeModelShift, Feature::avx_)) << name;
    EXPECT_FALSE(cpuinfo_flags(s.cpu_model).empty());
  }
  EXPECT_EQ(find_cpu_model("z80"), -1);
  s.cpu_model = 0;
  s.xcr0 = 7;
  EXPECT_EQ(cpuid(s, 0xd, 0).ebx, kXsaveBytes);
  EXPECT_EQ(cpuid(s, 7, 0).ebx & (1u << 16 | 1u << 11 | 1u << 4), 0u);  // no AVX-512, RTM, HLE
  delete &s;
}

}  // namespace
}  // namespace kiln::x86::test
