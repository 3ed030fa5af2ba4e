// Bytes → Insn (SDM vol. 2, chapter 2), driven by the generated rows.
#include <cstring>

#include "frontends/x86/features.h"
#include "frontends/x86/operands.h"
#include "frontends/x86/x86_rows.h"

namespace kiln::x86 {
namespace {

constexpr unsigned kMaxBytes = 15;

/// Reads instruction bytes; past the end it gives zeros and remembers.
struct Reader {
  const u8* code;
  std::size_t size;
  unsigned at = 0;
  bool overrun = false;

  u8 peek() {
    if (at < size) return code[at];
    overrun = true;
    return 0;
  }
  u8 byte() {
    const u8 b = peek();
    ++at;
    return b;
  }
  u64 number(unsigned bytes) {
    u64 v = 0;
    for (unsigned i = 0; i < bytes; ++i) v |= u64{byte()} << (8 * i);
    return v;
  }
  s64 signed_number(unsigned bytes) {
    const unsigned shift = 64 - 8 * bytes;
    return static_cast<s64>(number(bytes) << shift) >> shift;
  }
};

struct Prefixes {
  bool p66 = false, p67 = false, lock = false;
  u8 repeat = 0;  // 0xf2, 0xf3: the last one
  Seg seg = kNoSeg;
  u8 rex = 0;
};

class Decoder {
 public:
  Decoder(const u8* code, std::size_t size, GuestAddr pc, u32 mode)
      : in_{code, size < kMaxBytes ? size : kMaxBytes}, mode_(mode) {
    i_.pc = pc;
    i_.code = code_size(mode);
  }

  DecodeResult run() {
    const bool ok = parse();
    DecodeResult result;
    // Out of bytes: either the page ended or the instruction is longer than 15 bytes.
    result.needs_more = in_.overrun && in_.size < kMaxBytes;
    if (!ok || in_.overrun) i_.row = nullptr;
    i_.length = static_cast<u8>(in_.at < kMaxBytes ? in_.at : kMaxBytes);
    i_.next = wrap(i_.pc + i_.length);
    if (i_.row) finish();
    result.insn = i_;
    return result;
  }

 private:
  bool is64() const { return i_.code == CodeSize::Bits64; }
  u64 wrap(u64 address) const { return is64() ? address : address & 0xffffffff; }

  void parse_prefixes() {
    for (;;) {
      const u8 b = in_.peek();
      if (in_.overrun) return;
      bool legacy = true;
      switch (b) {
        case 0x66: p_.p66 = true; break;
        case 0x67: p_.p67 = true; break;
        case 0xf0: p_.lock = true; break;
        case 0xf2:
        case 0xf3: p_.repeat = b; break;
        case 0x26: p_.seg = is64() ? p_.seg : ES; break;
        case 0x2e: p_.seg = is64() ? p_.seg : CS; break;
        case 0x36: p_.seg = is64() ? p_.seg : SS; break;
        case 0x3e: p_.seg = is64() ? p_.seg : DS; break;
        case 0x64: p_.seg = FS; break;
        case 0x65: p_.seg = GS; break;
        default: legacy = false;
      }
      if (!legacy) {
        if (!is64() || (b & 0xf0) != 0x40) return;
        p_.rex = b;  // counts only right before the opcode
        ++in_.at;
        continue;
      }
      p_.rex = 0;
      ++in_.at;
    }
  }

  /// True if a VEX prefix was taken (or must be refused: ok = false).
  bool parse_vex(bool& ok) {
    const u8 b = in_.peek();
    if (b != 0xc4 && b != 0xc5) return false;
    if (!is64()) {
      if (in_.at + 1 >= in_.size) {
        in_.overrun = true;
        return false;
      }
      if (in_.code[in_.at + 1] < 0xc0 || i_.code == CodeSize::Bits16) return false;  // LES, LDS
    }
    if (p_.p66 || p_.repeat || p_.lock || p_.rex) ok = false;
    ++in_.at;
    u8 v = in_.byte();
    r_ = (v & 0x80) == 0;
    if (b == 0xc5) {
      map_ = 5;
    } else {
      x_ = (v & 0x40) == 0;
      b_ = (v & 0x20) == 0;
      const u8 map = v & 31;
      if (map < 1 || map > 3) ok = false;
      map_ = 4 + (map & 3);
      v = in_.byte();
      i_.w = (v & 0x80) != 0;
    }
    i_.vex = true;
    i_.vex256 = (v & 4) != 0;
    i_.vvvv = static_cast<u8>(~(v >> 3) & 15);
    vvvv_given_ = i_.vvvv != 0;
    pp_ = v & 3;
    if (!is64()) {
      r_ = x_ = b_ = false;
      i_.vvvv &= 7;
    }
    return true;
  }

