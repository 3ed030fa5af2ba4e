// insn_gen OUT_DIR features.def TABLE.insns…: makes the decoder's tables (x86_rows.cpp, x86_rows.h) from the instruction rows.
// The row format stands in README.md. Errors go to stderr as FILE:LINE: text.
#include <bitset>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <vector>

namespace {

struct Row {
  std::string name, text, lift, where;
  int param = 0, map = 0, opcode = -1, count = 1, reg = -1, modrm = -1, mod = 0, w = 0, l = 0, code = 0, size = 0, feature = 0;
  std::string prefix = "Any";
  bool has_modrm = false;
  std::vector<std::pair<std::string, std::string>> operands;  // encoding, size
  unsigned flags = 0, reads = 0, writes = 0, undefined = 0;
};

[[noreturn]] void fail(const std::string& where, const std::string& what) {
  std::fprintf(stderr, "%s: %s\n", where.c_str(), what.c_str());
  std::exit(1);
}

std::vector<std::string> columns(const std::string& line) {
  std::vector<std::string> out;
  std::size_t at = 0;
  while (at < line.size()) {
    std::size_t end = line.find("  ", at);
    if (end == std::string::npos) end = line.size();
    std::string field = line.substr(at, end - at);
    while (!field.empty() && field.back() == ' ') field.pop_back();
    if (!field.empty()) out.push_back(field);
    at = line.find_first_not_of(' ', end);
    if (at == std::string::npos) break;
  }
  return out;
}
std::vector<std::string> split(const std::string& text, char by) {
  std::vector<std::string> out;
  std::stringstream in(text);
  for (std::string part; std::getline(in, part, by);)
    if (!part.empty()) out.push_back(part);
  return out;
}

bool hex_byte(const std::string& text, int& value) {
  if (text.size() != 2 || !std::isxdigit(text[0]) || !std::isxdigit(text[1])) return false;
  value = std::stoi(text, nullptr, 16);
  return true;
}

void parse_encoding(Row& row, const std::string& text) {
  for (const std::string& t : split(text, ' ')) {
    int byte = 0;
    if (t.starts_with("VEX.")) {
      std::vector<std::string> parts = split(t, '.');
      int map = -1;
      std::string prefix;
      for (std::size_t i = 1; i < parts.size(); ++i) {
        const std::string& p = parts[i];
        if (p == "128") row.l = 1;
        else if (p == "256") row.l = 2;
        else if (p == "LIG" || p == "WIG") continue;
        else if (p == "W0") row.w = 1;
        else if (p == "W1") row.w = 2;
        else if (p == "NP") prefix = "NoneAtAll";
        else if (p == "66") prefix = "P66";
        else if (p == "F3" || p == "F2") prefix = p;
        else if (p == "0F") map = 1;
        else if (p == "0F38") map = 2;
        else if (p == "0F3A") map = 3;
        else fail(row.where, "unknown VEX part " + p);
      }
      if (map < 0 || prefix.empty()) fail(row.where, "VEX needs a prefix and a map");
      row.map = 4 + map;
      row.prefix = prefix;
    } else if (t == "NP" && row.opcode < 0) {
      row.prefix = "NoneAtAll";
    } else if (t == "N" && row.opcode < 0) {
      row.prefix = "NoRepeat";
    } else if (t == "REX.W") {
      row.w = 2;
    } else if (t == "REX.0") {
      row.w = 1;
    } else if (t == "/r") {
      row.has_modrm = true;
    } else if (t.size() == 2 && t[0] == '/' && t[1] >= '0' && t[1] <= '7') {
      row.has_modrm = true;
      row.reg = t[1] - '0';
    } else if (t.size() > 3 && t.substr(2) == "+r" && hex_byte(t.substr(0, 2), byte)) {
      row.opcode = byte;
      row.count = 8;
    } else if (t.size() > 3 && t.substr(2) == "+cc" && hex_byte(t.substr(0, 2), byte)) {
      row.opcode = byte;
      row.count = 16;
    } else if (hex_byte(t, byte)) {
      // A prefix only in front of another opcode byte: "66 0F 6F", but "F3 90" is PAUSE.
      if (row.opcode < 0 && row.map == 0 && row.prefix == "Any" && (byte == 0x66 || byte == 0xf2 || byte == 0xf3)) {
        row.prefix = byte == 0x66 ? "P66" : byte == 0xf3 ? "F3" : "F2";
      } else if (row.opcode < 0 && row.map == 0 && byte == 0x0f) {
        row.map = 1;
      } else if (row.opcode < 0 && row.map == 1 && (byte == 0x38 || byte == 0x3a)) {
        row.map = byte == 0x38 ? 2 : 3;
      } else if (row.opcode < 0) {
        row.opcode = byte;
      } else if (!row.has_modrm) {
        row.has_modrm = true;
        row.modrm = byte;
      } else {
        fail(row.where, "too many bytes");
      }
    } else {
      fail(row.where, "unknown encoding part " + t);
    }
  }
  if (row.opcode < 0) fail(row.where, "no opcode");
}

const std::map<std::string, std::string> kFixed = {{"al", "Al"}, {"ax", "Ax"}, {"eax", "Eax"}, {"rax", "Rax"}, {"rAX", "RaxV"},
                                                   {"cl", "Cl"}, {"dx", "Dx"}, {"1", "One"},   {"es", "Es"},   {"cs", "Cs"},
                                                   {"ss", "Ss"}, {"ds", "Ds"}, {"fs", "Fs"},   {"gs", "Gs"}};
const std::set<std::string> kSizes = {"b", "w", "d", "q", "v", "z", "y", "x", "h", "o", "dq", "qq", "t", "s", "n", "bs", "i"};

void parse_operands(Row& row, const std::string& text) {
  if (text == "-") return;
  for (const std::string& t : split(text, ',')) {
    if (kFixed.contains(t)) {
      row.operands.emplace_back(kFixed.at(t), "n");
      continue;
    }
    const std::string letter = t.substr(0, 1), size = t.size() > 1 ? t.substr(1) : "n";
    if (std::string("EGMRBZIJAOSCDVWUHLPQNT").find(letter) == std::string::npos) fail(row.where, "unknown operand " + t);
    if (!kSizes.contains(size)) fail(row.where, "unknown operand size in " + t);
    if (letter == "M") row.mod = 1;
    if (letter == "R" || letter == "U" || letter == "N" || letter == "T") row.mod = 2;
    if (std::string("EGMRWVUPQNTSCD").find(letter) != std::string::npos && letter != "T" && !row.has_modrm)
      fail(row.where, "operand " + t + " needs /r");
    row.operands.emplace_back(letter, size);
  }
  if (row.operands.size() > 4) fail(row.where, "more than four operands");
}

unsigned flag_letters(const Row& row, const std::string& letters) {
  unsigned out = 0;
  for (char c : letters) switch (c) {
      case 'o': out |= 1 << 11; break;
      case 's': out |= 1 << 7; break;
      case 'z': out |= 1 << 6; break;
      case 'a': out |= 1 << 4; break;
      case 'p': out |= 1 << 2; break;
      case 'c': out |= 1 << 0; break;
      default: fail(row.where, std::string("unknown flag letter ") + c);
    }
  return out;
}

void parse_attributes(Row& row, const std::string& text, const std::vector<std::string>& features) {
  for (const std::string& t : split(text, ' ')) {
    if (t.starts_with("fn=")) {
      std::string fn = t.substr(3);
      if (const std::size_t open = fn.find('('); open != std::string::npos) {
        row.param = std::stoi(fn.substr(open + 1), nullptr, 0);
        fn.resize(open);
      }
      row.lift = fn;
    } else if (t.starts_with("needs=")) {
      for (std::size_t i = 0; i < features.size(); ++i)
        if (features[i] == t.substr(6)) row.feature = static_cast<int>(i) + 1;
      if (!row.feature) fail(row.where, "unknown feature " + t.substr(6));
    } else if (t == "i64") row.code = 1;
    else if (t == "o64") row.code = 2;
    else if (t == "d64") row.size = 1;
    else if (t == "f64") row.size = 2;
    else if (t == "lock") row.flags |= 1;
    else if (t == "priv") row.flags |= 2;
    else if (t == "norandom") row.flags |= 4;
    else if (t == "vsib") row.flags |= 8;
    else if (t == "mod=m") row.mod = 1;
    else if (t == "mod=r") row.mod = 2;
    else if (t.starts_with("r=")) row.reads = flag_letters(row, t.substr(2));
    else if (t.starts_with("w=")) row.writes = flag_letters(row, t.substr(2));
    else if (t.starts_with("u=")) row.undefined = flag_letters(row, t.substr(2));
    else fail(row.where, "unknown attribute " + t);
  }
}

/// What a row matches, as sets.
struct Match {
  std::bitset<256> modrm;
  unsigned prefix, w, l, code;  // bit sets; prefix: bit rep * 2 + has66, rep 0 none, 1 F3, 2 F2
};
Match match_of(const Row& row) {
  Match m;
  for (unsigned b = 0; b < 256; ++b) {
    bool ok = true;
    if (row.has_modrm) {
      if (row.modrm >= 0) ok = static_cast<int>(b) == row.modrm;
      if (row.reg >= 0 && static_cast<int>(b >> 3 & 7) != row.reg) ok = false;
      if (row.mod == 1 && b >= 0xc0) ok = false;
      if (row.mod == 2 && b < 0xc0) ok = false;
    }
    m.modrm[b] = ok;
  }
  const std::map<std::string, unsigned> prefixes = {{"Any", 63}, {"NoneAtAll", 1}, {"NoRepeat", 3},
                                                    {"P66", 2},  {"F3", 12},       {"F2", 48}};
  m.prefix = prefixes.at(row.prefix);
  m.w = row.w == 0 ? 3 : row.w;
  m.l = row.l == 0 ? 3 : row.l;
  m.code = row.code == 0 ? 3 : row.code;
  return m;
}
bool overlap(const Match& a, const Match& b) {
  return (a.modrm & b.modrm).any() && (a.prefix & b.prefix) && (a.w & b.w) && (a.l & b.l) && (a.code & b.code);
}
bool within(const Match& a, const Match& b) {
  return (a.modrm & ~b.modrm).none() && !(a.prefix & ~b.prefix) && !(a.w & ~b.w) && !(a.l & ~b.l) && !(a.code & ~b.code);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) fail("insn_gen", "usage: insn_gen OUT_DIR features.def TABLE.insns...");
  std::vector<std::string> features;
  {
    std::ifstream in(argv[2]);
    if (!in) fail(argv[2], "cannot be read");
    for (std::string line; std::getline(in, line);)
      if (line.starts_with("FEATURE(")) features.push_back(line.substr(8, line.find(',') - 8));
  }
  std::vector<Row> rows;
  for (int a = 3; a < argc; ++a) {
    std::ifstream in(argv[a]);
    if (!in) fail(argv[a], "cannot be read");
    int number = 0;
    for (std::string line; std::getline(in, line);) {
      ++number;
      if (const std::size_t hash = line.find('#'); hash != std::string::npos) line.resize(hash);
      const std::vector<std::string> c = columns(line);
      if (c.empty()) continue;
      Row row;
      row.where = std::string(argv[a]) + ":" + std::to_string(number);
      if (c.size() < 3 || c.size() > 4) fail(row.where, "a row has three or four columns, separated by two spaces");
      row.name = row.lift = c[0];
      row.text = c[1] + (c[2] == "-" ? "" : " " + c[2]);
      parse_encoding(row, c[1]);
      parse_operands(row, c[2]);
      if (c.size() == 4) parse_attributes(row, c[3], features);
      rows.push_back(row);
    }
  }

