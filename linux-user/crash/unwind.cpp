// DWARF 5, 6.4 (call frame information), with .eh_frame's differences (LSB, "Exception Frames"). Only what compilers emit; what is
// not understood ends the table's use for that frame.
#include "linux-user/crash/unwind.h"

#include <array>
#include <cstring>

namespace kiln::user {
namespace {

constexpr unsigned kColumns = 34;

class Reader {
 public:
  explicit Reader(std::span<const u8> data) : data_(data) {}
  bool ok() const { return ok_; }
  bool at_end() const { return !ok_ || at_ >= data_.size(); }
  std::size_t at() const { return at_; }
  void seek(std::size_t at) { at_ = at; }
  template <class T>
  T fixed() {
    T v{};
    if (data_.size() - std::min(at_, data_.size()) < sizeof v) return ok_ = false, v;
    std::memcpy(&v, data_.data() + at_, sizeof v);
    at_ += sizeof v;
    return v;
  }
  u8 byte() { return fixed<u8>(); }
  u64 uleb() {
    u64 v = 0;
    for (unsigned shift = 0;; shift += 7) {
      const u8 b = byte();
      if (shift < 64) v |= u64{b & 0x7fu} << shift;
      if (!(b & 0x80) || !ok_) return v;
    }
  }
  s64 sleb() {
    u64 v = 0;
    for (unsigned shift = 0;;) {
      const u8 b = byte();
      if (shift < 64) v |= u64{b & 0x7fu} << shift;
      shift += 7;
      if ((b & 0x80) && ok_) continue;
      if ((b & 0x40) && shift < 64) v |= ~u64{0} << shift;
      return static_cast<s64>(v);
    }
  }
  std::span<const u8> block(u64 size) {
    if (size > data_.size() - std::min(at_, data_.size())) return ok_ = false, std::span<const u8>{};
    const auto part = data_.subspan(at_, size);
    at_ += size;
    return part;
  }

 private:
  std::span<const u8> data_;
  std::size_t at_ = 0;
  bool ok_ = true;
};

struct Rule {
  enum Kind : u8 { Same, Undefined, Offset, ValueOffset, Register, Expression, ValueExpression } kind = Same;
  s64 offset = 0;
  std::span<const u8> expression;
};
struct Row {
  unsigned cfa_register = 0;
  s64 cfa_offset = 0;
  std::span<const u8> cfa_expression;
  std::array<Rule, kColumns> rules;
};

struct Entry {  // of one CIE
  u64 code_factor = 1, ra = 0;
  s64 data_factor = 1;
  u8 pointer_encoding = 0;
  bool augmented = false, signal_frame = false;
  std::span<const u8> instructions;
};

struct Frame {
  std::array<u64, kColumns> r{};
  u64 pc = 0;
};

class Unwinder {
 public:
  Unwinder(Process& process, GuestFiles& files, const CrashAbi& abi) : memory_(process.memory), files_(files), abi_(abi), bytes_(process.abi->guest->pointer_bits / 8) {}

  /// To the caller. False: not known.
  bool step(Frame& frame, bool is_return, bool& was_signal) {
    Row row;
    unsigned ra = abi_.ra;
    if (find_row(frame.pc - (is_return ? 1 : 0), row, ra, was_signal)) return apply(frame, row, ra);
    was_signal = false;
    return by_frame_pointer(frame);
  }

 private:
  bool word(u64 at, u64& value) {
    value = 0;
    return memory_.read(at, &value, bytes_);
  }
  u64 mask(u64 v) const { return bytes_ == 4 ? v & 0xffffffff : v; }

  bool by_frame_pointer(Frame& f) {
    const u64 fp = f.r[abi_.fp];
    u64 next, ra;
    if (fp < f.r[abi_.sp] || (fp & (bytes_ - 1)) || !word(fp, next) || !word(fp + bytes_, ra)) return false;
    f.r[abi_.sp] = fp + 2 * bytes_;
    f.r[abi_.fp] = next;
    f.pc = ra;
    return true;
  }

