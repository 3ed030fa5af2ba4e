// Listings of stitched blocks, so that a change of code quality is seen in review. KILN_UPDATE_LISTING=1 rewrites listing.txt.
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "ir/passes/passes.h"
#include "jit/llvm/tier2.h"
#include "jit/stencil/tier1.h"
#include "tests/ir/random_ir.h"

namespace kiln::test {
namespace {
using namespace ir;

constexpr MemOp kByte{.width = Width::B1}, kWord{.width = Width::B4}, kDouble{.width = Width::B8};

/// `counts`: as the engine has it when blocks count and ids are addresses of records.
std::string listing(const char* title, Block& block, bool counts = false) {
  block.pc = 0x1000;
  optimise(block);
  GuestDesc guest{};
  guest.state_size = sizeof(TestState);
  jit::Tier1Options options;
  options.code_address = 0x10000000;
  options.runtime = {0x10100000, 0x10100100};
  options.exit_ids[0] = 1;
  options.exit_ids[1] = 2;
  if (counts) {
    options.runtime.leave_chain = 0x10100200;
    options.runtime.leave_hot = 0x10100300;
    options.runtime.leave_poll = 0x10100400;
    options.entry_patch = true;
    options.counter = reinterpret_cast<const u32*>(0x20000000);
    options.targets = reinterpret_cast<u64*>(0x20000100);
    options.block_id = 0x20000200;
    options.exit_ids[0] = 0x20000300;
    options.exit_ids[1] = 0x20000400;
  }
  const jit::Tier1Code code = jit::stitch(block, guest, options, false);
  return std::string("== ") + title + "\n" + jit::disassemble("x86_64-linux-gnu", "", code.bytes, options.code_address) + "\n";
}

/// crc = table[(crc ^ *p++) & 255] ^ crc >> 8; until p == end
std::string table_loop() {
  Block block;
  Builder ir(block);
  ir.insn_start(0x1000, 4);
  const Value p = ir.get_reg(Type::I64, x_offset(0)), crc = ir.get_reg(Type::I64, x_offset(1));
  const Value byte = ir.load(Type::I64, p, 0, kByte);
  const Value next = ir.add(p, ir.i64(1));
  ir.set_reg(x_offset(0), next);
  const Value index = ir.and_(ir.xor_(crc, byte), ir.i64(255));
  const Value entry = ir.load(Type::I64, ir.add(ir.get_reg(Type::I64, x_offset(2)), ir.shl(index, ir.i64(2))), 0, kWord);
  ir.set_reg(x_offset(1), ir.xor_(entry, ir.lshr(crc, ir.i64(8))));
  const Value end = ir.get_reg(Type::I64, x_offset(3));
  const Value flags = ir.flags_sub(next, end);
  ir.set_flags(flags);
  ir.exit_branch(ir.cond(flags, Cond::Ne), 0x1000, 0x1020);
  return listing("table loop", block);
}

/// 32-bit compare and select, bit test, bit field, indirect exit.
std::string selects() {
  Block block;
  Builder ir(block);
  ir.insn_start(0x1000, 4);
  const Value a = ir.trunc(Type::I32, ir.get_reg(Type::I64, x_offset(0)));
  const Value b = ir.trunc(Type::I32, ir.get_reg(Type::I64, x_offset(1)));
  ir.set_reg(x_offset(2), ir.zext(Type::I64, ir.select(ir.icmp(Op::icmp_slt_, a, b), a, b)));
  const Value bit = ir.icmp(Op::icmp_ne_, ir.and_(a, ir.i32(0x400)), ir.i32(0));
  ir.set_reg(x_offset(3), ir.zext(Type::I64, bit));
  ir.set_reg(x_offset(4), ir.ubfx(ir.get_reg(Type::I64, x_offset(1)), 5, 7));
  ir.exit_indirect(ir.get_reg(Type::I64, x_offset(7)), ExitHint::Return);
  return listing("selects and an indirect exit", block);
}

/// v0 = v0 + v1 * mem, scalar f64 with A64's NaN rule.
std::string floats() {
  Block block;
  Builder ir(block);
  ir.insn_start(0x1000, 4);
  const FpOp rule{};
  const Value m = ir.load(Type::F64, ir.get_reg(Type::I64, x_offset(0)), 8, kDouble);
  const Value product = ir.fp(Op::fmul_, Type::F64, {ir.v_to_f(Type::F64, ir.get_reg(Type::V128, v_offset(1))), m}, rule);
  const Value sum = ir.fp(Op::fadd_, Type::F64, {ir.v_to_f(Type::F64, ir.get_reg(Type::V128, v_offset(0))), product}, rule);
  ir.set_reg(v_offset(0), ir.f_to_v(sum));
  ir.exit_jump(0x2000);
  return listing("multiply and add", block);
}

/// What a block costs beside its instructions: count, note of an indirect exit, ways out.
std::string counting() {
  Block jump, branch;
  Builder a(jump);
  a.insn_start(0x1000, 4);
  a.exit_indirect(a.get_reg(Type::I64, x_offset(7)), ExitHint::Jump);
  Builder b(branch);
  b.insn_start(0x1000, 4);
  b.exit_branch(b.icmp(Op::icmp_ne_, b.get_reg(Type::I64, x_offset(0)), b.i64(0)), 0x1000, 0x1020);
  return listing("counting: an indirect jump", jump, true) + listing("counting: a branch", branch, true);
}

TEST(Listing, Blocks) {
  const std::string now = table_loop() + selects() + floats() + counting();
  if (std::getenv("KILN_UPDATE_LISTING")) std::ofstream(LISTING) << now;
  std::stringstream golden;
  golden << std::ifstream(LISTING).rdbuf();
  // Addresses of the cold parts' thunk and record differ from build to build.
  const auto stable = [](const std::string& text) {
    std::stringstream in(text);
    std::string out, line;
    while (std::getline(in, line)) out += line.find("movabsq") == std::string::npos ? line + "\n" : "movabsq\n";
    return out;
  };
  EXPECT_EQ(stable(golden.str()), stable(now)) << "KILN_UPDATE_LISTING=1 accepts the change";
}

}  // namespace
}  // namespace kiln::test
