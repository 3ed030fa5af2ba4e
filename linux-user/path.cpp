#include "linux-user/path.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string_view>

namespace kiln::user {
namespace {

/// Resolves inside the sysroot as a chroot would, for symlinks with absolute targets.
std::string resolve_in_root(const std::string& root, const std::string& path) {
  const int root_fd = open(root.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root_fd < 0) return {};
  struct open_how how{};
  how.flags = O_PATH | O_CLOEXEC;
  how.resolve = RESOLVE_IN_ROOT;
  const long fd = syscall(SYS_openat2, root_fd, path.c_str(), &how, sizeof how);
  close(root_fd);
  if (fd < 0) return {};
  char link[64], target[4096];
  std::snprintf(link, sizeof link, "/proc/self/fd/%ld", fd);
  const ssize_t n = readlink(link, target, sizeof target);
  close(static_cast<int>(fd));
  return n > 0 && n < static_cast<ssize_t>(sizeof target) ? std::string(target, static_cast<std::size_t>(n)) : std::string();
}

/// Directories that a sysroot has as empty mount points while the guest means the host's: openat() relative to one of them must
/// not end in the empty one.
bool is_host_directory(const std::string& path) {
  static constexpr const char* kHostDirectories[] = {"/tmp",  "/dev", "/proc",  "/sys",     "/run",    "/home",
                                                     "/root", "/mnt", "/media", "/var/tmp", "/var/run"};
  std::size_t length = path.size();
  while (length > 1 && path[length - 1] == '/') --length;
  for (const char* directory : kHostDirectories)
    if (path.compare(0, length, directory) == 0) return true;
  return false;
}

}  // namespace

std::string own_proc_entry(const std::string& path) {
  if (path.compare(0, 6, "/proc/") != 0) return {};
  const std::size_t slash = path.find('/', 6);
  if (slash == std::string::npos) return {};
  const std::string who = path.substr(6, slash - 6);
  if (who != "self" && who != "thread-self" && who != std::to_string(getpid())) return {};
  std::string rest = path.substr(slash + 1);
  if (rest.compare(0, 5, "task/") == 0) {  // /proc/self/task/<tid>/X
    const std::size_t next = rest.find('/', 5);
    if (next == std::string::npos) return {};
    rest = rest.substr(next + 1);
  }
  return rest;
}

std::string program_of(const Process& process, const std::string& path) {
  if (own_proc_entry(path) == "exe") return process.exe_path;
  constexpr std::string_view kProc = "/proc/", kExe = "/exe";
  if (!path.starts_with(kProc) || !path.ends_with(kExe) || path.size() <= kProc.size() + kExe.size()) return {};
  const std::string pid = path.substr(kProc.size(), path.size() - kProc.size() - kExe.size());
  if (pid.find_first_not_of("0123456789") != std::string::npos) return {};
  // A process's program is the file mapped where its code begins; under Kiln that is the guest's (show_program()).
  std::ifstream stat_file("/proc/" + pid + "/stat");
  std::string line;
  if (!std::getline(stat_file, line) || line.rfind(')') == std::string::npos) return {};
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string field;
  for (int n = 3; n <= 26; ++n) fields >> field;
  const u64 code = std::strtoull(field.c_str(), nullptr, 10);
  if (code < kPageSize) return {};  // a thread of the kernel, or none of our business
  std::ifstream maps("/proc/" + pid + "/maps");
  while (std::getline(maps, line)) {
    unsigned long start, end;
    int name = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %*s %*x %*s %*u %n", &start, &end, &name) < 2 || code < start || code >= end)
      continue;
    return name > 0 && line[static_cast<std::size_t>(name)] == '/' ? line.substr(static_cast<std::size_t>(name)) : "";
  }
  return {};
}

std::string resolve_path(const Process& process, const std::string& guest, Follow follow) {
  if (guest.empty() || guest[0] != '/') return guest;
  if (guest.compare(0, 6, "/proc/") == 0) {
    const std::string program = follow == Follow::Yes ? program_of(process, guest) : std::string();
    return program.empty() ? guest : program;
  }
  const std::string& root = process.options.sysroot;
  if (root.empty() || is_host_directory(guest)) return guest;
  std::string inside = root + guest;
  struct stat st;
  if (follow == Follow::Literal) return lstat(inside.c_str(), &st) == 0 ? inside : guest;
  if (lstat(inside.c_str(), &st) != 0) {
    // A symlink with an absolute target on the way (/usr/lib/x -> /var/lib/x): the host's kernel looked for it on the host.
    const std::size_t slash = guest.rfind('/');
    const std::string folder = slash == 0 ? std::string() : resolve_in_root(root, guest.substr(0, slash));
    if (folder.empty()) return guest;
    inside = folder + guest.substr(slash);
    if (lstat(inside.c_str(), &st) != 0) {
      // In neither. What is made there comes into the sysroot if only that has the folder.
      const std::string host_folder = slash == 0 ? "/" : guest.substr(0, slash);
      return slash != 0 && access(host_folder.c_str(), F_OK) != 0 ? inside : guest;
    }
  }
  if (!S_ISLNK(st.st_mode) || follow == Follow::No) return inside;
  std::string resolved = resolve_in_root(root, guest);
  if (!resolved.empty()) return resolved;
  // A link whose target is outside the sysroot (say /etc/resolv.conf -> /run/…): the host's, if it has it.
  return stat(inside.c_str(), &st) == 0 ? inside : guest;
}

std::string guest_view(const Process& process, const std::string& host) {
  const std::string& root = process.options.sysroot;
  if (!root.empty() && host.size() > root.size() && host.compare(0, root.size(), root) == 0 && host[root.size()] == '/')
    return host.substr(root.size());
  return host;
}

}  // namespace kiln::user