  bool apply(Frame& f, const Row& row, unsigned ra) {
    u64 cfa;
    if (!row.cfa_expression.empty()) {
      if (!evaluate(row.cfa_expression, f, nullptr, cfa)) return false;
    } else {
      if (row.cfa_register >= kColumns) return false;
      cfa = mask(f.r[row.cfa_register] + static_cast<u64>(row.cfa_offset));
    }
    Frame caller = f;
    caller.r[abi_.sp] = cfa;
    bool end = false;
    for (unsigned i = 0; i < abi_.columns; ++i) {
      const Rule& rule = row.rules[i];
      u64 at = 0;
      switch (rule.kind) {
        case Rule::Same: break;
        case Rule::Undefined: end |= i == ra; break;
        case Rule::Offset:
          if (!word(mask(cfa + static_cast<u64>(rule.offset)), caller.r[i])) return false;
          break;
        case Rule::ValueOffset: caller.r[i] = mask(cfa + static_cast<u64>(rule.offset)); break;
        case Rule::Register:
          if (static_cast<u64>(rule.offset) >= kColumns) return false;
          caller.r[i] = f.r[static_cast<std::size_t>(rule.offset)];
          break;
        case Rule::Expression:
          if (!evaluate(rule.expression, f, &cfa, at) || !word(at, caller.r[i])) return false;
          break;
        case Rule::ValueExpression:
          if (!evaluate(rule.expression, f, &cfa, caller.r[i])) return false;
          break;
      }
    }
    if (end || ra >= kColumns) return false;
    caller.pc = caller.r[ra];
    if (caller.pc == f.pc && caller.r[abi_.sp] == f.r[abi_.sp]) return false;
    f = caller;
    return true;
  }

  /// DWARF 5, 2.5: the stack machine.
  bool evaluate(std::span<const u8> code, const Frame& f, const u64* initial, u64& result) {
    Reader in(code);
    std::vector<u64> s;
    if (initial != nullptr) s.push_back(*initial);
    const auto pop = [&] {
      if (s.empty()) return u64{0};
      const u64 v = s.back();
      s.pop_back();
      return v;
    };
    while (!in.at_end()) {
      const u8 op = in.byte();
      if (op >= 0x30 && op <= 0x4f) s.push_back(op - 0x30u);  // lit
      else if (op >= 0x70 && op <= 0x8f) {                    // breg
        const unsigned r = op - 0x70u;
        const s64 offset = in.sleb();
        if (r >= kColumns) return false;
        // Column 16 of x86-64 and 8 of i386 is the pc.
        s.push_back(mask((r == abi_.ra && abi_.ra != 30 ? f.pc : f.r[r]) + static_cast<u64>(offset)));
      } else {
        u64 v;
        switch (op) {
          case 0x06:
            if (!word(pop(), v)) return false;
            s.push_back(v);
            break;
          case 0x08: s.push_back(in.fixed<u8>()); break;
          case 0x09: s.push_back(static_cast<u64>(static_cast<s64>(in.fixed<s8>()))); break;
          case 0x0a: s.push_back(in.fixed<u16>()); break;
          case 0x0b: s.push_back(static_cast<u64>(static_cast<s64>(in.fixed<s16>()))); break;
          case 0x0c: s.push_back(in.fixed<u32>()); break;
          case 0x10: s.push_back(in.uleb()); break;
          case 0x11: s.push_back(static_cast<u64>(in.sleb())); break;
          case 0x12: s.push_back(s.empty() ? 0 : s.back()); break;
          case 0x1a: v = pop(), s.push_back(pop() & v); break;
          case 0x1c: v = pop(), s.push_back(pop() - v); break;
          case 0x21: v = pop(), s.push_back(pop() | v); break;
          case 0x22: v = pop(), s.push_back(mask(pop() + v)); break;
          case 0x23: s.push_back(mask(pop() + in.uleb())); break;
          case 0x24: v = pop(), s.push_back(pop() << (v & 63)); break;
          case 0x25: v = pop(), s.push_back(pop() >> (v & 63)); break;
          case 0x29: v = pop(), s.push_back(pop() == v); break;
          case 0x2a: v = pop(), s.push_back(static_cast<s64>(pop()) >= static_cast<s64>(v)); break;
          case 0x2b: v = pop(), s.push_back(static_cast<s64>(pop()) > static_cast<s64>(v)); break;
          case 0x2c: v = pop(), s.push_back(static_cast<s64>(pop()) <= static_cast<s64>(v)); break;
          case 0x2d: v = pop(), s.push_back(static_cast<s64>(pop()) < static_cast<s64>(v)); break;
          default: return false;
        }
      }
    }
    if (s.empty() || !in.ok()) return false;
    result = s.back();
    return true;
  }

