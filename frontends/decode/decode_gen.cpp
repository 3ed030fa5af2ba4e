// decode_gen: instruction tables (see README.md) -> C++ decoder. A build-time program.
//   decode_gen PREFIX NAMESPACE LIFTER_HEADER OUT_DIR INCLUDE_DIR TABLE…
// Invariants: (1) output depends on the tables alone, so a rebuild without changes touches no file; (2) two rows that both
// match a word are ordered by inclusion of their fixed bits, or the build fails.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "ir/support/bits.h"

using namespace kiln;

namespace {

struct Field {
  std::string name;
  unsigned low, width;
};
struct Term {  // the row does not match if (word & mask) == value
  u32 mask, value;
};
constexpr unsigned kMaxTerms = 3;

struct Row {
  std::string name, needs, place;
  u32 mask = 0, value = 0;
  std::vector<Field> fields;
  std::vector<Term> unequal;
  unsigned table = 0;
};

struct Table {
  std::string name;  // file name without directory
};

[[noreturn]] void fail(const std::string& place, const std::string& text) {
  std::fprintf(stderr, "%s: error: %s\n", place.c_str(), text.c_str());
  std::exit(1);
}

bool is_name(const std::string& s) {
  if (s.empty() || (s[0] >= '0' && s[0] <= '9')) return false;
  return std::all_of(s.begin(), s.end(), [](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; });
}

void parse_where(Row& row, const std::string& clause) {
  const std::size_t at = clause.find("!=") != std::string::npos ? clause.find("!=") : clause.find("==");
  if (at == std::string::npos) fail(row.place, "where clause '" + clause + "' is neither == nor !=");
  const std::string name = clause.substr(0, at), number = clause.substr(at + 2);
  const auto field = std::find_if(row.fields.begin(), row.fields.end(), [&](const Field& f) { return f.name == name; });
  if (field == row.fields.end()) fail(row.place, "where names no field of the row: " + name);
  char* end = nullptr;
  const bool binary = number.starts_with("0b");
  const u64 n = std::strtoull(number.c_str() + (binary ? 2 : 0), &end, binary ? 2 : 0);
  if (*end || number.empty() || n > mask_low(field->width)) fail(row.place, "bad number in where clause: " + clause);
  const u32 mask = static_cast<u32>(mask_low(field->width) << field->low), value = static_cast<u32>(n << field->low);
  if (clause[at] == '!') {
    if (row.unequal.size() == kMaxTerms) fail(row.place, "too many != clauses");
    row.unequal.push_back({mask, value});
  } else {
    row.mask |= mask;  // == is as good as fixed bits
    row.value |= value;
  }
}

Row parse_row(const std::string& line, const std::string& place) {
  Row row;
  row.place = place;
  std::istringstream in(line);
  in >> row.name;
  if (!is_name(row.name)) fail(place, "bad instruction name " + row.name);
  unsigned left = 32;
  std::string token, where;
  bool in_where = false;
  while (in >> token) {
    if (token == "where") {
      in_where = true;
    } else if (token.starts_with("needs=")) {
      row.needs = token.substr(6);
      if (!is_name(row.needs)) fail(place, "bad feature name");
    } else if (in_where) {
      where += token;
    } else if (const std::size_t colon = token.find(':'); colon != std::string::npos) {
      Field field{token.substr(0, colon), 0, static_cast<unsigned>(std::atoi(token.c_str() + colon + 1))};
      if (!is_name(field.name) || field.width == 0 || field.width > left) fail(place, "bad field " + token);
      for (const Field& f : row.fields)
        if (f.name == field.name) fail(place, "field twice: " + f.name);
      field.low = left -= field.width;
      row.fields.push_back(field);
    } else {
      for (char c : token) {
        if (left == 0) fail(place, "more than 32 bits");
        --left;
        if (c == '0' || c == '1') row.mask |= u32{1} << left, row.value |= static_cast<u32>(c - '0') << left;
        else if (c != '-') fail(place, "unknown token " + token);
      }
    }
  }
  if (left != 0) fail(place, row.name + ": " + std::to_string(32 - left) + " bits instead of 32");
  while (!where.empty()) {
    const std::size_t cut = where.find("&&");
    parse_where(row, where.substr(0, cut));
    where = cut == std::string::npos ? "" : where.substr(cut + 2);
  }
  return row;
}

/// True if some word may match both rows.
bool meet(const Row& a, const Row& b) {
  if ((a.value ^ b.value) & a.mask & b.mask) return false;
  const u32 mask = a.mask | b.mask, value = a.value | b.value;
  for (const Row* row : {&a, &b})
    for (const Term& t : row->unequal)
      if ((t.mask & ~mask) == 0 && (value & t.mask) == t.value) return false;
  return true;
}

void check_overlaps(const std::vector<Row>& rows) {
  bool bad = false;
  std::map<std::string, const Row*> names;
  for (const Row& row : rows) {
    if (const auto [it, fresh] = names.emplace(row.name, &row); !fresh)
      fail(row.place, row.name + " is also at " + it->second->place);
    for (const Row* other = rows.data(); other != &row; ++other) {
      if (!meet(row, *other)) continue;
      const bool row_first = (row.mask & other->mask) == other->mask, other_first = (row.mask & other->mask) == row.mask;
      if (row_first != other_first) continue;
      std::fprintf(stderr, "%s: error: %s overlaps %s (%s), e.g. word %08x\n", row.place.c_str(), row.name.c_str(),
                   other->name.c_str(), other->place.c_str(), row.value | other->value);
      bad = true;
    }
  }
  if (bad) std::exit(1);
}

/// Leaves a file alone that already has this content, so that nothing is compiled again for nothing.
void write_file(const std::string& path, const std::string& text) {
  std::ifstream old(path, std::ios::binary);
  std::stringstream content;
  content << old.rdbuf();
  if (old && content.str() == text) return;
  std::ofstream out(path, std::ios::binary);
  out << text;
  if (!out) fail(path, "cannot write");
}

std::string hex(u32 v) {
  char text[16];
  std::snprintf(text, sizeof text, "0x%08x", v);
  return text;
}

/// The decoder's index: bits 31..21 choose a list of rows, or, where that would be long, a second table by bits 15..10.
constexpr unsigned kTopLow = 21, kTopCount = 2048, kSubLow = 10, kSubCount = 64;
constexpr std::size_t kLongList = 4;

class Index {
 public:
  explicit Index(const std::vector<Row>& rows) : rows_(rows) {
    for (u32 i = 0; i < rows.size(); ++i) order_.push_back(i);
    std::sort(order_.begin(), order_.end(), [&](u32 a, u32 b) {
      const int bits_a = std::popcount(rows[a].mask), bits_b = std::popcount(rows[b].mask);
      return bits_a != bits_b ? bits_a > bits_b : a < b;
    });
    for (u32 top = 0; top < kTopCount; ++top) {
      const std::vector<u32> list = matching(order_, top << kTopLow, (kTopCount - 1) << kTopLow);
      if (list.size() <= kLongList) {
        top_.push_back(intern(list));
        continue;
      }
      std::vector<u32> sub;
      for (u32 i = 0; i < kSubCount; ++i) sub.push_back(intern(matching(list, i << kSubLow, (kSubCount - 1) << kSubLow)));
      const auto [it, fresh] = subs_.emplace(sub, static_cast<u32>(subs_.size()));
      if (fresh) sub_tables_.push_back(sub);
      top_.push_back(0x8000u | it->second);
    }
    if (patterns_.size() >= 0x8000) fail("decode_gen", "index overflow");
  }

