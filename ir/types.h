// Types, flags records, memory-operation descriptors: the small vocabulary of the IR.
#pragma once
#include "ir/support/bits.h"

namespace kiln::ir {

enum class Type : u8 { Void, I1, I8, I16, I32, I64, I128, F32, F64, F80, V128, V256, Flags };

const char* type_name(Type type);
constexpr unsigned type_bits(Type type) {
  switch (type) {
    case Type::I1: return 1;
    case Type::I8: return 8;
    case Type::I16: return 16;
    case Type::I32:
    case Type::F32: return 32;
    case Type::I64:
    case Type::F64: return 64;
    case Type::F80: return 80;
    case Type::I128:
    case Type::V128: return 128;
    case Type::V256: return 256;
    default: return 0;
  }
}
constexpr bool is_int(Type t) { return t >= Type::I1 && t <= Type::I128; }
constexpr bool is_float(Type t) { return t >= Type::F32 && t <= Type::F80; }
constexpr bool is_vector(Type t) { return t == Type::V128 || t == Type::V256; }

/// Lane width of a vector op; also the width of a memory access: log2 of the byte count.
enum class Width : u8 { B1 = 0, B2 = 1, B4 = 2, B8 = 3, B16 = 4, B32 = 5 };
constexpr unsigned width_bytes(Width w) { return 1u << static_cast<unsigned>(w); }
constexpr unsigned width_bits(Width w) { return 8u << static_cast<unsigned>(w); }

enum class Order : u8 { Relaxed = 0, Acquire = 1, Release = 2, SeqCst = 3 };
enum class RmwKind : u8 { Add, And, AndNot, Or, Xor, SMax, SMin, UMax, UMin, Swap };

/// What a memory op needs to know beside address and value; packed into Inst::aux.
struct MemOp {
  Width width = Width::B8;
  bool sign_extend = false;  // loads of less than the result's width
  bool big_endian = false;
  bool align_check = false;  // misaligned address raises the guest's alignment fault
  Order order = Order::Relaxed;
  u8 mmu_index = 0;  // which TLB / privilege; 0 in user mode
  RmwKind rmw = RmwKind::Add;

