// The persistent cache of tier-1 blocks: which blocks go to the store, and how one of an earlier run becomes a block of this one.
// A block depends on the guest's bytes (compared here), the mode, the address, the guest's CPU model, Kiln's build and options (the key),
// and on addresses of this run, which relocate() puts in.
#include <elf.h>
#include <fmt/format.h>
#include <link.h>

#include <algorithm>

#include "jit/engine/impl.h"

namespace kiln::jit {
namespace {

/// The build-id of the running program, in hex; empty if it has none.
std::string build_id() {
  std::string id;
  dl_iterate_phdr(
      [](dl_phdr_info* info, std::size_t, void* out) {
        for (unsigned i = 0; i < info->dlpi_phnum; ++i) {
          const ElfW(Phdr)& segment = info->dlpi_phdr[i];
          if (segment.p_type != PT_NOTE) continue;
          const auto* at = reinterpret_cast<const u8*>(info->dlpi_addr + segment.p_vaddr);
          for (const u8* const end = at + segment.p_memsz; at + sizeof(ElfW(Nhdr)) <= end;) {
            ElfW(Nhdr) note;
            std::memcpy(&note, at, sizeof note);
            const u8* name = at + sizeof note;
            const u8* data = name + align_up(note.n_namesz, 4u);
            if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0)
              for (u32 n = 0; n < note.n_descsz; ++n) *static_cast<std::string*>(out) += fmt::format("{:02x}", data[n]);
            at = data + align_up(note.n_descsz, 4u);
          }
        }
        return 1;  // the first is the program itself
      },
      &id);
  return id;
}

constexpr std::size_t kMostBytes = std::size_t{128} << 20;  // of a file
constexpr unsigned kLoadAhead = 64;                         // blocks loaded at once along their exits
constexpr u64 kWorthSaving = 64;                            // new blocks, or one in sixteen of what is there
constexpr std::size_t kRoom = 64 << 10;                     // no block is larger; loading ahead leaves so much of a generation

}  // namespace

void Engine::Impl::open_store() {
  const std::string id = build_id();
  // Code names functions of Kiln by address: those of a build that says which one it is, and that lies where it was linked.
  if (id.empty() || reinterpret_cast<u64>(&host::enter_code) > 0x7fffffff || config.tier == TierChoice::Interp || config.self_check ||
      config.log->on(kLogInAsm) || config.log->on(kLogIr) || config.log->on(kLogIrOpt) || config.log->on(kLogOutAsm))
    return;
  store_key = fmt::format("kiln {} at {:x}\nhost {}\nguest {}\ncounts {} insns {}\n{}", id, reinterpret_cast<u64>(&host::enter_code),
                          host::processor_identity(), guest.name, counts(), config.max_block_insns, config.cache_key);
  saves_blocks = config.cache_write;
  store = BlockStore::open(config.cache_file, store_key);
}

// The block at pc, and those that it leads to: what ran together once will do so again.
TranslatedBlock* Engine::Impl::load_stored(GuestAddr pc, u32 mode) {
  GuestAddr return_to = 0;
  TranslatedBlock* const first = load_one(pc, mode, return_to);
  if (first == nullptr) return nullptr;
  GuestAddr next[kLoadAhead];
  unsigned waiting = 0;
  const auto want = [&](const TranslatedBlock& block, GuestAddr after_call) {
    for (const ExitSite& site : block.exits)
      if (site.field != 0 && waiting < kLoadAhead) next[waiting++] = site.target;
    if (after_call != 0 && waiting < kLoadAhead) next[waiting++] = after_call;
  };
  want(*first, return_to);
  for (unsigned i = 0; i < waiting; ++i) {
    if (find(next[i], mode) != nullptr || cache.reserve(kRoom) == 0) continue;
    const auto page = pages.find(align_down(next[i], 4096));
    if (page == pages.end() || !page->second.watched) continue;
    if (const TranslatedBlock* block = load_one(next[i], mode, return_to)) want(*block, return_to);
  }
  return first;
}

