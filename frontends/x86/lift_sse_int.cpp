// Integer vectors: SSE2 to SSE4.2, and their AVX and AVX2 forms.
#include "frontends/x86/lift_sse.h"

namespace kiln::x86 {
namespace {

Lift lanes(Lifter& l, const Insn& i, Op op) {
  return two_sources(l, i, [&](Value a, Value b) { return l.ir.vec(op, lane_of(i), {a, b}); });
}
bool same_sources(const Insn& i) {
  const unsigned first = first_source(i);
  return i.op[first + 1].kind == OperandKind::Xmm && i.op[first].reg == i.op[first + 1].reg;
}
Lift constant(Lifter& l, const Insn& i, u64 fill) {
  const Value v = l.ir.vconst(fill, fill);
  return write_result(l, i, {v, i.vex256 ? v : ir::kNoValue});
}
/// The idioms for zero depend on no register.
Lift zero_if_same(Lifter& l, const Insn& i, Op op) { return same_sources(i) ? constant(l, i, 0) : lanes(l, i, op); }

}  // namespace

#define KILN_LANES(name, op) \
  Lift lift_##name(Lifter& l, const Insn& i) { return lanes(l, i, Op::op##_); }
KILN_LANES(padd, v_add)
KILN_LANES(padds, v_add_sat_s)
KILN_LANES(paddus, v_add_sat_u)
KILN_LANES(psubs, v_sub_sat_s)
KILN_LANES(psubus, v_sub_sat_u)
KILN_LANES(pavg, v_avg_u)
KILN_LANES(pmins, v_min_s)
KILN_LANES(pmaxs, v_max_s)
KILN_LANES(pminu, v_min_u)
KILN_LANES(pmaxu, v_max_u)
KILN_LANES(pmull, v_mul)
KILN_LANES(pmulhw, v_mulhi_s)
KILN_LANES(pmulhuw, v_mulhi_u)
KILN_LANES(pmulhrsw, v_mulhi_round)
KILN_LANES(pmuludq, v_mul_even_u)
KILN_LANES(pmuldq, v_mul_even_s)
KILN_LANES(pmaddwd, v_madd_s)
KILN_LANES(pmaddubsw, v_madd_us)
KILN_LANES(psadbw, v_sad_u)
KILN_LANES(psign, v_sign)
KILN_LANES(pand, v_and)
KILN_LANES(por, v_or)
KILN_LANES(punpckl, v_zip_lo)
KILN_LANES(punpckh, v_zip_hi)
KILN_LANES(pshufb, v_shuffle)
KILN_LANES(psllv, v_shl_each)
KILN_LANES(psrlv, v_lshr_each)
KILN_LANES(psrav, v_ashr_each)
#undef KILN_LANES

Lift lift_psub(Lifter& l, const Insn& i) { return zero_if_same(l, i, Op::v_sub_); }
Lift lift_pxor(Lifter& l, const Insn& i) { return zero_if_same(l, i, Op::v_xor_); }
Lift lift_pcmpgt(Lifter& l, const Insn& i) { return zero_if_same(l, i, Op::v_cmpgt_s_); }
Lift lift_pcmpeq(Lifter& l, const Insn& i) { return same_sources(i) ? constant(l, i, ~u64{0}) : lanes(l, i, Op::v_cmpeq_); }
Lift lift_pandn(Lifter& l, const Insn& i) {
  if (same_sources(i)) return constant(l, i, 0);
  return two_sources(l, i, [&](Value a, Value b) { return l.ir.vec(Op::v_andn_, Width::B8, {b, a}); });
}
// param: width of the sources' lanes in v_pack_*: half of them in the result.
Lift lift_packss(Lifter& l, const Insn& i) { return lanes(l, i, Op::v_pack_s_); }
Lift lift_packus(Lifter& l, const Insn& i) { return lanes(l, i, Op::v_pack_u_); }

Lift lift_pabs(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.vec(Op::v_abs_, lane_of(i), {a}); });
}

