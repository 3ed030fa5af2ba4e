// The A64 system level: registers, exceptions, interrupts, timers, PSCI. Interpreter and direct calls, with nothing real
// around.
#include "system_fake.h"

namespace kiln::arm {

namespace {

constexpr u64 kBase = FakeMachine::kBase, kVectors = kBase + 0x800;
constexpr u32 kMidr = register_number(3, 0, 0, 0, 0), kTpidrEl1 = register_number(3, 0, 13, 0, 4),
              kSpEl0 = register_number(3, 0, 4, 1, 0), kCurrentEl = register_number(3, 0, 4, 2, 2),
              kDaif = register_number(3, 3, 4, 2, 1), kVbar = register_number(3, 0, 12, 0, 0),
              kCpacr = register_number(3, 0, 1, 0, 2), kCntvct = register_number(3, 3, 14, 0, 2),
              kCntvCtl = register_number(3, 3, 14, 3, 1), kCntvTval = register_number(3, 3, 14, 3, 0),
              kCntvCval = register_number(3, 3, 14, 3, 2), kIccPmr = register_number(3, 0, 4, 6, 0),
              kIccIar1 = register_number(3, 0, 12, 12, 0), kCtr = register_number(3, 3, 0, 0, 1),
              kPanRegister = register_number(3, 0, 4, 2, 3), kFpcr = register_number(3, 3, 4, 4, 0);

u32 ec_of(u64 esr) { return static_cast<u32>(esr >> 26); }
u32 iss_of(u64 esr) { return static_cast<u32>(esr & mask_low(25)); }

/// At EL0, with vectors and FP allowed.
void drop_to_el0(FakeMachine& m, GuestAddr pc = kBase) {
  m.s->vbar_el[1] = kVectors;
  m.s->cpacr_el1 = 3 << 20;
  m.s->elr_el[1] = pc;
  m.s->spsr_el[1] = 0;
  m.put(m.s->pc, {kEret});
  m.max_insns = 1;
  m.block();
  ASSERT_EQ(m.s->el, 0u);
  ASSERT_EQ(m.s->pc, pc);
}

TEST(A64System, ResetGoesToTheHighestLevel) {
  EXPECT_EQ(FakeMachine({.model = "cortex-a72"}).s->el, 1u);
  EXPECT_EQ(FakeMachine({.model = "cortex-a72", .el2 = true}).s->el, 2u);
  FakeMachine m({.model = "cortex-a72", .el2 = true, .el3 = true}, 0x1000);
  EXPECT_EQ(m.s->el, 3u);
  EXPECT_EQ(m.s->pc, 0x1000u);
  EXPECT_EQ(m.s->daif, 0x3c0u);
  EXPECT_EQ(m.s->mode, kA64System.mode_of(m.s));
  A64SystemState* s = m.s;
  EXPECT_FALSE(configure(s, {.model = "cortex-m0"}));
}

TEST(A64System, RegistersAreReadAndWritten) {
  FakeMachine m({.model = "cortex-a72"});
  m.s->x[1] = 0x1234567887654321;
  m.s->x[5] = 0xffffffff;
  m.run({msr(kTpidrEl1, 1), mrs(2, kTpidrEl1), mrs(3, kMidr), mrs(4, kCurrentEl), msr(kVbar, 5), mrs(6, kVbar), mrs(7, kDaif)});
  EXPECT_EQ(m.last_exit, ir::ExitKind::None);
  EXPECT_EQ(m.s->x[2], 0x1234567887654321u);
  EXPECT_EQ(m.s->x[3], 0x410fd083u);
  EXPECT_EQ(m.s->x[4], 4u);
  EXPECT_EQ(m.s->x[6], 0xfffff800u);
  EXPECT_EQ(m.s->x[7], 0x3c0u);
}

TEST(A64System, EveryRowOfTheTableCanBeReadAndWrittenAtItsLevel) {
  for (const SystemRegister& r : system_registers()) {
    FakeMachine m({.model = "max", .el2 = true, .el3 = true});
    m.s->scr_el3 |= 1 << 11;  // ST
    m.s->os_lock = 0;
    if (r.read_el != kNever) {
      m.run({mrs(1, r.encoding)});
      EXPECT_EQ(m.last_exit, ir::ExitKind::None) << r.name;
    } else {
      m.run({mrs(1, r.encoding)});
      EXPECT_EQ(m.last_exit, ir::ExitKind::Undefined) << r.name;
      m.s->el = 3;
      kA64System.system->reset(m.s, kBase);
    }
    m.s->pc = kBase;
    m.run({msr(r.encoding, 1)});
    EXPECT_EQ(m.last_exit, r.write_el != kNever ? ir::ExitKind::None : ir::ExitKind::Undefined) << r.name;
    EXPECT_EQ(m.s->mode, kA64System.mode_of(m.s)) << r.name;
  }
}

TEST(A64System, LowerLevelsMayNotTouchWhatIsNotTheirs) {
  for (const SystemRegister& r : system_registers()) {
    if (r.read_el == kNever || r.read_el < 2) continue;
    FakeMachine m;
    m.s->vbar_el[1] = kVectors;
    m.run({mrs(1, r.encoding)});
    EXPECT_EQ(m.last_exit, ir::ExitKind::Undefined) << r.name;
    EXPECT_EQ(m.s->pc, kVectors + 0x200);
    EXPECT_EQ(ec_of(m.s->esr_el[1]), 0u);
  }
  for (const SystemRegister& r : system_registers()) {
    if (r.read_el != 1) continue;
    FakeMachine m;
    drop_to_el0(m);
    m.run({mrs(1, r.encoding)});
    EXPECT_EQ(m.last_exit, ir::ExitKind::Undefined) << r.name;
    EXPECT_EQ(m.s->pc, kVectors + 0x400) << r.name;
  }
}

TEST(A64System, UnknownRegistersAreUndefinedAndSaidOnce) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  const u32 unknown = register_number(3, 2, 4, 7, 3);
  m.run({mrs(1, unknown)});
  EXPECT_EQ(m.last_exit, ir::ExitKind::Undefined);
  EXPECT_EQ(m.s->esr_el[1], 0x02000000u);
  ASSERT_EQ(m.errors.size(), 1u);
  EXPECT_NE(m.errors[0].find("S3_2_C4_C7_3"), std::string::npos) << m.errors[0];
  m.s->pc = kBase;
  m.run({mrs(1, unknown)});
  EXPECT_EQ(m.errors.size(), 1u);
  // The ID space reads as zero where nothing is.
  m.s->pc = kBase;
  m.s->x[1] = 7;
  m.run({mrs(1, register_number(3, 0, 0, 1, 0))});
  EXPECT_EQ(m.s->x[1], 0u);
}

TEST(A64System, DeviceRegistersGoToTheMachine) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  m.device_registers[kIccPmr] = 0xf0;
  m.s->x[2] = 0x80;
  m.run({mrs(1, kIccPmr), msr(kIccPmr, 2)});
  EXPECT_EQ(m.s->x[1], 0xf0u);
  EXPECT_EQ(m.device_registers[kIccPmr], 0x80u);
  m.run({mrs(1, kIccIar1)});
  EXPECT_EQ(m.last_exit, ir::ExitKind::Undefined);
}

