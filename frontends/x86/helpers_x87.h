// x87 in C++ on the host's own x87: what lifted code calls, and what fpstate.cpp and the MMX lifter share.
//
// A helper takes the guest's operands into the host's registers, runs the very instruction there with all exceptions masked and
// looks at the host's status word. That is the quick way; it is left, before anything is changed, for run_on_host() whenever
//   - an exception is unmasked in FCW, or a register's tag would make a stack fault, or
//   - the host reports an exception that the guest's FSW does not show yet (the host's flags are sticky and may be old:
//     clearing them costs more than everything else, so the question is asked again where it is answered exactly).
// run_on_host() loads the guest's whole x87 state (FRSTOR), runs the instruction's own bytes and takes everything back
// (FNSAVE): x87 exceptions wait for the next waiting instruction, so even unmasked ones are simply there in the image.
// C1, which says whether the last result was rounded up, is worked out when somebody looks: reading the host's status word
// takes longer than the operation. An operation on normal numbers with a result that is far from the range's ends can raise
// Precision only; if FSW shows that already, the operands are kept (X86State::c1_op) and nothing is read. Invariants: (1)
// outside a helper the host's stack is empty and its control word kHostControl; (2) a helper that can fault has not changed the
// state before its last access; (3) FSW.ES says whether FSW has a flag that FCW does not mask.
#pragma once
#include "frontends/x86/x86_state.h"
#include "ir/block.h"

namespace kiln::x86 {

/// The opcode register's 11 bits: low three bits of the first byte, ModRM. Helpers get it with the segment of a memory operand
/// above.
inline constexpr unsigned kFopSegShift = 16;

enum Fsw : u32 {
  kFswExceptions = 0x3f,
  kFswIe = 1,
  kFswDe = 2,
  kFswZe = 4,
  kFswOe = 8,
  kFswUe = 16,
  kFswPe = 32,
  kFswSf = 0x40,
  kFswEs = 0x80,
  kFswC0 = 0x100,
  kFswC1 = 0x200,
  kFswC2 = 0x400,
  kFswTop = 7u << 11,
  kFswC3 = 0x4000,
  kFswBusy = 0x8000,
};
inline constexpr u32 kFcwReset = 0x37f, kHostControl = 0x37f;

inline unsigned x87_top(const X86State& s) { return s.ftop; }
inline V128& x87_st(X86State& s, unsigned i) { return s.st[(x87_top(s) + i) & 7]; }
/// Sets ES and B from the flags and FCW's masks (SDM vol. 1, 8.1.3.3).
inline void x87_update_es(X86State& s) {
  s.fsw_rest = s.fsw_rest & ~s.fcw & kFswExceptions ? s.fsw_rest | kFswEs | kFswBusy : s.fsw_rest & ~u32{kFswEs | kFswBusy};
}
/// Works C1 out.
void x87_settle(X86State& s);
inline void x87_set_control(X86State& s, u32 fcw) {
  x87_settle(s);  // under the control word that the operation had
  s.fcw = (fcw & 0x1f3f) | 0x40;
  x87_update_es(s);
}
void x87_reset(X86State& s);

/// The full tag word (two bits a register) and back to FXSAVE's.
u32 x87_tag_word(const X86State& s);
u32 x87_abridged_tags(u32 tag_word);

/// #MF if an unmasked exception is pending; what every waiting instruction does first.
inline void x87_wait(X86State& s) {
  if (s.fsw_rest & kFswEs) [[unlikely]]
    ir::raise(&s, ir::ExitKind::Trap, trap_value(kMF));
}

/// Runs one instruction on the host, the state's pending exceptions having been looked at. `operand`: its memory operand (in
/// Kiln's memory), or null for the register form. Gives the status flags afterwards, having started with those in `eflags`.
u32 run_on_host(X86State& s, u32 fop, void* operand, u32 eflags = 0);

// For the lifter. All take CpuState* and fop first.
const ir::Helper* x87_register_helper(u32 fop);                     // void (i32 fop)
const ir::Helper* x87_load_helper(unsigned opcode, unsigned reg);   // void (i32 fop, i64 offset, i64 address)
const ir::Helper* x87_store_helper(unsigned opcode, unsigned reg);  // void (i32 fop, i64 offset, i64 address)
const ir::Helper* x87_compare_helper(u32 fop);                      // i32 flags image (i32 fop): FCOMI and its kin
extern const ir::Helper kFnstsw;                                    // i32 ()
extern const ir::Helper kFcmov;                                     // void (i32 fop, i32 whether)
extern const ir::Helper kFldcw;                                     // void (i32 value)
extern const ir::Helper kFninit;                                    // void ()
/// FLDENV, FNSTENV, FRSTOR, FNSAVE: void (i64 address, i32 operand bytes); FDP and the last opcode are as the image has them.
extern const ir::Helper kX87State[4];

}  // namespace kiln::x86
