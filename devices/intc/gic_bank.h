// What the distributors of GICv2 and GICv3 have in common: 32 interrupts with their register bits, and the priority arithmetic
// of a CPU interface.
#pragma once
#include "devices/bus/irq.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// Implemented priority bits: 7:3, 32 levels, as the GIC-400 and GIC-500 have.
constexpr u8 kGicPriorityMask = 0xf8;
constexpr u8 kGicIdle = 0xff;  // the running priority when nothing is active
constexpr u32 kGicSpurious = 1023;

/// Register blocks with one bit an interrupt; an offset's block is `offset & ~0x7f` (Arm IHI 0048, 4.3; IHI 0069, 12.9).
enum GicBlock : u64 {
  kGicIGROUPR = 0x080,
  kGicISENABLER = 0x100,
  kGicICENABLER = 0x180,
  kGicISPENDR = 0x200,
  kGicICPENDR = 0x280,
  kGicISACTIVER = 0x300,
  kGicICACTIVER = 0x380,
};

/// The most urgent interrupt found so far.
struct GicCandidate {
  u32 id = kGicSpurious;
  u8 priority = kGicIdle;
  bool group1 = false;
};

/// Interrupts 32n .. 32n+31.
struct GicBank : Stateful {
  u32 group = 0, enabled = 0, latch = 0, line = 0, active = 0, edge = 0;
  std::array<u8, 32> priority{};

  /// Level-sensitive interrupts are pending while their line is high, or by a store to ISPENDR; edge-triggered ones are
  /// latched.
  u32 pending() const { return latch | (line & ~edge); }
  void clear(u32 edge_at_reset);
  void set_line(unsigned index, bool level);
  u32 read(u64 block) const;
  /// `writable`: which of the bits a store may change.
  void write(u64 block, u32 value, u32 writable);
  /// ICFGR: two bits an interrupt, `half` 0 or 1.
  u32 read_config(unsigned half) const;
  void write_config(unsigned half, u32 value, u32 writable);
  /// Pending becomes active.
  void acknowledge(unsigned index);
  /// The lowest priority value among what is pending, enabled, not active and in `mask`.
  void best(u32 mask, u32 first_id, GicCandidate& best) const;
  void state(StateVisitor& visitor) override;
};

/// The active priorities of one group of a CPU interface (APR0): a bit a level.
struct GicActivePriorities {
  u32 bits = 0;
  u8 running() const { return bits == 0 ? kGicIdle : static_cast<u8>(std::countr_zero(bits) << 3); }
  void raise(u8 group_priority) { bits |= u32{1} << (group_priority >> 3); }
  void drop() { bits &= bits - 1; }
};

/// The part of a priority that preempts, for a binary point of 0..7 (Arm IHI 0048, table 3-2).
constexpr u8 gic_group_priority(u8 priority, unsigned binary_point) {
  return static_cast<u8>(priority & (0xfe << binary_point));
}

}  // namespace kiln::devices
