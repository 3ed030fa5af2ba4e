// Vector stencils, compiled from the ops' own definitions (ir/semantics_vector.h) wherever the compiler makes good code of them.
#include "ir/semantics_vector.h"
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

template <int N>
using Lane = std::conditional_t<N == 0, u8, std::conditional_t<N == 1, u16, std::conditional_t<N == 2, u32, u64>>>;

// --- moves and slots -----------------------------------------------------------------------------------------------
struct v_mov { template <int D, int S> static void run(Frame& f) { f.v[D] = f.v[S]; } };
struct v_zero { template <int D> static void run(Frame& f) { f.v[D] = V{}; } };
struct v_const { template <int D> static void run(Frame& f) { asm volatile("vmovdqa HOLE_A(%%rip),%0" : "=x"(f.v[D])); } };
struct v_slot_ld { template <int D> static void run(Frame& f) { f.v[D] = at<volatile V>(f.st); } };
struct v_slot_st { template <int S> static void run(Frame& f) { at<volatile V>(f.st) = f.v[S]; } };
// Low 4 or 8 bytes, the rest of the slot zeroed; and loads of them.
struct v_slot_st_low {
  template <int K, int S> static void run(Frame& f) {
    V low;
    if constexpr (K == 0) low = _mm_blend_epi32(V{}, f.v[S], 1);
    else asm("vmovq %1,%0" : "=x"(low) : "x"(f.v[S]));
    at<volatile V>(f.st) = low;
  }
};
struct v_slot_ld_low {
  template <int K, int D> static void run(Frame& f) {
    if constexpr (K == 0) asm volatile("vmovd %c2(%1),%0" : "=x"(f.v[D]) : "r"(f.st), "i"(HOLE_A));
    else asm volatile("vmovq %c2(%1),%0" : "=x"(f.v[D]) : "r"(f.st), "i"(HOLE_A));
  }
};
// xmm8 as a carrier between two adjacent stencils (a cycle of argument moves).
struct v_to_x { template <int S> static void run(Frame& f) { asm volatile("vmovaps %0,%%xmm8" : : "x"(f.v[S])); } };
struct v_from_x { template <int D> static void run(Frame& f) { asm volatile("vmovaps %%xmm8,%0" : "=x"(f.v[D])); } };
FAMILY(v_mov, 8, 8)
FAMILY(v_zero, 8)
FAMILY(v_const, 8)
FAMILY(v_slot_ld, 8)
FAMILY(v_slot_st, 8)
FAMILY(v_slot_st_low, 2, 8)
FAMILY(v_slot_ld_low, 2, 8)
FAMILY(v_to_x, 8)
FAMILY(v_from_x, 8)

struct v_low64 { template <int D, int A> static void run(Frame& f) { asm("vmovq %1,%0" : "=x"(f.v[D]) : "x"(f.v[A])); } };
struct v_low32 { template <int D, int A> static void run(Frame& f) { f.v[D] = _mm_blend_epi32(V{}, f.v[A], 1); } };
FAMILY(v_low64, 8, 8)
FAMILY(v_low32, 8, 8)
struct v_bswap {  // K: log2 of the access width, for big-endian accesses
  template <int K, int D> static void run(Frame& f) { f.v[D] = ir::op_v_rev<u8>(f.v[D], u64{1} << K); }
};
FAMILY(v_bswap, 5, 8)

