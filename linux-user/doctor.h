// `kiln doctor`: looks at what Kiln needs of this machine and says what to do where something is missing.
#pragma once
#include <string>

#include "linux-user/options.h"

namespace kiln::user {

/// Prints a line per check: "ok", "note" (works, with limits) or "BAD" and what to do. `root`: where /proc is looked for, empty
/// for this machine. Gives the exit status: 1 if something is BAD.
int doctor(const Options& options, const std::string& root);

}  // namespace kiln::user
