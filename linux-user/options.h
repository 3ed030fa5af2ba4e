// Command line and environment of `kiln`, QEMU's names first.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "jit/engine/engine.h"

namespace kiln::user {

/// --cache: whether translated code is taken from, and kept for, other runs of the program.
enum class CacheChoice : u8 { Off, ReadOnly, ReadWrite };

struct Options {
  std::string program;
  std::vector<std::string> args;      // guest argv[1..]
  std::optional<std::string> argv0;   // -0
  std::optional<std::string> execfn;  // --execfn: the name an execve() of the guest used (hidden)
  int self_fd = -1;                   // --self-fd: our executable, opened by the Kiln that executed us (hidden)
  u64 seccomp_descriptor = 0;         // --seccomp: filters that an execve() of the guest kept (hidden); 0: none
  std::vector<u64> limits;            // --limits: RLIMIT_CORE, _AS, _DATA of an execve()'s caller, soft and hard (hidden)
  std::string sysroot;                // -L; empty: none
  std::vector<std::string> set_env, unset_env;
  u64 stack_size = 0;   // -s; 0: the host's limit
  std::string cpu;      // -cpu
  std::string release;  // -r
  bool strace = false;
  u32 log_items = 0;
  std::string log_file;  // -D
  bool crash_report = false;
  std::string gdb;          // -g
  std::string gdb_session;  // --gdb-session: what execve() of a debugged program hands on (hidden)
  std::string traced;       // --traced: how an execve()'s caller was traced by another guest (hidden)
  CacheChoice cache = CacheChoice::ReadWrite;
  jit::EngineConfig engine;
  std::vector<std::string> handed_down;  // the options an executed child gets
};

struct Invocation;
enum class OptionsOutcome { Run, Doctor, Cache, ExitOk, ExitUsage };
/// Fills `options`; Doctor, Cache: `kiln doctor` or `kiln cache` was said (a program of that name is ./doctor), options.args are its own; on ExitOk/ExitUsage everything has been printed. Started by binfmt_misc the command line holds no options;
/// started with rights that its user has not (set-user-id) the environment holds none either.
OptionsOutcome parse_options(const Invocation& invocation, int argc, char** argv, Options& options);

}  // namespace kiln::user
