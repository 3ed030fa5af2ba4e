// Advanced SIMD operations that have no IR op: C++ lane loops behind ir::Helper, one per lane width.
// Invariants: (1) they see whole vectors and know no shape: callers clear surplus lanes first where saturation of these would
// show in FPSR.QC (no operation here saturates on zeros); (2) FPSR.QC is set in A64State::fpsr, which no IR slot covers, so a
// helper that saturates needs no state synchronisation, only not to be dropped (effects = WRITES_MEM).
// Add one: a line in SimdOp, a functor and a case in simd_helper().
#pragma once
#include "frontends/arm/simd_common.h"

namespace kiln::arm {

enum class SimdOp : u8 {
  // two vectors
  SQAdd,
  UQAdd,
  SQSub,
  UQSub,
  SShl,
  UShl,
  SRShl,
  URShl,
  SQShl,
  UQShl,
  SQRShl,
  UQRShl,
  SQShlU,
  SQDMulH,
  SQRDMulH,
  SUQAdd,
  USQAdd,   // (Vd, Vn)
  SQDMull,  // lanes already widened
  PMul,
  PMull,
  PMull64,
  // one vector
  SQAbs,
  SQNeg,
  Clz,
  Cls,
  Rbit,
  URecpE,
  URsqrtE,
  // accumulator and two vectors
  SQRDMlaH,
  SQRDMlsH,
  SQDMlal,
  SQDMlsl,
  SDot,
  UDot,
  USDot,
  SUDot,
  SMmla,
  UMmla,
  USMmla,
  // a shift count and a vector; the width is the narrow lane's
  SQShrn,
  UQShrn,
  SQShrun,
  SQRShrn,
  UQRShrn,
  SQRShrun,
  kCount
};

const ir::Helper& simd_helper(SimdOp op, Width w);

inline Value simd_call(Lifter& l, SimdOp op, Width w, std::initializer_list<Value> args) {
  return l.ir.call(simd_helper(op, w), args);
}

}  // namespace kiln::arm
