#include "linux-user/memory_map.h"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>

#include "linux-user/host_x86_64.h"

namespace kiln::user {
namespace {

#if __has_feature(thread_sanitizer)
// Its shadow begins at 2^44; below 2^41 is room for a small guest.
constexpr HostAddr kPreferredBase = HostAddr{1} << 40, kReservationEnd = (HostAddr{1} << 41) - 0x10000;
#else
constexpr HostAddr kPreferredBase = HostAddr{1} << 44;
// Up to here; the rest of the 47 bits is for Kiln's own mappings.
constexpr HostAddr kReservationEnd = HostAddr{0x7c00} << 32;
#endif
constexpr u32 kProtSem = 8;                    // accepted and without meaning, as in Linux
constexpr GuestAddr kLowestMapping = 0x10000;  // Linux's mmap_min_addr
constexpr GuestAddr kLow2G = u64{1} << 31;     // where MAP_32BIT ends

/// Guest code is read by the translator, never run by the host; writable memory is readable on every guest we have.
int host_prot(u32 prot) {
  int p = static_cast<int>(prot & (PROT_READ | PROT_WRITE));
  if (prot & (PROT_EXEC | PROT_WRITE)) p |= PROT_READ;
  return p;
}

}  // namespace

int MemoryMap::host_rights(u32 prot) { return host_prot(prot); }

Result<void> MemoryMap::reserve(unsigned max_bits) {
  // A limit on address space (ulimit -v) or five-level paging tricks may forbid the big one.
  for (unsigned bits = max_bits; bits >= 32; --bits) {
    const u64 size = std::min(u64{1} << bits, kReservationEnd - kPreferredBase);
    // What a null pointer with a (negative) offset hits is not ours either. A 32-bit guest's addresses do not go below 0.
    const u64 guard = max_bits > 32 ? u64{1} << 30 : 0x10000;
    void* p = mmap(reinterpret_cast<void*>(kPreferredBase - guard), guard + size + 0x10000, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (p == MAP_FAILED) continue;
    base_ = kPreferredBase;
    limit_ = size;
    return {};
  }
  return Error{"cannot reserve address space for the guest (is `ulimit -v` set?)"};
}

MemoryMap::Areas::iterator MemoryMap::find(GuestAddr address) {
  auto it = areas_.upper_bound(address);
  if (it == areas_.begin()) return areas_.end();
  --it;
  return address < it->second.end ? it : areas_.end();
}

bool MemoryMap::free_range(GuestAddr start, GuestAddr end) {
  auto it = areas_.upper_bound(start);
  if (it != areas_.end() && it->first < end) return false;
  return it == areas_.begin() || std::prev(it)->second.end <= start;
}

void MemoryMap::split(GuestAddr at) {
  auto it = find(at);
  if (it == areas_.end() || it->first == at) return;
  Area upper = it->second;
  upper.offset += at - it->first;
  it->second.end = at;
  areas_.emplace(at, upper);
}

void MemoryMap::erase_areas(GuestAddr start, GuestAddr end) {
  split(start);
  split(end);
  areas_.erase(areas_.lower_bound(start), areas_.lower_bound(end));
  names_.erase(names_.lower_bound(start), names_.lower_bound(end));
}

void MemoryMap::insert_area(GuestAddr start, const Area& area) {
  auto joins = [](GuestAddr low_start, const Area& low, const Area& high) {
    return low.prot == high.prot && low.shared == high.shared && low.anonymous == high.anonymous && low.file == high.file && low.dont_fork == high.dont_fork &&
           (low.file == 0 || low.offset + (low.end - low_start) == high.offset);
  };
  auto next = areas_.lower_bound(area.end);
  Area merged = area;
  if (next != areas_.end() && next->first == area.end && joins(start, area, next->second)) {
    merged.end = next->second.end;
    next = areas_.erase(next);
  }
  if (next != areas_.begin()) {
    auto prev = std::prev(next);
    if (prev->second.end == start && joins(prev->first, prev->second, merged)) {
      prev->second.end = merged.end;
      return;
    }
  }
  areas_.emplace(start, merged);
}

GuestAddr MemoryMap::find_gap(u64 length, GuestAddr ceiling) {
  GuestAddr top = std::min(mmap_base_, ceiling);
  auto it = areas_.lower_bound(top);
  // Highest gap below mmap_base, then, as Linux does when that is full, the lowest one above the program.
  while (it != areas_.begin()) {
    --it;
    if (it->second.end < top && top - it->second.end >= length) return top - length;
    top = std::min(top, it->first);
    if (top < length + kLowestMapping) break;
  }
  if (it == areas_.begin() && top >= length + kLowestMapping) return top - length;
  if (ceiling < mmap_base_) return 0;
  GuestAddr bottom = mmap_base_;
  for (it = areas_.lower_bound(bottom); it != areas_.end(); ++it) {
    if (it->first > bottom && it->first - bottom >= length) return bottom;
    bottom = std::max(bottom, it->second.end);
  }
  return bottom + length <= limit_ ? bottom : 0;
}

/// Forgets write protection and the note of code in the range; true if there was any code. The caller invalidates later.
bool MemoryMap::drop_code(GuestAddr start, GuestAddr end) {
  auto first = code_pages_.lower_bound(start), last = code_pages_.lower_bound(end);
  const bool any = first != last;
  code_pages_.erase(first, last);
  protected_pages_.erase(protected_pages_.lower_bound(start), protected_pages_.lower_bound(end));
  write_protected_.store(protected_pages_.size(), std::memory_order_relaxed);
  return any;
}

void MemoryMap::drop_code(GuestAddr start, GuestAddr end, Stale& stale) {
  if (drop_code(start, end)) stale.emplace_back(start, end - start);
}

/// A new writable view of a file: code translated from its other views is no longer watched. It will be, when translated again.
void MemoryMap::drop_code_of_file(const Area& area, GuestAddr start, Stale& stale) {
  if (area.file == 0 || !(area.prot & PROT_WRITE) || code_pages_.empty()) return;
  for (const auto& [other_start, other] : areas_) {
    if (other.file != area.file || other_start == start) continue;
    for (auto page = code_pages_.lower_bound(other_start); page != code_pages_.end() && *page < other.end; ++page)
      stale.emplace_back(*page, kPageSize);
  }
}

template <class Fn>
void MemoryMap::for_each_alias(GuestAddr page, Fn&& fn) {
  auto own = find(page);
  if (own == areas_.end() || own->second.file == 0) return;
  const u64 file = own->second.file, offset = own->second.offset + (page - own->first);
  for (const auto& [start, area] : areas_) {
    if (area.file != file || offset < area.offset || offset - area.offset >= area.end - start) continue;
    const GuestAddr alias = start + (offset - area.offset);
    if (alias != page) fn(alias, area);
  }
}

void MemoryMap::set_protected(GuestAddr page, bool on) {
  if (on ? !protected_pages_.insert(page).second : protected_pages_.erase(page) == 0) return;
  write_protected_.store(protected_pages_.size(), std::memory_order_relaxed);
  auto it = find(page);
  if (it != areas_.end()) mprotect(host(page), kPageSize, on ? PROT_READ : host_prot(it->second.prot));
}

u64 MemoryMap::file_identity(int fd) {
  struct stat st;
  if (fstat(fd, &st) != 0) return 0;
  return files_.try_emplace({st.st_dev, st.st_ino}, files_.size() + 1).first->second;
}

void MemoryMap::reserve_hole(GuestAddr start, u64 length) const {
  mmap(host(start), length, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
}

s64 MemoryMap::map(GuestAddr address, u64 length, u32 prot, u32 flags, int fd, u64 offset) {
  Stale stale;
  mutex_.lock();
  const s64 result = map_locked(address, length, prot, flags, fd, offset, stale);
  mutex_.unlock();
  invalidate(stale);
  return result;
}

s64 MemoryMap::map_locked(GuestAddr address, u64 length, u32 prot, u32 flags, int fd, u64 offset, Stale& stale) {
  if (length == 0 || (offset & (kPageSize - 1))) return -EINVAL;
  length = page_up(length);
  if (length == 0 || length > limit_) return -ENOMEM;
  if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
    if (address & (kPageSize - 1)) return -EINVAL;
    if (!in_range(address, length)) return -ENOMEM;
    if (address < kLowestMapping) return -EPERM;
    if ((flags & MAP_FIXED_NOREPLACE) && !free_range(address, address + length)) return -EEXIST;
  } else {
    address = page_down(address);
    if (address < kLowestMapping || !in_range(address, length) || !free_range(address, address + length)) {
      address = find_gap(length, (flags & MAP_32BIT) ? kLow2G : ~GuestAddr{0});
      if (address == 0) return -ENOMEM;
    }
    if ((flags & MAP_32BIT) && address + length > kLow2G) {  // a hint above does not count
      address = find_gap(length, kLow2G);
      if (address == 0) return -ENOMEM;
    }
  }
  if (exceeds_limits(address, length, prot, (flags & MAP_TYPE) != MAP_PRIVATE)) return -ENOMEM;
  const int host_flags = static_cast<int>((flags & ~u32{MAP_FIXED_NOREPLACE | MAP_GROWSDOWN | MAP_32BIT}) | MAP_FIXED);
  void* p = mmap(host(address), length, host_prot(prot), host_flags, fd, static_cast<off_t>(offset));
  if (p == MAP_FAILED) return -errno;
  drop_code(address, address + length, stale);
  erase_areas(address, address + length);
  Area area{address + length, prot, (flags & MAP_TYPE) != MAP_PRIVATE, (flags & MAP_ANONYMOUS) != 0};
  if (area.shared && !area.anonymous) {
    area.file = file_identity(fd);
    area.offset = offset;
    drop_code_of_file(area, address, stale);
  }
  insert_area(address, area);
  if (!lock_new(address, length, prot)) {
    erase_areas(address, address + length);
    reserve_hole(address, length);
    return -EAGAIN;
  }
  return static_cast<s64>(address);
}

s64 MemoryMap::place(GuestAddr hint, u64 length, u32 prot, bool fixed, const std::function<s64(void*)>& place) {
  length = page_up(length);
  std::unique_lock guard(mutex_);
  GuestAddr address = page_down(hint);
  if (address == 0 || !in_range(address, length) || (!fixed && !free_range(address, address + length))) {
    if (fixed && address) return -EINVAL;
    address = find_gap(length);
    if (address == 0) return -ENOMEM;
  }
  const s64 result = place(host(address));
  if (result < 0) return result;
  const bool had_code = drop_code(address, address + length);
  erase_areas(address, address + length);
  insert_area(address, Area{address + length, prot, true, false});
  guard.unlock();
  if (had_code) invalidate(address, length);
  return static_cast<s64>(address);
}

s64 MemoryMap::unmap(GuestAddr address, u64 length) {
  if ((address & (kPageSize - 1)) || length == 0) return -EINVAL;
  length = page_up(length);
  if (length == 0 || !in_range(address, length)) return -EINVAL;
  mutex_.lock();
  const bool had_code = drop_code(address, address + length);
  erase_areas(address, address + length);
  reserve_hole(address, length);
  mutex_.unlock();
  if (had_code) invalidate(address, length);
  return 0;
}

s64 MemoryMap::protect(GuestAddr address, u64 length, u32 prot) {
  if (address & (kPageSize - 1)) return -EINVAL;
  if (prot & ~u32{PROT_READ | PROT_WRITE | PROT_EXEC | kProtSem | PROT_GROWSDOWN | PROT_GROWSUP}) return -EINVAL;
  prot &= PROT_READ | PROT_WRITE | PROT_EXEC;
  length = page_up(length);
  if (length == 0) return 0;
  if (!in_range(address, length)) return -ENOMEM;
  const GuestAddr end = address + length;
  std::unique_lock guard(mutex_);
  split(address);
  split(end);
  GuestAddr at = address;
  s64 result = 0;
  Stale stale;
  while (at < end) {
    auto it = find(at);
    if (it == areas_.end()) {
      result = -ENOMEM;
      break;
    }
    if (it->first < at) {  // the area before grew over what follows, because that has these rights already
      at = it->second.end;
      continue;
    }
    Area area = it->second;
    if (area.prot != prot) {
      if (mprotect(host(at), area.end - at, host_prot(prot)) != 0) {
        result = -errno;
        break;
      }
      drop_code(at, area.end, stale);
      area.prot = prot;
      drop_code_of_file(area, at, stale);
    }
    areas_.erase(it);
    insert_area(at, area);
    at = area.end;
  }
  // The splits may have cut areas whose rights did not change in the end.
  for (GuestAddr edge : {address, end}) {
    auto it = areas_.find(edge);
    if (it == areas_.end()) continue;
    Area area = it->second;
    areas_.erase(it);
    insert_area(edge, area);
  }
  guard.unlock();
  invalidate(stale);
  return result;
}

s64 MemoryMap::remap(GuestAddr old_address, u64 old_length, u64 new_length, u32 flags, GuestAddr new_address) {
  Stale stale;
  mutex_.lock();
  const s64 result = remap_locked(old_address, old_length, new_length, flags, new_address, stale);
  mutex_.unlock();
  invalidate(stale);
  return result;
}

s64 MemoryMap::remap_locked(GuestAddr old_address, u64 old_length, u64 new_length, u32 flags, GuestAddr new_address,
                            Stale& stale) {
  if (flags & ~u32{MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP}) return -EINVAL;
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) && !(flags & MREMAP_MAYMOVE)) return -EINVAL;
  if (old_address & (kPageSize - 1)) return -EINVAL;
  old_length = page_up(old_length);
  new_length = page_up(new_length);
  if (new_length == 0 || new_length > limit_) return -EINVAL;
  if (!in_range(old_address, std::max(old_length, kPageSize))) return -EFAULT;
  auto it = find(old_address);
  if (it == areas_.end() || it->second.end < old_address + old_length) return -EFAULT;
  Area area = it->second;
  const GuestAddr old_end = old_address + old_length;
  auto forget_code = [&](GuestAddr start, GuestAddr end) {
    if (start == end || !drop_code(start, end)) return;
    stale.emplace_back(start, end - start);
    mprotect(host(start), end - start, host_prot(area.prot));  // one mapping again for the host
  };

