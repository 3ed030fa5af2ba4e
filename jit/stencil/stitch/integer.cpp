// Integer ops, compares and selects.
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

namespace {
constexpr u32 rr(u32 family, unsigned w, u8 a, u8 b) { return family + (w * kIntRegs + a) * kIntRegs + b; }
constexpr u32 ri(u32 family, unsigned w, u8 a) { return family + w * kIntRegs + a; }
constexpr unsigned bits_of(Type t) { return ir::type_bits(t); }
constexpr u64 signed_imm(Type t, u64 imm) { return t == Type::I64 ? imm : static_cast<u64>(s64{static_cast<s32>(imm)}); }
constexpr bool is_compare(Op op) { return op >= Op::icmp_eq_ && op <= Op::icmp_sle_; }
constexpr bool is_fp_compare(Op op) { return op >= Op::fcmp_eq_ && op <= Op::fcmp_unord_; }
}  // namespace

/// Values that their only user may fold. They are computed late, which is always right: operands never change.
bool Stitcher::may_defer(Value v, const Inst& inst) {
  const ValueState& s = values_[v];
  if (inst.op == Op::f_to_v_) {
    const ValueState& f = values_[root(inst.args[0])];
    return f.state == State::Normal && f.known > ir::type_bits(type_of(inst.args[0]));
  }
  if (s.uses != 1) return false;
  if (is_compare(inst.op) || is_fp_compare(inst.op)) {
    const Type t = type_of(inst.args[0]);
    if (is_fp_compare(inst.op)) {
      // Its exception bits must be there for whoever looks.
      for (Value i = v + 1; i < s.user; ++i)
        if ((ir::op_info((*block_)[i].op).effects & (ir::CALL | ir::MAY_FAULT)) != 0) return false;
    }
    return t == Type::I32 || t == Type::I64 || t == Type::F32 || t == Type::F64;
  }
  const Inst& user = (*block_)[s.user];
  switch (inst.op) {
    case Op::cond_: return may_defer_cond(v);
    case Op::and_: {
      if (user.op != Op::icmp_eq_ && user.op != Op::icmp_ne_) return false;
      const Value other = user.args[0] == v ? user.args[1] : user.args[0];
      const Inst& zero = (*block_)[other];
      return other != v && zero.op == Op::iconst_ && zero.imm == 0 && inst.type != Type::I1 && values_[s.user].uses == 1;
    }
    case Op::add_:
      return inst.type == Type::I64 && (user.op == Op::load_ || user.op == Op::store_) && user.args[0] == v &&
             !is_const(inst.args[0]) && !is_const(inst.args[1]);
    case Op::shl_:
      return user.op == Op::add_ && user.type == inst.type && is_const(inst.args[1]) && const_of(inst.args[1]) >= 1 &&
             const_of(inst.args[1]) <= 3 && user.args[0] != user.args[1];
    default: return false;
  }
}

void Stitcher::materialise(Value v) {
  const Inst& inst = (*block_)[v];
  if (is_compare(inst.op) || is_fp_compare(inst.op) || inst.op == Op::cond_) {
    materialise_compare(v);
    return;
  }
  const u32 pins[2] = {pinned_[Int], pinned_[Vec]};
  values_[v].state = State::None;
  if (!integer(v, inst) && !floating(v, inst)) stitch_failure("internal error: deferred", ir::op_info(inst.op).name);
  pinned_[Int] = pins[Int];
  pinned_[Vec] = pins[Vec];
}

