// Threads: clone, futex, thread ids, exit.
#include <linux/futex.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "linux-user/debug_target.h"
#include "linux-user/ptrace/tracee.h"
#include "linux-user/ptrace/tracer.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

constexpr u64 kThreadFlags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;

/// The new thread waits for `go`: its creator has things to write down first.
struct ThreadStart {
  Thread* thread;
  const Thread* parent;
  u32 state = 0;  // 0: created, 1: tid is known
};

void wait_until(u32& word, u32 value) {
  while (__atomic_load_n(&word, __ATOMIC_ACQUIRE) != value)
    raw_syscall(SYS_futex, reinterpret_cast<u64>(&word), FUTEX_WAIT_PRIVATE,
                __atomic_load_n(&word, __ATOMIC_RELAXED) == value ? ~u64{0} : value - 1);
}
void set_and_wake(u32& word, u32 value) {
  __atomic_store_n(&word, value, __ATOMIC_RELEASE);
  raw_syscall(SYS_futex, reinterpret_cast<u64>(&word), FUTEX_WAKE_PRIVATE, 1);
}

void* thread_main(void* argument) {
  auto* start = static_cast<ThreadStart*>(argument);
  Thread& thread = *start->thread;
  thread.tid = static_cast<int>(raw_syscall(SYS_gettid));
  set_current_thread(&thread);
  set_fault_stack();
  set_guest_base(thread.process->memory.base());
  if (thread.process->debugger) thread.process->debugger->thread_started(thread);
  if (start->parent->trace) {
    trace_child(*start->parent, thread, PTRACE_EVENT_CLONE, true);
    // Before waiting for the parent, whose tracer may want to see this stop first.
    if (thread.trace_requests) serve_trace_requests(thread);
  }
  set_and_wake(start->state, 1);
  wait_until(start->state, 2);
  delete start;
  restore_signal_mask(thread);
  run_thread(thread);
}

s64 clone_thread(Thread& parent, const CloneArgs& args) {
  Process& process = *parent.process;
  if (parent.vfork_child) return -EAGAIN;
  if (!hold_signals(parent)) return kRestartSyscall;
  auto* thread = new Thread;
  thread->process = &process;
  thread->signals = parent.signals;
  thread->cpu = process.engine->create_cpu();
  if (!thread->cpu) {
    delete thread;
    restore_signal_mask(parent);
    return -ENOMEM;
  }
  // Registers as the parent's, but for what belongs to the engine and the thread.
  const ir::GuestDesc& guest = *process.abi->guest;
  ir::CpuState* cpu = thread->cpu;
  void* engine_data = cpu->engine_data;
  std::memcpy(static_cast<void*>(cpu), parent.cpu, guest.state_size);
  cpu->engine_data = engine_data;
  cpu->user_data = thread;
  cpu->interrupt = 0;
  cpu->in_code = 0;
  cpu->pc += process.abi->syscall_insn_bytes;
  process.abi->set_syscall_result(cpu, 0);
  if (args.stack) process.abi->set_stack_pointer(cpu, args.stack);
  if (args.flags & CLONE_SETTLS) process.abi->set_thread_pointer(cpu, args.tls);
  thread->mask = parent.mask;
  thread->seccomp = parent.seccomp;
  if (args.flags & CLONE_CHILD_CLEARTID) thread->clear_child_tid = args.child_tid;

  auto* start = new ThreadStart{thread, &parent};
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, std::size_t{2} << 20);
  {
    std::lock_guard guard(process.threads_mutex);
    process.threads.push_back(thread);
    thread->before_run = std::atomic_ref(parent.before_run).load();
  }
  pthread_t handle;
  trace_clone_begins(parent);
  const int error = pthread_create(&handle, &attributes, thread_main, start);
  pthread_attr_destroy(&attributes);
  if (error) {
    {
      std::lock_guard guard(process.threads_mutex);
      std::erase(process.threads, thread);
    }
    process.engine->destroy_cpu(cpu);
    delete thread;
    delete start;
    trace_clone_done(parent);
    restore_signal_mask(parent);
    return -error;
  }
  wait_until(start->state, 1);
  trace_clone_done(parent);
  const s32 tid = thread->tid;
  if (args.flags & CLONE_PARENT_SETTID) process.memory.write(args.parent_tid, tid);
  if (args.flags & CLONE_CHILD_SETTID) process.memory.write(args.child_tid, tid);
  set_and_wake(start->state, 2);
  restore_signal_mask(parent);
  return tid;
}

