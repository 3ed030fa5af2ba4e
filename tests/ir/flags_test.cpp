// Laws of flags and conditions, against arithmetic done wider.
#include "ir/flags.h"

#include <gtest/gtest.h>

#include "ir/passes/passes.h"
#include "ir/semantics.h"
#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

template <class T>
void check_laws(Random& random) {
  using S = Signed<T>;
  const T a = static_cast<T>(boundary_integer(random, sizeof(T) * 8)),
          b = static_cast<T>(boundary_integer(random, sizeof(T) * 8));
  const FlagsKind sub = sizeof(T) == 8 ? FlagsKind::Sub64 : FlagsKind::Sub32,
                  add = sizeof(T) == 8 ? FlagsKind::Add64 : FlagsKind::Add32;
  const u32 difference = flags_value(sub, a, b), sum = flags_value(add, a, b);
  const S sa = static_cast<S>(a), sb = static_cast<S>(b);
  EXPECT_EQ(cond_holds(Cond::Eq, difference), a == b);
  EXPECT_EQ(cond_holds(Cond::Cs, difference), a >= b);
  EXPECT_EQ(cond_holds(Cond::Hi, difference), a > b);
  EXPECT_EQ(cond_holds(Cond::Ge, difference), sa >= sb);
  EXPECT_EQ(cond_holds(Cond::Lt, difference), sa < sb);
  EXPECT_EQ(cond_holds(Cond::Gt, difference), sa > sb);
  EXPECT_EQ(cond_holds(Cond::Le, difference), sa <= sb);
  const s128 wide_difference = s128{sa} - sb, wide_sum = s128{sa} + sb;
  const auto overflows = [](s128 wide) { return wide != s128{static_cast<S>(wide)}; };
  EXPECT_EQ(cond_holds(Cond::Vs, difference), overflows(wide_difference));
  EXPECT_EQ(cond_holds(Cond::Vs, sum), overflows(wide_sum));
  EXPECT_EQ(cond_holds(Cond::Cs, sum), ((u128{a} + b) >> (sizeof(T) * 8)) != 0);
  EXPECT_EQ(cond_holds(Cond::Mi, sum), static_cast<S>(a + b) < 0);
  for (bool carry : {false, true}) {
    const u32 adc = op_nzcv_adc(a, b, carry);
    const s128 wide = s128{sa} + sb + carry;
    EXPECT_EQ((adc & kV) != 0, overflows(wide));
    EXPECT_EQ((adc & kC) != 0, ((u128{a} + b + carry) >> (sizeof(T) * 8)) != 0);
    EXPECT_EQ((adc & kZ) != 0, static_cast<T>(a + b + carry) == 0);
  }
  EXPECT_EQ(op_nzcv_adc(a, b, false), sum);
  EXPECT_EQ(op_nzcv_adc(a, static_cast<T>(~b), true), difference);
}

TEST(Flags, LawsOfSumsAndDifferences) {
  Random random(3);
  for (unsigned i = 0; i < 20000; ++i) {
    check_laws<u32>(random);
    check_laws<u64>(random);
  }
}

// The asm keeps off the red zone.
/// EFLAGS of the host's own instruction, as an image.
u32 image_of_eflags(u64 eflags) {
  const auto bit = [&](unsigned from, u32 to) { return (eflags >> from & 1) != 0 ? to : 0; };
  return bit(0, kC) | bit(2, kP) | bit(4, kA) | bit(6, kZ) | bit(7, kN) | bit(11, kV);
}
template <class T>
u64 host_add(T a, T b) {
  u64 flags;
  asm("leaq -128(%%rsp), %%rsp\n\tadd %2, %1\n\tpushfq\n\tpopq %0\n\tleaq 128(%%rsp), %%rsp"
      : "=r"(flags), "+r"(a)
      : "r"(b)
      : "cc", "memory");
  return flags;
}
template <class T>
u64 host_sub(T a, T b) {
  u64 flags;
  asm("leaq -128(%%rsp), %%rsp\n\tsub %2, %1\n\tpushfq\n\tpopq %0\n\tleaq 128(%%rsp), %%rsp"
      : "=r"(flags), "+r"(a)
      : "r"(b)
      : "cc", "memory");
  return flags;
}
template <class T>
u64 host_test(T a) {
  u64 flags;
  asm("leaq -128(%%rsp), %%rsp\n\ttest %1, %1\n\tpushfq\n\tpopq %0\n\tleaq 128(%%rsp), %%rsp"
      : "=r"(flags)
      : "r"(a)
      : "cc", "memory");
  return flags;
}
template <class T>
u64 host_inc(T a, u32 carry) {
  u64 flags;
  asm("leaq -128(%%rsp), %%rsp\n\tbtl $0, %2\n\tinc %1\n\tpushfq\n\tpopq %0\n\tleaq 128(%%rsp), %%rsp"
      : "=r"(flags), "+r"(a)
      : "r"(carry)
      : "cc", "memory");
  return flags;
}
template <class T>
u64 host_dec(T a, u32 carry) {
  u64 flags;
  asm("leaq -128(%%rsp), %%rsp\n\tbtl $0, %2\n\tdec %1\n\tpushfq\n\tpopq %0\n\tleaq 128(%%rsp), %%rsp"
      : "=r"(flags), "+r"(a)
      : "r"(carry)
      : "cc", "memory");
  return flags;
}
/// The sixteen conditions as the host sees them, by the SETcc of their own numbers.
constexpr Cond kHostConds[16] = {Cond::Vs, Cond::Vc, Cond::Cs, Cond::Cc, Cond::Eq, Cond::Ne, Cond::Be, Cond::Nbe,
                                 Cond::Mi, Cond::Pl, Cond::Pe, Cond::Po, Cond::Lt, Cond::Ge, Cond::Le, Cond::Gt};
