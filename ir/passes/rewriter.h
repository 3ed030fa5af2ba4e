// The forward sweep behind forward_slots(), fold() and lower_flags(): reads a block's instructions in order and writes a new
// list. What it may do is chosen by Part, so that optimise() does all of it in one sweep. Private to ir/passes.
//
// Invariants: (1) linear time, and no allocation once the scratch has grown; (2) the result depends on the block alone, never
// on what was rewritten before (the engine translates blocks again to recover state); (3) an instruction with an effect other
// than PURE keeps its place, so the state at every instruction that may fault is what it was.
#pragma once
#include <memory>
#include <vector>

#include "ir/block.h"

namespace kiln::ir {

enum Part : u32 { kForwardSlots = 1, kFold = 2, kLowerFlags = 4 };

class Rewriter {
 public:
  /// The new list stays in the rewriter until the next run; the arguments of calls in block.extra_args are renumbered in place.
  std::span<const Inst> run(Block& block, u32 parts);

 private:
  /// A flags value while flags are being lowered: its maker with new operands. get_flags: args[0] is the get_flags, args[1] its
  /// flags_value, good as long as no set_flags has come between.
  struct FlagsDef {
    Op op;
    u8 lane = 0;
    u32 aux = 0;
    std::array<Value, 3> args{kNoValue, kNoValue, kNoValue};
    u32 epoch = 0;
    Value image = kNoValue;  // once made
  };
  enum class Step { Keep, Again, Replaced };

  // Emission.
  Value push(const Inst& inst);
  Value emit(Inst& inst);
  Value unique(const Inst& inst);
  Value make(Op op, Type type, Value a, Value b = kNoValue, Value c = kNoValue, u64 imm = 0, u64 imm2 = 0, u32 aux = 0);
  Value constant(Type type, u64 value) {
    return make(Op::iconst_, type, kNoValue, kNoValue, kNoValue, value & mask_low(type_bits(type)));
  }
  Value logical_not(Value a) { return make(Op::not_, Type::I1, a); }

  // Questions about values of the new list.
  const Inst& def(Value v) const { return out_[v]; }
  Type type_of(Value v) const { return out_[v].type; }
  bool is_op(Value v, Op op) const { return out_[v].op == op; }
  bool is_const(Value v, u64& k) const {
    k = out_[v].imm;
    return out_[v].op == Op::iconst_;
  }
  bool is_const(Value v) const { return out_[v].op == Op::iconst_; }
  unsigned significant_bits(Value v) const;

  // fold.cpp
  Step simplify(Inst& inst, Value& result);
  Step simplify_constants(Inst& inst, Value& result);
  Step simplify_arithmetic(Inst& inst, Value& result);
  Step simplify_shift(Inst& inst, Value& result);
  Step simplify_extension(Inst& inst, Value& result);
  Step simplify_field(Inst& inst, Value& result);
  Value written_part(Value a, u64 lsb, u64 end);
  Step simplify_select(Inst& inst, Value& result);
  Step simplify_compare(Inst& inst, Value& result);
  Step simplify_vector(Inst& inst, Value& result);
  Step become(Inst& inst, Op op, Value a, Value b = kNoValue, u64 imm = 0, u64 imm2 = 0);
  void fold_address(Inst& inst) const;
  void fold_exit(Inst& inst);

  // lower_flags.cpp
  u32 define_flags(const Inst& inst);
  Value lower_cond(u32 flags, Cond cond, unsigned depth = 0);
  Value cond_of_sub(const FlagsDef& d, Cond cond);
  Value cond_of_add(const FlagsDef& d, Cond cond);
  Value cond_of_logic(const FlagsDef& d, Cond cond);
  Value cond_of_image(Value image, Cond cond);
  Value cond_of_fcmp(const FlagsDef& d, Cond cond);
  // lower_eflags.cpp: x86's makers
  void define_eflags(FlagsDef& d);
  Value cond_of_eflags(const FlagsDef& d, Cond cond);
  Value cond_of_esub(const FlagsDef& d, Cond cond);
  Value cond_of_eadd(const FlagsDef& d, Cond cond);
  Value cond_of_estep(const FlagsDef& d, Cond cond);
  Value cond_of_eresult(const FlagsDef& d, Cond cond);
  Value cond_of_efcmp(const FlagsDef& d, Cond cond);
  Value image_of_eflags(const FlagsDef& d);
  Value make_lane(Op op, Type type, Width lane, Value a, Value b = kNoValue);
  Value low_bits(Value a, Width width, bool sign_extend);
  Value top_bit(Value a, Width width);
  Value is_zero(Value a, Width width);
  Value even_parity(Value a);
  struct BitSource {
    Value value;  // kNoValue: the bit is constant
    unsigned bit;
  };
  BitSource source_of_bit(BitSource from, unsigned depth) const;
  Value bit_of(Value a, unsigned bit);
  Value image_of(u32 flags);
  void store_flags(u32 flags);
  bool store_selected(u32 flags);
  struct RecordParts {
    Value kind, a, b;
  };
  RecordParts parts_of(u32 flags);
  Value read_slot(u64 offset, Type type);
  void write_slot(u64 offset, Value value);
  bool selected_operands(const FlagsDef& select, FlagsDef& merged);

  void handle(const Block& block, Value index, Inst& inst);
  void handle_state(Value index, Inst& inst);
  void handle_flags(Value index, Inst& inst);
  void forget_state();

  struct Known {
    u32 generation = 0;
    Value value = kNoValue;
  };
  static constexpr unsigned kUniqueBits = 8;
  static constexpr u64 kMaxSlotOffset = 1u << 16;

  u32 parts_ = 0;
  // The new list. Grown between instructions only, so that references into it hold while one is being rewritten.
  std::unique_ptr<Inst[]> out_;
  std::size_t count_ = 0, capacity_ = 0;
  std::vector<Value> map_;  // old value → new value; for flags being lowered → index into flags_
  std::vector<FlagsDef> flags_;
  std::vector<Known> slots_;  // by offset / 4: what the slot holds
  u32 slot_generation_ = 0;
  Known unique_[1u << kUniqueBits];
  u32 unique_generation_ = 0;
  u32 known_flags_ = kNoValue;  // the flags value that the state holds (meaning as in map_)
  u32 flags_epoch_ = 0;
};

}  // namespace kiln::ir
