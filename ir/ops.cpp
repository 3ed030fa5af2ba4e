// The op table at run time and the names of the small vocabulary.
#include "ir/block.h"
#include "ir/text.h"

namespace kiln::ir {

const OpInfo& op_info(Op op) {
  static constexpr OpInfo kTable[] = {
#define OP(name, signature, effects, text) {#name, signature, effects, text},
#include "ir/ops.def"
#undef OP
  };
  return kTable[static_cast<unsigned>(op)];
}

const char* type_name(Type type) {
  static constexpr const char* kNames[] = {"void", "i1",  "i8",  "i16",  "i32",  "i64",  "i128",
                                           "f32",  "f64", "f80", "v128", "v256", "flags"};
  return kNames[static_cast<unsigned>(type)];
}

const char* cond_name(Cond cond) {
  static constexpr const char* kNames[] = {"eq", "ne", "cs", "cc", "mi", "pl", "vs", "vc", "hi", "ls",
                                           "ge", "lt", "gt", "le", "al", "?",  "pe", "po", "be", "nbe"};
  const auto index = static_cast<unsigned>(cond);
  return index < std::size(kNames) ? kNames[index] : "?";
}

std::string op_documentation() {
  std::string text = "| op | result : arguments | effects | meaning |\n|---|---|---|---|\n";
  for (unsigned i = 0; i < static_cast<unsigned>(Op::kCount); ++i) {
    const OpInfo& info = op_info(static_cast<Op>(i));
    std::string effects;
    const auto add = [&](u32 bit, const char* name) {
      if ((info.effects & bit) == 0) return;
      if (!effects.empty()) effects += ", ";
      effects += name;
    };
    add(READS_STATE, "reads state");
    add(WRITES_STATE, "writes state");
    add(READS_MEM, "reads memory");
    add(WRITES_MEM, "writes memory");
    add(MAY_FAULT, "may fault");
    add(ENDS_BLOCK, "ends the block");
    add(CALL, "as the helper declares");
    text += std::string("| ") + info.name + " | `" + info.signature + "` | " + effects + " | " + info.text + " |\n";
  }
  return text;
}

}  // namespace kiln::ir