  if (flags & MREMAP_FIXED) {
    if ((new_address & (kPageSize - 1)) || !in_range(new_address, new_length)) return -EINVAL;
    if (new_address < old_end && old_address < new_address + new_length) return -EINVAL;
  } else if (!(flags & MREMAP_DONTUNMAP) && old_length != 0) {
    if (new_length <= old_length) {
      if (new_length == old_length) return static_cast<s64>(old_address);
      forget_code(old_address + new_length, old_end);
      erase_areas(old_address + new_length, old_end);
      reserve_hole(old_address + new_length, old_length - new_length);
      return static_cast<s64>(old_address);
    }
    const GuestAddr new_end = old_address + new_length;
    if (exceeds_limits(old_end, new_length - old_length, area.prot, area.shared)) return -ENOMEM;
    if (in_range(old_address, new_length) && free_range(old_end, new_end)) {
      forget_code(old_address, old_end);
      munmap(host(old_end), new_end - old_end);
      void* p = mremap(host(old_address), old_length, new_length, 0);
      if (p != MAP_FAILED) {
        area.end = new_end;
        erase_areas(old_address, old_end);
        insert_area(old_address, area);
        return static_cast<s64>(old_address);
      }
      const int error = errno;
      reserve_hole(old_end, new_end - old_end);
      if (!(flags & MREMAP_MAYMOVE)) return -error;
    }
    if (!(flags & MREMAP_MAYMOVE)) return -ENOMEM;
  }

