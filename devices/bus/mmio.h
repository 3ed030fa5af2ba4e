// Registers in the physical address space, and the address space as devices and boards see it (softmmu implements it).
#pragma once
#include <string>

#include "ir/support/bits.h"

namespace kiln::devices {

/// A range of registers. The bus holds the machine lock (event_loop.h) during every call and hands on naturally aligned
/// accesses of 1, 2, 4 or 8 bytes that lie inside the mapped range: it splits others into such pieces, lowest address first.
/// Values are little-endian and zero-extended. Whatever a guest does here is answered as the hardware would answer it, never by
/// stopping the process.
class MmioDevice {
 public:
  virtual ~MmioDevice() = default;
  /// Asked before each access. False: the bus reports an error for it (external abort, machine check) and neither read nor
  /// write is called.
  virtual bool answers(u64 offset, unsigned bytes, bool write) { return true; }
  virtual u64 read(u64 offset, unsigned bytes) = 0;
  virtual void write(u64 offset, u64 value, unsigned bytes) = 0;
};

/// A piece of host memory that can be mapped as RAM or ROM. Made by MemoryBus::create_ram, lives as long as the bus.
struct RamBlock {
  u8* host = nullptr;  // page aligned, zeroed at first
  u64 bytes = 0;
};

/// Names one mapping; None names nothing.
enum class Mapping : u32 { None = 0 };

/// The physical address space. Where mappings overlap the higher priority answers, among equals the later one; where nothing is
/// mapped accesses are bus errors. All calls with the machine lock held; they may be made from inside MmioDevice::read and
/// write (a BAR moves, a flash changes its mode) and hold from the next access of any vCPU on.
class MemoryBus {
 public:
  virtual ~MemoryBus() = default;

  /// `name` shows in the monitor's `info mtree` and in saved states. Sizes are multiples of 4096 when memory is mapped, any for
  /// registers.
  virtual RamBlock& create_ram(std::string name, u64 bytes) = 0;
  /// [offset, offset + size) of `block` as RAM.
  virtual Mapping map_ram(u64 base, u64 size, RamBlock& block, u64 offset, std::string name, int priority = 0) = 0;
  /// As map_ram for loads and fetches; stores go to `writes`, and are ignored if there is none.
  virtual Mapping map_rom(u64 base, u64 size, RamBlock& block, u64 offset, MmioDevice* writes, std::string name,
                          int priority = 0) = 0;
  virtual Mapping map_mmio(u64 base, u64 size, MmioDevice& device, std::string name, int priority = 0) = 0;
  /// What another mapping shows at [offset, offset + size) of itself appears at `base` as well.
  virtual Mapping map_alias(u64 base, u64 size, Mapping target, u64 offset, std::string name, int priority = 0) = 0;

  /// Takes a mapping away for good. Aliases of it must be gone.
  virtual void unmap(Mapping mapping) = 0;
  /// Moves a mapping (PCI BARs).
  virtual void move(Mapping mapping, u64 base) = 0;
  /// A mapping that is not enabled is as if it were not there. New ones are enabled.
  virtual void enable(Mapping mapping, bool on) = 0;
  /// A map_rom mapping: true (at first): loads and fetches see the memory; false: loads go to the device `writes` too (a
  /// flash's status mode), fetches are bus errors.
  virtual void set_rom_readable(Mapping rom, bool on) = 0;
  /// The owner of a block wrote to block.host itself: what was translated from there is stale, the range is dirty.
  virtual void ram_changed(RamBlock& block, u64 offset, u64 bytes) = 0;

  /// The vCPU (by index) whose access or system instruction is being answered; 0 outside of one. Interrupt controllers have
  /// registers of which each processor sees its own.
  virtual unsigned current_cpu() const = 0;
};

}  // namespace kiln::devices
