// Lazy flags. A lifter makes flags values (ARM: flags_add, flags_sub, flags_adc, flags_logic, flags_fcmp; x86: eflags_add,
// eflags_sub, eflags_logic, eflags_inc, eflags_dec, eflags_result, eflags_fcmp; both: flags_image, flags_select) and asks
// cond() / flags_value() of them. lower_flags() (ir/passes) turns every use into plain ops, so that after it
//   - the makers of records (makes_record(): flags_add, flags_sub, flags_logic, flags_image, eflags_add, eflags_sub,
//     eflags_logic, eflags_inc, eflags_dec, eflags_result) occur only as the argument of set_flags;
//   - cond and flags_value occur only on get_flags (flags left by an earlier block);
//   - flags_adc, flags_select, flags_fcmp and eflags_fcmp do not occur.
//   - a cond or flags_value never stands after a set_flags (or a call that writes state) that follows its get_flags, so a tier
//     may read the record in the state at the cond itself;
//   - images are made by the plain ops nzcv_add, nzcv_sub, nzcv_adc, nzcv_fcmp, eimage_add, eimage_sub, eimage_logic and
//     eimage_fcmp (i32 results).
// That is all a tier must handle; cond on get_flags never uses Al. In the state a record is {flags_kind, flags_a, flags_b}
// (CpuState), operands zero-extended; of x86 kinds only the low bits of the width count, the rest may be anything.
// Logic and Image have one operand: flags_b is then unspecified, and so are an image's bits outside kImageBits. Compare records
// by flags_value().
//
// An image is one layout for all: N Z C V in bits 31..28 and, of x86 kinds only, P in bit 2 and A in bit 4, their places in
// EFLAGS (kImageBits, ir/semantics.h). C of x86 is CF as the manual has it: a borrow after a subtraction. ARM's kinds have P =
// A = 0.
#pragma once
#include "ir/block.h"

namespace kiln::ir {

/// ARM's kinds by operand type (I32 or I64).
constexpr FlagsKind add_kind(bool is64) { return is64 ? FlagsKind::Add64 : FlagsKind::Add32; }
constexpr FlagsKind sub_kind(bool is64) { return is64 ? FlagsKind::Sub64 : FlagsKind::Sub32; }
constexpr FlagsKind logic_kind(bool is64) { return is64 ? FlagsKind::Logic64 : FlagsKind::Logic32; }

/// x86 kinds come in families of four widths.
constexpr FlagsKind of_width(FlagsKind byte_kind, Width width) {
  return static_cast<FlagsKind>(static_cast<u32>(byte_kind) + static_cast<u32>(width));
}
constexpr bool is_x86(FlagsKind kind) { return kind >= FlagsKind::EAdd8 && kind <= FlagsKind::EResult64; }
constexpr FlagsKind byte_kind(FlagsKind x86_kind) {
  const u32 first = static_cast<u32>(FlagsKind::EAdd8);
  return static_cast<FlagsKind>(first + ((static_cast<u32>(x86_kind) - first) & ~3u));
}
constexpr Width width_of(FlagsKind x86_kind) {
  return static_cast<Width>((static_cast<u32>(x86_kind) - static_cast<u32>(FlagsKind::EAdd8)) & 3);
}

/// Can set_flags store what this op makes, after lower_flags()?
constexpr bool makes_record(Op op) {
  switch (op) {
    case Op::flags_add_:
    case Op::flags_sub_:
    case Op::flags_logic_:
    case Op::flags_image_:
    case Op::eflags_add_:
    case Op::eflags_sub_:
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_:
    case Op::eflags_result_: return true;
    default: return false;
  }
}
/// The kind of record that such a maker gives; `operand`: type of its first operand.
constexpr FlagsKind kind_made_by(const Inst& maker, Type operand) {
  const bool is64 = operand == Type::I64;
  const Width width = static_cast<Width>(maker.lane);
  switch (maker.op) {
    case Op::flags_add_: return add_kind(is64);
    case Op::flags_sub_: return sub_kind(is64);
    case Op::flags_logic_: return logic_kind(is64);
    case Op::eflags_add_: return of_width(FlagsKind::EAdd8, width);
    case Op::eflags_sub_: return of_width(FlagsKind::ESub8, width);
    case Op::eflags_logic_: return of_width(FlagsKind::ELogic8, width);
    case Op::eflags_inc_: return of_width(FlagsKind::EInc8, width);
    case Op::eflags_dec_: return of_width(FlagsKind::EDec8, width);
    case Op::eflags_result_: return of_width(FlagsKind::EResult8, width);
    default: return FlagsKind::Image;
  }
}

}  // namespace kiln::ir
