// MemoryMap: what is said about mappings that exist. Advice, locks, limits, other pages of a file.
#include <sys/mman.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>

#include "linux-user/host_x86_64.h"
#include "linux-user/memory_map.h"

namespace kiln::user {
namespace {

constexpr u32 kLockOnFault = 1;  // mlock2's MLOCK_ONFAULT

/// The bytes are others afterwards.
bool changes_contents(int advice) {
  return advice == MADV_DONTNEED || advice == MADV_FREE || advice == MADV_REMOVE || advice == 24 /* MADV_DONTNEED_LOCKED */;
}

}  // namespace

s64 MemoryMap::advise(GuestAddr address, u64 length, int advice) {
  const GuestAddr end = address + length;
  // MADV_POPULATE_WRITE asks for the right to write, too.
  if (changes_contents(advice) || advice == 23) prepare_write(address, length);
  Stale stale;
  s64 result = 0;
  mutex_.lock();
  GuestAddr at = address;
  auto it = areas_.upper_bound(address);
  if (it != areas_.begin() && std::prev(it)->second.end > address) --it;
  for (; it != areas_.end() && it->first < end; ++it) {
    const GuestAddr from = std::max(it->first, address), to = std::min(it->second.end, end);
    if (from != at) result = -ENOMEM;
    if (changes_contents(advice)) {
      for (auto page = code_pages_.lower_bound(from); page != code_pages_.end() && *page < to; ++page)
        stale.emplace_back(*page, kPageSize);
    }
    if (madvise(host(from), to - from, advice) != 0) {
      result = -errno;
      at = end;
      break;
    }
    at = to;
    if ((advice == MADV_DONTFORK || advice == MADV_DOFORK) && it->second.dont_fork != (advice == MADV_DONTFORK)) {
      split(from);
      split(to);
      it = areas_.find(from);
      it->second.dont_fork = advice == MADV_DONTFORK;
    }
  }
  if (at != end) result = -ENOMEM;
  mutex_.unlock();
  invalidate(stale);
  return result;
}

void MemoryMap::forked() {
  lock_future_ = 0;
  std::vector<std::pair<GuestAddr, GuestAddr>> gone;
  for (const auto& [start, area] : areas_)
    if (area.dont_fork) gone.emplace_back(start, area.end);
  for (const auto& [start, end] : gone) {  // the host has holes there
    const bool had_code = drop_code(start, end);
    erase_areas(start, end);
    reserve_hole(start, end - start);
    if (had_code) invalidate(start, end - start);
  }
}

s64 MemoryMap::remap_file(GuestAddr address, u64 length, u64 page_offset, u32 flags) {
  if ((address & (kPageSize - 1)) || length == 0) return -EINVAL;
  length = page_up(length);
  if (!in_range(address, length)) return -EINVAL;
  Stale stale;
  mutex_.lock();
  s64 result = -EINVAL;
  auto it = find(address);
  if (it != areas_.end() && it->second.shared && it->second.file && it->second.end >= address + length) {
    Area area = it->second;
    // The kernel does it with one mmap of the file: the host's page protection is the guest's again.
    result = raw_syscall(SYS_remap_file_pages, reinterpret_cast<u64>(host(address)), length, 0, page_offset, flags);
    if (result == 0) {
      drop_code(address, address + length, stale);
      erase_areas(address, address + length);
      area.end = address + length;
      area.offset = page_offset * kPageSize;
      mprotect(host(address), length, static_cast<int>(host_rights(area.prot)));
      drop_code_of_file(area, address, stale);
      insert_area(address, area);
    }
  }
  mutex_.unlock();
  invalidate(stale);
  return result;
}

s64 MemoryMap::lock_all(u32 flags) {
  std::lock_guard guard(mutex_);
  const u64 how = (flags & MCL_ONFAULT) ? kLockOnFault : 0;
  lock_future_ = (flags & MCL_FUTURE) ? flags & u32{MCL_FUTURE | MCL_ONFAULT} : 0;
  for (const auto& [start, area] : areas_) {
    // As in Linux, what cannot be made present is no error.
    if (flags & MCL_CURRENT) raw_syscall(SYS_mlock2, reinterpret_cast<u64>(host(start)), area.end - start, how);
    else if (flags == 0) munlock(host(start), area.end - start);
  }
  return 0;
}

bool MemoryMap::lock_new(GuestAddr start, u64 length, u32 prot) const {
  if (lock_future_ == 0) return true;
  const u64 how = (lock_future_ & MCL_ONFAULT) ? kLockOnFault : 0;
  return raw_syscall(SYS_mlock2, reinterpret_cast<u64>(host(start)), length, how) == 0 || prot == PROT_NONE;
}

u64 MemoryMap::mapped_bytes() {
  std::lock_guard guard(mutex_);
  u64 total = 0;
  for (const auto& [start, area] : areas_) total += area.end - start;
  return total;
}

void MemoryMap::set_limits(u64 address_space, u64 data) {
  std::lock_guard guard(mutex_);
  limit_space_ = address_space;
  limit_data_ = data;
}

bool MemoryMap::exceeds_limits(GuestAddr start, u64 length, u32 prot, bool shared) const {
  if (limit_space_ == ~u64{0} && limit_data_ == ~u64{0}) [[likely]] return false;
  auto is_data = [](u32 rights, bool common) { return (rights & PROT_WRITE) && !common; };
  u64 space = length, data = is_data(prot, shared) ? length : 0;
  for (const auto& [area_start, area] : areas_) {
    // What lies in the way is replaced.
    const GuestAddr from = std::max(area_start, start), to = std::min(area.end, start + length);
    const u64 rest = area.end - area_start - (from < to ? to - from : 0);
    space += rest;
    if (is_data(area.prot, area.shared)) data += rest;
  }
  return space > limit_space_ || (is_data(prot, shared) && data > limit_data_);
}

}  // namespace kiln::user
