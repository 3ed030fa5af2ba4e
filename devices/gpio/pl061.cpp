#include "devices/gpio/pl061.h"

namespace kiln::devices {

namespace {
enum Offset : u64 {
  kDIR = 0x400,
  kIS = 0x404,
  kIBE = 0x408,
  kIEV = 0x40c,
  kIE = 0x410,
  kRIS = 0x414,
  kMIS = 0x418,
  kIC = 0x41c,
  kAFSEL = 0x420,
  kPeriphID0 = 0xfe0
};
constexpr u32 kPeripheralId = 0x00041061;
}  // namespace

void Pl061::reset() {
  data_ = direction_ = is_ = ibe_ = iev_ = ie_ = ris_ = afsel_ = 0;
  seen_ = levels();
  update();
}

void Pl061::set_input(unsigned index, bool level) {
  inputs_ = static_cast<u8>((inputs_ & ~(1u << index)) | (level ? 1u : 0u) << index);
  update();
}

void Pl061::update() {
  const u8 now = levels();
  const u8 changed = now ^ seen_;
  seen_ = now;
  // GPIOIS 0: edges, both with GPIOIBE, else the one GPIOIEV names; GPIOIS 1: the level GPIOIEV names, which no GPIOIC clears.
  const u8 edges = changed & (ibe_ | static_cast<u8>(~(now ^ iev_)));
  ris_ |= edges & ~is_;
  ris_ = static_cast<u8>((ris_ & ~is_) | (is_ & ~(now ^ iev_)));
  line_.set((ris_ & ie_) != 0);
}

u32 Pl061::read32(u64 offset) {
  // GPIODATA: address bits 9:2 say which lines are seen.
  if (offset < kDIR) return levels() & static_cast<u32>(offset >> 2);
  if (offset >= kPeriphID0) return primecell_id(kPeripheralId, offset);
  switch (offset) {
    case kDIR: return direction_;
    case kIS: return is_;
    case kIBE: return ibe_;
    case kIEV: return iev_;
    case kIE: return ie_;
    case kRIS: return ris_;
    case kMIS: return ris_ & ie_;
    case kAFSEL: return afsel_;
    default: return 0;
  }
}

void Pl061::write32(u64 offset, u32 value) {
  const u8 byte = static_cast<u8>(value);
  if (offset < kDIR) {
    const u8 mask = static_cast<u8>(offset >> 2);
    data_ = static_cast<u8>((data_ & ~mask) | (byte & mask));
    return update();
  }
  switch (offset) {
    case kDIR: direction_ = byte; break;
    case kIS: is_ = byte; break;
    case kIBE: ibe_ = byte; break;
    case kIEV: iev_ = byte; break;
    case kIE: ie_ = byte; break;
    case kIC: ris_ &= ~byte; break;
    case kAFSEL: afsel_ = byte; break;
    default: break;
  }
  update();
}

void Pl061::state(StateVisitor& v) {
  v.version(1);
  v("inputs", inputs_);
  v("data", data_);
  v("direction", direction_);
  v("is", is_);
  v("ibe", ibe_);
  v("iev", iev_);
  v("ie", ie_);
  v("ris", ris_);
  v("afsel", afsel_);
  v("seen", seen_);
  if (v.restoring()) update();
}

}  // namespace kiln::devices
