// --stats: what the engine did, in words and numbers.
#include <fmt/format.h>

#include <algorithm>

#include "jit/engine/impl.h"

namespace kiln::jit {

std::string Engine::stats_text() const {
  const Impl& e = *impl_;
  const EngineStats& s = e.stats;
  std::string out;
  const auto line = [&](const char* name, const std::string& value) { out += fmt::format("  {:<34}{}\n", name, value); };
  out += "kiln: engine statistics\n";
  line("blocks translated", fmt::format("{} ({} guest instructions)", s.blocks, s.guest_insns));
  if (!e.store_key.empty())
    line("of these from the persistent cache", fmt::format("{} (the file holds {})", s.stored_blocks, e.store != nullptr ? e.store->size() : 0));
  if (s.translate_seconds > 0)
    line("translation", fmt::format("{:.1f} ms, {:.2f} M guest instructions/s", s.translate_seconds * 1e3,
                                    static_cast<double>(s.guest_insns) / s.translate_seconds / 1e6));
  line("tier-1 code", fmt::format("{} bytes ({:.1f} per guest instruction)", s.code_bytes,
                                  s.guest_insns ? static_cast<double>(s.code_bytes) / static_cast<double>(s.guest_insns) : 0.0));
  line("ops through the interpreter call", fmt::format("{}", e.fallback_ops));
  u64 exits = 0, chained = 0;
  e.blocks.for_each([&](const TranslatedBlock& block) {
    for (const ExitSite& site : block.exits)
      if (site.field != 0) {
        ++exits;
        chained += site.linked != nullptr;
      }
  });
  u64 dispatches = e.stats.dispatches;
  u64 lookups = 0;
  for (const ThreadRecord* thread : e.threads) dispatches += thread->dispatches, lookups += thread->lookups;
  line("dispatcher entries", fmt::format("{}, {} look-ups from generated code", dispatches, lookups));
  line("direct exits chained", fmt::format("{} of {} ({:.0f} %)", chained, exits,
                                           exits ? 100.0 * static_cast<double>(chained) / static_cast<double>(exits) : 0.0));
  line("blocks invalidated", fmt::format("{}, {} cache generations evicted", s.invalidated, e.evictions));
  std::vector<double> ms = e.region_ms;
  std::sort(ms.begin(), ms.end());
  line("regions compiled", fmt::format("{} ({} bytes), {} failed, {} waiting, queue peak {}", s.regions, s.region_code_bytes,
                                       e.tier2_failures, e.compile_queue.size(), e.queue_peak));
  if (!ms.empty())
    line("tier-2 compile", fmt::format("{:.1f} ms in all ({:.1f} ms CPU); median {:.2f} ms, longest {:.2f} ms",
                                       s.tier2_seconds * 1e3, e.tier2_cpu_ms, ms[ms.size() / 2], ms.back()));
  if (e.config.self_check) line("self-check", fmt::format("{} block runs compared, {} not", e.checked_blocks, e.unchecked_blocks));
  line("code cache", fmt::format("{} bytes used", e.cache.used()));
  return out;
}

}  // namespace kiln::jit
