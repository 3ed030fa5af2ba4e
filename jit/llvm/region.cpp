// Slots, dataflow over the region, control flow and exits.
#include <algorithm>

#include "ir/flags.h"
#include "jit/llvm/lowering.h"
#include "jit/llvm/runtime.h"

namespace kiln::jit {

using namespace ir;

namespace {
constexpr u64 kKindOffset = offsetof(CpuState, flags_kind);
constexpr u64 kFlagsAOffset = offsetof(CpuState, flags_a);
constexpr u64 kFlagsBOffset = offsetof(CpuState, flags_b);

/// A helper may look at the state: what is dirty must be in memory before it runs.
bool looks_at_state(u32 effects) { return (effects & (READS_STATE | WRITES_STATE | MAY_FAULT)) != 0; }

FlagsKinds kinds_made_by(const Block& block, const Inst& maker) {
  return makes_record(maker.op) ? only_kind(kind_made_by(maker, block[maker.args[0]].type)) : kUnknownKind;
}
/// Of a value that is written to the record's kind; `before`: what the record was.
FlagsKinds kinds_of_value(const Block& block, ir::Value v, FlagsKinds before) {
  const Inst& inst = block[v];
  if (inst.op == Op::iconst_) return only_kind(static_cast<FlagsKind>(inst.imm));
  if (inst.op == Op::get_reg_ && inst.imm == kKindOffset) return before;
  if (inst.op != Op::select_) return kUnknownKind;
  return kinds_of_value(block, inst.args[1], before) | kinds_of_value(block, inst.args[2], before);
}
}  // namespace

RegionLowering::RegionLowering(llvm::Module& module, const RegionRequest& request)
    : module_(module), context_(module.getContext()), b_(context_), request_(request) {}

llvm::Type* RegionLowering::llvm_type(Type type) {
  switch (type) {
    case Type::Void: return b_.getVoidTy();
    case Type::I1: return b_.getInt1Ty();
    case Type::I8: return b_.getInt8Ty();
    case Type::I16: return b_.getInt16Ty();
    case Type::I32: return b_.getInt32Ty();
    case Type::I64: return b_.getInt64Ty();
    case Type::F32: return b_.getFloatTy();
    case Type::F64: return b_.getDoubleTy();
    case Type::V128: return llvm::FixedVectorType::get(b_.getInt64Ty(), 2);
    default:
      if (failure_.empty()) failure_ = std::string("tier 2: no values of type ") + type_name(type);
      return b_.getInt64Ty();
  }
}

std::string RegionLowering::collect_slots() {
  auto add = [&](u64 offset, Type type) -> std::string {
    auto [it, fresh] = slot_of_offset_.try_emplace(static_cast<u32>(offset), static_cast<unsigned>(slots_.size()));
    if (fresh) slots_.push_back({static_cast<u32>(offset), type});
    else if (slots_[it->second].type != type)
      return "tier 2: slot at offset " + std::to_string(offset) + " used with two types";
    return {};
  };
  std::string error;
  // The record's three first: flags_slots_ counts on their being neighbours, and blocks may name them as slots, too.
  for (const RegionBlock& rb : request_.blocks)
    for (const Inst& inst : rb.ir.insts) {
      flags_cross_blocks_ |= inst.op == Op::get_flags_;
      uses_flags_ |= inst.op == Op::get_flags_ || inst.op == Op::set_flags_;
    }
  if (uses_flags_) {
    flags_slots_ = static_cast<unsigned>(slots_.size());
    add(kKindOffset, Type::I32);
    add(kFlagsAOffset, Type::I64);
    add(kFlagsBOffset, Type::I64);
  }
  for (const RegionBlock& rb : request_.blocks)
    for (const Inst& inst : rb.ir.insts) {
      if (inst.op == Op::get_reg_) error = add(inst.imm, inst.type);
      else if (inst.op == Op::set_reg_) error = add(inst.imm, rb.ir[inst.args[0]].type);
      if (!error.empty()) return error;
    }
  if (slots_.size() > kMaxSlots) return "tier 2: region uses too many slots";
  u32 end = 0;
  for (auto [offset, index] : slot_of_offset_) {
    if (offset < end) return "tier 2: slots overlap at offset " + std::to_string(offset);
    end = offset + type_bits(slots_[index].type) / 8;
  }
  return {};
}

void RegionLowering::transfer(const Block& block, BlockEntryFacts& facts) const {
  for (const Inst& inst : block.insts) {
    if (inst.op == Op::set_reg_) {
      set_dirty(slot_index(inst.imm), facts.dirty);
      if (inst.imm == kKindOffset) facts.flags = kinds_of_value(block, inst.args[0], facts.flags);
    } else if (inst.op == Op::set_flags_) {
      for (unsigned i = 0; i < 3; ++i) set_dirty(flags_slots_ + i, facts.dirty);
      facts.flags = kinds_made_by(block, block[inst.args[0]]);
    } else if (inst.op == Op::call_) {
      const u32 effects = effects_of(inst);
      if (looks_at_state(effects)) facts.dirty.reset();
      if (effects & WRITES_STATE) facts.flags = kUnknownKind;
    }
  }
}

void RegionLowering::find_entry_facts() {
  entry_facts_.assign(request_.blocks.size(), {});
  entry_facts_[0].reached = true;
  entry_facts_[0].flags = kUnknownKind;  // also reached from outside
  std::vector<std::size_t> work{0};
  while (!work.empty()) {
    const std::size_t index = work.back();
    work.pop_back();
    const RegionBlock& block = request_.blocks[index];
    BlockEntryFacts out = entry_facts_[index];
    transfer(block.ir, out);
    auto flow = [&](int to) {
      if (to < 0) return;
      BlockEntryFacts& in = entry_facts_[static_cast<std::size_t>(to)];
      const SlotSet dirty = in.dirty | out.dirty;
      const FlagsKinds flags = in.flags | out.flags;
      if (in.reached && dirty == in.dirty && flags == in.flags) return;
      in.reached = true;
      in.dirty = dirty;
      in.flags = flags;
      work.push_back(static_cast<std::size_t>(to));
    };
    flow(block.taken);
    flow(block.not_taken);
    for (auto [pc, to] : block.indirect) flow(to);
  }
}

llvm::BasicBlock* RegionLowering::new_block(const char* name) { return llvm::BasicBlock::Create(context_, name, function_); }

void RegionLowering::set_unlikely(llvm::Instruction* branch, bool first_is_unlikely) {
  auto weight = [&](bool unlikely) { return llvm::ConstantAsMetadata::get(b_.getInt32(unlikely ? 1 : 1u << 20)); };
  branch->setMetadata(llvm::LLVMContext::MD_prof,
                      llvm::MDNode::get(context_, {llvm::MDString::get(context_, "branch_weights"), weight(first_is_unlikely),
                                                   weight(!first_is_unlikely)}));
}

llvm::BasicBlock* RegionLowering::cold_branch(LValue condition, const char* name) {
  llvm::BasicBlock* cold = new_block(name);
  llvm::BasicBlock* next = new_block("");
  set_unlikely(b_.CreateCondBr(condition, cold, next), true);
  b_.SetInsertPoint(next);
  return cold;
}

llvm::Constant* RegionLowering::external(HostAddr address) {
  char name[32];
  std::snprintf(name, sizeof name, "kiln_%llx", static_cast<unsigned long long>(address));
  symbols_[name] = address;
  auto* function = llvm::cast<llvm::Function>(module_.getOrInsertFunction(name, region_type_).getCallee());
  function->setCallingConv(llvm::CallingConv::PreserveNone);
  return function;
}

llvm::FunctionCallee RegionLowering::helper_symbol(const char* name, const void* function, llvm::FunctionType* type) {
  // Two helpers may share a name (or a name be used with two prototypes in tests): the address makes it unique.
  char unique[160];
  std::snprintf(unique, sizeof unique, "%s_%llx", name, static_cast<unsigned long long>(reinterpret_cast<HostAddr>(function)));
  symbols_[unique] = reinterpret_cast<HostAddr>(function);
  llvm::FunctionCallee callee = module_.getOrInsertFunction(unique, type);
  llvm::cast<llvm::Function>(callee.getCallee())->setDoesNotThrow();
  return callee;
}

llvm::Value* RegionLowering::state_address(u64 offset) { return b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), state_, offset); }
// Volatile keeps the code generator from looking for better chains and neighbours: most of these stores are cold.
void RegionLowering::store_state(u64 offset, LValue value) {
  b_.CreateStore(value, state_address(offset), /*isVolatile=*/true);
}

