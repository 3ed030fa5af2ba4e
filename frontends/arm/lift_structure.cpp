// AdvSIMD structure loads and stores: LD1-LD4, ST1-ST4, LD1R-LD4R. All accesses of an instruction come before its register
// writes.
#include <array>

#include "frontends/arm/base_structure.decode.h"

namespace kiln::arm {

using ir::MemOp;
using ir::Op;
using ir::Type;
using ir::Value;
using ir::Width;

namespace {

using Quad = std::array<Value, 4>;

/// Chunks are not elements: see check_elements().
MemOp chunk(const Lifter& l, Width width) {
  MemOp m = l.plain(static_cast<unsigned>(width));
  m.align_check = false;
  return m;
}

/// Where accesses must be aligned, elements must be to their own size; as all follow each other it is enough to look at the
/// first.
void check_elements(Lifter& l, Width lane, Value base) {
  if (l.check_alignment && lane != Width::B1)
    l.ir.load(lane == Width::B8 ? Type::I64 : Type::I32, base, 0, l.plain(static_cast<unsigned>(lane)));
}

/// OR of table look-ups: byte i of the result is byte source(i) of the concatenation of `from`.
template <class Source>
Value gather(Lifter& l, const Quad& from, unsigned count, Source&& source) {
  Value result = ir::kNoValue;
  for (unsigned k = 0; k < count; ++k) {
    u64 index[2] = {0, 0};
    bool used = false;
    for (unsigned i = 0; i < 16; ++i) {
      const unsigned at = source(i);
      const bool here = at / 16 == k;
      used |= here;
      index[i / 8] |= u64{here ? at % 16 : 0xff} << (8 * (i % 8));
    }
    if (!used) continue;
    const Value part = l.ir.vec(Op::v_tbl_, Width::B1, {from[k], l.ir.vconst(index[0], index[1])});
    result = result == ir::kNoValue ? part : l.ir.vec(Op::v_or_, Width::B8, {result, part});
  }
  return result == ir::kNoValue ? l.ir.vconst(0, 0) : result;
}

/// Memory chunks (16 bytes each) -> registers.
Quad deinterleave(Lifter& l, unsigned elements, unsigned q, Width lane, const Quad& m) {
  auto& ir = l.ir;
  const Value zero = ir.vconst(0, 0);
  const auto even = [&](Value a, Value b) { return ir.vec(Op::v_uzp_even_, lane, {a, b}); };
  const auto odd = [&](Value a, Value b) { return ir.vec(Op::v_uzp_odd_, lane, {a, b}); };
  Quad r{};
  switch (elements) {
    case 2:
      r[0] = even(m[0], q ? m[1] : zero);
      r[1] = odd(m[0], q ? m[1] : zero);
      break;
    case 3: {
      const unsigned bytes = width_bytes(lane);
      for (unsigned e = 0; e < 3; ++e)
        r[e] =
            gather(l, m, q ? 3 : 2, [&](unsigned i) { return !q && i >= 8 ? 0xffu : (i / bytes * 3 + e) * bytes + i % bytes; });
      break;
    }
    case 4: {
      const Value even_low = even(m[0], m[1]), odd_low = odd(m[0], m[1]);
      const Value even_high = q ? even(m[2], m[3]) : zero, odd_high = q ? odd(m[2], m[3]) : zero;
      r[0] = even(even_low, even_high);
      r[1] = even(odd_low, odd_high);
      r[2] = odd(even_low, even_high);
      r[3] = odd(odd_low, odd_high);
      break;
    }
    default: r = m; break;
  }
  return r;
}

/// Registers -> memory chunks (16 bytes each; the last one of three half-filled when q == 0).
Quad interleave(Lifter& l, unsigned elements, unsigned q, Width lane, const Quad& r) {
  auto& ir = l.ir;
  const auto low = [&](Value a, Value b) { return ir.vec(Op::v_zip_lo_, lane, {a, b}); };
  const auto high = [&](Value a, Value b) { return ir.vec(Op::v_zip_hi_, lane, {a, b}); };
  Quad m{};
  switch (elements) {
    case 2:
      m[0] = low(r[0], r[1]);
      if (q) m[1] = high(r[0], r[1]);
      break;
    case 3: {
      const unsigned bytes = width_bytes(lane);
      for (unsigned chunk = 0; chunk < (q ? 3u : 2u); ++chunk)
        m[chunk] = gather(l, r, 3, [&](unsigned i) {
          const unsigned at = chunk * 16 + i, element = at / bytes;
          return element % 3 * 16 + element / 3 * bytes + at % bytes;
        });
      break;
    }
    case 4: {
      const Value a = low(r[0], r[2]), b = low(r[1], r[3]);
      m[0] = low(a, b);
      m[1] = high(a, b);
      if (q) {
        const Value c = high(r[0], r[2]), d = high(r[1], r[3]);
        m[2] = low(c, d);
        m[3] = high(c, d);
      }
      break;
    }
    default: m = r; break;
  }
  return m;
}

/// Post-index: by the register, or by the bytes transferred if that is 31.
void write_back(Lifter& l, u32 rn, Value base, u32 rm, unsigned bytes) {
  l.set_r_sp(rn, l.ir.add(base, rm == 31 ? l.ir.i64(bytes) : l.x(rm)));
}

struct Multiple {
  unsigned registers, elements;  // elements: registers that one structure spans
};
/// By the opcode field; {0, 0} is reserved.
constexpr Multiple kMultiple[16] = {{4, 4}, {}, {4, 1}, {}, {3, 3}, {}, {3, 1}, {1, 1}, {2, 2}, {}, {2, 1}, {}, {}, {}, {}, {}};

/// Gives the bytes transferred, 0 if the encoding is reserved.
unsigned multiple(Lifter& l, u32 q, u32 load, u32 opcode, u32 size, u32 rt, Value base) {
  const auto [registers, elements] = kMultiple[opcode];
  const Width lane = static_cast<Width>(size);
  const unsigned bytes = registers * (q ? 16 : 8);
  // LD1/ST1 go register by register; structures in chunks of sixteen bytes, the last of which may be half.
  const unsigned step = elements == 1 && !q ? 8 : 16, chunks = (bytes + step - 1) / step;
  const auto width = [&](unsigned i) { return bytes - i * step < 16 ? Width::B8 : step == 8 ? Width::B8 : Width::B16; };
  Quad m{};
  check_elements(l, lane, base);
  if (load) {
    for (unsigned i = 0; i < chunks; ++i) m[i] = l.ir.load(Type::V128, base, i * step, chunk(l, width(i)));
    const Quad r = deinterleave(l, elements, q, lane, m);
    for (unsigned i = 0; i < registers; ++i) l.set_v((rt + i) & 31, r[i]);
  } else {
    Quad r{};
    for (unsigned i = 0; i < registers; ++i) r[i] = l.v((rt + i) & 31);
    m = interleave(l, elements, q, lane, r);
    for (unsigned i = 0; i < chunks; ++i) l.ir.store(base, i * step, m[i], chunk(l, width(i)));
  }
  return bytes;
}

bool bad_multiple(u32 q, u32 opcode, u32 size) {
  const Multiple m = kMultiple[opcode];
  return m.registers == 0 || (size == 3 && !q && m.elements != 1);
}

struct Lane {
  unsigned elements = 0;  // 0: reserved
  Width width = Width::B1;
  unsigned index = 0;
  bool replicate = false;
};

Lane lane_of(u32 q, u32 load, u32 r, u32 opcode, u32 s, u32 size) {
  Lane lane;
  const unsigned elements = (opcode & 1) * 2 + r + 1, index = q << 3 | s << 2 | size;
  switch (opcode >> 1) {
    case 0: lane = {elements, Width::B1, index, false}; break;
    case 1:
      if (!(size & 1)) lane = {elements, Width::B2, index >> 1, false};
      break;
    case 2:
      if (size == 0) lane = {elements, Width::B4, index >> 2, false};
      if (size == 1 && !s) lane = {elements, Width::B8, index >> 3, false};
      break;
    default:
      if (load && !s) lane = {elements, static_cast<Width>(size), 0, true};
      break;
  }
  return lane;
}

void access_lane(Lifter& l, const Lane& lane, u32 q, u32 load, u32 rt, Value base) {
  auto& ir = l.ir;
  const unsigned bytes = width_bytes(lane.width);
  const Type type = lane.width == Width::B8 ? Type::I64 : Type::I32;
  if (!load) {
    for (unsigned e = 0; e < lane.elements; ++e)
      ir.store(base, e * bytes, ir.v_extract(type, lane.width, l.v((rt + e) & 31), lane.index),
               l.plain(static_cast<unsigned>(lane.width)));
    return;
  }
  Quad m{};
  for (unsigned e = 0; e < lane.elements; ++e)
    m[e] = ir.load(type, base, e * bytes, l.plain(static_cast<unsigned>(lane.width)));
  for (unsigned e = 0; e < lane.elements; ++e) {
    const unsigned reg = (rt + e) & 31;
    if (lane.replicate) l.set_vq(q, reg, ir.vec(Op::v_dup_, lane.width, {m[e]}));
    else l.set_v(reg, ir.vec(Op::v_insert_, lane.width, {l.v(reg), m[e]}, lane.index));
  }
}

}  // namespace

Lift lift_ldst_multiple(Lifter& l, const fields::ldst_multiple& f) {
  if (bad_multiple(f.q, f.opcode, f.size)) return Lift::Undefined;
  multiple(l, f.q, f.load, f.opcode, f.size, f.rt, l.x_sp(f.rn));
  return Lift::Next;
}

Lift lift_ldst_multiple_post(Lifter& l, const fields::ldst_multiple_post& f) {
  if (bad_multiple(f.q, f.opcode, f.size)) return Lift::Undefined;
  const Value base = l.x_sp(f.rn);
  const unsigned bytes = multiple(l, f.q, f.load, f.opcode, f.size, f.rt, base);
  write_back(l, f.rn, base, f.rm, bytes);
  return Lift::Next;
}

Lift lift_ldst_lane(Lifter& l, const fields::ldst_lane& f) {
  const Lane lane = lane_of(f.q, f.load, f.r, f.opcode, f.s, f.size);
  if (lane.elements == 0) return Lift::Undefined;
  access_lane(l, lane, f.q, f.load, f.rt, l.x_sp(f.rn));
  return Lift::Next;
}

Lift lift_ldst_lane_post(Lifter& l, const fields::ldst_lane_post& f) {
  const Lane lane = lane_of(f.q, f.load, f.r, f.opcode, f.s, f.size);
  if (lane.elements == 0) return Lift::Undefined;
  const Value base = l.x_sp(f.rn);
  access_lane(l, lane, f.q, f.load, f.rt, base);
  write_back(l, f.rn, base, f.rm, lane.elements * width_bytes(lane.width));
  return Lift::Next;
}

}  // namespace kiln::arm
