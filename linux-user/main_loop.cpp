// The main loop of a guest thread, and the ends of threads and processes.
#include <linux/futex.h>
#include <pthread.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>

#include "linux-user/code_cache.h"
#include "linux-user/crash/crash.h"
#include "linux-user/debug_target.h"
#include "linux-user/host_x86_64.h"
#include "linux-user/ptrace/tracee.h"
#include "linux-user/signals.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

/// Linux's handling of a dying thread's robust mutexes (kernel/futex/core.c, exit_robust_list): owners become dead, waiters
/// wake.
void release_robust_mutexes(Thread& thread) {
  if (thread.robust_list == 0) return;
  MemoryMap& memory = thread.process->memory;
  const unsigned size = thread.process->abi->guest->pointer_bits / 8;
  auto pointer = [&](GuestAddr at, u64& value) {
    value = 0;
    return memory.read(at, &value, size);
  };
  auto release = [&](GuestAddr word) {
    u32 value;
    if ((word & 3) || !memory.read(word, value) || (value & FUTEX_TID_MASK) != static_cast<u32>(thread.tid)) return;
    auto* host = static_cast<u32*>(memory.pointer(word));
    u32 fresh;
    do fresh = (value & FUTEX_WAITERS) | FUTEX_OWNER_DIED;
    while (!__atomic_compare_exchange_n(host, &value, fresh, false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
    if (value & FUTEX_WAITERS) raw_syscall(SYS_futex, reinterpret_cast<u64>(host), FUTEX_WAKE, 1);
  };
  u64 entry, offset, pending;
  const GuestAddr head = thread.robust_list;
  if (!pointer(head, entry) || !pointer(head + size, offset) || !pointer(head + 2 * size, pending)) return;
  if (size == 4) offset = static_cast<u64>(static_cast<s64>(static_cast<s32>(offset)));
  for (int limit = 2048; limit > 0 && (entry & ~u64{1}) != head; --limit) {
    const u64 node = entry & ~u64{1};
    u64 next;
    const bool ok = pointer(node, next);
    if (node != (pending & ~u64{1})) release(node + offset);
    if (!ok) break;
    entry = next;
  }
  if (pending) release((pending & ~u64{1}) + offset);
}

bool holds_robust_mutexes(const Thread& thread) {
  if (thread.robust_list == 0) return false;
  const unsigned size = thread.process->abi->guest->pointer_bits / 8;
  u64 entry = 0, pending = 0;
  return thread.process->memory.read(thread.robust_list, &entry, size) &&
         thread.process->memory.read(thread.robust_list + 2 * size, &pending, size) && (entry != thread.robust_list || pending != 0);
}

void clear_child_tid(Thread& thread) {
  if (thread.clear_child_tid == 0) return;
  MemoryMap& memory = thread.process->memory;
  const u32 zero = 0;
  if (memory.write(thread.clear_child_tid, zero))
    raw_syscall(SYS_futex, reinterpret_cast<u64>(memory.pointer(thread.clear_child_tid)), FUTEX_WAKE, 1);
}

void raise_for(Thread& thread, ir::ExitKind kind) {
  switch (kind) {
    case ir::ExitKind::Undefined:
    case ir::ExitKind::Breakpoint:
    case ir::ExitKind::Fault:
    case ir::ExitKind::FetchFault:
    case ir::ExitKind::Alignment:
    case ir::ExitKind::Trap: break;
    default:
      std::fprintf(stderr, "kiln: internal error: engine gave exit kind %u\n", static_cast<unsigned>(kind));
      exit_with_internal_error();
  }
  if (auto* taken = thread.process->abi->exception_taken) taken(thread.cpu);
  // A signal that came before is delivered first: the instruction is carried out again afterwards, and faults again. Not so a trap,
  // which is reported behind its instruction.
  block_all_signals();
  if (thread.signal_pending && kind != ir::ExitKind::Trap) return;
  const ExceptionSignal e = thread.process->abi->exception(thread, kind);
  if (e.signal) raise_fault(thread, e.signal, e.code, e.address, e.fault_address, e.fault_flags);
  else restore_signal_mask(thread);
}

}  // namespace

void run_thread(Thread& thread) {
  Process& process = *thread.process;
  jit::Engine& engine = *process.engine;
  ir::CpuState* cpu = thread.cpu;
  for (;;) {
    // First clear, then look: a signal that comes in between sets it again.
    __atomic_store_n(&cpu->interrupt, 0u, __ATOMIC_SEQ_CST);
    if (auto* task = std::atomic_ref(thread.before_run).exchange(nullptr)) task(thread);
    if (process.dying.load(std::memory_order_relaxed) && !thread.vfork_child) [[unlikely]] wait_for_the_end(thread);
    if (thread.trace_requests) [[unlikely]] serve_trace_requests(thread);
    if (thread.signal_pending) deliver_pending(thread);
    const ir::ExitKind kind = process.debugger ? process.debugger->run(thread) : thread.trace ? trace_run(thread) : engine.run(cpu);
    if (kind == ir::ExitKind::Syscall) handle_syscall(thread);
    else if (kind != ir::ExitKind::Interrupt) raise_for(thread, kind);
  }
}

void release_all_robust_mutexes(Thread& thread) {
  Process& process = *thread.process;
  bool held = false;
  {
    std::lock_guard guard(process.threads_mutex);
    for (const Thread* other : process.threads) held |= other != &thread && holds_robust_mutexes(*other);
  }
  if (held) {  // nobody takes another one after this
    process.dying = true;
    hold_others(thread);
    std::lock_guard guard(process.threads_mutex);
    for (Thread* other : process.threads)
      if (other != &thread) release_robust_mutexes(*other);
  }
  release_robust_mutexes(thread);
}

void exit_process(Process& process, int status) {
  if (Thread* thread = current_thread()) {
    release_all_robust_mutexes(*thread);
    trace_ends(*thread);
  }
  block_all_signals();
  save_translated_code(process);
  if (process.options.engine.stats) process.log.write(process.engine->stats_text() + ledger_text());
  if (process.debugger) process.debugger->process_exits(status);
  std::fflush(nullptr);
  raw_syscall(SYS_exit_group, static_cast<u64>(status));
  __builtin_unreachable();
}

void exit_thread(Thread& thread, int status) {
  Process& process = *thread.process;
  if (thread.vfork_child) {
    raw_syscall(SYS_exit_group, static_cast<u64>(status));
    __builtin_unreachable();
  }
  block_all_signals();
  bool last;
  {
    std::lock_guard guard(process.threads_mutex);
    std::erase(process.threads, &thread);
    last = process.threads.empty();
    // Linux reports the leader's status when the last thread leaves by exit(2).
    if (thread.leader) process.leader_status = status;
  }
  if (last) exit_process(process, process.leader_status);
  if (process.debugger) process.debugger->thread_gone(thread);
  trace_gone(thread);
  release_robust_mutexes(thread);
  clear_child_tid(thread);
  const bool leader = thread.leader;
  set_current_thread(nullptr);
  if (!thread.leader) drop_fault_stack();
  process.engine->destroy_cpu(thread.cpu);
  delete &thread;
  if (leader) {
    raw_syscall(SYS_exit, 0);
    __builtin_unreachable();
  }
  pthread_exit(nullptr);
}

}  // namespace kiln::user
