#include <gtest/gtest.h>

#include "devices/intc/gicv2.h"
#include "devices/intc/gicv3.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

struct Gicv2Test : testing::Test {
  FakeBus bus;
  FakeLine irq[2], fiq[2];
  Gicv2 gic{bus, {{irq[0], fiq[0]}, {irq[1], fiq[1]}}, 64};
  u32 d(u64 offset, unsigned bytes = 4) { return static_cast<u32>(gic.distributor().read(offset, bytes)); }
  void d(u64 offset, u32 value, unsigned bytes) { gic.distributor().write(offset, value, bytes); }
  u32 c(u64 offset) { return static_cast<u32>(gic.cpu_interface().read(offset, 4)); }
  void c_put(u64 offset, u32 value) { gic.cpu_interface().write(offset, value, 4); }
  void set_up() {
    d(0, 1, 4);
    for (bus.cpu = 0; bus.cpu < 2; ++bus.cpu) {
      c_put(4, 0xf0);
      c_put(0, 1);
    }
    bus.cpu = 0;
    for (unsigned id = 16; id < 96; ++id) d(0x400 + id, 0xa0, 1);
    for (unsigned id = 32; id < 96; ++id) d(0x800 + id, 1, 1);
    for (unsigned i = 1; i < 3; ++i) d(0x100 + 4 * i, ~0u, 4);
  }
};

TEST_F(Gicv2Test, Identification) {
  EXPECT_EQ(d(4), 2u | 1u << 5);
  EXPECT_EQ(d(0xfe8), 0x2bu);
  EXPECT_EQ(c(0xfc), 0x0202143bu);
  EXPECT_EQ(d(0x800), 0x01010101u);
  bus.cpu = 1;
  EXPECT_EQ(d(0x800), 0x02020202u);
}

TEST_F(Gicv2Test, LevelInterruptThroughItsLife) {
  set_up();
  gic.spi(1).set(true);
  EXPECT_TRUE(irq[0].level);
  EXPECT_FALSE(irq[1].level);
  EXPECT_EQ(c(0x18), 33u);
  EXPECT_EQ(c(0x0c), 33u);
  EXPECT_FALSE(irq[0].level);
  EXPECT_EQ(c(0x14), 0xa0u);
  EXPECT_EQ(c(0x0c), 1023u);
  c_put(0x10, 33);  // the line is still up
  EXPECT_TRUE(irq[0].level);
  EXPECT_EQ(c(0x0c), 33u);
  gic.spi(1).set(false);
  c_put(0x10, 33);
  EXPECT_FALSE(irq[0].level);
  EXPECT_EQ(c(0x14), 0xffu);
}

TEST_F(Gicv2Test, EdgeInterruptIsLatched) {
  set_up();
  d(0xc00 + 4 * 2, 2, 4);  // ID 32
  gic.spi(0).set(true);
  gic.spi(0).set(false);
  EXPECT_TRUE(irq[0].level);
  EXPECT_EQ(c(0x0c), 32u);
  gic.spi(0).set(true);  // again while active: pending after the end
  gic.spi(0).set(false);
  c_put(0x10, 32);
  EXPECT_TRUE(irq[0].level);
  EXPECT_EQ(c(0x0c), 32u);
  c_put(0x10, 32);
  EXPECT_FALSE(irq[0].level);
}

TEST_F(Gicv2Test, PrioritiesPreempt) {
  set_up();
  d(0x400 + 40, 0x20, 1);
  gic.spi(1).set(true);
  EXPECT_EQ(c(0x0c), 33u);
  gic.spi(2).set(true);  // same priority: waits
  EXPECT_FALSE(irq[0].level);
  gic.spi(8).set(true);
  EXPECT_TRUE(irq[0].level);
  EXPECT_EQ(c(0x0c), 40u);
  EXPECT_EQ(c(0x14), 0x20u);
  gic.spi(8).set(false);
  c_put(0x10, 40);
  EXPECT_EQ(c(0x14), 0xa0u);
  EXPECT_FALSE(irq[0].level);
  gic.spi(1).set(false);
  c_put(0x10, 33);
  EXPECT_EQ(c(0x0c), 34u);
}

TEST_F(Gicv2Test, SgisCarryTheirSender) {
  set_up();
  d(0xf00, 1u << 24 | 5, 4);  // to all others
  EXPECT_FALSE(irq[0].level);
  EXPECT_TRUE(irq[1].level);
  d(0xf00, 2u << 16 | 3, 4);
  bus.cpu = 1;
  d(0xf00, 2u << 24 | 3, 4);  // to itself: ID 3 from both
  EXPECT_EQ(c(0x0c), 3u);
  c_put(0x10, 3);
  EXPECT_EQ(c(0x0c), 3u | 1u << 10);
  c_put(0x10, 3u | 1u << 10);
  EXPECT_EQ(c(0x0c), 5u);
  c_put(0x10, 5);
  EXPECT_FALSE(irq[1].level);
}