TranslatedBlock* Engine::Impl::load_one(GuestAddr pc, u32 mode, GuestAddr& return_to) {
  StoredBlock stored;
  if (!store->find(pc, mode, stored) || stored.masked != masks_addresses || stored.code.size() > kRoom) return nullptr;
  bool checked = false;
  for_each_page(pc, stored.guest_bytes, [&](GuestAddr at) {
    CodePage& page = pages[at];
    watch_page(page, at);
    checked |= page.checked;
  });
  if (checked) return nullptr;
  std::vector<u8> bytes(stored.guest_code.size());
  for (std::size_t have = 0; have < bytes.size();) {
    const std::size_t chunk = std::min<std::size_t>(bytes.size() - have, 4096 - (pc + have) % 4096);
    if (memory.fetch(pc + have, bytes.data() + have, chunk) != chunk) return nullptr;
    have += chunk;
  }
  if (!std::equal(bytes.begin(), bytes.end(), stored.guest_code.begin())) return nullptr;

  auto* block = new TranslatedBlock;
  block->pc = pc;
  block->place = pc;
  block->mode = mode;
  block->guest_bytes = stored.guest_bytes;
  block->guest_insns = stored.guest_insns;
  block->masked = stored.masked;
  block->max_insns = config.max_block_insns;
  block->bytes = std::move(bytes);
  block->code = cache.reserve(stored.code.size());
  std::vector<const FallbackRecord*> fallbacks;
  for (const FallbackRecord& record : stored.fallbacks) fallbacks.push_back(keep_fallback(record.inst, record.types));
  const auto inside = [&](u32 offset) { return offset < stored.code.size() && stored.code.size() - offset >= 4; };
  bool good = block->code != 0;
  for (unsigned i = 0; i < stored.exit_count; ++i) {
    const StoredBlock::Exit& exit = stored.exits[i];
    good = good && inside(exit.patch) && inside(exit.stub);
    ExitSite& site = block->exits[i];
    site.target = exit.target;
    site.mode = mode;
    site.field = block->code + exit.patch;
    site.unchained = block->code + exit.stub;
  }
  if (std::any_of(stored.relocations.begin(), stored.relocations.end(),
                  [](const Tier1Relocation& x) { return x.kind == Tier1Relocation::Kind::Targets; }))
    block->targets = std::make_unique<RecentTargets>();
  if (good) {
    u8* out = cache.writable(block->code);
    std::memcpy(out, stored.code.data(), stored.code.size());
    good = relocate({out, stored.code.size()}, stored.relocations, fallbacks, tier1_options(*block));
  }
  if (!good) {
    delete block;
    return nullptr;
  }
  fallback_ops += fallbacks.size();
  place(*block, stored.code.size());
  publish(block, stored.end);
  for (ExitSite& site : block->exits)
    if (site.field != 0)
      if (TranslatedBlock* target = find(site.target, mode)) link(site, *target);
  ++stats.stored_blocks;
  return_to = stored.return_to;
  return block;
}

void Engine::Impl::keep_for_store(TranslatedBlock& block, Tier1Code& code, const ir::Block& ir) {
  const ir::Inst& last = ir.insts.back();
  // What ends because nothing can be fetched may go on in another run.
  if (!code.relocatable || block.checked || (last.op == ir::Op::exit_exception_ && last.aux == static_cast<u32>(ir::ExitKind::FetchFault)))
    return;
  if (!memory.from_file(align_down(block.pc, 4096))) return;
  block.origin = std::make_unique<BlockOrigin>();
  block.origin->relocations = std::move(code.relocations);
  block.origin->fallbacks = std::move(code.fallbacks);
  const bool call = (last.op == ir::Op::exit_jump_ || last.op == ir::Op::exit_indirect_) && static_cast<ir::ExitHint>(last.lane) == ir::ExitHint::Call;
  block.origin->end = end_of(ir);
  if (call) block.origin->return_to = last.imm2;
  ++unsaved_blocks;
}

bool Engine::Impl::save_blocks() {
  if (!saves_blocks || unsaved_blocks < kWorthSaving || (store != nullptr && unsaved_blocks < store->size() / 16)) return false;
  unsaved_blocks = 0;
  std::vector<StoredBlock> fresh;
  std::vector<std::vector<u8>> codes;
  std::vector<std::vector<FallbackRecord>> fallbacks;
  blocks.for_each([&](const TranslatedBlock& block) {
    if (block.origin == nullptr || block.dead) return;
    const BlockOrigin& origin = *block.origin;
    // As it was stitched: exits not chained, no region at its entry.
    const u8* code = cache.writable(block.code);
    std::vector<u8>& copy = codes.emplace_back(code, code + block.code_bytes);
    StoredBlock& out = fresh.emplace_back();
    for (const ExitSite& site : block.exits) {
      if (site.field == 0) continue;
      const u32 patch = static_cast<u32>(site.field - block.code), stub = static_cast<u32>(site.unchained - block.code);
      host::patch_displacement(copy.data() + patch, site.field, site.unchained);
      out.exits[out.exit_count++] = {site.target, patch, stub};
    }
    if (block.region != nullptr) host::patch_entry_nop(copy.data());
    std::vector<FallbackRecord>& records = fallbacks.emplace_back();
    for (const FallbackRecord* record : origin.fallbacks) records.push_back(*record);
    out.pc = block.pc;
    out.mode = block.mode;
    out.guest_bytes = block.guest_bytes;
    out.guest_insns = block.guest_insns;
    out.masked = block.masked;
    out.end = origin.end;
    out.return_to = origin.return_to;
    out.guest_code = block.bytes;
    out.code = copy;
    out.relocations = origin.relocations;
    out.fallbacks = records;
  });
  return BlockStore::write(config.cache_file, store_key, store.get(), fresh, kMostBytes);
}

}  // namespace kiln::jit
