// Floating-point stencils. The result register differs from the operands', which the cold path (NaN results, conversions out of
// range) evaluates again by the guest's rule. Inline asm, volatile: MXCSR is an input and an output the compiler does not know.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

template <int T>
bool is_nan(V v) {
  if constexpr (T == 0) return __builtin_isnan(_mm_cvtss_f32((__m128)v));
  else return __builtin_isnan(_mm_cvtsd_f64((__m128d)v));
}
template <int T>
bool any_nan(V v) {
  V unordered;
  if constexpr (T == 0) asm("vcmpunordps %1,%1,%0" : "=x"(unordered) : "x"(v));
  else asm("vcmpunordpd %1,%1,%0" : "=x"(unordered) : "x"(v));
  return !_mm_testz_si128(unordered, unordered);
}

#define SCALAR2(name, mnemonic)                                                                                 \
  struct name {                                                                                                 \
    static constexpr bool valid(int, int d, int a, int b) { return d != a && d != b; }                          \
    template <int T, int D, int A, int B>                                                                       \
    static bool cold(Frame& f) {                                                                                \
      if constexpr (T == 0) asm volatile("v" mnemonic "ss %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B])); \
      else asm volatile("v" mnemonic "sd %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));                  \
      return is_nan<T>(f.v[D]);                                                                                 \
    }                                                                                                           \
  };                                                                                                            \
  FAMILY(name, 2, 8, 8, 8)
SCALAR2(fadd, "add")
SCALAR2(fsub, "sub")
SCALAR2(fmul, "mul")
SCALAR2(fdiv, "div")

#define VECTOR2(name, mnemonic)                                                                                 \
  struct name {                                                                                                 \
    static constexpr bool valid(int, int d, int a, int b) { return d != a && d != b; }                          \
    template <int T, int D, int A, int B>                                                                       \
    static bool cold(Frame& f) {                                                                                \
      if constexpr (T == 0) asm volatile("v" mnemonic "ps %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B])); \
      else asm volatile("v" mnemonic "pd %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));                  \
      return any_nan<T>(f.v[D]);                                                                                \
    }                                                                                                           \
  };                                                                                                            \
  FAMILY(name, 2, 8, 8, 8)
VECTOR2(v_fadd, "add")
VECTOR2(v_fsub, "sub")
VECTOR2(v_fmul, "mul")
VECTOR2(v_fdiv, "div")

