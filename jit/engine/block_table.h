// Look-up of blocks by (pc, mode, place). Readers take no lock: they probe an array of pcs with atomic pointers beside them, so that
// what is passed over costs no look at a block; writers hold the engine's mutex. An entry is written once in a table's life,
// then only erased.
#pragma once
#include <atomic>
#include <bit>
#include <cstdlib>
#include <memory>
#include <vector>

#include "ir/support/bits.h"

namespace kiln::jit {

/// Block: a type with members `pc`, `mode` and `place` that stay as they are while the block is in the table and while a reader may hold it.
template <class Block>
class BlockTable {
 public:
  BlockTable() { grow(1 << 13); }

  /// Null if there is none. May miss a block that is being inserted, or give one that is being erased.
  Block* find(GuestAddr pc, u32 mode, GuestAddr place) const {
    const Slots& slots = *current_.load(std::memory_order_acquire);
    for (std::size_t i = slots.home(pc, mode);; ++i) {
      const Slot& slot = slots.at[i & slots.mask];
      Block* block = slot.block.load(std::memory_order_acquire);
      if (block == nullptr) return nullptr;
      if (slot.pc == pc && block != erased() && block->mode == mode && block->place == place) return block;
    }
  }

  /// One of those that differ in their place only.
  Block* find_any(GuestAddr pc, u32 mode) const {
    const Slots& slots = *current_.load(std::memory_order_acquire);
    for (std::size_t i = slots.home(pc, mode);; ++i) {
      const Slot& slot = slots.at[i & slots.mask];
      Block* block = slot.block.load(std::memory_order_acquire);
      if (block == nullptr) return nullptr;
      if (slot.pc == pc && block != erased() && block->mode == mode) return block;
    }
  }

  void insert(Block* block) {
    if ((used_ + 1) * 2 > current_.load()->mask) grow(live_ * 4 + (1 << 13));
    put(*current_.load(), block);
    ++used_;
    ++live_;
  }

  void erase(Block* block) {
    Slots& slots = *current_.load();
    for (std::size_t i = slots.home(block->pc, block->mode);; ++i) {
      std::atomic<Block*>& slot = slots.at[i & slots.mask].block;
      if (slot.load() == nullptr) return;
      if (slot.load() != block) continue;
      slot.store(erased(), std::memory_order_release);
      --live_;
      return;
    }
  }

  template <class Fn>
  void for_each(Fn&& fn) const {
    const Slots& slots = *current_.load();
    for (std::size_t i = 0; i <= slots.mask; ++i)
      if (Block* block = slots.at[i].block.load(); block != nullptr && block != erased()) fn(*block);
  }

 private:
  struct Slot {
    GuestAddr pc;  // means something once `block` is not null
    std::atomic<Block*> block;
  };
  struct Slots {
    explicit Slots(std::size_t count) : at(static_cast<Slot*>(std::calloc(count, sizeof(Slot)))), mask(count - 1) {
      if (at == nullptr) std::abort();
    }
    ~Slots() { std::free(at); }
    Slots(const Slots&) = delete;
    Slots& operator=(const Slots&) = delete;
    /// Where probing starts: the product's top bits, which all bits of pc and mode reach.
    std::size_t home(GuestAddr pc, u32 mode) const {
      return ((pc ^ u64{mode} << 40) * 0x9e3779b97f4a7c15u) >> (64 - std::bit_width(mask));
    }
    Slot* at;  // zeroed by calloc(): pages of a large table that nobody wrote cost nothing
    std::size_t mask;
  };
  static Block* erased() { return reinterpret_cast<Block*>(1); }
  static void put(Slots& slots, Block* block) {
    for (std::size_t i = slots.home(block->pc, block->mode);; ++i) {
      Slot& slot = slots.at[i & slots.mask];
      if (slot.block.load(std::memory_order_relaxed) != nullptr) continue;
      slot.pc = block->pc;
      slot.block.store(block, std::memory_order_release);
      return;
    }
  }
  void grow(std::size_t want) {
    std::size_t count = 1 << 13;
    while (count < want) count *= 2;
    auto fresh = std::make_unique<Slots>(count);
    if (Slots* old = current_.load()) for_each([&](Block& block) { put(*fresh, &block); });
    used_ = live_;
    current_.store(fresh.get(), std::memory_order_release);
    all_.push_back(std::move(fresh));  // a reader may still be in the old one; it is small beside the code
  }

  std::atomic<Slots*> current_{nullptr};
  std::vector<std::unique_ptr<Slots>> all_;
  std::size_t used_ = 0, live_ = 0;
};

}  // namespace kiln::jit
