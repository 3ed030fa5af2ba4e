// ptrace between guests, each in a Kiln of its own.
//
// The tracing Kiln uses the host's ptrace on the traced Kiln's threads, so that waits, parents, the end of processes, EXITKILL
// and the order of events are the kernel's own. What differs is what a stop is. The host stops a thread anywhere, inside
// generated code too; the guest's tracer must find exact registers. Therefore:
//   1. A guest's stop is made by the traced thread itself, at a safe point of its main loop (all state in memory): it writes
//   down the
//      stop and its register sets in a TraceBox, and sends itself a SIGBUS (never blocked) that carries the box's address. The
//      tracer sees the host's stop, reads the box (process_vm_readv) and tells its guest what is in there. Its guest's answers
//      (how to go on, signal, registers, options) go into the box before the host's PTRACE_CONT; the traced thread carries them
//      out.
//   2. All other signal stops of the host are Kiln's business: the tracer's wait passes them on without a word. A signal meant
//   for
//      the guest reaches Kiln's handler, is queued, and stops the thread in deliver(), as of 1. So while a thread is traced,
//      signals without a handler are Kiln's too (trace_takes()). SIGSTOP has no handler: the tracer turns it into a request
//      (3).
//   3. The tracer asks for something (attach, interrupt, stop) by a SIGSEGV that carries a request; the thread does it when it
//   is next at
//      a safe point.
//   4. Clone, fork and vfork events are the host's own, for a thread inside such a call of the guest has its state in memory:
//   it
//      fills the box before. A clone outside of one is a thread of Kiln's (the compiler's), let go at once.
//   5. execve() tells the next Kiln by an option (--traced) that it is traced, and how; it makes the guest's stop before its
//   first
//      instruction.
//   6. Writes (PTRACE_POKE…) go through the kernel and are noted in the box; the thread drops what was translated from there
//      before it goes on.
// A thread whose stop nobody answered has lost its tracer and is free.
#pragma once
#include "ir/support/bits.h"

namespace kiln::user {

/// si_errno of the signals above: "KILN" and what it is.
inline constexpr int kTraceStopMark = 0x4b494c4e, kTraceRequestMark = 0x4b494c4f;

/// A request to the traced thread (3): kind in bits 31..28, payload below.
enum class TraceRequest : u32 {
  Attach = 1,     // PTRACE_ATTACH: stop with SIGSTOP
  Seize = 2,      // payload: PTRACE_O_*
  Interrupt = 3,  // PTRACE_INTERRUPT
  Stop = 4,       // a SIGSTOP came; payload: from which process
};
constexpr u64 trace_request(TraceRequest kind, u32 payload) {
  return u64{static_cast<u32>(kind)} << 28 | (payload & 0xfffffff);
}

enum class TraceAction : u32 { Detach, Cont, Syscall, Step };
enum class TraceStop : u32 { Hello, Signal, SyscallEntry, SyscallExit, Event };

/// A register set as PTRACE_GETREGSET gives it (NT_*), in the guest's layout, at data[at].
struct TraceSet {
  u32 type, size, at, changed;
};

struct TraceBox {
  static constexpr u64 kMagic = 0x31786f62656e6c4b;
  u64 magic = kMagic;
  u32 box_size = sizeof(TraceBox);
  u32 elf_machine = 0, audit_arch = 0, pointer_bytes = 0;
  u64 base = 0, limit = 0;  // of the guest's space
  s32 tid = 0;

  // The stop; written by the traced thread.
  TraceStop stop = TraceStop::Hello;
  u32 status = 0;       // as wait4() gives it
  u32 state_valid = 0;  // the sets are what the thread has
  u32 in_clone = 0;     // inside a guest's clone, fork or vfork
  s32 passing = 0;      // a signal of the host that is to take effect without a word
  u64 message = 0;      // PTRACE_GETEVENTMSG
  u64 ip = 0, sp = 0;
  u64 number = ~u64{0}, arguments[6] = {};
  s64 result = 0;
  u32 set_count = 0, pad = 0;

  // The tracer's.
  u32 seized = 0, options = 0;
  u32 answered = 0;
  TraceAction action = TraceAction::Detach;
  s32 signal = 0;
  u32 write_count = 0;  // beyond the array: everything
  struct {
    u64 at, size;
  } writes[32] = {};

  alignas(8) u8 info[128] = {};  // siginfo, the host's layout
  TraceSet sets[8] = {};
  alignas(16) u8 data[4096] = {};
};

}  // namespace kiln::user
