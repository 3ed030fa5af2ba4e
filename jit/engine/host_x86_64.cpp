#include <cpuid.h>
#include <fmt/format.h>
#include <ucontext.h>

#include <atomic>
#include <cstddef>
#include <cstring>

#include "jit/engine/host.h"

namespace kiln::jit::host {

using ir::CpuState;

// Six pushes keep rsp % 16 == 8 at every block boundary, as at a C function's entry.
extern "C" __attribute__((naked, noinline)) void kiln_enter_code(CpuState*, HostAddr) {
  asm volatile(
      "pushq %%rbp\n pushq %%rbx\n pushq %%r12\n pushq %%r13\n pushq %%r14\n pushq %%r15\n"
      "movq %%rdi, %%r12\n"
      "movq %%rsp, %c[sp](%%r12)\n"
      "ldmxcsr %c[mxcsr](%%r12)\n"
      "leaq kiln_leave_helper(%%rip), %%rax\n"
      "movq %%rax, %c[leave_helper](%%r12)\n"
      "movl $1, %c[in_code](%%r12)\n"
      "jmpq *%%rsi\n"
      ".globl kiln_call_thunk\n kiln_call_thunk:\n"
      "movq %%r12, %%rdi\n"
      "movq %c[args]+48(%%r12), %%rax\n"
      "movq %c[args]+56(%%r12), %%rsi\n"
      "subq $8, %%rsp\n callq *%%rax\n addq $8, %%rsp\n"
      "jmp kiln_leave\n"
      ".globl kiln_lookup_miss\n kiln_lookup_miss:\n"
      "movl %[miss], %c[kind](%%r12)\n"
      "jmp kiln_leave\n"
      ".globl kiln_lookup_quick\n kiln_lookup_quick:\n"
      "movq %%r12, %%rdi\n"
      "subq $8, %%rsp\n callq kiln_find_code\n addq $8, %%rsp\n"
      "testq %%rax, %%rax\n"
      "je kiln_lookup_miss\n"
      "jmpq *%%rax\n"
      ".globl kiln_leave_hot\n kiln_leave_hot:\n"
      "movl %[hot], %c[kind](%%r12)\n"
      "jmp 1f\n"
      ".globl kiln_leave_poll\n kiln_leave_poll:\n"
      "movl %[interrupt], %c[kind](%%r12)\n"
      "jmp 1f\n"
      ".globl kiln_leave_chain\n kiln_leave_chain:\n"
      "movl %[chain], %c[kind](%%r12)\n"
      "1: movq (%%rax), %%rbx\n"
      "movq %%rbx, %c[pc](%%r12)\n"
      "movq %%rax, %c[value](%%r12)\n"
      "jmp kiln_leave\n"
      "kiln_leave_helper:\n"
      "movq %%rdi, %%r12\n"
      ".globl kiln_fault_leave\n kiln_fault_leave:\n"
      "movq %c[sp](%%r12), %%rsp\n"
      ".globl kiln_leave\n kiln_leave:\n"
      "movl $0, %c[in_code](%%r12)\n"
      "stmxcsr %c[mxcsr](%%r12)\n"
      "pushq $0x1f80\n ldmxcsr (%%rsp)\n addq $8, %%rsp\n"
      "popq %%r15\n popq %%r14\n popq %%r13\n popq %%r12\n popq %%rbx\n popq %%rbp\n"
      "retq\n"
      :
      : [sp] "i"(offsetof(CpuState, host_sp)), [mxcsr] "i"(offsetof(CpuState, mxcsr)), [in_code] "i"(offsetof(CpuState, in_code)),
        [leave_helper] "i"(offsetof(CpuState, leave_helper)), [args] "i"(offsetof(CpuState, helper_args)), [kind] "i"(offsetof(CpuState, exit_kind)), [miss] "i"(static_cast<int>(ir::ExitKind::Miss)),
        [pc] "i"(offsetof(CpuState, pc)), [value] "i"(offsetof(CpuState, exit_value)), [chain] "i"(static_cast<int>(ir::ExitKind::Chain)),
        [hot] "i"(static_cast<int>(ir::ExitKind::Hot)), [interrupt] "i"(static_cast<int>(ir::ExitKind::Interrupt)));
}
extern "C" char kiln_leave[], kiln_fault_leave[], kiln_lookup_miss[], kiln_lookup_quick[], kiln_call_thunk[];
extern "C" char kiln_leave_chain[], kiln_leave_hot[], kiln_leave_poll[];

void enter_code(CpuState* state, HostAddr code) { kiln_enter_code(state, code); }
void call_in_code(CpuState* state, void (*function)(CpuState*, const void*), const void* argument) {
  state->helper_args[6] = reinterpret_cast<u64>(function);
  state->helper_args[7] = reinterpret_cast<u64>(argument);
  kiln_enter_code(state, reinterpret_cast<HostAddr>(kiln_call_thunk));
}
HostAddr leave_address() { return reinterpret_cast<HostAddr>(kiln_leave); }
HostAddr fault_leave_address() { return reinterpret_cast<HostAddr>(kiln_fault_leave); }
HostAddr leave_chain_address() { return reinterpret_cast<HostAddr>(kiln_leave_chain); }
HostAddr leave_hot_address() { return reinterpret_cast<HostAddr>(kiln_leave_hot); }
HostAddr leave_poll_address() { return reinterpret_cast<HostAddr>(kiln_leave_poll); }
HostAddr lookup_miss_address() { return reinterpret_cast<HostAddr>(kiln_lookup_miss); }
HostAddr lookup_quick_address() { return reinterpret_cast<HostAddr>(kiln_lookup_quick); }

std::string processor_identity() {
  unsigned a = 0, b = 0, c = 0, d = 0, signature = 0;
  __get_cpuid(1, &signature, &b, &c, &d);
  std::string text = fmt::format("x86-64 {:x} {:x} {:x}", signature, c & ~(1u << 27), d);
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) text += fmt::format(" {:x} {:x} {:x}", b, c, d);
  return text;
}

