// The machine as a gdb session sees it (-s, -gdb): vCPUs are threads, memory is what the first vCPU's page tables show. A stop stops the
// machine as the monitor's `stop` does.
#pragma once
#include <atomic>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "jit/debugger/server.h"
#include "softmmu/machine.h"

namespace kiln::softmmu {

class GdbTarget final : public debugger::Target {
 public:
  /// Listens on `where` (as listen_for_gdb() takes it, or tcp::PORT). An error is one line. The object lives as long as the process.
  static Result<GdbTarget*> start(Machine& machine, const std::string& where);

  /// In place of Engine::run(), on the vCPU's thread. None: look around and come again.
  ir::ExitKind run(Vcpu& vcpu);

  // debugger::Target
  int process_id() override { return 1; }
  std::vector<debugger::ThreadId> threads() override;
  std::string thread_name(debugger::ThreadId thread) override;
  ir::CpuState* cpu(debugger::ThreadId thread, bool to_change) override;
  s64 syscall_number(debugger::ThreadId) override { return -1; }
  std::size_t read_memory(u64 address, u8* out, std::size_t size) override;
  bool write_memory(u64 address, const u8* data, std::size_t size) override;
  bool insert(debugger::BreakKind kind, u64 address, u64 size) override;
  bool remove(debugger::BreakKind kind, u64 address, u64 size) override;
  void resume(const std::vector<debugger::ThreadResume>& actions, const debugger::ResumeAction& others) override;
  void interrupt(int signal) override;
  int event_fd() override { return event_fd_; }
  std::optional<debugger::StopEvent> take_event() override;
  void event_told() override {}
  void set_pass_signals(u64) override {}
  void catch_syscalls(bool, const std::vector<u64>&) override {}
  void detach() override;
  void kill() override;
  std::string auxv() override { return {}; }
  std::string exec_file() override { return {}; }
  std::optional<std::string> siginfo(debugger::ThreadId) override { return {}; }
  int open_file(const std::string&) override;
  std::string read_link(const std::string&) override { return {}; }
  std::string monitor(const std::string& command) override;

 private:
  struct Watch {
    debugger::BreakKind kind;
    u64 address, size;
    std::vector<u8> value;
  };
  class Observer;
  GdbTarget(Machine& machine, const debugger::RegisterSet& registers) : machine_(machine), server_(*this, registers) {}
  void stop(const debugger::StopEvent& event);
  ir::ExitKind step(Vcpu& vcpu);

  Machine& machine_;
  debugger::Server server_;
  int event_fd_ = -1;
  std::mutex mutex_;
  std::optional<debugger::StopEvent> event_;
  // Changed while the machine stands still only.
  std::vector<debugger::ResumeAction> actions_;
  std::vector<Watch> watches_;
};

}  // namespace kiln::softmmu
