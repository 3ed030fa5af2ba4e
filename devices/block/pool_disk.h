// A BlockStore behind the asynchronous interface.
#pragma once
#include "devices/block/block_backend.h"
#include "devices/block/store.h"
#include "devices/bus/event_loop.h"

namespace kiln::devices {

/// Requests run on a few threads of its own and are done on the I/O thread. Requests to overlapping ranges run in the order in
/// which they were made if one of them writes. `write_through`:
/// every write is flushed before it is done.
std::unique_ptr<BlockBackend> make_pool_disk(EventLoop& loop, std::unique_ptr<BlockStore> store, bool read_only,
                                             std::string description, bool write_through = false);

}  // namespace kiln::devices
