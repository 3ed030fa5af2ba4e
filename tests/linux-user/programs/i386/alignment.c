#include "../x86_64/alignment.c"
