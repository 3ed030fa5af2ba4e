// The 32-bit layer: what a syscall of a 32-bit guest needs beside the common functions, on a 64-bit host.
// Three mechanisms, none of which knows a guest by name:
//   1. arguments: a row's letters say how registers become arguments (sign, 64-bit values in two registers);
//   2. structs: a Layout describes one by its fields, once; guest size, alignment, byte order follow from the GuestAbi;
//   3. rows whose structs all have Layouts are data: a letter converts in, another out (compat32_pass).
// What is left are short functions c32_<name>. Signal frames, stat and siginfo's unions are per guest or written out.
#pragma once
#include <cstring>
#include <string_view>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

/// A C struct that differs between guest and host by the size of long, the alignment of 64-bit members and byte order only.
/// Field letters, each with an optional count before it: c 1 byte, h 2 bytes, i 4 bytes, q 8 bytes, l long, L unsigned long, t
/// a time that is one long for the host and two for the guest, low first (SysV IPC).
class Layout {
 public:
  constexpr explicit Layout(const char* fields) : fields_(fields) {}

  constexpr std::size_t host_size() const { return size(8, 8); }
  std::size_t guest_size(const GuestAbi& abi) const { return size(abi.guest->pointer_bits / 8, abi.align64); }
  void to_host(const GuestAbi& abi, const u8* guest, void* host) const;
  /// False if a long did not fit the guest's (it is cut).
  bool to_guest(const GuestAbi& abi, const void* host, u8* guest) const;

 private:
  template <class Fn>
  constexpr void for_each(Fn&& fn) const {
    for (const char* p = fields_; *p;) {
      unsigned count = 0;
      for (; *p >= '0' && *p <= '9'; ++p) count = count * 10 + static_cast<unsigned>(*p - '0');
      const char kind = *p++;
      for (unsigned n = count ? count : 1; n > 0; --n) fn(kind);
    }
  }
  static constexpr std::size_t field_size(char kind, std::size_t long_size) {
    switch (kind) {
      case 'c': return 1;
      case 'h': return 2;
      case 'i': return 4;
      case 'q':
      case 't': return 8;
      default: return long_size;
    }
  }
  static constexpr std::size_t field_align(char kind, std::size_t long_size, std::size_t align64) {
    return kind == 'q' ? align64 : kind == 't' ? long_size : field_size(kind, long_size);
  }
  constexpr std::size_t size(std::size_t long_size, std::size_t align64) const {
    std::size_t at = 0, most = 1;
    for_each([&](char kind) {
      const std::size_t align = field_align(kind, long_size, align64);
      at = align_up(at, align) + field_size(kind, long_size);
      most = align > most ? align : most;
    });
    return align_up(at, most);
  }
  const char* fields_;
};

/// Largest struct with a Layout, either side.
inline constexpr std::size_t kLayoutBytes = 256;

inline constexpr Layout kTimespec32{"2l"}, kItimerspec32{"4l"}, kTimeval32{"2l"}, kItimerval32{"4l"}, kRusage32{"18l"},
    kTms32{"4l"}, kTimex32{"i4li3l2l3li5li11i"}, kSysinfo32{"l9L2h2Li8c"}, kStatfs32{"2l5L2i7l"}, kStatfs64{"2l5q2i7l"},
    kFlock32{"2h2li"}, kFlock64{"2h2qi"}, kMqAttr32{"8l"}, kUtimbuf32{"2l"}, kSigevent32{"L3i"}, kUstat32{"iL12c"},
    kShmid32{"6i2h2LL3t2iL2L"}, kSemid32{"6i2h2L4lL2L"}, kMsqid32{"6i2h2L3t3L2i2L"}, kShminfo32{"9L"}, kShmUsage32{"i5L"};

