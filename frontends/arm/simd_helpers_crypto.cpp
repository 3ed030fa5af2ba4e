#include "frontends/arm/simd_helpers_crypto.h"

#include <immintrin.h>

#include <array>
#include <bit>
#include <cstdlib>

namespace kiln::arm {
namespace {

using ir::CpuState;
using ir::Type;

struct Words {
  u32 e[4];
};
struct Doubles {
  u64 e[2];
};
struct Bytes {
  u8 e[16];
};
Words words(__m128i v) { return std::bit_cast<Words>(v); }
Doubles doubles(__m128i v) { return std::bit_cast<Doubles>(v); }
__m128i vector(const auto& l) { return std::bit_cast<__m128i>(l); }

// --- AES --------------------------------------------------------------------------------------------------------------
constexpr u8 times(u8 a, u8 b) {  // in GF(2^8) modulo x^8 + x^4 + x^3 + x + 1
  u8 r = 0;
  for (; b; b >>= 1) {
    if (b & 1) r ^= a;
    a = static_cast<u8>(a << 1 ^ (a & 0x80 ? 0x1b : 0));
  }
  return r;
}
struct SBoxes {
  u8 forward[256], backward[256];
};
constexpr SBoxes make_sboxes() {
  SBoxes s{};
  for (unsigned i = 0; i < 256; ++i) {
    u8 inverse = 1, power = static_cast<u8>(i);  // i^254
    for (unsigned k = 1; k < 8; ++k) power = times(power, power), inverse = times(inverse, power);
    u8 r = 0x63;
    for (int k = 0; k < 5; ++k) r ^= std::rotl(inverse, k);
    s.forward[i] = r;
    s.backward[r] = static_cast<u8>(i);
  }
  return s;
}
constexpr SBoxes kSBoxes = make_sboxes();

__m128i aese(CpuState*, __m128i d, __m128i n) {
  const auto x = std::bit_cast<Bytes>(_mm_xor_si128(d, n));
  Bytes r;
  for (unsigned i = 0; i < 16; ++i) r.e[i] = kSBoxes.forward[x.e[(i + 4 * (i % 4)) % 16]];
  return vector(r);
}
__m128i aesd(CpuState*, __m128i d, __m128i n) {
  const auto x = std::bit_cast<Bytes>(_mm_xor_si128(d, n));
  Bytes r;
  for (unsigned i = 0; i < 16; ++i) r.e[i] = kSBoxes.backward[x.e[(i + 12 * (i % 4)) % 16]];
  return vector(r);
}
template <u8 kA, u8 kB, u8 kC, u8 kD>
__m128i mix_columns(CpuState*, __m128i n) {
  const auto x = std::bit_cast<Bytes>(n);
  Bytes r;
  for (unsigned i = 0; i < 16; ++i) {
    const auto at = [&](unsigned k) { return x.e[(i & 12) | ((i + k) & 3)]; };
    r.e[i] = static_cast<u8>(times(at(0), kA) ^ times(at(1), kB) ^ times(at(2), kC) ^ times(at(3), kD));
  }
  return vector(r);
}
// A host round without the steps that the guest's instruction does not have: a zero key, or a last round first.
__attribute__((target("aes"))) __m128i aese_host(CpuState*, __m128i d, __m128i n) {
  return _mm_aesenclast_si128(_mm_xor_si128(d, n), _mm_setzero_si128());
}
__attribute__((target("aes"))) __m128i aesd_host(CpuState*, __m128i d, __m128i n) {
  return _mm_aesdeclast_si128(_mm_xor_si128(d, n), _mm_setzero_si128());
}
__attribute__((target("aes"))) __m128i aesmc_host(CpuState*, __m128i n) {
  return _mm_aesenc_si128(_mm_aesdeclast_si128(n, _mm_setzero_si128()), _mm_setzero_si128());
}
__attribute__((target("aes"))) __m128i aesimc_host(CpuState*, __m128i n) { return _mm_aesimc_si128(n); }

// --- SHA-1 ------------------------------------------------------------------------------------------------------------
u32 choose(u32 x, u32 y, u32 z) { return ((y ^ z) & x) ^ z; }
u32 majority(u32 x, u32 y, u32 z) { return (x & y) | ((x | y) & z); }
u32 parity(u32 x, u32 y, u32 z) { return x ^ y ^ z; }

template <u32 (*kF)(u32, u32, u32)>
__m128i sha1_rounds(CpuState*, __m128i d, __m128i n, __m128i m) {
  Words x = words(d);
  const Words w = words(m);
  u32 y = words(n).e[0];
  for (u32 v : w.e) {
    y += std::rotl(x.e[0], 5) + kF(x.e[1], x.e[2], x.e[3]) + v;
    const u32 next = y;
    y = x.e[3];
    x.e[3] = x.e[2];
    x.e[2] = std::rotl(x.e[1], 30);
    x.e[1] = x.e[0];
    x.e[0] = next;
  }
  return vector(x);
}
__m128i sha1su0(CpuState*, __m128i d, __m128i n, __m128i m) {
  const Doubles a = doubles(d), b = doubles(n), c = doubles(m);
  return vector(Doubles{{a.e[1] ^ a.e[0] ^ c.e[0], b.e[0] ^ a.e[1] ^ c.e[1]}});
}
__m128i sha1h(CpuState*, __m128i n) { return vector(Words{{std::rotl(words(n).e[0], 30), 0, 0, 0}}); }
__m128i sha1su1(CpuState*, __m128i d, __m128i n) {
  const Words a = words(d), b = words(n);
  Words t{{a.e[0] ^ b.e[1], a.e[1] ^ b.e[2], a.e[2] ^ b.e[3], a.e[3]}};
  const u32 first = std::rotl(t.e[0], 1);
  return vector(Words{{first, std::rotl(t.e[1], 1), std::rotl(t.e[2], 1), std::rotl(t.e[3], 1) ^ std::rotl(t.e[0], 2)}});
}

// --- SHA-256 ----------------------------------------------------------------------------------------------------------
u32 big_sigma0(u32 x) { return std::rotr(x, 2) ^ std::rotr(x, 13) ^ std::rotr(x, 22); }
u32 big_sigma1(u32 x) { return std::rotr(x, 6) ^ std::rotr(x, 11) ^ std::rotr(x, 25); }
u32 small_sigma0(u32 x) { return std::rotr(x, 7) ^ std::rotr(x, 18) ^ x >> 3; }
u32 small_sigma1(u32 x) { return std::rotr(x, 17) ^ std::rotr(x, 19) ^ x >> 10; }

/// Four rounds on abcd and efgh with w.
void sha256_rounds(Words& x, Words& y, const Words& w) {
  for (u32 v : w.e) {
    const u32 t = y.e[3] + big_sigma1(y.e[0]) + choose(y.e[0], y.e[1], y.e[2]) + v;
    const u32 e = x.e[3] + t;
    const u32 a = t + big_sigma0(x.e[0]) + majority(x.e[0], x.e[1], x.e[2]);
    y = {{e, y.e[0], y.e[1], y.e[2]}};
    x = {{a, x.e[0], x.e[1], x.e[2]}};
  }
}
__m128i sha256h(CpuState*, __m128i d, __m128i n, __m128i m) {
  Words x = words(d), y = words(n);
  sha256_rounds(x, y, words(m));
  return vector(x);
}
__m128i sha256h2(CpuState*, __m128i d, __m128i n, __m128i m) {
  Words x = words(n), y = words(d);
  sha256_rounds(x, y, words(m));
  return vector(y);
}
struct Rounds {
  __m128i abcd, efgh;
};
/// The host keeps the state as abef and cdgh, highest lane first, and does two rounds an instruction.
__attribute__((target("sha,sse4.1"))) inline Rounds sha256_rounds_host(__m128i abcd, __m128i efgh, __m128i w) {
  const __m128i t0 = _mm_shuffle_epi32(abcd, 0xb1), t1 = _mm_shuffle_epi32(efgh, 0xb1);  // b a d c, f e h g
  __m128i abef = _mm_unpacklo_epi64(t1, t0), cdgh = _mm_unpackhi_epi64(t1, t0);
  cdgh = _mm_sha256rnds2_epu32(cdgh, abef, w);
  abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(w, 0x0e));
  // Two rounds turn abef into the next cdgh; `cdgh` now holds abef after two, `abef` after four rounds.
  const __m128i first = abef, second = cdgh;
  const __m128i hi = _mm_unpackhi_epi64(second, first), lo = _mm_unpacklo_epi64(second, first);  // d c b a, h g f e by pairs
  return {_mm_shuffle_epi32(hi, 0x1b), _mm_shuffle_epi32(lo, 0x1b)};
}
__attribute__((target("sha,sse4.1"))) __m128i sha256h_host(CpuState*, __m128i d, __m128i n, __m128i m) {
  return sha256_rounds_host(d, n, m).abcd;
}
__attribute__((target("sha,sse4.1"))) __m128i sha256h2_host(CpuState*, __m128i d, __m128i n, __m128i m) {
  return sha256_rounds_host(n, d, m).efgh;
}
__m128i sha256su0(CpuState*, __m128i d, __m128i n) {
  const Words a = words(d), b = words(n);
  return vector(Words{{a.e[0] + small_sigma0(a.e[1]), a.e[1] + small_sigma0(a.e[2]), a.e[2] + small_sigma0(a.e[3]),
                       a.e[3] + small_sigma0(b.e[0])}});
}
__attribute__((target("sha,sse4.1"))) __m128i sha256su0_host(CpuState*, __m128i d, __m128i n) {
  return _mm_sha256msg1_epu32(d, n);
}
__m128i sha256su1(CpuState*, __m128i d, __m128i n, __m128i m) {
  const Words a = words(d), b = words(n), c = words(m);
  Words r;
  r.e[0] = a.e[0] + small_sigma1(c.e[2]) + b.e[1];
  r.e[1] = a.e[1] + small_sigma1(c.e[3]) + b.e[2];
  r.e[2] = a.e[2] + small_sigma1(r.e[0]) + b.e[3];
  r.e[3] = a.e[3] + small_sigma1(r.e[1]) + c.e[0];
  return vector(r);
}
__attribute__((target("sha,sse4.1"))) __m128i sha256su1_host(CpuState*, __m128i d, __m128i n, __m128i m) {
  return _mm_sha256msg2_epu32(_mm_add_epi32(d, _mm_alignr_epi8(m, n, 4)), m);
}

// --- SHA-512 ----------------------------------------------------------------------------------------------------------
__m128i sha512h(CpuState*, __m128i d, __m128i n, __m128i m) {
  const auto sigma = [](u64 x) { return std::rotr(x, 14) ^ std::rotr(x, 18) ^ std::rotr(x, 41); };
  const Doubles w = doubles(d), x = doubles(n), y = doubles(m);
  Doubles r;
  r.e[1] = ((y.e[1] & x.e[0]) ^ (~y.e[1] & x.e[1])) + sigma(y.e[1]) + w.e[1];
  const u64 t = r.e[1] + y.e[0];
  r.e[0] = ((t & y.e[1]) ^ (~t & x.e[0])) + sigma(t) + w.e[0];
  return vector(r);
}
__m128i sha512h2(CpuState*, __m128i d, __m128i n, __m128i m) {
  const auto sigma = [](u64 x) { return std::rotr(x, 28) ^ std::rotr(x, 34) ^ std::rotr(x, 39); };
  const auto maj = [](u64 x, u64 y, u64 z) { return (x & y) ^ (x & z) ^ (y & z); };
  const Doubles w = doubles(d), x = doubles(n), y = doubles(m);
  Doubles r;
  r.e[1] = maj(x.e[0], y.e[1], y.e[0]) + sigma(y.e[0]) + w.e[1];
  r.e[0] = maj(r.e[1], y.e[0], y.e[1]) + sigma(r.e[1]) + w.e[0];
  return vector(r);
}
__m128i sha512su0(CpuState*, __m128i d, __m128i n) {
  const auto sigma = [](u64 x) { return std::rotr(x, 1) ^ std::rotr(x, 8) ^ x >> 7; };
  const Doubles w = doubles(d), x = doubles(n);
  return vector(Doubles{{w.e[0] + sigma(w.e[1]), w.e[1] + sigma(x.e[0])}});
}
__m128i sha512su1(CpuState*, __m128i d, __m128i n, __m128i m) {
  const auto sigma = [](u64 x) { return std::rotr(x, 19) ^ std::rotr(x, 61) ^ x >> 6; };
  const Doubles w = doubles(d), x = doubles(n), y = doubles(m);
  return vector(Doubles{{w.e[0] + sigma(x.e[0]) + y.e[0], w.e[1] + sigma(x.e[1]) + y.e[1]}});
}

// --- SM3 --------------------------------------------------------------------------------------------------------------
__m128i sm3partw1(CpuState*, __m128i d, __m128i n, __m128i m) {
  const Words a = words(d), b = words(n), c = words(m);
  Words r;
  for (unsigned i = 0; i < 4; ++i) {
    const u32 last = i < 3 ? std::rotl(c.e[i + 1], 15) : std::rotl(r.e[0], 15);
    const u32 t = a.e[i] ^ b.e[i] ^ last;
    r.e[i] = t ^ std::rotl(t, 15) ^ std::rotl(t, 23);
  }
  return vector(r);
}
__m128i sm3partw2(CpuState*, __m128i d, __m128i n, __m128i m) {
  const Words a = words(d), b = words(n), c = words(m);
  Words r, t;
  for (unsigned i = 0; i < 4; ++i) {
    t.e[i] = b.e[i] ^ std::rotl(c.e[i], 7);
    r.e[i] = a.e[i] ^ t.e[i];
  }
  const u32 x = std::rotl(t.e[0], 15);
  r.e[3] ^= x ^ std::rotl(x, 15) ^ std::rotl(x, 23);
  return vector(r);
}
__m128i sm3ss1(CpuState*, __m128i n, __m128i m, __m128i a) {
  return vector(Words{{0, 0, 0, std::rotl(std::rotl(words(n).e[3], 12) + words(m).e[3] + words(a).e[3], 7)}});
}
__m128i sm3tt(CpuState*, u64 params, __m128i d, __m128i n, __m128i m) {
  const Words a = words(d);
  const unsigned op = params & 3;
  const u32 w = words(m).e[params >> 2];
  const bool boolean = op & 1;  // the B forms: rounds 16 and up
  if (op < 2) {
    const u32 ss2 = words(n).e[3] ^ std::rotl(a.e[3], 12);
    const u32 t = (boolean ? majority(a.e[3], a.e[1], a.e[2]) : parity(a.e[3], a.e[1], a.e[2])) + a.e[0] + ss2 + w;
    return vector(Words{{a.e[1], std::rotl(a.e[2], 9), a.e[3], t}});
  }
  const u32 t = (boolean ? choose(a.e[3], a.e[2], a.e[1]) : parity(a.e[3], a.e[2], a.e[1])) + a.e[0] + words(n).e[3] + w;
  return vector(Words{{a.e[1], std::rotl(a.e[2], 19), a.e[3], t ^ std::rotl(t, 9) ^ std::rotl(t, 17)}});
}

// --- SM4 --------------------------------------------------------------------------------------------------------------
struct Sm4SBox {
  u8 e[256];
};
/// Affine map, inverse in GF(2^8) modulo x^8 + x^7 + x^6 + x^5 + x^4 + x^2 + 1, the same affine map.
constexpr Sm4SBox make_sm4_sbox() {
  const auto times_sm4 = [](u32 a, u32 b) {
    u32 r = 0;
    for (; b; b >>= 1) {
      if (b & 1) r ^= a;
      a = a << 1 ^ (a & 0x80 ? 0x1f5 : 0);
    }
    return r;
  };
  const auto affine = [](u8 x) {
    u8 r = 0xd3;
    for (int i = 0; i < 8; ++i) r ^= static_cast<u8>((std::popcount(static_cast<u8>(std::rotl(u8{0xa7}, i) & x)) & 1) << i);
    return r;
  };
  Sm4SBox s{};
  for (unsigned i = 0; i < 256; ++i) {
    u32 inverse = 1, power = affine(static_cast<u8>(i));  // to the 254th
    for (unsigned k = 1; k < 8; ++k) power = times_sm4(power, power), inverse = times_sm4(inverse, power);
    s.e[i] = affine(static_cast<u8>(inverse));
  }
  return s;
}
constexpr Sm4SBox kSm4SBox = make_sm4_sbox();

u32 sm4_substitute(u32 v) {
  u32 r = 0;
  for (unsigned i = 0; i < 32; i += 8) r |= u32{kSm4SBox.e[(v >> i) & 255]} << i;
  return r;
}
__m128i sm4e(CpuState*, __m128i d, __m128i n) {
  Words r = words(d);
  for (u32 key : words(n).e) {
    const u32 t = sm4_substitute(r.e[3] ^ r.e[2] ^ r.e[1] ^ key);
    r = {{r.e[1], r.e[2], r.e[3], r.e[0] ^ t ^ std::rotl(t, 2) ^ std::rotl(t, 10) ^ std::rotl(t, 18) ^ std::rotl(t, 24)}};
  }
  return vector(r);
}
__m128i sm4ekey(CpuState*, __m128i n, __m128i m) {
  Words r = words(n);
  for (u32 constant : words(m).e) {
    const u32 t = sm4_substitute(r.e[3] ^ r.e[2] ^ r.e[1] ^ constant);
    r = {{r.e[1], r.e[2], r.e[3], r.e[0] ^ t ^ std::rotl(t, 13) ^ std::rotl(t, 23)}};
  }
  return vector(r);
}

// --- the table ----------------------------------------------------------------------------------------------------------
using F1 = __m128i (*)(CpuState*, __m128i);
using F2 = __m128i (*)(CpuState*, __m128i, __m128i);
using F3 = __m128i (*)(CpuState*, __m128i, __m128i, __m128i);

struct Maker {
  std::array<ir::Helper, static_cast<std::size_t>(CryptoOp::kCount)> table{};

