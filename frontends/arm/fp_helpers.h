// Floating-point operations that have no IR op: half precision, estimates and steps, fixed-point and odd conversions.
// Invariants: (1) every helper is V128 f(CpuState*, u64 params, V128…), works on the first `lanes` lanes only and clears the
// rest; (2) FPCR is read from the state (a write to it ends the block), exception bits go to MXCSR.
// Add one: a line in FpHelp, a functor, a line in fp_helper().
#pragma once
#include "frontends/arm/simd_common.h"

namespace kiln::arm {

enum class FpHelp : u8 {
  // two vectors, halves only
  Add,
  Sub,
  Mul,
  Div,
  Max,
  Min,
  MaxNm,
  MinNm,
  CmpEq,
  CmpGe,
  CmpGt,
  // two vectors, any format
  MulX,
  RecpS,
  RsqrtS,
  // three vectors (a, b, c): a * b + c, halves only
  MulAdd,
  // one vector, halves only
  Sqrt,
  // one vector, any format
  RecpE,
  RsqrtE,
  RecpX,
  RoundInt,   // Params::round, exact
  RoundIntN,  // Params::round, Params::bits
  ToFixed,    // Params::round, is_unsigned, fraction, bits of the result
  FromFixed,  // Params::is_unsigned, fraction, bits of the source; lanes of the source as wide as the format's
  // one vector; the width is the source's, lanes counts results
  HalfToSingle,
  HalfToDouble,
  SingleToHalf,
  DoubleToHalf,
  DoubleToSingleOdd,
  SingleToBrain,
  HalfBits,    // to single without any processing: FMLAL
  JavaScript,  // FJCVTZS: word 0 the result, word 1 the Z flag
  kCount
};

struct Params {
  unsigned lanes = 1;
  ir::Round round = ir::Round::Dynamic;
  bool exact = false, is_unsigned = false;
  unsigned fraction = 0;
  unsigned bits = 0;  // of the integer
  constexpr u64 pack() const {
    return lanes | static_cast<u64>(round) << 8 | u64{exact} << 16 | u64{is_unsigned} << 17 | u64{fraction} << 24 |
           u64{bits} << 32;
  }
  static constexpr Params unpack(u64 p) {
    return {static_cast<unsigned>(p & 255),         static_cast<ir::Round>((p >> 8) & 15), bit(p, 16), bit(p, 17),
            static_cast<unsigned>((p >> 24) & 255), static_cast<unsigned>((p >> 32) & 255)};
  }
};

const ir::Helper& fp_helper(FpHelp op, Width w);

inline Value fp_call(Lifter& l, FpHelp op, Width w, Params p, std::initializer_list<Value> vectors) {
  Value args[4] = {l.ir.i64(p.pack()), ir::kNoValue, ir::kNoValue, ir::kNoValue};
  unsigned n = 1;
  for (Value v : vectors) args[n++] = v;
  return n == 2   ? l.ir.call(fp_helper(op, w), {args[0], args[1]})
         : n == 3 ? l.ir.call(fp_helper(op, w), {args[0], args[1], args[2]})
                  : l.ir.call(fp_helper(op, w), {args[0], args[1], args[2], args[3]});
}

}  // namespace kiln::arm
