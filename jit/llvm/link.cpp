#include "jit/llvm/link.h"

#include <elf.h>

#include <algorithm>
#include <cstring>

namespace kiln::jit {

namespace {

constexpr const char* kFaultSection = ".kiln_fault";
constexpr std::size_t kVeneerBytes = 16;  // jmp *2(%rip); padding; address

struct Section {
  const Elf64_Shdr* header = nullptr;
  const char* name = "";
  std::size_t offset = 0;  // in the code memory
  bool placed = false;     // has bytes in the code memory
  std::vector<u8> table;   // the fault table is relocated aside: nobody needs it in code memory
};

class Linker {
 public:
  Linker(std::span<const char> object, const std::map<std::string, HostAddr>& symbols, const RegionRequest& request,
         const FaultSites& sites)
      : object_(object), symbols_(symbols), request_(request), sites_(sites) {}

  Result<RegionCode> run() {
    read_sections();
    place();
    code_.memory = request_.allocate(total_);
    if (!code_.memory.writable) return Error{"tier 2: no code memory"};
    std::memset(code_.memory.writable, 0xcc, code_.memory.size);
    for (Section& s : sections_) {
      if (!s.placed) continue;
      u8* to = code_.memory.writable + s.offset;
      if (s.header->sh_type == SHT_NOBITS) std::memset(to, 0, s.header->sh_size);
      else std::memcpy(to, object_.data() + s.header->sh_offset, s.header->sh_size);
    }
    for (const Section& s : sections_)
      if (s.header->sh_type == SHT_RELA)
        if (std::string error = relocate(s); !error.empty()) return Error{error};
    for (const Elf64_Sym& symbol : elf_symbols_)
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC && std::strcmp(symbol_name(symbol), "region") == 0)
        code_.entry = code_.memory.executable + sections_[symbol.st_shndx].offset + symbol.st_value;
    if (!code_.entry) return Error{"tier 2: the object has no entry"};
    for (const Section& s : sections_)
      for (std::size_t i = 0; i + 16 <= s.table.size(); i += 16) {
        FaultEntry entry;
        std::memcpy(&entry.pc, &s.table[i], 8);
        std::memcpy(&entry.label, &s.table[i + 8], 8);
        code_.faults.push_back(entry);
      }
    add_accesses();
    std::sort(code_.faults.begin(), code_.faults.end(), [](auto& a, auto& b) { return a.pc < b.pc; });
    return std::move(code_);
  }

 private:
  void read_sections() {
    const auto* header = reinterpret_cast<const Elf64_Ehdr*>(object_.data());
    const auto* first = reinterpret_cast<const Elf64_Shdr*>(object_.data() + header->e_shoff);
    const char* names = object_.data() + first[header->e_shstrndx].sh_offset;
    for (unsigned i = 0; i < header->e_shnum; ++i) {
      Section s;
      s.header = first + i;
      s.name = names + first[i].sh_name;
      if (std::strcmp(s.name, kFaultSection) == 0) {
        const char* bytes = object_.data() + s.header->sh_offset;
        s.table.assign(bytes, bytes + s.header->sh_size);
      }
      if (s.header->sh_type == SHT_SYMTAB) {
        const auto* table = reinterpret_cast<const Elf64_Sym*>(object_.data() + s.header->sh_offset);
        elf_symbols_ = {table, s.header->sh_size / sizeof(Elf64_Sym)};
        strings_ = object_.data() + first[s.header->sh_link].sh_offset;
      }
      sections_.push_back(s);
    }
  }

  /// Code first, then constants, then room for veneers.
  void place() {
    for (const bool code : {true, false})
      for (Section& s : sections_) {
        if (!(s.header->sh_flags & SHF_ALLOC) || !s.table.empty() || s.header->sh_size == 0) continue;
        if (((s.header->sh_flags & SHF_EXECINSTR) != 0) != code || std::strcmp(s.name, ".eh_frame") == 0) continue;
        total_ = align_up(total_, std::max<u64>(s.header->sh_addralign, 1));
        s.offset = total_;
        s.placed = true;
        total_ += s.header->sh_size;
      }
    veneers_ = align_up(total_, kVeneerBytes);
    std::size_t externals = 0;
    for (const Elf64_Sym& symbol : elf_symbols_) externals += symbol.st_shndx == SHN_UNDEF;
    total_ = veneers_ + externals * kVeneerBytes;
  }

