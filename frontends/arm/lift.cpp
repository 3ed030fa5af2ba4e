// The block loop and the guest description.
#include <algorithm>
#include <array>

#include "frontends/arm/a64_decode.h"
#include "frontends/arm/aarch64.h"
#include "frontends/arm/fpcr.h"
#include "frontends/arm/helpers.h"
#include "frontends/arm/system_internal.h"
#include "frontends/arm/system_lift.h"
#include "ir/interpreter.h"

namespace kiln::arm {

using ir::ExitKind;
using ir::Slot;
using ir::Type;

namespace {

constexpr unsigned kPageBytes = 4096;
constexpr unsigned kInsnBytes = 4;

constexpr const char* kXNames[32] = {"x0",  "x1",  "x2",  "x3",  "x4",  "x5",  "x6",  "x7",  "x8",  "x9",  "x10",
                                     "x11", "x12", "x13", "x14", "x15", "x16", "x17", "x18", "x19", "x20", "x21",
                                     "x22", "x23", "x24", "x25", "x26", "x27", "x28", "x29", "x30", "sp"};
constexpr const char* kVNames[32] = {"v0",  "v1",  "v2",  "v3",  "v4",  "v5",  "v6",  "v7",  "v8",  "v9",  "v10",
                                     "v11", "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21",
                                     "v22", "v23", "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31"};

constexpr auto kSlots = [] {
  std::array<Slot, 72> slots{};
  for (u32 i = 0; i < 32; ++i) {
    slots[i] = {kXNames[i], static_cast<u32>(offsetof(A64State, x)) + 8 * i, Type::I64};
    slots[32 + i] = {kVNames[i], static_cast<u32>(offsetof(A64State, v)) + 16 * i, Type::V128};
  }
  slots[64] = {"tpidr_el0", offsetof(A64State, tpidr_el0), Type::I64};
  slots[65] = {"tpidrro_el0", offsetof(A64State, tpidrro_el0), Type::I64};
  slots[66] = {"fpcr", offsetof(A64State, fpcr), Type::I64};
  slots[67] = {"fpsr", offsetof(A64State, fpsr), Type::I64};
  slots[68] = {"exclusive_address", offsetof(A64State, exclusive_address), Type::I64};
  slots[69] = {"exclusive_value0", offsetof(A64State, exclusive_value), Type::I64};
  slots[70] = {"exclusive_value1", offsetof(A64State, exclusive_value) + 8, Type::I64};
  slots[71] = {"exclusive_version", offsetof(A64State, exclusive_version), Type::I64};
  return slots;
}();

void reset(ir::CpuState* state) {
  A64State& s = *static_cast<A64State*>(state);
  std::memset(s.x, 0, sizeof s.x);
  std::memset(s.v, 0, sizeof s.v);
  s.tpidr_el0 = s.tpidrro_el0 = s.fpcr = s.fpsr = s.fpsr_watched = 0;
  s.exclusive_address = ~u64{0};
  s.exclusive_value[0] = s.exclusive_value[1] = s.exclusive_version = 0;
  s.exclusive_claim = nullptr;
  s.pc = 0;
  s.flags_kind = static_cast<u32>(ir::FlagsKind::Image);
  s.flags_a = s.flags_b = 0;
  s.mxcsr = kMxcsrMasks;
  s.mode = 0;
}

u32 mode_of(const ir::CpuState* state) { return mode_from(*static_cast<const A64State*>(state), state->mxcsr); }

/// With FZ and FPSR.IXC clear, arithmetic is slow (ir::Underflow::FlushFirst), but only until its first inexact result: then
/// the next look-up finds the quick code.
bool may_settle_inexact(const Lifter& l, const ir::Block& block, std::size_t mark) {
  if ((l.mode & (kModeFlushToZero | kModeInexactSeen)) != kModeFlushToZero) return false;
  for (std::size_t i = mark; i < block.insts.size(); ++i)
    if (may_be_tiny_and_inexact(block.insts[i]) && ir::FpOp::unpack(block.insts[i].aux).underflow == ir::Underflow::FlushFirst)
      return true;
  return false;
}

void lift(ir::CodeSource& code, GuestAddr pc, u32 mode, const ir::LiftLimits& limits, ir::Block& out) {
  lift_block(code, pc, mode, limits, out, false);
}

std::string dump(const ir::CpuState* state) {
  const A64State& s = *static_cast<const A64State*>(state);
  std::string out;
  char text[96];
  const u32 nzcv = nzcv_of(s);
  std::snprintf(text, sizeof text, " pc=%016llx nzcv=%c%c%c%c fpcr=%08x fpsr=%08x\n", static_cast<unsigned long long>(s.pc),
                nzcv >> 31 & 1 ? 'N' : '-', nzcv >> 30 & 1 ? 'Z' : '-', nzcv >> 29 & 1 ? 'C' : '-', nzcv >> 28 & 1 ? 'V' : '-',
                static_cast<u32>(s.fpcr), fpsr_of(s));
  out += text;
  for (unsigned i = 0; i < 32; ++i) {
    std::snprintf(text, sizeof text, "%3s=%016llx%c", kXNames[i], static_cast<unsigned long long>(s.x[i]),
                  i % 4 == 3 ? '\n' : ' ');
    out += text;
  }
  for (unsigned i = 0; i < 32; ++i) {
    std::snprintf(text, sizeof text, "%3s=%016llx:%016llx%c", kVNames[i], static_cast<unsigned long long>(s.v[i].d[1]),
                  static_cast<unsigned long long>(s.v[i].d[0]), i % 2 ? '\n' : ' ');
    out += text;
  }
  return out;
}

}  // namespace

const ir::GuestDesc kA64 = {
    .name = "aarch64",
    .big_endian = false,
    .pointer_bits = 64,
    .insn_alignment = kInsnBytes,
    .state_size = sizeof(A64State),
    .slots = kSlots,
    .nzcv_mask = 0,
    .llvm_triple = "aarch64-linux-gnu",
    .llvm_features = "+v8.5a,+crypto,+fullfp16,+dotprod",
    .reset = reset,
    .mode_of = mode_of,
    .lift = lift,
    .dump = dump,
    .coherent_icache = false,
    .address_mask = mask_low(56),
};

namespace {

/// Exits that others chain become ones that look at the mode: a stepped instruction leaves another one behind.
void end_with_look_up(Lifter& l, ir::Block& block) {
  const ir::Inst last = block.insts.back();
  if (last.op == ir::Op::exit_jump_) {
    block.insts.pop_back();
    l.ir.exit_indirect(l.ir.i64(last.imm), ir::ExitHint::NewMode);
  } else if (last.op == ir::Op::exit_branch_) {
    block.insts.pop_back();
    const ir::Value taken = l.ir.i64(last.imm), other = l.ir.i64(last.imm2);
    l.ir.exit_indirect(l.ir.select(last.args[0], taken, other), ir::ExitHint::NewMode);
  } else if (last.op == ir::Op::exit_indirect_) {
    block.insts.back().lane = static_cast<u8>(ir::ExitHint::NewMode);
    block.insts.back().imm2 = 0;
  }
}

/// Advanced SIMD, floating point, crypto: data processing and loads and stores.
bool is_fp(u32 word) { return bits(word, 25, 3) == 7 || ((bits(word, 25, 4) & 5) == 4 && bit(word, 26)); }

/// One instruction; Undefined emits nothing.
Lift lift_one(Lifter& l, ir::Block& block) {
  const std::size_t mark = block.insts.size(), more = block.extra_args.size();
  const int row = decode(l.word, kFeatureAll);
  const auto forget = [&] {
    block.insts.resize(mark);
    block.extra_args.resize(more);
  };
  Lift done = row < 0 ? Lift::Undefined : lift_row(l, row);
  if (done == Lift::Undefined) {
    forget();
  } else if ((l.mode & kModeFpTrap) && l.system && is_fp(l.word)) {
    forget();
    done = trap_with(l, syndrome(Class::FpTrap, 1 << 24 | 14 << 20));
  }
  return done;
}

bool accesses_memory(const ir::Block& block, std::size_t mark) {
  return std::any_of(block.insts.begin() + static_cast<std::ptrdiff_t>(mark), block.insts.end(), [](const ir::Inst& inst) {
    const u32 effects = effects_of(inst);
    return (effects & (ir::READS_MEM | ir::WRITES_MEM)) && (effects & ir::MAY_FAULT);
  });
}

/// Puts a look at the watchpoints before each access of an instruction, which begins at `mark`.
void watch_accesses(Lifter& l, ir::Block& block, std::size_t mark) {
  const std::vector<ir::Inst> insts(block.insts.begin() + static_cast<std::ptrdiff_t>(mark), block.insts.end());
  std::vector<ir::Value> now(insts.size());
  block.insts.resize(mark);
  for (std::size_t i = 0; i < insts.size(); ++i) {
    ir::Inst inst = insts[i];
    for (ir::Value& v : inst.args)
      if (v != ir::kNoValue && v >= mark) v = now[v - mark];
    if (inst.more)
      for (ir::Value& v : block.extra_args[inst.more - 1])
        if (v != ir::kNoValue && v >= mark) v = now[v - mark];
    if (inst.op == ir::Op::load_ || inst.op == ir::Op::store_ || inst.op == ir::Op::atomic_rmw_ ||
        inst.op == ir::Op::atomic_cas_) {
      const ir::Value address = inst.imm != 0 ? l.ir.add(inst.args[0], l.ir.i64(inst.imm)) : inst.args[0];
      l.ir.call(kCheckWatchpoints, {address, l.ir.i64(inst.aux | (inst.op == ir::Op::load_ ? 0 : ir::kStoreAccess))});
    }
    // Helpers that access memory themselves have the address and the MemOp in front.
    if (inst.op == ir::Op::call_ && (effects_of(inst) & ir::WRITES_MEM) && (effects_of(inst) & ir::MAY_FAULT))
      l.ir.call(kCheckWatchpoints, {inst.args[0], l.ir.or_(inst.args[1], l.ir.i64(ir::kStoreAccess))});
    now[i] = static_cast<ir::Value>(block.insts.size());
    block.insts.push_back(inst);
  }
}

void set_system(Lifter& l) {
  l.system = true;
  l.el = el_of(l.mode);
  l.mmu_index = l.el == 0 ? 0 : l.el >= 2 ? 3 : (l.mode & kModePan) ? 2 : 1;
  l.unprivileged_index = l.el == 1 && !(l.mode & kModeUao) ? ((l.mode & kModeNoPan) ? 2 : 0) : l.mmu_index;
  l.check_alignment = (l.mode & kModeAlign) != 0;
}

}  // namespace

void lift_block(ir::CodeSource& code, GuestAddr pc, u32 mode, const ir::LiftLimits& limits, ir::Block& out, bool system) {
  out.clear();
  out.pc = pc;
  out.mode = mode;
  Lifter l(out);
  l.pc = pc;
  l.mode = mode;
  if (system) set_system(l);
  const bool step = system && (mode & kModeStep);
  if (system && (mode & kModeStepPending))
    return l.ir.exit_exception(ExitKind::Trap, pc, syndrome(Class::StepLower, kDebugEvent));
  if (pc % kInsnBytes != 0) return l.ir.exit_exception(ExitKind::Alignment, pc, pc);

  alignas(4) u8 bytes[kPageBytes];
  const std::size_t wanted = std::min<std::size_t>(kPageBytes - pc % kPageBytes, std::size_t{limits.max_insns} * kInsnBytes);
  const std::size_t size = align_down(code.fetch(pc, bytes, step ? kInsnBytes : wanted), kInsnBytes);
  if (size == 0) return l.ir.exit_exception(ExitKind::FetchFault, pc, pc);

  for (; l.pc < pc + size; l.pc += kInsnBytes) {
    std::memcpy(&l.word, bytes + (l.pc - pc), kInsnBytes);
    l.ir.insn_start(l.pc, kInsnBytes);
    ++out.guest_insns;
    out.guest_bytes += kInsnBytes;
    const std::size_t mark = out.insts.size();
    if (system) {
      if (mode & kModeIllegal) return l.ir.exit_exception(ExitKind::Trap, l.pc, syndrome(Class::IllegalState));
      if (l.unmasked) emit_interrupt_check(l);
      l.unmasked = false;
      if (mode & kModeBreakpoints) l.ir.call(kCheckBreakpoints, {l.ir.i64(l.pc)});
    }
    const std::size_t start = out.insts.size();
    Lift done = lift_one(l, out);
    if ((mode & kModeAsidPending) && system && accesses_memory(out, start)) {
      out.insts.resize(mark);
      l.ir.call(kSettleAsid);
      return l.ir.exit_indirect(l.ir.i64(l.pc), ir::ExitHint::NewMode);
    }
    if (system && (mode & kModeWatchpoints)) watch_accesses(l, out, start);
    if (step && done == Lift::End && out.insts.back().op != ir::Op::exit_exception_) {
      // What ends a block does not fault, so the step may be over before it.
      out.insts.resize(mark);
      l.ir.call(kStepDone);
      done = lift_one(l, out);
      return end_with_look_up(l, out);
    }
    switch (done) {
      case Lift::Next:
        if (may_settle_inexact(l, out, mark)) {
          l.ir.call(kSettleInexact);
          return l.ir.exit_indirect(l.ir.i64(l.pc + kInsnBytes), ir::ExitHint::NewMode);
        }
        break;
      case Lift::End: return;
      case Lift::Undefined: return l.ir.exit_exception(ExitKind::Undefined, l.pc, l.word);
    }
  }
  if (l.unmasked) l.ir.call(kLookForInterrupts);
  if (step) l.ir.call(kStepDone);
  if (step || l.unmasked) return l.ir.exit_indirect(l.ir.i64(l.pc), ir::ExitHint::NewMode);
  l.ir.exit_jump(l.pc);
}

u32 fpsr_of(const A64State& state) { return fpsr_from(state, state.mxcsr); }
void set_fpsr(A64State& state, u32 fpsr) { state.mxcsr = mxcsr_after_fpsr(state, state.mxcsr, fpsr); }
void set_fpcr(A64State& state, u32 fpcr) { state.mxcsr = mxcsr_after_fpcr(state, state.mxcsr, fpcr); }
u32 nzcv_of(const A64State& state) {
  return ir::flags_value(static_cast<ir::FlagsKind>(state.flags_kind), state.flags_a, state.flags_b);
}
void set_nzcv(A64State& state, u32 nzcv) {
  state.flags_kind = static_cast<u32>(ir::FlagsKind::Image);
  state.flags_a = nzcv & 0xf0000000;
  state.flags_b = 0;
}

}  // namespace kiln::arm