  void add(CryptoOp op, const char* name, const void* function, unsigned vectors) {
    ir::Helper& h = table[static_cast<std::size_t>(op)];
    h = {name, function, Type::V128, {}, ir::PURE};
    unsigned i = 0;
    if (op == CryptoOp::Sm3Tt) h.args[i++] = Type::I64;
    for (unsigned n = 0; n < vectors; ++n) h.args[i++] = Type::V128;
  }
  void add(CryptoOp op, const char* name, F1 f) { add(op, name, reinterpret_cast<const void*>(f), 1); }
  void add(CryptoOp op, const char* name, F2 f) { add(op, name, reinterpret_cast<const void*>(f), 2); }
  void add(CryptoOp op, const char* name, F3 f) { add(op, name, reinterpret_cast<const void*>(f), 3); }

  Maker() {
    using enum CryptoOp;
    // KILN_SOFT_CRYPTO in the environment: the portable functions, so that tests reach them.
    const bool soft = std::getenv("KILN_SOFT_CRYPTO") != nullptr;
    const bool has_aes = !soft && __builtin_cpu_supports("aes"), has_sha = !soft && __builtin_cpu_supports("sha");
    add(AesE, "aese", has_aes ? aese_host : aese);
    add(AesD, "aesd", has_aes ? aesd_host : aesd);
    add(AesMc, "aesmc", has_aes ? aesmc_host : mix_columns<2, 3, 1, 1>);
    add(AesImc, "aesimc", has_aes ? aesimc_host : mix_columns<14, 11, 13, 9>);
    add(Sha1C, "sha1c", sha1_rounds<choose>);
    add(Sha1P, "sha1p", sha1_rounds<parity>);
    add(Sha1M, "sha1m", sha1_rounds<majority>);
    add(Sha1Su0, "sha1su0", sha1su0);
    add(Sha1H, "sha1h", sha1h);
    add(Sha1Su1, "sha1su1", sha1su1);
    add(Sha256H, "sha256h", has_sha ? sha256h_host : sha256h);
    add(Sha256H2, "sha256h2", has_sha ? sha256h2_host : sha256h2);
    add(Sha256Su0, "sha256su0", has_sha ? sha256su0_host : sha256su0);
    add(Sha256Su1, "sha256su1", has_sha ? sha256su1_host : sha256su1);
    add(Sha512H, "sha512h", sha512h);
    add(Sha512H2, "sha512h2", sha512h2);
    add(Sha512Su0, "sha512su0", sha512su0);
    add(Sha512Su1, "sha512su1", sha512su1);
    add(Sm3PartW1, "sm3partw1", sm3partw1);
    add(Sm3PartW2, "sm3partw2", sm3partw2);
    add(Sm3Ss1, "sm3ss1", sm3ss1);
    add(Sm3Tt, "sm3tt", reinterpret_cast<const void*>(&sm3tt), 3);
    add(Sm4E, "sm4e", sm4e);
    add(Sm4EKey, "sm4ekey", sm4ekey);
  }
};

}  // namespace

const ir::Helper& crypto_helper(CryptoOp op) {
  static const Maker maker;
  return maker.table[static_cast<std::size_t>(op)];
}

}  // namespace kiln::arm
