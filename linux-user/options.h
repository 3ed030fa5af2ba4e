// Command line and environment of `kiln`, QEMU's names first.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "jit/engine/engine.h"

namespace kiln::user {

struct Options {
  std::string program;
  std::vector<std::string> args;      // guest argv[1..]
  std::optional<std::string> argv0;   // -0
  std::optional<std::string> execfn;  // --execfn: the name an execve() of the guest used (hidden)
  std::string sysroot;                // -L; empty: none
  std::vector<std::string> set_env, unset_env;
  u64 stack_size = 0;   // -s; 0: the host's limit
  std::string cpu;      // -cpu
  std::string release;  // -r
  bool strace = false;
  u32 log_items = 0;
  std::string log_file;  // -D
  jit::EngineConfig engine;
  std::vector<std::string> handed_down;  // the options an executed child gets
};

enum class OptionsOutcome { Run, ExitOk, ExitUsage };
/// Fills `options`; on ExitOk/ExitUsage everything has been printed.
OptionsOutcome parse_options(int argc, char** argv, Options& options);

}  // namespace kiln::user
