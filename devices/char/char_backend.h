// The outside of a serial line: a terminal, a socket, a file.
#pragma once
#include <functional>
#include <span>
#include <string>

#include "ir/support/bits.h"

namespace kiln::devices {

/// Bytes from and to the world. All calls and callbacks with the machine lock held; the callbacks come from the I/O thread.
class CharBackend {
 public:
  struct Callbacks {
    /// How many bytes the device takes now; while it is 0 nothing is read from the outside.
    std::function<u64()> room;
    /// At most room() bytes arrived.
    std::function<void(std::span<const u8>)> receive;
    /// A break condition on the line.
    std::function<void()> line_break;
  };
  virtual ~CharBackend() = default;
  /// One device at a time; empty callbacks detach it.
  virtual void attach(Callbacks callbacks) = 0;
  /// Takes all of it: what cannot be written at once waits in memory (the oldest is dropped beyond a megabyte, when nobody
  /// reads).
  virtual void send(std::span<const u8> bytes) = 0;
  /// The device has room again.
  virtual void room_changed() = 0;
  /// For the monitor: "stdio", "unix:/tmp/s (connected)".
  virtual std::string describe() const = 0;
};

}  // namespace kiln::devices
