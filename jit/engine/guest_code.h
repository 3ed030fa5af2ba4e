// What translation reads: guest code as it was at one moment, for the lifter now and for lifting the same block once more later.
#pragma once
#include <algorithm>
#include <vector>

#include "ir/guest_desc.h"

namespace kiln::jit {

/// Reads each byte of guest code at most once, ahead in chunks, and keeps it. Other threads may write meanwhile: whatever is made from
/// one snapshot is made from the same bytes.
class CodeSnapshot final : public ir::CodeSource {
 public:
  CodeSnapshot(ir::CodeSource& memory, GuestAddr start) : memory_(memory), start_(start) {}
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override;
  /// The bytes from the start to the last one that anybody asked for, `most` at most.
  std::vector<u8> taken(std::size_t most) const { return {bytes_.begin(), bytes_.begin() + static_cast<std::ptrdiff_t>(std::min(asked_, most))}; }
  const u8* data() const { return bytes_.data(); }
  /// Are the bytes that were asked for the same now?
  bool same_again();
  void clear() {
    bytes_.clear();
    asked_ = 0;
  }

 private:
  ir::CodeSource& memory_;
  GuestAddr start_;
  std::vector<u8> bytes_;
  std::size_t asked_ = 0;
};

/// Code of one page that stands somewhere else than where the guest sees it.
class PlacedCode final : public ir::CodeSource {
 public:
  PlacedCode(ir::CodeSource& memory, GuestAddr start, GuestAddr place) : memory_(memory), start_(start), place_(place) {}
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    if (start_ == place_) return memory_.fetch(pc, out, size);
    const u64 page = align_down(start_, 4096);
    if (pc - page >= 4096) return 0;
    return memory_.fetch(place_ + (pc - start_), out, std::min<std::size_t>(size, page + 4096 - pc));
  }

 private:
  ir::CodeSource& memory_;
  GuestAddr start_, place_;
};

/// Bytes kept from a snapshot; nothing can be fetched beyond them.
class KeptCode final : public ir::CodeSource {
 public:
  KeptCode(GuestAddr start, const std::vector<u8>& bytes) : start_(start), bytes_(bytes) {}
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    if (pc - start_ >= bytes_.size()) return 0;
    size = std::min<std::size_t>(size, bytes_.size() - (pc - start_));
    std::memcpy(out, bytes_.data() + (pc - start_), size);
    return size;
  }

 private:
  GuestAddr start_;
  const std::vector<u8>& bytes_;
};

/// Puts in front of `block` a comparison of guest memory with the bytes that it was lifted from (at least guest_bytes of them): leaves
/// with CodeChanged, value kCodeDiffers, at its first instruction.
void insert_code_check(ir::Block& block, const u8* bytes);
inline constexpr u64 kCodeDiffers = 1;
/// Puts a mask on every address that the block accesses.
void mask_addresses(ir::Block& block, u64 mask);
/// Instructions up to and including the first that may write memory.
unsigned insns_to_first_store(const ir::Block& block);

}  // namespace kiln::jit
