// The case files (*.txt here; format: tests/differential/x86/case_file.cpp) under the interpreter and both tiers. What the
// processor made of each stands in the file.
#include "tests/differential/x86/case.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <fstream>

namespace kiln::test::x86diff {
namespace {

class X86Cases : public ::testing::TestWithParam<std::tuple<Tier, const char*>> {};

unsigned run_mode(x86::CodeSize mode, Tier tier, const std::string& path) {
  const int fd = static_cast<int>(syscall(SYS_memfd_create, "code", 0));
  if (ftruncate(fd, kSlots * kSlotBytes) != 0) return 0;
  auto* code = static_cast<u8*>(mmap(nullptr, kSlotBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  std::vector<Memory> images(kMemoryImages);
  unsigned lines = 0, failures = 0, number = 0;
  {
    const auto emulator = Emulator::make(tier, mode, fd, images);
    std::ifstream in(path);
    EXPECT_TRUE(in.good()) << path;
    const auto result = std::make_unique<Result>();
    const auto file_case = std::make_unique<FileCase>();
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (line.empty() || line[0] == '#') continue;
      const std::string complaint = parse_case(line, *file_case);
      if (!complaint.empty()) {
        ADD_FAILURE() << path << ":" << number << ": " << complaint;
        continue;
      }
      if (file_case->sequence.mode != mode) continue;
      ++lines;
      const Case c{&file_case->sequence, 0, 0, file_case->start};
      images[0] = file_case->memory;
      const auto bytes = assemble(file_case->sequence, 0);
      std::memcpy(code, bytes.data(), kSlotBytes);
      emulator->new_code();
      emulator->run_warm(c, *result);
      const std::string text = difference(c, file_case->expected, *result);
      if (!text.empty() && ++failures <= 20) ADD_FAILURE() << path << ":" << number << ": " << line << "\n" << text;
    }
  }
  EXPECT_EQ(failures, 0u) << "of " << lines << " lines of " << path;
  munmap(code, kSlotBytes);
  close(fd);
  return lines;
}

TEST_P(X86Cases, File) {
  const auto [tier, file] = GetParam();
  const std::string path = std::string(KILN_TEST_DATA) + "/" + file;
  EXPECT_GT(run_mode(x86::CodeSize::Bits64, tier, path) + run_mode(x86::CodeSize::Bits32, tier, path), 0u);
}

const char* tier_name(Tier tier) {
  static constexpr const char* kNames[] = {"lifted", "interp", "tier1", "tier2"};
  return kNames[static_cast<int>(tier)];
}
INSTANTIATE_TEST_SUITE_P(Files, X86Cases,
                         ::testing::Combine(::testing::Values(Tier::Interp, Tier::InterpOptimised, Tier::One, Tier::Two),
                                            ::testing::Values("recorded_64.txt", "recorded_32.txt", "found.txt")),
                         [](const auto& info) {
                           const std::string file = std::get<1>(info.param);
                           return std::string(tier_name(std::get<0>(info.param))) + "_" + file.substr(0, file.find('.'));
                         });

}  // namespace
}  // namespace kiln::test::x86diff
