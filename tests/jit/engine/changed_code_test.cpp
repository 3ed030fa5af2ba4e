// Code that changes while it runs, for a guest that need not say so: by its own stores, by another thread's, across pages, all the time.
#include <asm/prctl.h>
#include <gtest/gtest.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <mutex>
#include <set>
#include <thread>

#include "tests/jit/engine/toy_guest.h"

namespace kiln::test {
namespace {

using ir::ExitKind;
using jit::Engine;
using jit::EngineConfig;
using jit::TierChoice;

/// Write-protects pages with code, as linux-user does.
class WatchedMemory final : public ToyMemory {
 public:
  void protect_code(GuestAddr page) override {
    const std::lock_guard guard(mutex_);
    protected_.insert(page);
    mprotect(reinterpret_cast<void*>(base() + page), 4096, PROT_READ);
  }
  void unprotect_code(GuestAddr page) override {
    const std::lock_guard guard(mutex_);
    protected_.erase(page);
    mprotect(reinterpret_cast<void*>(base() + page), 4096, PROT_READ | PROT_WRITE);
  }
  std::atomic<unsigned> faults{0};

 private:
  std::mutex mutex_;
  std::set<GuestAddr> protected_;
};

struct Current {
  Engine* engine;
  WatchedMemory* memory;
  ir::CpuState* cpu;
};
thread_local Current current;

void on_segv(int, siginfo_t* info, void* context) {
  const GuestAddr address = reinterpret_cast<HostAddr>(info->si_addr) - current.memory->base();
  if (info->si_code != SI_KERNEL && address < ToyMemory::kBytes) {
    ++current.memory->faults;
    const GuestAddr page = align_down(address, 4096);
    current.memory->unprotect_code(page);
    current.engine->written(page);
    current.engine->leave_changed_code(current.cpu, context);
    return;
  }
  if (!current.engine->handle_fault(current.cpu, info, context, 0)) signal(SIGSEGV, SIG_DFL);
}

struct Way {
  TierChoice tier;
  bool self_check;
};

class ChangedCode : public testing::TestWithParam<Way> {
 protected:
  void SetUp() override {
    struct sigaction action = {};
    action.sa_sigaction = on_segv;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    config.tier = GetParam().tier;
    config.self_check = GetParam().self_check;
    config.log = &log;
    config.hot_threshold = 50;
    config.synchronous_tier2 = GetParam().tier == TierChoice::Two;
  }
  ToyState* make_cpu(Engine& engine, GuestAddr pc) {
    auto* cpu = static_cast<ToyState*>(engine.create_cpu());
    cpu->pc = pc;
    syscall(SYS_arch_prctl, ARCH_SET_GS, memory.base());
    current = {&engine, &memory, cpu};
    return cpu;
  }
  ExitKind run(Engine& engine, ir::CpuState* cpu) {
    for (;;) {
      const ExitKind kind = engine.run(cpu);
      if (kind != ExitKind::Interrupt) return kind;
      __atomic_store_n(&cpu->interrupt, 0, __ATOMIC_RELEASE);
    }
  }
  static u64 two(u32 first, u32 second) { return first | u64{second} << 32; }

