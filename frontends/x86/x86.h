// i386 and x86-64 guests, user level.
// What lives here: *.insns (instruction rows, see README.md), lift_*.cpp (one short semantic function a row or family), this header
// (the GuestDescs and what an owner of a vCPU needs beside them), helpers*.h (C++ functions called from generated code).
// Invariants: (1) nothing that may fault or trap comes after a register write of the same instruction; (2) flags go through the
// eflags_* ops only; (3) 16-, 32- and 64-bit code share every body: sizes come from Insn.
#pragma once
#include "frontends/x86/x86_state.h"
#include "ir/guest_desc.h"

namespace kiln::x86 {

extern const ir::GuestDesc kX86_64;
extern const ir::GuestDesc kI386;

// EFLAGS as a whole, for owners (signal frames, ptrace, debuggers) and PUSHF/POPF helpers; bit 1 always set.
u32 eflags_of(const X86State& state);
/// Also recomputes CpuState::mode (TF).
void set_eflags(X86State& state, u32 eflags);

/// MXCSR: outside generated code only (inside, the host's MXCSR register holds it). set_mxcsr() also recomputes the mode.
u32 mxcsr_of(const X86State& state);
void set_mxcsr(X86State& state, u32 mxcsr);
/// Bits of MXCSR that the CPU model has; the others raise #GP.
u32 mxcsr_mask(const X86State& state);
inline constexpr u32 kMxcsrWithoutDaz = 0xffbf;

/// A segment register as user mode sees it after a load: selector and base (limit and rights of a flat user segment). Recomputes the mode.
void set_segment(X86State& state, Seg seg, u32 selector, u64 base);

/// Loads CS with a code segment that is known to be good; the mode follows. Where the code's size changes, bits 63..32 of rAX..rDI are
/// cleared (SDM vol. 1, 3.4.1.1: undefined), R8..R15 and XMM8..XMM15 stay.
void load_code_segment(X86State& state, u32 selector);

// Floating-point and vector state in the formats of SDM vol. 1, 10.5.1 (FXSAVE, 512 bytes) and 13.4 (XSAVE standard format: x87, SSE, AVX).
// Outside generated code only.
void fxsave_image(const X86State& state, bool wide, u8* out);
void fxrstor_image(X86State& state, bool wide, const u8* in);
/// The i387 part of an i386 signal frame (struct _fpstate's first 108 bytes: FSAVE format).
void fsave_image(const X86State& state, u8* out);
void frstor_image(X86State& state, const u8* in);
inline constexpr std::size_t kXsaveBytes = 512 + 64 + 256;
void xsave_image(const X86State& state, u8* out);
/// False if the header is not one that XRSTOR takes.
bool xrstor_image(X86State& state, const u8* in);

/// What an access to a non-canonical address by the instruction at state.pc, 64-bit code, raises: kSS through the stack segment
/// (rSP or rBP as base, PUSH and its like), else kGP. `code`: the instruction's bytes.
u8 non_canonical_vector(const X86State& state, const u8* code, std::size_t size);

/// Outside 64-bit code: kSS or kGP if the operand of the instruction at state.pc that holds `address`, where the access failed,
/// reaches beyond its segment; 0: a page fault.
u8 beyond_segment_vector(const X86State& state, const u8* code, std::size_t size, u64 address);
/// What ExitKind::Alignment (and a trap kAC) by the instruction at state.pc is: #GP of MOVAPS and its like; #AC while EFLAGS.AC is set
/// (MOVAPS raises #GP itself then), or what its segment says first.
u8 alignment_vector(const X86State& state, const u8* code, std::size_t size);

/// A named CPU (-cpu NAME): what CPUID tells and what the decoder accepts.
struct CpuModel {
  const char* name;
  const char* description;
};
std::span<const CpuModel> cpu_models();
/// Index of a name, or -1. 0 is "max".
int find_cpu_model(const char* name);
/// Sets the model of a vCPU and its mode word.
void set_cpu_model(X86State& state, unsigned index);

struct CpuidResult {
  u32 eax, ebx, ecx, edx;
};
/// What CPUID gives (SDM vol. 2A) on `state`'s model for leaf and subleaf.
CpuidResult cpuid(const X86State& state, u32 leaf, u32 subleaf);

}  // namespace kiln::x86
