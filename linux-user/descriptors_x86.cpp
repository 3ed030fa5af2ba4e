#include "linux-user/descriptors_x86.h"

#include <sched.h>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

using x86::X86State;

u64 make_descriptor(const UserDesc& d) {
  const u64 limit = d.limit, base = d.base;
  u64 v = (limit & 0xffff) | (base & 0xffffff) << 16 | (limit >> 16 & 15) << 48 | (base >> 24) << 56;
  const u64 type = ((d.flags & kReadExecOnly) ? 0 : 2) | contents(d) << 2 | 1;
  v |= type << 40 | u64{1} << 44 | u64{3} << 45;
  if (!(d.flags & kSegNotPresent)) v |= u64{1} << 47;
  if (d.flags & kUseable) v |= u64{1} << 52;
  if (d.flags & kSeg32Bit) v |= u64{1} << 54;
  if (d.flags & kLimitInPages) v |= u64{1} << 55;
  return v;
}

UserDesc describe(u32 entry, u64 v) {
  UserDesc d{entry, x86::descriptor_base(v), static_cast<u32>((v & 0xffff) | (v >> 32 & 0xf0000)), 0};
  const u32 type = static_cast<u32>(v >> 40 & 15);
  d.flags = (v >> 54 & 1 ? kSeg32Bit : 0) | (type >> 2) << kContentsShift | (type & 2 ? 0 : kReadExecOnly) |
            (v >> 55 & 1 ? kLimitInPages : 0) | (v >> 47 & 1 ? 0 : kSegNotPresent) | (v >> 52 & 1 ? kUseable : 0);
  return d;
}

namespace {
void load_again(X86State& s, x86::Seg seg) {
  if (x86::load_user_segment(s, seg, s.selector[seg]) != 0) x86::load_user_segment(s, seg, 0);
}
/// A 64-bit kernel's refresh_ldt_segments(): FS and GS keep the base that they were loaded with.
void reload_ldt_segments(Thread& thread) {
  auto& s = *static_cast<X86State*>(thread.cpu);
  for (const x86::Seg seg : {x86::DS, x86::ES})
    if (s.selector[seg] & 4) load_again(s, seg);
}

/// Every thread has loaded its segments of the LDT again before it runs more of the guest's code. Those that run some now are
/// waited for, as the kernel waits for the other processors.
void ldt_changed(Thread& self) {
  reload_ldt_segments(self);
  Process& process = *self.process;
  std::lock_guard guard(process.threads_mutex);
  for (Thread* thread : process.threads) {
    if (thread == &self) continue;
    std::atomic_ref(thread->before_run).store(reload_ldt_segments);
    __atomic_store_n(&thread->cpu->interrupt, 1u, __ATOMIC_SEQ_CST);
  }
  // Not for ever: a thread may be held up inside a helper by a page that another one supplies.
  for (unsigned tries = 0; tries < 1000; ++tries) {
    bool running = false;
    for (Thread* thread : process.threads)
      running |= thread != &self && std::atomic_ref(thread->before_run).load() != nullptr &&
                 __atomic_load_n(&thread->cpu->in_code, __ATOMIC_SEQ_CST);
    if (!running) break;
    sched_yield();
  }
}

/// Behind the entries: how many there have ever been, as the kernel counts them (cleared ones stay).
constexpr std::size_t kLdtUsed = x86::kLdtEntries;

s64 read_ldt(Call& c, const u64* ldt) {
  constexpr u64 kBytes = x86::kLdtEntries * 8;
  const u64 used = ldt[kLdtUsed];
  if (used == 0) return 0;
  const u64 size = std::min<u64>(c.a[2], kBytes), filled = std::min(size, used * 8);
  const std::vector<u8> zeros(size - filled);
  return c.memory.write(c.a[1], ldt, filled) && c.memory.write(c.a[1] + filled, zeros.data(), zeros.size())
             ? static_cast<s64>(size)
             : -EFAULT;
}

s64 write_ldt(Call& c, u64* ldt, bool old_mode) {
  UserDesc d;
  if (c.a[2] != sizeof d) return -EINVAL;
  if (!c.memory.read(c.a[1], d)) return -EFAULT;
  if (d.entry_number >= x86::kLdtEntries) return -EINVAL;
  if (contents(d) == 3 && (old_mode || !(d.flags & kSegNotPresent))) return -EINVAL;
  u64 v = 0;
  if (!(old_mode && d.base == 0 && d.limit == 0) && !is_empty(d)) {
    v = make_descriptor(d);
    if (old_mode) v &= ~(u64{1} << 52);
  }
  __atomic_store_n(&ldt[d.entry_number], v, __ATOMIC_RELAXED);
  u64 used = __atomic_load_n(&ldt[kLdtUsed], __ATOMIC_RELAXED);
  while (used <= d.entry_number &&
         !__atomic_compare_exchange_n(&ldt[kLdtUsed], &used, d.entry_number + u64{1}, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  ldt_changed(c.thread);
  return 0;
}

s64 modify_ldt(Call& c) {
  u64* ldt = static_cast<X86State*>(c.thread.cpu)->ldt;
  constexpr u64 kDefaultBytes = 128;
  if (!ldt) return -ENOSYS;
  switch (c.u(0)) {
    case 0: return read_ldt(c, ldt);
    case 1: return write_ldt(c, ldt, true);
    case 2: {
      const std::vector<u8> zeros(std::min<u64>(c.a[2], kDefaultBytes));
      return c.memory.write(c.a[1], zeros.data(), zeros.size()) ? static_cast<s64>(zeros.size()) : -EFAULT;
    }
    case 0x11: return write_ldt(c, ldt, false);
    default: return -ENOSYS;
  }
}
}  // namespace

void reload_segments(X86State& s, u32 selector) {
  for (const x86::Seg seg : {x86::DS, x86::ES, x86::FS, x86::GS})
    if (s.selector[seg] == selector) load_again(s, seg);
}

u64* new_ldt() { return new u64[x86::kLdtEntries + 1](); }

/// Linux gives an unsigned int: errors are no negative numbers in 64-bit code.
s64 sys_modify_ldt(Call& c) { return static_cast<s64>(static_cast<u32>(modify_ldt(c))); }
s64 c32_modify_ldt(Call& c) { return modify_ldt(c); }

}  // namespace kiln::user
