#include "devices/pci/function.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum Offset : unsigned {
  kVendor = 0x00,
  kDevice = 0x02,
  kCommand = 0x04,
  kStatus = 0x06,
  kRevision = 0x08,
  kClass = 0x09,
  kCacheLine = 0x0c,
  kBar0 = 0x10,
  kSubsystemVendor = 0x2c,
  kCapabilities = 0x34,
  kInterruptLine = 0x3c,
  kInterruptPin = 0x3d
};
enum Command : u16 { kMemorySpace = 2, kBusMaster = 4, kInterruptDisable = 0x400 };
enum Status : u16 { kInterruptStatus = 8, kCapabilityList = 0x10 };
constexpr u8 kMsixId = 0x11;
constexpr u64 kPendingOffset = 0x800;  // of the pending bits in the MSI-X BAR
constexpr u8 kFunctionMask = 0x40;     // of the message control's high byte
}  // namespace

/// The BAR of the MSI-X table: 16 bytes a vector, then the pending bits.
class PciFunction::MsixTable : public MmioDevice {
 public:
  explicit MsixTable(PciFunction& function) : function_(function) {}
  u64 read(u64 offset, unsigned bytes) override {
    if (bytes == 8) return word(offset) | static_cast<u64>(word(offset + 4)) << 32;
    return (word(offset & ~u64{3}) >> (8 * (offset & 3))) & mask_low(8 * bytes);
  }
  void write(u64 offset, u64 value, unsigned bytes) override {
    // 6.8.2: aligned words and double words only.
    if (bytes < 4) return;
    for (unsigned i = 0; i < bytes; i += 4) write_word(offset + i, static_cast<u32>(value >> (8 * i)));
    function_.flush_vectors();
  }

 private:
  u32 word(u64 offset) const {
    const auto& vectors = function_.vectors_;
    if (offset >= kPendingOffset) {
      u32 value = 0;
      const u64 first = 8 * (offset - kPendingOffset);
      for (u64 i = 0; i < 32 && first + i < vectors.size(); ++i) value |= u32{vectors[first + i].pending} << i;
      return value;
    }
    if (offset / 16 >= vectors.size()) return 0;
    const Vector& vector = vectors[offset / 16];
    switch (offset & 12) {
      case 0: return static_cast<u32>(vector.address);
      case 4: return static_cast<u32>(vector.address >> 32);
      case 8: return vector.data;
      default: return vector.masked ? 1 : 0;
    }
  }
  void write_word(u64 offset, u32 value) {
    if (offset / 16 >= function_.vectors_.size()) return;
    Vector& vector = function_.vectors_[offset / 16];
    switch (offset & 12) {
      case 0: vector.address = (vector.address & ~u64{0xffffffff}) | (value & ~3u); break;
      case 4: vector.address = (vector.address & 0xffffffff) | static_cast<u64>(value) << 32; break;
      case 8: vector.data = value; break;
      default: vector.masked = (value & 1) != 0; break;
    }
  }
  PciFunction& function_;
};

PciFunction::PciFunction(u16 vendor, u16 device, u32 class_code, u8 revision) {
  set(kVendor, vendor, 2);
  set(kDevice, device, 2);
  set(kRevision, revision, 1);
  set(kClass, class_code, 3);
  make_writable(kCommand, kMemorySpace | kBusMaster | kInterruptDisable, 2);
  make_writable(kCacheLine, 0xff, 1);
  make_writable(kInterruptLine, 0xff, 1);
}

PciFunction::~PciFunction() = default;

void PciFunction::set(unsigned offset, u64 value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) config_[offset + i] = static_cast<u8>(value >> (8 * i));
}

u64 PciFunction::get(unsigned offset, unsigned bytes) const {
  u64 value = 0;
  for (unsigned i = 0; i < bytes; ++i) value |= static_cast<u64>(config_[offset + i]) << (8 * i);
  return value;
}

void PciFunction::make_writable(unsigned offset, u64 mask, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) writable_[offset + i] |= static_cast<u8>(mask >> (8 * i));
}

void PciFunction::set_subsystem(u16 vendor, u16 device) {
  set(kSubsystemVendor, vendor, 2);
  set(kSubsystemVendor + 2, device, 2);
}

void PciFunction::use_interrupt_pin() { set(kInterruptPin, 1, 1); }

void PciFunction::add_bar(unsigned index, u64 bytes, bool bits64, MmioDevice& device) {
  bars_[index].bytes = bytes;
  bars_[index].bits64 = bits64;
  bars_[index].device = &device;
  set(kBar0 + 4 * index, bits64 ? 4 : 0, 4);
  make_writable(kBar0 + 4 * index, ~(bytes - 1) & ~u64{15}, bits64 ? 8 : 4);
}

unsigned PciFunction::add_capability(u8 id, unsigned bytes) {
  const unsigned offset = capability_end_;
  capability_end_ += static_cast<unsigned>(align_up(bytes, 4));
  set(offset, id, 1);
  // At the end of the list, so that drivers find them in order.
  set(last_capability_ == 0 ? kCapabilities : last_capability_ + 1, offset, 1);
  last_capability_ = offset;
  set(kStatus, kCapabilityList, 2);
  return offset;
}

