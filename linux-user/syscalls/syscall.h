// What a syscall function works with, and the table's row.
// Add a syscall: a line in list.def (PASS if the host's takes the same structs, CALL with a sys_ function in its group's file
// otherwise), its numbers in numbers_<table>.def.
#pragma once
#include <cerrno>
#include <vector>

#include "linux-user/host_x86_64.h"
#include "linux-user/path.h"
#include "linux-user/process.h"
#include "linux-user/signals.h"

namespace kiln::user {

struct Call;

/// One syscall. `args` has a letter per argument, for -strace and for PASS rows:
///   d fd, D directory fd, i int, u unsigned, x hex, o mode, z size, l long, g signal, O open flags, M prot, C clockid
///   p pointer, w pointer that the kernel writes to (size: the following z, else one page), b bytes read (size: the following
///   z), A AT_* flags, s string, P path, L path whose last link is not followed, T timespec
struct SyscallRow {
  const char* name;
  const char* args;
  s64 (*function)(Call&);  // null: known by name only
  s32 host_number;         // PASS rows
};

/// Result meaning "registers are as they must be; do not touch result or pc" (sigreturn).
inline constexpr s64 kNoResult = -513;

struct Call {
  Thread& thread;
  Process& process;
  MemoryMap& memory;
  const GuestAbi& abi;
  const SyscallRow& row;
  u64 a[6];

  int i(unsigned n) const { return static_cast<int>(a[n]); }
  u32 u(unsigned n) const { return static_cast<u32>(a[n]); }
  void* in(unsigned n) const { return memory.pointer(a[n]); }
  void* out(unsigned n, u64 size = kPageSize) const { return memory.out_pointer(a[n], size); }

  /// Host syscall that a signal may interrupt; pointers among the arguments are converted to u64.
  template <class... Args>
  s64 host(long number, Args... args) const {
    const u64 values[6] = {to_u64(args)...};
    return safe_syscall(number, const_cast<const u32*>(&thread.signal_pending), values);
  }
  /// Reads a path argument. 0 or -errno.
  int path(unsigned n, std::string& guest) const { return memory.read_string(a[n], guest, 4096); }
  /// The same and resolves it.
  int host_path(unsigned n, std::string& path, Follow follow) const {
    std::string guest;
    const int r = this->path(n, guest);
    if (r == 0) path = resolve_path(process, guest, follow);
    return r;
  }

  static u64 to_u64(const void* p) { return reinterpret_cast<u64>(p); }
  static u64 to_u64(std::nullptr_t) { return 0; }
  template <class T>
    requires std::is_integral_v<T>
  static u64 to_u64(T v) {
    return static_cast<u64>(v);
  }
};

/// PASS rows: arguments translated by the row's letters, same number of the host.
s64 sys_pass(Call& call);

/// The same for any host syscall and other letters (one of a call's many commands).
s64 pass_by_letters(Call& call, long number, const char* letters);

/// The guest's iovec array with host pointers. 0 or -errno.
int read_iovec(Call& call, GuestAddr at, u64 count, std::vector<struct iovec>& out, bool kernel_writes);

/// The same as the guest wrote it.
int read_guest_iovec(Call& call, GuestAddr at, u64 count, std::vector<std::pair<GuestAddr, u64>>& out);

/// True if the calling thread has the capability in its effective set.
bool has_capability(unsigned capability);
/// True for 0, ourselves and every other process that Kiln runs: addresses in it are guest addresses, at the same base as ours.
bool is_kiln_process(int pid);

/// AUDIT_ARCH_*: the ELF machine, its class and its byte order.
u32 audit_arch(const GuestAbi& abi);

/// {soft, hard} of a limit that is the guest's own and not Kiln's, or null.
u64* guest_limit(Process& process, u64 resource);
s64 set_guest_limit(Process& process, u64 resource, const u64 (&value)[2]);

/// Rows by the numbers of the generic 64-bit table (arm64, riscv64) and of x86-64, or null.
const SyscallRow* generic64_syscall(u64 number);
const SyscallRow* x86_64_syscall(u64 number);

/// Runs one syscall for the thread's current registers; true if pc and result were set.
void handle_syscall(Thread& thread);

// -strace
void strace_enter(const Call& call, std::string& line);
void strace_leave(const Call& call, std::string& line, s64 result);
void strace_result(std::string& line, s64 result);

#define PASS(name, args)
#define NONE(name)
#define CALL(name, args) s64 sys_##name(Call&);
#include "linux-user/syscalls/list.def"
#undef PASS
#undef NONE
#undef CALL

}  // namespace kiln::user
