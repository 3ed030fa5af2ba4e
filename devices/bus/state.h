// One list of a device's state, which saves, restores and prints it.
#pragma once
#include <array>
#include <concepts>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "devices/bus/clock.h"
#include "ir/support/bits.h"

namespace kiln::devices {

class StateVisitor;

/// Something with state. state() names every field once, always in the same order:
///
///     void Uart::state(StateVisitor& v) {
///       v.version(1);
///       v("control", control_);
///       v("fifo", fifo_);
///       v("clock", clock_);       // a part with a state() of its own
///       if (v.restoring()) update_line();
///     }
///
/// What follows from other fields (lines, timers of the host) is not named but made again at the end of a restore. Machine lock
/// held.
class Stateful {
 public:
  virtual ~Stateful() = default;
  virtual void state(StateVisitor& visitor) = 0;
};

/// A device of a board: it can be reset and has state.
class Device : public Stateful {
 public:
  /// As at power-on. Lines go low, contents of disks and batteries stay.
  virtual void reset() = 0;
};

template <class T>
concept StateScalar = std::integral<T> || std::is_enum_v<T>;

/// Implemented by StateWriter, StateReader and StatePrinter (state_file.h).
class StateVisitor {
 public:
  virtual ~StateVisitor() = default;
  /// True while fields are being set.
  virtual bool restoring() const = 0;
  /// The layout's number, first thing of a state(). Returns what was saved, which is at most `current`; a newer one fails the
  /// restore.
  virtual unsigned version(unsigned current) = 0;
  /// What was saved cannot be restored here. The first call counts; fields keep their values from then on.
  virtual void fail(std::string why) = 0;
  virtual bool failed() const = 0;

  template <StateScalar T>
  void operator()(std::string_view name, T& value) {
    u64 wide = static_cast<u64>(value);
    scalar(name, wide, sizeof(T));
    if (restoring() && !failed()) value = static_cast<T>(wide);
  }
  /// A field that must be below `limit` (an index): a saved file that says otherwise fails the restore.
  template <StateScalar T>
  void below(std::string_view name, T& value, u64 limit) {
    u64 wide = static_cast<u64>(value);
    scalar(name, wide, sizeof(T));
    if (!restoring() || failed()) return;
    if (wide >= limit) return fail(std::string(name) + " is out of range");
    value = static_cast<T>(wide);
  }
  template <StateScalar T, std::size_t n>
  void operator()(std::string_view name, T (&values)[n]) {
    array(name, std::span<T>(values));
  }
  template <StateScalar T, std::size_t n>
  void operator()(std::string_view name, std::array<T, n>& values) {
    array(name, std::span<T>(values));
  }
  /// Of any length up to `limit` elements.
  template <StateScalar T>
  void operator()(std::string_view name, std::vector<T>& values, u64 limit = 1 << 20) {
    u64 count = values.size();
    begin_array(name, count, sizeof(T), limit);
    if (restoring()) {
      if (failed()) return;
      values.resize(count);
    }
    elements(std::span<T>(values));
  }
  void operator()(std::string_view name, std::string& text) {
    std::vector<u8> bytes(text.begin(), text.end());
    (*this)(name, bytes);
    if (restoring() && !failed()) text.assign(bytes.begin(), bytes.end());
  }
  /// Memory of fixed size.
  virtual void blob(std::string_view name, std::span<u8> bytes) = 0;
  /// When a timer is due.
  void operator()(std::string_view name, Timer& timer) {
    u64 due = timer.due_ns();
    scalar(name, due, sizeof due);
    if (restoring() && !failed()) timer.set(due);
  }
  /// A part, or a list of parts of fixed number (name[0], name[1], …).
  void operator()(std::string_view name, Stateful& part) {
    enter(name);
    part.state(*this);
    leave();
  }
  /// Fields of a plain struct, in a group.
  template <std::invocable Fields>
  void group(std::string_view name, Fields fields) {
    enter(name);
    fields();
    leave();
  }

 protected:
  virtual void scalar(std::string_view name, u64& value, unsigned bytes) = 0;
  /// `count` elements of `bytes` each follow as element() calls; restoring: `count` is set, at most `limit`.
  virtual void begin_array(std::string_view name, u64& count, unsigned bytes, u64 limit) = 0;
  virtual void element(u64& value, unsigned bytes) = 0;
  virtual void enter(std::string_view name) = 0;
  virtual void leave() = 0;

 private:
  template <StateScalar T>
  void array(std::string_view name, std::span<T> values) {
    u64 count = values.size();
    begin_array(name, count, sizeof(T), count);
    if (restoring() && !failed() && count != values.size()) fail(std::string(name) + " has another length");
    if (!failed()) elements(values);
  }
  template <StateScalar T>
  void elements(std::span<T> values) {
    for (T& value : values) {
      u64 wide = static_cast<u64>(value);
      element(wide, sizeof(T));
      if (restoring() && !failed()) value = static_cast<T>(wide);
    }
  }
};

}  // namespace kiln::devices
