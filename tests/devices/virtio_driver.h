// The guest's side of a virtio-mmio device: rings in fake memory, filled as a driver fills them.
#pragma once
#include "devices/virtio/mmio.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {

class VirtioDriver {
 public:
  struct Buffer {
    u64 address;
    u32 bytes;
    bool writable;
  };
  static constexpr u16 kSize = 16;

  VirtioDriver(VirtioMmio& mmio, FakeDma& dma) : mmio_(mmio), dma_(dma) {}
  u32 get(u64 offset) { return static_cast<u32>(mmio_.read(offset, 4)); }
  void put(u64 offset, u32 value) { mmio_.write(offset, value, 4); }

  /// Up to DRIVER_OK; false if the features are refused.
  bool start(u64 features, u32 queues) {
    put(0x70, 0);
    put(0x70, 3);
    for (u32 half = 0; half < 2; ++half) {
      put(0x24, half);
      put(0x20, static_cast<u32>(features >> (32 * half)));
    }
    put(0x70, 11);
    if ((get(0x70) & 8) == 0) return false;
    rings_.assign(queues, {});
    for (u32 i = 0; i < queues; ++i) {
      put(0x30, i);
      put(0x38, kSize);
      const u64 base = ring(i);
      std::memset(dma_.at(base), 0, 0x1000);
      put(0x80, static_cast<u32>(base));
      put(0x90, static_cast<u32>(base + 0x400));
      put(0xa0, static_cast<u32>(base + 0x800));
      put(0x44, 1);
    }
    put(0x70, 15);
    return true;
  }
  u64 ring(u32 queue) const { return dma_.base + 0x1000 * queue; }
  /// Memory for the test's own use.
  u64 data(u64 offset = 0) const { return dma_.base + 0x10000 + offset; }

  void descriptor(u32 queue, u16 index, u64 address, u32 bytes, u16 flags, u16 next) {
    u8* at = dma_.at(ring(queue) + 16 * index);
    std::memcpy(at, &address, 8);
    std::memcpy(at + 8, &bytes, 4);
    std::memcpy(at + 12, &flags, 2);
    std::memcpy(at + 14, &next, 2);
  }
  /// Makes a chain available from descriptor `head` on, without telling the device.
  void add(u32 queue, u16 head, const std::vector<Buffer>& buffers) {
    for (u16 i = 0; i < buffers.size(); ++i) {
      const bool last = i + 1u == buffers.size();
      descriptor(queue, head + i, buffers[i].address, buffers[i].bytes,
                 static_cast<u16>((last ? 0 : 1) | (buffers[i].writable ? 2 : 0)), static_cast<u16>(head + i + 1));
    }
    make_available(queue, head);
  }
  void make_available(u32 queue, u16 head) {
    u16& index = rings_[queue].available;
    std::memcpy(dma_.at(ring(queue) + 0x404 + 2 * (index % kSize)), &head, 2);
    index += 1;
    std::memcpy(dma_.at(ring(queue) + 0x402), &index, 2);
  }
  void kick(u32 queue) { put(0x50, queue); }
  u16 used(u32 queue) const { return half(ring(queue) + 0x802); }
  /// Length of the `n`th used element.
  u32 used_length(u32 queue, u16 n) const {
    u32 value;
    std::memcpy(&value, dma_.at(ring(queue) + 0x804 + 8 * (n % kSize) + 4), 4);
    return value;
  }
  u16 used_id(u32 queue, u16 n) const { return half(ring(queue) + 0x804 + 8 * (n % kSize)); }
  void set_used_event(u32 queue, u16 value) { std::memcpy(dma_.at(ring(queue) + 0x404 + 2 * kSize), &value, 2); }
  u16 available_event(u32 queue) const { return half(ring(queue) + 0x804 + 8 * kSize); }
  void set_available_flags(u32 queue, u16 value) { std::memcpy(dma_.at(ring(queue) + 0x400), &value, 2); }

 private:
  u16 half(u64 address) const {
    u16 value;
    std::memcpy(&value, dma_.at(address), 2);
    return value;
  }
  struct Ring {
    u16 available = 0;
  };
  VirtioMmio& mmio_;
  FakeDma& dma_;
  std::vector<Ring> rings_;
};

}  // namespace kiln::devices
