// What must be equal after a case, and what need not.
// Left out, beside the rows' u= flags:
//   - RF of the saved flags: the kernel's doing at faults.
//   - an address outside the guest's part of the address space: #GP or #PF (the guest's space is smaller than the processor's).
//   - the write bit of a page fault by an instruction that reads before it writes: the processor asks for write access at once.
//   - a jump to a non-canonical address: #GP comes from the branch on the processor, from the fetch at the target in Kiln.
//   - MXCSR_MASK's bit 17 in images of FXSAVE and XSAVE (AMD's misaligned mode; Kiln's processors do not have it).
//   - the address of a page fault within operands of 32 bytes and more and masked ones; XSAVE and its like at a fault (what is
//   written
//     before it), MASKMOV and VMASKMOV with a mask of zero (whether they fault).
//   - memory near a page fault by a store of more than 8 bytes, part of which may be done (SDM vol. 3, 9.1.1).
//   - POPA's registers after a page fault half way (AMD: those read so far have changed); the requested privilege level of a
//   null
//     selector, which a return from the kernel clears.
//   - POP through CS: what it reads may fault before the write does.
//   - LSL of the segment whose limit is the processor's number: both sides need not run on the same one.
//   - REP MOVS with 16-bit addresses and junk above them: AMD's microcode looks for overlap in the whole registers and then
//   copies
//     overlapping operands in blocks.
//   - #MF or #GP first when an x87 or MMX instruction writes through CS while an exception is pending.
//   - #AC or #GP first when FXSAVE writes through CS with EFLAGS.AC.
//   - a gather's mask after a fault: AMD leaves the bits below the sign of elements to come.
//   - x87 tags and TOP when CVTPS2PI and its like raise #XM: AMD has gone to MMX state by then.
//   - MXCSR's bit 17 (AMD) where LDMXCSR and its like set it.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "frontends/x86/insn.h"
#include "tests/differential/x86/case.h"