  /// DW_EH_PE_*: absolute or relative to where it stands, the usual sizes.
  bool pointer(Reader& in, u8 encoding, u64 here, u64& value) const {
    switch (encoding & 0x0f) {
      case 0x00: value = bytes_ == 4 ? in.fixed<u32>() : in.fixed<u64>(); break;
      case 0x02: value = in.fixed<u16>(); break;
      case 0x03: value = in.fixed<u32>(); break;
      case 0x04: value = in.fixed<u64>(); break;
      case 0x0a: value = static_cast<u64>(static_cast<s64>(in.fixed<s16>())); break;
      case 0x0b: value = static_cast<u64>(static_cast<s64>(in.fixed<s32>())); break;
      case 0x0c: value = in.fixed<u64>(); break;
      default: return false;
    }
    if ((encoding & 0x70) == 0x10) value += here;
    else if ((encoding & 0x70) != 0) return false;
    value = mask(value);
    return in.ok();
  }

  bool find_row(GuestAddr pc, Row& row, unsigned& ra, bool& signal_frame) {
    const CodePlace place = files_.place(pc);
    if (place.file == nullptr) return false;
    u64 section = 0;
    const std::span<const u8> data = place.file->eh_frame(section);
    for (std::size_t at = 0; at + 8 <= data.size();) {
      u32 length, id;
      std::memcpy(&length, data.data() + at, 4);
      std::memcpy(&id, data.data() + at + 4, 4);
      if (length == 0 || length == ~u32{0} || length > data.size() - at - 4) break;
      const std::size_t next = at + 4 + length;
      if (id != 0) {
        Entry cie;
        const std::size_t cie_at = at + 4 - id;
        if (cie_at < at && read_cie(data, section, cie_at, cie)) {
          Reader in(data.first(next));
          in.seek(at + 8);
          u64 start = 0, size = 0;
          if (pointer(in, cie.pointer_encoding, section + in.at(), start) && pointer(in, cie.pointer_encoding & 0x0f, 0, size) &&
              place.address >= start && place.address - start < size) {
            if (cie.augmented) in.block(in.uleb());
            ra = static_cast<unsigned>(cie.ra);
            signal_frame = cie.signal_frame;
            Row initial;
            if (!run(cie, cie.instructions, ~u64{0}, start, initial, nullptr)) return false;
            row = initial;
            return in.ok() && run(cie, in.block(next - in.at()), place.address, start, row, &initial);
          }
        }
      }
      at = next;
    }
    return false;
  }

  bool read_cie(std::span<const u8> data, u64 section, std::size_t at, Entry& cie) const {
    u32 length, id;
    if (data.size() < 8 || at > data.size() - 8) return false;
    std::memcpy(&length, data.data() + at, 4);
    std::memcpy(&id, data.data() + at + 4, 4);
    if (id != 0 || length > data.size() - at - 4) return false;
    Reader in(data.first(at + 4 + length));
    in.seek(at + 8);
    const u8 version = in.byte();
    if (version != 1 && version != 3) return false;
    std::string augmentation;
    while (const u8 c = in.byte()) augmentation += static_cast<char>(c);
    cie.code_factor = in.uleb();
    cie.data_factor = in.sleb();
    cie.ra = version == 1 ? in.byte() : in.uleb();
    if (!augmentation.empty()) {
      if (augmentation[0] != 'z') return false;
      cie.augmented = true;
      const u64 size = in.uleb();
      const std::size_t end = in.at() + size;
      for (const char c : augmentation.substr(1)) {
        u64 ignored;
        if (c == 'R') cie.pointer_encoding = in.byte();
        else if (c == 'L') in.byte();
        else if (c == 'P') {
          const u8 encoding = in.byte();
          if (!pointer(in, encoding & 0x7f, section + in.at(), ignored)) return false;
        } else if (c == 'S') cie.signal_frame = true;
        else if (c != 'B') return false;
      }
      in.seek(end);
    }
    cie.instructions = in.block(at + 4 + length - std::min<std::size_t>(in.at(), at + 4 + length));
    return in.ok();
  }

