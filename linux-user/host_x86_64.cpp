#include "linux-user/host_x86_64.h"

#include <asm/prctl.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

asm(R"(
  .text
  .p2align 4
  .globl kiln_safe_syscall
  .type kiln_safe_syscall, @function
kiln_safe_syscall:                    # rdi = number, rsi = pending, rdx = args
  mov %rdi, %rax
  mov %rsi, %rcx
  mov %rdx, %r11
  mov 0(%r11), %rdi
  mov 8(%r11), %rsi
  mov 16(%r11), %rdx
  mov 24(%r11), %r10
  mov 32(%r11), %r8
  mov 40(%r11), %r9
  .globl kiln_safe_syscall_start
kiln_safe_syscall_start:
  cmpl $0, (%rcx)
  jne kiln_safe_syscall_abort
  syscall
  .globl kiln_safe_syscall_end
kiln_safe_syscall_end:
  ret
  .globl kiln_safe_syscall_abort
kiln_safe_syscall_abort:
  mov $-512, %rax
  ret
  .size kiln_safe_syscall, .-kiln_safe_syscall

  .p2align 4
  .globl kiln_copy_begin
kiln_copy_begin:
  .globl kiln_copy
  .type kiln_copy, @function
kiln_copy:                            # rdi = to, rsi = from, rdx = size
  cmp $8, %rdx
  je 1f
  mov %rdx, %rcx
  rep movsb
  xor %eax, %eax
  ret
1: mov (%rsi), %rax                   # one word: not torn
  mov %rax, (%rdi)
  xor %eax, %eax
  ret
  .size kiln_copy, .-kiln_copy
  .globl kiln_load32
  .type kiln_load32, @function
kiln_load32:                          # rdi = from, rsi = to (ours)
  mov (%rdi), %eax
  mov %eax, (%rsi)
  xor %eax, %eax
  ret
  .size kiln_load32, .-kiln_load32
  .globl kiln_store32
  .type kiln_store32, @function
kiln_store32:                         # rdi = to, esi = value
  mov %esi, (%rdi)
  xor %eax, %eax
  ret
  .size kiln_store32, .-kiln_store32
  .globl kiln_copy_end
kiln_copy_end:
  .globl kiln_copy_failed
kiln_copy_failed:
  mov $1, %eax
  ret

  .p2align 4
  .globl kiln_host_sigreturn
  .type kiln_host_sigreturn, @function
kiln_host_sigreturn:
  mov $15, %eax                       # rt_sigreturn
  syscall
  .size kiln_host_sigreturn, .-kiln_host_sigreturn

  .p2align 4
  .globl kiln_vfork_call
  .type kiln_vfork_call, @function
kiln_vfork_call:                      # rdi = fn, rsi = argument, rdx = clone flags
  mov %rdi, %r8
  mov %rsi, %r9
  mov %rdx, %rdi
  xor %esi, %esi
  xor %edx, %edx
  xor %r10d, %r10d
  mov $56, %eax                       # clone
  push %r8                            # the child's frames lie below this one, which it only reads
  push %r9
  sub $8, %rsp
  xor %r8d, %r8d
  syscall
  test %rax, %rax
  jz 1f
  add $24, %rsp
  ret
1: mov 8(%rsp), %rdi
  mov 16(%rsp), %rax
  sub $64, %rsp
  and $-16, %rsp
  call *%rax
  ud2
  .size kiln_vfork_call, .-kiln_vfork_call
)");

namespace kiln::user {
extern "C" {
s64 kiln_safe_syscall(long number, const u32* pending, const u64* args);
s64 kiln_vfork_call(void (*fn)(void*), void* argument, u64 flags);
int kiln_copy(void* to, const void* from, std::size_t size);
int kiln_load32(const u32* from, u32* to);
int kiln_store32(u32* to, u32 value);
extern char kiln_safe_syscall_start[], kiln_safe_syscall_end[], kiln_safe_syscall_abort[];
extern char kiln_copy_begin[], kiln_copy_end[], kiln_copy_failed[];
}

namespace {
greg_t& rip_of(void* ucontext) { return static_cast<ucontext_t*>(ucontext)->uc_mcontext.gregs[REG_RIP]; }
bool within(greg_t pc, const char* begin, const char* end) {
  return static_cast<u64>(pc) >= reinterpret_cast<u64>(begin) && static_cast<u64>(pc) < reinterpret_cast<u64>(end);
}
}  // namespace

s64 safe_syscall(long number, const u32* signal_pending, const u64 (&args)[6]) {
  return kiln_safe_syscall(number, signal_pending, args);
}

void rewind_safe_syscall(void* ucontext) {
  greg_t& rip = rip_of(ucontext);
  if (within(rip, kiln_safe_syscall_start, kiln_safe_syscall_end)) rip = reinterpret_cast<greg_t>(kiln_safe_syscall_abort);
}

bool copy_faulting(void* to, const void* from, std::size_t size) { return kiln_copy(to, from, size) == 0; }
bool load_u32_faulting(const u32* from, u32& value) { return kiln_load32(from, &value) == 0; }
bool store_u32_faulting(u32* to, u32 value) { return kiln_store32(to, value) == 0; }

bool recover_faulting_copy(void* ucontext) {
  greg_t& rip = rip_of(ucontext);
  if (!within(rip, kiln_copy_begin, kiln_copy_end)) return false;
  rip = reinterpret_cast<greg_t>(kiln_copy_failed);
  return true;
}

bool fault_is_write(const void* ucontext) {
  return (static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs[REG_ERR] & 2) != 0;
}
bool fault_page_present(const void* ucontext) {
  return (static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs[REG_ERR] & 1) != 0;
}
HostAddr fault_pc(const void* ucontext) {
  return static_cast<HostAddr>(static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs[REG_RIP]);
}

bool exhausted_stack(const siginfo_t* info, const void* ucontext) {
  constexpr u64 kNear = 64 << 10;
  const auto sp = static_cast<u64>(static_cast<const ucontext_t*>(ucontext)->uc_mcontext.gregs[REG_RSP]);
  return info->si_signo == SIGSEGV && reinterpret_cast<u64>(info->si_addr) - (sp - kNear) < 2 * kNear;
}

void set_guest_base(HostAddr base) { raw_syscall(SYS_arch_prctl, ARCH_SET_GS, base); }

s64 raw_syscall(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) {
  register u64 r10 asm("r10") = d;
  register u64 r8 asm("r8") = e;
  register u64 r9 asm("r9") = f;
  s64 result;
  asm volatile("syscall"
               : "=a"(result)
               : "0"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
               : "rcx", "r11", "memory");
  return result;
}

s64 vfork_call(void (*fn)(void*), void* argument, u64 clone_flags) { return kiln_vfork_call(fn, argument, clone_flags); }

}  // namespace kiln::user
