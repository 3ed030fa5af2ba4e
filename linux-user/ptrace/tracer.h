// The tracer's side of ptrace (trace_box.h): what this process traces.
#pragma once
#include "linux-user/process.h"
#include "linux-user/ptrace/trace_box.h"

namespace kiln::user {

enum class TraceVerdict : u8 {
  Tell,     // the guest is to know; the status is as it shall see it
  Swallow,  // Kiln's own; the thread goes on, or waits for another event
};
/// What a stop that wait4() gave (or would give) means. Every stop comes here, those of children that nobody traces too.
TraceVerdict judge_stop(int tid, u32& status);
/// The child is gone.
void tracee_gone(int tid);
/// Carries on what Kiln stopped for itself, but for `except`, which is waited for anyway.
void pass_internal_stops(int except);
/// In the child of a fork(): it traces nobody.
void forget_tracees();
/// A write to another process's memory by other ways than ptrace.
void note_tracee_write(int pid, GuestAddr at, u64 size);

}  // namespace kiln::user
