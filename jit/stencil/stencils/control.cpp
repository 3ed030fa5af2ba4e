// Compares (which leave the host's flags to the next stencil), what consumes them, exits, polls and calls.
#include "jit/stencil/stencils/frame.h"

namespace kiln::stencil::source {

struct cmp_rr {
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("cmpl %k1,%k0" : : "r"(f.r[A]), "r"(f.r[B]));
    else asm volatile("cmpq %1,%0" : : "r"(f.r[A]), "r"(f.r[B]));
  }
};
struct cmp_ri {
  template <int W, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("cmpl %1,%k0" : : "r"(f.r[A]), "i"(HOLE_A));
    else asm volatile("cmpq %1,%0" : : "r"(f.r[A]), "i"(HOLE_A));
  }
};
struct test_rr {
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("testl %k1,%k0" : : "r"(f.r[A]), "r"(f.r[B]));
    else asm volatile("testq %1,%0" : : "r"(f.r[A]), "r"(f.r[B]));
  }
};
struct test_ri {
  template <int W, int A> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("testl %1,%k0" : : "r"(f.r[A]), "i"(HOLE_A));
    else asm volatile("testq %1,%0" : : "r"(f.r[A]), "i"(HOLE_A));
  }
};
struct bt_i { template <int A> static void run(Frame& f) { asm volatile("btq %1,%0" : : "r"(f.r[A]), "i"(HOLE_8)); } };
FAMILY(cmp_rr, 2, 10, 10)
FAMILY(cmp_ri, 2, 10)
FAMILY(test_rr, 2, 10, 10)
FAMILY(test_ri, 2, 10)
FAMILY(bt_i, 10)

struct ucomi {
  template <int T, int S, int A, int B> static void run(Frame& f) {
    if constexpr (T == 0 && S == 0) asm volatile("vucomiss %1,%0" : : "x"(f.v[A]), "x"(f.v[B]));
    if constexpr (T == 1 && S == 0) asm volatile("vucomisd %1,%0" : : "x"(f.v[A]), "x"(f.v[B]));
    if constexpr (T == 0 && S == 1) asm volatile("vcomiss %1,%0" : : "x"(f.v[A]), "x"(f.v[B]));
    if constexpr (T == 1 && S == 1) asm volatile("vcomisd %1,%0" : : "x"(f.v[A]), "x"(f.v[B]));
  }
};
FAMILY(ucomi, 2, 2, 8, 8)

// Conditions are numbered as in the x86 encodings (o no b ae e ne be a s ns p np l ge le g).
#define CONDITION(use)                                                                             \
  use(0, "o") use(1, "no") use(2, "b") use(3, "ae") use(4, "e") use(5, "ne") use(6, "be") use(7, "a") \
  use(8, "s") use(9, "ns") use(10, "p") use(11, "np") use(12, "l") use(13, "ge") use(14, "le") use(15, "g")

struct cmov {
  template <int C, int D, int S> static void run(Frame& f) {
#define USE(n, cc) if constexpr (C == n) asm volatile("cmov" cc " %1,%0" : "+r"(f.r[D]) : "r"(f.r[S]));
    CONDITION(USE)
#undef USE
  }
};
// The result's upper bytes are cleared after setcc: the register may be one of the compare's operands.
struct setcc {
  template <int C, int D> static void run(Frame& f) {
#define USE(n, cc) if constexpr (C == n) asm volatile("set" cc " %b0\n\tmovzbl %b0,%k0" : "=r"(f.r[D]));
    CONDITION(USE)
#undef USE
  }
};
struct jcc {
  template <int C> static void run(Frame& f) {
#define USE(n, cc) if constexpr (C == n) asm volatile("j" cc " HOLE_TAKEN");
    CONDITION(USE)
#undef USE
  }
};
FAMILY(cmov, 16, 10, 10)
FAMILY(setcc, 16, 10)
FAMILY(jcc, 16)
// ZF && !PF: floating-point equality.
struct seteq_f { template <int D> static void run(Frame& f) { asm volatile("setnp %%al\n\tsete %b0\n\tandb %%al,%b0\n\tmovzbl %b0,%k0" : "=r"(f.r[D]) : : "rax"); } };
FAMILY(seteq_f, 10)

