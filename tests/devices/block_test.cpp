#include <gtest/gtest.h>
#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <fstream>
#include <thread>

#include "devices/block/pool_disk.h"
#include "devices/block/raw_disk.h"
#include "tests/devices/fakes.h"

namespace kiln::devices {
namespace {

struct RawDiskTest : testing::Test {
  MachineLock lock;
  HostLoop loop{lock};
  std::string directory = testing::TempDir() + "block-" + std::to_string(getpid());
  RawDiskTest() { std::filesystem::create_directory(directory); }
  ~RawDiskTest() override { std::filesystem::remove_all(directory); }

  std::string image(u64 bytes) {
    const std::string path = directory + "/disk";
    std::ofstream file(path, std::ios::binary);
    for (u64 i = 0; i < bytes; ++i) file.put(static_cast<char>(i / 512));
    return path;
  }
  /// Runs a request to its end; its error.
  template <class Start>
  int wait(Start start) {
    int error = -1;
    {
      const std::lock_guard guard(lock);
      start([&](int result) { error = result; });
      EXPECT_EQ(error, -1);  // never from inside the call
    }
    while (error == -1) loop.run_once(Timer::kNever);
    return error;
  }
  int read(BlockBackend& disk, u64 offset, std::vector<u8>& to) {
    return wait([&](auto done) { disk.read(offset, {{to.data(), to.size()}}, done); });
  }
  int write(BlockBackend& disk, u64 offset, std::vector<u8> from, bool fua = false) {
    return wait([&](auto done) { disk.write(offset, {{from.data(), from.size()}}, fua, done); });
  }
  static u8 byte_of(const std::string& path, u64 offset) {
    std::ifstream file(path, std::ios::binary);
    file.seekg(static_cast<std::streamoff>(offset));
    return static_cast<u8>(file.get());
  }
};

TEST_F(RawDiskTest, ReadsWritesAndStaysInside) {
  const std::string path = image(10 * 512 + 100);  // the last 100 bytes are no sector
  auto disk = open_raw_disk(loop, {path, false, false, false, false});
  ASSERT_TRUE(disk) << disk.error();
  EXPECT_EQ((*disk)->bytes(), 5120u);
  std::vector<u8> data(1024);
  EXPECT_EQ(read(**disk, 512, data), 0);
  EXPECT_EQ(data[0], 1);
  EXPECT_EQ(data[512], 2);
  EXPECT_EQ(write(**disk, 1024, std::vector<u8>(512, 0xaa), true), 0);
  EXPECT_EQ(byte_of(path, 1024), 0xaa);
  EXPECT_EQ(wait([&](auto done) { (*disk)->flush(done); }), 0);
  EXPECT_EQ(read(**disk, 4608, data), EIO);
  EXPECT_EQ(read(**disk, ~u64{0} - 100, data), EIO);
  EXPECT_EQ(write(**disk, 5120, std::vector<u8>(512)), EIO);
  EXPECT_EQ(wait([&](auto done) { (*disk)->write_zeroes(1024, 512, true, done); }), 0);
  EXPECT_EQ(byte_of(path, 1024), 0);
  EXPECT_EQ(byte_of(path, 1536), 3);
  EXPECT_EQ(wait([&](auto done) { (*disk)->discard(0, 512, done); }), 0);
  EXPECT_EQ(byte_of(path, 512), 1);
}

TEST_F(RawDiskTest, WriteThroughFlushesEachWrite) {
  struct Counting : BlockStore {
    std::atomic<unsigned>& flushes;
    explicit Counting(std::atomic<unsigned>& flushes) : flushes(flushes) {}
    u64 bytes() const override { return 4096; }
    int read(u64, u8*, u64) override { return 0; }
    int write(u64, const u8*, u64) override { return 0; }
    int flush() override { return flushes += 1, 0; }
    int write_zeroes(u64, u64, bool) override { return 0; }
    int discard(u64, u64) override { return 0; }
  };
  std::atomic<unsigned> flushes = 0;
  auto back = make_pool_disk(loop, std::make_unique<Counting>(flushes), false, "", false);
  EXPECT_EQ(write(*back, 0, std::vector<u8>(512)), 0);
  EXPECT_EQ(flushes, 0u);
  EXPECT_EQ(write(*back, 0, std::vector<u8>(512), true), 0);
  EXPECT_EQ(flushes, 1u);
  auto through = make_pool_disk(loop, std::make_unique<Counting>(flushes), false, "", true);
  EXPECT_EQ(write(*through, 0, std::vector<u8>(512)), 0);
  EXPECT_EQ(flushes, 2u);
}

TEST_F(RawDiskTest, SnapshotLeavesTheFileAlone) {
  const std::string path = image(64 * 512);
  auto disk = open_raw_disk(loop, {path, false, true, false, false});
  ASSERT_TRUE(disk) << disk.error();
  EXPECT_EQ(write(**disk, 3 * 512, std::vector<u8>(512, 0xaa)), 0);
  EXPECT_EQ(wait([&](auto done) { (*disk)->write_zeroes(20 * 512, 1024, false, done); }), 0);
  std::vector<u8> all(64 * 512);
  EXPECT_EQ(read(**disk, 0, all), 0);
  for (unsigned i = 0; i < 64; ++i) EXPECT_EQ(all[i * 512 + 7], i == 3 ? 0xaa : i == 20 || i == 21 ? 0 : i) << i;
  EXPECT_EQ(byte_of(path, 3 * 512), 3);
}

TEST_F(RawDiskTest, OneWriterOrManyReaders) {
  const std::string path = image(5120);
  auto first = open_raw_disk(loop, {path, false, false, false, false});
  ASSERT_TRUE(first);
  auto second = open_raw_disk(loop, {path, false, false, false, false});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error(), "cannot open disk " + path + ": another process uses it");
  *first = nullptr;
  auto reader = open_raw_disk(loop, {path, true, false, false, false});
  ASSERT_TRUE(reader);
  EXPECT_TRUE(open_raw_disk(loop, {path, false, true, false, false}));
  EXPECT_EQ(write(**reader, 0, std::vector<u8>(512)), EROFS);
  EXPECT_NE((*reader)->describe().find("read-only"), std::string::npos);
}

TEST_F(RawDiskTest, FileThatBecomesShorterReadsAsZeroes) {
  const std::string path = image(64 * 512);
  auto disk = open_raw_disk(loop, {path, true, false, false, false});
  ASSERT_TRUE(disk);
  std::filesystem::resize_file(path, 512);
  std::vector<u8> data(1024, 1);
  EXPECT_EQ(read(**disk, 20 * 512, data), 0);
  EXPECT_EQ(data[0], 0);
}

TEST_F(RawDiskTest, UserMistakes) {
  auto missing = open_raw_disk(loop, {directory + "/none", false, false, false, false});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error(), "cannot open disk " + directory + "/none: No such file or directory");
  EXPECT_FALSE(open_raw_disk(loop, {directory, true, false, false, false}));
  EXPECT_FALSE(open_raw_disk(loop, {"/dev/null", true, false, false, false}));
}

