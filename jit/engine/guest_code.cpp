#include "jit/engine/guest_code.h"

#include <algorithm>

#include "ir/builder.h"

namespace kiln::jit {

using ir::Op;
using ir::Value;

std::size_t CodeSnapshot::fetch(GuestAddr pc, u8* out, std::size_t size) {
  constexpr std::size_t kAhead = 64;
  const std::size_t from = pc - start_;
  while (from + size > bytes_.size()) {
    // Page by page: the next one may not be there.
    const GuestAddr at = start_ + bytes_.size();
    const std::size_t wanted = std::max(from + size - bytes_.size(), kAhead), chunk = std::min<std::size_t>(wanted, 4096 - at % 4096);
    const std::size_t before = bytes_.size();
    bytes_.resize(before + chunk);
    const std::size_t got = memory_.fetch(at, bytes_.data() + before, chunk);
    bytes_.resize(before + got);
    if (got < chunk) break;
  }
  if (from >= bytes_.size()) return 0;
  size = std::min(size, bytes_.size() - from);
  std::memcpy(out, bytes_.data() + from, size);
  asked_ = std::max(asked_, from + size);
  return size;
}

bool CodeSnapshot::same_again() {
  std::vector<u8> now(asked_);
  std::size_t have = 0;
  while (have < asked_) {
    const std::size_t chunk = std::min<std::size_t>(asked_ - have, 4096 - (start_ + have) % 4096);
    if (memory_.fetch(start_ + have, now.data() + have, chunk) != chunk) return false;
    have += chunk;
  }
  return std::memcmp(now.data(), bytes_.data(), asked_) == 0;
}

unsigned insns_to_first_store(const ir::Block& block) {
  unsigned insns = 0;
  for (const ir::Inst& inst : block.insts) {
    if (inst.op == Op::insn_start_) ++insns;
    else if ((ir::effects_of(inst) & ir::WRITES_MEM) != 0 && inst.op != Op::fence_) return std::max(insns, 1u);
  }
  return std::max(insns, 1u);
}

namespace {
bool accesses_memory(const ir::Inst& inst) {
  switch (inst.op) {
    case Op::load_:
    case Op::store_:
    case Op::atomic_rmw_:
    case Op::atomic_cas_: return true;
    case Op::call_: {
      const u32 effects = ir::effects_of(inst);
      return (effects & (ir::READS_MEM | ir::WRITES_MEM)) != 0 && (effects & ir::MAY_FAULT) != 0 && inst.args[0] != ir::kNoValue;
    }
    default: return false;
  }
}
}  // namespace

void mask_addresses(ir::Block& block, u64 mask) {
  const std::vector<ir::Inst> before = std::move(block.insts);
  block.insts.clear();
  ir::Builder b(block);
  std::vector<Value> map(before.size());
  for (Value index = 0; index < before.size(); ++index) {
    ir::Inst inst = before[index];
    for (Value& v : inst.args)
      if (v != ir::kNoValue) v = map[v];
    if (inst.more != 0)
      for (Value& v : block.extra_args[inst.more - 1])
        if (v != ir::kNoValue) v = map[v];
    if (accesses_memory(inst) && b.type_of(inst.args[0]) == ir::Type::I64) {
      if (inst.op != Op::call_ && inst.imm != 0) {
        inst.args[0] = b.add(inst.args[0], b.i64(inst.imm));
        inst.imm = 0;
      }
      inst.args[0] = b.and_(inst.args[0], b.i64(mask));
    }
    block.insts.push_back(inst);
    map[index] = static_cast<Value>(block.insts.size() - 1);
  }
}

void insert_code_check(ir::Block& block, const u8* bytes) {
  ir::Block check;
  ir::Builder b(check);
  Value differs = ir::kNoValue;
  const auto compare = [&](u32 at, ir::Width width) {
    u64 expected = 0;
    std::memcpy(&expected, bytes + at, ir::width_bytes(width));
    const Value now = b.load(ir::Type::I64, b.i64(block.pc + at), 0, {.width = width});
    const Value difference = b.xor_(now, b.i64(expected));
    differs = differs == ir::kNoValue ? difference : b.or_(differs, difference);
  };
  u32 at = 0;
  for (const ir::Width width : {ir::Width::B8, ir::Width::B4, ir::Width::B2, ir::Width::B1})
    for (; at + ir::width_bytes(width) <= block.guest_bytes; at += ir::width_bytes(width)) compare(at, width);
  if (differs == ir::kNoValue) return;
  b.trap_if(b.icmp(Op::icmp_ne_, differs, b.i64(0)), ir::ExitKind::CodeChanged, kCodeDiffers);

  const auto first = std::find_if(block.insts.begin(), block.insts.end(), [](const ir::Inst& i) { return i.op == Op::insn_start_; });
  const Value place = first == block.insts.end() ? 0 : static_cast<Value>(first - block.insts.begin()) + 1;
  const Value count = static_cast<Value>(check.insts.size());
  const auto move = [&](Value& v, Value by, Value from) {
    if (v != ir::kNoValue && v >= from) v += by;
  };
  for (ir::Inst& inst : check.insts)
    for (Value& v : inst.args) move(v, place, 0);
  for (ir::Inst& inst : block.insts)
    for (Value& v : inst.args) move(v, count, place);
  for (auto& more : block.extra_args)
    for (Value& v : more) move(v, count, place);
  block.insts.insert(block.insts.begin() + place, check.insts.begin(), check.insts.end());
}

}  // namespace kiln::jit