struct jmp_taken { template <int...> static void run(Frame&) { asm volatile("jmp HOLE_TAKEN"); __builtin_unreachable(); } };
FAMILY(jmp_taken)
// Jump to a 64-bit host address.
struct jmp_far {
  template <int...> static void run(Frame&) {
    asm volatile("movabsq %0,%%rax\n\tjmp *%%rax" : : "i"(HOLE_64) : "rax");
    __builtin_unreachable();
  }
};
FAMILY(jmp_far)
// Jump-cache probe: (pc >> 2 & mask) * 16 == (pc & mask << 2) * 4. HOLE_TAKEN is the miss.
struct probe {
  template <int A> static void run(Frame& f) {
    constexpr u32 mask = static_cast<u32>((ir::kJumpCacheEntries - 1) << 2);
    constexpr s32 low = -static_cast<s32>(ir::kJumpCacheBytes);
    asm volatile(
        "movl %k0,%%eax\n\tandl %2,%%eax\n\tcmpq %0,%c3(%1,%%rax,4)\n\tjne HOLE_TAKEN\n\tjmp *%c4(%1,%%rax,4)"
        : : "r"(f.r[A]), "r"(f.st), "i"(mask), "i"(low), "i"(low + 8) : "rax");
    __builtin_unreachable();
  }
};
FAMILY(probe, 10)
// The same in a full system, where entries hold pc ^ jump_key.
struct probe_key {
  template <int A> static void run(Frame& f) {
    constexpr u32 mask = static_cast<u32>((ir::kJumpCacheEntries - 1) << 2);
    constexpr s32 low = -static_cast<s32>(ir::kJumpCacheBytes);
    asm volatile(
        "movl %k0,%%eax\n\tandl %2,%%eax\n\tmovq %0,%%rbx\n\txorq %c5(%1),%%rbx\n\tcmpq %%rbx,%c3(%1,%%rax,4)\n\tjne HOLE_TAKEN\n\t"
        "jmp *%c4(%1,%%rax,4)"
        : : "r"(f.r[A]), "r"(f.st), "i"(mask), "i"(low), "i"(low + 8), "i"(offsetof(ir::CpuState, jump_key)) : "rax", "rbx");
    __builtin_unreachable();
  }
};
FAMILY(probe_key, 10)
// Notes a value: in a table in the low 2 GiB, by the low bits of a counter there, or at an absolute address.
struct note_near { using kills_t = void;
  template <int A> static void run(Frame& f) {
    asm volatile("movl %c1,%%eax\n\tandl $15,%%eax\n\tmovq %0,%c2(,%%rax,8)" : : "r"(f.r[A]), "i"(HOLE_A), "i"(HOLE_B) : "rax");
  }
};
struct note_far { using kills_t = void;
  template <int A> static void run(Frame& f) { asm volatile("movabsq %1,%%rax\n\tmovq %0,(%%rax)" : : "r"(f.r[A]), "i"(HOLE_64) : "rax"); }
};
FAMILY(note_near, 10)
FAMILY(note_far, 10)

// Privileged: where a trap's cold path ends, by a fault.
struct hlt { template <int...> static void run(Frame&) { asm volatile("hlt"); __builtin_unreachable(); } };
FAMILY(hlt)

struct entry_nop { template <int...> static void run(Frame&) { asm volatile(".byte 0x0f,0x1f,0x44,0x00,0x00"); } };
FAMILY(entry_nop)
struct poll {
  template <int...> static void run(Frame& f) {
    asm volatile("cmpl $0,%c1(%0)\n\tjne HOLE_TAKEN" : : "r"(f.st), "i"(offsetof(ir::CpuState, interrupt)));
  }
};
FAMILY(poll)
// The counter by absolute address: in the low 2 GiB, or not.
struct count_near { template <int...> static void run(Frame&) { asm volatile("decl HOLE_A\n\tjz HOLE_TAKEN"); } };
struct count_far { using kills_t = void;
  template <int...> static void run(Frame& f) { asm volatile("movabsq %0,%%rax\n\tdecl (%%rax)\n\tjz HOLE_TAKEN" : : "i"(HOLE_64) : "rax"); }
};
FAMILY(count_near)
FAMILY(count_far)

