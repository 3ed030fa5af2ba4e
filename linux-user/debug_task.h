// DebugTarget's record of a guest thread; guarded by its mutex, but for what only the thread itself uses.
#pragma once
#include "jit/debugger/target.h"
#include "linux-user/process.h"

namespace kiln::user {

struct DebugTask {
  enum class State {
    InCode,     // runs guest code or is on its way to or from it
    InSyscall,  // its registers stay as they are until leave_syscall()
    Parked,
  };
  Thread* thread = nullptr;
  int tid = 0;
  State state = State::InCode;
  debugger::ResumeAction action;
  bool step_due = false;        // the instruction of a step was carried out
  bool changed = false;         // gdb wrote registers since the syscall was entered
  s64 syscall = -1;
  u64 last_caught = ~u64{0};    // its return is to be reported
  struct {
    bool valid = false;
    u64 pc = 0, sp = 0, number = 0;
    s64 result = 0;
  } finished;                   // a syscall that ended while gdb had the registers
  bool stopped_by_signal = false, info_valid = false;
  int forced_signal = 0;        // sent to itself for gdb, not to be reported
  alignas(8) u8 info[128] = {};

  bool in_range(u64 pc) const {
    return action.kind == debugger::ResumeAction::Kind::Step && pc >= action.range_start && pc < action.range_end;
  }
};

/// The same descriptor out of the way of those that the guest counts on.
int high_descriptor(int fd);

}  // namespace kiln::user
