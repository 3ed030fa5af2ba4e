// Exclusives, load-acquire and store-release, LSE atomics.
// A store-exclusive is a compare-and-swap from the value that the load-exclusive saw, and fails as well if another
// store-exclusive to the same granule began meanwhile (helpers.cpp): it finds A-B-A. Plain stores and
// LSE atomics that change a cell and change it back go unnoticed; who mixes them with exclusives on one cell has a value there
// that does not care (a lock, a count).
#include "frontends/arm/base_atomic.decode.h"
#include "frontends/arm/helpers.h"

namespace kiln::arm {

using ir::MemOp;
using ir::Op;
using ir::Order;
using ir::RmwKind;
using ir::Type;
using ir::Value;
using ir::Width;

namespace {

constexpr std::size_t kExclusiveAddress = offsetof(A64State, exclusive_address);
constexpr std::size_t kExclusiveVersion = offsetof(A64State, exclusive_version);
constexpr std::size_t exclusive_value(unsigned i) { return offsetof(A64State, exclusive_value) + 8 * i; }

Order order_of(u32 acquire, u32 release) {
  return acquire ? (release ? Order::SeqCst : Order::Acquire) : release ? Order::Release : Order::Relaxed;
}

void clear_exclusive(Lifter& l) { l.ir.set_reg(kExclusiveAddress, l.ir.i64(~u64{0})); }

/// i32 pair -> i64, the first in the low half.
Value join(Lifter& l, u32 low, u32 high) { return l.ir.bfi(l.x(low), l.x(high), 32, 32); }
/// i64 pair -> v128.
Value join_v(Lifter& l, Value low, Value high) {
  return l.ir.vec(Op::v_insert_, Width::B8, {l.ir.f_to_v(l.ir.bitcast(Type::F64, low)), high}, 1);
}
Value half(Lifter& l, Value v, unsigned index) { return l.ir.v_extract(Type::I64, Width::B8, v, index); }

/// Compare-and-swap of sixteen bytes. The load is there for its alignment check.
Value cas128(Lifter& l, Value address, Value expected, Value desired) {
  l.ir.load(Type::V128, address, 0, l.ordered(4, Order::Relaxed));
  if (l.system) return l.ir.call(kSystemCas128, {address, l.ir.i64(l.plain(4).pack()), expected, desired});
  return l.ir.call(kCas128, {address, expected, desired});
}

/// The beginning of every load-exclusive: before its load, or a change in between would be missed.
void note_version(Lifter& l, Value address) { l.ir.set_reg(kExclusiveVersion, l.ir.call(kExclusiveVersionOf, {address})); }

/// For a store-exclusive: the version if the reservation is for `address`, else one that stores nothing.
Value reserved_version(Lifter& l, Value address) {
  auto& ir = l.ir;
  const Value same = ir.icmp(Op::icmp_eq_, address, ir.get_reg(Type::I64, kExclusiveAddress));
  return ir.select(same, ir.get_reg(Type::I64, kExclusiveVersion), ir.i64(1));
}

/// The end of every store-exclusive: status register and reservation.
void finish_store_exclusive(Lifter& l, u32 rs, Value stored) {
  clear_exclusive(l);
  l.ir.set_reg(kExclusiveVersion, l.ir.i64(0));
  l.set_r(rs, l.ir.zext(Type::I32, l.ir.not_(stored)));
}

/// Store-exclusive of up to eight bytes. The load is there for its alignment check.
void store_exclusive(Lifter& l, unsigned log_size, u32 rs, u32 rn, Value desired) {
  auto& ir = l.ir;
  const Value address = l.x_sp(rn);
  ir.load(Type::I64, address, 0, l.ordered(log_size, Order::Relaxed));
  const Value version = reserved_version(l, address);
  const Value stored =
      l.system ? ir.call(kSystemStoreExclusive[log_size], {address, ir.i64(l.plain(log_size).pack()), version, desired})
               : ir.call(kStoreExclusive[log_size], {address, version, ir.get_reg(Type::I64, exclusive_value(0)), desired});
  finish_store_exclusive(l, rs, ir.icmp(Op::icmp_ne_, stored, ir.i64(0)));
}

}  // namespace

Lift lift_ldxr(Lifter& l, const fields::ldxr& f) {
  const Value address = l.x_sp(f.rn);
  note_version(l, address);
  const Value value = l.ir.load(Type::I64, address, 0, l.ordered(f.size, f.acquire ? Order::SeqCst : Order::Relaxed));
  l.ir.set_reg(kExclusiveAddress, address);
  l.ir.set_reg(exclusive_value(0), value);
  l.set_r(f.rt, value);
  return Lift::Next;
}

Lift lift_ldxp(Lifter& l, const fields::ldxp& f) {
  auto& ir = l.ir;
  const MemOp m = l.ordered(3, f.acquire ? Order::SeqCst : Order::Relaxed);
  const Value address = l.x_sp(f.rn);
  note_version(l, address);
  if (!f.sz) {
    const Value both = ir.load(Type::I64, address, 0, m);
    ir.set_reg(kExclusiveAddress, address);
    ir.set_reg(exclusive_value(0), both);
    l.set_r(f.rt, ir.trunc(Type::I32, both));
    l.set_r(f.rt2, ir.lshr(both, ir.i64(32)));
    return Lift::Next;
  }
  const Value both = l.ir.load(Type::V128, address, 0, l.ordered(4, m.order));
  const Value low = half(l, both, 0), high = half(l, both, 1);
  ir.set_reg(kExclusiveAddress, address);
  ir.set_reg(exclusive_value(0), low);
  ir.set_reg(exclusive_value(1), high);
  l.set_r(f.rt, low);
  l.set_r(f.rt2, high);
  return Lift::Next;
}

Lift lift_stxr(Lifter& l, const fields::stxr& f) {
  store_exclusive(l, f.size, f.rs, f.rn, l.x(f.rt));
  return Lift::Next;
}

Lift lift_stxp(Lifter& l, const fields::stxp& f) {
  if (!f.sz) {
    store_exclusive(l, 3, f.rs, f.rn, join(l, f.rt, f.rt2));
    return Lift::Next;
  }
  auto& ir = l.ir;
  const Value address = l.x_sp(f.rn);
  ir.load(Type::V128, address, 0, l.ordered(4, Order::Relaxed));
  const Value expected = join_v(l, ir.get_reg(Type::I64, exclusive_value(0)), ir.get_reg(Type::I64, exclusive_value(1)));
  const Value desired = join_v(l, l.x(f.rt), l.x(f.rt2));
  const u64 op = l.system ? l.plain(4).pack() : kUserExclusive;
  const Value stored = ir.call(kStoreExclusivePair, {address, ir.i64(op), reserved_version(l, address), expected, desired});
  finish_store_exclusive(l, f.rs, ir.icmp(Op::icmp_ne_, stored, ir.i64(0)));
  return Lift::Next;
}

// STLR, STLLR. A store-release may not pass a later load-acquire (RCsc), which an x86 store may: SeqCst.
Lift lift_stlr(Lifter& l, const fields::stlr& f) {
  l.ir.store(l.x_sp(f.rn), 0, l.x(f.rt), l.ordered(f.size, Order::SeqCst));
  return Lift::Next;
}

// LDAR, LDLAR
Lift lift_ldar(Lifter& l, const fields::ldar& f) {
  l.set_r(f.rt, l.ir.load(Type::I64, l.x_sp(f.rn), 0, l.ordered(f.size, Order::SeqCst)));
  return Lift::Next;
}

// Misaligned it works as with FEAT_LSE2: QEMU lets it pass, and so do most cores.
Lift lift_ldapr(Lifter& l, const fields::ldapr& f) {
  MemOp m = l.ordered(f.size, Order::Acquire);
  m.align_check = false;
  l.set_r(f.rt, l.ir.load(Type::I64, l.x_sp(f.rn), 0, m));
  return Lift::Next;
}

Lift lift_cas(Lifter& l, const fields::cas& f) {
  const unsigned sf = f.size == 3;
  l.set_r(f.rs, l.ir.atomic_cas(l.x_sp(f.rn), l.r(sf, f.rs), l.r(sf, f.rt), l.ordered(f.size, order_of(f.acquire, f.release))));
  return Lift::Next;
}

Lift lift_casp(Lifter& l, const fields::casp& f) {
  if ((f.rs | f.rt) & 1) return Lift::Undefined;
  auto& ir = l.ir;
  const Value address = l.x_sp(f.rn);
  if (!f.sz) {
    const Value old =
        ir.atomic_cas(address, join(l, f.rs, f.rs + 1), join(l, f.rt, f.rt + 1), l.ordered(3, order_of(f.acquire, f.release)));
    l.set_r(f.rs, ir.trunc(Type::I32, old));
    l.set_r(f.rs + 1, ir.lshr(old, ir.i64(32)));
    return Lift::Next;
  }
  const Value expected = join_v(l, l.x(f.rs), l.x(f.rs + 1)), desired = join_v(l, l.x(f.rt), l.x(f.rt + 1));
  const Value old = cas128(l, address, expected, desired);
  l.set_r(f.rs, half(l, old, 0));
  l.set_r(f.rs + 1, half(l, old, 1));
  return Lift::Next;
}

Lift lift_atomic_memory(Lifter& l, const fields::atomic_memory& f) {
  constexpr RmwKind kKinds[8] = {RmwKind::Add,  RmwKind::AndNot, RmwKind::Xor,  RmwKind::Or,
                                 RmwKind::SMax, RmwKind::SMin,   RmwKind::UMax, RmwKind::UMin};
  MemOp m = l.ordered(f.size, order_of(f.acquire, f.release));
  m.rmw = kKinds[f.opc];
  l.set_r(f.rt, l.ir.atomic_rmw(l.x_sp(f.rn), l.r(f.size == 3, f.rs), m));
  return Lift::Next;
}

Lift lift_swp(Lifter& l, const fields::swp& f) {
  MemOp m = l.ordered(f.size, order_of(f.acquire, f.release));
  m.rmw = RmwKind::Swap;
  l.set_r(f.rt, l.ir.atomic_rmw(l.x_sp(f.rn), l.r(f.size == 3, f.rs), m));
  return Lift::Next;
}

}  // namespace kiln::arm
