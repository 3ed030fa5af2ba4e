#include "frontends/arm/id_registers.h"

namespace kiln::arm {

namespace {

constexpr u64 field(unsigned low, u64 value) { return value << low; }

// Implementer 0 (software), architecture by ID registers, part 'K'.
constexpr u64 kMIDR_EL1 = field(16, 0xf) | field(4, 'K');
constexpr u64 kMPIDR_EL1 = u64{1} << 31;

constexpr u64 kID_AA64PFR0 =
    field(4, 1) | field(0, 1);                // EL1, EL0: AArch64 only; FP, AdvSIMD 0: present without half precision
constexpr u64 kID_AA64ISAR0 = field(52, 2)    // TS: FlagM2
                              | field(28, 1)  // RDM
                              | field(20, 2)  // Atomic: LSE
                              | field(16, 1)  // CRC32
                              | field(12, 1)  // SHA2: SHA256
                              | field(8, 1)   // SHA1
                              | field(4, 2);  // AES, PMULL
constexpr u64 kID_AA64ISAR1 = field(36, 1)    // SB
                              | field(32, 1)  // FRINTTS
                              | field(20, 2)  // LRCPC2
                              | field(16, 1)  // FCMA
                              | field(12, 1)  // JSCVT
                              | field(0, 2);  // DPB: DC CVADP

}  // namespace

bool id_register(unsigned crm, unsigned op2, u64& value) {
  value = 0;  // what Linux gives for the rest of the space, reserved encodings included
  if (crm == 0) {
    value = op2 == 0 ? kMIDR_EL1 : op2 == 5 ? kMPIDR_EL1 : 0;
    return op2 == 0 || op2 == 5 || op2 == 6;
  }
  if (crm == 4 && op2 == 0) value = kID_AA64PFR0;
  if (crm == 6 && op2 == 0) value = kID_AA64ISAR0;
  if (crm == 6 && op2 == 1) value = kID_AA64ISAR1;
  return crm <= 7;
}

}  // namespace kiln::arm