  std::vector<u32> matching(const std::vector<u32>& from, u32 value, u32 mask) const {
    std::vector<u32> out;
    for (u32 i : from)
      if (((rows_[i].value ^ value) & rows_[i].mask & mask) == 0) out.push_back(i);
    return out;
  }
  u32 intern(const std::vector<u32>& list) {
    const auto [it, fresh] = lists_.emplace(list, static_cast<u32>(patterns_.size()));
    if (fresh) {
      patterns_.insert(patterns_.end(), list.begin(), list.end());
      patterns_.push_back(~u32{0});
    }
    return it->second;
  }

  const std::vector<Row>& rows_;
  std::vector<u32> order_, top_, patterns_;
  std::map<std::vector<u32>, u32> lists_, subs_;
  std::vector<std::vector<u32>> sub_tables_;
};

void print_numbers(std::string& out, const char* declaration, const std::vector<u32>& numbers) {
  out += std::string(declaration) + " = {";
  for (std::size_t i = 0; i < numbers.size(); ++i) out += (i % 24 ? "" : "\n  ") + std::to_string(numbers[i]) + ",";
  out += "\n};\n";
}

std::string fields_header(const Table& table, unsigned index, const std::vector<Row>& rows, const std::string& ns,
                          const std::string& lifter) {
  std::string out = "// Made by decode_gen from " + table.name + ". Do not edit.\n#pragma once\n#include \"" + lifter +
                    "\"\n\nnamespace " + ns + " {\nnamespace fields {\n";
  for (const Row& row : rows) {
    if (row.table != index) continue;
    out += "struct " + row.name + " {";
    if (!row.fields.empty()) {
      out += " u32 ";
      for (std::size_t i = 0; i < row.fields.size(); ++i) out += (i ? ", " : "") + row.fields[i].name;
      out += ";";
    }
    out += " };\n";
  }
  out += "}  // namespace fields\n\n";
  for (const Row& row : rows)
    if (row.table == index) out += "Lift lift_" + row.name + "(Lifter& l, const fields::" + row.name + "& f);\n";
  return out + "\n}  // namespace " + ns + "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 7) fail("decode_gen", "usage: decode_gen PREFIX NAMESPACE LIFTER_HEADER OUT_DIR INCLUDE_DIR TABLE…");
  const std::string prefix = argv[1], ns = argv[2], lifter = argv[3], dir = argv[4], below = argv[5];
  std::vector<Table> tables;
  std::vector<Row> rows;
  for (int i = 6; i < argc; ++i) {
    const std::string path = argv[i];
    tables.push_back({path.substr(path.rfind('/') + 1)});
    std::ifstream in(path);
    if (!in) fail(path, "cannot read");
    std::string line;
    for (unsigned number = 1; std::getline(in, line); ++number) {
      line = line.substr(0, line.find('#'));
      if (line.find_first_not_of(" \t\r") == std::string::npos) continue;
      rows.push_back(parse_row(line, path + ":" + std::to_string(number)));
      rows.back().table = static_cast<unsigned>(tables.size() - 1);
    }
  }
  check_overlaps(rows);
  std::set<std::string> features;
  for (const Row& row : rows)
    if (!row.needs.empty()) features.insert(row.needs);
  if (features.size() > 64) fail("decode_gen", "more than 64 features");

  for (unsigned i = 0; i < tables.size(); ++i)
    write_file(dir + "/" + tables[i].name + ".h", fields_header(tables[i], i, rows, ns, lifter));

  std::string out = "// Made by decode_gen. Do not edit. All field structs and lift_ declarations.\n#pragma once\n";
  for (const Table& table : tables) out += "#include \"" + below + "/" + table.name + ".h\"\n";
  write_file(dir + "/" + prefix + "_fields.h", out);

  out = "// Made by decode_gen. Do not edit.\n#pragma once\n#include <span>\n\n#include \"" + lifter + "\"\n\nnamespace " + ns +
        " {\n\n/// Features that rows name with needs=, one bit each.\nenum Feature : u64 {\n";
  unsigned shift = 0;
  for (const std::string& f : features) out += "  kFeature_" + f + " = u64{1} << " + std::to_string(shift++) + ",\n";
  out += R"(  kFeatureAll = ~u64{0},
};

/// One instruction row: a word w is of this row if (w & mask) == value, unless a more specific row or a where clause says otherwise.
struct InsnRow {
  const char* name;
  u32 mask, value;
  u64 needs;          // Feature bits
  const char* table;  // file the row stands in
};
std::span<const InsnRow> insn_rows();

/// Row number of a word for a CPU with these features, or -1.
int decode(u32 word, u64 features);
/// Calls the semantic function of a row that decode() gave for l.word.
Lift lift_row(Lifter& l, int row);

})" + std::string("  // namespace ") +
         ns + "\n";
  write_file(dir + "/" + prefix + "_decode.h", out);

  out = "// Made by decode_gen. Do not edit.\n#include \"" + below + "/" + prefix + "_decode.h\"\n\n#include \"" + below + "/" +
        prefix + "_fields.h\"\n\nnamespace " + ns + " {\nnamespace {\n\n";
  for (const Row& row : rows) {
    out += "Lift row_" + row.name + "(Lifter& l) {\n  const u32 w = l.word;\n  (void)w;\n  return lift_" + row.name + "(l, {";
    for (const Field& f : row.fields)
      out += "(w >> " + std::to_string(f.low) + ") & " + hex(static_cast<u32>(mask_low(f.width))) + ", ";
    out += "});\n}\n";
  }
  out += "\nconstexpr InsnRow kRows[] = {\n";
  for (const Row& row : rows)
    out += "  {\"" + row.name + "\", " + hex(row.mask) + ", " + hex(row.value) + ", " +
           (row.needs.empty() ? "0" : "kFeature_" + row.needs) + ", \"" + tables[row.table].name + "\"},\n";
  out += "};\nusing RowFunction = Lift (*)(Lifter&);\nconstexpr RowFunction kFunctions[] = {\n";
  for (const Row& row : rows) out += "  row_" + row.name + ",\n";
  out += "};\n\nstruct Pattern {\n  u32 mask, value;\n  struct { u32 mask, value; } unequal[" + std::to_string(kMaxTerms) +
         "];\n  int row;\n};\nconstexpr Pattern kPatterns[] = {\n";
  const Index index(rows);
  for (u32 i : index.patterns_) {
    if (i == ~u32{0}) {
      out += "  {0, 0, {{0, 1}, {0, 1}, {0, 1}}, -1},\n";
      continue;
    }
    out += "  {" + hex(rows[i].mask) + ", " + hex(rows[i].value) + ", {";
    for (unsigned t = 0; t < kMaxTerms; ++t) {
      const Term term = t < rows[i].unequal.size() ? rows[i].unequal[t] : Term{0, 1};
      out += (t ? ", {" : "{") + hex(term.mask) + ", " + hex(term.value) + "}";
    }
    out += "}, " + std::to_string(i) + "},\n";
  }
  out += "};\n\n// Index into kPatterns, or 0x8000 | a table of kSub.\n";
  print_numbers(out, "constexpr u16 kTop[]", index.top_);
  std::vector<u32> subs;
  for (const auto& sub : index.sub_tables_) subs.insert(subs.end(), sub.begin(), sub.end());
  if (subs.empty()) subs.push_back(0);
  print_numbers(out, "constexpr u16 kSub[]", subs);
  out += R"(
}  // namespace

std::span<const InsnRow> insn_rows() { return kRows; }

int decode(u32 word, u64 features) {
  u32 at = kTop[word >> 21];
  if (at & 0x8000) at = kSub[(at & 0x7fff) * 64 + ((word >> 10) & 63)];
  for (const Pattern* p = &kPatterns[at];; ++p) {
    if ((word & p->mask) != p->value) continue;
    bool excluded = false;
    for (const auto& t : p->unequal) excluded |= (word & t.mask) == t.value;
    if (excluded) continue;
    if (p->row >= 0 && (kRows[p->row].needs & ~features)) continue;
    return p->row;
  }
}

Lift lift_row(Lifter& l, int row) { return kFunctions[row](l); }

)" + std::string("}  // namespace ") +
         ns + "\n";
  write_file(dir + "/" + prefix + "_decode.cpp", out);
  return 0;
}