namespace {

u8* put(u8* p, std::initializer_list<u8> bytes) {
  for (u8 b : bytes) *p++ = b;
  return p;
}
u8* put32(u8* p, u64 value) {
  const u32 v = static_cast<u32>(value);
  std::memcpy(p, &v, 4);
  return p + 4;
}
u8* put64(u8* p, u64 value) {
  std::memcpy(p, &value, 8);
  return p + 8;
}

}  // namespace

void write_exit_stub(u8* out, HostAddr executable, GuestAddr target, u64 exit_id) {
  u8* p = put(out, {0x0f, 0x1f, 0x00, 0xe9});                            // nopl (%rax); jmp rel32
  p = put32(p, 0);                                                       // … at first to the next byte
  p = put(p, {0x48, 0xb8});                                              // movabs target, %rax
  p = put64(p, target);
  p = put32(put(p, {0x49, 0x89, 0x84, 0x24}), offsetof(CpuState, pc));   // mov %rax, pc(%r12)
  p = put(p, {0x48, 0xb8});                                              // movabs exit_id, %rax
  p = put64(p, exit_id);
  p = put32(put(p, {0x49, 0x89, 0x84, 0x24}), offsetof(CpuState, exit_value));
  p = put32(put(p, {0x41, 0xc7, 0x84, 0x24}), offsetof(CpuState, exit_kind));  // movl $Chain, exit_kind(%r12)
  p = put32(p, static_cast<u32>(ir::ExitKind::Chain));
  const HostAddr here = executable + static_cast<std::size_t>(p - out);
  if (reachable(here + 1, leave_address())) {
    p = put32(put(p, {0xe9}), leave_address() - (here + 5));
  } else {                                                               // movabs leave, %rax; jmp *%rax
    p = put64(put(p, {0x48, 0xb8}), leave_address());
    p = put(p, {0xff, 0xe0});
  }
}
static_assert(8 + 10 + 8 + 10 + 8 + 12 <= kExitStubBytes - 12);

