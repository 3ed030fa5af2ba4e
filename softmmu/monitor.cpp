#include "softmmu/monitor.h"

#include <fmt/format.h>

#include <cstdlib>
#include <sstream>

namespace kiln::softmmu {

namespace {
constexpr const char* kPrompt = "(kiln) ";
constexpr std::size_t kLongestLine = 1000;

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}
}  // namespace

struct Monitor::Command {
  const char* names;  // "quit|q"
  const char* arguments;
  const char* text;
  std::string (*run)(Machine&, const std::vector<std::string>&);
};

const std::vector<Monitor::Command>& Monitor::commands() {
  static const std::vector<Command> table = {
      {"help|?", "", "this list",
       [](Machine&, const std::vector<std::string>&) {
         std::string text;
         for (const Command& c : commands()) text += fmt::format("{} {} -- {}\n", c.names, c.arguments, c.text);
         return text;
       }},
      {"info", "[registers|tlb|mtree|qtree|block|network|jit|status|version]", "shows a part of the machine",
       [](Machine& m, const std::vector<std::string>& w) { return info(m, w.size() > 1 ? w[1] : ""); }},
      {"x", "/FMT ADDRESS", "memory at a virtual address of the first processor (FMT: count, x d u o c i, b h w g)",
       [](Machine& m, const std::vector<std::string>& w) {
         const bool format = w.size() > 2;
         return w.size() < 2 ? std::string("x needs an address\n") : examine(m, format ? w[1] : "", w[format ? 2 : 1], false);
       }},
      {"xp", "/FMT ADDRESS", "memory at a physical address",
       [](Machine& m, const std::vector<std::string>& w) {
         const bool format = w.size() > 2;
         return w.size() < 2 ? std::string("xp needs an address\n") : examine(m, format ? w[1] : "", w[format ? 2 : 1], true);
       }},
      {"stop|s", "", "the machine stands still", [](Machine& m, const std::vector<std::string>&) { return m.set_running_for_user(false), std::string(); }},
      {"cont|c", "", "it goes on", [](Machine& m, const std::vector<std::string>&) { return m.set_running_for_user(true), std::string(); }},
      {"system_reset", "", "as the reset button",
       [](Machine& m, const std::vector<std::string>&) { return m.ask(Machine::Ask::Reset), std::string(); }},
      {"system_powerdown", "", "as the power button: asks the guest to shut down",
       [](Machine& m, const std::vector<std::string>&) { return m.board()->power_button(), std::string(); }},
      {"quit|q", "", "ends the machine at once", [](Machine& m, const std::vector<std::string>&) { return m.ask(Machine::Ask::Quit), std::string(); }},
  };
  return table;
}

Monitor::Monitor(Machine& machine, devices::CharBackend& line) : machine_(machine), line_(line) {
  devices::CharBackend::Callbacks callbacks;
  callbacks.room = [this]() -> u64 { return busy_ ? 0 : 64; };
  callbacks.receive = [this](std::span<const u8> bytes) {
    for (const u8 byte : bytes) typed(byte);
  };
  callbacks.line_break = [] {};
  line_.attach(std::move(callbacks));
}

Monitor::~Monitor() { line_.attach({}); }

void Monitor::say(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') out += '\r';
    out += c;
  }
  line_.send({reinterpret_cast<const u8*>(out.data()), out.size()});
}

void Monitor::prompt() {
  if (!greeted_) say("Kiln monitor - type 'help' for the commands\n");
  greeted_ = true;
  say(kPrompt + input_);
}

void Monitor::typed(u8 byte) {
  if (!greeted_) prompt();
  if (byte == '\r' || byte == '\n') {
    say("\n");
    const std::string text = std::exchange(input_, {});
    if (words_of(text).empty()) return say(kPrompt);
    busy_ = true;
    machine_.call([this, text] {
      say(command(machine_, text));
      busy_ = false;
      say(kPrompt);
      line_.room_changed();
    });
  } else if (byte == 0x7f || byte == '\b') {
    if (input_.empty()) return;
    input_.pop_back();
    say("\b \b");
  } else if (byte == 0x15) {  // Ctrl-U
    for (std::size_t i = 0; i < input_.size(); ++i) say("\b \b");
    input_.clear();
  } else if (byte >= ' ' && byte < 0x7f && input_.size() < kLongestLine) {
    input_ += static_cast<char>(byte);
    say(std::string(1, static_cast<char>(byte)));
  }
}

