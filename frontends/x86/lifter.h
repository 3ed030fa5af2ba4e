// Lifter: what the semantic functions of the x86 rows work with.
// Values: operands of 1, 2 and 4 bytes are I32, of 8 bytes I64. read() leaves junk above the width (add, logic, stores, eflags_* and
// write() look at the low bits only); read_zext() and read_sext() do not.
#pragma once
#include <cstddef>

#include "frontends/x86/insn.h"
#include "ir/builder.h"

namespace kiln::x86 {

/// An operand ready to be read and written: its address is computed once.
struct Place {
  Operand op;
  ir::Value address = ir::kNoValue;  // Mem: I64
  s64 disp = 0;
  u64 imm = 0;                       // Imm
};

/// What is known of rDX before a division: compilers write XOR EDX,EDX or CQO in front of one.
enum class RdxIs : u8 { Unknown, Zero, SignOfEax, SignOfRax };

struct Lifter {
  ir::Builder ir;
  u32 mode = 0;

  explicit Lifter(ir::Block& block) : ir(block) {}

  bool is64() const { return code_size(mode) == CodeSize::Bits64; }
  /// Type of a register slot.
  ir::Type slot_type() const { return is64() ? ir::Type::I64 : ir::Type::I32; }
  static ir::Type type_of(unsigned bytes) { return bytes == 8 ? ir::Type::I64 : ir::Type::I32; }
  static ir::Width width_of(unsigned bytes) {
    return bytes == 1 ? ir::Width::B1 : bytes == 2 ? ir::Width::B2 : bytes == 4 ? ir::Width::B4 : bytes == 8 ? ir::Width::B8
           : bytes == 16 ? ir::Width::B16 : ir::Width::B32;
  }
  static ir::MemOp mem_op(unsigned bytes) {
    ir::MemOp m;
    m.width = width_of(bytes);
    return m;
  }

  static std::size_t gpr_offset(unsigned r) { return offsetof(X86State, r) + 8 * r; }
  static std::size_t xmm_offset(unsigned r) { return offsetof(X86State, xmm) + 16 * r; }
  static std::size_t ymm_high_offset(unsigned r) { return offsetof(X86State, ymm_high) + 16 * r; }

  // Flags (ir/flags.h, x86 kinds).
  ir::Value flag(ir::Cond cond) { return ir.cond(ir.get_flags(), cond); }
  void set_logic_flags(unsigned bytes, ir::Value result) { ir.set_flags(ir.eflags_logic(width_of(bytes), result)); }
  /// N, Z, P of a result, C and V given (I1 each; kNoValue: 0).
  ir::Value result_flags(unsigned bytes, ir::Value result, ir::Value carry, ir::Value overflow);

  // General registers. gpr(): the slot. reg(): the low `bytes`, junk above.
  ir::Value gpr(unsigned r) { return ir.get_reg(slot_type(), gpr_offset(r)); }
  void set_gpr(unsigned r, ir::Value slot) { ir.set_reg(gpr_offset(r), slot); }
  ir::Value reg(unsigned r, unsigned bytes);
  /// Writes the low `bytes` as the architecture says: 4 bytes clear the upper half in 64-bit code, 1 and 2 keep the rest.
  void set_reg(unsigned r, unsigned bytes, ir::Value v);

  /// Linear base of a segment (I64).
  ir::Value segment_base(Seg seg) { return ir.get_reg(ir::Type::I64, offsetof(X86State, seg_base) + 8 * seg); }
  /// Length-preserving hints for DIV and IDIV; any write of rAX or rDX forgets them.
  RdxIs rdx_is = RdxIs::Unknown;
  void note_write(unsigned r) {
    if (r == RAX || r == RDX) rdx_is = RdxIs::Unknown;
  }

