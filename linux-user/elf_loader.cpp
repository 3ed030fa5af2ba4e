#include "linux-user/elf_loader.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>

#include "linux-user/path.h"

namespace kiln::user {
namespace {

struct File {
  int fd = -1;
  u64 size = 0;
  ~File() {
    if (fd >= 0) close(fd);
  }
};

/// Class and byte order made uniform.
struct Segment {
  u32 type, flags;
  u64 offset, address, file_size, memory_size;
};
struct Header {
  u16 type, machine;
  u8 elf_class, data;
  u64 entry, phoff;
  u16 phentsize, phnum;
  std::vector<Segment> segments;
};

template <class T>
T fix(T v, bool swap) {
  if (!swap) return v;
  if constexpr (sizeof(T) == 2) return static_cast<T>(__builtin_bswap16(static_cast<u16>(v)));
  else if constexpr (sizeof(T) == 4) return static_cast<T>(__builtin_bswap32(static_cast<u32>(v)));
  else return static_cast<T>(__builtin_bswap64(static_cast<u64>(v)));
}

template <class Ehdr, class Phdr>
Result<Header> parse(const File& file, const unsigned char* ident) {
  const bool swap = (ident[EI_DATA] == ELFDATA2MSB) != (std::endian::native == std::endian::big);
  Ehdr e;
  if (pread(file.fd, &e, sizeof e, 0) != static_cast<ssize_t>(sizeof e)) return Error{"truncated ELF file"};
  Header h{};
  h.type = fix(e.e_type, swap);
  h.machine = fix(e.e_machine, swap);
  h.elf_class = ident[EI_CLASS];
  h.data = ident[EI_DATA];
  h.entry = fix(e.e_entry, swap);
  h.phoff = fix(e.e_phoff, swap);
  h.phentsize = fix(e.e_phentsize, swap);
  h.phnum = fix(e.e_phnum, swap);
  if (h.phentsize != sizeof(Phdr) || h.phnum == 0 || h.phnum > 512) return Error{"malformed ELF file (program headers)"};
  std::vector<Phdr> table(h.phnum);
  const std::size_t bytes = table.size() * sizeof(Phdr);
  if (pread(file.fd, table.data(), bytes, static_cast<off_t>(h.phoff)) != static_cast<ssize_t>(bytes))
    return Error{"truncated ELF file"};
  for (const Phdr& p : table) {
    const Segment s{fix(p.p_type, swap),  fix(p.p_flags, swap),  fix(p.p_offset, swap),
                    fix(p.p_vaddr, swap), fix(p.p_filesz, swap), fix(p.p_memsz, swap)};
    if ((s.type == PT_LOAD || s.type == PT_INTERP) && (s.offset > file.size || s.file_size > file.size - s.offset))
      return Error{"truncated ELF file"};
    if (s.type == PT_LOAD && (s.memory_size < s.file_size || s.address + s.memory_size < s.address))
      return Error{"malformed ELF file (segment sizes)"};
    h.segments.push_back(s);
  }
  return h;
}

Result<Header> open_elf(const std::string& path, int fd, File& file) {
  file.fd = fd >= 0 ? fcntl(fd, F_DUPFD_CLOEXEC, 0) : open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file.fd < 0) return Error{std::strerror(errno)};
  struct stat st;
  if (fstat(file.fd, &st) != 0) return Error{std::strerror(errno)};
  if (S_ISDIR(st.st_mode)) return Error{std::strerror(EISDIR)};
  file.size = static_cast<u64>(st.st_size);
  unsigned char ident[EI_NIDENT];
  const ssize_t got = pread(file.fd, ident, sizeof ident, 0);
  if (got < 4 || std::memcmp(ident, ELFMAG, SELFMAG) != 0) return Error{"not an ELF program"};
  if (got < EI_NIDENT) return Error{"truncated ELF file"};
  if (ident[EI_CLASS] == ELFCLASS64) return parse<Elf64_Ehdr, Elf64_Phdr>(file, ident);
  if (ident[EI_CLASS] == ELFCLASS32) return parse<Elf32_Ehdr, Elf32_Phdr>(file, ident);
  return Error{"malformed ELF file (class)"};
}

u32 prot_of(u32 flags) {
  return ((flags & PF_R) ? PROT_READ : 0) | ((flags & PF_W) ? PROT_WRITE : 0) | ((flags & PF_X) ? PROT_EXEC : 0);
}

struct Placed {
  GuestAddr bias = 0, low = 0, high = 0, brk = 0, code_start = ~u64{0}, code_end = 0;
};

Result<Placed> map_segments(MemoryMap& memory, const Header& h, const File& file, GuestAddr wanted_base) {
  GuestAddr low = ~u64{0}, high = 0;
  for (const Segment& s : h.segments) {
    if (s.type != PT_LOAD || s.memory_size == 0) continue;
    low = std::min(low, page_down(s.address));
    high = std::max(high, page_up(s.address + s.memory_size));
  }
  if (low >= high) return Error{"ELF file has nothing to load"};
  Placed placed;
  if (h.type == ET_DYN) {
    // One reservation for all segments, so that they keep their distances.
    const s64 at = memory.map(wanted_base, high - low, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at < 0) return Error{std::string("cannot map: ") + std::strerror(static_cast<int>(-at))};
    placed.bias = static_cast<GuestAddr>(at) - low;
  } else if (!memory.in_range(low, high - low)) {
    return Error{"segments lie outside the guest's address space"};
  }
  placed.low = low + placed.bias;
  placed.high = high + placed.bias;
  for (const Segment& s : h.segments) {
    if (s.type != PT_LOAD || s.memory_size == 0) continue;
    const GuestAddr address = s.address + placed.bias;
    const GuestAddr start = page_down(address), file_end = address + s.file_size, end = page_up(address + s.memory_size);
    const u64 head = address - start;
    if (s.file_size && (s.offset & (kPageSize - 1)) != head) return Error{"malformed ELF file (segment alignment)"};
    const u32 prot = prot_of(s.flags);
    GuestAddr mapped_to = start;
    s64 r = 0;
    if (s.file_size) {
      r = memory.map(start, s.file_size + head, prot, MAP_PRIVATE | MAP_FIXED, file.fd, s.offset - head);
      mapped_to = page_up(file_end);
    }
    if (r >= 0 && end > mapped_to)
      r = memory.map(mapped_to, end - mapped_to, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (r < 0) return Error{std::string("cannot map a segment: ") + std::strerror(static_cast<int>(-r))};
    if (s.memory_size > s.file_size && s.file_size && (file_end & (kPageSize - 1))) {
      const std::vector<u8> zeros(page_up(file_end) - file_end);
      if (!(prot & PROT_WRITE)) memory.protect(page_down(file_end), kPageSize, prot | PROT_WRITE);
      memory.write(file_end, zeros.data(), zeros.size());
      if (!(prot & PROT_WRITE)) memory.protect(page_down(file_end), kPageSize, prot);
    }
    placed.brk = std::max(placed.brk, end);
    if (s.flags & PF_X) {
      placed.code_start = std::min(placed.code_start, address);
      placed.code_end = std::max(placed.code_end, file_end);
    }
  }
  return placed;
}

class StackWriter {
 public:
  StackWriter(MemoryMap& memory, GuestAddr top) : sp_(top), memory_(memory) {}
  GuestAddr bytes(const void* data, std::size_t size) {
    sp_ -= size;
    ok_ &= memory_.write(sp_, data, size);
    return sp_;
  }
  GuestAddr text(const std::string& s) { return bytes(s.c_str(), s.size() + 1); }
  void align(u64 to) { sp_ = align_down(sp_, to); }
  GuestAddr sp() const { return sp_; }
  bool ok() const { return ok_; }

 private:
  GuestAddr sp_;
  MemoryMap& memory_;
  bool ok_ = true;
};

}  // namespace

std::string machine_name(const ElfIdentity& id) {
  const bool is64 = id.elf_class == ELFCLASS64;
  const bool little = id.data == ELFDATA2LSB;
  switch (id.machine) {
    case EM_X86_64: return "x86-64";
    case EM_386: return "i386";
    case EM_ARM: return little ? "ARM" : "big-endian ARM";
    case EM_AARCH64: return little ? "AArch64" : "big-endian AArch64";
    case EM_RISCV: return is64 ? "RISC-V 64" : "RISC-V 32";
    case EM_MIPS: return std::string("MIPS") + (is64 ? " 64" : "") + (little ? " (little-endian)" : " (big-endian)");
    case EM_PPC: return "PowerPC";
    case EM_PPC64: return little ? "PowerPC 64 (little-endian)" : "PowerPC 64";
    case EM_S390: return "s390x";
    case EM_SPARC:
    case EM_SPARC32PLUS: return "SPARC";
    case EM_SPARCV9: return "SPARC 64";
    default: return "machine " + std::to_string(id.machine);
  }
}

Result<ElfIdentity> identify_elf(const std::string& host_path, int fd) {
  File file;
  Result<Header> h = open_elf(host_path, fd, file);
  if (!h) return Error{h.error()};
  return ElfIdentity{h->machine, h->elf_class, h->data};
}

Result<void> load_program(Process& process, const std::string& host_path, int fd) {
  File file;
  Result<Header> h = open_elf(host_path, fd, file);
  if (!h) return Error{h.error()};
  if (h->type != ET_EXEC && h->type != ET_DYN) return Error{"not an executable ELF file (object or core file?)"};
  MemoryMap& memory = process.memory;
  ProgramImage& image = process.image;

  // Linux's layout: stack at the top, mappings grow down from below it, PIE at two thirds.
  const u64 stack_gap = std::max<u64>(process.options.stack_size, u64{128} << 20) + (u64{16} << 20);
  memory.set_mmap_base(memory.limit() - stack_gap);
  constexpr GuestAddr kPieBase32 = 0x56555000;
  const GuestAddr pie_base = process.abi->guest->pointer_bits == 32 ? kPieBase32 : page_down(memory.limit() / 3 * 2);

  Result<Placed> program = map_segments(memory, *h, file, h->type == ET_DYN ? pie_base : 0);
  if (!program) return Error{program.error()};
  image.entry = image.start = h->entry + program->bias;
  image.lowest = program->low;
  image.end = program->high;
  image.code_start = program->code_start;
  image.code_end = program->code_end;
  image.phnum = h->phnum;
  image.phent = h->phentsize;
  image.phdr = 0;
  std::string interpreter;
  image.executable_stack = h->machine == EM_386;  // i386 programs of before PT_GNU_STACK counted on it
  for (const Segment& s : h->segments) {
    if (s.type == PT_GNU_STACK) image.executable_stack = (s.flags & PF_X) != 0;
    if (s.type == PT_PHDR) image.phdr = s.address + program->bias;
    if (s.type == PT_INTERP && s.file_size > 1 && s.file_size < 4096) {
      interpreter.resize(s.file_size - 1);
      if (pread(file.fd, interpreter.data(), interpreter.size(), static_cast<off_t>(s.offset)) < 0)
        return Error{"truncated ELF file"};
      interpreter = interpreter.c_str();
    }
  }
  if (image.phdr == 0)
    for (const Segment& s : h->segments)
      if (s.type == PT_LOAD && h->phoff >= s.offset && h->phoff < s.offset + s.file_size)
        image.phdr = h->phoff - s.offset + s.address + program->bias;
  // Linux leaves up to 32 MiB between .bss and the heap: they are two mappings.
  memory.set_brk(page_up(program->brk) + kPageSize);

  if (!interpreter.empty()) {
    const std::string path = resolve_path(process, interpreter, Follow::Yes);
    File ld_file;
    Result<Header> ld = open_elf(path, -1, ld_file);
    if (!ld || ld->machine != h->machine) {
      return Error{"its dynamic loader " + interpreter + (ld ? " is for another processor" : " was not found") +
                   ": needs -L with an " + process.abi->name + " sysroot"};
    }
    Result<Placed> placed = map_segments(memory, *ld, ld_file, 0);
    if (!placed) return Error{interpreter + ": " + placed.error()};
    image.interpreter_base = placed->bias;
    image.start = ld->entry + placed->bias;
  }

  // No vdso: a page with the code that signal handlers return to.
  if (process.abi->sigreturn_code.empty()) return {};
  const s64 page = memory.map(0, kPageSize, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page < 0) return Error{"out of memory"};
  process.sigreturn_address = static_cast<GuestAddr>(page);
  memory.write(process.sigreturn_address, process.abi->sigreturn_code.data(), process.abi->sigreturn_code.size());
  memory.protect(process.sigreturn_address, kPageSize, PROT_READ | PROT_EXEC);
  memory.set_name(process.sigreturn_address, "[sigpage]");
  return {};
}

Result<void> build_stack(Process& process, const std::string& execfn, const std::vector<std::string>& args,
                         const std::vector<std::string>& env) {
  MemoryMap& memory = process.memory;
  ProgramImage& image = process.image;
  u64 size = process.options.stack_size;
  if (size == 0) {
    rlimit limit{};
    getrlimit(RLIMIT_STACK, &limit);
    size = limit.rlim_cur == RLIM_INFINITY ? u64{8} << 20 : std::clamp<u64>(limit.rlim_cur, u64{1} << 20, u64{1} << 30);
  }
  size = page_up(size);
  const GuestAddr top = process.abi->task_size ? process.abi->task_size : memory.limit() - kPageSize;
  const u32 prot = u32{PROT_READ | PROT_WRITE} | (image.executable_stack ? u32{PROT_EXEC} : 0);
  const s64 low = memory.map(top - size, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  if (low < 0) return Error{"cannot map the stack"};
  image.stack_low = static_cast<GuestAddr>(low);
  image.stack_high = top;
  memory.set_name(image.stack_low, "[stack]");

  StackWriter w(memory, top - 8);
  const GuestAddr execfn_at = w.text(execfn);
  std::vector<GuestAddr> env_at(env.size()), arg_at(args.size());
  image.env_end = w.sp();
  for (std::size_t i = env.size(); i-- > 0;) env_at[i] = w.text(env[i]);
  image.env_start = image.arg_end = w.sp();
  for (std::size_t i = args.size(); i-- > 0;) arg_at[i] = w.text(args[i]);
  image.arg_start = w.sp();
  const GuestAddr platform_at = w.text(process.abi->platform);
  u8 random[16];
  if (getrandom(random, sizeof random, 0) != static_cast<ssize_t>(sizeof random)) std::memset(random, 0x5a, sizeof random);
  w.align(16);
  const GuestAddr random_at = w.bytes(random, sizeof random);

  const GuestAbi& abi = *process.abi;
  const ir::CpuState* cpu = current_thread()->cpu;
  const std::pair<u64, u64> auxv[] = {
      {AT_HWCAP, abi.hwcap(cpu)},
      {AT_PAGESZ, kPageSize},
      {AT_CLKTCK, static_cast<u64>(sysconf(_SC_CLK_TCK))},
      {AT_PHDR, image.phdr},
      {AT_PHENT, image.phent},
      {AT_PHNUM, image.phnum},
      {AT_BASE, image.interpreter_base},
      {AT_FLAGS, 0},
      {AT_ENTRY, image.entry},
      {AT_UID, getuid()},
      {AT_EUID, geteuid()},
      {AT_GID, getgid()},
      {AT_EGID, getegid()},
      {AT_SECURE, getauxval(AT_SECURE)},
      {AT_RANDOM, random_at},
      {AT_HWCAP2, abi.hwcap2(cpu)},
      {AT_EXECFN, execfn_at},
      {AT_PLATFORM, platform_at},
      {AT_MINSIGSTKSZ, abi.minimal_frame(cpu)},
      {AT_NULL, 0},
  };
  const bool is64 = abi.guest->pointer_bits == 64;
  std::vector<u8> words;
  auto put = [&](u64 value) {
    u8 raw[8];
    const std::size_t n = is64 ? 8 : 4;
    for (std::size_t i = 0; i < n; ++i) {
      const std::size_t byte = abi.guest->big_endian ? n - 1 - i : i;
      raw[i] = static_cast<u8>(value >> (8 * byte));
    }
    words.insert(words.end(), raw, raw + n);
  };
  put(args.size());
  for (GuestAddr a : arg_at) put(a);
  put(0);
  for (GuestAddr a : env_at) put(a);
  put(0);
  const std::size_t auxv_begin = words.size();
  for (const auto& [type, value] : auxv) {
    put(type);
    put(value);
  }
  image.auxv.assign(words.begin() + static_cast<std::ptrdiff_t>(auxv_begin), words.end());
  const GuestAddr sp = align_down(w.sp() - words.size(), 16);
  if (!w.ok() || sp < image.stack_low || !memory.write(sp, words.data(), words.size()))
    return Error{"arguments and environment do not fit on the stack"};
  image.stack_start = sp;
  return {};
}

}  // namespace kiln::user