std::string Monitor::command(Machine& machine, const std::string& text) {
  std::vector<std::string> words = words_of(text);
  if (words.empty()) return {};
  // x/4xw: the format may follow without a space.
  if (const std::size_t slash = words[0].find('/'); slash != std::string::npos && slash != 0) {
    words.insert(words.begin() + 1, words[0].substr(slash));
    words[0].resize(slash);
  }
  for (const Command& c : commands()) {
    std::istringstream names(c.names);
    for (std::string name; std::getline(names, name, '|');)
      if (name == words[0]) return c.run(machine, words);
  }
  return "unknown command: '" + words[0] + "'\n";
}

std::string Monitor::info(Machine& machine, const std::string& what) {
  if (what == "registers") {
    std::string text;
    for (unsigned i = 0; i < machine.vcpu_count(); ++i)
      text += fmt::format("CPU#{}\n{}\n", i, machine.guest().dump(machine.vcpu(i).state()));
    return text;
  }
  if (what == "tlb") {
    std::string text;
    for (unsigned i = 0; i < machine.vcpu_count(); ++i) text += machine.vcpu(i).tlb_text();
    return text;
  }
  if (what == "mtree") return machine.space().describe();
  if (what == "qtree") return machine.board()->describe();
  if (what == "jit") return machine.stats_text();
  if (what == "status") return machine.running_for_user() ? "VM status: running\n" : "VM status: paused\n";
  if (what == "version") return "kiln-system 0.1\n";
  if (what == "block") return machine.describe_disks ? machine.describe_disks() : "no disks\n";
  if (what == "network") return machine.describe_networks ? machine.describe_networks() : "no networks\n";
  return "info registers|tlb|mtree|qtree|block|network|jit|status|version\n";
}

std::string Monitor::examine(Machine& machine, const std::string& format, const std::string& address_text, bool physical) {
  u64 count = 0;
  char letter = 'x', size = 'w';
  for (const char c : format) {
    if (c == '/') continue;
    if (c >= '0' && c <= '9') count = std::min<u64>(count * 10 + static_cast<u64>(c - '0'), 65536);
    else if (std::string("bhwg").find(c) != std::string::npos) size = c;
    else if (std::string("xduoci").find(c) != std::string::npos) letter = c;
    else return "bad format '" + format + "'\n";
  }
  if (count == 0) count = 1;
  char* end = nullptr;
  u64 address = std::strtoull(address_text.c_str(), &end, 0);
  if (end == address_text.c_str() || *end != '\0') return "'" + address_text + "' is no address\n";
  const auto read = [&](u64 at, void* to, u64 bytes) {
    u64 where = at;
    if (!physical && !machine.vcpu(0).debug_translate(at, where)) return false;
    return machine.space().read(where, to, bytes);
  };
  std::string text;
  if (letter == 'i') {
    const unsigned step = machine.guest().insn_alignment;
    std::vector<u8> code;
    for (u64 i = 0; i < count * step; i += step) {
      u8 bytes[16];
      if (!read(address + i, bytes, step)) break;
      code.insert(code.end(), bytes, bytes + step);
    }
    if (code.empty()) return "cannot read memory there\n";
    return machine.engine().disassemble_guest(code, address) + "\n";
  }
  const unsigned bytes = size == 'b' ? 1 : size == 'h' ? 2 : size == 'w' ? 4 : 8;
  const unsigned columns = letter == 'c' ? 8 : 16 / bytes;
  for (u64 i = 0; i < count; ++i, address += bytes) {
    if (i % columns == 0) text += fmt::format("{}{:016x}:", i == 0 ? "" : "\n", address);
    u64 value = 0;
    if (!read(address, &value, bytes)) return text + " cannot read memory there\n";
    switch (letter) {
      case 'd': text += fmt::format(" {}", sign_extend(value, bytes * 8)); break;
      case 'u': text += fmt::format(" {}", value); break;
      case 'o': text += fmt::format(" {:#o}", value); break;
      case 'c': text += fmt::format(" '{}'", value >= 32 && value < 127 ? std::string(1, static_cast<char>(value)) : fmt::format("\\x{:02x}", value)); break;
      default: text += fmt::format(" {:#0{}x}", value, bytes * 2 + 2);
    }
  }
  return text + "\n";
}

}  // namespace kiln::softmmu
