// run_on_host(): any x87 instruction with the guest's whole state, exactly as the silicon does it.
#include "frontends/x86/helpers_x87.h"
#include "frontends/x86/helpers_x87_quick.h"

namespace kiln::x86 {
namespace {

/// FSAVE's image, 32-bit protected-mode format (SDM vol. 1, figure 8-9).
struct SaveImage {
  u32 fcw, fsw, ftw, fip, fcs_fop, fdp, fds;
  u8 st[80];  // ST(0) first
};
static_assert(sizeof(SaveImage) == 108);

}  // namespace

// Four bytes an instruction, "xx yy ret nop": the register forms D8 C0 … DF FF, then the memory forms D8 /0 … DF /7 on (%rsi).
// kiln_x87_run(image, operand, form, eflags): the state goes in, the instruction runs, the state comes out, which resets the
// host's. FSAVE is what ends it even if the instruction has raised an unmasked exception: it does not wait for one.
__asm__(R"(
  .text
  .p2align 4
kiln_x87_forms:
  .set .Lx87_opcode, 0xd8
  .rept 8
  .set .Lx87_modrm, 0xc0
  .rept 64
  .byte .Lx87_opcode, .Lx87_modrm, 0xc3, 0x90
  .set .Lx87_modrm, .Lx87_modrm + 1
  .endr
  .set .Lx87_opcode, .Lx87_opcode + 1
  .endr
  .set .Lx87_opcode, 0xd8
  .rept 8
  .set .Lx87_modrm, 0x06
  .rept 8
  .byte .Lx87_opcode, .Lx87_modrm, 0xc3, 0x90
  .set .Lx87_modrm, .Lx87_modrm + 8
  .endr
  .set .Lx87_opcode, .Lx87_opcode + 1
  .endr
  .p2align 4
kiln_x87_run:
  lea kiln_x87_forms(%rip), %rax
  lea (%rax, %rdx, 4), %rdx
  frstor (%rdi)
  push %rcx
  popfq
  call *%rdx
  pushfq
  pop %rax
  fnsave (%rdi)
  ret
)");
extern "C" u64 kiln_x87_run(SaveImage* image, void* operand, u64 form, u64 eflags);

u32 x87_abridged_tags(u32 tag_word) {
  u32 out = 0;
  for (unsigned i = 0; i < 8; ++i)
    if ((tag_word >> 2 * i & 3) != 3) out |= 1u << i;
  return out;
}

u32 x87_tag_word(const X86State& s) {
  u32 out = 0;
  for (unsigned i = 0; i < 8; ++i) {
    const u64 mantissa = s.st[i].d[0];
    const u32 exponent = s.st[i].h[4] & 0x7fff;
    u32 tag = 0;                                                                   // valid
    if ((s.ftw >> i & 1) == 0) tag = 3;                                            // empty
    else if (exponent == 0 && mantissa == 0) tag = 1;                              // zero
    else if (exponent == 0 || exponent == 0x7fff || mantissa >> 63 == 0) tag = 2;  // special
    out |= tag << 2 * i;
  }
  return out;
}

void x87_reset(X86State& s) {
  s.fcw = kFcwReset;
  s.ftw = s.fop = 0;
  set_fsw(s, 0);
  s.fip = s.fdp = s.fcs = s.fds = 0;
}

namespace {
u32 status_of(const X86State& s) {
  using namespace x87;
  const F80 a = load80(s.c1_operands[0]), b = load80(s.c1_operands[1]);
  const Control control(s);
  u16 status = 0;
  switch (s.c1_op - 1) {
    case kAdd: compute<kAdd>(a, b, status); break;
    case kMul: compute<kMul>(a, b, status); break;
    case kSub: compute<kSub>(a, b, status); break;
    case kSubr: compute<kSubr>(a, b, status); break;
    case kDiv: compute<kDiv>(a, b, status); break;
    default: compute<kDivr>(a, b, status); break;
  }
  return status;
}
}  // namespace

u32 fsw_of(const X86State& s) {
  const u32 rest = s.c1_op == 0 ? s.fsw_rest : (s.fsw_rest & ~u32{kFswC1}) | (status_of(s) & kFswC1);
  return rest | s.ftop << 11;
}
void x87_settle(X86State& s) {
  if (s.c1_op != 0) set_fsw(s, fsw_of(s));
}

u32 run_on_host(X86State& s, u32 fop, void* operand, u32 eflags) {
  const u32 opcode = fop >> 8 & 7, modrm = fop & 0xff;
  SaveImage image{.fcw = s.fcw, .fsw = fsw_of(s), .ftw = 0, .fip = 0, .fcs_fop = 0, .fdp = 0, .fds = 0, .st = {}};
  for (unsigned i = 0; i < 8; ++i) {
    if ((s.ftw >> i & 1) == 0) image.ftw |= 3u << 2 * i;
    std::memcpy(image.st + 10 * i, &x87_st(s, i), 10);
  }
  const u64 form = operand ? 512 + opcode * 8 + (modrm >> 3 & 7) : opcode * 64 + (modrm & 63);
  const u64 flags = kiln_x87_run(&image, operand, form, (eflags & kStatusFlags) | 0x202);
  set_fsw(s, image.fsw);
  s.ftw = x87_abridged_tags(image.ftw);
  for (unsigned i = 0; i < 8; ++i) std::memcpy(&x87_st(s, i), image.st + 10 * i, 10);
  return static_cast<u32>(flags) & kStatusFlags;
}

}  // namespace kiln::x86
