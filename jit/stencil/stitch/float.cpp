// Floating point. The host computes; a NaN result (or an integer conversion out of range) goes out of line, where
// ir::eval_pure gives the guest's answer from the same operands.
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

namespace {
constexpr unsigned kV2 = kVecRegs * kVecRegs, kV3 = kV2 * kVecRegs;

V128 splat(unsigned is64, u64 lane) { return {.d = {is64 ? lane : lane << 32 | lane, is64 ? lane : lane << 32 | lane}}; }
/// The bits of 2^exponent.
u64 power_of_two(unsigned is64, int exponent) {
  return is64 ? static_cast<u64>(1023 + exponent) << 52 : static_cast<u64>(127 + exponent) << 23;
}
}  // namespace

/// cold() of an op whose stencil's own check was the last one emitted, after the checks of FpOp.underflow.
void Stitcher::cold_checked(const Inst& inst, std::initializer_list<u8> args, u8 result) {
  const ir::Underflow underflow = ir::FpOp::unpack(inst.aux).underflow;
  u32 fixups[3] = {last_cold_};
  unsigned count = 1;
  const auto check = [&](u32 stencil) {
    emit(stencil);
    fixups[count++] = last_cold_;
  };
  const bool scalar = ir::is_float(inst.type), narrows = inst.op == Op::fcvt_ || inst.op == Op::v_fnarrow_;
  const unsigned t = inst.type == Type::F64 || inst.lane == static_cast<u8>(ir::Width::B8) ? 1 : 0;
  const u8 a = args.begin()[0], b = inst.op == Op::fdiv_ || inst.op == Op::v_fdiv_ ? a : args.begin()[args.size() > 1 ? 1 : 0];
  if (underflow == ir::Underflow::Exact && ir::may_be_tiny_and_inexact(inst)) {
    check((scalar ? id::f_least : id::v_f_least) + t * kVecRegs + result);
  } else if (underflow >= ir::Underflow::Flush && ir::may_be_tiny(inst)) {
    if (narrows) {
      check((scalar ? id::f_tiny_single : id::v_f_tiny_single) + a);
    } else {
      check((scalar ? id::f_tiny : id::v_f_tiny) + t * kVecRegs + result);
      if (ir::may_be_tiny_and_inexact(inst))
        check((scalar ? id::f_vanished : id::v_f_vanished) + t * kV3 + result * kV2 + a * kVecRegs + b);
    }
  }
  cold(inst, args, result);
  cold_.back().fixup = fixups[0];
  for (unsigned i = 1; i < count; ++i) {
    ColdPart part = cold_.back();
    part.fixup = fixups[i];
    cold_.push_back(part);
  }
}

