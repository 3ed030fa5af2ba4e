// C++ functions that generated code calls for SSE and AVX instructions: what no IR op says.
// Invariants: (1) those that look at MXCSR or raise its sticky bits have effects (WRITES_MEM), so that nobody drops or moves
// them; (2) guest memory is touched by single host accesses through %gs, in an order that leaves a precise state at a fault.
#pragma once
#include "frontends/x86/x86.h"
#include "ir/block.h"

namespace kiln::x86 {

// MXCSR
extern const ir::Helper kFpBegin;       // () → I32 sticky bits so far and FTZ; clears them
extern const ir::Helper kFpEnd;         // (I32 of kFpBegin): merges, raises #XM if an unmasked bit is new
extern const ir::Helper kFpRangeFlags;  // (I32 FpShape, a, b, c) → I32: the bits of an op that may overflow or underflow
extern const ir::Helper kFpEndRange;    // (I32 of kFpBegin, I32, I32 of kFpRangeFlags for the halves)
extern const ir::Helper kLoadMxcsr;     // (I32)
extern const ir::Helper kStoreMxcsr;    // () → I32

// integers
extern const ir::Helper kMpsadbw;     // (I32 imm, a, b)
extern const ir::Helper kPhminposuw;  // (a)
extern const ir::Helper
    kCompareStrings;  // (I32 imm | implicit << 7, I64 length a, I64 length b, a, b) → IntRes2 | index << 16 | flags image << 32
extern const ir::Helper kExpandMask;           // (I32 IntRes2, I32 imm) → the result of PCMPxSTRM
extern const ir::Helper kPermute4, kPermute8;  // VPERMILPS, VPERMILPD (a, control)
extern const ir::Helper kPermuteAcross;        // VPERMD (low, high, indices): one half of the result

// cryptography
extern const ir::Helper kAesEnc, kAesEncLast, kAesDec, kAesDecLast, kAesImc, kAesKeyGenAssist, kClmul;
extern const ir::Helper kSha1NextE, kSha1Msg1, kSha1Msg2, kSha1Rounds4, kSha256Msg1, kSha256Msg2, kSha256Rounds2;

// floating point
extern const ir::Helper kRcp, kRsqrt;        // four lanes
extern const ir::Helper kAddSub4, kAddSub8;  // ADDSUBPS, ADDSUBPD
extern const ir::Helper kFmaAddSub;          // (I32 1: f64 | 2: subadd, a, b, c): a * b ∓ c
extern const ir::Helper kHalfToSingle;       // (v128): VCVTPH2PS of the low four
extern const ir::Helper kProbeWrite;         // (address, bytes): faults as a store does, changes nothing
extern const ir::Helper kSingleToHalf;       // (I32 imm, v128)

// memory
extern const ir::Helper kMaskedStoreBytes;             // (address, data, mask)
extern const ir::Helper kMaskedLoad4, kMaskedLoad8;    // (address, mask): VMASKMOVPS, VMASKMOVPD
extern const ir::Helper kMaskedStore4, kMaskedStore8;  // (address, mask, data)
extern const ir::Helper kMaskedStore256;               // (address, I32 mask register | data register << 4 | f64 << 8)
extern const ir::Helper kGather;                       // (I64 segment base, I64 base + displacement, I32 GatherShape)

/// What kFpRangeFlags computes again. Narrow: to the next smaller format.
enum class FpStep : u8 { Add, Sub, Mul, Div, AddSub, Fma, Narrow };
struct FpShape {
  FpStep step;
  bool is64 = false, scalar = false;
  u8 negate = 0;             // FpOp::negate
  bool alternating = false;  // VFMADDSUB; VFMSUBADD with negate = 1
  u8 rounding = 4;           // 4: MXCSR's
  constexpr u32 pack() const {
    return static_cast<u32>(step) | u32{is64} << 4 | u32{scalar} << 5 | u32{negate} << 6 | u32{alternating} << 8 |
           u32{rounding} << 9;
  }
  static constexpr FpShape unpack(u32 v) {
    return {static_cast<FpStep>(v & 15), bit(v, 4), bit(v, 5),
            static_cast<u8>(v >> 6 & 3), bit(v, 8), static_cast<u8>(v >> 9 & 7)};
  }
};

struct GatherShape {
  u8 destination, index, mask;  // register numbers
  bool index64 = false;         // elements of the index
  bool element64 = false;       // elements of the result
  bool vex256 = false;
  bool address32 = false;  // addresses wrap at 4 GiB
  u8 scale_log2 = 0;
  constexpr u32 pack() const {
    return destination | u32{index} << 4 | u32{mask} << 8 | u32{index64} << 12 | u32{element64} << 13 | u32{vex256} << 14 |
           u32{address32} << 15 | u32{scale_log2} << 16;
  }
  static constexpr GatherShape unpack(u32 v) {
    return {static_cast<u8>(v & 15),
            static_cast<u8>(v >> 4 & 15),
            static_cast<u8>(v >> 8 & 15),
            bit(v, 12),
            bit(v, 13),
            bit(v, 14),
            bit(v, 15),
            static_cast<u8>(v >> 16 & 3)};
  }
};

}  // namespace kiln::x86
