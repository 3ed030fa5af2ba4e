// The stitcher: one pass over a Block that copies stencils and patches their holes. One object per thread, its buffers reused.
//
// Values. Every SSA value has a root (itself, or the value it is an alias of: trunc, zext of what is known to be clean, get_reg
// of a slot whose value is at hand, …). A root lives in a cache register, in a spill slot, at home in a guest slot's memory, is
// a constant, or is Deferred: not computed yet because its only user may fold it (compare into branch, shift into address).
// `uses` counts the operands still to come, `slots` the dirty guest slots that hold it; at zero it is gone.
// Slots. The current value of each touched guest slot, stored at exits and before helpers that look (`dirty`), or as the price
// of an eviction. Flags of the host survive only from an emit_compare() to the very next stencil; whatever that one needs is in
// place before.
#pragma once
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <vector>

#include "ir/flags.h"
#include "jit/stencil/table.h"
#include "jit/stencil/tier1.h"
#include "stencil_ids.h"

namespace kiln::jit {

using ir::Block;
using ir::CpuState;
using ir::Inst;
using ir::kNoValue;
using ir::Op;
using ir::Type;
using ir::Value;
namespace id = stencil::id;

inline constexpr unsigned kIntRegs = 10, kVecRegs = 8;
inline constexpr u8 kNoReg = 0xff;
enum Class : u8 { Int = 0, Vec = 1 };
constexpr Class class_of(Type t) { return ir::is_float(t) || ir::is_vector(t) ? Vec : Int; }
constexpr unsigned wide(Type t) { return t == Type::I64 ? 1 : 0; }
constexpr bool fits32(u64 value) { return static_cast<s64>(value) == static_cast<s32>(value); }

/// x86 condition numbers; EqualFp is "ZF and not PF", which needs two jumps.
enum HostCond : u8 {
  kO = 0,
  kNo = 1,
  kB = 2,
  kAe = 3,
  kE = 4,
  kNe = 5,
  kBe = 6,
  kA = 7,
  kS = 8,
  kNs = 9,
  kP = 10,
  kNp = 11,
  kL = 12,
  kGe = 13,
  kLe = 14,
  kG = 15,
  kEqualFp = 16
};

enum class State : u8 { None, Normal, Constant, Deferred };

struct ValueState {
  Value root = 0;
  u32 uses = 0;
  u32 slots = 0;
  u32 stamp = 0;
  u32 home = 0;           // offset in the state of a slot whose memory holds the value; 0: none
  Value user = kNoValue;  // last user
  u8 reg = kNoReg;
  u8 spill = kNoReg;
  u8 known = 64;  // integer: bits from here up are zero in the register; vector: 128, or 32/64
  State state = State::None;
  Class cls = Int;
  Type type = Type::Void;
  u64 imm = 0, imm2 = 0;  // Constant
};

/// How a dirty slot's value is to be widened when stored.
enum class Form : u8 { Whole, Low32, F32, F64 };

struct SlotState {
  u32 offset = 0;
  Type type = Type::Void;
  Value value = kNoValue;   // current value (root)
  Value memory = kNoValue;  // root whose home this slot is
  bool dirty = false;
  Form form = Form::Whole;
};

struct Holes {
  u64 a = 0, b = 0;
};

struct Compare {
  u32 stencil = 0;
  Holes holes;
  u8 cond = kNe;
};

/// Out-of-line continuation: evaluates `inst` through ir::eval_pure and resumes.
struct ColdPart {
  u32 fixup = 0, resume = 0;
  const Inst* inst = nullptr;
  u8 args[4] = {kNoReg, kNoReg, kNoReg, kNoReg};
  Type types[4] = {};
  u8 result = kNoReg;
};

class Stitcher {
 public:
  Tier1Code run(const Block& block, const ir::GuestDesc& guest, const Tier1Options& options, bool record);

