// RegionLowering: a region of ir::Blocks becomes one LLVM function `preserve_nonecc void(ptr state)`.
//
// Shape of the function: `entry` loads every slot that is carried (slots.cpp) into an alloca (promoted to SSA at once), then
// one LLVM block chain per region block. Invariants:
//  (1) at every place that an outsider can look at the state (fault, helper with declared effects, exit) exactly the slots in
//      `dirty_` differ between memory and SSA, so these are what gets stored there;
//  (2) guest memory is touched by volatile loads and stores with a record of the state before them (fault_sites.h), or by
//      `callbr` asm (atomics): LLVM can neither move, merge nor drop an access, and each has its line in the fault table;
//  (3) floating point goes through constrained intrinsics only: MXCSR is live guest state.
// To add an op: a case in the lower_*() function of its kind; without one it goes through ir::eval_pure (correct, counted).
#pragma once
#include <llvm/IR/IRBuilder.h>
#include <llvm/IR/Module.h>

#include <bitset>
#include <map>
#include <vector>

#include "jit/llvm/fault_sites.h"
#include "jit/llvm/tier2.h"

namespace kiln::jit {

inline constexpr unsigned kMaxSlots = 256;
using SlotSet = std::bitset<kMaxSlots>;

/// A guest slot that the region uses, or one of the three virtual slots of the flags record.
struct RegionSlot {
  u32 offset;
  ir::Type type;
  bool carried = false;                  // see slots.cpp
  llvm::AllocaInst* variable = nullptr;  // of a carried slot
  llvm::Value* known = nullptr;          // else: what the block being lowered has loaded or stored
};

/// The kinds that a flags record may have: bit i = FlagsKind i; kUnknownKind: any.
using FlagsKinds = u32;
inline constexpr FlagsKinds kUnknownKind = u32{1} << 31;
static_assert(static_cast<u32>(ir::FlagsKind::EResult64) < 31);
constexpr FlagsKinds only_kind(ir::FlagsKind kind) { return u32{1} << static_cast<u32>(kind); }

/// What is known where a block begins; found by forward dataflow over the region.
struct BlockEntryFacts {
  bool reached = false;
  SlotSet dirty;                       // may differ from memory
  FlagsKinds flags;                    // of the flags record, on all ways in
};

class RegionLowering {
 public:
  RegionLowering(llvm::Module& module, const RegionRequest& request);
  /// Fills the module; empty if all is well, else what cannot be compiled.
  std::string run();

  /// After the IR passes, before code generation: floating-point ops become LLVM's constrained intrinsics.
  void expand_strict();

  llvm::Function* function() { return function_; }
  /// Host address of every external symbol that the module names.
  const std::map<std::string, HostAddr>& symbols() const { return symbols_; }
  FaultSites& fault_sites() { return sites_; }
  /// Ops that went through ir::eval_pure, and how often.
  const std::map<std::string, unsigned>& fallbacks() const { return fallbacks_; }

 private:
  using LValue = llvm::Value*;

  // slots.cpp
  std::vector<unsigned> loop_depths() const;
  void choose_carried_slots();
  void make_slot_variables();
  LValue load_slot(const RegionSlot& slot);
  LValue read_slot(unsigned index);
  void write_slot(unsigned index, LValue value);
  void write_back(const SlotSet& slots);
  void write_back() { write_back(dirty_); }
  void reload();
  void forget_slots();
  void set_dirty(unsigned index, SlotSet& dirty) const {
    if (slots_[index].carried) dirty.set(index);
  }

  // region.cpp: slots, dataflow, control
  void check_key();
  std::string collect_slots();
  void find_entry_facts();
  void transfer(const ir::Block& block, BlockEntryFacts& facts) const;
  void lower_block(std::size_t index);
  void lower(const ir::Inst& inst, ir::Value v);
  void lower_exit(const RegionBlock& block, const ir::Inst& inst);
  void lower_indirect_exit(const RegionBlock& block, const ir::Inst& inst);
  void poll(const RegionBlock& block);
  void poll_at_exit(LValue pc);
  void find_loop_heads();
  unsigned slot_index(u64 offset) const { return slot_of_offset_.at(static_cast<u32>(offset)); }
  LValue state_address(u64 offset);
  void store_state(u64 offset, LValue value);
  void jump_to(llvm::Value* target);  // musttail; ends the LLVM block
  void jump_to_address(HostAddr target) { jump_to(external(target)); }
  void go(int successor, GuestAddr pc);        // inside the region, or leaves it for pc
  llvm::Constant* external(HostAddr address);  // a symbol of region type at an absolute address
  llvm::FunctionCallee helper_symbol(const char* name, const void* function, llvm::FunctionType* type);
  template <class F>
  llvm::FunctionCallee runtime_function(const char* name, F* function, llvm::FunctionType* type) {
    return helper_symbol(name, reinterpret_cast<const void*>(function), type);
  }
  llvm::BasicBlock* new_block(const char* name);
  void set_unlikely(llvm::Instruction* branch, bool first_is_unlikely);
  /// Branches to a new cold block if `condition`; gives it and leaves the builder in the normal continuation.
  llvm::BasicBlock* cold_branch(LValue condition, const char* name);

