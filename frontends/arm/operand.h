// Operand forms that several groups share.
#pragma once
#include "frontends/arm/lifter.h"

namespace kiln::arm {

/// ExtendReg: UXTB … SXTX of a register, shifted left by `shift`, as i64 (sf) or i32.
inline ir::Value extended(Lifter& l, unsigned sf, unsigned reg, unsigned option, unsigned shift) {
  using ir::Type;
  auto& ir = l.ir;
  const Type type = sf ? Type::I64 : Type::I32;
  const unsigned log = option & 3;
  ir::Value a;
  if (log == 3 || (log == 2 && !sf)) {
    a = l.r(sf, reg);
  } else {
    a = ir.trunc(log == 0 ? Type::I8 : log == 1 ? Type::I16 : Type::I32, l.x(reg));
    a = (option & 4) ? ir.sext(type, a) : ir.zext(type, a);
  }
  return shift ? ir.shl(a, ir.iconst(type, shift)) : a;
}

}  // namespace kiln::arm