void Stitcher::binary(Value v, const Inst& inst, u32 by_reg, u32 by_imm, bool commutes, bool logical) {
  Value a = inst.args[0], b = inst.args[1];
  const unsigned w = wide(inst.type);
  if (commutes && is_const(a)) std::swap(a, b);
  unsigned known = inst.type == Type::I64 ? 64 : 32;
  if (by_imm && is_const(b)) {
    const u64 imm = const_of(b);
    if (inst.op == Op::and_) {
      known = static_cast<unsigned>(64 - std::countl_zero(imm));
      const u32 extension = imm == 0xffffffff ? id::zext32 : imm == 0xffff ? id::zext16 : imm == 0xff ? id::zext8 : 0;
      if (extension) {
        const u8 from = use(a);
        const u8 d = dies(a) ? from : fresh(Int);
        done_all(inst);
        emit(extension + d * kIntRegs + from);
        bind(v, d, known);
        return;
      }
    }
    // An and with a mask of 32 bits needs no 64-bit operation.
    const unsigned op_width = inst.op == Op::and_ && imm >> 32 == 0 ? 0 : w;
    if (op_width == 0 || fits32(imm)) {
      const u8 d = take(a);
      emit_ri(ri(by_imm, op_width, d), imm);
      done_all(inst);
      bind(v, d, known);
      return;
    }
  }
  if (commutes && !dies(a) && dies(b)) std::swap(a, b);
  const u8 rb = use(b);
  const u8 d = take(a);
  emit(rr(by_reg, w, d, rb));
  if (logical && inst.type != Type::I64) {
    const unsigned ka = state(inst.args[0]).known, kb = state(inst.args[1]).known;
    known = std::min(32u, inst.op == Op::and_ ? std::min(ka, kb) : inst.op == Op::andn_ ? ka : std::max(ka, kb));
  } else if (inst.op == Op::and_) {
    known = std::min(state(inst.args[0]).known, state(inst.args[1]).known);
  }
  done_all(inst);
  bind(v, d, known);
}

void Stitcher::add(Value v, const Inst& inst, bool subtract) {
  Value a = inst.args[0], b = inst.args[1];
  const unsigned w = wide(inst.type), known = w ? 64 : 32;
  if (!subtract && is_const(a)) std::swap(a, b);
  if (is_const(b)) {
    u64 imm = signed_imm(inst.type, const_of(b));
    if (subtract) imm = signed_imm(inst.type, 0 - imm);
    if (fits32(imm)) {
      if (dies(a)) {
        const u8 d = take(a);
        emit_ri(ri(id::add_ri, w, d), imm);
        done_all(inst);
        bind(v, d, known);
      } else {
        const u8 ra = use(a), d = fresh(Int);
        emit(rr(id::lea_ri, w, d, ra), imm);
        done_all(inst);
        bind(v, d, known);
      }
      return;
    }
  }
  if (!subtract) {
    if (deferred(a, Op::shl_)) std::swap(a, b);
    if (deferred(b, Op::shl_)) {
      const Inst& shifted = (*block_)[root(b)];
      const u8 rb = use(shifted.args[0]);
      const u8 d = take(a);
      emit(id::add_shl + ((w * 3 + static_cast<u32>(const_of(shifted.args[1])) - 1) * kIntRegs + d) * kIntRegs + rb);
      done_all(inst);
      bind(v, d, known);
      return;
    }
    if (!dies(a) && dies(b)) std::swap(a, b);
    if (!dies(a) && !is_const(a)) {
      u8 ra = use(a), rb = use(b);
      if (ra > rb) std::swap(ra, rb);
      const u8 d = fresh(Int);
      emit(id::lea_rr + ((w * kIntRegs + d) * kIntRegs + ra) * kIntRegs + rb);
      done_all(inst);
      bind(v, d, known);
      return;
    }
  }
  const u8 rb = use(b);
  const u8 d = take(a);
  emit(rr(subtract ? id::sub_rr : id::add_rr, w, d, rb));
  done_all(inst);
  bind(v, d, known);
}

void Stitcher::shift(Value v, const Inst& inst, u32 by_imm, u32 by_reg) {
  const Value a = inst.args[0], b = inst.args[1];
  const unsigned w = wide(inst.type), n = bits_of(inst.type);
  unsigned known = n;
  if (is_const(b)) {
    const unsigned count = const_of(b) & (n - 1);
    if (inst.op == Op::lshr_) {
      const unsigned ka = std::min<unsigned>(state(a).known, n);
      known = ka > count ? ka - count : 0;
    } else if (inst.op == Op::shl_) {
      known = std::min(n, state(a).known + count);
    }
    if (!dies(a) && !is_const(a)) {
      if (inst.op == Op::rotr_) {
        const u8 ra = use(a), d = fresh(Int);
        emit(rr(id::rorx_i, w, d, ra), 0, count);
        done_all(inst);
        bind(v, d, known);
        return;
      }
      if (inst.op == Op::shl_ && count >= 1 && count <= 3) {
        const u8 ra = use(a), d = fresh(Int);
        emit(id::lea_shl + ((w * 3 + count - 1) * kIntRegs + d) * kIntRegs + ra);
        done_all(inst);
        bind(v, d, known);
        return;
      }
    }
    const u8 d = take(a);
    if (count || w == 0) emit(ri(by_imm, w, d), 0, count);
    if (count == 0 && w == 0) emit(id::zext32 + d * kIntRegs + d);  // a shift by 0 writes nothing
    done_all(inst);
    bind(v, d, known);
    return;
  }
  const u8 rb = use(b);
  const u8 d = take(a);
  emit(rr(by_reg, w, d, rb));
  done_all(inst);
  bind(v, d, known);
}

