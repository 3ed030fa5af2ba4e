// The user network as a guest sees it: ARP, DHCP and TCP by hand, against a server on the host's loopback.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "devices/net/user_net.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

using Frame = std::vector<u8>;

u16 be16(const Frame& frame, std::size_t at) { return static_cast<u16>(frame[at] << 8 | frame[at + 1]); }
void append(Frame& frame, u64 value, unsigned bytes) {
  for (unsigned i = bytes; i-- > 0;) frame.push_back(static_cast<u8>(value >> (8 * i)));
}
u16 checksum(const Frame& bytes, std::size_t from, std::size_t to, u32 sum = 0) {
  for (std::size_t i = from; i < to; i += 2) sum += static_cast<u32>(bytes[i] << 8 | (i + 1 < to ? bytes[i + 1] : 0));
  while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<u16>(~sum);
}

constexpr u64 kMac = 0x525400123456;
constexpr u32 kGuest = 0x0a00020f, kHost = 0x0a000202;

struct UserNetTest : testing::Test {
  MachineLock lock;
  HostLoop loop{lock};
  std::vector<Frame> received;
  std::unique_ptr<NetBackend> net;
  bool ready = true;

  void open(std::vector<std::pair<std::string, std::string>> properties = {}) {
    properties.emplace_back("ipv6", "off");
    const std::lock_guard guard(lock);
    auto opened = open_user_net(loop, properties);
    ASSERT_TRUE(opened) << opened.error();
    net = std::move(*opened);
    net->attach(
        {[this] { return ready; }, [this](std::span<const u8> frame) { received.emplace_back(frame.begin(), frame.end()); }});
  }
  ~UserNetTest() override {
    const std::lock_guard guard(lock);
    net.reset();
  }
  void send(const Frame& frame) {
    const std::lock_guard guard(lock);
    net->send(frame);
  }
  /// The next frame that `wanted` takes.
  template <class Wanted>
  Frame wait(Wanted wanted) {
    for (;;) {
      for (std::size_t i = 0; i < received.size(); ++i) {
        if (!wanted(received[i])) continue;
        Frame frame = received[i];
        received.erase(received.begin(), received.begin() + static_cast<long>(i) + 1);
        return frame;
      }
      loop.run_once(Timer::kNever);
    }
  }
  void arp() {
    Frame frame;
    append(frame, ~u64{0}, 6);
    append(frame, kMac, 6);
    append(frame, 0x0806, 2);
    append(frame, 0x0001080006040001, 8);
    append(frame, kMac, 6);
    append(frame, kGuest, 4);
    append(frame, 0, 6);
    append(frame, kHost, 4);
    send(frame);
    const Frame reply = wait([](const Frame& f) { return be16(f, 12) == 0x0806 && be16(f, 20) == 2; });
    gateway = Frame(reply.begin() + 22, reply.begin() + 28);
  }
  Frame gateway;
  Frame tcp(u16 from, u16 to, u32 sequence, u32 acknowledge, u8 flags, const std::string& data = "") {
    Frame ip;
    append(ip, 0x4500, 2);
    append(ip, 40 + data.size(), 2);
    append(ip, 0x0001000040060000, 8);
    append(ip, kGuest, 4);
    append(ip, kHost, 4);
    const u16 ip_sum = checksum(ip, 0, 20);
    ip[10] = static_cast<u8>(ip_sum >> 8);
    ip[11] = static_cast<u8>(ip_sum);
    append(ip, from, 2);
    append(ip, to, 2);
    append(ip, sequence, 4);
    append(ip, acknowledge, 4);
    append(ip, 0x50, 1);
    append(ip, flags, 1);
    append(ip, 0xffff0000, 4);
    append(ip, 0, 2);
    ip.insert(ip.end(), data.begin(), data.end());
    u32 pseudo = 6 + 20 + static_cast<u32>(data.size());
    for (std::size_t i = 12; i < 20; i += 2) pseudo += be16(ip, i);
    const u16 sum = checksum(ip, 20, ip.size(), pseudo);
    ip[36] = static_cast<u8>(sum >> 8);
    ip[37] = static_cast<u8>(sum);
    Frame frame = gateway;
    append(frame, kMac, 6);
    append(frame, 0x0800, 2);
    frame.insert(frame.end(), ip.begin(), ip.end());
    return frame;
  }
  static bool is_tcp(const Frame& f, u8 flags) {
    return f.size() >= 54 && be16(f, 12) == 0x0800 && f[23] == 6 && (f[47] & flags) == flags;
  }
  static u32 sequence_of(const Frame& f) { return static_cast<u32>(be16(f, 38)) << 16 | be16(f, 40); }
};

