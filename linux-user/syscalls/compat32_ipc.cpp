// 32-bit layer: SysV IPC (direct calls and i386's one call for all), POSIX message queues.
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include <algorithm>
#include <memory>

#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

static_assert(kShmid32.host_size() == sizeof(shmid_ds) && kMsqid32.host_size() == sizeof(msqid_ds) &&
              kSemid32.host_size() == sizeof(semid_ds));

constexpr int kIpc64 = 0x100;  // the structs of today; the direct calls take no others

/// A control call whose argument is a struct with a Layout: in for IPC_SET, out for the rest.
s64 control(Call& c, long number, std::initializer_list<u64> head, GuestAddr at, const Layout& layout, bool in, bool out) {
  alignas(8) u8 host[kLayoutBytes] = {};
  u64 a[4] = {};
  std::copy(head.begin(), head.end(), a);
  a[head.size()] = Call::to_u64(host);
  if (in) {
    if (const int r = get_struct(c, at, layout, host[0]); r < 0) return r;
  }
  const s64 r = c.host(number, a[0], a[1], a[2], a[3]);
  if (r < 0 || !out) return r;
  const int e = put_struct(c, at, layout, host[0]);
  return e < 0 ? e : r;
}

/// Arrays of u16 for semaphores: the host's own but for byte order.
s64 semaphores(Call& c, u64 id, u64 number, int command, u64 value) {
  const int op = command & ~kIpc64;
  switch (op) {
    case SETVAL:
    case IPC_RMID:
    case GETVAL:
    case GETPID:
    case GETNCNT:
    case GETZCNT: return c.host(SYS_semctl, id, number, op, value);
    case GETALL:
    case SETALL:
    case IPC_INFO:
    case SEM_INFO: return c.host(SYS_semctl, id, number, op, c.memory.out_pointer(value, kPageSize));
    case IPC_STAT:
    case SEM_STAT:
    case SEM_STAT_ANY: return control(c, SYS_semctl, {id, number, static_cast<u64>(op)}, value, kSemid32, false, true);
    case IPC_SET: return control(c, SYS_semctl, {id, number, static_cast<u64>(op)}, value, kSemid32, true, false);
    default: return -EINVAL;
  }
}

s64 shared_memory(Call& c, u64 id, int command, GuestAddr at) {
  const int op = command & ~kIpc64;
  const u64 o = static_cast<u64>(op);
  switch (op) {
    case IPC_STAT:
    case SHM_STAT:
    case 15 /* SHM_STAT_ANY */: return control(c, SYS_shmctl, {id, o}, at, kShmid32, false, true);
    case IPC_SET: return control(c, SYS_shmctl, {id, o}, at, kShmid32, true, false);
    case IPC_INFO: {
      u64 limits[9] = {};
      const s64 r = c.host(SYS_shmctl, id, o, limits);
      if (r < 0) return r;
      for (u64& v : limits) v = std::min<u64>(v, 0x7fffffff);
      const int e = put_struct(c, at, kShminfo32, limits[0]);
      return e < 0 ? e : r;
    }
    case SHM_INFO: return control(c, SYS_shmctl, {id, o}, at, kShmUsage32, false, true);
    default: return c.host(SYS_shmctl, id, o, nullptr);
  }
}

s64 message_queue(Call& c, u64 id, int command, GuestAddr at) {
  const int op = command & ~kIpc64;
  const u64 o = static_cast<u64>(op);
  switch (op) {
    case IPC_STAT:
    case MSG_STAT:
    case 13 /* MSG_STAT_ANY */: return control(c, SYS_msgctl, {id, o}, at, kMsqid32, false, true);
    case IPC_SET: return control(c, SYS_msgctl, {id, o}, at, kMsqid32, true, false);
    case IPC_INFO:
    case MSG_INFO: return c.host(SYS_msgctl, id, o, c.memory.out_pointer(at, 32));
    default: return c.host(SYS_msgctl, id, o, nullptr);
  }
}

/// struct msgbuf begins with a long.
constexpr u64 kMostMessage = 1 << 20;
s64 send_message(Call& c, u64 id, GuestAddr at, u64 size, u64 flags) {
  if (size > kMostMessage) return -EINVAL;
  auto buffer = std::make_unique<u8[]>(size + 8);
  s32 type;
  if (!get_word(c, at, type) || !c.memory.read(at + 4, buffer.get() + 8, size)) return -EFAULT;
  const s64 wide = type;
  std::memcpy(buffer.get(), &wide, 8);
  return c.host(SYS_msgsnd, id, buffer.get(), size, flags);
}
s64 receive_message(Call& c, u64 id, GuestAddr at, u64 size, s64 type, u64 flags) {
  size = std::min(size, kMostMessage);
  auto buffer = std::make_unique<u8[]>(size + 8);
  const s64 n = c.host(SYS_msgrcv, id, buffer.get(), size, type, flags);
  if (n < 0) return n;
  s64 got;
  std::memcpy(&got, buffer.get(), 8);
  return put_word<s32>(c, at, static_cast<s32>(got)) && c.memory.write(at + 4, buffer.get() + 8, static_cast<u64>(n)) ? n
                                                                                                                      : -EFAULT;
}

}  // namespace

s64 c32_semctl(Call& c) { return semaphores(c, c.a[0], c.a[1], c.i(2), c.a[3]); }
s64 c32_shmctl(Call& c) { return shared_memory(c, c.a[0], c.i(1), c.a[2]); }
s64 c32_msgctl(Call& c) { return message_queue(c, c.a[0], c.i(1), c.a[2]); }
s64 c32_msgsnd(Call& c) { return send_message(c, c.a[0], c.a[1], c.a[2], c.a[3]); }
s64 c32_msgrcv(Call& c) { return receive_message(c, c.a[0], c.a[1], c.a[2], static_cast<s64>(c.a[3]), c.a[4]); }

