#include "linux-user/crash/guest_files.h"

#include <cxxabi.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace kiln::user {

std::vector<FileMapping> file_mappings(const Process& process) {
  std::vector<FileMapping> list;
  std::FILE* file = std::fopen("/proc/self/maps", "re");
  if (file == nullptr) return list;
  const HostAddr base = process.memory.base(), limit = base + process.memory.limit();
  char* line = nullptr;
  std::size_t room = 0;
  while (getline(&line, &room, file) > 0) {
    unsigned long start, end, offset, inode;
    int name_at = 0;
    if (std::sscanf(line, "%lx-%lx %*s %lx %*s %lu %n", &start, &end, &offset, &inode, &name_at) < 4) continue;
    if (inode == 0 || start < base || end > limit || line[name_at] != '/') continue;
    std::string path(line + name_at, std::strcspn(line + name_at, "\n"));
    FileMapping fresh{start - base, end - base, offset, path};
    // Rights that differ split what is one mapping to whoever reads about it.
    if (!list.empty() && list.back().end == fresh.start && list.back().path == path &&
        list.back().offset + (list.back().end - list.back().start) == offset)
      list.back().end = fresh.end;
    else
      list.push_back(std::move(fresh));
  }
  std::free(line);
  std::fclose(file);
  return list;
}

