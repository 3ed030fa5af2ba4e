// Linux on x86-64.
#include <asm/prctl.h>
#include <sys/ucontext.h>

#include <cstring>

#include "frontends/x86/user_segments.h"
#include "linux-user/abi_x86.h"
#include "linux-user/descriptors_x86.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {

extern const GuestAbi kAbiX86_64;
extern const GuestAbi kAbiI386;

namespace {

using ir::CpuState;
using x86::X86State;

X86State& state(CpuState* cpu) { return *static_cast<X86State*>(cpu); }
const X86State& state(const CpuState* cpu) { return *static_cast<const X86State*>(cpu); }

const GuestAbi* syscall_abi(const CpuState* cpu) {
  switch (cpu->exit_value) {  // the frontend's number of the instruction
    case 0: return x86::code_size(cpu->mode) == x86::CodeSize::Bits64 ? &kAbiX86_64 : nullptr;
    case 0x80: return &kAbiI386;
    default: return nullptr;  // SYSENTER
  }
}
u64 syscall_number(const CpuState* cpu) { return state(cpu).r[x86::RAX]; }
u64 syscall_arg(const CpuState* cpu, unsigned index) {
  constexpr x86::Gpr kRegisters[] = {x86::RDI, x86::RSI, x86::RDX, x86::R10, x86::R8, x86::R9};
  return state(cpu).r[kRegisters[index]];
}
void set_syscall_result(CpuState* cpu, s64 result) {
  X86State& s = state(cpu);
  s.r[x86::RAX] = static_cast<u64>(result);
  s.r[x86::RCX] = s.pc;  // SYSCALL leaves them so
  s.r[x86::R11] = x86::eflags_of(s);
}
u64 first_arg(const CpuState* cpu) { return state(cpu).r[x86::RDI]; }
u64 stack_pointer(const CpuState* cpu) { return state(cpu).r[x86::RSP]; }
void set_stack_pointer(CpuState* cpu, u64 sp) { state(cpu).r[x86::RSP] = sp; }
void set_thread_pointer(CpuState* cpu, u64 value) { x86::set_segment(state(cpu), x86::FS, 0, value); }
void start(CpuState* cpu, u64 pc, u64 sp) {
  X86State& s = state(cpu);
  s.pc = pc;
  std::memset(s.r, 0, sizeof s.r);
  s.r[x86::RSP] = sp;
  if (!s.ldt) s.ldt = new_ldt();
  x86::set_eflags(s, x86::kIf);
  x86_clear_fpstate(s);
}

// The host's own structs and flags.
int open_flags_to_host(u64 flags) { return static_cast<int>(flags); }
u64 open_flags_from_host(int flags) { return static_cast<u32>(flags); }
std::size_t encode_stat(const struct stat& host, u8* out) {
  static_assert(sizeof host == 144);
  std::memcpy(out, &host, sizeof host);
  return sizeof host;
}

// --- signal frames (arch/x86/kernel/signal.c, uapi/asm/sigcontext.h) ------------------------------------------------

struct Sigcontext {
  u64 r8, r9, r10, r11, r12, r13, r14, r15, rdi, rsi, rbp, rbx, rdx, rax, rcx, rsp, rip;
  u64 eflags;
  u16 cs, gs, fs, ss;
  u64 err, trapno, oldmask, cr2;
  u64 fpstate;
  u64 reserved[8];
};
static_assert(sizeof(Sigcontext) == 256);
struct SignalFrame {
  u64 return_address;
  u64 uc_flags, uc_link;
  u64 stack_sp;
  u32 stack_flags, stack_pad;
  u64 stack_size;
  Sigcontext mcontext;
  u64 sigmask;
  u8 info[128];
};
static_assert(sizeof(SignalFrame) == 440);
constexpr u64 kUcFpXstate = 1, kUcSigcontextSs = 2, kUcStrictRestoreSs = 4;
constexpr u64 kRedZone = 128;
constexpr u64 kSaRestorer = 0x04000000;

bool push_signal_frame(Thread& thread, const SignalDelivery& d, u64 sp) {
  if (!(d.flags & kSaRestorer)) return false;  // the kernel's 64-bit frames have no other way back
  X86State& s = state(thread.cpu);
  MemoryMap& memory = thread.process->memory;
  const u16 cs = static_cast<u16>(s.selector[x86::CS]);
  if (x86::code_size(s.mode) != x86::CodeSize::Bits64) x86::load_code_segment(s, x86::kUser64Code);
  if (sp == s.r[x86::RSP]) sp -= kRedZone;  // not the alternate stack
  const std::size_t fp_size = x86_fpstate_size(s);
  const GuestAddr fp_at = align_down(sp - fp_size, 64);
  const GuestAddr frame_at = align_down(fp_at - sizeof(SignalFrame), 16) - 8;

  u8 fp[kMaxFpstate];
  x86_put_fpstate(s, 0, fp);
  SignalFrame f{};
  f.return_address = d.restorer;
  f.uc_flags = kUcSigcontextSs | kUcStrictRestoreSs | (x86_has_xsave(s) ? kUcFpXstate : 0);
  f.stack_sp = thread.altstack.sp;
  f.stack_flags = static_cast<u32>(thread.altstack.flags);
  f.stack_size = thread.altstack.size;
  f.sigmask = d.saved_mask;
  Sigcontext& c = f.mcontext;
  c.r8 = s.r[x86::R8];
  c.r9 = s.r[x86::R9];
  c.r10 = s.r[x86::R10];
  c.r11 = s.r[x86::R11];
  c.r12 = s.r[x86::R12];
  c.r13 = s.r[x86::R13];
  c.r14 = s.r[x86::R14];
  c.r15 = s.r[x86::R15];
  c.rdi = s.r[x86::RDI];
  c.rsi = s.r[x86::RSI];
  c.rbp = s.r[x86::RBP];
  c.rbx = s.r[x86::RBX];
  c.rdx = s.r[x86::RDX];
  c.rax = s.r[x86::RAX];
  c.rcx = s.r[x86::RCX];
  c.rsp = s.r[x86::RSP];
  c.rip = s.pc;
  c.eflags = x86_frame_eflags(thread);
  c.cs = cs;
  c.ss = static_cast<u16>(s.selector[x86::SS]);
  c.err = thread.trap_error;
  c.trapno = thread.trap_number;
  c.oldmask = d.saved_mask;
  c.cr2 = thread.trap_address;
  c.fpstate = fp_at;
  if (d.flags & SA_SIGINFO) std::memcpy(f.info, d.info, sizeof f.info);
  if (!memory.write(fp_at, fp, fp_size) || !memory.write(frame_at, f)) return false;

  s.r[x86::RDI] = static_cast<u64>(d.signal);
  s.r[x86::RSI] = frame_at + offsetof(SignalFrame, info);
  s.r[x86::RDX] = frame_at + offsetof(SignalFrame, uc_flags);
  s.r[x86::RAX] = 0;
  s.r[x86::RSP] = frame_at;
  s.pc = d.handler;
  x86_clear_fpstate(s);
  x86::set_eflags(s, x86::eflags_of(s) & ~u32{x86::kDf | x86::kRf | x86::kTf});
  return true;
}

bool pop_signal_frame(Thread& thread, u64& mask, GuestAbi::GuestStack& stack) {
  X86State& s = state(thread.cpu);
  SignalFrame f;
  if (!thread.process->memory.read(s.r[x86::RSP] - sizeof f.return_address, f)) return false;
  const Sigcontext& c = f.mcontext;
  const u32 cs = c.cs | 3u;
  if (cs != (s.selector[x86::CS] & 0xffff)) {
    const u64 d = x86::user_descriptor(s, cs);
    if (!x86::descriptor_present(d) || !x86::descriptor_is_segment(d) || !x86::descriptor_is_code(d)) return false;
    if (x86::descriptor_code_size(x86::descriptor_rights(d)) == 0) {
      say_once(*thread.process, "unimplemented rt_sigreturn to 16-bit code");
      return false;
    }
  }
  s.r[x86::R8] = c.r8;
  s.r[x86::R9] = c.r9;
  s.r[x86::R10] = c.r10;
  s.r[x86::R11] = c.r11;
  s.r[x86::R12] = c.r12;
  s.r[x86::R13] = c.r13;
  s.r[x86::R14] = c.r14;
  s.r[x86::R15] = c.r15;
  s.r[x86::RDI] = c.rdi;
  s.r[x86::RSI] = c.rsi;
  s.r[x86::RBP] = c.rbp;
  s.r[x86::RBX] = c.rbx;
  s.r[x86::RDX] = c.rdx;
  s.r[x86::RAX] = c.rax;
  s.r[x86::RCX] = c.rcx;
  s.r[x86::RSP] = c.rsp;
  s.pc = c.rip;
  x86::set_eflags(s, (x86::eflags_of(s) & ~kFrameEflags) | (static_cast<u32>(c.eflags) & kFrameEflags));
  if (c.fpstate == 0) x86_clear_fpstate(s);
  else if (!x86_get_fpstate(thread, c.fpstate)) return false;
  if (cs != (s.selector[x86::CS] & 0xffff)) x86::load_code_segment(s, cs);  // last: the frame is 64-bit code's
  mask = f.sigmask;
  stack = {f.stack_sp, f.stack_flags, f.stack_size};
  return true;
}

}  // namespace

