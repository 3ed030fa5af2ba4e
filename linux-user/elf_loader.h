// ELF loading: the program, its interpreter, the first stack with arguments, environment and auxv.
#pragma once
#include <string>
#include <vector>

#include "ir/support/result.h"
#include "linux-user/process.h"

namespace kiln::user {

struct ElfIdentity {
  u16 machine = 0;
  u8 elf_class = 0, data = 0;
};
/// What an ELF header says; an error if the file is not one (message without the file's name). `fd`: the file, if it is open
/// already (binfmt_misc opens programs that their user may not read).
Result<ElfIdentity> identify_elf(const std::string& host_path, int fd = -1);
/// "x86-64", "RISC-V 64" …
std::string machine_name(const ElfIdentity& id);

/// Maps the program (and its interpreter, looked up under the sysroot) and fills process.image but for the stack's fields.
Result<void> load_program(Process& process, const std::string& host_path, int fd = -1);

/// Makes the stack. Afterwards image.start and image.stack_start are where to begin.
Result<void> build_stack(Process& process, const std::string& execfn, const std::vector<std::string>& args,
                         const std::vector<std::string>& env);

}  // namespace kiln::user
