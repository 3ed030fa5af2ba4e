// Where the persistent cache of translated code lies, which file of it a program uses, and `kiln cache`.
//
// The directory is $KILN_CACHE_DIR, or kiln/code in $XDG_CACHE_HOME or ~/.cache. It must belong to the user and be writable to nobody
// else, or there is no cache: code in it is executed. A file is a program's; jit/engine/block_store.h says what stands in it.
#pragma once
#include <string>

#include "linux-user/process.h"

namespace kiln::user {

/// Fills the engine's options for `process.exe_path` run with CPU model `model`, as --cache says. Leaves them alone where there can be no cache.
void choose_cache_file(const Process& process, const std::string& model, jit::EngineConfig& config);
/// Before the process ends or becomes another program: saves what is new, and keeps the directory below its size.
void save_translated_code(Process& process);

/// `kiln cache [list | clear | path]`. An exit status.
int cache_command(const std::vector<std::string>& args);

}  // namespace kiln::user