// C call: arguments are in place but for the first; the result stays in rax and xmm0. The stack is aligned for the callee here
// (rsp % 16 == 8 inside a block).
struct call_c {
  template <int...> static void run(Frame& f) {
    asm volatile("movabsq %1,%%rax\n\tmovq %0,%%rdi\n\tpushq %%rbx\n\tcall *%%rax\n\tpopq %%rbx" : : "r"(f.st), "i"(HOLE_64));
  }
};
FAMILY(call_c)
// Call of an assembler thunk that keeps every cached register: rax = its argument.
struct call_thunk {
  template <int...> static void run(Frame&) { asm volatile("movabsq %0,%%rax\n\tmovabsq %1,%%rbx\n\tcall *%%rbx" : : "i"(HOLE_64), "i"(HOLE_64 + 1)); }
};
FAMILY(call_thunk)

// Full system: rax is a guest address that the TLB did not have, and becomes a host address; r10 says what the access is. Keeps all else.
struct call_tlb {
  template <int...> static void run(Frame& f) { asm volatile("movl %2,%%r10d\n\tmovabsq %1,%%rbx\n\tcall *%%rbx" : "+a"(f.t) : "i"(HOLE_64), "i"(HOLE_B) : "rbx", "r10"); }
};
FAMILY(call_tlb)

// The host's flags for the record of flags in the state; the address of a thunk that keeps every cached register.
struct call_flags { using kills_t = void;
  template <int...> static void run(Frame&) { asm volatile("movabsq %0,%%rbx\n\tcall *%%rbx" : : "i"(HOLE_64) : "rax", "rbx", "r10"); }
};
struct call_flags_cmc { using kills_t = void;
  template <int...> static void run(Frame&) { asm volatile("movabsq %0,%%rbx\n\tcall *%%rbx\n\tcmc" : : "i"(HOLE_64) : "rax", "rbx", "r10"); }
};
// An image in t, by another such thunk.
struct call_image {
  template <int...> static void run(Frame& f) { asm volatile("movabsq %1,%%rbx\n\tcall *%%rbx" : "=a"(f.t) : "i"(HOLE_64) : "rbx", "r10"); }
};
FAMILY(call_image)
FAMILY(call_flags)
FAMILY(call_flags_cmc)

// Images N Z C V in bits 31..28, in t. lahf and seto give SF ZF . . . . . CF | OF; pext packs them.
#define PACK_NZCV "lahf\n\tseto %%al\n\tmovl $0xc101,%%r10d\n\tpextl %%r10d,%%eax,%%eax\n\tshll $28,%%eax"
struct nzcv_sub {
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("cmpl %k2,%k1\n\tcmc\n\t" PACK_NZCV : "=&a"(f.t) : "r"(f.r[A]), "r"(f.r[B]) : "r10");
    else asm volatile("cmpq %2,%1\n\tcmc\n\t" PACK_NZCV : "=&a"(f.t) : "r"(f.r[A]), "r"(f.r[B]) : "r10");
  }
};
struct nzcv_add {
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("movl %k1,%%eax\n\taddl %k2,%%eax\n\t" PACK_NZCV : "=&a"(f.t) : "r"(f.r[A]), "r"(f.r[B]) : "r10");
    else asm volatile("movq %1,%%rax\n\taddq %2,%%rax\n\t" PACK_NZCV : "=&a"(f.t) : "r"(f.r[A]), "r"(f.r[B]) : "r10");
  }
};
// t: the carry, 0 or 1.
struct nzcv_adc {
  template <int W, int A, int B> static void run(Frame& f) {
    if constexpr (W == 0)
      asm volatile("addl $-1,%%eax\n\tmovl %k1,%%eax\n\tadcl %k2,%%eax\n\t" PACK_NZCV : "+&a"(f.t) : "r"(f.r[A]), "r"(f.r[B]) : "r10");
    else
      asm volatile("addl $-1,%%eax\n\tmovq %1,%%rax\n\tadcq %2,%%rax\n\t" PACK_NZCV : "+&a"(f.t) : "r"(f.r[A]), "r"(f.r[B]) : "r10");
  }
};
FAMILY(nzcv_sub, 2, 10, 10)
FAMILY(nzcv_add, 2, 10, 10)
FAMILY(nzcv_adc, 2, 10, 10)
// After ucomi.
struct nzcv_fcmp {
  template <int...> static void run(Frame& f) {
    asm volatile(
        "movl $0x20000000,%%eax\n\tmovl $0x80000000,%%r10d\n\tcmovbl %%r10d,%%eax\n\tmovl $0x60000000,%%r10d\n\t"
        "cmovel %%r10d,%%eax\n\tmovl $0x30000000,%%r10d\n\tcmovpl %%r10d,%%eax" : "=a"(f.t) : : "r10");
  }
};
FAMILY(nzcv_fcmp)

