#include "devices/block/pool_disk.h"

#include <algorithm>
#include <cerrno>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <thread>

namespace kiln::devices {

namespace {

constexpr unsigned kThreads = 4;

class PoolDisk final : public BlockBackend {
 public:
  PoolDisk(EventLoop& loop, std::unique_ptr<BlockStore> store, bool read_only, std::string description, bool write_through)
      : loop_(loop),
        store_(std::move(store)),
        read_only_(read_only),
        write_through_(write_through),
        description_(std::move(description)),
        alive_(std::make_shared<bool>(true)) {}

  ~PoolDisk() override {
    // What was asked for is done, though nobody is told: data of a guest is never dropped.
    *alive_ = false;
    {
      const std::lock_guard guard(lock_);
      ending_ = true;
    }
    work_there_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }

  u64 bytes() const override { return store_->bytes(); }
  bool read_only() const override { return read_only_; }
  std::string describe() const override { return description_; }

  void read(u64 offset, std::vector<BlockPiece> pieces, Done done) override {
    u64 length = total(pieces);
    add(offset, length, false, std::move(done), [this, offset, pieces = std::move(pieces)] {
      u64 at = offset;
      for (const BlockPiece& piece : pieces) {
        if (const int error = store_->read(at, piece.host, piece.bytes); error != 0) return error;
        at += piece.bytes;
      }
      return 0;
    });
  }

  void write(u64 offset, std::vector<BlockPiece> pieces, bool fua, Done done) override {
    u64 length = total(pieces);
    fua = fua || write_through_;
    add(offset, length, true, std::move(done), [this, offset, fua, pieces = std::move(pieces)] {
      u64 at = offset;
      for (const BlockPiece& piece : pieces) {
        if (const int error = store_->write(at, piece.host, piece.bytes); error != 0) return error;
        at += piece.bytes;
      }
      return fua ? store_->flush() : 0;
    });
  }

  void flush(Done done) override {
    add(0, 0, false, std::move(done), [this] { return read_only_ ? 0 : store_->flush(); });
  }
  void write_zeroes(u64 offset, u64 bytes, bool unmap, Done done) override {
    add(offset, bytes, true, std::move(done), [=, this] {
      const int error = store_->write_zeroes(offset, bytes, unmap);
      return error == 0 && write_through_ ? store_->flush() : error;
    });
  }
  void discard(u64 offset, u64 bytes, Done done) override {
    add(offset, bytes, true, std::move(done), [=, this] { return store_->discard(offset, bytes); });
  }

  void drain(std::unique_lock<std::mutex>& lock) override {
    // On the I/O thread itself nobody else would run the callbacks: they wait in finished_ and run here.
    while (unfinished_ != 0) {
      {
        std::unique_lock guard(lock_);
        lock.unlock();
        some_finished_.wait(guard, [this] { return !finished_.empty() || told_ != 0; });
        told_ = 0;
      }
      lock.lock();
      deliver();
    }
  }

 private:
  struct Work {
    u64 offset, bytes;
    bool writes;
    std::function<int()> run;
    Done done;
    int error = 0;
    bool running = false;
  };

  static u64 total(const std::vector<BlockPiece>& pieces) {
    u64 sum = 0;
    for (const BlockPiece& piece : pieces) sum += piece.bytes;
    return sum;
  }

  void add(u64 offset, u64 bytes, bool writes, Done done, std::function<int()> run) {
    unfinished_ += 1;
    const bool inside = offset <= store_->bytes() && bytes <= store_->bytes() - offset;
    const int refused = !inside ? EIO : writes && read_only_ ? EROFS : 0;
    if (refused != 0) {
      const std::lock_guard guard(lock_);
      finished_.push_back({offset, bytes, writes, {}, std::move(done), refused, false});
      some_finished_.notify_all();
      return tell_loop();
    }
    {
      const std::lock_guard guard(lock_);
      waiting_.push_back({offset, bytes, writes, std::move(run), std::move(done), 0, false});
      // Threads start when there is work for them: a machine with idle disks has none.
      if (idle_ == 0 && threads_.size() < kThreads) threads_.emplace_back([this] { work(); });
    }
    work_there_.notify_one();
  }

  /// The first piece of work that nothing before it stands against. lock_ held.
  std::list<Work>::iterator next() {
    for (auto candidate = waiting_.begin(); candidate != waiting_.end(); ++candidate) {
      if (candidate->running) continue;
      const bool conflict = std::any_of(waiting_.begin(), candidate, [&](const Work& earlier) {
        return (earlier.writes || candidate->writes) && earlier.offset < candidate->offset + candidate->bytes &&
               candidate->offset < earlier.offset + earlier.bytes;
      });
      if (!conflict) return candidate;
    }
    return waiting_.end();
  }

  void work() {
    std::unique_lock guard(lock_);
    for (;;) {
      const auto mine = next();
      if (mine == waiting_.end()) {
        if (ending_ && waiting_.empty()) return;
        idle_ += 1;
        work_there_.wait(guard);
        idle_ -= 1;
        continue;
      }
      mine->running = true;
      guard.unlock();
      const int error = mine->run();
      guard.lock();
      mine->error = error;
      finished_.push_back(std::move(*mine));
      waiting_.erase(mine);
      some_finished_.notify_all();
      work_there_.notify_all();  // what overlapped may run now; at the end the others may leave
      tell_loop();
    }
  }

  void tell_loop() {
    loop_.post([this, alive = alive_] {
      if (*alive) deliver();
    });
  }

  /// Machine lock held.
  void deliver() {
    for (;;) {
      Done done;
      int error = 0;
      {
        const std::lock_guard guard(lock_);
        if (finished_.empty()) return;
        done = std::move(finished_.front().done);
        error = finished_.front().error;
        finished_.pop_front();
      }
      unfinished_ -= 1;
      done(error);
      const std::lock_guard guard(lock_);
      told_ += 1;
      some_finished_.notify_all();
    }
  }

  EventLoop& loop_;
  std::unique_ptr<BlockStore> store_;
  bool read_only_, write_through_;
  std::string description_;
  std::shared_ptr<bool> alive_;  // machine lock
  u64 unfinished_ = 0;           // machine lock: requests whose callback has not run

  std::mutex lock_;
  std::condition_variable work_there_, some_finished_;
  std::list<Work> waiting_;  // in order of arrival, running ones among them
  std::list<Work> finished_;
  u64 told_ = 0;  // callbacks that have run since drain() looked
  unsigned idle_ = 0;
  bool ending_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace

std::unique_ptr<BlockBackend> make_pool_disk(EventLoop& loop, std::unique_ptr<BlockStore> store, bool read_only,
                                             std::string description, bool write_through) {
  return std::make_unique<PoolDisk>(loop, std::move(store), read_only, std::move(description), write_through);
}

}  // namespace kiln::devices
