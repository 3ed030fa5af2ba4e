// 32-bit layer: memory, ids, processes, threads, time, limits.
#include <linux/futex.h>
#include <linux/sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/times.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

#include "linux-user/syscalls/compat32.h"

namespace kiln::user {

// --- memory ------------------------------------------------------------------------------------------------------------------

s64 c32_mmap2(Call& c) {
  constexpr u32 kMap32Bit = 0x40;  // everything is
  const u32 prot = c.u(2);
  if (prot & ~u32{PROT_READ | PROT_WRITE | PROT_EXEC | 8 /* PROT_SEM */}) return -EINVAL;
  return c.memory.map(c.a[0], c.a[1], prot & 7, c.u(3) & ~kMap32Bit, c.i(4), c.a[5] << 12);
}
/// The first mmap: six arguments in memory, the offset in bytes.
s64 c32_mmap(Call& c) {
  u32 a[6];
  for (unsigned k = 0; k < 6; ++k)
    if (!get_word(c, c.a[0] + 4 * k, a[k])) return -EFAULT;
  if (a[5] & (kPageSize - 1)) return -EINVAL;
  for (unsigned k = 0; k < 6; ++k) c.a[k] = a[k];
  c.a[5] >>= 12;
  return c32_mmap2(c);
}

// --- 16-bit ids
// ----------------------------------------------------------------------------------------------------------------
namespace {

s64 id(long number) { return narrow_id(raw_syscall(number)); }

s64 three_ids(Call& c, long number) {
  u32 ids[3];
  const s64 r = c.host(number, &ids[0], &ids[1], &ids[2]);
  if (r < 0) return r;
  for (unsigned k = 0; k < 3; ++k)
    if (!put_word<u16>(c, c.a[k], narrow_id(ids[k]))) return -EFAULT;
  return 0;
}

}  // namespace

s64 c32_getuid(Call&) { return id(SYS_getuid); }
s64 c32_getgid(Call&) { return id(SYS_getgid); }
s64 c32_geteuid(Call&) { return id(SYS_geteuid); }
s64 c32_getegid(Call&) { return id(SYS_getegid); }
s64 c32_getresuid(Call& c) { return three_ids(c, SYS_getresuid); }
s64 c32_getresgid(Call& c) { return three_ids(c, SYS_getresgid); }

s64 c32_getgroups(Call& c) {
  constexpr int kMostGroups = 65536;
  if (c.i(0) < 0) return -EINVAL;
  std::vector<u32> groups(static_cast<std::size_t>(std::min(c.i(0), kMostGroups)));
  const s64 n = c.host(SYS_getgroups, groups.size(), groups.data());
  if (c.i(0) == 0) return n;
  for (s64 k = 0; k < n; ++k)
    if (!put_word<u16>(c, c.a[1] + 2 * static_cast<u64>(k), narrow_id(groups[static_cast<std::size_t>(k)]))) return -EFAULT;
  return n;
}
s64 c32_setgroups(Call& c) {
  constexpr u32 kMostGroups = 65536;
  if (c.u(0) > kMostGroups) return -EINVAL;
  std::vector<u32> groups(c.u(0));
  for (u32 k = 0; k < groups.size(); ++k) {
    u16 value;
    if (!get_word(c, c.a[1] + 2 * k, value)) return -EFAULT;
    groups[k] = wide_id(value);
  }
  return c.host(SYS_setgroups, groups.size(), groups.data());
}

// --- processes and threads
// -------------------------------------------------------------------------------------------------------

s64 c32_clone(Call& c) {
  if ((c.a[0] & CLONE_SETTLS) && c.abi.check_thread_pointer &&
      !c.abi.check_thread_pointer(c.thread, c.a[c.abi.clone_tls_last ? 4 : 3]))
    return -EINVAL;
  return sys_clone(c);
}

s64 c32_set_robust_list(Call& c) {
  if (c.a[1] != 12) return -EINVAL;
  c.thread.robust_list = c.a[0];
  c.thread.robust_list_size = c.a[1];
  return 0;
}
s64 c32_get_robust_list(Call& c) {
  const int tid = c.i(0);
  Thread* found = tid == 0 ? &c.thread : nullptr;
  {
    std::lock_guard guard(c.process.threads_mutex);
    for (Thread* t : c.process.threads)
      if (t->tid == tid) found = t;
  }
  if (!found) return -ESRCH;
  return put_word<u32>(c, c.a[1], static_cast<u32>(found->robust_list)) && put_word<u32>(c, c.a[2], 12) ? 0 : -EFAULT;
}

namespace {
s64 futex(Call& c, TimeSize size) {
  Timeout timeout;
  switch (c.i(1) & FUTEX_CMD_MASK) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_WAIT_REQUEUE_PI:
      if (const int r = get_timeout(c, c.a[3], size, timeout); r < 0) return r;
      return c.host(SYS_futex, c.in(0), c.a[1], c.a[2], timeout.host(), c.in(4), c.a[5]);
    default: return sys_futex(c);
  }
}
}  // namespace
s64 c32_futex(Call& c) { return futex(c, TimeSize::Bits32); }
s64 c32_futex_time64(Call& c) { return futex(c, TimeSize::Bits64); }

