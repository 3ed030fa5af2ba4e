// The machine's time. Devices read no other clock, so that a machine can be stopped, saved and replayed.
#pragma once
#include <functional>
#include <memory>

#include "ir/support/bits.h"

namespace kiln::devices {

/// A one-shot alarm. Destroying it cancels it.
class Timer {
 public:
  static constexpr u64 kNever = ~u64{0};
  virtual ~Timer() = default;
  /// The callback is due when the clock reaches `when_ns`; replaces an earlier time. A time that has passed is due at once, but
  /// never inside set(). kNever cancels.
  virtual void set(u64 when_ns) = 0;
  virtual void cancel() = 0;
  /// When it is due, kNever if it is not set: this is what a device saves.
  virtual u64 due_ns() const = 0;
};

/// Nanoseconds since the machine was made, standing still while it is stopped. now_ns may be called by any thread, the rest
/// with the machine lock held; callbacks run on the I/O thread with the lock held.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual u64 now_ns() = 0;
  virtual std::unique_ptr<Timer> create_timer(std::function<void()> callback) = 0;
  /// The date a real-time clock shows at its reset: seconds since 1970, UTC unless the user said otherwise (-rtc).
  virtual u64 date() = 0;
};

}  // namespace kiln::devices
