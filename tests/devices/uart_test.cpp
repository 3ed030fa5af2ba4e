#include <gtest/gtest.h>

#include "devices/serial/pl011.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

enum : u64 {
  DR = 0,
  FR = 0x18,
  IBRD = 0x24,
  FBRD = 0x28,
  LCR_H = 0x2c,
  CR = 0x30,
  IFLS = 0x34,
  IMSC = 0x38,
  RIS = 0x3c,
  MIS = 0x40,
  ICR = 0x44
};

struct Pl011Test : testing::Test {
  FakeLine line;
  FakeClock clock;
  FakeChar terminal;
  Pl011 uart{line, clock, &terminal};
  u32 get(u64 offset) { return static_cast<u32>(uart.read(offset, 4)); }
  void put(u64 offset, u32 value) { uart.write(offset, value, 4); }
  void enable() {
    put(IBRD, 13);
    put(FBRD, 1);
    put(LCR_H, 0x70);
    put(CR, 0x301);
  }
};

TEST_F(Pl011Test, ResetValues) {
  EXPECT_EQ(get(FR) & 0xf8, 0x90u);
  EXPECT_EQ(get(CR), 0x300u);
  EXPECT_EQ(get(IFLS), 0x12u);
  const u32 ids[] = {0x11, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
  for (unsigned i = 0; i < 8; ++i) EXPECT_EQ(get(0xfe0 + 4 * i), ids[i]);
}

TEST_F(Pl011Test, SendsOnlyWhenEnabled) {
  put(DR, 'x');
  EXPECT_EQ(terminal.sent, "");
  enable();
  put(DR, 'h');
  uart.write(DR, 'i', 1);
  EXPECT_EQ(terminal.sent, "hi");
  EXPECT_EQ(get(RIS), 0x20u);
  EXPECT_FALSE(line.level);
  put(IMSC, 0x20);
  EXPECT_TRUE(line.level);
  put(ICR, 0x20);
  EXPECT_FALSE(line.level);
}

TEST_F(Pl011Test, ReceiveTriggerAndTimeout) {
  enable();
  put(IMSC, 0x50);
  terminal.type("abc");
  EXPECT_FALSE(line.level);
  clock.advance(1'000'000);  // 32 bits at 115200 baud are 278 us
  EXPECT_EQ(get(MIS), 0x40u);
  EXPECT_EQ(get(DR), u32{'a'});
  EXPECT_EQ(get(DR), u32{'b'});
  EXPECT_TRUE(line.level);
  EXPECT_EQ(get(DR), u32{'c'});
  EXPECT_FALSE(line.level);
  EXPECT_EQ(get(FR) & 0x10, 0x10u);
  terminal.type("12345678");
  EXPECT_EQ(get(MIS), 0x10u);
  get(DR);
  EXPECT_EQ(get(MIS), 0u);
}

TEST_F(Pl011Test, NothingIsLostWhenTheGuestIsSlow) {
  enable();
  terminal.type("0123456789abcdefghij");
  EXPECT_EQ(get(FR) & 0x40, 0x40u);
  std::string got;
  while ((get(FR) & 0x10) == 0) got += static_cast<char>(get(DR));
  EXPECT_EQ(got, "0123456789abcdefghij");
  EXPECT_EQ(get(RIS) & 0x400, 0u);  // no overrun
}

TEST_F(Pl011Test, ClearedTimeoutComesBack) {
  enable();
  put(IMSC, 0x40);
  terminal.type("a");
  clock.advance(1'000'000);
  put(ICR, 0x40);
  EXPECT_FALSE(line.level);
  clock.advance(1'000'000);
  EXPECT_TRUE(line.level);
}

TEST_F(Pl011Test, Break) {
  enable();
  put(IMSC, 0x200);
  terminal.callbacks.line_break();
  EXPECT_TRUE(line.level);
  EXPECT_EQ(get(DR), 0x400u);
}

TEST_F(Pl011Test, StateSurvives) {
  enable();
  put(IMSC, 0x50);
  terminal.type("abc");
  FakeLine other_line;
  Pl011 other(other_line, clock, nullptr);
  EXPECT_TRUE(survives(uart, other));
  clock.advance(1'000'000);
  EXPECT_TRUE(other_line.level);
  EXPECT_EQ(other.read(DR, 4), u64{'a'});
}

}  // namespace
}  // namespace kiln::devices
