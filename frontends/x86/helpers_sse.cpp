// MXCSR, string compares, estimates and conversions, masked memory accesses and gathers. Cryptography: helpers_sse_crypto.cpp;
// unmasked exceptions: helpers_sse_trap.cpp.
#include "frontends/x86/helpers_sse.h"

#include <immintrin.h>

#include <cstring>

#include "frontends/x86/helpers_x87_guest.h"
#include "ir/semantics_fp.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::Helper;
using ir::Type;
using ir::Vec;

namespace {

template <class F>
const void* address_of(F* function) {
  return reinterpret_cast<const void*>(function);
}

// --- MXCSR -----------------------------------------------------------------------------------------------------------
constexpr u32 kMasks = 0x1f80;

void load_mxcsr(CpuState* state, u32 value) {
  X86State& s = *static_cast<X86State*>(state);
  ir::host::set_mxcsr((value & 0xffff) | kMasks);
  s.mxcsr_unmasked = ~value & kMasks;
  ir::change_mode(state, s.mxcsr_unmasked ? state->mode | kModeSseTraps : state->mode & ~u32{kModeSseTraps});
}
u32 store_mxcsr(CpuState* state) { return ir::host::mxcsr() & ~static_cast<X86State*>(state)->mxcsr_unmasked; }

// --- integers --------------------------------------------------------------------------------------------------------
/// Bits 1..0 choose four bytes of b, bit 2 where eight overlapping quadruples of a begin.
Vec mpsadbw(CpuState*, u32 imm, Vec a, Vec b) {
  const auto x = (ir::Bytes)a, y = (ir::Bytes)b;
  ir::Lanes<u16> r{};
  const unsigned from_a = imm & 4 ? 4 : 0, from_b = (imm & 3) * 4;
  for (unsigned i = 0; i < 8; ++i) {
    int sum = 0;
    for (unsigned k = 0; k < 4; ++k) {
      const int d = x[from_a + i + k] - y[from_b + k];
      sum += d < 0 ? -d : d;
    }
    r[i] = static_cast<u16>(sum);
  }
  return (Vec)r;
}
Vec phminposuw(CpuState*, Vec a) { return (Vec)_mm_minpos_epu16((__m128i)a); }
Vec permute4(CpuState*, Vec a, Vec control) { return (Vec)_mm_permutevar_ps((__m128)a, (__m128i)control); }
Vec permute8(CpuState*, Vec a, Vec control) { return (Vec)_mm_permutevar_pd((__m128d)a, (__m128i)control); }
Vec permute_across(CpuState*, Vec low, Vec high, Vec index) {
  const auto x = (ir::Lanes<u32>)low, y = (ir::Lanes<u32>)high, at = (ir::Lanes<u32>)index;
  ir::Lanes<u32> r{};
  for (unsigned i = 0; i < 4; ++i) r[i] = at[i] & 4 ? y[at[i] & 3] : x[at[i] & 3];
  return (Vec)r;
}

// --- PCMPxSTRx (SDM vol. 2, 4.1) -------------------------------------------------------------------------------------
struct Strings {
  unsigned count;  // elements of a register
  int a[16], b[16];
  unsigned length_a, length_b;
};
enum class Aggregation { EqualAny, Ranges, EqualEach, EqualOrdered };

u32 aggregate(const Strings& s, Aggregation how) {
  u32 r = 0;
  const auto equal = [&](unsigned i, unsigned j) {
    const bool valid_a = i < s.length_a, valid_b = j < s.length_b;
    if (valid_a && valid_b) return s.a[i] == s.b[j];
    return how == Aggregation::EqualEach ? !valid_a && !valid_b : how == Aggregation::EqualOrdered && !valid_a;
  };
  for (unsigned j = 0; j < s.count; ++j) {
    bool yes = false;
    switch (how) {
      case Aggregation::EqualAny:
        for (unsigned i = 0; i < s.count; ++i) yes = yes || equal(i, j);
        break;
      case Aggregation::Ranges:
        for (unsigned i = 0; i + 1 < s.length_a; i += 2)
          yes = yes || (j < s.length_b && s.b[j] >= s.a[i] && s.b[j] <= s.a[i + 1]);
        break;
      case Aggregation::EqualEach: yes = equal(j, j); break;
      case Aggregation::EqualOrdered:
        yes = true;
        for (unsigned i = 0; j + i < s.count; ++i) yes = yes && equal(i, j + i);
        break;
    }
    r |= u32{yes} << j;
  }
  return r;
}

u64 compare_strings(CpuState*, u32 control, u64 length_a, u64 length_b, Vec a, Vec b) {
  Strings s;
  const bool words = (control & 1) != 0, is_signed = (control & 2) != 0;
  s.count = words ? 8 : 16;
  const auto unpack = [&](Vec v, int* out) {
    const V128 x = ir::to_v128(v);
    for (unsigned i = 0; i < s.count; ++i) {
      if (words) out[i] = is_signed ? static_cast<s16>(x.h[i]) : x.h[i];
      else out[i] = is_signed ? static_cast<s8>(x.b[i]) : x.b[i];
    }
  };
  unpack(a, s.a);
  unpack(b, s.b);
  const auto implicit = [&](const int* elements) {
    unsigned n = 0;
    while (n < s.count && elements[n] != 0) ++n;
    return n;
  };
  const auto given = [&](u64 length) {
    const u64 magnitude = static_cast<s64>(length) < 0 ? 0 - length : length;
    return magnitude > s.count ? s.count : static_cast<unsigned>(magnitude);
  };
  s.length_a = control & 128 ? implicit(s.a) : given(length_a);
  s.length_b = control & 128 ? implicit(s.b) : given(length_b);
  const u32 all = (1u << s.count) - 1;
  u32 r = aggregate(s, static_cast<Aggregation>((control >> 2) & 3));
  if (control & 16) r ^= control & 32 ? (1u << s.length_b) - 1 : all;  // negative polarity, masked: valid elements of b only
  u32 index = s.count;
  if (r) index = control & 64 ? 31 - static_cast<u32>(__builtin_clz(r)) : static_cast<u32>(__builtin_ctz(r));
  const u32 n = s.length_a < s.count, z = s.length_b < s.count, c = r != 0, v = r & 1;
  return r | index << 16 | u64{n << 31 | z << 30 | c << 29 | v << 28} << 32;
}
Vec expand_mask(CpuState*, u32 mask, u32 imm) {
  V128 r{};
  mask &= 0xffff;
  if (!(imm & 0x40)) {
    r.d[0] = mask;
  } else if (imm & 1) {
    for (unsigned i = 0; i < 8; ++i) r.h[i] = bit(mask, i) ? 0xffff : 0;
  } else {
    for (unsigned i = 0; i < 16; ++i) r.b[i] = bit(mask, i) ? 0xff : 0;
  }
  return ir::to_vec(r);
}

// --- floating point --------------------------------------------------------------------------------------------------
// Assembly where MXCSR is read or written: the compiler takes it for constant.
Vec rcp(CpuState*, Vec a) { return (Vec)_mm_rcp_ps((__m128)a); }
Vec rsqrt(CpuState*, Vec a) { return (Vec)_mm_rsqrt_ps((__m128)a); }
Vec addsub4(CpuState*, Vec a, Vec b) {
  asm volatile("vaddsubps %1, %0, %0" : "+x"(a) : "x"(b));
  return a;
}
Vec addsub8(CpuState*, Vec a, Vec b) {
  asm volatile("vaddsubpd %1, %0, %0" : "+x"(a) : "x"(b));
  return a;
}
/// shape: 1 f64, 2 VFMSUBADD.
Vec fma_addsub(CpuState*, u32 shape, Vec a, Vec b, Vec c) {
  switch (shape & 3) {
    case 0: asm volatile("vfmaddsub132ps %1, %2, %0" : "+x"(a) : "x"(b), "x"(c)); break;
    case 1: asm volatile("vfmaddsub132pd %1, %2, %0" : "+x"(a) : "x"(b), "x"(c)); break;
    case 2: asm volatile("vfmsubadd132ps %1, %2, %0" : "+x"(a) : "x"(b), "x"(c)); break;
    default: asm volatile("vfmsubadd132pd %1, %2, %0" : "+x"(a) : "x"(b), "x"(c)); break;
  }
  return a;
}
Vec half_to_single(CpuState*, Vec a) {
  Vec r;
  asm volatile("vcvtph2ps %1, %0" : "=x"(r) : "x"(a));
  return r;
}
Vec single_to_half(CpuState*, u32 imm, Vec a) {
  Vec r;
  switch (imm & 4 ? 4 : imm & 3) {
    case 0: asm volatile("vcvtps2ph $0, %1, %0" : "=x"(r) : "x"(a)); break;
    case 1: asm volatile("vcvtps2ph $1, %1, %0" : "=x"(r) : "x"(a)); break;
    case 2: asm volatile("vcvtps2ph $2, %1, %0" : "=x"(r) : "x"(a)); break;
    case 3: asm volatile("vcvtps2ph $3, %1, %0" : "=x"(r) : "x"(a)); break;
    default: asm volatile("vcvtps2ph $4, %1, %0" : "=x"(r) : "x"(a)); break;
  }
  return r;
}

// --- memory ----------------------------------------------------------------------------------------------------------
template <class T>
T guest_load(u64 address) {
  return *reinterpret_cast<const volatile T __seg_gs*>(address);
}
void masked_store_bytes(CpuState*, u64 to, Vec data, Vec mask) {
  const V128 d = ir::to_v128(data), m = ir::to_v128(mask);
  for (unsigned i = 0; i < 16; ++i)
    if (m.b[i] & 0x80) *reinterpret_cast<volatile u8 __seg_gs*>(to + i) = d.b[i];
}
// The host's own instructions touch what the guest's would.
Vec masked_load4(CpuState*, u64 from, Vec mask) {
  Vec r;
  asm volatile("vmaskmovps %%gs:(%1), %2, %0" : "=x"(r) : "r"(from), "x"(mask) : "memory");
  return r;
}
Vec masked_load8(CpuState*, u64 from, Vec mask) {
  Vec r;
  asm volatile("vmaskmovpd %%gs:(%1), %2, %0" : "=x"(r) : "r"(from), "x"(mask) : "memory");
  return r;
}
void masked_store4(CpuState*, u64 to, Vec mask, Vec data) {
  asm volatile("vmaskmovps %1, %2, %%gs:(%0)" : : "r"(to), "x"(data), "x"(mask) : "memory");
}
void masked_store8(CpuState*, u64 to, Vec mask, Vec data) {
  asm volatile("vmaskmovpd %1, %2, %%gs:(%0)" : : "r"(to), "x"(data), "x"(mask) : "memory");
}

/// All 256 bits at once, so that a fault has written nothing and its address is the host's. shape: mask | data << 4 | f64 << 8.
void masked_store256(CpuState* state, u64 to, u32 shape) {
  const X86State& s = *static_cast<const X86State*>(state);
  const auto ymm = [&](unsigned r) {
    return _mm256_set_m128i((__m128i)ir::to_vec(s.ymm_high[r]), (__m128i)ir::to_vec(s.xmm[r]));
  };
  const __m256i mask = ymm(shape & 15), data = ymm(shape >> 4 & 15);
  if (shape & 256) asm volatile("vmaskmovpd %1, %2, %%gs:(%0)" : : "r"(to), "x"(data), "x"(mask) : "memory");
  else asm volatile("vmaskmovps %1, %2, %%gs:(%0)" : : "r"(to), "x"(data), "x"(mask) : "memory");
}

/// Element by element, destination and mask written as each is loaded: a fault leaves what is done done (SDM vol. 2,
/// VPGATHERDD).
/// What is not done keeps its mask as it is: the SDM spreads the sign first, processors (AMD's at least) do not.
void gather(CpuState* state, u64 segment_base, u64 offset, u32 packed) {
  X86State& s = *static_cast<X86State*>(state);
  const GatherShape g = GatherShape::unpack(packed);
  const bool is64 = code_size(s.mode) == CodeSize::Bits64;
  const auto half = [&](unsigned r, unsigned byte) -> volatile V128& { return byte < 16 ? s.xmm[r] : s.ymm_high[r]; };
  const unsigned element = g.element64 ? 8 : 4, index_bytes = g.index64 ? 8 : 4;
  const unsigned count = (g.vex256 ? 32u : 16u) / (element > index_bytes ? element : index_bytes);
  const auto mask_at = [&](unsigned i) {
    const unsigned at = i * element;
    return g.element64 ? (half(g.mask, at).d[at / 8 % 2] >> 63) != 0 : (half(g.mask, at).s[at / 4 % 4] >> 31) != 0;
  };
  const auto set = [&](unsigned r, unsigned i, u64 value) {
    const unsigned at = i * element;
    if (g.element64) half(r, at).d[at / 8 % 2] = value;
    else half(r, at).s[at / 4 % 4] = static_cast<u32>(value);
  };
  for (unsigned i = 0; i < count; ++i) {
    if (!mask_at(i)) continue;
    const unsigned at = i * index_bytes;
    const u64 index = g.index64 ? half(g.index, at).d[at / 8 % 2]
                                : static_cast<u64>(static_cast<s64>(static_cast<s32>(half(g.index, at).s[at / 4 % 4])));
    u64 address = offset + (index << g.scale_log2);
    if (g.address32) address &= 0xffffffff;
    address += segment_base;
    if (!is64) address &= 0xffffffff;
    set(g.destination, i, g.element64 ? guest_load<u64>(address) : guest_load<u32>(address));
    set(g.mask, i, 0);
  }
  const auto clear_from = [&](unsigned r, unsigned byte) {
    for (; byte < 32; byte += 4) half(r, byte).s[byte / 4 % 4] = 0;
  };
  clear_from(g.destination, count * element);
  clear_from(g.mask, 0);
}

void probe_write(CpuState*, u64 address, u32 bytes) { probe_guest_write(address, bytes); }

}  // namespace

