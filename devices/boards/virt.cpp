#include "devices/boards/virt.h"

#include <sys/random.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>

#include "devices/boards/arm64_boot.h"
#include "devices/boards/device_tree.h"
#include "devices/boards/virt_map.h"
#include "devices/boards/virt_tree.h"
#include "devices/boards/virtio_factory.h"
#include "devices/firmware/fw_cfg.h"
#include "devices/flash/flash_file.h"
#include "devices/gpio/pl061.h"
#include "devices/intc/gicv2.h"
#include "devices/intc/gicv2m.h"
#include "devices/intc/gicv3.h"
#include "devices/pci/host.h"
#include "devices/serial/pl011.h"
#include "devices/timer/pl031.h"
#include "devices/virtio/mmio.h"
#include "devices/virtio/pci.h"

namespace kiln::devices {

using namespace virt_map;

namespace {

constexpr u64 kLargestFile = u64{4} << 30;
constexpr u64 kKeyPressNs = 100'000'000;
constexpr unsigned kPowerKey = 3;  // the GPIO line of the device tree's poweroff key

/// The range of PCI's I/O ports, of which no device has any.
class NoPorts final : public MmioDevice {
 public:
  u64 read(u64, unsigned bytes) override { return mask_low(8 * bytes); }
  void write(u64, u64, unsigned) override {}
};

class Virt final : public Board, private MsiTarget {
 public:
  explicit Virt(const BoardServices& services) : services_(services) {}
  Result<void> build(const BoardOptions& options);

  CpuStart reset() override;
  bool cpu_register(unsigned cpu, u32 number, bool write, u64& value) override {
    return gicv3_ != nullptr && gicv3_->cpu_register(cpu, number, write, value);
  }
  void cpu_output(unsigned cpu, unsigned line, bool level) override;
  void power_button() override;
  std::string describe() const override;
  void state(StateVisitor& visitor) override;

 private:
  Result<unsigned> option(const BoardOptions& options);
  Result<void> add_flash(const BoardOptions& options);
  Result<void> load(const BoardOptions& options);
  void offer_to_firmware(std::vector<u8> kernel, std::vector<u8> initrd, const std::string& append);
  Result<void> add_virtio(const BoardOptions& options);
  void add_gic();
  void add_pcie();
  Result<void> add_pci_device(DeviceOption option, VirtioFactory& factory);
  void message(u64 address, u32 data) override;
  IrqLine& spi(unsigned index) { return gicv2_ != nullptr ? gicv2_->spi(index) : gicv3_->spi(index); }
  IrqLine& ppi(unsigned cpu, unsigned index) { return gicv2_ != nullptr ? gicv2_->ppi(cpu, index) : gicv3_->ppi(cpu, index); }
  void add(std::string name, Device& device) { devices_.emplace_back(std::move(name), &device); }

  /// Something that a reset puts into memory.
  struct Loaded {
    u64 address;
    std::vector<u8> bytes;
  };

