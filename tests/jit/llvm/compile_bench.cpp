// What tier 2 costs: compiles the regions of `kiln -d tier2 -D FILE` logs again and sums up the processor time.
//   compile_bench REPETITIONS FILE…
// Calls of helpers have no text form that could be read back everywhere; regions with one are left out.
#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <string>

#include "ir/text.h"
#include "tests/jit/llvm/harness.h"

using namespace kiln;

namespace {

struct Recorded {
  std::vector<jit::RegionBlock> blocks;
};

/// "block 3 (polls): taken 4, not taken -1, indirect 4660 -> 2"
jit::RegionBlock parse_edges(const std::string& line) {
  jit::RegionBlock block;
  block.poll = line.find("(polls)") != std::string::npos;
  std::sscanf(std::strstr(line.c_str(), ": taken"), ": taken %d, not taken %d", &block.taken, &block.not_taken);
  for (const char* at = line.c_str(); (at = std::strstr(at, ", indirect ")) != nullptr; ++at) {
    unsigned long long pc = 0;
    int to = -1;
    std::sscanf(at, ", indirect %llu -> %d", &pc, &to);
    block.indirect.push_back({pc, to});
  }
  return block;
}

void read_log(const char* path, std::vector<Recorded>& regions) {
  std::ifstream file(path);
  std::string line, text;
  bool open = false, good = false;
  Recorded region;
  jit::RegionBlock block;
  auto end_block = [&] {
    if (!open) return;
    auto parsed = ir::parse(text);
    if (parsed) block.ir = std::move(*parsed);
    else good = false;
    region.blocks.push_back(std::move(block));
    open = false;
  };
  auto end_region = [&] {
    end_block();
    if (good && !region.blocks.empty()) regions.push_back(std::move(region));
    region = {};
    good = false;
  };
  while (std::getline(file, line)) {
    if (line.starts_with("-- region")) {
      end_region();
      good = line.find(':') == std::string::npos;
    } else if (line.starts_with("block ") && line.find(": taken") != std::string::npos) {
      end_block();
      block = parse_edges(line);
      text.clear();
      open = true;
    } else if (open && (line.empty() || line.starts_with("; ModuleID") || line.starts_with("evaluated by"))) {
      end_block();
    } else if (open) {
      text += line + "\n";
    }
  }
  end_region();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) return std::fprintf(stderr, "usage: compile_bench REPETITIONS FILE…\n"), 1;
  std::vector<Recorded> regions;
  for (int i = 2; i < argc; ++i) read_log(argv[i], regions);
  ir::GuestDesc guest = test::test_guest();
  Log log;
  auto compiler = jit::make_tier2_compiler(log);
  double ms = 0;
  unsigned long long insns = 0, bytes = 0, faults = 0, values = 0, done = 0;
  std::vector<u8> memory(1 << 20);
  const int repetitions = std::atoi(argv[1]);
  for (int round = 0; round < repetitions; ++round)
    for (const Recorded& region : regions) {
      jit::RegionRequest request;
      request.guest = &guest;
      request.blocks = region.blocks;
      request.leave = request.fault_leave = request.lookup_miss = reinterpret_cast<HostAddr>(memory.data());
      request.direct_exit = [&](GuestAddr pc) { return reinterpret_cast<HostAddr>(memory.data()) + pc % 65536; };
      request.allocate = [&](std::size_t size) {
        return jit::CodeMemory{memory.data(), reinterpret_cast<HostAddr>(memory.data()), size};
      };
      auto code = compiler->compile(request);
      if (!code) {
        if (round == 0) std::printf("%s\n", code.error().c_str());
        continue;
      }
      ++done;
      ms += code->compile_ms;
      insns += code->guest_insns;
      bytes += code->memory.size;
      faults += code->faults.size();
      values += code->fault_values.size();
    }
  std::printf(
      "%llu regions, %llu guest instructions: %.2f ms per 100, %.2f ms per region, %.1f bytes and %.2f fault entries per "
      "instruction, %.1f values per entry\n",
      done, insns, ms * 100 / static_cast<double>(insns), ms / static_cast<double>(done),
      static_cast<double>(bytes) / static_cast<double>(insns), static_cast<double>(faults) / static_cast<double>(insns),
      static_cast<double>(values) / static_cast<double>(faults));
}
