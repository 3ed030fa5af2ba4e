// Strings, flag instructions, segment registers, identification, time, hints.
#include "frontends/x86/helpers.h"
#include "frontends/x86/lifter.h"
#include "frontends/x86/x86_rows.h"

namespace kiln::x86 {

using ir::Cond;
using ir::Op;
using ir::Type;
using ir::Value;

Lift lift_nop(Lifter&, const Insn&) { return Lift::Next; }

Lift lift_privileged(Lifter& l, const Insn& i) { return l.general_protection(i); }

// --- strings --------------------------------------------------------------------------------------------------------------

namespace {

/// One element of a string instruction in line (no REP).
void single(Lifter& l, const Insn& i, StringOp op, unsigned bytes) {
  const unsigned address_bytes = i.address_bytes;
  const ir::MemOp m = Lifter::mem_op(bytes);
  const Value df = l.ir.get_reg(Type::I32, offsetof(X86State, df));
  const Value step32 = l.ir.sub(l.ir.i32(bytes), l.ir.shl(df, l.ir.i32(bytes == 1 ? 1 : bytes == 2 ? 2 : bytes == 4 ? 3 : 4)));
  const Value step = l.to_width(step32, address_bytes, true);
  const auto source = [&] {
    return l.ir.load(Lifter::type_of(bytes), l.linear(i.mem.seg, l.reg(RSI, address_bytes), address_bytes), 0, m);
  };
  const auto destination = [&] { return l.linear(ES, l.reg(RDI, address_bytes), address_bytes); };
  const auto advance = [&](unsigned r) { l.set_reg(r, address_bytes, l.ir.add(l.reg(r, address_bytes), step)); };
  switch (op) {
    case StringOp::Movs: {
      const Value v = source();
      l.ir.store(destination(), 0, v, m);
      advance(RSI);
      advance(RDI);
      break;
    }
    case StringOp::Cmps: {
      const Value a = source(), b = l.ir.load(Lifter::type_of(bytes), destination(), 0, m);
      advance(RSI);
      advance(RDI);
      l.ir.set_flags(l.ir.eflags_sub(Lifter::width_of(bytes), a, b));
      break;
    }
    case StringOp::Stos:
      l.ir.store(destination(), 0, l.reg(RAX, bytes), m);
      advance(RDI);
      break;
    case StringOp::Lods: {
      const Value v = source();
      l.set_reg(RAX, bytes, v);
      advance(RSI);
      break;
    }
    case StringOp::Scas: {
      const Value b = l.ir.load(Lifter::type_of(bytes), destination(), 0, m);
      advance(RDI);
      l.ir.set_flags(l.ir.eflags_sub(Lifter::width_of(bytes), l.reg(RAX, bytes), b));
      break;
    }
  }
}

}  // namespace

Lift lift_string(Lifter& l, const Insn& i) {
  const StringOp op = static_cast<StringOp>(i.param);
  const unsigned bytes = i.row->opcode & 1 ? i.operand_bytes : 1;
  if (!i.rep && !i.repne) {
    single(l, i, op, bytes);
    return Lift::Next;
  }
  // The helper works through a bounded number of elements and leaves registers and flags as after a whole iteration, so that
  // the instruction is interruptible and restarts at a fault.
  const u32 descriptor =
      string_descriptor(i.address_bytes, i.mem.seg, i.rep, i.repne, (l.mode & kModeSingleStep) != 0);
  const bool compares = op == StringOp::Cmps || op == StringOp::Scas;
  const Value flags = compares ? ir::kNoValue : l.ir.get_flags();
  const Value done = l.ir.call(string_helper(op, bytes), {l.ir.i32(descriptor)});
  if (!compares) l.ir.set_flags(flags);  // as they are: a tier that knows what kind they are of goes on knowing it
  l.ir.exit_branch(l.ir.icmp(Op::icmp_ne_, done, l.ir.i32(0)), i.next, i.pc);
  return Lift::End;
}

// --- flags ----------------------------------------------------------------------------------------------------------------

Lift lift_carry(Lifter& l, const Insn& i) {
  Value image = l.ir.flags_value(l.ir.get_flags());
  const Value c = l.ir.i32(1u << 29);
  if (i.param == 0) image = l.ir.andn(image, c);
  if (i.param == 1) image = l.ir.or_(image, c);
  if (i.param == 2) image = l.ir.xor_(image, c);
  l.ir.set_flags(l.ir.flags_image(image));
  return Lift::Next;
}
Lift lift_direction(Lifter& l, const Insn& i) {
  l.ir.set_reg(offsetof(X86State, df), l.ir.i32(i.param));
  return Lift::Next;
}

Lift lift_lahf(Lifter& l, const Insn&) {
  const Value image = l.ir.flags_value(l.ir.get_flags());
  const Value sz = l.ir.shl(l.ir.ubfx(image, 30, 2), l.ir.i32(6));
  const Value low = l.ir.or_(l.ir.and_(image, l.ir.i32(kPf | kAf)), l.ir.ubfx(image, 29, 1));
  const Value ah = l.ir.or_(l.ir.or_(sz, low), l.ir.i32(2));
  l.note_write(RAX);
  l.set_gpr(RAX, l.ir.bfi(l.gpr(RAX), l.ir.zext(l.slot_type(), ah), 8, 8));
  return Lift::Next;
}
Lift lift_sahf(Lifter& l, const Insn&) {
  const Value ah = l.ir.ubfx(l.reg(RAX, 4), 8, 8);
  const Value overflow = l.ir.and_(l.ir.flags_value(l.ir.get_flags()), l.ir.i32(1u << 28));
  const Value szc = l.ir.or_(l.ir.shl(l.ir.ubfx(ah, 6, 2), l.ir.i32(30)), l.ir.shl(l.ir.ubfx(ah, 0, 1), l.ir.i32(29)));
  const Value pa = l.ir.and_(ah, l.ir.i32(kPf | kAf));
  l.ir.set_flags(l.ir.flags_image(l.ir.or_(l.ir.or_(szc, pa), overflow)));
  return Lift::Next;
}
Lift lift_salc(Lifter& l, const Insn&) {
  l.set_reg(RAX, 1, l.ir.neg(l.ir.zext(Type::I32, l.flag(Cond::Cs))));
  return Lift::Next;
}

// --- segment registers ------------------------------------------------------------------------------------------------------

namespace {

/// After a segment load the mode may be another one: the block ends.
Lift end_after_load(Lifter& l, const Insn& i) {
  l.ir.exit_indirect(l.ir.i64(i.next), ir::ExitHint::NewMode);
  return Lift::End;
}

}  // namespace

Lift lift_mov_from_seg(Lifter& l, const Insn& i) {
  const Value v = l.ir.call(kReadSelector, {l.ir.i32(i.op[1].reg)});
  l.write(i, 0, l.to_width(v, i.op[0].bytes));
  return Lift::Next;
}
Lift lift_mov_to_seg(Lifter& l, const Insn& i) {
  if (i.op[0].reg == CS) return Lift::Undefined;
  l.ir.call(kLoadSegment, {l.ir.i32(i.op[0].reg), l.read_zext(i, 1)});
  return end_after_load(l, i);
}
Lift lift_push_seg(Lifter& l, const Insn& i) {
  l.push(l.to_width(l.ir.call(kReadSelector, {l.ir.i32(i.op[0].reg)}), i.operand_bytes), i.operand_bytes);
  return Lift::Next;
}
Lift lift_pop_seg(Lifter& l, const Insn& i) {
  // All of the stack slot is read, 16 bits of it count.
  const Value slot = l.ir.load(Lifter::type_of(i.operand_bytes), l.stack_address(0), 0, Lifter::mem_op(i.operand_bytes));
  l.ir.call(kLoadSegment, {l.ir.i32(i.op[0].reg), l.ir.ubfx(l.to_width(slot, 4), 0, 16)});
  l.move_stack(i.operand_bytes);
  return end_after_load(l, i);
}
Lift lift_load_far(Lifter& l, const Insn& i) {  // LDS, LES, LSS, LFS, LGS
  const unsigned bytes = i.operand_bytes;
  const Place p = l.place(i, 1);
  const Value offset = l.load(p, bytes);
  const Value selector =
      l.ir.load(Type::I32, l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp) + bytes)), 0, Lifter::mem_op(2));
  l.ir.call(kLoadSegment, {l.ir.i32(i.param), selector});
  l.write(i, 0, offset);
  return end_after_load(l, i);
}

