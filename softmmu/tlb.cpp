// A vCPU's TLBs and the slow path of memory accesses.
// Code. A jump-cache key stands for what fetches mean: mode word and address space. Keys are made as spaces appear and die together
// (new_key_epoch) when a translation changes that something was fetched through. A key that died does not come back until the
// numbers are used up; so what was kept under it (jump cache, regions, fetch_) need not be looked for.
#include <fmt/format.h>

#include <cstring>

#include "softmmu/machine.h"
#include "softmmu/vcpu.h"

namespace kiln::softmmu {

using ir::Access;
using ir::kNoTag;
using ir::MemOp;
using ir::TlbEntry;
using ir::TlbFlush;
using ir::Translation;

namespace {
constexpr u64 kPage = 4096;
constexpr unsigned kKeyShift = 48;
constexpr u64 kMostKeys = 0x7ffe;
}  // namespace

// --- code -------------------------------------------------------------------------------------------------------------

void Vcpu::new_key_epoch() {
  keys_.clear();
  located_.clear();
  state_->jump_key = ir::kJumpKeyUnknown;
  ++stats.key_epochs;
}

// Between runs of guest code.
void Vcpu::renew_keys() {
  if (next_key_ < kMostKeys / 2) return;
  new_key_epoch();
  // Numbers are used again: nothing may be left that was kept under them.
  next_key_ = 1;
  for (FetchEntry& entry : fetch_) entry.tag = kNoTag;
  for (std::size_t i = 0; i < ir::kJumpCacheEntries; ++i) state_->jump_cache()[i].pc = ir::empty_jump_cache_pc(i);
  engine_.forget_keys();
}

void Vcpu::find_key() {
  if (next_key_ >= kMostKeys) return __atomic_store_n(&state_->interrupt, 1, __ATOMIC_RELEASE);  // renew_keys() soon
  auto [it, fresh] = keys_.try_emplace({desc_.space_of(state_), state_->mode}, next_key_ << kKeyShift);
  if (fresh) ++next_key_, ++stats.new_keys;
  state_->jump_key = it->second;
}

bool Vcpu::locate(GuestAddr pc, GuestAddr& place) {
  if (state_->jump_key == ir::kJumpKeyUnknown) find_key();
  const u64 page = align_down(pc, kPage);
  FetchEntry& entry = fetch_[(page / kPage) % kFetchEntries];
  const bool known = state_->jump_key != ir::kJumpKeyUnknown;
  if (known && entry.tag == (page ^ state_->jump_key)) {
    place = entry.place + (pc - page);
    return true;
  }
  Translation t;
  if (!desc_.translate(state_, machine_.space(), pc, Access::Fetch, desc_.fetch_index(state_), t)) return false;
  const PhysicalRange* range = machine_.space().find(t.physical);
  if (range == nullptr || range->ram == nullptr) {
    desc_.bus_error(state_, pc, Access::Fetch, false);
    return false;
  }
  place = range->ram->place_base + range->ram_offset + (t.physical - range->start);
  if (!known) return true;
  entry.tag = page ^ state_->jump_key;
  entry.place = place - (pc - page);
  located_.insert(page);
  if (t.page_bytes > kPage) {
    Large& large = large_[page >> 63];
    large.low = std::min(large.low, align_down(pc, t.page_bytes));
    large.high = std::max(large.high, align_down(pc, t.page_bytes) + t.page_bytes - 1);
  }
  return true;
}

// --- data -------------------------------------------------------------------------------------------------------------

bool Vcpu::translate_data(u64 address, u32 desc, unsigned bytes, Translation& t) {
  const MemOp m = MemOp::unpack(desc & 0xffff);
  const Access kind = (desc & ir::kStoreAccess) != 0 ? Access::Store : Access::Load;
  if (!desc_.translate(state_, machine_.space(), address, kind, m.mmu_index, t)) return false;
  if (t.device && (address & (bytes - 1)) != 0) {
    desc_.bus_error(state_, address, kind, true);
    return false;
  }
  return true;
}

u64 Vcpu::space() {
  if (!space_known_) {
    space_ = desc_.data_space_of(state_);
    space_known_ = true;
  }
  return space_;
}

const Vcpu::Kept* Vcpu::find_kept(u64 address, unsigned index, bool store) {
  const u64 page = align_down(address, kPage), here = space();
  const Kept* set = kept_set(page, index);
  for (std::size_t way = 0; way < kKeptWays; ++way) {
    const Kept& kept = set[way];
    if (kept.page == page && kept.index == index && kept.space == here && kept.epoch == kept_epoch_ && (store ? kept.writable : kept.readable))
      return &kept;
  }
  return nullptr;
}

// A page that became writable takes the place of what it was.
void Vcpu::keep(u64 address, unsigned index, const Translation& t, const PhysicalRange& range) {
  const u64 page = align_down(address, kPage), here = space();
  Kept* set = kept_set(page, index);
  Kept* place = nullptr;
  for (std::size_t way = 0; way < kKeptWays && place == nullptr; ++way)
    if (set[way].page == page && set[way].index == index && set[way].space == here) place = &set[way];
  for (std::size_t way = 0; way < kKeptWays && place == nullptr; ++way)
    if (set[way].epoch != kept_epoch_ || set[way].page == kNoTag) place = &set[way];
  if (place == nullptr) place = &set[kept_way_++ % kKeptWays];
  *place = {.page = page,
            .space = here,
            .ram = range.ram,
            .offset = range.ram_offset + (align_down(t.physical, kPage) - range.start),
            .physical = align_down(t.physical, kPage),
            .epoch = kept_epoch_,
            .index = static_cast<u8>(index),
            .readable = t.readable,
            .writable = t.writable && range.writable,
            .global = t.global};
  if (t.page_bytes > kPage) {
    Large& large = large_[page >> 63];
    const u64 start = align_down(address, t.page_bytes);
    large.low = std::min(large.low, start);
    large.high = std::max(large.high, start + t.page_bytes - 1);
  }
  fill(address, *place);
}

void Vcpu::fill(u64 address, const Kept& kept) {
  ++stats.fills;
  const unsigned index = kept.index;
  const std::size_t slot = ir::tlb_slot(address);
  TlbEntry& entry = state_->tlb(index)[slot];
  entry.read_tag = kept.readable ? kept.page : kNoTag;
  entry.addend = reinterpret_cast<u64>(kept.ram->host + kept.offset) - kept.page;
  entry.physical = kept.physical;
  const bool quick = kept.writable && (kept.ram->flags[kept.offset / kPage].load() & kPageHasCode) == 0;
  entry.write_tag = quick ? kept.page : kNoTag;
  global_[index][slot] = kept.global;
  if (!listed_[index][slot]) {
    listed_[index][slot] = true;
    filled_[index].push_back(static_cast<u16>(slot));
  }
}

void* Vcpu::access(u64 address, u32 desc, const void* value) {
  const unsigned bytes = ir::width_bytes(MemOp::unpack(desc & 0xffff).width);
  if ((address & (kPage - 1)) + bytes > kPage) return crossing(address, desc, value, bytes);
  return access_page(address, desc, value, bytes);
}

void* Vcpu::access_page(u64 address, u32 desc, const void* value, unsigned bytes) {
  const unsigned index = MemOp::unpack(desc & 0xffff).mmu_index;
  const bool store = (desc & ir::kStoreAccess) != 0;
  const TlbEntry& entry = state_->tlb(index)[ir::tlb_slot(address)];
  if ((store ? entry.write_tag : entry.read_tag) == align_down(address, kPage)) return reinterpret_cast<void*>(address + entry.addend);
  const auto memory = [&](const Kept& kept) -> void* {
    const u64 offset = kept.offset + (address & (kPage - 1));
    std::atomic<u8>& flags = kept.ram->flags[offset / kPage];
    if (store && (flags.load() & kPageHasCode) != 0) {
      ++stats.code_writes;
      if (engine_.changed(kept.ram->place_base + offset, bytes)) {
        flags.fetch_and(static_cast<u8>(~kPageHasCode));
        fill(address, kept);
      }
    }
    return kept.ram->host + offset;
  };
  if (const Kept* kept = find_kept(address, index, store)) {
    fill(address, *kept);
    return memory(*kept);
  }
  Translation t;
  ++stats.walks;
  if (!translate_data(address, desc, bytes, t)) return nullptr;
  const PhysicalRange* range = machine_.space().find(t.physical);
  const auto bus_error = [&]() -> void* {
    machine_.guest_error(fmt::format("cpu {}: nothing answers {} {} bytes at {:#x} (pc {:#x})", index_, store ? "a store of" : "a load of", bytes,
                                     t.physical, state_->pc));
    desc_.bus_error(state_, address, store ? Access::Store : Access::Load, false);
    return nullptr;
  };
  if (range == nullptr) return bus_error();
  if (range->ram != nullptr && (!store || range->writable)) {
    if (t.device) {  // what it forbids must be looked at each time
      const u64 offset = range->ram_offset + (t.physical - range->start);
      const Kept once{.page = align_down(address, kPage), .ram = range->ram, .offset = align_down(offset, kPage), .physical = align_down(t.physical, kPage),
                      .index = static_cast<u8>(index)};
      return memory(once);
    }
    keep(address, index, t, *range);
    return memory(*find_kept(address, index, store));
  }
  // Registers, or a store to ROM.
  ++stats.device_accesses;
  if (range->device == nullptr) {
    if (range->ram == nullptr) return bus_error();
    return bounce_;  // plain ROM ignores stores
  }
  if (store && value == nullptr) return bus_error();
  const bool answered = store ? machine_.space().write_device(machine_.lock(), *range, t.physical, value, bytes)
                              : machine_.space().read_device(machine_.lock(), *range, t.physical, bounce_, bytes);
  return answered ? bounce_ : bus_error();
}

// Both pages are translated before anything is read or written; the first one's fault comes first.
void* Vcpu::crossing(u64 address, u32 desc, const void* value, unsigned bytes) {
  ++stats.crossings;
  const bool store = (desc & ir::kStoreAccess) != 0;
  if (store && value == nullptr) {
    desc_.bus_error(state_, address, Access::Store, true);
    return nullptr;
  }
  const u64 second = align_down(address, kPage) + kPage;
  const unsigned first_bytes = static_cast<unsigned>(second - address);
  Translation t[2];
  if (!translate_data(address, desc, bytes, t[0])) return nullptr;
  if (!translate_data(second, desc, 1, t[1])) return nullptr;
  if (t[1].device) {
    desc_.bus_error(state_, address, store ? Access::Store : Access::Load, true);
    return nullptr;
  }
  u8 copy[64];
  if (store) std::memcpy(copy, value, bytes);
  const PhysicalRange* ranges[2];
  for (int i = 0; i < 2; ++i) {
    ranges[i] = machine_.space().find(t[i].physical);
    if (ranges[i] != nullptr) continue;
    desc_.bus_error(state_, i == 0 ? address : second, store ? Access::Store : Access::Load, false);
    return nullptr;
  }
  unsigned done = 0;
  for (int i = 0; i < 2; ++i) {
    const PhysicalRange& range = *ranges[i];
    const unsigned size = i == 0 ? first_bytes : bytes - first_bytes;
    const u64 offset = range.ram_offset + (t[i].physical - range.start);
    bool answered = true;
    if (range.ram != nullptr && !store) {
      std::memcpy(bounce_ + done, range.ram->host + offset, size);
    } else if (range.ram != nullptr && range.writable) {
      if ((range.ram->flags[offset / kPage].load() & kPageHasCode) != 0 && engine_.changed(range.ram->place_base + offset, size))
        range.ram->flags[offset / kPage].fetch_and(static_cast<u8>(~kPageHasCode));
      std::memcpy(range.ram->host + offset, copy + done, size);
    } else if (range.device != nullptr) {
      answered = store ? machine_.space().write_device(machine_.lock(), range, t[i].physical, copy + done, size)
                       : machine_.space().read_device(machine_.lock(), range, t[i].physical, bounce_ + done, size);
    }
    if (!answered) {
      desc_.bus_error(state_, i == 0 ? address : second, store ? Access::Store : Access::Load, false);
      return nullptr;
    }
    done += size;
  }
  return bounce_;
}

// --- flushes ----------------------------------------------------------------------------------------------------------

void Vcpu::clear_entry(unsigned index, std::size_t slot) {
  TlbEntry& entry = state_->tlb(index)[slot];
  entry.read_tag = entry.write_tag = kNoTag;
}

void Vcpu::flush_all() {
  for (unsigned i = 0; i < ir::kTlbIndices; ++i) {
    for (const u16 slot : filled_[i]) {
      clear_entry(i, slot);
      listed_[i][slot] = false;
    }
    filled_[i].clear();
  }
  ++kept_epoch_;
  space_known_ = false;
  large_[0] = large_[1] = {};
  new_key_epoch();
}

void Vcpu::flush_non_global(u32 indices) {
  for (unsigned i = 0; i < ir::kTlbIndices; ++i) {
    if (((indices >> i) & 1) == 0) continue;
    std::erase_if(filled_[i], [&](u16 slot) {
      if (global_[i][slot]) return false;
      clear_entry(i, slot);
      listed_[i][slot] = false;
      return true;
    });
  }
}

void Vcpu::flush_page(GuestAddr address) {
  const u64 mask = mask_low(56);  // where top bytes are ignored, every tag's entry goes
  const u64 page = align_down(address, kPage);
  const std::size_t slot = ir::tlb_slot(page);
  for (unsigned i = 0; i < ir::kTlbIndices; ++i) {
    const TlbEntry& entry = state_->tlb(i)[slot];
    const u64 held = (entry.read_tag != kNoTag ? entry.read_tag : entry.write_tag);
    if (held != kNoTag && ((held ^ page) & mask & ~(kPage - 1)) == 0) clear_entry(i, slot);
    Kept* set = kept_set(page, i);
    for (std::size_t way = 0; way < kKeptWays; ++way)
      if (set[way].page != kNoTag && ((set[way].page ^ page) & mask) == 0) set[way].page = kNoTag;
  }
  if (located_.contains(page)) new_key_epoch();
}

void Vcpu::flush_tlb(const TlbFlush& flush, bool) {
  switch (flush.scope) {
    case TlbFlush::Scope::All:
      ++stats.flushes_all;
      return flush_all();
    case TlbFlush::Scope::NonGlobal:
      ++stats.flushes_non_global;
      flush_non_global(flush.indices);
      ++kept_epoch_;
      return new_key_epoch();
    case TlbFlush::Scope::Space:
      ++stats.space_changes;
      flush_non_global(flush.indices);
      return space_changed();
    case TlbFlush::Scope::Page: break;
  }
  ++stats.flushes_page;
  const Large& large = large_[flush.address >> 63];
  const u64 last = flush.address + flush.bytes - 1;
  if ((flush.address <= large.high && last >= large.low) || flush.bytes > kPage * 64) return flush_all();
  for (u64 at = align_down(flush.address, kPage); at <= last; at += kPage) {
    flush_page(at);
    if (at + kPage < at) break;
  }
}

void Vcpu::drop_write_tags(const u8* host_page) {
  for (unsigned i = 0; i < ir::kTlbIndices; ++i)
    for (const u16 slot : filled_[i]) {
      TlbEntry& entry = state_->tlb(i)[slot];
      if (entry.write_tag != kNoTag && entry.write_tag + entry.addend == reinterpret_cast<u64>(host_page))
        __atomic_store_n(&entry.write_tag, kNoTag, __ATOMIC_RELEASE);
    }
}

std::string Vcpu::tlb_text() const {
  std::string text;
  for (unsigned i = 0; i < ir::kTlbIndices; ++i)
    for (const u16 slot : filled_[i]) {
      const TlbEntry& e = state_->tlb(i)[slot];
      const u64 tag = e.read_tag != kNoTag ? e.read_tag : e.write_tag;
      if (tag == kNoTag) continue;
      text += fmt::format("cpu {} index {}: {:016x} -> {:016x} {}{}{}\n", index_, i, tag, e.physical, e.read_tag != kNoTag ? "r" : "-",
                          e.write_tag != kNoTag ? "w" : "-", global_[i][slot] ? " global" : "");
    }
  return text;
}

const u8* Vcpu::debug_host(GuestAddr address) {
  u64 physical;
  if (!debug_translate(address, physical)) return nullptr;
  const PhysicalRange* range = machine_.space().find(physical);
  return range != nullptr && range->ram != nullptr ? range->ram->host + range->ram_offset + (physical - range->start) : nullptr;
}

bool Vcpu::debug_translate(GuestAddr address, u64& physical) {
  const u32 kind = state_->exit_kind, aux = state_->exit_aux;
  const u64 value = state_->exit_value;
  Translation t;
  const bool found = desc_.translate(state_, machine_.space(), address, Access::Load, desc_.fetch_index(state_), t) ||
                     desc_.translate(state_, machine_.space(), address, Access::Fetch, desc_.fetch_index(state_), t);
  state_->exit_kind = kind;
  state_->exit_aux = aux;
  state_->exit_value = value;
  physical = t.physical;
  return found;
}

}  // namespace kiln::softmmu
