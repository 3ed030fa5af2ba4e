#include "jit/debugger/server.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>

namespace kiln::debugger {
namespace {

constexpr std::size_t kPacketBytes = 0x10000;
constexpr std::size_t kMostMemory = kPacketBytes / 2 - 16;

const char* fault_error() { return "E14"; }
const char* bad_packet() { return "E22"; }

}  // namespace

Result<int> listen_for_gdb(const std::string& where) {
  std::string host = "127.0.0.1", port = where;
  if (const std::size_t colon = where.rfind(':'); colon != std::string::npos) {
    host = where.substr(0, colon);
    port = where.substr(colon + 1);
    if (host.empty()) host = "127.0.0.1";
  }
  const bool tcp = !port.empty() && port.find_first_not_of("0123456789") == std::string::npos;
  int fd;
  if (tcp) {
    in_addr address{};
    if (host == "localhost") host = "127.0.0.1";
    if (inet_pton(AF_INET, host.c_str(), &address) != 1) return Error{"'" + host + "' is no IPv4 address"};
    if (port.size() > 5 || std::stoul(port) > 65535) return Error{"no port " + port};
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_addr = address;
    name.sin_port = htons(static_cast<u16>(std::stoul(port)));
    fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const int on = 1;
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 || listen(fd, 1) != 0) {
      const std::string why = std::strerror(errno);
      if (fd >= 0) close(fd);
      return Error{where + ": " + why};
    }
  } else {
    sockaddr_un name{};
    name.sun_family = AF_UNIX;
    if (where.empty() || where.size() >= sizeof name.sun_path) return Error{"'" + where + "' is neither a port nor a path for a socket"};
    std::memcpy(name.sun_path, where.c_str(), where.size() + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    unlink(where.c_str());
    if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&name), sizeof name) != 0 || listen(fd, 1) != 0) {
      const std::string why = std::strerror(errno);
      if (fd >= 0) close(fd);
      return Error{where + ": " + why};
    }
  }
  return fd;
}

std::string Session::to_text() const {
  const unsigned bits = no_ack | multiprocess << 1 | swbreak << 2 | hwbreak << 3 | exec_events << 4 | no_resumed << 5;
  return std::to_string(fd) + "," + std::to_string(bits);
}

bool Session::from_text(const std::string& text, Session& out) {
  unsigned bits = 0;
  if (std::sscanf(text.c_str(), "%d,%u", &out.fd, &bits) != 2 || out.fd < 0) return false;
  out.no_ack = bits & 1;
  out.multiprocess = bits & 2;
  out.swbreak = bits & 4;
  out.hwbreak = bits & 8;
  out.exec_events = bits & 16;
  out.no_resumed = bits & 32;
  return true;
}

void Server::run(int listener, const Session& inherited) {
  session_ = inherited;
  running_ = session_.fd >= 0;  // gdb waits for what the new program reports
  while (!over_) {
    if (session_.fd < 0) {
      if (listener < 0) return;
      const int fd = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno == EINTR) continue;
        return;
      }
      const int on = 1;
      setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      session_ = Session{};
      session_.fd = fd;
      target_.interrupt(0);  // a session begins with a stop; the first one finds the program waiting
      running_ = true;
    }
    serve();
    close(session_.fd);
    session_ = Session{};
    if (over_) return;
    target_.detach();
    attached_later_ = true;
  }
}

void Server::serve() {
  stream_ = PacketStream(session_.fd);
  stream_.set_ack(!session_.no_ack);
  HostFiles files(target_);
  files_ = &files;
  general_ = continue_ = 0;
  bool first = !session_.no_ack;  // of a fresh session the first stop is asked for with '?'
  for (bool open = true; open;) {
    pollfd fds[2] = {{stream_.fd(), POLLIN, 0}, {target_.event_fd(), POLLIN, 0}};
    // Until the first stop there is nobody to answer questions about.
    if (first && running_) fds[0].events = 0;
    if (poll(fds, 2, -1) < 0 && errno != EINTR) break;
    if (running_ && (fds[1].revents & POLLIN)) {
      if (first) {
        if (std::optional<StopEvent> event = target_.take_event()) {
          last_ = *event;
          running_ = first = false;
        }
      } else {
        open = report();
      }
    } else if (!running_ && (fds[1].revents & POLLIN) && target_.take_event()) {
      // A ctrl-C that came when everything had stopped already.
    }
    if (fds[0].revents & (POLLIN | POLLHUP | POLLERR)) {
      if (fds[0].events != 0 && !stream_.receive()) break;
      if (fds[0].events == 0) continue;
    }
    while (open) {
      const std::optional<std::string> packet = stream_.next();
      if (!packet) break;
      open = handle(*packet);
    }
  }
  files_ = nullptr;
}

