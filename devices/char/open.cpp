#include "devices/char/open.h"

#include <fcntl.h>
#include <netdb.h>
#include <pty.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "devices/char/fd_stream.h"

namespace kiln::devices {

namespace {

class NullChar final : public CharBackend {
 public:
  void attach(Callbacks) override {}
  void send(std::span<const u8>) override {}
  void room_changed() override {}
  std::string describe() const override { return "null"; }
};

/// One descriptor to read (or none) and one to write, for as long as the machine lives.
class StreamChar : public CharBackend {
 public:
  StreamChar(EventLoop& loop, int in, int out, std::string name) : writer_(loop, out), name_(std::move(name)) {
    if (in >= 0) reader_ = std::make_unique<FdReader>(loop, in, callbacks_, [] {});
  }
  void attach(Callbacks callbacks) override {
    callbacks_ = std::move(callbacks);
    room_changed();
  }
  void send(std::span<const u8> bytes) override { writer_.send(bytes); }
  void room_changed() override {
    if (reader_ != nullptr) reader_->update();
  }
  std::string describe() const override { return name_; }

 private:
  Callbacks callbacks_;
  FdWriter writer_;
  std::unique_ptr<FdReader> reader_;
  std::string name_;
};

/// Descriptors that a stream owns: closed after it, because members go before bases.
struct OwnedFds {
  int first = -1, second = -1;
  OwnedFds(int first, int second) : first(first), second(second) {}
  ~OwnedFds() {
    if (first >= 0) close(first);
    if (second >= 0) close(second);
  }
  OwnedFds(const OwnedFds&) = delete;
};
class OwningChar final : private OwnedFds, public StreamChar {
 public:
  OwningChar(EventLoop& loop, int in, int out, int keep, std::string name)
      : OwnedFds(out, keep), StreamChar(loop, in, out, std::move(name)) {}
};

/// The terminal passes every key on and echoes none, until it is put back.
struct RawTerminal {
  termios saved{};
  bool changed = false;
  explicit RawTerminal(bool signals) {
    if (tcgetattr(STDIN_FILENO, &saved) != 0) return;
    termios raw = saved;
    raw.c_iflag &= ~static_cast<tcflag_t>(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON);
    raw.c_lflag &= ~static_cast<tcflag_t>(ECHO | ECHONL | ICANON | IEXTEN);
    if (!signals) raw.c_lflag &= ~static_cast<tcflag_t>(ISIG);
    raw.c_cc[VMIN] = 1;
    raw.c_cc[VTIME] = 0;
    changed = tcsetattr(STDIN_FILENO, TCSANOW, &raw) == 0;
  }
  ~RawTerminal() {
    if (changed) tcsetattr(STDIN_FILENO, TCSANOW, &saved);
  }
};
class StdioChar final : private RawTerminal, public StreamChar {
 public:
  StdioChar(EventLoop& loop, bool signals) : RawTerminal(signals), StreamChar(loop, STDIN_FILENO, STDOUT_FILENO, "stdio") {}
};

/// A connection, and for a server the socket that waits for the next one.
class SocketChar final : public CharBackend {
 public:
  SocketChar(EventLoop& loop, int listener, std::string name, std::string unlink_path)
      : loop_(loop), listener_(listener), name_(std::move(name)), unlink_path_(std::move(unlink_path)) {
    if (listener_ >= 0) accept_watch_ = loop_.watch(listener_, [this](EventLoop::Ready) { accept_one(); });
  }
  ~SocketChar() override {
    disconnect();
    accept_watch_.reset();
    if (listener_ >= 0) close(listener_);
    if (!unlink_path_.empty()) unlink(unlink_path_.c_str());
  }
  void connected(int fd) {
    connection_ = fd;
    writer_ = std::make_unique<FdWriter>(loop_, fd);
    reader_ = std::make_unique<FdReader>(loop_, fd, callbacks_, [this] { disconnect(); });
    // One client at a time; others wait.
    if (accept_watch_ != nullptr) accept_watch_->want(false, false);
  }
  void attach(Callbacks callbacks) override {
    callbacks_ = std::move(callbacks);
    room_changed();
  }
  void send(std::span<const u8> bytes) override {
    if (writer_ != nullptr) writer_->send(bytes);  // nobody there: lost, as on a line without a terminal
  }
  void room_changed() override {
    if (reader_ != nullptr) reader_->update();
  }
  std::string describe() const override { return name_ + (connection_ >= 0 ? " (connected)" : " (no client)"); }

