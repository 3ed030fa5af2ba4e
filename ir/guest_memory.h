// The interpreter's memory accesses: each a single host access of the guest's width, as generated code makes it, so that what
// is atomic for one tier is atomic for all. `host` is a host address; a fault arrives as a signal.
#pragma once
#include "ir/interpreter.h"
#include "ir/semantics_vector.h"

namespace kiln::ir {

/// An unaligned access of exactly sizeof(T) bytes that the compiler may not split, merge or move.
template <class T>
struct [[gnu::packed]] Unaligned {
  T value;
};
template <class T>
T access_load(const void* host) {
  return static_cast<const volatile Unaligned<T>*>(host)->value;
}
template <class T>
void access_store(void* host, T value) {
  static_cast<volatile Unaligned<T>*>(host)->value = value;
}

inline u64 swap_bytes(u64 value, Width width) { return __builtin_bswap64(value) >> (64 - width_bits(width)); }

inline Datum memory_load(const void* host, MemOp m, Type type) {
  Datum d;
  d.v = V128{};
  switch (m.width) {
    case Width::B1: d.i = access_load<u8>(host); break;
    case Width::B2: d.i = access_load<u16>(host); break;
    case Width::B4: d.i = access_load<u32>(host); break;
    case Width::B8: d.i = access_load<u64>(host); break;
    default: {
      Vec wide;
      __asm__ volatile("vmovdqu %1, %0" : "=x"(wide) : "m"(*static_cast<const V128*>(host)) : "memory");
      d.v = to_v128(wide);
      if (m.big_endian) {
        const u64 low = __builtin_bswap64(d.v.d[1]);
        d.v.d[1] = __builtin_bswap64(d.v.d[0]);
        d.v.d[0] = low;
      }
      return d;
    }
  }
  if (m.big_endian) d.i = swap_bytes(d.i, m.width);
  if (m.sign_extend) d.i = static_cast<u64>(sign_extend(d.i, width_bits(m.width)));
  if (type_bits(type) < 64) d.i &= mask_low(type_bits(type));
  if (m.order != Order::Relaxed) __asm__ volatile("" ::: "memory");
  return d;
}

inline void memory_store(void* host, MemOp m, const Datum& value) {
  u64 v = value.i;
  if (m.big_endian && m.width != Width::B16) v = swap_bytes(v, m.width);
  switch (m.width) {
    case Width::B1: access_store<u8>(host, static_cast<u8>(v)); break;
    case Width::B2: access_store<u16>(host, static_cast<u16>(v)); break;
    case Width::B4: access_store<u32>(host, static_cast<u32>(v)); break;
    case Width::B8: access_store<u64>(host, v); break;
    default: {
      V128 wide = value.v;
      if (m.big_endian) {
        wide.d[0] = __builtin_bswap64(value.v.d[1]);
        wide.d[1] = __builtin_bswap64(value.v.d[0]);
      }
      __asm__ volatile("vmovdqu %1, %0" : "=m"(*static_cast<V128*>(host)) : "x"(to_vec(wide)) : "memory");
    }
  }
  if (m.order == Order::SeqCst) __atomic_thread_fence(__ATOMIC_SEQ_CST);
}

constexpr u64 rmw_result(RmwKind kind, u64 old, u64 operand, unsigned width_in_bits) {
  const s64 signed_old = sign_extend(old, width_in_bits), signed_operand = sign_extend(operand, width_in_bits);
  operand &= mask_low(width_in_bits);
  switch (kind) {
    case RmwKind::Add: return old + operand;
    case RmwKind::And: return old & operand;
    case RmwKind::AndNot: return old & ~operand;
    case RmwKind::Or: return old | operand;
    case RmwKind::Xor: return old ^ operand;
    case RmwKind::SMax: return signed_old > signed_operand ? old : operand;
    case RmwKind::SMin: return signed_old < signed_operand ? old : operand;
    case RmwKind::UMax: return old > operand ? old : operand;
    case RmwKind::UMin: return old < operand ? old : operand;
    case RmwKind::Swap: return operand;
  }
  return old;
}

/// lock cmpxchg, which x86 allows misaligned; gives the old value.
template <class T>
T compare_exchange(void* host, T expected, T desired) {
  __asm__ volatile("lock cmpxchg %2, %1"
                   : "+a"(expected), "+m"(*static_cast<Unaligned<T>*>(host))
                   : "q"(desired)
                   : "memory", "cc");
  return expected;
}
inline u64 compare_exchange(void* host, Width width, u64 expected, u64 desired) {
  switch (width) {
    case Width::B1: return compare_exchange<u8>(host, static_cast<u8>(expected), static_cast<u8>(desired));
    case Width::B2: return compare_exchange<u16>(host, static_cast<u16>(expected), static_cast<u16>(desired));
    case Width::B4: return compare_exchange<u32>(host, static_cast<u32>(expected), static_cast<u32>(desired));
    default: return compare_exchange<u64>(host, expected, desired);
  }
}

inline u64 memory_rmw(void* host, MemOp m, u64 operand) {
  for (;;) {
    MemOp plain;
    plain.width = m.width;
    const u64 seen = memory_load(host, plain, Type::I64).i;
    const u64 old = m.big_endian ? swap_bytes(seen, m.width) : seen;
    u64 next = rmw_result(m.rmw, old, operand, width_bits(m.width)) & mask_low(width_bits(m.width));
    if (m.big_endian) next = swap_bytes(next, m.width);
    if (compare_exchange(host, m.width, seen, next) == seen) return old;
  }
}

/// v128 with B16 is the host's cmpxchg16b, which faults when misaligned.
inline Datum memory_cas(void* host, MemOp m, const Datum& expected, const Datum& desired, Type type) {
  Datum d;
  d.v = V128{};
  if (type == Type::V128) {
    V128 want = expected.v, give = desired.v;
    const auto reverse = [](V128 v) { return V128{.d = {__builtin_bswap64(v.d[1]), __builtin_bswap64(v.d[0])}}; };
    if (m.big_endian) want = reverse(want), give = reverse(give);
    __asm__ volatile("lock cmpxchg16b %2"
                     : "+a"(want.d[0]), "+d"(want.d[1]), "+m"(*static_cast<V128*>(host))
                     : "b"(give.d[0]), "c"(give.d[1])
                     : "memory", "cc");
    d.v = m.big_endian ? reverse(want) : want;
    return d;
  }
  const u64 mask = mask_low(width_bits(m.width));
  u64 want = expected.i & mask, give = desired.i & mask;
  if (m.big_endian) want = swap_bytes(want, m.width), give = swap_bytes(give, m.width);
  const u64 old = compare_exchange(host, m.width, want, give);
  d.i = m.big_endian ? swap_bytes(old, m.width) : old;
  return d;
}

}  // namespace kiln::ir
