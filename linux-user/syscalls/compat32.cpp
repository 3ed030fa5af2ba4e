// Mechanisms of the 32-bit layer: layouts, arguments, rows that are data, the tables.
#include "linux-user/syscalls/compat32.h"

#include <fcntl.h>
#include <sys/syscall.h>

#include <array>

namespace kiln::user {
namespace {

u64 load(const u8* p, std::size_t size, bool big) {
  u64 v = 0;
  for (std::size_t i = 0; i < size; ++i) v |= u64{p[big ? size - 1 - i : i]} << (8 * i);
  return v;
}
void store(u8* p, std::size_t size, bool big, u64 v) {
  for (std::size_t i = 0; i < size; ++i) p[big ? size - 1 - i : i] = static_cast<u8>(v >> (8 * i));
}

}  // namespace

void Layout::to_host(const GuestAbi& abi, const u8* guest, void* host) const {
  const bool big = abi.guest->big_endian;
  const std::size_t word = abi.guest->pointer_bits / 8;
  std::size_t from = 0, to = 0;
  auto* out = static_cast<u8*>(host);
  for_each([&](char kind) {
    const std::size_t size = field_size(kind, word), host_bytes = field_size(kind, 8);
    from = align_up(from, field_align(kind, word, abi.align64));
    to = align_up(to, field_align(kind, 8, 8));
    u64 v;
    if (kind == 't') v = load(guest + from, word, big) | load(guest + from + word, 8 - word, big) << 32;
    else v = load(guest + from, size, big);
    if (kind == 'l' && size == 4) v = static_cast<u64>(static_cast<s64>(static_cast<s32>(v)));
    std::memcpy(out + to, &v, host_bytes);
    from += size;
    to += host_bytes;
  });
}

bool Layout::to_guest(const GuestAbi& abi, const void* host, u8* guest) const {
  const bool big = abi.guest->big_endian;
  const std::size_t word = abi.guest->pointer_bits / 8;
  std::size_t from = 0, to = 0;
  bool fits = true;
  const auto* in = static_cast<const u8*>(host);
  std::memset(guest, 0, guest_size(abi));
  for_each([&](char kind) {
    const std::size_t size = field_size(kind, word), host_bytes = field_size(kind, 8);
    to = align_up(to, field_align(kind, word, abi.align64));
    from = align_up(from, field_align(kind, 8, 8));
    u64 v = 0;
    std::memcpy(&v, in + from, host_bytes);
    if (size == 4 && kind == 'l') fits &= static_cast<s64>(v) == static_cast<s32>(v);
    if (size == 4 && kind == 'L') fits &= v == static_cast<u32>(v);
    if (kind == 't') {
      store(guest + to, word, big, v);
      store(guest + to + word, 8 - word, big, v >> 32);
    } else {
      store(guest + to, size, big, v);
    }
    to += size;
    from += host_bytes;
  });
  return fits;
}

int get_timeout(const Call& c, GuestAddr at, TimeSize size, Timeout& out) {
  out.given = at != 0;
  if (!out.given) return 0;
  if (size == TimeSize::Bits32) return get_struct(c, at, kTimespec32, out.value);
  s64 seconds;
  u32 ns;
  // A 32-bit libc's tv_nsec is a long with four bytes of padding that nobody sets (Linux, get_timespec64()).
  if (!get_word(c, at, seconds) || !get_word(c, at + (c.abi.guest->big_endian ? 12 : 8), ns)) return -EFAULT;
  out.value.tv_sec = seconds;
  out.value.tv_nsec = static_cast<s32>(ns);
  return 0;
}

int put_timeout(const Call& c, GuestAddr at, TimeSize size, const timespec& value) {
  if (at == 0) return 0;
  if (size == TimeSize::Bits32) return put_struct(c, at, kTimespec32, value);
  return put_word<s64>(c, at, value.tv_sec) && put_word<s64>(c, at + 8, value.tv_nsec) ? 0 : -EFAULT;
}

// --- siginfo (kernel/signal.c, copy_siginfo_to_external32) -----------------------------------------------------------------

namespace {

enum class InfoKind : u8 { Kill, Timer, Poll, Fault, FaultBounds, FaultKey, FaultLsb, Child, Rt, Sys };

InfoKind info_kind(int signal, int code) {
  constexpr int kSiKernel = 0x80;
  if (code > 0 && code < kSiKernel) {
    switch (signal) {
      case SIGSEGV:
        if (code == SEGV_BNDERR) return InfoKind::FaultBounds;
        return code == SEGV_PKUERR ? InfoKind::FaultKey : InfoKind::Fault;
      case SIGBUS: return code == BUS_MCEERR_AR || code == BUS_MCEERR_AO ? InfoKind::FaultLsb : InfoKind::Fault;
      case SIGILL:
      case SIGFPE:
      case SIGTRAP: return InfoKind::Fault;
      case SIGCHLD: return InfoKind::Child;
      case SIGPOLL: return InfoKind::Poll;
      case SIGSYS: return InfoKind::Sys;
      default: return code <= POLL_HUP ? InfoKind::Poll : InfoKind::Kill;
    }
  }
  if (code == SI_TIMER) return InfoKind::Timer;
  if (code == SI_SIGIO) return InfoKind::Poll;
  return code < 0 ? InfoKind::Rt : InfoKind::Kill;
}

/// A member of siginfo's union: where it stands for host and guest, and how wide it is there.
struct InfoField {
  u8 host_at, host_size, guest_at, guest_size;
  bool sign;
};
constexpr InfoField kKill[] = {{16, 4, 12, 4, false}, {20, 4, 16, 4, false}};
constexpr InfoField kQueued[] = {{16, 4, 12, 4, false}, {20, 4, 16, 4, false}, {24, 8, 20, 4, false}};  // also timers
constexpr InfoField kPoll[] = {{16, 8, 12, 4, true}, {24, 4, 16, 4, false}};
constexpr InfoField kFault[] = {{16, 8, 12, 4, false}};
constexpr InfoField kFaultBounds[] = {{16, 8, 12, 4, false}, {32, 8, 20, 4, false}, {40, 8, 24, 4, false}};
constexpr InfoField kFaultKey[] = {{16, 8, 12, 4, false}, {32, 4, 20, 4, false}};
constexpr InfoField kFaultLsb[] = {{16, 8, 12, 4, false}, {24, 2, 16, 2, false}};
constexpr InfoField kChild[] = {
    {16, 4, 12, 4, false}, {20, 4, 16, 4, false}, {24, 4, 20, 4, false}, {32, 8, 24, 4, true}, {40, 8, 28, 4, true}};
constexpr InfoField kSys[] = {{16, 8, 12, 4, false}, {24, 4, 16, 4, false}, {28, 4, 20, 4, false}};

std::span<const InfoField> info_fields(InfoKind kind) {
  switch (kind) {
    case InfoKind::Timer:
    case InfoKind::Rt: return kQueued;
    case InfoKind::Poll: return kPoll;
    case InfoKind::Fault: return kFault;
    case InfoKind::FaultBounds: return kFaultBounds;
    case InfoKind::FaultKey: return kFaultKey;
    case InfoKind::FaultLsb: return kFaultLsb;
    case InfoKind::Child: return kChild;
    case InfoKind::Sys: return kSys;
    case InfoKind::Kill: break;
  }
  return kKill;
}
constexpr std::size_t kInfoBytes = 128;

}  // namespace

void siginfo_to_guest32(const GuestAbi& abi, const u8* host, u8* guest) {
  const bool big = abi.guest->big_endian;
  std::memset(guest, 0, kInfoBytes);
  s32 head[3];
  std::memcpy(head, host, sizeof head);
  for (std::size_t i = 0; i < 3; ++i) store(guest + 4 * i, 4, big, static_cast<u32>(head[i]));
  for (const InfoField& f : info_fields(info_kind(head[0], head[2])))
    store(guest + f.guest_at, f.guest_size, big, load(host + f.host_at, f.host_size, false));
}

void siginfo_from_guest32(const GuestAbi& abi, const u8* guest, u8* host) {
  const bool big = abi.guest->big_endian;
  std::memset(host, 0, kInfoBytes);
  s32 head[3];
  for (std::size_t i = 0; i < 3; ++i) head[i] = static_cast<s32>(load(guest + 4 * i, 4, big));
  std::memcpy(host, head, sizeof head);
  for (const InfoField& f : info_fields(info_kind(head[0], head[2]))) {
    u64 v = load(guest + f.guest_at, f.guest_size, big);
    if (f.sign) v = static_cast<u64>(static_cast<s64>(static_cast<s32>(v)));
    std::memcpy(host + f.host_at, &v, f.host_size);
  }
}

// --- arguments and rows that are data --------------------------------------------------------------------------------------

void compat32_arguments(Call& c) {
  unsigned reg = 0;
  auto next = [&] { return reg < 6 ? c.abi.syscall_arg(c.thread.cpu, reg++) & 0xffffffff : 0; };
  u64 a[6] = {};
  const char* letters = c.row.args;
  for (unsigned n = 0; n < 6 && letters[n]; ++n) {
    switch (letters[n]) {
      case 'i':
      case 'd':
      case 'D':
      case 'g':
      case 'l':
      case 'C': a[n] = static_cast<u64>(static_cast<s64>(static_cast<s32>(next()))); break;
      case 'Q': {
        if (c.abi.aligned_register_pairs && (reg & 1)) ++reg;
        const u64 first = next(), second = next();
        a[n] = c.abi.guest->big_endian ? first << 32 | second : second << 32 | first;
        break;
      }
      case '0': break;
      default: a[n] = next(); break;
    }
  }
  std::memcpy(c.a, a, sizeof a);
}

namespace {

struct StructLetter {
  char letter;
  const Layout* in;
  const Layout* out;
};
constexpr StructLetter kStructLetters[] = {
    {'T', &kTimespec32, nullptr}, {'t', nullptr, &kTimespec32}, {'E', &kItimerspec32, nullptr}, {'e', nullptr, &kItimerspec32},
    {'V', &kTimeval32, nullptr},  {'v', nullptr, &kTimeval32},  {'J', &kItimerval32, nullptr},  {'j', nullptr, &kItimerval32},
    {'R', nullptr, &kRusage32},   {'X', &kTimex32, &kTimex32},  {'U', &kUtimbuf32, nullptr},
};
const StructLetter* struct_letter(char letter) {
  for (const StructLetter& s : kStructLetters)
    if (s.letter == letter) return &s;
  return nullptr;
}

}  // namespace

s64 compat32_pass(Call& c) {
  constexpr unsigned kMostStructs = 3;
  alignas(8) u8 buffers[kMostStructs][kLayoutBytes];
  struct {
    unsigned argument;
    const Layout* layout;  // null: siginfo
    u8* host;
  } outs[kMostStructs];
  unsigned used = 0, out_count = 0, path_count = 0;
  u64 values[6] = {};
  std::string paths[2];
  const char* letters = c.row.args;
  bool nofollow = false, narrow = false;
  if (const char* at_flags = std::strchr(letters, 'A')) nofollow = (c.a[at_flags - letters] & AT_SYMLINK_NOFOLLOW) != 0;
  for (unsigned n = 0; letters[n]; ++n) {
    const char letter = letters[n];
    switch (letter) {
      case 'p':
      case 's':
      case 'b': values[n] = Call::to_u64(c.in(n)); break;
      case 'w': values[n] = Call::to_u64(c.out(n, letters[n + 1] == 'z' ? c.a[n + 1] : kPageSize)); break;
      case 'P':
      case 'L': {
        if (c.a[n] == 0) break;
        const int r = c.host_path(n, paths[path_count], letter == 'P' && !nofollow ? Follow::Yes : Follow::No);
        if (r < 0) return r;
        values[n] = Call::to_u64(paths[path_count++].c_str());
        break;
      }
      case 'k':
        values[n] = wide_id(c.a[n]);
        narrow = true;
        break;
      case 'N':
      case 'F': {
        if (c.a[n] == 0) break;
        timespec times[2] = {};
        for (unsigned k = 0; k < (letter == 'F' ? 2u : 1u); ++k) {
          Timeout t;
          if (const int r = get_timeout(c, c.a[n] + 16 * k, TimeSize::Bits64, t); r < 0) return r;
          times[k] = t.value;
        }
        std::memcpy(buffers[used], times, sizeof times);
        values[n] = Call::to_u64(buffers[used++]);
        break;
      }
      case 'S': {
        u8 raw[kInfoBytes];
        if (c.a[n] == 0) break;
        if (!c.memory.read(c.a[n], raw, sizeof raw)) return -EFAULT;
        siginfo_from_guest32(c.abi, raw, buffers[used]);
        values[n] = Call::to_u64(buffers[used++]);
        break;
      }
      case 'G':
        if (c.a[n] == 0) break;
        std::memset(buffers[used], 0, kInfoBytes);
        outs[out_count++] = {n, nullptr, buffers[used]};
        values[n] = Call::to_u64(buffers[used++]);
        break;
      default: {
        const StructLetter* s = struct_letter(letter);
        if (!s) {
          values[n] = c.a[n];
          break;
        }
        if (c.a[n] == 0) break;
        if (s->in) {
          if (const int r = get_struct(c, c.a[n], *s->in, buffers[used]); r < 0) return r;
        } else {
          std::memset(buffers[used], 0, kLayoutBytes);
        }
        if (s->out) outs[out_count++] = {n, s->out, buffers[used]};
        values[n] = Call::to_u64(buffers[used++]);
        break;
      }
    }
  }
  const s64 result = safe_syscall(c.row.host_number, const_cast<const u32*>(&c.thread.signal_pending), values);
  if (result < 0) return result;
  for (unsigned k = 0; k < out_count; ++k) {
    const GuestAddr at = c.a[outs[k].argument];
    if (outs[k].layout) {
      if (const int r = put_struct(c, at, *outs[k].layout, *outs[k].host); r < 0) return r;
    } else {
      u8 raw[kInfoBytes];
      siginfo_to_guest32(c.abi, outs[k].host, raw);
      if (!c.memory.write(at, raw, sizeof raw)) return -EFAULT;
    }
  }
  return narrow ? narrow_id(result) : result;
}

// --- tables ----------------------------------------------------------------------------------------------------------------

namespace {

namespace rows {
#define PASS(name, args) constexpr SyscallRow name##_row = {#name, args, sys_pass, SYS_##name};
#define CALL(name, args) constexpr SyscallRow name##_row = {#name, args, sys_##name, -1};
#define NONE(name) constexpr SyscallRow name##_row = {#name, "xxxxxx", nullptr, -1};
#include "linux-user/syscalls/list.def"
#undef PASS
#undef CALL
#undef NONE
#define PASS32(name, host, args) constexpr SyscallRow name##_row32 = {#name, args, compat32_pass, SYS_##host};
#define SAME32(name, function, args) constexpr SyscallRow name##_row32 = {#name, args, function, -1};
#define CALL32(name, args) constexpr SyscallRow name##_row32 = {#name, args, c32_##name, -1};
#define NONE32(name) constexpr SyscallRow name##_row32 = {#name, "xxxxxx", nullptr, -1};
#include "linux-user/syscalls/list32.def"
#undef PASS32
#undef SAME32
#undef CALL32
#undef NONE32
}  // namespace rows

using Numbers = std::array<const SyscallRow*, 460>;

constexpr Numbers make_i386() {
  Numbers table{};
#define NR(number, name) table[number] = &rows::name##_row;
#define NR32(number, name) table[number] = &rows::name##_row32;
#include "linux-user/syscalls/numbers_i386.def"
#undef NR
#undef NR32
  return table;
}
constexpr Numbers kI386 = make_i386();

}  // namespace

const SyscallRow* i386_syscall(u64 number) { return number < kI386.size() ? kI386[number] : nullptr; }

}  // namespace kiln::user
