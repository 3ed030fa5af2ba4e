#include "linux-user/ptrace/tracer.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>

#include "linux-user/host_x86_64.h"
#include "linux-user/ptrace/tracee.h"
#include "linux-user/syscalls/compat32.h"

namespace kiln::user {
namespace {

constexpr int kEventStop = 128;  // PTRACE_EVENT_STOP
/// Options that the host carries out; exec events tell us that there is a new Kiln.
constexpr u32 kHostOptions = PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEVFORKDONE |
                             PTRACE_O_TRACEEXIT | PTRACE_O_EXITKILL;
constexpr u32 kKnownOptions = kHostOptions | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEEXEC;

struct Tracee {
  u64 box = 0;                              // address in the tracee; 0: not known (yet)
  bool in_stop = false;                     // stopped where the guest knows of it
  bool box_stop = false;                    // by its box; else a stop of the host's that is the guest's too
  bool held = false;                        // new, until its parent's event says what it is
  bool known = false;                       // its first stop has been
  bool expected = false, internal = false;  // its parent's event has been
  bool host_options_set = false;
  bool interrupt_due = false;  // asked for before the thread knew that it is traced
};

struct Tracees {
  std::mutex mutex;
  std::map<int, Tracee> list;
};
Tracees& tracees() {
  static auto& all = *new Tracees;
  return all;
}

s64 host_ptrace(int request, int tid, u64 address = 0, u64 data = 0) {
  return raw_syscall(SYS_ptrace, static_cast<u64>(request), static_cast<u64>(tid), address, data);
}
s64 host_ptrace(int request, int tid, u64 address, void* data) {
  return host_ptrace(request, tid, address, reinterpret_cast<u64>(data));
}

bool read_tracee(int tid, u64 at, void* to, std::size_t size) {
  const iovec local{to, size}, remote{reinterpret_cast<void*>(at), size};
  return process_vm_readv(tid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}
bool write_tracee(int tid, u64 at, const void* from, std::size_t size) {
  const iovec local{const_cast<void*>(from), size}, remote{reinterpret_cast<void*>(at), size};
  return process_vm_writev(tid, &local, 1, &remote, 1, 0) == static_cast<ssize_t>(size);
}

#define BOX_AT(member) offsetof(TraceBox, member)
template <class T>
T box_get(int tid, const Tracee& t, std::size_t at) {
  T value{};
  if (t.box != 0) read_tracee(tid, t.box + at, &value, sizeof value);
  return value;
}
template <class T>
bool box_put(int tid, const Tracee& t, std::size_t at, T value) {
  return t.box != 0 && write_tracee(tid, t.box + at, &value, sizeof value);
}

void go_on(int tid, int signal = 0) { host_ptrace(PTRACE_CONT, tid, 0, static_cast<u64>(signal)); }

/// A number of /proc/TID/status.
u64 status_number(int tid, const char* name, int base) {
  const std::string path = "/proc/" + std::to_string(tid) + "/status";
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return 0;
  char text[4096];
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  const char* line = std::strstr(text, name);
  return line != nullptr ? std::strtoull(line + std::strlen(name), nullptr, base) : 0;
}
int process_of_thread(int tid) { return static_cast<int>(status_number(tid, "\nTgid:", 10)); }

/// Sends a request to a thread at whatever point it is.
s64 send_request(int tid, TraceRequest kind, u32 payload = 0) {
  siginfo_t info{};
  info.si_signo = SIGSEGV;
  info.si_errno = kTraceRequestMark;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_value.sival_ptr = reinterpret_cast<void*>(trace_request(kind, payload));
  return raw_syscall(SYS_rt_tgsigqueueinfo, static_cast<u64>(process_of_thread(tid)), static_cast<u64>(tid), SIGSEGV,
                     reinterpret_cast<u64>(&info));
}
/// The same in place of the signal that the thread has stopped for.
void turn_into_request(int tid, TraceRequest kind, u32 payload = 0) {
  siginfo_t info{};
  info.si_signo = SIGSEGV;
  info.si_errno = kTraceRequestMark;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_value.sival_ptr = reinterpret_cast<void*>(trace_request(kind, payload));
  host_ptrace(PTRACE_SETSIGINFO, tid, 0, &info);
  go_on(tid, SIGSEGV);
}

void set_host_options(int tid, Tracee& t, u32 guest_options) {
  host_ptrace(PTRACE_SETOPTIONS, tid, 0, u64{(guest_options & kHostOptions) | PTRACE_O_TRACEEXEC});
  t.host_options_set = true;
}

/// A new thread or process that the kernel made our tracee has come to its first stop. It stops again for the guest by itself.
void first_stop(int tid, Tracee& t) {
  t.known = true;
  t.host_options_set = true;  // inherited
  if (t.internal) {
    host_ptrace(PTRACE_DETACH, tid);
    tracees().list.erase(tid);
  } else if (t.expected || process_of_thread(tid) == tid) {
    go_on(tid);
  } else {
    t.held = true;
  }
}

TraceVerdict judge_event(int tid, Tracee& t, int event) {
  u64 message = 0;
  switch (event) {
    case PTRACE_EVENT_EXEC:
      host_ptrace(PTRACE_GETEVENTMSG, tid, 0, &message);
      if (static_cast<int>(message) != tid) tracees().list.erase(static_cast<int>(message));
      t.box = 0;
      t.in_stop = false;
      go_on(tid);
      return TraceVerdict::Swallow;
    case PTRACE_EVENT_CLONE:
    case PTRACE_EVENT_FORK:
    case PTRACE_EVENT_VFORK: {
      host_ptrace(PTRACE_GETEVENTMSG, tid, 0, &message);
      const int child_tid = static_cast<int>(message);
      Tracee& child = tracees().list[child_tid];
      const bool guests = event != PTRACE_EVENT_CLONE || box_get<u32>(tid, t, BOX_AT(in_clone)) != 0;
      child.expected = guests;
      child.internal = !guests;
      if (child.held) {
        child.held = false;
        if (guests) {
          go_on(child_tid);
        } else {
          host_ptrace(PTRACE_DETACH, child_tid);
          tracees().list.erase(child_tid);
        }
      }
      if (guests) break;
      go_on(tid);
      return TraceVerdict::Swallow;
    }
    default: break;
  }
  t.in_stop = true;
  t.box_stop = false;
  return TraceVerdict::Tell;
}

TraceVerdict judge_locked(int tid, u32& status) {
  const int signal = WSTOPSIG(status), event = static_cast<int>(status >> 16);
  siginfo_t info{};
  const s64 r = host_ptrace(PTRACE_GETSIGINFO, tid, 0, &info);
  if (r == -ESRCH) return TraceVerdict::Tell;  // not ours: stopped as jobs are
  Tracee& t = tracees().list[tid];
  if (event == kEventStop) {
    if (signal == SIGTRAP && !t.known) {
      first_stop(tid, t);
      return TraceVerdict::Swallow;
    }
    t.known = t.in_stop = true;
    t.box_stop = false;
    return TraceVerdict::Tell;
  }
  if (event != 0) return judge_event(tid, t, event);
  if (r < 0) {  // stopped with its group
    t.known = t.in_stop = true;
    t.box_stop = false;
    return TraceVerdict::Tell;
  }
  if (signal == SIGBUS && info.si_code == SI_QUEUE && info.si_errno == kTraceStopMark) {
    const auto at = reinterpret_cast<u64>(info.si_value.sival_ptr);
    struct {
      u64 magic;
      u32 size;
    } head{};
    t.known = true;
    if (!read_tracee(tid, at, &head, sizeof head) || head.magic != TraceBox::kMagic || head.size != sizeof(TraceBox)) {
      go_on(tid);  // another build of Kiln: it finds itself without a tracer
      return TraceVerdict::Swallow;
    }
    t.box = at;
    if (!t.host_options_set) set_host_options(tid, t, box_get<u32>(tid, t, BOX_AT(options)));
    if (box_get<TraceStop>(tid, t, BOX_AT(stop)) == TraceStop::Hello) {
      box_put(tid, t, BOX_AT(action), TraceAction::Cont);
      box_put(tid, t, BOX_AT(answered), u32{1});
      if (std::exchange(t.interrupt_due, false)) turn_into_request(tid, TraceRequest::Interrupt);
      else go_on(tid);
      return TraceVerdict::Swallow;
    }
    t.in_stop = t.box_stop = true;
    status = box_get<u32>(tid, t, BOX_AT(status));
    return TraceVerdict::Tell;
  }
  // The kernel's own SIGTRAP after execve(), as long as it does not know of TRACEEXEC: nobody handles signals yet.
  if (signal == SIGTRAP && info.si_code == SI_USER && !t.host_options_set && status_number(tid, "\nSigCgt:", 16) == 0) {
    t.known = true;
    set_host_options(tid, t, 0);
    go_on(tid);
    return TraceVerdict::Swallow;
  }
  if (signal == SIGSTOP && box_get<s32>(tid, t, BOX_AT(passing)) != SIGSTOP) {
    if (info.si_code == SI_USER && info.si_pid == 0 && !t.known) {
      first_stop(tid, t);
      return TraceVerdict::Swallow;
    }
    t.known = true;
    if (info.si_code == SI_KERNEL) turn_into_request(tid, TraceRequest::Attach);
    else turn_into_request(tid, TraceRequest::Stop, static_cast<u32>(info.si_pid));
    return TraceVerdict::Swallow;
  }
  t.known = true;
  go_on(tid, signal);
  return TraceVerdict::Swallow;
}

}  // namespace

TraceVerdict judge_stop(int tid, u32& status) {
  std::lock_guard guard(tracees().mutex);
  return judge_locked(tid, status);
}

void tracee_gone(int tid) {
  std::lock_guard guard(tracees().mutex);
  tracees().list.erase(tid);
}

void pass_internal_stops(int except) {
  std::lock_guard guard(tracees().mutex);
  std::vector<int> waiting;
  for (const auto& [tid, t] : tracees().list)
    if (tid != except && !t.in_stop && !t.held) waiting.push_back(tid);
  for (const int tid : waiting) {
    siginfo_t info{};
    constexpr u64 kPeek = WSTOPPED | WNOHANG | WNOWAIT | __WALL;
    if (raw_syscall(SYS_waitid, P_PID, static_cast<u64>(tid), reinterpret_cast<u64>(&info), kPeek) != 0 || info.si_pid != tid)
      continue;
    u32 status = static_cast<u32>(info.si_status) << 8 | 0x7f;
    if (judge_locked(tid, status) == TraceVerdict::Tell)
      if (const auto found = tracees().list.find(tid); found != tracees().list.end())
        found->second.in_stop = false;  // not told yet
  }
}

void forget_tracees() { new (&tracees()) Tracees; }

namespace {
void note_write(int tid, const Tracee& t, GuestAddr at, u64 size) {
  const u32 count = box_get<u32>(tid, t, BOX_AT(write_count));
  if (count < std::size(TraceBox{}.writes)) {
    const u64 range[2] = {at, size};
    write_tracee(tid, t.box + BOX_AT(writes) + count * sizeof range, range, sizeof range);
  }
  box_put(tid, t, BOX_AT(write_count), count + 1);
}
}  // namespace

void note_tracee_write(int pid, GuestAddr at, u64 size) {
  std::lock_guard guard(tracees().mutex);
  const auto found = tracees().list.find(pid);
  if (found != tracees().list.end()) note_write(pid, found->second, at, size);
}

// --- requests -------------------------------------------------------------------------------------------------------------

namespace {

/// One request of the guest about a stopped tracee.
struct Request {
  Call& c;
  int tid;
  Tracee& t;

