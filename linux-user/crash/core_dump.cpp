// Core files of the guest as Linux writes them (fs/binfmt_elf.c; core(5)): notes for every thread, then memory.
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "linux-user/crash/crash.h"
#include "linux-user/crash/crash_abi.h"
#include "linux-user/crash/guest_files.h"
#include "linux-user/path.h"
#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

std::string read_line(const char* path) {
  char text[256] = {};
  const int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return {};
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  std::string line(text, n > 0 ? static_cast<std::size_t>(n) : 0);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

std::string program_name(const Process& process) { return process.exe_path.substr(process.exe_path.rfind('/') + 1); }

/// core_pattern's file; "core.PID" here where the pattern is a program's.
std::string core_path(const Process& process, int signal, int tid) {
  const std::string pattern = read_line("/proc/sys/kernel/core_pattern");
  if (pattern.empty() || pattern[0] == '|') return "core." + std::to_string(getpid());
  std::string out;
  bool pid_said = false;
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] != '%' || i + 1 == pattern.size()) {
      out += pattern[i];
      continue;
    }
    std::string value;
    switch (pattern[++i]) {
      case '%': value = "%"; break;
      case 'p':
      case 'P':
        value = std::to_string(getpid());
        pid_said = true;
        break;
      case 'i':
      case 'I': value = std::to_string(tid); break;
      case 'u': value = std::to_string(getuid()); break;
      case 'g': value = std::to_string(getgid()); break;
      case 's': value = std::to_string(signal); break;
      case 't': value = std::to_string(time(nullptr)); break;
      case 'c': value = std::to_string(process.core_limit[0]); break;
      case 'e':
      case 'f': value = program_name(process).substr(0, 15); break;
      case 'E':
        value = guest_view(process, process.exe_path);
        std::replace(value.begin(), value.end(), '/', '!');
        break;
      case 'h': {
        char host[65] = {};
        gethostname(host, sizeof host - 1);
        value = host;
        break;
      }
      default: break;
    }
    out += value;
  }
  if (!pid_said && read_line("/proc/sys/kernel/core_uses_pid") == "1") out += "." + std::to_string(getpid());
  return out;
}

