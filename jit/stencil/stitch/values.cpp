// Where values live: cache registers, spill slots, guest slots.
#include "jit/stencil/stitch/stitcher.h"

namespace kiln::jit {

namespace {
constexpr unsigned reg_count(Class cls) { return cls == Int ? kIntRegs : kVecRegs; }
constexpr u32 spill_offset(unsigned index) { return static_cast<u32>(offsetof(CpuState, spill) + 16 * index); }
constexpr unsigned bit_width(u64 value) { return static_cast<unsigned>(64 - std::countl_zero(value)); }
}  // namespace

u64 Stitcher::const_of(Value v) { return state(v).imm & mask_low(ir::type_bits(type_of(v))); }

Value Stitcher::constant_value(u64 imm) {
  ValueState s;
  s.root = static_cast<Value>(values_.size());
  s.state = State::Constant;
  s.type = Type::I64;
  s.imm = imm;
  s.known = static_cast<u8>(bit_width(imm));
  values_.push_back(s);
  return s.root;
}

void Stitcher::copy(Class cls, u8 to, u8 from) {
  if (to == from) return;
  if (cls == Int) emit(id::mov_rr + to * kIntRegs + from);
  else emit(id::v_mov + to * kVecRegs + from);
}

u8 Stitcher::fresh(Class cls) {
  u32 candidates = free_[cls] & ~pinned_[cls];
  if (!candidates) {
    // The cheapest to give up: a value that only waits to be stored, then one that memory has too, then any; oldest first.
    unsigned best = kNoReg;
    u64 best_cost = ~u64{0};
    for (unsigned r = 0; r < reg_count(cls); ++r) {
      if (pinned_[cls] >> r & 1) continue;
      const ValueState& s = values_[owner_[cls][r]];
      u64 cost;
      if (s.uses == 0 && s.slots == 1) cost = 0;
      else if (s.state == State::Constant || s.home || s.spill != kNoReg) cost = 1;
      else cost = 2;
      cost = cost << 32 | s.stamp;
      if (cost < best_cost) best_cost = cost, best = r;
    }
    if (best == kNoReg) stitch_failure("internal error", "every register is pinned");
    evict(cls, static_cast<u8>(best));
    candidates = 1u << best;
  }
  const u8 reg = static_cast<u8>(std::countr_zero(candidates));
  pin(cls, reg);
  return reg;
}

void Stitcher::release(Class cls, u8 reg) {
  values_[owner_[cls][reg]].reg = kNoReg;
  owner_[cls][reg] = kNoValue;
  free_[cls] |= 1u << reg;
}

void Stitcher::spill(Value r) {
  ValueState& s = values_[r];
  if (!spill_free_) stitch_failure("block too large", "no spill slot is left");
  s.spill = static_cast<u8>(std::countr_zero(spill_free_));
  spill_free_ &= spill_free_ - 1;
  if (s.cls == Int) emit(id::slot_st + kIntRegs + s.reg, spill_offset(s.spill));
  else emit(id::v_slot_st + s.reg, spill_offset(s.spill));
}

void Stitcher::evict(Class cls, u8 reg) {
  const Value r = owner_[cls][reg];
  ValueState& s = values_[r];
  if (s.state != State::Constant && !s.home && s.spill == kNoReg) {
    if (s.slots == 1) {
      // The slot must be stored some time anyway, unless its old value is still wanted and nowhere else.
      for (SlotState& slot : slots_) {
        if (!slot.dirty || slot.value != r) continue;
        const bool old_wanted = slot.memory != kNoValue && slot.memory != r &&
                                (values_[slot.memory].uses || values_[slot.memory].slots) &&
                                values_[slot.memory].reg == kNoReg && values_[slot.memory].spill == kNoReg;
        if (!old_wanted && slot.form == Form::Whole) {
          pin(cls, reg);
          store_slot(slot);
          pinned_[cls] &= ~(1u << reg);
          if (values_[r].reg == kNoReg) return;
          if (!values_[r].home) spill(r);
          release(cls, reg);
          return;
        }
        break;
      }
    }
    spill(r);
  }
  release(cls, reg);
}

void Stitcher::load_into(Value r, u8 reg) {
  ValueState& s = values_[r];
  if (s.state == State::Constant) {
    if (s.cls == Int) load_imm(reg, s.imm);
    else if ((s.imm | s.imm2) == 0) emit(id::v_zero + reg);
    else emit(id::v_const + reg, pool(V128{.d = {s.imm, s.imm2}}));
  } else if (s.spill != kNoReg) {
    if (s.cls == Int) emit(id::slot_ld + kIntRegs + reg, spill_offset(s.spill));
    else emit(id::v_slot_ld + reg, spill_offset(s.spill));
  } else if (s.home) {
    if (s.cls == Vec) emit(id::v_slot_ld + reg, s.home);
    else emit(id::slot_ld + wide(s.type) * kIntRegs + reg, s.home);
  } else {
    stitch_failure("internal error: value lives nowhere", ir::op_info((*block_)[r].op).name);
  }
}

u8 Stitcher::use(Value v) {
  const Value r = root(v);
  ValueState& s = values_[r];
  if (s.state == State::Deferred) materialise(r);
  if (values_[r].reg == kNoReg) {
    const Class cls = s.cls;
    const u8 reg = fresh(cls);
    load_into(r, reg);
    values_[r].reg = reg;
    owner_[cls][reg] = r;
    free_[cls] &= ~(1u << reg);
  }
  values_[r].stamp = clock_;
  pin(values_[r].cls, values_[r].reg);
  return values_[r].reg;
}

u8 Stitcher::take(Value v) {
  const Value r = root(v);
  if (values_[r].state == State::Deferred) materialise(r);
  ValueState& s = values_[r];
  const Class cls = s.cls;
  if (s.uses == 1 && s.slots == 0) {
    if (s.reg != kNoReg) {
      const u8 reg = s.reg;
      pin(cls, reg);
      release(cls, reg);
      return reg;
    }
    const u8 reg = fresh(cls);
    load_into(r, reg);
    return reg;
  }
  if (s.state == State::Constant) {
    const u8 reg = fresh(cls);
    load_into(r, reg);
    return reg;
  }
  const u8 from = use(v);
  const u8 reg = fresh(cls);
  copy(cls, reg, from);
  return reg;
}

void Stitcher::bind(Value v, u8 reg, unsigned known) {
  ValueState& s = values_[v];
  s.root = v;
  s.state = State::Normal;
  s.reg = reg;
  s.known = static_cast<u8>(known);
  s.stamp = clock_;
  owner_[s.cls][reg] = v;
  free_[s.cls] &= ~(1u << reg);
  drop_if_dead(v);
}

void Stitcher::alias(Value v, Value of) {
  const Value r = root(of);
  values_[v].root = r;
  values_[r].uses += values_[v].uses;
}

void Stitcher::drop_if_dead(Value r) {
  ValueState& s = values_[r];
  if (s.uses || s.slots) return;
  if (s.state == State::Deferred) {
    s.state = State::None;
    done_all((*block_)[r]);
    return;
  }
  if (s.reg != kNoReg) release(s.cls, s.reg);
  if (s.spill != kNoReg) {
    spill_free_ |= u64{1} << s.spill;
    s.spill = kNoReg;
  }
}

void Stitcher::done(Value v) {
  const Value r = root(v);
  --values_[r].uses;
  drop_if_dead(r);
}

// --- guest slots ---------------------------------------------------------------------------------------------------

SlotState* Stitcher::find_slot(u32 offset) {
  const u32 index = offset / 4;
  if (index >= slot_index_.size() || slot_index_[index] == 0) return nullptr;
  return &slots_[slot_index_[index] - 1u];
}

SlotState& Stitcher::slot(u32 offset, Type type) {
  if (SlotState* s = find_slot(offset)) return *s;
  if (offset / 4 >= slot_index_.size()) slot_index_.resize(offset / 4 + 1);
  slots_.push_back({offset, type, kNoValue, kNoValue, false, Form::Whole});
  slot_index_[offset / 4] = static_cast<u16>(slots_.size());
  return slots_.back();
}

void Stitcher::get_reg(Value v, const Inst& inst) {
  const u32 offset = static_cast<u32>(inst.imm);
  ValueState& s = values_[v];
  if (s.uses == 0) return;
  SlotState& entry = slot(offset, inst.type);
  if (entry.value != kNoValue && entry.form == Form::Whole && (entry.dirty || entry.memory == entry.value)) {
    alias(v, entry.value);
    return;
  }
  if (entry.dirty) store_slot(entry);  // kept in a narrower form: let memory widen it
  s.state = State::Normal;
  s.home = offset;
  s.known = static_cast<u8>(ir::type_bits(inst.type));
  entry.value = entry.memory = v;
  entry.form = Form::Whole;
}

void Stitcher::set_slot(u32 offset, Type type, Value v, Form form) {
  const Value r = root(v);
  SlotState& entry = slot(offset, type);
  if (entry.dirty) {
    entry.dirty = false;
    const Value old = entry.value;
    entry.value = kNoValue;
    --values_[old].slots;
    ++values_[r].slots;  // not to be dropped if it is the same
    drop_if_dead(old);
    --values_[r].slots;
  }
  entry.value = r;
  entry.form = form;
  if (form == Form::Whole && entry.memory == r && values_[r].home == offset) return;
  entry.dirty = true;
  ++values_[r].slots;
}

void Stitcher::set_reg(const Inst& inst) {
  const Value v = inst.args[0];
  const u32 offset = static_cast<u32>(inst.imm);
  if (deferred(v, Op::f_to_v_)) {
    const Value f = (*block_)[root(v)].args[0];
    set_slot(offset, Type::V128, f, type_of(f) == Type::F32 ? Form::F32 : Form::F64);
  } else {
    if (state(v).state == State::Deferred) use(v);
    set_slot(offset, type_of(v), v, Form::Whole);
  }
  done(v);
}

void Stitcher::set_flags(const Inst& inst) {
  const Value maker = inst.args[0];
  const Inst& m = (*block_)[maker];
  if (!ir::makes_record(m.op)) stitch_failure("set_flags of an op that lower_flags() should have removed", ir::op_info(m.op).name);
  const ir::FlagsKind kind = ir::kind_made_by(m, type_of(m.args[0]));
  const auto operand = [&](u32 offset, Value v) {
    if (state(v).state == State::Deferred) use(v);
    // Of x86's kinds only the low bits count: what else is in the register may go along.
    const bool clean = type_of(v) == Type::I64 || is_const(v) || state(v).known <= 32 || ir::is_x86(kind);
    set_slot(offset, Type::I64, v, clean ? Form::Whole : Form::Low32);
  };
  operand(offsetof(CpuState, flags_a), m.args[0]);
  if (m.args[1] != kNoValue) operand(offsetof(CpuState, flags_b), m.args[1]);  // else unspecified
  set_slot(offsetof(CpuState, flags_kind), Type::I32, constant_value(static_cast<u32>(kind)), Form::Whole);
  done(maker);
}

void Stitcher::capture_memory_of(SlotState& s) {
  const Value m = s.memory;
  if (m == kNoValue || (m == s.value && s.form == Form::Whole)) return;
  ValueState& old = values_[m];
  if ((old.uses || old.slots) && old.reg == kNoReg && old.spill == kNoReg && old.state != State::Constant) {
    const Class cls = old.cls;
    const u32 pins = pinned_[cls];
    use(m);
    pinned_[cls] = pins;
  }
  values_[m].home = 0;
  s.memory = kNoValue;
}

void Stitcher::store_slot(SlotState& entry) {
  capture_memory_of(entry);
  if (!entry.dirty) return;  // an eviction for the line above got here first
  const Value r = entry.value;
  ValueState& s = values_[r];
  const u32 offset = entry.offset;
  if (s.cls == Int) {
    if (s.state == State::Constant) {
      u64 value = s.imm;
      if (entry.form == Form::Low32) value = static_cast<u32>(value);
      store_imm(offset, value, entry.type == Type::I64);
    } else if (s.reg != kNoReg) {
      if (entry.form == Form::Low32) emit(id::slot_st32z + s.reg, offset);
      else emit(id::slot_st + wide(entry.type) * kIntRegs + s.reg, offset);
    } else {
      const u32 from = s.spill != kNoReg ? spill_offset(s.spill) : s.home;
      const bool load64 = entry.type == Type::I64 && entry.form != Form::Low32 && (s.spill != kNoReg || s.type == Type::I64);
      emit(id::slot_ld_t + (load64 ? 1 : 0), from);
      emit(id::slot_st_t + wide(entry.type), offset);
    }
  } else {
    const u32 pins = pinned_[Vec];
    const u8 reg = use(r);
    pinned_[Vec] = pins;
    if (entry.form == Form::Whole) emit(id::v_slot_st + reg, offset);
    else emit(id::v_slot_st_low + (entry.form == Form::F64 ? kVecRegs : 0) + reg, offset);
  }
  entry.dirty = false;
  if (entry.form == Form::Whole && values_[r].state != State::Constant &&
      ir::type_bits(entry.type) >= ir::type_bits(type_of(r))) {
    // The slot becomes the value's home, unless it has one.
    if (values_[r].home == 0) {
      values_[r].home = offset;
      entry.memory = r;
    } else if (values_[r].home != offset) {
      entry.value = kNoValue;  // a later get_reg loads; rare
    }
  } else {
    entry.value = kNoValue;
  }
  --values_[r].slots;
  drop_if_dead(r);
}

void Stitcher::flush() {
  // Values that live only in the memory of a slot that is about to be overwritten come first.
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].dirty) capture_memory_of(slots_[i]);
  for (std::size_t i = 0; i < slots_.size(); ++i)
    if (slots_[i].dirty) store_slot(slots_[i]);
}

