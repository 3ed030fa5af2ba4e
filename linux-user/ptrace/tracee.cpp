#include "linux-user/ptrace/tracee.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "frontends/arm/aarch64.h"
#include "linux-user/abi_x86.h"
#include "linux-user/host_x86_64.h"
#include "linux-user/signals.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

struct TraceState {
  TraceBox box;
  bool step_due = false;  // an instruction was carried out that the tracer wanted alone
  int let_pass = 0;       // a signal that the tracer has seen already
  int former_tid = 0;     // before execve()
  s64 exec_number = -1;   // of the execve() that is to be left with a stop
};

namespace {

using ir::ExitKind;

// Thread::trace_requests: bit n is TraceRequest n, and these.
constexpr u32 kFirstStop = 1u << 16, kExecStop = 1u << 17;
constexpr u32 request_bit(TraceRequest r) { return 1u << static_cast<u32>(r); }

constexpr u32 stopped(int signal, int event = 0) {
  return 0x7fu | static_cast<u32>(signal) << 8 | static_cast<u32>(event) << 16;
}
constexpr int kEventStop = 128;  // PTRACE_EVENT_STOP

/// In the child of a vfork(), the child's.
s64 own_pid() { return raw_syscall(SYS_getpid); }
s64 own_tid() { return raw_syscall(SYS_gettid); }

bool has_tracer() {
  const int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return false;
  char text[1024];
  const ssize_t n = read(fd, text, sizeof text - 1);
  close(fd);
  text[n > 0 ? n : 0] = 0;
  const char* line = std::strstr(text, "\nTracerPid:");
  return line != nullptr && std::atoi(line + 11) != 0;
}

/// Drops what was translated from where a tracer wrote.
void follow_writes(Thread& thread) {
  Process& process = *thread.process;
  std::vector<std::pair<u64, u64>> ranges;
  bool all = false;
  {
    std::lock_guard guard(process.threads_mutex);
    auto add = [&](const TraceBox& box) {
      const u32 count = __atomic_load_n(&box.write_count, __ATOMIC_ACQUIRE);
      all |= count > std::size(box.writes);
      for (u32 n = 0; n < count && n < std::size(box.writes); ++n) ranges.emplace_back(box.writes[n].at, box.writes[n].size);
    };
    for (const Thread* other : process.threads)
      if (other != &thread && other->trace != nullptr) add(other->trace->box);
    if (thread.trace != nullptr) {
      add(thread.trace->box);
      thread.trace->box.write_count = 0;
    }
  }
  if (all) process.engine->invalidate_all();
  else
    for (const auto& [at, size] : ranges) process.engine->invalidate(at, size);
  if (all || !ranges.empty()) process.patched = true;
}

void begin(Thread& thread, bool seized, u32 options) {
  Process& process = *thread.process;
  auto* state = new TraceState;
  TraceBox& box = state->box;
  box.elf_machine = process.abi->elf_machine;
  box.pointer_bytes = process.abi->guest->pointer_bits / 8;
  box.audit_arch = audit_arch(*process.abi);
  box.base = process.memory.base();
  box.limit = process.memory.limit();
  box.tid = static_cast<s32>(own_tid());
  box.seized = seized;
  box.options = options;
  box.action = TraceAction::Cont;
  {
    std::lock_guard guard(process.threads_mutex);
    thread.trace = state;
  }
  if (!thread.vfork_child) ++process.traced;
}

void end(Thread& thread) {
  Process& process = *thread.process;
  std::unique_ptr<TraceState> state;
  {
    std::lock_guard guard(process.threads_mutex);
    state.reset(std::exchange(thread.trace, nullptr));
  }
  thread.trace_requests = 0;
  if (thread.vfork_child) return;
  if (--process.traced == 0) follow_actions(process);
}

/// Shows the registers, as those of syscall `number` if it is not -1.
void show(Thread& thread, s64 number) {
  TraceBox& box = thread.trace->box;
  const GuestAbi& abi = *thread.process->abi;
  put_trace_sets(box, abi, thread.cpu, number);
  box.ip = thread.cpu->pc;
  box.sp = abi.stack_pointer(thread.cpu);
  __atomic_store_n(&box.state_valid, 1, __ATOMIC_RELEASE);
}

/// The stop that `box` describes, registers shown; gives the tracer's signal. `thread.trace` is null if it let go.
int wait_for_answer(Thread& thread, TraceStop kind, u32 status) {
  TraceBox& box = thread.trace->box;
  box.stop = kind;
  box.status = status;
  box.answered = 0;
  box.action = TraceAction::Detach;
  box.signal = 0;
  siginfo_t info{};
  info.si_signo = SIGBUS;
  info.si_errno = kTraceStopMark;
  info.si_code = SI_QUEUE;
  info.si_pid = static_cast<pid_t>(own_pid());
  info.si_value.sival_ptr = &box;
  for (unsigned tries = 0;; ++tries) {
    raw_syscall(SYS_rt_tgsigqueueinfo, static_cast<u64>(own_pid()), static_cast<u64>(own_tid()), SIGBUS,
                reinterpret_cast<u64>(&info));
    if (__atomic_load_n(&box.answered, __ATOMIC_ACQUIRE)) break;
    // Another SIGBUS of ours was on its way, or nobody is there any more.
    if (tries > 0 && (tries > 100 || !has_tracer())) break;
  }
  box.state_valid = 0;
  follow_writes(thread);
  return box.signal;
}

/// For stops whose signal is meant to be sent.
void send_to_self(int signal) {
  if (signal == 0) return;
  raw_syscall(SYS_tgkill, static_cast<u64>(own_pid()), static_cast<u64>(own_tid()), static_cast<u64>(signal));
}

void take_changes(Thread& thread) {
  s64 number = -1;
  take_trace_sets(thread.trace->box, thread, number);
}

void let_go_if_detached(Thread& thread) {
  if (thread.trace != nullptr && thread.trace->box.action == TraceAction::Detach) end(thread);
}

void make_info(u8* out, int signal, int code, int pid) {
  std::memset(out, 0, 128);
  const u32 uid = getuid();
  std::memcpy(out, &signal, 4);
  std::memcpy(out + 8, &code, 4);
  if (code <= 0) {
    std::memcpy(out + 16, &pid, 4);
    std::memcpy(out + 20, &uid, 4);
  }
}

/// A stop with a signal that is not on its way to a handler yet.
void stop_with_signal(Thread& thread, int signal, int code, int pid) {
  alignas(8) u8 info[128];
  make_info(info, signal, code, pid);
  if (code > 0) std::memcpy(info + 16, &thread.cpu->pc, 8);
  const int chosen = trace_signal(thread, info);
  if (chosen == 0) return;
  if (chosen == SIGSTOP) return trace_group_stop(thread, SIGSTOP);
  if (thread.trace != nullptr) thread.trace->let_pass = chosen;
  send_to_self(chosen);
}

void stop_for_event(Thread& thread, int event, u64 message) {
  show(thread, -1);
  TraceBox& box = thread.trace->box;
  box.message = message;
  make_info(box.info, SIGTRAP, SIGTRAP | event << 8, 0);
  const int signal = wait_for_answer(thread, TraceStop::Event, stopped(SIGTRAP, event));
  take_changes(thread);
  let_go_if_detached(thread);
  send_to_self(signal);
}

void say_hello(Thread& thread) {
  show(thread, -1);
  wait_for_answer(thread, TraceStop::Hello, 0);
  let_go_if_detached(thread);
}

void stop_after_exec(Thread& thread) {
  TraceState& state = *thread.trace;
  TraceBox& box = state.box;
  const TraceAction action = box.action;
  const s64 number = std::exchange(state.exec_number, -1);
  const bool event = (box.options & PTRACE_O_TRACEEXEC) != 0;
  if (event) stop_for_event(thread, PTRACE_EVENT_EXEC, static_cast<u64>(state.former_tid));
  else {
    say_hello(thread);
    if (thread.trace != nullptr) box.action = action;
  }
  if (thread.trace != nullptr && number >= 0) trace_syscall_exit(thread, *thread.process->abi, static_cast<u64>(number), 0);
  if (thread.trace != nullptr && !event && !box.seized) stop_with_signal(thread, SIGTRAP, SI_USER, static_cast<int>(own_pid()));
}

}  // namespace