 private:
  void accept_one() {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd >= 0) connected(fd);
  }
  void disconnect() {
    if (connection_ < 0) return;
    reader_.reset();
    writer_.reset();
    close(connection_);
    connection_ = -1;
    if (accept_watch_ != nullptr) accept_watch_->want(true, false);
  }
  EventLoop& loop_;
  int listener_, connection_ = -1;
  std::string name_, unlink_path_;
  Callbacks callbacks_;
  std::unique_ptr<FdWatch> accept_watch_;
  std::unique_ptr<FdWriter> writer_;
  std::unique_ptr<FdReader> reader_;
};

struct OpenSocket {
  int fd;
  std::string name, unlink_path;
};

Result<OpenSocket> open_unix(const std::string& path, bool server) {
  const auto failed = [&](const std::string& why) { return Error{"socket " + path + ": " + why}; };
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return failed("the path is too long");
  std::copy(path.begin(), path.end(), address.sun_path);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  const auto make = [] { return socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0); };
  int fd = make();
  const bool answered = connect(fd, generic, sizeof address) == 0;
  if (!server) {
    if (answered) return OpenSocket{fd, "unix:" + path, ""};
    const int error = errno;
    close(fd);
    return failed(std::strerror(error));
  }
  close(fd);
  if (answered) return failed("in use by another process");
  // What a process that is gone left behind.
  struct stat info{};
  if (lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) unlink(path.c_str());
  fd = make();
  if (bind(fd, generic, sizeof address) != 0 || listen(fd, 1) != 0) {
    const int error = errno;
    close(fd);
    return failed(std::strerror(error));
  }
  return OpenSocket{fd, "unix:" + path, path};
}

Result<OpenSocket> open_tcp(const std::string& host, const std::string& port, bool server) {
  const std::string name = "tcp:" + host + ":" + port;
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = server ? AI_PASSIVE : 0;
  const int status = getaddrinfo(host.empty() ? nullptr : host.c_str(), port.c_str(), &hints, &found);
  if (status != 0) return Error{name + ": " + gai_strerror(status)};
  int error = 0;
  for (const addrinfo* at = found; at != nullptr; at = at->ai_next) {
    const int fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (fd < 0) continue;
    const int one = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    const bool good = server ? bind(fd, at->ai_addr, at->ai_addrlen) == 0 && listen(fd, 1) == 0
                             : connect(fd, at->ai_addr, at->ai_addrlen) == 0;
    if (good) {
      freeaddrinfo(found);
      return OpenSocket{fd, name, ""};
    }
    error = errno;
    close(fd);
  }
  freeaddrinfo(found);
  return Error{name + ": " + std::strerror(error)};
}

/// Waits for a client. The user may end the process meanwhile, even if signals are otherwise left to the I/O thread, which does
/// not run yet.
int accept_first(int listener) {
  sigset_t ending, before;
  sigemptyset(&ending);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&ending, number);
  pthread_sigmask(SIG_UNBLOCK, &ending, &before);
  int client = -1;
  do client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  while (client < 0 && errno == EINTR);
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  return client;
}

Result<std::unique_ptr<CharBackend>> open_socket(EventLoop& loop, MachineLock& lock,
                                                 const std::map<std::string, std::string>& properties) {
  const auto get = [&](const char* key) {
    const auto found = properties.find(key);
    return found != properties.end() ? found->second : std::string();
  };
  const bool server = get("server") == "on";
  auto opened = !get("path").empty() ? open_unix(get("path"), server) : open_tcp(get("host"), get("port"), server);
  if (!opened) return Error{opened.error()};
  int client = server ? -1 : opened->fd;
  if (server && get("wait") != "off") {
    std::fprintf(stderr, "kiln-system: waiting for a connection on %s\n", opened->name.c_str());
    client = accept_first(opened->fd);
  }
  const std::lock_guard guard(lock);
  auto made = std::make_unique<SocketChar>(loop, server ? opened->fd : -1, opened->name, opened->unlink_path);
  if (client >= 0) made->connected(client);
  return std::unique_ptr<CharBackend>(std::move(made));
}

