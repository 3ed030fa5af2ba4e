// The instruction files under the interpreter.
#include "tests/frontends/instruction_test.h"

#include <gtest/gtest.h>
#include <immintrin.h>

#include "ir/interpreter.h"
#include "ir/passes/passes.h"

namespace kiln::test {
namespace {

/// The interpreter, on the block as lifted or after the passes.
RunOne interpreter(bool optimised) {
  return [optimised](ir::CodeSource& code, arm::A64State* s) {
    ir::Block block;
    arm::kA64.lift(code, s->pc, s->mode, {.max_insns = 1}, block);
    const std::string complaint = ir::verify(block);
    EXPECT_EQ(complaint, "") << ir::print(block);
    if (!complaint.empty()) return;
    if (optimised) ir::optimise(block);
    const u32 host = _mm_getcsr();
    _mm_setcsr(s->mxcsr);
    s->in_code = 1;
    ir::interpret(block, s);
    s->in_code = 0;
    s->mxcsr = _mm_getcsr();
    _mm_setcsr(host);
  };
}

class A64Instructions : public ::testing::TestWithParam<const char*> {
 public:
  std::string path() const { return std::string(KILN_TEST_DATA) + "/" + GetParam(); }
};

TEST_P(A64Instructions, AsLifted) { EXPECT_GT(run_instruction_file(path(), interpreter(false)), 0u); }
TEST_P(A64Instructions, Optimised) { EXPECT_GT(run_instruction_file(path(), interpreter(true)), 0u); }

INSTANTIATE_TEST_SUITE_P(Files, A64Instructions,
                         ::testing::Values("a64_base.txt", "a64_control.txt", "a64_fp_status.txt", "a64_simd.txt"),
                         [](const auto& info) {
                           const std::string name = info.param;
                           return name.substr(4, name.find('.') - 4);
                         });

/// KILN_A64_CASES=file: more cases, e.g. a long run of make_cases.py.
TEST(A64MoreInstructions, FromEnvironment) {
  const char* path = std::getenv("KILN_A64_CASES");
  if (!path) GTEST_SKIP() << "KILN_A64_CASES is not set";
  run_instruction_file(path, interpreter(false));
  run_instruction_file(path, interpreter(true));
}

}  // namespace
}  // namespace kiln::test
