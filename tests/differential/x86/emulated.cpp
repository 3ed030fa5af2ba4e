// Runs cases under the interpreter or a tier. The guest's memory is a reserved range: what the processor has mapped is mapped,
// the rest faults.
#include <asm/prctl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <unordered_map>
#include <utility>

#include "frontends/x86/user_segments.h"
#include "frontends/x86/x86.h"
#include "ir/interpreter.h"
#include "ir/passes/passes.h"
#include "jit/engine/engine.h"
#include "jit/engine/host.h"
#include "tests/differential/x86/case.h"

namespace kiln::test::x86diff {

using ir::ExitKind;
using x86::X86State;

namespace {

constexpr std::size_t kCodeBytes = kSlots * kSlotBytes;

struct Space : jit::AddressSpace {
  u8* memory = nullptr;  // guest address 0

  explicit Space(int code_fd) {
    // Addresses just below 0 and the first 4 GiB must not be anything else; the rest of the address space is far from
    // everything.
    constexpr std::size_t kBelow = 1 << 30, kBytes = (std::size_t{5} << 30);
    u8* const wanted = reinterpret_cast<u8*>((u64{1} << 44) - kBelow);
    if (mmap(wanted, kBelow + kBytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0) !=
        wanted) {
      std::perror("mmap of the guest's memory");
      std::exit(2);
    }
    memory = wanted + kBelow;
    mmap(memory + kScratch, kScratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(memory + kLow, kLowBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    mmap(memory + kCode, kCodeBytes, PROT_READ, MAP_SHARED | MAP_FIXED, code_fd, 0);
  }
  ~Space() override { munmap(memory - (1 << 30), (std::size_t{6} << 30)); }

  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    if (pc < kCode || pc >= kCode + kCodeBytes) return 0;
    const std::size_t there = kCode + kCodeBytes - pc;
    if (size > there) size = there;
    std::memcpy(out, memory + pc, size);
    return size;
  }
  HostAddr base() const override { return reinterpret_cast<HostAddr>(memory); }
  // Guests cannot write the code here, and the tester tells of its own changes.
  void protect_code(GuestAddr) override {}
  void unprotect_code(GuestAddr) override {}
};

/// What the signal handlers act on: set while a case runs.
struct {
  X86State* cpu = nullptr;
  jit::Engine* engine = nullptr;  // null: interpreter
  u64 memory = 0;
  u64 cases = 0, seen = 0;  // a case that two ticks of the timer see is hung
} current;

void on_fault(int, siginfo_t* info, void* context) {
  const auto* uc = static_cast<ucontext_t*>(context);
  X86State* cpu = current.cpu;
  if (cpu == nullptr || cpu->in_code == 0) {
    signal(SIGSEGV, SIG_DFL);
    return;
  }
  const u32 flags =
      (uc->uc_mcontext.gregs[REG_ERR] & 2 ? ir::kFaultWrite : 0) | (info->si_code == SEGV_ACCERR ? ir::kFaultMapped : 0);
  if (current.engine != nullptr) {
    if (!current.engine->handle_fault(cpu, info, context, flags)) signal(SIGSEGV, SIG_DFL);
    return;
  }
  const bool has_address = info->si_code != SI_KERNEL;
  cpu->exit_value = has_address ? reinterpret_cast<u64>(info->si_addr) - current.memory : 0;
  cpu->exit_aux = flags | (has_address ? 0 : ir::kFaultNonCanonical);
  cpu->exit_kind = static_cast<u32>(ExitKind::Fault);
  jit::host::resume_at(context, jit::host::fault_leave_address(), cpu);
}

void on_tick(int) {
  if (current.cpu != nullptr && current.seen == current.cases) __atomic_store_n(&current.cpu->interrupt, 1, __ATOMIC_RELEASE);
  current.seen = current.cases;
}

void install_handlers() {
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO | SA_NODEFER;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);
  struct sigaction tick = {};
  tick.sa_handler = on_tick;
  tick.sa_flags = SA_RESTART;
  sigaction(SIGPROF, &tick, nullptr);
  const itimerval half_second{{0, 500000}, {0, 500000}};
  setitimer(ITIMER_PROF, &half_second, nullptr);  // of our own time: the machine may be busy
}

void put(X86State& s, const State& in, x86::CodeSize mode) {
  std::memcpy(s.r, in.r, sizeof s.r);
  s.pc = in.rip;
  std::memcpy(s.xmm, in.xmm, sizeof s.xmm);
  std::memcpy(s.ymm_high, in.ymm_high, sizeof s.ymm_high);
  std::memcpy(s.st, in.st, sizeof s.st);
  s.fcw = in.fcw;
  set_fsw(s, in.fsw);
  s.ftw = in.ftw;
  s.fop = s.fcs = s.fds = 0;
  s.fip = s.fdp = 0;
  s.mxcsr = (in.mxcsr & 0xffff) | 0x1f80;
  s.mxcsr_unmasked = ~in.mxcsr & 0x1f80;
  x86::set_eflags(s, static_cast<u32>(in.rflags));
  for (unsigned i = 0; i < 6; ++i) {
    const u32 code = mode == x86::CodeSize::Bits64 ? x86::kUser64Code : x86::kUser32Code;
    s.selector[i] = i == x86::CS ? code : in.selector[i];
    const u64 d = user_descriptor(s, s.selector[i]);
    s.seg_base[i] = i == x86::FS ? in.fs_base : i == x86::GS ? in.gs_base : 0;
    s.seg_limit[i] = x86::descriptor_limit(d);
    s.seg_rights[i] = x86::descriptor_rights(d) | 1;
  }
  const u32 word = (mode == x86::CodeSize::Bits64 ? x86::kX86_64 : x86::kI386).mode_of(&s);
  ir::change_mode(&s, word);
  s.exit_kind = 0;
  s.exit_value = 0;
  s.exit_aux = 0;
}

void get(const X86State& s, State& out) {
  std::memcpy(out.r, s.r, sizeof s.r);
  out.rip = s.pc;
  out.rflags = x86::eflags_of(s);
  std::memcpy(out.xmm, s.xmm, sizeof s.xmm);
  std::memcpy(out.ymm_high, s.ymm_high, sizeof s.ymm_high);
  std::memcpy(out.st, s.st, sizeof s.st);
  out.fcw = static_cast<u16>(s.fcw);
  out.fsw = static_cast<u16>(fsw_of(s));
  out.ftw = static_cast<u8>(s.ftw);
  out.mxcsr = x86::mxcsr_of(s);
  for (unsigned i = 0; i < 6; ++i) out.selector[i] = static_cast<u16>(s.selector[i]);
  out.fs_base = s.seg_base[x86::FS];
  out.gs_base = s.seg_base[x86::GS];
}

constexpr bool canonical(u64 address) { return static_cast<u64>(static_cast<s64>(address << 16) >> 16) == address; }

/// What linux-user makes of an exit (linux-user/abi_x86.cpp), in the processor's terms.
Exit exit_of(X86State& s, State& state, Space& space) {
  Exit e;
  const u64 value = s.exit_value;
  u8 code[15];
  const std::size_t size = space.fetch(s.pc, code, sizeof code);
  const bool is64 = x86::code_size(s.mode) == x86::CodeSize::Bits64;
  switch (static_cast<ExitKind>(s.exit_kind)) {
    case ExitKind::Undefined: e.vector = x86::kUD; break;
    case ExitKind::Breakpoint:
      e.vector = x86::kBP;
      state.rip += value;
      break;
    case ExitKind::Alignment: e.vector = x86::alignment_vector(s, code, size); break;
    case ExitKind::Syscall: e.vector = Exit::kSyscall; break;
    case ExitKind::Interrupt: e.vector = Exit::kHung; break;
    case ExitKind::FetchFault: {
      u64 address = s.pc;
      if (!canonical(address)) {
        e.vector = x86::kGP;
        break;
      }
      u8 byte;
      if (space.fetch(address, &byte, 1)) address = align_down(address, kPage) + kPage;
      e = {x86::kPF, 4 | 16, address};
      break;
    }
    case ExitKind::Fault:
      if ((s.exit_aux & ir::kFaultNonCanonical) || !canonical(value)) e.vector = x86::non_canonical_vector(s, code, size);
      else if (const u8 v = is64 ? 0 : x86::beyond_segment_vector(s, code, size, value)) e.vector = v;
      else e = {x86::kPF, 4 | (s.exit_aux & ir::kFaultWrite ? 2u : 0u), value};
      break;
    case ExitKind::Trap:
      e.vector = value == x86::trap_value(x86::kAC) ? x86::alignment_vector(s, code, size) : x86::trap_vector(value);
      e.error = x86::trap_error(value);
      if (e.vector == x86::kDB && e.error == 2) state.rip = s.step_to;
      if (e.vector == x86::kDB) e.error = 0;
      if (e.vector == x86::kOF) state.rip += std::exchange(e.error, 0);
      break;
    default: e.vector = Exit::kUnknown;
  }
  return e;
}

/// As native.cpp's modify_ldt() makes them: writable data, DPL 3, present, accessed, 4 GiB.
constexpr u64 ldt_entry(u64 base) { return 0x00cff3000000ffff | (base & 0xffffff) << 16 | (base >> 24) << 56; }

class Base : public Emulator {
 public:
  Base(x86::CodeSize mode, int code_fd, const std::vector<Memory>& images) : mode_(mode), images_(images), space_(code_fd) {
    install_handlers();
    syscall(SYS_arch_prctl, ARCH_SET_GS, space_.memory);
  }
  void run(const Case& c, Result& out) override {
    std::memcpy(space_.memory + kScratch, images_[c.image].scratch, kScratchBytes);
    if (c.sequence->uses_low) std::memcpy(space_.memory + kLow, images_[c.image].low, kLowBytes);
    cpu_->ldt = ldt_;
    put(*cpu_, c.state, mode_);
    ++current.cases;
    current.memory = space_.base();
    current.engine = engine_.get();
    current.cpu = cpu_;
    execute();
    current.cpu = nullptr;
    __atomic_store_n(&cpu_->interrupt, 0, __ATOMIC_RELEASE);
    get(*cpu_, out.state);
    out.exit = exit_of(*cpu_, out.state, space_);
    std::memcpy(out.memory.scratch, space_.memory + kScratch, kScratchBytes);
    if (c.sequence->uses_low) std::memcpy(out.memory.low, space_.memory + kLow, kLowBytes);
  }
  Trace trace(const Case& c) override;

