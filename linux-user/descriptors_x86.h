// Descriptors that x86 programs make themselves: set_thread_area, modify_ldt (arch/x86/kernel/tls.c, ldt.c).
#pragma once
#include "frontends/x86/user_segments.h"

namespace kiln::user {

/// struct user_desc.
struct UserDesc {
  u32 entry_number, base, limit, flags;
};
inline constexpr u32 kSeg32Bit = 1, kContentsShift = 1, kReadExecOnly = 8, kLimitInPages = 16, kSegNotPresent = 32,
                     kUseable = 64;
constexpr u32 contents(const UserDesc& d) { return d.flags >> kContentsShift & 3; }
constexpr bool is_zero(const UserDesc& d) { return d.base == 0 && d.limit == 0 && (d.flags & 0x7f) == 0; }
constexpr bool is_empty(const UserDesc& d) {
  return d.base == 0 && d.limit == 0 && (d.flags & 0xff) == (kReadExecOnly | kSegNotPresent);
}
u64 make_descriptor(const UserDesc& d);
UserDesc describe(u32 entry, u64 descriptor);

/// A descriptor of the GDT changed: registers that hold its selector are loaded again.
void reload_segments(x86::X86State& s, u32 selector);
/// An empty LDT; costs nothing until something is written.
u64* new_ldt();

}  // namespace kiln::user
