// The host's part of precise faults: values of the interrupted code from a signal's context.
#include <ucontext.h>

#include <cstring>

#include "jit/llvm/tier2.h"

namespace kiln::jit {

void restore_state(const RegionCode& code, const FaultEntry& fault, ir::CpuState* state, const void* ucontext) {
  // By the numbers of the instruction encoding.
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  const auto& context = static_cast<const ucontext_t*>(ucontext)->uc_mcontext;
  char* base = reinterpret_cast<char*>(state);
  for (u32 i = 0; i < fault.values; ++i) {
    const FaultValue& v = code.fault_values[fault.first_value + i];
    const std::size_t bytes = ir::type_bits(v.type) / 8;
    const void* from = &v.number;
    if (v.kind == FaultValue::Kind::IntRegister) from = &context.gregs[kOrder[v.reg]];
    else if (v.kind == FaultValue::Kind::VectorRegister) from = &context.fpregs->_xmm[v.reg];
    else if (v.kind == FaultValue::Kind::Memory) from = reinterpret_cast<const char*>(context.gregs[kOrder[v.reg]]) + v.number;
    std::memcpy(base + v.slot_offset, from, bytes);
  }
  state->pc = fault.guest_pc;
}

}  // namespace kiln::jit
