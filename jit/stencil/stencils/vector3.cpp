// Vector stencils that are one host instruction each: saturation, packing, sums of neighbours, shifts by vectors, permutations.
// A = A op B, or D = op A. Immediates: HOLE_8.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

struct v_movemask {
  template <int L, int D, int A> static void run(Frame& f) {
    if constexpr (L == 0) asm("vpmovmskb %1,%k0" : "=r"(f.r[D]) : "x"(f.v[A]));
    if constexpr (L == 1) {
      V bytes;
      asm("vpacksswb %1,%1,%0" : "=x"(bytes) : "x"(f.v[A]));
      asm("vpmovmskb %1,%k0\n\tmovzbl %b0,%k0" : "=r"(f.r[D]) : "x"(bytes));
    }
    if constexpr (L == 2) asm("vmovmskps %1,%k0" : "=r"(f.r[D]) : "x"(f.v[A]));
    if constexpr (L == 3) asm("vmovmskpd %1,%k0" : "=r"(f.r[D]) : "x"(f.v[A]));
  }
};
FAMILY(v_movemask, 4, 10, 8)

// L counts the lane widths that there are.
#define TWO_WIDTHS(name, first, second)                                               \
  struct name {                                                                       \
    template <int L, int A, int B> static void run(Frame& f) {                        \
      f.v[A] = L == 0 ? first(f.v[A], f.v[B]) : second(f.v[A], f.v[B]);               \
    }                                                                                 \
  };                                                                                  \
  FAMILY(name, 2, 8, 8)
#define ONE_WIDTH(name, function)                                                     \
  struct name {                                                                       \
    template <int A, int B> static void run(Frame& f) { f.v[A] = function(f.v[A], f.v[B]); } \
  };                                                                                  \
  FAMILY(name, 8, 8)
TWO_WIDTHS(v_pack_s, _mm_packs_epi16, _mm_packs_epi32)
TWO_WIDTHS(v_pack_u, _mm_packus_epi16, _mm_packus_epi32)
TWO_WIDTHS(v_add_sat_s, _mm_adds_epi8, _mm_adds_epi16)
TWO_WIDTHS(v_add_sat_u, _mm_adds_epu8, _mm_adds_epu16)
TWO_WIDTHS(v_sub_sat_s, _mm_subs_epi8, _mm_subs_epi16)
TWO_WIDTHS(v_sub_sat_u, _mm_subs_epu8, _mm_subs_epu16)
TWO_WIDTHS(v_avg_u, _mm_avg_epu8, _mm_avg_epu16)
TWO_WIDTHS(v_ashr_by, _mm_sra_epi16, _mm_sra_epi32)
TWO_WIDTHS(v_shl_each, _mm_sllv_epi32, _mm_sllv_epi64)
TWO_WIDTHS(v_lshr_each, _mm_srlv_epi32, _mm_srlv_epi64)
ONE_WIDTH(v_ashr_each, _mm_srav_epi32)
ONE_WIDTH(v_mulhi_s, _mm_mulhi_epi16)
ONE_WIDTH(v_mulhi_u, _mm_mulhi_epu16)
ONE_WIDTH(v_mulhi_round, _mm_mulhrs_epi16)
ONE_WIDTH(v_madd_s, _mm_madd_epi16)
ONE_WIDTH(v_madd_us, _mm_maddubs_epi16)
ONE_WIDTH(v_sad_u, _mm_sad_epu8)
ONE_WIDTH(v_shuffle, _mm_shuffle_epi8)

#define THREE_WIDTHS(name, first, second, third)                                       \
  struct name {                                                                        \
    template <int L, int A, int B> static void run(Frame& f) {                         \
      f.v[A] = L == 0 ? first(f.v[A], f.v[B]) : L == 1 ? second(f.v[A], f.v[B]) : third(f.v[A], f.v[B]); \
    }                                                                                  \
  };                                                                                   \
  FAMILY(name, 3, 8, 8)
THREE_WIDTHS(v_sign, _mm_sign_epi8, _mm_sign_epi16, _mm_sign_epi32)
THREE_WIDTHS(v_shl_by, _mm_sll_epi16, _mm_sll_epi32, _mm_sll_epi64)
THREE_WIDTHS(v_lshr_by, _mm_srl_epi16, _mm_srl_epi32, _mm_srl_epi64)

struct v_blendv {  // B1, B4, B8
  template <int L, int A, int B, int C> static void run(Frame& f) {
    if constexpr (L == 0) asm("vpblendvb %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "x"(f.v[C]));
    if constexpr (L == 1) asm("vblendvps %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "x"(f.v[C]));
    if constexpr (L == 2) asm("vblendvpd %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "x"(f.v[C]));
  }
};
FAMILY(v_blendv, 3, 8, 8, 8)

// --- with an immediate -----------------------------------------------------------------------------------------------
struct v_permute { template <int D, int A> static void run(Frame& f) { asm("vpshufd %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8)); } };
struct v_permute_lo { template <int D, int A> static void run(Frame& f) { asm("vpshuflw %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8)); } };
struct v_permute_hi { template <int D, int A> static void run(Frame& f) { asm("vpshufhw %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8)); } };
FAMILY(v_permute, 8, 8)
FAMILY(v_permute_lo, 8, 8)
FAMILY(v_permute_hi, 8, 8)
struct v_bytes_up { template <int D, int A> static void run(Frame& f) { asm("vpslldq %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8)); } };
struct v_bytes_down { template <int D, int A> static void run(Frame& f) { asm("vpsrldq %2,%1,%0" : "=x"(f.v[D]) : "x"(f.v[A]), "i"(HOLE_8)); } };
FAMILY(v_bytes_up, 8, 8)
FAMILY(v_bytes_down, 8, 8)
struct v_permute2 {
  template <int L, int A, int B> static void run(Frame& f) {
    if constexpr (L == 0) asm("vshufps %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
    else asm("vshufpd %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
  }
};
FAMILY(v_permute2, 2, 8, 8)
struct v_blend {  // B2, B4, B8
  template <int L, int A, int B> static void run(Frame& f) {
    if constexpr (L == 0) asm("vpblendw %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
    if constexpr (L == 1) asm("vblendps %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
    if constexpr (L == 2) asm("vblendpd %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
  }
};
FAMILY(v_blend, 3, 8, 8)
// Lanes of 4 bytes (INSERTPS's immediate), and of 8 (SHUFPD's: A's high half stays, or its low half).
struct v_insert_lane {
  template <int K, int A, int B> static void run(Frame& f) {
    if constexpr (K == 0) asm("vinsertps %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
    if constexpr (K == 1) asm("vshufpd %2,%0,%1,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
    if constexpr (K == 2) asm("vshufpd %2,%1,%0,%0" : "+x"(f.v[A]) : "x"(f.v[B]), "i"(HOLE_8));
  }
};
FAMILY(v_insert_lane, 3, 8, 8)

// --- conversions -----------------------------------------------------------------------------------------------------
struct v_int_to_f_widen { template <int D, int A> static void run(Frame& f) { asm("vcvtdq2pd %1,%0" : "=x"(f.v[D]) : "x"(f.v[A])); } };
struct v_f_to_int_narrow {
  template <int K, int D, int A> static void run(Frame& f) {
    if constexpr (K == 0) asm volatile("vcvtpd2dqx %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
    else asm volatile("vcvttpd2dqx %1,%0" : "=x"(f.v[D]) : "x"(f.v[A]));
  }
};
FAMILY(v_int_to_f_widen, 8, 8)
FAMILY(v_f_to_int_narrow, 2, 8, 8)

}  // namespace kiln::stencil::source
