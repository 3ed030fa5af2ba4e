// Executing programs.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "linux-user/code_cache.h"
#include "linux-user/debug_target.h"
#include "linux-user/elf_loader.h"
#include "linux-user/ptrace/tracee.h"
#include "linux-user/syscalls/seccomp.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

constexpr int kMaxScripts = 5;       // Linux's limit on interpreters of interpreters
constexpr u16 kHostElfMachine = 62;  // x86-64

int read_strings(Call& c, GuestAddr at, std::vector<std::string>& out) {
  if (at == 0) return 0;
  const unsigned size = c.abi.guest->pointer_bits / 8;
  for (;; at += size) {
    u64 pointer = 0;
    if (!c.memory.read(at, &pointer, size)) return -EFAULT;
    if (pointer == 0) return 0;
    std::string text;
    if (const int r = c.memory.read_string(pointer, text, 128 << 10); r < 0) return r == -ENAMETOOLONG ? -E2BIG : r;
    out.push_back(std::move(text));
  }
}

/// A list of strings as execve() takes it.
class Strings {
 public:
  explicit Strings(const std::vector<std::string>& list) {
    for (const auto& s : list) pointers_.push_back(s.c_str());
    pointers_.push_back(nullptr);
  }
  u64 address() const { return reinterpret_cast<u64>(pointers_.data()); }

 private:
  std::vector<const char*> pointers_;
};

// A signal that came before is delivered first: with it pending, the new program would begin with everything blocked.
s64 exec_call(const Thread& thread, long number, const u64 (&args)[6]) {
  return safe_syscall(number, const_cast<const u32*>(&thread.signal_pending), args);
}

s64 host_exec(const Thread& thread, const std::string& path, const std::vector<std::string>& args, const std::vector<std::string>& env) {
  const Strings argv(args), envp(env);
  return exec_call(thread, SYS_execve, {Call::to_u64(path.c_str()), argv.address(), envp.address()});
}

/// Executes ourselves with `args`.
s64 kiln_exec(const Thread& thread, std::vector<std::string> args, const std::vector<std::string>& env) {
  const int fd = thread.process->own.executable;
  if (fd < 0) return host_exec(thread, "/proc/self/exe", args, env);
  // The descriptor is handed on: the next Kiln may be in a chroot where there is no name for it.
  args.insert(args.begin() + 1, {"--self-fd", std::to_string(fd)});
  const Strings argv(args), envp(env);
  raw_syscall(SYS_fcntl, static_cast<u64>(fd), F_SETFD, 0);
  const s64 r = exec_call(thread, SYS_execveat, {static_cast<u64>(fd), Call::to_u64(""), argv.address(), envp.address(), AT_EMPTY_PATH});
  raw_syscall(SYS_fcntl, static_cast<u64>(fd), F_SETFD, FD_CLOEXEC);
  return r;
}

/// A process that binfmt_misc started leaves its children to binfmt_misc as well, unless there are options to hand on: only the
/// kernel can give a program its set-user-id rights, and it needs no name for us.
bool leave_to_kernel(const Process& process, const struct stat& program) {
  if (!process.invocation.binfmt) return false;
  // A limit on address space is the guest's alone: Kiln has to hand it on by --limits, or the next Kiln has no room itself.
  const bool limited = process.space_limit[0] != RLIM_INFINITY || process.data_limit[0] != RLIM_INFINITY;
  if (process.options.handed_down.empty() && !limited) return true;
  return ((program.st_mode & S_ISUID) && program.st_uid != geteuid()) ||
         ((program.st_mode & S_ISGID) && (program.st_mode & S_IXGRP) && program.st_gid != getegid());
}

/// For a program that runs without Kiln: its limits are the host's. Kiln's own follow by --limits.
s64 host_exec_limited(const Thread& thread, const std::string& path, const std::vector<std::string>& args,
                      const std::vector<std::string>& env) {
  constexpr __rlimit_resource kOwn[] = {RLIMIT_CORE, RLIMIT_AS, RLIMIT_DATA};
  rlimit before[std::size(kOwn)];
  for (std::size_t n = 0; n < std::size(kOwn); ++n) {
    getrlimit(kOwn[n], &before[n]);
    const u64* guest = guest_limit(*thread.process, static_cast<u64>(kOwn[n]));
    const rlimit limit{guest[0], guest[1]};
    setrlimit(kOwn[n], &limit);
  }
  const s64 r = host_exec(thread, path, args, env);
  for (std::size_t n = 0; n < std::size(kOwn); ++n) setrlimit(kOwn[n], &before[n]);
  return r;
}

std::string limits_option(const Process& process) {
  std::string text;
  for (const u64* limit : {process.core_limit, process.space_limit, process.data_limit}) {
    char one[48];
    std::snprintf(one, sizeof one, "%s%lx,%lx", text.empty() ? "" : ",", limit[0], limit[1]);
    text += one;
  }
  return text;
}

}  // namespace

