// Split virtqueues (Virtual I/O Device 1.2, 2.7).
#pragma once
#include <vector>

#include "devices/bus/dma.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// A piece of guest memory of a descriptor chain.
struct VirtSegment {
  u64 address = 0;
  u32 bytes = 0;
};

/// A buffer that the driver made available: what the device reads, then what it writes. Nothing in it has been checked but the
/// chain's shape; a read or write that leads nowhere fails.
class VirtChain {
 public:
  u16 head = 0;
  std::vector<VirtSegment> readable, writable;

  u64 readable_bytes() const { return total(readable); }
  u64 writable_bytes() const { return total(writable); }
  /// Copies bytes [offset, offset + bytes) of the readable part; false if it is shorter or memory does not answer.
  bool read(DmaPort& dma, u64 offset, void* to, u64 bytes) const;
  bool write(DmaPort& dma, u64 offset, const void* from, u64 bytes) const;

 private:
  static u64 total(const std::vector<VirtSegment>& segments);
};

class VirtQueue : public Stateful {
 public:
  enum class Pop : u8 { Got, Empty, Broken };
  static constexpr unsigned kMostDescriptors = 1024;  // in a chain, indirect ones included

  explicit VirtQueue(u16 largest) : largest_(largest), size_(largest) {}

  // For the transport.
  u16 largest() const { return largest_; }
  u16 size() const { return size_; }
  bool ready() const { return ready_; }
  /// Ignored unless it is a power of two and at most largest().
  void set_size(u32 size);
  void set_ready(bool on) { ready_ = on; }
  u64 descriptors = 0, driver_area = 0, device_area = 0;  // guest-physical
  u16 vector = 0xffff;                                    // MSI-X
  /// How the rings are used from now on, as negotiated.
  void set_features(bool indirect, bool event_index) {
    indirect_ = indirect;
    event_index_ = event_index;
  }
  void reset();

  // For the device.
  /// The next available chain. Broken: the driver's ring makes no sense, which the device answers with DEVICE_NEEDS_RESET.
  Pop pop(DmaPort& dma, VirtChain& chain);
  /// Gives back the chain that was popped last; the next pop finds it again.
  void unpop() { next_available_ -= 1; }
  bool has_available(DmaPort& dma);
  /// Returns a chain to the driver with `written` bytes in its writable part.
  void push(DmaPort& dma, const VirtChain& chain, u32 written);
  /// After push: does the driver want to be interrupted for what was pushed since the last question?
  bool wants_interrupt(DmaPort& dma);
  /// Asks the driver for a notification of the next available buffer; true if there is one already, then none may come.
  bool rearm(DmaPort& dma);
  void state(StateVisitor& visitor) override;

 private:
  struct Descriptor {
    u64 address;
    u32 bytes;
    u16 flags, next;
  };
  bool collect(DmaPort& dma, VirtChain& chain);
  bool available_index(DmaPort& dma, u16& index);

  u16 largest_, size_;
  bool ready_ = false, indirect_ = false, event_index_ = false;
  u16 next_available_ = 0, next_used_ = 0;
  u16 told_used_ = 0;  // the used index at the last wants_interrupt
};

}  // namespace kiln::devices
