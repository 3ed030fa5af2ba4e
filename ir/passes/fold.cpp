// fold: constants and algebra. Every rule looks at an instruction and its operands' makers only, so the sweep stays linear.
// Canonical forms: a constant operand stands on the right where the op commutes or is a compare; x - k is x + (-k);
// not(compare) is a compare where one exists without a constant on the left.
#include "ir/eval_internal.h"
#include "ir/passes/rewriter.h"

namespace kiln::ir {
namespace {

bool commutes(Op op) {
  switch (op) {
    case Op::add_:
    case Op::mul_:
    case Op::umulh_:
    case Op::smulh_:
    case Op::and_:
    case Op::or_:
    case Op::xor_:
    case Op::icmp_eq_:
    case Op::icmp_ne_:
    case Op::nzcv_add_: return true;
    default: return false;
  }
}
bool is_ordered_compare(Op op) { return op >= Op::icmp_ult_ && op <= Op::icmp_sle_; }
bool is_vector_op(Op op) { return op >= Op::v_low64_ && op <= Op::v_fcmpge_; }
/// Results of arithmetic that flushes.
bool gives_no_denormals(const Inst& inst) {
  return may_be_tiny(inst) && inst.op != Op::v_fnarrow_ && FpOp::unpack(inst.aux).underflow >= Underflow::Flush;
}
bool fits_s32(u64 value) { return static_cast<s64>(value) == static_cast<s32>(value); }

Datum datum_of(const Inst& constant) {
  Datum d;
  d.v = V128{};
  d.v.d[0] = constant.imm;
  d.v.d[1] = constant.op == Op::vconst_ ? constant.imm2 : 0;
  return d;
}

}  // namespace

Rewriter::Step Rewriter::become(Inst& inst, Op op, Value a, Value b, u64 imm, u64 imm2) {
  inst.op = op;
  inst.args = {a, b, kNoValue, kNoValue};
  inst.imm = imm;
  inst.imm2 = imm2;
  return Step::Again;
}

/// An upper bound for the number of low bits that can be set.
unsigned Rewriter::significant_bits(Value v) const {
  const Inst& d = out_[v];
  const unsigned width = type_bits(d.type);
  u64 k;
  switch (d.op) {
    case Op::iconst_: return 64 - static_cast<unsigned>(std::countl_zero(d.imm));
    case Op::zext_: return type_bits(type_of(d.args[0]));
    case Op::ubfx_: return static_cast<unsigned>(d.imm2);
    case Op::clz_:
    case Op::ctz_:
    case Op::popcnt_: return 7;
    case Op::v_extract_: return std::min(width, 8u << d.lane);
    case Op::load_: {
      const MemOp m = MemOp::unpack(d.aux);
      return m.sign_extend ? width : std::min(width, width_bits(m.width));
    }
    case Op::and_: return is_const(d.args[1], k) ? std::min(width, 64 - static_cast<unsigned>(std::countl_zero(k))) : width;
    case Op::lshr_: return is_const(d.args[1], k) ? width - static_cast<unsigned>(k & (width - 1)) : width;
    default: return width;
  }
}

Rewriter::Step Rewriter::simplify(Inst& inst, Value& result) {
  const Op op = inst.op;
  if (op >= Op::iconst_ && op <= Op::vconst_) return Step::Keep;
  if (inst.args[0] == kNoValue) return Step::Keep;
  if (const Step step = simplify_constants(inst, result); step != Step::Keep) return step;
  switch (op) {
    case Op::add_:
    case Op::sub_:
    case Op::mul_:
    case Op::udiv_:
    case Op::and_:
    case Op::or_:
    case Op::xor_:
    case Op::andn_:
    case Op::neg_:
    case Op::not_: return simplify_arithmetic(inst, result);
    case Op::shl_:
    case Op::lshr_:
    case Op::ashr_:
    case Op::rotr_:
    case Op::extr_: return simplify_shift(inst, result);
    case Op::zext_:
    case Op::sext_:
    case Op::trunc_: return simplify_extension(inst, result);
    case Op::ubfx_:
    case Op::sbfx_:
    case Op::bfi_: return simplify_field(inst, result);
    case Op::select_: return simplify_select(inst, result);
    case Op::icmp_eq_:
    case Op::icmp_ne_:
    case Op::icmp_ult_:
    case Op::icmp_ule_:
    case Op::icmp_slt_:
    case Op::icmp_sle_: return simplify_compare(inst, result);
    case Op::bitcast_:
      if (is_op(inst.args[0], Op::bitcast_)) {
        result = def(inst.args[0]).args[0];
        return type_of(result) == inst.type ? Step::Replaced : Step::Keep;
      }
      return Step::Keep;
    case Op::v_to_f_:
      if (is_op(inst.args[0], Op::f_to_v_) && type_of(def(inst.args[0]).args[0]) == inst.type) {
        result = def(inst.args[0]).args[0];
        return Step::Replaced;
      }
      if (is_op(inst.args[0], Op::v_low64_)) return become(inst, Op::v_to_f_, def(inst.args[0]).args[0]);
      return Step::Keep;
    case Op::fflush_:
    case Op::v_fflush_:
      if (gives_no_denormals(def(inst.args[0])) && def(inst.args[0]).lane == inst.lane) {
        result = inst.args[0];
        return Step::Replaced;
      }
      return Step::Keep;
    case Op::f_to_v_: {
      u64 k;
      if (is_op(inst.args[0], Op::bitcast_) && is_const(def(inst.args[0]).args[0], k)) {
        inst.args = {kNoValue, kNoValue, kNoValue, kNoValue};
        inst.op = Op::vconst_;
        inst.imm = k;
        return Step::Again;
      }
      return Step::Keep;
    }
    default: return is_vector_op(op) ? simplify_vector(inst, result) : Step::Keep;
  }
}

/// All operands constant: the interpreter's answer. Otherwise brings a constant to the right.
Rewriter::Step Rewriter::simplify_constants(Inst& inst, Value& result) {
  unsigned count = 0;
  bool all = true;
  for (Value v : inst.args) {
    if (v == kNoValue) break;
    all = all && (is_op(v, Op::iconst_) || is_op(v, Op::vconst_));
    ++count;
  }
  if (!all) {
    if (count == 2 && is_const(inst.args[0])) {
      if (commutes(inst.op)) {
        std::swap(inst.args[0], inst.args[1]);
      } else if (is_ordered_compare(inst.op)) {
        // k < x is not(x <= k)
        const bool is_signed = inst.op >= Op::icmp_slt_;
        const bool strict = inst.op == Op::icmp_ult_ || inst.op == Op::icmp_slt_;
        const Op opposite = is_signed ? (strict ? Op::icmp_sle_ : Op::icmp_slt_) : (strict ? Op::icmp_ule_ : Op::icmp_ult_);
        const Value reversed = make(opposite, Type::I1, inst.args[1], inst.args[0]);
        return become(inst, Op::not_, reversed);
      }
    }
    return Step::Keep;
  }
  if (count > 3 || is_fp_op(inst.op) || op_info(inst.op).effects != PURE) return Step::Keep;
  Type types[3] = {};
  Datum args[3];
  for (unsigned i = 0; i < count; ++i) {
    types[i] = type_of(inst.args[i]);
    args[i] = datum_of(def(inst.args[i]));
  }
  if (is_int(inst.type)) {
    const Datum d = eval_pure(inst, types, args);
    result = constant(inst.type, d.i);
    return Step::Replaced;
  }
  if (inst.type == Type::V128 && inst.op != Op::f_to_v_) {
    const Datum d = eval_pure(inst, types, args);
    result = make(Op::vconst_, Type::V128, kNoValue, kNoValue, kNoValue, d.v.d[0], d.v.d[1]);
    return Step::Replaced;
  }
  return Step::Keep;
}

Rewriter::Step Rewriter::simplify_arithmetic(Inst& inst, Value& result) {
  const Value a = inst.args[0], b = inst.args[1];
  const unsigned width = type_bits(inst.type);
  const u64 ones = mask_low(width);
  const auto replace = [&](Value v) {
    result = v;
    return Step::Replaced;
  };
  if (inst.op == Op::not_) {
    const Inst& d = def(a);
    if (d.op == Op::not_) return replace(d.args[0]);
    if (inst.type != Type::I1) return Step::Keep;
    if (d.op == Op::icmp_eq_) return become(inst, Op::icmp_ne_, d.args[0], d.args[1]);
    if (d.op == Op::icmp_ne_) return become(inst, Op::icmp_eq_, d.args[0], d.args[1]);
    if (is_ordered_compare(d.op) && !is_const(d.args[1])) {
      static constexpr Op kOpposite[] = {Op::icmp_ule_, Op::icmp_ult_, Op::icmp_sle_, Op::icmp_slt_};
      const unsigned which = static_cast<unsigned>(d.op) - static_cast<unsigned>(Op::icmp_ult_);
      return become(inst, kOpposite[which], d.args[1], d.args[0]);
    }
    return Step::Keep;
  }
  if (inst.op == Op::neg_) {
    if (is_op(a, Op::neg_)) return replace(def(a).args[0]);
    return Step::Keep;
  }
  u64 k, inner;
  if (a == b) {
    switch (inst.op) {
      case Op::sub_:
      case Op::xor_:
      case Op::andn_: return replace(constant(inst.type, 0));
      case Op::and_:
      case Op::or_: return replace(a);
      default: break;
    }
  }
  if (inst.op == Op::sub_ && is_const(a, k) && k == 0) return become(inst, Op::neg_, b);
  if (!is_const(b, k)) return Step::Keep;
  switch (inst.op) {
    case Op::sub_: return become(inst, Op::add_, a, constant(inst.type, 0 - k));
    case Op::add_:
      if (k == 0) return replace(a);
      if (is_op(a, Op::add_) && is_const(def(a).args[1], inner))
        return become(inst, Op::add_, def(a).args[0], constant(inst.type, k + inner));
      break;
    case Op::mul_:
      if (k == 0) return replace(b);
      if (std::has_single_bit(k)) return become(inst, Op::shl_, a, constant(inst.type, static_cast<u64>(std::countr_zero(k))));
      break;
    case Op::udiv_:
      if (std::has_single_bit(k)) return become(inst, Op::lshr_, a, constant(inst.type, static_cast<u64>(std::countr_zero(k))));
      break;
    case Op::andn_: return become(inst, Op::and_, a, constant(inst.type, ~k));
    case Op::and_:
      if (k == 0) return replace(b);
      if ((mask_low(significant_bits(a)) & ones & ~k) == 0) return replace(a);
      if (is_op(a, Op::and_) && is_const(def(a).args[1], inner))
        return become(inst, Op::and_, def(a).args[0], constant(inst.type, k & inner));
      if (const Value part = written_part(a, static_cast<u64>(std::countr_zero(k)), 64 - static_cast<u64>(std::countl_zero(k)));
          part != kNoValue)
        return become(inst, Op::and_, part, b);
      break;
    case Op::or_:
      if (k == 0) return replace(a);
      if (k == ones) return replace(b);
      break;
    case Op::xor_:
      if (k == 0) return replace(a);
      if (k == ones) return become(inst, Op::not_, a);
      break;
    default: break;
  }
  return Step::Keep;
}

Rewriter::Step Rewriter::simplify_shift(Inst& inst, Value& result) {
  const Value a = inst.args[0], b = inst.args[1];
  const unsigned width = type_bits(inst.type);
  if (inst.op == Op::extr_) {
    if (inst.imm == 0) {
      result = b;
      return Step::Replaced;
    }
    if (a == b) return become(inst, Op::rotr_, a, constant(inst.type, inst.imm));
    return Step::Keep;
  }
  u64 k;
  if (!is_const(b, k)) {
    // The count is taken modulo n anyway.
    if (is_op(b, Op::and_) && is_const(def(b).args[1], k) && (k & (width - 1)) == width - 1)
      return become(inst, inst.op, a, def(b).args[0]);
    return Step::Keep;
  }
  if ((k & (width - 1)) == 0) {
    result = a;
    return Step::Replaced;
  }
  if (k >= width) return become(inst, inst.op, a, constant(inst.type, k & (width - 1)));
  if (inst.op == Op::lshr_ && k >= significant_bits(a)) {
    result = constant(inst.type, 0);
    return Step::Replaced;
  }
  return Step::Keep;
}

Rewriter::Step Rewriter::simplify_extension(Inst& inst, Value& result) {
  const Value a = inst.args[0];
  const Inst& d = def(a);
  const auto replace = [&](Value v) {
    result = v;
    return Step::Replaced;
  };
  switch (inst.op) {
    case Op::zext_:
      if (d.op == Op::zext_) return become(inst, Op::zext_, d.args[0]);
      // The upper bits that the truncation cut off were zero.
      if (d.op == Op::trunc_ && type_of(d.args[0]) == inst.type && significant_bits(d.args[0]) <= type_bits(d.type))
        return replace(d.args[0]);
      break;
    case Op::sext_:
      if (d.op == Op::sext_) return become(inst, Op::sext_, d.args[0]);
      if (d.op == Op::zext_) return become(inst, Op::zext_, d.args[0]);
      break;
    default:  // trunc
      if (d.op == Op::trunc_) return become(inst, Op::trunc_, d.args[0]);
      if (d.op == Op::zext_ || d.op == Op::sext_) {
        const Type from = type_of(d.args[0]);
        if (from == inst.type) return replace(d.args[0]);
        return become(inst, type_bits(from) > type_bits(inst.type) ? Op::trunc_ : d.op, d.args[0]);
      }
  }
  return Step::Keep;
}

/// A register of which a part was written, asked for bits lsb up to `end`: the value that has them in the same place, if it is
/// not needed whole. kNoValue: it is.
Value Rewriter::written_part(Value a, u64 lsb, u64 end) {
  const Inst& d = def(a);
  if (d.op == Op::bfi_) {
    if (d.imm == 0 && end <= d.imm2) return d.args[1];
    return end <= d.imm || lsb >= d.imm + d.imm2 ? d.args[0] : kNoValue;
  }
  if (d.op != Op::trunc_ || end > type_bits(d.type)) return kNoValue;
  const Value whole = d.args[0];
  const Value part = def(whole).op == Op::bfi_ ? written_part(whole, lsb, end) : kNoValue;
  return part == kNoValue ? kNoValue : make(Op::trunc_, def(a).type, part);
}

Rewriter::Step Rewriter::simplify_field(Inst& inst, Value& result) {
  const Value a = inst.args[0];
  const unsigned width = type_bits(inst.type);
  const auto replace = [&](Value v) {
    result = v;
    return Step::Replaced;
  };
  if (inst.imm2 >= width) return replace(inst.op == Op::bfi_ ? inst.args[1] : a);
  if (inst.op == Op::bfi_) return Step::Keep;
  const u64 end = inst.imm + inst.imm2;
  if (const Value part = written_part(a, inst.imm, end); part != kNoValue)
    return become(inst, inst.op, part, kNoValue, inst.imm, inst.imm2);
  if (inst.op == Op::sbfx_) {
    if (end == width) return become(inst, Op::ashr_, a, constant(inst.type, inst.imm));
    if (inst.imm == 0 && significant_bits(a) < inst.imm2) return replace(a);  // the sign is zero
    const Inst& d = def(a);
    if ((d.op == Op::ubfx_ || d.op == Op::sbfx_) && end <= d.imm2)
      return become(inst, Op::sbfx_, d.args[0], kNoValue, d.imm + inst.imm, inst.imm2);
    if (inst.imm != 0) return Step::Keep;
    if (d.op == Op::sbfx_) return replace(a);  // it is no wider
    if (d.op == Op::load_)
      if (const MemOp m = MemOp::unpack(d.aux); m.sign_extend && width_bits(m.width) <= inst.imm2) return replace(a);
    u64 kept;
    if (d.op == Op::and_ && is_const(d.args[1], kept) && (~kept & mask_low(static_cast<unsigned>(inst.imm2))) == 0)
      return become(inst, Op::sbfx_, d.args[0], kNoValue, 0, inst.imm2);
    return Step::Keep;
  }
  const unsigned significant = significant_bits(a);
  if (inst.imm >= significant) return replace(constant(inst.type, 0));
  if (inst.imm + inst.imm2 >= significant) {
    if (inst.imm == 0) return replace(a);
    return become(inst, Op::lshr_, a, constant(inst.type, inst.imm));
  }
  const Inst& d = def(a);
  u64 k;
  if (d.op == Op::ubfx_)  // the outer field ends inside the inner one, or the rule above had taken it
    return become(inst, Op::ubfx_, d.args[0], kNoValue, d.imm + inst.imm, inst.imm2);
  if (d.op == Op::lshr_ && is_const(d.args[1], k))
    return become(inst, Op::ubfx_, d.args[0], kNoValue, (k & (width - 1)) + inst.imm, inst.imm2);
  return Step::Keep;
}

Rewriter::Step Rewriter::simplify_select(Inst& inst, Value& result) {
  const Value c = inst.args[0], a = inst.args[1], b = inst.args[2];
  u64 k;
  if (is_const(c, k) || a == b) {
    result = a == b || (k & 1) != 0 ? a : b;
    return Step::Replaced;
  }
  if (is_op(c, Op::not_)) {
    inst.args = {def(c).args[0], b, a, kNoValue};
    return Step::Again;
  }
  if (inst.type != Type::I1) return Step::Keep;
  if (u64 other; is_const(a, k) && is_const(b, other)) {
    if (((k ^ other) & 1) != 0 && (k & 1) == 0) return become(inst, Op::not_, c);  // false : true
    result = ((k ^ other) & 1) != 0 ? c : a;                                       // equal constants may be two values
    return Step::Replaced;
  }
  if (is_const(a, k)) return (k & 1) ? become(inst, Op::or_, c, b) : become(inst, Op::and_, logical_not(c), b);
  if (is_const(b, k)) return (k & 1) ? become(inst, Op::or_, logical_not(c), a) : become(inst, Op::and_, c, a);
  return Step::Keep;
}

Rewriter::Step Rewriter::simplify_compare(Inst& inst, Value& result) {
  const Value a = inst.args[0], b = inst.args[1];
  const Type type = type_of(a);
  const auto answer = [&](bool yes) {
    result = constant(Type::I1, yes);
    return Step::Replaced;
  };
  if (a == b) return answer(inst.op == Op::icmp_eq_ || inst.op == Op::icmp_ule_ || inst.op == Op::icmp_sle_);
  u64 k, inner;
  if (!is_const(b, k)) return Step::Keep;
  const Inst& d = def(a);
  const bool equality = inst.op == Op::icmp_eq_ || inst.op == Op::icmp_ne_;
  if (equality) {
    if (d.op == Op::add_ && is_const(d.args[1], inner)) return become(inst, inst.op, d.args[0], constant(type, k - inner));
    if (d.op == Op::zext_) {
      const Type from = type_of(d.args[0]);
      if (k > mask_low(type_bits(from))) return answer(inst.op == Op::icmp_ne_);
      if (from != Type::I1) return become(inst, inst.op, d.args[0], constant(from, k));
      if ((k == 1) == (inst.op == Op::icmp_eq_)) {
        result = d.args[0];
        return Step::Replaced;
      }
      return become(inst, Op::not_, d.args[0]);
    }
    return Step::Keep;
  }
  const u64 ones = mask_low(type_bits(type));
  if (inst.op == Op::icmp_ult_) {
    if (k == 0) return answer(false);
    if (k == 1) return become(inst, Op::icmp_eq_, a, constant(type, 0));
  } else if (inst.op == Op::icmp_ule_) {
    if (k == ones) return answer(true);
    if (k == 0) return become(inst, Op::icmp_eq_, a, b);
  }
  return Step::Keep;
}

Rewriter::Step Rewriter::simplify_vector(Inst& inst, Value& result) {
  const Value a = inst.args[0], b = inst.args[1];
  const auto replace = [&](Value v) {
    result = v;
    return Step::Replaced;
  };
  switch (inst.op) {
    case Op::v_low64_:
      if (is_op(a, Op::v_low64_) || is_op(a, Op::f_to_v_) || is_op(a, Op::v_narrow_) || is_op(a, Op::v_fnarrow_))
        return replace(a);
      break;
    case Op::v_and_:
    case Op::v_or_:
      if (a == b) return replace(a);
      break;
    case Op::v_xor_:
      if (a == b) return replace(make(Op::vconst_, Type::V128, kNoValue));
      break;
    case Op::v_extract_:
      if (inst.imm != 0) break;
      if (is_op(a, Op::v_low64_)) return become(inst, Op::v_extract_, def(a).args[0]);
      if (is_op(a, Op::f_to_v_)) {
        const Value f = def(a).args[0];
        if (type_bits(type_of(f)) != 8u << inst.lane || type_bits(inst.type) != 8u << inst.lane) break;
        inst.lane = 0;
        return become(inst, Op::bitcast_, f);
      }
      break;
    default: break;
  }
  return Step::Keep;
}

/// Moves a constant part of the address into the displacement. Only for 64-bit sums: a narrower one wraps, and is
/// zero-extended.
void Rewriter::fold_address(Inst& inst) const {
  u64 k;
  while (is_op(inst.args[0], Op::add_) && is_const(def(inst.args[0]).args[1], k) && fits_s32(inst.imm + k)) {
    inst.imm += k;
    inst.args[0] = def(inst.args[0]).args[0];
  }
}

void Rewriter::fold_exit(Inst& inst) {
  u64 k;
  const auto jump = [&](GuestAddr to) {
    inst.op = Op::exit_jump_;
    inst.args[0] = kNoValue;
    inst.imm = to;
  };
  if (inst.op == Op::exit_indirect_) {
    // A direct jump stays in the block's mode.
    if (static_cast<ExitHint>(inst.lane) != ExitHint::NewMode && is_const(inst.args[0], k)) jump(k);
  } else if (inst.op == Op::exit_branch_) {
    if (is_op(inst.args[0], Op::not_)) {
      inst.args[0] = def(inst.args[0]).args[0];
      std::swap(inst.imm, inst.imm2);
    }
    if (is_const(inst.args[0], k) || inst.imm == inst.imm2) {
      jump(inst.imm == inst.imm2 || (k & 1) != 0 ? inst.imm : inst.imm2);
      inst.imm2 = 0;
      inst.lane = 0;
    }
  }
}

}  // namespace kiln::ir