void Stitcher::extend(Value v, const Inst& inst) {
  const Value a = inst.args[0];
  const Type from = type_of(a);
  const unsigned bits = bits_of(from);
  if (inst.op == Op::zext_) {
    if (state(a).state == State::Deferred) use(a);
    if (state(a).known <= bits) {
      alias_result(v, a);
      return;
    }
  }
  const u8 ra = use(a);
  const u8 d = dies(a) ? ra : fresh(Int);
  const unsigned w = wide(inst.type);
  unsigned known = inst.op == Op::zext_ ? bits : bits_of(inst.type);
  const u32 pair = d * kIntRegs + ra;
  if (inst.op == Op::zext_) {
    switch (from) {
      case Type::I32: emit(id::zext32 + pair); break;
      case Type::I16: emit(id::zext16 + pair); break;
      case Type::I8: emit(id::zext8 + pair); break;
      default:
        copy(Int, d, ra);
        emit_ri(ri(id::and_ri, 0, d), 1);
        break;
    }
  } else {
    switch (from) {
      case Type::I32: emit(id::sext32 + pair); break;
      case Type::I16: emit(rr(id::sext16, w, d, ra)); break;
      case Type::I8: emit(rr(id::sext8, w, d, ra)); break;
      default:
        copy(Int, d, ra);
        emit(ri(id::neg, w, d));
        break;
    }
    if (w == 0) known = 32;
  }
  done_all(inst);
  bind(v, d, known);
}

void Stitcher::bit_field(Value v, const Inst& inst) {
  const Value a = inst.args[0];
  const unsigned w = wide(inst.type), n = bits_of(inst.type);
  const unsigned lsb = static_cast<unsigned>(inst.imm), count = static_cast<unsigned>(inst.imm2);
  const bool sign = inst.op == Op::sbfx_;
  if (lsb == 0 && (count == 8 || count == 16 || count == 32)) {
    const u8 ra = use(a);
    const u8 d = dies(a) ? ra : fresh(Int);
    const u32 pair = d * kIntRegs + ra;
    if (!sign || count == n) emit((count == 8 ? id::zext8 : count == 16 ? id::zext16 : id::zext32) + pair);
    else if (count == 32) emit(id::sext32 + pair);
    else emit(rr(count == 8 ? id::sext8 : id::sext16, w, d, ra));
    done_all(inst);
    bind(v, d, sign ? n : count);
    return;
  }
  const u8 d = take(a);
  if (!sign && lsb + count == n) {
    if (lsb) emit(ri(id::shr_i, w, d), 0, lsb);
    else if (!w) emit(id::zext32 + d * kIntRegs + d);
  } else if (!sign && count <= 32) {
    if (lsb) emit(ri(id::shr_i, w, d), 0, lsb);
    if (count == 8 || count == 16 || count == 32)
      emit((count == 8 ? id::zext8 : count == 16 ? id::zext16 : id::zext32) + d * kIntRegs + d);
    else emit_ri(ri(id::and_ri, 0, d), mask_low(count));
  } else {
    if (n != lsb + count) emit(ri(id::shl_i, w, d), 0, n - lsb - count);
    if (n != count) emit(ri(sign ? id::sar_i : id::shr_i, w, d), 0, n - count);
    else if (!w) emit(id::zext32 + d * kIntRegs + d);
  }
  done_all(inst);
  bind(v, d, sign ? n : count);
}

// --- compares --------------------------------------------------------------------------------------------------------