/// Takes its time, fails when told to, and notices disorder.
struct SlowStore : BlockStore {
  std::vector<u8> content = std::vector<u8>(1 << 20);
  std::atomic<int> error = 0;
  u64 bytes() const override { return content.size(); }
  int read(u64 offset, u8* to, u64 bytes) override {
    std::this_thread::yield();
    std::memcpy(to, content.data() + offset, bytes);
    return error;
  }
  int write(u64 offset, const u8* from, u64 bytes) override {
    std::this_thread::yield();
    if (error == 0) std::memcpy(content.data() + offset, from, bytes);
    return error;
  }
  int flush() override { return error; }
  int write_zeroes(u64, u64, bool) override { return 0; }
  int discard(u64, u64) override { return 0; }
};

TEST_F(RawDiskTest, OverlappingRequestsKeepTheirOrder) {
  auto disk = make_pool_disk(loop, std::make_unique<SlowStore>(), false, "slow");
  std::vector<std::vector<u8>> buffers;
  for (unsigned i = 0; i < 400; ++i) buffers.emplace_back(512, static_cast<u8>(i));
  unsigned done = 0;
  {
    const std::lock_guard guard(lock);
    for (unsigned i = 0; i < 400; ++i) {
      // Every sector is written twenty times, read after each.
      disk->write(512 * (i % 20), {{buffers[i].data(), 512}}, false, [&](int) { done += 1; });
      disk->read(512 * (i % 20), {{buffers[i].data(), 512}}, [&, i](int) {
        done += 1;
        EXPECT_EQ(buffers[i][0], static_cast<u8>(i));
      });
    }
  }
  while (done < 800) loop.run_once(Timer::kNever);
}

TEST_F(RawDiskTest, FullHostDiskIsAnErrorOfTheRequest) {
  auto store = std::make_unique<SlowStore>();
  SlowStore& raw = *store;
  auto disk = make_pool_disk(loop, std::move(store), false, "slow");
  raw.error = ENOSPC;
  EXPECT_EQ(write(*disk, 0, std::vector<u8>(512, 1)), ENOSPC);
  EXPECT_EQ(wait([&](auto done) { disk->flush(done); }), ENOSPC);
  raw.error = 0;
  EXPECT_EQ(write(*disk, 0, std::vector<u8>(512, 1)), 0);
}

TEST_F(RawDiskTest, DrainRunsEverything) {
  auto disk = make_pool_disk(loop, std::make_unique<SlowStore>(), false, "slow");
  std::vector<u8> buffer(512);
  unsigned done = 0;
  std::unique_lock guard(lock);
  for (unsigned i = 0; i < 50; ++i) {
    disk->write(512 * i, {{buffer.data(), 512}}, false, [&](int) {
      // A request that follows another is waited for as well.
      disk->flush([&](int) { done += 1; });
    });
  }
  disk->drain(guard);
  EXPECT_TRUE(guard.owns_lock());
  EXPECT_EQ(done, 50u);
}

}  // namespace
}  // namespace kiln::devices
