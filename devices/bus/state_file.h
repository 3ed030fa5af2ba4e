// The three visitors: into bytes, from bytes, into text.
#pragma once
#include "devices/bus/state.h"

namespace kiln::devices {

// Bytes: each item is a tag, its name (length byte, text) and its value; a reader compares tags and names with what the device
// asks for, so that a file of another version or board is noticed at the first difference.

class StateWriter : public StateVisitor {
 public:
  bool restoring() const override { return false; }
  unsigned version(unsigned current) override;
  void fail(std::string) override {}
  bool failed() const override { return false; }
  void blob(std::string_view name, std::span<u8> bytes) override;
  const std::vector<u8>& bytes() const { return bytes_; }

 protected:
  void scalar(std::string_view name, u64& value, unsigned bytes) override;
  void begin_array(std::string_view name, u64& count, unsigned bytes, u64 limit) override;
  void element(u64& value, unsigned bytes) override { number(value, bytes); }
  void enter(std::string_view name) override;
  void leave() override;

 private:
  void item(u8 tag, std::string_view name);
  void number(u64 value, unsigned bytes);
  std::vector<u8> bytes_;
};

class StateReader : public StateVisitor {
 public:
  explicit StateReader(std::span<const u8> bytes) : bytes_(bytes) {}
  bool restoring() const override { return true; }
  unsigned version(unsigned current) override;
  void fail(std::string why) override;
  bool failed() const override { return !error_.empty(); }
  void blob(std::string_view name, std::span<u8> bytes) override;
  /// "" or what was wrong, with the path of the field: "gic: cpu[1]: priority has another length".
  const std::string& error() const { return error_; }
  /// Everything was read.
  bool at_end() const { return position_ == bytes_.size(); }

 protected:
  void scalar(std::string_view name, u64& value, unsigned bytes) override;
  void begin_array(std::string_view name, u64& count, unsigned bytes, u64 limit) override;
  void element(u64& value, unsigned bytes) override { value = number(bytes); }
  void enter(std::string_view name) override;
  void leave() override;

 private:
  bool item(u8 tag, std::string_view name);
  u64 number(unsigned bytes);
  std::span<const u8> bytes_;
  std::size_t position_ = 0;
  std::vector<std::string> path_;
  std::string error_;
};

/// A line a field, indented by part.
class StatePrinter : public StateVisitor {
 public:
  bool restoring() const override { return false; }
  unsigned version(unsigned current) override { return current; }
  void fail(std::string) override {}
  bool failed() const override { return false; }
  void blob(std::string_view name, std::span<u8> bytes) override;
  const std::string& text() const { return text_; }

 protected:
  void scalar(std::string_view name, u64& value, unsigned bytes) override;
  void begin_array(std::string_view name, u64& count, unsigned bytes, u64 limit) override;
  void element(u64& value, unsigned bytes) override;
  void enter(std::string_view name) override;
  void leave() override { depth_ -= 1; }

 private:
  void start(std::string_view name);
  std::string text_;
  unsigned depth_ = 0;
  u64 elements_left_ = 0;
};

}  // namespace kiln::devices
