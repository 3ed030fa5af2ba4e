// What all virtio devices have in common; transports (mmio.h, pci) show it to the guest.
#pragma once
#include <functional>
#include <string>

#include "devices/virtio/queue.h"

namespace kiln::devices {

/// How a device calls its driver; a transport implements it.
class VirtioInterrupts {
 public:
  virtual ~VirtioInterrupts() = default;
  virtual void queue_interrupt(VirtQueue& queue) = 0;
  virtual void config_interrupt() = 0;
};

/// Virtual I/O Device 1.2, chapter 2: features, status, queues, configuration space. A derived class gives what is special to
/// the device type.
class VirtioDevice : public Device {
 public:
  static constexpr u64 kIndirect = u64{1} << 28, kEventIndex = u64{1} << 29, kVersion1 = u64{1} << 32;
  enum Status : u8 { kAcknowledge = 1, kDriver = 2, kDriverOk = 4, kFeaturesOk = 8, kNeedsReset = 0x40, kFailed = 0x80 };

  /// `type`: the device type's number (chapter 5). `queues`: their largest sizes.
  VirtioDevice(DmaPort& dma, u16 type, std::vector<u16> queues);

  /// Where one line about a driver's mistake goes (-d guest_errors).
  void set_log(std::function<void(const std::string&)> log) { log_ = std::move(log); }

  // For the transport.
  void connect(VirtioInterrupts& interrupts) { interrupts_ = &interrupts; }
  u16 type() const { return type_; }
  u64 offered_features() const { return own_features() | kIndirect | kEventIndex | kVersion1; }
  u64 driver_features() const { return driver_features_; }
  void set_driver_features(u64 features);
  u8 status() const { return status_; }
  void set_status(u8 status);
  u32 queue_count() const { return static_cast<u32>(queues_.size()); }
  VirtQueue& queue(u32 index) { return queues_[index]; }
  void notify(u32 index);
  u64 read_config(u64 offset, unsigned bytes) const;
  void write_config(u64 offset, u64 value, unsigned bytes);
  u32 config_generation() const { return config_generation_; }

  void reset() final;
  void state(StateVisitor& visitor) final;

 protected:
  // For the derived class.
  virtual u64 own_features() const = 0;
  /// The device-specific configuration as it stands.
  virtual std::vector<u8> config() const = 0;
  virtual void config_written(u64 offset, u64 value, unsigned bytes) {}
  /// The driver made buffers of queue `index` available. Called with DRIVER_OK only.
  virtual void notified(u32 index) = 0;
  virtual void was_reset() {}
  /// The driver set DRIVER_OK, or a state was restored in which it had.
  virtual void started() {}
  virtual void own_state(StateVisitor& visitor) {}

  bool running() const { return (status_ & (kDriverOk | kNeedsReset)) == kDriverOk; }
  bool has(u64 feature) const { return (driver_features_ & feature) != 0; }
  /// Next chain of a queue; false if there is none. A senseless ring stops the device until it is reset (2.1.2).
  bool pop(u32 index, VirtChain& chain);
  void push(u32 index, const VirtChain& chain, u32 written) { queues_[index].push(dma_, chain, written); }
  /// After one or more push().
  void interrupt(u32 index);
  bool rearm(u32 index) { return running() && queues_[index].rearm(dma_); }
  void config_changed();
  /// The driver asked for something senseless: `why` goes to the log.
  void broken(const char* why);

  DmaPort& dma_;

 private:
  u16 type_;
  std::function<void(const std::string&)> log_;
  std::vector<VirtQueue> queues_;
  VirtioInterrupts* interrupts_ = nullptr;
  u64 driver_features_ = 0;
  u8 status_ = 0;
  u32 config_generation_ = 0;
};

}  // namespace kiln::devices
