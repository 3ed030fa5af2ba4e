// kiln-system: a whole computer.
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "devices/boards/virt.h"
#include "frontends/arm/system.h"
#include "softmmu/machine.h"
#include "softmmu/options.h"

namespace kiln::softmmu {
namespace {

// The terminal as a serial line.
class Terminal final : public devices::CharBackend {
 public:
  explicit Terminal(devices::EventLoop& loop) : loop_(loop) {
    raw_ = tcgetattr(0, &saved_) == 0;
    if (!raw_) return;
    termios t = saved_;
    cfmakeraw(&t);
    t.c_oflag |= OPOST;
    tcsetattr(0, TCSANOW, &t);
  }
  ~Terminal() override {
    if (raw_) tcsetattr(0, TCSANOW, &saved_);
  }
  void attach(Callbacks callbacks) override {
    callbacks_ = std::move(callbacks);
    watch_ = loop_.watch(0, [this](devices::EventLoop::Ready) { readable(); });
  }
  void send(std::span<const u8> bytes) override {
    std::fwrite(bytes.data(), 1, bytes.size(), stdout);
    std::fflush(stdout);
  }
  void room_changed() override {
    if (watch_) watch_->want(true, false);
  }
  std::string describe() const override { return "stdio"; }

 private:
  void readable() {
    const u64 room = callbacks_.room ? callbacks_.room() : 0;
    if (room == 0) return watch_->want(false, false);
    u8 buffer[256];
    const ssize_t got = ::read(0, buffer, std::min<u64>(room, sizeof buffer));
    if (got <= 0) return watch_.reset();
    callbacks_.receive({buffer, static_cast<std::size_t>(got)});
  }
  devices::EventLoop& loop_;
  Callbacks callbacks_;
  std::unique_ptr<devices::FdWatch> watch_;
  termios saved_ = {};
  bool raw_ = false;
};

int fail(const std::string& why) {
  std::fprintf(stderr, "kiln-system: %s\n", why.c_str());
  return 1;
}

int main(int argc, char** argv) {
  bool done = false;
  Result<Options> parsed = parse_options(argc, argv, done);
  if (!parsed) return fail(parsed.error());
  if (done) return 0;
  Options& o = *parsed;
  std::string why;
  if (!jit::Engine::host_supported(why)) return fail(why);
  if (o.machine != "virt") return fail("-M " + o.machine + ": there is no such machine (-M help lists them)");
  std::FILE* log_file = o.log_file.empty() ? stderr : std::fopen(o.log_file.c_str(), "w");
  if (log_file == nullptr) return fail("cannot write " + o.log_file);
  const Log log(o.log_items, log_file);
  o.engine.log = &log;

  Machine machine(arm::kA64System, o.engine, o.vcpus, static_cast<u64>(std::time(nullptr)));
  machine.no_reboot = o.no_reboot;
  machine.no_shutdown = o.no_shutdown;
  machine.start_stopped = o.start_stopped;
  const auto property = [&](const char* name) {
    const auto it = o.machine_properties.find(name);
    return it != o.machine_properties.end() ? it->second : std::string();
  };
  arm::CpuConfig cpu;
  cpu.model = o.cpu;
  cpu.psci = property("psci") == "smc" ? arm::PsciConduit::Smc : arm::PsciConduit::Hvc;
  cpu.gic_registers = property("gic-version") == "3";
  for (unsigned i = 0; i < machine.vcpu_count(); ++i) {
    cpu.affinity = i;
    if (arm::configure(machine.vcpu(i).state(), cpu)) continue;
    std::string known;
    for (const std::string_view name : arm::cpu_models()) known += " " + std::string(name);
    return fail("-cpu " + o.cpu + ": unknown; there are" + known);
  }

  std::unique_ptr<Terminal> terminal;
  {
    const std::lock_guard lock(machine.lock());
    devices::BoardOptions board;
    board.ram_bytes = o.ram_bytes;
    board.cpu_model = o.cpu;
    board.machine = o.machine_properties;
    board.kernel = o.kernel;
    board.initrd = o.initrd;
    board.append = o.append;
    board.dtb = o.dtb;
    board.bios = o.bios;
    terminal = std::make_unique<Terminal>(machine.loop());
    board.serial.push_back(terminal.get());
    auto made = devices::make_virt(machine.services(), board);
    if (!made) {
      terminal.reset();
      return fail(made.error());
    }
    machine.set_board(std::move(*made));
  }
  const int status = machine.run();
  terminal.reset();
  if (o.engine.stats) std::fprintf(stderr, "%s", machine.stats_text().c_str());
  return status;
}

}  // namespace
}  // namespace kiln::softmmu

int main(int argc, char** argv) { return kiln::softmmu::main(argc, argv); }
