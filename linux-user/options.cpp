#include "linux-user/options.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string_view>

#include "linux-user/abi.h"
#include "linux-user/binfmt.h"
#include "linux-user/invocation.h"
#include "linux-user/listing.h"

namespace kiln::user {
namespace {

struct LogName {
  const char* name;
  u32 item;
  const char* text;
};
constexpr LogName kLogNames[] = {
    {"in_asm", kLogInAsm, "guest instructions of each translated block"},
    {"ir", kLogIr, "IR as lifted"},
    {"op", kLogIr, "the same, QEMU's name"},
    {"ir_opt", kLogIrOpt, "IR after the passes"},
    {"op_opt", kLogIrOpt, "the same, QEMU's name"},
    {"out_asm", kLogOutAsm, "host code of tier 1"},
    {"tier2", kLogTier2, "regions of tier 2, LLVM IR and host code"},
    {"exec", kLogExec, "every block entered from the dispatcher"},
    {"unimp", kLogUnimp, "things not supported, once each"},
    {"int", kLogInt, "exceptions and signals"},
};

struct Parser {
  Options& o;
  bool bad = false;
  bool exit_ok = false;

  void complain(const std::string& text) {
    std::fprintf(stderr, "kiln: %s\nTry `kiln --help`.\n", text.c_str());
    bad = true;
  }
  void log_items(const std::string& list) {
    for (std::size_t at = 0; at <= list.size();) {
      const std::size_t comma = std::min(list.find(',', at), list.size());
      const std::string item = list.substr(at, comma - at);
      at = comma + 1;
      if (item.empty()) continue;
      if (item == "help") {
        for (const auto& n : kLogNames) std::printf("%-10s %s\n", n.name, n.text);
        std::printf("%-10s %s\n", "strace", "every syscall, as -strace");
        exit_ok = true;
        return;
      }
      if (item == "strace") {
        o.strace = true;
        continue;
      }
      bool found = false;
      for (const auto& n : kLogNames)
        if (item == n.name) {
          o.log_items |= n.item;
          found = true;
        }
      if (!found && item != "nochain" && item != "page" && item != "cpu")
        return complain("-d: unknown log item '" + item + "' (-d help lists them)");
    }
  }
  void tier(const std::string& value) {
    if (value == "interp") o.engine.tier = jit::TierChoice::Interp;
    else if (value == "1") o.engine.tier = jit::TierChoice::One;
    else if (value == "2") {
      o.engine.tier = jit::TierChoice::Two;
      o.engine.synchronous_tier2 = true;  // what is asked for runs in tier 2, not in whatever the background got done
      if (o.engine.hot_threshold == jit::EngineConfig{}.hot_threshold) o.engine.hot_threshold = 2000;
    } else if (value == "auto") o.engine.tier = jit::TierChoice::Auto;
    else complain("--tier must be interp, 1, 2 or auto, not '" + value + "'");
  }
  void number(const char* option, const std::string& value, u64& out) {
    char* end = nullptr;
    out = std::strtoull(value.c_str(), &end, 0);
    if (value.empty()) return complain(std::string(option) + ": a number is needed");
    switch (*end) {
      case 'k':
      case 'K':
        out <<= 10;
        ++end;
        break;
      case 'm':
      case 'M':
        out <<= 20;
        ++end;
        break;
      case 'g':
      case 'G':
        out <<= 30;
        ++end;
        break;
      default: break;
    }
    if (*end) complain(std::string(option) + ": '" + value + "' is not a number");
  }
};

struct Option {
  const char* name;      // without dashes
  const char* argument;  // null: none
  const char* env;       // KILN_<env>, QEMU_<env>; null: none
  bool hand_down;
  const char* text;
  void (*apply)(Parser&, const std::string&);
};

void list_cpus() {
  std::printf("Available CPUs:\n");
  for (const GuestAbi* abi : all_abis()) std::printf("%s\n%s", abi->name, abi->cpu_models().c_str());
}

constexpr Option kOptions[] = {
    {"h", nullptr, nullptr, false, "this help", nullptr},
    {"help", nullptr, nullptr, false, "this help", nullptr},
    {"version", nullptr, nullptr, false, "version", nullptr},
    {"L", "PATH", "LD_PREFIX", true, "sysroot: absolute guest paths are looked up there first",
     [](Parser& p, const std::string& v) { p.o.sysroot = v; }},
    {"E", "VAR=VALUE", "SET_ENV", false, "set a variable in the guest's environment (comma separates several)",
     [](Parser& p, const std::string& v) {
       for (std::size_t at = 0; at <= v.size();) {
         const std::size_t comma = std::min(v.find(',', at), v.size());
         p.o.set_env.push_back(v.substr(at, comma - at));
         at = comma + 1;
       }
     }},
    {"U", "VAR", "UNSET_ENV", false, "remove a variable from the guest's environment",
     [](Parser& p, const std::string& v) {
       for (std::size_t at = 0; at <= v.size();) {
         const std::size_t comma = std::min(v.find(',', at), v.size());
         p.o.unset_env.push_back(v.substr(at, comma - at));
         at = comma + 1;
       }
     }},
    {"0", "ARGV0", "ARGV0", false, "the guest's argv[0]", [](Parser& p, const std::string& v) { p.o.argv0 = v; }},
    {"execfn", "NAME", nullptr, false, nullptr, [](Parser& p, const std::string& v) { p.o.execfn = v; }},
    {"self-fd", "FD", nullptr, false, nullptr, [](Parser& p, const std::string& v) { p.o.self_fd = std::atoi(v.c_str()); }},
    {"seccomp", "FD", nullptr, false, nullptr,
     [](Parser& p, const std::string& v) { p.number("--seccomp", v, p.o.seccomp_descriptor); }},
    {"limits", "LIST", nullptr, false, nullptr,
     [](Parser& p, const std::string& v) {
       for (std::size_t at = 0; at < v.size();) {
         const std::size_t comma = std::min(v.find(',', at), v.size());
         p.o.limits.push_back(std::strtoull(v.substr(at, comma - at).c_str(), nullptr, 16));
         at = comma + 1;
       }
     }},
    {"s", "SIZE", "STACK_SIZE", true, "size of the guest's stack",
     [](Parser& p, const std::string& v) { p.number("-s", v, p.o.stack_size); }},
    {"cpu", "MODEL", "CPU", true, "processor model (-cpu help)",
     [](Parser& p, const std::string& v) {
       if (v == "help" || v == "?") {
         list_cpus();
         p.exit_ok = true;
       }
       p.o.cpu = v;
     }},
    {"r", "RELEASE", "UNAME", true, "kernel release that uname gives",
     [](Parser& p, const std::string& v) { p.o.release = v; }},
    {"strace", nullptr, "STRACE", true, "print every syscall", [](Parser& p, const std::string&) { p.o.strace = true; }},
    {"d", "ITEM,…", "LOG", true, "execution logs (-d help)", [](Parser& p, const std::string& v) { p.log_items(v); }},
    {"D", "FILE", "LOG_FILENAME", true, "write logs there, %d is the pid",
     [](Parser& p, const std::string& v) { p.o.log_file = v; }},
    {"g", "PORT|PATH", "GDB", false, "wait for gdb: a port of this machine (or HOST:PORT), or a path for a socket (%d: pid)",
     [](Parser& p, const std::string& v) { p.o.gdb = v; }},
    {"crash-report", nullptr, "CRASH", true, "when the guest dies of a signal: registers, backtraces, last system calls",
     [](Parser& p, const std::string&) { p.o.crash_report = true; }},
    {"gdb-session", "DATA", nullptr, false, nullptr, [](Parser& p, const std::string& v) { p.o.gdb_session = v; }},
    {"traced", "DATA", nullptr, false, nullptr, [](Parser& p, const std::string& v) { p.o.traced = v; }},
    {"tier", "interp|1|2|auto", "TIER", true, "force a tier of the translator",
     [](Parser& p, const std::string& v) { p.tier(v); }},
    {"hot", "COUNT", "HOT", true, "block entries before tier 2 compiles",
     [](Parser& p, const std::string& v) {
       u64 n = 0;
       p.number("--hot", v, n);
       p.o.engine.hot_threshold = static_cast<u32>(n);
     }},
    {"cache", "off|ro|rw", "CACHE", true, "translated code kept for the program's next run: do not, only use it, or keep it, too (default)",
     [](Parser& p, const std::string& v) {
       if (v == "off") p.o.cache = CacheChoice::Off;
       else if (v == "ro") p.o.cache = CacheChoice::ReadOnly;
       else if (v == "rw") p.o.cache = CacheChoice::ReadWrite;
       else p.complain("--cache must be off, ro or rw, not '" + v + "'");
     }},
    {"stats", nullptr, "STATS", false, "print the translator's statistics at exit",
     [](Parser& p, const std::string&) { p.o.engine.stats = true; }},
    {"self-check", nullptr, "SELF_CHECK", true, "run the interpreter beside the tier, stop at the first difference",
     [](Parser& p, const std::string&) { p.o.engine.self_check = true; }},
    {"perf-map", nullptr, "PERF_MAP", true, "write /tmp/perf-PID.map",
     [](Parser& p, const std::string&) { p.o.engine.perf_map = true; }},
    {"jitdump", nullptr, "JITDUMP", true, "write jit-PID.dump with the code itself, for perf inject -j, in $JITDUMPDIR or /tmp",
     [](Parser& p, const std::string&) { p.o.engine.jitdump = true; }},
    {"list-binfmt", nullptr, nullptr, false, "how binfmt_misc tells each guest's programs (scripts/binfmt)",
     [](Parser& p, const std::string&) {
       list_binfmt();
       p.exit_ok = true;
     }},
    {"list-instructions", "GUEST", nullptr, false, "the instructions that a guest's frontend decodes",
     [](Parser& p, const std::string& v) {
       if (list_instructions(v)) p.exit_ok = true;
       else p.complain("--list-instructions: unknown guest '" + v + "'");
     }},
};

void help() {
  std::printf(
      "usage: kiln [options] PROGRAM [arguments…]\n"
      "       kiln [-L PATH] doctor      what this machine lacks for Kiln, and what to do\n"
      "       kiln cache [list | clear | path]   the translated code that was kept\n"
      "Runs a Linux program built for another processor:");
  for (const GuestAbi* abi : all_abis()) std::printf(" %s", abi->name);
  std::printf("\n\nOptions (environment variables of the same meaning: KILN_… or QEMU_…):\n");
  for (const Option& option : kOptions) {
    if (!option.text) continue;
    std::string left = std::string(std::strlen(option.name) > 1 ? "--" : "-") + option.name;
    if (option.argument) left += std::string(std::strlen(option.name) > 1 ? "=" : " ") + option.argument;
    std::printf("  %-26s %s", left.c_str(), option.text);
    if (option.env) std::printf(" [%s]", option.env);
    std::printf("\n");
  }
  std::printf("  %-26s %s\n", "--", "ends the options");
}

/// Notes an option for executed programs, in place of an earlier one of the same name: a chain of execve() must not grow the
/// list.
void hand_down(Options& o, const std::string& name, const char* value) {
  auto& list = o.handed_down;
  for (std::size_t at = 0; at < list.size(); ++at) {
    const bool accumulates = name == "d";
    if (list[at] != "--" + name || (value && accumulates && list[at + 1] != value)) continue;
    list.erase(list.begin() + static_cast<std::ptrdiff_t>(at),
               list.begin() + static_cast<std::ptrdiff_t>(at + (value ? 2 : 1)));
    break;
  }
  list.push_back("--" + name);
  if (value) list.emplace_back(value);
}

}  // namespace

OptionsOutcome parse_options(const Invocation& invocation, int argc, char** argv, Options& o) {
  Parser p{o};
  for (const Option& option : kOptions) {
    if (!option.env || invocation.secure) continue;
    for (const char* prefix : {"QEMU_", "KILN_"}) {
      const char* value = std::getenv((std::string(prefix) + option.env).c_str());
      if (!value) continue;
      if (!option.argument && (!*value || std::string_view(value) == "0")) continue;
      option.apply(p, value);
      // The guest may clear its environment before it executes a program.
      if (option.hand_down) hand_down(o, option.name, option.argument ? value : nullptr);
    }
  }
  // Programs that the guest executes would wait for a gdb of their own.
  for (const char* name : {"QEMU_GDB", "KILN_GDB"}) unsetenv(name);
  int i = 1;
  for (; i < argc && !p.bad && !p.exit_ok && !invocation.binfmt; ++i) {
    std::string_view text = argv[i];
    if (text == "--") {
      ++i;
      break;
    }
    if (text.size() < 2 || text[0] != '-') break;
    text.remove_prefix(text.substr(0, 2) == "--" ? 2 : 1);
    const std::size_t equals = text.find('=');
    std::string name(text.substr(0, equals));
    if (name == "singlestep" || name == "one-insn-per-tb") continue;  // QEMU's debugging aids, without meaning here
    const Option* found = nullptr;
    for (const Option& option : kOptions)
      if (name == option.name) found = &option;
    if (!found) {
      p.complain(std::string("unknown option '") + argv[i] + "'");
      break;
    }
    if (!found->apply) {
      if (name == "version") std::printf("kiln version 0.1\n");
      else help();
      p.exit_ok = true;
      break;
    }
    std::string value;
    if (found->argument) {
      if (equals != std::string_view::npos) value = text.substr(equals + 1);
      else if (i + 1 < argc) value = argv[++i];
      else {
        p.complain(std::string("option '") + argv[i] + "' needs an argument " + found->argument);
        break;
      }
    }
    found->apply(p, value);
    if (found->hand_down) hand_down(o, found->name, found->argument ? value.c_str() : nullptr);
  }
  if (p.bad) return OptionsOutcome::ExitUsage;
  if (p.exit_ok) return OptionsOutcome::ExitOk;
  if (i >= argc) {
    p.complain("no program given");
    return OptionsOutcome::ExitUsage;
  }
  const std::string_view command = invocation.binfmt || std::string_view(argv[i - 1]) == "--" ? "" : argv[i];
  if (invocation.binfmt) {
    binfmt_arguments(invocation, argc, argv, o);
  } else {
    o.program = argv[i];
    for (++i; i < argc; ++i) o.args.push_back(argv[i]);
  }
  while (o.sysroot.size() > 1 && o.sysroot.back() == '/') o.sysroot.pop_back();
  if (o.sysroot == "/") o.sysroot.clear();
  if (!o.sysroot.empty() && o.sysroot[0] != '/') {  // chdir must not change its meaning
    char* cwd = getcwd(nullptr, 0);
    if (cwd) o.sysroot = std::string(cwd) + "/" + o.sysroot;
    std::free(cwd);
    for (std::size_t n = 0; n + 1 < o.handed_down.size(); ++n)
      if (o.handed_down[n] == "--L" && o.handed_down[n + 1][0] != '/') o.handed_down[n + 1] = o.sysroot;
  }
  if (command == "doctor") return OptionsOutcome::Doctor;
  return command == "cache" ? OptionsOutcome::Cache : OptionsOutcome::Run;
}

}  // namespace kiln::user
