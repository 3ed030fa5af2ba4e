#include "devices/net/user_net.h"

#include <arpa/inet.h>
#include <slirp/libslirp.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <deque>
#include <map>

namespace kiln::devices {

namespace {

struct Forward {
  bool udp = false;
  in_addr host{}, guest{};
  int host_port = 0, guest_port = 0;
  std::string text;
};

struct Options {
  in_addr network{}, mask{}, host{}, dhcp_start{}, dns{};
  std::string hostname, domain;
  bool restricted = false, ipv4 = true, ipv6 = true;
  std::vector<Forward> forwards;
};

class UserNet final : public NetBackend {
 public:
  explicit UserNet(EventLoop& loop) : loop_(loop), timeout_(loop.create_host_timer([this] { poll(-1, {}); })) {}
  ~UserNet() override {
    if (slirp_ != nullptr) slirp_cleanup(slirp_);
  }
  Result<void> open(const Options& options);

  void attach(Callbacks callbacks) override {
    callbacks_ = std::move(callbacks);
    ready_changed();
  }
  void send(std::span<const u8> frame) override {
    slirp_input(slirp_, frame.data(), static_cast<int>(frame.size()));
    watch_sockets();
  }
  void ready_changed() override {
    while (!waiting_.empty() && callbacks_.ready && callbacks_.ready()) {
      const std::vector<u8> frame = std::move(waiting_.front());
      waiting_.pop_front();
      callbacks_.receive(frame);
    }
  }
  std::string describe() const override { return description_; }

 private:
  static constexpr std::size_t kMostWaiting = 1024;  // frames
  struct SlirpTimer {
    std::unique_ptr<Timer> timer;
  };
  struct Polled {
    int fd, events, ready;
  };

  static UserNet& self(void* opaque) { return *static_cast<UserNet*>(opaque); }
  void to_guest(const u8* frame, std::size_t bytes) {
    // The back-end may have frames waiting: order is kept by going through the queue.
    if (!callbacks_.ready) return;
    if (waiting_.size() < kMostWaiting) waiting_.emplace_back(frame, frame + bytes);
    ready_changed();
  }
  void poll(int fd, EventLoop::Ready ready);
  void watch_sockets();

