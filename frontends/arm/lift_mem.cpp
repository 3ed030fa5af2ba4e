// Loads and stores but for atomics and structures.
// A writeback happens after the access, so that a fault leaves the base as it was. Misaligned plain accesses are fine at EL0
// (SCTLR_EL1.A = 0) and where Lifter::plain() does not say otherwise. LDTR/STTR at EL0 are plain accesses.
#include "frontends/arm/base_mem.decode.h"
#include "frontends/arm/operand.h"

namespace kiln::arm {

using ir::MemOp;
using ir::Order;
using ir::Type;
using ir::Value;
using ir::Width;

namespace {

struct Address {
  Value base;
  s64 displacement;
};

/// The opc field of integer accesses.
enum Opc : u32 { kStore = 0, kLoad = 1, kLoadSigned64 = 2, kLoadSigned32 = 3 };

bool is_prefetch(u32 size, u32 opc) { return size == 3 && opc == kLoadSigned64; }
bool is_reserved(u32 size, u32 opc) { return (size == 3 && opc >= 2) || (size == 2 && opc == kLoadSigned32); }

/// One integer access; gives the loaded value for the caller to write.
Value load_integer(Lifter& l, Address a, u32 size, u32 opc, Order order = Order::Relaxed) {
  MemOp m = l.plain(size);
  m.sign_extend = opc >= 2;
  m.order = order;
  if (order != Order::Relaxed) m.align_check = true;  // no FEAT_LSE2
  return l.ir.load(opc == kLoadSigned32 ? Type::I32 : Type::I64, a.base, a.displacement, m);
}

void access_integer(Lifter& l, Address a, u32 size, u32 opc, u32 rt) {
  if (opc == kStore) l.ir.store(a.base, a.displacement, l.x(rt), l.plain(size));
  else l.set_r(rt, load_integer(l, a, size, opc));
}

void access_fp(Lifter& l, Address a, unsigned log_size, bool load, u32 rt) {
  if (load) l.set_v(rt, l.ir.load(Type::V128, a.base, a.displacement, l.plain(log_size)));
  else l.ir.store(a.base, a.displacement, l.v(rt), l.plain(log_size));
}

void write_back(Lifter& l, u32 rn, Address a) { l.set_r_sp(rn, l.ir.add(a.base, l.ir.i64(static_cast<u64>(a.displacement)))); }

/// log2 of the bytes of an FP/SIMD access, or 5 if the encoding is reserved.
unsigned fp_log_size(u32 size, u32 wide) { return !wide ? size : size == 0 ? 4 : 5; }

Value register_address(Lifter& l, u32 rn, u32 rm, u32 option, unsigned shift) {
  return l.ir.add(l.x_sp(rn), extended(l, 1, rm, option, shift));
}

GuestAddr literal(const Lifter& l, u32 imm19) { return l.pc + static_cast<u64>(sign_extend(imm19, 19) * 4); }

enum PairMode : u32 { kNoAllocate = 0, kPost = 1, kOffset = 2, kPre = 3 };

}  // namespace

Lift lift_load_literal(Lifter& l, const fields::load_literal& f) {
  if (f.opc == 3) return Lift::Next;  // PRFM
  const Address a{l.ir.i64(literal(l, f.imm19)), 0};
  l.set_r(f.rt, load_integer(l, a, f.opc == 1 ? 3 : 2, f.opc == 2 ? kLoadSigned64 : kLoad));
  return Lift::Next;
}

Lift lift_load_literal_fp(Lifter& l, const fields::load_literal_fp& f) {
  access_fp(l, {l.ir.i64(literal(l, f.imm19)), 0}, 2 + f.opc, true, f.rt);
  return Lift::Next;
}

Lift lift_pair(Lifter& l, const fields::pair& f) {
  const bool is_signed = f.opc == 1;  // LDPSW
  if (is_signed && (!f.load || f.mode == kNoAllocate)) return Lift::Undefined;
  const u32 size = f.opc == 2 ? 3 : 2;
  const s64 step = 1 << size, offset = sign_extend(f.imm7, 7) * step;
  const Address a{l.x_sp(f.rn), f.mode == kPost ? 0 : offset}, b{a.base, a.displacement + step};
  if (f.load) {
    const u32 opc = is_signed ? kLoadSigned64 : kLoad;
    const Value first = load_integer(l, a, size, opc), second = load_integer(l, b, size, opc);
    l.set_r(f.rt, first);
    l.set_r(f.rt2, second);
  } else {
    access_integer(l, a, size, kStore, f.rt);
    access_integer(l, b, size, kStore, f.rt2);
  }
  if (f.mode == kPost || f.mode == kPre) write_back(l, f.rn, {a.base, offset});
  return Lift::Next;
}

Lift lift_pair_fp(Lifter& l, const fields::pair_fp& f) {
  const unsigned log_size = 2 + f.opc;
  const s64 step = 1 << log_size, offset = sign_extend(f.imm7, 7) * step;
  const Address a{l.x_sp(f.rn), f.mode == kPost ? 0 : offset}, b{a.base, a.displacement + step};
  if (f.load) {
    const Value first = l.ir.load(Type::V128, a.base, a.displacement, l.plain(log_size));
    const Value second = l.ir.load(Type::V128, b.base, b.displacement, l.plain(log_size));
    l.set_v(f.rt, first);
    l.set_v(f.rt2, second);
  } else {
    access_fp(l, a, log_size, false, f.rt);
    access_fp(l, b, log_size, false, f.rt2);
  }
  if (f.mode == kPost || f.mode == kPre) write_back(l, f.rn, {a.base, offset});
  return Lift::Next;
}

Lift lift_ldst_unsigned(Lifter& l, const fields::ldst_unsigned& f) {
  if (is_prefetch(f.size, f.opc)) return Lift::Next;
  if (is_reserved(f.size, f.opc)) return Lift::Undefined;
  access_integer(l, {l.x_sp(f.rn), s64{f.imm12} << f.size}, f.size, f.opc, f.rt);
  return Lift::Next;
}

Lift lift_ldst_unscaled(Lifter& l, const fields::ldst_unscaled& f) {
  if (is_prefetch(f.size, f.opc)) return Lift::Next;
  if (is_reserved(f.size, f.opc)) return Lift::Undefined;
  access_integer(l, {l.x_sp(f.rn), sign_extend(f.imm9, 9)}, f.size, f.opc, f.rt);
  return Lift::Next;
}

Lift lift_ldst_unprivileged(Lifter& l, const fields::ldst_unprivileged& f) {
  if (is_reserved(f.size, f.opc)) return Lift::Undefined;
  const u8 own = l.mmu_index;
  l.mmu_index = l.unprivileged_index;
  access_integer(l, {l.x_sp(f.rn), sign_extend(f.imm9, 9)}, f.size, f.opc, f.rt);
  l.mmu_index = own;
  return Lift::Next;
}

Lift lift_ldst_post(Lifter& l, const fields::ldst_post& f) {
  if (is_reserved(f.size, f.opc)) return Lift::Undefined;
  const Value base = l.x_sp(f.rn);
  access_integer(l, {base, 0}, f.size, f.opc, f.rt);
  write_back(l, f.rn, {base, sign_extend(f.imm9, 9)});
  return Lift::Next;
}

Lift lift_ldst_pre(Lifter& l, const fields::ldst_pre& f) {
  if (is_reserved(f.size, f.opc)) return Lift::Undefined;
  const Address a{l.x_sp(f.rn), sign_extend(f.imm9, 9)};
  access_integer(l, a, f.size, f.opc, f.rt);
  write_back(l, f.rn, a);
  return Lift::Next;
}

Lift lift_ldst_register(Lifter& l, const fields::ldst_register& f) {
  if (!(f.option & 2)) return Lift::Undefined;
  if (is_prefetch(f.size, f.opc)) return Lift::Next;
  if (is_reserved(f.size, f.opc)) return Lift::Undefined;
  access_integer(l, {register_address(l, f.rn, f.rm, f.option, f.s ? f.size : 0), 0}, f.size, f.opc, f.rt);
  return Lift::Next;
}

Lift lift_ldst_unsigned_fp(Lifter& l, const fields::ldst_unsigned_fp& f) {
  const unsigned log_size = fp_log_size(f.size, f.wide);
  if (log_size > 4) return Lift::Undefined;
  access_fp(l, {l.x_sp(f.rn), s64{f.imm12} << log_size}, log_size, f.load, f.rt);
  return Lift::Next;
}

Lift lift_ldst_unscaled_fp(Lifter& l, const fields::ldst_unscaled_fp& f) {
  const unsigned log_size = fp_log_size(f.size, f.wide);
  if (log_size > 4) return Lift::Undefined;
  access_fp(l, {l.x_sp(f.rn), sign_extend(f.imm9, 9)}, log_size, f.load, f.rt);
  return Lift::Next;
}

Lift lift_ldst_post_fp(Lifter& l, const fields::ldst_post_fp& f) {
  const unsigned log_size = fp_log_size(f.size, f.wide);
  if (log_size > 4) return Lift::Undefined;
  const Value base = l.x_sp(f.rn);
  access_fp(l, {base, 0}, log_size, f.load, f.rt);
  write_back(l, f.rn, {base, sign_extend(f.imm9, 9)});
  return Lift::Next;
}

Lift lift_ldst_pre_fp(Lifter& l, const fields::ldst_pre_fp& f) {
  const unsigned log_size = fp_log_size(f.size, f.wide);
  if (log_size > 4) return Lift::Undefined;
  const Address a{l.x_sp(f.rn), sign_extend(f.imm9, 9)};
  access_fp(l, a, log_size, f.load, f.rt);
  write_back(l, f.rn, a);
  return Lift::Next;
}

Lift lift_ldst_register_fp(Lifter& l, const fields::ldst_register_fp& f) {
  const unsigned log_size = fp_log_size(f.size, f.wide);
  if (log_size > 4 || !(f.option & 2)) return Lift::Undefined;
  access_fp(l, {register_address(l, f.rn, f.rm, f.option, f.s ? log_size : 0), 0}, log_size, f.load, f.rt);
  return Lift::Next;
}

Lift lift_ldraa(Lifter& l, const fields::ldraa& f) {
  const Address a{l.x_sp(f.rn), sign_extend(f.s << 9 | f.imm9, 10) * 8};
  access_integer(l, a, 3, kLoad, f.rt);
  if (f.w) write_back(l, f.rn, a);
  return Lift::Next;
}

Lift lift_ldapur(Lifter& l, const fields::ldapur& f) {
  if (is_reserved(f.size, f.opc)) return Lift::Undefined;
  const Address a{l.x_sp(f.rn), sign_extend(f.imm9, 9)};
  if (f.opc == kStore) {
    MemOp m = l.plain(f.size);
    m.order = Order::SeqCst;  // see lift_stlr
    m.align_check = true;
    l.ir.store(a.base, a.displacement, l.x(f.rt), m);
  } else {
    l.set_r(f.rt, load_integer(l, a, f.size, f.opc, Order::Acquire));
  }
  return Lift::Next;
}

}  // namespace kiln::arm
