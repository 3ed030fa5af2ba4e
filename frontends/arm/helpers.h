// C++ functions that lifted A64 code calls.
#pragma once
#include "frontends/arm/a64_state.h"
#include "ir/block.h"

namespace kiln::arm {

/// crc32(acc, value): [CRC32C?][log2 size]
extern const ir::Helper kCrc32[2][4];
/// v128 cas(address, expected, desired) -> old; 16 bytes.
extern const ir::Helper kCas128;
/// The same in a full system: (address, packed MemOp, expected, desired).
extern const ir::Helper kSystemCas128;
extern const ir::Helper kExclusiveVersionOf;  // i64 (address): for the store-exclusive
/// By log of the size; 1 if it stored. Nothing was stored to the granule by another store-exclusive since the version was read; an odd
/// version never stores.
extern const ir::Helper kStoreExclusive[4];        // i64 (address, version, expected, desired)
extern const ir::Helper kSystemStoreExclusive[4];  // i64 (address, MemOp, version, desired); expected: exclusive_value[0]
extern const ir::Helper kStoreExclusivePair;  // i64 (address, MemOp or kUserExclusive, version, v128 expected, v128 desired)
inline constexpr u64 kUserExclusive = u64{1} << 40;
extern const ir::Helper kReadFpsr;            // i64 ()
extern const ir::Helper kSettleInexact;       // void (): the mode word after MXCSR.PE
extern const ir::Helper kWriteFpsr;           // void (i64)
extern const ir::Helper kWriteFpcr;           // void (i64)
extern const ir::Helper kSaveFpsr;            // i64 (): kReadFpsr, kWriteFpsr for EL1 and above
extern const ir::Helper kRestoreFpsr;         // void (i64)
extern const ir::Helper kReadCounter;         // i64 (), CNTVCT_EL0

// Full system: lift_privileged.cpp.
extern const ir::Helper kTakeSupervisorCall;  // i64 (immediate): the vector
extern const ir::Helper kExceptionReturn;     // i64 (): where to go on
extern const ir::Helper kWaitForInterrupt;    // void ()

}  // namespace kiln::arm
