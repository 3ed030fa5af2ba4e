// From the user's words to a line: -serial, -monitor, -chardev.
#pragma once
#include <map>

#include "devices/bus/event_loop.h"
#include "devices/char/char_backend.h"
#include "ir/support/result.h"

namespace kiln::devices {

/// `kind` and properties as in -chardev: null; stdio (signal=on|off: Ctrl-C ends the emulator, default on); file (path,
/// append=on|off); pty; socket (path, or host and port; server=on|off, wait=on|off). Failures are one line. `wait=on` waits
/// here for the first client and says so on stderr. Call without the machine lock.
Result<std::unique_ptr<CharBackend>> open_char(EventLoop& loop, MachineLock& lock, const std::string& kind,
                                               const std::map<std::string, std::string>& properties);

/// The short form of -serial and -monitor: stdio, null, pty, file:PATH, unix:PATH[,server=on][,wait=off], tcp:[HOST]:PORT[,…].
/// Options of QEMU's older spelling (server, nowait) are understood. "none", "mon:…" and "chardev:ID" are the caller's.
struct CharSpec {
  std::string kind;
  std::map<std::string, std::string> properties;
};
Result<CharSpec> parse_char_spec(const std::string& text);

}  // namespace kiln::devices
