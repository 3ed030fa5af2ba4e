// lower_flags for x86's makers: conditions as plain compares of the operands, cut to the operation's width.
#include "ir/flags.h"
#include "ir/passes/rewriter.h"
#include "ir/semantics.h"

namespace kiln::ir {
namespace {
bool is_narrow(Width width) { return width < Width::B4; }
}  // namespace

Value Rewriter::make_lane(Op op, Type type, Width lane, Value a, Value b) {
  Inst inst;
  inst.op = op;
  inst.type = type;
  inst.lane = static_cast<u8>(lane);
  inst.args = {a, b, kNoValue, kNoValue};
  return emit(inst);
}
Value Rewriter::low_bits(Value a, Width width, bool sign_extend) {
  if (!is_narrow(width)) return a;
  return make(sign_extend ? Op::sbfx_ : Op::ubfx_, type_of(a), a, kNoValue, kNoValue, 0, width_bits(width));
}
Value Rewriter::top_bit(Value a, Width width) {
  const Type type = type_of(a);
  if (!is_narrow(width)) return make(Op::icmp_slt_, Type::I1, a, constant(type, 0));
  const Value bit = make(Op::and_, type, a, constant(type, u64{1} << (width_bits(width) - 1)));
  return make(Op::icmp_ne_, Type::I1, bit, constant(type, 0));
}
Value Rewriter::is_zero(Value a, Width width) {
  const Type type = type_of(a);
  if (is_narrow(width)) a = make(Op::and_, type, a, constant(type, mask_low(width_bits(width))));
  return make(Op::icmp_eq_, Type::I1, a, constant(type, 0));
}
Value Rewriter::even_parity(Value a) {
  const Type type = type_of(a);
  const Value ones = make(Op::popcnt_, type, make(Op::and_, type, a, constant(type, 0xff)));
  return make(Op::icmp_eq_, Type::I1, make(Op::and_, type, ones, constant(type, 1)), constant(type, 0));
}

/// Where a bit comes from. Images are put together from shifted conditions and bits of sums (a carry kept by INC, the carry out
/// of an ADC), and who asks for one bit wants the condition back, or the bit where it was first.
Rewriter::BitSource Rewriter::source_of_bit(BitSource from, unsigned depth) const {
  const Inst& d = def(from.value);
  u64 k;
  const auto constant_bit = [&](bool set) { return BitSource{kNoValue, set ? 1u : 0u}; };
  const auto go = [&](Value v, u64 bit) { return source_of_bit({v, static_cast<unsigned>(bit)}, depth + 1); };
  if (is_const(from.value, k)) return constant_bit((k >> from.bit & 1) != 0);
  if (from.bit >= type_bits(d.type)) return constant_bit(false);
  if (d.type == Type::I1 || depth > 8) return from;
  switch (d.op) {
    case Op::zext_:
    case Op::trunc_: return go(d.args[0], from.bit);
    case Op::and_:
      if (!is_const(d.args[1], k)) return from;
      return (k >> from.bit & 1) != 0 ? go(d.args[0], from.bit) : constant_bit(false);
    case Op::or_: {
      const BitSource left = go(d.args[0], from.bit), right = go(d.args[1], from.bit);
      if (left.value == kNoValue) return left.bit != 0 ? left : right;
      if (right.value == kNoValue) return right.bit != 0 ? right : left;
      return from;
    }
    case Op::shl_:
      if (!is_const(d.args[1], k)) return from;
      return from.bit < k ? constant_bit(false) : go(d.args[0], from.bit - k);
    case Op::lshr_: return is_const(d.args[1], k) ? go(d.args[0], from.bit + k) : from;
    case Op::ubfx_: return from.bit >= d.imm2 ? constant_bit(false) : go(d.args[0], from.bit + d.imm);
    case Op::bfi_: {
      const bool inserted = from.bit >= d.imm && from.bit < d.imm + d.imm2;
      return inserted ? go(d.args[1], from.bit - d.imm) : go(d.args[0], from.bit);
    }
    default: return from;
  }
}
Value Rewriter::bit_of(Value v, unsigned bit) {
  const BitSource source = source_of_bit({v, bit}, 0);
  if (source.value == kNoValue) return constant(Type::I1, source.bit);
  const Type type = type_of(source.value);
  if (type == Type::I1) return source.value;
  if (source.bit == type_bits(type) - 1) return make(Op::icmp_slt_, Type::I1, source.value, constant(type, 0));
  const Value alone = make(Op::and_, type, source.value, constant(type, u64{1} << source.bit));
  return make(Op::icmp_ne_, Type::I1, alone, constant(type, 0));
}

void Rewriter::define_eflags(FlagsDef& d) {
  u64 k;
  switch (d.op) {
    case Op::eflags_add_:
      if (is_const(d.args[0])) std::swap(d.args[0], d.args[1]);
      break;
    case Op::eflags_fcmp_:
      // At once, used or not, as flags_fcmp.
      d.args[2] = make(Op::eimage_fcmp_, Type::I32, d.args[0], d.args[1], kNoValue, 0, 0, d.aux);
      return;
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_: return;
    default: break;
  }
  // Nothing added, nothing taken away, no bits given: C, V and A are zero.
  u64 counts = mask_low(width_bits(static_cast<Width>(d.lane)));
  if (d.op == Op::eflags_result_) counts = kC | kV | kA;
  if (!is_const(d.args[1], k) || (k & counts) != 0) return;
  d.op = Op::eflags_logic_;
  d.args[1] = kNoValue;
}

Value Rewriter::cond_of_esub(const FlagsDef& d, Cond cond) {
  const Width width = static_cast<Width>(d.lane);
  const Value a = d.args[0], b = d.args[1];
  const Type type = type_of(a);
  const auto difference = [&] { return make(Op::sub_, type, a, b); };
  const auto compare = [&](Op op) {
    const bool is_signed = op == Op::icmp_slt_ || op == Op::icmp_sle_;
    const Value left = low_bits(a, width, is_signed);
    return make(op, Type::I1, left, low_bits(b, width, is_signed));
  };
  switch (cond) {
    case Cond::Eq: return compare(Op::icmp_eq_);
    case Cond::Cs:
    case Cond::Hi: return compare(Op::icmp_ult_);  // C && !Z: a borrow excludes equality
    case Cond::Be: return compare(Op::icmp_ule_);
    case Cond::Mi: return top_bit(difference(), width);
    case Cond::Vs:
      return top_bit(make(Op::and_, type, make(Op::xor_, type, a, b), make(Op::xor_, type, a, difference())), width);
    case Cond::Pe: return even_parity(difference());
    case Cond::Ge: return logical_not(compare(Op::icmp_slt_));
    default: return logical_not(compare(Op::icmp_sle_));  // Gt
  }
}

Value Rewriter::cond_of_eadd(const FlagsDef& d, Cond cond) {
  const Width width = static_cast<Width>(d.lane);
  const Value a = d.args[0], b = d.args[1];
  const Type type = type_of(a);
  const Value r = make(Op::add_, type, a, b);
  const auto overflow = [&] { return make(Op::and_, type, make(Op::xor_, type, a, r), make(Op::xor_, type, b, r)); };
  const auto carry = [&] {
    if (!is_narrow(width)) return make(Op::icmp_ult_, Type::I1, r, a);
    const Value wide = make(Op::add_, type, low_bits(a, width, false), low_bits(b, width, false));
    return bit_of(wide, width_bits(width));
  };
  const auto less = [&] { return top_bit(make(Op::xor_, type, overflow(), r), width); };
  switch (cond) {
    case Cond::Eq: return is_zero(r, width);
    case Cond::Cs: return carry();
    case Cond::Mi: return top_bit(r, width);
    case Cond::Vs: return top_bit(overflow(), width);
    case Cond::Pe: return even_parity(r);
    case Cond::Hi: return make(Op::and_, Type::I1, carry(), logical_not(is_zero(r, width)));
    case Cond::Be: return make(Op::or_, Type::I1, carry(), is_zero(r, width));
    case Cond::Ge: return logical_not(less());
    default: return make(Op::and_, Type::I1, logical_not(is_zero(r, width)), logical_not(less()));  // Gt
  }
}

/// INC and DEC.
Value Rewriter::cond_of_estep(const FlagsDef& d, Cond cond) {
  const Width width = static_cast<Width>(d.lane);
  const Value r = d.args[0], carry = d.args[1];
  const Type type = type_of(r);
  const auto overflow = [&] {
    const u64 least = u64{1} << (width_bits(width) - 1);
    const Value wrapped = constant(type, d.op == Op::eflags_inc_ ? least : least - 1);
    return make(Op::icmp_eq_, Type::I1, low_bits(r, width, false), wrapped);
  };
  const auto less = [&] { return make(Op::xor_, Type::I1, top_bit(r, width), overflow()); };
  switch (cond) {
    case Cond::Eq: return is_zero(r, width);
    case Cond::Cs: return carry;
    case Cond::Mi: return top_bit(r, width);
    case Cond::Vs: return overflow();
    case Cond::Pe: return even_parity(r);
    case Cond::Hi: return make(Op::and_, Type::I1, carry, logical_not(is_zero(r, width)));
    case Cond::Be: return make(Op::or_, Type::I1, carry, is_zero(r, width));
    case Cond::Ge: return logical_not(less());
    default: return make(Op::and_, Type::I1, logical_not(is_zero(r, width)), logical_not(less()));  // Gt
  }
}

Value Rewriter::cond_of_eresult(const FlagsDef& d, Cond cond) {
  const Width width = static_cast<Width>(d.lane);
  const Value a = d.args[0], image = d.args[1];
  const auto less = [&] {
    const Value overflow = bit_of(image, 28);
    if (u64 k; is_const(overflow, k)) return k != 0 ? logical_not(top_bit(a, width)) : top_bit(a, width);
    return make(Op::xor_, Type::I1, top_bit(a, width), overflow);
  };
  switch (cond) {
    case Cond::Eq: return is_zero(a, width);
    case Cond::Cs: return bit_of(image, 29);
    case Cond::Mi: return top_bit(a, width);
    case Cond::Vs: return bit_of(image, 28);
    case Cond::Pe: return even_parity(a);
    case Cond::Hi: return make(Op::and_, Type::I1, bit_of(image, 29), logical_not(is_zero(a, width)));
    case Cond::Be: return make(Op::or_, Type::I1, bit_of(image, 29), is_zero(a, width));
    case Cond::Ge: return logical_not(less());
    default: return make(Op::and_, Type::I1, logical_not(is_zero(a, width)), logical_not(less()));  // Gt
  }
}

Value Rewriter::cond_of_efcmp(const FlagsDef& d, Cond cond) {
  const Value a = d.args[0], b = d.args[1];
  const auto compare = [&](Op op, Value x, Value y) { return make(op, Type::I1, x, y, kNoValue, 0, 0, d.aux); };
  const auto equal_or_unordered = [&] {
    return make(Op::or_, Type::I1, compare(Op::fcmp_eq_, a, b), compare(Op::fcmp_unord_, a, b));
  };
  switch (cond) {
    case Cond::Eq: return equal_or_unordered();
    case Cond::Cs: return logical_not(compare(Op::fcmp_le_, b, a));
    case Cond::Be: return logical_not(compare(Op::fcmp_lt_, b, a));
    case Cond::Hi: return compare(Op::fcmp_lt_, a, b);  // C && !Z
    case Cond::Pe: return compare(Op::fcmp_unord_, a, b);
    case Cond::Mi:
    case Cond::Vs: return constant(Type::I1, 0);
    case Cond::Ge: return constant(Type::I1, 1);
    default: return logical_not(equal_or_unordered());  // Gt
  }
}

/// `cond` is an even one, or Pe, or Be.
Value Rewriter::cond_of_eflags(const FlagsDef& d, Cond cond) {
  switch (d.op) {
    case Op::eflags_sub_: return cond_of_esub(d, cond);
    case Op::eflags_add_: return cond_of_eadd(d, cond);
    case Op::eflags_fcmp_: return cond_of_efcmp(d, cond);
    case Op::eflags_result_: return cond_of_eresult(d, cond);
    case Op::eflags_inc_:
    case Op::eflags_dec_: return cond_of_estep(d, cond);
    default: break;
  }
  // eflags_logic
  const Width width = static_cast<Width>(d.lane);
  const Value a = d.args[0];
  switch (cond) {
    case Cond::Eq:
    case Cond::Be: return is_zero(a, width);
    case Cond::Mi: return top_bit(a, width);
    case Cond::Pe: return even_parity(a);
    case Cond::Cs:
    case Cond::Vs:
    case Cond::Hi: return constant(Type::I1, 0);
    case Cond::Ge: return logical_not(top_bit(a, width));
    default: {  // Gt
      const Value whole = low_bits(a, width, true);
      return logical_not(make(Op::icmp_sle_, Type::I1, whole, constant(type_of(whole), 0)));
    }
  }
}

Value Rewriter::image_of_eflags(const FlagsDef& d) {
  const Width width = static_cast<Width>(d.lane);
  switch (d.op) {
    case Op::eflags_add_: return make_lane(Op::eimage_add_, Type::I32, width, d.args[0], d.args[1]);
    case Op::eflags_sub_: return make_lane(Op::eimage_sub_, Type::I32, width, d.args[0], d.args[1]);
    case Op::eflags_logic_: return make_lane(Op::eimage_logic_, Type::I32, width, d.args[0]);
    case Op::eflags_fcmp_: return d.args[2];
    case Op::eflags_inc_:
    case Op::eflags_dec_: {
      const bool up = d.op == Op::eflags_inc_;
      const Type type = type_of(d.args[0]);
      const Value one = constant(type, 1), before = make(up ? Op::sub_ : Op::add_, type, d.args[0], one);
      const Value stepped = make_lane(up ? Op::eimage_add_ : Op::eimage_sub_, Type::I32, width, before, one);
      const Value carry = make(Op::zext_, Type::I32, d.args[1]);
      return make(Op::bfi_, Type::I32, stepped, carry, kNoValue, 29, 1);
    }
    default: {  // eflags_result
      const Value given = make(Op::and_, Type::I32, d.args[1], constant(Type::I32, kC | kV | kA));
      return make(Op::or_, Type::I32, make_lane(Op::eimage_logic_, Type::I32, width, d.args[0]), given);
    }
  }
}

}  // namespace kiln::ir
