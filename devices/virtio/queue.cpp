#include "devices/virtio/queue.h"

#include <algorithm>
#include <atomic>

namespace kiln::devices {

namespace {
enum DescriptorFlags : u16 { kNext = 1, kWrite = 2, kIndirect = 4 };
constexpr u16 kNoInterrupt = 1;  // VIRTQ_AVAIL_F_NO_INTERRUPT

template <class Copy>
bool for_pieces(const std::vector<VirtSegment>& segments, u64 offset, u64 bytes, Copy copy) {
  u64 done = 0;
  for (const VirtSegment& segment : segments) {
    if (done == bytes) return true;
    if (offset >= segment.bytes) {
      offset -= segment.bytes;
      continue;
    }
    const u64 piece = std::min<u64>(segment.bytes - offset, bytes - done);
    if (!copy(segment.address + offset, done, piece)) return false;
    done += piece;
    offset = 0;
  }
  return done == bytes;
}
}  // namespace

u64 VirtChain::total(const std::vector<VirtSegment>& segments) {
  u64 sum = 0;
  for (const VirtSegment& segment : segments) sum += segment.bytes;
  return sum;
}

bool VirtChain::read(DmaPort& dma, u64 offset, void* to, u64 bytes) const {
  return for_pieces(readable, offset, bytes,
                    [&](u64 address, u64 done, u64 piece) { return dma.read(address, static_cast<u8*>(to) + done, piece); });
}

bool VirtChain::write(DmaPort& dma, u64 offset, const void* from, u64 bytes) const {
  return for_pieces(writable, offset, bytes, [&](u64 address, u64 done, u64 piece) {
    return dma.write(address, static_cast<const u8*>(from) + done, piece);
  });
}

void VirtQueue::set_size(u32 size) {
  if (std::has_single_bit(size) && size <= largest_) size_ = static_cast<u16>(size);
}

void VirtQueue::reset() {
  descriptors = driver_area = device_area = 0;
  vector = 0xffff;
  size_ = largest_;
  ready_ = indirect_ = event_index_ = false;
  next_available_ = next_used_ = told_used_ = 0;
}

bool VirtQueue::available_index(DmaPort& dma, u16& index) {
  u64 value = 0;
  if (!dma.load(driver_area + 2, 2, value)) return false;
  index = static_cast<u16>(value);
  return static_cast<u16>(index - next_available_) <= size_;
}

bool VirtQueue::has_available(DmaPort& dma) {
  u16 index = 0;
  return ready_ && available_index(dma, index) && index != next_available_;
}

VirtQueue::Pop VirtQueue::pop(DmaPort& dma, VirtChain& chain) {
  u16 index = 0;
  if (!ready_) return Pop::Empty;
  if (!available_index(dma, index)) return Pop::Broken;
  if (index == next_available_) return Pop::Empty;
  u16 head = 0;
  if (!dma.read_object(driver_area + 4 + 2 * u64{static_cast<u16>(next_available_ % size_)}, head)) return Pop::Broken;
  chain.head = head;
  chain.readable.clear();
  chain.writable.clear();
  if (!collect(dma, chain)) return Pop::Broken;
  next_available_ += 1;
  return Pop::Got;
}

bool VirtQueue::collect(DmaPort& dma, VirtChain& chain) {
  u64 table = descriptors;
  u32 entries = size_;
  u32 index = chain.head;
  bool inside_indirect = false;
  for (unsigned count = 0; count < kMostDescriptors; ++count) {
    Descriptor descriptor{};
    if (index >= entries || !dma.read_object(table + 16 * u64{index}, descriptor)) return false;
    if ((descriptor.flags & kIndirect) != 0) {
      // 2.7.5.3.1: not within another, not with NEXT, whole descriptors.
      if (!indirect_ || inside_indirect || (descriptor.flags & kNext) != 0 || descriptor.bytes == 0 ||
          descriptor.bytes % 16 != 0)
        return false;
      inside_indirect = true;
      table = descriptor.address;
      entries = descriptor.bytes / 16;
      index = 0;
      continue;
    }
    const bool write = (descriptor.flags & kWrite) != 0;
    if (!write && !chain.writable.empty()) return false;  // 2.7.4.2: readable ones come first
    (write ? chain.writable : chain.readable).push_back({descriptor.address, descriptor.bytes});
    if ((descriptor.flags & kNext) == 0) return true;
    index = descriptor.next;
  }
  return false;  // a loop
}

void VirtQueue::push(DmaPort& dma, const VirtChain& chain, u32 written) {
  if (!ready_) return;
  const u32 element[2] = {chain.head, written};
  dma.write(device_area + 4 + 8 * u64{static_cast<u16>(next_used_ % size_)}, element, sizeof element);
  next_used_ += 1;
  dma.store(device_area + 2, 2, next_used_);
}

bool VirtQueue::wants_interrupt(DmaPort& dma) {
  if (!ready_) return false;
  const u16 before = told_used_, now = next_used_;
  told_used_ = now;
  if (before == now) return false;
  // The driver writes its wish and then looks at the used index; we did the reverse.
  std::atomic_thread_fence(std::memory_order_seq_cst);
  u64 value = 0;
  if (event_index_) {
    dma.load(driver_area + 4 + 2 * u64{size_}, 2, value);
    return static_cast<u16>(now - static_cast<u16>(value) - 1) < static_cast<u16>(now - before);
  }
  dma.load(driver_area, 2, value);
  return (value & kNoInterrupt) == 0;
}

bool VirtQueue::rearm(DmaPort& dma) {
  if (!ready_) return false;
  if (event_index_) {
    dma.store(device_area + 4 + 8 * u64{size_}, 2, next_available_);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  return has_available(dma);
}

void VirtQueue::state(StateVisitor& v) {
  v.version(1);
  v("size", size_);
  v("ready", ready_);
  v("indirect", indirect_);
  v("event_index", event_index_);
  v("descriptors", descriptors);
  v("driver_area", driver_area);
  v("device_area", device_area);
  v("vector", vector);
  v("next_available", next_available_);
  v("next_used", next_used_);
  v("told_used", told_used_);
  if (v.restoring() && (!std::has_single_bit(size_) || size_ > largest_)) {
    size_ = largest_;
    v.fail("queue size");
  }
}

}  // namespace kiln::devices
