// The host's side of a machine's devices, as the command line names it: terminals and sockets, disk images, networks.
#pragma once
#include <list>
#include <memory>
#include <vector>

#include "devices/boards/board.h"
#include "devices/char/mux.h"
#include "softmmu/machine.h"
#include "softmmu/monitor.h"
#include "softmmu/options.h"

namespace kiln::softmmu {

/// Owns what it opens; outlives the board that uses it.
class BackEnds {
 public:
  explicit BackEnds(Machine& machine) : machine_(machine) {}
  BackEnds(const BackEnds&) = delete;
  /// Opens what -serial, -chardev, -drive and -netdev name and enters it into `board`, with the devices that -device and -drive if=virtio ask for. An error is one line.
  /// Machine lock not held.
  Result<void> open(const Options& options, devices::BoardOptions& board);

  /// Machine lock held, the board gone: disks finish what they were asked for, the terminal is as it was.
  void close();

 private:
  void add_monitor(devices::CharBackend& line);
  Result<devices::CharBackend*> open_char(const std::string& kind, std::map<std::string, std::string> properties);
  /// -serial TEXT; a null pointer for "none".
  Result<devices::CharBackend*> open_serial(const std::string& text, const devices::BoardOptions& board);
  Result<void> open_drive(const KeyValues& drive, bool snapshot, devices::BoardOptions& board);
  /// -nic: a back-end and its card.
  Result<void> open_nic(KeyValues nic, devices::BoardOptions& board);
  Result<void> open_netdev(const KeyValues& netdev, devices::BoardOptions& board);

  Machine& machine_;
  std::vector<std::unique_ptr<devices::CharBackend>> chars_;
  std::vector<std::unique_ptr<Monitor>> monitors_;
  std::vector<std::unique_ptr<devices::CharMux>> muxes_;  // after chars_: they go first
  std::vector<std::unique_ptr<devices::BlockBackend>> disks_;
  std::vector<std::unique_ptr<devices::NetBackend>> nets_;
};

}  // namespace kiln::softmmu