bool Server::handle(const std::string& packet) {
  if (packet == "\x03") {
    if (running_) target_.interrupt(SIGINT);
    return true;
  }
  if (packet.empty()) return stream_.send("");
  std::string_view in(packet);
  const char command = in[0];
  in.remove_prefix(1);
  std::string reply;
  switch (command) {
    case '?': reply = stop_reply(last_); break;
    case 'q': reply = general_query(in); break;
    case 'Q':
      reply = general_set(in);
      if (packet == "QStartNoAckMode") {
        const bool sent = stream_.send(reply);
        stream_.set_ack(false);
        session_.no_ack = true;
        return sent;
      }
      break;
    case 'v':
      if (in.starts_with("Cont;") || in.starts_with("CtrlC")) {
        if (in.starts_with("CtrlC")) {
          if (running_) target_.interrupt(SIGINT);
          reply = "OK";
          break;
        }
        reply = resume_all(in.substr(4));
        if (reply.empty()) return true;
        break;
      }
      reply = v_packet(in);
      if (over_) {
        stream_.send(reply);
        target_.kill();
        return false;
      }
      break;
    case 'c':
    case 'C':
    case 's':
    case 'S':
      reply = old_resume(command, in);
      if (reply.empty()) return true;
      break;
    case 'g': reply = read_registers(); break;
    case 'G': reply = write_registers(in); break;
    case 'p': reply = read_register(in); break;
    case 'P': reply = write_register(in); break;
    case 'm': reply = read_memory(in, false); break;
    case 'x': reply = read_memory(in, true); break;
    case 'M': reply = write_memory(in, false); break;
    case 'X': reply = write_memory(in, true); break;
    case 'Z':
    case 'z': reply = breakpoint(packet); break;
    case 'H': {
      if (in.empty()) break;
      const char what = in[0];
      in.remove_prefix(1);
      ThreadId thread = 0;
      if (!take_thread(in, thread)) reply = bad_packet();
      else if (thread > 0 && target_.cpu(thread, false) == nullptr) reply = "E03";
      else {
        (what == 'g' ? general_ : continue_) = thread;
        reply = "OK";
      }
      break;
    }
    case 'T': {
      ThreadId thread = 0;
      reply = take_thread(in, thread) && target_.cpu(thread, false) != nullptr ? "OK" : "E03";
      break;
    }
    case 'D':
      stream_.send("OK");
      return false;
    case 'k':
      over_ = true;
      target_.kill();
      return false;
    default: break;  // unknown: the empty reply
  }
  return stream_.send(reply);
}

ThreadId Server::chosen(ThreadId wanted) {
  if (wanted > 0 && target_.cpu(wanted, false) != nullptr) return wanted;
  if (target_.cpu(last_.thread, false) != nullptr) return last_.thread;
  const auto all = target_.threads();
  return all.empty() ? 0 : all[0];
}

std::string Server::thread_text(ThreadId thread) const {
  if (!session_.multiprocess) return hex_number(static_cast<u64>(thread));
  return "p" + hex_number(static_cast<u64>(target_.process_id())) + "." + hex_number(static_cast<u64>(thread));
}

bool Server::take_thread(std::string_view& in, ThreadId& thread) const {
  u64 value = 0;
  const auto number = [&] {
    if (take(in, "-1")) {
      value = ~u64{0};
      return true;
    }
    return take_hex(in, value);
  };
  if (take(in, "p")) {
    if (!number()) return false;
    thread = -1;
    if (!take(in, ".")) return true;  // a process: all its threads
  }
  if (!number()) return false;
  thread = static_cast<ThreadId>(value);
  return true;
}

// --- registers and memory ---------------------------------------------------------------------------------------------