TEST(A64System, StackPointersAreBanked) {
  FakeMachine m;
  m.s->x[31] = 0x1111;
  m.s->x[1] = 0x2222;
  m.run({msr(kSpEl0, 1), sp_select(0)});
  EXPECT_EQ(m.s->x[31], 0x2222u);
  EXPECT_EQ(m.s->sp_el[1], 0x1111u);
  EXPECT_EQ(el_of(m.s->mode), 1u);
  EXPECT_FALSE(m.s->mode & kModeSpSel);
  const u64 pc = m.s->pc;
  m.run({mrs(1, kSpEl0)});  // undefined while it is SP
  EXPECT_EQ(m.last_exit, ir::ExitKind::Undefined);
  m.s->pc = pc;
  m.s->x[31] = 0x3333;
  m.s->il = 0;
  m.run({sp_select(1), mrs(2, kSpEl0)});
  EXPECT_EQ(m.s->x[2], 0x2222u);  // the undefined instruction went to EL1h, and left SP_EL0 alone
}

TEST(A64System, SupervisorCallAndReturn) {
  FakeMachine m;
  drop_to_el0(m);
  m.s->x[31] = 0x7000;
  set_nzcv(*m.s, 0x60000000);
  m.put(kBase, {kNopWord, svc(0x123)});
  m.max_insns = 64;
  m.block();
  EXPECT_EQ(m.last_exit, ir::ExitKind::None);  // without leaving generated code
  EXPECT_EQ(m.s->pc, kVectors + 0x400);
  EXPECT_EQ(m.s->el, 1u);
  EXPECT_EQ(m.s->elr_el[1], kBase + 8);
  EXPECT_EQ(m.s->esr_el[1], 0x56000123u);
  EXPECT_EQ(m.s->spsr_el[1], 0x60000000u);
  EXPECT_EQ(m.s->daif, 0x3c0u);
  EXPECT_EQ(m.s->sp_el[0], 0x7000u);
  EXPECT_EQ(m.s->mode, kA64System.mode_of(m.s));
  m.run({kEret});
  EXPECT_EQ(m.s->pc, kBase + 8);
  EXPECT_EQ(m.s->el, 0u);
  EXPECT_EQ(m.s->x[31], 0x7000u);
  EXPECT_EQ(nzcv_of(*m.s), 0x60000000u);
}

