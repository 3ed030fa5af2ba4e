// Loads, stores, atomics.
#include <immintrin.h>

#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

using ir::MemOp;
using ir::Order;
using ir::Width;

namespace {

template <class T>
T order_bytes(T value, bool swap) {
  if constexpr (sizeof(T) == 1) return value;
  else if constexpr (sizeof(T) == 2) return swap ? __builtin_bswap16(value) : value;
  else if constexpr (sizeof(T) == 4) return swap ? __builtin_bswap32(value) : value;
  else return swap ? __builtin_bswap64(value) : value;
}
template <class T>
T combine(ir::RmwKind kind, T old, T b) {
  using S = std::make_signed_t<T>;
  switch (kind) {
    case ir::RmwKind::Add: return static_cast<T>(old + b);
    case ir::RmwKind::And: return old & b;
    case ir::RmwKind::AndNot: return old & static_cast<T>(~b);
    case ir::RmwKind::Or: return old | b;
    case ir::RmwKind::Xor: return old ^ b;
    case ir::RmwKind::SMax: return static_cast<S>(old) > static_cast<S>(b) ? old : b;
    case ir::RmwKind::SMin: return static_cast<S>(old) < static_cast<S>(b) ? old : b;
    case ir::RmwKind::UMax: return old > b ? old : b;
    case ir::RmwKind::UMin: return old < b ? old : b;
    case ir::RmwKind::Swap: return b;
  }
  return b;
}
template <class T>
u64 rmw(u64 address, u64 operand, MemOp m) {
  auto* p = reinterpret_cast<T __seg_gs*>(address);
  T raw = *p, next;
  do {
    next = order_bytes<T>(combine<T>(m.rmw, order_bytes<T>(raw, m.big_endian), static_cast<T>(operand)), m.big_endian);
  } while (!__atomic_compare_exchange_n(p, &raw, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
  return order_bytes<T>(raw, m.big_endian);
}
template <class T>
u64 cas(u64 address, u64 expected, u64 desired, MemOp m) {
  auto* p = reinterpret_cast<T __seg_gs*>(address);
  T raw = order_bytes<T>(static_cast<T>(expected), m.big_endian);
  const T next = order_bytes<T>(static_cast<T>(desired), m.big_endian);
  __atomic_compare_exchange_n(p, &raw, next, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  return order_bytes<T>(raw, m.big_endian);
}
u64 slow_rmw(CpuState* state, u64 address, u64 operand) {
  const MemOp m = MemOp::unpack(static_cast<u32>(state->helper_args[1]));
  address += state->helper_args[0];
  switch (m.width) {
    case Width::B1: return rmw<u8>(address, operand, m);
    case Width::B2: return rmw<u16>(address, operand, m);
    case Width::B4: return rmw<u32>(address, operand, m);
    default: return rmw<u64>(address, operand, m);
  }
}
u64 slow_cas(CpuState* state, u64 address, u64 expected, u64 desired) {
  const MemOp m = MemOp::unpack(static_cast<u32>(state->helper_args[1]));
  address += state->helper_args[0];
  switch (m.width) {
    case Width::B1: return cas<u8>(address, expected, desired, m);
    case Width::B2: return cas<u16>(address, expected, desired, m);
    case Width::B4: return cas<u32>(address, expected, desired, m);
    default: return cas<u64>(address, expected, desired, m);
  }
}
__m128i slow_cas16(CpuState* state, u64 address, __m128i expected, __m128i desired) {
  const MemOp m = MemOp::unpack(static_cast<u32>(state->helper_args[1]));
  address += state->helper_args[0];
  const auto swap = [&](__m128i v) {
    if (!m.big_endian) return v;
    return _mm_shuffle_epi8(v, _mm_set_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15));
  };
  expected = swap(expected);
  desired = swap(desired);
  u64 low = static_cast<u64>(_mm_extract_epi64(expected, 0)), high = static_cast<u64>(_mm_extract_epi64(expected, 1));
  asm volatile("lock cmpxchg16b %%gs:(%4)"
               : "+a"(low), "+d"(high)
               : "b"(_mm_extract_epi64(desired, 0)), "c"(_mm_extract_epi64(desired, 1)), "r"(address)
               : "memory", "cc");
  return swap(_mm_set_epi64x(static_cast<s64>(high), static_cast<s64>(low)));
}
// Full system: with the state's gs base 0, a guest_pointer is an address as the above take it.
u64 soft_address(CpuState* state, u64 address) {
  const u64 displacement = state->helper_args[0];
  const u32 desc = static_cast<u32>(state->helper_args[1]);
  state->helper_args[0] = 0;
  return reinterpret_cast<u64>(ir::guest_pointer(state, address + displacement, desc | ir::kStoreAccess));
}
u64 soft_rmw(CpuState* state, u64 address, u64 operand) { return slow_rmw(state, soft_address(state, address), operand); }
u64 soft_cas(CpuState* state, u64 address, u64 expected, u64 desired) { return slow_cas(state, soft_address(state, address), expected, desired); }
__m128i soft_cas16(CpuState* state, u64 address, __m128i expected, __m128i desired) {
  return slow_cas16(state, soft_address(state, address), expected, desired);
}
constexpr u32 kAtomicEffects = ir::READS_MEM | ir::WRITES_MEM | ir::MAY_FAULT;
const ir::Helper kSlowRmw{
    "slow_rmw", reinterpret_cast<const void*>(&slow_rmw), Type::I64, {Type::I64, Type::I64}, kAtomicEffects};
const ir::Helper kSlowCas{
    "slow_cas", reinterpret_cast<const void*>(&slow_cas), Type::I64, {Type::I64, Type::I64, Type::I64}, kAtomicEffects};
const ir::Helper kSlowCas16{
    "slow_cas16", reinterpret_cast<const void*>(&slow_cas16), Type::V128, {Type::I64, Type::V128, Type::V128}, kAtomicEffects};
const ir::Helper kSoftRmw{"soft_rmw", reinterpret_cast<const void*>(&soft_rmw), Type::I64, {Type::I64, Type::I64}, kAtomicEffects};
const ir::Helper kSoftCas{
    "soft_cas", reinterpret_cast<const void*>(&soft_cas), Type::I64, {Type::I64, Type::I64, Type::I64}, kAtomicEffects};
const ir::Helper kSoftCas16{
    "soft_cas16", reinterpret_cast<const void*>(&soft_cas16), Type::V128, {Type::I64, Type::V128, Type::V128}, kAtomicEffects};

}  // namespace

/// Folds a deferred add into the access; afterwards registers are pinned and t may hold the address.
Stitcher::Address Stitcher::address(Value a, u64 displacement) {
  Address result;
  if (!fits32(displacement)) {
    const u8 base = use(a);
    const u8 offset = fresh(Int);
    load_imm(offset, displacement);
    emit(id::lea_t + base * kIntRegs + offset);
    result.through_t = true;
    return result;
  }
  result.displacement = displacement;
  if (deferred(a, Op::add_)) {
    const Inst& sum = (*block_)[root(a)];
    Value x = sum.args[0], y = sum.args[1];
    if (deferred(x, Op::shl_)) std::swap(x, y);
    unsigned scale = 0;
    if (deferred(y, Op::shl_)) {
      const Inst& shifted = (*block_)[root(y)];
      scale = static_cast<unsigned>(const_of(shifted.args[1]));
      y = shifted.args[0];
    }
    const u8 rx = use(x), ry = use(y);
    emit(id::lea_t + (scale * kIntRegs + rx) * kIntRegs + ry);
    result.through_t = true;
    return result;
  }
  result.base = use(a);
  return result;
}

Stitcher::Address Stitcher::access(Value a, u64 displacement, MemOp m, bool store, Class cls, u8 value) {
  if (!options_->soft_mmu) return address(a, displacement);
  if (!fits32(displacement) || (displacement == 0 && deferred(a, Op::add_))) {
    address(a, displacement);
  } else {
    emit(id::lea_ti + use(a), displacement);
  }
  const u32 tlb = static_cast<u32>(ir::kTlbOffset) + m.mmu_index * static_cast<u32>(ir::kTlbEntries * sizeof(ir::TlbEntry));
  emit(store ? id::tlb_write_t : id::tlb_read_t, tlb, ir::width_bytes(m.width) - 1);
  u32 desc = m.pack() | (store ? ir::kStoreAccess : 0);
  if (value != kNoReg) desc |= kHasValue | (cls == Vec ? kVectorValue : 0) | u32{value} << kValueRegister;
  misses_.push_back({last_taken_, here(), desc, static_cast<u32>(code_.recovery.size())});
  recovery_point(0);
  Address result;
  result.through_t = true;
  return result;
}

/// Cold code of a trap is one privileged instruction, whose fault finds the state as a faulting access would.
void Stitcher::trap(u32 fixup, ir::ExitKind kind, u64 value, bool value_in_rax) {
  traps_.push_back({fixup, static_cast<u32>(code_.recovery.size())});
  recovery_point(0);
  if (!record_) return;
  RecoveryPoint& point = code_.recovery.back();
  point.kind = kind;
  point.value = value;
  point.value_in_rax = value_in_rax;
}

void Stitcher::trap_if(const Inst& inst) {
  const Compare compare = prepare_compare(inst.args[0]);
  const auto kind = static_cast<ir::ExitKind>(inst.aux);
  emit_compare(compare);
  if (compare.cond == kEqualFp) {
    emit(id::jcc + kP);
    const u32 unordered = last_taken_;
    emit(id::jcc + kE);
    trap(last_taken_, kind, inst.imm);
    bind_label(unordered);
  } else {
    emit(id::jcc + compare.cond);
    trap(last_taken_, kind, inst.imm);
  }
  done(inst.args[0]);
}

void Stitcher::check_alignment(const Inst& inst) {
  const MemOp m = MemOp::unpack(inst.aux);
  if (!m.align_check || m.width == Width::B1) return;
  const u8 base = use(inst.args[0]);
  if (fits32(inst.imm)) {
    emit(id::lea_ti + base, inst.imm);
  } else {
    const u8 offset = fresh(Int);
    load_imm(offset, inst.imm);
    emit(id::lea_t + base * kIntRegs + offset);
  }
  emit(id::align_t + static_cast<u32>(m.width) - 1);
  trap(last_taken_, ir::ExitKind::Alignment, 0, true);
}

void Stitcher::load(Value v, const Inst& inst) {
  const MemOp m = MemOp::unpack(inst.aux);
  check_alignment(inst);
  const unsigned width = static_cast<unsigned>(m.width);
  const Address from = access(inst.args[0], inst.imm, m, false);
  u32 begin;
  if (class_of(inst.type) == Vec) {
    const u8 d = fresh(Vec);
    begin = here();
    unsigned known = 128;
    if (m.width >= Width::B4) {
      const u32 kind = width - 2;
      if (from.through_t) emit(id::ldv_t + kind * kVecRegs + d, from.displacement);
      else emit(id::ldv + (kind * kVecRegs + d) * kIntRegs + from.base, from.displacement);
      recovery_point(begin);
      known = kind == 0 ? 32 : kind == 1 ? 64 : 128;
    } else {
      const u8 temp = fresh(Int);
      begin = here();
      if (from.through_t) emit(id::ld_t + width * kIntRegs + temp, from.displacement);
      else emit(id::ld + (width * kIntRegs + temp) * kIntRegs + from.base, from.displacement);
      recovery_point(begin);
      emit(id::int_to_v + d * kIntRegs + temp);
      known = 32;
    }
    if (m.big_endian) emit(id::v_bswap + (width * kVecRegs + d));
    done_all(inst);
    bind(v, d, m.big_endian ? 128 : known);
    return;
  }
  // The address register may be the result's: nothing is written when the access faults.
  const bool reuse = !from.through_t && dies(inst.args[0]) && !is_const(inst.args[0]);
  const u8 d = reuse ? from.base : fresh(Int);
  if (reuse) release(Int, d);
  u32 kind = width;
  const bool is64 = inst.type == Type::I64;
  unsigned known = 8u << width;
  const bool swap = m.big_endian && m.width != Width::B1;
  if (m.sign_extend && !swap && known < ir::type_bits(inst.type)) {
    kind = is64 ? 6 + width : 4 + width;
    known = is64 ? 64 : 32;
  }
  begin = here();
  if (from.through_t) emit(id::ld_t + kind * kIntRegs + d, from.displacement);
  else emit(id::ld + (kind * kIntRegs + d) * kIntRegs + from.base, from.displacement);
  recovery_point(begin);
  if (swap) {
    emit(id::bswap + (m.width == Width::B8 ? kIntRegs : 0) + d);
    if (m.width == Width::B2) emit(id::shr_i + d, 0, 16);
    if (m.sign_extend && m.width == Width::B2) {
      emit(id::sext16 + ((is64 ? kIntRegs : 0) + d) * kIntRegs + d);
      known = is64 ? 64 : 32;
    } else if (m.sign_extend && m.width == Width::B4 && is64) {
      emit(id::sext32 + d * kIntRegs + d);
      known = 64;
    }
  }
  done_all(inst);
  bind(v, d, known);
}

void Stitcher::store(const Inst& inst) {
  const MemOp m = MemOp::unpack(inst.aux);
  check_alignment(inst);
  const Value value = inst.args[1];
  const unsigned width = static_cast<unsigned>(m.width);
  const bool swap = m.big_endian && m.width != Width::B1;
  u32 begin;
  if (state(value).cls == Vec) {
    if (m.width < Width::B4 || swap) {
      // Rare: by way of an integer register, or a byte-swapped copy.
      u8 source = use(value);
      if (swap && m.width == Width::B16) {
        const u8 copied = fresh(Vec);
        copy(Vec, copied, source);
        emit(id::v_bswap + (width * kVecRegs + copied));
        const Address to = access(inst.args[0], inst.imm, m, true, Vec, copied);
        begin = here();
        if (to.through_t) emit(id::stv_t + 2 * kVecRegs + copied, to.displacement);
        else emit(id::stv + (2 * kIntRegs + to.base) * kVecRegs + copied, to.displacement);
      } else {
        const u8 temp = fresh(Int);
        emit(id::v_to_int + (1 * kIntRegs + temp) * kVecRegs + source);
        if (swap) emit(id::bswap + (m.width == Width::B8 ? kIntRegs : 0) + temp);
        if (swap && m.width == Width::B2) emit(id::shr_i + temp, 0, 16);
        const Address to = access(inst.args[0], inst.imm, m, true, Int, temp);
        begin = here();
        if (to.through_t) emit(id::st_t + width * kIntRegs + temp, to.displacement);
        else emit(id::st_ + (width * kIntRegs + to.base) * kIntRegs + temp, to.displacement);
      }
      recovery_point(begin);
    } else {
      const u8 source = use(value);
      const Address to = access(inst.args[0], inst.imm, m, true, Vec, source);
      const u32 kind = width - 2;
      begin = here();
      if (to.through_t) emit(id::stv_t + kind * kVecRegs + source, to.displacement);
      else emit(id::stv + (kind * kIntRegs + to.base) * kVecRegs + source, to.displacement);
      recovery_point(begin);
    }
  } else if (!options_->soft_mmu && is_const(value) && !swap && state(value).reg == kNoReg && !deferred(inst.args[0], Op::add_) && fits32(inst.imm) &&
             (m.width != Width::B8 || fits32(const_of(value)))) {
    const Address to = address(inst.args[0], inst.imm);
    begin = here();
    emit(id::st_i + width * kIntRegs + to.base, to.displacement, const_of(value));
    recovery_point(begin);
  } else {
    u8 source;
    if (swap) {
      source = take(value);
      emit(id::bswap + (m.width == Width::B8 ? kIntRegs : 0) + source);
      if (m.width == Width::B2) emit(id::shr_i + source, 0, 16);
    } else {
      source = use(value);
    }
    const Address to = access(inst.args[0], inst.imm, m, true, Int, source);
    begin = here();
    if (to.through_t) emit(id::st_t + width * kIntRegs + source, to.displacement);
    else emit(id::st_ + (width * kIntRegs + to.base) * kIntRegs + source, to.displacement);
    recovery_point(begin);
  }
  if (m.order == Order::SeqCst) emit(id::mfence);
  done_all(inst);
}

// Full system: 16 bytes and swapped bytes out of line; else on the host address that the TLB gives.
void Stitcher::soft_atomic(Value v, const Inst& inst) {
  const MemOp m = MemOp::unpack(inst.aux);
  const u32 width = static_cast<u32>(m.width);
  if (m.width > Width::B8 || (m.big_endian && m.width != Width::B1)) {
    store_imm(offsetof(CpuState, helper_args), inst.imm, true);
    store_imm(offsetof(CpuState, helper_args) + 8, inst.aux, true);
    return call(v, inst, m.width > Width::B8 ? kSoftCas16 : inst.op == Op::atomic_rmw_ ? kSoftRmw : kSoftCas);
  }
  const u8 operand = use(inst.args[1]);
  const u8 desired = inst.op == Op::atomic_cas_ ? use(inst.args[2]) : kNoReg;
  access(inst.args[0], inst.imm, m, true);
  const u8 host = fresh(Int);
  emit(id::mov_rt + host);
  if (inst.op == Op::atomic_rmw_) {
    emit(id::rmw + ((static_cast<u32>(m.rmw) * 4 + width) * kIntRegs + host) * kIntRegs + operand);
  } else {
    emit(id::mov_tr + operand);
    emit(id::cas + (width * kIntRegs + host) * kIntRegs + desired);
  }
  emit(id::mov_rt + host);
  done_all(inst);
  bind(v, host, 8u << width);
}

void Stitcher::atomic(Value v, const Inst& inst) {
  if (inst.op == Op::fence_) {
    // x86 orders everything but a store before a later load; for less than SeqCst there is nothing to do.
    if (inst.aux == static_cast<u32>(Order::SeqCst)) emit(id::mfence);
    return;
  }
  const MemOp m = MemOp::unpack(inst.aux);
  const u32 width = static_cast<u32>(m.width);
  check_alignment(inst);
  if (options_->soft_mmu) return soft_atomic(v, inst);
  if (m.width > Width::B8) {
    if (inst.op != Op::atomic_cas_ || inst.type != Type::V128)
      stitch_failure("atomic access of 16 bytes not supported", ir::op_info(inst.op).name);
    store_imm(offsetof(CpuState, helper_args), inst.imm, true);
    store_imm(offsetof(CpuState, helper_args) + 8, inst.aux, true);
    call(v, inst, kSlowCas16);
    return;
  }
  if (inst.imm || (m.big_endian && m.width != Width::B1)) {
    // Rare: out of line. What the helper needs beside the operands goes through the state.
    store_imm(offsetof(CpuState, helper_args), inst.imm, true);
    store_imm(offsetof(CpuState, helper_args) + 8, inst.aux, true);
    call(v, inst, inst.op == Op::atomic_rmw_ ? kSlowRmw : kSlowCas);
    return;
  }
  const u8 base = use(inst.args[0]);
  if (inst.op == Op::atomic_rmw_) {
    const u8 operand = use(inst.args[1]);
    const u8 d = fresh(Int);
    // Result through t: registers for every kind, width, address and operand.
    const u32 begin = here();
    emit(id::rmw + ((static_cast<u32>(m.rmw) * 4 + width) * kIntRegs + base) * kIntRegs + operand);
    recovery_point(begin);
    emit(id::mov_rt + d);
    done_all(inst);
    bind(v, d, 8u << width);
    return;
  }
  const u8 expected = use(inst.args[1]);
  const u8 desired = use(inst.args[2]);
  emit(id::mov_tr + expected);
  const u32 begin = here();
  emit(id::cas + (width * kIntRegs + base) * kIntRegs + desired);
  recovery_point(begin);
  const u8 d = fresh(Int);
  emit(id::mov_rt + d);
  done_all(inst);
  bind(v, d, 8u << width);
}

}  // namespace kiln::jit
