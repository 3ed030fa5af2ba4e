// kiln-system: a whole computer.
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "devices/boards/virt.h"
#include "frontends/arm/system.h"
#include "softmmu/back_ends.h"
#include "softmmu/gdb_target.h"
#include "softmmu/machine.h"
#include "softmmu/options.h"

namespace kiln::softmmu {
namespace {

int fail(const std::string& why) {
  std::fprintf(stderr, "kiln-system: %s\n", why.c_str());
  return 1;
}

/// SIGINT, SIGTERM and SIGHUP end the machine in order: disks finish, the terminal is put back. Made before any thread is, so
/// that all of them leave the signals to the descriptor.
class EndingSignals {
 public:
  EndingSignals() {
    sigset_t signals;
    sigemptyset(&signals);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&signals, number);
    pthread_sigmask(SIG_BLOCK, &signals, nullptr);
    fd_ = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
  }
  ~EndingSignals() { close(fd_); }
  EndingSignals(const EndingSignals&) = delete;
  /// Machine lock held.
  std::unique_ptr<devices::FdWatch> watch(Machine& machine) const {
    return machine.loop().watch(fd_, [this, &machine](devices::EventLoop::Ready) {
      signalfd_siginfo info;
      if (read(fd_, &info, sizeof info) != sizeof info) return;
      std::fprintf(stderr, "kiln-system: terminating on signal %u\n", info.ssi_signo);
      machine.ask(Machine::Ask::Quit);
    });
  }

 private:
  int fd_;
};

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

  const EndingSignals ending_signals;
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
  const std::string psci = property("psci"), gic = property("gic-version");
  cpu.el2 = property("virtualization") == "on";
  cpu.psci = psci == "smc" || (psci.empty() && cpu.el2) ? arm::PsciConduit::Smc
             : psci == "none"                           ? arm::PsciConduit::None
                                                        : arm::PsciConduit::Hvc;
  cpu.gic_registers = gic == "3" || gic == "max";
  for (unsigned i = 0; i < machine.vcpu_count(); ++i) {
    cpu.affinity = i;
    if (arm::configure(machine.vcpu(i).state(), cpu)) continue;
    std::string known;
    for (const std::string_view name : arm::cpu_models()) known += " " + std::string(name);
    return fail("-cpu " + o.cpu + ": unknown; there are" + known);
  }

  BackEnds back_ends(machine);
  devices::BoardOptions board;
  board.ram_bytes = o.ram_bytes;
  board.cpu_model = o.cpu;
  board.machine = o.machine_properties;
  if (const auto dump = board.machine.find("dumpdtb"); dump != board.machine.end()) {
    board.dump_dtb = dump->second;
    board.machine.erase(dump);
  }
  board.kernel = o.kernel;
  board.initrd = o.initrd;
  board.append = o.append;
  board.dtb = o.dtb;
  board.bios = o.bios;
  std::string problem;
  if (const auto opened = back_ends.open(o, board); !opened) problem = opened.error();
  if (problem.empty()) {
    const std::lock_guard lock(machine.lock());
    auto made = devices::make_virt(machine.services(), board);
    if (made) machine.set_board(std::move(*made));
    else problem = made.error();
  }
  if (problem.empty() && !o.gdb.empty()) {
    auto debugger = GdbTarget::start(machine, o.gdb);
    if (debugger) machine.debugger = *debugger;
    else problem = "-gdb " + o.gdb + ": " + debugger.error();
  }
  const bool run = problem.empty() && board.dump_dtb.empty();
  std::unique_ptr<devices::FdWatch> signal_watch;
  {
    const std::lock_guard lock(machine.lock());
    signal_watch = ending_signals.watch(machine);
  }
  const int status = run ? machine.run() : 0;
  {
    // The board lets go of its back-ends before they go.
    const std::lock_guard lock(machine.lock());
    signal_watch.reset();
    machine.set_board(nullptr);
    back_ends.close();
  }
  if (!problem.empty()) return fail(problem);
  if (o.engine.stats) std::fprintf(stderr, "%s", machine.stats_text().c_str());
  return status;
}

}  // namespace
}  // namespace kiln::softmmu

int main(int argc, char** argv) { return kiln::softmmu::main(argc, argv); }
