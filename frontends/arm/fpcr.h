// FPCR and FPSR against the host's MXCSR, which holds rounding, flushing and the cumulative exception bits.
#pragma once
#include "frontends/arm/a64_state.h"

namespace kiln::arm {

inline constexpr u32 kFpcrAhp = 1u << 26, kFpcrDn = 1u << 25, kFpcrFz = 1u << 24, kFpcrRmodeShift = 22, kFpcrFz16 = 1u << 19;
inline constexpr u32 kFpcrMask = kFpcrAhp | kFpcrDn | kFpcrFz | 3u << kFpcrRmodeShift | kFpcrFz16;
inline constexpr u32 kFpsrQc = 1u << 27, kFpsrIdc = 1u << 7;
inline constexpr u32 kMxcsrSticky = 0x3f, kMxcsrDe = 2, kMxcsrPe = 0x20, kMxcsrDaz = 0x40, kMxcsrMasks = 0x1f80;

/// FPSR for a value of MXCSR.
constexpr u32 fpsr_from(const A64State& state, u32 mxcsr) {
  u32 fpsr = static_cast<u32>(state.fpsr) & (kFpsrQc | kFpsrIdc | 0x1f);
  fpsr |= mxcsr & 1;            // IE -> IOC
  fpsr |= (mxcsr >> 1) & 0x1e;  // ZE OE UE PE -> DZC OFC UFC IXC
  // With FZ, fflush leaves word of denormal operands in DE; without, DE is the host's and says nothing.
  if ((mxcsr & kMxcsrDe) && (state.fpcr & kFpcrFz)) fpsr |= kFpsrIdc;
  return fpsr;
}

/// `mxcsr` holds the sticky bits. What cannot be known: before a thread first touches FPSR (fpsr_watched), UFC of a result that
/// is tiny before rounding only; a check for it would cost every product of programs that never ask.
constexpr u32 mode_from(const A64State& state, u32 mxcsr) {
  const u64 fpcr = state.fpcr;
  const u32 status =
      fpcr & kFpcrFz ? (mxcsr & kMxcsrPe ? u32{kModeInexactSeen} : 0) : (state.fpsr_watched ? u32{kModeFpsrWatched} : 0);
  return status | (fpcr & kFpcrDn ? u32{kModeDefaultNan} : 0) | (fpcr & kFpcrFz ? u32{kModeFlushToZero} : 0) |
         (fpcr & kFpcrFz16 ? u32{kModeFlush16} : 0) | (fpcr & kFpcrAhp ? u32{kModeAltHalf} : 0);
}

/// system_state.cpp: the mode word and VcpuPort::space_changed().
void renew_system_mode(A64State& state, u32 mxcsr);
inline void renew_mode(A64State& state, u32 mxcsr) {
  if (state.full_system) renew_system_mode(state, mxcsr);
  else ir::change_mode(&state, mode_from(state, mxcsr));
}

/// Writes FPSR and the mode word; gives the MXCSR to load. Bits that MXCSR can hold live there, the rest in the slot.
inline u32 mxcsr_after_fpsr(A64State& state, u32 mxcsr, u32 fpsr) {
  state.fpsr = fpsr & (kFpsrQc | kFpsrIdc);
  mxcsr = (mxcsr & ~kMxcsrSticky) | (fpsr & 1) | (fpsr & 0x1e) << 1;
  renew_mode(state, mxcsr);
  return mxcsr;
}

/// Writes FPCR and the mode word; gives the MXCSR to load.
inline u32 mxcsr_after_fpcr(A64State& state, u32 mxcsr, u32 fpcr) {
  constexpr u32 kRounding[4] = {0, 2, 1, 3};  // nearest, towards +inf, towards -inf, towards zero
  // What the old mode made of DE must not be read again under the new one.
  state.fpsr = (state.fpsr & 0x1f) | (fpsr_from(state, mxcsr) & (kFpsrQc | kFpsrIdc));
  state.fpcr = fpcr & kFpcrMask;
  renew_mode(state, mxcsr);
  // Not FTZ: it calls a flushed result inexact. Lifted code flushes (ir::Underflow).
  return kMxcsrMasks | (mxcsr & kMxcsrSticky & ~kMxcsrDe) | kRounding[(fpcr >> kFpcrRmodeShift) & 3] << 13 |
         (fpcr & kFpcrFz ? kMxcsrDaz : 0);
}

}  // namespace kiln::arm
