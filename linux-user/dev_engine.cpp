// Stand-in for jit/engine: the interpreter in a loop. For bringing linux-user up only; goes when the engine runs.
#include <sys/mman.h>
#include <sys/ucontext.h>

#include <csetjmp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "ir/interpreter.h"
#include "ir/passes/passes.h"
#include "jit/engine/engine.h"

namespace kiln::jit {
bool host_supported(std::string&) { return true; }

struct Engine::Impl {
  EngineConfig config;
  const ir::GuestDesc& guest;
  AddressSpace& memory;
  std::mutex mutex;
  std::map<std::pair<u64, u32>, std::shared_ptr<ir::Block>> blocks;
};
namespace {
thread_local jmp_buf t_jump;
void unwind() { _longjmp(t_jump, 1); }
}  // namespace
Engine::Engine(const EngineConfig& c, const ir::GuestDesc& g, AddressSpace& m) : impl_(new Impl{c, g, m, {}, {}}) {}
Engine::~Engine() = default;
const ir::GuestDesc& Engine::guest() const { return impl_->guest; }
ir::CpuState* Engine::create_cpu() {
  char* p = static_cast<char*>(mmap(nullptr, ir::kJumpCacheBytes + impl_->guest.state_size + 4096, PROT_READ | PROT_WRITE,
                                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  auto* cpu = reinterpret_cast<ir::CpuState*>(p + ir::kJumpCacheBytes);
  impl_->guest.reset(cpu);
  cpu->memory_base = impl_->memory.base();
  cpu->mode = impl_->guest.mode_of(cpu);
  return cpu;
}
void Engine::destroy_cpu(ir::CpuState*) {}
ir::ExitKind Engine::run(ir::CpuState* cpu) {
  for (;;) {
    if (__atomic_load_n(&cpu->interrupt, __ATOMIC_RELAXED)) return ir::ExitKind::Interrupt;
    std::shared_ptr<ir::Block> block;
    {
      std::lock_guard guard(impl_->mutex);
      auto& slot = impl_->blocks[{cpu->pc, cpu->mode}];
      if (!slot) {
        impl_->memory.protect_code(cpu->pc & ~u64{4095});
        slot = std::make_shared<ir::Block>();
        impl_->guest.lift(impl_->memory, cpu->pc, cpu->mode, ir::LiftLimits{}, *slot);
        ir::optimise(*slot);
        if (impl_->config.log->on(kLogIr)) impl_->config.log->write(ir::print(*slot));
      }
      block = slot;
    }
    if (impl_->config.log->on(kLogExec)) {
      char t[64];
      std::snprintf(t, 64, "EXEC: %#lx\n", cpu->pc);
      impl_->config.log->write(t);
    }
    cpu->exit_kind = 0;
    if (_setjmp(t_jump) == 0) {
      cpu->in_code = 1;
      asm volatile("ldmxcsr %0" : : "m"(cpu->mxcsr));
      ir::interpret(*block, cpu);
    }
    asm volatile("stmxcsr %0" : "=m"(cpu->mxcsr));
    const u32 def = 0x1f80;
    asm volatile("ldmxcsr %0" : : "m"(def));
    cpu->in_code = 0;
    if (cpu->exit_kind) return static_cast<ir::ExitKind>(cpu->exit_kind);
  }
}
void Engine::invalidate(GuestAddr start, u64 size) {
  std::lock_guard guard(impl_->mutex);
  impl_->blocks.clear();
}
bool Engine::handle_fault(ir::CpuState* cpu, const siginfo_t* info, void* uc, u32 flags) {
  cpu->exit_kind = static_cast<u32>(ir::ExitKind::Fault);
  cpu->exit_value = reinterpret_cast<u64>(info->si_addr) - impl_->memory.base();
  cpu->exit_aux = flags;
  auto& g = static_cast<ucontext_t*>(uc)->uc_mcontext.gregs;
  g[REG_RIP] = reinterpret_cast<greg_t>(&unwind);
  g[REG_RSP] = ((g[REG_RSP] - 256) & ~15) - 8;
  return true;
}
void Engine::after_fork_child(ir::CpuState*) { impl_->mutex.unlock(); }
void Engine::before_fork() { impl_->mutex.lock(); }
void Engine::after_fork_parent() { impl_->mutex.unlock(); }
EngineStats Engine::stats() const { return {}; }
std::string Engine::stats_text() const { return "dev engine\n"; }
}  // namespace kiln::jit
