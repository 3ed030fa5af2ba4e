// /proc files that would show Kiln instead of the guest: made up as the guest must see them, snapshot at open().
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <sstream>

#include "linux-user/path.h"
#include "linux-user/syscalls/seccomp.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

std::string read_file(const char* path) {
  std::string text;
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return text;
  char buffer[8192];
  for (ssize_t n; (n = read(fd, buffer, sizeof buffer)) > 0;) text.append(buffer, static_cast<std::size_t>(n));
  close(fd);
  return text;
}

/// An area of the host's as /proc/self/maps and smaps tell it; `counters`: smaps' lines, each with its end.
struct HostArea {
  u64 start = 0, end = 0, offset = 0, inode = 0;
  std::string device, name, counters;
};

std::vector<HostArea> host_areas(const std::string& text) {
  std::vector<HostArea> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t eol = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, eol - at);
    at = eol + 1;
    unsigned long start, end, offset, inode;
    char perms[8], device[16];
    int name_at = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %7s %lx %15s %lu %n", &start, &end, perms, &offset, device, &inode, &name_at) >= 6)
      out.push_back({start, end, offset, inode, device, name_at > 0 ? line.substr(static_cast<std::size_t>(name_at)) : "", {}});
    else if (!out.empty()) out.back().counters += line + "\n";
  }
  return out;
}

/// smaps' counters for a part of a host's area, by what /proc/self/pagemap says of its pages (the kernel's
/// Documentation/admin-guide/mm/pagemap.rst): which are there, of a file, and shared with another process.
void count_pages(u64 start, u64 end, std::map<std::string, u64>& kb) {
  constexpr u64 kPresent = u64{1} << 63, kFileOrShared = u64{1} << 61, kExclusive = u64{1} << 56;
  const int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  u64 entries[512];
  const u64 page_kb = kPageSize / 1024;
  for (u64 page = start / kPageSize; page < end / kPageSize;) {
    const u64 wanted = std::min<u64>(512, end / kPageSize - page);
    const ssize_t n = pread(fd, entries, wanted * 8, static_cast<off_t>(page * 8));
    if (n < 8) break;
    for (ssize_t k = 0; k < n / 8; ++k) {
      if (!(entries[k] & kPresent)) continue;
      const bool file = (entries[k] & kFileOrShared) != 0;
      const std::string whose = (entries[k] & kExclusive) ? "Private" : "Shared";
      for (const char* name : {"Rss", "Pss", "Referenced"}) kb[name] += page_kb;
      kb[whose + (file ? "_Clean" : "_Dirty")] += page_kb;
      if (!file) kb["Anonymous"] += page_kb;
    }
    page += static_cast<u64>(n / 8);
  }
  close(fd);
}

/// The counters of the guest's part [start, end) of a host's area. Rights and so VmFlags are the guest's.
std::string counters(const HostArea& host, const Mapping& guest, u64 start, u64 end) {
  const bool whole = host.start == start && host.end == end;
  std::map<std::string, u64> counted{
      {"Size", (end - start) / 1024}, {"KernelPageSize", kPageSize / 1024}, {"MMUPageSize", kPageSize / 1024}};
  if (!whole) count_pages(start, end, counted);
  std::string out;
  for (std::size_t at = 0; at < host.counters.size();) {
    const std::size_t eol = host.counters.find('\n', at);
    std::string line = host.counters.substr(at, eol - at);
    at = eol + 1;
    const std::string key = line.substr(0, line.find(':'));
    if (key == "VmFlags") {
      std::istringstream flags(line.substr(8));
      line = std::string("VmFlags:") + ((guest.prot & PROT_READ) ? " rd" : "") + ((guest.prot & PROT_WRITE) ? " wr" : "") +
             ((guest.prot & PROT_EXEC) ? " ex" : "");
      for (std::string flag; flags >> flag;)
        if (flag != "rd" && flag != "wr" && flag != "ex") line += " " + flag;
      line += " ";
    } else if (!whole && line.ends_with(" kB")) {
      char text[64];
      std::snprintf(text, sizeof text, "%-16s%8lu kB", (key + ":").c_str(), counted[key]);
      line = text;
    }
    out += line + "\n";
  }
  return out;
}

