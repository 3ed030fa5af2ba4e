#include "linux-user/crash/crash_abi.h"

#include <elf.h>

#include <cstring>

#include "frontends/arm/aarch64.h"
#include "linux-user/abi_x86.h"

namespace kiln::user {
namespace {

using ir::CpuState;

constexpr u32 kNtPrxfpreg = 0x46e62b7f;

template <class T>
void add(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

const x86::X86State& x86_state(const CpuState* cpu) { return *static_cast<const x86::X86State*>(cpu); }
const arm::A64State& a64_state(const CpuState* cpu) { return *static_cast<const arm::A64State*>(cpu); }

std::string i386_general(const CpuState* cpu, s64 syscall) {
  const auto& s = x86_state(cpu);
  std::string out;
  for (const x86::Gpr r : {x86::RBX, x86::RCX, x86::RDX, x86::RSI, x86::RDI, x86::RBP, x86::RAX}) add(out, static_cast<u32>(s.r[r]));
  for (const x86::Seg r : {x86::DS, x86::ES, x86::FS, x86::GS}) add(out, s.selector[r]);
  add(out, static_cast<u32>(syscall));
  add(out, static_cast<u32>(s.pc));
  add(out, s.selector[x86::CS]);
  add(out, x86::eflags_of(s));
  add(out, static_cast<u32>(s.r[x86::RSP]));
  add(out, s.selector[x86::SS]);
  return out;
}

std::string x86_64_general(const CpuState* cpu, s64 syscall) {
  const auto& s = x86_state(cpu);
  std::string out;
  for (const x86::Gpr r : {x86::R15, x86::R14, x86::R13, x86::R12, x86::RBP, x86::RBX, x86::R11, x86::R10, x86::R9, x86::R8, x86::RAX,
                           x86::RCX, x86::RDX, x86::RSI, x86::RDI})
    add(out, s.r[r]);
  add(out, syscall);
  add(out, s.pc);
  add(out, u64{s.selector[x86::CS]});
  add(out, u64{x86::eflags_of(s)});
  add(out, s.r[x86::RSP]);
  add(out, u64{s.selector[x86::SS]});
  add(out, s.seg_base[x86::FS]);
  add(out, s.seg_base[x86::GS]);
  for (const x86::Seg r : {x86::DS, x86::ES, x86::FS, x86::GS}) add(out, u64{s.selector[r]});
  return out;
}

std::vector<CoreNote> x86_notes(const CpuState* cpu, bool wide) {
  const auto& s = x86_state(cpu);
  std::vector<CoreNote> list;
  std::string fxsave(512, '\0'), fsave(108, '\0'), xsave(x86::kXsaveBytes, '\0');
  x86::fxsave_image(s, wide, reinterpret_cast<u8*>(fxsave.data()));
  if (wide) {
    list.push_back({NT_FPREGSET, false, fxsave});
  } else {
    x86::fsave_image(s, reinterpret_cast<u8*>(fsave.data()));
    list.push_back({NT_FPREGSET, false, fsave});
    list.push_back({kNtPrxfpreg, true, fxsave});
  }
  if (x86_has_xsave(s)) {
    x86::xsave_image(s, reinterpret_cast<u8*>(xsave.data()));
    constexpr std::size_t kXcr0At = 464;  // debuggers look there for which parts are in the image
    const u64 xcr0 = 7;
    std::memcpy(xsave.data() + kXcr0At, &xcr0, sizeof xcr0);
    list.push_back({NT_X86_XSTATE, true, xsave});
  }
  return list;
}

}  // namespace

const CrashAbi kCrashA64 = {
    .columns = 33,
    .sp = 31,
    .fp = 29,
    .ra = 30,
    .read =
        [](const CpuState* cpu, u64* out) {
          std::memcpy(out, a64_state(cpu).x, 32 * sizeof(u64));
          out[32] = cpu->pc;
        },
    .general =
        [](const CpuState* cpu, s64) {
          const auto& s = a64_state(cpu);
          std::string out(reinterpret_cast<const char*>(s.x), sizeof s.x);
          add(out, s.pc);
          add(out, u64{arm::nzcv_of(s) & 0xf0000000});
          return out;
        },
    .notes =
        [](const CpuState* cpu) {
          const auto& s = a64_state(cpu);
          std::string fp(reinterpret_cast<const char*>(s.v), sizeof s.v), tls;
          add(fp, arm::fpsr_of(s));
          add(fp, static_cast<u32>(s.fpcr));
          add(fp, u64{0});
          add(tls, s.tpidr_el0);
          add(tls, u64{0});
          return std::vector<CoreNote>{{NT_FPREGSET, false, fp}, {NT_ARM_TLS, true, tls}};
        },
};

const CrashAbi kCrashI386 = {
    .columns = 9,
    .sp = 4,
    .fp = 5,
    .ra = 8,
    .read =
        [](const CpuState* cpu, u64* out) {
          for (unsigned i = 0; i < 8; ++i) out[i] = static_cast<u32>(x86_state(cpu).r[i]);
          out[8] = cpu->pc;
        },
    .general = i386_general,
    .notes = [](const CpuState* cpu) { return x86_notes(cpu, false); },
};

const CrashAbi kCrashX86_64 = {
    .columns = 17,
    .sp = 7,
    .fp = 6,
    .ra = 16,
    .read =
        [](const CpuState* cpu, u64* out) {
          constexpr x86::Gpr kOrder[] = {x86::RAX, x86::RDX, x86::RCX, x86::RBX, x86::RSI, x86::RDI, x86::RBP, x86::RSP,
                                         x86::R8,  x86::R9,  x86::R10, x86::R11, x86::R12, x86::R13, x86::R14, x86::R15};
          for (unsigned i = 0; i < 16; ++i) out[i] = x86_state(cpu).r[kOrder[i]];
          out[16] = cpu->pc;
        },
    .general = x86_64_general,
    .notes = [](const CpuState* cpu) { return x86_notes(cpu, true); },
};

const CrashAbi* crash_abi(const GuestAbi& abi) {
  switch (abi.elf_machine) {
    case EM_AARCH64: return &kCrashA64;
    case EM_386: return &kCrashI386;
    case EM_X86_64: return &kCrashX86_64;
    default: return nullptr;
  }
}

}  // namespace kiln::user