  unsigned word() const { return c.abi.guest->pointer_bits / 8; }
  u64 base() const { return box_get<u64>(tid, t, BOX_AT(base)); }

  s64 host_address(GuestAddr at, u64 size, u64& out) const {
    const u64 limit = box_get<u64>(tid, t, BOX_AT(limit));
    if (at >= limit || size > limit - at) return -EIO;
    out = base() + at;
    return 0;
  }

  s64 peek() const {
    u64 at, value = 0;
    if (host_address(c.a[2], word(), at) < 0 || !read_tracee(tid, at, &value, word())) return -EIO;
    return c.memory.write(c.a[3], &value, word()) ? 0 : -EFAULT;
  }
  s64 poke() const {
    u64 at, value = 0;
    if (host_address(c.a[2], word(), at) < 0 || !read_tracee(tid, at, &value, word())) return -EIO;
    const bool in_one = (at & 7) + word() <= 8;
    value = c.a[3];
    if (word() == 4) {  // the host's pokes are 8 bytes: keep the neighbours
      const u64 whole = in_one ? at & ~u64{7} : at;
      s64 old = 0;
      if (host_ptrace(PTRACE_PEEKDATA, tid, whole, &old) < 0) return -EIO;
      const unsigned shift = static_cast<unsigned>(at - whole) * 8;
      value = (static_cast<u64>(old) & ~(u64{0xffffffff} << shift)) | (c.a[3] & 0xffffffff) << shift;
      at = whole;
    }
    if (host_ptrace(PTRACE_POKEDATA, tid, at, value) < 0) return -EIO;
    note_write(tid, t, c.a[2], word());
    return 0;
  }

