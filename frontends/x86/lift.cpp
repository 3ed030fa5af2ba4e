// The block loop and the guest descriptions.
#include <array>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "frontends/x86/features.h"
#include "frontends/x86/lifter.h"
#include "frontends/x86/user_segments.h"
#include "frontends/x86/x86_rows.h"
#include "ir/interpreter.h"

namespace kiln::x86 {

using ir::ExitKind;
using ir::Slot;
using ir::Type;

namespace {

constexpr unsigned kPageBytes = 4096, kMaxInsnBytes = 15;

constexpr const char* kGprNames[16] = {"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi",
                                       "r8",  "r9",  "r10", "r11", "r12", "r13", "r14", "r15"};
constexpr const char* kGprNames32[8] = {"eax", "ecx", "edx", "ebx", "esp", "ebp", "esi", "edi"};
constexpr const char* kXmmNames[16] = {"xmm0", "xmm1", "xmm2",  "xmm3",  "xmm4",  "xmm5",  "xmm6",  "xmm7",
                                       "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"};
constexpr const char* kYmmNames[16] = {"ymm0h", "ymm1h", "ymm2h",  "ymm3h",  "ymm4h",  "ymm5h",  "ymm6h",  "ymm7h",
                                       "ymm8h", "ymm9h", "ymm10h", "ymm11h", "ymm12h", "ymm13h", "ymm14h", "ymm15h"};
constexpr const char* kBaseNames[6] = {"es_base", "cs_base", "ss_base", "ds_base", "fs_base", "gs_base"};
constexpr const char* kStLowNames[8] = {"mm0", "mm1", "mm2", "mm3", "mm4", "mm5", "mm6", "mm7"};
constexpr const char* kStHighNames[8] = {"st0_high", "st1_high", "st2_high", "st3_high",
                                         "st4_high", "st5_high", "st6_high", "st7_high"};

template <std::size_t kGprs>
constexpr auto make_slots(Type gpr) {
  std::array<Slot, 3 * kGprs + 6 + 16 + 5> slots{};
  std::size_t n = 0;
  const auto add = [&](const char* name, std::size_t offset, Type type) {
    slots[n++] = {name, static_cast<u32>(offset), type};
  };
  for (std::size_t i = 0; i < kGprs; ++i) {
    add(gpr == Type::I64 ? kGprNames[i] : kGprNames32[i % 8], offsetof(X86State, r) + 8 * i, gpr);
    add(kXmmNames[i], offsetof(X86State, xmm) + 16 * i, Type::V128);
    add(kYmmNames[i], offsetof(X86State, ymm_high) + 16 * i, Type::V128);
  }
  for (std::size_t i = 0; i < 6; ++i) add(kBaseNames[i], offsetof(X86State, seg_base) + 8 * i, Type::I64);
  for (std::size_t i = 0; i < 8; ++i) {
    add(kStLowNames[i], offsetof(X86State, st) + 16 * i, Type::I64);
    add(kStHighNames[i], offsetof(X86State, st) + 16 * i + 8, Type::I64);
  }
  add("df", offsetof(X86State, df), Type::I32);
  add("fcw", offsetof(X86State, fcw), Type::I32);
  add("fsw", offsetof(X86State, fsw_rest), Type::I32);
  add("ftop", offsetof(X86State, ftop), Type::I32);
  add("ftw", offsetof(X86State, ftw), Type::I32);
  return slots;
}
constexpr auto kSlots64 = make_slots<16>(Type::I64);
constexpr auto kSlots32 = make_slots<8>(Type::I32);

constexpr u32 kMxcsrReset = 0x1f80;

void reset(ir::CpuState* state, CodeSize code) {
  X86State& s = *static_cast<X86State*>(state);
  std::memset(static_cast<void*>(s.r), 0, sizeof s - offsetof(X86State, r));
  s.pc = 0;
  s.flags_kind = static_cast<u32>(ir::FlagsKind::Image);
  s.flags_a = s.flags_b = 0;
  s.mxcsr = kMxcsrReset;
  s.eflags_rest = kIf;
  s.fcw = 0x37f;
  s.xcr0 = 7;
  const bool is64 = code == CodeSize::Bits64;
  const u32 cs = is64 ? kUser64Code : kUser32Code;
  for (unsigned seg = 0; seg < 6; ++seg) {
    const bool null = is64 ? seg != CS && seg != SS : seg == FS || seg == GS;
    s.selector[seg] = seg == CS ? cs : null ? 0 : kUserData;
    const u64 d = null ? 0 : user_descriptor(s, s.selector[seg]);
    s.seg_limit[seg] = descriptor_limit(d);
    s.seg_rights[seg] = descriptor_rights(d);
  }
  s.mode = static_cast<u32>(code);
  s.window_4g = !is64;
}
void reset64(ir::CpuState* state) { reset(state, CodeSize::Bits64); }
void reset32(ir::CpuState* state) { reset(state, CodeSize::Bits32); }

u32 mode_of(const ir::CpuState* state) {
  const X86State& s = *static_cast<const X86State*>(state);
  u32 mode = descriptor_code_size(s.seg_rights[CS]);
  if (mode != 2 && (s.seg_base[ES] | s.seg_base[CS] | s.seg_base[SS] | s.seg_base[DS])) mode |= kModeSegments;
  if (s.mxcsr_unmasked) mode |= kModeSseTraps;
  if (s.eflags_rest & kTf) mode |= kModeSingleStep;
  if (s.eflags_rest & kAc) mode |= kModeAlignmentCheck;
  return mode | s.cpu_model << kModeModelShift;
}

/// Guest code from pc on: first what its page has, in pieces since most blocks are short; then, for an instruction that goes on
/// there, the next page.
class Bytes {
 public:
  Bytes(ir::CodeSource& code, GuestAddr pc, std::size_t wanted) : code_(code), pc_(pc) {
    limit_ = std::min<std::size_t>(wanted, kPageBytes - pc % kPageBytes);
    reach(0);
  }
  /// Has the instruction at offset `at` whole, if its page has it.
  void reach(std::size_t at) {
    while (size_ < limit_ && size_ < at + kMaxInsnBytes) {
      const std::size_t piece = std::min(limit_ - size_, kPiece), got = code_.fetch(pc_ + size_, bytes_ + size_, piece);
      size_ += got;
      if (got < piece) limit_ = size_;
    }
  }
  const u8* data() const { return bytes_; }
  std::size_t size() const { return size_; }
  /// Adds what the next page has, up to 15 bytes from `at` on; false if nothing came.
  bool extend(GuestAddr pc, std::size_t at) {
    const std::size_t have = size_ - at;
    if (have >= kMaxInsnBytes || size_ + kMaxInsnBytes > sizeof bytes_) return false;
    const std::size_t more = code_.fetch(pc + size_, bytes_ + size_, kMaxInsnBytes - have);
    size_ += more;
    return more != 0;
  }

