#include "devices/boards/virtio_factory.h"

#include <algorithm>
#include <cstdio>

#include "devices/virtio/block.h"
#include "devices/virtio/console.h"
#include "devices/virtio/net.h"
#include "devices/virtio/rng.h"

namespace kiln::devices {

namespace {
constexpr const char* kKinds[] = {"virtio-blk", "virtio-net", "virtio-rng", "virtio-console"};

/// The back-end named by property `key`; nullptr with an error set if it names none.
template <class T>
T* find(const DeviceOption& option, const char* key, const std::map<std::string, T*>& from, std::string& error) {
  const auto named = option.properties.find(key);
  if (named == option.properties.end()) {
    error = std::string("it needs ") + key + "=ID";
    return nullptr;
  }
  const auto found = from.find(named->second);
  if (found != from.end()) return found->second;
  error = std::string("there is no ") + key + " \"" + named->second + "\"";
  return nullptr;
}

bool parse_mac(const std::string& text, std::array<u8, 6>& mac) {
  int length = 0;
  return std::sscanf(text.c_str(), "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &mac[0], &mac[1], &mac[2], &mac[3], &mac[4],
                     &mac[5], &length) == 6 &&
         length == 17 && text.size() == 17 && (mac[0] & 1) == 0;
}
}  // namespace

VirtioFactory::Model VirtioFactory::split(const std::string& model) {
  for (const char* transport : {"device", "pci"}) {
    const std::string suffix = std::string("-") + transport;
    if (model.ends_with(suffix)) return {model.substr(0, model.size() - suffix.size()), transport};
  }
  return {model, ""};
}

bool VirtioFactory::knows(const std::string& kind) { return std::ranges::find(kKinds, kind) != std::end(kKinds); }

Result<std::unique_ptr<VirtioDevice>> VirtioFactory::make(const DeviceOption& option) {
  auto device = make_kind(option);
  if (device && services_.guest_error)
    (*device)->set_log(
        [log = services_.guest_error, model = option.model](const std::string& text) { log(model + ": " + text); });
  return device;
}

Result<std::unique_ptr<VirtioDevice>> VirtioFactory::make_kind(const DeviceOption& option) {
  const auto failed = [&](const std::string& why) { return Error{"-device " + option.model + ": " + why}; };
  const std::string kind = split(option.model).kind;
  const auto allow = [&](std::initializer_list<const char*> keys) -> std::string {
    for (const auto& [key, value] : option.properties)
      if (key != "id" && std::ranges::find(keys, key) == keys.end()) return "property \"" + key + "\" is not supported";
    return "";
  };
  std::string error;
  if (kind == "virtio-blk") {
    error = allow({"drive", "serial"});
    BlockBackend* disk = error.empty() ? find(option, "drive", back_ends_.drives, error) : nullptr;
    if (disk == nullptr) return failed(error);
    const auto serial = option.properties.find("serial");
    return std::unique_ptr<VirtioDevice>(std::make_unique<VirtioBlock>(
        services_.dma, *disk, serial != option.properties.end() ? serial->second : option.properties.at("drive")));
  }
  if (kind == "virtio-net") {
    error = allow({"netdev", "mac"});
    NetBackend* net = error.empty() ? find(option, "netdev", back_ends_.nets, error) : nullptr;
    if (net == nullptr) return failed(error);
    std::array<u8, 6> mac{0x52, 0x54, 0x00, 0x12, 0x34, static_cast<u8>(next_mac_++)};
    const auto given = option.properties.find("mac");
    if (given != option.properties.end() && !parse_mac(given->second, mac))
      return failed("mac=" + given->second + " is no address of a card");
    return std::unique_ptr<VirtioDevice>(std::make_unique<VirtioNet>(services_.dma, net, mac));
  }
  if (kind == "virtio-rng") {
    if (error = allow({}); !error.empty()) return failed(error);
    return std::unique_ptr<VirtioDevice>(std::make_unique<VirtioRng>(services_.dma, host_random));
  }
  if (kind == "virtio-console") {
    error = allow({"chardev"});
    CharBackend* line = error.empty() ? find(option, "chardev", back_ends_.chars, error) : nullptr;
    if (line == nullptr) return failed(error);
    return std::unique_ptr<VirtioDevice>(std::make_unique<VirtioConsole>(services_.dma, line));
  }
  return failed("there is no such device");
}

}  // namespace kiln::devices