TEST(A64System, VectorsByLevelAndStackPointer) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  m.run({brk(0xf00)});
  EXPECT_EQ(m.s->pc, kVectors + 0x200);
  EXPECT_EQ(m.s->esr_el[1], 0xf2000f00u);
  EXPECT_EQ(m.s->elr_el[1], kBase);
  EXPECT_EQ(m.s->spsr_el[1], 0x3c5u);
  m.s->pc = kBase;
  m.run({sp_select(0), brk(1)});
  EXPECT_EQ(m.s->pc, kVectors);
  EXPECT_EQ(m.s->spsr_el[1], 0x3c4u);
  EXPECT_EQ(m.s->sp_sel, 1u);
}

TEST(A64System, PanIsSetAndKeptAsSctlrSays) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  m.s->sctlr_el[1] &= ~kSctlrSpan;
  m.run({pan(0), svc(0)});
  EXPECT_EQ(m.s->pan, 1u);
  EXPECT_EQ(m.s->spsr_el[1] >> 22 & 1, 0u);
  EXPECT_TRUE(m.s->mode & kModePan);
  m.s->pc = kBase;
  m.run({kEret});
  EXPECT_EQ(m.s->pan, 0u);
  // On a processor without PAN there is no such field.
  FakeMachine old({.model = "cortex-a72"});
  old.s->vbar_el[1] = kVectors;
  old.run({pan(1)});
  EXPECT_EQ(old.last_exit, ir::ExitKind::Undefined);
  old.s->pc = kBase;
  old.run({mrs(1, kPanRegister)});
  EXPECT_EQ(old.last_exit, ir::ExitKind::Undefined);
}

TEST(A64System, IllegalReturns) {
  for (const u64 spsr : {u64{0x3c9}, u64{0x3d0}, u64{0x3c1}, u64{0x3c6}}) {  // EL2 that is not there, AArch32, EL0h, M<1>
    FakeMachine m;
    m.s->vbar_el[1] = kVectors;
    m.s->spsr_el[1] = spsr | 0x80000000;
    m.s->elr_el[1] = kBase + 0x100;
    m.run({kEret});
    EXPECT_EQ(m.s->il, 1u) << std::hex << spsr;
    EXPECT_EQ(m.s->el, 1u);
    EXPECT_EQ(m.s->pc, kBase + 0x100);
    EXPECT_EQ(nzcv_of(*m.s), 0x80000000u);
    m.run({kNopWord});
    EXPECT_EQ(ec_of(m.s->esr_el[1]), 0x0eu);
    EXPECT_EQ(m.s->spsr_el[1] >> 20 & 1, 1u);
    EXPECT_EQ(m.s->il, 0u);
  }
}

TEST(A64System, FloatingPointTraps) {
  for (const u32 word : {0x1e602020u /* fcmp d1,d0 */, 0x3dc00020u /* ldr q0,[x1] */, 0x6d400420u /* ldp d0,d1,[x1] */,
                         0x0c407820u /* ld1 */, mrs(1, kFpcr)}) {
    FakeMachine m;
    m.s->vbar_el[1] = kVectors;
    m.s->x[1] = kBase;
    m.run({word});
    EXPECT_EQ(m.last_exit, ir::ExitKind::Trap) << std::hex << word;
    EXPECT_EQ(m.s->esr_el[1], 0x1fe00000u);
    EXPECT_EQ(m.s->elr_el[1], kBase);
    m.s->pc = kBase;
    m.s->x[2] = 3 << 20;
    m.run({msr(kCpacr, 2), word});
    EXPECT_EQ(m.last_exit, ir::ExitKind::None);
  }
}

