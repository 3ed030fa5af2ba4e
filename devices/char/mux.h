// Several lines on one terminal, with the escape keys that QEMU's users know.
#pragma once
#include <deque>
#include <memory>
#include <vector>

#include "devices/char/char_backend.h"

namespace kiln::devices {

/// What is typed goes to the port in focus, what the ports send all goes out. Ctrl-A is the escape: h help, x exit, c next
/// port, b break, Ctrl-A Ctrl-A itself. It takes input even while a guest does not, so that the escape always works.
class CharMux {
 public:
  struct Actions {
    std::function<void()> exit;
    std::function<void(unsigned port)> focused;  // the user came to this port
  };
  CharMux(CharBackend& outer, Actions actions);
  ~CharMux();
  /// A new port; the first one has the focus.
  CharBackend& add_port(std::string name);

 private:
  class Port;
  static constexpr u64 kMostKept = 1 << 16;
  void typed(u8 byte);
  void escape(u8 byte);
  void say(std::string_view text);

  CharBackend& outer_;
  Actions actions_;
  std::vector<std::unique_ptr<Port>> ports_;
  unsigned focus_ = 0;
  bool escaped_ = false;
};

}  // namespace kiln::devices
