// Lane-wise floating-point stencils beyond arithmetic: minimum and maximum, rounding, conversions. As in float.cpp, what the host
// does otherwise than the guest goes out of line with the operands untouched.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

namespace {
template <int T>
bool any_nan(V v) {
  V unordered;
  if constexpr (T == 0) asm("vcmpunordps %1,%1,%0" : "=x"(unordered) : "x"(v));
  else asm("vcmpunordpd %1,%1,%0" : "=x"(unordered) : "x"(v));
  return !_mm_testz_si128(unordered, unordered);
}
inline V pool() {
  V value;
  asm volatile("vmovdqa HOLE_A(%%rip),%0" : "=x"(value));
  return value;
}
}  // namespace

// NaNs are looked for by a quiet compare, because min and max raise Invalid for quiet ones. Both orders: they differ in nothing
// but the sign of a zero.
#define MIN_MAX(name, mnemonic, combine)                                                                              \
  struct name {                                                                                                       \
    static constexpr bool valid(int, int d, int a, int b) { return d != a && d != b; }                                \
    template <int T, int D, int A, int B> static bool cold(Frame& f) {                                                \
      V unordered, other;                                                                                             \
      if constexpr (T == 0) asm volatile("vcmpunordps %2,%1,%0" : "=x"(unordered) : "x"(f.v[A]), "x"(f.v[B]));        \
      else asm volatile("vcmpunordpd %2,%1,%0" : "=x"(unordered) : "x"(f.v[A]), "x"(f.v[B]));                         \
      if (!_mm_testz_si128(unordered, unordered)) [[unlikely]] return true;                                           \
      if constexpr (T == 0) asm volatile("v" mnemonic "ps %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));       \
      else asm volatile("v" mnemonic "pd %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));                        \
      if constexpr (T == 0) asm volatile("v" mnemonic "ps %1,%2,%0" : "=x"(other) : "x"(f.v[A]), "x"(f.v[B]));        \
      else asm volatile("v" mnemonic "pd %1,%2,%0" : "=x"(other) : "x"(f.v[A]), "x"(f.v[B]));                         \
      f.v[D] = f.v[D] combine other;                                                                                  \
      return false;                                                                                                   \
    }                                                                                                                 \
  };                                                                                                                  \
  FAMILY(name, 2, 8, 8, 8)
MIN_MAX(v_fmin, "min", |)
MIN_MAX(v_fmax, "max", &)

