// Keys and Landlock: the host's, with translated pointers. (seccomp is our own, see seccomp.cpp.)
#include <fcntl.h>
#include <linux/keyctl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "linux-user/syscalls/syscall.h"

namespace kiln::user {
namespace {

/// keyctl's commands from 0 on: letters of all arguments, the command first; null: not done here.
constexpr const char* kKeyCommands[] = {
    "xii",    // GET_KEYRING_ID
    "xs",     // JOIN_SESSION_KEYRING
    "xipz",   // UPDATE
    "xi",     // REVOKE
    "xiuu",   // CHOWN
    "xix",    // SETPERM
    "xiwz",   // DESCRIBE
    "xi",     // CLEAR
    "xii",    // LINK
    "xii",    // UNLINK
    "xissi",  // SEARCH
    "xiwz",   // READ
    "xipzi",  // INSTANTIATE
    "xiui",   // NEGATE
    "xi",     // SET_REQKEY_KEYRING
    "xiu",    // SET_TIMEOUT
    "xi",     // ASSUME_AUTHORITY
    "xiwz",   // GET_SECURITY
    "x",      // SESSION_TO_PARENT
    "xiuui",  // REJECT
    nullptr,  // INSTANTIATE_IOV
    "xi",     // INVALIDATE
    "xui",    // GET_PERSISTENT
    nullptr,  // DH_COMPUTE
    nullptr,  // PKEY_QUERY
    nullptr,  // PKEY_ENCRYPT
    nullptr,  // PKEY_DECRYPT
    nullptr,  // PKEY_SIGN
    nullptr,  // PKEY_VERIFY
    "xiss",   // RESTRICT_KEYRING
    "xiiix",  // MOVE
    "xwz",    // CAPABILITIES
    "xiix",   // WATCH_KEY
};

}  // namespace

s64 sys_keyctl(Call& c) {
  const u32 command = c.u(0);
  if (command >= std::size(kKeyCommands)) return -EOPNOTSUPP;
  if (command == KEYCTL_INSTANTIATE_IOV) {
    std::vector<struct iovec> iov;
    if (const int r = read_iovec(c, c.a[2], c.a[3], iov, false); r < 0) return r;
    return c.host(SYS_keyctl, c.a[0], c.a[1], iov.data(), iov.size(), c.a[4]);
  }
  if (!kKeyCommands[command]) {
    say_once(c.process, "unimplemented keyctl " + std::to_string(command));
    return -EOPNOTSUPP;
  }
  return pass_by_letters(c, SYS_keyctl, kKeyCommands[command]);
}

/// The guest's programs are run by Kiln: what the rules allow to be executed must include it.
s64 sys_landlock_restrict_self(Call& c) {
  const int kiln = open("/proc/self/exe", O_PATH | O_CLOEXEC);
  if (kiln >= 0) {
    landlock_path_beneath_attr rule{};
    rule.parent_fd = kiln;
    for (const u64 access : {u64{LANDLOCK_ACCESS_FS_EXECUTE}, u64{LANDLOCK_ACCESS_FS_READ_FILE}}) {
      rule.allowed_access = access;  // one by one: a right that the ruleset does not handle is refused, and not needed
      raw_syscall(SYS_landlock_add_rule, c.a[0], LANDLOCK_RULE_PATH_BENEATH, Call::to_u64(&rule), 0);
    }
    close(kiln);
  }
  return c.host(SYS_landlock_restrict_self, c.a[0], c.a[1]);
}

}  // namespace kiln::user
