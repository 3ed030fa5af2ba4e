// Register sets as ptrace gives them, from and to the guest's state.
#include <elf.h>

#include <cstring>

#include "frontends/arm/aarch64.h"
#include "linux-user/abi_x86.h"
#include "linux-user/crash/crash_abi.h"
#include "linux-user/descriptors_x86.h"
#include "linux-user/ptrace/tracee.h"

namespace kiln::user {
namespace {

using x86::X86State;

void add_set(TraceBox& box, u32 type, const void* data, std::size_t size) {
  u32 at = 0;
  if (box.set_count > 0) {
    const TraceSet& last = box.sets[box.set_count - 1];
    at = static_cast<u32>(align_up(u64{last.at} + last.size, 16));
  }
  if (box.set_count == std::size(box.sets) || at + size > sizeof box.data) return;
  std::memcpy(box.data + at, data, size);
  box.sets[box.set_count++] = {type, static_cast<u32>(size), at, 0};
}

template <class T>
T get(const u8*& from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  from += sizeof value;
  return value;
}

u32 mixed_eflags(const X86State& s, u32 fresh) { return (x86::eflags_of(s) & ~kFrameEflags) | (fresh & kFrameEflags); }

void take_a64(arm::A64State& s, u32 type, const u8* data, s64& number) {
  switch (type) {
    case NT_PRSTATUS: {
      std::memcpy(s.x, data, sizeof s.x);
      const u8* rest = data + sizeof s.x;
      s.pc = get<u64>(rest);
      arm::set_nzcv(s, static_cast<u32>(get<u64>(rest)) & 0xf0000000);
      break;
    }
    case NT_PRFPREG: {
      std::memcpy(s.v, data, sizeof s.v);
      const u8* rest = data + sizeof s.v;
      arm::set_fpsr(s, get<u32>(rest));
      arm::set_fpcr(s, get<u32>(rest));
      break;
    }
    case NT_ARM_TLS: s.tpidr_el0 = get<u64>(data); break;
    case NT_ARM_SYSTEM_CALL: number = get<s32>(data); break;
    default: break;
  }
}

void take_x86_64(X86State& s, const u8* data, s64& number) {
  for (const x86::Gpr r : {x86::R15, x86::R14, x86::R13, x86::R12, x86::RBP, x86::RBX, x86::R11, x86::R10, x86::R9, x86::R8,
                           x86::RAX, x86::RCX, x86::RDX, x86::RSI, x86::RDI})
    s.r[r] = get<u64>(data);
  number = static_cast<s32>(get<u64>(data));  // Linux takes 32 bits of it
  s.pc = get<u64>(data);
  get<u64>(data);  // cs: there is no other
  x86::set_eflags(s, mixed_eflags(s, static_cast<u32>(get<u64>(data))));
  s.r[x86::RSP] = get<u64>(data);
  get<u64>(data);  // ss
  const u64 fs_base = get<u64>(data), gs_base = get<u64>(data);
  for (const x86::Seg r : {x86::DS, x86::ES}) get<u64>(data), static_cast<void>(r);
  const u32 fs = static_cast<u32>(get<u64>(data)), gs = static_cast<u32>(get<u64>(data));
  x86::set_segment(s, x86::FS, fs & 0xffff, fs_base);
  x86::set_segment(s, x86::GS, gs & 0xffff, gs_base);
}

void take_i386(X86State& s, const u8* data, s64& number) {
  for (const x86::Gpr r : {x86::RBX, x86::RCX, x86::RDX, x86::RSI, x86::RDI, x86::RBP, x86::RAX}) s.r[r] = get<u32>(data);
  for (const x86::Seg r : {x86::DS, x86::ES, x86::FS, x86::GS}) {
    const u32 selector = get<u32>(data) & 0xffff;
    if (selector != (s.selector[r] & 0xffff)) x86::load_user_segment(s, r, selector);
  }
  number = get<s32>(data);
  s.pc = get<u32>(data);
  get<u32>(data);  // cs
  x86::set_eflags(s, mixed_eflags(s, get<u32>(data)));
  s.r[x86::RSP] = get<u32>(data);
}

}  // namespace

void put_trace_sets(TraceBox& box, const GuestAbi& abi, const ir::CpuState* cpu, s64 number) {
  box.set_count = 0;
  const CrashAbi* format = crash_abi(abi);
  if (format == nullptr) return;
  const std::string general = format->general(cpu, number);
  add_set(box, NT_PRSTATUS, general.data(), general.size());
  for (const CoreNote& note : format->notes(cpu)) add_set(box, note.type, note.data.data(), note.data.size());
  if (abi.elf_machine == EM_AARCH64) {
    const s32 call = static_cast<s32>(number);
    add_set(box, NT_ARM_SYSTEM_CALL, &call, sizeof call);
  }
  if (abi.elf_machine == EM_386) {
    const auto& s = *static_cast<const X86State*>(cpu);
    UserDesc entries[3];
    for (u32 n = 0; n < 3; ++n) entries[n] = describe(x86::kFirstTlsEntry + n, s.gdt_tls[n]);
    add_set(box, NT_386_TLS, entries, sizeof entries);
  }
}

void take_trace_sets(TraceBox& box, Thread& thread, s64& number) {
  const GuestAbi& abi = *thread.process->abi;
  for (u32 n = 0; n < box.set_count; ++n) {
    TraceSet& set = box.sets[n];
    if (!std::exchange(set.changed, 0)) continue;
    const u8* data = box.data + set.at;
    if (abi.elf_machine == EM_AARCH64) {
      take_a64(*static_cast<arm::A64State*>(thread.cpu), set.type, data, number);
      continue;
    }
    X86State& s = *static_cast<X86State*>(thread.cpu);
    const bool wide = abi.elf_machine == EM_X86_64;
    switch (set.type) {
      case NT_PRSTATUS:
        if (wide) take_x86_64(s, data, number);
        else take_i386(s, data, number);
        break;
      case NT_PRFPREG:
        if (wide) x86::fxrstor_image(s, true, data);
        else x86::frstor_image(s, data);
        break;
      case NT_PRXFPREG: x86::fxrstor_image(s, false, data); break;
      case NT_X86_XSTATE: x86::xrstor_image(s, data); break;
      default: break;
    }
  }
}

}  // namespace kiln::user