  // values of the block being lowered
  LValue value(ir::Value v) { return values_[v]; }
  ir::Type type_of(ir::Value v) const { return block_->insts[v].type; }
  LValue arg(const ir::Inst& inst, unsigned i) { return values_[inst.args[i]]; }
  ir::Type arg_type(const ir::Inst& inst, unsigned i) const { return type_of(inst.args[i]); }
  LValue zext64(ir::Value v);  // an integer value zero-extended to i64
  llvm::Type* llvm_type(ir::Type type);
  LValue constant(ir::Type type, u64 bits) { return llvm::ConstantInt::get(llvm_type(type), bits); }

  // Each returns the result, or null if the op is not its business or it has no code for the case.
  LValue lower_integer(const ir::Inst& inst);              // lower_integer.cpp
  LValue lower_float(const ir::Inst& inst);                // lower_float.cpp
  LValue lower_vector(const ir::Inst& inst);               // lower_vector.cpp
  LValue lower_vector_float(const ir::Inst& inst);         // lower_float.cpp
  LValue lower_memory(const ir::Inst& inst, ir::Value v);  // lower_memory.cpp
  LValue lower_call(const ir::Inst& inst, ir::Value v);    // lower_memory.cpp
  LValue lower_fallback(const ir::Inst& inst);             // region.cpp: for ops without code of their own
  LValue eval_any(const ir::Inst& inst);                   // region.cpp: call of ir::eval_pure

  // lower_flags.cpp
  /// The record as it was at a get_flags.
  struct FlagsRecord {
    FlagsKinds kinds;
    LValue kind, a, b;
  };
  void lower_get_flags(ir::Value v);
  FlagsRecord flags_record(ir::Value v);
  void lower_set_flags(ir::Value flags);
  bool set_conditional_flags(const ir::Inst& image);
  LValue lower_cond(const FlagsRecord& record, ir::Cond cond);
  LValue cond_of_kind(ir::FlagsKind kind, const FlagsRecord& record, ir::Cond cond);
  LValue cond_of_image(LValue image, ir::Cond cond);
  LValue image_of_kind(ir::FlagsKind kind, const FlagsRecord& record);
  LValue lower_flags_value(const FlagsRecord& record);
  LValue lower_nzcv(const ir::Inst& inst);
  // lower_eflags.cpp: x86's kinds
  struct X86Flags {
    ir::FlagsKind kind;
    LValue a;            // cut to the width
    LValue b = nullptr;  // so too, or the image (i32) of EResult, or the carry (i1) of INC and DEC
  };
  X86Flags x86_flags(ir::FlagsKind kind, LValue a, LValue b);
  LValue x86_flag(const X86Flags& flags, u32 which);
  LValue x86_cond(const X86Flags& flags, ir::Cond cond);
  LValue x86_image(const X86Flags& flags);
  LValue lower_eimage(const ir::Inst& inst);
  LValue nzcv(LValue result, LValue carry, LValue overflow);
  LValue nzcv_of_add(LValue a, LValue b, LValue carry_in);
  LValue nzcv_of_sub(LValue a, LValue b);

  // lower_memory.cpp
  struct Access {
    std::string text;              // one instruction; $-operands as in LLVM asm
    std::string constraints;       // without the label
    llvm::Type* result = nullptr;  // null: none
    std::vector<LValue> operands;
    int memory_operand = 0;  // index into operands of the pointer
    llvm::Type* element = nullptr;
    bool writes_flags = false;
  };
  LValue guest_address(const ir::Inst& inst, u64 displacement);
  LValue emit_access(const Access& access, unsigned label_number);
  void begin_segment(ir::Value first);
  void leave_with_segment_tail(GuestAddr pc);  // exit fields are set: writes everything back, to fault_leave
  llvm::BasicBlock* fault_block();
  void check_alignment(LValue address, unsigned bytes);
  void lower_trap(const ir::Inst& inst);
  LValue load_integer(LValue address, ir::Width width, bool sign, bool to64, bool swap);  // gives i64
  void record_state();
  /// Full system: the host address for an access_ at `address`; `value` is a store's, null for updates.
  LValue host_pointer(LValue address, bool store, LValue value);
  LValue load_guest(LValue address, llvm::Type* type);
  void store_guest(LValue address, LValue value);
  void store_integer(LValue address, LValue value, ir::Width width, bool swap, ir::Order order);
  LValue lower_load(const ir::Inst& inst, ir::Value v);
  void lower_store(const ir::Inst& inst);
  LValue lower_rmw(const ir::Inst& inst, ir::Value v);
  LValue lower_cas(const ir::Inst& inst, ir::Value v);
  LValue compare_exchange(LValue address, LValue expected, LValue desired, ir::Width width);  // i64s
  LValue from_wide(ir::Value v, ir::Type type, LValue wide);