void Stitcher::forget_slots() {
  for (SlotState& s : slots_) {
    if (s.memory != kNoValue) values_[s.memory].home = 0;
    slot_index_[s.offset / 4] = 0;
  }
  slots_.clear();
}

void Stitcher::recovery_point(u32 begin) {
  if (!record_) return;
  RecoveryPoint point;
  point.begin = begin;
  point.end = here();
  point.pc = pc_;
  for (const SlotState& entry : slots_) {
    if (!entry.dirty) continue;
    const ValueState& s = values_[entry.value];
    SlotLocation where;
    where.slot_offset = entry.offset;
    where.type = entry.type;
    if (s.state == State::Constant) {
      where.kind = SlotLocation::Kind::Constant;
      where.constant = s.imm;
      where.constant_high = s.imm2;
    } else if (s.reg != kNoReg) {
      where.kind = s.cls == Int ? SlotLocation::Kind::IntRegister : SlotLocation::Kind::VectorRegister;
      where.reg = s.reg;
    } else {
      where.kind = SlotLocation::Kind::Spill;
      where.constant = s.spill != kNoReg ? spill_offset(s.spill) : s.home;
    }
    switch (entry.form) {
      case Form::Whole: where.value_bytes = 16; break;
      case Form::Low32:
      case Form::F32: where.value_bytes = 4; break;
      case Form::F64: where.value_bytes = 8; break;
    }
    // At home in a slot of four bytes: what lies behind it is another slot's.
    if (where.kind == SlotLocation::Kind::Spill && s.spill == kNoReg && s.type == Type::I32) where.value_bytes = 4;
    point.dirty.push_back(where);
  }
  code_.recovery.push_back(std::move(point));
}

}  // namespace kiln::jit