 protected:
  virtual void execute() = 0;
  const ir::GuestDesc& guest() const { return mode_ == x86::CodeSize::Bits64 ? x86::kX86_64 : x86::kI386; }

  x86::CodeSize mode_;
  const std::vector<Memory>& images_;
  Space space_;
  X86State* cpu_ = nullptr;
  std::unique_ptr<jit::Engine> engine_;
  u64 ldt_[x86::kLdtEntries] = {ldt_entry(kFsBase), ldt_entry(kGsBase)};
};

/// A state that belongs to no engine.
class LooseState {
 public:
  LooseState(const ir::GuestDesc& guest, HostAddr base)
      : raw_(std::aligned_alloc(64, align_up(ir::kJumpCacheBytes + sizeof(X86State), 64))) {
    std::memset(raw_, 0, ir::kJumpCacheBytes + sizeof(X86State));
    guest.reset(get());
    get()->memory_base = base;
  }
  ~LooseState() { std::free(raw_); }
  X86State* get() const { return reinterpret_cast<X86State*>(static_cast<char*>(raw_) + ir::kJumpCacheBytes); }

 private:
  void* raw_;
};

Trace Base::trace(const Case& c) {
  const LooseState state(guest(), space_.base());
  X86State& s = *state.get();
  std::memcpy(space_.memory + kScratch, images_[c.image].scratch, kScratchBytes);
  if (c.sequence->uses_low) std::memcpy(space_.memory + kLow, images_[c.image].low, kLowBytes);
  s.ldt = ldt_;
  put(s, c.state, mode_);
  current.memory = space_.base();
  current.engine = nullptr;
  current.cpu = &s;
  Trace t;
  constexpr unsigned kMost = 100000;  // a loop by then
  for (unsigned n = 0; n < kMost; ++n) {
    const u64 pc = s.pc;
    u8 code[15];
    const x86::Insn insn = x86::decode(code, space_.fetch(pc, code, sizeof code), pc, s.mode).insn;
    ir::Block block;
    guest().lift(space_, pc, s.mode, {.max_insns = 1}, block);
    jit::host::call_in_code(&s, [](ir::CpuState* cpu, const void* b) { ir::interpret(*static_cast<const ir::Block*>(b), cpu); },
                            &block);
    // What faulted has done nothing.
    if (s.exit_kind != 0 || insn.row == nullptr) break;
    u64 own = slot_address(c.slot);
    bool is_own = false;
    for (const Piece& p : c.sequence->pieces) {
      is_own |= own == pc;
      own += p.bytes.size();
    }
    t.elsewhere |= !is_own;
    t.looked_at_one |= (flags_read(*insn.row, insn.param) & t.undefined) != 0;
    t.undefined = (t.undefined | insn.row->undefined) & ~(may_write_nothing(*insn.row) ? 0u : u32{insn.row->writes});
  }
  current.cpu = nullptr;
  return t;
}

class Interpreter final : public Base {
 public:
  Interpreter(x86::CodeSize mode, int code_fd, const std::vector<Memory>& images, bool optimised)
      : Base(mode, code_fd, images), optimised_(optimised), state_(guest(), space_.base()) {
    cpu_ = state_.get();
  }
  void new_code() override { blocks_.clear(); }