void PciFunction::add_msix(unsigned index, unsigned vectors) {
  vectors_.resize(vectors);
  msix_table_ = std::make_unique<MsixTable>(*this);
  add_bar(index, 0x1000, false, *msix_table_);
  msix_ = add_capability(kMsixId, 12);
  set(msix_ + 2, vectors - 1, 2);
  make_writable(msix_ + 2, 0xc000, 2);
  set(msix_ + 4, index, 4);
  set(msix_ + 8, kPendingOffset | index, 4);
}

void PciFunction::insert(const PciSlot& slot, std::string name) {
  slot_ = std::make_unique<PciSlot>(slot);
  initial_ = config_;
  for (unsigned i = 0; i < bars_.size(); ++i) {
    if (bars_[i].device == nullptr) continue;
    bars_[i].mapping =
        slot.bus.map_mmio(slot.window_base, bars_[i].bytes, *bars_[i].device, name + "-bar" + std::to_string(i), 1);
    slot.bus.enable(bars_[i].mapping, false);
  }
}

u32 PciFunction::read_config(unsigned offset, unsigned bytes) {
  u32 value = 0;
  if (offset + bytes > kConfigBytes) return 0;  // no extended capabilities
  if (own_config_read(offset, bytes, value)) return value;
  return static_cast<u32>(get(offset, bytes));
}

void PciFunction::write_config(unsigned offset, u32 value, unsigned bytes) {
  if (offset + bytes > kConfigBytes) return;
  for (unsigned i = 0; i < bytes; ++i) {
    const u8 mask = writable_[offset + i];
    config_[offset + i] = static_cast<u8>((config_[offset + i] & ~mask) | ((value >> (8 * i)) & mask));
  }
  if (offset < kBar0 + 24) update_bars();
  update_intx();
  own_config_written(offset, bytes);
  flush_vectors();
}

void PciFunction::update_bars() {
  if (slot_ == nullptr) return;
  const bool memory = (get(kCommand, 2) & kMemorySpace) != 0;
  for (unsigned i = 0; i < bars_.size(); ++i) {
    Bar& bar = bars_[i];
    if (bar.device == nullptr) continue;
    const u64 address = get(kBar0 + 4 * i, bar.bits64 ? 8 : 4) & ~u64{15};
    const bool routed = address >= slot_->window_base && bar.bytes <= slot_->window_bytes &&
                        address - slot_->window_base <= slot_->window_bytes - bar.bytes;
    const bool shown = memory && routed;
    if (shown == bar.shown && (!shown || address == bar.address)) continue;
    if (bar.shown) slot_->bus.enable(bar.mapping, false);
    if (shown) {
      slot_->bus.move(bar.mapping, address);
      slot_->bus.enable(bar.mapping, true);
    }
    bar.shown = shown;
    bar.address = address;
  }
}

void PciFunction::set_intx(bool level) {
  intx_ = level;
  update_intx();
}

void PciFunction::update_intx() {
  config_[kStatus] = static_cast<u8>((config_[kStatus] & ~kInterruptStatus) | (intx_ ? kInterruptStatus : 0));
  if (slot_ != nullptr) slot_->intx.set(intx_ && !msix_enabled() && (get(kCommand, 2) & kInterruptDisable) == 0);
}

void PciFunction::send_vector(unsigned index) {
  if (!msix_enabled() || index >= vectors_.size()) return;
  vectors_[index].pending = true;
  flush_vectors();
}

void PciFunction::flush_vectors() {
  if (!msix_enabled() || slot_ == nullptr || (config_[msix_ + 3] & kFunctionMask) != 0) return;
  for (Vector& vector : vectors_) {
    if (!vector.pending || vector.masked) continue;
    vector.pending = false;
    slot_->msi.message(vector.address, vector.data);
  }
}

void PciFunction::reset() {
  if (slot_ != nullptr) config_ = initial_;
  std::ranges::fill(vectors_, Vector{});
  intx_ = false;
  was_reset();
  update_bars();
  update_intx();
}

void PciFunction::state(StateVisitor& v) {
  v.version(1);
  std::array<u8, kConfigBytes> saved = config_;
  v("config", saved);
  for (Vector& vector : vectors_) {
    v.group("vector", [&] {
      v("address", vector.address);
      v("data", vector.data);
      v("masked", vector.masked);
      v("pending", vector.pending);
    });
  }
  v("intx", intx_);
  own_state(v);
  if (!v.restoring() || v.failed()) return;
  // What a guest cannot write is as this machine has it.
  for (unsigned i = 0; i < kConfigBytes; ++i)
    config_[i] = static_cast<u8>((config_[i] & ~writable_[i]) | (saved[i] & writable_[i]));
  update_bars();
  update_intx();
}

}  // namespace kiln::devices
