// What a line of a64_*.txt cannot say: where blocks end, and instructions that work together.
#include <gtest/gtest.h>

#include <cstdlib>
#include <vector>

#include "frontends/arm/aarch64.h"
#include "ir/interpreter.h"

namespace kiln::arm {

namespace {

using ir::ExitKind;
using ir::Op;

struct Code : ir::CodeSource {
  GuestAddr start;
  std::vector<u32> words;
  Code(GuestAddr start, std::vector<u32> words) : start(start), words(std::move(words)) {}
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    const GuestAddr end = start + 4 * words.size();
    if (pc < start || pc >= end) return 0;
    size = std::min<std::size_t>(size, end - pc);
    std::memcpy(out, reinterpret_cast<const u8*>(words.data()) + (pc - start), size);
    return size;
  }
};

ir::Block lift(Code& code, GuestAddr pc, unsigned max_insns = 64) {
  ir::Block block;
  kA64.lift(code, pc, 0, {.max_insns = max_insns}, block);
  EXPECT_EQ(ir::verify(block), "") << ir::print(block);
  return block;
}

constexpr u32 kNop = 0xd503201f;

TEST(A64Block, EndsAtThePageEvenIfTheNextIsThere) {
  Code code(0x1ff8, std::vector<u32>(8, kNop));
  const ir::Block block = lift(code, 0x1ff8);
  EXPECT_EQ(block.guest_insns, 2u);
  EXPECT_EQ(block.guest_bytes, 8u);
  EXPECT_EQ(block.insts.back().op, Op::exit_jump_);
  EXPECT_EQ(block.insts.back().imm, 0x2000u);
}

TEST(A64Block, EndsAtTheLimit) {
  Code code(0x1000, std::vector<u32>(8, kNop));
  const ir::Block block = lift(code, 0x1000, 3);
  EXPECT_EQ(block.guest_insns, 3u);
  EXPECT_EQ(block.insts.back().imm, 0x100cu);
}

TEST(A64Block, FetchFaultAndAlignment) {
  Code code(0x1000, {kNop});
  ir::Block block = lift(code, 0x4000);
  ASSERT_EQ(block.insts.size(), 1u);
  EXPECT_EQ(block.insts[0].aux, static_cast<u32>(ExitKind::FetchFault));
  EXPECT_EQ(block.guest_insns, 0u);
  block = lift(code, 0x1002);
  ASSERT_EQ(block.insts.size(), 1u);
  EXPECT_EQ(block.insts[0].aux, static_cast<u32>(ExitKind::Alignment));
}

TEST(A64Block, UndefinedInTheMiddle) {
  Code code(0x1000, {kNop, 0xffffffff});
  const ir::Block block = lift(code, 0x1000);
  EXPECT_EQ(block.insts.back().aux, static_cast<u32>(ExitKind::Undefined));
  EXPECT_EQ(block.insts.back().imm, 0x1004u);
  EXPECT_EQ(block.insts.back().imm2, 0xffffffffu);
}

/// A state, 4 KiB of memory at guest address 0x10000, and blocks run by the interpreter.
struct Machine {
  alignas(64) u8 memory[4096] = {};
  char* raw = static_cast<char*>(std::aligned_alloc(64, align_up(ir::kJumpCacheBytes + sizeof(A64State), 64)));
  A64State* s = reinterpret_cast<A64State*>(raw + ir::kJumpCacheBytes);
  Machine() {
    std::memset(static_cast<void*>(s), 0, sizeof *s);
    kA64.reset(s);
    s->memory_base = reinterpret_cast<u64>(memory) - 0x10000;
  }
  ~Machine() { std::free(raw); }
  Machine(const Machine&) = delete;
  void run(std::vector<u32> words) {
    Code code(0x1000, std::move(words));
    ir::interpret(lift(code, 0x1000), s);
  }
  u64& at(u64 offset) { return *reinterpret_cast<u64*>(memory + offset); }
};

TEST(A64Exclusive, StoreSucceedsOnceAfterLoad) {
  Machine m;
  m.at(0) = 5;
  m.s->x[1] = 0x10000;
  m.s->x[3] = 77;
  m.run({0xc85f7c22, 0xc8047c23, 0xc8057c23});  // ldxr x2,[x1]; stxr w4,x3,[x1]; stxr w5,x3,[x1]
  EXPECT_EQ(m.s->x[2], 5u);
  EXPECT_EQ(m.at(0), 77u);
  EXPECT_EQ(m.s->x[4], 0u);
  EXPECT_EQ(m.s->x[5], 1u);
}

TEST(A64Exclusive, StoreFailsIfMemoryChangedOrAddressDiffers) {
  Machine m;
  m.at(0) = 5;
  m.s->x[1] = 0x10000;
  m.s->x[3] = 77;
  m.s->x[6] = 0x10008;
  m.run({0xc85f7c22, 0xf9000023, 0xc8047c22});  // ldxr x2,[x1]; str x3,[x1]; stxr w4,x2,[x1]
  EXPECT_EQ(m.at(0), 77u);
  EXPECT_EQ(m.s->x[4], 1u);
  m.run({0xc85f7c22, 0xc8047cc3});  // ldxr x2,[x1]; stxr w4,x3,[x6]
  EXPECT_EQ(m.at(8), 0u);
  EXPECT_EQ(m.s->x[4], 1u);
  m.run({0xc85f7c22, 0xd5033f5f, 0xc8047c23});  // ldxr; clrex; stxr
  EXPECT_EQ(m.s->x[4], 1u);
}

TEST(A64Exclusive, NarrowAccessesCompareTheirWidth) {
  Machine m;
  m.at(0) = 0x1122334455667788;
  m.s->x[1] = 0x10000;
  m.s->x[3] = 0xffffffffffffff99;
  m.run({0x085f7c22, 0x08047c23});  // ldxrb w2,[x1]; stxrb w4,w3,[x1]
  EXPECT_EQ(m.s->x[2], 0x88u);
  EXPECT_EQ(m.s->x[4], 0u);
  EXPECT_EQ(m.at(0), 0x1122334455667799u);
}

TEST(A64Exclusive, Pairs) {
  Machine m;
  m.at(0) = 1;
  m.at(8) = 2;
  m.s->x[1] = 0x10000;
  m.s->x[5] = 50;
  m.s->x[6] = 60;
  m.run({0xc87f0c22, 0xc8241825});  // ldxp x2,x3,[x1]; stxp w4,x5,x6,[x1]
  EXPECT_EQ(m.s->x[2], 1u);
  EXPECT_EQ(m.s->x[3], 2u);
  EXPECT_EQ(m.s->x[4], 0u);
  EXPECT_EQ(m.at(0), 50u);
  EXPECT_EQ(m.at(8), 60u);
  m.run({0xc87f0c22, 0xf9000422, 0xc8241825});  // ldxp; str x2,[x1,#8]; stxp
  EXPECT_EQ(m.s->x[4], 1u);
  m.run({0x887f0c22, 0x88241825});  // ldxp w2,w3,[x1]; stxp w4,w5,w6,[x1]
  EXPECT_EQ(m.s->x[4], 0u);
  EXPECT_EQ(m.at(0), u64{60} << 32 | 50);
}

TEST(A64Atomic, CompareAndSwapPair) {
  Machine m;
  m.at(16) = 1;
  m.at(24) = 2;
  m.s->x[1] = 0x10010;
  m.s->x[2] = 1;
  m.s->x[3] = 2;
  m.s->x[4] = 11;
  m.s->x[5] = 22;
  m.run({0x48227c24});  // casp x2,x3,x4,x5,[x1]
  EXPECT_EQ(m.at(16), 11u);
  EXPECT_EQ(m.at(24), 22u);
  EXPECT_EQ(m.s->x[2], 1u);
  EXPECT_EQ(m.s->x[3], 2u);
  m.run({0x48227c24});
  EXPECT_EQ(m.s->x[2], 11u);
  EXPECT_EQ(m.s->x[3], 22u);
  EXPECT_EQ(m.at(16), 11u);
}

TEST(A64Fpcr, RoundingModesAndStickyBitsFollowIntoMxcsr) {
  Machine m;
  set_fpcr(*m.s, 1u << 22);  // towards +infinity
  EXPECT_EQ(m.s->mxcsr & 0x6000, 0x4000u);
  set_fpsr(*m.s, 0x1f);
  EXPECT_EQ(m.s->mxcsr & 0x3f, 0x3du);
  EXPECT_EQ(fpsr_of(*m.s), 0x1fu);
  set_fpcr(*m.s, 1u << 24 | 1u << 25);
  EXPECT_EQ(m.s->mxcsr & 0x8040, 0x40u);  // DAZ; what is tiny the lifted code flushes
  EXPECT_EQ(fpsr_of(*m.s), 0x1fu);
  EXPECT_EQ(m.s->mode, kModeDefaultNan | kModeFlushToZero | kModeInexactSeen);
  set_fpsr(*m.s, 0xf);
  EXPECT_EQ(m.s->mode, kModeDefaultNan | kModeFlushToZero);
  EXPECT_EQ(kA64.mode_of(m.s), m.s->mode);
}

}  // namespace
}  // namespace kiln::arm
