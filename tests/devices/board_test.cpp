#include <gtest/gtest.h>
#include <libfdt.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "devices/boards/virt.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

struct VirtTest : testing::Test {
  FakeBus bus;
  FakeDma dma{0x40000000, 64 << 20};
  FakeClock clock;
  FakeLoop loop;
  FakeLine irq, fiq;
  FakeChar terminal;
  std::string directory = testing::TempDir() + "virt-" + std::to_string(getpid());
  BoardOptions options;

  VirtTest() {
    std::filesystem::create_directory(directory);
    options.ram_bytes = 64 << 20;
    options.cpu_model = "cortex-a72";
    options.serial = {&terminal};
  }
  ~VirtTest() override { std::filesystem::remove_all(directory); }
  BoardServices services() { return {bus, dma, clock, loop, {CpuLines{{&irq, &fiq}}}, {}, {}}; }
  std::string file(const std::string& name, const std::vector<u8>& bytes) {
    const std::string path = directory + "/" + name;
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path;
  }
  std::vector<u8> image(u64 text_offset, u64 image_size) {
    std::vector<u8> bytes(4096, 0x5a);
    std::memset(bytes.data(), 0, 64);
    std::memcpy(bytes.data() + 8, &text_offset, 8);
    std::memcpy(bytes.data() + 16, &image_size, 8);
    std::memcpy(bytes.data() + 56, "ARM\x64", 4);
    return bytes;
  }
};

TEST_F(VirtTest, LoadsKernelInitrdAndTree) {
  options.kernel = file("Image", image(0, 5 << 20));
  options.initrd = file("initrd", std::vector<u8>(3000, 7));
  options.append = "console=ttyAMA0 quiet";
  auto board = make_virt(services(), options);
  ASSERT_TRUE(board) << board.error();
  const CpuStart start = (*board)->reset();
  EXPECT_EQ(start.entry, 0x40000000u);
  EXPECT_EQ(dma.at(start.entry)[100], 0x5a);
  const u8* tree = dma.at(start.arguments[0]);
  ASSERT_EQ(fdt_check_header(tree), 0);
  const int chosen = fdt_path_offset(tree, "/chosen");
  EXPECT_STREQ(static_cast<const char*>(fdt_getprop(tree, chosen, "bootargs", nullptr)), "console=ttyAMA0 quiet");
  const u64 initrd = fdt64_to_cpu(*static_cast<const fdt64_t*>(fdt_getprop(tree, chosen, "linux,initrd-start", nullptr)));
  EXPECT_GE(initrd, start.entry + (5 << 20));
  EXPECT_EQ(dma.at(initrd)[0], 7);
  EXPECT_GE(start.arguments[0], initrd + 3000);
  // The guest overwrites everything; a reset brings it back.
  std::fill(dma.memory.begin(), dma.memory.end(), 0xee);
  EXPECT_EQ((*board)->reset().entry, start.entry);
  EXPECT_EQ(dma.at(initrd)[0], 7);
  EXPECT_EQ(fdt_check_header(tree), 0);
}