/// Puts the operands of a condition into registers and says which stencil sets the flags for it.
Compare Stitcher::prepare_compare(Value condition) {
  Compare result;
  const Value r = root(condition);
  const Inst& inst = (*block_)[r];
  if (values_[r].state != State::Deferred) {
    const u8 reg = use(condition);
    result.stencil = rr(id::test_rr, 0, reg, reg);
    return result;
  }
  if (inst.op == Op::cond_) return compare_of_record(static_cast<ir::Cond>(inst.aux));
  Value a = inst.args[0], b = inst.args[1];
  if (is_fp_compare(inst.op)) {
    if (inst.op == Op::fcmp_lt_ || inst.op == Op::fcmp_le_) std::swap(a, b);  // "above" is false for unordered
    const u8 ra = use(a), rb = use(b);
    result.cond = inst.op == Op::fcmp_eq_ ? kEqualFp : inst.op == Op::fcmp_lt_ ? kA : inst.op == Op::fcmp_le_ ? kAe : kP;
    result.stencil = id::ucomi + (((type_of(a) == Type::F64 ? 2 : 0) + (inst.aux & 1)) * kVecRegs + ra) * kVecRegs + rb;
    return result;
  }
  const unsigned w = wide(type_of(a));
  bool swapped = false;
  if (is_const(a) && !is_const(b)) {
    std::swap(a, b);
    swapped = true;
  }
  switch (inst.op) {
    case Op::icmp_eq_: result.cond = kE; break;
    case Op::icmp_ne_: result.cond = kNe; break;
    case Op::icmp_ult_: result.cond = swapped ? kA : kB; break;
    case Op::icmp_ule_: result.cond = swapped ? kAe : kBe; break;
    case Op::icmp_slt_: result.cond = swapped ? kG : kL; break;
    default: result.cond = swapped ? kGe : kLe; break;
  }
  if (is_const(b)) {
    const u64 imm = signed_imm(type_of(a), const_of(b));
    if (imm == 0 && deferred(a, Op::and_)) {
      const Inst& masked = (*block_)[root(a)];
      Value x = masked.args[0], y = masked.args[1];
      if (is_const(x)) std::swap(x, y);
      const u8 rx = use(x);
      if (is_const(y)) {
        const u64 mask = const_of(y);
        if (w == 0 || mask >> 31 == 0) {
          result.stencil = ri(id::test_ri, 0, rx);
          result.holes.a = mask;
          return result;
        }
        if (std::has_single_bit(mask)) {
          result.stencil = id::bt_i + rx;
          result.holes.b = static_cast<u64>(std::countr_zero(mask));
          result.cond = result.cond == kNe ? kB : kAe;
          return result;
        }
      }
      result.stencil = rr(id::test_rr, w, rx, use(y));
      return result;
    }
    if (imm == 0) {
      const u8 ra = use(a);
      result.stencil = rr(id::test_rr, w, ra, ra);
      return result;
    }
    if (fits32(imm)) {
      result.stencil = ri(id::cmp_ri, w, use(a));
      result.holes.a = imm;
      return result;
    }
  }
  const u8 ra = use(a);
  result.stencil = rr(id::cmp_rr, w, ra, use(b));
  return result;
}

void Stitcher::emit_compare_stencil(const Compare& c) {
  if (c.stencil >= id::cmp_ri && c.stencil < id::cmp_ri + 2 * kIntRegs) emit_ri(c.stencil, c.holes.a);
  else emit(c.stencil, c.holes.a, c.holes.b);
}

void Stitcher::materialise_compare(Value v) {
  const u32 pins[2] = {pinned_[Int], pinned_[Vec]};
  values_[v].state = State::Deferred;
  const u8 d = fresh(Int);
  const Compare compare = prepare_compare(v);
  emit_compare(compare);
  if (compare.cond == kEqualFp) emit(id::seteq_f + d);
  else emit(id::setcc + compare.cond * kIntRegs + d);
  values_[v].state = State::None;
  done_all((*block_)[v]);
  bind(v, d, 1);
  pinned_[Int] = pins[Int];
  pinned_[Vec] = pins[Vec];
}

