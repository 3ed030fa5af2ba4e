// x87 register forms: arithmetic, comparisons, moves. See helpers_x87.h.
#include "frontends/x86/helpers_x87.h"

#include "frontends/x86/helpers_x87_quick.h"
#include "frontends/x86/x86.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::Helper;
using ir::Type;

namespace x87 {

void slow_register(X86State& s, u32 fop) {
  x87_wait(s);
  record(s, fop);
  run_on_host(s, fop, nullptr);
}

namespace {

void any_register(CpuState* cpu, u32 fop) { slow_register(state_of(cpu), fop); }

/// ST(0) or ST(i) op= the other. Which of the two is called `a` matters for the result only in subtraction and division: x87
/// chooses between NaNs by their significands.
template <Arith kOp, bool kToSti, bool kPop>
void arith(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0), sti = physical(s, fop);
  const unsigned to = kToSti ? sti : st0, from = kToSti ? st0 : sti;
  if (!all_masked(s) || !full(s, st0) || !full(s, sti)) [[unlikely]]
    return slow_register(s, fop);
  if (arith_on_normals<kOp>(s, s.st[to], s.st[from].d[0], static_cast<const volatile V128&>(s.st[from]).h[4])) [[likely]] {
    record(s, fop);
    if constexpr (kPop) pop(s);
    return;
  }
  u16 status;
  F80 r;
  {
    const Control control(s);
    r = compute<kOp>(load80(s.st[to]), load80(s.st[from]), status);
  }
  if (!take_status(s, status)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  store80(s.st[to], r);
  if constexpr (kPop) pop(s);
}

/// FCOM, FUCOM and their popping forms.
template <bool kQuiet, unsigned kPops>
void compare(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0), sti = physical(s, kPops == 2 ? 1 : fop);
  if (!all_masked(s) || !full(s, st0) || !full(s, sti)) [[unlikely]]
    return slow_register(s, fop);
  u16 status;
  const F80 a = load80(s.st[st0]), b = load80(s.st[sti]);
  if constexpr (kQuiet) asm volatile("fucom %%st(1)\n fnstsw %0" : "=a"(status) : "t"(a), "u"(b));
  else asm volatile("fcom %%st(1)\n fnstsw %0" : "=a"(status) : "t"(a), "u"(b));
  if (!take_status(s, status, kCompareCodes)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  for (unsigned i = 0; i < kPops; ++i) pop(s);
}

constexpr u32 flags_image(bool z, bool c, bool p) { return (z ? 1u << 30 : 0u) | (c ? 1u << 29 : 0u) | (p ? 4u : 0u); }
u32 image_of(u32 eflags) {
  return flags_image((eflags & kZf) != 0, (eflags & kCf) != 0, (eflags & kPf) != 0) | ((eflags & kSf) ? 1u << 31 : 0u) |
         ((eflags & kOf) ? 1u << 28 : 0u) | (eflags & kAf);
}

/// FCOMI, FUCOMI …: the image of the flags.
template <bool kQuiet, bool kPop>
u32 compare_flags(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0), sti = physical(s, fop);
  if (all_masked(s) && full(s, st0) && full(s, sti)) [[likely]] {
    u16 status;
    bool z, p, c;
    const F80 a = load80(s.st[st0]), b = load80(s.st[sti]);
    if constexpr (kQuiet)
      asm volatile("fucomi %%st(1), %%st\n fnstsw %0" : "=a"(status), "=@ccz"(z), "=@ccp"(p), "=@ccc"(c) : "t"(a), "u"(b));
    else asm volatile("fcomi %%st(1), %%st\n fnstsw %0" : "=a"(status), "=@ccz"(z), "=@ccp"(p), "=@ccc"(c) : "t"(a), "u"(b));
    if ((status & ~s.fsw_rest & kFswExceptions) == 0) [[likely]] {  // C1 stays as it was
      record(s, fop);
      if constexpr (kPop) pop(s);
      return flags_image(z, c, p);
    }
  }
  x87_wait(s);
  record(s, fop);
  return image_of(run_on_host(s, fop, nullptr, eflags_of(s)));
}

void fcmov(CpuState* cpu, u32 fop, u32 whether) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0), sti = physical(s, fop);
  if (all_masked(s) && full(s, st0) && full(s, sti)) [[likely]] {
    record(s, fop);  // C1 stays as it was
    if (whether & 1) copy80(s.st[st0], s.st[sti]);
    return;
  }
  x87_wait(s);
  record(s, fop);
  // What the instruction itself would look at: all of C, Z and P as its condition (DB: the opposite) has them.
  const bool holds = (whether & 1) != (fop >> 8 & 1);
  run_on_host(s, fop, nullptr, holds ? kCf | kZf | kPf : 0);
}

