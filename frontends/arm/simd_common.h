// What the Advanced SIMD and floating-point lifters share: lane and size of a row, masks, small vector idioms.
// Invariants: (1) a row's fields say its shape: `size` or `sz` give the lane (neither: half), `q` the vector's size, no `q` is
// a scalar form; (2) values between these functions are whole v128s whose bytes beyond the shape's size may hold anything,
// unless a function says otherwise: masking is done by who writes the register (set_low) or where surplus lanes could raise an
// exception bit or saturate (keep before the operation).
#pragma once
#include <array>
#include <initializer_list>
#include <string>

#include "frontends/arm/lifter.h"

namespace kiln::arm {

using ir::Op;
using ir::Type;
using ir::Value;
using ir::Width;

constexpr Width lane(unsigned size) { return static_cast<Width>(size); }
constexpr Width wider(Width w) { return static_cast<Width>(static_cast<unsigned>(w) + 1); }
constexpr Width narrower(Width w) { return static_cast<Width>(static_cast<unsigned>(w) - 1); }

template <class F>
constexpr Width lane_of(const F& f) {
  if constexpr (requires { f.size; }) return lane(f.size);
  else if constexpr (requires { f.sz; }) return f.sz ? Width::B8 : Width::B4;
  else return Width::B2;
}
/// Bytes of the register that the row works on: 16, 8, or one lane.
template <class F>
constexpr unsigned bytes_of(const F& f) {
  if constexpr (requires { f.q; }) return f.q ? 16 : 8;
  else return width_bytes(lane_of(f));
}
/// The reserved shape 1D.
template <class F>
constexpr bool reserved_1d(const F& f) {
  if constexpr (requires { f.q; }) return lane_of(f) == Width::B8 && !f.q;
  else return false;
}

/// An element repeated over 64 bits.
constexpr u64 repeat(Width w, u64 element) {
  for (unsigned n = width_bits(w); n < 64; n *= 2) element = (element & mask_low(n)) | element << n;
  return element;
}
inline Value zero(Lifter& l) { return l.ir.vconst(0, 0); }
inline Value ones(Lifter& l) { return l.ir.vconst(~u64{0}, ~u64{0}); }
inline Value splat(Lifter& l, Width w, u64 element) { return l.ir.vconst(repeat(w, element), repeat(w, element)); }

/// The low bytes of a vector, the rest zero.
inline Value keep(Lifter& l, unsigned bytes, Value v) {
  if (bytes >= 16) return v;
  if (bytes == 8) return l.ir.v_low64(v);
  return l.ir.vec(Op::v_and_, Width::B8, {v, l.ir.vconst(mask_low(8 * bytes), 0)});
}
inline void set_low(Lifter& l, unsigned rd, unsigned bytes, Value v) { l.set_v(rd, keep(l, bytes, v)); }
/// Result of a narrowing "2" form (q): into the upper half, the lower half stays; else into the lower, clearing the upper.
inline void set_half(Lifter& l, unsigned q, unsigned rd, Value v) {
  if (q) l.set_v(rd, l.ir.vec(Op::v_zip_lo_, Width::B8, {l.v(rd), v}));
  else l.set_v(rd, l.ir.v_low64(v));
}

inline Value op1(Lifter& l, Op op, Width w, Value a, u64 imm = 0) { return l.ir.vec(op, w, {a}, imm); }
inline Value op2(Lifter& l, Op op, Width w, Value a, Value b) { return l.ir.vec(op, w, {a, b}); }
inline Value op3(Lifter& l, Op op, Width w, Value a, Value b, Value c) { return l.ir.vec(op, w, {a, b, c}); }
inline Value v_or(Lifter& l, Value a, Value b) { return op2(l, Op::v_or_, Width::B8, a, b); }
inline Value v_and(Lifter& l, Value a, Value b) { return op2(l, Op::v_and_, Width::B8, a, b); }
inline Value v_xor(Lifter& l, Value a, Value b) { return op2(l, Op::v_xor_, Width::B8, a, b); }
inline Value v_not(Lifter& l, Value a) { return op1(l, Op::v_not_, Width::B8, a); }

/// One half of a vector (q: the upper) widened to lanes of twice the width.
inline Value widen(Lifter& l, bool is_signed, unsigned q, Width w, Value v) {
  const Op op = is_signed ? (q ? Op::v_widen_hi_s_ : Op::v_widen_lo_s_) : (q ? Op::v_widen_hi_u_ : Op::v_widen_lo_u_);
  return op1(l, op, w, v);
}

/// Even and odd elements of the `bytes`-long vectors m:n, as the pairwise instructions take them. Bytes beyond are zero.
struct Pairs {
  Value even, odd;
};
inline Pairs pairs(Lifter& l, unsigned bytes, Width w, Value n, Value m) {
  if (bytes == 16) return {op2(l, Op::v_uzp_even_, w, n, m), op2(l, Op::v_uzp_odd_, w, n, m)};
  const Value both = op2(l, Op::v_zip_lo_, Width::B8, n, m);
  return {op2(l, Op::v_uzp_even_, w, both, zero(l)), op2(l, Op::v_uzp_odd_, w, both, zero(l))};
}

/// An indexed element's number and register, from size and the bits H, L, M.
struct Element {
  unsigned index, reg;
};
template <class F>
constexpr Element element_of(Width w, const F& f) {
  if (w == Width::B2) return {f.h << 2 | f.l << 1 | f.m, f.rm};
  if (w == Width::B4) return {f.h << 1 | f.l, f.m << 4 | f.rm};
  return {f.h, f.m << 4 | f.rm};
}
template <class F>
Value element(Lifter& l, Width w, const F& f) {
  const Element e = element_of(w, f);
  return l.ir.vec(Op::v_dup_lane_, w, {l.v(e.reg)}, e.index);
}

}  // namespace kiln::arm
