// What a processor does at EL1 and EL0 when things go wrong, line by line, for comparison with another one's answers (expected.txt).
typedef unsigned long u64;
typedef unsigned int u32;

struct { u64 vector, esr, elr, far, spsr; } extern seen;
u64 attempt(void *fn, u64 el, u64 a, u64 b);
u64 step_spsr = 0;

static volatile u32 *const uart = (u32 *)0x09000000;
static void put(char c) { *uart = c; }
static void text(const char *s) { while (*s) { if (*s == '\n') put('\r'); put(*s++); } }
static void hex(u64 v) {
  int shift = 60;
  while (shift > 0 && !(v >> shift)) shift -= 4;
  for (; shift >= 0; shift -= 4) put("0123456789abcdef"[v >> shift & 15]);
}

#define READ(name) ({ u64 v_; asm volatile("mrs %0, " #name : "=r"(v_) : : "memory"); v_; })
#define WRITE(name, value) asm volatile("msr " #name ", %0; isb" : : "r"((u64)(value)) : "memory")

// --- code that is tried: ends in RET, at EL0 in SVC ---------------------------------------------------------------------
#define SNIPPET(name, code) \
  void name##_1(void); void name##_0(void); \
  asm(".text; .balign 8; " #name "_1: " code "; ret; .balign 8; " #name "_0: " code "; svc #0xdead");
SNIPPET(load, "ldr x0, [x0]")
SNIPPET(store, "str x1, [x0]")
SNIPPET(load_pair, "ldp x2, x3, [x0]")
SNIPPET(store_byte, "strb w1, [x0]")
SNIPPET(unprivileged_load, "ldtr x0, [x0]")
SNIPPET(unprivileged_store, "sttr x1, [x0]")
SNIPPET(exclusive_load, "ldxr x0, [x0]")
SNIPPET(exclusive_store, "stxr w2, x1, [x0]")
SNIPPET(acquire_load, "ldar x0, [x0]")
SNIPPET(release_store, "stlr x1, [x0]")
SNIPPET(zero_line, "dc zva, x0")
SNIPPET(clean, "dc cvac, x0")
SNIPPET(clean_unification, "dc cvau, x0")
SNIPPET(clean_invalidate, "dc civac, x0")
SNIPPET(invalidate, "dc ivac, x0")
SNIPPET(invalidate_code, "ic ivau, x0")
SNIPPET(prefetch, "prfm pldl1keep, [x0]")
SNIPPET(jump, "mov x9, x30; blr x0; mov x30, x9")
SNIPPET(call_supervisor, "svc #0x42")
SNIPPET(call_hypervisor, "hvc #1")
SNIPPET(call_monitor, "smc #1")
SNIPPET(break_point, "brk #0x77")
SNIPPET(halt, "hlt #1")
SNIPPET(undefined, ".word 0")
SNIPPET(unallocated, ".word 0xffffffff")
SNIPPET(fp_add, ".word 0x1e612800")  // fadd d0, d0, d1
SNIPPET(fp_load, ".word 0x3dc00000")  // ldr q0, [x0]
SNIPPET(fp_control, ".word 0xd53b4400")  // mrs x0, fpcr
SNIPPET(return_from_exception, "eret")
SNIPPET(wait_interrupt, "wfi")
SNIPPET(mask_read, "mrs x0, daif")
SNIPPET(mask_set, "msr daifset, #2")
SNIPPET(select_stack, "msr spsel, #1")
SNIPPET(cache_type, "mrs x0, ctr_el0")
SNIPPET(virtual_count, "mrs x0, cntvct_el0")
SNIPPET(physical_count, "mrs x0, cntpct_el0")
SNIPPET(timer_control, "mrs x0, cntv_ctl_el0")
SNIPPET(timer_write, "msr cntp_tval_el0, x0")
SNIPPET(cycle_count, "mrs x0, pmccntr_el0")
SNIPPET(thread_write, "msr tpidrro_el0, x0")
SNIPPET(translate_self, "at s1e1r, x0")
SNIPPET(tlb_all, "tlbi vmalle1")
SNIPPET(hypervisor_register, "mrs x0, hcr_el2")
SNIPPET(nothing, "nop")
SNIPPET(two_steps, "nop; nop")

static u64 el0_alias = 0;

/// One line: what came of it.
static void report(const char *name, int el, void *fn, u64 went_wrong) {
  text(name);
  text(el ? " EL1: " : " EL0: ");
  if (!went_wrong) { text("ok\n"); return; }
  text("vector "), hex(seen.vector), text(" esr "), hex(seen.esr);
  text(" elr "), hex(seen.elr - (u64)fn);
  text(" spsr "), hex(seen.spsr);
  if ((seen.esr >> 26 & 0x38) == 0x20 || seen.esr >> 26 == 0x34) text(" far "), hex(seen.far);
  text("\n");
}
static void try1(const char *name, void *fn, u64 a, u64 b) { report(name, 1, fn, attempt(fn, 1, a, b)); }
static void try0(const char *name, void *fn, u64 a, u64 b) {
  fn = (char *)fn + el0_alias;
  report(name, 0, fn, attempt(fn, 0, a, b));
}
#define TRY1(name, a) try1(#name, name##_1, a, 0x55)
#define TRY0(name, a) try0(#name, name##_0, a, 0x55)
#define TRY(name, a) TRY1(name, a), TRY0(name, a)

// --- translation --------------------------------------------------------------------------------------------------------
static u64 l1[512] __attribute__((aligned(4096))), l2[512] __attribute__((aligned(4096))), l2_test[512] __attribute__((aligned(4096))),
    l3[512] __attribute__((aligned(4096))), upper_l1[512] __attribute__((aligned(4096)));
static u64 data_page[512] __attribute__((aligned(4096)));
static u32 code_page[1024] __attribute__((aligned(4096)));

enum { VALID = 1, TABLE = 3, PAGE = 3, BLOCK = 1, AF = 1 << 10, USER = 1 << 6, RO = 1 << 7, INNER = 3 << 8, NG = 1 << 11 };
#define PXN (1ul << 53)
#define UXN (1ul << 54)
#define NORMAL (1ul << 2)
#define TEST 0x200000000ul

static void mmu_on(void) {
  l1[0] = (u64)l2 | TABLE;
  l1[1] = 0x40000000 | AF | BLOCK | NORMAL | INNER | UXN;
  l1[2] = 0x40000000 | AF | BLOCK | NORMAL | INNER | USER | RO | PXN;  // the same for EL0
  l1[8] = (u64)l2_test | TABLE;
  l2[0x09000000 >> 21] = 0x09000000 | AF | BLOCK | UXN | PXN;
  l2_test[0] = (u64)l3 | TABLE;
  l2_test[1] = 0x40000000 | BLOCK | NORMAL | INNER;          // no access flag
  l2_test[2] = (1ul << 46) | AF | BLOCK | NORMAL | INNER;     // beyond the physical addresses
  l2_test[3] = 0x7000000000 | TABLE;                          // a table where no memory is
  const u64 page = (u64)data_page | AF | PAGE | NORMAL | INNER;
  l3[0] = page | UXN | PXN;
  l3[1] = page | UXN | PXN | RO;
  l3[2] = page | UXN | PXN | USER;
  l3[3] = page | UXN | PXN | USER | RO;
  l3[4] = 0;
  l3[5] = page & ~(u64)AF;
  l3[6] = page & ~2ul;  // reserved at level 3
  l3[7] = (u64)code_page | AF | PAGE | NORMAL | INNER | UXN;
  l3[8] = (u64)code_page | AF | PAGE | NORMAL | INNER | USER | PXN;
  l3[9] = (u64)code_page | AF | PAGE | NORMAL | INNER | USER;
  l3[10] = (u64)code_page | AF | PAGE | NORMAL | INNER | USER | RO;
  l3[11] = 0x09000000 | AF | PAGE | UXN | PXN | USER;  // the UART
  l3[12] = (u64)data_page | AF | PAGE | UXN | PXN;     // data as device memory
  code_page[0] = 0xd65f03c0;  // ret
  code_page[1] = 0xd41bd5a1;  // svc #0xdead
  asm volatile("dsb sy; ic iallu; dsb sy; isb");
  WRITE(mair_el1, 0xff00);
  WRITE(tcr_el1, 25 | 25 << 16 | 2ul << 30 | 2ul << 32);
  WRITE(ttbr0_el1, l1);
  WRITE(ttbr1_el1, upper_l1);
  asm volatile("tlbi vmalle1; dsb sy; isb");
  WRITE(sctlr_el1, READ(sctlr_el1) | 1 | 4 | 1 << 12);
  el0_alias = 0x40000000;
}

static void memory_tests(void) {
  for (u64 i = 0; i <= 6; ++i) {
    text("page "), hex(i), text("\n");
    const u64 a = TEST + i * 4096 + 8;
    TRY(load, a); TRY(store, a);
    TRY1(unprivileged_load, a), TRY1(unprivileged_store, a);
    TRY(load_pair, a); TRY(store_byte, a);
    TRY(exclusive_load, a);
    TRY(zero_line, a);
    TRY(clean, a); TRY(clean_unification, a); TRY(clean_invalidate, a); TRY1(invalidate, a); TRY(invalidate_code, a);
    TRY(prefetch, a);
  }
  for (u64 i = 7; i <= 10; ++i) {
    text("code "), hex(i), text("\n");
    try1("jump", jump_1, TEST + i * 4096, 0);
    report("fetch", 0, (void *)(TEST + i * 4096 + 4), attempt((void *)(TEST + i * 4096 + 4), 0, 0, 0));
  }
  text("elsewhere\n");
  TRY(load, TEST + 0x200000); TRY(load, TEST + 0x400000); TRY(load, TEST + 0x600000);
  TRY(load, TEST + 0x800000); TRY(load, TEST + 0x40000000); TRY(load, 1ul << 39); TRY(load, 0x8000000000000000ul);
  TRY(load, 0x0100000000000000ul | TEST); TRY(store, 0xffffffffffff0000ul); TRY(load, 0xffffff8000000000ul); TRY(load, 0xffff000000000000ul);
  try1("jump", jump_1, TEST + 0x200000, 0);
  try1("jump", jump_1, 0xffffff8000000000ul, 0);
  try1("jump", jump_1, TEST + 2, 0);
  text("misaligned\n");
  TRY1(exclusive_load, TEST + 1), TRY1(exclusive_store, TEST + 4), TRY1(acquire_load, TEST + 2), TRY1(release_store, TEST + 2);
  TRY1(load, TEST + 1), TRY1(store, TEST + 0xffd), TRY1(store, TEST + 0x3ffd), TRY1(load, TEST + 0x3ff9), TRY1(load_pair, TEST + 0x3ff8);
  TRY1(load, TEST + 12 * 4096 + 1), TRY1(store, TEST + 12 * 4096 + 2), TRY1(load_pair, TEST + 12 * 4096 + 4);
  WRITE(sctlr_el1, READ(sctlr_el1) | 2);
  text("SCTLR.A\n");
  TRY(load, TEST + 1 + 2 * 4096); TRY(store, TEST + 2 + 2 * 4096); TRY(load_pair, TEST + 4 + 2 * 4096); TRY1(store_byte, TEST + 1);
  TRY1(unprivileged_load, TEST + 3 + 2 * 4096);
  WRITE(sctlr_el1, READ(sctlr_el1) & ~2ul);
}

static void address_translation(void) {
  text("AT\n");
  for (u64 i = 0; i <= 8; ++i) {
    const u64 a = TEST + i * 4096 + 0x123;
    asm volatile("at s1e1r, %0; isb" : : "r"(a)); text("r1 "), hex(READ(par_el1));
    asm volatile("at s1e1w, %0; isb" : : "r"(a)); text(" w1 "), hex(READ(par_el1));
    asm volatile("at s1e0r, %0; isb" : : "r"(a)); text(" r0 "), hex(READ(par_el1));
    asm volatile("at s1e0w, %0; isb" : : "r"(a)); text(" w0 "), hex(READ(par_el1)), text("\n");
  }
  asm volatile("at s1e1r, %0; isb" : : "r"(TEST + 11 * 4096)); text("device "), hex(READ(par_el1)), text("\n");
  TRY1(translate_self, TEST + 0x600000);  // no memory where a table should be
}

static void instruction_tests(void) {
  text("instructions\n");
  TRY(call_supervisor, 0);
  TRY0(call_hypervisor, 0); TRY(call_monitor, 0);
  TRY(break_point, 0); TRY(halt, 0); TRY(undefined, 0); TRY(unallocated, 0);
  WRITE(cpacr_el1, 0);
  TRY(fp_add, 0); TRY(fp_load, TEST); TRY(fp_control, 0);
  WRITE(cpacr_el1, 1 << 20);
  TRY(fp_add, 0); TRY0(fp_control, 0);
  WRITE(cpacr_el1, 3 << 20);
  TRY(fp_add, 0); TRY(fp_load, TEST); TRY(fp_control, 0);
  TRY0(return_from_exception, 0); TRY0(mask_read, 0); TRY0(mask_set, 0); TRY0(select_stack, 0);
  TRY0(cache_type, 0); TRY0(virtual_count, 0); TRY0(physical_count, 0); TRY0(timer_control, 0); TRY0(timer_write, 0); TRY0(cycle_count, 0);
  TRY0(thread_write, 0); TRY0(translate_self, 0); TRY0(tlb_all, 0); TRY(hypervisor_register, 0);
  const u64 enables = 1 << 9 | 1 << 14 | 1 << 15 | 1 << 16 | 1 << 18 | 1 << 26;
  const u64 sctlr = READ(sctlr_el1);
  text("SCTLR allows\n");
  WRITE(sctlr_el1, sctlr | enables);
  WRITE(cntkctl_el1, 0x303);
  WRITE(pmuserenr_el0, 15);
  TRY0(mask_read, 0); TRY0(mask_set, 0); TRY0(cache_type, 0); TRY0(zero_line, TEST + 2 * 4096); TRY0(clean_unification, TEST + 2 * 4096);
  TRY0(invalidate_code, TEST + 2 * 4096); TRY0(virtual_count, 0); TRY0(physical_count, 0); TRY0(timer_control, 0); TRY0(timer_write, 0);
  TRY0(cycle_count, 0);
  text("SCTLR refuses\n");
  WRITE(sctlr_el1, sctlr & ~enables);
  WRITE(cntkctl_el1, 0);
  WRITE(pmuserenr_el0, 0);
  TRY0(mask_read, 0); TRY0(mask_set, 0); TRY0(cache_type, 0); TRY0(zero_line, TEST + 2 * 4096); TRY0(clean_unification, TEST + 2 * 4096);
  TRY0(clean_invalidate, TEST + 2 * 4096); TRY0(invalidate_code, TEST + 2 * 4096); TRY0(wait_interrupt, 0);
  WRITE(sctlr_el1, sctlr);
  WRITE(cntp_ctl_el0, 0);
}

static void illegal_returns(void) {
  text("illegal returns\n");
  static const u64 modes[] = {0x3c1, 0x3c2, 0x3c6, 0x3c9, 0x3cd, 0x3d3, 0x1003c4, 0x800003c9};
  for (u64 i = 0; i < sizeof modes / sizeof *modes; ++i) {
    step_spsr = modes[i];
    TRY0(nothing, 0);  // where EL1 may not execute: that comes first
    report("nothing", 1, nothing_1, attempt(nothing_1, 0, 0, 0));
  }
  step_spsr = 0;
}

static void software_step(void) {
  text("step\n");
  WRITE(oslar_el1, 0);
  WRITE(mdscr_el1, 1);
  step_spsr = 1 << 21;
  TRY0(two_steps, 0); TRY0(load, TEST + 0x4000); TRY0(call_supervisor, 0); TRY0(break_point, 0); TRY0(undefined, 0);
  step_spsr = 0;
  TRY0(two_steps, 0);
  WRITE(mdscr_el1, 0);
  TRY0(two_steps, 0);
  text("breakpoints and watchpoints\n");
  WRITE(dbgbvr1_el1, (u64)two_steps_0 + el0_alias + 4);
  WRITE(dbgbcr1_el1, 1 | 2 << 1 | 15 << 5);
  WRITE(dbgwvr2_el1, TEST + 2 * 4096 + 8);
  WRITE(mdscr_el1, 1 << 15);
  TRY0(two_steps, 0); TRY0(nothing, 0);
  static const u64 kinds[] = {1, 2, 3};
  for (u64 i = 0; i < 3; ++i) {
    WRITE(dbgwcr2_el1, 1 | 2 << 1 | kinds[i] << 3 | 0xf << 5);
    TRY0(load, TEST + 2 * 4096 + 8); TRY0(store, TEST + 2 * 4096 + 8); TRY0(store_byte, TEST + 2 * 4096 + 11); TRY0(store_byte, TEST + 2 * 4096 + 12);
    TRY0(load, TEST + 2 * 4096); TRY0(load, TEST + 2 * 4096 + 4); TRY0(load_pair, TEST + 2 * 4096); TRY1(load, TEST + 2 * 4096 + 8);
  }
  WRITE(dbgwcr2_el1, 0);
  WRITE(dbgbcr1_el1, 0);
  WRITE(mdscr_el1, 0);
}

/// Which system registers can be read? A line for each op0 and op1: CRn, CRm, op2 of those that can.
static void readable_registers(int el) {
  text(el ? "registers EL1\n" : "registers EL0\n");
  for (u32 op0 = 2; op0 < 4; ++op0)
    for (u32 op1 = 0; op1 < 8; ++op1) {
      text("S"), hex(op0), text("_"), hex(op1), text(":");
      for (u32 rest = 0; rest < 2048; ++rest) {
        code_page[0] = 0xd5200000 | (op0 & 3) << 19 | op1 << 16 | rest << 5 | 0;
        code_page[1] = el ? 0xd65f03c0 : 0xd41bd5a1;
        asm volatile("dc cvau, %0; dsb ish; ic ivau, %0; dsb ish; isb" : : "r"(code_page) : "memory");
        if (!attempt(el ? (char *)code_page : (char *)code_page + el0_alias, el, 0, 0))
          text(" C"), hex(rest >> 7), text("_C"), hex(rest >> 3 & 15), text("_"), hex(rest & 7);
        else if (seen.esr != 0x02000000)
          text(" ("), hex(rest >> 7), text("_"), hex(rest >> 3 & 15), text("_"), hex(rest & 7), text(" "), hex(seen.esr), text(")");
      }
      text("\n");
    }
}

void main(void) {
  text("begin\n");
  text("MMU off\n");
  TRY1(load, (u64)data_page), TRY1(load, (u64)data_page + 1), TRY1(store, 0x3000000000ul), TRY1(load, 1ul << 50);
  mmu_on();
  memory_tests();
  address_translation();
  instruction_tests();
  illegal_returns();
  software_step();
#ifdef REGISTERS
  readable_registers(1);
  readable_registers(0);
#endif
  text("end\n");
}
