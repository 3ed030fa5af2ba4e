// Blocks and what optimise() makes of them, so that a change of the passes is seen in review: golden/*.txt holds a block, a line
// "== optimised" and the result. KILN_UPDATE_GOLDEN=1 writes the results anew. A new case is a file with a block and that line
// (print() of any lifted block will do).
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "ir/passes/passes.h"
#include "ir/text.h"

namespace kiln::test {
namespace {
using namespace ir;

constexpr std::string_view kResult = "== optimised\n";

std::string contents(const std::filesystem::path& path) {
  std::stringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(Golden, Blocks) {
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(GOLDEN))
    if (entry.path().extension() == ".txt") files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  ASSERT_FALSE(files.empty()) << GOLDEN;
  for (const auto& path : files) {
    const std::string text = contents(path);
    const std::size_t at = text.find(kResult);
    ASSERT_NE(at, std::string::npos) << path << " has no line " << kResult;
    const std::string source = text.substr(0, at), golden = text.substr(at + kResult.size());
    Result<Block> block = parse(source);
    ASSERT_TRUE(block) << path << ": " << block.error();
    ASSERT_EQ(verify(*block), "") << path;
    optimise(*block);
    ASSERT_EQ(verify(*block), "") << path;
    const std::string now = print(*block);
    if (std::getenv("KILN_UPDATE_GOLDEN")) std::ofstream(path) << source << kResult << now;
    else EXPECT_EQ(now, golden) << path << " (KILN_UPDATE_GOLDEN=1 accepts the change)";
  }
}

}  // namespace
}  // namespace kiln::test
