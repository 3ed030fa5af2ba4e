// x87 instructions with a memory operand. They access it themselves: after the look at pending exceptions (#MF comes before
// #PF), before the state changes.
#include <bit>
#include <type_traits>

#include "frontends/x86/helpers_x87.h"
#include "frontends/x86/helpers_x87_guest.h"
#include "frontends/x86/helpers_x87_quick.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::Helper;
using ir::Type;

namespace x87 {
namespace {

/// a op memory, and the host's status word. T: float, double.
template <Arith kOp, class T>
inline F80 compute_memory(F80 a, T m, u16& status) {
  F80 r = a;
  if constexpr (sizeof(T) == 4) {
    if constexpr (kOp == kAdd) asm volatile("fadds %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kMul) asm volatile("fmuls %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSub) asm volatile("fsubs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSubr) asm volatile("fsubrs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDiv) asm volatile("fdivs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDivr) asm volatile("fdivrs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kCom || kOp == kComp) asm volatile("fcoms %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
  } else {
    if constexpr (kOp == kAdd) asm volatile("faddl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kMul) asm volatile("fmull %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSub) asm volatile("fsubl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSubr) asm volatile("fsubrl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDiv) asm volatile("fdivl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDivr) asm volatile("fdivrl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kCom || kOp == kComp) asm volatile("fcoml %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
  }
  return r;
}
/// T: s16, s32.
template <Arith kOp, class T>
  requires std::is_integral_v<T>
inline F80 compute_memory(F80 a, T m, u16& status) {
  F80 r = a;
  if constexpr (sizeof(T) == 2) {
    if constexpr (kOp == kAdd) asm volatile("fiadds %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kMul) asm volatile("fimuls %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSub) asm volatile("fisubs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSubr) asm volatile("fisubrs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDiv) asm volatile("fidivs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDivr) asm volatile("fidivrs %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kCom || kOp == kComp) asm volatile("ficoms %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
  } else {
    if constexpr (kOp == kAdd) asm volatile("fiaddl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kMul) asm volatile("fimull %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSub) asm volatile("fisubl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kSubr) asm volatile("fisubrl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDiv) asm volatile("fidivl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kDivr) asm volatile("fidivrl %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
    if constexpr (kOp == kCom || kOp == kComp) asm volatile("ficoml %2\n fnstsw %1" : "+t"(r), "=a"(status) : "m"(m));
  }
  return r;
}

template <class T>
T guest_operand(u64 address) {
  if constexpr (sizeof(T) == 2) return std::bit_cast<T>(guest_load<u16>(address));
  else if constexpr (sizeof(T) == 4) return std::bit_cast<T>(guest_load<u32>(address));
  else return std::bit_cast<T>(guest_load<u64>(address));
}

/// A load by way of the host.
void slow_load(X86State& s, u32 fop, u64 offset, u64 address, unsigned bytes) {
  x87_wait(s);
  alignas(16) u8 operand[16] = {};
  copy_from_guest(operand, address, bytes);
  record(s, fop, offset);
  run_on_host(s, fop, operand);
}

/// The fields of a normal float or double in the 80-bit format; false for others.
template <class T>
inline bool widen(T value, u64& significand, u64& sign_exponent) {
  constexpr unsigned kFraction = sizeof(T) == 4 ? 23 : 52, kSign = 8 * sizeof(T) - 1, kExponentBits = kSign - kFraction;
  constexpr u64 kTopExponent = (u64{1} << kExponentBits) - 1, kRebias = 0x3fff - (kTopExponent >> 1);
  const u64 bits = std::bit_cast<std::conditional_t<sizeof(T) == 4, u32, u64>>(value);
  const u64 exponent = bits >> kFraction & kTopExponent, fraction = bits & ((u64{1} << kFraction) - 1);
  significand = u64{1} << 63 | fraction << (63 - kFraction);
  sign_exponent = (bits >> kSign & 1) << 15 | (exponent + kRebias);
  return exponent - 1 < kTopExponent - 1;
}

template <Arith kOp, class T>
void arith(CpuState* cpu, u32 fop, u64 offset, u64 address) {
  X86State& s = state_of(cpu);
  constexpr bool kCompare = kOp == kCom || kOp == kComp;
  const unsigned st0 = physical(s, 0);
  if (!all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_load(s, fop, offset, address, sizeof(T));
  const T value = guest_operand<T>(address);
  if constexpr (!kCompare && std::is_floating_point_v<T>) {
    u64 significand, sign_exponent;
    if (widen(value, significand, sign_exponent) && arith_on_normals<kOp>(s, s.st[st0], significand, sign_exponent))
        [[likely]] {
      record(s, fop, offset);
      return;
    }
  }
  u16 status;
  F80 r;
  {
    const Control control(s);
    r = compute_memory<kOp>(load80(s.st[st0]), value, status);
  }
  if (!take_status(s, status, kCompare ? kCompareCodes : 0)) [[unlikely]]
    return slow_load(s, fop, offset, address, sizeof(T));
  record(s, fop, offset);
  if constexpr (!kCompare) store80(s.st[st0], r);
  if constexpr (kOp == kComp) pop(s);
}

/// FLD m32, m64. Denormals and NaNs may raise something; the rest is exact, and normal numbers only need their fields moved.
template <class T>
void fld(CpuState* cpu, u32 fop, u64 offset, u64 address) {
  X86State& s = state_of(cpu);
  const unsigned at = below(s);
  if (!all_masked(s) || full(s, at)) [[unlikely]]
    return slow_load(s, fop, offset, address, sizeof(T));
  const T value = guest_operand<T>(address);
  u64 significand, sign_exponent;
  if (!widen(value, significand, sign_exponent)) [[unlikely]] {
    // Not compared as a number: the guest's MXCSR would see it.
    const auto bits = std::bit_cast<std::conditional_t<sizeof(T) == 4, u32, u64>>(value);
    if (bits << 1 != 0) return slow_load(s, fop, offset, address, sizeof(T));
    significand = 0;
    sign_exponent &= 0x8000;
  }
  record(s, fop, offset);
  put80(s.st[at], significand, sign_exponent);
  s.ftw |= 1u << at;
  clear_c1(s);
  s.ftop = at;
}

template <class T>
void fild(CpuState* cpu, u32 fop, u64 offset, u64 address) {
  X86State& s = state_of(cpu);
  if (!all_masked(s) || full(s, below(s))) [[unlikely]]
    return slow_load(s, fop, offset, address, sizeof(T));
  const T value = guest_operand<T>(address);
  record(s, fop, offset);
  clear_c1(s);
  push(s, value);
}

/// FLD m80, FBLD.
void load_long(CpuState* cpu, u32 fop, u64 offset, u64 address) {
  X86State& s = state_of(cpu);
  const unsigned at = below(s);
  const bool bcd = (fop & 0x700) == 0x700;
  if (bcd || !all_masked(s) || full(s, at)) [[unlikely]]
    return slow_load(s, fop, offset, address, 10);
  const u64 low = guest_load<u64>(address), high = guest_load<u16>(address + 8);
  record(s, fop, offset);
  clear_c1(s);
  put80(s.st[at], low, high);
  s.ftw |= 1u << at;
  set_top(s, at);
}

/// A store by way of the host. If an unmasked exception keeps the instruction from storing, nothing is stored (SDM vol.
/// 1, 8.5).
void slow_store(X86State& s, u32 fop, u64 offset, u64 address, unsigned bytes) {
  struct Stack {
    V128 st[8];
    u32 fsw, ftw;
    static Stack of(const X86State& s) {
      Stack out;
      std::memcpy(out.st, s.st, sizeof out.st);
      out.fsw = fsw_of(s);
      out.ftw = s.ftw;
      return out;
    }
    void put(X86State& s) const {
      std::memcpy(s.st, st, sizeof st);
      set_fsw(s, fsw);
      s.ftw = ftw;
    }
  };
  x87_wait(s);
  probe_guest_write(address, bytes);  // #PF comes first, even if nothing will be stored
  const Stack before = Stack::of(s);
  alignas(16) u8 operand[16] = {};
  run_on_host(s, fop, operand);
  if ((s.fsw_rest & ~s.fcw & (kFswIe | kFswOe | kFswUe)) == 0) {
    const Stack after = Stack::of(s);
    before.put(s);  // as a fault has to find it
    copy_to_guest(address, operand, bytes);
    after.put(s);
  }
  record(s, fop, offset);
}

enum class Store { Float, Integer, Truncate };

template <Store kKind, class T>
inline T convert(F80 value, u16& status) {
  T out;
  if constexpr (kKind == Store::Float) {
    if constexpr (sizeof(T) == 4) asm volatile("fsts %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value));
    else asm volatile("fstl %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value));
  } else if constexpr (kKind == Store::Integer) {
    if constexpr (sizeof(T) == 2) asm volatile("fists %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value));
    else if constexpr (sizeof(T) == 4) asm volatile("fistl %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value));
    else asm volatile("fistpll %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value) : "st");
  } else {
    if constexpr (sizeof(T) == 2) asm volatile("fisttps %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value) : "st");
    else if constexpr (sizeof(T) == 4) asm volatile("fisttpl %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value) : "st");
    else asm volatile("fisttpll %0\n fnstsw %1" : "=m"(out), "=a"(status) : "t"(value) : "st");
  }
  return out;
}

/// FST m64 of a number that is normal in both formats, rounding to nearest: the double's bits; its status is in `status`.
inline bool narrow_to_double(const V128& v, u64& out, u32& status) {
  const u64 significand = v.d[0], exponent = v.h[4] & 0x7fff, sign = u64{v.h[4]} >> 15 << 63;
  constexpr u64 kRebias = 0x3fff - 0x3ff;
  if (significand >> 63 == 0 || exponent - (kRebias + 1) >= 0x7fd) return false;  // the next exponent is still a normal one
  const u64 rest = significand & 0x7ff, kept = significand >> 11;
  const u64 up = rest + (kept & 1) > 0x400 ? 1 : 0;
  // A carry out of the fraction goes on into the exponent.
  out = sign | ((exponent - kRebias - 1) << 52) + kept + up;
  status = (rest ? kFswPe : 0) | (up ? kFswC1 : 0);
  return true;
}

/// FIST, FISTP and FISTTP of a number with an integer part that fits with room to spare; its status is in `status`.
template <bool kTruncate, class T>
inline bool to_integer(const V128& v, u32 fcw, T& out, u32& status) {
  constexpr unsigned kMost = 8 * sizeof(T) - 3;
  const u64 significand = v.d[0];
  const u32 exponent = v.h[4] & 0x7fffu, power = exponent - 0x3fff;
  if (static_cast<s64>(significand) >= 0 || power > kMost) return false;
  const bool negative = v.h[4] >> 15 != 0;
  const u64 whole = significand >> (63 - power), rest = significand << power << 1;
  bool up = false;
  switch (kTruncate ? 3 : fcw >> 10 & 3) {
    case 0: up = rest > u64{1} << 63 || (rest == u64{1} << 63 && (whole & 1) != 0); break;
    case 1: up = negative && rest != 0; break;
    case 2: up = !negative && rest != 0; break;
    default: break;
  }
  const u64 magnitude = whole + (up ? 1 : 0);
  out = static_cast<T>(negative ? 0 - magnitude : magnitude);
  status = (rest ? kFswPe : 0) | (up ? kFswC1 : 0);
  return true;
}

template <Store kKind, class T, bool kPop>
void store(CpuState* cpu, u32 fop, u64 offset, u64 address) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0);
  if (!all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_store(s, fop, offset, address, sizeof(T));
  u32 status = 0;
  T out;
  bool done = false;
  if constexpr (kKind == Store::Float && sizeof(T) == 8)
    if ((s.fcw & 0xc00) == 0) [[likely]]
      done = narrow_to_double(s.st[st0], out, status);
  if constexpr (kKind != Store::Float) done = to_integer < kKind == Store::Truncate > (s.st[st0], s.fcw, out, status);
  if (!done) {
    const Control control(s);
    u16 host;
    out = convert<kKind, T>(load80(s.st[st0]), host);
    status = host;
  }
  if (status & ~s.fsw_rest & kFswExceptions) [[unlikely]]
    return slow_store(s, fop, offset, address, sizeof(T));
  guest_store<T>(address, out);
  take_status(s, status);
  record(s, fop, offset);
  if constexpr (kPop) pop(s);
}

void store_long(CpuState* cpu, u32 fop, u64 offset, u64 address) {
  X86State& s = state_of(cpu);
  const unsigned st0 = physical(s, 0);
  const bool bcd = (fop & 0x700) == 0x700;
  if (bcd || !all_masked(s) || !full(s, st0)) [[unlikely]]
    return slow_store(s, fop, offset, address, 10);
  if ((address & 4095) > 4096 - 10) probe_guest_write(address, 10);
  guest_store<u64>(address, s.st[st0].d[0]);
  guest_store<u16>(address + 8, s.st[st0].h[4]);
  clear_c1(s);
  record(s, fop, offset);
  pop(s);
}

constexpr u32 kStoreEffects = kX87Effects | ir::WRITES_MEM;

struct MemoryHelper {
  u8 opcode, reg;
  Helper helper;
};
template <class F>
MemoryHelper load_helper(u8 opcode, u8 reg, const char* name, F* function) {
  return {
      opcode, reg, {name, address_of(function), Type::Void, {Type::I32, Type::I64, Type::I64}, kX87Effects | ir::READS_MEM}};
}
template <class F>
MemoryHelper store_helper(u8 opcode, u8 reg, const char* name, F* function) {
  return {opcode, reg, {name, address_of(function), Type::Void, {Type::I32, Type::I64, Type::I64}, kStoreEffects}};
}

const MemoryHelper kLoads[] = {
    load_helper(0xd8, 0, "x87_fadd_m32", arith<kAdd, float>),
    load_helper(0xd8, 1, "x87_fmul_m32", arith<kMul, float>),
    load_helper(0xd8, 2, "x87_fcom_m32", arith<kCom, float>),
    load_helper(0xd8, 3, "x87_fcomp_m32", arith<kComp, float>),
    load_helper(0xd8, 4, "x87_fsub_m32", arith<kSub, float>),
    load_helper(0xd8, 5, "x87_fsubr_m32", arith<kSubr, float>),
    load_helper(0xd8, 6, "x87_fdiv_m32", arith<kDiv, float>),
    load_helper(0xd8, 7, "x87_fdivr_m32", arith<kDivr, float>),
    load_helper(0xd9, 0, "x87_fld_m32", fld<float>),
    load_helper(0xda, 0, "x87_fiadd_m32", arith<kAdd, s32>),
    load_helper(0xda, 1, "x87_fimul_m32", arith<kMul, s32>),
    load_helper(0xda, 2, "x87_ficom_m32", arith<kCom, s32>),
    load_helper(0xda, 3, "x87_ficomp_m32", arith<kComp, s32>),
    load_helper(0xda, 4, "x87_fisub_m32", arith<kSub, s32>),
    load_helper(0xda, 5, "x87_fisubr_m32", arith<kSubr, s32>),
    load_helper(0xda, 6, "x87_fidiv_m32", arith<kDiv, s32>),
    load_helper(0xda, 7, "x87_fidivr_m32", arith<kDivr, s32>),
    load_helper(0xdb, 0, "x87_fild_m32", fild<s32>),
    load_helper(0xdb, 5, "x87_fld_m80", load_long),
    load_helper(0xdc, 0, "x87_fadd_m64", arith<kAdd, double>),
    load_helper(0xdc, 1, "x87_fmul_m64", arith<kMul, double>),
    load_helper(0xdc, 2, "x87_fcom_m64", arith<kCom, double>),
    load_helper(0xdc, 3, "x87_fcomp_m64", arith<kComp, double>),
    load_helper(0xdc, 4, "x87_fsub_m64", arith<kSub, double>),
    load_helper(0xdc, 5, "x87_fsubr_m64", arith<kSubr, double>),
    load_helper(0xdc, 6, "x87_fdiv_m64", arith<kDiv, double>),
    load_helper(0xdc, 7, "x87_fdivr_m64", arith<kDivr, double>),
    load_helper(0xdd, 0, "x87_fld_m64", fld<double>),
    load_helper(0xde, 0, "x87_fiadd_m16", arith<kAdd, s16>),
    load_helper(0xde, 1, "x87_fimul_m16", arith<kMul, s16>),
    load_helper(0xde, 2, "x87_ficom_m16", arith<kCom, s16>),
    load_helper(0xde, 3, "x87_ficomp_m16", arith<kComp, s16>),
    load_helper(0xde, 4, "x87_fisub_m16", arith<kSub, s16>),
    load_helper(0xde, 5, "x87_fisubr_m16", arith<kSubr, s16>),
    load_helper(0xde, 6, "x87_fidiv_m16", arith<kDiv, s16>),
    load_helper(0xde, 7, "x87_fidivr_m16", arith<kDivr, s16>),
    load_helper(0xdf, 0, "x87_fild_m16", fild<s16>),
    load_helper(0xdf, 4, "x87_fbld", load_long),
    load_helper(0xdf, 5, "x87_fild_m64", fild<s64>),
};
const MemoryHelper kStores[] = {
    store_helper(0xd9, 2, "x87_fst_m32", store<Store::Float, u32, false>),
    store_helper(0xd9, 3, "x87_fstp_m32", store<Store::Float, u32, true>),
    store_helper(0xdb, 1, "x87_fisttp_m32", store<Store::Truncate, u32, true>),
    store_helper(0xdb, 2, "x87_fist_m32", store<Store::Integer, u32, false>),
    store_helper(0xdb, 3, "x87_fistp_m32", store<Store::Integer, u32, true>),
    store_helper(0xdb, 7, "x87_fstp_m80", store_long),
    store_helper(0xdd, 1, "x87_fisttp_m64", store<Store::Truncate, u64, true>),
    store_helper(0xdd, 2, "x87_fst_m64", store<Store::Float, u64, false>),
    store_helper(0xdd, 3, "x87_fstp_m64", store<Store::Float, u64, true>),
    store_helper(0xdf, 1, "x87_fisttp_m16", store<Store::Truncate, u16, true>),
    store_helper(0xdf, 2, "x87_fist_m16", store<Store::Integer, u16, false>),
    store_helper(0xdf, 3, "x87_fistp_m16", store<Store::Integer, u16, true>),
    store_helper(0xdf, 6, "x87_fbstp", store_long),
    store_helper(0xdf, 7, "x87_fistp_m64", store<Store::Integer, u64, true>),
};

}  // namespace
}  // namespace x87

const Helper* x87_load_helper(unsigned opcode, unsigned reg) {
  for (const x87::MemoryHelper& h : x87::kLoads)
    if (h.opcode == opcode && h.reg == reg) return &h.helper;
  return nullptr;
}
const Helper* x87_store_helper(unsigned opcode, unsigned reg) {
  for (const x87::MemoryHelper& h : x87::kStores)
    if (h.opcode == opcode && h.reg == reg) return &h.helper;
  return nullptr;
}
}  // namespace kiln::x86
