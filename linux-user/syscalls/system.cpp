// The system and the process's settings: uname, limits, prctl; clocks that are called often.
#include <linux/kcmp.h>
#include <linux/capability.h>
#include <linux/prctl.h>
#include <sched.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <time.h>

#include <cstring>

#include "linux-user/syscalls/seccomp.h"
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

bool has_capability(unsigned capability) {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct caps[2] = {};
  if (raw_syscall(SYS_capget, Call::to_u64(&head), Call::to_u64(caps)) < 0) return false;
  return (caps[capability / 32].effective >> (capability % 32)) & 1;
}

s64 sys_personality(Call& c) {
  // READ_IMPLIES_EXEC would make Kiln's own mappings executable for the host, and no guest's.
  if (c.u(0) != 0xffffffff && (c.u(0) & READ_IMPLIES_EXEC))
    say_once(c.process, "unimplemented personality READ_IMPLIES_EXEC: mappings get the rights that are asked for");
  return c.host(SYS_personality, c.u(0) == 0xffffffff ? u64{0xffffffff} : c.a[0] & ~u64{READ_IMPLIES_EXEC});
}

// --- namespaces --------------------------------------------------------------------------------------------------------------

namespace {
/// Some namespaces are only for processes of one thread, and a guest's may be one, though Kiln's is not.
template <class Fn>
s64 as_single_thread(Call& c, bool needed, Fn&& call) {
  constexpr int kTries = 200;  // a joined thread is still counted for an instant
  bool alone = needed;
  if (alone) {
    std::lock_guard guard(c.process.threads_mutex);
    alone = c.process.threads.size() == 1;
  }
  const bool ended = alone && c.process.engine->end_compile_thread();
  s64 r = call();
  for (int n = 0; ended && r == -EINVAL && n < kTries; ++n) {
    const timespec pause{0, 100000};
    raw_syscall(SYS_nanosleep, Call::to_u64(&pause), 0);
    r = call();
  }
  return r;
}
}  // namespace

s64 sys_unshare(Call& c) {
  constexpr u64 kAlone = CLONE_NEWUSER | CLONE_THREAD | CLONE_SIGHAND | CLONE_VM;
  return as_single_thread(c, (c.a[0] & kAlone) != 0, [&] { return c.host(SYS_unshare, c.a[0]); });
}
s64 sys_setns(Call& c) {
  // The type may be left to the descriptor.
  const bool may_need = c.u(1) == 0 || (c.u(1) & (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWTIME)) != 0;
  return as_single_thread(c, may_need, [&] { return c.host(SYS_setns, c.a[0], c.a[1]); });
}

// --- limits ----------------------------------------------------------------------------------------------------------

u64* guest_limit(Process& process, u64 resource) {
  switch (resource) {
    case RLIMIT_CORE: return process.core_limit;
    case RLIMIT_AS: return process.space_limit;
    case RLIMIT_DATA: return process.data_limit;
    default: return nullptr;
  }
}

s64 set_guest_limit(Process& process, u64 resource, const u64 (&value)[2]) {
  u64* limit = guest_limit(process, resource);
  if (value[0] > value[1]) return -EINVAL;
  if (value[1] > limit[1] && !has_capability(CAP_SYS_RESOURCE)) return -EPERM;
  limit[0] = value[0];
  limit[1] = value[1];
  process.memory.set_limits(process.space_limit[0], process.data_limit[0]);
  if (resource == RLIMIT_CORE) follow_actions(process);  // where cores are wanted, their signals come to us
  return 0;
}

namespace {
s64 limit(Call& c, u64 pid, u64 resource, GuestAddr fresh, GuestAddr old) {
  const bool self = pid == 0 || pid == static_cast<u64>(raw_syscall(SYS_getpid));
  const u64* own = self ? guest_limit(c.process, resource) : nullptr;
  if (!own) return c.host(SYS_prlimit64, pid, resource, c.memory.pointer(fresh), c.memory.out_pointer(old, 16));
  u64 value[2];
  const u64 before[2] = {own[0], own[1]};
  if (fresh) {
    if (!c.memory.read(fresh, value)) return -EFAULT;
    if (const s64 r = set_guest_limit(c.process, resource, value); r < 0) return r;
  }
  return old == 0 || c.memory.write(old, before) ? 0 : -EFAULT;
}
}  // namespace

s64 sys_getrlimit(Call& c) { return c.a[1] ? limit(c, 0, c.u(0), 0, c.a[1]) : -EFAULT; }
s64 sys_setrlimit(Call& c) { return c.a[1] ? limit(c, 0, c.u(0), c.a[1], 0) : -EFAULT; }
s64 sys_prlimit64(Call& c) { return limit(c, c.u(0), c.u(1), c.a[2], c.a[3]); }

// --- prctl -----------------------------------------------------------------------------------------------------------