TEST(A64System, TrapsOfEl0) {
  struct Case {
    u32 word;
    u64 sctlr;
    u32 iss;
  };
  const Case cases[] = {
      {0xd50b7421, kSctlrDze, 1 << 20 | 1 << 17 | 3 << 14 | 7 << 10 | 1 << 5 | 4 << 1},   // dc zva, x1
      {0xd50b7b21, kSctlrUci, 1 << 20 | 1 << 17 | 3 << 14 | 7 << 10 | 1 << 5 | 11 << 1},  // dc cvau, x1
      {0xd50b7521, kSctlrUci, 1 << 20 | 1 << 17 | 3 << 14 | 7 << 10 | 1 << 5 | 5 << 1},   // ic ivau, x1
      {mrs(1, kCtr), kSctlrUct, 3 << 20 | 1 << 17 | 3 << 14 | 0 << 10 | 1 << 5 | 0 << 1 | 1},
      {mrs(1, kDaif), kSctlrUma, 3 << 20 | 1 << 17 | 3 << 14 | 4 << 10 | 1 << 5 | 2 << 1 | 1},
  };
  for (const Case& c : cases) {
    FakeMachine m;
    m.s->x[1] = kBase + 0x8000;
    m.s->sctlr_el[1] |= kSctlrDze | kSctlrUci | kSctlrUct | kSctlrUma;
    m.s->sctlr_el[1] &= ~c.sctlr;
    drop_to_el0(m, kBase + 0x100);
    m.run({c.word});
    EXPECT_EQ(ec_of(m.s->esr_el[1]), 0x18u) << std::hex << c.word;
    EXPECT_EQ(iss_of(m.s->esr_el[1]), c.iss) << std::hex << c.word;
    m.s->sctlr_el[1] |= c.sctlr;
    m.s->pc = kBase;
    drop_to_el0(m, kBase + 0x100);
    m.run({c.word});
    EXPECT_EQ(m.last_exit, ir::ExitKind::None) << std::hex << c.word;
  }
}

TEST(A64System, AlignmentFaultsTellReadsFromWrites) {
  struct Case {
    u32 word;
    bool write;
  };
  for (const Case c :
       {Case{0xc85f7c22, false} /* ldxr */, Case{0xc89ffc22, true} /* stlr */, Case{0xc8dffc22, false} /* ldar */,
        Case{0xf9000022, true} /* str */, Case{0xf9400022, false} /* ldr */, Case{0xb9800022, false} /* ldrsw */,
        Case{0xa9000c22, true} /* stp */, Case{0xf8220023, false} /* ldadd */}) {
    FakeMachine m;
    m.s->vbar_el[1] = kVectors;
    m.s->x[1] = kBase + 0x8001;  // the MMU is off: memory is device memory
    m.run({c.word});
    EXPECT_EQ(m.last_exit, ir::ExitKind::Alignment);
    EXPECT_EQ(m.s->esr_el[1], 0x96000021u | (c.write ? 0x40u : 0)) << std::hex << c.word;
    EXPECT_EQ(m.s->far_el[1], kBase + 0x8001);
  }
}

TEST(A64System, MisalignedPc) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  m.s->pc = kBase + 2;
  m.block();
  EXPECT_EQ(ec_of(m.s->esr_el[1]), 0x22u);
  EXPECT_EQ(m.s->far_el[1], kBase + 2);
}

TEST(A64System, UnmaskingTakesAWaitingInterruptAtOnce) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  m.lines = 1 << kInputIrq;
  EXPECT_FALSE(kA64System.system->interrupt(m.s));
  m.put(kBase, {daif_clear(2), kNopWord, kNopWord});
  m.max_insns = 64;
  m.block();
  EXPECT_EQ(m.last_exit, ir::ExitKind::Interrupt);
  EXPECT_EQ(m.s->pc, kVectors + 0x280);
  EXPECT_EQ(m.s->elr_el[1], kBase + 4);
  EXPECT_EQ(m.s->spsr_el[1], 0x345u);
  // ERET unmasks as well.
  m.put(kVectors + 0x280, {kEret});
  m.block();
  EXPECT_EQ(m.s->pc, kVectors + 0x280);
  EXPECT_EQ(m.s->elr_el[1], kBase + 4);
  // Nothing waits: nothing happens.
  m.lines = 0;
  m.block();
  EXPECT_EQ(m.s->pc, kBase + 4);
  m.s->pc = kBase;
  m.s->daif = 0x3c0;
  m.block();
  EXPECT_NE(m.last_exit, ir::ExitKind::Interrupt);
}

