// The instruction files in the tiers, through the engine: the instruction, then a breakpoint.
#include <asm/prctl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>

#include "jit/engine/engine.h"
#include "tests/frontends/instruction_test.h"

namespace kiln::test {

namespace {

using jit::TierChoice;

constexpr u32 kStop = 0xd43fffe0;  // brk #0xffff

struct Space : jit::AddressSpace {
  ir::CodeSource* code = nullptr;
  HostAddr memory_base = 0;
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override { return code->fetch(pc, out, size); }
  HostAddr base() const override { return memory_base; }
  // Nothing writes to code behind the engine's back here.
  void protect_code(GuestAddr) override {}
  void unprotect_code(GuestAddr) override {}
};

void copy_guest(arm::A64State& to, const arm::A64State& from) {
  std::memcpy(to.x, from.x, sizeof to.x);
  std::memcpy(to.v, from.v, sizeof to.v);
  to.tpidr_el0 = from.tpidr_el0;
  to.tpidrro_el0 = from.tpidrro_el0;
  to.fpcr = from.fpcr;
  to.fpsr = from.fpsr;
  to.exclusive_address = from.exclusive_address;
  to.exclusive_value[0] = from.exclusive_value[0];
  to.exclusive_value[1] = from.exclusive_value[1];
  to.pc = from.pc;
  to.flags_kind = from.flags_kind;
  to.flags_a = from.flags_a;
  to.flags_b = from.flags_b;
  to.mxcsr = from.mxcsr;
  ir::change_mode(&to, from.mode);
}

// Alignment checks leave generated code by a trapping instruction: the owner's handler hands it to the engine.
thread_local jit::Engine* fault_engine;
thread_local ir::CpuState* fault_cpu;

void on_segv(int, siginfo_t* info, void* context) {
  if (fault_engine && fault_engine->handle_fault(fault_cpu, info, context, 0)) return;
  signal(SIGSEGV, SIG_DFL);
}

class Runner {
 public:
  explicit Runner(TierChoice tier) {
    struct sigaction action = {};
    action.sa_sigaction = on_segv;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigaction(SIGSEGV, &action, nullptr);
    config_.tier = tier;
    config_.log = &log_;
    config_.hot_threshold = 1;
    config_.synchronous_tier2 = true;
  }
  ~Runner() {
    if (cpu_) engine_->destroy_cpu(cpu_);
    fault_engine = nullptr;
  }
  void operator()(ir::CodeSource& code, arm::A64State* s) {
    const GuestAddr pc = s->pc;
    space_.code = &code;
    if (!engine_) {
      space_.memory_base = s->memory_base;
      engine_ = std::make_unique<jit::Engine>(config_, arm::kA64, space_);
      cpu_ = static_cast<arm::A64State*>(engine_->create_cpu());
      syscall(SYS_arch_prctl, ARCH_SET_GS, s->memory_base);
      fault_engine = engine_.get();
      fault_cpu = cpu_;
    }
    std::memcpy(reinterpret_cast<void*>(s->memory_base + pc + 4), &kStop, 4);
    engine_->invalidate(pc, 8);
    copy_guest(*cpu_, *s);
    engine_->run(cpu_);
    copy_guest(*s, *cpu_);
    // Only an exit at the instruction itself is its own.
    s->exit_kind = s->pc == pc ? cpu_->exit_kind : 0;
    s->exit_value = cpu_->exit_value;
  }

 private:
  Log log_;
  jit::EngineConfig config_;
  Space space_;
  std::unique_ptr<jit::Engine> engine_;
  arm::A64State* cpu_ = nullptr;
};

const char* tier_name(TierChoice tier) {
  switch (tier) {
    case TierChoice::Interp: return "interp";
    case TierChoice::One: return "tier1";
    case TierChoice::Two: return "tier2";
    default: return "auto";
  }
}

class A64Tiers : public ::testing::TestWithParam<std::tuple<TierChoice, const char*>> {};

TEST_P(A64Tiers, File) {
  const auto [tier, file] = GetParam();
  Runner runner(tier);
  EXPECT_GT(run_instruction_file(std::string(KILN_TEST_DATA) + "/" + file,
                                 [&](ir::CodeSource& code, arm::A64State* s) { runner(code, s); }),
            0u);
}

/// KILN_A64_CASES=file: more cases, e.g. a long run of make_cases.py.
class A64MoreTiers : public ::testing::TestWithParam<TierChoice> {};

TEST_P(A64MoreTiers, FromEnvironment) {
  const char* path = std::getenv("KILN_A64_CASES");
  if (!path) GTEST_SKIP() << "KILN_A64_CASES is not set";
  Runner runner(GetParam());
  run_instruction_file(path, [&](ir::CodeSource& code, arm::A64State* s) { runner(code, s); });
}

INSTANTIATE_TEST_SUITE_P(Tiers, A64MoreTiers, ::testing::Values(TierChoice::One, TierChoice::Two),
                         [](const auto& info) { return std::string(tier_name(info.param)); });

INSTANTIATE_TEST_SUITE_P(Files, A64Tiers,
                         ::testing::Combine(::testing::Values(TierChoice::Interp, TierChoice::One, TierChoice::Two),
                                            ::testing::Values("a64_base.txt", "a64_control.txt", "a64_fp_status.txt",
                                                              "a64_simd.txt")),
                         [](const auto& info) {
                           const std::string name = std::get<1>(info.param);
                           return std::string(tier_name(std::get<0>(info.param))) + "_" + name.substr(4, name.find('.') - 4);
                         });

}  // namespace
}  // namespace kiln::test
