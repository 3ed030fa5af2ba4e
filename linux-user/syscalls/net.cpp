// Sockets: message headers hold pointers; the rest passes.
#include <linux/filter.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <cstring>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

/// struct msghdr of 64-bit guests: the host's layout with guest pointers.
struct GuestMsghdr {
  u64 name;
  u32 name_length, pad;
  u64 iov, iov_count;
  u64 control, control_length;
  s32 flags;
  u32 pad2;
};
struct GuestMmsghdr {
  GuestMsghdr header;
  u32 length, pad;
};

struct Message {
  GuestMsghdr guest;
  msghdr host{};
  std::vector<iovec> iov;
};

int prepare(Call& c, GuestAddr at, Message& m, bool receive) {
  if (!c.memory.read(at, m.guest)) return -EFAULT;
  if (m.guest.iov_count > 1024) return -EMSGSIZE;
  if (const int r = read_iovec(c, m.guest.iov, m.guest.iov_count, m.iov, receive); r < 0) return r;
  m.host.msg_name = receive ? c.memory.out_pointer(m.guest.name, m.guest.name_length) : c.memory.pointer(m.guest.name);
  m.host.msg_namelen = m.guest.name_length;
  m.host.msg_iov = m.iov.data();
  m.host.msg_iovlen = m.iov.size();
  m.host.msg_control =
      receive ? c.memory.out_pointer(m.guest.control, m.guest.control_length) : c.memory.pointer(m.guest.control);
  m.host.msg_controllen = m.guest.control_length;
  m.host.msg_flags = m.guest.flags;
  return 0;
}

bool finish_receive(Call& c, GuestAddr at, Message& m) {
  m.guest.name_length = m.host.msg_namelen;
  m.guest.control_length = m.host.msg_controllen;
  m.guest.flags = m.host.msg_flags;
  return c.memory.write(at, m.guest);
}

}  // namespace

s64 sys_sendmsg(Call& c) {
  Message m;
  if (const int r = prepare(c, c.a[1], m, false); r < 0) return r;
  return c.host(SYS_sendmsg, c.a[0], &m.host, c.a[2]);
}

s64 sys_recvmsg(Call& c) {
  Message m;
  if (const int r = prepare(c, c.a[1], m, true); r < 0) return r;
  const s64 n = c.host(SYS_recvmsg, c.a[0], &m.host, c.a[2]);
  if (n >= 0 && !finish_receive(c, c.a[1], m)) return -EFAULT;
  return n;
}

s64 sys_sendmmsg(Call& c) {
  const u32 count = std::min(c.u(2), 1024u);
  for (u32 k = 0; k < count; ++k) {
    const GuestAddr at = c.a[1] + k * sizeof(GuestMmsghdr);
    Message m;
    s64 n = prepare(c, at, m, false);
    if (n == 0) n = c.host(SYS_sendmsg, c.a[0], &m.host, c.a[3]);
    if (n < 0) return k ? static_cast<s64>(k) : n;
    if (!c.memory.write(at + offsetof(GuestMmsghdr, length), static_cast<u32>(n))) return -EFAULT;
  }
  return count;
}

s64 sys_recvmmsg(Call& c) {
  const u32 count = std::min(c.u(2), 1024u);
  std::vector<Message> messages(count);
  std::vector<mmsghdr> headers(count);
  for (u32 k = 0; k < count; ++k) {
    if (const int r = prepare(c, c.a[1] + k * sizeof(GuestMmsghdr), messages[k], true); r < 0) return r;
    headers[k] = {messages[k].host, 0};
  }
  const s64 n = c.host(SYS_recvmmsg, c.a[0], headers.data(), count, c.a[3], c.out(4, 16));
  for (s64 k = 0; k < n; ++k) {
    const GuestAddr at = c.a[1] + static_cast<u64>(k) * sizeof(GuestMmsghdr);
    messages[static_cast<std::size_t>(k)].host = headers[static_cast<std::size_t>(k)].msg_hdr;
    if (!finish_receive(c, at, messages[static_cast<std::size_t>(k)]) ||
        !c.memory.write(at + offsetof(GuestMmsghdr, length), headers[static_cast<std::size_t>(k)].msg_len))
      return -EFAULT;
  }
  return n;
}

s64 sys_setsockopt(Call& c) {
  if (c.i(1) == SOL_SOCKET && (c.i(2) == SO_ATTACH_FILTER || c.i(2) == SO_ATTACH_REUSEPORT_CBPF)) {
    struct {
      u16 length, pad[3];
      u64 filter;
    } guest;
    if (!c.memory.read(c.a[3], guest)) return -EFAULT;
    sock_fprog program{guest.length, static_cast<sock_filter*>(c.memory.pointer(guest.filter))};
    return c.host(SYS_setsockopt, c.a[0], c.a[1], c.a[2], &program, sizeof program);
  }
  return c.host(SYS_setsockopt, c.a[0], c.a[1], c.a[2], c.in(3), c.a[4]);
}

s64 sys_getsockopt(Call& c) { return c.host(SYS_getsockopt, c.a[0], c.a[1], c.a[2], c.out(3), c.out(4, 4)); }

}  // namespace kiln::user
