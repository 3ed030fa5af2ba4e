#include "devices/virtio/block.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum Feature : u64 {
  kSegMax = 1 << 2,
  kReadOnly = 1 << 5,
  kBlockSize = 1 << 6,
  kFlush = 1 << 9,
  kDiscard = 1 << 13,
  kWriteZeroes = 1 << 14
};
enum Type : u32 { kIn = 0, kOut = 1, kFlushType = 4, kGetId = 8, kDiscardType = 11, kWriteZeroesType = 13 };
enum RequestStatus : u8 { kOk = 0, kIoError = 1, kUnsupported = 2 };
constexpr u16 kQueueSize = 256;
constexpr u32 kMostErased = 1 << 22;  // sectors of one discard or write-zeroes range
constexpr u64 kSector = 512;
struct Header {
  u32 type, reserved;
  u64 sector;
};
struct EraseRange {
  u64 sector;
  u32 sectors, flags;
};

void put(std::vector<u8>& to, std::size_t offset, u64 value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) to[offset + i] = static_cast<u8>(value >> (8 * i));
}
}  // namespace

VirtioBlock::VirtioBlock(DmaPort& dma, BlockBackend& disk, std::string serial)
    : VirtioDevice(dma, 2, {kQueueSize}), disk_(disk), serial_(std::move(serial)) {
  serial_.resize(20);
}

u64 VirtioBlock::own_features() const {
  return kSegMax | kBlockSize | kFlush | (disk_.read_only() ? u64{kReadOnly} : u64{kDiscard} | kWriteZeroes);
}

std::vector<u8> VirtioBlock::config() const {
  std::vector<u8> bytes(60);
  put(bytes, 0, sectors(), 8);
  put(bytes, 12, kQueueSize - 2, 4);  // seg_max
  put(bytes, 20, kSector, 4);         // blk_size
  put(bytes, 36, kMostErased, 4);     // max_discard_sectors
  put(bytes, 40, 1, 4);               // max_discard_seg
  put(bytes, 44, 1, 4);               // discard_sector_alignment
  put(bytes, 48, kMostErased, 4);     // max_write_zeroes_sectors
  put(bytes, 52, 1, 4);               // max_write_zeroes_seg
  put(bytes, 56, 1, 1);               // write_zeroes_may_unmap
  return bytes;
}

void VirtioBlock::was_reset() {
  generation_ += 1;
  stale_ += outstanding_;
  outstanding_ = 0;
  forgotten_.splice(forgotten_.end(), requests_);
  if (stale_ == 0) forgotten_.clear();
}

BlockBackend::Done VirtioBlock::when_done(std::function<void(int)> then) {
  outstanding_ += 1;
  return [this, generation = generation_, then = std::move(then)](int error) {
    if (generation == generation_) {
      outstanding_ -= 1;
      return then(error);
    }
    // The buffers of such requests stay until the last of them is done with.
    stale_ -= 1;
    if (stale_ != 0) return;
    forgotten_.clear();
    notify(0);
  };
}

void VirtioBlock::notified(u32) {
  if (stale_ != 0) return;
  do {
    VirtChain chain;
    while (pop(0, chain)) begin(std::move(chain));
  } while (rearm(0));
}

void VirtioBlock::begin(VirtChain chain) {
  Header header{};
  // The last byte that the device writes is the status; without it, or without a header, there is no way to answer.
  if (chain.writable_bytes() == 0 || !chain.read(dma_, 0, &header, sizeof header))
    return broken("a request without header or status byte");
  const Handle request = requests_.emplace(requests_.end());
  const u64 data_in = chain.writable_bytes() - 1, data_out = chain.readable_bytes() - sizeof header;
  request->chain = std::move(chain);
  switch (header.type) {
    case kIn:
    case kOut: {
      request->write = header.type == kOut;
      request->bytes = request->write ? data_out : data_in;
      const bool inside = header.sector <= sectors() && request->bytes <= (sectors() - header.sector) * kSector;
      if (!inside || request->bytes % kSector != 0 || (request->write && disk_.read_only())) return finish(request, kIoError);
      request->position = header.sector * kSector;
      return next_piece(request);
    }
    case kFlushType:
      return disk_.flush(when_done([this, request](int error) { finish(request, error == 0 ? kOk : kIoError); }));
    case kGetId: {
      const u64 length = std::min<u64>(data_in, serial_.size());
      request->done = length;
      return finish(request, request->chain.write(dma_, 0, serial_.data(), length) ? kOk : kIoError);
    }
    case kDiscardType:
    case kWriteZeroesType: return erase_ranges(request, header.type == kWriteZeroesType);
    default: return finish(request, kUnsupported);
  }
}

void VirtioBlock::next_piece(Handle request) {
  const u64 left = request->bytes - request->done;
  if (left == 0) return finish(request, kOk);
  const u64 piece = std::min(left, kPiece);
  request->buffer.resize(piece);
  std::vector<BlockPiece> pieces{{request->buffer.data(), piece}};
  const u64 position = request->position + request->done;
  if (request->write) {
    if (!request->chain.read(dma_, sizeof(Header) + request->done, request->buffer.data(), piece))
      return finish(request, kIoError);
    // A driver that knows no flush expects what it wrote to stay (5.2.6.2).
    return disk_.write(position, std::move(pieces), !has(kFlush), when_done([this, request, piece](int error) {
                         if (error != 0) return finish(request, kIoError);
                         request->done += piece;
                         next_piece(request);
                       }));
  }
  disk_.read(position, std::move(pieces), when_done([this, request, piece](int error) {
               if (error != 0 || !request->chain.write(dma_, request->done, request->buffer.data(), piece))
                 return finish(request, kIoError);
               request->done += piece;
               next_piece(request);
             }));
}

void VirtioBlock::erase_ranges(Handle request, bool zeroes) {
  EraseRange range{};
  // One range, as the configuration says (max_discard_seg, max_write_zeroes_seg).
  if (disk_.read_only() || request->chain.readable_bytes() != sizeof(Header) + sizeof range ||
      !request->chain.read(dma_, sizeof(Header), &range, sizeof range))
    return finish(request, kIoError);
  const u32 allowed = zeroes ? 1 : 0;
  if ((range.flags & ~allowed) != 0) return finish(request, kUnsupported);
  if (range.sectors > kMostErased || range.sector > sectors() || range.sectors > sectors() - range.sector)
    return finish(request, kIoError);
  auto done = when_done([this, request](int error) { finish(request, error == 0 ? kOk : kIoError); });
  if (zeroes) disk_.write_zeroes(range.sector * kSector, range.sectors * kSector, (range.flags & 1) != 0, std::move(done));
  else disk_.discard(range.sector * kSector, range.sectors * kSector, std::move(done));
}

void VirtioBlock::finish(Handle request, u8 status) {
  const VirtChain& chain = request->chain;
  const u64 last = chain.writable_bytes() - 1;
  chain.write(dma_, last, &status, 1);
  const u64 written = (request->write ? 0 : std::min<u64>(request->done, last)) + 1;
  push(0, chain, static_cast<u32>(std::min<u64>(written, ~u32{0})));
  requests_.erase(request);
  interrupt(0);
}

void VirtioBlock::own_state(StateVisitor& v) {
  // The machine drains its disks before it is saved: nothing is under way.
  if (!requests_.empty() && !v.restoring()) v.fail("requests are under way");
}

}  // namespace kiln::devices