using ir::MAY_FAULT;
using ir::PURE;
using ir::READS_MEM;
using ir::READS_STATE;
using ir::WRITES_MEM;
using ir::WRITES_STATE;
constexpr Type kI32 = Type::I32, kI64 = Type::I64, kV = Type::V128, kNone = Type::Void;

const Helper kLoadMxcsr{"ldmxcsr", address_of(&load_mxcsr), kNone, {kI32}, READS_STATE | WRITES_STATE};
const Helper kStoreMxcsr{"stmxcsr", address_of(&store_mxcsr), kI32, {}, WRITES_MEM};

const Helper kMpsadbw{"mpsadbw", address_of(&mpsadbw), kV, {kI32, kV, kV}, PURE};
const Helper kPhminposuw{"phminposuw", address_of(&phminposuw), kV, {kV}, PURE};
const Helper kPermute4{"vpermilps", address_of(&permute4), kV, {kV, kV}, PURE};
const Helper kPermute8{"vpermilpd", address_of(&permute8), kV, {kV, kV}, PURE};
const Helper kPermuteAcross{"vpermd", address_of(&permute_across), kV, {kV, kV, kV}, PURE};
const Helper kCompareStrings{"pcmpstr", address_of(&compare_strings), kI64, {kI32, kI64, kI64, kV, kV}, PURE};
const Helper kExpandMask{"pcmpstrm", address_of(&expand_mask), kV, {kI32, kI32}, PURE};

