#include "tests/jit/llvm/harness.h"
