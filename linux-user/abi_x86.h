// What i386 and x86-64 Linux have in common: exceptions and the signals made of them, -cpu models, /proc/cpuinfo, and the FPU
// part of signal frames (arch/x86/kernel/fpu/signal.c).
#pragma once
#include "frontends/x86/x86.h"
#include "linux-user/process.h"

namespace kiln::user {

u64 x86_hwcap(const ir::CpuState* cpu);
u64 x86_hwcap2(const ir::CpuState* cpu);
u64 x86_minimal_frame(const ir::CpuState* cpu);
std::string x86_cpuinfo(const ir::CpuState* cpu, unsigned processor);
/// wide: those with a 64-bit mode.
std::string x86_cpu_models(bool wide);
bool x86_set_cpu_model(ir::CpuState* cpu, const char* name);

/// Exception → signal as arch/x86/kernel/traps.c and mm/fault.c do it; leaves trap number, error code and CR2 in the Thread.
ExceptionSignal x86_exception(Thread& thread, ir::ExitKind kind);

/// EFLAGS for a frame: with RF if the signal comes from a fault (not a trap), as the processor pushes it. Forgets that it did.
u32 x86_frame_eflags(Thread& thread);
/// EFLAGS that a frame may change.
inline constexpr u32 kFrameEflags =
    x86::kAc | x86::kOf | x86::kDf | x86::kTf | x86::kSf | x86::kZf | x86::kAf | x86::kPf | x86::kCf;

/// Bytes of the FPU state in a frame, without i386's FSAVE header: FXSAVE, or XSAVE and the second magic number.
std::size_t x86_fpstate_size(const x86::X86State& state);
inline constexpr std::size_t kMaxFpstate = x86::kXsaveBytes + 4;
/// True if that is XSAVE (UC_FP_XSTATE).
bool x86_has_xsave(const x86::X86State& state);
/// Writes it to `out`, with the magic numbers. `header_bytes` is what stands before it in the frame (112 for i386).
void x86_put_fpstate(const x86::X86State& state, std::size_t header_bytes, u8* out);
/// Restores from guest memory; a state without (proper) magic numbers is FXSAVE only. False: fault.
bool x86_get_fpstate(Thread& thread, GuestAddr at);
/// As after FNINIT and in every vector register zero: what handlers start with, and what a frame without FPU state restores.
void x86_clear_fpstate(x86::X86State& state);

}  // namespace kiln::user
