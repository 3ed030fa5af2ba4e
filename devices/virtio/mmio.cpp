#include "devices/virtio/mmio.h"

namespace kiln::devices {

namespace {
enum Offset : u64 {
  kMagicValue = 0x000,
  kVersion = 0x004,
  kDeviceID = 0x008,
  kVendorID = 0x00c,
  kDeviceFeatures = 0x010,
  kDeviceFeaturesSel = 0x014,
  kDriverFeatures = 0x020,
  kDriverFeaturesSel = 0x024,
  kQueueSel = 0x030,
  kQueueNumMax = 0x034,
  kQueueNum = 0x038,
  kQueueReady = 0x044,
  kQueueNotify = 0x050,
  kInterruptStatus = 0x060,
  kInterruptACK = 0x064,
  kStatus = 0x070,
  kQueueDescLow = 0x080,
  kQueueDriverLow = 0x090,
  kQueueDeviceLow = 0x0a0,
  kSHMLenLow = 0x0b0,
  kSHMBaseHigh = 0x0bc,
  kConfigGeneration = 0x0fc,
  kConfig = 0x100,
};
enum Interrupt : u32 { kUsedBuffer = 1, kConfigChange = 2 };

void set_half(u64& target, u64 offset, u32 value) {
  const unsigned shift = (offset & 4) != 0 ? 32 : 0;
  target = (target & ~(u64{0xffffffff} << shift)) | static_cast<u64>(value) << shift;
}
}  // namespace

VirtioMmio::VirtioMmio(IrqLine& line, VirtioDevice* device) : line_(line), device_(device) {
  if (device_ != nullptr) device_->connect(*this);
}

void VirtioMmio::reset() {
  device_features_select_ = driver_features_select_ = queue_select_ = interrupt_status_ = 0;
  if (device_ != nullptr) device_->reset();
  update();
}

void VirtioMmio::queue_interrupt(VirtQueue&) {
  interrupt_status_ |= kUsedBuffer;
  update();
}

void VirtioMmio::config_interrupt() {
  interrupt_status_ |= kConfigChange;
  update();
}

u64 VirtioMmio::read(u64 offset, unsigned bytes) {
  if (offset >= kConfig) return device_ != nullptr ? device_->read_config(offset - kConfig, bytes) : 0;
  // 4.2.2.2: the registers take aligned words only.
  return bytes == 4 ? read_register(offset) : 0;
}

void VirtioMmio::write(u64 offset, u64 value, unsigned bytes) {
  if (device_ == nullptr) return;
  if (offset >= kConfig) device_->write_config(offset - kConfig, value, bytes);
  else if (bytes == 4) write_register(offset, static_cast<u32>(value));
}

u32 VirtioMmio::read_register(u64 offset) const {
  switch (offset) {
    case kMagicValue: return 0x74726976;
    case kVersion: return 2;
    case kDeviceID: return device_ != nullptr ? device_->type() : 0;
    case kVendorID: return 0x4e4c494b;
    default: break;
  }
  if (device_ == nullptr) return 0;
  const bool there = queue_select_ < device_->queue_count();
  switch (offset) {
    case kDeviceFeatures:
      return device_features_select_ > 1 ? 0 : static_cast<u32>(device_->offered_features() >> (32 * device_features_select_));
    case kQueueNumMax: return there ? device_->queue(queue_select_).largest() : 0;
    case kQueueReady: return there && device_->queue(queue_select_).ready() ? 1 : 0;
    case kInterruptStatus: return interrupt_status_;
    case kStatus: return device_->status();
    case kConfigGeneration: return device_->config_generation();
    default: break;
  }
  return offset >= kSHMLenLow && offset <= kSHMBaseHigh ? ~u32{0} : 0;  // no shared memory regions
}

void VirtioMmio::write_register(u64 offset, u32 value) {
  switch (offset) {
    case kDeviceFeaturesSel: device_features_select_ = value; return;
    case kDriverFeaturesSel: driver_features_select_ = value; return;
    case kDriverFeatures: {
      if (driver_features_select_ > 1) return;
      u64 features = device_->driver_features();
      set_half(features, 4 * driver_features_select_, value);
      return device_->set_driver_features(features);
    }
    case kQueueSel: queue_select_ = value; return;
    case kQueueNotify: return device_->notify(value & 0xffff);
    case kInterruptACK: interrupt_status_ &= ~value; return update();
    case kStatus:
      device_->set_status(static_cast<u8>(value));
      if (value == 0) {
        interrupt_status_ = 0;
        update();
      }
      return;
    default: break;
  }
  if (queue_select_ >= device_->queue_count()) return;
  VirtQueue& queue = device_->queue(queue_select_);
  if (offset == kQueueReady) return queue.set_ready((value & 1) != 0);
  if (queue.ready()) return;  // 4.2.3.2: set up before it is made ready
  if (offset == kQueueNum) return queue.set_size(value);
  switch (offset & ~u64{4}) {
    case kQueueDescLow: return set_half(queue.descriptors, offset, value);
    case kQueueDriverLow: return set_half(queue.driver_area, offset, value);
    case kQueueDeviceLow: return set_half(queue.device_area, offset, value);
    default: return;
  }
}

void VirtioMmio::state(StateVisitor& v) {
  v.version(1);
  v("device_features_select", device_features_select_);
  v("driver_features_select", driver_features_select_);
  v("queue_select", queue_select_);
  v("interrupt_status", interrupt_status_);
  if (device_ != nullptr) v("device", *device_);
  if (v.restoring()) update();
}

}  // namespace kiln::devices
