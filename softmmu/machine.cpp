#include "softmmu/machine.h"

#include <csignal>
#include <fmt/format.h>

#include <cstring>

namespace kiln::softmmu {

using ir::CpuState;
using ir::ExitKind;

namespace {

thread_local Vcpu* this_vcpu = nullptr;
thread_local jit::Engine* this_engine = nullptr;

// A trap in generated code (ir::Op::trap_if, alignment checks) is an instruction that faults.
void on_fault(int number, siginfo_t* info, void* context) {
  if (this_vcpu != nullptr && this_engine->handle_fault(this_vcpu->state(), info, context, 0)) return;
  std::signal(number, SIG_DFL);  // Kiln's own: again, and then the process ends with it
}

}  // namespace

Machine::Machine(const ir::GuestDesc& guest, jit::EngineConfig config, unsigned vcpus, u64 date)
    : guest_(guest), log_(*config.log), loop_(lock_), clock_(loop_, date) {
  config.soft_mmu = true;
  engine_ = std::make_unique<jit::Engine>(config, guest, *this);
  {
    const std::lock_guard lock(lock_);
    for (unsigned i = 0; i < vcpus; ++i) vcpus_.push_back(std::make_unique<Vcpu>(*this, i));
  }
  space_.on_change = [this] {
    for (const auto& vcpu : vcpus_) {
      if (vcpu.get() == this_vcpu) vcpu->flush_all();
      else vcpu->request(Vcpu::Flush);
    }
  };
  space_.on_code_changed = [this](u64 place, u64 bytes) {
    if (engine_->changed(place, bytes)) unprotect_code(align_down(place, 4096));
  };
}

Machine::~Machine() = default;

devices::BoardServices Machine::services() {
  devices::BoardServices services{.bus = space_, .dma = space_, .clock = clock_, .loop = loop_, .cpus = {}, .request = {}, .guest_error = {}};
  for (const auto& vcpu : vcpus_) {
    devices::CpuLines lines;
    for (unsigned n = 0; n < 8; ++n) lines.inputs.push_back(&vcpu->input(n));
    services.cpus.push_back(std::move(lines));
  }
  services.request = [this](devices::BoardServices::Request request) {
    ask(request == devices::BoardServices::Request::PowerOff ? Ask::PowerOff : Ask::Reset);
  };
  services.guest_error = [this](const std::string& text) { guest_error(text); };
  return services;
}

// --- engine's view of code --------------------------------------------------------------------------------------------

std::size_t Machine::fetch(GuestAddr place, u8* out, std::size_t size) {
  u64 offset;
  const Ram* ram = space_.ram_at(place, offset);
  if (ram == nullptr) return 0;
  size = std::min<std::size_t>(size, ram->bytes - offset);
  std::memcpy(out, ram->host + offset, size);
  return size;
}

void Machine::protect_code(GuestAddr place) {
  u64 offset;
  Ram* ram = space_.ram_at(place, offset);
  if (ram == nullptr) return;
  ram->flags[offset / 4096].fetch_or(kPageHasCode);
  for (const auto& vcpu : vcpus_) vcpu->drop_write_tags(ram->host + align_down(offset, 4096));
}

void Machine::unprotect_code(GuestAddr place) {
  u64 offset;
  Ram* ram = space_.ram_at(place, offset);
  if (ram != nullptr) ram->flags[offset / 4096].fetch_and(static_cast<u8>(~kPageHasCode));
}

bool Machine::locate(CpuState* cpu, GuestAddr pc, GuestAddr& place) { return static_cast<Vcpu&>(ir::port(cpu)).locate(pc, place); }

// --- control ----------------------------------------------------------------------------------------------------------

void Machine::ask(Ask what, int status) {
  const std::lock_guard lock(control_mutex_);
  asks_ |= static_cast<u32>(what);
  if (what == Ask::Quit) status_ = status;
  control_.notify_all();
}

void Machine::call(std::function<void()> work) {
  const std::lock_guard lock(control_mutex_);
  calls_.push_back(std::move(work));
  control_.notify_all();
}

void Machine::enter_vcpu_thread(Vcpu& vcpu) {
  this_vcpu = &vcpu;
  this_engine = engine_.get();
}

bool Machine::wait_to_go_on(Vcpu& vcpu) {
  std::unique_lock lock(control_mutex_);
  vcpu.stopped.store(true);
  control_.notify_all();
  go_on_.wait(lock, [&] { return !stop_wanted_.load() || ending_.load(); });
  vcpu.stopped.store(false);
  return !ending_.load();
}

void Machine::wait_for_stop() {
  std::unique_lock lock(control_mutex_);
  control_.wait(lock, [&] { return stop_wanted_.load() || ending_.load(); });
}

void Machine::wait_until_stopped() {
  std::unique_lock lock(control_mutex_);
  control_.wait(lock, [&] {
    if (ending_.load()) return true;
    if (asks_ != 0 || !stop_wanted_.load()) return false;
    for (const auto& vcpu : vcpus_)
      if (!vcpu->stopped.load()) return false;
    return true;
  });
}

void Machine::stop_vcpus() {
  {
    const std::lock_guard lock(control_mutex_);
    stop_wanted_.store(true);
    control_.notify_all();
  }
  for (const auto& vcpu : vcpus_) vcpu->request(Vcpu::Stop);
  {
    std::unique_lock lock(control_mutex_);
    control_.wait(lock, [&] {
      for (const auto& vcpu : vcpus_)
        if (!vcpu->stopped.load()) return false;
      return true;
    });
  }
  const std::lock_guard lock(lock_);
  clock_.stop();
}

void Machine::resume_vcpus() {
  {
    const std::lock_guard lock(lock_);
    clock_.start();
  }
  const std::lock_guard lock(control_mutex_);
  stop_wanted_.store(false);
  go_on_.notify_all();
}

// vCPUs stand still.
void Machine::reset() {
  const std::lock_guard lock(lock_);
  const devices::CpuStart start = board_->reset();
  for (const auto& vcpu : vcpus_) {
    vcpu->start_at(start.entry, start.arguments);
    if (vcpu->index() != 0) vcpu->power_down();
  }
  engine_->invalidate_all();
}

/// Waits for something to do, and does it. False: the machine ends.
bool Machine::serve_asks() {
  u32 asks;
  std::vector<std::function<void()>> calls;
  {
    std::unique_lock lock(control_mutex_);
    control_.wait(lock, [&] { return asks_ != 0 || !calls_.empty(); });
    asks = std::exchange(asks_, 0);
    calls.swap(calls_);
  }
  const auto asked = [&](Ask what) { return (asks & static_cast<u32>(what)) != 0; };
  if (!stop_wanted_.load()) stop_vcpus();
  if (asked(Ask::PowerOff)) {
    if (!no_shutdown) return false;
    user_running_ = false;
  }
  if (asked(Ask::Reset)) {
    if (no_reboot) return false;
    reset();
  }
  if (asked(Ask::Quit)) return false;
  if (!calls.empty()) {
    const std::lock_guard lock(lock_);
    for (const auto& work : calls) work();
  }
  if (asked(Ask::Stop)) user_running_ = false;
  if (asked(Ask::Continue)) user_running_ = true;
  if (user_running_) resume_vcpus();
  else {
    const std::lock_guard lock(control_mutex_);
    control_.notify_all();
  }
  return true;
}

int Machine::run() {
  struct sigaction action = {};
  action.sa_sigaction = on_fault;
  action.sa_flags = SA_SIGINFO;
  sigaction(SIGSEGV, &action, nullptr);
  sigaction(SIGBUS, &action, nullptr);

  std::thread io([this] { loop_.run(); });
  reset();
  std::vector<std::thread> threads;
  for (const auto& vcpu : vcpus_) threads.emplace_back([&v = *vcpu] { v.run(); });
  {  // all threads have come to their first stop
    std::unique_lock lock(control_mutex_);
    control_.wait(lock, [&] {
      for (const auto& vcpu : vcpus_)
        if (!vcpu->stopped.load()) return false;
      return true;
    });
  }
  user_running_ = !start_stopped;
  if (user_running_) resume_vcpus();
  while (serve_asks()) {
  }
  {
    const std::lock_guard lock(control_mutex_);
    ending_.store(true);
    go_on_.notify_all();
    control_.notify_all();
  }
  for (std::thread& thread : threads) thread.join();
  loop_.stop();
  io.join();
  return status_;
}

// --- logs -------------------------------------------------------------------------------------------------------------

void Machine::log_exception(Vcpu& vcpu, ExitKind kind) {
  if (!log_.on(kLogInt)) return;
  const CpuState& s = *vcpu.state();
  log_.write(fmt::format("cpu {}: exception kind {} value {:#x} aux {:#x} at pc {:#x}\n", vcpu.index(), static_cast<u32>(kind), s.exit_value,
                         s.exit_aux, s.pc));
}

void Machine::guest_error(const std::string& text) {
  constexpr u64 kMost = 10000;  // a guest that pokes about may cause any number
  if (log_.on(kLogUnimp) && guest_errors_++ < kMost) log_.write(text + "\n");
}

std::string Machine::stats_text() const {
  std::string text = engine_->stats_text();
  for (const auto& vcpu : vcpus_) {
    const VcpuStats& s = vcpu->stats;
    text += fmt::format(
        "cpu {}: {} TLB fills, {} walks, {} device accesses, {} crossings, {} writes to code pages; flushes: {} all, {} non-global, {} page, {} changes of space; {} jump keys in {} "
        "epochs; {} exceptions, {} interrupts, {} halts\n",
        vcpu->index(), s.fills, s.walks, s.device_accesses, s.crossings, s.code_writes, s.flushes_all, s.flushes_non_global, s.flushes_page, s.space_changes, s.new_keys,
        s.key_epochs, s.exceptions, s.interrupts, s.halts);
  }
  return text;
}

}  // namespace kiln::softmmu
