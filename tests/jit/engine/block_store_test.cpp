// The persistent cache's file: what goes in comes out; of what is damaged or not ours nothing comes out, and nothing breaks.
#include "jit/engine/block_store.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <iterator>
#include <random>

namespace kiln::jit {
namespace {

struct Block {
  StoredBlock stored;
  std::vector<u8> guest, code;
  std::vector<Tier1Relocation> relocations;
  std::vector<FallbackRecord> fallbacks;
};

class BlockStoreTest : public testing::Test {
 protected:
  void SetUp() override {
    char name[] = "/tmp/block_store_test.XXXXXX";
    ASSERT_NE(mkdtemp(name), nullptr);
    directory_ = name;
    path_ = directory_ + "/file";
  }
  void TearDown() override {
    unlink(path_.c_str());
    rmdir(directory_.c_str());
  }

  std::vector<Block> make(unsigned count, GuestAddr from) {
    std::vector<Block> blocks(count);
    for (unsigned i = 0; i < count; ++i) {
      Block& b = blocks[i];
      const auto fill = [&](auto& bytes, std::size_t size) {
        bytes.resize(size);
        for (auto& byte : bytes) byte = static_cast<u8>(random_());
      };
      fill(b.guest, 4 + random_() % 60);
      fill(b.code, 16 + random_() % 500);
      b.relocations.resize(random_() % 9);
      for (auto& r : b.relocations) r = {static_cast<u32>(random_() % b.code.size()), Tier1Relocation::Kind::Counter, 0};
      b.fallbacks.resize(random_() % 3);
      b.stored = {from + i * 4, i % 3, 8, 2, false, BlockEnd::Branch, 0, 2, {{i * 64, 4, 8}, {i * 32, 12, 9}}, {}, {}, {}, {}};
      b.stored.guest_code = b.guest;
      b.stored.code = b.code;
      b.stored.relocations = b.relocations;
      b.stored.fallbacks = b.fallbacks;
    }
    return blocks;
  }
  static std::vector<StoredBlock> views(const std::vector<Block>& blocks) {
    std::vector<StoredBlock> out;
    for (const Block& b : blocks) out.push_back(b.stored);
    return out;
  }
  std::vector<u8> contents() {
    std::ifstream in(path_, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  void put(const std::vector<u8>& bytes) {
    unlink(path_.c_str());
    std::ofstream(path_, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    chmod(path_.c_str(), 0600);
  }
  static void expect_same(const Block& b, const StoredBlock& got) {
    EXPECT_TRUE(std::ranges::equal(b.guest, got.guest_code));
    EXPECT_TRUE(std::ranges::equal(b.code, got.code));
    ASSERT_EQ(b.relocations.size(), got.relocations.size());
    EXPECT_EQ(b.fallbacks.size(), got.fallbacks.size());
    for (std::size_t i = 0; i < b.relocations.size(); ++i) EXPECT_EQ(b.relocations[i].offset, got.relocations[i].offset);
    EXPECT_EQ(b.stored.exits[1].target, got.exits[1].target);
    EXPECT_EQ(b.stored.end, got.end);
  }

  std::string directory_, path_;
  std::mt19937_64 random_{20};
};

TEST_F(BlockStoreTest, WhatWentInComesOut) {
  const auto blocks = make(500, 0x400000);
  ASSERT_TRUE(BlockStore::write(path_, "key", nullptr, views(blocks), 1 << 24));
  const auto store = BlockStore::open(path_, "key");
  ASSERT_NE(store, nullptr);
  EXPECT_EQ(store->size(), 500u);
  StoredBlock got;
  for (const Block& b : blocks) {
    ASSERT_TRUE(store->find(b.stored.pc, b.stored.mode, got));
    expect_same(b, got);
    EXPECT_FALSE(store->find(b.stored.pc, b.stored.mode + 7, got));
  }
}

TEST_F(BlockStoreTest, NewBlocksReplaceOldOnes) {
  const auto old_blocks = make(100, 0x1000), new_blocks = make(50, 0x1000 + 50 * 4);
  ASSERT_TRUE(BlockStore::write(path_, "key", nullptr, views(old_blocks), 1 << 24));
  ASSERT_TRUE(BlockStore::write(path_, "key", BlockStore::open(path_, "key").get(), views(new_blocks), 1 << 24));
  const auto store = BlockStore::open(path_, "key");
  StoredBlock got;
  ASSERT_TRUE(store->find(old_blocks[3].stored.pc, old_blocks[3].stored.mode, got));
  expect_same(old_blocks[3], got);
  ASSERT_TRUE(store->find(new_blocks[3].stored.pc, new_blocks[3].stored.mode, got));
  expect_same(new_blocks[3], got);
}

TEST_F(BlockStoreTest, TheSizeIsBounded) {
  const auto blocks = make(500, 0x1000);
  ASSERT_TRUE(BlockStore::write(path_, "key", nullptr, views(blocks), 40000));
  EXPECT_LE(contents().size(), 40000u);
  EXPECT_GT(BlockStore::open(path_, "key")->size(), 10u);
}

TEST_F(BlockStoreTest, OnlyTheKeysOwnFileOfThisUser) {
  ASSERT_TRUE(BlockStore::write(path_, "key", nullptr, views(make(5, 0)), 1 << 24));
  EXPECT_EQ(BlockStore::open(path_, "kez"), nullptr);
  EXPECT_EQ(BlockStore::open(path_, "key2"), nullptr);
  EXPECT_EQ(BlockStore::open(directory_ + "/none", "key"), nullptr);
  EXPECT_EQ(BlockStore::open(directory_, "key"), nullptr);
  chmod(path_.c_str(), 0620);
  EXPECT_EQ(BlockStore::open(path_, "key"), nullptr);
  chmod(path_.c_str(), 0600);
  ASSERT_EQ(symlink("file", (directory_ + "/link").c_str()), 0);
  EXPECT_EQ(BlockStore::open(directory_ + "/link", "key"), nullptr);
  unlink((directory_ + "/link").c_str());
  if (geteuid() == 0) {
    ASSERT_EQ(chown(path_.c_str(), 12345, 0), 0);
    EXPECT_EQ(BlockStore::open(path_, "key"), nullptr);
  }
}

TEST_F(BlockStoreTest, DamageIsFound) {
  const auto blocks = make(20, 0);
  ASSERT_TRUE(BlockStore::write(path_, "key", nullptr, views(blocks), 1 << 24));
  const std::vector<u8> good = contents();
  for (unsigned round = 0; round < 600; ++round) {
    std::vector<u8> bad = good;
    if (round % 3 == 0) bad.resize(random_() % good.size());
    else if (round % 3 == 1) bad[random_() % bad.size()] ^= static_cast<u8>(1u << random_() % 8);
    else std::fill_n(bad.begin() + static_cast<s64>(random_() % (bad.size() - 64)), 64, 0);
    put(bad);
    const auto store = BlockStore::open(path_, "key");
    if (store == nullptr) continue;
    StoredBlock got;
    for (const Block& b : blocks)
      if (store->find(b.stored.pc, b.stored.mode, got)) expect_same(b, got);
  }
}

}  // namespace
}  // namespace kiln::jit
