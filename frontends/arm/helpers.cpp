// C++ functions that lifted A64 code calls. They run with CpuState::in_code set and the guest's MXCSR loaded.
#include "frontends/arm/helpers.h"

#include <emmintrin.h>
#include <sched.h>

#include <array>
#include <atomic>
#include <ctime>

#include "frontends/arm/aarch64.h"
#include "frontends/arm/fpcr.h"

namespace kiln::arm {

using ir::Helper;
using ir::Type;

void release_exclusive(ir::CpuState* state) {
  auto*& claimed = static_cast<A64State*>(state)->exclusive_claim;
  if (claimed == nullptr) return;
  claimed->store(claimed->load(std::memory_order_relaxed) + 1, std::memory_order_release);
  claimed = nullptr;
}

namespace {

// CRC-32 as the instructions have it: reflected, neither inverted at the start nor at the end.
template <u32 kPolynomial>
constexpr std::array<std::array<u32, 256>, 8> crc_tables() {
  std::array<std::array<u32, 256>, 8> tables{};
  for (u32 i = 0; i < 256; ++i) {
    u32 crc = i;
    for (int k = 0; k < 8; ++k) crc = crc >> 1 ^ (crc & 1 ? kPolynomial : 0);
    tables[0][i] = crc;
  }
  for (u32 i = 0; i < 256; ++i)
    for (unsigned t = 1; t < 8; ++t) tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 0xff];
  return tables;
}
constexpr auto kCrcTables = crc_tables<0xedb88320>();

template <unsigned kBytes>
u32 crc32(ir::CpuState*, u32 accumulator, u64 value) {
  const u64 mixed = value ^ accumulator;
  u32 crc = kBytes < 4 ? accumulator >> (8 * (kBytes & 3)) : 0;
  for (unsigned i = 0; i < kBytes; ++i) crc ^= kCrcTables[kBytes - 1 - i][(mixed >> (8 * i)) & 0xff];
  return crc;
}

u32 crc32c_b(ir::CpuState*, u32 accumulator, u64 value) { return __builtin_ia32_crc32qi(accumulator, static_cast<u8>(value)); }
u32 crc32c_h(ir::CpuState*, u32 accumulator, u64 value) { return __builtin_ia32_crc32hi(accumulator, static_cast<u16>(value)); }
u32 crc32c_w(ir::CpuState*, u32 accumulator, u64 value) { return __builtin_ia32_crc32si(accumulator, static_cast<u32>(value)); }
u32 crc32c_x(ir::CpuState*, u32 accumulator, u64 value) { return static_cast<u32>(__builtin_ia32_crc32di(accumulator, value)); }

__m128i cas128_at(HostAddr host, __m128i expected, __m128i desired) {
  if (host & 15) {
    // The architecture raises an alignment fault; programs that get here at all are content with a plain exchange.
    __m128i old;
    std::memcpy(&old, reinterpret_cast<const void*>(host), 16);
    if (_mm_movemask_epi8(_mm_cmpeq_epi8(old, expected)) == 0xffff) std::memcpy(reinterpret_cast<void*>(host), &desired, 16);
    return old;
  }
  u64 low, high, new_low, new_high;
  low = static_cast<u64>(expected[0]);
  high = static_cast<u64>(expected[1]);
  new_low = static_cast<u64>(desired[0]);
  new_high = static_cast<u64>(desired[1]);
  asm volatile("lock cmpxchg16b (%[host])"
               : "+a"(low), "+d"(high)
               : [host] "r"(host), "b"(new_low), "c"(new_high)
               : "memory", "cc");
  return __m128i{static_cast<long long>(low), static_cast<long long>(high)};
}
__m128i cas128(ir::CpuState* state, u64 address, __m128i expected, __m128i desired) {
  return cas128_at(state->memory_base + address, expected, desired);
}
__m128i system_cas128(ir::CpuState* state, u64 address, u64 mem_op, __m128i expected, __m128i desired) {
  void* host = ir::guest_pointer(state, address, static_cast<u32>(mem_op) | ir::kStoreAccess);
  return cas128_at(reinterpret_cast<HostAddr>(host), expected, desired);
}

// The global monitor: a count for each granule of 16 bytes (a few share one). A store-exclusive that finds the count of its
// load-exclusive makes it odd, compares and swaps, and leaves the next even count: of two that saw the same count one fails,
// and nobody else's exclusives come between its look at the count and its swap, however long the host suspends it there.
// Processes that share memory have counts of their own: between them it is a compare-and-swap.
std::atomic<u64> exclusive_counts[4096];
std::atomic<u64>& exclusive_count(u64 address) {  // without the tag
  return exclusive_counts[((address >> 4 ^ address >> 16) & mask_low(40)) % std::size(exclusive_counts)];
}
u64 exclusive_version(ir::CpuState*, u64 address) { return exclusive_count(address).load(); }

/// Makes the count odd. False: another store-exclusive has begun since `version` was read.
bool claim(ir::CpuState* state, std::atomic<u64>& count, u64 version) {
  if (!(version & 1) && count.compare_exchange_strong(version, version + 1)) {
    static_cast<A64State*>(state)->exclusive_claim = &count;
    return true;
  }
  // Its owner is in the middle of it. If the host keeps it from going on, trying again at once only takes its time.
  if (count.load(std::memory_order_relaxed) & 1) {
    for (int n = 0; n < 64; ++n) _mm_pause();
    if (count.load(std::memory_order_relaxed) & 1) sched_yield();
  }
  return false;
}

template <class T>
bool swap_at(HostAddr host, u64 expected, u64 desired) {
  T old = static_cast<T>(expected);
  return __atomic_compare_exchange_n(reinterpret_cast<T*>(host), &old, static_cast<T>(desired), false, __ATOMIC_SEQ_CST,
                                     __ATOMIC_SEQ_CST);
}
/// Where an exclusive of user mode or, with its MemOp, of a full system goes; the latter raises what is to be raised.
HostAddr exclusive_place(ir::CpuState* state, u64 address, u64 mem_op) {
  if (mem_op == kUserExclusive) return state->memory_base + (address & mask_low(56));
  return reinterpret_cast<HostAddr>(ir::guest_pointer(state, address, static_cast<u32>(mem_op) | ir::kStoreAccess));
}
/// 1: stored.
template <class T>
u64 store_exclusive_at(ir::CpuState* state, HostAddr host, u64 address, u64 version, u64 expected, u64 desired) {
  if (!claim(state, exclusive_count(address), version)) return 0;
  const bool stored = swap_at<T>(host, expected, desired);  // may fault: release_exclusive()
  release_exclusive(state);
  return stored;
}
template <class T>
u64 store_exclusive(ir::CpuState* state, u64 address, u64 version, u64 expected, u64 desired) {
  return store_exclusive_at<T>(state, exclusive_place(state, address, kUserExclusive), address, version, expected, desired);
}
template <class T>
u64 system_store_exclusive(ir::CpuState* state, u64 address, u64 mem_op, u64 version, u64 desired) {
  return store_exclusive_at<T>(state, exclusive_place(state, address, mem_op), address, version,
                               static_cast<A64State*>(state)->exclusive_value[0], desired);
}
u64 store_exclusive_pair(ir::CpuState* state, u64 address, u64 mem_op, u64 version, __m128i expected, __m128i desired) {
  const HostAddr host = exclusive_place(state, address, mem_op);
  if (!claim(state, exclusive_count(address), version)) return 0;
  const __m128i old = cas128_at(host, expected, desired);
  release_exclusive(state);
  return _mm_movemask_epi8(_mm_cmpeq_epi8(old, expected)) == 0xffff;
}

u64 read_fpsr(ir::CpuState* state) {
  A64State& s = *static_cast<A64State*>(state);
  s.fpsr_watched = 1;
  renew_mode(s, _mm_getcsr());
  return fpsr_from(s, _mm_getcsr());
}
void settle_inexact(ir::CpuState* state) { renew_mode(*static_cast<A64State*>(state), _mm_getcsr()); }
void write_fpsr(ir::CpuState* state, u64 value) {
  static_cast<A64State*>(state)->fpsr_watched = 1;
  _mm_setcsr(mxcsr_after_fpsr(*static_cast<A64State*>(state), _mm_getcsr(), static_cast<u32>(value)));
}
void write_fpcr(ir::CpuState* state, u64 value) {
  _mm_setcsr(mxcsr_after_fpcr(*static_cast<A64State*>(state), _mm_getcsr(), static_cast<u32>(value)));
}
// EL1 and above save and restore FPSR for others, which does not mean that anybody looks at it.
u64 save_fpsr(ir::CpuState* state) { return fpsr_from(*static_cast<A64State*>(state), _mm_getcsr()); }
void restore_fpsr(ir::CpuState* state, u64 value) {
  _mm_setcsr(mxcsr_after_fpsr(*static_cast<A64State*>(state), _mm_getcsr(), static_cast<u32>(value)));
}
u64 read_counter(ir::CpuState*) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * kCounterHz + static_cast<u64>(now.tv_nsec);
}

