// Lazy flags. A lifter makes flags values (flags_add, flags_sub, flags_adc, flags_logic, flags_image, flags_select, flags_fcmp) and
// asks cond() / flags_value() of them. lower_flags() (ir/passes) turns every use into plain ops, so that after it
//   - flags_add, flags_sub, flags_logic and flags_image occur only as the argument of set_flags;
//   - cond and flags_value occur only on get_flags (flags left by an earlier block);
//   - flags_adc, flags_select and flags_fcmp do not occur.
//   - a cond or flags_value never stands after a set_flags (or a call that writes state) that follows its get_flags, so a tier
//     may read the record in the state at the cond itself;
//   - images are made by the plain ops nzcv_add, nzcv_sub, nzcv_adc, nzcv_fcmp (i32 results).
// That is all a tier must handle; cond on get_flags uses the Conds below Al only. In the state a record is {flags_kind, flags_a, flags_b} (CpuState), operands zero-extended.
// Logic and Image have one operand: flags_b is then unspecified, and so are bits 27..0 of an image. Compare records by flags_value().
#pragma once
#include "ir/types.h"

namespace kiln::ir {

/// The record kind that set_flags stores for one of the four remaining makers, by operand type (I32 or I64).
constexpr FlagsKind add_kind(bool is64) { return is64 ? FlagsKind::Add64 : FlagsKind::Add32; }
constexpr FlagsKind sub_kind(bool is64) { return is64 ? FlagsKind::Sub64 : FlagsKind::Sub32; }
constexpr FlagsKind logic_kind(bool is64) { return is64 ? FlagsKind::Logic64 : FlagsKind::Logic32; }

}  // namespace kiln::ir
