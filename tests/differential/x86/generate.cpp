// Rows → bytes. The decoder under test only says whether the bytes drawn are the row's; that it is right about them, and about
// their length, is what the processor checks.
#include <algorithm>
#include <cstring>
#include <fstream>
#include <set>
#include <sstream>

#include "frontends/x86/operands.h"
#include "tests/differential/x86/case.h"

namespace kiln::test::x86diff {

using x86::CodeSize;
using x86::Encoding;
using x86::Insn;
using x86::OperandKind;
using x86::PrefixRule;
using x86::Row;

namespace {

Encoding encoding(const Row& row, unsigned n) { return static_cast<Encoding>(row.encoding[n]); }
bool is_name(const Row& row, std::initializer_list<const char*> names) {
  return std::any_of(names.begin(), names.end(), [&](const char* n) { return std::strcmp(row.name, n) == 0; });
}
bool is_string(const Row& row) {
  return row.map == 0 && ((row.opcode >= 0xa4 && row.opcode <= 0xa7) || (row.opcode >= 0xaa && row.opcode <= 0xaf));
}
bool has_operand(const Row& row, Encoding e) {
  for (unsigned n = 0; n < 4; ++n)
    if (encoding(row, n) == e) return true;
  return false;
}

/// Rounds, or raises flags of MXCSR.
bool computes_in_float(const Row& row) {
  const std::string group = group_of(row), name = row.name;
  if (group == "mmx" || group == "sse" || group == "avx") {
    if (name.find("cvt") != name.npos) return true;
    for (const char* end : {"ss", "sd", "ps", "pd"})
      if (name.ends_with(end)) return true;
  }
  return false;
}

bool loads_segment(const Row& row) {
  if (row.map == 0) return row.opcode == 0x8e || row.opcode == 0x07 || row.opcode == 0x17 || row.opcode == 0x1f;
  return row.map == 1 && (row.opcode == 0xa1 || row.opcode == 0xa9);
}

/// Flags that /proc/cpuinfo names.
std::set<std::string> host_flags() {
  std::ifstream in("/proc/cpuinfo");
  std::set<std::string> out;
  for (std::string line; std::getline(in, line);) {
    if (!line.starts_with("flags")) continue;
    std::istringstream words(line.substr(line.find(':') + 1));
    for (std::string word; words >> word;) out.insert(word);
    break;
  }
  return out;
}
bool host_has(unsigned feature) {
  static const std::vector<bool> have = [] {
    const std::set<std::string> flags = host_flags();
    std::vector<bool> v;
#define FEATURE(name, leaf, subleaf, reg, bit, flag, since) v.push_back(*flag == 0 || flags.contains(flag));
#include "frontends/x86/features.def"
#undef FEATURE
    return v;
  }();
  return feature == 0 || have[feature - 1];
}

/// Privileged instructions that an operating system lets user code have after all (UMIP's emulation), or that leave no trace to
/// compare.
bool unpredictable(const Row& row) {
  // Not random for the sake of whoever runs them alone; here they are contained.
  if (is_name(row, {"int3", "int", "into", "syscall", "les", "lds", "lss", "lfs", "lgs", "verr", "verw", "lar", "lsl"}))
    return false;
  if (loads_segment(row) || std::strstr(row.name, "sbase")) return false;
  if ((row.flags & x86::kRowNoRandom) && !(row.flags & x86::kRowPrivileged)) return true;
  // AMD: SYSENTER and SYSEXIT are #UD in long mode.
  // AMD: 0F 0D with a register is #UD; Intel's NOP.
  if (row.map == 1 && row.opcode == 0x0d && row.mod_rule == 2) return true;
  return is_name(row, {"sldt", "str", "sgdt", "sidt", "smsw", "sysexit", "sysenter"});
}

u64 boundary(Random& r) {
  static constexpr u8 kBits[] = {0, 1, 3, 4, 7, 8, 15, 16, 31, 32, 47, 62, 63};
  const u64 v = u64{1} << kBits[r.below(std::size(kBits))];
  switch (r.below(5)) {
    case 0: return v - 1;
    case 1: return 0 - v;
    case 2: return v + 1;
    case 3: return ~v;
    default: return v;
  }
}
u64 value(Random& r) {
  switch (r.below(8)) {
    case 0: return r.below(256);
    case 1: return 0 - r.below(256);
    case 2: return boundary(r);
    case 3: return r.next() & 0xffffffff;
    case 4: return kScratch + r.below(kScratchBytes);
    default: return r.next();
  }
}

// --- floating-point operands ------------------------------------------------------------------------------------------------

u32 float32(Random& r) {
  static constexpr u32 kSpecial[] = {0,          1,          0x007fffff, 0x00800000, 0x3f800000, 0x3f7fffff, 0x40000000,
                                     0x4b000000, 0x4b7fffff, 0x4f000000, 0x5f000000, 0x7f7fffff, 0x7f800000, 0x7f800001,
                                     0x7fbfffff, 0x7fc00000, 0x7fffffff, 0x3f000000, 0x3fc00000, 0x40200000};
  const u32 sign = static_cast<u32>(r.below(2)) << 31;
  switch (r.below(4)) {
    case 0: return kSpecial[r.below(std::size(kSpecial))] | sign;
    case 1: return static_cast<u32>(r.next());
    case 2: return sign | static_cast<u32>(112 + r.below(32)) << 23 | static_cast<u32>(r.next() & 0x7fffff);
    default: return sign | static_cast<u32>(126 + r.below(4)) << 23 | static_cast<u32>(r.next() & 0x7f0000);
  }
}
u64 float64(Random& r) {
  static constexpr u64 kSpecial[] = {0,
                                     1,
                                     0x000fffffffffffff,
                                     0x0010000000000000,
                                     0x3ff0000000000000,
                                     0x3fefffffffffffff,
                                     0x4000000000000000,
                                     0x41e0000000000000,
                                     0x41dfffffffffffff,
                                     0x43e0000000000000,
                                     0x7fefffffffffffff,
                                     0x7ff0000000000000,
                                     0x7ff0000000000001,
                                     0x7ff7ffffffffffff,
                                     0x7ff8000000000000,
                                     0x7fffffffffffffff,
                                     0x3fe0000000000000,
                                     0x3ff8000000000000,
                                     0x4330000000000000};
  const u64 sign = r.below(2) << 63;
  switch (r.below(4)) {
    case 0: return kSpecial[r.below(std::size(kSpecial))] | sign;
    case 1: return r.next();
    case 2: return sign | (1007 + r.below(48)) << 52 | (r.next() & 0xfffffffffffff);
    default: return sign | (1022 + r.below(4)) << 52 | (r.next() & 0xff00000000000);
  }
}
V128 vector(Random& r) {
  V128 v{};
  switch (r.below(4)) {
    case 0:
      for (u32& lane : v.s) lane = float32(r);
      break;
    case 1:
      for (u64& lane : v.d) lane = float64(r);
      break;
    case 2:
      for (u64& lane : v.d) lane = value(r);
      break;
    default:
      for (u64& lane : v.d) lane = r.next();
  }
  return v;
}
/// Extended precision with its pseudo-denormals, unnormals, pseudo-infinities.
V128 float80(Random& r) {
  V128 v{};
  static constexpr u16 kExponents[] = {0,      1,      2,      0x3c00, 0x3f80, 0x3ffe, 0x3fff, 0x4000,
                                       0x4001, 0x400e, 0x401e, 0x403e, 0x43fe, 0x7ffe, 0x7fff};
  const u64 sign = r.below(2) << 15;
  switch (r.below(6)) {
    case 0:
      v.d[1] = sign | kExponents[r.below(std::size(kExponents))];
      v.d[0] = r.percent(80) ? u64{1} << 63 | (r.percent(50) ? 0 : boundary(r)) : r.percent(50) ? boundary(r) : 0;
      break;
    case 1:
      v.d[1] = sign | (0x3fff + r.below(66) - 1);
      v.d[0] = u64{1} << 63 | r.next();
      break;
    case 2:  // whole numbers and halves
      v.d[1] = sign | (0x3fff + r.below(16));
      v.d[0] = u64{1} << 63 | (r.next() & 0x7ff0000000000000);
      break;
    case 3:
      v.d[1] = sign | (0x3f80 + r.below(0x100));
      v.d[0] = u64{1} << 63 | r.next();
      break;
    case 4:
      v.d[1] = sign | r.below(0x8000);
      v.d[0] = u64{1} << 63 | r.next();
      break;
    default: v.d[1] = r.next() & 0xffff; v.d[0] = r.next();
  }
  return v;
}

void put(std::vector<u8>& out, u64 v, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) out.push_back(static_cast<u8>(v >> (8 * i)));
}

/// Status flags that a condition code looks at (SDM vol. 1, appendix B).
u32 flags_of_condition(unsigned cc) {
  static constexpr u32 kReads[8] = {x86::kOf,
                                    x86::kCf,
                                    x86::kZf,
                                    x86::kCf | x86::kZf,
                                    x86::kSf,
                                    x86::kPf,
                                    x86::kSf | x86::kOf,
                                    x86::kSf | x86::kOf | x86::kZf};
  return kReads[cc >> 1 & 7];
}

}  // namespace

