// verify(): the signature letters of ops.def, SSA order, operand ranges, one exit at the end.
#include "ir/block.h"

namespace kiln::ir {
namespace {

bool is_word(Type t) { return t == Type::I32 || t == Type::I64; }
bool is_scalar_float(Type t) { return t == Type::F32 || t == Type::F64; }

/// Does `type` fit the signature letter? `result` is the instruction's own type.
bool fits(char letter, Type type, Type result) {
  switch (letter) {
    case 'T': return type == result;
    case 'S': return is_int(type) || is_float(type) || type == Type::V128;
    case 'B': return type == Type::I1;
    case 'I': return is_word(type);
    case 'L': return type == Type::I64;
    case 'W': return type == Type::I32;
    case 'X': return type == Type::V128;
    case 'F': return type == Type::Flags;
    default: return false;
  }
}

class Verifier {
 public:
  explicit Verifier(const Block& block) : block_(block) {}

  std::string run() {
    if (block_.insts.empty()) return "empty block";
    for (Value v = 0; v < block_.insts.size(); ++v) {
      std::string complaint = check(v);
      if (!complaint.empty()) return print_safely(v) + ": " + complaint;
    }
    if ((op_info(block_.insts.back().op).effects & ENDS_BLOCK) == 0) return "the block does not end in an exit";
    return {};
  }

 private:
  std::string print_safely(Value v) const {
    const Inst& inst = block_.insts[v];
    return inst.op < Op::kCount && inst.more <= block_.extra_args.size() ? print(block_, v) : "%" + std::to_string(v);
  }
  Type type_of(const Inst& inst, unsigned i) const { return block_.insts[inst.args[i]].type; }

  std::string check(Value v) const {
    const Inst& inst = block_.insts[v];
    if (inst.op >= Op::kCount) return "no such op";
    if (inst.more > block_.extra_args.size()) return "extra arguments out of range";
    bool gap = false;
    for (Value arg : inst.args) {
      if (arg == kNoValue) gap = true;
      else if (gap) return "arguments with a gap";
    }
    if (inst.more && inst.op != Op::call_) return "only calls have extra arguments";
    std::string complaint;
    for_each_arg(block_, inst, [&](Value arg) {
      if (!complaint.empty()) return;
      if (arg >= v) complaint = "argument %" + std::to_string(arg) + " is not defined before";
      else if (block_.insts[arg].type == Type::Void) complaint = "argument %" + std::to_string(arg) + " has no value";
    });
    if (!complaint.empty()) return complaint;
    if ((op_info(inst.op).effects & ENDS_BLOCK) != 0 && v + 1 != block_.insts.size()) return "exit before the end of the block";
    if (inst.op == Op::call_) return check_call(inst);
    complaint = check_signature(inst);
    if (complaint.empty()) complaint = check_types(inst);
    if (complaint.empty()) complaint = check_numbers(inst);
    return complaint;
  }

  std::string check_signature(const Inst& inst) const {
    const char* s = op_info(inst.op).signature;
    const char result = *s;
    const bool result_fits = result == '-'   ? inst.type == Type::Void
                             : result == 'T' ? inst.type != Type::Void
                                             : fits(result, inst.type, inst.type);
    if (!result_fits) return std::string("result type ") + type_name(inst.type) + " does not fit the signature";
    s += 2;  // the colon
    unsigned count = 0;
    Type same = Type::Void;
    for (; *s; ++s, ++count) {
      if (count >= inst.args.size() || inst.args[count] == kNoValue) return "too few arguments";
      const Type type = type_of(inst, count);
      if (!fits(*s, type, inst.type))
        return "argument " + std::to_string(count) + " has type " + type_name(type) + ", the signature says " + *s;
      // Two arguments of one letter S or I agree (compares, flags makers); a store's S stands alone.
      if (*s == 'S' || (*s == 'I')) {
        if (same != Type::Void && same != type) return "arguments of different types";
        same = type;
      }
    }
    if (count < inst.args.size() && inst.args[count] != kNoValue) return "too many arguments";
    return {};
  }

