// Runs the block of each reproducer file in every tier and compares with the interpreter's state that the file holds.
#include <asm/prctl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "frontends/arm/aarch64.h"
#include "ir/interpreter.h"
#include "jit/engine/engine.h"

namespace kiln::test {
namespace {

using jit::TierChoice;

constexpr HostAddr kBase = HostAddr{1} << 44;

struct State {
  u64 pc = 0, flags_kind = 0, flags_a = 0, flags_b = 0, mxcsr = 0x1f80;
  std::map<std::string, std::pair<u64, u64>> registers;
};

struct Reproducer {
  u64 pc = 0, mode = 0;
  std::vector<u8> code;
  std::vector<std::pair<u64, std::vector<u8>>> memory;
  State before, interpreter;
};

std::vector<u8> from_hex(const std::string& hex) {
  std::vector<u8> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) bytes.push_back(static_cast<u8>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  return bytes;
}

Reproducer parse(std::istream& in) {
  Reproducer r;
  std::string line, word;
  const auto number = [](std::istringstream& s) {
    std::string text;
    s >> text;
    return text.empty() ? u64{0} : std::stoull(text, nullptr, 0);
  };
  while (std::getline(in, line)) {
    std::istringstream s(line);
    s >> word;
    if (word == "pc") r.pc = number(s);
    else if (word == "mode") r.mode = number(s);
    else if (word == "code") {
      while (s >> word) r.code.push_back(static_cast<u8>(std::stoul(word, nullptr, 16)));
    } else if (word == "memory") {
      const u64 address = number(s);
      s >> word;
      r.memory.push_back({address, from_hex(word)});
    } else if (word == "before" || word == "interpreter") {
      State& state = word == "before" ? r.before : r.interpreter;
      std::string name;
      s >> name;
      if (name == "cpu") {
        s >> name;
        state.pc = number(s);
        s >> name;
        state.flags_kind = number(s);
        state.flags_a = number(s);
        state.flags_b = number(s);
        s >> name;
        state.mxcsr = number(s);
      } else {
        const u64 low = number(s);
        state.registers[name] = {low, number(s)};
      }
    }
  }
  return r;
}

class Memory : public jit::AddressSpace {
 public:
  explicit Memory(const Reproducer& r) : reproducer_(r) {
    for (const auto& [address, bytes] : r.memory) {
      map(address);
      map(address + bytes.size() - 1);
      for (std::size_t i = 0; i < bytes.size(); ++i)
        if (seen_.insert(address + i).second) *reinterpret_cast<u8*>(kBase + address + i) = bytes[i];
    }
  }
  ~Memory() override {
    for (u64 page : pages_) munmap(reinterpret_cast<void*>(kBase + page), 4096);
  }
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    const u64 offset = pc - reproducer_.pc;
    if (offset >= reproducer_.code.size()) return 0;
    const std::size_t count = std::min(size, reproducer_.code.size() - offset);
    std::memcpy(out, reproducer_.code.data() + offset, count);
    return count;
  }
  HostAddr base() const override { return kBase; }
  void protect_code(GuestAddr) override {}
  void unprotect_code(GuestAddr) override {}

 private:
  void map(u64 address) {
    if (pages_.insert(align_down(address, 4096)).second)
      mmap(reinterpret_cast<void*>(kBase + align_down(address, 4096)), 4096, PROT_READ | PROT_WRITE,
           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
  }
  const Reproducer& reproducer_;
  std::set<u64> pages_, seen_;
};

void replay(const Reproducer& r, const std::string& name) {
  for (TierChoice tier : {TierChoice::Interp, TierChoice::One, TierChoice::Two}) {
    SCOPED_TRACE(name + ", tier " + std::to_string(static_cast<int>(tier)));
    Memory memory(r);
    syscall(SYS_arch_prctl, ARCH_SET_GS, kBase);
    Log log;
    jit::EngineConfig config;
    config.log = &log;
    config.tier = tier;
    config.hot_threshold = 1;
    config.synchronous_tier2 = true;
    config.region_insns = 1;  // the block alone
    jit::Engine engine(config, arm::kA64, memory);
    ir::CpuState* cpu = engine.create_cpu();
    char* bytes = reinterpret_cast<char*>(cpu);
    const auto slot = [&](const std::string& want) -> const ir::Slot* {
      for (const ir::Slot& s : arm::kA64.slots)
        if (want == s.name) return &s;
      return nullptr;
    };
    for (const ir::Slot& s : arm::kA64.slots) std::memset(bytes + s.offset, 0, s.type == ir::Type::V128 ? 16 : 8);
    for (const auto& [reg, value] : r.before.registers) {
      ASSERT_NE(slot(reg), nullptr) << reg;
      std::memcpy(bytes + slot(reg)->offset, &value.first, 8);
      if (slot(reg)->type == ir::Type::V128) std::memcpy(bytes + slot(reg)->offset + 8, &value.second, 8);
    }
    cpu->pc = r.pc;
    cpu->mode = static_cast<u32>(r.mode);
    cpu->flags_kind = static_cast<u32>(r.before.flags_kind);
    cpu->flags_a = r.before.flags_a;
    cpu->flags_b = r.before.flags_b;
    cpu->mxcsr = static_cast<u32>(r.before.mxcsr);
    // The block ends where no code is: FetchFault there, with its own effects in place. One that loops back to its own start would
    // run on.
    ASSERT_NE(r.interpreter.pc, r.pc) << "a block that loops back to its own start cannot be replayed yet";
    engine.run(cpu);
    EXPECT_EQ(cpu->pc, r.interpreter.pc);
    for (const ir::Slot& s : arm::kA64.slots) {
      u64 value[2] = {};
      std::memcpy(value, bytes + s.offset, s.type == ir::Type::V128 ? 16 : 8);
      const auto it = r.interpreter.registers.find(s.name);
      const auto want = it == r.interpreter.registers.end() ? std::pair<u64, u64>{} : it->second;
      EXPECT_EQ(value[0], want.first) << s.name;
      EXPECT_EQ(value[1], want.second) << s.name << " high";
    }
    EXPECT_EQ(ir::flags_value(static_cast<ir::FlagsKind>(cpu->flags_kind), cpu->flags_a, cpu->flags_b),
              ir::flags_value(static_cast<ir::FlagsKind>(r.interpreter.flags_kind), r.interpreter.flags_a, r.interpreter.flags_b));
    engine.destroy_cpu(cpu);
  }
}

TEST(Reproducers, Replay) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(KILN_REPRODUCERS))
    if (entry.path().extension() == ".repro") files.push_back(entry.path());
  if (const char* one = std::getenv("KILN_REPRODUCER")) files = {one};
  ASSERT_FALSE(files.empty());
  for (const auto& file : files) {
    std::ifstream in(file);
    const Reproducer r = parse(in);
    ASSERT_FALSE(r.code.empty()) << file;
    replay(r, file.filename().string());
  }
}

}  // namespace
}  // namespace kiln::test
