// Builder: how lifters make IR. One method per op (typed arguments are checked by verify(), not here).
#pragma once
#include "ir/block.h"

namespace kiln::ir {

class Builder {
 public:
  explicit Builder(Block& block) : block_(block) {}
  Block& block() { return block_; }
  Type type_of(Value v) const { return block_.insts[v].type; }

  Value emit(Op op, Type type, std::initializer_list<Value> args = {}, u64 imm = 0, u64 imm2 = 0, u32 aux = 0, u8 lane = 0) {
    Inst inst;
    inst.op = op;
    inst.type = type;
    inst.aux = aux;
    inst.lane = lane;
    inst.imm = imm;
    inst.imm2 = imm2;
    unsigned i = 0;
    for (Value v : args) inst.args[i++] = v;
    block_.insts.push_back(inst);
    return static_cast<Value>(block_.insts.size() - 1);
  }

  // constants and state
  Value iconst(Type t, u64 value) { return emit(Op::iconst_, t, {}, value & mask_low(type_bits(t))); }
  Value i32(u64 value) { return iconst(Type::I32, value); }
  Value i64(u64 value) { return iconst(Type::I64, value); }
  Value i1(bool value) { return iconst(Type::I1, value); }
  Value vconst(u64 low, u64 high) { return emit(Op::vconst_, Type::V128, {}, low, high); }
  Value get_reg(Type t, std::size_t offset) { return emit(Op::get_reg_, t, {}, offset); }
  void set_reg(std::size_t offset, Value v) { emit(Op::set_reg_, Type::Void, {v}, offset); }
  Value get_flags() { return emit(Op::get_flags_, Type::Flags); }
  void set_flags(Value f) { emit(Op::set_flags_, Type::Void, {f}); }
  void insn_start(GuestAddr pc, unsigned length) { emit(Op::insn_start_, Type::Void, {}, pc, length); }

