#include "devices/flash/pflash.h"

#include <algorithm>

namespace kiln::devices {

namespace {
enum Status : u8 { kReady = 0x80, kEraseError = 0x20, kProgramError = 0x10, kLocked = 0x02 };
constexpr u64 kChips = 2;
constexpr u64 kWordBytes = 2 * kChips;
constexpr u64 kBufferBytes = 2048;  // both chips: 2^10 bytes each

/// The same on both chips.
constexpr u64 both(u32 value, unsigned bytes) {
  const u64 word = u64{value} | u64{value} << 16;
  return (word | word << 32) & mask_low(8 * bytes);
}
}  // namespace

Pflash::Pflash(MemoryBus& bus, std::string name, u64 base, u64 bytes, const std::vector<u8>& content, bool writable, Save save)
    : bus_(bus),
      memory_(bus.create_ram(name, bytes)),
      writable_(writable),
      save_(std::move(save)),
      buffer_(kBufferBytes),
      buffer_written_(kBufferBytes) {
  std::fill_n(memory_.host, bytes, 0xff);
  std::copy_n(content.begin(), std::min<u64>(content.size(), bytes), memory_.host);
  mapping_ = bus.map_rom(base, bytes, memory_, 0, this, std::move(name));
}

void Pflash::reset() {
  status_ = kReady;
  set_mode(Mode::Array);
}

void Pflash::set_mode(Mode mode) {
  if ((mode == Mode::Array) != (mode_ == Mode::Array)) bus_.set_rom_readable(mapping_, mode == Mode::Array);
  mode_ = mode;
}

u64 Pflash::read(u64 offset, unsigned bytes) {
  switch (mode_) {
    case Mode::Array: {
      u64 value = 0;
      std::memcpy(&value, memory_.host + offset, bytes);
      return value;
    }
    case Mode::Id: {
      // Manufacturer (Intel), device (28F128J3 family), lock status of the block.
      const u64 word = (offset % kBlockBytes) / kWordBytes;
      return both(word == 0 ? 0x89 : word == 1 ? 0x18 : 0, bytes);
    }
    case Mode::Cfi: return both(cfi_word(offset / kWordBytes), bytes);
    default: return both(status_, bytes);
  }
}

/// JESD68.01, section 4: the query structure; a byte a word.
u32 Pflash::cfi_word(u64 word) const {
  const u64 chip_bytes = memory_.bytes / kChips, block = kBlockBytes / kChips, blocks = chip_bytes / block;
  switch (word) {
    case 0x10: return 'Q';
    case 0x11: return 'R';
    case 0x12: return 'Y';
    case 0x13: return 1;     // command set 0001
    case 0x15: return 0x31;  // address of the extended table
    case 0x1b: return 0x45;  // Vcc 4.5 … 5.5 V
    case 0x1c: return 0x55;
    case 0x1f: return 7;  // typical times: word program, buffer, block erase (powers of two)
    case 0x20: return 7;
    case 0x21: return 10;
    case 0x23: return 4;  // at most so many times longer
    case 0x24: return 4;
    case 0x25: return 4;
    case 0x27: return static_cast<u32>(std::countr_zero(chip_bytes));
    case 0x28: return 1;  // 16-bit interface
    case 0x2a: return static_cast<u32>(std::countr_zero(kBufferBytes / kChips));
    case 0x2c: return 1;  // one region of equal blocks
    case 0x2d: return (blocks - 1) & 0xff;
    case 0x2e: return static_cast<u32>((blocks - 1) >> 8);
    case 0x2f: return (block >> 8) & 0xff;
    case 0x30: return static_cast<u32>(block >> 16);
    case 0x31: return 'P';
    case 0x32: return 'R';
    case 0x33: return 'I';
    case 0x34: return '1';
    case 0x35: return '0';
    default: return 0;
  }
}

void Pflash::write(u64 offset, u64 value, unsigned bytes) {
  switch (mode_) {
    case Mode::Program: program(offset, value, bytes); return set_mode(Mode::Status);
    case Mode::EraseConfirm:
      if ((value & 0xff) != 0xd0) {
        status_ |= kEraseError | kProgramError;  // a command sequence error
      } else if (!writable_) {
        status_ |= kEraseError | kLocked;
      } else {
        const u64 block = align_down(offset, kBlockBytes);
        std::fill_n(memory_.host + block, kBlockBytes, 0xff);
        changed(block, kBlockBytes, kEraseError);
      }
      return set_mode(Mode::Status);
    case Mode::LockConfirm: return set_mode(Mode::Status);
    case Mode::BufferCount:
      buffer_left_ = static_cast<u32>(value & 0xffff) + 1;
      buffer_base_ = ~u64{0};
      std::ranges::fill(buffer_written_, 0);
      if (buffer_left_ > kBufferBytes / kWordBytes) {
        status_ |= kEraseError | kProgramError;
        return set_mode(Mode::Status);
      }
      buffer_left_ *= kWordBytes;
      return set_mode(Mode::BufferData);
    case Mode::BufferData: return fill_buffer(offset, value, bytes);
    case Mode::BufferConfirm:
      if ((value & 0xff) != 0xd0) {
        status_ |= kEraseError | kProgramError;
      } else if (!writable_) {
        status_ |= kProgramError | kLocked;
      } else {
        for (u64 i = 0; i < kBufferBytes; ++i)
          if (buffer_written_[i] != 0) memory_.host[buffer_base_ + i] &= buffer_[i];
        changed(buffer_base_, kBufferBytes, kProgramError);
      }
      return set_mode(Mode::Status);
    default: return command(static_cast<u8>(value));
  }
}

void Pflash::command(u8 command) {
  switch (command) {
    case 0x10:
    case 0x40: return set_mode(Mode::Program);
    case 0x20: return set_mode(Mode::EraseConfirm);
    case 0x50: status_ = kReady; return;
    case 0x60: return set_mode(Mode::LockConfirm);
    case 0x70: return set_mode(Mode::Status);
    case 0x90: return set_mode(Mode::Id);
    case 0x98: return set_mode(Mode::Cfi);
    case 0xe8: return set_mode(Mode::BufferCount);
    case 0xff: return set_mode(Mode::Array);
    default: return;  // no command: the chip stays as it is
  }
}

/// Programming turns ones into zeroes only.
void Pflash::program(u64 offset, u64 value, unsigned bytes) {
  if (!writable_) {
    status_ |= kProgramError | kLocked;
    return;
  }
  for (unsigned i = 0; i < bytes; ++i) memory_.host[offset + i] &= static_cast<u8>(value >> (8 * i));
  changed(offset, bytes, kProgramError);
}

void Pflash::fill_buffer(u64 offset, u64 value, unsigned bytes) {
  if (buffer_base_ == ~u64{0}) buffer_base_ = align_down(offset, kBufferBytes);
  // Words outside of the buffer's window go round in it, as the chips decode only its address lines.
  for (unsigned i = 0; i < bytes; ++i) {
    const u64 at = (offset + i) % kBufferBytes;
    buffer_[at] = static_cast<u8>(value >> (8 * i));
    buffer_written_[at] = 1;
  }
  buffer_left_ -= std::min<u32>(buffer_left_, bytes);
  if (buffer_left_ == 0) set_mode(Mode::BufferConfirm);
}

void Pflash::changed(u64 offset, u64 bytes, u8 error) {
  bus_.ram_changed(memory_, offset, bytes);
  if (save_ && !save_(offset, {memory_.host + offset, bytes})) status_ |= error;
}

void Pflash::state(StateVisitor& v) {
  v.version(1);
  // What follows the last byte that is not erased goes without saying.
  u64 used = memory_.bytes;
  if (!v.restoring())
    while (used != 0 && memory_.host[used - 1] == 0xff) used -= 1;
  v.below("used", used, memory_.bytes + 1);
  v.blob("memory", {memory_.host, used});
  if (v.restoring() && !v.failed()) std::fill(memory_.host + used, memory_.host + memory_.bytes, 0xff);
  Mode mode = mode_;
  v.below("mode", mode, static_cast<u64>(Mode::BufferConfirm) + 1);
  v("status", status_);
  v("buffer_left", buffer_left_);
  v.blob("buffer", buffer_);
  v.blob("buffer_written", buffer_written_);
  v("buffer_base", buffer_base_);
  if (!v.restoring() || v.failed()) return;
  if (buffer_base_ != ~u64{0} && (buffer_base_ >= memory_.bytes || buffer_base_ % kBufferBytes != 0))
    return v.fail("flash buffer");
  if (buffer_base_ == ~u64{0} && mode == Mode::BufferConfirm) return v.fail("flash buffer");
  set_mode(mode);
  changed(0, memory_.bytes, 0);
}

}  // namespace kiln::devices
