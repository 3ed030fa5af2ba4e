// 32-bit layer: sockets. Message headers, control messages, option structs, and i386's one call for all.
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>

#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

/// struct msghdr: name, its length, iov, count, control, its length, flags: seven words.
constexpr GuestAddr kHeaderBytes = 28, kMultiHeaderBytes = 32;
constexpr u32 kGuestCmsg = 12;  // struct cmsghdr: length, level, type; aligned to 4
/// Option and control types of the first time_t (asm-generic/socket.h).
enum : int { kTimestampOld = 29, kTimestampNsOld = 35, kTimestampingOld = 37, kRcvTimeoutOld = 20, kSndTimeoutOld = 21 };

struct Message {
  u32 guest[7];
  msghdr host{};
  std::vector<iovec> iov;
  std::vector<u8> control;
};
enum : unsigned { kName, kNameLength, kIov, kIovCount, kControl, kControlLength, kFlags };

/// Control messages to the host: longer heads, wider alignment.
int control_to_host(Call& c, Message& m) {
  GuestAddr at = m.guest[kControl];
  const GuestAddr end = at + m.guest[kControlLength];
  while (at + kGuestCmsg <= end) {
    u32 length;
    s32 level, type;
    if (!get_word(c, at, length) || !get_word(c, at + 4, level) || !get_word(c, at + 8, type)) return -EFAULT;
    if (length < kGuestCmsg || at + length > end) return -EINVAL;
    const std::size_t payload = length - kGuestCmsg, begin = m.control.size();
    m.control.resize(begin + CMSG_SPACE(payload));
    cmsghdr head{};
    head.cmsg_len = CMSG_LEN(payload);
    head.cmsg_level = level;
    head.cmsg_type = type;
    std::memcpy(m.control.data() + begin, &head, sizeof head);
    if (payload && !c.memory.read(at + kGuestCmsg, m.control.data() + begin + CMSG_LEN(0), payload)) return -EFAULT;
    at += align_up(length, 4);
  }
  return 0;
}

/// Bytes of a received control message as the guest wants them.
std::size_t payload_to_guest(Call& c, const cmsghdr& head, const u8* data, std::size_t size, std::vector<u8>& out) {
  const bool times = head.cmsg_level == SOL_SOCKET && (head.cmsg_type == kTimestampOld || head.cmsg_type == kTimestampNsOld ||
                                                       head.cmsg_type == kTimestampingOld);
  if (!times) {
    out.assign(data, data + size);
    return size;
  }
  const std::size_t each = kTimespec32.guest_size(c.abi);
  out.resize(size / sizeof(timespec) * each);
  for (std::size_t k = 0; k < size / sizeof(timespec); ++k) {
    timespec t;
    std::memcpy(&t, data + k * sizeof t, sizeof t);
    kTimespec32.to_guest(c.abi, &t, out.data() + k * each);
  }
  return out.size();
}

int control_to_guest(Call& c, Message& m) {
  const GuestAddr begin = m.guest[kControl];
  u64 room = m.guest[kControlLength], used = 0;
  for (cmsghdr* head = CMSG_FIRSTHDR(&m.host); head; head = CMSG_NXTHDR(&m.host, head)) {
    const u8* data = CMSG_DATA(head);
    std::vector<u8> payload;
    payload_to_guest(c, *head, data, head->cmsg_len - CMSG_LEN(0), payload);
    const u64 left = room > used ? room - used : 0;
    const bool descriptors = head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_RIGHTS;
    if (left < kGuestCmsg + payload.size()) {
      m.host.msg_flags |= MSG_CTRUNC;
      const std::size_t fits = left > kGuestCmsg ? left - kGuestCmsg : 0;
      if (descriptors) {  // what the guest never hears of must not stay open
        for (std::size_t at = align_down(fits, 4); at + 4 <= payload.size(); at += 4) {
          int fd;
          std::memcpy(&fd, payload.data() + at, 4);
          close(fd);
        }
        payload.resize(std::min(payload.size(), align_down(fits, 4)));
        if (payload.empty()) break;
      } else {
        payload.resize(std::min(payload.size(), fits));
      }
      if (left < kGuestCmsg) break;
    }
    const u32 length = kGuestCmsg + static_cast<u32>(payload.size());
    const GuestAddr at = begin + used;
    if (!put_word<u32>(c, at, length) || !put_word<s32>(c, at + 4, head->cmsg_level) ||
        !put_word<s32>(c, at + 8, head->cmsg_type) ||
        (!payload.empty() && !c.memory.write(at + kGuestCmsg, payload.data(), payload.size())))
      return -EFAULT;
    used += std::min<u64>(align_up(length, 4), left);
  }
  m.guest[kControlLength] = static_cast<u32>(used);
  return 0;
}

