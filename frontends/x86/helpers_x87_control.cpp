// x87 control instructions: environment and state images, control word.
#include "frontends/x86/helpers_x87.h"
#include "frontends/x86/helpers_x87_guest.h"
#include "frontends/x86/helpers_x87_quick.h"
#include "frontends/x86/x86.h"

namespace kiln::x86 {

using ir::CpuState;
using ir::Helper;
using ir::Type;

namespace x87 {
namespace {

/// FNSTENV's image in protected mode (SDM vol. 1, figures 8-9 and 8-11): seven words of 4 or 2 bytes. Not yet: real
/// mode and VM86 have formats of their own.
constexpr unsigned env_bytes(unsigned operand_bytes) { return operand_bytes == 2 ? 14 : 28; }
constexpr unsigned kMaxImage = 28 + 80;

void put_env(const X86State& s, unsigned operand_bytes, u8* out) {
  const u32 tags = x87_tag_word(s);
  if (operand_bytes == 2) {
    const u16 words[7] = {static_cast<u16>(s.fcw), static_cast<u16>(fsw_of(s)), static_cast<u16>(tags), static_cast<u16>(s.fip),
                          static_cast<u16>(s.fcs), static_cast<u16>(s.fdp),     static_cast<u16>(s.fds)};
    std::memcpy(out, words, sizeof words);
    return;
  }
  constexpr u32 kOnes = 0xffff0000;
  const u32 words[7] = {
      s.fcw | kOnes,           fsw_of(s) | kOnes,       tags | kOnes, static_cast<u32>(s.fip), (s.fcs & 0xffff) | s.fop << 16,
      static_cast<u32>(s.fdp), (s.fds & 0xffff) | kOnes};
  std::memcpy(out, words, sizeof words);
}
void get_env(X86State& s, unsigned operand_bytes, const u8* in) {
  u32 words[7];
  if (operand_bytes == 2) {
    u16 narrow[7];
    std::memcpy(narrow, in, sizeof narrow);
    for (unsigned i = 0; i < 7; ++i) words[i] = narrow[i];
  } else {
    std::memcpy(words, in, sizeof words);
  }
  set_fsw(s, words[1]);
  s.ftw = x87_abridged_tags(words[2]);
  s.fip = words[3];
  s.fcs = words[4] & 0xffff;
  s.fop = words[4] >> 16 & 0x7ff;
  s.fdp = words[5];
  s.fds = words[6] & 0xffff;
  x87_set_control(s, words[0]);
}

void put_registers(const X86State& s, u8* out) {
  for (unsigned i = 0; i < 8; ++i) std::memcpy(out + 10 * i, &s.st[physical(s, i)], 10);
}
void get_registers(X86State& s, const u8* in) {
  for (unsigned i = 0; i < 8; ++i) std::memcpy(&x87_st(s, i), in + 10 * i, 10);
}

void fldenv(CpuState* cpu, u64 address, u32 operand_bytes) {
  X86State& s = state_of(cpu);
  x87_wait(s);
  u8 image[kMaxImage];
  copy_from_guest(image, address, env_bytes(operand_bytes));
  get_env(s, operand_bytes, image);
}
void fnstenv(CpuState* cpu, u64 address, u32 operand_bytes) {
  X86State& s = state_of(cpu);
  u8 image[kMaxImage];
  put_env(s, operand_bytes, image);
  copy_to_guest(address, image, env_bytes(operand_bytes));
  x87_set_control(s, s.fcw | kFswExceptions);
}
void frstor(CpuState* cpu, u64 address, u32 operand_bytes) {
  X86State& s = state_of(cpu);
  x87_wait(s);
  u8 image[kMaxImage];
  copy_from_guest(image, address, env_bytes(operand_bytes) + 80);
  get_env(s, operand_bytes, image);
  get_registers(s, image + env_bytes(operand_bytes));
}
void fnsave(CpuState* cpu, u64 address, u32 operand_bytes) {
  X86State& s = state_of(cpu);
  u8 image[kMaxImage];
  put_env(s, operand_bytes, image);
  put_registers(s, image + env_bytes(operand_bytes));
  copy_to_guest(address, image, env_bytes(operand_bytes) + 80);
  x87_reset(s);
}
void fldcw(CpuState* cpu, u32 value) { x87_set_control(state_of(cpu), value); }
u32 fnstsw(CpuState* cpu) { return fsw_of(state_of(cpu)); }
void fninit(CpuState* cpu) { x87_reset(state_of(cpu)); }

template <class F>
Helper state_helper(const char* name, F* function, u32 effects) {
  return {name, address_of(function), Type::Void, {Type::I64, Type::I32}, kX87Effects | effects};
}

}  // namespace
}  // namespace x87

const Helper kFldcw = {"x87_fldcw", x87::address_of(x87::fldcw), Type::Void, {Type::I32}, ir::READS_STATE | ir::WRITES_STATE};
const Helper kFninit = {"x87_fninit", x87::address_of(x87::fninit), Type::Void, {}, ir::READS_STATE | ir::WRITES_STATE};
const Helper kFnstsw = {"x87_fnstsw", x87::address_of(x87::fnstsw), Type::I32, {}, ir::READS_STATE};
const Helper kX87State[4] = {
    x87::state_helper("x87_fldenv", x87::fldenv, 0), x87::state_helper("x87_fnstenv", x87::fnstenv, ir::WRITES_MEM),
    x87::state_helper("x87_frstor", x87::frstor, 0), x87::state_helper("x87_fnsave", x87::fnsave, ir::WRITES_MEM)};

void fsave_image(const X86State& state, u8* out) {
  x87::put_env(state, 4, out);
  x87::put_registers(state, out + 28);
}
void frstor_image(X86State& state, const u8* in) {
  x87::get_env(state, 4, in);
  x87::get_registers(state, in + 28);
}

}  // namespace kiln::x86
