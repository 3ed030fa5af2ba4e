// /proc files that would show Kiln instead of the guest: made up as the guest must see them, snapshot at open().
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "linux-user/path.h"

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

/// Device, inode and name come from the host's own maps; addresses and rights from the guest's mappings.
std::string maps(Process& process) {
  MemoryMap& memory = process.memory;
  const std::string host = read_file("/proc/self/maps");
  const std::vector<Mapping> areas = memory.mappings();
  std::string out;
  auto area = areas.begin();
  for (std::size_t at = 0; at < host.size();) {
    const std::size_t eol = std::min(host.find('\n', at), host.size());
    const std::string line = host.substr(at, eol - at);
    at = eol + 1;
    unsigned long start, end, offset, inode;
    char perms[8], device[16];
    int name_at = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx %7s %lx %15s %lu %n", &start, &end, perms, &offset, device, &inode, &name_at) < 6)
      continue;
    if (end <= memory.base() || start >= memory.base() + memory.limit()) continue;
    start = start < memory.base() ? 0 : start - memory.base();
    end -= memory.base();
    while (area != areas.end() && area->end <= start) ++area;
    for (auto a = area; a != areas.end() && a->start < end; ++a) {
      const u64 from = std::max<u64>(start, a->start), to = std::min<u64>(end, a->end);
      std::string name = name_at > 0 ? line.substr(static_cast<std::size_t>(name_at)) : std::string();
      if (inode == 0) {
        name = memory.name_at(a->start);
        if (name.empty() && from >= page_down(memory.brk_start()) && to <= page_up(memory.brk_now())) name = "[heap]";
      } else {
        name = guest_view(process, name);
      }
      char head[128];
      int n =
          std::snprintf(head, sizeof head, "%08lx-%08lx %c%c%c%c %08lx %s %lu ", from, to, (a->prot & PROT_READ) ? 'r' : '-',
                        (a->prot & PROT_WRITE) ? 'w' : '-', (a->prot & PROT_EXEC) ? 'x' : '-', a->shared ? 's' : 'p',
                        inode ? offset + (from - start) : 0ul, device, inode);
      out.append(head, static_cast<std::size_t>(n));
      if (!name.empty()) {
        if (n < 73) out.append(static_cast<std::size_t>(73 - n), ' ');
        out += name;
      }
      out += '\n';
    }
  }
  return out;
}

std::string guest_bytes(Process& process, GuestAddr start, GuestAddr end) {
  std::string text(end - start, '\0');
  if (!process.memory.read(start, text.data(), text.size())) text.clear();
  return text;
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

bool open_proc_file(Process& process, const std::string& path, int flags, int& fd) {
  if (path.compare(0, 6, "/proc/") != 0) return false;
  std::string text;
  if (path == "/proc/cpuinfo") {
    text = cpuinfo(process);
  } else {
    const std::string entry = own_proc_entry(path);
    if (entry == "maps") text = maps(process);
    else if (entry == "cmdline") text = guest_bytes(process, process.image.arg_start, process.image.arg_end);
    else if (entry == "environ") text = guest_bytes(process, process.image.env_start, process.image.env_end);
    else if (entry == "auxv") text.assign(process.image.auxv.begin(), process.image.auxv.end());
    else if (entry == "stat") text = stat_line(process, path);
    else if (entry == "exe") {
      fd = open(process.exe_path.c_str(), flags);
      if (fd < 0) fd = -errno;
      return true;
    } else {
      if (entry == "smaps" || entry == "mem" || entry == "pagemap") {
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
