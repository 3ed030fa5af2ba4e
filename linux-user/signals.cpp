#include "linux-user/signals.h"

#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "linux-user/crash/crash.h"
#include "linux-user/debug_target.h"
#include "linux-user/host_x86_64.h"
#include "linux-user/ptrace/tracee.h"

namespace kiln::user {
namespace {

thread_local Thread* t_thread = nullptr;
// For signals that land on a thread without guest code (tier 2's compiler): whom to pass them to.
std::atomic<Process*> g_process{nullptr};

constexpr u64 kNeverBlocked = signal_bit(SIGSEGV) | signal_bit(SIGBUS);
// What a kick carries: never anything that a guest sends.
const char kKick = 0;
constexpr u64 kUnblockable = signal_bit(SIGKILL) | signal_bit(SIGSTOP);
constexpr u64 kSaRestorer = 0x04000000;
constexpr u64 kSsAutodisarm = u64{1} << 31;

struct KernelSigaction {
  u64 handler;
  u64 flags;
  u64 restorer;
  u64 mask;
};

void host_sigprocmask(u64 mask) { raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, reinterpret_cast<u64>(&mask), 0, 8); }

void host_sigaction(int signal, u64 handler, u64 flags) {
  const KernelSigaction action{handler, flags | kSaRestorer, reinterpret_cast<u64>(&kiln_host_sigreturn), ~kNeverBlocked};
  raw_syscall(SYS_rt_sigaction, static_cast<u64>(signal), reinterpret_cast<u64>(&action), 0, 8);
}

// What runs in the handler of asynchronous signals is not instrumented: it may have interrupted ThreadSanitizer itself.
#define KILN_ASYNC_HANDLER __attribute__((disable_sanitizer_instrumentation))

KILN_ASYNC_HANDLER void block_all_after(void* ucontext) {
  const u64 all = ~kNeverBlocked;
  __builtin_memcpy_inline(&static_cast<ucontext_t*>(ucontext)->uc_sigmask, &all, sizeof all);
}

KILN_ASYNC_HANDLER void queue(Thread& thread, const siginfo_t* info, void* ucontext) {
  const int signal = info->si_signo;
  u32 bit = kPendingQueued;
  u8* slot = thread.pending_info;
  if (signal == SIGSEGV || signal == SIGBUS) {
    bit = signal == SIGSEGV ? kPendingSegv : kPendingBus;
    slot = thread.sent_fault[signal == SIGBUS];
  } else {
    block_all_after(ucontext);
  }
  if (thread.signal_pending & bit) return;  // the same standard signal twice is one
  __builtin_memcpy_inline(slot, info, sizeof thread.pending_info);
  thread.signal_pending = thread.signal_pending | bit;
  __atomic_store_n(&thread.cpu->interrupt, 1u, __ATOMIC_RELEASE);
  rewind_safe_syscall(ucontext);
}

KILN_ASYNC_HANDLER void pass_on(int signal, const siginfo_t* info, void* ucontext) {
  block_all_after(ucontext);
  const u64 pid = static_cast<u64>(raw_syscall(SYS_getpid));
  raw_syscall(SYS_rt_sigqueueinfo, pid, static_cast<u64>(signal), reinterpret_cast<u64>(info));
}

KILN_ASYNC_HANDLER void on_async_signal(int signal, siginfo_t* info, void* ucontext) {
  const int saved = errno;
  if (t_thread) queue(*t_thread, info, ucontext);
  else pass_on(signal, info, ucontext);
  errno = saved;
}

[[noreturn]] void crash(int signal, const siginfo_t* info, void* ucontext, Thread* thread) {
  std::fprintf(stderr, "kiln: internal error: host signal %d at host pc %#lx, address %p", signal, fault_pc(ucontext),
               info->si_addr);
  if (exhausted_stack(info, ucontext)) std::fprintf(stderr, " (Kiln's own stack is used up)");
  if (thread) std::fprintf(stderr, ", guest pc %#lx%s", thread->cpu->pc, thread->cpu->in_code ? " (in code)" : "");
  std::fprintf(stderr, "\n");
  // No signal: whoever looks at the status must not take our fault for the guest's.
  _exit(kInternalErrorStatus);
}

void on_fault(int signal, siginfo_t* info, void* ucontext) {
  const int saved = errno;
  Thread* thread = t_thread;
  if (info->si_code <= 0) {  // sent by a process, not by the processor
    if (take_trace_signal(thread, info)) {
      rewind_safe_syscall(ucontext);
      errno = saved;
      return;
    }
    if (info->si_code == SI_QUEUE && info->si_value.sival_ptr == &kKick) {
      if (thread) __atomic_store_n(&thread->cpu->interrupt, 1u, __ATOMIC_RELEASE);
      rewind_safe_syscall(ucontext);
      return;
    }
    if (thread) queue(*thread, info, ucontext);
    else pass_on(signal, info, ucontext);
    errno = saved;
    return;
  }
  Process* process = g_process.load(std::memory_order_relaxed);
  if (!process) crash(signal, info, ucontext, thread);
  MemoryMap& memory = process->memory;
  const u64 address = reinterpret_cast<u64>(info->si_addr) - memory.base();
  const bool has_address = info->si_code != SI_KERNEL;
  const bool in_guest = has_address && address < memory.limit();
  const bool write = has_address && fault_is_write(ucontext);
  if (signal == SIGSEGV && in_guest && write && memory.handle_write_fault(address)) {
    // A retry that does not help (out of a resource, say) must not spin for ever.
    const HostAddr pc = fault_pc(ucontext);
    if (!thread) return;
    if (process->engine->leave_changed_code(thread->cpu, ucontext)) {
      errno = saved;
      return;
    }
    if (thread->last_fault_pc != pc || thread->last_fault_address != address) thread->fault_retries = 0;
    thread->last_fault_pc = pc;
    thread->last_fault_address = address;
    if (++thread->fault_retries < 10000) {
      errno = saved;
      return;
    }
  }
  if (recover_faulting_copy(ucontext)) {
    errno = saved;
    return;
  }
  if (thread && thread->cpu->in_code) {
    u32 flags = write ? ir::kFaultWrite : 0;
    if (signal == SIGBUS) flags |= ir::kFaultBus;
    if (!has_address) flags |= ir::kFaultNonCanonical;
    if (in_guest && memory.prot_at(address) >= 0) flags |= ir::kFaultMapped;
    if (has_address && fault_page_present(ucontext)) flags |= kFaultPresent;
    if (process->engine->handle_fault(thread->cpu, info, ucontext, flags)) {
      errno = saved;
      return;
    }
  }
  crash(signal, info, ucontext, thread);
}

u64 address_of(void (*handler)(int, siginfo_t*, void*)) { return reinterpret_cast<u64>(handler); }

/// The default action is ours: a debugger wants to see signals that would kill, or somebody wants to know where it happened.
bool default_is_ours(int signal) {
  constexpr u64 kNotFatal = signal_bit(SIGCHLD) | signal_bit(SIGURG) | signal_bit(SIGWINCH) | signal_bit(SIGCONT) |
                            signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU) |
                            signal_bit(SIGKILL);
  const Process* process = g_process.load(std::memory_order_relaxed);
  if (!process || (t_thread && t_thread->vfork_child) || (kNotFatal & signal_bit(signal))) return false;
  return (process->debugger && process->debugger->wants_signals()) || (is_core_signal(signal) && wants_core_signals(*process));
}