const char* group_of(const Row& row) {
  bool vector = false, mmx = false;
  for (unsigned n = 0; n < 4; ++n) {
    const Encoding e = encoding(row, n);
    vector |= e == Encoding::V || e == Encoding::W || e == Encoding::U || e == Encoding::H;
    mmx |= e == Encoding::P || e == Encoding::Q || e == Encoding::N;
  }
  if (row.map >= 4) return vector || is_name(row, {"vzeroupper", "vzeroall", "vldmxcsr", "vstmxcsr"}) ? "avx" : "general";
  if ((row.map == 0 && row.opcode >= 0xd8 && row.opcode <= 0xdf) || is_name(row, {"fwait"})) return "x87";
  if (vector) return "sse";
  if (mmx || is_name(row, {"emms"})) return "mmx";
  if (row.map == 1 && row.opcode == 0xae) return "sse";
  return "general";
}

void normalise(State& s) {
  if (s.fsw & ~s.fcw & 0x3f) s.fsw |= 0x8080;
  else s.fsw &= 0x7f7f;
}

void start_segments(State& s) {
  s.selector[x86::ES] = s.selector[x86::DS] = s.selector[x86::SS] = kDataSelector;
  s.selector[x86::FS] = kFsSelector;
  s.selector[x86::GS] = kGsSelector;
  s.fs_base = kFsBase;
  s.gs_base = kGsBase;
}

