// fuzz [--seed N] [--steps N] [--seconds N]: pokes every register of the virt board, and rings and requests in its memory, with
// values at random. Built with ASan and UBSan: whatever a guest does, the devices answer. Prints its seed; a failure comes
// again with it.
#include <unistd.h>

#include <cstdio>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <random>

#include "devices/boards/virt.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

constexpr u64 kRam = 0x40000000, kRamBytes = 4 << 20;

class Fuzzer {
 public:
  explicit Fuzzer(u64 seed) : random_(seed) {}

  void build(const std::string& firmware) {
    BoardOptions options;
    options.ram_bytes = kRamBytes;
    options.cpu_model = "max";
    options.machine["gic-version"] = pick(2) != 0 ? "2" : "3";
    options.bios = firmware;
    options.serial = {&terminal_};
    options.back_ends.drives["d0"] = &disk_;
    options.back_ends.drives["d1"] = &disk_;
    options.back_ends.nets["n0"] = &net_;
    options.back_ends.nets["n1"] = &net_;
    options.back_ends.chars["c0"] = &console_;
    for (const char* transport : transports_) {
      const std::string suffix = transport;
      const std::string number = suffix == "-pci" ? "1" : "0";
      options.devices.push_back({"virtio-blk" + suffix, {{"drive", "d" + number}}});
      options.devices.push_back({"virtio-net" + suffix, {{"netdev", "n" + number}}});
      options.devices.push_back({"virtio-rng" + suffix, {}});
    }
    options.devices.push_back({"virtio-console-device", {{"chardev", "c0"}}});
    auto made = make_virt({bus_, dma_, clock_, loop_, {CpuLines{{&irq_[0], &fiq_[0]}}, CpuLines{{&irq_[1], &fiq_[1]}}}, {}, {}},
                          options);
    if (!made) {
      std::fprintf(stderr, "fuzz: %s\n", made.error().c_str());
      std::exit(1);
    }
    board_ = std::move(*made);
    board_->reset();
  }

