// Floating point with NanRule::X86: one host instruction an op. What is not here float.cpp does for all rules alike.
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

namespace {
constexpr unsigned kV2 = kVecRegs * kVecRegs, kV3 = kV2 * kVecRegs;

/// ROUNDSS's immediate.
u64 rounding_control(const ir::FpOp& f) {
  constexpr u64 kImm[8] = {0, 2, 1, 3, 4, 4, 4, 4};  // by ir::Round
  return kImm[static_cast<unsigned>(f.round)] | (f.exact ? 0 : 8);
}
}  // namespace

bool Stitcher::floating_x86(Value v, const Inst& inst) {
  const ir::FpOp f = ir::FpOp::unpack(inst.aux);
  const bool scalar = ir::is_float(inst.type);
  const unsigned t = inst.type == Type::F64 || inst.lane == static_cast<u8>(ir::Width::B8) ? 1 : 0;
  // A scalar result has its first operand's upper bytes.
  const auto finish = [&](u8 d, unsigned known) {
    done_all(inst);
    bind(v, d, known);
    return true;
  };
  const auto two = [&](u32 family) {
    const unsigned known = scalar ? state(inst.args[0]).known : 128;
    const u8 rb = use(inst.args[1]);
    const u8 d = take(inst.args[0]);
    emit(family + t * kV2 + d * kVecRegs + rb);
    return finish(d, known);
  };
  const auto one = [&](u32 family, unsigned which, u64 imm = 0) {
    const u8 ra = use(inst.args[0]);
    const u8 d = dies(inst.args[0]) ? ra : fresh(Vec);
    emit(family + which * kV2 + d * kVecRegs + ra, 0, imm);
    return finish(d, 128);
  };
  const auto fused = [&](u32 family) {
    const u8 ra = use(inst.args[0]), rb = use(inst.args[1]);
    const u8 d = take(inst.args[2]);
    emit(family + t * kV3 + d * kV2 + ra * kVecRegs + rb);
    return finish(d, 128);
  };
  const unsigned truncates = f.round == ir::Round::Zero ? 1 : 0;
  switch (inst.op) {
    case Op::fadd_: return two(id::x_fadd);
    case Op::fsub_: return two(id::x_fsub);
    case Op::fmul_: return two(id::x_fmul);
    case Op::fdiv_: return two(id::x_fdiv);
    case Op::fmin_: return two(id::x_fmin);
    case Op::fmax_: return two(id::x_fmax);
    case Op::fma_: {
      constexpr u32 kFamily[4] = {id::x_fma, id::x_fmsub, id::x_fnmadd, id::x_fnmsub};
      return fused(kFamily[f.negate]);
    }
    case Op::fsqrt_: return one(id::x_fsqrt, t);
    case Op::fcvt_: return one(id::x_fcvt, t);
    case Op::v_fadd_: return two(id::x_v_fadd);
    case Op::v_fsub_: return two(id::x_v_fsub);
    case Op::v_fmul_: return two(id::x_v_fmul);
    case Op::v_fdiv_: return two(id::x_v_fdiv);
    case Op::v_fmin_: return two(id::x_v_fmin);
    case Op::v_fmax_: return two(id::x_v_fmax);
    case Op::v_fma_: {
      constexpr u32 kFamily[4] = {id::x_v_fma, id::x_v_fmsub, id::x_v_fnmadd, id::x_v_fnmsub};
      return fused(kFamily[f.negate]);
    }
    case Op::v_fsqrt_: return one(id::x_v_fsqrt, t);
    case Op::v_fnarrow_: return one(id::x_v_fcvt, 0);
    case Op::v_fwiden_: return one(id::x_v_fcvt, 1);
    case Op::fround_: return f.round != ir::Round::Away && one(id::x_fround, t, rounding_control(f));
    case Op::v_fround_: return f.round != ir::Round::Away && one(id::x_v_fround, t, rounding_control(f));
    case Op::f_to_int_: {
      const unsigned from64 = type_of(inst.args[0]) == Type::F64 ? 1 : 0;
      const u8 ra = use(inst.args[0]);
      const u8 d = fresh(Int);
      emit(id::x_f_to_int + ((truncates * 4 + wide(inst.type) * 2 + from64) * kIntRegs + d) * kVecRegs + ra);
      return finish(d, wide(inst.type) ? 64 : 32);
    }
    case Op::v_f_to_int_: {
      const u8 ra = use(inst.args[0]);
      const u8 d = t == 0 && dies(inst.args[0]) ? ra : fresh(Vec);
      emit(id::x_v_f_to_int + (truncates * 2 + t) * kV2 + d * kVecRegs + ra);
      return finish(d, 128);
    }
    default: return false;
  }
}

}  // namespace kiln::jit
