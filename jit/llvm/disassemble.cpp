#include <llvm-c/Disassembler.h>
#include <llvm/Support/TargetSelect.h>

#include <map>
#include <mutex>

#include "jit/llvm/constructors.h"
#include "jit/llvm/tier2.h"

namespace kiln::jit {

namespace {
void initialise_disassemblers() {
  static std::once_flag once;
  std::call_once(once, [] {
    run_llvm_constructors();
    LLVMInitializeX86TargetInfo();
    LLVMInitializeX86TargetMC();
    LLVMInitializeX86Disassembler();
    LLVMInitializeAArch64TargetInfo();
    LLVMInitializeAArch64TargetMC();
    LLVMInitializeAArch64Disassembler();
  });
}
}  // namespace

std::string disassemble(const char* triple, const char* features, std::span<const u8> code, u64 address) {
  initialise_disassemblers();
  // Made anew each time: logs are rare, and a cached context would be a mutable global.
  LLVMDisasmContextRef context =
      LLVMCreateDisasmCPUFeatures(triple, "", features ? features : "", nullptr, 0, nullptr, nullptr);
  std::string text;
  char line[256];
  if (!context) return std::string("no disassembler for ") + triple + "\n";
  const bool x86 = std::string_view(triple).starts_with("x86");
  for (std::size_t at = 0; at < code.size();) {
    char instruction[200] = "";
    std::size_t size = LLVMDisasmInstruction(context, const_cast<u8*>(code.data()) + at, code.size() - at, address + at,
                                             instruction, sizeof instruction);
    if (size == 0) {
      size = std::min<std::size_t>(x86 ? 1 : 4, code.size() - at);
      u64 value = 0;
      std::memcpy(&value, code.data() + at, size);
      std::snprintf(instruction, sizeof instruction, x86 ? "\t.byte 0x%llx" : "\t.word 0x%llx",
                    static_cast<unsigned long long>(value));
    }
    std::snprintf(line, sizeof line, "%llx:%s\n", static_cast<unsigned long long>(address + at), instruction);
    text += line;
    at += size;
  }
  LLVMDisasmDispose(context);
  return text;
}

}  // namespace kiln::jit
