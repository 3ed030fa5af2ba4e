#include "devices/virtio/net.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum Feature : u64 { kMac = 1 << 5, kMergeBuffers = 1 << 15, kStatus = 1 << 16 };
enum Queue : u32 { kReceive = 0, kTransmit = 1 };
constexpr u16 kQueueSize = 256;
constexpr u64 kHeaderBytes = 12;  // struct virtio_net_hdr, 5.1.6
constexpr u64 kMostFrame = 65550;
}  // namespace

VirtioNet::VirtioNet(DmaPort& dma, NetBackend* backend, std::array<u8, 6> mac)
    : VirtioDevice(dma, 1, {kQueueSize, kQueueSize}), backend_(backend), mac_(mac) {
  if (backend_ != nullptr)
    backend_->attach({[this] { return ready(); }, [this](std::span<const u8> frame) { receive(frame); }});
}

VirtioNet::~VirtioNet() {
  if (backend_ != nullptr) backend_->attach({});
}

u64 VirtioNet::own_features() const { return kMac | kMergeBuffers | kStatus; }

std::vector<u8> VirtioNet::config() const {
  std::vector<u8> bytes(mac_.begin(), mac_.end());
  bytes.push_back(backend_ != nullptr ? 1 : 0);  // VIRTIO_NET_S_LINK_UP
  bytes.push_back(0);
  return bytes;
}

bool VirtioNet::ready() {
  // A driver that is not there loses its frames, as a card that is off.
  return !running() || queue(kReceive).has_available(dma_) || rearm(kReceive);
}

void VirtioNet::started() {
  if (backend_ != nullptr) backend_->ready_changed();
}

void VirtioNet::notified(u32 index) {
  if (index == kTransmit) transmit();
  else if (backend_ != nullptr) backend_->ready_changed();
}

void VirtioNet::transmit() {
  VirtChain chain;
  std::vector<u8> frame;
  do {
    while (pop(kTransmit, chain)) {
      const u64 bytes = chain.readable_bytes();
      if (bytes > kHeaderBytes && bytes <= kHeaderBytes + kMostFrame) {
        frame.resize(bytes - kHeaderBytes);
        if (chain.read(dma_, kHeaderBytes, frame.data(), frame.size()) && backend_ != nullptr) backend_->send(frame);
      }
      push(kTransmit, chain, 0);
    }
    interrupt(kTransmit);
  } while (rearm(kTransmit));
}

void VirtioNet::receive(std::span<const u8> frame) {
  if (!running() || frame.size() > kMostFrame) return;
  // All chains first: their number stands in the header of the first one.
  std::vector<VirtChain> chains;
  u64 room = 0;
  const u64 needed = kHeaderBytes + frame.size();
  while (room < needed) {
    VirtChain chain;
    const bool merge = has(kMergeBuffers);
    if ((!chains.empty() && !merge) || chains.size() >= kQueueSize || !pop(kReceive, chain)) {
      // Too small for this frame, which is lost; the buffers stay.
      for (std::size_t i = 0; i < chains.size() && running(); ++i) queue(kReceive).unpop();
      return;
    }
    room += chain.writable_bytes();
    chains.push_back(std::move(chain));
  }
  std::vector<u8> bytes(needed);
  bytes[10] = static_cast<u8>(chains.size());
  bytes[11] = static_cast<u8>(chains.size() >> 8);
  std::copy(frame.begin(), frame.end(), bytes.begin() + kHeaderBytes);
  u64 done = 0;
  for (const VirtChain& chain : chains) {
    const u64 piece = std::min(chain.writable_bytes(), needed - done);
    chain.write(dma_, 0, bytes.data() + done, piece);
    push(kReceive, chain, static_cast<u32>(piece));
    done += piece;
  }
  interrupt(kReceive);
}

}  // namespace kiln::devices
