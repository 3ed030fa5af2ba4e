// Flash and fw_cfg.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "devices/firmware/fw_cfg.h"
#include "devices/flash/flash_file.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

struct PflashTest : testing::Test {
  FakeBus bus;
  std::vector<u8> saved = std::vector<u8>(1 << 20, 0xff);
  bool save_works = true;
  Pflash flash{bus, "flash", 0, 1 << 20, {1, 2, 3, 4}, true, [this](u64 offset, std::span<const u8> bytes) {
                 std::copy(bytes.begin(), bytes.end(), saved.begin() + static_cast<long>(offset));
                 return save_works;
               }};
  static constexpr u64 both(u32 value) { return value | value << 16; }
};

TEST_F(PflashTest, ReadsDirectlyUntilACommand) {
  EXPECT_EQ(bus.load(0), 0x04030201u);
  EXPECT_EQ(bus.load(4), 0xffffffffu);
  bus.store(0, both(0x70));
  EXPECT_EQ(bus.load(0), 0x00800080u);
  bus.store(0, both(0x90));
  EXPECT_EQ(bus.load(0), 0x00890089u);
  EXPECT_EQ(bus.load(8), 0u);  // not locked
  bus.store(4 * 0x55, both(0x98));
  EXPECT_EQ(bus.load(4 * 0x10), both('Q'));
  EXPECT_EQ(bus.load(4 * 0x11), both('R'));
  EXPECT_EQ(bus.load(4 * 0x12), both('Y'));
  EXPECT_EQ(bus.load(4 * 0x27), both(19));
  EXPECT_EQ(bus.load(4 * 0x2d), both(3));
  EXPECT_EQ(bus.load(4 * 0x30), both(2));
  bus.store(0, both(0xff));
  EXPECT_EQ(bus.load(0), 0x04030201u);
}

TEST_F(PflashTest, ProgramsAndErases) {
  bus.store(0x100, both(0x40));
  bus.store(0x100, 0x12345678);
  EXPECT_EQ(bus.load(0x100), 0x00800080u);
  bus.store(0, both(0xff));
  EXPECT_EQ(bus.load(0x100), 0x12345678u);
  EXPECT_EQ(saved[0x100], 0x78);
  EXPECT_EQ(bus.changes, 1u);
  // Ones do not come back by programming.
  bus.store(0x100, both(0x40));
  bus.store(0x100, 0xffffff0f);
  bus.store(0, both(0xff));
  EXPECT_EQ(bus.load(0x100), 0x12345608u);
  bus.store(0x100, both(0x20));
  bus.store(0x100, both(0xd0));
  bus.store(0, both(0xff));
  EXPECT_EQ(bus.load(0x100), 0xffffffffu);
  EXPECT_EQ(bus.load(0), 0xffffffffu);
}

TEST_F(PflashTest, BufferedProgram) {
  bus.store(0x40000, both(0xe8));
  EXPECT_EQ(bus.load(0x40000) & 0x80, 0x80u);
  bus.store(0x40000, both(3));
  for (u64 i = 0; i < 4; ++i) bus.store(0x40010 + 4 * i, 0x11111111 * (i + 1));
  bus.store(0x40000, both(0xd0));
  EXPECT_EQ(bus.load(0x40000), 0x00800080u);
  bus.store(0, both(0xff));
  for (u64 i = 0; i < 4; ++i) EXPECT_EQ(bus.load(0x40010 + 4 * i), 0x11111111 * (i + 1));
  EXPECT_EQ(bus.load(0x40000), 0xffffffffu);
}

TEST_F(PflashTest, MistakesAndFailuresAreInTheStatus) {
  bus.store(0, both(0x20));
  bus.store(0, both(0x55));
  EXPECT_EQ(bus.load(0), both(0xb0));
  bus.store(0, both(0x50));
  save_works = false;
  bus.store(0, both(0x40));
  bus.store(0, 0);
  EXPECT_EQ(bus.load(0), both(0x90));
  Pflash locked(bus, "locked", 1 << 20, 1 << 20, {7}, false, {});
  bus.store(1 << 20, both(0x40));
  bus.store(1 << 20, 0);
  EXPECT_EQ(bus.load(1 << 20), both(0x92));
  bus.store(1 << 20, both(0xff));
  EXPECT_EQ(bus.load(1 << 20, 1), 7u);
}