// --- x86's own calls -------------------------------------------------------------------------------------------------

s64 sys_arch_prctl(Call& c) {
  constexpr int kGetXcompSupp = 0x1021, kGetXcompPerm = 0x1022, kReqXcompPerm = 0x1023;
  constexpr u64 kTaskSizeMax = (u64{1} << 47) - kPageSize;
  X86State& s = state(c.thread.cpu);
  switch (c.i(0)) {
    case ARCH_SET_FS:
    case ARCH_SET_GS:
      if (c.a[1] >= kTaskSizeMax) return -EPERM;
      x86::set_segment(s, c.i(0) == ARCH_SET_FS ? x86::FS : x86::GS, 0, c.a[1]);
      return 0;
    case ARCH_GET_FS: return c.memory.write(c.a[1], s.seg_base[x86::FS]) ? 0 : -EFAULT;
    case ARCH_GET_GS: return c.memory.write(c.a[1], s.seg_base[x86::GS]) ? 0 : -EFAULT;
    case ARCH_GET_CPUID: return 1;
    case ARCH_SET_CPUID: return -ENODEV;  // no CPUID faulting
    case kGetXcompSupp:
    case kGetXcompPerm: return c.memory.write(c.a[1], s.xcr0) ? 0 : -EFAULT;
    case kReqXcompPerm: return -EOPNOTSUPP;
    default: return -EINVAL;
  }
}

