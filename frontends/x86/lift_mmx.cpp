// MMX. A register is the low half of st[i]; ops work on it as on a vector whose upper half is zero. Every instruction but EMMS
// makes the x87 state an MMX one (SDM vol. 1, 9.5.1): TOP 0, all tags valid, the written register's upper 16 bits ones.
#include "frontends/x86/helpers_x87.h"
#include "frontends/x86/lift_sse.h"
#include "frontends/x86/lift_x87.h"

namespace kiln::x86 {

using ir::FpOp;
using ir::Round;

namespace {

constexpr u32 kEntered = 1u << 8;  // of Lifter::mmx_known

constexpr std::size_t low_offset(unsigned reg) { return offsetof(X86State, st) + 16 * reg; }

/// First of all: #MF if an exception is pending. The registers change with commit_mmx().
void begin_mmx(Lifter& l) {
  if ((l.mmx_known & kEntered) == 0) x87_pending_check(l);
}
/// After everything that may fault.
void commit_mmx(Lifter& l) {
  if (l.mmx_known & kEntered) return;
  l.ir.set_reg(offsetof(X86State, ftop), l.ir.i32(0));
  l.ir.set_reg(offsetof(X86State, ftw), l.ir.i32(0xff));
  l.mmx_known |= kEntered;
}

/// An I64 with zeros above it.
Value vector_of(Lifter& l, Value low) { return l.ir.f_to_v(l.ir.bitcast(Type::F64, low)); }
Value low_of(Lifter& l, Value vector) { return l.ir.v_extract(Type::I64, Width::B8, vector, 0); }

Value mmx_low(Lifter& l, unsigned reg) { return l.ir.get_reg(Type::I64, low_offset(reg)); }
Value mmx(Lifter& l, unsigned reg) { return vector_of(l, mmx_low(l, reg)); }

/// The last step: enters the MMX state too.
void set_mmx_low(Lifter& l, unsigned reg, Value low) {
  commit_mmx(l);
  l.ir.set_reg(low_offset(reg), low);
  if ((l.mmx_known >> reg & 1) == 0) l.ir.set_reg(low_offset(reg) + 8, l.ir.i64(0xffff));
  l.mmx_known |= 1u << reg;
}
void set_mmx(Lifter& l, unsigned reg, Value vector) { set_mmx_low(l, reg, low_of(l, vector)); }

/// An MMX register or 64 (or fewer) bits of memory.
Value read_mmx(Lifter& l, const Insn& i, unsigned n) {
  const Operand& o = i.op[n];
  return o.kind == OperandKind::Mem ? l.load_v(l.address(i), o.bytes) : mmx(l, o.reg);
}

/// dst = fn(dst, src), on vectors.
template <class Fn>
Lift mmx_two(Lifter& l, const Insn& i, Fn&& fn) {
  begin_mmx(l);
  const Value b = read_mmx(l, i, 1), a = mmx(l, i.op[0].reg);
  set_mmx(l, i.op[0].reg, fn(a, b));
  return Lift::Next;
}
/// dst = op(dst, src), lane by lane; the lane is the row's parameter.
Lift mmx_lanes(Lifter& l, const Insn& i, Op op) {
  return mmx_two(l, i, [&](Value a, Value b) { return l.ir.vec(op, lane_of(i), {a, b}); });
}
Lift mmx_shift_imm(Lifter& l, const Insn& i, Op op) {
  begin_mmx(l);
  set_mmx(l, i.op[0].reg, l.ir.vec(op, lane_of(i), {mmx(l, i.op[0].reg)}, i.imm & 0xff));
  return Lift::Next;
}
/// Both operands as one vector: a below b.
Value joined(Lifter& l, Value a, Value b) { return l.ir.vec(Op::v_zip_lo_, Width::B8, {a, b}); }

}  // namespace

Lift lift_mmx_add(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_add_); }
Lift lift_mmx_sub(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_sub_); }
Lift lift_mmx_add_sat_s(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_add_sat_s_); }
Lift lift_mmx_add_sat_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_add_sat_u_); }
Lift lift_mmx_sub_sat_s(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_sub_sat_s_); }
Lift lift_mmx_sub_sat_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_sub_sat_u_); }
Lift lift_mmx_cmpeq(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_cmpeq_); }
Lift lift_mmx_cmpgt(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_cmpgt_s_); }
Lift lift_mmx_min_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_min_u_); }
Lift lift_mmx_max_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_max_u_); }
Lift lift_mmx_min_s(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_min_s_); }
Lift lift_mmx_max_s(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_max_s_); }
Lift lift_mmx_avg_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_avg_u_); }
Lift lift_mmx_mul(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_mul_); }
Lift lift_mmx_mulhi_s(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_mulhi_s_); }
Lift lift_mmx_mulhi_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_mulhi_u_); }
Lift lift_mmx_mulhi_round(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_mulhi_round_); }
Lift lift_mmx_mul_even_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_mul_even_u_); }
Lift lift_mmx_madd_s(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_madd_s_); }
Lift lift_mmx_madd_us(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_madd_us_); }
Lift lift_mmx_sad_u(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_sad_u_); }
Lift lift_mmx_sign(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_sign_); }
Lift lift_mmx_shl(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_shl_by_); }
Lift lift_mmx_lshr(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_lshr_by_); }
Lift lift_mmx_ashr(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_ashr_by_); }
Lift lift_mmx_shl_imm(Lifter& l, const Insn& i) { return mmx_shift_imm(l, i, Op::v_shl_); }
Lift lift_mmx_lshr_imm(Lifter& l, const Insn& i) { return mmx_shift_imm(l, i, Op::v_lshr_); }
Lift lift_mmx_ashr_imm(Lifter& l, const Insn& i) { return mmx_shift_imm(l, i, Op::v_ashr_); }

