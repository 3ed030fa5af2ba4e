#include "devices/virtio/pci.h"

namespace kiln::devices {

namespace {
enum CapabilityType : u8 { kCommonCfg = 1, kNotifyCfg = 2, kIsrCfg = 3, kDeviceCfg = 4, kPciCfg = 5 };
enum Common : u64 {
  kDeviceFeatureSelect = 0x00,
  kDeviceFeature = 0x04,
  kDriverFeatureSelect = 0x08,
  kDriverFeature = 0x0c,
  kConfigVector = 0x10,
  kNumQueues = 0x12,
  kDeviceStatus = 0x14,
  kConfigGeneration = 0x15,
  kQueueSelect = 0x16,
  kQueueSize = 0x18,
  kQueueVector = 0x1a,
  kQueueEnable = 0x1c,
  kQueueNotifyOff = 0x1e,
  kQueueDesc = 0x20,
  kQueueDriver = 0x28,
  kQueueDevice = 0x30,
  kCommonEnd = 0x38,
};
constexpr unsigned kBar = 4, kMsixBar = 1;
constexpr u64 kBarBytes = 0x4000, kIsrPage = 0x1000, kDevicePage = 0x2000, kNotifyPage = 0x3000;
constexpr u32 kNotifyMultiplier = 4;
constexpr u16 kNoVector = 0xffff;
constexpr u8 kVendorCapability = 0x09;

u32 class_of(u16 type) {
  switch (type) {
    case 1: return 0x020000;  // Ethernet
    case 2: return 0x010000;  // SCSI storage
    case 3: return 0x078000;  // other communication
    default: return 0x00ff00;
  }
}

/// Width of a field of the common configuration; 4.1.3.1: it is accessed as such, 64-bit ones as halves.
unsigned width(u64 offset) {
  if (offset < kConfigVector || offset >= kQueueDesc) return 4;
  return offset == kDeviceStatus || offset == kConfigGeneration ? 1 : 2;
}

void set_half(u64& target, u64 offset, u32 value) {
  const unsigned shift = (offset & 4) != 0 ? 32 : 0;
  target = (target & ~(u64{0xffffffff} << shift)) | static_cast<u64>(value) << shift;
}
}  // namespace

class VirtioPci::Registers : public MmioDevice {
 public:
  explicit Registers(VirtioPci& owner) : owner_(owner) {}
  u64 read(u64 offset, unsigned bytes) override { return owner_.read_register(offset, bytes); }
  void write(u64 offset, u64 value, unsigned bytes) override { owner_.write_register(offset, value, bytes); }

