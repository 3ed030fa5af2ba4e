// The IR as text: names, parser, the op table as documentation. print() and verify() are declared in block.h.
#pragma once
#include <span>
#include <string>
#include <string_view>

#include "ir/block.h"
#include "ir/support/result.h"

namespace kiln::ir {

const char* cond_name(Cond cond);

/// Reads what print() writes. Calls name their helper, which is looked up in `helpers`. Everything from ';' to the end of a
/// line is a comment. The result is not verified. Errors name the line.
Result<Block> parse(std::string_view text, std::span<const Helper* const> helpers = {});

/// Markdown table of all ops, from ops.def.
std::string op_documentation();

}  // namespace kiln::ir
