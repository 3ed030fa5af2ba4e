#include "devices/bus/host_loop.h"

#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <ctime>
#include <limits>
#include <vector>

namespace kiln::devices {

// --- timers

struct TimerQueue::Entry {
  std::function<void()> callback;
  Key key{Timer::kNever, 0};
};

class TimerQueue::Handle : public Timer {
 public:
  Handle(TimerQueue& queue, std::shared_ptr<Entry> entry) : queue_(queue), entry_(std::move(entry)) {}
  ~Handle() override { queue_.set(entry_, kNever); }
  void set(u64 when_ns) override { queue_.set(entry_, when_ns); }
  void cancel() override { queue_.set(entry_, kNever); }
  u64 due_ns() const override { return entry_->key.first; }

 private:
  TimerQueue& queue_;
  std::shared_ptr<Entry> entry_;
};

std::unique_ptr<Timer> TimerQueue::create(std::function<void()> callback) {
  auto entry = std::make_shared<Entry>();
  entry->callback = std::move(callback);
  return std::make_unique<Handle>(*this, std::move(entry));
}

void TimerQueue::set(const std::shared_ptr<Entry>& entry, u64 when_ns) {
  if (entry->key.first != Timer::kNever) due_.erase(entry->key);
  const u64 before = earliest();
  entry->key = {when_ns, serial_++};
  if (when_ns == Timer::kNever) return;
  due_.emplace(entry->key, entry);
  if (when_ns < before) changed_();
}

void TimerQueue::run(u64 now) {
  const u64 last = serial_;
  // By number, so that a timer which sets itself again to a time past does not keep us here.
  while (!due_.empty() && due_.begin()->first.first <= now && due_.begin()->first.second < last) {
    std::shared_ptr<Entry> entry = due_.begin()->second;
    due_.erase(due_.begin());
    entry->key.first = Timer::kNever;
    entry->callback();
  }
}

// --- loop

struct HostLoop::Watched {
  int fd = -1;
  std::function<void(Ready)> callback;
  bool readable = false, writable = false;
  bool in_epoll = false;
  bool always_ready = false;  // a regular file, which epoll does not take
  bool own = false;           // a duplicate: epoll takes a descriptor once
};

class HostLoop::Handle : public FdWatch {
 public:
  Handle(HostLoop& loop, u64 id) : loop_(loop), id_(id) {}
  ~Handle() override { loop_.remove(id_); }
  void want(bool readable, bool writable) override { loop_.update(id_, readable, writable); }