u32 flags_read(const Row& row, unsigned param) { return row.opcode_count == 16 ? flags_of_condition(param) : row.reads; }

namespace {
/// Adds what `row` does to the undefined flags; false if it looks at one.
bool track_undefined(const Row& row, unsigned param, u32& undefined, bool after_branch) {
  if (flags_read(row, param) & undefined) return false;
  // Shifts and repeated string instructions may write nothing.
  const bool shift = row.map == 0 ? (row.opcode & 0xfe) == 0xc0 || (row.opcode & 0xfc) == 0xd0 : (row.opcode & 0xf6) == 0xa4;
  // Behind a branch it may be jumped over.
  undefined = (undefined | row.undefined) & ~(shift || is_string(row) || after_branch ? 0u : u32{row.writes});
  return true;
}
}  // namespace

bool well_defined(const Sequence& sequence) {
  u32 undefined = 0;
  bool after_branch = false;
  for (const Piece& p : sequence.pieces) {
    if (!p.row) return true;
    const Insn insn = x86::decode(p.bytes.data(), p.bytes.size(), kCode, static_cast<u32>(sequence.mode)).insn;
    if (!track_undefined(*p.row, insn.param, undefined, after_branch)) return false;
    after_branch |= p.target != 0xff || p.row->size_rule == 2;
  }
  return true;
}

void fill_memory_image(Random& r, Memory& image) {
  auto* bytes = reinterpret_cast<u8*>(&image);
  for (std::size_t at = 0; at < sizeof image; at += 16) {
    V128 v = vector(r);
    if (r.percent(25)) v = float80(r);
    std::memcpy(bytes + at, &v, 16);
  }
}

Generator::Generator(CodeSize mode, const std::string& select, unsigned max_length) : mode_(mode), max_length_(max_length) {
  const auto rows = x86::instruction_rows();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (!can_draw(rows[i])) continue;
    if (!select.empty() && select != rows[i].name && select != group_of(rows[i])) continue;
    rows_.push_back(static_cast<u16>(i));
    if (computes_in_float(rows[i])) float_rows_.push_back(static_cast<u16>(i));
  }
}

bool Generator::can_draw(const Row& row) const {
  const bool is64 = mode_ == CodeSize::Bits64;
  return !unpredictable(row) && host_has(row.feature) && (row.code_rule == 0 || (row.code_rule == 2) == is64);
}

