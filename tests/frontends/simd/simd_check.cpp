// simd_check: every fp_*, simd_* and crypto row on random words and states, lifted and interpreted, against an oracle's
// answers.
//   simd_check --oracle 'qemu-aarch64-static ./simd_oracle' [--count N] [--seed S] [--rows SUBSTRING] [--how HOW]
// HOW: plain (interpret the block as lifted), optimised (interpret the optimised block), tier1, tier2 (the engine). Prints
// differences by row; exit status 1 if any.
#include <immintrin.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "frontends/arm/a64_decode.h"
#include "frontends/arm/aarch64.h"
#include "frontends/arm/fpcr.h"
#include "ir/interpreter.h"
#include "ir/passes/passes.h"
#include "jit/engine/engine.h"
#include "tests/frontends/simd/simd_case.h"

using namespace kiln;
using namespace kiln::arm;

namespace {

constexpr GuestAddr kPc = 0x1000;

enum class How { Plain, Optimised, Tier1, Tier2 };
constexpr u32 kBreak = 0xd4200000;

struct OneWord : ir::CodeSource {
  u32 word = 0;
  std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
    if (pc != kPc || size < 4) return 0;
    std::memcpy(out, &word, 4);
    return 4;
  }
};

A64State* make_vcpu() {
  void* p = std::aligned_alloc(4096, align_up(ir::kJumpCacheBytes + sizeof(A64State), 4096));
  return reinterpret_cast<A64State*>(static_cast<char*>(p) + ir::kJumpCacheBytes);
}

void enter(A64State* s, const SimdCase& c, GuestAddr pc) {
  SimdState in;
  make_state(&in, c.seed);
  std::memcpy(s->v, in.v, sizeof in.v);
  std::memcpy(s->x, in.x, sizeof in.x);
  s->fpsr = 0;
  s->fpsr_watched = 1;
  s->mxcsr = 0x1f80;
  set_nzcv(*s, static_cast<u32>(in.nzcv));
  set_fpcr(*s, c.fpcr);
  s->pc = pc;
}
void leave(const A64State& s, SimdState& out) {
  std::memcpy(out.v, s.v, sizeof out.v);
  std::memcpy(out.x, s.x, sizeof out.x);
  out.nzcv = nzcv_of(s);
  out.fpsr = fpsr_of(s);
}

void interpret(A64State* s, const SimdCase& c, bool optimised, SimdState& out, std::string& complaint) {
  std::memset(static_cast<void*>(s), 0, sizeof *s);
  kA64.reset(s);
  enter(s, c, kPc);
  OneWord code;
  code.word = c.word;
  ir::Block block;
  kA64.lift(code, kPc, s->mode, {.max_insns = 1}, block);
  if (optimised) ir::optimise(block);
  complaint = ir::verify(block);
  if (!complaint.empty()) return;
  _mm_setcsr(s->mxcsr);
  ir::interpret(block, s);
  s->mxcsr = _mm_getcsr();
  _mm_setcsr(0x1f80);
  if (s->exit_kind == static_cast<u32>(ir::ExitKind::Undefined)) out.illegal = 1;
  else leave(*s, out);
}

/// All cases as guest code, each word followed by a breakpoint, for the engine.
class Tier {
 public:
  Tier(jit::TierChoice tier, const std::vector<SimdCase>& cases) {
    for (const SimdCase& c : cases) space_.words.insert(space_.words.end(), {c.word, kBreak});
    config_.tier = tier;
    config_.log = &log_;
    config_.hot_threshold = 1;
    config_.synchronous_tier2 = true;
    engine_ = std::make_unique<jit::Engine>(config_, kA64, space_);
    cpu_ = static_cast<A64State*>(engine_->create_cpu());
  }
  ~Tier() { engine_->destroy_cpu(cpu_); }
  void run(const SimdCase& c, std::size_t index, SimdState& out) {
    const GuestAddr pc = kPc + 8 * index;
    enter(cpu_, c, pc);
    engine_->run(cpu_);
    if (cpu_->exit_kind == static_cast<u32>(ir::ExitKind::Undefined)) out.illegal = 1;
    else leave(*cpu_, out);
  }

