#include <gtest/gtest.h>

#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"
#include "tests/devices/virtio_driver.h"

namespace kiln::devices {
namespace {

constexpr u64 kV1 = VirtioDevice::kVersion1;

struct BlockTest : testing::Test {
  FakeDma dma;
  FakeLine line;
  FakeLoop loop;
  FakeDisk disk{loop, 64 * 512};
  VirtioBlock block{dma, disk, "serial-number"};
  VirtioMmio mmio{line, &block};
  VirtioDriver driver{mmio, dma};

  void header(u32 type, u64 sector) {
    const u32 words[4] = {type, 0, static_cast<u32>(sector), static_cast<u32>(sector >> 32)};
    std::memcpy(dma.at(driver.data()), words, 16);
    *dma.at(driver.data(0x20)) = 0xff;
  }
  /// One request with `bytes` at data(0x1000); returns the status byte.
  u8 request(u32 type, u64 sector, u32 bytes, bool in) {
    header(type, sector);
    std::vector<VirtioDriver::Buffer> buffers{{driver.data(), 16, false}};
    if (bytes != 0) buffers.push_back({driver.data(0x1000), bytes, in});
    buffers.push_back({driver.data(0x20), 1, true});
    driver.add(0, 0, buffers);
    driver.kick(0);
    loop.run();
    return *dma.at(driver.data(0x20));
  }
};

TEST_F(BlockTest, Identification) {
  EXPECT_EQ(driver.get(0), 0x74726976u);
  EXPECT_EQ(driver.get(4), 2u);
  EXPECT_EQ(driver.get(8), 2u);
  EXPECT_EQ(driver.get(0x100), 64u);
  driver.put(0x14, 1);
  EXPECT_EQ(driver.get(0x10), 1u);  // VERSION_1
  EXPECT_EQ(driver.get(0x34), 256u);
}

TEST_F(BlockTest, RefusesUnknownFeaturesAndOldDrivers) {
  EXPECT_FALSE(driver.start(0, 1));
  EXPECT_FALSE(driver.start(kV1 | 1u << 27, 1));
  EXPECT_TRUE(driver.start(kV1, 1));
}

TEST_F(BlockTest, ReadsAndWrites) {
  ASSERT_TRUE(driver.start(kV1 | 1 << 9, 1));
  std::memset(dma.at(driver.data(0x1000)), 0xab, 1024);
  EXPECT_EQ(request(1, 3, 1024, false), 0);
  EXPECT_FALSE(disk.last_fua);
  EXPECT_EQ(disk.content[3 * 512], 0xab);
  EXPECT_EQ(disk.content[5 * 512], 0);
  EXPECT_TRUE(line.level);
  EXPECT_EQ(driver.get(0x60), 1u);
  driver.put(0x64, 1);
  EXPECT_FALSE(line.level);
  disk.content[512] = 0x77;
  EXPECT_EQ(request(0, 1, 512, true), 0);
  EXPECT_EQ(*dma.at(driver.data(0x1000)), 0x77);
  EXPECT_EQ(driver.used_length(0, 1), 513u);
  EXPECT_EQ(request(4, 0, 0, false), 0);
  EXPECT_EQ(disk.flushes, 1u);
  EXPECT_EQ(request(8, 0, 20, true), 0);
  EXPECT_STREQ(reinterpret_cast<char*>(dma.at(driver.data(0x1000))), "serial-number");
}

TEST_F(BlockTest, ErrorsAreToldToTheGuest) {
  ASSERT_TRUE(driver.start(kV1, 1));
  EXPECT_EQ(request(0, 64, 512, true), 1);
  EXPECT_EQ(request(0, ~u64{0}, 512, true), 1);
  EXPECT_EQ(request(0, 0, 100, true), 1);
  EXPECT_EQ(request(99, 0, 0, true), 2);
  disk.error = ENOSPC;
  EXPECT_EQ(request(1, 0, 512, false), 1);
  disk.error = 0;
  disk.readonly = true;
  EXPECT_EQ(request(1, 0, 512, false), 1);
  EXPECT_EQ(driver.get(0x70) & 0x40, 0u);
}

TEST_F(BlockTest, WritesWithoutFlushAreDurable) {
  ASSERT_TRUE(driver.start(kV1, 1));
  EXPECT_EQ(request(1, 0, 512, false), 0);
  EXPECT_TRUE(disk.last_fua);
}

TEST_F(BlockTest, DiscardAndWriteZeroes) {
  ASSERT_TRUE(driver.start(kV1 | 1 << 9 | 1 << 13 | 1 << 14, 1));
  std::fill(disk.content.begin(), disk.content.end(), 1);
  const u32 range[4] = {2, 0, 3, 1};
  std::memcpy(dma.at(driver.data(0x1000)), range, 16);
  EXPECT_EQ(request(13, 0, 16, false), 0);
  EXPECT_EQ(disk.content[2 * 512 - 1], 1);
  EXPECT_EQ(disk.content[2 * 512], 0);
  EXPECT_EQ(disk.content[5 * 512], 1);
  EXPECT_EQ(request(11, 0, 16, false), 2);  // discard knows no unmap flag
  const u32 plain[4] = {2, 0, 3, 0};
  std::memcpy(dma.at(driver.data(0x1000)), plain, 16);
  EXPECT_EQ(request(11, 0, 16, false), 0);
  EXPECT_EQ(disk.discards, 1u);
  const u32 wild[4] = {60, 0, 100, 0};
  std::memcpy(dma.at(driver.data(0x1000)), wild, 16);
  EXPECT_EQ(request(11, 0, 16, false), 1);
}

TEST_F(BlockTest, LargeRequestsGoInPieces) {
  FakeDma big(0x40000000, 16 << 20);
  FakeDisk big_disk(loop, 8 << 20);
  VirtioBlock big_block(big, big_disk, "");
  VirtioMmio big_mmio(line, &big_block);
  VirtioDriver d(big_mmio, big);
  ASSERT_TRUE(d.start(kV1, 1));
  for (std::size_t i = 0; i < big_disk.content.size(); ++i) big_disk.content[i] = static_cast<u8>(i * 7 + i / 4096);
  std::memset(big.at(d.data()), 0, 16);
  const u32 bytes = 5 << 20;
  d.add(0, 0,
        {{d.data(), 16, false},
         {d.data(0x1000), bytes / 2 + 1, true},
         {d.data(0x1000 + bytes / 2 + 1), bytes / 2 - 1, true},
         {d.data(0x20), 1, true}});
  d.kick(0);
  loop.run();
  EXPECT_EQ(d.used(0), 1);
  EXPECT_EQ(std::memcmp(big.at(d.data(0x1000)), big_disk.content.data(), bytes), 0);
}

TEST_F(BlockTest, ResetForgetsWhatIsUnderWay) {
  ASSERT_TRUE(driver.start(kV1, 1));
  header(0, 0);
  disk.content[0] = 0x55;
  driver.add(0, 0, {{driver.data(), 16, false}, {driver.data(0x1000), 512, true}, {driver.data(0x20), 1, true}});
  driver.kick(0);
  ASSERT_TRUE(driver.start(kV1, 1));
  EXPECT_EQ(driver.get(0x70), 15u);
  header(0, 1);
  driver.add(0, 0, {{driver.data(), 16, false}, {driver.data(0x2000), 512, true}, {driver.data(0x20), 1, true}});
  driver.kick(0);
  loop.run();
  EXPECT_EQ(*dma.at(driver.data(0x1000)), 0);  // memory of the old request is left alone
  EXPECT_EQ(driver.used(0), 1);
  EXPECT_EQ(*dma.at(driver.data(0x20)), 0);
}

TEST_F(BlockTest, HostileRingsStopTheDevice) {
  std::string log;
  block.set_log([&](const std::string& text) { log = text; });
  const auto broken = [&] { return (driver.get(0x70) & 0x40) != 0 && (driver.get(0x60) & 2) != 0; };
  const auto begin = [&] { ASSERT_TRUE(driver.start(kV1 | VirtioDevice::kIndirect, 1)); };
  begin();
  driver.descriptor(0, 0, driver.data(), 16, 1, 0);  // a loop
  driver.make_available(0, 0);
  driver.kick(0);
  EXPECT_TRUE(broken());
  EXPECT_EQ(log, "a driver's mistake: its ring makes no sense");
  begin();
  EXPECT_EQ(driver.get(0x70), 15u);
  driver.make_available(0, 1000);  // no such descriptor
  driver.kick(0);
  EXPECT_TRUE(broken());
  begin();
  driver.descriptor(0, 0, driver.data(), 16, 2 | 1, 1);  // readable after writable
  driver.descriptor(0, 1, driver.data(), 16, 0, 0);
  driver.make_available(0, 0);
  driver.kick(0);
  EXPECT_TRUE(broken());
  begin();
  driver.descriptor(0, 0, driver.ring(0), 16, 4, 0);  // an indirect table that is in itself
  driver.make_available(0, 0);
  driver.kick(0);
  EXPECT_TRUE(broken());
  begin();
  driver.descriptor(0, 0, ~u64{0} - 100, 64, 4, 0);  // a table nowhere
  driver.make_available(0, 0);
  driver.kick(0);
  EXPECT_TRUE(broken());
  begin();
  for (u16 i = 0; i < 40; ++i) driver.make_available(0, 0);  // more than the ring holds
  driver.kick(0);
  EXPECT_TRUE(broken());
  begin();  // wild data: an I/O error, not a broken ring
  header(0, 0);
  driver.add(0, 0, {{driver.data(), 16, false}, {0x1234, 512, true}, {driver.data(0x20), 1, true}});
  driver.kick(0);
  loop.run();
  EXPECT_EQ(*dma.at(driver.data(0x20)), 1);
}

TEST_F(BlockTest, IndirectAndEventIndex) {
  ASSERT_TRUE(driver.start(kV1 | VirtioDevice::kIndirect | VirtioDevice::kEventIndex, 1));
  header(4, 0);
  const u64 table = driver.data(0x3000);
  const u64 addresses[2] = {driver.data(), driver.data(0x20)};
  const u32 lengths[2] = {16, 1};
  const u16 flags[2] = {1, 2}, next = 1;
  for (int i = 0; i < 2; ++i) {
    std::memcpy(dma.at(table + 16 * i), &addresses[i], 8);
    std::memcpy(dma.at(table + 16 * i + 8), &lengths[i], 4);
    std::memcpy(dma.at(table + 16 * i + 12), &flags[i], 2);
    std::memcpy(dma.at(table + 16 * i + 14), &next, 2);
  }
  driver.descriptor(0, 5, table, 32, 4, 0);
  driver.set_used_event(0, 1);
  driver.make_available(0, 5);
  driver.kick(0);
  loop.run();
  EXPECT_EQ(driver.used(0), 1);
  EXPECT_EQ(driver.used_id(0, 0), 5);
  EXPECT_EQ(driver.available_event(0), 1);
  EXPECT_FALSE(line.level);  // asked for the second only
  driver.make_available(0, 5);
  driver.kick(0);
  loop.run();
  EXPECT_TRUE(line.level);
}

TEST_F(BlockTest, NoInterruptFlag) {
  ASSERT_TRUE(driver.start(kV1, 1));
  driver.set_available_flags(0, 1);
  EXPECT_EQ(request(4, 0, 0, false), 0);
  EXPECT_FALSE(line.level);
}

TEST_F(BlockTest, StateSurvives) {
  ASSERT_TRUE(driver.start(kV1, 1));
  EXPECT_EQ(request(4, 0, 0, false), 0);
  FakeLine other_line;
  VirtioBlock other_block(dma, disk, "");
  VirtioMmio other(other_line, &other_block);
  EXPECT_TRUE(survives(mmio, other));
  EXPECT_TRUE(other_line.level);
  header(0, 0);
  driver.add(0, 3, {{driver.data(), 16, false}, {driver.data(0x1000), 512, true}, {driver.data(0x20), 1, true}});
  other.write(0x50, 0, 4);
  loop.run();
  EXPECT_EQ(driver.used(0), 2);
}

struct NetTest : testing::Test {
  FakeDma dma;
  FakeLine line;
  FakeNet network;
  VirtioNet net{dma, &network, {2, 3, 4, 5, 6, 7}};
  VirtioMmio mmio{line, &net};
  VirtioDriver driver{mmio, dma};
};

TEST_F(NetTest, SendsAndReceives) {
  EXPECT_EQ(driver.get(0x100), 0x05040302u);
  ASSERT_TRUE(driver.start(kV1 | 1 << 5 | 1 << 15, 2));
  EXPECT_FALSE(network.callbacks.ready());
  std::memset(dma.at(driver.data()), 0, 12);
  std::memset(dma.at(driver.data(12)), 0x42, 60);
  driver.add(1, 0, {{driver.data(), 12, false}, {driver.data(12), 60, false}});
  driver.kick(1);
  ASSERT_EQ(network.sent.size(), 1u);
  EXPECT_EQ(network.sent[0], std::vector<u8>(60, 0x42));
  EXPECT_EQ(driver.used(1), 1);

  // A frame over two buffers.
  driver.add(0, 0, {{driver.data(0x1000), 64, true}});
  driver.add(0, 1, {{driver.data(0x2000), 64, true}});
  driver.kick(0);
  EXPECT_TRUE(network.callbacks.ready());
  EXPECT_GE(network.ready_changes, 1u);
  network.callbacks.receive(std::vector<u8>(100, 0x33));
  EXPECT_EQ(driver.used(0), 2);
  EXPECT_EQ(driver.used_length(0, 0), 64u);
  EXPECT_EQ(driver.used_length(0, 1), 48u);
  EXPECT_EQ(dma.at(driver.data(0x1000))[10], 2);
  EXPECT_EQ(dma.at(driver.data(0x2000))[47], 0x33);
  EXPECT_TRUE(line.level);
  EXPECT_FALSE(network.callbacks.ready());
}

TEST_F(NetTest, FrameThatDoesNotFitIsLostAndBuffersStay) {
  ASSERT_TRUE(driver.start(kV1 | 1 << 15, 2));
  driver.add(0, 0, {{driver.data(0x1000), 64, true}});
  driver.kick(0);
  network.callbacks.receive(std::vector<u8>(100, 0x33));
  EXPECT_EQ(driver.used(0), 0);
  network.callbacks.receive(std::vector<u8>(40, 0x33));
  EXPECT_EQ(driver.used(0), 1);
}

TEST(RngTest, FillsWhatItIsGiven) {
  FakeDma dma;
  FakeLine line;
  VirtioRng rng(dma, [](std::span<u8> bytes) { std::fill(bytes.begin(), bytes.end(), 9); });
  VirtioMmio mmio(line, &rng);
  VirtioDriver driver(mmio, dma);
  driver.put(0x30, 0);
  EXPECT_EQ(driver.get(0x34), 8u);
  ASSERT_TRUE(driver.start(kV1, 0));
  // The ring is of eight here.
  driver.put(0x30, 0);
  driver.put(0x38, 8);
  driver.put(0x80, static_cast<u32>(driver.ring(0)));
  driver.put(0x90, static_cast<u32>(driver.ring(0) + 0x400));
  driver.put(0xa0, static_cast<u32>(driver.ring(0) + 0x800));
  driver.put(0x44, 1);
  driver.descriptor(0, 0, driver.data(), 0xffffffff, 2, 0);
  const u16 one = 1;
  std::memcpy(dma.at(driver.ring(0) + 0x402), &one, 2);
  driver.kick(0);
  EXPECT_EQ(driver.used(0), 1);
  EXPECT_EQ(driver.used_length(0, 0), 4096u);
  EXPECT_EQ(*dma.at(driver.data(4095)), 9);
  EXPECT_EQ(*dma.at(driver.data(4096)), 0);
}

TEST(ConsoleTest, BothDirections) {
  FakeDma dma;
  FakeLine line;
  FakeChar terminal;
  VirtioConsole console(dma, &terminal);
  VirtioMmio mmio(line, &console);
  VirtioDriver driver(mmio, dma);
  mmio.write(0x108, '!', 4);
  EXPECT_EQ(terminal.sent, "!");
  ASSERT_TRUE(driver.start(kV1, 2));
  std::memcpy(dma.at(driver.data()), "hello", 5);
  driver.add(1, 0, {{driver.data(), 5, false}});
  driver.kick(1);
  EXPECT_EQ(terminal.sent, "!hello");
  terminal.type("ab");
  EXPECT_EQ(driver.used(0), 0);
  driver.add(0, 0, {{driver.data(0x100), 16, true}});
  driver.add(0, 1, {{driver.data(0x200), 16, true}});
  driver.kick(0);
  EXPECT_EQ(*dma.at(driver.data(0x100)), 'a');
  EXPECT_EQ(*dma.at(driver.data(0x200)), 'b');
  EXPECT_EQ(driver.used(0), 2);
}

TEST(EmptySlot, ReadsAsNoDevice) {
  FakeLine line;
  VirtioMmio mmio(line, nullptr);
  EXPECT_EQ(mmio.read(0, 4), 0x74726976u);
  EXPECT_EQ(mmio.read(8, 4), 0u);
  mmio.write(0x70, 15, 4);
  EXPECT_EQ(mmio.read(0x70, 4), 0u);
}

}  // namespace
}  // namespace kiln::devices
