#include "devices/boards/virt_tree.h"

#include <cstdio>

#include "devices/boards/device_tree.h"
#include "devices/boards/virt.h"
#include "devices/boards/virt_map.h"

namespace kiln::devices {

using namespace virt_map;

namespace {
// Bindings: Linux, Documentation/devicetree/bindings.
enum Phandle : u32 { kGicHandle = 1, kClockHandle, kGpioHandle, kMsiHandle };
enum InterruptKind : u32 { kSpi = 0, kPpi = 1 };
enum Trigger : u32 { kRising = 1, kLevelHigh = 4 };

std::string at(const char* name, u64 address) {
  char text[64];
  std::snprintf(text, sizeof text, "%s@%llx", name, static_cast<unsigned long long>(address));
  return text;
}

void primecell(DeviceTree& tree, const char* kind, Range range, unsigned spi) {
  tree.begin(at(kind, range.base));
  tree.text("compatible", {std::string("arm,") + kind, "arm,primecell"});
  tree.reg("reg", {{range.base, range.size}});
  tree.cells("interrupts", {kSpi, spi, kLevelHigh});
}

void cpus(DeviceTree& tree, const VirtTree& options) {
  tree.begin("cpus");
  tree.cells("#address-cells", {1});
  tree.cells("#size-cells", {0});
  for (unsigned i = 0; i < options.cpus; ++i) {
    tree.begin(at("cpu", virt_cpu::affinity(i)));
    tree.text("device_type", {"cpu"});
    tree.text("compatible", {options.cpu_compatible});
    tree.cells("reg", {static_cast<u32>(virt_cpu::affinity(i))});
    if (options.psci != "none") tree.text("enable-method", {"psci"});
    tree.end();
  }
  tree.end();
  if (options.psci == "none") return;
  tree.begin("psci");
  tree.text("compatible", {"arm,psci-1.0", "arm,psci-0.2", "arm,psci"});
  tree.text("method", {options.psci});
  tree.cells("cpu_suspend", {0xc4000001});
  tree.cells("cpu_off", {0x84000002});
  tree.cells("cpu_on", {0xc4000003});
  tree.end();
}

void interrupts(DeviceTree& tree, const VirtTree& options) {
  const u32 cpu_mask = options.gic_version == 2 ? static_cast<u32>(mask_low(options.cpus)) << 8 : 0;
  tree.begin("timer");
  tree.text("compatible", {"arm,armv8-timer"});
  tree.property("always-on");
  std::vector<u32> lines;
  for (const unsigned ppi : {kTimerSecurePpi, kTimerPhysicalPpi, kTimerVirtualPpi, kTimerHypervisorPpi})
    lines.insert(lines.end(), {kPpi, ppi, cpu_mask | kLevelHigh});
  tree.cells("interrupts", lines);
  tree.end();

  tree.begin(at("intc", kGicDistributor.base));
  tree.property("interrupt-controller");
  tree.cells("#interrupt-cells", {3});
  tree.cells("#address-cells", {2});
  tree.cells("#size-cells", {2});
  tree.property("ranges");
  tree.cells("phandle", {kGicHandle});
  if (options.gic_version == 2) {
    tree.text("compatible", {"arm,cortex-a15-gic"});
    tree.reg("reg", {{kGicDistributor.base, kGicDistributor.size}, {kGicCpu.base, kGicCpu.size}});
  } else {
    tree.text("compatible", {"arm,gic-v3"});
    tree.cells("#redistributor-regions", {1});
    tree.reg("reg", {{kGicDistributor.base, kGicDistributor.size}, {kGicRedistributors.base, kGicRedistributors.size}});
  }
  if (options.pcie) {
    tree.begin(at("v2m", kGicV2m.base));
    tree.text("compatible", {"arm,gic-v2m-frame"});
    tree.property("msi-controller");
    tree.reg("reg", {{kGicV2m.base, kGicV2m.size}});
    tree.cells("phandle", {kMsiHandle});
    tree.end();
  }
  tree.end();
}

void pcie(DeviceTree& tree) {
  tree.begin(at("pcie", kPcieMmio.base));
  tree.text("compatible", {"pci-host-ecam-generic"});
  tree.text("device_type", {"pci"});
  tree.cells("#address-cells", {3});
  tree.cells("#size-cells", {2});
  tree.cells("#interrupt-cells", {1});
  tree.cells("linux,pci-domain", {0});
  tree.cells("bus-range", {0, static_cast<u32>(kPcieEcam.size >> 20) - 1});
  tree.property("dma-coherent");
  tree.cells("msi-parent", {kMsiHandle});
  tree.reg("reg", {{kPcieEcam.base, kPcieEcam.size}});
  const auto high = [](u64 value) { return static_cast<u32>(value >> 32); };
  const auto low = [](u64 value) { return static_cast<u32>(value); };
  tree.cells("ranges", {0x01000000, 0, 0, high(kPciePio.base), low(kPciePio.base), 0, low(kPciePio.size),  //
                        0x02000000, 0, low(kPcieMmio.base), high(kPcieMmio.base), low(kPcieMmio.base), 0, low(kPcieMmio.size)});
  // INTA..INTD of four slots, rotated as on every PCI board.
  std::vector<u32> map;
  for (u32 slot = 0; slot < 4; ++slot)
    for (u32 pin = 0; pin < 4; ++pin)
      map.insert(map.end(), {slot << 11, 0, 0, pin + 1, kGicHandle, 0, 0, kSpi, kPcieSpi + (slot + pin) % 4, kLevelHigh});
  tree.cells("interrupt-map", map);
  tree.cells("interrupt-map-mask", {3 << 11, 0, 0, 7});
  tree.end();
}
}  // namespace

std::vector<u8> make_virt_tree(const VirtTree& options) {
  DeviceTree tree;
  tree.begin("");
  tree.text("compatible", {"linux,dummy-virt"});
  tree.text("model", {"linux,dummy-virt"});
  tree.cells("#address-cells", {2});
  tree.cells("#size-cells", {2});
  tree.cells("interrupt-parent", {kGicHandle});
  tree.property("dma-coherent");

  tree.begin("chosen");
  tree.text("stdout-path", {"/" + at("pl011", kUart.base)});
  if (options.seed.size() >= 64) {
    tree.bytes("kaslr-seed", {options.seed.begin(), options.seed.begin() + 8});
    tree.bytes("rng-seed", {options.seed.begin() + 8, options.seed.begin() + 56});
  }
  tree.end();
  tree.begin("aliases");
  tree.text("serial0", {"/" + at("pl011", kUart.base)});
  tree.end();
  tree.begin(at("memory", kRamBase));
  tree.text("device_type", {"memory"});
  tree.reg("reg", {{kRamBase, options.ram_bytes}});
  tree.end();
  cpus(tree, options);
  interrupts(tree, options);

  tree.begin("apb-pclk");
  tree.text("compatible", {"fixed-clock"});
  tree.cells("#clock-cells", {0});
  tree.cells("clock-frequency", {24'000'000});
  tree.text("clock-output-names", {"clk24mhz"});
  tree.cells("phandle", {kClockHandle});
  tree.end();

  primecell(tree, "pl011", kUart, kUartSpi);
  tree.cells("clocks", {kClockHandle, kClockHandle});
  tree.text("clock-names", {"uartclk", "apb_pclk"});
  tree.end();
  primecell(tree, "pl031", kRtc, kRtcSpi);
  tree.cells("clocks", {kClockHandle});
  tree.text("clock-names", {"apb_pclk"});
  tree.end();
  primecell(tree, "pl061", kGpio, kGpioSpi);
  tree.cells("clocks", {kClockHandle});
  tree.text("clock-names", {"apb_pclk"});
  tree.property("gpio-controller");
  tree.cells("#gpio-cells", {2});
  tree.cells("phandle", {kGpioHandle});
  tree.end();
  tree.begin("gpio-keys");
  tree.text("compatible", {"gpio-keys"});
  tree.begin("poweroff");
  tree.text("label", {"GPIO Key Poweroff"});
  tree.cells("linux,code", {116});  // KEY_POWER
  tree.cells("gpios", {kGpioHandle, 3, 0});
  tree.end();
  tree.end();

  if (options.flash) {
    tree.begin(at("flash", kFlash0.base));
    tree.text("compatible", {"cfi-flash"});
    tree.reg("reg", {{kFlash0.base, kFlash0.size}, {kFlash1.base, kFlash1.size}});
    tree.cells("bank-width", {4});
    tree.end();
  }
  if (options.fw_cfg) {
    tree.begin(at("fw-cfg", kFwCfg.base));
    tree.text("compatible", {"qemu,fw-cfg-mmio"});
    tree.reg("reg", {{kFwCfg.base, kFwCfg.size}});
    tree.property("dma-coherent");
    tree.end();
  }
  for (unsigned i = 0; i < kVirtioSlots; ++i) {
    const u64 base = kVirtio.base + i * kVirtio.size;
    tree.begin(at("virtio_mmio", base));
    tree.text("compatible", {"virtio,mmio"});
    tree.reg("reg", {{base, kVirtio.size}});
    tree.cells("interrupts", {kSpi, kVirtioSpi + i, kLevelHigh});
    tree.property("dma-coherent");
    tree.end();
  }
  if (options.pcie) pcie(tree);
  tree.end();
  return tree.finish();
}

}  // namespace kiln::devices
