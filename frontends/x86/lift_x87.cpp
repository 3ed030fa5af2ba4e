// x87: what does the work stands in helpers_x87*.cpp; here operands are fetched and helpers chosen.
#include "frontends/x86/lift_x87.h"

#include "frontends/x86/helpers_x87.h"
#include "frontends/x86/lifter.h"

namespace kiln::x86 {

using ir::Cond;
using ir::Op;
using ir::Type;
using ir::Value;

namespace {

constexpr std::size_t kFswOffset = offsetof(X86State, fsw_rest), kFcwOffset = offsetof(X86State, fcw);

u32 fop_of(const Insn& i) { return (i.row->opcode & 7u) << 8 | i.modrm; }

/// Offset in the segment, which FDP keeps, as I64.
Value offset_of(Lifter& l, const Insn& i) { return l.ir.zext(Type::I64, l.effective_address(i)); }
u32 memory_fop(const Insn& i) { return fop_of(i) | static_cast<u32>(i.mem.seg) << kFopSegShift; }

/// The linear address as one value.
Value linear_of(Lifter& l, const Insn& i, unsigned alignment, bool waits = true) {
  const Place p = l.address(i);
  const Value address = p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
  if (l.mode & kModeAlignmentCheck) {
    if (waits) x87_pending_check(l);  // #MF before #AC
    l.alignment_check(address, alignment);
  }
  return address;
}
/// What EFLAGS.AC demands of an operand: its size, 8 for 80 bits.
unsigned alignment_of(const Insn& i) { return i.op[0].bytes >= 8 ? 8 : i.op[0].bytes; }

Value status_word(Lifter& l) { return l.ir.call(kFnstsw); }

}  // namespace

void x87_pending_check(Lifter& l) {
  Value es = l.ir.and_(l.ir.get_reg(Type::I32, kFswOffset), l.ir.i32(kFswEs));
  l.trap_if(l.ir.icmp(Op::icmp_ne_, es, l.ir.i32(0)), kMF);
}

Lift lift_x87_register(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  const u32 fop = fop_of(i);
  l.ir.call(*x87_register_helper(fop), {l.ir.i32(fop)});
  return Lift::Next;
}

Lift lift_x87_load(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  const Value offset = offset_of(l, i);
  l.ir.call(*x87_load_helper(i.row->opcode, i.modrm >> 3 & 7), {l.ir.i32(memory_fop(i)), offset, linear_of(l, i, alignment_of(i))});
  return Lift::Next;
}

Lift lift_x87_store(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  const Value offset = offset_of(l, i);
  l.ir.call(*x87_store_helper(i.row->opcode, i.modrm >> 3 & 7), {l.ir.i32(memory_fop(i)), offset, linear_of(l, i, alignment_of(i))});
  return Lift::Next;
}

/// FLDENV, FNSTENV, FRSTOR, FNSAVE by the row's parameter.
Lift lift_x87_state(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  const bool waits = (i.param & 1) == 0;
  l.ir.call(kX87State[i.param], {linear_of(l, i, i.operand_bytes == 2 ? 2 : 4, waits), l.ir.i32(i.operand_bytes == 2 ? 2 : 4)});
  return Lift::Next;
}

/// The condition is the row's parameter, in Jcc's numbers.
Lift lift_fcmov(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  constexpr Cond kConds[16] = {Cond::Vs, Cond::Vc, Cond::Cs, Cond::Cc, Cond::Eq, Cond::Ne, Cond::Be, Cond::Nbe,
                               Cond::Mi, Cond::Pl, Cond::Pe, Cond::Po, Cond::Lt, Cond::Ge, Cond::Le, Cond::Gt};
  const Value holds = l.ir.cond(l.ir.get_flags(), kConds[i.param & 15]);
  l.ir.call(kFcmov, {l.ir.i32(fop_of(i)), l.ir.zext(Type::I32, holds)});
  return Lift::Next;
}

Lift lift_fcomi(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  const u32 fop = fop_of(i);
  l.ir.set_flags(l.ir.flags_image(l.ir.call(*x87_compare_helper(fop), {l.ir.i32(fop)})));
  return Lift::Next;
}

Lift lift_fldcw(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  x87_pending_check(l);
  const Value value = l.read_zext(i, 0);
  l.ir.call(kFldcw, {value});
  return Lift::Next;
}
Lift lift_fnstcw(Lifter& l, const Insn& i) {
  l.write(i, 0, l.ir.get_reg(Type::I32, kFcwOffset));
  return Lift::Next;
}
Lift lift_fnstsw_m(Lifter& l, const Insn& i) {
  l.write(i, 0, status_word(l));
  return Lift::Next;
}
Lift lift_fnstsw_ax(Lifter& l, const Insn& i) {
  l.set_reg(RAX, 2, status_word(l));
  return Lift::Next;
}
Lift lift_fnclex(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  constexpr u32 kKept = kFswC0 | kFswC1 | kFswC2 | kFswC3;
  l.ir.set_reg(kFswOffset, l.ir.and_(l.ir.get_reg(Type::I32, kFswOffset), l.ir.i32(kKept)));
  return Lift::Next;
}
Lift lift_fninit(Lifter& l, const Insn& i) {
  l.mmx_known = 0;
  l.ir.call(kFninit);
  return Lift::Next;
}
/// FENI, FDISI (8087) and FSETPM (80287): later processors do nothing.
Lift lift_x87_ignored(Lifter&, const Insn&) { return Lift::Next; }

Lift lift_fwait(Lifter& l, const Insn& i) {
  x87_pending_check(l);
  return Lift::Next;
}

}  // namespace kiln::x86
