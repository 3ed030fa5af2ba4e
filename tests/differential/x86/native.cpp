// Runs cases on this machine's processor. A child process holds the areas at the guest's addresses and goes from case to case
// inside its signal handler: the frame that an exception leaves is the case's result, the frame that the handler returns
// through is the next case's state. Cases must not reach the kernel: a seccomp filter turns system calls from the code area
// into SIGSYS.
#include <asm/ldt.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "tests/differential/x86/case.h"

namespace kiln::test::x86diff {

namespace {

constexpr std::size_t kCodeBytes = kSlots * kSlotBytes;

struct Input {
  State state;
  u32 image;
  bool uses_low, is32, segments;
};

/// Between tester and child.
struct Shared {
  u32 count;
  u32 next;  // the case that runs or is to run
  u32 done;  // results from 0 on that are there
  Input input[Native::kMaxCases];
  Result result[Native::kMaxCases];
  Memory images[kMemoryImages];
};

/// What the child's signal handler works on: a handler has no other way to reach it.
struct Child {
  Shared* shared;
  bool running;  // false: the INT3 of the main loop
  greg_t home[NGREG];
} child;

/// FXSAVE image (SDM vol. 1, table 10-2) and what XSAVE has behind it.
struct Fxsave {
  u16 fcw, fsw;
  u8 ftw, reserved;
  u16 fop;
  u64 fip, fdp;
  u32 mxcsr, mxcsr_mask;
  V128 st[8];
  V128 xmm[16];
  u8 rest[96];
};
static_assert(sizeof(Fxsave) == 512);
constexpr unsigned kXstateBv = 512, kYmm = 576;

void save(Result& out, const ucontext_t* uc, const siginfo_t* info, int signal, const Input& in) {
  const greg_t* g = uc->uc_mcontext.gregs;
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  State& s = out.state;
  for (unsigned i = 0; i < 16; ++i) s.r[i] = static_cast<u64>(g[kOrder[i]]);
  s.rip = static_cast<u64>(g[REG_RIP]);
  s.rflags = static_cast<u64>(g[REG_EFL]);
  const u8* frame = reinterpret_cast<const u8*>(uc->uc_mcontext.fpregs);
  const Fxsave& fx = *reinterpret_cast<const Fxsave*>(frame);
  s.fcw = fx.fcw;
  s.fsw = fx.fsw;
  s.ftw = fx.ftw;
  s.mxcsr = fx.mxcsr;
  const unsigned top = fx.fsw >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i) {
    s.st[(top + i) & 7].d[0] = fx.st[i].d[0];
    s.st[(top + i) & 7].d[1] = fx.st[i].d[1] & 0xffff;
  }
  std::memcpy(s.xmm, fx.xmm, sizeof s.xmm);
  std::memcpy(s.ymm_high, frame + kYmm, sizeof s.ymm_high);
  u64 components;
  std::memcpy(&components, frame + kXstateBv, 8);
  if (!(components & 4)) std::memset(s.ymm_high, 0, sizeof s.ymm_high);
  if (!(components & 2)) std::memset(s.xmm, 0, sizeof s.xmm);
  if (!(components & 1)) {
    std::memset(s.st, 0, sizeof s.st);
    s.fcw = 0x37f;
    s.fsw = s.ftw = 0;
  }
  const u64 segments = static_cast<u64>(g[REG_CSGSFS]);
  s.selector[x86::SS] = static_cast<u16>(segments >> 48);
  asm volatile("movw %%es, %0\n movw %%ds, %1" : "=m"(s.selector[x86::ES]), "=m"(s.selector[x86::DS]));
  asm volatile("movw %%fs, %0\n movw %%gs, %1" : "=m"(s.selector[x86::FS]), "=m"(s.selector[x86::GS]));
  asm volatile("rdfsbase %0\n rdgsbase %1" : "=r"(s.fs_base), "=r"(s.gs_base));
  out.exit.vector = signal == SIGSYS ? u8{Exit::kSyscall} : static_cast<u8>(g[REG_TRAPNO]);
  out.exit.error = static_cast<u32>(g[REG_ERR]);
  out.exit.address = static_cast<u64>(g[REG_CR2]);
  (void)info;
  std::memcpy(out.memory.scratch, reinterpret_cast<void*>(kScratch), kScratchBytes);
  if (in.uses_low) std::memcpy(out.memory.low, reinterpret_cast<void*>(kLow), kLowBytes);
}

void load_segments() {
  asm volatile("movw %w0, %%ds\n movw %w0, %%es\n movw %w1, %%fs\n movw %w2, %%gs\n" ::"r"(kDataSelector), "r"(kFsSelector),
               "r"(kGsSelector));
}

void load(const Input& in, const Memory& image, ucontext_t* uc) {
  greg_t* g = uc->uc_mcontext.gregs;
  static constexpr int kOrder[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                                     REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};
  const State& s = in.state;
  for (unsigned i = 0; i < 16; ++i) g[kOrder[i]] = static_cast<greg_t>(s.r[i]);
  g[REG_RIP] = static_cast<greg_t>(s.rip);
  g[REG_EFL] = static_cast<greg_t>(s.rflags);
  const u64 selectors = (in.is32 ? 0x23u : 0x33u) | u64{0x2b} << 48;
  g[REG_CSGSFS] = static_cast<greg_t>(selectors);
  u8* frame = reinterpret_cast<u8*>(uc->uc_mcontext.fpregs);
  Fxsave& fx = *reinterpret_cast<Fxsave*>(frame);
  fx.fcw = s.fcw;
  fx.fsw = s.fsw;
  fx.ftw = s.ftw;
  fx.fop = 0;
  fx.fip = fx.fdp = 0;
  fx.mxcsr = s.mxcsr;
  const unsigned top = s.fsw >> 11 & 7;
  for (unsigned i = 0; i < 8; ++i) fx.st[i] = s.st[(top + i) & 7];
  std::memcpy(fx.xmm, s.xmm, sizeof s.xmm);
  std::memcpy(frame + kYmm, s.ymm_high, sizeof s.ymm_high);
  if (in.segments) load_segments();
  u64 components;
  std::memcpy(&components, frame + kXstateBv, 8);
  components |= 7;
  std::memcpy(frame + kXstateBv, &components, 8);
  std::memcpy(reinterpret_cast<void*>(kScratch), image.scratch, kScratchBytes);
  if (in.uses_low) std::memcpy(reinterpret_cast<void*>(kLow), image.low, kLowBytes);
}

}  // namespace

