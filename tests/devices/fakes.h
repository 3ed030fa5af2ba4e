// What a device is built on in a test: lines that remember, time that a test moves, memory in a vector.
#pragma once
#include <cstdlib>
#include <deque>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "devices/block/block_backend.h"
#include "devices/bus/clock.h"
#include "devices/bus/dma.h"
#include "devices/bus/event_loop.h"
#include "devices/bus/host_loop.h"
#include "devices/bus/irq.h"
#include "devices/bus/mmio.h"
#include "devices/bus/state_file.h"
#include "devices/char/char_backend.h"
#include "devices/net/net_backend.h"

namespace kiln::devices {

struct FakeLine : IrqLine {
  bool level = false;
  unsigned rises = 0;
  void set(bool to) override {
    rises += to && !level ? 1 : 0;
    level = to;
  }
};

/// Time stands still until advance().
class FakeClock : public Clock {
 public:
  u64 now = 0;
  u64 start_date = 1'700'000'000;
  u64 now_ns() override { return now; }
  u64 date() override { return start_date + now / 1'000'000'000; }
  std::unique_ptr<Timer> create_timer(std::function<void()> callback) override { return timers_.create(std::move(callback)); }
  void advance(u64 ns) {
    const u64 end = now + ns;
    // In steps, so that a callback sees the time at which it was due.
    while (timers_.earliest() <= end) {
      now = std::max(now, timers_.earliest());
      timers_.run(now);
    }
    now = end;
  }

 private:
  TimerQueue timers_{[] {}};
};

/// RAM at one address.
class FakeDma : public DmaPort {
 public:
  u64 base;
  std::vector<u8> memory;
  unsigned mapped = 0;
  explicit FakeDma(u64 base = 0x40000000, u64 bytes = 1 << 20) : base(base), memory(bytes) {}
  bool inside(u64 physical, u64 bytes) const {
    return physical >= base && bytes <= memory.size() && physical - base <= memory.size() - bytes;
  }
  u8* at(u64 physical) { return memory.data() + (physical - base); }

  bool read(u64 physical, void* to, u64 bytes) override {
    if (!inside(physical, bytes)) return false;
    if (bytes != 0) std::memcpy(to, at(physical), bytes);
    return true;
  }
  bool write(u64 physical, const void* from, u64 bytes) override {
    if (!inside(physical, bytes)) return false;
    if (bytes != 0) std::memcpy(at(physical), from, bytes);
    return true;
  }
  bool load(u64 physical, unsigned bytes, u64& value) override {
    value = 0;
    return physical % bytes == 0 && read(physical, &value, bytes);
  }
  bool store(u64 physical, unsigned bytes, u64 value) override {
    return physical % bytes == 0 && write(physical, &value, bytes);
  }
  u8* map(u64 physical, u64& bytes, Direction) override {
    if (!inside(physical, 1)) return nullptr;
    bytes = std::min(bytes, base + memory.size() - physical);
    mapped += 1;
    return at(physical);
  }
  void unmap(u8*, u64, u64 bytes, Direction, u64 written) override {
    if (written > bytes) std::abort();
    mapped -= 1;
  }
};

/// Posted work and timers run when the test says so.
class FakeLoop : public EventLoop {
 public:
  u64 now = 0;
  std::deque<std::function<void()>> posted;
  std::unique_ptr<FdWatch> watch(int, std::function<void(Ready)>) override { std::abort(); }
  void post(std::function<void()> work) override { posted.push_back(std::move(work)); }
  u64 host_ns() override { return now; }
  std::unique_ptr<Timer> create_host_timer(std::function<void()> callback) override {
    return timers_.create(std::move(callback));
  }
  void run() {
    while (!posted.empty()) {
      const auto work = std::move(posted.front());
      posted.pop_front();
      work();
    }
  }

 private:
  TimerQueue timers_{[] {}};
};

/// Mappings in order of priority; registers are reached with load() and store().
class FakeBus : public MemoryBus {
 public:
  struct Region {
    u64 base, size;
    MmioDevice* device;
    RamBlock* ram;
    std::string name;
    bool enabled = true, readable = true;
  };
  std::map<u32, Region> regions;
  unsigned cpu = 0;
  unsigned changes = 0;

  RamBlock& create_ram(std::string, u64 bytes) override {
    storage_.push_back(std::make_unique<u8[]>(bytes));
    blocks_.push_back({storage_.back().get(), bytes});
    return blocks_.back();
  }
  Mapping map_ram(u64 base, u64 size, RamBlock& block, u64, std::string name, int) override {
    return add({base, size, nullptr, &block, name});
  }
  Mapping map_rom(u64 base, u64 size, RamBlock& block, u64, MmioDevice* writes, std::string name, int) override {
    return add({base, size, writes, &block, name});
  }
  Mapping map_mmio(u64 base, u64 size, MmioDevice& device, std::string name, int) override {
    return add({base, size, &device, nullptr, name});
  }
  Mapping map_alias(u64, u64, Mapping, u64, std::string, int) override { std::abort(); }
  void unmap(Mapping mapping) override { regions.erase(static_cast<u32>(mapping)); }
  void move(Mapping mapping, u64 base) override { regions.at(static_cast<u32>(mapping)).base = base; }
  void enable(Mapping mapping, bool on) override { regions.at(static_cast<u32>(mapping)).enabled = on; }
  void set_rom_readable(Mapping rom, bool on) override { regions.at(static_cast<u32>(rom)).readable = on; }
  void ram_changed(RamBlock&, u64, u64) override { changes += 1; }
  unsigned current_cpu() const override { return cpu; }