// Images of x86 flags in t, whose first operand is in t: N Z C V in bits 31..28, P in bit 2, A in bit 4.
#define PACK_EFLAGS "\n\tlahf\n\tseto %%al\n\tmovl $0xc101,%%r10d\n\tpextl %%r10d,%%eax,%%r10d\n\tshll $28,%%r10d\n\t" \
                    "shrl $8,%%eax\n\tandl $0x14,%%eax\n\torl %%r10d,%%eax"
struct eimage_add {
  template <int W, int B> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("addb %b1,%b0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
    if constexpr (W == 1) asm volatile("addw %w1,%w0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
    if constexpr (W == 2) asm volatile("addl %k1,%k0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
    if constexpr (W == 3) asm volatile("addq %1,%0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
  }
};
struct eimage_sub {
  template <int W, int B> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("cmpb %b1,%b0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
    if constexpr (W == 1) asm volatile("cmpw %w1,%w0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
    if constexpr (W == 2) asm volatile("cmpl %k1,%k0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
    if constexpr (W == 3) asm volatile("cmpq %1,%0" PACK_EFLAGS : "+&a"(f.t) : "r"(f.r[B]) : "r10");
  }
};
// A is undefined after test, and zero here.
#define PACK_LOGIC "\n\tlahf\n\tmovl %%eax,%%r10d\n\tshrl $8,%%eax\n\tandl $4,%%eax\n\tshll $16,%%r10d\n\t" \
                   "andl $0xc0000000,%%r10d\n\torl %%r10d,%%eax"
struct eimage_logic {
  template <int W> static void run(Frame& f) {
    if constexpr (W == 0) asm volatile("testb %b0,%b0" PACK_LOGIC : "+&a"(f.t) : : "r10");
    if constexpr (W == 1) asm volatile("testw %w0,%w0" PACK_LOGIC : "+&a"(f.t) : : "r10");
    if constexpr (W == 2) asm volatile("testl %k0,%k0" PACK_LOGIC : "+&a"(f.t) : : "r10");
    if constexpr (W == 3) asm volatile("testq %0,%0" PACK_LOGIC : "+&a"(f.t) : : "r10");
  }
};
FAMILY(eimage_add, 4, 10)
FAMILY(eimage_sub, 4, 10)
FAMILY(eimage_logic, 4)
// After ucomi, which leaves OF, SF and AF clear.
struct eimage_fcmp { template <int...> static void run(Frame& f) { asm volatile(PACK_EFLAGS : "=a"(f.t) : : "r10"); } };
FAMILY(eimage_fcmp)

// t is a guest address: misaligned for 2 << K bytes?
struct align_t {
  template <int K> static void run(Frame& f) { asm volatile("testb %1,%b0\n\tjne HOLE_TAKEN" : : "a"(f.t), "i"((2 << K) - 1)); }
};
FAMILY(align_t, 4)

}  // namespace kiln::stencil::source
