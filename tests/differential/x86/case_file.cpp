// Cases as lines of text, for tests that need no processor to ask: tests/frontends/x86/*.txt.
//   MODE HEXBYTES text | input | what is different afterwards
// Input: names with values in hex; what is not named is 0, eflags=202 mxcsr=1f80 fcw=37f, rip=20000000; memory is pattern().
// Output: what changed, `exit=VECTOR[:ERROR[:ADDRESS]]` if it did not run on to the INT3 behind it. Memory: mADDRESS=HEXBYTES.
#include <fmt/format.h>

#include <cstdlib>
#include <cstring>
#include <sstream>

#include "tests/differential/x86/case.h"

namespace kiln::test::x86diff {

namespace {

constexpr const char* kGpr[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                  "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

/// Everything of a state by name.
template <class Number, class Vector>
void fields(State& s, Number&& number, Vector&& vector) {
  for (unsigned i = 0; i < 16; ++i) number(std::string(kGpr[i]), s.r[i]);
  number(std::string("rip"), s.rip);
  number(std::string("eflags"), s.rflags);
  number(std::string("mxcsr"), s.mxcsr);
  number(std::string("fcw"), s.fcw);
  number(std::string("fsw"), s.fsw);
  number(std::string("ftw"), s.ftw);
  static constexpr const char* kSegments[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
  for (unsigned i = 0; i < 6; ++i)
    if (i != x86::CS) number(std::string(kSegments[i]), s.selector[i]);
  number(std::string("fs_base"), s.fs_base);
  number(std::string("gs_base"), s.gs_base);
  for (unsigned i = 0; i < 16; ++i) {
    vector(fmt::format("xmm{}", i), s.xmm[i]);
    vector(fmt::format("ymm{}h", i), s.ymm_high[i]);
  }
  for (unsigned i = 0; i < 8; ++i) vector(fmt::format("R{}", i), s.st[i]);
}

std::string changes(const State& from, const State& to) {
  std::string out;
  State a = from, b = to;
  std::vector<u64> numbers;
  std::vector<V128> vectors;
  fields(
      a, [&](const std::string&, auto& v) { numbers.push_back(v); },
      [&](const std::string&, V128& v) { vectors.push_back(v); });
  std::size_t n = 0, m = 0;
  fields(
      b,
      [&](const std::string& name, auto& v) {
        if (numbers[n++] != v) out += fmt::format(" {}={:x}", name, v);
      },
      [&](const std::string& name, V128& v) {
        const V128& old = vectors[m++];
        if (old.d[0] != v.d[0] || old.d[1] != v.d[1]) out += fmt::format(" {}={:x}:{:x}", name, v.d[1], v.d[0]);
      });
  return out;
}

std::string memory_changes(const u8* from, const u8* to, u64 bytes, u64 address) {
  std::string out;
  for (u64 i = 0; i < bytes; ++i) {
    if (from[i] == to[i]) continue;
    out += fmt::format(" m{:x}=", address + i);
    for (; i < bytes && from[i] != to[i]; ++i) out += fmt::format("{:02x}", to[i]);
  }
  return out;
}

State plain_state() {
  State s{};
  s.rip = kCode;
  s.rflags = x86::kIf | 2;
  s.mxcsr = 0x1f80;
  s.fcw = 0x37f;
  start_segments(s);
  return s;
}

bool assign(State& s, Memory* memory, Exit* exit, const std::string& item) {
  const std::size_t equals = item.find('=');
  if (equals == std::string::npos) return false;
  const std::string name = item.substr(0, equals), text = item.substr(equals + 1);
  const u64 value = std::strtoull(text.c_str(), nullptr, 16);
  if (name == "exit" && exit != nullptr) {
    char* end = nullptr;
    exit->vector = static_cast<u8>(std::strtoull(text.c_str(), &end, 16));
    if (*end == ':') exit->error = static_cast<u32>(std::strtoull(end + 1, &end, 16));
    if (*end == ':') exit->address = std::strtoull(end + 1, &end, 16);
    return true;
  }
  if (name[0] == 'm' && name != "mxcsr") {
    const u64 address = std::strtoull(name.c_str() + 1, nullptr, 16);
    for (std::size_t i = 0; i + 1 < text.size() && memory != nullptr; i += 2) {
      const u8 byte = static_cast<u8>(std::stoul(text.substr(i, 2), nullptr, 16));
      const u64 at = address + i / 2;
      if (at >= kScratch && at < kScratch + kScratchBytes) memory->scratch[at - kScratch] = byte;
      else if (at >= kLow && at < kLow + kLowBytes) memory->low[at - kLow] = byte;
      else return false;
    }
    return true;
  }
  bool known = false;
  fields(
      s,
      [&](const std::string& n, auto& v) {
        if (n == name) v = static_cast<std::remove_reference_t<decltype(v)>>(value), known = true;
      },
      [&](const std::string& n, V128& v) {
        if (n != name) return;
        const std::size_t colon = text.find(':');
        known = colon != std::string::npos;
        if (known) v = V128{.d = {std::strtoull(text.c_str() + colon + 1, nullptr, 16), value}};
      });
  return known;
}

}  // namespace

void pattern(Memory& memory) {
  auto* bytes = reinterpret_cast<u8*>(&memory);
  for (std::size_t i = 0; i < sizeof memory; ++i) bytes[i] = static_cast<u8>(i * 7 + (i >> 8) * 13 + 3);
}

std::string case_line(const Case& c, const Result& native) {
  const bool is64 = c.sequence->mode == x86::CodeSize::Bits64;
  const auto code = assemble(*c.sequence, c.slot);
  std::string line = fmt::format("{} ", is64 ? 64 : 32), text;
  for (unsigned i = 0; i < code_bytes(*c.sequence); ++i) line += fmt::format("{:02x}", code[i]);
  for (const Piece& p : c.sequence->pieces)
    text += std::string(text.empty() ? " " : "; ") + (p.row ? p.row->name : "undefined");
  line += text + " |" + changes(plain_state(), c.state) + " |";
  Memory start;
  pattern(start);
  State end = native.state;
  end.rflags &= ~u64{x86::kRf};
  if (!is64)
    for (unsigned i = 0; i < 16; ++i) end.r[i] = i < 8 ? end.r[i] & 0xffffffff : 0;
  line += changes(c.state, end) + memory_changes(start.scratch, native.memory.scratch, kScratchBytes, kScratch);
  if (c.sequence->uses_low) line += memory_changes(start.low, native.memory.low, kLowBytes, kLow);
  if (native.exit.vector == x86::kPF)
    line += fmt::format(" exit={:x}:{:x}:{:x}", native.exit.vector, native.exit.error, native.exit.address);
  else if (native.exit.vector != x86::kBP) line += fmt::format(" exit={:x}:{:x}", native.exit.vector, native.exit.error);
  return line;
}

std::string parse_case(const std::string& line, FileCase& out) {
  const std::size_t first = line.find('|'), second = line.find('|', first + 1);
  if (second == std::string::npos) return "two | expected";
  std::istringstream head(line.substr(0, first));
  std::string mode, hex;
  head >> mode >> hex;
  if (mode != "32" && mode != "64") return "32 or 64 expected";
  out.sequence = {};
  out.sequence.mode = mode == "64" ? x86::CodeSize::Bits64 : x86::CodeSize::Bits32;
  out.sequence.uses_low = true;
  std::vector<u8> bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2)
    bytes.push_back(static_cast<u8>(std::stoul(hex.substr(i, 2), nullptr, 16)));
  if (bytes.empty() || bytes.size() > kSlotBytes - 16) return "bad code";
  for (std::size_t at = 0; at < bytes.size();) {
    const x86::Insn insn =
        x86::decode(bytes.data() + at, bytes.size() - at, kCode + at, static_cast<u32>(out.sequence.mode)).insn;
    Piece p;
    p.row = insn.row;
    const std::size_t length = insn.row ? insn.length : bytes.size() - at;
    p.bytes.assign(bytes.begin() + static_cast<long>(at), bytes.begin() + static_cast<long>(at + length));
    if (p.row && std::strstr(p.row->name, "save")) out.sequence.xsave = true;
    out.sequence.pieces.push_back(p);
    at += length;
  }
  out.start = plain_state();
  pattern(out.memory);
  for (auto [from, to] : {std::pair{first + 1, second}}) {
    std::istringstream items(line.substr(from, to - from));
    for (std::string item; items >> item;)
      if (!assign(out.start, &out.memory, nullptr, item)) return "unknown: " + item;
  }
  out.expected.state = out.start;
  out.expected.memory = out.memory;
  out.expected.exit = {x86::kBP, 0, 0};
  std::istringstream items(line.substr(second + 1));
  for (std::string item; items >> item;)
    if (!assign(out.expected.state, &out.expected.memory, &out.expected.exit, item)) return "unknown: " + item;
  return {};
}

}  // namespace kiln::test::x86diff
