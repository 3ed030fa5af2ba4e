// The guest's address space in user mode: a reservation in Kiln's own, and what the guest has mapped in it.
// Invariants: (1) every page of [0, limit) belongs to the reservation: what the guest has not mapped is PROT_NONE, never a
// hole; (2) the lock is never held while the engine is called or guest memory is touched, so that the fault handler may take
// it; (3) a page with translated code that the guest may write is read-only for the host, and so is every writable alias of it.
#pragma once
#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "ir/support/result.h"
#include "jit/engine/engine.h"

namespace kiln::user {

inline constexpr u64 kPageSize = 4096;
inline constexpr u64 page_down(u64 a) { return align_down(a, kPageSize); }
inline constexpr u64 page_up(u64 a) { return align_up(a, kPageSize); }

/// A guest mapping [start, end): Linux's prot bits as the guest sees them.
struct Mapping {
  GuestAddr start, end;
  u32 prot;
  bool shared;
  bool anonymous;
};

class MemoryMap final : public jit::AddressSpace {
 public:
  MemoryMap() = default;
  ~MemoryMap() override = default;
  MemoryMap(const MemoryMap&) = delete;
  MemoryMap& operator=(const MemoryMap&) = delete;

  /// Reserves the guest's space, at most 2^max_bits bytes.
  Result<void> reserve(unsigned max_bits);
  /// The engine's invalidate(), called without the lock.
  void set_invalidate(std::function<void(GuestAddr, u64)> fn) { invalidate_ = std::move(fn); }
  /// The engine's written(), called without the lock for each page with code that was opened for a write.
  void set_written(std::function<void(GuestAddr)> fn) { written_ = std::move(fn); }

  // jit::AddressSpace
  HostAddr base() const override { return base_; }
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override;
  void protect_code(GuestAddr page) override;
  void unprotect_code(GuestAddr page) override;
  bool from_file(GuestAddr page) override;

  GuestAddr limit() const { return limit_; }
  /// Less than what is reserved, where user space ends below a power of two.
  void set_limit(GuestAddr limit) { limit_ = limit; }
  GuestAddr mmap_base() const { return mmap_base_; }
  void set_mmap_base(GuestAddr address) { mmap_base_ = address; }

  // Syscalls: results as Linux gives them (address or negative errno). Flags are the host's MAP_ values.
  s64 map(GuestAddr address, u64 length, u32 prot, u32 flags, int fd, u64 offset);
  s64 unmap(GuestAddr address, u64 length);
  s64 protect(GuestAddr address, u64 length, u32 prot);
  s64 remap(GuestAddr old_address, u64 old_length, u64 new_length, u32 flags, GuestAddr new_address);
  /// remap_file_pages(): other pages of the same shared file.
  s64 remap_file(GuestAddr address, u64 length, u64 page_offset, u32 flags);
  /// madvise(): the pieces of the range that are mapped, as Linux does; -ENOMEM if there are holes.
  s64 advise(GuestAddr address, u64 length, int advice);
  /// mlockall() and munlockall(): MCL_* flags, 0 unlocks.
  s64 lock_all(u32 flags);
  /// In the child of a fork: locks and what was not to be inherited are gone.
  void forked();
  u64 mapped_bytes();
  /// RLIMIT_AS and RLIMIT_DATA of the guest; ours stay as they are, Kiln's own memory does not count.
  void set_limits(u64 address_space, u64 data);
  GuestAddr brk(GuestAddr address);
  void set_brk(GuestAddr address) { brk_start_ = brk_ = address; }
  GuestAddr brk_start() const { return brk_start_; }
  GuestAddr brk_now() const { return brk_; }
  /// Finds room for `length` bytes and calls place(host address), which maps there (shmat); its result < 0 is an errno.
  s64 place(GuestAddr hint, u64 length, u32 prot, bool fixed, const std::function<s64(void*)>& place);
  /// True if every page of the range is mapped.
  bool mapped(GuestAddr address, u64 length);

  /// Rights of the page at `address`: -1 if not mapped.
  int prot_at(GuestAddr address);
  /// A host write fault at a guest address. True: the access may be tried again (the page held translated code, now dropped).
  bool handle_write_fault(GuestAddr address);
  /// Before the kernel or we write to guest memory: gives up write protection of code pages in the range.
  void prepare_write(GuestAddr address, u64 length) {
    if (write_protected_.load(std::memory_order_relaxed) != 0) prepare_write_slow(address, length);
  }

