// --list-instructions: the only place of user mode that looks into a frontend's tables.
#pragma once
#include <string>

namespace kiln::user {
/// Prints the instruction list of a guest; false if there is no such guest.
bool list_instructions(const std::string& guest);
}  // namespace kiln::user
