// Resuming, and what is told when things stop.
#include <csignal>

#include "jit/debugger/server.h"

namespace kiln::debugger {
namespace {

struct SignalPair {
  int host, gdb;
};
constexpr SignalPair kSignals[] = {
    {SIGHUP, 1},   {SIGINT, 2},    {SIGQUIT, 3},  {SIGILL, 4},   {SIGTRAP, 5},  {SIGABRT, 6},    {SIGFPE, 8},   {SIGKILL, 9},
    {SIGBUS, 10},  {SIGSEGV, 11},  {SIGSYS, 12},  {SIGPIPE, 13}, {SIGALRM, 14}, {SIGTERM, 15},   {SIGURG, 16},  {SIGSTOP, 17},
    {SIGTSTP, 18}, {SIGCONT, 19},  {SIGCHLD, 20}, {SIGTTIN, 21}, {SIGTTOU, 22}, {SIGIO, 23},     {SIGXCPU, 24}, {SIGXFSZ, 25},
    {SIGPROF, 27}, {SIGVTALRM, 26}, {SIGWINCH, 28}, {SIGUSR1, 30}, {SIGUSR2, 31}, {SIGPWR, 32},  {32, 77},      {64, 78},
};
constexpr int kGdbUnknownSignal = 143, kFirstRealtime = 33, kGdbFirstRealtime = 45;  // SIG33 … SIG63 are in a row

}  // namespace

int signal_to_gdb(int host) {
  if (host == 0) return 0;
  for (const SignalPair& pair : kSignals)
    if (pair.host == host) return pair.gdb;
  if (host >= kFirstRealtime && host < 64) return host - kFirstRealtime + kGdbFirstRealtime;
  return kGdbUnknownSignal;
}

int signal_from_gdb(int number) {
  for (const SignalPair& pair : kSignals)
    if (pair.gdb == number) return pair.host;
  if (number >= kGdbFirstRealtime && number < kGdbFirstRealtime + 64 - kFirstRealtime) return number - kGdbFirstRealtime + kFirstRealtime;
  return 0;
}

std::string Server::stop_reply(const StopEvent& event) {
  const auto two = [](int n) { return hex(std::string_view(reinterpret_cast<const char*>(&n), 1)); };
  const std::string process = session_.multiprocess ? ";process:" + hex_number(static_cast<u64>(target_.process_id())) : "";
  const std::string thread = "thread:" + thread_text(event.thread) + ";";
  const std::string trap = "T05";
  switch (event.kind) {
    case StopEvent::Kind::Exited: return "W" + two(event.signal) + process;
    case StopEvent::Kind::Killed: return "X" + two(signal_to_gdb(event.signal)) + process;
    case StopEvent::Kind::NoneResumed: return session_.no_resumed ? "N" : "T00" + thread;
    case StopEvent::Kind::Breakpoint: return trap + (session_.swbreak ? "swbreak:;" : "") + thread;
    case StopEvent::Kind::Watchpoint:
      return trap + (event.watch == 'r' ? "rwatch:" : event.watch == 'a' ? "awatch:" : "watch:") + hex_number(event.address) + ";" + thread;
    case StopEvent::Kind::Executed: return trap + (session_.exec_events ? "exec:" + hex(event.text) + ";" : "") + thread;
    case StopEvent::Kind::SyscallEntry:
      return trap + "syscall_entry:" + hex_number(static_cast<u64>(event.signal)) + ";" + thread;
    case StopEvent::Kind::SyscallReturn:
      return trap + "syscall_return:" + hex_number(static_cast<u64>(event.signal)) + ";" + thread;
    case StopEvent::Kind::Signal: break;
  }
  return "T" + two(signal_to_gdb(event.signal)) + thread;
}

bool Server::report() {
  const std::optional<StopEvent> event = target_.take_event();
  if (!event) return true;
  last_ = *event;
  running_ = false;
  general_ = continue_ = 0;
  const bool sent = stream_.send(stop_reply(last_));
  if (last_.kind == StopEvent::Kind::Exited || last_.kind == StopEvent::Kind::Killed) {
    over_ = true;
    target_.event_told();
    return false;
  }
  return sent;
}

std::string Server::v_packet(std::string_view in) {
  if (in == "Cont?") return "vCont;c;C;s;S;t;r";
  if (take(in, "File:")) return files_->command(in);
  if (take(in, "Kill")) {
    over_ = true;
    return "OK";
  }
  return "";
}

/// vCont;ACTION[:THREAD]…: the leftmost action that matches a thread counts.
std::string Server::resume_all(std::string_view in) {
  const std::vector<ThreadId> threads = target_.threads();
  std::vector<ThreadResume> chosen_actions;
  ResumeAction others;
  others.kind = ResumeAction::Kind::Stay;
  bool others_set = false;
  const auto decided = [&](ThreadId thread) {
    for (const ThreadResume& r : chosen_actions)
      if (r.thread == thread) return true;
    return false;
  };
  while (take(in, ";")) {
    if (in.empty()) return "E22";
    const char what = in[0];
    in.remove_prefix(1);
    ResumeAction action;
    u64 signal = 0;
    switch (what) {
      case 'C':
      case 'S':
        if (!take_hex(in, signal)) return "E22";
        action.signal = signal_from_gdb(static_cast<int>(signal));
        [[fallthrough]];
      case 'c':
      case 's': action.kind = what == 's' || what == 'S' ? ResumeAction::Kind::Step : ResumeAction::Kind::Continue; break;
      case 't': action.kind = ResumeAction::Kind::Stay; break;
      case 'r':
        action.kind = ResumeAction::Kind::Step;
        if (!take_hex(in, action.range_start) || !take(in, ",") || !take_hex(in, action.range_end)) return "E22";
        break;
      default: return "E22";
    }
    ThreadId thread = -1;
    if (take(in, ":") && !take_thread(in, thread)) return "E22";
    if (thread == 0) thread = chosen(continue_);
    if (thread > 0) {
      if (!decided(thread)) chosen_actions.push_back({thread, action});
      continue;
    }
    for (const ThreadId each : threads)
      if (!decided(each)) chosen_actions.push_back({each, action});
    if (!others_set) {
      others = action;
      others.signal = 0;
      if (others.kind == ResumeAction::Kind::Step) others.kind = ResumeAction::Kind::Continue;
      others_set = true;
    }
  }
  running_ = true;
  target_.resume(chosen_actions, others);
  return {};
}

/// c, C, s, S as before vCont: Hc's thread does it, the others continue.
std::string Server::old_resume(char command, std::string_view in) {
  ResumeAction action, others;
  u64 signal = 0, address = 0;
  if (command == 'C' || command == 'S') {
    if (!take_hex(in, signal)) return "E22";
    action.signal = signal_from_gdb(static_cast<int>(signal));
    take(in, ";");
  }
  if (command == 's' || command == 'S') action.kind = ResumeAction::Kind::Step;
  const ThreadId thread = chosen(continue_);
  if (take_hex(in, address)) {
    if (ir::CpuState* cpu = target_.cpu(thread, true)) cpu->pc = address;
  }
  running_ = true;
  target_.resume({{thread, action}}, others);
  return {};
}

}  // namespace kiln::debugger
