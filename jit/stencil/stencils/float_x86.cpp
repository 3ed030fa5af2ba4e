// Floating-point stencils of NanRule::X86: the bare SSE, AVX or FMA instruction, NaNs and all, so nothing goes out of line.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

// A = A op B. T: 0 single, 1 double.
#define TWO(name, mnemonic)                                                                        \
  struct x_##name {                                                                                \
    template <int T, int A, int B>                                                                 \
    static void run(Frame& f) {                                                                    \
      if constexpr (T == 0) asm volatile("v" mnemonic "ss %1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B])); \
      else asm volatile("v" mnemonic "sd %1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]));                  \
    }                                                                                              \
  };                                                                                               \
  struct x_v_##name {                                                                              \
    template <int T, int A, int B>                                                                 \
    static void run(Frame& f) {                                                                    \
      if constexpr (T == 0) asm volatile("v" mnemonic "ps %1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B])); \
      else asm volatile("v" mnemonic "pd %1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]));                  \
    }                                                                                              \
  };                                                                                               \
  FAMILY(x_##name, 2, 8, 8)                                                                        \
  FAMILY(x_v_##name, 2, 8, 8)
TWO(fadd, "add")
TWO(fsub, "sub")
TWO(fmul, "mul")
TWO(fdiv, "div")
TWO(fmin, "min")
TWO(fmax, "max")

// D = A * B + D, its addend, its product or both negated; the digits 2, 3, 1 make A's NaN win, then B's.
#define FUSED(name, mnemonic)                                                                                               \
  struct x_##name {                                                                                                         \
    template <int T, int D, int A, int B>                                                                                   \
    static void run(Frame& f) {                                                                                             \
      if constexpr (T == 0) asm volatile("v" mnemonic "231ss %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));          \
      else asm volatile("v" mnemonic "231sd %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));                           \
    }                                                                                                                       \
  };                                                                                                                        \
  struct x_v_##name {                                                                                                       \
    template <int T, int D, int A, int B>                                                                                   \
    static void run(Frame& f) {                                                                                             \
      if constexpr (T == 0) asm volatile("v" mnemonic "231ps %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));          \
      else asm volatile("v" mnemonic "231pd %2,%1,%0" : "+x"(f.v[D]) : "x"(f.v[A]), "x"(f.v[B]));                           \
    }                                                                                                                       \
  };                                                                                                                        \
  FAMILY(x_##name, 2, 8, 8, 8)                                                                                              \
  FAMILY(x_v_##name, 2, 8, 8, 8)
FUSED(fma, "fmadd")
FUSED(fmsub, "fmsub")
FUSED(fnmadd, "fnmadd")
FUSED(fnmsub, "fnmsub")

struct x_fsqrt {
  template <int T, int D, int A>
  static void run(Frame& f) {
    if constexpr (T == 0) asm volatile("vsqrtss %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vsqrtsd %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
  }
};
struct x_v_fsqrt {
  template <int T, int D, int A>
  static void run(Frame& f) {
    if constexpr (T == 0) asm volatile("vsqrtps %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vsqrtpd %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
  }
};
FAMILY(x_fsqrt, 2, 8, 8)
FAMILY(x_v_fsqrt, 2, 8, 8)

// T is the result's type.
struct x_fcvt {
  template <int T, int D, int A>
  static void run(Frame& f) {
    if constexpr (T == 0) asm volatile("vcvtsd2ss %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vcvtss2sd %1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
  }
};
FAMILY(x_fcvt, 2, 8, 8)
// T: 0 narrows, 1 widens.
struct x_v_fcvt {
  template <int T, int D, int A>
  static void run(Frame& f) {
    if constexpr (T == 0) asm volatile("vcvtpd2ps %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vcvtps2pd %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
  }
};
FAMILY(x_v_fcvt, 2, 8, 8)

// By ROUNDSS's immediate.
struct x_fround {
  template <int T, int D, int A>
  static void run(Frame& f) {
    if constexpr (T == 0) asm volatile("vroundss %2,%1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    else asm volatile("vroundsd %2,%1,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
  }
};
struct x_v_fround {
  template <int T, int D, int A>
  static void run(Frame& f) {
    if constexpr (T == 0) asm volatile("vroundps %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
    else asm volatile("vroundpd %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8));
  }
};
FAMILY(x_fround, 2, 8, 8)
FAMILY(x_v_fround, 2, 8, 8)

// K: 4 truncates, else rounds by MXCSR; 2 to 64 bits; 1 from double.
struct x_f_to_int {
  template <int K, int D, int A>
  static void run(Frame& f) {
    u64 r;
    if constexpr (K == 0) asm volatile("vcvtss2si %1,%k0" : "=r"(r) : "x"(f.v[A]));
    if constexpr (K == 1) asm volatile("vcvtsd2si %1,%k0" : "=r"(r) : "x"(f.v[A]));
    if constexpr (K == 2) asm volatile("vcvtss2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    if constexpr (K == 3) asm volatile("vcvtsd2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    if constexpr (K == 4) asm volatile("vcvttss2si %1,%k0" : "=r"(r) : "x"(f.v[A]));
    if constexpr (K == 5) asm volatile("vcvttsd2si %1,%k0" : "=r"(r) : "x"(f.v[A]));
    if constexpr (K == 6) asm volatile("vcvttss2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    if constexpr (K == 7) asm volatile("vcvttsd2si %1,%0" : "=r"(r) : "x"(f.v[A]));
    f.r[D] = r;
  }
};
FAMILY(x_f_to_int, 8, 10, 8)

// M: 0 by MXCSR, 1 truncates; T: 0 f32 to s32, 1 f64 to s64.
struct x_v_f_to_int {
  static constexpr bool valid(int, int t, int d, int a) { return t == 0 || d != a; }
  template <int M, int T, int D, int A>
  static void run(Frame& f) {
    if constexpr (T == 0) {
      if constexpr (M == 0) asm volatile("vcvtps2dq %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
      else asm volatile("vcvttps2dq %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    } else {
      V high;
      u64 low;
      if constexpr (M == 0) asm volatile("vcvtsd2si %1,%0" : "=r"(low) : "x"(f.v[A]));
      else asm volatile("vcvttsd2si %1,%0" : "=r"(low) : "x"(f.v[A]));
      asm volatile("vmovq %1,%0" : "=x"(f.v[D]) : "r"(low));
      asm volatile("vpermilpd $1,%1,%0" : "=x"(high) : "x"(f.v[A]));
      if constexpr (M == 0) asm volatile("vcvtsd2si %1,%0" : "=r"(low) : "x"(high));
      else asm volatile("vcvttsd2si %1,%0" : "=r"(low) : "x"(high));
      asm volatile("vpinsrq $1,%1,%0,%0" : "+x"(f.v[D]) : "r"(low));
    }
  }
};
FAMILY(x_v_f_to_int, 2, 2, 8, 8)

// By VCMPPS's predicate; for any NaN rule.
struct x_v_fcmp {
  template <int T, int A, int B>
  static void run(Frame& f) {
    if constexpr (T == 0) asm volatile("vcmpps %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
    else asm volatile("vcmppd %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
  }
};
FAMILY(x_v_fcmp, 2, 8, 8)

}  // namespace kiln::stencil::source
