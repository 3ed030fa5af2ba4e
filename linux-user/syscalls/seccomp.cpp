#include "linux-user/syscalls/seccomp.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cstring>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

struct SeccompFilter {
  bool strict = false;  // the mode of before filters; no program
  std::vector<sock_filter> program;
  const SeccompFilter* previous = nullptr;
};

u32 audit_arch(const GuestAbi& abi) {
  constexpr u32 k64Bit = 0x80000000, kLittleEndian = 0x40000000;
  return abi.elf_machine | (abi.guest->pointer_bits == 64 ? k64Bit : 0) | (abi.guest->big_endian ? 0 : kLittleEndian);
}

namespace {

// Filters are never freed: one thread may still run what another has just added to.
const SeccompFilter* filters_of(const Thread& thread) { return __atomic_load_n(&thread.seccomp, __ATOMIC_ACQUIRE); }
void put_filters(Thread& thread, const SeccompFilter* filters) { __atomic_store_n(&thread.seccomp, filters, __ATOMIC_RELEASE); }

using Data = std::array<u32, sizeof(seccomp_data) / 4>;

constexpr std::size_t kMemoryWords = BPF_MEMWORDS;
constexpr unsigned kMaxInstructions = BPF_MAXINSNS;
constexpr std::size_t kMaxPath = 32768, kPathPenalty = 4;  // kernel/seccomp.c, MAX_INSNS_PER_PATH
constexpr u64 kKnownFlags = SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_LOG | SECCOMP_FILTER_FLAG_SPEC_ALLOW |
                            SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC_ESRCH | (u64{1} << 5);

// --- programs --------------------------------------------------------------------------------------------------------------

/// What seccomp_check_filter() and bpf_check_classic() accept.
bool valid(const std::vector<sock_filter>& p) {
  const std::size_t n = p.size();
  // Which words of scratch memory are surely written when an instruction is reached.
  std::vector<u16> known(n, 0xffff);
  u16 now = 0;
  for (std::size_t at = 0; at < n; ++at) {
    const sock_filter& i = p[at];
    now &= known[at];
    auto reach = [&](std::size_t distance) {
      if (at + 1 + distance >= n) return false;
      known[at + 1 + distance] &= now;
      return true;
    };
    switch (i.code) {
      case BPF_LD | BPF_W | BPF_ABS:
        if (i.k >= sizeof(seccomp_data) || (i.k & 3)) return false;
        break;
      case BPF_LD | BPF_W | BPF_LEN:
      case BPF_LDX | BPF_W | BPF_LEN:
      case BPF_LD | BPF_IMM:
      case BPF_LDX | BPF_IMM:
      case BPF_MISC | BPF_TAX:
      case BPF_MISC | BPF_TXA:
      case BPF_RET | BPF_K:
      case BPF_RET | BPF_A:
      case BPF_ALU | BPF_ADD | BPF_K:
      case BPF_ALU | BPF_ADD | BPF_X:
      case BPF_ALU | BPF_SUB | BPF_K:
      case BPF_ALU | BPF_SUB | BPF_X:
      case BPF_ALU | BPF_MUL | BPF_K:
      case BPF_ALU | BPF_MUL | BPF_X:
      case BPF_ALU | BPF_DIV | BPF_X:
      case BPF_ALU | BPF_AND | BPF_K:
      case BPF_ALU | BPF_AND | BPF_X:
      case BPF_ALU | BPF_OR | BPF_K:
      case BPF_ALU | BPF_OR | BPF_X:
      case BPF_ALU | BPF_XOR | BPF_K:
      case BPF_ALU | BPF_XOR | BPF_X:
      case BPF_ALU | BPF_LSH | BPF_X:
      case BPF_ALU | BPF_RSH | BPF_X:
      case BPF_ALU | BPF_NEG: break;
      case BPF_ALU | BPF_DIV | BPF_K:
        if (i.k == 0) return false;
        break;
      case BPF_ALU | BPF_LSH | BPF_K:
      case BPF_ALU | BPF_RSH | BPF_K:
        if (i.k >= 32) return false;
        break;
      case BPF_LD | BPF_MEM:
      case BPF_LDX | BPF_MEM:
        if (i.k >= kMemoryWords || !((now >> i.k) & 1)) return false;
        break;
      case BPF_ST:
      case BPF_STX:
        if (i.k >= kMemoryWords) return false;
        now = static_cast<u16>(now | 1u << i.k);
        break;
      case BPF_JMP | BPF_JA:
        if (!reach(i.k)) return false;
        now = 0xffff;
        break;
      case BPF_JMP | BPF_JEQ | BPF_K:
      case BPF_JMP | BPF_JEQ | BPF_X:
      case BPF_JMP | BPF_JGE | BPF_K:
      case BPF_JMP | BPF_JGE | BPF_X:
      case BPF_JMP | BPF_JGT | BPF_K:
      case BPF_JMP | BPF_JGT | BPF_X:
      case BPF_JMP | BPF_JSET | BPF_K:
      case BPF_JMP | BPF_JSET | BPF_X:
        if (!reach(i.jt) || !reach(i.jf)) return false;
        now = 0xffff;
        break;
      default: return false;
    }
  }
  return n > 0 && BPF_CLASS(p.back().code) == BPF_RET;
}

u32 alu(u16 op, u32 a, u32 b, bool& stop) {
  switch (op) {
    case BPF_ADD: return a + b;
    case BPF_SUB: return a - b;
    case BPF_MUL: return a * b;
    case BPF_DIV:
      stop = b == 0;  // the program ends with 0
      return stop ? 0 : a / b;
    case BPF_AND: return a & b;
    case BPF_OR: return a | b;
    case BPF_XOR: return a ^ b;
    case BPF_LSH: return a << (b & 31);
    case BPF_RSH: return a >> (b & 31);
    default: return 0 - a;
  }
}

bool taken(u16 op, u32 a, u32 b) {
  switch (op) {
    case BPF_JEQ: return a == b;
    case BPF_JGE: return a >= b;
    case BPF_JGT: return a > b;
    default: return (a & b) != 0;
  }
}

u32 run(const std::vector<sock_filter>& p, const Data& data) {
  u32 a = 0, x = 0, memory[kMemoryWords] = {};
  for (std::size_t at = 0;; ++at) {
    const sock_filter& i = p[at];
    const u32 operand = BPF_SRC(i.code) == BPF_X ? x : i.k;
    switch (BPF_CLASS(i.code)) {
      case BPF_RET: return BPF_RVAL(i.code) == BPF_A ? a : i.k;
      case BPF_LD:
      case BPF_LDX: {
        u32 v = 0;
        switch (BPF_MODE(i.code)) {
          case BPF_ABS: v = data[i.k / 4]; break;
          case BPF_LEN: v = sizeof(seccomp_data); break;
          case BPF_MEM: v = memory[i.k]; break;
          default: v = i.k; break;
        }
        (BPF_CLASS(i.code) == BPF_LD ? a : x) = v;
        break;
      }
      case BPF_ST: memory[i.k] = a; break;
      case BPF_STX: memory[i.k] = x; break;
      case BPF_ALU: {
        bool stop = false;
        a = alu(BPF_OP(i.code), a, operand, stop);
        if (stop) return 0;
        break;
      }
      case BPF_JMP:
        if (BPF_OP(i.code) == BPF_JA) at += i.k;
        else at += taken(BPF_OP(i.code), a, operand) ? i.jt : i.jf;
        break;
      default: (BPF_MISCOP(i.code) == BPF_TAX ? x : a) = BPF_MISCOP(i.code) == BPF_TAX ? a : x; break;
    }
  }
}

[[noreturn]] void kill_thread(Thread& thread) {
  bool alone;
  {
    std::lock_guard guard(thread.process->threads_mutex);
    alone = thread.process->threads.size() == 1;
  }
  if (alone || thread.vfork_child) die_by_signal(thread, SIGSYS);
  exit_thread(thread, SIGSYS);
}

bool may_install() {
  if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1) return true;
  return has_capability(CAP_SYS_ADMIN);
}

