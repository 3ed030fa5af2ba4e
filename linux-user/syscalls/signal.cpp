// Signal syscalls. Sending and waiting for signals is the host kernel's business (see process.h), dispositions and frames are
// ours.
#include <sys/syscall.h>

#include <csignal>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {
struct KernelSigaction {  // generic 64-bit layout
  u64 handler, flags, restorer, mask;
};
}  // namespace

s64 sys_rt_sigaction(Call& c) {
  if (c.a[3] != 8) return -EINVAL;
  SignalAction fresh, old;
  if (c.a[1]) {
    KernelSigaction k;
    if (!c.memory.read(c.a[1], k)) return -EFAULT;
    fresh = {k.handler, k.flags, k.restorer, k.mask};
  }
  const s64 r = change_action(c.thread, c.i(0), c.a[1] ? &fresh : nullptr, &old);
  if (r < 0) return r;
  if (c.a[2]) {
    const KernelSigaction k{old.handler, old.flags, old.restorer, old.mask};
    if (!c.memory.write(c.a[2], k)) return -EFAULT;
  }
  return 0;
}

s64 sys_rt_sigprocmask(Call& c) {
  if (c.a[3] != 8) return -EINVAL;
  const u64 old = c.thread.mask;
  if (c.a[1]) {
    u64 set;
    if (!c.memory.read(c.a[1], set)) return -EFAULT;
    u64 mask;
    switch (c.i(0)) {
      case SIG_BLOCK: mask = old | set; break;
      case SIG_UNBLOCK: mask = old & ~set; break;
      case SIG_SETMASK: mask = set; break;
      default: return -EINVAL;
    }
    if (const s64 r = change_signal_mask(c.thread, mask); r < 0) return r;
  }
  if (c.a[2] && !c.memory.write(c.a[2], old)) return -EFAULT;
  return 0;
}

s64 sys_rt_sigsuspend(Call& c) {
  if (c.a[1] != 8) return -EINVAL;
  u64 mask;
  if (!c.memory.read(c.a[0], mask)) return -EFAULT;
  CallMask scope(c.thread, true, mask);
  const u64 host = mask & ~(signal_bit(SIGSEGV) | signal_bit(SIGBUS));
  return c.host(SYS_rt_sigsuspend, &host, u64{8});
}

s64 sys_sigaltstack(Call& c) {
  struct {
    u64 sp;
    u32 flags, pad;
    u64 size;
  } k{};
  GuestAbi::GuestStack fresh, old;
  if (c.a[0]) {
    if (!c.memory.read(c.a[0], k)) return -EFAULT;
    fresh = {k.sp, k.flags, k.size};
  }
  const s64 r = change_altstack(c.thread, c.a[0] ? &fresh : nullptr, &old, c.abi.stack_pointer(c.thread.cpu));
  if (r < 0 || c.a[1] == 0) return r;
  k = {old.sp, static_cast<u32>(old.flags), 0, old.size};
  return c.memory.write(c.a[1], k) ? 0 : -EFAULT;
}

s64 sys_rt_sigreturn(Call& c) {
  if (!hold_signals(c.thread)) return kRestartSyscall;  // the mask in the frame may block it
  u64 mask;
  GuestAbi::GuestStack stack{};
  if (!c.abi.pop_signal_frame(c.thread, mask, stack)) {
    const int code = c.process.abi->bad_frame_code;
    raise_fault(c.thread, SIGSEGV, code, code == SI_KERNEL ? 0 : c.abi.stack_pointer(c.thread.cpu));
    return kNoResult;
  }
  change_altstack(c.thread, &stack, nullptr, c.abi.stack_pointer(c.thread.cpu));  // "squash all but EFAULT"
  set_signal_mask(c.thread, mask);
  return kNoResult;
}

s64 sys_restart_syscall(Call&) { return -EINTR; }

}  // namespace kiln::user
