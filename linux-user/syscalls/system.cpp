// The system and the process's settings: uname, limits, prctl; clocks that are called often.
#include <linux/kcmp.h>
#include <linux/prctl.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

#include <cstring>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

s64 sys_uname(Call& c) {
  utsname name{};
  const s64 r = raw_syscall(SYS_uname, reinterpret_cast<u64>(&name));
  if (r < 0) return r;
  const bool twin = c.abi.machine32 && (raw_syscall(SYS_personality, 0xffffffff) & PER_MASK) == PER_LINUX32;
  std::memset(name.machine, 0, sizeof name.machine);
  std::strncpy(name.machine, twin ? c.abi.machine32 : c.abi.machine, sizeof name.machine - 1);
  if (!c.process.options.release.empty()) {
    std::memset(name.release, 0, sizeof name.release);
    std::strncpy(name.release, c.process.options.release.c_str(), sizeof name.release - 1);
  }
  return c.memory.write(c.a[0], name) ? 0 : -EFAULT;
}

s64 sys_kcmp(Call& c) {
  // struct kcmp_epoll_slot is three words of 32 bits.
  const bool slot = c.i(2) == KCMP_EPOLL_TFD;
  return c.host(SYS_kcmp, c.a[0], c.a[1], c.a[2], c.a[3], slot ? Call::to_u64(c.in(4)) : c.a[4]);
}

s64 sys_clock_gettime(Call& c) {
  // The host's vdso makes this much cheaper than a syscall.
  timespec now;
  if (clock_gettime(c.i(0), &now) != 0) return -errno;
  return c.memory.write(c.a[1], now) ? 0 : -EFAULT;
}

s64 sys_timer_create(Call& c) {
  // sigevent: the value is the guest's to interpret, signal and thread ids are the host's.
  return c.host(SYS_timer_create, c.a[0], c.in(1), c.out(2, 8));
}

// --- limits ----------------------------------------------------------------------------------------------------------

namespace {
s64 limit(Call& c, u64 pid, u64 resource, GuestAddr fresh, GuestAddr old) {
  const bool self = pid == 0 || pid == static_cast<u64>(raw_syscall(SYS_getpid));
  if (self && resource == RLIMIT_CORE) {  // ours is 0 whatever the guest wants: a core of Kiln helps nobody
    u64 value[2];
    if (fresh && !c.memory.read(fresh, value)) return -EFAULT;
    if (old && !c.memory.write(old, c.process.core_limit)) return -EFAULT;
    if (fresh) std::memcpy(c.process.core_limit, value, sizeof value);
    return 0;
  }
  // Limits on address space and data would hit the translator, not the guest.
  if (self && fresh && (resource == RLIMIT_AS || resource == RLIMIT_DATA || resource == RLIMIT_STACK)) {
    if (old) {
      const s64 r = raw_syscall(SYS_prlimit64, 0, resource, 0, reinterpret_cast<u64>(c.memory.out_pointer(old, 16)));
      if (r < 0) return r;
    }
    if (resource != RLIMIT_STACK) return 0;
    return raw_syscall(SYS_prlimit64, 0, resource, reinterpret_cast<u64>(c.memory.pointer(fresh)), 0);
  }
  return c.host(SYS_prlimit64, pid, resource, c.memory.pointer(fresh), c.memory.out_pointer(old, 16));
}
}  // namespace

s64 sys_getrlimit(Call& c) { return limit(c, 0, c.a[0], 0, c.a[1]); }
s64 sys_setrlimit(Call& c) { return limit(c, 0, c.a[0], c.a[1], 0); }
s64 sys_prlimit64(Call& c) { return limit(c, c.u(0), c.u(1), c.a[2], c.a[3]); }

// --- prctl -----------------------------------------------------------------------------------------------------------

s64 sys_prctl(Call& c) {
  switch (c.i(0)) {
    case PR_SET_NAME: return c.host(SYS_prctl, c.a[0], c.in(1));
    case PR_GET_NAME: return c.host(SYS_prctl, c.a[0], c.out(1, 16));
    case PR_GET_PDEATHSIG:
    case PR_GET_CHILD_SUBREAPER: return c.host(SYS_prctl, c.a[0], c.out(1, 4));
    case PR_GET_TID_ADDRESS: return c.memory.write(c.a[1], c.thread.clear_child_tid) ? 0 : -EFAULT;
    case 0x53564d41 /* PR_SET_VMA */: return 0;  // names for /proc/self/maps only
    case PR_SET_PDEATHSIG:
    case PR_GET_DUMPABLE:
    case PR_SET_DUMPABLE:
    case PR_GET_KEEPCAPS:
    case PR_SET_KEEPCAPS:
    case PR_SET_CHILD_SUBREAPER:
    case PR_GET_NO_NEW_PRIVS:
    case PR_SET_NO_NEW_PRIVS:
    case PR_CAPBSET_READ:
    case PR_CAPBSET_DROP:
    case PR_GET_SECUREBITS:
    case PR_SET_SECUREBITS:
    case PR_SET_TIMERSLACK:
    case PR_GET_TIMERSLACK:
    case PR_CAP_AMBIENT:
    case PR_SET_PTRACER:
    case PR_GET_THP_DISABLE:
    case PR_SET_THP_DISABLE:
    case PR_MCE_KILL:
    case PR_MCE_KILL_GET: return c.host(SYS_prctl, c.a[0], c.a[1], c.a[2], c.a[3], c.a[4]);
    case PR_GET_SECCOMP: return 0;
    case PR_SVE_GET_VL:
    case PR_SVE_SET_VL:
    case PR_SET_TAGGED_ADDR_CTRL:
    case PR_GET_TAGGED_ADDR_CTRL:
    case PR_PAC_RESET_KEYS: return -EINVAL;  // features this processor does not have
    default: say_once(c.process, "unimplemented prctl " + std::to_string(c.i(0))); return -EINVAL;
  }
}

}  // namespace kiln::user
