// Condition codes in the order of Jcc's, SETcc's and CMOVcc's low four opcode bits (SDM vol. 1, appendix B).
#pragma once
#include "ir/types.h"

namespace kiln::x86 {

inline constexpr ir::Cond kConditions[16] = {
    ir::Cond::Vs, ir::Cond::Vc, ir::Cond::Cs, ir::Cond::Cc, ir::Cond::Eq, ir::Cond::Ne, ir::Cond::Be, ir::Cond::Nbe,
    ir::Cond::Mi, ir::Cond::Pl, ir::Cond::Pe, ir::Cond::Po, ir::Cond::Lt, ir::Cond::Ge, ir::Cond::Le, ir::Cond::Gt};
inline ir::Cond condition(unsigned code) { return kConditions[code & 15]; }

}  // namespace kiln::x86