s64 trace_me(Thread& thread) {
  if (thread.process->debugger != nullptr) {
    say_once(*thread.process, "unimplemented: ptrace of a process under -g");
    return -EPERM;
  }
  if (thread.trace != nullptr || thread.trace_me_due) return -EPERM;
  if (thread.vfork_child) {
    if (has_tracer()) return -EPERM;
    thread.trace_me_due = true;
    return 0;
  }
  // Another tracer would see the stops for Kiln's own faults, and lets the guest die of them.
  if (getppid() == 0 || !is_kiln_process(getppid())) {
    say_once(*thread.process, "unimplemented: PTRACE_TRACEME by a parent that does not run under Kiln");
    return -EPERM;
  }
  if (const s64 r = raw_syscall(SYS_ptrace, PTRACE_TRACEME); r < 0) return r;
  begin(thread, false, 0);
  follow_actions(*thread.process);
  return 0;
}

bool take_trace_signal(Thread* thread, const siginfo_t* info) {
  if (info->si_code != SI_QUEUE || (info->si_errno != kTraceStopMark && info->si_errno != kTraceRequestMark)) return false;
  if (info->si_errno == kTraceStopMark || thread == nullptr) return true;
  const u64 request = reinterpret_cast<u64>(info->si_value.sival_ptr);
  thread->trace_payload = static_cast<u32>(request & 0xfffffff);
  __atomic_fetch_or(&thread->trace_requests, 1u << (request >> 28 & 15), __ATOMIC_RELAXED);
  __atomic_store_n(&thread->cpu->interrupt, 1u, __ATOMIC_RELEASE);
  return true;
}

