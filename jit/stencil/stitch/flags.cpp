// Flags that an earlier block left: the record's kind is known at run time only. kiln_flags_thunk turns the record into the
// host's own flags, and a condition on it is then a jcc, setcc or cmov as after any compare.
#include <cstddef>

#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

using ir::Cond;

extern "C" void kiln_flags_thunk();

// Reads {flags_kind, flags_a, flags_b} of the state in r12; changes rax, rbx and r10 only. On return CF ZF SF OF PF are
// C Z N V P of the record. SAHF keeps OF, which `addb $0x7f` of 0 or 1 makes.
static_assert(offsetof(CpuState, flags_kind) == 32 && offsetof(CpuState, flags_a) == 40 && offsetof(CpuState, flags_b) == 48);
static_assert(static_cast<u32>(ir::FlagsKind::EAdd8) == 7 && static_cast<u32>(ir::FlagsKind::EResult64) == 22);
asm(R"(
  .text
  .p2align 4
  .globl kiln_flags_thunk
  .type kiln_flags_thunk,@function
kiln_flags_thunk:
  movl 32(%r12), %eax
  leaq .Lkinds(%rip), %rbx
  movslq (%rbx,%rax,4), %rax
  addq %rbx, %rax
  movq 40(%r12), %rbx
  movq 48(%r12), %r10
  jmp *%rax

.Limage:
  movl %ebx, %eax
  shrl $24, %eax
  andl $0xc0, %eax
  movl %ebx, %r10d
  andl $0x14, %r10d
  orl %r10d, %eax
  btl $29, %ebx
  adcl $0, %eax
  shll $8, %eax
  btl $28, %ebx
  setc %al
  addb $0x7f, %al
  sahf
  ret
.Ladd32:
  addl %r10d, %ebx
  jmp .Lno_parity
.Ladd64:
  addq %r10, %rbx
  jmp .Lno_parity
.Lsub32:
  cmpl %r10d, %ebx
  cmc
  jmp .Lno_parity
.Lsub64:
  cmpq %r10, %rbx
  cmc
  jmp .Lno_parity
.Llogic32:
  testl %ebx, %ebx
  jmp .Lno_parity
.Llogic64:
  testq %rbx, %rbx
.Lno_parity:
  lahf
  seto %al
  andb $0xfb, %ah
  addb $0x7f, %al
  sahf
  ret
.Leadd8:
  addb %r10b, %bl
  ret
.Leadd16:
  addw %r10w, %bx
  ret
.Leadd32:
  addl %r10d, %ebx
  ret
.Leadd64:
  addq %r10, %rbx
  ret
.Lesub8:
  cmpb %r10b, %bl
  ret
.Lesub16:
  cmpw %r10w, %bx
  ret
.Lesub32:
  cmpl %r10d, %ebx
  ret
.Lesub64:
  cmpq %r10, %rbx
  ret
.Lelogic8:
  testb %bl, %bl
  ret
.Lelogic16:
  testw %bx, %bx
  ret
.Lelogic32:
  testl %ebx, %ebx
  ret
.Lelogic64:
  testq %rbx, %rbx
  ret
.Leresult8:
  testb %bl, %bl
  jmp .Lgiven
.Leresult16:
  testw %bx, %bx
  jmp .Lgiven
.Leresult32:
  testl %ebx, %ebx
  jmp .Lgiven
.Leresult64:
  testq %rbx, %rbx
.Lgiven:
  lahf
  btl $28, %r10d
  setc %al
  shrl $21, %r10d
  andl $0x100, %r10d
  orl %r10d, %eax
  addb $0x7f, %al
  sahf
  ret
  .size kiln_flags_thunk, .-kiln_flags_thunk
  .section .rodata
  .p2align 2
.Lkinds:
  .long .Limage-.Lkinds, .Ladd32-.Lkinds, .Ladd64-.Lkinds, .Lsub32-.Lkinds, .Lsub64-.Lkinds, .Llogic32-.Lkinds, .Llogic64-.Lkinds
  .long .Leadd8-.Lkinds, .Leadd16-.Lkinds, .Leadd32-.Lkinds, .Leadd64-.Lkinds
  .long .Lesub8-.Lkinds, .Lesub16-.Lkinds, .Lesub32-.Lkinds, .Lesub64-.Lkinds
  .long .Lelogic8-.Lkinds, .Lelogic16-.Lkinds, .Lelogic32-.Lkinds, .Lelogic64-.Lkinds
  .long .Leresult8-.Lkinds, .Leresult16-.Lkinds, .Leresult32-.Lkinds, .Leresult64-.Lkinds
  .text
)");

/// The record must be in memory from here to its conditions; lower_flags() sees to it that none of them follows a change of it.
void Stitcher::get_flags(Value v) {
  for (const u32 offset : {offsetof(CpuState, flags_kind), offsetof(CpuState, flags_a), offsetof(CpuState, flags_b)})
    if (SlotState* s = find_slot(offset); s && s->dirty) store_slot(*s);
  values_[v].state = State::Deferred;  // nothing to compute
}

/// Up to the user nobody may change the record.
bool Stitcher::may_defer_cond(Value v) const {
  for (Value i = v + 1; i < values_[v].user; ++i) {
    const Inst& inst = (*block_)[i];
    if (inst.op == Op::set_flags_) return false;
    if (inst.op == Op::call_ && (ir::helper_of(inst).effects & ir::WRITES_STATE) != 0) return false;
  }
  return true;
}

Compare Stitcher::compare_of_record(Cond cond) const {
  static constexpr u8 kHost[] = {kE, kNe, kB, kAe, kS, kNs, kO, kNo, kA, kBe, kGe, kL, kG, kLe, kE, kE, kP, kNp, kBe, kA};
  Compare result;
  // C and not Z is the host's "above" with the carry the other way round.
  result.stencil = cond == Cond::Hi || cond == Cond::Ls ? id::call_flags_cmc : id::call_flags;
  result.holes.a = reinterpret_cast<u64>(&kiln_flags_thunk);
  result.cond = kHost[static_cast<unsigned>(cond)];
  return result;
}

/// flags_value of a record: rare, so in C++.
void Stitcher::flags_value(Value v, const Inst& inst) {
  ++code_.fallback_ops;
  const u8 none[4] = {kNoReg, kNoReg, kNoReg, kNoReg};
  const Type types[4] = {};
  const u8 d = fresh(Int);
  emit_fallback(inst, none, types, d);
  done_all(inst);
  bind(v, d, 32);
}

/// Images of x86 flags.
bool Stitcher::eimage(Value v, const Inst& inst) {
  switch (inst.op) {
    case Op::eimage_add_:
    case Op::eimage_sub_: {
      const u8 ra = use(inst.args[0]), rb = use(inst.args[1]);
      emit(id::mov_tr + ra);
      emit((inst.op == Op::eimage_add_ ? id::eimage_add : id::eimage_sub) + inst.lane * kIntRegs + rb);
      break;
    }
    case Op::eimage_logic_:
      emit(id::mov_tr + use(inst.args[0]));
      emit(id::eimage_logic + inst.lane);
      break;
    default: return false;
  }
  const u8 d = fresh(Int);
  emit(id::mov_rt + d);
  done_all(inst);
  bind(v, d, 32);
  return true;
}

}  // namespace kiln::jit
