// Guest paths: absolute ones are looked up under the sysroot first, then on the host, as with QEMU's -L. /proc/self names are
// ours.
#pragma once
#include <string>

#include "linux-user/process.h"

namespace kiln::user {

enum class Follow { Yes, No, Literal };  // Literal: no link on the way is resolved either

/// Host path for a guest path. Relative paths stay as they are.
std::string resolve_path(const Process& process, const std::string& guest, Follow follow);

/// The path as the guest would name it: without the sysroot in front.
std::string guest_view(const Process& process, const std::string& host);

/// For "/proc/self/X", "/proc/thread-self/X" and "/proc/<own pid>/X" the X, else empty.
std::string own_proc_entry(const std::string& path);

/// For "/proc/<self or pid>/exe": the host path of that process's program, of a guest's under Kiln, else empty.
std::string program_of(const Process& process, const std::string& path);

/// For a descriptor that the host's kernel has just opened under any name (relative to a directory of /proc, through a symlink, …):
/// if it is a /proc file of ours that must show the guest, closes it and gives what open_proc_file() gives for it, else `fd`.
int show_guest(Process& process, int fd, int flags);

/// Is the descriptor /proc/self/task, where Kiln's own threads are not to be seen?
bool is_task_directory(int fd);
/// An entry of it.
bool is_guest_task(Process& process, const char* name);

/// Opens a /proc file that must show the guest and not Kiln (maps, cmdline, auxv, …). -1: not such a file; else fd or -errno in
/// `fd`.
bool open_proc_file(Process& process, const std::string& path, int flags, int& fd);

}  // namespace kiln::user
