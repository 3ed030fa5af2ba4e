// Guest memory: gs-relative accesses, register + 32-bit displacement, or through t (an address made by lea_t).
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

template <class T>
using Guest = volatile T __seg_gs*;
template <class T>
Guest<T> guest(u64 address) { return reinterpret_cast<Guest<T>>(address + reinterpret_cast<u64>(HOLE_A)); }

// Kinds of integer loads: u8 u16 u32 u64, s8 s16 to 32 bits, s8 s16 s32 to 64 bits.
template <int K>
u64 load(u64 a) {
  if constexpr (K == 0) return *guest<u8>(a);
  if constexpr (K == 1) return *guest<u16>(a);
  if constexpr (K == 2) return *guest<u32>(a);
  if constexpr (K == 3) return *guest<u64>(a);
  if constexpr (K == 4) return static_cast<u32>(*guest<s8>(a));
  if constexpr (K == 5) return static_cast<u32>(*guest<s16>(a));
  if constexpr (K == 6) return static_cast<u64>(s64{*guest<s8>(a)});
  if constexpr (K == 7) return static_cast<u64>(s64{*guest<s16>(a)});
  if constexpr (K == 8) return static_cast<u64>(s64{*guest<s32>(a)});
}
struct ld { template <int K, int D, int A> static void run(Frame& f) { f.r[D] = load<K>(f.r[A]); } };
struct ld_t { template <int K, int D> static void run(Frame& f) { f.r[D] = load<K>(f.t); } };
FAMILY(ld, 9, 10, 10)
FAMILY(ld_t, 9, 10)

template <int K>
void store(u64 a, u64 v) {
  if constexpr (K == 0) *guest<u8>(a) = static_cast<u8>(v);
  if constexpr (K == 1) *guest<u16>(a) = static_cast<u16>(v);
  if constexpr (K == 2) *guest<u32>(a) = static_cast<u32>(v);
  if constexpr (K == 3) *guest<u64>(a) = v;
}
struct st_ { template <int K, int A, int B> static void run(Frame& f) { store<K>(f.r[A], f.r[B]); } };
struct st_t { template <int K, int B> static void run(Frame& f) { store<K>(f.t, f.r[B]); } };
struct st_i {
  template <int K, int A> static void run(Frame& f) {
    if constexpr (K == 0) asm volatile("movb %1,%%gs:%c2(%0)" : : "r"(f.r[A]), "i"(HOLE_8), "i"(HOLE_A) : "memory");
    if constexpr (K == 1) asm volatile("movw %1,%%gs:%c2(%0)" : : "r"(f.r[A]), "i"(HOLE_B), "i"(HOLE_A) : "memory");
    if constexpr (K == 2) asm volatile("movl %1,%%gs:%c2(%0)" : : "r"(f.r[A]), "i"(HOLE_B), "i"(HOLE_A) : "memory");
    if constexpr (K == 3) asm volatile("movq %1,%%gs:%c2(%0)" : : "r"(f.r[A]), "i"(HOLE_B), "i"(HOLE_A) : "memory");
  }
};
FAMILY(st_, 4, 10, 10)
FAMILY(st_t, 4, 10)
FAMILY(st_i, 4, 10)

// t = a + (b << s)
struct lea_t { template <int S, int A, int B> static void run(Frame& f) { f.t = f.r[A] + (f.r[B] << S); } };
FAMILY(lea_t, 5, 10, 10)
// t = a
struct lea_ti { template <int A> static void run(Frame& f) { f.t = f.r[A] + reinterpret_cast<u64>(HOLE_A); } };
FAMILY(lea_ti, 10)

// Vector kinds: 0 = 4 bytes, 1 = 8 bytes (rest zeroed), 2 = 16 bytes.
using V_u = __m128i_u;
template <int K>
V load_v(u64 a) {
  V v;
  if constexpr (K == 0) asm volatile("vmovd %%gs:%c2(%1),%0" : "=x"(v) : "r"(a), "i"(HOLE_A));
  if constexpr (K == 1) asm volatile("vmovq %%gs:%c2(%1),%0" : "=x"(v) : "r"(a), "i"(HOLE_A));
  if constexpr (K == 2) asm volatile("vmovdqu %%gs:%c2(%1),%0" : "=x"(v) : "r"(a), "i"(HOLE_A));
  return v;
}
template <int K>
void store_v(u64 a, V v) {
  if constexpr (K == 0) asm volatile("vmovd %0,%%gs:%c2(%1)" : : "x"(v), "r"(a), "i"(HOLE_A) : "memory");
  if constexpr (K == 1) asm volatile("vmovq %0,%%gs:%c2(%1)" : : "x"(v), "r"(a), "i"(HOLE_A) : "memory");
  if constexpr (K == 2) asm volatile("vmovdqu %0,%%gs:%c2(%1)" : : "x"(v), "r"(a), "i"(HOLE_A) : "memory");
}
struct ldv { template <int K, int D, int A> static void run(Frame& f) { f.v[D] = load_v<K>(f.r[A]); } };
struct ldv_t { template <int K, int D> static void run(Frame& f) { f.v[D] = load_v<K>(f.t); } };
struct stv { template <int K, int A, int B> static void run(Frame& f) { store_v<K>(f.r[A], f.v[B]); } };
struct stv_t { template <int K, int B> static void run(Frame& f) { store_v<K>(f.t, f.v[B]); } };
FAMILY(ldv, 3, 8, 10)
FAMILY(ldv_t, 3, 8)
FAMILY(stv, 3, 10, 8)
FAMILY(stv_t, 3, 8)

// Full system: t is a guest address, and becomes a host address. HOLE_A: offset of the MMU index's TLB from the state, HOLE_B: bytes of
// the access - 1. HOLE_TAKEN: not in the TLB; t is still the guest address.
#define TLB_LOOKUP(tag)                                                                                                       \
  asm volatile(                                                                                                               \
      "movq %0,%%rbx\n\tshrq $%c2,%%rbx\n\tandl %3,%%ebx\n\tleaq %c5(%0),%%r10\n\tandq $-4096,%%r10\n\t"                       \
      "cmpq %c4+%c6(%1,%%rbx),%%r10\n\tjne HOLE_TAKEN\n\taddq %c4+%c7(%1,%%rbx),%0"                                            \
      : "+a"(f.t) : "r"(f.st), "i"(12 - 5), "i"((ir::kTlbEntries - 1) << 5), "i"(HOLE_A), "i"(HOLE_B), "i"(offsetof(ir::TlbEntry, tag)), \
        "i"(offsetof(ir::TlbEntry, addend)) : "rbx", "r10", "memory")
static_assert(sizeof(ir::TlbEntry) == 32);
struct tlb_read_t { template <int...> static void run(Frame& f) { TLB_LOOKUP(read_tag); } };
struct tlb_write_t { template <int...> static void run(Frame& f) { TLB_LOOKUP(write_tag); } };
FAMILY(tlb_read_t)
FAMILY(tlb_write_t)

}  // namespace kiln::stencil::source
