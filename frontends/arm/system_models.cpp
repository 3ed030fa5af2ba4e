// -cpu: what each model says of itself, of what is implemented here.
#include <algorithm>

#include "frontends/arm/id_registers.h"
#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

namespace {

struct Model {
  std::string_view name;
  u64 midr, revidr, ctr, clidr, ccsidr[3];
  bool all_features;   // what the decoder has, or Armv8.0 with CRC32 and cryptography
  u64 physical_range;  // ID_AA64MMFR0.PARange
};

constexpr u64 kCtrIdc = 1 << 28, kCtrDic = 1 << 29;

constexpr Model kModels[] = {
    {"cortex-a53", 0x410fd034, 0x100, 0x84448004, 0x0a200023, {0x700fe01a, 0x201fe00a, 0x707fe07a}, false, 2},
    {"cortex-a57", 0x411fd070, 0, 0x8444c004, 0x0a200023, {0x701fe00a, 0x201fe012, 0x70ffe07a}, false, 4},
    {"cortex-a72", 0x410fd083, 0, 0x8444c004, 0x0a200023, {0x701fe00a, 0x201fe012, 0x707fe07a}, false, 4},
    // Caches of the host: coherent, and code that changes is found by the engine.
    {"max", 0xf << 16 | 'K' << 4, 0, 0x8444c004 | kCtrIdc | kCtrDic, 0x0a200023, {0x701fe00a, 0x201fe012, 0x707fe07a}, true, 5},
};

constexpr u64 field(unsigned low, u64 value) { return value << low; }

}  // namespace

std::vector<std::string_view> cpu_models() {
  std::vector<std::string_view> names;
  for (const Model& m : kModels) names.push_back(m.name);
  return names;
}

bool configure(ir::CpuState* state, const CpuConfig& config) {
  const auto model =
      std::find_if(std::begin(kModels), std::end(kModels), [&](const Model& m) { return m.name == config.model; });
  if (model == std::end(kModels)) return false;
  A64SystemState& s = system_state(state);
  s.midr_el1 = model->midr;
  s.revidr_el1 = model->revidr;
  s.mpidr_el1 = u64{1} << 31 | config.affinity;
  s.ctr_el0 = model->ctr;
  s.clidr_el1 = model->clidr;
  std::copy_n(model->ccsidr, 3, s.ccsidr);
  s.has_el2 = config.el2;
  s.has_el3 = config.el3;
  s.psci_conduit = static_cast<u64>(config.psci);

  s.id_aa64pfr0 = field(0, 1) | field(4, 1) | field(8, config.el2) | field(12, config.el3) | field(24, config.gic_registers);
  s.id_aa64pfr1 = s.id_aa64dfr1 = 0;
  s.id_aa64dfr0 = field(0, 6) | field(8, 1) | field(12, kBreakpoints - 1) | field(20, kWatchpoints - 1) | field(28, 1);
  s.id_aa64isar0 = 0x11120;
  s.id_aa64isar1 = 0;
  s.id_aa64mmfr0 = field(0, model->physical_range) | field(4, 2) | field(12, 1);  // 16-bit ASIDs; 4 and 64 KiB; no big-endian
  s.id_aa64mmfr1 = s.id_aa64mmfr2 = 0;
  s.has_pan = s.has_uao = model->all_features;
  if (model->all_features) {
    u64 value = 0;
    id_register(4, 0, value);
    s.id_aa64pfr0 |= value & (field(16, 15) | field(20, 15));
    s.id_aa64pfr0 |= field(56, 1) | field(60, 1);  // CSV2, CSV3: nothing is speculated
    id_register(6, 0, s.id_aa64isar0);
    s.id_aa64isar0 |= field(56, 2);  // TLB: outer shareable and ranges
    id_register(6, 1, s.id_aa64isar1);
    s.id_aa64mmfr0 |= field(20, 1);                                            // 16 KiB
    s.id_aa64mmfr1 = field(0, 2) | field(12, 1) | field(20, 2) | field(4, 2);  // HAFDBS, HPDS, PAN2, 16-bit VMIDs
    s.id_aa64mmfr2 = field(4, 1) | field(60, 1);                               // UAO, E0PD
  }
  s.configured = 1;
  return true;
}

}  // namespace kiln::arm