  void add_accesses() {
    const std::size_t prefix = std::strlen(kFaultSymbol);
    for (const Elf64_Sym& symbol : elf_symbols_) {
      const char* name = symbol_name(symbol);
      if (std::strncmp(name, kFaultSymbol, prefix) != 0) continue;
      const FaultSites::Emitted& access = sites_.emitted[std::strtoul(name + prefix, nullptr, 10)];
      FaultEntry entry;
      entry.pc = code_.memory.executable + sections_[symbol.st_shndx].offset + symbol.st_value;
      entry.guest_pc = access.pc;
      entry.first_value = static_cast<u32>(code_.fault_values.size());
      entry.values = static_cast<u32>(access.values.size());
      code_.fault_values.insert(code_.fault_values.end(), access.values.begin(), access.values.end());
      code_.faults.push_back(entry);
    }
  }

  const char* symbol_name(const Elf64_Sym& symbol) const { return strings_ + symbol.st_name; }

  /// A jump to `target` inside the code memory.
  HostAddr veneer(HostAddr target) {
    auto [it, fresh] = veneer_of_.try_emplace(target, veneers_);
    if (fresh) {
      static constexpr u8 kJump[8] = {0xff, 0x25, 2, 0, 0, 0, 0xcc, 0xcc};
      u8* at = code_.memory.writable + veneers_;
      std::memcpy(at, kJump, 8);
      std::memcpy(at + 8, &target, 8);
      veneers_ += kVeneerBytes;
    }
    return code_.memory.executable + it->second;
  }

  std::string relocate(const Section& relocations) {
    Section& target = sections_[relocations.header->sh_info];
    if (!target.placed && target.table.empty()) return {};
    const auto* first = reinterpret_cast<const Elf64_Rela*>(object_.data() + relocations.header->sh_offset);
    for (std::size_t i = 0; i < relocations.header->sh_size / sizeof(Elf64_Rela); ++i) {
      const Elf64_Rela& r = first[i];
      const Elf64_Sym& symbol = elf_symbols_[ELF64_R_SYM(r.r_info)];
      u8* place = target.placed ? code_.memory.writable + target.offset + r.r_offset : target.table.data() + r.r_offset;
      const HostAddr address = code_.memory.executable + target.offset + r.r_offset;
      HostAddr value = 0;
      if (symbol.st_shndx == SHN_UNDEF) {
        auto it = symbols_.find(symbol_name(symbol));
        if (it == symbols_.end()) return std::string("tier 2: LLVM wants the function ") + symbol_name(symbol);
        value = it->second;
      } else if (symbol.st_shndx == SHN_ABS) {
        value = symbol.st_value;
      } else {
        value = code_.memory.executable + sections_[symbol.st_shndx].offset + symbol.st_value;
      }
      const u64 addend = static_cast<u64>(r.r_addend);
      switch (ELF64_R_TYPE(r.r_info)) {
        case R_X86_64_64:
          value += addend;
          std::memcpy(place, &value, 8);
          break;
        case R_X86_64_PLT32:
        case R_X86_64_PC32: {
          s64 distance = static_cast<s64>(value + addend - address);
          if (distance != static_cast<s32>(distance) && symbol.st_shndx == SHN_UNDEF)
            distance = static_cast<s64>(veneer(value) + addend - address);
          if (distance != static_cast<s32>(distance)) return "tier 2: relocation out of reach";
          const s32 short_distance = static_cast<s32>(distance);
          std::memcpy(place, &short_distance, 4);
          break;
        }
        default: return "tier 2: relocation type " + std::to_string(ELF64_R_TYPE(r.r_info)) + " is not supported";
      }
    }
    return {};
  }

  std::span<const char> object_;
  const std::map<std::string, HostAddr>& symbols_;
  const RegionRequest& request_;
  const FaultSites& sites_;
  RegionCode code_;
  std::vector<Section> sections_;
  std::span<const Elf64_Sym> elf_symbols_;
  const char* strings_ = nullptr;
  std::size_t total_ = 0;
  std::size_t veneers_ = 0;
  std::map<HostAddr, std::size_t> veneer_of_;
};

}  // namespace

Result<RegionCode> link_object(std::span<const char> object, const std::map<std::string, HostAddr>& symbols,
                               const RegionRequest& request, const FaultSites& sites) {
  return Linker(object, symbols, request, sites).run();
}

}  // namespace kiln::jit
