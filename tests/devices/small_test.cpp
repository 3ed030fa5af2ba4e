// PL031, PL061, state files.
#include <gtest/gtest.h>
#include <unistd.h>

#include "devices/gpio/pl061.h"
#include "devices/timer/pl031.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

TEST(Pl031Test, CountsSecondsAndMatches) {
  FakeLine line;
  FakeClock clock;
  Pl031 rtc(line, clock);
  EXPECT_EQ(rtc.read(0, 4), 1'700'000'000u);
  clock.advance(5'000'000'000);
  EXPECT_EQ(rtc.read(0, 4), 1'700'000'005u);
  rtc.write(0x10, 1, 4);
  rtc.write(4, 1'700'000'007, 4);
  clock.advance(1'999'999'999);
  EXPECT_FALSE(line.level);
  clock.advance(1);
  EXPECT_TRUE(line.level);
  EXPECT_EQ(rtc.read(0x18, 4), 1u);
  rtc.write(0x1c, 1, 4);
  EXPECT_FALSE(line.level);
  rtc.write(8, 100, 4);  // the guest sets its clock
  clock.advance(3'000'000'000);
  EXPECT_EQ(rtc.read(0, 4), 103u);
  Pl031 other(line, clock);
  EXPECT_TRUE(survives(rtc, other));
  EXPECT_EQ(other.read(0, 4), 103u);
}

TEST(Pl061Test, EdgesLevelsAndMasks) {
  FakeLine line;
  Pl061 gpio(line);
  gpio.write(0x40c, 0x08, 4);  // rising
  gpio.write(0x410, 0x08, 4);
  gpio.set_input(3, true);
  EXPECT_TRUE(line.level);
  EXPECT_EQ(gpio.read(0x3fc, 4), 8u);
  EXPECT_EQ(gpio.read(0x004, 4), 0u);  // not among the lines asked for
  gpio.write(0x41c, 0x08, 4);
  EXPECT_FALSE(line.level);
  gpio.set_input(3, false);
  EXPECT_FALSE(line.level);
  gpio.write(0x408, 0x08, 4);  // both edges
  gpio.set_input(3, true);
  gpio.write(0x41c, 0x08, 4);
  gpio.set_input(3, false);
  EXPECT_TRUE(line.level);
  gpio.write(0x41c, 0x08, 4);
  gpio.write(0x404, 0x08, 4);  // level, high
  EXPECT_FALSE(line.level);
  gpio.set_input(3, true);
  gpio.write(0x41c, 0x08, 4);
  EXPECT_TRUE(line.level);
  gpio.write(0x400, 0xf0, 4);
  gpio.write(0x3fc, 0xff, 4);
  EXPECT_EQ(gpio.read(0x3fc, 4), 0xf8u);
  FakeLine other_line;
  Pl061 other(other_line);
  EXPECT_TRUE(survives(gpio, other));
  EXPECT_TRUE(other_line.level);
}

struct Part : Stateful {
  u8 small = 1;
  std::vector<u32> list{1, 2, 3};
  u16 fixed[4] = {5, 6, 7, 8};
  u8 blob[16] = {9};
  void state(StateVisitor& v) override {
    v.version(2);
    v.below("small", small, 10);
    v("list", list, 8);
    v("fixed", fixed);
    v.blob("blob", blob);
  }
};

TEST(StateFile, EveryDamagedFileIsAnErrorAndNeverMore) {
  Part part;
  StateWriter writer;
  part.state(writer);
  for (std::size_t length = 0; length < writer.bytes().size(); ++length) {
    StateReader reader(std::span(writer.bytes()).first(length));
    Part other;
    other.state(reader);
    EXPECT_TRUE(reader.failed()) << length;
  }
  for (std::size_t at = 0; at < writer.bytes().size(); ++at) {
    for (unsigned value = 0; value < 256; value += 17) {
      std::vector<u8> damaged = writer.bytes();
      damaged[at] = static_cast<u8>(value);
      StateReader reader(damaged);
      Part other;
      other.state(reader);
      EXPECT_LT(other.small, 10);
      EXPECT_LE(other.list.size(), 8u);
    }
  }
}

TEST(StateFile, Prints) {
  Part part;
  StatePrinter printer;
  printer("part", static_cast<Stateful&>(part));
  EXPECT_EQ(printer.text(), "part:\n  small: 0x1\n  list: 1 2 3\n  fixed: 5 6 7 8\n  blob: 16 bytes\n");
}

TEST(HostLoopTest, TimersPostsAndDescriptors) {
  MachineLock lock;
  HostLoop loop(lock);
  std::string order;
  int pipe_ends[2];
  ASSERT_EQ(pipe(pipe_ends), 0);
  std::unique_ptr<Timer> first, second;
  std::unique_ptr<FdWatch> watch;
  HostClock clock(loop, 1000);
  {
    const std::lock_guard guard(lock);
    second = loop.create_host_timer([&] { order += "2"; });
    first = loop.create_host_timer([&] { order += "1"; });
    const u64 now = loop.host_ns();
    second->set(now + 2'000'000);
    first->set(now + 1'000'000);
    watch = loop.watch(pipe_ends[0], [&](EventLoop::Ready ready) {
      EXPECT_TRUE(ready.readable);
      order += "r";
      watch.reset();
    });
  }
  loop.post([&] { order += "p"; });
  loop.run_once(Timer::kNever);
  EXPECT_EQ(order.front(), 'p');
  ASSERT_EQ(write(pipe_ends[1], "x", 1), 1);
  while (order.size() < 4) loop.run_once(Timer::kNever);
  EXPECT_NE(order.find('r'), std::string::npos);
  EXPECT_LT(order.find('1'), order.find('2'));
  EXPECT_EQ(watch, nullptr);

  // The machine's clock stands still while it is stopped.
  bool rang = false;
  std::unique_ptr<Timer> alarm;
  {
    const std::lock_guard guard(lock);
    EXPECT_EQ(clock.now_ns(), 0u);
    alarm = clock.create_timer([&] { rang = true; });
    alarm->set(1'000'000);
  }
  loop.run_once(3'000'000);
  EXPECT_FALSE(rang);
  {
    const std::lock_guard guard(lock);
    clock.start();
  }
  while (!rang) loop.run_once(Timer::kNever);
  EXPECT_GE(clock.now_ns(), 1'000'000u);
  {
    const std::lock_guard guard(lock);
    clock.stop();
    const u64 then = clock.now_ns();
    EXPECT_EQ(clock.now_ns(), then);
  }
  close(pipe_ends[0]);
  close(pipe_ends[1]);
}

}  // namespace
}  // namespace kiln::devices
