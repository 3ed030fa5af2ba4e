// The ways to run a Block: interpreter, tier 1, tier 2. A test takes them all and demands the same of each; a new tier is one
// class.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "tests/ir/random_ir.h"

namespace kiln::test {

class Executor {
 public:
  virtual ~Executor() = default;
  virtual const char* name() const = 0;
  /// Runs `block` (after optimise(), so flags are lowered). Empty, or why it could not.
  virtual std::string run(const ir::Block& block, Machine& machine) = 0;
  /// True if the last block went to the generic interpreter call for some op.
  virtual bool fell_back() const { return false; }
};

std::unique_ptr<Executor> make_interpreter();
std::unique_ptr<Executor> make_tier1();
std::unique_ptr<Executor> make_tier2();  // null without tier 2

}  // namespace kiln::test
