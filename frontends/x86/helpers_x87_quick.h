// What the quick ways of the x87 helpers are made of. See helpers_x87.h for when they are taken.
#pragma once
#include "frontends/x86/helpers_x87.h"

namespace kiln::x86::x87 {

inline X86State& state_of(ir::CpuState* cpu) { return *static_cast<X86State*>(cpu); }

/// All exceptions masked (so none can be pending).
inline bool all_masked(const X86State& s) { return (~s.fcw & kFswExceptions) == 0; }
inline unsigned physical(const X86State& s, u32 i) { return (x87_top(s) + i) & 7; }
inline bool full(const X86State& s, unsigned physical_register) { return (s.ftw >> physical_register & 1) != 0; }

/// The host's control word is the guest's while this lives.
class Control {
 public:
  explicit Control(const X86State& s) : differs_(((s.fcw ^ kHostControl) & 0xf00) != 0) {
    if (!differs_) [[likely]]
      return;
    const u16 control = static_cast<u16>(s.fcw | 0x3f);
    asm volatile("fldcw %0" : : "m"(control));
  }
  ~Control() {
    if (!differs_) [[likely]]
      return;
    const u16 control = kHostControl;
    asm volatile("fldcw %0" : : "m"(control));
  }
  Control(const Control&) = delete;
  Control& operator=(const Control&) = delete;

