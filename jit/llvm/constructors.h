// LLVM's static constructors (command-line options, registries) are kept out of the program's start: the build copies LLVM's
// archives with .init_array renamed (see CMakeLists.txt), and whoever needs LLVM first runs them.
#pragma once

namespace kiln::jit {

/// Runs LLVM's static constructors once; later calls return at once. Any thread.
void run_llvm_constructors();

}  // namespace kiln::jit