/// Makes the host's disposition follow the guest's.
void apply_action(int signal, const SignalAction& action) {
  if (signal == SIGSEGV || signal == SIGBUS) return;  // ours for ever
  const u64 kept = action.flags & (SA_RESTART | SA_NOCLDSTOP | SA_NOCLDWAIT);
  if (action.handler == 0 && (default_is_ours(signal) || trace_takes(signal)))
    host_sigaction(signal, address_of(on_async_signal), SA_RESTART | SA_SIGINFO | kept);
  else if (action.handler <= 1) host_sigaction(signal, action.handler, kept);
  else host_sigaction(signal, address_of(on_async_signal), kept | SA_SIGINFO);
}

/// What is blocked now: a syscall's temporary mask while a signal that interrupted it is delivered.
u64 mask_in_force(const Thread& thread) { return thread.has_call_mask ? thread.call_mask : thread.mask; }

bool on_altstack(const Thread& thread, u64 sp) {
  const auto& s = thread.altstack;
  return !(s.flags & SS_DISABLE) && !(s.flags & kSsAutodisarm) && sp > s.sp && sp - s.sp <= s.size;
}

void deliver(Thread& thread, const u8* info, u64 fault_address, u32 fault_flags, bool synchronous) {
  int signal;
  std::memcpy(&signal, info, sizeof signal);
  alignas(8) u8 changed_info[128] = {};
  if (thread.process->debugger) [[unlikely]] {
    const int chosen = thread.process->debugger->signal(thread, signal, info);
    if (chosen == 0) {
      if (synchronous) return restore_signal_mask(thread);
      thread.has_call_mask = false;
      return set_signal_mask(thread, thread.mask);
    }
    if (chosen != signal) {
      std::memcpy(changed_info, &chosen, sizeof chosen);  // as if sent by kill()
      info = changed_info;
      signal = chosen;
      fault_address = fault_flags = 0;
    }
  }
  if (thread.trace) [[unlikely]] {
    std::memcpy(changed_info, info, sizeof changed_info);
    const int chosen = trace_signal(thread, changed_info);
    if (chosen == 0) {
      if (synchronous) return restore_signal_mask(thread);
      thread.has_call_mask = false;
      return set_signal_mask(thread, thread.mask);
    }
    if (chosen != signal) fault_address = fault_flags = 0;
    info = changed_info;
    signal = chosen;
  }
  SignalAction action;
  {
    std::lock_guard guard(thread.signals->mutex);
    action = thread.signals->actions[signal];
    if (action.handler > 1 && (action.flags & SA_RESETHAND)) {
      thread.signals->actions[signal].handler = 0;
      apply_action(signal, thread.signals->actions[signal]);
    }
  }
  Process& process = *thread.process;
  if (process.log.on(kLogInt)) {
    char line[160];
    std::snprintf(line, sizeof line, "INT: thread %d signal %d%s at pc %#lx, handler %#lx\n", thread.tid, signal,
                  synchronous ? " (fault)" : "", thread.cpu->pc, action.handler);
    process.log.write(line);
  }
  if (synchronous && (action.handler <= 1 || (thread.mask & signal_bit(signal)))) die_by_signal(thread, signal, info);
  const u64 base = mask_in_force(thread);
  thread.has_call_mask = false;
  if (action.handler == 1) return set_signal_mask(thread, thread.mask);
  if (action.handler == 0) {
    if (trace_takes(signal) || (thread.trace && signal == SIGSTOP)) {
      constexpr u64 kIgnored = signal_bit(SIGCHLD) | signal_bit(SIGURG) | signal_bit(SIGWINCH) | signal_bit(SIGCONT);
      constexpr u64 kStopping = signal_bit(SIGSTOP) | signal_bit(SIGTSTP) | signal_bit(SIGTTIN) | signal_bit(SIGTTOU);
      if ((kIgnored | kStopping) & signal_bit(signal)) set_signal_mask(thread, thread.mask);
      if (kStopping & signal_bit(signal)) trace_group_stop(thread, signal);
      if ((kIgnored | kStopping) & signal_bit(signal)) return;
      die_by_signal(thread, signal, info);
    }
    if (signal == SIGSEGV || signal == SIGBUS || default_is_ours(signal)) die_by_signal(thread, signal, info);
    // The disposition changed after the kernel had chosen our handler: the kernel knows the default action.
    set_signal_mask(thread, thread.mask);
    raw_syscall(SYS_tgkill, static_cast<u64>(getpid()), static_cast<u64>(thread.tid), static_cast<u64>(signal));
    return;
  }
  SignalDelivery d{};
  d.signal = signal;
  d.info = info;
  d.handler = action.handler;
  d.flags = action.flags;
  d.restorer = action.restorer;
  d.saved_mask = thread.mask;
  d.fault_address = fault_address;
  d.fault_flags = fault_flags;
  u64 sp = process.abi->stack_pointer(thread.cpu);
  if ((action.flags & SA_ONSTACK) && !(thread.altstack.flags & SS_DISABLE) && !on_altstack(thread, sp))
    sp = thread.altstack.sp + thread.altstack.size;
  if (!process.abi->push_signal_frame(thread, d, sp)) {  // force_sigsegv(): its own handler may have a better stack
    if (signal == SIGSEGV) die_by_signal(thread, SIGSEGV);
    return raise_fault(thread, SIGSEGV, SI_KERNEL, 0);
  }
  if (thread.altstack.flags & kSsAutodisarm) thread.altstack = {0, SS_DISABLE, 0};
  u64 mask = base | action.mask;
  if (!(action.flags & SA_NODEFER)) mask |= signal_bit(signal);
  if (thread.trace) [[unlikely]] trace_handler_entered(thread);
  set_signal_mask(thread, mask);
}

}  // namespace

