// The parts of eval_pure(), one file each: integers, floating point, vectors. Private to ir/.
#pragma once
#include "ir/interpreter.h"

namespace kiln::ir {

/// False if the op is none of the integer ones (moves between register kinds included).
bool eval_integer(const Inst& inst, const Type* types, const Datum* args, u64& result);
/// Ops whose result or effect hangs on MXCSR, plus fneg, fabs and their lane-wise forms.
bool is_fp_op(Op op);
Datum eval_fp(const Inst& inst, const Type* types, const Datum* args);
Datum eval_vector(const Inst& inst, const Type* types, const Datum* args);

}  // namespace kiln::ir
