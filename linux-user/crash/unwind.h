// Backtraces of guest threads: by .eh_frame (DWARF call frame information) where the code has it, else by frame pointers.
#pragma once
#include <vector>

#include "linux-user/crash/crash_abi.h"
#include "linux-user/crash/guest_files.h"

namespace kiln::user {

/// Addresses, innermost first: the pc, then return addresses. Ends where nothing sensible is found.
std::vector<GuestAddr> backtrace(Process& process, GuestFiles& files, const CrashAbi& abi, const ir::CpuState* cpu, std::size_t most);

}  // namespace kiln::user
