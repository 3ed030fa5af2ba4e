// Who runs what: the machine lock, and the I/O thread that serves file descriptors and timers. bus/host_loop.h implements it
// with epoll.
//
//   thread           | holds the machine lock while                           | calls
//   -----------------+--------------------------------------------------------+-----------------------------------------------------------
//   a vCPU           | it answers an access to registers, device_register or  | MmioDevice, Board::cpu_register, IrqLine of the
//   processor's
//                    | set_output; never while it runs guest code             | outputs; from there everything a device may
//                    call
//   the I/O thread   | it runs callbacks (not while it waits)                 | callbacks of FdWatch, Timer, post()
//   a worker (block) | never                                                  | EventLoop::post, memory held by DmaPort::map;
//   nothing else main, monitor    | it builds, resets, saves or inspects the machine       | anything
//
// The lock is one for the whole machine and is not recursive: who is called with it held never takes it. A callback keeps it
// for microseconds; what may wait (disks, names) goes to a worker.
#pragma once
#include <functional>
#include <memory>
#include <mutex>

#include "devices/bus/clock.h"

namespace kiln::devices {

/// A std::mutex: hold it with std::lock_guard or std::unique_lock.
using MachineLock = std::mutex;

/// A watched file descriptor, which stays its maker's own; destroying the watch (from its own callback too) ends it: no
/// callback comes after.
class FdWatch {
 public:
  virtual ~FdWatch() = default;
  /// Which readiness calls back, from now on. Level-triggered; errors and hang-ups are told as both.
  virtual void want(bool readable, bool writable) = 0;
};

class EventLoop {
 public:
  struct Ready {
    bool readable = false, writable = false, hang_up = false;
  };
  virtual ~EventLoop() = default;
  /// Machine lock held. Wants readable at first.
  virtual std::unique_ptr<FdWatch> watch(int fd, std::function<void(Ready)> callback) = 0;
  /// Any thread, with or without the lock: `work` runs on the I/O thread, with the lock, in order of posting.
  virtual void post(std::function<void()> work) = 0;
  /// Nanoseconds of the host's steady clock, and alarms on it: for back-ends (network time-outs), which go on while the machine
  /// stands still.
  virtual u64 host_ns() = 0;
  virtual std::unique_ptr<Timer> create_host_timer(std::function<void()> callback) = 0;
};

}  // namespace kiln::devices