template <class F>
const void* address_of(F* function) {
  return reinterpret_cast<const void*>(function);
}
template <class F>
Helper crc_helper(const char* name, F* function) {
  return {name, address_of(function), Type::I32, {Type::I32, Type::I64}, ir::PURE};
}
template <class F>
Helper store_exclusive_helper(const char* name, F* function, u32 effects) {
  return {name,
          address_of(function),
          Type::I64,
          {Type::I64, Type::I64, Type::I64, Type::I64},
          effects | ir::READS_MEM | ir::WRITES_MEM | ir::MAY_FAULT};
}
// They read what earlier floating-point instructions left in MXCSR and change what later ones do: nothing moves across them.
constexpr u32 kStateEffects = ir::READS_STATE | ir::WRITES_STATE;

}  // namespace

void forget_exclusive_claims() {
  for (auto& count : exclusive_counts) count.store((count.load() + 1) & ~u64{1});
}

const Helper kCrc32[2][4] = {{crc_helper("crc32b", crc32<1>), crc_helper("crc32h", crc32<2>), crc_helper("crc32w", crc32<4>),
                              crc_helper("crc32x", crc32<8>)},
                             {crc_helper("crc32cb", crc32c_b), crc_helper("crc32ch", crc32c_h), crc_helper("crc32cw", crc32c_w),
                              crc_helper("crc32cx", crc32c_x)}};
