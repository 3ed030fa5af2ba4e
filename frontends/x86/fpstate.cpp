// FXSAVE's and XSAVE's formats: images for owners of a vCPU, and the instructions (SDM vol. 1, 10.5 and 13).
#include <xmmintrin.h>

#include "frontends/x86/features.h"
#include "frontends/x86/helpers_x87.h"
#include "frontends/x86/helpers_x87_guest.h"
#include "frontends/x86/helpers_x87_quick.h"
#include "frontends/x86/lifter.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::ExitKind;
using ir::Helper;
using ir::Type;

namespace {

enum Component : u64 { kX87 = 1, kSse = 2, kAvx = 4, kAllComponents = 7 };
constexpr unsigned kLegacyBytes = 416;               // what FXSAVE writes; the 96 bytes behind it are software's
constexpr unsigned kHeader = 512, kAvxOffset = 576;  // component 2 comes first behind the header in both formats
constexpr u32 kMxcsrReset = 0x1f80;
constexpr u64 kCompact = u64{1} << 63;

template <class T>
void put(u8* at, T value) {
  std::memcpy(at, &value, sizeof value);
}
template <class T>
T get(const u8* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

unsigned xmm_count(const X86State& s) { return code_size(s.mode) == CodeSize::Bits64 ? 16 : 8; }

/// Whether FXSAVE tells the last instruction's place even if no exception is pending: Intel's do, AMD's do not (APM vol.
/// 2, 11.4.4). "max" does as the host, the named models are Intel's.
bool always_tells_last(const X86State& s) {
  static const bool host = [] {
    alignas(16) u8 image[512] = {};
    asm volatile("fninit\n fld1\n fxsave %0\n fninit" : "+m"(image));
    return get<u16>(image + 6) != 0;
  }();
  return s.cpu_model != 0 || host;
}

/// Bytes 0..23 and 32..159.
void put_x87(const X86State& s, bool wide, u8* out) {
  const bool tell = (s.fsw_rest & kFswEs) != 0 || always_tells_last(s);
  put<u16>(out, static_cast<u16>(s.fcw));
  put<u16>(out + 2, static_cast<u16>(fsw_of(s)));
  put<u16>(out + 4, static_cast<u16>(s.ftw));
  put<u16>(out + 6, tell ? static_cast<u16>(s.fop) : 0);
  if (wide) {
    put<u64>(out + 8, tell ? s.fip : 0);
    put<u64>(out + 16, tell ? s.fdp : 0);
  } else {
    put<u64>(out + 8, tell ? static_cast<u32>(s.fip) | u64{s.fcs & 0xffff} << 32 : 0);
    put<u64>(out + 16, tell ? static_cast<u32>(s.fdp) | u64{s.fds & 0xffff} << 32 : 0);
  }
  for (unsigned i = 0; i < 8; ++i) {
    const V128& v = s.st[(x87_top(s) + i) & 7];
    put<u64>(out + 32 + 16 * i, v.d[0]);
    put<u64>(out + 40 + 16 * i, v.h[4]);
  }
}
void get_x87(X86State& s, bool wide, const u8* in) {
  set_fsw(s, get<u16>(in + 2));
  s.ftw = in[4];
  s.fop = get<u16>(in + 6) & 0x7ff;
  if (wide) {
    s.fip = get<u64>(in + 8);
    s.fdp = get<u64>(in + 16);
    s.fcs = s.fds = 0;
  } else {
    s.fip = get<u32>(in + 8);
    s.fcs = get<u16>(in + 12);
    s.fdp = get<u32>(in + 16);
    s.fds = get<u16>(in + 20);
  }
  x87_set_control(s, get<u16>(in));
  for (unsigned i = 0; i < 8; ++i) x87_st(s, i) = V128{.d = {get<u64>(in + 32 + 16 * i), get<u16>(in + 40 + 16 * i)}};
}
void init_x87(X86State& s) {
  x87_reset(s);
  std::memset(s.st, 0, sizeof s.st);
}
bool x87_in_use(const X86State& s) {
  u64 any = (s.fcw ^ kFcwReset) | fsw_of(s) | s.ftw | s.fop | s.fip | s.fdp;
  for (const V128& v : s.st) any |= v.d[0] | v.d[1];
  return any != 0;
}
template <unsigned kCount>
bool any_set(const V128 (&v)[kCount], unsigned count) {
  u64 any = 0;
  for (unsigned i = 0; i < count; ++i) any |= v[i].d[0] | v[i].d[1];
  return any != 0;
}

void put_vectors(const V128* v, unsigned count, u8* out) { std::memcpy(out, v, 16 * count); }
void get_vectors(V128* v, unsigned count, const u8* in) { std::memcpy(v, in, 16 * count); }

/// XINUSE: components that differ from their initial configuration. AMD counts MXCSR to SSE.
u64 in_use(const X86State& s, u32 mxcsr) {
  return (x87_in_use(s) ? u64{kX87} : 0) | (any_set(s.xmm, xmm_count(s)) || mxcsr != kMxcsrReset ? u64{kSse} : 0) |
         (any_set(s.ymm_high, xmm_count(s)) ? u64{kAvx} : 0);
}

/// The header's rules for XRSTOR (SDM vol. 1, 13.8.1 and 13.8.2). `header`: 64 bytes.
bool header_is_valid(const u8* header, u64 xcr0) {
  const u64 bv = get<u64>(header), comp = get<u64>(header + 8);
  for (unsigned i = 16; i < 64; i += 8)
    if (i < 24 || (comp & kCompact) != 0)
      if (get<u64>(header + i) != 0) return false;
  if ((comp & kCompact) == 0) return comp == 0 && (bv & ~xcr0) == 0;
  return (comp & ~kCompact & ~xcr0) == 0 && (bv & ~comp) == 0;
}

/// Everything but MXCSR, which comes back through `mxcsr`: kNoMxcsr if it stays as it is.
constexpr u32 kNoMxcsr = ~0u;
void load_components(X86State& s, bool wide, u64 requested, const u8* in, u32& mxcsr) {
  const u64 bv = get<u64>(in + kHeader);
  const bool compact = (get<u64>(in + kHeader + 8) & kCompact) != 0;
  const unsigned count = xmm_count(s);
  mxcsr = kNoMxcsr;
  if (requested & kX87) (bv & kX87) ? get_x87(s, wide, in) : init_x87(s);
  if (requested & kSse) {
    if (bv & kSse) get_vectors(s.xmm, count, in + 160);
    else std::memset(s.xmm, 0, 16 * count);
    mxcsr = compact && (bv & kSse) == 0 ? kMxcsrReset : get<u32>(in + 24);
  }
  if (requested & kAvx) {
    if (bv & kAvx) get_vectors(s.ymm_high, count, in + kAvxOffset);
    else std::memset(s.ymm_high, 0, 16 * count);
    if (!compact) mxcsr = get<u32>(in + 24);
  }
}

// --- the instructions ---------------------------------------------------------------------------------------------------

/// MXCSR while generated code runs: the host's, but for the exceptions that the guest has unmasked.
u32 running_mxcsr(const X86State& s) { return _mm_getcsr() & ~s.mxcsr_unmasked; }
void set_running_mxcsr(X86State& s, u32 mxcsr) {
  set_mxcsr(s, mxcsr);
  _mm_setcsr(s.mxcsr);
}

/// SDM vol. 1, 11.6.6: processors without DAZ tell 0.
u32 told_mxcsr_mask(const X86State& s) { return mxcsr_mask(s) == kMxcsrWithoutDaz ? 0 : mxcsr_mask(s); }

void general_protection_unless(X86State& s, bool ok) {
  if (!ok) ir::raise(&s, ExitKind::Trap, trap_value(kGP));
}

/// A non-canonical address is told first, by the access.
bool is_aligned(u64 address, u64 bytes) {
  return address % bytes == 0 || static_cast<u64>(static_cast<s64>(address << 16) >> 16) != address;
}

enum Form : u32 { kWide = 1, kThroughSs = 2 };  // REX.W; the operand's segment is SS

/// FXSAVE and FXRSTOR look at the end of the segment for the operand's first 4 bytes (AMD), before they look at its alignment.
void check_fxsave_area(X86State& s, u64 address, u32 form) {
  if (is_aligned(address, 16)) return;
  if ((s.mode & kModeAlignmentCheck) && (address & 3)) ir::raise(&s, ExitKind::Trap, trap_value(kAC));
  const bool is64 = code_size(s.mode) == CodeSize::Bits64;
  if (!is64 && (form & kThroughSs) && static_cast<u32>(address - s.seg_base[SS]) > 0xfffffffc)
    ir::raise(&s, ExitKind::Trap, trap_value(x86::kSS));
  general_protection_unless(s, false);
}

void fxsave(CpuState* cpu, u64 address, u32 form) {
  X86State& s = *static_cast<X86State*>(cpu);
  check_fxsave_area(s, address, form);
  const bool wide = (form & kWide) != 0;
  u8 image[kLegacyBytes];
  const unsigned bytes = 160 + 16 * xmm_count(s);
  put_x87(s, wide, image);
  put<u32>(image + 24, running_mxcsr(s));
  put<u32>(image + 28, told_mxcsr_mask(s));
  put_vectors(s.xmm, xmm_count(s), image + 160);
  copy_to_guest(address, image, bytes);
}
void fxrstor(CpuState* cpu, u64 address, u32 form) {
  X86State& s = *static_cast<X86State*>(cpu);
  check_fxsave_area(s, address, form);
  u8 image[512];
  copy_from_guest(image, address, sizeof image);
  general_protection_unless(s, (get<u32>(image + 24) & ~mxcsr_mask(s)) == 0);
  get_x87(s, (form & kWide) != 0, image);
  get_vectors(s.xmm, xmm_count(s), image + 160);
  set_running_mxcsr(s, get<u32>(image + 24));
}

u64 requested_components(const X86State& s) { return (static_cast<u32>(s.r[RAX]) | s.r[RDX] << 32) & s.xcr0; }

enum class Save { Plain, Optimised, Compacted };

template <Save kKind>
void xsave(CpuState* cpu, u64 address, u32 form) {
  X86State& s = *static_cast<X86State*>(cpu);
  const bool wide = (form & kWide) != 0;
  general_protection_unless(s, is_aligned(address, 64));
  const u64 requested = requested_components(s);
  const u32 mxcsr = running_mxcsr(s);
  const u64 used = in_use(s, mxcsr) & requested;
  const u64 written = kKind == Save::Plain ? requested : used;
  const unsigned count = xmm_count(s);
  u8 image[kXsaveBytes];
  if (written & kX87) put_x87(s, wide, image);
  put<u32>(image + 24, mxcsr);
  put<u32>(image + 28, told_mxcsr_mask(s));
  put_vectors(s.xmm, count, image + 160);
  put_vectors(s.ymm_high, count, image + kAvxOffset);
  // All that may be written is looked at first, so that a fault finds nothing changed.
  const bool to_avx = (written & kAvx) != 0;
  probe_guest_write(address, to_avx ? kAvxOffset + 16 * count : kHeader + 16);
  if (written & kX87) {
    copy_to_guest(address, image, 24);
    copy_to_guest(address + 32, image + 32, 128);
  }
  const bool with_mxcsr = kKind == Save::Compacted ? (written & kSse) != 0 : (requested & (kSse | kAvx)) != 0;
  if (with_mxcsr) copy_to_guest(address + 24, image + 24, 8);
  if (written & kSse) copy_to_guest(address + 160, image + 160, 16 * count);
  if (to_avx) copy_to_guest(address + kAvxOffset, image + kAvxOffset, 16 * count);
  if constexpr (kKind == Save::Compacted) {
    guest_store<u64>(address + kHeader, used);
    guest_store<u64>(address + kHeader + 8, requested | kCompact);
  } else {
    guest_store<u64>(address + kHeader, (guest_load<u64>(address + kHeader) & ~requested) | used);
  }
}

void xrstor(CpuState* cpu, u64 address, u32 form) {
  X86State& s = *static_cast<X86State*>(cpu);
  const bool wide = (form & kWide) != 0;
  general_protection_unless(s, is_aligned(address, 64));
  const u64 requested = requested_components(s);
  u8 image[kXsaveBytes] = {};
  copy_from_guest(image, address, kAvxOffset);
  general_protection_unless(s, header_is_valid(image + kHeader, s.xcr0));
  if (get<u64>(image + kHeader) & requested & kAvx)
    copy_from_guest(image + kAvxOffset, address + kAvxOffset, 16 * xmm_count(s));
  const bool compact = (get<u64>(image + kHeader + 8) & kCompact) != 0;
  const bool loads_mxcsr = compact ? (get<u64>(image + kHeader) & requested & kSse) != 0 : (requested & (kSse | kAvx)) != 0;
  general_protection_unless(s, !loads_mxcsr || (get<u32>(image + 24) & ~mxcsr_mask(s)) == 0);
  u32 mxcsr;
  load_components(s, wide, requested, image, mxcsr);
  if (mxcsr != kNoMxcsr) set_running_mxcsr(s, mxcsr);
}

void xgetbv(CpuState* cpu) {
  X86State& s = *static_cast<X86State*>(cpu);
  const u32 index = static_cast<u32>(s.r[RCX]);
  general_protection_unless(s, index == 0 || (index == 1 && has_feature(s.mode, Feature::xgetbv1_)));
  const u64 value = index == 0 ? s.xcr0 : in_use(s, running_mxcsr(s)) & s.xcr0;
  s.r[RAX] = static_cast<u32>(value);
  s.r[RDX] = value >> 32;
}

constexpr u32 kEffects = ir::READS_STATE | ir::WRITES_STATE | ir::MAY_FAULT;
template <class F>
Helper memory_helper(const char* name, F* function, u32 effects) {
  return {name, reinterpret_cast<const void*>(function), Type::Void, {Type::I64, Type::I32}, kEffects | effects};
}
const Helper kFpState[] = {
    memory_helper("fxsave", fxsave, ir::WRITES_MEM),
    memory_helper("fxrstor", fxrstor, 0),
    memory_helper("xsave", xsave<Save::Plain>, ir::WRITES_MEM),
    memory_helper("xsaveopt", xsave<Save::Optimised>, ir::WRITES_MEM),
    memory_helper("xsavec", xsave<Save::Compacted>, ir::WRITES_MEM),
    memory_helper("xrstor", xrstor, 0),
};
const Helper kXgetbv = {"xgetbv", reinterpret_cast<const void*>(xgetbv), Type::Void, {}, kEffects};

}  // namespace

/// By the row's parameter: FXSAVE, FXRSTOR, XSAVE, XSAVEOPT, XSAVEC, XRSTOR.
Lift lift_fp_state(Lifter& l, const Insn& i) {
  const Place p = l.address(i);
  const ir::Value address = p.disp ? l.ir.add(p.address, l.ir.i64(static_cast<u64>(p.disp))) : p.address;
  l.mmx_known = 0;
  l.ir.call(kFpState[i.param], {address, l.ir.i32((i.w ? kWide : 0) | (i.mem.seg == SS ? kThroughSs : 0))});
  if (i.param != 1 && i.param != 5) return Lift::Next;
  // MXCSR may have changed, and the mode with it.
  l.ir.exit_indirect(l.ir.i64(i.next), ir::ExitHint::NewMode);
  return Lift::End;
}

Lift lift_xgetbv(Lifter& l, const Insn&) {
  l.ir.call(kXgetbv);
  return Lift::Next;
}

// --- images for owners --------------------------------------------------------------------------------------------------

void fxsave_image(const X86State& state, bool wide, u8* out) {
  put_x87(state, wide, out);
  put<u32>(out + 24, mxcsr_of(state));
  put<u32>(out + 28, told_mxcsr_mask(state));
  put_vectors(state.xmm, xmm_count(state), out + 160);
}
void fxrstor_image(X86State& state, bool wide, const u8* in) {
  get_x87(state, wide, in);
  get_vectors(state.xmm, xmm_count(state), in + 160);
  set_mxcsr(state, get<u32>(in + 24) & mxcsr_mask(state));
}

void xsave_image(const X86State& state, u8* out) {
  const bool wide = code_size(state.mode) == CodeSize::Bits64;
  std::memset(out, 0, kXsaveBytes);
  fxsave_image(state, wide, out);
  put<u64>(out + kHeader, kAllComponents);
  put_vectors(state.ymm_high, xmm_count(state), out + kAvxOffset);
}
bool xrstor_image(X86State& state, const u8* in) {
  if (!header_is_valid(in + kHeader, kAllComponents)) return false;
  u32 mxcsr;
  load_components(state, code_size(state.mode) == CodeSize::Bits64, kAllComponents, in, mxcsr);
  if (mxcsr != kNoMxcsr) set_mxcsr(state, mxcsr & mxcsr_mask(state));
  return true;
}

}  // namespace kiln::x86
