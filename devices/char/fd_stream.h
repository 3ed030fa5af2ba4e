// Bytes through file descriptors that are never waited for.
#pragma once
#include <memory>
#include <string>

#include "devices/bus/event_loop.h"
#include "devices/char/char_backend.h"

namespace kiln::devices {

/// Writes to a descriptor without blocking: what does not go out at once is kept (at most a megabyte, then the oldest is lost)
/// and follows when the descriptor is writable. The flags of a description that we share with other processes (a terminal, a
/// pipe) are left alone.
class FdWriter {
 public:
  /// `fd` stays the caller's.
  FdWriter(EventLoop& loop, int fd);
  ~FdWriter();
  void send(std::span<const u8> bytes);

 private:
  static constexpr u64 kMostKept = 1 << 20;
  /// How many were taken; all of them if the other end is gone.
  std::size_t write_now(std::span<const u8> bytes);
  void flush();

  EventLoop& loop_;
  int fd_;
  bool own_ = false, socket_ = false;
  std::string kept_;
  std::unique_ptr<FdWatch> watch_;
};

/// Reads a descriptor while the attached device has room.
class FdReader {
 public:
  /// `ended`: end of file, or an error; nothing is read after it.
  FdReader(EventLoop& loop, int fd, const CharBackend::Callbacks& callbacks, std::function<void()> ended);
  /// To be called when room or callbacks have changed.
  void update();

 private:
  void readable();
  int fd_;
  bool at_end_ = false;
  const CharBackend::Callbacks& callbacks_;
  std::function<void()> ended_;
  std::unique_ptr<FdWatch> watch_;
};

}  // namespace kiln::devices
