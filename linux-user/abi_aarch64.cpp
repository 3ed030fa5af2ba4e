// Linux on AArch64.
#include <fcntl.h>
#include <sys/ucontext.h>

#include <bit>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>

#include "frontends/arm/aarch64.h"
#include "frontends/arm/id_registers.h"
#include "linux-user/process.h"
#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

using arm::A64State;
using ir::CpuState;

A64State& state(CpuState* cpu) { return *static_cast<A64State*>(cpu); }
const A64State& state(const CpuState* cpu) { return *static_cast<const A64State*>(cpu); }

u64 syscall_number(const CpuState* cpu) { return state(cpu).x[8]; }
u64 syscall_arg(const CpuState* cpu, unsigned index) { return state(cpu).x[index]; }
void set_syscall_result(CpuState* cpu, s64 result) { state(cpu).x[0] = static_cast<u64>(result); }
u64 first_arg(const CpuState* cpu) { return state(cpu).x[0]; }
u64 stack_pointer(const CpuState* cpu) { return state(cpu).x[31]; }
void set_stack_pointer(CpuState* cpu, u64 sp) { state(cpu).x[31] = sp; }
void set_thread_pointer(CpuState* cpu, u64 value) { state(cpu).tpidr_el0 = value; }
void start(CpuState* cpu, u64 pc, u64 sp) {
  cpu->pc = pc;
  state(cpu).x[31] = sp;
}

// --- flags and structs (include/uapi/asm-generic and arch/arm64/include/uapi/asm/fcntl.h) ---------------------------

struct FlagPair {
  u64 guest;
  int host;
};
constexpr FlagPair kOpenFlags[] = {
    {040000, O_DIRECTORY},
    {0100000, O_NOFOLLOW},
    {0200000, O_DIRECT},
    {0400000, 0100000 /* O_LARGEFILE */},
};
constexpr u64 kSameOpenFlags = ~u64{040000 | 0100000 | 0200000 | 0400000};

int open_flags_to_host(u64 flags) {
  u64 host = flags & kSameOpenFlags;
  for (const auto& pair : kOpenFlags)
    if (flags & pair.guest) host |= static_cast<u64>(pair.host);
  return static_cast<int>(host);
}
u64 open_flags_from_host(int flags) {
  u64 guest = static_cast<u32>(flags) & kSameOpenFlags;
  for (const auto& pair : kOpenFlags)
    if (flags & pair.host) guest |= pair.guest;
  return guest;
}

struct GuestStat {
  u64 st_dev, st_ino;
  u32 st_mode, st_nlink, st_uid, st_gid;
  u64 st_rdev, pad1;
  s64 st_size;
  s32 st_blksize, pad2;
  s64 st_blocks;
  s64 atime_sec, atime_nsec, mtime_sec, mtime_nsec, ctime_sec, ctime_nsec;
  u32 unused[2];
};
static_assert(sizeof(GuestStat) == 128);

std::size_t encode_stat(const struct stat& h, u8* out) {
  GuestStat g{};
  g.st_dev = h.st_dev;
  g.st_ino = h.st_ino;
  g.st_mode = h.st_mode;
  g.st_nlink = static_cast<u32>(h.st_nlink);
  g.st_uid = h.st_uid;
  g.st_gid = h.st_gid;
  g.st_rdev = h.st_rdev;
  g.st_size = h.st_size;
  g.st_blksize = static_cast<s32>(h.st_blksize);
  g.st_blocks = h.st_blocks;
  g.atime_sec = h.st_atim.tv_sec;
  g.atime_nsec = h.st_atim.tv_nsec;
  g.mtime_sec = h.st_mtim.tv_sec;
  g.mtime_nsec = h.st_mtim.tv_nsec;
  g.ctime_sec = h.st_ctim.tv_sec;
  g.ctime_nsec = h.st_ctim.tv_nsec;
  std::memcpy(out, &g, sizeof g);
  return sizeof g;
}

// --- signal frames (arch/arm64/kernel/signal.c, uapi/asm/sigcontext.h) ----------------------------------------------

struct Sigcontext {
  u64 fault_address;
  u64 regs[31];
  u64 sp, pc, pstate;
  alignas(16) u8 reserved[4096];
};
struct Ucontext {
  u64 flags, link;
  u64 stack_sp;
  u32 stack_flags, stack_pad;
  u64 stack_size;
  u64 sigmask;
  u8 unused[120];
  alignas(16) Sigcontext mcontext;
};
struct SignalFrame {
  u8 info[128];
  Ucontext uc;
};
static_assert(offsetof(SignalFrame, uc.mcontext) == 128 + 176 && sizeof(SignalFrame) == 4688);
struct FrameRecord {
  u64 fp, lr;
};
struct FpsimdContext {
  u32 magic, size;
  u32 fpsr, fpcr;
  V128 vregs[32];
};
struct EsrContext {
  u32 magic, size;
  u64 esr;
};
constexpr u32 kFpsimdMagic = 0x46508001, kEsrMagic = 0x45535201;
constexpr u32 kNzcv = 0xf0000000;