/// /proc/self/maps, and smaps if asked for. Device, inode, name and counters come from the host's own file; addresses and
/// rights from the guest's mappings.
std::string maps(Process& process, bool with_counters) {
  MemoryMap& memory = process.memory;
  const std::vector<HostArea> host = host_areas(read_file(with_counters ? "/proc/self/smaps" : "/proc/self/maps"));
  const std::vector<Mapping> areas = memory.mappings();
  std::string out;
  auto area = areas.begin();
  for (const HostArea& h : host) {
    if (h.end <= memory.base() || h.start >= memory.base() + memory.limit()) continue;
    const u64 start = h.start < memory.base() ? 0 : h.start - memory.base();
    const u64 end = h.end - memory.base();
    while (area != areas.end() && area->end <= start) ++area;
    for (auto a = area; a != areas.end() && a->start < end; ++a) {
      const u64 from = std::max<u64>(start, a->start), to = std::min<u64>(end, a->end);
      std::string name;
      if (h.inode == 0) {
        name = memory.name_at(a->start);
        if (name.empty() && from >= page_down(memory.brk_start()) && to <= page_up(memory.brk_now())) name = "[heap]";
      } else {
        name = guest_view(process, h.name);
      }
      char head[128];
      int n =
          std::snprintf(head, sizeof head, "%08lx-%08lx %c%c%c%c %08lx %s %lu ", from, to, (a->prot & PROT_READ) ? 'r' : '-',
                        (a->prot & PROT_WRITE) ? 'w' : '-', (a->prot & PROT_EXEC) ? 'x' : '-', a->shared ? 's' : 'p',
                        h.inode ? h.offset + (from - start) : 0ul, h.device.c_str(), h.inode);
      out.append(head, static_cast<std::size_t>(n));
      if (!name.empty()) {
        if (n < 73) out.append(static_cast<std::size_t>(73 - n), ' ');
        out += name;
      }
      out += '\n';
      if (with_counters) out += counters(h, *a, from + memory.base(), to + memory.base());
    }
  }
  return out;
}

std::string guest_bytes(Process& process, GuestAddr start, GuestAddr end) {
  std::string text(end - start, '\0');
  if (!process.memory.read(start, text.data(), text.size())) text.clear();
  return text;
}

std::size_t thread_count(Process& process) {
  std::lock_guard guard(process.threads_mutex);
  return process.threads.size();
}

/// The host's, but for what Kiln and its reservation add.
std::string status(Process& process, const std::string& path) {
  const std::string host = read_file(path.c_str());
  const Thread& thread = *current_thread();
  const std::pair<const char*, std::string> own[] = {
      {"VmPeak:", "\t" + std::to_string(process.memory.mapped_bytes() / 1024) + " kB"},
      {"VmSize:", "\t" + std::to_string(process.memory.mapped_bytes() / 1024) + " kB"},
      {"Threads:", "\t" + std::to_string(thread_count(process))},
      {"Seccomp:", "\t" + std::to_string(seccomp_mode(thread))},
      {"Seccomp_filters:", "\t" + std::to_string(seccomp_filter_count(thread))},
  };
  std::string out;
  for (std::size_t at = 0; at < host.size();) {
    const std::size_t eol = std::min(host.find('\n', at), host.size());
    std::string line = host.substr(at, eol - at);
    at = eol + 1;
    for (const auto& [name, value] : own)
      if (line.compare(0, std::strlen(name), name) == 0) line = name + value;
    out += line + "\n";
  }
  return out;
}

/// The first number is the size in pages.
std::string statm(Process& process, const std::string& path) {
  const std::string host = read_file(path.c_str());
  const std::size_t space = host.find(' ');
  return space == std::string::npos ? host : std::to_string(process.memory.mapped_bytes() / kPageSize) + host.substr(space);
}

std::string stat_line(Process& process, const std::string& path) {
  std::string line = read_file(path.c_str());
  const std::size_t close_paren = line.rfind(')');
  if (close_paren == std::string::npos) return line;
  // Fields 26..28 are startcode, endcode, startstack; 45..51 data, brk, arguments, environment (proc(5)).
  std::string out = line.substr(0, close_paren + 1);
  const ProgramImage& image = process.image;
  int field = 2;
  for (std::size_t at = close_paren + 2; at < line.size();) {
    const std::size_t next = std::min(line.find_first_of(" \n", at), line.size());
    std::string value = line.substr(at, next - at);
    at = next + 1;
    switch (++field) {
      case 20: value = std::to_string(thread_count(process)); break;
      case 23: value = std::to_string(process.memory.mapped_bytes()); break;
      case 26: value = std::to_string(image.code_start); break;
      case 27: value = std::to_string(image.code_end); break;
      case 28: value = std::to_string(image.stack_start); break;
      case 47: value = std::to_string(process.memory.brk_start()); break;
      case 48: value = std::to_string(image.arg_start); break;
      case 49: value = std::to_string(image.arg_end); break;
      case 50: value = std::to_string(image.env_start); break;
      case 51: value = std::to_string(image.env_end); break;
      default: break;
    }
    out += " " + value;
  }
  return out + "\n";
}

