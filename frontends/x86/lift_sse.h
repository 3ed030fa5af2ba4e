// What the bodies of the SSE and AVX rows share. One body serves the legacy form (dst = src1), VEX.128 and VEX.256.
// Invariants: (1) a body computes all values before write_v() and its kin, so a fault or #XM finds the old state; (2) legacy
// forms keep bits 255..128, VEX forms clear what they do not write; (3) floating-point ops stand between an FpGuard and its
// check().
#pragma once
#include "frontends/x86/helpers_sse.h"
#include "frontends/x86/lifter.h"
#include "frontends/x86/x86_rows.h"

namespace kiln::x86 {

using ir::Op;
using ir::Type;
using ir::Value;
using ir::Width;

/// The 128-bit parts of a vector: the high one only where the instruction has 256 bits.
struct Halves {
  Value low = ir::kNoValue, high = ir::kNoValue;
  Value& operator[](unsigned h) { return h ? high : low; }
  Value operator[](unsigned h) const { return h ? high : low; }
};

inline unsigned count_halves(const Insn& i) { return i.vex256 ? 2 : 1; }
/// The first source: the destination of legacy forms.
inline unsigned first_source(const Insn& i) { return i.vex ? 1 : 0; }
inline Value v_zero(Lifter& l) { return l.ir.vconst(0, 0); }
/// Legacy forms want 16-byte operands aligned; the few that do not pass their own choice.
inline bool must_be_aligned(const Insn& i, unsigned n) { return !i.vex && i.op[n].bytes == 16; }

void store_halves(Lifter& l, Place p, Halves v);
Halves read_v(Lifter& l, const Insn& i, unsigned n, bool aligned);
inline Halves read_v(Lifter& l, const Insn& i, unsigned n) { return read_v(l, i, n, must_be_aligned(i, n)); }
/// Writes vector register `reg`; `high` as the form says.
void write_v(Lifter& l, const Insn& i, unsigned reg, Halves v);
inline Lift write_result(Lifter& l, const Insn& i, Halves v) {
  write_v(l, i, i.op[0].reg, v);
  return Lift::Next;
}

/// dst = fn(first source, second source), half by half.
template <class Fn>
Lift two_sources(Lifter& l, const Insn& i, Fn&& fn) {
  const unsigned first = first_source(i);
  const Halves b = read_v(l, i, first + 1), a = read_v(l, i, first);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = fn(a[h], b[h]);
  return write_result(l, i, r);
}
/// dst = fn(operand 1).
template <class Fn>
Lift one_source(Lifter& l, const Insn& i, Fn&& fn) {
  const Halves a = read_v(l, i, 1);
  Halves r;
  for (unsigned h = 0; h < count_halves(i); ++h) r[h] = fn(a[h]);
  return write_result(l, i, r);
}
/// The row's parameter as a lane width.
inline Width lane_of(const Insn& i) { return static_cast<Width>(i.param & 3); }

/// v shifted by whole bytes, with zeros shifted in.
inline Value bytes_down(Lifter& l, Value v, unsigned bytes) {
  return bytes == 0 ? v : bytes >= 16 ? v_zero(l) : l.ir.vec(Op::v_ext_, Width::B1, {v, v_zero(l)}, bytes);
}
inline Value bytes_up(Lifter& l, Value v, unsigned bytes) {
  return bytes == 0 ? v : bytes >= 16 ? v_zero(l) : l.ir.vec(Op::v_ext_, Width::B1, {v_zero(l), v}, 16 - bytes);
}

/// Around the floating-point ops of an instruction. Where no exception is unmasked it does nothing; else (kModeSseTraps) the
/// sticky bits that the ops raise are looked at before anything is written, and #XM is raised if one of them is unmasked.
class FpGuard {
 public:
  explicit FpGuard(Lifter& l) : l_(l) {
    if (l.mode & kModeSseTraps) before_ = l.ir.call(kFpBegin);
  }
  /// For ops that neither overflow nor underflow.
  void check();
  /// For the others, which need a second look at their operands.
  void check(FpShape shape, Halves a, Halves b = {}, Halves c = {});
  void check_scalar(FpShape shape, Value a, Value b = ir::kNoValue, Value c = ir::kNoValue);

 private:
  Lifter& l_;
  Value before_ = ir::kNoValue;
};

}  // namespace kiln::x86