namespace {
/// Processor sets: arrays of the guest's long; the host wants multiples of its own.
constexpr std::size_t kMostCpuWords = 1024 / 32 * 4;
}  // namespace

s64 c32_sched_setaffinity(Call& c) {
  u64 set[kMostCpuWords / 2] = {};
  const std::size_t words = std::min<std::size_t>(c.u(1) / 4, kMostCpuWords);
  for (std::size_t w = 0; w < words; ++w) {
    u32 value;
    if (!get_word(c, c.a[2] + 4 * w, value)) return -EFAULT;
    set[w / 2] |= u64{value} << (32 * (w & 1));
  }
  return c.host(SYS_sched_setaffinity, c.a[0], (words + 1) / 2 * 8, set);
}
s64 c32_sched_getaffinity(Call& c) {
  if (c.u(1) & 3) return -EINVAL;
  u64 set[kMostCpuWords / 2] = {};
  if (s64{c.u(1)} * 8 < sysconf(_SC_NPROCESSORS_CONF)) return -EINVAL;
  const s64 n = c.host(SYS_sched_getaffinity, c.a[0], sizeof set, set);
  if (n < 0) return n;
  const std::size_t bytes = std::min<std::size_t>(c.u(1), static_cast<std::size_t>(n));
  for (std::size_t w = 0; w < bytes / 4; ++w)
    if (!put_word<u32>(c, c.a[2] + 4 * w, static_cast<u32>(set[w / 2] >> (32 * (w & 1))))) return -EFAULT;
  return static_cast<s64>(bytes);
}

s64 c32_nice(Call& c) {
  const s64 now = 20 - raw_syscall(SYS_getpriority, PRIO_PROCESS, 0);
  const s64 fresh = std::clamp<s64>(now + std::clamp(c.i(0), -40, 40), -20, 19);
  const s64 r = c.host(SYS_setpriority, int{PRIO_PROCESS}, 0, fresh);
  return r == -EACCES ? -EPERM : r;
}

// --- limits
// ----------------------------------------------------------------------------------------------------------------------
namespace {

constexpr u32 kInfinity32 = 0xffffffff;

s64 get_limit(Call& c, u32 infinity) {
  u64 value[2];
  if (const u64* own = guest_limit(c.process, c.u(0))) {
    std::memcpy(value, own, sizeof value);
  } else {
    const s64 r = c.host(SYS_prlimit64, 0, c.u(0), nullptr, value);
    if (r < 0) return r;
  }
  for (unsigned k = 0; k < 2; ++k)
    if (!put_word<u32>(c, c.a[1] + 4 * k, value[k] > infinity ? infinity : static_cast<u32>(value[k]))) return -EFAULT;
  return 0;
}

}  // namespace

s64 c32_ugetrlimit(Call& c) { return get_limit(c, kInfinity32); }
/// The first getrlimit knew signed limits.
s64 c32_getrlimit(Call& c) { return get_limit(c, 0x7fffffff); }
s64 c32_setrlimit(Call& c) {
  u64 value[2];
  for (unsigned k = 0; k < 2; ++k) {
    u32 word;
    if (!get_word(c, c.a[1] + 4 * k, word)) return -EFAULT;
    value[k] = word == kInfinity32 ? ~u64{0} : word;
  }
  if (guest_limit(c.process, c.u(0))) return set_guest_limit(c.process, c.u(0), value);
  return c.host(SYS_prlimit64, 0, c.u(0), value, nullptr);
}

// --- the system
// --------------------------------------------------------------------------------------------------------------------