  // Register sets.
  bool find_set(u32 type, TraceSet& set, u32& index) const {
    const u32 count = box_get<u32>(tid, t, BOX_AT(set_count));
    for (index = 0; index < count && index < std::size(TraceBox{}.sets); ++index) {
      set = box_get<TraceSet>(tid, t, BOX_AT(sets) + index * sizeof(TraceSet));
      if (set.type == type && set.at + set.size <= sizeof(TraceBox{}.data)) return true;
    }
    return false;
  }
  s64 usable() const {
    if (box_get<u32>(tid, t, BOX_AT(state_valid)) != 0) return 0;
    say_once(c.process, "unimplemented: registers of a traced thread that stopped with its group at no safe point");
    return -EIO;
  }
  s64 get_set(u32 type, std::vector<u8>& out) const {
    TraceSet set;
    u32 index;
    if (const s64 r = usable(); r < 0) return r;
    if (!find_set(type, set, index)) return -EINVAL;
    out.resize(set.size);
    return read_tracee(tid, t.box + BOX_AT(data) + set.at, out.data(), set.size) ? 0 : -EIO;
  }
  s64 put_set(u32 type, const std::vector<u8>& from) const {
    TraceSet set;
    u32 index;
    if (const s64 r = usable(); r < 0) return r;
    if (!find_set(type, set, index)) return -EINVAL;
    if (!t.box_stop) {
      say_once(c.process, "unimplemented: registers set at a clone event");
      return -EIO;
    }
    const std::size_t size = std::min<std::size_t>(from.size(), set.size);
    if (!write_tracee(tid, t.box + BOX_AT(data) + set.at, from.data(), size)) return -EIO;
    if (!box_put(tid, t, BOX_AT(sets) + index * sizeof(TraceSet) + offsetof(TraceSet, changed), u32{1})) return -EIO;
    // x86-64: FXSAVE is the beginning of the XSAVE image too; the later set counts.
    if (type == NT_PRFPREG && find_set(NT_X86_XSTATE, set, index) && word() == 8)
      write_tracee(tid, t.box + BOX_AT(data) + set.at, from.data(), size);
    return 0;
  }
  s64 get_set(u32 type, GuestAddr to) const {
    std::vector<u8> data;
    if (const s64 r = get_set(type, data); r < 0) return r == -EINVAL ? -EIO : r;
    return c.memory.write(to, data.data(), data.size()) ? 0 : -EFAULT;
  }
  s64 put_set(u32 type, GuestAddr from) const {
    std::vector<u8> data;
    if (const s64 r = get_set(type, data); r < 0) return r == -EINVAL ? -EIO : r;
    return c.memory.read(from, data.data(), data.size()) ? put_set(type, data) : -EFAULT;
  }
  s64 register_set(bool set) const {
    u64 vec[2] = {};
    if (!c.memory.read(c.a[3], &vec[0], word()) || !c.memory.read(c.a[3] + word(), &vec[1], word())) return -EFAULT;
    std::vector<u8> data;
    const u32 type = c.u(2);
    if ((type == NT_ARM_HW_BREAK || type == NT_ARM_HW_WATCH) && c.abi.elf_machine == EM_AARCH64) {
      if (set) {
        say_once(c.process, "unimplemented: hardware breakpoints and watchpoints by ptrace");
        return -ENOSPC;
      }
      data.assign(8 + 16 * 16, 0);
      data[1] = 6;  // debug architecture ARMv8; no registers
    } else if (const s64 r = get_set(type, data); r < 0) {
      return r;
    }
    const std::size_t size = std::min<u64>(vec[1], data.size());
    if (set) {
      if (!c.memory.read(vec[0], data.data(), size)) return -EFAULT;
      if (const s64 r = put_set(type, data); r < 0) return r;
    } else if (!c.memory.write(vec[0], data.data(), size)) {
      return -EFAULT;
    }
    const u64 length = size;
    return c.memory.write(c.a[3] + word(), &length, word()) ? 0 : -EFAULT;
  }