void RegionLowering::jump_to(llvm::Value* target) {
  llvm::CallInst* call = b_.CreateCall(region_type_, target, {state_});
  call->setCallingConv(llvm::CallingConv::PreserveNone);
  call->setTailCallKind(llvm::CallInst::TCK_MustTail);
  b_.CreateRetVoid();
}

void RegionLowering::go(int successor, GuestAddr pc) {
  if (successor >= 0) {
    b_.CreateBr(heads_[static_cast<std::size_t>(successor)]);
  } else {
    write_back();
    if (pc <= block_->pc) poll_at_exit(b_.getInt64(pc));
    jump_to_address(request_.direct_exit(pc));
  }
}

void RegionLowering::poll(const RegionBlock& block) {
  LValue interrupt = b_.CreateLoad(b_.getInt32Ty(), state_address(offsetof(CpuState, interrupt)), /*isVolatile=*/true);
  llvm::BasicBlock* cold = cold_branch(b_.CreateICmpNE(interrupt, b_.getInt32(0)), "interrupt");
  llvm::IRBuilder<>::InsertPointGuard guard(b_);
  b_.SetInsertPoint(cold);
  store_state(offsetof(CpuState, exit_kind), b_.getInt32(static_cast<u32>(ExitKind::Interrupt)));
  leave_with_segment_tail(block.ir.pc);
}

