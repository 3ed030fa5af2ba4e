// The engine on a toy guest: dispatch, chaining, tier-up, faults, invalidation, eviction, interrupts, threads; in every tier.
#include "jit/engine/engine.h"

#include <asm/prctl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "tests/jit/engine/toy_guest.h"

#if __has_feature(thread_sanitizer)
// The handlers here are for faults of generated code, which hold up nobody inside malloc().
extern "C" const char* __tsan_default_options() { return "report_signal_unsafe=0"; }
#endif

namespace kiln::test {
namespace {

using ir::ExitKind;
using jit::Engine;
using jit::EngineConfig;
using jit::TierChoice;

thread_local Engine* fault_engine;
thread_local ir::CpuState* fault_cpu;

thread_local char* written_page;  // protected as if code had been translated from it
constexpr GuestAddr kWrittenPage = 0x80000;

void on_segv(int, siginfo_t* info, void* context) {
  if (written_page != nullptr && align_down(reinterpret_cast<u64>(info->si_addr), 4096) == reinterpret_cast<u64>(written_page)) {
    mprotect(written_page, 4096, PROT_READ | PROT_WRITE);
    return fault_engine->written(kWrittenPage);
  }
  if (fault_engine != nullptr && fault_engine->handle_fault(fault_cpu, info, context, 0)) return;
  signal(SIGSEGV, SIG_DFL);
}

class EngineTest : public testing::TestWithParam<TierChoice> {
 protected:
  void SetUp() override {
    struct sigaction action = {};
    action.sa_sigaction = on_segv;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    config.tier = GetParam();
    config.log = &log;
    config.hot_threshold = 50;
    config.synchronous_tier2 = GetParam() == TierChoice::Two;
  }
  ToyState* make_cpu(Engine& engine, GuestAddr pc) {
    auto* cpu = static_cast<ToyState*>(engine.create_cpu());
    cpu->pc = pc;
    enter_thread(engine, cpu);
    return cpu;
  }
  void enter_thread(Engine& engine, ir::CpuState* cpu) {
    syscall(SYS_arch_prctl, ARCH_SET_GS, memory.base());
    fault_engine = &engine;
    fault_cpu = cpu;
  }
  /// r1 counts to r2, summing into r3; then syscall 7.
  void put_loop(GuestAddr at) {
    memory.put(at, {toy(kAddImm, 1, 1, 1), toy(kAdd, 3, 3, 1), toy(kBranchNotEqual, 1, 2, -2), toy(kSyscall, 7)});
  }
  Log log;
  EngineConfig config;
  ToyMemory memory;
};

TEST_P(EngineTest, LoopEndsWithExactState) {
  Engine engine(config, kToyGuest, memory);
  put_loop(0x1000);
  ToyState* cpu = make_cpu(engine, 0x1000);
  cpu->r[2] = 100000;
  EXPECT_EQ(engine.run(cpu), ExitKind::Syscall);
  EXPECT_EQ(cpu->pc, 0x100cu);
  EXPECT_EQ(cpu->exit_value, 7u);
  EXPECT_EQ(cpu->r[3], 100000ull * 100001 / 2);
  engine.destroy_cpu(cpu);
}

TEST_P(EngineTest, CallsAndReturns) {
  Engine engine(config, kToyGuest, memory);
  // r1 += 1; call double (r3 = r3 + r1); loop
  memory.put(0x1000, {toy(kAddImm, 1, 1, 1), toy(kCall, 15, 0, 3), toy(kBranchNotEqual, 1, 2, -2), toy(kSyscall, 1),
                      toy(kAdd, 3, 3, 1), toy(kReturn, 15)});
  ToyState* cpu = make_cpu(engine, 0x1000);
  cpu->r[2] = 50000;
  EXPECT_EQ(engine.run(cpu), ExitKind::Syscall);
  EXPECT_EQ(cpu->r[3], 50000ull * 50001 / 2);
  engine.destroy_cpu(cpu);
}

TEST_P(EngineTest, FaultInHotLoopIsExact) {
  Engine engine(config, kToyGuest, memory);
  // r4 += 8 (pointer), r5 += 3, load r6 = [r4 + 0], r7 = r7 + r6, loop for ever: faults at the end of memory
  memory.put(0x1000, {toy(kAddImm, 4, 4, 8), toy(kAddImm, 5, 5, 3), toy(kLoad, 6, 4, 0), toy(kAdd, 7, 7, 6),
                      toy(kBranchNotEqual, 1, 2, -4)});
  ToyState* cpu = make_cpu(engine, 0x1000);
  cpu->r[2] = 1;
  cpu->r[4] = ToyMemory::kBytes / 2;
  EXPECT_EQ(engine.run(cpu), ExitKind::Fault);
  EXPECT_EQ(cpu->pc, 0x1008u);
  EXPECT_EQ(cpu->exit_value, ToyMemory::kBytes);
  EXPECT_EQ(cpu->r[4], ToyMemory::kBytes);
  EXPECT_EQ(cpu->r[5], 3 * ((ToyMemory::kBytes / 2) / 8));
  engine.destroy_cpu(cpu);
}

TEST_P(EngineTest, TrapsInHotLoopAreExact) {
  for (const ToyOp op : {kTrapIfZero, kRaiseIfZero}) {
    Engine engine(config, kToyGuest, memory);
    // r4 -= 1, r5 += 3, trap if r4 is 0, r6 += 1, loop for ever
    memory.put(0x1000, {toy(kAddImm, 4, 4, -1), toy(kAddImm, 5, 5, 3), toy(op, 0, 4), toy(kAddImm, 6, 6, 1),
                        toy(kBranchNotEqual, 1, 2, -4)});
    ToyState* cpu = make_cpu(engine, 0x1000);
    cpu->r[2] = 1;
    for (u64 count : {3u, 1000u, 50000u}) {
      cpu->pc = 0x1000;
      cpu->r[4] = count;
      cpu->r[5] = cpu->r[6] = 0;
      EXPECT_EQ(engine.run(cpu), ExitKind::Trap);
      EXPECT_EQ(cpu->exit_value, op == kTrapIfZero ? 42u : 43u);
      EXPECT_EQ(cpu->pc, 0x1008u);
      EXPECT_EQ(cpu->r[4], 0u);
      EXPECT_EQ(cpu->r[5], 3 * count);
      EXPECT_EQ(cpu->r[6], count - 1);
    }
    engine.destroy_cpu(cpu);
  }
}

TEST_P(EngineTest, ChangedCodeIsSeenAfterInvalidate) {
  Engine engine(config, kToyGuest, memory);
  put_loop(0x1000);
  ToyState* cpu = make_cpu(engine, 0x1000);
  for (int round = 1; round <= 5; ++round) {
    memory.put(0x1000, {toy(kAddImm, 1, 1, round)});
    engine.invalidate(0x1000, 4);
    cpu->pc = 0x1000;
    cpu->r[1] = cpu->r[3] = 0;
    cpu->r[2] = 6000u * static_cast<u64>(round);
    EXPECT_EQ(engine.run(cpu), ExitKind::Syscall);
    EXPECT_EQ(cpu->r[3], static_cast<u64>(round) * 6000u * 6001u / 2) << round;
  }
  engine.destroy_cpu(cpu);
}

TEST_P(EngineTest, InterruptBreaksEndlessLoop) {
  Engine engine(config, kToyGuest, memory);
  put_loop(0x1000);
  ToyState* cpu = make_cpu(engine, 0x1000);
  cpu->r[2] = 0;
  cpu->r[1] = 1;
  std::thread other([&] {
    usleep(30000);
    __atomic_store_n(&cpu->interrupt, 1, __ATOMIC_RELEASE);
  });
  EXPECT_EQ(engine.run(cpu), ExitKind::Interrupt);
  other.join();
  EXPECT_EQ(cpu->pc, 0x1000u);
  // r3 = sum 2..r1: the state is that of a block boundary
  EXPECT_EQ(cpu->r[3], cpu->r[1] * (cpu->r[1] + 1) / 2 - 1);
  engine.destroy_cpu(cpu);
}

TEST_P(EngineTest, UndefinedAndUnfetchable) {
  Engine engine(config, kToyGuest, memory);
  memory.put(0x1000, {toy(static_cast<ToyOp>(99))});
  ToyState* cpu = make_cpu(engine, 0x1000);
  EXPECT_EQ(engine.run(cpu), ExitKind::Undefined);
  EXPECT_EQ(cpu->pc, 0x1000u);
  cpu->pc = ToyMemory::kBytes * 8;
  EXPECT_EQ(engine.run(cpu), ExitKind::FetchFault);
  engine.destroy_cpu(cpu);
}

TEST_P(EngineTest, SmallCacheEvictsByGeneration) {
  config.cache_bytes = 1 << 20;
  Engine engine(config, kToyGuest, memory);
  // 40,000 blocks of two instructions, run through twice.
  constexpr GuestAddr kStart = 0x1000;
  constexpr unsigned kBlocks = 40000;
  for (unsigned i = 0; i < kBlocks; ++i)
    memory.put(kStart + i * 8, {toy(kAddImm, 1, 1, 1), toy(kBranchNotEqual, 14, 15, 1)});
  memory.put(kStart + kBlocks * 8, {toy(kSyscall, 2)});
  ToyState* cpu = make_cpu(engine, kStart);
  cpu->r[14] = 1;
  for (int round = 1; round <= 2; ++round) {
    cpu->pc = kStart;
    EXPECT_EQ(engine.run(cpu), ExitKind::Syscall);
    EXPECT_EQ(cpu->r[1], static_cast<u64>(round) * kBlocks);
  }
  engine.destroy_cpu(cpu);
}

// Before they are stitched, long blocks ask for more room than there is at the end of a generation.
TEST_P(EngineTest, LongBlocksAtTheEndOfAGeneration) {
  config.cache_bytes = 1 << 20;
  config.max_block_insns = 120;
  Engine engine(config, kToyGuest, memory);
  constexpr GuestAddr kStart = 0x1000;
  constexpr unsigned kBlocks = 2000, kWords = 120;
  for (unsigned i = 0; i < kBlocks; ++i) {
    for (unsigned k = 0; k < kWords - 1; ++k) memory.put(kStart + (i * kWords + k) * 4, {toy(kLoad, k % 8, 9, 8)});
    memory.put(kStart + (i * kWords + kWords - 1) * 4, {toy(kBranchNotEqual, 14, 15, 1)});
  }
  memory.put(kStart + kBlocks * kWords * 4, {toy(kSyscall, 2)});
  ToyState* cpu = make_cpu(engine, kStart);
  EXPECT_EQ(engine.run(cpu), ExitKind::Syscall);
  EXPECT_EQ(cpu->pc, kStart + kBlocks * kWords * 4);
  engine.destroy_cpu(cpu);
}

TEST_P(EngineTest, FourThreadsWhileOneInvalidates) {
  Engine engine(config, kToyGuest, memory);
  put_loop(0x1000);
  std::atomic<int> wrong{0};
  std::atomic<bool> done{false};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      ToyState* cpu = make_cpu(engine, 0x1000);
      for (int round = 0; round < 200; ++round) {
        cpu->pc = 0x1000;
        cpu->r[1] = cpu->r[3] = 0;
        cpu->r[2] = 3000;
        ExitKind kind;
        while ((kind = engine.run(cpu)) == ExitKind::Interrupt) __atomic_store_n(&cpu->interrupt, 0, __ATOMIC_RELEASE);
        if (kind != ExitKind::Syscall || cpu->r[3] != 3000ull * 3001 / 2) ++wrong;
      }
      engine.destroy_cpu(cpu);
    });
  std::thread invalidator([&] {
    while (!done) {
      engine.invalidate(0x1000, 4096);
      usleep(200);
    }
  });
  for (std::thread& t : threads) t.join();
  done = true;
  invalidator.join();
  EXPECT_EQ(wrong, 0);
}

