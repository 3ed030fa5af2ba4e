// Lifter: what the semantic functions of the A64 rows work with.
#pragma once
#include <cstddef>

#include "frontends/arm/a64_state.h"
#include "ir/builder.h"
#include "ir/guest_desc.h"

namespace kiln::arm {

/// What a semantic function tells the block loop.
enum class Lift : u8 {
  Next,       // go on with the next instruction
  End,        // the block has its exit op
  Undefined,  // the guest gets its undefined-instruction exception
};

struct Lifter {
  ir::Builder ir;
  GuestAddr pc = 0;  // of the instruction being lifted
  u32 word = 0;
  u32 mode = 0;
  // A full system. What follows is 0 in user mode.
  bool system = false;
  unsigned el = 0;
  u8 mmu_index = 0;           // of this level's accesses
  u8 unprivileged_index = 0;  // of LDTR and STTR
  bool check_alignment = false;
  bool unmasked = false;  // the instruction may have unmasked an interrupt: looked at before the next one

  explicit Lifter(ir::Block& block) : ir(block) {}

  static std::size_t x_offset(unsigned r) { return offsetof(A64State, x) + 8 * r; }
  static std::size_t v_offset(unsigned r) { return offsetof(A64State, v) + 16 * r; }

  // General registers. Number 31 is the zero register for x/w, SP for x_sp/w_sp.
  ir::Value x(unsigned r) { return r == 31 ? ir.i64(0) : ir.get_reg(ir::Type::I64, x_offset(r)); }
  ir::Value x_sp(unsigned r) { return ir.get_reg(ir::Type::I64, x_offset(r)); }
  ir::Value w(unsigned r) { return r == 31 ? ir.i32(0) : ir.trunc(ir::Type::I32, x(r)); }
  ir::Value w_sp(unsigned r) { return ir.trunc(ir::Type::I32, x_sp(r)); }
  /// By the sf bit.
  ir::Value r(unsigned sf, unsigned reg) { return sf ? x(reg) : w(reg); }
  ir::Value r_sp(unsigned sf, unsigned reg) { return sf ? x_sp(reg) : w_sp(reg); }
  /// Writes an i64, or an i32 zero-extended; writes to 31 are dropped.
  void set_r(unsigned reg, ir::Value value) {
    if (reg != 31) set_r_sp(reg, value);
  }
  void set_r_sp(unsigned reg, ir::Value value) { ir.set_reg(x_offset(reg), ir.zext(ir::Type::I64, value)); }

  // Vector registers: always the whole 128 bits.
  ir::Value v(unsigned r) { return ir.get_reg(ir::Type::V128, v_offset(r)); }
  void set_v(unsigned r, ir::Value value) { ir.set_reg(v_offset(r), value); }
  /// By the Q bit: a 64-bit result clears the upper half.
  void set_vq(unsigned q, unsigned r, ir::Value value) { set_v(r, q ? value : ir.v_low64(value)); }
  /// Scalar floating point: low f32/f64 of a vector register; a write clears the rest.
  ir::Value f(ir::Type t, unsigned r) { return ir.v_to_f(t, v(r)); }
  void set_f(unsigned r, ir::Value value) { set_v(r, ir.f_to_v(value)); }

  // Memory accesses.
  ir::MemOp plain(unsigned log_size) const {
    ir::MemOp m;
    m.width = static_cast<ir::Width>(log_size);
    m.mmu_index = mmu_index;
    m.align_check = check_alignment;
    return m;
  }
  /// Of exclusives, acquire and release, atomics: natural alignment is demanded (no FEAT_LSE2).
  ir::MemOp ordered(unsigned log_size, ir::Order order) const {
    ir::MemOp m = plain(log_size);
    m.align_check = true;
    m.order = order;
    return m;
  }

  /// FpOp with the NaN rule of the mode word.
  ir::FpOp fp() const {
    ir::FpOp f;
    f.nan = (mode & kModeDefaultNan) ? ir::NanRule::ArmDefault : ir::NanRule::ArmPropagate;
    if (mode & kModeFlushToZero) f.underflow = (mode & kModeInexactSeen) ? ir::Underflow::Flush : ir::Underflow::FlushFirst;
    else if (mode & kModeFpsrWatched) f.underflow = ir::Underflow::Exact;
    return f;
  }
  /// For arithmetic whose result is never tiny.
  ir::FpOp fp_never_tiny() const {
    ir::FpOp f = fp();
    f.underflow = ir::Underflow::Host;
    return f;
  }
  /// An operand of arithmetic (scalar, or a vector whose surplus lanes are not denormal), not of moves and sign changes:
  /// FPUnpack's flush to zero.
  ir::Value operand(ir::Value a) { return (mode & kModeFlushToZero) ? ir.emit(ir::Op::fflush_, ir.type_of(a), {a}) : a; }
  ir::Value operand(ir::Width w, ir::Value a) { return (mode & kModeFlushToZero) ? ir.vec(ir::Op::v_fflush_, w, {a}) : a; }
};

/// lift_privileged.cpp: system registers and instructions of a full system.
Lift lift_system_register(Lifter& l, u32 sysreg, u32 rt, bool read);
Lift lift_system_cache(Lifter& l, u32 rt);  // DC CVAC and its like
/// Leaves with a trap whose syndrome is known.
Lift trap_with(Lifter& l, u32 esr);
/// The block loop for both: see lift.cpp.
void lift_block(ir::CodeSource& code, GuestAddr pc, u32 mode, const ir::LiftLimits& limits, ir::Block& out, bool system);

}  // namespace kiln::arm
