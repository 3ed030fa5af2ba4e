// lower_flags: what ir/flags.h promises. A flags value is not an instruction here but a FlagsDef; instructions come into being
// where a condition, an image or the record in the state is asked for.
#include "ir/flags.h"
#include "ir/passes/rewriter.h"
#include "ir/semantics.h"

namespace kiln::ir {
namespace {

bool is_negated(Cond cond) { return (static_cast<unsigned>(cond) & 1) != 0; }
Cond inverse(Cond cond) { return static_cast<Cond>(static_cast<unsigned>(cond) ^ 1); }

/// Operands whose difference (sum) has exactly the given flags. False if there are none: Z comes only with C and without V, …
struct Operands {
  u64 a, b;
};
bool operands_of_difference(u32 nzcv, unsigned bits, Operands& out) {
  const u64 least = u64{1} << (bits - 1), ones = mask_low(bits);
  switch (nzcv) {
    case 0: out = {0, least + 1}; return true;
    case kC: out = {1, 0}; return true;
    case kZ | kC: out = {0, 0}; return true;
    case kN: out = {0, 1}; return true;
    case kN | kC: out = {ones, 0}; return true;
    case kC | kV: out = {least, 1}; return true;
    case kN | kV: out = {least - 1, ones}; return true;
    default: return false;
  }
}
bool operands_of_sum(u32 nzcv, unsigned bits, Operands& out) {
  const u64 least = u64{1} << (bits - 1), ones = mask_low(bits);
  switch (nzcv) {
    case 0: out = {1, 0}; return true;
    case kZ: out = {0, 0}; return true;
    case kC: out = {ones, 2}; return true;
    case kZ | kC: out = {1, ones}; return true;
    case kN: out = {ones, 0}; return true;
    case kN | kC: out = {ones, ones}; return true;
    case kZ | kC | kV: out = {least, least}; return true;
    case kC | kV: out = {least, ones}; return true;
    case kN | kV: out = {least - 1, 1}; return true;
    default: return false;
  }
}

}  // namespace

u32 Rewriter::define_flags(const Inst& inst) {
  FlagsDef d;
  d.op = inst.op;
  d.lane = inst.lane;
  d.aux = inst.aux;
  d.args = {inst.args[0], inst.args[1], inst.args[2]};
  u64 k;
  switch (inst.op) {
    case Op::flags_add_: {
      if (is_const(d.args[0])) std::swap(d.args[0], d.args[1]);
      // a + k and a - (-k) agree in all four flags, but for k = 0 (carry) and k = MIN (overflow).
      const Type type = type_of(d.args[1]);
      const u64 least = u64{1} << (type_bits(type) - 1);
      if (!is_const(d.args[1], k) || k == least) break;
      if (k == 0) {
        d.op = Op::flags_logic_;
        d.args[1] = kNoValue;
      } else {
        d.op = Op::flags_sub_;
        d.args[1] = constant(type, 0 - k);
      }
      break;
    }
    case Op::flags_fcmp_:
      // Made at once and whether used or not, for the exception bits; the record in the state mostly wants it anyway.
      d.args[2] = make(Op::nzcv_fcmp_, Type::I32, d.args[0], d.args[1], kNoValue, 0, 0, d.aux);
      break;
    case Op::flags_select_:
      if (is_const(d.args[0], k)) return d.args[k & 1 ? 1 : 2];
      if (d.args[1] == d.args[2]) return d.args[1];
      break;
    case Op::eflags_add_:
    case Op::eflags_sub_:
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_:
    case Op::eflags_result_:
    case Op::eflags_fcmp_: define_eflags(d); break;
    default: break;
  }
  flags_.push_back(d);
  return static_cast<u32>(flags_.size() - 1);
}

Value Rewriter::cond_of_sub(const FlagsDef& d, Cond cond) {
  const Value a = d.args[0], b = d.args[1];
  const Type type = type_of(a);
  const auto compare = [&](Op op) { return make(op, Type::I1, a, b); };
  switch (cond) {
    case Cond::Eq: return compare(Op::icmp_eq_);
    case Cond::Cs:
    case Cond::Be: return logical_not(compare(Op::icmp_ult_));  // C || Z is C when C means "no borrow"
    case Cond::Mi: return make(Op::icmp_slt_, Type::I1, make(Op::sub_, type, a, b), constant(type, 0));
    case Cond::Vs: {
      const Value r = make(Op::sub_, type, a, b);
      const Value sign = make(Op::and_, type, make(Op::xor_, type, a, b), make(Op::xor_, type, a, r));
      return make(Op::icmp_slt_, Type::I1, sign, constant(type, 0));
    }
    case Cond::Hi: return logical_not(compare(Op::icmp_ule_));
    case Cond::Ge: return logical_not(compare(Op::icmp_slt_));
    default: return logical_not(compare(Op::icmp_sle_));  // Gt
  }
}

Value Rewriter::cond_of_add(const FlagsDef& d, Cond cond) {
  const Value a = d.args[0], b = d.args[1];
  const Type type = type_of(a);
  const Value r = make(Op::add_, type, a, b), zero = constant(type, 0);
  const auto overflow = [&] { return make(Op::and_, type, make(Op::xor_, type, a, r), make(Op::xor_, type, b, r)); };
  const auto carry = [&] { return make(Op::icmp_ult_, Type::I1, r, a); };
  // N xor V: the sign of the sum before it was cut to the type.
  const auto less = [&] { return make(Op::icmp_slt_, Type::I1, make(Op::xor_, type, overflow(), r), zero); };
  switch (cond) {
    case Cond::Eq: return make(Op::icmp_eq_, Type::I1, r, zero);
    case Cond::Cs: return carry();
    case Cond::Mi: return make(Op::icmp_slt_, Type::I1, r, zero);
    case Cond::Vs: return make(Op::icmp_slt_, Type::I1, overflow(), zero);
    case Cond::Hi: return make(Op::and_, Type::I1, carry(), make(Op::icmp_ne_, Type::I1, r, zero));
    case Cond::Ge: return logical_not(less());
    case Cond::Be: return make(Op::or_, Type::I1, carry(), make(Op::icmp_eq_, Type::I1, r, zero));
    default: return make(Op::and_, Type::I1, make(Op::icmp_ne_, Type::I1, r, zero), logical_not(less()));  // Gt
  }
}

Value Rewriter::cond_of_logic(const FlagsDef& d, Cond cond) {
  const Value a = d.args[0], zero = constant(type_of(a), 0);
  switch (cond) {
    case Cond::Eq:
    case Cond::Be: return make(Op::icmp_eq_, Type::I1, a, zero);
    case Cond::Mi: return make(Op::icmp_slt_, Type::I1, a, zero);
    case Cond::Cs:
    case Cond::Vs:
    case Cond::Hi: return constant(Type::I1, 0);
    case Cond::Ge: return logical_not(make(Op::icmp_slt_, Type::I1, a, zero));
    default: return logical_not(make(Op::icmp_sle_, Type::I1, a, zero));  // Gt
  }
}

Value Rewriter::cond_of_image(Value image, Cond cond) {
  const auto bits = [&](u32 mask) { return make(Op::and_, Type::I32, image, constant(Type::I32, mask)); };
  const auto any = [&](u32 mask) { return make(Op::icmp_ne_, Type::I1, bits(mask), constant(Type::I32, 0)); };
  const auto negative = [&](Value v) { return make(Op::icmp_slt_, Type::I1, v, constant(Type::I32, 0)); };
  // N xor V, in bit 31.
  const auto less = [&] {
    return negative(make(Op::xor_, Type::I32, image, make(Op::shl_, Type::I32, image, constant(Type::I32, 3))));
  };
  switch (cond) {
    case Cond::Eq: return bit_of(image, 30);
    case Cond::Cs: return bit_of(image, 29);
    case Cond::Mi: return bit_of(image, 31);
    case Cond::Vs: return bit_of(image, 28);
    case Cond::Hi: return make(Op::icmp_eq_, Type::I1, bits(kC | kZ), constant(Type::I32, kC));
    case Cond::Ge: return logical_not(less());
    case Cond::Be: return any(kC | kZ);
    case Cond::Pe: return bit_of(image, 2);
    default: return make(Op::and_, Type::I1, logical_not(bit_of(image, 30)), logical_not(less()));  // Gt
  }
}

Value Rewriter::cond_of_fcmp(const FlagsDef& d, Cond cond) {
  const Value a = d.args[0], b = d.args[1];
  const auto compare = [&](Op op, Value x, Value y) { return make(op, Type::I1, x, y, kNoValue, 0, 0, d.aux); };
  switch (cond) {
    case Cond::Eq: return compare(Op::fcmp_eq_, a, b);
    case Cond::Mi: return compare(Op::fcmp_lt_, a, b);
    case Cond::Cs:  // greater, equal or unordered
    case Cond::Be: return logical_not(compare(Op::fcmp_lt_, a, b));
    case Cond::Vs: return compare(Op::fcmp_unord_, a, b);
    case Cond::Hi: return logical_not(compare(Op::fcmp_le_, a, b));
    case Cond::Ge: return compare(Op::fcmp_le_, b, a);
    default: return compare(Op::fcmp_lt_, b, a);  // Gt
  }
}

Value Rewriter::lower_cond(u32 flags, Cond cond, unsigned depth) {
  // 15 is a second "always" on A64.
  if (cond == Cond::Al || cond == static_cast<Cond>(15)) return constant(Type::I1, 1);
  const FlagsDef d = flags_[flags];
  if (d.op == Op::get_flags_ && d.epoch == flags_epoch_)
    return make(Op::cond_, Type::I1, d.args[0], kNoValue, kNoValue, 0, 0, static_cast<u32>(cond));
  if (d.op == Op::flags_select_ && depth < 3) {
    const Value yes = lower_cond(d.args[1], cond, depth + 1), no = lower_cond(d.args[2], cond, depth + 1);
    return make(Op::select_, Type::I1, d.args[0], yes, no);
  }
  const bool arm = d.op >= Op::flags_add_ && d.op <= Op::flags_logic_;
  if (cond == Cond::Pe && (arm || d.op == Op::flags_fcmp_)) return constant(Type::I1, 0);
  if (is_negated(cond)) return logical_not(lower_cond(flags, inverse(cond), depth));
  switch (d.op) {
    case Op::flags_sub_: return cond_of_sub(d, cond);
    case Op::flags_add_: return cond_of_add(d, cond);
    case Op::flags_logic_: return cond_of_logic(d, cond);
    case Op::flags_image_: return cond_of_image(d.args[0], cond);
    case Op::flags_fcmp_: return cond_of_fcmp(d, cond);
    case Op::flags_select_: return cond_of_image(image_of(flags), cond);
    case Op::eflags_add_:
    case Op::eflags_sub_:
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_:
    case Op::eflags_result_:
    case Op::eflags_fcmp_: return cond_of_eflags(d, cond);
    case Op::flags_adc_:
      if (cond == Cond::Eq || cond == Cond::Mi) {
        // As a lifter writes the sum itself, so that the two are one instruction.
        const Type type = type_of(d.args[0]);
        const Value sum = make(Op::add_, type, make(Op::add_, type, d.args[0], d.args[1]), make(Op::zext_, type, d.args[2]));
        return make(cond == Cond::Eq ? Op::icmp_eq_ : Op::icmp_slt_, Type::I1, sum, constant(type, 0));
      }
      return cond_of_image(image_of(flags), cond);
    default: return cond_of_image(d.args[1], cond);  // get_flags that the state no longer holds
  }
}

/// Bits outside kImageBits are zero, but of an image or a selection of images.
Value Rewriter::image_of(u32 flags) {
  if (flags_[flags].image != kNoValue) return flags_[flags].image;
  const FlagsDef d = flags_[flags];
  Value image;
  switch (d.op) {
    case Op::flags_sub_: image = make(Op::nzcv_sub_, Type::I32, d.args[0], d.args[1]); break;
    case Op::flags_add_: image = make(Op::nzcv_add_, Type::I32, d.args[0], d.args[1]); break;
    case Op::flags_logic_: image = make(Op::nzcv_add_, Type::I32, d.args[0], constant(type_of(d.args[0]), 0)); break;
    case Op::flags_image_: image = d.args[0]; break;
    case Op::flags_adc_: image = make(Op::nzcv_adc_, Type::I32, d.args[0], d.args[1], d.args[2]); break;
    case Op::flags_fcmp_: image = d.args[2]; break;
    case Op::flags_select_: {
      const Value yes = image_of(d.args[1]), no = image_of(d.args[2]);
      image = make(Op::select_, Type::I32, d.args[0], yes, no);
      break;
    }
    case Op::eflags_add_:
    case Op::eflags_sub_:
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_:
    case Op::eflags_result_:
    case Op::eflags_fcmp_: image = image_of_eflags(d); break;
    default: image = d.args[1];  // get_flags
  }
  return flags_[flags].image = image;
}

/// A conditional compare (select of a difference and a constant image, or of two differences) as one difference of selected
/// operands: two selects are cheaper than an image, and conditions on it stay compares.
bool Rewriter::selected_operands(const FlagsDef& select, FlagsDef& merged) {
  const FlagsDef& yes = flags_[select.args[1]];
  const FlagsDef& no = flags_[select.args[2]];
  const auto merge = [&](Op op, Type type, Value yes_a, Value yes_b, Value no_a, Value no_b) {
    merged.op = op;
    merged.args[0] = make(Op::select_, type, select.args[0], yes_a, no_a);
    merged.args[1] = make(Op::select_, type, select.args[0], yes_b, no_b);
    return true;
  };
  if (yes.op == Op::flags_sub_ && no.op == Op::flags_sub_ && type_of(yes.args[0]) == type_of(no.args[0]))
    return merge(Op::flags_sub_, type_of(yes.args[0]), yes.args[0], yes.args[1], no.args[0], no.args[1]);
  const bool image_second = yes.op == Op::flags_sub_;
  const FlagsDef difference = image_second ? yes : no;
  const FlagsDef image = image_second ? no : yes;
  u64 k;
  if (difference.op != Op::flags_sub_ || image.op != Op::flags_image_ || !is_const(image.args[0], k)) return false;
  if ((k & (kImageBits & ~kNzcv)) != 0) return false;  // no ARM kind has P or A
  const Type type = type_of(difference.args[0]);
  const u32 nzcv = static_cast<u32>(k) & kNzcv;
  Op op = Op::flags_sub_;
  Value b = difference.args[1];
  Operands operands{};
  if (!operands_of_difference(nzcv, type_bits(type), operands)) {
    // Z without C (the usual second operand of "a == x || a == y"): as a sum it exists, and a - k is a + (-k).
    if (!is_const(b, k) || k == 0 || k == u64{1} << (type_bits(type) - 1)) return false;
    if (!operands_of_sum(nzcv, type_bits(type), operands)) return false;
    op = Op::flags_add_;
    b = constant(type, 0 - k);
  }
  const Value image_a = constant(type, operands.a), image_b = constant(type, operands.b);
  return image_second ? merge(op, type, difference.args[0], b, image_a, image_b)
                      : merge(op, type, image_a, image_b, difference.args[0], b);
}

Value Rewriter::read_slot(u64 offset, Type type) {
  if (offset / 4 >= slots_.size()) slots_.resize(offset / 4 + 64);
  Known& known = slots_[offset / 4];
  const bool forward = (parts_ & kForwardSlots) != 0;
  if (forward && known.generation == slot_generation_ && type_of(known.value) == type) return known.value;
  Inst inst;
  inst.op = Op::get_reg_;
  inst.type = type;
  inst.imm = offset;
  known.generation = slot_generation_;
  return known.value = push(inst);
}
void Rewriter::write_slot(u64 offset, Value value) {
  if (offset / 4 >= slots_.size()) slots_.resize(offset / 4 + 64);
  Inst inst;
  inst.op = Op::set_reg_;
  inst.args[0] = value;
  inst.imm = offset;
  push(inst);
  slots_[offset / 4] = {slot_generation_, value};
}

/// What a record of these flags is in the state. Of what makes no record: its image; of what the state holds: that.
Rewriter::RecordParts Rewriter::parts_of(u32 flags) {
  const FlagsDef d = flags_[flags];
  const auto widened = [&](Value v) {
    if (v == kNoValue) return constant(Type::I64, 0);
    return type_of(v) == Type::I64 ? v : make(Op::zext_, Type::I64, v);
  };
  if (makes_record(d.op)) {
    Inst maker;
    maker.op = d.op;
    maker.lane = d.lane;
    const FlagsKind kind = kind_made_by(maker, type_of(d.args[0]));
    return {constant(Type::I32, static_cast<u32>(kind)), widened(d.args[0]), widened(d.args[1])};
  }
  if (flags == known_flags_)
    return {read_slot(offsetof(CpuState, flags_kind), Type::I32), read_slot(offsetof(CpuState, flags_a), Type::I64),
            read_slot(offsetof(CpuState, flags_b), Type::I64)};
  return {constant(Type::I32, static_cast<u32>(FlagsKind::Image)), widened(image_of(flags)), constant(Type::I64, 0)};
}

/// Flags that stay as they are in one case (x86's shifts by a variable count): three selects of the record's parts instead of
/// the image of what the state holds, whose kind may be unknown.
bool Rewriter::store_selected(u32 flags) {
  const FlagsDef d = flags_[flags];
  if (d.op != Op::flags_select_ || known_flags_ == kNoValue) return false;
  if (d.args[1] != known_flags_ && d.args[2] != known_flags_) return false;
  const RecordParts yes = parts_of(d.args[1]), no = parts_of(d.args[2]);
  const Value kind = make(Op::select_, Type::I32, d.args[0], yes.kind, no.kind);
  const Value a = make(Op::select_, Type::I64, d.args[0], yes.a, no.a);
  const Value b = make(Op::select_, Type::I64, d.args[0], yes.b, no.b);
  write_slot(offsetof(CpuState, flags_kind), kind);
  write_slot(offsetof(CpuState, flags_a), a);
  write_slot(offsetof(CpuState, flags_b), b);
  ++flags_epoch_;
  known_flags_ = flags;
  return true;
}

void Rewriter::store_flags(u32 flags) {
  if (known_flags_ == flags) return;  // the state holds it already
  if (store_selected(flags)) return;
  FlagsDef d = flags_[flags];
  FlagsDef merged;
  if (d.op == Op::flags_select_ && selected_operands(d, merged)) d = merged;
  if (!makes_record(d.op)) {
    d.args = {image_of(flags), kNoValue, kNoValue};
    d.op = Op::flags_image_;
    d.lane = 0;
  }
  Inst maker;
  maker.op = d.op;
  maker.type = Type::Flags;
  maker.lane = d.lane;
  maker.args = {d.args[0], d.args[1], kNoValue, kNoValue};
  Inst store;
  store.op = Op::set_flags_;
  store.args[0] = push(maker);
  push(store);
  for (const std::size_t offset : {offsetof(CpuState, flags_kind), offsetof(CpuState, flags_a), offsetof(CpuState, flags_b)})
    if (offset / 4 < slots_.size()) slots_[offset / 4].generation = 0;
  ++flags_epoch_;
  known_flags_ = flags;
}

void Rewriter::handle_flags(Value index, Inst& inst) {
  const bool forward = (parts_ & kForwardSlots) != 0;
  if ((parts_ & kLowerFlags) == 0) {
    if (inst.op == Op::get_flags_ && forward && known_flags_ != kNoValue) {
      map_[index] = known_flags_;
      return;
    }
    if (inst.op == Op::set_flags_ && forward && known_flags_ == inst.args[0]) return;
    map_[index] = push(inst);
    if (inst.op == Op::get_flags_) known_flags_ = map_[index];
    if (inst.op == Op::set_flags_) known_flags_ = inst.args[0];
    return;
  }
  switch (inst.op) {
    case Op::get_flags_: {
      if (forward && known_flags_ != kNoValue) {
        map_[index] = known_flags_;
        return;
      }
      FlagsDef d;
      d.op = Op::get_flags_;
      d.args[0] = push(inst);
      // Taken now, in case it is asked for after the state has changed; drop_dead() removes it otherwise.
      d.args[1] = make(Op::flags_value_, Type::I32, d.args[0]);
      d.epoch = flags_epoch_;
      flags_.push_back(d);
      map_[index] = known_flags_ = static_cast<u32>(flags_.size() - 1);
      return;
    }
    case Op::set_flags_: store_flags(inst.args[0]); return;
    case Op::cond_: map_[index] = lower_cond(inst.args[0], static_cast<Cond>(inst.aux)); return;
    case Op::flags_value_: {
      const FlagsDef& d = flags_[inst.args[0]];
      const Value image = image_of(inst.args[0]);
      const bool clean = d.op != Op::flags_image_ && d.op != Op::flags_select_;
      map_[index] = clean ? image : make(Op::and_, Type::I32, image, constant(Type::I32, kImageBits));
      return;
    }
    default: map_[index] = define_flags(inst);
  }
}

}  // namespace kiln::ir
