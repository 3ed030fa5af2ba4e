// Insn: a decoded instruction with its operands resolved; Row: one line of the *.insns tables.
#pragma once
#include <cstddef>
#include <span>

#include "frontends/x86/x86_state.h"

namespace kiln::x86 {

struct Lifter;
struct Insn;

/// What a semantic function tells the block loop.
enum class Lift : u8 {
  Next,       // go on with the next instruction
  End,        // the block has its exit op
  Undefined,  // #UD
};

enum class OperandKind : u8 { None, Gpr, Mem, Imm, Rel, FarPointer, Xmm, Mmx, Segment, Control, Debug, X87 };

/// Where an operand is. Widths in bytes: 1, 2, 4, 8, 6/10 (far pointers, x87), 16, 32; 0 where the row gives none.
struct Operand {
  OperandKind kind = OperandKind::None;
  u8 reg = 0;         // register number; Segment: a Seg; X87: i of ST(i)
  u8 bytes = 0;
  bool high = false;  // Gpr: AH, CH, DH, BH (reg is then 0..3)
};

/// The memory operand of an instruction (SDM vol. 1, 3.7.5).
struct MemRef {
  static constexpr s8 kNone = -1, kRip = 16;
  Seg seg = DS;           // with overrides and the SS default of rBP/rSP applied
  s8 base = kNone;        // Gpr, kRip or kNone
  s8 index = kNone;
  u8 scale_log2 = 0;
  u8 address_bytes = 0;   // 2, 4, 8
  s64 disp = 0;
};

enum class Prefix : u8 { None = 0, P66 = 1, F3 = 2, F2 = 3 };  // VEX.pp's numbers

/// Row attributes.
enum RowFlag : u32 {
  kRowLock = 1,        // LOCK allowed with a memory destination
  kRowPrivileged = 2,  // #GP(0) at CPL 3
  kRowNoRandom = 4,    // no random testing (system, time, control transfer out of the test's reach)
  kRowVsib = 8,        // the SIB index is a vector register (gathers): MemRef::index is its number, never kNone
};

struct Row {
  const char* name;
  const char* text;       // encoding and operands as the table has them
  Lift (*lift)(Lifter&, const Insn&);
  u8 param;               // fn=NAME(param)
  u8 map;                 // 0 one-byte, 1 0F, 2 0F 38, 3 0F 3A; + 4: VEX
  u8 opcode;
  u8 opcode_count;        // 1; 8 for +r; 16 for +cc
  u8 prefix_rule;         // PrefixRule
  s8 reg;                 // ModRM.reg, -1: any
  s16 modrm;              // whole ModRM byte, -1: any
  u8 mod_rule;            // 0 any, 1 memory, 2 register
  u8 w_rule;              // 0 any, 1 W=0, 2 W=1
  u8 l_rule;              // 0 any, 1 L=0, 2 L=1
  u8 code_rule;           // 0 any, 1 not in 64-bit code, 2 only there
  u8 size_rule;           // 0 as usual, 1 default 64 in 64-bit code, 2 always 64 there
  u8 has_modrm;
  u8 feature;             // Feature index, 0: always there
  u8 encoding[4];         // OperandEncoding
  u8 size[4];             // OperandSize
  u32 flags;              // RowFlag
  u16 reads, writes, undefined;  // status flags: Eflags bits
};

enum class PrefixRule : u8 { Any, NoneAtAll, NoRepeat, P66, F3, F2 };

struct Insn {
  const Row* row = nullptr;
  GuestAddr pc = 0, next = 0;  // next already wrapped to the code size
  CodeSize code = CodeSize::Bits64;
  u8 length = 0;
  u8 operand_bytes = 4;   // 2, 4, 8
  u8 address_bytes = 8;   // 2, 4, 8
  bool lock = false, rep = false, repne = false;
  bool w = false;         // REX.W or VEX.W
  bool vex = false, vex256 = false;
  u8 vvvv = 0;
  u8 modrm = 0;
  u8 param = 0;           // the row's; for +cc rows the low four opcode bits
  Operand op[4];
  MemRef mem;             // of the operand whose kind is Mem
  u64 imm = 0;            // sign-extended as the row says; moffs; Rel: the target
  u64 imm2 = 0;           // second immediate (ENTER), selector of a far pointer
};

/// Decodes the instruction at `code` (`size` readable bytes, up to 15). Null row: undefined or too long; `length` then says how many bytes
/// were looked at; `needs_more` is set if it ran out of bytes before 15.
struct DecodeResult {
  Insn insn;
  bool needs_more = false;
};
DecodeResult decode(const u8* code, std::size_t size, GuestAddr pc, u32 mode);

/// All rows, in table order.
std::span<const Row> instruction_rows();

}  // namespace kiln::x86