 private:
  // --- stitcher.cpp: driver, entry, exits
  void prepare(const Block& block);
  void visit(Value v, const Inst& inst);
  void entry();
  void exit_jump(const Inst& inst);
  void exit_branch(const Inst& inst);
  void exit_indirect(const Inst& inst);
  void exit_exception(const Inst& inst);
  void finish();
  using Kind = Tier1Relocation::Kind;
  std::pair<HostAddr, Kind> leave_way(ir::ExitKind kind) const;
  bool leave_by_id_reaches(ir::ExitKind kind, u64 id) const;
  void leave_by_id(u64 pc, ir::ExitKind kind, u64 id, Kind field);
  void leave_stub(u64 pc, ir::ExitKind kind, std::optional<u64> value = {}, std::optional<Kind> field = {});
  void align_field(unsigned bytes_before);
  void exit_edge(u32 fixup, GuestAddr target);

  // --- emit.cpp: bytes
  u32 here() const { return static_cast<u32>(out_ - begin_); }
  void reserve();
  void emit(u32 stencil, u64 a = 0, u64 b = 0);
  void emit_ri(u32 stencil, u64 imm);  // an 81 /n id instruction: short form where the immediate allows
  unsigned size_of(u32 stencil) const { return stencil::kRecords[stencil].size; }
  void nops(unsigned count);
  void bind_label(u32 fixup) { patch_rel32(fixup, here()); }
  void patch_rel32(u32 fixup, u32 target);
  u32 pool(const V128& value);
  void jump_to(HostAddr target, Kind kind);
  void note_field(bool in_form, u32 offset, Kind kind);
  u32 hole_offset(u32 stencil, stencil::Hole hole) const;
  void store_imm(u32 offset, u64 value, bool is64);
  void load_imm(u8 reg, u64 value);

  // --- values.cpp: registers, slots, spills
  Value root(Value v) const { return values_[v].root; }
  ValueState& state(Value v) { return values_[values_[v].root]; }
  Type type_of(Value v) const { return values_[v].type; }
  bool is_const(Value v) { return state(v).state == State::Constant; }
  u64 const_of(Value v);          // truncated to v's own type
  Value constant_value(u64 imm);  // one that is not in the block
  bool dies(Value v) {
    ValueState& s = state(v);
    return s.uses == 1 && s.slots == 0;
  }
  bool deferred(Value v, Op op) { return state(v).state == State::Deferred && (*block_)[root(v)].op == op; }
  u8 use(Value v);                             // in a register, pinned
  u8 take(Value v);                            // a register with v's value that the caller may overwrite, pinned
  u8 fresh(Class cls);                         // a free register, pinned
  void bind(Value v, u8 reg, unsigned known);  // result of the instruction
  void alias(Value v, Value of);               // v is another name of `of`
  void alias_result(Value v, Value of) {
    alias(v, of);
    done(of);
  }
  void done(Value v);  // one operand use is over
  void done_all(const Inst& inst) {
    ir::for_each_arg(*block_, inst, [&](Value v) { done(v); });
  }
  void drop_if_dead(Value r);
  void pin(Class cls, u8 reg) { pinned_[cls] |= 1u << reg; }
  void copy(Class cls, u8 to, u8 from);
  void load_into(Value r, u8 reg);  // from constant, spill or home
  void release(Class cls, u8 reg);
  void evict(Class cls, u8 reg);
  void spill(Value r);
  SlotState* find_slot(u32 offset);
  SlotState& slot(u32 offset, Type type);
  void set_slot(u32 offset, Type type, Value v, Form form);
  void store_slot(SlotState& s);
  void capture_memory_of(SlotState& s);  // the slot is about to be overwritten: its old value must survive elsewhere
  void flush();
  void forget_slots();
  void recovery_point(u32 begin);
  void get_reg(Value v, const Inst& inst);
  void set_reg(const Inst& inst);
  void set_flags(const Inst& inst);

