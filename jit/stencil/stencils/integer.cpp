// Integer stencils: moves, constants, state slots, arithmetic. Two-address: register A is source and result.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

// --- moves ---------------------------------------------------------------------------------------------------------
struct mov_rr { template <int D, int S> static void run(Frame& f) { f.r[D] = f.r[S]; } };
struct zext32 { template <int D, int S> static void run(Frame& f) { asm("movl %k1,%k0" : "=r"(f.r[D]) : "r"(f.r[S])); } };
struct zext16 { template <int D, int S> static void run(Frame& f) { f.r[D] = static_cast<u16>(f.r[S]); } };
struct zext8 { template <int D, int S> static void run(Frame& f) { f.r[D] = static_cast<u8>(f.r[S]); } };
struct sext8 {
  template <int W, int D, int S> static void run(Frame& f) { f.r[D] = static_cast<Int<W>>(static_cast<s8>(f.r[S])); }
};
struct sext16 {
  template <int W, int D, int S> static void run(Frame& f) { f.r[D] = static_cast<Int<W>>(static_cast<s16>(f.r[S])); }
};
struct sext32 { template <int D, int S> static void run(Frame& f) { f.r[D] = static_cast<u64>(static_cast<s32>(f.r[S])); } };
struct zero { template <int D> static void run(Frame& f) { f.r[D] = 0; } };
struct mov_i32 { template <int D> static void run(Frame& f) { asm("movl %1,%k0" : "=r"(f.r[D]) : "i"(HOLE_A)); } };
struct mov_i32s { template <int D> static void run(Frame& f) { asm("movq %1,%0" : "=r"(f.r[D]) : "i"(HOLE_A)); } };
struct mov_i64 { template <int D> static void run(Frame& f) { asm("movabsq %1,%0" : "=r"(f.r[D]) : "i"(HOLE_64)); } };
struct mov_rt { template <int D> static void run(Frame& f) { f.r[D] = f.t; } };
struct mov_tr { template <int S> static void run(Frame& f) { f.t = f.r[S]; } };
struct mov_ti64 { template <int...> static void run(Frame& f) { asm("movabsq %1,%0" : "=r"(f.t) : "i"(HOLE_64)); } };
struct mov_ti32 { template <int...> static void run(Frame& f) { asm("movl %1,%k0" : "=r"(f.t) : "i"(HOLE_A)); } };
FAMILY(mov_rr, 10, 10)
FAMILY(zext32, 10, 10)
FAMILY(zext16, 10, 10)
FAMILY(zext8, 10, 10)
FAMILY(sext8, 2, 10, 10)
FAMILY(sext16, 2, 10, 10)
FAMILY(sext32, 10, 10)
FAMILY(zero, 10)
FAMILY(mov_i32, 10)
FAMILY(mov_i32s, 10)
FAMILY(mov_i64, 10)
FAMILY(mov_rt, 10)
FAMILY(mov_tr, 10)
FAMILY(mov_ti64)
FAMILY(mov_ti32)

// --- state slots ---------------------------------------------------------------------------------------------------
struct slot_ld { template <int W, int D> static void run(Frame& f) { f.r[D] = at<volatile Int<W>>(f.st); } };
struct slot_st { template <int W, int S> static void run(Frame& f) { at<volatile Int<W>>(f.st) = static_cast<Int<W>>(f.r[S]); } };
// Low half zero-extended to an 8-byte slot (lazy flags of 32-bit operations).
struct slot_st32z { template <int S> static void run(Frame& f) { at<volatile u64>(f.st) = static_cast<u32>(f.r[S]); } };
struct slot_st_t { template <int W> static void run(Frame& f) { at<volatile Int<W>>(f.st) = static_cast<Int<W>>(f.t); } };
struct slot_ld_t { template <int W> static void run(Frame& f) { f.t = at<volatile Int<W>>(f.st); } };
struct slot_st_imm {
  template <int W> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("movl %1,%c2(%0)" : : "r"(f.st), "i"(HOLE_B), "i"(HOLE_A) : "memory");
    else asm volatile("movq %1,%c2(%0)" : : "r"(f.st), "i"(HOLE_B), "i"(HOLE_A) : "memory");
  }
};
FAMILY(slot_ld, 2, 10)
FAMILY(slot_st, 2, 10)
FAMILY(slot_st32z, 10)
FAMILY(slot_st_t, 2)
FAMILY(slot_ld_t, 2)
FAMILY(slot_st_imm, 2)