const Helper kRcp{"rcpps", address_of(&rcp), kV, {kV}, PURE};
const Helper kRsqrt{"rsqrtps", address_of(&rsqrt), kV, {kV}, PURE};
const Helper kAddSub4{"addsubps", address_of(&addsub4), kV, {kV, kV}, WRITES_MEM};
const Helper kAddSub8{"addsubpd", address_of(&addsub8), kV, {kV, kV}, WRITES_MEM};
const Helper kFmaAddSub{"vfmaddsub", address_of(&fma_addsub), kV, {kI32, kV, kV, kV}, WRITES_MEM};
const Helper kHalfToSingle{"vcvtph2ps", address_of(&half_to_single), kV, {kV}, WRITES_MEM};
const Helper kProbeWrite{"probe_write", address_of(&probe_write), kNone, {kI64, kI32}, READS_MEM | WRITES_MEM | MAY_FAULT};
const Helper kSingleToHalf{"vcvtps2ph", address_of(&single_to_half), kV, {kI32, kV}, WRITES_MEM};

const Helper kMaskedStoreBytes{"maskmovdqu", address_of(&masked_store_bytes), kNone, {kI64, kV, kV}, WRITES_MEM | MAY_FAULT};
const Helper kMaskedLoad4{"vmaskmovps_load", address_of(&masked_load4), kV, {kI64, kV}, READS_MEM | MAY_FAULT};
const Helper kMaskedLoad8{"vmaskmovpd_load", address_of(&masked_load8), kV, {kI64, kV}, READS_MEM | MAY_FAULT};
const Helper kMaskedStore4{"vmaskmovps_store", address_of(&masked_store4), kNone, {kI64, kV, kV}, WRITES_MEM | MAY_FAULT};
const Helper kMaskedStore8{"vmaskmovpd_store", address_of(&masked_store8), kNone, {kI64, kV, kV}, WRITES_MEM | MAY_FAULT};
const Helper kMaskedStore256{
    "vmaskmov256_store", address_of(&masked_store256), kNone, {kI64, kI32}, READS_STATE | WRITES_MEM | MAY_FAULT};
const Helper kGather{
    "vgather", address_of(&gather), kNone, {kI64, kI64, kI32}, READS_STATE | WRITES_STATE | READS_MEM | MAY_FAULT};

}  // namespace kiln::x86
