// The reference interpreter: runs a Block on a guest state exactly as the op table says. Slow and plain on purpose.
#pragma once
#include "ir/guest_desc.h"

namespace kiln::ir {

/// Any IR value; which member is live follows from the Inst's type.
/// Integers narrower than 64 bits are kept zero-extended in `i`.
union alignas(16) Datum {
  u64 i;
  float f32;
  double f64;
  V128 v;
};

/// Evaluates one PURE op (constants, arithmetic, vectors; not flags, state, memory, calls). `args` has the op's operands.
/// Also what the tiers call for ops that they have no code of their own for.
Datum eval_pure(const Inst& inst, const Type* arg_types, const Datum* args);

/// The image of a flags record: N Z C V in bits 31..28, of x86's kinds and images P in bit 2 and A in bit 4, other bits zero.
u32 flags_value(FlagsKind kind, u64 a, u64 b);
/// Predicate over an image.
bool cond_holds(Cond cond, u32 image);

/// Sees the guest's accesses before they happen: `host` is the address in Kiln's memory. Those made inside helpers are not reported.
class AccessObserver {
 public:
  virtual ~AccessObserver() = default;
  /// Atomic updates count as stores.
  virtual void before_access(void* host, unsigned bytes, bool store) = 0;
};

/// Runs `block` to its exit: updates state, memory (host address = state->memory_base + guest address, or what
/// state->guest_pointer says in a full system), pc and exit_kind
/// (None for jumps). A memory fault arrives as a host signal; `insn_pc` of the running instruction is kept in state->pc all the
/// time, and all set_reg ops before it have been carried out.
/// `observer`, if given, is told of every access (self-check undoes the stores).
void interpret(const Block& block, CpuState* state, AccessObserver* observer = nullptr);

}  // namespace kiln::ir
