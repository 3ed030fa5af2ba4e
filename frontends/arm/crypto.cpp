// Cryptographic extensions: every row is a pure helper over whole vectors, but for what plain vector ops say.
#include "frontends/arm/crypto.decode.h"
#include "frontends/arm/simd_common.h"
#include "frontends/arm/simd_helpers_crypto.h"

namespace kiln::arm {
namespace {

Value call(Lifter& l, CryptoOp op, std::initializer_list<Value> args) { return l.ir.call(crypto_helper(op), args); }

// What a row's helper takes, by its name.
template <class F>
Lift of_n(Lifter& l, const F& f, CryptoOp op) {
  l.set_v(f.rd, call(l, op, {l.v(f.rn)}));
  return Lift::Next;
}
template <class F>
Lift of_dn(Lifter& l, const F& f, CryptoOp op) {
  l.set_v(f.rd, call(l, op, {l.v(f.rd), l.v(f.rn)}));
  return Lift::Next;
}
template <class F>
Lift of_nm(Lifter& l, const F& f, CryptoOp op) {
  l.set_v(f.rd, call(l, op, {l.v(f.rn), l.v(f.rm)}));
  return Lift::Next;
}
template <class F>
Lift of_dnm(Lifter& l, const F& f, CryptoOp op) {
  l.set_v(f.rd, call(l, op, {l.v(f.rd), l.v(f.rn), l.v(f.rm)}));
  return Lift::Next;
}
template <class F>
Lift of_nma(Lifter& l, const F& f, CryptoOp op) {
  l.set_v(f.rd, call(l, op, {l.v(f.rn), l.v(f.rm), l.v(f.ra)}));
  return Lift::Next;
}

}  // namespace

// clang-format off
#define KILN_ROWS(X)                                                                                                   \
  X(aese, of_dn, AesE) X(aesd, of_dn, AesD) X(aesmc, of_n, AesMc) X(aesimc, of_n, AesImc)                              \
  X(sha1c, of_dnm, Sha1C) X(sha1p, of_dnm, Sha1P) X(sha1m, of_dnm, Sha1M) X(sha1su0, of_dnm, Sha1Su0)                  \
  X(sha1h, of_n, Sha1H) X(sha1su1, of_dn, Sha1Su1)                                                                     \
  X(sha256h, of_dnm, Sha256H) X(sha256h2, of_dnm, Sha256H2) X(sha256su0, of_dn, Sha256Su0) X(sha256su1, of_dnm, Sha256Su1) \
  X(sha512h, of_dnm, Sha512H) X(sha512h2, of_dnm, Sha512H2) X(sha512su0, of_dn, Sha512Su0) X(sha512su1, of_dnm, Sha512Su1) \
  X(sm3partw1, of_dnm, Sm3PartW1) X(sm3partw2, of_dnm, Sm3PartW2) X(sm3ss1, of_nma, Sm3Ss1)                            \
  X(sm4e, of_dn, Sm4E) X(sm4ekey, of_nm, Sm4EKey)
// clang-format on
#define X(row, shape, op) \
  Lift lift_##row(Lifter& l, const fields::row& f) { return shape(l, f, CryptoOp::op); }
KILN_ROWS(X)
#undef X
#undef KILN_ROWS

Lift lift_sm3tt(Lifter& l, const fields::sm3tt& f) {
  const u64 params = f.op | f.imm2 << 2;
  l.set_v(f.rd, call(l, CryptoOp::Sm3Tt, {l.ir.i64(params), l.v(f.rd), l.v(f.rn), l.v(f.rm)}));
  return Lift::Next;
}
Lift lift_eor3(Lifter& l, const fields::eor3& f) {
  l.set_v(f.rd, v_xor(l, v_xor(l, l.v(f.rn), l.v(f.rm)), l.v(f.ra)));
  return Lift::Next;
}
Lift lift_bcax(Lifter& l, const fields::bcax& f) {
  l.set_v(f.rd, v_xor(l, l.v(f.rn), op2(l, Op::v_andn_, Width::B8, l.v(f.rm), l.v(f.ra))));
  return Lift::Next;
}
namespace {
Value rotate_right(Lifter& l, Value v, unsigned n) {
  if (n == 0) return v;
  return v_or(l, op1(l, Op::v_lshr_, Width::B8, v, n), op1(l, Op::v_shl_, Width::B8, v, 64 - n));
}
}  // namespace
Lift lift_rax1(Lifter& l, const fields::rax1& f) {
  l.set_v(f.rd, v_xor(l, l.v(f.rn), rotate_right(l, l.v(f.rm), 63)));
  return Lift::Next;
}
Lift lift_xar(Lifter& l, const fields::xar& f) {
  l.set_v(f.rd, rotate_right(l, v_xor(l, l.v(f.rn), l.v(f.rm)), f.imm6));
  return Lift::Next;
}

}  // namespace kiln::arm
