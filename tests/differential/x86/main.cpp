// x86_differential: see README.md for its options.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <map>

#include "tests/differential/x86/case.h"

namespace kiln::test::x86diff {

namespace {

struct Options {
  u64 cases = 100000, seed = 0;
  double seconds = 0;
  std::string select;  // group or row
  Tier tier = Tier::InterpOptimised;
  x86::CodeSize mode = x86::CodeSize::Bits64;
  unsigned states = 0;  // per sequence; 0: by tier
  unsigned length = 6;
  unsigned finds = 40;  // stop after so many different ones
  bool need_all_rows = false;
  bool list_missing = true;
  u64 only_batch = ~u64{0};
};

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

class Tester final : public Judge {
 public:
  explicit Tester(const Options& options)
      : options_(options),
        images_(make_images(options.seed)),
        native_(images_),
        emulator_(Emulator::make(options.tier, options.mode, native_.descriptor(), images_)),
        generator_(options.mode, options.select, options.length),
        statistics_(x86::instruction_rows().size()),
        kiln_(std::make_unique<Result[]>(Native::kMaxCases)) {}

  int run() {
    const double start = now();
    const unsigned states = options_.states ? options_.states : options_.tier == Tier::Two ? 32 : 8;
    const unsigned sequences = std::min<unsigned>(Native::kMaxCases / states, options_.tier == Tier::Two ? 16 : kSlots);
    for (u64 batch = 0; cases_ < options_.cases && finds_.size() < options_.finds; ++batch) {
      if (options_.seconds > 0 && now() - start > options_.seconds) break;
      if (options_.only_batch != ~u64{0} && batch < options_.only_batch) batch = options_.only_batch;
      run_batch(batch, sequences, states);
      if (batch == options_.only_batch) break;
    }
    const double seconds = now() - start;
    u64 drawn = 0, missing = 0;
    std::string names;
    const auto rows = x86::instruction_rows();
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (statistics_[i].drawn) ++drawn;
      const auto& selected = generator_.selected();
      if (statistics_[i].drawn || std::find(selected.begin(), selected.end(), i) == selected.end()) continue;
      ++missing;
      names += fmt::format("  {} {}\n", rows[i].name, rows[i].text);
    }
    fmt::print(
        "{} cases, {:.0f} a second, {} of {} rows drawn, {} rows in the table, {} restarts of the native child, {} unequal\n",
        cases_, static_cast<double>(cases_) / seconds, drawn, generator_.rows(), rows.size(), native_.restarts(), unequal_);
    if (missing && (options_.need_all_rows || options_.list_missing)) fmt::print("never drawn:\n{}", names);
    for (const auto& [name, find] : finds_) fmt::print("{:6} {}\n", find, name);
    if (!finds_.empty()) return 1;
    return missing && options_.need_all_rows ? 1 : 0;
  }

  std::string judge(const Case& c, std::string* first) override {
    Case alone = c;
    const auto code = assemble(*c.sequence, c.slot);
    std::memcpy(native_.code() + c.slot * kSlotBytes, code.data(), kSlotBytes);
    emulator_->new_code();
    native_.start({&alone, 1});
    emulator_->run(alone, kiln_[0]);
    return difference(alone, native_.finish()[0], kiln_[0], first);
  }

 private:
  static std::vector<Memory> make_images(u64 seed) {
    std::vector<Memory> images(kMemoryImages);
    Random random(seed ^ 0xfeed);
    for (Memory& image : images) fill_memory_image(random, image);
    return images;
  }

