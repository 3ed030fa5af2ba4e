// VMSAv8-64: page-table walks of both stages (Arm ARM D5), what softmmu asks with each miss of its TLB.
#include <algorithm>

#include "frontends/arm/system.h"
#include "frontends/arm/system_internal.h"

namespace kiln::arm {

using ir::Access;
using ir::Translation;

namespace {

constexpr unsigned kOutputBits[8] = {32, 36, 40, 42, 44, 48, 48, 48};  // TCR.IPS, ID_AA64MMFR0.PARange; 52 bits are not there
unsigned physical_bits(const A64SystemState& s) { return kOutputBits[s.id_aa64mmfr0 & 7]; }

/// What TCR says of the range that an address lies in.
struct Range {
  u64 table = 0;             // TTBR
  unsigned input_bits = 0;   // of the virtual address
  unsigned page_shift = 12;  // granule
  unsigned output_bits = 48;
  bool tag_ignored = false, disabled = false, el0_refused = false, upper = false;
  bool no_hierarchy = false;  // HPD
  bool manage_access = false, manage_dirty = false;
};

unsigned granule_of_tg0(u64 tg) { return tg == 1 ? 16 : tg == 2 ? 14 : 12; }
unsigned granule_of_tg1(u64 tg) { return tg == 3 ? 16 : tg == 1 ? 14 : 12; }

/// A granule that the model has not got is taken for 4 KiB (implementation defined).
unsigned granule_there(const A64SystemState& s, unsigned shift) {
  if (shift == 14) return bits(s.id_aa64mmfr0, 20, 4) == 1 ? 14 : 12;
  if (shift == 16) return bits(s.id_aa64mmfr0, 24, 4) == 0 ? 16 : 12;
  return shift;
}

unsigned regime_of(unsigned el) { return el == 0 ? 1 : el; }

Range range_of(const A64SystemState& s, GuestAddr address, unsigned el) {
  const unsigned regime = regime_of(el);
  const u64 tcr = s.tcr_el[regime];
  const bool two_ranges = regime == 1;
  Range r;
  r.upper = two_ranges && bit(address, 55);
  unsigned size, output;
  if (two_ranges) {
    size = static_cast<unsigned>(bits(tcr, r.upper ? 16 : 0, 6));
    r.page_shift = r.upper ? granule_of_tg1(bits(tcr, 30, 2)) : granule_of_tg0(bits(tcr, 14, 2));
    r.tag_ignored = bit(tcr, r.upper ? 38 : 37);
    r.disabled = bit(tcr, r.upper ? 23 : 7);
    r.el0_refused = el == 0 && bits(s.id_aa64mmfr2, 60, 4) != 0 && bit(tcr, r.upper ? 56 : 55);
    r.no_hierarchy = bit(tcr, r.upper ? 42 : 41);
    r.manage_access = bit(tcr, 39);
    r.manage_dirty = bit(tcr, 40);
    r.table = r.upper ? s.ttbr1_el1 : s.ttbr0_el[1];
    output = static_cast<unsigned>(bits(tcr, 32, 3));
  } else {
    size = static_cast<unsigned>(bits(tcr, 0, 6));
    r.page_shift = granule_of_tg0(bits(tcr, 14, 2));
    r.tag_ignored = bit(tcr, 20);
    r.no_hierarchy = bit(tcr, 24);
    r.manage_access = bit(tcr, 21);
    r.manage_dirty = bit(tcr, 22);
    r.table = s.ttbr0_el[regime];
    output = static_cast<unsigned>(bits(tcr, 16, 3));
  }
  if (bits(s.id_aa64mmfr1, 12, 4) == 0) r.no_hierarchy = false;
  const u64 hafdbs = bits(s.id_aa64mmfr1, 0, 4);
  if (hafdbs < 1) r.manage_access = false;
  if (hafdbs < 2) r.manage_dirty = false;
  r.page_shift = granule_there(s, r.page_shift);
  r.input_bits = 64 - std::clamp(size, 16u, 39u);
  r.output_bits = std::min(kOutputBits[output], physical_bits(s));
  return r;
}

struct Descriptor {
  u64 word = 0, address = 0;  // address: where it lies
  unsigned level = 0, shift = 0;
  u64 hierarchy = 0;  // bits 63..59 of the tables on the way
  u64 base() const { return word & mask_low(48) & ~mask_low(shift); }
};

constexpr u64 kValid = 1, kTableOrPage = 2, kAf = 1 << 10, kNg = 1 << 11, kApReadOnly = 1 << 7, kApUser = 1 << 6,
              kDbm = u64{1} << 51, kPxn = u64{1} << 53, kXn = u64{1} << 54;

/// Follows the tables from `base` at `level` down to a block or page. False: out.status says why. `locate` makes the physical
/// address of a descriptor out of what the tables say (stage 2 of stage 1's walks).
template <class Locate>
bool descend(ir::PhysicalMemory& memory, u64 input, unsigned input_bits, unsigned page_shift, unsigned output_bits,
             unsigned level, u64 base, bool hierarchy, Descriptor& d, Walk& out, Locate&& locate) {
  const unsigned stride = page_shift - 3;
  const auto fail = [&](u32 status) {
    out.status = status;
    return false;
  };
  if (base >> output_bits) return fail(kAddressSize);
  for (unsigned top = input_bits;; ++level) {
    d.level = level;
    d.shift = page_shift + stride * (3 - level);
    const u64 index = bits(input, d.shift, top - d.shift);
    top = d.shift;
    u64 address = base + index * 8;
    if (!locate(address)) return false;
    if (!memory.load(address, 8, d.word)) return fail(kExternalAbortOnWalk | level);
    d.address = address;
    if (!(d.word & kValid)) return fail(kTranslationFault | level);
    if (level == 3) {
      if (!(d.word & kTableOrPage)) return fail(kTranslationFault | level);
      break;
    }
    if (!(d.word & kTableOrPage)) {
      if (level == 0 || (level == 1 && page_shift != 12)) return fail(kTranslationFault | level);
      break;
    }
    base = d.word & mask_low(48) & ~mask_low(page_shift);
    if (base >> output_bits) return fail(kAddressSize | level);
    if (hierarchy) d.hierarchy |= d.word & (u64{31} << 59);
  }
  if (d.base() >> output_bits) return fail(kAddressSize | d.level);
  return true;
}

/// Sets bits of a descriptor in memory as the hardware does. False: it has changed meanwhile, and the walk is to begin again.
bool update(ir::PhysicalMemory& memory, Descriptor& d, u64 word) {
  if (!memory.compare_exchange(d.address, 8, d.word, word)) return false;
  d.word = word;
  return true;
}

/// An intermediate physical address to a physical one. `walking`: of a stage 1 descriptor.
bool stage2(A64SystemState& s, ir::PhysicalMemory& memory, u64 ipa, Access access, bool walking, Walk& out, Translation& to,
            u8& attributes) {
  const u64 vtcr = s.vtcr_el2;
  const unsigned page_shift = granule_there(s, granule_of_tg0(bits(vtcr, 14, 2))), stride = page_shift - 3;
  const unsigned input_bits = 64 - std::clamp(static_cast<unsigned>(vtcr & 63), 16u, 39u);
  const unsigned sl0 = static_cast<unsigned>(bits(vtcr, 6, 2));
  const unsigned level = page_shift == 12 ? 2 - std::min(sl0, 2u) : 3 - sl0;
  const auto fail = [&](u32 status) {
    out.status = status;
    out.stage2 = true;
    out.on_walk = walking;
    out.ipa = ipa;
    return false;
  };
  if (ipa >> input_bits) return fail(kTranslationFault);
  const unsigned first_bits = input_bits - (page_shift + stride * (3 - level));
  const u64 base = s.vttbr_el2 & mask_low(48) & ~mask_low(first_bits + 3);
  for (;;) {
    Descriptor d;
    const unsigned output_bits = std::min(kOutputBits[bits(vtcr, 16, 3)], physical_bits(s));
    if (!descend(memory, ipa, input_bits, page_shift, output_bits, level, base, false, d, out, [](u64&) { return true; }))
      return fail(out.status);
    if (!(d.word & kAf)) {
      if (!bit(vtcr, 21)) return fail(kAccessFlag | d.level);
      if (!update(memory, d, d.word | kAf)) continue;
    }
    const bool readable = d.word & kApUser, executable = readable && !(d.word & kXn);
    bool writable = d.word & kApReadOnly;  // S2AP is not inverted
    if (!writable && access == Access::Store && !walking && bit(vtcr, 22) && (d.word & kDbm)) {
      if (!update(memory, d, d.word | kApReadOnly)) continue;
      writable = true;
    }
    attributes = static_cast<u8>(bits(d.word, 2, 4));
    const bool device = (attributes >> 2) == 0;
    const bool allowed = walking                   ? readable && !(device && (s.hcr_el2 & kHcrPtw))
                         : access == Access::Load  ? readable
                         : access == Access::Store ? writable
                                                   : executable;
    if (!allowed) return fail(kPermission | d.level);
    to.physical = d.base() | (ipa & mask_low(d.shift));
    to.page_bytes = u64{1} << d.shift;
    to.readable = readable;
    to.writable = writable;
    to.executable = executable;
    to.device = device;
    return true;
  }
}

bool is_device(u8 attributes) { return (attributes & 0xf0) == 0; }

/// Fills in the rights of a stage 1 leaf. False: a permission fault for `access`.
bool rights(const A64SystemState& s, const Descriptor& d, Access access, unsigned el, bool pan, Translation& to) {
  const unsigned regime = regime_of(el);
  const bool wxn = s.sctlr_el[regime] & kSctlrWxn;
  const bool read_only = (d.word & kApReadOnly) || bit(d.hierarchy, 62);
  if (regime != 1) {
    to.readable = true;
    to.writable = !read_only;
    to.executable = !(d.word & kXn) && !bit(d.hierarchy, 60) && !(wxn && to.writable);
  } else {
    const bool user = (d.word & kApUser) && !bit(d.hierarchy, 61);
    const bool user_writes = user && !read_only;
    if (el == 0) {
      to.readable = user;
      to.writable = user_writes;
      to.executable = !(d.word & kXn) && !bit(d.hierarchy, 60) && !(wxn && user_writes);
    } else {
      to.readable = !(user && pan);
      to.writable = !read_only && !(user && pan);
      to.executable = !(d.word & kPxn) && !bit(d.hierarchy, 59) && !user_writes && !(wxn && !read_only);
    }
  }
  return access == Access::Load ? to.readable : access == Access::Store ? to.writable : to.executable;
}

/// Stage 1 is off: addresses are themselves.
void flat(const A64SystemState& s, GuestAddr address, Access access, unsigned el, Walk& out) {
  const u64 untagged = tag_ignored(s, address, el) ? address & mask_low(56) : address;
  if (untagged >> physical_bits(s)) {
    out.status = kAddressSize;
    return;
  }
  out.to = {
      .physical = untagged, .page_bytes = u64{1} << 30, .readable = true, .writable = true, .executable = true, .global = true};
  // Data accesses are to device memory then, which lifted code checks by itself (kModeAlign) and quickly.
  out.to.device = false;
  const bool cached = regime_of(el) == 1 && (hcr_of(s) & kHcrDc);
  out.attributes = cached || (access == Access::Fetch && (s.sctlr_el[regime_of(el)] & kSctlrI)) ? 0xff : 0;
  out.shareability = 2;
}

}  // namespace

bool tag_ignored(const A64SystemState& s, GuestAddr address, unsigned el) {
  const unsigned regime = regime_of(el);
  return bit(s.tcr_el[regime], regime != 1 ? 20 : bit(address, 55) ? 38 : 37);
}

Walk walk(A64SystemState& s, ir::PhysicalMemory& memory, GuestAddr address, Access access, unsigned el, bool pan, bool both) {
  Walk out;
  const unsigned regime = regime_of(el);
  const bool two_stages = regime == 1 && s.has_el2 && (s.hcr_el2 & (kHcrVm | kHcrDc));
  const bool stage1_on = (s.sctlr_el[regime] & kSctlrM) && !(regime == 1 && (hcr_of(s) & (kHcrDc | kHcrTge)));
  if (!stage1_on) {
    flat(s, address, access, el, out);
    if (!out.ok()) return out;
  } else {
    const Range r = range_of(s, address, el);
    const unsigned top = r.tag_ignored ? 56 : 64;
    const u64 outside = address >> r.input_bits & mask_low(top - r.input_bits);
    if (r.disabled || r.el0_refused || outside != (r.upper ? mask_low(top - r.input_bits) : 0)) {
      out.status = kTranslationFault;
      return out;
    }
    const unsigned stride = r.page_shift - 3;
    const unsigned levels = (r.input_bits - r.page_shift + stride - 1) / stride, level = 4 - levels;
    const unsigned first_bits = r.input_bits - (r.page_shift + stride * (3 - level));
    const u64 base = r.table & mask_low(48) & ~mask_low(first_bits + 3) & ~u64{1};
    const auto locate = [&](u64& at) {
      if (!two_stages || !(s.hcr_el2 & kHcrVm)) return true;
      Translation to;
      u8 attributes;
      if (!stage2(s, memory, at, Access::Load, true, out, to, attributes)) return false;
      at = to.physical;
      return true;
    };
    for (;;) {
      Descriptor d;
      if (!descend(memory, address & mask_low(r.input_bits), r.input_bits, r.page_shift, r.output_bits, level, base,
                   !r.no_hierarchy, d, out, locate))
        return out;
      if (!(d.word & kAf)) {
        if (!r.manage_access) {
          out.status = kAccessFlag | d.level;
          return out;
        }
        if (!update(memory, d, d.word | kAf)) continue;
      }
      // A clean page that the hardware may mark dirty: writable for the access that does it.
      if (access == Access::Store && r.manage_dirty && (d.word & kDbm) && (d.word & kApReadOnly)) {
        Descriptor dirty = d;
        dirty.word &= ~kApReadOnly;
        if (rights(s, dirty, access, el, pan, out.to) && !update(memory, d, dirty.word)) continue;
      }
      const u64 within = address & mask_low(d.shift);
      out.to.physical = d.base() | within;
      out.to.page_bytes = u64{1} << d.shift;
      out.to.global = regime != 1 || !(d.word & kNg);
      out.attributes = static_cast<u8>(s.mair_el[regime] >> (8 * bits(d.word, 2, 3)));
      out.to.device = is_device(out.attributes);
      out.shareability = static_cast<u8>(bits(d.word, 8, 2));
      if (!rights(s, d, access, el, pan, out.to)) {
        out.status = kPermission | d.level;
        return out;
      }
      break;
    }
  }
  if (!both || !two_stages || !(s.hcr_el2 & kHcrVm)) return out;
  Translation second;
  u8 attributes = 0;
  if (!stage2(s, memory, out.to.physical, access, false, out, second, attributes)) return out;
  out.to.physical = second.physical;
  out.to.page_bytes = std::min(out.to.page_bytes, second.page_bytes);
  out.to.readable &= second.readable;
  out.to.writable &= second.writable;
  out.to.executable &= second.executable;
  out.to.device |= second.device;
  out.to.global = false;  // TLBI of stage 2 and changes of VMID go by address space
  if (second.device) out.attributes = 0;
  return out;
}

bool translate(ir::CpuState* state, ir::PhysicalMemory& memory, GuestAddr address, Access access, unsigned mmu_index,
               Translation& out) {
  A64SystemState& s = system_state(state);
  const bool cache_instruction = s.cache_maintenance;
  s.cache_maintenance = 0;
  const bool user = mmu_index == 0 || (mmu_index == 2 && !s.has_pan);
  const unsigned el = user ? 0 : mmu_index == 3 ? std::max(2u, static_cast<unsigned>(s.el)) : 1;
  Walk found = walk(s, memory, address, access, el, mmu_index == 2);
  if (access == Access::Fetch && el == 1 && !bit(address, 55)) s.low_fetch = 1;
  if (found.ok()) {
    // TLBs know addresses with their tags, invalidations come without: TLBI looks at this.
    if (address >> 56 != 0 && address >> 56 != 0xff && tag_ignored(s, address, el)) s.tlb_tagged = 1;
    out = found.to;
    return true;
  }
  const bool fetch = access == Access::Fetch;
  state->exit_kind = static_cast<u32>(fetch ? ir::ExitKind::FetchFault : ir::ExitKind::Fault);
  state->exit_value = address;
  state->exit_aux = kAuxFault | found.status;
  if (cache_instruction) state->exit_aux |= kIssCache | kIssWrite;
  else if (access == Access::Store) state->exit_aux |= kIssWrite;
  if (found.stage2) {
    state->exit_aux |= kAuxStage2 | (found.on_walk ? u32{kIssStage1Walk} : 0);
    s.hpfar_el2 = found.ipa >> 12 << 4;
  }
  return false;
}

void bus_error(ir::CpuState* state, GuestAddr address, Access access, bool misaligned) {
  state->exit_kind = static_cast<u32>(access == Access::Fetch ? ir::ExitKind::FetchFault : ir::ExitKind::Fault);
  state->exit_value = address;
  state->exit_aux =
      kAuxFault | (misaligned ? kAlignmentFault : kExternalAbort) | (access == Access::Store ? u32{kIssWrite} : 0);
}

u64 current_asid(const A64SystemState& s) {
  const u64 ttbr = bit(s.tcr_el[1], 22) ? s.ttbr1_el1 : s.ttbr0_el[1];
  return ttbr >> 48 & (bit(s.tcr_el[1], 36) ? 0xffff : 0xff);
}

void use_user_asid(A64SystemState& s) {
  const u64 asid = current_asid(s);
  if (asid == s.tlb_asid_user) return;
  s.tlb_asid_user = asid;
  ir::port(&s).flush_tlb({.scope = ir::TlbFlush::Scope::Space, .indices = 1}, false);
}

void use_kernel_asid(A64SystemState& s) {
  const u64 asid = current_asid(s);
  if (asid != s.tlb_asid_kernel) {
    s.tlb_asid_kernel = asid;
    ir::port(&s).flush_tlb({.scope = ir::TlbFlush::Scope::Space, .indices = 1 << 1 | 1 << 2}, false);
  }
  if (s.has_pan) use_user_asid(s);  // LDTR and STTR share EL0's index
  context_changed(s);
}

void address_space_written(A64SystemState& s) { context_changed(s); }

void ttbr0_written(A64SystemState& s) {
  // What EL1 has fetched from the lower half was not told apart by TTBR0 (space_of).
  if (s.low_fetch) ir::port(&s).flush_tlb({.scope = ir::TlbFlush::Scope::NonGlobal}, false);
  s.low_fetch = 0;
  address_space_written(s);
}

}  // namespace kiln::arm
