#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "devices/char/mux.h"
#include "devices/char/open.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

struct CharTest : testing::Test {
  MachineLock lock;
  HostLoop loop{lock};
  std::string directory = testing::TempDir() + "char-" + std::to_string(getpid());
  std::string received;
  u64 room = 1000;
  CharTest() { std::filesystem::create_directory(directory); }
  ~CharTest() override { std::filesystem::remove_all(directory); }

  std::unique_ptr<CharBackend> open(const std::string& text) {
    auto spec = parse_char_spec(text);
    EXPECT_TRUE(spec);
    auto opened = open_char(loop, lock, spec->kind, spec->properties);
    EXPECT_TRUE(opened) << opened.error();
    return opened ? std::move(*opened) : nullptr;
  }
  std::string open_error(const std::string& text) {
    auto spec = parse_char_spec(text);
    if (!spec) return spec.error();
    auto opened = open_char(loop, lock, spec->kind, spec->properties);
    return opened ? "" : opened.error();
  }
  void attach(CharBackend& line) {
    const std::lock_guard guard(lock);
    line.attach({[this] { return room; },
                 [this](std::span<const u8> bytes) {
                   EXPECT_LE(bytes.size(), room);
                   received.append(bytes.begin(), bytes.end());
                 },
                 {}});
  }
  void send(CharBackend& line, const std::string& text) {
    const std::lock_guard guard(lock);
    line.send({reinterpret_cast<const u8*>(text.data()), text.size()});
  }
  void close_line(std::unique_ptr<CharBackend>& line) {
    const std::lock_guard guard(lock);
    line.reset();
  }
  int dial(const std::string& path) {
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::copy(path.begin(), path.end(), address.sun_path);
    EXPECT_EQ(connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    return fd;
  }
};

TEST_F(CharTest, UnixSocketServesOneClientAfterAnother) {
  const std::string path = directory + "/s";
  auto line = open("unix:" + path + ",server,nowait");
  attach(*line);
  EXPECT_EQ(open_error("unix:" + path + ",server=on,wait=off"), "socket " + path + ": in use by another process");
  loop.run_once(1'000'000'000);  // the probe's connection comes and goes
  loop.run_once(100'000'000);
  for (int round = 0; round < 2; ++round) {
    const int fd = dial(path);
    ASSERT_EQ(write(fd, "hello", 5), 5);
    received.clear();
    while (received.size() < 5) loop.run_once(Timer::kNever);
    EXPECT_EQ(received, "hello");
    send(*line, "there");
    char text[8] = {};
    EXPECT_EQ(read(fd, text, sizeof text), 5);
    EXPECT_STREQ(text, "there");
    // A device without room is not given anything.
    room = 0;
    {
      const std::lock_guard guard(lock);
      line->room_changed();
    }
    ASSERT_EQ(write(fd, "more", 4), 4);
    loop.run_once(1'000'000);
    EXPECT_EQ(received, "hello");
    room = 2;
    {
      const std::lock_guard guard(lock);
      line->room_changed();
    }
    while (received.size() < 9) loop.run_once(Timer::kNever);
    EXPECT_EQ(received, "hellomore");
    room = 1000;
    close(fd);
    while (line->describe().find("no client") == std::string::npos) loop.run_once(Timer::kNever);
  }
  close_line(line);
  EXPECT_FALSE(std::filesystem::exists(path));
}

TEST_F(CharTest, SlowReaderLosesNothing) {
  const std::string path = directory + "/s";
  auto line = open("unix:" + path + ",server=on,wait=off");
  const int fd = dial(path);
  while (line->describe().find("(connected)") == std::string::npos) loop.run_once(Timer::kNever);
  std::string all;
  for (int i = 0; i < 40; ++i) {
    const std::string piece(20000, static_cast<char>('a' + i % 26));
    send(*line, piece);
    all += piece;
  }
  std::string got;
  char buffer[65536];
  while (got.size() < all.size()) {
    loop.run_once(0);
    const ssize_t count = recv(fd, buffer, sizeof buffer, MSG_DONTWAIT);
    if (count > 0) got.append(buffer, static_cast<std::size_t>(count));
  }
  EXPECT_EQ(got, all);
  close(fd);
  close_line(line);
}

TEST_F(CharTest, FileAndPty) {
  auto file = open("file:" + directory + "/log");
  send(*file, "written");
  close_line(file);
  std::string text;
  std::getline(std::ifstream(directory + "/log"), text);
  EXPECT_EQ(text, "written");
  EXPECT_NE(open_error("file:" + directory + "/no/where").find("No such file"), std::string::npos);

  auto pty = open("pty");
  attach(*pty);
  const int fd = ::open(pty->describe().substr(4).c_str(), O_RDWR | O_NOCTTY | O_CLOEXEC);
  ASSERT_GE(fd, 0);
  ASSERT_EQ(write(fd, "keys\r", 5), 5);
  while (received.size() < 5) loop.run_once(Timer::kNever);
  EXPECT_EQ(received, "keys\r");
  send(*pty, "out\n");
  char out[8] = {};
  EXPECT_EQ(read(fd, out, sizeof out), 4);
  EXPECT_STREQ(out, "out\n");
  close(fd);
  close_line(pty);
}

TEST_F(CharTest, UserMistakes) {
  EXPECT_NE(open_error("serial:x").find("is not supported"), std::string::npos);
  EXPECT_NE(open_error("unix:x,nonsense").find("\"nonsense\""), std::string::npos);
  EXPECT_NE(open_error("unix:" + std::string(200, 'x')).find("too long"), std::string::npos);
  EXPECT_NE(open_error("unix:" + directory + "/none").find("No such file"), std::string::npos);
  EXPECT_NE(open_error("tcp:nowhere").find("HOST:PORT"), std::string::npos);
}

TEST(CharMuxTest, EscapesAndFocus) {
  FakeChar terminal;
  bool ended = false;
  int focus = -1;
  CharMux mux(terminal, {[&] { ended = true; }, [&](unsigned port) { focus = static_cast<int>(port); }});
  std::string got[2];
  unsigned breaks = 0;
  u64 room = 100;
  CharBackend* ports[2] = {&mux.add_port("serial"), &mux.add_port("monitor")};
  for (int i = 0; i < 2; ++i)
    ports[i]->attach({[&] { return room; }, [&, i](std::span<const u8> bytes) { got[i].append(bytes.begin(), bytes.end()); },
                      [&] { breaks += 1; }});
  terminal.type("ab");
  EXPECT_EQ(got[0], "ab");
  terminal.type("\x01\x63");
  EXPECT_EQ(focus, 1);
  terminal.type("info");
  EXPECT_EQ(got[1], "info");
  terminal.type(
      "\x01"
      "c"
      "\x01\x01"
      "\x01"
      "b");
  EXPECT_EQ(got[0], "ab\x01");
  EXPECT_EQ(breaks, 1u);
  terminal.type("\x01h");
  EXPECT_NE(terminal.sent.find("C-a x    exit emulator"), std::string::npos);
  // A guest that takes nothing cannot keep the user from leaving.
  room = 0;
  for (int i = 0; i < 100; ++i) terminal.type("0123456789");
  terminal.type("\x01x");
  EXPECT_TRUE(ended);
  room = 5000;
  ports[0]->room_changed();
  EXPECT_EQ(got[0].size(), 1003u);
}

}  // namespace
}  // namespace kiln::devices