// --- neighbours ------------------------------------------------------------------------------------------------------
namespace {
Lift horizontal(Lifter& l, const Insn& i, Op op) {
  return two_sources(l, i, [&](Value a, Value b) {
    const Value even = l.ir.vec(Op::v_uzp_even_, lane_of(i), {a, b}), odd = l.ir.vec(Op::v_uzp_odd_, lane_of(i), {a, b});
    return l.ir.vec(op, lane_of(i), {even, odd});
  });
}
}  // namespace
Lift lift_phadd(Lifter& l, const Insn& i) { return horizontal(l, i, Op::v_add_); }
Lift lift_phadds(Lifter& l, const Insn& i) { return horizontal(l, i, Op::v_add_sat_s_); }
Lift lift_phsub(Lifter& l, const Insn& i) { return horizontal(l, i, Op::v_sub_); }
Lift lift_phsubs(Lifter& l, const Insn& i) { return horizontal(l, i, Op::v_sub_sat_s_); }

Lift lift_mpsadbw(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = l.ir.call(kMpsadbw, {l.ir.i32((i.imm >> (3 * h)) & 7), a[h], b[h]});
  return write_result(l, i, r);
}
Lift lift_phminposuw(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.call(kPhminposuw, {a}); });
}

// --- shifts ----------------------------------------------------------------------------------------------------------
namespace {
/// The count is the low quadword of a 128-bit operand, in 256-bit forms too.
Lift shift_by(Lifter& l, const Insn& i, Op op) {
  const unsigned first = first_source(i);
  const Value count = read_v(l, i, first + 1).low;
  const Halves a = read_v(l, i, first);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = l.ir.vec(op, lane_of(i), {a[h], count});
  return write_result(l, i, r);
}
/// Operand 0 is the destination (vvvv in VEX forms); the source is r/m.
template <class Fn>
Lift shift_imm(Lifter& l, const Insn& i, Fn&& fn) {
  const Halves a = read_v(l, i, first_source(i));
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = fn(a[h]);
  return write_result(l, i, r);
}
Lift shift_imm(Lifter& l, const Insn& i, Op op) {
  return shift_imm(l, i, [&](Value a) { return l.ir.vec(op, lane_of(i), {a}, i.imm & 255); });
}
}  // namespace
Lift lift_psll(Lifter& l, const Insn& i) { return shift_by(l, i, Op::v_shl_by_); }
Lift lift_psrl(Lifter& l, const Insn& i) { return shift_by(l, i, Op::v_lshr_by_); }
Lift lift_psra(Lifter& l, const Insn& i) { return shift_by(l, i, Op::v_ashr_by_); }
Lift lift_psll_imm(Lifter& l, const Insn& i) { return shift_imm(l, i, Op::v_shl_); }
Lift lift_psrl_imm(Lifter& l, const Insn& i) { return shift_imm(l, i, Op::v_lshr_); }
Lift lift_psra_imm(Lifter& l, const Insn& i) { return shift_imm(l, i, Op::v_ashr_); }
Lift lift_psrldq(Lifter& l, const Insn& i) {
  return shift_imm(l, i, [&](Value a) { return bytes_down(l, a, static_cast<unsigned>(i.imm)); });
}
Lift lift_pslldq(Lifter& l, const Insn& i) {
  return shift_imm(l, i, [&](Value a) { return bytes_up(l, a, static_cast<unsigned>(i.imm)); });
}