void Stitcher::select(Value v, const Inst& inst) {
  const Value c = inst.args[0];
  Value a = inst.args[1], b = inst.args[2];
  if (deferred(c, Op::fcmp_eq_)) use(c);
  if (class_of(inst.type) == Vec) {
    // A mask would cost more than the jump saves.
    if (state(a).state == State::Deferred) use(a);
    const u8 ra = use(a);
    const u8 d = take(b);
    const Compare compare = prepare_compare(c);
    emit_compare(compare);
    emit(id::jcc + (compare.cond ^ 1));
    const u32 skip = last_taken_;
    emit(id::v_mov + d * kVecRegs + ra);
    bind_label(skip);
    const unsigned known = std::max(state(a).known, state(b).known);
    done_all(inst);
    bind(v, d, known);
    return;
  }
  u8 invert = 0;
  if (dies(a) && !dies(b)) {
    std::swap(a, b);
    invert = 1;
  }
  const u8 ra = use(a);
  const u8 d = take(b);
  const Compare compare = prepare_compare(c);
  emit_compare(compare);
  emit(id::cmov + ((compare.cond ^ invert) * kIntRegs + d) * kIntRegs + ra);
  const unsigned known = std::max(state(a).known, state(b).known);
  done_all(inst);
  bind(v, d, known);
}

// --- the rest --------------------------------------------------------------------------------------------------------