  std::vector<std::vector<int>> lists(8 * 256);
  for (std::size_t i = 0; i < rows.size(); ++i)
    for (int k = 0; k < rows[i].count; ++k) lists[rows[i].map * 256 + rows[i].opcode + k].push_back(static_cast<int>(i));
  for (auto& list : lists) {
    // Insertion sort by "within": stricter rows first.
    std::vector<int> sorted;
    for (int id : list) {
      const Match m = match_of(rows[id]);
      std::size_t at = sorted.size();
      for (std::size_t k = 0; k < sorted.size(); ++k) {
        const Match other = match_of(rows[sorted[k]]);
        if (rows[id].has_modrm != rows[sorted[k]].has_modrm)
          fail(rows[id].where, rows[id].name + " and " + rows[sorted[k]].where + " disagree about a ModRM byte");
        if (!overlap(m, other)) continue;
        const bool inside = within(m, other), outside = within(other, m);
        if (inside == outside)
          fail(rows[id].where, rows[id].name + " overlaps " + rows[sorted[k]].name + " at " + rows[sorted[k]].where);
        if (inside && k < at) at = k;
      }
      sorted.insert(sorted.begin() + static_cast<long>(at), id);
    }
    list = sorted;
  }

  const std::string dir = argv[1];
  std::ofstream header(dir + "/x86_rows.h"), source(dir + "/x86_rows.cpp");
  header << "// Made by insn_gen.\n#pragma once\n#include \"frontends/x86/insn.h\"\n\nnamespace kiln::x86 {\n\n";
  std::set<std::string> lifts;
  for (const Row& row : rows) lifts.insert(row.lift);
  for (const std::string& name : lifts) header << "Lift lift_" << name << "(Lifter&, const Insn&);\n";
  header << "\nextern const Row kRows[" << rows.size()
         << "];\nextern const u16 kListStart[8 * 256 + 1];\nextern const u16 kLists[];\n"
         << "extern const u8 kHasModrm[8 * 256];\n\n}  // namespace kiln::x86\n";
  source << "// Made by insn_gen.\n#include \"x86_rows.h\"\n#include \"frontends/x86/operands.h\"\n\nnamespace kiln::x86 {\n\n"
         << "#define E(x) static_cast<u8>(Encoding::x)\n#define S(x) static_cast<u8>(Size::x)\n#define P(x) "
            "static_cast<u8>(PrefixRule::x)\n"
         << "const Row kRows[" << rows.size() << "] = {\n";
  for (const Row& r : rows) {
    source << "  {\"" << r.name << "\", \"" << r.text << "\", lift_" << r.lift << ", " << r.param << ", " << r.map << ", "
           << r.opcode << ", " << r.count << ", P(" << r.prefix << "), " << r.reg << ", " << r.modrm << ", " << r.mod << ", "
           << r.w << ", " << r.l << ", " << r.code << ", " << r.size << ", " << r.has_modrm << ", " << r.feature << ", {";
    for (int k = 0; k < 4; ++k)
      source << (k ? ", " : "") << "E(" << (k < static_cast<int>(r.operands.size()) ? r.operands[k].first : "None") << ")";
    source << "}, {";
    for (int k = 0; k < 4; ++k)
      source << (k ? ", " : "") << "S(" << (k < static_cast<int>(r.operands.size()) ? r.operands[k].second : "n") << ")";
    source << "}, " << r.flags << ", " << r.reads << ", " << r.writes << ", " << r.undefined << "},\n";
  }
  source << "};\n#undef E\n#undef S\n#undef P\n\nconst u16 kListStart[8 * 256 + 1] = {";
  std::size_t total = 0;
  for (const auto& list : lists) {
    source << total << ", ";
    total += list.size();
  }
  source << total << "};\nconst u16 kLists[] = {";
  for (const auto& list : lists)
    for (int id : list) source << id << ", ";
  source << "0};\nconst u8 kHasModrm[8 * 256] = {";
  for (const auto& list : lists) source << (list.empty() ? 0 : int(rows[list[0]].has_modrm)) << ", ";
  source << "};\n\nstd::span<const Row> instruction_rows() { return kRows; }\n\n}  // namespace kiln::x86\n";
  return header && source ? 0 : 1;
}
