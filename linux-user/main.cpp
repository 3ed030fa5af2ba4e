// kiln: runs a Linux program built for another processor.
#include <fcntl.h>
#include <malloc.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <climits>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "jit/engine/engine.h"
#include "linux-user/code_cache.h"
#include "linux-user/debug_target.h"
#include "linux-user/doctor.h"
#include "linux-user/elf_loader.h"
#include "linux-user/host_x86_64.h"
#include "linux-user/path.h"
#include "linux-user/ptrace/tracee.h"
#include "linux-user/signals.h"
#include "linux-user/syscalls/seccomp.h"

extern char** environ;

namespace kiln::user {
namespace {

int fail(const std::string& text, int status = 1) {
  std::fprintf(stderr, "kiln: %s\n", text.c_str());
  return status;
}

std::FILE* open_log(const std::string& name) {
  if (name.empty()) return stderr;
  std::string path = name;
  const std::size_t at = path.find("%d");
  if (at != std::string::npos) path.replace(at, 2, std::to_string(getpid()));
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (fd < 0) return nullptr;
  return fdopen(move_high(fd), "a");
}

std::vector<std::string> guest_environment(const Options& options) {
  std::vector<std::string> env;
  for (char** e = environ; *e; ++e) env.emplace_back(*e);
  auto remove = [&](const std::string& name) {
    std::erase_if(env, [&](const std::string& e) { return e.compare(0, name.size() + 1, name + "=") == 0; });
  };
  for (const std::string& name : options.unset_env) remove(name);
  for (const std::string& entry : options.set_env) {
    remove(entry.substr(0, entry.find('=')));
    env.push_back(entry);
  }
  return env;
}

/// The limits that are the guest's: ours are raised as far as they may be.
void take_limits(Process& process) {
  const std::pair<int, u64*> limits[] = {
      {RLIMIT_CORE, process.core_limit}, {RLIMIT_AS, process.space_limit}, {RLIMIT_DATA, process.data_limit}};
  unsigned handed = 0;
  for (const auto& [resource, guest] : limits) {
    rlimit own{};
    if (getrlimit(static_cast<__rlimit_resource>(resource), &own) != 0) continue;
    guest[0] = own.rlim_cur;
    guest[1] = own.rlim_max;
    if (process.options.limits.size() == 2 * std::size(limits)) {
      guest[0] = process.options.limits[handed];
      guest[1] = process.options.limits[handed + 1];
    }
    handed += 2;
    if (resource == RLIMIT_CORE) {
      own.rlim_cur = 0;
      setrlimit(RLIMIT_CORE, &own);
    } else if (own.rlim_cur != RLIM_INFINITY) {
      const rlimit all{RLIM_INFINITY, RLIM_INFINITY};
      own.rlim_cur = own.rlim_max;
      if (setrlimit(static_cast<__rlimit_resource>(resource), &all) != 0)
        setrlimit(static_cast<__rlimit_resource>(resource), &own);
    }
  }
}

/// The program's absolute path, for /proc/self/exe. One that only the kernel could open (flag O) has its name at its
/// descriptor.
std::string absolute_path(const std::string& program, int fd) {
  char buffer[PATH_MAX];
  if (realpath(program.c_str(), buffer)) return buffer;
  if (fd < 0) return {};
  const ssize_t n = readlink(("/proc/self/fd/" + std::to_string(fd)).c_str(), buffer, sizeof buffer);
  return n > 0 ? std::string(buffer, static_cast<std::size_t>(n)) : program;
}

/// Is -cpu a model of another guest, handed down by a process of that kind?
bool meant_for_parent(const Options& options) {
  if (options.self_fd < 0) return false;
  for (const GuestAbi* abi : all_abis())
    if (abi->cpu_models().find("  " + options.cpu + " ") != std::string::npos) return true;
  return false;
}

int run(int argc, char** argv) {
  static Options options;
  static const Invocation invocation = read_invocation();
  switch (parse_options(invocation, argc, argv, options)) {
    case OptionsOutcome::ExitOk: return 0;
    case OptionsOutcome::ExitUsage: return 1;
    case OptionsOutcome::Doctor: return doctor(options, options.args.empty() ? "" : options.args[0]);
    case OptionsOutcome::Cache: return cache_command(options.args);
    case OptionsOutcome::Run: break;
  }
  std::string why;
  if (!jit::Engine::host_supported(why)) return fail("this processor cannot run Kiln: " + why);
  std::FILE* log_file = open_log(options.log_file);
  if (!log_file) return fail(options.log_file + ": " + std::strerror(errno));
  static Log log(options.log_items, log_file);
  options.engine.log = &log;

  // Never destroyed: threads may still be running when the process ends.
  auto& process = *new Process(options, invocation, log);
  auto& leader = *new Thread;
  leader.process = &process;
  leader.signals = &process.signals;
  leader.leader = true;
  leader.tid = getpid();
  process.threads.push_back(&leader);
  process.own.executable = open_own_executable(invocation, options.self_fd);
  if (log_file != stderr) process.own.log = fileno(log_file);

  if (options.seccomp_descriptor != 0 && !load_seccomp(leader, static_cast<int>(options.seccomp_descriptor)))
    return fail("--seccomp: no filters there");

  take_limits(process);

  const std::string& program = options.program;
  std::vector<std::string> args{options.argv0.value_or(program)};
  args.insert(args.end(), options.args.begin(), options.args.end());
  const std::vector<std::string> env = guest_environment(options);

  const int program_fd = invocation.program_fd;
  process.exe_path = absolute_path(program, program_fd);
  if (process.exe_path.empty()) return fail(program + ": " + std::strerror(errno), errno == ENOENT ? 127 : 126);
  const Result<ElfIdentity> id = identify_elf(process.exe_path, program_fd);
  if (!id) {
    if (id.error() == "not an ELF program") {
      const s64 r = do_execve(leader, program, args, env);  // a script, perhaps
      return fail(program + ": " + (r == -ENOEXEC ? "not an ELF program nor a script" : std::strerror(static_cast<int>(-r))),
                  126);
    }
    return fail(program + ": " + id.error(), 126);
  }
  process.abi = find_abi(id->machine, id->elf_class, id->data);
  if (!process.abi) {
    std::string names;
    for (const GuestAbi* abi : all_abis()) names += (names.empty() ? "" : ", ") + std::string(abi->name);
    return fail(program + ": " + machine_name(*id) + " program, but this Kiln runs only: " + names, 126);
  }

  if (Result<void> r = process.memory.reserve(process.abi->address_bits); !r) return fail(r.error());
  if (process.abi->task_size) process.memory.set_limit(process.abi->task_size);
  init_signals(process, leader);
  set_current_thread(&leader);
  const std::string model = options.cpu.empty() ? "max" : options.cpu;
  choose_cache_file(process, model, options.engine);
  process.engine = std::make_unique<jit::Engine>(options.engine, *process.abi->guest, process.memory);
  process.memory.set_written([&engine = *process.engine](GuestAddr page) { engine.written(page); });
  process.memory.set_invalidate([&engine = *process.engine](GuestAddr start, u64 size) { engine.invalidate(start, size); });
  leader.cpu = process.engine->create_cpu();
  if (!leader.cpu) return fail("out of memory");
  leader.cpu->user_data = &leader;
  if (!process.abi->set_cpu_model(leader.cpu, model.c_str()) &&
      !(meant_for_parent(options) && process.abi->set_cpu_model(leader.cpu, "max")))
    return fail("-cpu: no model '" + model + "' of " + process.abi->name + " (-cpu help lists them)");

  if (Result<void> r = load_program(process, process.exe_path, program_fd); !r) return fail(program + ": " + r.error(), 126);
  if (program_fd >= 0) close(program_fd);
  if (Result<void> r = build_stack(process, options.execfn.value_or(program), args, env); !r)
    return fail(program + ": " + r.error(), 126);

  const ProgramImage& image = process.image;
  const auto host = [&process](GuestAddr a) { return reinterpret_cast<u64>(process.memory.pointer(a)); };
  show_program({.code_start = host(image.code_start),
                .code_end = host(image.code_end),
                .arg_start = host(image.arg_start),
                .arg_end = host(image.arg_end),
                .env_start = host(image.env_start),
                .env_end = host(image.env_end),
                .auxv = image.auxv});
  // As Linux does: what was executed, be it a script.
  prctl(PR_SET_NAME, basename(options.execfn.value_or(program).c_str()));
  process.memory.set_limits(process.space_limit[0], process.data_limit[0]);

  process.abi->start(leader.cpu, process.image.start, process.image.stack_start);
  set_guest_base(process.memory.base());
  if (!options.gdb_session.empty()) {
    if (Result<void> r = DebugTarget::take_over(process, leader, options.gdb_session); !r) return fail(r.error());
  } else if (!options.gdb.empty()) {
    if (Result<void> r = DebugTarget::start(process, leader, options.gdb); !r) return fail("-g " + r.error());
  }
  if (!options.traced.empty()) take_over_trace(process, leader, options.traced);
  run_thread(leader);
}

}  // namespace
}  // namespace kiln::user

int main(int argc, char** argv) {
  mallopt(M_TOP_PAD, 1 << 20);  // translation fills the heap: fewer brk() calls
  return kiln::user::run(argc, argv);
}

#if __has_feature(thread_sanitizer)
// A guest may start threads in a child of fork(); libc's fork() and Kiln's own locks are prepared for that.
extern "C" const char* __tsan_default_options() { return "die_after_fork=0"; }
#endif