 private:
  static constexpr std::size_t kPiece = 64;
  ir::CodeSource& code_;
  GuestAddr pc_;
  u8 bytes_[kPageBytes + kMaxInsnBytes];
  std::size_t size_ = 0, limit_;
};

void set_step_to(ir::CpuState* state, u64 pc) { static_cast<X86State*>(state)->step_to = pc; }
const ir::Helper kSetStepTo{"set_step_to", reinterpret_cast<const void*>(set_step_to), Type::Void, {Type::I64}, ir::WRITES_STATE};

/// Single step over an instruction that ends its block by itself: #DB comes before what follows. Exceptions and syscalls stay.
void step_exit(Lifter& l, ir::Block& out, GuestAddr pc) {
  const ir::Inst exit = out.insts.back();
  ir::Value to;
  const auto drop = [&] { out.insts.pop_back(); };
  switch (exit.op) {
    case ir::Op::exit_jump_: drop(); return l.ir.exit_exception(ExitKind::Trap, exit.imm, trap_value(kDB));
    case ir::Op::exit_branch_:
      drop();
      to = l.ir.select(exit.args[0], l.ir.i64(exit.imm), l.ir.i64(exit.imm2));
      break;
    case ir::Op::exit_indirect_:
      drop();
      to = exit.args[0];
      break;
    default: return;
  }
  l.ir.call(kSetStepTo, {to});
  l.ir.exit_exception(ExitKind::Trap, pc, trap_value(kDB, 2));
}

/// Code segments cannot be written (SDM vol. 3, 5.5): an instruction that writes its memory operand through a CS override outside
/// 64-bit code. What helpers write shows in the name only.
bool writes_code_segment(const Insn& i, const ir::Block& out, std::size_t mark) {
  if (i.mem.seg != CS || i.code == CodeSize::Bits64) return false;
  const std::string_view name = i.row->name;
  if (name.find("maskmov") != name.npos && (i.row->mod_rule == 2 || i.op[0].kind == OperandKind::Mem)) return true;
  if (name == "neg" && i.lock) return true;
  if (i.op[0].kind != OperandKind::Mem || name == "push" || name == "call" || name == "callf") return false;
  for (std::size_t n = mark; n < out.insts.size(); ++n)
    if (out.insts[n].op != ir::Op::call_ && (ir::effects_of(out.insts[n]) & ir::WRITES_MEM)) return true;
  for (const char* writer : {"fst", "fist", "fnst", "fnsave", "fbstp", "fxsave", "xsave"})
    if (name.starts_with(writer)) return true;
  return false;
}

/// EFLAGS.AC: every access is to be aligned to its size (SDM vol. 3, 6.15, #AC). What helpers access is checked where they are
/// called.
void demand_alignment(ir::Block& out, std::size_t mark) {
  for (std::size_t n = mark; n < out.insts.size(); ++n) {
    ir::Inst& inst = out.insts[n];
    if (inst.op == ir::Op::call_ || !(ir::effects_of(inst) & (ir::READS_MEM | ir::WRITES_MEM))) continue;
    ir::MemOp m = ir::MemOp::unpack(inst.aux);
    if (m.width == ir::Width::B1) continue;
    m.align_check = true;
    inst.aux = m.pack();
  }
}

void lift(ir::CodeSource& code, GuestAddr start, u32 mode, const ir::LiftLimits& limits, ir::Block& out) {
  out.clear();
  out.pc = start;
  out.mode = mode;
  Lifter l(out);
  l.mode = mode;
  const bool step = (mode & kModeSingleStep) != 0;
  const unsigned most = step ? 1 : limits.max_insns;
  Bytes bytes(code, start, std::size_t{most} * kMaxInsnBytes);
  if (bytes.size() == 0) return l.ir.exit_exception(ExitKind::FetchFault, start, start);

  std::size_t at = 0;
  while (out.guest_insns < most) {
    const GuestAddr pc = start + at;
    DecodeResult d = decode(bytes.data() + at, bytes.size() - at, pc, mode);
    if (d.needs_more) {
      // The instruction goes on on the next page: a block of its own.
      if (at != 0) break;
      if (bytes.extend(start, 0)) d = decode(bytes.data(), bytes.size(), pc, mode);
      if (d.needs_more) {
        l.ir.insn_start(pc, 1);
        out.guest_insns = out.guest_bytes = 1;
        return l.ir.exit_exception(ExitKind::FetchFault, pc, align_down(pc, kPageBytes) + kPageBytes);
      }
    }
    const Insn& i = d.insn;
    // The marker's length is never 0: an undefined instruction has at least the byte that was looked at.
    const unsigned length = i.length ? i.length : 1;
    l.ir.insn_start(pc, length);
    ++out.guest_insns;
    out.guest_bytes += length;
    const std::size_t mark = out.insts.size();
    Lift result = Lift::Undefined;
    if (i.row) result = i.row->lift(l, i);
    if (result == Lift::Undefined) {
      out.insts.resize(mark);
      return l.ir.exit_exception(ExitKind::Undefined, pc);
    }
    if (mode & kModeAlignmentCheck) demand_alignment(out, mark);
    if (writes_code_segment(i, out, mark)) {
      out.insts.resize(mark);
      l.trap(i, kGP);
      return;
    }
    if (result == Lift::End) {
      if (step) step_exit(l, out, pc);
      return;
    }
    at += length;
    bytes.reach(at);
    if (at >= bytes.size() || (start + at) % kPageBytes < (start + at - length) % kPageBytes) break;
    // REP and the like end blocks themselves; a writer of code on this page may want one instruction a block.
  }
  const GuestAddr next = code_size(mode) == CodeSize::Bits64 ? start + at : (start + at) & 0xffffffff;
  if (step) return l.ir.exit_exception(ExitKind::Trap, next, trap_value(kDB));
  l.ir.exit_jump(next);
}

std::string dump(const ir::CpuState* state) {
  const X86State& s = *static_cast<const X86State*>(state);
  const bool is64 = code_size(s.mode) == CodeSize::Bits64;
  std::string out;
  char text[128];
  std::snprintf(text, sizeof text, " pc=%016llx eflags=%08x mxcsr=%08x\n", static_cast<unsigned long long>(s.pc), eflags_of(s),
                s.mxcsr);
  out += text;
  for (unsigned i = 0; i < (is64 ? 16u : 8u); ++i) {
    std::snprintf(text, sizeof text, "%4s=%016llx%c", kGprNames[i], static_cast<unsigned long long>(s.r[i]),
                  i % 4 == 3 ? '\n' : ' ');
    out += text;
  }
  static constexpr const char* kSegNames[6] = {"es", "cs", "ss", "ds", "fs", "gs"};
  for (unsigned i = 0; i < 6; ++i) {
    std::snprintf(text, sizeof text, "%4s=%04x:%016llx%c", kSegNames[i], s.selector[i],
                  static_cast<unsigned long long>(s.seg_base[i]), i % 3 == 2 ? '\n' : ' ');
    out += text;
  }
  for (unsigned i = 0; i < (is64 ? 16u : 8u); ++i) {
    std::snprintf(text, sizeof text, "%6s=%016llx:%016llx%c", kXmmNames[i], static_cast<unsigned long long>(s.xmm[i].d[1]),
                  static_cast<unsigned long long>(s.xmm[i].d[0]), i % 2 ? '\n' : ' ');
    out += text;
  }
  for (unsigned i = 0; i < 8; ++i) {
    std::snprintf(text, sizeof text, "   r%u=%04llx:%016llx%c", i, static_cast<unsigned long long>(s.st[i].d[1] & 0xffff),
                  static_cast<unsigned long long>(s.st[i].d[0]), i % 4 == 3 ? '\n' : ' ');
    out += text;
  }
  std::snprintf(text, sizeof text, " fcw=%04x fsw=%04x ftw=%02x\n", s.fcw, fsw_of(s), s.ftw);
  return out + text;
}

}  // namespace

const ir::GuestDesc kX86_64 = {
    .name = "x86_64",
    .big_endian = false,
    .pointer_bits = 64,
    .insn_alignment = 1,
    .state_size = sizeof(X86State),
    .slots = kSlots64,
    .nzcv_mask = 0,
    .llvm_triple = "x86_64-linux-gnu",
    .llvm_features = "",
    .reset = reset64,
    .mode_of = mode_of,
    .lift = lift,
    .dump = dump,
    .coherent_icache = true,
};
const ir::GuestDesc kI386 = {
    .name = "i386",
    .big_endian = false,
    .pointer_bits = 32,
    .insn_alignment = 1,
    .state_size = sizeof(X86State),
    .slots = kSlots32,
    .nzcv_mask = 0,
    .llvm_triple = "i686-linux-gnu",
    .llvm_features = "",
    .reset = reset32,
    .mode_of = mode_of,
    .lift = lift,
    .dump = dump,
    .coherent_icache = true,
};

namespace {
/// The mode word with `bit` as `on` says; safe inside helpers, where mode_of() would see a stale MXCSR.
void set_mode_bit(X86State& state, u32 bit, bool on) { ir::change_mode(&state, on ? state.mode | bit : state.mode & ~bit); }
}  // namespace

u32 eflags_of(const X86State& state) {
  const u32 image = ir::flags_value(static_cast<ir::FlagsKind>(state.flags_kind), state.flags_a, state.flags_b);
  return (image >> 31 & 1) << 7 | (image >> 30 & 1) << 6 | (image >> 29 & 1) | (image >> 28 & 1) << 11 | (image & (kPf | kAf)) |
         state.df << 10 | state.eflags_rest | 2;
}

void set_eflags(X86State& state, u32 eflags) {
  state.flags_kind = static_cast<u32>(ir::FlagsKind::Image);
  state.flags_a = (eflags >> 7 & 1) << 31 | (eflags >> 6 & 1) << 30 | (eflags & 1) << 29 | (eflags >> 11 & 1) << 28 |
                  (eflags & (kPf | kAf));
  state.flags_b = 0;
  state.df = eflags >> 10 & 1;
  state.eflags_rest = eflags & (kTf | kIf | kIopl | kNt | kRf | kVm | kAc | kId);
  set_mode_bit(state, kModeSingleStep, (eflags & kTf) != 0);
  set_mode_bit(state, kModeAlignmentCheck, (eflags & kAc) != 0);
}

u32 mxcsr_of(const X86State& state) { return state.mxcsr & ~state.mxcsr_unmasked; }
void set_mxcsr(X86State& state, u32 mxcsr) {
  state.mxcsr = (mxcsr & 0xffff) | 0x1f80;  // the host never traps: see X86State::mxcsr_unmasked
  state.mxcsr_unmasked = ~mxcsr & 0x1f80;
  set_mode_bit(state, kModeSseTraps, (~mxcsr & 0x1f80) != 0);
}

u32 mxcsr_mask(const X86State& state) { return has_feature(state.mode, Feature::sse2_) ? 0xffff : kMxcsrWithoutDaz; }

void set_segment(X86State& state, Seg seg, u32 selector, u64 base) {
  state.selector[seg] = selector & 0xffff;
  state.seg_base[seg] = base;
  if (code_size(state.mode) != CodeSize::Bits64)
    set_mode_bit(state, kModeSegments,
                 (state.seg_base[ES] | state.seg_base[CS] | state.seg_base[SS] | state.seg_base[DS]) != 0);
}

void load_code_segment(X86State& state, u32 selector) {
  const u64 d = user_descriptor(state, selector & 0xffff);
  const u32 size = descriptor_code_size(descriptor_rights(d)), before = state.mode & kModeCodeSize;
  ir::change_mode(&state, (state.mode & ~(kModeCodeSize | kModeSegments)) | size);
  state.seg_limit[CS] = descriptor_limit(d);
  state.seg_rights[CS] = descriptor_rights(d);
  set_segment(state, CS, selector, descriptor_base(d));
  if (size != before)
    for (unsigned r = RAX; r <= RDI; ++r) state.r[r] = static_cast<u32>(state.r[r]);
}

void set_cpu_model(X86State& state, unsigned index) {
  state.cpu_model = index;
  ir::change_mode(&state, (state.mode & ~(15u << kModeModelShift)) | index << kModeModelShift);
}

}  // namespace kiln::x86