 private:
  struct Space : jit::AddressSpace {
    std::vector<u32> words;
    std::size_t fetch(GuestAddr pc, u8* out, std::size_t size) override {
      if (pc < kPc || pc >= kPc + 4 * words.size()) return 0;
      size = std::min<std::size_t>(size, kPc + 4 * words.size() - pc);
      std::memcpy(out, reinterpret_cast<const u8*>(words.data()) + (pc - kPc), size);
      return size;
    }
    HostAddr base() const override { return 0; }
    void protect_code(GuestAddr) override {}
    void unprotect_code(GuestAddr) override {}
  };
  Log log_;
  jit::EngineConfig config_;
  Space space_;
  std::unique_ptr<jit::Engine> engine_;
  A64State* cpu_ = nullptr;
};

/// What QEMU is known to do wrong (7.2), found here.
bool oracle_is_wrong(const SimdCase& c, const char* row) {
  // Modified immediate with op = o2 = 1 is unallocated.
  if (!std::strcmp(row, "modimm")) return (c.word & 0x2000f800) == 0x2000f800;
  // Scalar half to fixed point: a negative result spills sign bits above the sixteenth.
  if (!std::strcmp(row, "fcvtzs_fix_s")) return ((c.word >> 19) & 15) < 4;
  return false;
}

