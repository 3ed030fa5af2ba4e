#include "softmmu/gdb_target.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>

#include "softmmu/monitor.h"

namespace kiln::softmmu {

using debugger::BreakKind;
using debugger::ResumeAction;
using debugger::StopEvent;
using ir::ExitKind;

/// Notes which watchpoints an instruction touches, by where they are in the host's memory.
class GdbTarget::Observer final : public ir::AccessObserver {
 public:
  Observer(GdbTarget& target, Vcpu& vcpu) : target_(target) {
    for (const Watch& w : target.watches_) hosts_.push_back(vcpu.debug_host(w.address));
  }
  void before_access(void* host, unsigned bytes, bool store) override {
    if (host == nullptr) {
      helper_wrote_ = true;
      return;
    }
    const u8* at = static_cast<const u8*>(host);
    for (std::size_t i = 0; i < hosts_.size(); ++i)
      if (hosts_[i] != nullptr && at < hosts_[i] + target_.watches_[i].size && at + bytes > hosts_[i]) touched_.push_back({i, store});
  }
  struct Touch {
    std::size_t watch;
    bool store;
  };
  std::vector<Touch> touched_;
  bool helper_wrote_ = false;

 private:
  GdbTarget& target_;
  std::vector<const u8*> hosts_;
};

Result<GdbTarget*> GdbTarget::start(Machine& machine, const std::string& where) {
  const debugger::RegisterSet* registers = debugger::registers_of(machine.guest());
  if (registers == nullptr) return Error{"there is no description of this processor's registers for gdb yet"};
  std::string place = where;
  if (place.starts_with("tcp:")) place = place.substr(place.starts_with("tcp::") ? 5 : 4);
  const Result<int> listener = debugger::listen_for_gdb(place);
  if (!listener) return Error{listener.error()};
  auto* target = new GdbTarget(machine, *registers);
  target->event_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  target->actions_.resize(machine.vcpu_count());
  std::thread([target, fd = *listener] { target->server_.run(fd, {}); }).detach();
  return target;
}

// --- the vCPU's side --------------------------------------------------------------------------------------------------

void GdbTarget::stop(const StopEvent& event) {
  {
    const std::lock_guard lock(mutex_);
    if (event_) return;  // another vCPU was first
    event_ = event;
  }
  machine_.ask(Machine::Ask::Stop);
  const u64 one = 1;
  [[maybe_unused]] const ssize_t n = write(event_fd_, &one, sizeof one);
}

ExitKind GdbTarget::run(Vcpu& vcpu) {
  const ResumeAction& action = actions_[vcpu.index()];
  if (action.kind == ResumeAction::Kind::Stay) {
    vcpu.wait_for_stop();
    return ExitKind::None;
  }
  if (action.kind == ResumeAction::Kind::Step || !watches_.empty()) return step(vcpu);
  const ExitKind kind = machine_.engine().run(vcpu.state());
  if (kind != ExitKind::Breakpoint || vcpu.state()->exit_value != jit::Engine::kDebuggerTrap) return kind;
  StopEvent event;
  event.kind = StopEvent::Kind::Breakpoint;
  event.thread = static_cast<int>(vcpu.index()) + 1;
  stop(event);
  vcpu.wait_for_stop();
  return ExitKind::None;
}

/// One instruction; with watchpoints as many as it takes until somebody wants something.
ExitKind GdbTarget::step(Vcpu& vcpu) {
  ir::CpuState* cpu = vcpu.state();
  const ResumeAction action = actions_[vcpu.index()];
  const bool single = action.kind == ResumeAction::Kind::Step;
  for (unsigned steps = 0; steps < 100000; ++steps) {
    Observer observer(*this, vcpu);
    const u64 pc = cpu->pc;
    ExitKind kind;
    if (!single && steps != 0 && machine_.engine().has_breakpoint(pc)) {
      StopEvent event;
      event.kind = StopEvent::Kind::Breakpoint;
      event.thread = static_cast<int>(vcpu.index()) + 1;
      stop(event);
      vcpu.wait_for_stop();
      return ExitKind::None;
    }
    kind = machine_.engine().debug_step(cpu, watches_.empty() ? nullptr : &observer);
    for (std::size_t i = 0; i < watches_.size(); ++i) {
      Watch& w = watches_[i];
      bool hit = false;
      for (const Observer::Touch& touch : observer.touched_)
        if (touch.watch == i)
          hit |= w.kind == BreakKind::WatchAccess || (w.kind == BreakKind::WatchRead && !touch.store) || (w.kind == BreakKind::WatchWrite && touch.store);
      if (observer.helper_wrote_ && w.kind != BreakKind::WatchRead) {
        std::vector<u8> now(w.size);
        hit |= read_memory(w.address, now.data(), now.size()) == now.size() && now != w.value;
        w.value = now;
      }
      if (!hit || kind != ExitKind::None) continue;
      StopEvent event;
      event.kind = StopEvent::Kind::Watchpoint;
      event.thread = static_cast<int>(vcpu.index()) + 1;
      event.watch = w.kind == BreakKind::WatchWrite ? 'w' : w.kind == BreakKind::WatchRead ? 'r' : 'a';
      event.address = w.address;
      stop(event);
      vcpu.wait_for_stop();
      return ExitKind::None;
    }
    if (single) {
      if (kind != ExitKind::None) vcpu.take_exception(kind);  // the step ends at the handler's first instruction
      if (cpu->pc - action.range_start < action.range_end - action.range_start) return ExitKind::None;
      StopEvent event;
      event.thread = static_cast<int>(vcpu.index()) + 1;
      event.signal = SIGTRAP;
      stop(event);
      vcpu.wait_for_stop();
      return ExitKind::None;
    }
    if (kind != ExitKind::None) return kind;
    if (__atomic_load_n(&cpu->interrupt, __ATOMIC_RELAXED) != 0) return ExitKind::Interrupt;
  }
  return ExitKind::None;
}

// --- gdb's side -------------------------------------------------------------------------------------------------------

std::vector<debugger::ThreadId> GdbTarget::threads() {
  std::vector<debugger::ThreadId> list;
  for (unsigned i = 0; i < machine_.vcpu_count(); ++i) list.push_back(static_cast<int>(i) + 1);
  return list;
}

std::string GdbTarget::thread_name(debugger::ThreadId thread) { return "CPU#" + std::to_string(thread - 1); }

ir::CpuState* GdbTarget::cpu(debugger::ThreadId thread, bool) {
  return thread >= 1 && static_cast<unsigned>(thread) <= machine_.vcpu_count() ? machine_.vcpu(static_cast<unsigned>(thread) - 1).state() : nullptr;
}

std::size_t GdbTarget::read_memory(u64 address, u8* out, std::size_t size) {
  std::size_t done = 0;
  while (done < size) {
    const std::size_t piece = std::min<std::size_t>(size - done, 4096 - (address + done) % 4096);
    u64 physical;
    if (!machine_.vcpu(0).debug_translate(address + done, physical) || !machine_.space().read(physical, out + done, piece)) break;
    done += piece;
  }
  return done;
}

bool GdbTarget::write_memory(u64 address, const u8* data, std::size_t size) {
  for (std::size_t done = 0; done < size;) {
    const std::size_t piece = std::min<std::size_t>(size - done, 4096 - (address + done) % 4096);
    u64 physical;
    if (!machine_.vcpu(0).debug_translate(address + done, physical) || !machine_.space().write(physical, data + done, piece)) return false;
    done += piece;
  }
  return true;
}

bool GdbTarget::insert(BreakKind kind, u64 address, u64 size) {
  if (kind == BreakKind::Software || kind == BreakKind::Hardware) {
    machine_.engine().insert_breakpoint(address);
    return true;
  }
  Watch watch{kind, address, size, std::vector<u8>(size)};
  if (read_memory(address, watch.value.data(), size) != size) return false;
  watches_.push_back(std::move(watch));
  return true;
}

bool GdbTarget::remove(BreakKind kind, u64 address, u64 size) {
  if (kind == BreakKind::Software || kind == BreakKind::Hardware) {
    machine_.engine().remove_breakpoint(address);
    return true;
  }
  const auto it = std::find_if(watches_.begin(), watches_.end(),
                               [&](const Watch& w) { return w.kind == kind && w.address == address && w.size == size; });
  if (it == watches_.end()) return false;
  watches_.erase(it);
  return true;
}

void GdbTarget::resume(const std::vector<debugger::ThreadResume>& actions, const ResumeAction& others) {
  for (ResumeAction& action : actions_) action = others;
  for (const auto& [thread, action] : actions)
    if (thread >= 1 && static_cast<std::size_t>(thread) <= actions_.size()) actions_[static_cast<std::size_t>(thread) - 1] = action;
  machine_.ask(Machine::Ask::Continue);
}

void GdbTarget::interrupt(int signal) {
  StopEvent event;
  event.thread = 1;
  event.signal = signal == 0 ? SIGTRAP : signal;
  stop(event);
}

std::optional<StopEvent> GdbTarget::take_event() {
  u64 count;
  [[maybe_unused]] const ssize_t n = ::read(event_fd_, &count, sizeof count);
  machine_.wait_until_stopped();
  const std::lock_guard lock(mutex_);
  return std::exchange(event_, {});
}

void GdbTarget::detach() {
  machine_.engine().remove_all_breakpoints();
  watches_.clear();
  for (ResumeAction& action : actions_) action = {};
  machine_.ask(Machine::Ask::Continue);
}

void GdbTarget::kill() { machine_.ask(Machine::Ask::Quit); }

int GdbTarget::open_file(const std::string&) { return -ENOENT; }

std::string GdbTarget::monitor(const std::string& command) {
  const std::lock_guard lock(machine_.lock());
  return Monitor::command(machine_, command);
}

}  // namespace kiln::softmmu