// --- permutations ----------------------------------------------------------------------------------------------------
Lift lift_pshufd(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.vec(Op::v_permute_, Width::B4, {a}, i.imm); });
}
Lift lift_pshuflw(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.vec(Op::v_permute_lo_, Width::B2, {a}, i.imm); });
}
Lift lift_pshufhw(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.vec(Op::v_permute_hi_, Width::B2, {a}, i.imm); });
}
Lift lift_palignr(Lifter& l, const Insn& i) {
  const unsigned n = static_cast<unsigned>(i.imm);
  return two_sources(l, i, [&](Value a, Value b) {
    if (n == 0) return b;
    if (n < 16) return l.ir.vec(Op::v_ext_, Width::B1, {b, a}, n);
    return bytes_down(l, a, n - 16);
  });
}
// BLENDPS and its kin: as many bits a half as it has lanes; PBLENDW uses the same eight for both.
Lift lift_blend(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i), lanes_a_half = 16u >> i.param;
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) {
    const u64 bits = (i.param == 1 ? i.imm : i.imm >> (h * lanes_a_half)) & mask_low(lanes_a_half);
    r[h] = l.ir.vec(Op::v_blend_, lane_of(i), {a[h], b[h]}, bits);
  }
  return write_result(l, i, r);
}
// The mask is XMM0 in legacy forms, operand 3 in VEX ones.
Lift lift_blendv(Lifter& l, const Insn& i) {
  const unsigned first = first_source(i);
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  const Halves mask = i.vex ? read_v(l, i, 3) : Halves{l.xmm(0)};
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = l.ir.vec(Op::v_blendv_, lane_of(i), {a[h], b[h], mask[h]});
  return write_result(l, i, r);
}
// PMOVSX, PMOVZX. param: source lane | doublings << 2 | signed << 4.
Lift lift_pmovx(Lifter& l, const Insn& i) {
  const unsigned from = i.param & 3, steps = (i.param >> 2) & 3;
  const Op low = i.param & 16 ? Op::v_widen_lo_s_ : Op::v_widen_lo_u_,
           high = i.param & 16 ? Op::v_widen_hi_s_ : Op::v_widen_hi_u_;
  const Value a = read_v(l, i, 1).low;
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) {
    Value v = a;
    // The upper half's source is the second 16 >> steps bytes.
    if (h == 1 && steps > 1) v = bytes_down(l, v, 16u >> steps);
    for (unsigned step = 0; step < steps; ++step)
      v = l.ir.vec(h == 1 && steps == 1 ? high : low, static_cast<Width>(from + step), {v});
    r[h] = v;
  }
  return write_result(l, i, r);
}

// --- tests -----------------------------------------------------------------------------------------------------------
namespace {
Value is_zero(Lifter& l, Value v) {
  const Value low = l.ir.v_extract(Type::I64, Width::B8, v, 0), high = l.ir.v_extract(Type::I64, Width::B8, v, 1);
  return l.ir.icmp(Op::icmp_eq_, l.ir.or_(low, high), l.ir.i64(0));
}
/// Z: all of a & b zero under `mask`; C: all of ~a & b.
Lift test(Lifter& l, const Insn& i, Value mask) {
  const Halves a = read_v(l, i, 0), b = read_v(l, i, 1);
  Value both, only_b;
  for (unsigned h = 0; h < count_halves(i); ++h) {
    const Value x = l.ir.vec(Op::v_and_, Width::B8, {a[h], b[h]}), y = l.ir.vec(Op::v_andn_, Width::B8, {b[h], a[h]});
    both = h ? l.ir.vec(Op::v_or_, Width::B8, {both, x}) : x;
    only_b = h ? l.ir.vec(Op::v_or_, Width::B8, {only_b, y}) : y;
  }
  if (mask != ir::kNoValue) {
    both = l.ir.vec(Op::v_and_, Width::B8, {both, mask});
    only_b = l.ir.vec(Op::v_and_, Width::B8, {only_b, mask});
  }
  const auto bit_at = [&](Value v, unsigned at) { return l.ir.shl(l.ir.zext(Type::I32, is_zero(l, v)), l.ir.i32(at)); };
  l.ir.set_flags(l.ir.flags_image(l.ir.or_(bit_at(both, 30), bit_at(only_b, 29))));
  return Lift::Next;
}
}  // namespace
Lift lift_ptest(Lifter& l, const Insn& i) { return test(l, i, ir::kNoValue); }
Lift lift_vtest(Lifter& l, const Insn& i) {
  const u64 signs = i.param == 2 ? 0x8000000080000000 : 0x8000000000000000;
  return test(l, i, l.ir.vconst(signs, signs));
}

