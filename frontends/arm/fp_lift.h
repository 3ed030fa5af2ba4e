// Floating-point arithmetic on any shape: the one place that chooses between scalar IR ops, vector IR ops and helpers.
// Invariant: arguments may hold anything beyond `bytes`; results are zero there. No surplus lane raises an exception bit.
// Halves always go through helpers; singles and doubles are IR unless no op says it.
#pragma once
#include "frontends/arm/fp_helpers.h"

namespace kiln::arm {

using ir::FpOp;
using ir::Round;

enum class Fp2 : u8 { Add, Sub, Mul, Div, Max, Min, MaxNm, MinNm, MulX, RecpS, RsqrtS, Abd, CmpEq, CmpGe, CmpGt, AcGe, AcGt };

Value fp2(Lifter& l, Fp2 op, Width w, unsigned bytes, Value a, Value b);
/// a * b + c.
Value fp_muladd(Lifter& l, Width w, unsigned bytes, Value a, Value b, Value c);
Value fp_neg(Lifter& l, Width w, Value a);
Value fp_abs(Lifter& l, Width w, Value a);
Value fp_sqrt(Lifter& l, Width w, unsigned bytes, Value a);
Value fp_round_int(Lifter& l, Width w, unsigned bytes, Value a, Round round, bool exact);
/// Lanes (times 2^fraction) to integers of the same width and back.
Value fp_to_int(Lifter& l, Width w, unsigned bytes, Value a, Round round, bool is_unsigned, unsigned fraction = 0);
Value fp_from_int(Lifter& l, Width w, unsigned bytes, Value a, bool is_unsigned);
/// RecpE, RsqrtE, RecpX, RoundIntN, and for halves RoundInt, ToFixed, FromFixed: `params` without its lanes.
Value fp_unary_help(Lifter& l, FpHelp op, Width w, unsigned bytes, Value a, Params params = {});
/// Lanes from integers times the number with the bits `scale`, a power of two so near to one that nothing rounds.
Value fp_scale(Lifter& l, Width w, unsigned bytes, Value a, u64 scale);

/// FCMLA: d += n * (m turned by rot quarter turns), as complex pairs of lanes, one real product of each pair at a time.
Value fp_complex_muladd(Lifter& l, Width w, unsigned bytes, unsigned rot, Value n, Value m, Value d);
/// FCADD: n + m turned by one (three) quarter turns.
Value fp_complex_add(Lifter& l, Width w, unsigned bytes, bool three_quarters, Value n, Value m);

constexpr Type fp_type(Width w) { return w == Width::B8 ? Type::F64 : Type::F32; }
constexpr Type int_type(Width w) { return w == Width::B8 ? Type::I64 : Type::I32; }
/// FpOp of the mode with a rounding.
inline FpOp fp_op(Lifter& l, Round round, bool exact = false, bool is_unsigned = false) {
  FpOp f = l.fp();
  f.round = round, f.exact = exact, f.is_unsigned = is_unsigned;
  return f;
}

}  // namespace kiln::arm
