// Which exception a non-canonical address raises. Generated code leaves that open: the host tells #GP for all, and the
// instruction says the rest.
#include <cstring>

#include "frontends/x86/insn.h"
#include "frontends/x86/x86.h"

namespace kiln::x86 {

namespace {
constexpr bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

/// Pushes or pops beside what its operands say.
bool uses_stack(const Row& row) {
  for (const char* name : {"push", "pop", "pushf", "popf", "call", "ret", "callf", "retf", "iret", "enter", "leave"})
    if (std::strcmp(row.name, name) == 0) return true;
  return false;
}
}  // namespace

u8 non_canonical_vector(const X86State& s, const u8* code, std::size_t size) {
  const Insn insn = decode(code, size, s.pc, s.mode).insn;
  if (insn.row == nullptr) return kGP;
  const bool stack = uses_stack(*insn.row);
  for (const Operand& o : insn.op) {
    if (o.kind != OperandKind::Mem) continue;
    const MemRef& m = insn.mem;
    const u8 vector = m.seg == SS ? kSS : kGP;
    if (!stack || (insn.row->flags & kRowVsib)) return vector;
    u64 address = static_cast<u64>(m.disp);
    if (m.base >= 0 && m.base != MemRef::kRip) address += s.r[m.base];
    if (m.index >= 0) address += s.r[m.index] << m.scale_log2;
    if (m.address_bytes == 4) address &= 0xffffffff;
    if (m.seg == FS || m.seg == GS) address += s.seg_base[m.seg];
    if (!canonical(address) || !canonical(address + (o.bytes ? o.bytes - 1u : 0u))) return vector;
    break;
  }
  return stack ? kSS : kGP;
}

}  // namespace kiln::x86
