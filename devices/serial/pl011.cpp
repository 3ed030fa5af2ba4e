#include "devices/serial/pl011.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum Offset : u64 {
  kDR = 0x00,
  kRSR_ECR = 0x04,
  kFR = 0x18,
  kILPR = 0x20,
  kIBRD = 0x24,
  kFBRD = 0x28,
  kLCR_H = 0x2c,
  kCR = 0x30,
  kIFLS = 0x34,
  kIMSC = 0x38,
  kRIS = 0x3c,
  kMIS = 0x40,
  kICR = 0x44,
  kDMACR = 0x48,
  kPeriphID0 = 0xfe0,
};
enum Fr : u32 { FR_CTS = 1, FR_DSR = 2, FR_DCD = 4, FR_RXFE = 0x10, FR_RXFF = 0x40, FR_TXFE = 0x80 };
enum Dr : u32 { DR_BE = 1 << 10 };
enum LcrH : u32 { LCR_H_FEN = 1 << 4 };
enum Cr : u32 { CR_UARTEN = 1, CR_LBE = 1 << 7, CR_TXE = 1 << 8, CR_RXE = 1 << 9 };
enum Interrupt : u32 {
  kRX = 1 << 4,
  kTX = 1 << 5,
  kRT = 1 << 6,
  kFE = 1 << 7,
  kPE = 1 << 8,
  kBE = 1 << 9,
  kOE = 1 << 10,
  kAll = 0x7ff
};
constexpr u32 kPeripheralId = 0x00141011;
}  // namespace

Pl011::Pl011(IrqLine& line, Clock& clock, CharBackend* backend, u32 clock_hz)
    : line_(line), clock_(clock), backend_(backend), clock_hz_(clock_hz), timeout_(clock.create_timer([this] {
        if (count_ != 0) ris_ |= kRT;
        update();
      })) {
  reset();
  if (backend_ == nullptr) return;
  backend_->attach({[this] { return room(); },
                    [this](std::span<const u8> bytes) {
                      for (const u8 byte : bytes) receive(byte);
                    },
                    [this] { receive(DR_BE); }});
}

Pl011::~Pl011() {
  if (backend_ != nullptr) backend_->attach({});
}

void Pl011::reset() {
  head_ = count_ = 0;
  receive_status_ = ilpr_ = ibrd_ = fbrd_ = lcr_h_ = imsc_ = ris_ = dmacr_ = 0;
  cr_ = CR_TXE | CR_RXE;
  ifls_ = 0x12;
  timeout_->cancel();
  update();
}

void Pl011::set_up_as_firmware() {
  lcr_h_ = 0x60 | LCR_H_FEN;
  cr_ |= CR_UARTEN;
  if (backend_ != nullptr) backend_->room_changed();
}

unsigned Pl011::depth() const { return (lcr_h_ & LCR_H_FEN) != 0 ? 16 : 1; }

/// UARTIFLS.RXIFLSEL: 1/8, 1/4, 1/2, 3/4, 7/8 of the FIFO.
unsigned Pl011::receive_trigger() const {
  if ((lcr_h_ & LCR_H_FEN) == 0) return 1;
  constexpr u8 kLevels[8] = {2, 4, 8, 12, 14, 14, 14, 14};
  return kLevels[(ifls_ >> 3) & 7];
}

u64 Pl011::room() const {
  const bool enabled = (cr_ & (CR_UARTEN | CR_RXE)) == (CR_UARTEN | CR_RXE) && (cr_ & CR_LBE) == 0;
  return enabled && count_ < depth() ? depth() - count_ : 0;
}

u64 Pl011::receive_timeout_ns() const {
  // One bit takes 16 * (IBRD + FBRD/64) periods of UARTCLK.
  const u64 divisor = std::max<u64>(64 * ibrd_ + fbrd_, 64);
  return 32 * 16 * divisor * 1'000'000'000 / 64 / clock_hz_;
}

void Pl011::receive(u16 character) {
  if (count_ >= depth()) {
    receive_status_ |= 8;
    ris_ |= kOE;
    return update();
  }
  fifo_[(head_ + count_) % fifo_.size()] = character;
  count_ += 1;
  // The interrupt marks the passing of the level, see UARTIFLS.
  if (count_ == receive_trigger()) ris_ |= kRX;
  if ((character & DR_BE) != 0) ris_ |= kBE;
  timeout_->set(clock_.now_ns() + receive_timeout_ns());
  update();
}

