#include "linux-user/doctor.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "linux-user/binfmt.h"
#include "linux-user/memory_map.h"

namespace kiln::user {
namespace {

/// Dynamic loaders by which a sysroot shows whose it is.
struct Loader {
  const char* guest;
  const char* path;
};
constexpr Loader kLoaders[] = {
    {"aarch64", "/lib/ld-linux-aarch64.so.1"},
    {"x86_64", "/lib64/ld-linux-x86-64.so.2"},
    {"i386", "/lib/ld-linux.so.2"},
};

class Doctor {
 public:
  Doctor(const Options& options, std::string root) : options_(options), root_(std::move(root)) {}

  int run() {
    processor();
    executable_memory();
    address_space();
    binfmt();
    sysroot();
    limits();
    kernel_settings();
    return bad_ ? 1 : 0;
  }

 private:
  void say(const char* verdict, const char* what, const std::string& text) {
    std::printf("%-5s %-12s %s\n", verdict, what, text.c_str());
  }
  void ok(const char* what, const std::string& text) { say("ok", what, text); }
  void note(const char* what, const std::string& text) { say("note", what, text); }
  void bad(const char* what, const std::string& text) {
    say("BAD", what, text);
    bad_ = true;
  }

  std::string read(const std::string& path) const {
    std::ifstream file(root_ + path);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  /// A number in a file below /proc/sys, or -1.
  long setting(const char* name) const {
    const std::string text = read(std::string("/proc/sys/") + name);
    return text.empty() ? -1 : std::strtol(text.c_str(), nullptr, 10);
  }

  void processor() {
    std::string why;
    if (!jit::Engine::host_supported(why)) return bad("processor", "cannot run Kiln: " + why);
    std::string level = "has what Kiln needs";
#if defined __x86_64__
    if (__builtin_cpu_supports("x86-64-v4")) level += " (x86-64-v4)";
    else if (__builtin_cpu_supports("x86-64-v3")) level += " (x86-64-v3)";
#endif
    ok("processor", level);
  }

  void executable_memory() {
    const int fd = memfd_create("kiln-doctor", MFD_CLOEXEC);
    if (fd < 0) return bad("code memory", std::string("memfd_create: ") + std::strerror(errno));
    void* page = ftruncate(fd, 4096) == 0 ? mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0) : MAP_FAILED;
    const int error = errno;
    close(fd);
    if (page == MAP_FAILED)
      return bad("code memory", std::string("cannot map executable memory: ") + std::strerror(error) +
                                    "; a security module (SELinux: allow execmem) or seccomp filter forbids it");
    munmap(page, 4096);
    ok("code memory", "can be mapped executable");
  }

  /// Bits of address space that a guest of `wanted` bits gets; 0: none. Tried in a process of its own, where it can stay.
  static unsigned reservable_bits(unsigned wanted) {
    const pid_t pid = fork();
    if (pid == 0) {
      MemoryMap memory;
      unsigned bits = 0;
      if (memory.reserve(wanted))
        while (bits < 63 && (u64{1} << (bits + 1)) <= memory.limit()) ++bits;
      _exit(static_cast<int>(bits));
    }
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) != pid || !WIFEXITED(status)) return 0;
    return static_cast<unsigned>(WEXITSTATUS(status));
  }

  void address_space() {
    for (const GuestAbi* abi : all_abis()) {
      const unsigned bits = reservable_bits(abi->address_bits);
      const std::string guest = abi->name;
      // The host keeps a part of its 47 bits for itself.
      const unsigned wanted = std::min(abi->address_bits, 46u);
      if (bits < 32) bad("memory", guest + ": cannot reserve address space for the guest (raise `ulimit -v`)");
      else if (bits < wanted)
        note("memory", guest + ": only " + std::to_string(bits) +
                           " bits of address space: raise `ulimit -v` (sanitizers and Java want more)");
      else ok("memory", guest + ": " + std::to_string(bits) + " bits of address space");
    }
  }

  void binfmt() {
    const std::string directory = root_ + "/proc/sys/fs/binfmt_misc";
    DIR* list = opendir(directory.c_str());
    std::vector<BinfmtEntry> entries;
    bool mounted = false;
    while (const dirent* file = list ? readdir(list) : nullptr) {
      const std::string name = file->d_name;
      if (name == "status" || name == "register") mounted = true;
      if (name[0] == '.' || name == "status" || name == "register") continue;
      if (auto entry = parse_binfmt_entry(name, read("/proc/sys/fs/binfmt_misc/" + name))) entries.push_back(*entry);
    }
    if (list) closedir(list);
    if (!mounted) {
      note("binfmt",
           "binfmt_misc is not mounted: foreign programs run only as `kiln PROGRAM` "
           "(mount -t binfmt_misc none /proc/sys/fs/binfmt_misc; scripts/binfmt register)");
      return;
    }
    if (read("/proc/sys/fs/binfmt_misc/status").starts_with("disabled"))
      return note("binfmt", "binfmt_misc is switched off (echo 1 >/proc/sys/fs/binfmt_misc/status)");
    for (const GuestAbi* abi : all_abis()) guest_binfmt(*abi, entries);
  }