TEST_F(Gicv2Test, SplitEndOfInterrupt) {
  set_up();
  c_put(0, 0x201);
  gic.ppi(0, 11).set(true);
  d(0x100, 1u << 27, 4);
  EXPECT_EQ(c(0x0c), 27u);
  gic.spi(1).set(true);
  c_put(0x10, 27);  // priority drop only
  EXPECT_EQ(c(0x0c), 33u);
  c_put(0x10, 33);
  EXPECT_FALSE(irq[0].level);
  c_put(0x1000, 27);
  EXPECT_EQ(c(0x0c), 27u);
}

TEST_F(Gicv2Test, Group0AsFiq) {
  set_up();
  d(0, 3, 4);
  c_put(0, 3 | 8);
  d(0x84, 1u << 2, 4);  // ID 34 in group 1
  gic.spi(2).set(true);
  EXPECT_TRUE(irq[0].level);
  EXPECT_FALSE(fiq[0].level);
  EXPECT_EQ(c(0x0c), 1022u);
  EXPECT_EQ(c(0x20), 34u);
  c_put(0x24, 34);
  gic.spi(2).set(false);
  gic.spi(3).set(true);
  EXPECT_TRUE(fiq[0].level);
  EXPECT_EQ(c(0x0c), 35u);
}

TEST_F(Gicv2Test, StateSurvives) {
  set_up();
  gic.spi(1).set(true);
  c(0x0c);
  gic.spi(2).set(true);
  d(0xf00, 1u << 24 | 5, 4);
  FakeLine other_irq[2], other_fiq[2];
  Gicv2 other{bus, {{other_irq[0], other_fiq[0]}, {other_irq[1], other_fiq[1]}}, 64};
  EXPECT_TRUE(survives(gic, other));
  EXPECT_TRUE(other_irq[1].level);
}

enum : u32 {
  PMR = 0x4230,
  IAR1 = 0x4660,
  EOIR1 = 0x4661,
  CTLR = 0x4664,
  SRE = 0x4665,
  IGRPEN1 = 0x4667,
  SGI1R = 0x465d,
  DIR = 0x4659,
  RPR = 0x465b,
  HPPIR1 = 0x4662,
  BPR1 = 0x4663,
};

struct Gicv3Test : testing::Test {
  FakeLine irq[3], fiq[3];
  Gicv3 gic{{{irq[0], fiq[0], 0}, {irq[1], fiq[1], 1}, {irq[2], fiq[2], 0x100}}, 64};
  u64 d(u64 offset, unsigned bytes = 4) { return gic.distributor().read(offset, bytes); }
  void d_put(u64 offset, u64 value, unsigned bytes = 4) { gic.distributor().write(offset, value, bytes); }
  u64 r(unsigned cpu, u64 offset, unsigned bytes = 4) { return gic.redistributors().read(cpu * 0x20000 + offset, bytes); }
  void r_put(unsigned cpu, u64 offset, u64 value, unsigned bytes = 4) {
    gic.redistributors().write(cpu * 0x20000 + offset, value, bytes);
  }
  u64 icc(unsigned cpu, u32 number) {
    u64 value = ~u64{0};
    EXPECT_TRUE(gic.cpu_register(cpu, number, false, value));
    return value;
  }
  void icc_put(unsigned cpu, u32 number, u64 value) { EXPECT_TRUE(gic.cpu_register(cpu, number, true, value)); }
  void set_up() {
    d_put(0, 0x12);
    for (unsigned i = 1; i < 3; ++i) {
      d_put(0x80 + 4 * i, ~0u);
      d_put(0x100 + 4 * i, ~0u);
    }
    for (unsigned id = 32; id < 96; ++id) d_put(0x400 + id, 0xa0, 1);
    for (unsigned cpu = 0; cpu < 3; ++cpu) {
      r_put(cpu, 0x14, 0);
      r_put(cpu, 0x10080, ~0u);
      r_put(cpu, 0x10100, ~0u);
      for (unsigned id = 0; id < 32; ++id) r_put(cpu, 0x10400 + id, 0xa0, 1);
      icc_put(cpu, PMR, 0xf0);
      icc_put(cpu, IGRPEN1, 1);
    }
  }
};