u32 Pl011::take() {
  if (count_ == 0) return 0;
  const u32 character = fifo_[head_];
  head_ = static_cast<u8>((head_ + 1) % fifo_.size());
  count_ -= 1;
  receive_status_ = (character >> 8) & 15;
  if (count_ < receive_trigger()) ris_ &= ~kRX;
  if (count_ == 0) {
    ris_ &= ~kRT;
    timeout_->cancel();
  } else {
    timeout_->set(clock_.now_ns() + receive_timeout_ns());
  }
  update();
  if (backend_ != nullptr) backend_->room_changed();
  return character;
}

u32 Pl011::flags() const {
  // The other end of the cable is always there and ready.
  u32 value = FR_CTS | FR_DSR | FR_DCD | FR_TXFE;
  if (count_ == 0) value |= FR_RXFE;
  if (count_ >= depth()) value |= FR_RXFF;
  return value;
}

u32 Pl011::read32(u64 offset) {
  if (offset >= kPeriphID0) return primecell_id(kPeripheralId, offset);
  switch (offset) {
    case kDR: return take();
    case kRSR_ECR: return receive_status_;
    case kFR: return flags();
    case kILPR: return ilpr_;
    case kIBRD: return ibrd_;
    case kFBRD: return fbrd_;
    case kLCR_H: return lcr_h_;
    case kCR: return cr_;
    case kIFLS: return ifls_;
    case kIMSC: return imsc_;
    case kRIS: return ris_;
    case kMIS: return ris_ & imsc_;
    case kDMACR: return dmacr_;
    default: return 0;
  }
}

void Pl011::write32(u64 offset, u32 value) {
  switch (offset) {
    case kDR: {
      const u8 byte = static_cast<u8>(value);
      if ((cr_ & (CR_UARTEN | CR_TXE)) != (CR_UARTEN | CR_TXE)) break;
      if ((cr_ & CR_LBE) != 0) receive(byte);
      else if (backend_ != nullptr) backend_->send({&byte, 1});
      ris_ |= kTX;  // the FIFO has passed its level on the way to empty
      break;
    }
    case kRSR_ECR: receive_status_ = 0; break;
    case kILPR: ilpr_ = value & 0xff; break;
    case kIBRD: ibrd_ = value & 0xffff; break;
    case kFBRD: fbrd_ = value & 0x3f; break;
    case kLCR_H:
      // Switching the FIFOs on or off empties them.
      if (((lcr_h_ ^ value) & LCR_H_FEN) != 0) {
        head_ = count_ = 0;
        ris_ &= ~(kRX | kRT);
      }
      lcr_h_ = value & 0xff;
      if (backend_ != nullptr) backend_->room_changed();
      break;
    case kCR:
      cr_ = value & 0xff87;
      if (backend_ != nullptr) backend_->room_changed();
      break;
    case kIFLS: ifls_ = value & 0x3f; break;
    case kIMSC: imsc_ = value & kAll; break;
    case kICR:
      ris_ &= ~value;
      if ((value & kRT) != 0 && count_ != 0) timeout_->set(clock_.now_ns() + receive_timeout_ns());
      break;
    case kDMACR: dmacr_ = value & 7; break;
    default: break;
  }
  update();
}

void Pl011::update() { line_.set((ris_ & imsc_) != 0); }

void Pl011::state(StateVisitor& v) {
  v.version(1);
  v("fifo", fifo_);
  v.below("head", head_, fifo_.size());
  v.below("count", count_, fifo_.size() + 1);
  v("receive_status", receive_status_);
  v("ilpr", ilpr_);
  v("ibrd", ibrd_);
  v("fbrd", fbrd_);
  v("lcr_h", lcr_h_);
  v("cr", cr_);
  v("ifls", ifls_);
  v("imsc", imsc_);
  v("ris", ris_);
  v("dmacr", dmacr_);
  v("timeout", *timeout_);
  if (!v.restoring()) return;
  update();
  if (backend_ != nullptr) backend_->room_changed();
}

}  // namespace kiln::devices