bool Stitcher::integer(Value v, const Inst& inst) {
  const unsigned w = wide(inst.type), n = bits_of(inst.type);
  const auto unary = [&](u32 family) {
    const u8 d = take(inst.args[0]);
    emit(ri(family, w, d));
    done_all(inst);
    bind(v, d, w ? 64 : 32);
  };
  const auto count = [&](u32 family) {
    const u8 ra = use(inst.args[0]);
    const u8 d = fresh(Int);
    emit(rr(family, w, d, ra));
    done_all(inst);
    bind(v, d, 7);
  };
  switch (inst.op) {
    case Op::add_: add(v, inst, false); return true;
    case Op::sub_: add(v, inst, true); return true;
    case Op::mul_: {
      const Value b = is_const(inst.args[0]) ? inst.args[0] : inst.args[1], a = b == inst.args[0] ? inst.args[1] : inst.args[0];
      const u64 imm = is_const(b) ? signed_imm(inst.type, const_of(b)) : 0;
      if (is_const(b) && fits32(imm)) {
        const u8 ra = use(a);
        const u8 d = dies(a) ? ra : fresh(Int);
        emit(rr(id::imul_ri, w, d, ra), imm);
        done_all(inst);
        bind(v, d, n);
      } else {
        binary(v, inst, id::mul_rr, 0, true, false);
      }
      return true;
    }
    case Op::umulh_: binary(v, inst, id::umulh, 0, true, false); return true;
    case Op::smulh_: binary(v, inst, id::smulh, 0, true, false); return true;
    case Op::udiv_: binary(v, inst, id::udiv, 0, false, false); return true;
    case Op::sdiv_: binary(v, inst, id::sdiv, 0, false, false); return true;
    case Op::urem_: binary(v, inst, id::urem, 0, false, false); return true;
    case Op::srem_: binary(v, inst, id::srem, 0, false, false); return true;
    case Op::and_: binary(v, inst, id::and_rr, id::and_ri, true, true); return true;
    case Op::or_: binary(v, inst, id::or_rr, id::or_ri, true, true); return true;
    case Op::xor_: binary(v, inst, id::xor_rr, id::xor_ri, true, true); return true;
    case Op::andn_: binary(v, inst, id::andn_rr, 0, false, true); return true;
    case Op::shl_: shift(v, inst, id::shl_i, id::shl_rr); return true;
    case Op::lshr_: shift(v, inst, id::shr_i, id::shr_rr); return true;
    case Op::ashr_: shift(v, inst, id::sar_i, id::sar_rr); return true;
    case Op::rotr_: shift(v, inst, id::ror_i, id::ror_rr); return true;
    case Op::extr_: {
      const Value a = inst.args[0], b = inst.args[1];
      const unsigned lsb = static_cast<unsigned>(inst.imm);
      if (root(a) == root(b) && lsb && !dies(b)) {
        const u8 ra = use(a);
        const u8 d = fresh(Int);
        emit(rr(id::rorx_i, w, d, ra), 0, lsb);
        done_all(inst);
        bind(v, d, n);
        return true;
      }
      const u8 ra = use(a);
      const u8 d = take(b);
      if (lsb) emit(rr(id::shrd_i, w, d, ra), 0, lsb);
      else if (!w) emit(id::zext32 + d * kIntRegs + d);
      done_all(inst);
      bind(v, d, n);
      return true;
    }
    case Op::neg_: unary(id::neg); return true;
    case Op::not_:
      if (inst.type == Type::I1) {
        const u8 d = take(inst.args[0]);
        emit_ri(ri(id::xor_ri, 0, d), 1);
        done_all(inst);
        bind(v, d, 1);
      } else {
        unary(id::not_);
      }
      return true;
    case Op::bswap_: unary(id::bswap); return true;
    case Op::bitrev_: unary(id::bitrev); return true;
    case Op::clz_: count(id::clz); return true;
    case Op::ctz_: count(id::ctz); return true;
    case Op::popcnt_: count(id::popcnt); return true;
    case Op::zext_:
    case Op::sext_: extend(v, inst); return true;
    case Op::trunc_:
      if (inst.type == Type::I1) {
        const u8 d = take(inst.args[0]);
        emit_ri(ri(id::and_ri, 0, d), 1);
        done_all(inst);
        bind(v, d, 1);
      } else {
        alias_result(v, inst.args[0]);
      }
      return true;
    case Op::ubfx_:
    case Op::sbfx_: bit_field(v, inst); return true;
    case Op::bfi_: {
      const u8 rb = use(inst.args[1]);
      const u8 d = take(inst.args[0]);
      const u64 mask = mask_low(static_cast<unsigned>(inst.imm2)) << inst.imm;
      if (w) emit(id::bfi + d * kIntRegs + rb, mask);
      else emit(id::bfi32 + d * kIntRegs + rb, mask);
      done_all(inst);
      bind(v, d, n);
      return true;
    }
    case Op::select_: select(v, inst); return true;
    case Op::icmp_eq_:
    case Op::icmp_ne_:
    case Op::icmp_ult_:
    case Op::icmp_ule_:
    case Op::icmp_slt_:
    case Op::icmp_sle_:
    case Op::fcmp_eq_:
    case Op::fcmp_lt_:
    case Op::fcmp_le_:
    case Op::fcmp_unord_: {
      const Type t = type_of(inst.args[0]);
      if (t != Type::I32 && t != Type::I64 && t != Type::F32 && t != Type::F64 &&
          !(t == Type::I1 &&
            (inst.op == Op::icmp_eq_ || inst.op == Op::icmp_ne_ || inst.op == Op::icmp_ult_ || inst.op == Op::icmp_ule_)))
        return false;
      materialise_compare(v);
      return true;
    }
    case Op::cond_: materialise_compare(v); return true;
    case Op::flags_value_: flags_value(v, inst); return true;
    case Op::eimage_add_:
    case Op::eimage_sub_:
    case Op::eimage_logic_: return eimage(v, inst);
    case Op::nzcv_sub_:
    case Op::nzcv_add_:
    case Op::nzcv_adc_: {
      const u8 ra = use(inst.args[0]), rb = use(inst.args[1]);
      if (inst.op == Op::nzcv_adc_) emit(id::mov_tr + use(inst.args[2]));
      const u32 family = inst.op == Op::nzcv_sub_ ? id::nzcv_sub : inst.op == Op::nzcv_add_ ? id::nzcv_add : id::nzcv_adc;
      emit(rr(family, wide(type_of(inst.args[0])), ra, rb));
      const u8 d = fresh(Int);
      emit(id::mov_rt + d);
      done_all(inst);
      bind(v, d, 32);
      return true;
    }
    case Op::nzcv_fcmp_:
    case Op::eimage_fcmp_: {
      const u8 ra = use(inst.args[0]), rb = use(inst.args[1]);
      emit(id::ucomi + (((type_of(inst.args[0]) == Type::F64 ? 2 : 0) + (inst.aux & 1)) * kVecRegs + ra) * kVecRegs + rb);
      if (values_[v].uses == 0) {  // for the exception bits only
        done_all(inst);
        return true;
      }
      emit(inst.op == Op::nzcv_fcmp_ ? id::nzcv_fcmp : id::eimage_fcmp);
      const u8 d = fresh(Int);
      emit(id::mov_rt + d);
      done_all(inst);
      bind(v, d, 32);
      return true;
    }
    default: return false;
  }
}

}  // namespace kiln::jit
