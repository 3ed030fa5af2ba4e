// The CPU features of features.def: what `needs=` of a row means, what CPUID tells, what /proc/cpuinfo lists.
#pragma once
#include <string>

#include "frontends/x86/x86.h"

namespace kiln::x86 {

enum class Feature : u8 {
#define FEATURE(name, leaf, subleaf, reg, bit, flag, since) name##_,
#include "frontends/x86/features.def"
#undef FEATURE
  kCount
};
static_assert(static_cast<unsigned>(Feature::kCount) <= 64, "features_of_model gives a u64");

/// Bit i: the model has feature i of features.def. (Row::feature is i + 1; 0: needs none.)
u64 features_of_model(unsigned model);
/// Whether code under this mode word (its model bits) has the feature.
inline bool has_feature(u32 mode, unsigned feature) {
  return (features_of_model(mode >> kModeModelShift & 15) >> feature & 1) != 0;
}
inline bool has_feature(u32 mode, Feature feature) { return has_feature(mode, static_cast<unsigned>(feature)); }

/// The "flags" line of /proc/cpuinfo for a model.
std::string cpuinfo_flags(unsigned model);
/// Its "vendor_id" and "model name".
const char* cpu_vendor(unsigned model);
bool cpu_is_amd(unsigned model);
const char* cpu_brand(unsigned model);
/// CPUID.1:EAX; family, model and stepping of /proc/cpuinfo come out of it.
u32 cpu_signature(unsigned model);

}  // namespace kiln::x86
