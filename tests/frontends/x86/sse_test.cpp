// Every SSE and AVX row against the host CPU: the instruction natively and lifted and interpreted, from the same random state;
// masked and unmasked exceptions, aligned and misaligned operands. KILN_TEST_SEED shifts the seed, KILN_TEST_SCALE multiplies
// the number of runs, KILN_TEST_ROW runs rows of one name only. (The tiers: tests/differential/x86.)
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdlib>
#include <new>
#include <string>
#include <vector>

#include "frontends/x86/operands.h"
#include "frontends/x86/x86.h"
#include "ir/interpreter.h"

namespace kiln::x86::test {
namespace {

u64 environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

class Random {
 public:
  explicit Random(u64 seed) : state_(seed) {}
  u64 next() {  // splitmix64
    u64 z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  u64 below(u64 n) { return next() % n; }
  bool one_in(u64 n) { return below(n) == 0; }

  u64 f64() {
    static constexpr u64 kSpecial[] = {0,
                                       u64{1} << 63,
                                       1,
                                       0x000fffffffffffff,
                                       0x0010000000000000,
                                       0x7fefffffffffffff,
                                       0x7ff0000000000000,
                                       0xfff0000000000000,
                                       0x7ff8000000000000,
                                       0x7ff8000000001234,
                                       0xfffc000000005678,
                                       0x7ff0000000000001,
                                       0xfff4000000000077,
                                       0x3ff0000000000000,
                                       0xbff0000000000000,
                                       0x3fe0000000000000,
                                       0x41dfffffffc00000,
                                       0x41e0000000000000,
                                       0xc1e0000000200000,
                                       0x43e0000000000000,
                                       0x3810000000000000,
                                       0x47efffffe0000000,
                                       0x369fffffffffffff,
                                       0x4007ffffffffffff};
    if (one_in(2)) return kSpecial[below(std::size(kSpecial))];
    if (one_in(4)) return next();
    return (next() & (u64{1} << 63 | mask_low(52))) | (1023 - 40 + below(80)) << 52;
  }
  u32 f32() {
    static constexpr u32 kSpecial[] = {0,          1u << 31,   1,          0x007fffff, 0x00800000, 0x7f7fffff,
                                       0x7f800000, 0xff800000, 0x7fc00000, 0x7fc01234, 0xffe00077, 0x7f800001,
                                       0xffa00055, 0x3f800000, 0xbf800000, 0x3f000000, 0x4effffff, 0x4f000000,
                                       0xcf000001, 0x5f000000, 0x47800000, 0x33800000, 0x38800000, 0x387fffff};
    if (one_in(2)) return kSpecial[below(std::size(kSpecial))];
    if (one_in(4)) return static_cast<u32>(next());
    return static_cast<u32>((next() & (1u << 31 | mask_low(23))) | (127 - 20 + below(40)) << 23);
  }
  void vector(V128& v, unsigned kind) {
    switch (kind) {
      case 0:
        for (u32& x : v.s) x = f32();
        return;
      case 1:
        for (u64& x : v.d) x = f64();
        return;
      case 2:  // text: few values, zeros
        for (u8& x : v.b) x = static_cast<u8>(below(5) * (one_in(6) ? 51 : 1));
        return;
      case 3:
        for (u64& x : v.d) x = one_in(2) ? below(70) : next() & next();
        return;
      case 4: {
        static constexpr u16 kWords[] = {0, 1, 0x7fff, 0x8000, 0xffff, 0x00ff, 0x0100, 0x8001, 0x7f80};
        for (u16& x : v.h) x = one_in(3) ? static_cast<u16>(next()) : kWords[below(std::size(kWords))];
        return;
      }
      default:
        for (u64& x : v.d) x = next();
    }
  }

 private:
  u64 state_;
};

constexpr unsigned kMemory = 512, kOperand = 128;

/// What an instruction finds and leaves. rBX and rDI point into `memory`; integer operands are rAX rCX rDX rSI r8..r11.
struct Machine {
  u64 r[16];
  V128 low[16], high[16];
  u64 eflags;
  u32 mxcsr;
  u32 host_mxcsr;
  int signal;
  alignas(64) u8 memory[kMemory];
};

// rdi: Machine, rsi: code that ends in RET.
extern "C" void kiln_run_native(Machine*, const void*);
asm(R"(
.text
kiln_run_native:
  push %rbx
  push %rbp
  push %r12
  push %r13
  push %r14
  push %r15
  mov %rdi, %r15
  push %rsi
  stmxcsr 652(%r15)
  ldmxcsr 648(%r15)
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
  vmovdqu 128+16*\n(%r15), %xmm\n
  vinsertf128 $1, 384+16*\n(%r15), %ymm\n, %ymm\n
  .endr
  mov 16(%r15), %rdx
  mov 24(%r15), %rbx
  mov 48(%r15), %rsi
  mov 56(%r15), %rdi
  mov 64(%r15), %r8
  mov 72(%r15), %r9
  mov 80(%r15), %r10
  mov 88(%r15), %r11
  pushq 640(%r15)
  popfq
  mov (%r15), %rax
  mov 8(%r15), %rcx
  call *(%rsp)
  mov %rax, (%r15)
  mov %rcx, 8(%r15)
  mov %rdx, 16(%r15)
  mov %rbx, 24(%r15)
  mov %rsi, 48(%r15)
  mov %rdi, 56(%r15)
  mov %r8, 64(%r15)
  mov %r9, 72(%r15)
  mov %r10, 80(%r15)
  mov %r11, 88(%r15)
  pushfq
  popq 640(%r15)
  .irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15
  vmovdqu %xmm\n, 128+16*\n(%r15)
  vextractf128 $1, %ymm\n, 384+16*\n(%r15)
  .endr
  stmxcsr 648(%r15)
  ldmxcsr 652(%r15)
  vzeroupper
  add $8, %rsp
  pop %r15
  pop %r14
  pop %r13
  pop %r12
  pop %rbp
  pop %rbx
  ret
)");
static_assert(offsetof(Machine, low) == 128 && offsetof(Machine, high) == 384 && offsetof(Machine, eflags) == 640 &&
              offsetof(Machine, mxcsr) == 648);

/// A signal of the instruction under test goes on behind it, with the registers as they were.
struct Running {
  u64 resume = 0;
  int signal = 0;
};
Running running;
void on_signal(int number, siginfo_t*, void* context) {
  auto* uc = static_cast<ucontext_t*>(context);
  if (!running.resume) {
    signal(number, SIG_DFL);
    return;
  }
  running.signal = number;
  uc->uc_mcontext.gregs[REG_RIP] = static_cast<greg_t>(running.resume);
}

class CodePage {
 public:
  CodePage() {
    page_ = static_cast<u8*>(mmap(nullptr, 8192, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    struct sigaction action{};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    for (int s : {SIGFPE, SIGSEGV, SIGILL, SIGBUS}) sigaction(s, &action, nullptr);
  }
  const u8* place(std::span<const u8> code) {
    std::memcpy(page_, code.data(), code.size());
    page_[code.size()] = 0xc3;
    size_ = code.size();
    return page_;
  }
  void run(Machine& m) {
    running = {reinterpret_cast<u64>(page_) + size_, 0};
    kiln_run_native(&m, page_);
    m.signal = running.signal;
    running.resume = 0;
  }

 private:
  u8* page_;
  std::size_t size_ = 0;
};

class OwnMemory : public ir::CodeSource {
 public:
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    std::memcpy(out, reinterpret_cast<const void*>(pc), size);
    return size;
  }
};

class Interpreted {
 public:
  Interpreted() : storage_(new u8[ir::kJumpCacheBytes + sizeof(X86State) + 128]) {
    const u64 at = align_up(reinterpret_cast<u64>(storage_.get()) + ir::kJumpCacheBytes, 64);
    state_ = new (reinterpret_cast<void*>(at)) X86State();
    kX86_64.reset(state_);
  }
  /// Empty, or what went wrong beside the guest's own exceptions.
  std::string run(const u8* code, unsigned length, Machine& m) {
    X86State& s = *state_;
    s.pc = reinterpret_cast<u64>(code);
    for (unsigned i = 0; i < 16; ++i) s.r[i] = m.r[i], s.xmm[i] = m.low[i], s.ymm_high[i] = m.high[i];
    set_eflags(s, static_cast<u32>(m.eflags));
    set_mxcsr(s, m.mxcsr);
    s.exit_kind = 0;
    ir::LiftLimits limits;
    limits.max_insns = 1;
    OwnMemory memory;
    kX86_64.lift(memory, s.pc, s.mode, limits, block_);
    if (std::string error = ir::verify(block_); !error.empty()) return error + "\n" + ir::print(block_);
    u32 own;
    asm volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(own) : "m"(s.mxcsr) : "memory");
    ir::interpret(block_, &s);
    asm volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(s.mxcsr) : "m"(own) : "memory");
    for (unsigned i = 0; i < 16; ++i) m.r[i] = s.r[i], m.low[i] = s.xmm[i], m.high[i] = s.ymm_high[i];
    m.eflags = eflags_of(s);
    m.mxcsr = mxcsr_of(s);
    const auto kind = static_cast<ir::ExitKind>(s.exit_kind);
    const unsigned vector = kind == ir::ExitKind::Trap ? trap_vector(s.exit_value) : 0;
    m.signal = kind == ir::ExitKind::Undefined                    ? SIGILL
               : kind == ir::ExitKind::Alignment || vector == kGP ? SIGSEGV
               : vector == kXM                                    ? SIGFPE
                                                                  : 0;
    if (kind != ir::ExitKind::None && m.signal == 0) return "exit kind " + std::to_string(s.exit_kind);
    if (m.signal == 0 && s.pc != reinterpret_cast<u64>(code) + length) return "pc is elsewhere";
    return {};
  }
  const ir::Block& block() const { return block_; }