bool Stitcher::floating(Value v, const Inst& inst) {
  const unsigned t =
      inst.type == Type::F64 || inst.lane == static_cast<u8>(ir::Width::B8) ? 1 : 0;  // 0 too for v_fwiden, v_fnarrow
  const ir::FpOp f = ir::FpOp::unpack(inst.aux);
  if (f.nan == ir::NanRule::X86 && floating_x86(v, inst)) return true;
  const auto finish = [&](u8 d, unsigned known = 128) {
    done_all(inst);
    bind(v, d, known);
    return true;
  };
  // A scalar result has its first operand's upper bytes; the cold path's are zero.
  const auto upper = [&](Value a) { return ir::is_float(inst.type) ? state(a).known : 128u; };
  // d = a op b; d differs from both, which the cold path needs.
  const auto two = [&](u32 family) {
    const u8 ra = use(inst.args[0]), rb = use(inst.args[1]);
    const u8 d = fresh(Vec);
    emit(family + t * kV3 + d * kV2 + ra * kVecRegs + rb);
    cold_checked(inst, {ra, rb}, d);
    return finish(d, upper(inst.args[0]));
  };
  const auto one = [&](u32 family) {
    const u8 ra = use(inst.args[0]);
    const u8 d = fresh(Vec);
    emit(family + t * kV2 + d * kVecRegs + ra);
    cold_checked(inst, {ra}, d);
    return finish(d);
  };
  // The last cold part has a second entrance.
  const auto also_cold = [&](u32 fixup) {
    ColdPart part = cold_.back();
    part.fixup = fixup;
    cold_.push_back(part);
  };
  const auto sign = [&](u32 family) {
    const u8 ra = use(inst.args[0]);
    const u8 d = dies(inst.args[0]) ? ra : fresh(Vec);
    emit(family + t * kV2 + d * kVecRegs + ra);
    return finish(d, state(inst.args[0]).known);
  };
  const auto fused = [&](u32 family) {
    const u8 ra = use(inst.args[0]), rb = use(inst.args[1]), rc = use(inst.args[2]);
    const u8 d = fresh(Vec);
    copy(Vec, d, rc);
    emit(family + t * kV3 + d * kV2 + ra * kVecRegs + rb);
    cold_checked(inst, {ra, rb, rc}, d);
    return finish(d);
  };
  const auto two_address = [&](u32 family) {
    const u8 rb = use(inst.args[1]);
    const u8 d = take(inst.args[0]);
    emit(family + t * kV2 + d * kVecRegs + rb);
    return finish(d);
  };
  if (f.underflow == ir::Underflow::FlushFirst && ir::may_be_tiny_and_inexact(inst)) return false;
  const unsigned mode = f.round == ir::Round::Dynamic ? 4 : static_cast<unsigned>(f.round);
  switch (inst.op) {
    case Op::fadd_: return two(id::fadd);
    case Op::fsub_: return two(id::fsub);
    case Op::fmul_: return two(id::fmul);
    case Op::fdiv_: return two(id::fdiv);
    case Op::fsqrt_: return one(id::fsqrt);
    case Op::fma_: return fused(id::fma);
    case Op::v_fadd_: return two(id::v_fadd);
    case Op::v_fsub_: return two(id::v_fsub);
    case Op::v_fmul_: return two(id::v_fmul);
    case Op::v_fdiv_: return two(id::v_fdiv);
    case Op::v_fsqrt_: return one(id::v_fsqrt);
    case Op::v_fma_: return fused(id::v_fma);
    case Op::fneg_: return sign(id::fneg);
    case Op::fabs_: return sign(id::fabs);
    case Op::v_fneg_: return sign(id::v_fneg);
    case Op::v_fabs_: return sign(id::v_fabs);
    case Op::v_fcmp_: {
      const u8 rb = use(inst.args[1]);
      const u8 d = take(inst.args[0]);
      emit(id::x_v_fcmp + t * kV2 + d * kVecRegs + rb, 0, inst.imm & 31);
      return finish(d);
    }
    case Op::fflush_:
    case Op::v_fflush_: {
      const unsigned known = state(inst.args[0]).known;
      const u8 d = take(inst.args[0]);
      emit((inst.op == Op::fflush_ ? id::f_tiny : id::v_f_tiny) + t * kVecRegs + d);
      cold(inst, {d}, d);
      return finish(d, known);
    }
    case Op::v_fcmpeq_: return two_address(id::v_fcmpeq);
    case Op::v_fcmpgt_: return two_address(id::v_fcmpgt);
    case Op::v_fcmpge_: return two_address(id::v_fcmpge);
    case Op::fmin_:
    case Op::fminnm_: return two(id::fmin);
    case Op::fmax_:
    case Op::fmaxnm_: return two(id::fmax);
    case Op::v_fmin_:
    case Op::v_fminnm_: return two(id::v_fmin);
    case Op::v_fmax_:
    case Op::v_fmaxnm_: return two(id::v_fmax);
    case Op::v_fwiden_: return one(id::v_fwiden);
    case Op::v_fnarrow_: return one(id::v_fnarrow);
    case Op::v_fround_:
      if (f.round == ir::Round::Away) return false;
      return one(id::v_fround + (mode + (f.exact ? 5 : 0)) * 2 * kV2);
    case Op::v_f_to_int_: {
      if (f.round == ir::Round::Away) return false;
      // Registers first: what fresh() stores to make room must not lie behind the check's way out.
      const u8 operand = use(inst.args[0]);
      const u8 ra = inst.imm ? fresh(Vec) : operand;
      const u8 d = fresh(Vec);
      u32 check = 0;
      const bool checked = inst.imm != 0 || f.is_unsigned;
      if (checked) {
        const u64 limit = power_of_two(t, (t ? 63 : 31) - static_cast<int>(inst.imm)) - 1;
        emit(id::v_range + ((f.is_unsigned ? 2 : 0) + t) * kVecRegs + operand, pool(splat(t, limit)));
        check = last_cold_;
      }
      if (inst.imm) {
        emit(id::v_scale + t * kV2 + ra * kVecRegs + operand, pool(splat(t, power_of_two(t, static_cast<int>(inst.imm)))));
      }
      emit(id::v_f_to_int + (mode * 2 + t) * kV2 + d * kVecRegs + ra);
      cold(inst, {operand}, d);
      if (checked) also_cold(check);
      return finish(d);
    }
    case Op::v_int_to_f_: {
      const u8 ra = use(inst.args[0]);
      if (t) {
        const u8 d = fresh(Vec);
        emit(id::v_int_to_f64 + (f.is_unsigned ? kV2 : 0) + d * kVecRegs + ra);
        if (f.is_unsigned) cold(inst, {ra}, d);
        return finish(d);
      }
      const u8 d = dies(inst.args[0]) ? ra : fresh(Vec);
      emit(id::v_int_to_f32 + (f.is_unsigned ? kV2 : 0) + d * kVecRegs + ra);
      return finish(d);
    }
    case Op::fcvt_: {
      const u8 ra = use(inst.args[0]);
      const u8 d = fresh(Vec);
      emit(id::fcvt + t * kV2 + d * kVecRegs + ra);
      cold_checked(inst, {ra}, d);
      return finish(d);
    }
    case Op::fround_: {
      if (f.round == ir::Round::Away) return false;
      const u8 ra = use(inst.args[0]);
      const u8 d = fresh(Vec);
      emit(id::fround + (((mode + (f.exact ? 5 : 0)) * 2 + t) * kVecRegs + d) * kVecRegs + ra);
      cold(inst, {ra}, d);
      return finish(d);
    }
    case Op::f_to_int_: {
      if (f.round == ir::Round::Away) return false;
      const unsigned from64 = type_of(inst.args[0]) == Type::F64 ? 1 : 0;
      const u8 operand = use(inst.args[0]);
      const u8 d = fresh(Int);
      const unsigned w = wide(inst.type);
      const u8 ra = inst.imm ? fresh(Vec) : operand;
      u32 check = 0;
      if (inst.imm) {
        const u64 limit = power_of_two(from64, (w ? 63 : 31) - static_cast<int>(inst.imm)) - 1;
        V128 limits = splat(from64, (~u64{0} >> (from64 ? 0 : 32)) >> 1);  // the upper lanes may hold anything
        limits.d[0] = from64 ? limit : limit | (limits.d[0] & ~mask_low(32));
        emit(id::v_range + from64 * kVecRegs + operand, pool(limits));
        check = last_cold_;
        emit(id::v_scale + (2 + from64) * kV2 + ra * kVecRegs + operand,
             pool(splat(from64, power_of_two(from64, static_cast<int>(inst.imm)))));
      }
      if (f.is_unsigned || f.round != ir::Round::Zero)
        emit(id::f_to_int_general + ((mode * 8 + ((f.is_unsigned ? 2 : 0) + w) * 2 + from64) * kIntRegs + d) * kVecRegs + ra);
      else emit(id::f_to_int + (((wide(inst.type) * 2 + from64) * kIntRegs + d) * kVecRegs + ra));
      cold(inst, {operand}, d);
      if (inst.imm) also_cold(check);
      return finish(d, wide(inst.type) ? 64 : 32);
    }
    case Op::int_to_f_: {
      const unsigned w = wide(type_of(inst.args[0]));
      const u8 ra = use(inst.args[0]);
      const u8 d = fresh(Vec);
      emit(id::int_to_f + ((((f.is_unsigned ? 2 : 0) + w) * 2 + t) * kVecRegs + d) * kIntRegs + ra);
      return finish(d, t ? 64 : 32);
    }
    case Op::bitcast_: {
      const Value a = inst.args[0];
      if (class_of(inst.type) == class_of(type_of(a))) {
        alias_result(v, a);
        return true;
      }
      const u8 ra = use(a);
      const u8 d = fresh(class_of(inst.type));
      if (class_of(inst.type) == Vec) {
        if (inst.type == Type::F64) emit(id::int64_to_v + d * kIntRegs + ra);
        else emit(id::int_to_v + d * kIntRegs + ra);
        return finish(d, ir::type_bits(inst.type));
      }
      emit(id::v_to_int + (wide(inst.type) * kIntRegs + d) * kVecRegs + ra);
      return finish(d, ir::type_bits(inst.type));
    }
    case Op::v_to_f_:
      if (const Value a = inst.args[0]; deferred(a, Op::f_to_v_) && type_of((*block_)[root(a)].args[0]) == inst.type) {
        alias(v, (*block_)[root(a)].args[0]);
        done(a);
      } else {
        if (state(a).state == State::Deferred) use(a);
        alias_result(v, a);
      }
      return true;
    case Op::f_to_v_: {
      const Value a = inst.args[0];
      const unsigned bits = ir::type_bits(type_of(a));
      if (state(a).known <= bits) {
        alias_result(v, a);
        return true;
      }
      const u8 ra = use(a);
      const u8 d = dies(a) ? ra : fresh(Vec);
      emit((bits == 64 ? id::v_low64 : id::v_low32) + d * kVecRegs + ra);
      return finish(d, bits);
    }
    default: return false;
  }
}

}  // namespace kiln::jit