Result<std::unique_ptr<CharBackend>> open_pty(EventLoop& loop, MachineLock& lock) {
  int outside = -1, inside = -1;
  char name[128] = {};
  if (openpty(&outside, &inside, name, nullptr, nullptr) != 0) return Error{std::string("pty: ") + std::strerror(errno)};
  termios raw{};
  tcgetattr(inside, &raw);
  cfmakeraw(&raw);
  tcsetattr(inside, TCSANOW, &raw);
  for (const int fd : {outside, inside}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  fcntl(outside, F_SETFL, O_NONBLOCK);  // this description is ours alone; one made by its path would be another terminal
  const std::lock_guard guard(lock);
  // The inner end stays open here: without it the outer one would hang up whenever no program holds it.
  return std::unique_ptr<CharBackend>(std::make_unique<OwningChar>(loop, outside, outside, inside, std::string("pty:") + name));
}

Result<std::unique_ptr<CharBackend>> open_file(EventLoop& loop, MachineLock& lock, const std::string& path, bool append) {
  const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | (append ? O_APPEND : O_TRUNC), 0666);
  if (fd < 0) return Error{"cannot write " + path + ": " + std::strerror(errno)};
  const std::lock_guard guard(lock);
  return std::unique_ptr<CharBackend>(std::make_unique<OwningChar>(loop, -1, fd, -1, "file:" + path));
}

}  // namespace

Result<std::unique_ptr<CharBackend>> open_char(EventLoop& loop, MachineLock& lock, const std::string& kind,
                                               const std::map<std::string, std::string>& properties) {
  // A reader that goes away is no reason to die.
  std::signal(SIGPIPE, SIG_IGN);
  const auto get = [&](const char* key) {
    const auto found = properties.find(key);
    return found != properties.end() ? found->second : std::string();
  };
  constexpr struct {
    const char *kind, *keys;
  } kKinds[] = {
      {"null", ""}, {"stdio", " signal "}, {"file", " path append "}, {"pty", ""}, {"socket", " path host port server wait "}};
  const auto* known = std::ranges::find_if(kKinds, [&](const auto& entry) { return kind == entry.kind; });
  if (known == std::end(kKinds))
    return Error{"character device \"" + kind + "\" is not supported (known: null, stdio, file, pty, socket)"};
  for (const auto& [key, value] : properties)
    if (std::string(known->keys).find(" " + key + " ") == std::string::npos)
      return Error{kind + ": property \"" + key + "\" is not supported"};
  if (kind == "null") return std::unique_ptr<CharBackend>(std::make_unique<NullChar>());
  if (kind == "pty") return open_pty(loop, lock);
  if (kind == "socket") {
    if (get("path").empty() && get("port").empty()) return Error{"socket: needs path=, or host= and port="};
    return open_socket(loop, lock, properties);
  }
  if (kind == "file") {
    if (get("path").empty()) return Error{"file: needs path="};
    return open_file(loop, lock, get("path"), get("append") == "on");
  }
  const std::lock_guard guard(lock);
  return std::unique_ptr<CharBackend>(std::make_unique<StdioChar>(loop, get("signal") != "off"));
}

Result<CharSpec> parse_char_spec(const std::string& text) {
  const auto starts = [&](const char* prefix) { return text.rfind(prefix, 0) == 0; };
  if (text == "stdio" || text == "null" || text == "pty") return CharSpec{text, {}};
  if (starts("file:")) return CharSpec{"file", {{"path", text.substr(5)}}};
  if (!starts("unix:") && !starts("tcp:"))
    return Error{"\"" + text + "\" is not supported (known: stdio, null, pty, file:PATH, unix:PATH, tcp:HOST:PORT)"};
  CharSpec spec{"socket", {{"server", "off"}}};
  std::string rest = text.substr(text.find(':') + 1);
  std::size_t comma = rest.find(',');
  const std::string address = rest.substr(0, comma);
  if (starts("unix:")) {
    spec.properties["path"] = address;
  } else {
    const std::size_t colon = address.rfind(':');
    if (colon == std::string::npos) return Error{"\"" + text + "\": tcp needs HOST:PORT"};
    spec.properties["host"] = address.substr(0, colon);
    spec.properties["port"] = address.substr(colon + 1);
  }
  while (comma != std::string::npos) {
    rest = rest.substr(comma + 1);
    comma = rest.find(',');
    const std::string option = rest.substr(0, comma);
    if (option == "server" || option == "server=on") spec.properties["server"] = "on";
    else if (option == "server=off") spec.properties["server"] = "off";
    else if (option == "nowait" || option == "wait=off") spec.properties["wait"] = "off";
    else if (option == "wait" || option == "wait=on") spec.properties["wait"] = "on";
    else return Error{"\"" + text + "\": option \"" + option + "\" is not supported"};
  }
  return spec;
}

}  // namespace kiln::devices