 private:
  void execute() override {
    while (cpu_->exit_kind == 0) {
      if (__atomic_load_n(&cpu_->interrupt, __ATOMIC_RELAXED)) {
        cpu_->exit_kind = static_cast<u32>(ExitKind::Interrupt);
        return;
      }
      const ir::Block& block = block_at(cpu_->pc, cpu_->mode);
      jit::host::call_in_code(
          cpu_, [](ir::CpuState* s, const void* b) { ir::interpret(*static_cast<const ir::Block*>(b), s); }, &block);
    }
  }
  const ir::Block& block_at(u64 pc, u32 mode) {
    std::unique_ptr<ir::Block>& block = blocks_[pc ^ u64{mode} << 56];
    if (block) return *block;
    block = std::make_unique<ir::Block>();
    guest().lift(space_, pc, mode, {.max_insns = 64}, *block);
    if (const std::string complaint = ir::verify(*block); !complaint.empty()) {
      std::printf("malformed block at %llx: %s\n%s\n", static_cast<unsigned long long>(pc), complaint.c_str(),
                  ir::print(*block).c_str());
      std::exit(2);
    }
    if (optimised_) ir::optimise(*block);
    return *block;
  }

  bool optimised_;
  LooseState state_;
  std::unordered_map<u64, std::unique_ptr<ir::Block>> blocks_;
};

class Tiers final : public Base {
 public:
  Tiers(x86::CodeSize mode, int code_fd, const std::vector<Memory>& images, jit::TierChoice tier)
      : Base(mode, code_fd, images) {
    config_.tier = tier;
    config_.log = &log_;
    config_.hot_threshold = 1;
    config_.synchronous_tier2 = true;
    config_.cache_bytes = std::size_t{64} << 20;
    start();
  }
  ~Tiers() override { stop(); }
  void new_code() override {
    // A fresh engine now and then: dropped code keeps its memory until its generation is evicted.
    if (++renewals_ % 4096 == 0) {
      stop();
      start();
    }
    engine_->invalidate(kCode, kCodeBytes);
  }

