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
    if (c.thread.signal_pending) return kRestartSyscall;  // deliver first: its frame saves the old mask
    set_signal_mask(c.thread, mask);
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
  auto& stack = c.thread.altstack;
  const u64 sp = c.abi.stack_pointer(c.thread.cpu);
  const bool active = !(stack.flags & SS_DISABLE) && sp > stack.sp && sp - stack.sp <= stack.size;
  struct {
    u64 sp;
    u32 flags, pad;
    u64 size;
  } fresh, old{stack.sp, static_cast<u32>(stack.flags) | (active ? u32{SS_ONSTACK} : 0), 0, stack.size};
  if (c.a[0]) {
    if (!c.memory.read(c.a[0], fresh)) return -EFAULT;
    if (active) return -EPERM;
    const u32 mode = fresh.flags & ~(u32{1} << 31);
    if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) return -EINVAL;
    if (mode == SS_DISABLE) fresh.sp = fresh.size = 0;
    else if (fresh.size < c.abi.minimal_stack) return -ENOMEM;
    stack = {fresh.sp, fresh.flags & ~u32{SS_ONSTACK}, fresh.size};
  }
  if (c.a[1] && !c.memory.write(c.a[1], old)) return -EFAULT;
  return 0;
}

s64 sys_rt_sigreturn(Call& c) {
  u64 mask;
  GuestAbi::GuestStack stack{};
  if (!c.abi.pop_signal_frame(c.thread, mask, stack)) {
    const int code = c.process.abi->bad_frame_code;
    raise_fault(c.thread, SIGSEGV, code, code == SI_KERNEL ? 0 : c.abi.stack_pointer(c.thread.cpu));
    return kNoResult;
  }
  stack.flags &= ~u64{SS_ONSTACK};
  c.thread.altstack = stack;
  set_signal_mask(c.thread, mask);
  return kNoResult;
}

s64 sys_restart_syscall(Call&) { return -EINTR; }

}  // namespace kiln::user