s64 do_execve(Thread& thread, const std::string& guest_path, std::vector<std::string> args,
              const std::vector<std::string>& env) {
  Process& process = *thread.process;
  std::string name = guest_path;
  for (int depth = 0; depth <= kMaxScripts; ++depth) {
    const std::string path = resolve_path(process, name, Follow::Yes);
    struct stat st;
    if (stat(path.c_str(), &st) != 0) return -errno;
    if (!S_ISREG(st.st_mode)) return -EACCES;
    if (const s64 r =
            raw_syscall(SYS_faccessat2, static_cast<u64>(AT_FDCWD), reinterpret_cast<u64>(path.c_str()), X_OK, AT_EACCESS);
        r < 0)
      return r;
    char head[256] = {};
    // Filters would be lost on the way through the kernel.
    const bool traced = thread.trace || thread.trace_me_due;
    if (seccomp_mode(thread) == 0 && !traced && leave_to_kernel(process, st)) {
      if (process.engine) save_translated_code(process);
      const s64 r = host_exec_limited(thread, path, args, env);
      if (r != -ENOEXEC) return r;
    }
    const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    // Execute-only files cannot be translated, unless the kernel opens them for us.
    if (fd < 0) return process.invocation.binfmt && errno == EACCES ? host_exec(thread, path, args, env) : -errno;
    const ssize_t got = read(fd, head, sizeof head - 1);
    close(fd);
    if (got >= 2 && head[0] == '#' && head[1] == '!') {
      std::string line(head + 2, std::strcspn(head + 2, "\n"));
      const std::size_t first = line.find_first_not_of(" \t");
      if (first == std::string::npos) return -ENOEXEC;
      const std::size_t last = line.find_last_not_of(" \t\r");
      line = line.substr(first, last - first + 1);
      const std::size_t space = line.find_first_of(" \t");
      const std::string interpreter = line.substr(0, space);
      std::vector<std::string> fresh{interpreter};
      if (space != std::string::npos) {
        const std::size_t argument = line.find_first_not_of(" \t", space);
        if (argument != std::string::npos) fresh.push_back(line.substr(argument));
      }
      fresh.push_back(name);
      if (!args.empty()) fresh.insert(fresh.end(), args.begin() + 1, args.end());
      args = std::move(fresh);
      name = interpreter;
      continue;
    }
    const Result<ElfIdentity> id = identify_elf(path);
    if (!id && id.error() == "not an ELF program") return -ENOEXEC;
    const GuestAbi* abi = id ? find_abi(id->machine, id->elf_class, id->data) : nullptr;
    // The host's own program, called by a guest of another kind and not part of its system, has nothing to gain from Kiln.
    // A script that Kiln itself was given has no guest yet.
    const bool hosts = id && id->machine == kHostElfMachine && process.abi && process.abi->elf_machine != kHostElfMachine &&
                       guest_view(process, path) == path;
    if (!abi || hosts) {
      if (id && id->machine != kHostElfMachine) return -ENOEXEC;
      if (traced) {
        say_once(process, "unimplemented: a program of the host under a guest's ptrace (" + path + ")");
        return -EACCES;
      }
      if (seccomp_mode(thread) != 0) {
        say_once(process, "unimplemented: a program of the host under a guest's seccomp filters (" + path + ")");
        return -EACCES;
      }
      return host_exec_limited(thread, path, args, env);
    }
    if (process.engine) save_translated_code(process);
    std::vector<std::string> kiln{"kiln"};
    kiln.insert(kiln.end(), process.options.handed_down.begin(), process.options.handed_down.end());
    if (guest_path != path) {  // AT_EXECFN: of a script its own name
      kiln.push_back("--execfn");
      kiln.push_back(guest_path);
    }
    kiln.push_back("--limits");
    kiln.push_back(limits_option(process));
    const int filters = save_seccomp(thread);
    if (filters >= 0) {
      kiln.push_back("--seccomp");
      kiln.push_back(std::to_string(filters));
    } else if (filters != -ENOENT) {
      return filters;
    }
    const bool debugged = process.debugger && !thread.vfork_child;
    if (debugged)
      if (const std::string session = process.debugger->hand_over(); !session.empty()) kiln.push_back(session);
    if (traced)
      if (const std::string trace = trace_option(thread); !trace.empty()) kiln.push_back(trace);
    kiln.push_back("-0");
    kiln.push_back(args.empty() ? std::string() : args[0]);
    kiln.push_back("--");
    kiln.push_back(path);
    if (!args.empty()) kiln.insert(kiln.end(), args.begin() + 1, args.end());
    s64 r = kiln_exec(thread, std::move(kiln), env);
    // No name for ourselves (a chroot without /proc, entered through binfmt_misc): options reach the program by the environment
    // or not at all.
    if (r == -ENOENT && process.invocation.binfmt) r = host_exec(thread, path, args, env);
    if (debugged) process.debugger->keep();
    if (filters >= 0) close(filters);
    return r;
  }
  return -ELOOP;
}

s64 sys_execve(Call& c) {
  std::string path;
  if (const int r = c.path(0, path); r < 0) return r;
  std::vector<std::string> args, env;
  if (const int r = read_strings(c, c.a[1], args); r < 0) return r;
  if (const int r = read_strings(c, c.a[2], env); r < 0) return r;
  if (path.empty()) return -ENOENT;
  return do_execve(c.thread, path, std::move(args), env);
}

s64 sys_execveat(Call& c) {
  std::string path;
  if (const int r = c.path(1, path); r < 0) return r;
  std::vector<std::string> args, env;
  if (const int r = read_strings(c, c.a[2], args); r < 0) return r;
  if (const int r = read_strings(c, c.a[3], env); r < 0) return r;
  const int dir = c.i(0);
  if (path.empty()) {
    if (!(c.a[4] & AT_EMPTY_PATH)) return -ENOENT;
    path = "/proc/self/fd/" + std::to_string(dir);
    // The descriptor may be close-on-exec: name the file itself if it has a name.
    char target[4096];
    const ssize_t n = readlink(path.c_str(), target, sizeof target);
    if (n > 0 && target[0] == '/' && access(std::string(target, static_cast<std::size_t>(n)).c_str(), F_OK) == 0)
      path.assign(target, static_cast<std::size_t>(n));
  } else if (path[0] != '/' && dir != AT_FDCWD) {
    path = "/proc/self/fd/" + std::to_string(dir) + "/" + path;
  }
  return do_execve(c.thread, path, std::move(args), env);
}

}  // namespace kiln::user