Lift lift_mmx_and(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_and_); }
Lift lift_mmx_or(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_or_); }
Lift lift_mmx_xor(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_xor_); }
Lift lift_mmx_andn(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value a, Value b) { return l.ir.vec(Op::v_andn_, Width::B1, {b, a}); });
}

Lift lift_mmx_abs(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value, Value b) { return l.ir.vec(Op::v_abs_, lane_of(i), {b}); });
}

Lift lift_mmx_unpack_low(Lifter& l, const Insn& i) { return mmx_lanes(l, i, Op::v_zip_lo_); }
Lift lift_mmx_unpack_high(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value a, Value b) {
    return l.ir.vec(Op::v_dup_lane_, Width::B8, {l.ir.vec(Op::v_zip_lo_, lane_of(i), {a, b})}, 1);
  });
}
/// param: width of the result's lanes, 4: unsigned saturation.
Lift lift_mmx_pack(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value a, Value b) {
    const Value both = joined(l, a, b);
    return l.ir.vec(i.param & 4 ? Op::v_pack_u_ : Op::v_pack_s_, lane_of(i), {both, both});
  });
}
Lift lift_mmx_pshufw(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value, Value b) { return l.ir.vec(Op::v_permute_lo_, Width::B2, {b}, i.imm & 0xff); });
}
Lift lift_mmx_pshufb(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value a, Value b) {
    constexpr u64 kIndexBits = 0x8787878787878787;
    return l.ir.vec(Op::v_shuffle_, Width::B1, {a, l.ir.vec(Op::v_and_, Width::B1, {b, l.ir.vconst(kIndexBits, kIndexBits)})});
  });
}
/// param: lane width, 4: saturating, 8: difference.
Lift lift_mmx_horizontal(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value a, Value b) {
    const Value both = joined(l, a, b);
    const Value even = l.ir.vec(Op::v_uzp_even_, lane_of(i), {both, both}),
                odd = l.ir.vec(Op::v_uzp_odd_, lane_of(i), {both, both});
    const bool saturate = (i.param & 4) != 0, subtract = (i.param & 8) != 0;
    const Op op = subtract ? (saturate ? Op::v_sub_sat_s_ : Op::v_sub_) : (saturate ? Op::v_add_sat_s_ : Op::v_add_);
    return l.ir.vec(op, lane_of(i), {even, odd});
  });
}
Lift lift_mmx_palignr(Lifter& l, const Insn& i) {
  return mmx_two(l, i, [&](Value a, Value b) { return bytes_down(l, joined(l, b, a), i.imm & 0xff); });
}