std::size_t path_length(const SeccompFilter* f) {
  std::size_t length = 0;
  for (; f; f = f->previous) length += f->program.size() + kPathPenalty;
  return length;
}
bool is_ancestor(const SeccompFilter* older, const SeccompFilter* newer) {
  if (!older) return true;
  for (; newer; newer = newer->previous)
    if (newer == older) return true;
  return false;
}

}  // namespace

SeccompVerdict check_seccomp(Thread& thread, const GuestAbi& abi, u64 number, s64& result) {
  if (filters_of(thread)->strict) {
    const SyscallRow* row = abi.syscall(number);
    for (const char* name : {"read", "write", "exit", "rt_sigreturn", "sigreturn"})
      if (row && !std::strcmp(row->name, name)) return SeccompVerdict::Go;
    die_by_signal(thread, SIGKILL);
  }
  const u64 behind = thread.cpu->pc + abi.syscall_insn_bytes;
  Data data{};
  data[0] = static_cast<u32>(number);
  data[1] = audit_arch(abi);
  data[2] = static_cast<u32>(behind);
  data[3] = static_cast<u32>(behind >> 32);
  for (unsigned n = 0; n < 6; ++n) {
    u64 value = abi.syscall_arg(thread.cpu, n);
    if (abi.guest->pointer_bits == 32) value = static_cast<u32>(value);
    // Each half stands where the host's byte order puts it in an u64; filters are written for the guest's, which is the same so far.
    data[4 + 2 * n] = static_cast<u32>(value);
    data[5 + 2 * n] = static_cast<u32>(value >> 32);
  }
  u32 verdict = SECCOMP_RET_ALLOW;
  for (const SeccompFilter* f = filters_of(thread); f; f = f->previous) {
    const u32 one = run(f->program, data);
    if (static_cast<s32>(one & SECCOMP_RET_ACTION_FULL) < static_cast<s32>(verdict & SECCOMP_RET_ACTION_FULL)) verdict = one;
  }
  const u32 value = verdict & SECCOMP_RET_DATA;
  switch (verdict & SECCOMP_RET_ACTION_FULL) {
    case SECCOMP_RET_ALLOW:
    case SECCOMP_RET_LOG: return SeccompVerdict::Go;
    case SECCOMP_RET_ERRNO: result = -static_cast<s64>(std::min<u32>(value, 4095)); return SeccompVerdict::Result;
    case SECCOMP_RET_TRACE:       // nobody traces
    case SECCOMP_RET_USER_NOTIF:  // nobody listens
      result = -ENOSYS;
      return SeccompVerdict::Result;
    case SECCOMP_RET_TRAP: {
      thread.cpu->pc = behind;
      alignas(8) u8 info[128] = {};
      const s32 head[3] = {SIGSYS, static_cast<s32>(value), 1 /* SYS_SECCOMP */};
      const u32 tail[2] = {static_cast<u32>(number), audit_arch(abi)};
      std::memcpy(info, head, sizeof head);
      std::memcpy(info + 16, &behind, sizeof behind);
      std::memcpy(info + 24, tail, sizeof tail);
      raise_info(thread, info);
      return SeccompVerdict::Signalled;
    }
    case SECCOMP_RET_KILL_THREAD: kill_thread(thread);
    default: die_by_signal(thread, SIGSYS);
  }
}