void serve_trace_requests(Thread& thread) {
  const u32 requests = __atomic_exchange_n(&thread.trace_requests, 0u, __ATOMIC_RELAXED);
  Process& process = *thread.process;
  if (requests & (request_bit(TraceRequest::Attach) | request_bit(TraceRequest::Seize))) {
    if (thread.trace != nullptr) end(thread);  // of a tracer that is gone
    const bool seize = (requests & request_bit(TraceRequest::Seize)) != 0;
    begin(thread, seize, seize ? thread.trace_payload : 0);
    follow_actions(process);
    if (seize) say_hello(thread);
    else stop_with_signal(thread, SIGSTOP, SI_USER, 0);
  }
  if (thread.trace != nullptr && (requests & kExecStop)) stop_after_exec(thread);
  if (thread.trace != nullptr && (requests & kFirstStop)) {
    if (thread.trace->box.seized) stop_for_event(thread, kEventStop, 0);
    else stop_with_signal(thread, SIGSTOP, SI_USER, 0);
  }
  if (requests & request_bit(TraceRequest::Stop)) {
    if (thread.trace != nullptr) stop_with_signal(thread, SIGSTOP, SI_USER, static_cast<int>(thread.trace_payload));
    else trace_group_stop(thread, SIGSTOP);
  }
  if (thread.trace != nullptr && (requests & request_bit(TraceRequest::Interrupt))) stop_for_event(thread, kEventStop, 0);
}

ExitKind trace_run(Thread& thread) {
  jit::Engine& engine = *thread.process->engine;
  ir::CpuState* cpu = thread.cpu;
  for (;;) {
    if (thread.trace != nullptr && thread.trace->step_due) {
      thread.trace->step_due = false;
      stop_with_signal(thread, SIGTRAP, TRAP_TRACE, 0);
    }
    if (thread.trace == nullptr || thread.trace->box.action != TraceAction::Step) return engine.run(cpu);
    if (__atomic_load_n(&cpu->interrupt, __ATOMIC_RELAXED)) {
      cpu->exit_kind = static_cast<u32>(ExitKind::Interrupt);
      return ExitKind::Interrupt;
    }
    const ExitKind kind = engine.debug_step(cpu, nullptr);
    thread.trace->step_due = kind == ExitKind::None || kind == ExitKind::Syscall;
    if (kind != ExitKind::None) return kind;
  }
}

// --- syscalls -----------------------------------------------------------------------------------------------------------

namespace {
u32 syscall_status(const TraceBox& box) { return stopped((box.options & PTRACE_O_TRACESYSGOOD) ? SIGTRAP | 0x80 : SIGTRAP); }
void syscall_info(TraceBox& box) {
  const int code = (box.options & PTRACE_O_TRACESYSGOOD) ? SIGTRAP | 0x80 : SIGTRAP;
  make_info(box.info, SIGTRAP, code, 0);
}
x86::X86State* x86_state(Thread& thread) {
  return thread.process->abi->elf_machine == EM_AARCH64 ? nullptr : static_cast<x86::X86State*>(thread.cpu);
}
}  // namespace

