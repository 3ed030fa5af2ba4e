#include "../x86_64/strings.c"