  std::string check_call(const Inst& inst) const {
    if (inst.imm == 0) return "no helper";
    const Helper& helper = helper_of(inst);
    if (helper.result != inst.type) return "result type is not the helper's";
    unsigned count = 0, ints = 0, floats = 0;
    std::string complaint;
    for_each_arg(block_, inst, [&](Value v) {
      if (count >= helper.args.size() || block_.insts[v].type != helper.args[count])
        complaint = "argument " + std::to_string(count) + " is not what the helper takes";
      if (is_int(block_.insts[v].type)) ++ints;
      else ++floats;
      ++count;
    });
    if (complaint.empty() && count < helper.args.size() && helper.args[count] != Type::Void) return "too few arguments";
    if (ints > 4 || floats > 3) return "more than four integer or three float/vector arguments";
    return complaint;
  }

  std::string check_types(const Inst& inst) const {
    const Op op = inst.op;
    const Type t = inst.type;
    const auto bad = [&] { return std::string("not for type ") + type_name(t); };
    if (op == Op::iconst_) return is_int(t) && t != Type::I128 ? "" : bad();
    if (op == Op::vconst_) return t == Type::V128 ? "" : bad();
    if (op == Op::get_reg_) return is_word(t) || t == Type::V128 ? "" : bad();
    if (op == Op::set_reg_) {
      const Type value = type_of(inst, 0);
      return is_word(value) || value == Type::V128 ? "" : "slots are i32, i64 or v128";
    }
    const bool logic = op == Op::and_ || op == Op::or_ || op == Op::xor_ || op == Op::not_;
    if (logic) return is_word(t) || t == Type::I1 ? "" : bad();
    if ((op >= Op::add_ && op <= Op::bitrev_) || op == Op::ubfx_ || op == Op::sbfx_ || op == Op::bfi_)
      return is_word(t) ? "" : bad();
    if (op == Op::select_) return t == Type::I1 || is_word(t) || is_scalar_float(t) || t == Type::V128 ? "" : bad();
    if (op == Op::zext_ || op == Op::sext_ || op == Op::trunc_) {
      const Type from = type_of(inst, 0);
      if (!is_int(from) || !is_int(t) || from == Type::I128 || t == Type::I128) return "integers of up to 64 bits only";
      const bool widens = type_bits(t) > type_bits(from), narrows = type_bits(t) < type_bits(from);
      return (op == Op::trunc_ ? narrows : widens) ? "" : "the width goes the wrong way";
    }
    if (op >= Op::icmp_eq_ && op <= Op::icmp_sle_)
      return is_int(type_of(inst, 0)) && type_of(inst, 0) != Type::I128 ? "" : "integers only";
    if ((op >= Op::eflags_add_ && op <= Op::eflags_result_) || (op >= Op::eimage_add_ && op <= Op::eimage_logic_)) {
      if (inst.lane > static_cast<u8>(Width::B8)) return "no such width";
      const bool wide = inst.lane == static_cast<u8>(Width::B8);
      return type_of(inst, 0) == (wide ? Type::I64 : Type::I32) ? "" : "i64 for eight bytes, i32 for less";
    }
    if (op == Op::eflags_fcmp_ || op == Op::eimage_fcmp_ || op == Op::flags_fcmp_ || op == Op::nzcv_fcmp_ || (op >= Op::fcmp_eq_ && op <= Op::fcmp_unord_))
      return is_scalar_float(type_of(inst, 0)) ? "" : "f32 or f64 only";
    if (op >= Op::fadd_ && op <= Op::fround_) return is_scalar_float(t) ? "" : bad();
    if (op == Op::fcvt_)
      return is_scalar_float(t) && is_scalar_float(type_of(inst, 0)) && t != type_of(inst, 0) ? "" : "f32 <-> f64 only";
    if (op == Op::f_to_int_) return is_word(t) && is_scalar_float(type_of(inst, 0)) ? "" : bad();
    if (op == Op::int_to_f_) return is_scalar_float(t) && is_word(type_of(inst, 0)) ? "" : bad();
    if (op == Op::bitcast_) {
      const Type from = type_of(inst, 0);
      const bool kinds = (is_word(t) && is_scalar_float(from)) || (is_scalar_float(t) && is_word(from));
      return kinds && type_bits(t) == type_bits(from) ? "" : "i32 <-> f32, i64 <-> f64 only";
    }
    if (op == Op::v_to_f_) return is_scalar_float(t) ? "" : bad();
    if (op == Op::f_to_v_) return t == Type::V128 && is_scalar_float(type_of(inst, 0)) ? "" : bad();
    if (op == Op::v_extract_) return is_word(t) ? "" : bad();
    if (op == Op::v_movemask_) return {};  // the signature says it all
    if (op >= Op::v_low64_ && op <= Op::v_fcmpge_) return t == Type::V128 ? "" : bad();
    if (op == Op::load_ || op == Op::store_ || op == Op::atomic_rmw_ || op == Op::atomic_cas_) return check_memory(inst);
    return {};
  }