  BoardServices services_;
  VirtTree tree_options_;
  std::unique_ptr<Gicv2> gicv2_;
  std::unique_ptr<Gicv3> gicv3_;
  std::unique_ptr<Pl011> uart_;
  std::unique_ptr<Pl031> rtc_;
  std::unique_ptr<Pl061> gpio_;
  std::unique_ptr<FwCfg> fw_cfg_;
  std::unique_ptr<Pflash> flash_[2];
  std::unique_ptr<Timer> key_release_;
  std::vector<std::unique_ptr<VirtioDevice>> virtio_devices_;
  std::unique_ptr<Gicv2m> v2m_;
  std::unique_ptr<PcieHost> pcie_;
  NoPorts pcie_ports_;
  std::vector<std::unique_ptr<VirtioPci>> pci_functions_;
  std::vector<std::string> pci_names_;
  std::vector<std::unique_ptr<VirtioMmio>> virtio_slots_;
  std::vector<std::pair<std::string, Device*>> devices_;
  std::vector<Loaded> loaded_;
  CpuStart start_;
};

std::string cpu_compatible(const std::string& model) {
  for (const char* known : {"cortex-a35", "cortex-a53", "cortex-a55", "cortex-a57", "cortex-a72", "cortex-a76", "neoverse-n1"})
    if (model == known) return "arm," + model;
  return "arm,armv8";
}

/// What the board does anyway, whether or not the user says so.
bool harmless(const std::string& key, const std::string& value) {
  for (const char* absent : {"secure", "virtualization", "acpi", "its", "ras", "mte", "usb", "graphics", "highmem"})
    if (key == absent) return value == "off";
  return (key == "accel" && value == "tcg") || (key == "iommu" && value == "none");
}

Result<unsigned> Virt::option(const BoardOptions& options) {
  tree_options_.cpus = static_cast<unsigned>(services_.cpus.size());
  tree_options_.cpu_compatible = cpu_compatible(options.cpu_model);
  tree_options_.psci = "hvc";
  tree_options_.ram_bytes = options.ram_bytes;
  bool seeds = true;
  for (const auto& [key, value] : options.machine) {
    if (key == "gic-version" && (value == "2" || value == "3")) tree_options_.gic_version = value == "2" ? 2 : 3;
    else if (key == "gic-version" && value == "max") tree_options_.gic_version = 3;
    else if (key == "virtualization" && (value == "on" || value == "off")) {
      if (value == "on" && !options.machine.contains("psci")) tree_options_.psci = "smc";  // HVC is the guest's own
    } else if (key == "psci" && (value == "hvc" || value == "smc" || value == "none")) tree_options_.psci = value;
    else if (key == "dtb-randomness" && (value == "on" || value == "off")) seeds = value == "on";
    else if (harmless(key, value)) continue;
    else
      return Error{
          "-M virt," + key + "=" + value +
          " is not supported (known: gic-version=2|3, psci=hvc|smc|none, virtualization=on|off, dtb-randomness=on|off)"};
  }
  const unsigned most = tree_options_.gic_version == 2 ? 8 : 123;
  if (tree_options_.cpus > most) {
    return Error{"-smp " + std::to_string(tree_options_.cpus) + ": GICv" + std::to_string(tree_options_.gic_version) +
                 " serves at most " + std::to_string(most) + " processors" +
                 (most == 8 ? " (-M virt,gic-version=3 serves more)" : "")};
  }
  if (options.ram_bytes > kLargestRam) return Error{"-m: the virt board takes at most 255 GiB"};
  if (options.ram_bytes < (1 << 20) || options.ram_bytes % 4096 != 0)
    return Error{"-m: the virt board takes at least 1 MiB, in pages of 4 KiB"};
  if (seeds) {
    tree_options_.seed.resize(64);
    if (getrandom(tree_options_.seed.data(), tree_options_.seed.size(), 0) != 64) tree_options_.seed.clear();
  }
  return tree_options_.gic_version;
}

void Virt::add_gic() {
  MemoryBus& bus = services_.bus;
  const auto input = [&](unsigned cpu, unsigned index) -> IrqLine& { return *services_.cpus[cpu].inputs[index]; };
  if (tree_options_.gic_version == 2) {
    std::vector<Gicv2::CpuOutputs> cpus;
    for (unsigned i = 0; i < services_.cpus.size(); ++i) cpus.push_back({input(i, virt_cpu::Irq), input(i, virt_cpu::Fiq)});
    gicv2_ = std::make_unique<Gicv2>(bus, cpus, kSpis);
    bus.map_mmio(kGicDistributor.base, kGicDistributor.size, gicv2_->distributor(), "gic-distributor");
    bus.map_mmio(kGicCpu.base, kGicCpu.size, gicv2_->cpu_interface(), "gic-cpu-interface");
    add("gicv2", *gicv2_);
  } else {
    std::vector<Gicv3::CpuOutputs> cpus;
    for (unsigned i = 0; i < services_.cpus.size(); ++i)
      cpus.push_back({input(i, virt_cpu::Irq), input(i, virt_cpu::Fiq), virt_cpu::affinity(i)});
    gicv3_ = std::make_unique<Gicv3>(cpus, kSpis);
    bus.map_mmio(kGicDistributor.base, kGicDistributor.size, gicv3_->distributor(), "gic-distributor");
    bus.map_mmio(kGicRedistributors.base, Gicv3::kRedistributorBytes * cpus.size(), gicv3_->redistributors(),
                 "gic-redistributors");
    add("gicv3", *gicv3_);
  }
}

/// Message-signalled interrupts reach the frame of GICv2m and nothing else.
void Virt::message(u64 address, u32 data) {
  if (address == kGicV2m.base + Gicv2m::kSetSpi) v2m_->raise(data);
}

void Virt::add_pcie() {
  MemoryBus& bus = services_.bus;
  v2m_ = std::make_unique<Gicv2m>(kV2mSpi, kV2mSpis, [this](unsigned index) -> IrqLine& { return spi(index); });
  bus.map_mmio(kGicV2m.base, kGicV2m.size, *v2m_, "gic-v2m");
  const std::array<IrqLine*, 4> intx{&spi(kPcieSpi), &spi(kPcieSpi + 1), &spi(kPcieSpi + 2), &spi(kPcieSpi + 3)};
  pcie_ = std::make_unique<PcieHost>(bus, static_cast<MsiTarget&>(*this), intx, kPcieMmio.base, kPcieMmio.size);
  bus.map_mmio(kPcieEcam.base, kPcieEcam.size, *pcie_, "pcie-ecam");
  bus.map_mmio(kPciePio.base, kPciePio.size, pcie_ports_, "pcie-ports");
  add("pcie", *pcie_);
  tree_options_.pcie = true;
}

/// "-device virtio-…-pci[,addr=SLOT]".
Result<void> Virt::add_pci_device(DeviceOption option, VirtioFactory& factory) {
  const auto failed = [&](const std::string& why) { return Error{"-device " + option.model + ": " + why}; };
  unsigned slot = 0;
  if (const auto bus = option.properties.find("bus"); bus != option.properties.end()) {
    if (bus->second != "pcie.0") return failed("there is no bus \"" + bus->second + "\" (pcie.0)");
    option.properties.erase(bus);
  }
  if (const auto address = option.properties.find("addr"); address != option.properties.end()) {
    char* end = nullptr;
    slot = static_cast<unsigned>(std::strtoul(address->second.c_str(), &end, 16));
    if (slot == 0 || slot >= PcieHost::kSlots || (*end != 0 && std::string(end) != ".0"))
      return failed("addr=" + address->second + " is no slot (1..1f)");
    option.properties.erase(address);
  }
  // There is no legacy interface, and no option ROM.
  constexpr std::pair<const char*, const char*> kAnyway[] = {
      {"disable-legacy", "on"}, {"disable-legacy", "auto"}, {"disable-modern", "off"}, {"romfile", ""}};
  for (const auto& [key, value] : kAnyway)
    if (const auto found = option.properties.find(key); found != option.properties.end() && found->second == value)
      option.properties.erase(found);
  auto device = factory.make(option);
  if (!device) return Error{device.error()};
  virtio_devices_.push_back(std::move(*device));
  pci_functions_.push_back(std::make_unique<VirtioPci>(*virtio_devices_.back()));
  slot = pcie_->insert(*pci_functions_.back(), option.model, slot);
  if (slot == 0) return failed("the slot is taken, or all are");
  pci_names_.push_back("slot " + std::to_string(slot) + ": " + option.model);
  return {};
}

/// The devices of the command line in order, then empty slots.
Result<void> Virt::add_virtio(const BoardOptions& options) {
  VirtioFactory factory(services_, options.back_ends);
  std::vector<std::pair<std::string, VirtioDevice*>> slots;
  for (const DeviceOption& option : options.devices) {
    const VirtioFactory::Model model = VirtioFactory::split(option.model);
    if (!VirtioFactory::knows(model.kind))
      return Error{"-device " + option.model + ": there is no such device for the virt board"};
    if (model.transport != "device") {  // "virtio-blk" by itself is on PCI, as QEMU's users expect
      if (auto added = add_pci_device(option, factory); !added) return added;
      continue;
    }
    if (slots.size() == kVirtioSlots) return Error{"-device " + option.model + ": all virtio slots are taken"};
    auto device = factory.make(option);
    if (!device) return Error{device.error()};
    virtio_devices_.push_back(std::move(*device));
    slots.emplace_back(model.kind, virtio_devices_.back().get());
  }
  slots.resize(kVirtioSlots);
  for (unsigned i = 0; i < kVirtioSlots; ++i) {
    virtio_slots_.push_back(std::make_unique<VirtioMmio>(spi(kVirtioSpi + i), slots[i].second));
    std::string name = "virtio-mmio." + std::to_string(i);
    if (slots[i].second != nullptr) name += " (" + slots[i].first + ")";
    services_.bus.map_mmio(kVirtio.base + i * kVirtio.size, kVirtio.size, *virtio_slots_[i], name);
    add(std::move(name), *virtio_slots_[i]);
  }
  return {};
}

Result<void> Virt::build(const BoardOptions& options) {
  if (const auto version = option(options); !version) return Error{version.error()};
  MemoryBus& bus = services_.bus;
  RamBlock& ram = bus.create_ram("ram", options.ram_bytes);
  bus.map_ram(kRamBase, options.ram_bytes, ram, 0, "ram");
  add_gic();

  CharBackend* serial = options.serial.empty() ? nullptr : options.serial[0];
  uart_ = std::make_unique<Pl011>(spi(kUartSpi), services_.clock, serial);
  bus.map_mmio(kUart.base, kUart.size, *uart_, "pl011");
  add("pl011", *uart_);
  rtc_ = std::make_unique<Pl031>(spi(kRtcSpi), services_.clock);
  bus.map_mmio(kRtc.base, kRtc.size, *rtc_, "pl031");
  add("pl031", *rtc_);
  gpio_ = std::make_unique<Pl061>(spi(kGpioSpi));
  bus.map_mmio(kGpio.base, kGpio.size, *gpio_, "pl061");
  add("pl061", *gpio_);
  key_release_ = services_.clock.create_timer([this] { gpio_->set_input(kPowerKey, false); });

  add_pcie();
  fw_cfg_ = std::make_unique<FwCfg>(services_.dma);
  fw_cfg_->add_number(FwCfg::kCpus, services_.cpus.size(), 2);
  bus.map_mmio(kFwCfg.base, kFwCfg.size, *fw_cfg_, "fw-cfg");
  add("fw-cfg", *fw_cfg_);
  tree_options_.fw_cfg = true;
  // Without firmware nobody needs the flash, and its 128 MiB would have to be filled.
  tree_options_.flash = !options.bios.empty() || !options.flash.empty();
  if (tree_options_.flash)
    if (auto added = add_flash(options); !added) return added;

  if (options.serial.size() > 1) return Error{"-serial: the virt board has one serial line"};
  if (const auto added = add_virtio(options); !added) return added;
  return load(options);
}

Result<void> Virt::add_flash(const BoardOptions& options) {
  std::vector<FlashOption> banks = options.flash;
  if (!options.bios.empty()) {
    if (!banks.empty()) return Error{"-bios and -drive if=pflash exclude each other"};
    banks.push_back({options.bios, true});
  }
  if (banks.size() > 2) return Error{"-drive if=pflash: the virt board has two flash banks"};
  banks.resize(2);
  for (unsigned i = 0; i < 2; ++i) {
    const Range range = i == 0 ? kFlash0 : kFlash1;
    FlashFile file;
    if (!banks[i].file.empty()) {
      auto opened = open_flash_file(banks[i].file, banks[i].read_only, range.size);
      if (!opened) return Error{opened.error()};
      file = std::move(*opened);
    }
    // A bank without a file can be written, and forgets.
    const bool writable = banks[i].file.empty() || !banks[i].read_only;
    const std::string name = "flash" + std::to_string(i);
    flash_[i] =
        std::make_unique<Pflash>(services_.bus, name, range.base, range.size, file.content, writable, std::move(file.save));
    add(name, *flash_[i]);
  }
  return {};
}

void Virt::offer_to_firmware(std::vector<u8> kernel, std::vector<u8> initrd, const std::string& append) {
  std::vector<u8> command_line(append.begin(), append.end());
  command_line.push_back(0);
  fw_cfg_->add_number(FwCfg::kKernelSize, kernel.size(), 4);
  fw_cfg_->add_number(FwCfg::kInitrdSize, initrd.size(), 4);
  fw_cfg_->add_number(FwCfg::kCommandLineSize, command_line.size(), 4);
  fw_cfg_->add(FwCfg::kKernelData, std::move(kernel));
  fw_cfg_->add(FwCfg::kInitrdData, std::move(initrd));
  fw_cfg_->add(FwCfg::kCommandLineData, std::move(command_line));
}

/// Reads the files and works out where everything goes; reset() copies it.
Result<void> Virt::load(const BoardOptions& options) {
  if (options.kernel.empty() && !options.initrd.empty()) return Error{"-initrd needs -kernel"};
  if (options.kernel.empty() && !options.append.empty()) return Error{"-append needs -kernel"};

  const bool firmware = !options.bios.empty() || (!options.flash.empty() && !options.flash[0].file.empty());
  if (options.kernel.empty() && !firmware && options.dump_dtb.empty())
    return Error{"nothing to run: give -kernel FILE or -bios FILE"};

  std::vector<u8> tree = make_virt_tree(tree_options_);
  if (!options.dtb.empty()) {
    auto file = read_whole_file(options.dtb, 2 << 20);
    if (!file) return Error{"-dtb: " + file.error()};
    tree = std::move(*file);
  }
  Arm64Image image;
  std::vector<u8> initrd;
  if (!options.kernel.empty()) {
    auto file = read_whole_file(options.kernel, kLargestFile);
    if (!file) return Error{"-kernel: " + file.error()};
    if (firmware) {
      image.bytes = std::move(*file);
    } else {
      auto parsed = parse_arm64_image(std::move(*file), options.kernel);
      if (!parsed) return Error{"-kernel: " + parsed.error()};
      image = std::move(*parsed);
    }
    if (!options.initrd.empty()) {
      auto initrd_file = read_whole_file(options.initrd, kLargestFile);
      if (!initrd_file) return Error{"-initrd: " + initrd_file.error()};
      initrd = std::move(*initrd_file);
    }
  }
  ChosenNode chosen;
  chosen.bootargs = options.append;
  chosen.memory_base = kRamBase;
  chosen.memory_bytes = options.ram_bytes;
  Arm64Layout layout{kRamBase, kRamBase, kRamBase};
  if (firmware) {
    // It finds the tree at the start of memory, and kernel and initrd in fw_cfg.
    if (!options.kernel.empty()) offer_to_firmware(std::move(image.bytes), std::move(initrd), options.append);
    chosen.bootargs.clear();
  } else if (!options.kernel.empty()) {
    // The tree's size changes little by what is put into it.
    auto laid_out =
        lay_out_arm64(image, initrd.size(), tree.size() + options.append.size() + 4096, kRamBase, options.ram_bytes);
    if (!laid_out) return Error{laid_out.error()};
    layout = *laid_out;
    if (!initrd.empty()) {
      chosen.initrd_start = layout.initrd;
      chosen.initrd_end = layout.initrd + initrd.size();
    }
  }
  auto finished = with_chosen(tree, chosen);
  if (!finished) return Error{(options.dtb.empty() ? "device tree: " : "-dtb " + options.dtb + ": ") + finished.error()};
  if (!options.dump_dtb.empty()) {
    std::ofstream file(options.dump_dtb, std::ios::binary);
    file.write(reinterpret_cast<const char*>(finished->data()), static_cast<std::streamsize>(finished->size()));
    if (!file.flush()) return Error{"-M dumpdtb: cannot write " + options.dump_dtb};
  }
  if (!options.kernel.empty() && !firmware) {
    start_.entry = layout.kernel;
    start_.arguments[0] = layout.device_tree;
    loaded_.push_back({layout.kernel, std::move(image.bytes)});
    if (!initrd.empty()) loaded_.push_back({layout.initrd, std::move(initrd)});
  }
  loaded_.push_back({layout.device_tree, std::move(*finished)});
  return {};
}

CpuStart Virt::reset() {
  for (auto& [name, device] : devices_) device->reset();
  gpio_->set_input(kPowerKey, false);
  if (start_.entry != 0) uart_->set_up_as_firmware();
  for (const Loaded& piece : loaded_) services_.dma.write(piece.address, piece.bytes.data(), piece.bytes.size());
  return start_;
}

void Virt::cpu_output(unsigned cpu, unsigned line, bool level) {
  switch (line) {
    case virt_cpu::TimerPhysical: return ppi(cpu, kTimerPhysicalPpi).set(level);
    case virt_cpu::TimerVirtual: return ppi(cpu, kTimerVirtualPpi).set(level);
    case virt_cpu::TimerHypervisor: return ppi(cpu, kTimerHypervisorPpi).set(level);
    case virt_cpu::TimerSecure: return ppi(cpu, kTimerSecurePpi).set(level);
    case virt_cpu::Pmu: return ppi(cpu, kPmuPpi).set(level);
    default: break;
  }
}

void Virt::power_button() {
  gpio_->set_input(kPowerKey, true);
  key_release_->set(services_.clock.now_ns() + kKeyPressNs);
}

std::string Virt::describe() const {
  std::string text = "virt\n";
  for (const auto& [name, device] : devices_) {
    const bool empty_slot = name.starts_with("virtio-mmio") && !name.ends_with(")");
    if (!empty_slot) text += "  " + name + "\n";
    if (device == pcie_.get())
      for (const std::string& function : pci_names_) text += "    " + function + "\n";
  }
  return text;
}

void Virt::state(StateVisitor& v) {
  v.version(1);
  v("key_release", *key_release_);
  for (auto& [name, device] : devices_) v(name, *device);
}

}  // namespace

Result<std::unique_ptr<Board>> make_virt(const BoardServices& services, const BoardOptions& options) {
  auto board = std::make_unique<Virt>(services);
  if (auto built = board->build(options); !built) return Error{built.error()};
  return std::unique_ptr<Board>(std::move(board));
}

}  // namespace kiln::devices