TEST_F(PflashTest, StateSurvives) {
  bus.store(0x40000, both(0xe8));
  bus.store(0x40000, both(3));
  bus.store(0x40010, 0x1234);
  FakeBus other_bus;
  Pflash other(other_bus, "flash", 0, 1 << 20, {}, true, {});
  EXPECT_TRUE(survives(flash, other));
  for (u64 i = 1; i < 4; ++i) other_bus.store(0x40010 + 4 * i, 0x5678);
  other_bus.store(0x40000, both(0xd0));
  other_bus.store(0, both(0xff));
  EXPECT_EQ(other_bus.load(0x40010), 0x1234u);
  EXPECT_EQ(other_bus.load(0), 0x04030201u);
}

TEST(FlashFileTest, KeepsWhatIsProgrammed) {
  const std::string path = testing::TempDir() + "flash-" + std::to_string(getpid());
  std::ofstream(path) << "hello";
  {
    auto file = open_flash_file(path, false, 4096);
    ASSERT_TRUE(file);
    EXPECT_EQ(file->content.size(), 5u);
    const u8 bytes[] = {'J'};
    EXPECT_TRUE(file->save(0, bytes));
    EXPECT_EQ(open_flash_file(path, false, 4096).error(), "cannot use flash image " + path + ": another process uses it");
  }
  std::string text;
  std::getline(std::ifstream(path), text);
  EXPECT_EQ(text, "Jello");
  EXPECT_NE(open_flash_file(path, true, 4).error().find("larger than the bank"), std::string::npos);
  EXPECT_FALSE(open_flash_file(path, true, 4096)->save);
  EXPECT_FALSE(open_flash_file("/no/where", true, 4));
  std::filesystem::remove(path);
}

struct FwCfgTest : testing::Test {
  FakeDma dma;
  FwCfg config{dma};
  void select(u16 key) { config.write(8, __builtin_bswap16(key), 2); }
  u32 run(u32 control, u32 length, u64 address) {
    const struct {
      u32 control, length;
      u64 address;
    } request{__builtin_bswap32(control), __builtin_bswap32(length), __builtin_bswap64(address)};
    std::memcpy(dma.at(dma.base), &request, sizeof request);
    config.write(16, __builtin_bswap32(static_cast<u32>(dma.base >> 32)), 4);
    config.write(20, __builtin_bswap32(static_cast<u32>(dma.base)), 4);
    u32 result;
    std::memcpy(&result, dma.at(dma.base), 4);
    return __builtin_bswap32(result);
  }
};

TEST_F(FwCfgTest, DataRegister) {
  select(FwCfg::kSignature);
  EXPECT_EQ(config.read(0, 4), 0x554d4551u);  // "QEMU"
  EXPECT_EQ(config.read(0, 1), 0u);           // behind the end
  select(FwCfg::kId);
  EXPECT_EQ(config.read(0, 4), 3u);
  EXPECT_EQ(config.read(16, 8), __builtin_bswap64(0x51454d5520434647));
  select(0x7777);
  EXPECT_EQ(config.read(0, 8), 0u);
}

TEST_F(FwCfgTest, DmaAndFiles) {
  config.add_file("etc/test", {10, 20, 30});
  EXPECT_EQ(run(FwCfg::kFileDirectory << 16 | 8 | 2, 4 + 64, dma.base + 0x100), 0u);
  EXPECT_EQ(*dma.at(dma.base + 0x103), 1);
  EXPECT_STREQ(reinterpret_cast<char*>(dma.at(dma.base + 0x10c)), "etc/test");
  *dma.at(dma.base + 0x202) = 0xee;
  EXPECT_EQ(run(FwCfg::kFirstFile << 16 | 8 | 4, 1, 0), 0u);  // skip one
  EXPECT_EQ(run(2, 3, dma.base + 0x200), 0u);                 // two and a zero
  EXPECT_EQ(*dma.at(dma.base + 0x200), 20);
  EXPECT_EQ(*dma.at(dma.base + 0x201), 30);
  EXPECT_EQ(*dma.at(dma.base + 0x202), 0);
  EXPECT_EQ(run(FwCfg::kFirstFile << 16 | 8 | 2, 3, 0x1234), 1u);  // nowhere
  EXPECT_EQ(run(FwCfg::kFirstFile << 16 | 8 | 2, ~u32{0}, dma.base + 0x200), 1u);
  EXPECT_EQ(run(16, 1, dma.base), 1u);  // no item can be written
}

}  // namespace
}  // namespace kiln::devices
