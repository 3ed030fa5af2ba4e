#include "jit/engine/low_memory.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <unordered_map>
#include <vector>

#include "ir/support/log.h"
#include "ir/support/bits.h"

namespace kiln::jit {
namespace {

constexpr std::size_t kChunk = std::size_t{1} << 20;

// Free objects of a size hang in a list; chunks are never given back.
struct Pool {
  std::mutex mutex;
  std::unordered_map<std::size_t, void*> free;
  u8* next = nullptr;
  std::size_t left = 0;
};
Pool& pool() {
  static Pool& the = *new Pool;
  return the;
}

}  // namespace

void* low_allocate(std::size_t size) {
  size = align_up(size, std::size_t{16});
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  if (void*& head = p.free[size]; head != nullptr) {
    void* object = head;
    head = *static_cast<void**>(object);
    return object;
  }
  if (p.left < size) {
    void* chunk = mmap(nullptr, kChunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    if (chunk == MAP_FAILED) chunk = mmap(nullptr, kChunk, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (chunk == MAP_FAILED) {
      std::fprintf(stderr, "kiln: internal error: out of memory\n");
      exit_with_internal_error();
    }
    p.next = static_cast<u8*>(chunk);
    p.left = kChunk;
  }
  void* object = p.next;
  p.next += size;
  p.left -= size;
  return object;
}

void low_free(void* object, std::size_t size) {
  Pool& p = pool();
  const std::lock_guard lock(p.mutex);
  void*& head = p.free[align_up(size, std::size_t{16})];
  *static_cast<void**>(object) = head;
  head = object;
}


namespace {
constexpr std::size_t kCounters = 1024;  // taken at once
struct CounterPool {
  std::mutex mutex;
  std::vector<u32*> free;
};
CounterPool& counter_pool() {
  static CounterPool& the = *new CounterPool;
  return the;
}
}  // namespace

Counter::Counter() {
  CounterPool& p = counter_pool();
  const std::lock_guard lock(p.mutex);
  if (p.free.empty()) {
    auto* fresh = static_cast<u32*>(low_allocate(kCounters * sizeof(u32)));
    for (std::size_t i = kCounters; i-- > 0;) p.free.push_back(fresh + i);
  }
  at_ = p.free.back();
  p.free.pop_back();
  *at_ = 0;
}

Counter::~Counter() {
  CounterPool& p = counter_pool();
  const std::lock_guard lock(p.mutex);
  p.free.push_back(at_);
}

}  // namespace kiln::jit
