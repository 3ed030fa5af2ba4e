#include "devices/bus/state_file.h"

#include <algorithm>
#include <cstdio>

namespace kiln::devices {

namespace {
enum Tag : u8 { kVersion = 'v', kScalar = 's', kArray = 'a', kBlob = 'b', kEnter = '{', kLeave = '}' };
}  // namespace

void StateWriter::item(u8 tag, std::string_view name) {
  bytes_.push_back(tag);
  bytes_.push_back(static_cast<u8>(name.size()));
  bytes_.insert(bytes_.end(), name.begin(), name.end());
}

void StateWriter::number(u64 value, unsigned bytes) {
  for (unsigned i = 0; i < bytes; ++i) bytes_.push_back(static_cast<u8>(value >> (8 * i)));
}

unsigned StateWriter::version(unsigned current) {
  item(kVersion, "");
  number(current, 4);
  return current;
}

void StateWriter::scalar(std::string_view name, u64& value, unsigned bytes) {
  item(kScalar, name);
  number(bytes, 1);
  number(value, bytes);
}

void StateWriter::begin_array(std::string_view name, u64& count, unsigned bytes, u64) {
  item(kArray, name);
  number(bytes, 1);
  number(count, 8);
}

void StateWriter::blob(std::string_view name, std::span<u8> bytes) {
  item(kBlob, name);
  number(bytes.size(), 8);
  bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
}

void StateWriter::enter(std::string_view name) { item(kEnter, name); }
void StateWriter::leave() { item(kLeave, ""); }

void StateReader::fail(std::string why) {
  if (failed()) return;
  for (const std::string& part : path_) error_ += part + ": ";
  error_ += why;
}

bool StateReader::item(u8 tag, std::string_view name) {
  if (failed()) return false;
  if (bytes_.size() - position_ < 2 + name.size()) {
    fail("the file ends before " + std::string(name));
    return false;
  }
  const char* text = reinterpret_cast<const char*>(bytes_.data()) + position_ + 2;
  if (bytes_[position_] != tag || bytes_[position_ + 1] != name.size() || std::string_view(text, name.size()) != name) {
    fail("expected " + std::string(name) + " (" + static_cast<char>(tag) + "), the file has something else");
    return false;
  }
  position_ += 2 + name.size();
  return true;
}

u64 StateReader::number(unsigned bytes) {
  if (failed()) return 0;
  if (bytes_.size() - position_ < bytes) {
    fail("the file ends inside a value");
    return 0;
  }
  u64 value = 0;
  for (unsigned i = 0; i < bytes; ++i) value |= static_cast<u64>(bytes_[position_ + i]) << (8 * i);
  position_ += bytes;
  return value;
}

unsigned StateReader::version(unsigned current) {
  if (!item(kVersion, "")) return current;
  const u64 saved = number(4);
  if (saved > current)
    fail("saved by a newer Kiln (layout " + std::to_string(saved) + ", known " + std::to_string(current) + ")");
  return failed() ? current : static_cast<unsigned>(saved);
}

void StateReader::scalar(std::string_view name, u64& value, unsigned bytes) {
  if (!item(kScalar, name)) return;
  if (number(1) != bytes) return fail(std::string(name) + " has another size");
  value = number(bytes);
}

void StateReader::begin_array(std::string_view name, u64& count, unsigned bytes, u64 limit) {
  if (!item(kArray, name)) return;
  if (number(1) != bytes) return fail(std::string(name) + " has another element size");
  count = number(8);
  if (count > limit || count * bytes > bytes_.size() - position_) fail(std::string(name) + " is too long");
}

void StateReader::blob(std::string_view name, std::span<u8> bytes) {
  if (!item(kBlob, name)) return;
  if (number(8) != bytes.size()) return fail(std::string(name) + " has another length");
  if (failed() || bytes_.size() - position_ < bytes.size()) return fail("the file ends inside " + std::string(name));
  std::copy_n(bytes_.begin() + position_, bytes.size(), bytes.begin());
  position_ += bytes.size();
}

void StateReader::enter(std::string_view name) {
  item(kEnter, name);
  path_.emplace_back(name);
}

void StateReader::leave() {
  item(kLeave, "");
  path_.pop_back();
}

void StatePrinter::start(std::string_view name) {
  text_.append(2 * depth_, ' ');
  text_ += name;
}

void StatePrinter::scalar(std::string_view name, u64& value, unsigned bytes) {
  start(name);
  char number[32];
  std::snprintf(number, sizeof number, ": 0x%llx\n", static_cast<unsigned long long>(value & mask_low(8 * bytes)));
  text_ += number;
}

void StatePrinter::begin_array(std::string_view name, u64& count, unsigned, u64) {
  start(name);
  text_ += ":";
  elements_left_ = count;
  if (count == 0) text_ += "\n";
}

void StatePrinter::element(u64& value, unsigned bytes) {
  char number[32];
  std::snprintf(number, sizeof number, " %llx", static_cast<unsigned long long>(value & mask_low(8 * bytes)));
  text_ += number;
  elements_left_ -= 1;
  if (elements_left_ == 0) text_ += "\n";
}

void StatePrinter::blob(std::string_view name, std::span<u8> bytes) {
  start(name);
  text_ += ": " + std::to_string(bytes.size()) + " bytes\n";
}

void StatePrinter::enter(std::string_view name) {
  start(name);
  text_ += ":\n";
  depth_ += 1;
}

}  // namespace kiln::devices
