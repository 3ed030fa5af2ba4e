#include "devices/virtio/pci.h"

#include <gtest/gtest.h>

#include "devices/boards/virt.h"
#include "devices/intc/gicv2m.h"
#include "devices/pci/host.h"
#include "devices/virtio/rng.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

constexpr u64 kEcam = 0x3f000000, kWindow = 0x10000000;

struct Messages : MsiTarget {
  std::vector<std::pair<u64, u32>> sent;
  void message(u64 address, u32 data) override { sent.emplace_back(address, data); }
};

struct PciTest : testing::Test {
  FakeBus bus;
  FakeDma dma;
  Messages messages;
  FakeLine intx[4];
  VirtioRng rng{dma, [](std::span<u8> bytes) { std::ranges::fill(bytes, 9); }};
  PcieHost host{bus, messages, {&intx[0], &intx[1], &intx[2], &intx[3]}, kWindow, 0x1000000};
  VirtioPci function{rng};
  static constexpr u64 kConfig = kEcam + (3 << 15);

  PciTest() {
    bus.map_mmio(kEcam, 0x1000000, host, "ecam", 0);
    EXPECT_TRUE(host.insert(function, "rng", 3));
  }
  /// Offset of the virtio capability of a type, in the configuration space.
  u64 capability(u64 type) {
    for (u64 at = bus.load(kConfig + 0x34, 1); at != 0; at = bus.load(kConfig + at + 1, 1))
      if (bus.load(kConfig + at, 1) == 9 && bus.load(kConfig + at + 3, 1) == type) return at;
    return 0;
  }
  u64 msix() {
    for (u64 at = bus.load(kConfig + 0x34, 1); at != 0; at = bus.load(kConfig + at + 1, 1))
      if (bus.load(kConfig + at, 1) == 0x11) return at;
    return 0;
  }
  static constexpr u64 kRegisters = kWindow + 0x10000, kTable = kWindow + 0x20000;
  void place() {
    bus.store(kConfig + 0x20, kRegisters);
    bus.store(kConfig + 0x24, 0);
    bus.store(kConfig + 0x14, kTable);
    bus.store(kConfig + 4, 6, 2);
  }
  void put(u64 offset, u64 value, unsigned bytes) { bus.store(kRegisters + offset, value, bytes); }
  u64 get(u64 offset, unsigned bytes) { return bus.load(kRegisters + offset, bytes); }
  void start() {
    put(0x14, 3, 1);
    put(0x08, 1, 4);
    put(0x0c, 1, 4);
    put(0x14, 11, 1);
    put(0x16, 0, 2);
    put(0x18, 8, 2);
    put(0x20, dma.base, 8);
    put(0x28, dma.base + 0x400, 4);
    put(0x2c, 0, 4);
    put(0x30, dma.base + 0x800, 8);
    put(0x1a, 1, 2);
    put(0x1c, 1, 2);
    put(0x14, 15, 1);
    struct {
      u64 address;
      u32 bytes;
      u16 flags, next;
    } descriptor{dma.base + 0x1000, 64, 2, 0};
    dma.write_object(dma.base, descriptor);
  }
  void ask() {
    dma.write_object(dma.base + 0x402, ++available);
    put(0x3000, 0, 2);
  }
  u16 available = 0;
};

TEST_F(PciTest, ConfigurationSpace) {
  EXPECT_EQ(bus.load(kConfig), 0x10441af4u);
  EXPECT_EQ(bus.load(kEcam), 0x00081b36u);
  EXPECT_EQ(bus.load(kEcam + (4 << 15)), 0xffffffffu);
  EXPECT_EQ(bus.load(kConfig + (1 << 12)), 0xffffffffu);  // no other function
  EXPECT_EQ(bus.load(kEcam + (1 << 20), 8), ~u64{0});     // no other bus
  bus.store(kConfig, 0);
  EXPECT_EQ(bus.load(kConfig, 2), 0x1af4u);
  // Sizes of BARs by writing ones.
  bus.store(kConfig + 0x14, 0xffffffff);
  EXPECT_EQ(bus.load(kConfig + 0x14), 0xfffff000u);
  bus.store(kConfig + 0x20, 0xffffffff);
  bus.store(kConfig + 0x24, 0xffffffff);
  EXPECT_EQ(bus.load(kConfig + 0x20), 0xffffc004u);
  EXPECT_EQ(bus.load(kConfig + 0x24), 0xffffffffu);
  bus.store(kConfig + 0x10, 0xffffffff);
  EXPECT_EQ(bus.load(kConfig + 0x10), 0u);
  EXPECT_NE(capability(1), 0u);
  EXPECT_NE(capability(5), 0u);
  EXPECT_EQ(bus.load(kConfig + msix() + 2, 2), 1u);  // two vectors
}