// --- moves -----------------------------------------------------------------------------------------------------------
Lift lift_mmx_load(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Operand& o = i.op[1];
  set_mmx_low(l, i.op[0].reg, o.kind == OperandKind::Mem ? l.load(l.address(i), 8) : mmx_low(l, o.reg));
  return Lift::Next;
}
Lift lift_mmx_store(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Value v = mmx_low(l, i.op[1].reg);
  if (i.op[0].kind != OperandKind::Mem) {
    set_mmx_low(l, i.op[0].reg, v);
  } else {
    l.store(l.address(i), 8, v);
    commit_mmx(l);
  }
  return Lift::Next;
}
Lift lift_mmx_from_gpr(Lifter& l, const Insn& i) {
  begin_mmx(l);
  set_mmx_low(l, i.op[0].reg, l.ir.zext(Type::I64, l.read_zext(i, 1)));
  return Lift::Next;
}
Lift lift_mmx_to_gpr(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Value v = mmx_low(l, i.op[1].reg);
  l.write(i, 0, i.op[0].bytes == 8 ? v : l.ir.trunc(Type::I32, v));
  commit_mmx(l);
  return Lift::Next;
}
Lift lift_mmx_pinsrw(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Value word = l.read(i, 1);
  set_mmx(l, i.op[0].reg, l.ir.vec(Op::v_insert_, Width::B2, {mmx(l, i.op[0].reg), word}, i.imm & 3));
  return Lift::Next;
}
Lift lift_mmx_pextrw(Lifter& l, const Insn& i) {
  begin_mmx(l);
  l.write(i, 0, l.ir.v_extract(Type::I32, Width::B2, mmx(l, i.op[1].reg), i.imm & 3));
  commit_mmx(l);
  return Lift::Next;
}
Lift lift_mmx_pmovmskb(Lifter& l, const Insn& i) {
  begin_mmx(l);
  l.write(i, 0, l.ir.emit(Op::v_movemask_, Type::I32, {mmx(l, i.op[1].reg)}, 0, 0, 0, static_cast<u8>(Width::B1)));
  commit_mmx(l);
  return Lift::Next;
}
Lift lift_maskmovq(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Value to = l.linear(i.mem.seg, l.reg(RDI, i.address_bytes), i.address_bytes);
  // The mask's upper half is zero, so only eight bytes are looked at.
  if (l.mode & kModeAlignmentCheck) {
    commit_mmx(l);  // #AC finds the MMX state entered
    l.alignment_check(to, 8);
  }
  l.ir.call(kMaskedStoreBytes, {to, mmx(l, i.op[0].reg), mmx(l, i.op[1].reg)});
  commit_mmx(l);
  return Lift::Next;
}
Lift lift_emms(Lifter& l, const Insn&) {
  begin_mmx(l);
  commit_mmx(l);
  l.ir.set_reg(offsetof(X86State, ftw), l.ir.i32(0));
  l.mmx_known = 0;
  return Lift::Next;
}

// --- between MMX and SSE ---------------------------------------------------------------------------------------------
Lift lift_movdq2q(Lifter& l, const Insn& i) {
  begin_mmx(l);
  set_mmx(l, i.op[0].reg, l.xmm(i.op[1].reg));
  return Lift::Next;
}
Lift lift_movq2dq(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Value v = mmx(l, i.op[1].reg);
  commit_mmx(l);
  l.set_xmm(i.op[0].reg, v);
  return Lift::Next;
}
/// Memory operands leave the x87 state alone (both manuals say so of CVTPI2PD; of CVTPI2PS the silicon does).
Lift lift_cvtpi2ps(Lifter& l, const Insn& i) {
  const bool from_memory = i.op[1].kind == OperandKind::Mem;
  if (!from_memory) begin_mmx(l);
  const Value v = read_mmx(l, i, 1);
  FpGuard guard(l);
  const Value r = l.ir.vec(Op::v_int_to_f_, Width::B4, {v}, 0, 0, l.fp().pack());
  guard.check();
  if (!from_memory) commit_mmx(l);
  l.set_xmm(i.op[0].reg, l.ir.vec(Op::v_insert_lane_, Width::B8, {l.xmm(i.op[0].reg), r}, 0, 0));
  return Lift::Next;
}
Lift lift_cvtpi2pd(Lifter& l, const Insn& i) {
  const bool from_memory = i.op[1].kind == OperandKind::Mem;
  if (!from_memory) begin_mmx(l);
  const Value v = read_mmx(l, i, 1);
  if (!from_memory) commit_mmx(l);
  l.set_xmm(i.op[0].reg, l.ir.vec(Op::v_int_to_f_widen_, Width::B4, {v}));
  return Lift::Next;
}
/// param 1: truncating.
Lift lift_cvtps2pi(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Operand& o = i.op[1];
  // Zeros above: they raise nothing.
  const Value v = o.kind == OperandKind::Mem ? l.load_v(l.address(i), 8) : l.ir.v_low64(l.xmm(o.reg));
  FpGuard guard(l);
  FpOp f = l.fp();
  if (i.param) f.round = Round::Zero;
  const Value r = l.ir.vec(Op::v_f_to_int_, Width::B4, {v}, 0, 0, f.pack());
  guard.check();
  set_mmx(l, i.op[0].reg, r);
  return Lift::Next;
}
Lift lift_cvtpd2pi(Lifter& l, const Insn& i) {
  begin_mmx(l);
  const Value v = read_v(l, i, 1).low;
  FpGuard guard(l);
  FpOp f = l.fp();
  if (i.param) f.round = Round::Zero;
  const Value r = l.ir.vec(Op::v_f_to_int_narrow_, Width::B4, {v}, 0, 0, f.pack());
  guard.check();
  set_mmx(l, i.op[0].reg, r);
  return Lift::Next;
}

}  // namespace kiln::x86
