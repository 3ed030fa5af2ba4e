// Shrinks a find: fewer instructions, then a plainer state.
#include <cstring>

#include "tests/differential/x86/case.h"

namespace kiln::test::x86diff {

Case minimise(Judge& judge, const Case& found, Sequence& sequence) {
  sequence = *found.sequence;
  Case best = found;
  best.sequence = &sequence;
  std::string wanted;
  if (judge.judge(best, &wanted).empty()) return best;  // does not come again alone
  const auto still = [&](const Case& c) { return well_defined(sequence) && !judge.judge(c, nullptr).empty(); };

  for (std::size_t i = 0; i < sequence.pieces.size() && sequence.pieces.size() > 1;) {
    const Sequence before = sequence;
    sequence.pieces.erase(sequence.pieces.begin() + static_cast<long>(i));
    for (Piece& p : sequence.pieces)
      if (p.target != 0xff && p.target > i) --p.target;
    if (still(best)) continue;
    sequence = before;
    ++i;
  }
  const auto attempt = [&](auto&& change) {
    const State before = best.state;
    change(best.state);
    normalise(best.state);
    if (std::memcmp(&before, &best.state, sizeof before) == 0 || still(best)) return;
    best.state = before;
  };
  for (unsigned pass = 0; pass < 2; ++pass) {
    for (unsigned i = 0; i < 16; ++i) {
      attempt([&](State& s) { s.r[i] = 0; });
      if (best.state.r[i] == 0) continue;
      attempt([&](State& s) { s.r[i] = 1; });
      attempt([&](State& s) { s.r[i] &= 0xffffffff; });
      attempt([&](State& s) { s.r[i] &= 0xffff; });
      attempt([&](State& s) { s.r[i] &= 0xff; });
    }
    attempt([](State& s) { s.rflags = x86::kIf | 2; });
    for (u32 flag : {x86::kCf, x86::kPf, x86::kAf, x86::kZf, x86::kSf, x86::kOf, x86::kDf})
      attempt([&](State& s) { s.rflags &= ~u64{flag}; });
    attempt([](State& s) { std::memset(s.ymm_high, 0, sizeof s.ymm_high); });
    attempt([](State& s) { std::memset(s.xmm, 0, sizeof s.xmm); });
    for (unsigned i = 0; i < 16; ++i) {
      attempt([&](State& s) { s.xmm[i] = {}; });
      attempt([&](State& s) { s.ymm_high[i] = {}; });
      attempt([&](State& s) { s.xmm[i].d[1] = 0; });
    }
    attempt([](State& s) { s.mxcsr = 0x1f80; });
    attempt([](State& s) {
      std::memset(s.st, 0, sizeof s.st);
      s.fcw = 0x37f;
      s.fsw = s.ftw = 0;
    });
    for (unsigned i = 0; i < 8; ++i) attempt([&](State& s) { s.st[i] = {}; });
    attempt([](State& s) { s.fcw = 0x37f; });
    attempt([](State& s) { s.fsw &= 0x3800; });
    attempt([](State& s) { s.fsw = 0; });
    attempt([](State& s) { s.ftw = 0xff; });
    attempt([](State& s) { s.ftw = 0; });
  }
  return best;
}

}  // namespace kiln::test::x86diff
