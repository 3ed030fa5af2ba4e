// The human monitor: commands typed at a character back-end. Every command runs with the vCPUs standing still and the machine lock held,
// so that what it shows is one moment of the machine.
#pragma once
#include <string>
#include <vector>

#include "devices/char/char_backend.h"
#include "softmmu/machine.h"

namespace kiln::softmmu {

class Monitor {
 public:
  /// `line` outlives the monitor. Machine lock held.
  Monitor(Machine& machine, devices::CharBackend& line);
  ~Monitor();
  Monitor(const Monitor&) = delete;

  /// What a command prints, by itself (tests). vCPUs stand still, machine lock held.
  static std::string command(Machine& machine, const std::string& text);
  /// The user came to the monitor (of a multiplexed terminal).
  void prompt();

 private:
  struct Command;
  static const std::vector<Command>& commands();
  void typed(u8 byte);
  void say(const std::string& text);
  static std::string info(Machine& machine, const std::string& what);
  static std::string examine(Machine& machine, const std::string& format, const std::string& address, bool physical);

  Machine& machine_;
  devices::CharBackend& line_;
  std::string input_;
  std::vector<std::string> history_;
  bool greeted_ = false, busy_ = false;
};

}  // namespace kiln::softmmu