  std::string check_memory(const Inst& inst) const {
    const MemOp m = MemOp::unpack(inst.aux);
    const Type t = inst.op == Op::store_ ? type_of(inst, 1) : inst.type;
    if (m.width > Width::B16) return "access wider than 16 bytes";
    if (is_float(t) ? width_bits(m.width) != type_bits(t) : width_bits(m.width) > type_bits(t))
      return "access width does not fit the value";
    if (!is_word(t) && !is_scalar_float(t) && t != Type::V128) return std::string("not for type ") + type_name(t);
    if (m.rmw > RmwKind::Swap) return "no such read-modify-write";
    if (inst.op == Op::atomic_rmw_ && !is_word(t)) return "i32 or i64 only";
    if (inst.op == Op::atomic_cas_ && t == Type::V128 && m.width != Width::B16) return "v128 only with 16 bytes";
    return {};
  }

  std::string check_numbers(const Inst& inst) const {
    const Op op = inst.op;
    const unsigned bits = type_bits(inst.type);
    if (op == Op::extr_) return inst.imm < bits ? "" : "imm out of range";
    if (op == Op::ubfx_ || op == Op::sbfx_ || op == Op::bfi_)
      return inst.imm2 >= 1 && inst.imm < bits && inst.imm2 <= bits - inst.imm ? "" : "field out of range";
    if (op == Op::f_to_int_) return inst.imm <= bits ? "" : "imm out of range";
    if (op == Op::cond_) return inst.aux <= static_cast<u32>(Cond::Nbe) ? "" : "no such condition";
    if (op == Op::exit_jump_ || op == Op::exit_indirect_)
      return inst.lane <= static_cast<u8>(op == Op::exit_jump_ ? ExitHint::Return : ExitHint::NewMode) ? "" : "no such hint";
    if (op == Op::exit_exception_ || op == Op::trap_if_)
      return inst.aux <= static_cast<u32>(ExitKind::CodeChanged) ? "" : "no such exit kind";
    if (op == Op::get_reg_ || op == Op::set_reg_) return inst.imm < (1u << 20) && inst.imm % 4 == 0 ? "" : "no such slot";
    if (op < Op::v_low64_ || op > Op::v_fcmpge_) return {};
    if (inst.lane > static_cast<u8>(Width::B8)) return "no such lane width";
    const unsigned lane_bytes = 1u << inst.lane, lanes = 16 / lane_bytes;
    if ((lane_widths(op) & lane_bytes) == 0) return "not for lanes of this width";
    if (op == Op::v_fcmp_ && inst.imm >= 32) return "no such predicate";
    if (op == Op::v_f_to_int_ && inst.imm > 8 * lane_bytes) return "imm out of range";
    if (op == Op::v_ext_) return inst.imm < 16 ? "" : "imm out of range";
    if (op == Op::v_rev_)
      return (inst.imm == 2 || inst.imm == 4 || inst.imm == 8 || inst.imm == 16) && inst.imm >= lane_bytes ? ""
                                                                                                           : "no such group";
    const bool indexed = op == Op::v_dup_lane_ || op == Op::v_extract_ || op == Op::v_insert_ || op == Op::v_insert_lane_;
    if (indexed && inst.imm >= lanes) return "lane out of range";
    if (op == Op::v_insert_lane_ && inst.imm2 >= lanes) return "lane out of range";
    if (op == Op::v_insert_ && lane_bytes == 8 && type_of(inst, 1) != Type::I64) return "a lane of 8 bytes takes an i64";
    if (op == Op::v_dup_ && lane_bytes == 8 && type_of(inst, 0) != Type::I64) return "a lane of 8 bytes takes an i64";
    if (op == Op::v_extract_ && lane_bytes == 8 && inst.type != Type::I64) return "a lane of 8 bytes gives an i64";
    return {};
  }

  const Block& block_;
};

}  // namespace

std::string verify(const Block& block) { return Verifier(block).run(); }

}  // namespace kiln::ir
