// Control transfer: branches, calls, returns, loops, software interrupts, far transfers as user mode allows them.
#include "frontends/x86/features.h"
#include "frontends/x86/condition.h"
#include "frontends/x86/helpers.h"
#include "frontends/x86/lifter.h"
#include "frontends/x86/x86_rows.h"

namespace kiln::x86 {

using ir::Cond;
using ir::ExitHint;
using ir::ExitKind;
using ir::Op;
using ir::Type;
using ir::Value;

namespace {

/// A new rIP of `bytes` as a guest pc.
Value target(Lifter& l, Value v, unsigned bytes) {
  if (bytes == 8) return v;
  return l.ir.zext(Type::I64, l.zext_from(v, bytes));
}

}  // namespace

Lift lift_undefined(Lifter&, const Insn&) { return Lift::Undefined; }

Lift lift_jcc(Lifter& l, const Insn& i) {
  l.ir.exit_branch(l.flag(condition(i.param)), i.imm, i.next);
  return Lift::End;
}

Lift lift_jmp(Lifter& l, const Insn& i) {
  l.ir.exit_jump(i.imm);
  return Lift::End;
}
Lift lift_jmp_indirect(Lifter& l, const Insn& i) {
  l.ir.exit_indirect(target(l, l.read(i, 0), i.operand_bytes));
  return Lift::End;
}

Lift lift_call(Lifter& l, const Insn& i) {
  l.push(l.ir.iconst(Lifter::type_of(i.operand_bytes), i.next), i.operand_bytes);
  l.ir.exit_jump(i.imm, ExitHint::Call, i.next);
  return Lift::End;
}
Lift lift_call_indirect(Lifter& l, const Insn& i) {
  const Value to = target(l, l.read(i, 0), i.operand_bytes);
  l.push(l.ir.iconst(Lifter::type_of(i.operand_bytes), i.next), i.operand_bytes);
  l.ir.exit_indirect(to, ExitHint::Call, i.next);
  return Lift::End;
}

Lift lift_ret(Lifter& l, const Insn& i) {
  const Value to = target(l, l.pop(i.operand_bytes), i.operand_bytes);
  if (i.op[0].kind == OperandKind::Imm) l.move_stack(static_cast<s64>(i.imm));
  l.ir.exit_indirect(to, ExitHint::Return);
  return Lift::End;
}

Lift lift_loop(Lifter& l, const Insn& i) {
  enum { kNotEqual, kEqual };
  const unsigned bytes = i.address_bytes;
  const Value count = l.ir.sub(l.reg(RCX, bytes), l.ir.iconst(Lifter::type_of(bytes), 1));
  l.set_reg(RCX, bytes, count);
  const Value clean = l.zext_from(count, bytes);
  Value go = l.ir.icmp(Op::icmp_ne_, clean, l.ir.iconst(l.ir.type_of(clean), 0));
  if (i.param == kNotEqual) go = l.ir.and_(go, l.flag(Cond::Ne));
  if (i.param == kEqual) go = l.ir.and_(go, l.flag(Cond::Eq));
  l.ir.exit_branch(go, i.imm, i.next);
  return Lift::End;
}

Lift lift_jcxz(Lifter& l, const Insn& i) {
  const Value count = l.zext_from(l.reg(RCX, i.address_bytes), i.address_bytes);
  l.ir.exit_branch(l.ir.icmp(Op::icmp_eq_, count, l.ir.iconst(l.ir.type_of(count), 0)), i.imm, i.next);
  return Lift::End;
}

// --- interrupts -----------------------------------------------------------------------------------------------------------

/// exit_value: the instruction's length; the saved rIP is behind it (a trap).
Lift lift_int3(Lifter& l, const Insn& i) {
  l.ir.exit_exception(ExitKind::Breakpoint, i.pc, i.length);
  return Lift::End;
}
Lift lift_int(Lifter& l, const Insn& i) {
  if (i.imm == 3) return lift_int3(l, i);
  if (i.imm == 0x80) {
    l.ir.exit_exception(ExitKind::Syscall, i.pc, 0x80);
    return Lift::End;
  }
  if (i.imm == 4) return l.trap(i, kOF, i.length);  // Linux's gate for it has DPL 3
  return l.trap(i, kGP, static_cast<u32>(i.imm) * 8 + 2);
}
/// #OF is a trap: the owner adds the error code, the length, to pc.
Lift lift_into(Lifter& l, const Insn& i) {
  l.trap_if(l.flag(Cond::Vs), kOF, i.length);
  return Lift::Next;
}
/// Error code 1 tells it from a single step.
Lift lift_int1(Lifter& l, const Insn& i) {
  l.ir.exit_exception(ExitKind::Trap, i.next, trap_value(kDB, 1));
  return Lift::End;
}
Lift lift_syscall(Lifter& l, const Insn& i) {
  l.ir.exit_exception(ExitKind::Syscall, i.pc, 0);
  return Lift::End;
}
/// AMD: not in long mode, which a 64-bit kernel's 32-bit programs are in as well.
Lift lift_sysenter(Lifter& l, const Insn& i) {
  if (cpu_is_amd(l.mode >> kModeModelShift & 15)) return Lift::Undefined;
  l.ir.exit_exception(ExitKind::Syscall, i.pc, 1);
  return Lift::End;
}

Lift lift_bound(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  const Place p = l.address(i);
  const auto bound = [&](unsigned at) {
    return l.sext_from(l.ir.load(Type::I32, l.ir.add(p.address, l.ir.i64(at)), 0, Lifter::mem_op(bytes)), bytes);
  };
  const Value low = bound(0), high = bound(bytes);
  const Value index = l.sext_from(l.read(i, 0), bytes);
  l.trap_if(l.ir.or_(l.ir.icmp(Op::icmp_slt_, index, low), l.ir.icmp(Op::icmp_slt_, high, index)), kBR);
  return Lift::Next;
}

// --- far transfers --------------------------------------------------------------------------------------------------------

Lift lift_far_transfer(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  Value selector, offset;
  if (i.op[0].kind == OperandKind::FarPointer) {
    selector = l.ir.i32(i.imm2);
    offset = l.ir.iconst(Lifter::type_of(bytes), i.imm);
  } else {
    const Place p = l.place(i, 0);
    offset = l.zext_from(l.load(p, bytes), bytes);
    selector = l.ir.load(Type::I32, l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp) + bytes)), 0, Lifter::mem_op(2));
  }
  const Value old = l.ir.call(kReadSelector, {l.ir.i32(CS)});
  l.ir.call(kCheckFarTransfer, {selector, l.to_width(offset, 8)});
  if (i.param == 1) {  // CALL: CS, then rIP
    l.ir.store(l.stack_address(-static_cast<s64>(bytes)), 0, l.to_width(old, bytes), Lifter::mem_op(bytes));
    l.ir.store(l.stack_address(-2 * static_cast<s64>(bytes)), 0, l.ir.iconst(Lifter::type_of(bytes), i.next),
               Lifter::mem_op(bytes));
  }
  if (i.param == 1) l.move_stack(-2 * static_cast<s64>(bytes));
  l.ir.call(kFarTransfer, {selector});
  l.ir.exit_indirect(target(l, offset, bytes), ExitHint::NewMode);
  return Lift::End;
}

