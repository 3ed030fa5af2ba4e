// Patched exits, dropping blocks and regions, stopping the world, eviction by generation. Everything here wants `mutex` held.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "jit/engine/impl.h"

namespace kiln::jit {

void Engine::Impl::link(ExitSite& site, TranslatedBlock& to) {
  if (site.linked != nullptr || to.dead || site.field == 0) return;
  if (!host::reachable(site.field, to.entry)) return;
  site.linked = &to;
  to.incoming.push_back(&site);
  host::patch_displacement(cache.writable(site.field), site.field, to.entry);
  ++linked_chains;
}

void Engine::Impl::unlink(ExitSite& site) {
  if (site.linked == nullptr) return;
  std::erase(site.linked->incoming, &site);
  site.linked = nullptr;
  host::patch_displacement(cache.writable(site.field), site.field, site.unchained);
  ++unlinked_chains;
}

void Engine::Impl::retarget_incoming(TranslatedBlock& block) {
  for (ExitSite* site : block.incoming) host::patch_displacement(cache.writable(site->field), site->field, block.entry);
}

void Engine::Impl::forget_in_jump_caches(GuestAddr pc) {
  const u64 key = config.soft_mmu ? ir::kJumpKeyUnknown : 0;  // bits that any key may have changed
  for (ThreadRecord* thread : threads) {
    if (FarTarget* far = std::atomic_ref<FarTarget*>(thread->far).load(); far != nullptr && far[far_index(pc)].pc == pc)
      std::atomic_ref<u64>(far[far_index(pc)].pc).store(0);
    ir::JumpCacheEntry& entry = thread->cpu->jump_cache()[ir::jump_cache_index(pc)];
    if (((std::atomic_ref<u64>(entry.pc).load() ^ pc) & ~key) == 0)
      std::atomic_ref<u64>(entry.pc).store(ir::empty_jump_cache_pc(ir::jump_cache_index(pc)), std::memory_order_release);
  }
}

// The memory of a dropped block stays until its generation is evicted: other threads may still be inside.
void Engine::Impl::drop_block(TranslatedBlock* block) {
  if (block->dead) return;
  block->dead.store(true);  // before the jump caches are emptied: see the dispatcher
  blocks.erase(block);
  for_each_page(block->place, block->guest_bytes, [&](GuestAddr page) { std::erase(pages[page].blocks, block); });
  while (!block->incoming.empty()) unlink(*block->incoming.back());
  for (ExitSite& site : block->exits) {
    site.dead = true;
    unlink(site);
  }
  if (block->region != nullptr) drop_region(block->region);
  forget_in_jump_caches(block->pc);
  ++stats.invalidated;
}

void Engine::Impl::drop_region(Region* region) {
  if (region->dead) return;
  region->dead = true;
  TranslatedBlock& entry = *region->entry;
  if (entry.region == region) {
    entry.region = nullptr;
    entry.entry = entry.code;
    host::patch_entry_nop(cache.writable(entry.code));
    retarget_incoming(entry);
    forget_in_jump_caches(entry.pc);
    // Its pages change: give it another chance only after it is hot again, ever later.
    entry.queued = false;
    arm(entry, config.hot_threshold * 16);
  }
  for (ExitSite* site : region->exits) {
    site->dead = true;
    unlink(*site);
  }
  for (GuestAddr page : region->pages) std::erase(pages[page].regions, region);
}

void Engine::Impl::invalidate(GuestAddr start, u64 size, bool forget_writes) {
  if (size == 0) return;
  const GuestAddr end = start + size < start ? ~u64{0} : start + size;
  const auto overlaps = [&](GuestAddr pc, u32 bytes) { return pc < end && pc + bytes > start; };
  bool any_region = false;
  const auto drop_on_page = [&](GuestAddr at) {
    const auto it = pages.find(at);
    if (it == pages.end()) return;
    CodePage& page = it->second;
    for (std::size_t i = page.regions.size(); i-- > 0;) {
      Region* region = page.regions[i];
      if (std::none_of(region->sources.begin(), region->sources.end(), [&](const auto& s) { return overlaps(s.first, s.second); }))
        continue;
      drop_region(region);
      any_region = true;
    }
    // Dropping a block may drop a region, never another block.
    for (std::size_t i = page.blocks.size(); i-- > 0;) {
      TranslatedBlock* block = page.blocks[i];
      if (!overlaps(block->place, block->guest_bytes)) continue;
      any_region |= block->region != nullptr;
      drop_block(block);
    }
    if (start > at || at + 4095 > end - 1) return;
    page.watched = false;  // whoever drops a whole page has given up its protection
    if (!forget_writes) return;
    page.checked = false;  // mapped anew, or with other rights
    page.demotions = 0;
    page.writes = 0;
  };
  if ((end - start) / 4096 > pages.size()) {
    std::vector<GuestAddr> hit;
    for (const auto& [page, list] : pages)
      if (page < end && page + 4096 > start) hit.push_back(page);
    for (GuestAddr page : hit) drop_on_page(page);
  } else {
    for (GuestAddr page = align_down(start, 4096); page < end; page += 4096) drop_on_page(page);
  }
  // Inside a region a thread may go round for ever without looking at a chain or cache: it leaves at its next poll.
  if (any_region)
    for (ThreadRecord* thread : threads)
      if (thread->active.load()) __atomic_store_n(&thread->cpu->interrupt, 1, __ATOMIC_RELEASE);
  if (building != nullptr && std::any_of(building->sources.begin(), building->sources.end(),
                                         [&](const auto& s) { return overlaps(s.first, s.second); }))
    building->cancelled = true;
}

// The page was opened for writing, because somebody does. Where that happens all the time, protection costs more than it is worth.
void Engine::Impl::written(GuestAddr at) {
  invalidate(at, 4096);
  const auto it = pages.find(at);
  if (it == pages.end() || it->second.checked || ++it->second.writes <= kManyWrites) return;
  it->second.checked = true;
  if (it->second.demotions < 16) ++it->second.demotions;
}

// A checked block is hot, so its page may have come to rest.
void Engine::Impl::watch_again(TranslatedBlock& block) {
  for_each_page(block.place, block.guest_bytes, [&](GuestAddr at) {
    CodePage& page = pages[at];
    if (!page.checked) return;
    invalidate(at, 4096);
    page.checked = false;
    page.writes = kManyWrites / 2;
  });
}

// Every thread leaves generated code at its next poll and then waits for world_resumed in run(). The owner sees an
// ExitKind::Interrupt with nothing pending, which is harmless. The lock is given up meanwhile: a thread in generated code may be in
// its fault handler or in a helper that waits for it (written(), invalidate()).
void Engine::Impl::stop_world(ThreadRecord* self, std::unique_lock<std::mutex>& lock) {
  world_resumed.wait(lock, [&] { return !world_stopping.load(); });  // one at a time
  world_stopping.store(true);
  for (;;) {
    bool all_out = true;
    for (ThreadRecord* thread : threads) {
      if (thread == self || !thread->active.load()) continue;
      __atomic_store_n(&thread->cpu->interrupt, 1, __ATOMIC_RELEASE);
      all_out = false;
    }
    if (all_out) return;
    lock.unlock();
    std::this_thread::yield();
    lock.lock();
  }
}

void Engine::Impl::resume_world() {
  world_stopping.store(false);
  world_resumed.notify_all();
}

void Engine::Impl::evict_next_generation(ThreadRecord* self, std::unique_lock<std::mutex>& lock) {
  const u64 before = evictions;
  stop_world(self, lock);
  if (self != nullptr && evictions != before) return resume_world();  // another thread made room while this one waited
  for (ThreadRecord* thread : threads) recover(*thread);
  const unsigned victim = cache.following();
  std::vector<TranslatedBlock*> old_blocks;
  std::vector<Region*> old_regions;
  {
    std::lock_guard ranges(range_mutex);
    for (auto it = code_regions.begin(); it != code_regions.end();) {
      if (cache.generation_of(it->first) != victim) {
        ++it;
        continue;
      }
      old_regions.push_back(it->second);
      it = code_regions.erase(it);
    }
    old_blocks.swap(code_blocks[victim]);
  }
  for (Region* region : old_regions) drop_region(region);
  for (TranslatedBlock* block : old_blocks) {
    if (building != nullptr && building->entry == block) building->cancelled = true;
    std::erase(compile_queue, block);
    drop_block(block);
  }
  // A region in a younger generation may still name an old block as its entry: it was dropped with the block.
  for (Region* region : old_regions) {
    for (ExitSite* site : region->exits) delete site;
    region->exits.clear();
  }
  for (TranslatedBlock* block : old_blocks)
    if (building == nullptr || building->entry != block) delete block;
  for (ThreadRecord* thread : threads) {
    ir::empty_jump_cache(thread->cpu);
    if (thread->far != nullptr) std::memset(static_cast<void*>(thread->far), 0, sizeof(FarTarget) << kFarBits);
  }
  cache.advance();
  ++evictions;
  resume_world();
}

}  // namespace kiln::jit
