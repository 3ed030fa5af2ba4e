// A guest of our own with a dozen instructions: shows that a guest is data plus a lifter, and lets the engine be tested without one
// of the real frontends. Words are little-endian: op, d, a, b, a byte each.
#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <vector>

#include "ir/builder.h"
#include "ir/guest_desc.h"
#include "jit/engine/engine.h"

namespace kiln::test {

struct ToyState : ir::CpuState {
  u64 r[16];
};

enum ToyOp : u8 { kAdd, kAddImm, kLoad, kStore, kBranchNotEqual, kCall, kReturn, kSyscall, kMultiply, kTrapIfZero, kRaiseIfZero };

constexpr u32 toy(ToyOp op, unsigned d = 0, unsigned a = 0, int b = 0) {
  return u32{op} | d << 8 | a << 16 | static_cast<u32>(b & 255) << 24;
}

inline std::size_t toy_offset(unsigned r) { return offsetof(ToyState, r) + 8 * r; }

inline void toy_raise_if_zero(ir::CpuState* state, u64 value) {
  if (value == 0) ir::raise(state, ir::ExitKind::Trap, 43);
}
inline const ir::Helper kToyRaise{
    "raise_if_zero", reinterpret_cast<const void*>(&toy_raise_if_zero), ir::Type::Void, {ir::Type::I64}, ir::MAY_FAULT};

inline void toy_lift(ir::CodeSource& code, GuestAddr pc, u32 mode, const ir::LiftLimits& limits, ir::Block& out) {
  out.clear();
  out.pc = pc;
  out.mode = mode;
  ir::Builder b(out);
  const auto reg = [&](unsigned r) { return b.get_reg(ir::Type::I64, toy_offset(r & 15)); };
  GuestAddr at = pc;
  const auto finish = [&] {
    out.guest_bytes = static_cast<u32>(at + 4 - pc);
    out.guest_insns = out.guest_bytes / 4;
  };
  for (;; at += 4) {
    u8 w[4];
    if (at != pc && at % 4096 > 4092) {  // across two pages: a block of its own
      b.exit_jump(at);
      at -= 4;
      return finish();
    }
    if (code.fetch(at, w, 4) != 4) {
      if (at == pc) b.exit_exception(ir::ExitKind::FetchFault, pc);
      else b.exit_jump(at);
      at -= 4;
      return finish();
    }
    const GuestAddr relative = at + static_cast<u64>(static_cast<s64>(static_cast<s8>(w[3])) * 4);
    b.insn_start(at, 4);
    switch (w[0]) {
      case kAdd: b.set_reg(toy_offset(w[1]), b.add(reg(w[2]), reg(w[3]))); break;
      case kMultiply: b.set_reg(toy_offset(w[1]), b.mul(reg(w[2]), reg(w[3]))); break;
      case kAddImm: b.set_reg(toy_offset(w[1]), b.add(reg(w[2]), b.i64(static_cast<u64>(s64{static_cast<s8>(w[3])})))); break;
      case kLoad: b.set_reg(toy_offset(w[1]), b.load(ir::Type::I64, reg(w[2]), static_cast<s8>(w[3]), {})); break;
      case kStore: b.store(reg(w[2]), static_cast<s8>(w[3]), reg(w[1]), {}); break;
      case kTrapIfZero: b.trap_if(b.icmp(ir::Op::icmp_eq_, reg(w[2]), b.i64(0)), ir::ExitKind::Trap, 42); break;
      case kRaiseIfZero: b.call(kToyRaise, {reg(w[2])}); break;
      case kBranchNotEqual: b.exit_branch(b.icmp(ir::Op::icmp_ne_, reg(w[1]), reg(w[2])), relative, at + 4); return finish();
      case kCall:
        b.set_reg(toy_offset(w[1]), b.i64(at + 4));
        b.exit_jump(relative, ir::ExitHint::Call, at + 4);
        return finish();
      case kReturn: b.exit_indirect(reg(w[1]), ir::ExitHint::Return); return finish();
      case kSyscall: b.exit_exception(ir::ExitKind::Syscall, at, w[1]); return finish();
      default: b.exit_exception(ir::ExitKind::Undefined, at, w[0]); return finish();
    }
    if ((at + 4) / 4096 != at / 4096 || (at + 4 - pc) / 4 >= limits.max_insns) {
      b.exit_jump(at + 4);
      return finish();
    }
  }
}

#define TOY_SLOT(n) {"r" #n, offsetof(ToyState, r) + 8 * n, ir::Type::I64}
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Winvalid-offsetof"
inline constexpr ir::Slot kToySlots[] = {TOY_SLOT(0),  TOY_SLOT(1),  TOY_SLOT(2),  TOY_SLOT(3), TOY_SLOT(4),  TOY_SLOT(5),
                                         TOY_SLOT(6),  TOY_SLOT(7),  TOY_SLOT(8),  TOY_SLOT(9), TOY_SLOT(10), TOY_SLOT(11),
                                         TOY_SLOT(12), TOY_SLOT(13), TOY_SLOT(14), TOY_SLOT(15)};
#pragma clang diagnostic pop
#undef TOY_SLOT

inline const ir::GuestDesc kToyGuest = {
    .name = "toy",
    .big_endian = false,
    .pointer_bits = 64,
    .insn_alignment = 4,
    .state_size = sizeof(ToyState),
    .slots = kToySlots,
    .nzcv_mask = 0,
    .llvm_triple = "",
    .llvm_features = "",
    .reset = [](ir::CpuState* s) { s->mxcsr = 0x1f80; },
    .mode_of = [](const ir::CpuState*) -> u32 { return 0; },
    .lift = toy_lift,
    .dump = [](const ir::CpuState*) { return std::string(); },
};

/// The same with code that may change without notice.
inline ir::GuestDesc coherent_toy_guest() {
  ir::GuestDesc guest = kToyGuest;
  guest.insn_alignment = 1;
  guest.coherent_icache = true;
  return guest;
}

/// One megabyte of guest memory at guest address 0; every page may be executed.
class ToyMemory : public jit::AddressSpace {
 public:
  static constexpr std::size_t kBytes = 1 << 20;
  ToyMemory()
      : base_(static_cast<u8*>(mmap(nullptr, kBytes * 2, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0))) {
    mprotect(base_ + kBytes, kBytes, PROT_NONE);
  }
  ~ToyMemory() override { munmap(base_, kBytes * 2); }
  void put(GuestAddr at, std::initializer_list<u32> words) {
    for (u32 w : words) {
      std::memcpy(base_ + at, &w, 4);
      at += 4;
    }
  }
  u64 read(GuestAddr at) const {
    u64 v;
    std::memcpy(&v, base_ + at, 8);
    return v;
  }
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    if (pc + size > kBytes) return 0;
    std::memcpy(out, base_ + pc, size);
    return size;
  }
  HostAddr base() const override { return reinterpret_cast<HostAddr>(base_); }
  void protect_code(GuestAddr) override {}
  void unprotect_code(GuestAddr) override {}

 private:
  u8* base_;
};

}  // namespace kiln::test