namespace {

struct Prctl {
  int option;
  const char* letters;  // of all arguments; null: this processor does not have it (EINVAL)
};
constexpr Prctl kPrctls[] = {
    {PR_SET_PDEATHSIG, "ig"},
    {PR_GET_PDEATHSIG, "iw"},
    {PR_GET_DUMPABLE, "i"},
    {PR_SET_DUMPABLE, "ix"},
    {PR_GET_KEEPCAPS, "i"},
    {PR_SET_KEEPCAPS, "ix"},
    {PR_GET_TIMING, "i"},
    {PR_SET_TIMING, "ix"},
    {PR_SET_NAME, "ip"},
    {PR_GET_NAME, "iw"},
    {PR_CAPBSET_READ, "ix"},
    {PR_CAPBSET_DROP, "ix"},
    {PR_GET_SECUREBITS, "i"},
    {PR_SET_SECUREBITS, "ix"},
    {PR_SET_TIMERSLACK, "ix"},
    {PR_GET_TIMERSLACK, "i"},
    {PR_TASK_PERF_EVENTS_DISABLE, "i"},
    {PR_TASK_PERF_EVENTS_ENABLE, "i"},
    {PR_MCE_KILL, "ixxxx"},
    {PR_MCE_KILL_GET, "ixxxx"},
    {PR_SET_CHILD_SUBREAPER, "ix"},
    {PR_GET_CHILD_SUBREAPER, "iw"},
    {PR_SET_NO_NEW_PRIVS, "ixxxx"},
    {PR_GET_NO_NEW_PRIVS, "ixxxx"},
    {PR_SET_THP_DISABLE, "ixxxx"},
    {PR_GET_THP_DISABLE, "ixxxx"},
    {PR_CAP_AMBIENT, "ixxxx"},
    {PR_GET_SPECULATION_CTRL, "ixxxx"},
    {PR_SET_SPECULATION_CTRL, "ixxxx"},
    {PR_SET_IO_FLUSHER, "ixxxx"},
    {PR_GET_IO_FLUSHER, "ixxxx"},
    {PR_SCHED_CORE, "ixixw"},
    {PR_SET_PTRACER, "ix"},
    {PR_GET_UNALIGN, nullptr},
    {PR_SET_UNALIGN, nullptr},
    {PR_GET_FPEMU, nullptr},
    {PR_SET_FPEMU, nullptr},
    {PR_GET_FPEXC, nullptr},
    {PR_SET_FPEXC, nullptr},
    {PR_GET_ENDIAN, nullptr},
    {PR_SET_ENDIAN, nullptr},
    {PR_MPX_ENABLE_MANAGEMENT, nullptr},
    {PR_MPX_DISABLE_MANAGEMENT, nullptr},
    {PR_SET_FP_MODE, nullptr},
    {PR_GET_FP_MODE, nullptr},
    {PR_SVE_SET_VL, nullptr},
    {PR_SVE_GET_VL, nullptr},
    {PR_PAC_RESET_KEYS, nullptr},
    {PR_PAC_SET_ENABLED_KEYS, nullptr},
    {PR_PAC_GET_ENABLED_KEYS, nullptr},
    {PR_SET_TAGGED_ADDR_CTRL, nullptr},
    {PR_GET_TAGGED_ADDR_CTRL, nullptr},
    {63 /* PR_SME_SET_VL */, nullptr},
    {64 /* PR_SME_GET_VL */, nullptr},
};

}  // namespace

s64 sys_prctl(Call& c) {
  const int option = c.i(0);
  switch (option) {
    case PR_GET_TID_ADDRESS: return c.memory.write(c.a[1], c.thread.clear_child_tid) ? 0 : -EFAULT;
    case PR_SET_VMA: return -EINVAL;  // as a kernel that keeps no names of anonymous mappings
    case PR_GET_SECCOMP: return seccomp_mode(c.thread);
    case PR_SET_SECCOMP:
      return c.a[1] == 1 ? set_seccomp_strict(c) : c.a[1] == 2 ? add_seccomp_filter(c, c.a[2], 0) : -EINVAL;
    case PR_GET_TSC:  // x86's; always readable here
      if (c.abi.elf_machine != 62 && c.abi.elf_machine != 3) return -EINVAL;
      return c.memory.write(c.a[1], s32{PR_TSC_ENABLE}) ? 0 : -EFAULT;
    case PR_SET_TSC:
      if (c.a[1] == PR_TSC_ENABLE && (c.abi.elf_machine == 62 || c.abi.elf_machine == 3)) return 0;
      break;
    default:
      for (const Prctl& row : kPrctls)
        if (row.option == option) return row.letters ? pass_by_letters(c, SYS_prctl, row.letters) : -EINVAL;
      break;
  }
  say_once(c.process, "unimplemented prctl " + std::to_string(option));
  return -EINVAL;
}

}  // namespace kiln::user
