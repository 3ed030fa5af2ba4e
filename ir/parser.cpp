// parse(): reads what print() writes.
#include <cctype>
#include <cstring>
#include <optional>

#include "ir/text.h"

namespace kiln::ir {
namespace {

std::optional<Op> op_by_name(std::string_view name) {
  for (unsigned i = 0; i < static_cast<unsigned>(Op::kCount); ++i)
    if (name == op_info(static_cast<Op>(i)).name) return static_cast<Op>(i);
  return std::nullopt;
}
std::optional<Type> type_by_name(std::string_view name) {
  for (unsigned i = 0; i <= static_cast<unsigned>(Type::Flags); ++i)
    if (name == type_name(static_cast<Type>(i))) return static_cast<Type>(i);
  return std::nullopt;
}

/// A line being read from left to right.
class Line {
 public:
  explicit Line(std::string_view text) : rest_(text) {}
  void skip_space() {
    while (!rest_.empty() && std::isspace(static_cast<unsigned char>(rest_.front()))) rest_.remove_prefix(1);
  }
  bool at_end() {
    skip_space();
    return rest_.empty();
  }
  bool take(std::string_view token) {
    skip_space();
    if (!rest_.starts_with(token)) return false;
    rest_.remove_prefix(token.size());
    return true;
  }
  std::string_view word() {
    skip_space();
    std::size_t n = 0;
    while (n < rest_.size() && (std::isalnum(static_cast<unsigned char>(rest_[n])) || rest_[n] == '_')) ++n;
    const std::string_view taken = rest_.substr(0, n);
    rest_.remove_prefix(n);
    return taken;
  }
  /// Decimal, or hexadecimal with 0x.
  std::optional<u64> number() {
    skip_space();
    unsigned base = 10;
    if (rest_.starts_with("0x")) {
      base = 16;
      rest_.remove_prefix(2);
    }
    u64 value = 0;
    std::size_t n = 0;
    for (; n < rest_.size(); ++n) {
      const char c = rest_[n];
      unsigned digit;
      if (c >= '0' && c <= '9') digit = static_cast<unsigned>(c - '0');
      else if (base == 16 && c >= 'a' && c <= 'f') digit = static_cast<unsigned>(c - 'a') + 10;
      else break;
      value = value * base + digit;
    }
    rest_.remove_prefix(n);
    if (n == 0) return std::nullopt;
    return value;
  }
  std::string rest() const { return std::string(rest_); }

 private:
  std::string_view rest_;
};

class Parser {
 public:
  Parser(std::string_view text, std::span<const Helper* const> helpers) : text_(text), helpers_(helpers) {}

  Result<Block> run() {
    bool headed = false;
    while (!text_.empty()) {
      const std::size_t end = text_.find('\n');
      std::string_view line = text_.substr(0, end);
      text_.remove_prefix(end == std::string_view::npos ? text_.size() : end + 1);
      ++number_;
      line = line.substr(0, line.find(';'));
      Line l(line);
      if (l.at_end()) continue;
      std::string complaint = headed ? instruction(l) : header(l);
      headed = true;
      if (!complaint.empty()) return Error{"line " + std::to_string(number_) + ": " + complaint};
    }
    if (!headed) return Error{"empty text: expected 'block pc=…'"};
    return std::move(block_);
  }

 private:
  /// Reads "name=number" fields to the end of the line.
  template <class Fn>
  std::string fields(Line& l, Fn&& set) {
    while (!l.at_end()) {
      const std::string_view name = l.word();
      if (name.empty() || !l.take("=")) return "expected name=number at '" + l.rest() + "'";
      const std::optional<u64> value = l.number();
      if (!value) return "expected a number at '" + l.rest() + "'";
      if (!set(name, *value)) return "unknown field '" + std::string(name) + "'";
    }
    return {};
  }

  std::string header(Line& l) {
    if (!l.take("block")) return "expected 'block pc=…'";
    return fields(l, [&](std::string_view name, u64 value) {
      if (name == "pc") block_.pc = value;
      else if (name == "mode") block_.mode = static_cast<u32>(value);
      else if (name == "bytes") block_.guest_bytes = static_cast<u32>(value);
      else if (name == "insns") block_.guest_insns = static_cast<u32>(value);
      else return false;
      return true;
    });
  }

  std::string instruction(Line& l) {
    Inst inst;
    if (!l.take("%")) return "expected '%number'";
    const std::optional<u64> index = l.number();
    if (!index || *index != block_.insts.size()) return "expected %" + std::to_string(block_.insts.size());
    if (l.take(":")) {
      const std::string_view name = l.word();
      const std::optional<Type> type = type_by_name(name);
      if (!type) return "unknown type '" + std::string(name) + "'";
      inst.type = *type;
    }
    if (!l.take("=")) return "expected '=' at '" + l.rest() + "'";
    const std::string_view name = l.word();
    const std::optional<Op> op = op_by_name(name);
    if (!op) return "unknown op '" + std::string(name) + "'";
    inst.op = *op;
    if (l.take(".")) {
      const std::optional<u64> lane = l.number();
      if (!lane) return "expected a lane";
      inst.lane = static_cast<u8>(*lane);
    }
    if (inst.op == Op::call_) {
      if (!l.take("@")) return "expected '@helper'";
      const std::string_view helper_name = l.word();
      for (const Helper* helper : helpers_)
        if (helper_name == helper->name) inst.imm = reinterpret_cast<u64>(helper);
      if (inst.imm == 0) return "unknown helper '" + std::string(helper_name) + "'";
    }
    unsigned count = 0;
    while (l.take("%")) {
      const std::optional<u64> value = l.number();
      if (!value) return "expected a value number";
      if (count == 7) return "more than seven arguments";
      if (count == 4) {
        block_.extra_args.push_back({kNoValue, kNoValue, kNoValue});
        inst.more = static_cast<u32>(block_.extra_args.size());
      }
      if (count < 4) inst.args[count] = static_cast<Value>(*value);
      else block_.extra_args.back()[count - 4] = static_cast<Value>(*value);
      ++count;
      if (!l.take(",")) break;
    }
    std::string complaint = fields(l, [&](std::string_view field, u64 value) {
      if (field == "imm") inst.imm = value;
      else if (field == "imm2") inst.imm2 = value;
      else if (field == "aux") inst.aux = static_cast<u32>(value);
      else return false;
      return true;
    });
    if (complaint.empty()) block_.insts.push_back(inst);
    return complaint;
  }

  std::string_view text_;
  std::span<const Helper* const> helpers_;
  unsigned number_ = 0;
  Block block_;
};

}  // namespace

Result<Block> parse(std::string_view text, std::span<const Helper* const> helpers) { return Parser(text, helpers).run(); }

}  // namespace kiln::ir