bool Generator::draw_piece(Random& r, const Row& row, Sequence& sequence, u32& undefined) {
  const bool is64 = mode_ == CodeSize::Bits64;
  const PrefixRule rule = static_cast<PrefixRule>(row.prefix_rule);
  const bool vex = row.map >= 4;
  const bool branch = has_operand(row, Encoding::J);
  std::vector<u8> out;
  bool p67 = false;
  // Legacy prefixes, in any order but in front of REX.
  if (r.percent(8))
    out.push_back(is64 || r.percent(30) ? static_cast<u8>(0x64 + r.below(2))
                                        : std::array<u8, 4>{0x26, 0x2e, 0x36, 0x3e}[r.below(4)]);
  if (is64 && r.percent(3)) out.push_back(std::array<u8, 4>{0x26, 0x2e, 0x36, 0x3e}[r.below(4)]);
  if (r.percent(row.has_modrm || is_string(row) || has_operand(row, Encoding::O) ? 10 : 4)) {
    out.push_back(0x67);
    p67 = true;
  }
  if (!vex) {
    switch (rule) {
      case PrefixRule::P66: out.push_back(0x66); break;
      case PrefixRule::F3:
        if (r.percent(25) && row.size_rule != 2) out.push_back(0x66);
        out.push_back(0xf3);
        break;
      case PrefixRule::F2:
        if (r.percent(25) && row.size_rule != 2) out.push_back(0x66);
        out.push_back(0xf2);
        break;
      case PrefixRule::NoneAtAll: break;
      default:
        // 66 on near branches: Intel ignores it in 64-bit code, AMD does not (named list in README.md).
        if (r.percent(25) && row.size_rule != 2 && !(branch && !r.percent(5))) out.push_back(0x66);
        if (rule == PrefixRule::Any &&
            (is_string(row) ? r.percent(60) : r.percent(2) && row.map == 0 && (row.opcode & 0xfe) != 0xe0))
          out.push_back(r.percent(50) ? 0xf3 : 0xf2);
        if ((row.flags & x86::kRowLock) ? r.percent(25) : r.percent(1)) out.push_back(0xf0);
    }
    if (is64) {
      u8 rex = 0;
      if (row.w_rule == 2) rex = static_cast<u8>(0x48 | r.below(8));
      else if (r.percent(60)) rex = static_cast<u8>(0x40 | (row.w_rule == 1 ? r.below(8) : r.below(16)));
      if (rex) out.push_back(rex);
    }
    if (row.map >= 1) out.push_back(0x0f);
    if (row.map >= 2) out.push_back(row.map == 2 ? 0x38 : 0x3a);
  } else {
    bool uses_vvvv = false;
    for (unsigned n = 0; n < 4; ++n) uses_vvvv |= encoding(row, n) == Encoding::H || encoding(row, n) == Encoding::B;
    const unsigned map = row.map & 3;
    const u8 pp = rule == PrefixRule::P66 ? 1 : rule == PrefixRule::F3 ? 2 : rule == PrefixRule::F2 ? 3 : 0;
    const u8 l = row.l_rule ? row.l_rule - 1 : static_cast<u8>(r.below(2));
    // AMD: #UD for VEX.W in 32-bit code where 64-bit code would move 64 bits; Intel ignores it.
    const bool no_w = !is64 && is_name(row, {"vpinsrd", "vpextrd"});
    const u8 w = row.w_rule ? row.w_rule - 1 : no_w ? 0 : static_cast<u8>(r.below(2));
    u8 vvvv = uses_vvvv || r.percent(1) ? static_cast<u8>(r.below(16)) : 15;
    if (!is64 && r.percent(90)) vvvv |= 8;
    const u8 last = static_cast<u8>(vvvv << 3 | l << 2 | pp);
    if (map == 1 && w == 0 && r.percent(50)) {
      out.push_back(0xc5);
      out.push_back(static_cast<u8>((is64 ? r.below(2) << 7 : 0x80) | last));
    } else {
      out.push_back(0xc4);
      const u64 rxb = is64 ? r.below(8) << 5 : 0xc0 | r.below(2) << 5;
      out.push_back(static_cast<u8>(rxb | map));
      out.push_back(static_cast<u8>(w << 7 | last));
    }
  }
  out.push_back(static_cast<u8>(row.opcode + (row.opcode_count > 1 ? r.below(row.opcode_count) : 0)));

  Piece piece;
  piece.row = &row;
  if (row.has_modrm) {
    u8 modrm = static_cast<u8>(r.next());
    if (row.modrm >= 0) {
      modrm = static_cast<u8>(row.modrm);
    } else {
      const bool memory = row.mod_rule == 1 || (row.mod_rule == 0 && r.percent(50));
      const u8 mod = memory ? static_cast<u8>(r.below(3)) : 3;
      modrm = static_cast<u8>(mod << 6 | (modrm & 63));
      if (row.reg >= 0) modrm = static_cast<u8>((modrm & 0xc7) | row.reg << 3);
    }
    out.push_back(modrm);
    const u8 mod = modrm >> 6, rm = modrm & 7;
    if (mod != 3) {
      if (!is64 && p67) {
        if (mod == 0 && rm == 6) put(out, kLow + r.below(kLowBytes), 2);
        else if (mod == 1) out.push_back(static_cast<u8>(r.next()));
        else if (mod == 2) put(out, r.percent(80) ? r.below(0x400) - 0x200 : r.next(), 2);
      } else {
        u8 base = rm;
        if (rm == 4) {
          const u8 sib = static_cast<u8>(r.next());
          out.push_back(sib);
          base = sib & 7;
        }
        const s64 small = static_cast<s64>(r.below(0x800)) - 0x400;
        if (mod == 1) {
          out.push_back(static_cast<u8>(r.next()));
        } else if (mod == 2) {
          put(out, r.percent(95) ? static_cast<u64>(small) : r.next(), 4);
        } else if (base == 5) {
          if (rm == 5 && is64) {
            piece.rip_disp_at = static_cast<u8>(out.size());
            piece.rip_disp_target = static_cast<s64>(kScratch + r.below(kScratchBytes));
            if (r.percent(50)) piece.rip_disp_target &= ~s64{31};
            put(out, 0, 4);
          } else {
            put(out,
                rm == 5 ? kScratch + (r.percent(50) ? r.below(kScratchBytes) & ~u64{31} : r.below(kScratchBytes))
                        : static_cast<u64>(small),
                4);
          }
        }
      }
    }
  }
  const std::size_t header = out.size();
  if (header > 15) return false;
  std::vector<u8> probe = out;
  for (unsigned i = 0; i < 16; ++i) probe.push_back(static_cast<u8>(r.next()));
  const x86::DecodeResult d = x86::decode(probe.data(), 15, kCode, mode_word());
  const bool illegal_lock = std::find(out.begin(), out.end(), 0xf0) != out.end() && !(row.flags & x86::kRowLock);
  if (d.insn.row != &row) {
    // AMD: LOCK MOV CR0 is another way to CR8.
    if (illegal_lock && has_operand(row, Encoding::C)) return false;
    // Wanted now and then: LOCK where it is not allowed, vvvv where it is not used.
    if (d.insn.row != nullptr || d.insn.length < header || !(illegal_lock || (vex && r.percent(20)))) return false;
    piece.row = nullptr;
    piece.bytes.assign(probe.begin(), probe.begin() + static_cast<long>(header));
    piece.rip_disp_at = 0;
    sequence.pieces.push_back(piece);
    return true;
  }
  const Insn& insn = d.insn;
  if (insn.length < header) return false;
  const unsigned tail = insn.length - static_cast<unsigned>(header);
  // Immediates.
  if (tail) {
    u64 v = r.percent(50) ? boundary(r) : r.next();
    if (has_operand(row, Encoding::O))
      v = insn.address_bytes == 2 ? kLow + r.below(kLowBytes) : kScratch + r.below(kScratchBytes);
    if (is_name(row, {"enter"})) v = r.below(0x80) | (r.percent(60) ? 0 : r.below(40)) << 16;
    if (is_name(row, {"ret"})) v = r.below(0x100);
    put(out, v, tail > 8 ? 8 : tail);
    if (tail > 8) put(out, r.next(), tail - 8);
  }
  piece.bytes = out;
  if (branch) {
    piece.displacement_at = static_cast<u8>(header);
    piece.displacement_bytes = static_cast<u8>(tail);
    piece.target = static_cast<u8>(sequence.pieces.size() + 1 + r.below(3));  // clamped when assembled
  }
  if (is_name(row, {"shld", "shrd"}) && insn.operand_bytes == 2) {
    if (tail && (piece.bytes.back() & 31) > 16) return false;
    if (!tail && !sequence.pieces.empty()) return false;
    sequence.double_shift |= !tail;
  }
  // A selector out of memory may be that of the segment whose limit is the processor's number.
  if (is_name(row, {"lsl"}) && insn.op[1].kind == OperandKind::Mem) return false;
  // AMD: no 64-bit offsets.
  if (is_name(row, {"lss", "lfs", "lgs"}) && insn.operand_bytes == 8) return false;
  if (std::strncmp(row.name, "xsave", 5) == 0 || std::strncmp(row.name, "xrstor", 6) == 0 ||
      is_name(row, {"fxsave", "fxrstor"})) {
    if (!sequence.pieces.empty()) return false;
    sequence.xsave = true;
    sequence.ends = true;  // MXCSR_MASK in memory is the processor's own
  }
  // Flags whose value is undefined must not be looked at.
  const bool after_branch = std::any_of(sequence.pieces.begin(), sequence.pieces.end(),
                                        [](const Piece& p) { return p.target != 0xff || (p.row && p.row->size_rule == 2); });
  if (!track_undefined(row, insn.param, undefined, after_branch)) return false;
  note_uses(r, insn, sequence);
  if (is_name(row, {"div", "idiv"})) sequence.divides = true;
  sequence.pieces.push_back(piece);
  return true;
}