/// ESR_EL1 as the kernel shows it for an abort from EL0.
u64 abort_syndrome(u32 flags) {
  constexpr u64 kInstructionAbortLowerEl = 0x20, kDataAbortLowerEl = 0x24, kInstructionLength = u64{1} << 25,
                kWnR = u64{1} << 6;
  constexpr u64 kTranslationLevel3 = 7, kPermissionLevel3 = 15;
  return ((flags & kFaultFetch) ? kInstructionAbortLowerEl : kDataAbortLowerEl) << 26 | kInstructionLength |
         ((flags & ir::kFaultWrite) ? kWnR : 0) | ((flags & ir::kFaultMapped) ? kPermissionLevel3 : kTranslationLevel3);
}

bool push_signal_frame(Thread& thread, const SignalDelivery& d, u64 sp) {
  A64State& s = state(thread.cpu);
  MemoryMap& memory = thread.process->memory;
  const u64 record_at = align_down(sp - sizeof(FrameRecord), 16);
  const u64 frame_at = record_at - sizeof(SignalFrame);

  auto frame = std::make_unique<SignalFrame>();
  std::memset(frame.get(), 0, sizeof(SignalFrame));
  std::memcpy(frame->info, d.info, sizeof frame->info);
  Ucontext& uc = frame->uc;
  uc.stack_sp = thread.altstack.sp;
  uc.stack_size = thread.altstack.size;
  uc.stack_flags = static_cast<u32>(thread.altstack.flags);
  uc.sigmask = d.saved_mask;
  Sigcontext& mc = uc.mcontext;
  mc.fault_address = d.fault_address;
  std::memcpy(mc.regs, s.x, sizeof mc.regs);
  mc.sp = s.x[31];
  mc.pc = s.pc;
  mc.pstate = arm::nzcv_of(s) & kNzcv;
  FpsimdContext fp{};
  fp.magic = kFpsimdMagic;
  fp.size = sizeof fp;
  fp.fpsr = arm::fpsr_of(s);
  fp.fpcr = static_cast<u32>(s.fpcr);
  std::memcpy(fp.vregs, s.v, sizeof fp.vregs);
  std::memcpy(mc.reserved, &fp, sizeof fp);
  if (d.fault_flags & kFaultAbort) {
    const EsrContext esr{kEsrMagic, sizeof(EsrContext), abort_syndrome(d.fault_flags)};
    std::memcpy(mc.reserved + sizeof fp, &esr, sizeof esr);
  }
  const FrameRecord record{s.x[29], s.x[30]};
  if (!memory.write(frame_at, frame.get(), sizeof(SignalFrame)) || !memory.write(record_at, record)) return false;

  s.x[0] = static_cast<u64>(d.signal);
  if (d.flags & SA_SIGINFO) {
    s.x[1] = frame_at;
    s.x[2] = frame_at + offsetof(SignalFrame, uc);
  }
  s.x[29] = record_at;
  s.x[30] = (d.flags & 0x04000000 /* SA_RESTORER */) ? d.restorer : thread.process->sigreturn_address;
  s.x[31] = frame_at;
  s.pc = d.handler;
  s.exclusive_address = ~u64{0};
  return true;
}

bool pop_signal_frame(Thread& thread, u64& mask, GuestAbi::GuestStack& stack) {
  A64State& s = state(thread.cpu);
  auto frame = std::make_unique<SignalFrame>();
  if ((s.x[31] & 15) || !thread.process->memory.read(s.x[31], frame.get(), sizeof(SignalFrame))) return false;
  const Ucontext& uc = frame->uc;
  const Sigcontext& mc = uc.mcontext;
  std::memcpy(s.x, mc.regs, sizeof mc.regs);
  s.x[31] = mc.sp;
  s.pc = mc.pc;
  arm::set_nzcv(s, static_cast<u32>(mc.pstate) & kNzcv);
  s.exclusive_address = ~u64{0};
  for (std::size_t at = 0; at + 8 <= sizeof mc.reserved;) {
    u32 head[2];
    std::memcpy(head, mc.reserved + at, sizeof head);
    if (head[0] == 0) break;
    if (head[1] < 16 || (head[1] & 15) || at + head[1] > sizeof mc.reserved) return false;
    if (head[0] == kFpsimdMagic) {
      if (head[1] != sizeof(FpsimdContext)) return false;
      FpsimdContext fp;
      std::memcpy(&fp, mc.reserved + at, sizeof fp);
      std::memcpy(s.v, fp.vregs, sizeof fp.vregs);
      arm::set_fpcr(s, fp.fpcr);
      arm::set_fpsr(s, fp.fpsr);
    }
    at += head[1];
  }
  mask = uc.sigmask;
  stack = {uc.stack_sp, uc.stack_flags, uc.stack_size};
  return true;
}

