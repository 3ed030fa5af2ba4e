// The x86 guest's state (i386 and x86-64), as slots behind CpuState.
// Slots: in 64-bit code the whole r[i] (I64), in 16- and 32-bit code its low half (I32; the upper half stays zero). CpuState::pc is
// the linear address of the instruction (user mode: CS base 0).
#pragma once
#include "ir/cpu_state.h"

namespace kiln::x86 {

enum Gpr : u8 { RAX, RCX, RDX, RBX, RSP, RBP, RSI, RDI, R8, R9, R10, R11, R12, R13, R14, R15 };
enum Seg : u8 { ES, CS, SS, DS, FS, GS, kNoSeg };

/// EFLAGS bits (SDM vol. 1, 3.4.3).
enum Eflags : u32 {
  kCf = 1u << 0, kPf = 1u << 2, kAf = 1u << 4, kZf = 1u << 6, kSf = 1u << 7, kTf = 1u << 8, kIf = 1u << 9, kDf = 1u << 10,
  kOf = 1u << 11, kIopl = 3u << 12, kNt = 1u << 14, kRf = 1u << 16, kVm = 1u << 17, kAc = 1u << 18, kId = 1u << 21,
};
inline constexpr u32 kStatusFlags = kCf | kPf | kAf | kZf | kSf | kOf;

/// Exception vectors (SDM vol. 3, table 6-1). ExitKind::Trap carries trap_value(vector, error code) in exit_value.
enum Vector : u8 {
  kDE = 0, kDB = 1, kNMI = 2, kBP = 3, kOF = 4, kBR = 5, kUD = 6, kNM = 7, kDF = 8, kTS = 10, kNP = 11, kSS = 12, kGP = 13, kPF = 14,
  kMF = 16, kAC = 17, kMC = 18, kXM = 19,
  kModeSwitch = 0xf0,  // not the processor's: a far transfer to 16-bit code, or to 64-bit code in an i386 process: not implemented
};
constexpr u64 trap_value(u8 vector, u32 error = 0) { return vector | u64{error} << 8; }
constexpr u8 trap_vector(u64 value) { return static_cast<u8>(value); }
constexpr u32 trap_error(u64 value) { return static_cast<u32>(value >> 8); }

struct X86State : ir::CpuState {
  u64 r[16];            // rax rcx rdx rbx rsp rbp rsi rdi r8 … r15
  V128 xmm[16];         // bits 127..0 of ymm
  V128 ymm_high[16];    // bits 255..128
  u64 seg_base[6];      // ES CS SS DS FS GS; 64-bit code uses FS and GS only
  u32 selector[6];
  u32 seg_limit[6];     // as the descriptor cache holds it, in bytes
  u32 seg_rights[6];    // descriptor bits 8..23 (type, S, DPL, P, AVL, L, D/B, G) at bits 0..15
  u32 df;               // EFLAGS.DF as 0 or 1; the status flags are CpuState's lazy record
  u32 eflags_rest;      // the other EFLAGS bits (TF IF IOPL NT RF VM AC ID), bit 1 excepted
  u32 cpu_model;        // index of cpu_models()
  // x87 (SDM vol. 1, 8.1). st[] are the physical registers R0..R7; MMX register i is the low half of st[i].
  V128 st[8];           // 80 bits each, the rest zero
  u32 fcw;
  u32 fsw_rest;         // FSW but TOP, and C1 only if c1_op is 0; the whole: fsw_of()
  u32 ftop;             // TOP, 0..7: apart, so that a register's address does not wait for the last operation's status
  u32 ftw;              // abridged as FXSAVE has it: bit i set = Ri not empty
  u32 fop;
  u64 fip, fdp;
  u32 fcs, fds;
  u32 c1_op;            // 0, or the operation on c1_operands whose rounding C1 tells (helpers_x87.h)
  V128 c1_operands[2];
  u64 xcr0;
  u64 step_to;          // after a single-stepped instruction that ends its block: where it went (#DB with error code 2)
  u32 mxcsr_unmasked;   // MXCSR's exception masks (bits 12..7) that the guest has clear; CpuState::mxcsr and the host's have all set
  u32 window_4g;        // all addresses are below 4 GiB (i386 processes): no 64-bit code
  // Descriptors of user mode; see user_segments.h.
  u64 gdt_tls[3];       // this thread's
  u64* ldt;             // the process's, kLdtEntries of them, shared by its threads; null: none
};

/// The status word as FNSTSW gives it.
u32 fsw_of(const X86State& s);
inline void set_fsw(X86State& s, u32 fsw) {
  s.fsw_rest = fsw & 0xc7ff;
  s.ftop = fsw >> 11 & 7;
  s.c1_op = 0;
}

/// Mode word (block key). Code size first: 0 = 16-bit, 1 = 32-bit, 2 = 64-bit.
enum Mode : u32 {
  kModeCodeSize = 3,
  kModeSegments = 4,     // some of ES, CS, SS, DS has a base other than 0 (never set in 64-bit code)
  kModeSseTraps = 8,     // MXCSR has an exception unmasked: SSE arithmetic goes through helpers that raise #XM
  kModeSingleStep = 16,  // EFLAGS.TF
  kModeAlignmentCheck = 32,  // EFLAGS.AC
  kModeModelShift = 8,   // 4 bits: cpu_model
};
enum class CodeSize : u8 { Bits16 = 0, Bits32 = 1, Bits64 = 2 };
constexpr CodeSize code_size(u32 mode) { return static_cast<CodeSize>(mode & kModeCodeSize); }

}  // namespace kiln::x86