ElfFile::ElfFile(const std::string& path) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  struct stat st;
  if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 64) {
    void* p = mmap(nullptr, static_cast<std::size_t>(st.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (p != MAP_FAILED) data_ = {static_cast<const u8*>(p), static_cast<std::size_t>(st.st_size)};
  }
  close(fd);
  parse();
}

ElfFile::~ElfFile() {
  if (!data_.empty()) munmap(const_cast<u8*>(data_.data()), data_.size());
}

template <class T>
bool ElfFile::read(u64 offset, T& out) const {
  if (offset > data_.size() || data_.size() - offset < sizeof out) return false;
  std::memcpy(&out, data_.data() + offset, sizeof out);
  return true;
}

void ElfFile::parse() {
  if (data_.size() < 64 || std::memcmp(data_.data(), ELFMAG, 4) != 0 || data_[EI_DATA] != ELFDATA2LSB) return;
  wide_ = data_[EI_CLASS] == ELFCLASS64;
  constexpr unsigned kMost = 4096;
  const auto load = [&](auto header, auto segment, auto section) {
    if (!read(0, header)) return;
    for (unsigned i = 0; i < header.e_phnum && i < kMost; ++i) {
      if (!read(header.e_phoff + u64{i} * header.e_phentsize, segment)) break;
      if (segment.p_type == PT_LOAD) segments_.push_back({segment.p_offset, segment.p_vaddr, segment.p_filesz});
    }
    std::vector<u32> names;
    for (unsigned i = 0; i < header.e_shnum && i < kMost; ++i) {
      if (!read(header.e_shoff + u64{i} * header.e_shentsize, section)) break;
      sections_.push_back({section.sh_type, section.sh_link, section.sh_addr, section.sh_offset, section.sh_size, section.sh_entsize, {}});
      names.push_back(section.sh_name);
    }
    if (header.e_shstrndx >= sections_.size()) return;
    const Section strings = sections_[header.e_shstrndx];
    for (std::size_t i = 0; i < sections_.size(); ++i) {
      const u64 at = strings.offset + names[i];
      if (names[i] < strings.size && at < data_.size())
        sections_[i].name.assign(reinterpret_cast<const char*>(data_.data() + at),
                                 strnlen(reinterpret_cast<const char*>(data_.data() + at), std::min<u64>(64, data_.size() - at)));
    }
  };
  if (wide_) load(Elf64_Ehdr{}, Elf64_Phdr{}, Elf64_Shdr{});
  else load(Elf32_Ehdr{}, Elf32_Phdr{}, Elf32_Shdr{});
}

bool ElfFile::address_of(u64 offset, u64& address) const {
  for (const Segment& s : segments_) {
    // A mapping begins at a page; so may the part in front of the segment.
    const u64 first = page_down(s.offset);
    if (offset < first || offset >= s.offset + s.file_size) continue;
    address = s.address - s.offset + offset;
    return true;
  }
  return false;
}

std::span<const u8> ElfFile::bytes_at(u64 address) const {
  for (const Segment& s : segments_)
    if (address >= s.address && address - s.address < s.file_size && s.offset + s.file_size <= data_.size())
      return data_.subspan(s.offset + (address - s.address), s.file_size - (address - s.address));
  return {};
}

std::span<const u8> ElfFile::eh_frame(u64& address) const {
  for (const Section& s : sections_) {
    if (s.name != ".eh_frame" || s.type == SHT_NOBITS || s.offset > data_.size() || data_.size() - s.offset < s.size) continue;
    address = s.address;
    return data_.subspan(s.offset, s.size);
  }
  return {};
}

std::string ElfFile::function(u64 address, u64& distance) const {
  u64 best = 0;
  std::string name;
  const auto look = [&](const Section& table, auto symbol) {
    if (table.link >= sections_.size()) return;
    const Section& strings = sections_[table.link];
    for (u64 at = table.offset; at + sizeof symbol <= table.offset + table.size && read(at, symbol); at += sizeof symbol) {
      const unsigned type = symbol.st_info & 15;
      if ((type != STT_FUNC && type != STT_GNU_IFUNC && type != STT_NOTYPE) || symbol.st_shndx == SHN_UNDEF) continue;
      const u64 value = symbol.st_value;
      if (value > address || value < best || value == 0) continue;
      if (symbol.st_shndx >= sections_.size()) continue;
      const Section& home = sections_[symbol.st_shndx];
      if (address < home.address || address - home.address >= home.size) continue;
      // Assembler labels have no size: good until the next symbol.
      if (symbol.st_size != 0 ? address - value >= symbol.st_size : type != STT_NOTYPE && address != value) continue;
      const u64 text = strings.offset + symbol.st_name;
      if (symbol.st_name >= strings.size || text >= data_.size()) continue;
      const char* p = reinterpret_cast<const char*>(data_.data() + text);
      if (*p == 0 || *p == '$' || (value == best && !name.empty())) continue;  // $x: ARM's mapping symbols
      best = value;
      name.assign(p, strnlen(p, std::min<u64>(4096, data_.size() - text)));
    }
  };
  for (const u32 kind : {SHT_SYMTAB, SHT_DYNSYM}) {
    for (const Section& s : sections_) {
      if (s.type != kind) continue;
      if (wide_) look(s, Elf64_Sym{});
      else look(s, Elf32_Sym{});
    }
    if (!name.empty()) break;
  }
  distance = address - best;
  if (name.starts_with("_Z")) {
    int status = 0;
    if (char* plain = abi::__cxa_demangle(name.c_str(), nullptr, nullptr, &status)) {
      name = plain;
      std::free(plain);
    }
  }
  return name;
}

CodePlace GuestFiles::place(GuestAddr pc) {
  CodePlace place;
  for (const FileMapping& m : mappings_) {
    if (pc < m.start || pc >= m.end) continue;
    place.path = m.path;
    auto& file = files_[m.path];
    if (file == nullptr) file = std::make_unique<ElfFile>(m.path);
    if (file->valid() && file->address_of(m.offset + (pc - m.start), place.address)) {
      place.file = file.get();
      place.bias = pc - place.address;
    }
    break;
  }
  return place;
}

std::string GuestFiles::describe(GuestAddr pc, bool is_return) {
  char text[32];
  std::snprintf(text, sizeof text, "%#018lx", pc);
  std::string out = text;
  const CodePlace at = place(pc - (is_return ? 1 : 0));
  if (at.path.empty()) return out + " ?";
  u64 distance = 0;
  std::string name = at.file != nullptr ? at.file->function(at.address, distance) : std::string();
  if (name.empty()) {
    name = "?";
    distance = 0;
  }
  std::snprintf(text, sizeof text, "+%#lx", distance + (is_return ? 1 : 0));
  out += " " + name + (name == "?" ? "" : text) + " (" + at.path.substr(at.path.rfind('/') + 1);
  if (name == "?") {
    std::snprintf(text, sizeof text, "+%#lx", at.file != nullptr ? at.address + (is_return ? 1 : 0) : pc);
    out += text;
  }
  return out + ")";
}

}  // namespace kiln::user
