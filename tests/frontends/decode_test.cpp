// The generated decoder against its own table: whatever it says must match the row, and no row may be unreachable.
#include <gtest/gtest.h>

#include <chrono>
#include <random>

#include "frontends/arm/a64_decode.h"

namespace kiln::arm {

namespace {

TEST(A64Decode, EveryRowIsReachable) {
  std::mt19937 random(1);
  const auto rows = insn_rows();
  for (std::size_t i = 0; i < rows.size(); ++i) {
    bool reached = false;
    for (unsigned attempt = 0; attempt < 4096 && !reached; ++attempt)
      reached = decode((static_cast<u32>(random()) & ~rows[i].mask) | rows[i].value, kFeatureAll) == static_cast<int>(i);
    EXPECT_TRUE(reached) << rows[i].name;
  }
}

TEST(A64Decode, AnswersAreTheMostSpecificMatchingRows) {
  std::mt19937 random(2);
  const auto rows = insn_rows();
  for (unsigned n = 0; n < 200'000; ++n) {
    const InsnRow& near = rows[random() % rows.size()];
    const u32 word = (static_cast<u32>(random()) & ~near.mask) | near.value;
    const int row = decode(word, kFeatureAll);
    if (row < 0) continue;
    const InsnRow& r = rows[static_cast<std::size_t>(row)];
    ASSERT_EQ(word & r.mask, r.value) << r.name << " for " << std::hex << word;
  }
}

TEST(A64Decode, RowsOfMissingFeaturesDoNotExist) {
  for (const InsnRow& row : insn_rows()) {
    if (!row.needs) continue;
    const int got = decode(row.value, kFeatureAll & ~row.needs);
    EXPECT_TRUE(got < 0 || insn_rows()[static_cast<std::size_t>(got)].name != row.name) << row.name;
  }
}

TEST(A64Decode, Speed) {
  std::mt19937 random(3);
  std::vector<u32> words;
  const auto rows = insn_rows();
  for (unsigned i = 0; i < 4096; ++i) {
    const InsnRow& r = rows[random() % rows.size()];
    words.push_back((static_cast<u32>(random()) & ~r.mask) | r.value);
  }
  s64 sum = 0;
  const auto start = std::chrono::steady_clock::now();
  constexpr unsigned kRounds = 500;
  for (unsigned round = 0; round < kRounds; ++round)
    for (u32 w : words) sum += decode(w, kFeatureAll);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const double rate = kRounds * words.size() / seconds / 1e6;
  RecordProperty("million_words_per_second", static_cast<int>(rate));
  std::printf("%.0f million words/s (sum %lld)\n", rate, static_cast<long long>(sum));
}

}  // namespace
}  // namespace kiln::arm