TEST_F(PciTest, BarsAppearInTheWindowOnly) {
  EXPECT_EQ(bus.find(kRegisters), nullptr);
  place();
  EXPECT_EQ(get(0x12, 2), 1u);
  bus.store(kConfig + 0x20, 0x80000000);  // not routed
  EXPECT_EQ(bus.find(kRegisters), nullptr);
  EXPECT_EQ(bus.find(0x80000000), nullptr);
  place();
  bus.store(kConfig + 4, 0, 2);
  EXPECT_EQ(bus.find(kRegisters), nullptr);
}

TEST_F(PciTest, WorksWithTheInterruptPin) {
  place();
  start();
  ask();
  EXPECT_EQ(*dma.at(dma.base + 0x1000), 9);
  EXPECT_TRUE(intx[3].level);
  EXPECT_EQ(bus.load(kConfig + 6, 2) & 8, 8u);
  EXPECT_EQ(get(0x1000, 1), 1u);
  EXPECT_FALSE(intx[3].level);
  bus.store(kConfig + 4, 0x406, 2);
  ask();
  EXPECT_FALSE(intx[3].level);
  bus.store(kConfig + 4, 6, 2);
  EXPECT_TRUE(intx[3].level);
}

TEST_F(PciTest, WorksWithMessages) {
  place();
  bus.store(kTable + 16, 0x08020040);
  bus.store(kTable + 24, 81);
  bus.store(kConfig + msix() + 2, 0x8000, 2);
  start();
  ask();
  EXPECT_TRUE(messages.sent.empty());  // masked
  EXPECT_EQ(bus.load(kTable + 0x800), 2u);
  bus.store(kTable + 28, 0);
  ASSERT_EQ(messages.sent.size(), 1u);
  EXPECT_EQ(messages.sent[0], (std::pair<u64, u32>(0x08020040, 81)));
  EXPECT_EQ(bus.load(kTable + 0x800), 0u);
  bus.store(kConfig + msix() + 2, 0xc000, 2);  // the whole function
  ask();
  EXPECT_EQ(messages.sent.size(), 1u);
  bus.store(kConfig + msix() + 2, 0x8000, 2);
  EXPECT_EQ(messages.sent.size(), 2u);
  EXPECT_FALSE(intx[3].level);
}

TEST_F(PciTest, ConfigurationWindow) {
  const u64 cap = kConfig + capability(5);
  bus.store(cap + 4, 4, 1);
  bus.store(cap + 8, 0x12);
  bus.store(cap + 12, 2);
  EXPECT_EQ(bus.load(cap + 16, 2), 1u);  // num_queues, without any BAR mapped
  bus.store(cap + 8, 0x14);
  bus.store(cap + 12, 1);
  bus.store(cap + 16, 3, 1);
  EXPECT_EQ(bus.load(cap + 16, 1), 3u);
}

TEST_F(PciTest, StateSurvivesAndResetClears) {
  place();
  start();
  ask();
  FakeBus other_bus;
  VirtioRng other_rng{dma, [](std::span<u8>) {}};
  FakeLine other_intx[4];
  PcieHost other{other_bus, messages, {&other_intx[0], &other_intx[1], &other_intx[2], &other_intx[3]}, kWindow, 0x1000000};
  VirtioPci other_function{other_rng};
  ASSERT_TRUE(other.insert(other_function, "rng", 3));
  EXPECT_TRUE(survives(host, other));
  EXPECT_TRUE(other_intx[3].level);
  EXPECT_NE(other_bus.find(kRegisters), nullptr);
  EXPECT_FALSE(other.insert(other_function, "again", 3));
  other.reset();
  EXPECT_FALSE(other_intx[3].level);
  EXPECT_EQ(other_bus.find(kRegisters), nullptr);
}

TEST(Gicv2mTest, RaisesEdges) {
  FakeLine lines[4];
  Gicv2m frame(48, 4, [&](unsigned index) -> IrqLine& { return lines[index - 48]; });
  EXPECT_EQ(frame.read(8, 4), u64{80} << 16 | 4);
  frame.write(0x40, 82, 4);
  frame.write(0x40, 84, 4);
  frame.write(0x40, 79, 4);
  EXPECT_EQ(lines[2].rises, 1u);
  EXPECT_FALSE(lines[2].level);
  EXPECT_EQ(lines[0].rises + lines[1].rises + lines[3].rises, 0u);
}

}  // namespace
}  // namespace kiln::devices
