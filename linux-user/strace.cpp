// -strace: one line a syscall, arguments printed by the letters of its table row.
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cctype>
#include <cstdio>
#include <cstring>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

void number(std::string& out, const char* format, u64 value) {
  char text[40];
  std::snprintf(text, sizeof text, format, value);
  out += text;
}

void quoted(std::string& out, const char* text, std::size_t size, bool cut) {
  out += '"';
  for (std::size_t i = 0; i < size; ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '"' || c == '\\') (out += '\\') += static_cast<char>(c);
    else if (c >= 0x20 && c < 0x7f) out += static_cast<char>(c);
    else number(out, "\\%lo", c);
  }
  out += cut ? "\"..." : "\"";
}

struct Name {
  u64 value;
  const char* name;
};

void flags(std::string& out, u64 value, std::initializer_list<Name> names, const char* zero) {
  bool first = true;
  auto add = [&](const std::string& text) {
    if (!first) out += '|';
    first = false;
    out += text;
  };
  for (const Name& n : names)
    if ((value & n.value) == n.value) {
      add(n.name);
      value &= ~n.value;
    }
  if (value) {
    char text[24];
    std::snprintf(text, sizeof text, "%#lx", value);
    add(text);
  }
  if (first) out += zero;
}

void argument(const Call& call, unsigned n, std::string& out) {
  const u64 v = call.a[n];
  switch (call.row.args[n]) {
    case 'd':
    case 'i':
    case 'C': number(out, "%ld", static_cast<u64>(static_cast<s64>(static_cast<s32>(v)))); break;
    case 'D':
      if (static_cast<s32>(v) == AT_FDCWD) out += "AT_FDCWD";
      else number(out, "%ld", static_cast<u64>(static_cast<s64>(static_cast<s32>(v))));
      break;
    case 'g': {
      const char* name = sigabbrev_np(static_cast<int>(v));
      if (name) (out += "SIG") += name;
      else number(out, "%lu", v);
      break;
    }
    case 'u': number(out, "%lu", v & 0xffffffff); break;
    case 'z': number(out, "%lu", v); break;
    case 'l': number(out, "%ld", v); break;
    case 'o': number(out, "0%lo", v & 0xffffffff); break;
    case 'M':
      flags(out, v, {{PROT_READ, "PROT_READ"}, {PROT_WRITE, "PROT_WRITE"}, {PROT_EXEC, "PROT_EXEC"}}, "PROT_NONE");
      break;
    case 'O': {
      const u64 host = static_cast<u32>(call.abi.open_flags_to_host(v));
      constexpr const char* kAccess[] = {"O_RDONLY", "O_WRONLY", "O_RDWR", "O_ACCMODE"};
      out += kAccess[host & O_ACCMODE];
      if (!(host & ~u64{O_ACCMODE})) break;
      out += '|';
      flags(out, host & ~u64{O_ACCMODE},
            {{O_TMPFILE, "O_TMPFILE"},
             {O_CREAT, "O_CREAT"},
             {O_EXCL, "O_EXCL"},
             {O_NOCTTY, "O_NOCTTY"},
             {O_TRUNC, "O_TRUNC"},
             {O_APPEND, "O_APPEND"},
             {O_NONBLOCK, "O_NONBLOCK"},
             {O_SYNC, "O_SYNC"},
             {O_DIRECTORY, "O_DIRECTORY"},
             {O_NOFOLLOW, "O_NOFOLLOW"},
             {O_CLOEXEC, "O_CLOEXEC"},
             {O_PATH, "O_PATH"},
             {0100000, "O_LARGEFILE"},
             {O_DIRECT, "O_DIRECT"}},
            "0");
      break;
    }
    case 's':
    case 'P':
    case 'L': {
      std::string text;
      if (v && call.memory.read_string(v, text, 4096) == 0) quoted(out, text.data(), text.size(), false);
      else if (v) number(out, "%#lx", v);
      else out += "NULL";
      break;
    }
    case 'b': {
      char text[32];
      const std::size_t size = std::min<u64>(call.a[n + 1], sizeof text);
      if (v && call.memory.read(v, text, size)) quoted(out, text, size, call.a[n + 1] > sizeof text);
      else number(out, "%#lx", v);
      break;
    }
    case '0': out += '0'; break;
    case 'Q': number(out, "%ld", v); break;
    case 'N':
    case 'T': {
      s64 t[2];
      s32 narrow[2];
      bool ok = v != 0;
      if (ok && call.row.args[n] == 'T' && call.abi.guest->pointer_bits == 32) {
        ok = call.memory.read(v, narrow);
        t[0] = narrow[0];
        t[1] = narrow[1];
      } else {
        ok = ok && call.memory.read(v, t);
      }
      if (ok) {
        number(out, "{%ld.", static_cast<u64>(t[0]));
        number(out, "%09ld}", static_cast<u64>(t[1]));
      } else {
        out += "NULL";
      }
      break;
    }
    default:
      if (v) number(out, "%#lx", v);
      else out += call.row.args[n] == 'x' ? "0" : "NULL";
      break;
  }
}

}  // namespace

void strace_enter(const Call& call, std::string& line) {
  line = std::to_string(call.thread.tid) + " " + call.row.name + "(";
  for (unsigned n = 0; call.row.args[n]; ++n) {
    if (n) line += ',';
    argument(call, n, line);
  }
  line += ')';
  // These do not come back, or only much later: say it now.
  for (const char* name : {"exit", "exit_group", "execve", "rt_sigreturn"})
    if (!std::strcmp(name, call.row.name)) {
      if (!call.process.options.strace) return;
      call.process.log.write(line + "\n");
      line.clear();
      return;
    }
}

void strace_leave(const Call& call, std::string& line, s64 result) {
  if (line.empty()) {
    if (result == kNoResult) return;
    line = std::to_string(call.thread.tid) + " " + call.row.name + " resumed";
  }
  strace_result(line, result);
  if (call.process.options.strace) call.process.log.write(line + "\n");
}

void strace_result(std::string& line, s64 result) {
  if (result == kRestartSyscall) line += " = ? (to be restarted)";
  else if (result < 0 && result >= -4095) {
    const char* name = strerrorname_np(static_cast<int>(-result));
    (line += " = -1 ") += name ? name : std::to_string(-result);
    ((line += " (") += strerrordesc_np(static_cast<int>(-result)) ? strerrordesc_np(static_cast<int>(-result)) : "?") += ")";
  } else {
    number(line, result > 0xffff || result < 0 ? " = %#lx" : " = %lu", static_cast<u64>(result));
  }
}

}  // namespace kiln::user
