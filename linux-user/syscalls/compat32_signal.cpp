// 32-bit layer: signal syscalls, the old ones with 32-bit masks too.
#include <sys/syscall.h>

#include <csignal>

#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

struct OldSigaction32 {
  u32 handler, mask, flags, restorer;
};
constexpr Layout kSigaction32{"3L2i"};  // handler, flags, restorer, mask
struct HostSigaction32 {
  u64 handler, flags, restorer;
  u32 mask[2];
};
static_assert(kSigaction32.host_size() == sizeof(HostSigaction32));

}  // namespace

s64 c32_rt_sigaction(Call& c) {
  if (c.a[3] != 8) return -EINVAL;
  SignalAction fresh, old;
  if (c.a[1]) {
    HostSigaction32 k;
    if (const int r = get_struct(c, c.a[1], kSigaction32, k); r < 0) return r;
    fresh = {k.handler, k.flags, k.restorer, k.mask[0] | u64{k.mask[1]} << 32};
  }
  const s64 r = change_action(c.thread, c.i(0), c.a[1] ? &fresh : nullptr, &old);
  if (r < 0 || c.a[2] == 0) return r;
  const HostSigaction32 k{
      old.handler, static_cast<u32>(old.flags), old.restorer, {static_cast<u32>(old.mask), static_cast<u32>(old.mask >> 32)}};
  return put_struct(c, c.a[2], kSigaction32, k);
}

s64 c32_sigaction(Call& c) {
  SignalAction fresh, old;
  if (c.a[1]) {
    OldSigaction32 k;
    if (!get_word(c, c.a[1], k.handler) || !get_word(c, c.a[1] + 4, k.mask) || !get_word(c, c.a[1] + 8, k.flags) ||
        !get_word(c, c.a[1] + 12, k.restorer))
      return -EFAULT;
    fresh = {k.handler, k.flags, k.restorer, k.mask};
  }
  const s64 r = change_action(c.thread, c.i(0), c.a[1] ? &fresh : nullptr, &old);
  if (r < 0 || c.a[2] == 0) return r;
  return put_word<u32>(c, c.a[2], static_cast<u32>(old.handler)) && put_word<u32>(c, c.a[2] + 4, static_cast<u32>(old.mask)) &&
                 put_word<u32>(c, c.a[2] + 8, static_cast<u32>(old.flags)) &&
                 put_word<u32>(c, c.a[2] + 12, static_cast<u32>(old.restorer))
             ? 0
             : -EFAULT;
}

s64 c32_signal(Call& c) {
  const SignalAction fresh{c.a[1], SA_RESETHAND | SA_NODEFER, 0, 0};
  SignalAction old;
  const s64 r = change_action(c.thread, c.i(0), &fresh, &old);
  return r < 0 ? r : static_cast<s64>(old.handler);
}

s64 c32_sigprocmask(Call& c) {
  const u64 old = c.thread.mask;
  if (c.a[1]) {
    u32 set;
    if (!get_word(c, c.a[1], set)) return -EFAULT;
    u64 mask;
    switch (c.i(0)) {
      case SIG_BLOCK: mask = old | set; break;
      case SIG_UNBLOCK: mask = old & ~u64{set}; break;
      case SIG_SETMASK: mask = (old & ~u64{0xffffffff}) | set; break;
      default: return -EINVAL;
    }
    if (const s64 r = change_signal_mask(c.thread, mask); r < 0) return r;
  }
  return c.a[2] == 0 || put_word<u32>(c, c.a[2], static_cast<u32>(old)) ? 0 : -EFAULT;
}
s64 c32_sgetmask(Call& c) { return static_cast<u32>(c.thread.mask); }
s64 c32_ssetmask(Call& c) {
  const u64 old = c.thread.mask;
  const s64 r = change_signal_mask(c.thread, c.u(0));
  return r < 0 ? r : static_cast<s64>(static_cast<u32>(old));
}
s64 c32_sigpending(Call& c) {
  u64 set = 0;
  const s64 r = c.host(SYS_rt_sigpending, &set, u64{8});
  return r < 0 ? r : put_word<u32>(c, c.a[0], static_cast<u32>(set)) ? 0 : -EFAULT;
}
/// The mask is the third argument, the first two are history.
s64 c32_sigsuspend(Call& c) {
  const u64 mask = c.u(2);
  CallMask scope(c.thread, true, mask);
  const u64 host = mask & ~(signal_bit(SIGSEGV) | signal_bit(SIGBUS));
  return c.host(SYS_rt_sigsuspend, &host, u64{8});
}

s64 c32_sigaltstack(Call& c) {
  GuestAbi::GuestStack fresh, old;
  if (c.a[0]) {
    u32 k[3];  // sp, flags, size
    for (unsigned n = 0; n < 3; ++n)
      if (!get_word(c, c.a[0] + 4 * n, k[n])) return -EFAULT;
    fresh = {k[0], k[1], k[2]};
  }
  const s64 r = change_altstack(c.thread, c.a[0] ? &fresh : nullptr, &old, c.abi.stack_pointer(c.thread.cpu));
  if (r < 0 || c.a[1] == 0) return r;
  return put_word<u32>(c, c.a[1], static_cast<u32>(old.sp)) && put_word<u32>(c, c.a[1] + 4, static_cast<u32>(old.flags)) &&
                 put_word<u32>(c, c.a[1] + 8, static_cast<u32>(old.size))
             ? 0
             : -EFAULT;
}

/// From a handler without SA_SIGINFO: another frame; the altstack stays.
s64 c32_sigreturn(Call& c) {
  if (!hold_signals(c.thread)) return kRestartSyscall;  // the mask in the frame may block it
  u64 mask;
  if (!c.abi.pop_old_signal_frame || !c.abi.pop_old_signal_frame(c.thread, mask)) {
    raise_fault(c.thread, SIGSEGV, SI_KERNEL, 0);
    return kNoResult;
  }
  set_signal_mask(c.thread, mask);
  return kNoResult;
}

}  // namespace kiln::user
