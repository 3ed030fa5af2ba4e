// What crash reports and core dumps must know of a guest: DWARF's register numbers, Linux's register sets in core files.
#pragma once
#include <string>
#include <vector>

#include "linux-user/process.h"

namespace kiln::user {

/// A note of a core file: type and contents; the name is "CORE" for those of all systems, else "LINUX".
struct CoreNote {
  u32 type;
  bool linux_only;
  std::string data;
};

struct CrashAbi {
  // The DWARF ABI supplement of the processor: columns, stack pointer, frame pointer, return address.
  unsigned columns, sp, fp, ra;
  /// All `columns` of them; the return address column holds the pc on x86, the link register on AArch64.
  void (*read)(const ir::CpuState*, u64* out);
  /// elf_gregset_t. syscall: orig_rax, -1 outside of one.
  std::string (*general)(const ir::CpuState*, s64 syscall);
  /// Those that follow NT_PRSTATUS for each thread.
  std::vector<CoreNote> (*notes)(const ir::CpuState*);
};

/// Null: not known yet.
const CrashAbi* crash_abi(const GuestAbi& abi);

extern const CrashAbi kCrashA64, kCrashI386, kCrashX86_64;

}  // namespace kiln::user
