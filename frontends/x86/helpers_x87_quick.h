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

/// Takes C1 and, with them, the condition codes in `codes` from the host's status word; false if the host has an exception that
/// the guest's FSW lacks.
inline bool take_status(X86State& s, u32 host, u32 codes = 0) {
  if (host & ~s.fsw_rest & kFswExceptions) [[unlikely]]
    return false;
  const u32 taken = kFswC1 | codes;
  s.fsw_rest = (s.fsw_rest & ~taken) | (host & taken);
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
