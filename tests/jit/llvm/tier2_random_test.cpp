// Random regions against the interpreter. In the environment: KILN_SEED and KILN_ROUNDS choose other runs, KILN_LOG prints what
// was compiled, KILN_MINIMISE looks for the shortest block that shows a difference.
#include <cstdlib>

#include "tests/jit/llvm/random_region.h"

namespace kiln::test {
namespace {

u64 from_environment(const char* name, u64 otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 0) : otherwise;
}

std::string describe(const std::vector<jit::RegionBlock>& blocks) {
  std::string text;
  for (auto& block : blocks) text += ir::print(block.ir) + "\n";
  return text;
}

/// Prints the shortest way of cutting one block short that still shows a difference in MXCSR or in a register.
void minimise(const std::vector<jit::RegionBlock>& blocks, Machine& start) {
  for (std::size_t index = 0; index < blocks.size(); ++index)
    for (std::size_t cut = 0; cut < blocks[index].ir.insts.size(); ++cut) {  // and once with only the exit missing
      auto shorter = blocks;
      jit::RegionBlock& block = shorter[index];
      if (block.ir.insts[cut].op != ir::Op::insn_start_ && cut + 1 != block.ir.insts.size()) continue;
      block.ir.insts.resize(cut);
      block.taken = block.not_taken = -1;
      block.indirect.clear();
      ir::Builder(block.ir).exit_jump(0x9999);
      Machine tier2, reference;
      for (Machine* m : {&tier2, &reference}) {
        const u64 base = m->state().memory_base;
        m->state() = start.state();
        m->state().memory_base = base;
        std::memcpy(m->memory(), start.memory(), Machine::kMemoryBytes);
      }
      auto code = tier2.compile(shorter);
      if (!code) continue;
      tier2.enter(*code);
      reference.interpret(shorter);
      const bool same = ((tier2.state().mxcsr ^ reference.state().mxcsr) & ~2u) == 0 &&
                        std::memcmp(tier2.state().x, reference.state().x, sizeof(TestState::x)) == 0 &&
                        std::memcmp(tier2.state().v, reference.state().v, sizeof(TestState::v)) == 0;
      if (same) continue;
      std::printf("differs with block %zu cut at %zu (mxcsr %x, expected %x)\n%s", index, cut, tier2.state().mxcsr,
                  reference.state().mxcsr, ir::print(block.ir).c_str());
      for (unsigned r = 0; r < 16; ++r)
        if (tier2.state().x[r] != reference.state().x[r])
          std::printf("x%u %llx, expected %llx\n", r, static_cast<unsigned long long>(tier2.state().x[r]),
                      static_cast<unsigned long long>(reference.state().x[r]));
      for (unsigned r = 0; r < 16; ++r)
        if (tier2.state().v[r / 2].d[r % 2] != reference.state().v[r / 2].d[r % 2])
          std::printf("v%u[%u] %llx, expected %llx\n", r / 2, r % 2,
                      static_cast<unsigned long long>(tier2.state().v[r / 2].d[r % 2]),
                      static_cast<unsigned long long>(reference.state().v[r / 2].d[r % 2]));
      break;
    }
}

void compare(u64 seed, const RandomOptions& options, unsigned states, const std::string& name) {
  RandomRegion random(seed);
  const auto blocks = random.make(options);
  for (auto& block : blocks) ASSERT_EQ(ir::verify(block.ir), "") << name << " seed " << seed;
  Machine tier2, reference;
  auto code = tier2.compile(blocks);
  ASSERT_TRUE(code) << name << " seed " << seed << ": " << code.error();
  for (unsigned i = 0; i < states && !testing::Test::HasFailure(); ++i) {
    for (u64 at = 0; at < Machine::kMemoryBytes; at += 8) {
      const u64 word = random.interesting_int();
      std::memcpy(tier2.memory() + at, &word, 8);
      std::memcpy(reference.memory() + at, &word, 8);
    }
    random.fill(tier2.state());
    const u64 base = reference.state().memory_base;
    reference.state() = tier2.state();
    reference.state().memory_base = base;
    if (std::getenv("KILN_MINIMISE")) minimise(blocks, reference);
    tier2.enter(*code);
    reference.interpret(blocks);
    expect_same(tier2, reference, name + " seed " + std::to_string(seed) + " state " + std::to_string(i));
  }
  if (testing::Test::HasFailure() && std::getenv("KILN_LOG")) std::printf("%s", describe(blocks).c_str());
}

TEST(Tier2Random, EveryOpAlone) {
  const u64 first = from_environment("KILN_SEED", 1), rounds = from_environment("KILN_ROUNDS", 2);
  for (unsigned op = 0; op < static_cast<unsigned>(ir::Op::kCount); ++op) {
    RandomOptions options;
    options.only = static_cast<ir::Op>(op);
    options.blocks = 1;
    options.ops_per_block = 16;
    options.memory = false;
    for (u64 seed = first; seed < first + rounds && !HasFailure(); ++seed)
      compare(seed * 1000 + op, options, 40, ir::op_info(options.only).name);
  }
}

// An access that faults has raised no flag of the floating point behind it, and all of what is before.
TEST(Tier2Random, FloatBetweenFaults) {
  const u64 first = from_environment("KILN_SEED", 1), rounds = from_environment("KILN_ROUNDS", 2);
  for (unsigned op = 0; op < static_cast<unsigned>(ir::Op::kCount); ++op) {
    const std::string_view name = ir::op_info(static_cast<ir::Op>(op)).name;
    if (name.find("_f") == name.npos && !name.starts_with("f") && !name.starts_with("int_to_f")) continue;
    RandomOptions options;
    options.only = static_cast<ir::Op>(op);
    options.blocks = 1;
    options.ops_per_block = 3;
    options.access_one_in = 1;
    options.fault_one_in = 4;
    for (u64 seed = first; seed < first + rounds && !HasFailure(); ++seed)
      compare(seed * 1000 + op, options, 8, std::string(name) + " between faults");
  }
}

TEST(Tier2Random, Regions) {
  const u64 first = from_environment("KILN_SEED", 1), rounds = from_environment("KILN_ROUNDS", 30);
  for (u64 seed = first; seed < first + rounds && !HasFailure(); ++seed) compare(seed, {}, 10, "region");
}

}  // namespace
}  // namespace kiln::test