/// The state is written back. A loop larger than a region goes round through several, none of which has a cycle: who leaves backwards or
/// through a look-up polls.
void RegionLowering::poll_at_exit(LValue pc) {
  LValue interrupt = b_.CreateLoad(b_.getInt32Ty(), state_address(offsetof(CpuState, interrupt)), /*isVolatile=*/true);
  llvm::BasicBlock* cold = cold_branch(b_.CreateICmpNE(interrupt, b_.getInt32(0)), "interrupt");
  llvm::IRBuilder<>::InsertPointGuard guard(b_);
  b_.SetInsertPoint(cold);
  store_state(offsetof(CpuState, pc), pc);
  store_state(offsetof(CpuState, exit_kind), b_.getInt32(static_cast<u32>(ExitKind::Interrupt)));
  jump_to_address(request_.leave);
}

/// The targets of edges that lead back in a depth-first walk.
void RegionLowering::find_loop_heads() {
  enum : u8 { New, Open, Done };
  std::vector<u8> seen(request_.blocks.size(), New);
  loop_head_.assign(request_.blocks.size(), false);
  struct Step {
    std::size_t block;
    std::vector<int> next;
  };
  auto successors = [&](std::size_t i) {
    const RegionBlock& block = request_.blocks[i];
    std::vector<int> next{block.taken, block.not_taken};
    for (auto [pc, to] : block.indirect) next.push_back(to);
    return next;
  };
  std::vector<Step> stack{{0, successors(0)}};
  seen[0] = Open;
  while (!stack.empty()) {
    if (stack.back().next.empty()) {
      seen[stack.back().block] = Done;
      stack.pop_back();
      continue;
    }
    const int to = stack.back().next.back();
    stack.back().next.pop_back();
    if (to < 0) continue;
    const auto target = static_cast<std::size_t>(to);
    if (seen[target] == Open) {
      loop_head_[target] = true;
      back_edges_.push_back({stack.back().block, target});
    }
    if (seen[target] != New) continue;
    seen[target] = Open;
    stack.push_back({target, successors(target)});
  }
}

/// Full system: the region was grown for one translation of its pages.
void RegionLowering::check_key() {
  if (request_.valid_key == nullptr) return;
  LValue key = b_.CreateLoad(b_.getInt64Ty(), state_address(offsetof(CpuState, jump_key)));
  LValue place = b_.CreateIntToPtr(b_.getInt64(reinterpret_cast<u64>(request_.valid_key)), b_.getPtrTy());
  llvm::BasicBlock* stale = cold_branch(b_.CreateICmpNE(key, b_.CreateLoad(b_.getInt64Ty(), place, /*isVolatile=*/true)), "stale");
  llvm::IRBuilder<>::InsertPointGuard guard(b_);
  b_.SetInsertPoint(stale);
  store_state(offsetof(CpuState, pc), b_.getInt64(request_.blocks[0].ir.pc));
  store_state(offsetof(CpuState, exit_kind), b_.getInt32(static_cast<u32>(ExitKind::None)));
  jump_to_address(request_.leave);
}