void write_probe_stub(u8* out, HostAddr executable, GuestAddr target, HostAddr miss) {
  const std::size_t index = ir::jump_cache_index(target);
  const u64 slot = static_cast<u64>(-static_cast<s64>(ir::kJumpCacheBytes) + static_cast<s64>(index * sizeof(ir::JumpCacheEntry)));
  u8* p = put(out, {0x48, 0xb8});                                          // movabs target, %rax
  p = put64(p, target);
  p = put32(put(p, {0x49, 0x89, 0x84, 0x24}), offsetof(CpuState, pc));     // mov %rax, pc(%r12)
  p = put32(put(p, {0x49, 0x33, 0x84, 0x24}), offsetof(CpuState, jump_key));  // xor jump_key(%r12), %rax
  p = put32(put(p, {0x49, 0x3b, 0x84, 0x24}), slot);                       // cmp slot.pc(%r12), %rax
  p = put(p, {0x75, 0x08});                                                // jne over the jump
  p = put32(put(p, {0x41, 0xff, 0xa4, 0x24}), slot + 8);                   // jmp *slot.code(%r12)
  const HostAddr here = executable + static_cast<std::size_t>(p - out);
  if (reachable(here + 1, miss)) {
    p = put32(put(p, {0xe9}), miss - (here + 5));
  } else {
    p = put64(put(p, {0x48, 0xb8}), miss);
    p = put(p, {0xff, 0xe0});
  }
}
static_assert(10 + 8 + 8 + 8 + 2 + 8 + 12 <= kExitStubBytes);

bool reachable(HostAddr field, HostAddr target) {
  const s64 distance = static_cast<s64>(target - (field + 4));
  return distance == static_cast<s32>(distance);
}

void patch_displacement(u8* writable, HostAddr field, HostAddr target) {
  std::atomic_ref<u32>(*reinterpret_cast<u32*>(writable)).store(static_cast<u32>(target - (field + 4)), std::memory_order_release);
}

void patch_entry_jump(u8* writable, HostAddr entry, HostAddr target) {
  auto word = std::atomic_ref<u64>(*reinterpret_cast<u64*>(writable));
  const u64 displacement = static_cast<u32>(target - (entry + 5));
  word.store((word.load() & ~mask_low(40)) | 0xe9 | displacement << 8, std::memory_order_release);
}

void patch_entry_nop(u8* writable) {
  auto word = std::atomic_ref<u64>(*reinterpret_cast<u64*>(writable));
  word.store((word.load() & ~mask_low(40)) | 0x00'00'44'1f'0f, std::memory_order_release);  // nopl 0(%rax,%rax)
}

HostAddr fault_pc(const void* ucontext) {
  return static_cast<HostAddr>(static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs[REG_RIP]);
}

void save_registers(const void* ucontext, FaultRegisters& out) {
  const auto& context = static_cast<const ucontext_t*>(ucontext)->uc_mcontext;
  static constexpr int kOrder[10] = {REG_R13, REG_R14, REG_R15, REG_RDI, REG_RSI, REG_RDX, REG_RCX, REG_R8, REG_R9, REG_R11};
  out.pc = fault_pc(ucontext);
  out.temporary = static_cast<u64>(context.gregs[REG_RAX]);
  for (unsigned i = 0; i < 10; ++i) out.integer[i] = static_cast<u64>(context.gregs[kOrder[i]]);
  for (unsigned i = 0; i < 8; ++i) std::memcpy(&out.vector[i], &context.fpregs->_xmm[i], 16);
}

void resume_at(void* ucontext, HostAddr pc, CpuState* state) {
  auto& context = static_cast<ucontext_t*>(ucontext)->uc_mcontext;
  context.gregs[REG_RIP] = static_cast<greg_t>(pc);
  context.gregs[REG_R12] = static_cast<greg_t>(reinterpret_cast<u64>(state));
  context.gregs[REG_EFL] &= ~greg_t{1 << 10};  // a helper of x86 strings may have been at work backwards
}

}  // namespace kiln::jit::host