  if (!(flags & MREMAP_FIXED)) {
    new_address = find_gap(new_length);
    if (new_address == 0) return -ENOMEM;
  }
  forget_code(old_address, old_end);
  drop_code(new_address, new_address + new_length, stale);
  void* p = mremap(host(old_address), old_length, new_length,
                   static_cast<int>(MREMAP_MAYMOVE | MREMAP_FIXED | (flags & MREMAP_DONTUNMAP)), host(new_address));
  if (p == MAP_FAILED) return -errno;
  if (old_length != 0 && !(flags & MREMAP_DONTUNMAP)) {
    reserve_hole(old_address, old_length);
    erase_areas(old_address, old_end);
  }
  erase_areas(new_address, new_address + new_length);
  area.end = new_address + new_length;
  insert_area(new_address, area);
  return static_cast<s64>(new_address);
}

GuestAddr MemoryMap::brk(GuestAddr address) {
  if (address < brk_start_) return brk_;
  const GuestAddr old_end = page_up(brk_), new_end = page_up(address);
  if (new_end > old_end) {
    const s64 r =
        map(old_end, new_end - old_end, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
    if (r < 0) return brk_;
  } else if (new_end < old_end) {
    unmap(new_end, old_end - new_end);
  }
  brk_ = address;
  return brk_;
}

bool MemoryMap::mapped(GuestAddr address, u64 length) {
  std::lock_guard guard(mutex_);
  const GuestAddr end = address + length;
  while (address < end) {
    auto it = find(address);
    if (it == areas_.end()) return false;
    address = it->second.end;
  }
  return true;
}

int MemoryMap::prot_at(GuestAddr address) {
  std::lock_guard guard(mutex_);
  auto it = find(address);
  return it == areas_.end() ? -1 : static_cast<int>(it->second.prot);
}

std::size_t MemoryMap::fetch(GuestAddr pc, u8* out, std::size_t size) {
  {
    std::lock_guard guard(mutex_);
    auto it = find(pc);
    if (it == areas_.end() || !(it->second.prot & PROT_EXEC)) return 0;
    size = std::min<std::size_t>(size, it->second.end - pc);
  }
  // A file mapping that reaches beyond the file's end faults on the missing pages: only what is there counts.
  if (copy_faulting(out, host(pc), size)) return size;
  const std::size_t first = std::min<std::size_t>(size, page_up(pc + 1) - pc);
  return first < size && copy_faulting(out, host(pc), first) ? first : 0;
}

void MemoryMap::protect_code(GuestAddr page) {
  page = page_down(page);
  std::lock_guard guard(mutex_);
  auto it = find(page);
  if (it == areas_.end()) return;
  code_pages_.insert(page);
  if (it->second.prot & PROT_WRITE) set_protected(page, true);
  for_each_alias(page, [&](GuestAddr alias, const Area& area) {
    if (area.prot & PROT_WRITE) set_protected(alias, true);
  });
}

bool MemoryMap::from_file(GuestAddr page) {
  std::lock_guard guard(mutex_);
  const auto it = find(page);
  return it != areas_.end() && !it->second.anonymous;
}

void MemoryMap::unprotect_code(GuestAddr page) {
  page = page_down(page);
  std::lock_guard guard(mutex_);
  code_pages_.erase(page);
  set_protected(page, false);
}

/// Drops the code that keeps `page` write-protected: its own, and that of the other views of the same bytes.
void MemoryMap::give_up_page(GuestAddr page) {
  std::vector<GuestAddr> pages{page};
  {
    std::lock_guard guard(mutex_);
    for_each_alias(page, [&](GuestAddr alias, const Area&) {
      if (code_pages_.contains(alias) || protected_pages_.contains(alias)) pages.push_back(alias);
    });
  }
  // In this order: what another thread translates in between protects the page again, and is dropped with the rest. The other
  // way round its block would live on an unwatched page.
  for (GuestAddr p : pages) unprotect_code(p);
  for (GuestAddr p : pages) {
    if (written_) written_(p);
    else invalidate(p, kPageSize);
  }
}

bool MemoryMap::handle_write_fault(GuestAddr address) {
  const GuestAddr page = page_down(address);
  {
    std::lock_guard guard(mutex_);
    auto it = find(page);
    if (it == areas_.end() || !(it->second.prot & PROT_WRITE)) return false;
    // Another thread's fault may have given the page back since: trying again is right then, too.
    if (!protected_pages_.contains(page)) return true;
  }
  give_up_page(page);
  return true;
}

void MemoryMap::prepare_write_slow(GuestAddr address, u64 length) {
  if (address >= limit_ || length == 0) return;
  const GuestAddr end = length > limit_ - address ? limit_ : address + length;
  for (GuestAddr page = page_down(address);;) {
    {
      std::lock_guard guard(mutex_);
      auto it = protected_pages_.lower_bound(page);
      if (it == protected_pages_.end() || *it >= end) return;
      page = *it;
    }
    give_up_page(page);
    page += kPageSize;
  }
}

bool MemoryMap::read(GuestAddr from, void* to, std::size_t size) const {
  return in_range(from, size) && copy_faulting(to, host(from), size);
}

bool MemoryMap::write(GuestAddr to, const void* from, std::size_t size) {
  if (!in_range(to, size)) return false;
  prepare_write(to, size);
  return copy_faulting(host(to), from, size);
}

int MemoryMap::read_string(GuestAddr from, std::string& text, std::size_t max) const {
  text.clear();
  char buffer[256];
  while (text.size() < max) {
    const std::size_t chunk = std::min<std::size_t>(sizeof buffer, page_up(from + 1) - from);
    if (!read(from, buffer, chunk)) return -EFAULT;
    const auto* end = static_cast<const char*>(std::memchr(buffer, 0, chunk));
    if (end) {
      text.append(buffer, static_cast<std::size_t>(end - buffer));
      return 0;
    }
    text.append(buffer, chunk);
    from += chunk;
  }
  return -ENAMETOOLONG;
}

std::vector<Mapping> MemoryMap::mappings() {
  std::lock_guard guard(mutex_);
  std::vector<Mapping> list;
  list.reserve(areas_.size());
  for (const auto& [start, area] : areas_) list.push_back({start, area.end, area.prot, area.shared, area.anonymous});
  return list;
}

void MemoryMap::set_name(GuestAddr address, std::string name) {
  std::lock_guard guard(mutex_);
  names_[address] = std::move(name);
}

std::string MemoryMap::name_at(GuestAddr address) {
  std::lock_guard guard(mutex_);
  auto it = names_.find(address);
  return it == names_.end() ? std::string() : it->second;
}

}  // namespace kiln::user
