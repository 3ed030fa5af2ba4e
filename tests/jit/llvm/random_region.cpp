#include "tests/jit/llvm/random_region.h"

#include <string_view>

namespace kiln::test {

using namespace ir;

u64 RandomRegion::interesting_int() {
  static constexpr u64 kNumbers[] = {0,
                                     1,
                                     2,
                                     7,
                                     31,
                                     32,
                                     63,
                                     0x7f,
                                     0x80,
                                     0xff,
                                     0x7fff,
                                     0x8000,
                                     0xffff,
                                     0x7fffffff,
                                     0x80000000,
                                     0xffffffff,
                                     0x100000000,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     ~u64{0}};
  switch (below(3)) {
    case 0: return kNumbers[below(std::size(kNumbers))];
    case 1: return rng_() >> below(64);
    default: return rng_();
  }
}
u64 RandomRegion::interesting_f64() {
  static constexpr u64 kNumbers[] = {0,
                                     0x8000000000000000,
                                     0x3ff0000000000000,
                                     0xbff0000000000000,
                                     0x7ff0000000000000,
                                     0xfff0000000000000,
                                     0x7ff8000000000000,
                                     0xfff8000000001234,
                                     0x7ff0000000000001,
                                     0xfff4000000000000,
                                     1,
                                     0x8000000000000001,
                                     0x000fffffffffffff,
                                     0x0010000000000000,
                                     0x7fefffffffffffff,
                                     0x41dfffffffc00000,
                                     0x41e0000000000000,
                                     0xc1e0000000000000,
                                     0x43e0000000000000,
                                     0xc3e0000000000000,
                                     0x43f0000000000000,
                                     0x3fe0000000000000,
                                     0xbfe0000000000000,
                                     0x4004000000000000,
                                     0x41efffffffe00000,
                                     0x41f0000000000000};
  switch (below(3)) {
    case 0: return kNumbers[below(std::size(kNumbers))];
    case 1: return __builtin_bit_cast(u64, static_cast<double>(static_cast<s64>(rng_()) >> below(60)) / 4);
    default: return rng_();
  }
}
u32 RandomRegion::interesting_f32() {
  static constexpr u32 kNumbers[] = {0,          0x80000000, 0x3f800000, 0xbf800000, 0x7f800000, 0xff800000, 0x7fc00000,
                                     0xffc01234, 0x7f800001, 0xffa00000, 1,          0x80000001, 0x007fffff, 0x00800000,
                                     0x7f7fffff, 0x4f000000, 0xcf000000, 0x4f7fffff, 0x4f800000, 0x5f000000, 0xdf000000,
                                     0x5f800000, 0x3f000000, 0xbf000000, 0x40200000};
  switch (below(3)) {
    case 0: return kNumbers[below(std::size(kNumbers))];
    case 1: return __builtin_bit_cast(u32, static_cast<float>(static_cast<s32>(rng_()) >> below(30)) / 4);
    default: return static_cast<u32>(rng_());
  }
}

Cond RandomRegion::any_cond() { return static_cast<Cond>(below(4) ? below(15) : 16 + below(4)); }

void RandomRegion::fill(TestState& state) {
  for (u64& x : state.x) x = interesting_int();
  for (V128& v : state.v) switch (below(3)) {
      case 0:
        for (u64& d : v.d) d = interesting_f64();
        break;
      case 1:
        for (u32& s : v.s) s = interesting_f32();
        break;
      default:
        for (u64& d : v.d) d = interesting_int();
    }
  state.flags_kind = static_cast<u32>(below(static_cast<u64>(FlagsKind::EResult64) + 1));
  state.flags_a = interesting_int();
  state.flags_b = interesting_int();
  // ARM's kinds of 32 bits keep their operands zero-extended.
  const bool narrow =
      state.flags_kind < static_cast<u32>(FlagsKind::Logic64) && ((state.flags_kind & 1) != 0 || state.flags_kind == 0);
  if (narrow) state.flags_a &= 0xffffffff, state.flags_b &= 0xffffffff;
  state.x[14] = 1 + below(20);
  state.x[15] = Machine::kGuestMemory + 0x4000;
  static constexpr u32 kRounding[] = {0x1f80, 0x3f80, 0x5f80, 0x7f80, 0x9fc0};  // the last: flush to zero, denormals are zero
  state.mxcsr = kRounding[below(std::size(kRounding))];
  state.exit_kind = 0;
}

/// A value of the type: an earlier one, a constant, a register.
Value RandomRegion::pick(Builder& b, Type type) {
  const auto& insts = b.block().insts;
  for (unsigned tries = 0; tries < 12; ++tries) {
    const Value v = static_cast<Value>(insts.size() - 1 - below(std::min<std::size_t>(insts.size(), 40)));
    if (insts[v].type == type && below(4) != 0) return v;
  }
  switch (type) {
    case Type::I1: return b.icmp(Op::icmp_slt_, pick(b, Type::I64), pick(b, Type::I64));
    case Type::I64:
      if (below(4) == 0) return b.i64(interesting_int());
      return b.get_reg(Type::I64, x_offset(static_cast<unsigned>(below(14))));
    case Type::F32: return b.v_to_f(type, b.get_reg(Type::V128, v_offset(static_cast<unsigned>(below(8)))));
    case Type::F64: return b.v_to_f(type, b.get_reg(Type::V128, v_offset(static_cast<unsigned>(below(8)))));
    case Type::V128:
      if (below(8) == 0) return b.vconst(interesting_f64(), interesting_int());
      return b.get_reg(type, v_offset(static_cast<unsigned>(below(8))));
    default: return b.trunc(type, pick(b, Type::I64));
  }
}

bool RandomRegion::emit(Builder& b, Op op) {
  const OpInfo& info = op_info(op);
  const std::string_view name = info.name, signature = info.signature;
  if (info.effects != PURE || signature.find('F') != std::string_view::npos || op == Op::iconst_ || op == Op::vconst_ ||
      op == Op::insn_start_)
    return false;
  const bool vector = name.starts_with("v_");
  const bool floating = !vector && name.starts_with("f");
  auto any_int = [&] { return below(2) ? Type::I64 : Type::I32; };
  auto any_float = [&] { return below(2) ? Type::F64 : Type::F32; };
  Type t = vector ? Type::V128 : floating ? any_float() : any_int(), s = t;
  u64 imm = 0, imm2 = 0;
  unsigned lane = static_cast<unsigned>(below(4));
  if (vector)
    while (!bit(lane_widths(op), lane)) lane = static_cast<unsigned>(below(4));
  static constexpr NanRule kRules[] = {NanRule::ArmPropagate, NanRule::ArmDefault};
  FpOp fp;
  fp.nan = x86_ ? NanRule::X86 : kRules[below(2)];
  bool fp_aux = floating || name.starts_with("v_f");
  switch (op) {
    case Op::and_:
    case Op::or_:
    case Op::xor_:
    case Op::not_:
      if (below(4) == 0) t = Type::I1;
      break;
    case Op::select_: {
      static constexpr Type kTypes[] = {Type::I1, Type::I32, Type::I64, Type::F32, Type::F64, Type::V128};
      t = kTypes[below(6)];
      break;
    }
    case Op::zext_:
    case Op::sext_: {
      static constexpr Type kNarrow[] = {Type::I1, Type::I8, Type::I16, Type::I32};
      s = kNarrow[below(t == Type::I64 ? 4 : 3)];
      break;
    }
    case Op::trunc_: {
      static constexpr Type kNarrow[] = {Type::I1, Type::I8, Type::I16, Type::I32};
      s = any_int();
      t = kNarrow[below(s == Type::I64 ? 4 : 3)];
      break;
    }
    case Op::extr_: imm = below(type_bits(t)); break;
    case Op::ubfx_:
    case Op::sbfx_:
    case Op::bfi_:
      imm = below(type_bits(t));
      imm2 = 1 + below(type_bits(t) - imm);
      break;
    case Op::fcvt_: s = t == Type::F64 ? Type::F32 : Type::F64; break;
    case Op::f_to_int_:
      t = any_int();
      s = any_float();
      fp.is_unsigned = below(2) != 0;
      [[fallthrough]];
    case Op::fround_: {
      static constexpr Round kRounds[] = {Round::Nearest, Round::Up, Round::Down, Round::Zero, Round::Away, Round::Dynamic};
      fp.round = kRounds[below(6)];
      fp.exact = below(2) != 0;
      break;
    }
    case Op::int_to_f_:
      t = any_float();
      s = any_int();
      fp.is_unsigned = below(2) != 0;
      fp_aux = true;
      break;
    case Op::fcmp_eq_:
    case Op::fcmp_lt_:
    case Op::fcmp_le_:
    case Op::fcmp_unord_:
    case Op::nzcv_fcmp_:
    case Op::eimage_fcmp_: s = any_float(); break;
    case Op::icmp_eq_:
    case Op::icmp_ne_:
    case Op::icmp_ult_:
    case Op::icmp_ule_:
    case Op::icmp_slt_:
    case Op::icmp_sle_: s = any_int(); break;
    case Op::bitcast_: {
      static constexpr Type kFrom[] = {Type::I32, Type::I64, Type::F32, Type::F64},
                            kTo[] = {Type::F32, Type::F64, Type::I32, Type::I64};
      const u64 i = below(4);
      s = kFrom[i], t = kTo[i];
      break;
    }
    case Op::v_to_f_: t = any_float(); break;
    case Op::f_to_v_:
      s = any_float();
      t = Type::V128;
      break;
    case Op::v_fcmp_: imm = below(32); break;
    case Op::v_permute_:
    case Op::v_permute_lo_:
    case Op::v_permute_hi_:
    case Op::v_permute2_:
    case Op::v_blend_: imm = below(256); break;
    case Op::v_shl_:
    case Op::v_lshr_:
    case Op::v_ashr_: imm = below(70); break;
    case Op::v_ext_: imm = below(16); break;
    case Op::v_rev_: imm = (2u << lane) << below(4 - lane); break;
    case Op::v_dup_lane_:
    case Op::v_extract_:
    case Op::v_insert_:
    case Op::v_insert_lane_:
      imm = below(16u >> lane);
      imm2 = below(16u >> lane);
      if (op == Op::v_extract_) t = lane == 3 ? Type::I64 : any_int();
      break;
    default: break;
  }
  // An integer argument "I" of a vector op must be wide enough for the lane; the images of x86 flags have it exactly so.
  const Type integer = lane == 3 ? Type::I64 : name.starts_with("eimage") ? Type::I32 : any_int();
  Inst inst;
  inst.op = op;
  inst.type = signature[0] == 'B' ? Type::I1 : signature[0] == 'W' ? Type::I32 : t;
  inst.lane = static_cast<u8>(lane);
  inst.aux = fp_aux ? fp.pack() : name.starts_with("fcmp") ? static_cast<u32>(below(2)) : 0;
  if (op == Op::nzcv_fcmp_ || op == Op::eimage_fcmp_) inst.aux = static_cast<u32>(below(2));
  if (name.starts_with("fcmp") || op == Op::bitcast_) inst.aux &= 1;
  inst.imm = imm;
  inst.imm2 = imm2;
  for (unsigned i = 2; i < signature.size(); ++i) {
    Type type = t;
    switch (signature[i]) {
      case 'T': type = t; break;
      case 'S': type = s; break;
      case 'B': type = Type::I1; break;
      case 'I': type = integer; break;
      case 'L': type = Type::I64; break;
      case 'W': type = Type::I32; break;
      case 'X': type = Type::V128; break;
      default: return false;
    }
    inst.args[i - 2] = pick(b, type);
  }
  b.block().insts.push_back(inst);
  return true;
}

void RandomRegion::emit_memory(Builder& b, unsigned fault_one_in) {
  MemOp m;
  m.width = static_cast<Width>(below(5));
  m.big_endian = below(6) == 0;
  if (below(5) == 0) m.order = Order::SeqCst;
  const s64 displacement = static_cast<s64>(below(256)) - 128;
  Value address = b.get_reg(Type::I64, x_offset(15));
  if (below(2)) address = b.add(address, b.and_(pick(b, Type::I64), b.i64(0xff8)));
  // Now and then outside: the fault must find the exact state.
  if (below(fault_one_in) == 0) address = b.add(address, b.and_(pick(b, Type::I64), b.i64(0x10000)));
  Type type = Type::V128;
  if (m.width < Width::B16 && below(3) != 0) type = m.width == Width::B8 || below(2) ? Type::I64 : Type::I32;
  const bool atomic = is_int(type) && !m.big_endian && below(4) == 0;
  if (atomic) {
    m.order = Order::SeqCst;
    m.rmw = static_cast<RmwKind>(below(10));
    if (below(2)) b.atomic_rmw(address, pick(b, type), m);
    else b.atomic_cas(address, pick(b, type), pick(b, type), m);
  } else if (below(2)) {
    m.sign_extend = is_int(type) && width_bits(m.width) < type_bits(type) && below(2) != 0;
    const Value loaded = b.load(type, address, displacement, m);
    if (type == Type::V128 && below(2)) {  // LLVM makes one instruction of the two
      const u64 slot = v_offset(static_cast<unsigned>(below(8)));
      b.set_reg(slot, b.vec(Op::v_zip_lo_, Width::B4, {b.get_reg(type, slot), loaded}));
    }
  } else {
    b.store(address, displacement, pick(b, type), m);
  }
}

void RandomRegion::fill_block(Builder& b, const RandomOptions& options) {
  const GuestAddr pc = b.block().pc;
  for (unsigned i = 0; i < options.ops_per_block; ++i) {
    b.insn_start(pc + 4 * i, 4);
    if (options.memory && below(options.access_one_in) == 0) emit_memory(b, options.fault_one_in);
    if (options.only != Op::kCount) {
      emit(b, options.only);
    } else {
      while (!emit(b, static_cast<Op>(below(static_cast<u64>(Op::kCount))))) {
      }
    }
    // The result, if it has a slot's type, becomes visible.
    const Value last = static_cast<Value>(b.block().insts.size() - 1);
    switch (b.type_of(last)) {
      case Type::I1:
      case Type::I8:
      case Type::I16:
      case Type::I32: b.set_reg(x_offset(static_cast<unsigned>(below(14))), b.zext(Type::I64, last)); break;
      case Type::I64: b.set_reg(x_offset(static_cast<unsigned>(below(14))), last); break;
      case Type::F32:
      case Type::F64: {
        const u64 slot = v_offset(static_cast<unsigned>(below(8)));
        const Width lane = b.type_of(last) == Type::F64 ? Width::B8 : Width::B4;
        const Value low = b.f_to_v(last);
        b.set_reg(slot, below(2) ? low : b.vec(Op::v_insert_lane_, lane, {b.get_reg(Type::V128, slot), low}));
        break;
      }
      case Type::V128: b.set_reg(v_offset(static_cast<unsigned>(below(8))), last); break;
      default: break;
    }
    if (options.only != Op::kCount) continue;
    const Type t = below(2) ? Type::I64 : Type::I32;
    const Width width = t == Type::I64 ? Width::B8 : static_cast<Width>(below(3));
    switch (below(30)) {
      case 0: b.set_flags(b.flags_sub(pick(b, t), pick(b, t))); break;
      case 1: b.set_flags(b.flags_add(pick(b, t), pick(b, t))); break;
      case 2: b.set_flags(b.flags_logic(pick(b, t))); break;
      case 3: b.set_flags(b.flags_image(pick(b, Type::I32))); break;
      case 4: b.cond(b.get_flags(), any_cond()); break;
      case 5: b.set_reg(x_offset(3), b.zext(Type::I64, b.flags_value(b.get_flags()))); break;
      case 6: b.fence(static_cast<Order>(below(4))); break;
      case 7: b.set_flags(b.eflags_add(width, pick(b, t), pick(b, t))); break;
      case 8: b.set_flags(b.eflags_sub(width, pick(b, t), pick(b, t))); break;
      case 9: b.set_flags(b.eflags_logic(width, pick(b, t))); break;
      case 11: b.set_flags(b.eflags_inc(width, pick(b, t), pick(b, Type::I1))); break;
      case 12: b.set_flags(b.eflags_dec(width, pick(b, t), pick(b, Type::I1))); break;
      case 10: b.set_flags(b.eflags_result(width, pick(b, t), pick(b, Type::I32))); break;
      default: break;
    }
  }
}

std::vector<jit::RegionBlock> RandomRegion::make(const RandomOptions& options) {
  x86_ = below(3) == 0;
  // Block 0 counts fuel (x14); loops go back to it only, so that every run ends.
  std::vector<jit::RegionBlock> blocks(1 + options.blocks);
  {
    jit::RegionBlock& head = blocks[0];
    head.ir.pc = 0x1000;
    head.poll = true;
    Builder b(head.ir);
    b.insn_start(0x1000, 4);
    const Value left = b.sub(b.get_reg(Type::I64, x_offset(14)), b.i64(1));
    b.set_reg(x_offset(14), left);
    b.exit_branch(b.icmp(Op::icmp_eq_, left, b.i64(0)), 0x9000, 0x2000);
    head.not_taken = 1;
  }
  for (unsigned i = 1; i <= options.blocks; ++i) {
    jit::RegionBlock& block = blocks[i];
    block.ir.pc = 0x1000 + 0x1000 * i;
    block.ir.guest_insns = options.ops_per_block;
    Builder b(block.ir);
    fill_block(b, options);
    auto target = [&](int& index) -> GuestAddr {
      const u64 which = below(8);
      if (which == 0) return 0x9100 + 0x10 * i;
      index = which < 4 || i == options.blocks ? 0 : static_cast<int>(i + 1 + below(options.blocks - i));
      return index == 0 ? 0x1000 : 0x1000 + 0x1000 * static_cast<u64>(index);
    };
    switch (below(4)) {
      case 0: b.exit_jump(target(block.taken)); break;
      case 1: {
        int to = -1;
        const GuestAddr pc = target(to);
        const Value c = pick(b, Type::I1);
        b.exit_indirect(b.select(c, b.i64(pc), b.i64(0x9200)));
        block.indirect = {{pc, to}};
        break;
      }
      default: {
        const Value c = below(2) ? b.cond(b.get_flags(), any_cond()) : pick(b, Type::I1);
        const GuestAddr taken = target(block.taken), not_taken = target(block.not_taken);
        // Equal targets cannot be told apart by the interpreter's run; let them agree on the index.
        if (taken == not_taken) block.not_taken = block.taken;
        b.exit_branch(c, taken, not_taken);
      }
    }
  }
  return blocks;
}

}  // namespace kiln::test