void Generator::note_uses(Random& r, const Insn& insn, Sequence& sequence) const {
  const Row& row = *insn.row;
  const bool is64 = mode_ == CodeSize::Bits64;
  const auto segment = [&](x86::Seg seg) { return seg == x86::FS ? kFsBase : seg == x86::GS ? kGsBase : 0; };
  const auto simple = [&](s8 base, u16 bytes, u64 add) {
    sequence.uses.push_back({base, -1, 0, insn.address_bytes, false, add, bytes, 1});
    if (insn.address_bytes == 2) sequence.uses_low = true;
  };
  for (const x86::Operand& o : insn.op) {
    if (o.kind != OperandKind::Mem) continue;
    MemoryUse use;
    const x86::MemRef& m = insn.mem;
    use.address_bytes = m.address_bytes;
    use.base = m.base == x86::MemRef::kRip ? -1 : m.base;
    use.index = m.index;
    use.scale_log2 = m.scale_log2;
    use.vector_index = (row.flags & x86::kRowVsib) != 0;
    use.add = (m.base == x86::MemRef::kRip ? 0 : static_cast<u64>(m.disp)) + segment(m.seg);
    use.bytes = o.bytes ? o.bytes : 64;
    if (is_name(row, {"fxsave", "fxrstor"})) use.bytes = 512;
    if (std::strncmp(row.name, "xsave", 5) == 0 || std::strncmp(row.name, "xrstor", 6) == 0) use.bytes = 832;
    use.alignment = use.bytes >= 512 ? 64 : 32;
    if (m.address_bytes == 2) sequence.uses_low = true;
    sequence.uses.push_back(use);
    // Bit strings: the offset's register reaches far.
    if (is_name(row, {"bt", "bts", "btr", "btc"}) && insn.op[1].kind == OperandKind::Gpr)
      sequence.small_registers |= u64{1} << insn.op[1].reg;
    break;
  }
  // Far pointers and stack slots seldom hold selectors by chance: registers do.
  if (loads_segment(row) || is_name(row, {"les", "lds", "lss", "lfs", "lgs"}) || std::strstr(row.name, "sbase")) {
    sequence.changes_segments = true;
    // Later accesses would go through whatever was loaded.
    if (!is64) sequence.ends = true;
  }
  if (loads_segment(row) || is_name(row, {"verr", "verw", "lar", "lsl"})) sequence.selectors = true;
  if (has_operand(row, Encoding::Cl)) sequence.small_counter |= r.percent(50);
  if ((insn.rep || insn.repne) && is_string(row)) sequence.small_counter = true;
  if (is_string(row)) {
    simple(x86::RSI, 64, segment(insn.mem.seg));
    simple(x86::RDI, 64, 0);
  } else if (is_name(row, {"xlat"})) {
    simple(x86::RBX, 256, segment(insn.mem.seg));
  } else if (std::strstr(row.name, "maskmov") && row.mod_rule == 2) {
    simple(x86::RDI, 16, segment(insn.mem.seg));
  } else if (is_name(row, {"leave", "enter"})) {
    sequence.uses.push_back({x86::RBP, -1, 0, static_cast<u8>(is64 ? 8 : 4), false, 0, 64, 1});
  }
}