/// ipc(call | version << 16, first, second, third, ptr, fifth) (linux/ipc.h, ipc/syscall.c).
s64 c32_ipc(Call& c) {
  enum : u32 {
    SemOp = 1,
    SemGet = 2,
    SemCtl = 3,
    SemTimedOp = 4,
    MsgSnd = 11,
    MsgRcv = 12,
    MsgGet = 13,
    MsgCtl = 14,
    ShmAt = 21,
    ShmDt = 22,
    ShmGet = 23,
    ShmCtl = 24
  };
  const u32 call = c.u(0) & 0xffff, version = c.u(0) >> 16;
  const u64 first = c.a[1], second = c.a[2], third = c.a[3];
  const GuestAddr pointer = c.a[4];
  if ((call == SemCtl || call == MsgCtl || call == ShmCtl) && !(static_cast<u32>(call == SemCtl ? third : second) & kIpc64)) {
    // Without IPC_64 the structs are those of before 2.4; only calls without one are the same.
    const u32 command = static_cast<u32>(call == SemCtl ? third : second);
    if (command == IPC_STAT || command == IPC_SET) {
      say_once(c.process, "unimplemented ipc structs of before Linux 2.4 (no IPC_64)");
      return -EINVAL;
    }
  }
  switch (call) {
    case SemOp: return c.host(SYS_semop, first, c.memory.pointer(pointer), second);
    case SemTimedOp: {
      Timeout timeout;
      if (const int r = get_timeout(c, c.a[5] & 0xffffffff, TimeSize::Bits32, timeout); r < 0) return r;
      return c.host(SYS_semtimedop, first, c.memory.pointer(pointer), second, timeout.host());
    }
    case SemGet: return c.host(SYS_semget, first, second, third);
    case SemCtl: {
      u32 value;
      if (pointer == 0) return -EINVAL;
      if (!get_word(c, pointer, value)) return -EFAULT;
      return semaphores(c, first, second, static_cast<int>(third), value);
    }
    case MsgSnd: return send_message(c, first, pointer, static_cast<u32>(second), third);
    case MsgRcv: {
      if (version != 0)
        return receive_message(c, first, pointer, static_cast<u32>(second), static_cast<s64>(static_cast<s32>(c.a[5])), third);
      u32 kludge[2];  // message pointer and type
      if (pointer == 0) return -EINVAL;
      if (!get_word(c, pointer, kludge[0]) || !get_word(c, pointer + 4, kludge[1])) return -EFAULT;
      return receive_message(c, first, kludge[0], static_cast<u32>(second), static_cast<s32>(kludge[1]), third);
    }
    case MsgGet: return c.host(SYS_msgget, first, second);
    case MsgCtl: return message_queue(c, first, static_cast<int>(second), pointer);
    case ShmAt: {
      if (version == 1) return -EINVAL;
      c.a[0] = first;
      c.a[1] = pointer;
      c.a[2] = second;
      const s64 at = sys_shmat(c);
      return at < 0 ? at : put_word<u32>(c, static_cast<u32>(third), static_cast<u32>(at)) ? 0 : -EFAULT;
    }
    case ShmDt: c.a[0] = pointer; return sys_shmdt(c);
    case ShmGet: return c.host(SYS_shmget, first, static_cast<u32>(second), third);
    case ShmCtl: return shared_memory(c, first, static_cast<int>(second), pointer);
    default: return -ENOSYS;
  }
}

// --- POSIX message queues
// ----------------------------------------------------------------------------------------------------------

s64 c32_mq_open(Call& c) {
  mq_attr attributes{};
  static_assert(kMqAttr32.host_size() == sizeof attributes);
  const int flags = c.abi.open_flags_to_host(c.a[1]);
  const bool given = c.a[3] != 0 && (flags & 0100 /* O_CREAT */);
  if (given) {
    if (const int r = get_struct(c, c.a[3], kMqAttr32, attributes); r < 0) return r;
  }
  return c.host(SYS_mq_open, c.in(0), flags, c.a[2], given ? &attributes : nullptr);
}
s64 c32_mq_getsetattr(Call& c) {
  mq_attr fresh{}, old{};
  if (c.a[1]) {
    if (const int r = get_struct(c, c.a[1], kMqAttr32, fresh); r < 0) return r;
  }
  const s64 r = c.host(SYS_mq_getsetattr, c.a[0], c.a[1] ? &fresh : nullptr, c.a[2] ? &old : nullptr);
  if (r < 0 || c.a[2] == 0) return r;
  return put_struct(c, c.a[2], kMqAttr32, old);
}
s64 c32_mq_notify(Call& c) {
  sigevent event{};
  if (c.a[1] == 0) return c.host(SYS_mq_notify, c.a[0], nullptr);
  if (const int r = get_struct(c, c.a[1], kSigevent32, event); r < 0) return r;
  // SIGEV_THREAD: the value is a pointer to 32 bytes that come back through a socket.
  if (event.sigev_notify == SIGEV_THREAD)
    event.sigev_value.sival_ptr = c.memory.pointer(reinterpret_cast<u64>(event.sigev_value.sival_ptr));
  return c.host(SYS_mq_notify, c.a[0], &event);
}

}  // namespace kiln::user