Lift lift_retf(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  // In the order in which AMD's read: page faults tell.
  const Value selector = l.ir.load(Type::I32, l.stack_address(bytes), 0, Lifter::mem_op(2));
  const Value offset = l.ir.load(Lifter::type_of(bytes), l.stack_address(0), 0, Lifter::mem_op(bytes));
  l.ir.call(kCheckFarTransfer, {selector, l.to_width(l.zext_from(offset, bytes), 8)});
  l.move_stack(2 * bytes + (i.op[0].kind == OperandKind::Imm ? static_cast<s64>(i.imm) : 0));
  l.ir.call(kFarTransfer, {selector});
  l.ir.exit_indirect(target(l, offset, bytes), ExitHint::NewMode);
  return Lift::End;
}

Lift lift_iret(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  const auto slot = [&](unsigned n) {
    return l.ir.load(Lifter::type_of(bytes), l.stack_address(static_cast<s64>(n * bytes)), 0, Lifter::mem_op(bytes));
  };
  // In the order in which AMD's read. In 64-bit code SS:rSP are popped always (SDM vol. 2, IRET).
  const Value flags = slot(2), selector = l.to_width(slot(1), 4), offset = slot(0);
  const Value ss = l.is64() ? l.to_width(slot(4), 4) : ir::kNoValue, sp = l.is64() ? slot(3) : ir::kNoValue;
  l.ir.call(kCheckFarTransfer, {selector, l.to_width(l.zext_from(offset, bytes), 8)});
  if (l.is64()) {
    l.ir.call(kLoadSegment, {l.ir.i32(SS), ss});
    l.set_reg(RSP, bytes, sp);
  } else {
    l.move_stack(3 * bytes);
  }
  l.ir.call(kPopf, {l.to_width(flags, 4), l.ir.i32(bytes)});
  l.ir.call(kFarTransfer, {selector});
  l.ir.exit_indirect(target(l, offset, bytes), ExitHint::NewMode);
  return Lift::End;
}

}  // namespace kiln::x86
