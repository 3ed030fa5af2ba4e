// Guest memory and helper calls.
//
// Loads and stores: see fault_sites.h. Atomics are one host instruction inside `callbr` asm; beside the instruction the asm
// emits a line {pc, label} into the section .kiln_fault; the label is a cold block that writes the dirty slots and pc back and
// jumps to fault_leave. The SIGSEGV handler looks the host pc up and resumes at the label, with all registers as they were.
#include <llvm/IR/InlineAsm.h>

#include "jit/llvm/lowering.h"
#include "jit/llvm/runtime.h"

namespace kiln::jit {

using namespace ir;

// What a fault block stores is most of the code that LLVM sees, so it is shared: between two points where all slots are in
// memory (a segment), slots that no instruction writes before the last access have one value only, stored by one tail.
void RegionLowering::begin_segment(ir::Value first) {
  segment_tail_ = nullptr;
  last_fault_ = nullptr;
  SlotSet written, before_last_access;
  for (ir::Value v = first; v < block_->insts.size(); ++v) {
    const Inst& inst = block_->insts[v];
    const u32 effects = effects_of(inst);
    if (inst.op == Op::set_reg_) written.set(slot_index(inst.imm));
    else if (inst.op == Op::set_flags_)
      for (unsigned i = 0; i < 3; ++i) written.set(flags_slots_ + i);
    else if (inst.op == Op::call_) {
      if (effects & (READS_STATE | WRITES_STATE | MAY_FAULT)) break;
    } else if (effects & MAY_FAULT) before_last_access = written;
  }
  segment_stable_ = dirty_ & ~before_last_access;
  if (segment_stable_.count() < 3) segment_stable_.reset();
}

void RegionLowering::leave_with_segment_tail(GuestAddr pc) {
  write_back(dirty_ & ~segment_stable_);
  store_state(offsetof(CpuState, pc), b_.getInt64(pc));
  if (segment_stable_.none()) return jump_to_address(request_.fault_leave);
  const bool first = !segment_tail_;
  if (first) segment_tail_ = new_block("tail");
  b_.CreateBr(segment_tail_);
  if (first) {
    b_.SetInsertPoint(segment_tail_);
    write_back(segment_stable_);
    jump_to_address(request_.fault_leave);
  }
}

llvm::BasicBlock* RegionLowering::fault_block() {
  // Accesses of one instruction with no slot written between them see the same state.
  if (last_fault_) return last_fault_;
  llvm::IRBuilder<>::InsertPointGuard guard(b_);
  llvm::BasicBlock* fault = new_block("fault");
  // The slots' variables must be read on the path of the access: here, in the block that the access branches to.
  b_.SetInsertPoint(fault);
  leave_with_segment_tail(insn_pc_);
  return last_fault_ = fault;
}

llvm::Value* RegionLowering::guest_address(const Inst& inst, u64 displacement) {
  LValue address = arg(inst, 0);
  if (displacement) address = b_.CreateAdd(address, b_.getInt64(displacement));
  if (request_.guest->pointer_bits == 32) address = b_.CreateAnd(address, b_.getInt64(0xffffffff));
  return address;
}

llvm::Value* RegionLowering::emit_access(const Access& access, unsigned label_number) {
  const std::string label = std::to_string(label_number);
  const std::string text =
      "1: " + access.text + "\n.pushsection .kiln_fault,\"a\",@progbits\n.quad 1b, ${" + label + ":l}\n.popsection";
  std::vector<llvm::Type*> types;
  for (LValue v : access.operands) types.push_back(v->getType());
  auto* type = llvm::FunctionType::get(access.result ? access.result : b_.getVoidTy(), types, false);
  auto* assembly = llvm::InlineAsm::get(type, text, access.constraints + ",!i" + (access.writes_flags ? ",~{flags}" : ""),
                                        /*hasSideEffects=*/true);
  llvm::BasicBlock* next = new_block("");
  llvm::CallBrInst* call = b_.CreateCallBr(type, assembly, next, {fault_block()}, access.operands);
  call->addParamAttr(static_cast<unsigned>(access.memory_operand),
                     llvm::Attribute::get(context_, llvm::Attribute::ElementType, access.element));
  call->addFnAttr(llvm::Attribute::NoUnwind);
  b_.SetInsertPoint(next);
  return call;
}

void RegionLowering::check_alignment(LValue address, unsigned bytes) {
  if (bytes == 1) return;
  LValue low = b_.CreateAnd(address, b_.getInt64(bytes - 1));
  llvm::BasicBlock* cold = cold_branch(b_.CreateICmpNE(low, b_.getInt64(0)), "misaligned");
  llvm::IRBuilder<>::InsertPointGuard guard(b_);
  b_.SetInsertPoint(cold);
  store_state(offsetof(CpuState, exit_kind), b_.getInt32(static_cast<u32>(ExitKind::Alignment)));
  store_state(offsetof(CpuState, exit_value), address);
  leave_with_segment_tail(insn_pc_);
}

void RegionLowering::lower_trap(const Inst& inst) {
  llvm::BasicBlock* cold = cold_branch(arg(inst, 0), "trap");
  llvm::IRBuilder<>::InsertPointGuard guard(b_);
  b_.SetInsertPoint(cold);
  store_state(offsetof(CpuState, exit_kind), b_.getInt32(inst.aux));
  store_state(offsetof(CpuState, exit_value), b_.getInt64(inst.imm));
  leave_with_segment_tail(insn_pc_);
}

// The state that a fault at the access that follows must show.
void RegionLowering::record_state() {
  FaultSites::Site site{insn_pc_, {}};
  std::vector<LValue> operands{b_.getInt64(sites_.sites.size()), b_.getInt32(0)};
  for (unsigned i = 0; i < slots_.size(); ++i)
    if (dirty_[i]) {
      site.slots.push_back({slots_[i].offset, slots_[i].type});
      operands.push_back(read_slot(i));
    }
  b_.CreateIntrinsic(llvm::Intrinsic::experimental_stackmap, {}, operands);
  sites_.sites.push_back(std::move(site));
}

// The TLB in line; its slow path keeps all registers, so that the fast one pays for nothing.
llvm::Value* RegionLowering::host_pointer(LValue address, bool store, LValue data) {
  auto* i64 = b_.getInt64Ty();
  const s64 table = kTlbOffset + static_cast<s64>(access_.mmu_index * kTlbEntries * sizeof(TlbEntry));
  static_assert(sizeof(TlbEntry) == 32);
  LValue offset = b_.CreateAnd(b_.CreateLShr(address, b_.getInt64(12 - 5)), b_.getInt64((kTlbEntries - 1) << 5));
  LValue entry = b_.CreateGEP(b_.getInt8Ty(), state_, b_.CreateAdd(offset, b_.getInt64(static_cast<u64>(table))));
  const auto field = [&](u64 at) { return b_.CreateLoad(i64, b_.CreateConstInBoundsGEP1_64(b_.getInt8Ty(), entry, at), /*isVolatile=*/true); };
  LValue tag = field(store ? offsetof(TlbEntry, write_tag) : offsetof(TlbEntry, read_tag));
  LValue last = b_.CreateAdd(address, b_.getInt64(width_bytes(access_.width) - 1));
  LValue page = b_.CreateAnd(last, b_.getInt64(~u64{4095}));
  llvm::BasicBlock *hit = new_block("hit"), *miss = new_block("miss"), *join = new_block("");
  set_unlikely(b_.CreateCondBr(b_.CreateICmpEQ(tag, page), hit, miss), false);
  b_.SetInsertPoint(hit);
  LValue quick = b_.CreateAdd(address, field(offsetof(TlbEntry, addend)));
  b_.CreateBr(join);
  b_.SetInsertPoint(miss);
  u64 desc = access_.pack() | (store ? kStoreAccess : 0);
  LValue low = b_.getInt64(0), high = low;
  if (data != nullptr) {
    desc |= runtime::kWithValue;
    const unsigned bits = static_cast<unsigned>(data->getType()->getPrimitiveSizeInBits());
    if (bits == 128) {
      LValue lanes = b_.CreateBitCast(data, llvm::FixedVectorType::get(i64, 2));
      low = b_.CreateExtractElement(lanes, u64{0});
      high = b_.CreateExtractElement(lanes, u64{1});
    } else {
      low = b_.CreateZExt(b_.CreateBitCast(data, b_.getIntNTy(bits)), i64);
    }
  }
  auto* type = llvm::FunctionType::get(i64, {b_.getPtrTy(), i64, i64, i64, i64}, false);
  llvm::CallInst* call =
      b_.CreateCall(runtime_function("soft_pointer", &runtime::soft_pointer, type), {state_, address, b_.getInt64(desc), low, high});
  call->setCallingConv(llvm::CallingConv::PreserveAll);
  call->addFnAttr(llvm::Attribute::StrictFP);
  set_unlikely(b_.CreateCondBr(b_.CreateICmpEQ(call, b_.getInt64(0)), fault_block(), join), true);
  llvm::BasicBlock* missed = b_.GetInsertBlock();
  b_.SetInsertPoint(join);
  llvm::PHINode* host = b_.CreatePHI(i64, 2);
  host->addIncoming(quick, hit);
  host->addIncoming(call, missed);
  return b_.CreateIntToPtr(host, b_.getPtrTy());
}

llvm::Value* RegionLowering::load_guest(LValue address, llvm::Type* type) {
  if (request_.soft_mmu) return b_.CreateAlignedLoad(type, host_pointer(address, false, nullptr), llvm::Align(1), /*isVolatile=*/true);
  record_state();
  return b_.CreateAlignedLoad(type, b_.CreateIntToPtr(address, b_.getPtrTy(kGuestSpace)), llvm::Align(1), /*isVolatile=*/true);
}

void RegionLowering::store_guest(LValue address, LValue value) {
  if (request_.soft_mmu) {
    b_.CreateAlignedStore(value, host_pointer(address, true, value), llvm::Align(1), /*isVolatile=*/true);
    return;
  }
  record_state();
  b_.CreateAlignedStore(value, b_.CreateIntToPtr(address, b_.getPtrTy(kGuestSpace)), llvm::Align(1), /*isVolatile=*/true);
}

llvm::Value* RegionLowering::load_integer(LValue address, Width width, bool sign, bool to64, bool swap) {
  LValue loaded = load_guest(address, b_.getIntNTy(width_bits(width)));
  if (swap && width != Width::B1) loaded = b_.CreateUnaryIntrinsic(llvm::Intrinsic::bswap, loaded);
  if (sign && to64) return b_.CreateSExt(loaded, b_.getInt64Ty());
  if (sign && width < Width::B4) loaded = b_.CreateSExt(loaded, b_.getInt32Ty());
  return b_.CreateZExt(loaded, b_.getInt64Ty());
}

void RegionLowering::store_integer(LValue address, LValue value, Width width, bool swap, Order order) {
  llvm::Type* narrow = b_.getIntNTy(width_bits(width));
  value = b_.CreateZExtOrTrunc(value, narrow);
  if (swap && width != Width::B1) value = b_.CreateUnaryIntrinsic(llvm::Intrinsic::bswap, value);
  if (order != Order::SeqCst) return store_guest(address, value);
  if (request_.soft_mmu) {
    store_guest(address, value);
    b_.CreateFence(llvm::AtomicOrdering::SequentiallyConsistent);
    return;
  }
  // A sequentially consistent store must not be passed by a later load: xchg is x86's cheapest way.
  // Its register is written, so it is an in-out operand whose result nobody reads.
  static const char* const kExchange[4] = {"xchgb ${0:b}, %gs:$1", "xchgw ${0:w}, %gs:$1", "xchgl ${0:k}, %gs:$1",
                                           "xchgq $0, %gs:$1"};
  Access access{kExchange[static_cast<unsigned>(width)],
                "=r,*m,0",
                b_.getInt64Ty(),
                {b_.CreateIntToPtr(address, b_.getPtrTy()), b_.CreateZExt(value, b_.getInt64Ty())},
                0,
                narrow};
  emit_access(access, 3);
}

llvm::Value* RegionLowering::from_wide(ir::Value v, Type type, LValue wide) {
  if (type == Type::I64) return wide;
  wide_[v] = wide;
  return b_.CreateTrunc(wide, llvm_type(type));
}

llvm::Value* RegionLowering::lower_load(const Inst& inst, ir::Value v) {
  const MemOp m = MemOp::unpack(inst.aux);
  LValue address = guest_address(inst, inst.imm);
  if (m.align_check) check_alignment(address, width_bytes(m.width));
  if (is_int(inst.type))
    return from_wide(v, inst.type, load_integer(address, m.width, m.sign_extend, inst.type == Type::I64, m.big_endian));
  if (is_float(inst.type)) {
    if (m.big_endian) {
      LValue bits = load_integer(address, m.width, false, true, true);
      return b_.CreateBitCast(b_.CreateTrunc(bits, b_.getIntNTy(width_bits(m.width))), llvm_type(inst.type));
    }
    return load_guest(address, llvm_type(inst.type));
  }
  if (inst.type != Type::V128 || m.width > Width::B16) return nullptr;
  llvm::Type* v128 = llvm_type(Type::V128);
  if (m.width == Width::B16) {
    LValue loaded = load_guest(address, v128);
    if (!m.big_endian) return loaded;
    auto* bytes = llvm::FixedVectorType::get(b_.getInt8Ty(), 16);
    return b_.CreateBitCast(b_.CreateVectorReverse(b_.CreateBitCast(loaded, bytes)), v128);
  }
  if (!m.big_endian && m.width >= Width::B4) {
    // As floating-point numbers: that is how LLVM loads into the lowest lane and clears the rest.
    llvm::Type* lane = m.width == Width::B4 ? b_.getFloatTy() : b_.getDoubleTy();
    auto* lanes = llvm::FixedVectorType::get(lane, m.width == Width::B4 ? 4 : 2);
    LValue loaded = load_guest(address, lane);
    return b_.CreateBitCast(b_.CreateInsertElement(llvm::ConstantAggregateZero::get(lanes), loaded, u64{0}), v128);
  }
  LValue low = load_integer(address, m.width, false, true, m.big_endian);
  return b_.CreateInsertElement(llvm::ConstantAggregateZero::get(v128), low, u64{0});
}

void RegionLowering::lower_store(const Inst& inst) {
  const MemOp m = MemOp::unpack(inst.aux);
  const Type type = arg_type(inst, 1);
  LValue data = arg(inst, 1);
  LValue address = guest_address(inst, inst.imm);
  if (m.align_check) check_alignment(address, width_bytes(m.width));
  if (type == Type::I1) data = b_.CreateZExt(data, b_.getInt8Ty());
  if (is_int(type)) return store_integer(address, data, m.width, m.big_endian, m.order);
  if (is_float(type)) {
    if (m.big_endian || m.order == Order::SeqCst) {
      LValue bits = b_.CreateBitCast(data, b_.getIntNTy(type_bits(type)));
      return store_integer(address, bits, m.width, m.big_endian, m.order);
    }
    return store_guest(address, data);
  }
  auto* v128 = llvm_type(Type::V128);
  if (m.width == Width::B16) {
    if (m.big_endian) {
      auto* bytes = llvm::FixedVectorType::get(b_.getInt8Ty(), 16);
      data = b_.CreateBitCast(b_.CreateVectorReverse(b_.CreateBitCast(data, bytes)), v128);
    }
    return store_guest(address, data);
  }
  if (!m.big_endian && m.width >= Width::B4 && m.order != Order::SeqCst) {
    auto* lanes =
        llvm::FixedVectorType::get(m.width == Width::B4 ? b_.getFloatTy() : b_.getDoubleTy(), m.width == Width::B4 ? 4 : 2);
    return store_guest(address, b_.CreateExtractElement(b_.CreateBitCast(data, lanes), u64{0}));
  }
  store_integer(address, b_.CreateExtractElement(data, u64{0}), m.width, m.big_endian, m.order);
}

llvm::Value* RegionLowering::compare_exchange(LValue address, LValue expected, LValue desired, Width width) {
  if (request_.soft_mmu) {
    auto* narrow = b_.getIntNTy(width_bits(width));
    LValue pair = b_.CreateAtomicCmpXchg(host_pointer(address, true, nullptr), b_.CreateTrunc(expected, narrow), b_.CreateTrunc(desired, narrow),
                                         llvm::Align(width_bytes(width)), llvm::AtomicOrdering::SequentiallyConsistent,
                                         llvm::AtomicOrdering::SequentiallyConsistent);
    return b_.CreateZExt(b_.CreateExtractValue(pair, 0), b_.getInt64Ty());
  }
  static const char* const kText[4] = {"lock cmpxchgb ${3:b}, %gs:$1", "lock cmpxchgw ${3:w}, %gs:$1",
                                       "lock cmpxchgl ${3:k}, %gs:$1", "lock cmpxchgq $3, %gs:$1"};
  // The lock prefix is part of the instruction: the fault's pc is its address.
  Access access{kText[static_cast<unsigned>(width)],
                "={ax},*m,0,r",
                b_.getInt64Ty(),
                {b_.CreateIntToPtr(address, b_.getPtrTy()), expected, desired},
                0,
                b_.getIntNTy(width_bits(width)),
                true};
  LValue old = emit_access(access, 4);
  return b_.CreateAnd(old, b_.getInt64(mask_low(width_bits(width))));
}

llvm::Value* RegionLowering::lower_cas(const Inst& inst, ir::Value v) {
  const MemOp m = MemOp::unpack(inst.aux);
  if (m.big_endian || m.width > Width::B8) {
    if (failure_.empty()) failure_ = "tier 2: atomic_cas of this width or byte order is not supported";
    return llvm::PoisonValue::get(llvm_type(inst.type));
  }
  LValue address = guest_address(inst, inst.imm);
  if (m.align_check) check_alignment(address, width_bytes(m.width));
  return from_wide(v, inst.type, compare_exchange(address, zext64(inst.args[1]), zext64(inst.args[2]), m.width));
}

llvm::Value* RegionLowering::lower_rmw(const Inst& inst, ir::Value v) {
  const MemOp m = MemOp::unpack(inst.aux);
  if (m.big_endian || m.width > Width::B8) {
    if (failure_.empty()) failure_ = "tier 2: atomic_rmw of this width or byte order is not supported";
    return llvm::PoisonValue::get(llvm_type(inst.type));
  }
  const unsigned w = static_cast<unsigned>(m.width);
  LValue address = guest_address(inst, inst.imm);
  if (m.align_check) check_alignment(address, width_bytes(m.width));
  LValue operand = zext64(inst.args[1]);
  if (request_.soft_mmu) {
    using Kind = llvm::AtomicRMWInst::BinOp;
    Kind kind = Kind::Xchg;
    switch (m.rmw) {
      case RmwKind::Add: kind = Kind::Add; break;
      case RmwKind::And: kind = Kind::And; break;
      case RmwKind::AndNot: kind = Kind::And, operand = b_.CreateNot(operand); break;
      case RmwKind::Or: kind = Kind::Or; break;
      case RmwKind::Xor: kind = Kind::Xor; break;
      case RmwKind::SMax: kind = Kind::Max; break;
      case RmwKind::SMin: kind = Kind::Min; break;
      case RmwKind::UMax: kind = Kind::UMax; break;
      case RmwKind::UMin: kind = Kind::UMin; break;
      case RmwKind::Swap: kind = Kind::Xchg; break;
    }
    auto* narrow = b_.getIntNTy(width_bits(m.width));
    LValue old = b_.CreateAtomicRMW(kind, host_pointer(address, true, nullptr), b_.CreateTrunc(operand, narrow), llvm::Align(width_bytes(m.width)),
                                    llvm::AtomicOrdering::SequentiallyConsistent);
    return from_wide(v, inst.type, b_.CreateZExt(old, b_.getInt64Ty()));
  }
  const u64 mask = mask_low(width_bits(m.width));
  if (m.rmw == RmwKind::Add || m.rmw == RmwKind::Swap) {
    static const char* const kAdd[4] = {"lock xaddb ${0:b}, %gs:$1", "lock xaddw ${0:w}, %gs:$1", "lock xaddl ${0:k}, %gs:$1",
                                        "lock xaddq $0, %gs:$1"};
    static const char* const kSwap[4] = {"xchgb ${0:b}, %gs:$1", "xchgw ${0:w}, %gs:$1", "xchgl ${0:k}, %gs:$1",
                                         "xchgq $0, %gs:$1"};
    Access access{m.rmw == RmwKind::Add ? kAdd[w] : kSwap[w],
                  "=r,*m,0",
                  b_.getInt64Ty(),
                  {b_.CreateIntToPtr(address, b_.getPtrTy()), operand},
                  0,
                  b_.getIntNTy(width_bits(m.width)),
                  m.rmw == RmwKind::Add};
    return from_wide(v, inst.type, b_.CreateAnd(emit_access(access, 3), b_.getInt64(mask)));
  }
  // Everything else is a compare-and-exchange loop.
  LValue first = load_integer(address, m.width, false, true, false);
  llvm::BasicBlock* before = b_.GetInsertBlock();
  llvm::BasicBlock* loop = new_block("rmw");
  b_.CreateBr(loop);
  b_.SetInsertPoint(loop);
  llvm::PHINode* old = b_.CreatePHI(b_.getInt64Ty(), 2);
  old->addIncoming(first, before);
  auto* narrow = b_.getIntNTy(width_bits(m.width));
  LValue x = b_.CreateTrunc(old, narrow), y = b_.CreateTrunc(operand, narrow), result = nullptr;
  switch (m.rmw) {
    case RmwKind::And: result = b_.CreateAnd(x, y); break;
    case RmwKind::AndNot: result = b_.CreateAnd(x, b_.CreateNot(y)); break;
    case RmwKind::Or: result = b_.CreateOr(x, y); break;
    case RmwKind::Xor: result = b_.CreateXor(x, y); break;
    case RmwKind::SMax: result = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smax, x, y); break;
    case RmwKind::SMin: result = b_.CreateBinaryIntrinsic(llvm::Intrinsic::smin, x, y); break;
    case RmwKind::UMax: result = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umax, x, y); break;
    default: result = b_.CreateBinaryIntrinsic(llvm::Intrinsic::umin, x, y); break;
  }
  LValue seen = compare_exchange(address, old, b_.CreateZExt(result, b_.getInt64Ty()), m.width);
  old->addIncoming(seen, b_.GetInsertBlock());
  llvm::BasicBlock* done = new_block("");
  set_unlikely(b_.CreateCondBr(b_.CreateICmpEQ(seen, old), done, loop), false);
  b_.SetInsertPoint(done);
  return from_wide(v, inst.type, seen);
}

