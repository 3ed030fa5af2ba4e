// A relocatable ELF object becomes code in the engine's cache. Written by hand: the objects hold one function, a few constants
// and the fault table, and a handful of relocation types.
#pragma once
#include <map>
#include <span>
#include <string>

#include "ir/support/result.h"
#include "jit/llvm/fault_sites.h"
#include "jit/llvm/tier2.h"

namespace kiln::jit {

/// Places the object's sections into memory from request.allocate, resolves `symbols`, reads the fault table.
/// Gives memory, entry (of function "region") and faults; out-of-reach calls and jumps go through a jump in the code's own
/// memory.
Result<RegionCode> link_object(std::span<const char> object, const std::map<std::string, HostAddr>& symbols,
                               const RegionRequest& request, const FaultSites& sites);

}  // namespace kiln::jit
