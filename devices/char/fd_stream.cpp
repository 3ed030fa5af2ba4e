#include "devices/char/fd_stream.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace kiln::devices {

FdWriter::FdWriter(EventLoop& loop, int fd) : loop_(loop), fd_(fd) {
  struct stat info{};
  if (fstat(fd, &info) != 0) return;
  socket_ = S_ISSOCK(info.st_mode);
  // A description of our own may be non-blocking. A file needs none, and its position is to stay shared.
  const bool blocking = (fcntl(fd, F_GETFL) & O_NONBLOCK) == 0;
  if (blocking && (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode))) {
    const int own = open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own >= 0) {
      fd_ = own;
      own_ = true;
    }
  }
}

FdWriter::~FdWriter() {
  watch_.reset();
  if (!kept_.empty()) write_now({reinterpret_cast<const u8*>(kept_.data()), kept_.size()});
  if (own_) close(fd_);
}

std::size_t FdWriter::write_now(std::span<const u8> bytes) {
  std::size_t done = 0;
  while (done < bytes.size()) {
    const std::size_t left = bytes.size() - done;
    const ssize_t sent =
        socket_ ? ::send(fd_, bytes.data() + done, left, MSG_DONTWAIT | MSG_NOSIGNAL) : ::write(fd_, bytes.data() + done, left);
    if (sent >= 0) done += static_cast<std::size_t>(sent);
    else if (errno == EAGAIN) break;
    else if (errno != EINTR) return bytes.size();
  }
  return done;
}

void FdWriter::send(std::span<const u8> bytes) {
  if (kept_.empty()) bytes = bytes.subspan(write_now(bytes));
  if (bytes.empty()) return;
  kept_.append(bytes.begin(), bytes.end());
  if (kept_.size() > kMostKept) kept_.erase(0, kept_.size() - kMostKept);
  if (watch_ == nullptr) watch_ = loop_.watch(fd_, [this](EventLoop::Ready) { flush(); });
  watch_->want(false, true);
}

void FdWriter::flush() {
  kept_.erase(0, write_now({reinterpret_cast<const u8*>(kept_.data()), kept_.size()}));
  if (kept_.empty()) watch_.reset();
}

FdReader::FdReader(EventLoop& loop, int fd, const CharBackend::Callbacks& callbacks, std::function<void()> ended)
    : fd_(fd),
      callbacks_(callbacks),
      ended_(std::move(ended)),
      watch_(loop.watch(fd, [this](EventLoop::Ready) { readable(); })) {
  update();
}

void FdReader::update() { watch_->want(!at_end_ && callbacks_.room && callbacks_.room() != 0, false); }

void FdReader::readable() {
  u8 bytes[4096];
  const u64 room = callbacks_.room ? callbacks_.room() : 0;
  if (room == 0) return update();
  const ssize_t got = ::read(fd_, bytes, std::min<u64>(room, sizeof bytes));
  if (got < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (got <= 0) {
    at_end_ = true;
    update();
    const std::function<void()> ended = ended_;  // it may destroy us
    return ended();
  }
  callbacks_.receive({bytes, static_cast<std::size_t>(got)});
  update();
}

}  // namespace kiln::devices