  // lower_float.cpp
  LValue strict(llvm::Intrinsic::ID id, llvm::Type* type, std::initializer_list<LValue> args, bool rounds);
  struct StrictOp {
    llvm::Intrinsic::ID id;
    bool rounds = false;
    const char* predicate = nullptr;  // of compares
    llvm::Function* placeholder = nullptr;
  };
  llvm::CallInst* strict_call(StrictOp op, llvm::Type* result, llvm::ArrayRef<LValue> args);
  LValue strict_compare(LValue a, LValue b, const char* predicate, bool signalling);
  LValue strict_asm(const char* text, const char* constraints, llvm::Type* result, std::initializer_list<LValue> args);
  LValue fix_nan(const ir::Inst& inst, LValue result);
  LValue eval_cold(const ir::Inst& inst, LValue condition, llvm::function_ref<LValue()> fast);
  LValue eval_scalar(const ir::Inst& inst);  // call of ir::eval_pure that keeps all registers
  // nan_checks.cpp
  struct PendingNan {
    ir::Value value;
    ir::Type element;      // f32 or f64
    bool covered = false;  // an operand of another pending result
    bool moved = false;    // bits of another pending value
  };
  struct LateWrite {
    unsigned slot;
    ir::Value value;
  };
  /// True: the instruction is lowered.
  bool defer_nan_check(const ir::Inst& inst, ir::Value v);
  LValue pending_condition(bool precise);
  void settle_nan_checks();
  PendingNan* pending_nan(ir::Value v);

  llvm::FixedVectorType* float_lanes(const ir::Inst& inst);  // null: no lanes of f32 or f64
  LValue any_lane(LValue mask);
  LValue truncate_to_int(LValue a, llvm::Type* type);
  LValue lower_f_to_int(const ir::Inst& inst, LValue a);
  LValue lower_min_max(const ir::Inst& inst, LValue a, LValue b);
  LValue lower_scalar_in_vector(const ir::Inst& inst, const char* mnemonic);
  LValue magnitude(LValue x);
  LValue tiny(LValue x, u64 limit);
  LValue underflow_condition(const ir::Inst& inst, LValue result, bool precise);
  LValue lower_float_x86(const ir::Inst& inst);  // lower_float_x86.cpp: NanRule::X86, what the generic code does otherwise
  LValue lower_v_int_to_f(const ir::Inst& inst, llvm::FixedVectorType* type);

  llvm::Module& module_;
  llvm::LLVMContext& context_;
  llvm::IRBuilder<> b_;
  const RegionRequest& request_;
  llvm::FunctionType* region_type_ = nullptr;
  llvm::Function* function_ = nullptr;
  LValue state_ = nullptr;

  std::vector<RegionSlot> slots_;
  std::map<u32, unsigned> slot_of_offset_;
  unsigned flags_slots_ = 0;  // index of kind; a and b follow
  bool uses_flags_ = false;
  bool flags_cross_blocks_ = false;  // some block looks at the record it finds
  std::vector<BlockEntryFacts> entry_facts_;
  std::vector<llvm::BasicBlock*> heads_;
  std::vector<bool> loop_head_;
  std::vector<std::pair<std::size_t, std::size_t>> back_edges_;
  std::map<std::string, HostAddr> symbols_;
  std::map<std::string, unsigned> fallbacks_;
  std::vector<StrictOp> strict_ops_;
  FaultSites sites_;
  std::string failure_;

  // while a block is lowered
  const ir::Block* block_ = nullptr;
  std::vector<LValue> values_;
  std::vector<LValue> wide_;  // i64 form of a value whose upper bits are known to be zero, or null
  SlotSet dirty_;
  FlagsKinds flags_kinds_ = kUnknownKind;
  ir::MemOp access_;                        // of the memory op being lowered
  std::map<ir::Value, FlagsRecord> flags_read_;
  GuestAddr insn_pc_ = 0;
  llvm::BasicBlock* last_fault_ = nullptr;  // fault block of an earlier access with nothing changed since
  llvm::BasicBlock* segment_tail_ = nullptr;
  SlotSet segment_stable_;  // dirty, and written by nobody before the segment's last access
  llvm::AllocaInst* eval_buffer_ = nullptr;
  std::map<llvm::Value*, LValue> scalar_in_vector_;  // x86 scalar result -> the register it was computed in
  std::vector<PendingNan> pending_nans_;
  std::vector<LateWrite> late_writes_;
};

}  // namespace kiln::jit
