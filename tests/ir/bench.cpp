// What the passes cost: optimise() on blocks as the A64 lifter makes them. Run by hand; prints nanoseconds per guest
// instruction.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "ir/passes/passes.h"
#include "tests/ir/random_ir.h"

using namespace kiln;
using namespace kiln::ir;
using namespace kiln::test;

namespace {

/// Six guest instructions, in the lifter's way: ldr w; add w; subs x; ccmp; str; b.cond.
void guest_code(Builder& ir, unsigned& pc) {
  const auto start = [&] { ir.insn_start(0x1000 + 4 * pc++, 4); };
  MemOp word;
  word.width = Width::B4;
  start();
  ir.set_reg(x_offset(0),
             ir.zext(Type::I64, ir.load(Type::I32, ir.add(ir.get_reg(Type::I64, x_offset(1)), ir.i64(16)), 0, word)));
  start();
  const Value sum =
      ir.add(ir.trunc(Type::I32, ir.get_reg(Type::I64, x_offset(0))), ir.trunc(Type::I32, ir.get_reg(Type::I64, x_offset(2))));
  ir.set_reg(x_offset(2), ir.zext(Type::I64, sum));
  start();
  const Value a = ir.get_reg(Type::I64, x_offset(1)), b = ir.i64(24);
  ir.set_flags(ir.flags_sub(a, b));
  ir.set_reg(x_offset(1), ir.sub(a, b));
  start();
  const Value c = ir.cond(ir.get_flags(), Cond::Ne);
  ir.set_flags(ir.flags_select(c, ir.flags_sub(ir.get_reg(Type::I64, x_offset(2)), ir.i64(3)), ir.flags_image(ir.i32(0))));
  start();
  ir.store(ir.add(ir.get_reg(Type::I64, x_offset(1)), ir.i64(8)), 0, ir.trunc(Type::I32, ir.get_reg(Type::I64, x_offset(2))),
           word);
  start();
  ir.set_reg(x_offset(3), ir.select(ir.cond(ir.get_flags(), Cond::Lt), ir.get_reg(Type::I64, x_offset(4)),
                                    ir.get_reg(Type::I64, x_offset(5))));
}

}  // namespace

int main() {
  Block source;
  Builder ir(source);
  unsigned pc = 0;
  for (unsigned i = 0; i < 4; ++i) guest_code(ir, pc);
  ir.exit_branch(ir.cond(ir.get_flags(), Cond::Eq), 0x10, 0x20);
  Block block = source;
  optimise(block);
  std::printf("%zu -> %zu instructions for %u guest instructions\n", source.insts.size(), block.insts.size(), pc);
  // CPU time, the best of several: the machine is shared.
  constexpr unsigned kRounds = 500;
  const auto now = [] {
    timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
  };
  const auto nanoseconds = [&](auto&& fn) {
    double best = 1e18;
    for (unsigned attempt = 0; attempt < 40; ++attempt) {
      const double begin = now();
      for (unsigned i = 0; i < kRounds; ++i) fn();
      best = std::min(best, now() - begin);
    }
    return best / kRounds / pc;
  };
  const double copy = nanoseconds([&] { block = source; });
  const double all = nanoseconds([&] {
    block = source;
    optimise(block);
  });
  std::printf("optimise: %.1f ns per guest instruction (copying the block: %.1f)\n", all - copy, copy);
  return 0;
}
