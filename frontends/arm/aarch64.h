// AArch64 guest, user level (EL0).
// What lives here: *.decode (instruction rows), lift_*.cpp (one short semantic function a row), this header (the GuestDesc and
// what an owner of a vCPU needs beside it), helpers.h (C++ functions called from generated code). Invariants: (1) a lift_
// function reads and checks its fields before it emits anything; (2) nothing that may fault comes after a register write of the
// same instruction; (3) the zero register has no slot, x[31] is SP. Add an instruction: a row in a table and its lift_ function
// in the group's .cpp; then a line in tests/frontends/a64_*.txt.
#pragma once
#include "frontends/arm/a64_state.h"
#include "ir/guest_desc.h"

namespace kiln::arm {

extern const ir::GuestDesc kA64;

// Registers that live partly in CpuState::mxcsr, for owners (signal frames, ptrace, debuggers): outside generated code only.
u32 fpsr_of(const A64State& state);
void set_fpsr(A64State& state, u32 fpsr);
/// Also recomputes CpuState::mode.
void set_fpcr(A64State& state, u32 fpcr);
/// N Z C V in bits 31..28.
u32 nzcv_of(const A64State& state);
void set_nzcv(A64State& state, u32 nzcv);

/// After a fault, which may have cut a store-exclusive short: others wait for its end.
void release_exclusive(ir::CpuState* state);
/// In the child of a fork(): those of threads that do not exist here.
void forget_exclusive_claims();

/// The frequency that CNTFRQ_EL0 tells and CNTVCT_EL0 counts with.
inline constexpr u64 kCounterHz = 1'000'000'000;

}  // namespace kiln::arm
