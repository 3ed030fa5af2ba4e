// Parallel NOR flash with Intel's command set (CFI command set 0001).
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "devices/bus/mmio.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// Two 16-bit chips side by side on a 32-bit bus (as Linux's binding "cfi-flash" with bank-width 4 and Arm's boards have them),
/// each command given to both. Reads and fetches see the array directly until a command asks for status, identification or CFI
/// data. Commands: JEDEC JESD68 (CFI), Intel StrataFlash data sheets: read array FF, status 70/50, id 90, CFI 98, word program
/// 40/10, buffered program E8, block erase 20, lock 60 (accepted, nothing is locked).
class Pflash final : public MmioDevice, public Device {
 public:
  static constexpr u64 kBlockBytes = 0x40000;  // erase block, both chips together
  /// What keeps the content, if anything does; called with the range that changed. False: it could not be kept, which the guest
  /// is told.
  using Save = std::function<bool(u64 offset, std::span<const u8> bytes)>;

  /// Maps itself. `content`: what it holds at first, FF behind its end. Without `writable` programming and erasing fail as on a
  /// locked device.
  Pflash(MemoryBus& bus, std::string name, u64 base, u64 bytes, const std::vector<u8>& content, bool writable, Save save);

  u64 read(u64 offset, unsigned bytes) override;
  void write(u64 offset, u64 value, unsigned bytes) override;
  void reset() override;
  void state(StateVisitor& visitor) override;

 private:
  enum class Mode : u8 { Array, Status, Id, Cfi, Program, EraseConfirm, LockConfirm, BufferCount, BufferData, BufferConfirm };
  void set_mode(Mode mode);
  void command(u8 command);
  void program(u64 offset, u64 value, unsigned bytes);
  u32 cfi_word(u64 word) const;
  void fill_buffer(u64 offset, u64 value, unsigned bytes);
  void changed(u64 offset, u64 bytes, u8 error);

  MemoryBus& bus_;
  RamBlock& memory_;
  bool writable_;
  Save save_;
  Mapping mapping_;
  Mode mode_ = Mode::Array;
  u8 status_ = 0x80;
  u32 buffer_left_ = 0;
  std::vector<u8> buffer_;          // of one write buffer's window
  std::vector<u8> buffer_written_;  // which of its bytes were given
  u64 buffer_base_ = 0;
};

}  // namespace kiln::devices
