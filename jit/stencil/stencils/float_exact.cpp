// Checks of FpOp.underflow and fflush: what the host does otherwise than A64 goes out of line. T: 0 single, 1 double.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

namespace {
/// Twice the bits of lane 0: the sign is gone.
template <int T>
auto doubled(V v) {
  if constexpr (T == 0) {
    u32 bits;
    asm("vmovd %1,%0" : "=r"(bits) : "x"(v));
    return bits + bits;
  } else {
    u64 bits;
    asm("vmovq %1,%0" : "=r"(bits) : "x"(v));
    return bits + bits;
  }
}
template <int T>
V doubled_lanes(V v) {
  if constexpr (T == 0) return _mm_add_epi32(v, v);
  else return _mm_add_epi64(v, v);
}
template <int T>
V equal(V a, V b) {
  if constexpr (T == 0) return _mm_cmpeq_epi32(a, b);
  else return _mm_cmpeq_epi64(a, b);
}
/// Twice the least normal number's bits.
template <int T>
constexpr u64 kLeast = T == 0 ? u64{1} << 24 : u64{1} << 53;
}  // namespace

// 0 < |A| <= the least normal number: a denormal operand, or a result to be flushed.
struct f_tiny {
  template <int T, int A>
  static bool cold(Frame& f) {
    if constexpr (T == 0) return doubled<0>(f.v[A]) - 1 < static_cast<u32>(kLeast<0>);
    else return (doubled<1>(f.v[A]) - 1) >> 53 == 0;
  }
};
struct v_f_tiny {
  template <int T, int A>
  static bool cold(Frame& f) {
    if constexpr (T == 0) {
      const V t = _mm_add_epi32(doubled_lanes<0>(f.v[A]), _mm_set1_epi32(-1));
      const V yes = _mm_cmpeq_epi32(t, _mm_min_epu32(t, _mm_set1_epi32(static_cast<int>(kLeast<0> - 1))));
      return !_mm_testz_si128(yes, yes);
    } else {
      const V t = _mm_srli_epi64(_mm_add_epi64(doubled_lanes<1>(f.v[A]), _mm_set1_epi64x(-1)), 53);
      const V yes = _mm_cmpeq_epi64(t, V{});
      return !_mm_testz_si128(yes, yes);
    }
  }
};
FAMILY(f_tiny, 2, 8)
FAMILY(v_f_tiny, 2, 8)

// |A| is the least normal number: rounded up to it, perhaps.
struct f_least {
  template <int T, int A>
  static bool cold(Frame& f) {
    if constexpr (T == 0) return doubled<0>(f.v[A]) == kLeast<0>;
    else return __builtin_rotateright64(doubled<1>(f.v[A]), 53) == 1;
  }
};
struct v_f_least {
  template <int T, int A>
  static bool cold(Frame& f) {
    const V least = T == 0 ? _mm_set1_epi32(static_cast<int>(kLeast<0>)) : _mm_set1_epi64x(static_cast<long long>(kLeast<1>));
    const V yes = equal<T>(doubled_lanes<T>(f.v[A]), least);
    return !_mm_testz_si128(yes, yes);
  }
};
FAMILY(f_least, 2, 8)
FAMILY(v_f_least, 2, 8)

// R, a product or quotient of A, is zero, but neither A nor B is. (Of a quotient B is A: only its dividend makes it an exact
// zero, or an infinite divisor, seldom enough.)
struct f_vanished {
  static constexpr bool valid(int, int r, int a, int b) { return r != a && r != b; }
  template <int T, int R, int A, int B>
  static bool cold(Frame& f) {
    if (doubled<T>(f.v[R]) != 0) [[likely]]
      return false;
    return doubled<T>(f.v[A]) != 0 && doubled<T>(f.v[B]) != 0;
  }
};
struct v_f_vanished {
  static constexpr bool valid(int, int r, int a, int b) { return r != a && r != b; }
  template <int T, int R, int A, int B>
  static bool cold(Frame& f) {
    const V zero = equal<T>(doubled_lanes<T>(f.v[R]), V{});
    const V exact = equal<T>(doubled_lanes<T>(f.v[A]), V{}) | equal<T>(doubled_lanes<T>(f.v[B]), V{});
    return !_mm_testc_si128(exact, zero);
  }
};
FAMILY(f_vanished, 2, 8, 8, 8)
FAMILY(v_f_vanished, 2, 8, 8, 8)

// Doubles on the way to singles: 0 < |A| <= 2^-126.
struct f_tiny_single {
  template <int A>
  static bool cold(Frame& f) {
    return (doubled<1>(f.v[A]) - 1) >> 53 < 897;
  }
};
struct v_f_tiny_single {
  template <int A>
  static bool cold(Frame& f) {
    const V t = _mm_srli_epi64(_mm_add_epi64(doubled_lanes<1>(f.v[A]), _mm_set1_epi64x(-1)), 53);
    const V yes = _mm_cmpgt_epi64(_mm_set1_epi64x(897), t);
    return !_mm_testz_si128(yes, yes);
  }
};
FAMILY(f_tiny_single, 8)
FAMILY(v_f_tiny_single, 8)

}  // namespace kiln::stencil::source
