// Inst, Block, Helper: the IR's data. A Block is straight-line: values in SSA order, one marker per guest
// instruction (insn_start), one exit op at the end. A value is the index of the Inst that makes it.
#pragma once
#include <array>
#include <initializer_list>
#include <span>
#include <string>
#include <vector>

#include "ir/cpu_state.h"
#include "ir/types.h"

namespace kiln::ir {

enum Effect : u32 {
  PURE = 0,
  READS_STATE = 1,
  WRITES_STATE = 2,
  READS_MEM = 4,
  WRITES_MEM = 8,
  MAY_FAULT = 16,
  ENDS_BLOCK = 32,
  CALL = 64,  // effects are the helper's
};

enum class Op : u8 {
#define OP(name, signature, effects, text) name##_,
#include "ir/ops.def"
#undef OP
  kCount
};

struct OpInfo {
  const char* name;
  const char* signature;
  u32 effects;
  const char* text;
};
const OpInfo& op_info(Op op);

using Value = u32;
inline constexpr Value kNoValue = ~Value{0};

/// A C++ function that generated code may call: R fn(CpuState*, integer arguments…, float/vector arguments…),
/// integers as u64 (or narrower), vectors as __m128i by value (ir::Vec; not V128: a union goes in integer registers), f32/f64
/// as float/double. Integer and vector registers are counted separately, as the System V ABI does, so the order between the two
/// kinds is free.
struct Helper {
  const char* name;
  const void* function;
  Type result;               // Void, I32, I64, F32, F64, V128
  std::array<Type, 7> args;  // Void-terminated
  u32 effects;               // PURE, or READS_STATE | WRITES_STATE | READS_MEM | WRITES_MEM | MAY_FAULT
  // READS_STATE: all slots and pc are in memory before the call. WRITES_STATE: nothing is assumed of slots after it.
  // MAY_FAULT implies both reads and precise pc; the fault leaves the helper without unwinding (no destructors run).
};

struct Inst {
  Op op = Op::kCount;
  Type type = Type::Void;
  u8 lane = 0;   // Width of vector lanes, ExitHint
  u8 spare = 0;  // owned by whichever pass runs
  u32 aux = 0;   // MemOp, FpOp, Cond, ExitKind
  std::array<Value, 4> args{kNoValue, kNoValue, kNoValue, kNoValue};
  u64 imm = 0;
  u64 imm2 = 0;
  u32 more = 0;  // calls with more than four arguments: index into Block::extra_args (3 values each)
};

struct Block {
  GuestAddr pc = 0;     // of the first guest instruction
  u32 mode = 0;         // mode word it was translated for
  u32 guest_bytes = 0;  // length of the guest code covered
  u32 guest_insns = 0;
  std::vector<Inst> insts;
  std::vector<std::array<Value, 3>> extra_args;

  const Inst& operator[](Value v) const { return insts[v]; }
  void clear() {
    pc = 0;
    guest_bytes = guest_insns = 0;
    insts.clear();
    extra_args.clear();
  }
};

inline const Helper& helper_of(const Inst& inst) { return *reinterpret_cast<const Helper*>(inst.imm); }
/// Effects of an instruction, a call's from its helper.
inline u32 effects_of(const Inst& inst) {
  const u32 effects = op_info(inst.op).effects;
  return effects == CALL ? helper_of(inst).effects : effects;
}
/// FpOp.underflow: may the result be inexact as well as tiny? (A tiny sum is exact.)
constexpr bool may_be_tiny_and_inexact(const Inst& inst) {
  switch (inst.op) {
    case Op::fmul_:
    case Op::fdiv_:
    case Op::fma_:
    case Op::v_fmul_:
    case Op::v_fdiv_:
    case Op::v_fma_:
    case Op::v_fnarrow_: return true;
    case Op::fcvt_: return inst.type == Type::F32;
    default: return false;
  }
}
/// Must its result be looked at for FpOp.underflow?
constexpr bool may_be_tiny(const Inst& inst) {
  return may_be_tiny_and_inexact(inst) || inst.op == Op::fadd_ || inst.op == Op::fsub_ || inst.op == Op::v_fadd_ ||
         inst.op == Op::v_fsub_;
}
/// Floating-point ops read MXCSR and may set its sticky exception bits, which the guest can look at: whoever drops or merges
/// PURE ops leaves these alone, used or not.
constexpr bool sets_sticky_bits(Op op) {
  if (op == Op::fneg_ || op == Op::fabs_ || op == Op::v_fneg_ || op == Op::v_fabs_) return false;
  return (op >= Op::fadd_ && op <= Op::fcmp_unord_) || op == Op::nzcv_fcmp_ || op == Op::flags_fcmp_ ||
         op == Op::eimage_fcmp_ || op == Op::eflags_fcmp_ || (op >= Op::v_fadd_ && op <= Op::v_fcmpge_);
}
/// Lane widths that a vector op takes, bit i = Width i.
constexpr unsigned lane_widths(Op op) {
  switch (op) {
    case Op::v_madd_us_:
    case Op::v_sad_u_:
    case Op::v_shuffle_: return 1;
    case Op::v_mulhi_s_:
    case Op::v_mulhi_u_:
    case Op::v_mulhi_round_:
    case Op::v_madd_s_:
    case Op::v_permute_lo_:
    case Op::v_permute_hi_: return 2;
    case Op::v_mul_even_s_:
    case Op::v_mul_even_u_:
    case Op::v_ashr_each_:
    case Op::v_permute_:
    case Op::v_int_to_f_widen_:
    case Op::v_f_to_int_narrow_:
    case Op::v_fwiden_:
    case Op::v_fnarrow_: return 4;
    case Op::v_pack_s_:
    case Op::v_pack_u_:
    case Op::v_add_sat_s_:
    case Op::v_add_sat_u_:
    case Op::v_sub_sat_s_:
    case Op::v_sub_sat_u_:
    case Op::v_avg_u_: return 1 | 2;
    case Op::v_ashr_by_: return 2 | 4;
    case Op::v_sign_: return 1 | 2 | 4;
    case Op::v_shl_by_:
    case Op::v_lshr_by_:
    case Op::v_blend_: return 2 | 4 | 8;
    case Op::v_blendv_: return 1 | 4 | 8;
    case Op::v_shl_each_:
    case Op::v_lshr_each_:
    case Op::v_permute2_: return 4 | 8;
    default: break;
  }
  if (op >= Op::v_widen_lo_s_ && op <= Op::v_narrow_) return 1 | 2 | 4;
  if (op >= Op::v_min_s_ && op <= Op::v_max_u_) return 1 | 2 | 4;
  return op >= Op::v_fadd_ && op <= Op::v_fcmpge_ ? 4 | 8 : 15;
}
/// Calls fn(Value) for every argument.
template <class Fn>
void for_each_arg(const Block& block, const Inst& inst, Fn&& fn) {
  for (Value v : inst.args)
    if (v != kNoValue) fn(v);
  if (inst.more)
    for (Value v : block.extra_args[inst.more - 1])
      if (v != kNoValue) fn(v);
}

/// Text form, one instruction a line; parse(print(b)) == b.
std::string print(const Block& block);
std::string print(const Block& block, Value index);
/// Empty if well-formed, else the first complaint.
std::string verify(const Block& block);

}  // namespace kiln::ir
