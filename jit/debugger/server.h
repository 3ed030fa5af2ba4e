// The gdb server: listens, serves one session after the other on the thread that calls run().
#pragma once
#include <string>
#include <csignal>
#include <string_view>

#include "jit/debugger/files.h"
#include "jit/debugger/packet.h"
#include "jit/debugger/registers.h"
#include "jit/debugger/target.h"
#include "ir/support/result.h"

namespace kiln::debugger {

/// "PORT" or "HOST:PORT" (a port alone: this machine only), or a path for a socket in the file system. Gives the listening socket.
Result<int> listen_for_gdb(const std::string& where);

/// What a session must know when another program takes it over (execve).
struct Session {
  int fd = -1;
  bool no_ack = false, multiprocess = false, swbreak = false, hwbreak = false, exec_events = false, no_resumed = false;
  /// "fd,bits" and back.
  std::string to_text() const;
  static bool from_text(const std::string& text, Session& out);
};

class Server {
 public:
  Server(Target& target, const RegisterSet& registers) : target_(target), registers_(registers), list_(registers.all()) {}

  /// Serves gdbs that connect to `listener` (-1: none) one after the other, at first the session at hand, if any. Returns when nobody
  /// can come any more.
  void run(int listener, const Session& inherited);
  /// For execve: a copy of the session's data; fd -1 if there is none.
  Session session() const { return session_; }

 private:
  void serve();
  bool handle(const std::string& packet);  // false: session over
  std::string general_query(std::string_view in);
  std::string general_set(std::string_view in);
  std::string transfer(std::string_view in);
  std::string supported(std::string_view in);
  std::string breakpoint(std::string_view in);
  std::string read_memory(std::string_view in, bool binary);
  std::string write_memory(std::string_view in, bool binary);
  std::string read_registers();
  std::string write_registers(std::string_view in);
  std::string read_register(std::string_view in);
  std::string write_register(std::string_view in);
  std::string register_bytes(const Register& r, const ir::CpuState* cpu);
  std::string thread_list_xml();

  // server_run.cpp
  std::string v_packet(std::string_view in);
  std::string resume_all(std::string_view in);  // vCont; empty: running now
  std::string old_resume(char command, std::string_view in);
  std::string stop_reply(const StopEvent& event);
  bool report();                                // the target's event; false: session over
  std::string thread_text(ThreadId thread) const;
  bool take_thread(std::string_view& in, ThreadId& thread) const;  // -1: all, 0: any
  ThreadId chosen(ThreadId wanted);

  Target& target_;
  const RegisterSet& registers_;
  std::vector<const Register*> list_;
  Session session_;
  PacketStream stream_{-1};
  bool running_ = false;
  bool attached_later_ = false;
  bool over_ = false;  // the process ended
  StopEvent last_;
  ThreadId general_ = 0, continue_ = 0;
  std::string threads_xml_;
  HostFiles* files_ = nullptr;
};

/// Signals in gdb's numbers (gdb/signals.def): 0 if gdb has no name for it.
int signal_to_gdb(int host);
int signal_from_gdb(int number);

}  // namespace kiln::debugger
