// x86_differential: see README.md for its options.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
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
  std::string save;    // finds go there as lines
  std::string record;  // so many cases of every row, as lines
  unsigned per_row = 2;
  std::string answer;  // a file of cases to be answered
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

  /// Writes cases of single instructions with the processor's answers.
  int record() {
    std::FILE* out = std::fopen(options_.record.c_str(), "w");
    if (out == nullptr) return 2;
    Random random(options_.seed);
    fmt::print(out, "# Recorded by x86_differential --record; the format stands in tests/differential/x86/case_file.cpp.\n");
    std::map<const x86::Row*, unsigned> done;
    const u64 wanted = generator_.rows() * options_.per_row;
    u64 lines = 0;
    for (u64 attempts = 0; lines < wanted && attempts < wanted * 50; ++attempts) {
      const Sequence sequence = generator_.draw(random, statistics_);
      if (sequence.wild || sequence.pieces.size() != 1 || !sequence.pieces[0].row) continue;
      if (done[sequence.pieces[0].row] >= options_.per_row || is_approximate(*sequence.pieces[0].row)) continue;
      Case c{&sequence, 0, 0, generator_.draw_state(random, sequence, 0)};
      plain(c.state, sequence);
      if (!judge(c, nullptr).empty()) continue;  // for the tester itself
      const Result& native = native_.finished();
      if (native.exit.vector != x86::kBP && random.percent(70)) continue;
      ++done[sequence.pieces[0].row];
      ++lines;
      fmt::print(out, "{}\n", case_line(c, native));
    }
    std::fclose(out);
    fmt::print("{} lines of {} rows\n", lines, done.size());
    return 0;
  }

  /// Prints the lines of a case file again, with the processor's answers of today.
  int answer() {
    std::ifstream in(options_.answer);
    for (std::string line; std::getline(in, line);) {
      FileCase file;
      if (line.empty() || line[0] == '#') {
        fmt::print("{}\n", line);
        continue;
      }
      const std::string complaint = parse_case(line, file);
      if (!complaint.empty()) {
        fmt::print(stderr, "{}: {}\n", complaint, line);
        return 1;
      }
      if (file.sequence.mode != options_.mode) continue;
      const Case c{&file.sequence, 0, 0, file.start};
      const std::string text = judge(c, nullptr);
      fmt::print("{}\n", case_line(c, native_.finished()));
      if (!text.empty()) fmt::print(stderr, "{}\n{}", line, text);
    }
    return 0;
  }

  std::string judge(const Case& c, std::string* first) override {
    Case alone = c;
    const auto code = assemble(*c.sequence, c.slot);
    std::memcpy(native_.code() + c.slot * kSlotBytes, code.data(), kSlotBytes);
    emulator_->new_code();
    native_.start({&alone, 1});
    emulator_->run_warm(alone, kiln_[0]);
    return real_difference(alone, native_.finish()[0], kiln_[0], first);
  }

 private:
  /// difference(), but that flags which code elsewhere has left undefined (other sequences, or the middle of an instruction: an
  /// indirect jump may have gone anywhere) are no find.
  std::string real_difference(const Case& c, const Result& native, const Result& kiln, std::string* first) {
    const std::string text = difference(c, native, kiln, first);
    if (text.empty()) return text;
    const Trace t = emulator_->trace(c);
    if (!t.elsewhere) return text;
    return t.looked_at_one ? std::string() : difference(c, native, kiln, first, &t.undefined);
  }
  static std::vector<Memory> make_images(u64 seed) {
    std::vector<Memory> images(kMemoryImages);
    Random random(seed ^ 0xfeed);
    for (Memory& image : images) fill_memory_image(random, image);
    pattern(images[0]);
    return images;
  }

  /// Kiln's results are this processor's own, other processors have others.
  static bool is_approximate(const x86::Row& row) {
    for (const char* name : {"fsin", "fcos", "fptan", "fpatan", "f2xm1", "fyl2x", "rcpps", "rcpss", "rsqrt"})
      if (std::strstr(row.name, name) != nullptr) return true;
    return false;
  }
  /// Leaves what a single instruction can have to do with.
  static void plain(State& s, const Sequence& sequence) {
    const std::string group = group_of(*sequence.pieces[0].row);
    const x86::Insn insn =
        x86::decode(sequence.pieces[0].bytes.data(), sequence.pieces[0].bytes.size(), kCode, static_cast<u32>(sequence.mode))
            .insn;
    u64 keep = 1u << x86::RSP, vectors = 1;
    if (group == "general") keep |= 0xff;
    for (const MemoryUse& use : sequence.uses) {
      if (use.base >= 0) keep |= 1u << use.base;
      if (use.index >= 0) (use.vector_index ? vectors : keep) |= 1u << use.index;
    }
    for (const x86::Operand& o : insn.op) (o.kind == x86::OperandKind::Xmm ? vectors : keep) |= 1u << o.reg;
    for (unsigned i = 0; i < 16; ++i) {
      if (!(keep >> i & 1)) s.r[i] = 0;
      if ((vectors >> i & 1) && (group == "sse" || group == "avx")) continue;
      s.xmm[i] = s.ymm_high[i] = {};
    }
    if (group != "x87" && group != "mmx" && insn.op[0].kind != x86::OperandKind::Mmx &&
        insn.op[1].kind != x86::OperandKind::Mmx) {
      std::memset(s.st, 0, sizeof s.st);
      s.fcw = 0x37f;
      s.fsw = s.ftw = 0;
    }
    if (group != "sse" && group != "avx") s.mxcsr = 0x1f80;
  }

  void run_batch(u64 batch, unsigned sequences, unsigned states) {
    Random random(options_.seed * 1000003 + batch);
    generator_.seek(batch * sequences);
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
    std::vector<std::pair<const Case*, std::string>> bad;
    for (std::size_t i = 0; i < cases.size(); ++i) {
      if (native[i].exit.vector == Exit::kUnknown || native[i].exit.vector == Exit::kHung) {
        if (++lost_ <= 3)
          fmt::print("--- batch {}: the native child {} in\n{}", batch,
                     native[i].exit.vector == Exit::kHung ? std::string("hung")
                                                          : fmt::format("died (status {:x})", native[i].exit.error),
                     describe(cases[i]));
        continue;
      }
      std::string text = real_difference(cases[i], native[i], kiln_[i], nullptr);
      if (text.empty()) continue;
      ++unequal_;
      bad.emplace_back(&cases[i], std::move(text));
    }
    unsigned shrunk = 0;
    const Sequence* last = nullptr;
    for (const auto& [c, text] : bad) {
      if (c->sequence == last && shrunk) continue;
      last = c->sequence;
      if (++shrunk > 12) break;
      report(*c, batch, text);
    }
  }

  void report(const Case& c, u64 batch, const std::string& in_company) {
    Sequence sequence;
    const Case small = minimise(*this, c, sequence);
    std::string first;
    const std::string text = judge(small, &first);
    std::string name;
    for (const Piece& p : sequence.pieces)
      name += fmt::format("{} ", p.row ? std::string(p.row->name) + " " + p.row->text + ";" : "undefined");
    name += text.empty() ? "only in company" : first;
    if (finds_[name]++) return;
    fmt::print("--- batch {}: {}\n{}{}", batch, name, describe(text.empty() ? c : small), text.empty() ? in_company : text);
    std::fflush(stdout);
    if (options_.save.empty() || text.empty()) return;
    Case there = small;
    there.slot = there.image = 0;
    there.state.rip = slot_address(0);
    if (judge(there, nullptr).empty()) return;  // needs the memory or the place it was found with
    if (std::FILE* out = std::fopen(options_.save.c_str(), "a")) {
      fmt::print(out, "{}\n", case_line(there, native_.finished()));
      std::fclose(out);
    }
  }

  Options options_;
  std::vector<Memory> images_;
  Native native_;
  std::unique_ptr<Emulator> emulator_;
  Generator generator_;
  std::vector<RowStatistics> statistics_;
  std::unique_ptr<Result[]> kiln_;
  u64 cases_ = 0, unequal_ = 0, lost_ = 0;
  std::map<std::string, u64> finds_;
};