std::string RegionLowering::run() {
  if (request_.blocks.empty()) return "tier 2: empty region";
  if (std::string error = collect_slots(); !error.empty()) return error;
  find_loop_heads();
  choose_carried_slots();
  find_entry_facts();

  region_type_ = llvm::FunctionType::get(b_.getVoidTy(), {b_.getPtrTy()}, false);
  function_ = llvm::Function::Create(region_type_, llvm::Function::ExternalLinkage, "region", module_);
  function_->setCallingConv(llvm::CallingConv::PreserveNone);
  function_->setDoesNotThrow();
  function_->addFnAttr("target-cpu", "x86-64-v3");
  // The guest may flush denormals: without this LLVM takes a test of the bits for a floating-point compare with zero.
  function_->addFnAttr("denormal-fp-math", "dynamic,dynamic");
  function_->addFnAttr("no-jump-tables", "true");
  function_->addFnAttr("prefer-vector-width", "128");
  state_ = function_->getArg(0);

  llvm::BasicBlock* entry = new_block("entry");
  for (std::size_t i = 0; i < request_.blocks.size(); ++i)
    heads_.push_back(entry_facts_[i].reached ? new_block(("b" + std::to_string(i)).c_str()) : nullptr);
  b_.SetInsertPoint(entry);
  make_slot_variables();
  b_.CreateBr(heads_[0]);
  for (std::size_t i = 0; i < request_.blocks.size(); ++i)
    if (entry_facts_[i].reached) lower_block(i);
  return failure_;
}

void RegionLowering::lower_block(std::size_t index) {
  const RegionBlock& rb = request_.blocks[index];
  block_ = &rb.ir;
  values_.assign(rb.ir.insts.size(), nullptr);
  wide_.assign(rb.ir.insts.size(), nullptr);
  dirty_ = entry_facts_[index].dirty;
  flags_kinds_ = entry_facts_[index].flags;
  insn_pc_ = rb.ir.pc;
  flags_read_.clear();
  forget_slots();
  begin_segment(0);
  b_.SetInsertPoint(heads_[index]);
  if (rb.poll) poll(rb);
  for (ir::Value v = 0; v < rb.ir.insts.size(); ++v) {
    const Inst& inst = rb.ir.insts[v];
    if (op_info(inst.op).effects & ENDS_BLOCK) {
      settle_nan_checks();
      lower_exit(rb, inst);
      return;
    }
    lower(inst, v);
  }
  if (failure_.empty()) failure_ = "tier 2: block without exit";
  b_.CreateUnreachable();
}

void RegionLowering::lower(const Inst& inst, ir::Value v) {
  if (defer_nan_check(inst, v)) return;
  switch (inst.op) {
    case Op::insn_start_:
      insn_pc_ = inst.imm;
      last_fault_ = nullptr;
      return;
    case Op::iconst_: values_[v] = constant(inst.type, inst.imm & mask_low(type_bits(inst.type))); return;
    case Op::vconst_: values_[v] = llvm::ConstantVector::get({b_.getInt64(inst.imm), b_.getInt64(inst.imm2)}); return;
    case Op::get_reg_: values_[v] = read_slot(slot_index(inst.imm)); return;
    case Op::set_reg_:
      write_slot(slot_index(inst.imm), arg(inst, 0));
      if (inst.imm == kKindOffset) flags_kinds_ = kinds_of_value(*block_, inst.args[0], flags_kinds_);
      return;
    case Op::set_flags_: lower_set_flags(inst.args[0]); return;
    // A flags value is no LLVM value: its maker is looked at where the record is set.
    case Op::get_flags_: lower_get_flags(v); return;
    case Op::flags_add_:
    case Op::flags_sub_:
    case Op::flags_logic_:
    case Op::flags_image_:
    case Op::eflags_add_:
    case Op::eflags_sub_:
    case Op::eflags_logic_:
    case Op::eflags_inc_:
    case Op::eflags_dec_:
    case Op::eflags_result_: return;
    case Op::cond_: values_[v] = lower_cond(flags_record(inst.args[0]), static_cast<Cond>(inst.aux)); return;
    case Op::flags_value_: values_[v] = lower_flags_value(flags_record(inst.args[0])); return;
    case Op::load_:
    case Op::store_:
    case Op::atomic_rmw_:
    case Op::atomic_cas_:
    case Op::fence_: values_[v] = lower_memory(inst, v); return;
    case Op::trap_if_: lower_trap(inst); return;
    case Op::call_: values_[v] = lower_call(inst, v); return;
    default: break;
  }
  LValue result = lower_integer(inst);
  if (!result) result = lower_float(inst);
  if (!result) result = lower_vector(inst);
  if (!result) result = lower_nzcv(inst);
  if (!result) result = lower_eimage(inst);
  if (!result) result = lower_fallback(inst);
  values_[v] = result;
}

