/* The tests of platform_ptrace.c on the kvm backend. */
#define PLATFORM platform_kvm
#include "tests/unit/platform_ptrace.c"
