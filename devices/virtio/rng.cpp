#include "devices/virtio/rng.h"

#include <sys/random.h>

#include <algorithm>

namespace kiln::devices {

void VirtioRng::notified(u32) {
  VirtChain chain;
  do {
    while (pop(0, chain)) {
      // A device may return less than was asked for.
      std::vector<u8> bytes(std::min<u64>(chain.writable_bytes(), 4096));
      source_(bytes);
      const bool written = chain.write(dma_, 0, bytes.data(), bytes.size());
      push(0, chain, written ? static_cast<u32>(bytes.size()) : 0);
    }
    interrupt(0);
  } while (rearm(0));
}

void host_random(std::span<u8> bytes) {
  for (std::size_t done = 0; done < bytes.size();) {
    const ssize_t got = getrandom(bytes.data() + done, bytes.size() - done, 0);
    if (got > 0) done += static_cast<std::size_t>(got);
  }
}

}  // namespace kiln::devices
