#include "linux-user/abi_x86.h"

#include <sys/syscall.h>

#include <csignal>
#include <cstdio>

#include "frontends/x86/features.h"
#include "linux-user/host_x86_64.h"

namespace kiln::user {
namespace {

using x86::X86State;

X86State& state_of(Thread& thread) { return *static_cast<X86State*>(thread.cpu); }
const X86State& state_of(const ir::CpuState* cpu) { return *static_cast<const X86State*>(cpu); }

// --- exceptions ------------------------------------------------------------------------------------------------------

/// Page fault error code (SDM vol. 3, 4.7).
constexpr u32 kPfPresent = 1, kPfWrite = 2, kPfUser = 4, kPfFetch = 16;

ExceptionSignal note(Thread& thread, u8 vector, u32 error, ExceptionSignal signal) {
  thread.trap_number = vector;
  thread.trap_error = error;
  thread.trap_is_fault = vector != x86::kBP && vector != x86::kOF && vector != x86::kDB;
  return signal;
}

/// force_sig(): SI_KERNEL and nothing else.
ExceptionSignal kernel_signal(Thread& thread, int signal, u8 vector, u32 error = 0) {
  return note(thread, vector, error, {signal, SI_KERNEL, 0, 0, 0});
}

ExceptionSignal page_fault(Thread& thread, int signal, int code, GuestAddr address, u32 error) {
  thread.trap_address = address;
  return note(thread, x86::kPF, error | kPfUser, {signal, code, address, address, 0});
}

/// SIGFPE's code from pending and unmasked exceptions (x87's order of bits; fpu__exception_code). 0: spurious.
int float_code(u32 exceptions) {
  if (exceptions & 1) return FPE_FLTINV;
  if (exceptions & 4) return FPE_FLTDIV;
  if (exceptions & 8) return FPE_FLTOVF;
  if (exceptions & 0x12) return FPE_FLTUND;
  if (exceptions & 0x20) return FPE_FLTRES;
  return 0;
}

ExceptionSignal trap(Thread& thread, u64 value) {
  const X86State& s = state_of(thread);
  const u8 vector = x86::trap_vector(value);
  const u32 error = x86::trap_error(value);
  const GuestAddr pc = s.pc;
  switch (vector) {
    case x86::kDE: return note(thread, vector, 0, {SIGFPE, FPE_INTDIV, pc, 0, 0});
    case x86::kDB: {  // a single step, or INT1 (the frontend's error code 1); 2: behind a jump
      if (error == 2) thread.cpu->pc = s.step_to;
      return note(thread, vector, 0, {SIGTRAP, error == 1 ? TRAP_BRKPT : TRAP_TRACE, thread.cpu->pc, 0, 0});
    }
    case x86::kBP: return kernel_signal(thread, SIGTRAP, vector);
    case x86::kOF:  // a trap: behind INTO, or INT 4, whose length the frontend tells
      thread.cpu->pc += error;
      return kernel_signal(thread, SIGSEGV, vector);
    case x86::kBR: return kernel_signal(thread, SIGSEGV, vector);
    case x86::kUD: return note(thread, vector, 0, {SIGILL, ILL_ILLOPN, pc, 0, 0});
    case x86::kTS: return kernel_signal(thread, SIGSEGV, vector, error);
    case x86::kNP:
    case x86::kSS: return kernel_signal(thread, SIGBUS, vector, error);
    case x86::kGP: return kernel_signal(thread, SIGSEGV, vector, error);
    case x86::kAC: return note(thread, vector, 0, {SIGBUS, BUS_ADRALN, 0, 0, 0});
    case x86::kMF:
    case x86::kXM: {
      const u32 mxcsr = x86::mxcsr_of(s);
      const int code = float_code(vector == x86::kMF ? s.fsw_rest & ~s.fcw : mxcsr & ~(mxcsr >> 7));
      if (code == 0) return {0, 0, 0, 0, 0};  // "retry when we get spurious exceptions"
      return note(thread, vector, 0, {SIGFPE, code, pc, 0, 0});
    }
    default:
      say_once(*thread.process, "unimplemented x86 exception " + std::to_string(vector));
      return kernel_signal(thread, SIGSEGV, x86::kGP);
  }
}

constexpr bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

/// The calls of the vsyscall page, as Linux's vsyscall=xonly does them (arch/x86/entry/vsyscall/vsyscall_64.c): no code is
/// mapped there, a jump to an entry is the call. False: not an entry.
bool vsyscall(Thread& thread, ExceptionSignal& result) {
  constexpr GuestAddr kPage = 0xffffffffff600000;
  X86State& s = state_of(thread);
  MemoryMap& memory = thread.process->memory;
  if ((s.pc & ~u64{0xc00}) != kPage || s.pc == kPage + 0xc00) return false;
  u64 caller;
  if (!memory.read(s.r[x86::RSP], caller)) return false;
  const u64 first = s.r[x86::RDI], second = s.r[x86::RSI];
  auto out = [&](u64 at, u64 size) { return reinterpret_cast<u64>(memory.out_pointer(at, size)); };
  s64 r;
  switch (s.pc & 0xc00) {
    case 0x000: r = raw_syscall(SYS_gettimeofday, out(first, 16), out(second, 8)); break;
    case 0x400: r = raw_syscall(SYS_time, out(first, 8)); break;
    default: r = raw_syscall(SYS_getcpu, out(first, 4), out(second, 4)); break;
  }
  if (r == -EFAULT) {
    result = page_fault(thread, SIGSEGV, SEGV_MAPERR, memory.prot_at(first) < 0 ? first : second, kPfWrite);
    return true;
  }
  s.r[x86::RAX] = static_cast<u64>(r);
  s.pc = caller;
  s.r[x86::RSP] += 8;
  result = {0, 0, 0, 0, 0};
  return true;
}

ExceptionSignal fetch_fault(Thread& thread) {
  MemoryMap& memory = thread.process->memory;
  ExceptionSignal result;
  if (thread.process->abi->guest->pointer_bits == 64 && vsyscall(thread, result)) return result;
  GuestAddr address = thread.cpu->pc;
  if (!canonical(address)) return kernel_signal(thread, SIGSEGV, x86::kGP);
  const int here = memory.prot_at(address);
  if (here >= 0 && (here & 4)) address = page_up(address + 1);  // the instruction's end lies on the next page
  const bool mapped = memory.prot_at(address) >= 0;
  return page_fault(thread, SIGSEGV, mapped ? SEGV_ACCERR : SEGV_MAPERR, address, kPfFetch | (mapped ? kPfPresent : 0));
}

struct CodeHere {
  explicit CodeHere(Thread& thread) : size(thread.process->memory.fetch(thread.cpu->pc, bytes, sizeof bytes)) {}
  u8 bytes[15];
  std::size_t size;
};
ExceptionSignal non_canonical(Thread& thread) {
  const CodeHere code(thread);
  return trap(thread, x86::trap_value(x86::non_canonical_vector(state_of(thread), code.bytes, code.size)));
}
ExceptionSignal misaligned(Thread& thread) {
  const CodeHere code(thread);
  return trap(thread, x86::trap_value(x86::alignment_vector(state_of(thread), code.bytes, code.size)));
}
/// The vector if the access leaves its segment, else 0.
u8 beyond_segment(Thread& thread, u64 address) {
  const X86State& s = state_of(thread);
  if (x86::code_size(s.mode) == x86::CodeSize::Bits64) return 0;
  const CodeHere code(thread);
  return x86::beyond_segment_vector(s, code.bytes, code.size, address);
}

}  // namespace

ExceptionSignal x86_exception(Thread& thread, ir::ExitKind kind) {
  const u64 value = thread.cpu->exit_value;
  switch (kind) {
    case ir::ExitKind::Undefined: return trap(thread, x86::trap_value(x86::kUD));
    case ir::ExitKind::Breakpoint:
      thread.cpu->pc += value;  // a trap, not a fault; the frontend tells the length
      return trap(thread, x86::trap_value(x86::kBP));
    case ir::ExitKind::Alignment: return misaligned(thread);
    case ir::ExitKind::FetchFault: return fetch_fault(thread);
    case ir::ExitKind::Fault: {
      const u32 flags = thread.cpu->exit_aux;
      if ((flags & ir::kFaultNonCanonical) || !canonical(value)) return non_canonical(thread);
      if (const u8 vector = beyond_segment(thread, value)) return trap(thread, x86::trap_value(vector));
      u32 error = ((flags & ir::kFaultWrite) ? kPfWrite : 0) | ((flags & kFaultPresent) ? kPfPresent : 0);
      if (static_cast<s64>(value) < 0) error |= kPfPresent;  // Linux tells nothing about the kernel's pages
      if (flags & ir::kFaultBus) return page_fault(thread, SIGBUS, BUS_ADRERR, value, error);
      return page_fault(thread, SIGSEGV, (flags & ir::kFaultMapped) ? SEGV_ACCERR : SEGV_MAPERR, value, error);
    }
    case ir::ExitKind::Trap:
      if (value == x86::trap_value(x86::kAC)) return misaligned(thread);
      return trap(thread, value);
    default: return trap(thread, value);
  }
}

u32 x86_frame_eflags(Thread& thread) {
  const u32 flags = x86::eflags_of(state_of(thread)) | (thread.trap_is_fault ? u32{x86::kRf} : 0);
  thread.trap_is_fault = false;
  return flags;
}

// --- FPU state in frames ---------------------------------------------------------------------------------------------

namespace {
/// struct _fpx_sw_bytes, in the part of FXSAVE that software may use (uapi/asm/sigcontext.h).
struct SoftwareBytes {
  u32 magic1, extended_size;
  u64 xfeatures;
  u32 xstate_size, padding[7];
};
static_assert(sizeof(SoftwareBytes) == 48);
constexpr std::size_t kSoftwareBytesAt = 464, kFxsaveBytes = 512;
constexpr u32 kMagic1 = 0x46505853, kMagic2 = 0x46505845;
constexpr u64 kXfeatures = 7;  // x87, SSE, AVX
}  // namespace

bool x86_has_xsave(const X86State& state) { return bit(x86::cpuid(state, 1, 0).ecx, 27); }  // OSXSAVE
std::size_t x86_fpstate_size(const X86State& state) { return x86_has_xsave(state) ? kMaxFpstate : kFxsaveBytes; }

void x86_put_fpstate(const X86State& state, std::size_t header_bytes, u8* out) {
  const bool wide = x86::code_size(state.mode) == x86::CodeSize::Bits64;
  if (!x86_has_xsave(state)) return x86::fxsave_image(state, wide, out);
  x86::xsave_image(state, out);
  const SoftwareBytes software{kMagic1, static_cast<u32>(header_bytes + kMaxFpstate), kXfeatures, u32{x86::kXsaveBytes}, {}};
  std::memcpy(out + kSoftwareBytesAt, &software, sizeof software);
  std::memcpy(out + x86::kXsaveBytes, &kMagic2, sizeof kMagic2);
}

bool x86_get_fpstate(Thread& thread, GuestAddr at) {
  X86State& s = state_of(thread);
  const bool wide = x86::code_size(s.mode) == x86::CodeSize::Bits64;
  u8 image[kMaxFpstate];
  MemoryMap& memory = thread.process->memory;
  if (!memory.read(at, image, kFxsaveBytes)) return false;
  SoftwareBytes software;
  std::memcpy(&software, image + kSoftwareBytesAt, sizeof software);
  u32 mxcsr;
  std::memcpy(&mxcsr, image + 24, sizeof mxcsr);
  if (mxcsr & ~x86::mxcsr_mask(s)) return false;  // FXRSTOR would raise #GP
  u32 magic2 = 0;
  const bool xsave = x86_has_xsave(s) && software.magic1 == kMagic1 && software.xstate_size == x86::kXsaveBytes &&
                     software.extended_size >= software.xstate_size && memory.read(at + x86::kXsaveBytes, magic2) &&
                     magic2 == kMagic2;
  if (!xsave) {
    std::memset(s.ymm_high, 0, sizeof s.ymm_high);
    x86::fxrstor_image(s, wide, image);
    return true;
  }
  return memory.read(at, image, x86::kXsaveBytes) && x86::xrstor_image(s, image);
}

void x86_clear_fpstate(X86State& s) {
  std::memset(s.xmm, 0, sizeof s.xmm);
  std::memset(s.ymm_high, 0, sizeof s.ymm_high);
  std::memset(s.st, 0, sizeof s.st);
  s.fcw = 0x37f;
  x86::set_fsw(s, 0);
  s.ftw = s.fop = s.fcs = s.fds = 0;
  s.fip = s.fdp = 0;
  x86::set_mxcsr(s, 0x1f80);
}

// --- the processor ---------------------------------------------------------------------------------------------------

u64 x86_hwcap(const ir::CpuState* cpu) { return x86::cpuid(state_of(cpu), 1, 0).edx; }
u64 x86_hwcap2(const ir::CpuState* cpu) { return bit(x86::cpuid(state_of(cpu), 7, 0).ebx, 0) ? 2 : 0; }  // HWCAP2_FSGSBASE

u64 x86_minimal_frame(const ir::CpuState* cpu) {
  // get_sigframe_size(): the largest frame of a kernel that also runs i386 programs, 828 bytes and 112 of FSAVE, and the FPU
  // state.
  return align_up(u64{828 + 112} + x86_fpstate_size(state_of(cpu)), 16);
}

std::string x86_cpuinfo(const ir::CpuState* cpu, unsigned processor) {
  const X86State& s = state_of(cpu);
  const u32 signature = x86::cpu_signature(s.cpu_model);
  const u32 family = (signature >> 8 & 15) + ((signature >> 8 & 15) == 15 ? signature >> 20 & 0xff : 0);
  const u32 model = (signature >> 4 & 15) | (signature >> 12 & 0xf0);
  auto line = [](const char* name, const std::string& value) {
    return std::string(name) + std::string(name[0] && std::strlen(name) < 8 ? "\t\t: " : "\t: ") + value + "\n";
  };
  return line("processor", std::to_string(processor)) + line("vendor_id", x86::cpu_vendor(s.cpu_model)) +
         line("cpu family", std::to_string(family)) + line("model", std::to_string(model)) +
         line("model name", x86::cpu_brand(s.cpu_model)) + line("stepping", std::to_string(signature & 15)) +
         line("cpu MHz", "1000.000") + line("fpu", "yes") + line("fpu_exception", "yes") +
         line("cpuid level", std::to_string(x86::cpuid(s, 0, 0).eax)) + line("wp", "yes") +
         line("flags", x86::cpuinfo_flags(s.cpu_model)) + line("bogomips", "2000.00") + line("clflush size", "64") +
         line("cache_alignment", "64") + line("address sizes", "40 bits physical, 48 bits virtual") + "\n";
}

namespace {
bool has_long_mode(unsigned model) {
  return (x86::features_of_model(model) >> static_cast<unsigned>(x86::Feature::lm_) & 1) != 0;
}
}  // namespace

std::string x86_cpu_models(bool wide) {
  std::string text;
  for (unsigned n = 0; n < x86::cpu_models().size(); ++n) {
    if (wide && !has_long_mode(n)) continue;
    const x86::CpuModel& model = x86::cpu_models()[n];
    char row[160];
    std::snprintf(row, sizeof row, "  %-12s %s\n", model.name, model.description);
    text += row;
  }
  return text;
}

bool x86_set_cpu_model(ir::CpuState* cpu, const char* name) {
  const int index = x86::find_cpu_model(name);
  if (index < 0) return false;
  const auto model = static_cast<unsigned>(index);
  X86State& s = *static_cast<X86State*>(cpu);
  if (x86::code_size(s.mode) == x86::CodeSize::Bits64 && !has_long_mode(model)) return false;
  x86::set_cpu_model(s, model);
  return true;
}

}  // namespace kiln::user
