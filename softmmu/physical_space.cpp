#include "softmmu/physical_space.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <set>

namespace kiln::softmmu {

using devices::Mapping;
using devices::MmioDevice;
using devices::RamBlock;

thread_local unsigned PhysicalSpace::serving_cpu = 0;

PhysicalSpace::PhysicalSpace() { rebuild(); }

PhysicalSpace::~PhysicalSpace() {
  for (const auto& block : blocks_) munmap(block->host, block->bytes);
}

const PhysicalRange* PhysicalSpace::find(u64 physical) const {
  const View& view = *view_.load(std::memory_order_acquire);
  const auto it = std::upper_bound(view.begin(), view.end(), physical, [](u64 a, const PhysicalRange& r) { return a < r.start; });
  if (it == view.begin()) return nullptr;
  const PhysicalRange& range = *std::prev(it);
  return physical < range.end ? &range : nullptr;
}

Ram* PhysicalSpace::ram_at(u64 place, u64& offset) const {
  const u64 index = (place >> kPlaceBits) - 1;
  offset = place & mask_low(kPlaceBits);
  return index < blocks_.size() && offset < blocks_[index]->bytes ? blocks_[index].get() : nullptr;
}

// --- registers --------------------------------------------------------------------------------------------------------

namespace {
// The largest naturally aligned piece at `offset` of at most `bytes`.
unsigned piece(u64 offset, unsigned bytes) {
  unsigned size = 8;
  while (size > bytes || (offset & (size - 1)) != 0) size /= 2;
  return size;
}
}  // namespace

bool PhysicalSpace::read_device(devices::MachineLock& lock, const PhysicalRange& range, u64 physical, void* to, unsigned bytes) {
  const std::lock_guard guard(lock);
  u8* out = static_cast<u8*>(to);
  u64 offset = range.device_offset + (physical - range.start);
  while (bytes != 0) {
    const unsigned size = piece(offset, bytes);
    if (!range.device->answers(offset, size, false)) return false;
    const u64 value = range.device->read(offset, size);
    std::memcpy(out, &value, size);
    out += size, offset += size, bytes -= size;
  }
  return true;
}

bool PhysicalSpace::write_device(devices::MachineLock& lock, const PhysicalRange& range, u64 physical, const void* from, unsigned bytes) {
  const std::lock_guard guard(lock);
  const u8* in = static_cast<const u8*>(from);
  MmioDevice* const device = range.device;  // the write may change the mappings
  u64 offset = range.device_offset + (physical - range.start);
  while (bytes != 0) {
    const unsigned size = piece(offset, bytes);
    if (!device->answers(offset, size, true)) return false;
    u64 value = 0;
    std::memcpy(&value, in, size);
    device->write(offset, value, size);
    in += size, offset += size, bytes -= size;
  }
  return true;
}

// --- mappings ---------------------------------------------------------------------------------------------------------

RamBlock& PhysicalSpace::create_ram(std::string name, u64 bytes) {
  auto ram = std::make_unique<Ram>();
  ram->bytes = align_up(bytes, 4096);
  void* host = mmap(nullptr, ram->bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (host == MAP_FAILED || ram->bytes > mask_low(kPlaceBits)) {
    std::fprintf(stderr, "kiln-system: cannot get %llu bytes of memory for %s\n", static_cast<unsigned long long>(bytes), name.c_str());
    std::exit(1);
  }
  madvise(host, ram->bytes, MADV_HUGEPAGE);
  ram->host = static_cast<u8*>(host);
  ram->name = std::move(name);
  ram->place_base = (blocks_.size() + 1) << kPlaceBits;
  ram->flags = std::make_unique<std::atomic<u8>[]>(ram->bytes / 4096);
  blocks_.push_back(std::move(ram));
  return *blocks_.back();
}

Mapping PhysicalSpace::add(Entry entry) {
  entry.order = ++order_;
  const u32 id = next_++;
  entries_[id] = std::move(entry);
  rebuild();
  return static_cast<Mapping>(id);
}

Mapping PhysicalSpace::map_ram(u64 base, u64 size, RamBlock& block, u64 offset, std::string name, int priority) {
  return add({.base = base, .size = size, .ram = static_cast<Ram*>(&block), .offset = offset, .name = std::move(name), .priority = priority});
}
Mapping PhysicalSpace::map_rom(u64 base, u64 size, RamBlock& block, u64 offset, MmioDevice* writes, std::string name, int priority) {
  return add({.base = base,
              .size = size,
              .ram = static_cast<Ram*>(&block),
              .offset = offset,
              .rom = true,
              .device = writes,
              .name = std::move(name),
              .priority = priority});
}
Mapping PhysicalSpace::map_mmio(u64 base, u64 size, MmioDevice& device, std::string name, int priority) {
  return add({.base = base, .size = size, .device = &device, .name = std::move(name), .priority = priority});
}
Mapping PhysicalSpace::map_alias(u64 base, u64 size, Mapping target, u64 offset, std::string name, int priority) {
  return add({.base = base, .size = size, .offset = offset, .alias = target, .name = std::move(name), .priority = priority});
}

void PhysicalSpace::unmap(Mapping mapping) {
  entries_.erase(static_cast<u32>(mapping));
  rebuild();
}
void PhysicalSpace::move(Mapping mapping, u64 base) {
  const auto it = entries_.find(static_cast<u32>(mapping));
  if (it == entries_.end() || it->second.base == base) return;
  it->second.base = base;
  rebuild();
}
void PhysicalSpace::enable(Mapping mapping, bool on) {
  const auto it = entries_.find(static_cast<u32>(mapping));
  if (it == entries_.end() || it->second.enabled == on) return;
  it->second.enabled = on;
  rebuild();
}
void PhysicalSpace::set_rom_readable(Mapping rom, bool on) {
  const auto it = entries_.find(static_cast<u32>(rom));
  if (it == entries_.end() || it->second.readable == on) return;
  it->second.readable = on;
  rebuild();
}

void PhysicalSpace::ram_changed(RamBlock& block, u64 offset, u64 bytes) {
  const Ram& ram = static_cast<Ram&>(block);
  if (bytes == 0) return;
  for (u64 page = offset / 4096; page <= (offset + bytes - 1) / 4096 && page < ram.bytes / 4096; ++page)
    if ((ram.flags[page].load() & kPageHasCode) != 0 && on_code_changed) on_code_changed(ram.place_base + page * 4096, 4096);
}

/// Bytes [from, from + size) of the mapping `e`, shown at `base`.
void PhysicalSpace::append(std::vector<std::pair<PhysicalRange, std::pair<int, u64>>>& out, const Entry& top, const Entry& e, u64 base,
                           u64 from, u64 size, int depth) const {
  if (from >= e.size || depth > 8) return;
  size = std::min(size, e.size - from);
  if (e.alias != Mapping::None) {
    const auto it = entries_.find(static_cast<u32>(e.alias));
    if (it != entries_.end() && it->second.enabled) append(out, top, it->second, base, e.offset + from, size, depth + 1);
    return;
  }
  PhysicalRange range;
  range.start = base;
  range.end = base + size < base ? ~u64{0} : base + size;
  if (e.ram != nullptr && e.readable) {
    range.ram = e.ram;
    range.ram_offset = e.offset + from;
    range.writable = !e.rom;
  }
  range.device = e.device;
  range.device_offset = from;
  out.push_back({range, {top.priority, top.order}});
}

void PhysicalSpace::rebuild() {
  std::vector<std::pair<PhysicalRange, std::pair<int, u64>>> all;
  for (const auto& [id, entry] : entries_)
    if (entry.enabled) append(all, entry, entry, entry.base, 0, entry.size, 0);
  std::set<u64> edges;
  for (const auto& [range, rank] : all) edges.insert(range.start), edges.insert(range.end);
  auto view = std::make_unique<View>();
  for (auto it = edges.begin(); it != edges.end() && std::next(it) != edges.end(); ++it) {
    const u64 start = *it, end = *std::next(it);
    const std::pair<PhysicalRange, std::pair<int, u64>>* best = nullptr;
    for (const auto& candidate : all)
      if (candidate.first.start <= start && candidate.first.end >= end && (best == nullptr || candidate.second > best->second)) best = &candidate;
    if (best == nullptr) continue;
    PhysicalRange range = best->first;
    range.ram_offset += start - range.start;
    range.device_offset += start - range.start;
    range.start = start;
    range.end = end;
    if (!view->empty()) {
      PhysicalRange& before = view->back();
      const u64 step = start - before.start;
      if (before.end == start && before.ram == range.ram && before.device == range.device && before.writable == range.writable &&
          (range.ram == nullptr || before.ram_offset + step == range.ram_offset) && before.device_offset + step == range.device_offset) {
        before.end = end;
        continue;
      }
    }
    view->push_back(range);
  }
  view_.store(view.get(), std::memory_order_release);
  views_.push_back(std::move(view));
  if (on_change) on_change();
}

std::string PhysicalSpace::describe() const {
  std::string text;
  for (const auto& [id, e] : entries_)
    text += fmt::format("{:016x}-{:016x} (prio {}, {}): {}{}\n", e.base, e.base + e.size - 1, e.priority,
                        e.alias != Mapping::None ? "alias" : e.ram == nullptr ? "i/o" : e.rom ? (e.readable ? "rom" : "romd") : "ram", e.name,
                        e.enabled ? "" : " [disabled]");
  return text;
}

// --- bus masters ------------------------------------------------------------------------------------------------------

// `physical` and what follows up to `bytes` is about to be written, by nobody who looks at page flags.
void PhysicalSpace::code_changes(const PhysicalRange& range, u64 physical, u64 bytes) {
  ram_changed(*range.ram, range.ram_offset + (physical - range.start), bytes);
}

bool PhysicalSpace::read(u64 physical, void* to, u64 bytes) {
  u8* out = static_cast<u8*>(to);
  while (bytes != 0) {
    const PhysicalRange* range = find(physical);
    if (range == nullptr || range->ram == nullptr) return false;
    const u64 size = std::min(bytes, range->end - physical);
    std::memcpy(out, range->ram->host + range->ram_offset + (physical - range->start), size);
    out += size, physical += size, bytes -= size;
  }
  return true;
}

bool PhysicalSpace::write(u64 physical, const void* from, u64 bytes) {
  const u8* in = static_cast<const u8*>(from);
  while (bytes != 0) {
    const PhysicalRange* range = find(physical);
    if (range == nullptr || range->ram == nullptr || !range->writable) return false;
    const u64 size = std::min(bytes, range->end - physical);
    code_changes(*range, physical, size);
    std::memcpy(range->ram->host + range->ram_offset + (physical - range->start), in, size);
    in += size, physical += size, bytes -= size;
  }
  return true;
}

namespace {
template <class T>
u64 atomic_load(const u8* host) {
  return __atomic_load_n(reinterpret_cast<const T*>(host), __ATOMIC_ACQUIRE);
}
template <class T>
void atomic_store(u8* host, u64 value) {
  __atomic_store_n(reinterpret_cast<T*>(host), static_cast<T>(value), __ATOMIC_RELEASE);
}
bool natural(u64 physical, unsigned bytes) {
  return (bytes == 1 || bytes == 2 || bytes == 4 || bytes == 8) && (physical & (bytes - 1)) == 0;
}
}  // namespace

bool PhysicalSpace::load(u64 physical, unsigned bytes, u64& value) {
  const PhysicalRange* range = find(physical);
  if (range == nullptr || range->ram == nullptr || !natural(physical, bytes)) return false;
  const u8* host = range->ram->host + range->ram_offset + (physical - range->start);
  switch (bytes) {
    case 1: value = atomic_load<u8>(host); break;
    case 2: value = atomic_load<u16>(host); break;
    case 4: value = atomic_load<u32>(host); break;
    default: value = atomic_load<u64>(host); break;
  }
  return true;
}

bool PhysicalSpace::store(u64 physical, unsigned bytes, u64 value) {
  const PhysicalRange* range = find(physical);
  if (range == nullptr || range->ram == nullptr || !range->writable || !natural(physical, bytes)) return false;
  code_changes(*range, physical, bytes);
  u8* host = range->ram->host + range->ram_offset + (physical - range->start);
  switch (bytes) {
    case 1: atomic_store<u8>(host, value); break;
    case 2: atomic_store<u16>(host, value); break;
    case 4: atomic_store<u32>(host, value); break;
    default: atomic_store<u64>(host, value); break;
  }
  return true;
}

u8* PhysicalSpace::map(u64 physical, u64& bytes, Direction direction) {
  const PhysicalRange* range = find(physical);
  if (range == nullptr || range->ram == nullptr || (direction == Direction::ToMemory && !range->writable) || bytes == 0) return nullptr;
  bytes = std::min(bytes, range->end - physical);
  return range->ram->host + range->ram_offset + (physical - range->start);
}

void PhysicalSpace::unmap(u8* host, u64, u64, Direction direction, u64 written) {
  if (direction != Direction::ToMemory || written == 0) return;
  for (const auto& ram : blocks_)
    if (host >= ram->host && host < ram->host + ram->bytes) return ram_changed(*ram, static_cast<u64>(host - ram->host), written);
}

bool PhysicalSpace::compare_exchange(u64 physical, unsigned bytes, u64 expected, u64 desired) {
  const PhysicalRange* range = find(physical);
  if (range == nullptr || range->ram == nullptr || !range->writable || !natural(physical, bytes) || bytes < 4) return false;
  u8* host = range->ram->host + range->ram_offset + (physical - range->start);
  code_changes(*range, physical, bytes);
  if (bytes == 4) {
    u32 want = static_cast<u32>(expected);
    return __atomic_compare_exchange_n(reinterpret_cast<u32*>(host), &want, static_cast<u32>(desired), false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
  }
  return __atomic_compare_exchange_n(reinterpret_cast<u64*>(host), &expected, desired, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
}

}  // namespace kiln::softmmu