 private:
  VirtioPci& owner_;
};

VirtioPci::VirtioPci(VirtioDevice& device)
    : PciFunction(0x1af4, static_cast<u16>(0x1040 + device.type()), class_of(device.type()), 1),
      device_(device),
      registers_(std::make_unique<Registers>(*this)) {
  set_subsystem(0x1af4, 0x1100);
  use_interrupt_pin();
  add_bar(kBar, kBarBytes, true, *registers_);
  const auto capability = [&](CapabilityType type, unsigned bytes, u64 page, u64 length) {
    const unsigned at = add_capability(kVendorCapability, bytes);
    set(at + 2, bytes, 1);
    set(at + 3, type, 1);
    set(at + 4, kBar, 1);
    set(at + 8, page, 4);
    set(at + 12, length, 4);
    return at;
  };
  capability(kCommonCfg, 16, 0, kCommonEnd);
  capability(kIsrCfg, 16, kIsrPage, 1);
  capability(kDeviceCfg, 16, kDevicePage, 0x1000);
  const unsigned notify = capability(kNotifyCfg, 20, kNotifyPage, 0x1000);
  set(notify + 16, kNotifyMultiplier, 4);
  window_ = capability(kPciCfg, 20, 0, 0);
  make_writable(window_ + 4, 0xff, 1);         // bar
  make_writable(window_ + 8, ~u64{0}, 8);      // offset, length
  make_writable(window_ + 16, 0xffffffff, 4);  // data
  add_msix(kMsixBar, device.queue_count() + 1);
  device_.connect(*this);
}

VirtioPci::~VirtioPci() = default;

void VirtioPci::was_reset() {
  device_features_select_ = driver_features_select_ = 0;
  queue_select_ = 0;
  config_vector_ = kNoVector;
  isr_ = 0;
  device_.reset();
}

u64 VirtioPci::read_register(u64 offset, unsigned bytes) {
  if (offset >= kNotifyPage) return 0;
  if (offset >= kDevicePage) return device_.read_config(offset - kDevicePage, bytes);
  if (offset >= kIsrPage) {
    if (offset != kIsrPage) return 0;
    const u8 value = isr_;  // reading clears it
    isr_ = 0;
    set_intx(false);
    return value;
  }
  if (bytes == 8) return read_common(offset) | static_cast<u64>(read_common(offset + 4)) << 32;
  return read_common(offset) & mask_low(8 * bytes);
}

void VirtioPci::write_register(u64 offset, u64 value, unsigned bytes) {
  if (offset >= kNotifyPage) return device_.notify(static_cast<u32>((offset - kNotifyPage) / kNotifyMultiplier));
  if (offset >= kDevicePage) return device_.write_config(offset - kDevicePage, value, bytes);
  if (offset >= kIsrPage) return;
  if (bytes == 8 && offset >= kQueueDesc) {
    write_common(offset, static_cast<u32>(value), 4);
    write_common(offset + 4, static_cast<u32>(value >> 32), 4);
  } else {
    write_common(offset, static_cast<u32>(value), bytes);
  }
}

u32 VirtioPci::read_common(u64 offset) {
  switch (offset) {
    case kDeviceFeatureSelect: return device_features_select_;
    case kDeviceFeature:
      return device_features_select_ > 1 ? 0 : static_cast<u32>(device_.offered_features() >> (32 * device_features_select_));
    case kDriverFeatureSelect: return driver_features_select_;
    case kDriverFeature:
      return driver_features_select_ > 1 ? 0 : static_cast<u32>(device_.driver_features() >> (32 * driver_features_select_));
    case kConfigVector: return config_vector_;
    case kNumQueues: return device_.queue_count();
    case kDeviceStatus: return device_.status();
    case kConfigGeneration: return device_.config_generation() & 0xff;
    case kQueueSelect: return queue_select_;
    default: break;
  }
  if (queue_select_ >= device_.queue_count()) return 0;
  const VirtQueue& queue = device_.queue(queue_select_);
  const auto half = [&](u64 value) { return static_cast<u32>((offset & 4) != 0 ? value >> 32 : value); };
  switch (offset & (offset >= kQueueDesc ? ~u64{4} : ~u64{0})) {
    case kQueueSize: return queue.size();
    case kQueueVector: return queue.vector;
    case kQueueEnable: return queue.ready() ? 1 : 0;
    case kQueueNotifyOff: return queue_select_;
    case kQueueDesc: return half(queue.descriptors);
    case kQueueDriver: return half(queue.driver_area);
    case kQueueDevice: return half(queue.device_area);
    default: return 0;
  }
}

void VirtioPci::write_common(u64 offset, u32 value, unsigned bytes) {
  if (offset >= kCommonEnd || bytes != width(offset)) return;
  const auto vector = [&] { return value < device_.queue_count() + 1 ? static_cast<u16>(value) : kNoVector; };
  switch (offset) {
    case kDeviceFeatureSelect: device_features_select_ = value; return;
    case kDriverFeatureSelect: driver_features_select_ = value; return;
    case kDriverFeature: {
      if (driver_features_select_ > 1) return;
      u64 features = device_.driver_features();
      set_half(features, 4 * driver_features_select_, value);
      return device_.set_driver_features(features);
    }
    case kConfigVector: config_vector_ = vector(); return;
    case kDeviceStatus:
      device_.set_status(static_cast<u8>(value));
      if (value != 0) return;
      config_vector_ = kNoVector;
      isr_ = 0;
      return set_intx(false);
    case kQueueSelect: queue_select_ = static_cast<u16>(value); return;
    default: break;
  }
  if (queue_select_ >= device_.queue_count()) return;
  VirtQueue& queue = device_.queue(queue_select_);
  if (offset == kQueueVector) {
    queue.vector = vector();
    return;
  }
  if (queue.ready()) return;  // 4.1.4.3.2: set up before it is enabled, and only a reset ends it
  switch (offset & (offset >= kQueueDesc ? ~u64{4} : ~u64{0})) {
    case kQueueSize: return queue.set_size(value);
    case kQueueEnable: return queue.set_ready(value == 1);
    case kQueueDesc: return set_half(queue.descriptors, offset, value);
    case kQueueDriver: return set_half(queue.driver_area, offset, value);
    case kQueueDevice: return set_half(queue.device_area, offset, value);
    default: return;
  }
}

void VirtioPci::raise(u16 vector, u8 reason) {
  if (msix_enabled()) return send_vector(vector);
  isr_ |= reason;
  set_intx(true);
}

void VirtioPci::queue_interrupt(VirtQueue& queue) { raise(queue.vector, 1); }
void VirtioPci::config_interrupt() { raise(config_vector_, 2); }

bool VirtioPci::window(u64& offset, unsigned& bytes) const {
  offset = get(window_ + 8, 4);
  const u64 length = get(window_ + 12, 4);
  bytes = static_cast<unsigned>(length);
  const bool size = length == 1 || length == 2 || length == 4;
  return get(window_ + 4, 1) == kBar && size && offset % length == 0 && offset < kBarBytes;
}

bool VirtioPci::own_config_read(unsigned offset, unsigned bytes, u32& value) {
  u64 at = 0;
  unsigned length = 0;
  if (offset != window_ + 16 || !window(at, length) || bytes != length) return false;
  value = static_cast<u32>(read_register(at, length));
  return true;
}

void VirtioPci::own_config_written(unsigned offset, unsigned bytes) {
  u64 at = 0;
  unsigned length = 0;
  if (offset == window_ + 16 && window(at, length) && bytes == length) write_register(at, get(window_ + 16, length), length);
}

void VirtioPci::own_state(StateVisitor& v) {
  v("device_features_select", device_features_select_);
  v("driver_features_select", driver_features_select_);
  v("queue_select", queue_select_);
  v("config_vector", config_vector_);
  v("isr", isr_);
  v("device", static_cast<Stateful&>(device_));
}

}  // namespace kiln::devices
