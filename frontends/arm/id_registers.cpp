#include "frontends/arm/id_registers.h"

#include <algorithm>
#include <string_view>

#include "frontends/arm/a64_decode.h"

namespace kiln::arm {

namespace {

// Implementer 0 (software), architecture by ID registers, part 'K'.
constexpr u64 kMIDR_EL1 = 0xf << 16 | 'K' << 4;
constexpr u64 kMPIDR_EL1 = u64{1} << 31;

enum Register { kID_AA64PFR0, kID_AA64ISAR0, kID_AA64ISAR1, kRegisterCount };

struct Feature {
  const char* row;  // there when this row is
  Register id_register;
  unsigned low;            // the field's lowest bit
  unsigned value;          // the highest of several for one field counts
  int hwcap, hwcap2 = -1;  // bit numbers in Linux' uapi/asm/hwcap.h
};

constexpr Feature kFeatures[] = {
    {"fadd_vh", kID_AA64PFR0, 16, 1, 9},          // FP: half precision
    {"fadd_vh", kID_AA64PFR0, 20, 1, 10},         // AdvSIMD: half precision
    {"aese", kID_AA64ISAR0, 4, 1, 3},             // AES
    {"pmull64_v", kID_AA64ISAR0, 4, 2, 4},        // PMULL
    {"sha1c", kID_AA64ISAR0, 8, 1, 5},            // SHA1
    {"sha256h", kID_AA64ISAR0, 12, 1, 6},         // SHA2
    {"sha512h", kID_AA64ISAR0, 12, 2, 21},        // SHA512
    {"crc32", kID_AA64ISAR0, 16, 1, 7},           // CRC32
    {"atomic_memory", kID_AA64ISAR0, 20, 2, 8},   // Atomic: LSE
    {"sqrdmlah_v", kID_AA64ISAR0, 28, 1, 12},     // RDM
    {"eor3", kID_AA64ISAR0, 32, 1, 17},           // SHA3
    {"sm3ss1", kID_AA64ISAR0, 36, 1, 18},         // SM3
    {"sm4e", kID_AA64ISAR0, 40, 1, 19},           // SM4
    {"sdot_v", kID_AA64ISAR0, 44, 1, 20},         // DP
    {"fmlal_v", kID_AA64ISAR0, 48, 1, 23},        // FHM
    {"rmif", kID_AA64ISAR0, 52, 1, 27},           // TS: FlagM
    {"axflag", kID_AA64ISAR0, 52, 2, -1, 7},      // TS: FlagM2
    {"dc_cvap", kID_AA64ISAR1, 0, 1, 16},         // DPB
    {"dc_cvadp", kID_AA64ISAR1, 0, 2, -1, 0},     // DPB2
    {"fjcvtzs", kID_AA64ISAR1, 12, 1, 13},        // JSCVT
    {"fcmla_v", kID_AA64ISAR1, 16, 1, 14},        // FCMA
    {"ldapr", kID_AA64ISAR1, 20, 1, 15},          // LRCPC
    {"ldapur", kID_AA64ISAR1, 20, 2, 26},         // LRCPC2
    {"frint32z_v", kID_AA64ISAR1, 32, 1, -1, 8},  // FRINTTS
    {"sb", kID_AA64ISAR1, 36, 1, 29},             // SB
    {"bfdot_v", kID_AA64ISAR1, 44, 1, -1, 14},    // BF16
    {"usmmla_v", kID_AA64ISAR1, 52, 1, -1, 13},   // I8MM
};
constexpr u64 kHwcapFp = 1 << 0, kHwcapAsimd = 1 << 1, kHwcapCpuid = 1 << 11;

struct Identity {
  u64 registers[kRegisterCount] = {};
  u64 hwcap = kHwcapFp | kHwcapAsimd | kHwcapCpuid;
  u64 hwcap2 = 0;

  Identity() {
    registers[kID_AA64PFR0] = 0x11;  // EL1, EL0: AArch64 only
    for (const Feature& f : kFeatures) {
      const auto rows = insn_rows();
      if (std::none_of(rows.begin(), rows.end(), [&](const InsnRow& r) { return std::string_view(r.name) == f.row; })) continue;
      u64& id = registers[f.id_register];
      const u64 old = bits(id, f.low, 4);
      id = (id & ~(u64{15} << f.low)) | std::max<u64>(old, f.value) << f.low;
      if (f.hwcap >= 0) hwcap |= u64{1} << f.hwcap;
      if (f.hwcap2 >= 0) hwcap2 |= u64{1} << f.hwcap2;
    }
  }
};

const Identity& identity() {
  static const Identity once;
  return once;
}

}  // namespace

bool id_register(unsigned crm, unsigned op2, u64& value) {
  value = 0;  // what Linux gives for the rest of the space, reserved encodings included
  if (crm == 0) {
    value = op2 == 0 ? kMIDR_EL1 : op2 == 5 ? kMPIDR_EL1 : 0;
    return op2 == 0 || op2 == 5 || op2 == 6;
  }
  if (crm == 4 && op2 == 0) value = identity().registers[kID_AA64PFR0];
  if (crm == 6 && op2 == 0) value = identity().registers[kID_AA64ISAR0];
  if (crm == 6 && op2 == 1) value = identity().registers[kID_AA64ISAR1];
  return crm <= 7;
}

u64 hwcap() { return identity().hwcap; }
u64 hwcap2() { return identity().hwcap2; }

}  // namespace kiln::arm
