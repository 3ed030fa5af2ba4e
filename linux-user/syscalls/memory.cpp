// Memory: mmap and its family, brk, SysV shared memory.
#include <sys/mman.h>
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
// Locking everything would lock Kiln's own memory and the whole reservation. The guest cannot tell.
s64 sys_mlockall(Call& c) { return c.a[0] == 0 || (c.a[0] & ~u64{7}) ? -EINVAL : 0; }
s64 sys_munlockall(Call&) { return 0; }
s64 sys_mincore(Call& c) { return over_range(c, SYS_mincore, c.out(2, page_up(c.a[1]) / kPageSize)); }

s64 sys_madvise(Call& c) {
  switch (c.i(2)) {
    case MADV_DONTNEED:
    case MADV_FREE:
    case MADV_REMOVE:
      // The bytes change: code translated from them must go.
      c.memory.prepare_write(c.a[0], c.a[1]);
      break;
    case MADV_HWPOISON:
    case 101 /* MADV_SOFT_OFFLINE */: return -EPERM;
    default: break;
  }
  return over_range(c, SYS_madvise, c.a[2]);
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
