#include "softmmu/options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>

namespace kiln::softmmu {

KeyValues parse_key_values(const std::string& text) {
  KeyValues result;
  std::string item;
  bool first = true;
  const auto finish = [&] {
    const std::size_t equals = item.find('=');
    if (equals != std::string::npos) {
      result.values[item.substr(0, equals)] = item.substr(equals + 1);
      result.all.emplace_back(item.substr(0, equals), item.substr(equals + 1));
    }
    else if (first) result.head = item;
    else if (!item.empty()) result.values[item] = "on";
    first = false;
    item.clear();
  };
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != ',') item += text[i];
    else if (i + 1 < text.size() && text[i + 1] == ',') item += text[i++];
    else finish();
  }
  finish();
  return result;
}

u64 parse_size(const std::string& text, u64 unit) {
  char* end = nullptr;
  const double number = std::strtod(text.c_str(), &end);
  if (end == text.c_str() || number < 0) return 0;
  switch (*end) {
    case '\0': break;
    case 'b': case 'B': unit = 1, ++end; break;
    case 'k': case 'K': unit = u64{1} << 10, ++end; break;
    case 'm': case 'M': unit = u64{1} << 20, ++end; break;
    case 'g': case 'G': unit = u64{1} << 30, ++end; break;
    case 't': case 'T': unit = u64{1} << 40, ++end; break;
    default: return 0;
  }
  return *end == '\0' ? static_cast<u64>(number * static_cast<double>(unit)) : 0;
}

