// The AArch64 user-visible state, as slots behind CpuState.
#pragma once
#include <atomic>

#include "ir/cpu_state.h"

namespace kiln::arm {

struct A64State : ir::CpuState {
  u64 x[32];              // x[0..30]; x[31] holds SP (the zero register is never stored)
  V128 v[32];
  u64 tpidr_el0;
  u64 tpidrro_el0;
  u64 fpcr;               // as the guest wrote it; CpuState::mxcsr follows
  u64 fpsr;               // QC and bits that MXCSR does not hold; cumulative exception bits are merged in from MXCSR when read
  u64 exclusive_address;  // ~0: no reservation
  u64 exclusive_value[2]; // what the load-exclusive saw
  u64 exclusive_version;  // of the address's granule then: see exclusive_version() in helpers.cpp
  std::atomic<u64>* exclusive_claim;  // the count that a store-exclusive holds at the moment: release_exclusive()
  u64 fpsr_watched;       // the guest has read or written FPSR: from now on rare exception bits are worth a check
  u64 full_system;        // 1: this is the head of an A64SystemState
};

/// Mode word (block key): the FPCR bits that change what is lifted. A full system's has more: system_state.h.
enum Mode : u32 {
  kModeDefaultNan = 1,    // FPCR.DN
  kModeFlushToZero = 2,   // FPCR.FZ
  kModeFlush16 = 4,       // FPCR.FZ16
  kModeAltHalf = 8,       // FPCR.AHP
  kModeFpsrWatched = 16,  // without FZ: Underflow is exact, see ir::Underflow
  kModeInexactSeen = 32,  // with FZ: FPSR.IXC is set
};

}  // namespace kiln::arm