  void guest_binfmt(const GuestAbi& abi, const std::vector<BinfmtEntry>& entries) {
    const std::string guest = abi.name;
    const std::string again = " (scripts/binfmt register " + guest + ")";
    const BinfmtRule rule = binfmt_rule(abi);
    const BinfmtEntry* ours = nullptr;
    std::string others;
    for (const BinfmtEntry& e : entries) {
      if (!claims(e, rule)) continue;
      if (e.name == "kiln-" + guest) ours = &e;
      else others += " " + e.name + " (" + e.interpreter + ")";
    }
    if (!ours) {
      if (host_runs(abi) && others.empty()) return ok("binfmt", guest + ": the host's own programs, not registered");
      if (!others.empty()) return note("binfmt", guest + ": programs go to" + others + ", not to Kiln" + again);
      return note("binfmt", guest + ": not registered, programs run only as `kiln PROGRAM`" + again);
    }
    std::string missing;
    if (ours->flags.find('F') == std::string::npos) missing += "; no F: chroots and containers need Kiln inside";
    if (ours->flags.find('P') == std::string::npos) missing += "; no P: programs see another argv[0]";
    if (ours->flags.find('C') == std::string::npos) missing += "; no C: set-user-id programs (sudo, su) get no rights";
    // With F the file was opened at registration: what lies there now may be a newer build, or nothing.
    if (root_.empty() && access(ours->interpreter.c_str(), X_OK) != 0) {
      if (ours->flags.find('F') == std::string::npos)
        return bad("binfmt", guest + ": " + ours->interpreter + " is not there" + again);
      missing += "; " + ours->interpreter + " is gone, the kernel still uses the file that it was";
    }
    const std::string text = guest + ": " + ours->interpreter + ", flags " + ours->flags;
    if (!others.empty()) missing += "; also claimed by" + others + ": the one registered last wins";
    if (missing.empty()) ok("binfmt", text);
    else note("binfmt", text + missing + again);
  }

  void sysroot() {
    const std::string& sysroot = options_.sysroot;
    if (sysroot.empty())
      return ok("sysroot", "none given (-L): programs find their libraries where their paths say, as in a chroot");
    struct stat st;
    if (stat(sysroot.c_str(), &st) != 0 || !S_ISDIR(st.st_mode))
      return bad("sysroot", sysroot + ": " + (errno ? std::strerror(errno) : "not a directory"));
    std::string guests;
    for (const Loader& loader : kLoaders)
      // lstat: the link's target is meant inside the sysroot.
      if (lstat((sysroot + loader.path).c_str(), &st) == 0) guests += std::string(guests.empty() ? "" : ", ") + loader.guest;
    if (guests.empty())
      return bad("sysroot", sysroot + " has no dynamic loader of any guest (scripts/fetch-guests makes a sysroot)");
    ok("sysroot", sysroot + " has libraries of " + guests);
  }

  void limits() {
    rlimit files{}, stack{};
    getrlimit(RLIMIT_NOFILE, &files);
    getrlimit(RLIMIT_STACK, &stack);
    const std::string number = std::to_string(files.rlim_cur);
    if (files.rlim_cur < 1024) note("nofile", number + " open files: servers want more (ulimit -n 1024)");
    else ok("nofile", number + " open files");
    if (stack.rlim_cur != RLIM_INFINITY && stack.rlim_cur < (rlim_t{1} << 20))
      note("stack", std::to_string(stack.rlim_cur >> 10) + " KiB: less than the guest gets by default (ulimit -s 8192, or -s)");
    if (read("/proc/self/maps").empty() && root_.empty())
      note("proc", "/proc is not mounted: programs that look at themselves will be surprised (mount -t proc proc /proc)");
  }

  void kernel_settings() {
    const long maps = setting("vm/max_map_count");
    const std::string count = "vm.max_map_count is " + std::to_string(maps);
    if (maps >= 0 && maps < 65530) bad("mappings", count + ": guests with many mappings fail (sysctl vm.max_map_count=262144)");
    else if (maps >= 0 && maps < 262144)
      ok("mappings", count + " (Java heaps and databases may want sysctl vm.max_map_count=262144)");
    else if (maps >= 0) ok("mappings", count);

    // A guest's low addresses are no low addresses of the host: its memory is moved by a fixed distance.
    const long lowest = setting("vm/mmap_min_addr");
    if (lowest >= 0) ok("low memory", "vm.mmap_min_addr is " + std::to_string(lowest) + ", which does not matter to Kiln");

    const long overcommit = setting("vm/overcommit_memory");
    if (overcommit == 2)
      note("overcommit",
           "vm.overcommit_memory is 2: guests that reserve much (Go, Java, sanitizers) fail early "
           "(sysctl vm.overcommit_memory=0)");
    else if (overcommit >= 0) ok("overcommit", "vm.overcommit_memory is " + std::to_string(overcommit));
  }

  const Options& options_;
  const std::string root_;
  bool bad_ = false;
};

}  // namespace

int doctor(const Options& options, const std::string& root) { return Doctor(options, root).run(); }

}  // namespace kiln::user