std::string cpuinfo(Process& process) {
  std::string out;
  const long count = sysconf(_SC_NPROCESSORS_ONLN);
  for (long i = 0; i < count; ++i) out += process.abi->cpuinfo(current_thread()->cpu, static_cast<unsigned>(i));
  return out;
}

int memory_file(const char* name, const std::string& text, int flags) {
  const int fd = memfd_create(name, (flags & O_CLOEXEC) ? MFD_CLOEXEC : 0);
  if (fd < 0) return -errno;
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t n = write(fd, text.data() + at, text.size() - at);
    if (n <= 0) break;
    at += static_cast<std::size_t>(n);
  }
  lseek(fd, 0, SEEK_SET);
  return fd;
}

}  // namespace

bool is_task_directory(int fd) {
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0 || fs.f_type != PROC_SUPER_MAGIC) return false;
  char name[64], target[256];
  std::snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(name, target, sizeof target - 1);
  return n > 0 && std::string_view(target, static_cast<std::size_t>(n)).ends_with("/" + std::to_string(getpid()) + "/task");
}

bool is_guest_task(Process& process, const char* name) {
  if (name[0] == '.') return true;
  const int tid = std::atoi(name);
  std::lock_guard guard(process.threads_mutex);
  for (const Thread* thread : process.threads)
    if (thread->tid == tid) return true;
  return false;
}

int show_guest(Process& process, int fd, int flags) {
  // Every open comes by here: what is surely none of /proc's costs one fstat.
  struct stat st;
  if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size != 0 || major(st.st_dev) != 0) return fd;
  struct statfs fs;
  if (fstatfs(fd, &fs) != 0 || fs.f_type != PROC_SUPER_MAGIC || (flags & O_PATH)) return fd;
  char name[64], target[256];
  std::snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(name, target, sizeof target - 1);
  if (n <= 0) return fd;
  target[n] = 0;
  // Wherever procfs is mounted: …/PID/entry or …/PID/task/TID/entry.
  const std::string path(target), own = "/" + std::to_string(getpid()) + "/";
  const std::size_t at = path.find(own);
  int shown = -1;
  if (at == std::string::npos && path.ends_with("/mem")) {  // a debugger's: it has PTRACE_PEEKDATA, whose addresses are the guest's
    const std::size_t number = path.find_first_of("0123456789");
    if (number == std::string::npos || !is_kiln_process(std::atoi(path.c_str() + number))) return fd;
    say_once(process, "unimplemented file /proc/PID/mem");
    close(fd);
    return -EACCES;
  }
  if (at == std::string::npos || !open_proc_file(process, "/proc" + path.substr(at), flags, shown)) return fd;
  if (shown < 0) {
    close(fd);
    return shown;
  }
  // The lowest free number, as open() promises.
  dup3(shown, fd, flags & O_CLOEXEC);
  close(shown);
  return fd;
}

bool open_proc_file(Process& process, const std::string& path, int flags, int& fd) {
  if (path.compare(0, 6, "/proc/") != 0) return false;
  std::string text;
  if (path == "/proc/cpuinfo") {
    text = cpuinfo(process);
  } else {
    const std::string entry = own_proc_entry(path);
    if (entry == "maps" || entry == "smaps") text = maps(process, entry == "smaps");
    else if (entry == "cmdline") text = guest_bytes(process, process.image.arg_start, process.image.arg_end);
    else if (entry == "environ") text = guest_bytes(process, process.image.env_start, process.image.env_end);
    else if (entry == "auxv") text.assign(process.image.auxv.begin(), process.image.auxv.end());
    else if (entry == "stat") text = stat_line(process, path);
    else if (entry == "status") text = status(process, path);
    else if (entry == "statm") text = statm(process, path);
    else if (entry == "exe") {
      fd = open(process.exe_path.c_str(), flags);
      if (fd < 0) fd = -errno;
      return true;
    } else {
      if (entry == "mem" || entry == "pagemap") {
        // The host's shows Kiln's addresses: wrong answers are worse than none.
        say_once(process, "unimplemented file /proc/self/" + entry);
        fd = -EACCES;
        return true;
      }
      return false;
    }
  }
  if ((flags & O_ACCMODE) != O_RDONLY) {
    fd = -EACCES;
    return true;
  }
  fd = memory_file("kiln-proc", text, flags);
  return true;
}

}  // namespace kiln::user
