#include "tests/jit/llvm/harness.h"

#include <asm/prctl.h>
#include <immintrin.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

namespace kiln::test {

using namespace ir;

namespace {
constexpr std::size_t kArena = 4 << 20;
const Slot kSlots[] = {{"x0", static_cast<u32>(offsetof(TestState, x)), Type::I64}};

extern "C" void kiln_test_enter(CpuState*, HostAddr);
extern "C" void kiln_test_leave();
extern "C" void kiln_test_fault_leave();
__attribute__((used)) thread_local u64 test_sp asm("kiln_test_sp") = 0;
asm(R"(
  .text
kiln_test_enter:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rdi, %r12
  movq %rsp, %fs:kiln_test_sp@tpoff
  jmpq *%rsi
kiln_test_fault_leave:
  movq %fs:kiln_test_sp@tpoff, %rsp
kiln_test_leave:
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  retq
)");

// The handler can be told nothing by its caller: these are the test's only globals.
thread_local const jit::RegionCode* running = nullptr;
thread_local CpuState* running_state = nullptr;
thread_local sigjmp_buf* interpreting = nullptr;
thread_local bool fault_seen = false;
thread_local u32 mxcsr_at_fault = 0;

void on_fault(int signal, siginfo_t* info, void* context) {
  auto* uc = static_cast<ucontext_t*>(context);
  const HostAddr pc = static_cast<HostAddr>(uc->uc_mcontext.gregs[REG_RIP]);
  if (interpreting) {
    mxcsr_at_fault = uc->uc_mcontext.fpregs->mxcsr;  // the kernel gave the handler a fresh one
    siglongjmp(*interpreting, 1);
  }
  if (running)
    for (const jit::FaultEntry& entry : running->faults)
      if (entry.pc == pc) {
        if (entry.label == 0) {
          jit::restore_state(*running, entry, running_state, context);
          uc->uc_mcontext.gregs[REG_R12] = reinterpret_cast<greg_t>(running_state);
        }
        const HostAddr to = entry.label != 0 ? entry.label : reinterpret_cast<HostAddr>(kiln_test_fault_leave);
        uc->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(to);
        fault_seen = true;
        return;
      }
  ::signal(signal, SIG_DFL);  // not ours: die where it happened
}
}  // namespace

const GuestDesc& test_guest() {
  static const GuestDesc guest = [] {
    GuestDesc g{};
    g.name = "test";
    g.pointer_bits = 64;
    g.insn_alignment = 4;
    g.state_size = sizeof(TestState);
    g.slots = kSlots;
    return g;
  }();
  return guest;
}

Machine::Machine() {
  const int fd = static_cast<int>(syscall(SYS_memfd_create, "code", 0));
  EXPECT_EQ(ftruncate(fd, kArena), 0);
  writable_ = static_cast<u8*>(mmap(nullptr, kArena, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  executable_ = static_cast<u8*>(mmap(nullptr, kArena, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0));
  close(fd);
  const std::size_t bytes = kJumpCacheBytes + sizeof(TestState);
  state_block_ = static_cast<u8*>(std::aligned_alloc(64, align_up(bytes, 64)));
  std::memset(state_block_, 0, align_up(bytes, 64));
  state_ = reinterpret_cast<TestState*>(state_block_ + kJumpCacheBytes);
  for (std::size_t i = 0; i < kJumpCacheEntries; ++i) state_->jump_cache()[i].pc = ~u64{0};
  memory_ = static_cast<u8*>(mmap(nullptr, kMemoryBytes + 0x20000, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) + 0x10000;
  mprotect(memory_, kMemoryBytes, PROT_READ | PROT_WRITE);
  state_->memory_base = reinterpret_cast<u64>(memory_) - kGuestMemory;
  state_->mxcsr = 0x1f80;

  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
}

Machine::~Machine() {
  munmap(writable_, kArena);
  munmap(executable_, kArena);
  munmap(memory_ - 0x10000, kMemoryBytes + 0x20000);
  std::free(state_block_);
}

jit::CodeMemory Machine::allocate(std::size_t size) {
  used_ = align_up(used_, 64);
  jit::CodeMemory memory{writable_ + used_, reinterpret_cast<HostAddr>(executable_ + used_), size};
  used_ += size;
  EXPECT_LE(used_, kArena);
  return memory;
}

HostAddr Machine::direct_exit(GuestAddr pc) {
  auto [it, fresh] = exits_.try_emplace(pc, 0);
  if (!fresh) return it->second;
  // movabs pc, %rax; mov %rax, (%r12); movl $0, exit_kind(%r12); movabs leave, %rax; jmp *%rax
  jit::CodeMemory m = allocate(64);
  u8* p = m.writable;
  auto put = [&](std::initializer_list<u8> bytes) {
    for (u8 b : bytes) *p++ = b;
  };
  auto put64 = [&](u64 v) {
    std::memcpy(p, &v, 8);
    p += 8;
  };
  put({0x48, 0xb8});
  put64(pc);
  put({0x49, 0x89, 0x04, 0x24});
  static_assert(offsetof(CpuState, exit_kind) < 128 && offsetof(CpuState, pc) == 0);
  put({0x41, 0xc7, 0x44, 0x24, static_cast<u8>(offsetof(CpuState, exit_kind)), 0, 0, 0, 0});
  put({0x48, 0xb8});
  put64(reinterpret_cast<u64>(kiln_test_leave));
  put({0xff, 0xe0});
  return it->second = m.executable;
}

Result<jit::RegionCode> Machine::compile(const std::vector<jit::RegionBlock>& blocks) {
  if (std::getenv("KILN_LOG")) log = Log(kLogTier2);
  if (!compiler_) compiler_ = jit::make_tier2_compiler(log);
  jit::RegionRequest request;
  request.guest = &test_guest();
  request.blocks = blocks;
  request.leave = request.fault_leave = request.lookup_miss = reinterpret_cast<HostAddr>(kiln_test_leave);
  request.direct_exit = [this](GuestAddr pc) { return direct_exit(pc); };
  request.allocate = [this](std::size_t size) { return allocate(size); };
  return compiler_->compile(request);
}

void Machine::enter(const jit::RegionCode& code) {
  syscall(SYS_arch_prctl, ARCH_SET_GS, state_->memory_base);
  running = &code;
  running_state = state_;
  fault_seen = false;
  const u32 host_mxcsr = _mm_getcsr();
  _mm_setcsr(state_->mxcsr);
  state_->in_code = 1;
  kiln_test_enter(state_, code.entry);
  state_->in_code = 0;
  state_->mxcsr = _mm_getcsr();
  _mm_setcsr(host_mxcsr);
  running = nullptr;
  faulted_ = fault_seen;
}

void Machine::interpret(const std::vector<jit::RegionBlock>& blocks, unsigned limit) {
  const u32 host_mxcsr = _mm_getcsr();
  sigjmp_buf out;
  faulted_ = false;
  if (sigsetjmp(out, 1) == 0) {
    interpreting = &out;
    _mm_setcsr(state_->mxcsr);
    int at = 0;
    while (at >= 0 && limit--) {
      const jit::RegionBlock& block = blocks[static_cast<std::size_t>(at)];
      if (block.poll && state_->interrupt) {
        state_->pc = block.ir.pc;
        state_->exit_kind = static_cast<u32>(ExitKind::Interrupt);
        break;
      }
      ir::interpret(block.ir, state_);
      if (state_->exit_kind != 0) break;
      const Inst& exit = block.ir.insts.back();
      if (exit.op == Op::exit_jump_) at = block.taken;
      else if (exit.op == Op::exit_branch_) at = state_->pc == exit.imm ? block.taken : block.not_taken;
      else {
        at = -1;
        for (auto [pc, to] : block.indirect)
          if (pc == state_->pc) {
            at = to;
            break;
          }
      }
    }
  } else {
    faulted_ = true;
    _mm_setcsr(mxcsr_at_fault);
  }
  interpreting = nullptr;
  state_->mxcsr = _mm_getcsr();
  _mm_setcsr(host_mxcsr);
}

void expect_same(Machine& got, Machine& want, const std::string& what) {
  TestState &a = got.state(), &b = want.state();
  EXPECT_EQ(a.pc, b.pc) << what;
  EXPECT_EQ(a.exit_kind, b.exit_kind) << what;
  EXPECT_EQ(got.faulted(), want.faulted()) << what;
  for (unsigned i = 0; i < 16; ++i) EXPECT_EQ(a.x[i], b.x[i]) << what << " x" << i;
  for (unsigned i = 0; i < 8; ++i) {
    EXPECT_EQ(a.v[i].d[0], b.v[i].d[0]) << what << " v" << i << " low";
    EXPECT_EQ(a.v[i].d[1], b.v[i].d[1]) << what << " v" << i << " high";
  }
  EXPECT_EQ(ir::flags_value(static_cast<FlagsKind>(a.flags_kind), a.flags_a, a.flags_b),
            ir::flags_value(static_cast<FlagsKind>(b.flags_kind), b.flags_a, b.flags_b))
      << what;
  // Everything but the denormal-operand bit, which no guest reads.
  EXPECT_EQ(a.mxcsr & ~2u, b.mxcsr & ~2u) << what << " mxcsr";
  EXPECT_EQ(std::memcmp(got.memory(), want.memory(), Machine::kMemoryBytes), 0) << what << " memory";
}

}  // namespace kiln::test
