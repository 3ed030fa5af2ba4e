// Build tool: takes the stencil objects and writes the stencil table as C++.
// usage: kiln-stencilgen OUT.h OUT.cpp OBJECT...
// Follows each kiln_family_* table's relocations to its functions, drops the trailing jump to HOLE_NEXT, and refuses
// whatever a stencil must not have: stack use, calls (outside call_*), unknown relocations.
#include <llvm-c/Disassembler.h>
#include <llvm-c/Target.h>
#include <llvm/Object/ELFObjectFile.h>
#include <llvm/Object/ObjectFile.h>
#include <llvm/Support/MemoryBuffer.h>

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <string>
#include <vector>

using namespace llvm;
using namespace llvm::object;

namespace {

int errors = 0;
__attribute__((format(printf, 1, 2))) void complain(const char* format, ...) {
  if (++errors > 20) std::exit(1);
  va_list args;
  va_start(args, format);
  std::fprintf(stderr, "stencil: ");
  std::vfprintf(stderr, format, args);
  std::fprintf(stderr, "\n");
  va_end(args);
}
template <class T>
T take(Expected<T> value) {
  if (value) return std::move(*value);
  std::fprintf(stderr, "stencil: %s\n", toString(value.takeError()).c_str());
  std::exit(1);
}

struct Out {
  std::string families, records, relocations;
  std::vector<uint8_t> bytes;
  std::map<std::string, unsigned> constant_index;
  std::vector<std::string> constants;
  std::map<std::string, unsigned> relocation_index;  // text of a run of relocations -> index: most runs repeat
  unsigned record_count = 0, relocation_count = 0;

