#include "jit/debugger/packet.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>

namespace kiln::debugger {
namespace {

constexpr char kDigits[] = "0123456789abcdef";
int digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string hex(const void* data, std::size_t size) {
  std::string out;
  out.reserve(2 * size);
  for (const u8* p = static_cast<const u8*>(data); size-- > 0; ++p) {
    out += kDigits[*p >> 4];
    out += kDigits[*p & 15];
  }
  return out;
}

std::string hex_number(u64 value) {
  std::string out;
  do out.insert(out.begin(), kDigits[value & 15]);
  while ((value >>= 4) != 0);
  return out;
}

bool unhex(std::string_view text, std::string& out) {
  out.clear();
  if (text.size() % 2 != 0) return false;
  for (std::size_t i = 0; i < text.size(); i += 2) {
    const int high = digit(text[i]), low = digit(text[i + 1]);
    if (high < 0 || low < 0) return false;
    out += static_cast<char>(high << 4 | low);
  }
  return true;
}

bool take_hex(std::string_view& text, u64& value) {
  std::size_t n = 0;
  value = 0;
  for (; n < text.size() && digit(text[n]) >= 0; ++n) value = value << 4 | static_cast<u64>(digit(text[n]));
  text.remove_prefix(n);
  return n > 0;
}

bool take(std::string_view& text, std::string_view expected) {
  if (!text.starts_with(expected)) return false;
  text.remove_prefix(expected.size());
  return true;
}

std::string escape(std::string_view data) {
  std::string out;
  out.reserve(data.size() + 16);
  for (const char c : data) {
    if (c == '#' || c == '$' || c == '}' || c == '*') {
      out += '}';
      out += static_cast<char>(c ^ 0x20);
    } else {
      out += c;
    }
  }
  return out;
}

std::string unescape(std::string_view data) {
  std::string out;
  for (std::size_t i = 0; i < data.size(); ++i)
    if (data[i] == '}' && i + 1 < data.size()) out += static_cast<char>(data[++i] ^ 0x20);
    else out += data[i];
  return out;
}

bool PacketStream::receive() {
  char buffer[16384];
  const ssize_t n = read(fd_, buffer, sizeof buffer);
  if (n < 0) return errno == EINTR || errno == EAGAIN;
  input_.append(buffer, static_cast<std::size_t>(n));
  return n > 0;
}

std::optional<std::string> PacketStream::next() {
  while (!input_.empty()) {
    const char first = input_[0];
    if (first == '-' && !last_.empty()) {  // it did not arrive whole
      input_.erase(0, 1);
      write_all(last_);
      continue;
    }
    if (first == '\x03') {
      input_.erase(0, 1);
      return "\x03";
    }
    if (first != '$') {
      input_.erase(0, 1);
      continue;
    }
    const std::size_t end = input_.find('#');
    if (end == std::string::npos || input_.size() < end + 3) return std::nullopt;
    std::string data = input_.substr(1, end - 1);
    u8 sum = 0;
    for (const char c : data) sum = static_cast<u8>(sum + static_cast<u8>(c));
    const bool whole = digit(input_[end + 1]) == sum >> 4 && digit(input_[end + 2]) == (sum & 15);
    input_.erase(0, end + 3);
    if (ack_) write_all(whole ? "+" : "-");
    if (whole) return data;
  }
  return std::nullopt;
}

bool PacketStream::send(std::string_view data) {
  u8 sum = 0;
  for (const char c : data) sum = static_cast<u8>(sum + static_cast<u8>(c));
  last_ = "$" + std::string(data) + "#" + kDigits[sum >> 4] + kDigits[sum & 15];
  return write_all(last_);
}

bool PacketStream::write_all(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return true;
}

}  // namespace kiln::debugger