[[noreturn]] void usage() {
  fmt::print(
      "x86_differential [--cases N] [--seconds T] [--seed S] [--group NAME | --row NAME] [--tier interp|lifted|1|2] [--mode "
      "32|64]\n"
      "                 [--states N] [--length N] [--finds N] [--batch N] [--all-rows]\n"
      "                 [--save FILE] [--record FILE] [--per-row N] [--answer FILE]\n");
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
    else if (name == "--save") o.save = value;
    else if (name == "--record") o.record = value;
    else if (name == "--answer") o.answer = value;
    else if (name == "--per-row") o.per_row = static_cast<unsigned>(std::stoul(value));
    else if (name == "--batch") o.only_batch = std::stoull(value);
    else if (name == "--mode" && value == "64") o.mode = kiln::x86::CodeSize::Bits64;
    else if (name == "--mode" && value == "32") o.mode = kiln::x86::CodeSize::Bits32;
    else if (name == "--tier" && value == "interp") o.tier = Tier::InterpOptimised;
    else if (name == "--tier" && value == "lifted") o.tier = Tier::Interp;
    else if (name == "--tier" && value == "1") o.tier = Tier::One;
    else if (name == "--tier" && value == "2") o.tier = Tier::Two;
    else usage();
  }
  if (o.answer.empty()) fmt::print("seed {}\n", o.seed);
  Tester tester(o);
  if (!o.answer.empty()) return tester.answer();
  return o.record.empty() ? tester.run() : tester.record();
}