  // --- integer.cpp
  bool integer(Value v, const Inst& inst);
  void binary(Value v, const Inst& inst, u32 rr, u32 ri, bool commutes, bool logical);
  void add(Value v, const Inst& inst, bool subtract);
  void shift(Value v, const Inst& inst, u32 by_imm, u32 by_reg);
  void extend(Value v, const Inst& inst);
  void bit_field(Value v, const Inst& inst);
  void select(Value v, const Inst& inst);
  Compare prepare_compare(Value condition);
  void emit_compare(const Compare& c) { emit_compare_stencil(c); }
  void emit_compare_stencil(const Compare& c);
  void materialise_compare(Value v);
  void materialise(Value v);  // a deferred value is wanted in a register after all
  bool may_defer(Value v, const Inst& inst);

  // --- memory.cpp
  struct Address {
    bool through_t = false;
    u8 base = kNoReg;
    u64 displacement = 0;
  };
  Address address(Value a, u64 displacement);
  /// The address of an access: in a full system t, after the TLB, else as address() gives it. `value`: register of a store's value, or kNoReg.
  Address access(Value a, u64 displacement, ir::MemOp m, bool store, Class cls = Int, u8 value = kNoReg);
  void check_alignment(const Inst& inst);  // MemOp::align_check: leaves with ExitKind::Alignment
  void trap_if(const Inst& inst);
  void trap(u32 fixup, ir::ExitKind kind, u64 value, bool value_in_rax = false);
  void load(Value v, const Inst& inst);
  void store(const Inst& inst);
  void atomic(Value v, const Inst& inst);
  void soft_atomic(Value v, const Inst& inst);

  // --- flags.cpp: the record that an earlier block left
  void get_flags(Value v);
  bool may_defer_cond(Value v) const;
  Compare compare_of_record(ir::Cond cond) const;
  void flags_value(Value v, const Inst& inst);
  bool eimage(Value v, const Inst& inst);

  // --- vector.cpp, float.cpp
  bool vector(Value v, const Inst& inst);
  bool keeps_upper_lanes(const Inst& insert);
  bool floating(Value v, const Inst& inst);
  void cold_checked(const Inst& inst, std::initializer_list<u8> args, u8 result);
  bool floating_x86(Value v, const Inst& inst);  // float_x86.cpp: NanRule::X86, the bare instruction

  // --- call.cpp
  void call(Value v, const Inst& inst, const ir::Helper& helper);
  void save_for_call(const Inst& inst, bool writes_state);
  void fallback(Value v, const Inst& inst);
  void emit_fallback(const Inst& inst, const u8* args, const Type* types, u8 result);
  void cold(const Inst& inst, std::initializer_list<u8> args, u8 result);

  const Block* block_ = nullptr;
  const Tier1Options* options_ = nullptr;
  bool record_ = false;
  GuestAddr pc_ = 0;
  u32 clock_ = 0;
  u8 *begin_ = nullptr, *out_ = nullptr, *limit_ = nullptr;
  std::vector<u8> buffer_;
  u32 last_taken_ = 0, last_cold_ = 0;
  std::vector<ValueState> values_;
  Value owner_[2][kIntRegs];
  u32 free_[2] = {}, pinned_[2] = {};
  u64 spill_free_ = 0;
  std::vector<SlotState> slots_;
  std::vector<u16> slot_index_;  // offset / 4 -> index in slots_ + 1
  std::vector<ColdPart> cold_;
  struct PoolUse {
    u32 fixup, entry;
    s32 addend;
  };
  std::vector<V128> pool_;
  std::vector<PoolUse> pool_uses_;
  struct Edge {
    u32 fixup;
    GuestAddr target;
  };
  std::vector<Edge> edges_;
  struct Leave {
    u32 fixup;
    ir::ExitKind kind;
    u64 value;
  };
  std::vector<Leave> leaves_;
  struct Trap {
    u32 fixup;
    u32 recovery;  // index in code_.recovery, when recording
  };
  std::vector<Trap> traps_;
  struct TlbMiss {
    u32 fixup, resume;
    u32 desc;
    u32 recovery;
  };
  std::vector<TlbMiss> misses_;
  Tier1Code code_;
};

extern "C" void kiln_fallback_thunk();
extern "C" void kiln_tlb_thunk();

[[noreturn]] void stitch_failure(const char* what, const char* name);

}  // namespace kiln::jit
