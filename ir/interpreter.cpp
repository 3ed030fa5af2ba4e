// interpret(): one IR instruction after the other, nothing clever.
#include "ir/interpreter.h"

#include <immintrin.h>

#include <memory>

#include "ir/flags.h"
#include "ir/guest_memory.h"
#include "ir/semantics_fp.h"

namespace kiln::ir {

bool cond_holds(Cond cond, u32 image) {
  const bool n = (image & kN) != 0, z = (image & kZ) != 0, c = (image & kC) != 0, v = (image & kV) != 0;
  switch (cond) {
    case Cond::Eq: return z;
    case Cond::Ne: return !z;
    case Cond::Cs: return c;
    case Cond::Cc: return !c;
    case Cond::Mi: return n;
    case Cond::Pl: return !n;
    case Cond::Vs: return v;
    case Cond::Vc: return !v;
    case Cond::Hi: return c && !z;
    case Cond::Ls: return !c || z;
    case Cond::Ge: return n == v;
    case Cond::Lt: return n != v;
    case Cond::Gt: return !z && n == v;
    case Cond::Le: return z || n != v;
    case Cond::Al: return true;
    case Cond::Be: return c || z;
    case Cond::Nbe: return !c && !z;
    case Cond::Pe: return (image & kP) != 0;
    case Cond::Po: return (image & kP) == 0;
  }
  return true;
}

u32 flags_value(FlagsKind kind, u64 a, u64 b) {
  const u32 a32 = static_cast<u32>(a), b32 = static_cast<u32>(b);
  switch (kind) {
    case FlagsKind::Image: return a32 & kImageBits;
    case FlagsKind::Add32: return op_nzcv_add(a32, b32);
    case FlagsKind::Add64: return op_nzcv_add(a, b);
    case FlagsKind::Sub32: return op_nzcv_sub(a32, b32);
    case FlagsKind::Sub64: return op_nzcv_sub(a, b);
    case FlagsKind::Logic32: return nzcv_logic(a32);
    case FlagsKind::Logic64: return nzcv_logic(a);
    default: break;
  }
  if (!is_x86(kind)) return 0;
  return by_width(width_of(kind), [&]<class T>(T) {
    switch (byte_kind(kind)) {
      case FlagsKind::EAdd8: return op_eimage_add(static_cast<T>(a), static_cast<T>(b));
      case FlagsKind::ESub8: return op_eimage_sub(static_cast<T>(a), static_cast<T>(b));
      case FlagsKind::ELogic8: return op_eimage_logic(static_cast<T>(a));
      case FlagsKind::EInc8: return eimage_inc(static_cast<T>(a), (b & 1) != 0);
      case FlagsKind::EDec8: return eimage_dec(static_cast<T>(a), (b & 1) != 0);
      default: return eimage_result(static_cast<T>(a), b32);
    }
  });
}

namespace {

/// A value of the running block. Flags are {kind, d.i, flags_b}.
struct Cell {
  Datum d;
  u64 flags_b;
  FlagsKind kind;
};

/// The values' store. Not on the stack or in a vector of interpret(): a fault leaves without unwinding.
Cell* cells_for(std::size_t count) {
  thread_local std::unique_ptr<Cell[]> cells;
  thread_local std::size_t size = 0;
  if (size < count) {
    size = count * 2 + 256;
    cells = std::make_unique<Cell[]>(size);
  }
  return cells.get();
}

Datum read_slot(const CpuState* state, Type type, u64 offset) {
  const char* at = reinterpret_cast<const char*>(state) + offset;
  Datum d;
  d.v = V128{};
  std::memcpy(&d, at, type == Type::I1 ? 1 : type_bits(type) / 8);
  return d;
}
void write_slot(CpuState* state, Type type, u64 offset, const Datum& d) {
  std::memcpy(reinterpret_cast<char*>(state) + offset, &d, type == Type::I1 ? 1 : type_bits(type) / 8);
}

/// Integer and vector arguments travel in registers of their own kinds, so one prototype with all of both fits every helper.
__attribute__((no_sanitize("function"))) Datum call_helper(const Block& block, const Inst& inst, const Cell* cells,
                                                           CpuState* state) {
  const Helper& helper = helper_of(inst);
  u64 ints[4] = {};
  __m128i vectors[3] = {};
  unsigned int_count = 0, vector_count = 0, index = 0;
  for_each_arg(block, inst, [&](Value v) {
    const Type type = helper.args[index++];
    if (is_int(type)) ints[int_count++ & 3] = cells[v].d.i;
    else vectors[vector_count++ % 3] = __builtin_bit_cast(__m128i, cells[v].d.v);
  });
  Datum d;
  d.v = V128{};
  if (helper.result == Type::Void || is_int(helper.result)) {
    using Fn = u64 (*)(CpuState*, u64, u64, u64, u64, __m128i, __m128i, __m128i);
    const u64 result = reinterpret_cast<Fn>(const_cast<void*>(helper.function))(state, ints[0], ints[1], ints[2], ints[3],
                                                                                vectors[0], vectors[1], vectors[2]);
    d.i = result & mask_low(type_bits(helper.result));
  } else {
    using Fn = __m128i (*)(CpuState*, u64, u64, u64, u64, __m128i, __m128i, __m128i);
    const __m128i result = reinterpret_cast<Fn>(const_cast<void*>(helper.function))(state, ints[0], ints[1], ints[2], ints[3],
                                                                                    vectors[0], vectors[1], vectors[2]);
    d.v = __builtin_bit_cast(V128, result);
    if (helper.result != Type::V128) d.v = V128{.d = {d.v.d[0] & mask_low(type_bits(helper.result)), 0}};
  }
  return d;
}

void make_flags(const Block& block, const Inst& inst, Cell* cells, Cell& out) {
  const auto arg = [&](unsigned i) -> Cell& { return cells[inst.args[i]]; };
  const auto type = [&](unsigned i) { return block.insts[inst.args[i]].type; };
  const auto set = [&](FlagsKind kind, u64 a, u64 b) {
    out.kind = kind;
    out.d.i = a;
    out.flags_b = b;
  };
  if (makes_record(inst.op)) return set(kind_made_by(inst, type(0)), arg(0).d.i, inst.args[1] == kNoValue ? 0 : arg(1).d.i);
  switch (inst.op) {
    case Op::flags_adc_: {
      const bool carry = (arg(2).d.i & 1) != 0;
      const u64 a = arg(0).d.i, b = arg(1).d.i;
      return set(FlagsKind::Image,
                 type(0) == Type::I64 ? op_nzcv_adc(a, b, carry) : op_nzcv_adc(static_cast<u32>(a), static_cast<u32>(b), carry),
                 0);
    }
    case Op::flags_select_: out = arg((arg(0).d.i & 1) != 0 ? 1 : 2); return;
    case Op::eflags_fcmp_: {
      const bool signalling = (inst.aux & 1) != 0;
      return set(FlagsKind::Image,
                 type(0) == Type::F32 ? op_eimage_fcmp(arg(0).d.f32, arg(1).d.f32, signalling)
                                      : op_eimage_fcmp(arg(0).d.f64, arg(1).d.f64, signalling),
                 0);
    }
    default: {  // flags_fcmp
      const bool signalling = (inst.aux & 1) != 0;
      return set(FlagsKind::Image,
                 type(0) == Type::F32 ? op_nzcv_fcmp(arg(0).d.f32, arg(1).d.f32, signalling)
                                      : op_nzcv_fcmp(arg(0).d.f64, arg(1).d.f64, signalling),
                 0);
    }
  }
}

}  // namespace

static void run(const Block& block, CpuState* state, AccessObserver* observer) {
  Cell* const cells = cells_for(block.insts.size());
  state->exit_kind = static_cast<u32>(ExitKind::None);
  for (Value index = 0; index < block.insts.size(); ++index) {
    const Inst& inst = block.insts[index];
    Cell& out = cells[index];
    const auto arg = [&](unsigned i) -> const Datum& { return cells[inst.args[i]].d; };
    switch (inst.op) {
      case Op::insn_start_: state->pc = inst.imm; break;
      case Op::get_reg_: out.d = read_slot(state, inst.type, inst.imm); break;
      case Op::set_reg_: write_slot(state, block.insts[inst.args[0]].type, inst.imm, arg(0)); break;
      case Op::get_flags_:
        out.kind = static_cast<FlagsKind>(state->flags_kind);
        out.d.i = state->flags_a;
        out.flags_b = state->flags_b;
        break;
      case Op::set_flags_: {
        const Cell& flags = cells[inst.args[0]];
        state->flags_kind = static_cast<u32>(flags.kind);
        state->flags_a = flags.d.i;
        state->flags_b = flags.flags_b;
        break;
      }
      case Op::flags_add_:
      case Op::flags_sub_:
      case Op::flags_adc_:
      case Op::flags_logic_:
      case Op::flags_image_:
      case Op::flags_select_:
      case Op::flags_fcmp_:
      case Op::eflags_add_:
      case Op::eflags_sub_:
      case Op::eflags_logic_:
      case Op::eflags_inc_:
      case Op::eflags_dec_:
      case Op::eflags_result_:
      case Op::eflags_fcmp_: make_flags(block, inst, cells, out); break;
      case Op::flags_value_: {
        const Cell& flags = cells[inst.args[0]];
        out.d.i = flags_value(flags.kind, flags.d.i, flags.flags_b);
        break;
      }
      case Op::cond_: {
        const Cell& flags = cells[inst.args[0]];
        out.d.i = cond_holds(static_cast<Cond>(inst.aux), flags_value(flags.kind, flags.d.i, flags.flags_b));
        break;
      }
      case Op::load_:
      case Op::store_:
      case Op::atomic_rmw_:
      case Op::atomic_cas_: {
        const MemOp m = MemOp::unpack(inst.aux);
        const u64 address = arg(0).i + inst.imm;
        if (m.align_check && (address & (width_bytes(m.width) - 1)) != 0) {
          state->exit_kind = static_cast<u32>(ExitKind::Alignment);
          state->exit_value = address;
          return;
        }
        void* host = reinterpret_cast<void*>(state->memory_base + address);
        if (state->guest_pointer != nullptr) {
          const u32 access = inst.aux | (inst.op == Op::load_ ? 0 : kStoreAccess);
          Datum value;  // as the bytes are to be in memory
          if (inst.op == Op::store_) {
            value = arg(1);
            MemOp plain = m;
            plain.order = Order::Relaxed;
            if (m.big_endian) memory_store(&value, plain, arg(1));
          }
          host = guest_pointer(state, address, access, inst.op == Op::store_ ? &value : nullptr);
        }
        if (observer != nullptr) observer->before_access(host, width_bytes(m.width), inst.op != Op::load_);
        if (inst.op == Op::load_) out.d = memory_load(host, m, inst.type);
        else if (inst.op == Op::store_) memory_store(host, m, arg(1));
        else if (inst.op == Op::atomic_rmw_) out.d.i = memory_rmw(host, m, arg(1).i);
        else out.d = memory_cas(host, m, arg(1), arg(2), inst.type);
        break;
      }
      case Op::fence_: __atomic_thread_fence(__ATOMIC_SEQ_CST); break;
      case Op::trap_if_:
        if ((arg(0).i & 1) == 0) break;
        state->exit_kind = inst.aux;
        state->exit_value = inst.imm;
        return;
      case Op::call_: out.d = call_helper(block, inst, cells, state); break;
      case Op::exit_jump_: state->pc = inst.imm; return;
      case Op::exit_branch_: state->pc = (arg(0).i & 1) != 0 ? inst.imm : inst.imm2; return;
      case Op::exit_indirect_: state->pc = arg(0).i; return;
      case Op::exit_exception_:
        state->pc = inst.imm;
        state->exit_kind = inst.aux;
        state->exit_value = inst.imm2;
        return;
      default: {
        Type types[3] = {};
        Datum args[3];
        for (unsigned i = 0; i < 3 && inst.args[i] != kNoValue; ++i) {
          types[i] = block.insts[inst.args[i]].type;
          args[i] = arg(i);
        }
        out.d = eval_pure(inst, types, args);
      }
    }
  }
}

/// Outside the engine nobody else catches what helpers raise.
[[gnu::noinline]] static void run_alone(const Block& block, CpuState* state, AccessObserver* observer) {
  void* here[5];
  state->host_sp = reinterpret_cast<u64>(here);
  state->leave_helper = [](CpuState* s) __attribute__((noreturn)) { __builtin_longjmp(reinterpret_cast<void**>(s->host_sp), 1); };
  if (__builtin_setjmp(here) == 0) run(block, state, observer);
}

void interpret(const Block& block, CpuState* state, AccessObserver* observer) {
  if (state->in_code != 0) run(block, state, observer);
  else run_alone(block, state, observer);
}

}  // namespace kiln::ir