namespace kiln::test::x86diff {

namespace {

constexpr const char* kGpr[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                  "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};

struct Report {
  std::string text, first;
  void say(const std::string& what, const std::string& native, const std::string& kiln) {
    if (first.empty()) first = what;
    text += fmt::format("  {:8} processor {}  kiln {}\n", what, native, kiln);
  }
  void number(const std::string& what, u64 native, u64 kiln) {
    if (native != kiln) say(what, fmt::format("{:x}", native), fmt::format("{:x}", kiln));
  }
  void vector(const std::string& what, const V128& native, const V128& kiln) {
    if (native.d[0] != kiln.d[0] || native.d[1] != kiln.d[1])
      say(what, fmt::format("{:016x}:{:016x}", native.d[1], native.d[0]), fmt::format("{:016x}:{:016x}", kiln.d[1], kiln.d[0]));
  }
};

/// Status flags that are undefined at the end: in order as far as the code is straight, all that ever were if it branches.
u32 undefined_flags(const Case& c, u64 rip) {
  const Sequence& s = *c.sequence;
  bool branches = s.wild;
  for (const Piece& p : s.pieces) branches |= p.target != 0xff || (p.row && p.row->size_rule == 2);
  u32 undefined = 0;
  u64 at = slot_address(c.slot);
  for (const Piece& p : s.pieces) {
    // An instruction that faulted has done nothing; a REP that faulted half way may have set flags, which are then defined.
    if (!branches && at >= rip) break;
    if (p.row) undefined = (undefined | p.row->undefined) & ~(branches || may_write_nothing(*p.row) ? 0u : u32{p.row->writes});
    at += p.bytes.size();
  }
  return undefined;
}

/// The piece that stands at `rip`, if any.
const x86::Row* row_at(const Case& c, u64 rip) {
  u64 at = slot_address(c.slot);
  for (const Piece& p : c.sequence->pieces) {
    if (at == rip) return p.row;
    at += p.bytes.size();
  }
  return nullptr;
}
bool named(const x86::Row* row, const char* part) { return row != nullptr && std::strstr(row->name, part) != nullptr; }

/// How far apart the addresses of a page fault may be: large operands and masked ones are not touched from their first byte on.
u64 touched(const Case& c, u64 rip) {
  const x86::Row* row = row_at(c, rip);
  if (row == nullptr) return 1;
  if (named(row, "xsave") || named(row, "xrstor")) return 1024;
  if (named(row, "save") || named(row, "rstor")) return 512;
  if (named(row, "maskmov") || named(row, "fldenv") || named(row, "fnstenv") || row->map >= 4) return 32;
  return 1;
}

/// The mask register of the gather at `rip`.
unsigned gather_mask(const Case& c, u64 rip) {
  u64 at = slot_address(c.slot);
  for (const Piece& p : c.sequence->pieces) {
    if (at == rip) return x86::decode(p.bytes.data(), p.bytes.size(), at, static_cast<u32>(c.sequence->mode)).insn.vvvv;
    at += p.bytes.size();
  }
  return 16;
}

bool outside(u64 address) { return address >= (u64{1} << 43); }

}  // namespace

bool may_write_nothing(const x86::Row& row) {
  if (row.map == 0)
    return row.opcode == 0xa6 || row.opcode == 0xa7 || row.opcode == 0xae || row.opcode == 0xaf || row.opcode == 0xc0 ||
           row.opcode == 0xc1 || (row.opcode >= 0xd0 && row.opcode <= 0xd3);
  return row.map == 1 && (row.opcode == 0xa4 || row.opcode == 0xa5 || row.opcode == 0xac || row.opcode == 0xad);
}

namespace {

/// Whether some instruction of the sequence is called `name` (and its Insn is as `test` says).
template <class Test>
bool has_insn(const Case& c, const char* name, Test test) {
  u64 at = slot_address(c.slot);
  for (const Piece& p : c.sequence->pieces) {
    if (named(p.row, name) && test(x86::decode(p.bytes.data(), p.bytes.size(), at, static_cast<u32>(c.sequence->mode)).insn))
      return true;
    at += p.bytes.size();
  }
  return false;
}

}  // namespace

std::string difference(const Case& c, const Result& native, const Result& kiln, std::string* first, const u32* undefined) {
  const State &n = native.state, &k = kiln.state;
  Report r;
  if (native.exit.vector == Exit::kUnknown || (native.exit.vector == Exit::kHung && kiln.exit.vector == Exit::kHung)) return {};
  const bool is64 = c.sequence->mode == x86::CodeSize::Bits64;
  // Nothing that Kiln knows: whatever the processor does is not ours, if only it knows the instruction.
  if (kiln.exit.vector == x86::kUD && native.exit.vector != x86::kUD && c.sequence->pieces.back().row == nullptr &&
      c.sequence->wild)
    return {};
  if (kiln.exit.vector == x86::kUD && c.sequence->wild && c.sequence->pieces.back().row == nullptr && n.rip > k.rip) return {};

  if (!is64 &&
      has_insn(c, "movs", [](const x86::Insn& i) { return i.row->map == 0 && i.address_bytes == 2 && (i.rep || i.repne); }))
    return {};
  if (has_insn(c, "lsl", [](const x86::Insn&) { return true; })) {
    constexpr u64 kProcessors = 0xfff;  // a 16-bit operand leaves what is above it
    for (unsigned i = 0; i < 16; ++i)
      if (n.r[i] != k.r[i] && (n.r[i] ^ k.r[i]) <= kProcessors && (n.r[i] & 0xffff) <= kProcessors) return {};
  }

  Exit ne = native.exit, ke = kiln.exit;
  const x86::Row* faulted = row_at(c, n.rip);
  if ((n.mxcsr | c.state.mxcsr) & 0x20000) return {};
  if (!is64 && (ne.vector == x86::kGP || ke.vector == x86::kGP || ne.vector == x86::kSS) &&
      (named(faulted, "maskmov") || named(row_at(c, k.rip), "maskmov")))
    return {};
  if (!is64 && (ne.vector == x86::kPF || ne.vector == x86::kSS || ne.vector == x86::kAC) && ke.vector == x86::kGP &&
      named(faulted, "pop"))
    return {};
  if (!is64 && ne.vector == x86::kMF && ke.vector == x86::kGP) return {};
  if (!is64 && ne.vector == x86::kAC && ke.vector == x86::kGP && named(faulted, "fxsave")) return {};
  if ((ne.vector == x86::kPF || ne.vector == x86::kGP) &&
      (c.sequence->xsave || named(faulted, "maskmovdqu") || named(faulted, "maskmovq")))
    return {};
  const bool pf = ne.vector == x86::kPF && ke.vector == x86::kPF;
  const bool native_wild = ne.vector == x86::kGP || ne.vector == x86::kSS || (ne.vector == x86::kPF && outside(ne.address));
  const bool kiln_wild = ke.vector == x86::kGP || ke.vector == x86::kSS || (ke.vector == x86::kPF && outside(ke.address));
  if (!pf && is64 && native_wild && kiln_wild && (ne.vector == x86::kPF || ke.vector == x86::kPF)) ke = ne;
  if (ne.vector != ke.vector) r.number("vector", ne.vector, ke.vector);
  else if (pf) {
    const u64 apart = std::min(ne.address - ke.address, ke.address - ne.address);
    if (!(outside(ne.address) && outside(ke.address)) && apart >= touched(c, n.rip)) r.number("cr2", ne.address, ke.address);
    r.number("fetch", ne.error & 16, ke.error & 16);
    if (!(ne.error & 2)) r.number("write", ne.error & 2, ke.error & 2);
  } else if (ne.vector == x86::kGP || ne.vector == x86::kNP || ne.vector == x86::kSS) {
    r.number("error", ne.error, ke.error);
  }
  // The branch itself faults on the processor, the target's fetch in Kiln.
  const u64 sign = k.rip >> 47;
  if (ne.vector == x86::kGP && (ke.vector == x86::kGP || ke.vector == x86::kDB) && is64 && sign != 0 && sign != 0x1ffff)
    return {};
  const bool syscall = ne.vector == Exit::kSyscall && ke.vector == Exit::kSyscall;
  const u64 mask = is64 ? ~u64{0} : 0xffffffff;
  if (!syscall) r.number("rip", n.rip & mask, k.rip & mask);
  for (unsigned i = 0; i < (is64 ? 16u : 8u); ++i) {
    if (pf && named(faulted, "popa")) continue;
    if (syscall && (i == x86::RAX || i == x86::RCX || i == 11)) continue;
    r.number(kGpr[i], n.r[i] & mask, k.r[i] & mask);
  }
  const u64 flags = ~u64{x86::kRf} & ~u64{undefined ? *undefined : undefined_flags(c, n.rip)};
  r.number("eflags", n.rflags & flags, k.rflags & flags);
  r.number("mxcsr", n.mxcsr, k.mxcsr);
  static constexpr const char* kSegments[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
  for (unsigned i = 0; i < 6; ++i)
    if (i != x86::CS && (n.selector[i] | k.selector[i]) > 3) r.number(kSegments[i], n.selector[i], k.selector[i]);
  r.number("fs_base", n.fs_base, k.fs_base);
  r.number("gs_base", n.gs_base, k.gs_base);
  const bool in_gather = ne.vector != x86::kBP && named(faulted, "gather");
  for (unsigned i = 0; i < (is64 ? 16u : 8u); ++i) {
    if (in_gather && i == gather_mask(c, n.rip)) continue;
    r.vector(fmt::format("xmm{}", i), n.xmm[i], k.xmm[i]);
    r.vector(fmt::format("ymm{}h", i), n.ymm_high[i], k.ymm_high[i]);
  }
  r.number("fcw", n.fcw, k.fcw);
  const bool mmx_transition = ne.vector == x86::kXM && faulted != nullptr && faulted->map == 1;
  if (!mmx_transition) {
    r.number("fsw", n.fsw, k.fsw);
    r.number("ftw", n.ftw, k.ftw);
  }
  for (unsigned i = 0; i < 8; ++i) r.vector(fmt::format("R{}", i), n.st[i], k.st[i]);
  const auto memory = [&](const char* what, const u8* a, const u8* b, u64 bytes, u64 address) {
    if (std::memcmp(a, b, bytes) == 0) return;
    unsigned shown = 0;
    for (u64 i = 0; i < bytes && shown < 4; ++i) {
      if (a[i] == b[i]) continue;
      const u64 to_fault = address + i - ne.address + 32;
      if (pf && to_fault < 64 && touched(c, n.rip) > 1) continue;
      const u64 from = i & ~u64{7};
      u64 x, y;
      std::memcpy(&x, a + from, 8);
      std::memcpy(&y, b + from, 8);
      if (c.sequence->xsave && x >> 32 == 0x2ffff && y >> 32 == 0xffff) y |= u64{0x20000} << 32;
      if (x == y) {
        i = from + 7;
        continue;
      }
      if (shown == 0 && r.first.empty()) r.first = what;
      r.say(fmt::format("[{:x}]", address + from), fmt::format("{:016x}", x), fmt::format("{:016x}", y));
      ++shown;
      i = from + 7;
    }
  };
  memory("memory", native.memory.scratch, kiln.memory.scratch, kScratchBytes, kScratch);
  if (c.sequence->uses_low) memory("memory", native.memory.low, kiln.memory.low, kLowBytes, kLow);
  if (first) *first = r.first;
  return r.text;
}

std::string describe(const Case& c) {
  std::string out =
      fmt::format("  mode {}, slot {}, image {}\n", c.sequence->mode == x86::CodeSize::Bits64 ? 64 : 32, c.slot, c.image);
  const auto code = assemble(*c.sequence, c.slot);
  unsigned at = 0;
  for (const Piece& p : c.sequence->pieces) {
    std::string bytes;
    for (std::size_t i = 0; i < p.bytes.size(); ++i) bytes += fmt::format("{:02x} ", code[at + i]);
    out += fmt::format("  {:x}: {:46} {} {}\n", slot_address(c.slot) + at, bytes, p.row ? p.row->name : "(undefined)",
                       p.row ? p.row->text : "");
    at += static_cast<unsigned>(p.bytes.size());
  }
  const State& s = c.state;
  out += " ";
  for (unsigned i = 0; i < 16; ++i)
    if (s.r[i]) out += fmt::format(" {}={:x}", kGpr[i], s.r[i]);
  out += fmt::format(" eflags={:x} mxcsr={:x} fcw={:x} fsw={:x} ftw={:x}\n", s.rflags, s.mxcsr, s.fcw, s.fsw, s.ftw);
  const auto vector = [&](const char* name, unsigned i, const V128& v) {
    if (v.d[0] | v.d[1]) out += fmt::format("  {}{}={:016x}:{:016x}\n", name, i, v.d[1], v.d[0]);
  };
  for (unsigned i = 0; i < 16; ++i) vector("xmm", i, s.xmm[i]), vector("ymmh", i, s.ymm_high[i]);
  for (unsigned i = 0; i < 8; ++i) vector("R", i, s.st[i]);
  return out;
}

}  // namespace kiln::test::x86diff
