// What only AVX and AVX2 have: broadcasts, halves, permutations across lanes, masked moves, gathers, VZEROUPPER.
#include "frontends/x86/lift_sse.h"

namespace kiln::x86 {

namespace {
unsigned vector_registers(const Lifter& l) { return l.is64() ? 16 : 8; }
}  // namespace
Lift lift_vzeroupper(Lifter& l, const Insn&) {
  const Value zero = v_zero(l);
  for (unsigned r = 0; r < vector_registers(l); ++r) l.set_ymm_high(r, zero);
  return Lift::Next;
}
Lift lift_vzeroall(Lifter& l, const Insn&) {
  const Value zero = v_zero(l);
  for (unsigned r = 0; r < vector_registers(l); ++r) {
    l.set_xmm(r, zero);
    l.set_ymm_high(r, zero);
  }
  return Lift::Next;
}

// param: lane width, 4: all 128 bits.
Lift lift_vbroadcast(Lifter& l, const Insn& i) {
  const Value a = read_v(l, i, 1).low;
  const Value r = i.param == 4 ? a : l.ir.vec(Op::v_dup_lane_, lane_of(i), {a}, 0);
  return write_result(l, i, {r, i.vex256 ? r : ir::kNoValue});
}

// --- halves of 128 bits ----------------------------------------------------------------------------------------------
Lift lift_vextract128(Lifter& l, const Insn& i) {
  const unsigned r = i.op[1].reg;
  const Value v = i.imm & 1 ? l.ymm_high(r) : l.xmm(r);
  if (i.op[0].kind == OperandKind::Mem) {
    l.store_v(l.address(i), 16, v);
    return Lift::Next;
  }
  write_v(l, i, i.op[0].reg, {v});
  return Lift::Next;
}
Lift lift_vinsert128(Lifter& l, const Insn& i) {
  const Value part = read_v(l, i, 2).low;
  Halves r = read_v(l, i, 1);
  r[i.imm & 1] = part;
  return write_result(l, i, r);
}
Lift lift_vperm2_128(Lifter& l, const Insn& i) {
  const Halves b = read_v(l, i, 2), a = read_v(l, i, 1);
  const auto chosen = [&](unsigned control) {
    if (control & 8) return v_zero(l);
    return control & 2 ? b[control & 1] : a[control & 1];
  };
  return write_result(l, i, {chosen(static_cast<unsigned>(i.imm) & 15), chosen(static_cast<unsigned>(i.imm >> 4) & 15)});
}

// --- permutations ----------------------------------------------------------------------------------------------------
Lift lift_vpermil_imm(Lifter& l, const Insn& i) {
  const Halves a = read_v(l, i, 1);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h)
    r[h] = i.param == 2 ? l.ir.vec(Op::v_permute_, Width::B4, {a[h]}, i.imm)
                        : l.ir.vec(Op::v_permute2_, Width::B8, {a[h], a[h]}, (i.imm >> (2 * h)) & 3);
  return write_result(l, i, r);
}
Lift lift_vpermil(Lifter& l, const Insn& i) {
  return two_sources(l, i, [&](Value a, Value b) { return l.ir.call(i.param == 2 ? kPermute4 : kPermute8, {a, b}); });
}
// VPERMD, VPERMPS: the first source are the indices.
Lift lift_vpermd(Lifter& l, const Insn& i) {
  const Halves a = read_v(l, i, 2), index = read_v(l, i, 1);
  Halves r;
  for (unsigned h = 0; h < 2; ++h) r[h] = l.ir.call(kPermuteAcross, {a.low, a.high, index[h]});
  return write_result(l, i, r);
}
// VPERMQ, VPERMPD: each result half is two lanes out of four.
Lift lift_vpermq(Lifter& l, const Insn& i) {
  const Halves a = read_v(l, i, 1);
  Halves r;
  for (unsigned h = 0; h < 2; ++h) {
    const unsigned first = static_cast<unsigned>(i.imm >> (4 * h)) & 3,
                   second = static_cast<unsigned>(i.imm >> (4 * h + 2)) & 3;
    r[h] = l.ir.vec(Op::v_permute2_, Width::B8, {a[first >> 1], a[second >> 1]}, (first & 1) | (second & 1) << 1);
  }
  return write_result(l, i, r);
}

// --- masked moves ----------------------------------------------------------------------------------------------------
namespace {
Value address_of(Lifter& l, const Place& p, s64 by) {
  return p.disp + by ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp + by))) : p.address;
}
}  // namespace
Lift lift_vmaskmov_load(Lifter& l, const Insn& i) {
  const Place p = l.address(i);
  const Halves mask = read_v(l, i, 1);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h)
    r[h] = l.ir.call(i.param == 2 ? kMaskedLoad4 : kMaskedLoad8, {address_of(l, p, 16 * h), mask[h]});
  return write_result(l, i, r);
}
Lift lift_vmaskmov_store(Lifter& l, const Insn& i) {
  const Value to = address_of(l, l.address(i), 0);
  const unsigned mask = i.op[1].reg, data = i.op[2].reg;
  if (i.vex256) l.ir.call(kMaskedStore256, {to, l.ir.i32(mask | data << 4 | (i.param == 3 ? 256u : 0u))});
  else l.ir.call(i.param == 2 ? kMaskedStore4 : kMaskedStore8, {to, l.xmm(mask), l.xmm(data)});
  return Lift::Next;
}

// param: bit 0 the index has 64 bits, bit 1 the elements.
Lift lift_vgather(Lifter& l, const Insn& i) {
  if ((i.modrm & 7) != 4 || i.mem.address_bytes == 2) return Lift::Undefined;  // no SIB
  GatherShape shape{i.op[0].reg, static_cast<u8>(i.mem.index), i.op[2].reg};
  if (shape.destination == shape.index || shape.destination == shape.mask || shape.index == shape.mask) return Lift::Undefined;
  shape.index64 = (i.param & 1) != 0;
  shape.element64 = (i.param & 2) != 0;
  shape.vex256 = i.vex256;
  shape.scale_log2 = i.mem.scale_log2;
  shape.address32 = i.mem.address_bytes == 4;
  Insn base = i;
  base.mem.index = MemRef::kNone;
  const Value offset = l.ir.zext(Type::I64, l.effective_address(base));
  const bool segment = i.mem.seg == FS || i.mem.seg == GS || (!l.is64() && (l.mode & kModeSegments));
  l.ir.call(kGather, {segment ? l.segment_base(i.mem.seg) : l.ir.i64(0), offset, l.ir.i32(shape.pack())});
  return Lift::Next;
}

}  // namespace kiln::x86