  /// x86's struct user: the registers at its beginning, debug registers at its end.
  s64 user_area(bool set) const {
    const u64 at = c.a[2], registers_end = word() == 8 ? 27 * 8 : 17 * 4, end = word() == 8 ? 912 : 284,
              debug = end - 8 * word();
    if (at % word() != 0 || at >= end) return -EIO;
    if (at < registers_end) {
      std::vector<u8> data;
      if (const s64 r = get_set(NT_PRSTATUS, data); r < 0) return r;
      if (!set) return c.memory.write(c.a[3], data.data() + at, word()) ? 0 : -EFAULT;
      std::memcpy(data.data() + at, &c.a[3], word());
      return put_set(NT_PRSTATUS, data);
    }
    const u64 zero = 0;
    if (!set) return c.memory.write(c.a[3], &zero, word()) ? 0 : -EFAULT;
    if (c.a[3] == 0) return 0;
    if (at >= debug) say_once(c.process, "unimplemented: hardware breakpoints and watchpoints by ptrace");
    return -EIO;
  }

  s64 get_info() const {
    alignas(8) u8 info[128], small[128];
    if (t.box_stop) {
      if (!read_tracee(tid, t.box + BOX_AT(info), info, sizeof info)) return -ESRCH;
    } else if (const s64 r = host_ptrace(PTRACE_GETSIGINFO, tid, 0, info); r < 0) {
      return r;
    }
    const bool narrow = word() == 4;
    if (narrow) siginfo_to_guest32(c.abi, info, small);
    return c.memory.write(c.a[3], narrow ? small : info, sizeof info) ? 0 : -EFAULT;
  }
  s64 set_info() const {
    alignas(8) u8 info[128], wide[128];
    if (!c.memory.read(c.a[3], info, sizeof info)) return -EFAULT;
    if (!t.box_stop) return -EINVAL;
    if (word() == 4) siginfo_from_guest32(c.abi, info, wide);
    return write_tracee(tid, t.box + BOX_AT(info), word() == 4 ? wide : info, sizeof info) ? 0 : -ESRCH;
  }

