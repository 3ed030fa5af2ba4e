// Linux AIO on the host's. A context of the guest is a page of zeros in its memory: its number for the guest, and where a libaio
// looks for a ring it might read without a call, and finds none. A request goes to the host as a copy with host pointers, which
// lives until its event is told or its context destroyed.
#include <linux/aio_abi.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <map>
#include <memory>
#include <unordered_map>

#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

struct Request {
  iocb host;
  GuestAddr guest;
  u64 data;
};
struct Context {
  aio_context_t host = 0;
  std::unordered_map<u64, std::unique_ptr<Request>> requests;  // by the host's iocb address, which events name
};

std::mutex contexts_mutex;
std::map<GuestAddr, std::shared_ptr<Context>>& contexts() {
  static std::map<GuestAddr, std::shared_ptr<Context>> all;
  return all;
}
std::shared_ptr<Context> find_context(GuestAddr id) {
  std::lock_guard guard(contexts_mutex);
  const auto it = contexts().find(id);
  return it == contexts().end() ? nullptr : it->second;
}

/// Fills `request` from the guest's iocb. 0 or -errno.
s64 convert(Call& c, GuestAddr at, Request& request, std::vector<iovec>& iov) {
  static_assert(sizeof(iocb) == 64);  // for all guests of our byte order
  if (!c.memory.read(at, request.host)) return -EFAULT;
  if (!c.memory.write(at + offsetof(iocb, aio_key), u32{0})) return -EFAULT;  // the kernel's KIOCB_KEY
  request.guest = at;
  request.data = request.host.aio_data;
  iocb& h = request.host;
  switch (h.aio_lio_opcode) {
    case IOCB_CMD_PREAD: h.aio_buf = Call::to_u64(c.memory.out_pointer(h.aio_buf, h.aio_nbytes)); break;
    case IOCB_CMD_PWRITE: h.aio_buf = Call::to_u64(c.memory.pointer(h.aio_buf)); break;
    case IOCB_CMD_PREADV:
    case IOCB_CMD_PWRITEV: {
      const bool reads = h.aio_lio_opcode == IOCB_CMD_PREADV;
      if (const int r = read_iovec(c, h.aio_buf, h.aio_nbytes, iov, reads); r < 0) return r;
      h.aio_buf = Call::to_u64(iov.data());
      break;
    }
    default: break;
  }
  return 0;
}

s64 get_events(Call& c, timespec* timeout, const void* mask) {
  const auto context = find_context(c.a[0]);
  if (!context) return -EINVAL;
  const s64 least = static_cast<s64>(c.a[1]), most = static_cast<s64>(c.a[2]);
  if (least < 0 || most < 0 || least > most) return -EINVAL;
  std::vector<io_event> events(static_cast<std::size_t>(std::min<s64>(most, 1 << 16)));
  const s64 n = mask ? c.host(SYS_io_pgetevents, context->host, least, events.size(), events.data(), timeout, mask)
                     : c.host(SYS_io_getevents, context->host, least, events.size(), events.data(), timeout);
  for (s64 k = 0; k < n; ++k) {
    io_event& event = events[static_cast<std::size_t>(k)];
    {
      std::lock_guard guard(contexts_mutex);
      const auto it = context->requests.find(event.obj);
      if (it != context->requests.end()) {
        event.obj = it->second->guest;
        event.data = it->second->data;
        context->requests.erase(it);
      }
    }
    if (!c.memory.write(c.a[3] + static_cast<u64>(k) * sizeof event, event)) return k ? k : -EFAULT;
  }
  return n;
}

/// io_pgetevents' mask: {pointer, size} in guest words.
s64 get_events_masked(Call& c, TimeSize size) {
  const bool wide = c.abi.guest->pointer_bits == 64;
  u64 packed[2] = {0, 0}, mask = 0;
  if (c.a[5]) {
    u32 narrow[2];
    if (wide ? !c.memory.read(c.a[5], packed) : !c.memory.read(c.a[5], narrow)) return -EFAULT;
    if (!wide) {
      packed[0] = narrow[0];
      packed[1] = narrow[1];
    }
    if (packed[0]) {
      if (packed[1] != 8) return -EINVAL;
      if (!c.memory.read(packed[0], mask)) return -EFAULT;
    }
  }
  Timeout timeout;
  if (const int r = get_timeout(c, c.a[4], size, timeout); r < 0) return r;
  CallMask scope(c.thread, packed[0] != 0, mask);
  const u64 host_mask = mask & ~(signal_bit(SIGSEGV) | signal_bit(SIGBUS));
  const u64 host_packed[2] = {packed[0] ? Call::to_u64(&host_mask) : 0, 8};
  return get_events(c, timeout.host(), host_packed);
}

}  // namespace

