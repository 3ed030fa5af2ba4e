// Linux on i386, as a 64-bit kernel gives it to 32-bit programs.
#include <sys/ucontext.h>

#include <cstring>
#include <memory>

#include "frontends/x86/user_segments.h"
#include "linux-user/abi_x86.h"
#include "linux-user/descriptors_x86.h"
#include "linux-user/syscalls/compat32.h"

namespace kiln::user {

extern const GuestAbi kAbiI386;

namespace {

using ir::CpuState;
using x86::X86State;

X86State& state(CpuState* cpu) { return *static_cast<X86State*>(cpu); }
const X86State& state(const CpuState* cpu) { return *static_cast<const X86State*>(cpu); }

u64 low(u64 v) { return v & 0xffffffff; }

u64 syscall_number(const CpuState* cpu) { return low(state(cpu).r[x86::RAX]); }
u64 syscall_arg(const CpuState* cpu, unsigned index) {
  constexpr x86::Gpr kRegisters[] = {x86::RBX, x86::RCX, x86::RDX, x86::RSI, x86::RDI, x86::RBP};
  return low(state(cpu).r[kRegisters[index]]);
}
const GuestAbi* syscall_abi(const CpuState* cpu) {
  constexpr u64 kSysenter = 1;  // exit_value
  return cpu->exit_value == kSysenter ? nullptr : &kAbiI386;
}
void set_syscall_result(CpuState* cpu, s64 result) {
  X86State& s = state(cpu);
  // int 0x80 in 64-bit code gets the result sign-extended.
  s.r[x86::RAX] = x86::code_size(s.mode) == x86::CodeSize::Bits64 ? static_cast<u64>(result) : low(static_cast<u64>(result));
}
u64 first_arg(const CpuState* cpu) { return syscall_arg(cpu, 0); }
u64 stack_pointer(const CpuState* cpu) { return low(state(cpu).r[x86::RSP]); }
void set_stack_pointer(CpuState* cpu, u64 sp) { state(cpu).r[x86::RSP] = low(sp); }

void start(CpuState* cpu, u64 pc, u64 sp) {
  X86State& s = state(cpu);
  s.pc = pc;
  std::memset(s.r, 0, sizeof s.r);
  s.r[x86::RSP] = sp;
  std::memset(s.gdt_tls, 0, sizeof s.gdt_tls);
  if (!s.ldt) s.ldt = new_ldt();
  x86::set_segment(s, x86::CS, x86::kUser32Code, 0);
  for (const x86::Seg seg : {x86::SS, x86::DS, x86::ES}) x86::set_segment(s, seg, x86::kUserData, 0);
  for (const x86::Seg seg : {x86::FS, x86::GS}) x86::set_segment(s, seg, 0, 0);
  x86::set_eflags(s, x86::kIf);
  x86_clear_fpstate(s);
}

// --- segments (arch/x86/kernel/tls.c) -----------------------------------------------------------------------------------

bool tls_acceptable(const UserDesc& d) {
  if (is_empty(d) || is_zero(d)) return true;
  return (d.flags & kSeg32Bit) && contents(d) <= 1 && !(d.flags & kSegNotPresent);  // bits above USEABLE are the program's litter
}
constexpr bool is_tls_entry(u32 entry) { return entry >= x86::kFirstTlsEntry && entry < x86::kFirstTlsEntry + 3; }

void set_tls(X86State& s, const UserDesc& d) {
  s.gdt_tls[d.entry_number - x86::kFirstTlsEntry] = is_empty(d) || is_zero(d) ? 0 : make_descriptor(d);
  reload_segments(s, d.entry_number << 3 | 3);
}

bool check_thread_pointer(Thread& thread, u64 value) {
  UserDesc d;
  return thread.process->memory.read(value, d) && tls_acceptable(d) && is_tls_entry(d.entry_number);
}
void set_thread_pointer(CpuState* cpu, u64 value) {
  UserDesc d;
  auto& thread = *static_cast<Thread*>(cpu->user_data);
  if (thread.process->memory.read(value, d) && is_tls_entry(d.entry_number)) set_tls(state(cpu), d);
}

// --- structs (arch/x86/include/uapi/asm/stat.h, asm/compat.h) -------------------------------------------------------------

// Nothing in these is aligned to more than four bytes.
struct __attribute__((packed)) GuestStat64 {
  u64 dev;
  u32 pad0, short_ino, mode, nlink, uid, gid;
  u64 rdev;
  u32 pad3;
  s64 size;
  u32 blksize;
  u64 blocks;
  u32 atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec;
  u64 ino;
};
static_assert(sizeof(GuestStat64) == 96);
struct GuestStat {
  u32 dev, ino;
  u16 mode, nlink, uid, gid;
  u32 rdev, size, blksize, blocks, atime, atime_nsec, mtime, mtime_nsec, ctime, ctime_nsec, unused[2];
};
static_assert(sizeof(GuestStat) == 64);

template <class Guest>
void put_times(Guest& g, const struct stat& h) {
  g.atime = static_cast<u32>(h.st_atim.tv_sec);
  g.atime_nsec = static_cast<u32>(h.st_atim.tv_nsec);
  g.mtime = static_cast<u32>(h.st_mtim.tv_sec);
  g.mtime_nsec = static_cast<u32>(h.st_mtim.tv_nsec);
  g.ctime = static_cast<u32>(h.st_ctim.tv_sec);
  g.ctime_nsec = static_cast<u32>(h.st_ctim.tv_nsec);
}

std::size_t encode_stat(const struct stat& h, u8* out) {
  GuestStat64 g{};
  g.dev = h.st_dev;
  g.short_ino = static_cast<u32>(h.st_ino);
  g.mode = h.st_mode;
  g.nlink = static_cast<u32>(h.st_nlink);
  g.uid = h.st_uid;
  g.gid = h.st_gid;
  g.rdev = h.st_rdev;
  g.size = h.st_size;
  g.blksize = static_cast<u32>(h.st_blksize);
  g.blocks = static_cast<u64>(h.st_blocks);
  put_times(g, h);
  g.ino = h.st_ino;
  std::memcpy(out, &g, sizeof g);
  return sizeof g;
}

std::size_t encode_old_stat(const struct stat& h, u8* out) {
  GuestStat g{};
  g.dev = static_cast<u32>(h.st_dev);
  g.ino = static_cast<u32>(h.st_ino);
  g.mode = static_cast<u16>(h.st_mode);
  g.nlink = static_cast<u16>(h.st_nlink);
  g.uid = narrow_id(h.st_uid);
  g.gid = narrow_id(h.st_gid);
  g.rdev = static_cast<u32>(h.st_rdev);
  g.size = static_cast<u32>(h.st_size);
  g.blksize = static_cast<u32>(h.st_blksize);
  g.blocks = static_cast<u32>(h.st_blocks);
  put_times(g, h);
  if (g.ino != h.st_ino || g.nlink != h.st_nlink || h.st_size > 0x7fffffff) return 0;
  std::memcpy(out, &g, sizeof g);
  return sizeof g;
}

int open_flags_to_host(u64 flags) { return static_cast<int>(flags); }
u64 open_flags_from_host(int flags) { return static_cast<u32>(flags); }

// --- signal frames (arch/x86/kernel/signal_32.c, uapi/asm/sigcontext.h, asm/sigframe.h) -------------------------------------

struct Sigcontext {
  u16 gs, gs_high, fs, fs_high, es, es_high, ds, ds_high;
  u32 di, si, bp, sp, bx, dx, cx, ax, trapno, err, ip;
  u16 cs, cs_high;
  u32 flags, sp_at_signal;
  u16 ss, ss_high;
  u32 fpstate, oldmask, cr2;
};
static_assert(sizeof(Sigcontext) == 88);
struct OldFrame {
  u32 return_address, signal;
  Sigcontext context;
  u8 fpstate_unused[624];
  u32 extra_mask;
  u8 code[8];
};
static_assert(sizeof(OldFrame) == 732);
struct RtFrame {
  u32 return_address, signal, info_at, context_at;
  u8 info[128];
  u32 uc_flags, uc_link;
  u32 stack_sp, stack_flags, stack_size;
  Sigcontext context;
  u32 sigmask[2];
  u8 code[8];
};
static_assert(sizeof(RtFrame) == 268);
constexpr u32 kUcFpXstate = 1;
constexpr u64 kSaRestorer = 0x04000000;

/// The FSAVE image in front of the FXSAVE or XSAVE one, with the processor's status word and the magic number behind it.
constexpr std::size_t kFsaveBytes = 108, kFsaveHeader = 112;

// Code that handlers return to; the frames hold copies, by which debuggers know them.
constexpr u8 kSigreturnCode[] = {0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80};  // pop %eax; mov $119,%eax; int $0x80
constexpr u8 kRtSigreturnCode[] = {0xb8, 173, 0, 0, 0, 0xcd, 0x80, 0};   // mov $173,%eax; int $0x80
constexpr std::size_t kRtSigreturnAt = 8;
constexpr u8 kSigreturnPage[] = {0x58, 0xb8, 119, 0, 0, 0, 0xcd, 0x80, 0xb8, 173, 0, 0, 0, 0xcd, 0x80, 0};

u16 selector(const X86State& s, x86::Seg seg) { return static_cast<u16>(s.selector[seg]); }

void fill_context(Thread& thread, const SignalDelivery& d, GuestAddr fp_at, Sigcontext& c) {
  const X86State& s = state(thread.cpu);
  auto reg = [&](x86::Gpr r) { return static_cast<u32>(s.r[r]); };
  c.gs = selector(s, x86::GS);
  c.fs = selector(s, x86::FS);
  c.es = selector(s, x86::ES);
  c.ds = selector(s, x86::DS);
  c.di = reg(x86::RDI);
  c.si = reg(x86::RSI);
  c.bp = reg(x86::RBP);
  c.sp = c.sp_at_signal = reg(x86::RSP);
  c.bx = reg(x86::RBX);
  c.dx = reg(x86::RDX);
  c.cx = reg(x86::RCX);
  c.ax = reg(x86::RAX);
  c.trapno = thread.trap_number;
  c.err = thread.trap_error;
  c.ip = static_cast<u32>(s.pc);
  c.cs = selector(s, x86::CS);
  c.flags = x86_frame_eflags(thread);
  c.ss = selector(s, x86::SS);
  c.fpstate = static_cast<u32>(fp_at);
  c.oldmask = static_cast<u32>(d.saved_mask);
  c.cr2 = static_cast<u32>(thread.trap_address);
}

/// FSAVE image as the kernel converts it from FXSAVE: reserved halves are ones, the segments are those of now.
void put_fsave(const X86State& s, u8* out) {
  x86::fsave_image(s, out);
  auto word = [&](std::size_t at, u32 v) { std::memcpy(out + at, &v, sizeof v); };
  u32 env[7];
  std::memcpy(env, out, sizeof env);
  for (const unsigned k : {0u, 1u, 2u}) word(4 * k, env[k] | 0xffff0000);
  word(16, u32{selector(s, x86::CS)} | (s.fop & 0x7ff) << 16);
  word(24, u32{selector(s, x86::DS)} | 0xffff0000);
  const u16 status[2] = {static_cast<u16>(x86::fsw_of(s)), 0 /* X86_FXSR_MAGIC: FXSAVE follows */};
  std::memcpy(out + kFsaveBytes, status, sizeof status);
}

bool push_signal_frame(Thread& thread, const SignalDelivery& d, u64 sp) {
  X86State& s = state(thread.cpu);
  MemoryMap& memory = thread.process->memory;
  const bool rt = (d.flags & SA_SIGINFO) != 0;
  const std::size_t fp_size = x86_fpstate_size(s);
  sp = low(sp);
  if (sp < fp_size + kFsaveHeader + sizeof(OldFrame) + 128) return false;
  const GuestAddr fx_at = align_down(sp - fp_size, 64), fp_at = fx_at - kFsaveHeader;
  const GuestAddr frame_at = align_down(fp_at - (rt ? sizeof(RtFrame) : sizeof(OldFrame)) + 4, 16) - 4;

  u8 fp[kFsaveHeader + kMaxFpstate];
  put_fsave(s, fp);
  x86_put_fpstate(s, kFsaveHeader, fp + kFsaveHeader);
  if (!memory.write(fp_at, fp, kFsaveHeader + fp_size)) return false;

  const GuestAddr stub = thread.process->sigreturn_address + (rt ? kRtSigreturnAt : 0);
  const u32 return_address = static_cast<u32>((d.flags & kSaRestorer) ? d.restorer : stub);
  u32 third = 0, second = 0;
  if (rt) {
    RtFrame f{};
    f.return_address = return_address;
    f.signal = static_cast<u32>(d.signal);
    second = f.info_at = static_cast<u32>(frame_at + offsetof(RtFrame, info));
    third = f.context_at = static_cast<u32>(frame_at + offsetof(RtFrame, uc_flags));
    siginfo_to_guest32(*thread.process->abi, d.info, f.info);
    f.uc_flags = x86_has_xsave(s) ? kUcFpXstate : 0;
    f.stack_sp = static_cast<u32>(thread.altstack.sp);
    f.stack_flags = static_cast<u32>(thread.altstack.flags);
    f.stack_size = static_cast<u32>(thread.altstack.size);
    fill_context(thread, d, fp_at, f.context);
    f.sigmask[0] = static_cast<u32>(d.saved_mask);
    f.sigmask[1] = static_cast<u32>(d.saved_mask >> 32);
    std::memcpy(f.code, kRtSigreturnCode, sizeof f.code);
    if (!memory.write(frame_at, f)) return false;
  } else {
    OldFrame f{};
    f.return_address = return_address;
    f.signal = static_cast<u32>(d.signal);
    fill_context(thread, d, fp_at, f.context);
    f.extra_mask = static_cast<u32>(d.saved_mask >> 32);
    std::memcpy(f.code, kSigreturnCode, sizeof f.code);
    // What the kernel does not write keeps what was on the stack; nobody reads it.
    if (!memory.write(frame_at, f)) return false;
  }

  s.r[x86::RAX] = static_cast<u32>(d.signal);
  s.r[x86::RDX] = second;
  s.r[x86::RCX] = third;
  s.r[x86::RSP] = frame_at;
  s.pc = low(d.handler);
  x86::set_segment(s, x86::CS, x86::kUser32Code, 0);
  for (const x86::Seg seg : {x86::DS, x86::ES, x86::SS}) x86::set_segment(s, seg, x86::kUserData, 0);
  x86_clear_fpstate(s);
  x86::set_eflags(s, x86::eflags_of(s) & ~u32{x86::kDf | x86::kRf | x86::kTf});
  return true;
}

constexpr u32 with_rpl(u32 selector) { return selector <= 3 ? selector : selector | 3; }

bool restore_context(Thread& thread, const Sigcontext& c) {
  X86State& s = state(thread.cpu);
  const u64 code = x86::user_descriptor(s, c.cs | 3);
  if (!x86::descriptor_is_code(code) || !x86::descriptor_present(code)) return false;
  if (code >> 53 & 1) {
    say_once(*thread.process, "unimplemented sigreturn to 64-bit code in an i386 process");
    return false;
  }
  const std::pair<x86::Seg, u16> data[] = {{x86::GS, c.gs}, {x86::FS, c.fs}, {x86::DS, c.ds}, {x86::ES, c.es}};
  for (const auto& [seg, value] : data)
    if (with_rpl(value) != s.selector[seg] && x86::load_user_segment(s, seg, with_rpl(value)) != 0)
      x86::load_user_segment(s, seg, 0);  // as the kernel does when a load faults
  if (x86::load_user_segment(s, x86::SS, c.ss | 3u) != 0) return false;
  x86::set_segment(s, x86::CS, c.cs | 3u, x86::descriptor_base(code));
  s.r[x86::RDI] = c.di;
  s.r[x86::RSI] = c.si;
  s.r[x86::RBP] = c.bp;
  s.r[x86::RSP] = c.sp;
  s.r[x86::RBX] = c.bx;
  s.r[x86::RDX] = c.dx;
  s.r[x86::RCX] = c.cx;
  s.r[x86::RAX] = c.ax;
  s.pc = c.ip;
  x86::set_eflags(s, (x86::eflags_of(s) & ~kFrameEflags) | (c.flags & kFrameEflags));
  if (c.fpstate == 0) {
    x86_clear_fpstate(s);
    return true;
  }
  // The x87 part is the FSAVE image's, the rest the other's (fpu__restore_sig, ia32_fxstate).
  u8 fsave[kFsaveHeader];
  if (!thread.process->memory.read(c.fpstate, fsave) || !x86_get_fpstate(thread, u64{c.fpstate} + kFsaveHeader)) return false;
  x86::frstor_image(s, fsave);
  return true;
}

bool pop_signal_frame(Thread& thread, u64& mask, GuestAbi::GuestStack& stack) {
  RtFrame f;
  if (!thread.process->memory.read(low(stack_pointer(thread.cpu) - 4), f) || !restore_context(thread, f.context)) return false;
  mask = f.sigmask[0] | u64{f.sigmask[1]} << 32;
  stack = {f.stack_sp, f.stack_flags, f.stack_size};
  return true;
}
bool pop_old_signal_frame(Thread& thread, u64& mask) {
  OldFrame f;
  if (!thread.process->memory.read(low(stack_pointer(thread.cpu) - 8), f) || !restore_context(thread, f.context)) return false;
  mask = f.context.oldmask | u64{f.extra_mask} << 32;
  return true;
}

}  // namespace

// --- x86's own calls
// -------------------------------------------------------------------------------------------------------------

s64 c32_set_thread_area(Call& c) {
  X86State& s = state(c.thread.cpu);
  UserDesc d;
  if (!c.memory.read(c.a[0], d)) return -EFAULT;
  if (!tls_acceptable(d)) return -EINVAL;
  if (d.entry_number == ~u32{0}) {
    for (u32 k = 0; k < 3 && d.entry_number == ~u32{0}; ++k)
      if (s.gdt_tls[k] == 0) d.entry_number = x86::kFirstTlsEntry + k;
    if (d.entry_number == ~u32{0}) return -ESRCH;
    if (!c.memory.write(c.a[0], d.entry_number)) return -EFAULT;
  }
  if (!is_tls_entry(d.entry_number)) return -EINVAL;
  set_tls(s, d);
  return 0;
}

s64 c32_get_thread_area(Call& c) {
  u32 entry;
  if (!c.memory.read(c.a[0], entry)) return -EFAULT;
  if (!is_tls_entry(entry)) return -EINVAL;
  const u64 v = state(c.thread.cpu).gdt_tls[entry - x86::kFirstTlsEntry];
  UserDesc d = describe(entry, v);
  if (v == 0) d.flags = kReadExecOnly | kSegNotPresent;
  return c.memory.write(c.a[0], d) ? 0 : -EFAULT;
}

/// ARCH_SET_FS and its like are for 64-bit code.
s64 c32_arch_prctl(Call&) { return -EINVAL; }

const GuestAbi kAbiI386 = {
    .name = "i386",
    .machine = "i686",
    .platform = "i686",
    .elf_machine = 3,
    .elf_class = 1,
    .elf_data = 1,
    .guest = &x86::kI386,
    .address_bits = 32,
    .hwcap = x86_hwcap,
    .hwcap2 = x86_hwcap2,
    .cpuinfo = x86_cpuinfo,
    .cpu_models = [] { return x86_cpu_models(false); },
    .set_cpu_model = x86_set_cpu_model,
    .syscall = i386_syscall,
    .syscall_abi = syscall_abi,
    .read_arguments = compat32_arguments,
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
    .clone_tls_last = false,
    .task_size = 0xffffe000,
    .align64 = 4,
    .encode_old_stat = encode_old_stat,
    .check_thread_pointer = check_thread_pointer,
    .pop_old_signal_frame = pop_old_signal_frame,
    .minimal_stack = 2048,
    .minimal_frame = x86_minimal_frame,
    .sigreturn_code = kSigreturnPage,
    .exception = x86_exception,
    .push_signal_frame = push_signal_frame,
    .pop_signal_frame = pop_signal_frame,
    .bad_frame_code = SI_KERNEL,
};

}  // namespace kiln::user
