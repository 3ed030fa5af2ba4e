// What happens when the guest dies of a signal: one line, a report (KILN_CRASH=1), a core file (RLIMIT_CORE).
#pragma once
#include "linux-user/process.h"

namespace kiln::user {

/// Called by the dying thread. `info`: siginfo in the host's layout, or null.
void guest_dies(Thread& thread, int signal, const u8* info);

/// Signals whose default action writes a core file. Where somebody wants to know, their default action is ours, too.
bool is_core_signal(int signal);
bool wants_core_signals(const Process& process);

/// With Process::dying set: until the other threads wait or sleep in syscalls, whose registers do not change either. A second at most.
void hold_others(Thread& dying);

/// For a thread that finds Process::dying set: waits for the end.
[[noreturn]] void wait_for_the_end(Thread& thread);

/// Remembers a line of -strace kind for the report.
void note_syscall(const std::string& line);

// core_dump.cpp. The other threads are held. An empty string, or why there is none; `path` is where.
std::string write_core(Thread& dying, int signal, const u8* info, std::string& path);

}  // namespace kiln::user