Thread* current_thread() { return t_thread; }
void set_current_thread(Thread* thread) { t_thread = thread; }

namespace {
thread_local void* t_fault_stack = nullptr;
constexpr std::size_t kFaultStackBytes = 256 << 10;
}  // namespace

void set_fault_stack() {
  void* stack = mmap(nullptr, kFaultStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
  if (stack == MAP_FAILED) return;  // does without
  const stack_t alternate{stack, 0, kFaultStackBytes};
  sigaltstack(&alternate, nullptr);
  t_fault_stack = stack;
}

void drop_fault_stack() {
  if (t_fault_stack == nullptr) return;
  const stack_t none{nullptr, SS_DISABLE, 0};
  sigaltstack(&none, nullptr);
  munmap(std::exchange(t_fault_stack, nullptr), kFaultStackBytes);
}

void init_signals(Process& process, Thread& leader) {
  set_fault_stack();
  g_process = &process;
  u64 mask = 0;
  raw_syscall(SYS_rt_sigprocmask, SIG_SETMASK, 0, reinterpret_cast<u64>(&mask), 8);
  leader.mask = mask;
  for (int signal = 1; signal <= kSignals; ++signal) {
    KernelSigaction old{};
    raw_syscall(SYS_rt_sigaction, static_cast<u64>(signal), 0, reinterpret_cast<u64>(&old), 8);
    process.signals.actions[signal].handler = old.handler == 1 ? 1 : 0;
  }
  // SA_RESTART: a kick or a tracer's request is none of the guest's; see rewind_safe_syscall().
  for (int signal : {SIGSEGV, SIGBUS}) host_sigaction(signal, address_of(on_fault), SA_SIGINFO | SA_RESTART | SA_ONSTACK);
  if (wants_core_signals(process)) follow_actions(process);
  host_sigprocmask(mask & ~kNeverBlocked);
}

namespace {
/// Opens the host's mask unless a signal is pending, without a gap between looking and opening: 0 or kRestartSyscall.
s64 open_host_mask(const Thread& thread, u64 mask) {
  mask &= ~kNeverBlocked;
  const u64 args[6] = {SIG_SETMASK, reinterpret_cast<u64>(&mask), 0, 8};
  return safe_syscall(SYS_rt_sigprocmask, const_cast<const u32*>(&thread.signal_pending), args);
}

/// SIGSEGV and SIGBUS from kill(2) that the guest blocked, and no longer does.
void revive_blocked_faults(Thread& thread) {
  for (const auto& [bit, signal] : {std::pair{kPendingSegv, SIGSEGV}, {kPendingBus, SIGBUS}}) {
    if ((thread.blocked_faults & bit) == 0 || (thread.mask & signal_bit(signal))) continue;
    thread.blocked_faults &= ~bit;
    __atomic_fetch_or(const_cast<u32*>(&thread.signal_pending), bit, __ATOMIC_RELAXED);
    __atomic_store_n(&thread.cpu->interrupt, 1u, __ATOMIC_RELEASE);
  }
}

void deliver_one(Thread& thread, u32 bit, const u8* slot) {
  alignas(8) u8 info[128];
  std::memcpy(info, slot, sizeof info);
  int signal;
  std::memcpy(&signal, info, sizeof signal);
  __atomic_fetch_and(const_cast<u32*>(&thread.signal_pending), ~bit, __ATOMIC_RELAXED);
  if ((mask_in_force(thread) & signal_bit(signal)) == 0) return deliver(thread, info, 0, 0, false);
  // Blocked meanwhile (by the handler of a trap that came at the same time): it goes on waiting.
  if (bit == kPendingQueued)
    raw_syscall(SYS_rt_tgsigqueueinfo, static_cast<u64>(getpid()), static_cast<u64>(thread.tid), static_cast<u64>(signal),
                reinterpret_cast<u64>(info));
  else
    thread.blocked_faults |= bit;
  restore_signal_mask(thread);
}
}  // namespace

void set_signal_mask(Thread& thread, u64 mask) {
  thread.mask = mask & ~kUnblockable;
  revive_blocked_faults(thread);
  restore_signal_mask(thread);
}

s64 change_signal_mask(Thread& thread, u64 mask) {
  mask &= ~kUnblockable;
  if (const s64 r = open_host_mask(thread, mask); r < 0) return r;
  thread.mask = mask;
  revive_blocked_faults(thread);
  return 0;
}

void block_all_signals() { host_sigprocmask(~kNeverBlocked); }
bool hold_signals(const Thread& thread) {
  block_all_signals();
  return thread.signal_pending == 0;
}
void restore_signal_mask(const Thread& thread) { open_host_mask(thread, thread.mask); }

void deliver_pending(Thread& thread) {
  while (const u32 pending = thread.signal_pending) {
    if ((pending & kPendingQueued) == 0) block_all_signals();
    if (thread.signal_pending & kPendingQueued) deliver_one(thread, kPendingQueued, thread.pending_info);
    else if (thread.signal_pending & kPendingSegv) deliver_one(thread, kPendingSegv, thread.sent_fault[0]);
    else deliver_one(thread, kPendingBus, thread.sent_fault[1]);
  }
}

s64 change_altstack(Thread& thread, const GuestAbi::GuestStack* fresh, GuestAbi::GuestStack* old, u64 sp) {
  auto& stack = thread.altstack;
  const bool active = on_altstack(thread, sp);
  if (old) {
    *old = stack;
    // SS_AUTODISARM is told as it was set, SS_ONSTACK as it is.
    old->flags = (stack.size == 0 ? u64{SS_DISABLE} : active ? u64{SS_ONSTACK} : 0) | (stack.flags & kSsAutodisarm);
  }
  if (!fresh) return 0;
  if (active) return -EPERM;
  const u64 mode = fresh->flags & ~kSsAutodisarm;
  if (mode != 0 && mode != SS_DISABLE && mode != SS_ONSTACK) return -EINVAL;
  if (mode == SS_DISABLE) stack = {0, fresh->flags, 0};
  else if (fresh->size < thread.process->abi->minimal_stack) return -ENOMEM;
  else stack = *fresh;
  return 0;
}

void raise_fault(Thread& thread, int signal, int code, GuestAddr address, u64 fault_address, u32 fault_flags) {
  block_all_signals();  // until the handler's mask is in force
  alignas(8) u8 info[128] = {};
  std::memcpy(info, &signal, 4);
  std::memcpy(info + 8, &code, 4);
  std::memcpy(info + 16, &address, 8);
  deliver(thread, info, fault_address, fault_flags, true);
}

void raise_info(Thread& thread, const u8* info) { deliver(thread, info, 0, 0, true); }

s64 change_action(Thread& thread, int signal, const SignalAction* fresh, SignalAction* old) {
  if (signal < 1 || signal > kSignals) return -EINVAL;
  if (fresh && (signal == SIGKILL || signal == SIGSTOP)) return -EINVAL;
  std::lock_guard guard(thread.signals->mutex);
  SignalAction& action = thread.signals->actions[signal];
  if (old) *old = action;
  if (!fresh) return 0;
  action = *fresh;
  action.mask &= ~kUnblockable;
  apply_action(signal, action);
  return 0;
}

void follow_actions(SignalTable& table) {
  std::lock_guard guard(table.mutex);
  for (int signal = 1; signal <= kSignals; ++signal)
    if (signal != SIGKILL && signal != SIGSTOP) apply_action(signal, table.actions[signal]);
}
void follow_actions(Process& process) { follow_actions(process.signals); }

void stop_by_signal(Thread& thread, int signal) {
  if (signal != SIGSTOP) host_sigaction(signal, 0, 0);
  host_sigprocmask(~kNeverBlocked & ~signal_bit(signal));
  raw_syscall(SYS_tgkill, static_cast<u64>(raw_syscall(SYS_getpid)), static_cast<u64>(raw_syscall(SYS_gettid)),
              static_cast<u64>(signal));
  block_all_signals();
  {
    std::lock_guard guard(thread.signals->mutex);
    if (signal != SIGSTOP) apply_action(signal, thread.signals->actions[signal]);
  }
  restore_signal_mask(thread);
}

void kick_thread(const Thread& thread) {
  siginfo_t info{};
  info.si_signo = SIGBUS;
  info.si_code = SI_QUEUE;
  info.si_pid = getpid();
  info.si_value.sival_ptr = const_cast<char*>(&kKick);
  raw_syscall(SYS_rt_tgsigqueueinfo, static_cast<u64>(getpid()), static_cast<u64>(thread.tid), SIGBUS, reinterpret_cast<u64>(&info));
}

void die_by_signal(Thread& thread, int signal, const u8* info) {
  Process& process = *thread.process;
  if (process.debugger) process.debugger->process_dies(signal);
  guest_dies(thread, signal, info);
  if (!thread.vfork_child) release_all_robust_mutexes(thread);
  if (process.log.on(kLogInt)) {
    process.log.write("INT: killed by signal " + std::to_string(signal) + "\n" + process.engine->guest().dump(thread.cpu));
  }
  if (process.options.engine.stats && !thread.vfork_child) process.log.write(process.engine->stats_text() + ledger_text());
  trace_pass(thread, signal);
  host_sigaction(signal, 0, 0);
  host_sigprocmask(~signal_bit(signal));
  raw_syscall(SYS_tgkill, static_cast<u64>(raw_syscall(SYS_getpid)), static_cast<u64>(raw_syscall(SYS_gettid)),
              static_cast<u64>(signal));
  _exit(128 + signal);
}

}  // namespace kiln::user
