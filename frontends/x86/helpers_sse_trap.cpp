// MXCSR of SSE instructions where an exception is unmasked (kModeSseTraps): which bits an instruction leaves, and #XM.
// Hardware rounds an overflowing or tiny result with an unbounded exponent before it traps, and says Precision of that result
// (SDM vol. 1, 4.9.1.4 and 4.9.1.5). Here such elements are computed again from their significands, with exponents near 0.
#include <cmath>

#include "frontends/x86/helpers_sse.h"
#include "ir/semantics_fp.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::Helper;
using ir::Type;
using ir::Vec;

namespace {

constexpr u32 kSticky = 63, kFlush = 0x8000, kDenormalsAreZero = 0x40, kMasked = 0x1f80, kRounding = 0x6000;
constexpr u32 kOverflow = 8, kUnderflow = 16, kPrecision = 32, kPreComputation = 7;  // IE DE ZE

u32 unmasked(const CpuState* state) { return static_cast<const X86State*>(state)->mxcsr_unmasked >> 7; }

/// With Underflow unmasked results are not flushed (SDM vol. 1, 10.2.3.3).
u32 fp_begin(CpuState* state) {
  const u32 mxcsr = ir::host::mxcsr();
  ir::host::set_mxcsr(mxcsr & ~kSticky & (unmasked(state) & kUnderflow ? ~kFlush : ~0u));
  return mxcsr & (kSticky | kFlush);
}
/// SDM vol. 1, 11.5.2: invalid, denormal and zero-divide of any element come before the others of all.
void merge(CpuState* state, u32 before, u32 raised) {
  if (raised & unmasked(state) & kPreComputation) raised &= kPreComputation;
  ir::host::set_mxcsr((ir::host::mxcsr() & ~kSticky) | before | raised);
  if (raised & unmasked(state)) ir::raise(state, ir::ExitKind::Trap, trap_value(kXM));
}
void fp_end(CpuState* state, u32 before) { merge(state, before, ir::host::mxcsr() & kSticky); }
void fp_end_range(CpuState* state, u32 before, u32 low, u32 high) { merge(state, before, low | high); }

/// One element's operation on operands as they are; the caller has set MXCSR.
template <class F>
struct Element {
  FpStep step;
  unsigned negate = 0;
  F a, b, c;
};
u32 half_bits(float a) {
  const Vec v = ir::to_vec(V128{.f32 = {a, 0, 0, 0}});
  Vec r;
  asm volatile("vcvtps2ph $4, %1, %0" : "=x"(r) : "x"(v));
  return static_cast<u16>(r[0]);
}
/// Whether the result is tiny: denormal in the result's format. Sets MXCSR's sticky bits.
template <class F>
bool run(const Element<F>& e) {
  const auto tiny = [](auto r) { return ir::fp_is_denormal(r); };
  switch (e.step) {
    case FpStep::Add: return tiny(ir::host::add(e.a, e.b));
    case FpStep::Sub: return tiny(ir::host::sub(e.a, e.b));
    case FpStep::Mul: return tiny(ir::host::mul(e.a, e.b));
    case FpStep::Div: return tiny(ir::host::div(e.a, e.b));
    case FpStep::Fma: return tiny(ir::host::fma_x86(e.negate, e.a, e.b, e.c));
    default:
      if constexpr (sizeof(F) == 8) {
        return tiny(ir::host::narrow(e.a));
      } else {
        const u32 half = half_bits(e.a);
        return (half & 0x7c00) == 0 && (half & 0x3ff) != 0;
      }
  }
}

/// The operands with exponents near 0, in the proportion that matters; false: the lesser addend is beyond reach and not 0, so
/// that the result is inexact anyhow.
template <class F>
bool near_zero(Element<F>& e) {
  constexpr int kFar = sizeof(F) == 8 ? 400 : 50;
  int ea = 0, eb = 0, ec = 0;
  e.a = std::frexp(e.a, &ea);
  e.b = std::frexp(e.b, &eb);
  e.c = std::frexp(e.c, &ec);
  switch (e.step) {
    case FpStep::Add:
    case FpStep::Sub:
      if (e.a == 0 || e.b == 0) return true;
      if (ea - eb > kFar || eb - ea > kFar) return false;
      e.b = std::ldexp(e.b, eb - ea);
      return true;
    case FpStep::Fma:
      if (e.c == 0 || e.a == 0 || e.b == 0) return true;
      if (ec - ea - eb > kFar || ea + eb - ec > kFar) return false;
      e.c = std::ldexp(e.c, ec - ea - eb);
      return true;
    default: return true;
  }
}

template <class F>
u32 element_flags(Element<F> e, u32 mxcsr, u32 traps) {
  ir::host::set_mxcsr(mxcsr);
  const bool tiny = run(e);
  u32 raised = ir::host::mxcsr() & kSticky;
  if (tiny && (traps & kUnderflow)) raised |= kUnderflow;
  // Infinities, NaNs and divisions by zero raise neither; so all operands are finite.
  if (!(raised & traps & (kOverflow | kUnderflow))) return raised;
  ir::host::set_mxcsr(kMasked);
  if (mxcsr & kDenormalsAreZero)
    for (F* x : {&e.a, &e.b, &e.c})
      if (ir::fp_is_denormal(*x)) *x = 0;
  raised |= kPrecision;
  if (!near_zero(e)) return raised;
  ir::host::set_mxcsr(kMasked | (mxcsr & kRounding));
  run(e);
  return (raised & ~kPrecision) | (ir::host::mxcsr() & kPrecision);
}

template <class F>
u32 all_elements(CpuState* state, FpShape shape, Vec a, Vec b, Vec c) {
  using L = ir::FpLanes<F>;
  const u32 own = ir::host::mxcsr();
  u32 mxcsr = own & ~kSticky;
  if (shape.rounding < 4) mxcsr = (mxcsr & ~kRounding) | u32{shape.rounding} << 13;
  u32 raised = 0;
  const unsigned count = shape.scalar ? 1 : 16 / sizeof(F);
  for (unsigned i = 0; i < count; ++i) {
    Element<F> e{shape.step, shape.negate, ((L)a)[i], ((L)b)[i], ((L)c)[i]};
    if (shape.step == FpStep::AddSub) e.step = i & 1 ? FpStep::Add : FpStep::Sub;
    if (shape.alternating) e.negate ^= i & 1 ? 0 : 1;
    raised |= element_flags(e, mxcsr, unmasked(state));
  }
  ir::host::set_mxcsr(own);
  return raised;
}
u32 range_flags(CpuState* state, u32 packed, Vec a, Vec b, Vec c) {
  const FpShape shape = FpShape::unpack(packed);
  return shape.is64 ? all_elements<double>(state, shape, a, b, c) : all_elements<float>(state, shape, a, b, c);
}

template <class F>
const void* address_of(F* function) {
  return reinterpret_cast<const void*>(function);
}
constexpr Type kI32 = Type::I32, kV = Type::V128;

}  // namespace

const Helper kFpBegin{"sse_fp_begin", address_of(&fp_begin), kI32, {}, ir::WRITES_MEM};
const Helper kFpEnd{"sse_fp_end", address_of(&fp_end), Type::Void, {kI32}, ir::WRITES_MEM | ir::MAY_FAULT};
const Helper kFpRangeFlags{"sse_fp_range", address_of(&range_flags), kI32, {kI32, kV, kV, kV}, ir::WRITES_MEM};
const Helper kFpEndRange{
    "sse_fp_end_range", address_of(&fp_end_range), Type::Void, {kI32, kI32, kI32}, ir::WRITES_MEM | ir::MAY_FAULT};

}  // namespace kiln::x86
