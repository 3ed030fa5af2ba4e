#include <gtest/gtest.h>
#include <sys/mman.h>

#include <fstream>
#include <memory>
#include <sstream>

#include "ir/interpreter.h"
#include "tests/frontends/instruction_test.h"

namespace kiln::test {

namespace {

constexpr GuestAddr kData = 0x100000, kDataSize = 0x2000, kInsn = 0x200100, kEnd = 0x201000;

u8 pattern(unsigned i) { return static_cast<u8>(i * 7 + (i >> 8) * 13 + 3); }

/// Guest addresses 0 … kEnd; what lies outside the data and the code is not accessible.
struct Memory : ir::CodeSource {
  u8* base;
  Memory() {
    base = static_cast<u8*>(mmap(nullptr, kEnd, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    mprotect(base + kData, kDataSize, PROT_READ | PROT_WRITE);
    mprotect(base + (kInsn & ~u64{0xfff}), 0x1000, PROT_READ | PROT_WRITE);
  }
  ~Memory() override { munmap(base, kEnd); }
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    if (pc < (kInsn & ~u64{0xfff}) || pc + size > kEnd) return 0;
    std::memcpy(out, base + pc, size);
    return size;
  }
};

void initialise(arm::A64State& s, Memory& memory) {
  arm::kA64.reset(&s);
  s.memory_base = reinterpret_cast<u64>(memory.base);
  s.pc = kInsn;
  s.exit_kind = 0;
  for (unsigned i = 0; i < 31; ++i) s.x[i] = 0xdead0000beef0000u | i;
  s.x[31] = kData + 0x800;
  s.fpsr_watched = 1;
  s.mode = arm::kA64.mode_of(&s);
  for (unsigned i = 0; i < 32; ++i)
    s.v[i] = V128{.d = {0x7766554433221100u + i * 0x0101010101010101u, 0xffeeddccbbaa9988u - i * 0x0101010101010101u}};
  for (unsigned i = 0; i < kDataSize; ++i) memory.base[kData + i] = pattern(i);
}

/// Sets one `name=value` in a state (memory: in `memory`, if given); false if the name is unknown.
bool assign(arm::A64State& s, u8* memory, std::string& exit, const std::string& item) {
  const std::size_t equals = item.find('=');
  const std::string name = item.substr(0, equals), text = item.substr(equals + 1);
  const u64 value = std::strtoull(text.c_str(), nullptr, 16);
  if (name == "pc") s.pc = value;
  else if (name == "sp") s.x[31] = value;
  else if (name == "nzcv") arm::set_nzcv(s, static_cast<u32>(value) << 28);
  else if (name == "fpcr") arm::set_fpcr(s, static_cast<u32>(value));
  else if (name == "fpsr") arm::set_fpsr(s, static_cast<u32>(value));
  else if (name == "signal" || name == "exit") exit = name + "=" + text;
  else if (name[0] == 'x') s.x[std::stoul(name.substr(1))] = value;
  else if (name[0] == 'v') {
    const std::size_t colon = text.find(':');
    V128& v = s.v[std::stoul(name.substr(1))];
    v.d[0] = colon == std::string::npos ? value : std::strtoull(text.c_str() + colon + 1, nullptr, 16);
    v.d[1] = colon == std::string::npos ? 0 : value;
  } else if (name[0] == 'm' && memory) {
    const u64 address = std::strtoull(name.c_str() + 1, nullptr, 16) - kData;
    for (std::size_t i = 0; i + 1 < text.size(); i += 2)
      memory[address + i / 2] = static_cast<u8>(std::stoul(text.substr(i, 2), nullptr, 16));
  } else {
    return false;
  }
  return true;
}

std::string exit_text(const arm::A64State& s) {
  char text[64];
  switch (static_cast<ir::ExitKind>(s.exit_kind)) {
    case ir::ExitKind::None: return "";
    case ir::ExitKind::Undefined: return "signal=ill";
    case ir::ExitKind::Alignment: return "signal=bus";
    case ir::ExitKind::Syscall:
      std::snprintf(text, sizeof text, "exit=syscall:%llx", static_cast<unsigned long long>(s.exit_value));
      return text;
    case ir::ExitKind::Breakpoint:
      std::snprintf(text, sizeof text, "exit=breakpoint:%llx", static_cast<unsigned long long>(s.exit_value));
      return text;
    default: std::snprintf(text, sizeof text, "exit=%u", s.exit_kind); return text;
  }
}

/// Names what differs between two states, empty if nothing does.
std::string difference(const arm::A64State& got, const arm::A64State& want) {
  std::ostringstream out;
  out << std::hex;
  const auto compare = [&](const char* name, unsigned i, u64 a, u64 b) {
    if (a != b) out << "  " << name << std::dec << i << std::hex << ": got " << a << ", want " << b << "\n";
  };
  for (unsigned i = 0; i < 32; ++i) compare("x", i, got.x[i], want.x[i]);
  for (unsigned i = 0; i < 32; ++i)
    for (unsigned h = 0; h < 2; ++h) compare(h ? "v.hi" : "v.lo", i, got.v[i].d[h], want.v[i].d[h]);
  compare("pc", 0, got.pc, want.pc);
  compare("nzcv", 0, arm::nzcv_of(got) >> 28, arm::nzcv_of(want) >> 28);
  compare("fpcr", 0, got.fpcr, want.fpcr);
  // The word follows a first Inexact at the next look-up only.
  compare("mode", 0, got.mode & ~arm::kModeInexactSeen, want.mode & ~arm::kModeInexactSeen);
  compare("fpsr", 0, arm::fpsr_of(got), arm::fpsr_of(want));
  return out.str();
}

struct AlignedState {
  static constexpr std::size_t kBytes = align_up(ir::kJumpCacheBytes + sizeof(arm::A64State), 64);
  char* raw = static_cast<char*>(std::aligned_alloc(64, kBytes));
  arm::A64State* get() { return reinterpret_cast<arm::A64State*>(raw + ir::kJumpCacheBytes); }
  AlignedState() { std::memset(raw, 0, kBytes); }
  ~AlignedState() { std::free(raw); }
};

}  // namespace

unsigned run_instruction_file(const std::string& path, const RunOne& run) {
  std::ifstream in(path);
  EXPECT_TRUE(in.good()) << path;
  Memory memory;
  AlignedState got_state, want_state;
  arm::A64State &got = *got_state.get(), &want = *want_state.get();
  auto want_memory = std::make_unique<u8[]>(kDataSize);
  unsigned lines = 0, failures = 0, number = 0;
  for (std::string line; std::getline(in, line);) {
    ++number;
    if (line.empty() || line[0] == '#') continue;
    const std::size_t first = line.find('|'), second = line.find('|', first + 1);
    if (second == std::string::npos) {
      ADD_FAILURE() << path << ":" << number << ": two | expected";
      continue;
    }
    ++lines;
    initialise(got, memory);
    initialise(want, memory);
    for (unsigned i = 0; i < kDataSize; ++i) want_memory[i] = pattern(i);
    std::string want_exit, unused, item;
    bool known = true;
    for (std::istringstream inputs(line.substr(first + 1, second - first - 1)); inputs >> item;) {
      known &= assign(got, memory.base + kData, unused, item);
      known &= assign(want, want_memory.get(), unused, item);
    }
    want.pc = kInsn + 4;
    for (std::istringstream outputs(line.substr(second + 1)); outputs >> item;)
      known &= assign(want, want_memory.get(), want_exit, item);
    if (!want_exit.empty()) want.pc = kInsn;
    const u32 word = static_cast<u32>(std::strtoul(line.c_str(), nullptr, 16));
    std::memcpy(memory.base + kInsn, &word, 4);

    run(memory, &got);

    std::string text = difference(got, want);
    if (exit_text(got) != want_exit) text += "  exit: got '" + exit_text(got) + "', want '" + want_exit + "'\n";
    for (unsigned i = 0; i < kDataSize; ++i) {
      if (memory.base[kData + i] == want_memory[i]) continue;
      char buffer[80];
      std::snprintf(buffer, sizeof buffer, "  memory %x: got %02x, want %02x\n", static_cast<unsigned>(kData + i),
                    memory.base[kData + i], want_memory[i]);
      text += buffer;
    }
    if (!known) text += "  unknown name in the line\n";
    if (text.empty()) continue;
    if (++failures <= 20) ADD_FAILURE() << path << ":" << number << ": " << line << "\n" << text;
  }
  EXPECT_EQ(failures, 0u) << "of " << lines << " lines of " << path;
  return lines;
}

}  // namespace kiln::test
