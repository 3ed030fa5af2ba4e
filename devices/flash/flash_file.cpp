#include "devices/flash/flash_file.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace kiln::devices {

Result<FlashFile> open_flash_file(const std::string& name, bool read_only, u64 bank_bytes) {
  const auto failed = [&](const std::string& why) { return Error{"cannot use flash image " + name + ": " + why}; };
  const int fd = open(name.c_str(), (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC);
  if (fd < 0) return failed(std::strerror(errno));
  const std::shared_ptr<const int> owner(new int(fd), [](const int* owned) {
    close(*owned);
    delete owned;
  });
  struct stat info{};
  if (fstat(fd, &info) != 0) return failed(std::strerror(errno));
  if (!S_ISREG(info.st_mode)) return failed("it is no file");
  if (static_cast<u64>(info.st_size) > bank_bytes)
    return failed("it is larger than the bank (" + std::to_string(bank_bytes >> 20) + " MiB)");
  if (!read_only && flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) return failed("another process uses it");
  FlashFile file;
  file.content.resize(static_cast<std::size_t>(info.st_size));
  for (std::size_t done = 0; done < file.content.size();) {
    const ssize_t got = pread(fd, file.content.data() + done, file.content.size() - done, static_cast<off_t>(done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return failed(std::strerror(errno));
    if (got == 0) break;
    done += static_cast<std::size_t>(got);
  }
  if (!read_only) {
    file.save = [owner](u64 offset, std::span<const u8> bytes) {
      while (!bytes.empty()) {
        const ssize_t put = pwrite(*owner, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        bytes = bytes.subspan(static_cast<std::size_t>(put));
        offset += static_cast<u64>(put);
      }
      return true;
    };
  }
  return file;
}

}  // namespace kiln::devices
