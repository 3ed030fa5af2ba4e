// SSE and AVX: operands, moves, lane access, MXCSR.
#include "frontends/x86/features.h"
#include "frontends/x86/lift_sse.h"

namespace kiln::x86 {

Halves read_v(Lifter& l, const Insn& i, unsigned n, bool aligned) {
  const Operand& o = i.op[n];
  Halves v;
  if (o.kind != OperandKind::Mem) {
    v.low = l.xmm(o.reg);
    if (o.bytes == 32) v.high = l.ymm_high(o.reg);
    return v;
  }
  Place p = l.address(i);
  if (o.bytes != 32) {
    v.low = l.load_v(p, o.bytes, aligned);
    return v;
  }
  // A misaligned 32-byte operand is refused by a check of the whole: its low half may well be 16-byte aligned.
  if (aligned) l.demand_alignment(p, 32);
  v.low = l.load_v(p, 16);
  p.disp += 16;
  v.high = l.load_v(p, 16);
  return v;
}

void write_v(Lifter& l, const Insn& i, unsigned reg, Halves v) {
  l.set_xmm(reg, v.low);
  if (v.high != ir::kNoValue) l.set_ymm_high(reg, v.high);
  else if (i.vex) l.set_ymm_high(reg, v_zero(l));
}

void FpGuard::check() {
  if (before_ != ir::kNoValue) l_.ir.call(kFpEnd, {before_});
}
void FpGuard::check(FpShape shape, Halves a, Halves b, Halves c) {
  if (before_ == ir::kNoValue) return;
  const Value none = v_zero(l_);
  const auto flags = [&](Value x, Value y, Value z) {
    if (x == ir::kNoValue) return l_.ir.i32(0);
    return l_.ir.call(kFpRangeFlags, {l_.ir.i32(shape.pack()), x, y == ir::kNoValue ? none : y, z == ir::kNoValue ? none : z});
  };
  const Value low = flags(a.low, b.low, c.low), high = flags(a.high, b.high, c.high);
  l_.ir.call(kFpEndRange, {before_, low, high});
}
void FpGuard::check_scalar(FpShape shape, Value a, Value b, Value c) {
  if (before_ == ir::kNoValue) return;
  shape.scalar = true;
  const auto vector = [&](Value f) { return Halves{f == ir::kNoValue ? f : l_.ir.f_to_v(f)}; };
  check(shape, vector(a), vector(b), vector(c));
}

// --- whole registers -------------------------------------------------------------------------------------------------
// param 1: aligned, in VEX forms too.
Lift lift_vmov(Lifter& l, const Insn& i) {
  const bool aligned = i.param != 0;
  if (i.op[0].kind != OperandKind::Mem) {
    const Halves v = read_v(l, i, 1, aligned);
    return write_result(l, i, v);
  }
  const Halves v = read_v(l, i, 1);
  Place p = l.address(i);
  if (i.op[0].bytes != 32) {
    l.store_v(p, i.op[0].bytes, v.low, aligned);
    return Lift::Next;
  }
  if (aligned) l.demand_alignment(p, 32);
  store_halves(l, p, v);
  return Lift::Next;
}

void store_halves(Lifter& l, Place p, Halves v) {
  // The high half first: where the second page of a store that crosses into it faults, nothing has been written.
  Place upper = p;
  upper.disp += 16;
  l.store_v(upper, 16, v.high);
  l.store_v(p, 16, v.low);
}

Lift lift_movnti(Lifter& l, const Insn& i) {
  l.write(i, 0, l.read(i, 1));
  return Lift::Next;
}

// --- parts of registers ----------------------------------------------------------------------------------------------
Lift lift_vmov_scalar_load(Lifter& l, const Insn& i) { return write_result(l, i, read_v(l, i, 1)); }
Lift lift_vmov_scalar_store(Lifter& l, const Insn& i) {
  l.store_v(l.address(i), i.op[0].bytes, l.xmm(i.op[1].reg));
  return Lift::Next;
}
Lift lift_vmov_scalar(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  // The scalar's width stands with the r/m operand: the source of 10, the destination of 11.
  const Width lane = Lifter::width_of(std::min(i.op[first + 1].bytes, i.op[0].bytes));
  const Value r = l.ir.vec(Op::v_insert_lane_, lane, {l.xmm(i.op[first].reg), l.xmm(i.op[first + 1].reg)}, 0, 0);
  return write_result(l, i, {r});
}
// param: which half.
Lift lift_vmov_half_load(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const Value part = read_v(l, i, first + 1).low;
  const Value r = l.ir.vec(Op::v_insert_lane_, Width::B8, {l.xmm(i.op[first].reg), part}, i.param, 0);
  return write_result(l, i, {r});
}
Lift lift_vmov_half_store(Lifter& l, const Insn& i) {
  const Place p = l.address(i);
  const Value v = l.xmm(i.op[1].reg);
  if (i.param == 0) l.store_v(p, 8, v);
  else l.store(p, 8, l.ir.v_extract(Type::I64, Width::B8, v, 1));
  return Lift::Next;
}
Lift lift_movhlps(Lifter& l, const Insn& i) {
  return two_sources(l, i, [&](Value a, Value b) { return l.ir.vec(Op::v_insert_lane_, Width::B8, {a, b}, 0, 1); });
}
Lift lift_movlhps(Lifter& l, const Insn& i) {
  return two_sources(l, i, [&](Value a, Value b) { return l.ir.vec(Op::v_insert_lane_, Width::B8, {a, b}, 1, 0); });
}
Lift lift_movddup(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.vec(Op::v_zip_lo_, Width::B8, {a, a}); });
}
Lift lift_movsldup(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.vec(Op::v_permute_, Width::B4, {a}, i.param ? 0xf5 : 0xa0); });
}

