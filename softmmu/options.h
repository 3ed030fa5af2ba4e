// kiln-system's command line, spelled as QEMU's users know it.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "ir/support/result.h"
#include "jit/engine/engine.h"

namespace kiln::softmmu {

/// KEY=VALUE,… of an option; the first item without a key is `head`. Commas are doubled in values.
struct KeyValues {
  std::string head;
  std::map<std::string, std::string> values;
  std::vector<std::pair<std::string, std::string>> all;  // in order, a key as often as it was given
};
KeyValues parse_key_values(const std::string& text);

struct Options {
  std::string machine = "virt";
  std::map<std::string, std::string> machine_properties;
  std::string cpu = "max";
  unsigned vcpus = 1;
  u64 ram_bytes = u64{128} << 20;
  std::string kernel, initrd, append, dtb, bios;
  std::vector<KeyValues> drives, devices, netdevs, nics, chardevs;
  std::vector<std::string> serials;   // -serial, in order
  bool nographic = false, no_reboot = false, no_shutdown = false, start_stopped = false, snapshot = false;
  std::string monitor, gdb;
  std::string display, log_file, rtc;
  u32 log_items = 0;
  jit::EngineConfig engine;
};

/// An error is one line for the user. `done`: the option was answered (-help, -version, -M help), nothing is left to do.
Result<Options> parse_options(int argc, char** argv, bool& done);
/// "512", "512M", "2G" in bytes; megabytes without a unit. 0: no size.
u64 parse_size(const std::string& text, u64 unit = u64{1} << 20);

}  // namespace kiln::softmmu
