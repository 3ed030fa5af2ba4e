// drop_dead: one backward sweep that marks what is needed, one forward sweep that closes the gaps.
#include <algorithm>
#include <array>
#include <cstddef>

#include "ir/passes/passes.h"
#include "ir/passes/rewriter.h"

namespace kiln::ir {
namespace {

/// Effects by op, without the call into ops.cpp.
constexpr u32 kEffects[] = {
#define OP(name, signature, effects, text) effects,
#include "ir/ops.def"
#undef OP
};

constexpr std::array<u64, 3> kFlagSlots = {offsetof(CpuState, flags_kind) / 4, offsetof(CpuState, flags_a) / 4,
                                           offsetof(CpuState, flags_b) / 4};

struct Scratch {
  std::vector<u8> live;
  std::vector<Value> map;
  std::vector<u32> overwritten;  // by slot offset / 4: generation in which a later set_reg hides an earlier one
  u32 generation = 0;
};

}  // namespace

/// `insts` is block.insts or another list that replaces it.
static void keep_needed(Block& block, std::span<const Inst> insts) {
  thread_local Scratch scratch;
  const std::size_t count = insts.size();
  std::vector<u8>& live = scratch.live;
  live.assign(count, 0);
  ++scratch.generation;
  bool flags_overwritten = false;
  std::size_t kept = 0;
  if (scratch.overwritten.size() < kFlagSlots.back() + 1) scratch.overwritten.resize(64);
  const auto slot_of = [&](const Inst& inst) -> u32& {
    const std::size_t slot = inst.imm / 4;
    if (slot >= scratch.overwritten.size()) scratch.overwritten.resize(slot + 64);
    return scratch.overwritten[slot];
  };
  // The record's parts may be read and written as slots, too.
  const auto record_hidden = [&] {
    return std::all_of(kFlagSlots.begin(), kFlagSlots.end(),
                       [&](u64 s) { return scratch.overwritten[s] == scratch.generation; });
  };
  const auto mark_record = [&](u32 generation) {
    for (const u64 slot : kFlagSlots) scratch.overwritten[slot] = generation;
  };
  for (std::size_t i = count; i-- > 0;) {
    const Inst& inst = insts[i];
    bool needed = live[i] != 0;
    switch (inst.op) {
      case Op::insn_start_: needed = true; break;
      case Op::set_reg_: {
        u32& generation = slot_of(inst);
        needed = generation != scratch.generation;
        generation = scratch.generation;
        break;
      }
      case Op::get_reg_:
        if (!needed) break;
        slot_of(inst) = scratch.generation - 1;
        if (std::find(kFlagSlots.begin(), kFlagSlots.end(), inst.imm / 4) != kFlagSlots.end()) flags_overwritten = false;
        break;
      case Op::set_flags_:
        needed = !flags_overwritten && !record_hidden();
        flags_overwritten = true;
        mark_record(scratch.generation);
        break;
      case Op::get_flags_:
        if (!needed) break;
        flags_overwritten = false;
        mark_record(scratch.generation - 1);
        break;
      default: {
        const u32 static_effects = kEffects[static_cast<unsigned>(inst.op)];
        const u32 effects = static_effects == CALL ? helper_of(inst).effects : static_effects;
        if ((effects & (WRITES_STATE | WRITES_MEM | MAY_FAULT | ENDS_BLOCK)) != 0 || sets_sticky_bits(inst.op)) needed = true;
        if (needed && (effects & (READS_STATE | WRITES_STATE | MAY_FAULT | ENDS_BLOCK)) != 0) {
          ++scratch.generation;  // the whole state is looked at here
          flags_overwritten = false;
        }
      }
    }
    live[i] = needed;
    if (!needed) continue;
    ++kept;
    for (Value v : inst.args) {
      if (v == kNoValue) break;
      live[v] = 1;
    }
    if (inst.more)
      for (Value v : block.extra_args[inst.more - 1])
        if (v != kNoValue) live[v] = 1;
  }
  const bool in_place = insts.data() == block.insts.data();
  if (in_place && kept == count) return;
  if (!in_place) block.insts.resize(kept);
  std::vector<Value>& map = scratch.map;
  if (map.size() < count) map.resize(count * 2);
  Inst* to = block.insts.data();
  Value next = 0;
  for (std::size_t i = 0; i < count; ++i) {
    if (!live[i]) continue;
    Inst& inst = to[next];
    if (&inst != &insts[i]) inst = insts[i];
    for (Value& v : inst.args) {
      if (v == kNoValue) break;
      v = map[v];
    }
    if (inst.more)
      for (Value& v : block.extra_args[inst.more - 1])
        if (v != kNoValue) v = map[v];
    map[i] = next++;
  }
  block.insts.resize(next);
}

static Rewriter& rewriter() {
  thread_local Rewriter instance;
  return instance;
}
static void rewrite(Block& block, u32 parts) {
  const std::span<const Inst> insts = rewriter().run(block, parts);
  block.insts.assign(insts.begin(), insts.end());
}

void forward_slots(Block& block) { rewrite(block, kForwardSlots); }
void fold(Block& block) { rewrite(block, kFold); }
void lower_flags(Block& block) { rewrite(block, kLowerFlags); }
void drop_dead(Block& block) { keep_needed(block, block.insts); }
void optimise(Block& block) { keep_needed(block, rewriter().run(block, kForwardSlots | kFold | kLowerFlags)); }

}  // namespace kiln::ir