u32 host_conditions(u64 eflags) {
  u8 all[16];
  asm("leaq -128(%%rsp), %%rsp\n\tpushq %[eflags]\n\tpopfq\n\tleaq 128(%%rsp), %%rsp"
      : "=@cco"(all[0]), "=@ccno"(all[1]), "=@ccb"(all[2]), "=@ccae"(all[3]), "=@cce"(all[4]), "=@ccne"(all[5]),
        "=@ccbe"(all[6]), "=@cca"(all[7])
      : [eflags] "r"(eflags)
      : "memory");
  asm("leaq -128(%%rsp), %%rsp\n\tpushq %[eflags]\n\tpopfq\n\tleaq 128(%%rsp), %%rsp"
      : "=@ccs"(all[8]), "=@ccns"(all[9]), "=@ccp"(all[10]), "=@ccnp"(all[11]), "=@ccl"(all[12]), "=@ccge"(all[13]),
        "=@ccle"(all[14]), "=@ccg"(all[15])
      : [eflags] "r"(eflags)
      : "memory");
  u32 conditions = 0;
  for (unsigned i = 0; i < 16; ++i) conditions |= u32{all[i]} << i;
  return conditions;
}

void expect_host(u32 image, u64 eflags, u32 ignored, const char* what, u64 a, u64 b) {
  ASSERT_EQ(image & ~ignored, image_of_eflags(eflags) & ~ignored) << what << std::hex << " " << a << ", " << b;
  u32 conditions = 0;
  for (unsigned i = 0; i < 16; ++i) conditions |= u32{cond_holds(kHostConds[i], image)} << i;
  ASSERT_EQ(conditions, host_conditions(eflags)) << what << std::hex << " " << a << ", " << b;
}
/// What lower_flags() makes of every condition and of the image, for a maker of constants and of values in slots.
void expect_lowered(Random& random, FlagsKind kind, u64 a, u64 b, u64 eflags, u32 ignored) {
  Block block;
  Builder ir(block);
  ir.insn_start(0x1000, 1);
  const Width width = width_of(kind);
  const Type type = width == Width::B8 ? Type::I64 : Type::I32;
  const auto operand = [&](u64 value, unsigned slot) {
    if (random.chance(30)) return ir.iconst(type, value);
    return ir.trunc(type, ir.get_reg(Type::I64, x_offset(slot)));
  };
  const Value x = operand(a, 0);
  Value flags;
  switch (byte_kind(kind)) {
    case FlagsKind::EAdd8: flags = ir.eflags_add(width, x, operand(b, 1)); break;
    case FlagsKind::ESub8: flags = ir.eflags_sub(width, x, operand(b, 1)); break;
    case FlagsKind::ELogic8: flags = ir.eflags_logic(width, x); break;
    case FlagsKind::EInc8: flags = ir.eflags_inc(width, x, ir.trunc(Type::I1, ir.get_reg(Type::I64, x_offset(1)))); break;
    case FlagsKind::EDec8: flags = ir.eflags_dec(width, x, ir.trunc(Type::I1, ir.get_reg(Type::I64, x_offset(1)))); break;
    default: flags = ir.eflags_result(width, x, ir.trunc(Type::I32, ir.get_reg(Type::I64, x_offset(1)))); break;
  }
  ir.set_flags(flags);
  Value all = ir.i64(0);
  for (unsigned i = 0; i < 16; ++i) all = ir.or_(all, ir.shl(ir.zext(Type::I64, ir.cond(flags, kHostConds[i])), ir.i64(i)));
  ir.set_reg(x_offset(2), all);
  ir.set_reg(x_offset(3), ir.zext(Type::I64, ir.flags_value(flags)));
  ir.exit_jump(0x2000);
  optimise(block);
  ASSERT_EQ(verify(block), "") << print(block);
  Machine machine;
  machine.state->x[0] = a;
  machine.state->x[1] = b;
  run_interpreter(block, machine);
  const TestState& s = *machine.state;
  ASSERT_EQ(s.x[2], host_conditions(eflags)) << std::hex << a << ", " << b << "\n" << print(block);
  ASSERT_EQ(s.x[3] & ~u64{ignored}, image_of_eflags(eflags) & ~u64{ignored}) << std::hex << a << ", " << b << "\n"
                                                                             << print(block);
  ASSERT_EQ(flags_value(static_cast<FlagsKind>(s.flags_kind), s.flags_a, s.flags_b), s.x[3]) << print(block);
}

