// Memory: mmap and its family, brk, SysV shared memory.
#include <linux/capability.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <map>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

s64 sys_mmap(Call& c) {
  const u32 prot = c.u(2);
  if (prot & ~u32{PROT_READ | PROT_WRITE | PROT_EXEC | 8 /* PROT_SEM */})
    return -EINVAL;  // PROT_BTI, PROT_MTE: not this processor
  return c.memory.map(c.a[0], c.a[1], prot & 7, c.u(3), c.i(4), c.a[5]);
}
s64 sys_munmap(Call& c) { return c.memory.unmap(c.a[0], c.a[1]); }
s64 sys_mprotect(Call& c) { return c.memory.protect(c.a[0], c.a[1], c.u(2)); }
s64 sys_mremap(Call& c) { return c.memory.remap(c.a[0], c.a[1], c.a[2], c.u(3), c.a[4]); }
s64 sys_brk(Call& c) { return static_cast<s64>(c.memory.brk(c.a[0])); }

s64 sys_pkey_mprotect(Call& c) { return c.i(3) == -1 ? c.memory.protect(c.a[0], c.a[1], c.u(2)) : -EINVAL; }
s64 sys_pkey_alloc(Call&) { return -ENOSPC; }
s64 sys_pkey_free(Call&) { return -EINVAL; }

namespace {
/// A syscall over a page range that must be mapped: what the guest has not mapped is mapped for the host (the reservation).
template <class... Rest>
s64 over_range(Call& c, long number, Rest... rest) {
  if (c.a[0] & (kPageSize - 1)) return -EINVAL;
  const u64 length = page_up(c.a[1]);
  if (length < c.a[1]) return -EINVAL;
  if (length == 0) return 0;
  if (!c.memory.in_range(c.a[0], length) || !c.memory.mapped(c.a[0], length)) return -ENOMEM;
  return c.host(number, c.in(0), length, rest...);
}
}  // namespace

s64 sys_msync(Call& c) { return over_range(c, SYS_msync, c.a[2]); }
s64 sys_mlock(Call& c) {
  c.a[1] += c.a[0] & (kPageSize - 1);
  c.a[0] = page_down(c.a[0]);
  return over_range(c, SYS_mlock);
}
s64 sys_mlock2(Call& c) {
  c.a[1] += c.a[0] & (kPageSize - 1);
  c.a[0] = page_down(c.a[0]);
  return over_range(c, SYS_mlock2, c.a[2]);
}
s64 sys_munlock(Call& c) {
  c.a[1] += c.a[0] & (kPageSize - 1);
  c.a[0] = page_down(c.a[0]);
  return over_range(c, SYS_munlock);
}
// The host's mlockall would lock Kiln's own memory and the whole reservation: the guest's mappings are locked one by one.
s64 sys_mlockall(Call& c) {
  const u32 flags = c.u(0);
  if (flags == 0 || flags == MCL_ONFAULT || (flags & ~u32{MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT})) return -EINVAL;
  rlimit limit{};
  getrlimit(RLIMIT_MEMLOCK, &limit);
  if (!has_capability(CAP_IPC_LOCK)) {
    if (limit.rlim_cur == 0) return -EPERM;
    if ((flags & MCL_CURRENT) && c.memory.mapped_bytes() > limit.rlim_cur) return -ENOMEM;
  }
  return c.memory.lock_all(flags);
}
s64 sys_munlockall(Call& c) { return c.memory.lock_all(0); }
s64 sys_mincore(Call& c) { return over_range(c, SYS_mincore, c.out(2, page_up(c.a[1]) / kPageSize)); }