llvm::Value* RegionLowering::zext64(ir::Value v) {
  if (wide_[v]) return wide_[v];
  return b_.CreateZExt(values_[v], b_.getInt64Ty());
}

namespace {
/// The op and its operand types as read-only bytes of the region.
llvm::GlobalVariable* eval_op_data(llvm::Module& module, const runtime::EvalOp& op) {
  auto* bytes = llvm::ConstantDataArray::getRaw(llvm::StringRef(reinterpret_cast<const char*>(&op), sizeof op), sizeof op,
                                                llvm::Type::getInt8Ty(module.getContext()));
  auto* data = new llvm::GlobalVariable(module, bytes->getType(), true, llvm::GlobalValue::PrivateLinkage, bytes, "op");
  data->setAlignment(llvm::Align(8));
  data->setUnnamedAddr(llvm::GlobalValue::UnnamedAddr::Global);
  return data;
}
runtime::EvalOp describe(const Block& block, const Inst& inst) {
  runtime::EvalOp op;
  std::memset(static_cast<void*>(&op), 0, sizeof op);
  op.inst = inst;
  for (unsigned i = 0; i < 4; ++i) op.arg_types[i] = inst.args[i] == kNoValue ? Type::Void : block[inst.args[i]].type;
  return op;
}
}  // namespace

llvm::Value* RegionLowering::lower_fallback(const Inst& inst) {
  if (op_info(inst.op).effects != PURE || type_bits(inst.type) == 0) {
    if (failure_.empty()) failure_ = std::string("tier 2: cannot compile op ") + op_info(inst.op).name;
    return llvm::PoisonValue::get(llvm_type(inst.type == Type::Void ? Type::I64 : inst.type));
  }
  ++fallbacks_[op_info(inst.op).name];
  return eval_any(inst);
}

llvm::Value* RegionLowering::eval_any(const Inst& inst) {
  auto* v128 = llvm::FixedVectorType::get(b_.getInt64Ty(), 2);
  if (!eval_buffer_) {
    llvm::IRBuilder<>::InsertPointGuard guard(b_);
    b_.SetInsertPoint(&function_->getEntryBlock(), function_->getEntryBlock().begin());
    eval_buffer_ = b_.CreateAlloca(v128, b_.getInt32(4));
    eval_buffer_->setAlignment(llvm::Align(16));
  }
  auto place = [&](unsigned i) { return b_.CreateConstInBoundsGEP1_32(v128, eval_buffer_, i); };
  for (unsigned i = 0; i < 4 && inst.args[i] != kNoValue; ++i) {
    LValue a = arg(inst, i);
    if (is_int(arg_type(inst, i))) a = zext64(inst.args[i]);
    b_.CreateStore(a, place(i));
  }
  auto* type = llvm::FunctionType::get(b_.getVoidTy(), {b_.getPtrTy(), b_.getPtrTy()}, false);
  llvm::CallInst* call = b_.CreateCall(runtime_function("eval", &runtime::eval, type),
                                       {eval_op_data(module_, describe(*block_, inst)), eval_buffer_});
  call->addFnAttr(llvm::Attribute::StrictFP);
  if (!is_int(inst.type)) return b_.CreateLoad(llvm_type(inst.type), eval_buffer_);
  return b_.CreateTrunc(b_.CreateLoad(b_.getInt64Ty(), eval_buffer_), llvm_type(inst.type));
}

