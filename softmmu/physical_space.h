// The guest-physical address space: RAM, ROM, registers; seen by boards (MemoryBus), bus masters (DmaPort), page-table walks
// (PhysicalMemory) and vCPUs (find()).
// Readers take no lock: they look at an immutable list of ranges, which every change replaces; old ones are kept, since changes are rare.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "devices/bus/dma.h"
#include "devices/bus/event_loop.h"
#include "devices/bus/mmio.h"
#include "ir/system_desc.h"

namespace kiln::softmmu {

/// A RAM block with what softmmu keeps of its pages. Its code is known to the engine by place: place_base + offset, whatever the mappings.
struct Ram : devices::RamBlock {
  std::string name;
  u64 place_base = 0;
  std::unique_ptr<std::atomic<u8>[]> flags;  // of each 4 KiB page
};
inline constexpr u8 kPageHasCode = 1;
inline constexpr unsigned kPlaceBits = 40;  // of an offset in a block

/// What answers at [start, end).
struct PhysicalRange {
  u64 start = 0, end = 0;
  Ram* ram = nullptr;                       // loads and fetches come from here
  u64 ram_offset = 0;                       // of `start`
  bool writable = false;                    // stores go to `ram` too
  devices::MmioDevice* device = nullptr;    // registers; stores to ROM
  u64 device_offset = 0;
};

class PhysicalSpace final : public devices::MemoryBus, public devices::DmaPort, public ir::PhysicalMemory {
 public:
  PhysicalSpace();
  ~PhysicalSpace() override;
  PhysicalSpace(const PhysicalSpace&) = delete;
  PhysicalSpace& operator=(const PhysicalSpace&) = delete;

  /// Called after each change of the mappings, with the machine lock held: translations are stale.
  std::function<void()> on_change;
  /// Called before code on [place, place + bytes) is overwritten by somebody who is no vCPU, or when its block changed.
  std::function<void(u64 place, u64 bytes)> on_code_changed;
  /// Which vCPU is being served: current_cpu().
  static thread_local unsigned serving_cpu;

  /// Null: nothing answers. Any thread, no lock; good until the next change of the mappings.
  const PhysicalRange* find(u64 physical) const;
  Ram* ram_at(u64 place, u64& offset) const;
  /// Registers, split into aligned pieces; the machine lock is taken here. False: a bus error.
  bool read_device(devices::MachineLock& lock, const PhysicalRange& range, u64 physical, void* to, unsigned bytes);
  bool write_device(devices::MachineLock& lock, const PhysicalRange& range, u64 physical, const void* from, unsigned bytes);
  /// The monitor's `info mtree`.
  std::string describe() const;

  // MemoryBus
  devices::RamBlock& create_ram(std::string name, u64 bytes) override;
  devices::Mapping map_ram(u64 base, u64 size, devices::RamBlock& block, u64 offset, std::string name, int priority) override;
  devices::Mapping map_rom(u64 base, u64 size, devices::RamBlock& block, u64 offset, devices::MmioDevice* writes, std::string name,
                           int priority) override;
  devices::Mapping map_mmio(u64 base, u64 size, devices::MmioDevice& device, std::string name, int priority) override;
  devices::Mapping map_alias(u64 base, u64 size, devices::Mapping target, u64 offset, std::string name, int priority) override;
  void unmap(devices::Mapping mapping) override;
  void move(devices::Mapping mapping, u64 base) override;
  void enable(devices::Mapping mapping, bool on) override;
  void set_rom_readable(devices::Mapping rom, bool on) override;
  void ram_changed(devices::RamBlock& block, u64 offset, u64 bytes) override;
  unsigned current_cpu() const override { return serving_cpu; }

  // DmaPort
  bool read(u64 physical, void* to, u64 bytes) override;
  bool write(u64 physical, const void* from, u64 bytes) override;
  bool load(u64 physical, unsigned bytes, u64& value) override;  // PhysicalMemory's too
  bool store(u64 physical, unsigned bytes, u64 value) override;
  u8* map(u64 physical, u64& bytes, Direction direction) override;
  void unmap(u8* host, u64 physical, u64 bytes, Direction direction, u64 written) override;

  // PhysicalMemory
  bool compare_exchange(u64 physical, unsigned bytes, u64 expected, u64 desired) override;

  const std::vector<std::unique_ptr<Ram>>& blocks() const { return blocks_; }

 private:
  struct Entry {
    u64 base = 0, size = 0;
    Ram* ram = nullptr;
    u64 offset = 0;  // in ram, or in the aliased mapping
    bool rom = false, readable = true;
    devices::MmioDevice* device = nullptr;
    devices::Mapping alias = devices::Mapping::None;
    std::string name;
    int priority = 0;
    u64 order = 0;
    bool enabled = true;
  };
  using View = std::vector<PhysicalRange>;
  devices::Mapping add(Entry entry);
  void rebuild();
  void append(std::vector<std::pair<PhysicalRange, std::pair<int, u64>>>& out, const Entry& top, const Entry& e, u64 base, u64 from, u64 size,
              int depth) const;
  void code_changes(const PhysicalRange& range, u64 physical, u64 bytes);

  std::map<u32, Entry> entries_;
  u32 next_ = 1;
  u64 order_ = 0;
  std::vector<std::unique_ptr<Ram>> blocks_;
  std::atomic<const View*> view_{nullptr};
  std::vector<std::unique_ptr<const View>> views_;
};

}  // namespace kiln::softmmu