s64 sys_madvise(Call& c) {
  const int advice = c.i(2);
  if (advice == MADV_HWPOISON || advice == 101 /* MADV_SOFT_OFFLINE */) return -EPERM;
  if (c.a[0] & (kPageSize - 1)) return -EINVAL;
  const u64 length = page_up(c.a[1]);
  if (length < c.a[1] || c.a[0] + length < c.a[0]) return -EINVAL;
  // An advice that the host does not know is one that Linux does not know, range or not.
  if (const s64 r = raw_syscall(SYS_madvise, c.memory.base(), 0, static_cast<u64>(advice)); r < 0) return r;
  if (length == 0) return 0;
  return c.memory.in_range(c.a[0], length) ? c.memory.advise(c.a[0], length, advice) : -ENOMEM;
}

s64 sys_remap_file_pages(Call& c) {
  if (c.u(2) != 0) return -EINVAL;
  return c.memory.remap_file(page_down(c.a[0]), page_down(c.a[1]), c.a[3], c.u(4));
}

s64 sys_set_mempolicy_home_node(Call& c) {
  if (c.a[0] & (kPageSize - 1)) return -EINVAL;
  return c.host(SYS_set_mempolicy_home_node, c.in(0), c.a[1], c.a[2], c.a[3]);
}

s64 sys_move_pages(Call& c) {
  constexpr u64 kMostPages = 1 << 20;
  if (c.a[1] > kMostPages) return -E2BIG;
  const bool guest = is_kiln_process(c.i(0));
  const unsigned word = c.abi.guest->pointer_bits / 8;
  std::vector<u64> pages(c.a[1]);
  for (u64 n = 0; n < c.a[1]; ++n) {
    u64 page = 0;
    if (!c.memory.read(c.a[2] + n * word, &page, word)) return -EFAULT;
    pages[n] = guest ? Call::to_u64(c.memory.pointer(page)) : page;
  }
  return c.host(SYS_move_pages, c.a[0], pages.size(), pages.data(), c.in(3), c.out(4, c.a[1] * 4), c.a[5]);
}

s64 sys_mbind(Call& c) { return c.host(SYS_mbind, c.in(0), c.a[1], c.a[2], c.in(3), c.a[4], c.a[5]); }
s64 sys_get_mempolicy(Call& c) { return c.host(SYS_get_mempolicy, c.out(0), c.out(1), c.a[2], c.in(3), c.a[4]); }

// --- SysV shared memory ----------------------------------------------------------------------------------------------

namespace {
std::mutex shm_mutex;
std::map<GuestAddr, u64> shm_segments;  // attached here: address → size
}  // namespace

s64 sys_shmat(Call& c) {
  shmid_ds info{};
  if (shmctl(c.i(0), IPC_STAT, &info) != 0) return -errno;
  const int flags = c.i(2);
  GuestAddr hint = c.a[1];
  if ((flags & SHM_RND) && hint) hint = page_down(hint);
  if (hint & (kPageSize - 1)) return -EINVAL;
  const u32 prot = ((flags & SHM_RDONLY) ? PROT_READ : PROT_READ | PROT_WRITE) | ((flags & SHM_EXEC) ? PROT_EXEC : 0);
  const s64 at = c.memory.place(hint, info.shm_segsz, prot, (flags & SHM_REMAP) != 0, [&](void* host) -> s64 {
    void* p = shmat(c.i(0), host, (flags & ~SHM_EXEC) | SHM_REMAP);
    return p == reinterpret_cast<void*>(-1) ? -errno : 0;
  });
  if (at < 0) return at;
  if (hint && static_cast<GuestAddr>(at) != hint) {
    c.memory.unmap(static_cast<GuestAddr>(at), info.shm_segsz);
    return -EINVAL;
  }
  std::lock_guard guard(shm_mutex);
  shm_segments[static_cast<GuestAddr>(at)] = page_up(info.shm_segsz);
  return at;
}

s64 sys_shmdt(Call& c) {
  u64 size;
  {
    std::lock_guard guard(shm_mutex);
    auto it = shm_segments.find(c.a[0]);
    if (it == shm_segments.end()) return -EINVAL;
    size = it->second;
    shm_segments.erase(it);
  }
  return c.memory.unmap(c.a[0], size);  // mapping over it detaches, too
}

}  // namespace kiln::user
