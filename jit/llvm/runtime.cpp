#include "jit/llvm/runtime.h"

namespace kiln::jit::runtime {

void eval(const EvalOp* op, ir::Datum* data) { data[0] = ir::eval_pure(op->inst, op->arg_types, data); }

__attribute__((preserve_all)) u64 eval_scalar(const EvalOp* op, u64 a, u64 b, u64 c) {
  ir::Datum data[4] = {};
  data[0].i = a;
  data[1].i = b;
  data[2].i = c;
  return ir::eval_pure(op->inst, op->arg_types, data).i;
}

[[clang::preserve_all]] void* soft_pointer(ir::CpuState* state, u64 address, u64 desc, u64 low, u64 high) {
  const V128 value{.d = {low, high}};
  return state->guest_pointer(state, address, static_cast<u32>(desc), (desc & kWithValue) != 0 ? &value : nullptr);
}

}  // namespace kiln::jit::runtime
