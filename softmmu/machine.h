// A whole machine: address space, engine, vCPUs, board, clock, and who may do what when.
// Threads: the caller of run() controls (stops vCPUs, resets, ends); an I/O thread serves HostLoop; each vCPU has its own.
// Locks, outermost first: machine lock, then the engine's own, then the wake locks of vCPUs. Guest code runs with none of them.
#pragma once
#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "devices/boards/board.h"
#include "devices/bus/host_loop.h"
#include "ir/guest_desc.h"
#include "ir/support/log.h"
#include "jit/engine/engine.h"
#include "softmmu/physical_space.h"
#include "softmmu/vcpu.h"

namespace kiln::softmmu {

class GdbTarget;

class Machine final : public jit::AddressSpace {
 public:
  /// `config.soft_mmu` is set here. `date`: seconds since 1970 that real-time clocks start with.
  Machine(const ir::GuestDesc& guest, jit::EngineConfig config, unsigned vcpus, u64 date);
  ~Machine() override;
  Machine(const Machine&) = delete;
  Machine& operator=(const Machine&) = delete;

  const ir::GuestDesc& guest() const { return guest_; }
  jit::Engine& engine() { return *engine_; }
  PhysicalSpace& space() { return space_; }
  devices::MachineLock& lock() { return lock_; }
  devices::HostLoop& loop() { return loop_; }
  devices::HostClock& clock() { return clock_; }
  devices::Board* board() { return board_.get(); }
  Vcpu& vcpu(unsigned index) { return *vcpus_[index]; }
  unsigned vcpu_count() const { return static_cast<unsigned>(vcpus_.size()); }

  /// What a board is to be made with.
  devices::BoardServices services();
  void set_board(std::unique_ptr<devices::Board> board) { board_ = std::move(board); }

  /// -no-reboot: a reset ends the machine. -no-shutdown: power-off stops it.
  bool no_reboot = false, no_shutdown = false;
  /// The monitor's `info block`, `info network`: lines of the owner of the back-ends.
  std::function<std::string()> describe_disks, describe_networks;
  /// -S: begins stopped.
  bool start_stopped = false;

  /// Powers the machine on and controls it until it ends; the process's exit status.
  int run();
  enum class Ask : u32 { PowerOff = 1, Reset = 2, Quit = 4, Stop = 8, Continue = 16 };
  /// Any thread, any lock: done soon by the controlling thread.
  void ask(Ask what, int status = 0);
  /// Any thread: `work` runs on the controlling thread, vCPUs standing still, machine lock held.
  void call(std::function<void()> work);
  /// Not stopped by the user (while a call() runs the vCPUs stand still anyway).
  bool running_for_user() const { return user_running_.load(); }
  /// In a call(): whether the machine goes on afterwards.
  void set_running_for_user(bool on) { user_running_.store(on); }

  /// Any thread but the controlling one and vCPUs': returns when no vCPU runs after an ask() to stop.
  void wait_until_stopped();
  /// Set before run(): vCPUs run under its eyes.
  GdbTarget* debugger = nullptr;

  // For vCPU threads.
  /// Until asks_to_stop().
  void wait_for_stop();
  bool asks_to_stop() const { return stop_wanted_.load(std::memory_order_relaxed); }
  /// Waits while the machine is stopped. False: the thread is to end.
  bool wait_to_go_on(Vcpu& vcpu);
  void enter_vcpu_thread(Vcpu& vcpu);
  void log_exception(Vcpu& vcpu, ir::ExitKind kind);
  void guest_error(const std::string& text);

  /// The monitor's `info jit`, --stats.
  std::string stats_text() const;

  // jit::AddressSpace
  HostAddr base() const override { return 0; }
  std::size_t fetch(GuestAddr place, u8* out, std::size_t size) override;
  void protect_code(GuestAddr place) override;
  void unprotect_code(GuestAddr place) override;
  bool locate(ir::CpuState* cpu, GuestAddr pc, GuestAddr& place) override;

 private:
  void stop_vcpus();
  void resume_vcpus();
  void reset();
  bool serve_asks();

  const ir::GuestDesc& guest_;
  const Log& log_;
  devices::MachineLock lock_;
  devices::HostLoop loop_;
  devices::HostClock clock_;
  PhysicalSpace space_;
  std::unique_ptr<jit::Engine> engine_;
  std::vector<std::unique_ptr<Vcpu>> vcpus_;
  std::unique_ptr<devices::Board> board_;

  std::atomic<bool> stop_wanted_{true};
  std::atomic<bool> ending_{false};
  std::mutex control_mutex_;
  std::condition_variable control_;   // asks, vCPUs that have stopped
  std::condition_variable go_on_;
  u32 asks_ = 0;
  std::vector<std::function<void()>> calls_;
  std::atomic<bool> user_running_{false};
  int status_ = 0;
  std::atomic<u64> guest_errors_{0};
};

}  // namespace kiln::softmmu
