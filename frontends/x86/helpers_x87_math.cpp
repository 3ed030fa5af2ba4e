// x87 register forms that compute something else than a sum, product or quotient, on the host's own instruction.
#include "frontends/x86/helpers_x87.h"
#include "frontends/x86/helpers_x87_quick.h"

namespace kiln::x86::x87 {
namespace {

using ir::CpuState;

// How an instruction changes the stack. The x87 numbers are ModRM's.
template <u8 kModrm>
inline F80 unary(F80 x, u16& status) {
  F80 r;
  if constexpr (kModrm == 0xf0) asm volatile("f2xm1\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(x));
  if constexpr (kModrm == 0xfa) asm volatile("fsqrt\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(x));
  if constexpr (kModrm == 0xfc) asm volatile("frndint\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(x));
  if constexpr (kModrm == 0xfe) asm volatile("fsin\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(x));
  if constexpr (kModrm == 0xff) asm volatile("fcos\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(x));
  return r;
}
/// ST(0) and ST(1) in, the result out; those that pop leave it in ST(0).
template <u8 kModrm>
inline F80 binary(F80 st0, F80 st1, u16& status) {
  F80 r;
  if constexpr (kModrm == 0xf1) asm volatile("fyl2x\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(st0), "u"(st1) : "st(1)");
  if constexpr (kModrm == 0xf3) asm volatile("fpatan\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(st0), "u"(st1) : "st(1)");
  if constexpr (kModrm == 0xf9) asm volatile("fyl2xp1\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(st0), "u"(st1) : "st(1)");
  if constexpr (kModrm == 0xf5) asm volatile("fprem1\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(st0), "u"(st1));
  if constexpr (kModrm == 0xf8) asm volatile("fprem\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(st0), "u"(st1));
  if constexpr (kModrm == 0xfd) asm volatile("fscale\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(st0), "u"(st1));
  return r;
}

template <u8 kModrm, u32 kCodes>
void unary_op(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0);
  if (!all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_register(s, fop);
  u16 status;
  F80 r;
  {
    const Control control(s);
    r = unary<kModrm>(load80(s.st[st0]), status);
  }
  if (!take_status(s, status, kCodes)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  store80(s.st[st0], r);
}

template <u8 kModrm, u32 kCodes, bool kPop>
void binary_op(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0), st1 = physical(s, 1);
  if (!all_masked(s) || !full(s, st0) || !full(s, st1)) [[unlikely]]
    return slow_register(s, fop);
  // FPREM and FPREM1 leave the codes alone where there is no remainder.
  if constexpr (kCodes != 0)
    if (!is_normal(s.st[st0]) || !is_normal(s.st[st1])) [[unlikely]]
      return slow_register(s, fop);
  u16 status;
  F80 r;
  {
    const Control control(s);
    r = binary<kModrm>(load80(s.st[st0]), load80(s.st[st1]), status);
  }
  if (!take_status(s, status, kCodes)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  if constexpr (kPop) {
    store80(s.st[st1], r);
    pop(s);
  } else {
    store80(s.st[st0], r);
  }
}

/// FXTRACT, which always gives two results.
void fxtract(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0);
  if (!all_masked(s) || !full(s, st0) || full(s, below(s))) [[unlikely]]
    return slow_register(s, fop);
  u16 status;
  F80 significand, exponent;
  asm volatile("fxtract\n fnstsw %2" : "=t"(significand), "=u"(exponent), "=a"(status) : "0"(load80(s.st[st0])));
  if (!take_status(s, status)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  store80(s.st[st0], exponent);
  push(s, significand);
}

/// FLDL2T … FLDLN2 under the guest's rounding.
template <u8 kModrm>
void fld_rounded(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  if (!all_masked(s) || full(s, below(s))) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  F80 r;
  {
    const Control control(s);
    if constexpr (kModrm == 0xe9) asm volatile("fldl2t" : "=t"(r));
    if constexpr (kModrm == 0xea) asm volatile("fldl2e" : "=t"(r));
    if constexpr (kModrm == 0xeb) asm volatile("fldpi" : "=t"(r));
    if constexpr (kModrm == 0xec) asm volatile("fldlg2" : "=t"(r));
    if constexpr (kModrm == 0xed) asm volatile("fldln2" : "=t"(r));
  }
  clear_c1(s);
  push(s, r);
}

/// FTST and FXAM.
void ftst(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0);
  if (!all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_register(s, fop);
  u16 status;
  asm volatile("ftst\n fnstsw %0" : "=a"(status) : "t"(load80(s.st[st0])));
  if (!take_status(s, status, kCompareCodes)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
}
void fxam(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0);
  if (!all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_register(s, fop);
  u16 status;
  asm volatile("fxam\n fnstsw %0" : "=a"(status) : "t"(load80(s.st[st0])));
  set_c1(s, 0);
  s.fsw_rest = (s.fsw_rest & ~u32{kCompareCodes}) | (status & (kCompareCodes | kFswC1));
  record(s, fop);
}

const RegisterHelper kHelpers[] = {
    register_helper(0x1e4, 1, "x87_ftst", ftst),
    register_helper(0x1e5, 1, "x87_fxam", fxam),
    register_helper(0x1e9, 1, "x87_fldl2t", fld_rounded<0xe9>),
    register_helper(0x1ea, 1, "x87_fldl2e", fld_rounded<0xea>),
    register_helper(0x1eb, 1, "x87_fldpi", fld_rounded<0xeb>),
    register_helper(0x1ec, 1, "x87_fldlg2", fld_rounded<0xec>),
    register_helper(0x1ed, 1, "x87_fldln2", fld_rounded<0xed>),
    register_helper(0x1f0, 1, "x87_f2xm1", unary_op<0xf0, 0>),
    register_helper(0x1f1, 1, "x87_fyl2x", binary_op<0xf1, 0, true>),
    register_helper(0x1f3, 1, "x87_fpatan", binary_op<0xf3, 0, true>),
    register_helper(0x1f4, 1, "x87_fxtract", fxtract),
    register_helper(0x1f5, 1, "x87_fprem1", binary_op<0xf5, kCompareCodes, false>),
    register_helper(0x1f8, 1, "x87_fprem", binary_op<0xf8, kCompareCodes, false>),
    register_helper(0x1f9, 1, "x87_fyl2xp1", binary_op<0xf9, 0, true>),
    register_helper(0x1fa, 1, "x87_fsqrt", unary_op<0xfa, 0>),
    register_helper(0x1fc, 1, "x87_frndint", unary_op<0xfc, 0>),
    register_helper(0x1fd, 1, "x87_fscale", binary_op<0xfd, 0, false>),
    register_helper(0x1fe, 1, "x87_fsin", unary_op<0xfe, kFswC2>),
    register_helper(0x1ff, 1, "x87_fcos", unary_op<0xff, kFswC2>),
};

}  // namespace

const ir::Helper* math_helper(u32 fop) {
  for (const RegisterHelper& h : kHelpers)
    if (fop - h.fop < h.count) return &h.helper;
  return nullptr;
}

}  // namespace kiln::x86::x87
