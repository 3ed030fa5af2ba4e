// Small objects in the low 2 GiB, where generated code names them in four bytes (and the same way in every run).
#pragma once
#include <cstddef>

namespace kiln::jit {

/// Room for one object of `size` bytes: in the low 2 GiB while there is any, else anywhere. Any thread. Never null.
void* low_allocate(std::size_t size);
/// `size` as it was asked for.
void low_free(void* object, std::size_t size);

}  // namespace kiln::jit