void fld_sti(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned sti = physical(s, fop), to = below(s);
  if (!all_masked(s) || !full(s, sti) || full(s, to)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  copy80(s.st[to], s.st[sti]);
  s.ftw |= 1u << to;
  clear_c1(s);
  set_top(s, to);
}

template <unsigned kPops>
void fst_sti(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0), sti = physical(s, fop);
  if (!all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  copy80(s.st[sti], s.st[st0]);
  s.ftw |= 1u << sti;
  clear_c1(s);
  if constexpr (kPops == 1) pop(s);
}

void fxch(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0), sti = physical(s, fop);
  if (!all_masked(s) || !full(s, st0) || !full(s, sti)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  const u64 significand = s.st[st0].d[0], sign_exponent = s.st[st0].h[4];
  copy80(s.st[st0], s.st[sti]);
  put80(s.st[sti], significand, sign_exponent);
  clear_c1(s);
}

/// FCHS, FABS: the sign bit, whatever the rest is.
template <bool kClear>
void sign(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0);
  if (!all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  clear_c1(s);
  if constexpr (kClear) s.st[st0].h[4] &= 0x7fff;
  else s.st[st0].h[4] ^= 0x8000;
}

/// FLD1 and FLDZ; the others depend on the rounding mode.
template <u32 kExponent, u64 kSignificand>
void fld_constant(CpuState* cpu, u32 fop) {
  X86State& s = state_of(cpu);
  const unsigned to = below(s);
  if (!all_masked(s) || full(s, to)) [[unlikely]]
    return slow_register(s, fop);
  record(s, fop);
  put80(s.st[to], kSignificand, kExponent);
  s.ftw |= 1u << to;
  clear_c1(s);
  set_top(s, to);
}

const RegisterHelper kRegisterHelpers[] = {
    register_helper(0x0c0, 8, "x87_fadd", arith<kAdd, false, false>),
    register_helper(0x0c8, 8, "x87_fmul", arith<kMul, false, false>),
    register_helper(0x0d0, 8, "x87_fcom", compare<false, 0>),
    register_helper(0x0d8, 8, "x87_fcomp", compare<false, 1>),
    register_helper(0x0e0, 8, "x87_fsub", arith<kSub, false, false>),
    register_helper(0x0e8, 8, "x87_fsubr", arith<kSubr, false, false>),
    register_helper(0x0f0, 8, "x87_fdiv", arith<kDiv, false, false>),
    register_helper(0x0f8, 8, "x87_fdivr", arith<kDivr, false, false>),
    register_helper(0x1c0, 8, "x87_fld_sti", fld_sti),
    register_helper(0x1c8, 8, "x87_fxch", fxch),
    register_helper(0x1e0, 1, "x87_fchs", sign<false>),
    register_helper(0x1e1, 1, "x87_fabs", sign<true>),
    register_helper(0x1e8, 1, "x87_fld1", fld_constant<0x3fff, u64{1} << 63>),
    register_helper(0x1ee, 1, "x87_fldz", fld_constant<0, 0>),
    register_helper(0x2e9, 1, "x87_fucompp", compare<true, 2>),
    // The opposite of D8's: DC E0 is FSUBR ST(i), ST in the manual's words, ST(i) := ST(0) - ST(i).
    register_helper(0x4c0, 8, "x87_fadd_to", arith<kAdd, true, false>),
    register_helper(0x4c8, 8, "x87_fmul_to", arith<kMul, true, false>),
    register_helper(0x4e0, 8, "x87_fsubr_to", arith<kSubr, true, false>),
    register_helper(0x4e8, 8, "x87_fsub_to", arith<kSub, true, false>),
    register_helper(0x4f0, 8, "x87_fdivr_to", arith<kDivr, true, false>),
    register_helper(0x4f8, 8, "x87_fdiv_to", arith<kDiv, true, false>),
    register_helper(0x5d0, 8, "x87_fst_sti", fst_sti<0>),
    register_helper(0x5d8, 8, "x87_fstp_sti", fst_sti<1>),
    register_helper(0x5e0, 8, "x87_fucom", compare<true, 0>),
    register_helper(0x5e8, 8, "x87_fucomp", compare<true, 1>),
    register_helper(0x6c0, 8, "x87_faddp", arith<kAdd, true, true>),
    register_helper(0x6c8, 8, "x87_fmulp", arith<kMul, true, true>),
    register_helper(0x6d9, 1, "x87_fcompp", compare<false, 2>),
    register_helper(0x6e0, 8, "x87_fsubrp", arith<kSubr, true, true>),
    register_helper(0x6e8, 8, "x87_fsubp", arith<kSub, true, true>),
    register_helper(0x6f0, 8, "x87_fdivrp", arith<kDivr, true, true>),
    register_helper(0x6f8, 8, "x87_fdivp", arith<kDiv, true, true>),
};
const Helper kAnyRegister = {"x87_register", address_of(any_register), Type::Void, {Type::I32}, kX87Effects};

template <class F>
RegisterHelper compare_helper(u32 fop, const char* name, F* function) {
  return {fop, 8, {name, address_of(function), Type::I32, {Type::I32}, kX87Effects}};
}
const RegisterHelper kCompareHelpers[] = {
    compare_helper(0x3e8, "x87_fucomi", compare_flags<true, false>),
    compare_helper(0x3f0, "x87_fcomi", compare_flags<false, false>),
    compare_helper(0x7e8, "x87_fucomip", compare_flags<true, true>),
    compare_helper(0x7f0, "x87_fcomip", compare_flags<false, true>),
};

}  // namespace
}  // namespace x87

const Helper* x87_register_helper(u32 fop) {
  for (const x87::RegisterHelper& h : x87::kRegisterHelpers)
    if (fop - h.fop < h.count) return &h.helper;
  const Helper* math = x87::math_helper(fop);
  return math ? math : &x87::kAnyRegister;
}

const Helper* x87_compare_helper(u32 fop) {
  for (const x87::RegisterHelper& h : x87::kCompareHelpers)
    if (fop - h.fop < h.count) return &h.helper;
  return nullptr;
}

const Helper kFcmov = {"x87_fcmov", x87::address_of(x87::fcmov), Type::Void, {Type::I32, Type::I32}, x87::kX87Effects};

}  // namespace kiln::x86
