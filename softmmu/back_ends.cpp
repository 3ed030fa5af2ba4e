#include "softmmu/back_ends.h"

#include <algorithm>
#include <cstring>
#include <fstream>

#include "devices/block/raw_disk.h"
#include "devices/char/open.h"
#include "devices/net/user_net.h"

namespace kiln::softmmu {

using devices::CharBackend;

namespace {

/// "" or a line about the first key that is not among `known`.
std::string unknown_key(const KeyValues& values, std::initializer_list<const char*> known) {
  for (const auto& [key, value] : values.values)
    if (std::ranges::find(known, key) == known.end()) return "\"" + key + "\" is not supported";
  return "";
}

std::string get(const KeyValues& values, const char* key, const char* otherwise = "") {
  const auto found = values.values.find(key);
  return found != values.values.end() ? found->second : otherwise;
}

/// What a file begins with says that it is no raw image; writing to it as if it were would destroy it.
std::string other_format(const std::string& file) {
  char magic[4] = {};
  std::ifstream(file, std::ios::binary).read(magic, sizeof magic);
  return std::memcmp(magic, "QFI\xfb", 4) == 0 ? "qcow2" : "";
}

}  // namespace

Result<CharBackend*> BackEnds::open_char(const std::string& kind, std::map<std::string, std::string> properties) {
  const bool mux = properties["mux"] == "on";
  properties.erase("mux");
  properties.erase("id");
  if (mux && kind == "stdio") properties["signal"] = "off";  // Ctrl-C is the guest's
  auto opened = devices::open_char(machine_.loop(), machine_.lock(), kind, properties);
  if (!opened) return Error{opened.error()};
  chars_.push_back(std::move(*opened));
  if (!mux) return chars_.back().get();
  const std::lock_guard lock(machine_.lock());
  const std::size_t number = monitors_.size();
  const auto focused = [this, number](unsigned port) {
    if (port == 1) monitors_[number]->prompt();
  };
  muxes_.push_back(std::make_unique<devices::CharMux>(
      *chars_.back(), devices::CharMux::Actions{[this] { machine_.ask(Machine::Ask::Quit); }, focused}));
  CharBackend& serial = muxes_.back()->add_port("serial");
  add_monitor(muxes_.back()->add_port("monitor"));
  return &serial;
}

/// Machine lock held.
void BackEnds::add_monitor(CharBackend& line) {
  monitors_.push_back(std::make_unique<Monitor>(machine_, line));
}

Result<CharBackend*> BackEnds::open_serial(const std::string& text, const devices::BoardOptions& board) {
  if (text == "none") return static_cast<CharBackend*>(nullptr);
  if (text.starts_with("chardev:")) {
    const auto found = board.back_ends.chars.find(text.substr(8));
    if (found == board.back_ends.chars.end()) return Error{"-serial " + text + ": there is no such chardev"};
    return found->second;
  }
  const bool mux = text.starts_with("mon:");
  auto spec = devices::parse_char_spec(mux ? text.substr(4) : text);
  if (!spec) return Error{"-serial " + spec.error()};
  if (mux) spec->properties["mux"] = "on";
  auto opened = open_char(spec->kind, spec->properties);
  if (!opened) return Error{"-serial: " + opened.error()};
  if (spec->kind == "pty") std::fprintf(stderr, "kiln-system: serial line on %s\n", (*opened)->describe().c_str());
  return *opened;
}

Result<void> BackEnds::open_drive(const KeyValues& drive, bool snapshot, devices::BoardOptions& board) {
  const std::string file = get(drive, "file"), interface = get(drive, "if", "virtio");
  const auto failed = [&](const std::string& why) { return Error{"-drive " + (file.empty() ? "" : file + ": ") + why}; };
  if (const std::string wrong = unknown_key(
          drive, {"file", "if", "format", "id", "readonly", "read-only", "snapshot", "discard", "cache", "aio", "media", "index", "unit", "serial"});
      !wrong.empty())
    return failed(wrong);
  if (file.empty()) return failed("needs file=");
  if (const std::string format = get(drive, "format", "raw"); format != "raw") return failed("format " + format + " is not supported yet (raw)");
  if (get(drive, "format").empty())
    if (const std::string format = other_format(file); !format.empty()) return failed("it is a " + format + " image, which is not supported yet (format=raw takes it as it is)");
  const bool read_only = get(drive, "readonly") == "on" || get(drive, "read-only") == "on" || get(drive, "media") == "cdrom";
  // Writes are done when the host's cache has them, and stay when the guest flushes; a mode that promises less is served by that too.
  const std::string cache = get(drive, "cache", "writeback");
  const bool write_through = cache == "writethrough" || cache == "directsync";
  if (!write_through && cache != "writeback" && cache != "none" && cache != "unsafe") return failed("cache=" + cache + " is not known");
  snapshot = get(drive, "snapshot", snapshot ? "on" : "off") == "on";
  if (interface == "pflash") {
    const unsigned long unit = std::strtoul(get(drive, "unit", get(drive, "index", std::to_string(board.flash.size()).c_str()).c_str()).c_str(), nullptr, 10);
    if (unit > 1) return failed("the board has flash units 0 and 1");
    if (board.flash.size() <= unit) board.flash.resize(unit + 1);
    if (snapshot && !read_only) return failed("flash has no snapshots; use readonly=on, or a copy");
    board.flash[unit] = {file, read_only};
    return {};
  }
  if (interface != "virtio" && interface != "none") return failed("if=" + interface + " is not supported (virtio, none, pflash)");
  const std::string id = get(drive, "id", ("drive" + std::to_string(disks_.size())).c_str());
  if (board.back_ends.drives.contains(id)) return failed("there is another drive \"" + id + "\"");
  const std::string discard = get(drive, "discard");
  auto disk = devices::open_raw_disk(machine_.loop(), {file, read_only, snapshot, discard == "unmap" || discard == "on", write_through});
  if (!disk) return Error{disk.error()};
  disks_.push_back(std::move(*disk));
  board.back_ends.drives[id] = disks_.back().get();
  if (interface == "virtio") {
    devices::DeviceOption device{"virtio-blk-pci", {{"drive", id}}};
    if (!get(drive, "serial").empty()) device.properties["serial"] = get(drive, "serial");
    board.devices.push_back(std::move(device));
  }
  return {};
}

Result<void> BackEnds::open_netdev(const KeyValues& netdev, devices::BoardOptions& board) {
  const std::string type = get(netdev, "type"), id = get(netdev, "id");
  if (type != "user") return Error{"-netdev " + type + ": is not supported (user)"};
  if (id.empty()) return Error{"-netdev user: needs id="};
  if (board.back_ends.nets.contains(id)) return Error{"-netdev user: there is another one called \"" + id + "\""};
  const std::lock_guard lock(machine_.lock());
  auto net = devices::open_user_net(machine_.loop(), netdev.all);
  if (!net) return Error{net.error()};
  nets_.push_back(std::move(*net));
  board.back_ends.nets[id] = nets_.back().get();
  return {};
}

Result<void> BackEnds::open_nic(KeyValues nic, devices::BoardOptions& board) {
  if (get(nic, "type") == "none") return {};
  const std::string model = get(nic, "model", "virtio-net-pci"), mac = get(nic, "mac");
  std::erase_if(nic.all, [](const auto& item) { return item.first == "model" || item.first == "mac"; });
  nic.values["id"] = "nic" + std::to_string(nets_.size());
  if (auto opened = open_netdev(nic, board); !opened) return opened;
  devices::DeviceOption card{model == "virtio" ? "virtio-net-pci" : model, {{"netdev", nic.values["id"]}}};
  if (!mac.empty()) card.properties["mac"] = mac;
  board.devices.push_back(std::move(card));
  return {};
}

void BackEnds::close() {
  nets_.clear();
  disks_.clear();
  monitors_.clear();
  muxes_.clear();
  chars_.clear();
}

Result<void> BackEnds::open(const Options& options, devices::BoardOptions& board) {
  machine_.describe_disks = [this] {
    std::string text;
    for (const auto& disk : disks_) text += disk->describe() + "\n";
    return text.empty() ? "no disks\n" : text;
  };
  machine_.describe_networks = [this] {
    std::string text;
    for (const auto& net : nets_) text += net->describe() + "\n";
    return text.empty() ? "no networks\n" : text;
  };
  for (const KeyValues& chardev : options.chardevs) {
    std::map<std::string, std::string> properties = chardev.values;
    const std::string id = get(chardev, "id"), kind = get(chardev, "backend");
    if (id.empty()) return Error{"-chardev " + kind + ": needs id="};
    properties.erase("backend");
    auto opened = open_char(kind, properties);
    if (!opened) return Error{"-chardev: " + opened.error()};
    board.back_ends.chars[id] = *opened;
  }
  for (const KeyValues& drive : options.drives)
    if (auto opened = open_drive(drive, options.snapshot, board); !opened) return opened;
  for (const KeyValues& netdev : options.netdevs)
    if (auto opened = open_netdev(netdev, board); !opened) return opened;
  for (const KeyValues& nic : options.nics)
    if (auto opened = open_nic(nic, board); !opened) return opened;
  std::vector<std::string> serials = options.serials;
  if (serials.empty()) serials.push_back("mon:stdio");
  for (const std::string& serial : serials) {
    auto opened = open_serial(serial, board);
    if (!opened) return Error{opened.error()};
    board.serial.push_back(*opened);
  }
  if (!options.monitor.empty() && options.monitor != "none") {
    auto spec = devices::parse_char_spec(options.monitor);
    if (!spec) return Error{"-monitor " + spec.error()};
    auto opened = open_char(spec->kind, spec->properties);
    if (!opened) return Error{"-monitor: " + opened.error()};
    const std::lock_guard lock(machine_.lock());
    add_monitor(**opened);
  }
  for (const KeyValues& device : options.devices) {
    devices::DeviceOption option{get(device, "driver"), device.values};
    option.properties.erase("driver");
    board.devices.push_back(std::move(option));
  }
  return {};
}

}  // namespace kiln::softmmu