  EventLoop& loop_;
  Callbacks callbacks_;
  std::deque<std::vector<u8>> waiting_;
  std::string description_ = "user";
  std::vector<Polled> polled_;
  std::map<int, std::unique_ptr<FdWatch>> watches_;
  std::unique_ptr<Timer> timeout_;
  SlirpCb slirp_callbacks_{};
  Slirp* slirp_ = nullptr;
};

void UserNet::poll(int fd, EventLoop::Ready ready) {
  for (Polled& polled : polled_) {
    polled.ready = 0;
    if (polled.fd != fd) continue;
    if (ready.readable) polled.ready |= SLIRP_POLL_IN;
    if (ready.writable) polled.ready |= SLIRP_POLL_OUT;
    if (ready.hang_up) polled.ready |= SLIRP_POLL_HUP;
    // A hang-up counts as readable and writable; slirp is told only of what it asked for, and of the hang-up.
    polled.ready &= polled.events | SLIRP_POLL_HUP | SLIRP_POLL_ERR;
  }
  slirp_pollfds_poll(
      slirp_, 0, [](int index, void* opaque) { return self(opaque).polled_[static_cast<std::size_t>(index)].ready; }, this);
  watch_sockets();
}

void UserNet::watch_sockets() {
  polled_.clear();
  u32 timeout_ms = ~u32{0};
  slirp_pollfds_fill(
      slirp_, &timeout_ms,
      [](int fd, int events, void* opaque) {
        self(opaque).polled_.push_back({fd, events, 0});
        return static_cast<int>(self(opaque).polled_.size()) - 1;
      },
      this);
  std::map<int, int> wanted;
  for (const Polled& polled : polled_) wanted[polled.fd] |= polled.events;
  std::erase_if(watches_, [&](const auto& watch) { return !wanted.contains(watch.first); });
  for (const auto& [fd, events] : wanted) {
    auto& watch = watches_[fd];
    if (watch == nullptr) watch = loop_.watch(fd, [this, fd = fd](EventLoop::Ready ready) { poll(fd, ready); });
    watch->want((events & (SLIRP_POLL_IN | SLIRP_POLL_PRI)) != 0, (events & SLIRP_POLL_OUT) != 0);
  }
  timeout_->set(timeout_ms == ~u32{0} ? Timer::kNever : loop_.host_ns() + u64{timeout_ms} * 1'000'000);
}

Result<void> UserNet::open(const Options& options) {
  slirp_callbacks_.send_packet = [](const void* frame, std::size_t bytes, void* opaque) {
    self(opaque).to_guest(static_cast<const u8*>(frame), bytes);
    return static_cast<ssize_t>(bytes);
  };
  slirp_callbacks_.guest_error = [](const char*, void*) {};
  slirp_callbacks_.clock_get_ns = [](void* opaque) { return static_cast<std::int64_t>(self(opaque).loop_.host_ns()); };
  slirp_callbacks_.timer_new = [](SlirpTimerCb callback, void* argument, void* opaque) -> void* {
    return new SlirpTimer{self(opaque).loop_.create_host_timer([=] { callback(argument); })};
  };
  slirp_callbacks_.timer_free = [](void* timer, void*) { delete static_cast<SlirpTimer*>(timer); };
  slirp_callbacks_.timer_mod = [](void* timer, std::int64_t when_ms, void*) {
    static_cast<SlirpTimer*>(timer)->timer->set(static_cast<u64>(when_ms) * 1'000'000);
  };
  // A number comes back for another socket: what was watched under it is gone.
  slirp_callbacks_.register_poll_fd = [](int fd, void* opaque) { self(opaque).watches_.erase(fd); };
  slirp_callbacks_.unregister_poll_fd = [](int fd, void* opaque) { self(opaque).watches_.erase(fd); };
  slirp_callbacks_.notify = [](void* opaque) { self(opaque).loop_.post([] {}); };

  SlirpConfig config{};
  config.version = 1;
  config.restricted = options.restricted;
  config.in_enabled = options.ipv4;
  config.vnetwork = options.network;
  config.vnetmask = options.mask;
  config.vhost = options.host;
  config.vdhcp_start = options.dhcp_start;
  config.vnameserver = options.dns;
  config.in6_enabled = options.ipv6;
  inet_pton(AF_INET6, "fec0::", &config.vprefix_addr6);
  config.vprefix_len = 64;
  inet_pton(AF_INET6, "fec0::2", &config.vhost6);
  inet_pton(AF_INET6, "fec0::3", &config.vnameserver6);
  config.vhostname = options.hostname.empty() ? nullptr : options.hostname.c_str();
  config.vdomainname = options.domain.empty() ? nullptr : options.domain.c_str();
  slirp_ = slirp_new(&config, &slirp_callbacks_, this);
  if (slirp_ == nullptr) return Error{"-netdev user: libslirp refuses this network"};
  for (const Forward& forward : options.forwards) {
    if (slirp_add_hostfwd(slirp_, forward.udp ? 1 : 0, forward.host, forward.host_port, forward.guest, forward.guest_port) != 0)
      return Error{"-netdev user: cannot listen for hostfwd=" + forward.text + ": " + std::strerror(errno)};
    description_ += ", hostfwd=" + forward.text;
  }
  watch_sockets();
  return {};
}

bool parse_port(std::string_view text, int& port) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  return error == std::errc{} && end == text.data() + text.size() && port >= 0 && port < 65536;
}

bool parse_address(const std::string& text, in_addr& address) { return inet_pton(AF_INET, text.c_str(), &address) == 1; }

/// (tcp|udp):[HOST]:PORT-[GUEST]:PORT
bool parse_forward(const std::string& text, in_addr default_guest, Forward& forward) {
  const std::size_t first = text.find(':');
  const std::size_t second = first == std::string::npos ? first : text.find(':', first + 1);
  const std::size_t dash = second == std::string::npos ? second : text.find('-', second);
  const std::size_t third = dash == std::string::npos ? dash : text.find(':', dash);
  if (third == std::string::npos) return false;
  const std::string protocol = text.substr(0, first), host = text.substr(first + 1, second - first - 1);
  const std::string guest = text.substr(dash + 1, third - dash - 1);
  forward.text = text;
  forward.udp = protocol == "udp";
  forward.guest = default_guest;
  if (protocol != "tcp" && protocol != "udp" && !protocol.empty()) return false;
  if (!host.empty() && !parse_address(host, forward.host)) return false;
  if (!guest.empty() && !parse_address(guest, forward.guest)) return false;
  return parse_port(std::string_view(text).substr(second + 1, dash - second - 1), forward.host_port) &&
         parse_port(std::string_view(text).substr(third + 1), forward.guest_port) && forward.guest_port != 0;
}

Result<Options> parse(const std::vector<std::pair<std::string, std::string>>& properties) {
  Options options;
  const auto wrong = [](const std::string& key, const std::string& value) {
    return Error{"-netdev user: " + key + "=" + value + " is wrong or not supported"};
  };
  u32 network = 0x0a000200;
  unsigned prefix = 24;
  for (const auto& [key, value] : properties) {
    if (key != "net") continue;
    const std::size_t slash = value.find('/');
    in_addr address{};
    int length = 24;
    if (!parse_address(value.substr(0, slash), address) ||
        (slash != std::string::npos && !parse_port(value.substr(slash + 1), length)) || length < 8 || length > 28)
      return wrong(key, value);
    prefix = static_cast<unsigned>(length);
    network = ntohl(address.s_addr);
  }
  const u32 mask = ~u32{0} << (32 - prefix);
  network &= mask;
  options.network.s_addr = htonl(network);
  options.mask.s_addr = htonl(mask);
  options.host.s_addr = htonl(network | 2);
  options.dns.s_addr = htonl(network | 3);
  options.dhcp_start.s_addr = htonl(network | 15);
  // The guest's address for forwards is the first that DHCP gives out.
  for (const auto& [key, value] : properties)
    if (key == "dhcpstart" && !parse_address(value, options.dhcp_start)) return wrong(key, value);
  for (const auto& [key, value] : properties) {
    const bool on = value == "on" || value == "yes";
    bool good = true;
    if (key == "host") good = parse_address(value, options.host);
    else if (key == "dns") good = parse_address(value, options.dns);
    else if (key == "hostname") options.hostname = value;
    else if (key == "domainname") options.domain = value;
    else if (key == "restrict") options.restricted = on;
    else if (key == "ipv4") options.ipv4 = on;
    else if (key == "ipv6") options.ipv6 = on;
    else if (key == "hostfwd") good = parse_forward(value, options.dhcp_start, options.forwards.emplace_back());
    else good = key == "net" || key == "dhcpstart" || key == "id";
    if (!good) return wrong(key, value);
  }
  return options;
}

}  // namespace

Result<std::unique_ptr<NetBackend>> open_user_net(EventLoop& loop,
                                                  const std::vector<std::pair<std::string, std::string>>& properties) {
  auto options = parse(properties);
  if (!options) return Error{options.error()};
  auto net = std::make_unique<UserNet>(loop);
  if (auto opened = net->open(*options); !opened) return Error{opened.error()};
  return std::unique_ptr<NetBackend>(std::move(net));
}

}  // namespace kiln::devices
