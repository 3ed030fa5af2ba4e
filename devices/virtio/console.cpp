#include "devices/virtio/console.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum Feature : u64 { kEmergencyWrite = 1 << 2 };
enum Queue : u32 { kReceive = 0, kTransmit = 1 };
constexpr u64 kMostAtOnce = 1 << 20;
constexpr u64 kEmergencyOffset = 8;
}  // namespace

VirtioConsole::VirtioConsole(DmaPort& dma, CharBackend* backend) : VirtioDevice(dma, 3, {128, 128}), backend_(backend) {
  if (backend_ != nullptr)
    backend_->attach({[this] { return room(); }, [this](std::span<const u8> bytes) { receive(bytes); }, {}});
}

VirtioConsole::~VirtioConsole() {
  if (backend_ != nullptr) backend_->attach({});
}

u64 VirtioConsole::own_features() const { return kEmergencyWrite; }
std::vector<u8> VirtioConsole::config() const { return std::vector<u8>(12); }

void VirtioConsole::config_written(u64 offset, u64 value, unsigned) {
  const u8 byte = static_cast<u8>(value);
  if (offset == kEmergencyOffset && backend_ != nullptr) backend_->send({&byte, 1});
}

void VirtioConsole::started() {
  if (backend_ != nullptr) backend_->room_changed();
}

void VirtioConsole::notified(u32 index) {
  if (index == kTransmit) transmit();
  else if (backend_ != nullptr) backend_->room_changed();
}

/// What the next receive buffer takes.
u64 VirtioConsole::room() {
  VirtChain chain;
  if (!running() || (!queue(kReceive).has_available(dma_) && !rearm(kReceive)) || !pop(kReceive, chain)) return 0;
  queue(kReceive).unpop();
  // A buffer without room would stop the line for good: it goes back unused when something arrives.
  return std::clamp<u64>(chain.writable_bytes(), 1, 4096);
}

void VirtioConsole::receive(std::span<const u8> bytes) {
  VirtChain chain;
  while (!bytes.empty() && pop(kReceive, chain)) {
    const u64 piece = std::min<u64>(chain.writable_bytes(), bytes.size());
    chain.write(dma_, 0, bytes.data(), piece);
    push(kReceive, chain, static_cast<u32>(piece));
    bytes = bytes.subspan(piece);
  }
  interrupt(kReceive);
}

void VirtioConsole::transmit() {
  VirtChain chain;
  std::vector<u8> bytes;
  do {
    while (pop(kTransmit, chain)) {
      if (chain.readable_bytes() > kMostAtOnce) return broken("a transmit buffer of more than a megabyte");
      bytes.resize(chain.readable_bytes());
      if (chain.read(dma_, 0, bytes.data(), bytes.size()) && backend_ != nullptr) backend_->send(bytes);
      push(kTransmit, chain, 0);
    }
    interrupt(kTransmit);
  } while (rearm(kTransmit));
}

}  // namespace kiln::devices