int seccomp_mode(const Thread& thread) {
  const SeccompFilter* f = filters_of(thread);
  return !f ? 0 : f->strict ? 1 : 2;
}
unsigned seccomp_filter_count(const Thread& thread) {
  unsigned count = 0;
  for (const SeccompFilter* f = filters_of(thread); f && !f->strict; f = f->previous) ++count;
  return count;
}

s64 set_seccomp_strict(Call& c) {
  if (filters_of(c.thread)) return -EINVAL;
  auto* fresh = new SeccompFilter;
  fresh->strict = true;
  put_filters(c.thread, fresh);
  return 0;
}

s64 add_seccomp_filter(Call& c, GuestAddr program, u64 flags) {
  if (flags & ~kKnownFlags) return -EINVAL;
  if (flags & SECCOMP_FILTER_FLAG_NEW_LISTENER) {
    say_once(c.process, "unimplemented seccomp user notification (SECCOMP_FILTER_FLAG_NEW_LISTENER)");
    return -EINVAL;
  }
  const SeccompFilter* old = filters_of(c.thread);
  if (old && old->strict) return -EINVAL;
  u16 length = 0;
  u64 at = 0;
  const unsigned word = c.abi.guest->pointer_bits / 8;  // struct sock_fprog: u16, pointer
  if (!c.memory.read(program, length) || !c.memory.read(program + word, &at, word)) return -EFAULT;
  if (length == 0 || length > kMaxInstructions) return -EINVAL;
  if (!may_install()) return -EACCES;
  auto fresh = std::make_unique<SeccompFilter>();
  fresh->program.resize(length);
  if (!c.memory.read(at, fresh->program.data(), length * sizeof(sock_filter))) return -EFAULT;
  if (!valid(fresh->program)) return -EINVAL;
  if (path_length(old) + length > kMaxPath) return -ENOMEM;
  fresh->previous = old;
  if (!(flags & SECCOMP_FILTER_FLAG_TSYNC)) {
    put_filters(c.thread, fresh.release());
    return 0;
  }
  std::lock_guard guard(c.process.threads_mutex);
  for (Thread* other : c.process.threads)
    if (other != &c.thread && !is_ancestor(filters_of(*other), old))
      return (flags & SECCOMP_FILTER_FLAG_TSYNC_ESRCH) ? -ESRCH : other->tid;
  const SeccompFilter* common = fresh.release();
  for (Thread* other : c.process.threads) put_filters(*other, common);
  return 0;
}