  /// What MMX instructions earlier in the block have done to the x87 state (lift_mmx.cpp): bit i: MMi's upper 16 bits are ones;
  /// bit 8: TOP is 0, all tags valid, no exception pending. Whoever touches x87 state otherwise sets it to 0.
  u32 mmx_known = 0;

  // Operands.
  Place place(const Insn& insn, unsigned n);
  ir::Value read(const Place& p);
  void write(const Place& p, ir::Value v);
  ir::Value read(const Insn& insn, unsigned n) { return read(place(insn, n)); }
  ir::Value read_zext(const Insn& insn, unsigned n) { return zext_from(read(insn, n), insn.op[n].bytes); }
  ir::Value read_sext(const Insn& insn, unsigned n) { return sext_from(read(insn, n), insn.op[n].bytes); }
  void write(const Insn& insn, unsigned n, ir::Value v) { write(place(insn, n), v); }
  /// Cleans junk above `bytes` (type stays).
  ir::Value zext_from(ir::Value v, unsigned bytes);
  ir::Value sext_from(ir::Value v, unsigned bytes);
  /// I32 or I64 of `bytes`, zero- or sign-extending or cutting an integer value.
  ir::Value to_width(ir::Value v, unsigned bytes, bool sign = false);

  /// Linear address (I64) of the instruction's memory operand plus a displacement that load/store take as their imm.
  Place address(const Insn& insn);
  /// The offset alone, without segment base (LEA), as a slot-wide value of mem.address_bytes.
  ir::Value effective_address(const Insn& insn);
  /// Offset in a segment → linear address (I64).
  ir::Value linear(Seg seg, ir::Value offset, unsigned address_bytes);
  ir::Value load(const Place& p, unsigned bytes) { return ir.load(type_of(bytes), p.address, p.disp, mem_op(bytes)); }
  void store(const Place& p, unsigned bytes, ir::Value v) { ir.store(p.address, p.disp, v, mem_op(bytes)); }
  /// Vector memory operand. `aligned`: #GP unless aligned to its size.
  ir::Value load_v(const Place& p, unsigned bytes, bool aligned = false);
  void store_v(const Place& p, unsigned bytes, ir::Value v, bool aligned = false);

  // Vector registers: 128-bit halves.
  ir::Value xmm(unsigned r) { return ir.get_reg(ir::Type::V128, xmm_offset(r)); }
  void set_xmm(unsigned r, ir::Value v) { ir.set_reg(xmm_offset(r), v); }
  ir::Value ymm_high(unsigned r) { return ir.get_reg(ir::Type::V128, ymm_high_offset(r)); }
  void set_ymm_high(unsigned r, ir::Value v) { ir.set_reg(ymm_high_offset(r), v); }

  // Stack (SDM vol. 1, 6.2): the width of rSP is the mode's (16-bit code: a 16-bit stack segment).
  unsigned stack_bytes() const { return is64() ? 8 : code_size(mode) == CodeSize::Bits32 ? 4 : 2; }
  /// Linear address of rSP + disp.
  ir::Value stack_address(s64 disp);
  void move_stack(s64 by);
  void push(ir::Value v, unsigned bytes);
  ir::Value pop(unsigned bytes);  // reads and moves rSP

  /// #GP unless the operand is aligned to `bytes`.
  void demand_alignment(const Place& p, unsigned bytes);
  /// #AC if EFLAGS.AC is set and the address is no multiple of `bytes`: for accesses of helpers (others: lift.cpp).
  void alignment_check(ir::Value address, unsigned bytes);

  // Exceptions.
  Lift trap(const Insn& insn, u8 vector, u32 error = 0);               // ends the block
  void trap_if(ir::Value condition, u8 vector, u32 error = 0);         // leaves if the I1 holds; exact state: before any write
  Lift general_protection(const Insn& insn) { return trap(insn, kGP); }

  ir::FpOp fp() const {
    ir::FpOp f;
    f.nan = ir::NanRule::X86;
    return f;
  }
};

}  // namespace kiln::x86
