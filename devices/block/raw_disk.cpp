#include "devices/block/raw_disk.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "devices/block/pool_disk.h"

namespace kiln::devices {

Result<std::unique_ptr<BlockBackend>> open_raw_disk(EventLoop& loop, const RawDiskOptions& options) {
  const auto failed = [&](const std::string& why) { return Error{"cannot open disk " + options.file + ": " + why}; };
  const bool writes = !options.read_only && !options.snapshot;
  const int fd = open(options.file.c_str(), (writes ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) return failed(std::strerror(errno));
  const auto close_and_fail = [&](const std::string& why) {
    close(fd);
    return failed(why);
  };
  struct stat info{};
  u64 bytes = 0;
  if (fstat(fd, &info) != 0) return close_and_fail(std::strerror(errno));
  if (S_ISREG(info.st_mode)) bytes = static_cast<u64>(info.st_size);
  else if (!S_ISBLK(info.st_mode)) return close_and_fail("it is neither a file nor a block device");
  else if (ioctl(fd, BLKGETSIZE64, &bytes) != 0) return close_and_fail(std::strerror(errno));
  if (flock(fd, (writes ? LOCK_EX : LOCK_SH) | LOCK_NB) != 0 && errno == EWOULDBLOCK)
    return close_and_fail(writes ? "another process uses it" : "another process writes to it");

  std::unique_ptr<BlockStore> store = make_file_store(fd, align_down(bytes, 512), options.unmap);
  std::string description = options.file + " (raw";
  if (options.snapshot && !options.read_only) {
    auto overlay = make_overlay_store(std::move(store));
    if (!overlay) return failed(overlay.error());
    store = std::move(*overlay);
    description += ", snapshot";
  }
  description += options.read_only ? ", read-only)" : ")";
  return make_pool_disk(loop, std::move(store), options.read_only, description, options.write_through);
}

}  // namespace kiln::devices