void Generator::draw_wild(Random& r, Sequence& sequence) {
  sequence.wild = true;
  const unsigned count = 1 + static_cast<unsigned>(r.below(2));
  for (unsigned n = 0; n < count; ++n) {
    u8 bytes[16];
    for (u8& b : bytes) b = static_cast<u8>(r.next());
    unsigned at = 0;
    if (r.percent(30)) bytes[at++] = std::array<u8, 6>{0x66, 0xf2, 0xf3, 0x67, 0xf0, 0x65}[r.below(6)];
    if (mode_ == CodeSize::Bits64 && r.percent(30)) bytes[at++] = static_cast<u8>(0x40 | r.below(16));
    if (r.percent(60)) bytes[at++] = 0x0f;
    if (at && bytes[at - 1] == 0x0f && r.percent(30)) bytes[at++] = r.percent(50) ? 0x38 : 0x3a;
    const x86::DecodeResult d = x86::decode(bytes, 15, kCode, mode_word());
    Piece piece;
    piece.row = d.insn.row;
    if (piece.row &&
        (unpredictable(*piece.row) || !host_has(piece.row->feature) || has_operand(*piece.row, Encoding::J) ||
         is_name(*piece.row, {"shld", "shrd", "lss", "lfs", "lgs", "lsl"}) || is_name(*piece.row, {"ret", "jmp", "call"})))
      continue;
    piece.bytes.assign(bytes, bytes + (d.insn.row ? d.insn.length : 15));
    // A 32-bit SYSCALL or SYSENTER comes back elsewhere.
    if (mode_ != CodeSize::Bits64 && !piece.row && at && bytes[at - 1] == 0x0f && (bytes[at] == 0x05 || bytes[at] == 0x34))
      continue;
    if (d.insn.row) note_uses(r, d.insn, sequence);
    if (piece.row && (std::strstr(piece.row->name, "xsave") || std::strstr(piece.row->name, "xrstor"))) sequence.xsave = true;
    const bool undefined = d.insn.row == nullptr;
    sequence.pieces.push_back(piece);
    if (undefined || sequence.ends) break;
  }
  if (!well_defined(sequence)) sequence.pieces.clear();
}

Sequence Generator::draw(Random& r, std::vector<RowStatistics>& statistics) {
  const auto rows = x86::instruction_rows();
  Sequence sequence;
  sequence.mode = mode_;
  if (r.percent(2)) {
    draw_wild(r, sequence);
    if (!sequence.pieces.empty()) return sequence;
    sequence = {};
    sequence.mode = mode_;
  }
  unsigned length = r.percent(40) ? 1 : 1 + static_cast<unsigned>(r.below(max_length_));
  // A fault in front of floating point: nothing behind it may have raised a flag.
  bool float_follows = false;
  u32 undefined = 0;
  u64 written = 0;
  for (unsigned n = 0; n < length; ++n) {
    // The first instruction goes through the rows in turn, so that all are met; the others are random.
    const u16 id = n == 0                          ? rows_[next_++ % rows_.size()]
                   : float_follows && r.percent(80) ? float_rows_[r.below(float_rows_.size())]
                                                   : rows_[r.below(rows_.size())];
    bool done = false;
    for (unsigned attempt = 0; attempt < 40 && !done; ++attempt) {
      const Sequence before = sequence;
      const u32 undefined_before = undefined;
      if (!draw_piece(r, rows[id], sequence, undefined)) continue;
      // Addresses from registers that the sequence has written are mostly wild: fewer of those.
      if (sequence.pieces.back().row && sequence.uses.size() > before.uses.size()) {
        const MemoryUse& use = sequence.uses.back();
        const bool bad =
            (use.base >= 0 && (written >> use.base & 1)) || (use.index >= 0 && !use.vector_index && (written >> use.index & 1));
        if (bad && r.percent(80)) {
          sequence = before;
          undefined = undefined_before;
          continue;
        }
      }
      done = true;
    }
    if (!done) {
      ++statistics[id].failed_to_draw;
      if (n == 0) --n;  // another row
      continue;
    }
    ++statistics[id].drawn;
    const Piece& piece = sequence.pieces.back();
    if (!piece.row || sequence.ends) break;
    if (!float_follows && !sequence.uses.empty() && !float_rows_.empty() && n < 2 && r.percent(15)) {
      float_follows = true;
      sequence.faulting_use = static_cast<s8>(sequence.uses.size() - 1);
      length = std::max(length, n + 2 + static_cast<unsigned>(r.below(3)));
    }
    const Insn insn = x86::decode(piece.bytes.data(), piece.bytes.size(), kCode, mode_word()).insn;
    for (unsigned k = 0; k < 2; ++k)
      if (insn.op[k].kind == OperandKind::Gpr) written |= u64{1} << insn.op[k].reg;
    if (!insn.row->has_modrm) written |= 0xc7;  // implicit operands
  }
  return sequence;
}