  bool prefix_matches(PrefixRule rule) const {
    if (i_.vex) {
      switch (rule) {
        case PrefixRule::NoneAtAll: return pp_ == 0;
        case PrefixRule::P66: return pp_ == 1;
        case PrefixRule::F3: return pp_ == 2;
        case PrefixRule::F2: return pp_ == 3;
        default: return false;
      }
    }
    switch (rule) {
      case PrefixRule::NoneAtAll: return !p_.p66 && !p_.repeat;
      case PrefixRule::NoRepeat: return !p_.repeat;
      case PrefixRule::P66: return p_.p66 && !p_.repeat;
      case PrefixRule::F3: return p_.repeat == 0xf3;
      case PrefixRule::F2: return p_.repeat == 0xf2;
      default: return true;
    }
  }
  bool matches(const Row& row) const {
    if (row.feature && !has_feature(mode_, row.feature - 1u)) return false;
    if (row.code_rule && (row.code_rule == 1) == is64()) return false;
    if (!prefix_matches(static_cast<PrefixRule>(row.prefix_rule))) return false;
    if (row.w_rule && (row.w_rule == 2) != i_.w) return false;
    if (row.l_rule && (row.l_rule == 2) != i_.vex256) return false;
    if (!row.has_modrm) return true;
    if (row.modrm >= 0 && row.modrm != i_.modrm) return false;
    if (row.reg >= 0 && row.reg != (i_.modrm >> 3 & 7)) return false;
    return row.mod_rule == 0 || (row.mod_rule == 2) == (i_.modrm >= 0xc0);
  }

  bool parse() {
    parse_prefixes();
    bool ok = true;
    if (!parse_vex(ok)) {
      i_.w = (p_.rex & 8) != 0;
      r_ = (p_.rex & 4) != 0;
      x_ = (p_.rex & 2) != 0;
      b_ = (p_.rex & 1) != 0;
      if (in_.peek() == 0x0f) {
        ++in_.at;
        map_ = 1;
        const u8 next = in_.peek();
        if (next == 0x38 || next == 0x3a) {
          ++in_.at;
          map_ = next == 0x38 ? 2 : 3;
        }
      }
    }
    if (!ok) return false;
    opcode_ = in_.byte();
    const unsigned slot = map_ * 256u + opcode_;
    if (kHasModrm[slot]) i_.modrm = in_.peek();
    for (unsigned k = kListStart[slot]; k < kListStart[slot + 1] && !i_.row; ++k)
      if (matches(kRows[kLists[k]])) i_.row = &kRows[kLists[k]];
    if (!i_.row) return false;
    const Row& row = *i_.row;
    i_.param = row.opcode_count == 16 ? opcode_ & 15 : row.param;
    i_.lock = p_.lock;
    i_.rep = p_.repeat == 0xf3;
    i_.repne = p_.repeat == 0xf2;
    set_sizes(row);
    if (row.has_modrm) {
      ++in_.at;
      parse_modrm();
    }
    for (unsigned n = 0; n < 4; ++n)
      if (!parse_operand(n, static_cast<Encoding>(row.encoding[n]), static_cast<Size>(row.size[n]))) return false;
    if (p_.lock && (!(row.flags & kRowLock) || i_.op[0].kind != OperandKind::Mem)) return false;
    // VEX.vvvv is 1111b where no operand uses it (SDM vol. 2, 2.3.5.6).
    if (i_.vex && !uses_vvvv_ && vvvv_given_) return false;
    return true;
  }

  void set_sizes(const Row& row) {
    const bool p66 = p_.p66 && static_cast<PrefixRule>(row.prefix_rule) != PrefixRule::P66;
    if (is64()) {
      i_.operand_bytes = i_.w ? 8 : p66 ? 2 : row.size_rule ? 8 : 4;
      if (row.size_rule == 2) i_.operand_bytes = 8;
      i_.address_bytes = p_.p67 ? 4 : 8;
    } else {
      const bool wide = i_.code == CodeSize::Bits32;
      i_.operand_bytes = wide != p66 ? 4 : 2;
      i_.address_bytes = wide != p_.p67 ? 4 : 2;
    }
  }