int prepare(Call& c, GuestAddr at, Message& m, bool receive) {
  for (unsigned k = 0; k < 7; ++k)
    if (!get_word(c, at + 4 * k, m.guest[k])) return -EFAULT;
  if (m.guest[kIovCount] > 1024) return -EMSGSIZE;
  if (const int r = read_iovec(c, m.guest[kIov], m.guest[kIovCount], m.iov, receive); r < 0) return r;
  m.host.msg_name = receive ? c.memory.out_pointer(m.guest[kName], m.guest[kNameLength]) : c.memory.pointer(m.guest[kName]);
  m.host.msg_namelen = m.guest[kNameLength];
  m.host.msg_iov = m.iov.data();
  m.host.msg_iovlen = m.iov.size();
  m.host.msg_flags = static_cast<int>(m.guest[kFlags]);
  constexpr u32 kMostControl = 1 << 20;
  if (m.guest[kControlLength] > kMostControl) return -ENOBUFS;
  if (m.guest[kControl] && m.guest[kControlLength]) {
    if (receive) m.control.resize(std::size_t{m.guest[kControlLength]} * 2 + 64);
    else if (const int r = control_to_host(c, m); r < 0) return r;
    m.host.msg_control = m.control.data();
    m.host.msg_controllen = m.control.size();
  }
  return 0;
}

int finish_receive(Call& c, GuestAddr at, Message& m) {
  if (m.host.msg_control) {
    if (const int r = control_to_guest(c, m); r < 0) return r;
  } else {
    m.guest[kControlLength] = 0;
  }
  return put_word<u32>(c, at + 4 * kNameLength, m.host.msg_namelen) &&
                 put_word<u32>(c, at + 4 * kControlLength, m.guest[kControlLength]) &&
                 put_word<u32>(c, at + 4 * kFlags, static_cast<u32>(m.host.msg_flags))
             ? 0
             : -EFAULT;
}

}  // namespace

s64 c32_sendmsg(Call& c) {
  Message m;
  if (const int r = prepare(c, c.a[1], m, false); r < 0) return r;
  return c.host(SYS_sendmsg, c.a[0], &m.host, c.a[2]);
}
s64 c32_recvmsg(Call& c) {
  Message m;
  if (const int r = prepare(c, c.a[1], m, true); r < 0) return r;
  const s64 n = c.host(SYS_recvmsg, c.a[0], &m.host, c.a[2]);
  if (n < 0) return n;
  const int r = finish_receive(c, c.a[1], m);
  return r < 0 ? r : n;
}
s64 c32_sendmmsg(Call& c) {
  const u32 count = std::min(c.u(2), 1024u);
  for (u32 k = 0; k < count; ++k) {
    const GuestAddr at = c.a[1] + k * kMultiHeaderBytes;
    Message m;
    s64 n = prepare(c, at, m, false);
    if (n == 0) n = c.host(SYS_sendmsg, c.a[0], &m.host, c.a[3]);
    if (n < 0) return k ? static_cast<s64>(k) : n;
    if (!put_word<u32>(c, at + kHeaderBytes, static_cast<u32>(n))) return -EFAULT;
  }
  return count;
}

namespace {
s64 receive_many(Call& c, TimeSize size) {
  const u32 count = std::min(c.u(2), 1024u);
  Timeout timeout;
  if (const int r = get_timeout(c, c.a[4], size, timeout); r < 0) return r;
  std::vector<Message> messages(count);
  std::vector<mmsghdr> headers(count);
  for (u32 k = 0; k < count; ++k) {
    if (const int r = prepare(c, c.a[1] + k * kMultiHeaderBytes, messages[k], true); r < 0) return r;
    headers[k] = {messages[k].host, 0};
  }
  const s64 n = c.host(SYS_recvmmsg, c.a[0], headers.data(), count, c.a[3], timeout.host());
  for (u32 k = 0; s64{k} < n; ++k) {
    const GuestAddr at = c.a[1] + k * kMultiHeaderBytes;
    messages[k].host = headers[k].msg_hdr;
    if (const int r = finish_receive(c, at, messages[k]); r < 0) return r;
    if (!put_word<u32>(c, at + kHeaderBytes, headers[k].msg_len)) return -EFAULT;
  }
  if (n >= 0) put_timeout(c, c.a[4], size, timeout.value);
  return n;
}
}  // namespace
s64 c32_recvmmsg(Call& c) { return receive_many(c, TimeSize::Bits32); }
s64 c32_recvmmsg_time64(Call& c) { return receive_many(c, TimeSize::Bits64); }