// A write fault inside generated code wants the engine's lock while an eviction waits for that code to be left.
TEST_P(EngineTest, WriteFaultsWhileGenerationsAreEvicted) {
  config.cache_bytes = 1 << 20;
  Engine engine(config, kToyGuest, memory);
  constexpr GuestAddr kStart = 0x1000;
  constexpr unsigned kBlocks = 30000;
  for (unsigned i = 0; i < kBlocks; ++i)
    memory.put(kStart + i * 8, {toy(kAddImm, 1, 1, 1), toy(kBranchNotEqual, 14, 15, 1)});
  memory.put(kStart + kBlocks * 8, {toy(kSyscall, 2)});
  constexpr GuestAddr kStores = 0x70000;
  memory.put(kStores, {toy(kStore, 1, 4, 0), toy(kAddImm, 1, 1, 1), toy(kBranchNotEqual, 1, 2, -2)});
  char* page = reinterpret_cast<char*>(memory.base() + kWrittenPage);
  std::atomic<bool> done{false};
  std::atomic<ir::CpuState*> writer_cpu{nullptr};
  std::thread writer([&] {
    ToyState* cpu = make_cpu(engine, kStores);
    writer_cpu = cpu;
    written_page = page;
    cpu->r[4] = kWrittenPage;
    while (!done) {
      EXPECT_EQ(engine.run(cpu), ExitKind::Interrupt);
      __atomic_store_n(&cpu->interrupt, 0, __ATOMIC_RELEASE);
      mprotect(page, 4096, PROT_READ);
    }
    engine.destroy_cpu(cpu);
  });
  std::thread protector([&] {
    for (; !done || writer_cpu == nullptr; usleep(100)) mprotect(page, 4096, PROT_READ);
    __atomic_store_n(&writer_cpu.load()->interrupt, 1, __ATOMIC_RELEASE);
  });
  ToyState* cpu = make_cpu(engine, kStart);
  cpu->r[14] = 1;
  for (u64 round = 1; round <= 5; ++round) {
    cpu->pc = kStart;
    ExitKind kind;
    while ((kind = engine.run(cpu)) == ExitKind::Interrupt) __atomic_store_n(&cpu->interrupt, 0, __ATOMIC_RELEASE);
    EXPECT_EQ(kind, ExitKind::Syscall);
    EXPECT_EQ(cpu->r[1], round * kBlocks);
  }
  done = true;
  protector.join();
  writer.join();
  engine.destroy_cpu(cpu);
}

const char* tier_name(const testing::TestParamInfo<TierChoice>& info) {
  static constexpr const char* kNames[] = {"Interp", "One", "Two", "Auto"};
  return kNames[static_cast<int>(info.param)];
}
INSTANTIATE_TEST_SUITE_P(Tiers, EngineTest, testing::Values(TierChoice::Interp, TierChoice::One, TierChoice::Two, TierChoice::Auto),
                         tier_name);

}  // namespace
}  // namespace kiln::test
