// Two ways on from a jump table by kind: to the operation itself, which leaves the host's flags, or to the operation and a
// packing of what it leaves.
#include <cstddef>

#include "ir/flags_host.h"

#if !defined(__x86_64__)
#error "flags_host_x86_64.cpp is for x86-64 hosts"
#endif

namespace kiln::ir {

static_assert(offsetof(CpuState, flags_kind) == 32 && offsetof(CpuState, flags_a) == 40 && offsetof(CpuState, flags_b) == 48);
static_assert(static_cast<u32>(FlagsKind::EAdd8) == 7 && static_cast<u32>(FlagsKind::EResult64) == 30);

// INC and DEC are done again: they leave CF alone.
// Conditions. SAHF keeps OF, which `addb $0x7f` of 0 or 1 makes.
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
.Leinc8:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incb %bl
  ret
.Leinc16:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incw %bx
  ret
.Leinc32:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incl %ebx
  ret
.Leinc64:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incq %rbx
  ret
.Ledec8:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decb %bl
  ret
.Ledec16:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decw %bx
  ret
.Ledec32:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decl %ebx
  ret
.Ledec64:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decq %rbx
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
  .long .Leinc8-.Lkinds, .Leinc16-.Lkinds, .Leinc32-.Lkinds, .Leinc64-.Lkinds
  .long .Ledec8-.Lkinds, .Ledec16-.Lkinds, .Ledec32-.Lkinds, .Ledec64-.Lkinds
  .long .Leresult8-.Lkinds, .Leresult16-.Lkinds, .Leresult32-.Lkinds, .Leresult64-.Lkinds
  .text
)");

// Images. lahf and seto give SF ZF . AF . PF . CF | OF; pext gathers N Z C V.
asm(R"(
  .text
  .p2align 4
  .globl kiln_image_thunk
  .type kiln_image_thunk,@function
kiln_image_thunk:
  movl 32(%r12), %eax
  leaq .Lkinds_image(%rip), %rbx
  movslq (%rbx,%rax,4), %rax
  addq %rbx, %rax
  movq 40(%r12), %rbx
  movq 48(%r12), %r10
  jmp *%rax
.Li_image:
  movl %ebx, %eax
  andl $0xf0000014, %eax
  ret
.Li_add32:
  addl %r10d, %ebx
  jmp .Li_arm
.Li_sub32:
  cmpl %r10d, %ebx
  cmc
  jmp .Li_arm
.Li_logic32:
  testl %ebx, %ebx
  jmp .Li_arm
.Li_add64:
  addq %r10, %rbx
  jmp .Li_arm
.Li_sub64:
  cmpq %r10, %rbx
  cmc
  jmp .Li_arm
.Li_logic64:
  testq %rbx, %rbx
.Li_arm:
  lahf
  seto %al
  movl $0xc101, %r10d
  pextl %r10d, %eax, %eax
  shll $28, %eax
  ret
.Li_eadd8:
  addb %r10b, %bl
  jmp .Li_x86
.Li_eadd16:
  addw %r10w, %bx
  jmp .Li_x86
.Li_eadd32:
  addl %r10d, %ebx
  jmp .Li_x86
.Li_eadd64:
  addq %r10, %rbx
  jmp .Li_x86
.Li_esub8:
  cmpb %r10b, %bl
  jmp .Li_x86
.Li_esub16:
  cmpw %r10w, %bx
  jmp .Li_x86
.Li_esub32:
  cmpl %r10d, %ebx
  jmp .Li_x86
.Li_esub64:
  cmpq %r10, %rbx
.Li_x86:
  lahf
  seto %al
  movl $0xc101, %r10d
  pextl %r10d, %eax, %r10d
  shll $28, %r10d
  shrl $8, %eax
  andl $0x14, %eax
  orl %r10d, %eax
  ret
.Li_einc8:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incb %bl
  jmp .Li_x86
.Li_einc16:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incw %bx
  jmp .Li_x86
.Li_einc32:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incl %ebx
  jmp .Li_x86
.Li_einc64:
  leaq -1(%rbx), %rbx
  btl $0, %r10d
  incq %rbx
  jmp .Li_x86
.Li_edec8:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decb %bl
  jmp .Li_x86
.Li_edec16:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decw %bx
  jmp .Li_x86
.Li_edec32:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decl %ebx
  jmp .Li_x86
.Li_edec64:
  leaq 1(%rbx), %rbx
  btl $0, %r10d
  decq %rbx
  jmp .Li_x86
.Li_elogic8:
  xorl %r10d, %r10d
.Li_eresult8:
  testb %bl, %bl
  jmp .Li_result
.Li_elogic16:
  xorl %r10d, %r10d
.Li_eresult16:
  testw %bx, %bx
  jmp .Li_result
.Li_elogic32:
  xorl %r10d, %r10d
.Li_eresult32:
  testl %ebx, %ebx
  jmp .Li_result
.Li_elogic64:
  xorl %r10d, %r10d
.Li_eresult64:
  testq %rbx, %rbx
.Li_result:
  lahf
  movl %eax, %ebx
  shrl $8, %ebx
  andl $4, %ebx
  shll $16, %eax
  andl $0xc0000000, %eax
  orl %ebx, %eax
  andl $0x30000010, %r10d
  orl %r10d, %eax
  ret
  .size kiln_image_thunk, .-kiln_image_thunk

  .p2align 4
  .globl kiln_image_of
  .type kiln_image_of,@function
kiln_image_of:
  pushq %rbx
  pushq %r10
  movl %edi, %eax
  movq %rsi, %rbx
  movq %rdx, %r10
  leaq .Lkinds_image(%rip), %r11
  movslq (%r11,%rax,4), %rax
  addq %r11, %rax
  call *%rax
  popq %r10
  popq %rbx
  ret
  .size kiln_image_of, .-kiln_image_of
  .section .rodata
  .p2align 2
.Lkinds_image:
  .long .Li_image-.Lkinds_image, .Li_add32-.Lkinds_image, .Li_add64-.Lkinds_image, .Li_sub32-.Lkinds_image, .Li_sub64-.Lkinds_image, .Li_logic32-.Lkinds_image, .Li_logic64-.Lkinds_image
  .long .Li_eadd8-.Lkinds_image, .Li_eadd16-.Lkinds_image, .Li_eadd32-.Lkinds_image, .Li_eadd64-.Lkinds_image
  .long .Li_esub8-.Lkinds_image, .Li_esub16-.Lkinds_image, .Li_esub32-.Lkinds_image, .Li_esub64-.Lkinds_image
  .long .Li_elogic8-.Lkinds_image, .Li_elogic16-.Lkinds_image, .Li_elogic32-.Lkinds_image, .Li_elogic64-.Lkinds_image
  .long .Li_einc8-.Lkinds_image, .Li_einc16-.Lkinds_image, .Li_einc32-.Lkinds_image, .Li_einc64-.Lkinds_image
  .long .Li_edec8-.Lkinds_image, .Li_edec16-.Lkinds_image, .Li_edec32-.Lkinds_image, .Li_edec64-.Lkinds_image
  .long .Li_eresult8-.Lkinds_image, .Li_eresult16-.Lkinds_image, .Li_eresult32-.Lkinds_image, .Li_eresult64-.Lkinds_image
  .text
)");

}  // namespace kiln::ir
