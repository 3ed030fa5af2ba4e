// seccomp in the guest's terms: filters see the guest's numbers, arguments and AUDIT_ARCH, and are interpreted here, at the entry
// of a guest syscall. Kiln's own syscalls are not filtered: filters keep a guest from what it gave up, they do not confine Kiln.
#pragma once
#include "linux-user/abi.h"
#include "linux-user/process.h"

namespace kiln::user {

/// One installed filter and those installed before it; shared by the threads that inherit it.
struct SeccompFilter;

/// What a syscall entry does after its filters.
enum class SeccompVerdict : u8 { Go, Result, Signalled };

/// Runs the thread's filters for a syscall. Result: the syscall is not made, `result` stands. Signalled: registers are as they must
/// be. Does not return if the verdict is to kill.
SeccompVerdict check_seccomp(Thread& thread, const GuestAbi& abi, u64 number, s64& result);

/// For exec: a descriptor that holds the thread's filters, to be inherited, or -errno. -ENOENT: there are none.
int save_seccomp(const Thread& thread);
/// Takes over what save_seccomp() wrote and closes the descriptor. False: it cannot be read.
bool load_seccomp(Thread& thread, int descriptor);

/// As /proc/PID/status and PR_GET_SECCOMP tell it: 0 none, 1 strict, 2 filters.
int seccomp_mode(const Thread& thread);
unsigned seccomp_filter_count(const Thread& thread);

struct Call;
s64 set_seccomp_strict(Call& call);
s64 add_seccomp_filter(Call& call, GuestAddr program, u64 flags);

}  // namespace kiln::user
