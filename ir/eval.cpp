// eval_pure(): one pure op on given operands, by the functions of semantics*.h.
#include "ir/eval_internal.h"
#include "ir/semantics.h"

namespace kiln::ir {
namespace {

/// Calls fn.template operator()<T>() with the unsigned type of an integer IR type.
template <class Fn>
auto by_type(Type type, Fn&& fn) {
  switch (type) {
    case Type::I1: return fn.template operator()<bool>();
    case Type::I8: return fn.template operator()<u8>();
    case Type::I16: return fn.template operator()<u16>();
    case Type::I32: return fn.template operator()<u32>();
    default: return fn.template operator()<u64>();
  }
}
/// Only i32 and i64: what most integer ops allow.
template <class Fn>
auto by_int(Type type, Fn&& fn) {
  return type == Type::I32 ? fn.template operator()<u32>() : fn.template operator()<u64>();
}

u64 int_of(Type type, const Datum& d) { return d.i & mask_low(type_bits(type)); }

}  // namespace

bool eval_integer(const Inst& inst, const Type* types, const Datum* args, u64& result) {
  const u64 a = args[0].i, b = args[1].i;
  const auto from_bits = [](Type t, const Datum& d) { return int_of(t, d); };
  switch (inst.op) {
#define KILN_BINARY(name)                                                                                             \
  case Op::name##_:                                                                                                   \
    result = by_int(inst.type, [&]<class T>() -> u64 { return op_##name<T>(static_cast<T>(a), static_cast<T>(b)); }); \
    return true;
    KILN_BINARY(add)
  KILN_BINARY(sub)
  KILN_BINARY(mul) KILN_BINARY(umulh) KILN_BINARY(smulh) KILN_BINARY(udiv) KILN_BINARY(sdiv) KILN_BINARY(urem) KILN_BINARY(srem)
      KILN_BINARY(andn) KILN_BINARY(shl) KILN_BINARY(lshr) KILN_BINARY(ashr) KILN_BINARY(rotr)
#undef KILN_BINARY
#define KILN_UNARY(name) \
  case Op::name##_: result = by_int(inst.type, [&]<class T>() -> u64 { return op_##name<T>(static_cast<T>(a)); }); return true;
          KILN_UNARY(neg) KILN_UNARY(clz) KILN_UNARY(ctz) KILN_UNARY(popcnt) KILN_UNARY(bswap) KILN_UNARY(bitrev)
#undef KILN_UNARY
#define KILN_COMPARE(name)                                                                                               \
  case Op::name##_:                                                                                                      \
    result = by_type(types[0], [&]<class T>() -> u64 {                                                                   \
      if constexpr (std::is_same_v<T, bool>) return op_##name<u8>(static_cast<u8>(-(a & 1)), static_cast<u8>(-(b & 1))); \
      else return op_##name<T>(static_cast<T>(a), static_cast<T>(b));                                                    \
    });                                                                                                                  \
    return true;
              KILN_COMPARE(icmp_eq) KILN_COMPARE(icmp_ne) KILN_COMPARE(icmp_ult) KILN_COMPARE(icmp_ule) KILN_COMPARE(icmp_slt)
                  KILN_COMPARE(icmp_sle)
#undef KILN_COMPARE
                      case Op::iconst_:
    result = inst.imm & mask_low(type_bits(inst.type));
    return true;
    case Op::and_: result = op_and<u64>(a, b) & mask_low(type_bits(inst.type)); return true;
    case Op::or_: result = op_or<u64>(a, b) & mask_low(type_bits(inst.type)); return true;
    case Op::xor_: result = op_xor<u64>(a, b) & mask_low(type_bits(inst.type)); return true;
    case Op::not_: result = op_not<u64>(a) & mask_low(type_bits(inst.type)); return true;
    case Op::extr_:
      result = by_int(inst.type, [&]<class T>() -> u64 { return op_extr<T>(static_cast<T>(a), static_cast<T>(b), inst.imm); });
      return true;
    case Op::zext_: result = int_of(types[0], args[0]); return true;
    case Op::trunc_: result = int_of(inst.type, args[0]); return true;
    case Op::sext_: result = sign_extend(a, type_bits(types[0])) & mask_low(type_bits(inst.type)); return true;
    case Op::ubfx_:
      result = by_int(inst.type, [&]<class T>() -> u64 { return op_ubfx<T>(static_cast<T>(a), inst.imm, inst.imm2); });
      return true;
    case Op::sbfx_:
      result = by_int(inst.type, [&]<class T>() -> u64 { return op_sbfx<T>(static_cast<T>(a), inst.imm, inst.imm2); });
      return true;
    case Op::bfi_:
      result = by_int(inst.type,
                      [&]<class T>() -> u64 { return op_bfi<T>(static_cast<T>(a), static_cast<T>(b), inst.imm, inst.imm2); });
      return true;
    case Op::nzcv_add_:
      result = by_int(types[0], [&]<class T>() -> u64 { return op_nzcv_add<T>(static_cast<T>(a), static_cast<T>(b)); });
      return true;
    case Op::nzcv_sub_:
      result = by_int(types[0], [&]<class T>() -> u64 { return op_nzcv_sub<T>(static_cast<T>(a), static_cast<T>(b)); });
      return true;
    case Op::nzcv_adc_:
      result = by_int(types[0], [&]<class T>() -> u64 {
        return op_nzcv_adc<T>(static_cast<T>(a), static_cast<T>(b), (args[2].i & 1) != 0);
      });
      return true;
    case Op::eimage_add_:
      result = by_width(static_cast<Width>(inst.lane), [&]<class T>(T) { return op_eimage_add(static_cast<T>(a), static_cast<T>(b)); });
      return true;
    case Op::eimage_sub_:
      result = by_width(static_cast<Width>(inst.lane), [&]<class T>(T) { return op_eimage_sub(static_cast<T>(a), static_cast<T>(b)); });
      return true;
    case Op::eimage_logic_:
      result = by_width(static_cast<Width>(inst.lane), [&]<class T>(T) { return op_eimage_logic(static_cast<T>(a)); });
      return true;
    case Op::bitcast_:
      result = from_bits(inst.type == Type::I32 || inst.type == Type::F32 ? Type::I32 : Type::I64, args[0]);
      return true;
    case Op::v_to_f_: result = args[0].v.d[0] & mask_low(type_bits(inst.type)); return true;
    default: return false;
  }
}

bool is_fp_op(Op op) {
  return (op >= Op::fadd_ && op <= Op::fcmp_unord_) || (op >= Op::v_fadd_ && op <= Op::v_fcmpge_) || op == Op::nzcv_fcmp_ ||
         op == Op::eimage_fcmp_;
}

Datum eval_pure(const Inst& inst, const Type* arg_types, const Datum* args) {
  Datum result;
  result.v = V128{};
  if (inst.op == Op::select_) {
    const Datum& chosen = (args[0].i & 1) != 0 ? args[1] : args[2];
    if (is_vector(inst.type)) return chosen;
    result.i = chosen.i & mask_low(type_bits(inst.type));
    return result;
  }
  if (eval_integer(inst, arg_types, args, result.i)) return result;
  if (is_fp_op(inst.op)) return eval_fp(inst, arg_types, args);
  return eval_vector(inst, arg_types, args);
}

}  // namespace kiln::ir