void become_only_thread(Thread& thread) {
  Process& process = *thread.process;
  for (Thread* other : process.threads)
    if (other != &thread) delete other;
  process.threads.assign(1, &thread);
  thread.tid = static_cast<int>(raw_syscall(SYS_gettid));
  thread.leader = true;
  thread.robust_list = 0;
  thread.clear_child_tid = 0;
}

void start_child(Thread& thread, const CloneArgs& args) {
  Process& process = *thread.process;
  ir::CpuState* cpu = thread.cpu;
  if (args.stack) process.abi->set_stack_pointer(cpu, args.stack);
  if (args.flags & CLONE_SETTLS) process.abi->set_thread_pointer(cpu, args.tls);
  const s32 tid = thread.tid;
  if (args.flags & CLONE_CHILD_SETTID) process.memory.write(args.child_tid, tid);
  if (args.flags & CLONE_CHILD_CLEARTID) thread.clear_child_tid = args.child_tid;
}

void tell_parent(Thread& thread, const CloneArgs& args, s64 pid) {
  MemoryMap& memory = thread.process->memory;
  if (pid < 0) return;
  if (args.flags & CLONE_PARENT_SETTID) memory.write(args.parent_tid, static_cast<s32>(pid));
  if (args.flags & CLONE_PIDFD) {
    const s64 fd = raw_syscall(SYS_pidfd_open, static_cast<u64>(pid), 0);
    memory.write(args.pidfd, static_cast<s32>(fd));
  }
}

s64 clone_process(Thread& thread, const CloneArgs& args) {
  Process& process = *thread.process;
  if (!hold_signals(thread)) return kRestartSyscall;  // a pending signal is this process's, not the child's too
  process.signals.mutex.lock();
  process.threads_mutex.lock();
  process.engine->before_fork();
  process.memory.lock();
  s64 pid;
  trace_clone_begins(thread);
  const u64 extra = args.flags & (CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID |
                                  CLONE_NEWNET | CLONE_IO | CLONE_PARENT | CLONE_FS | CLONE_FILES);
  if (extra == 0 && args.exit_signal == SIGCHLD) {
    pid = fork();
    if (pid < 0) pid = -errno;
  } else {
    // libc's fork() cannot say these; its locks are at rest as long as no other thread is inside it.
    pid = raw_syscall(SYS_clone, extra | static_cast<u64>(args.exit_signal));
  }
  process.memory.unlock();
  if (pid == 0) {
    process.engine->after_fork_child(thread.cpu);
    process.threads_mutex.unlock();
    process.signals.mutex.unlock();
    if (thread.vfork_child) {  // a process with memory of its own now: give it the table it used
      std::memcpy(process.signals.actions, thread.signals->actions, sizeof process.signals.actions);
      thread.signals = &process.signals;
      thread.vfork_child = false;
    }
    become_only_thread(thread);
    if (process.abi->forked) process.abi->forked();
    forget_tracees();
    if (thread.trace || process.traced) {
      trace_child(thread, thread, args.exit_signal == SIGCHLD ? PTRACE_EVENT_FORK : PTRACE_EVENT_CLONE, false);
      follow_actions(process);
    }
    if (process.debugger) {  // gdb stays with the parent
      process.debugger->forget_after_fork();
      process.debugger = nullptr;
      thread.debug = nullptr;
      process.engine->remove_all_breakpoints();
      follow_actions(process);
    }
    process.memory.forked();
    start_child(thread, args);
    restore_signal_mask(thread);
    return 0;
  }
  process.engine->after_fork_parent();
  process.threads_mutex.unlock();
  process.signals.mutex.unlock();
  trace_clone_done(thread);
  tell_parent(thread, args, pid);
  restore_signal_mask(thread);
  return pid;
}

struct VforkStart {
  Thread* thread;
  const CloneArgs* args;
};