 private:
  const bool differs_;
};

/// The x87 type. Loads and stores of all 80 bits raise nothing and change nothing.
using F80 = long double;
inline F80 load80(const V128& v) {
  F80 r;
  asm("fldt %1" : "=t"(r) : "m"(v));
  return r;
}
inline void store80(V128& v, F80 r) { asm("fstpt %0" : "=m"(v) : "t"(r) : "st"); }

/// A register written in two pieces, and copied so. The pieces are FSTP's own: a load of all 16 bytes would wait for a store of
/// 8 and one of 2 to reach the cache. (volatile: the compiler would make 16 bytes of it.)
inline void put80(V128& v, u64 significand, u64 sign_exponent) {
  static_cast<volatile V128&>(v).d[0] = significand;
  static_cast<volatile V128&>(v).d[1] = sign_exponent;
}
inline void copy80(V128& to, const V128& from) { put80(to, from.d[0], static_cast<const volatile V128&>(from).h[4]); }

/// The last instruction's place (SDM vol. 1, 8.1.8); for one with a memory operand its address too. CpuState::pc is the
/// instruction's.
inline void record(X86State& s, u32 fop) {
  s.fop = fop & 0x7ff;
  s.fip = s.pc;
  s.fcs = s.selector[CS];
}
inline void record(X86State& s, u32 fop, u64 offset) {
  record(s, fop);
  s.fdp = offset;
  s.fds = s.selector[fop >> kFopSegShift & 7];
}

inline void set_c1(X86State& s, u32 fsw_c1) {
  s.fsw_rest = (s.fsw_rest & ~u32{kFswC1}) | fsw_c1;
  s.c1_op = 0;
}
inline void clear_c1(X86State& s) { set_c1(s, 0); }

/// A normal number: with its integer bit, neither zero nor denormal, infinite or NaN.
inline bool is_normal(u64 significand, u32 sign_exponent) {
  return ((sign_exponent + 1) & 0x7fff) > 1 && static_cast<s64>(significand) < 0;
}
inline bool is_normal(const V128& v) { return is_normal(v.d[0], static_cast<const volatile V128&>(v).h[4]); }
/// Whether a result may have raised anything but Precision: at the ends of the range, or none of a number at all.
inline bool is_far_from_ends(const V128& v) { return (static_cast<const volatile V128&>(v).h[4] & 0x7fffu) - 2 < 0x7ffc; }

/// ModRM.reg's numbers of the arithmetic opcodes.
enum Arith : u8 { kAdd = 0, kMul = 1, kCom = 2, kComp = 3, kSub = 4, kSubr = 5, kDiv = 6, kDivr = 7 };

/// a op b; for kSubr and kDivr b op a.
template <Arith kOp>
inline F80 compute_quietly(F80 a, F80 b) {
  F80 r;
  if constexpr (kOp == kAdd) asm volatile("fadd %%st(1), %%st" : "=t"(r) : "0"(a), "u"(b));
  if constexpr (kOp == kMul) asm volatile("fmul %%st(1), %%st" : "=t"(r) : "0"(a), "u"(b));
  if constexpr (kOp == kSub) asm volatile("fsub %%st(1), %%st" : "=t"(r) : "0"(a), "u"(b));
  if constexpr (kOp == kSubr) asm volatile("fsubr %%st(1), %%st" : "=t"(r) : "0"(a), "u"(b));
  if constexpr (kOp == kDiv) asm volatile("fdiv %%st(1), %%st" : "=t"(r) : "0"(a), "u"(b));
  if constexpr (kOp == kDivr) asm volatile("fdivr %%st(1), %%st" : "=t"(r) : "0"(a), "u"(b));
  return r;
}
/// The same and the host's status word.
template <Arith kOp>
inline F80 compute(F80 a, F80 b, u16& status) {
  F80 r;
  if constexpr (kOp == kAdd) asm volatile("fadd %%st(1), %%st\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(a), "u"(b));
  if constexpr (kOp == kMul) asm volatile("fmul %%st(1), %%st\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(a), "u"(b));
  if constexpr (kOp == kSub) asm volatile("fsub %%st(1), %%st\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(a), "u"(b));
  if constexpr (kOp == kSubr) asm volatile("fsubr %%st(1), %%st\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(a), "u"(b));
  if constexpr (kOp == kDiv) asm volatile("fdiv %%st(1), %%st\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(a), "u"(b));
  if constexpr (kOp == kDivr) asm volatile("fdivr %%st(1), %%st\n fnstsw %1" : "=t"(r), "=a"(status) : "0"(a), "u"(b));
  return r;
}

/// to := to op (significand, sign_exponent) without a look at the host's status, if Precision is all that can come of it; else
/// false, and nothing has changed but C1, which the caller is about to set.
template <Arith kOp>
inline bool arith_on_normals(X86State& s, V128& to, u64 significand, u64 sign_exponent) {
  if ((s.fsw_rest & kFswPe) == 0 || !is_normal(to) || !is_normal(significand, static_cast<u32>(sign_exponent))) [[unlikely]]
    return false;
  copy80(s.c1_operands[0], to);
  put80(s.c1_operands[1], significand, sign_exponent);
  {
    const Control control(s);
    store80(to, compute_quietly<kOp>(load80(to), load80(s.c1_operands[1])));
  }
  if (!is_far_from_ends(to)) [[unlikely]] {
    copy80(to, s.c1_operands[0]);
    s.c1_op = 0;
    return false;
  }
  s.c1_op = kOp + 1;
  return true;
}

/// Takes C1 and, with them, the condition codes in `codes` from the host's status word; false if the host has an exception that
/// the guest's FSW lacks.
inline bool take_status(X86State& s, u32 host, u32 codes = 0) {
  if (host & ~s.fsw_rest & kFswExceptions) [[unlikely]]
    return false;
  const u32 taken = kFswC1 | codes;
  s.fsw_rest = (s.fsw_rest & ~taken) | (host & taken);
  s.c1_op = 0;
  return true;
}
inline constexpr u32 kCompareCodes = kFswC0 | kFswC2 | kFswC3;

inline void set_top(X86State& s, unsigned top) { s.ftop = top & 7; }
inline void pop(X86State& s) {
  const unsigned top = x87_top(s);
  s.ftw &= ~(1u << top);
  set_top(s, top + 1);
}
/// Physical register that a push would fill, and the push itself.
inline unsigned below(const X86State& s) { return (x87_top(s) - 1) & 7; }
inline void push(X86State& s, F80 value) {
  const unsigned at = below(s);
  store80(s.st[at], value);
  s.ftw |= 1u << at;
  set_top(s, at);
}

/// The general way: pending exceptions first, then the host with everything.
void slow_register(X86State& s, u32 fop);

template <class F>
const void* address_of(F* function) {
  return reinterpret_cast<const void*>(function);
}
inline constexpr u32 kX87Effects = ir::READS_STATE | ir::WRITES_STATE | ir::MAY_FAULT;

/// A helper and the register forms fop … fop + count - 1 that it serves.
struct RegisterHelper {
  u32 fop, count;
  ir::Helper helper;
};
template <class F>
RegisterHelper register_helper(u32 fop, u32 count, const char* name, F* function) {
  return {fop, count, {name, address_of(function), ir::Type::Void, {ir::Type::I32}, kX87Effects}};
}
/// Register forms of helpers_x87_math.cpp; null if it has none.
const ir::Helper* math_helper(u32 fop);

}  // namespace kiln::x86::x87