 private:
  HostLoop& loop_;
  u64 id_;
};

HostLoop::HostLoop(MachineLock& lock) : lock_(lock), timers_([this] { wake(); }) {
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  event_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u64 = 0;
  epoll_ctl(epoll_, EPOLL_CTL_ADD, event_, &event);
}

HostLoop::~HostLoop() {
  close(event_);
  close(epoll_);
}

u64 HostLoop::host_ns() {
  timespec now{};
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

std::unique_ptr<Timer> HostLoop::create_host_timer(std::function<void()> callback) {
  return timers_.create(std::move(callback));
}

void HostLoop::wake() {
  const u64 one = 1;
  // Fails only if the counter is at its end: then the loop is awake anyway.
  [[maybe_unused]] const ssize_t written = ::write(event_, &one, sizeof one);
}

void HostLoop::post(std::function<void()> work) {
  {
    const std::lock_guard guard(posted_lock_);
    posted_.push_back(std::move(work));
  }
  wake();
}

void HostLoop::stop() {
  stopping_ = true;
  wake();
}

std::unique_ptr<FdWatch> HostLoop::watch(int fd, std::function<void(Ready)> callback) {
  const u64 id = next_id_++;
  auto watched = std::make_shared<Watched>();
  watched->fd = fd;
  watched->callback = std::move(callback);
  watched_.emplace(id, watched);
  update(id, true, false);
  return std::make_unique<Handle>(*this, id);
}

void HostLoop::update(u64 id, bool readable, bool writable) {
  Watched& watched = *watched_.at(id);
  const bool wanted = readable || writable;
  if (watched.readable == readable && watched.writable == writable && wanted == (watched.in_epoll || watched.always_ready))
    return;
  watched.readable = readable;
  watched.writable = writable;
  epoll_event event{};
  event.events = (readable ? EPOLLIN | EPOLLRDHUP : 0u) | (writable ? EPOLLOUT : 0u);
  event.data.u64 = id;
  // Out of epoll when nothing is wanted: a hang-up would be told without end.
  if (!readable && !writable) {
    if (watched.in_epoll) epoll_ctl(epoll_, EPOLL_CTL_DEL, watched.fd, nullptr);
    watched.in_epoll = false;
  } else if (!watched.always_ready) {
    // A descriptor that was closed and opened again under the same number is no longer in epoll.
    const bool changed = watched.in_epoll && epoll_ctl(epoll_, EPOLL_CTL_MOD, watched.fd, &event) == 0;
    if (changed || epoll_ctl(epoll_, EPOLL_CTL_ADD, watched.fd, &event) == 0) {
      watched.in_epoll = true;
    } else if (errno == EPERM) {
      watched.always_ready = true;
    } else if (errno == EEXIST && !watched.own) {
      const int copy = fcntl(watched.fd, F_DUPFD_CLOEXEC, 0);
      if (copy < 0) return;
      watched.fd = copy;
      watched.own = true;
      update(id, readable, writable);
    }
  }
  if (watched.always_ready) wake();
}

void HostLoop::remove(u64 id) {
  const auto found = watched_.find(id);
  if (found->second->in_epoll) epoll_ctl(epoll_, EPOLL_CTL_DEL, found->second->fd, nullptr);
  if (found->second->own) close(found->second->fd);
  watched_.erase(found);
}

void HostLoop::deliver(u64 id, Ready ready) {
  const auto found = watched_.find(id);
  if (found == watched_.end()) return;  // ended by an earlier callback
  const std::shared_ptr<Watched> watched = found->second;
  ready.readable = ready.readable && watched->readable;
  ready.writable = ready.writable && watched->writable;
  if (ready.readable || ready.writable) watched->callback(ready);
}

void HostLoop::run() {
  while (!stopping_) run_once(Timer::kNever);
}

void HostLoop::run_once(u64 timeout_ns) {
  std::vector<u64> always;
  {
    const std::lock_guard guard(lock_);
    for (const auto& [id, watched] : watched_)
      if (watched->always_ready && (watched->readable || watched->writable)) always.push_back(id);
    const u64 due = timers_.earliest(), now = host_ns();
    if (due != Timer::kNever) timeout_ns = std::min(timeout_ns, due > now ? due - now : 0);
    if (!always.empty() || stopping_) timeout_ns = 0;
  }
  epoll_event events[32];
  timespec timeout{static_cast<time_t>(timeout_ns / 1'000'000'000), static_cast<long>(timeout_ns % 1'000'000'000)};
  const int count = epoll_pwait2(epoll_, events, std::size(events), timeout_ns == Timer::kNever ? nullptr : &timeout, nullptr);

  const std::lock_guard guard(lock_);
  for (int i = 0; i < count; ++i) {
    if (events[i].data.u64 == 0) {
      u64 value;
      [[maybe_unused]] const ssize_t got = ::read(event_, &value, sizeof value);
      continue;
    }
    const u32 what = events[i].events;
    const bool broken = (what & (EPOLLHUP | EPOLLERR)) != 0;
    deliver(events[i].data.u64, {(what & (EPOLLIN | EPOLLRDHUP)) != 0 || broken, (what & EPOLLOUT) != 0 || broken,
                                 broken || (what & EPOLLRDHUP) != 0});
  }
  for (const u64 id : always) deliver(id, {true, true, false});
  timers_.run(host_ns());
  std::deque<std::function<void()>> work;
  {
    const std::lock_guard posted_guard(posted_lock_);
    work.swap(posted_);
  }
  for (const auto& item : work) item();
}

// --- clock

HostClock::HostClock(EventLoop& loop, u64 date)
    : loop_(loop), date_(date), timers_([this] { arm(); }), alarm_(loop.create_host_timer([this] {
        timers_.run(now_ns());
        arm();
      })) {}

u64 HostClock::now_ns() {
  for (;;) {
    const u64 sequence = sequence_.load(std::memory_order_acquire);
    const bool running = running_.load(std::memory_order_acquire);
    const u64 offset = offset_.load(std::memory_order_acquire);
    const u64 now = running ? loop_.host_ns() + offset : offset;
    if ((sequence & 1) == 0 && sequence_.load(std::memory_order_acquire) == sequence) return now;
  }
}

void HostClock::start() {
  if (running_) return;
  const u64 now = offset_;
  sequence_ += 1;
  offset_ = now - loop_.host_ns();
  running_ = true;
  sequence_ += 1;
  arm();
}

void HostClock::stop() {
  if (!running_) return;
  const u64 now = now_ns();
  sequence_ += 1;
  running_ = false;
  offset_ = now;
  sequence_ += 1;
  alarm_->cancel();
}

void HostClock::arm() {
  if (!running_ || !alarm_) return;
  const u64 due = timers_.earliest(), host_ahead = 0 - offset_.load();
  alarm_->set(due > Timer::kNever - host_ahead ? Timer::kNever : due + host_ahead);
}

void HostClock::state(StateVisitor& v) {
  v.version(1);
  const bool was_running = running_;
  stop();
  u64 now = now_ns();
  v("now_ns", now);
  v("date", date_);
  if (v.restoring() && !v.failed()) {
    sequence_ += 1;
    offset_ = now;
    sequence_ += 1;
  }
  if (was_running) start();
}

}  // namespace kiln::devices