bool trace_syscall_entry(Thread& thread, const GuestAbi& abi, u64& number, s64& result) {
  thread.trace->exec_number = -1;
  if (thread.trace->box.action != TraceAction::Syscall) return true;
  TraceBox& box = thread.trace->box;
  ir::CpuState* cpu = thread.cpu;
  const u64 pc = cpu->pc;
  x86::X86State* x86 = x86_state(thread);
  thread.trace->exec_number = static_cast<s64>(number);
  box.audit_arch = audit_arch(abi);
  box.number = number;
  for (unsigned n = 0; n < 6; ++n)
    box.arguments[n] = abi.syscall_arg(cpu, n) & (abi.guest->pointer_bits == 32 ? 0xffffffff : ~u64{0});
  cpu->pc += abi.syscall_insn_bytes;
  const u64 rax = x86 != nullptr ? x86->r[x86::RAX] : 0;
  if (x86 != nullptr) x86->r[x86::RAX] = static_cast<u64>(-s64{ENOSYS}) & (x86->mode & 1 ? 0xffffffff : ~u64{0});
  show(thread, static_cast<s64>(number));
  cpu->pc = pc;
  if (x86 != nullptr) x86->r[x86::RAX] = rax;
  syscall_info(box);
  const int signal = wait_for_answer(thread, TraceStop::SyscallEntry, syscall_status(box));
  bool changed = false;
  for (u32 n = 0; n < box.set_count; ++n) changed |= box.sets[n].changed != 0;
  result = -ENOSYS;
  if (changed) {
    s64 fresh = static_cast<s64>(number);
    const bool general = box.sets[0].changed != 0;
    take_trace_sets(box, thread, fresh);
    if (general) cpu->pc -= abi.syscall_insn_bytes;
    number = static_cast<u64>(fresh);
    if (x86 != nullptr) {
      result = general ? static_cast<s64>(x86->r[x86::RAX]) : result;
      x86->r[x86::RAX] = number;
    } else if (general) {
      result = static_cast<s64>(static_cast<arm::A64State*>(cpu)->x[0]);
    }
  }
  let_go_if_detached(thread);
  send_to_self(signal);
  return static_cast<s32>(number) != -1;
}

void trace_syscall_exit(Thread& thread, const GuestAbi& abi, u64 number, s64 result) {
  if (thread.trace->box.action != TraceAction::Syscall) return;
  TraceBox& box = thread.trace->box;
  box.number = number;
  box.result = result == kNoResult ? static_cast<s64>(abi.first_arg(thread.cpu)) : result;
  if (result == kRestartSyscall) {  // shown as the kernel's own ERESTARTSYS
    const std::size_t size = thread.process->abi->guest->state_size;
    auto saved = std::make_unique<u8[]>(size);
    std::memcpy(saved.get(), thread.cpu, size);
    thread.cpu->pc += abi.syscall_insn_bytes;
    abi.set_syscall_result(thread.cpu, result);
    show(thread, static_cast<s64>(number));
    std::memcpy(static_cast<void*>(thread.cpu), saved.get(), size);
    thread.cpu->interrupt = 1;
  } else {
    show(thread, static_cast<s64>(number));
  }
  syscall_info(box);
  const int signal = wait_for_answer(thread, TraceStop::SyscallExit, syscall_status(box));
  take_changes(thread);
  let_go_if_detached(thread);
  send_to_self(signal);
}

// --- signals ------------------------------------------------------------------------------------------------------------

int trace_signal(Thread& thread, u8* info) {
  TraceState& state = *thread.trace;
  TraceBox& box = state.box;
  int signal;
  std::memcpy(&signal, info, 4);
  if (state.let_pass == signal) {
    state.let_pass = 0;
    return signal;
  }
  std::memcpy(box.info, info, sizeof box.info);
  show(thread, -1);
  const int chosen = wait_for_answer(thread, TraceStop::Signal, stopped(signal));
  take_changes(thread);
  int told;
  std::memcpy(&told, box.info, 4);
  if (chosen == told) std::memcpy(info, box.info, sizeof box.info);
  else make_info(info, chosen, SI_USER, getppid());
  if (box.action == TraceAction::Step) state.step_due = false;
  let_go_if_detached(thread);
  return chosen;
}