llvm::Value* RegionLowering::eval_scalar(const Inst& inst) {
  auto* i64 = b_.getInt64Ty();
  auto* type = llvm::FunctionType::get(i64, {b_.getPtrTy(), i64, i64, i64}, false);
  std::vector<LValue> args{eval_op_data(module_, describe(*block_, inst))};
  for (unsigned i = 0; i < 3; ++i) {
    LValue a = b_.getInt64(0);
    if (inst.args[i] != kNoValue) {
      a = arg(inst, i);
      if (a->getType()->isFloatTy()) a = b_.CreateBitCast(a, b_.getInt32Ty());
      if (a->getType()->isDoubleTy()) a = b_.CreateBitCast(a, i64);
      a = b_.CreateZExt(a, i64);
    }
    args.push_back(a);
  }
  llvm::CallInst* call = b_.CreateCall(runtime_function("eval_scalar", &runtime::eval_scalar, type), args);
  call->setCallingConv(llvm::CallingConv::PreserveAll);
  call->addFnAttr(llvm::Attribute::StrictFP);
  LValue bits = b_.CreateTrunc(call, b_.getIntNTy(type_bits(inst.type)));
  return b_.CreateBitCast(bits, llvm_type(inst.type));
}

void RegionLowering::lower_exit(const RegionBlock& rb, const Inst& inst) {
  switch (inst.op) {
    case Op::exit_jump_: go(rb.taken, inst.imm); return;
    case Op::exit_branch_: {
      llvm::BasicBlock* taken = rb.taken >= 0 ? heads_[static_cast<std::size_t>(rb.taken)] : new_block("exit_taken");
      llvm::BasicBlock* not_taken =
          rb.not_taken >= 0 ? heads_[static_cast<std::size_t>(rb.not_taken)] : new_block("exit_not_taken");
      llvm::Instruction* branch = b_.CreateCondBr(arg(inst, 0), taken, not_taken);
      // The region was grown along hot edges: a way out of it is the rarer one.
      if ((rb.taken < 0) != (rb.not_taken < 0)) set_unlikely(branch, rb.taken < 0);
      if (rb.taken < 0) {
        b_.SetInsertPoint(taken);
        go(-1, inst.imm);
      }
      if (rb.not_taken < 0) {
        b_.SetInsertPoint(not_taken);
        go(-1, inst.imm2);
      }
      return;
    }
    case Op::exit_indirect_: lower_indirect_exit(rb, inst); return;
    case Op::exit_exception_:
      write_back();
      store_state(offsetof(CpuState, pc), b_.getInt64(inst.imm));
      store_state(offsetof(CpuState, exit_kind), b_.getInt32(inst.aux));
      store_state(offsetof(CpuState, exit_value), b_.getInt64(inst.imm2));
      jump_to_address(request_.leave);
      return;
    default:
      if (failure_.empty()) failure_ = std::string("tier 2: cannot compile exit ") + op_info(inst.op).name;
      b_.CreateUnreachable();
  }
}

void RegionLowering::lower_indirect_exit(const RegionBlock& rb, const Inst& inst) {
  LValue target = arg(inst, 0);
  for (auto [pc, to] : rb.indirect) {
    if (to < 0) continue;
    llvm::BasicBlock* next = new_block("");
    set_unlikely(b_.CreateCondBr(b_.CreateICmpEQ(target, b_.getInt64(pc)), heads_[static_cast<std::size_t>(to)], next), false);
    b_.SetInsertPoint(next);
  }
  write_back();
  poll_at_exit(target);
  // The same probe as tier 1's: the jump cache lies directly below the state.
  static_assert(sizeof(JumpCacheEntry) == 16 && offsetof(JumpCacheEntry, pc) == 0 && offsetof(JumpCacheEntry, code) == 8);
  LValue index = b_.CreateAnd(b_.CreateShl(target, b_.getInt64(2)), b_.getInt64((kJumpCacheEntries - 1) << 4));
  LValue entry = b_.CreateGEP(b_.getInt8Ty(), state_, b_.CreateSub(index, b_.getInt64(kJumpCacheBytes)));
  LValue pc = b_.CreateLoad(b_.getInt64Ty(), entry);
  if (request_.soft_mmu) pc = b_.CreateXor(pc, b_.CreateLoad(b_.getInt64Ty(), state_address(offsetof(CpuState, jump_key)), /*isVolatile=*/true));
  llvm::BasicBlock* miss = cold_branch(b_.CreateICmpNE(pc, target), "miss");
  LValue code = b_.CreateLoad(b_.getPtrTy(), b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), entry, 8));
  jump_to(code);
  b_.SetInsertPoint(miss);
  store_state(offsetof(CpuState, pc), target);
  jump_to_address(request_.lookup_miss);
}

}  // namespace kiln::jit
