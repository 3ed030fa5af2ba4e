// Segment registers of user mode on Linux: what a selector means without a GDT in memory. The kernel's descriptors are constants, a
// thread has three of its own in the GDT (set_thread_area), a process has an LDT (modify_ldt); linux-user keeps both kinds in
// X86State, MOV/POP Sreg, LDS …, far transfers, LAR, LSL, VERR and VERW read them here.
#pragma once
#include "frontends/x86/x86.h"

namespace kiln::x86 {

/// Selectors of a 64-bit Linux kernel's GDT (arch/x86/include/asm/segment.h).
inline constexpr u32 kUser32Code = 0x23, kUserData = 0x2b, kUser64Code = 0x33;
inline constexpr u32 kFirstTlsEntry = 12;   // three entries: selectors 0x63, 0x6b, 0x73
inline constexpr u32 kCpuNumberEntry = 15;  // its limit holds the processor's number
inline constexpr u32 kLdtEntries = 8192;

/// Fields of a descriptor (SDM vol. 3, 3.4.5).
constexpr u32 descriptor_base(u64 d) { return static_cast<u32>((d >> 16 & 0xffffff) | (d >> 56) << 24); }
constexpr u32 descriptor_rights(u64 d) { return static_cast<u32>(d >> 40 & 0xffff) & 0xf0ff; }
constexpr u32 descriptor_limit(u64 d) {
  const u32 limit = static_cast<u32>((d & 0xffff) | (d >> 32 & 0xf0000));
  return (d >> 55 & 1) ? limit << 12 | 0xfff : limit;  // G
}
constexpr bool descriptor_present(u64 d) { return (d >> 47 & 1) != 0; }
constexpr bool descriptor_is_segment(u64 d) { return (d >> 44 & 1) != 0; }  // S: code or data, no gate or system segment
constexpr bool descriptor_is_code(u64 d) { return (d >> 43 & 1) != 0; }
constexpr u32 descriptor_dpl(u64 d) { return static_cast<u32>(d >> 45 & 3); }

/// CodeSize of a code segment with these rights: L, else D/B.
constexpr u32 descriptor_code_size(u32 rights) { return rights >> 13 & 1 ? 2 : rights >> 14 & 1; }

/// The descriptor a selector names; 0 if the table does not reach that far or the entry is empty.
inline u64 user_descriptor(const X86State& state, u32 selector) {
  const u32 index = (selector & 0xffff) >> 3;
  if (selector & 4) return state.ldt && index < kLdtEntries ? __atomic_load_n(&state.ldt[index], __ATOMIC_RELAXED) : 0;
  if (index >= kFirstTlsEntry && index < kFirstTlsEntry + 3) return state.gdt_tls[index - kFirstTlsEntry];
  switch (index) {
    case kUser32Code >> 3: return 0x00cffb000000ffff;
    case kUserData >> 3: return 0x00cff3000000ffff;
    case kUser64Code >> 3: return 0x00affb000000ffff;
    case kCpuNumberEntry: return 0x0040f50000000000;
    default: return 0;
  }
}

/// Loads DS, ES, FS, GS or SS in protected mode at CPL 3 (SDM vol. 2, MOV, "loading a segment register"). 0, or the trap_value() of
/// the exception.
inline u64 load_user_segment(X86State& state, Seg seg, u32 selector) {
  selector &= 0xffff;
  const u32 error = selector & ~u32{3};
  if (error == 0) {  // null selector
    if (seg == SS) return trap_value(kGP, 0);
    set_segment(state, seg, selector, 0);
    state.seg_limit[seg] = 0;
    state.seg_rights[seg] = 0;
    return 0;
  }
  const u64 d = user_descriptor(state, selector);
  if (d == 0 || !descriptor_is_segment(d)) return trap_value(kGP, error);
  const bool code = descriptor_is_code(d), readable_or_writable = (d >> 41 & 1) != 0, conforming = code && (d >> 42 & 1);
  if (seg == SS) {
    if (code || !readable_or_writable || (selector & 3) != 3 || descriptor_dpl(d) != 3) return trap_value(kGP, error);
    if (!descriptor_present(d)) return trap_value(x86::kSS, error);
  } else {
    if (code && !readable_or_writable) return trap_value(kGP, error);
    if (!conforming && descriptor_dpl(d) != 3) return trap_value(kGP, error);
    if (!descriptor_present(d)) return trap_value(kNP, error);
  }
  set_segment(state, seg, selector, descriptor_base(d));
  state.seg_limit[seg] = descriptor_limit(d);
  state.seg_rights[seg] = descriptor_rights(d) | 1;  // accessed
  return 0;
}

}  // namespace kiln::x86