TEST_F(VirtTest, SerialLineAndInterrupts) {
  options.kernel = file("Image", image(0x80000, 0));
  auto board = make_virt(services(), options);
  ASSERT_TRUE(board) << board.error();
  EXPECT_EQ((*board)->reset().entry, 0x40080000u);
  for (const char letter : std::string("Linux")) bus.store(0x09000000, static_cast<u8>(letter));  // as an early console does
  EXPECT_EQ(terminal.sent, "Linux");
  bus.store(0x08000000, 1);
  bus.store(0x08010004, 0xf0);
  bus.store(0x08010000, 1);
  bus.store(0x08000100 + 4, 2);  // SPI 1
  bus.store(0x09000038, 0x20);
  EXPECT_TRUE(irq.level);
  EXPECT_EQ(bus.load(0x0801000c), 33u);
  (*board)->cpu_output(0, virt_cpu::TimerVirtual, true);
  EXPECT_EQ(bus.load(0x08000d00), u64{1} << 11);
  (*board)->power_button();
  EXPECT_EQ(bus.load(0x090303fc), 8u);
  clock.advance(1'000'000'000);
  EXPECT_EQ(bus.load(0x090303fc), 0u);
}

TEST_F(VirtTest, DescribesItsDevices) {
  options.kernel = file("Image", image(0, 4096));
  options.devices = {{"virtio-rng-pci", {{"addr", "7"}}}, {"virtio-rng", {}}, {"virtio-rng-device", {}}};
  auto board = make_virt(services(), options);
  ASSERT_TRUE(board) << board.error();
  const std::string text = (*board)->describe();
  EXPECT_NE(text.find("  pcie\n    slot 7: virtio-rng-pci\n    slot 1: virtio-rng\n"), std::string::npos) << text;
  EXPECT_NE(text.find("  virtio-mmio.0 (virtio-rng)\n"), std::string::npos) << text;
  EXPECT_EQ(text.find("virtio-mmio.1"), std::string::npos);
  options.devices = {{"virtio-rng-pci", {{"addr", "7"}}}, {"virtio-rng-pci", {{"addr", "7"}}}};
  FakeBus other;
  EXPECT_FALSE(make_virt({other, dma, clock, loop, {CpuLines{{&irq, &fiq}}}, {}, {}}, options));
}

TEST_F(VirtTest, StateSurvives) {
  options.kernel = file("Image", image(0, 4096));
  for (const char* version : {"2", "3"}) {
    options.machine["gic-version"] = version;
    auto board = make_virt(services(), options);
    ASSERT_TRUE(board) << board.error();
    (*board)->reset();
    (*board)->cpu_output(0, virt_cpu::TimerVirtual, true);
    FakeBus other_bus;
    BoardServices other_services{other_bus, dma, clock, loop, {CpuLines{{&irq, &fiq}}}, {}, {}};
    BoardOptions other_options = options;
    other_options.serial.clear();
    auto other = make_virt(other_services, other_options);
    ASSERT_TRUE(other);
    EXPECT_TRUE(survives(**board, **other));
  }
}

TEST_F(VirtTest, FirmwareInFlash) {
  options.bios = file("firmware", {0x11, 0x22, 0x33, 0x44});
  options.kernel = file("kernel", {1, 2, 3});  // firmware knows what it can start
  options.append = "quiet";
  auto board = make_virt(services(), options);
  ASSERT_TRUE(board) << board.error();
  EXPECT_EQ((*board)->reset().entry, 0u);
  EXPECT_EQ(bus.load(0), 0x44332211u);
  EXPECT_EQ(bus.load(0x04000000), 0xffffffffu);
  EXPECT_EQ(fdt_check_header(dma.at(0x40000000)), 0);
  EXPECT_GE(fdt_path_offset(dma.at(0x40000000), "/flash@0"), 0);
  bus.store(0x09020008, 0x0800, 2);  // FW_CFG_KERNEL_SIZE
  EXPECT_EQ(bus.load(0x09020000), 3u);
  bus.store(0x09020008, 0x1500, 2);  // FW_CFG_CMDLINE_DATA
  EXPECT_EQ(bus.load(0x09020000, 8) & 0xffffffffff, 0x7465697571u);
}

TEST_F(VirtTest, UserMistakesAreOneClearLine) {
  const auto error = [&] {
    FakeBus fresh;
    BoardServices all{fresh, dma, clock, loop, {CpuLines{{&irq, &fiq}}}, {}, {}};
    auto board = make_virt(all, options);
    return board ? std::string() : board.error();
  };
  options.kernel = directory + "/missing";
  EXPECT_EQ(error(), "-kernel: cannot read " + options.kernel + ": No such file or directory");
  options.kernel = directory;
  EXPECT_EQ(error(), "-kernel: cannot read " + options.kernel + ": Is a directory");
  options.kernel = file("text", std::vector<u8>(100, 'x'));
  EXPECT_EQ(error(), "-kernel: " + options.kernel + " is no arm64 Linux kernel (Image, Image.gz)");
  options.kernel = file("gz", {0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0});
  EXPECT_NE(error().find("damaged or incomplete"), std::string::npos);
  options.kernel = file("Image", image(0, 200 << 20));
  EXPECT_NE(error().find("the machine has 64 (-m)"), std::string::npos) << error();
  options.kernel = file("Image", image(0, 4096));
  options.dtb = file("dtb", std::vector<u8>(100, 'x'));
  EXPECT_NE(error().find("it is no device tree"), std::string::npos) << error();
  options.dtb.clear();
  options.machine["gic-version"] = "7";
  EXPECT_NE(error().find("gic-version=7 is not supported"), std::string::npos) << error();
}

}  // namespace
}  // namespace kiln::devices