  /// Host pointer for a guest pointer handed to the kernel. Null stays null; one outside the guest's space becomes a pointer
  /// that makes the kernel answer EFAULT.
  void* pointer(GuestAddr address) const {
    if (address == 0) return nullptr;
    return reinterpret_cast<void*>(base_ + (address < limit_ ? address : 0));
  }
  void* out_pointer(GuestAddr address, u64 length) {
    prepare_write(address, length);
    return pointer(address);
  }
  bool in_range(GuestAddr address, u64 length) const { return address < limit_ && length <= limit_ - address; }

  // Copies; false if a byte is inaccessible.
  bool read(GuestAddr from, void* to, std::size_t size) const;
  bool write(GuestAddr to, const void* from, std::size_t size);
  template <class T>
  bool read(GuestAddr from, T& value) const {
    return read(from, &value, sizeof value);
  }
  template <class T>
  bool write(GuestAddr to, const T& value) {
    return write(to, &value, sizeof value);
  }
  /// Reads a NUL-terminated string of at most `max` bytes. 0, -EFAULT or -ENAMETOOLONG.
  int read_string(GuestAddr from, std::string& text, std::size_t max = 1 << 20) const;

  std::vector<Mapping> mappings();
  void set_name(GuestAddr address, std::string name);
  std::string name_at(GuestAddr address);

  // Around fork().
  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  struct Area {
    GuestAddr end;
    u32 prot;
    bool shared;
    bool anonymous;
    u64 file = 0;    // identity of a shared file's bytes, 0: none; the same bytes may be mapped in several places
    u64 offset = 0;  // in that file
    bool dont_fork = false;  // MADV_DONTFORK
  };
  /// Ranges whose code must be invalidated once the lock is free.
  using Stale = std::vector<std::pair<GuestAddr, u64>>;
  using Areas = std::map<GuestAddr, Area>;

  Areas::iterator find(GuestAddr address);
  void* host(GuestAddr address) const { return reinterpret_cast<void*>(base_ + address); }
  bool free_range(GuestAddr start, GuestAddr end);
  void split(GuestAddr at);
  void erase_areas(GuestAddr start, GuestAddr end);
  void insert_area(GuestAddr start, const Area& area);
  GuestAddr find_gap(u64 length, GuestAddr ceiling = ~GuestAddr{0});
  bool drop_code(GuestAddr start, GuestAddr end);
  void drop_code(GuestAddr start, GuestAddr end, Stale& stale);
  void drop_code_of_file(const Area& area, GuestAddr start, Stale& stale);
  /// Calls fn(page) for every other place where the page's file bytes are mapped.
  template <class Fn>
  void for_each_alias(GuestAddr page, Fn&& fn);
  void set_protected(GuestAddr page, bool on);
  void give_up_page(GuestAddr page);
  u64 file_identity(int fd);
  void reserve_hole(GuestAddr start, u64 length) const;
  s64 map_locked(GuestAddr address, u64 length, u32 prot, u32 flags, int fd, u64 offset, Stale& stale);
  s64 remap_locked(GuestAddr old_address, u64 old_length, u64 new_length, u32 flags, GuestAddr new_address, Stale& stale);
  void prepare_write_slow(GuestAddr address, u64 length);
  void invalidate(GuestAddr start, u64 length) const {
    if (invalidate_) invalidate_(start, length);
  }
  void invalidate(const Stale& stale) const {
    for (const auto& [start, length] : stale) invalidate(start, length);
  }

  bool exceeds_limits(GuestAddr start, u64 length, u32 prot, bool shared) const;
  bool lock_new(GuestAddr start, u64 length, u32 prot) const;
  static int host_rights(u32 prot);

  std::mutex mutex_;
  u32 lock_future_ = 0;  // MCL_FUTURE, MCL_ONFAULT
  u64 limit_space_ = ~u64{0}, limit_data_ = ~u64{0};
  HostAddr base_ = 0;
  GuestAddr limit_ = 0;
  GuestAddr mmap_base_ = 0;
  GuestAddr brk_start_ = 0, brk_ = 0;
  Areas areas_;
  std::set<GuestAddr> code_pages_;            // pages that hold translated code
  std::set<GuestAddr> protected_pages_;       // read-only for the host only: code pages and writable aliases of them
  std::atomic<u64> write_protected_{0};       // size of protected_pages_, read without the lock
  std::map<GuestAddr, std::string> names_;    // "[stack]" …
  std::map<std::pair<u64, u64>, u64> files_;  // device and inode of shared mappings → identity
  std::function<void(GuestAddr, u64)> invalidate_;
  std::function<void(GuestAddr)> written_;
};

}  // namespace kiln::user
