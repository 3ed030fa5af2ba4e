// A vCPU's thread, its inputs, and what system instructions ask of the machine. The memory side is in tlb.cpp.
#include "softmmu/vcpu.h"

#include <chrono>

#include "softmmu/gdb_target.h"
#include "softmmu/machine.h"

namespace kiln::softmmu {

using ir::ExitKind;

struct Vcpu::Input final : devices::IrqLine {
  Input(Vcpu& v, unsigned n) : vcpu(v), bit(1u << n) {}
  void set(bool level) override {
    const u32 before = level ? vcpu.levels_.fetch_or(bit) : vcpu.levels_.fetch_and(~bit);
    if (level && (before & bit) == 0) vcpu.kick();
  }
  Vcpu& vcpu;
  const u32 bit;
};

Vcpu::Vcpu(Machine& machine, unsigned index)
    : machine_(machine), index_(index), desc_(*machine.guest().system), engine_(machine.engine()), kept_(kKeptSets * kKeptWays) {
  state_ = engine_.create_cpu();
  state_->user_data = static_cast<ir::VcpuPort*>(this);
  state_->guest_pointer = [](ir::CpuState* state, u64 address, u32 desc, const void* value) {
    return static_cast<Vcpu&>(ir::port(state)).access(address, desc, value);
  };
  state_->jump_key = ir::kJumpKeyUnknown;
  for (unsigned i = 0; i < ir::kTlbIndices; ++i) {
    global_[i].resize(ir::kTlbEntries);
    listed_[i].resize(ir::kTlbEntries);
    for (std::size_t slot = 0; slot < ir::kTlbEntries; ++slot) state_->tlb(i)[slot] = {ir::kNoTag, ir::kNoTag, 0, 0};
  }
  for (unsigned n = 0; n < 8; ++n) inputs_.push_back(std::make_unique<Input>(*this, n));
  alarm_ = machine.clock().create_timer([this] { request(Alarm); });
}

devices::IrqLine& Vcpu::input(unsigned number) { return *inputs_[number]; }

Vcpu::~Vcpu() { engine_.destroy_cpu(state_); }

void Vcpu::kick() {
  __atomic_store_n(&state_->interrupt, 1, __ATOMIC_RELEASE);
  const std::lock_guard lock(wake_mutex_);
  wake_.notify_all();
}

void Vcpu::request(u32 bits) {
  requests_.fetch_or(bits);
  kick();
}

void Vcpu::start_at(GuestAddr entry, std::span<const u64> arguments) {
  desc_.reset(state_, entry);
  desc_.set_arguments(state_, arguments);
  flush_all();
  halted_ = false;
  on_.store(1);
}

// What happened while it ran: the state is exact and outside generated code.
void Vcpu::service() {
  __atomic_store_n(&state_->interrupt, 0, __ATOMIC_SEQ_CST);
  const u32 requests = requests_.exchange(0);
  renew_keys();
  if (requests & Flush) flush_all();
  if (requests & Alarm) desc_.alarm(state_);
  if (desc_.interrupt(state_)) {
    halted_ = false;
    ++stats.interrupts;
  }
}

void Vcpu::wait_halted() {
  ++stats.halts;
  std::unique_lock lock(wake_mutex_);
  wake_.wait(lock, [&] {
    return requests_.load() != 0 || machine_.asks_to_stop() || (on_.load() != 0 && (!halted_ || desc_.wakes(state_, levels_.load())));
  });
  if (on_.load() != 0 && desc_.wakes(state_, levels_.load())) halted_ = false;
}

void Vcpu::run() {
  PhysicalSpace::serving_cpu = index_;
  machine_.enter_vcpu_thread(*this);
  for (;;) {
    if (machine_.asks_to_stop()) {
      if (!machine_.wait_to_go_on(*this)) return;
    }
    service();
    if (on_.load() == 0 || halted_) {
      // An alarm or an input may have come before the wait began: service() looked, and the wait looks again.
      if (halted_ && desc_.wakes(state_, levels_.load())) halted_ = false;
      else {
        wait_halted();
        continue;
      }
    }
    const ExitKind kind = machine_.debugger != nullptr ? machine_.debugger->run(*this) : engine_.run(state_);
    if (kind != ExitKind::Interrupt && kind != ExitKind::None) take_exception(kind);
  }
}

void Vcpu::take_exception(ExitKind kind) {
  ++stats.exceptions;
  machine_.log_exception(*this, kind);
  desc_.exception(state_, kind);
}

void Vcpu::wait_for_stop() { machine_.wait_for_stop(); }

// --- VcpuPort ---------------------------------------------------------------------------------------------------------

u64 Vcpu::clock_ns() { return machine_.clock().now_ns(); }

bool Vcpu::device_register(u32 number, bool write, u64& value) {
  const std::lock_guard lock(machine_.lock());
  return machine_.board() != nullptr && machine_.board()->cpu_register(index_, number, write, value);
}

void Vcpu::set_alarm(u64 when_ns) {
  if (when_ns == alarm_ns_) return;
  alarm_ns_ = when_ns;
  const std::lock_guard lock(machine_.lock());
  alarm_->set(when_ns == ~u64{0} ? devices::Timer::kNever : when_ns);
}

void Vcpu::set_output(unsigned line, bool level) {
  const std::lock_guard lock(machine_.lock());
  if (machine_.board() != nullptr) machine_.board()->cpu_output(index_, line, level);
}

void Vcpu::power(Power request) {
  machine_.ask(request == Power::Off ? Machine::Ask::PowerOff : Machine::Ask::Reset);
}

int Vcpu::start_cpu(u64 target, GuestAddr, u64) {
  constexpr int kInvalidParameters = -2, kAlreadyOn = -4;
  return target == 0 ? kAlreadyOn : kInvalidParameters;
}
void Vcpu::stop_cpu() {
  on_.store(0);
  __atomic_store_n(&state_->interrupt, 1, __ATOMIC_RELEASE);
}
int Vcpu::cpu_status(u64 target) { return target == 0 ? 0 : -2; }
ir::PhysicalMemory& Vcpu::memory() { return machine_.space(); }
void Vcpu::guest_error(const std::string& text) { machine_.guest_error(text); }

}  // namespace kiln::softmmu