Lift lift_movd_to_xmm(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[1].bytes;
  if (i.op[1].kind == OperandKind::Mem) return write_result(l, i, read_v(l, i, 1));
  const Value f = l.ir.bitcast(bytes == 8 ? Type::F64 : Type::F32, l.read(i, 1));
  return write_result(l, i, {l.ir.f_to_v(f)});
}
Lift lift_movd_from_xmm(Lifter& l, const Insn& i) {
  const unsigned bytes = i.op[0].bytes;
  const Value v = l.xmm(i.op[1].reg);
  if (i.op[0].kind == OperandKind::Mem) l.store_v(l.address(i), bytes, v);
  else l.write(i, 0, l.ir.v_extract(Lifter::type_of(bytes), Lifter::width_of(bytes), v, 0));
  return Lift::Next;
}
Lift lift_movq_load(Lifter& l, const Insn& i) {
  const Value v = read_v(l, i, 1).low;
  return write_result(l, i, {i.op[1].kind == OperandKind::Mem ? v : l.ir.v_low64(v)});
}
Lift lift_movq_store(Lifter& l, const Insn& i) {
  const Value v = l.xmm(i.op[1].reg);
  if (i.op[0].kind != OperandKind::Mem) return write_result(l, i, {l.ir.v_low64(v)});
  l.store_v(l.address(i), 8, v);
  return Lift::Next;
}

// param: lane width.
Lift lift_movmsk(Lifter& l, const Insn& i) {
  const Halves v = read_v(l, i, 1);
  const auto mask = [&](Value half) { return l.ir.emit(Op::v_movemask_, Type::I32, {half}, 0, 0, 0, i.param); };
  const unsigned lanes = 16u >> i.param;
  Value r = mask(v.low);
  if (i.vex256) r = l.ir.bfi(r, mask(v.high), lanes, lanes);
  l.set_reg(i.op[0].reg, 4, r);
  return Lift::Next;
}

// --- single lanes ----------------------------------------------------------------------------------------------------
// param: lane width; of PINSRD by the operand size.
Lift lift_pinsr(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const Width lane = i.param == 2 ? Lifter::width_of(i.op[first + 1].bytes) : static_cast<Width>(i.param);
  const Value v = l.read(i, first + 1);
  const Value r = l.ir.vec(Op::v_insert_, lane, {l.xmm(i.op[first].reg), v}, i.imm & (15u >> static_cast<unsigned>(lane)));
  return write_result(l, i, {r});
}
// param 4: EXTRACTPS, always 32 bits.
Lift lift_pextr(Lifter& l, const Insn& i) {
  const Width lane = i.param == 2 ? Lifter::width_of(i.op[0].bytes) : static_cast<Width>(i.param == 4 ? 2 : i.param);
  const unsigned index = static_cast<unsigned>(i.imm) & (15u >> static_cast<unsigned>(lane));
  const Value v = l.ir.v_extract(lane == Width::B8 ? Type::I64 : Type::I32, lane, l.xmm(i.op[1].reg), index);
  if (i.op[0].kind == OperandKind::Mem) l.store(l.address(i), ir::width_bytes(lane), v);
  else l.set_reg(i.op[0].reg, lane == Width::B8 ? 8 : 4, v);
  return Lift::Next;
}
Lift lift_insertps(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const Value b = read_v(l, i, first + 1).low;
  const unsigned from = i.op[first + 1].kind == OperandKind::Mem ? 0 : static_cast<unsigned>(i.imm >> 6) & 3;
  Value r = l.ir.vec(Op::v_insert_lane_, Width::B4, {l.xmm(i.op[first].reg), b}, (i.imm >> 4) & 3, from);
  if (i.imm & 15) r = l.ir.vec(Op::v_blend_, Width::B4, {r, v_zero(l)}, i.imm & 15);
  return write_result(l, i, {r});
}

// --- masked store, control -------------------------------------------------------------------------------------------
Lift lift_maskmovdqu(Lifter& l, const Insn& i) {
  const Value to = l.linear(i.mem.seg, l.reg(RDI, i.address_bytes), i.address_bytes);
  l.alignment_check(to, 8);  // AMD: two halves
  l.ir.call(kMaskedStoreBytes, {to, l.xmm(i.op[0].reg), l.xmm(i.op[1].reg)});
  return Lift::Next;
}
Lift lift_vfence(Lifter& l, const Insn& i) {
  l.ir.fence(static_cast<ir::Order>(i.param));
  return Lift::Next;
}
Lift lift_ldmxcsr(Lifter& l, const Insn& i) {
  const Value v = l.read(i, 0);
  const u32 mask = has_feature(l.mode, Feature::sse2_) ? 0xffff : kMxcsrWithoutDaz;
  l.trap_if(l.ir.icmp(Op::icmp_ne_, l.ir.and_(v, l.ir.i32(~mask)), l.ir.i32(0)), kGP);
  l.ir.call(kLoadMxcsr, {v});
  // The mode word may have changed.
  l.ir.exit_indirect(l.ir.i64(i.next), ir::ExitHint::NewMode);
  return Lift::End;
}
Lift lift_stmxcsr(Lifter& l, const Insn& i) {
  const Place p = l.place(i, 0);
  l.write(p, l.ir.call(kStoreMxcsr));
  return Lift::Next;
}

}  // namespace kiln::x86
