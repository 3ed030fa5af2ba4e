// VMSAv8-64 walks: granules, ranges, rights, faults and their syndromes.
#include "system_fake.h"

namespace kiln::arm {

namespace {

using ir::Access;

constexpr u64 kBase = FakeMachine::kBase, kTables = kBase + 0x40000;
constexpr u64 kPage = 3, kBlock = 1, kTable = 3, kAf = 1 << 10, kNg = 1 << 11, kReadOnly = 1 << 7, kUser = 1 << 6,
              kUxn = u64{1} << 54, kPxn = u64{1} << 53, kDbm = u64{1} << 51;

/// A processor with the MMU on and tables to be filled.
struct Mapped : FakeMachine {
  unsigned shift;
  explicit Mapped(unsigned page_shift = 12, unsigned size = 16, u64 more = 0, std::string_view model = "max")
      : FakeMachine({.model = model}), shift(page_shift) {
    s->mair_el[1] = 0xff00;  // 0 device, 1 normal
    const u64 tg0 = shift == 16 ? 1 : shift == 14 ? 2 : 0, tg1 = shift == 16 ? 3 : shift == 14 ? 1 : 2;
    s->tcr_el[1] = size | size << 16 | tg0 << 14 | tg1 << 30 | u64{5} << 32 | more;
    s->ttbr0_el[1] = kTables;
    s->ttbr1_el1 = kTables + 0x40000;
    s->sctlr_el[1] |= kSctlrM;
  }
  /// Maps `address` with a leaf at `level`, with tables in between where there are none.
  void map(u64 address, u64 leaf, unsigned level = 3, u64 table_bits = 0) {
    const unsigned stride = shift - 3, size = bits(s->tcr_el[1], 0, 6), input = 64 - size;
    unsigned at_level = 4 - (input - shift + stride - 1) / stride;
    u64 table = bit(address, 55) ? s->ttbr1_el1 : s->ttbr0_el[1];
    for (unsigned top = input;; ++at_level) {
      const unsigned low = shift + stride * (3 - at_level);
      u64& entry = at(table + 8 * bits(address, low, top - low));
      top = low;
      if (at_level == level) {
        entry = leaf;
        return;
      }
      if (!(entry & 1)) entry = (next_ += u64{1} << shift) | kTable | table_bits;
      table = entry & mask_low(48) & ~mask_low(shift);
    }
  }
  Walk look(u64 address, Access access = Access::Load, unsigned el = 1, bool pan = false) {
    return walk(*s, *this, address, access, el, pan);
  }

