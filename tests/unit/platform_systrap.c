/* The tests of platform_ptrace.c on the systrap backend. */
#define PLATFORM platform_systrap
#include "tests/unit/platform_ptrace.c"
