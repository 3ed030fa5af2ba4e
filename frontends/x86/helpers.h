// C++ functions that generated code calls for general instructions.
#pragma once
#include "frontends/x86/x86.h"
#include "ir/block.h"

namespace kiln::x86 {

extern const ir::Helper kDiv128;            // (high, low, divisor) → unsigned quotient; must fit
extern const ir::Helper kIdiv128;           // signed
extern const ir::Helper kIdiv128Overflows;  // (high, low, divisor) → I32: divisor 0 or quotient out of range
extern const ir::Helper kRotateCarryValue;  // (value, masked count, carry, bytes | 16 for RCR)
extern const ir::Helper kRotateCarryOut;
extern const ir::Helper kDecimalAdjust;  // (ax, image, 0 DAA 1 DAS 2 AAA 3 AAS) → ax | image << 32
extern const ir::Helper kAam, kAad;      // (ax, image, base)
extern const ir::Helper kLockedNeg;      // (address, bytes) → old value
extern const ir::Helper kStore16If;         // (address, value, condition): stores if the condition is not 0
extern const ir::Helper kCas16;          // (address, locked): CMPXCHG16B on the state's registers → I32 equal
extern const ir::Helper kPdep, kPext, kCrc32c;
extern const ir::Helper kPushf;   // () → EFLAGS as PUSHF stores them
extern const ir::Helper kPopf;    // (value, bytes): user-mode POPF
extern const ir::Helper kCpuid, kRdtsc, kRandom, kRdpid;
extern const ir::Helper kLoadSegment;   // (seg, selector): raises what the load raises
extern const ir::Helper kReadSelector;  // (seg) → I32
extern const ir::Helper kCheckFarTransfer;  // (selector, offset): raises what a jump there raises
extern const ir::Helper kFarTransfer;       // (selector): loads CS; the last thing an instruction does
extern const ir::Helper kSegmentInfo;   // (0 LAR 1 LSL 2 VERR 3 VERW, selector) → value | valid << 32

enum class StringOp : u8 { Movs, Cmps, Stos, Lods, Scas };
/// REP-prefixed string instructions: (descriptor) → I32 1: the instruction is complete.
const ir::Helper& string_helper(StringOp op, unsigned bytes);
/// `step`: one element only (EFLAGS.TF traps after each iteration).
constexpr u32 string_descriptor(unsigned address_bytes, Seg source, bool rep, bool repne, bool step) {
  return address_bytes << 8 | u32{source} << 12 | u32{rep} << 16 | u32{repne} << 17 | u32{step} << 18;
}

}  // namespace kiln::x86
