// The same code in 32 bits.
#include "../x86_64/changed_code.c"
