/* A case of the FP/SIMD check, for both sides (C and C++): one instruction word on a state that follows from a seed.
   The program under the oracle and the checker make the same state with make_state(). */
#pragma once
#include <stdint.h>
#include <string.h>

struct SimdCase {
  uint32_t word, fpcr;
  uint64_t seed;
};
struct SimdState {
  uint64_t v[32][2];
  uint64_t x[28]; /* x28..x30 belong to the harness */
  uint64_t nzcv, fpsr;
  uint64_t illegal;
};

static inline uint64_t simd_next(uint64_t* s) {
  uint64_t z = (*s += 0x9e3779b97f4a7c15u);
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
  return z ^ (z >> 31);
}

/* One lane: usually something that some instruction finds interesting. */
static inline uint64_t simd_lane(uint64_t* s, unsigned bits, unsigned flavour) {
  static const unsigned mant_of[4] = {3, 10, 23, 52};
  const uint64_t r = simd_next(s);
  const unsigned size = bits == 8 ? 0 : bits == 16 ? 1 : bits == 32 ? 2 : 3;
  const uint64_t mask = bits == 64 ? ~(uint64_t)0 : ((uint64_t)1 << bits) - 1;
  const unsigned mant = mant_of[size];
  const uint64_t bias = ((uint64_t)1 << (bits - mant - 2)) - 1, sign = (r >> 63) << (bits - 1);
  const uint64_t mant_mask = ((uint64_t)1 << mant) - 1;
  uint64_t v = r;
  switch (flavour) {
    case 0: break; /* any bits */
    case 1:        /* a number near one, or an integer and a half */
      v = sign | (bias - 3 + (r >> 8) % 8) << mant | (simd_next(s) & mant_mask & ((r & 1) ? ~(uint64_t)0 : ~(mant_mask >> ((r >> 1) % mant))));
      break;
    case 2: /* IEEE's corners */
      switch ((r >> 8) % 12) {
        case 0: v = sign; break;
        case 1: v = sign | (2 * bias + 1) << mant; break;                                        /* inf */
        case 2: v = sign | (2 * bias + 1) << mant | (uint64_t)1 << (mant - 1) | (r & 7); break;   /* quiet NaN */
        case 3: v = sign | (2 * bias + 1) << mant | (1 + (r & 7)); break;                        /* signalling NaN */
        case 4: v = sign | (simd_next(s) & mant_mask); break;                                    /* denormal */
        case 5: v = sign | (1 + (r & 3)); break;
        case 6: v = sign | (uint64_t)1 << mant | (simd_next(s) & mant_mask & -(r & 1)); break;   /* least normals */
        case 7: v = sign | 2 * bias << mant | (simd_next(s) & mant_mask); break;                 /* greatest */
        case 8: v = sign | ((2 * bias << mant) | mant_mask); break;
        case 9: v = sign | bias << mant; break;
        case 10: v = sign | (bias + (r >> 16) % (bias + 1)) << mant | (simd_next(s) & mant_mask); break;
        default: v = sign | (bias + 8 * (bits / 8) - 2 + (r >> 16) % 4) << mant | (simd_next(s) & mant_mask); break;
      }
      break;
    case 3: v = (r >> 8) % 7 == 0 ? mask >> 1 : (r >> 8) % 7 == 1 ? (mask >> 1) + 1 : (r >> 8) % 7 == 2 ? 0 : (uint64_t)((int64_t)(r >> 40) % 9 - 4); break;
    case 4: v = (uint64_t)((int64_t)((r >> 20) % (2 * bits + 5)) - (int64_t)bits - 2); break; /* shift counts */
    default: v = sign | ((r >> 8) % (2 * bias + 1)) << mant | (simd_next(s) & mant_mask); break; /* any number */
  }
  return v & mask;
}

static inline void make_state(struct SimdState* st, uint64_t seed) {
  uint64_t s = seed;
  memset(st, 0, sizeof *st);
  const unsigned size = simd_next(&s) % 4, bits = 8u << size;
  const unsigned uniform = simd_next(&s) % 2, shared = simd_next(&s) % 6;
  for (unsigned i = 0; i < 32; ++i)
    for (unsigned j = 0; j < 128; j += bits) {
      const unsigned flavour = uniform ? shared : simd_next(&s) % 6;
      st->v[i][j / 64] |= simd_lane(&s, bits, flavour) << (j % 64);
    }
  for (unsigned i = 0; i < 28; ++i) st->x[i] = simd_lane(&s, simd_next(&s) % 2 ? 64 : 32, simd_next(&s) % 4 == 0 ? 3 : 0) >> (simd_next(&s) % 3 == 0 ? simd_next(&s) % 64 : 0);
  st->nzcv = (simd_next(&s) & 15) << 28;
}
