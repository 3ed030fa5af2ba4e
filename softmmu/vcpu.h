// One virtual processor: its TLBs, the slow path of its memory accesses, its interrupt inputs, its thread.
// Invariants: (1) TLBs and the fetch cache are touched by the vCPU's own thread only, but for write tags, which others may take away
// (they store kNoTag and then wait for nothing: see drop_write_tags()); (2) whoever wants something of a vCPU from outside sets a bit of
// `requests_` and then CpuState::interrupt, and wakes it.
#pragma once
#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "devices/bus/irq.h"
#include "ir/system_desc.h"
#include "jit/engine/engine.h"
#include "softmmu/physical_space.h"

namespace kiln::softmmu {

class Machine;

/// Counters for `info jit` and --stats.
struct VcpuStats {
  u64 fills = 0, walks = 0, device_accesses = 0, crossings = 0, code_writes = 0, flushes_all = 0, flushes_page = 0, flushes_non_global = 0, space_changes = 0;
  u64 exceptions = 0, interrupts = 0, halts = 0, new_keys = 0, key_epochs = 0;
};

class Vcpu final : public ir::VcpuPort {
 public:
  Vcpu(Machine& machine, unsigned index);
  ~Vcpu() override;

  ir::CpuState* state() { return state_; }
  unsigned index() const { return index_; }
  /// Its thread's body: runs until the machine ends.
  void run();
  /// On its own thread or while it is stopped. From now on it runs from there.
  void start_at(GuestAddr entry, std::span<const u64> arguments);
  void power_down() { on_.store(0); }

  enum Request : u32 { Stop = 1, Flush = 2, Alarm = 4 };
  /// Any thread.
  void request(u32 bits);
  // For GdbTarget, on the vCPU's thread.
  void take_exception(ir::ExitKind kind);
  void wait_for_stop();
  /// Any thread: makes it leave generated code and look around.
  void kick();
  /// A line of `inputs()`; any thread that holds the machine lock.
  devices::IrqLine& input(unsigned number);

  /// Engine's AddressSpace::locate().
  bool locate(GuestAddr pc, GuestAddr& place);
  /// CpuState::guest_pointer.
  void* access(u64 address, u32 desc, const void* value);
  /// The page of RAM at this host address holds code from now on: stores to it go the slow way.
  void drop_write_tags(const u8* host_page);
  void flush_all();
  /// For debuggers and the monitor: where a virtual address leads without side effects. False: nowhere.
  std::string tlb_text() const;
  /// Host address of a guest virtual one that leads to RAM, else null.
  const u8* debug_host(GuestAddr address);
  bool debug_translate(GuestAddr address, u64& physical);

  VcpuStats stats;
  std::atomic<bool> stopped{false};  // it waits because the machine is stopped

  // VcpuPort
  void flush_tlb(const ir::TlbFlush& flush, bool broadcast) override;
  void space_changed() override {
    state_->jump_key = ir::kJumpKeyUnknown;
    space_known_ = false;
  }
  bool device_register(u32 number, bool write, u64& value) override;
  u64 clock_ns() override;
  void set_alarm(u64 when_ns) override;
  void set_output(unsigned line, bool level) override;
  u32 inputs() override { return levels_.load(std::memory_order_acquire); }
  void halt() override { halted_ = true, __atomic_store_n(&state_->interrupt, 1, __ATOMIC_RELEASE); }
  void power(Power request) override;
  int start_cpu(u64 target, GuestAddr entry, u64 context) override;
  void stop_cpu() override;
  int cpu_status(u64 target) override;
  ir::PhysicalMemory& memory() override;
  void guest_error(const std::string& text) override;

 private:
  struct Input;
  /// What a fetch of a virtual page led to under a key.
  struct FetchEntry {
    u64 tag = ~u64{0};  // page ^ jump_key
    u64 place = 0;      // of the page
  };
  static constexpr std::size_t kFetchEntries = 512;
  struct Space {
    u64 identity;
    u32 mode;
    bool operator==(const Space&) const = default;
  };
  struct SpaceHash {
    std::size_t operator()(const Space& s) const { return (s.identity ^ u64{s.mode} << 48) * 0x9e3779b97f4a7c15u; }
  };

  /// A translation that the TLB may have lost to another address space or page: what a walk found, kept by page and space.
  struct Kept {
    u64 page = ~u64{0};
    u64 space = 0;
    Ram* ram = nullptr;
    u64 offset = 0;      // of the page in `ram`
    u64 physical = 0;    // of the page
    u32 epoch = 0;
    u8 index = 0;
    bool readable = false, writable = false, global = false;
  };
  static constexpr std::size_t kKeptSets = 4096, kKeptWays = 4;
  Kept* kept_set(u64 page, unsigned index) { return &kept_[((page & mask_low(56)) / 4096 * 3 + index) % kKeptSets * kKeptWays]; }
  const Kept* find_kept(u64 address, unsigned index, bool store);
  void keep(u64 address, unsigned index, const ir::Translation& t, const PhysicalRange& range);
  u64 space();
  void* access_page(u64 address, u32 desc, const void* value, unsigned bytes);
  void* crossing(u64 address, u32 desc, const void* value, unsigned bytes);
  bool translate_data(u64 address, u32 desc, unsigned bytes, ir::Translation& out);
  void fill(u64 address, const Kept& kept);
  void clear_entry(unsigned index, std::size_t slot);
  void flush_page(GuestAddr address);
  void flush_non_global(u32 indices);
  void find_key();
  void new_key_epoch();
  void renew_keys();
  void service();
  void wait_halted();
  void wait_stopped();

  Machine& machine_;
  const unsigned index_;
  const ir::SystemDesc& desc_;
  jit::Engine& engine_;
  ir::CpuState* state_ = nullptr;

  std::vector<u16> filled_[ir::kTlbIndices];           // slots filled since the last flush of all, some of them twice
  std::vector<bool> global_[ir::kTlbIndices];
  std::vector<bool> listed_[ir::kTlbIndices];
  struct Large {
    u64 low = ~u64{0}, high = 0;
  } large_[2];                                          // of each half of the address space: what large pages were filled from
  FetchEntry fetch_[kFetchEntries];
  std::unordered_map<Space, u64, SpaceHash> keys_;
  std::unordered_set<u64> located_;                     // pages that anything was fetched from since the keys were made
  u64 next_key_ = 1;
  std::vector<Kept> kept_;
  u32 kept_epoch_ = 1;
  unsigned kept_way_ = 0;
  u64 space_ = 0;
  bool space_known_ = false;
  alignas(16) u8 bounce_[64];

  std::vector<std::unique_ptr<Input>> inputs_;
  std::atomic<u32> levels_{0};
  std::atomic<u32> requests_{0};
  std::atomic<int> on_{0};
  bool halted_ = false;
  std::mutex wake_mutex_;
  std::condition_variable wake_;
  u64 alarm_ns_ = ~u64{0};
  std::unique_ptr<devices::Timer> alarm_;
};

}  // namespace kiln::softmmu