// --- arithmetic ----------------------------------------------------------------------------------------------------
template <int W, class Op>
void apply(u64& a, Op op) { a = op(static_cast<Int<W>>(a)); }

struct add_rr { template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A] + f.r[B]); } };
struct sub_rr { template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A] - f.r[B]); } };
struct mul_rr { template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A]) * static_cast<Int<W>>(f.r[B]); } };
struct and_rr { template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A] & f.r[B]); } };
struct or_rr { template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A] | f.r[B]); } };
struct xor_rr { template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A] ^ f.r[B]); } };
struct andn_rr { template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A] & ~f.r[B]); } };
// Three addresses: what would else be a copy and an operation.
struct lea_rr {
  static constexpr bool valid(int, int d, int a, int b) { return d != a && d != b && a <= b; }
  template <int W, int D, int A, int B> static void run(Frame& f) { f.r[D] = static_cast<Int<W>>(f.r[A] + f.r[B]); }
};
FAMILY(add_rr, 2, 10, 10)
FAMILY(sub_rr, 2, 10, 10)
FAMILY(mul_rr, 2, 10, 10)
FAMILY(and_rr, 2, 10, 10)
FAMILY(or_rr, 2, 10, 10)
FAMILY(xor_rr, 2, 10, 10)
FAMILY(andn_rr, 2, 10, 10)
FAMILY(lea_rr, 2, 10, 10, 10)