extern "C" void kiln_x86diff_handler(int signal, siginfo_t* info, void* context) {
  auto* uc = static_cast<ucontext_t*>(context);
  Shared& shared = *child.shared;
  if (!child.running) {
    std::memcpy(child.home, uc->uc_mcontext.gregs, sizeof child.home);
    child.running = true;
  } else {
    save(shared.result[shared.next], uc, info, signal, shared.input[shared.next]);
    ++shared.next;
    __atomic_store_n(&shared.done, shared.next, __ATOMIC_RELEASE);
  }
  if (shared.next >= shared.count) {
    child.running = false;
    std::memcpy(uc->uc_mcontext.gregs, child.home, sizeof child.home);
    Fxsave& fx = *reinterpret_cast<Fxsave*>(uc->uc_mcontext.fpregs);
    fx.fcw = 0x37f;
    fx.fsw = 0;
    fx.mxcsr = 0x1f80;
    return;
  }
  const Input& in = shared.input[shared.next];
  load(in, shared.images[in.image], uc);
}

// AC, NT and ID of the case's flags outlive the kernel's entry to the handler; here they go.
extern "C" [[gnu::naked]] void kiln_x86diff_entry(int, siginfo_t*, void*) {
  asm volatile("pushq $0x202\n popfq\n jmp kiln_x86diff_handler\n");
}

namespace {

/// The child never comes back from here, and calls no C library function that could look at FS: that is the case's.
[[noreturn]] void child_main(Shared* shared, int code_fd, int commands, int answers) {
  child.shared = shared;
  child.running = false;
  // What the tester has in the guest's part of the address space (code of the tiers, the guest's memory) is not the child's.
  munmap(reinterpret_cast<void*>(kPage), (u64{1} << 32) - kPage);
  munmap(reinterpret_cast<void*>((u64{1} << 44) - (u64{1} << 30)), u64{6} << 30);
  const auto map = [](u64 at, u64 bytes, int prot, int flags, int fd) {
    if (mmap(reinterpret_cast<void*>(at), bytes, prot, flags | MAP_FIXED_NOREPLACE, fd, 0) != reinterpret_cast<void*>(at))
      _exit(5);
  };
  map(kScratch, kScratchBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  map(kLow, kLowBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1);
  map(kCode, kCodeBytes, PROT_READ | PROT_EXEC, MAP_SHARED, code_fd);
  void* stack = mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  const stack_t alternate{stack, 0, 1 << 16};
  sigaltstack(&alternate, nullptr);
  struct sigaction action = {};
  action.sa_sigaction = kiln_x86diff_entry;
  action.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
  for (int s : {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGSYS}) sigaction(s, &action, nullptr);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  // Segments: DS and ES that 32-bit code can use, FS and GS with bases of their own.
  for (unsigned i = 0; i < 2; ++i) {
    struct user_desc d = {};
    d.entry_number = i;
    d.base_addr = static_cast<unsigned>(i == 0 ? kFsBase : kGsBase);
    d.limit = 0xfffff;
    d.seg_32bit = 1;
    d.limit_in_pages = 1;
    d.useable = 1;
    if (syscall(SYS_modify_ldt, 1, &d, sizeof d) != 0) _exit(3);
  }
  // System calls of the code area's instructions do not get through.
  static constexpr unsigned kIpLow = offsetof(struct seccomp_data, instruction_pointer);
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpLow + 4),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kIpLow),
      BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 1, 0),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_rt_sigreturn, 3, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_read, 2, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_write, 1, 0),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const sock_fprog program{static_cast<unsigned short>(std::size(filter)), filter};
  if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program) != 0) _exit(4);
  load_segments();
  const auto call = [](long number, long a, void* b, long c) {
    long result;
    asm volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c) : "rcx", "r11", "memory");
    return result;
  };
  for (;;) {
    char command;
    if (call(SYS_read, commands, &command, 1) != 1) call(SYS_exit_group, 0, nullptr, 0);
    if (shared->next < shared->count) asm volatile("int3" ::: "memory");
    call(SYS_write, answers, &command, 1);
  }
}

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(2);
}

}  // namespace

