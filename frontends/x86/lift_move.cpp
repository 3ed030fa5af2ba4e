// Data movement: MOV, LEA, extensions, conditional moves, exchanges, the stack.
#include "frontends/x86/condition.h"
#include "frontends/x86/helpers.h"
#include "frontends/x86/lifter.h"
#include "frontends/x86/x86_rows.h"

namespace kiln::x86 {

using ir::Cond;
using ir::Op;
using ir::RmwKind;
using ir::Type;
using ir::Value;

Lift lift_mov(Lifter& l, const Insn& i) {
  l.write(i, 0, l.read(i, 1));
  return Lift::Next;
}

Lift lift_lea(Lifter& l, const Insn& i) {
  l.write(i, 0, l.to_width(l.effective_address(i), i.op[0].bytes));
  return Lift::Next;
}

Lift lift_movzx(Lifter& l, const Insn& i) {
  l.write(i, 0, l.to_width(l.read_zext(i, 1), i.op[0].bytes));
  return Lift::Next;
}
Lift lift_movsx(Lifter& l, const Insn& i) {
  l.write(i, 0, l.to_width(l.read_sext(i, 1), i.op[0].bytes, true));
  return Lift::Next;
}

Lift lift_cmov(Lifter& l, const Insn& i) {
  const Value v = l.read(i, 1);  // read, and faulting, whatever the condition
  const Value old = l.reg(i.op[0].reg, i.op[0].bytes);
  l.write(i, 0, l.ir.select(l.flag(condition(i.param)), v, old));
  return Lift::Next;
}
Lift lift_setcc(Lifter& l, const Insn& i) {
  l.write(i, 0, l.ir.zext(Type::I32, l.flag(condition(i.param))));
  return Lift::Next;
}

Lift lift_cbw(Lifter& l, const Insn& i) {  // CBW, CWDE, CDQE
  const unsigned bytes = i.operand_bytes;
  l.set_reg(RAX, bytes, l.to_width(l.sext_from(l.reg(RAX, bytes / 2), bytes / 2), bytes, true));
  return Lift::Next;
}
Lift lift_cwd(Lifter& l, const Insn& i) {  // CWD, CDQ, CQO
  const unsigned bytes = i.operand_bytes;
  const Value a = l.sext_from(l.reg(RAX, bytes), bytes);
  l.set_reg(RDX, bytes, l.ir.ashr(a, l.ir.iconst(l.ir.type_of(a), bytes == 8 ? 63 : 31)));
  if (bytes >= 4) l.rdx_is = bytes == 8 ? RdxIs::SignOfRax : RdxIs::SignOfEax;
  return Lift::Next;
}

Lift lift_xlat(Lifter& l, const Insn& i) {
  const unsigned bytes = i.address_bytes;
  const Value index = l.to_width(l.ir.ubfx(l.reg(RAX, 4), 0, 8), bytes);
  const Value at = l.linear(i.mem.seg, l.ir.add(l.reg(RBX, bytes), index), bytes);
  l.set_reg(RAX, 1, l.ir.load(Type::I32, at, 0, Lifter::mem_op(1)));
  return Lift::Next;
}

// --- exchanges ------------------------------------------------------------------------------------------------------------

namespace {
ir::MemOp atomic_op(unsigned bytes, RmwKind kind) {
  ir::MemOp m = Lifter::mem_op(bytes);
  m.order = ir::Order::SeqCst;
  m.rmw = kind;
  return m;
}
Value whole_address(Lifter& l, const Place& p) {
  return p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
}
}  // namespace

Lift lift_xchg(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0), q = l.place(i, 1);
  if (p.op.kind == OperandKind::Gpr && q.op.kind == OperandKind::Gpr && p.op.reg == q.op.reg && p.op.high == q.op.high &&
      i.row->opcode == 0x90)
    return Lift::Next;  // 90 is NOP (F3 90 PAUSE): bits 63..32 stay
  const Value b = l.read(q);
  if (p.op.kind == OperandKind::Mem) {  // always atomic
    l.write(q, l.ir.atomic_rmw(whole_address(l, p), b, atomic_op(p.op.bytes, RmwKind::Swap)));
    return Lift::Next;
  }
  const Value a = l.read(p);
  l.write(p, b);
  l.write(q, a);
  return Lift::Next;
}

Lift lift_xadd(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  const unsigned bytes = p.op.bytes;
  const Value b = l.read(i, 1);
  Value a;
  if (i.lock) {
    a = l.ir.atomic_rmw(whole_address(l, p), b, atomic_op(bytes, RmwKind::Add));
    l.write(i, 1, a);
  } else {
    a = l.read(p);
    const Value sum = l.ir.add(a, b);
    if (p.op.kind == OperandKind::Mem) l.write(p, sum);
    l.write(i, 1, a);
    if (p.op.kind != OperandKind::Mem) l.write(p, sum);  // the sum wins if both are one register
  }
  l.ir.set_flags(l.ir.eflags_add(Lifter::width_of(bytes), a, b));
  return Lift::Next;
}