  unsigned constant(const std::string& bytes16) {
    auto [it, fresh] = constant_index.try_emplace(bytes16, constants.size());
    if (fresh) constants.push_back(bytes16);
    return it->second;
  }
};

struct Object {
  std::unique_ptr<MemoryBuffer> buffer;
  std::unique_ptr<ObjectFile> file;
  std::map<unsigned, std::vector<RelocationRef>> relocations;  // by section index, sorted by offset
};

/// End offsets of the instructions in `code`; complains about stack use and stray calls.
std::vector<unsigned> check_instructions(LLVMDisasmContextRef disassembler, const std::string& name, StringRef code,
                                         bool may_call) {
  std::vector<unsigned> ends;
  char text[128];
  unsigned at = 0;
  while (at < code.size()) {
    const size_t length = LLVMDisasmInstruction(disassembler, reinterpret_cast<uint8_t*>(const_cast<char*>(code.data() + at)),
                                                code.size() - at, at, text, sizeof text);
    if (length == 0) {
      complain("%s: undecodable bytes at %u", name.c_str(), at);
      break;
    }
    const StringRef line = StringRef(text).trim();
    const bool stack =
        line.starts_with("push") || (line.starts_with("pop") && !line.starts_with("popcnt")) || line.contains("%rsp");
    const bool call = line.starts_with("call") || line.starts_with("ret");
    if ((stack || call) && !may_call) complain("%s: '%s' is not allowed in a stencil", name.c_str(), line.str().c_str());
    at += static_cast<unsigned>(length);
    ends.push_back(at);
  }
  return ends;
}

/// Families whose HOLE_A is the displacement of a guest access or an address sum (and never an immediate).
bool has_displacement(StringRef family) {
  for (StringRef name : {"ld", "ld_t", "st_", "st_t", "ldv", "ldv_t", "stv", "stv_t", "lea_ri"})
    if (family == name) return true;
  return false;
}

void add_stencil(Out& out, LLVMDisasmContextRef disassembler, Object& object, const SymbolRef& symbol,
                 const std::string& family) {
  const SectionRef section = *take(symbol.getSection());
  const StringRef content = take(section.getContents());
  const uint64_t start = take(symbol.getValue());
  uint64_t size = ELFSymbolRef(symbol).getSize();
  StringRef code = content.substr(start, size);
  const std::vector<unsigned> ends =
      check_instructions(disassembler, family, code, StringRef(family).starts_with("call_") || family == "mfence");

  struct Found {
    unsigned offset;
    std::string target;
    uint64_t type;
    int64_t addend;
    SymbolRef symbol;
  };
  std::vector<Found> found;
  for (const RelocationRef& r : object.relocations[section.getIndex()]) {
    if (r.getOffset() < start || r.getOffset() >= start + size) continue;
    found.push_back({static_cast<unsigned>(r.getOffset() - start), take(r.getSymbol()->getName()).str(), r.getType(),
                     take(ELFRelocationRef(r).getAddend()), *r.getSymbol()});
  }
  std::vector<uint8_t> bytes(code.begin(), code.end());
  if (!found.empty() && found.back().target == "HOLE_NEXT" && found.back().offset + 4 == size && bytes[size - 5] == 0xe9) {
    size -= 5;
    bytes.resize(size);
    found.pop_back();
  }
  // The compiler likes `jcc NEXT; jmp COLD`: turned round, the fast path falls through.
  if (found.size() >= 2) {
    Found &condition = found[found.size() - 2], &jump = found.back();
    if (condition.target == "HOLE_NEXT" && jump.target == "HOLE_COLD" && jump.offset + 4 == size && jump.offset == condition.offset + 5 &&
        bytes[condition.offset - 2] == 0x0f && (bytes[condition.offset - 1] & 0xf0) == 0x80 && bytes[jump.offset - 1] == 0xe9) {
      bytes[condition.offset - 1] ^= 1;
      condition.target = "HOLE_COLD";
      found.pop_back();
      size -= 5;
      bytes.resize(size);
    }
  }
  std::string text;
  unsigned count = 0, colds = 0;
  for (const Found& f : found) {
    const char* hole = nullptr;
    int64_t addend = f.addend;
    unsigned constant = 0;
    const bool wide = f.type == ELF::R_X86_64_32 || f.type == ELF::R_X86_64_32S;
    const bool relative = f.type == ELF::R_X86_64_PLT32 || f.type == ELF::R_X86_64_PC32;
    if (f.target == "HOLE_NEXT" && relative) {
      const int32_t distance = static_cast<int32_t>(size) - static_cast<int32_t>(f.offset + 4);
      memcpy(bytes.data() + f.offset, &distance, 4);
      continue;
    }
    if (f.target == "HOLE_A" && wide) hole = "A32";
    else if (f.target == "HOLE_A" && relative) hole = "Pool", addend += 4;
    else if (f.target == "HOLE_B" && wide) hole = "B32";
    else if (f.target == "HOLE_B" && f.type == ELF::R_X86_64_16) hole = "B16";
    else if (f.target == "HOLE_8" && f.type == ELF::R_X86_64_8) hole = "Imm8";
    else if (f.target == "HOLE_64" && f.type == ELF::R_X86_64_64) hole = addend == 1 ? "Imm64b" : "Imm64", addend = 0;
    else if (f.target == "HOLE_TAKEN" && relative) hole = "Taken", addend += 4;
    else if (f.target == "HOLE_COLD" && relative) hole = "Cold", addend += 4, ++colds;
    else if (relative) {
      const auto where = take(f.symbol.getSection());
      const bool known = where != object.file->section_end();
      const StringRef name = known ? take(where->getName()) : StringRef();
      if (name.starts_with(".rodata")) {
        unsigned end = 0;
        for (const unsigned e : ends)
          if (e > f.offset) {
            end = e;
            break;
          }
        const uint64_t at = take(f.symbol.getValue()) + static_cast<uint64_t>(addend + (end - f.offset));
        std::string data = take(where->getContents()).substr(at, 16).str();
        data.resize(16, '\0');
        constant = out.constant(data);
        hole = "Const";
        addend = -static_cast<int64_t>(end - f.offset) + 4;  // bytes between the field's end and the instruction's end
      }
    }
    if (f.target == "HOLE_A" && wide && f.offset + 4 == size && addend == 0 && has_displacement(family)) {
      // [base + disp32]: ModRM, then SIB if its low bits say so. `constant` tells emit() where ModRM is.
      if (bytes[f.offset - 2] >> 6 == 2 && (bytes[f.offset - 2] & 7) == 4) constant = 2;
      else if (bytes[f.offset - 1] >> 6 == 2 && (bytes[f.offset - 1] & 7) != 4) constant = 1;
    }
    if (!hole || addend < -32768 || addend > 32767) {
      complain("%s: relocation of type %u against '%s' is not known", family.c_str(), static_cast<unsigned>(f.type),
               f.target.c_str());
      continue;
    }
    text +=
        "{" + std::to_string(f.offset) + ",H::" + hole + "," + std::to_string(addend) + "," + std::to_string(constant) + "},";
    ++count;
  }
  // The stitcher patches one: the second would lead anywhere.
  if (colds > 1) complain("%s: %u cold exits", family.c_str(), colds);
  unsigned index = 0;
  if (count) {
    const auto [it, fresh] = out.relocation_index.try_emplace(text, out.relocation_count);
    index = it->second;
    if (fresh) {
      out.relocations += text + "\n";
      out.relocation_count += count;
    }
  }
  if (size >= 0xff) complain("%s: %u bytes are too many", family.c_str(), static_cast<unsigned>(size));
  out.records += "{" + std::to_string(out.bytes.size()) + "," + std::to_string(index) + "," + std::to_string(size) + "," +
                 std::to_string(count) + "},";
  out.bytes.insert(out.bytes.end(), bytes.begin(), bytes.end());
}

void add_object(Out& out, LLVMDisasmContextRef disassembler, const char* path) {
  Object object;
  auto buffer = MemoryBuffer::getFile(path);
  if (!buffer) {
    complain("%s: %s", path, buffer.getError().message().c_str());
    return;
  }
  object.buffer = std::move(*buffer);
  object.file = take(ObjectFile::createObjectFile(object.buffer->getMemBufferRef()));
  for (const SectionRef& section : object.file->sections()) {
    const auto target = take(section.getRelocatedSection());
    if (target == object.file->section_end()) continue;
    auto& list = object.relocations[target->getIndex()];
    for (const RelocationRef& r : section.relocations()) list.push_back(r);
    std::sort(list.begin(), list.end(),
              [](const RelocationRef& a, const RelocationRef& b) { return a.getOffset() < b.getOffset(); });
  }
  constexpr StringLiteral prefix = "kiln_family_";
  for (const SymbolRef& symbol : object.file->symbols()) {
    const StringRef name = take(symbol.getName());
    if (!name.starts_with(prefix)) continue;
    const std::string family = name.substr(prefix.size()).str();
    const SectionRef section = *take(symbol.getSection());
    const uint64_t start = take(symbol.getValue());
    const uint64_t entries = ELFSymbolRef(symbol).getSize() / 8;
    std::map<uint64_t, SymbolRef> functions;
    for (const RelocationRef& r : object.relocations[section.getIndex()])
      if (r.getOffset() >= start && r.getOffset() < start + entries * 8)
        functions.emplace((r.getOffset() - start) / 8, *r.getSymbol());
    out.families +=
        "inline constexpr u32 " + family + " = " + std::to_string(out.record_count) + ";  // " + std::to_string(entries) + "\n";
    for (uint64_t i = 0; i < entries; ++i) {
      const auto it = functions.find(i);
      if (it == functions.end()) out.records += "{0,0,kMissing,0},";
      else add_stencil(out, disassembler, object, it->second, family);
      if (++out.record_count % 8 == 0) out.records += "\n";
    }
  }
}

void write(const char* path, const std::string& text) {
  FILE* file = std::fopen(path, "w");
  if (!file || std::fwrite(text.data(), 1, text.size(), file) != text.size() || std::fclose(file) != 0) {
    complain("cannot write %s", path);
    std::exit(1);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) return std::fprintf(stderr, "usage: kiln-stencilgen OUT.h OUT.cpp OBJECT...\n"), 2;
  LLVMInitializeX86TargetInfo();
  LLVMInitializeX86TargetMC();
  LLVMInitializeX86Disassembler();
  const LLVMDisasmContextRef disassembler = LLVMCreateDisasm("x86_64-linux-gnu", nullptr, 0, nullptr, nullptr);
  Out out;
  for (int i = 3; i < argc; ++i) add_object(out, disassembler, argv[i]);
  LLVMDisasmDispose(disassembler);
  if (errors) return 1;

  write(argv[1],
        "// Written by kiln-stencilgen: first record of each family.\n#pragma once\n#include \"jit/stencil/table.h\"\n"
        "namespace kiln::stencil::id {\n" +
            out.families + "}\n");
  std::string source =
      "// Written by kiln-stencilgen.\n#include \"jit/stencil/table.h\"\nnamespace kiln::stencil {\nusing H = Hole;\n"
      "extern const Record kRecords[] = {\n" +
      out.records + "};\nextern const Relocation kRelocations[] = {\n" + out.relocations + "};\n";
  const auto hex = [&](const uint8_t* data, size_t size) {
    char text[8];
    for (size_t i = 0; i < size; ++i) {
      std::snprintf(text, sizeof text, "%u,", data[i]);
      source += text;
      if (i % 32 == 31) source += "\n";
    }
  };
  source += "extern const V128 kConstants[] = {";
  for (const std::string& c : out.constants) {
    source += "{{";
    hex(reinterpret_cast<const uint8_t*>(c.data()), 16);
    source += "}},\n";
  }
  source += "{}};\nextern const u8 kBytes[] = {\n";
  hex(out.bytes.data(), out.bytes.size());
  source += "0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0};\n}\n";
  write(argv[2], source);
  std::printf("%u stencils, %zu bytes, %u relocations, %zu constants\n", out.record_count, out.bytes.size(),
              out.relocation_count, out.constants.size());
  return 0;
}