std::string Server::register_bytes(const Register& r, const ir::CpuState* cpu) {
  u8 bytes[32] = {};
  if (r.is_syscall) {
    const s64 number = target_.syscall_number(chosen(general_));
    std::memcpy(bytes, &number, 8);
  } else {
    r.read(cpu, r.index, bytes);
  }
  return hex(bytes, r.bits / 8);
}

std::string Server::read_registers() {
  const ir::CpuState* cpu = target_.cpu(chosen(general_), false);
  if (cpu == nullptr) return "E03";
  std::string out;
  for (const Register* r : list_) out += register_bytes(*r, cpu);
  return out;
}

std::string Server::read_register(std::string_view in) {
  u64 n = 0;
  const ir::CpuState* cpu = target_.cpu(chosen(general_), false);
  if (!take_hex(in, n) || n >= list_.size()) return bad_packet();
  return cpu == nullptr ? "E03" : register_bytes(*list_[n], cpu);
}

std::string Server::write_registers(std::string_view in) {
  std::string data;
  ir::CpuState* cpu = target_.cpu(chosen(general_), true);
  if (cpu == nullptr) return "E03";
  if (!unhex(in, data) || data.size() < registers_.bytes()) return bad_packet();
  const u8* at = reinterpret_cast<const u8*>(data.data());
  for (const Register* r : list_) {
    // What cannot be changed is most likely not being changed.
    if (!r->is_syscall) r->write(cpu, r->index, at);
    at += r->bits / 8;
  }
  return "OK";
}

std::string Server::write_register(std::string_view in) {
  u64 n = 0;
  std::string data;
  if (!take_hex(in, n) || n >= list_.size() || !take(in, "=") || !unhex(in, data)) return bad_packet();
  const Register& r = *list_[n];
  if (data.size() < r.bits / 8) return bad_packet();
  ir::CpuState* cpu = target_.cpu(chosen(general_), true);
  if (cpu == nullptr) return "E03";
  if (r.is_syscall) return "OK";  // an interrupted syscall begins again only if the pc says so
  return r.write(cpu, r.index, reinterpret_cast<const u8*>(data.data())) ? "OK" : "E01";
}

std::string Server::read_memory(std::string_view in, bool binary) {
  u64 address = 0, size = 0;
  if (!take_hex(in, address) || !take(in, ",") || !take_hex(in, size)) return bad_packet();
  std::vector<u8> bytes(std::min<u64>(size, kMostMemory));
  const std::size_t got = target_.read_memory(address, bytes.data(), bytes.size());
  if (got == 0 && size != 0) return fault_error();
  if (binary) return "b" + escape({reinterpret_cast<const char*>(bytes.data()), got});
  return hex(bytes.data(), got);
}

std::string Server::write_memory(std::string_view in, bool binary) {
  u64 address = 0, size = 0;
  std::string data;
  if (!take_hex(in, address) || !take(in, ",") || !take_hex(in, size) || !take(in, ":")) return bad_packet();
  if (binary) data = unescape(in);
  else if (!unhex(in, data)) return bad_packet();
  if (data.size() != size) return bad_packet();
  if (size == 0) return "OK";
  return target_.write_memory(address, reinterpret_cast<const u8*>(data.data()), size) ? "OK" : fault_error();
}

std::string Server::breakpoint(std::string_view in) {
  const bool insert = in[0] == 'Z';
  u64 kind = 0, address = 0, size = 0;
  in.remove_prefix(1);
  if (!take_hex(in, kind) || !take(in, ",") || !take_hex(in, address) || !take(in, ",") || !take_hex(in, size)) return bad_packet();
  if (kind > 4) return "";
  if (in.starts_with(";")) return "E01";  // conditions and commands to be evaluated here: not offered
  const auto what = static_cast<BreakKind>(kind);
  return (insert ? target_.insert(what, address, size) : target_.remove(what, address, size)) ? "OK" : "E01";
}

// --- q and Q ----------------------------------------------------------------------------------------------------------