  s64 get_message() const {
    u64 message = 0;
    if (t.box_stop) message = box_get<u64>(tid, t, BOX_AT(message));
    else if (const s64 r = host_ptrace(PTRACE_GETEVENTMSG, tid, 0, &message); r < 0) return r;
    return c.memory.write(c.a[3], &message, word()) ? 0 : -EFAULT;
  }

  s64 get_syscall_info() const {
    struct {  // struct ptrace_syscall_info
      u8 op, pad[3];
      u32 arch;
      u64 ip, sp;
      union {
        struct {
          u64 nr, args[6];
        } entry;
        struct {
          s64 rval;
          u8 is_error;
        } exit;
      };
    } info{};
    if (const s64 r = usable(); r < 0) return r;
    info.arch = box_get<u32>(tid, t, BOX_AT(audit_arch));
    info.ip = box_get<u64>(tid, t, BOX_AT(ip));
    info.sp = box_get<u64>(tid, t, BOX_AT(sp));
    std::size_t size = offsetof(decltype(info), entry);
    const TraceStop stop = t.box_stop ? box_get<TraceStop>(tid, t, BOX_AT(stop)) : TraceStop::Event;
    if (stop == TraceStop::SyscallEntry) {
      info.op = 1;  // PTRACE_SYSCALL_INFO_ENTRY
      info.entry.nr = box_get<u64>(tid, t, BOX_AT(number));
      read_tracee(tid, t.box + BOX_AT(arguments), info.entry.args, sizeof info.entry.args);
      size += sizeof info.entry;
    } else if (stop == TraceStop::SyscallExit) {
      info.op = 2;
      info.exit.rval = box_get<s64>(tid, t, BOX_AT(result));
      info.exit.is_error = info.exit.rval < 0 && info.exit.rval >= -4095;
      size += 9;
    }
    if (!c.memory.write(c.a[3], &info, std::min<u64>(size, c.a[2]))) return -EFAULT;
    return static_cast<s64>(size);
  }