// Immediates go through inline asm so that the compiler draws no conclusions from a hole's being a symbol.
struct add_ri {
  template <int W, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("addl %1,%k0" : "+r"(f.r[A]) : "i"(HOLE_A));
    else asm("addq %1,%0" : "+r"(f.r[A]) : "i"(HOLE_A));
  }
};
struct and_ri {
  template <int W, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("andl %1,%k0" : "+r"(f.r[A]) : "i"(HOLE_A));
    else asm("andq %1,%0" : "+r"(f.r[A]) : "i"(HOLE_A));
  }
};
struct or_ri {
  template <int W, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("orl %1,%k0" : "+r"(f.r[A]) : "i"(HOLE_A));
    else asm("orq %1,%0" : "+r"(f.r[A]) : "i"(HOLE_A));
  }
};
struct xor_ri {
  template <int W, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("xorl %1,%k0" : "+r"(f.r[A]) : "i"(HOLE_A));
    else asm("xorq %1,%0" : "+r"(f.r[A]) : "i"(HOLE_A));
  }
};
struct lea_ri {
  template <int W, int D, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("leal %c2(%1),%k0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(HOLE_A));
    else asm("leaq %c2(%1),%0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(HOLE_A));
  }
};
struct imul_ri {
  template <int W, int D, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("imull %2,%k1,%k0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(HOLE_A));
    else asm("imulq %2,%1,%0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(HOLE_A));
  }
};
FAMILY(add_ri, 2, 10)
FAMILY(and_ri, 2, 10)
FAMILY(or_ri, 2, 10)
FAMILY(xor_ri, 2, 10)
FAMILY(lea_ri, 2, 10, 10)
FAMILY(imul_ri, 2, 10, 10)

#define SHIFT_IMMEDIATE(name, mnemonic)                                                   \
  struct name {                                                                           \
    template <int W, int A> static void run(Frame& f) {                                   \
      if constexpr (W == 0) asm(mnemonic "l %1,%k0" : "+r"(f.r[A]) : "i"(HOLE_8));        \
      else asm(mnemonic "q %1,%0" : "+r"(f.r[A]) : "i"(HOLE_8));                          \
    }                                                                                     \
  };                                                                                      \
  FAMILY(name, 2, 10)
SHIFT_IMMEDIATE(shl_i, "shl")
SHIFT_IMMEDIATE(shr_i, "shr")
SHIFT_IMMEDIATE(sar_i, "sar")
SHIFT_IMMEDIATE(ror_i, "ror")
// rorx also copies: the shift of a value that stays live.
struct rorx_i {
  template <int W, int D, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm("rorxl %2,%k1,%k0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(HOLE_8));
    else asm("rorxq %2,%1,%0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(HOLE_8));
  }
};
FAMILY(rorx_i, 2, 10, 10)
// d = a << 1..3
struct lea_shl {
  template <int W, int S, int D, int A> static void run(Frame& f) {
    constexpr int scale = 2 << S;
    if constexpr (W == 0) asm("leal (,%1,%c2),%k0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(scale));
    else asm("leaq (,%1,%c2),%0" : "=r"(f.r[D]) : "r"(f.r[A]), "i"(scale));
  }
};
FAMILY(lea_shl, 2, 3, 10, 10)
// a = a + (b << 1..3)
struct add_shl {
  template <int W, int S, int A, int B> static void run(Frame& f) {
    constexpr int scale = 2 << S;
    if constexpr (W == 0) asm("leal (%0,%1,%c2),%k0" : "+r"(f.r[A]) : "r"(f.r[B]), "i"(scale));
    else asm("leaq (%0,%1,%c2),%0" : "+r"(f.r[A]) : "r"(f.r[B]), "i"(scale));
  }
};
FAMILY(add_shl, 2, 3, 10, 10)

struct shl_rr {
  template <int W, int A, int B> static void run(Frame& f) {
    f.r[A] = static_cast<Int<W>>(f.r[A]) << (f.r[B] & (W == 0 ? 31 : 63));
    if constexpr (W == 0) f.r[A] = static_cast<u32>(f.r[A]);
  }
};
struct shr_rr {
  template <int W, int A, int B> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(f.r[A]) >> (f.r[B] & (W == 0 ? 31 : 63)); }
};
struct sar_rr {
  template <int W, int A, int B> static void run(Frame& f) {
    f.r[A] = static_cast<Int<W>>(static_cast<SInt<W>>(f.r[A]) >> (f.r[B] & (W == 0 ? 31 : 63)));
  }
};
struct ror_rr { using kills_t = void;
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) f.r[A] = __builtin_rotateright32(static_cast<u32>(f.r[A]), static_cast<u32>(f.r[B]));
    else f.r[A] = __builtin_rotateright64(f.r[A], f.r[B]);
  }
};
FAMILY(shl_rr, 2, 10, 10)
FAMILY(shr_rr, 2, 10, 10)
FAMILY(sar_rr, 2, 10, 10)
FAMILY(ror_rr, 2, 10, 10)
// Low register A = bits [imm, imm+n) of B:A.
struct shrd_i {
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) asm("shrdl %2,%k1,%k0" : "+r"(f.r[A]) : "r"(f.r[B]), "i"(HOLE_8));
    else asm("shrdq %2,%1,%0" : "+r"(f.r[A]) : "r"(f.r[B]), "i"(HOLE_8));
  }
};
FAMILY(shrd_i, 2, 10, 10)

struct neg { template <int W, int A> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(-f.r[A]); } };
struct not_ { template <int W, int A> static void run(Frame& f) { f.r[A] = static_cast<Int<W>>(~f.r[A]); } };
struct clz { template <int W, int D, int A> static void run(Frame& f) { f.r[D] = W == 0 ? _lzcnt_u32(static_cast<u32>(f.r[A])) : _lzcnt_u64(f.r[A]); } };
struct ctz { template <int W, int D, int A> static void run(Frame& f) { f.r[D] = W == 0 ? _tzcnt_u32(static_cast<u32>(f.r[A])) : _tzcnt_u64(f.r[A]); } };
struct popcnt { template <int W, int D, int A> static void run(Frame& f) { f.r[D] = static_cast<u64>(W == 0 ? __builtin_popcount(static_cast<u32>(f.r[A])) : __builtin_popcountll(f.r[A])); } };
struct bswap { template <int W, int A> static void run(Frame& f) { f.r[A] = W == 0 ? __builtin_bswap32(static_cast<u32>(f.r[A])) : __builtin_bswap64(f.r[A]); } };
struct bitrev { using kills_t = void; template <int W, int A> static void run(Frame& f) { f.r[A] = W == 0 ? __builtin_bitreverse32(static_cast<u32>(f.r[A])) : __builtin_bitreverse64(f.r[A]); } };
FAMILY(neg, 2, 10)
FAMILY(not_, 2, 10)
FAMILY(clz, 2, 10, 10)
FAMILY(ctz, 2, 10, 10)
FAMILY(popcnt, 2, 10, 10)
FAMILY(bswap, 2, 10)
FAMILY(bitrev, 2, 10)

