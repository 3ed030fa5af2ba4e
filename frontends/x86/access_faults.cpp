// Which exception an access raises that generated code has only noticed to be impossible: the host tells a non-canonical
// address as #GP and an address behind 4 GiB as a page fault, a misaligned one is found before its segment is looked at. The
// instruction says the rest.
#include <cstring>
#include <string_view>

#include "frontends/x86/insn.h"
#include "frontends/x86/operands.h"
#include "frontends/x86/x86.h"

namespace kiln::x86 {

namespace {
constexpr bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

/// Pushes or pops beside what its operands say.
bool uses_stack(const Row& row) {
  for (const char* name :
       {"push", "pop", "pusha", "popa", "pushf", "popf", "call", "ret", "callf", "retf", "iret", "enter", "leave"})
    if (std::strcmp(row.name, name) == 0) return true;
  return false;
}
bool is_push(const Row& row) {
  for (const char* name : {"push", "pusha", "pushf", "call", "callf", "enter"})
    if (std::strcmp(row.name, name) == 0) return true;
  return false;
}
bool is_string(const Row& row) {
  return row.map == 0 && ((row.opcode >= 0xa4 && row.opcode <= 0xa7) || (row.opcode >= 0xaa && row.opcode <= 0xaf));
}

/// An operand in memory: an offset in a segment.
struct Access {
  Seg seg;
  u64 offset;
  unsigned bytes;
  unsigned first = 0;    // not 0: so many bytes are accessed first, and the rest then
  unsigned element = 0;  // not 0: by elements of so many bytes
};

u64 linear(const X86State& s, const Insn& insn, const Access& a) {
  if (insn.code != CodeSize::Bits64) return static_cast<u32>(a.offset + s.seg_base[a.seg]);
  return a.offset + (a.seg == FS || a.seg == GS ? s.seg_base[a.seg] : 0);
}

/// Reaches beyond its segment, or is not canonical.
bool is_outside(const X86State& s, const Insn& insn, const Access& a) {
  const u64 last = a.bytes ? a.bytes - 1u : 0u;
  if (insn.code == CodeSize::Bits64) {
    const u64 address = linear(s, insn, a);
    return !canonical(address) || !canonical(address + last);
  }
  const bool expands_down = (s.seg_rights[a.seg] & 0xc) == 4;
  const u64 limit = expands_down ? 0xffffffff : s.seg_limit[a.seg];
  return static_cast<u32>(a.offset) + last > limit;
}

u8 vector_of(Seg seg) { return seg == SS ? kSS : kGP; }

bool explicit_operand(const X86State& s, const Insn& insn, Access& out) {
  for (const Operand& o : insn.op) {
    if (o.kind != OperandKind::Mem) continue;
    const MemRef& m = insn.mem;
    u64 offset = static_cast<u64>(m.disp);
    if (m.base >= 0 && m.base != MemRef::kRip) offset += s.r[m.base];
    if (m.index >= 0) offset += s.r[m.index] << m.scale_log2;
    if (std::strncmp(insn.row->name, "bt", 2) == 0 && insn.op[1].kind == OperandKind::Gpr) {  // the bit string's element
      const unsigned bits = 8 * insn.operand_bytes;
      const s64 bit = static_cast<s64>(s.r[insn.op[1].reg] << (64 - bits)) >> (64 - bits);
      offset += static_cast<u64>((bit >> (bits == 64 ? 6 : bits == 32 ? 5 : 4)) * insn.operand_bytes);
    }
    if (m.address_bytes != 8) offset &= m.address_bytes == 4 ? 0xffffffff : 0xffff;
    out = {m.seg, offset, o.bytes, 0};
    const std::string_view name = insn.row->name;
    if (name == "bound") out.bytes = 2u * insn.operand_bytes;
    if (name == "bound" || static_cast<Size>(insn.row->size[&o - insn.op]) == Size::s) out.first = insn.operand_bytes;
    if (o.bytes == 10) out.first = 8;
    if (name.find("maskmov") != name.npos)
      out.element = name.ends_with("d") && !name.ends_with("pd") ? 4 : name.ends_with("s") ? 4 : 8;
    if (name == "fldenv" || name == "fnstenv" || name == "frstor" || name == "fnsave") out.bytes = insn.operand_bytes == 2 ? 2 : 4;
    return true;
  }
  return false;
}
/// What a string instruction reads at rSI or writes (SCAS: reads) at rDI; false: it does not.
bool string_operand(const X86State& s, const Insn& insn, Gpr r, Access& out) {
  if (!is_string(*insn.row)) return false;
  const unsigned which = insn.row->opcode & 0xfe;
  constexpr unsigned kMovs = 0xa4, kCmps = 0xa6, kLods = 0xac;
  if (r == RSI ? which != kMovs && which != kCmps && which != kLods : which == kLods) return false;
  const u64 mask = insn.address_bytes == 8 ? ~u64{0} : insn.address_bytes == 4 ? 0xffffffff : 0xffff;
  out = {r == RSI ? insn.mem.seg : ES, s.r[r] & mask, insn.row->opcode & 1 ? insn.operand_bytes : 1u};
  return true;
}
bool stack_operand(const X86State& s, const Insn& insn, Access& out) {
  if (!uses_stack(*insn.row)) return false;
  const bool is64 = insn.code == CodeSize::Bits64;
  u64 offset = s.r[std::strcmp(insn.row->name, "leave") == 0 ? RBP : RSP] - (is_push(*insn.row) ? insn.operand_bytes : 0u);
  if (!is64) offset = static_cast<u32>(offset);
  out = {SS, offset, insn.operand_bytes};
  return true;
}

}  // namespace

u8 non_canonical_vector(const X86State& s, const u8* code, std::size_t size) {
  const Insn insn = decode(code, size, s.pc, s.mode).insn;
  if (insn.row == nullptr) return kGP;
  const bool stack = uses_stack(*insn.row);
  // POP reads the stack before it writes its operand.
  if (Access a; std::strcmp(insn.row->name, "pop") == 0 && stack_operand(s, insn, a) && is_outside(s, insn, a)) return kSS;
  if (Access a; explicit_operand(s, insn, a))
    if (!stack || (insn.row->flags & kRowVsib) || is_outside(s, insn, a)) return vector_of(a.seg);
  return stack ? kSS : kGP;
}

u8 beyond_segment_vector(const X86State& s, const u8* code, std::size_t size, u64 address) {
  const Insn insn = decode(code, size, s.pc, s.mode).insn;
  if (insn.row == nullptr) return 0;
  const std::string_view name = insn.row->name;
  const auto holds = [&](Access a) {
    const u32 into = static_cast<u32>(address) - static_cast<u32>(linear(s, insn, a));
    if (into >= (a.bytes ? a.bytes : 1u)) return false;
    if (a.element) a = {a.seg, a.offset + into / a.element * a.element, a.element};
    else if (into < a.first) a.bytes = a.first;
    else a = {a.seg, a.offset + a.first, a.bytes - a.first};
    return is_outside(s, insn, a);
  };
  Access a;
  if ((insn.row->flags & kRowVsib) && explicit_operand(s, insn, a))  // the element begins where it failed
    return is_outside(s, insn, {a.seg, static_cast<u32>(address - s.seg_base[a.seg]), a.bytes}) ? vector_of(a.seg) : 0;
  if (explicit_operand(s, insn, a) && holds(a)) return vector_of(a.seg);
  for (Gpr r : {RSI, RDI})
    if (string_operand(s, insn, r, a) && holds(a)) return vector_of(a.seg);
  if (stack_operand(s, insn, a) && holds(a)) return kSS;
  if (name == "enter") {  // frame pointers are copied from below rBP
    const u32 below = static_cast<u32>(s.r[RBP]) - static_cast<u32>(address - s.seg_base[SS]);
    const u32 slots = (below + insn.operand_bytes - 1) / insn.operand_bytes;
    if (slots < 32 && holds({SS, static_cast<u32>(s.r[RBP] - u64{slots} * insn.operand_bytes), insn.operand_bytes})) return kSS;
  }
  return 0;
}

u8 alignment_vector(const X86State& s, const u8* code, std::size_t size) {
  if ((s.mode & kModeAlignmentCheck) == 0) return kGP;
  const Insn insn = decode(code, size, s.pc, s.mode).insn;
  if (insn.row == nullptr) return kAC;
  Access a;
  const bool pops = std::strcmp(insn.row->name, "pop") == 0;
  if (explicit_operand(s, insn, a) && !pops) {
    if (is_outside(s, insn, a)) return vector_of(a.seg);
    if (a.bytes && linear(s, insn, a) % a.bytes != 0) return kAC;
  }
  for (Gpr r : {RSI, RDI}) {
    if (!string_operand(s, insn, r, a)) continue;
    if (is_outside(s, insn, a)) return vector_of(a.seg);
    if (linear(s, insn, a) % a.bytes != 0) return kAC;
  }
  if (stack_operand(s, insn, a)) {
    if (is_outside(s, insn, a)) return kSS;
    if (linear(s, insn, a) % a.bytes != 0) return kAC;
  }
  if (pops && explicit_operand(s, insn, a) && is_outside(s, insn, a)) return vector_of(a.seg);
  if (std::strcmp(insn.row->name, "enter") == 0 && (insn.imm2 & 31) > 1) {  // the first frame pointer that is copied
    const u64 below = s.r[RBP] - insn.operand_bytes;
    a = {SS, insn.code == CodeSize::Bits64 ? below : static_cast<u32>(below), insn.operand_bytes};
    if (linear(s, insn, a) % a.bytes != 0 && is_outside(s, insn, a)) return kSS;
  }
  return kAC;
}

}  // namespace kiln::x86
