#include "tests/frontends/x86/native.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

#include "ir/interpreter.h"

namespace kiln::x86::test {

namespace {

constexpr std::size_t kPage = 4096;

// void (SaveImage* rdi, u64 eflags rsi, void* memory rdx, u64* rax rcx, V128* xmm0 r8, u64* eflags out r9)
constexpr u8 kBefore[] = {
    0x53,                    // push rbx
    0xdd, 0x27,              // frstor [rdi]
    0x48, 0x89, 0xd3,        // mov rbx, rdx
    0x48, 0x8b, 0x01,        // mov rax, [rcx]
    0x41, 0x0f, 0x10, 0x00,  // movups xmm0, [r8]
    0x56, 0x9d,              // push rsi; popfq
};
constexpr u8 kAfter[] = {
    0x9c,                    // pushfq
    0x41, 0x8f, 0x01,        // pop [r9]
    0xdd, 0x37,              // fnsave [rdi]
    0x48, 0x89, 0x01,        // mov [rcx], rax
    0x41, 0x0f, 0x11, 0x00,  // movups [r8], xmm0
    0x5b, 0xc3,              // pop rbx; ret
};

class OwnMemory : public ir::CodeSource {
 public:
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    std::memcpy(out, reinterpret_cast<const void*>(pc), size);
    return size;
  }
};

}  // namespace

CodePage::CodePage() {
  void* p = mmap(nullptr, kPage * 2, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) std::abort();
  page_ = static_cast<u8*>(p);
}
CodePage::~CodePage() { munmap(page_, kPage * 2); }

const u8* CodePage::place(std::span<const u8> instruction) {
  u8* at = page_;
  std::memcpy(at, kBefore, sizeof kBefore);
  instruction_ = at += sizeof kBefore;
  std::memcpy(at, instruction.data(), instruction.size());
  std::memcpy(at + instruction.size(), kAfter, sizeof kAfter);
  return instruction_;
}

void CodePage::run_native(Machine& m) const {
  using Fn = void (*)(SaveImage*, u64, void*, u64*, V128*, u64*);
  u64 flags = 0;
  u32 own;
  asm volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(own) : "m"(m.mxcsr));
  reinterpret_cast<Fn>(page_)(&m.fpu, m.eflags | 0x202, m.memory, &m.rax, &m.xmm0, &flags);
  asm volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(m.mxcsr) : "m"(own) : "memory");
  m.eflags = static_cast<u32>(flags) & kStatusFlags;
}

Interpreted::Interpreted() : storage_(new u8[ir::kJumpCacheBytes + sizeof(X86State) + 128]) {
  const u64 at = align_up(reinterpret_cast<u64>(storage_.get()) + ir::kJumpCacheBytes, 64);
  state_ = new (reinterpret_cast<void*>(at)) X86State();
  kX86_64.reset(state_);
}

bool Interpreted::run(const u8* instruction, unsigned length, Machine& m) {
  X86State& s = *state_;
  s.pc = reinterpret_cast<u64>(instruction);
  s.r[RAX] = m.rax;
  s.r[RBX] = reinterpret_cast<u64>(m.memory);
  s.xmm[0] = m.xmm0;
  set_eflags(s, m.eflags);
  set_mxcsr(s, m.mxcsr);
  frstor_image(s, reinterpret_cast<const u8*>(&m.fpu));
  s.memory_base = 0;
  s.exit_kind = 0;
  OwnMemory memory;
  ir::LiftLimits limits;
  limits.max_insns = 1;
  kX86_64.lift(memory, s.pc, s.mode, limits, block_);
  if (std::string error = ir::verify(block_); !error.empty()) {
    std::fprintf(stderr, "%s\n%s", error.c_str(), ir::print(block_).c_str());
    std::abort();
  }
  // Generated code and interpret() run under the guest's MXCSR.
  u32 own;
  asm volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(own) : "m"(s.mxcsr) : "memory");
  ir::interpret(block_, &s);
  asm volatile("stmxcsr %0\n ldmxcsr %1" : "=m"(s.mxcsr) : "m"(own) : "memory");
  m.rax = s.r[RAX];
  m.xmm0 = s.xmm[0];
  m.eflags = eflags_of(s) & kStatusFlags;
  m.mxcsr = mxcsr_of(s);
  fsave_image(s, reinterpret_cast<u8*>(&m.fpu));
  return s.exit_kind == 0 && s.pc == reinterpret_cast<u64>(instruction) + length;
}

}  // namespace kiln::x86::test
