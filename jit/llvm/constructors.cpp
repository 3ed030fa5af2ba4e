#include "jit/llvm/constructors.h"

#include <mutex>

// Made by the linker from the renamed sections.
using Constructor = void (*)();
extern "C" __attribute__((weak, visibility("hidden"))) Constructor __start_kiln_llvm_init[];
extern "C" __attribute__((weak, visibility("hidden"))) Constructor __stop_kiln_llvm_init[];

namespace kiln::jit {

void run_llvm_constructors() {
  static std::once_flag once;
  std::call_once(once, [] {
    for (Constructor* c = __start_kiln_llvm_init; c != __stop_kiln_llvm_init; ++c) (*c)();
  });
}

}  // namespace kiln::jit