Lift lift_cmpxchg(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  const unsigned bytes = p.op.bytes;
  const Value source = l.read(i, 1);
  const Value expected = l.zext_from(l.reg(RAX, bytes), bytes);
  Value old;
  if (i.lock) {
    old = l.ir.atomic_cas(whole_address(l, p), expected, source, atomic_op(bytes, RmwKind::Add));
  } else {
    old = l.zext_from(l.read(p), bytes);
  }
  const Value equal = l.ir.icmp(Op::icmp_eq_, expected, old);
  const bool memory = p.op.kind == OperandKind::Mem;
  if (!i.lock && memory) l.write(p, l.ir.select(equal, source, old));
  // rAX is written on failure only: with equal operands bits 63..32 stay.
  const Value rax = l.gpr(RAX);
  Value loaded;
  if (bytes == 8 || (bytes == 4 && !l.is64())) loaded = old;
  else if (bytes == 4) loaded = l.ir.zext(Type::I64, old);
  else loaded = l.ir.bfi(rax, l.ir.zext(l.slot_type(), old), 0, 8 * bytes);
  if (!memory) {
    // A 32-bit destination is written on success only: else its bits 63..32 stay. If it is rAX itself the load of rAX comes last.
    if (bytes == 4) l.set_gpr(p.op.reg, l.ir.select(equal, l.ir.zext(l.slot_type(), source), l.gpr(p.op.reg)));
    else l.write(p, l.ir.select(equal, source, l.read(p)));
    if (p.op.reg == RAX && !p.op.high) {
      l.set_gpr(RAX, l.ir.select(equal, l.gpr(RAX), loaded));
    } else {
      l.set_gpr(RAX, p.op.reg == RAX
                         ? l.ir.select(equal, l.gpr(RAX), l.ir.bfi(l.gpr(RAX), l.ir.zext(l.slot_type(), old), 0, 8 * bytes))
                         : l.ir.select(equal, rax, loaded));
    }
  } else {
    l.set_gpr(RAX, l.ir.select(equal, rax, loaded));
  }
  l.note_write(RAX);
  l.ir.set_flags(l.ir.eflags_sub(Lifter::width_of(bytes), expected, old));
  return Lift::Next;
}

Lift lift_cmpxchg8b(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  const auto pair = [&](unsigned low, unsigned high) {
    return l.ir.or_(l.ir.zext(Type::I64, l.reg(low, 4)), l.ir.shl(l.ir.zext(Type::I64, l.reg(high, 4)), l.ir.i64(32)));
  };
  const Value expected = pair(RAX, RDX), desired = pair(RBX, RCX);
  Value old;
  if (i.lock) {
    old = l.ir.atomic_cas(whole_address(l, p), expected, desired, atomic_op(8, RmwKind::Add));
  } else {
    old = l.ir.load(Type::I64, p.address, p.disp, Lifter::mem_op(8));
  }
  const Value equal = l.ir.icmp(Op::icmp_eq_, expected, old);
  if (!i.lock) l.ir.store(p.address, p.disp, l.ir.select(equal, desired, old), Lifter::mem_op(8));
  const auto load_half = [&](unsigned reg, Value half) {
    l.note_write(reg);
    l.set_gpr(reg, l.ir.select(equal, l.gpr(reg), l.ir.zext(l.slot_type(), half)));
  };
  load_half(RAX, l.ir.trunc(Type::I32, old));
  load_half(RDX, l.ir.trunc(Type::I32, l.ir.lshr(old, l.ir.i64(32))));
  const Value image = l.ir.flags_value(l.ir.get_flags());
  l.ir.set_flags(l.ir.flags_image(l.ir.bfi(image, l.ir.zext(Type::I32, equal), 30, 1)));
  return Lift::Next;
}

Lift lift_cmpxchg16b(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  const Value address = whole_address(l, p);
  // #GP(0) unless aligned to 16 (SDM vol. 2, CMPXCHG16B).
  l.trap_if(l.ir.icmp(Op::icmp_ne_, l.ir.and_(address, l.ir.i64(15)), l.ir.i64(0)), kGP);
  const Value image = l.ir.flags_value(l.ir.get_flags());
  const Value equal = l.ir.call(kCas16, {address});
  l.rdx_is = RdxIs::Unknown;
  l.ir.set_flags(l.ir.flags_image(l.ir.bfi(image, equal, 30, 1)));
  return Lift::Next;
}