std::string Server::supported(std::string_view in) {
  const auto has = [&](std::string_view name) { return in.find(name) != std::string_view::npos; };
  session_.multiprocess = has("multiprocess+");
  session_.swbreak = has("swbreak+");
  session_.hwbreak = has("hwbreak+");
  session_.exec_events = has("exec-events+");
  session_.no_resumed = has("no-resumed+");
  std::string out = "PacketSize=" + hex_number(kPacketBytes) +
                    ";QStartNoAckMode+;qXfer:features:read+;qXfer:auxv:read+;qXfer:exec-file:read+;qXfer:threads:read+;"
                    "qXfer:siginfo:read+;QPassSignals+;QCatchSyscalls+;vContSupported+;QThreadEvents-;binary-upload+";
  if (session_.multiprocess) out += ";multiprocess+";
  if (session_.swbreak) out += ";swbreak+";
  if (session_.hwbreak) out += ";hwbreak+";
  if (session_.exec_events) out += ";exec-events+";
  if (session_.no_resumed) out += ";no-resumed+";
  return out;
}

std::string Server::thread_list_xml() {
  std::string out = "<?xml version=\"1.0\"?><threads>";
  for (const ThreadId thread : target_.threads()) {
    out += "<thread id=\"" + thread_text(thread) + "\" name=\"";
    for (const char c : target_.thread_name(thread))
      if (c == '<') out += "&lt;";
      else if (c == '&') out += "&amp;";
      else if (c == '"') out += "&quot;";
      else out += c;
    out += "\"/>";
  }
  return out + "</threads>";
}

std::string Server::transfer(std::string_view in) {
  std::string object;
  u64 offset = 0, length = 0;
  const auto piece = [&](std::string_view data) -> std::string {
    if (!take_hex(in, offset) || !take(in, ",") || !take_hex(in, length)) return bad_packet();
    if (offset >= data.size()) return "l";
    length = std::min<u64>(length, kMostMemory);
    const std::string_view part = data.substr(offset, length);
    return (offset + part.size() < data.size() ? "m" : "l") + escape(part);
  };
  if (take(in, "features:read:target.xml:")) return piece(registers_.xml());
  if (take(in, "auxv:read::")) return piece(target_.auxv());
  if (take(in, "threads:read::")) {
    if (in.starts_with("0,")) threads_xml_ = thread_list_xml();
    return piece(threads_xml_);
  }
  if (take(in, "exec-file:read:")) {
    u64 process = 0;
    take_hex(in, process);
    return take(in, ":") ? piece(target_.exec_file()) : bad_packet();
  }
  if (take(in, "siginfo:read::")) {
    const std::optional<std::string> info = target_.siginfo(chosen(general_));
    return info ? piece(*info) : "E01";
  }
  if (in.starts_with("features:")) return "E00";
  return "";
}

std::string Server::general_query(std::string_view in) {
  if (take(in, "Supported")) return supported(in);
  if (take(in, "Xfer:")) return transfer(in);
  if (in == "C") return "QC" + thread_text(chosen(general_));
  if (in == "fThreadInfo") {
    std::string out = "m";
    for (const ThreadId thread : target_.threads()) out += (out.size() > 1 ? "," : "") + thread_text(thread);
    return out.size() > 1 ? out : "l";
  }
  if (in == "sThreadInfo") return "l";
  if (take(in, "ThreadExtraInfo,")) {
    ThreadId thread = 0;
    if (!take_thread(in, thread)) return bad_packet();
    const std::string name = target_.thread_name(thread);
    return hex(name.empty() ? "?" : name);
  }
  if (in.starts_with("Attached")) return attached_later_ ? "1" : "0";
  if (in.starts_with("Symbol:")) return "OK";
  if (take(in, "Rcmd,")) {
    std::string text;
    if (!unhex(in, text)) return bad_packet();
    return hex(target_.monitor(text));
  }
  return "";
}

std::string Server::general_set(std::string_view in) {
  if (in == "StartNoAckMode") return "OK";
  if (take(in, "PassSignals:")) {
    u64 signals = 0, number = 0;
    while (take_hex(in, number)) {
      if (const int host = signal_from_gdb(static_cast<int>(number)); host > 0) signals |= u64{1} << (host - 1);
      if (!take(in, ";")) break;
    }
    target_.set_pass_signals(signals);
    return "OK";
  }
  if (take(in, "CatchSyscalls:")) {
    std::vector<u64> numbers;
    const bool on = take(in, "1");
    u64 number = 0;
    while (on && take(in, ";") && take_hex(in, number)) numbers.push_back(number);
    target_.catch_syscalls(on, numbers);
    return "OK";
  }
  return "";
}

}  // namespace kiln::debugger
