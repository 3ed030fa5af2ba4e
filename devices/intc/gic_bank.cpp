#include "devices/intc/gic_bank.h"

namespace kiln::devices {

void GicBank::clear(u32 edge_at_reset) {
  // Lines keep their level: they belong to the devices.
  group = enabled = latch = active = 0;
  edge = edge_at_reset;
  priority = {};
}

void GicBank::set_line(unsigned index, bool level) {
  const u32 mask = u32{1} << index;
  if (level && (line & mask) == 0) latch |= mask & edge;
  line = level ? line | mask : line & ~mask;
}

u32 GicBank::read(u64 block) const {
  switch (block) {
    case kGicIGROUPR: return group;
    case kGicISENABLER:
    case kGicICENABLER: return enabled;
    case kGicISPENDR:
    case kGicICPENDR: return pending();
    default: return active;
  }
}

void GicBank::write(u64 block, u32 value, u32 writable) {
  value &= writable;
  switch (block) {
    case kGicIGROUPR: group = (group & ~writable) | value; break;
    case kGicISENABLER: enabled |= value; break;
    case kGicICENABLER: enabled &= ~value; break;
    case kGicISPENDR: latch |= value; break;
    case kGicICPENDR: latch &= ~value; break;
    case kGicISACTIVER: active |= value; break;
    case kGicICACTIVER: active &= ~value; break;
    default: break;
  }
}

u32 GicBank::read_config(unsigned half) const {
  u32 value = 0;
  for (unsigned i = 0; i < 16; ++i) value |= ((edge >> (16 * half + i)) & 1) << (2 * i + 1);
  return value;
}

void GicBank::write_config(unsigned half, u32 value, u32 writable) {
  u32 wanted = 0;
  for (unsigned i = 0; i < 16; ++i) wanted |= ((value >> (2 * i + 1)) & 1) << (16 * half + i);
  writable &= 0xffffu << (16 * half);
  edge = (edge & ~writable) | (wanted & writable);
}

void GicBank::acknowledge(unsigned index) {
  active |= u32{1} << index;
  latch &= ~(u32{1} << index);
}

void GicBank::best(u32 mask, u32 first_id, GicCandidate& best) const {
  for (u32 left = pending() & enabled & ~active & mask; left != 0; left &= left - 1) {
    const unsigned index = static_cast<unsigned>(std::countr_zero(left));
    if (priority[index] < best.priority) best = {first_id + index, priority[index], bit(group, index)};
  }
}

void GicBank::state(StateVisitor& v) {
  v.version(1);
  v("group", group);
  v("enabled", enabled);
  v("latch", latch);
  v("line", line);
  v("active", active);
  v("edge", edge);
  v("priority", priority);
}

}  // namespace kiln::devices
