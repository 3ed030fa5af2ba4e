// kiln-system: a whole computer.

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>

#include "devices/boards/virt.h"
#include "frontends/arm/system.h"
#include "softmmu/back_ends.h"
#include "softmmu/machine.h"
#include "softmmu/options.h"

namespace kiln::softmmu {
namespace {

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
  const bool run = problem.empty() && board.dump_dtb.empty();
  const int status = run ? machine.run() : 0;
  {
    // The board lets go of its back-ends before they go.
    const std::lock_guard lock(machine.lock());
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