/// Writes words of the guest's size.
class Fields {
 public:
  explicit Fields(bool wide) : wide_(wide) {}
  template <class T>
  Fields& put(T value) {
    text.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Fields& word(u64 value) { return wide_ ? put(value) : put(static_cast<u32>(value)); }
  Fields& name(const std::string& s, std::size_t size) {
    std::string padded = s.substr(0, size - 1);
    padded.resize(size, '\0');
    text += padded;
    return *this;
  }
  std::string text;

 private:
  bool wide_;
};

void append_note(std::string& out, const char* owner, u32 type, const std::string& data) {
  const u32 head[3] = {static_cast<u32>(std::strlen(owner) + 1), static_cast<u32>(data.size()), type};
  out.append(reinterpret_cast<const char*>(head), sizeof head);
  out.append(owner, head[0]);
  out.resize(align_up(out.size(), 4), '\0');
  out += data;
  out.resize(align_up(out.size(), 4), '\0');
}

std::string prstatus(const Thread& thread, const CrashAbi& abi, int signal, const u8* info, bool wide) {
  Fields f(wide);
  s32 code = 0, error = 0;
  if (info != nullptr) {
    std::memcpy(&error, info + 4, 4);
    std::memcpy(&code, info + 8, 4);
  }
  f.put(s32{signal}).put(code).put(error).put(static_cast<s16>(signal)).put(s16{0});
  f.word(0).word(thread.mask);
  f.put(s32{thread.tid}).put(s32{getppid()}).put(s32{getpgrp()}).put(s32{getsid(0)});
  for (int i = 0; i < 8; ++i) f.word(0);  // times
  f.text += abi.general(thread.cpu, -1);
  f.put(s32{1});  // floating-point registers follow
  f.text.resize(align_up(f.text.size(), wide ? 8 : 4), '\0');
  return f.text;
}

std::string prpsinfo(Process& process, bool wide) {
  Fields f(wide);
  f.put('\0').put('R').put('\0').put('\0');
  if (wide) f.put(u32{0});
  f.word(0);
  if (wide) f.put(u32{getuid()}).put(u32{getgid()});
  else f.put(static_cast<u16>(getuid())).put(static_cast<u16>(getgid()));
  f.put(s32{getpid()}).put(s32{getppid()}).put(s32{getpgrp()}).put(s32{getsid(0)});
  f.name(program_name(process), 16);
  std::string arguments(std::min<u64>(79, process.image.arg_end - process.image.arg_start), '\0');
  if (!process.memory.read(process.image.arg_start, arguments.data(), arguments.size())) arguments.clear();
  std::replace(arguments.begin(), arguments.end(), '\0', ' ');
  f.name(arguments, 80);
  return f.text;
}

std::string file_note(const Process& process, const std::vector<FileMapping>& files, bool wide) {
  Fields f(wide);
  f.word(files.size()).word(kPageSize);
  for (const FileMapping& m : files) f.word(m.start).word(m.end).word(m.offset / kPageSize);
  for (const FileMapping& m : files) f.text.append(guest_view(process, m.path)).push_back('\0');
  return f.text;
}

std::string all_notes(Thread& dying, const CrashAbi& abi, int signal, const u8* info, const std::vector<FileMapping>& files) {
  Process& process = *dying.process;
  const bool wide = process.abi->guest->pointer_bits == 64;
  std::string out;
  const auto thread_notes = [&](const Thread& t) {
    append_note(out, "CORE", NT_PRSTATUS, prstatus(t, abi, &t == &dying ? signal : 0, &t == &dying ? info : nullptr, wide));
    if (&t == &dying) {
      append_note(out, "CORE", NT_PRPSINFO, prpsinfo(process, wide));
      u8 guest_info[128] = {};
      if (info != nullptr) {
        std::memcpy(guest_info, info, sizeof guest_info);
        if (!wide) siginfo_to_guest32(*process.abi, info, guest_info);
      }
      append_note(out, "CORE", NT_SIGINFO, std::string(reinterpret_cast<const char*>(guest_info), sizeof guest_info));
      append_note(out, "CORE", NT_AUXV, std::string(process.image.auxv.begin(), process.image.auxv.end()));
      append_note(out, "CORE", NT_FILE, file_note(process, files, wide));
    }
    for (const CoreNote& note : abi.notes(t.cpu)) append_note(out, note.linux_only ? "LINUX" : "CORE", note.type, note.data);
  };
  thread_notes(dying);
  for (const Thread* other : process.threads)
    if (other != &dying) thread_notes(*other);
  return out;
}

/// A page's entry in /proc/self/pagemap (Documentation/admin-guide/mm/pagemap.rst).
constexpr u64 kPresent = u64{1} << 63, kSwapped = u64{1} << 62, kFilePage = u64{1} << 61;

class PageMap {
 public:
  explicit PageMap(HostAddr base) : base_(base), fd_(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC)) {}
  ~PageMap() {
    if (fd_ >= 0) close(fd_);
  }
  PageMap(const PageMap&) = delete;
  PageMap& operator=(const PageMap&) = delete;
  /// Entries of pages from `start` on; without the file everything counts as there.
  std::vector<u64> entries(GuestAddr start, std::size_t pages) const {
    std::vector<u64> list(pages, kPresent);
    if (fd_ >= 0 &&
        pread(fd_, list.data(), pages * 8, static_cast<off_t>((base_ + start) / kPageSize * 8)) != static_cast<ssize_t>(pages * 8))
      std::fill(list.begin(), list.end(), kPresent);
    return list;
  }

 private:
  HostAddr base_;
  int fd_;
};
constexpr std::size_t kPagesAtOnce = 8192;

