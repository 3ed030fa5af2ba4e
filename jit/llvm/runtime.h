// C++ functions that tier-2 code calls on its cold ways.
#pragma once
#include "ir/interpreter.h"

namespace kiln::jit::runtime {

/// What eval() works on: the op (copied into the region's read-only data) and its operands' types.
struct EvalOp {
  ir::Inst inst;
  ir::Type arg_types[4];
};
/// data[0..3] are the operands; the result replaces data[0].
void eval(const EvalOp* op, ir::Datum* data);
/// The same for up to three scalar operands of at most eight bytes; keeps every register but rax and r11, so that the
/// caller's cold block is a handful of moves and its hot way sees no call.
__attribute__((preserve_all)) u64 eval_scalar(const EvalOp* op, u64 a, u64 b, u64 c);

/// Full system: CpuState::guest_pointer for an access whose value, if it is a store, is given by value. Keeps all registers.
[[clang::preserve_all]] void* soft_pointer(ir::CpuState* state, u64 address, u64 desc, u64 low, u64 high);
inline constexpr u64 kWithValue = u64{1} << 32;  // in desc

}  // namespace kiln::jit::runtime
