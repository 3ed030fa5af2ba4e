#include "tests/ir/random_ir.h"

#include "ir/semantics_fp.h"

namespace kiln::test {

using namespace ir;

u64 boundary_integer(Random& random, unsigned bits) {
  u64 value;
  switch (random.below(8)) {
    case 0: value = random.below(4); break;
    case 1: value = ~u64{0} - random.below(4); break;
    case 2: value = (u64{1} << random.below(64)) + random.below(3) - 1; break;
    case 3: value = mask_low(1 + random.below(64)) << random.below(64); break;
    case 4: value = (random.next() & 0xff) * 0x0101010101010101ull; break;
    case 5: value = static_cast<u64>(static_cast<s64>(static_cast<s32>(random.next()))); break;
    case 6: value = (u64{1} << (bits - 1)) + random.below(3) - 1; break;
    default: value = random.next();
  }
  return value & mask_low(bits);
}

u64 boundary_float(Random& random, unsigned bits) {
  const unsigned mantissa = bits == 32 ? 23 : 52;
  const u64 exponent_mask = (mask_low(bits - 1) >> mantissa) << mantissa;
  const u64 sign = random.below(2) ? u64{1} << (bits - 1) : 0;
  const u64 quiet = u64{1} << (mantissa - 1);
  const u64 bias = (u64{1} << (bits - mantissa - 2)) - 1;
  const u64 fraction = random.chance(30) ? 0 : random.next() & mask_low(mantissa);
  switch (random.below(12)) {
    case 0: return sign;
    case 1: return sign | (1 + random.below(3));                 // least denormals
    case 2: return sign | (random.next() & mask_low(mantissa));  // denormal
    case 3: return sign | exponent_mask;                         // infinity
    case 4: return sign | exponent_mask | quiet | (random.next() & (quiet - 1));
    case 5: return sign | exponent_mask | 1 | (random.next() & (quiet - 1));       // signalling
    case 6: return sign | (u64{1} << mantissa) | random.below(2);                  // least normals
    case 7: return sign | (exponent_mask - 1 - random.below(2));                   // greatest
    case 8: return sign | ((bias + random.below(3) - 1) << mantissa) | fraction;   // around one
    case 9: return sign | ((bias + 28 + random.below(8)) << mantissa) | fraction;  // around 2^31
    case 10: return sign | ((bias + (bits == 64 ? 50 : 20) + random.below(16)) << mantissa) | fraction;
    default: return sign | ((bias + random.below(200) % (bits == 64 ? 200 : 120)) << mantissa) | fraction;
  }
}

Datum boundary_datum(Random& random, Type type, bool float_lanes) {
  Datum d;
  d.v = V128{};
  if (type == Type::V128) {
    for (unsigned i = 0; i < 2; ++i) {
      if (!float_lanes) d.v.d[i] = random.chance(50) ? random.next() : boundary_integer(random, 64);
      else if (random.below(2)) d.v.d[i] = boundary_float(random, 64);
      else d.v.d[i] = boundary_float(random, 32) | boundary_float(random, 32) << 32;
    }
  } else if (is_float(type)) {
    d.i = boundary_float(random, type_bits(type));
  } else {
    d.i = boundary_integer(random, type_bits(type));
  }
  return d;
}

std::vector<Op> value_ops() {
  std::vector<Op> ops;
  for (unsigned i = 0; i < static_cast<unsigned>(Op::kCount); ++i) {
    const Op op = static_cast<Op>(i);
    const OpInfo& info = op_info(op);
    if (info.effects != PURE || info.signature[0] == '-' || info.signature[0] == 'F' || std::strchr(info.signature, 'F'))
      continue;
    ops.push_back(op);
  }
  return ops;
}

namespace {
constexpr Type kWords[] = {Type::I32, Type::I64};
constexpr Type kFloats[] = {Type::F32, Type::F64};
constexpr Type kInts[] = {Type::I1, Type::I8, Type::I16, Type::I32, Type::I64};

FpOp random_fp(Random& random, Op op) {
  FpOp f;
  constexpr NanRule kRules[] = {NanRule::ArmPropagate, NanRule::ArmPropagate, NanRule::ArmDefault, NanRule::X86};
  f.nan = random.pick(kRules);
  f.round = Round::Dynamic;
  if (op == Op::fround_ || op == Op::f_to_int_ || op == Op::v_fround_ || op == Op::v_f_to_int_ || op == Op::v_f_to_int_narrow_) {
    constexpr Round kRounds[] = {Round::Nearest, Round::Up, Round::Down, Round::Zero, Round::Away, Round::Dynamic};
    f.round = random.pick(kRounds);
  }
  f.exact = (op == Op::fround_ || op == Op::v_fround_) && random.below(2);
  const bool with_int = op == Op::f_to_int_ || op == Op::int_to_f_ || op == Op::v_f_to_int_ || op == Op::v_int_to_f_;
  f.is_unsigned = with_int && random.below(2);
  if (f.nan == NanRule::X86 && (op == Op::fma_ || op == Op::v_fma_)) f.negate = static_cast<u8>(random.below(4));
  if (f.nan != NanRule::X86 && random.below(2)) f.underflow = static_cast<Underflow>(random.below(4));
  return f;
}

Type result_type(Random& random, Op op) {
  if (op == Op::iconst_) return random.pick(kInts);
  if (op == Op::select_) {
    constexpr Type kTypes[] = {Type::I1, Type::I32, Type::I64, Type::F32, Type::F64, Type::V128};
    return random.pick(kTypes);
  }
  if (op == Op::and_ || op == Op::or_ || op == Op::xor_ || op == Op::not_) {
    constexpr Type kTypes[] = {Type::I1, Type::I32, Type::I64};
    return random.pick(kTypes);
  }
  if ((op >= Op::fadd_ && op <= Op::fcvt_) || op == Op::int_to_f_ || op == Op::v_to_f_) return random.pick(kFloats);
  if (op == Op::bitcast_) {
    constexpr Type kTypes[] = {Type::I32, Type::I64, Type::F32, Type::F64};
    return random.pick(kTypes);
  }
  if (op == Op::v_extract_) return random.pick(kWords);
  if (op == Op::vconst_ || op == Op::f_to_v_ || (op >= Op::v_low64_ && op <= Op::v_fcmpge_)) return Type::V128;
  return random.pick(kWords);
}

/// Type of an argument whose letter is S.
Type free_type(Random& random, Op op, Type& result) {
  switch (op) {
    case Op::zext_:
    case Op::sext_: {
      if (random.chance(20)) result = Type::I16;
      Type from;
      do from = random.pick(kInts);
      while (type_bits(from) >= type_bits(result));
      return from;
    }
    case Op::trunc_: {
      Type from;
      do {
        result = random.pick(kInts);
        from = random.pick(kInts);
      } while (type_bits(from) <= type_bits(result));
      return from;
    }
    case Op::fcvt_: return result == Type::F32 ? Type::F64 : Type::F32;
    case Op::int_to_f_: return random.pick(kWords);
    case Op::bitcast_:
      switch (result) {
        case Type::I32: return Type::F32;
        case Type::I64: return Type::F64;
        case Type::F32: return Type::I32;
        default: return Type::I64;
      }
    case Op::icmp_eq_:
    case Op::icmp_ne_:
    case Op::icmp_ult_:
    case Op::icmp_ule_:
    case Op::icmp_slt_:
    case Op::icmp_sle_: return random.chance(20) ? random.pick(kInts) : random.pick(kWords);
    default: return random.pick(kFloats);  // f_to_int, fcmp_*, nzcv_fcmp, f_to_v
  }
}
}  // namespace

OpCase random_case(Random& random, Op op) {
  OpCase c;
  Inst& inst = c.inst;
  inst.op = op;
  const char* signature = op_info(op).signature;
  inst.type = signature[0] == 'B'   ? Type::I1
              : signature[0] == 'W' ? Type::I32
              : signature[0] == 'L' ? Type::I64
                                    : result_type(random, op);
  if (op >= Op::v_low64_ && op <= Op::v_fcmpge_) {
    do inst.lane = static_cast<u8>(random.below(4));
    while (!bit(lane_widths(op), inst.lane));
    if (op == Op::v_extract_ && inst.lane == 3) inst.type = Type::I64;
  }
  const bool x86_image = op >= Op::eimage_add_ && op <= Op::eimage_logic_;
  if (x86_image) inst.lane = static_cast<u8>(random.below(4));
  Type free = Type::Void, word = Type::Void;
  for (const char* s = signature + 2; *s; ++s) {
    Type t;
    switch (*s) {
      case 'B': t = Type::I1; break;
      case 'L': t = Type::I64; break;
      case 'W': t = Type::I32; break;
      case 'X': t = Type::V128; break;
      case 'I':
        if (word == Type::Void) word = inst.lane == 3 ? Type::I64 : x86_image ? Type::I32 : random.pick(kWords);
        t = word;
        break;
      case 'S':
        if (free == Type::Void) free = free_type(random, op, inst.type);
        t = free;
        break;
      default: t = inst.type;
    }
    inst.args[c.args.size()] = static_cast<Value>(c.args.size());
    c.args.push_back(t);
  }
  const unsigned bits = type_bits(inst.type), lanes = 16u >> inst.lane;
  switch (op) {
    case Op::iconst_: inst.imm = boundary_integer(random, bits); break;
    case Op::vconst_:
      inst.imm = boundary_integer(random, 64);
      inst.imm2 = boundary_integer(random, 64);
      break;
    case Op::extr_: inst.imm = random.below(bits); break;
    case Op::ubfx_:
    case Op::sbfx_:
    case Op::bfi_:
      inst.imm = random.below(bits);
      inst.imm2 = 1 + random.below(bits - static_cast<unsigned>(inst.imm));
      break;
    case Op::v_shl_:
    case Op::v_lshr_:
    case Op::v_ashr_: inst.imm = random.below(random.chance(10) ? 256 : (8u << inst.lane) + 2); break;
    case Op::f_to_int_: inst.imm = random.chance(50) ? 0 : random.below(bits + 1); break;
    case Op::v_f_to_int_: inst.imm = random.chance(50) ? 0 : random.below((8u << inst.lane) + 1); break;
    case Op::v_fcmp_: inst.imm = random.below(32); break;
    case Op::v_ext_: inst.imm = random.below(16); break;
    case Op::v_permute_:
    case Op::v_permute_lo_:
    case Op::v_permute_hi_:
    case Op::v_permute2_:
    case Op::v_blend_: inst.imm = random.below(256); break;
    case Op::v_rev_: {
      const unsigned bytes = 1u << inst.lane;
      do inst.imm = u64{2} << random.below(4);
      while (inst.imm < bytes);
      break;
    }
    case Op::v_insert_lane_: inst.imm2 = random.below(lanes); [[fallthrough]];
    case Op::v_dup_lane_:
    case Op::v_extract_:
    case Op::v_insert_: inst.imm = random.below(lanes); break;
    default: break;
  }
  if ((op >= Op::fadd_ && op <= Op::int_to_f_) || (op >= Op::v_fadd_ && op <= Op::v_fnarrow_))
    inst.aux = random_fp(random, op).pack();
  if ((op >= Op::fcmp_eq_ && op <= Op::fcmp_unord_) || op == Op::nzcv_fcmp_ || op == Op::eimage_fcmp_)
    inst.aux = random.below(2);
  return c;
}

// --- machine ---------------------------------------------------------------------------------------------------------
namespace {
Machine* observer = nullptr;  // the machine that runs; helpers get only the CpuState
}
void observe_into(Machine* machine) { observer = machine; }

Machine::Machine() : memory(kTestMemory + 64) {
  const std::size_t size = kJumpCacheBytes + sizeof(TestState) + 64;
  storage = std::make_unique<u8[]>(size);
  state = reinterpret_cast<TestState*>(align_up(reinterpret_cast<u64>(storage.get()) + kJumpCacheBytes, 64));
  std::memset(static_cast<void*>(state), 0, sizeof *state);
  state->memory_base = reinterpret_cast<u64>(memory.data());
  state->mxcsr = 0x1f80;
  for (std::size_t i = 0; i < kJumpCacheEntries; ++i) state->jump_cache()[i].pc = empty_jump_cache_pc(i);
}
Machine::Machine(const Machine& other) : Machine() {
  std::memcpy(static_cast<void*>(state), static_cast<const void*>(other.state), sizeof *state);
  memory = other.memory;
  observed = other.observed;
  state->memory_base = reinterpret_cast<u64>(memory.data());
}

void randomise(Machine& machine, Random& random) {
  TestState& s = *machine.state;
  for (u64& x : s.x) x = boundary_integer(random, 64);
  for (u32& w : s.w) w = static_cast<u32>(boundary_integer(random, 32));
  for (V128& v : s.v) v = boundary_datum(random, Type::V128, random.below(2)).v;
  for (u8& b : machine.memory) b = static_cast<u8>(random.next());
  s.flags_kind = random.below(static_cast<u32>(FlagsKind::EResult64) + 1);
  const bool wide = s.flags_kind == static_cast<u32>(FlagsKind::Add64) || s.flags_kind == static_cast<u32>(FlagsKind::Sub64) ||
                    s.flags_kind >= static_cast<u32>(FlagsKind::Logic64);
  s.flags_a = boundary_integer(random, wide ? 64 : 32);
  s.flags_b = boundary_integer(random, wide ? 64 : 32);
  s.mxcsr = 0x1f80 | random.below(4) << 13;
  if (random.chance(25)) s.mxcsr |= host::kDaz | host::kFtz;
}

void suit_mxcsr(const Block& block, Machine& machine) {
  for (const Inst& inst : block.insts) {
    const bool operand = inst.op == Op::fflush_ || inst.op == Op::v_fflush_;
    if (!operand && (!may_be_tiny(inst) || FpOp::unpack(inst.aux).underflow < Underflow::Flush)) continue;
    machine.state->mxcsr = (machine.state->mxcsr & ~host::kFtz) | host::kDaz;
    if (!operand && FpOp::unpack(inst.aux).underflow == Underflow::Flush) machine.state->mxcsr |= host::kInexact;
  }
}

std::string difference(const Machine& a, const Machine& b) {
  const TestState &s = *a.state, &t = *b.state;
  const auto differs = [](const std::string& what, u64 x, u64 y) {
    char text[80];
    std::snprintf(text, sizeof text, ": %llx != %llx", static_cast<unsigned long long>(x), static_cast<unsigned long long>(y));
    return what + text;
  };
  for (unsigned i = 0; i < 8; ++i)
    if (s.x[i] != t.x[i]) return differs("x" + std::to_string(i), s.x[i], t.x[i]);
  for (unsigned i = 0; i < 4; ++i)
    if (s.w[i] != t.w[i]) return differs("w" + std::to_string(i), s.w[i], t.w[i]);
  for (unsigned i = 0; i < 6; ++i)
    for (unsigned j = 0; j < 2; ++j)
      if (s.v[i].d[j] != t.v[i].d[j])
        return differs("v" + std::to_string(i) + "." + std::to_string(j), s.v[i].d[j], t.v[i].d[j]);
  const u32 flags_s = flags_value(static_cast<FlagsKind>(s.flags_kind), s.flags_a, s.flags_b);
  const u32 flags_t = flags_value(static_cast<FlagsKind>(t.flags_kind), t.flags_a, t.flags_b);
  if (flags_s != flags_t) return differs("flags", flags_s, flags_t);
  if (s.pc != t.pc) return differs("pc", s.pc, t.pc);
  if (s.exit_kind != t.exit_kind) return differs("exit_kind", s.exit_kind, t.exit_kind);
  if (s.exit_kind != 0 && s.exit_value != t.exit_value) return differs("exit_value", s.exit_value, t.exit_value);
  // Without DAZ nobody cares which operands were denormal.
  const u32 ignored = (s.mxcsr & host::kDaz) ? 0 : host::kDenormal;
  if ((s.mxcsr & ~ignored) != (t.mxcsr & ~ignored)) return differs("mxcsr", s.mxcsr, t.mxcsr);
  if (a.memory != b.memory) return "memory";
  if (a.observed != b.observed) return "state seen by a helper";
  return {};
}

void run_interpreter(const Block& block, Machine& machine) {
  const u32 saved = host::mxcsr();
  observer = &machine;
  host::set_mxcsr(machine.state->mxcsr);
  interpret(block, machine.state);
  machine.state->mxcsr = host::mxcsr();
  host::set_mxcsr(saved);
  observer = nullptr;
}

// --- helpers ---------------------------------------------------------------------------------------------------------
namespace {
u64 hash_state(const TestState& s) {
  u64 h = flags_value(static_cast<FlagsKind>(s.flags_kind), s.flags_a, s.flags_b) ^ s.pc * 3;
  const auto add = [&](u64 value) { h = (h ^ value) * 0x9e3779b97f4a7c15ull, h ^= h >> 29; };
  for (u64 x : s.x) add(x);
  for (u32 w : s.w) add(w);
  for (const V128& v : s.v) add(v.d[0]), add(v.d[1]);
  return h;
}
void observe(CpuState* state) {
  if (observer) observer->observed.push_back(hash_state(*static_cast<TestState*>(state)));
}
void scramble(CpuState* state, u64 by) {
  TestState& s = *static_cast<TestState*>(state);
  s.x[by & 7] += by;
  s.v[by % 6].d[1] ^= by;
  s.flags_kind = static_cast<u32>(FlagsKind::Image);
  s.flags_a = by;
}
void refuse(CpuState* state, u64 by) {
  if (by % 8 == 3) raise(state, ExitKind::Trap, by);
}
u64 mix(CpuState*, u64 a, u64 b) { return (a ^ b) * 0x9e3779b97f4a7c15ull; }
}  // namespace

const Helper kObserve{"observe", reinterpret_cast<const void*>(&observe), Type::Void, {}, READS_STATE | WRITES_MEM};
const Helper kScramble{
    "scramble", reinterpret_cast<const void*>(&scramble), Type::Void, {Type::I64}, READS_STATE | WRITES_STATE};
const Helper kRefuse{"refuse", reinterpret_cast<const void*>(&refuse), Type::Void, {Type::I64}, MAY_FAULT};
const Helper kMix{"mix", reinterpret_cast<const void*>(&mix), Type::I64, {Type::I64, Type::I64}, PURE};

// --- blocks ----------------------------------------------------------------------------------------------------------
namespace {

class Generator {
 public:
  Generator(Random& random, const BlockShape& shape) : random_(random), shape_(shape), ir_(block_) {
    for (Op op : value_ops())
      if (shape.floating_point || !is_floating(op)) ops_.push_back(op);
  }
  Block run() {
    block_.pc = 0x1000;
    block_.guest_insns = 1;
    for (unsigned i = 0; i < shape_.insts; ++i) step(i);
    finish();
    return block_;
  }