void vfork_main(void* argument) {
  const auto* start = static_cast<VforkStart*>(argument);
  Thread& thread = *start->thread;
  thread.tid = static_cast<int>(raw_syscall(SYS_gettid));
  thread.leader = true;
  thread.cpu->pc += thread.process->abi->syscall_insn_bytes;
  thread.process->abi->set_syscall_result(thread.cpu, 0);
  start_child(thread, *start->args);
  if (thread.trace || thread.process->traced) {
    trace_child(thread, thread, PTRACE_EVENT_VFORK, true);
    follow_actions(*thread.signals);
  }
  restore_signal_mask(thread);
  run_thread(thread);
}

/// vfork(): the child shares our memory, as it should (posix_spawn reports errors that way), and runs on this thread's stack
/// while we sleep. Afterwards registers and thread data are put back; the guest's memory keeps what the child wrote.
s64 clone_vfork(Thread& thread, const CloneArgs& args) {
  Process& process = *thread.process;
  if (!hold_signals(thread)) return kRestartSyscall;
  const std::size_t size = process.abi->guest->state_size;
  auto saved_cpu = std::make_unique<u8[]>(size);
  std::memcpy(saved_cpu.get(), thread.cpu, size);
  const Thread saved_thread = thread;
  auto table = std::make_unique<SignalTable>();
  {
    std::lock_guard guard(thread.signals->mutex);
    std::memcpy(table->actions, thread.signals->actions, sizeof table->actions);
  }
  thread.signals = table.get();
  thread.vfork_child = true;
  VforkStart start{&thread, &args};
  trace_clone_begins(thread);
  const s64 pid = vfork_call(vfork_main, &start, CLONE_VM | CLONE_VFORK | static_cast<u64>(args.exit_signal));
  std::memcpy(static_cast<void*>(thread.cpu), saved_cpu.get(), size);
  trace_vfork_over(thread, saved_thread);
  thread = saved_thread;
  trace_clone_done(thread);
  tell_parent(thread, args, pid);
  restore_signal_mask(thread);
  return pid;
}

}  // namespace

s64 do_clone(Thread& thread, const CloneArgs& args) {
  if ((args.flags & CLONE_THREAD) || (args.flags & kThreadFlags) == kThreadFlags) {
    if ((args.flags & kThreadFlags) != kThreadFlags) {
      if (!(args.flags & CLONE_VM) || !(args.flags & CLONE_SIGHAND)) return -EINVAL;
      say_once(*thread.process, "unimplemented clone flags: a thread with files or directory of its own");
      return -EINVAL;
    }
    return clone_thread(thread, args);
  }
  if ((args.flags & CLONE_SIGHAND) && !(args.flags & CLONE_VM)) return -EINVAL;
  if ((args.flags & CLONE_VFORK) && (args.flags & CLONE_VM) && !(args.flags & (CLONE_SIGHAND | CLONE_FILES | CLONE_NEWPID)))
    return clone_vfork(thread, args);
  if ((args.flags & CLONE_VM) && (args.flags & CLONE_UNTRACED)) {
    // LeakSanitizer's helper, which traces its parent and answers through their common memory: a copy would never answer.
    say_once(*thread.process,
             "unimplemented clone flags: a tracer that shares memory (LeakSanitizer: ASAN_OPTIONS=detect_leaks=0)");
    return -EPERM;
  }
  if ((args.flags & CLONE_VM) && !(args.flags & CLONE_VFORK))
    say_once(*thread.process, "clone(CLONE_VM) without CLONE_THREAD is done as fork");
  return clone_process(thread, args);
}

s64 sys_clone(Call& c) {
  CloneArgs args;
  args.exit_signal = static_cast<int>(c.a[0] & CSIGNAL);
  args.flags = c.u(0) & ~u32{CSIGNAL};
  args.stack = c.a[1];
  args.parent_tid = c.a[2];
  args.tls = c.a[c.abi.clone_tls_last ? 4 : 3];  // CONFIG_CLONE_BACKWARDS: before child_tid
  args.child_tid = c.a[c.abi.clone_tls_last ? 3 : 4];
  args.pidfd = c.a[2];
  return do_clone(c.thread, args);
}

s64 sys_fork(Call& c) {
  CloneArgs args;
  args.exit_signal = SIGCHLD;
  return do_clone(c.thread, args);
}

s64 sys_vfork(Call& c) {
  CloneArgs args;
  args.exit_signal = SIGCHLD;
  args.flags = CLONE_VM | CLONE_VFORK;
  return do_clone(c.thread, args);
}

