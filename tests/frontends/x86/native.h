// One x87 or MMX instruction on the host itself, and the same instruction lifted and interpreted, from the same state.
#pragma once
#include <memory>

#include "frontends/x86/insn.h"
#include "frontends/x86/x86.h"

namespace kiln::x86::test {

/// FNSAVE's image in 32-bit format.
struct SaveImage {
  u32 fcw, fsw, ftw, fip, fcs_fop, fdp, fds;
  u8 st[80];
};
static_assert(sizeof(SaveImage) == 108);

/// What an instruction finds and leaves. Its memory operand is at (%rbx), its integer register is eax or rax.
struct Machine {
  SaveImage fpu{};
  V128 xmm0{};
  u64 rax = 0;
  u32 eflags = 0;
  u32 mxcsr = 0x1f80;
  alignas(64) u8 memory[1024]{};
};

/// Where instructions stand: a page of this process that both ways run from.
class CodePage {
 public:
  CodePage();
  ~CodePage();
  CodePage(const CodePage&) = delete;
  CodePage& operator=(const CodePage&) = delete;
  /// Places the instruction; gives its address.
  const u8* place(std::span<const u8> instruction);
  void run_native(Machine& m) const;

 private:
  u8* page_;
  u8* instruction_ = nullptr;
};

/// A vCPU of 64-bit code in this process' own address space.
class Interpreted {
 public:
  Interpreted();
  /// False if the instruction did not simply complete: exit_kind() and exit_value() say why.
  bool run(const u8* instruction, unsigned length, Machine& m);
  X86State& state() { return *state_; }

 private:
  std::unique_ptr<u8[]> storage_;
  X86State* state_;
  ir::Block block_;
};

}  // namespace kiln::x86::test