// --- the stack ------------------------------------------------------------------------------------------------------------

Lift lift_push(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  if (i.op[0].kind == OperandKind::Imm) {
    l.push(l.ir.iconst(Lifter::type_of(bytes), i.imm), bytes);
  } else {
    l.push(l.read(i, 0), bytes);
  }
  return Lift::Next;
}

Lift lift_pop(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  const Value v = l.ir.load(Lifter::type_of(bytes), l.stack_address(0), 0, Lifter::mem_op(bytes));
  if (i.op[0].kind == OperandKind::Gpr) {
    l.move_stack(bytes);
    l.write(i, 0, v);  // POP rSP: the value wins
    return Lift::Next;
  }
  // An address with rSP in it is computed after the increment (SDM vol. 2, POP); the store may fault before rSP has moved.
  Insn moved = i;
  if (moved.mem.base == RSP) moved.mem.disp += bytes;
  const Place p = l.place(moved, 0);
  l.write(p, v);
  l.move_stack(bytes);
  return Lift::Next;
}

Lift lift_pusha(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  for (unsigned r = 0; r < 8; ++r)
    l.ir.store(l.stack_address(-static_cast<s64>(bytes * (r + 1))), 0, l.reg(r, bytes), Lifter::mem_op(bytes));
  l.move_stack(-static_cast<s64>(8 * bytes));
  return Lift::Next;
}

Lift lift_popa(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  Value v[8];
  for (unsigned r = 8; r-- > 0;)
    v[r] = l.ir.load(Type::I32, l.stack_address(static_cast<s64>(bytes * (7 - r))), 0, Lifter::mem_op(bytes));
  for (unsigned r = 0; r < 8; ++r)
    if (r != RSP) l.set_reg(r, bytes, v[r]);
  l.move_stack(8 * bytes);
  return Lift::Next;
}

Lift lift_pushf(Lifter& l, const Insn& i) {
  const Value v = l.ir.call(kPushf);
  l.push(l.to_width(v, i.operand_bytes), i.operand_bytes);
  return Lift::Next;
}

Lift lift_popf(Lifter& l, const Insn& i) {
  const Value v = l.pop(i.operand_bytes);
  l.ir.call(kPopf, {l.to_width(v, 4), l.ir.i32(i.operand_bytes)});
  l.ir.exit_indirect(l.ir.i64(i.next), ir::ExitHint::NewMode);  // TF may have changed the mode
  return Lift::End;
}

Lift lift_enter(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes, level = i.imm2 & 31;
  s64 depth = bytes;
  l.ir.store(l.stack_address(-depth), 0, l.reg(RBP, bytes), Lifter::mem_op(bytes));
  const Value frame = l.ir.add(l.gpr(RSP), l.ir.iconst(l.slot_type(), static_cast<u64>(-static_cast<s64>(bytes))));
  for (unsigned n = 1; n <= level; ++n) {
    depth += bytes;
    Value v;
    if (n == level) {
      v = l.to_width(frame, bytes);
    } else {
      const Value at = l.ir.add(l.gpr(RBP), l.ir.iconst(l.slot_type(), static_cast<u64>(-static_cast<s64>(bytes * n))));
      v = l.ir.load(Lifter::type_of(bytes), l.linear(SS, at, l.stack_bytes()), 0, Lifter::mem_op(bytes));
    }
    l.ir.store(l.stack_address(-depth), 0, v, Lifter::mem_op(bytes));
  }
  // The new top of the stack must be accessible (SDM vol. 2, ENTER: #PF "if a write using the final value of the stack pointer …").
  l.ir.load(Lifter::type_of(bytes), l.stack_address(-depth - static_cast<s64>(i.imm)), 0, Lifter::mem_op(bytes));
  l.set_reg(RBP, bytes, l.to_width(frame, bytes));
  l.move_stack(-depth - static_cast<s64>(i.imm));
  return Lift::Next;
}

Lift lift_leave(Lifter& l, const Insn& i) {
  const unsigned bytes = i.operand_bytes;
  const Value frame = l.gpr(RBP);
  const Value v = l.ir.load(Lifter::type_of(bytes), l.linear(SS, frame, l.stack_bytes()), 0, Lifter::mem_op(bytes));
  const Value sp = l.ir.add(frame, l.ir.iconst(l.slot_type(), bytes));
  l.set_reg(RSP, l.stack_bytes(), l.stack_bytes() == 8 ? sp : l.to_width(sp, 4));
  l.set_reg(RBP, bytes, v);
  return Lift::Next;
}

}  // namespace kiln::x86
