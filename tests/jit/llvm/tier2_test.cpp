// Regions built by hand: control flow, flags across blocks, memory, faults, helpers.
#include <immintrin.h>

#include "ir/flags.h"
#include "tests/jit/llvm/harness.h"

namespace kiln::test {
namespace {

using namespace ir;
using jit::RegionBlock;

struct Pair {
  Machine tier2, reference;
  template <class F>
  void both(F&& f) {
    f(tier2);
    f(reference);
  }
  void run(const std::vector<RegionBlock>& blocks, const std::string& what) {
    auto code = tier2.compile(blocks);
    ASSERT_TRUE(code) << code.error();
    tier2.enter(*code);
    reference.interpret(blocks);
    expect_same(tier2, reference, what);
  }
};

/// x1 += x0; x0 -= 1; flags = x0 ? 0; then a branch block on the flags: the compare is in the block before.
std::vector<RegionBlock> sum_loop() {
  std::vector<RegionBlock> blocks(2);
  {
    Builder b(blocks[0].ir);
    blocks[0].ir.pc = 0x1000;
    b.insn_start(0x1000, 4);
    Value x0 = b.get_reg(Type::I64, x_offset(0));
    b.set_reg(x_offset(1), b.add(b.get_reg(Type::I64, x_offset(1)), x0));
    b.insn_start(0x1004, 4);
    b.set_reg(x_offset(0), b.sub(x0, b.i64(1)));
    b.set_flags(b.flags_sub(x0, b.i64(1)));
    b.exit_jump(0x1008);
    blocks[0].taken = 1;
    blocks[0].poll = true;
  }
  {
    Builder b(blocks[1].ir);
    blocks[1].ir.pc = 0x1008;
    b.insn_start(0x1008, 4);
    b.exit_branch(b.cond(b.get_flags(), Cond::Ne), 0x1000, 0x100c);
    blocks[1].taken = 0;
  }
  return blocks;
}

TEST(Tier2, LoopWithFlagsAcrossBlocks) {
  Pair p;
  p.both([](Machine& m) { m.state().x[0] = 1000; });
  p.run(sum_loop(), "sum");
  EXPECT_EQ(p.tier2.state().x[1], 500500u);
  EXPECT_EQ(p.tier2.state().pc, 0x100cu);
}

TEST(Tier2, PollLeavesWithInterrupt) {
  Pair p;
  p.both([](Machine& m) { m.state().x[0] = 1000, m.state().interrupt = 1; });
  p.run(sum_loop(), "poll");
  EXPECT_EQ(p.tier2.state().exit_kind, static_cast<u32>(ExitKind::Interrupt));
  EXPECT_EQ(p.tier2.state().pc, 0x1000u);
}

constexpr Cond kConds[] = {Cond::Eq, Cond::Ne, Cond::Cs, Cond::Cc, Cond::Mi, Cond::Pl, Cond::Vs, Cond::Vc, Cond::Hi, Cond::Ls,
                           Cond::Ge, Cond::Lt, Cond::Gt, Cond::Le, Cond::Al, Cond::Pe, Cond::Po, Cond::Be, Cond::Nbe};
/// All conditions of the flags as bits of an i64.
Value every_condition(Builder& b, Value flags) {
  Value all = b.i64(0);
  for (const Cond cond : kConds) all = b.or_(b.shl(all, b.i64(1)), b.zext(Type::I64, b.cond(flags, cond)));
  return all;
}
/// A record of every kind from two i64.
Value make_flags(Builder& b, FlagsKind kind, Value x, Value y) {
  const auto low = [&](Value v) { return b.trunc(Type::I32, v); };
  switch (kind) {
    case FlagsKind::Image: return b.flags_image(low(x));
    case FlagsKind::Add32: return b.flags_add(low(x), low(y));
    case FlagsKind::Add64: return b.flags_add(x, y);
    case FlagsKind::Sub32: return b.flags_sub(low(x), low(y));
    case FlagsKind::Sub64: return b.flags_sub(x, y);
    case FlagsKind::Logic32: return b.flags_logic(low(x));
    case FlagsKind::Logic64: return b.flags_logic(x);
    default: break;
  }
  const Width width = width_of(kind);
  const Value a = width == Width::B8 ? x : low(x), c = width == Width::B8 ? y : low(y);
  switch (byte_kind(kind)) {
    case FlagsKind::EAdd8: return b.eflags_add(width, a, c);
    case FlagsKind::ESub8: return b.eflags_sub(width, a, c);
    case FlagsKind::ELogic8: return b.eflags_logic(width, a);
    case FlagsKind::EInc8: return b.eflags_inc(width, a, b.trunc(Type::I1, y));
    case FlagsKind::EDec8: return b.eflags_dec(width, a, b.trunc(Type::I1, y));
    default: return b.eflags_result(width, a, low(y));
  }
}

TEST(Tier2, FlagsOfUnknownKindAtEntry) {
  std::vector<RegionBlock> blocks(1);
  Builder b(blocks[0].ir);
  b.insn_start(0x1000, 4);
  Value f = b.get_flags();
  b.set_reg(x_offset(2), b.zext(Type::I64, b.flags_value(f)));
  b.set_reg(x_offset(3), every_condition(b, f));
  b.exit_branch(b.cond(f, Cond::Gt), 0x2000, 0x3000);
  for (u32 kind = 0; kind <= static_cast<u32>(FlagsKind::EResult64); ++kind) {
    Pair p;
    p.both([&](Machine& m) { m.state().flags_kind = kind, m.state().flags_a = 0x80000005, m.state().flags_b = 7; });
    p.run(blocks, "kind " + std::to_string(kind));
  }
}

TEST(Tier2, EveryConditionOfEveryKnownKind) {
  const u64 numbers[] = {0,          1,          0x7f,
                         0x80,       0xffff,     0x8000,
                         0x94,       0x7fff,     0x7fffffff,
                         0x80000000, 0xffffffff, 0x7fffffffffffffff,
                         1ull << 63, ~u64{0},    0x3000001430000014};
  std::vector<RegionBlock> blocks(2);
  for (u32 maker = 0; maker <= static_cast<u32>(FlagsKind::EResult64); ++maker) {
    blocks.assign(2, {});
    Builder b(blocks[0].ir);
    b.insn_start(0x1000, 4);
    Value x = b.get_reg(Type::I64, x_offset(0)), y = b.get_reg(Type::I64, x_offset(1));
    b.set_flags(make_flags(b, static_cast<FlagsKind>(maker), x, y));
    b.exit_jump(0x1004);
    blocks[0].taken = 1;
    Builder c(blocks[1].ir);
    c.insn_start(0x1004, 4);
    Value f = c.get_flags();
    c.set_reg(x_offset(2), c.zext(Type::I64, c.flags_value(f)));
    c.set_reg(x_offset(3), every_condition(c, f));
    c.exit_jump(0x1008);
    Pair p;
    auto code = p.tier2.compile(blocks);
    ASSERT_TRUE(code) << code.error();
    for (u64 n : numbers)
      for (u64 m : numbers) {
        p.both([&](Machine& machine) { machine.state().x[0] = n, machine.state().x[1] = m; });
        p.tier2.enter(*code);
        p.reference.interpret(blocks);
        expect_same(p.tier2, p.reference, "maker " + std::to_string(maker) + " " + std::to_string(n) + " " + std::to_string(m));
      }
  }
}

/// Which of two kinds it is shows at run time only; and, in a loop, whether it is one that came from outside.
TEST(Tier2, FlagsOfOneOfSeveralKinds) {
  const FlagsKind pairs[][2] = {{FlagsKind::ESub32, FlagsKind::EResult32},
                                {FlagsKind::EInc32, FlagsKind::EDec64},
                                {FlagsKind::ELogic64, FlagsKind::EAdd8},
                                {FlagsKind::Image, FlagsKind::ESub16},
                                {FlagsKind::Sub64, FlagsKind::Add32}};
  for (const auto& kinds : pairs)
    for (const bool looks_at_entry : {false, true}) {
      std::vector<RegionBlock> blocks(4);
      for (unsigned i = 0; i < 4; ++i) blocks[i].ir.pc = 0x1000 + 0x10 * i;
      Builder head(blocks[0].ir);
      head.insn_start(0x1000, 4);
      if (looks_at_entry) {
        const Value f = head.get_flags();
        const Value seen = head.xor_(head.get_reg(Type::I64, x_offset(4)), every_condition(head, f));
        head.set_reg(x_offset(4), head.add(seen, head.zext(Type::I64, head.flags_value(f))));
      }
      const Value x = head.get_reg(Type::I64, x_offset(0));
      head.exit_branch(head.icmp(Op::icmp_eq_, head.and_(x, head.i64(1)), head.i64(0)), 0x1010, 0x1020);
      blocks[0].taken = 1, blocks[0].not_taken = 2;
      for (unsigned i = 0; i < 2; ++i) {
        Builder b(blocks[1 + i].ir);
        b.insn_start(0x1010 + 0x10 * i, 4);
        b.set_flags(make_flags(b, kinds[i], b.get_reg(Type::I64, x_offset(0)), b.get_reg(Type::I64, x_offset(1))));
        b.exit_jump(0x1030);
        blocks[1 + i].taken = 3;
      }
      Builder last(blocks[3].ir);
      last.insn_start(0x1030, 4);
      const Value f = last.get_flags();
      const Value seen = last.xor_(last.get_reg(Type::I64, x_offset(2)), every_condition(last, f));
      last.set_reg(x_offset(2), last.add(seen, last.zext(Type::I64, last.flags_value(f))));
      const Value y =
          last.add(last.mul(last.get_reg(Type::I64, x_offset(0)), last.i64(0x5851f42d4c957f2d)), last.i64(0x14057b7ef767814f));
      last.set_reg(x_offset(0), y);
      const Value left = last.sub(last.get_reg(Type::I64, x_offset(3)), last.i64(1));
      last.set_reg(x_offset(3), left);
      last.exit_branch(last.icmp(Op::icmp_eq_, left, last.i64(0)), 0x2000, 0x1000);
      blocks[3].not_taken = 0;
      Pair p;
      p.both([](Machine& m) {
        m.state().x[0] = 12345, m.state().x[1] = 0x8000000090000094, m.state().x[3] = 50;
        m.state().flags_kind = static_cast<u32>(FlagsKind::EAdd32), m.state().flags_a = 0x7fffffff, m.state().flags_b = 1;
      });
      p.run(blocks, "kinds " + std::to_string(static_cast<u32>(kinds[0])));
    }
}

TEST(Tier2, ConditionalCompareKeepsARecord) {
  for (const Type type : {Type::I32, Type::I64})
    for (unsigned form = 0; form < 4; ++form) {
      std::vector<RegionBlock> blocks(1);
      Builder b(blocks[0].ir);
      b.insn_start(0x1000, 4);
      Value x = b.trunc(type, b.get_reg(Type::I64, x_offset(0))), y = b.trunc(type, b.get_reg(Type::I64, x_offset(1)));
      Value image = b.emit(form & 1 ? Op::nzcv_add_ : Op::nzcv_sub_, Type::I32, {x, y});
      Value c = b.icmp(Op::icmp_ult_, b.get_reg(Type::I64, x_offset(2)), b.i64(2)), other = b.i32(0x40000000);
      b.set_flags(b.flags_image(form & 2 ? b.select(c, other, image) : b.select(c, image, other)));
      b.exit_jump(0x1004);
      for (u64 n = 0; n < 4; ++n) {
        Pair p;
        p.both([&](Machine& m) { m.state().x[0] = 0x80000000 + n, m.state().x[1] = 3 * n, m.state().x[2] = n; });
        p.run(blocks, "form " + std::to_string(form));
      }
    }
}

/// Copies x2 words from x0 to x1, with post-increments and a dirty counter: faults in the middle must show exact slots.
std::vector<RegionBlock> copy_loop() {
  std::vector<RegionBlock> blocks(1);
  Builder b(blocks[0].ir);
  blocks[0].ir.pc = 0x1000;
  blocks[0].taken = 0;
  MemOp m;
  b.insn_start(0x1000, 4);
  Value x0 = b.get_reg(Type::I64, x_offset(0)), x1 = b.get_reg(Type::I64, x_offset(1));
  Value data = b.load(Type::I64, x0, 0, m);
  b.set_reg(x_offset(3), data);
  b.set_reg(x_offset(0), b.add(x0, b.i64(8)));
  b.insn_start(0x1004, 4);
  b.set_reg(x_offset(4), b.add(b.get_reg(Type::I64, x_offset(4)), data));
  b.set_flags(b.flags_add(x0, x1));
  b.insn_start(0x1008, 4);
  b.store(x1, 0, data, m);
  b.set_reg(x_offset(1), b.add(x1, b.i64(8)));
  b.insn_start(0x100c, 4);
  Value left = b.sub(b.get_reg(Type::I64, x_offset(2)), b.i64(1));
  b.set_reg(x_offset(2), left);
  b.exit_branch(b.icmp(Op::icmp_ne_, left, b.i64(0)), 0x1000, 0x1010);
  return blocks;
}

TEST(Tier2, FaultInHotLoopIsPrecise) {
  const u64 end = Machine::kGuestMemory + Machine::kMemoryBytes;
  struct {
    u64 from, to, count;
  } cases[] = {{Machine::kGuestMemory, Machine::kGuestMemory + 0x8000, 100},
               {end - 80, Machine::kGuestMemory, 100},
               {Machine::kGuestMemory, end - 80, 100},
               {end, Machine::kGuestMemory, 1},
               {Machine::kGuestMemory, end, 1},
               {0x123456789abcdef0, 0, 1}};
  for (auto& c : cases) {
    Pair p;
    p.both([&](Machine& m) {
      m.state().x[0] = c.from, m.state().x[1] = c.to, m.state().x[2] = c.count;
      for (unsigned i = 0; i < Machine::kMemoryBytes; ++i) m.memory()[i] = static_cast<u8>(i * 7 + (i >> 8));
    });
    p.run(copy_loop(), "copy from " + std::to_string(c.from));
  }
}

// LLVM likes to make one load behind the join of two: then their records would stay behind.
TEST(Tier2, LoadsAtTheEndsOfBlocksThatJoin) {
  for (const u64 bad : {0, 1, 2}) {
    std::vector<RegionBlock> blocks(4);
    const MemOp m;
    for (unsigned i = 0; i < 4; ++i) {
      Builder b(blocks[i].ir);
      blocks[i].ir.pc = 0x1000 + 16 * i;
      b.insn_start(blocks[i].ir.pc, 4);
      if (i == 0) {
        b.exit_branch(b.icmp(Op::icmp_ne_, b.get_reg(Type::I64, x_offset(2)), b.i64(0)), 0x1010, 0x1020);
        blocks[i].taken = 1, blocks[i].not_taken = 2;
      } else if (i < 3) {
        b.set_reg(x_offset(3), b.i64(i));
        b.set_reg(x_offset(4), b.load(Type::I64, b.get_reg(Type::I64, x_offset(i - 1)), 0, m));
        b.exit_jump(0x1030);
        blocks[i].taken = 3;
      } else {
        b.set_reg(x_offset(5), b.add(b.get_reg(Type::I64, x_offset(4)), b.i64(1)));
        b.exit_jump(0x1040);
      }
    }
    for (const u64 way : {0, 1}) {
      Pair p;
      p.both([&](Machine& machine) {
        for (unsigned i = 0; i < 2; ++i) machine.state().x[i] = bad == i + 1 ? 0 : Machine::kGuestMemory + 8 * i;
        machine.state().x[2] = way;
        for (unsigned i = 0; i < 16; ++i) machine.memory()[i] = static_cast<u8>(3 * i);
      });
      p.run(blocks, "bad address " + std::to_string(bad));
    }
  }
}

// LLVM 19 has patterns that forget that an instruction raises flags: nothing may pass an access that faults.
TEST(Tier2, FlagsOfFloatBetweenFaults) {
  struct {
    Op op;
    Type type;
    unsigned args;
    Type from = Type::Void;
  } const ops[] = {{Op::fadd_, Type::F64, 2},
                   {Op::fsub_, Type::F64, 2},
                   {Op::fmul_, Type::F32, 2},
                   {Op::fdiv_, Type::F64, 2},
                   {Op::fsqrt_, Type::F64, 1},
                   {Op::fsqrt_, Type::F32, 1},
                   {Op::fma_, Type::F64, 3},
                   {Op::fmax_, Type::F32, 2},
                   {Op::fmin_, Type::F64, 2},
                   {Op::fround_, Type::F64, 1},
                   {Op::fround_, Type::F32, 1},
                   {Op::fcvt_, Type::F32, 1, Type::F64},
                   {Op::fcvt_, Type::F64, 1, Type::F32},
                   {Op::int_to_f_, Type::F32, 1, Type::I64},
                   {Op::int_to_f_, Type::F64, 1, Type::I64}};
  for (const auto& o : ops)
    for (const NanRule rule : {NanRule::X86, NanRule::ArmPropagate}) {
      std::vector<RegionBlock> blocks(1);
      Builder b(blocks[0].ir);
      blocks[0].ir.pc = 0x1000;
      MemOp m;
      m.width = Width::B4;
      b.insn_start(0x1000, 4);
      const Value loaded = b.load(Type::V128, b.get_reg(Type::I64, x_offset(0)), 0, m);
      const Value low = b.f_to_v(b.emit(Op::bitcast_, Type::F64, {b.get_reg(Type::I64, x_offset(4))}));
      b.set_reg(x_offset(4), b.v_extract(Type::I64, Width::B8, b.vec(Op::v_zip_lo_, Width::B4, {low, loaded}), 0));
      b.insn_start(0x1004, 4);
      const Type from = o.from == Type::Void ? o.type : o.from;
      const auto operand = [&](unsigned i) {
        return is_int(from) ? b.get_reg(from, x_offset(3)) : b.v_to_f(from, b.get_reg(Type::V128, v_offset(1 + i)));
      };
      const FpOp f{.nan = rule, .round = Round::Dynamic, .exact = true};
      Value r = o.args == 1   ? b.fp(o.op, o.type, {operand(0)}, f)
                : o.args == 2 ? b.fp(o.op, o.type, {operand(0), operand(1)}, f)
                              : b.fp(o.op, o.type, {operand(0), operand(1), operand(2)}, f);
      const Width lane = o.type == Type::F64 ? Width::B8 : Width::B4;
      b.set_reg(v_offset(4), b.vec(Op::v_insert_lane_, lane, {b.get_reg(Type::V128, v_offset(4)), b.f_to_v(r)}));
      b.insn_start(0x1008, 4);
      MemOp aligned = m;
      aligned.align_check = true;
      b.set_reg(x_offset(2), b.load(Type::I64, b.i64(Machine::kGuestMemory + 1), 0, aligned));  // leaves always
      b.exit_jump(0x100c);
      for (const unsigned bad : {0u, 1u}) {
        Pair p;
        p.both([&](Machine& machine) {
          machine.state().x[0] = bad == 0 ? 0 : Machine::kGuestMemory;
          machine.state().x[3] = 0x123456789abcdef1;
          const u64 lane_bits = from == Type::F32 ? 0x7f000003'7f000003 : 0x47efffffffffffff;
          for (unsigned i = 1; i < 4; ++i)
            for (u64& d : machine.state().v[i].d) d = lane_bits - i;
        });
        p.run(blocks, std::string(op_info(o.op).name) + " rule " + std::to_string(static_cast<int>(rule)) + " bad address " +
                          std::to_string(bad));
      }
    }
}

// More values than registers at the access: the slots' values are in registers, in spill slots and constants.
TEST(Tier2, FaultUnderRegisterPressureIsPrecise) {
  for (const bool faults : {false, true}) {
    std::vector<RegionBlock> blocks(1);
    Builder b(blocks[0].ir);
    blocks[0].ir.pc = 0x1000;
    MemOp word, vector;
    vector.width = Width::B16;
    b.insn_start(0x1000, 4);
    Value from = b.get_reg(Type::I64, x_offset(0)), other = b.get_reg(Type::I64, x_offset(1));
    std::vector<Value> words, vectors;
    for (unsigned i = 0; i < 24; ++i) {
      words.push_back(b.load(Type::I64, from, 8 * i, word));
      vectors.push_back(b.load(Type::V128, from, 16 * i, vector));
    }
    for (unsigned i = 2; i < 16; ++i) b.set_reg(x_offset(i), i == 5 ? b.i64(77) : b.add(words[i], words[i + 1]));
    for (unsigned i = 0; i < 8; ++i) b.set_reg(v_offset(i), vectors[i]);
    b.insn_start(0x1004, 4);
    Value last = b.load(Type::I64, other, 0, word);
    b.insn_start(0x1008, 4);
    for (Value w : words) last = b.sub(w, last);
    for (unsigned i = 0; i < 24; ++i) b.store(from, 16 * (i ^ 1), vectors[i], vector);
    b.set_reg(x_offset(0), last);
    b.exit_jump(0x100c);
    Pair p;
    p.both([&](Machine& m) {
      m.state().x[0] = Machine::kGuestMemory;
      m.state().x[1] = Machine::kGuestMemory + (faults ? Machine::kMemoryBytes : 8);
      for (unsigned i = 0; i < 4096; ++i) m.memory()[i] = static_cast<u8>(i * 7 + (i >> 8));
    });
    p.run(blocks, faults ? "faults" : "runs through");
  }
}

TEST(Tier2, LoadsAndStoresOfEveryKind) {
  for (unsigned w = 0; w < 4; ++w)
    for (const bool sign : {false, true})
      for (const bool swap : {false, true})
        for (const Type type : {Type::I32, Type::I64})
          for (const Order order : {Order::Relaxed, Order::SeqCst}) {
            if (w == 3 && type == Type::I32) continue;
            std::vector<RegionBlock> blocks(1);
            Builder b(blocks[0].ir);
            MemOp m;
            m.width = static_cast<Width>(w);
            m.sign_extend = sign && width_bits(m.width) < type_bits(type);
            m.big_endian = swap;
            m.order = order;
            b.insn_start(0x1000, 4);
            Value base = b.get_reg(Type::I64, x_offset(0));
            Value v = b.load(type, base, 3, m);
            b.set_reg(x_offset(1), b.zext(Type::I64, v));
            b.store(base, 64, v, m);
            b.store(base, 80, b.iconst(type, 0x8182838485868788), m);
            b.exit_jump(0x1004);
            Pair p;
            p.both([&](Machine& machine) {
              machine.state().x[0] = Machine::kGuestMemory;
              for (unsigned i = 0; i < 128; ++i) machine.memory()[i] = static_cast<u8>(0xf1 - i * 3);
            });
            p.run(blocks, "width " + std::to_string(w) + (sign ? " signed" : "") + (swap ? " swapped" : ""));
          }
}

TEST(Tier2, VectorAndFloatAccesses) {
  std::vector<RegionBlock> blocks(1);
  Builder b(blocks[0].ir);
  b.insn_start(0x1000, 4);
  Value base = b.get_reg(Type::I64, x_offset(0));
  s64 at = 0;
  for (unsigned w = 0; w <= 4; ++w)
    for (const bool swap : {false, true}) {
      MemOp m;
      m.width = static_cast<Width>(w);
      m.big_endian = swap;
      Value v = b.load(Type::V128, base, at + 1, m);
      b.set_reg(v_offset(w), v);
      b.store(base, 256 + at, v, m);
      at += 16;
    }
  MemOp m4, m8;
  m4.width = Width::B4;
  Value f = b.load(Type::F32, base, 5, m4), d = b.load(Type::F64, base, 9, m8);
  b.store(base, 600, f, m4);
  b.store(base, 608, d, m8);
  b.set_reg(v_offset(6), b.f_to_v(f));
  b.set_reg(v_offset(7), b.f_to_v(d));
  b.exit_jump(0x1004);
  Pair p;
  p.both([&](Machine& machine) {
    machine.state().x[0] = Machine::kGuestMemory;
    for (unsigned i = 0; i < 512; ++i) machine.memory()[i] = static_cast<u8>(0xf1 - i * 3);
  });
  p.run(blocks, "vector accesses");
}

TEST(Tier2, Atomics) {
  for (unsigned w = 0; w < 4; ++w)
    for (unsigned kind = 0; kind < 10; ++kind) {
      std::vector<RegionBlock> blocks(1);
      Builder b(blocks[0].ir);
      MemOp m;
      m.width = static_cast<Width>(w);
      m.rmw = static_cast<RmwKind>(kind);
      const Type type = w == 3 ? Type::I64 : Type::I32;
      b.insn_start(0x1000, 4);
      Value base = b.get_reg(Type::I64, x_offset(0));
      Value operand = b.trunc(type, b.get_reg(Type::I64, x_offset(1)));
      Value old = b.atomic_rmw(base, operand, m);
      b.set_reg(x_offset(2), b.zext(Type::I64, old));
      Value seen = b.atomic_cas(base, old, operand, m);  // fails unless nothing changed
      b.set_reg(x_offset(3), b.zext(Type::I64, seen));
      Value hit = b.atomic_cas(base, seen, b.iconst(type, 0x1122334455667788), m);
      b.set_reg(x_offset(4), b.zext(Type::I64, hit));
      b.exit_jump(0x1004);
      Pair p;
      p.both([&](Machine& machine) {
        machine.state().x[0] = Machine::kGuestMemory + 8;
        machine.state().x[1] = 0x9234567890abcdef;
        for (unsigned i = 0; i < 32; ++i) machine.memory()[i] = static_cast<u8>(0xa1 - i * 3);
      });
      p.run(blocks, "rmw " + std::to_string(kind) + " width " + std::to_string(w));
    }
}

TEST(Tier2, MisalignedAccessLeaves) {
  std::vector<RegionBlock> blocks(1);
  Builder b(blocks[0].ir);
  MemOp m;
  m.align_check = true;
  b.insn_start(0x1000, 4);
  b.set_reg(x_offset(5), b.i64(77));
  b.insn_start(0x1004, 4);
  b.set_reg(x_offset(1), b.load(Type::I64, b.get_reg(Type::I64, x_offset(0)), 4, m));
  b.exit_jump(0x1008);
  for (unsigned i = 0; i < 9; ++i) {
    Pair p;
    p.both([&](Machine& machine) { machine.state().x[0] = Machine::kGuestMemory + i; });
    p.run(blocks, "aligned " + std::to_string(i));
    EXPECT_EQ(p.tier2.state().exit_value, p.reference.state().exit_value);
  }
}

/// Diamond, a call with predicted return, an indirect exit past the guesses.
TEST(Tier2, DiamondAndPredictedReturn) {
  std::vector<RegionBlock> blocks(5);
  auto body = [&](unsigned i, GuestAddr pc) {
    blocks[i].ir.pc = pc;
    Builder b(blocks[i].ir);
    b.insn_start(pc, 4);
    return b;
  };
  {
    Builder b = body(0, 0x1000);
    b.exit_branch(b.icmp(Op::icmp_slt_, b.get_reg(Type::I64, x_offset(0)), b.i64(10)), 0x1010, 0x1020);
    blocks[0].taken = 1, blocks[0].not_taken = 2;
  }
  for (unsigned i : {1u, 2u}) {
    Builder b = body(i, 0x1000 + 0x10 * i);
    b.set_reg(x_offset(1), b.add(b.get_reg(Type::I64, x_offset(1)), b.i64(i)));
    b.set_reg(x_offset(30 % 16), b.i64(0x1040));
    b.exit_jump(0x1030, ExitHint::Call, 0x1040);
    blocks[i].taken = 3;
  }
  {
    Builder b = body(3, 0x1030);
    Value x2 = b.add(b.get_reg(Type::I64, x_offset(2)), b.i64(3));
    b.set_reg(x_offset(2), x2);
    Value link = b.get_reg(Type::I64, x_offset(14));
    b.exit_indirect(b.select(b.icmp(Op::icmp_eq_, x2, b.i64(300)), b.i64(0x7777), link), ExitHint::Return);
    blocks[3].indirect = {{0x1040, 4}};
  }
  {
    Builder b = body(4, 0x1040);
    Value x0 = b.add(b.get_reg(Type::I64, x_offset(0)), b.i64(1));
    b.set_reg(x_offset(0), x0);
    b.exit_branch(b.icmp(Op::icmp_ult_, x0, b.i64(20)), 0x1000, 0x1050);
    blocks[4].taken = 0;
  }
  {
    Pair p;
    p.run(blocks, "diamond");
    EXPECT_EQ(p.tier2.state().x[1], 10u + 20u);
  }
  Pair p;  // leaves through the jump cache's miss
  p.both([](Machine& m) { m.state().x[2] = 270; });
  p.run(blocks, "indirect exit");
  EXPECT_EQ(p.tier2.state().pc, 0x7777u);
  // and through a hit
  Pair q;
  q.both([](Machine& m) { m.state().x[2] = 270; });
  q.tier2.state().jump_cache()[jump_cache_index(0x7777)] = {0x7777, q.tier2.direct_exit(0x8888)};
  auto code = q.tier2.compile(blocks);
  ASSERT_TRUE(code) << code.error();
  q.tier2.enter(*code);
  EXPECT_EQ(q.tier2.state().pc, 0x8888u);
}

u64 mix(CpuState*, u64 a, u64 b, __m128i v, u64 c) { return a * 3 + b * 5 + c * 7 + static_cast<u64>(_mm_cvtsi128_si64(v)); }
u64 swap_slots(CpuState* state, u64 a) {
  auto* s = static_cast<TestState*>(state);
  const u64 was = s->x[5];
  s->x[5] = s->x[6] + a;
  s->x[6] = was + s->pc;
  s->flags_kind = static_cast<u32>(FlagsKind::Image);
  s->flags_a = 0x60000000;
  return s->x[5];
}
double half(CpuState*, double d, float f) { return d / 2 + f; }

TEST(Tier2, HelperCalls) {
  static const Helper pure{
      "mix", reinterpret_cast<const void*>(mix), Type::I64, {Type::I64, Type::I32, Type::V128, Type::I64}, PURE};
  static const Helper state{
      "swap_slots", reinterpret_cast<const void*>(swap_slots), Type::I64, {Type::I64}, READS_STATE | WRITES_STATE};
  static const Helper floating{"half", reinterpret_cast<const void*>(half), Type::F64, {Type::F64, Type::F32}, PURE};
  std::vector<RegionBlock> blocks(1);
  Builder b(blocks[0].ir);
  b.insn_start(0x1000, 4);
  Value x0 = b.get_reg(Type::I64, x_offset(0));
  b.set_flags(b.flags_sub(x0, x0));
  b.set_reg(x_offset(5), b.add(x0, b.i64(5)));
  b.insn_start(0x1004, 4);
  b.set_reg(x_offset(1), b.call(state, {b.get_reg(Type::I64, x_offset(1))}));
  b.insn_start(0x1008, 4);
  b.set_reg(x_offset(2), b.add(b.get_reg(Type::I64, x_offset(6)), b.zext(Type::I64, b.cond(b.get_flags(), Cond::Eq))));
  b.set_reg(x_offset(3),
            b.call(pure, {x0, b.trunc(Type::I32, x0), b.get_reg(Type::V128, v_offset(0)), b.get_reg(Type::I64, x_offset(5))}));
  b.set_reg(v_offset(1), b.f_to_v(b.call(floating, {b.v_to_f(Type::F64, b.get_reg(Type::V128, v_offset(2))),
                                                    b.v_to_f(Type::F32, b.get_reg(Type::V128, v_offset(3)))})));
  b.exit_exception(ExitKind::Syscall, 0x100c, 42);
  Pair p;
  p.both([](Machine& m) {
    TestState& s = m.state();
    s.x[0] = 0x123456789abc, s.x[1] = 11, s.x[6] = 1000;
    s.v[0].d[0] = 99;
    s.v[2].f64[0] = 3.25;
    s.v[3].f32[0] = 1.5f;
  });
  p.run(blocks, "helpers");
  EXPECT_EQ(p.tier2.state().exit_value, 42u);
}

}  // namespace
}  // namespace kiln::test