s64 c32_setsockopt(Call& c) {
  if (c.i(1) == SOL_SOCKET) {
    switch (c.i(2)) {
      case SO_ATTACH_FILTER:
      case SO_ATTACH_REUSEPORT_CBPF: {
        u16 length;
        u32 filter;
        if (!get_word(c, c.a[3], length) || !get_word(c, c.a[3] + 4, filter)) return -EFAULT;
        sock_fprog program{length, static_cast<sock_filter*>(c.memory.pointer(filter))};
        return c.host(SYS_setsockopt, c.a[0], c.a[1], c.a[2], &program, sizeof program);
      }
      case kRcvTimeoutOld:
      case kSndTimeoutOld: {
        timeval tv;
        if (c.u(4) < kTimeval32.guest_size(c.abi)) return -EINVAL;
        if (const int r = get_struct(c, c.a[3], kTimeval32, tv); r < 0) return r;
        return c.host(SYS_setsockopt, c.a[0], c.a[1], c.a[2], &tv, sizeof tv);
      }
      default: break;
    }
  }
  return c.host(SYS_setsockopt, c.a[0], c.a[1], c.a[2], c.in(3), c.a[4]);
}

s64 c32_getsockopt(Call& c) {
  if (c.i(1) == SOL_SOCKET && (c.i(2) == kRcvTimeoutOld || c.i(2) == kSndTimeoutOld)) {
    u32 room;
    if (!get_word(c, c.a[4], room)) return -EFAULT;
    timeval tv{};
    socklen_t length = sizeof tv;
    const s64 r = c.host(SYS_getsockopt, c.a[0], c.a[1], c.a[2], &tv, &length);
    if (r < 0) return r;
    const u32 size = static_cast<u32>(kTimeval32.guest_size(c.abi));
    if (room < size) return -EINVAL;
    if (const int e = put_struct(c, c.a[3], kTimeval32, tv); e < 0) return e;
    return put_word<u32>(c, c.a[4], size) ? r : -EFAULT;
  }
  return c.host(SYS_getsockopt, c.a[0], c.a[1], c.a[2], c.out(3), c.out(4, 4));
}

// --- socketcall
// --------------------------------------------------------------------------------------------------------------------

s64 c32_socketcall(Call& c) {
  // SYS_SOCKET … SYS_SENDMMSG (linux/net.h): how many words each has.
  static constexpr u8 kWords[] = {0, 3, 3, 3, 2, 3, 3, 3, 4, 4, 4, 6, 6, 2, 5, 5, 3, 3, 4, 5, 4};
  const u32 which = c.u(0);
  if (which == 0 || which >= std::size(kWords)) return -EINVAL;
  u32 words[6] = {};
  for (unsigned k = 0; k < kWords[which]; ++k)
    if (!get_word(c, c.a[1] + 4 * k, words[k])) return -EFAULT;
  for (unsigned k = 0; k < 6; ++k) c.a[k] = words[k];
  switch (which) {
    case 1: return c.host(SYS_socket, c.a[0], c.a[1], c.a[2]);
    case 2: return c.host(SYS_bind, c.a[0], c.in(1), c.a[2]);
    case 3: return c.host(SYS_connect, c.a[0], c.in(1), c.a[2]);
    case 4: return c.host(SYS_listen, c.a[0], c.a[1]);
    case 5: return c.host(SYS_accept, c.a[0], c.out(1), c.out(2, 4));
    case 6: return c.host(SYS_getsockname, c.a[0], c.out(1), c.out(2, 4));
    case 7: return c.host(SYS_getpeername, c.a[0], c.out(1), c.out(2, 4));
    case 8: return c.host(SYS_socketpair, c.a[0], c.a[1], c.a[2], c.out(3, 8));
    case 9: return c.host(SYS_sendto, c.a[0], c.in(1), c.a[2], c.a[3], nullptr, 0);
    case 10: return c.host(SYS_recvfrom, c.a[0], c.out(1, c.a[2]), c.a[2], c.a[3], nullptr, nullptr);
    case 11: return c.host(SYS_sendto, c.a[0], c.in(1), c.a[2], c.a[3], c.in(4), c.a[5]);
    case 12: return c.host(SYS_recvfrom, c.a[0], c.out(1, c.a[2]), c.a[2], c.a[3], c.out(4), c.out(5, 4));
    case 13: return c.host(SYS_shutdown, c.a[0], c.a[1]);
    case 14: return c32_setsockopt(c);
    case 15: return c32_getsockopt(c);
    case 16: return c32_sendmsg(c);
    case 17: return c32_recvmsg(c);
    case 18: return c.host(SYS_accept4, c.a[0], c.out(1), c.out(2, 4), c.a[3]);
    case 19: return c32_recvmmsg(c);
    default: return c32_sendmmsg(c);
  }
}

}  // namespace kiln::user