/// How much of a mapping goes into the file: all of what the process may have changed, the first page of unchanged ELF files (their
/// headers and build ids), nothing of other files.
u64 bytes_to_dump(Process& process, const Mapping& m, const std::vector<FileMapping>& files, const PageMap& pages) {
  if (m.anonymous) return m.end - m.start;
  const bool file = std::any_of(files.begin(), files.end(), [&](const FileMapping& f) { return f.start < m.end && f.end > m.start; });
  if (!file) return m.end - m.start;
  for (GuestAddr at = m.start; !m.shared && at < m.end; at += kPagesAtOnce * kPageSize)
    for (const u64 entry : pages.entries(at, std::min<u64>(kPagesAtOnce, (m.end - at) / kPageSize)))
      if ((entry & (kPresent | kSwapped)) != 0 && (entry & kFilePage) == 0) return m.end - m.start;
  u8 magic[4];
  return process.memory.read(m.start, magic, sizeof magic) && std::memcmp(magic, ELFMAG, 4) == 0 ? kPageSize : 0;
}

struct Segment {
  GuestAddr start;
  u64 memory_bytes, file_bytes;
  u32 prot;
};

template <class Header, class Program>
std::string headers(const GuestAbi& abi, const std::string& notes, const std::vector<Segment>& segments, u64& data_at) {
  Header h{};
  std::memcpy(h.e_ident, ELFMAG, 4);
  h.e_ident[EI_CLASS] = abi.elf_class;
  h.e_ident[EI_DATA] = abi.elf_data;
  h.e_ident[EI_VERSION] = EV_CURRENT;
  h.e_type = ET_CORE;
  h.e_machine = abi.elf_machine;
  h.e_version = EV_CURRENT;
  h.e_phoff = sizeof h;
  h.e_ehsize = sizeof h;
  h.e_phentsize = sizeof(Program);
  h.e_phnum = static_cast<u16>(segments.size() + 1);
  std::string out(reinterpret_cast<const char*>(&h), sizeof h);
  const u64 notes_at = sizeof h + (segments.size() + 1) * sizeof(Program);
  const auto add = [&](u32 type, u64 offset, u64 address, u64 file, u64 memory, u32 flags, u64 alignment) {
    Program p{};
    p.p_type = type;
    p.p_flags = flags;
    p.p_offset = static_cast<decltype(p.p_offset)>(offset);
    p.p_vaddr = static_cast<decltype(p.p_vaddr)>(address);
    p.p_filesz = static_cast<decltype(p.p_filesz)>(file);
    p.p_memsz = static_cast<decltype(p.p_memsz)>(memory);
    p.p_align = static_cast<decltype(p.p_align)>(alignment);
    out.append(reinterpret_cast<const char*>(&p), sizeof p);
  };
  add(PT_NOTE, notes_at, 0, notes.size(), 0, 0, 4);
  u64 at = data_at = page_up(notes_at + notes.size());
  for (const Segment& s : segments) {
    const u32 flags = ((s.prot & PROT_READ) ? u32{PF_R} : 0) | ((s.prot & PROT_WRITE) ? u32{PF_W} : 0) | ((s.prot & PROT_EXEC) ? u32{PF_X} : 0);
    add(PT_LOAD, at, s.start, s.file_bytes, s.memory_bytes, flags, kPageSize);
    at += s.file_bytes;
  }
  return out + notes;
}

/// A file of limited size with holes where nothing is written.
class CoreFile {
 public:
  CoreFile(int fd, u64 limit) : fd_(fd), limit_(limit) {}
  bool write_at(u64 at, const void* data, std::size_t size) {
    if (at >= limit_) return true;
    size = std::min<u64>(size, limit_ - at);
    const auto* p = static_cast<const char*>(data);
    while (size != 0) {
      const ssize_t n = pwrite(fd_, p, size, static_cast<off_t>(at));
      if (n <= 0) return false;
      p += n;
      at += static_cast<u64>(n);
      size -= static_cast<std::size_t>(n);
    }
    return true;
  }
  bool finish(u64 size) { return ftruncate(fd_, static_cast<off_t>(std::min(size, limit_))) == 0; }
  bool full(u64 at) const { return at >= limit_; }