int listen_on_loopback(u16& port) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  EXPECT_EQ(bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  EXPECT_EQ(listen(fd, 4), 0);
  socklen_t length = sizeof address;
  getsockname(fd, reinterpret_cast<sockaddr*>(&address), &length);
  port = ntohs(address.sin_port);
  return fd;
}

TEST_F(UserNetTest, GuestReachesAServerOnTheHost) {
  open();
  arp();
  u16 port = 0;
  const int server = listen_on_loopback(port);
  send(tcp(1234, port, 100, 0, 2));  // SYN
  const Frame syn_ack = wait([](const Frame& f) { return is_tcp(f, 0x12); });
  u32 theirs = sequence_of(syn_ack) + 1;
  send(tcp(1234, port, 101, theirs, 0x10));
  send(tcp(1234, port, 101, theirs, 0x18, "hello"));
  const int peer = accept(server, nullptr, nullptr);
  char text[16] = {};
  // The data follows when slirp has been polled.
  while (recv(peer, text, sizeof text, MSG_DONTWAIT) != 5) loop.run_once(10'000'000);
  EXPECT_STREQ(text, "hello");
  // The guest takes nothing for a while: the frame waits.
  ready = false;
  ASSERT_EQ(write(peer, "welcome", 7), 7);
  for (int i = 0; i < 5; ++i) loop.run_once(10'000'000);
  received.clear();
  ready = true;
  {
    const std::lock_guard guard(lock);
    net->ready_changed();
  }
  const Frame data = wait([](const Frame& f) { return is_tcp(f, 0x10) && f.size() >= 61 && f[54] == 'w'; });
  EXPECT_EQ(std::string(data.begin() + 54, data.begin() + 61), "welcome");
  close(peer);
  wait([](const Frame& f) { return is_tcp(f, 1); });  // FIN
  close(server);
}

TEST_F(UserNetTest, HostReachesTheGuest) {
  u16 port = 0;
  close(listen_on_loopback(port));
  open({{"hostfwd", "tcp:127.0.0.1:" + std::to_string(port) + "-:22"}});
  arp();
  const int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(client, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  const Frame syn = wait([](const Frame& f) { return is_tcp(f, 2); });
  EXPECT_EQ(be16(syn, 36), 22);
  // In use now.
  const std::lock_guard guard(lock);
  auto second = open_user_net(loop, {{"hostfwd", "tcp:127.0.0.1:" + std::to_string(port) + "-:22"}});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().find("cannot listen for hostfwd="), std::string::npos) << second.error();
  close(client);
}

TEST_F(UserNetTest, UserMistakes) {
  const std::lock_guard guard(lock);
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"hostfwd", "tcp:22"}, {"hostfwd", "sctp::1-:2"}, {"hostfwd", "tcp::99999-:22"}, {"net", "fish"}, {"smb", "/"}}) {
    auto opened = open_user_net(loop, {{key, value}});
    ASSERT_FALSE(opened) << key;
    EXPECT_EQ(opened.error(), "-netdev user: " + key + "=" + value + " is wrong or not supported");
  }
}

}  // namespace
}  // namespace kiln::devices