// D = A * B + D
struct fma {
  static constexpr bool valid(int, int d, int a, int b) { return d != a && d != b; }
  template <int T, int D, int A, int B>
  static bool cold(Frame& f) {
    if constexpr (T == 0) asm volatile("vfmadd231ss %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));
    else asm volatile("vfmadd231sd %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));
    return is_nan<T>(f.v[D]);
  }
};
struct v_fma {
  static constexpr bool valid(int, int d, int a, int b) { return d != a && d != b; }
  template <int T, int D, int A, int B>
  static bool cold(Frame& f) {
    if constexpr (T == 0) asm volatile("vfmadd231ps %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));
    else asm volatile("vfmadd231pd %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));
    return any_nan<T>(f.v[D]);
  }
};
FAMILY(fma, 2, 8, 8, 8)
FAMILY(v_fma, 2, 8, 8, 8)

struct fsqrt {
  static constexpr bool valid(int, int d, int a) { return d != a; }
  template <int T, int D, int A>
  static bool cold(Frame& f) {
    if constexpr (T == 0) asm volatile("vsqrtss %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vsqrtsd %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    return is_nan<T>(f.v[D]);
  }
};
struct v_fsqrt {
  static constexpr bool valid(int, int d, int a) { return d != a; }
  template <int T, int D, int A>
  static bool cold(Frame& f) {
    if constexpr (T == 0) asm volatile("vsqrtps %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vsqrtpd %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    return any_nan<T>(f.v[D]);
  }
};
FAMILY(fsqrt, 2, 8, 8)
FAMILY(v_fsqrt, 2, 8, 8)

// Equal operands (both zeros among them) and NaNs go out of line; the quiet compare comes first because min and max would
// raise Invalid for quiet NaNs.
#define MIN_MAX(name, mnemonic)                                                                                 \
  struct name {                                                                                                 \
    static constexpr bool valid(int, int d, int a, int b) { return d != a && d != b; }                          \
    template <int T, int D, int A, int B>                                                                       \
    static bool cold(Frame& f) {                                                                                \
      bool same;                                                                                                \
      if constexpr (T == 0) asm volatile("vucomiss %2,%1" : "=@ccz"(same) : "x"(f.v[A]), "x"(f.v[B]));          \
      else asm volatile("vucomisd %2,%1" : "=@ccz"(same) : "x"(f.v[A]), "x"(f.v[B]));                           \
      if (same) [[unlikely]]                                                                                    \
        return true;                                                                                            \
      if constexpr (T == 0) asm volatile("v" mnemonic "ss %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B])); \
      else asm volatile("v" mnemonic "sd %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));                  \
      return false;                                                                                             \
    }                                                                                                           \
  };                                                                                                            \
  FAMILY(name, 2, 8, 8, 8)
MIN_MAX(fmin, "min")
MIN_MAX(fmax, "max")

// T is the result's type.
struct fcvt {
  static constexpr bool valid(int, int d, int a) { return d != a; }
  template <int T, int D, int A>
  static bool cold(Frame& f) {
    if constexpr (T == 0) asm volatile("vcvtsd2ss %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vcvtss2sd %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    return is_nan<T>(f.v[D]);
  }
};
FAMILY(fcvt, 2, 8, 8)

// M: 0 nearest, 1 up, 2 down, 3 zero, 4 by MXCSR; Inexact is raised only by the second five (exact).
struct fround {
  static constexpr bool valid(int, int, int d, int a) { return d != a; }
  template <int M, int T, int D, int A>
  static bool cold(Frame& f) {
    constexpr int mode[] = {0, 2, 1, 3, 4};
    constexpr int imm = mode[M % 5] | (M < 5 ? 8 : 0);
    if constexpr (T == 0) asm volatile("vroundss %2,%1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(imm));
    else asm volatile("vroundsd %2,%1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(imm));
    return is_nan<T>(f.v[D]);
  }
};
FAMILY(fround, 10, 2, 8, 8)

// Towards zero, signed. The host's "indefinite" goes out of line.
struct f_to_int {
  template <int W, int T, int D, int A>
  static bool cold(Frame& f) {
    Int<W> r;
    if constexpr (T == 0) asm volatile("vcvttss2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    else asm volatile("vcvttsd2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    f.r[D] = r;
    bool indefinite;
    if constexpr (W == 0) asm("cmpl $1,%k1" : "=@cco"(indefinite) : "r"(r));
    else asm("cmpq $1,%1" : "=@cco"(indefinite) : "r"(r));
    return indefinite;
  }
};
FAMILY(f_to_int, 2, 2, 10, 8)

// The other roundings and unsigned results. U * 2 + T; U: 0 s32, 1 s64, 2 u32, 3 u64. Out of range goes out of line before
// anything has raised Inexact; a second conversion then raises it for a fraction.
struct f_to_int_general {
  template <int M, int UT, int D, int A>
  static bool cold(Frame& f) {
    constexpr int T = UT & 1, U = UT >> 1;
    constexpr int mode[] = {0, 2, 1, 3, 4};
    constexpr int imm = mode[M] | 8;
    V whole;
    u64 r;
    if constexpr (T == 0) asm volatile("vroundss %2,%1,%1,%0" : "=x"(whole) : "x"(f.v[A]), "i"(imm));
    else asm volatile("vroundsd %2,%1,%1,%0" : "=x"(whole) : "x"(f.v[A]), "i"(imm));
    if constexpr (U == 3) {
      // From 2^63 on (and below zero: the sign is the highest bit) the signed conversion would raise Invalid, which the
      // out-of-line one could not take back: -2 goes instead, whose sign then says so. In vector registers, as only two general
      // ones are free here.
      u64 high;  // 1 if sign and exponent are at least 2^63's
      if constexpr (T == 0)
        asm("vmovd %1,%k0\n\tshrl $23,%k0\n\tcmpl $0xbd,%k0\n\tseta %b0\n\tmovzbl %b0,%k0" : "=&r"(high) : "x"(whole) : "cc");
      else asm("vmovq %1,%0\n\tshrq $52,%0\n\tcmpl $0x43d,%k0\n\tseta %b0\n\tmovzbl %b0,%k0" : "=&r"(high) : "x"(whole) : "cc");
      V mask, other;
      asm("vmovq %3,%0\n\tvpxor %1,%1,%1\n\tvpsubq %0,%1,%0\n\tvandnpd %2,%0,%2"
          : "=&x"(mask), "=&x"(other), "+x"(whole)
          : "r"(high));
      if constexpr (T == 0) asm("vpslld $30,%1,%1\n\tvorps %1,%0,%0" : "+x"(whole), "+x"(mask));
      else asm("vpsllq $62,%1,%1\n\tvorpd %1,%0,%0" : "+x"(whole), "+x"(mask));
    }
    if constexpr (U == 0 && T == 0) asm volatile("vcvttss2si %1,%k0" : "=r"(r) : "x"(whole));
    if constexpr (U == 0 && T == 1) asm volatile("vcvttsd2si %1,%k0" : "=r"(r) : "x"(whole));
    if constexpr (U != 0 && T == 0) asm volatile("vcvttss2si %1,%0" : "=r"(r) : "x"(whole));
    if constexpr (U != 0 && T == 1) asm volatile("vcvttsd2si %1,%0" : "=r"(r) : "x"(whole));
    bool out;
    if constexpr (U == 0) out = static_cast<u32>(r) == 0x80000000;
    else if constexpr (U == 1) asm("cmpq $1,%1" : "=@cco"(out) : "r"(r));
    else if constexpr (U == 2) out = (r >> 32) != 0;
    else out = static_cast<s64>(r) < 0;
    if (out) [[unlikely]]
      return true;
    f.r[D] = r;
    if constexpr (T == 0) asm volatile("vcvttss2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    else asm volatile("vcvttsd2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    return false;
  }
};
FAMILY(f_to_int_general, 5, 8, 10, 8)

// S: 0 from s32, 1 from s64, 2 from u32, 3 from u64.
struct int_to_f {
  template <int S, int T, int D, int A>
  static void run(Frame& f) {
    f.v[D] = V{};
    u64 a = f.r[A];
    if constexpr (S == 2) a = static_cast<u32>(a);
    if constexpr (S == 0 && T == 0) asm volatile("vcvtsi2ssl %k1,%0,%0" : "+x"(f.v[D]) : "r"(a));
    if constexpr (S == 0 && T == 1) asm volatile("vcvtsi2sdl %k1,%0,%0" : "+x"(f.v[D]) : "r"(a));
    if constexpr (S == 3) {
      // Halved with the lost bit kept sticky, it rounds as the whole would; doubling is exact.
      if (static_cast<s64>(a) < 0) [[unlikely]] {
        const u64 half = a >> 1 | (a & 1);
        if constexpr (T == 0) asm volatile("vcvtsi2ssq %1,%0,%0\n\tvaddss %0,%0,%0" : "+x"(f.v[D]) : "r"(half));
        else asm volatile("vcvtsi2sdq %1,%0,%0\n\tvaddsd %0,%0,%0" : "+x"(f.v[D]) : "r"(half));
        return;
      }
    }
    if constexpr (S != 0 && T == 0) asm volatile("vcvtsi2ssq %1,%0,%0" : "+x"(f.v[D]) : "r"(a));
    if constexpr (S != 0 && T == 1) asm volatile("vcvtsi2sdq %1,%0,%0" : "+x"(f.v[D]) : "r"(a));
  }
};
FAMILY(int_to_f, 4, 2, 8, 10)

// Sign bits. Scalars leave the rest of the register as it is.
struct fneg {
  template <int T, int D, int A>
  static void run(Frame& f) {
    f.v[D] = f.v[A] ^ (T == 0 ? V{0x80000000, 0} : V{static_cast<long long>(u64{1} << 63), 0});
  }
};
struct fabs {
  template <int T, int D, int A>
  static void run(Frame& f) {
    f.v[D] = f.v[A] & (T == 0 ? V{~0x80000000LL, -1} : V{static_cast<long long>(~u64{0} >> 1), -1});
  }
};
struct v_fneg {
  template <int T, int D, int A>
  static void run(Frame& f) {
    f.v[D] = f.v[A] ^
             (T == 0 ? _mm_set1_epi32(static_cast<int>(0x80000000)) : _mm_set1_epi64x(static_cast<long long>(u64{1} << 63)));
  }
};
struct v_fabs {
  template <int T, int D, int A>
  static void run(Frame& f) {
    f.v[D] = f.v[A] & (T == 0 ? _mm_set1_epi32(0x7fffffff) : _mm_set1_epi64x(static_cast<long long>(~u64{0} >> 1)));
  }
};
FAMILY(fneg, 2, 8, 8)
FAMILY(fabs, 2, 8, 8)
FAMILY(v_fneg, 2, 8, 8)
FAMILY(v_fabs, 2, 8, 8)

#define COMPARE(name, predicate)                                                                             \
  struct name {                                                                                              \
    template <int T, int A, int B>                                                                           \
    static void run(Frame& f) {                                                                              \
      if constexpr (T == 0) asm volatile("vcmpps %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(predicate)); \
      else asm volatile("vcmppd %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(predicate));                  \
    }                                                                                                        \
  };                                                                                                         \
  FAMILY(name, 2, 8, 8)
COMPARE(v_fcmpeq, _CMP_EQ_OQ)
COMPARE(v_fcmpgt, _CMP_GT_OS)
COMPARE(v_fcmpge, _CMP_GE_OS)

}  // namespace kiln::stencil::source
