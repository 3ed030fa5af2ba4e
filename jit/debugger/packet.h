// Packets of the remote serial protocol: "$data#checksum", acknowledgements until gdb turns them off.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "ir/support/bits.h"

namespace kiln::debugger {

std::string hex(const void* data, std::size_t size);
inline std::string hex(std::string_view text) { return hex(text.data(), text.size()); }
std::string hex_number(u64 value);
/// Decodes pairs of digits; false if they are none.
bool unhex(std::string_view text, std::string& out);
/// Reads a hexadecimal number off the front (at least one digit).
bool take_hex(std::string_view& text, u64& value);
/// Reads `expected` off the front.
bool take(std::string_view& text, std::string_view expected);
/// Binary data as replies carry it: '}' before what would be taken for framing.
std::string escape(std::string_view data);
std::string unescape(std::string_view data);

class PacketStream {
 public:
  explicit PacketStream(int fd) : fd_(fd) {}
  int fd() const { return fd_; }
  void set_ack(bool on) { ack_ = on; }
  bool ack() const { return ack_; }

  /// Reads what has arrived. False: the connection is gone.
  bool receive();
  /// The next whole packet; "\x03" for ctrl-C.
  std::optional<std::string> next();
  bool send(std::string_view data);

 private:
  bool write_all(std::string_view bytes);
  int fd_;
  bool ack_ = true;
  std::string input_, last_;
};

}  // namespace kiln::debugger