// PCMPxSTRx (SDM vol. 2, 4.1). param bit 0: index, else mask; bit 1: implicit lengths.
Lift lift_pcmpstr(Lifter& l, const Insn& i) {
  const bool index = (i.param & 1) != 0, implicit = (i.param & 2) != 0;
  const Value b = read_v(l, i, 1, false).low, a = l.xmm(i.op[0].reg);
  const unsigned bytes = i.w && l.is64() ? 8 : 4;
  const auto length = [&](unsigned r) {
    return implicit ? l.ir.i64(0) : bytes == 8 ? l.reg(r, 8) : l.ir.sext(Type::I64, l.reg(r, 4));
  };
  const u64 control = (i.imm & 127) | (implicit ? 128u : 0u);
  const Value r = l.ir.call(kCompareStrings, {l.ir.i32(control), length(RAX), length(RDX), a, b});
  const Value low = l.ir.trunc(Type::I32, r), high = l.ir.trunc(Type::I32, l.ir.lshr(r, l.ir.i64(32)));
  if (index) {
    l.set_reg(RCX, 4, l.ir.ubfx(low, 16, 16));
  } else {
    Insn to_xmm0 = i;
    write_v(l, to_xmm0, 0, {l.ir.call(kExpandMask, {low, l.ir.i32(i.imm & 0x41)})});
  }
  l.ir.set_flags(l.ir.flags_image(high));
  return Lift::Next;
}

// --- cryptography ----------------------------------------------------------------------------------------------------
Lift lift_aes(Lifter& l, const Insn& i) {
  const ir::Helper* const helpers[] = {&kAesEnc, &kAesEncLast, &kAesDec, &kAesDecLast};
  return two_sources(l, i, [&](Value a, Value b) { return l.ir.call(*helpers[i.param & 3], {a, b}); });
}
Lift lift_aesimc(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.call(kAesImc, {a}); });
}
Lift lift_aeskeygenassist(Lifter& l, const Insn& i) {
  return one_source(l, i, [&](Value a) { return l.ir.call(kAesKeyGenAssist, {l.ir.i32(i.imm & 255), a}); });
}
Lift lift_pclmulqdq(Lifter& l, const Insn& i) {
  const auto half = [&](Value v, unsigned which) { return which ? l.ir.vec(Op::v_zip_hi_, Width::B8, {v, v}) : v; };
  return two_sources(l, i,
                     [&](Value a, Value b) { return l.ir.call(kClmul, {half(a, i.imm & 1), half(b, (i.imm >> 4) & 1)}); });
}
// SHA's memory operands: the SDM's exception class 4 wants them aligned, AMD's processors do not care. The lenient way.
namespace {
template <class Fn>
Lift sha(Lifter& l, const Insn& i, Fn&& fn) {
  const Value b = read_v(l, i, 1, false).low, a = l.xmm(i.op[0].reg);
  return write_result(l, i, {fn(a, b)});
}
}  // namespace
Lift lift_sha(Lifter& l, const Insn& i) {
  const ir::Helper* const helpers[] = {&kSha1NextE, &kSha1Msg1, &kSha1Msg2, nullptr, &kSha256Msg1, &kSha256Msg2};
  return sha(l, i, [&](Value a, Value b) { return l.ir.call(*helpers[i.param], {a, b}); });
}
Lift lift_sha256rnds2(Lifter& l, const Insn& i) {
  return sha(l, i, [&](Value a, Value b) { return l.ir.call(kSha256Rounds2, {a, b, l.xmm(0)}); });
}
Lift lift_sha1rnds4(Lifter& l, const Insn& i) {
  return sha(l, i, [&](Value a, Value b) { return l.ir.call(kSha1Rounds4, {l.ir.i32(i.imm & 3), a, b}); });
}

}  // namespace kiln::x86