Lift lift_fsgs_base(Lifter& l, const Insn& i) {
  const Seg seg = i.param & 1 ? GS : FS;
  const std::size_t slot = offsetof(X86State, seg_base) + 8 * seg;
  const unsigned bytes = i.op[0].bytes;
  if (i.param < 2) {
    l.write(i, 0, l.to_width(l.ir.get_reg(Type::I64, slot), bytes));
  } else {
    const Value v = l.to_width(l.read(i, 0), 8);
    // #GP(0) for a base that is not canonical.
    l.trap_if(l.ir.icmp(Op::icmp_ne_, l.ir.sbfx(v, 0, 48), v), kGP);
    l.ir.set_reg(slot, v);
  }
  return Lift::Next;
}

namespace {

/// (kind, selector) of kSegmentInfo; ZF := valid.
Value segment_info(Lifter& l, const Insn& i, unsigned kind, unsigned operand) {
  const Value info = l.ir.call(kSegmentInfo, {l.ir.i32(kind), l.read_zext(i, operand)});
  const Value image = l.ir.flags_value(l.ir.get_flags());
  const Value valid = l.ir.trunc(Type::I32, l.ir.lshr(info, l.ir.i64(32)));
  l.ir.set_flags(l.ir.flags_image(l.ir.bfi(image, valid, 30, 1)));
  return info;
}

}  // namespace