// M as in fround.
struct v_fround {
  static constexpr bool valid(int, int, int d, int a) { return d != a; }
  template <int M, int T, int D, int A> static bool cold(Frame& f) {
    constexpr int mode[] = {0, 2, 1, 3, 4};
    constexpr int imm = mode[M % 5] | (M < 5 ? 8 : 0);
    if constexpr (T == 0) asm volatile("vroundps %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(imm));
    else asm volatile("vroundpd %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(imm));
    return any_nan<T>(f.v[D]);
  }
};
FAMILY(v_fround, 10, 2, 8, 8)

struct v_fwiden {
  static constexpr bool valid(int d, int a) { return d != a; }
  template <int D, int A> static bool cold(Frame& f) {
    asm volatile("vcvtps2pd %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    return any_nan<1>(f.v[D]);
  }
};
struct v_fnarrow {
  static constexpr bool valid(int d, int a) { return d != a; }
  template <int D, int A> static bool cold(Frame& f) {
    asm volatile("vcvtpd2ps %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    return any_nan<0>(f.v[D]);
  }
};
FAMILY(v_fwiden, 8, 8)
FAMILY(v_fnarrow, 8, 8)

// Looks before a conversion whether it, or the multiplication before it, would raise what the guest does not. The bits of a
// lane, as an integer, must not exceed the pool's; K = 0: the sign does not count, K = 1: a lane with a sign goes out of line.
struct v_range {
  template <int K, int T, int A> static bool cold(Frame& f) {
    V a = f.v[A];
    const V limit = pool();
    if constexpr (K == 0) a &= T == 0 ? _mm_set1_epi32(0x7fffffff) : _mm_set1_epi64x(static_cast<long long>(~u64{0} >> 1));
    V beyond = T == 0 ? _mm_cmpgt_epi32(a, limit) : _mm_cmpgt_epi64(a, limit);
    if constexpr (K == 1) beyond |= a;
    if constexpr (T == 0) return !_mm_testz_ps((__m128)beyond, (__m128)beyond);
    else return !_mm_testz_pd((__m128d)beyond, (__m128d)beyond);
  }
};
FAMILY(v_range, 2, 2, 8)

// By a power of two out of the pool; no NaN among the lanes. T = 2, 3: lane 0 only.
struct v_scale {
  template <int T, int D, int A> static void run(Frame& f) {
    if constexpr (T == 2) asm volatile("vmulss HOLE_A(%%rip),%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    if constexpr (T == 3) asm volatile("vmulsd HOLE_A(%%rip),%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    if constexpr (T == 0) asm volatile("vmulps HOLE_A(%%rip),%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    if constexpr (T == 1) asm volatile("vmulpd HOLE_A(%%rip),%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
  }
};
FAMILY(v_scale, 4, 8, 8)

// Signed, lanes of the same width; M as in f_to_int_general. The host's "indefinite" goes out of line. Other roundings than
// towards zero convert a second time: to raise Inexact for a fraction.
struct v_f_to_int {
  static constexpr bool valid(int, int, int d, int a) { return d != a; }
  template <int M, int T, int D, int A> static bool cold(Frame& f) {
    constexpr int mode[] = {0, 2, 1, 3, 4};
    V whole = f.v[A];
    if constexpr (M != 3 && T == 0) asm volatile("vroundps %2,%1,%0" : "=x"(whole) : "x"(f.v[A]), "i"(mode[M] | 8));
    if constexpr (M != 3 && T == 1) asm volatile("vroundpd %2,%1,%0" : "=x"(whole) : "x"(f.v[A]), "i"(mode[M] | 8));
    if constexpr (T == 0) {
      V again;
      if constexpr (M != 3) asm volatile("vcvttps2dq %1,%0" : "=x"(again) : "x"(f.v[A]));
      asm volatile("vcvttps2dq %1,%0" : "=x"(f.v[D]) : "x"(whole));
      const V indefinite = _mm_cmpeq_epi32(f.v[D], _mm_set1_epi32(static_cast<int>(0x80000000)));
      return !_mm_testz_si128(indefinite, indefinite);
    } else {
      V high;
      u64 low;
      if constexpr (M != 3) {
        asm volatile("vcvttsd2si %1,%0" : "=r"(low) : "x"(f.v[A]));
        asm volatile("vpermilpd $1,%1,%0" : "=x"(high) : "x"(f.v[A]));
        asm volatile("vcvttsd2si %1,%0" : "=r"(low) : "x"(high));
      }
      asm volatile("vcvttsd2si %1,%0" : "=r"(low) : "x"(whole));
      asm volatile("vmovq %1,%0" : "=x"(f.v[D]) : "r"(low));
      asm volatile("vpermilpd $1,%1,%0" : "=x"(high) : "x"(whole));
      asm volatile("vcvttsd2si %1,%0" : "=r"(low) : "x"(high));
      asm volatile("vpinsrq $1,%1,%0,%0" : "+x"(f.v[D]) : "r"(low));
      const V indefinite = _mm_cmpeq_epi64(f.v[D], _mm_set1_epi64x(static_cast<long long>(u64{1} << 63)));
      return !_mm_testz_si128(indefinite, indefinite);
    }
  }
};
FAMILY(v_f_to_int, 5, 2, 8, 8)

// S: 0 from s32, 1 from u32.
struct v_int_to_f32 {
  template <int S, int D, int A> static void run(Frame& f) {
    if constexpr (S == 0) {
      asm volatile("vcvtdq2ps %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    } else {
      // Halves: both conversions and the product are exact, only the sum rounds.
      V high = _mm_srli_epi32(f.v[A], 16), low = f.v[A] & _mm_set1_epi32(0xffff);
      asm volatile("vcvtdq2ps %0,%0" : "+x"(high));
      asm volatile("vcvtdq2ps %0,%0" : "+x"(low));
      const __m128 scale = _mm_set1_ps(65536.0f);
      asm volatile("vmulps %1,%0,%0" : "+x"(high) : "x"(scale));
      asm volatile("vaddps %2,%1,%0" : "=x"(f.v[D]) : "x"(high), "x"(low));
    }
  }
};
FAMILY(v_int_to_f32, 2, 8, 8)

// S: 0 from s64, 1 from u64 (from 2^63 on out of line).
struct v_int_to_f64 {
  static constexpr bool valid(int, int d, int a) { return d != a; }
  template <int S, int D, int A> static bool cold(Frame& f) {
    u64 low, high;
    V second;
    if constexpr (S == 1)
      if (!_mm_testz_pd((__m128d)f.v[A], (__m128d)f.v[A])) [[unlikely]] return true;
    asm volatile("vmovq %1,%0" : "=r"(low) : "x"(f.v[A]));
    asm volatile("vpextrq $1,%1,%0" : "=r"(high) : "x"(f.v[A]));
    asm volatile("vpxor %0,%0,%0\n\tvcvtsi2sdq %2,%0,%1\n\tvcvtsi2sdq %3,%0,%0\n\tvunpcklpd %0,%1,%1"
                 : "=&x"(second), "=&x"(f.v[D]) : "r"(low), "r"(high));
    return false;
  }
};
FAMILY(v_int_to_f64, 2, 8, 8)

}  // namespace kiln::stencil::source