TEST(A64System, UnmaskingAsTheLastInstructionOfABlock) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  m.lines = 1 << kInputIrq;
  kA64System.system->interrupt(m.s);
  m.put(kBase, {daif_clear(2), kNopWord});
  m.max_insns = 1;
  m.block();
  EXPECT_EQ(m.s->pc, kVectors + 0x280);
  EXPECT_EQ(m.s->elr_el[1], kBase + 4);
}

TEST(A64System, FiqBeforeIrqAndLowerLevel) {
  FakeMachine m;
  drop_to_el0(m);
  m.lines = 1 << kInputIrq | 1 << kInputFiq;
  EXPECT_TRUE(kA64System.system->interrupt(m.s));
  EXPECT_EQ(m.s->pc, kVectors + 0x500);
  EXPECT_FALSE(kA64System.system->interrupt(m.s));
  EXPECT_TRUE(kA64System.system->wakes(m.s, 1 << kInputIrq));
}

TEST(A64System, WaitForInterrupt) {
  FakeMachine m;
  m.run({kWfi});
  EXPECT_EQ(m.halts, 1u);
  EXPECT_EQ(m.s->pc, kBase + 4);
  m.lines = 1 << kInputIrq;  // masked, but it wakes
  m.run({kWfi});
  EXPECT_EQ(m.halts, 1u);
  m.s->sctlr_el[1] &= ~kSctlrNtwi;
  m.lines = 0;
  drop_to_el0(m);
  m.run({kWfi});
  EXPECT_EQ(m.s->esr_el[1], 0x07e00000u);
}

TEST(A64System, Timers) {
  FakeMachine m;
  m.clock = 1600;  // 100 ticks
  m.s->x[1] = 10;
  m.s->x[2] = 1;
  m.run({mrs(3, kCntvct), msr(kCntvTval, 1), msr(kCntvCtl, 2), mrs(4, kCntvCtl), mrs(5, kCntvCval)});
  EXPECT_EQ(m.s->x[3], 100u);
  EXPECT_EQ(m.s->x[4], 1u);
  EXPECT_EQ(m.s->x[5], 110u);
  EXPECT_EQ(m.alarm, 1760u);
  EXPECT_EQ(m.outputs, 0u);
  m.clock = m.alarm;
  kA64System.system->alarm(m.s);
  EXPECT_EQ(m.outputs, 1u << kTimerVirtual);
  EXPECT_EQ(m.alarm, ~u64{0});
  m.s->x[2] = 3;  // IMASK
  m.run({mrs(4, kCntvCtl), msr(kCntvCtl, 2), mrs(6, kCntvCtl), mrs(7, kCntvTval)});
  EXPECT_EQ(m.s->x[4], 5u);
  EXPECT_EQ(m.s->x[6], 7u);
  EXPECT_EQ(m.s->x[7], 0u);
  EXPECT_EQ(m.outputs, 0u);
  drop_to_el0(m);
  m.run({mrs(1, kCntvct)});
  EXPECT_EQ(ec_of(m.s->esr_el[1]), 0x18u);  // CNTKCTL_EL1.EL0VCTEN
}

