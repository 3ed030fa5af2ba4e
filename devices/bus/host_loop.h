// EventLoop and Clock on the host's epoll and steady clock.
#pragma once
#include <atomic>
#include <deque>
#include <map>
#include <memory>

#include "devices/bus/event_loop.h"
#include "devices/bus/state.h"

namespace kiln::devices {

/// Timers in order of their time. Machine lock held throughout.
class TimerQueue {
 public:
  /// `changed` is called when the earliest time has become earlier.
  explicit TimerQueue(std::function<void()> changed) : changed_(std::move(changed)) {}
  std::unique_ptr<Timer> create(std::function<void()> callback);
  u64 earliest() const { return due_.empty() ? Timer::kNever : due_.begin()->first.first; }
  /// Runs what is due at `now`, each once; a callback that sets a time already past waits for the next call.
  void run(u64 now);

 private:
  struct Entry;
  class Handle;
  using Key = std::pair<u64, u64>;  // due, serial number
  void set(const std::shared_ptr<Entry>& entry, u64 when_ns);

  std::function<void()> changed_;
  std::map<Key, std::shared_ptr<Entry>> due_;
  u64 serial_ = 0;
};

/// The I/O thread's loop. Whoever calls run() is the I/O thread.
class HostLoop : public EventLoop {
 public:
  explicit HostLoop(MachineLock& lock);
  ~HostLoop() override;

  /// Serves everything until stop(). Lock not held.
  void run();
  /// Waits for at most `timeout_ns` and serves what has happened: run() is this in a loop. Lock not held.
  void run_once(u64 timeout_ns);
  /// Any thread.
  void stop();

  std::unique_ptr<FdWatch> watch(int fd, std::function<void(Ready)> callback) override;
  void post(std::function<void()> work) override;
  u64 host_ns() override;
  std::unique_ptr<Timer> create_host_timer(std::function<void()> callback) override;
  MachineLock& lock() { return lock_; }

 private:
  struct Watched;
  class Handle;
  void wake();
  void update(u64 id, bool readable, bool writable);
  void remove(u64 id);
  void deliver(u64 id, Ready ready);

  MachineLock& lock_;
  int epoll_ = -1, event_ = -1;
  std::map<u64, std::shared_ptr<Watched>> watched_;
  u64 next_id_ = 1;
  TimerQueue timers_;
  std::mutex posted_lock_;
  std::deque<std::function<void()>> posted_;
  std::atomic<bool> stopping_ = false;
};

/// The machine's clock as host time minus the time the machine stood still.
class HostClock : public Clock, public Stateful {
 public:
  /// Stopped at 0 at first. `date`: what real-time clocks show at that moment.
  HostClock(EventLoop& loop, u64 date);
  u64 now_ns() override;
  std::unique_ptr<Timer> create_timer(std::function<void()> callback) override { return timers_.create(std::move(callback)); }
  u64 date() override { return date_ + now_ns() / 1'000'000'000; }
  /// Lock held.
  void start();
  void stop();
  void state(StateVisitor& visitor) override;

 private:
  void arm();
  EventLoop& loop_;
  u64 date_;
  // now = running ? host + offset : offset. Two words that other threads read: a sequence number guards them.
  std::atomic<u64> sequence_ = 0;
  std::atomic<bool> running_ = false;
  std::atomic<u64> offset_ = 0;
  TimerQueue timers_;
  std::unique_ptr<Timer> alarm_;
};

}  // namespace kiln::devices
