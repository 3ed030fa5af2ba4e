#include "devices/timer/pl031.h"

namespace kiln::devices {

namespace {
enum Offset : u64 {
  kDR = 0x00,
  kMR = 0x04,
  kLR = 0x08,
  kCR = 0x0c,
  kIMSC = 0x10,
  kRIS = 0x14,
  kMIS = 0x18,
  kICR = 0x1c,
  kPeriphID0 = 0xfe0
};
constexpr u32 kPeripheralId = 0x00041031;
constexpr u64 kSecond = 1'000'000'000;
}  // namespace

Pl031::Pl031(IrqLine& line, Clock& clock)
    : line_(line),
      clock_(clock),
      alarm_(clock.create_timer([this] {
        ris_ = 1;
        update();
      })),
      offset_(static_cast<u32>(clock.date() - clock.now_ns() / kSecond)) {
  load_ = offset_;
}

void Pl031::reset() {
  match_ = imsc_ = ris_ = 0;
  alarm_->cancel();
  update();
}

u32 Pl031::now() const { return static_cast<u32>(clock_.now_ns() / kSecond) + offset_; }

/// The interrupt is raised at the moment the counter becomes equal to RTCMR; in at most 2^32 seconds it does.
void Pl031::arm() {
  const u64 seconds = static_cast<u32>(match_ - now());
  if (seconds == 0) {
    ris_ = 1;
    alarm_->cancel();
  } else {
    alarm_->set((clock_.now_ns() / kSecond + seconds) * kSecond);
  }
  update();
}

void Pl031::update() { line_.set((ris_ & imsc_) != 0); }

u32 Pl031::read32(u64 offset) {
  if (offset >= kPeriphID0) return primecell_id(kPeripheralId, offset);
  switch (offset) {
    case kDR: return now();
    case kMR: return match_;
    case kLR: return load_;
    case kCR: return 1;
    case kIMSC: return imsc_;
    case kRIS: return ris_;
    case kMIS: return ris_ & imsc_;
    default: return 0;
  }
}

void Pl031::write32(u64 offset, u32 value) {
  switch (offset) {
    case kMR:
      match_ = value;
      arm();
      break;
    case kLR:
      load_ = value;
      offset_ += value - now();
      arm();
      break;
    case kIMSC: imsc_ = value & 1; break;
    case kICR: ris_ &= ~value; break;
    default: break;
  }
  update();
}

void Pl031::state(StateVisitor& v) {
  v.version(1);
  v("offset", offset_);
  v("load", load_);
  v("match", match_);
  v("imsc", imsc_);
  v("ris", ris_);
  v("alarm", *alarm_);
  if (v.restoring()) update();
}

}  // namespace kiln::devices