 private:
  u64 next_ = align_up(kBase + 0x90000, 0x10000) - 0x10000;
};

constexpr u64 kNormal = 1 << 2;

TEST(A64Walk, PagesOfAllGranulesInBothHalves) {
  for (const unsigned shift : {12u, 14u, 16u}) {
    Mapped m(shift, shift == 16 ? 22 : 16);
    const u64 page = u64{1} << shift;
    m.map(0x12340000, kBase | kAf | kNormal | kPage);
    m.map(0xffffffffffff0000, (kBase + 0x10000) | kAf | kNormal | kPage | kNg);
    Walk w = m.look(0x12340abc);
    ASSERT_TRUE(w.ok()) << shift;
    EXPECT_EQ(w.to.physical, kBase + 0xabc);
    EXPECT_EQ(w.to.page_bytes, page);
    EXPECT_TRUE(w.to.global && w.to.readable && w.to.writable && w.to.executable);
    EXPECT_FALSE(w.to.device);
    w = m.look(0xffffffffffff0008);
    ASSERT_TRUE(w.ok()) << shift;
    EXPECT_EQ(w.to.physical, kBase + 0x10008);
    EXPECT_FALSE(w.to.global);
    EXPECT_EQ(m.look(0x12340000 + page).status, 7u);  // translation fault, level 3
  }
}

TEST(A64Walk, BlocksAndSizes) {
  for (const unsigned size : {16u, 25u, 28u, 32u, 34u, 39u}) {
    Mapped m(12, size);
    m.map(0x200000, 0x80000000 | kAf | kBlock, 2);
    const Walk w = m.look(0x234567);
    ASSERT_TRUE(w.ok()) << size;
    EXPECT_EQ(w.to.physical, 0x80034567u);
    EXPECT_EQ(w.to.page_bytes, u64{1} << 21);
    EXPECT_TRUE(w.to.device);
    if (size < 39) EXPECT_EQ(m.look(u64{1} << (64 - size)).status, 4u) << size;  // beyond the range
  }
  Mapped m;
  m.map(u64{3} << 30, (u64{2} << 30) | kAf | kBlock, 1);
  EXPECT_EQ(m.look((u64{3} << 30) + 0x12345678).to.physical, (u64{2} << 30) + 0x12345678);
  m.map(u64{1} << 39, kAf | kBlock, 0);  // no block at level 0
  EXPECT_EQ(m.look(u64{1} << 39).status, 4u);
  Mapped large(16, 16);
  large.map(u64{1} << 42, kAf | kBlock, 1);  // nor at level 1 of 64 KiB
  EXPECT_EQ(large.look(u64{1} << 42).status, 5u);
}

TEST(A64Walk, FaultsAndTheirLevels) {
  Mapped m;
  EXPECT_EQ(m.look(0x1000).status, 4u);
  m.map(0x1000, 0);
  EXPECT_EQ(m.look(0x1000).status, 7u);
  m.map(0x1000, kBase | kPage);
  EXPECT_EQ(m.look(0x1000).status, 11u);  // access flag
  m.map(0x1000, kBase | kAf | kPage | kReadOnly);
  EXPECT_EQ(m.look(0x1000, Access::Store).status, 15u);
  EXPECT_TRUE(m.look(0x1000).ok());
  m.map(0x1000, (u64{1} << 47) | kAf | kPage);
  EXPECT_TRUE(m.look(0x1000).ok());
  m.s->tcr_el[1] &= ~(u64{7} << 32);  // IPS: 32 bits
  EXPECT_EQ(m.look(0x1000).status, 3u);
  m.s->ttbr0_el[1] = 0x1000;  // no memory there
  EXPECT_EQ(m.look(0x1000).status, 0x14u);
  m.s->tcr_el[1] |= 1 << 7;  // EPD0
  EXPECT_EQ(m.look(0x1000).status, 4u);
  EXPECT_EQ(m.look(0x0100000000001000).status, 4u);  // a tag without TBI
}

TEST(A64Walk, RightsOfEl1AndEl0) {
  struct Case {
    u64 leaf;
    bool kernel[3], user[3];  // read, write, execute
  };
  const Case cases[] = {
      {0, {true, true, true}, {false, false, true}},
      {kUser, {true, true, false}, {true, true, true}},  // PXN is implied
      {kReadOnly, {true, false, true}, {false, false, true}},
      {kReadOnly | kUser, {true, false, true}, {true, false, true}},
      {kUser | kUxn | kPxn, {true, true, false}, {true, true, false}},
      {kReadOnly | kPxn, {true, false, false}, {false, false, true}},
  };
  for (const Case& c : cases) {
    Mapped m;
    m.map(0x1000, kBase | kAf | kPage | kNormal | c.leaf);
    const Access accesses[] = {Access::Load, Access::Store, Access::Fetch};
    for (unsigned i = 0; i < 3; ++i) {
      EXPECT_EQ(m.look(0x1000, accesses[i], 1).ok(), c.kernel[i]) << std::hex << c.leaf << " " << i;
      EXPECT_EQ(m.look(0x1000, accesses[i], 0).ok(), c.user[i]) << std::hex << c.leaf << " " << i;
    }
    EXPECT_EQ(m.look(0x1000, Access::Load, 1, true).ok(), !(c.leaf & kUser));  // PAN
  }
}

TEST(A64Walk, HierarchyWxnAndHpd) {
  Mapped m;
  m.map(0x1000, kBase | kAf | kPage | kUser, 3, u64{1} << 61);  // APTable: not for EL0
  EXPECT_FALSE(m.look(0x1000, Access::Load, 0).ok());
  m.s->tcr_el[1] |= u64{1} << 41;  // HPD0
  EXPECT_TRUE(m.look(0x1000, Access::Load, 0).ok());
  Mapped read_only(12, 16, 0, "cortex-a72");
  read_only.map(0x1000, kBase | kAf | kPage, 3, u64{1} << 62 | u64{1} << 59);
  EXPECT_FALSE(read_only.look(0x1000, Access::Store).ok());
  EXPECT_FALSE(read_only.look(0x1000, Access::Fetch).ok());
  read_only.s->tcr_el[1] |= u64{1} << 41;  // no such bit there
  EXPECT_FALSE(read_only.look(0x1000, Access::Store).ok());
  Mapped wxn;
  wxn.s->sctlr_el[1] |= kSctlrWxn;
  wxn.map(0x1000, kBase | kAf | kPage);
  EXPECT_FALSE(wxn.look(0x1000, Access::Fetch).ok());
}

TEST(A64Walk, HardwareSetsAccessFlagAndDirtyState) {
  Mapped m(12, 16, u64{1} << 39 | u64{1} << 40);
  m.map(0x1000, kBase | kPage | kReadOnly | kDbm | kNormal);
  Walk w = m.look(0x1000);
  ASSERT_TRUE(w.ok());
  EXPECT_FALSE(w.to.writable);
  w = m.look(0x1000, Access::Store);
  ASSERT_TRUE(w.ok());
  EXPECT_TRUE(w.to.writable);
  EXPECT_TRUE(m.look(0x1000).to.writable);
  Mapped old(12, 16, u64{1} << 39 | u64{1} << 40, "cortex-a72");
  old.map(0x1000, kBase | kPage);
  EXPECT_EQ(old.look(0x1000).status, 11u);
}

TEST(A64Walk, TagsAreIgnoredAndRemembered) {
  Mapped m(12, 16, u64{1} << 37);
  m.map(0x1000, kBase | kAf | kPage | kUser);
  ir::Translation to;
  EXPECT_TRUE(translate(m.s, m, 0x1000, Access::Load, 0, to));
  EXPECT_EQ(m.s->tlb_tagged, 0u);
  EXPECT_TRUE(translate(m.s, m, 0xab00000000001010, Access::Load, 0, to));
  EXPECT_EQ(to.physical, kBase + 0x10);
  EXPECT_EQ(m.s->tlb_tagged, 1u);
  EXPECT_EQ(m.look(0xff80000000001000).status, 4u);  // bit 55 is no tag
}

TEST(A64Walk, Syndromes) {
  Mapped m;
  const u64 vectors = kBase + 0x1000;
  m.map(kBase, kBase | kAf | kBlock, 2);
  m.map(0x1000, kBase | kAf | kPage | kReadOnly | kNormal);
  m.s->vbar_el[1] = vectors;
  ir::Translation to;
  EXPECT_FALSE(translate(m.s, m, 0x1008, Access::Store, 1, to));
  kA64System.system->exception(m.s, static_cast<ir::ExitKind>(m.s->exit_kind));
  EXPECT_EQ(m.s->esr_el[1], 0x9600004fu);
  EXPECT_EQ(m.s->far_el[1], 0x1008u);
  m.s->el = 0;
  m.s->sp_sel = 0;
  EXPECT_FALSE(translate(m.s, m, 0x2000, Access::Load, 0, to));
  kA64System.system->exception(m.s, static_cast<ir::ExitKind>(m.s->exit_kind));
  EXPECT_EQ(m.s->esr_el[1], 0x92000007u);
  m.s->el = 0;
  m.s->sp_sel = 0;
  m.s->pc = 0x3000;
  m.s->exit_aux = 0;
  kA64System.system->exception(m.s, ir::ExitKind::FetchFault);
  EXPECT_EQ(m.s->esr_el[1], 0x82000007u);
  EXPECT_EQ(m.s->far_el[1], 0x3000u);
  // Nothing answers.
  bus_error(m.s, 0x4000, Access::Store, false);
  kA64System.system->exception(m.s, static_cast<ir::ExitKind>(m.s->exit_kind));
  EXPECT_EQ(m.s->esr_el[1], 0x96000050u);
  bus_error(m.s, 0x4001, Access::Load, true);
  kA64System.system->exception(m.s, static_cast<ir::ExitKind>(m.s->exit_kind));
  EXPECT_EQ(m.s->esr_el[1], 0x96000021u);
  // A cache instruction: CM and WnR.
  m.s->pc = kBase;
  m.s->x[1] = 0x5000;
  m.run({0xd50b7e21});  // dc civac, x1
  EXPECT_EQ(m.s->esr_el[1], 0x96000147u);
  // A fault that is gone by the time it is looked at: again.
  m.s->pc = kBase;
  m.s->exit_aux = 0;
  kA64System.system->exception(m.s, ir::ExitKind::FetchFault);
  EXPECT_EQ(m.s->pc, kBase);
}

TEST(A64Walk, AddressTranslationInstructions) {
  Mapped m;
  m.map(kBase, kBase | kAf | kBlock | kNormal | 3 << 8, 2);
  m.map(0x1000, (kBase + 0x7000) | kAf | kPage | kNormal | kReadOnly | kUser | 3 << 8);
  m.s->x[1] = 0x1abc;
  m.run({sys(0, 7, 8, 0, 1)});  // AT S1E1R
  EXPECT_EQ(m.s->par_el1, u64{0xff} << 56 | (kBase + 0x7000) | 0xb80);
  m.run({sys(0, 7, 8, 1, 1)});  // AT S1E1W
  EXPECT_EQ(m.s->par_el1, 0x81fu);
  m.run({sys(0, 7, 8, 2, 1)});  // AT S1E0R
  EXPECT_EQ(m.s->par_el1 & 1, 0u);
  m.s->pan = 1;
  m.run({sys(0, 7, 9, 0, 1)});  // AT S1E1RP
  EXPECT_EQ(m.s->par_el1, 0x81fu);
}

TEST(A64Walk, UnprivilegedAccessesFromEl1) {
  Mapped m;
  m.map(kBase, kBase | kAf | kBlock | kNormal, 2);
  m.map(0x1000, (kBase + 0x7000) | kAf | kPage | kNormal | kUser);
  m.s->vbar_el[1] = kBase + 0x1000;
  m.s->mode = kA64System.mode_of(m.s);
  ir::Block block;
  struct Code : ir::CodeSource {
    std::vector<u32> words;
    std::size_t fetch(GuestAddr, u8* out, std::size_t size) override {
      std::memcpy(out, words.data(), words.size() * 4);
      return std::min(size, words.size() * 4);
    }
  } code;
  code.words = {0xf8400822, 0xf9400023, 0xa9400c22};  // ldtr x2,[x1]; ldr x3,[x1]; ldp x2,x3,[x1]
  const auto indices = [&](u32 mode) {
    kA64System.lift(code, kBase, mode, {}, block);
    std::vector<unsigned> all;
    for (const ir::Inst& inst : block.insts)
      if (inst.op == ir::Op::load_) all.push_back(ir::MemOp::unpack(inst.aux).mmu_index);
    return all;
  };
  const u32 el1 = 1 << kModeElShift;
  EXPECT_EQ(indices(0), (std::vector<unsigned>{0, 0, 0, 0}));
  EXPECT_EQ(indices(el1), (std::vector<unsigned>{0, 1, 1, 1}));
  EXPECT_EQ(indices(el1 | kModePan), (std::vector<unsigned>{0, 2, 2, 2}));
  EXPECT_EQ(indices(el1 | kModeNoPan), (std::vector<unsigned>{2, 1, 1, 1}));
  EXPECT_EQ(indices(el1 | kModeUao), (std::vector<unsigned>{1, 1, 1, 1}));
  EXPECT_EQ(indices(2 << kModeElShift), (std::vector<unsigned>{3, 3, 3, 3}));
}

TEST(A64Walk, ANewAsidEmptiesTheTlbOnceItIsUsed) {
  const u32 ttbr0 = register_number(3, 0, 2, 0, 0);
  for (const char* model : {"max", "cortex-a72"}) {
    const bool with_pan = model[0] == 'm';
    Mapped m(12, 16, 0, model);
    m.map(kBase, kBase | kAf | kBlock | kNormal, 2);
    m.map(0x200000, kBase | kAf | kBlock | kNormal | kUser | kReadOnly, 2);
    m.s->vbar_el[1] = kBase + 0x1000;
    m.s->mode = kA64System.mode_of(m.s);
    // Code of EL1 in the lower half has flushes of its own: see the next test.
    const auto flushed = [&] {
      std::vector<u32> indices;
      for (const ir::TlbFlush& f : m.flushes)
        if (f.scope == ir::TlbFlush::Scope::Space) indices.push_back(f.indices);
      m.flushes.clear();
      return indices;
    };
    const std::vector<u32> nothing;
    flushed();
    m.s->x[1] = kTables | u64{7} << 48;
    m.s->x[2] = kTables | u64{8} << 48;
    m.run({msr(ttbr0, 1), kNopWord});
    EXPECT_EQ(flushed(), nothing);
    EXPECT_TRUE(m.s->mode & kModeAsidPending);
    m.s->x[4] = kBase;
    m.put(m.s->pc, {kNopWord, 0xf9400083 /* ldr x3,[x4] */});
    m.max_insns = 64;
    const u64 pc = m.s->pc;
    m.block();
    EXPECT_EQ(m.s->pc, pc + 4);  // not executed yet
    EXPECT_FALSE(m.s->mode & kModeAsidPending);
    EXPECT_EQ(flushed(), with_pan ? (std::vector<u32>{6, 1}) : (std::vector<u32>{6}));
    // There and back without an access: nothing is lost. EL0 has a TLB of its own.
    m.s->pc = kBase;
    m.run({msr(ttbr0, 2), kNopWord, msr(ttbr0, 1)});
    EXPECT_FALSE(m.s->mode & kModeAsidPending);
    EXPECT_EQ(flushed(), nothing);
    m.s->elr_el[1] = 0x200100;
    m.run({msr(ttbr0, 2), kEret});
    EXPECT_EQ(m.s->el, 0u);
    EXPECT_EQ(flushed(), (std::vector<u32>{1}));
    const u64 space = kA64System.system->space_of(m.s);
    m.s->ttbr0_el[1] ^= 0x1000;
    EXPECT_NE(kA64System.system->space_of(m.s), space);
  }
}

TEST(A64Walk, WhatEl1FetchedFromTheLowerHalfDiesWithTtbr0) {
  Mapped m;
  m.map(kBase, kBase | kAf | kBlock | kNormal, 2);
  ir::Translation to;
  EXPECT_TRUE(translate(m.s, m, kBase, ir::Access::Fetch, 1, to));
  const u64 space = kA64System.system->space_of(m.s), data_space = kA64System.system->data_space_of(m.s);
  m.flushes.clear();
  m.s->x[1] = kTables + 0x1000;
  m.s->mode = kA64System.mode_of(m.s);
  m.put(kBase, {msr(register_number(3, 0, 2, 0, 0), 1)});
  m.max_insns = 1;
  m.block();
  EXPECT_EQ(kA64System.system->space_of(m.s), space);
  EXPECT_NE(kA64System.system->data_space_of(m.s), data_space);
  ASSERT_EQ(m.flushes.size(), 1u);
  EXPECT_EQ(m.flushes[0].scope, ir::TlbFlush::Scope::NonGlobal);
}

TEST(A64Walk, Stage2) {
  Mapped m;
  m.s->has_el2 = 1;
  m.s->hcr_el2 |= kHcrVm;
  // A level-1 start, identity for the gigabyte of the tables, 0x80000000 read-only to kBase.
  const u64 stage2 = kBase + 0xf0000;
  m.s->vtcr_el2 = 25 | 1 << 6 | u64{5} << 16;
  m.s->vttbr_el2 = stage2;
  constexpr u64 kRead = 1 << 6, kWrite = 1 << 7, kMemory = 15 << 2;
  m.at(stage2 + 8) = kBase | kAf | kRead | kWrite | kMemory | kBlock;
  m.at(stage2 + 16) = kBase | kAf | kRead | kMemory | kBlock;
  m.map(0x1000, 0x80003000 | kAf | kPage | kNormal);
  m.map(0x2000, u64{0xc0003000} | kAf | kPage | kNormal);
  Walk w = m.look(0x1234);
  ASSERT_TRUE(w.ok());
  EXPECT_EQ(w.to.physical, kBase + 0x3234);
  EXPECT_FALSE(w.to.writable);
  w = m.look(0x1234, Access::Store);
  EXPECT_TRUE(w.stage2);
  EXPECT_EQ(w.status, 0xdu);
  w = m.look(0x2000);
  EXPECT_TRUE(w.stage2 && !w.on_walk);
  EXPECT_EQ(w.status, 5u);
  EXPECT_EQ(w.ipa, 0xc0003000u);
  m.s->ttbr0_el[1] = 0xc0000000;
  w = m.look(0x1000);
  EXPECT_TRUE(w.stage2 && w.on_walk);
}

}  // namespace
}  // namespace kiln::arm