struct umulh { using kills_t = void;
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) f.r[A] = (u64{static_cast<u32>(f.r[A])} * static_cast<u32>(f.r[B])) >> 32;
    else f.r[A] = static_cast<u64>((u128{f.r[A]} * f.r[B]) >> 64);
  }
};
struct smulh { using kills_t = void;
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) f.r[A] = static_cast<u32>((s64{static_cast<s32>(f.r[A])} * static_cast<s32>(f.r[B])) >> 32);
    else f.r[A] = static_cast<u64>((s128{static_cast<s64>(f.r[A])} * static_cast<s64>(f.r[B])) >> 64);
  }
};
FAMILY(umulh, 2, 10, 10)
FAMILY(smulh, 2, 10, 10)

struct udiv { using kills_t = void;
  template <int W, int A, int B> static void run(Frame& f) {
    const auto b = static_cast<Int<W>>(f.r[B]);
    f.r[A] = b == 0 ? 0 : static_cast<Int<W>>(f.r[A]) / b;
  }
};
// By hand: the compiler wants one scratch register more than there is. rdx is put back behind its back.
#define SIGNED_DIVIDE(width, divide, k, by_zero, by_minus_one, result)                                               \
  asm("movq %%rdx,%%r10\n\tmov %" k "1,%%" width "ax\n\tmov %" k "2,%%" width "bx\n\t"                                \
      "test %%" width "bx,%%" width "bx\n\tje 1f\n\tcmp $-1,%%" width "bx\n\tje 2f\n\t" divide " %%" width "bx\n\t"  \
      result "\n\tjmp 3f\n1:\t" by_zero "\n\tjmp 3f\n2:\t" by_minus_one "\n3:\tmovq %%r10,%%rdx"                    \
      : "=&a"(q) : "r"(f.r[A]), "r"(f.r[B]) : "rbx", "r10", "cc")
struct sdiv { using kills_t = void;
  template <int W, int A, int B> static void run(Frame& f) {
    u64 q;
    if constexpr (W == 0) SIGNED_DIVIDE("e", "cltd\n\tidivl", "k", "xorl %%eax,%%eax", "negl %%eax", "");
    else SIGNED_DIVIDE("r", "cqto\n\tidivq", "", "xorl %%eax,%%eax", "negq %%rax", "");
    f.r[A] = q;
  }
};
struct urem { using kills_t = void;
  template <int W, int A, int B> static void run(Frame& f) {
    const auto a = static_cast<Int<W>>(f.r[A]), b = static_cast<Int<W>>(f.r[B]);
    f.r[A] = b == 0 ? a : a % b;
  }
};
struct srem { using kills_t = void;
  template <int W, int A, int B> static void run(Frame& f) {
    u64 q;
    if constexpr (W == 0) SIGNED_DIVIDE("e", "cltd\n\tidivl", "k", "", "xorl %%eax,%%eax", "movl %%edx,%%eax");
    else SIGNED_DIVIDE("r", "cqto\n\tidivq", "", "", "xorl %%eax,%%eax", "movq %%rdx,%%rax");
    f.r[A] = q;
  }
};
FAMILY(udiv, 2, 10, 10)
FAMILY(sdiv, 2, 10, 10)
FAMILY(urem, 2, 10, 10)
FAMILY(srem, 2, 10, 10)

// Bits under the 64-bit hole's mask come from the low bits of B.
struct bfi { using kills_t = void;
  template <int A, int B> static void run(Frame& f) {
    u64 mask;
    asm("movabsq %1,%0" : "=r"(mask) : "i"(HOLE_64));
    f.r[A] = (f.r[A] & ~mask) | _pdep_u64(f.r[B], mask);
  }
};
struct bfi32 { using kills_t = void;
  template <int A, int B> static void run(Frame& f) {
    u32 mask;
    asm("movl %1,%0" : "=r"(mask) : "i"(HOLE_A));
    f.r[A] = (static_cast<u32>(f.r[A]) & ~mask) | _pdep_u32(static_cast<u32>(f.r[B]), mask);
  }
};
FAMILY(bfi, 10, 10)
FAMILY(bfi32, 10, 10)

}  // namespace kiln::stencil::source