struct int_to_v { template <int D, int A> static void run(Frame& f) { asm("vmovd %k1,%0" : "=x"(f.v[D]) : "r"(f.r[A])); } };
struct int64_to_v { template <int D, int A> static void run(Frame& f) { asm("vmovq %1,%0" : "=x"(f.v[D]) : "r"(f.r[A])); } };
struct v_to_int {
  template <int W, int D, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("vmovd %1,%k0" : "=r"(f.r[D]) : "x"(f.v[A]));
    else asm("vmovq %1,%0" : "=r"(f.r[D]) : "x"(f.v[A]));
  }
};
struct v_extract {
  template <int L, int D, int A> static void run(Frame& f) {
    if constexpr (L == 0) asm("vpextrb %2,%1,%k0" : "=r"(f.r[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 1) asm("vpextrw %2,%1,%k0" : "=r"(f.r[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 2) asm("vpextrd %2,%1,%k0" : "=r"(f.r[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 3) asm("vpextrq %2,%1,%0" : "=r"(f.r[D]) : "x"(f.v[A]), "i"(HOLE_8));
  }
};
struct v_insert {
  template <int L, int D, int A> static void run(Frame& f) {
    if constexpr (L == 0) asm("vpinsrb %2,%k1,%0,%0" : "+x"(f.v[D]) : "r"(f.r[A]), "i"(HOLE_8));
    if constexpr (L == 1) asm("vpinsrw %2,%k1,%0,%0" : "+x"(f.v[D]) : "r"(f.r[A]), "i"(HOLE_8));
    if constexpr (L == 2) asm("vpinsrd %2,%k1,%0,%0" : "+x"(f.v[D]) : "r"(f.r[A]), "i"(HOLE_8));
    if constexpr (L == 3) asm("vpinsrq %2,%1,%0,%0" : "+x"(f.v[D]) : "r"(f.r[A]), "i"(HOLE_8));
  }
};
FAMILY(int_to_v, 8, 10)
FAMILY(int64_to_v, 8, 10)
FAMILY(v_to_int, 2, 10, 8)
FAMILY(v_extract, 4, 10, 8)
FAMILY(v_insert, 4, 8, 10)
struct v_dup { template <int L, int D, int A> static void run(Frame& f) { f.v[D] = ir::op_v_dup<Lane<L>>(f.r[A]); } };
FAMILY(v_dup, 4, 8, 10)

// --- ops without lanes ---------------------------------------------------------------------------------------------
struct v_and { template <int A, int B> static void run(Frame& f) { f.v[A] = ir::op_v_and(f.v[A], f.v[B]); } };
struct v_or { template <int A, int B> static void run(Frame& f) { f.v[A] = ir::op_v_or(f.v[A], f.v[B]); } };
struct v_xor { template <int A, int B> static void run(Frame& f) { f.v[A] = ir::op_v_xor(f.v[A], f.v[B]); } };
struct v_andn { template <int A, int B> static void run(Frame& f) { f.v[A] = ir::op_v_andn(f.v[A], f.v[B]); } };
struct v_not { template <int D, int A> static void run(Frame& f) { f.v[D] = ir::op_v_not(f.v[A]); } };
struct v_bsl { template <int A, int B, int C> static void run(Frame& f) { f.v[A] = ir::op_v_bsl(f.v[A], f.v[B], f.v[C]); } };
struct v_ext { template <int A, int B> static void run(Frame& f) { asm("vpalignr %2,%0,%1,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8)); } };
struct v_tbl { template <int A, int B> static void run(Frame& f) { f.v[A] = ir::op_v_tbl(f.v[A], f.v[B]); } };
// Products of the low 32 bits of the 64-bit lanes.
struct v_mul_low_u { template <int A, int B> static void run(Frame& f) { f.v[A] = _mm_mul_epu32(f.v[A], f.v[B]); } };
struct v_mul_low_s { template <int A, int B> static void run(Frame& f) { f.v[A] = _mm_mul_epi32(f.v[A], f.v[B]); } };
FAMILY(v_mul_low_u, 8, 8)
FAMILY(v_mul_low_s, 8, 8)
struct v_popcnt8 { template <int D, int A> static void run(Frame& f) { f.v[D] = ir::op_v_popcnt8(f.v[A]); } };
FAMILY(v_and, 8, 8)
FAMILY(v_or, 8, 8)
FAMILY(v_xor, 8, 8)
FAMILY(v_andn, 8, 8)
FAMILY(v_not, 8, 8)
FAMILY(v_bsl, 8, 8, 8)
FAMILY(v_ext, 8, 8)
FAMILY(v_tbl, 8, 8)
FAMILY(v_popcnt8, 8, 8)

// --- lane-wise -----------------------------------------------------------------------------------------------------
#define UNARY(name)                                                                                               \
  struct name { template <int L, int D, int A> static void run(Frame& f) { f.v[D] = ir::op_##name<Lane<L>>(f.v[A]); } }; \
  FAMILY(name, 4, 8, 8)
UNARY(v_neg)
UNARY(v_abs)
#define WIDTH_CHANGE(name)                                                                                        \
  struct name { template <int L, int D, int A> static void run(Frame& f) { f.v[D] = ir::op_##name<Lane<L>>(f.v[A]); } }; \
  FAMILY(name, 3, 8, 8)
WIDTH_CHANGE(v_widen_lo_s)
WIDTH_CHANGE(v_widen_lo_u)
WIDTH_CHANGE(v_widen_hi_s)
WIDTH_CHANGE(v_widen_hi_u)
WIDTH_CHANGE(v_narrow)

inline u64 hole_32() {
  u64 value;
  asm("movl %1,%k0" : "=r"(value) : "i"(HOLE_A));
  return value;
}
// The byte that starts the group's mask (v_rev) or the lane (v_dup_lane) comes from the stitcher.
struct v_rev {
  template <int L, int D, int A> static void run(Frame& f) {
    f.v[D] = (V)ir::shuffle_bytes((ir::Bytes)f.v[A], ir::kIota ^ ir::splat_byte(hole_32()));
  }
};
struct v_dup_lane {
  template <int L, int D, int A> static void run(Frame& f) {
    f.v[D] = (V)ir::shuffle_bytes((ir::Bytes)f.v[A], (ir::kIota & ir::splat_byte(sizeof(Lane<L>) - 1)) + ir::splat_byte(hole_32()));
  }
};
FAMILY(v_rev, 4, 8, 8)
FAMILY(v_dup_lane, 4, 8, 8)

// Counts below the lane's width. Bytes: shifted as words, strays masked off.
struct v_shl {
  template <int L, int D, int A> static void run(Frame& f) {
    if constexpr (L == 0) {
      const V count = _mm_cvtsi32_si128(static_cast<int>(hole_32()));
      f.v[D] = _mm_and_si128(_mm_sll_epi16(f.v[A], count), _mm_broadcastb_epi8(_mm_sll_epi16(_mm_cvtsi32_si128(255), count)));
    }
    if constexpr (L == 1) asm("vpsllw %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 2) asm("vpslld %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 3) asm("vpsllq %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
  }
};
struct v_lshr {
  template <int L, int D, int A> static void run(Frame& f) {
    if constexpr (L == 0) {
      const V count = _mm_cvtsi32_si128(static_cast<int>(hole_32()));
      f.v[D] = _mm_and_si128(_mm_srl_epi16(f.v[A], count), _mm_broadcastb_epi8(_mm_srl_epi16(_mm_cvtsi32_si128(255), count)));
    }
    if constexpr (L == 1) asm("vpsrlw %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 2) asm("vpsrld %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 3) asm("vpsrlq %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
  }
};
struct v_ashr {
  template <int L, int D, int A> static void run(Frame& f) {
    if constexpr (L == 0) {
      const V count = _mm_cvtsi32_si128(static_cast<int>(hole_32()));
      const V sign = _mm_broadcastb_epi8(_mm_srl_epi16(_mm_cvtsi32_si128(128), count));
      const V r = _mm_and_si128(_mm_srl_epi16(f.v[A], count), _mm_broadcastb_epi8(_mm_srl_epi16(_mm_cvtsi32_si128(255), count)));
      f.v[D] = _mm_sub_epi8(_mm_xor_si128(r, sign), sign);
    }
    if constexpr (L == 1) asm("vpsraw %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 2) asm("vpsrad %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    if constexpr (L == 3) {
      const V count = _mm_cvtsi32_si128(static_cast<int>(hole_32()));
      const V sign = _mm_srl_epi64(_mm_slli_epi64(_mm_cmpeq_epi64(V{}, V{}), 63), count);
      f.v[D] = _mm_sub_epi64(_mm_xor_si128(_mm_srl_epi64(f.v[A], count), sign), sign);
    }
  }
};
FAMILY(v_shl, 4, 8, 8)
FAMILY(v_lshr, 4, 8, 8)
FAMILY(v_ashr, 4, 8, 8)

}  // namespace kiln::stencil::source