template <class T>
void check_x86(Random& random, Width width) {
  const u64 a = boundary_integer(random, 64), b = random.chance(20) ? a + random.below(3) - 1 : boundary_integer(random, 64);
  const T x = static_cast<T>(a), y = static_cast<T>(b);
  const auto check = [&](FlagsKind family, u64 second, u64 eflags, u32 ignored, const char* what) {
    const FlagsKind kind = of_width(family, width);
    expect_host(flags_value(kind, a, second), eflags, ignored, what, a, second);
    if (random.chance(10)) expect_lowered(random, kind, a, second, eflags, ignored);
  };
  check(FlagsKind::EAdd8, b, host_add(x, y), 0, "add");
  check(FlagsKind::ESub8, b, host_sub(x, y), 0, "sub");
  check(FlagsKind::ELogic8, b, host_test(x), kA, "test");  // A is undefined on the host
  const u32 carry = static_cast<u32>(b) & 1;
  check(FlagsKind::EInc8, b, host_inc(static_cast<T>(x - 1), carry), 0, "inc");
  check(FlagsKind::EDec8, b, host_dec(static_cast<T>(x + 1), carry), 0, "dec");
  // A result and the other bits as they stand in an image, against the flags put together by hand.
  u64 eflags = host_test(x) & (1 << 2 | 1 << 6 | 1 << 7);
  eflags |= (b & kC ? 1 : 0) | (b & kV ? 1 << 11 : 0) | (b & kA ? 1 << 4 : 0);
  check(FlagsKind::EResult8, b, eflags, 0, "result");
}

TEST(Flags, X86KindsAreTheHosts) {
  Random random(4);
  for (unsigned i = 0; i < 20000 && !testing::Test::HasFatalFailure(); ++i) {
    check_x86<u8>(random, Width::B1);
    check_x86<u16>(random, Width::B2);
    check_x86<u32>(random, Width::B4);
    check_x86<u64>(random, Width::B8);
  }
}

TEST(Flags, EverySumAndDifferenceOfBytes) {
  for (unsigned a = 0; a < 256; ++a)
    for (unsigned b = 0; b < 256; ++b) {
      const u8 x = static_cast<u8>(a), y = static_cast<u8>(b);
      expect_host(flags_value(FlagsKind::EAdd8, a, b), host_add(x, y), 0, "add", a, b);
      expect_host(flags_value(FlagsKind::ESub8, a, b), host_sub(x, y), 0, "sub", a, b);
      if (testing::Test::HasFatalFailure()) return;
    }
}

TEST(Flags, X86FloatingPointCompares) {
  const double numbers[] = {0.0, -0.0, 1.0, -1.0, 1e308, __builtin_inf(), -__builtin_inf(), __builtin_nan(""), 5e-324};
  for (double a : numbers)
    for (double b : numbers) {
      u64 eflags;
      asm("leaq -128(%%rsp), %%rsp\n\tucomisd %2, %1\n\tpushfq\n\tpopq %0\n\tleaq 128(%%rsp), %%rsp"
          : "=r"(eflags)
          : "x"(a), "x"(b)
          : "cc", "memory");
      Block block;
      Builder ir(block);
      ir.insn_start(0x1000, 1);
      const Value flags = ir.eflags_fcmp(ir.v_to_f(Type::F64, ir.get_reg(Type::V128, v_offset(0))),
                                         ir.v_to_f(Type::F64, ir.get_reg(Type::V128, v_offset(1))), false);
      Value all = ir.i64(0);
      for (unsigned i = 0; i < 16; ++i) all = ir.or_(all, ir.shl(ir.zext(Type::I64, ir.cond(flags, kHostConds[i])), ir.i64(i)));
      ir.set_reg(x_offset(2), all);
      ir.set_flags(flags);
      ir.exit_jump(0x2000);
      for (bool lowered : {false, true}) {
        if (lowered) optimise(block);
        Machine machine;
        TestState& s = *machine.state;
        s.v[0].d[0] = __builtin_bit_cast(u64, a);
        s.v[1].d[0] = __builtin_bit_cast(u64, b);
        run_interpreter(block, machine);
        EXPECT_EQ(s.x[2], host_conditions(eflags)) << a << " " << b << "\n" << print(block);
        EXPECT_EQ(flags_value(static_cast<FlagsKind>(s.flags_kind), s.flags_a, s.flags_b), image_of_eflags(eflags))
            << a << " " << b;
      }
    }
}

TEST(Flags, ArmKindsHaveNoParity) {
  for (const FlagsKind kind : {FlagsKind::Add32, FlagsKind::Sub64, FlagsKind::Logic32})
    EXPECT_EQ(flags_value(kind, 0x18, 0x08) & ~kNzcv, 0u);
}

TEST(Flags, OddConditionsAreTheInverseOfEvenOnes) {
  for (u32 nzcv = 0; nzcv < 16; ++nzcv)
    for (unsigned c = 0; c < 14; c += 2)
      EXPECT_NE(cond_holds(static_cast<Cond>(c), nzcv << 28), cond_holds(static_cast<Cond>(c + 1), nzcv << 28));
}

}  // namespace
}  // namespace kiln::test