namespace {

struct LogName {
  const char* name;
  u32 item;
};
constexpr LogName kLogNames[] = {{"in_asm", kLogInAsm}, {"ir", kLogIr},         {"op", kLogIr},     {"ir_opt", kLogIrOpt},
                                 {"op_opt", kLogIrOpt}, {"out_asm", kLogOutAsm}, {"tier2", kLogTier2}, {"exec", kLogExec},
                                 {"unimp", kLogUnimp},  {"guest_errors", kLogUnimp}, {"int", kLogInt}};

struct Option {
  const char* name;      // without dashes
  const char* argument;  // nullptr: none
  const char* text;
  std::function<std::string(const std::string&)> set;  // gives "" or what is wrong
};

unsigned distance(std::string_view a, std::string_view b) {
  std::vector<unsigned> row(b.size() + 1);
  for (unsigned j = 0; j <= b.size(); ++j) row[j] = j;
  for (unsigned i = 1; i <= a.size(); ++i) {
    unsigned diagonal = row[0];
    row[0] = i;
    for (unsigned j = 1; j <= b.size(); ++j) {
      const unsigned above = row[j];
      row[j] = std::min({above + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = above;
    }
  }
  return row[b.size()];
}

}  // namespace

Result<Options> parse_options(int argc, char** argv, bool& done) {
  Options o;
  done = false;
  const auto text = [](std::string& to) {
    return [&to](const std::string& value) {
      to = value;
      return std::string();
    };
  };
  const auto flag = [](bool& to) {
    return [&to](const std::string&) {
      to = true;
      return std::string();
    };
  };
  const auto list = [](std::vector<KeyValues>& to, const char* head_key) {
    return [&to, head_key](const std::string& value) {
      KeyValues v = parse_key_values(value);
      if (head_key != nullptr && !v.head.empty()) v.values[head_key] = v.head;
      to.push_back(std::move(v));
      return std::string();
    };
  };
  std::vector<Option> table;
  const auto help = [&](const std::string&) {
    std::printf("usage: kiln-system [options]\n\n");
    for (const Option& option : table)
      std::printf("  -%-28s %s\n", (std::string(option.name) + (option.argument != nullptr ? std::string(" ") + option.argument : "")).c_str(), option.text);
    std::printf("\nTwo dashes do as well as one; --tier=2 is the same as -tier 2.\n");
    done = true;
    return std::string();
  };
  const auto machine = [&](const std::string& value) {
    KeyValues v = parse_key_values(value);
    if (v.head == "help") {
      std::printf("virt    a generic arm64 machine with virtio devices\n");
      done = true;
      return std::string();
    }
    if (v.values.contains("type")) v.head = v.values["type"];
    v.values.erase("type");
    if (!v.head.empty()) o.machine = v.head;
    o.machine_properties.insert(v.values.begin(), v.values.end());
    return std::string();
  };
  const auto tier = [&](const std::string& value) {
    if (value == "interp") o.engine.tier = jit::TierChoice::Interp;
    else if (value == "1") o.engine.tier = jit::TierChoice::One;
    else if (value == "2") {
      o.engine.tier = jit::TierChoice::Two;
      o.engine.synchronous_tier2 = true;
      o.engine.hot_threshold = 2000;
    } else if (value == "auto") o.engine.tier = jit::TierChoice::Auto;
    else return "must be interp, 1, 2 or auto, not '" + value + "'";
    return std::string();
  };
  const auto memory = [&](const std::string& value) {
    const KeyValues v = parse_key_values(value);
    const std::string size = v.values.contains("size") ? v.values.at("size") : v.head;
    o.ram_bytes = parse_size(size);
    return o.ram_bytes != 0 ? std::string() : "'" + size + "' is no size";
  };
  const auto smp = [&](const std::string& value) {
    const KeyValues v = parse_key_values(value);
    const std::string count = v.values.contains("cpus") ? v.values.at("cpus") : v.head;
    o.vcpus = static_cast<unsigned>(std::atoi(count.c_str()));
    if (o.vcpus == 0) return "'" + count + "' is no number of processors";
    if (o.vcpus > 1) return std::string("more than one processor is not implemented yet");
    return std::string();
  };
  const auto log = [&](const std::string& value) {
    for (std::size_t at = 0; at <= value.size();) {
      const std::size_t comma = std::min(value.find(',', at), value.size());
      const std::string item = value.substr(at, comma - at);
      at = comma + 1;
      const auto known = std::find_if(std::begin(kLogNames), std::end(kLogNames), [&](const LogName& n) { return item == n.name; });
      if (known != std::end(kLogNames)) o.log_items |= known->item;
      else if (item == "help") {
        for (const LogName& n : kLogNames) std::printf("%s\n", n.name);
        done = true;
      } else if (!item.empty() && item != "nochain" && item != "page" && item != "cpu") return "unknown item '" + item + "' (-d help lists them)";
    }
    return std::string();
  };
  const auto serial = [&](const std::string& value) {
    o.serials.push_back(value);
    return std::string();
  };
  const auto accel = [](const std::string& value) {
    return value == "tcg" || value.starts_with("tcg,") ? std::string() : "'" + value + "' is not implemented; Kiln's own engine is always used";
  };
  const auto nothing = [](const std::string&) { return std::string(); };
  table = {
      {"M", "TYPE[,KEY=VALUE]", "machine (-M help lists them)", machine},
      {"machine", "TYPE[,KEY=VALUE]", "the same", machine},
      {"cpu", "MODEL", "processor: max, cortex-a72, cortex-a57, cortex-a53", text(o.cpu)},
      {"accel", "tcg", "accepted for QEMU's sake", accel},
      {"m", "SIZE", "memory, in megabytes or with a unit (128M)", memory},
      {"smp", "COUNT", "processors (1)", smp},
      {"kernel", "FILE", "Linux kernel to start", text(o.kernel)},
      {"initrd", "FILE", "its initial ram disk", text(o.initrd)},
      {"append", "TEXT", "its command line", text(o.append)},
      {"dtb", "FILE", "device tree instead of the board's own", text(o.dtb)},
      {"bios", "FILE", "firmware", text(o.bios)},
      {"drive", "file=F,if=virtio|none|pflash,…", "disk image (format=raw, id=, readonly=on, snapshot=on)", list(o.drives, nullptr)},
      {"device", "MODEL,KEY=VALUE,…", "a device (virtio-blk-device, virtio-net-device, …)", list(o.devices, "driver")},
      {"netdev", "user,id=ID,hostfwd=…", "network back-end", list(o.netdevs, "type")},
      {"nic", "user,model=M,mac=A,hostfwd=…", "network card with its back-end (none: accepted)", list(o.nics, "type")},
      {"chardev", "TYPE,id=ID,…", "character back-end", list(o.chardevs, "backend")},
      {"serial", "stdio|pty|file:F|unix:P|null|…", "where a serial port leads", serial},
      {"monitor", "stdio|unix:P|none", "where the monitor listens", text(o.monitor)},
      {"nographic", nullptr, "serial port and monitor on the terminal, no display", flag(o.nographic)},
      {"display", "none", "no display (there is none yet)", text(o.display)},
      {"no-reboot", nullptr, "end instead of resetting", flag(o.no_reboot)},
      {"no-shutdown", nullptr, "stop instead of ending when the guest powers off", flag(o.no_shutdown)},
      {"S", nullptr, "start stopped (the monitor's `cont` goes on)", flag(o.start_stopped)},
      {"s", nullptr, "gdb stub on TCP port 1234", [&](const std::string&) { return o.gdb = "tcp::1234", std::string(); }},
      {"gdb", "tcp::PORT", "gdb stub", text(o.gdb)},
      {"snapshot", nullptr, "writes to disks go to temporary files", flag(o.snapshot)},
      {"rtc", "base=…", "real-time clock: utc, localtime or a date", text(o.rtc)},
      {"d", "ITEMS", "log: in_asm,ir,ir_opt,out_asm,tier2,exec,unimp,guest_errors,int", log},
      {"D", "FILE", "where the log goes", text(o.log_file)},
      {"tier", "interp|1|2|auto", "tier of the translator", tier},
      {"stats", nullptr, "figures of the translator at the end", flag(o.engine.stats)},
      {"perfmap", nullptr, "/tmp/perf-PID.map for perf", flag(o.engine.perf_map)},
      {"nodefaults", nullptr, "accepted: there are no default devices", nothing},
      {"no-user-config", nullptr, "accepted: there is no configuration", nothing},
      {"help", nullptr, "this", help},
      {"version", nullptr, "the version",
       [&](const std::string&) {
         std::printf("kiln-system 0.1\n");
         done = true;
         return std::string();
       }},
  };
  for (int i = 1; i < argc; ++i) {
    std::string name = argv[i];
    if (name.empty() || name[0] != '-' || name == "-")
      return Error{"'" + name + "': disk images are given with -drive file=" + name};
    name.erase(0, name.starts_with("--") ? 2 : 1);
    if (name == "h") name = "help";
    std::string value;
    bool attached = false;
    if (const std::size_t equals = name.find('='); equals != std::string::npos && argv[i][1] == '-') {
      value = name.substr(equals + 1);
      name.resize(equals);
      attached = true;
    }
    const auto option = std::find_if(table.begin(), table.end(), [&](const Option& x) { return name == x.name; });
    if (option == table.end()) {
      const Option* nearest = &table[0];
      for (const Option& x : table)
        if (distance(name, x.name) < distance(name, nearest->name)) nearest = &x;
      return Error{"unknown option -" + name + "; did you mean -" + nearest->name + "? (-help lists them)"};
    }
    if (option->argument != nullptr && !attached) {
      if (i + 1 >= argc) return Error{"-" + name + " needs " + option->argument};
      value = argv[++i];
    }
    const std::string wrong = option->set(value);
    if (!wrong.empty()) return Error{"-" + name + ": " + wrong};
    if (done) return o;
  }
  return o;
}

}  // namespace kiln::softmmu