std::string differences(const SimdCase& c, const SimdState& want, const SimdState& got) {
  std::string text;
  char line[200];
  if (want.illegal != got.illegal) {
    std::snprintf(line, sizeof line, "    oracle %s, Kiln %s\n", want.illegal ? "undefined" : "executes",
                  got.illegal ? "undefined" : "executes");
    return line;
  }
  for (unsigned i = 0; i < 32; ++i) {
    if (want.v[i][0] == got.v[i][0] && want.v[i][1] == got.v[i][1]) continue;
    std::snprintf(line, sizeof line, "    v%u: want %016lx:%016lx got %016lx:%016lx\n", i, want.v[i][1], want.v[i][0],
                  got.v[i][1], got.v[i][0]);
    text += line;
  }
  for (unsigned i = 0; i < 28; ++i) {
    if (want.x[i] == got.x[i]) continue;
    std::snprintf(line, sizeof line, "    x%u: want %016lx got %016lx\n", i, want.x[i], got.x[i]);
    text += line;
  }
  if (want.nzcv != got.nzcv) {
    std::snprintf(line, sizeof line, "    nzcv: want %08lx got %08lx\n", want.nzcv, got.nzcv);
    text += line;
  }
  if (want.fpsr != got.fpsr) {
    std::snprintf(line, sizeof line, "    fpsr: want %08lx got %08lx\n", want.fpsr, got.fpsr);
    text += line;
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  std::string oracle, rows = "";
  u64 count = 20000, seed = static_cast<u64>(std::time(nullptr));
  How how = How::Optimised;
  for (int i = 1; i < argc; ++i) {
    const std::string a = argv[i];
    if (i + 1 == argc) return std::fprintf(stderr, "%s needs a value\n", argv[i]), 2;
    else if (a == "--oracle") oracle = argv[++i];
    else if (a == "--count") count = std::strtoull(argv[++i], nullptr, 0);
    else if (a == "--seed") seed = std::strtoull(argv[++i], nullptr, 0);
    else if (a == "--how") {
      const std::string h = argv[++i];
      how = h == "plain" ? How::Plain : h == "tier1" ? How::Tier1 : h == "tier2" ? How::Tier2 : How::Optimised;
    } else if (a == "--rows") rows = argv[++i];
    else return std::fprintf(stderr, "unknown option %s\n", argv[i]), 2;
  }
  std::vector<int> chosen;
  const auto all = insn_rows();
  for (unsigned i = 0; i < all.size(); ++i) {
    const std::string name = std::string(all[i].table) + ":" + all[i].name;
    const bool mine = name.starts_with("fp_") || name.starts_with("simd_") || name.starts_with("crypto");
    if (mine && name.find(rows) != std::string::npos) chosen.push_back(static_cast<int>(i));
  }
  if (chosen.empty()) return std::fprintf(stderr, "no such rows\n"), 2;
  std::printf("seed %lu, %lu cases, %zu rows\n", seed, count, chosen.size());

  std::vector<SimdCase> cases;
  std::vector<int> row_of;
  u64 s = seed;
  while (cases.size() < count) {
    const int row = chosen[cases.size() % chosen.size()];
    SimdCase c{};
    for (unsigned tries = 0; tries < 50; ++tries) {
      c.word = all[row].value | (static_cast<u32>(simd_next(&s)) & ~all[row].mask);
      // x28..x30 are the oracle's; as a field these numbers are avoided for vectors too.
      bool good = true;
      for (unsigned low : {0u, 5u})
        if (const u32 r = (c.word >> low) & 31; r >= 28 && r <= 30) good = false;
      if (good && decode(c.word, kFeatureAll) == row) break;
    }
    const u64 r = simd_next(&s);
    if (r & 1) c.fpcr = static_cast<u32>(r >> 8) & kFpcrMask & ((r & 2) ? ~0u : ~(kFpcrFz | kFpcrFz16 | kFpcrAhp));
    c.seed = simd_next(&s);
    cases.push_back(c);
    row_of.push_back(row);
  }

  char directory[] = "/tmp/simd_check.XXXXXX";
  if (!mkdtemp(directory)) return std::perror("mkdtemp"), 2;
  const std::string case_file = std::string(directory) + "/cases", result_file = std::string(directory) + "/results";
  FILE* out = std::fopen(case_file.c_str(), "wb");
  std::fwrite(cases.data(), sizeof(SimdCase), cases.size(), out);
  std::fclose(out);
  if (std::system((oracle + " " + case_file + " " + result_file).c_str()) != 0)
    return std::fprintf(stderr, "the oracle failed\n"), 2;
  std::vector<SimdState> want(cases.size());
  FILE* in = std::fopen(result_file.c_str(), "rb");
  const std::size_t answers = in ? std::fread(want.data(), sizeof(SimdState), want.size(), in) : 0;
  if (in) std::fclose(in);
  std::remove(case_file.c_str()), std::remove(result_file.c_str()), rmdir(directory);
  if (answers != want.size()) return std::fprintf(stderr, "the oracle answered %zu of %zu cases\n", answers, want.size()), 2;

  A64State* vcpu = make_vcpu();
  std::unique_ptr<Tier> tier;
  if (how == How::Tier1 || how == How::Tier2)
    tier = std::make_unique<Tier>(how == How::Tier1 ? jit::TierChoice::One : jit::TierChoice::Two, cases);
  std::map<std::string, std::pair<unsigned, std::string>> failures;
  u64 failed = 0, executed = 0;
  for (std::size_t i = 0; i < cases.size(); ++i) {
    SimdState got{};
    std::string text;
    if (tier) tier->run(cases[i], i, got);
    else interpret(vcpu, cases[i], how == How::Optimised, got, text);
    executed += !got.illegal;
    if (text.empty()) text = differences(cases[i], want[i], got);
    if (text.empty() || oracle_is_wrong(cases[i], all[row_of[i]].name)) continue;
    ++failed;
    auto& entry = failures[all[row_of[i]].name];
    if (entry.first++ == 0) {
      SimdState before;
      make_state(&before, cases[i].seed);
      char line[300];
      const u32 w = cases[i].word;
      std::snprintf(line, sizeof line, "    word %08x fpcr %08x case %zu\n", w, cases[i].fpcr, i);
      entry.second = line;
      for (unsigned r : {w & 31, (w >> 5) & 31, (w >> 16) & 31}) {
        std::snprintf(line, sizeof line, "    before v%u %016lx:%016lx x%u %016lx\n", r, before.v[r][1], before.v[r][0], r,
                      r < 28 ? before.x[r] : 0);
        entry.second += line;
      }
      entry.second += text;
    }
  }
  for (const auto& [name, entry] : failures) std::printf("%s: %u differ\n%s", name.c_str(), entry.first, entry.second.c_str());
  std::printf("%lu cases, %lu executed, %lu differ in %zu rows\n", count, executed, failed, failures.size());
  return failed != 0;
}
