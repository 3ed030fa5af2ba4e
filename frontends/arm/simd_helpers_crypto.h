// Helpers of the cryptographic extensions; all PURE. AES and SHA-256 use the host's instructions where it has them.
#pragma once
#include "ir/block.h"

namespace kiln::arm {

enum class CryptoOp : u8 {
  // clang-format off
  AesE, AesD, AesMc, AesImc,
  Sha1C, Sha1P, Sha1M, Sha1Su0, Sha1H, Sha1Su1,
  Sha256H, Sha256H2, Sha256Su0, Sha256Su1,
  Sha512H, Sha512H2, Sha512Su0, Sha512Su1,
  Sm3PartW1, Sm3PartW2, Sm3Ss1,
  Sm3Tt,  // first argument: opcode (TT1A, TT1B, TT2A, TT2B) | index << 2
  Sm4E, Sm4EKey,
  kCount
  // clang-format on
};
const ir::Helper& crypto_helper(CryptoOp op);

}  // namespace kiln::arm
