// Raw disk images.
#pragma once
#include <memory>
#include <string>

#include "devices/block/block_backend.h"
#include "devices/bus/event_loop.h"
#include "ir/support/result.h"

namespace kiln::devices {

struct RawDiskOptions {
  std::string file;
  bool read_only = false;
  /// Writes go to a temporary file that is gone with the process; `file` stays as it is (-snapshot).
  bool snapshot = false;
  /// Discarded ranges give their room back to the host's file system (discard=unmap).
  bool unmap = false;
  /// Every write is on stable storage before it is done (cache=writethrough).
  bool write_through = false;
};

/// A file or block device as a disk; what lies beyond its last whole sector does not exist. Two processes cannot write to one
/// image (flock).
Result<std::unique_ptr<BlockBackend>> open_raw_disk(EventLoop& loop, const RawDiskOptions& options);

}  // namespace kiln::devices