  Region* find(u64 address) {
    for (auto& [id, region] : regions)
      if (region.enabled && address - region.base < region.size) return &region;
    return nullptr;
  }
  /// ~0 if nothing answers.
  u64 load(u64 address, unsigned bytes = 4) {
    Region* region = find(address);
    if (region == nullptr) return ~u64{0};
    const u64 offset = address - region->base;
    if (region->ram != nullptr && region->readable) {
      u64 value = 0;
      std::memcpy(&value, region->ram->host + offset, bytes);
      return value;
    }
    return region->device->answers(offset, bytes, false) ? region->device->read(offset, bytes) : ~u64{0};
  }
  void store(u64 address, u64 value, unsigned bytes = 4) {
    Region* region = find(address);
    if (region == nullptr) return;
    const u64 offset = address - region->base;
    if (region->device != nullptr) {
      if (region->device->answers(offset, bytes, true)) region->device->write(offset, value, bytes);
    } else {
      std::memcpy(region->ram->host + offset, &value, bytes);
    }
  }

 private:
  Mapping add(Region region) {
    regions.emplace(++last_, region);
    return static_cast<Mapping>(last_);
  }
  u32 last_ = 0;
  std::deque<RamBlock> blocks_;
  std::vector<std::unique_ptr<u8[]>> storage_;
};

struct FakeChar : CharBackend {
  Callbacks callbacks;
  std::string sent;
  std::deque<u8> waiting;
  void attach(Callbacks to) override { callbacks = std::move(to); }
  void send(std::span<const u8> bytes) override { sent.append(bytes.begin(), bytes.end()); }
  void room_changed() override { deliver(); }
  std::string describe() const override { return "fake"; }
  void type(const std::string& text) {
    waiting.insert(waiting.end(), text.begin(), text.end());
    deliver();
  }
  void deliver() {
    while (!waiting.empty() && callbacks.room && callbacks.room() != 0) {
      const u8 byte = waiting.front();
      waiting.pop_front();
      callbacks.receive({&byte, 1});
    }
  }
};

struct FakeNet : NetBackend {
  Callbacks callbacks;
  std::vector<std::vector<u8>> sent;
  unsigned ready_changes = 0;
  void attach(Callbacks to) override { callbacks = std::move(to); }
  void send(std::span<const u8> frame) override { sent.emplace_back(frame.begin(), frame.end()); }
  void ready_changed() override { ready_changes += 1; }
  std::string describe() const override { return "fake"; }
};

/// A disk in memory; requests are done by FakeLoop::run.
class FakeDisk : public BlockBackend {
 public:
  std::vector<u8> content;
  bool readonly = false;
  int error = 0;
  unsigned flushes = 0, discards = 0;
  bool last_fua = false;
  FakeDisk(FakeLoop& loop, u64 bytes) : content(bytes), loop_(loop) {}
  u64 bytes() const override { return content.size(); }
  bool read_only() const override { return readonly; }
  void read(u64 offset, std::vector<BlockPiece> pieces, Done done) override {
    loop_.post([=, this] {
      u64 at = offset;
      for (const BlockPiece& piece : pieces) {
        if (at > content.size() || piece.bytes > content.size() - at) return done(EIO);
        if (error == 0) std::memcpy(piece.host, content.data() + at, piece.bytes);
        at += piece.bytes;
      }
      done(error);
    });
  }
  void write(u64 offset, std::vector<BlockPiece> pieces, bool fua, Done done) override {
    last_fua = fua;
    loop_.post([=, this] {
      u64 at = offset;
      for (const BlockPiece& piece : pieces) {
        if (at > content.size() || piece.bytes > content.size() - at) return done(EIO);
        if (error == 0) std::memcpy(content.data() + at, piece.host, piece.bytes);
        at += piece.bytes;
      }
      done(error);
    });
  }
  void flush(Done done) override {
    flushes += 1;
    loop_.post([=, this] { done(error); });
  }
  void write_zeroes(u64 offset, u64 bytes, bool, Done done) override {
    loop_.post([=, this] {
      if (offset > content.size() || bytes > content.size() - offset) return done(EIO);
      std::fill_n(content.begin() + static_cast<long>(offset), bytes, 0);
      done(error);
    });
  }
  void discard(u64, u64, Done done) override {
    discards += 1;
    loop_.post([=, this] { done(error); });
  }
  void drain(std::unique_lock<std::mutex>&) override { loop_.run(); }
  std::string describe() const override { return "fake"; }

 private:
  FakeLoop& loop_;
};

/// Saves `from`, restores into `to`, and says whether saving `to` gives the same bytes.
inline bool survives(Stateful& from, Stateful& to) {
  StateWriter saved, again;
  from.state(saved);
  StateReader reader(saved.bytes());
  to.state(reader);
  to.state(again);
  return !reader.failed() && reader.at_end() && saved.bytes() == again.bytes();
}

}  // namespace kiln::devices