s64 c32_sysinfo(Call& c) {
  u8 host[kLayoutBytes] = {};
  static_assert(sizeof(struct sysinfo) <= kLayoutBytes);
  struct sysinfo info;
  const s64 r = c.host(SYS_sysinfo, &info);
  if (r < 0) return r;
  // As Linux tells 32-bit programs: in larger units when the memory needs it.
  constexpr u64 kMost = 0xffffffff;
  while (std::max<u64>(info.totalram, info.totalswap) > kMost) {
    for (auto* v : {&info.totalram, &info.freeram, &info.sharedram, &info.bufferram, &info.totalswap, &info.freeswap,
                    &info.totalhigh, &info.freehigh})
      *v >>= 12;
    info.mem_unit <<= 12;
  }
  std::memcpy(host, &info, sizeof info);
  return put_struct(c, c.a[0], kSysinfo32, host[0]);
}

s64 c32_times(Call& c) {
  tms t{};
  const s64 r = c.host(SYS_times, &t);
  if (c.a[0]) {
    if (const int e = put_struct(c, c.a[0], kTms32, t); e < 0) return e;
  }
  return static_cast<s32>(r);
}

namespace {
/// Older utsnames: fields of 65 bytes without the domain, or of 9.
s64 old_uname(Call& c, std::size_t width) {
  utsname name{};
  const s64 r = raw_syscall(SYS_uname, reinterpret_cast<u64>(&name));
  if (r < 0) return r;
  std::strncpy(name.machine, c.abi.machine, sizeof name.machine - 1);
  if (!c.process.options.release.empty())
    std::strncpy(name.release, c.process.options.release.c_str(), sizeof name.release - 1);
  char out[5 * 65] = {};
  const char* fields[] = {name.sysname, name.nodename, name.release, name.version, name.machine};
  for (std::size_t k = 0; k < 5; ++k) std::strncpy(out + k * width, fields[k], width - 1);
  return c.memory.write(c.a[0], out, 5 * width) ? 0 : -EFAULT;
}
}  // namespace
s64 c32_olduname(Call& c) { return old_uname(c, 65); }
s64 c32_oldolduname(Call& c) { return old_uname(c, 9); }

// --- time
// ----------------------------------------------------------------------------------------------------------------------------

s64 c32_time(Call& c) {
  const s32 now = static_cast<s32>(time(nullptr));
  return c.a[0] == 0 || put_word(c, c.a[0], now) ? now : -EFAULT;
}
s64 c32_stime(Call& c) {
  s32 seconds;
  if (!get_word(c, c.a[0], seconds)) return -EFAULT;
  const timespec value{seconds, 0};
  return c.host(SYS_clock_settime, CLOCK_REALTIME, &value);
}
s64 c32_clock_gettime(Call& c) {
  timespec now;
  if (clock_gettime(c.i(0), &now) != 0) return -errno;
  return put_struct(c, c.a[1], kTimespec32, now);
}

namespace {
s64 sleep(Call& c, u64 clock, u64 flags, GuestAddr wanted, GuestAddr left_at, TimeSize size) {
  Timeout timeout;
  if (const int r = get_timeout(c, wanted, size, timeout); r < 0) return r;
  if (!timeout.given) return -EFAULT;
  timespec left{};
  const s64 r = c.host(SYS_clock_nanosleep, clock, flags, timeout.host(), &left);
  if (r == -EINTR && left_at && !(flags & TIMER_ABSTIME)) {
    if (const int e = put_timeout(c, left_at, size, left); e < 0) return e;
  }
  return r;
}
}  // namespace
s64 c32_nanosleep(Call& c) { return sleep(c, CLOCK_MONOTONIC, 0, c.a[0], c.a[1], TimeSize::Bits32); }
s64 c32_clock_nanosleep(Call& c) { return sleep(c, c.a[0], c.a[1], c.a[2], c.a[3], TimeSize::Bits32); }
s64 c32_clock_nanosleep_time64(Call& c) { return sleep(c, c.a[0], c.a[1], c.a[2], c.a[3], TimeSize::Bits64); }

s64 c32_timer_create(Call& c) {
  sigevent event{};
  if (c.a[1]) {
    if (const int r = get_struct(c, c.a[1], kSigevent32, event); r < 0) return r;
  }
  return c.host(SYS_timer_create, c.a[0], c.a[1] ? &event : nullptr, c.out(2, 4));
}

}  // namespace kiln::user