TEST_F(Gicv3Test, Identification) {
  EXPECT_EQ(d(0xffe8), 0x3bu);
  EXPECT_EQ(r(0, 0xffe8), 0x3bu);
  EXPECT_EQ(r(0, 8, 8), 0u);
  EXPECT_EQ(r(1, 8, 8), u64{1} << 32 | 1u << 8);
  EXPECT_EQ(r(2, 8, 8), u64{0x100} << 32 | 2u << 8 | 0x10);
  EXPECT_EQ(icc(0, SRE), 7u);
  EXPECT_EQ(icc(0, CTLR) >> 8 & 7, 4u);
  u64 value = 0;
  EXPECT_FALSE(gic.cpu_register(0, IAR1, true, value));
  EXPECT_FALSE(gic.cpu_register(0, 0x1234, false, value));
}

TEST_F(Gicv3Test, WakerFollows) {
  EXPECT_EQ(r(0, 0x14), 6u);
  r_put(0, 0x14, 0);
  EXPECT_EQ(r(0, 0x14), 0u);
}

TEST_F(Gicv3Test, LevelInterruptAndRouting) {
  set_up();
  d_put(0x6000 + 8 * 33, 0x100, 8);
  gic.spi(1).set(true);
  EXPECT_FALSE(irq[0].level);
  EXPECT_TRUE(irq[2].level);
  EXPECT_EQ(icc(2, HPPIR1), 33u);
  EXPECT_EQ(icc(2, IAR1), 33u);
  EXPECT_EQ(icc(2, RPR), 0xa0u);
  EXPECT_FALSE(irq[2].level);
  gic.spi(1).set(false);
  icc_put(2, EOIR1, 33);
  EXPECT_EQ(icc(2, IAR1), 1023u);
  EXPECT_EQ(d(0x304), 0u);
}

TEST_F(Gicv3Test, Sgis) {
  set_up();
  icc_put(0, SGI1R, u64{1} << 40 | 4u << 24);
  EXPECT_FALSE(irq[0].level);
  EXPECT_TRUE(irq[1].level);
  EXPECT_TRUE(irq[2].level);
  EXPECT_EQ(icc(1, IAR1), 4u);
  icc_put(1, EOIR1, 4);
  icc_put(0, SGI1R, 2u << 24 | 3);  // Aff 0.0.0.{0,1}
  EXPECT_TRUE(irq[0].level);
  EXPECT_TRUE(irq[1].level);
  EXPECT_EQ(icc(0, IAR1), 2u);
  icc_put(0, SGI1R, u64{1} << 16 | 2u << 24 | 1);  // Aff1 = 1
  EXPECT_EQ(icc(2, IAR1), 2u);
  EXPECT_FALSE(irq[2].level);
}

TEST_F(Gicv3Test, PpiSplitEnd) {
  set_up();
  icc_put(0, CTLR, 2);
  gic.ppi(0, 11).set(true);
  EXPECT_EQ(icc(0, IAR1), 27u);
  icc_put(0, EOIR1, 27);
  EXPECT_FALSE(irq[0].level);
  icc_put(0, DIR, 27);
  EXPECT_TRUE(irq[0].level);
}

TEST_F(Gicv3Test, Group0IsFiq) {
  set_up();
  d_put(0, 0x13);
  d_put(0x84, ~u32{1});
  gic.spi(0).set(true);
  EXPECT_FALSE(fiq[0].level);  // IGRPEN0 is off
  icc_put(0, 0x4666, 1);
  EXPECT_TRUE(fiq[0].level);
  EXPECT_FALSE(irq[0].level);
  EXPECT_EQ(icc(0, IAR1), 1023u);
  EXPECT_EQ(icc(0, 0x4640), 32u);
  icc_put(0, EOIR1, 32);  // the wrong group: ignored
  EXPECT_EQ(icc(0, RPR), 0xa0u);
  icc_put(0, 0x4641, 32);
  EXPECT_EQ(icc(0, RPR), 0xffu);
}

TEST_F(Gicv3Test, StateSurvives) {
  set_up();
  gic.spi(1).set(true);
  icc(0, IAR1);
  icc_put(0, SGI1R, u64{1} << 40 | 4u << 24);
  FakeLine other_irq[3], other_fiq[3];
  Gicv3 other{{{other_irq[0], other_fiq[0], 0}, {other_irq[1], other_fiq[1], 1}, {other_irq[2], other_fiq[2], 0x100}}, 64};
  EXPECT_TRUE(survives(gic, other));
  EXPECT_TRUE(other_irq[1].level);
}

}  // namespace
}  // namespace kiln::devices