  bool run(const Entry& cie, std::span<const u8> code, u64 pc, u64 start, Row& row, const Row* initial) {
    Reader in(code);
    std::vector<Row> saved;
    u64 at = start;
    const auto rule = [&](u64 reg, Rule::Kind kind, s64 offset, std::span<const u8> expression = {}) {
      if (reg < kColumns) row.rules[reg] = {kind, offset, expression};
    };
    const auto factored = [&](u64 v) { return static_cast<s64>(v) * cie.data_factor; };
    while (!in.at_end()) {
      const u8 op = in.byte();
      const u8 low = op & 0x3f;
      u64 reg;
      switch (op & 0xc0) {
        case 0x40: at += low * cie.code_factor; break;
        case 0x80: rule(low, Rule::Offset, factored(in.uleb())); break;
        case 0xc0:
          if (low < kColumns) row.rules[low] = initial != nullptr ? initial->rules[low] : Rule{};
          break;
        default:
          switch (low) {
            case 0x00: break;
            case 0x01:
              if (!pointer(in, cie.pointer_encoding, 0, at)) return false;
              break;
            case 0x02: at += in.fixed<u8>() * cie.code_factor; break;
            case 0x03: at += in.fixed<u16>() * cie.code_factor; break;
            case 0x04: at += in.fixed<u32>() * cie.code_factor; break;
            case 0x05: reg = in.uleb(), rule(reg, Rule::Offset, factored(in.uleb())); break;
            case 0x06:
              reg = in.uleb();
              if (reg < kColumns) row.rules[reg] = initial != nullptr ? initial->rules[reg] : Rule{};
              break;
            case 0x07: rule(in.uleb(), Rule::Undefined, 0); break;
            case 0x08: rule(in.uleb(), Rule::Same, 0); break;
            case 0x09: reg = in.uleb(), rule(reg, Rule::Register, static_cast<s64>(in.uleb())); break;
            case 0x0a: saved.push_back(row); break;
            case 0x0b:
              if (saved.empty()) return false;
              row = saved.back();
              saved.pop_back();
              break;
            case 0x0c:
              row.cfa_register = static_cast<unsigned>(in.uleb());
              row.cfa_offset = static_cast<s64>(in.uleb());
              row.cfa_expression = {};
              break;
            case 0x0d:
              row.cfa_register = static_cast<unsigned>(in.uleb());
              row.cfa_expression = {};
              break;
            case 0x0e: row.cfa_offset = static_cast<s64>(in.uleb()); break;
            case 0x0f: row.cfa_expression = in.block(in.uleb()); break;
            case 0x10: reg = in.uleb(), rule(reg, Rule::Expression, 0, in.block(in.uleb())); break;
            case 0x11: reg = in.uleb(), rule(reg, Rule::Offset, in.sleb() * cie.data_factor); break;
            case 0x12:
              row.cfa_register = static_cast<unsigned>(in.uleb());
              row.cfa_offset = in.sleb() * cie.data_factor;
              row.cfa_expression = {};
              break;
            case 0x13: row.cfa_offset = in.sleb() * cie.data_factor; break;
            case 0x14: reg = in.uleb(), rule(reg, Rule::ValueOffset, factored(in.uleb())); break;
            case 0x15: reg = in.uleb(), rule(reg, Rule::ValueOffset, in.sleb() * cie.data_factor); break;
            case 0x16: reg = in.uleb(), rule(reg, Rule::ValueExpression, 0, in.block(in.uleb())); break;
            case 0x2d: break;          // AArch64: return address signing changes; we keep addresses unsigned
            case 0x2e: in.uleb(); break;  // GNU_args_size
            default: return false;
          }
      }
      if (at > pc) return in.ok();
    }
    return in.ok();
  }

  MemoryMap& memory_;
  GuestFiles& files_;
  const CrashAbi& abi_;
  unsigned bytes_;
};

}  // namespace

std::vector<GuestAddr> backtrace(Process& process, GuestFiles& files, const CrashAbi& abi, const ir::CpuState* cpu, std::size_t most) {
  Frame frame;
  abi.read(cpu, frame.r.data());
  frame.pc = cpu->pc;
  std::vector<GuestAddr> list{frame.pc};
  Unwinder unwinder(process, files, abi);
  bool is_return = false;
  // A jump through a bad pointer: the caller is the only thing of interest.
  if (process.memory.prot_at(frame.pc) < 0) {
    u64 ra = frame.r[abi.ra];
    const unsigned bytes = process.abi->guest->pointer_bits / 8;
    if (abi.ra != 30) {
      ra = 0;
      if (!process.memory.read(frame.r[abi.sp], &ra, bytes)) return list;
      frame.r[abi.sp] += bytes;
    }
    if (process.memory.prot_at(ra) < 0) return list;
    frame.pc = ra;
    list.push_back(ra);
    is_return = true;
  }
  while (list.size() < most) {
    bool was_signal = false;
    if (!unwinder.step(frame, is_return, was_signal) || frame.pc == 0 || process.memory.prot_at(frame.pc) < 0) break;
    list.push_back(frame.pc);
    is_return = !was_signal;
  }
  return list;
}

}  // namespace kiln::user