 private:
  static bool is_floating(Op op) {
    return (op >= Op::fadd_ && op <= Op::fcmp_unord_) || (op >= Op::v_fadd_ && op <= Op::v_fcmpge_) || op == Op::nzcv_fcmp_ ||
           op == Op::eimage_fcmp_;
  }
  /// A value of the type: mostly a recent one, else a slot or a constant.
  Value value(Type type) {
    if (random_.chance(75)) {
      for (unsigned attempt = 0; attempt < 12 && !block_.insts.empty(); ++attempt) {
        const unsigned back = random_.below(std::min<unsigned>(static_cast<unsigned>(block_.insts.size()), 24));
        const Value v = static_cast<Value>(block_.insts.size() - 1 - back);
        if (block_.insts[v].type == type) return v;
      }
    }
    switch (type) {
      case Type::I64:
        return random_.chance(60) ? ir_.get_reg(type, x_offset(random_.below(8))) : ir_.i64(boundary_integer(random_, 64));
      case Type::I32:
        return random_.chance(60) ? ir_.get_reg(type, w_offset(random_.below(4))) : ir_.i32(boundary_integer(random_, 32));
      case Type::V128:
        return random_.chance(80) ? ir_.get_reg(type, v_offset(random_.below(6))) : ir_.vconst(random_.next(), random_.next());
      case Type::F32:
      case Type::F64: return ir_.v_to_f(type, value(Type::V128));
      case Type::I1:
        return random_.chance(70) ? ir_.icmp(Op::icmp_ult_, value(Type::I64), value(Type::I64)) : ir_.i1(random_.below(2));
      case Type::Flags: return flags();
      default: return ir_.trunc(type, value(Type::I64));
    }
  }
  Value flags() {
    const Type word = random_.below(2) ? Type::I64 : Type::I32;
    const Width width = word == Type::I64 ? Width::B8 : static_cast<Width>(random_.below(3));
    switch (random_.below(shape_.floating_point ? 15 : 13)) {
      case 0: return ir_.get_flags();
      case 1: return ir_.flags_add(value(word), value(word));
      case 2: return ir_.flags_sub(value(word), value(word));
      case 3: return ir_.flags_adc(value(word), value(word), value(Type::I1));
      case 4: return ir_.flags_logic(value(word));
      case 5: return ir_.flags_image(random_.chance(70) ? ir_.i32(random_.next() & 0xf0000000u) : value(Type::I32));
      case 6: return ir_.flags_select(value(Type::I1), value(Type::Flags), value(Type::Flags));
      case 7: return ir_.eflags_add(width, value(word), value(word));
      case 8: return ir_.eflags_sub(width, value(word), value(word));
      case 9: return ir_.eflags_logic(width, value(word));
      case 10: return ir_.eflags_result(width, value(word), random_.below(2) ? value(Type::I32) : carry_image());
      case 11: return ir_.eflags_inc(width, value(word), value(Type::I1));
      case 12: return ir_.eflags_dec(width, value(word), value(Type::I1));
      case 13: {
        const Type f = random_.below(2) ? Type::F32 : Type::F64;
        return ir_.eflags_fcmp(value(f), value(f), random_.below(2));
      }
      default: {
        const Type f = random_.below(2) ? Type::F32 : Type::F64;
        return ir_.flags_fcmp(value(f), value(f), random_.below(2));
      }
    }
  }
  /// As lifters of INC and ADC make it.
  Value carry_image() {
    const Value carry = ir_.shl(ir_.zext(Type::I32, value(Type::I1)), ir_.i32(29));
    return random_.below(2) ? carry : ir_.or_(carry, ir_.shl(ir_.zext(Type::I32, value(Type::I1)), ir_.i32(28)));
  }
  Value address() { return ir_.and_(value(Type::I64), ir_.i64(0x7f8)); }
  MemOp memory(Width width) {
    MemOp m;
    m.width = width;
    m.big_endian = random_.chance(10);
    m.sign_extend = width < Width::B8 && random_.chance(30);
    m.align_check = shape_.traps && random_.chance(10);
    return m;
  }
  void memory_op() {
    Value at = address();
    if (random_.below(2)) at = ir_.add(at, ir_.i64(random_.below(512)));
    const s64 displacement = random_.below(256);
    switch (random_.below(6)) {
      case 0: ir_.load(Type::I64, at, displacement, memory(static_cast<Width>(random_.below(4)))); break;
      case 1: ir_.load(Type::I32, at, displacement, memory(static_cast<Width>(random_.below(3)))); break;
      case 2: ir_.load(Type::V128, at, displacement, memory(Width::B16)); break;
      case 3: ir_.store(at, displacement, value(Type::I64), memory(static_cast<Width>(random_.below(4)))); break;
      case 4: ir_.store(at, displacement, value(Type::V128), memory(Width::B16)); break;
      default: {
        MemOp m = memory(static_cast<Width>(random_.below(4)));
        m.sign_extend = false;
        m.big_endian = m.big_endian && shape_.big_endian_atomics;
        m.rmw = static_cast<RmwKind>(random_.below(10));
        if (random_.below(2)) ir_.atomic_rmw(at, value(Type::I64), m);
        else ir_.atomic_cas(at, value(Type::I64), value(Type::I64), m);
      }
    }
  }
  /// Rarely taken, so that the rest of the block is seen too.
  void trap() {
    const Value seldom = ir_.icmp(Op::icmp_eq_, ir_.and_(value(Type::I64), ir_.i64(7)), ir_.i64(random_.below(8)));
    ir_.trap_if(random_.chance(80) ? seldom : value(Type::I1), ExitKind::Trap, random_.next());
  }
  void step(unsigned number) {
    const unsigned dice = random_.below(100);
    if (number % 4 == 0) ir_.insn_start(0x1000 + number, 4);
    if (dice < 12) ir_.set_reg(x_offset(random_.below(8)), value(Type::I64));
    else if (dice < 16) ir_.set_reg(w_offset(random_.below(4)), value(Type::I32));
    else if (dice < 22) ir_.set_reg(v_offset(random_.below(6)), value(Type::V128));
    else if (dice < (shape_.traps ? 29u : 30u)) memory_op();
    else if (dice < 30) trap();
    else if (dice < 42 && shape_.flags) ir_.set_flags(value(Type::Flags));
    else if (dice < 54 && shape_.flags)
      ir_.set_reg(x_offset(random_.below(8)), ir_.zext(Type::I64, ir_.cond(value(Type::Flags), condition())));
    else if (dice < 56 && shape_.flags) ir_.set_reg(w_offset(random_.below(4)), ir_.flags_value(value(Type::Flags)));
    else if (dice < 60 && shape_.calls) call();
    else pure();
  }
  Cond condition() {
    return random_.chance(75) ? static_cast<Cond>(random_.below(15)) : static_cast<Cond>(16 + random_.below(4));
  }
  void call() {
    switch (random_.below(shape_.traps ? 5 : 4)) {
      case 4: ir_.call(kRefuse, {value(Type::I64)}); break;
      case 0: ir_.call(kScramble, {value(Type::I64)}); break;
      case 1: ir_.call(kMix, {value(Type::I64), value(Type::I64)}); break;
      default: ir_.call(kObserve); break;
    }
  }
  void pure() {
    const OpCase c = random_case(random_, ops_[random_.below(static_cast<unsigned>(ops_.size()))]);
    Inst inst = c.inst;
    for (std::size_t i = 0; i < c.args.size(); ++i) inst.args[i] = value(c.args[i]);
    block_.insts.push_back(inst);
  }
  void finish() {
    switch (random_.below(4)) {
      case 0: ir_.exit_jump(0x2000); break;
      case 1: ir_.exit_branch(value(Type::I1), 0x2000, 0x3000); break;
      case 2: {
        const Value c = ir_.cond(ir_.get_flags(), condition());
        ir_.exit_branch(c, 0x2000, 0x3000);
        break;
      }
      default: ir_.exit_indirect(value(Type::I64)); break;
    }
  }

  Random& random_;
  BlockShape shape_;
  Block block_;
  Builder ir_;
  std::vector<Op> ops_;
};

}  // namespace

Block random_block(Random& random, const BlockShape& shape) { return Generator(random, shape).run(); }

}  // namespace kiln::test
