// AES, PCLMULQDQ and SHA by the host's own instructions. A host without them does not show them to guests: the rows stay, CPUID
// and the decoder's feature check decide (features.h).
#include <immintrin.h>

#include "frontends/x86/helpers_sse.h"
#include "ir/semantics_vector.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::Helper;
using ir::Type;
using ir::Vec;

namespace {

#define KILN_AES __attribute__((target("aes")))
#define KILN_SHA __attribute__((target("sha")))
KILN_AES Vec aes_enc(CpuState*, Vec a, Vec b) { return (Vec)_mm_aesenc_si128((__m128i)a, (__m128i)b); }
KILN_AES Vec aes_enc_last(CpuState*, Vec a, Vec b) { return (Vec)_mm_aesenclast_si128((__m128i)a, (__m128i)b); }
KILN_AES Vec aes_dec(CpuState*, Vec a, Vec b) { return (Vec)_mm_aesdec_si128((__m128i)a, (__m128i)b); }
KILN_AES Vec aes_dec_last(CpuState*, Vec a, Vec b) { return (Vec)_mm_aesdeclast_si128((__m128i)a, (__m128i)b); }
KILN_AES Vec aes_imc(CpuState*, Vec a) { return (Vec)_mm_aesimc_si128((__m128i)a); }
/// The round constant only enters by exclusive or, into words 1 and 3.
KILN_AES Vec aes_key_gen_assist(CpuState*, u32 rcon, Vec a) {
  const auto r = (ir::Lanes<u32>)_mm_aeskeygenassist_si128((__m128i)a, 0);
  return (Vec)(r ^ ir::Lanes<u32>{0, rcon, 0, rcon});
}
__attribute__((target("pclmul"))) Vec clmul(CpuState*, Vec a, Vec b) {
  return (Vec)_mm_clmulepi64_si128((__m128i)a, (__m128i)b, 0);
}

KILN_SHA Vec sha1_next_e(CpuState*, Vec a, Vec b) { return (Vec)_mm_sha1nexte_epu32((__m128i)a, (__m128i)b); }
KILN_SHA Vec sha1_msg1(CpuState*, Vec a, Vec b) { return (Vec)_mm_sha1msg1_epu32((__m128i)a, (__m128i)b); }
KILN_SHA Vec sha1_msg2(CpuState*, Vec a, Vec b) { return (Vec)_mm_sha1msg2_epu32((__m128i)a, (__m128i)b); }
KILN_SHA Vec sha1_rounds4(CpuState*, u32 function, Vec a, Vec b) {
  switch (function & 3) {
    case 0: return (Vec)_mm_sha1rnds4_epu32((__m128i)a, (__m128i)b, 0);
    case 1: return (Vec)_mm_sha1rnds4_epu32((__m128i)a, (__m128i)b, 1);
    case 2: return (Vec)_mm_sha1rnds4_epu32((__m128i)a, (__m128i)b, 2);
    default: return (Vec)_mm_sha1rnds4_epu32((__m128i)a, (__m128i)b, 3);
  }
}
KILN_SHA Vec sha256_msg1(CpuState*, Vec a, Vec b) { return (Vec)_mm_sha256msg1_epu32((__m128i)a, (__m128i)b); }
KILN_SHA Vec sha256_msg2(CpuState*, Vec a, Vec b) { return (Vec)_mm_sha256msg2_epu32((__m128i)a, (__m128i)b); }
KILN_SHA Vec sha256_rounds2(CpuState*, Vec a, Vec b, Vec c) {
  return (Vec)_mm_sha256rnds2_epu32((__m128i)a, (__m128i)b, (__m128i)c);
}

template <class F>
const void* address_of(F* function) {
  return reinterpret_cast<const void*>(function);
}
constexpr Type kI32 = Type::I32, kV = Type::V128;

}  // namespace

const Helper kAesEnc{"aesenc", address_of(&aes_enc), kV, {kV, kV}, ir::PURE};
const Helper kAesEncLast{"aesenclast", address_of(&aes_enc_last), kV, {kV, kV}, ir::PURE};
const Helper kAesDec{"aesdec", address_of(&aes_dec), kV, {kV, kV}, ir::PURE};
const Helper kAesDecLast{"aesdeclast", address_of(&aes_dec_last), kV, {kV, kV}, ir::PURE};
const Helper kAesImc{"aesimc", address_of(&aes_imc), kV, {kV}, ir::PURE};
const Helper kAesKeyGenAssist{"aeskeygenassist", address_of(&aes_key_gen_assist), kV, {kI32, kV}, ir::PURE};
const Helper kClmul{"pclmulqdq", address_of(&clmul), kV, {kV, kV}, ir::PURE};
const Helper kSha1NextE{"sha1nexte", address_of(&sha1_next_e), kV, {kV, kV}, ir::PURE};
const Helper kSha1Msg1{"sha1msg1", address_of(&sha1_msg1), kV, {kV, kV}, ir::PURE};
const Helper kSha1Msg2{"sha1msg2", address_of(&sha1_msg2), kV, {kV, kV}, ir::PURE};
const Helper kSha1Rounds4{"sha1rnds4", address_of(&sha1_rounds4), kV, {kI32, kV, kV}, ir::PURE};
const Helper kSha256Msg1{"sha256msg1", address_of(&sha256_msg1), kV, {kV, kV}, ir::PURE};
const Helper kSha256Msg2{"sha256msg2", address_of(&sha256_msg2), kV, {kV, kV}, ir::PURE};
const Helper kSha256Rounds2{"sha256rnds2", address_of(&sha256_rounds2), kV, {kV, kV, kV}, ir::PURE};

}  // namespace kiln::x86
