#include "linux-user/code_cache.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kiln::user {
namespace {

constexpr u64 kMostBytes = u64{512} << 20;  // in all files together; KILN_CACHE_SIZE (MiB) says otherwise
constexpr const char* kSuffix = ".kilncode";

std::string directory_name() {
  const auto variable = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value != nullptr && value[0] == '/' ? value : "");
  };
  if (const std::string own = variable("KILN_CACHE_DIR"); !own.empty()) return own;
  if (const std::string xdg = variable("XDG_CACHE_HOME"); !xdg.empty()) return xdg + "/kiln/code";
  // No home directory, no cache: system users of Debian have /nonexistent.
  if (const std::string home = variable("HOME"); !home.empty() && access(home.c_str(), W_OK) == 0) return home + "/.cache/kiln/code";
  return {};
}

bool make_directories(const std::string& path) {
  for (std::size_t at = path.find('/', 1);; at = path.find('/', at + 1)) {
    const std::string part = path.substr(0, at);
    if (mkdir(part.c_str(), 0700) != 0 && errno != EEXIST) return false;
    if (at == std::string::npos) return true;
  }
}

/// Nobody but the user (and root) can have put anything there.
bool trusted(const std::string& directory) {
  struct stat st;
  return lstat(directory.c_str(), &st) == 0 && S_ISDIR(st.st_mode) && st.st_uid == geteuid() && (st.st_mode & 022) == 0;
}

struct CachedFile {
  std::string name;
  u64 bytes;
  s64 used;  // last use as far as we note it, seconds
};

std::vector<CachedFile> files_in(const std::string& directory) {
  std::vector<CachedFile> files;
  DIR* dir = opendir(directory.c_str());
  if (dir == nullptr) return files;
  while (const dirent* entry = readdir(dir)) {
    const std::string name = entry->d_name;
    struct stat st;
    if (name.find(kSuffix) == std::string::npos || fstatat(dirfd(dir), name.c_str(), &st, AT_SYMLINK_NOFOLLOW) != 0) continue;
    if (S_ISREG(st.st_mode)) files.push_back({name, static_cast<u64>(st.st_size), st.st_mtim.tv_sec});
  }
  closedir(dir);
  std::sort(files.begin(), files.end(), [](const CachedFile& a, const CachedFile& b) { return a.used > b.used; });
  return files;
}

/// Files longest not used go first.
void trim(const std::string& directory) {
  u64 most = kMostBytes;
  if (const char* text = std::getenv("KILN_CACHE_SIZE"))
    if (const u64 mib = std::strtoull(text, nullptr, 10); mib != 0) most = std::min<u64>(mib, 1 << 20) << 20;
  u64 sum = 0;
  for (const CachedFile& file : files_in(directory)) {
    sum += file.bytes;
    if (sum > most) unlink((directory + "/" + file.name).c_str());
  }
}

u64 hash(const std::string& text) {  // FNV-1a
  u64 h = 0xcbf29ce484222325;
  for (const char c : text) h = (h ^ static_cast<u8>(c)) * 0x100000001b3;
  return h;
}

}  // namespace

void choose_cache_file(const Process& process, const std::string& model, jit::EngineConfig& config) {
  const CacheChoice choice = process.options.cache;
  struct stat st;
  // Who runs with another's rights does not take code from where an environment variable says.
  if (choice == CacheChoice::Off || getauxval(AT_SECURE) != 0 || stat(process.exe_path.c_str(), &st) != 0) return;
  const std::string directory = directory_name();
  if (directory.empty() || (!trusted(directory) && (choice != CacheChoice::ReadWrite || !make_directories(directory) || !trusted(directory))))
    return;
  config.cache_key = fmt::format("cpu {}\nprogram {} {:x}:{:x} {} {}.{}\n", model, process.exe_path, st.st_dev, st.st_ino, st.st_size,
                                 st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
  std::string name = process.exe_path.substr(process.exe_path.rfind('/') + 1).substr(0, 64);
  for (char& c : name)
    if (static_cast<unsigned char>(c) <= ' ' || c == 0x7f) c = '_';
  config.cache_file = fmt::format("{}/{}-{:016x}{}", directory, name, hash(config.cache_key + process.abi->name), kSuffix);
  config.cache_write = choice == CacheChoice::ReadWrite;
}

void save_translated_code(Process& process) {
  if (process.patched || !process.engine->save_blocks()) return;
  trim(directory_name());
}

int cache_command(const std::vector<std::string>& args) {
  const std::string what = args.empty() ? "list" : args[0];
  const std::string directory = directory_name();
  if (directory.empty()) {
    std::fprintf(stderr, "kiln: no cache: none of KILN_CACHE_DIR, XDG_CACHE_HOME and HOME is set\n");
    return 1;
  }
  if (args.size() > 1 || (what != "list" && what != "clear" && what != "path")) {
    std::fprintf(stderr, "usage: kiln cache [list | clear | path]\n");
    return 1;
  }
  if (what == "path") {
    std::printf("%s\n", directory.c_str());
    return 0;
  }
  u64 sum = 0;
  const std::vector<CachedFile> files = files_in(directory);
  int status = 0;
  for (const CachedFile& file : files) {
    sum += file.bytes;
    if (what == "list") {
      std::printf("%10.1f KiB  %s\n", static_cast<double>(file.bytes) / 1024, file.name.c_str());
    } else if (unlink((directory + "/" + file.name).c_str()) != 0) {
      std::fprintf(stderr, "kiln: %s: %s\n", file.name.c_str(), std::strerror(errno));
      status = 1;
    }
  }
  if (what == "list" && !files.empty() && !trusted(directory)) std::printf("not used: others may write to %s\n", directory.c_str());
  std::printf("%zu programs, %.1f MiB in %s%s\n", files.size(), static_cast<double>(sum) / (1 << 20), directory.c_str(),
              what == "clear" && status == 0 ? ", removed" : "");
  return status;
}

}  // namespace kiln::user