s64 sys_seccomp(Call& c) {
  switch (c.u(0)) {
    case SECCOMP_SET_MODE_STRICT: return c.u(1) || c.a[2] ? -EINVAL : set_seccomp_strict(c);
    case SECCOMP_SET_MODE_FILTER: return add_seccomp_filter(c, c.a[2], c.u(1));
    case SECCOMP_GET_ACTION_AVAIL: {
      u32 action;
      if (c.u(1)) return -EINVAL;
      if (!c.memory.read(c.a[2], action)) return -EFAULT;
      switch (action) {
        case SECCOMP_RET_KILL_PROCESS:
        case SECCOMP_RET_KILL_THREAD:
        case SECCOMP_RET_TRAP:
        case SECCOMP_RET_ERRNO:
        case SECCOMP_RET_TRACE:
        case SECCOMP_RET_LOG:
        case SECCOMP_RET_ALLOW: return 0;
        default: return -EOPNOTSUPP;
      }
    }
    case SECCOMP_GET_NOTIF_SIZES:
      say_once(c.process, "unimplemented seccomp user notification (SECCOMP_GET_NOTIF_SIZES)");
      return -EINVAL;
    default: return -EINVAL;
  }
}

// --- over exec -------------------------------------------------------------------------------------------------------------

namespace {
constexpr int kDescriptor = 1001;  // out of the way of descriptors that the guest counts on
}

int save_seccomp(const Thread& thread) {
  if (!filters_of(thread)) return -ENOENT;
  const int low = memfd_create("kiln-seccomp", 0);
  if (low < 0) return -errno;
  int fd = fcntl(low, F_DUPFD, kDescriptor);
  if (fd < 0) fd = low;
  else close(low);
  std::vector<const SeccompFilter*> oldest_first;
  for (const SeccompFilter* f = filters_of(thread); f; f = f->previous) oldest_first.insert(oldest_first.begin(), f);
  for (const SeccompFilter* f : oldest_first) {
    const u32 length = static_cast<u32>(f->program.size());
    const auto bytes = static_cast<ssize_t>(length * sizeof(sock_filter));
    if (write(fd, &length, sizeof length) != sizeof length || write(fd, f->program.data(), static_cast<std::size_t>(bytes)) != bytes) {
      close(fd);
      return -ENOMEM;
    }
  }
  lseek(fd, 0, SEEK_SET);
  return fd;
}

bool load_seccomp(Thread& thread, int descriptor) {
  bool ok = true;
  for (u32 length; ok;) {
    const ssize_t got = read(descriptor, &length, sizeof length);
    if (got == 0) break;
    ok = got == sizeof length && length != 0 && length <= kMaxInstructions;
    if (!ok) break;
    auto filter = std::make_unique<SeccompFilter>();
    filter->program.resize(length);
    const std::size_t bytes = length * sizeof(sock_filter);
    ok = read(descriptor, filter->program.data(), bytes) == static_cast<ssize_t>(bytes) && valid(filter->program);
    filter->previous = filters_of(thread);
    put_filters(thread, filter.release());
  }
  close(descriptor);
  return ok && filters_of(thread);
}

}  // namespace kiln::user
