// jitdump: the generated code itself beside its names, so that `perf annotate` can show it. Format: Linux's
// tools/perf/Documentation/jitdump-specification.txt, version 1. Use: perf record -k mono …; perf inject -j; perf report.
#pragma once
#include <memory>
#include <span>
#include <string>

#include "ir/support/bits.h"

namespace kiln::jit {

class JitDump {
 public:
  /// Begins jit-PID.dump in $JITDUMPDIR or /tmp; null if the file cannot be made.
  static std::unique_ptr<JitDump> open();
  ~JitDump();
  JitDump(const JitDump&) = delete;
  JitDump& operator=(const JitDump&) = delete;
  /// A piece of code at `address`. Not thread-safe.
  void add(HostAddr address, std::span<const u8> code, const std::string& name);

 private:
  JitDump(int fd, void* mark) : fd_(fd), mark_(mark) {}
  int fd_;
  void* mark_;  // perf sees the file by this executable mapping of it
  u64 index_ = 0;
};

}  // namespace kiln::jit