TEST(A64System, Psci) {
  FakeMachine m;
  m.s->vbar_el[1] = kVectors;
  const auto call = [&](u64 function, u64 a = 0, u64 b = 0, u64 c = 0) {
    m.s->pc = kBase;
    m.s->x[0] = function, m.s->x[1] = a, m.s->x[2] = b, m.s->x[3] = c;
    m.run({hvc(0)});
    EXPECT_EQ(m.s->pc, kBase + 4);
    return m.s->x[0];
  };
  EXPECT_EQ(call(0x84000000), 0x10000u);
  EXPECT_EQ(call(0x8400000a, 0xc4000003), 0u);
  EXPECT_EQ(call(0x8400000a, 0x84000005), ~u64{0});
  EXPECT_EQ(call(0x80000000), ~u64{0});  // SMCCC_VERSION
  EXPECT_EQ(call(0xc4000003, 1, 0x40080000, 42), 0u);
  EXPECT_EQ(m.started, (std::vector<u64>{1, 0x40080000, 42}));
  EXPECT_EQ(call(0xc4000003, 9, 0x40080000, 42), ~u64{1});
  EXPECT_EQ(call(0xc4000004, 1, 0), 1u);
  EXPECT_EQ(call(0x84000006), 2u);
  call(0x84000008);
  EXPECT_EQ(m.power_request, static_cast<int>(ir::VcpuPort::Power::Off));
  // The other conduit does not exist.
  m.s->pc = kBase;
  m.run({smc(0)});
  EXPECT_EQ(m.s->esr_el[1], 0x02000000u);
}