State Generator::draw_state(Random& r, const Sequence& sequence, unsigned slot) const {
  const bool is64 = mode_ == CodeSize::Bits64;
  State s{};
  for (u64& reg : s.r) reg = value(r);
  const u64 end = slot_address(slot) + code_bytes(sequence);
  if (r.percent(20)) s.r[r.below(16)] = end;
  if (sequence.small_counter && r.percent(90))
    s.r[x86::RCX] = (r.next() & ~u64{0xffffffff}) * (is64 ? r.below(2) : 0) | r.below(20);
  if (sequence.small_counter && is64 && r.percent(80)) s.r[x86::RCX] &= 0xff;
  if (sequence.divides && r.percent(80)) {
    s.r[x86::RDX] = r.percent(30) ? r.below(16) : r.percent(60) ? 0 : static_cast<u64>(static_cast<s64>(s.r[x86::RAX]) >> 63);
    for (unsigned i = 3; i < 16; ++i)
      if (i != x86::RSP && r.percent(60)) s.r[i] = r.percent(30) ? boundary(r) : r.next() >> r.below(60);
  }
  for (unsigned i = 0; i < 16; ++i)
    if ((sequence.small_registers >> i & 1) && r.percent(85)) s.r[i] = r.below(0x2000) - 0x1000;
  u64 fixed = 0;
  if (r.percent(97)) {
    s.r[x86::RSP] = kScratch + (r.percent(90)   ? 0x400 + (r.below(0x1800) & (r.percent(80) ? ~u64{15} : ~u64{0}))
                                : r.percent(50) ? r.below(24)
                                                : kScratchBytes - r.below(24));
    fixed |= 1u << x86::RSP;
  }
  for (const MemoryUse& use : sequence.uses) {
    if (r.percent(3)) continue;
    // Where it should lie: mostly well inside and aligned, sometimes across the middle, sometimes over an edge.
    const u64 size = use.bytes;
    u64 at;
    const u64 where = r.below(100);
    if (where < 45) at = (0x200 + r.below(kScratchBytes - 0x400)) & ~(u64{use.alignment} * 2 - 1);
    else if (where < 85) at = 0x200 + r.below(kScratchBytes - 0x400 - (size > 0x200 ? 0x300 : 0));
    else if (where < 93) at = kPage - r.below(size + 1);
    else if (where < 97) at = kScratchBytes - r.below(2 * size + 1);
    else at = 0 - r.below(size + 4);
    if (&use - sequence.uses.data() == sequence.faulting_use && r.percent(60)) at = kScratchBytes + r.below(kPage / 2);
    const u64 target = (use.address_bytes == 2 ? kLow : kScratch) + at;
    const u64 mask = use.address_bytes == 8 ? ~u64{0} : use.address_bytes == 4 ? 0xffffffff : 0xffff;
    const auto set = [&](unsigned reg, u64 v) {
      s.r[reg] = (v & mask) | (s.r[reg] & ~mask);
      fixed |= u64{1} << reg;
    };
    if (use.vector_index) {
      if (use.index >= 0) {
        for (unsigned lane = 0; lane < 4; ++lane) {
          s.xmm[use.index].s[lane] = static_cast<u32>(r.below(200) - 100);
          s.ymm_high[use.index].s[lane] = static_cast<u32>(r.below(200) - 100);
        }
        if (r.percent(50))  // as I64 indices
          for (V128* v : {&s.xmm[use.index], &s.ymm_high[use.index]})
            for (u64& lane : v->d) lane = static_cast<u64>(static_cast<s64>(r.below(200)) - 100);
      }
    } else if (use.index >= 0 && use.index != use.base && !(fixed >> use.index & 1) && use.base >= 0) {
      set(static_cast<unsigned>(use.index), r.below(128) - 32);
    }
    u64 rest = target - use.add;
    const bool scalar_index = use.index >= 0 && !use.vector_index;
    if (use.base >= 0 && scalar_index && use.base == use.index) {
      if (!(fixed >> use.base & 1)) set(static_cast<unsigned>(use.base), (rest & mask) / (1 + (u64{1} << use.scale_log2)));
    } else if (use.base >= 0 && !(fixed >> use.base & 1)) {
      if (scalar_index) rest -= s.r[use.index] << use.scale_log2;
      set(static_cast<unsigned>(use.base), rest);
    } else if (scalar_index && !(fixed >> use.index & 1)) {
      if (use.base >= 0) rest -= s.r[use.base];
      if (use.base < 0) set(static_cast<unsigned>(use.index), (rest & mask) >> use.scale_log2);
    }
  }
  if (sequence.selectors)
    for (unsigned i = 0; i < 16; ++i) {
      static constexpr u16 kSelectors[] = {0, 3, 0x23, 0x2b, 0x28, 0x33, 0x07, 0x0f, 0x04, 0x10, 0x17, 0x40, 0x63, 0xffff};
      if (i == x86::RSP || (fixed >> i & 1) || !r.percent(85)) continue;
      s.r[i] = (s.r[i] & ~u64{0xffff}) | kSelectors[r.below(std::size(kSelectors))];
    }
  if (sequence.double_shift) s.r[x86::RCX] = (s.r[x86::RCX] & ~u64{31}) | r.below(17);
  if (sequence.xsave) {
    s.r[x86::RAX] &= 7;
    s.r[x86::RDX] = 0;
  }
  if (!is64)
    for (unsigned i = 0; i < 16; ++i) s.r[i] = i < 8 ? s.r[i] & 0xffffffff : 0;
  s.rip = slot_address(slot);
  start_segments(s);
  s.rflags = (r.next() & x86::kStatusFlags) | x86::kIf | 2 | (r.percent(15) ? x86::kDf : 0) | (r.percent(3) ? x86::kAc : 0);
  for (unsigned i = 0; i < 16; ++i) {
    const bool there = is64 || i < 8;
    bool indexed = false;
    for (const MemoryUse& use : sequence.uses) indexed |= use.vector_index && use.index == static_cast<s8>(i);
    if (!there) {
      s.xmm[i] = s.ymm_high[i] = {};
    } else if (!indexed) {
      s.xmm[i] = vector(r);
      s.ymm_high[i] = r.percent(20) ? V128{} : vector(r);
    }
  }
  for (V128& st : s.st) st = float80(r);
  s.ftw = static_cast<u8>(r.percent(40) ? 0xff : r.percent(30) ? 0 : r.next());
  s.fsw = static_cast<u16>(r.next() & 0x7f00);  // TOP and condition bits
  if (r.percent(50)) s.fsw &= 0x4700;
  if (r.percent(20)) s.fsw |= static_cast<u16>(r.next() & 0x7f);
  s.fcw = static_cast<u16>(0x37f & ~(r.percent(40) ? 0 : r.next() & 0xf00)) |
          static_cast<u16>(r.percent(50) ? 0 : r.next() & 0xc00);
  if ((s.fcw & 0x300) == 0x100 && r.percent(90)) s.fcw |= 0x200;
  if (r.percent(3)) s.fcw &= static_cast<u16>(~(r.next() & 0x3f));
  // Pending exceptions that are unmasked are in the summary bits too.
  normalise(s);
  s.mxcsr = 0x1f80 | static_cast<u32>(r.percent(50) ? 0 : r.next() & 0x6000) |
            static_cast<u32>(r.percent(70) ? 0 : r.next() & 0x8040) | static_cast<u32>(r.percent(70) ? 0 : r.next() & 0x3f);
  if (r.percent(3)) s.mxcsr &= ~static_cast<u32>(r.next() & 0x1f80);
  return s;
}