  Log log;
  EngineConfig config;
  ir::GuestDesc guest = coherent_toy_guest();
  WatchedMemory memory;
};

TEST_P(ChangedCode, NextInstructionOfTheSameBlock) {
  Engine engine(config, guest, memory);
  const u64 after = two(toy(kAddImm, 1, 1, 5), toy(kAddImm, 2, 2, 7)), before = two(toy(kAddImm, 1, 1, 1), toy(kAddImm, 2, 2, 1));
  memory.put(0x1000, {toy(kStore, 8, 10), toy(kAddImm, 1, 1, 1), toy(kAddImm, 2, 2, 1), toy(kStore, 9, 10), toy(kAddImm, 4, 4, 1),
                      toy(kBranchNotEqual, 4, 5, -5), toy(kSyscall, 1)});
  ToyState* cpu = make_cpu(engine, 0x1000);
  for (const u64 rounds : {1u, 10u, 1000u, 20000u}) {
    cpu->pc = 0x1000;
    cpu->r[1] = cpu->r[2] = cpu->r[4] = 0;
    cpu->r[5] = rounds;
    cpu->r[8] = after;
    cpu->r[9] = before;
    cpu->r[10] = 0x1004;
    ASSERT_EQ(run(engine, cpu), ExitKind::Syscall);
    EXPECT_EQ(cpu->pc, 0x1018u);
    EXPECT_EQ(cpu->r[1], 5 * rounds);
    EXPECT_EQ(cpu->r[2], 7 * rounds);
  }
  EXPECT_LT(memory.faults, 500u);
  engine.destroy_cpu(cpu);
}

TEST_P(ChangedCode, DataOnTheSamePage) {
  Engine engine(config, guest, memory);
  // [r10] += 1 until r4 == r5
  memory.put(0x1000, {toy(kLoad, 6, 10), toy(kAddImm, 6, 6, 1), toy(kStore, 6, 10), toy(kAddImm, 4, 4, 1),
                      toy(kBranchNotEqual, 4, 5, -4), toy(kSyscall, 1)});
  ToyState* cpu = make_cpu(engine, 0x1000);
  cpu->r[5] = 100000;
  cpu->r[10] = 0x1800;
  ASSERT_EQ(run(engine, cpu), ExitKind::Syscall);
  EXPECT_EQ(memory.read(0x1800), 100000u);
  EXPECT_LT(memory.faults, 500u);
  EXPECT_LT(engine.stats().invalidated, 1000u);
  engine.destroy_cpu(cpu);
}

TEST_P(ChangedCode, PageThatComesToRestIsWatchedAgain) {
  Engine engine(config, guest, memory);
  memory.put(0x1000, {toy(kStore, 6, 10), toy(kAddImm, 4, 4, 1), toy(kBranchNotEqual, 4, 5, -2), toy(kSyscall, 1)});
  memory.put(0x1100, {toy(kAddImm, 4, 4, 1), toy(kBranchNotEqual, 4, 5, -1), toy(kSyscall, 1)});
  ToyState* cpu = make_cpu(engine, 0x1000);
  cpu->r[5] = 100;
  cpu->r[10] = 0x1800;
  ASSERT_EQ(run(engine, cpu), ExitKind::Syscall);
  const unsigned faults = memory.faults;
  cpu->pc = 0x1100;
  cpu->r[5] = 100000;
  ASSERT_EQ(run(engine, cpu), ExitKind::Syscall);
  EXPECT_EQ(cpu->r[4], 100000u);
  if (config.tier == TierChoice::Two && !config.self_check) {
    EXPECT_GE(engine.stats().regions, 1u);
  }
  EXPECT_EQ(memory.faults, faults);
  engine.destroy_cpu(cpu);
}

TEST_P(ChangedCode, InstructionAcrossPages) {
  Engine engine(config, guest, memory);
  // At 0x1ffe: r1 += 1, of which two bytes are on the next page, then back.
  memory.put(0x1ffe, {toy(kAddImm, 1, 1, 1), toy(kReturn, 13)});
  memory.put(0x4000, {toy(kReturn, 14), toy(kStore, 8, 10), toy(kReturn, 14), toy(kSyscall, 1)});
  ToyState* cpu = make_cpu(engine, 0x4000);
  u64 five = memory.read(0x2000);
  reinterpret_cast<u8*>(&five)[1] = 5;
  for (int round = 0; round < 100; ++round) {
    u64 one = five;
    reinterpret_cast<u8*>(&one)[1] = 1;
    memory.unprotect_code(0x2000);
    engine.written(0x2000);
    std::memcpy(reinterpret_cast<void*>(memory.base() + 0x2000), &one, 8);
    cpu->r[1] = 0;
    cpu->r[8] = five;
    cpu->r[10] = 0x2000;
    cpu->r[14] = 0x1ffe;
    cpu->r[13] = 0x4004;
    cpu->pc = 0x4000;
    // The second call returns to the syscall.
    memory.unprotect_code(0x4000);
    engine.written(0x4000);
    memory.put(0x4004, {toy(kStore, 8, 10), toy(kAddImm, 13, 13, 12), toy(kReturn, 14), toy(kSyscall, 1)});
    ASSERT_EQ(run(engine, cpu), ExitKind::Syscall) << round;
    ASSERT_EQ(cpu->r[1], 6u) << round;
  }
  engine.destroy_cpu(cpu);
}

TEST_P(ChangedCode, AnotherThreadSeesOldOrNew) {
  if (config.self_check) GTEST_SKIP() << "self-check compares single threads only";
  Engine engine(config, guest, memory);
  // The function: r1 += k, r2 += k. The caller: call it until r4 == r5.
  memory.put(0x2000, {toy(kAddImm, 1, 1, 1), toy(kAddImm, 2, 2, 1), toy(kReturn, 15)});
  memory.put(0x1f00, {toy(kCall, 15, 0, 64), toy(kAddImm, 4, 4, 1), toy(kBranchNotEqual, 4, 5, -2), toy(kSyscall, 1)});
  // The writer: stores r8, then r9, until r4 == r5.
  memory.put(0x5000, {toy(kStore, 8, 10), toy(kStore, 9, 10), toy(kAddImm, 4, 4, 1), toy(kBranchNotEqual, 4, 5, -3), toy(kSyscall, 2)});
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 2; ++t)
    threads.emplace_back([&] {
      ToyState* cpu = make_cpu(engine, 0x1f00);
      for (int round = 0; round < 200; ++round) {
        cpu->pc = 0x1f00;
        cpu->r[1] = cpu->r[2] = cpu->r[4] = 0;
        cpu->r[5] = 3000;
        if (run(engine, cpu) != ExitKind::Syscall || cpu->r[1] != cpu->r[2] || cpu->r[1] < 3000 || cpu->r[1] > 15000) ++wrong;
      }
      engine.destroy_cpu(cpu);
    });
  threads.emplace_back([&] {
    ToyState* cpu = make_cpu(engine, 0x5000);
    cpu->r[5] = 20000;
    cpu->r[8] = two(toy(kAddImm, 1, 1, 5), toy(kAddImm, 2, 2, 5));
    cpu->r[9] = two(toy(kAddImm, 1, 1, 1), toy(kAddImm, 2, 2, 1));
    cpu->r[10] = 0x2000;
    if (run(engine, cpu) != ExitKind::Syscall) ++wrong;
    engine.destroy_cpu(cpu);
  });
  for (std::thread& t : threads) t.join();
  EXPECT_EQ(wrong, 0);
}

std::string way_name(const testing::TestParamInfo<Way>& info) {
  static constexpr const char* kNames[] = {"Interp", "One", "Two", "Auto"};
  return std::string(kNames[static_cast<int>(info.param.tier)]) + (info.param.self_check ? "Checked" : "");
}
INSTANTIATE_TEST_SUITE_P(Tiers, ChangedCode,
                         testing::Values(Way{TierChoice::Interp, false}, Way{TierChoice::One, false}, Way{TierChoice::Two, false},
                                         Way{TierChoice::Auto, false}, Way{TierChoice::One, true}, Way{TierChoice::Two, true}),
                         way_name);

}  // namespace
}  // namespace kiln::test