 private:
  std::unique_ptr<u8[]> storage_;
  X86State* state_;
  ir::Block block_;
};

bool has(const Row& row, std::initializer_list<Encoding> wanted) {
  for (u8 e : row.encoding)
    for (Encoding w : wanted)
      if (e == static_cast<u8>(w)) return true;
  return false;
}

struct Encoded {
  std::vector<u8> bytes;
  int index = -1;  // of a gather
  bool index64 = false;
};

Encoded encode(const Row& row, Random& random) {
  static constexpr u8 kGprs[] = {RAX, RCX, RDX, RSI, R8, R9, R10, R11};
  const bool vex = row.map >= 4;
  const bool vsib = (row.flags & kRowVsib) != 0;
  bool memory = vsib || row.mod_rule == 1;
  const bool either = row.has_modrm && row.modrm < 0 && row.mod_rule == 0 && has(row, {Encoding::E, Encoding::W});
  if (either) memory = random.one_in(2);
  unsigned reg = static_cast<unsigned>(random.below(16)), rm = static_cast<unsigned>(random.below(16));
  unsigned vvvv = static_cast<unsigned>(random.below(16)), is4 = static_cast<unsigned>(random.below(16));
  const unsigned sib_index = static_cast<unsigned>(random.below(16));
  if (has(row, {Encoding::G})) reg = kGprs[random.below(std::size(kGprs))];
  if (row.reg >= 0) reg = static_cast<unsigned>(row.reg);
  if (has(row, {Encoding::E, Encoding::R})) rm = kGprs[random.below(std::size(kGprs))];
  if (random.one_in(4)) vvvv = reg;
  if (random.one_in(4) && !memory && has(row, {Encoding::W, Encoding::U})) rm = random.one_in(2) ? vvvv : reg;
  if (!has(row, {Encoding::H})) vvvv = 0;
  const bool w = row.w_rule == 2 || (row.w_rule == 0 && has(row, {Encoding::E, Encoding::G}) && random.one_in(2));
  const bool l = row.l_rule == 2 || (row.l_rule == 0 && random.one_in(2));
  Encoded out;
  std::vector<u8>& b = out.bytes;
  const bool high_rm = !memory && rm >= 8, high_index = vsib && sib_index >= 8;
  u8 pp = 0;
  switch (static_cast<PrefixRule>(row.prefix_rule)) {
    case PrefixRule::P66: pp = 1; break;
    case PrefixRule::F3: pp = 2; break;
    case PrefixRule::F2: pp = 3; break;
    default: break;
  }
  if (vex) {
    b.push_back(0xc4);
    b.push_back(static_cast<u8>((reg >= 8 ? 0 : 0x80) | (high_index ? 0 : 0x40) | (high_rm ? 0 : 0x20) | (row.map - 4)));
    b.push_back(static_cast<u8>((w ? 0x80 : 0) | (~vvvv & 15) << 3 | (l ? 4 : 0) | pp));
  } else {
    static constexpr u8 kBytes[] = {0, 0x66, 0xf3, 0xf2};
    if (pp) b.push_back(kBytes[pp]);
    const u8 rex = static_cast<u8>((w ? 8 : 0) | (reg >= 8 ? 4 : 0) | (high_rm ? 1 : 0));
    if (rex) b.push_back(0x40 | rex);
    b.push_back(0x0f);
    if (row.map == 2) b.push_back(0x38);
    if (row.map == 3) b.push_back(0x3a);
  }
  b.push_back(row.opcode);
  if (row.has_modrm) {
    const u8 field = static_cast<u8>((reg & 7) << 3);
    if (row.modrm >= 0) {
      b.push_back(static_cast<u8>(row.modrm));
    } else if (vsib) {
      b.push_back(0x44 | field);
      b.push_back(static_cast<u8>(random.below(3) << 6 | (sib_index & 7) << 3 | RBX));
      b.push_back(8);
      out.index = static_cast<int>(sib_index);
      out.index64 = (row.param & 1) != 0;
    } else if (memory) {
      b.push_back(0x40 | field | RBX);
      b.push_back(static_cast<u8>(random.one_in(6) ? random.below(64) : random.below(4) * 16));
    } else {
      b.push_back(0xc0 | field | (rm & 7));
    }
  }
  if (has(row, {Encoding::L})) b.push_back(static_cast<u8>(is4 << 4 | random.below(16)));
  if (has(row, {Encoding::I})) b.push_back(static_cast<u8>(random.one_in(3) ? random.below(33) : random.next()));
  return out;
}

void fill(Random& random, Machine& m, const Encoded& code, const Row& row) {
  std::memset(static_cast<void*>(&m), 0, sizeof m);
  for (u64& x : m.r) x = random.one_in(2) ? random.next() : random.below(20) - 2;
  m.r[RBX] = m.r[RDI] = reinterpret_cast<u64>(m.memory) + kOperand;
  const unsigned main_kind = static_cast<unsigned>(random.below(6));
  for (unsigned i = 0; i < 16; ++i)
    for (V128* v : {&m.low[i], &m.high[i]})
      random.vector(*v, random.one_in(4) ? static_cast<unsigned>(random.below(6)) : main_kind);
  for (unsigned i = 0; i < kMemory; i += 16) {
    V128 v;
    random.vector(v, random.one_in(4) ? static_cast<unsigned>(random.below(6)) : main_kind);
    std::memcpy(m.memory + i, &v, 16);
  }
  if (std::string_view(row.name).ends_with("ldmxcsr"))
    for (unsigned i = 0; i < kMemory; i += 4) {
      // Without bit 17: AMD's processors have it, Kiln's do not.
      const u32 v = static_cast<u32>(random.one_in(8) ? random.next() & ~u64{0x20000} : random.next() & 0xffff);
      std::memcpy(m.memory + i, &v, 4);
    }
  if (code.index >= 0) {
    for (V128* v : {&m.low[code.index], &m.high[code.index]}) {
      if (code.index64)
        for (u64& x : v->d) x = random.below(40) - 20;
      else
        for (u32& x : v->s) x = static_cast<u32>(random.below(40)) - 20;
    }
  }
  m.eflags = (random.next() & kStatusFlags) | 2;
  m.mxcsr = 0x1f80 | static_cast<u32>(random.next() & 0x6000);
  if (random.one_in(4)) m.mxcsr |= static_cast<u32>(random.next() & 0x8040);
  if (random.one_in(2)) m.mxcsr |= static_cast<u32>(random.next() & 0x3f);
  if (random.one_in(4)) m.mxcsr &= ~static_cast<u32>(random.next() & 0x1f80);
}

std::string hex(const V128& v) {
  char text[40];
  std::snprintf(text, sizeof text, "%016llx_%016llx", static_cast<unsigned long long>(v.d[1]),
                static_cast<unsigned long long>(v.d[0]));
  return text;
}
/// What differs between host and Kiln, with what it was before.
std::string differences(const Machine& start, const Machine& want, const Machine& got, const Row& row) {
  std::string out;
  const auto number = [&](const char* name, u64 before, u64 a, u64 b) {
    char text[160];
    if (a != b)
      std::snprintf(text, sizeof text, "  %s: %llx -> host %llx, kiln %llx\n", name, static_cast<unsigned long long>(before),
                    static_cast<unsigned long long>(a), static_cast<unsigned long long>(b)),
          out += text;
  };
  number("signal", 0, static_cast<u64>(want.signal), static_cast<u64>(got.signal));
  for (unsigned i : {0, 1, 2, 3, 6, 7, 8, 9, 10, 11})
    number(("r" + std::to_string(i)).c_str(), start.r[i], want.r[i], got.r[i]);
  const u32 flags = kStatusFlags & ~row.undefined;
  number("eflags", start.eflags & flags, want.eflags & flags, got.eflags & flags);
  number("mxcsr", start.mxcsr, want.mxcsr, got.mxcsr);
  for (unsigned i = 0; i < 16; ++i) {
    for (bool upper : {false, true}) {
      const V128 &s = upper ? start.high[i] : start.low[i], &a = upper ? want.high[i] : want.low[i],
                 &b = upper ? got.high[i] : got.low[i];
      if (std::memcmp(&a, &b, 16) != 0)
        out += "  ymm" + std::to_string(i) + (upper ? ".high " : ".low ") + hex(s) + "\n    host " + hex(a) + "\n    kiln " +
               hex(b) + "\n";
    }
  }
  for (unsigned i = 0; i < kMemory; i += 16) {
    V128 s, a, b;
    std::memcpy(&s, start.memory + i, 16);
    std::memcpy(&a, want.memory + i, 16);
    std::memcpy(&b, got.memory + i, 16);
    if (std::memcmp(&a, &b, 16) != 0)
      out += "  memory+" + std::to_string(static_cast<int>(i) - static_cast<int>(kOperand)) + " " + hex(s) + "\n    host " +
             hex(a) + "\n    kiln " + hex(b) + "\n";
  }
  return out;
}

bool is_sse(const Row& row) {
  if (has(row, {Encoding::P, Encoding::Q, Encoding::N, Encoding::T})) return false;
  const std::string_view name = row.name;
  return has(row, {Encoding::V, Encoding::W, Encoding::U, Encoding::H}) || name.ends_with("mxcsr") || name == "vzeroupper" ||
         name == "vzeroall" || name == "movnti";
}

TEST(Sse, EveryInstructionAsTheHostHasIt) {
  CodePage page;
  Interpreted kiln;
  static Machine start, want, got, work;
  const u64 base = environment("KILN_TEST_SEED", 1) * 1000000007;
  const u64 runs = 400 * environment("KILN_TEST_SCALE", 1);
  const char* only = std::getenv("KILN_TEST_ROW");
  unsigned rows = 0, failed_rows = 0;
  for (const Row& row : instruction_rows()) {
    if (!is_sse(row) || (row.flags & kRowNoRandom)) continue;
    ++rows;
    if (only && std::string_view(only) != row.name) continue;
    for (u64 n = 0; n < runs; ++n) {
      const u64 seed = base + rows * 1000000 + n;
      Random random(seed);
      const Encoded code = encode(row, random);
      fill(random, work, code, row);
      start = work;
      const u8* at = page.place(code.bytes);
      page.run(work);  // addresses point into `work` for both
      want = work;
      work = start;
      const std::string trouble = kiln.run(at, static_cast<unsigned>(code.bytes.size()), work);
      got = work;
      const std::string different = differences(start, want, got, row);
      if (trouble.empty() && different.empty()) continue;
      std::string bytes;
      for (u8 b : code.bytes) bytes += "0123456789abcdef"[b >> 4], bytes += "0123456789abcdef"[b & 15];
      ADD_FAILURE() << row.name << " (" << row.text << ") " << bytes << " seed " << seed << " " << trouble << "\n" << different;
      ++failed_rows;
      break;
    }
  }
  EXPECT_GT(rows, 500u);
  std::printf("%u rows, %u differ\n", rows, failed_rows);
}

}  // namespace
}  // namespace kiln::x86::test