Lift lift_segment_info(Lifter& l, const Insn& i) {  // LAR, LSL
  const Value info = segment_info(l, i, i.param, 1);
  const Value valid = l.ir.icmp(Op::icmp_ne_, l.ir.lshr(info, l.ir.i64(32)), l.ir.i64(0));
  const unsigned bytes = i.op[0].bytes;
  const Value v = l.ir.trunc(Type::I32, info);
  if (bytes == 4) {  // without a result bits 63..32 stay too
    l.note_write(i.op[0].reg);
    l.set_gpr(i.op[0].reg, l.ir.select(valid, l.ir.zext(l.slot_type(), v), l.gpr(i.op[0].reg)));
  } else {
    l.write(i, 0, l.ir.select(valid, l.to_width(v, bytes), l.read(i, 0)));
  }
  return Lift::Next;
}
Lift lift_verify_segment(Lifter& l, const Insn& i) {  // VERR, VERW
  segment_info(l, i, 2u + i.param, 0);
  return Lift::Next;
}
Lift lift_arpl(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  const Value a = l.zext_from(l.read(p), 2), b = l.ir.ubfx(l.read(i, 1), 0, 2);
  const Value less = l.ir.icmp(Op::icmp_ult_, l.ir.ubfx(a, 0, 2), b);
  const Value adjusted = l.ir.bfi(a, b, 0, 2);
  if (p.op.kind == OperandKind::Mem) {  // written only if adjusted: read-only pages and code segments are fine otherwise
    if (i.mem.seg == CS) l.trap_if(less, kGP);
    const Value at = p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
    l.alignment_check(at, 2);
    l.ir.call(kStore16If, {at, adjusted, l.ir.zext(Type::I32, less)});
  } else {
    l.write(p, l.ir.select(less, adjusted, a));
  }
  const Value image = l.ir.flags_value(l.ir.get_flags());
  l.ir.set_flags(l.ir.flags_image(l.ir.bfi(image, l.ir.zext(Type::I32, less), 30, 1)));
  return Lift::Next;
}

// --- identification, time, random numbers -----------------------------------------------------------------------------------

namespace {

void set_edx_eax(Lifter& l, Value both) {
  l.set_reg(RAX, 4, l.ir.trunc(Type::I32, both));
  l.set_reg(RDX, 4, l.ir.trunc(Type::I32, l.ir.lshr(both, l.ir.i64(32))));
}

}  // namespace

Lift lift_cpuid(Lifter& l, const Insn&) {
  l.ir.call(kCpuid);
  l.rdx_is = RdxIs::Unknown;
  return Lift::Next;
}
Lift lift_rdtsc(Lifter& l, const Insn&) {
  set_edx_eax(l, l.ir.call(kRdtsc));
  return Lift::Next;
}
Lift lift_rdtscp(Lifter& l, const Insn&) {
  set_edx_eax(l, l.ir.call(kRdtsc));
  l.set_reg(RCX, 4, l.ir.call(kRdpid));
  return Lift::Next;
}
Lift lift_rdpid(Lifter& l, const Insn& i) {
  l.write(i, 0, l.to_width(l.ir.call(kRdpid), i.op[0].bytes));
  return Lift::Next;
}
Lift lift_random(Lifter& l, const Insn& i) {  // RDRAND, RDSEED: never short of numbers
  l.write(i, 0, l.to_width(l.ir.call(kRandom), i.op[0].bytes));
  l.ir.set_flags(l.ir.flags_image(l.ir.i32(1u << 29)));
  return Lift::Next;
}

/// CLFLUSH, CLFLUSHOPT, CLWB: to the caches nothing, to the access rights a load of the byte (SDM vol. 2).
Lift lift_flush_line(Lifter& l, const Insn& i) {
  l.load(l.address(i), 1);
  return Lift::Next;
}

}  // namespace kiln::x86
