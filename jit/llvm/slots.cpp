// Guest slots: which of them live in SSA values across the region ("carried") and which in memory.
//
// A carried slot is loaded at the entry and written back where somebody else may look; until then its value is kept alive at
// every guest access, whether or not the guest still needs it. More of them than there are registers costs code generation
// dearly and gives spills, so the busiest ones are carried; the others are stored where they are written and loaded at most
// once per block.
#include <algorithm>
#include <cmath>

#include "jit/llvm/lowering.h"

namespace kiln::jit {

using namespace ir;

namespace {
// Of 14 general registers some are for intermediate results; vector registers are rarely short.
constexpr std::size_t kCarriedIntegers = 11, kCarriedVectors = 14;
// In small regions, which mostly are one loop, the register allocator has time to find out which to spill.
constexpr u32 kSmallRegion = 100;  // guest instructions
constexpr std::size_t kCarriedInSmall = 18;
}  // namespace

/// How many loops each block is in, by the natural loops of the back edges that find_loop_heads() saw.
std::vector<unsigned> RegionLowering::loop_depths() const {
  const std::size_t count = request_.blocks.size();
  std::vector<std::vector<int>> predecessors(count);
  for (std::size_t i = 0; i < count; ++i) {
    const RegionBlock& block = request_.blocks[i];
    auto add = [&](int to) {
      if (to >= 0) predecessors[static_cast<std::size_t>(to)].push_back(static_cast<int>(i));
    };
    add(block.taken);
    add(block.not_taken);
    for (auto [pc, to] : block.indirect) add(to);
  }
  std::vector<unsigned> depth(count, 0);
  std::map<std::size_t, std::vector<bool>> loops;
  for (auto [from, head] : back_edges_) {
    std::vector<bool>& body = loops.try_emplace(head, count, false).first->second;
    body[head] = true;
    std::vector<std::size_t> work{from};
    while (!work.empty()) {
      const std::size_t at = work.back();
      work.pop_back();
      if (body[at]) continue;
      body[at] = true;
      for (int p : predecessors[at]) work.push_back(static_cast<std::size_t>(p));
    }
  }
  for (const auto& [head, body] : loops)
    for (std::size_t i = 0; i < count; ++i) depth[i] += body[i];
  return depth;
}

void RegionLowering::choose_carried_slots() {
  const std::vector<unsigned> depth = loop_depths();
  std::vector<double> gain(slots_.size(), 0);  // loads and stores that carrying the slot saves
  for (std::size_t i = 0; i < request_.blocks.size(); ++i) {
    const double weight = std::pow(8, std::min(depth[i], 4u));
    SlotSet known;
    auto read = [&](unsigned slot) {
      if (!known[slot]) gain[slot] += weight;
      known.set(slot);
    };
    auto write = [&](unsigned slot) {
      gain[slot] += weight;
      known.set(slot);
    };
    for (const Inst& inst : request_.blocks[i].ir.insts) {
      if (inst.op == Op::get_reg_) read(slot_index(inst.imm));
      if (inst.op == Op::set_reg_) write(slot_index(inst.imm));
      if (inst.op == Op::get_flags_ || inst.op == Op::set_flags_)
        for (unsigned k = 0; k < 3; ++k) inst.op == Op::get_flags_ ? read(flags_slots_ + k) : write(flags_slots_ + k);
    }
  }
  u32 insns = 0;
  for (const RegionBlock& block : request_.blocks) insns += block.ir.guest_insns;
  for (const bool vectors : {false, true}) {
    const std::size_t limit = insns <= kSmallRegion ? kCarriedInSmall : vectors ? kCarriedVectors : kCarriedIntegers;
    std::vector<unsigned> ranking;
    for (unsigned i = 0; i < slots_.size(); ++i)
      if (is_int(slots_[i].type) != vectors) ranking.push_back(i);
    std::sort(ranking.begin(), ranking.end(),
              [&](unsigned a, unsigned b) { return gain[a] != gain[b] ? gain[a] > gain[b] : a < b; });
    ranking.resize(std::min(ranking.size(), limit));
    for (unsigned i : ranking) slots_[i].carried = true;
  }
}

void RegionLowering::make_slot_variables() {
  for (RegionSlot& slot : slots_)
    if (slot.carried) slot.variable = b_.CreateAlloca(llvm_type(slot.type));
  check_key();
  reload();
}

llvm::Value* RegionLowering::load_slot(const RegionSlot& slot) {
  return b_.CreateLoad(llvm_type(slot.type), state_address(slot.offset));
}

llvm::Value* RegionLowering::read_slot(unsigned index) {
  RegionSlot& slot = slots_[index];
  if (slot.carried) return b_.CreateLoad(llvm_type(slot.type), slot.variable);
  if (!slot.known) slot.known = load_slot(slot);
  return slot.known;
}

void RegionLowering::write_slot(unsigned index, LValue value) {
  RegionSlot& slot = slots_[index];
  if (slot.carried) {
    b_.CreateStore(value, slot.variable);
    dirty_.set(index);
  } else {
    store_state(slot.offset, value);
    slot.known = value;
  }
  last_fault_ = nullptr;
}

void RegionLowering::write_back(const SlotSet& slots) {
  for (unsigned i = 0; i < slots_.size(); ++i)
    if (slots[i]) store_state(slots_[i].offset, read_slot(i));
}

/// Memory has changed behind the region's back, or is first seen.
void RegionLowering::reload() {
  for (RegionSlot& slot : slots_)
    if (slot.carried) b_.CreateStore(load_slot(slot), slot.variable);
  forget_slots();
  last_fault_ = nullptr;
}

void RegionLowering::forget_slots() {
  for (RegionSlot& slot : slots_) slot.known = nullptr;
}

}  // namespace kiln::jit
