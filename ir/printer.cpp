// print(): one instruction a line, "%index: type = op.lane %a, %b imm=… imm2=… aux=… ; comment".
#include <cstdio>

#include "ir/block.h"
#include "ir/text.h"

namespace kiln::ir {
namespace {

std::string hex(u64 value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
  return text;
}

std::string describe_memory(u32 aux) {
  const MemOp m = MemOp::unpack(aux);
  static constexpr const char* kOrders[] = {"", " acquire", " release", " seq_cst"};
  static constexpr const char* kKinds[] = {"add", "and", "andnot", "or", "xor", "smax", "smin", "umax", "umin", "swap"};
  std::string text = "b" + std::to_string(width_bytes(m.width));
  if (m.sign_extend) text += " sign";
  if (m.big_endian) text += " big";
  if (m.align_check) text += " aligned";
  text += kOrders[static_cast<unsigned>(m.order)];
  if (m.mmu_index) text += " mmu" + std::to_string(m.mmu_index);
  const auto kind = static_cast<unsigned>(m.rmw);
  if (kind != 0 && kind < std::size(kKinds)) text += std::string(" ") + kKinds[kind];
  return text;
}

/// What the numbers of an instruction say, for the reader; the parser skips it.
std::string comment(const Inst& inst) {
  switch (inst.op) {
    case Op::cond_: return cond_name(static_cast<Cond>(inst.aux));
    case Op::load_:
    case Op::store_:
    case Op::atomic_rmw_:
    case Op::atomic_cas_: return describe_memory(inst.aux);
    case Op::exit_jump_:
    case Op::exit_indirect_:
      return inst.lane == static_cast<u8>(ExitHint::Call)     ? "call"
             : inst.lane == static_cast<u8>(ExitHint::Return) ? "return"
                                                              : "";
    default: return "";
  }
}

}  // namespace

std::string print(const Block& block, Value index) {
  const Inst& inst = block.insts[index];
  std::string text = "%" + std::to_string(index);
  if (inst.type != Type::Void) text += std::string(": ") + type_name(inst.type);
  text += std::string(" = ") + op_info(inst.op).name;
  if (inst.lane) text += "." + std::to_string(inst.lane);
  if (inst.op == Op::call_) text += std::string(" @") + helper_of(inst).name;
  bool first = true;
  for_each_arg(block, inst, [&](Value v) {
    text += (first ? " %" : ", %") + std::to_string(v);
    first = false;
  });
  if (inst.imm && inst.op != Op::call_) text += " imm=" + hex(inst.imm);
  if (inst.imm2) text += " imm2=" + hex(inst.imm2);
  if (inst.aux) text += " aux=" + hex(inst.aux);
  const std::string note = comment(inst);
  if (!note.empty()) text += "  ; " + note;
  return text;
}

std::string print(const Block& block) {
  std::string text = "block pc=" + hex(block.pc) + " mode=" + hex(block.mode) + " bytes=" + hex(block.guest_bytes) +
                     " insns=" + hex(block.guest_insns) + "\n";
  for (Value v = 0; v < block.insts.size(); ++v) {
    text += block.insts[v].op == Op::insn_start_ ? " " : "  ";
    text += print(block, v) + "\n";
  }
  return text;
}

}  // namespace kiln::ir