ExceptionSignal exception(Thread& thread, ir::ExitKind kind) {
  const CpuState* cpu = thread.cpu;
  const GuestAddr pc = cpu->pc;
  const u64 value = cpu->exit_value;
  switch (kind) {
    case ir::ExitKind::Undefined: return {SIGILL, ILL_ILLOPC, pc, 0, 0};
    case ir::ExitKind::Breakpoint: return {SIGTRAP, TRAP_BRKPT, pc, 0, 0};
    case ir::ExitKind::Alignment: return {SIGBUS, BUS_ADRALN, value, value, 0};
    case ir::ExitKind::FetchFault:
      if (pc & 3) return {SIGBUS, BUS_ADRALN, pc, pc, 0};
      if (thread.process->memory.prot_at(pc) < 0) return {SIGSEGV, SEGV_MAPERR, pc, pc, kFaultAbort | kFaultFetch};
      return {SIGSEGV, SEGV_ACCERR, pc, pc, kFaultAbort | kFaultFetch | ir::kFaultMapped};
    case ir::ExitKind::Fault: {
      const u32 flags = cpu->exit_aux | kFaultAbort;
      if (flags & ir::kFaultBus) return {SIGBUS, BUS_ADRERR, value, value, flags};
      return {SIGSEGV, (flags & ir::kFaultMapped) ? SEGV_ACCERR : SEGV_MAPERR, value, value, flags};
    }
    default:
      say_once(*thread.process, "unimplemented guest trap " + std::to_string(cpu->exit_aux));
      return {SIGILL, ILL_ILLTRP, pc, 0, 0};
  }
}

constexpr u8 kSigreturnCode[] = {
    0x68, 0x11, 0x80, 0xd2,  // mov x8, #139 (rt_sigreturn)
    0x01, 0x00, 0x00, 0xd4,  // svc #0
};

// /proc/cpuinfo's names of the AT_HWCAP bits, in order (arch/arm64/kernel/cpuinfo.c).
constexpr const char* kHwcapNames[] = {"fp",      "asimd", "evtstrm", "aes",   "pmull",    "sha1",   "sha2", "crc32",
                                       "atomics", "fphp",  "asimdhp", "cpuid", "asimdrdm", "jscvt",  "fcma", "lrcpc",
                                       "dcpop",   "sha3",  "sm3",     "sm4",   "asimddp",  "sha512", "sve",  "asimdfhm",
                                       "dit",     "uscat", "ilrcpc",  "flagm", "ssbs",     "sb",     "paca", "pacg"};
constexpr const char* kHwcap2Names[] = {"dcpodp",   "sve2",     "sveaes",  "svepmull", "svebitperm",
                                        "svesha3",  "svesm4",   "flagm2",  "frint",    "svei8mm",
                                        "svef32mm", "svef64mm", "svebf16", "i8mm",     "bf16"};

std::string cpuinfo(const CpuState*, unsigned processor) {
  std::string features;
  for (unsigned i = 0; i < std::size(kHwcapNames); ++i)
    if (bit(arm::hwcap(), i)) (features += " ") += kHwcapNames[i];
  for (unsigned i = 0; i < std::size(kHwcap2Names); ++i)
    if (bit(arm::hwcap2(), i)) (features += " ") += kHwcap2Names[i];
  return "processor\t: " + std::to_string(processor) + "\nBogoMIPS\t: 100.00\nFeatures\t:" + features +
         "\nCPU implementer\t: 0x00\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0x051\nCPU revision\t: 0\n\n";
}

}  // namespace

extern const GuestAbi kAbiAarch64;
const GuestAbi kAbiAarch64 = {
    .name = "aarch64",
    .machine = "aarch64",
    .platform = "aarch64",
    .elf_machine = 183,
    .elf_class = 2,
    .elf_data = 1,
    .guest = &arm::kA64,
    .address_bits = 46,
    .hwcap = [](const CpuState*) { return arm::hwcap(); },
    .hwcap2 = [](const CpuState*) { return arm::hwcap2(); },
    .cpuinfo = cpuinfo,
    .cpu_models = [] { return std::string("  max          everything that is implemented (default)\n"); },
    .set_cpu_model = [](CpuState*, const char* name) { return std::string_view(name) == "max"; },
    .syscall = generic64_syscall,
    .syscall_abi = nullptr,
    .syscall_number = syscall_number,
    .syscall_arg = syscall_arg,
    .set_syscall_result = set_syscall_result,
    .first_arg = first_arg,
    .syscall_insn_bytes = 4,
    .stack_pointer = stack_pointer,
    .set_stack_pointer = set_stack_pointer,
    .set_thread_pointer = set_thread_pointer,
    .start = start,
    .open_flags_to_host = open_flags_to_host,
    .open_flags_from_host = open_flags_from_host,
    .encode_stat = encode_stat,
    .epoll_event_packed = false,
    .clone_tls_last = false,
    .minimal_stack = 5120,
    .minimal_frame = [](const CpuState*) { return u64{4720}; },
    .sigreturn_code = kSigreturnCode,
    .exception = exception,
    .push_signal_frame = push_signal_frame,
    .pop_signal_frame = pop_signal_frame,
    .bad_frame_code = SEGV_MAPERR,
    .exception_taken = arm::release_exclusive,
    .forked = arm::forget_exclusive_claims,
};

}  // namespace kiln::user