bool trace_takes(int signal) {
  if (signal == SIGKILL || signal == SIGSTOP) return false;
  const Thread* thread = current_thread();
  if (thread == nullptr) return false;
  return thread->vfork_child ? thread->trace != nullptr : thread->process->traced.load() > 0;
}

void trace_group_stop(Thread& thread, int signal) {
  if (thread.trace != nullptr) {
    show(thread, -1);
    thread.trace->box.passing = signal;
  }
  stop_by_signal(thread, signal);
  if (thread.trace == nullptr) return;
  thread.trace->box.passing = 0;
  thread.trace->box.state_valid = 0;
  take_changes(thread);
  follow_writes(thread);
  let_go_if_detached(thread);
}

void trace_pass(Thread& thread, int signal) {
  if (thread.trace == nullptr) return;
  trace_ends(thread);
  thread.trace->box.passing = signal;
}

void trace_handler_entered(Thread& thread) {
  if (thread.trace->box.action == TraceAction::Step) thread.trace->step_due = true;
}

// --- new threads, processes and programs ----------------------------------------------------------------------------------

void trace_clone_begins(Thread& thread) {
  if (thread.trace == nullptr) return;
  ir::CpuState* cpu = thread.cpu;
  const unsigned bytes = thread.process->abi->syscall_insn_bytes;
  cpu->pc += bytes;
  show(thread, static_cast<s64>(thread.process->abi->syscall_number(cpu)));
  cpu->pc -= bytes;
  __atomic_store_n(&thread.trace->box.in_clone, 1, __ATOMIC_RELEASE);
}

void trace_clone_done(Thread& thread) {
  if (thread.trace == nullptr) return;
  TraceBox& box = thread.trace->box;
  __atomic_store_n(&box.in_clone, 0, __ATOMIC_RELEASE);
  box.state_valid = 0;
  if (box.write_count != 0) follow_writes(thread);
  let_go_if_detached(thread);
}

void trace_child(const Thread& parent, Thread& child, int event, bool shares_memory) {
  Process& process = *child.process;
  const bool traced = parent.trace != nullptr && (parent.trace->box.options >> event & 1);
  const bool seized = traced && parent.trace->box.seized;
  const u32 options = traced ? parent.trace->box.options : 0;
  child.trace = nullptr;
  child.trace_requests = 0;
  if (!shares_memory) process.traced = 0;
  if (!traced) return;
  begin(child, seized, options);
  child.trace_requests = kFirstStop;
}

std::string trace_option(const Thread& thread) {
  char text[96];
  if (thread.trace_me_due) {
    if (raw_syscall(SYS_ptrace, PTRACE_TRACEME) < 0) return {};
    std::snprintf(text, sizeof text, "--traced=0,0,%u,%d,-1", static_cast<u32>(TraceAction::Cont), static_cast<int>(own_tid()));
    return text;
  }
  if (thread.trace == nullptr) return {};
  const TraceBox& box = thread.trace->box;
  std::snprintf(text, sizeof text, "--traced=%u,%u,%u,%d,%ld", box.seized, box.options, static_cast<u32>(box.action),
                static_cast<int>(own_tid()), box.action == TraceAction::Syscall ? thread.trace->exec_number : -1);
  return text;
}

void take_over_trace(Process& process, Thread& leader, const std::string& text) {
  u32 seized, options, action;
  int former;
  long number;
  if (std::sscanf(text.c_str(), "%u,%u,%u,%d,%ld", &seized, &options, &action, &former, &number) != 5 || !has_tracer()) return;
  begin(leader, seized != 0, options);
  leader.trace->box.action = static_cast<TraceAction>(action);
  leader.trace->former_tid = former;
  leader.trace->exec_number = number;
  leader.trace_requests = kExecStop;
  follow_actions(process);
}

void trace_ends(Thread& thread) {
  if (thread.trace != nullptr) show(thread, -1);
}

void trace_gone(Thread& thread) {
  if (thread.trace == nullptr) return;
  trace_ends(thread);
  TraceState* state = std::exchange(thread.trace, nullptr);
  if (--thread.process->traced == 0) follow_actions(*thread.process);
  // With PTRACE_O_TRACEEXIT the tracer reads the box when the host tells it of the end.
  if ((state->box.options & PTRACE_O_TRACEEXIT) == 0) delete state;
}

void trace_vfork_over(Thread& thread, const Thread& before) {
  if (thread.trace != before.trace) delete thread.trace;
}

}  // namespace kiln::user