  void step() {
    bus_.cpu = static_cast<unsigned>(pick(2));
    switch (pick(40)) {
      case 0: return clock_.advance(pick(4) != 0 ? pick(10'000'000) : pick(u64{100'000} * 1'000'000'000));
      case 1: return terminal_.type(std::string(pick(40), 'x'));
      case 2: return console_.type(std::string(pick(40), 'y'));
      case 3:
        if (net_.callbacks.receive && net_.callbacks.ready()) net_.callbacks.receive(std::vector<u8>(pick(3000)));
        return;
      case 4: return loop_.run();
      case 5: return scribble();
      case 6: {
        u64 data = value();
        board_->cpu_register(bus_.cpu, pick(8) != 0 ? static_cast<u32>(0x4600 | pick(256)) : static_cast<u32>(random_()),
                             pick(2) != 0, data);
        return;
      }
      case 7: return board_->cpu_output(bus_.cpu, static_cast<unsigned>(pick(6)), pick(2) != 0);
      case 13: return pci_session();
      case 8:
        if (pick(50) == 0) board_->reset();
        if (pick(10) == 0) open_gic();
        if (pick(50) == 0) board_->power_button();
        if (pick(200) == 0) save_and_restore();
        return;
      case 9:
      case 10: return take_interrupt();
      case 11:
      case 12: return virtio_session();
      default: return poke();
    }
  }

  /// How far the devices got: a fuzzer that reaches nothing finds nothing.
  void report() const {
    std::size_t written = 0;
    for (const u8 byte : disk_.content) written += byte != 0 ? 1 : 0;
    std::printf("%zu bytes on the disk, %u flushes, %u discards, %zu frames, %zu characters on the line, %u interrupts\n",
                written, disk_.flushes, disk_.discards, net_.sent.size(), terminal_.sent.size() + console_.sent.size(),
                irq_[0].rises + irq_[1].rises + fiq_[0].rises + fiq_[1].rises);
  }

 private:
  u64 pick(u64 limit) { return random_() % limit; }
  u64 address() { return kRam + pick(kRamBytes); }
  u64 value() {
    switch (pick(8)) {
      case 0: return 0;
      case 1: return ~u64{0};
      case 2: return u64{1} << pick(64);
      case 3: return pick(256);
      case 4: return pick(65536);
      case 5: return address();
      case 6: return align_down(address(), 4096);
      default: return random_();
    }
  }
  void poke() {
    auto region = bus_.regions.begin();
    std::advance(region, static_cast<long>(pick(bus_.regions.size())));
    if (region->second.size >= 0x40000000) return;
    const unsigned bytes = 1u << pick(4);
    if (region->second.size < bytes) return;
    // Most registers are at the start.
    u64 reach = pick(3) != 0 ? std::min<u64>(region->second.size, 0x1000) : region->second.size;
    const u64 at = region->second.base + align_down(pick(reach), bytes);
    if (at % bytes != 0 || at + bytes > region->second.base + region->second.size) return;
    if (pick(2) != 0) bus_.load(at, bytes);
    else bus_.store(at, value(), bytes);
  }
  void scribble() {
    u64 words[16];
    for (u64& word : words) word = value();
    dma_.write(align_down(address(), 8), words, 8 * (1 + pick(16)));
  }

  /// A driver that begins well and then errs.
  void virtio_session() {
    const u64 index = pick(5), queue = pick(2), slot = 0x0a000000 + 0x200 * index;
    const u64 base = kRam + 0x10000 * index + 0x4000 * queue;
    const auto put = [&](u64 offset, u64 data) { bus_.store(slot + offset, data); };
    if (pick(6) == 0) {
      put(0x70, 0);
      put(0x70, 3);
      put(0x14, 0);
      const u64 offered = bus_.load(slot + 0x10);
      put(0x24, 0);
      put(0x20, offered & (pick(3) != 0 ? ~u64{0} : random_()));
      put(0x24, 1);
      put(0x20, 1);
      put(0x70, 11);
      for (u64 q = 0; q < 2; ++q) {
        const u64 ring = kRam + 0x10000 * index + 0x4000 * q;
        dma_.write(ring + 0x1000, std::vector<u8>(0x2000).data(), 0x2000);
        put(0x30, q);
        put(0x38, pick(3) != 0 ? 256 : u64{1} << pick(9));
        put(0x80, ring);
        put(0x90, ring + 0x1000);
        put(0xa0, ring + 0x2000);
        put(0x44, 1);
      }
      put(0x70, 15);
    }
    for (u64 i = 3; i < 16; ++i) {
      struct {
        u64 address;
        u32 bytes;
        u16 flags, next;
      } descriptor{value(), static_cast<u32>(pick(8) != 0 ? pick(4096) : value()),
                   static_cast<u16>(pick(8) != 0 ? pick(2) * 2 : pick(8)), static_cast<u16>(pick(20))};
      if (pick(8) != 0) descriptor.address = address();
      dma_.write(base + 16 * i, &descriptor, sizeof descriptor);
    }
    // Requests of a disk that make sense, now and then.
    constexpr u32 kTypes[] = {0, 1, 1, 4, 8, 11, 13};
    const u32 header[4] = {pick(10) != 0 ? kTypes[pick(7)] : static_cast<u32>(random_()), 0, static_cast<u32>(pick(140)), 0};
    const u64 at = kRam + 0x100000 + align_down(pick(kRamBytes / 2), 512);
    dma_.write(at, header, sizeof header);
    const bool in = pick(2) != 0;
    const u64 erase[2] = {pick(140), pick(140)};
    dma_.write(at + 512, erase, sizeof erase);
    const struct {
      u64 address;
      u32 bytes;
      u16 flags, next;
    } chain[3] = {{at, 16, 1, 1},
                  {at + 512, static_cast<u32>(header[0] > 8 ? 16 : 512 * pick(9)), static_cast<u16>(in ? 3 : 1), 2},
                  {at + 64, 1, 2, 0}};
    dma_.write(base, chain, sizeof chain);
    u16 available = 0;
    dma_.read(base + 0x1002, &available, 2);
    for (u64 more = 1 + pick(3); more != 0; --more) {
      const u16 head = static_cast<u16>(pick(40) == 0 ? random_() : pick(2) != 0 ? 0 : pick(16));
      dma_.write(base + 0x1004 + 2 * u64{available % 256u}, &head, 2);
      available = static_cast<u16>(available + 1);
    }
    if (pick(100) == 0) available = static_cast<u16>(random_());
    dma_.write(base + 0x1002, &available, 2);
    put(0x50, queue);
    if (pick(3) != 0) loop_.run();
  }

  /// Firmware's work, and MSI-X; the devices' registers are then among the regions that poke() finds.
  void pci_session() {
    const u64 slot = 1 + pick(3), config = 0x3f000000 + (slot << 15);
    if (pick(4) == 0) {
      bus_.store(config + 0x14, 0x10000000 + 0x100000 * slot);
      bus_.store(config + 0x20, 0x10010000 + 0x100000 * slot);
      bus_.store(config + 0x24, 0);
      bus_.store(config + 4, 6, 2);
      bus_.store(config + 0x98 + 2, 0x8000, 2);
    }
    const u64 table = 0x10000000 + 0x100000 * slot;
    for (u64 i = 0; i < 3; ++i) {
      bus_.store(table + 16 * i, pick(4) != 0 ? 0x08020040 : value());
      bus_.store(table + 16 * i + 8, pick(4) != 0 ? 80 + i : value());
      bus_.store(table + 16 * i + 12, pick(2));
    }
    bus_.store(config + align_down(pick(256), 4), value());
  }

  /// Interrupts all on, as an operating system has them.
  void open_gic() {
    bus_.store(0x08000000, 3);
    for (u64 i = 0; i < 9; ++i) {
      bus_.store(0x08000100 + 4 * i, ~u32{0});
      bus_.store(0x08000080 + 4 * i, random_());
      for (u64 id = 32 * i; id < 32 * i + 32; id += 4) {
        bus_.store(0x08000400 + id, 0xa0a0a0a0);
        bus_.store(0x08000800 + id, 0x03010201);
      }
    }
    for (bus_.cpu = 0; bus_.cpu < 2; ++bus_.cpu) {
      bus_.store(0x08010004, 0xf8);
      bus_.store(0x08010000, 3);
      bus_.store(0x080a0000 + 0x20000 * bus_.cpu + 0x14, 0);
      u64 all = 0xff, one = 1;
      board_->cpu_register(bus_.cpu, 0x4230, true, all);
      board_->cpu_register(bus_.cpu, 0x4666, true, one);
      board_->cpu_register(bus_.cpu, 0x4667, true, one);
    }
  }
  /// What a handler does.
  void take_interrupt() {
    u64 id = bus_.load(0x0801000c);
    bus_.store(0x08010010, pick(20) != 0 ? id : value());
    for (const u32 acknowledge : {0x4640u, 0x4660u}) {
      if (!board_->cpu_register(bus_.cpu, acknowledge, false, id)) break;
      board_->cpu_register(bus_.cpu, acknowledge + 1, true, id);
    }
  }

  /// The state goes into itself unchanged; damaged, it is refused or taken, and never more.
  void save_and_restore() {
    loop_.run();
    StateWriter writer;
    board_->state(writer);
    std::vector<u8> bytes = writer.bytes();
    StateReader same(bytes);
    board_->state(same);
    if (same.failed()) {
      std::fprintf(stderr, "fuzz: own state is refused: %s\n", same.error().c_str());
      std::exit(1);
    }
    for (int i = 0; i < 3; ++i) bytes[pick(bytes.size())] = static_cast<u8>(random_());
    StateReader damaged(bytes);
    board_->state(damaged);
    if (damaged.failed()) board_->reset();
  }

  std::mt19937_64 random_;
  FakeBus bus_;
  FakeDma dma_{kRam, kRamBytes};
  FakeClock clock_;
  FakeLoop loop_;
  FakeLine irq_[2], fiq_[2];
  FakeChar terminal_, console_;
  FakeNet net_;
  FakeDisk disk_{loop_, 128 * 512};
  std::vector<const char*> transports_ = {"-device", "-pci"};
  std::unique_ptr<Board> board_;
};

int run(u64 seed, u64 steps, u64 seconds) {
  std::printf("seed %llu\n", static_cast<unsigned long long>(seed));
  std::fflush(stdout);
  const std::string firmware = std::filesystem::temp_directory_path() / ("kiln-fuzz-" + std::to_string(getpid()));
  std::ofstream(firmware) << "firmware";
  const std::time_t end = std::time(nullptr) + static_cast<std::time_t>(seconds);
  u64 rounds = 0;
  do {
    Fuzzer fuzzer(seed + rounds);
    fuzzer.build(firmware);
    for (u64 i = 0; i < steps; ++i) fuzzer.step();
    if (rounds == 0) fuzzer.report();
    rounds += 1;
  } while (std::time(nullptr) < end);
  std::filesystem::remove(firmware);
  std::printf("%llu rounds of %llu steps\n", static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(steps));
  return 0;
}

}  // namespace
}  // namespace kiln::devices

int main(int argc, char** argv) {
  kiln::u64 seed = static_cast<kiln::u64>(std::time(nullptr)), steps = 50000, seconds = 0;
  for (int i = 1; i + 1 < argc; i += 2) {
    const kiln::u64 number = std::strtoull(argv[i + 1], nullptr, 0);
    if (std::strcmp(argv[i], "--seed") == 0) seed = number;
    else if (std::strcmp(argv[i], "--steps") == 0) steps = number;
    else if (std::strcmp(argv[i], "--seconds") == 0) seconds = number;
  }
  return kiln::devices::run(seed, steps, seconds);
}