s64 sys_io_setup(Call& c) {
  const unsigned word = c.abi.guest->pointer_bits / 8;
  u64 id = 0;
  if (!c.memory.read(c.a[1], &id, word)) return -EFAULT;
  if (id != 0) return -EINVAL;
  auto context = std::make_shared<Context>();
  const s64 r = c.host(SYS_io_setup, c.u(0), &context->host);
  if (r < 0) return r;
  const s64 page = c.memory.map(0, kPageSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  id = static_cast<u64>(page);
  if (page < 0 || !c.memory.write(c.a[1], &id, word)) {
    raw_syscall(SYS_io_destroy, context->host);
    if (page >= 0) c.memory.unmap(id, kPageSize);
    return page < 0 ? page : -EFAULT;
  }
  c.memory.set_name(id, "/[aio] (deleted)");
  std::lock_guard guard(contexts_mutex);
  contexts()[id] = std::move(context);
  return 0;
}

s64 sys_io_destroy(Call& c) {
  std::shared_ptr<Context> context;
  {
    std::lock_guard guard(contexts_mutex);
    const auto it = contexts().find(c.a[0]);
    if (it == contexts().end()) return -EINVAL;
    context = std::move(it->second);
    contexts().erase(it);
  }
  c.memory.unmap(c.a[0], kPageSize);
  // The kernel waits for what is under way; only then may the requests go.
  return raw_syscall(SYS_io_destroy, context->host);
}

s64 sys_io_submit(Call& c) {
  const auto context = find_context(c.a[0]);
  if (!context || static_cast<s64>(c.a[1]) < 0) return -EINVAL;
  const unsigned word = c.abi.guest->pointer_bits / 8;
  for (u64 k = 0; k < c.a[1]; ++k) {
    auto request = std::make_unique<Request>();
    std::vector<iovec> iov;
    u64 at = 0;
    s64 r = c.memory.read(c.a[2] + k * word, &at, word) ? convert(c, at, *request, iov) : -EFAULT;
    if (r == 0) {
      iocb* host = &request->host;
      {
        // Known before it is submitted: its event may be there at once, for another thread.
        std::lock_guard guard(contexts_mutex);
        context->requests[Call::to_u64(host)] = std::move(request);
      }
      r = c.host(SYS_io_submit, context->host, 1, &host);
      if (r < 0) {
        std::lock_guard guard(contexts_mutex);
        context->requests.erase(Call::to_u64(host));
      }
    }
    if (r < 0) return k ? static_cast<s64>(k) : r;
  }
  return static_cast<s64>(c.a[1]);
}

s64 sys_io_cancel(Call& c) {
  const auto context = find_context(c.a[0]);
  if (!context) return -EINVAL;
  u64 host = 0;
  {
    std::lock_guard guard(contexts_mutex);
    for (const auto& [address, request] : context->requests)
      if (request->guest == c.a[1]) host = address;
  }
  io_event unused;
  return host ? c.host(SYS_io_cancel, context->host, host, &unused) : -EINVAL;
}

s64 sys_io_getevents(Call& c) {
  Timeout timeout;
  const TimeSize size = c.abi.guest->pointer_bits == 32 ? TimeSize::Bits32 : TimeSize::Bits64;
  if (const int r = get_timeout(c, c.a[4], size, timeout); r < 0) return r;
  return get_events(c, timeout.host(), nullptr);
}
s64 sys_io_pgetevents(Call& c) {
  return get_events_masked(c, c.abi.guest->pointer_bits == 32 ? TimeSize::Bits32 : TimeSize::Bits64);
}
s64 c32_io_pgetevents_time64(Call& c) { return get_events_masked(c, TimeSize::Bits64); }

}  // namespace kiln::user
