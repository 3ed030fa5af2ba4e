// CPUID, the named CPU models, and what /proc/cpuinfo says of them. Feature bits come from features.def; the rest is here.
#include <cpuid.h>
#include <sched.h>
#include <unistd.h>

#include <cstring>

#include "frontends/x86/features.h"

namespace kiln::x86 {
namespace {

enum Generation : u8 { pentium3, core2, haswell, max };

struct FeatureBit {
  u32 leaf;
  u8 subleaf;
  u8 reg;  // index into {eax, ebx, ecx, edx}
  u8 bit;
  Generation since;
  const char* flag;
};
enum Register : u8 { eax, ebx, ecx, edx };
constexpr FeatureBit kFeatures[] = {
#define FEATURE(name, leaf, subleaf, reg, bit, flag, since) {leaf, subleaf, reg, bit, since, flag},
#include "frontends/x86/features.def"
#undef FEATURE
};

struct Model {
  CpuModel text;
  Generation generation;
  u32 signature;  // CPUID.1:EAX; 0: the host's
  u32 max_leaf, max_extended;
};
// Signatures: Coppermine, Merom, Haswell.
constexpr Model kModels[] = {
    {{"max", "everything that Kiln implements (default)"}, max, 0, 0xd, 0x8000001e},
    {{"pentium3", "i686 with MMX and SSE"}, pentium3, 0x0683, 2, 0x80000004},
    {{"core2", "x86-64 with SSSE3 (x86-64-v1)"}, core2, 0x06fb, 4, 0x80000008},
    {{"haswell", "with AVX2, FMA, BMI (x86-64-v3)"}, haswell, 0x0306c4, 0xd, 0x80000008},
};
const Model& model_of(unsigned index) { return kModels[index < std::size(kModels) ? index : 0]; }

constexpr u64 features_of(Generation generation) {
  u64 out = 0;
  for (unsigned i = 0; i < std::size(kFeatures); ++i)
    if (kFeatures[i].since <= generation) out |= u64{1} << i;
  return out;
}
constexpr u64 kFeaturesOf[] = {features_of(pentium3), features_of(core2), features_of(haswell), features_of(max)};

// Under a hypervisor this takes tens of microseconds: what is asked for all the time (by every signal frame) is asked once, below.
CpuidResult host(u32 leaf, u32 subleaf) {
  CpuidResult r;
  __cpuid_count(leaf, subleaf, r.eax, r.ebx, r.ecx, r.edx);
  return r;
}
/// "max" says of caches, family and vendor what the host says: whoever asks wants to be fast on this machine, and what rare
/// corners of x87 and undefined flags give is the host's as well.
bool host_is_amd() {
  static const bool amd = host(0, 0).ecx == 0x444d4163;
  return amd;
}
u32 host_signature() {
  static const u32 signature = host(1, 0).eax;
  return signature;
}
bool is_amd(const Model& model) { return model.generation == max && host_is_amd(); }

const char* vendor_of(const Model& model) { return is_amd(model) ? "AuthenticAMD" : "GenuineIntel"; }
const char* brand_of(const Model& model) {
  switch (model.generation) {
    case pentium3: return "Kiln pentium3";
    case core2: return "Kiln core2";
    case haswell: return "Kiln haswell";
    default: return "Kiln max";
  }
}

u32 word_of(const char* text, std::size_t length, std::size_t at) {
  u32 out = 0;
  for (std::size_t i = 0; i < 4 && at + i < length; ++i) out |= static_cast<u32>(static_cast<u8>(text[at + i])) << 8 * i;
  return out;
}

/// Leaf 2 of the chips the named models are named after.
CpuidResult cache_descriptors(Generation generation) {
  switch (generation) {
    case pentium3: return {0x03020101, 0, 0, 0x0c040882};
    case core2: return {0x05b0b101, 0x005657f0, 0, 0x2cb43049};
    case haswell: return {0x76036301, 0x00f0b5ff, 0, 0x00c10000};
    default: return host(2, 0);
  }
}
/// Leaf 4: one cache per subleaf.
CpuidResult cache_parameters(Generation generation, u32 subleaf) {
  const auto cache = [](u32 type, u32 level, u32 ways, u32 sets) {
    return CpuidResult{type | level << 5 | 1u << 8, (ways - 1) << 22 | 63, sets - 1, 0};
  };
  if (generation == max) return host(4, subleaf);
  if (generation == pentium3 || subleaf > 3 || (subleaf == 3 && generation == core2)) return {};
  switch (subleaf) {
    case 0: return cache(1, 1, 8, 64);
    case 1: return cache(2, 1, 8, 64);
    case 2: return generation == core2 ? cache(3, 2, 16, 4096) : cache(3, 2, 8, 512);
    default: return cache(3, 3, 16, 8192);
  }
}

u32 processor_number() { return static_cast<u32>(std::max(0, sched_getcpu())) & 0xff; }

/// Everything but the feature bits.
CpuidResult plain_leaf(const X86State& state, const Model& model, u32 leaf, u32 subleaf) {
  const bool amd = is_amd(model);
  const bool has_xsave = kFeaturesOf[model.generation] >> static_cast<unsigned>(Feature::xsave_) & 1;
  switch (leaf) {
    case 0: {
      const char* vendor = vendor_of(model);
      return {model.max_leaf, word_of(vendor, 12, 0), word_of(vendor, 12, 8), word_of(vendor, 12, 4)};
    }
    case 1: {
      const u32 signature = model.signature ? model.signature : host_signature();
      return {signature, processor_number() << 24 | 1u << 16 | 8u << 8, 0, 0};  // 8: CLFLUSH's 64 bytes
    }
    case 2: return cache_descriptors(model.generation);
    case 4: return cache_parameters(model.generation, subleaf);
    case 0xb: {  // one thread a core; all processors in one package
      if (subleaf > 1) return {0, 0, subleaf, processor_number()};
      const u32 count = static_cast<u32>(std::max(1l, sysconf(_SC_NPROCESSORS_ONLN)));
      return {subleaf ? 8u : 0u, subleaf ? count : 1u, subleaf | (subleaf + 1) << 8, processor_number()};
    }
    case 0xd:
      if (!has_xsave) return {};
      if (subleaf == 0) return {7, (state.xcr0 & 4) ? 832u : 576u, 832, 0};
      if (subleaf == 1) return {0, (state.xcr0 & 4) ? 832u : 576u, 0, 0};
      if (subleaf == 2) return {256, 576, 0, 0};
      return {};
    case 0x80000000: {
      const char* vendor = vendor_of(model);
      const u32 highest = model.max_extended > 0x80000008 && !amd ? 0x80000008 : model.max_extended;
      if (!amd) return {highest, 0, 0, 0};
      return {highest, word_of(vendor, 12, 0), word_of(vendor, 12, 8), word_of(vendor, 12, 4)};
    }
    case 0x80000001: return {amd ? host_signature() : 0, 0, amd ? 1u << 22 : 0, 0};  // TOPOEXT: leaves 8000001D and 8000001E
    case 0x80000002:
    case 0x80000003:
    case 0x80000004: {
      const char* brand = brand_of(model);
      const std::size_t length = std::strlen(brand), at = (leaf - 0x80000002) * 16;
      return {word_of(brand, length, at), word_of(brand, length, at + 4), word_of(brand, length, at + 8),
              word_of(brand, length, at + 12)};
    }
    case 0x80000005: return amd ? host(leaf, 0) : CpuidResult{};
    case 0x80000006:
      if (model.generation == max) return host(leaf, 0);
      return {0, 0, model.generation == core2 ? 0x10008040u : 0x01006040u, 0};
    case 0x80000007: return {0, 0, 0, host(leaf, 0).edx & 1u << 8};  // invariant TSC
    case 0x80000008:
      return {model.generation == core2 ? 0x3024u : 0x302eu, amd ? host(leaf, 0).ebx & 4 : 0, 0, 0};  // XSAVEERPTR
    case 0x8000001d: return amd ? host(leaf, subleaf) : CpuidResult{};
    case 0x8000001e: return amd ? CpuidResult{processor_number(), processor_number(), 0, 0} : CpuidResult{};
    default: return {};
  }
}

/// Features whose instructions run on the host's own and are no part of x86-64-v3: a host without them hides them from guests.
u64 features_missing_here() {
  static const u64 missing = [] {
    const auto bit = [](Feature f) { return u64{1} << static_cast<unsigned>(f); };
    u64 out = 0;
    if (!(host(1, 0).ecx & 1u << 25)) out |= bit(Feature::aes_);
    if (!(host(1, 0).ecx & 1u << 1)) out |= bit(Feature::pclmulqdq_);
    if (!(host(7, 0).ebx & 1u << 29)) out |= bit(Feature::sha_);
    return out;
  }();
  return missing;
}

}  // namespace

u64 features_of_model(unsigned model) { return kFeaturesOf[model_of(model).generation] & ~features_missing_here(); }

std::span<const CpuModel> cpu_models() {
  static constexpr auto kTexts = [] {
    std::array<CpuModel, std::size(kModels)> out{};
    for (std::size_t i = 0; i < out.size(); ++i) out[i] = kModels[i].text;
    return out;
  }();
  return kTexts;
}

int find_cpu_model(const char* name) {
  for (std::size_t i = 0; i < std::size(kModels); ++i)
    if (std::strcmp(kModels[i].text.name, name) == 0) return static_cast<int>(i);
  return -1;
}

CpuidResult cpuid(const X86State& state, u32 leaf, u32 subleaf) {
  const Model& model = model_of(state.cpu_model);
  const bool extended = leaf >= 0x80000000;
  if (leaf > (extended ? model.max_extended : model.max_leaf)) return {};
  CpuidResult r = plain_leaf(state, model, leaf, subleaf);
  u32* const registers[4] = {&r.eax, &r.ebx, &r.ecx, &r.edx};
  const bool has_subleaves = leaf == 7 || leaf == 0xd;
  const u64 features = features_of_model(state.cpu_model);
  for (const FeatureBit& f : kFeatures) {
    if (f.leaf != leaf || !(features >> (&f - kFeatures) & 1) || (has_subleaves && f.subleaf != subleaf)) continue;
    *registers[f.reg] |= 1u << f.bit;
  }
  // AMD repeats the common bits of leaf 1 (FPU, TSC, CX8, CMOV, MMX, FXSR) in its own leaf.
  if (leaf == 0x80000001 && is_amd(model)) r.edx |= cpuid(state, 1, 0).edx & 0x01808111;
  return r;
}

std::string cpuinfo_flags(unsigned index) {
  const u64 features = features_of_model(index);
  std::string out;
  for (const FeatureBit& f : kFeatures) {
    if (!(features >> (&f - kFeatures) & 1) || *f.flag == 0) continue;
    out += f.flag;
    out += ' ';
  }
  return out + "nopl cpuid";
}
bool cpu_is_amd(unsigned index) {
  static const bool host = host_is_amd();
  return host && model_of(index).generation == max;
}
const char* cpu_vendor(unsigned index) { return vendor_of(model_of(index)); }
const char* cpu_brand(unsigned index) { return brand_of(model_of(index)); }
u32 cpu_signature(unsigned index) {
  const Model& model = model_of(index);
  return model.signature ? model.signature : host_signature();
}

}  // namespace kiln::x86