  s64 set_options(u64 options) const {
    if (options & ~u64{kKnownOptions}) {
      say_once(c.process, "unimplemented PTRACE_O_ option in " + std::to_string(options));
      return -EINVAL;
    }
    set_host_options(tid, t, static_cast<u32>(options));
    return box_put(tid, t, BOX_AT(options), static_cast<u32>(options)) ? 0 : -EIO;
  }

  s64 resume(TraceAction action) const {
    const u64 signal = c.a[3];
    if (signal > kSignals) return -EIO;
    if (t.box != 0) {
      box_put(tid, t, BOX_AT(action), action);
      if (t.box_stop) {
        box_put(tid, t, BOX_AT(signal), static_cast<s32>(signal));
        box_put(tid, t, BOX_AT(answered), u32{1});
      }
    }
    t.in_stop = false;
    const u64 own = t.box_stop ? 0 : signal;
    if (action != TraceAction::Detach) return host_ptrace(PTRACE_CONT, tid, 0, own);
    const s64 r = host_ptrace(PTRACE_DETACH, tid, 0, own);
    tracees().list.erase(tid);
    return r;
  }
};

constexpr int kGetRegs = 12, kSetRegs = 13, kGetFpregs = 14, kSetFpregs = 15, kGetFpxregs = 18, kSetFpxregs = 19;
constexpr int kPeekUser = 3, kPokeUser = 6;
constexpr int kGetThreadArea = 25, kArchPrctl = 30;  // x86; PTRACE_OLDSETOPTIONS is 21

s64 seize(Call& c, int tid, u64 options) {
  if (c.a[2] != 0) return -EIO;
  if (options & ~u64{kKnownOptions}) return -EIO;
  if (const s64 r = host_ptrace(PTRACE_SEIZE, tid, 0, (options & kHostOptions) | PTRACE_O_TRACEEXEC); r < 0) return r;
  Tracee& t = tracees().list[tid];
  t = {};
  t.known = t.host_options_set = true;
  return send_request(tid, TraceRequest::Seize, static_cast<u32>(options));
}

s64 x86_request(const Request& r, int request) {
  Call& c = r.c;
  switch (request) {
    case kPeekUser: return r.user_area(false);
    case kPokeUser: return r.user_area(true);
    case kGetRegs: return r.get_set(NT_PRSTATUS, c.a[3]);
    case kSetRegs: return r.put_set(NT_PRSTATUS, c.a[3]);
    case kGetFpregs: return r.get_set(NT_PRFPREG, c.a[3]);
    case kSetFpregs: return r.put_set(NT_PRFPREG, c.a[3]);
    case kGetFpxregs: return r.get_set(NT_PRXFPREG, c.a[3]);
    case kSetFpxregs: return r.put_set(NT_PRXFPREG, c.a[3]);
    case kGetThreadArea: {
      constexpr u64 kFirstEntry = 12, kDescriptor = 16;
      std::vector<u8> data;
      if (c.a[2] < kFirstEntry || c.a[2] > kFirstEntry + 2) return -EINVAL;
      if (const s64 e = r.get_set(NT_386_TLS, data); e < 0) return e;
      return c.memory.write(c.a[3], data.data() + (c.a[2] - kFirstEntry) * kDescriptor, kDescriptor) ? 0 : -EFAULT;
    }
    case kArchPrctl: {  // ARCH_GET_FS, ARCH_GET_GS: where elf_gregset_t has the bases
      std::vector<u8> data;
      if (r.word() != 8 || (c.a[3] != 0x1003 && c.a[3] != 0x1004)) break;
      if (const s64 e = r.get_set(NT_PRSTATUS, data); e < 0) return e;
      return c.memory.write(c.a[2], data.data() + (c.a[3] == 0x1003 ? 21 : 22) * 8, 8) ? 0 : -EFAULT;
    }
    default: break;
  }
  say_once(c.process, "unimplemented ptrace request " + std::to_string(request));
  return -EIO;
}

}  // namespace

s64 sys_ptrace(Call& c) {
  const int request = c.i(0), tid = c.i(1);
  if (request == PTRACE_TRACEME) return trace_me(c.thread);
  std::lock_guard guard(tracees().mutex);
  if (request == PTRACE_ATTACH || request == PTRACE_SEIZE) {
    const int process = process_of_thread(tid);
    if (process == 0) return -ESRCH;
    if (process == getpid()) return -EPERM;
    if (!is_kiln_process(process)) {
      say_once(c.process, "unimplemented: ptrace of a process that does not run under Kiln");
      return -EPERM;
    }
    if (request == PTRACE_SEIZE) return seize(c, tid, c.a[3]);
    if (const s64 r = host_ptrace(PTRACE_ATTACH, tid); r < 0) return r;
    Tracee& t = tracees().list[tid];
    t = {};
    t.known = true;
    return 0;
  }
  const auto found = tracees().list.find(tid);
  if (found == tracees().list.end()) return -ESRCH;
  Tracee& t = found->second;
  if (request == PTRACE_INTERRUPT) {
    if (t.box == 0) {
      t.interrupt_due = true;  // two SIGSEGVs at a time would be one
      return 0;
    }
    return box_get<u32>(tid, t, BOX_AT(seized)) ? send_request(tid, TraceRequest::Interrupt) : -EIO;
  }
  if (request == PTRACE_KILL) {
    raw_syscall(SYS_tgkill, static_cast<u64>(process_of_thread(tid)), static_cast<u64>(tid), SIGKILL);
    return 0;
  }
  siginfo_t info;
  if (host_ptrace(PTRACE_GETSIGINFO, tid, 0, &info) == -ESRCH || !t.in_stop) return -ESRCH;  // runs, or gone
  const Request r{c, tid, t};
  if (t.box == 0) {
    switch (request) {  // stopped with its group before it came to a safe point
      case PTRACE_CONT:
      case PTRACE_SYSCALL:
      case PTRACE_DETACH:
      case PTRACE_LISTEN:
      case PTRACE_GETSIGINFO: break;
      default: return -EIO;
    }
  }
  switch (request) {
    case PTRACE_PEEKTEXT:
    case PTRACE_PEEKDATA: return r.peek();
    case PTRACE_POKETEXT:
    case PTRACE_POKEDATA: return r.poke();
    case PTRACE_CONT: return r.resume(TraceAction::Cont);
    case PTRACE_SYSCALL: return r.resume(TraceAction::Syscall);
    case PTRACE_SINGLESTEP: return r.resume(TraceAction::Step);
    case PTRACE_DETACH: return r.resume(TraceAction::Detach);
    case PTRACE_LISTEN: {
      const s64 result = t.box_stop ? -EIO : host_ptrace(PTRACE_LISTEN, tid);
      if (result == 0) t.in_stop = false;
      return result;
    }
    case PTRACE_SETOPTIONS: return r.set_options(c.a[3]);
    case PTRACE_GETEVENTMSG: return r.get_message();
    case PTRACE_GETSIGINFO: return r.get_info();
    case PTRACE_SETSIGINFO: return r.set_info();
    case PTRACE_GETREGSET: return r.register_set(false);
    case PTRACE_SETREGSET: return r.register_set(true);
    case PTRACE_GET_SYSCALL_INFO: return r.get_syscall_info();
    default: break;
  }
  if (c.abi.elf_machine != EM_AARCH64) {
    if (request == 21) return r.set_options(c.a[3]);  // PTRACE_OLDSETOPTIONS
    return x86_request(r, request);
  }
  say_once(c.process, "unimplemented ptrace request " + std::to_string(request));
  return -EIO;
}

// --- waiting ----------------------------------------------------------------------------------------------------------------

namespace {
s64 put_usage(Call& c, GuestAddr at, const rusage& usage) {
  if (at == 0) return 0;
  if (c.abi.guest->pointer_bits == 32) return put_struct(c, at, kRusage32, usage);
  return c.memory.write(at, usage) ? 0 : -EFAULT;
}
}  // namespace

s64 sys_wait4(Call& c) {
  const bool usage_wanted = std::string_view(c.row.name) == "wait4";
  const int pid = c.i(0);
  for (;;) {
    pass_internal_stops(pid);
    u32 status = 0;
    rusage usage{};
    const s64 r = c.host(SYS_wait4, pid, &status, c.u(2), &usage);
    if (r <= 0) return r;
    if (WIFSTOPPED(status)) {
      if (judge_stop(static_cast<int>(r), status) == TraceVerdict::Swallow) continue;
    } else if (!WIFCONTINUED(status)) {
      tracee_gone(static_cast<int>(r));
    }
    if (c.a[1] != 0 && !c.memory.write(c.a[1], status)) return -EFAULT;
    if (usage_wanted)
      if (const s64 e = put_usage(c, c.a[3], usage); e < 0) return e;
    return r;
  }
}

s64 sys_waitid(Call& c) {
  for (;;) {
    pass_internal_stops(c.i(0) == P_PID ? c.i(1) : 0);
    siginfo_t info{};
    rusage usage{};
    const s64 r = c.host(SYS_waitid, c.a[0], c.a[1], &info, c.a[3], &usage);
    if (r < 0) return r;
    const int pid = info.si_pid;
    if (pid != 0 && (info.si_code == CLD_TRAPPED || info.si_code == CLD_STOPPED)) {
      u32 status = static_cast<u32>(info.si_status) << 8 | 0x7f;
      if (judge_stop(pid, status) == TraceVerdict::Swallow) continue;
      info.si_status = static_cast<int>(status >> 8);
    } else if (pid != 0 && info.si_code != CLD_CONTINUED && (c.a[3] & WNOWAIT) == 0) {
      tracee_gone(pid);
    }
    if (c.a[2] != 0) {
      alignas(8) u8 raw[128];
      std::memcpy(raw, &info, sizeof raw);
      if (c.abi.guest->pointer_bits == 32) siginfo_to_guest32(c.abi, reinterpret_cast<const u8*>(&info), raw);
      if (!c.memory.write(c.a[2], raw, sizeof raw)) return -EFAULT;
    }
    if (const s64 e = put_usage(c, c.a[4], usage); e < 0) return e;
    return 0;
  }
}

}  // namespace kiln::user