const GuestAbi kAbiX86_64 = {
    .name = "x86_64",
    .machine = "x86_64",
    .platform = "x86_64",
    .machine32 = "i686",
    .elf_machine = 62,
    .elf_class = 2,
    .elf_data = 1,
    .guest = &x86::kX86_64,
    .address_bits = 47,  // as far as the host has room; AddressSanitizer wants more than 46
    .hwcap = x86_hwcap,
    .hwcap2 = x86_hwcap2,
    .cpuinfo = x86_cpuinfo,
    .cpu_models = [] { return x86_cpu_models(true); },
    .set_cpu_model = x86_set_cpu_model,
    .syscall = x86_64_syscall,
    .syscall_abi = syscall_abi,
    .syscall_number = syscall_number,
    .syscall_arg = syscall_arg,
    .set_syscall_result = set_syscall_result,
    .first_arg = first_arg,
    .syscall_insn_bytes = 2,
    .stack_pointer = stack_pointer,
    .set_stack_pointer = set_stack_pointer,
    .set_thread_pointer = set_thread_pointer,
    .start = start,
    .open_flags_to_host = open_flags_to_host,
    .open_flags_from_host = open_flags_from_host,
    .encode_stat = encode_stat,
    .epoll_event_packed = true,
    .clone_tls_last = true,
    .minimal_stack = 2048,
    .minimal_frame = x86_minimal_frame,
    .sigreturn_code = {},
    .exception = x86_exception,
    .push_signal_frame = push_signal_frame,
    .pop_signal_frame = pop_signal_frame,
    .bad_frame_code = SI_KERNEL,
};

}  // namespace kiln::user
