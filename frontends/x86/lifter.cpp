// Operands, addresses, the stack.
#include "frontends/x86/lifter.h"

namespace kiln::x86 {

using ir::Op;
using ir::Type;
using ir::Value;

Value Lifter::reg(unsigned r, unsigned bytes) {
  const Value slot = gpr(r);
  if (bytes == 8) return slot;
  return ir.trunc(Type::I32, slot);
}

void Lifter::set_reg(unsigned r, unsigned bytes, Value v) {
  note_write(r);
  const Type slot = slot_type();
  if (bytes == 8) return set_gpr(r, v);
  if (bytes == 4) return set_gpr(r, ir.zext(slot, v));
  const Value wide = ir.zext(slot, v);  // bfi takes the low bits only
  set_gpr(r, ir.bfi(gpr(r), wide, 0, 8 * bytes));
}

Value Lifter::zext_from(Value v, unsigned bytes) { return bytes >= 4 ? v : ir.ubfx(v, 0, 8 * bytes); }
Value Lifter::sext_from(Value v, unsigned bytes) { return bytes >= 4 ? v : ir.sbfx(v, 0, 8 * bytes); }

Value Lifter::to_width(Value v, unsigned bytes, bool sign) {
  const Type to = type_of(bytes), from = ir.type_of(v);
  if (from == to) return v;
  if (to == Type::I32) return from == Type::I1 ? ir.zext(to, v) : ir.trunc(to, v);
  return sign ? ir.sext(to, v) : ir.zext(to, v);
}

Place Lifter::place(const Insn& insn, unsigned n) {
  Place p;
  if (insn.op[n].kind == OperandKind::Mem) p = address(insn);
  p.op = insn.op[n];
  p.imm = insn.imm;
  return p;
}

Value Lifter::read(const Place& p) {
  const Operand& o = p.op;
  switch (o.kind) {
    case OperandKind::Gpr:
      if (o.high) return ir.ubfx(reg(o.reg, 4), 8, 8);
      return reg(o.reg, o.bytes);
    case OperandKind::Mem: return load(p, o.bytes);
    default: return ir.iconst(type_of(o.bytes), p.imm);
  }
}

void Lifter::write(const Place& p, Value v) {
  const Operand& o = p.op;
  if (o.kind == OperandKind::Mem) return store(p, o.bytes, v);
  if (!o.high) return set_reg(o.reg, o.bytes, v);
  note_write(o.reg);
  set_gpr(o.reg, ir.bfi(gpr(o.reg), ir.zext(slot_type(), v), 8, 8));
}

namespace {

/// The parts of an offset added up in the type of its width; a constant displacement stays apart if `disp` is given.
Value add_parts(Lifter& l, const MemRef& m, Type type, s64* disp) {
  const unsigned bytes = type == Type::I64 ? 8 : 4;
  Value sum = ir::kNoValue;
  if (m.base != MemRef::kNone && m.base != MemRef::kRip) sum = l.reg(static_cast<unsigned>(m.base), bytes);
  if (m.index != MemRef::kNone) {
    Value index = l.reg(static_cast<unsigned>(m.index), bytes);
    if (m.scale_log2) index = l.ir.shl(index, l.ir.iconst(type, m.scale_log2));
    sum = sum == ir::kNoValue ? index : l.ir.add(sum, index);
  }
  if (sum == ir::kNoValue) return l.ir.iconst(type, static_cast<u64>(m.disp));
  if (m.disp == 0) return sum;
  if (disp) {
    *disp = m.disp;
    return sum;
  }
  return l.ir.add(sum, l.ir.iconst(type, static_cast<u64>(m.disp)));
}

}  // namespace

Value Lifter::effective_address(const Insn& insn) {
  const MemRef& m = insn.mem;
  const Type type = m.address_bytes == 8 ? Type::I64 : Type::I32;
  const Value v = add_parts(*this, m, type, nullptr);
  return m.address_bytes == 2 ? ir.ubfx(v, 0, 16) : v;
}

Value Lifter::linear(Seg seg, Value offset, unsigned address_bytes) {
  if (address_bytes == 2) offset = ir.ubfx(offset, 0, 16);
  if (is64()) {
    offset = ir.zext(Type::I64, offset);
    return seg == FS || seg == GS ? ir.add(offset, segment_base(seg)) : offset;
  }
  if (seg == FS || seg == GS || (mode & kModeSegments)) offset = ir.add(offset, ir.trunc(Type::I32, segment_base(seg)));
  return ir.zext(Type::I64, offset);
}

Place Lifter::address(const Insn& insn) {
  const MemRef& m = insn.mem;
  Place p;
  p.op = {OperandKind::Mem, 0, 0, false};
  if (m.address_bytes == 8) {
    p.address = add_parts(*this, m, Type::I64, &p.disp);
    if (m.seg == FS || m.seg == GS) p.address = ir.add(p.address, segment_base(m.seg));
  } else {
    p.address = linear(m.seg, effective_address(insn), m.address_bytes);
  }
  return p;
}

void Lifter::demand_alignment(const Place& p, unsigned bytes) {
  const Value address = p.disp ? ir.add(p.address, ir.i64(static_cast<u64>(p.disp))) : p.address;
  trap_if(ir.icmp(Op::icmp_ne_, ir.and_(address, ir.i64(bytes - 1)), ir.i64(0)), kGP);
}

void Lifter::alignment_check(Value address, unsigned bytes) {
  if ((mode & kModeAlignmentCheck) == 0 || bytes < 2) return;
  trap_if(ir.icmp(Op::icmp_ne_, ir.and_(address, ir.i64(bytes - 1)), ir.i64(0)), kAC);
}

Value Lifter::load_v(const Place& p, unsigned bytes, bool aligned) {
  if (aligned && (mode & kModeAlignmentCheck)) {  // ExitKind::Alignment means #AC then
    demand_alignment(p, bytes);
    aligned = false;
  }
  ir::MemOp m = mem_op(bytes);
  m.align_check = aligned;
  return ir.load(Type::V128, p.address, p.disp, m);
}
void Lifter::store_v(const Place& p, unsigned bytes, Value v, bool aligned) {
  if (aligned && (mode & kModeAlignmentCheck)) {  // ExitKind::Alignment means #AC then
    demand_alignment(p, bytes);
    aligned = false;
  }
  ir::MemOp m = mem_op(bytes);
  m.align_check = aligned;
  ir.store(p.address, p.disp, v, m);
}

Value Lifter::stack_address(s64 disp) {
  const Value sp = gpr(RSP);
  const Value offset = disp ? ir.add(sp, ir.iconst(slot_type(), static_cast<u64>(disp))) : sp;
  return linear(SS, offset, stack_bytes());
}
void Lifter::move_stack(s64 by) {
  const Value sp = ir.add(gpr(RSP), ir.iconst(slot_type(), static_cast<u64>(by)));
  set_reg(RSP, stack_bytes(), stack_bytes() == 8 ? sp : ir.trunc(Type::I32, sp));
}

void Lifter::push(Value v, unsigned bytes) {
  if (is64()) {
    ir.store(gpr(RSP), -static_cast<s64>(bytes), v, mem_op(bytes));
  } else {
    ir.store(stack_address(-static_cast<s64>(bytes)), 0, v, mem_op(bytes));
  }
  move_stack(-static_cast<s64>(bytes));
}

Value Lifter::pop(unsigned bytes) {
  const Value v = ir.load(type_of(bytes), stack_address(0), 0, mem_op(bytes));
  move_stack(bytes);
  return v;
}

Value Lifter::result_flags(unsigned bytes, Value result, Value carry, Value overflow) {
  const auto bit = [&](Value v, unsigned at) { return v == ir::kNoValue ? v : ir.shl(ir.zext(Type::I32, v), ir.i32(at)); };
  const Value c = bit(carry, 29), v = bit(overflow, 28);
  const Value image = c == ir::kNoValue ? (v == ir::kNoValue ? ir.i32(0) : v) : v == ir::kNoValue ? c : ir.or_(c, v);
  return ir.eflags_result(width_of(bytes), result, image);
}

Lift Lifter::trap(const Insn& insn, u8 vector, u32 error) {
  ir.exit_exception(ir::ExitKind::Trap, insn.pc, trap_value(vector, error));
  return Lift::End;
}
void Lifter::trap_if(Value condition, u8 vector, u32 error) {
  ir.trap_if(condition, ir::ExitKind::Trap, trap_value(vector, error));
}

}  // namespace kiln::x86
