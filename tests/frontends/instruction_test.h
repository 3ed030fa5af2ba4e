// Runs a64_*.txt (see README.md) under any way of running a block.
#pragma once
#include <functional>
#include <string>

#include "frontends/arm/aarch64.h"

namespace kiln::test {

/// Runs exactly one instruction at state->pc: on return pc, exit_kind, exit_value and all state are up to date.
/// state->memory_base is the host address of guest address 0; only [0x100000, 0x102000) and the code page are there.
using RunOne = std::function<void(ir::CodeSource& code, arm::A64State* state)>;

/// Runs every line of `path`; gives the number of lines and reports each difference as a failure of the running test.
unsigned run_instruction_file(const std::string& path, const RunOne& run);

}  // namespace kiln::test