// --- code -------------------------------------------------------------------------------------------------------------------

unsigned code_bytes(const Sequence& sequence) {
  std::size_t n = 0;
  for (const Piece& p : sequence.pieces) n += p.bytes.size();
  return static_cast<unsigned>(n);
}

std::array<u8, kSlotBytes> assemble(const Sequence& sequence, unsigned slot) {
  std::array<u8, kSlotBytes> code;
  code.fill(0xcc);
  std::vector<unsigned> starts;
  unsigned at = 0;
  for (const Piece& p : sequence.pieces) {
    starts.push_back(at);
    std::memcpy(code.data() + at, p.bytes.data(), p.bytes.size());
    at += static_cast<unsigned>(p.bytes.size());
  }
  starts.push_back(at);
  for (std::size_t i = 0; i < sequence.pieces.size(); ++i) {
    const Piece& p = sequence.pieces[i];
    const unsigned next = starts[i + 1];
    if (p.target != 0xff) {
      const u64 relative = starts[std::min<std::size_t>(p.target, sequence.pieces.size())] - u64{next};
      std::memcpy(code.data() + starts[i] + p.displacement_at, &relative, p.displacement_bytes);
    }
    if (p.rip_disp_at) {
      const u32 disp = static_cast<u32>(static_cast<u64>(p.rip_disp_target) - (slot_address(slot) + next));
      std::memcpy(code.data() + starts[i] + p.rip_disp_at, &disp, 4);
    }
  }
  return code;
}

}  // namespace kiln::test::x86diff