TEST(A64System, TlbInvalidation) {
  FakeMachine m;
  using Scope = ir::TlbFlush::Scope;
  const auto flushed = [&](u32 word, u64 operand) {
    m.flushes.clear();
    m.s->pc = kBase;
    m.s->x[1] = operand;
    m.run({word});
    EXPECT_EQ(m.last_exit, ir::ExitKind::None);
    return m.flushes.empty() ? ir::TlbFlush{.scope = Scope::Page, .address = 0, .bytes = 0} : m.flushes.back();
  };
  EXPECT_EQ(flushed(sys(0, 8, 7, 0), 0).scope, Scope::All);  // VMALLE1
  EXPECT_EQ(m.broadcasts, 0u);
  EXPECT_EQ(flushed(sys(0, 8, 3, 0), 0).scope, Scope::All);  // VMALLE1IS
  EXPECT_EQ(m.broadcasts, 1u);
  EXPECT_EQ(flushed(sys(0, 8, 3, 2, 1), u64{5} << 48).scope, Scope::NonGlobal);     // ASIDE1IS
  ir::TlbFlush f = flushed(sys(0, 8, 3, 1, 1), 0xffff'8000'1234'5 | u64{1} << 48);  // VAE1IS
  EXPECT_EQ(f.scope, Scope::Page);
  EXPECT_EQ(f.address, 0xffff800012345000u);
  f = flushed(sys(0, 8, 6, 1, 1), u64{1} << 46 | u64{3} << 39 | 0x100);  // RVAE1, four pairs of pages
  EXPECT_EQ(f.address, 0x100000u);
  EXPECT_EQ(f.bytes, 8u * 4096);
  // Who used tagged addresses pays with everything.
  m.s->tlb_tagged = 1;
  EXPECT_EQ(flushed(sys(0, 8, 7, 1, 1), 0x1000).scope, Scope::All);
}

TEST(A64System, SoftwareStep) {
  FakeMachine m;
  m.s->os_lock = 0;
  m.s->mdscr_el1 = 1;
  m.s->vbar_el[1] = kVectors;
  m.s->elr_el[1] = kBase + 0x100;
  m.s->spsr_el[1] = 1 << 21;
  m.put(kBase + 0x100, {0x91000421 /* add x1,x1,1 */, 0x14000004 /* b +16 */});
  m.run({kEret});
  EXPECT_TRUE(m.s->mode & kModeStep);
  m.max_insns = 64;
  m.block();
  EXPECT_EQ(m.s->x[1], 1u);
  EXPECT_EQ(m.s->pc, kBase + 0x104);
  EXPECT_TRUE(m.s->mode & kModeStepPending);
  m.block();
  EXPECT_EQ(m.s->pc, kVectors + 0x400);
  EXPECT_EQ(ec_of(m.s->esr_el[1]), 0x32u);
  EXPECT_EQ(m.s->elr_el[1], kBase + 0x104);
  EXPECT_EQ(m.s->spsr_el[1], 0u);
  // A branch is stepped as well, and ends where it leads.
  m.s->spsr_el[1] = 1 << 21;
  m.run({kEret});
  m.block();
  EXPECT_EQ(m.s->pc, kBase + 0x114);
  m.block();
  EXPECT_EQ(m.s->elr_el[1], kBase + 0x114);
}

TEST(A64System, Breakpoints) {
  FakeMachine m;
  m.s->os_lock = 0;
  m.s->mdscr_el1 = 1 << 15;
  m.s->dbgbvr[2] = kBase + 0x104;
  m.s->dbgbcr[2] = 1 | 2 << 1 | 15 << 5;
  drop_to_el0(m, kBase + 0x100);
  m.put(kBase + 0x100, {kNopWord, kNopWord});
  m.max_insns = 64;
  m.block();
  EXPECT_EQ(ec_of(m.s->esr_el[1]), 0x30u);
  EXPECT_EQ(m.s->elr_el[1], kBase + 0x104);
}

TEST(A64System, LevelsThreeAndTwo) {
  FakeMachine m({.model = "max", .el2 = true, .el3 = true});
  m.s->vbar_el[3] = kVectors;
  m.s->vbar_el[2] = kVectors + 0x800;
  m.s->vbar_el[1] = kVectors + 0x1000;
  m.s->elr_el[3] = kBase + 0x100;
  m.s->spsr_el[3] = 0x3c9;  // EL2h
  m.s->scr_el3 |= kScrHce | kScrNs;
  m.run({kEret});
  EXPECT_EQ(m.s->el, 2u);
  m.s->elr_el[2] = kBase + 0x200;
  m.s->spsr_el[2] = 0x3c5;
  m.run({kEret});
  EXPECT_EQ(m.s->el, 1u);
  m.run({hvc(7)});
  EXPECT_EQ(m.s->el, 2u);
  EXPECT_EQ(m.s->pc, kVectors + 0x800 + 0x400);
  EXPECT_EQ(m.s->esr_el[2], 0x5a000007u);
  EXPECT_EQ(m.s->elr_el[2], kBase + 0x204);
  m.run({smc(9)});
  EXPECT_EQ(m.s->el, 3u);
  EXPECT_EQ(m.s->esr_el[3], 0x5e000009u);
  // Physical interrupts to EL2, whatever EL1 masks.
  m.s->spsr_el[3] = 0x3c5;
  m.run({kEret});
  EXPECT_EQ(m.s->el, 1u);
  m.s->hcr_el2 |= kHcrImo;
  m.lines = 1 << kInputIrq;
  EXPECT_TRUE(kA64System.system->interrupt(m.s));
  EXPECT_EQ(m.s->el, 2u);
  EXPECT_EQ(m.s->pc, kVectors + 0x800 + 0x480);
}

TEST(A64System, TheSaveListHasEverythingOnce) {
  const auto slots = kA64System.slots;
  std::vector<u32> offsets;
  for (const ir::Slot& slot : slots) offsets.push_back(slot.offset);
  std::sort(offsets.begin(), offsets.end());
  EXPECT_EQ(std::adjacent_find(offsets.begin(), offsets.end()), offsets.end());
  FakeMachine m;
  m.s->far_el[1] = 0x1234;
  EXPECT_NE(kA64System.dump(m.s).find("FAR_EL1=0000000000001234"), std::string::npos);
  u64 value = 0;
  EXPECT_TRUE(read_register(m.s, "FAR_EL1", value));
  EXPECT_EQ(value, 0x1234u);
}

TEST(A64System, AStateIsLoadedFromItsSaveList) {
  FakeMachine from({.model = "cortex-a72"});
  drop_to_el0(from);
  from.s->timer_cval[kTimerVirtual] = 5;
  from.s->timer_ctl[kTimerVirtual] = 1;
  from.s->x[31] = 0x1234;
  FakeMachine to;
  to.clock = 1600;
  for (const ir::Slot& slot : kA64System.slots)
    std::memcpy(reinterpret_cast<char*>(static_cast<ir::CpuState*>(to.s)) + slot.offset,
                reinterpret_cast<char*>(static_cast<ir::CpuState*>(from.s)) + slot.offset,
                slot.type == ir::Type::V128 ? 16 : 8);
  to.s->pc = from.s->pc;
  restored(to.s);
  EXPECT_EQ(kA64System.dump(to.s), kA64System.dump(from.s));
  EXPECT_EQ(to.s->mode, from.s->mode);
  EXPECT_EQ(to.outputs, 1u << kTimerVirtual);
  EXPECT_EQ(to.s->has_pan, 0u);
}

}  // namespace
}  // namespace kiln::arm
