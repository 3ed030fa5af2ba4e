// Operand letters and sizes of the tables (README.md) as the decoder and the generated rows use them.
#pragma once
#include "frontends/x86/insn.h"

namespace kiln::x86 {

enum class Encoding : u8 {
  None,
  E,
  G,
  M,
  R,
  B,
  Z,
  I,
  J,
  A,
  O,
  S,
  C,
  D,
  V,
  W,
  U,
  H,
  L,
  P,
  Q,
  N,
  T,
  Al,
  Ax,
  Eax,
  Rax,
  RaxV,
  Cl,
  Dx,
  One,
  Es,
  Cs,
  Ss,
  Ds,
  Fs,
  Gs,
};
enum class Size : u8 { n, b, w, d, q, v, z, y, x, h, o, dq, qq, t, s, bs, i };

/// Width in bytes; `i` and `n` give 0.
constexpr u8 size_bytes(Size size, const Insn& insn) {
  switch (size) {
    case Size::b: return 1;
    case Size::w: return 2;
    case Size::d: return 4;
    case Size::q: return 8;
    case Size::v:
    case Size::bs: return insn.operand_bytes;
    case Size::z: return insn.operand_bytes == 2 ? 2 : insn.operand_bytes;
    case Size::y: return insn.w && insn.code == CodeSize::Bits64 ? 8 : 4;
    case Size::x: return insn.vex256 ? 32 : 16;
    case Size::h: return insn.vex256 ? 16 : 8;
    case Size::o: return insn.vex256 ? 8 : 4;
    case Size::dq: return 16;
    case Size::qq: return 32;
    case Size::t: return 10;
    case Size::s: return static_cast<u8>(2 + insn.operand_bytes);
    default: return 0;
  }
}

}  // namespace kiln::x86