  void run_batch(u64 batch, unsigned sequences, unsigned states) {
    Random random(options_.seed * 1000003 + batch);
    std::vector<Sequence> all;
    all.reserve(sequences);
    std::vector<Case> cases;
    cases.reserve(sequences * states);
    for (unsigned slot = 0; slot < sequences; ++slot) {
      all.push_back(generator_.draw(random, statistics_));
      const auto code = assemble(all[slot], slot);
      std::memcpy(native_.code() + slot * kSlotBytes, code.data(), kSlotBytes);
      for (unsigned n = 0; n < states; ++n)
        cases.push_back({&all[slot], slot, static_cast<unsigned>(random.below(kMemoryImages)),
                         generator_.draw_state(random, all[slot], slot)});
    }
    emulator_->new_code();
    native_.start(cases);
    for (std::size_t i = 0; i < cases.size(); ++i) emulator_->run(cases[i], kiln_[i]);
    const Result* native = native_.finish();
    cases_ += cases.size();
    std::vector<const Case*> bad;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (difference(cases[i], native[i], kiln_[i]).empty()) continue;
      ++unequal_;
      bad.push_back(&cases[i]);
    }
    unsigned shrunk = 0;
    const Sequence* last = nullptr;
    for (const Case* c : bad) {
      if (c->sequence == last && shrunk) continue;
      last = c->sequence;
      if (++shrunk > 12) break;
      report(*c, batch);
    }
  }

  void report(const Case& c, u64 batch) {
    Sequence sequence;
    const Case small = minimise(*this, c, sequence);
    std::string first;
    const std::string text = judge(small, &first);
    std::string name;
    for (const Piece& p : sequence.pieces)
      name += fmt::format("{} ", p.row ? std::string(p.row->name) + " " + p.row->text + ";" : "undefined");
    name += text.empty() ? "only in company" : first;
    if (finds_[name]++) return;
    fmt::print("--- batch {}: {}\n{}{}", batch, name, describe(text.empty() ? c : small), text);
    std::fflush(stdout);
  }

  Options options_;
  std::vector<Memory> images_;
  Native native_;
  std::unique_ptr<Emulator> emulator_;
  Generator generator_;
  std::vector<RowStatistics> statistics_;
  std::unique_ptr<Result[]> kiln_;
  u64 cases_ = 0, unequal_ = 0;
  std::map<std::string, u64> finds_;
};

[[noreturn]] void usage() {
  fmt::print(
      "x86_differential [--cases N] [--seconds T] [--seed S] [--group NAME | --row NAME] [--tier interp|lifted|1|2] [--mode "
      "32|64]\n"
      "                 [--states N] [--length N] [--finds N] [--batch N] [--all-rows]\n");
  std::exit(2);
}

}  // namespace
}  // namespace kiln::test::x86diff

int main(int argc, char** argv) {
  using namespace kiln::test::x86diff;
  Options o;
  o.seed = static_cast<kiln::u64>(time(nullptr));
  for (int i = 1; i < argc; ++i) {
    const std::string name = argv[i];
    if (name == "--all-rows") {
      o.need_all_rows = true;
      continue;
    }
    if (i + 1 >= argc) usage();
    const std::string value = argv[++i];
    if (name == "--cases") o.cases = std::stoull(value);
    else if (name == "--seconds") o.seconds = std::stod(value), o.cases = ~kiln::u64{0};
    else if (name == "--seed") o.seed = std::stoull(value);
    else if (name == "--group" || name == "--row") o.select = value;
    else if (name == "--states") o.states = static_cast<unsigned>(std::stoul(value));
    else if (name == "--length") o.length = static_cast<unsigned>(std::stoul(value));
    else if (name == "--finds") o.finds = static_cast<unsigned>(std::stoul(value));
    else if (name == "--batch") o.only_batch = std::stoull(value);
    else if (name == "--mode" && value == "64") o.mode = kiln::x86::CodeSize::Bits64;
    else if (name == "--mode" && value == "32") o.mode = kiln::x86::CodeSize::Bits32;
    else if (name == "--tier" && value == "interp") o.tier = Tier::InterpOptimised;
    else if (name == "--tier" && value == "lifted") o.tier = Tier::Interp;
    else if (name == "--tier" && value == "1") o.tier = Tier::One;
    else if (name == "--tier" && value == "2") o.tier = Tier::Two;
    else usage();
  }
  fmt::print("seed {}\n", o.seed);
  Tester tester(o);
  return tester.run();
}