 private:
  void start() {
    engine_ = std::make_unique<jit::Engine>(config_, guest(), space_);
    cpu_ = static_cast<X86State*>(engine_->create_cpu());
  }
  void stop() {
    engine_->destroy_cpu(cpu_);
    engine_.reset();
  }
  void execute() override { engine_->run(cpu_); }
  // Blocks in which no loop begins wait for the threshold several times over.
  unsigned runs_until_hot() const override { return config_.tier == jit::TierChoice::Two ? 12 : 1; }

  // LogItem bits for a look at what a tier makes of a find (with --answer FILE).
  Log log_{std::getenv("X86_DIFFERENTIAL_LOG") ? static_cast<u32>(std::strtoul(std::getenv("X86_DIFFERENTIAL_LOG"), nullptr, 0))
                                               : 0};
  jit::EngineConfig config_;
  u64 renewals_ = 0;
};

}  // namespace

std::unique_ptr<Emulator> Emulator::make(Tier tier, x86::CodeSize mode, int code_fd, const std::vector<Memory>& images) {
  switch (tier) {
    case Tier::Interp: return std::make_unique<Interpreter>(mode, code_fd, images, false);
    case Tier::InterpOptimised: return std::make_unique<Interpreter>(mode, code_fd, images, true);
    case Tier::One: return std::make_unique<Tiers>(mode, code_fd, images, jit::TierChoice::One);
    default: return std::make_unique<Tiers>(mode, code_fd, images, jit::TierChoice::Two);
  }
}

}  // namespace kiln::test::x86diff
