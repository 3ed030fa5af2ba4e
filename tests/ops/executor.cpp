#include "tests/ops/executor.h"

#include <asm/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "jit/engine/recover.h"
#include "jit/llvm/tier2.h"
#include "jit/stencil/tier1.h"

namespace kiln::test {

using namespace ir;

namespace {

const GuestDesc& test_guest() {
  static const std::vector<Slot> slots = [] {
    static constexpr const char* kNames[] = {"0", "1", "2", "3", "4", "5", "6", "7"};
    std::vector<Slot> all;
    for (unsigned i = 0; i < 8; ++i) all.push_back({kNames[i], static_cast<u32>(x_offset(i)), Type::I64});
    for (unsigned i = 0; i < 4; ++i) all.push_back({kNames[i], static_cast<u32>(w_offset(i)), Type::I32});
    for (unsigned i = 0; i < 6; ++i) all.push_back({kNames[i], static_cast<u32>(v_offset(i)), Type::V128});
    return all;
  }();
  static const GuestDesc guest = [] {
    GuestDesc g{};
    g.name = "test";
    g.pointer_bits = 64;
    g.insn_alignment = 4;
    g.state_size = sizeof(TestState);
    g.slots = slots;
    return g;
  }();
  return guest;
}

/// Code memory with two mappings, as the engine has it. Everything in it is thrown away with the next block.
class Arena {
 public:
  Arena() {
    const int fd = static_cast<int>(syscall(SYS_memfd_create, "code", 0));
    if (ftruncate(fd, kBytes) != 0) std::abort();
    writable_ = static_cast<u8*>(mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
    executable_ = reinterpret_cast<HostAddr>(mmap(nullptr, kBytes, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
    close(fd);
  }
  ~Arena() {
    munmap(writable_, kBytes);
    munmap(reinterpret_cast<void*>(executable_), kBytes);
  }
  void reset() { used_ = 0; }
  HostAddr next() { return executable_ + (used_ = align_up(used_, 64)); }
  jit::CodeMemory allocate(std::size_t size) {
    used_ = align_up(used_, 64);
    if (used_ + size > kBytes) return {};
    jit::CodeMemory memory{writable_ + used_, executable_ + used_, size};
    used_ += size;
    return memory;
  }

 private:
  static constexpr std::size_t kBytes = 4 << 20;
  u8* writable_ = nullptr;
  HostAddr executable_ = 0;
  std::size_t used_ = 0;
};

/// Traps of tier 1 end in a fault in its code: where, with which registers.
thread_local struct {
  TestState* state = nullptr;  // of the machine that runs
  bool hit = false;
  jit::host::FaultRegisters registers;
} fault;

void on_fault(int, siginfo_t*, void* context) {
  if (fault.state == nullptr) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  fault.hit = true;
  jit::host::save_registers(context, fault.registers);
  jit::host::resume_at(context, jit::host::fault_leave_address(), fault.state);
}

void enter(Machine& machine, HostAddr code) {
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  fault.state = machine.state;
  fault.hit = false;
  TestState* state = machine.state;
  syscall(SYS_arch_prctl, ARCH_SET_GS, state->memory_base);
  observe_into(&machine);
  state->exit_kind = 0;
  jit::host::enter_code(state, code);
  observe_into(nullptr);
  fault.state = nullptr;
  // Unchained exits and look-up misses are jumps to the interpreter.
  const auto kind = static_cast<ExitKind>(state->exit_kind);
  if (kind == ExitKind::Chain || kind == ExitKind::Miss) state->exit_kind = 0;
}

class Interpreter final : public Executor {
 public:
  const char* name() const override { return "interpreter"; }
  std::string run(const Block& block, Machine& machine) override {
    run_interpreter(block, machine);
    return {};
  }
};

class Tier1 final : public Executor {
 public:
  const char* name() const override { return "tier 1"; }
  std::string run(const Block& block, Machine& machine) override {
    arena_.reset();
    jit::Tier1Options options;
    options.code_address = arena_.next();
    options.runtime.leave = jit::host::leave_address();
    options.runtime.lookup_miss = jit::host::lookup_miss_address();
    options.poll = false;
    const jit::Tier1Code code = jit::stitch(block, test_guest(), options, false);
    const jit::Tier1Code again = jit::stitch(block, test_guest(), options, true);
    if (again.bytes != code.bytes) return "recording changes the code";
    const jit::CodeMemory memory = arena_.allocate(code.bytes.size());
    if (memory.writable == nullptr) return "code does not fit";
    std::memcpy(memory.writable, code.bytes.data(), code.bytes.size());
    fell_back_ = code.fallback_ops != 0;
    enter(machine, memory.executable);
    if (fault.hit &&
        !jit::apply_recovery(again, static_cast<u32>(fault.registers.pc - memory.executable), fault.registers, machine.state))
      return "fault without recovery point";
    return {};
  }
  bool fell_back() const override { return fell_back_; }

 private:
  Arena arena_;
  bool fell_back_ = false;
};

class Tier2 final : public Executor {
 public:
  const char* name() const override { return "tier 2"; }
  std::string run(const Block& block, Machine& machine) override {
    arena_.reset();
    if (!compiler_) compiler_ = jit::make_tier2_compiler(log_);
    if (!compiler_) return "no compiler";
    jit::RegionRequest request;
    request.guest = &test_guest();
    request.blocks.resize(1);
    request.blocks[0].ir = block;
    request.leave = jit::host::leave_address();
    request.fault_leave = jit::host::fault_leave_address();
    request.lookup_miss = jit::host::lookup_miss_address();
    request.allocate = [this](std::size_t size) { return arena_.allocate(size); };
    request.direct_exit = [this](GuestAddr pc) {
      const jit::CodeMemory stub = arena_.allocate(jit::host::kExitStubBytes);
      jit::host::write_exit_stub(stub.writable, stub.executable, pc, 0);
      return stub.executable;
    };
    Result<jit::RegionCode> code = compiler_->compile(request);
    if (!code) return code.error();
    enter(machine, code->entry);
    return {};
  }

 private:
  Arena arena_;
  Log log_;
  std::unique_ptr<jit::Tier2Compiler> compiler_;
};

}  // namespace

std::unique_ptr<Executor> make_interpreter() { return std::make_unique<Interpreter>(); }
std::unique_ptr<Executor> make_tier1() { return std::make_unique<Tier1>(); }
std::unique_ptr<Executor> make_tier2() {
#ifdef KILN_TEST_TIER2
  return std::make_unique<Tier2>();
#else
  return nullptr;
#endif
}

}  // namespace kiln::test
