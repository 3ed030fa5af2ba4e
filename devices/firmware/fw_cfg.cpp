#include "devices/firmware/fw_cfg.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum Offset : u64 { kData = 0, kSelector = 8, kDmaHigh = 16, kDmaLow = 20 };
enum Control : u32 { kError = 1, kRead = 2, kSkip = 4, kSelect = 8, kWrite = 16 };
constexpr u64 kDmaSignature = 0x51454d5520434647;  // "QEMU CFG"

void append_be(std::vector<u8>& to, u64 value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) to.push_back(static_cast<u8>(value >> (8 * i)));
}
}  // namespace

FwCfg::FwCfg(DmaPort& dma) : dma_(dma) {
  add(kSignature, {'Q', 'E', 'M', 'U'});
  add_number(kId, 3, 4);  // data register and DMA
  add(kFileDirectory, std::vector<u8>(4));
}

void FwCfg::add_number(u16 key, u64 value, unsigned bytes) {
  std::vector<u8> item;
  for (unsigned i = 0; i < bytes; ++i) item.push_back(static_cast<u8>(value >> (8 * i)));
  add(key, std::move(item));
}

void FwCfg::add_file(const std::string& name, std::vector<u8> value) {
  const u16 key = static_cast<u16>(kFirstFile + files_.size());
  add(key, std::move(value));
  files_[name] = key;
  std::vector<u8> directory;
  append_be(directory, files_.size(), 4);
  for (const auto& [file, file_key] : files_) {
    append_be(directory, items_[file_key].size(), 4);
    append_be(directory, file_key, 2);
    append_be(directory, 0, 2);
    std::string padded = file.substr(0, 55);
    padded.resize(56);
    directory.insert(directory.end(), padded.begin(), padded.end());
  }
  add(kFileDirectory, std::move(directory));
}

void FwCfg::select(u16 key) {
  selected_ = key;
  offset_ = 0;
}

u8 FwCfg::next_byte() {
  const auto item = items_.find(selected_);
  if (item == items_.end() || offset_ >= item->second.size()) return 0;
  return item->second[offset_++];
}

u64 FwCfg::read(u64 offset, unsigned bytes) {
  u64 value = 0;
  if (offset < kSelector) {
    // A stream of bytes: the first one at the lowest address.
    for (unsigned i = 0; i < bytes; ++i) value |= static_cast<u64>(next_byte()) << (8 * i);
  } else if (offset >= kDmaHigh) {
    for (unsigned i = 0; i < bytes; ++i) value |= ((kDmaSignature >> (8 * (7 - (offset - kDmaHigh + i)))) & 0xff) << (8 * i);
  }
  return value;
}

void FwCfg::write(u64 offset, u64 value, unsigned bytes) {
  if (offset == kSelector && bytes == 2) return select(__builtin_bswap16(static_cast<u16>(value)));
  if (offset == kDmaHigh && bytes == 8) {
    dma_address_ = __builtin_bswap64(value);
    return run_dma();
  }
  if (offset == kDmaHigh && bytes == 4) dma_address_ = static_cast<u64>(__builtin_bswap32(static_cast<u32>(value))) << 32;
  if (offset == kDmaLow && bytes == 4) {
    dma_address_ |= __builtin_bswap32(static_cast<u32>(value));
    run_dma();
  }
}

void FwCfg::run_dma() {
  struct {
    u32 control, length;
    u64 address;
  } request{};
  const u64 at = dma_address_;
  dma_address_ = 0;
  if (!dma_.read_object(at, request)) return;  // nowhere to put an error either
  const bool good =
      transfer(__builtin_bswap32(request.control), __builtin_bswap32(request.length), __builtin_bswap64(request.address));
  dma_.write_object(at, __builtin_bswap32(good ? 0 : kError));
}

bool FwCfg::transfer(u32 control, u32 length, u64 address) {
  if ((control & kSelect) != 0) select(static_cast<u16>(control >> 16));
  const auto item = items_.find(selected_);
  const u32 size = item != items_.end() ? static_cast<u32>(item->second.size()) : 0;
  const u32 there = std::min(length, size - std::min(size, offset_));
  if ((control & kRead) != 0) {
    if (there != 0 && !dma_.write(address, item->second.data() + offset_, there)) return false;
    // Behind the end of an item there are zeroes.
    static constexpr u8 kZeroes[4096] = {};
    for (u64 done = there; done < length;) {
      const u64 piece = std::min<u64>(length - done, sizeof kZeroes);
      if (!dma_.write(address + done, kZeroes, piece)) return false;
      done += piece;
    }
    offset_ += there;
    return true;
  }
  if ((control & kWrite) != 0) return false;  // no item takes anything
  if ((control & kSkip) != 0) offset_ += there;
  return true;
}

void FwCfg::reset() {
  select(0);
  dma_address_ = 0;
}

void FwCfg::state(StateVisitor& v) {
  v.version(1);
  v("selected", selected_);
  v("offset", offset_);
  v("dma_address", dma_address_);
}

}  // namespace kiln::devices
