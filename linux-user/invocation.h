// How this Kiln was started: by its user, by another Kiln on behalf of a guest's execve(), or by the kernel's binfmt_misc.
// And how it starts the next one: an executed program may live in a chroot that holds neither Kiln nor /proc.
#pragma once
#include <string>
#include <vector>

#include "ir/support/bits.h"

namespace kiln::user {

struct Options;

/// What binfmt_misc left in the auxiliary vector (fs/binfmt_misc.c; flags in Documentation/admin-guide/binfmt-misc.rst).
struct Invocation {
  bool binfmt = false;      // the kernel started us for a guest program: no options on the command line
  bool argv0_kept = false;  // flag P: the guest's argv[0] follows the program's name
  bool secure = false;      // set-user-id and the like (flag C): the environment's user is not to be trusted
  int program_fd = -1;      // flags O and C: the program, opened by the kernel
  std::string execfn;       // the name given to execve()
};

/// Of this process.
Invocation read_invocation();

/// Fills program, args, argv0 and execfn from a command line that binfmt_misc made (it has a program at least).
void binfmt_arguments(const Invocation& invocation, int argc, char** argv, Options& options);

/// Where the guest program's code, arguments and environment lie, as host addresses.
struct ShownProgram {
  u64 code_start, code_end, arg_start, arg_end, env_start, env_end;
  std::vector<u8> auxv;  // the guest's
};
/// Makes the kernel show them as this process's: /proc/PID/cmdline and environ (ps, pgrep -f, programs that write a title over
/// their arguments), auxv (a debugger in another Kiln), and stat's start of code, by which program_of() of another Kiln finds the program. Without effect where
/// the kernel cannot do it.
void show_program(const ShownProgram& program);

/// Our own descriptors. They stand high, and for the guest they are not there: it cannot close them (as daemons close all they
/// know nothing of) nor put others in their place.
struct OwnDescriptors {
  int executable = -1;  // -1: could not be found (a chroot without /proc, entered through binfmt_misc)
  int log = -1;

  bool has(int fd) const { return fd >= 0 && (fd == executable || fd == log); }
  /// close_range(2), leaving ours open.
  s64 close_range(unsigned first, unsigned last, unsigned flags) const;
};

/// Moves `fd` out of the guest's way, close-on-exec; gives its number then.
int move_high(int fd);

/// Opens our own executable: an inherited descriptor, /proc/self/exe, or the name that we were called by. -1: none of them.
int open_own_executable(const Invocation& invocation, int inherited);

}  // namespace kiln::user