  void parse_modrm() {
    const u8 mod = i_.modrm >> 6, rm = i_.modrm & 7;
    MemRef& m = i_.mem;
    m.address_bytes = i_.address_bytes;
    if (mod == 3) return;
    Seg seg = DS;
    if (i_.address_bytes == 2) {
      static constexpr s8 kBase[8] = {RBX, RBX, RBP, RBP, RSI, RDI, RBP, RBX};
      static constexpr s8 kIndex[8] = {RSI, RDI, RSI, RDI, MemRef::kNone, MemRef::kNone, MemRef::kNone, MemRef::kNone};
      m.base = kBase[rm];
      m.index = kIndex[rm];
      if (mod == 0 && rm == 6) {
        m.base = MemRef::kNone;
        m.disp = in_.signed_number(2);
      } else {
        if (m.base == RBP) seg = SS;
        if (mod) m.disp = in_.signed_number(mod);
      }
    } else {
      bool no_base = mod == 0 && rm == 5;
      m.base = static_cast<s8>(rm | (b_ ? 8 : 0));
      if (rm == 4) {
        const u8 sib = in_.byte();
        const s8 index = static_cast<s8>((sib >> 3 & 7) | (x_ ? 8 : 0));
        m.scale_log2 = sib >> 6;
        m.index = index == 4 && !(i_.row->flags & kRowVsib) ? MemRef::kNone : index;
        m.base = static_cast<s8>((sib & 7) | (b_ ? 8 : 0));
        no_base = mod == 0 && (sib & 7) == 5;
      } else if (no_base && is64()) {
        m.base = MemRef::kRip;
      }
      if (no_base && m.base != MemRef::kRip) m.base = MemRef::kNone;
      if (m.base == RSP || m.base == RBP) seg = SS;
      if (no_base) m.disp = in_.signed_number(4);
      else if (mod == 1) m.disp = in_.signed_number(1);
      else if (mod == 2) m.disp = in_.signed_number(4);
    }
    m.seg = p_.seg != kNoSeg ? p_.seg : seg;
  }

  void set_gpr(Operand& o, unsigned number, u8 bytes) {
    o.kind = OperandKind::Gpr;
    o.bytes = bytes;
    o.reg = static_cast<u8>(number);
    if (bytes == 1 && !p_.rex && !i_.vex && number >= 4 && number < 8) {
      o.high = true;
      o.reg = static_cast<u8>(number - 4);
    }
  }
  void set(Operand& o, OperandKind kind, unsigned number, u8 bytes) {
    o.kind = kind;
    o.reg = static_cast<u8>(number);
    o.bytes = bytes;
  }
  /// r/m of register class `kind`, or memory.
  void set_rm(Operand& o, OperandKind kind, u8 bytes) {
    const unsigned rm = i_.modrm & 7u;
    if (i_.modrm < 0xc0) set(o, OperandKind::Mem, 0, bytes);
    else if (kind == OperandKind::Gpr) set_gpr(o, rm | (b_ ? 8u : 0u), bytes);
    else set(o, kind, kind == OperandKind::Xmm ? rm | (b_ ? 8u : 0u) : rm, bytes);
  }

