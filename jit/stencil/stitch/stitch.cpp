#include "jit/stencil/tier1.h"