 private:
  int fd_;
  u64 limit_;
};

bool write_segment(CoreFile& file, u64 at, const Segment& s, const PageMap& map, int memory, HostAddr base) {
  std::vector<u8> buffer(64 * kPageSize);
  for (u64 done = 0; done < s.file_bytes && !file.full(at + done);) {
    const std::size_t pages = std::min<u64>(kPagesAtOnce, (s.file_bytes - done) / kPageSize);
    const std::vector<u64> entries = map.entries(s.start + done, pages);
    for (std::size_t i = 0; i < pages;) {
      // A page of a file that nobody looked at yet is not "present", but not zero either. Anonymous ones are.
      std::size_t run = 0;
      while (i + run < pages && run < 64 && (entries[i + run] & (kPresent | kSwapped)) != 0) ++run;
      if (run == 0) {
        ++i;
        continue;
      }
      const u64 offset = done + i * kPageSize;
      const ssize_t got = pread(memory, buffer.data(), run * kPageSize, static_cast<off_t>(base + s.start + offset));
      if (got > 0 && !file.write_at(at + offset, buffer.data(), static_cast<std::size_t>(got))) return false;
      i += run;
    }
    done += pages * kPageSize;
  }
  return true;
}

/// Makes the pages of a file mapping present, so that the copy above finds them.
void touch(MemoryMap& memory, const Segment& s, const std::vector<FileMapping>& files) {
  for (const FileMapping& f : files)
    for (GuestAddr at = std::max(s.start, f.start); at < std::min(s.start + s.file_bytes, f.end); at += kPageSize) {
      u8 byte;
      memory.read(at, byte);
    }
}

}  // namespace

std::string write_core(Thread& dying, int signal, const u8* info, std::string& path) {
  Process& process = *dying.process;
  const CrashAbi* abi = crash_abi(*process.abi);
  if (abi == nullptr) return std::string("not known how for ") + process.abi->name;
  const bool wide = process.abi->guest->pointer_bits == 64;
  const HostAddr base = process.memory.base();
  const std::vector<FileMapping> files = file_mappings(process);
  const std::string notes = all_notes(dying, *abi, signal, info, files);
  const PageMap pages(base);
  std::vector<Segment> segments;
  for (const Mapping& m : process.memory.mappings()) {
    const Segment s{m.start, m.end - m.start, bytes_to_dump(process, m, files, pages), m.prot};
    touch(process.memory, s, files);
    segments.push_back(s);
  }
  if (segments.size() >= PN_XNUM - 1) return "more than 65,000 mappings";

  path = core_path(process, signal, dying.tid);
  const int memory = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
  if (memory < 0) return "/proc/self/mem: " + std::string(std::strerror(errno));
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);
  if (fd < 0) {
    const std::string why = path + ": " + std::strerror(errno);
    close(memory);
    return why;
  }
  u64 at = 0;
  const std::string head = wide ? headers<Elf64_Ehdr, Elf64_Phdr>(*process.abi, notes, segments, at)
                                : headers<Elf32_Ehdr, Elf32_Phdr>(*process.abi, notes, segments, at);
  CoreFile file(fd, process.core_limit[0]);
  bool ok = file.write_at(0, head.data(), head.size());
  for (const Segment& s : segments) {
    ok = ok && write_segment(file, at, s, pages, memory, base);
    at += s.file_bytes;
  }
  ok = ok && file.finish(at);
  const int error = errno;
  close(fd);
  close(memory);
  return ok ? std::string() : path + ": " + std::strerror(error);
}

}  // namespace kiln::user
