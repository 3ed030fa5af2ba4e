// Execution logs (-d items, -D file). One Log object, made by main and handed down; never a global.
#pragma once
#include <unistd.h>

#include <cstdio>
#include <string>

#include "ir/support/bits.h"

namespace kiln {

/// Exit status when Kiln itself is at fault, beside a line that says "internal error"; the status that env(1) and timeout(1) have for
/// their own failures. Never a signal: that would look like the guest's.
inline constexpr int kInternalErrorStatus = 125;
[[noreturn]] inline void exit_with_internal_error() {
  std::fflush(stderr);
  _exit(kInternalErrorStatus);
}

enum LogItem : u32 {
  kLogInAsm = 1,    // in_asm: guest instructions of each translated block
  kLogIr = 2,       // ir: as lifted
  kLogIrOpt = 4,    // ir_opt: after the passes
  kLogOutAsm = 8,   // out_asm: host code of tier 1
  kLogTier2 = 16,   // tier2: regions, LLVM IR and host code
  kLogExec = 32,    // exec: every block entered from the dispatcher
  kLogUnimp = 64,   // unimp: things not supported, once each
  kLogInt = 128,    // int: exceptions and signals
};

class Log {
 public:
  explicit Log(u32 items = 0, std::FILE* file = stderr) : items_(items), file_(file) {}
  bool on(LogItem item) const { return (items_ & item) != 0; }
  void write(const std::string& text) const {
    std::fwrite(text.data(), 1, text.size(), file_);
    std::fflush(file_);
  }
  std::FILE* file() const { return file_; }

 private:
  u32 items_;
  std::FILE* file_;
};

}  // namespace kiln
