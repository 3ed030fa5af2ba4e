#include "jit/engine/jitdump.h"

#include <elf.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdlib>
#include <ctime>
#include <vector>

namespace kiln::jit {
namespace {

constexpr std::size_t kPage = 4096;

template <class T>
void put(std::vector<u8>& out, T value) {
  const auto* bytes = reinterpret_cast<const u8*>(&value);
  out.insert(out.end(), bytes, bytes + sizeof value);
}

u64 timestamp() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<u64>(now.tv_sec) * 1'000'000'000 + static_cast<u64>(now.tv_nsec);
}

bool write_all(int fd, std::span<const u8> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = write(fd, bytes.data(), bytes.size());
    if (n <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace

std::unique_ptr<JitDump> JitDump::open() {
  const char* directory = std::getenv("JITDUMPDIR");
  const std::string path =
      std::string(directory != nullptr && *directory ? directory : "/tmp") + "/jit-" + std::to_string(getpid()) + ".dump";
  int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
  if (fd < 0) return nullptr;
  constexpr int kOutOfTheWay = 1002;  // a guest counts on the low numbers
  if (const int high = fcntl(fd, F_DUPFD_CLOEXEC, kOutOfTheWay); high >= 0) {
    close(fd);
    fd = high;
  }
  constexpr u32 kMagic = 0x4a695444, kVersion = 1, kHeaderBytes = 40;
  std::vector<u8> header;
  put(header, kMagic);
  put(header, kVersion);
  put(header, kHeaderBytes);
  put(header, u32{EM_X86_64});
  put(header, u32{0});
  put(header, static_cast<u32>(getpid()));
  put(header, timestamp());
  put(header, u64{0});
  void* mark = MAP_FAILED;
  if (write_all(fd, header)) mark = mmap(nullptr, kPage, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
  if (mark == MAP_FAILED) {
    close(fd);
    return nullptr;
  }
  return std::unique_ptr<JitDump>(new JitDump(fd, mark));
}

JitDump::~JitDump() {
  munmap(mark_, kPage);
  close(fd_);
}

void JitDump::add(HostAddr address, std::span<const u8> code, const std::string& name) {
  constexpr u32 kCodeLoad = 0;
  constexpr std::size_t kFixedBytes = 56;
  std::vector<u8> record;
  put(record, kCodeLoad);
  put(record, static_cast<u32>(kFixedBytes + name.size() + 1 + code.size()));
  put(record, timestamp());
  put(record, static_cast<u32>(getpid()));
  put(record, static_cast<u32>(syscall(SYS_gettid)));
  put(record, u64{address});  // vma
  put(record, u64{address});  // code_addr
  put(record, u64{code.size()});
  put(record, ++index_);
  record.insert(record.end(), name.c_str(), name.c_str() + name.size() + 1);
  record.insert(record.end(), code.begin(), code.end());
  write_all(fd_, record);
}

}  // namespace kiln::jit