const Helper kCas128 = {"cas128",
                        address_of(cas128),
                        Type::V128,
                        {Type::I64, Type::V128, Type::V128},
                        ir::READS_MEM | ir::WRITES_MEM | ir::MAY_FAULT};
const Helper kSystemCas128 = {"system_cas128",
                              address_of(system_cas128),
                              Type::V128,
                              {Type::I64, Type::I64, Type::V128, Type::V128},
                              kStateEffects | ir::READS_MEM | ir::WRITES_MEM | ir::MAY_FAULT};
// Memory effects, so that they stay where they are beside the accesses.
const Helper kExclusiveVersionOf = {
    "exclusive_version", address_of(exclusive_version), Type::I64, {Type::I64}, ir::READS_MEM | ir::WRITES_MEM};
const Helper kStoreExclusive[4] = {store_exclusive_helper("store_exclusive1", store_exclusive<u8>, 0),
                                   store_exclusive_helper("store_exclusive2", store_exclusive<u16>, 0),
                                   store_exclusive_helper("store_exclusive4", store_exclusive<u32>, 0),
                                   store_exclusive_helper("store_exclusive8", store_exclusive<u64>, 0)};
const Helper kSystemStoreExclusive[4] = {
    store_exclusive_helper("system_store_exclusive1", system_store_exclusive<u8>, kStateEffects),
    store_exclusive_helper("system_store_exclusive2", system_store_exclusive<u16>, kStateEffects),
    store_exclusive_helper("system_store_exclusive4", system_store_exclusive<u32>, kStateEffects),
    store_exclusive_helper("system_store_exclusive8", system_store_exclusive<u64>, kStateEffects)};
const Helper kStoreExclusivePair = {"store_exclusive_pair",
                                    address_of(store_exclusive_pair),
                                    Type::I64,
                                    {Type::I64, Type::I64, Type::I64, Type::V128, Type::V128},
                                    ir::READS_MEM | ir::WRITES_MEM | ir::MAY_FAULT};
const Helper kReadFpsr = {"read_fpsr", address_of(read_fpsr), Type::I64, {}, kStateEffects};
const Helper kSettleInexact = {"settle_inexact", address_of(settle_inexact), Type::Void, {}, kStateEffects};
const Helper kWriteFpsr = {"write_fpsr", address_of(write_fpsr), Type::Void, {Type::I64}, kStateEffects};
const Helper kWriteFpcr = {"write_fpcr", address_of(write_fpcr), Type::Void, {Type::I64}, kStateEffects};
const Helper kSaveFpsr = {"save_fpsr", address_of(save_fpsr), Type::I64, {}, kStateEffects};
const Helper kRestoreFpsr = {"restore_fpsr", address_of(restore_fpsr), Type::Void, {Type::I64}, kStateEffects};
const Helper kReadCounter = {"read_counter", address_of(read_counter), Type::I64, {}, kStateEffects};

}  // namespace kiln::arm