  constexpr u32 pack() const {
    return static_cast<u32>(width) | (sign_extend ? 8u : 0u) | (big_endian ? 16u : 0u) | (align_check ? 32u : 0u) |
           static_cast<u32>(order) << 6 | static_cast<u32>(mmu_index & 15) << 8 | static_cast<u32>(rmw) << 12;
  }
  static constexpr MemOp unpack(u32 aux) {
    MemOp m;
    m.width = static_cast<Width>(aux & 7);
    m.sign_extend = (aux & 8) != 0;
    m.big_endian = (aux & 16) != 0;
    m.align_check = (aux & 32) != 0;
    m.order = static_cast<Order>((aux >> 6) & 3);
    m.mmu_index = static_cast<u8>((aux >> 8) & 15);
    m.rmw = static_cast<RmwKind>((aux >> 12) & 15);
    return m;
  }
};

/// Predicates over a flags record. C is the record kind's own: after flags_sub (ARM) "no borrow", after eflags_sub (x86) the borrow.
/// The first 14 have the numbers of the A64 condition field.
enum class Cond : u8 {
  Eq = 0,    // Z
  Ne = 1,    // !Z
  Cs = 2,    // C
  Cc = 3,    // !C
  Mi = 4,    // N
  Pl = 5,    // !N
  Vs = 6,    // V
  Vc = 7,    // !V
  Hi = 8,    // C && !Z
  Ls = 9,    // !C || Z
  Ge = 10,   // N == V
  Lt = 11,   // N != V
  Gt = 12,   // !Z && N == V
  Le = 13,   // Z || N != V
  Al = 14,
  Pe = 16,   // P: parity of the low byte even (x86; the ARM kinds have P = 0)
  Po = 17,
  Be = 18,   // C || Z (x86 unsigned below-or-equal, with C = borrow)
  Nbe = 19,  // !C && !Z
};

/// How a lazily kept flags record {kind, a, b} is to be evaluated. Kept in guest state as
/// {u32 kind, u64 a, u64 b} so that a compare costs three stores at most, and usually none.
enum class FlagsKind : u32 {
  Image = 0,  // a holds N Z C V in bits 31..28; an x86 guest's also P in bit 2 and A in bit 4
  Add32,      // a + b
  Add64,
  Sub32,      // a - b; C = no borrow
  Sub64,
  Logic32,    // a is the result; C = V = 0
  Logic64,
  // x86: with P and A, C = borrow. Only the operands' low 8, 16, 32 or 64 bits count.
  EAdd8,  // a + b
  EAdd16,
  EAdd32,
  EAdd64,
  ESub8,  // a - b
  ESub16,
  ESub32,
  ESub64,
  ELogic8,  // a is the result; C = V = A = 0
  ELogic16,
  ELogic32,
  ELogic64,
  EInc8,  // a is the result of INC; C = bit 0 of b
  EInc16,
  EInc32,
  EInc64,
  EDec8,  // a is the result of DEC; C = bit 0 of b
  EDec16,
  EDec32,
  EDec64,
  EResult8,  // a is the result (N Z P); C, V and A from b, where an image has them
  EResult16,
  EResult32,
  EResult64,
};

/// NaN rule of a floating-point op; packed in Inst::aux bits 0..2.
enum class NanRule : u8 {
  ArmPropagate = 0,  // first signalling operand quieted, then first quiet one (FPCR.DN = 0)
  ArmDefault = 1,    // every NaN result is +qNaN with zero payload (FPCR.DN = 1); RISC-V too
  X86 = 2,           // SSE: first NaN operand quieted; generated NaN is negative
};

/// Rounding of conversions and round-to-integral; packed in Inst::aux bits 4..6.
enum class Round : u8 { Nearest = 0, Up = 1, Down = 2, Zero = 3, Away = 4, Dynamic = 7 };

/// What becomes of a result that is tiny (below the least normal number before rounding); packed in Inst::aux bits 11..12.
enum class Underflow : u8 {
  Host = 0,        // as MXCSR has it: Underflow if tiny after rounding and inexact, flushed by FTZ
  Exact = 1,       // A64, FPCR.FZ = 0: Underflow if tiny before rounding and inexact
  Flush = 2,       // A64, FPCR.FZ = 1 (MXCSR: DAZ without FTZ): zero and Underflow, not Inexact. Only where MXCSR.PE is set already
  FlushFirst = 3,  // the same where MXCSR.PE may be clear
};

struct FpOp {
  NanRule nan = NanRule::ArmPropagate;
  Round round = Round::Dynamic;  // Dynamic: MXCSR, which follows the guest's control register
  bool exact = false;            // round-to-integral raises Inexact (FRINTX)
  bool is_unsigned = false;      // conversions to and from unsigned integers
  u8 negate = 0;                 // fma with NanRule::X86: 1 the addend (VFMSUB), 2 the product (VFNMADD), 3 both (VFNMSUB)
  Underflow underflow = Underflow::Host;
  constexpr u32 pack() const {
    return static_cast<u32>(nan) | static_cast<u32>(round) << 4 | (exact ? 128u : 0u) | (is_unsigned ? 256u : 0u) |
           u32{negate} << 9 | static_cast<u32>(underflow) << 11;
  }
  static constexpr FpOp unpack(u32 aux) {
    return {static_cast<NanRule>(aux & 7), static_cast<Round>((aux >> 4) & 7), (aux & 128) != 0, (aux & 256) != 0,
            static_cast<u8>((aux >> 9) & 3), static_cast<Underflow>((aux >> 11) & 3)};
  }
};

/// Why a direct or indirect exit is taken; guides return prediction and region growth. NewMode: an indirect exit of a block that may
/// have changed CpuState::mode: the target, even a constant one, must be looked up.
enum class ExitHint : u8 { Jump, Call, Return, NewMode };

/// What left generated code and must be handled outside. Value in CpuState::exit_kind.
enum class ExitKind : u32 {
  None = 0,       // keep going: look pc up and continue
  Interrupt,      // CpuState::interrupt was seen set
  Syscall,        // exit_value: immediate of the instruction
  Undefined,      // undefined instruction at pc; exit_value: the word
  Breakpoint,     // exit_value: immediate
  Fault,          // memory fault at pc; exit_value: guest address; exit_aux: see FaultInfo
  FetchFault,     // pc is not executable
  Alignment,      // exit_value: guest address
  Hot,            // a tier-1 counter ran out (engine-internal)
  Miss,           // look-up miss in generated code (engine-internal)
  Chain,          // an unpatched direct exit was taken; exit_value: exit id (engine-internal)
  Trap,           // guest-specific exception; exit_value: frontend's number
  CodeChanged,    // what runs was written to: go on with fresh code (engine-internal)
};

}  // namespace kiln::ir
