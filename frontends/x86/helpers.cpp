// C++ functions that lifted general instructions call. They run with CpuState::in_code set.
#include "frontends/x86/helpers.h"

#include <immintrin.h>
#include <sys/random.h>

#include <cstring>

#include "frontends/x86/user_segments.h"
#include "ir/interpreter.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::ExitKind;
using ir::Helper;
using ir::Type;

namespace {

constexpr u32 kState = ir::READS_STATE | ir::WRITES_STATE;
constexpr u32 kMemory = ir::READS_MEM | ir::WRITES_MEM | ir::MAY_FAULT;

X86State& x86(CpuState* state) { return *static_cast<X86State*>(state); }

// --- division ---------------------------------------------------------------------------------------------------------------

u64 div128(CpuState*, u64 high, u64 low, u64 d) {
  asm("divq %[d]" : "+a"(low), "+d"(high) : [d] "r"(d) : "cc");
  return low;
}
u32 idiv128_overflows(CpuState*, u64 high, u64 low, u64 d) {
  if (d == 0) return 1;
  const bool negative = (high >> 63) != 0;
  const unsigned __int128 value = static_cast<unsigned __int128>(high) << 64 | low;
  const unsigned __int128 magnitude = negative ? -value : value;
  const bool d_negative = (d >> 63) != 0;
  const u64 d_magnitude = d_negative ? 0 - d : d;
  const unsigned __int128 q = magnitude / d_magnitude;
  return q > (u64{1} << 63) - (negative == d_negative ? 1 : 0);
}
u64 idiv128(CpuState*, u64 high, u64 low, u64 d) {
  asm("idivq %[d]" : "+a"(low), "+d"(high) : [d] "r"(d) : "cc");
  return low;
}

// --- rotates through carry, decimal adjustment
// --------------------------------------------------------------------------------

struct Rotated {
  u64 value;
  u32 carry;
};
Rotated rotate_carry(u64 value, u32 count, u32 carry, u32 kind) {
  const unsigned bits = 8 * (kind & 15);
  const bool right = (kind & 16) != 0;
  for (unsigned n = count % (bits + 1); n; --n) {
    if (right) {
      const u32 out = value & 1;
      value = value >> 1 | u64{carry} << (bits - 1);
      carry = out;
    } else {
      const u32 out = value >> (bits - 1) & 1;
      value = (value << 1 | carry) & mask_low(bits);
      carry = out;
    }
  }
  return {value, carry};
}
u64 rotate_carry_value(CpuState*, u64 value, u32 count, u32 carry, u32 kind) {
  return rotate_carry(value, count, carry, kind).value;
}
u32 rotate_carry_out(CpuState*, u64 value, u32 count, u32 carry, u32 kind) {
  return rotate_carry(value, count, carry, kind).carry;
}

constexpr u32 kImageN = 1u << 31, kImageZ = 1u << 30, kImageC = 1u << 29, kImageP = kPf, kImageA = kAf;
u32 szp(u8 v) { return (v & 0x80 ? kImageN : 0) | (v == 0 ? kImageZ : 0) | (__builtin_parity(v) ? 0 : kImageP); }

/// SDM vol. 2, DAA, DAS, AAA, AAS.
u64 decimal_adjust(CpuState*, u32 ax, u32 image, u32 kind) {
  u8 al = static_cast<u8>(ax), ah = static_cast<u8>(ax >> 8);
  const bool carry = (image & kImageC) != 0, low = (al & 15) > 9 || (image & kImageA);
  u32 out = 0;
  if (kind < 2) {
    const u8 old = al;
    const bool subtract = kind == 1, high = old > 0x99 || carry;
    bool c = false;
    if (low) {
      c = carry || (subtract ? old < 6 : old > 0xf9);
      al = static_cast<u8>(subtract ? al - 6 : al + 6);
      out |= kImageA;
    }
    if (high) {
      al = static_cast<u8>(subtract ? al - 0x60 : al + 0x60);
      c = true;
    }
    out |= szp(al) | (c ? kImageC : 0);
  } else {
    if (low) {
      ax = kind == 2 ? ax + 0x106 : ax - 6 - 0x100;
      al = static_cast<u8>(ax);
      ah = static_cast<u8>(ax >> 8);
      out |= kImageA | kImageC;
    }
    al &= 15;
    out |= szp(al);
  }
  return (u32{ah} << 8 | al) | u64{out} << 32;
}
u64 aam(CpuState*, u32 ax, u32, u32 base) {
  const u8 al = static_cast<u8>(ax), high = static_cast<u8>(al / base), low = static_cast<u8>(al % base);
  return (u32{high} << 8 | low) | u64{szp(low)} << 32;
}
u64 aad(CpuState*, u32 ax, u32, u32 base) {
  const u8 al = static_cast<u8>(ax + (ax >> 8 & 0xff) * base);
  return al | u64{szp(al)} << 32;
}

// --- atomics
// ------------------------------------------------------------------------------------------------------------------

template <class T>
T locked_neg_at(HostAddr host) {
  T* p = reinterpret_cast<T*>(host);
  T old = __atomic_load_n(p, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(p, &old, static_cast<T>(0 - old), false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
  }
  return old;
}
u64 locked_neg(CpuState* state, u64 address, u32 bytes) {
  const HostAddr host = state->memory_base + address;
  switch (bytes) {
    case 1: return locked_neg_at<u8>(host);
    case 2: return locked_neg_at<u16>(host);
    case 4: return locked_neg_at<u32>(host);
    default: return locked_neg_at<u64>(host);
  }
}
void store16_if(CpuState* state, u64 address, u32 value, u32 condition) {
  const u16 half = static_cast<u16>(value);
  if (condition) std::memcpy(reinterpret_cast<void*>(state->memory_base + address), &half, sizeof half);
}
u32 cas16(CpuState* state, u64 address) {
  X86State& s = x86(state);
  u8 equal;
  u64 low = s.r[RAX], high = s.r[RDX];
  asm volatile("lock cmpxchg16b (%[host])"
               : "+a"(low), "+d"(high), "=@ccz"(equal)
               : [host] "r"(state->memory_base + address), "b"(s.r[RBX]), "c"(s.r[RCX])
               : "memory");
  if (!equal) {
    s.r[RAX] = low;
    s.r[RDX] = high;
  }
  return equal;
}

u64 pdep(CpuState*, u64 a, u64 mask) { return _pdep_u64(a, mask); }
u64 pext(CpuState*, u64 a, u64 mask) { return _pext_u64(a, mask); }
u32 crc32c(CpuState*, u32 crc, u64 data, u32 bytes) {
  switch (bytes) {
    case 1: return __builtin_ia32_crc32qi(crc, static_cast<u8>(data));
    case 2: return __builtin_ia32_crc32hi(crc, static_cast<u16>(data));
    case 4: return __builtin_ia32_crc32si(crc, static_cast<u32>(data));
    default: return static_cast<u32>(__builtin_ia32_crc32di(crc, data));
  }
}

// --- flags, segments, identification
// --------------------------------------------------------------------------------------------

u32 pushf(CpuState* state) { return eflags_of(x86(state)) & ~(kVm | kRf); }

void popf(CpuState* state, u32 value, u32 bytes) {
  X86State& s = x86(state);
  // CPL 3 with IOPL 0: IF, IOPL, VM, VIF, VIP stay (SDM vol. 2, POPF).
  u32 changeable = kStatusFlags | kTf | kDf | kNt;
  if (bytes > 2) changeable |= kAc | kId;
  set_eflags(s, ((eflags_of(s) & ~changeable) | (value & changeable)) & ~kRf);
}

void cpuid_helper(CpuState* state) {
  X86State& s = x86(state);
  const CpuidResult r = cpuid(s, static_cast<u32>(s.r[RAX]), static_cast<u32>(s.r[RCX]));
  s.r[RAX] = r.eax;
  s.r[RBX] = r.ebx;
  s.r[RCX] = r.ecx;
  s.r[RDX] = r.edx;
}
u64 rdtsc(CpuState*) { return __rdtsc(); }
u32 rdpid(CpuState*) {
  unsigned aux;
  __builtin_ia32_rdtscp(&aux);
  return aux;
}
u64 random_number(CpuState*) {
  u64 v = 0;
  while (getrandom(&v, sizeof v, 0) != sizeof v) {
  }
  return v;
}

u32 read_selector(CpuState* state, u32 seg) { return x86(state).selector[seg]; }
void load_segment(CpuState* state, u32 seg, u32 selector) {
  if (const u64 trap = load_user_segment(x86(state), static_cast<Seg>(seg), selector)) ir::raise(state, ExitKind::Trap, trap);
}

void check_far_transfer(CpuState* state, u32 selector, u64 offset) {
  X86State& s = x86(state);
  selector &= 0xffff;
  const u32 error = selector & ~u32{3};
  const u64 d = user_descriptor(s, selector);
  if (d == 0 || !descriptor_is_segment(d) || !descriptor_is_code(d)) ir::raise(state, ExitKind::Trap, trap_value(kGP, error));
  if (!descriptor_present(d)) ir::raise(state, ExitKind::Trap, trap_value(kNP, error));
  const u32 now = descriptor_code_size(descriptor_rights(d)), before = descriptor_code_size(s.seg_rights[CS]);
  const bool known = now == before || (!s.window_4g && now != 0);
  if (!known) ir::raise(state, ExitKind::Trap, trap_value(kModeSwitch, error));
  const bool outside = now == 2 ? static_cast<u64>(static_cast<s64>(offset << 16) >> 16) != offset : offset > descriptor_limit(d);
  if (outside) ir::raise(state, ExitKind::Trap, trap_value(kGP));
}
void far_transfer(CpuState* state, u32 selector) { load_code_segment(x86(state), selector); }

/// SDM vol. 2, LAR, LSL, VERR, VERW, at CPL 3.
u64 segment_info(CpuState* state, u32 kind, u32 selector) {
  enum { kLar, kLsl, kVerr, kVerw };
  const u64 d = user_descriptor(x86(state), selector & 0xffff);
  if (d == 0 || (selector & 0xfffc) == 0) return 0;
  const bool code = descriptor_is_code(d), conforming = code && (d >> 42 & 1), writable = (d >> 41 & 1) != 0;
  if (!conforming && descriptor_dpl(d) != 3) return 0;
  constexpr u64 kValid = u64{1} << 32;
  switch (kind) {
    case kLar: return kValid | (d >> 32 & 0x00f0ff00) | (d >> 32 & 0x000f0000);
    case kLsl:
      // The kernel keeps the processor's number in this limit.
      return kValid | (selector >> 3 == kCpuNumberEntry && !(selector & 4) ? rdpid(state) : descriptor_limit(d));
    case kVerr: return !code || writable ? kValid : 0;
    default: return !code && writable ? kValid : 0;
  }
}

template <class F>
const void* at(F* f) {
  return reinterpret_cast<const void*>(f);
}

}  // namespace

const Helper kDiv128{"div128", at(div128), Type::I64, {Type::I64, Type::I64, Type::I64}, ir::PURE};
const Helper kIdiv128{"idiv128", at(idiv128), Type::I64, {Type::I64, Type::I64, Type::I64}, ir::PURE};
const Helper kIdiv128Overflows{
    "idiv128_overflows", at(idiv128_overflows), Type::I32, {Type::I64, Type::I64, Type::I64}, ir::PURE};
const Helper kRotateCarryValue{
    "rotate_carry_value", at(rotate_carry_value), Type::I64, {Type::I64, Type::I32, Type::I32, Type::I32}, ir::PURE};
const Helper kRotateCarryOut{
    "rotate_carry_out", at(rotate_carry_out), Type::I32, {Type::I64, Type::I32, Type::I32, Type::I32}, ir::PURE};
const Helper kDecimalAdjust{"decimal_adjust", at(decimal_adjust), Type::I64, {Type::I32, Type::I32, Type::I32}, ir::PURE};
const Helper kAam{"aam", at(aam), Type::I64, {Type::I32, Type::I32, Type::I32}, ir::PURE};
const Helper kAad{"aad", at(aad), Type::I64, {Type::I32, Type::I32, Type::I32}, ir::PURE};
const Helper kLockedNeg{"locked_neg", at(locked_neg), Type::I64, {Type::I64, Type::I32}, kMemory};
const Helper kStore16If{"store16_if", at(store16_if), Type::Void, {Type::I64, Type::I32, Type::I32}, kMemory};
const Helper kCas16{"cmpxchg16b", at(cas16), Type::I32, {Type::I64}, kState | kMemory};
const Helper kPdep{"pdep", at(pdep), Type::I64, {Type::I64, Type::I64}, ir::PURE};
const Helper kPext{"pext", at(pext), Type::I64, {Type::I64, Type::I64}, ir::PURE};
const Helper kCrc32c{"crc32c", at(crc32c), Type::I32, {Type::I32, Type::I64, Type::I32}, ir::PURE};
const Helper kPushf{"pushf", at(pushf), Type::I32, {}, ir::READS_STATE};
const Helper kPopf{"popf", at(popf), Type::Void, {Type::I32, Type::I32}, kState};
const Helper kCpuid{"cpuid", at(cpuid_helper), Type::Void, {}, kState};
const Helper kRdtsc{"rdtsc", at(rdtsc), Type::I64, {}, ir::READS_STATE};
const Helper kRandom{"random", at(random_number), Type::I64, {}, ir::READS_STATE};
const Helper kRdpid{"rdpid", at(rdpid), Type::I32, {}, ir::READS_STATE};
const Helper kLoadSegment{"load_segment", at(load_segment), Type::Void, {Type::I32, Type::I32}, kState | ir::MAY_FAULT};
const Helper kReadSelector{"read_selector", at(read_selector), Type::I32, {Type::I32}, ir::READS_STATE};
const Helper kCheckFarTransfer{"check_far_transfer", at(check_far_transfer), Type::Void, {Type::I32, Type::I64}, kState | ir::MAY_FAULT};
const Helper kFarTransfer{"far_transfer", at(far_transfer), Type::Void, {Type::I32}, kState};
const Helper kSegmentInfo{"segment_info", at(segment_info), Type::I64, {Type::I32, Type::I32}, ir::READS_STATE};

}  // namespace kiln::x86