/// Reads a struct. 0 or -EFAULT. `Host` begins with what the layout describes.
template <class Host>
int get_struct(const Call& c, GuestAddr at, const Layout& layout, Host& host) {
  u8 raw[kLayoutBytes];
  if (!c.memory.read(at, raw, layout.guest_size(c.abi))) return -EFAULT;
  layout.to_host(c.abi, raw, &host);
  return 0;
}
/// Writes a struct; 0, -EFAULT or, if `strict`, -EOVERFLOW when a value does not fit.
template <class Host>
int put_struct(const Call& c, GuestAddr at, const Layout& layout, const Host& host, bool strict = false) {
  u8 raw[kLayoutBytes];
  if (!layout.to_guest(c.abi, &host, raw) && strict) return -EOVERFLOW;
  return c.memory.write(at, raw, layout.guest_size(c.abi)) ? 0 : -EFAULT;
}
/// Reads or writes one integer of the guest's byte order.
template <class T>
bool get_word(const Call& c, GuestAddr at, T& value) {
  if (!c.memory.read(at, value)) return false;
  if (c.abi.guest->big_endian) {
    if constexpr (sizeof(T) == 2) value = static_cast<T>(__builtin_bswap16(static_cast<u16>(value)));
    if constexpr (sizeof(T) == 4) value = static_cast<T>(__builtin_bswap32(static_cast<u32>(value)));
    if constexpr (sizeof(T) == 8) value = static_cast<T>(__builtin_bswap64(static_cast<u64>(value)));
  }
  return true;
}
template <class T>
bool put_word(const Call& c, GuestAddr at, T value) {
  if (c.abi.guest->big_endian) {
    if constexpr (sizeof(T) == 2) value = static_cast<T>(__builtin_bswap16(static_cast<u16>(value)));
    if constexpr (sizeof(T) == 4) value = static_cast<T>(__builtin_bswap32(static_cast<u32>(value)));
    if constexpr (sizeof(T) == 8) value = static_cast<T>(__builtin_bswap64(static_cast<u64>(value)));
  }
  return c.memory.write(at, &value, sizeof value);
}

/// A struct timespec argument of either size; `given` is false for a null pointer.
struct Timeout {
  bool given = false;
  struct timespec value{};
  struct timespec* host() { return given ? &value : nullptr; }
};
enum class TimeSize : u8 { Bits32, Bits64 };
int get_timeout(const Call& c, GuestAddr at, TimeSize size, Timeout& out);
int put_timeout(const Call& c, GuestAddr at, TimeSize size, const struct timespec& value);

/// siginfo: `host` is the kernel's 64-bit layout, 128 bytes both.
void siginfo_to_guest32(const GuestAbi& abi, const u8* host, u8* guest);
void siginfo_from_guest32(const GuestAbi& abi, const u8* guest, u8* host);

/// 16-bit user and group ids (linux/highuid.h).
constexpr u32 wide_id(u64 id) { return (id & 0xffff) == 0xffff ? ~u32{0} : static_cast<u32>(id & 0xffff); }
constexpr u16 narrow_id(s64 id) { return static_cast<u16>(id > 0xffff ? 0xfffe : id); }

/// The arguments of the syscall the thread stands at, by the row's letters:
///   i d D g l C  signed, extended   Q  64-bit in two registers (the guest's order)   0  zero, no register
///   all else zero-extended
void compat32_arguments(Call& call);
/// The common letters as in sys_pass(), and
///   T t  timespec in, out      N  64-bit timespec in          E e  itimerspec in, out      V v  timeval in, out
///   J j  itimerval in, out     R  rusage out                  X  timex in and out          G S  siginfo out, in
///   U  utimbuf in               F  two 64-bit timespecs in (also an itimerspec)          k  16-bit user or group id
s64 compat32_pass(Call& call);

/// Row of the i386 table, or null.
const SyscallRow* i386_syscall(u64 number);

#define PASS32(name, host, args)
#define SAME32(name, function, args)
#define CALL32(name, args) s64 c32_##name(Call&);
#define NONE32(name)
#include "linux-user/syscalls/list32.def"
#undef PASS32
#undef SAME32
#undef CALL32
#undef NONE32

}  // namespace kiln::user