s64 sys_clone3(Call& c) {
  clone_args k{};
  if (c.a[1] < CLONE_ARGS_SIZE_VER0) return -EINVAL;
  if (!c.memory.read(c.a[0], &k, std::min<u64>(c.a[1], sizeof k))) return -EFAULT;
  if (k.set_tid_size || (k.flags & (CLONE_INTO_CGROUP | CLONE_CLEAR_SIGHAND))) return -ENOSYS;
  CloneArgs args;
  args.flags = k.flags;
  args.exit_signal = static_cast<int>(k.exit_signal);
  args.stack = k.stack ? k.stack + k.stack_size : 0;
  args.parent_tid = k.parent_tid;
  args.child_tid = k.child_tid;
  args.tls = k.tls;
  args.pidfd = k.pidfd;
  return do_clone(c.thread, args);
}

s64 sys_futex(Call& c) {
  const u32 op = c.u(1) & FUTEX_CMD_MASK;
  switch (op) {
    case FUTEX_WAIT:
    case FUTEX_WAIT_BITSET:
    case FUTEX_LOCK_PI:
    case FUTEX_LOCK_PI2:
    case FUTEX_WAIT_REQUEUE_PI: return c.host(SYS_futex, c.in(0), c.a[1], c.a[2], c.in(3), c.in(4), c.a[5]);
    case FUTEX_WAKE:
    case FUTEX_WAKE_BITSET:
    case FUTEX_UNLOCK_PI:
    case FUTEX_TRYLOCK_PI:
    case FUTEX_FD: return c.host(SYS_futex, c.in(0), c.a[1], c.a[2], u64{0}, u64{0}, c.a[5]);
    default:  // requeue, compare-requeue, wake-op: the fourth argument is a number
      return c.host(SYS_futex, c.in(0), c.a[1], c.a[2], c.a[3], c.in(4), c.a[5]);
  }
}

s64 sys_futex_waitv(Call& c) {
  struct Waiter {  // struct futex_waitv
    u64 value, address;
    u32 flags, reserved;
  };
  constexpr u32 kMostWaiters = 128;  // FUTEX_WAITV_MAX
  if (c.u(2) != 0 || c.u(1) == 0 || c.u(1) > kMostWaiters || c.a[0] == 0) return -EINVAL;
  Waiter waiters[kMostWaiters];
  if (!c.memory.read(c.a[0], waiters, c.u(1) * sizeof(Waiter))) return -EFAULT;
  for (u32 n = 0; n < c.u(1); ++n) waiters[n].address = Call::to_u64(c.memory.pointer(waiters[n].address));
  return c.host(SYS_futex_waitv, waiters, c.u(1), 0, c.in(3), c.a[4]);
}

s64 sys_set_tid_address(Call& c) {
  c.thread.clear_child_tid = c.a[0];
  return c.thread.tid;
}

s64 sys_set_robust_list(Call& c) {
  if (c.a[1] != 24) return -EINVAL;
  c.thread.robust_list = c.a[0];
  c.thread.robust_list_size = c.a[1];
  return 0;
}

s64 sys_get_robust_list(Call& c) {
  const int tid = c.i(0);
  Thread* found = tid == 0 ? &c.thread : nullptr;
  {
    std::lock_guard guard(c.process.threads_mutex);
    for (Thread* t : c.process.threads)
      if (t->tid == tid) found = t;
  }
  if (!found) return -ESRCH;
  return c.memory.write(c.a[1], found->robust_list) && c.memory.write(c.a[2], found->robust_list_size) ? 0 : -EFAULT;
}

// Restartable sequences would have the kernel jump into guest code; libc does without.
s64 sys_rseq(Call&) { return -ENOSYS; }

s64 sys_exit(Call& c) {
  if (!hold_signals(c.thread)) return kRestartSyscall;  // one for the whole process would be lost
  exit_thread(c.thread, c.i(0) & 0xff);
}
s64 sys_exit_group(Call& c) {
  if (c.thread.vfork_child) {
    raw_syscall(SYS_exit_group, c.a[0] & 0xff);
    __builtin_unreachable();
  }
  exit_process(c.process, c.i(0) & 0xff);
}

}  // namespace kiln::user