struct Native::Impl {
  Shared* shared;
  u8* code;
  int code_fd;
  pid_t pid = 0;
  int commands = -1, answers = -1;

  void fork_child() {
    int down[2], up[2];
    if (pipe(down) != 0 || pipe(up) != 0) die("pipe");
    pid = fork();
    if (pid < 0) die("fork");
    if (pid == 0) {
      close(down[1]);
      close(up[0]);
      child_main(shared, code_fd, down[0], up[1]);
    }
    close(down[0]);
    close(up[1]);
    commands = down[1];
    answers = up[0];
  }
  int reap() {
    kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);
    close(commands);
    close(answers);
    return status;
  }
};

Native::Native(const std::vector<Memory>& images) : impl_(std::make_unique<Impl>()) {
  Impl& m = *impl_;
  m.shared = static_cast<Shared*>(mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
  std::memcpy(m.shared->images, images.data(), sizeof m.shared->images);
  m.code_fd = static_cast<int>(syscall(SYS_memfd_create, "code", 0));
  if (ftruncate(m.code_fd, kCodeBytes) != 0) die("ftruncate");
  m.code = static_cast<u8*>(mmap(nullptr, kCodeBytes, PROT_READ | PROT_WRITE, MAP_SHARED, m.code_fd, 0));
  m.fork_child();
}

Native::~Native() {
  impl_->reap();
  munmap(impl_->code, kCodeBytes);
  munmap(impl_->shared, sizeof(Shared));
  close(impl_->code_fd);
}

u8* Native::code() const { return impl_->code; }
int Native::descriptor() const { return impl_->code_fd; }

const Result& Native::finished() const { return impl_->shared->result[0]; }

void Native::start(std::span<const Case> cases) {
  Shared& s = *impl_->shared;
  s.count = static_cast<u32>(cases.size());
  s.next = s.done = 0;
  for (std::size_t i = 0; i < cases.size(); ++i)
    s.input[i] = {cases[i].state, cases[i].image, cases[i].sequence->uses_low, cases[i].sequence->mode != x86::CodeSize::Bits64,
                  i == 0 || cases[i - 1].sequence->changes_segments};
  if (write(impl_->commands, "x", 1) != 1) die("write to child");
}

const Result* Native::finish() {
  Shared& s = *impl_->shared;
  for (;;) {
    pollfd p{impl_->answers, POLLIN, 0};
    const u32 before = __atomic_load_n(&s.done, __ATOMIC_ACQUIRE);
    const int n = poll(&p, 1, 2000);
    if (n < 0 && errno == EINTR) continue;
    char answer;
    if (n == 1 && (p.revents & POLLIN) && read(impl_->answers, &answer, 1) == 1) return s.result;
    if (n == 0 && __atomic_load_n(&s.done, __ATOMIC_ACQUIRE) != before) continue;
    // Hung in a case, or dead of one: that case has no answer, the next ones get a new child.
    const int status = impl_->reap();
    ++restarts_;
    s.result[s.next].exit.error = static_cast<u32>(status);
    if (restarts_ == 1 && s.next == 0 && WIFEXITED(status)) die("the native child cannot start");
    s.result[s.next].exit.vector = n == 0 ? u8{Exit::kHung} : u8{Exit::kUnknown};
    ++s.next;
    s.done = s.next;
    impl_->fork_child();
    if (write(impl_->commands, "x", 1) != 1) die("write to child");
  }
}

}  // namespace kiln::test::x86diff
