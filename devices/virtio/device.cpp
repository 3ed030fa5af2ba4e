#include "devices/virtio/device.h"

namespace kiln::devices {

VirtioDevice::VirtioDevice(DmaPort& dma, u16 type, std::vector<u16> queues) : dma_(dma), type_(type) {
  for (const u16 largest : queues) queues_.emplace_back(largest);
}

void VirtioDevice::set_driver_features(u64 features) {
  if ((status_ & kFeaturesOk) == 0) driver_features_ = features;
}

void VirtioDevice::set_status(u8 status) {
  if (status == 0) return reset();
  const u8 added = status & ~status_;
  if ((added & kFeaturesOk) != 0) {
    // Refused by leaving the bit clear (3.1.1). Drivers of before 1.0 are not served.
    if ((driver_features_ & ~offered_features()) != 0 || !has(kVersion1)) status &= ~kFeaturesOk;
    for (VirtQueue& queue : queues_) queue.set_features(has(kIndirect), has(kEventIndex));
  }
  status_ = static_cast<u8>(status | (status_ & kNeedsReset));
  if ((added & kDriverOk) != 0 && running()) {
    started();
    // Buffers may have been made available before.
    for (u32 i = 0; i < queue_count(); ++i) notify(i);
  }
}

void VirtioDevice::notify(u32 index) {
  if (index < queue_count() && running()) notified(index);
}

u64 VirtioDevice::read_config(u64 offset, unsigned bytes) const {
  const std::vector<u8> all = config();
  u64 value = 0;
  for (unsigned i = 0; i < bytes; ++i)
    if (offset + i < all.size()) value |= static_cast<u64>(all[offset + i]) << (8 * i);
  return value;
}

void VirtioDevice::write_config(u64 offset, u64 value, unsigned bytes) { config_written(offset, value, bytes); }

void VirtioDevice::reset() {
  for (VirtQueue& queue : queues_) queue.reset();
  driver_features_ = 0;
  status_ = 0;
  was_reset();
}

bool VirtioDevice::pop(u32 index, VirtChain& chain) {
  if (!running()) return false;
  const VirtQueue::Pop result = queues_[index].pop(dma_, chain);
  if (result == VirtQueue::Pop::Broken) broken("its ring makes no sense");
  return result == VirtQueue::Pop::Got;
}

void VirtioDevice::interrupt(u32 index) {
  if (running() && queues_[index].wants_interrupt(dma_) && interrupts_ != nullptr) interrupts_->queue_interrupt(queues_[index]);
}

void VirtioDevice::config_changed() {
  config_generation_ += 1;
  if ((status_ & kDriverOk) != 0 && interrupts_ != nullptr) interrupts_->config_interrupt();
}

void VirtioDevice::broken(const char* why) {
  if (log_) log_(std::string("a driver's mistake: ") + why);
  status_ |= kNeedsReset;
  config_changed();
}

void VirtioDevice::state(StateVisitor& v) {
  v.version(1);
  v("driver_features", driver_features_);
  v("status", status_);
  v("config_generation", config_generation_);
  for (VirtQueue& queue : queues_) v("queue", queue);
  own_state(v);
  if (v.restoring() && !v.failed() && running()) started();
}

}  // namespace kiln::devices