  // integer
#define KILN_BINARY(name) \
  Value name(Value a, Value b) { return emit(Op::name##_, type_of(a), {a, b}); }
  KILN_BINARY(add) KILN_BINARY(sub) KILN_BINARY(mul) KILN_BINARY(umulh) KILN_BINARY(smulh) KILN_BINARY(udiv)
  KILN_BINARY(sdiv) KILN_BINARY(urem) KILN_BINARY(srem) KILN_BINARY(andn) KILN_BINARY(shl) KILN_BINARY(lshr)
  KILN_BINARY(ashr) KILN_BINARY(rotr)
#undef KILN_BINARY
  Value and_(Value a, Value b) { return emit(Op::and_, type_of(a), {a, b}); }
  Value or_(Value a, Value b) { return emit(Op::or_, type_of(a), {a, b}); }
  Value xor_(Value a, Value b) { return emit(Op::xor_, type_of(a), {a, b}); }
  Value not_(Value a) { return emit(Op::not_, type_of(a), {a}); }
  Value extr(Value high, Value low, unsigned lsb) { return emit(Op::extr_, type_of(high), {high, low}, lsb); }
#define KILN_UNARY(name) \
  Value name(Value a) { return emit(Op::name##_, type_of(a), {a}); }
  KILN_UNARY(neg) KILN_UNARY(clz) KILN_UNARY(ctz) KILN_UNARY(popcnt) KILN_UNARY(bswap) KILN_UNARY(bitrev)
#undef KILN_UNARY
  Value zext(Type to, Value a) { return type_of(a) == to ? a : emit(Op::zext_, to, {a}); }
  Value sext(Type to, Value a) { return type_of(a) == to ? a : emit(Op::sext_, to, {a}); }
  Value trunc(Type to, Value a) { return type_of(a) == to ? a : emit(Op::trunc_, to, {a}); }
  Value ubfx(Value a, unsigned lsb, unsigned count) { return emit(Op::ubfx_, type_of(a), {a}, lsb, count); }
  Value sbfx(Value a, unsigned lsb, unsigned count) { return emit(Op::sbfx_, type_of(a), {a}, lsb, count); }
  Value bfi(Value a, Value b, unsigned lsb, unsigned count) { return emit(Op::bfi_, type_of(a), {a, b}, lsb, count); }
  Value select(Value c, Value a, Value b) { return emit(Op::select_, type_of(a), {c, a, b}); }
  Value icmp(Op op, Value a, Value b) { return emit(op, Type::I1, {a, b}); }

  // flags
  Value flags_add(Value a, Value b) { return emit(Op::flags_add_, Type::Flags, {a, b}); }
  Value flags_sub(Value a, Value b) { return emit(Op::flags_sub_, Type::Flags, {a, b}); }
  Value flags_adc(Value a, Value b, Value c) { return emit(Op::flags_adc_, Type::Flags, {a, b, c}); }
  Value flags_logic(Value a) { return emit(Op::flags_logic_, Type::Flags, {a}); }
  Value flags_image(Value a) { return emit(Op::flags_image_, Type::Flags, {a}); }
  Value flags_select(Value c, Value a, Value b) { return emit(Op::flags_select_, Type::Flags, {c, a, b}); }
  Value flags_fcmp(Value a, Value b, bool signalling) { return emit(Op::flags_fcmp_, Type::Flags, {a, b}, 0, 0, signalling); }
  // x86: only the operands' low bits count; i64 for B8, else i32.
  Value eflags_add(Width w, Value a, Value b) { return emit(Op::eflags_add_, Type::Flags, {a, b}, 0, 0, 0, static_cast<u8>(w)); }
  Value eflags_sub(Width w, Value a, Value b) { return emit(Op::eflags_sub_, Type::Flags, {a, b}, 0, 0, 0, static_cast<u8>(w)); }
  Value eflags_logic(Width w, Value a) { return emit(Op::eflags_logic_, Type::Flags, {a}, 0, 0, 0, static_cast<u8>(w)); }
  /// Of an INC or DEC that gave `result`; `carry` (an i1) stays.
  Value eflags_inc(Width w, Value result, Value carry) {
    return emit(Op::eflags_inc_, Type::Flags, {result, carry}, 0, 0, 0, static_cast<u8>(w));
  }
  Value eflags_dec(Width w, Value result, Value carry) {
    return emit(Op::eflags_dec_, Type::Flags, {result, carry}, 0, 0, 0, static_cast<u8>(w));
  }
  /// N, Z and P of `a`; C, V and A as they stand in `image` (an i32).
  Value eflags_result(Width w, Value a, Value image) {
    return emit(Op::eflags_result_, Type::Flags, {a, image}, 0, 0, 0, static_cast<u8>(w));
  }
  Value eflags_fcmp(Value a, Value b, bool signalling) { return emit(Op::eflags_fcmp_, Type::Flags, {a, b}, 0, 0, signalling); }
  Value flags_value(Value f) { return emit(Op::flags_value_, Type::I32, {f}); }
  Value cond(Value f, Cond c) { return emit(Op::cond_, Type::I1, {f}, 0, 0, static_cast<u32>(c)); }

  // memory
  Value load(Type t, Value address, s64 displacement, MemOp m) {
    return emit(Op::load_, t, {address}, static_cast<u64>(displacement), 0, m.pack());
  }
  void store(Value address, s64 displacement, Value v, MemOp m) {
    emit(Op::store_, Type::Void, {address, v}, static_cast<u64>(displacement), 0, m.pack());
  }
  Value atomic_rmw(Value address, Value v, MemOp m) { return emit(Op::atomic_rmw_, type_of(v), {address, v}, 0, 0, m.pack()); }
  Value atomic_cas(Value address, Value expected, Value desired, MemOp m) {
    return emit(Op::atomic_cas_, type_of(expected), {address, expected, desired}, 0, 0, m.pack());
  }
  void fence(Order order) { emit(Op::fence_, Type::Void, {}, 0, 0, static_cast<u32>(order)); }

  // floating point and vectors: the general forms
  Value fp(Op op, Type t, std::initializer_list<Value> args, FpOp f = {}) { return emit(op, t, args, 0, 0, f.pack()); }
  Value bitcast(Type to, Value a) { return emit(Op::bitcast_, to, {a}); }
  Value v_to_f(Type to, Value v) { return emit(Op::v_to_f_, to, {v}); }
  Value f_to_v(Value f) { return emit(Op::f_to_v_, Type::V128, {f}); }
  Value vec(Op op, Width lane, std::initializer_list<Value> args, u64 imm = 0, u64 imm2 = 0, u32 aux = 0) {
    return emit(op, Type::V128, args, imm, imm2, aux, static_cast<u8>(lane));
  }
  Value v_low64(Value v) { return emit(Op::v_low64_, Type::V128, {v}); }
  Value v_extract(Type to, Width lane, Value v, unsigned index) {
    return emit(Op::v_extract_, to, {v}, index, 0, 0, static_cast<u8>(lane));
  }

  // calls and exits
  Value call(const Helper& helper, std::initializer_list<Value> args = {}) {
    Inst inst;
    inst.op = Op::call_;
    inst.type = helper.result;
    inst.imm = reinterpret_cast<u64>(&helper);
    unsigned i = 0;
    for (Value v : args) {
      if (i == 4) {
        block_.extra_args.push_back({kNoValue, kNoValue, kNoValue});
        inst.more = static_cast<u32>(block_.extra_args.size());
      }
      if (i < 4) inst.args[i] = v;
      else block_.extra_args.back()[i - 4] = v;
      ++i;
    }
    block_.insts.push_back(inst);
    return static_cast<Value>(block_.insts.size() - 1);
  }
  void trap_if(Value c, ExitKind kind, u64 value = 0) {
    emit(Op::trap_if_, Type::Void, {c}, value, 0, static_cast<u32>(kind));
  }
  void exit_jump(GuestAddr to, ExitHint hint = ExitHint::Jump, GuestAddr return_to = 0) {
    emit(Op::exit_jump_, Type::Void, {}, to, return_to, 0, static_cast<u8>(hint));
  }
  void exit_branch(Value c, GuestAddr taken, GuestAddr not_taken) { emit(Op::exit_branch_, Type::Void, {c}, taken, not_taken); }
  void exit_indirect(Value to, ExitHint hint = ExitHint::Jump, GuestAddr return_to = 0) {
    emit(Op::exit_indirect_, Type::Void, {to}, 0, return_to, 0, static_cast<u8>(hint));
  }
  void exit_exception(ExitKind kind, GuestAddr pc, u64 value = 0) {
    emit(Op::exit_exception_, Type::Void, {}, pc, value, static_cast<u32>(kind));
  }

 private:
  Block& block_;
};

}  // namespace kiln::ir