  bool parse_operand(unsigned n, Encoding encoding, Size size) {
    Operand& o = i_.op[n];
    const u8 bytes = size_bytes(size, i_);
    const unsigned reg = (i_.modrm >> 3 & 7u) | (r_ ? 8u : 0u);
    switch (encoding) {
      case Encoding::None: break;
      case Encoding::E:
      case Encoding::M:
      case Encoding::R: set_rm(o, OperandKind::Gpr, bytes); break;
      case Encoding::G: set_gpr(o, reg, bytes); break;
      case Encoding::B:
        uses_vvvv_ = true;
        set_gpr(o, i_.vvvv, bytes);
        break;
      case Encoding::Z: set_gpr(o, (opcode_ & 7u) | (b_ ? 8u : 0u), bytes); break;
      case Encoding::V: set(o, OperandKind::Xmm, reg, bytes); break;
      case Encoding::W:
      case Encoding::U: set_rm(o, OperandKind::Xmm, bytes); break;
      case Encoding::H:
        uses_vvvv_ = true;
        set(o, OperandKind::Xmm, i_.vvvv, bytes);
        break;
      case Encoding::L: set(o, OperandKind::Xmm, (in_.byte() >> 4) & (is64() ? 15u : 7u), bytes); break;
      case Encoding::P: set(o, OperandKind::Mmx, reg & 7, bytes); break;
      case Encoding::Q:
      case Encoding::N: set_rm(o, OperandKind::Mmx, bytes); break;
      case Encoding::T: set(o, OperandKind::X87, i_.modrm & 7u, 10); break;
      case Encoding::S:
        if ((reg & 7) > GS) return false;
        set(o, OperandKind::Segment, reg & 7, 2);
        break;
      case Encoding::C:
        if (reg != 0 && reg != 8 && (reg < 2 || reg > 4)) return false;
        set(o, OperandKind::Control, reg, is64() ? 8 : 4);
        break;
      case Encoding::D:
        if (reg > 7) return false;
        set(o, OperandKind::Debug, reg, is64() ? 8 : 4); break;
      case Encoding::I: {
        set(o, OperandKind::Imm, 0, bytes);
        u64 value = 0;
        switch (size) {
          case Size::b: value = in_.number(1); break;
          case Size::bs: value = static_cast<u64>(in_.signed_number(1)); break;
          case Size::w: value = in_.number(2); break;
          case Size::v: value = in_.number(i_.operand_bytes); break;
          default: value = static_cast<u64>(in_.signed_number(i_.operand_bytes == 2 ? 2 : 4));
        }
        if (seen_imm_) i_.imm2 = value;
        else i_.imm = value;
        seen_imm_ = true;
        break;
      }
      case Encoding::J:
        set(o, OperandKind::Rel, 0, i_.operand_bytes);
        i_.imm = static_cast<u64>(in_.signed_number(size == Size::b ? 1 : i_.operand_bytes == 2 ? 2 : 4));
        break;
      case Encoding::A:
        set(o, OperandKind::FarPointer, 0, static_cast<u8>(2 + i_.operand_bytes));
        i_.imm = in_.number(i_.operand_bytes);
        i_.imm2 = in_.number(2);
        break;
      case Encoding::O:
        set(o, OperandKind::Mem, 0, bytes);
        i_.mem.address_bytes = i_.address_bytes;
        i_.mem.seg = p_.seg != kNoSeg ? p_.seg : DS;
        i_.mem.disp = static_cast<s64>(in_.number(i_.address_bytes));
        break;
      case Encoding::Al: set(o, OperandKind::Gpr, RAX, 1); break;
      case Encoding::Ax: set(o, OperandKind::Gpr, RAX, 2); break;
      case Encoding::Eax: set(o, OperandKind::Gpr, RAX, 4); break;
      case Encoding::Rax: set(o, OperandKind::Gpr, RAX, 8); break;
      case Encoding::RaxV: set(o, OperandKind::Gpr, RAX, i_.operand_bytes); break;
      case Encoding::Cl: set(o, OperandKind::Gpr, RCX, 1); break;
      case Encoding::Dx: set(o, OperandKind::Gpr, RDX, 2); break;
      case Encoding::One:
        set(o, OperandKind::Imm, 0, 1);
        i_.imm = 1;
        break;
      default: set(o, OperandKind::Segment, static_cast<unsigned>(encoding) - static_cast<unsigned>(Encoding::Es), 2);
    }
    return true;
  }

  /// What needs the length.
  void finish() {
    // String instructions, MASKMOV and XLAT have no ModRM memory operand but take overrides.
    if (!i_.row->has_modrm || i_.modrm >= 0xc0) {
      i_.mem.address_bytes = i_.address_bytes;
      i_.mem.seg = p_.seg != kNoSeg ? p_.seg : DS;
    }
    if (i_.mem.base == MemRef::kRip) {
      i_.mem.disp += static_cast<s64>(i_.next);
      if (i_.address_bytes == 4) i_.mem.disp &= 0xffffffff;
    }
    for (const Operand& o : i_.op) {
      if (o.kind != OperandKind::Rel) continue;
      i_.imm = wrap(i_.next + i_.imm);
      if (i_.operand_bytes == 2) i_.imm &= 0xffff;
    }
  }

  Reader in_;
  u32 mode_;
  Insn i_;
  Prefixes p_;
  unsigned map_ = 0;
  u8 opcode_ = 0, pp_ = 0;
  bool r_ = false, x_ = false, b_ = false, uses_vvvv_ = false, vvvv_given_ = false, seen_imm_ = false;
};

}  // namespace

DecodeResult decode(const u8* code, std::size_t size, GuestAddr pc, u32 mode) { return Decoder(code, size, pc, mode).run(); }

}  // namespace kiln::x86