llvm::Value* RegionLowering::lower_memory(const Inst& inst, ir::Value v) {
  if (inst.op != Op::fence_) access_ = MemOp::unpack(inst.aux);
  switch (inst.op) {
    case Op::load_: {
      LValue loaded = lower_load(inst, v);
      if (!loaded && failure_.empty()) failure_ = "tier 2: load of this type is not supported";
      return loaded ? loaded : llvm::PoisonValue::get(llvm_type(inst.type));
    }
    case Op::store_: lower_store(inst); return nullptr;
    case Op::atomic_rmw_: return lower_rmw(inst, v);
    case Op::atomic_cas_: return lower_cas(inst, v);
    case Op::fence_:
      // x86 keeps loads in order with loads and stores with stores; only store-to-load order needs an instruction.
      if (static_cast<Order>(inst.aux) == Order::SeqCst) {
        auto* type = llvm::FunctionType::get(b_.getVoidTy(), false);
        b_.CreateCall(type, llvm::InlineAsm::get(type, "lock orl $$0, -4(%rsp)", "~{memory},~{flags}", true));
      }
      return nullptr;
    default: return nullptr;
  }
}

llvm::Value* RegionLowering::lower_call(const Inst& inst, ir::Value v) {
  const Helper& helper = helper_of(inst);
  std::vector<LValue> args{state_};
  std::vector<llvm::Type*> types{b_.getPtrTy()};
  for_each_arg(*block_, inst, [&](ir::Value from) {
    LValue a = is_int(type_of(from)) ? zext64(from) : value(from);
    args.push_back(a);
    types.push_back(a->getType());
  });
  const u32 effects = helper.effects;
  if (effects & (READS_STATE | WRITES_STATE | MAY_FAULT)) {
    write_back();
    dirty_.reset();
    if (effects & (READS_STATE | MAY_FAULT)) store_state(offsetof(CpuState, pc), b_.getInt64(insn_pc_));
  }
  auto* type = llvm::FunctionType::get(llvm_type(helper.result), types, false);
  llvm::FunctionCallee callee = helper_symbol(helper.name, helper.function, type);
  if (effects == PURE) {
    auto* function = llvm::cast<llvm::Function>(callee.getCallee());
    function->setDoesNotAccessMemory();
    function->setWillReturn();
  }
  llvm::CallInst* call = b_.CreateCall(callee, args);
  if (effects != PURE) call->addFnAttr(llvm::Attribute::StrictFP);
  if (effects & WRITES_STATE) {
    reload();
    flags_kinds_ = kUnknownKind;
  }
  if (effects & (READS_STATE | WRITES_STATE | MAY_FAULT)) begin_segment(v + 1);
  return helper.result == Type::Void ? nullptr : call;
}

}  // namespace kiln::jit
